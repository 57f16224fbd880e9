/* SPDX-License-Identifier: MIT */
/* Servers that live as long as a run, and the streams to them (peers.h). */
#include "peer_kinds.h"

#include "larder_errors.h"
#include "ticks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define BUFFER_BYTES ((size_t)2 << 20)
#define START_NS UINT64_C(5000000000)

const char *const peer_names[PEER_COUNT] = {
#define X(name, packages) #name,
    PEERS(X)
#undef X
};
const char *const peer_packages[PEER_COUNT] = {
#define X(name, packages) packages,
    PEERS(X)
#undef X
};
static const struct peer_ways *const ways[PEER_COUNT] = {
#define X(name, packages) &peer_##name,
    PEERS(X)
#undef X
};

/* ---- programs --------------------------------------------------------------------------------------------------- */

bool peer_has_program(const char *name) {
    const char *path = getenv("PATH");
    char places[4096], file[4200], *rest = places;
    snprintf(places, sizeof places, "%s:/usr/sbin", path != NULL ? path : "");
    for (const char *place; (place = strsep(&rest, ":")) != NULL;) {
        snprintf(file, sizeof file, "%s/%s", place, name);
        if (access(file, X_OK) == 0)
            return true;
    }
    return false;
}

static void become(char *const *words, pid_t parent, const int pipes[2]) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(pipes != NULL ? pipes[0] : null, STDIN_FILENO);
    dup2(pipes != NULL ? pipes[1] : null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    execvp(words[0], words);
    _exit(127);
}

int peer_spawn(struct peer *peer, char *const *words, bool pipes, char *why) {
    int in[2] = {-1, -1}, out[2] = {-1, -1}, theirs[2];
    pid_t self = getpid();
    if (pipes && (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)) {
        snprintf(why, PEER_WHY_BYTES, "no pipe: %s", strerror(errno));
        return LARDER_ESYSTEM;
    }
    theirs[0] = in[0];
    theirs[1] = out[1];
    fflush(NULL);
    peer->pid = fork();
    if (peer->pid == 0)
        become(words, self, pipes ? theirs : NULL);
    if (peer->pid < 0) {
        snprintf(why, PEER_WHY_BYTES, "cannot start %s: %s", words[0], strerror(errno));
        peer->pid = 0;
        return LARDER_ESYSTEM;
    }
    if (pipes) {
        close(in[0]);
        close(out[1]);
        peer->to = fdopen(in[1], "w");
        peer->from = fdopen(out[0], "r");
    }
    return 0;
}

int peer_connect(struct peer *peer, const char *socket_path, char *why) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint64_t until_ns = ticks_clock_ns() + START_NS;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
    peer->buffer = malloc(BUFFER_BYTES);
    peer->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    while (peer->buffer != NULL && peer->fd >= 0) {
        if (connect(peer->fd, (const struct sockaddr *)&address, sizeof address) == 0)
            return 0;
        int status, error = errno;
        bool ended = waitpid(peer->pid, &status, WNOHANG) == peer->pid;
        if (ended)
            peer->pid = 0;
        if (ended || ticks_clock_ns() > until_ns) {
            snprintf(why, PEER_WHY_BYTES, "%s", ended ? "it ended at once" : strerror(error));
            return LARDER_ESYSTEM;
        }
        usleep(2000);
    }
    snprintf(why, PEER_WHY_BYTES, "no memory, or no socket");
    return LARDER_ESYSTEM;
}

/* ---- streams ---------------------------------------------------------------------------------------------------- */

bool peer_send(struct peer *peer, const void *bytes, size_t len) {
    const char *at = bytes;
    while (len > 0) {
        ssize_t sent = send(peer->fd, at, len, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            return false;
        if (sent > 0) {
            at += sent;
            len -= (size_t)sent;
        }
    }
    return true;
}

/* More bytes behind those that are there. */
static bool receive(struct peer *peer) {
    if (peer->used == peer->have)
        peer->used = peer->have = 0;
    if (peer->have == BUFFER_BYTES) {
        memmove(peer->buffer, peer->buffer + peer->used, peer->have - peer->used);
        peer->have -= peer->used;
        peer->used = 0;
    }
    if (peer->have == BUFFER_BYTES)
        return false;
    ssize_t got;
    do
        got = recv(peer->fd, peer->buffer + peer->have, BUFFER_BYTES - peer->have, 0);
    while (got < 0 && errno == EINTR);
    if (got <= 0)
        return false;
    peer->have += (size_t)got;
    return true;
}

char *peer_line(struct peer *peer) {
    for (size_t looked = 0;;) {
        char *start = peer->buffer + peer->used;
        char *end = memchr(start + looked, '\n', peer->have - peer->used - looked);
        if (end != NULL) {
            peer->used = (size_t)(end + 1 - peer->buffer);
            *end = '\0';
            if (end > start && end[-1] == '\r')
                end[-1] = '\0';
            return start;
        }
        looked = peer->have - peer->used;
        if (!receive(peer))
            return NULL;
    }
}

bool peer_take(struct peer *peer, void *out, size_t len) {
    while (peer->have - peer->used < len + 2u)
        if (!receive(peer))
            return false;
    if (out != NULL)
        memcpy(out, peer->buffer + peer->used, len);
    peer->used += len + 2u;
    return true;
}

/* ---- the life of a peer ----------------------------------------------------------------------------------------- */

static void remove_folder(const char *folder) {
    DIR *list = opendir(folder);
    if (list == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(list)) != NULL;)
        unlinkat(dirfd(list), entry->d_name, 0);
    closedir(list);
    rmdir(folder);
}

struct peer *peer_create(const struct peer_ways *its_ways, char *why) {
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL) {
        snprintf(why, PEER_WHY_BYTES, "no memory");
        return NULL;
    }
    *peer = (struct peer){.ways = its_ways, .fd = -1};
    snprintf(peer->folder, sizeof peer->folder, "/dev/shm/larder-peer.%ld.XXXXXX", (long)getpid());
    if (mkdtemp(peer->folder) != NULL)
        return peer;
    snprintf(why, PEER_WHY_BYTES, "no folder in /dev/shm: %s", strerror(errno));
    free(peer);
    return NULL;
}

int peer_start(enum peer_kind kind, uint64_t bytes, struct peer **out, char *why) {
    why[0] = '\0';
    *out = NULL;
    struct peer *peer = peer_create(ways[kind], why);
    if (peer == NULL)
        return LARDER_ESYSTEM;
    peer->bytes = bytes;
    int error = peer->ways->start(peer, why);
    if (error == 0)
        *out = peer;
    else
        peer_stop(peer);
    return error;
}

void peer_stop(struct peer *peer) {
    if (peer == NULL)
        return;
    if (peer->ways != NULL && peer->ways->stop != NULL)
        peer->ways->stop(peer);
    if (peer->to != NULL)
        fclose(peer->to);
    if (peer->from != NULL)
        fclose(peer->from);
    if (peer->fd >= 0)
        close(peer->fd);
    if (peer->pid > 0) {
        kill(peer->pid, SIGKILL);
        while (waitpid(peer->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    remove_folder(peer->folder);
    free(peer->buffer);
    free(peer);
}

int64_t peer_work(struct peer *peer, const struct peer_request *request, uint64_t *ns) {
    return peer->ways->work(peer, request, ns);
}
