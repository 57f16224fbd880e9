/* SPDX-License-Identifier: MIT */
/*
 * SIEVE: Y. Zhang, J. Yang, Y. Yue, Y. Vigfusson, K. V. Rashmi, SIEVE is simpler than LRU: an efficient turn-key
 * eviction algorithm for web caches, NSDI 2024, algorithm 1.
 *
 *   oldest  a  b  c  d  e  youngest      a hit marks, and moves nothing
 *                 ^ hand                 the hand takes marks off as it goes from old to young, and evicts the
 *                                        first that has none; behind the youngest it begins anew at the oldest
 */
#include "ref_policy.h"

#include "larder_errors.h"

#include <stdlib.h>

static int open_hand(struct ref_cache *cache) {
    uint32_t *hand = malloc(sizeof *hand);
    if (hand == NULL)
        return LARDER_ENO_MEMORY;
    *hand = REF_NONE;
    cache->own = hand;
    return 0;
}

static void close_hand(struct ref_cache *cache) {
    free(cache->own);
}

static void hit(struct ref_cache *cache, uint32_t key) {
    cache->objects[key].count = 1;
}

static void take(struct ref_cache *cache, uint32_t key) {
    uint32_t *hand = cache->own;
    if (*hand == key)
        *hand = cache->objects[key].next;
    ref_take(cache, key);
}

static void leave(struct ref_cache *cache, uint32_t key, bool expired) {
    (void)expired;
    take(cache, key);
}

static void evict(struct ref_cache *cache) {
    uint32_t *hand = cache->own;
    for (;;) {
        if (*hand == REF_NONE)
            *hand = cache->queues[REF_MAIN].head;
        if (cache->objects[*hand].count == 0)
            break;
        cache->objects[*hand].count = 0;
        *hand = cache->objects[*hand].next;
    }
    take(cache, *hand);
    cache->evictions++;
}

static void admit(struct ref_cache *cache, uint32_t key, uint64_t bytes) {
    while (cache->used + bytes > cache->capacity)
        evict(cache);
    cache->objects[key].bytes = bytes;
    cache->objects[key].count = 0;
    ref_append(cache, key, REF_MAIN);
}

const struct ref_policy ref_sieve = {
    .open = open_hand, .close = close_hand, .hit = hit, .admit = admit, .evict = evict, .leave = leave};
