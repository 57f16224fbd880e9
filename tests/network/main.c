/* SPDX-License-Identifier: MIT */
/*
 * larder-network: goal G13, fault schedules of replication. See README.md beside this file.
 *
 * Workers are forked; worker j plays schedules j, j + jobs, ... All stop when FAILURES_MOST have failed.
 */
#include "network.h"

#include "harness.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdatomic.h>

#define JOBS_MAX 256u
#define FAILURES_MOST 3u
#define DEFAULT_COUNT UINT64_C(5000)
#define DEFAULT_SEED UINT64_C(0x1a2de2)
#define PROGRESS_S 5.0

struct options {
    uint64_t count, seconds, seed, jobs;
    uint64_t schedule; /* UINT64_MAX: many */
    unsigned scene;
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

static unsigned scene_of(const char *name) {
    for (unsigned i = 0; i < net_scene_count(); i++)
        if (strcmp(net_scene_name(i), name) == 0)
            return i;
    harness_refuse("no such scene: ", name);
    exit(2);
}

static struct options parse(char **arguments) {
    struct options options = {.count = DEFAULT_COUNT, .seed = DEFAULT_SEED, .schedule = UINT64_MAX};
    const char *scene = NULL;
    bool wants_help = false, lists = false;
    const struct harness_option rows[] = {
        {.name = "count", .number = &options.count},
        {.name = "seconds", .number = &options.seconds},
        {.name = "seed", .number = &options.seed},
        {.name = "jobs", .number = &options.jobs},
        {.name = "scene", .text = &scene},
        {.name = "schedule", .number = &options.schedule},
        {.name = "list", .flag = &lists},
        {.name = "help", .flag = &wants_help},
        {.name = NULL},
    };
    if (!harness_parse(arguments, rows))
        exit(2);
    if (wants_help)
        fputs(help, stdout);
    for (unsigned i = 0; lists && i < net_scene_count(); i++)
        puts(net_scene_name(i));
    if (wants_help || lists)
        exit(0);
    options.scene = scene == NULL ? net_scene_count() : scene_of(scene);
    options.jobs = options.jobs == 0 ? harness_cores() : options.jobs;
    options.jobs = options.jobs < JOBS_MAX ? options.jobs : JOBS_MAX;
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
    for (uint64_t left = options->jobs; left > 0;) {
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
    fprintf(stderr, "larder-network: seed 0x%" PRIx64 ", %" PRIu64 " workers\n", options->seed, options->jobs);
    for (unsigned i = 0; i < options->jobs; i++) {
        workers[i] = fork();
        if (workers[i] < 0) {
            perror("larder-network: fork");
            exit(1);
        }
        if (workers[i] == 0) {
            work(options, shared, i, options->seconds != 0 ? began + (double)options->seconds : 0);
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
    return options.schedule != UINT64_MAX ? play_one(&options) : play_many(&options);
}
