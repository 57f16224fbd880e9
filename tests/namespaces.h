/* SPDX-License-Identifier: MIT */
/* Namespaces of Linux, for tests that play containers. Whatever is not permitted here returns false or -1. */
#ifndef NAMESPACES_H
#define NAMESPACES_H

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline bool namespaces_write(const char *file, const char *text) {
    int fd = open(file, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return written;
}

/* Root of its own user namespace, who is outside whoever we are. */
static inline bool namespaces_become_root(void) {
    char users[64], groups[64];
    snprintf(users, sizeof users, "0 %u 1\n", (unsigned)geteuid());
    snprintf(groups, sizeof groups, "0 %u 1\n", (unsigned)getegid());
    return unshare(CLONE_NEWUSER) == 0 && namespaces_write("/proc/self/setgroups", "deny") &&
           namespaces_write("/proc/self/uid_map", users) && namespaces_write("/proc/self/gid_map", groups);
}

/* As fork, but the child is pid 1 of a new PID namespace. */
static inline pid_t namespaces_fork(void) {
    fflush(NULL);
    return (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
}

#endif
