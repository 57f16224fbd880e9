/* SPDX-License-Identifier: MIT */
/* larder-steps: goal G2, death at every instruction of the release build. See README.md beside this file. */
#include "harness.h"
#include "states.h"
#include "stepping.h"

#include <inttypes.h>
#include <limits.h>

#define PAIRS 40u       /* of an operation and a state */
#define ARENA_SHARE 7u  /* without --full: of steps that change only what blocks hold one in so many is judged */
#define EACH_DRAWN 3u   /* operations of a state */
#define MOST_DRAWN 300u /* of the images of an operation that was drawn; some have 9,000 */
#define MOST 20000u     /* of one that was asked for */
#define STATES_MAX 64u

struct shared {
    _Atomic uint64_t images, steps, pairs, failures;
    _Atomic uint32_t next, not_here;
};

struct work {
    uint64_t seed, jobs;
    unsigned share, most;
    bool chosen[STATES_MAX][SCENARIO_OPERATIONS];
    struct shared *shared;
};

static uint64_t mixed(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* 200,000 to 800,000 instructions, which take as long to step through as twenty other operations. */
static bool is_long(const struct scenario_state *state, enum scenario_operation operation) {
    const bool warm = (state->traits & FULL) != 0 && (state->traits & WARM) != 0;
    return operation == FIT ||
           (warm && (state->traits & (CLOCK | AGED | AGES)) != 0 && (operation == PUT_MANY || operation == PUT_LARGE));
}

static unsigned chosen_in(const struct work *work, unsigned state) {
    unsigned sum = 0;
    for (unsigned o = 0; o < SCENARIO_OPERATIONS; o++)
        sum += work->chosen[state][o];
    return sum;
}

/* `count` of all pairs, by the seed; at most `each` of a state, where all operations may be as long, and of long ones
 * at most `long_ones`. */
static void choose(struct work *work, uint64_t count, unsigned each, unsigned long_ones) {
    for (; count > 0; count--) {
        uint64_t best = UINT64_MAX;
        unsigned which_state = 0, which_operation = 0;
        for (unsigned state = 0; state < scenario_state_count; state++)
            for (unsigned o = 0; o < SCENARIO_OPERATIONS && chosen_in(work, state) < each; o++) {
                const struct scenario_state *row = &scenario_states[state];
                const enum scenario_operation operation = (enum scenario_operation)o;
                uint64_t rank = mixed(work->seed ^ mixed(state * 1000u + o));
                if (rank < best && !work->chosen[state][o] && scenario_applies(row, operation) &&
                    (long_ones > 0 || !is_long(row, operation))) {
                    best = rank;
                    which_state = state, which_operation = o;
                }
            }
        if (best == UINT64_MAX)
            return;
        work->chosen[which_state][which_operation] = true;
        if (is_long(&scenario_states[which_state], (enum scenario_operation)which_operation))
            long_ones--;
    }
}

/* One operation: its images, each judged. False: not on this processor. */
static bool step_operation(const struct work *work, struct scenario *s, struct stepping *stepping) {
    stepping->random = mixed(work->seed ^ s->operation);
    int result = stepping_collect(s, stepping);
    if (result == 77)
        return false;
    bool right = result == 0;
    unsigned i = 0;
    for (; right && i < stepping->count; i++)
        right = stepping_judge(s, stepping, i, mixed(work->seed + stepping->numbers[i]));
    if (!right) {
        printf("FAILED %s, %s, image %u of %u: %s\n"
               "    again: larder-steps --seed 0x%" PRIx64 " --state '%s' --operation '%s'%s\n",
               s->state->name, scenario_operation_names[s->operation], i == 0 ? 0 : stepping->numbers[i - 1],
               stepping->there_were, s->what, work->seed, s->state->name, scenario_operation_names[s->operation],
               work->share == 1 ? " --full" : "");
        atomic_fetch_add(&work->shared->failures, 1);
    }
    atomic_fetch_add(&work->shared->images, stepping->count);
    atomic_fetch_add(&work->shared->steps, stepping->steps);
    atomic_fetch_add(&work->shared->pairs, 1);
    stepping_free(stepping);
    return true;
}

static void step_state(const struct work *work, unsigned state, unsigned number) {
    static struct scenario s;
    static uint8_t before[SCENARIO_IMAGE_BYTES];
    struct stepping stepping = {.share = work->share, .most = work->most};
    char name[65];
    memset(&s, 0, sizeof s);
    snprintf(name, sizeof name, "t.%ld.steps.%u", (long)getpid(), number);
    s.options = lr_options_default();
    s.options.name = name;
    if (!scenario_prepare(&s, &scenario_states[state])) {
        printf("FAILED %s: %s\n", scenario_states[state].name, s.what);
        atomic_fetch_add(&work->shared->failures, 1);
    } else {
        scenario_read_image(&s, before);
        for (unsigned o = 0; o < SCENARIO_OPERATIONS; o++) {
            if (!work->chosen[state][o])
                continue;
            scenario_choose(&s, (enum scenario_operation)o);
            if (!step_operation(work, &s, &stepping)) {
                atomic_store(&work->shared->not_here, 1);
                break;
            }
            scenario_write_image(&s, before);
        }
    }
    scenario_end(&s);
}

static void do_job(const void *context) {
    const struct work *work = context;
    for (;;) {
        unsigned task = atomic_fetch_add(&work->shared->next, 1);
        if (task >= scenario_state_count)
            return;
        unsigned state = scenario_state_count - 1 - task;
        bool any = false;
        for (unsigned o = 0; o < SCENARIO_OPERATIONS; o++)
            any = any || work->chosen[state][o];
        if (any)
            step_state(work, state, task);
    }
}

static void tell(const void *context) {
    const struct shared *shared = ((const struct work *)context)->shared;
    fprintf(stderr, "larder-steps: %" PRIu64 " operations in states, %" PRIu64 " images, %" PRIu64 " failures\n",
            atomic_load(&shared->pairs), atomic_load(&shared->images), atomic_load(&shared->failures));
}

static int usage(int status) {
    fputs("usage: larder-steps [--count N] [--full] [--seed 0x...] [--jobs N] [--state NAME] [--operation NAME]\n"
          "G2: operations are executed instruction by instruction; what the segment was after each is repaired and\n"
          "judged as if the process had been killed there.\n"
          "  --count N   so many operations in states, drawn by the seed (default 40); of instructions that change\n"
          "              only what blocks hold one in seven counts; of an operation's images 300 are judged, drawn\n"
          "              by the seed; three operations of a state are drawn, and one of 200,000 instructions or more\n"
          "  --full      all operations in all states, every instruction that changes anything\n"
          "  --state, --operation  one operation in one state: all its images, as far as one in seven counts\n"
          "Exit status: 0 all held, 1 something broke, 2 usage, 77 not on this processor.\n",
          status == 0 ? stdout : stderr);
    return status;
}

int main(int argc, char **argv) {
    (void)argc;
    struct work work = {.seed = harness_seed(), .jobs = harness_cores(), .share = ARENA_SHARE, .most = MOST};
    uint64_t count = PAIRS;
    const char *state_name = NULL, *operation_name = NULL;
    bool help = false, full = false;
    const struct harness_option options[] = {
        {.name = "help", .flag = &help},
        {.name = "count", .number = &count},
        {.name = "full", .flag = &full},
        {.name = "seed", .number = &work.seed},
        {.name = "jobs", .number = &work.jobs},
        {.name = "state", .text = &state_name},
        {.name = "operation", .text = &operation_name},
        {.name = NULL},
    };
    const uint64_t started_ns = harness_now_ns();
    if (!harness_parse(argv, options) || work.jobs == 0 || work.jobs > HARNESS_MAX_JOBS ||
        scenario_state_count > STATES_MAX || (state_name == NULL) != (operation_name == NULL))
        return usage(2);
    if (help)
        return usage(0);
    const int state = state_name != NULL ? scenario_state_number(state_name) : -1;
    const int operation = operation_name != NULL ? scenario_operation_number(operation_name) : -1;
    if (state_name != NULL && (state < 0 || operation < 0))
        return usage(2);
    if (full) {
        count = UINT64_MAX;
        work.share = 1;
    } else if (state < 0) {
        work.most = MOST_DRAWN;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    work.shared = harness_share(sizeof *work.shared);
    printf("larder-steps: seed 0x%" PRIx64 "\n", work.seed);
    if (state >= 0)
        work.chosen[state][operation] = true;
    else
        choose(&work, count, full ? SCENARIO_OPERATIONS : EACH_DRAWN, full ? UINT_MAX : 1);
    atomic_fetch_add(&work.shared->failures, harness_run_jobs((unsigned)work.jobs, do_job, tell, &work));
    if (atomic_load(&work.shared->not_here) != 0) {
        puts("SKIPPED larder-steps: single steps are known of x86-64 only");
        return 77;
    }
    printf("G2: %" PRIu64 " operations in states, %" PRIu64 " instructions\n", atomic_load(&work.shared->pairs),
           atomic_load(&work.shared->steps));
    printf("GOAL G2 count=%" PRIu64 " unit=images failures=%" PRIu64 " seconds=%.1f seed=0x%" PRIx64 "\n",
           atomic_load(&work.shared->images), atomic_load(&work.shared->failures),
           (double)(harness_now_ns() - started_ns) / 1e9, work.seed);
    return atomic_load(&work.shared->failures) == 0 ? 0 : 1;
}
