/* SPDX-License-Identifier: MIT */
/* The peers of a host together: what all of them have, and the host's own chores. node.h says the rest. */
#include "node.h"

#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EPOCH_EVERY_MS 200u
#define EPOCH_SHARE 16u   /* ... and so many times as one is not acknowledged */
#define EPOCHS_APART 512u /* at most, between what all have acknowledged and now */
#define EPOCHS_EARLY 64u  /* up to so many, one is closed when a walk asks for it */
#define REPORT_EVERY_MS 500u
#define REAP_EVERY_MS 1000u
#define SWEEP_EVERY_MS 100u
#define SWEEP_STRIPES 4u
#define SWEEP_BUCKETS 512u
#define SWEEP_AGAIN 8u /* a stripe where something was found is swept on at once, so often */
#define AGE_EVERY_MS 30000u
#define SOURCES 1024u /* hints of a stripe of which it is known whence they came: a ring's worth */
#define FIT_STRIPES 4u
#define FIT_PAUSE_LEAST_MS 1000u
#define FIT_PAUSE_MOST_MS 60000u

/* An epoch that the last larderd closed, and that was not acknowledged, is ours to finish. A stripe that never had one
 * gets its first here, so that what comes from now on counts as not yet shipped. */
static void take_over_epoch(struct lr_node *node, uint32_t stripe) {
    struct lr_stripe_epoch *epoch = &node->epochs[stripe];
    uint32_t now = lr_epoch_now(node->cache, stripe);
    uint32_t acked = lr_epoch_get_acked(node->cache, stripe);
    epoch->newest.epoch = now - 1;
    if (now == acked) /* busy: close_epochs comes by soon */
        lr_epoch_begin(node->cache, stripe, &epoch->newest.epoch, &epoch->newest.head);
    if (now - acked <= 1)
        return;
    /* The open one too, or what arrived in it would count as not shipped for as long as nothing else changes. */
    if (now - acked >= EPOCHS_APART ||
        lr_epoch_begin(node->cache, stripe, &epoch->newest.epoch, &epoch->newest.head) != 0)
        epoch->newest.head = lr_feed_head(node->cache, stripe);
    epoch->oldest = epoch->newest;
    epoch->since_ms = lr_node_now(node);
    epoch->closed = true;
}

struct lr_node *lr_node_create(struct lr_cache *cache, const struct lr_world *world,
                               const struct lr_node_options *options) {
    struct lr_node *node = calloc(1, sizeof *node);
    if (node == NULL)
        return NULL;
    node->cache = cache;
    node->world = world;
    snprintf(node->name, sizeof node->name, "%s", options->name);
    snprintf(node->listen, sizeof node->listen, "%s", options->listen);
    lr_incarnation(cache, node->incarnation);
    node->clock_limit_ms = options->clock_limit_ms;
    node->tombstone_ms = options->tombstone_ms;
    node->pack_least = options->pack_least;
    node->relay = options->relay;
    node->gather = options->gather;
    node->stripes = lr_stripe_count(cache);
    node->entry_cap = lr_entry_bytes(cache);
    node->entry = malloc(node->entry_cap);
    node->pack = lr_pack_create(node->entry_cap);
    node->epochs = calloc(node->stripes, sizeof *node->epochs);
    node->source_len = SOURCES;
    node->sources = calloc((size_t)node->stripes * node->source_len, sizeof *node->sources);
    if (node->entry == NULL || node->pack == NULL || node->epochs == NULL || node->sources == NULL) {
        lr_node_destroy(node);
        return NULL;
    }
    for (uint32_t i = 0; i < node->stripes; i++)
        take_over_epoch(node, i);
    lr_set_doubt(cache, node->clock_limit_ms, node->relay);
    node->modal = lr_modes_hash(cache) != 0;
    if (node->entry_cap > WIRE_MAX_ENTRY)
        lr_log(LR_WARN, "items above %llu bytes do not travel: the peers forget what they have of them",
               (unsigned long long)WIRE_MAX_ENTRY);
    return node;
}

static void sweep_links(struct lr_node *node) {
    for (struct lr_link **at = &node->links; *at != NULL;) {
        struct lr_link *link = *at;
        if (link->closed) {
            *at = link->next;
            lr_link_free(link);
        } else {
            at = &link->next;
        }
    }
}

void lr_node_destroy(struct lr_node *node) {
    for (unsigned i = 0; i < node->peer_count; i++)
        lr_peer_destroy(node->peers[i], WIRE_BYE_SHUTDOWN);
    for (struct lr_link *link = node->links; link != NULL; link = link->next)
        lr_link_close(link, WIRE_BYE_SHUTDOWN, wire_reason_text(WIRE_BYE_SHUTDOWN));
    sweep_links(node);
    free(node->entry);
    lr_pack_free(node->pack);
    free(node->epochs);
    free(node->sources);
    free(node->drain_heads);
    free(node);
}

/* ---- peers ------------------------------------------------------------------------------------------------------ */

static unsigned find(const struct lr_node *node, const char *address) {
    unsigned i = 0;
    while (i < node->peer_count && strcmp(node->peers[i]->address, address) != 0)
        i++;
    return i;
}

int lr_node_add_peer(struct lr_node *node, const char *address) {
    if (find(node, address) < node->peer_count)
        return 0;
    struct lr_peer *peer = node->peer_count < LR_MAX_PEERS ? lr_peer_create(node, address) : NULL;
    if (peer == NULL)
        return -1;
    node->peers[node->peer_count++] = peer;
    lr_set_replicating(node->cache, true);
    return 0;
}

/* Whether anybody is to hear of what changes here, now or later. */
static bool is_telling(const struct lr_node *node) {
    return node->peer_count > 0 || node->removed_count > 0;
}

static void forget_removed(struct lr_node *node, unsigned i) {
    node->removed_count--;
    memmove(&node->removed[i], &node->removed[i + 1], (node->removed_count - i) * sizeof *node->removed);
}

static unsigned find_removed(const struct lr_node *node, const char *address) {
    unsigned i = 0;
    while (i < node->removed_count && strcmp(node->removed[i].address, address) != 0)
        i++;
    return i;
}

void lr_node_back(struct lr_node *node, const char *address) {
    const unsigned i = find_removed(node, address);
    if (i < node->removed_count)
        forget_removed(node, i);
}

/* Removed again before it was in step: it was told of nothing in between. */
static void remember_removed(struct lr_node *node, const struct lr_peer *peer) {
    const unsigned before = find_removed(node, peer->address);
    struct lr_removed row = {.since_ms = before < node->removed_count ? node->removed[before].since_ms : peer->even_ms,
                             .removed_ms = lr_node_now(node)};
    memcpy(row.address, peer->address, sizeof row.address);
    lr_node_back(node, peer->address);
    if (node->removed_count == LR_MAX_PEERS)
        forget_removed(node, 0);
    node->removed[node->removed_count++] = row;
}

static void expire_removed(struct lr_node *node) {
    if (node->removed_count == 0 || lr_node_now(node) - node->removed[0].removed_ms < LR_REMOVED_MS)
        return;
    forget_removed(node, 0);
    lr_set_replicating(node->cache, is_telling(node));
}

/* How long tombstones live that every peer has. */
static uint64_t tombstone_life(const struct lr_node *node) {
    uint64_t life = node->tombstone_ms;
    for (unsigned i = 0; i < node->removed_count; i++) {
        const uint64_t since = lr_node_now(node) - node->removed[i].since_ms + node->clock_limit_ms;
        life = node->removed[i].since_ms == 0 ? UINT64_MAX : life < since ? since : life;
    }
    return life;
}

void lr_node_remove_peer(struct lr_node *node, const char *address) {
    unsigned i = find(node, address);
    if (i == node->peer_count)
        return;
    struct lr_peer *peer = node->peers[i];
    node->peers[i] = node->peers[--node->peer_count];
    remember_removed(node, peer);
    lr_peer_destroy(peer, WIRE_BYE_REMOVED);
    lr_set_replicating(node->cache, is_telling(node));
    for (uint32_t stripe = 0; stripe < node->stripes; stripe++)
        lr_node_acked(node, stripe);
}

unsigned lr_node_live(const struct lr_node *node) {
    unsigned live = 0;
    for (unsigned i = 0; i < node->peer_count; i++)
        live += node->peers[i]->state == LR_PEER_LIVE;
    return live;
}

/* ---- what every peer has ---------------------------------------------------------------------------------------- */

/* Of how many peers can a writer say that they have it, up to where? */
static void tell_ranks(struct lr_node *node, uint32_t stripe) {
    uint64_t ranks[LR_AWAIT_PEERS] = {0};
    unsigned count = 0;
    for (unsigned i = 0; i < node->peer_count; i++) {
        const struct lr_cursor *cursor = &node->peers[i]->out.cursors[stripe];
        if (cursor->scan == LR_SCAN_FULL || cursor->unacked_scan == LR_SCAN_FULL)
            continue; /* it has nothing yet */
        unsigned at = count < LR_AWAIT_PEERS ? count++ : LR_AWAIT_PEERS - 1;
        if (at == LR_AWAIT_PEERS - 1 && cursor->acked <= ranks[at])
            continue;
        for (; at > 0 && ranks[at - 1] < cursor->acked; at--)
            ranks[at] = ranks[at - 1];
        ranks[at] = cursor->acked;
    }
    lr_feed_acked_by(node->cache, stripe, ranks, count);
}

/* Hints of the stripe say everything that the peer lacks of it. */
static bool is_hinted(const struct lr_cursor *cursor) {
    return cursor->scan == LR_SCAN_NONE && cursor->unacked_scan == LR_SCAN_NONE;
}

static void credit(struct lr_cursor *cursor, const struct lr_boundary *boundary) {
    if (cursor->acked >= boundary->head && (int32_t)(boundary->epoch - cursor->acked_epoch) > 0)
        cursor->acked_epoch = boundary->epoch;
}

/* All peers have acknowledged up to `position`. */
static void pass(struct lr_node *node, uint32_t stripe, uint64_t position) {
    struct lr_stripe_epoch *epoch = &node->epochs[stripe];
    if (!epoch->closed || position < epoch->oldest.head)
        return;
    epoch->closed = position < epoch->newest.head;
    lr_epoch_acked(node->cache, stripe, epoch->closed ? epoch->oldest.epoch : epoch->newest.epoch);
    epoch->oldest = epoch->newest;
    epoch->since_ms = lr_node_now(node);
    epoch->next_ms = epoch->since_ms + EPOCH_EVERY_MS;
}

void lr_node_acked(struct lr_node *node, uint32_t stripe) {
    tell_ranks(node, stripe);
    struct lr_stripe_epoch *epoch = &node->epochs[stripe];
    uint64_t least = UINT64_MAX;
    bool hinted = true, full = false;
    for (unsigned i = 0; i < node->peer_count; i++) {
        struct lr_cursor *cursor = &node->peers[i]->out.cursors[stripe];
        full |= cursor->scan == LR_SCAN_FULL || cursor->unacked_scan == LR_SCAN_FULL; /* it has nothing yet */
        hinted &= is_hinted(cursor);
        if (epoch->closed && is_hinted(cursor)) {
            credit(cursor, &epoch->oldest);
            credit(cursor, &epoch->newest);
        }
        if (cursor->acked < least)
            least = cursor->acked;
    }
    if (full || !is_telling(node))
        return;
    if (node->peer_count == 0)
        least = lr_feed_head(node->cache, stripe);
    if (least > epoch->acked) {
        epoch->acked = least;
        lr_feed_acked(node->cache, stripe, least);
    }
    if (hinted)
        pass(node, stripe, least);
}

static void rescan(struct lr_node *node, uint32_t stripe) {
    if (!lr_feed_take_rescan(node->cache, stripe))
        return;
    lr_log(LR_INFO, "stripe %u: hints may be missing, it will be walked for every peer", stripe);
    for (unsigned i = 0; i < node->peer_count; i++)
        lr_outflow_rescan(node->peers[i], stripe);
}

static bool close_epoch(struct lr_node *node, uint32_t stripe) {
    struct lr_stripe_epoch *epoch = &node->epochs[stripe];
    const uint64_t now = lr_node_now(node);
    if (!epoch->closed)
        epoch->since_ms = now;
    const uint64_t share = (now - epoch->since_ms) / EPOCH_SHARE;
    epoch->next_ms = now + (share > EPOCH_EVERY_MS ? share : EPOCH_EVERY_MS);
    if (lr_epoch_begin(node->cache, stripe, &epoch->newest.epoch, &epoch->newest.head) != 0)
        return false;
    if (!epoch->closed)
        epoch->oldest = epoch->newest;
    epoch->closed = true;
    rescan(node, stripe); /* of who died in the epoch that has ended the hint may be missing */
    lr_node_acked(node, stripe);
    return true;
}

/* Whether some peer has all that came before the newest boundary, so that another one says more of it. */
static bool is_of_use(const struct lr_node *node, uint32_t stripe) {
    const struct lr_stripe_epoch *epoch = &node->epochs[stripe];
    for (unsigned i = 0; epoch->closed && i < node->peer_count; i++) {
        const struct lr_cursor *cursor = &node->peers[i]->out.cursors[stripe];
        if (is_hinted(cursor) && cursor->acked >= epoch->newest.head)
            return true;
    }
    return !epoch->closed;
}

static bool may_close(const struct lr_node *node, uint32_t stripe, uint32_t apart) {
    return lr_epoch_now(node->cache, stripe) - lr_epoch_get_acked(node->cache, stripe) < apart;
}

static void close_epochs(struct lr_node *node) {
    uint64_t now = lr_node_now(node);
    for (uint32_t stripe = 0; stripe < node->stripes && is_telling(node); stripe++) {
        const struct lr_stripe_epoch *epoch = &node->epochs[stripe];
        if (now >= epoch->next_ms && lr_feed_head(node->cache, stripe) != epoch->newest.head &&
            may_close(node, stripe, EPOCHS_APART) && is_of_use(node, stripe))
            (void)close_epoch(node, stripe);
    }
}

bool lr_node_end_epoch(struct lr_node *node, uint32_t stripe) {
    return lr_feed_head(node->cache, stripe) == node->epochs[stripe].newest.head ||
           (may_close(node, stripe, EPOCHS_EARLY) && close_epoch(node, stripe));
}

bool lr_node_boundary(struct lr_node *node, uint32_t stripe, struct lr_boundary *out) {
    const bool known = lr_node_end_epoch(node, stripe);
    if (known)
        *out = node->epochs[stripe].newest;
    return known;
}

static void take_rescans(struct lr_node *node) {
    for (uint32_t stripe = 0; stripe < node->stripes && node->peer_count > 0; stripe++)
        rescan(node, stripe);
}

/* ---- modes ------------------------------------------------------------------------------------------------------ */

void lr_node_modes_changed(struct lr_node *node) {
    node->modal = lr_modes_hash(node->cache) != 0;
    node->fit_stripe = 0;
    node->fit_pause_ms = 0;
    node->fit_next_ms = 0;
    for (unsigned i = 0; i < node->peer_count; i++)
        if (node->peers[i]->link != NULL)
            lr_link_close(node->peers[i]->link, WIRE_BYE_SHUTDOWN, "the modes of keys have changed");
}

/* One that cannot be walked is tried again, less and less often. */
static void put_fitting_off(struct lr_node *node, int error) {
    if (node->fit_pause_ms == 0)
        lr_log(LR_ERROR,
               "stripe %u: %s; entries of keys whose mode has changed stay until that is mended: see `larder check`",
               node->fit_stripe, lr_error_text(error));
    node->fit_pause_ms = node->fit_pause_ms == 0                  ? FIT_PAUSE_LEAST_MS
                         : node->fit_pause_ms < FIT_PAUSE_MOST_MS ? 2 * node->fit_pause_ms
                                                                  : node->fit_pause_ms;
    node->fit_next_ms = lr_node_now(node) + node->fit_pause_ms;
}

/* Some stripes at a time; one that is busy is tried again. */
static void fit_modes(struct lr_node *node) {
    if (lr_node_now(node) < node->fit_next_ms)
        return;
    for (unsigned i = 0; i < FIT_STRIPES && lr_modes_unfit(node->cache); i++) {
        if (node->fit_stripe == node->stripes) {
            lr_modes_fitted(node->cache);
            return;
        }
        int dropped = lr_modes_fit(node->cache, node->fit_stripe, node->entry, node->entry_cap);
        if (dropped < 0 && dropped != LARDER_EBUSY)
            put_fitting_off(node, dropped);
        if (dropped < 0)
            return;
        node->fit_pause_ms = 0;
        if (dropped > 0)
            lr_log(LR_INFO, "stripe %u: entries of keys whose mode has changed were dropped entries=%d",
                   node->fit_stripe, dropped);
        node->fit_stripe++;
    }
}

/* ---- chores ----------------------------------------------------------------------------------------------------- */

static void sweep(struct lr_node *node) {
    for (unsigned i = 0; i < SWEEP_STRIPES && i < node->stripes; i++) {
        for (unsigned again = 0; again < SWEEP_AGAIN; again++)
            if (lr_sweep(node->cache, node->sweep_stripe, SWEEP_BUCKETS, tombstone_life(node)) <= 0)
                break;
        node->sweep_stripe = (node->sweep_stripe + 1) % node->stripes;
    }
}

static void report(struct lr_node *node) {
    unsigned live = lr_node_live(node);
    node->reported_live = live;
    bool known = node->peer_count > 0 && live == node->peer_count;
    lr_sidecar_report(node->cache, node->peer_count, live, known ? lr_lag_percentile(&node->lag, 50) : UINT64_MAX,
                      known ? lr_lag_percentile(&node->lag, 99) : UINT64_MAX);
}

static bool due(uint64_t now, uint64_t *last, uint64_t every) {
    if (now - *last < every)
        return false;
    *last = now;
    return true;
}

void lr_node_rung(struct lr_node *node) {
    node->rung = true;
}

void lr_node_tick(struct lr_node *node) {
    uint64_t now = lr_node_now(node);
    node->rung = true;
    for (struct lr_link *link = node->links; link != NULL; link = link->next)
        lr_link_tick(link);
    for (unsigned i = 0; i < node->peer_count; i++) {
        struct lr_peer *peer = node->peers[i];
        lr_peer_tick(peer);
        if (peer->link != NULL && peer->out.synced && peer->out.settle == LR_SETTLE_NONE && lr_settle_due(peer))
            lr_settle_begin(peer);
        if (peer->state == LR_PEER_LIVE && lr_outflow_left(peer) == 0)
            peer->even_ms = now;
        lr_progress_tick(peer);
    }
    expire_removed(node);
    take_rescans(node);
    close_epochs(node);
    fit_modes(node);
    if (due(now, &node->swept_ms, SWEEP_EVERY_MS))
        sweep(node);
    if (due(now, &node->cleared_ms, LR_SETTLE_EVERY_MS))
        lr_settle_clear(node);
    if (due(now, &node->reaped_ms, REAP_EVERY_MS)) {
        int freed = lr_reap(node->cache);
        if (freed > 0)
            lr_log(LR_INFO, "freed the slots of dead processes slots=%d", freed);
        node->retired = freed == LARDER_ERETIRED;
    }
    if (due(now, &node->aged_ms, AGE_EVERY_MS))
        lr_lag_age(&node->lag);
    if (due(now, &node->reported_ms, REPORT_EVERY_MS) || lr_node_live(node) != node->reported_live)
        report(node);
}

bool lr_node_work(struct lr_node *node) {
    bool more = false;
    for (struct lr_link *link = node->links; link != NULL; link = link->next) {
        if (link->closed)
            continue;
        if (link->in.settling)
            more |= lr_settle_walk(link);
        else if (link->in.paused)
            lr_link_work(link);
    }
    for (unsigned i = 0; i < node->peer_count; i++)
        more |= lr_outflow_pump(node->peers[i]);
    node->rung = false;
    sweep_links(node);
    return more;
}

uint32_t lr_node_next_link(struct lr_node *node) {
    node->link_number = node->link_number % 0xffffffu + 1;
    return node->link_number;
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

uint64_t lr_node_head(const struct lr_node *node, uint32_t stripe) {
    uint64_t head = lr_feed_head(node->cache, stripe);
    return node->drain_heads != NULL && node->drain_heads[stripe] < head ? node->drain_heads[stripe] : head;
}

void lr_node_drain(struct lr_node *node) {
    uint64_t *heads = malloc(node->stripes * sizeof *heads);
    for (uint32_t i = 0; heads != NULL && i < node->stripes; i++)
        heads[i] = lr_feed_head(node->cache, i);
    free(node->drain_heads);
    node->drain_heads = heads;
}

uint64_t lr_node_left(const struct lr_node *node, bool linked_only) {
    uint64_t left = 0;
    for (unsigned i = 0; i < node->peer_count; i++)
        if (!linked_only || node->peers[i]->link != NULL)
            left += lr_outflow_left(node->peers[i]);
    return left;
}
