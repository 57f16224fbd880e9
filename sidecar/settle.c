/* SPDX-License-Identifier: MIT */
/*
 * Voids: what if one host forgot a change before the other had heard of it?
 *
 * Normally an unshipped entry that is evicted leaves a tombstone, which travels. When there are too many of those, the
 * host keeps one version for the whole range of hashes instead, its *void*, and a bit for each small part of the range
 * in which something went (shm/voids.c): "of these parts I may have forgotten something, up to here, that you do not
 * know about". Whatever the other side holds there at or below it may be superseded, unless we hold that key too, for
 * then ours is the newest that anybody can know. So we tell which hashes we hold, and the other side drops the rest.
 *
 *   leader   VOIDS {range, version}...  PARTS range, bits ...  LIST hashes ...  SETTLE [low, high]  LIST ...  SETTLE
 * last follower    notes them                 notes them            notes them       walks its segment,  ...       ...
 * and drops what is not listed      raises its floors
 *
 * Rules:
 *  1. Dropping an entry and raising a floor make the follower decline entries that it does not hold. So a SETTLE goes
 *     out only after everything that we held when the list was made has been sent: the follower must not decline what
 *     is on the list.
 *  2. The list is cut into intervals of hashes, so both sides need bounded memory: LR_LIST_MOST hashes. An interval
 *     that turns out to hold more is halved, and the rest comes in the next one.
 *  3. The follower raises its floors at the end: it will not take from a third host what it has just dropped. It does
 *     not lead the merged void on, neither back nor to others: it may have evicted much of what others rightly hold,
 *     and the host that forgot settles with each of them itself. So a void says only what its own host has forgotten;
 *     a higher one that was heard must not hide that. A relay, whose peers are no peers of each other, does lead a
 *     merged void on: a miss too many is better than a value from the past. Nor does a relay list tombstones: it may
 *     have laid them itself, and declines what is newer than they are and below its floors (is_absent in shm/apply.c),
 *     so those behind it must let go of that too.
 *  4. What the follower drops may be news to a third host, to which the leader has listed that key when it still held
 *     something of it. So what not every peer has leaves a tombstone, or a void of the follower's own (shm/entry.c).
 *  5. Each stripe has voids of its own. The highest is led, whenever the range's turn has risen. Turn, void and bits
 *     are read in this order, once, when the settlement begins.
 *  6. Of keys of mode invalidate the leader lists nothing: that it holds a fill says nothing of what it forgot before.
 *     The follower drops its items of that mode whether listed or not, and with the clocks' difference in mind. What is
 *     being read from its source while the follower looks may be as old: it is not to be filled in.
 *  7. A range without PARTS is settled whole: with an older release, and with a peer that has settled nothing since
 *     bits of the range were cleared (lr_settle_clear). Few bits are sent as fewer, each of a larger part.
 *  8. A settlement that is cut off by the end of a link has dropped only what had to go. The next link starts it again.
 *  9. A relay leads a void on that is higher than its own, or speaks of more. And one that is not, if it let go of
 *     something, which those behind it may hold for having been listed; or if it is lower, and news: the higher one may
 *     have come from a peer who is yet to let go of what this one speaks of. Of each peer only what is higher than
 *     before is news: so nothing goes round for ever.
 */
#include "log.h"
#include "node.h"

#include <stdlib.h>
#include <string.h>

#define SLICE_ENTRIES 2048u

static unsigned range_of(uint64_t hash) {
    return (unsigned)(hash >> 56);
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* ---- leading ---------------------------------------------------------------------------------------------------- */

bool lr_settle_due(struct lr_peer *peer) {
    if (lr_node_now(peer->node) < peer->out.settle_next_ms)
        return false;
    peer->out.settle_next_ms = lr_node_now(peer->node) + LR_SETTLE_EVERY_MS;
    for (unsigned i = 0; i < WIRE_RANGES; i++)
        if (lr_void_turn(peer->node->cache, i) != peer->out.settled[i])
            return true;
    return false;
}

unsigned lr_settle_left(const struct lr_peer *peer) {
    unsigned left = 0;
    for (unsigned i = 0; i < WIRE_RANGES; i++)
        left += lr_void_turn(peer->node->cache, i) != peer->out.settled[i];
    return left;
}

static void begin_interval(struct lr_peer *peer, uint64_t low) {
    struct lr_outflow *out = &peer->out;
    out->settle = LR_SETTLE_COLLECT;
    out->settle_low = low;
    out->settle_high = UINT64_MAX;
    out->hash_count = out->hash_sent = 0;
    out->settle_scan = lr_scan_all(peer->node->cache);
    out->settle_scan.keys = true;
}

/* Few bits are folded into fewer, by twos: until there is one set in each word. */
static void fold(struct lr_parts *parts) {
    uint64_t set = 0;
    for (uint32_t i = 0; i < parts->count; i++)
        set += (uint64_t)__builtin_popcountll(parts->words[i]);
    for (; parts->count > 1 && set < parts->count; parts->count /= 2)
        for (uint32_t i = 0; i < parts->count / 2; i++) {
            uint64_t folded = 0;
            for (unsigned bit = 0; bit < 128; bit++)
                folded |= (parts->words[2 * i + bit / 64] >> (bit % 64) & 1) << (bit / 2);
            parts->words[i] = folded;
        }
}

/* Rule 5: behind turn and void. */
static void note_parts(struct lr_peer *peer, unsigned i) {
    struct lr_outflow *out = &peer->out;
    const uint32_t words = lr_parts_words(peer->node->cache);
    out->parts[i] = (struct lr_parts){0};
    if (out->voids[i] == 0 || (peer->features & WIRE_HAS_PARTS) == 0 ||
        (lr_turn_is_cleared(out->settling[i]) && !lr_turn_is_cleared(out->settled[i])))
        return;
    out->parts[i] = (struct lr_parts){.words = out->part_words + (size_t)i * words, .count = words};
    lr_parts_get(peer->node->cache, i, out->parts[i].words);
    fold(&out->parts[i]);
}

/* PARTS of one range. False: the window is full. */
static bool send_parts(struct lr_peer *peer) {
    struct lr_outflow *out = &peer->out;
    while (out->part_range < WIRE_RANGES && out->parts[out->part_range].words == NULL)
        out->part_range++;
    if (out->part_range == WIRE_RANGES) {
        begin_interval(peer, 0);
        return true;
    }
    const struct lr_parts *parts = &out->parts[out->part_range];
    const size_t bytes = WIRE_HEADER + 8 + (size_t)parts->count * 8;
    uint8_t *at = lr_outflow_room(peer, bytes) ? lr_outflow_reserve(peer, bytes) : NULL;
    if (at == NULL)
        return false;
    out->batch_len += wire_encode_parts(at, bytes, out->part_range++, parts->words, parts->count);
    lr_outflow_mark(peer, (struct lr_sent){.kind = LR_SENT_BYTES});
    return true;
}

void lr_settle_begin(struct lr_peer *peer) {
    struct lr_outflow *out = &peer->out;
    struct wire_void rows[WIRE_RANGES];
    uint32_t count = 0;
    if (!lr_outflow_room(peer, sizeof rows)) {
        out->settle_next_ms = 0;
        return;
    }
    out->hashes = malloc(LR_LIST_MOST * sizeof *out->hashes);
    out->part_words = malloc(WIRE_RANGES * sizeof(uint64_t) * lr_parts_words(peer->node->cache));
    uint8_t *at = out->hashes != NULL && out->part_words != NULL
                      ? lr_outflow_reserve(peer, WIRE_HEADER + WIRE_RANGES * 16)
                      : NULL;
    if (at == NULL) {
        lr_settle_abandon(peer);
        return;
    }
    for (unsigned i = 0; i < WIRE_RANGES; i++) {
        struct lr_range range;
        lr_range_get(peer->node->cache, i, &range);
        out->voids[i] = range.turn != out->settled[i] ? range.void_version : 0;
        out->settling[i] = range.turn;
        note_parts(peer, i);
        if (out->voids[i] != 0)
            rows[count++] = (struct wire_void){.range = (uint8_t)i, .version = out->voids[i]};
    }
    lr_log(LR_INFO, "peer %s: settling ranges whose unshipped changes were forgotten ranges=%u", peer->address, count);
    out->batch_len += wire_encode_voids(at, WIRE_HEADER + WIRE_RANGES * 16, rows, count);
    lr_outflow_mark(peer, (struct lr_sent){.kind = LR_SENT_BYTES});
    out->part_range = 0;
    out->settle = LR_SETTLE_PARTS;
}

void lr_settle_abandon(struct lr_peer *peer) {
    free(peer->out.hashes);
    free(peer->out.part_words);
    peer->out.hashes = peer->out.part_words = NULL;
    peer->out.settle = LR_SETTLE_NONE;
}

/* The list is full: its upper half belongs to the next interval. */
static void halve(struct lr_outflow *out) {
    qsort(out->hashes, out->hash_count, sizeof *out->hashes, compare);
    out->hash_count /= 2;
    out->settle_high = out->hashes[out->hash_count - 1];
}

static void collect(struct lr_peer *peer) {
    struct lr_node *node = peer->node;
    struct lr_outflow *out = &peer->out;
    for (unsigned i = 0; i < SLICE_ENTRIES; i++) {
        struct lr_entry entry;
        int result = lr_scan_next(node->cache, &out->settle_scan, node->entry, node->entry_cap, &entry);
        if (result == LARDER_EBUSY)
            continue; /* it is just being replaced: by a version above the void */
        if (result != 0) {
            qsort(out->hashes, out->hash_count, sizeof *out->hashes, compare);
            out->settle = LR_SETTLE_LIST;
            return;
        }
        if (entry.kind != LR_SHARED || (node->relay && entry.tombstone) || /* rule 3 */
            entry.version > out->voids[range_of(entry.hash)] || entry.hash < out->settle_low ||
            entry.hash > out->settle_high || !lr_parts_has(&out->parts[range_of(entry.hash)], entry.hash))
            continue;
        if (out->hash_count == LR_LIST_MOST)
            halve(out);
        if (entry.hash <= out->settle_high)
            out->hashes[out->hash_count++] = entry.hash;
    }
}

/* One LIST frame. False: the window is full. */
static bool send_list(struct lr_peer *peer) {
    struct lr_outflow *out = &peer->out;
    uint32_t count = out->hash_count - out->hash_sent;
    if (count == 0) {
        out->settle = LR_SETTLE_SHIP;
        lr_goal_set(peer, &out->settle_goal);
        return true;
    }
    if (count > WIRE_MAX_HASHES)
        count = WIRE_MAX_HASHES;
    size_t bytes = WIRE_HEADER + (size_t)count * 8;
    uint8_t *at = lr_outflow_room(peer, bytes) ? lr_outflow_reserve(peer, bytes) : NULL;
    if (at == NULL)
        return false;
    out->batch_len += wire_encode_words(at, bytes, WIRE_LIST, 0, out->hashes + out->hash_sent, count);
    lr_outflow_mark(peer, (struct lr_sent){.kind = LR_SENT_BYTES});
    out->hash_sent += count;
    return true;
}

static bool send_interval(struct lr_peer *peer) {
    struct lr_outflow *out = &peer->out;
    if (!lr_goal_reached(peer, &out->settle_goal) || !lr_outflow_room(peer, WIRE_HEADER + 16))
        return false;
    bool last = out->settle_high == UINT64_MAX;
    uint64_t words[2] = {out->settle_low, out->settle_high};
    uint8_t *at = lr_outflow_reserve(peer, WIRE_HEADER + 16);
    if (at == NULL)
        return false;
    out->batch_len += wire_encode_words(at, WIRE_HEADER + 16, WIRE_SETTLE, last ? WIRE_LAST : 0, words, 2);
    if (last)
        out->settle = LR_SETTLE_WAIT;
    lr_outflow_mark(peer, (struct lr_sent){.kind = last ? LR_SENT_SETTLED : LR_SENT_BYTES});
    if (!last)
        begin_interval(peer, out->settle_high + 1);
    return true;
}

bool lr_settle_step(struct lr_peer *peer) {
    switch (peer->out.settle) {
    case LR_SETTLE_PARTS:
        return send_parts(peer);
    case LR_SETTLE_COLLECT:
        collect(peer);
        return true;
    case LR_SETTLE_LIST:
        return send_list(peer);
    case LR_SETTLE_SHIP:
        return send_interval(peer);
    default:
        return false;
    }
}

void lr_settle_finished(struct lr_peer *peer) {
    struct lr_outflow *out = &peer->out;
    for (unsigned i = 0; i < WIRE_RANGES; i++)
        if (out->voids[i] != 0)
            out->settled[i] = out->settling[i];
    out->settle_next_ms = lr_node_now(peer->node) + LR_SETTLE_EVERY_MS;
    lr_settle_abandon(peer);
}

/* Whether every peer has settled this turn, and none is about to settle it anew. */
static bool is_settled(const struct lr_node *node, unsigned range, uint64_t turn) {
    for (unsigned i = 0; i < node->peer_count; i++)
        if (node->peers[i]->out.settled[range] != turn || node->peers[i]->out.settle != LR_SETTLE_NONE)
            return false;
    return node->peer_count > 0;
}

void lr_settle_clear(struct lr_node *node) {
    for (unsigned i = 0; i < WIRE_RANGES; i++) {
        uint64_t turn = lr_void_turn(node->cache, i);
        if (turn == 0 || !is_settled(node, i, turn) || lr_parts_clear(node->cache, i, &turn) != 1)
            continue;
        for (unsigned j = 0; j < node->peer_count; j++)
            node->peers[j]->out.settled[i] = turn;
    }
}

/* ---- following -------------------------------------------------------------------------------------------------- */

static enum lr_taken refuse(struct lr_link *link, const char *text) {
    lr_log(LR_WARN, "peer %s: link refused: %s", link->peer->address, text);
    lr_link_close(link, WIRE_BYE_GARBAGE, text);
    return LR_TAKE_REFUSED;
}

static void forget_parts(struct lr_inflow *in) {
    for (unsigned i = 0; i < WIRE_RANGES; i++) {
        free(in->parts[i].words);
        in->parts[i] = (struct lr_parts){0};
    }
}

void lr_settle_hang_up(struct lr_link *link) {
    forget_parts(&link->in);
    free(link->in.hashes);
    link->in.hashes = NULL;
}

static enum lr_taken take_parts(struct lr_link *link, const struct wire_frame *frame) {
    const uint32_t count = frame->as.rows.count - 1;
    const uint64_t range = wire_word_at(frame, 0);
    if (range >= WIRE_RANGES || count > LR_PART_WORDS || (count & (count - 1)) != 0)
        return refuse(link, "parts of a range that are no power of two");
    struct lr_parts *parts = &link->in.parts[range];
    free(parts->words);
    *parts = (struct lr_parts){.words = malloc(count * sizeof(uint64_t)), .count = count};
    if (parts->words == NULL)
        return refuse(link, "out of memory");
    for (uint32_t i = 0; i < count; i++)
        parts->words[i] = wire_word_at(frame, i + 1);
    return LR_TAKEN;
}

static enum lr_taken take_voids(struct lr_link *link, const struct wire_frame *frame) {
    memset(link->in.voids, 0, sizeof link->in.voids);
    forget_parts(&link->in);
    link->in.hash_count = 0;
    link->in.settle_dropped = 0;
    memset(link->in.let_go, 0, sizeof link->in.let_go);
    for (uint32_t i = 0; i < frame->as.rows.count; i++) {
        struct wire_void row = wire_void_at(frame, i);
        if (!lr_inflow_believes(link, row.version, "a void"))
            return LR_TAKE_REFUSED;
        link->in.voids[row.range] = row.version;
    }
    return LR_TAKEN;
}

static enum lr_taken take_list(struct lr_link *link, const struct wire_frame *frame) {
    struct lr_inflow *in = &link->in;
    if (in->hashes == NULL)
        in->hashes = malloc(LR_LIST_MOST * sizeof *in->hashes);
    if (in->hashes == NULL || in->hash_count + frame->as.rows.count > LR_LIST_MOST)
        return refuse(link, in->hashes == NULL ? "out of memory" : "a list is longer than a list may be");
    for (uint32_t i = 0; i < frame->as.rows.count; i++) {
        uint64_t hash = wire_word_at(frame, i);
        if (in->hash_count > 0 && hash < in->hashes[in->hash_count - 1])
            return refuse(link, "a list is not ascending");
        in->hashes[in->hash_count++] = hash;
    }
    return LR_TAKEN;
}

enum lr_taken lr_settle_take(struct lr_link *link, const struct wire_frame *frame) {
    struct lr_inflow *in = &link->in;
    if (frame->type == WIRE_VOIDS)
        return take_voids(link, frame);
    if (frame->type == WIRE_PARTS)
        return take_parts(link, frame);
    if (frame->type == WIRE_LIST)
        return take_list(link, frame);
    if (lr_end_marks(link->node->cache) == LARDER_EBUSY)
        return LR_TAKE_LATER;
    in->settle_low = frame->as.settle.low;
    in->settle_high = frame->as.settle.high;
    in->settle_last = (frame->flags & WIRE_LAST) != 0;
    in->settle_scan = lr_scan_all(link->node->cache);
    in->settle_scan.keys = true;
    in->raise_range = 0;
    in->settling = true;
    return LR_TAKEN;
}

static bool is_listed(const struct lr_inflow *in, uint64_t hash) {
    return in->hash_count > 0 && bsearch(&hash, in->hashes, in->hash_count, sizeof hash, compare) != NULL;
}

/* Whether the entry is superseded by the settlement, as far as we can know. */
static bool has_to_go(const struct lr_node *node, const struct lr_inflow *in, const struct lr_entry *entry) {
    const uint64_t version = in->voids[range_of(entry->hash)];
    if (version == 0 || entry->hash < in->settle_low || entry->hash > in->settle_high || entry->kind == LR_LOCAL ||
        !lr_parts_has(&in->parts[range_of(entry->hash)], entry->hash))
        return false;
    if (entry->kind != LR_SHARED)
        return lr_version_unix_ms(entry->version) <= lr_version_unix_ms(version) + node->clock_limit_ms;
    return entry->version <= version && !is_listed(in, entry->hash);
}

static bool has_let_go(const struct lr_inflow *in, unsigned range) {
    return (in->let_go[range / 64] >> (range % 64) & 1) != 0;
}

/* A relay takes the void over as one of its own. It need not lead it back: what it owes the peer is told by itself, and
 * if that is forgotten as well, the turn rises once more. */
static int take_over(struct lr_link *link, unsigned range, uint64_t version) {
    struct lr_cache *cache = link->node->cache;
    struct lr_outflow *out = &link->peer->out;
    struct lr_range own;
    uint64_t risen = 0;
    lr_range_get(cache, range, &own);
    const bool news = version < own.void_version && version > out->taken[range]; /* rule 9 */
    const int result = lr_raise_void(cache, range, version, &link->in.parts[range], &risen);
    if (result == 0 && risen == 0 && (news || has_let_go(&link->in, range))) {
        lr_void_again(cache, range);
        risen = 1;
    }
    if (result == 0 && version > out->taken[range])
        out->taken[range] = version;
    out->settled[range] += risen;
    out->settling[range] += risen; /* of one under way */
    return result;
}

/* Raises the floors of all ranges of the settlement. False: a stripe is busy, try again. */
static bool raise_floors(struct lr_link *link) {
    struct lr_inflow *in = &link->in;
    for (; in->raise_range < WIRE_RANGES; in->raise_range++) {
        const uint64_t version = in->voids[in->raise_range];
        if (version == 0)
            continue;
        const int result = link->node->relay ? take_over(link, in->raise_range, version)
                                             : lr_raise_floor(link->node->cache, in->raise_range, version);
        if (result == LARDER_EBUSY)
            return false;
    }
    return true;
}

bool lr_settle_walk(struct lr_link *link) {
    struct lr_inflow *in = &link->in;
    struct lr_node *node = link->node;
    for (unsigned i = 0; i < SLICE_ENTRIES; i++) {
        struct lr_scan before = in->settle_scan;
        struct lr_entry entry;
        int result = lr_scan_next(node->cache, &in->settle_scan, node->entry, node->entry_cap, &entry);
        if (result == LARDER_EBUSY)
            continue;
        if (result != 0) {
            if (in->settle_last && !raise_floors(link))
                return false;
            if (in->settle_last)
                lr_log(LR_INFO, "peer %s: settled dropped=%llu", link->peer->address,
                       (unsigned long long)in->settle_dropped);
            if (in->settle_last)
                forget_parts(in);
            in->settling = false;
            in->hash_count = 0;
            lr_link_work(link);
            return true;
        }
        if (!has_to_go(node, in, &entry))
            continue;
        if (lr_drop_void(node->cache, entry.hash, in->voids[range_of(entry.hash)]) == LARDER_EBUSY) {
            in->settle_scan = before;
            return false;
        }
        in->settle_dropped++;
        in->let_go[range_of(entry.hash) / 64] |= UINT64_C(1) << (range_of(entry.hash) % 64);
    }
    return true;
}
