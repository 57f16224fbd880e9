/* SPDX-License-Identifier: MIT */
/*
 * What the harness programs share: a command line of `--name VALUE` and `--name`, jobs that are forked and waited for,
 * memory that they share.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HARNESS_MAX_JOBS 256u
#define HARNESS_TELL_NS UINT64_C(5000000000)

/* A row has one of the three; the table ends with a row without a name. */
struct harness_option {
    const char *name; /* without the dashes */
    uint64_t *number; /* decimal, or 0x... */
    const char **text;
    bool *flag;
};

static inline bool harness_refuse(const char *what, const char *which) {
    fprintf(stderr, "%s: %s%s; see %s --help\n", program_invocation_short_name, what, which,
            program_invocation_short_name);
    return false;
}

/* False: a word that is none of them, a value that is missing or no number, as has been said. */
static inline bool harness_parse(char **argv, const struct harness_option *options) {
    for (argv++; *argv != NULL; argv++) {
        const struct harness_option *row = options;
        while (row->name != NULL && (strncmp(*argv, "--", 2) != 0 || strcmp(*argv + 2, row->name) != 0))
            row++;
        if (row->name == NULL)
            return harness_refuse("unknown option ", *argv);
        if (row->flag != NULL) {
            *row->flag = true;
            continue;
        }
        if (*++argv == NULL)
            return harness_refuse("a value is missing behind ", argv[-1]);
        if (row->text != NULL) {
            *row->text = *argv;
            continue;
        }
        char *end;
        errno = 0;
        *row->number = strtoull(*argv, &end, 0);
        if (errno != 0 || end == *argv || *end != 0)
            return harness_refuse("not a number: ", *argv);
    }
    return true;
}

static inline uint64_t harness_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t harness_seed(void) {
    uint64_t seed;
    return getrandom(&seed, sizeof seed, 0) == (ssize_t)sizeof seed ? seed : harness_now_ns();
}

static inline uint64_t harness_cores(void) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : (uint64_t)cores;
}

/* Zeros that children will share. */
static inline void *harness_share(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return memory;
}

/* Forks so many processes that do `job`, and calls `tell` every few seconds until all have ended. How many of them did
 * not end well: that has been printed. */
static inline unsigned harness_run_jobs(unsigned jobs, void (*job)(const void *work), void (*tell)(const void *work),
                                        const void *work) {
    unsigned left = 0, died = 0;
    uint64_t told_ns = harness_now_ns();
    fflush(NULL);
    for (unsigned i = 0; i < jobs; i++) {
        pid_t child = fork();
        if (child == 0) {
            job(work);
            fflush(stdout);
            _exit(0);
        }
        left += child > 0;
        died += child < 0;
    }
    while (left > 0) {
        int status = 0;
        pid_t child = waitpid(-1, &status, WNOHANG);
        if (child > 0) {
            left--;
            if (status != 0) {
                printf("FAILED a job died: status %x\n", (unsigned)status);
                died++;
            }
            continue;
        }
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        if (harness_now_ns() - told_ns > HARNESS_TELL_NS) {
            told_ns = harness_now_ns();
            tell(work);
        }
    }
    return died;
}

#endif
