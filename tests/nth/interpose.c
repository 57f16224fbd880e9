/* SPDX-License-Identifier: MIT */
#include "nth.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static struct nth_control *control;
static bool active;

static const int errors[NTH_CALL_COUNT] = {
#define X(call, error) [NTH_##call] = (error),
    NTH_CALLS(X)
#undef X
};

EXPORT void nth_use(struct nth_control *with) {
    control = with;
}

EXPORT void nth_activate(bool now) {
    active = now;
}

/* Programs under test find their control by the environment. System calls are made bare: nothing here counts. */
__attribute__((constructor)) static void begin(void) {
    const char *file = getenv(NTH_FILE);
    if (file == NULL || getenv(NTH_ACTIVE) == NULL)
        return;
    long fd = syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC);
    long at = syscall(SYS_mmap, 0L, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0L);
    syscall(SYS_close, fd);
    if (fd < 0 || at == -1)
        return;
    control = (struct nth_control *)at;
    active = true;
}

static bool is_hit(struct nth_target *target, enum nth_call call) {
    if (atomic_load(&target->call) != (uint32_t)call)
        return false;
    uint64_t n = atomic_fetch_add(&target->reached, 1) + 1, k = atomic_load(&target->k);
    return atomic_load(&target->from_then_on) ? n >= k : n == k;
}

static bool fails(enum nth_call call) {
    if (!active || control == NULL)
        return false;
    bool first = is_hit(&control->target[0], call), second = is_hit(&control->target[1], call);
    if (!first && !second)
        return false;
    errno = errors[call];
    return true;
}

/* The next definition of the same name: libc's. */
static void find(const char *name, void *function) {
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(function, &found, sizeof found);
}

#define FORWARD(call, name, type, failed, parameters, arguments)                                                       \
    EXPORT type name parameters {                                                                                      \
        static type(*next) parameters;                                                                                 \
        if (next == NULL)                                                                                              \
            find(#name, &next);                                                                                        \
        return fails(NTH_##call) ? (failed) : next arguments;                                                          \
    }

FORWARD(mmap, mmap, void *, MAP_FAILED, (void *at, size_t len, int protection, int flags, int fd, off_t offset),
        (at, len, protection, flags, fd, offset))
FORWARD(mmap, mmap64, void *, MAP_FAILED, (void *at, size_t len, int protection, int flags, int fd, off64_t offset),
        (at, len, protection, flags, fd, offset))
FORWARD(madvise, madvise, int, -1, (void *at, size_t len, int advice), (at, len, advice))
FORWARD(posix_fallocate, posix_fallocate, int, errors[NTH_posix_fallocate], (int fd, off_t offset, off_t len),
        (fd, offset, len))
FORWARD(ftruncate, ftruncate, int, -1, (int fd, off_t len), (fd, len))
FORWARD(fstat, fstat, int, -1, (int fd, struct stat *out), (fd, out))
FORWARD(fstat, fstat64, int, -1, (int fd, struct stat64 *out), (fd, out))
FORWARD(stat, stat, int, -1, (const char *path, struct stat *out), (path, out))
FORWARD(stat, stat64, int, -1, (const char *path, struct stat64 *out), (path, out))
FORWARD(lstat, lstat, int, -1, (const char *path, struct stat *out), (path, out))
FORWARD(lstat, lstat64, int, -1, (const char *path, struct stat64 *out), (path, out))
struct statfs;
int fstatfs(int fd, struct statfs *out);
FORWARD(fstatfs, fstatfs, int, -1, (int fd, struct statfs *out), (fd, out))
FORWARD(fchmod, fchmod, int, -1, (int fd, mode_t mode), (fd, mode))
FORWARD(chmod, chmod, int, -1, (const char *path, mode_t mode), (path, mode))
FORWARD(memfd_create, memfd_create, int, -1, (const char *label, unsigned flags), (label, flags))
FORWARD(linkat, linkat, int, -1, (int from_dir, const char *from, int to_dir, const char *to, int flags),
        (from_dir, from, to_dir, to, flags))
FORWARD(unlink, unlink, int, -1, (const char *path), (path))
FORWARD(lseek, lseek, off_t, -1, (int fd, off_t offset, int whence), (fd, offset, whence))
FORWARD(pread, pread, ssize_t, -1, (int fd, void *out, size_t len, off_t offset), (fd, out, len, offset))
FORWARD(pwrite, pwrite, ssize_t, -1, (int fd, const void *from, size_t len, off_t offset), (fd, from, len, offset))
ssize_t getrandom(void *out, size_t len, unsigned flags);
FORWARD(getrandom, getrandom, ssize_t, -1, (void *out, size_t len, unsigned flags), (out, len, flags))
FORWARD(clock_gettime, clock_gettime, int, -1, (clockid_t clock, struct timespec *now), (clock, now))
FORWARD(socket, socket, int, -1, (int family, int type, int protocol), (family, type, protocol))
FORWARD(bind, bind, int, -1, (int fd, __CONST_SOCKADDR_ARG at, socklen_t len), (fd, at, len))
FORWARD(listen, listen, int, -1, (int fd, int backlog), (fd, backlog))
FORWARD(connect, connect, int, -1, (int fd, __CONST_SOCKADDR_ARG at, socklen_t len), (fd, at, len))
FORWARD(accept4, accept4, int, -1, (int fd, __SOCKADDR_ARG at, socklen_t *restrict len, int flags),
        (fd, at, len, flags))
struct epoll_event;
int epoll_ctl(int poll, int operation, int fd, struct epoll_event *event);
FORWARD(epoll_ctl, epoll_ctl, int, -1, (int poll, int operation, int fd, struct epoll_event *event),
        (poll, operation, fd, event))
FORWARD(pthread_create, pthread_create, int, errors[NTH_pthread_create],
        (pthread_t * thread, const pthread_attr_t *with, void *(*body)(void *), void *context),
        (thread, with, body, context))

/* Pipes and event descriptors inside a process do not fail in Linux, and libuv's locks and wake-ups are made of them.
 */
static bool is_outward(int fd) {
    static int (*next)(int, struct stat *);
    struct stat at;
    if (next == NULL)
        find("fstat", &next);
    return next(fd, &at) == 0 && (S_ISREG(at.st_mode) || S_ISSOCK(at.st_mode) || S_ISCHR(at.st_mode));
}

EXPORT ssize_t read(int fd, void *out, size_t len) {
    static ssize_t (*next)(int, void *, size_t);
    if (next == NULL)
        find("read", &next);
    return is_outward(fd) && fails(NTH_read) ? -1 : next(fd, out, len);
}

EXPORT ssize_t write(int fd, const void *from, size_t len) {
    static ssize_t (*next)(int, const void *, size_t);
    if (next == NULL)
        find("write", &next);
    return is_outward(fd) && fails(NTH_write) ? -1 : next(fd, from, len);
}

/* dlsym allocates: libc's own names for these. */
void *__libc_malloc(size_t len);
void *__libc_calloc(size_t count, size_t len);
void *__libc_realloc(void *old, size_t len);

EXPORT void *malloc(size_t len) {
    return fails(NTH_malloc) ? NULL : __libc_malloc(len);
}

EXPORT void *calloc(size_t count, size_t len) {
    return fails(NTH_calloc) ? NULL : __libc_calloc(count, len);
}

EXPORT void *realloc(void *old, size_t len) {
    return fails(NTH_realloc) ? NULL : __libc_realloc(old, len);
}

/* With arguments that depend on others. */

#define FORWARD_OPEN(name)                                                                                             \
    EXPORT int name(const char *path, int flags, ...) {                                                                \
        static int (*next)(const char *, int, ...);                                                                    \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        unsigned mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, unsigned) : 0;                               \
        va_end(arguments);                                                                                             \
        if (next == NULL)                                                                                              \
            find(#name, &next);                                                                                        \
        return fails(NTH_open) ? -1 : next(path, flags, mode);                                                         \
    }
FORWARD_OPEN(open)
FORWARD_OPEN(open64)

#define FORWARD_FCNTL(name)                                                                                            \
    EXPORT int name(int fd, int command, ...) {                                                                        \
        static int (*next)(int, int, ...);                                                                             \
        va_list arguments;                                                                                             \
        va_start(arguments, command);                                                                                  \
        void *argument = va_arg(arguments, void *);                                                                    \
        va_end(arguments);                                                                                             \
        if (next == NULL)                                                                                              \
            find(#name, &next);                                                                                        \
        return fails(NTH_fcntl) ? -1 : next(fd, command, argument);                                                    \
    }
FORWARD_FCNTL(fcntl)
FORWARD_FCNTL(fcntl64)

EXPORT long syscall(long number, ...) {
    static long (*next)(long, ...);
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (unsigned i = 0; i < 6; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (next == NULL)
        find("syscall", &next);
    return fails(NTH_syscall) ? -1 : next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
