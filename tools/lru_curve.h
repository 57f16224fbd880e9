/* SPDX-License-Identifier: MIT */
/*
 * What does exact LRU miss at every size, from one look at the trace?
 *
 * LRU keeps the objects in the order of their last use, and a cache of C bytes holds those at the top of that one
 * stack, whatever C is, as far as C bytes reach (R. L. Mattson, J. Gecsei, D. R. Slutz, I. L. Traiger, Evaluation
 * techniques for storage hierarchies, IBM Systems Journal 1970). So a get hits in all caches that reach down to its
 * object: its stack distance, in bytes. Distances are sums over the times of last use in a binary indexed tree (B. T.
 * Bennett, V. J. Kruskal, LRU stack processing, 1975; P. M. Fenwick 1994), O(log n) each.
 *
 *   stack    top | c 30 | a 10 | hole 20 | d 5 | ...      the distance of d is 65
 *
 * What is deleted, or overwritten, leaves a hole: a cache that had the object has room there now. Who enters at the top
 * takes its bytes from the highest holes, and only what they lack pushes others down. So each cache holds exactly what
 * byte-exact LRU of its size holds.
 *
 * Not so where the stack of a small cache is another than that of a large one: with TTLs (a small cache fetches again
 * and has a later deadline), where a get's size differs from what is stored, and in caches smaller than an object,
 * which never enters them. There each point is simulated.
 */
#ifndef LARDER_LRU_CURVE_H
#define LARDER_LRU_CURVE_H

#include "trace.h"

#define LRU_CURVE_POINTS 49u

struct lru_curve {
    unsigned count;                   /* 0: not computed */
    unsigned simulated;               /* of the points */
    uint64_t bytes[LRU_CURVE_POINTS]; /* rising */
    double miss_ratio[LRU_CURVE_POINTS];
};

/* Miss ratios at `count` sizes, which are in curve->bytes and rise. 0 or ENO_MEMORY. */
int lru_curve_run(const struct trace *trace, struct lru_curve *curve);

#endif
