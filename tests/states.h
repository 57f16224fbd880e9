/* SPDX-License-Identifier: MIT */
/* What the parts of a scenario (states.c, scenario.c, judgement.c) know of its state, its keys and their values. */
#ifndef STATES_H
#define STATES_H

#include "scenario.h"

#define SCENARIO_TARGET 7u /* the operation's key among keys[] */
#define SCENARIO_OTHER 1000003u

enum scenario_trait {
    REPLICATING = 1 << 0, /* leaves tombstones, hints */
    EXPIRED = 1 << 1,     /* the clock has passed ttl_ms */
    HOLES = 1 << 2,       /* every fourth key was deleted again */
    PINNED = 1 << 3,      /* the survivor pins the operation's key */
    FULL = 1 << 4,        /* what is stored evicts */
    WARM = 1 << 5,        /* all was read: the hand slides */
    SPLIT = 1 << 6,       /* keys are added until the next put splits a bucket */
    BORDER = 1 << 7,      /* ... and the border must rise for it */
    CROWDED = 1 << 8,     /* both buckets of the new key are full, and only a move down helps */
    TOMBSTONES = 1 << 9,  /* as many as may be, half of them acknowledged */
    HELD = 1 << 10,       /* held blocks, half of them still pinned */
    NOTES = 1 << 11,      /* delete notes wait for the next holder */
    LOCKED = 1 << 12,     /* the survivor holds the stripe and does not answer */
    ORPHAN = 1 << 13,     /* somebody died before, while they repaired after somebody who died */
    FLUSHED = 1 << 14,    /* a flush has passed over most of the items, which are still there */
    SHRINKS = 1 << 15,    /* the next put makes probation smaller */
    GROWS = 1 << 16,      /* ... or larger, by some of main's gap */
    SPREAD = 1 << 17,     /* pins leave no large run in either region, but one across the divide */
    CLOCK = 1 << 18,      /* policy clock: one region, no ghosts */
    MERGES = 1 << 19,     /* the next put merges two pairs of buckets */
    FALLS = 1 << 20,      /* ... and the border falls */
    MODAL = 1 << 21,      /* keys of all modes, of which the peers know all, some or nothing; marks were taken */
    OURS = 1 << 22,       /* ... the operation's key is local, else of mode invalidate */
    FILLED = 1 << 23,     /* ... it was changed and then filled in, which no peer has heard of */
    DELETED = 1 << 24,    /* ... it was deleted, which no peer has heard of */
    AGED = 1 << 25,       /* policy s3 chooses by age, not by its rules */
    AGES = 1 << 26,       /* will do so with the next new key, its hands at the start */
};

/* MODAL: the first byte says of which mode it is. */
static inline uint64_t scenario_key(const struct scenario_state *state, uint64_t i) {
    const char target = state->traits & OURS ? 'l' : 'i';
    const char mode = i == SCENARIO_TARGET || i == SCENARIO_OTHER ? target : "ilv"[i % 3];
    return state->traits & MODAL ? i << 8 | (uint8_t)mode : i;
}

static inline uint64_t scenario_target(const struct scenario *s) {
    return s->keys[SCENARIO_TARGET];
}

/* The keys that operations make; the first is the one that they make alone. */
static inline uint64_t scenario_new_key(const struct scenario *s, unsigned i) {
    return i == 0 ? s->other : scenario_key(s->state, 2000000 + i);
}

/* The modes of MODAL, invalidate and local; and one of a prefix that no key has, which a larderd sets. */
extern const struct lr_mode_row scenario_modes[2], scenario_new_mode;

/* The value that preparing and PUT_MANY give to a key; its length. */
size_t scenario_value(const struct scenario *s, uint64_t key, uint8_t out[512]);
/* Whether some peer is still to be told of it. */
static inline bool scenario_is_owed(const struct scenario *s, const struct lr_entry *entry) {
    return entry->kind != LR_LOCAL && lr_epoch_after(s->survivor, 0, entry->epoch, lr_epoch_get_acked(s->survivor, 0));
}
/* False; and scenario->what says it. */
__attribute__((format(printf, 2, 3))) bool scenario_fails(struct scenario *s, const char *format, ...);

#endif
