/* SPDX-License-Identifier: MIT */
/*
 * S3-FIFO: J. Yang, Y. Zhang, Z. Qiu, Y. Yue, K. V. Rashmi, FIFO queues are all you need for cache eviction, SOSP 2023,
 * algorithm 1, with bytes where it counts objects.
 *
 *   new --> probation (a tenth) -- asked for twice or more --> main (CLOCK with counts up to 3)
 *               \-- less --> ghosts (keys, of nine tenths of the capacity) -- asked for --> main
 *
 * Room is made in probation, until main has more than its nine tenths. What expired stays known as a ghost.
 */
#include "ref_policy.h"

#define PROMOTE_AT 2u
#define COUNT_MOST 3u

static uint64_t probation_share(const struct ref_cache *cache) {
    return cache->capacity / 10;
}

static uint64_t ghost_share(const struct ref_cache *cache) {
    return cache->capacity / 10 * 9;
}

static void hit(struct ref_cache *cache, uint32_t key) {
    struct ref_object *object = &cache->objects[key];
    object->count = object->count < COUNT_MOST ? (uint8_t)(object->count + 1) : COUNT_MOST;
}

static void remember(struct ref_cache *cache, uint32_t key) {
    ref_move(cache, key, REF_GHOST);
    while (cache->queues[REF_GHOST].bytes > ghost_share(cache))
        ref_take(cache, cache->queues[REF_GHOST].head);
}

/* Of what expired the key stays known. */
static void leave(struct ref_cache *cache, uint32_t key, bool expired) {
    if (expired)
        remember(cache, key);
    else
        ref_take(cache, key);
}

static void evict_main(struct ref_cache *cache) {
    uint32_t key = cache->queues[REF_MAIN].head;
    for (; cache->objects[key].count > 0; key = cache->queues[REF_MAIN].head) {
        cache->objects[key].count--;
        ref_move(cache, key, REF_MAIN);
    }
    ref_take(cache, key);
    cache->evictions++;
}

/* False when all of probation was promoted. */
static bool evict_probation(struct ref_cache *cache) {
    for (;;) {
        uint32_t key = cache->queues[REF_PROBATION].head;
        if (key == REF_NONE)
            return false;
        if (cache->objects[key].count < PROMOTE_AT) {
            remember(cache, key);
            cache->evictions++;
            return true;
        }
        cache->objects[key].count = 0;
        ref_move(cache, key, REF_MAIN);
    }
}

static void evict(struct ref_cache *cache) {
    const struct ref_queue *q = cache->queues;
    bool probation = q[REF_MAIN].bytes <= cache->capacity - probation_share(cache) && q[REF_PROBATION].head != REF_NONE;
    if (!probation || !evict_probation(cache))
        evict_main(cache);
}

static void admit(struct ref_cache *cache, uint32_t key, uint64_t bytes) {
    struct ref_object *object = &cache->objects[key];
    bool known = object->where == REF_GHOST;
    if (known)
        ref_take(cache, key);
    while (cache->used + bytes > cache->capacity)
        evict(cache);
    object->bytes = bytes;
    object->count = 0;
    ref_append(cache, key, known ? REF_MAIN : REF_PROBATION);
}

const struct ref_policy ref_s3fifo = {.hit = hit, .admit = admit, .evict = evict, .leave = leave};
