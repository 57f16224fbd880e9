/* SPDX-License-Identifier: MIT */
/*
 * A segment that is damaged and restored, over and over: larder-corrupt makes calls on it, the suite 89_wounded runs
 * the verbs of `larder` on it.
 *
 *   damage_begin(&v, seed, job);    a segment of the least size, 64 KiB in one stripe, and a copy of it
 *   for each image:                 v.random.state = ...; damage_restore(&v); damage_do(&v); ...
 *   damage_end(&v);
 *
 * What the damage is follows from v.random alone. Restoring costs as little as a few calls do: the ring of hints is
 * four times as large as all else, so of it only what was damaged or written since is restored.
 */
#ifndef DAMAGE_H
#define DAMAGE_H

#include "stripe.h"

#define DAMAGE_KEYS UINT64_C(220)
#define DAMAGE_SLOTS 3u    /* participants that are damaged and restored */
#define DAMAGE_TOUCHED 64u /* words of the ring that one image's damage can hit */
#define DAMAGE_HOLES 64u

struct damage_random {
    uint64_t state;
};

static inline uint64_t damage_next(struct damage_random *random) {
    uint64_t x = random->state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline uint64_t damage_below(struct damage_random *random, uint64_t n) {
    return damage_next(random) % n;
}

struct victim {
    struct lr_options options;
    char name[65];
    struct lr_cache *cache;
    uint8_t *pristine;
    struct damage_random random;
    uint64_t ring_from;                /* ring_head as the damage left it: hints from there on are the calls' */
    uint64_t *touched[DAMAGE_TOUCHED]; /* words of the ring that were damaged */
    unsigned touched_count;
    uint64_t holes[DAMAGE_HOLES]; /* offsets, in the pristine segment */
    uint64_t hole_count;
};

/* Says so and aborts: what happened must not happen. */
_Noreturn void damage_fail(const char *what);

/* Odd jobs replicate. 0, or what lr_cache_create says, with `why`. */
int damage_begin(struct victim *v, uint64_t seed, unsigned job, char why[LR_WHY_BYTES]);
/* Destroys the segment, which need not be there any more. */
void damage_end(struct victim *v);
void damage_restore(struct victim *v);
/* One to four wounds. */
void damage_do(struct victim *v);

#endif
