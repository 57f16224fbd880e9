/* SPDX-License-Identifier: MIT */
/*
 * Changes from other hosts: which of two versions stays?
 *
 * The newer one, always, whatever the order of arrival: every function here is idempotent and commutative. For a key
 * that is absent the range's floors stand in for what was forgotten, since something newer may have been here before:
 *
 *  - What comes from a walk or a comparison (LR_NO_EVICT) is declined at or below the *floor*, the highest version that
 *    this host has forgotten: what was evicted is not taken back, nor something older from a host that was no peer.
 *  - A change that a peer tells for the first time is declined only at or below the *firm floor* and the void. What was
 *    forgotten after every peer had it leaves the firm floor alone: a peer that had something newer of the key would
 *    not tell this. Else each entry that expires, or is evicted, would decline the new keys of a whole range that a
 *    peer put before, and tells late.
 *  - Firm is what was declined, for whoever sent it takes it that we have it, or something newer; a row of a comparison
 *    that stands in place of a walk (lr_lacks) is no exception. And what was let go of because a peer had forgotten
 *    something.
 *
 * Equal versions with different contents (two hosts that shared an origin) are decided by a hash of the content.
 *
 * A key of mode invalidate has an item on each host that asked for it, and none of those is the newest. A change
 * elsewhere is heard of as a tombstone one version below the change's own, and what is here goes, unless it is newer by
 * more than the clocks of hosts may differ (lr_doubt): a miss too many is better than a value that nobody will ever
 * correct. Nor does the one of two changes stand for the other: what was still to be told of ours is told all the same.
 * A relay keeps what it hears, in place of what is here, for those who hear of it by way of us only. That would take
 * two tombstones where one is still to be told already, or is a little newer; then the range forgets all up to now
 * instead, of which those behind us hear as of any void. Versions that a relay keeps of a key only rise, so nothing
 * goes round for ever.
 *
 * A change that cannot be stored (too large here, no room, policy none) still takes the older value away and raises the
 * floor: this host then has nothing, rather than something old.
 */
#include "stripe.h"

/* Whether the void speaks of this key, only its part's bit says, which is far away: most floors are no lower. */
static bool is_void_higher(const struct lr_view *view, unsigned range, sm_u64 *floors) {
    return lr_load(&view->stripe->range_void[range]) > lr_load(&floors[range]);
}

static uint64_t over_void(const struct lr_view *view, uint64_t hash, sm_u64 *floors) {
    const unsigned range = lr_range_of(hash);
    uint64_t void_version = 0;
    if (is_void_higher(view, range, floors)) {
        void_version = lr_void_of(view, hash);
        atomic_thread_fence(memory_order_acquire); /* whoever cleared the bit had raised the firm floor */
    }
    const uint64_t floor = lr_load(&floors[range]);
    return floor > void_version ? floor : void_version;
}

/* A delete that found no free note could raise the void alone (items.c). */
uint64_t lr_floor_of(const struct lr_view *view, uint64_t hash) {
    return over_void(view, hash, view->stripe->range_floor);
}

/*
 * Whether a change of an absent key is declined. The floor may stand for what was evicted long since; that this change
 * was declined is for the firm floor to say, or something that is older still would be taken for new.
 */
static bool is_barred(struct lr_view *view, uint64_t hash, uint64_t version, unsigned apply_flags) {
    const bool walked = (apply_flags & LR_NO_EVICT) != 0;
    const uint64_t bar = over_void(view, hash, walked ? view->stripe->range_floor : view->stripe->range_firm);
    if (version <= bar && walked)
        lr_firm_raise(view, lr_range_of(hash), version);
    return version <= bar;
}

/* The same where there is a tombstone of what is older. Nothing newer was evicted, nor declined; but a peer may have
 * forgotten something newer, and that has raised both floors. */
static bool is_barred_by_both(const struct lr_view *view, uint64_t hash, uint64_t version) {
    return version <= over_void(view, hash, view->stripe->range_floor) &&
           version <= over_void(view, hash, view->stripe->range_firm);
}

static uint64_t content_hash(const void *value, size_t value_len, uint32_t flags) {
    return XXH3_64bits_withSeed(value, value_len, flags);
}

/* Of two entries with one version: 1, the one that comes wins; -1, ours does; 0, they are the same. */
static int compare_tie(struct lr_view *view, const struct lr_head *head, const struct lr_change *change) {
    const uint8_t *value = view->data + head->off + head->key_at + head->key_len;
    uint64_t ours = content_hash(value, head->value_len, lr_head_flags(view->data, head));
    uint64_t theirs = content_hash(change->value, change->value_len, change->flags);
    return (theirs > ours) - (theirs < ours);
}

/* A relay has no room for the change. Those behind it may hold something older, and hear of it from nobody else. */
static void lead_on(struct lr_view *view, const struct lr_key *key, const struct lr_found *found, uint64_t version) {
    lr_floor_firm(view, lr_range_of(key->hash), version);
    if (found->slot != NULL && (found->head.version > version || lr_head_kind(&found->head) == LR_LOCAL ||
                                (found->head.tombstone && found->head.version >= version - 1)))
        return;
    lr_entry_bury(view, key, version - 1, LR_SHARED);
}

/* A relay takes no change up to `version`, for it has forgotten something newer of that range. Those behind it let go
 * of what is older than that, if it has room for a tombstone; of what lies below its void they hear anyway. */
static void hint_at(struct lr_view *view, const struct lr_key *key, struct lr_found *found, uint64_t version) {
    if (lr_is_relay(view->cache) && version > lr_void_of(view, key->hash) &&
        !(found->slot != NULL && found->head.tombstone && found->head.version >= version))
        lr_entry_lay(view, key, found, version);
}

/*
 * The change is not stored: nothing older may stay, nor be accepted later. What a relay is offered for its free room,
 * of a key that it does not have, it tells nobody: a full one would be busy with nothing else.
 */
static int decline(struct lr_view *view, const struct lr_key *key, uint64_t version, unsigned apply_flags) {
    const struct lr_found found = lr_index_find(view, key);
    lr_marks_end(view, key->hash);
    if (lr_is_relay(view->cache) && (found.slot != NULL || !(apply_flags & LR_NO_EVICT)))
        lead_on(view, key, &found, version);
    else
        lr_entry_yield(view, key, version, version - 1);
    return LR_DECLINED;
}

static void emit(struct lr_view *view, uint64_t hash, uint64_t version, struct lr_left *left) {
    const uint64_t before = lr_load(&view->stripe->ring_head);
    lr_feed_emit(view, hash, version);
    if (left != NULL)
        *left = (struct lr_left){
            .hint = lr_load(&view->stripe->ring_head) != before, .stripe = view->number, .position = before};
}

/* The same version is here already. */
static int apply_equal(struct lr_view *view, const struct lr_key *key, const struct lr_found *found,
                       uint64_t deadline_ms, struct lr_left *left) {
    if (!(found->head.parts & SM_PART_EXPIRY) || lr_head_deadline(view->data, &found->head) >= deadline_ms)
        return LR_STALE;
    lr_entry_extend(view, found, deadline_ms);
    emit(view, key->hash, found->head.version, left);
    return LR_APPLIED;
}

/*
 * Also what has expired or was flushed, and is not swept yet: walks, and with them settlements, pass it over. A relay's
 * tombstone may be of what it declined (hint_at): that there was something newer the floors know, and it does not.
 */
static bool is_absent(const struct lr_view *view, const struct lr_found *found) {
    return found->slot == NULL ||
           (found->head.tombstone ? lr_is_relay(view->cache) : lr_head_gone(view->cache, view->data, &found->head));
}

/* A tombstone that says nothing of this version but that it was here, or was declined. */
static bool is_trace_of(const struct lr_found *found, uint64_t version) {
    return found->slot != NULL && found->head.tombstone && found->head.version == version - 1;
}

/* ---- mode invalidate -------------------------------------------------------------------------------------------- */

/* An item of mode invalidate goes. */
static int let_go(struct lr_view *view, const struct lr_key *key, const struct lr_found *found) {
    if (lr_entry_unshipped(view, &found->head))
        lr_entry_bury(view, key, found->head.version - 1, LR_TOLD);
    else
        lr_entry_forget(view, found->slot, found->word, &found->head, LR_FORGET_DELETE, true);
    lr_count(view->cache, LR_C_invalidated);
    return LR_APPLIED;
}

/* A relay hears that the key was changed. */
static int relay_locked(struct lr_view *view, const struct lr_key *key, const struct lr_found *found,
                        uint64_t version) {
    const bool there = found->slot != NULL, item = there && !found->head.tombstone;
    const uint64_t told = there ? found->head.version - item : 0;
    const bool tells = there && lr_head_kind(&found->head) != LR_FILL, later = tells && told > version;
    if (there && (told == version || (later && told > version + lr_doubt(view->cache))))
        return LR_STALE;
    if (later || (there && lr_entry_unshipped(view, &found->head)))
        lr_void_raise(view, key->hash, lr_version_draw(view));
    if (item)
        lr_count(view->cache, LR_C_invalidated);
    lr_entry_bury(view, key, later ? told : version, LR_TOLD);
    return LR_APPLIED;
}

static int invalidate_locked(struct lr_view *view, const struct lr_key *key, const struct lr_found *found,
                             uint64_t version) {
    const bool item = found->slot != NULL && !found->head.tombstone;
    lr_marks_end(view, key->hash);
    if (lr_is_relay(view->cache) && !lr_is_flushed(view->cache, version))
        return relay_locked(view, key, found, version);
    if (!item || found->head.version == version + 1 || found->head.version > version + lr_doubt(view->cache))
        return LR_STALE;
    return let_go(view, key, found);
}

/* A tombstone from a walk, in free room. Else the floor says as much: who sent it tells the others, unless that host is
 * lost before; so of what they have not heard from us they hear by us. */
static int bury_gently(struct lr_view *view, const struct lr_key *key, struct lr_found *found, uint64_t version) {
    if (lr_entry_lay(view, key, found, version))
        return LR_APPLIED;
    lr_marks_end(view, key->hash);
    lr_entry_yield(view, key, version, version);
    return LR_DECLINED;
}

static int apply_tombstone_locked(struct lr_view *view, const struct lr_key *key, uint64_t version, bool modal,
                                  unsigned apply_flags) {
    lr_raise(&view->stripe->clock, version);
    struct lr_found found = lr_index_find(view, key);
    const bool item = found.slot != NULL && !found.head.tombstone;
    const enum lr_kind kind = found.slot != NULL ? lr_head_kind(&found.head) : LR_SHARED;
    if (kind == LR_LOCAL) {
        lr_count(view->cache, LR_C_applied_local);
        return LR_DECLINED;
    }
    if (kind != LR_SHARED || (modal && !item))
        return invalidate_locked(view, key, &found, version);
    if (found.slot != NULL && (found.head.version > version || (found.head.version == version && found.head.tombstone)))
        return LR_STALE;
    if (found.slot == NULL && is_barred(view, key->hash, version, apply_flags)) {
        lr_marks_end(view, key->hash); /* it leaves no other trace */
        hint_at(view, key, &found, version);
        return LR_STALE;
    }
    if ((apply_flags & LR_NO_EVICT) != 0 && !lr_is_relay(view->cache))
        return bury_gently(view, key, &found, version);
    lr_entry_bury(view, key, version, LR_SHARED);
    return LR_APPLIED;
}

/* ---- ahead of time ---------------------------------------------------------------------------------------------- */

static struct lr_view view_ahead(const struct lr_cache *cache, uint64_t place, unsigned apply_flags) {
    struct lr_view view = lr_view_of((struct lr_cache *)(uintptr_t)cache, lr_place_stripe(cache, place));
    view.grow_early = (apply_flags & LR_MORE) != 0;
    return view;
}

void lr_apply_prefetch(const struct lr_cache *cache, uint64_t hash, unsigned apply_flags) {
    const uint64_t place = lr_place(cache, hash);
    const struct lr_view view = view_ahead(cache, place, apply_flags);
    const unsigned range = lr_range_of(hash);
    lr_index_prefetch(&view, place);
    lr_index_prefetch_split(&view);
    __builtin_prefetch((const void *)&view.stripe->range_sum[range], 1);
    __builtin_prefetch((const void *)&view.stripe->range_floor[range]);
    __builtin_prefetch((const void *)&view.stripe->range_void[range]);
}

void lr_apply_prefetch_entry(const struct lr_cache *cache, uint64_t hash, unsigned apply_flags) {
    const uint64_t place = lr_place(cache, hash);
    const struct lr_view view = view_ahead(cache, place, apply_flags);
    lr_index_prefetch_entry(&view, place);
    if (is_void_higher(&view, lr_range_of(hash), view.stripe->range_floor))
        lr_void_prefetch(&view, hash);
}

/* ---- applying --------------------------------------------------------------------------------------------------- */

/* Like lr_index_find. What was there may have been deleted without the lock since we took it; then a note, or a void
 * where there was none, came before its slot word was killed. */
static struct lr_found find_settled(struct lr_view *view, const struct lr_key *key) {
    const struct lr_found found = lr_index_find(view, key);
    if (found.slot != NULL || atomic_load(&view->stripe->notes_pending) == 0)
        return found;
    lr_notes_settle(view);
    return lr_index_find(view, key);
}

static int apply_put_locked(struct lr_view *view, const struct lr_key *key, const struct lr_change *change,
                            unsigned apply_flags) {
    struct lr_making making = {.key = key,
                               .value = change->value,
                               .value_len = change->value_len,
                               .version = change->version,
                               .deadline_ms = change->deadline_ms,
                               .flags = change->flags};
    const enum lr_mode mode = lr_mode_of(view->cache, key->bytes, key->len);
    if (mode == LR_MODE_local) {
        lr_count(view->cache, LR_C_applied_local);
        return LR_DECLINED;
    }
    if (mode == LR_MODE_invalidate) /* the other host does not know that we do not want to see it */
        return apply_tombstone_locked(view, key, change->version - 1, true, 0);
    lr_raise(&view->stripe->clock, change->version);
    if (change->version <= lr_flush_version(view->cache))
        return LR_STALE;
    struct lr_found found = find_settled(view, key);
    if (found.slot != NULL && found.head.version > change->version)
        return LR_STALE;
    if (found.slot != NULL && found.head.version == change->version) {
        if (found.head.tombstone)
            return LR_STALE;
        const int tie = compare_tie(view, &found.head, change);
        if (tie < 0) /* who sent it must hear of ours, and comparing would not tell: the versions are equal */
            lr_feed_emit(view, key->hash, change->version);
        if (tie <= 0)
            return apply_equal(view, key, &found, change->deadline_ms, change->left);
    }
    if (is_absent(view, &found) || is_trace_of(&found, change->version)
            ? is_barred(view, key->hash, change->version, apply_flags)
            : found.head.tombstone && is_barred_by_both(view, key->hash, change->version)) {
        hint_at(view, key, &found, change->version - 1);
        return LR_DECLINED;
    }
    bool expired = change->deadline_ms != UINT64_MAX && change->deadline_ms <= lr_now_ms(view->cache);
    if (expired || lr_entry_size(&making) > view->cache->geometry.max_block)
        return decline(view, key, change->version, apply_flags);
    enum lr_room_how how = apply_flags & LR_NO_EVICT ? LR_ROOM_FREE : LR_ROOM_EVICT;
    int error = lr_entry_store(view, &found, &making, how);
    if (error == LARDER_ESTALE) /* a delete without the lock came between; its note or flag decides */
        return LR_STALE;
    if (error != 0)
        return decline(view, key, change->version, apply_flags);
    emit(view, key->hash, change->version, change->left);
    return LR_APPLIED;
}

static int count_applied(struct lr_cache *cache, int result) {
    if (result == LR_APPLIED)
        lr_count(cache, LR_C_applied);
    else if (result == LR_STALE)
        lr_count(cache, LR_C_applied_stale);
    else if (result == LR_DECLINED)
        lr_count(cache, LR_C_applied_declined);
    return result;
}

int lr_apply_put(struct lr_cache *cache, const struct lr_change *change, unsigned apply_flags) {
    struct lr_view view;
    int result = lr_enter(cache);
    if (result != 0)
        return result;
    if (change->key_len == 0 || change->key_len > SM_MAX_KEY || change->version == 0)
        return LARDER_EINVALID;
    struct lr_key key = lr_key_of(cache, change->key, change->key_len);
    result = lr_stripe_lock(&view, cache, lr_place_stripe(cache, key.place));
    if (result != 0)
        return result;
    view.grow_early = (apply_flags & LR_MORE) != 0;
    result = apply_put_locked(&view, &key, change, apply_flags);
    lr_stripe_unlock(&view);
    return count_applied(cache, result);
}

static int apply_tombstone(struct lr_cache *cache, uint64_t hash, uint64_t version, bool modal, unsigned apply_flags) {
    struct lr_view view;
    struct lr_key key = lr_key_of_hash(cache, hash);
    int result = lr_enter(cache);
    if (result == 0)
        result = lr_stripe_lock(&view, cache, lr_place_stripe(cache, key.place));
    if (result != 0)
        return result;
    result = apply_tombstone_locked(&view, &key, version, modal, apply_flags);
    lr_stripe_unlock(&view);
    return count_applied(cache, result);
}

int lr_apply_tombstone(struct lr_cache *cache, uint64_t hash, uint64_t version, unsigned apply_flags) {
    return apply_tombstone(cache, hash, version, false, apply_flags);
}

int lr_apply_invalidation(struct lr_cache *cache, uint64_t hash, uint64_t version) {
    return apply_tombstone(cache, hash, version, true, 0);
}

int lr_apply_flush(struct lr_cache *cache, uint64_t version) {
    sm_u64 *word = &cache->header->flush_version;
    int error = lr_enter(cache);
    if (error != 0)
        return error;
    uint64_t now = lr_load(word);
    while (now < version) {
        LR_CRASH_POINT("flush, before");
        /* COMMIT POINT: before, everything is there; after, nothing that is older is. */
        if (atomic_compare_exchange_weak_explicit(word, &now, version, memory_order_acq_rel, memory_order_relaxed)) {
            LR_CRASH_POINT("flush, after");
            lr_bell_ring(cache);
            return LR_APPLIED;
        }
    }
    return LR_STALE;
}

/* A relay declines what it is told it might have. False: its stripe is busy; then it asks for the entry, and applying
 * that waits. Not here: there are thousands of rows in a frame. */
static bool decline_row(struct lr_cache *cache, uint64_t hash, uint64_t version) {
    struct lr_view view;
    const struct lr_key key = lr_key_of_hash(cache, hash);
    if (lr_enter(cache) != 0 || lr_stripe_lock_for(&view, cache, lr_place_stripe(cache, key.place), 0) != 0)
        return false;
    struct lr_found found = lr_index_find(&view, &key);
    if (is_absent(&view, &found) && (found.slot == NULL || found.head.version < version))
        hint_at(&view, &key, &found, version - 1);
    lr_stripe_unlock(&view);
    return true;
}

bool lr_lacks(struct lr_cache *cache, uint64_t hash, uint64_t version, bool walked, void *buf, size_t cap) {
    struct lr_entry entry;
    if (version == 0) /* nothing has that; one below it would be the highest of all */
        return false;
    int result = lr_entry_without_value(cache, hash, buf, cap, &entry);
    /* As in is_absent. And a tombstone of what is older may have come after ours was evicted. */
    const bool laid = result == 0 && entry.tombstone && (lr_is_relay(cache) || !walked);
    if (result == 0 && entry.version >= version)
        return false;
    if (result != LARDER_ENOT_FOUND && !laid)
        return result == 0; /* busy: it is being replaced, and hints will tell */
    struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, lr_place(cache, hash)));
    if (version > lr_floor_of(&view, hash) && version > lr_flush_version(cache))
        return true;
    if (walked)
        lr_firm_raise(&view, lr_range_of(hash), version);
    return walked && lr_is_relay(cache) && !decline_row(cache, hash, version);
}

static int drop(struct lr_cache *cache, uint64_t hash, uint64_t version, uint64_t superseded) {
    struct lr_view view;
    struct lr_key key = lr_key_of_hash(cache, hash);
    int error = lr_enter(cache);
    if (error == 0)
        error = lr_stripe_lock(&view, cache, lr_place_stripe(cache, key.place));
    if (error != 0)
        return error;
    lr_raise(&view.stripe->clock, version); /* what is put from now on is no part of what was forgotten */
    lr_marks_end(&view, hash);
    const struct lr_found found = lr_index_find(&view, &key);
    const bool item = found.slot != NULL && !found.head.tombstone;
    if (item && (lr_head_kind(&found.head) == LR_TOLD || lr_head_kind(&found.head) == LR_FILL))
        let_go(&view, &key, &found);
    else if (lr_is_relay(cache) && superseded < version)
        lead_on(&view, &key, &found, version);
    else
        lr_entry_yield(&view, &key, version, superseded);
    lr_stripe_unlock(&view);
    return 0;
}

int lr_drop(struct lr_cache *cache, uint64_t hash, uint64_t version) {
    return drop(cache, hash, version, version - 1);
}

int lr_drop_void(struct lr_cache *cache, uint64_t hash, uint64_t version) {
    return drop(cache, hash, version, version);
}
