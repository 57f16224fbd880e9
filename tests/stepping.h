/* SPDX-License-Identifier: MIT */
/*
 * One operation, executed instruction by instruction, and the segment as it was after each: what others would find if
 * its process had been killed right there. The process steps itself: with the processor's trap flag set it gets a
 * SIGTRAP after each instruction, and looks. (Under ptrace, with two switches between processes for each instruction,
 * it takes five times as long.) For larder-steps.
 */
#ifndef STEPPING_H
#define STEPPING_H

#include "scenario.h"

struct stepping {
    unsigned share;  /* of steps that change only what blocks hold one in so many is kept: 1 all */
    unsigned most;   /* of more images than these any so many are kept, each with the same chance */
    uint64_t random; /* which: its state */
    uint8_t *images;
    const unsigned *numbers; /* of each among all that there were */
    unsigned count, there_were;
    uint64_t steps;
    struct stepping_log *log; /* behind the images */
    size_t bytes;             /* of both */
};

/* Runs the scenario's operation in a child, whose byte falls with it. 0; 77: not on this processor; 1: it went wrong,
 * scenario->what says how. */
int stepping_collect(struct scenario *s, struct stepping *stepping);
/* Puts image `i` of `count` back, and goes on as survivors do. Every few images somebody dies in the repair first, at
 * an instant that depends on `random`. False: scenario->what says what is wrong. */
bool stepping_judge(struct scenario *s, const struct stepping *stepping, unsigned i, uint64_t random);
void stepping_free(struct stepping *stepping);

#endif
