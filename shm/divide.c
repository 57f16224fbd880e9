/* SPDX-License-Identifier: MIT */
/*
 * Borders that move: how does the index get memory from the arena, and how do probation and main trade it?
 *
 *   0         border                divide                        stripe_bytes
 *   |  index  |      probation      |             main            |
 *             <-> with the index    <-> follows probation's share
 *
 * Nothing is copied for the divide: a block's region is on which side of it the block lies. It rises over main's first
 * blocks, which are probation's from then on, counts kept; it falls when probation's gap touches it, and the gap's tail
 * becomes main's. The border rises over blocks that were cleared, which is why index memory comes from probation, the
 * region that is emptied most often. It falls when the index has shrunk: what no bucket uses is free room.
 *
 * Rules that always hold, also between any two instructions: those of arena.c, and divide >= border.
 */
#include "stripe.h"

#define SHRINK_STEPS 8u /* of the hand, in one put */
#define GROW_BLOCKS 32u /* of main's, at a time */

/* ---- the divide --------------------------------------------------------------------------------------------- */

static void set_divide(struct lr_view *view, uint64_t off) {
    LR_CRASH_POINT("divide, before");
    /* COMMIT POINT: before, what lies between is of one region; after, of the other. Its blocks, and whoever reads
     * them, know no regions. */
    atomic_store_explicit(&view->stripe->divide_off, off, memory_order_release);
    LR_CRASH_POINT("divide, after");
}

static uint64_t wanted(const struct lr_view *view) {
    const uint64_t border = lr_load(&view->stripe->border_off);
    const uint64_t granules = (view->cache->geometry.stripe_bytes - border) / SM_GRANULE;
    return ((granules * lr_share(view)) >> 32) * SM_GRANULE;
}

/* The divide rises over main's first block, or over some of a gap that stands there. Returns the bytes; 0: too many, or
 * there is none. */
static uint64_t lift(struct lr_view *view, uint64_t most_gap, uint64_t most_block) {
    const struct lr_span main = lr_region_of(view, LR_MAIN), gap = lr_gap_of(view, LR_MAIN);
    const uint64_t at = main.start;
    if (at >= main.end)
        return 0;
    if (gap.start == at && gap.end > at) {
        uint64_t give = gap.end - at < most_gap ? gap.end - at : most_gap;
        if (give == 0)
            return 0;
        lr_store(&lr_block_at(view->data, at)->word, give / SM_GRANULE);
        LR_CRASH_POINT("gap gives to probation, before");
        /* COMMIT POINT: before, these bytes are gap; after, a hole at main's start. */
        lr_arena_set_gap(view, LR_MAIN, at + give, gap.end);
        LR_CRASH_POINT("gap gives to probation, after");
        set_divide(view, at + give);
        lr_arena_bin(view, LR_PROBATION, at, give);
        return give;
    }
    const uint64_t word = lr_load(&lr_block_at(view->data, at)->word), size = lr_block_size(word);
    if (size == 0 || size > main.end - at) {
        lr_arena_report_damage(view);
        return 0;
    }
    if (size > most_block)
        return 0;
    if (gap.start == at) /* and empty: it goes behind the block */
        lr_arena_set_gap(view, LR_MAIN, at + size, at + size);
    const bool hole = lr_block_state(word) == SM_BLOCK_HOLE;
    if (hole)
        lr_arena_unbin(view, LR_MAIN, at, size);
    set_divide(view, at + size);
    if (hole)
        lr_arena_bin(view, LR_PROBATION, at, size);
    return size;
}

bool lr_divide_grow(struct lr_view *view) {
    const struct lr_span probation = lr_region_of(view, LR_PROBATION);
    const uint64_t want = wanted(view), have = probation.end - probation.start;
    /* A block that does not fit exactly may exceed the share by a little, so that main keeps room for any item. */
    const uint64_t slack = (view->cache->geometry.stripe_bytes - probation.start) / 32;
    uint64_t moved = 0;
    for (unsigned i = 0; i < GROW_BLOCKS && have + moved < want; i++) {
        uint64_t step = lift(view, want - have - moved, want - have - moved + slack);
        if (step == 0)
            break;
        moved += step;
    }
    return moved != 0;
}

/* Probation's gap touches the divide: what exceeds the share of it becomes main's. */
static void give_tail(struct lr_view *view, const struct lr_span *gap, uint64_t to) {
    const uint64_t from = gap->start > to ? gap->start : to;
    if (from >= gap->end)
        return;
    lr_store(&lr_block_at(view->data, from)->word, (gap->end - from) / SM_GRANULE);
    LR_CRASH_POINT("gap gives to main, before");
    /* COMMIT POINT: before, these bytes are gap; after, a hole at probation's end. */
    lr_arena_set_gap(view, LR_PROBATION, gap->start, from);
    LR_CRASH_POINT("gap gives to main, after");
    set_divide(view, from);
    lr_arena_free(view, from, gap->end - from);
}

void lr_divide_settle(struct lr_view *view, uint64_t keep_off) {
    const struct lr_span probation = lr_region_of(view, LR_PROBATION);
    const uint64_t want = wanted(view), have = probation.end - probation.start;
    if (have < want / 2 || (view->turns_over && have < want)) { /* then its hand stands still */
        lr_divide_grow(view);
        return;
    }
    struct lr_span gap = lr_gap_of(view, LR_PROBATION);
    if (view->by_age) /* it is as good as main, and what would be in the way may have been read */
        return;
    if (have <= want + want / 16 || lr_region_at(view, keep_off) == LR_MAIN || gap.start < probation.start + want)
        return;
    lr_hand_walk(view, SHRINK_STEPS, keep_off);
    gap = lr_gap_of(view, LR_PROBATION);
    if (gap.end == probation.end)
        give_tail(view, &gap, probation.start + want);
}

void lr_divide_dissolve(struct lr_view *view) {
    const struct lr_span probation = lr_region_of(view, LR_PROBATION), gap = lr_gap_of(view, LR_PROBATION);
    if (gap.start < gap.end)
        lr_arena_lay_hole(view, LR_PROBATION, gap.start, gap.end - gap.start);
    LR_CRASH_POINT("dissolve, before");
    /* COMMIT POINT: before, the gap covers the hole's header; after, the hole counts. */
    lr_arena_set_gap(view, LR_PROBATION, probation.start, probation.start);
    LR_CRASH_POINT("dissolve, after");
    set_divide(view, probation.start);
    view->hand_moved = true;
    for (unsigned i = 0; i < SM_BIN_ROWS * SM_BIN_COLUMNS; i++) {
        sm_u32 *bin = &view->stripe->bins[LR_PROBATION][i / SM_BIN_COLUMNS][i % SM_BIN_COLUMNS];
        for (uint64_t at; !view->damaged && (at = atomic_load_explicit(bin, memory_order_relaxed)) != 0;) {
            const uint64_t off = at * SM_GRANULE, end = view->cache->geometry.stripe_bytes;
            uint64_t size = off < end ? lr_block_size(lr_load(&lr_block_at(view->data, off)->word)) : 0;
            unsigned row = SM_BIN_ROWS, column = 0;
            if (size >= SM_MIN_BLOCK && size <= end - off)
                lr_bin_of(size, &row, &column);
            if (row * SM_BIN_COLUMNS + column != i) {
                lr_arena_report_damage(view);
                return;
            }
            lr_arena_unbin(view, LR_PROBATION, off, size);
            lr_arena_bin(view, LR_MAIN, off, size);
        }
    }
}

/* ---- the border --------------------------------------------------------------------------------------------- */

/* The region that the border rises into. */
static enum lr_region first_region(const struct lr_view *view) {
    return lr_has_probation(view->cache) ? LR_PROBATION : LR_MAIN;
}

/* Moves a live block from below the coming border elsewhere, or evicts it. False: neither is possible now. */
static bool clear_live(struct lr_view *view, const struct lr_head *head, uint64_t target) {
    uint64_t word = 0;
    sm_u64 *slot = lr_index_slot_of(view, (uint32_t)(head->identity >> 32), head->off, &word);
    if (slot == NULL)
        return true;
    if ((word & SM_SLOT_PINNED) && lr_hand_pinned(view, slot, &word, head->off))
        return false;
    struct lr_room room;
    if (!lr_arena_find(view, first_region(view), head->size, target, &room) &&
        !lr_arena_find(view, LR_MAIN, head->size, target, &room))
        return view->cache->geometry.policy != LR_POLICY_none && !view->keep_all && !head->tombstone &&
               lr_entry_forget(view, slot, word, head, LR_FORGET_EVICT, false);
    if (lr_hand_move(view, slot, word, head, &room, 0))
        return true;
    lr_arena_free(view, room.off, room.size);
    return false;
}

/* Bytes from `at` to the next block, all of them free or freed now. 0: they cannot be freed. */
static uint64_t clear_block(struct lr_view *view, uint64_t at, uint64_t target) {
    const struct lr_span gap = lr_gap_of(view, first_region(view));
    const uint64_t start = gap.start, end = gap.end, last = lr_region_of(view, first_region(view)).end;
    if (at == start && start < end) {
        uint64_t next = end < target ? end : target;
        lr_store(&lr_block_at(view->data, at)->word, (next - at) / SM_GRANULE);
        lr_arena_set_gap(view, first_region(view), next, end);
        return next - at;
    }
    uint64_t word = lr_load(&lr_block_at(view->data, at)->word), size = lr_block_size(word);
    struct lr_head head;
    if (size == 0 || size > last - at || lr_block_state(word) == SM_BLOCK_HELD)
        return 0;
    if (lr_block_state(word) == SM_BLOCK_HOLE)
        lr_arena_unbin(view, first_region(view), at, size);
    else if (lr_head_read(view->cache, view->data, at, &head) && !clear_live(view, &head, target))
        return 0;
    return size;
}

bool lr_border_raise(struct lr_view *view, uint64_t bytes) {
    const uint64_t border = lr_load(&view->stripe->border_off), target = border + bytes;
    const enum lr_region region = first_region(view);
    uint64_t at = border; /* [border, at) is one hole that stands in no bin */
    view->hand_moved = true;
    while (lr_region_of(view, region).end < target)
        if (lift(view, target - lr_region_of(view, region).end, UINT64_MAX) == 0)
            return false;
    const struct lr_span whole = lr_gap_of(view, region);
    /* What will be index becomes a hole first, so that the rest of the gap can take the blocks that must move. */
    if (whole.start < target && whole.end > target) {
        lr_arena_lay_hole(view, region, whole.start, target - whole.start);
        lr_arena_set_gap(view, region, target, whole.end);
    }
    while (at < target) {
        uint64_t step = clear_block(view, at, target);
        if (step == 0)
            break;
        uint64_t next = at + step;
        const struct lr_span gap = lr_gap_of(view, region);
        atomic_thread_fence(memory_order_release);
        /* An empty gap that the hole is about to cover moves to its end. */
        if (gap.start == gap.end && gap.start >= border && gap.start < next)
            lr_arena_set_gap(view, region, next, next);
        LR_CRASH_POINT("border hole, before");
        /* COMMIT POINT: the hole at the border grows over what was cleared. */
        atomic_store_explicit(&lr_block_at(view->data, border)->word, (next - border) / SM_GRANULE,
                              memory_order_release);
        LR_CRASH_POINT("border hole, after");
        at = next;
    }
    if (at < target) {
        if (at > border)
            lr_arena_free(view, border, at - border);
        return false;
    }
    /* The rest gets its header first. */
    if (at > target)
        lr_store(&lr_block_at(view->data, target)->word, (at - target) / SM_GRANULE);
    LR_CRASH_POINT("border, before");
    /* COMMIT POINT: before, the bytes are a hole; after, index memory that no bucket uses yet. */
    atomic_store_explicit(&view->stripe->border_off, target, memory_order_release);
    LR_CRASH_POINT("border, after");
    if (at > target)
        lr_arena_free(view, target, at - target);
    return true;
}

void lr_border_lower(struct lr_view *view, uint64_t bytes) {
    const uint64_t border = lr_load(&view->stripe->border_off), target = border - bytes;
    view->hand_moved = true;
    /* ORDER(reuse) publish: the split word, without the buckets that were here, before any store into their bytes. */
    atomic_thread_fence(memory_order_release);
    lr_store(&lr_block_at(view->data, target)->word, bytes / SM_GRANULE);
    LR_CRASH_POINT("border falls, before");
    /* COMMIT POINT: before, the bytes are index memory that no bucket uses; after, a hole at the arena's start. */
    atomic_store_explicit(&view->stripe->border_off, target, memory_order_release);
    LR_CRASH_POINT("border falls, after");
    lr_arena_free(view, target, bytes);
}
