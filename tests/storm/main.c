/* SPDX-License-Identifier: MIT */
/* larder-storm: rounds of the kill storm (storm.h), and measurements around holders that die or stop (holders.h). */
#include "harness.h"
#include "holders.h"
#include "storm.h"

#include <inttypes.h>

#define QUICK_KILLS UINT64_C(300000)
#define READS_PER_KILL 334u
#define ROUND_KILLS UINT64_C(12000)
#define QUICK_HOLDERS 500u
#define MOST_HOLDERS 1000000u
#define INTERVALS 60u

static const char usage[] =
    "usage: larder-storm [OPTION]...\n"
    "Processes that die by SIGKILL at random instants, on small segments, while others read and judge what they read.\n"
    "  --count N      kills of the storm (default 300000, 0 none)\n"
    "  --reads N      judged reads (default 334 for each kill)\n"
    "  --holders N    kills of lock holders that are timed, in each of two ways (default 500, 0 none)\n"
    "  --seed 0xS     of the run; a round that failed is repeated with --seed and --round as it was printed\n"
    "  --round N      only this round\n"
    "  --jobs N       workers at work at once (default: cores + 1)\n"
    "  --help         this text\n"
    "Exit status: 0 all held, 1 something broke, 2 usage, 77 cannot run here.\n";

struct run {
    uint64_t kills, reads, seed, jobs, holders;
    uint64_t only; /* UINT64_MAX: all */
};

/* Each round another segment; what a round is follows from the run's seed and its number. */
static struct storm_plan plan_of(const struct run *run, uint64_t round) {
    struct fixture_random base = {run->seed}, random = fixture_fork_random(&base, (unsigned)round);
    struct storm_plan plan = {
        .seed = fixture_next(&random), .writers = (unsigned)run->jobs, .readers = 1, .calm_kills = 3000};
    static const struct {
        uint64_t size;
        unsigned stripes, keys, value_max;
    } shapes[] = {
        {128u << 10, 2, 2000, 300}, {128u << 10, 1, 2000, 120},  {256u << 10, 4, 3200, 1200},
        {64u << 10, 1, 900, 900},   {256u << 10, 2, 3000, 2500},
    };
    unsigned shape = (unsigned)fixture_below(&random, sizeof shapes / sizeof *shapes);
    plan.size = shapes[shape].size;
    plan.stripes = shapes[shape].stripes;
    plan.keys = shapes[shape].keys;
    plan.value_max = shapes[shape].value_max;
    plan.life_us = 160;
    plan.join_us = 30;
    plan.replicating = round % 2 == 1;
    return plan;
}

static void add(struct storm_result *total, const struct storm_result *one) {
    uint64_t *to = &total->kills;
    const uint64_t *from = &one->kills;
    for (size_t i = 0; i < offsetof(struct storm_result, broken) / sizeof(uint64_t); i++)
        to[i] += &one->longest_ns == &from[i] ? 0 : from[i];
    if (one->longest_ns > total->longest_ns)
        total->longest_ns = one->longest_ns;
}

static void print_progress(const struct storm_result *total, uint64_t round, double seconds) {
    fprintf(stderr,
            "round %" PRIu64 ": %" PRIu64 " kills (%.0f/s), %.1f %% of them in a critical section, %" PRIu64
            " reads judged\n",
            round, total->kills, (double)total->kills / seconds,
            100.0 * (double)total->takeovers / (double)(total->kills ? total->kills : 1), total->judged);
}

static void print_total(const struct storm_result *total) {
    double kills = (double)(total->kills ? total->kills : 1);
    printf("kills: %" PRIu64 ", %.1f %% inside a critical section (locks taken over from the dead), %" PRIu64
           " before they had joined\n",
           total->kills, 100.0 * (double)total->takeovers / kills, total->joins_killed);
    printf("reads: %" PRIu64 " judged, %" PRIu64 " of them pinned; %" PRIu64 " misses\n", total->judged, total->pinned,
           total->misses);
    printf("changes: %" PRIu64 ", %" PRIu64 " refused for pins; evictions %" PRIu64 ", slides %" PRIu64
           ", splits %" PRIu64 ", expired %" PRIu64 ", displaced %" PRIu64 ", voids %" PRIu64 "\n",
           total->changes, total->refused, total->evictions, total->slides, total->splits, total->expirations,
           total->index_evictions, total->voids);
    printf("repairs: %" PRIu64 " of %.1f us on average, %" PRIu64 " repairers killed, %" PRIu64
           " items dropped; %" PRIu64 " checks of whole segments; longest call %.1f ms\n",
           total->repairs, (double)total->repair_ns / 1000.0 / (double)(total->repairs ? total->repairs : 1),
           total->takeovers > total->repairs ? total->takeovers - total->repairs : 0, total->repair_dropped,
           total->checks, (double)total->longest_ns / 1e6);
}

static bool run_rounds(const struct run *run, struct storm_result *total, double *seconds) {
    const uint64_t began = fixture_now_ns();
    const bool all = run->only == UINT64_MAX;
    const uint64_t rounds = all ? (run->kills + ROUND_KILLS - 1) / ROUND_KILLS : run->only + 1;
    for (uint64_t round = all ? 0 : run->only; round < rounds; round++) {
        struct storm_plan plan = plan_of(run, round);
        struct storm_result one;
        uint64_t left = run->kills - (all ? round * ROUND_KILLS : 0);
        plan.kills = left < ROUND_KILLS ? left : ROUND_KILLS;
        plan.reads = (uint64_t)((double)run->reads / (double)run->kills * (double)plan.kills) + 1;
        bool held = storm_run(&plan, &one);
        add(total, &one);
        *seconds = (double)(fixture_now_ns() - began) / 1e9;
        print_progress(total, round, *seconds);
        if (!held) {
            printf("BROKEN in round %" PRIu64 ": %s\n  again: larder-storm --seed 0x%" PRIx64 " --round %" PRIu64
                   " --jobs %" PRIu64 "\n",
                   round, one.broken, run->seed, round, run->jobs);
            return false;
        }
    }
    return true;
}

/* More than cores, so that some who hold a lock are not running. */
static unsigned default_jobs(void) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 2u : cores >= (long)STORM_WRITERS ? STORM_WRITERS : (unsigned)cores + 1u;
}

static bool run_holders(const struct run *run) {
    const uint64_t began = fixture_now_ns();
    struct holders_plan plan = {.seed = run->seed, .kills = (unsigned)run->holders, .intervals = INTERVALS};
    char broken[400];
    bool held = holders_measure(&plan, broken);
    if (!held)
        printf("BROKEN: %s\n  again: larder-storm --count 0 --seed 0x%" PRIx64 "\n", broken, run->seed);
    printf("GOAL G9 count=%" PRIu64 " unit=kills failures=%d seconds=%.1f seed=0x%" PRIx64 "\n", 2 * run->holders,
           held ? 0 : 1, (double)(fixture_now_ns() - began) / 1e9, run->seed);
    return held;
}

int main(int argc, char **argv) {
    (void)argc;
    struct run run = {.kills = QUICK_KILLS, .only = UINT64_MAX, .jobs = default_jobs(), .holders = QUICK_HOLDERS};
    bool help = false;
    const struct harness_option options[] = {
        {.name = "count", .number = &run.kills},
        {.name = "reads", .number = &run.reads},
        {.name = "holders", .number = &run.holders},
        {.name = "seed", .number = &run.seed},
        {.name = "round", .number = &run.only},
        {.name = "jobs", .number = &run.jobs},
        {.name = "help", .flag = &help},
        {.name = NULL},
    };
    if (!harness_parse(argv, options) || run.holders > MOST_HOLDERS || run.jobs == 0 || run.jobs > STORM_WRITERS)
        return fputs(usage, stderr), 2;
    if (help)
        return fputs(usage, stdout), 0;
    fixture_init();
    if (run.reads == 0)
        run.reads = run.kills * READS_PER_KILL;
    if (run.seed == 0)
        run.seed = fixture_now_ns();
    printf("seed 0x%" PRIx64 "\n", run.seed);
    bool quick = run.holders == 0 || run_holders(&run);
    if (run.kills == 0)
        return quick ? 0 : 1;
    struct storm_result total = {0};
    double seconds = 0;
    bool held = run_rounds(&run, &total, &seconds);
    print_total(&total);
    printf("GOAL G3 count=%" PRIu64 " unit=kills failures=%d seconds=%.1f seed=0x%" PRIx64 "\n", total.kills,
           held ? 0 : 1, seconds, run.seed);
    printf("GOAL G4 count=%" PRIu64 " unit=reads failures=%d seconds=%.1f seed=0x%" PRIx64 "\n", total.judged,
           held ? 0 : 1, seconds, run.seed);
    return held && quick ? 0 : 1;
}
