/* SPDX-License-Identifier: MIT */
/* House-keeping that readers never wait for: expired items, old tombstones, dead participants. */
#include "bucket.h"
#include "stripe.h"

#define CHUNK 32u /* buckets swept under one holding of the lock: about 20 microseconds */

/* A tombstone that every peer has acknowledged, and that is older than `ms` by its version. */
static bool is_done(struct lr_view *view, const struct lr_head *head, uint64_t ms) {
    if (ms == UINT64_MAX || lr_entry_unshipped(view, head))
        return false;
    uint64_t drawn = head->version >> SM_VERSION_MS_SHIFT, now = lr_wall_2020_ms();
    return now > drawn && now - drawn >= ms;
}

unsigned lr_sweep_buckets(struct lr_view *view, unsigned buckets, uint64_t tombstone_ms) {
    const uint64_t now_ms = lr_now_ms(view->cache);
    unsigned removed = 0;
    uint64_t cursor = lr_load(&view->stripe->sweep_cursor), all = lr_buckets(view);
    for (unsigned n = 0; n < buckets; n++, cursor++) {
        sm_u64 *bucket = lr_bucket_at(view, (uint32_t)(cursor % all));
        for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++)
            __builtin_prefetch(view->data + lr_slot_off(lr_load(&bucket[i])));
        for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
            struct lr_head head;
            uint64_t word = atomic_load_explicit(&bucket[i], memory_order_acquire);
            if (lr_slot_is_empty(word) || !lr_head_read(view->cache, view->data, lr_slot_off(word), &head) ||
                !lr_head_matches(&head, word))
                continue;
            enum lr_forget_why why;
            if (word & SM_SLOT_DEAD)
                why = LR_FORGET_DELETE;
            else if (!head.tombstone && lr_head_gone_by(view->cache, view->data, &head, now_ms))
                why = LR_FORGET_EXPIRE;
            else if (head.tombstone && is_done(view, &head, tombstone_ms))
                why = LR_FORGET_TOMBSTONE;
            else
                continue;
            removed += lr_entry_forget(view, &bucket[i], word, &head, why, true);
        }
    }
    lr_store(&view->stripe->sweep_cursor, cursor % all);
    return removed;
}

int lr_sweep(struct lr_cache *cache, uint32_t stripe, unsigned buckets, uint64_t tombstone_ms) {
    int removed = 0, error = lr_enter(cache);
    if (error != 0)
        return error;
    if (stripe >= cache->geometry.stripe_count)
        return LARDER_EINVALID;
    for (unsigned done = 0; done < buckets; done += CHUNK) {
        struct lr_view view;
        error = lr_stripe_lock(&view, cache, stripe);
        if (error != 0)
            return removed > 0 ? removed : error;
        buckets = lr_buckets(&view) < buckets ? lr_buckets(&view) : buckets; /* none twice */
        unsigned left = buckets - done < CHUNK ? buckets - done : CHUNK;
        removed += (int)lr_sweep_buckets(&view, left, tombstone_ms);
        if (done == 0) {
            lr_notes_settle(&view);
            if (lr_load(&view.stripe->held_blocks) != 0)
                lr_arena_free_held(&view);
        }
        lr_stripe_unlock(&view);
    }
    return removed;
}

int lr_reap(struct lr_cache *cache) {
    int freed = 0, error = lr_enter(cache);
    if (error != 0)
        return error;
    uint32_t high = atomic_load_explicit(&cache->header->participants_high, memory_order_acquire);
    for (uint32_t slot = 0; slot < high && slot < cache->geometry.participants; slot++) {
        struct sm_participant *participant = &cache->participants[slot];
        if (atomic_load_explicit(&participant->state, memory_order_acquire) != SM_SLOT_ACTIVE)
            continue;
        uint64_t generation = lr_load(&participant->generation);
        if (!lr_owner_alive(cache, lr_owner_word(slot, generation)))
            freed += lr_participant_reap(cache, slot, generation);
    }
    for (uint32_t i = 0; i < cache->geometry.stripe_count; i++) {
        uint64_t owner = lr_load(&lr_stripe_at(cache, i)->lock) & SM_LOCK_OWNER_MASK;
        struct lr_view view;
        /* Taking the lock is what repairs. */
        if (owner != 0 && !lr_owner_alive(cache, owner) && lr_stripe_lock_for(&view, cache, i, 0) == 0)
            lr_stripe_unlock(&view);
    }
    return freed;
}
