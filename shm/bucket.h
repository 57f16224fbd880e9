/* SPDX-License-Identifier: MIT */
/*
 * A hash bucket: one cache line of eight slot words. Which of them may be the key's, which are free?
 *
 * Answers are masks, bit i for slot i, so that a look-up decides by data and not by branches that nobody can predict:
 * both buckets of a key are read at once, and the first bit that is set is, but for one time in a thousand, the entry.
 * They are hints: whoever acts on a slot loads its word again, atomically.
 */
#ifndef LR_BUCKET_H
#define LR_BUCKET_H

#include "bytes.h"
#include "layout.h"

#if defined(__SSE2__) && !defined(LR_TSAN)
#include <emmintrin.h>
#endif

#define LR_BUCKET_ALL ((1u << SM_BUCKET_SLOTS) - 1u)

static inline bool lr_slot_is_empty(uint64_t word) {
    return (word & SM_SLOT_OFF_MASK) == 0;
}

/* A copy that does not count yet. (A word that was killed while it moves looks the same, and is as dead.) */
static inline bool lr_slot_is_hidden(uint64_t word) {
    return (~word & (SM_SLOT_DEAD | SM_SLOT_MOVED)) == 0 && !lr_slot_is_empty(word);
}

#if defined(__SSE2__) && !defined(LR_TSAN)

/* The upper (or lower) halves of four words side by side. */
static inline __m128i lr_bucket_halves(const __m128i *words, bool upper) {
    __m128 a = _mm_castsi128_ps(words[0]), b = _mm_castsi128_ps(words[1]);
    return _mm_castps_si128(upper ? _mm_shuffle_ps(a, b, 0xdd) : _mm_shuffle_ps(a, b, 0x88));
}

static inline unsigned lr_bucket_mask(__m128i low, __m128i high) {
    return (unsigned)_mm_movemask_ps(_mm_castsi128_ps(low)) | (unsigned)_mm_movemask_ps(_mm_castsi128_ps(high)) << 4;
}

/* Slots whose tag is this one (as lr_place_tag gives it). */
static inline unsigned lr_bucket_tagged(const sm_u64 *bucket, uint64_t tag) {
    const __m128i *words = (const __m128i *)(const void *)bucket;
    const __m128i wanted = _mm_set1_epi32((int)(tag >> SM_SLOT_TAG_SHIFT));
    __m128i low = _mm_srli_epi32(lr_bucket_halves(words, true), SM_SLOT_TAG_SHIFT - 32);
    __m128i high = _mm_srli_epi32(lr_bucket_halves(words + 2, true), SM_SLOT_TAG_SHIFT - 32);
    return lr_bucket_mask(_mm_cmpeq_epi32(low, wanted), _mm_cmpeq_epi32(high, wanted));
}

static inline unsigned lr_bucket_empty(const sm_u64 *bucket) {
    const __m128i *words = (const __m128i *)(const void *)bucket;
    const __m128i none = _mm_setzero_si128();
    return lr_bucket_mask(_mm_cmpeq_epi32(lr_bucket_halves(words, false), none),
                          _mm_cmpeq_epi32(lr_bucket_halves(words + 2, false), none));
}

#else

static inline unsigned lr_bucket_tagged(const sm_u64 *bucket, uint64_t tag) {
    unsigned mask = 0;
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
        uint64_t word = atomic_load_explicit((sm_u64 *)&bucket[i], memory_order_relaxed);
        mask |= (unsigned)((word & SM_SLOT_TAG_MASK) == tag) << i;
    }
    return mask;
}

static inline unsigned lr_bucket_empty(const sm_u64 *bucket) {
    unsigned mask = 0;
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++)
        mask |= (unsigned)lr_slot_is_empty(atomic_load_explicit((sm_u64 *)&bucket[i], memory_order_relaxed)) << i;
    return mask;
}

#endif

#endif
