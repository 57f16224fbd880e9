/* SPDX-License-Identifier: MIT */
/*
 * What stands under a segment's two names, and who may change that?
 *
 * `path` is the segment, `path.live` its liveness file, whose locks say who lives. A wrong pair is fatal: with another
 * generation's liveness file every living lock holder looks dead and is robbed. So:
 *
 *  1. A file is built without a name (O_TMPFILE), completely, and then linked. What has a name is whole.
 *  2. The liveness file tells whose it is: incarnation and inode of the segment, and its own inode (segment.h). An
 *     attacher who finds a pair that does not belong together attaches to neither.
 *  3. THE GUARD. The names change only in the hands of the process that holds the OFD lock on the guard byte of the
 *     liveness file *that has the name at that moment*. It is taken, and then the name is looked up again: if it leads
 *     to another inode by now, the lock is worth nothing and the game begins anew. Nobody can remove the name from
 *     under a holder, for removing it needs this very lock, and link() never replaces. A creator links a liveness file
 *     whose guard it has locked before, so there is no instant at which its name is up and unguarded.
 *  4. Order: liveness file first, segment last; at destroy the segment first, the liveness file last. So a segment's
 *     name never stands without a liveness file beside it, and a liveness file that stands alone and unguarded is what
 *     a dead creator or destroyer left: it means nothing, and the next creator replaces it.
 *
 *      creator                                      destroyer
 *      guard; segment there? -> EEXISTS             guard; segment still the one that we looked at?
 *      unlink what a dead one left                  state = RETIRED, ring the bell
 *      link path.live (ours, guarded)               unlink path
 *      allocate, lay out, join                      unlink path.live
 *      link path            COMMIT POINT            let the guard go
 *      let the guard go
 *
 *   killed here                                     the next one finds
 *   creator before it links path.live               nothing
 *   creator before it links path                    path.live alone: attach says NO_SEGMENT, create replaces it
 *   creator afterwards                              a whole segment, with one dead participant
 *   destroyer before it unlinks path                a RETIRED segment: attach says so, create and destroy finish the
 * job destroyer before it unlinks path.live           path.live alone, as above
 *
 * Why two generations cannot mix: the segment's name is given and taken under the guard of the liveness file that has
 * the name, and both files of a creator carry one random incarnation. An attacher opens the segment first and the
 * liveness file second. Whatever happened in between shows as a pair that does not match, and it starts over.
 *
 * Two creators at once: one links, the other waits for the guard, a bounded time, and then finds the segment. They
 * wait *before* they allocate: a hundred workers that start together must not each take a gigabyte first. A creator
 * that was stopped in between makes the others give up with BUSY; nobody takes its names from it.
 *
 * Judging a file: nothing is created, followed or waited for (O_NOFOLLOW, O_NONBLOCK), and it must be a regular file
 * with one name, owned by us, root or the configured user, not writable by others. Root accepts any owner. The
 * constants are read into private memory and verified there (geometry.c) before anything is mapped.
 */
#include "names.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAME_PREFIX "/dev/shm/larder."
#define KEPT_PREFIX "unix:"
#define NS_PER_S UINT64_C(1000000000)
#define GUARD_WAIT_NS (5 * NS_PER_S)         /* for another creator or destroyer ... */
#define GUARD_WAIT_NS_PER_GIB (4 * NS_PER_S) /* ... who may have to allocate */

/* ---- paths ------------------------------------------------------------------------------------------------------ */

static bool ends_with_live(const char *text) {
    size_t len = strlen(text), suffix = sizeof LR_LIVE_SUFFIX - 1;
    return len >= suffix && strcmp(text + len - suffix, LR_LIVE_SUFFIX) == 0;
}

static bool is_name_char(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
}

static int check_name(const char *name, char *why) {
    size_t len = strlen(name), clean = 0;
    while (clean < len && is_name_char(name[clean]))
        clean++;
    if (len == 0 || len > SM_NAME_BYTES || clean < len || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return lr_error_explain(LARDER_EINVALID, why,
                                "\"%.100s\" is no segment name: it must be 1 to %u characters of [A-Za-z0-9._-]", name,
                                SM_NAME_BYTES);
    if (ends_with_live(name))
        return lr_error_explain(LARDER_EINVALID, why,
                                "\"%.100s\" is no segment name: names that end in %s belong to liveness files", name,
                                LR_LIVE_SUFFIX);
    return 0;
}

bool lr_names_kept(const char *path) {
    return strncmp(path, KEPT_PREFIX, sizeof KEPT_PREFIX - 1) == 0;
}

const char *lr_names_socket(const char *path) {
    return path + sizeof KEPT_PREFIX - 1;
}

/* `prefix` is "" or KEPT_PREFIX. Returns the length that it has or would have, -1: the current folder has no path. */
static int make_absolute(const char *prefix, const char *file, char path[LR_PATH_BYTES]) {
    char folder[LR_PATH_BYTES];
    if (file[0] == '/')
        return snprintf(path, LR_PATH_BYTES, "%s%s", prefix, file);
    if (getcwd(folder, sizeof folder) == NULL)
        return -1;
    return snprintf(path, LR_PATH_BYTES, "%s%s/%s", prefix, folder, file);
}

int lr_names_resolve(const struct lr_options *options, char path[LR_PATH_BYTES], char *why) {
    if ((options->name == NULL) == (options->path == NULL))
        return lr_error_explain(LARDER_EINVALID, why, "give a name or a path, %s",
                                options->name == NULL ? "not neither" : "not both");
    int len;
    if (options->name != NULL) {
        int error = check_name(options->name, why);
        if (error != 0)
            return error;
        len = snprintf(path, LR_PATH_BYTES, "%s%s", NAME_PREFIX, options->name);
    } else if (lr_names_kept(options->path)) {
        len = make_absolute(KEPT_PREFIX, lr_names_socket(options->path), path);
    } else {
        len = make_absolute("", options->path, path);
    }
    if (len < 0)
        return lr_error_explain(LARDER_ESYSTEM, why, "the current folder has no path: %s", strerror(errno));
    const char *last = len < LR_PATH_BYTES ? strrchr(path, '/') + 1 : "";
    if (len + (int)sizeof LR_LIVE_SUFFIX > LR_PATH_BYTES || strlen(last) + sizeof LR_LIVE_SUFFIX > NAME_MAX + 1)
        return lr_error_explain(LARDER_EINVALID, why, "the path has %d characters, which is too long for %s behind it",
                                len, LR_LIVE_SUFFIX);
    if (last[0] == 0 || strcmp(last, ".") == 0 || strcmp(last, "..") == 0 || ends_with_live(last))
        return lr_error_explain(LARDER_EINVALID, why, "\"%.300s\" does not end in a file name for a segment", path);
    return 0;
}

void lr_names_live(const char *path, char out[LR_PATH_BYTES + sizeof LR_LIVE_SUFFIX]) {
    size_t len = strlen(path);
    memcpy(out, path, len);
    memcpy(out + len, LR_LIVE_SUFFIX, sizeof LR_LIVE_SUFFIX);
}

void lr_names_describe(const char *path, char name[SM_NAME_BYTES + 1]) {
    const char *last = strrchr(path, '/') + 1;
    static const char prefix[] = "larder.";
    if (strncmp(last, prefix, sizeof prefix - 1) == 0 && last[sizeof prefix - 1] != 0)
        last += sizeof prefix - 1;
    memset(name, 0, SM_NAME_BYTES + 1);
    for (size_t i = 0; i < SM_NAME_BYTES && last[i] != 0; i++)
        name[i] = is_name_char(last[i]) ? last[i] : '_';
}

/* ---- judging files ---------------------------------------------------------------------------------------------- */

static int open_error(int error, const char *path, char *why) {
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return lr_error_explain(LARDER_ENO_SEGMENT, why, "there is no segment at %.300s", path);
    case EACCES:
    case EPERM:
    case EROFS:
        return lr_error_explain(LARDER_EPERMISSION, why,
                                "%.300s may not be opened by user %u, group %u (%s): check its owner, group and mode",
                                path, (unsigned)geteuid(), (unsigned)getegid(), strerror(error));
    case ELOOP:
        return lr_error_explain(LARDER_EFOREIGN, why,
                                "%.300s is a symbolic link, not a segment: give the path that it points to", path);
    case EISDIR:
        return lr_error_explain(LARDER_EFOREIGN, why, "%.300s is a directory, not a segment", path);
    case ENXIO:
        return lr_error_explain(LARDER_EFOREIGN, why, "%.300s is a socket or device, not a segment", path);
    default:
        return lr_error_explain(LARDER_ESYSTEM, why, "%.300s cannot be opened: %s", path, strerror(error));
    }
}

int lr_names_open(const char *path, bool read_only, int *fd, char *why) {
    *fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    return *fd < 0 ? open_error(errno, path, why) : 0;
}

const char *lr_names_kind(mode_t mode) {
    return S_ISDIR(mode)    ? "directory"
           : S_ISFIFO(mode) ? "named pipe"
           : S_ISSOCK(mode) ? "socket"
           : S_ISLNK(mode)  ? "symbolic link"
                            : "device";
}

int lr_names_judge(const struct stat *file, uid_t owner, const char *path, char *why) {
    if (!S_ISREG(file->st_mode))
        return lr_error_explain(LARDER_EFOREIGN, why, "%.300s is a %s, not a segment: a segment is a regular file",
                                path, lr_names_kind(file->st_mode));
    uid_t me = geteuid();
    if (me != 0 && file->st_uid != me && file->st_uid != 0 && (owner == (uid_t)-1 || file->st_uid != owner))
        return lr_error_explain(LARDER_EPERMISSION, why,
                                "%.300s belongs to user %u, but only user %u (us), root or the configured owner are "
                                "trusted: name that user as the owner if it is meant",
                                path, (unsigned)file->st_uid, (unsigned)me);
    if ((file->st_mode & S_IWOTH) != 0)
        return lr_error_explain(
            LARDER_EPERMISSION, why,
            "%.300s has mode %04o and is writable by others, so its content cannot be trusted: chmod "
            "o-w it, if all who could write are trusted",
            path, (unsigned)file->st_mode & 07777u);
    if (file->st_nlink > 1)
        return lr_error_explain(LARDER_EFOREIGN, why,
                                "%.300s has %ju names (hard links), a segment's file has one: remove the others", path,
                                (uintmax_t)file->st_nlink);
    return 0;
}

bool lr_names_has(const char *path, const struct stat *file) {
    struct stat named;
    return lstat(path, &named) == 0 && named.st_dev == file->st_dev && named.st_ino == file->st_ino;
}

static ssize_t read_at(int fd, void *buf, size_t len, off_t offset) {
    size_t done = 0;
    while (done < len) {
        ssize_t got = pread(fd, (uint8_t *)buf + done, len - done, offset + (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

/* The head of a segment file: constants, and the state behind them. */
struct head {
    struct sm_constants constants;
    uint32_t state;
};
static_assert(offsetof(struct head, state) == offsetof(struct sm_header, state), "the state follows the constants");

static int read_head(int fd, const char *path, struct head *head, char *why) {
    const size_t len = offsetof(struct head, state) + sizeof head->state;
    ssize_t got = read_at(fd, head, len, 0);
    if (got < 0)
        return lr_error_explain(LARDER_ESYSTEM, why, "%.300s cannot be read: %s", path, strerror(errno));
    if ((size_t)got < len)
        return lr_error_explain(LARDER_EFOREIGN, why, "%.300s has %zd bytes, not even a segment's header of %u", path,
                                got, SM_HEADER_BYTES);
    return 0;
}

int lr_names_load_segment(int fd, const struct stat *file, const char *path, struct lr_geometry *geometry,
                          uint32_t *state, char *why) {
    struct head head;
    char reason[LR_WHY_BYTES] = "";
    int error = read_head(fd, path, &head, why);
    if (error != 0)
        return error;
    error = lr_geometry_load(&head.constants, (uint64_t)file->st_size, geometry, reason);
    if (error != 0)
        return lr_error_explain(error, why, "%.150s: %.340s", path, reason);
    if (head.state != SM_LIVE && head.state != SM_RETIRED && (head.state & SM_KEPT) == 0)
        return lr_error_explain(LARDER_ECORRUPT, why, "%.300s: the segment's state is %" PRIu32 ", but %d or %d exist",
                                path, head.state, SM_LIVE, SM_RETIRED);
    *state = head.state;
    return 0;
}

int lr_names_load_live(int fd, const char *live, struct sm_liveness *record, char *why) {
    ssize_t got = read_at(fd, record, sizeof *record, SM_LIVE_RECORD_OFF);
    if (got < 0)
        return lr_error_explain(LARDER_ESYSTEM, why, "%.300s cannot be read: %s", live, strerror(errno));
    if ((size_t)got < sizeof *record || record->magic != SM_LIVE_MAGIC || record->sum != lr_liveness_sum(record))
        return lr_error_explain(LARDER_EFOREIGN, why,
                                "%.300s is no liveness file of a Larder segment: move it away, it is not ours", live);
    return 0;
}

/* ---- the guard of the two names --------------------------------------------------------------------------------- */

bool lr_guard_take(int live_fd) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = SM_LIVE_RECORD_OFF, .l_len = 1};
    return fcntl(live_fd, F_OFD_SETLK, &lock) == 0;
}

void lr_guard_drop(int live_fd) {
    if (live_fd < 0)
        return;
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = SM_LIVE_RECORD_OFF, .l_len = 1};
    (void)fcntl(live_fd, F_OFD_SETLK, &lock);
    close(live_fd);
}

uint64_t lr_guard_deadline(uint64_t cache_bytes) {
    return lr_monotonic_ns() + GUARD_WAIT_NS + (cache_bytes >> 30) * GUARD_WAIT_NS_PER_GIB;
}

int lr_guard_named(const char *path, uid_t owner, uint64_t deadline_ns, int *fd, char *why) {
    char live[LR_PATH_BYTES + sizeof LR_LIVE_SUFFIX];
    lr_names_live(path, live);
    for (;;) {
        struct stat file;
        struct sm_liveness record;
        int error = lr_names_open(live, false, fd, why);
        if (error == LARDER_ENO_SEGMENT)
            return 0;
        if (error != 0)
            return error;
        if (fstat(*fd, &file) != 0)
            error = lr_error_explain(LARDER_ESYSTEM, why, "%.300s cannot be examined: %s", live, strerror(errno));
        if (error == 0)
            error = lr_names_judge(&file, owner, live, why);
        if (error == 0)
            error = lr_names_load_live(*fd, live, &record, why);
        bool guarded = error == 0 && lr_guard_take(*fd);
        if (guarded && lr_names_has(live, &file))
            return 0;
        if (guarded)
            lr_guard_drop(*fd);
        else
            close(*fd);
        *fd = -1;
        if (error != 0)
            return error;
        if (lr_monotonic_ns() >= deadline_ns)
            return lr_error_explain(LARDER_EBUSY, why,
                                    "another process is creating or destroying %.300s and does not come to an end: it "
                                    "may be stopped; it holds a lock on %.60s",
                                    path, strrchr(live, '/') + 1);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

int lr_names_unlink(const char *path, const struct stat *file, char *why) {
    struct stat named;
    if (lstat(path, &named) == 0 && (named.st_dev != file->st_dev || named.st_ino != file->st_ino || unlink(path) == 0))
        return 0;
    int error = errno;
    if (error == ENOENT)
        return 0;
    return lr_error_explain(error == EPERM || error == EACCES || error == EROFS ? LARDER_EPERMISSION : LARDER_ESYSTEM,
                            why, "%.300s cannot be removed by user %u: %s", path, (unsigned)geteuid(), strerror(error));
}

int lr_names_clear(const char *path, uid_t owner, char *why) {
    struct stat file;
    struct lr_geometry geometry;
    uint32_t state = SM_LIVE;
    int fd;
    if (lstat(path, &file) != 0 && errno == ENOENT)
        return 0;
    bool retired = lr_names_open(path, true, &fd, NULL) == 0;
    if (retired) {
        retired = fstat(fd, &file) == 0 && lr_names_judge(&file, owner, path, NULL) == 0 &&
                  lr_names_load_segment(fd, &file, path, &geometry, &state, NULL) == 0 && state == SM_RETIRED;
        close(fd);
    }
    if (!retired)
        return lr_error_explain(LARDER_EEXISTS, why, "%.300s exists already: attach to it, or destroy it first", path);
    return lr_names_unlink(path, &file, why);
}

int lr_names_link(int fd, const char *path, char *why) {
    char from[64];
    (void)snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, from, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    int error = errno;
    if (error == EEXIST)
        return lr_error_explain(LARDER_EEXISTS, why, "%.300s exists already", path);
    if (error == ENOENT)
        return lr_error_explain(LARDER_ESYSTEM, why, "%.300s cannot be given its name: /proc is not mounted", path);
    return lr_error_explain(error == ENOSPC || error == EDQUOT                    ? LARDER_ENO_SPACE
                            : error == EACCES || error == EPERM || error == EROFS ? LARDER_EPERMISSION
                                                                                  : LARDER_ESYSTEM,
                            why, "%.300s cannot be given its name: %s", path, strerror(error));
}
