/* SPDX-License-Identifier: MIT */
/*
 * W-TinyLFU: G. Einziger, R. Friedman, B. Manes, TinyLFU: a highly efficient cache admission policy, ACM Transactions
 * on Storage 2017, for objects of different sizes as in G. Einziger, O. Eytan, R. Friedman, B. Manes, Lightweight
 * robust size aware cache management, ACM Transactions on Storage 2022 (there "AV": aggregated victims).
 *
 *   new --> window (LRU) --> asked for as often as all whose room it takes? -- yes --> probation <-- hit --> protected
 *                                                                          \-- no --> out
 *
 * How often a key is asked for is estimated by a sketch: four counters for each key, shared with other keys, of which
 * the lowest tells. Counters stop at 15; after some requests for each object that the cache may hold all are halved.
 */
#include "ref_policy.h"

#include "larder_errors.h"
#include "value.h"

#include <stdlib.h>

#define WINDOW_PERCENT 2u
#define PROTECTED_PERCENT 80u /* of what is not window */
#define SAMPLE 10u            /* requests for each object between two halvings */
#define COUNTERS 4u           /* of the sketch, for each object; rounded up to a power of two */
#define LEAST_COUNTERS 1024u
#define HASHES 4u
#define COUNT_MOST 15u

struct tinylfu {
    uint64_t window, protect; /* bytes that they should have */
    uint64_t mask, requests, sample;
    uint8_t counters[];
};

/* ---- the sketch ------------------------------------------------------------------------------------------------- */

static uint8_t *counter_of(struct tinylfu *own, uint32_t key, unsigned hash) {
    return &own->counters[value_mix(value_mix(key) + hash) & own->mask];
}

static unsigned estimate(struct tinylfu *own, uint32_t key) {
    unsigned lowest = COUNT_MOST;
    for (unsigned hash = 0; hash < HASHES; hash++) {
        unsigned count = *counter_of(own, key, hash);
        lowest = count < lowest ? count : lowest;
    }
    return lowest;
}

static void seen(struct ref_cache *cache, uint32_t key) {
    struct tinylfu *own = cache->own;
    unsigned lowest = estimate(own, key);
    for (unsigned hash = 0; lowest < COUNT_MOST && hash < HASHES; hash++) {
        uint8_t *counter = counter_of(own, key, hash);
        if (*counter == lowest)
            ++*counter;
    }
    if (++own->requests < own->sample)
        return;
    for (uint64_t i = 0; i <= own->mask; i++)
        own->counters[i] /= 2;
    own->requests /= 2;
}

static int open_sketch(struct ref_cache *cache) {
    uint64_t objects = (uint64_t)((double)cache->capacity * cache->trace->keys / ((double)cache->trace->footprint + 1));
    uint64_t counters = LEAST_COUNTERS;
    if (objects > cache->trace->keys)
        objects = cache->trace->keys;
    while (counters < objects * COUNTERS)
        counters *= 2;
    struct tinylfu *own = calloc(1, sizeof *own + counters);
    if (own == NULL)
        return LARDER_ENO_MEMORY;
    own->window = cache->capacity / 100 * WINDOW_PERCENT;
    own->protect = (cache->capacity - own->window) / 100 * PROTECTED_PERCENT;
    own->mask = counters - 1;
    own->sample = SAMPLE * (objects > 16 ? objects : 16);
    cache->own = own;
    return 0;
}

static void close_sketch(struct ref_cache *cache) {
    free(cache->own);
}

/* ---- the queues ------------------------------------------------------------------------------------------------- */

static void hit(struct ref_cache *cache, uint32_t key) {
    const struct tinylfu *own = cache->own;
    const struct ref_queue *protected = &cache->queues[REF_MAIN];
    if (cache->objects[key].where == REF_WINDOW) {
        ref_move(cache, key, REF_WINDOW);
        return;
    }
    ref_move(cache, key, REF_MAIN);
    while (protected->bytes > own->protect && protected->head != key)
        ref_move(cache, protected->head, REF_PROBATION);
}

/* The next to go behind `key`, or the first for NONE: all of probation, then the protected. */
static uint32_t next_victim(const struct ref_cache *cache, uint32_t key) {
    uint32_t next = key == REF_NONE ? cache->queues[REF_PROBATION].head : cache->objects[key].next;
    if (next == REF_NONE && (key == REF_NONE || cache->objects[key].where == REF_PROBATION))
        next = cache->queues[REF_MAIN].head;
    return next;
}

static void evict(struct ref_cache *cache) {
    uint32_t key = next_victim(cache, REF_NONE);
    ref_take(cache, key != REF_NONE ? key : cache->queues[REF_WINDOW].head);
    cache->evictions++;
}

/* The room outside the window that is not taken. */
static uint64_t free_room(const struct ref_cache *cache) {
    uint64_t room = cache->capacity - ((const struct tinylfu *)cache->own)->window;
    uint64_t taken = cache->queues[REF_PROBATION].bytes + cache->queues[REF_MAIN].bytes;
    return taken < room ? room - taken : 0;
}

/*
 * Whether the candidate was asked for at least as often as each of those that it would evict. If not, those that it was
 * held against have been looked at, and go to the back of their queue.
 */
static bool is_worth_its_room(struct ref_cache *cache, uint32_t candidate) {
    uint64_t room = free_room(cache), bytes = cache->objects[candidate].bytes;
    unsigned its = estimate(cache->own, candidate);
    uint32_t key = REF_NONE, looked_at = 0;
    for (; room < bytes; room += cache->objects[key].bytes) {
        key = next_victim(cache, key);
        if (key == REF_NONE)
            return false;
        looked_at++;
        if (estimate(cache->own, key) <= its)
            continue;
        while (looked_at-- > 0) {
            key = next_victim(cache, REF_NONE);
            ref_move(cache, key, (enum ref_where)cache->objects[key].where);
        }
        return false;
    }
    return true;
}

static void leave_window(struct ref_cache *cache, uint32_t key) {
    ref_take(cache, key);
    if (!is_worth_its_room(cache, key)) {
        cache->evictions++;
        return;
    }
    while (free_room(cache) < cache->objects[key].bytes)
        evict(cache);
    ref_append(cache, key, REF_PROBATION);
}

static void admit(struct ref_cache *cache, uint32_t key, uint64_t bytes) {
    const struct tinylfu *own = cache->own;
    cache->objects[key].bytes = bytes;
    ref_append(cache, key, REF_WINDOW);
    while (cache->queues[REF_WINDOW].bytes > own->window)
        leave_window(cache, cache->queues[REF_WINDOW].head);
}

const struct ref_policy ref_wtinylfu = {
    .open = open_sketch, .close = close_sketch, .seen = seen, .hit = hit, .admit = admit, .evict = evict};
