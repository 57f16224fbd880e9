/* SPDX-License-Identifier: MIT */
/*
 * Walking the whole: every entry that stays put is seen at least once, without a lock.
 *
 * The cursor is a place in the index: stripe, position, slot. Positions are those of hash.h, from 0 to 2^32: a bucket
 * is an interval, and what lies below the position has been seen.
 *
 *   |--------- seen ---------|  bucket  |           |     |     |
 *   0                     position    its end                   2^32
 *
 *  1. Slides and replacements leave a word in its slot.
 *  2. A split takes words to the right half of their bucket's interval, which we have yet to visit: we go on at the end
 *     of the left half.
 *  3. A merge takes words to the left, into the bucket whose interval they join. If we stood between the two, the next
 *     bucket is the joint one, which is read from its start. If we were in the midst of one of the two, we start over
 *     with it: merges are counted (`merges`) before a word moves.
 *  4. While words of two buckets move, both are read, the left one first, as a split wants it. That it was no merge,
 * the split word must show: it counts the words that a merge moves.
 *  5. Cuckoo moves go to the right. After the rare one to the left (index.c) the stripe is walked again, up to eight
 *     times.
 * Each entry is copied and then checked like a get (reader.c), and counts if its bucket was one until then.
 */
#include "bucket.h"
#include "stripe.h"

#define TRIES 16u
#define FETCH_LINES 4u   /* buckets ahead of which index lines are fetched */
#define FETCH_HEADS 2u   /* ... and headers */
#define FETCH_SLOTS 2u   /* of which the value is fetched ahead */
#define FETCH_MOST 4096u /* bytes of it */
#define RESTARTS 8u      /* of one stripe, in which a word moved downwards meanwhile */

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
    entry->tombstone = entry->trace = true;
    entry->key_len = entry->value_len = entry->flags = 0;
}

static bool wants_value(const struct lr_view *view, const struct lr_scan *scan, uint32_t epoch) {
    return !scan->keys && (!scan->newer || lr_epoch_after(view->cache, view->number, epoch, scan->epoch));
}

/* The entry as its header has it. */
static struct lr_entry describe(const struct lr_view *view, const struct lr_head *head, uint64_t word) {
    return (struct lr_entry){.version = head->version,
                             .deadline_ms = lr_head_deadline(view->data, head),
                             .epoch = lr_head_epoch(head),
                             .kind = head->tombstone ? LR_SHARED : lr_head_kind(head),
                             .modal = lr_head_kind(head) == LR_TOLD,
                             .flags = lr_head_flags(view->data, head),
                             .tombstone = head->tombstone,
                             .pinned = (word & SM_SLOT_PINNED) != 0,
                             .recency = lr_slot_count(view->cache, word),
                             .stripe = view->number,
                             .block_bytes = head->size,
                             .key_len = head->key_len,
                             .value_len = head->tombstone ? 0 : head->value_len};
}

/* The entry in this slot, of which the caller wants what `scan` says. ENOT_FOUND: empty, gone or not an entry; EBUSY:
 * it changed while we read. */
static int read_slot(const struct lr_view *view, sm_u64 *slot, const struct lr_scan *scan, void *buf, size_t cap,
                     struct lr_entry *entry) {
    struct lr_cache *cache = view->cache;
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
    if (gone && !(scan->traces && !lr_is_flushed(cache, head.version)))
        return LARDER_ENOT_FOUND;
    *entry = describe(view, &head, word);
    const bool whole = !gone && !head.tombstone && wants_value(view, scan, entry->epoch);
    const size_t len = head.tombstone ? 0 : head.key_len + (whole ? (size_t)head.value_len : 0);
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
    entry->key = buf;
    entry->value = whole ? (uint8_t *)buf + head.key_len : NULL;
    if (!head.tombstone)
        entry->hash = lr_hash_key(buf, head.key_len);
    if (gone)
        make_trace(entry);
    return 0;
}

static int read_slot_settled(const struct lr_view *view, sm_u64 *slot, const struct lr_scan *scan, void *buf,
                             size_t cap, struct lr_entry *entry) {
    int result = LARDER_EBUSY;
    for (unsigned i = 0; i < TRIES && result == LARDER_EBUSY; i++)
        result = read_slot(view, slot, scan, buf, cap, entry);
    return result;
}

/* Buckets in use, the one being made or emptied included; bounded whatever the word says. */
static uint32_t buckets_in_use(const struct lr_cache *cache, uint64_t split) {
    const uint64_t buckets = (split & UINT32_MAX) + (split & SM_SPLITTING ? 1 : 0);
    const uint64_t most = cache->geometry.most_buckets - 1u;
    return buckets == 0 ? 1 : (uint32_t)(buckets < most ? buckets : most);
}

/* ---- ahead of time ---------------------------------------------------------------------------------------------- */

/*
 * Entries of one bucket lie anywhere, and most of a walk would be waiting for memory. So what it reads soon is fetched
 * while it works on something else: index lines four buckets ahead, headers and keys two buckets ahead, values two
 * entries ahead. All of it is read again when it counts.
 */
static void fetch_head(const struct lr_view *view, sm_u64 *slot) {
    const uint64_t off = lr_slot_off(lr_load(slot));
    if (off == 0 || off > view->cache->geometry.stripe_bytes - 2 * SM_LINE)
        return;
    __builtin_prefetch(view->data + off);
    __builtin_prefetch(view->data + off + SM_LINE);
}

/* The rest of what the slot names; of a long value the beginning, the processor guesses the rest. */
static void fetch_value(const struct lr_view *view, const struct lr_scan *scan, sm_u64 *slot) {
    const uint64_t off = lr_slot_off(lr_load(slot)), last = view->cache->geometry.stripe_bytes;
    if (off == 0 || off > last - sizeof(struct sm_block))
        return;
    const uint64_t word = lr_load(&lr_block_at(view->data, off)->word);
    const uint64_t size = lr_block_size(word), most = size < FETCH_MOST ? size : FETCH_MOST;
    const uint32_t epoch = (uint32_t)(word >> SM_BLOCK_EPOCH_SHIFT) & ((1u << SM_BLOCK_EPOCH_BITS) - 1u);
    if (size > last - off || !wants_value(view, scan, epoch))
        return;
    for (uint64_t at = 2 * SM_LINE; at < most; at += SM_LINE)
        __builtin_prefetch(view->data + off + at);
}

/* Behind a bucket: the number of the next one. False: there is none. */
static bool bucket_behind(const struct lr_view *view, const struct lr_scan *scan, uint32_t *bucket) {
    const uint32_t buckets = buckets_in_use(view->cache, scan->split & UINT32_MAX);
    const uint64_t end = lr_walk_end(*bucket, buckets);
    *bucket = lr_walk_bucket(end, buckets);
    return end <= UINT32_MAX;
}

static void fetch_buckets(const struct lr_view *view, const struct lr_scan *scan) {
    uint32_t bucket = scan->bucket;
    for (unsigned i = 1; bucket_behind(view, scan, &bucket); i++) {
        for (unsigned slot = 0; i == FETCH_HEADS && slot < SM_BUCKET_SLOTS; slot++)
            fetch_head(view, &lr_bucket_at(view, bucket)[slot]);
        if (i < FETCH_LINES)
            continue;
        __builtin_prefetch((const void *)lr_bucket_at(view, bucket));
        break;
    }
}

static void fetch_ahead(const struct lr_view *view, const struct lr_scan *scan) {
    const unsigned slot = scan->slot + FETCH_SLOTS;
    uint32_t bucket = scan->bucket;
    if (scan->slot == 0)
        fetch_buckets(view, scan);
    if (!scan->keys && (slot < SM_BUCKET_SLOTS || bucket_behind(view, scan, &bucket)))
        fetch_value(view, scan, &lr_bucket_at(view, bucket)[slot % SM_BUCKET_SLOTS]);
}

/* ---- the cursor ----------------------------------------------------------------------------------------------- */

/* The bucket is the left one of two between which words move: it is read, then the other. */
static bool is_double(const struct lr_scan *scan) {
    return (scan->split & SM_SPLITTING) != 0 && (uint32_t)scan->split != 0 &&
           scan->bucket == lr_split_partner((uint32_t)scan->split);
}

static void come_to_bucket(const struct lr_view *view, struct lr_scan *scan) {
    /* In this order: a merge whose split word we miss is counted after this. */
    scan->merges = atomic_load_explicit(&view->stripe->merges, memory_order_acquire);
    scan->split = atomic_load_explicit(&view->stripe->split, memory_order_acquire);
    scan->bucket = lr_walk_bucket(scan->position, buckets_in_use(view->cache, scan->split & UINT32_MAX));
    scan->slot = 0;
}

/* Whether a merge that began since we came to the bucket may have taken words from it, or brought it some. */
static bool is_merged(const struct lr_scan *scan, uint64_t split, uint64_t merges) {
    const uint64_t then = scan->split & UINT32_MAX, now = split & UINT32_MAX, begun = merges - scan->merges;
    if (begun == 0 || begun > then)
        return begun != 0;
    /* The numbers that buckets may have had which went, if as many came as must have; one merge is not counted yet. */
    const uint64_t low = then - begun, high = now + begun + 1;
    bool merged = scan->bucket >= low && scan->bucket < high;
    for (uint64_t bit = 1; scan->bucket + bit < high; bit *= 2)
        merged = merged || (bit > scan->bucket && scan->bucket + bit >= low);
    return merged;
}

/* Whether what we read since we came to the bucket was all in it, and nothing came in behind us; *split as it is now.
 */
static bool is_whole(const struct lr_view *view, const struct lr_scan *scan, uint64_t *split) {
    atomic_thread_fence(memory_order_acquire);
    *split = atomic_load_explicit(&view->stripe->split, memory_order_acquire);
    /* ORDER(merges) observe: counted before a word went. */
    const uint64_t merges = atomic_load_explicit(&view->stripe->merges, memory_order_acquire);
    if (is_double(scan))
        return *split == scan->split;
    return !is_merged(scan, *split, merges) &&
           atomic_load_explicit(&view->stripe->split, memory_order_acquire) == *split;
}

/* Of a double one's second bucket the number is the split word's, whatever that says. */
static sm_u64 *slot_at(const struct lr_view *view, const struct lr_scan *scan) {
    const uint32_t most = view->cache->geometry.most_buckets - 1u;
    const uint32_t second = (uint32_t)scan->split < most ? (uint32_t)scan->split : most;
    const uint32_t bucket = scan->slot < SM_BUCKET_SLOTS ? scan->bucket : second;
    return &lr_bucket_at(view, bucket)[scan->slot % SM_BUCKET_SLOTS];
}

/* Behind the bucket, as small as it was or became meanwhile: words that were split off stand in the next one. */
static void leave_bucket(const struct lr_view *view, struct lr_scan *scan, uint64_t split) {
    const uint32_t then = buckets_in_use(view->cache, scan->split & UINT32_MAX),
                   now = buckets_in_use(view->cache, split);
    const uint64_t end = lr_walk_end(scan->bucket, is_double(scan) || then > now ? then : now);
    scan->position = end > scan->position ? end : scan->position;
    scan->slot = 0;
}

/* The next entry of the bucket. ENOT_FOUND: there is none. */
static int read_bucket(const struct lr_view *view, struct lr_scan *scan, void *buf, size_t cap,
                       struct lr_entry *entry) {
    const unsigned slots = is_double(scan) ? 2 * SM_BUCKET_SLOTS : SM_BUCKET_SLOTS;
    int result = LARDER_ENOT_FOUND;
    while (scan->slot < slots && result == LARDER_ENOT_FOUND) {
        fetch_ahead(view, scan);
        result = read_slot_settled(view, slot_at(view, scan), scan, buf, cap, entry);
        if (result != LARDER_ETOO_SMALL)
            scan->slot++;
    }
    return result;
}

/* The stripe has been walked. */
static void end_stripe(struct lr_scan *scan, uint64_t moves) {
    const bool again = moves != scan->moves && scan->restarts < RESTARTS;
    scan->restarts = again ? scan->restarts + 1 : 0;
    scan->stripe += again ? 0 : 1;
    scan->position = 0;
}

int lr_scan_next(struct lr_cache *cache, struct lr_scan *scan, void *buf, size_t cap, struct lr_entry *entry) {
    unsigned tries = 0;
    int error = lr_enter_read(cache);
    if (error != 0)
        return error;
    while (scan->stripe <= scan->last_stripe && scan->stripe < cache->geometry.stripe_count) {
        const struct lr_view view = lr_view_of(cache, scan->stripe);
        uint64_t split;
        /* ORDER(moves-down) observe: a word that came by behind our back was counted before it left its place. */
        const uint64_t moves = atomic_load_explicit(&view.stripe->moves_down, memory_order_acquire);
        if (scan->position == 0 && scan->slot == 0)
            scan->moves = moves;
        if (scan->position > UINT32_MAX) {
            end_stripe(scan, moves);
            continue;
        }
        if (scan->slot == 0 || !is_whole(&view, scan, &split))
            come_to_bucket(&view, scan);
        const int result = read_bucket(&view, scan, buf, cap, entry);
        if (!is_whole(&view, scan, &split)) {
            scan->slot = 0;
            if (++tries == TRIES)
                return LARDER_EBUSY;
            continue;
        }
        if (result != LARDER_ENOT_FOUND)
            return result;
        leave_bucket(&view, scan, split);
    }
    return LARDER_ENOT_FOUND;
}

uint64_t lr_scan_left(const struct lr_scan *scan) {
    const uint64_t seen = scan->position >> 16; /* of 2^32 */
    return scan->stripe > scan->last_stripe ? 0 : ((uint64_t)(scan->last_stripe - scan->stripe + 1) << 16) - seen;
}

static bool is_still(const struct lr_view *view, uint64_t split) {
    atomic_thread_fence(memory_order_acquire);
    return lr_load(&view->stripe->split) == split;
}

/* `wants`: as of a scan. */
static int find_entry(struct lr_cache *cache, uint64_t hash, const struct lr_scan *wants, void *buf, size_t cap,
                      struct lr_entry *entry) {
    int error = lr_enter_read(cache);
    if (error != 0)
        return error;
    const uint64_t place = lr_place(cache, hash), tag = lr_place_tag(place);
    struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, place));
    for (unsigned attempt = 0; attempt < TRIES; attempt++) {
        uint64_t split = atomic_load_explicit(&view.stripe->split, memory_order_acquire);
        const uint32_t buckets = buckets_in_use(cache, split & UINT32_MAX);
        bool busy = false;
        if ((uint32_t)split == 0)
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
                int result = read_slot_settled(&view, &bucket[i], wants, buf, cap, entry);
                busy = busy || result == LARDER_EBUSY;
                if (result == LARDER_ETOO_SMALL)
                    return result;
                if (result == 0 && entry->hash == hash && is_still(&view, split))
                    return 0;
            }
        }
        if (!busy && is_still(&view, split))
            return LARDER_ENOT_FOUND;
    }
    return LARDER_EBUSY;
}

int lr_entry_by_hash(struct lr_cache *cache, uint64_t hash, void *buf, size_t cap, struct lr_entry *entry) {
    return find_entry(cache, hash, &(struct lr_scan){.traces = true}, buf, cap, entry);
}

int lr_entry_without_value(struct lr_cache *cache, uint64_t hash, void *buf, size_t cap, struct lr_entry *entry) {
    return find_entry(cache, hash, &(struct lr_scan){.traces = true, .keys = true}, buf, cap, entry);
}

/* ---- entries of which the hash is known, ahead of time ------------------------------------------------------------
 */

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

/* Of the slots in `both`, those that may be the key's. */
static unsigned likely_in(const struct two *both, uint64_t place) {
    const uint64_t tag = lr_place_tag(place);
    return lr_bucket_tagged(both->bucket[0], tag) | lr_bucket_tagged(both->bucket[1], tag) << SM_BUCKET_SLOTS;
}

void lr_entry_prefetch_block(const struct lr_cache *cache, uint64_t hash) {
    const uint64_t place = lr_place(cache, hash);
    const struct lr_view view = lr_view_of((struct lr_cache *)(uintptr_t)cache, lr_place_stripe(cache, place));
    const struct two both = buckets_of(&view, place);
    for (unsigned mask = likely_in(&both, place); mask != 0; mask &= mask - 1) {
        const unsigned i = (unsigned)__builtin_ctz(mask);
        fetch_head(&view, &both.bucket[i / SM_BUCKET_SLOTS][i % SM_BUCKET_SLOTS]);
    }
}

void lr_entry_prefetch_value(const struct lr_cache *cache, uint64_t hash) {
    const uint64_t place = lr_place(cache, hash);
    const struct lr_view view = lr_view_of((struct lr_cache *)(uintptr_t)cache, lr_place_stripe(cache, place));
    const struct two both = buckets_of(&view, place);
    for (unsigned mask = likely_in(&both, place); mask != 0; mask &= mask - 1) {
        const unsigned i = (unsigned)__builtin_ctz(mask);
        fetch_value(&view, &(struct lr_scan){0}, &both.bucket[i / SM_BUCKET_SLOTS][i % SM_BUCKET_SLOTS]);
    }
}
