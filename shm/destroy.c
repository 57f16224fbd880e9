/* SPDX-License-Identifier: MIT */
/*
 * How does a segment go?
 *
 * Retire it, so that every call of those who are attached says RETIRED; then take its names away, under the guard
 * (names.c: what a destroyer leaves who dies in between, the next one finishes). The memory goes with the last mapping.
 * A segment in a memfd has no names: it is only retired, and its keeper goes with it.
 */
#include "handover.h"
#include "names.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Whether the one who asks may remove the name, before anybody is told that the segment is gone. */
static int may_remove(const char *path, const struct stat *file, char *why) {
    char folder[LR_PATH_BYTES];
    struct stat around;
    uid_t me = geteuid();
    size_t len = (size_t)(strrchr(path, '/') - path);
    memcpy(folder, path, len);
    folder[len] = 0;
    const char *where = len == 0 ? "/" : folder;
    if (faccessat(AT_FDCWD, where, W_OK | X_OK, AT_EACCESS) != 0 || stat(where, &around) != 0)
        return lr_error_explain(LARDER_EPERMISSION, why, "user %u may not remove files from %.300s: %s", (unsigned)me,
                                where, strerror(errno));
    if (me != 0 && (around.st_mode & S_ISVTX) != 0 && me != file->st_uid && me != around.st_uid)
        return lr_error_explain(LARDER_EPERMISSION, why, "%.300s belongs to user %u: user %u may use but not remove it",
                                path, (unsigned)file->st_uid, (unsigned)me);
    return 0;
}

/*
 * A damaged segment, or one of another layout, cannot be verified, but must be possible to get rid of. So: it stands
 * under a Larder name (larder.*), is ours (or we are root), and begins with the magic. Otherwise the file is not ours
 * to remove.
 */
static int may_remove_unverified(int fd, const struct stat *file, const char *path, int error, char *why) {
    uint64_t magic = 0;
    uid_t me = geteuid();
    const char *last = strrchr(path, '/') + 1;
    bool ours = (me == 0 || file->st_uid == me) && strncmp(last, "larder.", 7) == 0 &&
                pread(fd, &magic, sizeof magic, 0) == (ssize_t)sizeof magic && magic == SM_MAGIC;
    if (!ours || (error != LARDER_ECORRUPT && error != LARDER_EVERSION && error != LARDER_EFOREIGN))
        return error;
    if (why != NULL)
        why[0] = 0;
    return 0;
}

void lr_segment_retire(struct sm_header *header) {
    LR_CRASH_POINT("retire, before");
    /* COMMIT POINT: before, all goes on; after, every call in every process says ERETIRED. */
    atomic_store_explicit(&header->state, SM_RETIRED, memory_order_seq_cst);
    LR_CRASH_POINT("retire, after");
    atomic_fetch_add_explicit(&header->bell, 1, memory_order_seq_cst);
    (void)syscall(SYS_futex, &header->bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Tells those who are attached, if this layout is the one in which we know how. */
static void retire(int fd, const struct stat *file) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = page < SM_HEADER_BYTES ? SM_HEADER_BYTES : page;
    if (file->st_size < (off_t)bytes)
        return;
    struct sm_header *header = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (header == MAP_FAILED)
        return;
    if (header->constants.layout != SM_LAYOUT_VERSION) {
        munmap(header, bytes);
        return;
    }
    lr_segment_retire(header);
    munmap(header, bytes);
}

/* In a memfd there is no name to remove: who may, tells those who are attached, and the keeper goes with them. */
static int destroy_kept(const struct lr_options *options, const char *path, char *why) {
    struct lr_handed handed;
    struct stat file;
    int error = lr_handover_take(path, options->owner, &handed, why);
    if (error != 0)
        return error;
    uid_t me = geteuid();
    if (fstat(handed.segment_fd, &file) != 0)
        error = lr_error_explain(LARDER_ESYSTEM, why, "%.300s cannot be examined: %s", path, strerror(errno));
    else if (me != 0 && me != file.st_uid)
        error =
            lr_error_explain(LARDER_EPERMISSION, why, "%.300s belongs to user %u: user %u may use but not remove it",
                             path, (unsigned)file.st_uid, (unsigned)me);
    else
        retire(handed.segment_fd, &file);
    close(handed.segment_fd);
    if (handed.live_fd >= 0)
        close(handed.live_fd);
    return error;
}

/* Whether there is a segment that the one who asks may destroy. On success *fd is open. */
static int open_for_destroy(const struct lr_options *options, const char *path, int *fd, struct stat *file, char *why) {
    struct lr_geometry geometry;
    uint32_t state;
    int error = lr_names_open(path, false, fd, why);
    if (error != 0)
        return error;
    if (fstat(*fd, file) != 0)
        error = lr_error_explain(LARDER_ESYSTEM, why, "%.300s cannot be examined: %s", path, strerror(errno));
    if (error == 0)
        error = lr_names_judge(file, options->owner, path, why);
    if (error == 0) {
        error = lr_names_load_segment(*fd, file, path, &geometry, &state, why);
        if (error != 0)
            error = may_remove_unverified(*fd, file, path, error, why);
    }
    if (error == 0)
        error = may_remove(path, file, why);
    if (error != 0)
        close(*fd);
    return error;
}

/* Under the guard. */
static int destroy_guarded(const struct lr_options *options, const char *path, char *why) {
    struct stat file;
    int fd;
    int error = open_for_destroy(options, path, &fd, &file, why);
    if (error != 0)
        return error;
    retire(fd, &file);
    error = lr_names_unlink(path, &file, why);
    close(fd);
    return error;
}

/*
 * The segment's liveness file is gone: somebody removed it. Destroys under the guard of one of our own, which goes
 * again in any case.
 */
static int destroy_orphan(const struct lr_options *options, const char *path, const char *live, char *why) {
    struct stat file, live_file;
    int fd, guard_fd;
    int error = open_for_destroy(options, path, &fd, &file, why);
    if (error != 0)
        return error;
    close(fd);
    const struct sm_liveness nobody = {0};
    error = lr_files_build_live(&nobody, path, 0600, (gid_t)-1, &guard_fd, &live_file, why);
    if (error == 0)
        error = lr_names_link(guard_fd, live, why);
    if (error == 0) {
        error = destroy_guarded(options, path, why);
        (void)lr_names_unlink(live, &live_file, NULL);
    } else if (error == LARDER_EEXISTS) {
        error = lr_error_explain(LARDER_EBUSY, why, "another process is changing what %.300s is", path);
    }
    lr_guard_drop(guard_fd);
    return error;
}

int lr_segment_destroy(const struct lr_options *options, const char *path, char *why) {
    if (lr_names_kept(path))
        return destroy_kept(options, path, why);
    char live[LR_LIVE_PATH_BYTES];
    struct stat file, live_file;
    int guard_fd;
    lr_names_live(path, live);
    int error = lr_guard_named(path, options->owner, lr_guard_deadline(0), &guard_fd, why);
    if (error != 0)
        return error;
    if (guard_fd < 0)
        return destroy_orphan(options, path, live, why);
    error = destroy_guarded(options, path, why);
    /* Without a segment, a liveness file is what a dead creator or destroyer left. It goes, and the answer stays. */
    if (lstat(path, &file) != 0) {
        char *live_why = error == 0 ? why : NULL;
        int live_error = errno == ENOENT && fstat(guard_fd, &live_file) == 0
                             ? lr_names_unlink(live, &live_file, live_why)
                             : lr_error_explain(LARDER_ESYSTEM, live_why, "%.300s cannot be examined and is left: %s",
                                                live, strerror(errno));
        error = error == 0 ? live_error : error;
    }
    lr_guard_drop(guard_fd);
    return error;
}
