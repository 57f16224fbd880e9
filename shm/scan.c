/* SPDX-License-Identifier: MIT */
/*
 * Walking the whole: every entry that stays put is seen at least once, without a lock.
 *
 * The cursor is a place in the index: stripe, bucket, slot. Slides and replacements leave a word in its slot; words
 * move to buckets with a higher number, which the walk has yet to visit. After the rare move downwards (index.c) the
 * stripe is walked again, up to eight times. Each entry is copied and then checked like a get (reader.c).
 */
#include "bucket.h"
#include "stripe.h"

#define TRIES 16u
#define RESTARTS 8u /* of one stripe, in which a word moved downwards meanwhile */

struct lr_scan lr_scan_all(const struct lr_cache *cache) {
    return (struct lr_scan){.last_stripe = cache->geometry.stripe_count - 1};
}

struct lr_scan lr_scan_stripe(uint32_t stripe) {
    return (struct lr_scan){.stripe = stripe, .last_stripe = stripe};
}

size_t lr_entry_bytes(const struct lr_cache *cache) {
    return cache->geometry.max_block;
}

/* An expired item that no sweep has met yet, as what the sweep may make of it (entry.c): a peer that lacks it must hear
 * that what is older is over. */
static void make_trace(struct lr_entry *entry) {
    entry->version--;
    entry->deadline_ms = UINT64_MAX;
    entry->tombstone = true;
    entry->key_len = entry->value_len = entry->flags = 0;
}

/* The entry in this slot; expired ones only as `traces`. ENOT_FOUND: empty, gone or not an entry; EBUSY: it changed
 * while we read. */
static int read_slot(struct lr_cache *cache, const struct lr_view *view, sm_u64 *slot, bool traces, void *buf,
                     size_t cap, struct lr_entry *entry) {
    uint64_t word = atomic_load_explicit(slot, memory_order_acquire);
    struct lr_head head;
    if (lr_slot_is_empty(word) || (word & SM_SLOT_DEAD))
        return LARDER_ENOT_FOUND;
    bool sane = lr_head_read(cache, view->data, lr_slot_off(word), &head) && lr_head_matches(&head, word);
    atomic_thread_fence(memory_order_acquire);
    if (((atomic_load_explicit(slot, memory_order_acquire) ^ word) & ~SM_SLOT_SOFT) != 0)
        return LARDER_EBUSY;
    if (!sane)
        return lr_reader_is_damage(view, slot, word) ? LARDER_ENOT_FOUND : LARDER_EBUSY;
    bool gone = !head.tombstone && lr_head_gone(cache, view->data, &head);
    if (gone && !(traces && head.version > lr_flush_version(cache)))
        return LARDER_ENOT_FOUND;
    *entry = (struct lr_entry){.version = head.version,
                               .deadline_ms = lr_head_deadline(view->data, &head),
                               .epoch = lr_head_epoch(&head),
                               .flags = lr_head_flags(view->data, &head),
                               .tombstone = head.tombstone,
                               .pinned = (word & SM_SLOT_PINNED) != 0,
                               .recency = lr_slot_recency(word),
                               .stripe = view->number,
                               .block_bytes = head.size,
                               .key_len = head.key_len,
                               .value_len = head.tombstone ? 0 : head.value_len,
                               .key = buf,
                               .value = (uint8_t *)buf + head.key_len};
    size_t len = head.tombstone ? 0 : (size_t)head.key_len + head.value_len;
    if (len <= cap && len > 0)
        lr_bytes_out(buf, view->data + head.off + head.key_at, len);
    if (head.tombstone)
        entry->hash = lr_head_tomb_hash(view->data, &head);
    struct sm_block *block = lr_block_at(view->data, head.off);
    atomic_thread_fence(memory_order_acquire);
    if (((lr_load(slot) ^ word) & ~SM_SLOT_SOFT) != 0 || lr_load(&block->identity) != head.identity ||
        lr_load(&block->word) != head.word)
        return LARDER_EBUSY;
    if (len > cap)
        return LARDER_ETOO_SMALL;
    if (!head.tombstone)
        entry->hash = lr_hash_key(buf, head.key_len);
    if (gone)
        make_trace(entry);
    return 0;
}

static int read_slot_settled(struct lr_cache *cache, const struct lr_view *view, sm_u64 *slot, bool traces, void *buf,
                             size_t cap, struct lr_entry *entry) {
    int result = LARDER_EBUSY;
    for (unsigned i = 0; i < TRIES && result == LARDER_EBUSY; i++)
        result = read_slot(cache, view, slot, traces, buf, cap, entry);
    return result;
}

/* Buckets in use, the one being made included; bounded whatever the word says. */
static uint64_t buckets_in_use(const struct lr_cache *cache, uint64_t split) {
    uint64_t buckets = (split & UINT32_MAX) + (split & SM_SPLITTING ? 1 : 0), most;
    most = cache->geometry.most_buckets - 1u;
    return buckets < most ? buckets : most;
}

int lr_scan_next(struct lr_cache *cache, struct lr_scan *scan, void *buf, size_t cap, struct lr_entry *entry) {
    int error = lr_enter_read(cache);
    if (error != 0)
        return error;
    while (scan->stripe <= scan->last_stripe && scan->stripe < cache->geometry.stripe_count) {
        struct lr_view view = lr_view_of(cache, scan->stripe);
        uint64_t buckets = buckets_in_use(cache, atomic_load_explicit(&view.stripe->split, memory_order_acquire));
        /* ORDER(moves-down) observe: a word that came by behind our back was counted before it left its place. */
        uint64_t moves = atomic_load_explicit(&view.stripe->moves_down, memory_order_acquire);
        if (scan->bucket == 0 && scan->slot == 0)
            scan->moves = moves;
        if (scan->bucket >= buckets) {
            bool again = moves != scan->moves && scan->restarts < RESTARTS;
            scan->restarts = again ? scan->restarts + 1 : 0;
            scan->stripe += again ? 0 : 1;
            scan->bucket = 0;
            scan->slot = 0;
            continue;
        }
        sm_u64 *bucket = lr_bucket_at(&view, (uint32_t)scan->bucket);
        int result = LARDER_ENOT_FOUND;
        while (scan->slot < SM_BUCKET_SLOTS && result == LARDER_ENOT_FOUND) {
            result = read_slot_settled(cache, &view, &bucket[scan->slot], scan->traces, buf, cap, entry);
            if (result != LARDER_ETOO_SMALL)
                scan->slot++;
        }
        if (result != LARDER_ENOT_FOUND)
            return result;
        scan->slot = 0;
        scan->bucket++;
    }
    return LARDER_ENOT_FOUND;
}

int lr_entry_by_hash(struct lr_cache *cache, uint64_t hash, void *buf, size_t cap, struct lr_entry *entry) {
    int error = lr_enter_read(cache);
    if (error != 0)
        return error;
    const uint64_t place = lr_place(cache, hash), tag = lr_place_tag(place);
    struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, place));
    for (unsigned attempt = 0; attempt < TRIES; attempt++) {
        uint64_t split = atomic_load_explicit(&view.stripe->split, memory_order_acquire);
        uint32_t buckets = (uint32_t)buckets_in_use(cache, split & UINT32_MAX);
        bool busy = false;
        if (buckets == 0)
            return LARDER_ECORRUPT;
        const uint32_t first = lr_placing(place), second = lr_second(first);
        /* While bucket `buckets` is being made, the partner first, then the new one. */
        const uint32_t where[4] = {lr_bucket_of(first, buckets), lr_bucket_of(first, buckets + 1),
                                   lr_bucket_of(second, buckets), lr_bucket_of(second, buckets + 1)};
        for (unsigned n = 0; n < 4; n += split & SM_SPLITTING ? 1 : 2) {
            sm_u64 *bucket = lr_bucket_at(&view, where[n]);
            for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
                if ((atomic_load_explicit(&bucket[i], memory_order_acquire) & SM_SLOT_TAG_MASK) != tag)
                    continue;
                int result = read_slot_settled(cache, &view, &bucket[i], true, buf, cap, entry);
                busy = busy || result == LARDER_EBUSY;
                if (result == LARDER_ETOO_SMALL)
                    return result;
                if (result == 0 && entry->hash == hash)
                    return 0;
            }
        }
        atomic_thread_fence(memory_order_acquire);
        if (!busy && lr_load(&view.stripe->split) == split)
            return LARDER_ENOT_FOUND;
    }
    return LARDER_EBUSY;
}

/* ---- ahead of time ---------------------------------------------------------------------------------------------- */

struct two {
    sm_u64 *bucket[2];
};

/* While the index grows one of the two may be the wrong one. */
static struct two buckets_of(const struct lr_view *view, uint64_t place) {
    const uint32_t first = lr_placing(place);
    const uint32_t buckets = lr_buckets(view);
    return (struct two){{lr_bucket_at(view, lr_bucket_of(first, buckets)),
                         lr_bucket_at(view, lr_bucket_of(lr_second(first), buckets))}};
}

void lr_entry_prefetch(const struct lr_cache *cache, uint64_t hash) {
    const uint64_t place = lr_place(cache, hash);
    const struct lr_view view = lr_view_of((struct lr_cache *)(uintptr_t)cache, lr_place_stripe(cache, place));
    const struct two both = buckets_of(&view, place);
    __builtin_prefetch((const void *)both.bucket[0]);
    __builtin_prefetch((const void *)both.bucket[1]);
}

void lr_entry_prefetch_block(const struct lr_cache *cache, uint64_t hash) {
    const uint64_t place = lr_place(cache, hash), tag = lr_place_tag(place);
    const struct lr_view view = lr_view_of((struct lr_cache *)(uintptr_t)cache, lr_place_stripe(cache, place));
    const struct two both = buckets_of(&view, place);
    for (unsigned i = 0; i < 2 * SM_BUCKET_SLOTS; i++) {
        const uint64_t word = lr_load(&both.bucket[i / SM_BUCKET_SLOTS][i % SM_BUCKET_SLOTS]);
        if ((word & SM_SLOT_TAG_MASK) == tag && !lr_slot_is_empty(word)) {
            __builtin_prefetch(view.data + lr_slot_off(word));
            __builtin_prefetch(view.data + lr_slot_off(word) + 64);
        }
    }
}
