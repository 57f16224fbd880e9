/* SPDX-License-Identifier: MIT */
/*
 * Hazards: which blocks must stay as they are because somebody reads them in place?
 *
 * A reader puts the block's address into a hazard of its own participant, and only if the slot word stands unchanged
 * after that, with its `pinned` flag (which the reader sets where it is not set), may it read (reader.c). A writer
 * takes the word out first and looks at the hazards second. Between the two stands a full fence on either side, so at
 * least one of them sees the other (hazard pointers, M. Michael, 2004; the pinned flag spares the scan for the many
 * blocks that nobody pins).
 *
 *   pinner   claim: CAS of the hazard, 0 -> block   |   look: load of the slot word: the same, flagged
 *   writer   take out: CAS of the slot word         |   fence, load of the hazard
 *
 * Claim, look, take out and fence are sequentially consistent, so they have one order that all agree upon. If the look
 * comes before the taking out, so does the claim, and the writer sees the hazard. If not, the look finds another word.
 * The block's size follows by a plain store when the block has been read; nobody who looks for a block needs it.
 * The claim is a locked instruction, which is the full fence: where the flag stands already, and it stays after a pin
 * until the hand comes by, there is no other in a pin, and none in a release, which is a plain store.
 *
 * The summary says which hazards were ever used, so a scan reads one word of most participants and one line of those
 * who hold few pins at a time: the first free hazard is taken. Its bits are set before the hazard and stay as long as
 * the handle, because taking one back would be a locked instruction in every release.
 *
 * How much of a stripe may pins hold? Nobody breaks a live pin, so what they hold is lost to everybody else, and many
 * processes with 64 pins each could hold all of it. A count that all pinners share would be a store to a shared line in
 * every pin and every release, and would be wrong after a death. So:
 *  1. A handle whose pins, in all stripes together, stay within its allowance asks nobody. That is a sixteenth of the
 *     largest block, shared among all slots ever used: together, whoever joined when, less than half of a largest block
 *     (1/16 of 1 + 1/2 + ... + 1/1024).
 *  2. Beyond it, the pinner looks at the hazards of all others, its own being published: the blocks that are pinned in
 *     the stripe, each counted once, may have as many bytes as one largest block. Two who do that at once see each
 * other. Both together are less than 0.56 of a stripe; the arena has at least 3/5 of it.
 */
#include "stripe.h"

#define DISTINCT 256u /* blocks that rule 2 can tell apart; beyond them a block may count twice */

static void remember_blocker(struct lr_view *view, uint32_t slot) {
    if (slot == view->cache->slot && !view->cache->read_only)
        return;
    for (uint32_t i = 0; i < view->blockers; i++)
        if (view->blocker_slot[i] == slot)
            return;
    if (view->blockers < LR_BLOCKERS)
        view->blocker_slot[view->blockers++] = slot;
}

bool lr_hazard_held(struct lr_cache *cache, uint64_t hazard, struct lr_view *view) {
    /* ORDER(hazard) observe: the slot word was changed before; a pinner who has not seen that has its hazard visible
     * now. */
    atomic_thread_fence(memory_order_seq_cst);
    const uint32_t high = lr_slots_used(cache);
    bool held = false;
    for (uint32_t slot = 0; slot < high && !held; slot++) {
        struct sm_participant *participant = &cache->participants[slot];
        uint64_t summary = atomic_load_explicit(&participant->pin_summary, memory_order_acquire);
        while (summary != 0 && !held) {
            unsigned i = (unsigned)__builtin_ctzll(summary);
            summary &= summary - 1;
            uint64_t word = atomic_load_explicit(&participant->hazards[i], memory_order_acquire);
            held = (word & SM_HAZARD_PLACE_MASK) == hazard;
        }
        if (held && view != NULL)
            remember_blocker(view, slot);
    }
    return held;
}

static bool is_listed(const uint64_t *list, unsigned count, uint64_t hazard) {
    for (unsigned i = 0; i < count; i++)
        if (list[i] == hazard)
            return true;
    return false;
}

/* Rule 2. */
static bool stripe_has_room(const struct lr_view *view) {
    const struct lr_cache *cache = view->cache;
    const uint64_t first = lr_hazard_of(cache, view->data, 0), last = first + cache->geometry.stripe_bytes / SM_GRANULE;
    uint64_t bytes = 0, listed[DISTINCT];
    unsigned count = 0;
    /* Ours has its size before we look at those of others: of two who do this at once, one sees the other. */
    atomic_thread_fence(memory_order_seq_cst);
    for (uint32_t slot = 0; slot < lr_slots_used(cache); slot++) {
        struct sm_participant *participant = &cache->participants[slot];
        uint64_t summary = atomic_load_explicit(&participant->pin_summary, memory_order_acquire);
        for (; summary != 0; summary &= summary - 1) {
            unsigned i = (unsigned)__builtin_ctzll(summary);
            uint64_t word = atomic_load_explicit(&participant->hazards[i], memory_order_acquire);
            uint64_t hazard = word & SM_HAZARD_PLACE_MASK;
            if (hazard < first || hazard >= last || is_listed(listed, count, hazard))
                continue;
            bytes += lr_hazard_bytes(cache, word);
            if (bytes > cache->geometry.max_block)
                return false;
            if (count < DISTINCT)
                listed[count++] = hazard;
        }
    }
    return true;
}

bool lr_hazard_fits(const struct lr_view *view, uint32_t hazard) {
    struct lr_cache *cache = view->cache;
    uint64_t bytes = lr_hazard_bytes(cache, lr_load(&cache->me->hazards[hazard]));
    uint64_t others = lr_load(&cache->me->pin_summary) & ~(UINT64_C(1) << hazard);
    bool known = true;
    for (; others != 0; others &= others - 1) {
        uint64_t its = lr_load(&cache->me->hazards[__builtin_ctzll(others)]);
        known &= its == 0 || its > SM_HAZARD_PLACE_MASK; /* else another thread has just claimed it: size to come */
        bytes += lr_hazard_bytes(cache, its);
    }
    return (known && bytes * LR_PIN_ALLOWANCE * lr_slots_used(cache) <= cache->geometry.max_block) ||
           stripe_has_room(view);
}
