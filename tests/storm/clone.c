/* SPDX-License-Identifier: MIT */
/*
 * Workers that share their nursery's memory (CLONE_VM), as the children of larder-crash do: processes of their own,
 * whom SIGKILL takes as any other, but born without page tables to copy, living without page faults and dying without a
 * mapping to take down. That is half of what a worker costs, and none of it says anything about the segment.
 *
 * What a process has for itself is made as fork would have made it: the nursery, which sleeps until the worker is dead
 * (CLONE_VFORK), puts its handle back as it was before the first birth, and wipes the page that fork wipes. So each
 * worker joins anew, with descriptors and a lock byte of its own. Two things that the engine asks of the kernel are
 * answered here (the linker's --wrap):
 *
 * 1. The page that keeps the liveness file open would outlive the worker in the shared memory, and its byte with it. A
 *    descriptor keeps it open instead: the kernel closes it when the worker dies, and lets the byte go.
 *
 * 2. The clock's offset, and the name of the PID namespace, are the nursery's. A look into /proc/self costs a process
 *    that has just been born as much as all else that it does to join.
 */
#include "storm.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "attachment.h"

#define STACK_BYTES (256u << 10)

/* Of this nursery. */
static struct lr_cache unborn;    /* its handle, before the first birth */
static struct stat pid_namespace; /* of it */
static void *page;                /* stands for the one that keeps the liveness file open */
static bool in_worker;            /* set by the worker itself: clone is declared as calling nothing of ours */
static uint8_t stack[STACK_BYTES] __attribute__((aligned(16)));

void *__real_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
int __real_stat(const char *path, struct stat *out);
int __wrap_stat(const char *path, struct stat *out);
int __real_lr_clock_init(struct lr_cache *cache, char *why);
int __wrap_lr_clock_init(struct lr_cache *cache, char *why);

void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    if (!in_worker || protection != PROT_NONE || flags != MAP_SHARED)
        return __real_mmap(at, bytes, protection, flags, fd, offset);
    return fcntl(fd, F_DUPFD_CLOEXEC, 0) >= 0 ? page : MAP_FAILED;
}

int __wrap_stat(const char *path, struct stat *out) {
    if (!in_worker || strcmp(path, "/proc/self/ns/pid") != 0)
        return __real_stat(path, out);
    *out = pid_namespace;
    return 0;
}

int __wrap_lr_clock_init(struct lr_cache *cache, char *why) {
    return in_worker ? 0 : __real_lr_clock_init(cache, why);
}

void storm_expect(struct storm *storm) {
    unborn = *storm->cache;
    page = __real_mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || __real_stat("/proc/self/ns/pid", &pid_namespace) != 0)
        storm_fail(storm->board, "a nursery: %s", strerror(errno));
}

struct life {
    struct storm *storm;
    unsigned number;
    uint64_t seed;
};

static int begin(void *context) {
    const struct life *life = context;
    in_worker = true;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* one that is stuck ends with its nursery */
    _exit(storm_worker(life->storm, life->number, life->seed));
}

int storm_live(struct storm *storm, unsigned number, uint64_t seed) {
    struct life life = {storm, number, seed};
    int status = 0;
    *storm->cache = unborn;
    memset(storm->cache->self, 0, sizeof *storm->cache->self);
    pid_t child = clone(begin, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &life);
    in_worker = false;
    return child > 0 && waitpid(child, &status, 0) == child ? status : -1;
}
