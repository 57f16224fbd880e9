/* SPDX-License-Identifier: MIT */
/* Deaths and second deaths in one stripe: what the jobs of goal G1 do. */
#ifndef SWEEP_H
#define SWEEP_H

#include "scenario.h"

#include <stdatomic.h>

/* What all jobs add up, in shared memory. */
struct totals {
    _Atomic uint64_t cycles; /* deaths followed by a survivor's judgement */
    _Atomic uint64_t second; /* ... of which somebody died in the repair too */
    _Atomic uint64_t failures;
    _Atomic uint64_t pairs_done; /* operation x state */
    _Atomic uint32_t next;       /* task */
};

struct sweep_options {
    uint64_t seed;
    bool full;              /* every pair of crash points, not only the first hit of each label, and what is spared */
    const char *state;      /* NULL: all */
    int operation;          /* -1: all */
    uint64_t first, second; /* only this death; 0: all */
    struct totals *totals;
};

/* Every instant of every operation in this state, and every pair of crash points. */
void sweep_state(const struct sweep_options *options, unsigned state);
/* So many random deaths, each followed by one in the repair, at any two stores. */
void sweep_at_random(const struct sweep_options *options, unsigned state, uint64_t cycles);
/* Creating, opening and destroying a segment. */
void sweep_names(const struct sweep_options *options);

#endif
