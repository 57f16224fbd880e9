/* SPDX-License-Identifier: MIT */
/*
 * Policy: where does a new item go, what is remembered of those that went, and how large is probation?
 *
 * Policies `clock`, `lfu`, `ttl` and `none` have one region, main, and differ in what the hand evicts (hand.c). Policy
 * `s3` has two:
 *
 *            new                        R6     read often enough
 *     put ---------> [ probation 10..30 % ] ------------------> [ main ]
 *      |                    | else                                 | no count left
 *      |                    v                                      v
 *      |                 ghost P                                ghost M
 *      |                    |                                      |
 *      +-- R2 came back, R3 small, R5 room to spare ---------------+------> main
 *
 * A put of a new key, rules in this order; z is its block's size, mean that of the stripe's items:
 *  R1 its ghost says P: probation's share grows by three items; a young ghost of M: it shrinks by one.
 *  R2 any ghost, z <= 2 mean: main, with count 1 if main let it go, for it was let go too soon.
 *  R3 z <= mean / 2: main, with count 1. Small ones cost little, and waiting for a second read costs their hits.
 *  R4 z > 8 mean, or more than all of probation: it is large, and on the list of those. Main, if it is no more than a
 * 256th of the arena, or R5 says so, or main is silent (T2) for four times as long; else probation, which grows for
 * it, to 30 % if need be: what it pushes out there is worth less than what it would in main, and when it goes the next
 * new keys fill its place. What it pushes out of probation leaves a ghost M: that does not say that probation is small.
 *  R5 probation is full and main has more than 5 % of the arena free: main. Nothing goes while there is room.
 *  R6 else probation.
 * A put that replaces stays in the region of what it replaces, but for R5 and what is more than half of probation, and
 * keeps its count.
 *
 * These rules judge a size by what is there. When sizes shift, what is there is what nobody wants any more: a stripe of
 * small items would keep out the large ones that took their place. So, of items larger than two means:
 *
 * Q1 If enough of them come back, and next to nothing smaller comes back that main let go, they are wanted: all are
 * judged as if of the mean size until that ends. `wanted` rises by 3 for each that comes back, falls by 64 for each
 * smaller one from main and by 1 for each other new key; 512 are enough, 1024 the most.
 *
 * Q2 If half of the stripe's bytes were evicted and nothing came back, nobody is known to want anything, and bytes
 * decide: where more than a 16th of them is no payload (headers, index, holes), large ones go to main and to probation
 * by turns. What comes back takes a quarter of the stripe off `quiet`.
 *
 * These rules let in what is read twice. When new keys take the place of all others that costs each of them a second
 * miss, in a full main that nobody reads any more. So main turns over, under two conditions:
 *
 * T1 New keys deserve it: of what left probation nearly all had been read. `trust` rises by 1 for each that had been
 * read twice and falls by 7 for each that had not been read; a twentieth of the items is enough, three times that the
 * most. A scan has none.
 *
 * T2 Main is silent: none of SM_WATCHED items there was seen to be read while new keys of 3/4 of probation's bytes came
 * (`silence`); then none of the new ones is lost yet. Gets leave no trace but the count, so each 512th of a stripe one
 * of the watched is looked at: has its count risen? It stays if so, so that they are hot ones soon; else another takes
 * its place. While main turns over half of them stay, and the others are what has just come. A count that a
 * read would not raise falls by one when its item begins to be watched.
 *
 * Then new keys go to main, large ones too, and main's hand takes what it meets, whatever its count, until one of the
 * watched is read. (T3) When it has gone round it meets what came in that way: 4 off `trust` for each that was not
 * read, 1 more for each that was. So what does not fit in either does not chase itself round for long.
 *
 * Once main has no such room, large items may have LARGE_SHARE of the arena together; the oldest goes first, whatever
 * its count, and each goes two laps of probation's hand after it came unless it was read at least three times
 * meanwhile.
 *
 * All this as long as it misses less than a choice by age would. Else the segment chooses by age (shadow.c), and these
 * rules only keep their hints.
 *
 * The ideas: probation and ghosts as in 2Q (T. Johnson and D. Shasha, 1994) and S3-FIFO (J. Yang et al., 2023), a share
 * that follows ghosts as in ARC (N. Megiddo and D. Modha, 2003). Ghosts, share, list, watched items, `wanted`, `quiet`,
 * `trust` and `silence` are hints: whatever they say, nothing is wrong but the hit ratio. Repair keeps or clears them.
 */
#include "bucket.h"
#include "stripe.h"

#define THRESHOLD_MOST 3u
#define COME_BACK_MEANS 2u /* R2 */
#define LARGE_MEANS 8u     /* R4 */
#define LARGE_SHARE 3u     /* per cent */
#define LARGE_LAPS 2u
#define GIANT_SHARE 256u /* R4: parts of the arena */
#define GIANT_SILENCE 4u /* R4: times of T2's */
#define GROW_ITEMS 3u    /* R1 */
#define MEAN_OF_NONE 300u
#define WANTED_COME_BACK 3 /* Q1 */
#define WANTED_REGRET 64
#define WANTED_ENOUGH 512u
#define WANTED_MOST 1024
#define QUIET_SHARE 2  /* Q2: half of the stripe's bytes */
#define QUIET_LIFE 4   /* ... and what comes back takes a quarter off */
#define WASTE_SHARE 16 /* ... of the stripe's bytes */

#define TRUST_SHARE 20   /* T1: of the items */
#define TRUST_LEAST 48   /* ... at least */
#define TRUST_MOST 3     /* ... and so many times that at most */
#define TRUST_UNREAD 7   /* ... for each that leaves probation unread */
#define TURNED_UNREAD 4  /* T3 */
#define SILENCE_MOST 8   /* T2: stripes */
#define WATCH_STEPS 512u /* T2: in each of so many parts of a stripe one watched item is looked at */
#define WATCH_TRIES 16u  /* buckets where another is looked for */
#define WATCHED_PLACE_SHIFT 8u
#define WATCHED_TAG_SHIFT 3u
#define WATCHED_TAG 0xf8u
#define WATCHED_COUNT 7u
static_assert(SM_MAX_STRIPE / 5 * 2 / SM_BUCKET_BYTES * SM_BUCKET_SLOTS <= 1u << 24, "place of a watched item");

#define LISTED_LAP_SHIFT 32
#define LISTED_LAP_MASK UINT64_C(0x7ffff)

uint64_t lr_policy_mean(const struct lr_view *view) {
    const uint64_t items = lr_load(&view->stripe->items), mean = items ? lr_load(&view->stripe->item_bytes) / items : 0;
    return mean != 0 && mean <= view->cache->geometry.stripe_bytes ? mean : MEAN_OF_NONE;
}

/* Never less than half a stripe, whatever the word says: to divide by it. */
static uint64_t probation_bytes(const struct lr_view *view) {
    const struct lr_span span = lr_region_of(view, LR_PROBATION);
    return span.end - span.start;
}

static uint32_t hint(sm_u32 *at) {
    return atomic_load_explicit(at, memory_order_relaxed);
}

static void set_hint(sm_u32 *at, int64_t value, int64_t most) {
    value = value < 0 ? 0 : value > most ? most : value;
    atomic_store_explicit(at, (uint32_t)value, memory_order_relaxed);
}

static bool are_large_wanted(const struct lr_view *view) {
    return hint(&view->stripe->wanted) >= WANTED_ENOUGH;
}

bool lr_policy_ignores_sizes(const struct lr_view *view) {
    return view->cache->geometry.favor == LR_FAVOR_bytes || are_large_wanted(view);
}

unsigned lr_policy_threshold(const struct lr_view *view, uint64_t size, uint64_t mean) {
    if (lr_policy_ignores_sizes(view))
        return 1;
    if (size <= mean / 2)
        return 0;
    const uint64_t means = (size + mean / 2) / mean;
    return means > THRESHOLD_MOST ? THRESHOLD_MOST : means < 1 ? 1 : (unsigned)means;
}

/* ---- ghosts ------------------------------------------------------------------------------------------------- */

static sm_u64 *ghosts_of(const struct lr_view *view, uint64_t place) {
    return lr_ghosts_at(view, lr_bucket_of(lr_placing(place), lr_buckets(view)));
}

/* Bits of the place that the bucket does not imply; never 0. */
static uint64_t ghost_tag(uint64_t place) {
    const uint64_t tag = (place >> 32) & SM_GHOST_TAG;
    return tag != 0 ? tag : 1;
}

void lr_policy_remember(struct lr_view *view, uint64_t place, enum lr_region region) {
    if (!lr_has_probation(view->cache))
        return;
    sm_u64 *word = ghosts_of(view, place);
    const uint64_t ghost = ghost_tag(place) | (region == LR_PROBATION ? SM_GHOST_PROBATION : 0);
    lr_store(word, lr_load(word) << SM_GHOST_BITS | ghost);
}

/* Whether the key has a ghost, of which region, and how many of the same region are newer in its bucket. It is used up.
 */
static bool take_ghost(struct lr_view *view, uint64_t place, enum lr_region *region, unsigned *newer) {
    sm_u64 *at = ghosts_of(view, place);
    const uint64_t word = lr_load(at), tag = ghost_tag(place);
    unsigned of[SM_REGIONS] = {0, 0};
    for (unsigned i = 0; i < SM_GHOSTS; i++) {
        const unsigned shift = i * SM_GHOST_BITS;
        const uint64_t ghost = word >> shift;
        *region = ghost & SM_GHOST_PROBATION ? LR_PROBATION : LR_MAIN;
        if ((ghost & SM_GHOST_TAG) == tag) {
            const uint64_t below = word & ((UINT64_C(1) << shift) - 1);
            lr_store(at, i + 1 < SM_GHOSTS ? below | (word >> (shift + SM_GHOST_BITS)) << shift : below);
            *newer = of[*region];
            return true;
        }
        of[*region]++;
    }
    return false;
}

void lr_policy_split(struct lr_view *view, uint32_t partner, uint32_t fresh) {
    if (lr_has_probation(view->cache))
        lr_store(lr_ghosts_at(view, fresh), lr_load(lr_ghosts_at(view, partner)));
}

/* The two newest of either. */
void lr_policy_merge(struct lr_view *view, uint32_t partner, uint32_t last) {
    if (!lr_has_probation(view->cache))
        return;
    const uint64_t two = (UINT64_C(1) << 2 * SM_GHOST_BITS) - 1;
    sm_u64 *into = lr_ghosts_at(view, partner);
    lr_store(into, (lr_load(into) & two) | (lr_load(lr_ghosts_at(view, last)) & two) << 2 * SM_GHOST_BITS);
}

/* ---- the list of large items -------------------------------------------------------------------------------- */

static uint64_t listed(uint64_t place, uint64_t lap) {
    return lr_place_tag(place) | (lap & LISTED_LAP_MASK) << LISTED_LAP_SHIFT | lr_placing(place);
}

static bool find_listed(struct lr_view *view, uint64_t entry, struct lr_found *found) {
    *found = lr_index_named(view, (uint32_t)entry, entry & SM_SLOT_TAG_MASK);
    return found->slot != NULL && !found->head.tombstone;
}

static void evict_listed(struct lr_view *view, const struct lr_found *found) {
    view->hand_moved = true;
    lr_entry_forget(view, found->slot, found->word, &found->head, LR_FORGET_LARGE, true);
}

/* Evicts those that are old, and the oldest while all of them and `need` more bytes are too many. `need` 0: only the
 * old. Not the block at `keep_off`, which is being replaced. */
static void judge_listed(struct lr_view *view, uint64_t need, uint64_t keep_off) {
    const uint64_t lap = lr_load(&view->stripe->probation_laps);
    const uint64_t arena = lr_arena_bytes(view);
    uint64_t sum = need, kept = 0;
    struct lr_found found;
    for (unsigned i = 0; need != 0 && i < SM_LARGE && lr_load(&view->stripe->large[i]) != 0; i++)
        if (find_listed(view, lr_load(&view->stripe->large[i]), &found))
            sum += found.head.size;
    const bool full = need != 0 && lr_load(&view->stripe->large[SM_LARGE - 1]) != 0;
    for (unsigned i = 0; i < SM_LARGE; i++) {
        uint64_t entry = lr_load(&view->stripe->large[i]);
        if (entry == 0)
            break;
        lr_store(&view->stripe->large[i], 0);
        if (!find_listed(view, entry, &found))
            continue;
        const bool many = need != 0 && (sum > arena / 100 * LARGE_SHARE || (full && i == 0));
        const bool old = ((lap - (entry >> LISTED_LAP_SHIFT)) & LISTED_LAP_MASK) >= LARGE_LAPS;
        const bool cold = old && lr_slot_count(view->cache, found.word) < THRESHOLD_MOST;
        if ((many || cold) && found.head.off != keep_off) {
            sum -= found.head.size;
            evict_listed(view, &found);
            continue;
        }
        if (old) { /* read often: its count is spent for two laps more */
            atomic_compare_exchange_strong_explicit(found.slot, &found.word, found.word & ~SM_SLOT_RECENCY_MASK,
                                                    memory_order_relaxed, memory_order_relaxed);
            entry = (entry & ~(LISTED_LAP_MASK << LISTED_LAP_SHIFT)) | (lap & LISTED_LAP_MASK) << LISTED_LAP_SHIFT;
        }
        lr_store(&view->stripe->large[kept++], entry);
    }
}

static void list_large(struct lr_view *view, uint64_t place) {
    for (unsigned i = 0; i < SM_LARGE; i++) {
        if (lr_load(&view->stripe->large[i]) != 0)
            continue;
        lr_store(&view->stripe->large[i], listed(place, lr_load(&view->stripe->probation_laps)));
        return;
    }
}

void lr_policy_lapped(struct lr_view *view, uint64_t keep_off) {
    lr_add(&view->stripe->probation_laps, 1);
    judge_listed(view, 0, keep_off);
}

/* ---- the life of a put -------------------------------------------------------------------------------------- */

/* R1. */
static void adapt_share(struct lr_view *view, enum lr_region region, unsigned newer, uint64_t mean) {
    const uint64_t arena = lr_arena_bytes(view);
    const uint64_t share = lr_share(view), item = (mean << 32) / arena;
    if (region == LR_PROBATION)
        lr_store(&view->stripe->share,
                 share + GROW_ITEMS * item < LR_SHARE_MOST ? share + GROW_ITEMS * item : LR_SHARE_MOST);
    else if ((uint64_t)newer * lr_buckets(view) * 10 < 3 * lr_load(&view->stripe->items))
        lr_store(&view->stripe->share, share > LR_SHARE_LEAST + item ? share - item : LR_SHARE_LEAST);
}

/* Q1, of a new key. */
static void weigh_large(struct lr_view *view, bool came_back, enum lr_region region, bool large) {
    int64_t wanted = hint(&view->stripe->wanted);
    if (came_back && large)
        wanted += WANTED_COME_BACK;
    else
        wanted -= came_back && region == LR_MAIN ? WANTED_REGRET : 1;
    set_hint(&view->stripe->wanted, wanted, WANTED_MOST);
}

/* Q2. */
static void count_quiet(struct lr_view *view, int64_t granules) {
    const int64_t stripe = (int64_t)(view->cache->geometry.stripe_bytes / SM_GRANULE);
    set_hint(&view->stripe->quiet, hint(&view->stripe->quiet) + granules, stripe / QUIET_SHARE + stripe / QUIET_LIFE);
}

void lr_policy_evicted(struct lr_view *view, uint64_t size) {
    if (lr_has_probation(view->cache))
        count_quiet(view, (int64_t)(size / SM_GRANULE));
}

static bool is_quiet_waste(const struct lr_view *view) {
    const uint64_t stripe = view->cache->geometry.stripe_bytes;
    return hint(&view->stripe->quiet) >= stripe / SM_GRANULE / QUIET_SHARE &&
           lr_load(&view->stripe->payload_bytes) < stripe - stripe / WASTE_SHARE;
}

static bool main_has_room(struct lr_view *view, uint64_t size) {
    struct lr_room room;
    const struct lr_span gap = lr_gap_of(view, LR_MAIN);
    return gap.end - gap.start + lr_load(&view->stripe->hole_bytes) > lr_arena_bytes(view) / 100 * LR_SPARE_SHARE &&
           lr_arena_find(view, LR_MAIN, size, 0, &room);
}

/* R5. */
static bool only_main_has_room(struct lr_view *view, uint64_t size) {
    struct lr_room room;
    return main_has_room(view, size) && !lr_arena_find(view, LR_PROBATION, size, 0, &room);
}

/* ---- silence ------------------------------------------------------------------------------------------------ */

/* T1. */
static int64_t trust_enough(const struct lr_view *view) {
    const uint64_t share = lr_load(&view->stripe->items) / TRUST_SHARE;
    return share > TRUST_LEAST ? share < UINT32_MAX ? (int64_t)share : UINT32_MAX : TRUST_LEAST;
}

static void add_trust(struct lr_view *view, int64_t n) {
    set_hint(&view->stripe->trust, hint(&view->stripe->trust) + n, TRUST_MOST * trust_enough(view));
}

void lr_policy_left(struct lr_view *view, unsigned count) {
    if (count != 1) /* which small ones have from the beginning, wherever they are later */
        add_trust(view, count > 1 ? 1 : -TRUST_UNREAD);
}

static uint64_t granules_of(const struct lr_view *view, enum lr_region region) {
    const struct lr_span span = lr_region_of(view, region);
    return (span.end - span.start) / SM_GRANULE;
}

static uint64_t silence_enough(const struct lr_view *view) {
    return granules_of(view, LR_PROBATION) / 4 * 3 + 1;
}

/* T3. Before it has gone round, what it meets says nothing of the new keys. */
void lr_policy_turned_over(struct lr_view *view, bool was_read) {
    if (hint(&view->stripe->silence) >= silence_enough(view) + granules_of(view, LR_MAIN))
        add_trust(view, was_read ? 1 : -TURNED_UNREAD);
}

static bool main_must_turn(const struct lr_view *view) {
    return hint(&view->stripe->silence) >= silence_enough(view) && hint(&view->stripe->trust) >= trust_enough(view);
}

static bool is_in_main(const struct lr_view *view, uint64_t word) {
    return !lr_slot_is_empty(word) && (word & (SM_SLOT_DEAD | SM_SLOT_MOVED)) == 0 &&
           lr_region_at(view, lr_slot_off(word)) == LR_MAIN;
}

unsigned lr_policy_watch(struct lr_view *view, sm_u64 *slot, uint64_t word) {
    const unsigned count = lr_slot_count(view->cache, word), used = lr_recency_used(view, word) & SM_RECENCY_COUNT;
    if (used > count)
        return count;
    /* If that fails it was used just now. */
    atomic_compare_exchange_strong_explicit(slot, &word, word - (count - used + 1) * SM_SLOT_RECENCY_ONE,
                                            memory_order_relaxed, memory_order_relaxed);
    return used - 1;
}

/* What is to be seen again: where, some of the tag, and the count. */
static uint32_t watch(struct lr_view *view, sm_u64 *slot, uint32_t place) {
    const uint64_t word = lr_load(slot);
    const unsigned count = lr_policy_watch(view, slot, word);
    return place << WATCHED_PLACE_SHIFT | ((uint32_t)(word >> SM_SLOT_TAG_SHIFT) << WATCHED_TAG_SHIFT & WATCHED_TAG) |
           (count + 1);
}

/* Of the first bucket from a random one on that has entries of main: the one with the highest count. */
static uint32_t watch_any(struct lr_view *view, bool coldest) {
    const uint64_t random = lr_mix(lr_load(&view->stripe->incarnation)) >> 32;
    uint32_t bucket = (uint32_t)(random * lr_buckets(view) >> 32);
    for (unsigned tries = 0; tries < WATCH_TRIES; tries++) {
        sm_u64 *slots = lr_bucket_at(view, bucket);
        unsigned best = 0, at = 0;
        for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
            const uint64_t word = lr_load(&slots[i]);
            const unsigned count = lr_slot_count(view->cache, word);
            const unsigned rank = coldest ? SM_RECENCY_COUNT + 1 - count : count + 1;
            if (is_in_main(view, word) && rank > best) {
                best = rank;
                at = i;
            }
        }
        if (best != 0)
            return watch(view, &slots[at], bucket * SM_BUCKET_SLOTS + at);
        bucket = bucket + 1 < lr_buckets(view) ? bucket + 1 : 0;
    }
    return 0;
}

/* Looks at one of those that are watched. It stays if it was read, as half of them do while main turns over; else
 * another takes its place. */
static void look_at_watched(struct lr_view *view, unsigned which) {
    sm_u32 *watched = &view->stripe->watched[which];
    const uint32_t seen = hint(watched), place = seen >> WATCHED_PLACE_SHIFT;
    const bool turns = main_must_turn(view);
    if (seen != 0 && place / SM_BUCKET_SLOTS < lr_buckets(view)) {
        sm_u64 *slot = lr_bucket_at(view, place / SM_BUCKET_SLOTS) + place % SM_BUCKET_SLOTS;
        const uint64_t word = lr_load(slot);
        const uint32_t tag = (uint32_t)(word >> SM_SLOT_TAG_SHIFT) << WATCHED_TAG_SHIFT & WATCHED_TAG;
        const bool same = is_in_main(view, word) && tag == (seen & WATCHED_TAG);
        if (same && lr_slot_count(view->cache, word) + 1 > (seen & WATCHED_COUNT)) {
            set_hint(&view->stripe->silence, 0, 0);
            set_hint(watched, watch(view, slot, place), UINT32_MAX);
            return;
        }
        if (same && turns && which % 2 == 0)
            return;
    }
    set_hint(watched, watch_any(view, turns), UINT32_MAX);
}

/* T2, of a new key. */
static void listen(struct lr_view *view, uint64_t size) {
    const uint64_t stripe = view->cache->geometry.stripe_bytes / SM_GRANULE, step = stripe / WATCH_STEPS;
    const uint64_t before = hint(&view->stripe->silence), after = before + size / SM_GRANULE;
    set_hint(&view->stripe->silence, (int64_t)after, (int64_t)stripe * SILENCE_MOST);
    if (after / step != before / step)
        look_at_watched(view, (unsigned)(after / step % SM_WATCHED));
}

/* ---- new keys ----------------------------------------------------------------------------------------------- */

/* By age (shadow.c): all for the same time, wherever. */
static struct lr_plan plan_by_age(struct lr_view *view, uint64_t size, bool fits, bool access) {
    const uint64_t random = lr_mix(lr_load(&view->stripe->incarnation)) >> 32;
    const uint64_t part = (probation_bytes(view) << 32) / lr_arena_bytes(view);
    const bool first = fits && random < part && !only_main_has_room(view, size);
    return (struct lr_plan){
        .region = first ? LR_PROBATION : LR_MAIN, .fresh = true, .recency = access ? LR_COUNT_AGE : 0};
}

/* R4: where a large one goes. Probation grows with the next laps of its hand, which the put itself may need. */
static enum lr_region region_of_large(struct lr_view *view, uint64_t size) {
    const uint64_t arena = lr_arena_bytes(view), need = ((size + size / 16) << 32) / arena;
    if (size <= arena / GIANT_SHARE || need > LR_SHARE_MOST || only_main_has_room(view, size) ||
        hint(&view->stripe->silence) >= GIANT_SILENCE * silence_enough(view))
        return LR_MAIN;
    if (need > lr_share(view))
        lr_store(&view->stripe->share, need);
    return LR_PROBATION;
}

static struct lr_plan plan_new(struct lr_view *view, uint64_t place, uint64_t size, bool access) {
    const uint64_t mean = lr_policy_mean(view);
    struct lr_plan plan = {.region = LR_MAIN, .fresh = true};
    const bool large = size > COME_BACK_MEANS * mean, fits = size <= probation_bytes(view);
    enum lr_region region = LR_MAIN;
    unsigned newer = 0;
    const bool came_back = take_ghost(view, place, &region, &newer);
    weigh_large(view, came_back, region, large);
    listen(view, size);
    plan.turns_over = main_must_turn(view);
    if (came_back) {
        lr_tally(view, LR_S_ghost_hits, 1);
        count_quiet(view, -(int64_t)(view->cache->geometry.stripe_bytes / SM_GRANULE / QUIET_LIFE));
        adapt_share(view, region, newer, mean);
    }
    if (lr_shadow_by_age(view))
        return plan_by_age(view, size, fits, access);
    if (came_back && (!large || are_large_wanted(view))) {
        plan.recency = access && region == LR_MAIN ? 1 : 0;
        return plan;
    }
    if (large && is_quiet_waste(view)) /* by turns, so that what is old goes from both */
        plan.region = fits && lr_load(&view->stripe->incarnation) % 2 == 0 ? LR_PROBATION : LR_MAIN;
    else if (lr_policy_threshold(view, size, mean) == 0)
        plan.recency = access ? 1 : 0;
    else if (plan.turns_over)
        return plan;
    else if (!fits || (size > LARGE_MEANS * mean && !lr_policy_ignores_sizes(view))) {
        plan.large = true;
        plan.region = region_of_large(view, size);
    } else if (!only_main_has_room(view, size))
        plan.region = LR_PROBATION;
    return plan;
}

struct lr_plan lr_policy_plan(struct lr_view *view, const struct lr_found *old, const struct lr_making *making,
                              uint64_t size) {
    const struct lr_plan main = {.region = LR_MAIN, .recency = making->recency};
    if (!lr_has_probation(view->cache) || making->tombstone)
        return main;
    if (old->slot == NULL || old->head.tombstone || lr_head_gone(view->cache, view->data, &old->head)) {
        const struct lr_plan plan = plan_new(view, making->key->place, size, making->access);
        lr_shadow_put(view, making->key->place, size, plan.recency, old->slot == NULL);
        return plan;
    }
    /* More than half of probation: there is no room beside what it replaces, which would have to go first. */
    if (lr_region_at(view, old->head.off) == LR_MAIN || size > probation_bytes(view) / 2 ||
        only_main_has_room(view, size))
        return main;
    return (struct lr_plan){.region = LR_PROBATION};
}

int lr_policy_room(struct lr_view *view, const struct lr_plan *plan, uint64_t size, uint64_t keep_off,
                   enum lr_room_how how, struct lr_room *room) {
    view->promoted = 0;
    view->promoted_bytes = 0;
    view->forced = 0;
    view->turns_over = plan->turns_over;
    view->makes_way = plan->large && plan->region == LR_PROBATION;
    view->by_age = lr_shadow_by_age(view);
    if (plan->large && how == LR_ROOM_EVICT && !main_has_room(view, size))
        judge_listed(view, size, keep_off);
    int error = lr_hand_room(view, plan->region, size, keep_off, how, room);
    if (error == 0 || error == LARDER_ECORRUPT || !lr_has_probation(view->cache))
        return error;
    if (how == LR_ROOM_FREE || plan->region == LR_PROBATION)
        error = lr_hand_room(view, plan->region == LR_MAIN ? LR_PROBATION : LR_MAIN, size, keep_off, how, room);
    if (error != LARDER_EPINNED)
        return error;
    /* Pins leave no run in either region; perhaps there is one across the divide. */
    lr_divide_dissolve(view);
    return lr_hand_room(view, LR_MAIN, size, 0, how, room);
}

void lr_policy_stored(struct lr_view *view, const struct lr_plan *plan, uint64_t place, uint64_t off) {
    if (!lr_has_probation(view->cache))
        return;
    if (plan->large)
        list_large(view, place);
    lr_divide_settle(view, off);
}
