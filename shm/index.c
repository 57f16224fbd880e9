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
 * that out, so the index can be kept nine tenths full. `split` in the stripe's control block is {moves, splitting, n}:
 *
 *   {n}  ->  bucket n is zeroed  ->  {n, splitting}  ->  words move p -> n, one by one  ->  {n + 1}
 *
 * and for each word: set `moved` in the old slot -> store the copy, hidden, in the new one -> full fence -> reveal the
 * copy by CAS, unless the old word is dead by now -> (cuckoo only: count it in `moves`) -> clear the old. Readers who
 * see `splitting` look in p, then in n: a word leaves p only after it counts in n. Those who missed a word that went
 * the other way round find `moves` changed, and look again. A deleter without the lock kills the hidden copy too: then
 * it is never revealed. So a deleted value does not come back, wherever the mover was stopped.
 *
 * Rules:
 *  1. The holder changes a used slot by CAS from the word that it saw, because readers set `pinned` and recency, and
 * deleters without the lock set `dead`, at any time. `dead` is never lost. An empty slot is one that names no block;
 * its recency may be anything (layout.h).
 *  2. A used bucket's memory stays index memory for ever.
 *  3. A word moves to a bucket with a higher number if it can: a walk from bucket 0 upwards (scan.c) misses nothing
 * that stays. The rare move downwards is counted, and the walk starts the stripe over.
 *  4. If all that does not help (an index that may not grow further), the coldest entry of the two buckets that nobody
 * pins goes.
 */
#include "bucket.h"
#include "stripe.h"

#define GROW_STEPS 2u    /* buckets that one put adds in passing */
#define GROW_AT_ONCE 64u /* ... and when it finds no slot otherwise */
#define WAY_STEPS 40u    /* buckets that a search for a free slot looks at */
#define GROW_ABOVE 28u   /* entries in four buckets above which it grows: seven eighths */

struct two {
    sm_u64 *bucket[2];
};

static struct two buckets_of(const struct lr_view *view, uint32_t placing) {
    uint32_t buckets = lr_buckets(view);
    return (struct two){{lr_bucket_at(view, lr_bucket_of(placing, buckets)),
                         lr_bucket_at(view, lr_bucket_of(lr_second(placing), buckets))}};
}

void lr_index_prefetch(const struct lr_view *view, uint64_t place) {
    struct two both = buckets_of(view, lr_placing(place));
    __builtin_prefetch((const void *)both.bucket[0], 1);
    __builtin_prefetch((const void *)both.bucket[1], 1);
    if (lr_has_probation(view->cache))
        __builtin_prefetch((const void *)lr_ghosts_at(view, lr_bucket_of(lr_placing(place), lr_buckets(view))), 1);
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
    return lr_head_gone(view->cache, view->data, head) ? 1 : 2 + lr_slot_recency(word);
}

/* Frees a slot of the two full buckets. NULL: everything in them is pinned. */
static sm_u64 *displace_coldest(struct lr_view *view, const struct two *both) {
    for (unsigned attempt = 0; attempt < SM_BUCKET_SLOTS; attempt++) {
        sm_u64 *victim = NULL;
        struct lr_head victim_head = {0};
        uint64_t victim_word = 0, best = UINT64_MAX;
        for (unsigned i = 0; i < 2 * SM_BUCKET_SLOTS; i++) {
            sm_u64 *slot = &both->bucket[i / SM_BUCKET_SLOTS][i % SM_BUCKET_SLOTS];
            uint64_t word = atomic_load_explicit(slot, memory_order_acquire);
            struct lr_head head;
            uint64_t rank = rank_of(view, word, &head);
            if (rank < best) {
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
    return displace_coldest(view, &both);
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

/* Moves a word from its slot to an empty one, or to one where a dead holder had put it already. */
static void move_word(struct lr_view *view, sm_u64 *old, sm_u64 *target, bool count) {
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
    if (target < old) {
        /* ORDER(moves-down) publish: the word stands in its new place and has not left the old one. A walk that passed
         * the new place too early began before this; one that comes to the old place too late ends after it. */
        atomic_fetch_add_explicit(&view->stripe->moves_down, 1, memory_order_acq_rel);
        LR_CRASH_POINT("word moves down, counted");
    }
    if (count)
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
            move_word(view, &partner[i], target, false);
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
    sm_u64 *here = lr_bucket_at(view, bucket), *other = both.bucket[0] == here ? both.bucket[1] : both.bucket[0];
    sm_u64 *twin = other == here ? NULL : twin_in(other, word);
    const bool twin_counts = twin != NULL && !(lr_load(twin) & SM_SLOT_DEAD);
    if (twin_counts && !(word & SM_SLOT_DEAD)) {
        move_word(view, slot, twin, true);
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

static bool add_bucket(struct lr_view *view) {
    const uint64_t buckets = lr_buckets(view), stripe_bytes = view->cache->geometry.stripe_bytes;
    uint64_t border = lr_load(&view->stripe->border_off);
    if (lr_index_bytes(&view->cache->geometry, buckets + 1) > border) {
        uint64_t step = (border / 32 + 4095) & ~UINT64_C(4095);
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

void lr_index_grow(struct lr_view *view) {
    for (unsigned i = 0; i < GROW_STEPS; i++) {
        uint64_t entries = lr_load(&view->stripe->items) + lr_load(&view->stripe->tombstones);
        if (entries * 4 <= (uint64_t)lr_buckets(view) * GROW_ABOVE || !add_bucket(view))
            return;
    }
}

/* ---- making way ---------------------------------------------------------------------------------------------------
 */

/* A bucket of the search: a word in slot `slot` of step `from` could move here. */
struct step {
    sm_u64 *bucket;
    unsigned from, slot;
};

static bool is_among(const struct step *steps, unsigned count, const sm_u64 *bucket) {
    for (unsigned i = 0; i < count; i++)
        if (steps[i].bucket == bucket)
            return true;
    return false;
}

/* Moves the word in this slot of step `at` to the empty `target`, and into its place the one that leads there, and so
 * on, back to a bucket of the key. */
static void move_along(struct lr_view *view, const struct step *steps, unsigned at, unsigned slot, sm_u64 *target) {
    for (;;) {
        sm_u64 *old = &steps[at].bucket[slot];
        move_word(view, old, target, true);
        if (at < 2)
            return;
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

/* The other bucket of each word in this one; NULL where there is none. Cache misses overlap. */
static void others_of(const struct lr_view *view, sm_u64 *bucket, sm_u64 *others[SM_BUCKET_SLOTS]) {
    uint64_t words[SM_BUCKET_SLOTS];
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
        words[i] = atomic_load_explicit(&bucket[i], memory_order_acquire);
        __builtin_prefetch(view->data + lr_slot_off(words[i]));
    }
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
        struct two its = buckets_of(view, placing_of(view, words[i]));
        others[i] = its.bucket[0] == bucket ? its.bucket[1] : its.bucket[1] == bucket ? its.bucket[0] : NULL;
        if (others[i] == bucket)
            others[i] = NULL;
        __builtin_prefetch((const void *)others[i], 1);
    }
}

/*
 * Makes an empty slot in one of the two buckets, by the shortest way of moves, each from a bucket to the moved word's
 * other one (breadth first, as in MemC3, B. Fan et al., 2013); `down` allows moves to lower numbers.
 */
static bool make_way(struct lr_view *view, const struct two *both, bool down) {
    struct step steps[WAY_STEPS] = {{.bucket = both->bucket[0]}, {.bucket = both->bucket[1]}};
    unsigned count = 2;
    for (unsigned at = 0; at < count; at++) {
        sm_u64 *others[SM_BUCKET_SLOTS];
        others_of(view, steps[at].bucket, others);
        for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
            if (others[i] == NULL || (others[i] < steps[at].bucket && !down))
                continue;
            sm_u64 *target = empty_in(others[i]);
            if (target != NULL) {
                move_along(view, steps, at, i, target);
                return true;
            }
            if (count < WAY_STEPS && !is_among(steps, count, others[i]))
                steps[count++] = (struct step){others[i], at, i};
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
