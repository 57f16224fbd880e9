/* SPDX-License-Identifier: MIT */
/*
 * larder-network: goal G13, fault schedules of replication. See README.md beside this file.
 *
 * Workers are forked; worker j plays schedules j, j + jobs, ... All stop when FAILURES_MOST have failed.
 */
#include "network.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOBS_MAX 256u
#define FAILURES_MOST 3u
#define DEFAULT_COUNT UINT64_C(5000)
#define DEFAULT_SEED UINT64_C(0x1a2de2)
#define PROGRESS_S 5.0

struct options {
    uint64_t count, seed, schedule;
    unsigned seconds, jobs, scene;
    bool one;
};

struct shared { /* by the workers */
    _Atomic uint64_t played[JOBS_MAX], current[JOBS_MAX];
    _Atomic uint64_t digest;
    _Atomic uint32_t failures;
};

static struct net_run run; /* large */

static const char help[] =
    "usage: larder-network [--count N | --seconds S] [--seed 0xS] [--jobs N] [--scene NAME]\n"
    "       larder-network --seed 0xS --schedule N [--scene NAME]\n"
    "       larder-network --list\n"
    "Plays fault schedules of replication: real segments and sidecars on a simulated network with a virtual clock.\n"
    "A schedule follows from the seed and its number.\n"
    "  --count N     schedules (default 5000)\n"
    "  --seconds S   as many as that time allows\n"
    "  --seed 0xS    another run (default 0x1a2de2)\n"
    "  --jobs N      worker processes (default: cores)\n"
    "  --scene NAME  only that one; --list names them\n"
    "  --schedule N  this one alone, with a log of what happens (and the daemons' own on standard error)\n"
    "Exit status: 0 all held, 1 a schedule failed, 2 usage.\n";

static double now_s(void) {
    return (double)fixture_now_ns() / 1e9;
}

/* ---- options ---------------------------------------------------------------------------------------------------- */

static void usage(const char *what, const char *which) {
    fprintf(stderr, "larder-network: %s%s; see larder-network --help\n", what, which);
    exit(2);
}

static uint64_t number_of(const char *text, const char *option) {
    char *end;
    if (text == NULL)
        usage("a number is missing behind ", option);
    errno = 0;
    uint64_t number = strtoull(text, &end, 0);
    if (errno != 0 || end == text || *end != 0)
        usage("not a number: ", text);
    return number;
}

static unsigned scene_of(const char *name) {
    for (unsigned i = 0; name != NULL && i < net_scene_count(); i++)
        if (strcmp(net_scene_name(i), name) == 0)
            return i;
    usage("no such scene: ", name == NULL ? "" : name);
    return 0;
}

static void take_number(struct options *options, const char *option, uint64_t number) {
    if (strcmp(option, "--count") == 0)
        options->count = number;
    else if (strcmp(option, "--seconds") == 0)
        options->seconds = (unsigned)number;
    else if (strcmp(option, "--seed") == 0)
        options->seed = number;
    else if (strcmp(option, "--jobs") == 0)
        options->jobs = number > JOBS_MAX ? JOBS_MAX : (unsigned)number;
    else if (strcmp(option, "--schedule") == 0)
        options->schedule = number, options->one = true;
    else
        usage("unknown option ", option);
}

static struct options parse(char **argument) {
    struct options options = {.count = DEFAULT_COUNT, .seed = DEFAULT_SEED, .scene = net_scene_count()};
    for (argument++; *argument != NULL; argument++) {
        const char *option = *argument;
        if (strcmp(option, "--help") == 0) {
            fputs(help, stdout);
            exit(0);
        } else if (strcmp(option, "--list") == 0) {
            for (unsigned i = 0; i < net_scene_count(); i++)
                puts(net_scene_name(i));
            exit(0);
        } else if (strcmp(option, "--scene") == 0) {
            options.scene = scene_of(*++argument);
        } else {
            take_number(&options, option, number_of(argument[1], option));
            argument++;
        }
    }
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (options.jobs == 0)
        options.jobs = cores < 1 ? 1 : cores > (long)JOBS_MAX ? JOBS_MAX : (unsigned)cores;
    return options;
}

/* ---- playing ---------------------------------------------------------------------------------------------------- */

static void tell_replay(const struct options *options, uint64_t schedule) {
    bool any = options->scene == net_scene_count();
    fprintf(stderr, "  replay: larder-network --seed 0x%" PRIx64 " --schedule %" PRIu64 "%s%s\n", options->seed,
            schedule, any ? "" : " --scene ", any ? "" : net_scene_name(options->scene));
}

static bool play(const struct options *options, uint64_t schedule) {
    bool held = net_play(&run, options->seed, schedule, options->scene);
    if (!held) {
        fprintf(stderr, "\nlarder-network: schedule %" PRIu64 " (%s) fails: %s\n", schedule, run.plan.scene,
                run.failure);
        tell_replay(options, schedule);
    }
    return held;
}

static int play_one(const struct options *options) {
    net_logging = true;
    bool held = play(options, options->schedule);
    printf("schedule %" PRIu64 " (%s) %s, digest 0x%016" PRIx64 "\n", options->schedule, run.plan.scene,
           held ? "holds" : "fails", run.digest);
    return held ? 0 : 1;
}

static void work(const struct options *options, struct shared *shared, unsigned worker, double until) {
    for (uint64_t schedule = worker; schedule < options->count; schedule += options->jobs) {
        atomic_store(&shared->current[worker], schedule);
        if (!play(options, schedule))
            atomic_fetch_add(&shared->failures, 1);
        atomic_fetch_add(&shared->digest, run.digest);
        atomic_fetch_add(&shared->played[worker], 1);
        if (atomic_load(&shared->failures) >= FAILURES_MOST || (until > 0 && now_s() > until))
            return;
    }
}

static uint64_t total(const struct shared *shared) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < JOBS_MAX; i++)
        sum += atomic_load(&shared->played[i]);
    return sum;
}

/* Waits for all workers. One that dies is a failure. */
static void oversee(const struct options *options, struct shared *shared, const pid_t *workers, double began) {
    double next = began + PROGRESS_S;
    for (unsigned left = options->jobs; left > 0;) {
        int status;
        pid_t done = waitpid(-1, &status, WNOHANG);
        if (done > 0) {
            left--;
            for (unsigned i = 0; i < options->jobs && status != 0; i++)
                if (workers[i] == done) {
                    fprintf(stderr, "\nlarder-network: a worker died with status %x in schedule %" PRIu64 "\n",
                            (unsigned)status, atomic_load(&shared->current[i]));
                    tell_replay(options, atomic_load(&shared->current[i]));
                    atomic_fetch_add(&shared->failures, 1);
                }
            continue;
        }
        usleep(20000);
        if (now_s() >= next) {
            fprintf(stderr, "larder-network: %" PRIu64 " schedules, %.0f s\n", total(shared), now_s() - began);
            next += PROGRESS_S;
        }
    }
}

static int play_many(struct options *options) {
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t workers[JOBS_MAX];
    const double began = now_s();
    if (shared == MAP_FAILED) {
        perror("larder-network: mmap");
        return 1;
    }
    if (options->seconds != 0)
        options->count = UINT64_MAX / 2;
    fprintf(stderr, "larder-network: seed 0x%" PRIx64 ", %u workers\n", options->seed, options->jobs);
    for (unsigned i = 0; i < options->jobs; i++) {
        workers[i] = fork();
        if (workers[i] < 0) {
            perror("larder-network: fork");
            exit(1);
        }
        if (workers[i] == 0) {
            work(options, shared, i, options->seconds != 0 ? began + options->seconds : 0);
            _exit(0);
        }
    }
    oversee(options, shared, workers, began);
    printf("larder-network: digest 0x%016" PRIx64 "\n", atomic_load(&shared->digest));
    printf("GOAL G13 count=%" PRIu64 " unit=schedules failures=%u seconds=%.1f seed=0x%" PRIx64 "\n", total(shared),
           atomic_load(&shared->failures), now_s() - began, options->seed);
    return atomic_load(&shared->failures) == 0 ? 0 : 1;
}

int main(int count, char **arguments) {
    (void)count;
    struct options options = parse(arguments);
    /* Memory comes and goes in the same sizes; giving it back costs more than all else. */
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 512 << 20);
    net_plan_init();
    net_segments_init();
    return options.one ? play_one(&options) : play_many(&options);
}
