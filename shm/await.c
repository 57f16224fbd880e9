/* SPDX-License-Identifier: MIT */
/*
 * Which peers have it? Waiting for acknowledgement, without a list of those who wait.
 *
 *   writer   put -> hint n in the stripe's ring ... await: until acked_by[peers - 1] > n
 *   larderd  peers acknowledge -> acked_by[i] = position up to which at least i + 1 of them have everything
 *
 * Who waits remembers a position, and nothing of it lies in shared memory: a waiter that is killed leaves nothing
 * behind. The position is the ring's head at the time of the call, so the wait covers all changes of the stripe before
 * it, which is a little more than was asked for. One futex serves the whole segment, as the bell does.
 */
#include "stripe.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS UINT64_C(1000000)
#define SLICE_MS 900u /* whoever retires the segment wakes nobody */

static_assert(LR_AWAIT_PEERS == SM_ACK_RANKS, "one rank for each peer");

void lr_feed_acked_by(struct lr_cache *cache, uint32_t stripe, const uint64_t *positions, unsigned count) {
    struct sm_stripe *control = lr_stripe_at(cache, stripe);
    bool risen = false;
    for (unsigned i = 0; i < count && i < SM_ACK_RANKS; i++) {
        risen |= positions[i] > lr_load(&control->acked_by[i]);
        lr_raise(&control->acked_by[i], positions[i]);
    }
    if (!risen)
        return;
    /* ORDER(acks) publish: the positions before we look for a sleeper, who looks the other way round. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&cache->header->acks_waiting, memory_order_relaxed) == 0)
        return;
    atomic_store_explicit(&cache->header->acks_waiting, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&cache->header->acks, 1, memory_order_release);
    syscall(SYS_futex, (uint32_t *)(void *)&cache->header->acks, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* A stripe that was never changed is with all peers, so with no more than there are. */
static unsigned peers_beyond(struct lr_cache *cache, struct sm_stripe *control, uint64_t position) {
    const uint32_t all = atomic_load_explicit(&cache->header->sidecar_peers, memory_order_relaxed);
    const unsigned most = all < SM_ACK_RANKS ? all : SM_ACK_RANKS;
    unsigned peers = 0;
    while (peers < most && atomic_load_explicit(&control->acked_by[peers], memory_order_acquire) >= position)
        peers++;
    return peers;
}

/* Sleeps until acknowledgements come, or for ns at most. */
static void sleep_on_acks(struct lr_cache *cache, struct sm_stripe *control, uint64_t position, unsigned peers,
                          uint64_t ns) {
    const uint32_t seen = atomic_load_explicit(&cache->header->acks, memory_order_acquire);
    const uint64_t most = SLICE_MS * NS_PER_MS, slice = ns < most ? ns : most;
    const struct timespec timeout = {.tv_nsec = (long)slice};
    atomic_store_explicit(&cache->header->acks_waiting, 1, memory_order_relaxed);
    /* ORDER(acks) observe: we said that we sleep before we look at the positions. */
    atomic_thread_fence(memory_order_seq_cst);
    if (peers_beyond(cache, control, position) < peers)
        syscall(SYS_futex, (uint32_t *)(void *)&cache->header->acks, FUTEX_WAIT, seen, &timeout, NULL, 0);
}

/* Deletes that were made without the lock become hints when somebody takes it. */
static int settle_notes(struct lr_cache *cache, uint32_t stripe) {
    struct lr_view view;
    if (atomic_load_explicit(&lr_stripe_at(cache, stripe)->notes_pending, memory_order_acquire) == 0)
        return 0;
    int error = lr_stripe_lock(&view, cache, stripe);
    if (error == 0)
        lr_stripe_unlock(&view);
    return error;
}

int lr_await(struct lr_cache *cache, const void *key, size_t key_len, unsigned peers, unsigned timeout_ms) {
    int error = lr_enter(cache);
    if (error != 0)
        return error;
    if (key_len == 0 || key_len > SM_MAX_KEY || peers == 0 || peers > SM_ACK_RANKS)
        return LARDER_EINVALID;
    const uint64_t end = lr_monotonic_ns() + timeout_ms * NS_PER_MS;
    const struct lr_key wanted = lr_key_of(cache, key, key_len);
    const uint32_t stripe = lr_place_stripe(cache, wanted.place);
    struct sm_stripe *control = lr_stripe_at(cache, stripe);
    if (!lr_replicating(cache)) /* nobody will ever hear of it */
        return 0;
    error = settle_notes(cache, stripe);
    if (error != 0)
        return error;
    const uint64_t position = lr_feed_head(cache, stripe);
    for (;;) {
        const unsigned have = peers_beyond(cache, control, position);
        const uint64_t now = lr_monotonic_ns();
        if (have >= peers || now >= end)
            return (int)have;
        sleep_on_acks(cache, control, position, peers, end - now);
        error = lr_enter(cache);
        if (error != 0)
            return error;
    }
}
