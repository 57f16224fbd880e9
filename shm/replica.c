/* SPDX-License-Identifier: MIT */
/* What the sidecar keeps in the segment beside the feed: origin, clocks, ranges, its own role and state. */
#include "stripe.h"

#define HEARTBEAT_MS 5000u

void lr_set_replicating(struct lr_cache *cache, bool on) {
    if (lr_enter(cache) == 0)
        atomic_store_explicit(&cache->header->replicating, on, memory_order_release);
}

bool lr_replicating(const struct lr_cache *cache) {
    return atomic_load_explicit(&cache->header->replicating, memory_order_relaxed) != 0;
}

uint64_t lr_flush_version(const struct lr_cache *cache) {
    return atomic_load_explicit(&cache->header->flush_version, memory_order_acquire);
}

uint64_t lr_highest_version(const struct lr_cache *cache) {
    uint64_t highest = lr_flush_version(cache);
    for (uint32_t i = 0; i < cache->geometry.stripe_count; i++) {
        uint64_t clock = lr_load(&lr_stripe_at(cache, i)->clock);
        highest = highest > clock ? highest : clock;
    }
    return highest;
}

int lr_raise_clock(struct lr_cache *cache, uint64_t version) {
    int error = lr_enter(cache);
    for (uint32_t i = 0; error == 0 && i < cache->geometry.stripe_count; i++) {
        struct lr_view view;
        error = lr_stripe_lock(&view, cache, i);
        if (error != 0)
            break;
        lr_raise(&view.stripe->clock, version);
        lr_stripe_unlock(&view);
    }
    return error;
}

int lr_end_marks(struct lr_cache *cache) {
    int error = lr_enter(cache);
    for (uint32_t i = 0; error == 0 && i < cache->geometry.stripe_count; i++) {
        struct lr_view view;
        error = lr_stripe_lock(&view, cache, i);
        if (error != 0)
            break;
        lr_marks_end_all(&view);
        lr_stripe_unlock(&view);
    }
    return error;
}

void lr_set_doubt(struct lr_cache *cache, uint64_t ms, bool relay) {
    if (lr_enter(cache) == 0)
        lr_store(&cache->header->doubt, ms << SM_VERSION_MS_SHIFT | relay);
}

void lr_range_get(const struct lr_cache *cache, unsigned range, struct lr_range *out) {
    *out = (struct lr_range){0};
    if (range >= SM_RANGES)
        return;
    out->turn = lr_void_turn(cache, range);
    for (uint32_t i = 0; i < cache->geometry.stripe_count; i++) {
        struct sm_stripe *stripe = lr_stripe_at(cache, i);
        uint64_t floor = lr_load(&stripe->range_floor[range]), void_version = lr_load(&stripe->range_void[range]);
        out->sum += lr_load(&stripe->range_sum[range]);
        out->floor = out->floor > floor ? out->floor : floor;
        out->void_version = out->void_version > void_version ? out->void_version : void_version;
    }
    out->floor = out->floor > out->void_version ? out->floor : out->void_version;
}

int lr_sidecar_claim(struct lr_cache *cache) {
    int error = lr_enter(cache);
    uint64_t own = lr_own_word(cache);
    while (error == 0) {
        uint64_t owner = lr_load(&cache->header->sidecar_owner);
        if (owner == own)
            return 0;
        if (owner != 0 && lr_owner_alive(cache, owner))
            return LARDER_EEXISTS;
        if (atomic_compare_exchange_strong_explicit(&cache->header->sidecar_owner, &owner, own, memory_order_acq_rel,
                                                    memory_order_relaxed))
            return 0;
    }
    return error;
}

void lr_sidecar_release(struct lr_cache *cache) {
    uint64_t own = lr_own_word(cache);
    if (lr_enter(cache) == 0)
        atomic_compare_exchange_strong_explicit(&cache->header->sidecar_owner, &own, 0, memory_order_acq_rel,
                                                memory_order_relaxed);
}

void lr_sidecar_report(struct lr_cache *cache, uint32_t peers, uint32_t connected, uint64_t lag_p50_us,
                       uint64_t lag_p99_us) {
    struct sm_header *header = cache->header;
    if (lr_enter(cache) != 0)
        return;
    atomic_store_explicit(&header->sidecar_peers, peers, memory_order_relaxed);
    atomic_store_explicit(&header->sidecar_connected, connected, memory_order_relaxed);
    lr_store(&header->lag_p50_us, lag_p50_us);
    lr_store(&header->lag_p99_us, lag_p99_us);
    lr_store(&header->sidecar_heartbeat_ms, lr_now_ms(cache));
}

void lr_sidecar_state(struct lr_cache *cache, struct lr_sidecar_state *out) {
    struct sm_header *header = cache->header;
    *out = (struct lr_sidecar_state){.lag_p50_us = lr_load(&header->lag_p50_us),
                                     .lag_p99_us = lr_load(&header->lag_p99_us)};
    uint64_t owner = lr_load(&header->sidecar_owner), now = lr_now_ms(cache);
    uint64_t heartbeat = lr_load(&header->sidecar_heartbeat_ms);
    out->alive = owner != 0 && heartbeat + HEARTBEAT_MS > now && lr_owner_alive(cache, owner);
    out->peers = atomic_load_explicit(&header->sidecar_peers, memory_order_relaxed);
    out->connected = out->alive ? atomic_load_explicit(&header->sidecar_connected, memory_order_relaxed) : 0;
    for (uint32_t i = 0; i < cache->geometry.stripe_count; i++) {
        struct sm_stripe *stripe = lr_stripe_at(cache, i);
        uint64_t acked = lr_load(&stripe->ring_acked), head = lr_load(&stripe->ring_head);
        out->unacked += head > acked ? head - acked : 0;
        out->resync_stripes += atomic_load_explicit(&stripe->rescan, memory_order_relaxed) != 0;
    }
}
