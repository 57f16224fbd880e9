/* SPDX-License-Identifier: MIT */
/*
 * The index: from a key to the one word that says whether it is there.
 *
 *   bucket b:  | 8 slot words |      one cache line; buckets 0 .. n-1 from the stripe's start, and, with policy s3,
 *                                    behind each eighth a line of their ghost words (policy.c), which no reader reads
 *
 * A key has two buckets (two-choice hashing, Y. Azar et al., 1994), and its word stands in that which had more room. A
 * look-up reads both at once (bucket.h). When both are full, a word of theirs moves on to its own other bucket (cuckoo
 * hashing, R. Pagh and F. Rodler, 2001), upwards if it can.
 *
 * The index grows by linear hashing, a bucket at a time: bucket n takes those words of its partner p that no longer
 * belong there. Buckets that are yet to be split get twice the keys of those that have been; having two choices levels
 * that out, so the index can be kept seven eighths full. While another host fills this one (LR_MORE) it is kept three
 * quarters full, as far as it reaches into what stays index anyway: then one new key in thirteen finds both its buckets
 * full, and not one in four. `split` in the stripe's control block is {moves, splitting, n}:
 *
 *   {n}  ->  bucket n is zeroed  ->  {n, splitting}  ->  words move p -> n, one by one  ->  {n + 1}
 *
 * and for each word: set `moved` in the old slot -> store the copy, hidden, in the new one -> full fence -> reveal the
 * copy by CAS, unless the old word is dead by now -> (not in a split: count it in `moves`) -> clear the old. Readers
 * who see `splitting` look in p, then in n: a word leaves p only after it counts in n. Those who missed a word that
 * went the other way round find `moves` changed, and look again. A deleter without the lock kills the hidden copy too:
 * then it is never revealed. So a deleted value does not come back, wherever the mover was stopped.
 *
 * It shrinks the same way back, when it is much larger than its entries need: all words of the last bucket, n, go to p:
 *
 *   {n + 1}  ->  {n, splitting}, counted in `moves` and `merges`  ->  words move n -> p, counted  ->  {n}
 *
 * To readers, deleters and repairers that is a split under way: readers look in both buckets, and repair finishes it as
 * one, so that a merge that a death cut short has not happened. The memory of buckets that are no more goes back to the
 * arena (divide.c), except for the first of it (kept_bytes). A reader may still hold an address there. What it reads
 * counts for nothing, as the split word has changed since; and it changes bytes there by CAS only, from a word that it
 * has seen in the bucket, and no such word is left (reader.c).
 *
 * Rules:
 *  1. The holder changes a used slot by CAS from the word that it saw, because readers set `pinned` and recency, and
 * deleters without the lock set `dead`, at any time. `dead` is never lost. An empty slot is one that names no block;
 * its recency may be anything (layout.h).
 *  2. A bucket whose memory may become arena names no block.
 *  3. A word moves on to a bucket that walks visit later (hash.h) if it can: a walk (scan.c) misses nothing that stays.
 * The rare move downwards is counted, and the walk starts the stripe over. Merges are counted by themselves.
 *  4. If all that does not help (an index that may not grow further), the coldest entry of the two buckets that nobody
 * pins goes.
 */
#include "bucket.h"
#include "stripe.h"

#define GROW_STEPS 2u    /* buckets that one put adds in passing */
#define GROW_AT_ONCE 64u /* ... and when it finds no slot otherwise */
#define WAY_STEPS 40u    /* buckets that a search for a free slot looks at */
#define GROW_ABOVE 28u   /* entries in four buckets above which it grows: seven eighths */
#define GROW_EARLY 24u   /* ... in what stays index anyway, while a host is filled by another: fewer words make way */
#define SHRINK_BELOW 21u /* ... and below which it shrinks: two thirds */
#define SHRINK_EVERY 16u /* small puts */
#define SHRINK_STEPS 16u /* buckets that one put takes away in passing ... */
#define SHRINK_MOST 64u  /* ... and a large one, one more for each SHRINK_BYTES */
#define SHRINK_BYTES 1024u
#define FULL_SHARE 16u /* of the arena: with less of it free, a merge may evict */

struct two {
    uint32_t number[2];
    sm_u64 *bucket[2];
};

static struct two buckets_of(const struct lr_view *view, uint32_t placing) {
    const uint32_t buckets = lr_buckets(view);
    const uint32_t first = lr_bucket_of(placing, buckets), second = lr_bucket_of(lr_second(placing), buckets);
    return (struct two){{first, second}, {lr_bucket_at(view, first), lr_bucket_at(view, second)}};
}

/* Whether the entry in this slot is the key's; removes it if it is dead. */
static bool is_key(struct lr_view *view, const struct lr_key *key, sm_u64 *slot, struct lr_found *found) {
    /* ORDER(entry) observe: the block's bytes, whoever wrote them. */
    uint64_t word = atomic_load_explicit(slot, memory_order_acquire);
    struct lr_head head;
    if (lr_slot_is_empty(word) || (word & SM_SLOT_TAG_MASK) != lr_place_tag(key->place))
        return false;
    if (!lr_head_read(view->cache, view->data, lr_slot_off(word), &head) || !lr_head_matches(&head, word)) {
        lr_count(view->cache, LR_C_corrupt_seen);
        return false;
    }
    if (word & SM_SLOT_DEAD) {
        lr_entry_forget(view, slot, word, &head, LR_FORGET_DELETE, true);
        return false;
    }
    if ((uint32_t)(head.identity >> 32) != lr_placing(key->place))
        return false;
    const uint8_t *own = view->data + head.off + head.key_at;
    bool same = head.tombstone ? lr_head_tomb_hash(view->data, &head) == key->hash
                : key->bytes   ? head.key_len == key->len && lr_bytes_equal(own, key->bytes, key->len)
                               : lr_hash_key(own, head.key_len) == key->hash;
    if (same)
        *found = (struct lr_found){.slot = slot, .word = word, .head = head};
    return same;
}

struct lr_found lr_index_find(struct lr_view *view, const struct lr_key *key) {
    struct lr_found found = {0};
    const uint64_t tag = lr_place_tag(key->place);
    struct two both = buckets_of(view, lr_placing(key->place));
    unsigned mask = lr_bucket_tagged(both.bucket[0], tag) | lr_bucket_tagged(both.bucket[1], tag) << SM_BUCKET_SLOTS;
    for (; mask != 0; mask &= mask - 1) {
        unsigned i = (unsigned)__builtin_ctz(mask);
        if (is_key(view, key, &both.bucket[i / SM_BUCKET_SLOTS][i % SM_BUCKET_SLOTS], &found))
            break;
    }
    return found;
}

sm_u64 *lr_index_slot_of(struct lr_view *view, uint32_t placing, uint64_t off, uint64_t *word) {
    struct two both = buckets_of(view, placing);
    for (unsigned i = 0; i < 2 * SM_BUCKET_SLOTS; i++) {
        sm_u64 *slot = &both.bucket[i / SM_BUCKET_SLOTS][i % SM_BUCKET_SLOTS];
        *word = atomic_load_explicit(slot, memory_order_acquire);
        if (!lr_slot_is_empty(*word) && lr_slot_off(*word) == off)
            return slot;
    }
    return NULL;
}

struct lr_found lr_index_named(struct lr_view *view, uint32_t placing, uint64_t tag) {
    struct two both = buckets_of(view, placing);
    unsigned mask = lr_bucket_tagged(both.bucket[0], tag) | lr_bucket_tagged(both.bucket[1], tag) << SM_BUCKET_SLOTS;
    for (; mask != 0; mask &= mask - 1) {
        unsigned i = (unsigned)__builtin_ctz(mask);
        struct lr_found found = {.slot = &both.bucket[i / SM_BUCKET_SLOTS][i % SM_BUCKET_SLOTS]};
        found.word = atomic_load_explicit(found.slot, memory_order_acquire);
        if (!lr_slot_is_empty(found.word) && !(found.word & SM_SLOT_DEAD) &&
            lr_head_read(view->cache, view->data, lr_slot_off(found.word), &found.head) &&
            lr_head_matches(&found.head, found.word) && (uint32_t)(found.head.identity >> 32) == placing)
            return found;
    }
    return (struct lr_found){0};
}

/* ---- room for a word ----------------------------------------------------------------------------------------------
 */

/* How willingly an entry goes: gone before cold before hot, tombstones last, the oldest of them first. UINT64_MAX: it
 * cannot. */
static uint64_t rank_of(struct lr_view *view, uint64_t word, struct lr_head *head) {
    if (!lr_head_read(view->cache, view->data, lr_slot_off(word), head))
        return UINT64_MAX;
    /* A flag that says pinned may be out of date. */
    if ((word & SM_SLOT_PINNED) && lr_hazard_held(view->cache, lr_hazard_of(view->cache, view->data, head->off), view))
        return UINT64_MAX;
    if (word & SM_SLOT_DEAD)
        return 0;
    if (head->tombstone)
        return 1000 + (head->version >> SM_VERSION_ORIGIN_BITS);
    return lr_head_gone(view->cache, view->data, head) ? 1 : 2 + lr_slot_count(view->cache, word);
}

/* Whether its going would be heard of: a tombstone, or an item that peers have not had. */
static bool is_missed(struct lr_view *view, const struct lr_head *head) {
    return head->tombstone || lr_entry_unshipped(view, head);
}

/* Frees a slot of the two buckets; `quietly`: only if nobody will hear of it. NULL: everything in them is pinned. */
static sm_u64 *displace_coldest(struct lr_view *view, const struct two *both, bool quietly) {
    for (unsigned attempt = 0; attempt < SM_BUCKET_SLOTS; attempt++) {
        sm_u64 *victim = NULL;
        struct lr_head victim_head = {0};
        uint64_t victim_word = 0, best = UINT64_MAX;
        for (unsigned i = 0; i < 2 * SM_BUCKET_SLOTS; i++) {
            sm_u64 *slot = &both->bucket[i / SM_BUCKET_SLOTS][i % SM_BUCKET_SLOTS];
            uint64_t word = atomic_load_explicit(slot, memory_order_acquire);
            struct lr_head head;
            if (lr_slot_is_empty(word))
                continue;
            uint64_t rank = rank_of(view, word, &head);
            if (rank < best && !(quietly && is_missed(view, &head))) {
                best = rank;
                victim = slot;
                victim_word = word;
                victim_head = head;
            }
        }
        if (victim == NULL)
            return NULL;
        if (lr_entry_forget(view, victim, victim_word, &victim_head, LR_FORGET_DISPLACE, true)) {
            lr_tally(view, LR_S_index_evictions, 1);
            return victim;
        }
    }
    return NULL;
}

static sm_u64 *empty_in(sm_u64 *bucket) {
    unsigned mask = lr_bucket_empty(bucket);
    return mask != 0 ? &bucket[__builtin_ctz(mask)] : NULL;
}

/* In the emptier bucket of the two. */
static sm_u64 *empty_slot(const struct lr_view *view, uint64_t place) {
    struct two both = buckets_of(view, lr_placing(place));
    int first = __builtin_popcount(lr_bucket_empty(both.bucket[0]));
    int second = __builtin_popcount(lr_bucket_empty(both.bucket[1]));
    return empty_in(both.bucket[first >= second ? 0 : 1]);
}

sm_u64 *lr_index_room(struct lr_view *view, uint64_t place, bool may_evict) {
    sm_u64 *slot = empty_slot(view, place);
    if (slot != NULL || !may_evict)
        return slot;
    struct two both = buckets_of(view, lr_placing(place));
    return displace_coldest(view, &both, false);
}

/* ---- moves --------------------------------------------------------------------------------------------------------
 */

/* The copy counts from now on, unless the old word or the copy itself was killed. False: it does not stand still. */
static bool reveal(const sm_u64 *old, sm_u64 *copy) {
    for (unsigned tries = 0; tries < LR_WORD_TRIES; tries++) {
        /* ORDER(moved) publish: the copy stands before we look whether somebody killed the old word. */
        atomic_thread_fence(memory_order_seq_cst);
        uint64_t word = atomic_load_explicit(copy, memory_order_acquire);
        if (!lr_slot_is_hidden(word))
            return true;
        bool dead = (atomic_load_explicit((sm_u64 *)old, memory_order_acquire) & SM_SLOT_DEAD) != 0;
        uint64_t shown = word & ~(dead ? SM_SLOT_MOVED : SM_SLOT_MOVED | SM_SLOT_DEAD);
        /* ORDER(entry) publish: the word under its new address. */
        if (atomic_compare_exchange_strong_explicit(copy, &word, shown, memory_order_acq_rel, memory_order_relaxed))
            return true;
    }
    return false;
}

/* How a word moves, and who must hear of it. */
enum move {
    MOVE_SPLIT,    /* readers look in the old bucket first */
    MOVE_COUNTED,  /* they may not: the split word tells them */
    MOVE_DOWN = 2, /* ... and to a bucket that walks visit earlier */
};

/* Moves a word from its slot to an empty one, or to one where a dead holder had put it already. */
static void move_word(struct lr_view *view, sm_u64 *old, sm_u64 *target, enum move how) {
    uint64_t word = atomic_fetch_or_explicit(old, SM_SLOT_MOVED, memory_order_acq_rel);
    LR_CRASH_POINT("word moves, marked");
    if (lr_slot_is_empty(lr_load(target)))
        atomic_store_explicit(target, word | SM_SLOT_MOVED | SM_SLOT_DEAD, memory_order_release);
    LR_CRASH_POINT("word moves, hidden copy");
    if (!reveal(old, target)) {
        view->damaged = true; /* repair finishes it before we unlock */
        return;
    }
    LR_CRASH_POINT("word moves, in both");
    if (how == MOVE_DOWN) {
        /* ORDER(moves-down) publish: the word stands in its new place and has not left the old one. A walk that passed
         * the new place too early began before this; one that comes to the old place too late ends after it. */
        atomic_fetch_add_explicit(&view->stripe->moves_down, 1, memory_order_acq_rel);
        LR_CRASH_POINT("word moves down, counted");
    }
    if (how != MOVE_SPLIT)
        atomic_store_explicit(&view->stripe->split, lr_load(&view->stripe->split) + SM_MOVES_ONE, memory_order_release);
    /* Whatever became of it: a deleter who kills it now looks again and finds the copy. */
    atomic_exchange_explicit(old, 0, memory_order_acq_rel);
    LR_CRASH_POINT("word moves, done");
}

/* The slot of `bucket` that names the same block as `word`; NULL: none. */
static sm_u64 *twin_in(sm_u64 *bucket, uint64_t word) {
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++)
        if (((lr_load(&bucket[i]) ^ word) & SM_SLOT_OFF_MASK) == 0)
            return &bucket[i];
    return NULL;
}

static void move_words(struct lr_view *view, uint32_t buckets) {
    sm_u64 *partner = lr_bucket_at(view, lr_split_partner(buckets)), *fresh = lr_bucket_at(view, buckets);
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
        uint64_t word = atomic_load_explicit(&partner[i], memory_order_acquire);
        struct lr_head head;
        if (lr_slot_is_empty(word) || !lr_head_read(view->cache, view->data, lr_slot_off(word), &head))
            continue;
        if (lr_belongs((uint32_t)(head.identity >> 32), lr_split_partner(buckets), buckets + 1))
            continue;
        sm_u64 *twin = twin_in(fresh, word), *target = twin != NULL ? twin : empty_in(fresh);
        if (target != NULL) /* always, but in a damaged stripe */
            move_word(view, &partner[i], target, MOVE_SPLIT);
    }
    LR_CRASH_POINT("split ends, before");
    /* COMMIT POINT: before, readers look in both buckets; after, in one, where every word stands. ORDER(split) publish:
     * the words. */
    atomic_store_explicit(&view->stripe->split, (lr_load(&view->stripe->split) & ~SM_SPLITTING) + 1,
                          memory_order_release);
    LR_CRASH_POINT("split ends, after");
    lr_tally(view, LR_S_splits, 1);
}

/*
 * A cuckoo move that a dead holder began. Is the word in both places, and counts in both, the move is finished; else it
 * has not happened. Of a word and its hidden copy the word stays; of two that are dead, nothing does.
 */
static void finish_move(struct lr_view *view, uint32_t bucket, sm_u64 *slot) {
    uint64_t word = lr_load(slot);
    struct lr_head head;
    if (lr_slot_is_empty(word) || !(word & SM_SLOT_MOVED) ||
        !lr_head_read(view->cache, view->data, lr_slot_off(word), &head))
        return;
    struct two both = buckets_of(view, (uint32_t)(head.identity >> 32));
    const unsigned other = both.number[0] == bucket ? 1 : 0;
    sm_u64 *twin = both.number[other] == bucket ? NULL : twin_in(both.bucket[other], word);
    const bool twin_counts = twin != NULL && !(lr_load(twin) & SM_SLOT_DEAD);
    if (twin_counts && !(word & SM_SLOT_DEAD)) {
        move_word(view, slot, twin, lr_walk_before(both.number[other], bucket) ? MOVE_DOWN : MOVE_COUNTED);
    } else if (twin_counts) {
        atomic_store_explicit(slot, 0, memory_order_release);
    } else {
        if (twin != NULL)
            atomic_store_explicit(twin, 0, memory_order_release);
        atomic_fetch_and_explicit(slot, ~SM_SLOT_MOVED, memory_order_acq_rel);
    }
}

void lr_index_finish_moves(struct lr_view *view) {
    uint64_t split = lr_load(&view->stripe->split);
    if (split & SM_SPLITTING)
        move_words(view, (uint32_t)split);
    for (uint32_t bucket = 0; bucket < lr_buckets(view); bucket++)
        for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++)
            finish_move(view, bucket, &lr_bucket_at(view, bucket)[i]);
}

/* ---- growth -------------------------------------------------------------------------------------------------------
 */

/* Bytes by which the border moves. */
static uint64_t grow_step(uint64_t border) {
    return (border / 32 + 4095) & ~UINT64_C(4095);
}

static bool add_bucket(struct lr_view *view) {
    const uint64_t buckets = lr_buckets(view), stripe_bytes = view->cache->geometry.stripe_bytes;
    uint64_t border = lr_load(&view->stripe->border_off);
    if (lr_index_bytes(&view->cache->geometry, buckets + 1) > border) {
        const uint64_t step = grow_step(border);
        if (border + step > stripe_bytes / 5 * 2 || !lr_border_raise(view, step))
            return false;
    }
    sm_u64 *fresh = lr_bucket_at(view, (uint32_t)buckets);
    view->hand_moved = true;
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++)
        lr_store(&fresh[i], 0);
    lr_policy_split(view, lr_split_partner((uint32_t)buckets), (uint32_t)buckets);
    LR_CRASH_POINT("split begins, before");
    /* COMMIT POINT: before, nobody looks at the new bucket; after, readers of the partner do, and a repairer finishes
     * the split. */
    atomic_store_explicit(&view->stripe->split, lr_load(&view->stripe->split) | SM_SPLITTING, memory_order_release);
    LR_CRASH_POINT("split begins, after");
    atomic_thread_fence(memory_order_seq_cst);
    move_words(view, (uint32_t)buckets);
    return true;
}

/* ---- making way ---------------------------------------------------------------------------------------------------
 */

/* A bucket of the search: a word in slot `slot` of step `from` could move here. */
struct step {
    uint32_t number;
    sm_u64 *bucket;
    unsigned from, slot;
};

static bool is_among(const struct step *steps, unsigned count, const sm_u64 *bucket) {
    for (unsigned i = 0; i < count; i++)
        if (steps[i].bucket == bucket)
            return true;
    return false;
}

/* Moves the word in this slot of step `at` to the empty `target` in bucket `into`, and into its place the one that
 * leads there, and so on, back to a bucket of the key. */
static void move_along(struct lr_view *view, const struct step *steps, unsigned at, unsigned slot, uint32_t into,
                       sm_u64 *target) {
    for (;;) {
        sm_u64 *old = &steps[at].bucket[slot];
        move_word(view, old, target, lr_walk_before(into, steps[at].number) ? MOVE_DOWN : MOVE_COUNTED);
        if (at < 2)
            return;
        into = steps[at].number;
        target = old;
        slot = steps[at].slot;
        at = steps[at].from;
    }
}

/* The placing hash of the block that a word names; 0 for an empty slot, or one that leads nowhere. */
static uint32_t placing_of(const struct lr_view *view, uint64_t word) {
    if (lr_slot_is_empty(word) || lr_slot_off(word) > view->cache->geometry.stripe_bytes - sizeof(struct sm_block))
        return 0;
    return (uint32_t)(lr_load(&lr_block_at(view->data, lr_slot_off(word))->identity) >> 32);
}

/* The other bucket of each word in this one, or this one where there is none. Cache misses overlap. */
static void others_of(const struct lr_view *view, const struct step *step, uint32_t others[SM_BUCKET_SLOTS]) {
    uint64_t words[SM_BUCKET_SLOTS];
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
        words[i] = atomic_load_explicit(&step->bucket[i], memory_order_acquire);
        __builtin_prefetch(view->data + lr_slot_off(words[i]));
    }
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
        const struct two its = buckets_of(view, placing_of(view, words[i]));
        const uint32_t here = step->number;
        others[i] = its.number[0] == here ? its.number[1] : its.number[1] == here ? its.number[0] : here;
        __builtin_prefetch((const void *)lr_bucket_at(view, others[i]), 1);
    }
}

/*
 * Makes an empty slot in one of the two buckets, by the shortest way of moves, each from a bucket to the moved word's
 * other one (breadth first, as in MemC3, B. Fan et al., 2013); `down` allows moves to buckets that walks visit earlier.
 */
static bool make_way(struct lr_view *view, const struct two *both, bool down) {
    struct step steps[WAY_STEPS] = {{.number = both->number[0], .bucket = both->bucket[0]},
                                    {.number = both->number[1], .bucket = both->bucket[1]}};
    unsigned count = 2;
    for (unsigned at = 0; at < count; at++) {
        uint32_t others[SM_BUCKET_SLOTS];
        others_of(view, &steps[at], others);
        for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
            if (others[i] == steps[at].number || (!down && lr_walk_before(others[i], steps[at].number)))
                continue;
            sm_u64 *bucket = lr_bucket_at(view, others[i]), *target = empty_in(bucket);
            if (target != NULL) {
                move_along(view, steps, at, i, others[i], target);
                return true;
            }
            if (count < WAY_STEPS && !is_among(steps, count, bucket))
                steps[count++] = (struct step){others[i], bucket, at, i};
        }
    }
    return false;
}

void lr_index_prepare(struct lr_view *view, uint64_t place) {
    for (unsigned i = 0; i < GROW_AT_ONCE && empty_slot(view, place) == NULL; i++) {
        struct two both = buckets_of(view, lr_placing(place));
        if (make_way(view, &both, false) || make_way(view, &both, true) || !add_bucket(view))
            return;
    }
}

/* ---- shrinking ----------------------------------------------------------------------------------------------------
 */

/* Whether so many buckets are too few (GROW_ABOVE) or too many (SHRINK_BELOW) for what there is. */
static bool exceeds(const struct lr_view *view, uint64_t buckets, uint64_t in_four) {
    return (lr_load(&view->stripe->items) + lr_load(&view->stripe->tombstones)) * 4 > buckets * in_four;
}

static int words_in(const sm_u64 *bucket) {
    return (int)SM_BUCKET_SLOTS - __builtin_popcount(lr_bucket_empty(bucket));
}

/* Moves words of a bucket that is to be merged with `partner` on to their others, until `excess` have gone; `down`
 * allows moves to buckets that walks visit earlier. */
static int shed(struct lr_view *view, uint32_t number, uint32_t partner, int excess, bool down) {
    const struct step here = {.number = number, .bucket = lr_bucket_at(view, number)};
    uint32_t others[SM_BUCKET_SLOTS];
    if (excess <= 0)
        return excess;
    others_of(view, &here, others);
    for (unsigned i = 0; i < SM_BUCKET_SLOTS && excess > 0 && !view->damaged; i++) {
        sm_u64 *target = empty_in(lr_bucket_at(view, others[i]));
        const bool earlier = lr_walk_before(others[i], number);
        if (others[i] == partner || others[i] == number || (earlier && !down) || target == NULL)
            continue;
        view->hand_moved = true;
        move_word(view, &here.bucket[i], target, earlier ? MOVE_DOWN : MOVE_COUNTED);
        excess--;
    }
    return excess;
}

/* Whether the stripe has so little room that what the index gives back is worth an item. */
static bool is_full(const struct lr_view *view) {
    const struct lr_span main = lr_gap_of(view, LR_MAIN), first = lr_gap_of(view, LR_PROBATION);
    const uint64_t arena = view->cache->geometry.stripe_bytes - lr_load(&view->stripe->border_off);
    const uint64_t gaps = main.end - main.start + (lr_has_probation(view->cache) ? first.end - first.start : 0);
    return gaps + lr_load(&view->stripe->hole_bytes) < arena / FULL_SHARE;
}

/* Makes the words of two buckets fit into one: some move on, or the coldest go where room is short. */
static bool make_fit(struct lr_view *view, uint32_t last, uint32_t partner) {
    const struct two both = {{last, partner}, {lr_bucket_at(view, last), lr_bucket_at(view, partner)}};
    int excess = words_in(both.bucket[0]) + words_in(both.bucket[1]) - (int)SM_BUCKET_SLOTS;
    for (unsigned down = 0; down < 2; down++)
        excess = shed(view, partner, last, shed(view, last, partner, excess, down != 0), down != 0);
    const bool may_evict = excess > 0 && view->cache->geometry.policy != LR_POLICY_none && !view->keep_all &&
                           !view->damaged && is_full(view);
    if (may_evict) /* what is being replaced may go, and the merge wait all the same */
        view->hand_moved = true;
    while (may_evict && excess > 0 && displace_coldest(view, &both, true) != NULL)
        excess--;
    return excess <= 0 && !view->damaged;
}

/* The last bucket goes, its words to the one from which it was split. False: they do not fit there. */
static bool drop_bucket(struct lr_view *view) {
    const uint32_t last = lr_buckets(view) - 1, partner = lr_split_partner(last);
    sm_u64 *from = lr_bucket_at(view, last), *into = lr_bucket_at(view, partner);
    if (!make_fit(view, last, partner))
        return false;
    const unsigned words = ~lr_bucket_empty(from) & LR_BUCKET_ALL;
    view->hand_moved = true;
    lr_policy_merge(view, partner, last);
    const uint64_t split = (lr_load(&view->stripe->split) & ~(uint64_t)UINT32_MAX) + SM_MOVES_ONE;
    LR_CRASH_POINT("merge begins, before");
    /* COMMIT POINT: before, nobody looks for these words in the partner; after, all do, and a repairer splits it. */
    atomic_store_explicit(&view->stripe->split, split | SM_SPLITTING | last, memory_order_release);
    LR_CRASH_POINT("merge begins, after");
    /* ORDER(merges) publish: the split word. Who finds a word gone from the last bucket finds this changed. */
    atomic_fetch_add_explicit(&view->stripe->merges, 1, memory_order_acq_rel);
    for (unsigned left = words; left != 0 && !view->damaged; left &= left - 1)
        move_word(view, &from[__builtin_ctz(left)], empty_in(into), MOVE_COUNTED);
    if (view->damaged)
        return false;
    LR_CRASH_POINT("merge ends, before");
    /* COMMIT POINT: before, readers look in both buckets; after, in one, where every word stands. */
    atomic_store_explicit(&view->stripe->split, lr_load(&view->stripe->split) & ~SM_SPLITTING, memory_order_release);
    LR_CRASH_POINT("merge ends, after");
    lr_tally(view, LR_S_merges, 1);
    return true;
}

/* Bytes behind the last bucket become arena, but for some that the next buckets would ask for. */
static void give_back(struct lr_view *view) {
    const struct lr_geometry *geometry = &view->cache->geometry;
    const uint64_t border = lr_load(&view->stripe->border_off), used = lr_index_bytes(geometry, lr_buckets(view));
    const uint64_t floor = used > geometry->kept_bytes ? used : geometry->kept_bytes, step = grow_step(border);
    if (border >= floor + 2 * step)
        lr_border_lower(view, (border - floor - step) & ~UINT64_C(4095));
}

static void shrink(struct lr_view *view, uint64_t put_bytes) {
    const uint32_t least = view->cache->geometry.least_buckets;
    if (put_bytes < SHRINK_BYTES && lr_load(&view->stripe->incarnation) % SHRINK_EVERY != 0)
        return;
    const uint64_t wanted = SHRINK_STEPS + put_bytes / SHRINK_BYTES;
    for (uint64_t i = 0; i < wanted && i < SHRINK_MOST; i++) {
        const uint64_t buckets = lr_buckets(view);
        if (buckets <= least || exceeds(view, buckets - 1, SHRINK_BELOW) || !drop_bucket(view))
            break;
    }
    if (!view->damaged)
        give_back(view);
}

static bool is_to_grow(const struct lr_view *view) {
    const uint64_t buckets = lr_buckets(view);
    const bool early = view->grow_early && buckets < view->cache->geometry.least_buckets;
    return exceeds(view, buckets, early ? GROW_EARLY : GROW_ABOVE);
}

void lr_index_fit(struct lr_view *view, uint64_t put_bytes) {
    for (unsigned i = 0; i < GROW_STEPS; i++)
        if (!is_to_grow(view) || !add_bucket(view))
            break;
    if (!exceeds(view, lr_buckets(view), SHRINK_BELOW))
        shrink(view, put_bytes);
}

/* ---- ahead of time ---------------------------------------------------------------------------------------------- */

void lr_index_prefetch(const struct lr_view *view, uint64_t place) {
    struct two both = buckets_of(view, lr_placing(place));
    __builtin_prefetch((const void *)both.bucket[0], 1);
    __builtin_prefetch((const void *)both.bucket[1], 1);
    if (lr_has_probation(view->cache))
        __builtin_prefetch((const void *)lr_ghosts_at(view, lr_bucket_of(lr_placing(place), lr_buckets(view))), 1);
}

void lr_index_prefetch_split(const struct lr_view *view) {
    const uint32_t buckets = lr_buckets(view);
    if (!is_to_grow(view))
        return;
    __builtin_prefetch((const void *)lr_bucket_at(view, lr_split_partner(buckets)), 1);
    __builtin_prefetch((const void *)lr_bucket_at(view, buckets), 1);
}

static void fetch_heads(const struct lr_view *view, sm_u64 *bucket, unsigned mask) {
    for (; mask != 0; mask &= mask - 1)
        __builtin_prefetch(view->data + lr_slot_off(lr_load(&bucket[__builtin_ctz(mask)])));
}

void lr_index_prefetch_entry(const struct lr_view *view, uint64_t place) {
    const struct two both = buckets_of(view, lr_placing(place));
    const uint64_t tag = lr_place_tag(place);
    const unsigned first = lr_bucket_tagged(both.bucket[0], tag), second = lr_bucket_tagged(both.bucket[1], tag);
    const bool full = (lr_bucket_empty(both.bucket[0]) | lr_bucket_empty(both.bucket[1])) == 0;
    fetch_heads(view, both.bucket[0], full && (first | second) == 0 ? LR_BUCKET_ALL : first); /* one makes way */
    fetch_heads(view, both.bucket[1], second);
    if (is_to_grow(view))
        fetch_heads(view, lr_bucket_at(view, lr_split_partner(lr_buckets(view))), LR_BUCKET_ALL);
}
