/* SPDX-License-Identifier: MIT */
/* What the inspector shows: sums of words that others write, read without a lock. */
#include "stripe.h"

static void add_counters(uint64_t *sums, sm_u64 *counters, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        sums[i] += lr_load(&counters[i]);
}

static uint64_t gap_bytes(const struct lr_view *view) {
    const struct lr_span main = lr_gap_of(view, LR_MAIN), probation = lr_gap_of(view, LR_PROBATION);
    return main.end - main.start + (lr_has_probation(view->cache) ? probation.end - probation.start : 0);
}

static void add_stripe(struct lr_view *view, struct lr_stat *out) {
    struct sm_stripe *stripe = view->stripe;
    const struct lr_span probation = lr_region_of(view, LR_PROBATION);
    out->items += lr_load(&stripe->items);
    out->item_bytes += lr_load(&stripe->item_bytes);
    out->payload_bytes += lr_load(&stripe->payload_bytes);
    out->tombstones += lr_load(&stripe->tombstones);
    out->held_blocks += lr_load(&stripe->held_blocks);
    out->held_bytes += lr_load(&stripe->held_bytes);
    out->hole_bytes += lr_load(&stripe->hole_bytes);
    out->gap_bytes += gap_bytes(view);
    out->probation_bytes += lr_has_probation(view->cache) ? probation.end - probation.start : 0;
    out->index_bytes += lr_load(&stripe->border_off);
    out->index_slots += (lr_load(&stripe->split) & UINT32_MAX) * SM_BUCKET_SLOTS;
    out->ttl_items += lr_load(&stripe->ttl_items);
    add_counters(out->stripe_counters, stripe->counters, LR_STRIPE_COUNTER_COUNT);
}

static void add_participant(const struct lr_cache *cache, uint32_t slot, struct lr_stat *out) {
    struct sm_participant *participant = &cache->participants[slot];
    add_counters(out->counters, participant->counters, LR_COUNTER_COUNT);
    if (lr_load(&participant->pin_summary) == 0)
        return;
    uint64_t bytes;
    out->live_pins += lr_participant_pins(cache, slot, &bytes);
    out->pinned_bytes += bytes;
}

void lr_stat(struct lr_cache *cache, struct lr_stat *out) {
    const struct lr_geometry *geometry = &cache->geometry;
    struct sm_header *header = cache->header;
    static_assert(LR_COUNTER_COUNT <= SM_COUNTERS && LR_STRIPE_COUNTER_COUNT <= SM_STRIPE_COUNTERS, "room");
    *out = (struct lr_stat){.segment_bytes = geometry->segment_bytes,
                            .cache_bytes = geometry->cache_bytes,
                            .fixed_bytes = geometry->segment_bytes - geometry->cache_bytes,
                            .max_item_bytes = geometry->max_block,
                            .incarnation = {geometry->incarnation[0], geometry->incarnation[1]},
                            .created_ms = geometry->created_ms,
                            .layout = SM_LAYOUT_VERSION,
                            .policy = geometry->policy,
                            .favor = geometry->favor,
                            .stripes = geometry->stripe_count,
                            .participants = geometry->participants,
                            .origin = lr_origin(cache),
                            .replicating = lr_replicating(cache),
                            .retired = !lr_is_live(cache),
                            .flush_version = lr_flush_version(cache),
                            .choice_changes = atomic_load_explicit(&header->policy_turn, memory_order_relaxed)};
    memcpy(out->name, geometry->name, sizeof out->name);
    for (uint32_t i = 0; i < geometry->stripe_count; i++) {
        struct lr_view view = lr_view_of(cache, i);
        add_stripe(&view, out);
    }
    add_counters(out->counters, header->retired_counters, LR_COUNTER_COUNT);
    uint32_t high = atomic_load_explicit(&header->participants_high, memory_order_acquire);
    for (uint32_t slot = 0; slot < high && slot < geometry->participants; slot++)
        add_participant(cache, slot, out);
    add_counters(out->own_counters, cache->me->counters, LR_COUNTER_COUNT);
}

int lr_stripe_info(struct lr_cache *cache, uint32_t stripe, struct lr_stripe_info *out) {
    if (stripe >= cache->geometry.stripe_count)
        return LARDER_EINVALID;
    struct sm_stripe *control = lr_stripe_at(cache, stripe);
    const struct lr_view view = lr_view_of(cache, stripe);
    const struct lr_span probation = lr_region_of(&view, LR_PROBATION);
    uint64_t lock = lr_load(&control->lock), owner = lock & SM_LOCK_OWNER_MASK;
    *out = (struct lr_stripe_info){.items = lr_load(&control->items),
                                   .item_bytes = lr_load(&control->item_bytes),
                                   .payload_bytes = lr_load(&control->payload_bytes),
                                   .tombstones = lr_load(&control->tombstones),
                                   .held_blocks = lr_load(&control->held_blocks),
                                   .held_bytes = lr_load(&control->held_bytes),
                                   .hole_bytes = lr_load(&control->hole_bytes),
                                   .gap_bytes = gap_bytes(&view),
                                   .probation_bytes = lr_has_probation(cache) ? probation.end - probation.start : 0,
                                   .index_bytes = lr_load(&control->border_off),
                                   .arena_bytes = cache->geometry.stripe_bytes - lr_load(&control->border_off),
                                   .buckets = lr_load(&control->split) & UINT32_MAX,
                                   .clock = lr_load(&control->clock),
                                   .ring_head = lr_load(&control->ring_head),
                                   .ring_acked = lr_load(&control->ring_acked),
                                   .locked = owner != 0,
                                   .recovering = (lock & SM_LOCK_RECOVER) != 0,
                                   .rescan = atomic_load_explicit(&control->rescan, memory_order_relaxed) != 0};
    add_counters(out->counters, control->counters, LR_STRIPE_COUNTER_COUNT);
    if (owner == 0)
        return 0;
    out->holder_slot = lr_owner_slot(owner);
    out->holder_generation = lr_owner_generation(owner);
    if (lr_load(&control->stalled_owner) == owner)
        out->stalled_ms = lr_now_ms(cache) - lr_load(&control->stalled_since_ms);
    return 0;
}
