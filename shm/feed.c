/* SPDX-License-Identifier: MIT */
/*
 * The change feed: how does the sidecar learn what changed, without slowing those who change it?
 *
 *   ring_head counts hints ever written; hint n lies in ring[n mod ring_len] until hint n + ring_len overwrites it.
 *
 * A hint is {cluster hash, version}, written under the stripe's lock after the commit. It carries no value: the sidecar
 * reads what is there now, so many changes of one key travel once. Overrun is a result, not an accident: the reader who
 * fell behind scans the stripe for entries by arrival epoch. The bell is touched only when somebody sleeps on it, so
 * busy writers share no line.
 */
#include "stripe.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void lr_feed_emit(struct lr_view *view, uint64_t hash, uint64_t version) {
    struct lr_cache *cache = view->cache;
    if (atomic_load_explicit(&cache->header->replicating, memory_order_relaxed) == 0)
        return;
    struct sm_stripe *stripe = view->stripe;
    uint64_t head = lr_load(&stripe->ring_head);
    struct sm_hint *hint = &stripe->ring[head & (cache->geometry.ring_len - 1u)];
    lr_store(&hint->hash, hash);
    lr_store(&hint->version, version);
    if (cache->bell_mute)
        atomic_fetch_add_explicit(&cache->own_hints, 1, memory_order_relaxed);
    /* ORDER(feed) publish: the hint's words, and the item's publication before it. */
    atomic_store_explicit(&stripe->ring_head, head + 1, memory_order_release);
    view->ring_bell = !cache->bell_mute;
}

void lr_bell_ring(struct lr_cache *cache) {
    /* ORDER(bell) publish: ring_head before we look for a sleeper, who looks the other way round. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&cache->header->bell_waiting, memory_order_relaxed) == 0)
        return;
    atomic_store_explicit(&cache->header->bell_waiting, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&cache->header->bell, 1, memory_order_release);
    syscall(SYS_futex, (uint32_t *)(void *)&cache->header->bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Of what others wrote. A hint of our own that is just being written may hide one of theirs: see lr_bell_mute. */
static uint64_t sum_heads(const struct lr_cache *cache) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < cache->geometry.stripe_count; i++)
        sum += lr_feed_head(cache, i);
    return sum - atomic_load_explicit(&cache->own_hints, memory_order_relaxed);
}

void lr_bell_mute(struct lr_cache *cache) {
    cache->bell_mute = true;
}

void lr_bell_wait(struct lr_cache *cache, unsigned timeout_ms) {
    uint32_t seen = atomic_load_explicit(&cache->header->bell, memory_order_acquire);
    atomic_store_explicit(&cache->header->bell_waiting, 1, memory_order_relaxed);
    /* ORDER(bell) observe: we said that we sleep before we look at the heads. */
    atomic_thread_fence(memory_order_seq_cst);
    if (sum_heads(cache) == cache->bell_seen) {
        struct timespec timeout = {.tv_sec = (time_t)(timeout_ms / 1000u),
                                   .tv_nsec = (long)(timeout_ms % 1000u) * 1000000L};
        syscall(SYS_futex, (uint32_t *)(void *)&cache->header->bell, FUTEX_WAIT, seen, &timeout, NULL, 0);
    }
    atomic_store_explicit(&cache->header->bell_waiting, 0, memory_order_relaxed);
    /* Hints that come after this sum make the next call return at once. */
    cache->bell_seen = sum_heads(cache);
}

uint64_t lr_feed_head(const struct lr_cache *cache, uint32_t stripe) {
    /* ORDER(feed) observe: hints below the head are whole. */
    return atomic_load_explicit(&lr_stripe_at(cache, stripe)->ring_head, memory_order_acquire);
}

int lr_feed_read(struct lr_cache *cache, uint32_t stripe, uint64_t *position, struct lr_hint *hints, unsigned count) {
    struct sm_stripe *control = lr_stripe_at(cache, stripe);
    const uint64_t len = cache->geometry.ring_len;
    uint64_t head = lr_feed_head(cache, stripe);
    if (head < *position || head - *position > len) {
        *position = head;
        return LARDER_ELOST;
    }
    uint64_t available = head - *position;
    unsigned n = available < count ? (unsigned)available : count;
    for (unsigned i = 0; i < n; i++) {
        struct sm_hint *hint = &control->ring[(*position + i) & (len - 1)];
        hints[i].hash = lr_load(&hint->hash);
        hints[i].version = lr_load(&hint->version);
    }
    /* ORDER(feed) observe: what we copied before the head is looked at again. The row at `head` may be half-written,
     * hence >=. */
    atomic_thread_fence(memory_order_acquire);
    head = lr_load(&control->ring_head);
    if (n > 0 && head - *position >= len) {
        *position = head;
        return LARDER_ELOST;
    }
    *position += n;
    return (int)n;
}

bool lr_feed_take_rescan(struct lr_cache *cache, uint32_t stripe) {
    struct sm_stripe *control = lr_stripe_at(cache, stripe);
    if (atomic_load_explicit(&control->rescan, memory_order_relaxed) == 0)
        return false;
    return atomic_exchange_explicit(&control->rescan, 0, memory_order_acq_rel) != 0;
}

void lr_feed_acked(struct lr_cache *cache, uint32_t stripe, uint64_t position) {
    lr_raise(&lr_stripe_at(cache, stripe)->ring_acked, position);
}

int lr_epoch_begin(struct lr_cache *cache, uint32_t stripe, uint32_t *old_epoch, uint64_t *head) {
    struct lr_view view;
    int error = lr_enter(cache);
    if (error == 0)
        error = lr_stripe_lock(&view, cache, stripe);
    if (error != 0)
        return error;
    *old_epoch = atomic_load_explicit(&view.stripe->epoch, memory_order_relaxed);
    *head = lr_load(&view.stripe->ring_head);
    atomic_store_explicit(&view.stripe->epoch, *old_epoch + 1u, memory_order_relaxed);
    lr_stripe_unlock(&view);
    return 0;
}

void lr_epoch_acked(struct lr_cache *cache, uint32_t stripe, uint32_t epoch) {
    atomic_store_explicit(&lr_stripe_at(cache, stripe)->acked_epoch, epoch, memory_order_release);
}

uint32_t lr_epoch_now(const struct lr_cache *cache, uint32_t stripe) {
    return atomic_load_explicit(&lr_stripe_at(cache, stripe)->epoch, memory_order_acquire);
}

uint32_t lr_epoch_get_acked(const struct lr_cache *cache, uint32_t stripe) {
    return atomic_load_explicit(&lr_stripe_at(cache, stripe)->acked_epoch, memory_order_acquire);
}

bool lr_epoch_after(const struct lr_cache *cache, uint32_t stripe, uint32_t entry_epoch, uint32_t epoch) {
    const uint32_t mask = (1u << SM_BLOCK_EPOCH_BITS) - 1u;
    uint32_t now = lr_epoch_now(cache, stripe);
    uint32_t age = (now - entry_epoch) & mask;
    return age < now - epoch;
}
