/* SPDX-License-Identifier: MIT */
/*
 * larder-hosts: goal G13R, replication over real networks with faults. See README.md beside this file.
 *
 * Jobs are forked; job j plays runs j, j + jobs, ... All stop when FAILURES_MOST have failed.
 */
#include "hosts.h"

#include "harness.h"

#include <inttypes.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define DEFAULT_COUNT UINT64_C(6)
#define DEFAULT_SEED UINT64_C(0x57a1)
#define JOBS_EACH_CORE 3u
#define FAILURES_MOST 5u
#define NONE UINT64_MAX

static const char help[] =
    "usage: larder-hosts [--count N | --seconds S] [--seed 0xS] [--jobs N] [--scene NAME] [--long]\n"
    "       larder-hosts --seed 0xS --run N [--scene NAME] [--long]\n"
    "       larder-hosts --list\n"
    "Hosts in network namespaces, each with a larderd, a segment and processes that use it; a switch between them "
    "that\n"
    "loses, delays, copies and changes packets; daemons that are killed, and segments that are lost.\n"
    "  --count N     runs (default 6: one of each scene)\n"
    "  --seconds S   as many as can be begun in that time\n"
    "  --seed 0xS    other runs (default 0x57a1)\n"
    "  --jobs N      runs at a time (default: three for each core; they mostly wait)\n"
    "  --scene NAME  only that one; --list names them\n"
    "  --long        half a minute of faults, partitions of a minute, two rounds of comparing at each end\n"
    "  --run N       this one alone, with a log of what happens\n"
    "Needs root, or user namespaces, and TUN devices.\n"
    "Exit status: 0 all held, 1 a run failed, 2 usage, 77 it cannot run here.\n";

struct shared { /* by the jobs */
    _Atomic uint64_t begun, played;
    _Atomic uint32_t failures, stop;
    atomic_flag locked;
    struct hosts_totals totals;
};

struct work {
    uint64_t seed, count, seconds, jobs, run;
    unsigned scene;
    bool longer, list, help;
    uint64_t end_ns;
    struct shared *shared;
};

/* fixture.c and certs.c assert by way of CUnit, which is not part of this program: what is false ends it. */
CU_BOOL CU_assertImplementation(CU_BOOL held, unsigned line, const char *condition, const char *file,
                                const char *function, CU_BOOL fatal) {
    (void)function, (void)fatal;
    if (!held) {
        fprintf(stderr, "larder-hosts: %s:%u: %s\n", file, line, condition);
        abort();
    }
    return held;
}

static void add_totals(struct shared *shared, const struct hosts_totals *one) {
    const uint64_t *from = (const uint64_t *)one;
    uint64_t *to = (uint64_t *)&shared->totals;
    while (atomic_flag_test_and_set(&shared->locked))
        ;
    for (size_t i = 0; i < sizeof *one / sizeof *from; i++)
        to[i] = &to[i] != &shared->totals.memory_most ? to[i] + from[i] : to[i] > from[i] ? to[i] : from[i];
    atomic_flag_clear(&shared->locked);
}

static void tell_replay(const struct work *work, uint64_t run) {
    bool any = work->scene == hosts_scene_count();
    fprintf(stderr, "  replay: larder-hosts --seed 0x%" PRIx64 " --run %" PRIu64 "%s%s%s\n", work->seed, run,
            any ? "" : " --scene ", any ? "" : hosts_scene_name(work->scene), work->longer ? " --long" : "");
}

static bool play(const struct work *work, uint64_t run) {
    struct hosts_totals totals = {0};
    char why[400];
    bool held = hosts_play(work->seed, run, work->scene, work->longer, why, &totals);
    if (!held) {
        fprintf(stderr, "larder-hosts: run %" PRIu64 " fails: %s\n", run, why);
        tell_replay(work, run);
    }
    if (work->shared != NULL)
        add_totals(work->shared, &totals);
    return held;
}

static void job(const void *given) {
    const struct work *work = given;
    struct shared *shared = work->shared;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        uint64_t run = atomic_fetch_add(&shared->begun, 1);
        if (run >= work->count || harness_now_ns() > work->end_ns || atomic_load(&shared->failures) >= FAILURES_MOST)
            return;
        if (!play(work, run))
            atomic_fetch_add(&shared->failures, 1);
        atomic_fetch_add(&shared->played, 1);
    }
}

static void tell(const void *given) {
    const struct work *work = given;
    fprintf(stderr, "larder-hosts: %" PRIu64 " runs, %u failures\n", atomic_load(&work->shared->played),
            atomic_load(&work->shared->failures));
}

static double processor_s(void) {
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int play_many(struct work *work) {
    uint64_t began_ns = harness_now_ns();
    work->shared = harness_share(sizeof *work->shared);
    work->end_ns = work->seconds != 0 ? began_ns + work->seconds * UINT64_C(1000000000) : UINT64_MAX;
    if (work->seconds != 0)
        work->count = UINT64_MAX;
    if (work->jobs > work->count)
        work->jobs = work->count;
    fprintf(stderr, "larder-hosts: seed 0x%" PRIx64 ", %" PRIu64 " runs at a time\n", work->seed, work->jobs);
    unsigned died = harness_run_jobs((unsigned)work->jobs, job, tell, work);
    uint32_t failures = atomic_load(&work->shared->failures) + died;
    const struct hosts_totals *totals = &work->shared->totals;
    printf("larder-hosts: %" PRIu64 " puts, %" PRIu64 " deletes, %" PRIu64 " gets (%" PRIu64 " hits), %" PRIu64
           " refused, %" PRIu64 " awaited\n"
           "larder-hosts: %" PRIu64 " faults; of %" PRIu64 " packets %" PRIu64 " lost, %" PRIu64 " flipped, %" PRIu64
           " forged; a larderd had at most %" PRIu64 " KiB\n",
           totals->puts, totals->deletes, totals->gets, totals->hits, totals->busy, totals->awaited, totals->troubles,
           totals->packets, totals->lost, totals->flipped, totals->forged, totals->memory_most / 1024);
    printf("larder-hosts: %.1f s of processor time\n", processor_s());
    printf("GOAL G13R count=%" PRIu64 " unit=runs failures=%u seconds=%.1f seed=0x%" PRIx64 "\n",
           atomic_load(&work->shared->played), failures, (double)(harness_now_ns() - began_ns) / 1e9, work->seed);
    return failures == 0 ? 0 : 1;
}

static int usage(const char *what) {
    fprintf(stderr, "larder-hosts: %s; see larder-hosts --help\n", what);
    return 2;
}

static unsigned scene_of(const char *name) {
    unsigned scene = 0;
    while (scene < hosts_scene_count() && strcmp(hosts_scene_name(scene), name) != 0)
        scene++;
    return scene;
}

int main(int count, char **arguments) {
    (void)count;
    const char *scene = NULL;
    struct work work = {
        .seed = DEFAULT_SEED, .count = DEFAULT_COUNT, .jobs = JOBS_EACH_CORE * harness_cores(), .run = NONE};
    const struct harness_option options[] = {{"seed", &work.seed, NULL, NULL},       {"count", &work.count, NULL, NULL},
                                             {"seconds", &work.seconds, NULL, NULL}, {"jobs", &work.jobs, NULL, NULL},
                                             {"run", &work.run, NULL, NULL},         {"scene", NULL, &scene, NULL},
                                             {"long", NULL, NULL, &work.longer},     {"list", NULL, NULL, &work.list},
                                             {"help", NULL, NULL, &work.help},       {NULL, NULL, NULL, NULL}};
    if (!harness_parse(arguments, options))
        return 2;
    if (work.jobs == 0 || work.jobs > HARNESS_MAX_JOBS || work.count == 0)
        return usage("a number is out of range");
    if (work.help)
        return fputs(help, stdout) < 0;
    for (unsigned i = 0; work.list && i < hosts_scene_count(); i++)
        puts(hosts_scene_name(i));
    if (work.list)
        return 0;
    work.scene = scene != NULL ? scene_of(scene) : hosts_scene_count();
    if (scene != NULL && work.scene == hosts_scene_count())
        return usage("no such scene: --list names them");
    const char *why = hosts_place_init();
    if (why != NULL) {
        printf("SKIPPED larder-hosts: %s\n", why);
        return 77;
    }
    fixture_init();
    fixture_folder();
    if (work.run == NONE)
        return play_many(&work);
    hosts_logging = true;
    return play(&work, work.run) ? 0 : 1;
}
