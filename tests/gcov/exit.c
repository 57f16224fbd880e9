/* SPDX-License-Identifier: MIT */
/*
 * gcov writes its counters at exit(). The children of suites end by _exit() or kill themselves: here both write the
 * counters first. A child that another process kills, or a timer, writes none. Only part of builds with
 * LARDER_COVERAGE.
 */
#include <gcov.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static void lift(__rlimit_resource_t which) {
    struct rlimit limit;
    if (getrlimit(which, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(which, &limit);
}

/* Also where a test has forbidden itself to write files. */
static void dump(void) {
    (void)sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    lift(RLIMIT_FSIZE);
    lift(RLIMIT_NOFILE);
    __gcov_dump();
}

__attribute__((noreturn)) void _exit(int status) {
    dump();
    for (;;)
        syscall(SYS_exit_group, status);
}

int kill(pid_t pid, int signal) {
    if (signal == SIGKILL && pid == getpid())
        dump();
    return (int)syscall(SYS_kill, pid, signal);
}

int raise(int signal) {
    if (signal == SIGKILL)
        dump();
    return (int)syscall(SYS_tgkill, getpid(), gettid(), signal);
}
