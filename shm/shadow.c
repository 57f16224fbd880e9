/* SPDX-License-Identifier: MIT */
/*
 * Shadow: would the stripes miss less if they chose by age?
 *
 * Policy s3 has two ways to choose what goes. By its rules (policy.c), which bet that what was read in main will be
 * read again, however late, and that most new keys will not. Or by age, which is LRU as far as a CLOCK can be. Where
 * new keys take the place of all others and just fit, or what comes again comes late, but not too late for LRU, the bet
 * is lost, and s3 misses up to a quarter more than LRU. That cannot be told from what is there; it shows in what the
 * other way would have had. So each stripe keeps the books of the way that is not in use, for a sample of its keys
 * (miniature simulation: C. Waldspurger et al., USENIX ATC 2017), and all stripes add up one score.
 *
 *          a sampled key, one of SM_SHADOWS
 *   | key 45 | seen 3 | count 2 | here | by age | by rules | main | ghost |   here: it is in the cache
 *   | order by age 20 | order by rules 20 | granules 24 |                   by age, by rules: it would be, that way
 *
 *                        here                   not here: it is put anew
 *   other has it                                the other would have hit: score + 1
 *   other has it not     was read: score - 1
 *
 * S1 Keys are sampled by their hash. Of the items of a stripe so many are sampled that they take a sixth to two fifths
 * of the table. The rest of it are keys that only the other way would have, and such as were there.
 *
 * S2 The other way gets as many bytes of sampled items as there are: both have the same memory, whatever it holds.
 *
 * S3 Puts of new keys are seen as they happen. Gets leave no trace but the count in the slot, so each entry is looked
 * at LOOKS times while the stripe takes as many bytes as it has: has the count risen? One that a read would not raise
 * falls so far that it does. Reads are seen late, then, and several as one.
 *
 * S4 The other way, if it is by age: what was asked for last stays. If by rules: a queue for what is new, main with
 * counts, and ghosts, without the refinements of policy.c.
 *
 * S5 CHANGE_ENOUGH of score for each stripe, and the segment changes its way: the number of changes in the header
 * rises, and each stripe follows when its next new key comes. The other way begins with what is there. The score does
 * not fall below SCORE_LEAST for each stripe; where these are few, and one's luck is not made up for by others', by as
 * much as would change the way of one.
 *
 * S6 Requests that suit either way by turns, each for as long as it takes to change, would make it change for ever and
 * always be late. So the rules are trusted less each time that they lost: half of CHANGE_ENOUGH brings them back at
 * first, and each time twice as much as the time before, up to eight times CHANGE_ENOUGH. They come back with that half
 * as credit, or with as much as the score may hold. What age needs stays as it is.
 *
 * S7 While a stripe fills nothing is lost by either way, and when it is full the rules may have lost a round of a loop
 * before that is seen. So until the first item goes for want of room both ways are kept for the sample, each in two
 * thirds of the bytes that are there, with more keys sampled, and looked at as often in proportion to what is there.
 * Items of more than FILL_MEANS means are left out, for one of them would be most of the sample. A read of what only
 * age would have counts one for it, of what only the rules would have one against; both are halved with the sample, as
 * they are of a smaller cache. When it is full, a stripe that saw no difference gives the score as much as changes its
 * way: by age is seldom far above LRU, so the rules have to earn it. What spoke for age counts FILL_FOR_AGE
 * times on top, up to as much again. What spoke for the rules counts FILL_FOR_RULES times, and more by the root of the
 * number of stripes, as what is luck in one is none in the sum of many; it is taken off, down to a score of 0. Most
 * caches fill with requests that show the rules ahead by then. If the others turn out to be such later, half of
 * CHANGE_ENOUGH brings them back.
 *
 * By age means: new keys go to probation and main in proportion to their sizes, so that all stay as long, and stay
 * there. What is new or read has a count of LR_COUNT_AGE, seven; all counts fall by one seven times while nearly as
 * many bytes go as the arena has, by a hand of their own that goes over the index; who is met without a count goes. So
 * a new key that nobody reads goes when the hand is back, by when its count is 0, and one that was read goes up to two
 * rounds later: in the mean little later. Counts that end only where a hand comes by (CLOCK) end one and a half rounds
 * later and outlast new keys. Where much is read and stays they would fall too seldom: so what the hands pass and leave
 * counts too while fewer than one entry in FEW_SHARE has no count left, and in a long stretch of such.
 *
 * S8 What the rules put while a stripe filled has counts that do not say how old it is: what came last and was not read
 * yet has none. It lies in the order in which it came, though. So where age takes over soon after that, the hands begin
 * at the start, and who was read less than LR_COUNT_PLAIN times goes, unless it is put or used after that. The limit
 * falls with the counts, to 0.
 *
 * All of it is hints: whatever they say, nothing is wrong but the hit ratio. So is an order that wraps: what has waited
 * for a million others looks young.
 */
#include "bucket.h"
#include "stripe.h"

#define CHANGE_ENOUGH 20                    /* S5: for each stripe */
#define SCORE_LEAST 6                       /* below 0: for each stripe */
#define LOST_MOST 4u                        /* S6 */
#define SAMPLED_MOST (SM_SHADOWS * 2u / 5u) /* S1 */
#define SAMPLED_LEAST (SAMPLED_MOST * 2u / 5u)
#define LOOKS 8u       /* S3 */
#define LOOKS_MOST 16u /* by one put */
#define COUNT_MOST 3u
#define SEEN_MOST 7u
#define SET 32u           /* entries among which a key has its one */
#define NEW_SHARE 15u     /* S4: of the bytes, per cent */
#define TRIMS_MOST 6u     /* of what the other lets go, by one put: the rest goes with the next */
#define FILL_SAMPLED 400u /* S7 */
#define FILL_MEANS 8u
#define FILL_FOR_AGE 4
#define FILL_FOR_RULES 3
#define FILL_MOST (2 * CHANGE_ENOUGH)
#define FRESH_SHARE 4u   /* S8: of the items, as many may have gone */
#define AGED_BY 90u      /* per cent of a round of the hands: by then no count is left */
#define FEW_SHARE 16u    /* of the entries */
#define STAYED_SHARE 64u /* of the arena */
#define AGES_MOST 64u    /* buckets, by one step of a hand, and as many more as fill what it passes */

static_assert(SM_SHADOWS % SET == 0, "whole sets");

#define KEY_MASK ((UINT64_C(1) << 45) - 1) /* of a place: tag and placing hash */
#define SEEN_SHIFT 45
#define SEEN_MASK ((uint64_t)SEEN_MOST << SEEN_SHIFT)
#define COUNT_SHIFT 48
#define COUNT_MASK (UINT64_C(3) << COUNT_SHIFT)
#define HERE (UINT64_C(1) << 50)
#define AGE (UINT64_C(1) << 51)
#define RULES (UINT64_C(1) << 52)
#define MAIN (UINT64_C(1) << 53)  /* by rules: in main, */
#define GHOST (UINT64_C(1) << 54) /* or it was there */
#define ORDER_MASK ((UINT64_C(1) << 20) - 1)
#define GRANULES_MASK ((UINT64_C(1) << 24) - 1)

static_assert(SM_MAX_STRIPE / SM_GRANULE / 8 * 3 <= GRANULES_MASK, "granules of the largest block");

/* One of the two ways: the flag of what it has, and where its order is. */
struct way {
    uint64_t has;
    unsigned order_shift;
};
static const struct way by_age = {AGE, 44}, by_rules = {RULES, 24};

static uint32_t hint(sm_u32 *at) {
    return atomic_load_explicit(at, memory_order_relaxed);
}

static void set_hint(sm_u32 *at, uint32_t value) {
    atomic_store_explicit(at, value, memory_order_relaxed);
}

/* ---- entries ------------------------------------------------------------------------------------------------ */

static uint32_t shift_of(const struct lr_view *view) {
    return hint(&view->stripe->shadow_shift) & 31u;
}

/* S1. */
static bool is_sampled(const struct lr_view *view, uint64_t place) {
    const uint32_t shift = shift_of(view);
    return shift == 0 || ((place & KEY_MASK) * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - shift) == 0;
}

static uint64_t granules_of(uint64_t when) {
    return when & GRANULES_MASK;
}

/* The way that is not in use. */
static const struct way *other_of(const struct lr_view *view) {
    return lr_shadow_by_age(view) ? &by_rules : &by_age;
}

static uint64_t age_of(const struct lr_view *view, const struct way *way, uint64_t when) {
    return (hint(&view->stripe->shadow_clock) - (when >> way->order_shift)) & ORDER_MASK;
}

static void set_granules(struct sm_shadow *entry, uint64_t granules) {
    lr_store(&entry->when, (lr_load(&entry->when) & ~GRANULES_MASK) | (granules & GRANULES_MASK));
}

/* It is that way's youngest. */
static void touch(struct lr_view *view, const struct way *way, struct sm_shadow *entry, uint64_t granules) {
    const uint32_t now = hint(&view->stripe->shadow_clock) + 1;
    const uint64_t rest = lr_load(&entry->when) & ~(ORDER_MASK << way->order_shift);
    set_hint(&view->stripe->shadow_clock, now);
    lr_store(&entry->when, rest | (now & ORDER_MASK) << way->order_shift);
    set_granules(entry, granules);
}

/* The key's entry. NULL: none; then *spare is one of its SET to use: an empty one, else the oldest, those that neither
 * way has first. */
static struct sm_shadow *find(struct lr_view *view, uint64_t place, struct sm_shadow **spare) {
    struct sm_shadow *set = &view->stripe->shadows[lr_second((uint32_t)place) % (SM_SHADOWS / SET) * SET];
    const struct way *other = other_of(view);
    uint64_t oldest = 0;
    *spare = set;
    for (struct sm_shadow *entry = set; entry < set + SET; entry++) {
        const uint64_t key = lr_load(&entry->key), age = age_of(view, other, lr_load(&entry->when));
        if (key != 0 && (key & KEY_MASK) == (place & KEY_MASK))
            return entry;
        const uint64_t rank = key == 0 ? UINT64_MAX : key & (HERE | other->has) ? age : age << 32;
        if (rank > oldest) {
            oldest = rank;
            *spare = entry;
        }
    }
    return NULL;
}

/* S1: half as many, when there are too many. S7: and what they said. */
static void sample_less(struct lr_view *view) {
    set_hint(&view->stripe->shadow_shift, shift_of(view) + 1);
    set_hint(&view->stripe->fill_score, (uint32_t)((int32_t)hint(&view->stripe->fill_score) / 2));
    for (unsigned i = 0; i < SM_SHADOWS; i++)
        if (!is_sampled(view, lr_load(&view->stripe->shadows[i].key)))
            lr_store(&view->stripe->shadows[i].key, 0);
}

/* S7. */
static bool is_filling(const struct lr_view *view) {
    return hint(&view->stripe->filled) == 0 && !lr_shadow_by_age(view);
}

static uint64_t granules_most(const struct lr_view *view) {
    return is_filling(view) ? FILL_MEANS * lr_policy_mean(view) / SM_GRANULE : GRANULES_MASK;
}

/* ---- what a way has ----------------------------------------------------------------------------------------- */

static unsigned threshold_of(const struct lr_view *view, uint64_t granules) {
    return lr_policy_threshold(view, granules * SM_GRANULE, lr_policy_mean(view));
}

/* S4: that way lets go of this one, or it stays a while longer. */
static bool pass_oldest(struct lr_view *view, const struct way *way, struct sm_shadow *entry, bool in_main) {
    const uint64_t key = lr_load(&entry->key), granules = granules_of(lr_load(&entry->when));
    const unsigned count = (unsigned)((key & COUNT_MASK) >> COUNT_SHIFT);
    if (way == &by_age) {
        lr_store(&entry->key, key & ~AGE);
        return true;
    }
    if (count == 0 || (!in_main && count < threshold_of(view, granules))) {
        lr_store(&entry->key, (key & ~(RULES | MAIN)) | GHOST);
        return true;
    }
    lr_store(&entry->key, in_main ? key - (UINT64_C(1) << COUNT_SHIFT) : (key & ~COUNT_MASK) | MAIN);
    touch(view, way, entry, granules);
    return false;
}

/* What that way has: 1 in main or all by age, 0 on probation. */
struct holding {
    uint64_t here, granules[2], oldest[2];
    struct sm_shadow *at[2]; /* the oldest */
};

static struct holding sum_up(struct lr_view *view, const struct way *way) {
    const uint64_t main = way == &by_rules ? MAIN : AGE;
    const uint64_t most = granules_most(view);
    struct holding sum = {0};
    for (unsigned i = 0; i < SM_SHADOWS; i++) {
        struct sm_shadow *entry = &view->stripe->shadows[i];
        const uint64_t key = lr_load(&entry->key), when = lr_load(&entry->when);
        if ((key & HERE) && granules_of(when) <= most)
            sum.here += granules_of(when);
        if ((key & way->has) == 0)
            continue;
        const unsigned in_main = (key & main) != 0;
        sum.granules[in_main] += granules_of(when);
        if (sum.at[in_main] == NULL || age_of(view, way, when) > sum.oldest[in_main]) {
            sum.at[in_main] = entry;
            sum.oldest[in_main] = age_of(view, way, when);
        }
    }
    return sum;
}

/* S4: the key was asked for. Whether that way had it; now it has. */
static bool ask(struct lr_view *view, const struct way *way, struct sm_shadow *entry, uint64_t granules) {
    const uint64_t key = lr_load(&entry->key);
    const bool had = (key & way->has) != 0;
    if (way == &by_age) {
        lr_store(&entry->key, key | AGE);
        touch(view, way, entry, granules);
    } else if (had) {
        const bool full = (key & COUNT_MASK) == COUNT_MASK;
        lr_store(&entry->key, full ? key : key + (UINT64_C(1) << COUNT_SHIFT));
        set_granules(entry, granules);
    } else {
        const bool to_main = (key & GHOST) != 0 || threshold_of(view, granules) == 0;
        lr_store(&entry->key, (key & ~(MAIN | COUNT_MASK)) | RULES | (to_main ? MAIN : 0));
        touch(view, way, entry, granules);
    }
    return had;
}

/* ---- which way ---------------------------------------------------------------------------------------------- */

/* The way that is not in use begins with what is there. */
static void begin_other(struct lr_view *view) {
    for (unsigned i = 0; i < SM_SHADOWS; i++) {
        sm_u64 *at = &view->stripe->shadows[i].key;
        const uint64_t key = lr_load(at), seen = (key & SEEN_MASK) >> SEEN_SHIFT;
        const uint64_t count = seen < COUNT_MOST ? seen : COUNT_MOST;
        lr_store(at,
                 key & HERE ? (key & (KEY_MASK | SEEN_MASK)) | HERE | AGE | RULES | MAIN | count << COUNT_SHIFT : 0);
    }
}

/* S8. */
static void age_from_start(struct lr_view *view) {
    lr_hand_jump(view, LR_MAIN, lr_region_of(view, LR_MAIN).start);
    lr_hand_jump(view, LR_PROBATION, lr_region_of(view, LR_PROBATION).start);
    set_hint(&view->stripe->aged_limit, LR_COUNT_PLAIN - 1);
    set_hint(&view->stripe->aged_at, 0);
    set_hint(&view->stripe->aged_due, 0);
    set_hint(&view->stripe->aged_seen, 0);
    set_hint(&view->stripe->aged_worn, 0);
}

/* S5: the stripe does what the segment does. */
static void follow(struct lr_view *view) {
    const uint32_t turn = hint(&view->cache->header->policy_turn);
    if (hint(&view->stripe->policy_turn) == turn)
        return;
    const uint32_t gone = hint(&view->stripe->filled);
    set_hint(&view->stripe->policy_turn, turn);
    set_hint(&view->stripe->filled, gone > 0 ? gone : 1);
    set_hint(&view->stripe->aged_limit, 0);
    if (turn % 2 != 0 && gone <= lr_load(&view->stripe->items) / FRESH_SHARE)
        age_from_start(view);
    begin_other(view);
}

/* S5, S6. */
static int32_t change_enough(int32_t stripes, uint32_t turn) {
    const uint32_t lost = turn / 2 < LOST_MOST ? turn / 2 : LOST_MOST;
    return stripes * (turn % 2 == 0 ? CHANGE_ENOUGH : (CHANGE_ENOUGH / 2) << lost);
}

/* S5. Another stripe's holder may do so at once: then one of them is not counted. */
static void add_score(struct lr_view *view, int32_t n) {
    struct sm_header *header = view->cache->header;
    const uint32_t turn = hint(&header->policy_turn);
    const int32_t stripes = (int32_t)view->cache->geometry.stripe_count, enough = change_enough(stripes, turn);
    if (hint(&view->stripe->policy_turn) != turn)
        return;
    const int32_t least = -(stripes * SCORE_LEAST > CHANGE_ENOUGH ? stripes * SCORE_LEAST : CHANGE_ENOUGH);
    const int32_t seen = (int32_t)hint(&header->policy_score);
    const int32_t before = seen < least || seen >= enough ? 0 : seen; /* damaged, or changed by another just now */
    if (before + n >= enough) {
        const int32_t credit = turn % 2 == 0 ? 0 : -stripes * CHANGE_ENOUGH / 2;
        set_hint(&header->policy_score, (uint32_t)(credit > least ? credit : least));
        set_hint(&header->policy_turn, turn + 1);
    } else {
        set_hint(&header->policy_score, (uint32_t)(before + n < least ? least : before + n));
    }
}

/* S7. */
static void add_fill_score(struct lr_view *view, int32_t n) {
    const int32_t most = SM_SHADOWS, seen = (int32_t)hint(&view->stripe->fill_score);
    const int32_t after = (seen < -most || seen > most ? 0 : seen) + n;
    if (after >= -most && after <= most)
        set_hint(&view->stripe->fill_score, (uint32_t)after);
}

/* S7. What its filling says for a choice by age. */
static int32_t said_while_filling(const struct lr_view *view) {
    const int32_t score = (int32_t)hint(&view->stripe->fill_score), most = SM_SHADOWS;
    const int32_t stripes = (int32_t)view->cache->geometry.stripe_count;
    if (score < -most || score > most) /* damaged */
        return 0;
    int32_t weight = score < 0 ? FILL_FOR_RULES : FILL_FOR_AGE;
    for (int32_t n = 4; score < 0 && n <= stripes; n *= 4)
        weight *= 2;
    const int32_t says = CHANGE_ENOUGH + score * weight;
    return says < FILL_MOST ? says : FILL_MOST;
}

/* S7: it is full. */
static void end_filling(struct lr_view *view) {
    const int32_t says = said_while_filling(view), score = (int32_t)hint(&view->cache->header->policy_score);
    const int32_t least = score > 0 ? -score : 0;
    set_hint(&view->stripe->filled, 1);
    begin_other(view);
    add_score(view, says > least ? says : least);
}

/* S3, S7: it was read. Whether a way took it in that had it not. */
static bool count_read(struct lr_view *view, struct sm_shadow *entry) {
    const uint64_t granules = granules_of(lr_load(&entry->when));
    if (granules > granules_most(view))
        return false;
    if (is_filling(view)) {
        const bool age_had = ask(view, &by_age, entry, granules), rules_had = ask(view, &by_rules, entry, granules);
        add_fill_score(view, (int32_t)age_had - (int32_t)rules_had);
        return !age_had || !rules_had;
    }
    if (ask(view, other_of(view), entry, granules))
        return false;
    add_score(view, -1);
    return true;
}

/* S3. Whether it was read since. */
static bool look_at(struct lr_view *view, struct sm_shadow *entry) {
    const uint64_t key = lr_load(&entry->key);
    if ((key & HERE) == 0)
        return false;
    struct lr_found found = lr_index_named(view, (uint32_t)key, lr_place_tag(key));
    if (found.slot == NULL || found.head.tombstone) {
        lr_store(&entry->key, key & ~HERE);
        return false;
    }
    const bool was_read = lr_slot_count(view->cache, found.word) > (key & SEEN_MASK) >> SEEN_SHIFT;
    const uint64_t count = lr_policy_watch(view, found.slot, found.word);
    lr_store(&entry->key, (key & ~SEEN_MASK) | count << SEEN_SHIFT);
    return was_read;
}

/* S2, S7: that way lets go until it has no more than there is; not of `fresh`, which is just coming. */
static void trim(struct lr_view *view, const struct way *way, const struct sm_shadow *fresh) {
    for (unsigned n = 0; n < TRIMS_MOST; n++) {
        const struct holding sum = sum_up(view, way);
        const uint64_t has = sum.granules[0] + sum.granules[1], most = is_filling(view) ? sum.here * 2 / 3 : sum.here;
        if (has <= most)
            return;
        const bool in_main = sum.at[0] == NULL || (sum.at[1] != NULL && sum.granules[0] * 100 <= most * NEW_SHARE);
        struct sm_shadow *entry = sum.at[in_main];
        if (is_filling(view) && entry != fresh && look_at(view, entry)) {
            count_read(view, entry);
            continue;
        }
        const uint64_t granules = granules_of(lr_load(&entry->when));
        if (pass_oldest(view, way, entry, in_main) && has - granules <= most)
            return;
    }
}

static bool look_around(struct lr_view *view, uint64_t granules) {
    bool took = false;
    const uint64_t bytes = is_filling(view) ? lr_load(&view->stripe->item_bytes) : view->cache->geometry.stripe_bytes;
    const uint64_t step = bytes / SM_GRANULE / (LOOKS * SM_SHADOWS) + 1;
    uint64_t due = hint(&view->stripe->shadow_due) + granules;
    for (unsigned n = 0; due >= step; due -= step, n++) {
        if (n == LOOKS_MOST) {
            due = 0;
            break;
        }
        const uint32_t at = (hint(&view->stripe->shadow_at) + 1) % SM_SHADOWS;
        set_hint(&view->stripe->shadow_at, at);
        if (at == 0 && lr_load(&view->stripe->items) >> shift_of(view) < SAMPLED_LEAST && shift_of(view) > 0)
            set_hint(&view->stripe->shadow_shift, shift_of(view) - 1);
        struct sm_shadow *entry = &view->stripe->shadows[at];
        took |= look_at(view, entry) && count_read(view, entry);
    }
    set_hint(&view->stripe->shadow_due, (uint32_t)due);
    return took;
}

/* ---- by age ------------------------------------------------------------------------------------------------- */

/* How many entries are there, and how many of them have no count left. */
static void age_bucket(struct lr_view *view, uint32_t bucket, uint32_t *seen, uint32_t *worn) {
    sm_u64 *slots = lr_bucket_at(view, bucket);
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
        uint64_t word = lr_load(&slots[i]);
        const unsigned count = lr_slot_count(view->cache, word);
        const unsigned fall = count > LR_COUNT_AGE ? count - LR_COUNT_AGE + 1 : 1; /* more only if damaged */
        if (lr_slot_is_empty(word))
            continue;
        *seen += 1;
        *worn += count <= fall;
        if (count > 0)
            atomic_compare_exchange_strong_explicit(&slots[i], &word, word - fall * SM_SLOT_RECENCY_ONE,
                                                    memory_order_relaxed, memory_order_relaxed);
    }
}

/* All counts have fallen once more. */
static void end_fall(struct lr_view *view, uint32_t seen, uint32_t worn) {
    const uint32_t limit = lr_shadow_age_limit(view);
    set_hint(&view->stripe->aged_few, worn < seen / FEW_SHARE);
    set_hint(&view->stripe->aged_limit, limit > 0 ? limit - 1 : 0);
}

void lr_shadow_passed(struct lr_view *view, uint64_t size, uint64_t stayed) {
    if (stayed > 0 && stayed <= lr_arena_bytes(view) / STAYED_SHARE && hint(&view->stripe->aged_few) == 0)
        return;
    const uint64_t round = lr_arena_bytes(view) / SM_GRANULE, buckets = lr_buckets(view);
    const uint64_t part = round * AGED_BY / (100 * LR_COUNT_AGE * buckets), step = part > 0 ? part : 1;
    uint64_t due = hint(&view->stripe->aged_due) + size / SM_GRANULE;
    uint32_t at = hint(&view->stripe->aged_at);
    uint32_t seen = hint(&view->stripe->aged_seen), worn = hint(&view->stripe->aged_worn);
    for (unsigned n = 0; due >= step && n < AGES_MOST + size / SM_BUCKET_BYTES; due -= step, n++) {
        at = at + 1 < buckets ? at + 1 : 0;
        if (at == 0) {
            end_fall(view, seen, worn);
            seen = worn = 0;
        }
        age_bucket(view, at, &seen, &worn);
    }
    set_hint(&view->stripe->aged_at, at);
    set_hint(&view->stripe->aged_due, (uint32_t)(due < round ? due : round));
    set_hint(&view->stripe->aged_seen, seen);
    set_hint(&view->stripe->aged_worn, worn);
}

/* ---- what happens ------------------------------------------------------------------------------------------- */

/* A new key of the sample. */
static const struct sm_shadow *take_in(struct lr_view *view, uint64_t place, uint64_t granules, unsigned count,
                                       bool absent) {
    struct sm_shadow *spare, *entry = find(view, place, &spare);
    const uint64_t known = entry != NULL ? lr_load(&entry->key) & ~SEEN_MASK : place & KEY_MASK;
    entry = entry != NULL ? entry : spare;
    lr_store(&entry->key, known | HERE | (uint64_t)(count & SEEN_MOST) << SEEN_SHIFT);
    if (granules > granules_most(view)) {
        set_granules(entry, granules);
    } else if (is_filling(view)) {
        ask(view, &by_age, entry, granules);
        ask(view, &by_rules, entry, granules);
    } else if (ask(view, other_of(view), entry, granules) && absent) {
        add_score(view, 1);
    }
    return entry;
}

void lr_shadow_put(struct lr_view *view, uint64_t place, uint64_t size, unsigned count, bool absent) {
    const uint64_t granules = size / SM_GRANULE;
    const struct sm_shadow *fresh = NULL;
    follow(view);
    bool took = look_around(view, granules);
    if (lr_load(&view->stripe->items) >> shift_of(view) > (is_filling(view) ? FILL_SAMPLED : SAMPLED_MOST))
        sample_less(view);
    if (is_sampled(view, place)) {
        fresh = take_in(view, place, granules, count, absent);
        took = true;
    }
    if (!took)
        return;
    trim(view, other_of(view), fresh);
    if (is_filling(view))
        trim(view, &by_rules, fresh);
}

void lr_shadow_gone(struct lr_view *view, uint64_t place, bool for_good) {
    if (!lr_has_probation(view->cache))
        return;
    if (!for_good && is_filling(view))
        end_filling(view);
    if (!for_good && hint(&view->stripe->filled) < UINT32_MAX)
        set_hint(&view->stripe->filled, hint(&view->stripe->filled) + 1);
    if (!is_sampled(view, place))
        return;
    struct sm_shadow *spare, *entry = find(view, place, &spare);
    if (entry != NULL)
        lr_store(&entry->key, for_good ? 0 : lr_load(&entry->key) & ~HERE);
}
