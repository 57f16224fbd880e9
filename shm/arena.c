/* SPDX-License-Identifier: MIT */
/*
 * The gap CLOCK: how is there always room for any admissible size, with every byte in use?
 *
 *   border                              hand
 *   | live | hole | live | live |......gap......| live | hole | live |      end
 *                                ^ allocate here  ^ look at this block next
 *
 * Blocks and the one gap tile the arena. Room is a hole that fits, else the head of the gap; if the gap is too small,
 * the hand advances over the block behind it:
 *
 *   hole                            -> the gap swallows it
 *   live, gone or recency 0         -> evicted, the gap swallows it
 *   live, recency > 0               -> its count falls (wear_of), and the block slides to the gap's head (copied, named
 * anew by one CAS): the gap passes it the same, gap too small for it  -> the gap becomes a hole and starts anew behind
 * the block pinned, or being replaced       -> the same end of the arena                -> the gap becomes a hole, the
 * hand starts over at the border
 *
 * So eviction, compaction and CLOCK (F. Corbato, 1968) are one sweep. Survivors move at most once a lap.
 *
 * Rules that always hold, also between any two instructions:
 *  1. From border to end, following sizes and jumping over the gap, one meets only blocks: a change of the tiling is
 * one store (of the gap word, or of a block's first word), and what it uncovers has its headers already.
 *  2. A block's bytes change only when no slot names it and no hazard holds it. A release fence stands between taking
 * the word out and the first store into the freed bytes.
 *  3. Bins list every hole of SM_MIN_BLOCK bytes or more; they are derived, and wrong only while the holder works.
 *
 * Bins: good fit in two levels, as in TLSF (M. Masmano et al., 2004): rows are powers of two, columns eighths of them.
 */
#include "stripe.h"

#define MOST_WEAR 4u   /* of a count, by one pass of the hand */
#define LEAST_WEAR 64u /* in 256: the chance of a very small block to lose one */
#define FIT_LOOKS 8u   /* holes of the size's own bin that are looked at before larger ones are taken */

static inline uint64_t arena_end(const struct lr_view *view) {
    return view->cache->geometry.stripe_bytes;
}

/* Something that no writer leaves behind: the stripe is repaired before it is unlocked. */
static void report_damage(struct lr_view *view) {
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
    report_damage(view);
    return 0;
}

static inline uint64_t hole_next(struct lr_view *view, uint64_t links) {
    return linked_hole(view, links >> 32);
}

static inline uint64_t hole_previous(struct lr_view *view, uint64_t links) {
    return linked_hole(view, links & UINT32_MAX);
}

static void refresh_map(struct lr_view *view, unsigned row) {
    uint64_t any = 0;
    for (unsigned i = 0; i < SM_BIN_COLUMNS; i++)
        any |= atomic_load_explicit(&view->stripe->bins[row][i], memory_order_relaxed);
    uint64_t bit = UINT64_C(1) << row, map = lr_load(&view->stripe->bin_map);
    lr_store(&view->stripe->bin_map, any ? map | bit : map & ~bit);
}

void lr_arena_bin(struct lr_view *view, uint64_t off, uint64_t size) {
    lr_add(&view->stripe->hole_bytes, size);
    if (size < SM_MIN_BLOCK)
        return;
    unsigned row, column;
    lr_bin_of(size, &row, &column);
    sm_u32 *bin = &view->stripe->bins[row][column];
    uint64_t next = linked_hole(view, atomic_load_explicit(bin, memory_order_relaxed));
    lr_store(&lr_block_at(view->data, off)->identity, (next / SM_GRANULE) << 32);
    if (next != 0) {
        sm_u64 *links = &lr_block_at(view->data, next)->identity;
        lr_store(links, (lr_load(links) & ~(uint64_t)UINT32_MAX) | (off / SM_GRANULE));
    }
    atomic_store_explicit(bin, (uint32_t)(off / SM_GRANULE), memory_order_relaxed);
    lr_store(&view->stripe->bin_map, lr_load(&view->stripe->bin_map) | (UINT64_C(1) << row));
}

static void unbin(struct lr_view *view, uint64_t off, uint64_t size) {
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
        atomic_store_explicit(&view->stripe->bins[row][column], (uint32_t)(next / SM_GRANULE), memory_order_relaxed);
        if (next == 0)
            refresh_map(view, row);
    }
}

/* The hole's size, loaded once for good; 0 if it leaves the arena. */
static uint64_t hole_size(const struct lr_view *view, uint64_t off) {
    uint64_t size = lr_block_size(lr_load(&lr_block_at(view->data, off)->word));
    return size <= arena_end(view) - off ? size : 0;
}

/* A hole of `size` bytes or more that begins at or above `from`, by good fit, and its whole size. 0: none. */
static uint64_t find_hole(struct lr_view *view, uint64_t size, uint64_t from, uint64_t *whole) {
    unsigned row, column;
    lr_bin_of(size, &row, &column);
    uint64_t off = linked_hole(view, atomic_load_explicit(&view->stripe->bins[row][column], memory_order_relaxed));
    for (unsigned looks = 0; off != 0 && looks < FIT_LOOKS; looks++) {
        *whole = hole_size(view, off);
        if (*whole >= size && off >= from)
            return off;
        off = hole_next(view, lr_load(&lr_block_at(view->data, off)->identity));
    }
    /* Every hole in a later bin is large enough. */
    column++;
    uint64_t rows = lr_load(&view->stripe->bin_map) & ((UINT64_C(1) << SM_BIN_ROWS) - (UINT64_C(1) << row));
    for (; rows != 0; rows &= rows - 1) {
        unsigned here = (unsigned)__builtin_ctzll(rows);
        for (column = here == row ? column : 0; column < SM_BIN_COLUMNS; column++) {
            off = linked_hole(view, atomic_load_explicit(&view->stripe->bins[here][column], memory_order_relaxed));
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

static void set_gap(struct lr_view *view, uint64_t start, uint64_t end) {
    atomic_store_explicit(&view->stripe->gap, lr_gap_word(start, end), memory_order_release);
}

/* Writes a hole's header into bytes that the tiling does not name as a block yet, or over the block that begins there.
 */
static void lay_hole(struct lr_view *view, uint64_t off, uint64_t size) {
    atomic_store_explicit(&lr_block_at(view->data, off)->word, size / SM_GRANULE, memory_order_release);
    lr_arena_bin(view, off, size);
}

void lr_arena_free(struct lr_view *view, uint64_t off, uint64_t size) {
    struct lr_gap gap = lr_gap_of(view);
    uint64_t start = gap.start, end = gap.end;
    /* ORDER(reuse) publish: the slot word that no longer names the block, before any store into its bytes. */
    atomic_thread_fence(memory_order_release);
    uint64_t next = off + size;
    while (next < arena_end(view) && next != start) {
        uint64_t word = lr_load(&lr_block_at(view->data, next)->word);
        uint64_t its = lr_block_size(word);
        if (lr_block_state(word) != SM_BLOCK_HOLE || next == end)
            break;
        if (its == 0 || its > arena_end(view) - next) {
            report_damage(view);
            break;
        }
        unbin(view, next, its);
        next += its;
    }
    LR_CRASH_POINT("free, before");
    /* COMMIT POINT (each of the three): before, an unnamed block lies here, which repair makes a hole; after, it is
     * free. */
    if (next == start)
        set_gap(view, off, end);
    else if (off == end)
        set_gap(view, start, next);
    else
        lay_hole(view, off, next - off);
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

/* The held block is none any more; its bytes are the caller's. */
static void unhold(struct lr_view *view, uint64_t off, uint64_t size) {
    lr_add(&view->stripe->held_blocks, UINT64_MAX);
    lr_add(&view->stripe->held_bytes, -size);
    for (unsigned i = 0; i < SM_HELD; i++)
        if (atomic_load_explicit(&view->stripe->held[i], memory_order_relaxed) == off / SM_GRANULE)
            atomic_store_explicit(&view->stripe->held[i], 0, memory_order_relaxed);
}

static void end_held(struct lr_view *view, uint64_t off, uint64_t size) {
    if (lr_hazard_held(view->cache, lr_hazard_of(view->cache, view->data, off), view))
        return;
    unhold(view, off, size);
    lr_arena_free(view, off, size);
}

void lr_arena_free_held(struct lr_view *view) {
    for (unsigned i = 0; i < SM_HELD && lr_load(&view->stripe->held_blocks) != 0; i++) {
        uint64_t off = (uint64_t)atomic_load_explicit(&view->stripe->held[i], memory_order_relaxed) * SM_GRANULE;
        if (off == 0 || off > arena_end(view) - SM_MIN_BLOCK)
            continue;
        uint64_t word = lr_load(&lr_block_at(view->data, off)->word);
        if (lr_block_size(word) < SM_MIN_BLOCK || lr_block_size(word) > arena_end(view) - off)
            report_damage(view);
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
    struct sm_block *block = lr_block_at(view->data, room->off);
    /* ORDER(reuse) publish: whoever still copies the old bytes finds the slot word or the incarnation changed. */
    atomic_thread_fence(memory_order_release);
    if (!room->from_gap) {
        unbin(view, room->off, room->size + room->rest);
        if (room->rest != 0)
            lay_hole(view, room->off + room->size, room->rest);
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
        set_gap(view, room->off + room->size, lr_gap_of(view).end);
        LR_CRASH_POINT("claim the gap, after");
    }
}

/* ---- the hand ----------------------------------------------------------------------------------------------- */

/* What is left of the gap becomes a hole; a new, empty gap stands at `next`. */
static void jump(struct lr_view *view, uint64_t start, uint64_t end, uint64_t next) {
    if (start < end)
        lay_hole(view, start, end - start);
    LR_CRASH_POINT("jump, before");
    /* COMMIT POINT: before, the gap covers the hole's header; after, the hole counts. */
    set_gap(view, next, next);
    LR_CRASH_POINT("jump, after");
}

/* Pinned flag seen in passing: if nobody holds the block, take the flag off. True: it is held. */
static bool still_pinned(struct lr_view *view, sm_u64 *slot, uint64_t *word, uint64_t off) {
    uint64_t hazard = lr_hazard_of(view->cache, view->data, off);
    if (lr_hazard_held(view->cache, hazard, view))
        return true;
    uint64_t seen = *word;
    if (!atomic_compare_exchange_strong_explicit(slot, &seen, seen & ~SM_SLOT_PINNED, memory_order_acq_rel,
                                                 memory_order_relaxed)) {
        *word = seen;
        return true;
    }
    *word = seen & ~SM_SLOT_PINNED;
    /* A reader who found the flag set relied on it: look again, now that it is off. */
    if (!lr_hazard_held(view->cache, hazard, view))
        return false;
    *word = atomic_fetch_or_explicit(slot, SM_SLOT_PINNED, memory_order_acq_rel) | SM_SLOT_PINNED;
    return true;
}

/* How the hand goes over the arena. */
struct pass {
    bool evict, count; /* evict what is cold; what is not cold yet loses some of its count */
    uint64_t keep_off; /* the block that is being replaced; 0 none */
    uint64_t per_mean; /* 2^24 / mean size of a block, to divide by it */
};

static struct pass begin_pass(const struct lr_view *view, bool evict) {
    uint64_t items = lr_load(&view->stripe->items), bytes = lr_load(&view->stripe->item_bytes);
    uint64_t mean = items != 0 ? bytes / items : 0;
    return (struct pass){.evict = evict, .per_mean = mean != 0 ? (UINT64_C(1) << 24) / mean : 0};
}

/*
 * What passing this block takes off its count: in proportion to its size, so that of two blocks that are read as often
 * the small one stays longer, and many values live from the bytes of one large one (the idea of GreedyDual-Size, P. Cao
 * and S. Irani, 1997). 1 for a block of the mean size, at most MOST_WEAR; below the mean 1 or 0 by chance.
 */
static unsigned wear_of(struct lr_view *view, const struct pass *pass, const struct lr_head *head) {
    uint64_t share = ((uint64_t)head->size * pass->per_mean) >> 16; /* of the mean, in 1/256 */
    if (share >= 256)
        return share < (MOST_WEAR << 8) ? (unsigned)(share + 128) >> 8 : MOST_WEAR;
    uint64_t chance = share > LEAST_WEAR ? share : LEAST_WEAR;
    return (lr_mix(lr_load(&view->stripe->incarnation) ^ head->off) & 0xffu) < chance ? 1 : 0;
}

static uint64_t worn(uint64_t word, unsigned wear) {
    unsigned recency = lr_slot_recency(word);
    return word - (wear < recency ? wear : recency) * SM_SLOT_RECENCY_ONE;
}

/*
 * Copies a live block into `room` and names it there, its count lowered by `wear`. False: pinned or deleted meanwhile
 * (or its word does not stand still: LR_WORD_TRIES); then the copy is an unnamed block that the caller gives back.
 */
static bool move_block(struct lr_view *view, sm_u64 *slot, uint64_t word, const struct lr_head *head,
                       const struct lr_room *room, unsigned wear) {
    uint32_t incarnation = lr_arena_incarnation(view);
    /* The version goes with it: CAS tokens survive. */
    lr_arena_claim(view, room, head->word, (head->identity & ~(uint64_t)UINT32_MAX) | incarnation, head->version);
    lr_bytes_move(view->data + room->off + sizeof(struct sm_block), view->data + head->off + sizeof(struct sm_block),
                  head->size - sizeof(struct sm_block));
    for (unsigned tries = 0; tries < LR_WORD_TRIES; tries++) {
        uint64_t moved = (worn(word, wear) & ~(SM_SLOT_OFF_MASK | SM_SLOT_INC_MASK)) | (room->off / SM_GRANULE) |
                         ((uint64_t)(incarnation & 0xffu) << SM_SLOT_INC_SHIFT);
        LR_CRASH_POINT("slide, before");
        /* COMMIT POINT: before, the copy is an unnamed block; after, the original is. ORDER(entry) publish: the copy's
         * bytes. */
        if (atomic_compare_exchange_strong_explicit(slot, &word, moved, memory_order_release, memory_order_relaxed)) {
            LR_CRASH_POINT("slide, after");
            return true;
        }
        if (word & (SM_SLOT_PINNED | SM_SLOT_DEAD))
            return false;
    }
    return false;
}

/* Moves the block at the hand to the gap's head. False: pinned or deleted meanwhile; nothing has changed. */
static bool slide(struct lr_view *view, sm_u64 *slot, uint64_t word, const struct lr_head *head, uint64_t start,
                  uint64_t end, unsigned wear) {
    struct lr_room room = {.off = start, .size = head->size, .from_gap = true};
    if (!move_block(view, slot, word, head, &room, wear)) {
        set_gap(view, start, end); /* the copy is gap again */
        return false;
    }
    set_gap(view, start + head->size, head->off + head->size);
    lr_tally(view, LR_S_slides, 1);
    lr_tally(view, LR_S_slide_bytes, head->size);
    return true;
}

/* The block at the hand is live: evict, slide or step over it. */
static void pass_live(struct lr_view *view, const struct pass *pass, const struct lr_head *head, uint64_t start,
                      uint64_t end) {
    uint64_t next = head->off + head->size, word = 0;
    sm_u64 *slot = lr_index_slot_of(view, (uint32_t)(head->identity >> 32), head->off, &word);
    if (slot == NULL) { /* unnamed: a writer died without repair having run, or the bytes are damaged */
        set_gap(view, start, next);
        return;
    }
    if ((word & SM_SLOT_PINNED) && still_pinned(view, slot, &word, head->off)) {
        jump(view, start, end, next);
        return;
    }
    bool gone = (word & SM_SLOT_DEAD) != 0 || (!head->tombstone && lr_head_gone(view->cache, view->data, head));
    bool evictable = pass->evict && !head->tombstone && (!pass->count || lr_slot_recency(word) == 0);
    if (head->off != pass->keep_off && (gone || evictable)) {
        enum lr_forget_why why = word & SM_SLOT_DEAD ? LR_FORGET_DELETE : gone ? LR_FORGET_EXPIRE : LR_FORGET_EVICT;
        if (lr_entry_forget(view, slot, word, head, why, false)) {
            /* Forgetting may have laid a tombstone at the gap's head. */
            set_gap(view, lr_gap_of(view).start, next);
            return;
        }
        jump(view, start, end, next);
        return;
    }
    const unsigned wear = wear_of(view, pass, head);
    if (head->off == pass->keep_off || end - start < head->size) {
        if (worn(word, wear) != word)
            atomic_compare_exchange_strong_explicit(slot, &word, worn(word, wear), memory_order_relaxed,
                                                    memory_order_relaxed);
        jump(view, start, end, next);
        return;
    }
    if (!slide(view, slot, word, head, start, end, wear))
        jump(view, start, end, next);
}

/* The slots of the blocks ahead will be looked at soon. */
static void prefetch_ahead(struct lr_view *view, uint64_t off) {
    if (off + sizeof(struct sm_block) > arena_end(view))
        return;
    uint64_t identity = lr_load(&lr_block_at(view->data, off)->identity);
    __builtin_prefetch(lr_bucket_at(view->data, lr_bucket_of((uint32_t)(identity >> 32), lr_buckets(view))));
    __builtin_prefetch(view->data + off + 256);
}

/* One step of the hand. Returns the bytes it passed. */
static uint64_t advance(struct lr_view *view, const struct pass *pass) {
    struct lr_gap gap = lr_gap_of(view);
    uint64_t start = gap.start, end = gap.end;
    if (end >= arena_end(view)) {
        lr_tally(view, LR_S_laps, 1);
        jump(view, start, end, lr_load(&view->stripe->border_off));
        return 0;
    }
    struct sm_block *block = lr_block_at(view->data, end);
    uint64_t word = lr_load(&block->word), size = lr_block_size(word);
    if (size == 0 || size > arena_end(view) - end) {
        report_damage(view); /* what lies behind cannot be told apart */
        return 0;
    }
    if (lr_block_state(word) == SM_BLOCK_HOLE) {
        unbin(view, end, size);
        set_gap(view, start, end + size);
        return size;
    }
    if (lr_block_state(word) == SM_BLOCK_HELD) {
        if (lr_hazard_held(view->cache, lr_hazard_of(view->cache, view->data, end), view)) {
            jump(view, start, end, end + size);
        } else {
            unhold(view, end, size);
            set_gap(view, start, end + size);
        }
        return size;
    }
    struct lr_head head;
    if (!lr_head_read(view->cache, view->data, end, &head)) {
        report_damage(view);
        return 0;
    }
    prefetch_ahead(view, end + size);
    pass_live(view, pass, &head, start, end);
    return size;
}

int lr_arena_room(struct lr_view *view, uint64_t size, uint64_t keep_off, enum lr_room_how how, struct lr_room *room) {
    const bool evict = view->cache->geometry.policy != LR_POLICY_none;
    uint64_t arena = arena_end(view) - lr_load(&view->stripe->border_off);
    uint64_t whole = 0, hole = find_hole(view, size, 0, &whole);
    if (hole == 0) {
        /* One lap honours recency, later ones do not. Two of those, since a run across the hand's starting point is
         * whole only in the second. A wrap counts a granule, so that the loop ends whatever the tiling says. */
        uint64_t passed = 0, limit = evict ? 3 * arena : 2 * arena;
        /* The next victim's tombstone wants a place when it goes. */
        bool replicating = atomic_load_explicit(&view->cache->header->replicating, memory_order_relaxed) != 0;
        uint64_t spare = evict && replicating ? SM_MIN_BLOCK : 0;
        struct pass pass = begin_pass(view, evict);
        for (;;) {
            struct lr_gap gap = lr_gap_of(view);
            uint64_t open = gap.end - gap.start;
            bool last = how == LR_ROOM_FREE || passed > limit;
            if (open >= size + (last ? 0 : spare))
                break;
            if (view->damaged)
                return LARDER_ECORRUPT;
            if (last)
                return evict && how == LR_ROOM_EVICT ? LARDER_EPINNED : LARDER_EFULL;
            view->hand_moved = true;
            pass.count = passed <= arena;
            pass.keep_off = pass.count ? keep_off : 0;
            passed += advance(view, &pass) + SM_GRANULE;
        }
        *room = (struct lr_room){.off = lr_gap_of(view).start, .size = size, .from_gap = true};
        return 0;
    }
    *room = (struct lr_room){.off = hole, .size = size, .rest = whole - size};
    return 0;
}

/* ---- the border --------------------------------------------------------------------------------------------- */

/* Moves a live block from below the coming border elsewhere, or evicts it. False: neither is possible now. */
static bool clear_live(struct lr_view *view, const struct lr_head *head, uint64_t target) {
    uint64_t word = 0;
    sm_u64 *slot = lr_index_slot_of(view, (uint32_t)(head->identity >> 32), head->off, &word);
    if (slot == NULL)
        return true;
    if ((word & SM_SLOT_PINNED) && still_pinned(view, slot, &word, head->off))
        return false;
    struct lr_gap gap = lr_gap_of(view);
    struct lr_room room = {.size = head->size};
    uint64_t whole = 0, hole = find_hole(view, head->size, target, &whole);
    if (hole != 0) {
        room.off = hole;
        room.rest = whole - head->size;
    } else if (gap.end - gap.start >= head->size && gap.start >= target) {
        room.off = gap.start;
        room.from_gap = true;
    } else {
        return view->cache->geometry.policy != LR_POLICY_none && !view->keep_all && !head->tombstone &&
               lr_entry_forget(view, slot, word, head, LR_FORGET_EVICT, false);
    }
    if (move_block(view, slot, word, head, &room, 0))
        return true;
    lr_arena_free(view, room.off, room.size);
    return false;
}

/* Bytes from `at` to the next block, all of them free or freed now. 0: they cannot be freed. */
static uint64_t clear_block(struct lr_view *view, uint64_t at, uint64_t target) {
    struct lr_gap gap = lr_gap_of(view);
    uint64_t start = gap.start, end = gap.end;
    if (at == start && start < end) {
        uint64_t next = end < target ? end : target;
        lr_store(&lr_block_at(view->data, at)->word, (next - at) / SM_GRANULE);
        set_gap(view, next, end);
        return next - at;
    }
    uint64_t word = lr_load(&lr_block_at(view->data, at)->word), size = lr_block_size(word);
    struct lr_head head;
    if (size == 0 || size > arena_end(view) - at || lr_block_state(word) == SM_BLOCK_HELD)
        return 0;
    if (lr_block_state(word) == SM_BLOCK_HOLE)
        unbin(view, at, size);
    else if (lr_head_read(view->cache, view->data, at, &head) && !clear_live(view, &head, target))
        return 0;
    return size;
}

bool lr_arena_raise_border(struct lr_view *view, uint64_t bytes) {
    const uint64_t border = lr_load(&view->stripe->border_off), target = border + bytes;
    uint64_t at = border; /* [border, at) is one hole that stands in no bin */
    struct lr_gap whole = lr_gap_of(view);
    view->hand_moved = true;
    /* What will be index becomes a hole first, so that the rest of the gap can take the blocks that must move. */
    if (whole.start < target && whole.end > target) {
        lay_hole(view, whole.start, target - whole.start);
        set_gap(view, target, whole.end);
    }
    while (at < target) {
        uint64_t step = clear_block(view, at, target);
        if (step == 0)
            break;
        uint64_t next = at + step;
        struct lr_gap gap = lr_gap_of(view);
        atomic_thread_fence(memory_order_release);
        /* An empty gap that the hole is about to cover moves to its end. */
        if (gap.start == gap.end && gap.start >= border && gap.start < next)
            set_gap(view, next, next);
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
