/* SPDX-License-Identifier: MIT */
/*
 * Holders: how long is a stripe unusable after its holder was killed, and what do readers notice of holders who are
 * stopped?
 */
#ifndef HOLDERS_H
#define HOLDERS_H

#include <stdbool.h>
#include <stdint.h>

struct holders_plan {
    uint64_t seed;
    unsigned kills;     /* of a holder, for each of two ways of waiting */
    unsigned intervals; /* of each kind, stopped and not */
};

/* Prints what it measures on stdout. False: a bound was grossly missed, or a call did the wrong thing; `broken` says
 * which. */
bool holders_measure(const struct holders_plan *plan, char broken[400]);

#endif
