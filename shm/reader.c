/* SPDX-License-Identifier: MIT */
/*
 * Readers: how to read what others may be changing, without a lock and without a store?
 *
 *   slot word (acquire) -> header -> slot word again -> key, value -> fence -> slot word, incarnation, split word
 * unchanged?
 *
 * Only then does the outcome count, whatever it is: hit, other key, expired or miss. Otherwise the read is repeated, a
 * few times, and then done once under the lock. Garbage met on the way is harmless: every length is bounded by
 * lr_head_read before use.
 *
 * Why the slot word is read twice before the value: the eight bits of incarnation in it repeat. Should the same block
 * have been filled anew for the same key under the same eight bits, then either the second look finds the word gone, or
 * it finds the new one, and then the filling is complete and ordered before everything we read from there on. The last
 * look compares the whole 32-bit incarnation.
 *
 * A pinned get names the block in a hazard of its own first, then sets `pinned` by CAS: from there on the block stays
 * as it is (hazard.c). Nothing here stores into the arena: a reader that was preempted after its check would hit
 * another value.
 */
#include "stripe.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* The path of a get is one piece of code: calls in it would cost as much as the work. */
#define HOT static inline __attribute__((always_inline))

#define TRIES 8u
#define BATCH 16u

enum look { LOOK_HIT, LOOK_MISS, LOOK_AGAIN };

struct look_up {
    sm_u64 *slot;
    uint64_t word;
    uint64_t split;
    struct lr_head head;
};

HOT bool same_word(uint64_t a, uint64_t b) {
    return ((a ^ b) & ~SM_SLOT_SOFT) == 0;
}

/* Whether all that was read since look_up belongs together. */
HOT bool settled(const struct lr_view *view, const struct look_up *look) {
    /* ORDER(reuse) observe: if a byte that we copied was stored by a later owner of the block, the word or the
     * incarnation differs now. */
    atomic_thread_fence(memory_order_acquire);
    struct sm_block *block = lr_block_at(view->data, look->head.off);
    return same_word(lr_load(look->slot), look->word) && lr_load(&block->identity) == look->head.identity &&
           lr_load(&block->word) == look->head.word && lr_load(&view->stripe->split) == look->split;
}

/* The slots of a line whose tag fits, as a bit mask. A hint: the word is loaded again, atomically, before it counts. */
#if defined(__SSE2__) && !defined(LR_TSAN)
HOT unsigned matching(const sm_u64 *line, uint64_t tag) {
    const __m128i *words = (const __m128i *)(const void *)line;
    const __m128i wanted = _mm_set1_epi32((int)(tag >> SM_SLOT_TAG_SHIFT));
    /* The upper halves of four words side by side, their tags compared at once. */
    __m128 low = _mm_shuffle_ps(_mm_castsi128_ps(words[0]), _mm_castsi128_ps(words[1]), 0xdd);
    __m128 high = _mm_shuffle_ps(_mm_castsi128_ps(words[2]), _mm_castsi128_ps(words[3]), 0xdd);
    __m128i a = _mm_cmpeq_epi32(_mm_srli_epi32(_mm_castps_si128(low), SM_SLOT_TAG_SHIFT - 32), wanted);
    __m128i b = _mm_cmpeq_epi32(_mm_srli_epi32(_mm_castps_si128(high), SM_SLOT_TAG_SHIFT - 32), wanted);
    return (unsigned)_mm_movemask_ps(_mm_castsi128_ps(a)) | (unsigned)_mm_movemask_ps(_mm_castsi128_ps(b)) << 4;
}
#else
HOT unsigned matching(const sm_u64 *line, uint64_t tag) {
    unsigned mask = 0;
    for (unsigned i = 0; i < 8; i++)
        mask |= (unsigned)(((lr_load((sm_u64 *)&line[i]) ^ tag) >> SM_SLOT_TAG_SHIFT) == 0) << i;
    return mask;
}
#endif

/* One candidate slot. LOOK_MISS: not this key, and that is certain. */
HOT enum look examine(const struct lr_view *view, const struct lr_key *key, sm_u64 *slot, struct look_up *look) {
    /* ORDER(entry) observe: the block's bytes. */
    uint64_t word = atomic_load_explicit(slot, memory_order_acquire);
    if ((word & SM_SLOT_OFF_MASK) == 0 || (word & SM_SLOT_DEAD))
        return LOOK_MISS;
    struct lr_head *head = &look->head;
    /* Most items lie across two lines: the second one comes along with the header's. */
    __builtin_prefetch(view->data + lr_slot_off(word) + SM_LINE);
    bool sane = lr_head_read(view->cache, view->data, lr_slot_off(word), head);
    atomic_thread_fence(memory_order_acquire);
    if (!same_word(atomic_load_explicit(slot, memory_order_acquire), word))
        return LOOK_AGAIN;
    if (!sane || !lr_head_matches(head, word)) {
        lr_count(view->cache, LR_C_corrupt_seen);
        return LOOK_MISS;
    }
    look->slot = slot;
    look->word = word;
    if ((uint32_t)(head->identity >> 32) != lr_placing(key->place))
        return LOOK_MISS;
    const uint8_t *bytes = view->data + head->off + head->key_at;
    bool same;
    if (head->tombstone)
        same = lr_head_tomb_hash(view->data, head) == key->hash;
    else
        same = head->key_len == key->len && lr_bytes_equal(bytes, key->bytes, key->len);
    if (same)
        return LOOK_HIT;
    return settled(view, look) ? LOOK_MISS : LOOK_AGAIN;
}

HOT enum look search_pair(const struct lr_view *view, const struct lr_key *key, uint32_t pair, struct look_up *look) {
    const uint64_t tag = lr_place_tag(key->place);
    sm_u64 *slots = lr_pair_at(view->data, pair);
    unsigned home = lr_place_line(key->place) * 8u;
    for (unsigned line = 0; line < 2; line++, home ^= 8u) {
        for (unsigned mask = matching(&slots[home], tag); mask != 0; mask &= mask - 1) {
            enum look outcome = examine(view, key, &slots[home + (unsigned)__builtin_ctz(mask)], look);
            if (outcome != LOOK_MISS)
                return outcome;
        }
    }
    return LOOK_MISS;
}

/* One of the key's pairs; while pair `pairs` is being made out of it, that one after it. */
HOT enum look search_place(const struct lr_view *view, const struct lr_key *key, uint32_t placing,
                           struct look_up *look) {
    const uint32_t pairs = (uint32_t)look->split, pair = lr_pair_of(placing, pairs);
    enum look outcome = search_pair(view, key, pair, look);
    if (outcome != LOOK_MISS || !(look->split & SM_SPLITTING))
        return outcome;
    uint32_t other = lr_pair_of(placing, pairs + 1);
    atomic_thread_fence(memory_order_acquire);
    return other != pair ? search_pair(view, key, other, look) : LOOK_MISS;
}

/* LOOK_HIT: the key's entry, to be read and then confirmed by settled(). */
HOT enum look look_up(const struct lr_view *view, const struct lr_key *key, struct look_up *look) {
    /* ORDER(split) observe: words that a finished split has moved. */
    look->split = atomic_load_explicit(&view->stripe->split, memory_order_acquire);
    uint32_t pairs = (uint32_t)look->split;
    if (pairs == 0 || pairs >= view->cache->geometry.stripe_bytes / SM_PAIR_BYTES) {
        lr_count(view->cache, LR_C_corrupt_seen);
        return LOOK_MISS;
    }
    /* One word in three stands in its second pair: its line comes along with the first one's. */
    const uint32_t second = lr_second(lr_placing(key->place));
    __builtin_prefetch(lr_pair_at(view->data, lr_pair_of(second, pairs)) + lr_place_line(key->place) * 8u);
    enum look outcome = search_place(view, key, lr_placing(key->place), look);
    if (outcome == LOOK_MISS)
        outcome = search_place(view, key, second, look);
    if (outcome != LOOK_MISS)
        return outcome;
    atomic_thread_fence(memory_order_acquire);
    return lr_load(&view->stripe->split) == look->split ? LOOK_MISS : LOOK_AGAIN;
}

HOT void fill_item(const struct lr_view *view, const struct lr_head *head, struct lr_item *item) {
    item->version = head->version;
    item->value_len = head->value_len;
    item->deadline_ms = lr_head_deadline(view->data, head);
    item->flags = lr_head_flags(view->data, head);
}

HOT void use(const struct lr_view *view, const struct look_up *look) {
    struct lr_cache *cache = view->cache;
    if (cache->read_only || lr_slot_recency(look->word) >= lr_recency_max(cache))
        return;
    uint64_t word = look->word;
    atomic_compare_exchange_strong_explicit(look->slot, &word, word + SM_SLOT_RECENCY_ONE, memory_order_relaxed,
                                            memory_order_relaxed);
}

HOT bool is_absent(const struct lr_view *view, const struct lr_head *head) {
    return head->tombstone || lr_head_gone(view->cache, view->data, head);
}

/* ---- copy-out ----------------------------------------------------------------------------------------------- */

HOT int outcome_of(struct lr_cache *cache, int result, const struct lr_item *item, unsigned flags) {
    if (flags & LR_PEEK)
        return result;
    if (result == LARDER_ENOT_FOUND) {
        lr_count(cache, LR_C_misses);
    } else if (result == 0) {
        lr_count(cache, LR_C_hits);
        lr_count_n(cache, LR_C_hit_bytes, item->value_len);
    }
    return result;
}

/* After all tries: once with the holder kept out. */
static int read_locked(struct lr_cache *cache, const struct lr_key *key, void *buf, size_t cap, struct lr_item *item) {
    struct lr_view view;
    if (cache->read_only)
        return LARDER_EBUSY;
    int result = lr_stripe_lock(&view, cache, lr_place_stripe(cache, key->place));
    if (result != 0)
        return result;
    lr_count(cache, LR_C_locked_reads);
    struct lr_found found = lr_index_find(&view, key);
    if (found.slot == NULL || is_absent(&view, &found.head)) {
        result = LARDER_ENOT_FOUND;
    } else {
        fill_item(&view, &found.head, item);
        if (found.head.value_len > cap)
            result = LARDER_ETOO_SMALL;
        else
            lr_bytes_out(buf, view.data + found.head.off + found.head.key_at + found.head.key_len,
                         found.head.value_len);
    }
    lr_stripe_unlock(&view);
    return result;
}

HOT int read_key(struct lr_cache *cache, const struct lr_key *key, void *buf, size_t cap, struct lr_item *item,
                 unsigned flags) {
    struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, key->place));
    for (unsigned attempt = 0; attempt < TRIES; attempt++) {
        struct look_up look;
        enum look outcome = look_up(&view, key, &look);
        if (outcome == LOOK_MISS)
            return LARDER_ENOT_FOUND;
        if (outcome == LOOK_HIT) {
            int result = 0;
            fill_item(&view, &look.head, item);
            if (is_absent(&view, &look.head))
                result = LARDER_ENOT_FOUND;
            else if (look.head.value_len > cap)
                result = LARDER_ETOO_SMALL;
            else
                lr_bytes_out(buf, view.data + look.head.off + look.head.key_at + look.head.key_len,
                             look.head.value_len);
            if (settled(&view, &look)) {
                if (result == 0 && !(flags & LR_PEEK))
                    use(&view, &look);
                return result;
            }
        }
        lr_count(cache, LR_C_retries);
        __builtin_ia32_pause();
    }
    return read_locked(cache, key, buf, cap, item);
}

int lr_get(struct lr_cache *cache, const void *key, size_t key_len, void *buf, size_t cap, struct lr_item *item,
           unsigned flags) {
    struct lr_item local;
    int error = lr_enter_read(cache);
    if (error != 0)
        return error;
    if (key_len == 0 || key_len > SM_MAX_KEY)
        return LARDER_EINVALID;
    struct lr_key hashed = lr_key_of(cache, key, key_len);
    item = item ? item : &local;
    return outcome_of(cache, read_key(cache, &hashed, buf, cap, item, flags), item, flags);
}

/* Touches what the gets of a batch will need, so that their cache misses overlap: all pairs, then all blocks. */
static void prefetch_batch(struct lr_cache *cache, const struct lr_key *keys, size_t count) {
    const sm_u64 *lines[BATCH];
    for (size_t i = 0; i < count; i++) {
        uint32_t stripe = lr_place_stripe(cache, keys[i].place);
        uint32_t pairs = (uint32_t)lr_load(&lr_stripe_at(cache, stripe)->split);
        lines[i] = NULL;
        if (pairs == 0 || pairs >= cache->geometry.stripe_bytes / SM_PAIR_BYTES)
            continue;
        lines[i] = lr_pair_at(lr_data_at(cache, stripe), lr_pair_of(lr_placing(keys[i].place), pairs)) +
                   lr_place_line(keys[i].place) * 8u;
        __builtin_prefetch((const void *)lines[i]);
    }
    for (size_t i = 0; i < count; i++) {
        unsigned mask = lines[i] ? matching(lines[i], lr_place_tag(keys[i].place)) : 0;
        if (mask == 0)
            continue;
        uint64_t off = lr_slot_off(lr_load((sm_u64 *)&lines[i][__builtin_ctz(mask)]));
        const uint8_t *block = lr_data_at(cache, lr_place_stripe(cache, keys[i].place)) + off;
        if (off < cache->geometry.stripe_bytes - 2 * SM_LINE) {
            __builtin_prefetch(block);
            __builtin_prefetch(block + SM_LINE);
        }
    }
}

size_t lr_get_many(struct lr_cache *cache, struct lr_read *rows, size_t count, unsigned flags) {
    size_t hits = 0;
    int error = lr_enter_read(cache);
    for (size_t from = 0; from < count; from += BATCH) {
        struct lr_key keys[BATCH];
        size_t n = count - from < BATCH ? count - from : BATCH;
        for (size_t i = 0; i < n; i++) {
            struct lr_read *row = &rows[from + i];
            bool valid = row->key_len > 0 && row->key_len <= SM_MAX_KEY;
            row->result = error != 0 ? error : valid ? 0 : LARDER_EINVALID;
            keys[i] = row->result == 0 ? lr_key_of(cache, row->key, row->key_len) : (struct lr_key){0};
        }
        prefetch_batch(cache, keys, n);
        for (size_t i = 0; i < n; i++) {
            struct lr_read *row = &rows[from + i];
            if (row->result != 0)
                continue;
            row->result =
                outcome_of(cache, read_key(cache, &keys[i], row->buf, row->cap, &row->item, flags), &row->item, flags);
            hits += row->result == 0;
        }
    }
    return hits;
}

/* ---- deleting behind a lock holder who does not answer ---------------------------------------------------------- */

bool lr_reader_kill(struct lr_cache *cache, const struct lr_key *key, uint64_t version) {
    struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, key->place));
    bool killed = false;
    /* A word that a split is moving stands in two pairs: after each kill we look again, and whoever moves it looks for
     * our flag (index.c). */
    for (unsigned attempt = 0; attempt < 8 * TRIES; attempt++) {
        struct look_up look;
        enum look outcome = look_up(&view, key, &look);
        if (outcome == LOOK_MISS)
            return killed;
        if (outcome == LOOK_AGAIN)
            continue;
        bool absent = is_absent(&view, &look.head);
        if (!settled(&view, &look))
            continue;
        if (absent || look.head.version >= version)
            return killed;
        uint64_t word = look.word;
        do {
            /* COMMIT POINT: before, readers find the value; after, the key is deleted, and a put that had begun is
             * dropped. */
            if (atomic_compare_exchange_weak_explicit(look.slot, &word, word | SM_SLOT_DEAD, memory_order_seq_cst,
                                                      memory_order_relaxed)) {
                killed = true;
                break;
            }
        } while (same_word(word, look.word));
        /* ORDER(moved) observe: the flag stands before we look whether the word has moved. */
        atomic_thread_fence(memory_order_seq_cst);
    }
    return killed;
}

/* ---- pinned ------------------------------------------------------------------------------------------------- */

static bool claim_hazard(struct lr_cache *cache, uint32_t *hazard) {
    sm_u64 *summary = &cache->me->pin_summary;
    uint64_t used = lr_load(summary);
    while (used != UINT64_MAX) {
        unsigned i = (unsigned)__builtin_ctzll(~used);
        if (atomic_compare_exchange_weak_explicit(summary, &used, used | (UINT64_C(1) << i), memory_order_acq_rel,
                                                  memory_order_relaxed)) {
            *hazard = i;
            return true;
        }
    }
    return false;
}

static void free_hazard(struct lr_cache *cache, uint32_t hazard) {
    atomic_store_explicit(&cache->me->hazards[hazard], 0, memory_order_release);
    atomic_fetch_and_explicit(&cache->me->pin_summary, ~(UINT64_C(1) << hazard), memory_order_release);
}

/* With the block in our hazard: makes sure that whoever takes the word out from now on sees that. False: it changed. */
static bool fasten(const struct lr_view *view, const struct look_up *look) {
    uint64_t word = look->word;
    for (;;) {
        if (!same_word(word, look->word) || (word & SM_SLOT_MOVED))
            return false;
        /* ORDER(hazard) publish: our hazard, before the flag that makes writers look for it. */
        if (!(word & SM_SLOT_PINNED)) {
            if (atomic_compare_exchange_weak_explicit(look->slot, &word, word | SM_SLOT_PINNED, memory_order_seq_cst,
                                                      memory_order_relaxed))
                break;
            continue;
        }
        atomic_thread_fence(memory_order_seq_cst);
        uint64_t again = lr_load(look->slot);
        if (again & SM_SLOT_PINNED && same_word(again, look->word))
            break;
        word = again;
    }
    return settled(view, look);
}

static int pin_found(const struct lr_view *view, const struct look_up *look, uint32_t hazard, struct lr_pin *pin) {
    struct lr_cache *cache = view->cache;
    atomic_store_explicit(&cache->me->hazards[hazard], lr_hazard_of(cache, view->data, look->head.off),
                          memory_order_release);
    if (!fasten(view, look)) {
        atomic_store_explicit(&cache->me->hazards[hazard], 0, memory_order_release);
        return LARDER_EBUSY;
    }
    fill_item(view, &look->head, &pin->item);
    pin->value = view->data + look->head.off + look->head.key_at + look->head.key_len;
    pin->hazard = hazard;
    pin->generation = cache->generation;
    use(view, look);
    return 0;
}

static int pin_locked(struct lr_cache *cache, const struct lr_key *key, uint32_t hazard, struct lr_pin *pin) {
    struct lr_view view;
    int result = lr_stripe_lock(&view, cache, lr_place_stripe(cache, key->place));
    if (result != 0)
        return result;
    lr_count(cache, LR_C_locked_reads);
    struct lr_found found = lr_index_find(&view, key);
    struct look_up look = {
        .slot = found.slot, .word = found.word, .head = found.head, .split = lr_load(&view.stripe->split)};
    result =
        found.slot == NULL || is_absent(&view, &found.head) ? LARDER_ENOT_FOUND : pin_found(&view, &look, hazard, pin);
    lr_stripe_unlock(&view);
    return result;
}

static int pin_key(struct lr_cache *cache, const struct lr_key *key, uint32_t hazard, struct lr_pin *pin) {
    struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, key->place));
    for (unsigned attempt = 0; attempt < TRIES; attempt++) {
        struct look_up look;
        enum look outcome = look_up(&view, key, &look);
        if (outcome == LOOK_MISS)
            return LARDER_ENOT_FOUND;
        if (outcome == LOOK_HIT) {
            if (is_absent(&view, &look.head)) {
                if (settled(&view, &look))
                    return LARDER_ENOT_FOUND;
            } else if (pin_found(&view, &look, hazard, pin) == 0) {
                return 0;
            }
        }
        lr_count(cache, LR_C_retries);
        __builtin_ia32_pause();
    }
    return pin_locked(cache, key, hazard, pin);
}

int lr_pin(struct lr_cache *cache, const void *key, size_t key_len, struct lr_pin *pin) {
    int result = lr_enter(cache);
    uint32_t hazard;
    pin->value = NULL;
    if (result != 0)
        return result;
    if (key_len == 0 || key_len > SM_MAX_KEY)
        return LARDER_EINVALID;
    if (!claim_hazard(cache, &hazard)) {
        lr_count(cache, LR_C_pin_refusals);
        return LARDER_ENO_PINS;
    }
    struct lr_key hashed = lr_key_of(cache, key, key_len);
    result = pin_key(cache, &hashed, hazard, pin);
    if (result != 0)
        free_hazard(cache, hazard);
    else
        lr_count(cache, LR_C_pins);
    return outcome_of(cache, result, &pin->item, 0);
}

void lr_unpin(struct lr_cache *cache, struct lr_pin *pin) {
    if (pin->value == NULL)
        return;
    pin->value = NULL;
    /* A forked child has not joined yet, or has another generation: the pin is its parent's. */
    if (atomic_load_explicit(&cache->self->joined, memory_order_relaxed) == 0 || pin->generation != cache->generation)
        return;
    free_hazard(cache, pin->hazard);
}
