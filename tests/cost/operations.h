/* SPDX-License-Identifier: MIT */
/* The operations whose instructions are counted, each in a function of its own, which callgrind knows by its name. */
#ifndef COST_OPERATIONS_H
#define COST_OPERATIONS_H

#include "cache.h"

#define COST_TIMES 2000u /* operations of one count */
#define COST_BATCH 16u

/* X(name, tolerance in per cent, reads a clock, sentence). Puts vary with the places that random seeds give to keys. */
#define COST_OPERATIONS(X)                                                                                             \
    X(get_copy, 2, false, "a copy of 64 bytes")                                                                        \
    X(get_peek, 2, false, "the same without counts and recency")                                                       \
    X(get_miss, 2, false, "of a key that is not there")                                                                \
    X(get_deadline, 2, true, "of an item that expires")                                                                \
    X(get_many, 2, false, "one key of 16")                                                                             \
    X(get_pinned, 2, false, "pin and release")                                                                         \
    X(put_replace, 3, true, "of a key that is there")                                                                  \
    X(put_evict, 8, true, "of a new key, segment full, by the rules")                                                  \
    X(put_by_age, 8, true, "the same, by age")                                                                         \
    X(delete, 3, true, "of a key that is there")                                                                       \
    X(increment, 3, true, "of a counter")

enum cost_operation {
#define X(name, tolerance, clock, sentence) COST_##name,
    COST_OPERATIONS(X)
#undef X
        COST_OPERATION_COUNT
};

/* Does them all, COST_TIMES each, in counted_NAME(). Returns how many did not do what was asked. */
unsigned cost_work(void);
/* Page faults of some hundred thousand gets, puts and deletes once the segment is in memory; with `prefault` or not.
 * Negative: LARDER_E*. */
long cost_faults(bool prefault);

#endif
