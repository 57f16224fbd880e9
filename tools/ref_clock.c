/* SPDX-License-Identifier: MIT */
/*
 * CLOCK, as a queue: at the head an object with a count goes to the tail and loses one, one without is evicted. A new
 * object has none. With counts of one bit it is the CLOCK of the textbooks (F. J. Corbato, A paging experiment with the
 * Multics system, 1969); with more, generalised CLOCK (A. J. Smith, Sequentiality and prefetching in database systems,
 * TODS 1978).
 */
#include "ref_policy.h"

static void hit(struct ref_cache *cache, uint32_t key) {
    cache->objects[key].count = 1;
}

static void hit_up_to_three(struct ref_cache *cache, uint32_t key) {
    struct ref_object *object = &cache->objects[key];
    object->count = object->count < 3 ? (uint8_t)(object->count + 1) : 3;
}

static void evict(struct ref_cache *cache) {
    uint32_t key = cache->queues[REF_MAIN].head;
    for (; cache->objects[key].count > 0; key = cache->queues[REF_MAIN].head) {
        cache->objects[key].count--;
        ref_move(cache, key, REF_MAIN);
    }
    ref_take(cache, key);
    cache->evictions++;
}

static void admit(struct ref_cache *cache, uint32_t key, uint64_t bytes) {
    while (cache->used + bytes > cache->capacity)
        evict(cache);
    cache->objects[key].bytes = bytes;
    cache->objects[key].count = 0;
    ref_append(cache, key, REF_MAIN);
}

const struct ref_policy ref_clock = {.hit = hit, .admit = admit, .evict = evict};
const struct ref_policy ref_clock2 = {.hit = hit_up_to_three, .admit = admit, .evict = evict};
