/* SPDX-License-Identifier: MIT */
/*
 * How long did the slowest one in a thousand take?
 *
 * Durations are counted in cells whose width grows with their value: exact below 64, then 32 cells for each power of
 * two, so a cell is never wider than a thirty-second part of its lower edge and a percentile is at most 3.2 % off.
 *
 *   value      0 .. 63    64 .. 127    128 .. 255    ...
 *   cells      64 of 1    32 of 2      32 of 4       ...
 *
 * The structure holds no pointer: workers fill theirs in shared memory, the parent adds them up. One writer each.
 */
#ifndef LARDER_HISTOGRAM_H
#define LARDER_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_EXACT 64u
#define HISTOGRAM_HALF 32u
#define HISTOGRAM_CELLS (HISTOGRAM_EXACT + (64u - 6u) * HISTOGRAM_HALF)

struct histogram {
    uint64_t count;
    uint64_t highest;
    uint64_t cells[HISTOGRAM_CELLS];
};

static inline unsigned histogram_cell(uint64_t value) {
    if (value < HISTOGRAM_EXACT)
        return (unsigned)value;
    unsigned shift = 58u - (unsigned)__builtin_clzll(value); /* brings the value to 32 .. 63 */
    return HISTOGRAM_EXACT + (shift - 1u) * HISTOGRAM_HALF + (unsigned)(value >> shift) - HISTOGRAM_HALF;
}

static inline void histogram_add(struct histogram *histogram, uint64_t value) {
    histogram->count++;
    histogram->cells[histogram_cell(value)]++;
    if (value > histogram->highest)
        histogram->highest = value;
}

/* Adds `from` to `to`. */
void histogram_merge(struct histogram *to, const struct histogram *from);
/*
 * The value below or at which a share (0 to 1) of the counted values lie: the middle of its cell, never above the
 * highest value counted. 0 when nothing was counted.
 */
double histogram_at(const struct histogram *histogram, double share);

#endif
