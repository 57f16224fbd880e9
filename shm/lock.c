/* SPDX-License-Identifier: MIT */
/*
 * The stripe lock: who may change a stripe, and what if that process dies or stops?
 *
 *        0 --------------- CAS ---------------> {owner} ------ exchange 0, wake one -----> 0
 *        |                                         |
 *   (after a sleep)                        owner dead, seen by a waiter
 *        |                                         |
 *        +--- CAS --> {owner, waiters}             +--- CAS --> {me, waiters, recover} -- repair --> {me, waiters}
 *
 * Rules:
 *  1. The owner {slot, generation} is in the CAS that takes the lock: there is no instant at which it is taken but
 * anonymous.
 *  2. Only a dead owner is robbed: its slot's generation moved on. Generations have 50 bits: a waiter that slept
 * through any number of owners cannot mistake one for another.
 *  3. Who slept takes the lock with `waiters` set, so that an unlocker who is killed between its exchange and its wake
 * strands nobody for longer than a slice.
 *  4. Every wait has a bound; reaching it is EBUSY and a counter, and leaves word for the inspector who it was.
 */
#include "stripe.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SPINS 200
#define FIRST_SLICE_NS                                                                                                 \
    UINT64_C(60000) /* sleeps double from here: a dead owner is noticed soon, a slow one costs little */
#define LAST_SLICE_NS UINT64_C(4000000)

static void futex_wait_slice(sm_u64 *lock, uint64_t expected, uint64_t ns) {
    struct timespec slice = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    /* The low half is the futex (little-endian; other byte orders are refused at attach). */
    syscall(SYS_futex, (uint32_t *)(void *)lock, FUTEX_WAIT, (uint32_t)expected, &slice, NULL, 0);
}

static void futex_wake_one(sm_u64 *lock) {
    syscall(SYS_futex, (uint32_t *)(void *)lock, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static inline bool is_free(uint64_t word) {
    return (word & SM_LOCK_OWNER_MASK) == 0;
}

static bool try_take(struct lr_view *view, uint64_t seen, uint64_t own) {
    /* ORDER(stripe-lock) observe: what the last holder wrote before it published 0. */
    return atomic_compare_exchange_strong_explicit(&view->stripe->lock, &seen, own, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

/* The owner seen in `word` is dead: make the lock ours and the stripe healthy. False: somebody else was faster. */
static bool take_over(struct lr_view *view, uint64_t word, uint64_t own) {
    struct lr_cache *cache = view->cache;
    uint64_t owner = word & SM_LOCK_OWNER_MASK;
    if (lr_owner_slot(owner) < cache->geometry.participants &&
        !lr_participant_reap(cache, lr_owner_slot(owner), lr_owner_generation(owner)))
        return false;
    if (!lr_repair_claim(cache))
        return false;
    LR_CRASH_POINT("take-over, before");
    /* COMMIT POINT: before, the dead owner holds the lock and the next waiter comes here too; after, we hold it, and if
     * we die, the next one takes over from us and repairs as well. `recover` tells the inspector. */
    if (!try_take(view, word, own | SM_LOCK_WAITERS | SM_LOCK_RECOVER)) {
        lr_repair_release(cache);
        return false;
    }
    LR_CRASH_POINT("take-over, after");
    lr_count(cache, LR_C_takeovers);
    lr_repair(view);
    LR_CRASH_POINT("recovered, before");
    atomic_fetch_and_explicit(&view->stripe->lock, ~SM_LOCK_RECOVER, memory_order_release);
    LR_CRASH_POINT("recovered, after");
    return true;
}

static void remember_stall(struct lr_view *view, uint64_t word) {
    uint64_t owner = word & SM_LOCK_OWNER_MASK;
    if (lr_load(&view->stripe->stalled_owner) != owner) {
        lr_store(&view->stripe->stalled_since_ms, lr_now_ms(view->cache));
        lr_store(&view->stripe->stalled_owner, owner);
    }
}

static int lock_slowly(struct lr_view *view, uint64_t own, uint32_t wait_ms) {
    struct lr_cache *cache = view->cache;
    for (unsigned i = 0; i < SPINS; i++) {
        uint64_t word = lr_load(&view->stripe->lock);
        if (is_free(word) && try_take(view, word, own))
            return 0;
        __builtin_ia32_pause();
    }
    uint64_t now = lr_monotonic_ns();
    const uint64_t end = now + (uint64_t)wait_ms * 1000000u;
    uint64_t watched = 0, slice = FIRST_SLICE_NS;
    lr_count(cache, LR_C_lock_waits);
    for (;;) {
        uint64_t word = lr_load(&view->stripe->lock);
        if (is_free(word)) {
            if (try_take(view, word, own | SM_LOCK_WAITERS))
                return 0;
            continue;
        }
        /* Probe who has been there for a whole slice, or at once when there is no time to wait. */
        if ((word & SM_LOCK_OWNER_MASK) == watched || wait_ms == 0) {
            if (!lr_owner_alive(cache, word & SM_LOCK_OWNER_MASK) && take_over(view, word, own))
                return 0;
        }
        now = lr_monotonic_ns();
        if (now >= end) {
            word = lr_load(&view->stripe->lock);
            if (is_free(word))
                continue;
            if (wait_ms != 0) { /* who only tried has not been kept waiting by anybody */
                remember_stall(view, word);
                lr_count(cache, LR_C_busy);
            }
            return LARDER_EBUSY;
        }
        watched = word & SM_LOCK_OWNER_MASK;
        uint64_t waiting = word | SM_LOCK_WAITERS;
        if (word != waiting && !try_take(view, word, waiting))
            continue;
        futex_wait_slice(&view->stripe->lock, waiting, end - now < slice ? end - now : slice);
        slice = slice < LAST_SLICE_NS / 2 ? slice * 2 : LAST_SLICE_NS;
    }
}

static void release(struct lr_view *view) {
    sm_u64 *sequence = &view->stripe->sequence;
    /* ORDER(sequence) publish: even after all that the holder stored. */
    atomic_store_explicit(sequence, (lr_load(sequence) | 1u) + 1u, memory_order_release);
    LR_CRASH_POINT("unlock, before");
    /* COMMIT POINT: before, we hold the stripe, and if we die it is repaired; after, it is free. ORDER(stripe-lock)
     * publish: all that the holder wrote. */
    uint64_t word = atomic_exchange_explicit(&view->stripe->lock, 0, memory_order_acq_rel);
    LR_CRASH_POINT("unlock, after");
    if (word & SM_LOCK_WAITERS)
        futex_wake_one(&view->stripe->lock);
}

int lr_stripe_lock_for(struct lr_view *view, struct lr_cache *cache, uint32_t stripe, uint32_t wait_ms) {
    *view = lr_view_of(cache, stripe);
    uint64_t own = lr_own_word(cache);
    if (!try_take(view, 0, own)) {
        int error = lock_slowly(view, own, wait_ms);
        if (error != 0)
            return error;
    }
    LR_CRASH_POINT("lock taken");
    /* ORDER(sequence) publish: odd before anything else is stored, so that a lockless snapshot (check.c) is not
     * trusted. */
    lr_store(&view->stripe->sequence, lr_load(&view->stripe->sequence) | 1u);
    atomic_thread_fence(memory_order_release);
    if (!lr_words_sane(view)) {
        if (!lr_repair_claim(cache)) {
            release(view);
            return LARDER_EBUSY;
        }
        lr_repair(view);
    }
    if (atomic_load_explicit(&view->stripe->notes_pending, memory_order_relaxed) != 0)
        lr_notes_settle(view);
    return 0;
}

int lr_stripe_lock(struct lr_view *view, struct lr_cache *cache, uint32_t stripe) {
    return lr_stripe_lock_for(view, cache, stripe, cache->wait_ms);
}

/* The hand met these participants' pins: perhaps they are dead, then their pins go. */
static void reap_blockers(struct lr_view *view) {
    struct lr_cache *cache = view->cache;
    for (uint32_t i = 0; i < view->blockers; i++) {
        uint32_t slot = view->blocker_slot[i];
        uint64_t generation = lr_load(&cache->participants[slot].generation);
        if (!lr_owner_alive(cache, lr_owner_word(slot, generation)))
            lr_participant_reap(cache, slot, generation);
    }
}

void lr_stripe_unlock(struct lr_view *view) {
    if (view->damaged && lr_repair_claim(view->cache))
        lr_repair(view);
    release(view);
    if (view->ring_bell)
        lr_bell_ring(view->cache);
    if (view->blockers != 0)
        reap_blockers(view);
}
