/* SPDX-License-Identifier: MIT */
/*
 * The kernel that the core sees: what do its system calls do here?
 *
 * The linker sends the core's calls of libc (--wrap) here. The liveness file has the path SIM_LIVE_PATH and descriptors
 * from FIRST_FD on; what concerns other files goes on to libc.
 *
 *   open, close, mmap, munmap    a description lives as long as a descriptor or a page of it
 *   fcntl                        OFD locks on bytes, owned by descriptions; the dead's fall at once or after a lag
 *   futex                        waits end by a wake, by time, or early; the word is compared when the wait begins
 *   clocks                       one virtual time for all; reading it takes 100 ns, nothing else does but waiting
 *
 * Every call is a place to switch and drains the caller's store buffer: the kernel's own locks do that.
 */
#include "sim.h"

#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define FIRST_FD 1000
#define DESCRIPTIONS 64
#define UNIX_NS UINT64_C(1750000000000000000)
#define CALL_WEIGHT 8
#define CHECK_BYTES (UINT64_C(128) << 10)

int __real_open(const char *path, int flags, ...);
int __real_close(int fd);
int __real_fstat(int fd, struct stat *out);
off_t __real_lseek(int fd, off_t offset, int whence);
void *__real_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t len);
int __real_madvise(void *at, size_t len, int advice);
int __wrap_open(const char *path, int flags, ...);
int __wrap_close(int fd);
int __wrap_fstat(int fd, struct stat *out);
int __wrap_stat(const char *path, struct stat *out);
off_t __wrap_lseek(int fd, off_t offset, int whence);
void *__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *at, size_t len);
int __wrap_madvise(void *at, size_t len, int advice);
int __wrap_fcntl(int fd, int command, ...);
long __wrap_syscall(long number, ...);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_nanosleep(const struct timespec *request, struct timespec *left);
int __wrap_sched_yield(void);
pid_t __wrap_getpid(void);

struct description {
    unsigned references; /* 0: free */
    unsigned owner;
    off_t position;
    uint64_t closes_ns; /* UINT64_MAX: while referenced */
};

struct kernel {
    struct description descriptions[DESCRIPTIONS];
    uint8_t holder[SIM_HANDLES + 4]; /* of byte i: description + 1; 0 nobody */
    uint64_t now_ns;
};
static struct kernel kernel, saved;

void sim_kernel_save(void) {
    saved = kernel;
    saved.now_ns = sim.now_ns;
}

void sim_kernel_restore(void) {
    kernel = saved;
    sim.now_ns = saved.now_ns;
}

/* At the door of every system call. */
static void enter(void) {
    sim_step(CALL_WEIGHT);
    sim_runtime_drain(sim.now, SIM_STORES);
}

/* ---- descriptions of the liveness file -------------------------------------------------------------------------- */

static struct description *description_of(int fd) {
    if (fd < FIRST_FD || fd >= FIRST_FD + DESCRIPTIONS || kernel.descriptions[fd - FIRST_FD].references == 0)
        return NULL;
    return &kernel.descriptions[fd - FIRST_FD];
}

static void release(struct description *description) {
    if (description->references == 0 || --description->references > 0)
        return;
    unsigned mark = (unsigned)(description - kernel.descriptions) + 1;
    for (unsigned i = 0; i < sizeof kernel.holder; i++)
        if (kernel.holder[i] == mark)
            kernel.holder[i] = 0;
}

void sim_kernel_died(unsigned process, uint64_t lag_ns) {
    for (unsigned i = 0; i < DESCRIPTIONS; i++)
        if (kernel.descriptions[i].references > 0 && kernel.descriptions[i].owner == process)
            kernel.descriptions[i].closes_ns = sim.now_ns + lag_ns;
}

/* The description that holds the byte now, or NULL. */
static struct description *holder_of(uint32_t slot) {
    if (slot >= sizeof kernel.holder || kernel.holder[slot] == 0)
        return NULL;
    struct description *holder = &kernel.descriptions[kernel.holder[slot] - 1];
    return holder->closes_ns > sim.now_ns ? holder : NULL;
}

int __wrap_open(const char *path, int flags, ...) {
    if (strcmp(path, "/simulated.live") != 0) {
        va_list more;
        va_start(more, flags);
        int mode = va_arg(more, int);
        va_end(more);
        return __real_open(path, flags, mode);
    }
    enter();
    for (int i = 0; i < DESCRIPTIONS; i++) {
        if (kernel.descriptions[i].references != 0)
            continue;
        kernel.descriptions[i] =
            (struct description){.references = 1, .owner = sim.now->number, .closes_ns = UINT64_MAX};
        return FIRST_FD + i;
    }
    errno = EMFILE;
    return -1;
}

int __wrap_close(int fd) {
    if (fd < FIRST_FD)
        return __real_close(fd);
    enter();
    struct description *description = description_of(fd);
    if (description != NULL)
        release(description);
    return 0;
}

int __wrap_fstat(int fd, struct stat *out) {
    if (fd < FIRST_FD)
        return __real_fstat(fd, out);
    enter();
    memset(out, 0, sizeof *out);
    out->st_dev = 1;
    out->st_ino = 1;
    return description_of(fd) != NULL ? 0 : -1;
}

int __wrap_stat(const char *path, struct stat *out) {
    (void)path;
    memset(out, 0, sizeof *out);
    return 0;
}

off_t __wrap_lseek(int fd, off_t offset, int whence) {
    struct description *description = description_of(fd);
    if (description == NULL)
        return __real_lseek(fd, offset, whence);
    enter();
    if (whence == SEEK_SET)
        description->position = offset;
    return description->position;
}

static uint8_t lent[CHECK_BYTES] __attribute__((aligned(4096))); /* for lr_check's copy, thousands of times a second */

/* A page of the liveness file has its description's number for an address: nobody touches it. */
void *__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset) {
    if (fd < FIRST_FD) {
        if (sim.logging && flags == (MAP_PRIVATE | MAP_ANONYMOUS) && len <= sizeof lent)
            return lent;
        return __real_mmap(at, len, protection, flags, fd, offset);
    }
    enter();
    struct description *description = description_of(fd);
    if (description == NULL)
        return MAP_FAILED;
    description->references++;
    return (void *)((uintptr_t)(fd - FIRST_FD + 1) << 12);
}

int __wrap_munmap(void *at, size_t len) {
    uintptr_t page = (uintptr_t)at >> 12;
    if (page > 0 && page <= DESCRIPTIONS) {
        enter();
        release(&kernel.descriptions[page - 1]);
        return 0;
    }
    return at == (void *)lent ? 0 : __real_munmap(at, len);
}

int __wrap_madvise(void *at, size_t len, int advice) {
    return (uintptr_t)at >> 12 <= DESCRIPTIONS ? 0 : __real_madvise(at, len, advice);
}

/* ---- locks on bytes --------------------------------------------------------------------------------------------- */

int __wrap_fcntl(int fd, int command, ...) {
    va_list more;
    va_start(more, command);
    struct flock *lock = va_arg(more, struct flock *);
    va_end(more);
    enter();
    struct description *own = description_of(fd);
    const uint32_t slot = (uint32_t)lock->l_start;
    if (own == NULL || slot >= sizeof kernel.holder) {
        errno = EBADF;
        return -1;
    }
    struct description *holder = holder_of(slot);
    const bool others = holder != NULL && holder != own;
    if (sim.tracing)
        sim_trace_note("%s byte %u: %s",
                       command == F_OFD_GETLK    ? "probes"
                       : lock->l_type == F_UNLCK ? "drops"
                                                 : "takes",
                       slot, others ? "held by another" : "free");
    if (command == F_OFD_GETLK) {
        lock->l_type = others ? F_WRLCK : F_UNLCK;
        return 0;
    }
    if (lock->l_type == F_UNLCK) {
        if (holder == own)
            kernel.holder[slot] = 0;
        return 0;
    }
    if (others) {
        errno = EAGAIN;
        return -1;
    }
    kernel.holder[slot] = (uint8_t)(fd - FIRST_FD + 1);
    return 0;
}

/* ---- waiting and time ------------------------------------------------------------------------------------------- */

static uint64_t ns_of(const struct timespec *time) {
    return (uint64_t)time->tv_sec * 1000000000u + (uint64_t)time->tv_nsec;
}

static long futex(uint32_t *word, int operation, uint32_t value, const struct timespec *timeout) {
    enter();
    if (operation == FUTEX_WAKE) {
        unsigned woken = sim_machine_wake((uintptr_t)word, value);
        if (sim.tracing)
            sim_trace_note("futex wake: %u woken", woken);
        return woken;
    }
    uint32_t now;
    memcpy(&now, word, sizeof now);
    if (sim.tracing)
        sim_trace_note("futex wait%s", now != value ? ": the word has changed" : "");
    if (now != value) {
        errno = EAGAIN;
        return -1;
    }
    sim_machine_wait((uintptr_t)word, sim.now_ns + ns_of(timeout));
    if (sim.now->woken)
        return 0;
    errno = ETIMEDOUT;
    return -1;
}

long __wrap_syscall(long number, ...) {
    va_list more;
    va_start(more, number);
    uint32_t *word = va_arg(more, uint32_t *);
    int operation = va_arg(more, int);
    uint32_t value = va_arg(more, uint32_t);
    const struct timespec *timeout = va_arg(more, const struct timespec *);
    va_end(more);
    if (number != SYS_futex) {
        errno = ENOSYS;
        return -1;
    }
    return futex(word, operation, value, timeout);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *out) {
    const bool wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    sim.now_ns += 100;
    uint64_t now = sim.now_ns + (wall ? UNIX_NS : 0);
    out->tv_sec = (time_t)(now / 1000000000u);
    out->tv_nsec = (long)(now % 1000000000u);
    return 0;
}

int __wrap_nanosleep(const struct timespec *request, struct timespec *left) {
    (void)left;
    enter();
    sim_machine_wait(0, sim.now_ns + ns_of(request));
    return 0;
}

int __wrap_sched_yield(void) {
    sim_machine_pause();
    return 0;
}

pid_t __wrap_getpid(void) {
    return (pid_t)sim.now->number + 1;
}
