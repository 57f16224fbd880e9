/* SPDX-License-Identifier: MIT */
/*
 * How far has catching up come, and when will it be done?
 *
 * The work of catching up is to walk through stripes: those that a peer is to be sent (outflow.c), or the passes of a
 * comparison (compare.c). So what is left is counted in walks of a stripe, in 65536ths, and asked for at every tick.
 * Entries are spread over stripes and within them by their hashes; so half of the walk is half of what there is to
 * send.
 *
 *   left   |#########
 *          |         ####      +-- more came: a ring that ran over, a walk that began anew
 *          |             ##### |
 *          |                  ####
 *          |                      #####         total: what was left at first, and all that came to it
 *          +------------------------------
 *                     |<--->| the rate's window, RATE_MS to two of them
 *
 * Rules:
 *  1. left is at most total, so the share that is done is never negative. What is on its way is not done; until all is
 *     acknowledged the share is below 1.
 *  2. The time that is left is what is left at the rate of the last seconds. Passes differ in what they cost, so the
 *     rate begins anew with each; and while a comparison has not yet come to the pass in which entries travel, or
 *     nothing moved, it is unknown.
 *  3. Without a link nothing is under way.
 */
#include "node.h"

#define RATE_MS 2000u  /* a window is at least half of it */
#define MOST_SHARE 999 /* of 1000 */

/* What was walked through and is not acknowledged is not done: of this pass the part that the bytes on their way are of
 * those that were sent. */
static uint64_t on_way(const struct lr_progress *progress, const struct lr_ahead *ahead) {
    const uint64_t sent = ahead->sent - progress->pass_sent, walked = progress->pass_left - ahead->left;
    return sent == 0 ? 0 : walked * (ahead->on_way < sent ? ahead->on_way : sent) / sent;
}

static void follow(struct lr_progress *progress, struct lr_ahead ahead, uint64_t now) {
    const uint64_t before = progress->walks_left;
    const bool anew = !progress->under_way || ahead.pass != progress->pass || ahead.left > before;
    if (!ahead.any) {
        *progress = (struct lr_progress){0};
        return;
    }
    progress->total += ahead.left > before ? ahead.left - before : 0;
    if (anew) {
        progress->pass_left = ahead.left;
        progress->pass_sent = ahead.sent;
    }
    progress->walks_left = ahead.left;
    const uint64_t left = ahead.left + on_way(progress, &ahead);
    progress->left = anew || left < progress->left ? left : progress->left; /* more on its way undoes nothing */
    progress->pass = ahead.pass;
    progress->under_way = true;
    progress->sends = ahead.sends;
    progress->now_ms = now;
    const struct lr_progress_at here = {.left = progress->left, .ms = now};
    /* What goes out before the window is full says nothing of the rate. */
    const bool filling = ahead.sent - progress->pass_sent < 2 * ahead.on_way;
    if (anew || filling) {
        progress->from = progress->then = here;
    } else if (now - progress->then.ms >= RATE_MS) {
        progress->from = progress->then;
        progress->then = here;
    }
}

void lr_progress_tick(struct lr_peer *peer) {
    const uint64_t now = lr_node_now(peer->node);
    follow(&peer->sending, lr_outflow_ahead(peer), now);
    follow(&peer->fetching, lr_compare_fetches(peer), now);
}

bool lr_progress_share(const struct lr_progress *progress, unsigned *thousandths) {
    const uint64_t done = progress->total - progress->left;
    const uint64_t share = progress->total == 0 ? MOST_SHARE : done * 1000 / progress->total;
    *thousandths = share < MOST_SHARE ? (unsigned)share : MOST_SHARE;
    return progress->under_way;
}

uint64_t lr_progress_seconds(const struct lr_progress *progress) {
    const uint64_t ms = progress->now_ms - progress->from.ms, moved = progress->from.left - progress->left;
    if (!progress->under_way || !progress->sends || ms < RATE_MS / 2 || moved == 0)
        return UINT64_MAX;
    return (progress->left * ms / moved + 999) / 1000;
}
