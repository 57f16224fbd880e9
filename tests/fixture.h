/* SPDX-License-Identifier: MIT */
/*
 * What every suite needs: a segment that is mapped twice, children that report by exit status, random numbers that can
 * be repeated, and a clean machine afterwards.
 *
 * Rules:
 *  1. A segment is mapped at two addresses (`one`, `two`), so that a stored pointer cannot survive a suite. Put with
 *     one, get with the other. ThreadSanitizer needs one mapping: there use `one` only.
 *  2. Every scenario ends with fixture_destroy or fixture_check: the segment must be healthy.
 *  3. CUnit's assertions count in the process and thread that called CU_run_all_tests only. Children use CHILD_EXPECT
 * and return 0; threads report through their argument.
 *  4. Names and folders come from here; whatever a test leaves under them is removed when the runner exits.
 */
#ifndef FIXTURE_H
#define FIXTURE_H

#include "cache.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

/* Built with a sanitizer: for tests that count rounds. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FIXTURE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FIXTURE_SANITIZED 1
#endif
#endif
#ifndef FIXTURE_SANITIZED
#define FIXTURE_SANITIZED 0
#endif
#if defined(__SANITIZE_THREAD__)
#define FIXTURE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FIXTURE_TSAN 1
#endif
#endif
#ifndef FIXTURE_TSAN
#define FIXTURE_TSAN 0
#endif

/* Called once by main: clean-up at exit, and of what a killed run left behind. */
void fixture_init(void);

/* ---- segments ------------------------------------------------------------------------------------------------- */

struct fixture {
    struct lr_options options; /* as the segment was created; `name` points at the field below */
    char name[65];
    struct lr_cache *one;
    struct lr_cache *two; /* the same segment at another address */
};

/* A segment name that nobody else uses. */
void fixture_name(char out[65]);
/* Creates and maps a segment; fails the test, fatally, if it cannot. Zero `name` and `path`: a unique name is made. */
void fixture_create(struct fixture *fixture, uint64_t size);
void fixture_create_with(struct fixture *fixture, const struct lr_options *options);
/* One more handle of the same segment. The caller detaches it. */
struct lr_cache *fixture_attach(const struct fixture *fixture);
/* Fails the test with the findings unless the segment is healthy. */
void fixture_check(struct lr_cache *cache);
/* Checks, detaches both handles and destroys the segment. */
void fixture_destroy(struct fixture *fixture);

/* ---- children ------------------------------------------------------------------------------------------------- */

/* Exit status of a child: 0 to 255 as it exited, or minus the signal that killed it. */

/* Forks; the child returns body(context) as its exit status, and is killed by SIGALRM after two minutes. */
pid_t fixture_start(int (*body)(void *context), void *context);
int fixture_wait(pid_t child);
/* Both. */
int fixture_child(int (*body)(void *context), void *context);

/* In a child: when the condition is false, say where and exit with 99. */
#define CHILD_EXPECT(condition)                                                                                        \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "\n    child %ld: %s:%d: %s\n", (long)getpid(), __FILE__, __LINE__, #condition);           \
            _exit(99);                                                                                                 \
        }                                                                                                              \
    } while (0)

/*
 * Runs a shell command with nothing on its standard input; its output and errors go to out[0, cap), NUL-terminated and
 * cut if too long. Returns the exit status as above.
 */
int fixture_run(const char *command, char *out, size_t cap);
/* A TCP port of the loopback address that nobody uses now, another one each time. Not one of those that the kernel
 * gives to outgoing connections: a host that is started anew would find its own taken. */
unsigned fixture_port(void);
/* Path of a program of this build ("larder", "larderd"), static until the next call. */
const char *fixture_program(const char *name);
/* A private folder, removed with all in it when the runner exits. */
const char *fixture_folder(void);

/* ---- random numbers and time ---------------------------------------------------------------------------------- */

struct fixture_random {
    uint64_t state;
};
/* Prints the seed with `what`; LARDER_TEST_SEED in the environment repeats a run. */
struct fixture_random fixture_seed(const char *what);
/* For a child or thread `n` of a seeded run: another stream. */
struct fixture_random fixture_fork_random(struct fixture_random *random, unsigned n);
uint64_t fixture_next(struct fixture_random *random);
/* 0 to n - 1; n > 0. */
uint64_t fixture_below(struct fixture_random *random, uint64_t n);

uint64_t fixture_now_ns(void);
void fixture_sleep_ms(unsigned ms);

/* ---- skipping ------------------------------------------------------------------------------------------------- */

/* For a test that cannot run here: says so now and again at the end. Call it and return. */
void fixture_skip(const char *test, const char *why);
void fixture_print_skips(void);

#endif
