/* SPDX-License-Identifier: MIT */
/*
 * Where does a key live?
 *
 * The cluster hash of a key (XXH3-64, fixed seed) is the same on every host: hints, tombstones and ranges speak of it.
 * The place is that hash mixed with the segment's random seed, so nobody can aim at a bucket from outside, and whoever
 * holds a cluster hash can find the item without the key.
 *
 *   place   63     54 53   45 44      32 31                      0
 *           | stripe | spare | tag 13   | placing hash: the bucket |
 *
 * The placing hash stands in the item's header too, so that splits and the hand need no look at the key.
 */
#ifndef LR_HASH_H
#define LR_HASH_H

#include "attachment.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static inline uint64_t lr_hash_key(const void *key, size_t key_len) {
    return XXH3_64bits(key, key_len);
}

/* A bijection of 64 bits (the finaliser of MurmurHash3, public domain, A. Appleby). */
static inline uint64_t lr_mix(uint64_t x) {
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    x ^= x >> 33;
    return x;
}

static inline uint64_t lr_place(const struct lr_cache *cache, uint64_t hash) {
    return lr_mix(hash ^ cache->geometry.hash_seed);
}

static inline uint32_t lr_place_stripe(const struct lr_cache *cache, uint64_t place) {
    return (uint32_t)(place >> 54) & (cache->geometry.stripe_count - 1u);
}

static inline uint64_t lr_place_tag(uint64_t place) {
    return (place << (SM_SLOT_TAG_SHIFT - 32)) & SM_SLOT_TAG_MASK;
}

static inline uint32_t lr_placing(uint64_t place) {
    return (uint32_t)place;
}

static inline unsigned lr_range_of(uint64_t hash) {
    return (unsigned)(hash >> 56);
}

/*
 * Linear hashing (W. Litwin, VLDB 1980): with n buckets, 2^L <= n < 2^(L+1), a key belongs to bucket placing mod
 * 2^(L+1), or, while that does not exist yet, to placing mod 2^L.
 */
static inline uint32_t lr_bucket_of(uint32_t placing, uint32_t buckets) {
    uint32_t mask = (UINT32_C(2) << (31 - __builtin_clz(buckets))) - 1u;
    uint32_t bucket = placing & mask;
    return bucket < buckets ? bucket : bucket & (mask >> 1);
}

/*
 * Every key has two buckets, by two hashes (two-choice hashing, Y. Azar et al., 1994): the second from the middle of a
 * product, so that keys of one bucket have their second buckets all over.
 */
static inline uint32_t lr_second(uint32_t placing) {
    return (uint32_t)((placing * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

/* Whether a word with this placing hash may stand in `bucket`. */
static inline bool lr_belongs(uint32_t placing, uint32_t bucket, uint32_t buckets) {
    return lr_bucket_of(placing, buckets) == bucket || lr_bucket_of(lr_second(placing), buckets) == bucket;
}

/* The bucket whose keys are shared out when bucket number `buckets` is made. */
static inline uint32_t lr_split_partner(uint32_t buckets) {
    return buckets - (UINT32_C(0x80000000) >> __builtin_clz(buckets));
}

/*
 * Walks go by bucket numbers whose bits are reversed, which is the order of the (reversed) hashes: each bucket has an
 * interval of [0, 2^32), a split halves it, a merge joins two that are neighbours (the idea of SCAN in Redis, P.
 * Noordhuis, 2012). So a position between two buckets stays one, whatever becomes of the index.
 */
static inline uint32_t lr_reversed(uint32_t bits) {
    bits = __builtin_bswap32(bits);
    bits = (bits >> 4 & 0x0f0f0f0fu) | (bits & 0x0f0f0f0fu) << 4;
    bits = (bits >> 2 & 0x33333333u) | (bits & 0x33333333u) << 2;
    return (bits >> 1 & 0x55555555u) | (bits & 0x55555555u) << 1;
}

/* The bucket at a position of the walk. */
static inline uint32_t lr_walk_bucket(uint64_t position, uint32_t buckets) {
    return lr_bucket_of(lr_reversed((uint32_t)position), buckets);
}

/* Where the interval of the bucket ends. */
static inline uint64_t lr_walk_end(uint32_t bucket, uint32_t buckets) {
    const unsigned level = 31u - (unsigned)__builtin_clz(buckets);
    const bool halved = bucket >> level != 0 || bucket + (UINT64_C(1) << level) < buckets;
    return lr_reversed(bucket) + (UINT64_C(1) << 32 >> (level + halved));
}

/* Whether a walk comes to bucket `a` before it comes to `b`: of the reversed numbers, the lowest bit in which they
 * differ decides. */
static inline bool lr_walk_before(uint32_t a, uint32_t b) {
    const uint32_t differ = a ^ b;
    return (b & differ & (0u - differ)) != 0;
}

/* What an entry adds to the sum of its range. */
static inline uint64_t lr_range_term(uint64_t hash, uint64_t version) {
    return lr_mix(hash + version * UINT64_C(0x9e3779b97f4a7c15));
}

#endif
