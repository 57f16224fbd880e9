/* SPDX-License-Identifier: MIT */
/* larder-nth: goal G12, the k-th call of libc fails. See README.md beside this file. */
#include "cases.h"
#include "harness.h"

#include <fcntl.h>
#include <inttypes.h>

#define JOBS_PER_CORE 4u /* a case mostly waits: for the programs' timers and the peer */
#define FAULTS_TOLD 3u   /* of one call in one scenario */

static const char *const call_names[NTH_CALL_COUNT] = {
#define X(call, error) [NTH_##call] = #call,
    NTH_CALLS(X)
#undef X
};

struct shared {
    _Atomic uint64_t cases, failures, libuv_aborts;
    _Atomic uint32_t next;
    _Atomic uint64_t sites[NTH_CALL_COUNT]; /* calls that failed, in all scenarios together */
};

struct work {
    struct shared *shared;
    uint64_t jobs;
    const char *scenario; /* NULL: all */
    int call;             /* -1: all */
    uint64_t k;           /* 0: all */
    bool pairs;           /* of the library's calls: two fail */
    uint64_t count;       /* most k of one call in one scenario */
};

static unsigned scenario_count(void) {
    return library_scenario_count + program_scenario_count;
}

/* Programs first: they take longer. */
static const struct nth_scenario *scenario_at(unsigned i) {
    return i < program_scenario_count ? &program_scenarios[program_scenario_count - 1 - i]
                                      : &library_scenarios[i - program_scenario_count];
}

static struct bench *open_bench(void) {
    static char file[160];
    snprintf(file, sizeof file, "/dev/shm/larder-nth.%ld", (long)getpid());
    int fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct bench *bench = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, sizeof *bench) == 0)
        bench = mmap(NULL, sizeof *bench, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (bench == MAP_FAILED) {
        perror("larder-nth: /dev/shm");
        exit(2);
    }
    close(fd);
    memcpy(bench->file, file, sizeof file);
    snprintf(bench->program_out, sizeof bench->program_out, "%s.out", file);
    snprintf(bench->program_err, sizeof bench->program_err, "%s.err", file);
    spot_choose(&bench->spot, "nth");
    nth_use(&bench->control);
    return bench;
}

static void close_bench(struct bench *bench) {
    unlink(bench->program_out);
    unlink(bench->program_err);
    unlink(bench->file);
}

struct site {
    unsigned call;
    uint64_t k;
    bool on; /* and all later ones */
};

static const struct site nowhere = {.call = NTH_CALL_COUNT};

static void aim(struct nth_target *target, const struct site *site) {
    atomic_store(&target->call, site->call);
    atomic_store(&target->from_then_on, site->on);
    atomic_store(&target->k, site->k);
    atomic_store(&target->reached, 0);
}

static void tell(const struct nth_scenario *scenario, const struct bench *bench, const struct site *first,
                 const struct site *second) {
    if (first->k == UINT64_MAX) {
        printf("FAILED %s, and no call fails: %s\n", scenario->name, bench->fault);
        return;
    }
    printf("FAILED %s, %s number %" PRIu64 "%s", scenario->name, call_names[first->call], first->k,
           first->on ? " and all later ones" : "");
    if (second->call != NTH_CALL_COUNT)
        printf(" and %s number %" PRIu64, call_names[second->call], second->k);
    printf(": %s\n    again: larder-nth --scenario '%s' --call %s --k %" PRIu64 "%s\n", bench->fault, scenario->name,
           call_names[first->call], first->k, second->call != NTH_CALL_COUNT ? " --pairs" : "");
}

/* One case. False: it went wrong, and was told unless there are too many. */
static bool run_case(const struct work *work, struct bench *bench, const struct nth_scenario *scenario,
                     const struct site *first, const struct site *second, unsigned *faults) {
    aim(&bench->control.target[0], first);
    aim(&bench->control.target[1], second);
    bool right = scenario->run(bench, scenario->which);
    atomic_fetch_add(&work->shared->cases, 1);
    if (!right) {
        atomic_fetch_add(&work->shared->failures, 1);
        if ((*faults)++ < FAULTS_TOLD)
            tell(scenario, bench, first, second);
    }
    return right;
}

/* With the first call failing: every later one of each kind that is still reached, each pair once. */
static void fail_seconds(const struct work *work, struct bench *bench, const struct nth_scenario *scenario,
                         const struct site *first, unsigned *faults) {
    for (unsigned call = first->call; call < NTH_CALL_COUNT && *faults < FAULTS_TOLD; call++) {
        struct site second = {.call = call, .k = call == first->call ? first->k + 1 : 1};
        for (bool reached = true; reached && second.k <= work->count; second.k++) {
            (void)run_case(work, bench, scenario, first, &second, faults);
            reached = atomic_load(&bench->control.target[1].reached) >= second.k;
        }
    }
}

/* Every k that the scenario reaches, alone and for good. */
static void fail_call(const struct work *work, struct bench *bench, const struct nth_scenario *scenario,
                      unsigned call) {
    unsigned faults = 0;
    struct site site = {.call = call, .k = UINT64_MAX};
    if (work->k == 0)
        (void)run_case(work, bench, scenario, &site, &nowhere, &faults);
    for (site.k = work->k != 0 ? work->k : 1; site.k <= work->count && faults < 2 * FAULTS_TOLD; site.k++) {
        site.on = false;
        (void)run_case(work, bench, scenario, &site, &nowhere, &faults);
        if (atomic_load(&bench->control.target[0].reached) < site.k)
            return;
        atomic_fetch_add(&work->shared->sites[call], 1);
        if (work->pairs && !scenario->is_program)
            fail_seconds(work, bench, scenario, &site, &faults);
        site.on = true;
        (void)run_case(work, bench, scenario, &site, &nowhere, &faults);
        if (work->k != 0)
            return;
    }
}

/* Tasks are calls of scenarios. */
static void do_job(const void *context) {
    const struct work *work = context;
    struct bench *bench = open_bench();
    const struct nth_scenario *begun = NULL;
    for (;;) {
        unsigned task = atomic_fetch_add(&work->shared->next, 1), call = task % NTH_CALL_COUNT;
        if (task >= scenario_count() * NTH_CALL_COUNT)
            break;
        const struct nth_scenario *scenario = scenario_at(task / NTH_CALL_COUNT);
        if ((work->scenario != NULL && strcmp(work->scenario, scenario->name) != 0) ||
            (work->call >= 0 && (unsigned)work->call != call))
            continue;
        if (begun != scenario) {
            if (begun != NULL && begun->end != NULL)
                begun->end(bench);
            if (scenario->begin != NULL && !scenario->begin(bench)) {
                printf("FAILED %s cannot begin\n", scenario->name);
                atomic_fetch_add(&work->shared->failures, 1);
            }
            begun = scenario;
        }
        fail_call(work, bench, scenario, call);
    }
    atomic_fetch_add(&work->shared->libuv_aborts, bench->libuv_aborts);
    bench->fault[0] = 0;
    if (begun != NULL && begun->end != NULL)
        begun->end(bench);
    if (bench->fault[0] != 0) {
        printf("FAILED at the end: %s\n", bench->fault);
        atomic_fetch_add(&work->shared->failures, 1);
    }
    close_bench(bench);
}

static void tell_progress(const void *context) {
    const struct shared *shared = ((const struct work *)context)->shared;
    fprintf(stderr, "larder-nth: %" PRIu64 " cases, %u of %u calls of scenarios begun, %" PRIu64 " failures\n",
            atomic_load(&shared->cases), atomic_load(&shared->next), scenario_count() * NTH_CALL_COUNT,
            atomic_load(&shared->failures));
}

static int usage(int status) {
    FILE *to = status == 0 ? stdout : stderr;
    fputs("usage: larder-nth [--count N] [--jobs N] [--scenario NAME] [--call NAME] [--k K] [--pairs] | --list\n"
          "G12: the k-th call of one kind fails, once and from then on, for every k that a scenario reaches.\n"
          "  --count N   at most so many k of one call in one scenario (default: all)\n"
          "  --jobs N    at a time (default: four for each core)\n"
          "  --pairs     in the library's scenarios also every pair of two calls that fail, each once\n"
          "  --scenario, --call, --k   one of them alone, as a failure says\n"
          "Exit status: 0 all held, 1 something broke, 2 usage.\n",
          to);
    return status;
}

static int list(void) {
    for (unsigned i = 0; i < scenario_count(); i++)
        printf("scenario  %s\n", scenario_at(i)->name);
    for (unsigned i = 0; i < NTH_CALL_COUNT; i++)
        printf("call      %s\n", call_names[i]);
    return 0;
}

/* The number of a call; -1: there is none of that name. */
static int find_call(const char *name) {
    for (unsigned i = 0; i < NTH_CALL_COUNT; i++)
        if (strcmp(call_names[i], name) == 0)
            return (int)i;
    return -1;
}

int main(int argc, char **argv) {
    (void)argc;
    struct work work = {.jobs = JOBS_PER_CORE * harness_cores(), .call = -1, .count = UINT64_MAX};
    const char *call = NULL;
    bool help = false, listing = false;
    const struct harness_option options[] = {
        {.name = "help", .flag = &help},
        {.name = "count", .number = &work.count},
        {.name = "jobs", .number = &work.jobs},
        {.name = "scenario", .text = &work.scenario},
        {.name = "call", .text = &call},
        {.name = "k", .number = &work.k},
        {.name = "list", .flag = &listing},
        {.name = "pairs", .flag = &work.pairs},
        {.name = NULL},
    };
    const uint64_t started_ns = harness_now_ns();
    if (!harness_parse(argv, options) || work.jobs == 0 || work.jobs > HARNESS_MAX_JOBS || work.count == 0)
        return usage(2);
    if (help)
        return usage(0);
    if (listing)
        return list();
    if (call != NULL && (work.call = find_call(call)) < 0)
        return usage(2);
    setvbuf(stdout, NULL, _IOLBF, 0);
    work.shared = harness_share(sizeof *work.shared);
    atomic_fetch_add(&work.shared->failures, harness_run_jobs((unsigned)work.jobs, do_job, tell_progress, &work));
    for (unsigned i = 0; i < NTH_CALL_COUNT; i++)
        printf("G12: %-16s %" PRIu64 " sites\n", call_names[i], atomic_load(&work.shared->sites[i]));
    printf("G12: in %" PRIu64 " cases libuv aborted larderd, as it does; the segment was whole\n",
           atomic_load(&work.shared->libuv_aborts));
    printf("GOAL G12 count=%" PRIu64 " unit=cases failures=%" PRIu64 " seconds=%.1f seed=0x0\n",
           atomic_load(&work.shared->cases), atomic_load(&work.shared->failures),
           (double)(harness_now_ns() - started_ns) / 1e9);
    return atomic_load(&work.shared->failures) == 0 ? 0 : 1;
}
