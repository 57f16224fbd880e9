/* SPDX-License-Identifier: MIT */
/*
 * How does a process get a segment that has no name?
 *
 * A segment in a memfd is known to whoever holds a descriptor of it. Its keeper (keeper.c, in larderd) listens on a
 * Unix socket, and to each who connects it sends one message and hangs up; nobody sends it anything, so nobody can make
 * it wait, and there is nothing to parse.
 *
 *      client                                   keeper
 *      connect                    ----->        who is that? (SO_PEERCRED, SO_PEERGROUPS)
 *      magic, protocol, result, text  <-----    what may he have?
 *      + [segment, liveness file]               may write: both, open for writing
 *      + [segment]                              may read: a description that was opened for reading
 *      + nothing                                neither: EPERMISSION
 *
 * Who may what is what owner, group and mode of the memfd say, as they would say for a file. The kernel says the same
 * once more: a reader who opens /proc/self/fd/N for writing meets the inode's mode.
 *
 * Each description is opened for the one who gets it. The liveness file's must be: OFD locks belong to a description,
 * and two who shared one would share their locks.
 *
 * The client trusts the keeper as it would trust a file's owner: it must run as oneself, root or the configured owner.
 * What comes is judged as a file is, and must be sealed.
 */
#include "handover.h"

#include "names.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define HANDOVER_MAGIC UINT64_C(0x0a444e4148444cff) /* "\xffLDHAND\n" */
#define HANDOVER_PROTOCOL 1u
#define ANSWER_NS UINT64_C(5000000000)
#define NS_PER_MS UINT64_C(1000000)
#define MAX_GROUPS 65536u

/* Newer than some C libraries' headers. */
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

struct message {
    uint64_t magic;
    uint32_t protocol;
    int32_t result; /* 0 or an error */
    char text[240]; /* of the error, NUL-terminated */
};
static_assert(sizeof(struct message) == 256, "the same for every build");

int lr_handover_address(const char *path, struct sockaddr_un *out, char *why) {
    const char *socket_path = lr_names_socket(path);
    size_t len = strlen(socket_path);
    memset(out, 0, sizeof *out);
    out->sun_family = AF_UNIX;
    if (len >= sizeof out->sun_path)
        return lr_error_explain(LARDER_EINVALID, why, "the socket's path has %zu characters, but may have %zu: %.200s",
                                len, sizeof out->sun_path - 1, socket_path);
    memcpy(out->sun_path, socket_path, len);
    return 0;
}

/* ---- the client ------------------------------------------------------------------------------------------------- */

static int connect_error(int error, const char *path, char *why) {
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ECONNREFUSED:
        return lr_error_explain(LARDER_ENO_SEGMENT, why, "no larderd serves %.300s: start `larderd --memfd %.100s`",
                                path, lr_names_socket(path));
    case EACCES:
    case EPERM:
        return lr_error_explain(LARDER_EPERMISSION, why, "%.300s may not be used by user %u, group %u: %s", path,
                                (unsigned)geteuid(), (unsigned)getegid(), strerror(error));
    case EPROTOTYPE:
    case ENOTSOCK:
        return lr_error_explain(LARDER_EFOREIGN, why, "%.300s is not the socket of a larderd", path);
    default:
        return lr_error_explain(LARDER_ESYSTEM, why, "%.300s cannot be connected to: %s", path, strerror(error));
    }
}

static int no_answer(const char *path, char *why) {
    return lr_error_explain(LARDER_EBUSY, why, "the larderd behind %.300s does not answer: it may be stopped", path);
}

/* Without blocking: a full queue is looked at again each millisecond. */
static int connect_until(const char *path, uint64_t deadline_ns, int *fd, char *why) {
    struct sockaddr_un address;
    int error = lr_handover_address(path, &address, why);
    if (error != 0)
        return error;
    *fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0)
        return lr_error_explain(LARDER_ESYSTEM, why, "no socket can be made: %s", strerror(errno));
    while (connect(*fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return connect_error(errno, path, why);
        if (lr_monotonic_ns() >= deadline_ns)
            return no_answer(path, why);
        nanosleep(&(struct timespec){.tv_nsec = (long)NS_PER_MS}, NULL);
    }
    return 0;
}

static int judge_keeper(int fd, uid_t owner, const char *path, char *why) {
    struct ucred keeper;
    socklen_t len = sizeof keeper;
    uid_t me = geteuid();
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &keeper, &len) != 0)
        return lr_error_explain(LARDER_ESYSTEM, why, "%.300s does not say who listens: %s", path, strerror(errno));
    if (me == 0 || keeper.uid == me || keeper.uid == 0 || (owner != (uid_t)-1 && keeper.uid == owner))
        return 0;
    return lr_error_explain(LARDER_EPERMISSION, why,
                            "%.300s is served by user %u, but only user %u (us), root or the configured owner are "
                            "trusted: name that user as the owner if it is meant",
                            path, (unsigned)keeper.uid, (unsigned)me);
}

static bool wait_readable(int fd, uint64_t deadline_ns) {
    for (;;) {
        uint64_t now_ns = lr_monotonic_ns();
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        int timeout_ms = now_ns >= deadline_ns ? 0 : (int)((deadline_ns - now_ns) / NS_PER_MS) + 1;
        int count = poll(&ready, 1, timeout_ms);
        if (count > 0)
            return true;
        if ((count == 0 || errno != EINTR) && now_ns >= deadline_ns)
            return false;
    }
}

/* Whatever descriptors came are in fds, -1 where none; more than two are closed. */
static ssize_t receive(int fd, struct message *message, int fds[2]) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(16 * sizeof(int))];
    } control;
    struct iovec part = {message, sizeof *message};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got;
    do
        got = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    fds[0] = fds[1] = -1;
    if (got < 0)
        return got;
    /* Rights come in one piece, before anything else. */
    const struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    if (rights == NULL || rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS)
        return got;
    size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
        int one;
        memcpy(&one, CMSG_DATA(rights) + i * sizeof one, sizeof one);
        if (i < 2)
            fds[i] = one;
        else
            close(one);
    }
    return got;
}

static int judge_message(struct message *message, ssize_t got, const int fds[2], const char *path, char *why) {
    if (got != (ssize_t)sizeof *message || message->magic != HANDOVER_MAGIC)
        return lr_error_explain(LARDER_EFOREIGN, why, "what listens at %.300s is no larderd", path);
    if (message->protocol != HANDOVER_PROTOCOL)
        return lr_error_explain(LARDER_EVERSION, why,
                                "the larderd behind %.300s hands over by protocol %u, this program "
                                "speaks %u: use the same release for both",
                                path, message->protocol, HANDOVER_PROTOCOL);
    message->text[sizeof message->text - 1] = 0;
    for (char *at = message->text; *at != 0; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    if (message->result != 0)
        return lr_error_explain(message->result < 0 ? message->result : LARDER_EFOREIGN, why, "%.200s: %.240s", path,
                                message->text);
    if (fds[0] < 0) /* too many files open here, and the kernel dropped them */
        return lr_error_explain(LARDER_ESYSTEM, why, "%.300s: no descriptor arrived; too many open files (ulimit -n)?",
                                path);
    return 0;
}

int lr_handover_take(const char *path, uid_t owner, struct lr_handed *handed, char *why) {
    uint64_t deadline_ns = lr_monotonic_ns() + ANSWER_NS;
    struct message message = {0};
    int connection = -1, fds[2] = {-1, -1};
    int error = connect_until(path, deadline_ns, &connection, why);
    if (error == 0)
        error = judge_keeper(connection, owner, path, why);
    if (error == 0 && !wait_readable(connection, deadline_ns))
        error = no_answer(path, why);
    if (error == 0)
        error = judge_message(&message, receive(connection, &message, fds), fds, path, why);
    if (connection >= 0)
        close(connection);
    for (unsigned i = 0; error != 0 && i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    *handed = (struct lr_handed){error == 0 ? fds[0] : -1, error == 0 ? fds[1] : -1};
    return error;
}

/* ---- the keeper ------------------------------------------------------------------------------------------------- */

static bool in_group(int connection, gid_t primary, gid_t group) {
    if (primary == group)
        return true;
    socklen_t len = 0;
    if (getsockopt(connection, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) == 0 || errno != ERANGE)
        return false; /* none, or a kernel that does not tell */
    gid_t *groups = len <= MAX_GROUPS * sizeof *groups ? malloc(len) : NULL;
    bool found = false;
    if (groups != NULL && getsockopt(connection, SOL_SOCKET, SO_PEERGROUPS, groups, &len) == 0)
        for (size_t i = 0; i < len / sizeof *groups; i++)
            found |= groups[i] == group;
    free(groups);
    return found;
}

/* The bits 4 (read) and 2 (write) that this file's mode gives to whoever is at the other end. */
static mode_t rights_of(int connection, const struct stat *file) {
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
        return 0;
    if (peer.uid == 0)
        return 6;
    if (peer.uid == file->st_uid)
        return (file->st_mode >> 6) & 6;
    if (in_group(connection, peer.gid, file->st_gid))
        return (file->st_mode >> 3) & 6;
    return file->st_mode & 6;
}

static int open_for_peer(int fd, int flags) {
    char from[64];
    (void)snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    return open(from, flags | O_CLOEXEC);
}

static void send_message(int connection, const struct message *message, const int *fds, unsigned count) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control;
    memset(&control, 0, sizeof control);
    struct message copy = *message;
    struct iovec part = {&copy, sizeof copy};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        header.msg_control = &control;
        header.msg_controllen = (socklen_t)CMSG_SPACE(count * sizeof *fds); /* as musl has it */
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = (socklen_t)CMSG_LEN(count * sizeof *fds);
        memcpy(CMSG_DATA(rights), fds, count * sizeof *fds);
    }
    /* A new connection has room for one message. Who has gone meanwhile does not get it. */
    (void)sendmsg(connection, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void lr_handover_give(int connection, int segment_fd, int live_fd) {
    struct message message = {.magic = HANDOVER_MAGIC, .protocol = HANDOVER_PROTOCOL};
    struct stat file;
    int fds[2] = {-1, -1};
    unsigned count = 0;
    mode_t rights = fstat(segment_fd, &file) == 0 ? rights_of(connection, &file) : 0;
    if ((rights & 4) == 0) {
        message.result = LARDER_EPERMISSION;
        (void)snprintf(message.text, sizeof message.text, "its mode is %04o, its user %u, its group %u: not for you",
                       (unsigned)file.st_mode & 07777u, (unsigned)file.st_uid, (unsigned)file.st_gid);
    } else {
        count = (rights & 2) != 0 ? 2 : 1;
        fds[0] = open_for_peer(segment_fd, count == 2 ? O_RDWR : O_RDONLY);
        fds[1] = count == 2 ? open_for_peer(live_fd, O_RDWR) : -1;
        if (fds[0] < 0 || (count == 2 && fds[1] < 0)) {
            message.result = LARDER_ESYSTEM;
            (void)snprintf(message.text, sizeof message.text, "larderd has no descriptor left: %s", strerror(errno));
            count = 0;
        }
    }
    send_message(connection, &message, fds, count);
    for (unsigned i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}
