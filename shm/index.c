/* SPDX-License-Identifier: MIT */
/*
 * The index: from a key to the one word that says whether it is there.
 *
 *   pair p:  | 8 slot words | 8 slot words |      two neighbouring cache lines, one hash bucket; pairs 0 .. n-1 from
 * the stripe's start
 *
 * A key's words lie in one pair, in its home line first. The index grows by linear hashing, a pair at a time: pair n
 * takes its keys from its partner p. `split` in the stripe's control block is {n, splitting}:
 *
 *   {n}  ->  pair n is zeroed  ->  {n, splitting}  ->  words move p -> n, one by one  ->  {n + 1}
 *
 * and for each word: CAS `moved` in the old slot -> store the word in the new one -> full fence -> load the old word
 * again (dead? CAS dead in the new) -> clear the old. Readers who see `splitting` look in p, then in n: a word leaves p
 * only after it stands in n.
 *
 * Rules:
 *  1. The holder changes a used slot by CAS from the word that it saw, because readers set `pinned` and recency, and
 * deleters without the lock set `dead`, at any time. `dead` is never lost.
 *  2. A used pair's memory stays index memory for ever.
 *  3. A full pair gives up its coldest entry that nobody pins. Fullness makes the index grow (lr_index_grow).
 */
#include "stripe.h"

#define GROW_STEPS 2u
/* Entries per pair of 16 slots: above the first it grows whenever a pair was full, above the second always. */
#define GROW_IF_FULL 9u
#define GROW_ALWAYS 12u

struct lr_found lr_index_find(struct lr_view *view, const struct lr_key *key) {
    struct lr_found found = {0};
    const uint64_t tag = lr_place_tag(key->place);
    sm_u64 *pair = lr_pair_at(view->data, lr_pair_of(lr_placing(key->place), lr_pairs(view)));
    for (unsigned i = 0; i < SM_PAIR_SLOTS; i++) {
        sm_u64 *slot = &pair[i];
        /* ORDER(entry) observe: the block's bytes, whoever wrote them. */
        uint64_t word = atomic_load_explicit(slot, memory_order_acquire);
        if (word == 0)
            continue;
        struct lr_head head;
        if ((word & SM_SLOT_TAG_MASK) != tag && !(word & SM_SLOT_DEAD))
            continue;
        if (!lr_head_read(view->cache, view->data, lr_slot_off(word), &head) || !lr_head_matches(&head, word)) {
            lr_count(view->cache, LR_C_corrupt_seen);
            continue;
        }
        if (word & SM_SLOT_DEAD) {
            lr_entry_forget(view, slot, word, &head, LR_FORGET_DELETE, true);
            continue;
        }
        if ((uint32_t)(head.identity >> 32) != lr_placing(key->place))
            continue;
        const uint8_t *own = view->data + head.off + head.key_at;
        bool same = head.tombstone ? lr_head_tomb_hash(view->data, &head) == key->hash
                    : key->bytes   ? head.key_len == key->len && memcmp(own, key->bytes, key->len) == 0
                                   : lr_hash_key(own, head.key_len) == key->hash;
        if (same) {
            found = (struct lr_found){.slot = slot, .word = word, .head = head};
            return found;
        }
    }
    return found;
}

sm_u64 *lr_index_slot_of(struct lr_view *view, uint32_t placing, uint64_t off, uint64_t *word) {
    sm_u64 *pair = lr_pair_at(view->data, lr_pair_of(placing, lr_pairs(view)));
    for (unsigned i = 0; i < SM_PAIR_SLOTS; i++) {
        *word = atomic_load_explicit(&pair[i], memory_order_acquire);
        if (*word != 0 && lr_slot_off(*word) == off)
            return &pair[i];
    }
    return NULL;
}

/* Frees a slot of a full pair. NULL: everything in it is pinned. */
static sm_u64 *displace_coldest(struct lr_view *view, sm_u64 *pair) {
    for (unsigned attempt = 0; attempt < SM_PAIR_SLOTS; attempt++) {
        sm_u64 *victim = NULL;
        struct lr_head victim_head = {0};
        uint64_t victim_word = 0, best = UINT64_MAX;
        for (unsigned i = 0; i < SM_PAIR_SLOTS; i++) {
            uint64_t word = atomic_load_explicit(&pair[i], memory_order_acquire);
            struct lr_head head;
            if (word == 0)
                return &pair[i];
            if (!lr_head_read(view->cache, view->data, lr_slot_off(word), &head))
                continue;
            /* Gone before cold before hot; tombstones last, the oldest of them first; a flag that says pinned may be
             * out of date. */
            uint64_t rank = (word & SM_SLOT_DEAD)                          ? 0
                            : head.tombstone                               ? 1000 + (head.version >> 10)
                            : lr_head_gone(view->cache, view->data, &head) ? 1
                                                                           : 2 + lr_slot_recency(word);
            if ((word & SM_SLOT_PINNED) &&
                lr_hazard_held(view->cache, lr_hazard_of(view->cache, view->data, head.off), view))
                continue;
            if (rank < best) {
                best = rank;
                victim = &pair[i];
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

sm_u64 *lr_index_room(struct lr_view *view, uint64_t place, bool may_evict) {
    sm_u64 *pair = lr_pair_at(view->data, lr_pair_of(lr_placing(place), lr_pairs(view)));
    const unsigned home = lr_place_line(place) * (SM_PAIR_SLOTS / 2);
    for (unsigned i = 0; i < SM_PAIR_SLOTS; i++) {
        sm_u64 *slot = &pair[(home + i) % SM_PAIR_SLOTS];
        if (lr_load(slot) == 0)
            return slot;
    }
    view->pair_was_full = true;
    return may_evict ? displace_coldest(view, pair) : NULL;
}

/* Moves one word of the partner into the new pair. */
static void move_word(struct lr_view *view, sm_u64 *old, sm_u64 *new_pair) {
    uint64_t word = atomic_load_explicit(old, memory_order_acquire);
    while (!(word & SM_SLOT_MOVED) &&
           !atomic_compare_exchange_weak_explicit(old, &word, word | SM_SLOT_MOVED, memory_order_acq_rel,
                                                  memory_order_acquire)) {
    }
    word |= SM_SLOT_MOVED;
    sm_u64 *target = NULL;
    for (unsigned i = 0; i < SM_PAIR_SLOTS; i++) {
        uint64_t there = lr_load(&new_pair[i]);
        if (there != 0 && lr_slot_off(there) == lr_slot_off(word)) { /* a dead holder had come this far */
            target = &new_pair[i];
            break;
        }
        if (there == 0 && target == NULL)
            target = &new_pair[i];
    }
    if (target == NULL) { /* only in a damaged stripe: the word is dropped */
        lr_count(view->cache, LR_C_corrupt_seen);
        lr_store(old, 0);
        return;
    }
    if (lr_load(target) == 0)
        /* ORDER(entry) publish: the word under its new address. */
        atomic_store_explicit(target, word & ~SM_SLOT_MOVED, memory_order_release);
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

static void move_words(struct lr_view *view, uint32_t pairs) {
    sm_u64 *partner = lr_pair_at(view->data, lr_split_partner(pairs)), *fresh = lr_pair_at(view->data, pairs);
    for (unsigned i = 0; i < SM_PAIR_SLOTS; i++) {
        uint64_t word = atomic_load_explicit(&partner[i], memory_order_acquire);
        struct lr_head head;
        if (word == 0 || !lr_head_read(view->cache, view->data, lr_slot_off(word), &head))
            continue;
        if (lr_pair_of((uint32_t)(head.identity >> 32), pairs + 1) == pairs)
            move_word(view, &partner[i], fresh);
    }
    /* COMMIT POINT: before, readers look in both pairs; after, in one, where every word stands. ORDER(split) publish:
     * the words. */
    atomic_store_explicit(&view->stripe->split, pairs + 1, memory_order_release);
    lr_tally(view, LR_S_splits, 1);
}

void lr_index_finish_split(struct lr_view *view) {
    uint64_t split = lr_load(&view->stripe->split);
    if (split & SM_SPLITTING)
        move_words(view, (uint32_t)split);
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
    for (unsigned i = 0; i < SM_PAIR_SLOTS; i++)
        lr_store(&fresh[i], 0);
    /* COMMIT POINT: before, nobody looks at the new pair; after, readers of the partner do, and a repairer finishes the
     * split. */
    atomic_store_explicit(&view->stripe->split, pairs | SM_SPLITTING, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    move_words(view, (uint32_t)pairs);
    return true;
}

void lr_index_grow(struct lr_view *view) {
    for (unsigned i = 0; i < GROW_STEPS; i++) {
        uint64_t pairs = lr_pairs(view), entries = lr_load(&view->stripe->items) + lr_load(&view->stripe->tombstones);
        if (entries <= pairs * GROW_IF_FULL || (entries <= pairs * GROW_ALWAYS && !view->pair_was_full))
            return;
        if (!add_pair(view))
            return;
    }
}
