/* SPDX-License-Identifier: MIT */
/*
 * Changes from other hosts: which of two versions stays?
 *
 * The newer one, always, whatever the order of arrival: every function here is idempotent and commutative. For a key
 * that is absent the range's floor stands in for what was forgotten: a change at or below it is declined, since
 * something newer may have been here before. Equal versions with different contents (two hosts that shared an origin)
 * are decided by a hash of the content.
 *
 * A change that cannot be stored (too large here, no room, policy none) still takes the older value away and raises the
 * floor: this host then has nothing, rather than something old.
 */
#include "stripe.h"

/* What the range has forgotten at most. A delete that found no free note could raise the void alone (items.c). */
static uint64_t floor_of(const struct lr_view *view, uint64_t hash) {
    uint64_t floor = lr_load(&view->stripe->range_floor[lr_range_of(hash)]);
    uint64_t void_version = lr_load(&view->stripe->range_void[lr_range_of(hash)]);
    return floor > void_version ? floor : void_version;
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

/* The change is not stored: nothing older may stay, nor be accepted later. */
static int decline(struct lr_view *view, const struct lr_key *key, uint64_t version) {
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

/* Also what has expired or was flushed, and is not swept yet: walks, and with them settlements, pass it over. */
static bool is_absent(const struct lr_view *view, const struct lr_found *found) {
    return found->slot == NULL || (!found->head.tombstone && lr_head_gone(view->cache, view->data, &found->head));
}

static int apply_put_locked(struct lr_view *view, const struct lr_key *key, const struct lr_change *change,
                            unsigned apply_flags) {
    const uint64_t floor = floor_of(view, key->hash);
    struct lr_making making = {.key = key,
                               .value = change->value,
                               .value_len = change->value_len,
                               .version = change->version,
                               .deadline_ms = change->deadline_ms,
                               .flags = change->flags};
    lr_raise(&view->stripe->clock, change->version);
    if (change->version <= lr_flush_version(view->cache))
        return LR_STALE;
    struct lr_found found = lr_index_find(view, key);
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
    if (is_absent(view, &found) && change->version <= floor)
        return LR_DECLINED;
    bool expired = change->deadline_ms != UINT64_MAX && change->deadline_ms <= lr_now_ms(view->cache);
    if (expired || lr_entry_size(&making) > view->cache->geometry.max_block)
        return decline(view, key, change->version);
    enum lr_room_how how = apply_flags & LR_NO_EVICT ? LR_ROOM_FREE : LR_ROOM_EVICT;
    int error = lr_entry_store(view, &found, &making, how);
    if (error == LARDER_ESTALE) /* a delete without the lock came between; its note or flag decides */
        return LR_STALE;
    if (error != 0)
        return decline(view, key, change->version);
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
    result = apply_put_locked(&view, &key, change, apply_flags);
    lr_stripe_unlock(&view);
    return count_applied(cache, result);
}

static int apply_tombstone_locked(struct lr_view *view, const struct lr_key *key, uint64_t version) {
    lr_raise(&view->stripe->clock, version);
    struct lr_found found = lr_index_find(view, key);
    if (found.slot != NULL && (found.head.version > version || (found.head.version == version && found.head.tombstone)))
        return LR_STALE;
    if (found.slot == NULL && version <= floor_of(view, key->hash))
        return LR_STALE;
    lr_entry_delete(view, key, version);
    return LR_APPLIED;
}

int lr_apply_tombstone(struct lr_cache *cache, uint64_t hash, uint64_t version) {
    struct lr_view view;
    struct lr_key key = lr_key_of_hash(cache, hash);
    int result = lr_enter(cache);
    if (result == 0)
        result = lr_stripe_lock(&view, cache, lr_place_stripe(cache, key.place));
    if (result != 0)
        return result;
    result = apply_tombstone_locked(&view, &key, version);
    lr_stripe_unlock(&view);
    return count_applied(cache, result);
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

bool lr_lacks(struct lr_cache *cache, uint64_t hash, uint64_t version, void *buf, size_t cap) {
    struct lr_entry entry;
    int result = lr_entry_by_hash(cache, hash, buf, cap, &entry);
    if (result != LARDER_ENOT_FOUND)
        return result == 0 && entry.version < version; /* busy: it is being replaced, and hints will tell */
    struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, lr_place(cache, hash)));
    return version > floor_of(&view, hash) && version > lr_flush_version(cache);
}

static int lock_for_drop(struct lr_view *view, struct lr_cache *cache, const struct lr_key *key, uint64_t version) {
    int error = lr_enter(cache);
    if (error == 0)
        error = lr_stripe_lock(view, cache, lr_place_stripe(cache, key->place));
    if (error == 0)
        lr_raise(&view->stripe->clock, version); /* what is put from now on is no part of what was forgotten */
    return error;
}

int lr_drop(struct lr_cache *cache, uint64_t hash, uint64_t version) {
    struct lr_view view;
    struct lr_key key = lr_key_of_hash(cache, hash);
    int error = lock_for_drop(&view, cache, &key, version);
    if (error != 0)
        return error;
    decline(&view, &key, version);
    lr_stripe_unlock(&view);
    return 0;
}

int lr_drop_void(struct lr_cache *cache, uint64_t hash, uint64_t version) {
    struct lr_view view;
    struct lr_key key = lr_key_of_hash(cache, hash);
    int error = lock_for_drop(&view, cache, &key, version);
    if (error != 0)
        return error;
    lr_entry_yield(&view, &key, version, version);
    lr_stripe_unlock(&view);
    return 0;
}
