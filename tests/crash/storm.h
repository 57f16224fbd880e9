/* SPDX-License-Identifier: MIT */
/* Creators of one name, killed at random: goal G11. */
#ifndef STORM_H
#define STORM_H

#include <stdatomic.h>
#include <stdint.h>

enum { LEFT_NOTHING, LEFT_LIVE_ALONE, LEFT_SEGMENT, LEFT_KINDS };

struct storm_totals {
    _Atomic uint64_t killed, finished, failures;
    _Atomic uint64_t left[LEFT_KINDS]; /* what a round's dead left under the name */
    _Atomic uint64_t attached;         /* whole segments that the attacher met */
    _Atomic uint64_t looked;           /* times that it tried */
};

/* Rounds of two creators at once, while a third process keeps attaching, until all jobs have `count` killed. */
void storm_of_creators(struct storm_totals *totals, uint64_t seed, uint64_t count);
void storm_tell(struct storm_totals *totals);

#endif
