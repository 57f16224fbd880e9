/* SPDX-License-Identifier: MIT */
/*
 * The index: from a key to the one word that says whether it is there.
 *
 *   pair p:  | 8 slot words | 8 slot words |      two neighbouring cache lines, one hash bucket; pairs 0 .. n-1 from
 * the stripe's start
 *
 * A key's word stands in its first pair, in its home line if that has room, and in its second pair only if the first
 * was full. When both are full, a word of theirs moves on to its own other pair (cuckoo hashing, R. Pagh and F. Rodler,
 * 2001), upwards only. With at most ten words per pair on average no key is ever without a slot, a get that hits looks
 * at one line most of the time (85 % of the words stand in their first pair), and one that misses looks at both pairs.
 * (Without the second pair, one key in eight was evicted from a table that was filled fast.)
 *
 * The index grows by linear hashing, a pair at a time: pair n takes those words of its partner p that no longer belong
 * there. `split` in the stripe's control block is {moves, splitting, n}:
 *
 *   {n}  ->  pair n is zeroed  ->  {n, splitting}  ->  words move p -> n, one by one  ->  {n + 1}
 *
 * and for each word: CAS `moved` in the old slot -> store the word in the new one -> (cuckoo only: count it in `moves`)
 * -> full fence -> load the old word again (dead? CAS dead in the new) -> clear the old. Readers who see `splitting`
 * look in p, then in n: a word leaves p only after it stands in n. Those who missed a word that went the other way
 * round find `moves` changed, and look again.
 *
 * Rules:
 *  1. The holder changes a used slot by CAS from the word that it saw, because readers set `pinned` and recency, and
 * deleters without the lock set `dead`, at any time. `dead` is never lost.
 *  2. A used pair's memory stays index memory for ever.
 *  3. A word moves to a pair with a higher number if it can: a walk from pair 0 upwards (scan.c) misses nothing that
 * stays. The rare move downwards is counted, and the walk starts the stripe over.
 *  4. If all that does not help (an index that may not grow further), the coldest entry of the two pairs that nobody
 * pins goes.
 */
#include "stripe.h"

#define GROW_STEPS 2u    /* pairs that one put adds in passing */
#define GROW_AT_ONCE 64u /* ... and when it finds no slot otherwise */
#define GROW_ABOVE 12u   /* entries per pair above which it grows: 75 % */

struct pairs_of {
    sm_u64 *pair[2];
};

static struct pairs_of pairs_of(const struct lr_view *view, uint32_t placing) {
    uint32_t pairs = lr_pairs(view);
    return (struct pairs_of){{lr_pair_at(view->data, lr_pair_of(placing, pairs)),
                              lr_pair_at(view->data, lr_pair_of(lr_second(placing), pairs))}};
}

/* Whether the entry in this slot is the key's; removes it if it is dead. */
static bool is_key(struct lr_view *view, const struct lr_key *key, sm_u64 *slot, struct lr_found *found) {
    /* ORDER(entry) observe: the block's bytes, whoever wrote them. */
    uint64_t word = atomic_load_explicit(slot, memory_order_acquire);
    struct lr_head head;
    if (word == 0 || ((word & SM_SLOT_TAG_MASK) != lr_place_tag(key->place) && !(word & SM_SLOT_DEAD)))
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
    struct pairs_of both = pairs_of(view, lr_placing(key->place));
    for (unsigned i = 0; i < 2 * SM_PAIR_SLOTS; i++)
        if (is_key(view, key, &both.pair[i / SM_PAIR_SLOTS][i % SM_PAIR_SLOTS], &found))
            break;
    return found;
}

sm_u64 *lr_index_slot_of(struct lr_view *view, uint32_t placing, uint64_t off, uint64_t *word) {
    struct pairs_of both = pairs_of(view, placing);
    for (unsigned i = 0; i < 2 * SM_PAIR_SLOTS; i++) {
        sm_u64 *slot = &both.pair[i / SM_PAIR_SLOTS][i % SM_PAIR_SLOTS];
        *word = atomic_load_explicit(slot, memory_order_acquire);
        if (*word != 0 && lr_slot_off(*word) == off)
            return slot;
    }
    return NULL;
}

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

/* Frees a slot of the two full pairs. NULL: everything in them is pinned. */
static sm_u64 *displace_coldest(struct lr_view *view, const struct pairs_of *both) {
    for (unsigned attempt = 0; attempt < SM_PAIR_SLOTS; attempt++) {
        sm_u64 *victim = NULL;
        struct lr_head victim_head = {0};
        uint64_t victim_word = 0, best = UINT64_MAX;
        for (unsigned i = 0; i < 2 * SM_PAIR_SLOTS; i++) {
            sm_u64 *slot = &both->pair[i / SM_PAIR_SLOTS][i % SM_PAIR_SLOTS];
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

static sm_u64 *empty_in(sm_u64 *pair, unsigned home) {
    for (unsigned i = 0; i < SM_PAIR_SLOTS; i++)
        if (lr_load(&pair[(home + i) % SM_PAIR_SLOTS]) == 0)
            return &pair[(home + i) % SM_PAIR_SLOTS];
    return NULL;
}

static sm_u64 *empty_slot(struct lr_view *view, uint64_t place) {
    const unsigned home = lr_place_line(place) * (SM_PAIR_SLOTS / 2);
    struct pairs_of both = pairs_of(view, lr_placing(place));
    sm_u64 *slot = empty_in(both.pair[0], home);
    return slot != NULL ? slot : empty_in(both.pair[1], home);
}

sm_u64 *lr_index_room(struct lr_view *view, uint64_t place, bool may_evict) {
    sm_u64 *slot = empty_slot(view, place);
    if (slot != NULL || !may_evict)
        return slot;
    struct pairs_of both = pairs_of(view, lr_placing(place));
    return displace_coldest(view, &both);
}

/* Moves a word from its slot to an empty one, or to one where a dead holder had put it already. */
static void move_word(struct lr_view *view, sm_u64 *old, sm_u64 *target, bool count) {
    uint64_t word = atomic_load_explicit(old, memory_order_acquire);
    while (!(word & SM_SLOT_MOVED) &&
           !atomic_compare_exchange_weak_explicit(old, &word, word | SM_SLOT_MOVED, memory_order_acq_rel,
                                                  memory_order_acquire)) {
    }
    if (lr_load(target) == 0)
        /* ORDER(entry) publish: the word under its new address. */
        atomic_store_explicit(target, word & ~SM_SLOT_MOVED, memory_order_release);
    if (count)
        atomic_store_explicit(&view->stripe->split, lr_load(&view->stripe->split) + SM_MOVES_ONE, memory_order_release);
    for (;;) {
        /* ORDER(moved) publish: the new word stands before we look whether somebody killed the old one. */
        atomic_thread_fence(memory_order_seq_cst);
        uint64_t now = atomic_load_explicit(old, memory_order_acquire);
        if (now & SM_SLOT_DEAD)
            atomic_fetch_or_explicit(target, SM_SLOT_DEAD, memory_order_acq_rel);
        if (atomic_compare_exchange_strong_explicit(old, &now, 0, memory_order_acq_rel, memory_order_relaxed))
            return;
    }
}

/* The slot of `pair` that names the same block as `word`, else an empty one, else NULL. */
static sm_u64 *target_in(sm_u64 *pair, uint64_t word) {
    sm_u64 *empty = NULL;
    for (unsigned i = 0; i < SM_PAIR_SLOTS; i++) {
        uint64_t there = lr_load(&pair[i]);
        if (there != 0 && lr_slot_off(there) == lr_slot_off(word))
            return &pair[i];
        if (there == 0 && empty == NULL)
            empty = &pair[i];
    }
    return empty;
}

static void move_words(struct lr_view *view, uint32_t pairs) {
    sm_u64 *partner = lr_pair_at(view->data, lr_split_partner(pairs)), *fresh = lr_pair_at(view->data, pairs);
    for (unsigned i = 0; i < SM_PAIR_SLOTS; i++) {
        uint64_t word = atomic_load_explicit(&partner[i], memory_order_acquire);
        struct lr_head head;
        if (word == 0 || !lr_head_read(view->cache, view->data, lr_slot_off(word), &head))
            continue;
        if (lr_belongs((uint32_t)(head.identity >> 32), lr_split_partner(pairs), pairs + 1))
            continue;
        sm_u64 *target = target_in(fresh, word);
        if (target != NULL) /* always, but in a damaged stripe */
            move_word(view, &partner[i], target, false);
    }
    /* COMMIT POINT: before, readers look in both pairs; after, in one, where every word stands. ORDER(split) publish:
     * the words. */
    atomic_store_explicit(&view->stripe->split, (lr_load(&view->stripe->split) & ~SM_SPLITTING) + 1,
                          memory_order_release);
    lr_tally(view, LR_S_splits, 1);
}

/* A cuckoo move that a dead holder began: either the word stands in its other pair already, or nothing has happened. */
static void finish_move(struct lr_view *view, uint32_t pair, sm_u64 *slot) {
    uint64_t word = lr_load(slot);
    struct lr_head head;
    if (!(word & SM_SLOT_MOVED) || !lr_head_read(view->cache, view->data, lr_slot_off(word), &head))
        return;
    struct pairs_of both = pairs_of(view, (uint32_t)(head.identity >> 32));
    sm_u64 *other = both.pair[0] == lr_pair_at(view->data, pair) ? both.pair[1] : both.pair[0];
    sm_u64 *target = other == lr_pair_at(view->data, pair) ? NULL : target_in(other, word);
    if (target != NULL && lr_load(target) != 0)
        move_word(view, slot, target, true);
    else
        atomic_fetch_and_explicit(slot, ~SM_SLOT_MOVED, memory_order_acq_rel);
}

void lr_index_finish_moves(struct lr_view *view) {
    uint64_t split = lr_load(&view->stripe->split);
    if (split & SM_SPLITTING)
        move_words(view, (uint32_t)split);
    for (uint32_t pair = 0; pair < lr_pairs(view); pair++)
        for (unsigned i = 0; i < SM_PAIR_SLOTS; i++)
            finish_move(view, pair, &lr_pair_at(view->data, pair)[i]);
}

static bool add_pair(struct lr_view *view) {
    const uint64_t pairs = lr_pairs(view), stripe_bytes = view->cache->geometry.stripe_bytes;
    uint64_t border = lr_load(&view->stripe->border_off);
    if ((pairs + 1) * SM_PAIR_BYTES > border) {
        uint64_t step = (border / 32 + 4095) & ~UINT64_C(4095);
        if (border + step > stripe_bytes / 5 * 2 || !lr_arena_raise_border(view, step))
            return false;
    }
    sm_u64 *fresh = lr_pair_at(view->data, (uint32_t)pairs);
    view->hand_moved = true;
    for (unsigned i = 0; i < SM_PAIR_SLOTS; i++)
        lr_store(&fresh[i], 0);
    /* COMMIT POINT: before, nobody looks at the new pair; after, readers of the partner do, and a repairer finishes the
     * split. */
    atomic_store_explicit(&view->stripe->split, lr_load(&view->stripe->split) | SM_SPLITTING, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    move_words(view, (uint32_t)pairs);
    return true;
}

void lr_index_grow(struct lr_view *view) {
    for (unsigned i = 0; i < GROW_STEPS; i++) {
        uint64_t entries = lr_load(&view->stripe->items) + lr_load(&view->stripe->tombstones);
        if (entries <= (uint64_t)lr_pairs(view) * GROW_ABOVE || !add_pair(view))
            return;
    }
}

/*
 * Moves some word of the pair to its other pair, if that has a higher number (lower, for `down`), and room or (once)
 * can make room in the same way.
 */
static bool push(struct lr_view *view, sm_u64 *pair, bool down, unsigned depth) {
    for (unsigned i = 0; i < SM_PAIR_SLOTS; i++) {
        uint64_t word = atomic_load_explicit(&pair[i], memory_order_acquire);
        struct lr_head head;
        if (word == 0 || !lr_head_read(view->cache, view->data, lr_slot_off(word), &head))
            continue;
        struct pairs_of both = pairs_of(view, (uint32_t)(head.identity >> 32));
        sm_u64 *other = both.pair[0] == pair ? both.pair[1] : both.pair[0];
        if (other == pair || (other < pair) != down)
            continue;
        sm_u64 *target = empty_in(other, 0);
        if (target == NULL && depth > 0 && push(view, other, false, depth - 1))
            target = empty_in(other, 0);
        if (target == NULL)
            continue;
        if (down) /* ORDER(moves-down) publish: before the word leaves its place. */
            atomic_fetch_add_explicit(&view->stripe->moves_down, 1, memory_order_acq_rel);
        move_word(view, &pair[i], target, true);
        return true;
    }
    return false;
}

void lr_index_prepare(struct lr_view *view, uint64_t place) {
    for (unsigned i = 0; i < GROW_AT_ONCE && empty_slot(view, place) == NULL; i++) {
        struct pairs_of both = pairs_of(view, lr_placing(place));
        if (push(view, both.pair[0], false, 1) || push(view, both.pair[1], false, 1) ||
            push(view, both.pair[0], true, 0) || push(view, both.pair[1], true, 0) || !add_pair(view))
            return;
    }
}
