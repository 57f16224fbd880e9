/* SPDX-License-Identifier: MIT */
/*
 * Voids: what may have been forgotten here before every peer had heard of it?
 *
 * Of each range of hashes a stripe keeps the highest version that it has forgotten so, its *void*: something up to here
 * is gone. Of what keys, the segment knows by bits: each range is cut into *parts*, and a part in which anything was
 * ever forgotten is set. A void speaks of those only. Else a handful of changes that nobody heard of would cost the
 * peers all that is as old and that this host happens not to hold. (It is a Bloom filter with one function: B. Bloom,
 * 1970.)
 *
 *   forgetting:   bit of the part -> void of the stripe -> turn of the range -> is the bit still there? -> it goes
 *   telling:      turn -> voids -> bits  (sidecar/settle.c)
 *   clearing:     mark of the turn -> firm floors -> bits to 0 -> is the turn as it was? else all bits to 1
 *
 * Rules that always hold:
 *  1. Of whatever was forgotten untold the bit is set, and the turn has risen since it was set last, before it is gone.
 *     So who reads bits at a turn sees those of all that had gone when the turn was this one.
 *  2. The turn rises each time, also where the void is as high already: peers are told anew.
 *  3. Bits are cleared where many are set, and only when every peer has settled this very turn. What peers hold up to
 *     the void is sound then, and here the firm floors take its place. For a peer that comes later the bits alone no
 *     longer say everything, as the mark in the turn says; it is told of the whole range.
 *  4. A bit that is set for another key costs a miss, no more.
 */
#include "stripe.h"

#define DENSE 8u /* one of so many parts is set: worth clearing */
static_assert(LR_PART_WORDS == SM_PART_WORDS, "what a sidecar may send");

static sm_u64 *turn_of(const struct lr_cache *cache, unsigned range) {
    return (sm_u64 *)(void *)(cache->base + cache->geometry.voids_off) + range;
}

static sm_u64 *words_of(const struct lr_cache *cache, unsigned range) {
    return turn_of(cache, SM_RANGES) + (size_t)range * cache->geometry.part_words;
}

static sm_u64 *word_of(const struct lr_cache *cache, uint64_t hash, uint64_t *bit) {
    const uint64_t part = lr_part_of(hash, cache->geometry.part_words);
    *bit = UINT64_C(1) << (part % 64);
    return words_of(cache, lr_range_of(hash)) + part / 64;
}

/* ---- one key ---------------------------------------------------------------------------------------------------- */

uint64_t lr_void_of(const struct lr_view *view, uint64_t hash) {
    uint64_t bit;
    sm_u64 *word = word_of(view->cache, hash, &bit);
    return (lr_load(word) & bit) != 0 ? lr_load(&view->stripe->range_void[lr_range_of(hash)]) : 0;
}

void lr_void_prefetch(const struct lr_view *view, uint64_t hash) {
    uint64_t bit;
    __builtin_prefetch((const void *)word_of(view->cache, hash, &bit));
}

static bool raise_version(struct lr_view *view, unsigned range, uint64_t version) {
    sm_u64 *word = &view->stripe->range_void[range];
    uint64_t now = lr_load(word);
    while (now < version)
        if (atomic_compare_exchange_weak_explicit(word, &now, version, memory_order_relaxed, memory_order_relaxed))
            return true;
    return false;
}

void lr_void_raise(struct lr_view *view, uint64_t hash, uint64_t version) {
    const unsigned range = lr_range_of(hash);
    uint64_t bit;
    sm_u64 *word = word_of(view->cache, hash, &bit);
    lr_tally(view, LR_S_voids_raised, 1);
    /* Again only if it was cleared in between, which takes a settlement with every peer. */
    for (unsigned tries = 0; tries < LR_WORD_TRIES; tries++) {
        atomic_fetch_or_explicit(word, bit, memory_order_seq_cst);
        raise_version(view, range, version);
        LR_CRASH_POINT("void, before");
        /* COMMIT POINT: before, the part is set and no peer need hear of it, for nothing has gone; after, all will.
         * ORDER(void) publish: who sees the turn sees version and bit. In one order with the look at the bit and with
         * clearing: either we see that it was cleared, or who cleared it sees the turn. */
        atomic_fetch_add_explicit(turn_of(view->cache, range), 1, memory_order_seq_cst);
        LR_CRASH_POINT("void, after");
        if ((atomic_load_explicit(word, memory_order_seq_cst) & bit) != 0)
            return;
    }
}

/* ---- a whole range, for larderd --------------------------------------------------------------------------------- */

uint32_t lr_parts_words(const struct lr_cache *cache) {
    return cache->geometry.part_words;
}

uint64_t lr_void_turn(const struct lr_cache *cache, unsigned range) {
    /* ORDER(void) observe: versions and bits, which are read after it. */
    return atomic_load_explicit(turn_of(cache, range), memory_order_seq_cst);
}

void lr_parts_get(const struct lr_cache *cache, unsigned range, uint64_t *words) {
    for (uint32_t i = 0; i < cache->geometry.part_words; i++)
        words[i] = lr_load(words_of(cache, range) + i);
}

/* The bits of our word `at`, by parts that may be cut finer or coarser. */
static uint64_t bits_of(const struct lr_cache *cache, const struct lr_parts *parts, uint32_t at) {
    const uint64_t ours = cache->geometry.part_words * UINT64_C(64), theirs = parts->count * UINT64_C(64);
    const uint64_t each = theirs > ours ? theirs / ours : 1;
    uint64_t bits = 0;
    for (unsigned i = 0; i < 64; i++) {
        const uint64_t first = (at * UINT64_C(64) + i) * theirs / ours;
        for (uint64_t part = first; part < first + each; part++)
            bits |= (parts->words[part / 64] >> (part % 64) & 1) << i;
    }
    return bits;
}

/* Sets those parts. True: not all of them were. */
static bool merge(struct lr_cache *cache, unsigned range, const struct lr_parts *parts) {
    bool risen = false;
    for (uint32_t i = 0; i < cache->geometry.part_words; i++) {
        const uint64_t bits = parts == NULL || parts->words == NULL ? UINT64_MAX : bits_of(cache, parts, i);
        const uint64_t had = atomic_fetch_or_explicit(words_of(cache, range) + i, bits, memory_order_seq_cst);
        risen |= (had & bits) != bits;
    }
    return risen;
}

/* Floors of all stripes, and voids with them. *rises: a void has. */
static int raise_range(struct lr_cache *cache, unsigned range, uint64_t version, bool void_too, bool *rises) {
    int error = range < SM_RANGES ? lr_enter(cache) : LARDER_EINVALID;
    for (uint32_t i = 0; error == 0 && i < cache->geometry.stripe_count; i++) {
        struct lr_view view;
        error = lr_stripe_lock(&view, cache, i);
        if (error != 0)
            break;
        lr_raise(&view.stripe->clock, version); /* as in lr_drop */
        lr_floor_firm(&view, range, version);
        if (void_too && raise_version(&view, range, version)) {
            lr_tally(&view, LR_S_voids_raised, 1);
            *rises = true;
        }
        lr_stripe_unlock(&view);
    }
    return error;
}

int lr_raise_floor(struct lr_cache *cache, unsigned range, uint64_t version) {
    return raise_range(cache, range, version, false, NULL);
}

int lr_raise_void(struct lr_cache *cache, unsigned range, uint64_t version, const struct lr_parts *parts,
                  uint64_t *risen) {
    const int entered = range < SM_RANGES ? lr_enter(cache) : LARDER_EINVALID;
    if (entered != 0)
        return entered;
    bool rises = merge(cache, range, parts);
    const int error = raise_range(cache, range, version, true, &rises);
    if (rises) { /* also when not all of it was: what was is to be told. No bit goes meanwhile: larderd is here. */
        atomic_fetch_add_explicit(turn_of(cache, range), 1, memory_order_seq_cst);
        if (risen != NULL)
            (*risen)++;
    }
    return error;
}

void lr_void_again(struct lr_cache *cache, unsigned range) {
    if (range < SM_RANGES)
        atomic_fetch_add_explicit(turn_of(cache, range), 1, memory_order_seq_cst);
}

static bool is_dense(const struct lr_cache *cache, unsigned range) {
    const uint32_t count = cache->geometry.part_words;
    uint64_t set = 0;
    for (uint32_t i = 0; i < count; i++)
        set += (uint64_t)__builtin_popcountll(lr_load(words_of(cache, range) + i));
    return set * DENSE > count * UINT64_C(64);
}

int lr_parts_clear(struct lr_cache *cache, unsigned range, uint64_t *turn) {
    struct lr_range now;
    lr_range_get(cache, range, &now);
    if (now.turn != *turn || !is_dense(cache, range))
        return 0;
    /* What was forgotten up to the void is declined from now on by its version alone. */
    const int error = lr_raise_floor(cache, range, now.void_version);
    if (error != 0)
        return error;
    const uint64_t marked = now.turn | SM_TURN_CLEARED;
    uint64_t expected = now.turn;
    LR_CRASH_POINT("parts, before");
    /* COMMIT POINT: before, bits speak of all that was forgotten; after, who has not settled is told of all parts. */
    if (!atomic_compare_exchange_strong_explicit(turn_of(cache, range), &expected, marked, memory_order_seq_cst,
                                                 memory_order_seq_cst))
        return 0;
    LR_CRASH_POINT("parts, after");
    for (uint32_t i = 0; i < cache->geometry.part_words; i++)
        atomic_store_explicit(words_of(cache, range) + i, 0, memory_order_seq_cst);
    if (lr_void_turn(cache, range) != marked) /* something is being forgotten: its bit may be among them */
        for (uint32_t i = 0; i < cache->geometry.part_words; i++)
            atomic_fetch_or_explicit(words_of(cache, range) + i, UINT64_MAX, memory_order_seq_cst);
    *turn = marked;
    return 1;
}
