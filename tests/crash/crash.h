/* SPDX-License-Identifier: MIT */
/*
 * Which instant is the last one? Crash points (points.h) and stores into the segment are counted in one sequence, and
 * the process that reaches the armed number dies by SIGKILL there, before the store.
 */
#ifndef CRASH_H
#define CRASH_H

#include "points.h"

#include <stdbool.h>
#include <stdint.h>

#define CRASH_MARKS 20000u /* crash points that one sequence remembers */
#define CRASH_POINTS 256u  /* labels at most */

/* Of one job, in memory that its children share. */
struct crash {
    uint64_t low, high; /* addresses between which stores count */
    uint64_t count;     /* instants so far; 0 and not counting unless armed */
    uint64_t die_at;    /* UINT64_MAX never */
    uint64_t seed;      /* of the random numbers that the core asks for */
    bool armed;
    bool follow;   /* count stores into whatever is mapped shared */
    bool finished; /* the child came to its end */
    uint32_t marks;
    struct {
        uint64_t at;
        uint32_t point;
    } mark[CRASH_MARKS]; /* the crash points of the sequence */
};
extern struct crash *crash;
/* One flag for each label: somebody died there. Shared by all jobs. */
extern _Atomic bool *crash_reached;

unsigned crash_point_count(void);
const char *crash_point_label(unsigned point);
/* Counts from here on; dies at instant `die_at` (the first is 1). */
void crash_arm(uint64_t die_at, const void *base, uint64_t bytes);
void crash_disarm(void);

#endif
