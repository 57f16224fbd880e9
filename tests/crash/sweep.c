/* SPDX-License-Identifier: MIT */
/*
 * One bench is one segment in one state. Its bytes are kept as an image; a cycle puts the image back, lets a child do
 * the operation until it dies at the armed instant, looks as a reader would, and lets the survivor take over and judge.
 *
 *   image -> victim dies at instant k -> look -> survivor takes over, judge
 *                        |
 *                        +-> (k is a crash point) its image -> repairer dies at instant j -> survivor takes over, judge
 *
 * The children share this process's memory (CLONE_VM) and are killed for good by SIGKILL: a whole cycle costs about as
 * much as a fork alone. What a process has for itself, and a death would take away, is put back by hand: the handle,
 * its page, the bitmap of a repair, and the locks of its probe. The byte of its slot was let go before, so that to all
 * others it is dead as soon as it is. Joining and leaving are done by forked children that really do so.
 */
#include "sweep.h"

#include "crash.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_BYTES (UINT64_C(256) << 10)
#define PATIENCE_S 20u /* a child that runs longer hangs */
#define FAILURES_TOLD 3u
#define PICKS 2000u

/* What a process knows for itself, to be put back after it was killed. */
struct memory {
    struct lr_cache handle;
    struct lr_private self;
};

struct bench {
    const struct sweep_options *options;
    struct scenario s;
    struct lr_cache *repairer;
    struct memory victim_before, repairer_before;
    uint8_t *image;   /* before the operation */
    uint8_t *crashed; /* after the first death */
    uint8_t *stack;
    uint64_t die_at;
    uint32_t failures;
};

/* ---- benches -------------------------------------------------------------------------------------------------- */

static void name_segment(char name[65]) {
    static unsigned count;
    snprintf(name, 65, "t.%ld.crash.%u", (long)getpid(), ++count);
}

static void remember(struct memory *memory, const struct lr_cache *cache) {
    memory->handle = *cache;
    memory->self = *cache->self;
}

static void recall(const struct memory *memory, struct lr_cache *cache) {
    struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    *cache = memory->handle;
    memcpy(cache->self, &memory->self, sizeof *cache->self);
    memset(cache->scratch, 0, cache->geometry.stripe_bytes / SM_GRANULE / 8);
    (void)fcntl(cache->probe_fd, F_OFD_SETLK, &all); /* as the kernel does when the last descriptor goes */
}

static bool open_bench(struct bench *b, const struct sweep_options *options, unsigned state) {
    static char name[65];
    *b = (struct bench){.options = options};
    name_segment(name);
    b->s.options = lr_options_default();
    b->s.options.name = name;
    crash->seed = options->seed + state;
    b->image = malloc(SCENARIO_IMAGE_BYTES);
    b->crashed = malloc(SCENARIO_IMAGE_BYTES);
    b->stack = malloc(STACK_BYTES);
    if (!scenario_prepare(&b->s, &scenario_states[state]) || lr_cache_attach(&b->s.options, &b->repairer, NULL) != 0) {
        printf("FAILED %s: %s\n", scenario_states[state].name, b->s.what);
        atomic_fetch_add(&options->totals->failures, 1);
        return false;
    }
    lr_drive_clock(b->repairer, lr_now_ms(b->s.survivor));
    scenario_let_byte_fall(b->s.victim);
    scenario_let_byte_fall(b->repairer);
    remember(&b->victim_before, b->s.victim);
    remember(&b->repairer_before, b->repairer);
    scenario_read_image(&b->s, b->image);
    return true;
}

static void close_bench(struct bench *b) {
    if (b->repairer != NULL) {
        recall(&b->victim_before, b->s.victim);
        recall(&b->repairer_before, b->repairer);
        scenario_write_image(&b->s, b->image);
        atomic_store(&b->repairer->self->joined, 0);
        lr_cache_detach(b->repairer);
    }
    scenario_end(&b->s);
    free(b->image);
    free(b->crashed);
    free(b->stack);
}

/* ---- deaths --------------------------------------------------------------------------------------------------- */

static int be_victim(void *context) {
    struct bench *b = context;
    alarm(PATIENCE_S);
    if (b->s.operation == LEAVE)
        (void)lr_enter(b->s.victim);
    crash_arm(b->die_at, b->s.victim->base, b->s.victim->map_bytes);
    scenario_operate(&b->s);
    crash_disarm();
    crash->finished = true;
    _exit(0);
}

static int be_repairer(void *context) {
    struct bench *b = context;
    struct lr_view view;
    alarm(PATIENCE_S);
    crash_arm(b->die_at, b->repairer->base, b->repairer->map_bytes);
    lr_reap(b->repairer);
    if (lr_stripe_lock(&view, b->repairer, 0) == 0)
        lr_stripe_unlock(&view);
    crash_disarm();
    crash->finished = true;
    _exit(0);
}

/* Runs a child to its death or end. False: neither came as it should. */
static bool run(struct bench *b, int (*body)(void *), bool forks, uint64_t die_at) {
    int status = 0;
    b->die_at = die_at;
    crash->finished = false;
    pid_t child = forks ? fork() : clone(body, b->stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | SIGCHLD, b);
    if (child == 0)
        _exit(body(b));
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    crash_disarm();
    if (child > 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return true;
    if (child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 && crash->finished)
        return true;
    snprintf(b->s.what, sizeof b->s.what, "%s",
             child <= 0                                           ? "no child"
             : WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "hangs"
                                                                  : "crashes by itself");
    return false;
}

static bool kill_victim(struct bench *b, uint64_t k) {
    scenario_write_image(&b->s, b->image);
    bool right = run(b, be_victim, scenario_needs_fork(b->s.operation), k);
    recall(&b->victim_before, b->s.victim);
    b->s.finished = right && crash->finished;
    return right;
}

static bool kill_repairer(struct bench *b, uint64_t j) {
    bool right = run(b, be_repairer, false, j);
    recall(&b->repairer_before, b->repairer);
    return right;
}

/* The survivor takes over, counting the instants of that. */
static bool take_over(struct bench *b) {
    crash_arm(UINT64_MAX, b->s.survivor->base, b->s.survivor->map_bytes);
    bool right = scenario_take_over(&b->s);
    crash_disarm();
    return right;
}

static void tell(struct bench *b, uint64_t k, uint64_t j) {
    atomic_fetch_add(&b->options->totals->failures, 1);
    if (b->failures++ >= FAILURES_TOLD)
        return;
    printf("FAILED %s, %s, death at %llu, second at %llu: %s\n"
           "    again: larder-crash --goal G1 --seed 0x%llx --state '%s' --operation '%s' --death %llu,%llu\n",
           b->s.state->name, scenario_operation_names[b->s.operation], (unsigned long long)k, (unsigned long long)j,
           b->s.what, (unsigned long long)b->options->seed, b->s.state->name, scenario_operation_names[b->s.operation],
           (unsigned long long)k, (unsigned long long)j);
    fflush(stdout);
}

static void count_cycle(struct bench *b, bool second) {
    atomic_fetch_add_explicit(&b->options->totals->cycles, 1, memory_order_relaxed);
    if (second)
        atomic_fetch_add_explicit(&b->options->totals->second, 1, memory_order_relaxed);
}

/* ---- sweeping ------------------------------------------------------------------------------------------------- */

/* Instants at which a crash point stands: the first hit of each label, or every hit. */
static unsigned pick_marks(const struct bench *b, uint64_t picks[PICKS]) {
    unsigned n = 0;
    for (uint32_t i = 0; i < crash->marks && n < PICKS; i++) {
        bool first = true;
        for (uint32_t other = 0; other < i && first; other++)
            first = crash->mark[other].point != crash->mark[i].point;
        if (first || b->options->full)
            picks[n++] = crash->mark[i].at;
    }
    return n;
}

static bool is_picked(const uint64_t *picks, unsigned n, uint64_t k) {
    for (unsigned i = 0; i < n; i++)
        if (picks[i] == k)
            return true;
    return false;
}

static void second_death(struct bench *b, uint64_t k, uint64_t j) {
    scenario_write_image(&b->s, b->crashed);
    bool right = kill_repairer(b, j) && take_over(b) && scenario_judge(&b->s);
    count_cycle(b, true);
    if (!right)
        tell(b, k, j);
}

/* Death at k, then one death in the repair at each crash point of it. */
static void first_death(struct bench *b, uint64_t k, bool pairs) {
    uint64_t picks[PICKS];
    unsigned picked = 0;
    bool right = kill_victim(b, k);
    if (right) {
        scenario_look(&b->s);
        if (pairs)
            scenario_read_image(&b->s, b->crashed);
        right = take_over(b);
        if (pairs)
            picked = pick_marks(b, picks);
        right = right && scenario_judge(&b->s);
    }
    count_cycle(b, false);
    if (!right)
        tell(b, k, 0);
    for (unsigned i = 0; right && i < picked; i++)
        if (b->options->second == 0 || b->options->second == picks[i])
            second_death(b, k, picks[i]);
}

/* Instants of the operation when nobody dies; 0: it went wrong. */
static uint64_t count_instants(struct bench *b) {
    if (kill_victim(b, UINT64_MAX) && crash->finished)
        return crash->count;
    tell(b, 0, 0);
    return 0;
}

static void sweep_operation(struct bench *b, enum scenario_operation operation) {
    static uint64_t picks[PICKS];
    scenario_choose(&b->s, operation);
    b->failures = 0;
    const uint64_t instants = count_instants(b);
    const unsigned picked = pick_marks(b, picks);
    if (b->options->first != 0) {
        first_death(b, b->options->first, b->options->second != 0);
        if (b->options->second != 0 && !is_picked(picks, picked, b->options->first))
            second_death(b, b->options->first, b->options->second);
        return;
    }
    /* One past the last: died when all was done. */
    for (uint64_t k = 1; instants != 0 && k <= instants + 1 && b->failures < FAILURES_TOLD; k++)
        first_death(b, k, !b->s.holds && is_picked(picks, picked, k));
    atomic_fetch_add(&b->options->totals->pairs_done, 1);
}

static bool is_wanted(const struct sweep_options *options, const struct scenario_state *state,
                      enum scenario_operation operation) {
    if (options->operation >= 0 && options->operation != (int)operation)
        return false;
    return scenario_applies(state, operation) &&
           (options->full || options->operation >= 0 || !scenario_is_spared(state, operation));
}

void sweep_state(const struct sweep_options *options, unsigned state) {
    static struct bench bench;
    if (open_bench(&bench, options, state))
        for (enum scenario_operation o = 0; o < SCENARIO_OPERATIONS; o++)
            if (is_wanted(options, &scenario_states[state], o))
                sweep_operation(&bench, o);
    close_bench(&bench);
}

/* ---- at random ------------------------------------------------------------------------------------------------ */

static uint64_t below(uint64_t *random, uint64_t n) {
    uint64_t x = *random += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (x ^ (x >> 31)) % n;
}

void sweep_at_random(const struct sweep_options *options, unsigned state, uint64_t cycles) {
    static struct bench bench;
    struct bench *b = &bench;
    uint64_t instants[SCENARIO_OPERATIONS] = {0}, random = options->seed * 31 + state;
    if (!open_bench(b, options, state))
        cycles = 0;
    for (uint64_t done = 0; done < cycles && b->failures < FAILURES_TOLD;) {
        enum scenario_operation o = (enum scenario_operation)below(&random, SCENARIO_OPERATIONS);
        if (b->s.holds)
            break; /* a living holder leaves nothing to take over from */
        if (scenario_needs_fork(o) || !scenario_applies(b->s.state, o))
            continue;
        scenario_choose(&b->s, o);
        if (instants[o] == 0 && (instants[o] = count_instants(b)) == 0)
            break;
        uint64_t k = 1 + below(&random, instants[o]);
        bool right = kill_victim(b, k);
        scenario_look(&b->s);
        scenario_read_image(&b->s, b->crashed);
        right = right && take_over(b);
        if (!right)
            tell(b, k, 0);
        for (unsigned i = 0; right && i < 8 && crash->count != 0; i++, done++)
            second_death(b, k, 1 + below(&random, crash->count));
    }
    close_bench(b);
}
