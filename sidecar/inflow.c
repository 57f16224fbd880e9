/* SPDX-License-Identifier: MIT */
/*
 * What a peer sends is put into the segment, in the order in which it was sent.
 *
 * Applying is idempotent and commutative (cache.h), so a batch that comes twice after a reconnect does no harm. An
 * entry whose stripe is busy is tried again; the link is not read meanwhile, so nothing piles up here. After LR_BUSY_MS
 * it is to be declined: the older value goes, and the floor rises. That needs the stripe too, if for less; as long as
 * its lock holder is stopped, the link waits (its heartbeats go on). Skipping the entry would leave a superseded value
 * here for good.
 *
 * The time to live travels as time left. A copy therefore lives longer than its original by the time on the way; were a
 * later deadline always taken over, two hosts would prolong an item for each other for ever. So, for the same version,
 * only a deadline that is later by more than TTL_SLACK_MS counts.
 */
#include "log.h"
#include "node.h"

#include <stdio.h>

#define TTL_SLACK_MS 500u
#define BUSY_TELL_MS 3000u

bool lr_inflow_believes(struct lr_link *link, uint64_t version, const char *what) {
    uint64_t limit = link->in.wall_ms + link->node->clock_limit_ms;
    if (version == 0 || lr_version_unix_ms(version) <= limit)
        return true;
    char text[WIRE_MAX_TEXT + 1];
    snprintf(text, sizeof text, "%s is %llu ms ahead of %.24s's wall clock, limit %llu ms", what,
             (unsigned long long)(lr_version_unix_ms(version) - link->in.wall_ms), link->node->name,
             (unsigned long long)link->node->clock_limit_ms);
    lr_log(LR_ERROR, "link refused: %s local=%s remote=%s", text, link->node->listen, link->remote);
    link->peer->clock_refusals++;
    lr_link_close(link, WIRE_BYE_CLOCK, text);
    return false;
}

static uint64_t deadline_of(struct lr_node *node, uint64_t ttl_left_ms) {
    uint64_t now = lr_now_ms(node->cache);
    return ttl_left_ms < UINT64_MAX - 1 - now ? now + ttl_left_ms : UINT64_MAX;
}

/* The same version of the same value is stored, and lives about as long. */
static bool is_old_news(struct lr_node *node, const struct lr_known *row) {
    struct lr_entry entry;
    return lr_entry_by_hash(node->cache, row->hash, node->entry, node->entry_cap, &entry) == 0 && !entry.tombstone &&
           entry.version == row->version && row->deadline_ms != UINT64_MAX &&
           row->deadline_ms <= entry.deadline_ms + TTL_SLACK_MS &&
           lr_outflow_content(entry.value, entry.value_len, entry.flags) == row->content;
}

unsigned lr_inflow_flags(const struct wire_frame *frame) {
    return ((frame->flags & WIRE_FREE_ROOM) != 0 ? LR_NO_EVICT : 0) | ((frame->flags & WIRE_SCAN) != 0 ? LR_MORE : 0);
}

static struct lr_known row_of(const struct lr_change *change) {
    return (struct lr_known){.hash = lr_cluster_hash(change->key, change->key_len),
                             .version = change->version,
                             .deadline_ms = change->deadline_ms,
                             .content = lr_outflow_content(change->value, change->value_len, change->flags)};
}

static int apply_put(struct lr_link *link, const struct wire_frame *frame) {
    struct lr_node *node = link->node;
    const struct wire_put *put = &frame->as.put;
    struct lr_change change = {.key = put->key,
                               .value = put->value,
                               .key_len = put->key_len,
                               .value_len = put->value_len,
                               .version = put->version,
                               .deadline_ms = UINT64_MAX,
                               .flags = put->user_flags};
    if ((frame->flags & WIRE_PACKED) != 0) {
        int64_t len = lr_unpack(node->pack, put->value, put->value_len, &change.value);
        if (len < 0)
            return LARDER_EINVALID;
        change.value_len = (uint32_t)len;
    }
    if (put->ttl_left_ms != WIRE_NEVER)
        change.deadline_ms = deadline_of(node, put->ttl_left_ms);
    /* Too many to be remembered, and no walk of ours will meet them. */
    const bool many = (frame->flags & WIRE_FREE_ROOM) != 0 && lr_outflow_is_even(link->peer);
    const struct lr_known row = many && put->ttl_left_ms == WIRE_NEVER ? (struct lr_known){0} : row_of(&change);
    struct lr_left left = {0};
    change.left = &left;
    if (put->ttl_left_ms != WIRE_NEVER && is_old_news(node, &row))
        return LR_STALE;
    int result = lr_apply_put(node->cache, &change, lr_inflow_flags(frame));
    if (result >= 0 && !many)
        lr_outflow_know(link->peer, &row);
    if (left.hint)
        lr_node_came_from(node, left.stripe, left.position, link->peer->out.link_number);
    return result;
}

static int apply_tombstone(struct lr_link *link, const struct wire_frame *frame) {
    struct lr_cache *cache = link->node->cache;
    const uint64_t hash = frame->as.entry.hash, version = frame->as.entry.version;
    const bool modal = (frame->flags & WIRE_MODAL) != 0;
    const unsigned how = (frame->flags & WIRE_SCAN) != 0 ? LR_NO_EVICT : 0;
    int result = modal ? lr_apply_invalidation(cache, hash, version) : lr_apply_tombstone(cache, hash, version, how);
    if (result >= 0)
        lr_outflow_know(link->peer, &(struct lr_known){.hash = hash, .version = version, .deadline_ms = UINT64_MAX});
    return result;
}

static int apply(struct lr_link *link, const struct wire_frame *frame) {
    struct lr_cache *cache = link->node->cache;
    switch (frame->type) {
    case WIRE_PUT:
        return apply_put(link, frame);
    case WIRE_TOMB:
        return apply_tombstone(link, frame);
    case WIRE_DROP: {
        int result = lr_drop(cache, frame->as.entry.hash, frame->as.entry.version);
        return result == 0 || result == LARDER_ENOT_FOUND ? LR_DECLINED : result;
    }
    default:
        return lr_apply_flush(cache, frame->as.flush.version);
    }
}

/* Declines what could not be applied for too long. */
static int give_up(struct lr_link *link, const struct wire_frame *frame) {
    uint64_t hash = frame->as.entry.hash;
    uint64_t version = frame->as.entry.version;
    if (frame->type == WIRE_FLUSH)
        return LARDER_EBUSY;
    if (frame->type == WIRE_PUT) {
        hash = lr_cluster_hash(frame->as.put.key, frame->as.put.key_len);
        version = frame->as.put.version;
    }
    int result = frame->type == WIRE_TOMB ? lr_drop_void(link->node->cache, hash, version)
                                          : lr_drop(link->node->cache, hash, version);
    return result == 0 || result == LARDER_ENOT_FOUND ? LR_DECLINED : result;
}

static void count(struct lr_link *link, const struct wire_frame *frame, int result) {
    link->in.applied += result == LR_APPLIED;
    link->in.stale += result == LR_STALE;
    link->in.declined += result == LR_DECLINED;
    if (frame->type == WIRE_FLUSH || (frame->flags & WIRE_SCAN) != 0 || result != LR_APPLIED)
        return;
    uint64_t drawn = lr_version_unix_ms(frame->type == WIRE_PUT ? frame->as.put.version : frame->as.entry.version);
    const uint64_t now = link->in.wall_ms;
    lr_lag_add(&link->node->lag, now > drawn ? (now - drawn) * 1000 : 0);
}

enum lr_taken lr_inflow_take(struct lr_link *link, const struct wire_frame *frame) {
    uint64_t version = frame->type == WIRE_PUT     ? frame->as.put.version
                       : frame->type == WIRE_FLUSH ? frame->as.flush.version
                                                   : frame->as.entry.version;
    if (!lr_inflow_believes(link, version, "a version"))
        return LR_TAKE_REFUSED;
    const uint64_t now = link->in.now_ms;
    if (link->in.busy_since_ms != 0 && now < link->in.retry_ms)
        return LR_TAKE_LATER;
    int result = apply(link, frame);
    if (result == LARDER_EBUSY && link->in.busy_since_ms == 0)
        link->in.busy_since_ms = link->in.busy_told_ms = now;
    if (result == LARDER_EBUSY && now - link->in.busy_since_ms > LR_BUSY_MS)
        result = give_up(link, frame);
    if (result == LARDER_EBUSY) {
        if (now - link->in.busy_told_ms > BUSY_TELL_MS) {
            link->in.busy_told_ms = now;
            lr_log(LR_WARN, "peer %s: waits for a stripe's lock since %llu ms; `larder stripes` names the holder",
                   link->peer->address, (unsigned long long)(now - link->in.busy_since_ms));
        }
        link->in.retry_ms = now + 20;
        return LR_TAKE_LATER;
    }
    link->in.busy_since_ms = 0;
    if (result < 0) {
        char text[WIRE_MAX_TEXT + 1];
        snprintf(text, sizeof text, "%s: %s", wire_type_name(frame->type), lr_error_text(result));
        lr_log(LR_ERROR, "peer %s: %s", link->peer->address, text);
        lr_link_close(link, WIRE_BYE_FAILED, text);
        return LR_TAKE_REFUSED;
    }
    count(link, frame, result);
    return LR_TAKEN;
}
