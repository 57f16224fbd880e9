/* SPDX-License-Identifier: MIT */
/*
 * ARC: N. Megiddo, D. S. Modha, ARC: a self-tuning, low overhead replacement cache, FAST 2003, figure 4, with bytes
 * where it counts pages.
 *
 *   ghosts B1 <- T1 asked for once | T2 asked for again -> ghosts B2      T1 + T2 <= c, T1 + B1 <= c, all four <= 2 c
 *                    ^ p, the bytes that T1 should have
 *
 * A request for a ghost of T1 says that T1 was too short and raises p, one for a ghost of T2 lowers it.
 */
#include "ref_policy.h"

#include "larder_errors.h"

#include <stdlib.h>

#define T1 REF_PROBATION
#define T2 REF_MAIN
#define B1 REF_GHOST
#define B2 REF_SECOND_GHOST

static int open_target(struct ref_cache *cache) {
    cache->own = calloc(1, sizeof(double));
    return cache->own ? 0 : LARDER_ENO_MEMORY;
}

static void close_target(struct ref_cache *cache) {
    free(cache->own);
}

static void hit(struct ref_cache *cache, uint32_t key) {
    ref_move(cache, key, T2);
}

static void drop_oldest(struct ref_cache *cache, enum ref_where where) {
    cache->evictions += where == T1 || where == T2;
    ref_take(cache, cache->queues[where].head);
}

/* REPLACE of the paper: the oldest of T1 or T2 becomes a ghost. */
static void replace(struct ref_cache *cache, bool for_ghost_of_t2) {
    double p = *(const double *)cache->own, t1 = (double)cache->queues[T1].bytes;
    bool first = cache->queues[T1].head != REF_NONE && (t1 > p || (for_ghost_of_t2 && t1 >= p));
    if (cache->queues[T2].head == REF_NONE)
        first = true;
    ref_move(cache, cache->queues[first ? T1 : T2].head, first ? B1 : B2);
    cache->evictions++;
}

static void evict(struct ref_cache *cache) {
    replace(cache, false);
}

static void adapt(struct ref_cache *cache, enum ref_where ghost, uint64_t bytes) {
    double *p = cache->own, b1 = (double)cache->queues[B1].bytes, b2 = (double)cache->queues[B2].bytes;
    double c = (double)cache->capacity, size = (double)bytes;
    if (ghost == B1)
        *p += b2 > b1 ? size * b2 / b1 : size;
    else
        *p -= b1 > b2 ? size * b1 / b2 : size;
    *p = *p < 0 ? 0 : *p > c ? c : *p;
}

/* Case IV of the paper: unknown. The ghosts' lists are cut to their bounds. */
static void make_room_for_new(struct ref_cache *cache, uint64_t bytes) {
    struct ref_queue *q = cache->queues;
    while (q[T1].bytes + q[B1].bytes + bytes > cache->capacity && q[T1].bytes + q[B1].bytes > 0)
        drop_oldest(cache, q[B1].head != REF_NONE ? B1 : T1);
    while (cache->used + bytes > cache->capacity)
        replace(cache, false);
    while (cache->used + q[B1].bytes + q[B2].bytes + bytes > 2 * cache->capacity && q[B2].head != REF_NONE)
        drop_oldest(cache, B2);
}

static void admit(struct ref_cache *cache, uint32_t key, uint64_t bytes) {
    struct ref_object *object = &cache->objects[key];
    enum ref_where ghost = (enum ref_where)object->where;
    if (ghost == REF_NOWHERE) {
        make_room_for_new(cache, bytes);
    } else {
        adapt(cache, ghost, bytes);
        ref_take(cache, key);
        while (cache->used + bytes > cache->capacity)
            replace(cache, ghost == B2);
    }
    object->bytes = bytes;
    ref_append(cache, key, ghost == REF_NOWHERE ? T1 : T2);
}

const struct ref_policy ref_arc = {
    .open = open_target, .close = close_target, .hit = hit, .admit = admit, .evict = evict};
