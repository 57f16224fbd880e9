/* SPDX-License-Identifier: MIT */
/*
 * Entries: how does an item or a tombstone come to be, get replaced, and go?
 *
 *   room (arena.c) -> fill: header, key, value in bytes that nobody can reach -> publish: one CAS of the slot word ->
 * free what it replaced
 *
 * What goes leaves a trace, because evictions are local and replicas must never fall back:
 *  1. The range's floor rises to an entry's version before the entry goes, whatever the reason: an older value of an
 * absent key is never accepted again.
 *  2. An entry that goes by itself (evicted, expired) before every peer has it leaves a keyless tombstone in its slot,
 * so that those who hold an older value learn of it. Its version is one below the entry's: who holds that very value
 * holds the newest, and keeps it. Where there is no room for a tombstone, the range's void rises instead (voids.c).
 * What a flush took needs neither: the flush reaches everybody.
 *  3. What goes since a peer may have forgotten something newer (its void, sidecar/settle.c) is no exception: those who
 * hold an older value may have been spared by that peer, which then knew the key. The tombstone bears the void's
 * version, up to which nobody can tell what was newest.
 *  4. A version is drawn under the stripe's lock: above all that the stripe has drawn, heard of or flushed. 42 bits of
 * milliseconds, 12 of counter (whose overflow carries into the milliseconds), 10 of origin: a hybrid logical clock (S.
 * Kulkarni et al., 2014).
 */
#include "bucket.h"
#include "stripe.h"

#define TOMB_SHARE 20u    /* tombstones take at most a twentieth of a stripe */
#define TRIM_BUCKETS 128u /* buckets that one trim looks at */

static bool is_replicating(const struct lr_view *view) {
    return atomic_load_explicit(&view->cache->header->replicating, memory_order_relaxed) != 0;
}

uint64_t lr_version_peek(struct lr_view *view) {
    struct sm_header *header = view->cache->header;
    uint64_t tick = lr_wall_2020_ms() << (SM_VERSION_MS_SHIFT - SM_VERSION_ORIGIN_BITS);
    uint64_t seen = (lr_load(&view->stripe->clock) >> SM_VERSION_ORIGIN_BITS) + 1;
    uint64_t flushed =
        (atomic_load_explicit(&header->flush_version, memory_order_acquire) >> SM_VERSION_ORIGIN_BITS) + 1;
    tick = tick > seen ? tick : seen;
    tick = tick > flushed ? tick : flushed;
    return tick << SM_VERSION_ORIGIN_BITS | (atomic_load_explicit(&header->origin, memory_order_relaxed) & 0x3ffu);
}

uint64_t lr_version_draw(struct lr_view *view) {
    uint64_t version = lr_version_peek(view);
    lr_store(&view->stripe->clock, version);
    return version;
}

bool lr_entry_unshipped(struct lr_view *view, const struct lr_head *head) {
    return is_replicating(view) && lr_head_kind(head) != LR_LOCAL && !lr_is_flushed(view->cache, head->version) &&
           lr_epoch_after(view->cache, view->number, lr_head_epoch(head),
                          lr_epoch_get_acked(view->cache, view->number));
}

/* ---- marks -------------------------------------------------------------------------------------------------- */

static sm_u64 *mark_row(const struct lr_view *view, uint64_t hash) {
    return &view->stripe->marks_void[lr_mark_row(hash)];
}

void lr_marks_end(struct lr_view *view, uint64_t hash) {
    if (lr_load(&view->stripe->marked) == 0)
        return;
    lr_arena_incarnation(view); /* later marks must not be taken for this one */
    lr_raise(mark_row(view, hash), lr_load(&view->stripe->incarnation));
}

void lr_marks_end_all(struct lr_view *view) {
    if (lr_load(&view->stripe->marked) == 0)
        return;
    lr_arena_incarnation(view);
    for (unsigned i = 0; i < SM_MARK_ROWS; i++)
        lr_raise(&view->stripe->marks_void[i], lr_load(&view->stripe->incarnation));
}

uint64_t lr_head_turn(const struct lr_view *view, const struct lr_head *head) {
    const uint64_t now = lr_load(&view->stripe->incarnation);
    return now - (uint32_t)((uint32_t)now - (uint32_t)head->identity);
}

/* ---- making ------------------------------------------------------------------------------------------------- */

uint64_t lr_entry_size(const struct lr_making *making) {
    uint64_t size = sizeof(struct sm_block) + (making->deadline_ms != UINT64_MAX ? 8u : 0u) +
                    (making->flags != 0 ? 4u : 0u) + (making->tombstone ? 8u : making->key->len + making->value_len);
    size = (size + SM_GRANULE - 1) & ~(uint64_t)(SM_GRANULE - 1);
    return size < SM_MIN_BLOCK ? SM_MIN_BLOCK : size;
}

/* A block's word of an entry that is not SHARED. */
static __attribute__((noinline)) uint64_t with_kind(const struct lr_view *view, const struct lr_making *making,
                                                    uint64_t word) {
    const uint64_t mask = (UINT64_C(1) << SM_BLOCK_EPOCH_BITS) - 1u;
    if (making->shipped) {
        word &= ~(mask << SM_BLOCK_EPOCH_SHIFT);
        word |= (lr_epoch_get_acked(view->cache, view->number) & mask) << SM_BLOCK_EPOCH_SHIFT;
    }
    return word | (uint64_t)making->kind << SM_BLOCK_KIND_SHIFT;
}

uint64_t lr_entry_fill(struct lr_view *view, const struct lr_room *room, const struct lr_making *making) {
    const struct lr_key *key = making->key;
    uint64_t parts = (making->deadline_ms != UINT64_MAX ? SM_PART_EXPIRY : 0u) |
                     (making->flags != 0 ? SM_PART_FLAGS : 0u) | (making->tombstone ? SM_PART_TOMB : 0u);
    uint64_t used = sizeof(struct sm_block) + (parts & SM_PART_EXPIRY ? 8u : 0u) + (parts & SM_PART_FLAGS ? 4u : 0u) +
                    (making->tombstone ? 8u : key->len + making->value_len);
    uint64_t epoch =
        atomic_load_explicit(&view->stripe->epoch, memory_order_relaxed) & ((1u << SM_BLOCK_EPOCH_BITS) - 1u);
    uint64_t word = (room->size / SM_GRANULE) | ((uint64_t)SM_BLOCK_LIVE << SM_BLOCK_STATE_SHIFT) |
                    (parts << SM_BLOCK_PARTS_SHIFT) | ((room->size - used) << SM_BLOCK_PAD_SHIFT) |
                    (epoch << SM_BLOCK_EPOCH_SHIFT) |
                    (making->tombstone ? 0 : (uint64_t)(key->len - 1) << SM_BLOCK_KEY_SHIFT);
    if (making->kind != LR_SHARED)
        word = with_kind(view, making, word);
    uint32_t incarnation = lr_arena_incarnation(view);
    lr_arena_claim(view, room, word, ((uint64_t)lr_placing(key->place) << 32) | incarnation, making->version);
    uint8_t *at = view->data + room->off + sizeof(struct sm_block);
    if (parts & SM_PART_EXPIRY) {
        lr_store((sm_u64 *)(void *)at, making->deadline_ms);
        at += 8;
    }
    if (parts & SM_PART_FLAGS) {
        atomic_store_explicit((sm_u32 *)(void *)at, making->flags, memory_order_relaxed);
        at += 4;
    }
    if (making->tombstone) {
        lr_store((sm_u64 *)(void *)at, key->hash);
    } else {
        lr_bytes_in(at, key->bytes, key->len);
        if (making->keep_value)
            lr_bytes_move(at + key->len, making->value, making->value_len);
        else
            lr_bytes_in(at + key->len, making->value, making->value_len);
    }
    return lr_place_tag(key->place) | ((uint64_t)(incarnation & 0xffu) << SM_SLOT_INC_SHIFT) |
           (room->off / SM_GRANULE) | ((uint64_t)making->recency << SM_SLOT_RECENCY_SHIFT);
}

void lr_entry_account(struct lr_view *view, const struct lr_head *head, uint64_t hash, int sign) {
    struct sm_stripe *stripe = view->stripe;
    const uint64_t one = (uint64_t)(int64_t)sign;
    if (head->tombstone) {
        lr_add(&stripe->tombstones, one);
        return;
    }
    lr_add(&stripe->items, one);
    lr_add(&stripe->item_bytes, one * head->size);
    lr_add(&stripe->payload_bytes, one * ((uint64_t)head->key_len + head->value_len));
    if (head->parts & SM_PART_EXPIRY)
        lr_add(&stripe->ttl_items, one);
    if (lr_head_kind(head) == LR_SHARED) /* hosts compare what they share only */
        lr_add(&stripe->range_sum[lr_range_of(hash)], one * lr_range_term(hash, head->version));
}

/* The new word over the old one, with the old one's count, unless it is to start afresh. ESTALE: a delete without the
 * lock was faster. EBUSY: the word does not stand still (LR_WORD_TRIES). Then nothing has changed. */
static int replace_word(struct lr_view *view, struct lr_found *old, uint64_t word, const struct lr_making *making) {
    for (unsigned tries = 0; tries < LR_WORD_TRIES; tries++) {
        if (old->word & SM_SLOT_DEAD)
            return LARDER_ESTALE;
        unsigned recency = lr_slot_recency(making->fresh ? word : old->word);
        if (making->access && !making->fresh)
            recency = lr_recency_used(view, old->word);
        uint64_t named = (word & ~SM_SLOT_RECENCY_MASK) | (uint64_t)recency << SM_SLOT_RECENCY_SHIFT;
        LR_CRASH_POINT("replace, before");
        /* COMMIT POINT: before, every reader finds the old value; after, the new one. ORDER(entry) publish: the block's
         * bytes. */
        if (atomic_compare_exchange_strong_explicit(old->slot, &old->word, named, memory_order_acq_rel,
                                                    memory_order_acquire)) {
            LR_CRASH_POINT("replace, after");
            return 0;
        }
    }
    return LARDER_EBUSY;
}

int lr_entry_publish(struct lr_view *view, struct lr_found *old, uint64_t word, const struct lr_room *room,
                     const struct lr_making *making, bool may_evict) {
    struct lr_head head;
    if (view->hand_moved)
        *old = lr_index_find(view, making->key);
    if (!lr_head_read(view->cache, view->data, room->off, &head)) { /* two blocks in one place: a damaged stripe */
        view->damaged = true;
        return LARDER_ECORRUPT;
    }
    if (old->slot != NULL) {
        int error = replace_word(view, old, word, making);
        if (error != 0) {
            lr_arena_free(view, room->off, room->size);
            return error;
        }
        lr_entry_account(view, &old->head, making->key->hash, -1);
        lr_entry_account(view, &head, making->key->hash, 1);
        lr_arena_release(view, old->word, &old->head);
        return 0;
    }
    sm_u64 *slot = lr_index_room(view, making->key->place, may_evict);
    if (slot == NULL) {
        lr_arena_free(view, room->off, room->size);
        return may_evict ? LARDER_EPINNED : LARDER_EFULL;
    }
    LR_CRASH_POINT("new key, before");
    /* COMMIT POINT: before, no reader finds the key; after, all do. ORDER(entry) publish: the block's bytes. */
    atomic_store_explicit(slot, word, memory_order_release);
    LR_CRASH_POINT("new key, after");
    lr_entry_account(view, &head, making->key->hash, 1);
    return 0;
}

/* One more tombstone would take them beyond so many quarters of their share. */
static bool tombstones_beyond(const struct lr_view *view, unsigned quarters) {
    return (lr_load(&view->stripe->tombstones) + 1) * SM_MIN_BLOCK * 4 >
           view->cache->geometry.stripe_bytes / TOMB_SHARE * quarters;
}

/*
 * What is evicted from now on may need a tombstone: when their share is three quarters full, those that every peer has
 * make way, young or not. Without them the range would raise its void, at the price of what peers hold. Now and then
 * only, before much of the last quarter can be gone: with a peer away, there may be none to drop.
 */
static void trim_ahead(struct lr_view *view) {
    if (!tombstones_beyond(view, 3))
        return;
    const uint64_t puts = view->cache->geometry.stripe_bytes / TOMB_SHARE / SM_MIN_BLOCK / 16;
    const unsigned every = (unsigned)(puts < TRIM_BUCKETS ? puts : TRIM_BUCKETS) | 1u; /* odd: no stride misses it */
    if (lr_load(&view->stripe->incarnation) % every == 0 && lr_sweep_buckets(view, every, 0) > 0)
        view->hand_moved = true;
}

int lr_entry_store(struct lr_view *view, struct lr_found *old, const struct lr_making *making, enum lr_room_how how) {
    struct lr_room room;
    view->hand_moved = false;
    /* First of all, since making way for the index may evict: what is stored below must not be what goes. */
    view->keep_all = how == LR_ROOM_FREE;
    trim_ahead(view);
    const uint64_t size = lr_entry_size(making);
    lr_index_fit(view, size);
    if (old->slot == NULL)
        lr_index_prepare(view, making->key->place);
    if (view->hand_moved)
        *old = lr_index_find(view, making->key);
    const struct lr_plan plan = lr_policy_plan(view, old, making, size);
    int error = lr_policy_room(view, &plan, size, old->slot ? old->head.off : 0, how, &room);
    if (error != 0)
        return error;
    struct lr_making placed = *making;
    placed.recency = plan.recency;
    placed.fresh = plan.fresh;
    if (making->keep_value) {
        if (view->hand_moved)
            *old = lr_index_find(view, making->key);
        /* Another length: a damaged stripe had the key twice. */
        if (old->slot == NULL || old->head.tombstone || old->head.value_len != making->value_len)
            return LARDER_ENOT_FOUND;
        view->hand_moved = false;
        placed.value = view->data + old->head.off + old->head.key_at + old->head.key_len;
    }
    /* A hole may lie right before main's hand: a new item there gets a first chance. */
    if (!room.from_gap && placed.recency == 0 && placed.access && !plan.large &&
        lr_region_at(view, room.off) == LR_MAIN)
        placed.recency = lr_recency_max(view->cache) > 0 ? 1 : 0;
    uint64_t word = lr_entry_fill(view, &room, &placed);
    bool may_evict = how == LR_ROOM_EVICT && view->cache->geometry.policy != LR_POLICY_none;
    error = lr_entry_publish(view, old, word, &room, &placed, may_evict);
    if (error == 0 && how == LR_ROOM_EVICT)
        lr_policy_stored(view, &plan, making->key->place, room.off);
    return error;
}

/* ---- going -------------------------------------------------------------------------------------------------- */

static bool tombstones_full(const struct lr_view *view) {
    return tombstones_beyond(view, 4);
}

/* A tombstone for an entry that goes unshipped, in free room only. False: none. */
static bool fill_trace(struct lr_view *view, uint64_t place_hash, uint64_t version, enum lr_kind kind,
                       struct lr_room *room, uint64_t *word) {
    struct lr_key key = lr_key_of_hash(view->cache, place_hash);
    struct lr_making making = {
        .key = &key, .version = version, .deadline_ms = UINT64_MAX, .tombstone = true, .kind = kind};
    if (tombstones_full(view) || (!lr_arena_find(view, LR_MAIN, SM_MIN_BLOCK, 0, room) &&
                                  !lr_arena_find(view, LR_PROBATION, SM_MIN_BLOCK, 0, room)))
        return false;
    *word = lr_entry_fill(view, room, &making);
    return true;
}

static void tally_forgotten(struct lr_view *view, const struct lr_head *head, enum lr_forget_why why) {
    if (why == LR_FORGET_EVICT || why == LR_FORGET_DISPLACE || why == LR_FORGET_LARGE) {
        lr_tally(view, LR_S_evictions, 1);
        lr_policy_evicted(view, head->size);
    } else if (why == LR_FORGET_EXPIRE) {
        lr_tally(view, LR_S_expirations, 1);
    }
}

/*
 * The entry's word out of its slot, `trace` (0 or a tombstone's word) in; *seen is what stood there last. False: it was
 * pinned meanwhile and must yield to that (or does not stand still: LR_WORD_TRIES); nothing has changed.
 */
static bool take_out(sm_u64 *slot, uint64_t *seen, uint64_t trace, bool yields) {
    if (!yields) {
        *seen = atomic_exchange_explicit(slot, trace, memory_order_acq_rel);
        return true;
    }
    for (unsigned tries = 0; tries < LR_WORD_TRIES; tries++) {
        if (atomic_compare_exchange_strong_explicit(slot, seen, trace, memory_order_acq_rel, memory_order_acquire))
            return true;
        if (*seen & SM_SLOT_PINNED)
            return false;
    }
    return false;
}

/* The entry goes: what was read before it came is old. So is what was read before now, if it was deleted. */
static __attribute__((noinline)) void end_marks_before(struct lr_view *view, const struct lr_head *head, uint64_t hash,
                                                       bool deleted) {
    lr_raise(mark_row(view, hash), lr_head_turn(view, head));
    if (deleted)
        lr_marks_end(view, hash);
}

static enum lr_kind told_as(const struct lr_head *head) {
    return lr_head_kind(head) == LR_SHARED ? LR_SHARED : LR_TOLD;
}

/* What goes untold. Of mode invalidate no version says what was newest elsewhere: all that is older than now. */
static uint64_t void_of(struct lr_view *view, const struct lr_head *head) {
    return told_as(head) == LR_SHARED ? head->version - !head->tombstone : lr_version_draw(view);
}

/* Which region its ghost names: what makes way for a giant says nothing of probation's size (policy.c, R4). */
static enum lr_region ghost_region(const struct lr_view *view, uint64_t off, enum lr_forget_why why) {
    if (why == LR_FORGET_LARGE)
        return LR_PROBATION;
    return view->makes_way ? LR_MAIN : lr_region_at(view, off);
}

bool lr_entry_forget(struct lr_view *view, sm_u64 *slot, uint64_t word, const struct lr_head *head,
                     enum lr_forget_why why, bool free_block) {
    const uint64_t superseded = head->version - !head->tombstone; /* all that is older than an item, or deleted */
    const uint64_t hash = lr_head_hash(view->data, head);
    const unsigned range = lr_range_of(hash);
    struct lr_room room;
    uint64_t trace = 0;
    bool unshipped = why != LR_FORGET_DELETE && lr_entry_unshipped(view, head), traced = false;
    if (lr_head_kind(head) == LR_SHARED) /* of other keys no values come in */
        lr_raise(&view->stripe->range_floor[range], head->version);
    if (lr_load(&view->stripe->marked) != 0)
        end_marks_before(view, head, hash, why == LR_FORGET_DELETE);
    if (unshipped) {
        lr_tally(view, LR_S_unshipped_evictions, 1);
        if (why != LR_FORGET_DISPLACE && why != LR_FORGET_TOMBSTONE)
            traced = fill_trace(view, hash, superseded, told_as(head), &room, &trace);
        if (!traced)
            lr_void_raise(view, hash, void_of(view, head));
    }
    const bool yields = !free_block || why == LR_FORGET_DISPLACE;
    uint64_t seen = word;
    LR_CRASH_POINT("forget, before");
    /* COMMIT POINT: before, the entry stands, with a floor that does it no harm; after, it is gone, or its tombstone
     * stands. */
    if (!take_out(slot, &seen, trace, yields)) {
        if (traced)
            lr_arena_free(view, room.off, room.size);
        return false;
    }
    LR_CRASH_POINT("forget, after");
    lr_entry_account(view, head, hash, -1);
    if (!head->tombstone) {
        const uint64_t place = lr_place(view->cache, hash);
        lr_shadow_gone(view, place, why == LR_FORGET_DELETE || why == LR_FORGET_EXPIRE);
        if (why != LR_FORGET_DELETE)
            lr_policy_remember(view, place, ghost_region(view, head->off, why));
    }
    if (traced) {
        lr_add(&view->stripe->tombstones, 1);
        lr_feed_emit(view, hash, superseded);
    }
    tally_forgotten(view, head, why);
    if (free_block)
        lr_arena_release(view, seen, head);
    return true;
}

void lr_tombstones_trim(struct lr_view *view) {
    uint64_t buckets = lr_buckets(view), cursor = lr_load(&view->stripe->sweep_cursor);
    if (!tombstones_full(view))
        return;
    for (unsigned looked = 0; looked < TRIM_BUCKETS && tombstones_full(view); looked++, cursor++) {
        sm_u64 *bucket = lr_bucket_at(view, (uint32_t)(cursor % buckets));
        for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
            struct lr_head head;
            uint64_t word = atomic_load_explicit(&bucket[i], memory_order_acquire);
            if (!lr_slot_is_empty(word) && lr_head_read(view->cache, view->data, lr_slot_off(word), &head) &&
                head.tombstone)
                lr_entry_forget(view, &bucket[i], word, &head, LR_FORGET_TOMBSTONE, true);
        }
    }
    view->hand_moved = true;
    lr_store(&view->stripe->sweep_cursor, cursor % buckets);
}

/* A tombstone in the entry's place, if that takes nothing else away. */
static bool lay_trace(struct lr_view *view, const struct lr_key *key, struct lr_found *found, uint64_t version) {
    struct lr_making making = {
        .key = key, .version = version, .deadline_ms = UINT64_MAX, .tombstone = true, .kind = told_as(&found->head)};
    if (found->head.tombstone && found->head.version == version)
        return true;
    if ((tombstones_full(view) && !found->head.tombstone) || lr_entry_store(view, found, &making, LR_ROOM_FREE) != 0)
        return false;
    lr_feed_emit(view, key->hash, version);
    return true;
}

void lr_firm_raise(struct lr_view *view, unsigned range, uint64_t version) {
    sm_u64 *word = &view->stripe->range_firm[range];
    uint64_t now = lr_load(word);
    while (now < version &&
           !atomic_compare_exchange_weak_explicit(word, &now, version, memory_order_relaxed, memory_order_relaxed)) {
    }
}

void lr_floor_firm(struct lr_view *view, unsigned range, uint64_t version) {
    lr_raise(&view->stripe->range_floor[range], version);
    lr_firm_raise(view, range, version);
}

void lr_entry_yield(struct lr_view *view, const struct lr_key *key, uint64_t version, uint64_t superseded) {
    struct lr_found found = lr_index_find(view, key);
    lr_floor_firm(view, lr_range_of(key->hash), version);
    if (found.slot == NULL || found.head.version > version || lr_head_kind(&found.head) == LR_LOCAL)
        return;
    const bool unshipped = lr_entry_unshipped(view, &found.head);
    if (unshipped && lay_trace(view, key, &found, superseded))
        return;
    found = lr_index_find(view, key);
    if (found.slot == NULL)
        return;
    if (unshipped)
        lr_void_raise(view, key->hash, void_of(view, &found.head));
    lr_entry_forget(view, found.slot, found.word, &found.head, LR_FORGET_DELETE, true);
}

/* ---- deleting ----------------------------------------------------------------------------------------------- */

static bool was_live(const struct lr_view *view, const struct lr_found *old) {
    return old->slot != NULL && !old->head.tombstone && !lr_head_gone(view->cache, view->data, &old->head);
}

bool lr_entry_bury(struct lr_view *view, const struct lr_key *key, uint64_t version, enum lr_kind kind) {
    struct lr_found old = lr_index_find(view, key);
    const bool live = was_live(view, &old);
    if (!is_replicating(view) || kind == LR_LOCAL) {
        if (old.slot != NULL && !old.head.tombstone)
            lr_entry_forget(view, old.slot, old.word, &old.head, LR_FORGET_DELETE, true);
        else
            lr_marks_end(view, key->hash);
        return live;
    }
    lr_tombstones_trim(view);
    if (view->hand_moved)
        old = lr_index_find(view, key);
    struct lr_making making = {
        .key = key, .version = version, .deadline_ms = UINT64_MAX, .tombstone = true, .kind = kind};
    if (tombstones_full(view) || lr_entry_store(view, &old, &making, LR_ROOM_EVICT) != 0) {
        /* No tombstone: the range forgets all that is older, here and, by the void, at the peers. */
        lr_raise(&view->stripe->range_floor[lr_range_of(key->hash)], version);
        lr_void_raise(view, key->hash, kind == LR_SHARED ? version : lr_version_draw(view));
        old = lr_index_find(view, key);
        if (old.slot != NULL)
            lr_entry_forget(view, old.slot, old.word, &old.head, LR_FORGET_DELETE, true);
        else
            lr_marks_end(view, key->hash);
    }
    lr_feed_emit(view, key->hash, version);
    return live;
}

bool lr_entry_lay(struct lr_view *view, const struct lr_key *key, struct lr_found *old, uint64_t version) {
    struct lr_making making = {
        .key = key, .version = version, .deadline_ms = UINT64_MAX, .tombstone = true, .kind = LR_SHARED};
    if (tombstones_beyond(view, 2) || lr_entry_store(view, old, &making, LR_ROOM_FREE) != 0)
        return false;
    lr_feed_emit(view, key->hash, version);
    return true;
}

/* Whether the generation that claimed the note is over: then nothing was promised by it, and it writes no more. */
static bool is_abandoned(const struct lr_view *view, uint64_t owner) {
    uint32_t slot = lr_owner_slot(owner);
    if (slot >= view->cache->geometry.participants)
        return true;
    /* ORDER(generation) observe: a note whose owner is over shows all that they ever stored in it. */
    uint64_t now = atomic_load_explicit(&view->cache->participants[slot].generation, memory_order_acquire);
    return (now & SM_GENERATION_MASK) != lr_owner_generation(owner);
}

/* The note has no key to look up its mode by, and its entry is mostly gone: `told` says whether it is invalidate. */
static void delete_noted(struct lr_view *view, const struct lr_key *key, uint64_t version, bool told) {
    const struct lr_found old = lr_index_find(view, key);
    const enum lr_kind kind = old.slot != NULL ? lr_head_kind(&old.head) : LR_SHARED;
    if (old.slot == NULL || old.head.version <= version)
        lr_entry_bury(view, key, version, told || kind == LR_FILL ? LR_TOLD : kind);
}

void lr_notes_settle(struct lr_view *view) {
    /* All that are claimed, pending or not: somebody may have died between the two. */
    for (unsigned i = 0; i < SM_NOTES; i++) {
        struct sm_note *note = &view->stripe->notes[i];
        uint64_t owner = lr_load(&note->owner);
        if (owner == 0)
            continue;
        bool abandoned = is_abandoned(view, owner);
        /* ORDER(note) observe: hash and version of a valid note. Only now: of one that is abandoned it is the last
         * word. */
        owner = atomic_load_explicit(&note->owner, memory_order_acquire);
        if (owner & SM_NOTE_VALID) {
            struct lr_key key = lr_key_of_hash(view->cache, lr_load(&note->hash));
            uint64_t version = lr_load(&note->version);
            lr_raise(&view->stripe->clock, version);
            if (version == 0)
                lr_marks_end(view, key.hash);
            else
                delete_noted(view, &key, version, (owner & SM_NOTE_TOLD) != 0);
        } else if (!abandoned) {
            continue; /* being written */
        }
        /* The bit first: a note that is used again right after it is free sets it anew. */
        atomic_fetch_and_explicit(&view->stripe->notes_pending, ~(1u << i), memory_order_acq_rel);
        LR_CRASH_POINT("note settled, before");
        /* COMMIT POINT: before, the next holder settles it again, which changes nothing; after, it is free. */
        atomic_store_explicit(&note->owner, 0, memory_order_release);
        LR_CRASH_POINT("note settled, after");
    }
}
