/* SPDX-License-Identifier: MIT */
/*
 * Repair: a holder died in the middle of a change, or somebody scribbled. What is true, and what follows from it?
 *
 * True are the slot words, the hazards, and the sizes of blocks. From them all else is recomputed:
 *
 *   1. notes      delete notes are made pending: whoever asked for the lock settles them next
 *   2. moves      a split or a move of a word that had begun is finished
 *   3. marks      each slot's block is marked in a private bitmap; a slot that cannot be right is cleared
 *   4. tiling     region by region, from the border on: marked blocks stay and count, unmarked ones that a hazard names
 * are held, all else becomes holes
 *   5. leftovers  a slot whose mark the walk has not met names no block: cleared
 *
 * After a mere death nothing is dropped: every commit point leaves a state in which each slot names a block of the
 * tiling. Where bytes were damaged, only what cannot be trusted goes, counted in repair_dropped. Every step is
 * idempotent, so a repairer may die and the next one starts over. It looks at one stripe, calls nothing, allocates
 * nothing. The time goes into cache misses, so blocks are met twice only: once from their slots, some buckets ahead
 * of need, and once side by side in the walk.
 */
#include "bucket.h"
#include "stripe.h"

#define LEAST_BORDER UINT64_C(4096)
#define LEAST_BUCKETS 56u  /* with their ghosts, in as many bytes */
#define AHEAD 2u           /* buckets whose blocks are on their way while another is looked at */
#define CLAIM_SPINS 20000u /* about a millisecond */

static inline bool test_mark(const uint64_t *marks, uint64_t off) {
    uint64_t bit = off / SM_GRANULE;
    return (marks[bit / 64] >> (bit % 64)) & 1u;
}

static inline void set_mark(uint64_t *marks, uint64_t off) {
    uint64_t bit = off / SM_GRANULE;
    marks[bit / 64] |= UINT64_C(1) << (bit % 64);
}

static inline void clear_mark(uint64_t *marks, uint64_t off) {
    uint64_t bit = off / SM_GRANULE;
    marks[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
}

/* The first mark in [off, limit), or limit. */
static uint64_t next_mark(const uint64_t *marks, uint64_t off, uint64_t limit) {
    uint64_t bit = off / SM_GRANULE, end = limit / SM_GRANULE;
    while (bit < end) {
        uint64_t word = marks[bit / 64] >> (bit % 64);
        if (word != 0) {
            bit += (uint64_t)__builtin_ctzll(word);
            return bit < end ? bit * SM_GRANULE : limit;
        }
        bit = (bit / 64 + 1) * 64;
    }
    return limit;
}

static void recall_notes(struct lr_view *view) {
    for (unsigned i = 0; i < SM_NOTES; i++)
        if (lr_load(&view->stripe->notes[i].owner) != 0)
            atomic_fetch_or_explicit(&view->stripe->notes_pending, 1u << i, memory_order_acq_rel);
}

/* All is main, probation is empty until it grows again, and the gaps are empty. */
static void make_one_region(struct lr_view *view, uint64_t border) {
    const uint64_t end = view->cache->geometry.stripe_bytes;
    const bool divided = lr_has_probation(view->cache);
    lr_store(&view->stripe->divide_off, divided ? border : 0);
    lr_store(&view->stripe->gap[LR_PROBATION], divided ? lr_gap_word(border, border) : 0);
    lr_store(&view->stripe->gap[LR_MAIN], lr_gap_word(end, end));
}

/* Border, divide, bucket count and gaps get values that let the rest be repaired. */
static void bound_words(struct lr_view *view) {
    if (lr_words_sane(view))
        return;
    make_one_region(view, lr_load(&view->stripe->border_off));
    if (lr_words_sane(view))
        return;
    /* The index cannot be told from the arena: this one stripe starts empty. */
    lr_count_n(view->cache, LR_C_repair_dropped, lr_load(&view->stripe->items));
    for (uint64_t off = 0; off < LEAST_BORDER; off += 8)
        lr_store((sm_u64 *)(void *)(view->data + off), 0);
    lr_store(&view->stripe->split, LEAST_BUCKETS);
    lr_store(&view->stripe->border_off, LEAST_BORDER);
    make_one_region(view, LEAST_BORDER);
}

static void clear_slot(struct lr_view *view, sm_u64 *slot) {
    atomic_store_explicit(slot, 0, memory_order_release);
    lr_count(view->cache, LR_C_repair_dropped);
}

/* Whether this slot of this bucket can be right: it names a whole block, and the key there hashes to this slot's tag,
 * bucket and stripe. */
static bool is_plausible(struct lr_view *view, uint32_t bucket, uint64_t word, struct lr_head *head) {
    uint64_t off = lr_slot_off(word);
    if (off < lr_load(&view->stripe->border_off) || !lr_head_read(view->cache, view->data, off, head) ||
        !lr_head_matches(head, word))
        return false;
    uint64_t place = lr_place(view->cache, lr_head_hash(view->data, head));
    return lr_place_stripe(view->cache, place) == view->number &&
           lr_placing(place) == (uint32_t)(head->identity >> 32) && lr_place_tag(place) == (word & SM_SLOT_TAG_MASK) &&
           lr_belongs(lr_placing(place), bucket, lr_buckets(view));
}

/* Whether another slot has the same key and is to be preferred: the newer, of equals the one with the lower address. */
static bool has_better_twin(struct lr_view *view, sm_u64 *slot, const struct lr_head *head) {
    const uint32_t placing = (uint32_t)(head->identity >> 32), buckets = lr_buckets(view);
    const uint32_t both[2] = {lr_bucket_of(placing, buckets), lr_bucket_of(lr_second(placing), buckets)};
    const uint64_t tag = lr_load(slot) & SM_SLOT_TAG_MASK;
    for (unsigned i = 0; i < 2 * SM_BUCKET_SLOTS; i++) {
        sm_u64 *other = &lr_bucket_at(view, both[i / SM_BUCKET_SLOTS])[i % SM_BUCKET_SLOTS];
        uint64_t word = lr_load(other);
        struct lr_head its;
        if (((word ^ tag) & SM_SLOT_TAG_MASK) != 0 || other == slot || lr_slot_is_empty(word) ||
            (word & SM_SLOT_DEAD) || !is_plausible(view, both[i / SM_BUCKET_SLOTS], word, &its) ||
            lr_head_hash(view->data, &its) != lr_head_hash(view->data, head))
            continue;
        if (its.version > head->version || (its.version == head->version && other < slot))
            return true;
    }
    return false;
}

/* The blocks that this bucket names will be looked at soon, and their marks. */
static void prefetch_blocks(struct lr_view *view, const uint64_t *marks, uint32_t bucket) {
    sm_u64 *slots = lr_bucket_at(view, bucket);
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
        uint64_t off = lr_slot_off(lr_load(&slots[i]));
        if (off == 0 || off > view->cache->geometry.stripe_bytes - 2 * SM_LINE)
            continue;
        __builtin_prefetch(view->data + off);
        __builtin_prefetch(view->data + off + SM_LINE);
        __builtin_prefetch(marks + off / SM_GRANULE / 64, 1);
    }
}

/* And so will the buckets where twins of its keys would stand. */
static void prefetch_twins(struct lr_view *view, uint32_t bucket) {
    sm_u64 *slots = lr_bucket_at(view, bucket);
    const uint32_t buckets = lr_buckets(view);
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
        uint64_t off = lr_slot_off(lr_load(&slots[i]));
        if (off == 0 || off > view->cache->geometry.stripe_bytes - 2 * SM_LINE)
            continue;
        uint32_t placing = (uint32_t)(lr_load(&lr_block_at(view->data, off)->identity) >> 32);
        uint32_t one = lr_bucket_of(placing, buckets), two = lr_bucket_of(lr_second(placing), buckets);
        __builtin_prefetch((const void *)lr_bucket_at(view, one == bucket ? two : one));
    }
}

static void mark_slots(struct lr_view *view, uint64_t *marks) {
    for (uint32_t bucket = 0; bucket < lr_buckets(view); bucket++) {
        sm_u64 *slots = lr_bucket_at(view, bucket);
        if (bucket + 2 * AHEAD < lr_buckets(view))
            prefetch_blocks(view, marks, bucket + 2 * AHEAD);
        if (bucket + AHEAD < lr_buckets(view))
            prefetch_twins(view, bucket + AHEAD);
        for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
            uint64_t word = atomic_load_explicit(&slots[i], memory_order_acquire);
            struct lr_head head;
            if (lr_slot_is_empty(word))
                continue;
            if (!is_plausible(view, bucket, word, &head) || test_mark(marks, head.off) ||
                has_better_twin(view, &slots[i], &head)) {
                clear_slot(view, &slots[i]);
                continue;
            }
            if (word & SM_SLOT_DEAD) {
                lr_raise(&view->stripe->range_floor[lr_range_of(lr_head_hash(view->data, &head))], head.version);
                atomic_store_explicit(&slots[i], 0, memory_order_release);
                continue;
            }
            set_mark(marks, head.off);
        }
    }
}

/* A writer may have died between taking a pinned flag off and looking again. */
static void flag_pinned(struct lr_view *view, const uint64_t *marks) {
    struct lr_cache *cache = view->cache;
    const uint64_t first = lr_hazard_of(cache, view->data, 0);
    const uint64_t last = lr_hazard_of(cache, view->data, cache->geometry.stripe_bytes);
    uint32_t high = atomic_load_explicit(&cache->header->participants_high, memory_order_acquire);
    for (uint32_t slot = 0; slot < high && slot < cache->geometry.participants; slot++) {
        if (lr_load(&cache->participants[slot].pin_summary) == 0)
            continue;
        for (unsigned i = 0; i < SM_PINS; i++) {
            uint64_t hazard = atomic_load_explicit(&cache->participants[slot].hazards[i], memory_order_acquire) &
                              SM_HAZARD_PLACE_MASK;
            if (hazard < first || hazard >= last || !test_mark(marks, (hazard - first) * SM_GRANULE))
                continue;
            uint64_t off = (hazard - first) * SM_GRANULE, word;
            uint64_t identity = lr_load(&lr_block_at(view->data, off)->identity);
            sm_u64 *named = lr_index_slot_of(view, (uint32_t)(identity >> 32), off, &word);
            if (named != NULL)
                atomic_fetch_or_explicit(named, SM_SLOT_PINNED, memory_order_acq_rel);
        }
    }
}

struct walk {
    uint64_t at;
    uint64_t hole; /* start of the hole that is growing; == at: none */
};

static void end_hole(struct lr_view *view, struct walk *walk) {
    if (walk->hole < walk->at) {
        LR_CRASH_POINT("repair merges, before");
        /* COMMIT POINT: the blocks that are merged stay as they are until the first one's size covers them. */
        atomic_store_explicit(&lr_block_at(view->data, walk->hole)->word, (walk->at - walk->hole) / SM_GRANULE,
                              memory_order_release);
        LR_CRASH_POINT("repair merges, after");
        lr_arena_bin(view, lr_region_at(view, walk->hole), walk->hole, walk->at - walk->hole);
    }
    walk->hole = walk->at;
}

static void set_state(struct lr_view *view, uint64_t off, uint64_t word, unsigned state) {
    uint64_t next = (word & ~(UINT64_C(3) << SM_BLOCK_STATE_SHIFT)) | ((uint64_t)state << SM_BLOCK_STATE_SHIFT);
    if (next != word)
        lr_store(&lr_block_at(view->data, off)->word, next);
}

/* The block at walk->at; `limit`: the next place where a block must begin (the gap, or the end). */
static void walk_block(struct lr_view *view, uint64_t *marks, struct walk *walk, uint64_t limit) {
    uint64_t off = walk->at, word = lr_load(&lr_block_at(view->data, off)->word), size = lr_block_size(word);
    if (size == 0 || size > limit - off) {
        /* Damaged: all up to the next block that a slot names is free. */
        lr_count(view->cache, LR_C_corrupt_seen);
        walk->at = test_mark(marks, off) ? limit : next_mark(marks, off, limit);
        return;
    }
    if (test_mark(marks, off)) {
        struct lr_head head;
        end_hole(view, walk);
        clear_mark(marks, off);
        set_state(view, off, word, SM_BLOCK_LIVE);
        if (lr_head_read(view->cache, view->data, off, &head)) { /* it could be read when it was marked */
            lr_entry_account(view, &head, lr_head_hash(view->data, &head), 1);
            lr_raise(&view->stripe->clock, head.version);
        }
        walk->at = walk->hole = off + size;
        return;
    }
    if (lr_block_state(word) != SM_BLOCK_HOLE &&
        lr_hazard_held(view->cache, lr_hazard_of(view->cache, view->data, off), NULL)) {
        end_hole(view, walk);
        set_state(view, off, word, SM_BLOCK_HELD);
        lr_arena_hold(view, off, size);
        walk->at = walk->hole = off + size;
        return;
    }
    walk->at = next_mark(marks, off, off + size); /* a gap that was lost has old headers in it, which say anything */
}

static void walk_region(struct lr_view *view, uint64_t *marks, enum lr_region region) {
    const struct lr_span whole = lr_region_of(view, region), gap = lr_gap_of(view, region);
    struct walk walk = {.at = whole.start, .hole = whole.start};
    while (walk.at < gap.start)
        walk_block(view, marks, &walk, gap.start);
    end_hole(view, &walk);
    walk.at = walk.hole = gap.end;
    while (walk.at < whole.end)
        walk_block(view, marks, &walk, whole.end);
    end_hole(view, &walk);
}

static void reset_derived(struct lr_view *view) {
    struct sm_stripe *stripe = view->stripe;
    sm_u64 *words[] = {&stripe->items,
                       &stripe->item_bytes,
                       &stripe->payload_bytes,
                       &stripe->tombstones,
                       &stripe->held_blocks,
                       &stripe->held_bytes,
                       &stripe->hole_bytes,
                       &stripe->ttl_items,
                       &stripe->bin_map[LR_MAIN],
                       &stripe->bin_map[LR_PROBATION]};
    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++)
        lr_store(words[i], 0);
    for (unsigned i = 0; i < SM_HELD; i++)
        atomic_store_explicit(&stripe->held[i], 0, memory_order_relaxed);
    for (unsigned i = 0; i < SM_RANGES; i++)
        lr_store(&stripe->range_sum[i], 0);
    for (unsigned i = 0; i < SM_REGIONS * SM_BIN_ROWS * SM_BIN_COLUMNS; i++)
        atomic_store_explicit(&stripe->bins[0][0][0] + i, 0, memory_order_relaxed);
    for (unsigned i = 0; i < SM_LARGE; i++)
        lr_store(&stripe->large[i], 0);
    if (lr_load(&stripe->share) < LR_SHARE_LEAST || lr_load(&stripe->share) > LR_SHARE_MOST)
        lr_store(&stripe->share, lr_has_probation(view->cache) ? LR_SHARE_MOST : 0);
    uint64_t buckets = lr_buckets(view);
    lr_store(&stripe->sweep_cursor, lr_load(&stripe->sweep_cursor) % buckets);
}

/* Slots whose blocks the walk has not met go. After a mere death there are none. */
static void settle_slots(struct lr_view *view, uint64_t *marks) {
    const uint64_t end = view->cache->geometry.stripe_bytes;
    if (next_mark(marks, 0, end) == end)
        return;
    for (uint32_t bucket = 0; bucket < lr_buckets(view); bucket++) {
        sm_u64 *slots = lr_bucket_at(view, bucket);
        for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
            uint64_t word = lr_load(&slots[i]), off = lr_slot_off(word);
            if (lr_slot_is_empty(word) || off >= end || !test_mark(marks, off))
                continue;
            clear_mark(marks, off);
            clear_slot(view, &slots[i]);
        }
    }
}

bool lr_repair_claim(struct lr_cache *cache) {
    for (unsigned i = 0; i < CLAIM_SPINS; i++) {
        if (atomic_exchange_explicit(&cache->self->repairing, 1, memory_order_acquire) == 0)
            return true;
        __builtin_ia32_pause();
    }
    return false;
}

void lr_repair_release(struct lr_cache *cache) {
    atomic_store_explicit(&cache->self->repairing, 0, memory_order_release);
}

void lr_repair(struct lr_view *view) {
    struct lr_cache *cache = view->cache;
    const uint64_t began = lr_monotonic_ns();
    uint64_t *marks = cache->scratch;
    atomic_store_explicit(&view->stripe->rescan, 1, memory_order_release);
    lr_tally(view, LR_S_overruns, 1);
    view->hand_moved = true;
    view->damaged = false;
    recall_notes(view);
    bound_words(view);
    reset_derived(view);
    lr_index_finish_moves(view);
    mark_slots(view, marks);
    flag_pinned(view, marks);
    if (lr_has_probation(cache))
        walk_region(view, marks, LR_PROBATION);
    walk_region(view, marks, LR_MAIN);
    settle_slots(view, marks);
    lr_marks_end_all(view);
    lr_repair_release(cache);
    lr_count(cache, LR_C_repairs);
    lr_count_n(cache, LR_C_repair_ns, lr_monotonic_ns() - began);
}
