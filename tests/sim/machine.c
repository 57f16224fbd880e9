/* SPDX-License-Identifier: MIT */
/*
 * Who runs next?
 *
 *   UNUSED -> READY <-> WAITING (futex)         READY -> STOPPED -> READY (later, perhaps)
 *               |                               READY -> DEAD
 *               +--> DONE
 *
 * Each simulated process is a coroutine with a stack of its own. Exactly one runs; it runs until its fuse is burnt. The
 * fuse is one number: every access to the segment subtracts its weight, and only when it falls below zero does somebody
 * look what is due: a switch, the process's death or stop, or the end of our patience with the call.
 *
 * Two kinds of schedule: uniform ones switch after random weights of a mean that differs from schedule to schedule;
 * few-switches ones run one process at a time but for one to four switches at random points of the whole (S. Burckhardt
 * et al., PCT, 2010), which reaches deep orders that uniform noise does not. In half of all schedules a store weighs as
 * much as many loads, so that switches fall beside stores: most of what goes wrong goes wrong there.
 *
 * Stop: never scheduled again until the others are done. Stall: away for a little longer than others wait for the lock,
 * as for a slow page; then it works on beside whoever has gone on without the lock.
 *
 * Death: what the process has stored becomes visible, in order; its descriptors close at once or after a while.
 */
#include "sim.h"

#include "core.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* More than any call can need: a repair is about 5,000 loads and 2,000 stores. */
#define CALL_LOADS INT64_C(400000)
/* A little more than others wait for the lock: who deletes meanwhile goes on without it, beside the holder. */
#define STALL_NS UINT64_C(1000000)

struct sim_machine sim;

void sim_fail(const char *format, ...) {
    if (sim.failed)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sim.failure, sizeof sim.failure, format, arguments);
    va_end(arguments);
    sim.failed = true;
    if (sim.tracing)
        sim_trace_note("FAILS: %s", sim.failure);
}

/* ---- the fuse --------------------------------------------------------------------------------------------------- */

static void account(void) {
    int64_t used = sim.armed - sim.fuse;
    sim.armed = sim.fuse = 0;
    sim.total += used;
    sim.until_switch -= used;
    sim.now->until_end -= used;
    sim.now->call_left -= used;
}

static void arm(void) {
    int64_t least = sim.until_switch;
    if (sim.now->until_end < least)
        least = sim.now->until_end;
    if (sim.now->call_left < least)
        least = sim.now->call_left;
    sim.armed = sim.fuse = least < 0 || sim.tracing ? 0 : least;
}

static void begin_slice(void) {
    if (sim.gap != 0)
        sim.until_switch = (int64_t)sim_below((uint64_t)sim.gap * 2 + 1);
    else if (sim.point < sim.points)
        sim.until_switch = sim.switch_at[sim.point] > sim.total ? sim.switch_at[sim.point] - sim.total : 0;
    else
        sim.until_switch = SIM_FOREVER;
}

void sim_machine_begin_call(const char *name) {
    account();
    sim.now->call = name;
    sim.now->call_left = CALL_LOADS * (1 + sim.store_weight);
    arm();
}

/* ---- switching -------------------------------------------------------------------------------------------------- */

/* Keeps the registers that a call must keep on the old stack, and takes those on the new one. */
void sim_machine_switch_stacks(void **from, void *to);
__asm__(".text\n"
        ".globl sim_machine_switch_stacks\n"
        ".hidden sim_machine_switch_stacks\n"
        ".type sim_machine_switch_stacks, @function\n"
        "sim_machine_switch_stacks:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size sim_machine_switch_stacks, .-sim_machine_switch_stacks\n");

/* Some of the stores that wait become visible. */
static void drain_some(void) {
    for (unsigned i = 0; sim.buffering && i < SIM_HANDLES; i++) {
        struct sim_process *p = &sim.processes[i];
        if (p->pending > 0 && sim_one_in(3))
            sim_runtime_drain(p, (unsigned)sim_below(p->pending + 1));
    }
}

static bool may_run(const struct sim_process *p) {
    return p->state == SIM_READY || (p->state == SIM_WAITING && p->wait_ns <= sim.now_ns);
}

static void end_wait(struct sim_process *p, bool woken) {
    p->state = SIM_READY;
    p->woken = woken;
    if (!woken && p->wait_ns > sim.now_ns)
        sim.now_ns = p->wait_ns;
}

static struct sim_process *first_to_wake(void) {
    struct sim_process *first = NULL;
    for (unsigned i = 0; i < SIM_HANDLES; i++) {
        struct sim_process *p = &sim.processes[i];
        if (p->state == SIM_WAITING && (first == NULL || p->wait_ns < first->wait_ns))
            first = p;
    }
    return first;
}

/* Somebody who can go on, `but` only if nobody else can. NULL: nobody. */
static struct sim_process *pick(const struct sim_process *but) {
    struct sim_process *able[SIM_HANDLES], *chosen = NULL;
    unsigned count = 0;
    for (unsigned i = 0; i < SIM_HANDLES; i++)
        if (&sim.processes[i] != but && may_run(&sim.processes[i]))
            able[count++] = &sim.processes[i];
    if (count > 0)
        chosen = able[count == 1 ? 0 : sim_below(count)];
    if (chosen == NULL && but != NULL && may_run(but))
        chosen = &sim.processes[but->number];
    if (chosen == NULL || (sim.jumpy && sim_one_in(6))) {
        struct sim_process *waiting = first_to_wake();
        chosen = waiting != NULL ? waiting : chosen;
    }
    if (chosen != NULL && chosen->state == SIM_WAITING)
        end_wait(chosen, false);
    return chosen;
}

/* Gives the processor away; comes back when it is this process's turn again. */
static void go_to(struct sim_process *next) {
    struct sim_process *before = sim.now;
    void **keep = before->number == SIM_NOBODY ? &sim.main_stack_pointer : &before->stack_pointer;
    if (next == before)
        return;
    drain_some();
    sim.now = next;
    sim_machine_switch_stacks(keep, next->number == SIM_NOBODY ? sim.main_stack_pointer : next->stack_pointer);
}

static void leave(void) {
    struct sim_process *next = pick(NULL);
    if (sim.gap != 0)
        begin_slice();
    go_to(next != NULL ? next : &sim.processes[SIM_NOBODY]);
    arm();
}

static void end_process(struct sim_process *p) {
    static const uint64_t lags[] = {0, 0, 0, 0, 200000, 5000000};
    sim_runtime_drain(p, SIM_STORES);
    p->until_end = SIM_FOREVER;
    if (sim.tracing)
        sim_trace_note(p->end == SIM_KILL ? "IS KILLED" : p->end == SIM_STOP ? "IS STOPPED" : "STALLS");
    if (p->end == SIM_STALL) {
        p->state = SIM_WAITING;
        p->wait_on = 0;
        p->wait_ns = sim.now_ns + STALL_NS + sim_below(STALL_NS / 4);
        leave();
        return;
    }
    p->state = p->end == SIM_KILL ? SIM_DEAD : SIM_STOPPED;
    if (p->end == SIM_KILL)
        sim_kernel_died(p->number, lags[sim_below(6)]);
    leave();
}

void sim_machine_due(void) {
    struct sim_process *p = sim.now;
    account();
    if (p->number != SIM_NOBODY) {
        if (p->call_left < 0) {
            sim_fail("process %u: %s does not end", p->number, p->call);
            p->state = SIM_DEAD;
            leave();
        }
        if (p->until_end < 0)
            end_process(p);
        if (sim.until_switch < 0) {
            if (sim.gap == 0 && sim.point < sim.points)
                sim.point++;
            begin_slice();
            go_to(pick(p));
        }
    }
    arm();
}

void sim_machine_pause(void) {
    sim_step(1);
    if (!sim.patient || sim.now->number == SIM_NOBODY)
        return;
    account();
    go_to(pick(sim.now));
    arm();
}

void sim_machine_wait(uintptr_t on, uint64_t wait_ns) {
    struct sim_process *p = sim.now;
    if (p->number == SIM_NOBODY) {
        sim.now_ns = wait_ns;
        return;
    }
    account();
    p->state = SIM_WAITING;
    p->wait_on = on;
    p->wait_ns = wait_ns;
    leave();
}

unsigned sim_machine_wake(uintptr_t on, unsigned count) {
    unsigned woken = 0;
    for (unsigned i = 0; i < SIM_HANDLES && woken < count; i++) {
        struct sim_process *p = &sim.processes[i];
        if (p->state == SIM_WAITING && p->wait_on == on) {
            end_wait(p, true);
            woken++;
        }
    }
    return woken;
}

void sim_machine_locked(bool recover) {
    static const unsigned short_spans[] = {8, 40, 200}, long_spans[] = {40, 600, 4000};
    struct sim_process *p = sim.now;
    if (p->number >= SIM_DOCTOR || p->until_end < SIM_FOREVER / 2)
        return;
    bool stop = sim.stops > 0 && (sim.kills == 0 || sim_one_in(2));
    if ((!stop && sim.kills == 0) || (sim.only_first ? p->number != 0 : sim_one_in(3)))
        return;
    uint64_t span = (recover ? long_spans : short_spans)[sim_below(3)];
    if (stop)
        sim.stops--;
    else
        sim.kills--;
    account();
    p->end = !stop ? SIM_KILL : sim_one_in(2) ? SIM_STOP : SIM_STALL;
    sim.jumpy = sim.jumpy || p->end == SIM_STALL;
    p->until_end = (int64_t)sim_below(span * (uint64_t)sim.store_weight);
    arm();
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static void run_process(void) {
    arm();
    sim_script_run(sim.now->number);
    account();
    sim_runtime_drain(sim.now, SIM_STORES);
    sim.now->state = SIM_DONE;
    leave();
    abort(); /* nobody calls those who are done */
}

void sim_machine_init(void) {
    for (unsigned i = 0; i < SIM_HANDLES; i++) {
        uint8_t *stack = mmap(NULL, SIM_STACK + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stack == MAP_FAILED || mprotect(stack, 4096, PROT_NONE) != 0) {
            perror("larder-sim: stacks");
            exit(1);
        }
        sim.processes[i].stack = stack + 4096;
    }
    for (unsigned i = 0; i <= SIM_HANDLES; i++)
        sim.processes[i].number = i;
    sim_machine_reset();
}

void sim_machine_reset(void) {
    for (unsigned i = 0; i <= SIM_HANDLES; i++) {
        struct sim_process *p = &sim.processes[i];
        p->state = SIM_UNUSED;
        if (p->pending > 0) /* else nothing is in the filter either */
            memset(p->filter, 0, sizeof p->filter);
        p->first = p->pending = 0;
        p->until_end = p->call_left = SIM_FOREVER;
        p->call = "nothing";
    }
    sim_runtime_undo();
    sim.now = &sim.processes[SIM_NOBODY];
    sim.buffering = false;
    sim.gap = 0;
    sim.point = sim.points = 0;
    sim.kills = sim.stops = 0;
    sim.patient = true;
    sim.jumpy = sim.backwards = sim.only_first = false;
    sim.store_weight = 1;
    sim.until_switch = SIM_FOREVER;
    sim.total = 0;
    sim.failed = false;
    sim.armed = sim.fuse = 0;
    arm();
}

void sim_machine_spawn(unsigned number) {
    struct sim_process *p = &sim.processes[number];
    uintptr_t *top = (uintptr_t *)(void *)(p->stack + SIM_STACK);
    *--top = 0; /* so that the stack is aligned as after a call */
    *--top = (uintptr_t)run_process;
    for (unsigned i = 0; i < 6; i++)
        *--top = 0;
    p->stack_pointer = top;
    p->state = SIM_READY;
}

void sim_machine_run(void) {
    account();
    begin_slice();
    struct sim_process *next = pick(NULL);
    if (next != NULL)
        go_to(next);
    sim.until_switch = SIM_FOREVER;
    arm();
}
