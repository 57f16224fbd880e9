/* SPDX-License-Identifier: MIT */
/*
 * Two creators of one name start together and carry a timer that kills them; a third process attaches to the name over
 * and over. After each round: nothing half-made, and all is as if nobody had died.
 */
#include "storm.h"

#include "spot.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define PATIENCE_S 30u

static uint64_t below(uint64_t *random, uint64_t n) {
    uint64_t x = *random += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (x ^ (x >> 31)) % n;
}

static void be_creator(struct spot *spot, uint64_t after_ns) {
    struct lr_cache *cache;
    timer_t timer;
    struct sigevent kill_me = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec when = {.it_value.tv_nsec = (long)after_ns + 1};
    alarm(PATIENCE_S);
    if (timer_create(CLOCK_MONOTONIC, &kill_me, &timer) != 0 || timer_settime(timer, 0, &when, NULL) != 0)
        _exit(1);
    (void)lr_cache_create(&spot->options, &cache, NULL);
    _exit(0);
}

/* Meets the name at any moment: a whole, healthy segment, or a word that says why not. */
static void be_attacher(struct spot *spot, struct storm_totals *totals, _Atomic bool *over) {
    while (!atomic_load(over)) {
        struct lr_cache *cache;
        struct lr_check check;
        char why[LR_WHY_BYTES];
        int error = lr_cache_attach(&spot->options, &cache, why);
        atomic_fetch_add(&totals->looked, 1);
        if (error == LARDER_ENO_SEGMENT || error == LARDER_ERETIRED) {
            struct timespec pause = {.tv_nsec = 50000};
            nanosleep(&pause, NULL);
            continue;
        }
        if (error == 0) {
            error = lr_check(cache, &check);
            lr_cache_detach(cache);
            atomic_fetch_add(&totals->attached, 1);
            if (error == 0)
                continue;
            snprintf(why, sizeof why, "%s", check.first[0]);
        }
        printf("FAILED an attacher met %s: %s\n", lr_error_name(error), why);
        atomic_fetch_add(&totals->failures, 1);
        _exit(0);
    }
    _exit(0);
}

static void wait_for(pid_t child, struct storm_totals *totals) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
        atomic_fetch_add(&totals->killed, 1);
    } else if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        atomic_fetch_add(&totals->finished, 1);
    } else {
        printf("FAILED a creator ended with status %x\n", (unsigned)status);
        atomic_fetch_add(&totals->failures, 1);
    }
}

static uint64_t usual_ns(struct spot *spot) {
    struct timespec a, b;
    struct lr_cache *cache;
    clock_gettime(CLOCK_MONOTONIC, &a);
    if (lr_cache_create(&spot->options, &cache, NULL) == 0)
        lr_cache_detach(cache);
    clock_gettime(CLOCK_MONOTONIC, &b);
    (void)lr_cache_destroy(&spot->options, NULL);
    return (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u + (uint64_t)b.tv_nsec - (uint64_t)a.tv_nsec;
}

static void play_round(struct spot *spot, struct storm_totals *totals, uint64_t usual, uint64_t *random) {
    char why[LR_WHY_BYTES] = "";
    pid_t children[2];
    for (unsigned i = 0; i < 2; i++) {
        uint64_t after_ns = below(random, 3 * usual);
        children[i] = fork();
        if (children[i] == 0)
            be_creator(spot, after_ns);
    }
    for (unsigned i = 0; i < 2; i++)
        wait_for(children[i], totals);
    unsigned left = spot_exists(spot->path) ? LEFT_SEGMENT : spot_exists(spot->live) ? LEFT_LIVE_ALONE : LEFT_NOTHING;
    atomic_fetch_add(&totals->left[left], 1);
    const char *fault = spot_fault(spot, why);
    if (fault != NULL) {
        printf("FAILED after a round: %s: %s\n", fault, why);
        atomic_fetch_add(&totals->failures, 1);
    }
}

void storm_of_creators(struct storm_totals *totals, uint64_t seed, uint64_t count) {
    struct spot spot;
    _Atomic bool *over = mmap(NULL, sizeof *over, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    spot_choose(&spot, "storm");
    uint64_t usual = usual_ns(&spot);
    fflush(NULL);
    pid_t attacher = fork();
    if (attacher == 0)
        be_attacher(&spot, totals, over);
    while (atomic_load(&totals->killed) < count && atomic_load(&totals->failures) == 0)
        play_round(&spot, totals, usual, &seed);
    atomic_store(over, true);
    int status = 0;
    if (waitpid(attacher, &status, 0) != attacher || status != 0) {
        printf("FAILED the attacher ended with status %x\n", (unsigned)status);
        atomic_fetch_add(&totals->failures, 1);
    }
}

void storm_tell(struct storm_totals *totals) {
    printf("G11: %" PRIu64 " killed, %" PRIu64 " came to their end; left: nothing %" PRIu64
           ", the liveness file alone %" PRIu64 ", a segment %" PRIu64 "; attached %" PRIu64 " of %" PRIu64 " times\n",
           atomic_load(&totals->killed), atomic_load(&totals->finished), atomic_load(&totals->left[LEFT_NOTHING]),
           atomic_load(&totals->left[LEFT_LIVE_ALONE]), atomic_load(&totals->left[LEFT_SEGMENT]),
           atomic_load(&totals->attached), atomic_load(&totals->looked));
    for (unsigned i = 0; i < LEFT_KINDS; i++)
        if (i != LEFT_LIVE_ALONE && atomic_load(&totals->left[i]) == 0) {
            puts("FAILED the kills all came early, or all late");
            atomic_fetch_add(&totals->failures, 1);
        }
}
