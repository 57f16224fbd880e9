/* SPDX-License-Identifier: MIT */
/* Two replicas compared in one number each: a sum over entries does not depend on their order, nor on the number of
 * stripes. */
#include "stripe.h"

#include <sys/mman.h>

uint64_t lr_entry_term(uint64_t hash, uint64_t version) {
    return lr_range_term(hash, version);
}

static int digest_stripe(struct lr_cache *cache, uint32_t number, void *buf, size_t cap, struct lr_digest *digest) {
    struct lr_scan scan = lr_scan_stripe(number);
    struct lr_entry entry;
    uint32_t restarts = 0;
    int result;
    while ((result = lr_scan_next(cache, &scan, buf, cap, &entry)) == 0 || result == LARDER_EBUSY) {
        if (scan.restarts != restarts) { /* what was counted is counted again */
            *digest = (struct lr_digest){0};
            restarts = scan.restarts;
        }
        if (result != 0 || entry.tombstone || entry.kind != LR_SHARED)
            continue;
        uint64_t key = XXH3_64bits_withSeed(entry.key, entry.key_len, entry.version);
        uint64_t value = XXH3_64bits_withSeed(entry.value, entry.value_len, entry.flags);
        digest->sum += lr_mix(key + lr_mix(value));
        digest->items++;
        digest->bytes += (uint64_t)entry.key_len + entry.value_len;
    }
    return result;
}

int lr_digest(struct lr_cache *cache, struct lr_digest *digest) {
    *digest = (struct lr_digest){0};
    const size_t cap = lr_entry_bytes(cache);
    void *buf = mmap(NULL, cap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buf == MAP_FAILED)
        return LARDER_ENO_MEMORY;
    int result = LARDER_ENOT_FOUND;
    for (uint32_t i = 0; i < cache->geometry.stripe_count && result == LARDER_ENOT_FOUND; i++) {
        struct lr_digest stripe = {0};
        result = digest_stripe(cache, i, buf, cap, &stripe);
        digest->sum += stripe.sum;
        digest->items += stripe.items;
        digest->bytes += stripe.bytes;
    }
    munmap(buf, cap);
    return result == LARDER_ENOT_FOUND ? 0 : result;
}
