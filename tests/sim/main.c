/* SPDX-License-Identifier: MIT */
/*
 * larder-sim: many schedules of the real core, each from its seed and number.
 *
 * Workers are forked; worker j plays blocks j, j + jobs, ... of BLOCK schedules. All stop at the first failure of any.
 */
#include "sim.h"

#include "harness.h"

#include <inttypes.h>
#include <limits.h>

#define BLOCK 4096u
#define JOBS_MAX 256u
#define DEFAULT_COUNT UINT64_C(5000000)
#define DEFAULT_SEED UINT64_C(0x1a2de2)
#define PROGRESS_S 5u

int __real_clock_gettime(clockid_t clock, struct timespec *out);

struct options {
    uint64_t count, seconds, seed, jobs;
    uint64_t schedule; /* UINT64_MAX: many */
    unsigned only;
    bool trace;
};

struct shared { /* by the workers */
    _Atomic uint64_t played[JOBS_MAX];
    _Atomic uint32_t failures;
};

static const char help[] = "usage: larder-sim [--count N | --seconds S] [--seed 0xS] [--jobs N] [--scenario NAME]\n"
                           "       larder-sim --seed 0xS --schedule N [--scenario NAME] [--trace]\n"
                           "       larder-sim --list\n"
                           "Plays schedules of the cache's core: simulated processes, switched, killed and stopped "
                           "between any two accesses to\n"
                           "the segment, with store buffers. A schedule follows from the seed and its number.\n"
                           "  --count N        schedules (default 5000000)\n"
                           "  --seconds S      as many as that time allows\n"
                           "  --seed 0xS       another run (default 0x1a2de2)\n"
                           "  --jobs N         worker processes (default: cores)\n"
                           "  --scenario NAME  only that one; --list names them\n"
                           "  --schedule N     this one schedule alone\n"
                           "  --trace          print every access of it\n"
                           "Exit status: 0 all held, 1 a schedule failed, 2 usage.\n";

static double now_s(void) {
    struct timespec now;
    __real_clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- options ---------------------------------------------------------------------------------------------------- */

static unsigned scenario_of(const char *name) {
    for (unsigned i = 0; i < sim_scenario_count(); i++)
        if (strcmp(sim_scenario_name(i), name) == 0)
            return i;
    harness_refuse("no such scenario: ", name);
    exit(2);
}

static struct options parse(char **arguments) {
    struct options options = {.count = DEFAULT_COUNT, .seed = DEFAULT_SEED, .schedule = UINT64_MAX, .only = UINT_MAX};
    const char *scenario = NULL;
    bool wants_help = false, lists = false;
    const struct harness_option rows[] = {
        {.name = "count", .number = &options.count}, {.name = "seconds", .number = &options.seconds},
        {.name = "seed", .number = &options.seed},   {.name = "jobs", .number = &options.jobs},
        {.name = "scenario", .text = &scenario},     {.name = "schedule", .number = &options.schedule},
        {.name = "trace", .flag = &options.trace},   {.name = "list", .flag = &lists},
        {.name = "help", .flag = &wants_help},       {.name = NULL},
    };
    if (!harness_parse(arguments, rows))
        exit(2);
    if (wants_help)
        fputs(help, stdout);
    for (unsigned i = 0; lists && i < sim_scenario_count(); i++)
        puts(sim_scenario_name(i));
    if (wants_help || lists)
        exit(0);
    if (options.trace && options.schedule == UINT64_MAX) {
        harness_refuse("--trace wants --schedule", "");
        exit(2);
    }
    options.only = scenario == NULL ? UINT_MAX : scenario_of(scenario);
    options.jobs = options.jobs == 0 ? harness_cores() : options.jobs;
    options.jobs = options.jobs < JOBS_MAX ? options.jobs : JOBS_MAX;
    return options;
}

/* ---- playing ---------------------------------------------------------------------------------------------------- */

static void report(const struct options *options, uint64_t schedule, unsigned scenario) {
    fprintf(stderr,
            "\nlarder-sim: schedule %" PRIu64 " (%s) fails: %s\n  replay: larder-sim --seed 0x%" PRIx64
            " --schedule %" PRIu64 "%s%s --trace\n",
            schedule, sim_scenario_name(scenario), sim.failure, options->seed, schedule,
            options->only == UINT_MAX ? "" : " --scenario ",
            options->only == UINT_MAX ? "" : sim_scenario_name(scenario));
}

static int play_one(const struct options *options) {
    unsigned scenario;
    sim.tracing = options->trace;
    bool held = sim_scenario_play(options->schedule, options->only, &scenario);
    sim.tracing = false;
    fflush(stdout);
    if (!held)
        report(options, options->schedule, scenario);
    else
        printf("schedule %" PRIu64 " (%s) holds\n", options->schedule, sim_scenario_name(scenario));
    return held ? 0 : 1;
}

static void work(const struct options *options, struct shared *shared, unsigned worker, double until) {
    for (uint64_t block = worker; block * BLOCK < options->count; block += options->jobs) {
        for (uint64_t i = 0; i < BLOCK && block * BLOCK + i < options->count; i++) {
            unsigned scenario;
            bool held = sim_scenario_play(block * BLOCK + i, options->only, &scenario);
            atomic_fetch_add_explicit(&shared->played[worker], 1, memory_order_relaxed);
            if (!held) {
                atomic_fetch_add(&shared->failures, 1);
                report(options, block * BLOCK + i, scenario);
            }
            if ((i & 255) == 0 && (atomic_load(&shared->failures) > 0 || (until > 0 && now_s() > until)))
                return;
            if (!held)
                return;
        }
    }
}

static uint64_t total(const struct shared *shared) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < JOBS_MAX; i++)
        sum += atomic_load_explicit(&shared->played[i], memory_order_relaxed);
    return sum;
}

/* Waits for all workers. One that dies is a failure. */
static void oversee(struct shared *shared, uint64_t jobs, double began) {
    uint64_t left = jobs;
    double next = began + PROGRESS_S;
    while (left > 0) {
        int status;
        pid_t done = waitpid(-1, &status, WNOHANG);
        if (done > 0) {
            left--;
            if (status != 0) {
                fprintf(stderr, "larder-sim: worker %d died with status %x\n", (int)done, (unsigned)status);
                atomic_fetch_add(&shared->failures, 1);
            }
            continue;
        }
        usleep(20000);
        if (now_s() >= next) {
            fprintf(stderr, "larder-sim: %" PRIu64 " schedules, %.0f s\n", total(shared), now_s() - began);
            next += PROGRESS_S;
        }
    }
}

static int play_many(struct options *options) {
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("larder-sim: mmap");
        return 1;
    }
    const double began = now_s();
    if (options->seconds != 0)
        options->count = UINT64_MAX / 2;
    fprintf(stderr, "larder-sim: seed 0x%" PRIx64 ", %" PRIu64 " workers, %u scenarios\n", options->seed, options->jobs,
            options->only == UINT_MAX ? sim_scenario_count() : 1);
    for (unsigned i = 0; i < options->jobs; i++) {
        pid_t child = fork();
        if (child < 0) {
            perror("larder-sim: fork");
            options->jobs = i;
            atomic_fetch_add(&shared->failures, 1);
            break;
        }
        if (child == 0) {
            work(options, shared, i, options->seconds != 0 ? began + (double)options->seconds : 0);
            _exit(0);
        }
    }
    oversee(shared, options->jobs, began);
    printf("GOAL G5 count=%" PRIu64 " unit=schedules failures=%u seconds=%.1f seed=0x%" PRIx64 "\n", total(shared),
           atomic_load(&shared->failures), now_s() - began, options->seed);
    return atomic_load(&shared->failures) == 0 ? 0 : 1;
}

int main(int count, char **arguments) {
    (void)count;
    struct options options = parse(arguments);
    sim_machine_init();
    sim.now_ns = UINT64_C(10000000000);
    sim_world_init();
    sim_scenario_init(options.seed, options.only);
    return options.schedule != UINT64_MAX ? play_one(&options) : play_many(&options);
}
