/* SPDX-License-Identifier: MIT */
/*
 * A scene: one segment with two handles, and a call through the first that is interrupted at an instruction of our
 * choice, where the second does something.
 *
 * The trap flag makes the processor raise SIGTRAP after every instruction of the call, so we learn the way that it
 * takes. Then, trial by trial, one instruction on that way is overwritten by a breakpoint. In its signal handler we do
 * what another process would do, and let the call end. Every trial begins with the same bytes. Instructions outside our
 * own code (libc, vdso) are no places to stop at, nor are the later rounds of a long loop.
 *
 * Only x86-64, and not under ThreadSanitizer, which has the signals in its own hands: SCENE_POSSIBLE.
 */
#ifndef SCENE_H
#define SCENE_H

#include "fixture.h"

#include "stripe.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__x86_64__) && !defined(LR_TSAN)
#define SCENE_POSSIBLE 1

#define VALUE 48u
#define TRAP_FLAG 0x100
#define WAY_MAX 200000u
#define STRIDE (FIXTURE_SANITIZED ? 73u : 1u) /* instrumented code is several times as long */
#define PASSES_MAX 6u

struct scene;
typedef void (*deed)(struct scene *scene);
struct scene {
    struct fixture fixture;
    struct lr_cache *one, *two;
    uint8_t *control, *data; /* the stripe as it is at the start of a trial */
    uint64_t key, other;     /* that the trials are about, and one that is put beside it */
    uint64_t versions[4];
    /* What the interrupted call said. */
    int result;
    uint64_t got[VALUE / 8 + 1];
    struct lr_item item;
    struct lr_pin pin, other_pin;
    bool flag, wrong, may_miss;
    unsigned moves;
    uint64_t keys, hints;
};

struct stop {
    uint64_t step; /* of the way that was recorded: before this instruction; 0 never */
    deed act;
    uint8_t *at;
    unsigned passes; /* how often it is passed until then, this time included */
};

static struct {
    struct scene *scene;
    enum { RECORD, LOOK, STOP } what;
    uint8_t *way[WAY_MAX];
    unsigned length;
    const sm_u64 *watched; /* RECORD: when does this word change? */
    uint64_t watched_value;
    unsigned changes[8], change_count;
    deed look;
    uint8_t *last; /* LOOK: the stripe as it was */
    struct stop stops[2];
    unsigned now;     /* the stop that is waited for */
    uint8_t original; /* the byte under its breakpoint */
} stepping;

/* Every trial begins with the same stripe. */
static inline void restore(struct scene *s) {
    memcpy(lr_stripe_at(s->one, 0), s->control, SM_STRIPE_FIXED);
    memcpy(lr_data_at(s->one, 0), s->data, s->one->geometry.stripe_bytes);
    s->flag = false;
}

/* ---- stepping --------------------------------------------------------------------------------------------------- */

static inline void toggle_trapping(void) {
    __asm__ volatile("lea -128(%%rsp), %%rsp\n pushfq\n xorq $0x100, (%%rsp)\n popfq\n lea 128(%%rsp), %%rsp" ::
                         : "memory", "cc");
}

extern char __executable_start, etext;

static inline bool is_ours(const uint8_t *at) {
    return at >= (const uint8_t *)&__executable_start && at < (const uint8_t *)&etext;
}

static inline void protect_code(int protection) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)&__executable_start & ~(page - 1);
    CU_ASSERT_EQUAL_FATAL(mprotect((void *)from, ((uintptr_t)&etext | (page - 1)) + 1 - from, protection), 0);
}

static inline bool has_changed(struct scene *s) {
    const size_t bytes = s->one->geometry.stripe_bytes;
    uint8_t *control = (uint8_t *)lr_stripe_at(s->one, 0), *data = lr_data_at(s->one, 0), *last = stepping.last;
    if (memcmp(last, control, SM_STRIPE_FIXED) == 0 && memcmp(last + SM_STRIPE_FIXED, data, bytes) == 0)
        return false;
    memcpy(last, control, SM_STRIPE_FIXED);
    memcpy(last + SM_STRIPE_FIXED, data, bytes);
    return true;
}

static inline void record(uint8_t *at) {
    if (stepping.length < WAY_MAX)
        stepping.way[stepping.length++] = at;
    if (stepping.watched == NULL || atomic_load(stepping.watched) == stepping.watched_value)
        return;
    stepping.watched_value = atomic_load(stepping.watched);
    if (stepping.change_count < 8)
        stepping.changes[stepping.change_count++] = stepping.length;
}

static inline void arm(void) {
    struct stop *stop = &stepping.stops[stepping.now];
    stepping.original = *stop->at;
    *stop->at = 0xcc;
}

static inline void on_trap(int signal_number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    struct stop *stop = &stepping.stops[stepping.now];
    (void)signal_number;
    (void)info;
    if (stepping.what == RECORD) {
        record((uint8_t *)registers[REG_RIP]);
    } else if (stepping.what == LOOK) {
        if (has_changed(stepping.scene))
            stepping.look(stepping.scene);
    } else if (registers[REG_EFL] & TRAP_FLAG) { /* the instruction that we had to step over is done */
        registers[REG_EFL] &= ~TRAP_FLAG;
        arm();
    } else {
        *stop->at = stepping.original;
        registers[REG_RIP]--;
        if (--stop->passes == 0) {
            stop->act(stepping.scene);
            stepping.now++;
        }
        if (stepping.now < 2 && stepping.stops[stepping.now].step != 0)
            registers[REG_EFL] |= TRAP_FLAG;
        else
            stepping.now = 2;
    }
}

static inline void run(struct scene *s, deed call) {
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO}, before;
    stepping.scene = s;
    sigaction(SIGTRAP, &action, &before);
    if (stepping.what == STOP)
        arm();
    else
        toggle_trapping();
    call(s);
    if (stepping.what != STOP)
        toggle_trapping();
    else if (stepping.now < 2) /* it took another way */
        *stepping.stops[stepping.now].at = stepping.original;
    sigaction(SIGTRAP, &before, NULL);
}

/* The way of a call that nobody interrupts; the trials of `interrupt` are on it. */
static inline unsigned record_way(struct scene *s, deed call, const sm_u64 *watched) {
    restore(s);
    call(s); /* once before: the dynamic linker has steps of its own */
    restore(s);
    stepping.what = RECORD;
    stepping.length = stepping.change_count = 0;
    stepping.watched = watched;
    stepping.watched_value = watched ? atomic_load(watched) : 0;
    run(s, call);
    CU_ASSERT(stepping.length < WAY_MAX);
    return stepping.length;
}

/* Can one stop there? Sets how often the place is passed after `from`. */
static inline bool place_stop(struct stop *stop, unsigned from) {
    if (stop->step == 0)
        return true;
    stop->at = stepping.way[stop->step - 1];
    stop->passes = 0;
    for (uint64_t i = from; i < stop->step; i++)
        stop->passes += stepping.way[i] == stop->at;
    return is_ours(stop->at) && stop->passes <= PASSES_MAX;
}

/* One trial: `act` before instruction `step` of the way, `later` before `later_step` (0 never). False: no place. */
static inline bool interrupt_twice(struct scene *s, deed call, unsigned step, deed act, unsigned later_step,
                                   deed later) {
    stepping.stops[0] = (struct stop){.step = step, .act = act};
    stepping.stops[1] = (struct stop){.step = later_step, .act = later};
    if (!place_stop(&stepping.stops[0], 0) || !place_stop(&stepping.stops[1], step))
        return false;
    stepping.what = STOP;
    stepping.now = 0;
    run(s, call);
    return stepping.now == 2;
}

static inline bool interrupt(struct scene *s, deed call, unsigned step, deed act) {
    restore(s);
    return interrupt_twice(s, call, step, act, 0, NULL);
}

static inline void look_at_each_change(struct scene *s, deed call, deed look) {
    stepping.last = malloc(SM_STRIPE_FIXED + s->one->geometry.stripe_bytes);
    restore(s);
    (void)has_changed(s);
    stepping.what = LOOK;
    stepping.look = look;
    run(s, call);
    free(stepping.last);
}

/* ---- scenes ------------------------------------------------------------------------------------------------------ */

static inline void begin(struct scene *s, uint64_t size, bool replicating) {
    struct lr_options options = lr_options_default();
    memset(s, 0, sizeof *s);
    options.size = size;
    options.stripes = 1;
    options.policy = LR_POLICY_clock; /* scenes know what the one hand does next */
    fixture_create_with(&s->fixture, &options);
    s->one = s->fixture.one;
    s->two = s->fixture.two;
    s->one->wait_ms = s->two->wait_ms = 0; /* the other one stands still while we wait */
    lr_set_replicating(s->one, replicating);
    s->control = malloc(SM_STRIPE_FIXED);
    s->data = malloc(s->one->geometry.stripe_bytes);
    protect_code(PROT_READ | PROT_WRITE | PROT_EXEC);
}

static inline void keep(struct scene *s) {
    memcpy(s->control, lr_stripe_at(s->one, 0), SM_STRIPE_FIXED);
    memcpy(s->data, lr_data_at(s->one, 0), s->one->geometry.stripe_bytes);
}

static inline void end(struct scene *s) {
    protect_code(PROT_READ | PROT_EXEC);
    restore(s);
    fixture_destroy(&s->fixture);
    free(s->control);
    free(s->data);
}

static inline void fill(uint64_t value[VALUE / 8], uint64_t key, uint64_t n) {
    for (unsigned i = 0; i < VALUE / 8; i++)
        value[i] = (key * 31 + n) * UINT64_C(0x9e3779b97f4a7c15) + i;
}

static inline bool is_filling(const void *got, uint64_t key, uint64_t n) {
    uint64_t value[VALUE / 8];
    fill(value, key, n);
    return memcmp(got, value, sizeof value) == 0;
}

static inline uint64_t put(struct lr_cache *cache, uint64_t key, uint64_t n) {
    uint64_t value[VALUE / 8];
    fill(value, key, n);
    struct lr_put p = {.key = &key, .key_len = 8, .value = value, .value_len = sizeof value};
    return lr_put(cache, &p) == 0 ? p.version : 0;
}

static inline struct lr_found find(struct scene *s, uint64_t key) {
    struct lr_view view = lr_view_of(s->two, 0);
    struct lr_key hashed = lr_key_of(s->two, &key, 8);
    return lr_index_find(&view, &hashed);
}

static inline void get_key(struct scene *s) {
    s->result = lr_get(s->one, &s->key, 8, s->got, sizeof s->got, &s->item, 0);
}

static inline void pin_key(struct scene *s) {
    s->result = lr_pin(s->one, &s->key, 8, &s->pin);
}

static inline void pin_key_only(struct scene *s) {
    pin_key(s);
    lr_unpin(s->one, &s->pin);
}

static inline void put_key(struct scene *s) {
    put(s->one, s->key, 2);
}

static inline void put_other(struct scene *s) {
    put(s->one, s->other, 1);
}

/* The result is filling n of the key, under its version. */
static inline bool got_filling(struct scene *s, uint64_t n) {
    return s->result == 0 && s->item.value_len == VALUE && s->item.version == s->versions[n] &&
           is_filling(s->got, s->key, n);
}

#else
#define SCENE_POSSIBLE 0
#endif

#endif
