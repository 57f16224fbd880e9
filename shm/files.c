/* SPDX-License-Identifier: MIT */
/*
 * How do a segment's two files come to be, before anybody knows of them?
 *
 * A file is made without a name: O_TMPFILE in the folder where it will get one, or a memfd, which never gets one.
 * Memory is allocated in full (posix_fallocate), because a page that tmpfs cannot supply later is a SIGBUS in some
 * innocent process; 2 MiB at a time, since tmpfs gives up and frees when a signal arrives: so signals wait for the end
 * of each piece, and SIGXFSZ becomes an error.
 *
 * Seals. A memfd is sealed against shrinking and growing, and against other seals, before anybody gets it: no holder of
 * a descriptor, its maker included, can truncate it, so nobody who maps it can get SIGBUS. F_SEAL_FUTURE_WRITE would
 * also forbid punching holes, but no process that comes later could map a sealed file for writing, and all of ours come
 * later. So who may write may punch a hole; that is a way of writing zeros, and does what scribbling zeros does. The
 * memory of a memfd is in no tmpfs with a limit: the page that is touched next is there.
 */
#include "names.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#define PIECE (UINT64_C(2) << 20) /* allocated at once */

/* Newer than some C libraries' headers. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

/* While it lasts, no signal interrupts an allocation, and SIGXFSZ is an error instead of our death. */
struct signals {
    sigset_t before;
    bool file_size_pending;
};

static void hold_signals(struct signals *held) {
    sigset_t all, pending;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &held->before);
    sigemptyset(&pending);
    sigpending(&pending);
    held->file_size_pending = sigismember(&pending, SIGXFSZ) == 1;
}

static void release_signals(const struct signals *held) {
    sigset_t file_size;
    sigemptyset(&file_size);
    sigaddset(&file_size, SIGXFSZ);
    if (!held->file_size_pending)
        while (sigtimedwait(&file_size, NULL, &(struct timespec){0}) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &held->before, NULL);
}

static uint64_t free_bytes(int fd) {
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 ? (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize : 0;
}

/* `had` bytes of `wanted` were allocated when `error` came. */
static int allocation_error(int error, int fd, uint64_t wanted, uint64_t had, const char *path, char *why) {
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return lr_error_explain(LARDER_ENO_SPACE, why,
                                "%.150s needs %" PRIu64 " bytes, but its file system has only %" PRIu64
                                " free: enlarge "
                                "it (mount -o remount,size=..., docker --shm-size), or create a smaller segment",
                                path, wanted, free_bytes(fd) + had);
    case EFBIG:
        (void)getrlimit(RLIMIT_FSIZE, &limit);
        return lr_error_explain(LARDER_ENO_SPACE, why,
                                "%.150s needs %" PRIu64 " bytes, but this process may write files of %ju bytes only "
                                "(ulimit -f): raise that limit, or create a smaller segment",
                                path, wanted, (uintmax_t)limit.rlim_cur);
    case ENOMEM:
        return lr_error_explain(LARDER_ENO_MEMORY, why, "%.150s needs %" PRIu64 " bytes: %s", path, wanted,
                                strerror(error));
    default:
        return lr_error_explain(LARDER_ESYSTEM, why, "%.150s: %" PRIu64 " bytes cannot be allocated: %s", path, wanted,
                                strerror(error));
    }
}

int lr_files_allocate(int fd, uint64_t bytes, const char *path, char *why) {
    struct statfs fs;
    /* Without a limit (f_blocks 0) there is nothing to compare with. */
    if (fstatfs(fd, &fs) == 0 && fs.f_blocks != 0 && (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize < bytes)
        return allocation_error(ENOSPC, fd, bytes, 0, path, why);
    for (uint64_t done = 0; done < bytes; done += PIECE) {
        uint64_t piece = bytes - done < PIECE ? bytes - done : PIECE;
        struct signals held;
        int error;
        hold_signals(&held);
        do /* a stop and a continue still interrupt */
            error = posix_fallocate(fd, (off_t)done, (off_t)piece);
        while (error == EINTR);
        release_signals(&held);
        if (error != 0)
            return allocation_error(error, fd, bytes, done, path, why);
    }
    return 0;
}

int lr_files_nameless(const char *path, mode_t mode, gid_t group, int *fd, char *why) {
    char folder[LR_PATH_BYTES];
    size_t len = (size_t)(strrchr(path, '/') - path);
    memcpy(folder, path, len);
    folder[len] = 0;
    *fd = open(len == 0 ? "/" : folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (*fd < 0) {
        int error = errno;
        switch (error) {
        case ENOENT:
        case ENOTDIR:
            return lr_error_explain(LARDER_EINVALID, why, "%.300s is no folder: make it, or mount a tmpfs there",
                                    folder);
        case EACCES:
        case EPERM:
        case EROFS:
            return lr_error_explain(LARDER_EPERMISSION, why, "user %u may not make files in %.300s: %s",
                                    (unsigned)geteuid(), folder, strerror(error));
        case EOPNOTSUPP:
        case EISDIR:
            return lr_error_explain(LARDER_EINVALID, why,
                                    "the file system of %.300s has no unnamed files (O_TMPFILE): use a tmpfs", folder);
        case ENOSPC:
        case EDQUOT:
            return lr_error_explain(LARDER_ENO_SPACE, why, "%.300s has no room for another file: enlarge it", folder);
        default:
            return lr_error_explain(LARDER_ESYSTEM, why, "no file can be made in %.300s: %s", folder, strerror(error));
        }
    }
    if (group != (gid_t)-1 && fchown(*fd, (uid_t)-1, group) != 0)
        return lr_error_explain(LARDER_EPERMISSION, why, "%.300s cannot be given to group %u by user %u: %s", path,
                                (unsigned)group, (unsigned)geteuid(), strerror(errno));
    if (fchmod(*fd, mode) != 0) /* whatever the umask */
        return lr_error_explain(LARDER_ESYSTEM, why, "%.300s: mode %04o cannot be set: %s", path, (unsigned)mode,
                                strerror(errno));
    return 0;
}

mode_t lr_files_live_mode(mode_t mode) {
    return (mode & 0060) == 0060 ? 0660 : 0600;
}

int lr_files_live(const struct sm_liveness *partner, int fd, const char *path, struct stat *file, char *why) {
    if (fstat(fd, file) != 0)
        return lr_error_explain(LARDER_ESYSTEM, why, "the liveness file cannot be examined: %s", strerror(errno));
    struct sm_liveness record = *partner;
    record.magic = SM_LIVE_MAGIC;
    record.live_ino = file->st_ino;
    record.sum = lr_liveness_sum(&record);
    struct signals held;
    hold_signals(&held);
    bool written = ftruncate(fd, SM_LIVE_BYTES) == 0;
    int write_errno = errno;
    if (written) {
        errno = ENOSPC; /* of a short write */
        written = pwrite(fd, &record, sizeof record, SM_LIVE_RECORD_OFF) == (ssize_t)sizeof record;
        write_errno = errno;
    }
    release_signals(&held);
    return written ? 0 : allocation_error(write_errno, fd, SM_LIVE_BYTES, 0, path, why);
}

int lr_files_build_live(const struct sm_liveness *partner, const char *path, mode_t mode, gid_t group, int *fd,
                        struct stat *file, char *why) {
    int error = lr_files_nameless(path, lr_files_live_mode(mode), group, fd, why);
    if (error == 0)
        error = lr_files_live(partner, *fd, path, file, why);
    if (error == 0 && !lr_guard_take(*fd))
        error = lr_error_explain(LARDER_ESYSTEM, why,
                                 "%.300s: this file system has no open-file-description locks (%s): use a tmpfs", path,
                                 strerror(errno));
    return error;
}

/* ---- memfds ----------------------------------------------------------------------------------------------------- */

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

int lr_files_memfd(const char *label, mode_t mode, gid_t group, int *fd, char *why) {
    *fd = memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (*fd < 0 && errno == EINVAL) /* a kernel before 6.3 */
        *fd = memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0)
        return lr_error_explain(LARDER_ESYSTEM, why, "no memfd can be made: %s", strerror(errno));
    if (group != (gid_t)-1 && fchown(*fd, (uid_t)-1, group) != 0)
        return lr_error_explain(LARDER_EPERMISSION, why, "a memfd cannot be given to group %u by user %u: %s",
                                (unsigned)group, (unsigned)geteuid(), strerror(errno));
    if (fchmod(*fd, mode) != 0)
        return lr_error_explain(LARDER_ESYSTEM, why, "a memfd's mode cannot be set to %04o: %s", (unsigned)mode,
                                strerror(errno));
    return 0;
}

int lr_files_seal(int fd, char *why) {
    if (fcntl(fd, F_ADD_SEALS, SEALS) == 0)
        return 0;
    return lr_error_explain(LARDER_ESYSTEM, why, "a memfd cannot be sealed: %s", strerror(errno));
}

bool lr_files_sealed(int fd) {
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & SEALS) == SEALS;
}
