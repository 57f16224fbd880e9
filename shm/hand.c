/* SPDX-License-Identifier: MIT */
/*
 * The hand of the gap CLOCK: how is there always room for any admissible size?
 *
 *          region's start                 hand                              region's end
 *   | live | hole | live | live |......gap......| live | hole | live |
 *                                ^ allocate here  ^ look at this block next
 *
 * If the gap is too small, the hand advances over the block behind it:
 *
 *   hole                        -> the gap swallows it
 *   live, and it must go        -> evicted, the gap swallows it
 *   live, and it may stay       -> its count falls, and the block slides to the gap's head (copied, named anew by one
 *                                  CAS): the gap passes it
 *   the same, gap too small     -> the gap becomes a hole and starts anew behind the block
 *   pinned, or being replaced   -> the same
 *   the end of the region       -> the gap becomes a hole, the hand starts over
 *
 * So eviction, compaction and CLOCK (F. Corbato, 1968) are one sweep. Survivors move at most once a lap.
 *
 * Main's hand evicts what has no count left. Probation's hand keeps nothing: what has the count that its size demands
 * slides into main (room there by main's hand), its count spent; all else goes. That is what S3-FIFO (J. Yang et al.,
 * 2023) does with queues. One put promotes at most PROMOTIONS blocks, or as many bytes as it needs itself (a large one
 * passes many small blocks, and they may be the ones that are read most); main's hand goes two laps for them at most.
 * Then probation's hand evicts. While the stripe chooses by age (shadow.c) both hands do what main's does, and their
 * going is what takes counts off.
 *
 * Policy none evicts nothing. A put that finds neither hole nor gap can but hope that something has expired, or that
 * free bytes lie scattered, and to see that takes a lap of the hand, which costs as much as ten thousand puts. So it
 * sweeps LOOK_BUCKETS buckets for what has expired; and the hand goes round only if it has not done so in vain, in this
 * stripe, within LOOK_MS_PER_MIB for each MiB of the cache, or a LOOK_FREEDth of the stripe has become free since. Else
 * the put is refused at once.
 */
#include "stripe.h"

#define MOST_WEAR 4u       /* of a count, by one pass of the hand */
#define LEAST_WEAR 64u     /* in 256: the chance of a very small block to lose one */
#define PROMOTIONS 64u     /* by one put, or as many bytes as it has */
#define LOOK_MS_PER_MIB 5u /* policy none, as below */
#define LOOK_LEAST_MS 20u
#define LOOK_FREED 32u
#define LOOK_BUCKETS 4u
#define TIMELESS_SAFE                                                                                                  \
    32u /* blocks that one put looks at before items without a deadline go, if all others have one                     \
         */

/* How the hand goes over a region. */
struct pass {
    enum lr_region region;
    bool evict, count; /* evict what is cold; what is not cold yet loses some of its count */
    bool ignore_sizes;
    uint64_t keep_off; /* the block that is being replaced; 0 none */
    uint64_t needs;    /* bytes of the put; 0: it has them already */
    uint64_t mean;     /* bytes of a block */
    uint64_t per_mean; /* 2^24 / mean, to divide by it */
    unsigned looked;   /* at live blocks */
    uint64_t stayed;   /* bytes, by their counts, one after the other */
    unsigned spared;   /* policy ttl: so many, before items without a deadline go */
};

static struct pass begin_pass(const struct lr_view *view, enum lr_region region) {
    const uint32_t policy = view->cache->geometry.policy;
    struct pass pass = {.region = region,
                        .evict = policy != LR_POLICY_none,
                        .ignore_sizes = lr_policy_ignores_sizes(view),
                        .mean = lr_policy_mean(view)};
    pass.per_mean = (UINT64_C(1) << 24) / pass.mean;
    if (policy == LR_POLICY_ttl) {
        const uint64_t items = lr_load(&view->stripe->items) + 1, expiring = lr_load(&view->stripe->ttl_items);
        pass.spared = expiring < items ? (unsigned)(TIMELESS_SAFE * expiring / items) : TIMELESS_SAFE;
    }
    return pass;
}

void lr_hand_jump(struct lr_view *view, enum lr_region region, uint64_t next) {
    const struct lr_span gap = lr_gap_of(view, region);
    if (gap.start < gap.end)
        lr_arena_lay_hole(view, region, gap.start, gap.end - gap.start);
    LR_CRASH_POINT("jump, before");
    /* COMMIT POINT: before, the gap covers the hole's header; after, the hole counts. */
    lr_arena_set_gap(view, region, next, next);
    LR_CRASH_POINT("jump, after");
}

bool lr_hand_pinned(struct lr_view *view, sm_u64 *slot, uint64_t *word, uint64_t off) {
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

/* ---- moving ------------------------------------------------------------------------------------------------- */

/* By the rules of s3 a count that is left over from a choice by age wears as one of theirs. */
static uint64_t worn(const struct lr_view *view, uint64_t word, unsigned wear) {
    const unsigned count = lr_slot_count(view->cache, word);
    if (wear == 0 || count == 0)
        return word;
    const unsigned from = count > lr_recency_max(view->cache) ? LR_COUNT_PLAIN : count,
                   to = wear < from ? from - wear : 0;
    return word - (count - to) * SM_SLOT_RECENCY_ONE;
}

bool lr_hand_move(struct lr_view *view, sm_u64 *slot, uint64_t word, const struct lr_head *head,
                  const struct lr_room *room, unsigned wear) {
    uint32_t incarnation = lr_arena_incarnation(view);
    /* The version goes with it: CAS tokens survive. */
    lr_arena_claim(view, room, head->word, (head->identity & ~(uint64_t)UINT32_MAX) | incarnation, head->version);
    lr_bytes_move(view->data + room->off + sizeof(struct sm_block), view->data + head->off + sizeof(struct sm_block),
                  head->size - sizeof(struct sm_block));
    for (unsigned tries = 0; tries < LR_WORD_TRIES; tries++) {
        uint64_t moved = (worn(view, word, wear) & ~(SM_SLOT_OFF_MASK | SM_SLOT_INC_MASK)) | (room->off / SM_GRANULE) |
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
static bool slide(struct lr_view *view, enum lr_region region, sm_u64 *slot, uint64_t word, const struct lr_head *head,
                  unsigned wear) {
    const struct lr_span gap = lr_gap_of(view, region);
    struct lr_room room = {.off = gap.start, .size = head->size, .from_gap = true};
    if (!lr_hand_move(view, slot, word, head, &room, wear)) {
        lr_arena_set_gap(view, region, gap.start, gap.end); /* the copy is gap again */
        return false;
    }
    lr_arena_set_gap(view, region, gap.start + head->size, head->off + head->size);
    lr_tally(view, LR_S_slides, 1);
    lr_tally(view, LR_S_slide_bytes, head->size);
    return true;
}

/* ---- who goes ----------------------------------------------------------------------------------------------- */

/*
 * What passing this block takes off its count: in proportion to its size, so that of two blocks that are read as often
 * the small one stays longer, and many values live from the bytes of one large one (the idea of GreedyDual-Size, P. Cao
 * and S. Irani, 1997). 1 for a block of the mean size, at most MOST_WEAR; below the mean 1 or 0 by chance.
 */
static unsigned wear_of(struct lr_view *view, const struct pass *pass, const struct lr_head *head) {
    if (pass->ignore_sizes)
        return 1;
    uint64_t share = ((uint64_t)head->size * pass->per_mean) >> 16; /* of the mean, in 1/256 */
    if (share >= 256)
        return share < (MOST_WEAR << 8) ? (unsigned)(share + 128) >> 8 : MOST_WEAR;
    uint64_t chance = share > LEAST_WEAR ? share : LEAST_WEAR;
    return (lr_mix(lr_load(&view->stripe->incarnation) ^ head->off) & 0xffu) < chance ? 1 : 0;
}

/* Of a count, and of a wide one in proportion to it: what was read often long ago yields to what is read now. */
static unsigned wear_for(struct lr_view *view, const struct pass *pass, const struct lr_head *head, uint64_t word) {
    if (view->by_age) /* only time wears */
        return 0;
    const unsigned wear = wear_of(view, pass, head), count = lr_slot_count(view->cache, word);
    return view->cache->geometry.policy == LR_POLICY_lfu ? wear * (1 + count / 8) : wear;
}

/* Policy ttl: whether the item expires soon, as things go. "Soon" follows what is met, so that about one in five goes.
 */
static bool expires_soon(struct lr_view *view, const struct lr_head *head) {
    const uint64_t deadline = lr_head_deadline(view->data, head), now = lr_now_ms(view->cache);
    uint64_t patience = lr_load(&view->stripe->patience_ms);
    const bool soon = deadline < now || deadline - now <= patience;
    patience = soon ? patience - patience / 4 : patience + patience / 16 + 1;
    lr_store(&view->stripe->patience_ms, patience < UINT64_MAX / 2 ? patience : UINT64_MAX / 2);
    return soon;
}

/* Whether main's hand takes this one. */
static bool is_cold(struct lr_view *view, const struct pass *pass, const struct lr_head *head, uint64_t word) {
    if (!pass->evict || head->tombstone)
        return false;
    if (!pass->count || view->turns_over)
        return true;
    if (view->by_age)
        return lr_slot_count(view->cache, word) <= lr_shadow_age_limit(view);
    if (view->cache->geometry.policy != LR_POLICY_ttl)
        return lr_slot_count(view->cache, word) == 0;
    if (head->parts & SM_PART_EXPIRY)
        return expires_soon(view, head);
    return lr_slot_count(view->cache, word) == 0 && pass->looked > pass->spared;
}

/* The block at the hand goes, and the gap swallows it. */
static void drop(struct lr_view *view, enum lr_region region, sm_u64 *slot, uint64_t word, const struct lr_head *head,
                 enum lr_forget_why why) {
    const uint64_t next = head->off + head->size;
    if (lr_entry_forget(view, slot, word, head, why, false))
        /* Forgetting may have laid a tombstone at the gap's head. */
        lr_arena_set_gap(view, region, lr_gap_of(view, region).start, next);
    else
        lr_hand_jump(view, region, next);
}

static uint64_t advance(struct lr_view *view, struct pass *pass);

/* Room in main for what comes from probation. */
static bool room_in_main(struct lr_view *view, uint64_t size, struct lr_room *room) {
    struct pass pass = begin_pass(view, LR_MAIN);
    const struct lr_span main = lr_region_of(view, LR_MAIN);
    while (!lr_arena_find(view, LR_MAIN, size, 0, room)) {
        if (view->forced > 2 * (main.end - main.start) || view->damaged)
            return false;
        pass.count = view->forced <= main.end - main.start;
        view->forced += advance(view, &pass) + SM_GRANULE;
    }
    return true;
}

/* The block at probation's hand slides into main. False: it may not, or nothing has changed. */
static bool promote(struct lr_view *view, const struct pass *pass, sm_u64 *slot, uint64_t word,
                    const struct lr_head *head) {
    struct lr_room room;
    if ((view->promoted >= PROMOTIONS && view->promoted_bytes >= pass->needs) || !room_in_main(view, head->size, &room))
        return false;
    view->promoted++;
    view->promoted_bytes += head->size;
    if (!lr_hand_move(view, slot, word, head, &room, LR_WEAR_ALL)) {
        lr_arena_free(view, room.off, room.size);
        lr_hand_jump(view, LR_PROBATION, head->off + head->size);
        return true;
    }
    lr_arena_set_gap(view, LR_PROBATION, lr_gap_of(view, LR_PROBATION).start, head->off + head->size);
    lr_tally(view, LR_S_promotions, 1);
    return true;
}

/* The block at the hand goes: of main, or by age. */
static void evict(struct lr_view *view, struct pass *pass, sm_u64 *slot, uint64_t word, const struct lr_head *head) {
    pass->stayed = 0;
    if (view->turns_over)
        lr_policy_turned_over(view, lr_slot_count(view->cache, word) > 0);
    drop(view, pass->region, slot, word, head, LR_FORGET_EVICT);
}

/* The block at probation's hand goes to main, or for good. */
static void leave_probation(struct lr_view *view, const struct pass *pass, sm_u64 *slot, uint64_t word,
                            const struct lr_head *head) {
    lr_policy_left(view, lr_slot_count(view->cache, word));
    if (lr_slot_count(view->cache, word) < lr_policy_threshold(view, head->size, pass->mean) ||
        !promote(view, pass, slot, word, head))
        drop(view, LR_PROBATION, slot, word, head, LR_FORGET_EVICT);
}

/* The block may stay: slide, or step over it. */
static void keep(struct lr_view *view, const struct pass *pass, sm_u64 *slot, uint64_t word, const struct lr_head *head,
                 unsigned wear) {
    const struct lr_span gap = lr_gap_of(view, pass->region);
    const uint64_t next = head->off + head->size;
    if (head->off == pass->keep_off || gap.end - gap.start < head->size) {
        if (worn(view, word, wear) != word)
            atomic_compare_exchange_strong_explicit(slot, &word, worn(view, word, wear), memory_order_relaxed,
                                                    memory_order_relaxed);
        lr_hand_jump(view, pass->region, next);
        return;
    }
    if (!slide(view, pass->region, slot, word, head, wear))
        lr_hand_jump(view, pass->region, next);
}

static void keep_warm(struct lr_view *view, struct pass *pass, sm_u64 *slot, uint64_t word,
                      const struct lr_head *head) {
    pass->stayed += head->size;
    keep(view, pass, slot, word, head, wear_for(view, pass, head, word));
}

/* The block at the hand is live: evict, promote, slide or step over it. */
static void pass_live(struct lr_view *view, struct pass *pass, const struct lr_head *head) {
    const uint64_t next = head->off + head->size;
    uint64_t word = 0;
    sm_u64 *slot = lr_index_slot_of(view, (uint32_t)(head->identity >> 32), head->off, &word);
    if (slot == NULL) { /* unnamed: a writer died without repair having run, or the bytes are damaged */
        lr_arena_set_gap(view, pass->region, lr_gap_of(view, pass->region).start, next);
        return;
    }
    if ((word & SM_SLOT_PINNED) && lr_hand_pinned(view, slot, &word, head->off)) {
        lr_hand_jump(view, pass->region, next);
        return;
    }
    pass->looked++;
    const bool counts = pass->region == LR_MAIN || view->by_age;
    const bool gone = (word & SM_SLOT_DEAD) != 0 || (!head->tombstone && lr_head_gone(view->cache, view->data, head));
    if (head->off == pass->keep_off)
        keep(view, pass, slot, word, head, counts ? wear_for(view, pass, head, word) : 0);
    else if (gone)
        drop(view, pass->region, slot, word, head, word & SM_SLOT_DEAD ? LR_FORGET_DELETE : LR_FORGET_EXPIRE);
    else if (counts && is_cold(view, pass, head, word))
        evict(view, pass, slot, word, head);
    else if (counts)
        keep_warm(view, pass, slot, word, head);
    else if (head->tombstone)
        keep(view, pass, slot, word, head, 0);
    else
        leave_probation(view, pass, slot, word, head);
}

/* ---- going round -------------------------------------------------------------------------------------------- */

/* The slots of the blocks ahead will be looked at soon. */
static void prefetch_ahead(struct lr_view *view, uint64_t off) {
    if (off + sizeof(struct sm_block) > view->cache->geometry.stripe_bytes)
        return;
    uint64_t identity = lr_load(&lr_block_at(view->data, off)->identity);
    const uint32_t bucket = lr_bucket_of((uint32_t)(identity >> 32), lr_buckets(view));
    __builtin_prefetch(lr_bucket_at(view, bucket));
    if (lr_has_probation(view->cache))
        __builtin_prefetch(lr_ghosts_at(view, bucket), 1);
    __builtin_prefetch(view->data + off + 256);
}

/* The end of the region. */
static void wrap(struct lr_view *view, const struct pass *pass) {
    const enum lr_region region = pass->region;
    lr_tally(view, LR_S_laps, 1);
    if (region == LR_PROBATION) {
        lr_policy_lapped(view, pass->keep_off);
        if (lr_divide_grow(view))
            return;
    }
    lr_hand_jump(view, region, lr_region_of(view, region).start);
}

/* One step of the hand. Returns the bytes it passed. */
static uint64_t advance(struct lr_view *view, struct pass *pass) {
    const enum lr_region region = pass->region;
    const uint64_t last = lr_region_of(view, region).end;
    const struct lr_span gap = lr_gap_of(view, region);
    const uint64_t start = gap.start, end = gap.end;
    if (end >= last) {
        wrap(view, pass);
        return 0;
    }
    struct sm_block *block = lr_block_at(view->data, end);
    uint64_t word = lr_load(&block->word), size = lr_block_size(word);
    if (size == 0 || size > last - end) {
        lr_arena_report_damage(view); /* what lies behind cannot be told apart */
        return 0;
    }
    if (lr_block_state(word) == SM_BLOCK_HOLE) {
        lr_arena_unbin(view, region, end, size);
        lr_arena_set_gap(view, region, start, end + size);
        return size;
    }
    if (lr_block_state(word) == SM_BLOCK_HELD) {
        if (lr_hazard_held(view->cache, lr_hazard_of(view->cache, view->data, end), view)) {
            lr_hand_jump(view, region, end + size);
        } else {
            lr_arena_unhold(view, end, size);
            lr_arena_set_gap(view, region, start, end + size);
        }
        return size;
    }
    struct lr_head head;
    if (!lr_head_read(view->cache, view->data, end, &head)) {
        lr_arena_report_damage(view);
        return 0;
    }
    prefetch_ahead(view, end + size);
    pass_live(view, pass, &head);
    if (view->by_age)
        lr_shadow_passed(view, size, pass->stayed);
    return size;
}

void lr_hand_walk(struct lr_view *view, unsigned steps, uint64_t keep_off) {
    struct pass pass = begin_pass(view, LR_PROBATION);
    pass.keep_off = keep_off;
    view->hand_moved = true;
    for (unsigned i = 0; i < steps && !view->damaged; i++) {
        if (lr_gap_of(view, LR_PROBATION).end >= lr_region_of(view, LR_PROBATION).end)
            return;
        advance(view, &pass);
    }
}

/* ---- policy none ------------------------------------------------------------------------------------------------ */

static uint64_t free_bytes(const struct lr_view *view) {
    const struct lr_span gap = lr_gap_of(view, LR_MAIN);
    return gap.end - gap.start + lr_load(&view->stripe->hole_bytes);
}

static uint64_t look_interval_ms(const struct lr_view *view) {
    const uint64_t ms = view->cache->geometry.cache_bytes / (UINT64_C(1048576) / LOOK_MS_PER_MIB);
    return ms > LOOK_LEAST_MS ? ms : LOOK_LEAST_MS;
}

/* Whether the hand may go round once more for a put. A date too far ahead counts as none. */
static bool look_is_due(const struct lr_view *view, uint64_t size) {
    const uint64_t now = lr_now_ms(view->cache), due = lr_load(&view->stripe->look_again_ms);
    if (now >= due || due - now > look_interval_ms(view))
        return true;
    const uint64_t free = free_bytes(view), left = lr_load(&view->stripe->look_left_bytes);
    return free >= size && free > left && free - left > view->cache->geometry.stripe_bytes / LOOK_FREED;
}

/* The next few buckets lose what has expired; whether that made a hole. */
static bool sweep_for_room(struct lr_view *view, uint64_t size, struct lr_room *room) {
    if (lr_load(&view->stripe->ttl_items) == 0 || lr_sweep_buckets(view, LOOK_BUCKETS, UINT64_MAX) == 0)
        return false;
    view->hand_moved = true;
    return lr_arena_find(view, LR_MAIN, size, 0, room);
}

static void put_off_look(struct lr_view *view) {
    lr_store(&view->stripe->look_left_bytes, free_bytes(view));
    lr_store(&view->stripe->look_again_ms, lr_now_ms(view->cache) + look_interval_ms(view));
}

/* ---- room ------------------------------------------------------------------------------------------------------- */

int lr_hand_room(struct lr_view *view, enum lr_region region, uint64_t size, uint64_t keep_off, enum lr_room_how how,
                 struct lr_room *room) {
    uint64_t passed = 0;
    bool found = lr_arena_find(view, region, size, 0, room);
    const bool looks = view->cache->geometry.policy == LR_POLICY_none && how == LR_ROOM_EVICT;
    if (!found && looks) {
        found = sweep_for_room(view, size, room);
        if (!found && !look_is_due(view, size))
            return LARDER_EFULL;
    }
    if (found && !room->from_gap)
        return 0;
    struct pass pass = begin_pass(view, region);
    pass.needs = size;
    /* The next victim's tombstone wants a place when it goes. */
    bool replicating = atomic_load_explicit(&view->cache->header->replicating, memory_order_relaxed) != 0;
    const uint64_t spare = pass.evict && replicating ? SM_MIN_BLOCK : 0;
    for (;;) {
        const struct lr_span gap = lr_gap_of(view, region), whole = lr_region_of(view, region);
        /* One lap honours recency, later ones do not. Two of those, since a run across the hand's starting point is
         * whole only in the second. A wrap counts a granule, so that the loop ends whatever the tiling says. */
        const uint64_t lap = whole.end - whole.start;
        bool last = how == LR_ROOM_FREE || passed > (pass.evict ? 3 : 2) * lap ||
                    (looks && passed > lap && free_bytes(view) < size);
        if (gap.end - gap.start >= size + (last ? 0 : spare)) {
            *room = (struct lr_room){.off = gap.start, .size = size, .from_gap = true};
            return 0;
        }
        if (view->damaged)
            return LARDER_ECORRUPT;
        if (last) {
            if (looks)
                put_off_look(view);
            return pass.evict && how == LR_ROOM_EVICT ? LARDER_EPINNED : LARDER_EFULL;
        }
        view->hand_moved = true;
        pass.count = passed <= lap;
        pass.keep_off = pass.count ? keep_off : 0;
        passed += advance(view, &pass) + SM_GRANULE;
    }
}
