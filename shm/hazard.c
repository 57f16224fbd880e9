/* SPDX-License-Identifier: MIT */
/*
 * Hazards: which blocks must stay as they are because somebody reads them in place?
 *
 * A reader stores the block's address in a hazard of its own participant, then sets `pinned` in the slot word by CAS,
 * and only if that word was unchanged may it read (reader.c). A writer takes the word out first and looks at the
 * hazards second. Between the two stands a full fence on either side, so at least one of them sees the other (hazard
 * pointers, M. Michael, 2004; the pinned flag spares the scan for the many blocks that nobody pins).
 */
#include "stripe.h"

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
    uint32_t high = atomic_load_explicit(&cache->header->participants_high, memory_order_relaxed);
    if (high > cache->geometry.participants)
        high = cache->geometry.participants;
    bool held = false;
    for (uint32_t slot = 0; slot < high && !held; slot++) {
        struct sm_participant *participant = &cache->participants[slot];
        uint64_t summary = atomic_load_explicit(&participant->pin_summary, memory_order_acquire);
        while (summary != 0 && !held) {
            unsigned i = (unsigned)__builtin_ctzll(summary);
            summary &= summary - 1;
            held = atomic_load_explicit(&participant->hazards[i], memory_order_acquire) == hazard;
        }
        if (held && view != NULL)
            remember_blocker(view, slot);
    }
    return held;
}
