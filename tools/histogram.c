/* SPDX-License-Identifier: MIT */
/* Adding histograms up and reading percentiles from them; counting is inline in histogram.h. */
#include "histogram.h"

#include <math.h>

void histogram_merge(struct histogram *to, const struct histogram *from) {
    to->count += from->count;
    if (from->highest > to->highest)
        to->highest = from->highest;
    for (unsigned i = 0; i < HISTOGRAM_CELLS; i++)
        to->cells[i] += from->cells[i];
}

/* The middle of the integers that fall into the cell. */
static double cell_middle(unsigned cell) {
    if (cell < HISTOGRAM_EXACT)
        return cell;
    unsigned shift = (cell - HISTOGRAM_EXACT) / HISTOGRAM_HALF + 1u;
    double low = ldexp((double)(HISTOGRAM_HALF + (cell - HISTOGRAM_EXACT) % HISTOGRAM_HALF), (int)shift);
    return low + (ldexp(1.0, (int)shift) - 1.0) / 2.0;
}

double histogram_at(const struct histogram *histogram, double share) {
    if (histogram->count == 0)
        return 0.0;
    /* The smallest rank that covers the share; at least the first value. */
    double wanted = ceil(share * (double)histogram->count);
    uint64_t rank = wanted < 1.0 ? 1 : (uint64_t)wanted;
    uint64_t below = 0;
    for (unsigned i = 0; i < HISTOGRAM_CELLS; i++) {
        below += histogram->cells[i];
        if (below >= rank) {
            double middle = cell_middle(i);
            return middle < (double)histogram->highest ? middle : (double)histogram->highest;
        }
    }
    return (double)histogram->highest;
}
