/* SPDX-License-Identifier: MIT */
/*
 * clang's counters are written at exit(). The children of suites end by _exit() or kill themselves: here both write the
 * counters first. A child that another process kills, or a timer, writes none. Only part of builds with
 * LARDER_COVERAGE.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

int __llvm_profile_write_file(void);
const char *__llvm_profile_get_filename(void);
void __llvm_profile_initialize(void);

static void lift(__rlimit_resource_t which) {
    struct rlimit limit;
    if (getrlimit(which, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(which, &limit);
}

/* Whoever makes a file of counters, all users may add to it. */
__attribute__((constructor)) static void begin(void) {
    mode_t before = umask(0);
    __llvm_profile_initialize();                                   // it may be this file's turn before its
    char *name = (char *)(uintptr_t)__llvm_profile_get_filename(); // ours to free, whatever its type says
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0)
        close(fd);
    free(name);
    (void)umask(before);
}

/* Also where a test has forbidden itself to write files. */
static void dump(void) {
    (void)sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    lift(RLIMIT_FSIZE);
    lift(RLIMIT_NOFILE);
    (void)__llvm_profile_write_file();
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
