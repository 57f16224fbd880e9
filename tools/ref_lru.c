/* SPDX-License-Identifier: MIT */
/* Least recently used: one queue; a hit moves to its tail, the head is evicted. */
#include "ref_policy.h"

static void hit(struct ref_cache *cache, uint32_t key) {
    ref_move(cache, key, REF_MAIN);
}

static void evict(struct ref_cache *cache) {
    ref_take(cache, cache->queues[REF_MAIN].head);
    cache->evictions++;
}

static void admit(struct ref_cache *cache, uint32_t key, uint64_t bytes) {
    while (cache->used + bytes > cache->capacity)
        evict(cache);
    cache->objects[key].bytes = bytes;
    ref_append(cache, key, REF_MAIN);
}

const struct ref_policy ref_lru = {.hit = hit, .admit = admit, .evict = evict};
