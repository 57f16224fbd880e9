/* SPDX-License-Identifier: MIT */
/* The watcher of growth.h. */
#include "growth.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define EVERY_US 100000u

/* Bytes that the largest nameless file of the process has. */
static uint64_t allocated(pid_t process) {
    char folder[64];
    uint64_t most = 0;
    snprintf(folder, sizeof folder, "/proc/%ld/fd", (long)process);
    DIR *list = opendir(folder);
    for (struct dirent *entry; list != NULL && (entry = readdir(list)) != NULL;) {
        struct stat facts;
        if (fstatat(dirfd(list), entry->d_name, &facts, 0) == 0 && S_ISREG(facts.st_mode) && facts.st_nlink == 0 &&
            (uint64_t)facts.st_blocks * 512u > most)
            most = (uint64_t)facts.st_blocks * 512u;
    }
    if (list != NULL)
        closedir(list);
    return most;
}

pid_t growth_watch(uint64_t bytes) {
    pid_t self = getpid();
    fflush(NULL);
    fprintf(stderr, "\rallocated   0 %%");
    pid_t watcher = fork();
    if (watcher != 0)
        return watcher > 0 ? watcher : 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (getppid() == self) {
        uint64_t done = allocated(self);
        if (done < bytes)
            fprintf(stderr, "\rallocated %3u %%\033[K", (unsigned)(done * 100u / bytes));
        else
            fprintf(stderr, "\rallocated, making huge pages of it\033[K");
        usleep(EVERY_US);
    }
    _exit(0);
}

void growth_end(pid_t watcher) {
    if (watcher == 0)
        return;
    kill(watcher, SIGKILL);
    while (waitpid(watcher, NULL, 0) < 0 && errno == EINTR)
        continue;
    fprintf(stderr, "\r\033[K");
}
