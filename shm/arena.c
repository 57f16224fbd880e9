/* SPDX-License-Identifier: MIT */
/*
 * The arena: blocks, holes, and a gap in each region. How is every byte in use, and every change of that one store?
 *
 *   border                          divide                                  end
 *   | live | hole |...gap...| live | live | hole | live |.....gap.....| live |
 *
 * Blocks and gaps tile the arena. Room is a hole that fits, else the head of the gap; how gaps come to be large enough
 * is the hand's business (hand.c). Probation lies below the divide, where the policy has one (policy.c), and main above
 * it; a block's region is on which side it lies. Each region has bins and a gap of its own.
 *
 * Rules that always hold, also between any two instructions:
 *  1. From border to end, following sizes and jumping over the gaps, one meets only blocks: a change of the tiling is
 * one store (of a gap word, or of a block's first word), and what it uncovers has its headers already.
 *  2. A block's bytes change only when no slot names it and no hazard holds it. A release fence stands between taking
 * the word out and the first store into the freed bytes.
 *  3. Bins list every hole of SM_MIN_BLOCK bytes or more; they are derived, and wrong only while the holder works.
 *  4. No block and no hole crosses the divide, and each gap lies in its region.
 *
 * Bins: good fit in two levels, as in TLSF (M. Masmano et al., 2004): rows are powers of two, columns eighths of them.
 */
#include "stripe.h"

#define FIT_LOOKS 8u /* holes of the size's own bin that are looked at before larger ones are taken */

static inline uint64_t arena_end(const struct lr_view *view) {
    return view->cache->geometry.stripe_bytes;
}

void lr_arena_report_damage(struct lr_view *view) {
    lr_count(view->cache, LR_C_corrupt_seen);
    view->damaged = true;
}

/* ---- bins --------------------------------------------------------------------------------------------------- */

void lr_bin_of(uint64_t size, unsigned *row, unsigned *column) {
    uint64_t granules = size / SM_GRANULE;
    unsigned top = 63u - (unsigned)__builtin_clzll(granules);
    if (top < 3) {
        *row = 0;
        *column = (unsigned)granules & 7u;
        return;
    }
    *row = top - 2u < SM_BIN_ROWS ? top - 2u : SM_BIN_ROWS - 1u;
    *column = (unsigned)(granules >> (top - 3u)) & 7u;
}

/* The hole that a link or a bin names, as an offset; 0: none, or the link is damaged. */
static uint64_t linked_hole(struct lr_view *view, uint64_t granules) {
    uint64_t off = granules * SM_GRANULE;
    if (off == 0)
        return 0;
    if (off <= arena_end(view) - SM_MIN_BLOCK) {
        uint64_t word = lr_load(&lr_block_at(view->data, off)->word), size = lr_block_size(word);
        if (lr_block_state(word) == SM_BLOCK_HOLE && size >= SM_MIN_BLOCK && size <= arena_end(view) - off)
            return off;
    }
    lr_arena_report_damage(view);
    return 0;
}

static inline uint64_t hole_next(struct lr_view *view, uint64_t links) {
    return linked_hole(view, links >> 32);
}

static inline uint64_t hole_previous(struct lr_view *view, uint64_t links) {
    return linked_hole(view, links & UINT32_MAX);
}

static void refresh_map(struct lr_view *view, enum lr_region region, unsigned row) {
    uint64_t any = 0;
    for (unsigned i = 0; i < SM_BIN_COLUMNS; i++)
        any |= atomic_load_explicit(&view->stripe->bins[region][row][i], memory_order_relaxed);
    uint64_t bit = UINT64_C(1) << row, map = lr_load(&view->stripe->bin_map[region]);
    lr_store(&view->stripe->bin_map[region], any ? map | bit : map & ~bit);
}

void lr_arena_bin(struct lr_view *view, enum lr_region region, uint64_t off, uint64_t size) {
    lr_add(&view->stripe->hole_bytes, size);
    if (size < SM_MIN_BLOCK)
        return;
    unsigned row, column;
    lr_bin_of(size, &row, &column);
    sm_u32 *bin = &view->stripe->bins[region][row][column];
    uint64_t next = linked_hole(view, atomic_load_explicit(bin, memory_order_relaxed));
    lr_store(&lr_block_at(view->data, off)->identity, (next / SM_GRANULE) << 32);
    if (next != 0) {
        sm_u64 *links = &lr_block_at(view->data, next)->identity;
        lr_store(links, (lr_load(links) & ~(uint64_t)UINT32_MAX) | (off / SM_GRANULE));
    }
    atomic_store_explicit(bin, (uint32_t)(off / SM_GRANULE), memory_order_relaxed);
    lr_store(&view->stripe->bin_map[region], lr_load(&view->stripe->bin_map[region]) | (UINT64_C(1) << row));
}

void lr_arena_unbin(struct lr_view *view, enum lr_region region, uint64_t off, uint64_t size) {
    lr_add(&view->stripe->hole_bytes, -size);
    if (size < SM_MIN_BLOCK)
        return;
    unsigned row, column;
    lr_bin_of(size, &row, &column);
    uint64_t links = lr_load(&lr_block_at(view->data, off)->identity);
    uint64_t next = hole_next(view, links), previous = hole_previous(view, links);
    if (next != 0) {
        sm_u64 *other = &lr_block_at(view->data, next)->identity;
        lr_store(other, (lr_load(other) & ~(uint64_t)UINT32_MAX) | (previous / SM_GRANULE));
    }
    if (previous != 0) {
        sm_u64 *other = &lr_block_at(view->data, previous)->identity;
        lr_store(other, (lr_load(other) & UINT32_MAX) | ((next / SM_GRANULE) << 32));
    } else {
        atomic_store_explicit(&view->stripe->bins[region][row][column], (uint32_t)(next / SM_GRANULE),
                              memory_order_relaxed);
        if (next == 0)
            refresh_map(view, region, row);
    }
}

/* The hole's size, loaded once for good; 0 if it leaves the arena. */
static uint64_t hole_size(const struct lr_view *view, uint64_t off) {
    uint64_t size = lr_block_size(lr_load(&lr_block_at(view->data, off)->word));
    return size <= arena_end(view) - off ? size : 0;
}

/* A hole of `size` bytes or more that begins at or above `from`, by good fit, and its whole size. 0: none. */
static uint64_t find_hole(struct lr_view *view, enum lr_region region, uint64_t size, uint64_t from, uint64_t *whole) {
    unsigned row, column;
    lr_bin_of(size, &row, &column);
    sm_u32(*bins)[SM_BIN_COLUMNS] = view->stripe->bins[region];
    uint64_t off = linked_hole(view, atomic_load_explicit(&bins[row][column], memory_order_relaxed));
    for (unsigned looks = 0; off != 0 && looks < FIT_LOOKS; looks++) {
        *whole = hole_size(view, off);
        if (*whole >= size && off >= from)
            return off;
        off = hole_next(view, lr_load(&lr_block_at(view->data, off)->identity));
    }
    /* Every hole in a later bin is large enough. */
    column++;
    uint64_t rows = lr_load(&view->stripe->bin_map[region]) & ((UINT64_C(1) << SM_BIN_ROWS) - (UINT64_C(1) << row));
    for (; rows != 0; rows &= rows - 1) {
        unsigned here = (unsigned)__builtin_ctzll(rows);
        for (column = here == row ? column : 0; column < SM_BIN_COLUMNS; column++) {
            off = linked_hole(view, atomic_load_explicit(&bins[here][column], memory_order_relaxed));
            if (off < from || off == 0)
                continue;
            *whole = hole_size(view, off);
            if (*whole >= size)
                return off;
        }
    }
    return 0;
}

/* ---- the tiling --------------------------------------------------------------------------------------------- */

void lr_arena_set_gap(struct lr_view *view, enum lr_region region, uint64_t start, uint64_t end) {
    atomic_store_explicit(&view->stripe->gap[region], lr_gap_word(start, end), memory_order_release);
}

void lr_arena_lay_hole(struct lr_view *view, enum lr_region region, uint64_t off, uint64_t size) {
    atomic_store_explicit(&lr_block_at(view->data, off)->word, size / SM_GRANULE, memory_order_release);
    lr_arena_bin(view, region, off, size);
}

bool lr_arena_find(struct lr_view *view, enum lr_region region, uint64_t size, uint64_t from, struct lr_room *room) {
    uint64_t whole = 0, hole = find_hole(view, region, size, from, &whole);
    if (hole != 0) {
        *room = (struct lr_room){.off = hole, .size = size, .rest = whole - size};
        return true;
    }
    struct lr_span gap = lr_gap_of(view, region);
    *room = (struct lr_room){.off = gap.start, .size = size, .from_gap = true};
    return gap.end - gap.start >= size && gap.start >= from;
}

void lr_arena_free(struct lr_view *view, uint64_t off, uint64_t size) {
    const enum lr_region region = lr_region_at(view, off);
    const uint64_t last = lr_region_of(view, region).end;
    const struct lr_span gap = lr_gap_of(view, region);
    /* ORDER(reuse) publish: the slot word that no longer names the block, before any store into its bytes. */
    atomic_thread_fence(memory_order_release);
    uint64_t next = off + size;
    while (next < last && next != gap.start) {
        uint64_t word = lr_load(&lr_block_at(view->data, next)->word);
        uint64_t its = lr_block_size(word);
        if (lr_block_state(word) != SM_BLOCK_HOLE || next == gap.end)
            break;
        if (its == 0 || its > last - next) {
            lr_arena_report_damage(view);
            break;
        }
        lr_arena_unbin(view, region, next, its);
        next += its;
    }
    LR_CRASH_POINT("free, before");
    /* COMMIT POINT (each of the three): before, an unnamed block lies here, which repair makes a hole; after, it is
     * free. */
    if (next == gap.start)
        lr_arena_set_gap(view, region, off, gap.end);
    else if (off == gap.end)
        lr_arena_set_gap(view, region, gap.start, next);
    else
        lr_arena_lay_hole(view, region, off, next - off);
    LR_CRASH_POINT("free, after");
}

void lr_arena_hold(struct lr_view *view, uint64_t off, uint64_t size) {
    lr_add(&view->stripe->held_blocks, 1);
    lr_add(&view->stripe->held_bytes, size);
    for (unsigned i = 0; i < SM_HELD; i++) {
        sm_u32 *entry = &view->stripe->held[i];
        if (atomic_load_explicit(entry, memory_order_relaxed) == 0) {
            atomic_store_explicit(entry, (uint32_t)(off / SM_GRANULE), memory_order_relaxed);
            return;
        }
    }
}

void lr_arena_unhold(struct lr_view *view, uint64_t off, uint64_t size) {
    lr_add(&view->stripe->held_blocks, UINT64_MAX);
    lr_add(&view->stripe->held_bytes, -size);
    for (unsigned i = 0; i < SM_HELD; i++)
        if (atomic_load_explicit(&view->stripe->held[i], memory_order_relaxed) == off / SM_GRANULE)
            atomic_store_explicit(&view->stripe->held[i], 0, memory_order_relaxed);
}

static void end_held(struct lr_view *view, uint64_t off, uint64_t size) {
    if (lr_hazard_held(view->cache, lr_hazard_of(view->cache, view->data, off), view))
        return;
    lr_arena_unhold(view, off, size);
    lr_arena_free(view, off, size);
}

void lr_arena_free_held(struct lr_view *view) {
    for (unsigned i = 0; i < SM_HELD && lr_load(&view->stripe->held_blocks) != 0; i++) {
        uint64_t off = (uint64_t)atomic_load_explicit(&view->stripe->held[i], memory_order_relaxed) * SM_GRANULE;
        if (off == 0 || off > arena_end(view) - SM_MIN_BLOCK)
            continue;
        uint64_t word = lr_load(&lr_block_at(view->data, off)->word);
        if (lr_block_size(word) < SM_MIN_BLOCK || lr_block_size(word) > arena_end(view) - off)
            lr_arena_report_damage(view);
        else if (lr_block_state(word) == SM_BLOCK_HELD)
            end_held(view, off, lr_block_size(word));
    }
}

void lr_arena_release(struct lr_view *view, uint64_t word, const struct lr_head *head) {
    if ((word & SM_SLOT_PINNED) &&
        lr_hazard_held(view->cache, lr_hazard_of(view->cache, view->data, head->off), view)) {
        uint64_t held =
            (head->word & ~(UINT64_C(3) << SM_BLOCK_STATE_SHIFT)) | ((uint64_t)SM_BLOCK_HELD << SM_BLOCK_STATE_SHIFT);
        LR_CRASH_POINT("hold, before");
        lr_store(&lr_block_at(view->data, head->off)->word, held);
        LR_CRASH_POINT("hold, after");
        lr_arena_hold(view, head->off, head->size);
        return;
    }
    lr_arena_free(view, head->off, head->size);
}

uint32_t lr_arena_incarnation(struct lr_view *view) {
    uint64_t next = lr_load(&view->stripe->incarnation) + 1;
    lr_store(&view->stripe->incarnation, next);
    return (uint32_t)next;
}

void lr_arena_claim(struct lr_view *view, const struct lr_room *room, uint64_t word, uint64_t identity,
                    uint64_t version) {
    const enum lr_region region = lr_region_at(view, room->off);
    struct sm_block *block = lr_block_at(view->data, room->off);
    /* ORDER(reuse) publish: whoever still copies the old bytes finds the slot word or the incarnation changed. */
    atomic_thread_fence(memory_order_release);
    if (!room->from_gap) {
        lr_arena_unbin(view, region, room->off, room->size + room->rest);
        if (room->rest != 0)
            lr_arena_lay_hole(view, region, room->off + room->size, room->rest);
    }
    lr_store(&block->identity, identity);
    lr_store(&block->version, version);
    LR_CRASH_POINT("claim a hole, before");
    /* COMMIT POINT (from a hole): before, one hole stands here; after, an unnamed block and the rest of the hole. */
    atomic_store_explicit(&block->word, word, memory_order_release);
    LR_CRASH_POINT("claim a hole, after");
    if (room->from_gap) {
        LR_CRASH_POINT("claim the gap, before");
        /* COMMIT POINT (from the gap): before, these bytes are gap; after, an unnamed block. */
        lr_arena_set_gap(view, region, room->off + room->size, lr_gap_of(view, region).end);
        LR_CRASH_POINT("claim the gap, after");
    }
}
