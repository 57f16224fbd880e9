/* SPDX-License-Identifier: MIT */
/* larder-steps: goal G2, death at every instruction of the release build. See README.md beside this file. */
#include "stepping.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAIRS 40u      /* of an operation and a state */
#define ARENA_SHARE 7u /* without --full: of steps that change only what blocks hold one in so many is judged */
#define STATES_MAX 64u
#define MAX_JOBS 256u

struct shared {
    _Atomic uint64_t images, steps, pairs, failures;
    _Atomic uint32_t next, not_permitted;
};

struct work {
    uint64_t seed;
    unsigned jobs, share;
    bool chosen[STATES_MAX][SCENARIO_OPERATIONS];
    struct shared *shared;
};

static uint64_t mixed(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* `count` of all pairs, by the seed. */
static void choose(struct work *work, unsigned count) {
    for (; count > 0; count--) {
        uint64_t best = UINT64_MAX;
        bool *which = NULL;
        for (unsigned state = 0; state < scenario_state_count; state++)
            for (unsigned o = 0; o < SCENARIO_OPERATIONS; o++) {
                uint64_t rank = mixed(work->seed ^ mixed(state * 1000u + o));
                if (rank < best && !work->chosen[state][o] &&
                    scenario_applies(&scenario_states[state], (enum scenario_operation)o)) {
                    best = rank;
                    which = &work->chosen[state][o];
                }
            }
        if (which == NULL)
            return;
        *which = true;
    }
}

/* One operation: its images, each judged. False: tracing is not permitted. */
static bool step_operation(const struct work *work, struct scenario *s, struct stepping *stepping) {
    int result = stepping_collect(s, stepping);
    if (result == 77)
        return false;
    bool right = result == 0;
    unsigned i = 0;
    for (; right && i < stepping->count; i++)
        right = stepping_judge(s, stepping, i, mixed(work->seed + i));
    if (!right) {
        printf("FAILED %s, %s, image %u: %s\n"
               "    again: larder-steps --seed 0x%" PRIx64 " --state '%s' --operation '%s'%s\n",
               s->state->name, scenario_operation_names[s->operation], i - 1, s->what, work->seed, s->state->name,
               scenario_operation_names[s->operation], work->share == 1 ? " --full" : "");
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
    struct stepping stepping = {.share = work->share};
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
                atomic_store(&work->shared->not_permitted, 1);
                break;
            }
            scenario_write_image(&s, before);
        }
    }
    scenario_end(&s);
}

static void do_job(const struct work *work) {
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

static void run_jobs(const struct work *work) {
    fflush(NULL);
    for (unsigned i = 0; i < work->jobs; i++) {
        if (fork() == 0) {
            do_job(work);
            fflush(stdout);
            _exit(0);
        }
    }
    unsigned left = work->jobs;
    uint64_t told_ns = now_ns();
    while (left > 0) {
        int status = 0;
        pid_t child = waitpid(-1, &status, WNOHANG);
        if (child > 0 || (child < 0 && errno != EINTR)) {
            left--;
            if (child < 0 || status != 0) {
                printf("FAILED a job died: status %x\n", (unsigned)status);
                atomic_fetch_add(&work->shared->failures, 1);
            }
            continue;
        }
        struct timespec pause = {.tv_nsec = 50000000};
        nanosleep(&pause, NULL);
        if (now_ns() - told_ns > UINT64_C(5000000000)) {
            told_ns = now_ns();
            fprintf(stderr,
                    "larder-steps: %" PRIu64 " operations in states, %" PRIu64 " images, %" PRIu64 " failures\n",
                    atomic_load(&work->shared->pairs), atomic_load(&work->shared->images),
                    atomic_load(&work->shared->failures));
        }
    }
}

static int usage(int status) {
    fputs("usage: larder-steps [--count N] [--full] [--seed 0x...] [--jobs N] [--state NAME] [--operation NAME]\n"
          "G2: operations are executed instruction by instruction; what the segment was after each is repaired and\n"
          "judged as if the process had been killed there.\n"
          "  --count N   so many operations in states, drawn by the seed (default 40); of instructions that change\n"
          "              only what blocks hold one in seven counts\n"
          "  --full      all operations in all states, every instruction that changes anything\n"
          "Exit status: 0 all held, 1 something broke, 2 usage, 77 ptrace is not permitted.\n",
          status == 0 ? stdout : stderr);
    return status;
}

int main(int argc, char **argv) {
    static const struct option names[] = {
        {"help", no_argument, NULL, 'h'},
        {"count", required_argument, NULL, 'c'},
        {"full", no_argument, NULL, 'f'},
        {"seed", required_argument, NULL, 's'},
        {"jobs", required_argument, NULL, 'j'},
        {"state", required_argument, NULL, 't'},
        {"operation", required_argument, NULL, 'o'},
        {NULL, 0, NULL, 0},
    };
    struct work work = {.jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN), .share = ARENA_SHARE};
    unsigned count = PAIRS;
    int state = -1, operation = -1;
    const uint64_t started_ns = now_ns();
    if (getrandom(&work.seed, sizeof work.seed, 0) < 0)
        work.seed = started_ns;
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (option) {
        case 'h':
            return usage(0);
        case 'c':
            count = (unsigned)strtoul(optarg, NULL, 0);
            break;
        case 'f':
            count = UINT32_MAX;
            work.share = 1;
            break;
        case 's':
            work.seed = strtoull(optarg, NULL, 0);
            break;
        case 'j':
            work.jobs = (unsigned)strtoul(optarg, NULL, 0);
            break;
        case 't':
            if ((state = scenario_state_number(optarg)) < 0)
                return usage(2);
            break;
        case 'o':
            if ((operation = scenario_operation_number(optarg)) < 0)
                return usage(2);
            break;
        default:
            return usage(2);
        }
    }
    if (optind != argc || work.jobs == 0 || work.jobs > MAX_JOBS || scenario_state_count > STATES_MAX ||
        (state < 0) != (operation < 0))
        return usage(2);
    setvbuf(stdout, NULL, _IOLBF, 0);
    work.shared = mmap(NULL, sizeof *work.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (work.shared == MAP_FAILED)
        return usage(2);
    printf("larder-steps: seed 0x%" PRIx64 "\n", work.seed);
    if (state >= 0)
        work.chosen[state][operation] = true;
    else
        choose(&work, count);
    run_jobs(&work);
    if (atomic_load(&work.shared->not_permitted) != 0) {
        puts("SKIPPED larder-steps: ptrace is not permitted");
        return 77;
    }
    printf("G2: %" PRIu64 " operations in states, %" PRIu64 " instructions\n", atomic_load(&work.shared->pairs),
           atomic_load(&work.shared->steps));
    printf("GOAL G2 count=%" PRIu64 " unit=images failures=%" PRIu64 " seconds=%.1f seed=0x%" PRIx64 "\n",
           atomic_load(&work.shared->images), atomic_load(&work.shared->failures),
           (double)(now_ns() - started_ns) / 1e9, work.seed);
    return atomic_load(&work.shared->failures) == 0 ? 0 : 1;
}
