/* SPDX-License-Identifier: MIT */
/*
 * Which call of libc fails? The interposer (interpose.c, a library in front of libc) counts the calls of one kind in
 * the processes that are active, and fails the k-th, or all from the k-th on. What it is told lies in a file that the
 * harness and the programs under test map.
 */
#ifndef NTH_H
#define NTH_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Rows: X(call, error): some have a second name with 64 in it, which counts as the same. */
#define NTH_CALLS(X)                                                                                                   \
    X(mmap, ENOMEM)                                                                                                    \
    X(madvise, EAGAIN)                                                                                                 \
    X(posix_fallocate, ENOSPC)                                                                                         \
    X(ftruncate, EIO)                                                                                                  \
    X(fcntl, ENOLCK)                                                                                                   \
    X(open, EMFILE)                                                                                                    \
    X(fstat, EIO)                                                                                                      \
    X(stat, EACCES)                                                                                                    \
    X(lstat, EACCES)                                                                                                   \
    X(fstatfs, EIO)                                                                                                    \
    X(fchmod, EPERM)                                                                                                   \
    X(chmod, EPERM)                                                                                                    \
    X(memfd_create, EINVAL)                                                                                            \
    X(linkat, EIO)                                                                                                     \
    X(unlink, EIO)                                                                                                     \
    X(lseek, EINVAL)                                                                                                   \
    X(syscall, ENOSYS)                                                                                                 \
    X(malloc, ENOMEM)                                                                                                  \
    X(calloc, ENOMEM)                                                                                                  \
    X(realloc, ENOMEM)                                                                                                 \
    X(read, EIO)                                                                                                       \
    X(pread, EIO)                                                                                                      \
    X(write, EIO)                                                                                                      \
    X(pwrite, EIO)                                                                                                     \
    X(getrandom, EAGAIN)                                                                                               \
    X(clock_gettime, EINVAL)                                                                                           \
    X(socket, EMFILE)                                                                                                  \
    X(bind, EADDRINUSE)                                                                                                \
    X(listen, EADDRINUSE)                                                                                              \
    X(connect, ENETUNREACH)                                                                                            \
    X(accept4, EMFILE)                                                                                                 \
    X(epoll_ctl, ENOSPC)                                                                                               \
    X(pthread_create, EAGAIN)

enum nth_call {
#define X(call, error) NTH_##call,
    NTH_CALLS(X)
#undef X
        NTH_CALL_COUNT
};

struct nth_target {
    _Atomic uint32_t call;         /* enum nth_call; NTH_CALL_COUNT none */
    _Atomic uint32_t from_then_on; /* 0: the k-th alone */
    _Atomic uint64_t k;
    _Atomic uint64_t reached; /* calls of that kind so far */
};

struct nth_control {
    struct nth_target target[2]; /* the second one for pairs */
};

#define NTH_FILE "LARDER_NTH_FILE"     /* environment: where the control lies */
#define NTH_ACTIVE "LARDER_NTH_ACTIVE" /* environment: set in programs under test */

/* In front of libc; in the harness, for its own forked children. */
void nth_use(struct nth_control *control);
void nth_activate(bool active);

#endif
