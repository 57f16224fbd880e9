/* SPDX-License-Identifier: MIT */
/* larder-crash: goals G1 and G11. See README.md beside this file. */
#include "crash.h"
#include "harness.h"
#include "storm.h"
#include "sweep.h"

#include <inttypes.h>

#define G1_COUNT UINT64_C(200000)
#define G11_COUNT UINT64_C(2000)

static void print_help(void) {
    puts("usage: larder-crash [--goal G1|G11] [--count N] [--seed 0x...] [--jobs N] [--full]\n"
         "                    [--state NAME] [--operation NAME] [--death K[,J]] | --list\n"
         "G1: a process dies at every crash point and before every store of every operation in every state, and the\n"
         "    next one at every crash point of its repair; whoever comes after them must find all in order.\n"
         "    --count N      at least so many deaths (default 200000): what the sweep does not need goes to random\n"
         "                   pairs of any two stores\n"
         "    --full         every pair of crash points, not only the first hit of each, and every operation in those\n"
         "                   states that else share the operations with a state like them\n"
         "    --state, --operation, --death K,J   one of them alone, as a failure says\n"
         "G11: pairs of racing creators are killed at random.\n"
         "    --count N      so many killed (default 2000)\n"
         "Without --goal, both. Exit status: 0 all held, 1 something broke, 2 usage.");
}

/* ---- jobs ----------------------------------------------------------------------------------------------------- */

struct shared {
    struct totals totals;
    struct storm_totals storm;
    _Atomic bool reached[CRASH_POINTS];
};

struct work {
    struct sweep_options options;
    struct shared *shared;
    uint64_t jobs;
    uint64_t at_random; /* cycles of each state; 0: the sweep */
};

/* Tasks are the states, and the names at the end. */
static void do_job(const void *context) {
    const struct work *work = context;
    crash = harness_share(sizeof *crash);
    for (;;) {
        unsigned task = atomic_fetch_add(&work->shared->totals.next, 1);
        if (task > scenario_state_count)
            break;
        /* From the last, since the first ones are small. */
        unsigned state = scenario_state_count - 1 - task;
        if (task == scenario_state_count) {
            if (work->at_random == 0 && work->options.state == NULL)
                sweep_names(&work->options);
        } else if (work->options.state == NULL || (int)state == scenario_state_number(work->options.state)) {
            if (work->at_random == 0)
                sweep_state(&work->options, state);
            else
                sweep_at_random(&work->options, state, work->at_random);
        }
    }
}

static void tell(const void *context) {
    const struct totals *totals = &((const struct work *)context)->shared->totals;
    fprintf(stderr, "larder-crash: %" PRIu64 " deaths, %" PRIu64 " operations in states done, %" PRIu64 " failures\n",
            atomic_load(&totals->cycles), atomic_load(&totals->pairs_done), atomic_load(&totals->failures));
}

static void run_jobs(const struct work *work) {
    atomic_store(&work->shared->totals.next, 0);
    atomic_fetch_add(&work->shared->totals.failures, harness_run_jobs((unsigned)work->jobs, do_job, tell, work));
}

/* ---- goals ---------------------------------------------------------------------------------------------------- */

/* Crash points at which nobody died: a test that cannot fail. */
static unsigned tell_unreached(const struct shared *shared) {
    unsigned missing = 0;
    for (unsigned i = 0; i < crash_point_count(); i++) {
        if (atomic_load(&shared->reached[i]))
            continue;
        printf("FAILED no operation in any state comes to the crash point \"%s\"\n", crash_point_label(i));
        missing++;
    }
    return missing;
}

static bool run_g1(struct work *work, uint64_t count) {
    struct totals *totals = &work->shared->totals;
    const uint64_t started_ns = harness_now_ns();
    const bool whole = work->options.state == NULL;
    run_jobs(work);
    uint64_t swept = atomic_load(&totals->cycles);
    if (whole && atomic_load(&totals->failures) == 0)
        atomic_fetch_add(&totals->failures, tell_unreached(work->shared));
    if (whole && swept < count && atomic_load(&totals->failures) == 0) {
        work->at_random = (count - swept) / scenario_state_count * 5 / 4 + 1;
        while (atomic_load(&totals->cycles) < count && atomic_load(&totals->failures) == 0) {
            run_jobs(work);
            work->options.seed++;
        }
    }
    const double seconds = (double)(harness_now_ns() - started_ns) / 1e9;
    printf("G1: %u crash points, %" PRIu64 " operations in states, %" PRIu64 " deaths swept, %" PRIu64
           " with one in the repair; %.0f a second\n",
           crash_point_count(), atomic_load(&totals->pairs_done), swept, atomic_load(&totals->second),
           (double)atomic_load(&totals->cycles) / seconds);
    printf("GOAL G1 count=%" PRIu64 " unit=deaths failures=%" PRIu64 " seconds=%.1f seed=0x%" PRIx64 "\n",
           atomic_load(&totals->cycles), atomic_load(&totals->failures), seconds, work->options.seed);
    return atomic_load(&totals->failures) == 0;
}

static bool run_g11(struct work *work, uint64_t count) {
    const uint64_t started_ns = harness_now_ns();
    struct storm_totals *totals = &work->shared->storm;
    pid_t children[HARNESS_MAX_JOBS];
    fflush(NULL);
    for (unsigned i = 0; i < work->jobs; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            storm_of_creators(totals, work->options.seed + i, count);
            fflush(stdout);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < work->jobs; i++) {
        int status = 0;
        if (children[i] > 0 && (waitpid(children[i], &status, 0) != children[i] || status != 0)) {
            printf("FAILED a job died: status %x\n", (unsigned)status);
            atomic_fetch_add(&totals->failures, 1);
        }
    }
    storm_tell(totals);
    printf("GOAL G11 count=%" PRIu64 " unit=killed-creators failures=%" PRIu64 " seconds=%.1f seed=0x%" PRIx64 "\n",
           atomic_load(&totals->killed), atomic_load(&totals->failures), (double)(harness_now_ns() - started_ns) / 1e9,
           work->options.seed);
    return atomic_load(&totals->failures) == 0;
}

static int list(void) {
    for (unsigned i = 0; i < scenario_state_count; i++)
        printf("state      %s\n", scenario_states[i].name);
    for (unsigned i = 0; i < SCENARIO_OPERATIONS; i++)
        printf("operation  %s\n", scenario_operation_names[i]);
    for (unsigned i = 0; i < crash_point_count(); i++)
        printf("point      %s\n", crash_point_label(i));
    return 0;
}

static int usage(void) {
    fputs("larder-crash: --help says what can be asked for\n", stderr);
    return 2;
}

/* --death K or K,J. */
static void read_death(const char *text, struct sweep_options *options) {
    char *end;
    options->first = strtoull(text, &end, 0);
    options->second = *end == ',' ? strtoull(end + 1, NULL, 0) : 0;
}

int main(int argc, char **argv) {
    (void)argc;
    struct work work = {.options = {.operation = -1, .seed = harness_seed()}, .jobs = harness_cores()};
    uint64_t count = 0;
    const char *goal = NULL, *operation = NULL, *death = NULL;
    bool help = false, listing = false;
    const struct harness_option options[] = {
        {.name = "help", .flag = &help},
        {.name = "goal", .text = &goal},
        {.name = "count", .number = &count},
        {.name = "seed", .number = &work.options.seed},
        {.name = "jobs", .number = &work.jobs},
        {.name = "full", .flag = &work.options.full},
        {.name = "state", .text = &work.options.state},
        {.name = "operation", .text = &operation},
        {.name = "death", .text = &death},
        {.name = "list", .flag = &listing},
        {.name = NULL},
    };
    if (!harness_parse(argv, options))
        return 2;
    if (work.jobs == 0 || work.jobs > HARNESS_MAX_JOBS || crash_point_count() > CRASH_POINTS)
        return usage();
    if (help)
        return print_help(), 0;
    if (listing)
        return list();
    const bool g1 = goal == NULL || strcmp(goal, "G1") == 0, g11 = goal == NULL || strcmp(goal, "G11") == 0;
    if (operation != NULL)
        work.options.operation = scenario_operation_number(operation);
    if (death != NULL)
        read_death(death, &work.options);
    if ((!g1 && !g11) || (operation != NULL && work.options.operation < 0) ||
        (work.options.state != NULL && scenario_state_number(work.options.state) < 0))
        return usage();
    setvbuf(stdout, NULL, _IOLBF, 0);
    work.shared = harness_share(sizeof *work.shared);
    work.options.totals = &work.shared->totals;
    crash_reached = work.shared->reached;
    printf("larder-crash: seed 0x%" PRIx64 "\n", work.options.seed);
    bool right = !g1 || run_g1(&work, count != 0 ? count : G1_COUNT);
    if (g11 && work.options.state == NULL)
        right = run_g11(&work, count != 0 && !g1 ? count : G11_COUNT) && right;
    return right ? 0 : 1;
}
