/* SPDX-License-Identifier: MIT */
/*
 * What one peer lacks is sent to it, from wherever it stands.
 *
 *   feed ring of a stripe, positions:      acked          read                head
 *   ------------------------------------------|-------------|-------------------|
 *                        the peer has it       on its way     still to be read
 *
 * A hint names a cluster hash; what is sent is the entry that has it *now*, read at that moment. Ten changes of a key
 * travel once if the peer is slow. An entry that is gone is not sent: it was evicted, and what that means for the peer
 * is said by tombstones and voids. One that has expired is read as a tombstone, whether or not it was swept: once its
 * hint is acknowledged the sweep leaves none.
 *
 * Entries gather in a batch; MARK with the next link sequence number closes it, and `sent` has a row for each stripe
 * that has entries in it. ACK of a mark moves `acked` of those stripes.
 *
 * When the ring has been overwritten before we read it (ELOST), or hints may be missing, or nothing is known about the
 * peer, the stripe is *walked*: position `head` is noted, then every entry is sent that arrived after what the peer has
 * acknowledged (or every entry). After that the peer has everything up to the noted position. A walk that has begun is
 * finished before the next stripe's turn, however far the ring runs ahead meanwhile: a slow peer lags, but every walk
 * brings it nearer.
 *
 * Two hosts that were cut off from each other both have much to send, and what comes from the peer is not to go back:
 * whence it came the hints tell, a walk does not see it. So when a link opens, the epochs of all stripes of which the
 * peer lacks something are closed. If the ring has run over by then, the walk is of what arrived before, and what
 * arrives since goes by hints *apart* from it. If it runs over again, the stripe is walked as any other.
 *
 * What was there when the walk of everything began is for the peer's free room only, however it comes to travel: by
 * that walk, by one that follows because the ring ran over meanwhile, or by a hint, since a third host joined and sent
 * us what it had. Only what is newer may evict at the peer. Otherwise a small host that joins a large one loses its own
 * entries to old ones and to tombstones, and since nobody had heard of those, its voids make the large host forget.
 *
 * Of keys of mode invalidate a tombstone travels in place of the value, one version below it, so that our own value
 * stays; of local keys nothing does. A fill (cache.h) is news to nobody, but it may stand where a change stood that the
 * peer has not heard of: then its hint still has that change's version, and a walk, which sees no hints, says that all
 * is over that is older than the fill.
 *
 * `known` remembers what the peer sent us, or was sent on this link, so that changes do not echo, and a hot key's many
 * hints cost one frame. It is a cache: a row lost means a frame more. What is for free room only is not remembered,
 * unless a walk of ours is yet to meet it: of that there is more than the table has rows, and whence it came its hint's
 * place tells.
 */
#include "log.h"
#include "node.h"

#include <stdlib.h>
#include <string.h>

#define HINTS_AT_ONCE 64u
#define FETCH_BLOCKS 4 /* ahead of the hint that is worked on */
#define FETCH_VALUES 2
#define SLICE_HINTS 2048u
#define SLICE_WALK 512u
#define BUSY_TRIES 16u

static uint64_t now_left(struct lr_node *node, uint64_t deadline_ms) {
    if (deadline_ms == UINT64_MAX)
        return WIRE_NEVER;
    const uint64_t now = lr_now_ms(node->cache);
    return deadline_ms > now ? deadline_ms - now : 0;
}

/* ---- known ------------------------------------------------------------------------------------------------------ */

static struct lr_known *known_row(struct lr_peer *peer, uint64_t hash) {
    return &peer->out.known[(hash ^ hash >> 32) % LR_KNOWN_ROWS];
}

void lr_outflow_know(struct lr_peer *peer, const struct lr_known *row) {
    *known_row(peer, row->hash) = *row;
    peer->out.knows_any = true;
}

void lr_outflow_prefetch(struct lr_peer *peer, uint64_t hash) {
    __builtin_prefetch(known_row(peer, hash), 1);
}

uint64_t lr_outflow_content(const void *value, size_t value_len, uint32_t flags) {
    return lr_cluster_hash(value, value_len) ^ flags;
}

static uint64_t content_of(const struct lr_entry *entry) {
    return entry->tombstone ? 0 : lr_outflow_content(entry->value, entry->value_len, entry->flags);
}

static struct lr_known row_of(const struct lr_entry *entry) {
    return (struct lr_known){.hash = entry->hash,
                             .version = entry->version,
                             .deadline_ms = entry->deadline_ms,
                             .content = content_of(entry)};
}

/* That version, or a newer one; of mode invalidate that very one, for no change stands for another. */
static bool knows(struct lr_peer *peer, const struct lr_entry *entry) {
    const struct lr_known *row = known_row(peer, entry->hash);
    if (!peer->out.knows_any || row->hash != entry->hash || row->version < entry->version)
        return false;
    if (row->version > entry->version)
        return !entry->modal;
    return row->deadline_ms == entry->deadline_ms && row->content == content_of(entry);
}

/* ---- batches ---------------------------------------------------------------------------------------------------- */

/* Large records have a window of their own, so that small ones need not wait until one is acknowledged. */
static bool is_large(size_t bytes) {
    return bytes > LR_BATCH;
}

bool lr_outflow_room(const struct lr_peer *peer, size_t bytes) {
    const struct lr_outflow *out = &peer->out;
    if (out->sent_count == LR_SENT_ROWS)
        return false;
    uint64_t large = out->large_in_flight + out->batch_large, all = out->in_flight + out->batch_len;
    uint64_t waiting = is_large(bytes) ? large : all - large;
    return waiting == 0 || waiting + bytes <= LR_WINDOW;
}

/* Bytes of the largest record that may go now. */
static size_t large_room(const struct lr_peer *peer) {
    const struct lr_outflow *out = &peer->out;
    uint64_t large = out->large_in_flight + out->batch_large;
    if (large == 0)
        return peer->node->entry_cap;
    return large + LR_BATCH < LR_WINDOW ? LR_WINDOW - large : LR_BATCH;
}

uint8_t *lr_outflow_reserve(struct lr_peer *peer, size_t bytes) {
    struct lr_outflow *out = &peer->out;
    size_t needed = out->batch_len + bytes + WIRE_HEADER + 8; /* the mark's frame follows */
    if (needed > out->batch_cap) {
        uint8_t *larger = realloc(out->batch, needed);
        if (larger == NULL)
            return NULL;
        out->batch = larger;
        out->batch_cap = needed;
    }
    return out->batch + out->batch_len;
}

/* The comparison in place of the full walks is acknowledged. */
static void joined(struct lr_peer *peer) {
    struct lr_outflow *out = &peer->out;
    out->joining = LR_JOIN_NONE;
    for (uint32_t i = 0; i < peer->node->stripes; i++) {
        struct lr_cursor *cursor = &out->cursors[i];
        if (cursor->unacked_scan != LR_SCAN_FULL)
            continue;
        if (out->joined[i].head > cursor->acked)
            cursor->acked = out->joined[i].head;
        cursor->unacked_scan = LR_SCAN_NONE;
        cursor->acked_epoch = out->joined[i].epoch;
        lr_node_acked(peer->node, i);
    }
}

static void raise(uint64_t *position, uint64_t to) {
    *position = *position > to ? *position : to;
}

/* What is beyond `from` says nothing of what a walk has still to tell. */
static void hints_acked(struct lr_cursor *cursor, uint64_t position) {
    const bool walks = cursor->scan != LR_SCAN_NONE || cursor->unacked_scan != LR_SCAN_NONE;
    raise(walks && cursor->from != 0 && position > cursor->from ? &cursor->passed : &cursor->acked, position);
}

static void walk_acked(struct lr_cursor *cursor, const struct lr_sent *sent) {
    raise(&cursor->acked, sent->position);
    cursor->unacked_scan = LR_SCAN_NONE;
    if ((int32_t)(sent->epoch - cursor->acked_epoch) > 0)
        cursor->acked_epoch = sent->epoch;
    if (cursor->apart && cursor->scan == LR_SCAN_NONE) {
        raise(&cursor->acked, cursor->passed);
        cursor->apart = false;
    }
}

static void acknowledge(struct lr_peer *peer, const struct lr_sent *sent) {
    struct lr_outflow *out = &peer->out;
    struct lr_cursor *cursor = &out->cursors[sent->stripe];
    out->in_flight -= sent->bytes;
    out->large_in_flight -= sent->large;
    switch (sent->kind) {
    case LR_SENT_HINTS:
        hints_acked(cursor, sent->position);
        break;
    case LR_SENT_WALK:
        walk_acked(cursor, sent);
        break;
    case LR_SENT_JOINED:
        joined(peer);
        return;
    case LR_SENT_SETTLED:
        lr_settle_finished(peer);
        return;
    case LR_SENT_SYNCED:
        out->synced = true;
        lr_peer_live(peer);
        return;
    default:
        return;
    }
    lr_node_acked(peer->node, sent->stripe);
}

static struct lr_sent *last_sent(struct lr_outflow *out) {
    return &out->sent[(out->sent_first + out->sent_count - 1) % LR_SENT_ROWS];
}

static void close_batch(struct lr_peer *peer) {
    struct lr_outflow *out = &peer->out;
    uint64_t sequence = ++out->sequence;
    uint8_t *at = lr_outflow_reserve(peer, 0); /* never fails: every reservation left room for it */
    out->batch_len += wire_encode_words(at, WIRE_HEADER + 8, WIRE_MARK, 0, &sequence, 1);
    lr_link_send(peer->link, out->batch, out->batch_len);
    if (out->sent_count == 0 || last_sent(out)->sequence != sequence) /* lr_outflow_room has left a row for it */
        out->sent[(out->sent_first + out->sent_count++) % LR_SENT_ROWS] =
            (struct lr_sent){.kind = LR_SENT_BYTES, .sequence = sequence};
    last_sent(out)->bytes = (uint32_t)out->batch_len;
    last_sent(out)->large = (uint32_t)out->batch_large;
    out->in_flight += out->batch_len;
    out->large_in_flight += out->batch_large;
    out->batch_len = out->batch_large = 0;
    if (out->batch_cap > LR_WINDOW) { /* one large record does not cost its memory for ever */
        free(out->batch);
        out->batch = NULL;
        out->batch_cap = 0;
    }
}

void lr_outflow_mark(struct lr_peer *peer, struct lr_sent sent) {
    struct lr_outflow *out = &peer->out;
    sent.bytes = sent.large = 0;
    sent.sequence = out->sequence + (out->batch_len > 0 ? 1 : 0);
    if (out->sent_count == 0 && out->batch_len == 0) {
        acknowledge(peer, &sent);
        return;
    }
    struct lr_sent *last = out->sent_count > 0 ? last_sent(out) : NULL;
    if (last != NULL && last->kind == LR_SENT_HINTS && sent.kind == LR_SENT_HINTS && last->stripe == sent.stripe &&
        (out->batch_len == 0 || last->sequence == sent.sequence))
        last->position = sent.position;
    else
        out->sent[(out->sent_first + out->sent_count++) % LR_SENT_ROWS] = sent;
    if (out->batch_len >= LR_BATCH || out->sent_count == LR_SENT_ROWS)
        lr_outflow_flush(peer);
}

void lr_outflow_flush(struct lr_peer *peer) {
    if (peer->out.batch_len > 0 && peer->link != NULL)
        close_batch(peer);
}

bool lr_outflow_acked(struct lr_peer *peer, uint64_t sequence) {
    struct lr_outflow *out = &peer->out;
    if (sequence > out->sequence)
        return false;
    while (out->sent_count > 0 && out->sent[out->sent_first].sequence <= sequence) {
        struct lr_sent sent = out->sent[out->sent_first];
        out->sent_first = (out->sent_first + 1) % LR_SENT_ROWS;
        out->sent_count--;
        acknowledge(peer, &sent);
    }
    return true;
}

/* ---- one entry -------------------------------------------------------------------------------------------------- */

/* NO_ROOM: in the window, in memory, or the entry is changing just now: try again later. TOO_LARGE: not in the window
 * of large ones, but smaller ones may go. */
enum given { GIVEN, NO_ROOM, TOO_LARGE };

/* What the peer is to see of the entry, in *out. False: nothing. */
static bool shown(const struct lr_node *node, const struct lr_entry *entry, struct lr_entry *out) {
    enum lr_mode mode = entry->kind == LR_LOCAL    ? LR_MODE_local
                        : entry->kind == LR_SHARED ? LR_MODE_values
                                                   : LR_MODE_invalidate;
    if (node->modal && !entry->tombstone) { /* one that does not fit its mode any more */
        const enum lr_mode now = lr_mode_of(node->cache, entry->key, entry->key_len);
        mode = now > mode ? now : mode;
    }
    *out = *entry;
    if (mode == LR_MODE_invalidate && !entry->tombstone) {
        out->version--;
        out->tombstone = out->modal = true;
        out->key_len = out->value_len = 0;
        out->deadline_ms = UINT64_MAX;
    }
    return mode != LR_MODE_local;
}

/* Appends the entry to the batch, unless the peer has it. NO_ROOM: nothing was done. */
static enum given give(struct lr_peer *peer, const struct lr_entry *entry, unsigned flags) {
    struct lr_outflow *out = &peer->out;
    struct lr_entry seen;
    if (entry->kind != LR_SHARED || peer->node->modal) {
        if (!shown(peer->node, entry, &seen))
            return GIVEN;
        entry = &seen;
    }
    if (knows(peer, entry))
        return GIVEN;
    if (entry->version <= out->cursors[entry->stripe].joined)
        flags |= WIRE_FREE_ROOM;
    bool oversize = (uint64_t)entry->key_len + entry->value_len > peer->max_entry;
    bool value = !entry->tombstone && !oversize;
    uint32_t len = entry->value_len;
    const void *bytes_of_value = entry->value;
    if (value && (peer->features & WIRE_CAN_UNPACK) != 0 && peer->node->pack_least != 0 &&
        len >= peer->node->pack_least) {
        uint32_t packed = lr_pack(peer->node->pack, entry->value, len, &bytes_of_value);
        flags |= packed != 0 ? WIRE_PACKED : 0;
        len = packed != 0 ? packed : len;
    }
    size_t bytes = value ? wire_put_bytes(entry->key_len, len) : WIRE_HEADER + 16;
    if (!lr_outflow_room(peer, bytes)) {
        out->wanted = is_large(bytes) ? 0 : bytes;
        return is_large(bytes) && out->sent_count < LR_SENT_ROWS ? TOO_LARGE : NO_ROOM;
    }
    out->wanted = 0;
    uint8_t *at = lr_outflow_reserve(peer, bytes);
    if (at == NULL)
        return NO_ROOM;
    out->batch_large += is_large(bytes) ? bytes : 0;
    if (value) {
        struct wire_put put = {.version = entry->version,
                               .ttl_left_ms = now_left(peer->node, entry->deadline_ms),
                               .user_flags = entry->flags,
                               .key_len = entry->key_len,
                               .value_len = len,
                               .key = entry->key,
                               .value = bytes_of_value};
        out->batch_len += wire_encode_put(at, bytes, &put, flags);
    } else {
        uint64_t words[2] = {entry->hash, entry->version};
        flags = flags != 0 ? WIRE_SCAN : 0;
        if (entry->modal && (peer->features & WIRE_HAS_MODES) != 0)
            flags |= WIRE_MODAL;
        out->batch_len += wire_encode_words(at, bytes, entry->tombstone ? WIRE_TOMB : WIRE_DROP, flags, words, 2);
    }
    if ((flags & WIRE_FREE_ROOM) == 0) { /* the others are too many to be remembered */
        const struct lr_known row = row_of(entry);
        lr_outflow_know(peer, &row);
    }
    out->entries_sent++;
    return GIVEN;
}

bool lr_outflow_give_hash(struct lr_peer *peer, uint64_t hash) {
    struct lr_node *node = peer->node;
    struct lr_entry entry;
    if (peer->out.batch_len >= LR_BATCH)
        lr_outflow_mark(peer, (struct lr_sent){.kind = LR_SENT_BYTES});
    int result = lr_entry_by_hash(node->cache, hash, node->entry, node->entry_cap, &entry);
    peer->out.looked_at++;
    if (result != 0)
        return result != LARDER_EBUSY;
    *known_row(peer, hash) = (struct lr_known){0};
    return give(peer, &entry, WIRE_SCAN | WIRE_FREE_ROOM) == GIVEN;
}

bool lr_outflow_give_tombstone(struct lr_peer *peer, const struct lr_entry *entry) {
    if (peer->out.batch_len >= LR_BATCH)
        lr_outflow_mark(peer, (struct lr_sent){.kind = LR_SENT_BYTES});
    return give(peer, entry, WIRE_SCAN) == GIVEN;
}

bool lr_outflow_compared(struct lr_peer *peer) {
    struct lr_outflow *out = &peer->out;
    uint8_t *at = lr_outflow_room(peer, WIRE_HEADER) ? lr_outflow_reserve(peer, WIRE_HEADER) : NULL;
    if (at == NULL)
        return false;
    out->batch_len += wire_encode_words(at, WIRE_HEADER, WIRE_COMPARED, 0, NULL, 0);
    lr_outflow_mark(peer, (struct lr_sent){.kind = out->joining == LR_JOIN_UNDER_WAY ? LR_SENT_JOINED : LR_SENT_BYTES});
    if (out->joining == LR_JOIN_UNDER_WAY)
        out->joining = LR_JOIN_SENT;
    return true;
}

/* The entry that a hint names, as it is now. What changed since has a hint of its own. */
static enum given give_hint(struct lr_peer *peer, const struct lr_hint *hint) {
    struct lr_node *node = peer->node;
    const struct lr_known *row = known_row(peer, hint->hash);
    if (row->hash == hint->hash && row->version > hint->version && !node->modal)
        return GIVEN;
    struct lr_entry entry;
    const size_t cap = large_room(peer); /* what may not go is not copied either */
    int result = lr_entry_by_hash(node->cache, hint->hash, node->entry, cap, &entry);
    peer->out.looked_at++;
    if (result == LARDER_EBUSY)
        return NO_ROOM;
    if (result == LARDER_ETOO_SMALL)
        return TOO_LARGE;
    if (result == 0 && entry.kind == LR_FILL) {
        if (hint->version >= entry.version)
            return GIVEN;
        entry = (struct lr_entry){.hash = entry.hash,
                                  .version = hint->version,
                                  .deadline_ms = UINT64_MAX,
                                  .tombstone = true,
                                  .modal = true,
                                  .stripe = entry.stripe};
    }
    return result == 0 ? give(peer, &entry, 0) : GIVEN; /* gone */
}

/* ---- hints ------------------------------------------------------------------------------------------------------ */

void lr_outflow_rescan(struct lr_peer *peer, uint32_t stripe) {
    struct lr_cursor *cursor = &peer->out.cursors[stripe];
    if (cursor->scan == LR_SCAN_NONE)
        cursor->scan = LR_SCAN_NEWER;
    if (cursor->apart)
        cursor->read = cursor->acked; /* more than the last walk has to be sent before it rises again */
    cursor->apart = false;
}

static void begin_apart(struct lr_cursor *cursor) {
    cursor->scan = LR_SCAN_NEWER;
    cursor->apart = true;
    cursor->read = cursor->passed = cursor->from;
}

/* The ring ran over. */
static void fall_behind(struct lr_peer *peer, uint32_t stripe) {
    struct lr_cursor *cursor = &peer->out.cursors[stripe];
    const bool walks = cursor->scan != LR_SCAN_NONE || cursor->unacked_scan != LR_SCAN_NONE;
    lr_log(LR_DEBUG, "peer %s: too slow for the feed ring of stripe %u: it will be walked", peer->address, stripe);
    if (!walks && cursor->read < cursor->from)
        begin_apart(cursor);
    else
        lr_outflow_rescan(peer, stripe);
}

/* Most of reading an entry is waiting for memory: the waits overlap. */
static void fetch_lines(struct lr_peer *peer, const struct lr_hint *hints, int count) {
    for (int i = 0; i < count; i++) {
        __builtin_prefetch(known_row(peer, hints[i].hash));
        lr_entry_prefetch(peer->node->cache, hints[i].hash);
    }
}

static void fetch_entries(struct lr_peer *peer, const struct lr_hint *hints, int left) {
    if (left > FETCH_BLOCKS)
        lr_entry_prefetch_block(peer->node->cache, hints[FETCH_BLOCKS].hash);
    if (left > FETCH_VALUES)
        lr_entry_prefetch_value(peer->node->cache, hints[FETCH_VALUES].hash);
}

/* Whether the stripe's hints are to be sent: when it is walked that covers them, unless they go apart. */
static bool flows(const struct lr_peer *peer, uint32_t stripe) {
    const struct lr_outflow *out = &peer->out;
    const struct lr_cursor *cursor = &out->cursors[stripe];
    return cursor->apart || (cursor->scan == LR_SCAN_NONE && !(out->scanning && out->scan_stripe == stripe));
}

static void mark_hints(struct lr_peer *peer, uint32_t stripe) {
    const uint64_t position = peer->out.cursors[stripe].read;
    lr_outflow_mark(peer, (struct lr_sent){.kind = LR_SENT_HINTS, .stripe = stripe, .position = position});
}

/* Sends from one stripe's ring. Returns how many hints were looked at; *full: the window is. */
static unsigned pump_stripe(struct lr_peer *peer, uint32_t stripe, bool *full) {
    struct lr_node *node = peer->node;
    struct lr_outflow *out = &peer->out;
    struct lr_cursor *cursor = &out->cursors[stripe];
    uint64_t head = lr_node_head(node, stripe);
    if (cursor->read >= head || !flows(peer, stripe))
        return 0;
    *full = out->sent_count == LR_SENT_ROWS; /* what is read needs one, even if nothing is to be sent */
    if (*full)
        return 0;
    struct lr_hint hints[HINTS_AT_ONCE];
    uint64_t position = cursor->read;
    unsigned count = head - position < HINTS_AT_ONCE ? (unsigned)(head - position) : HINTS_AT_ONCE;
    int got = lr_feed_read(node->cache, stripe, &position, hints, count);
    if (got == LARDER_ELOST) {
        fall_behind(peer, stripe);
        return 1;
    }
    uint64_t before = cursor->read;
    unsigned done = 0;
    out->looked_at += got > 0 ? (unsigned)got : 0;
    fetch_lines(peer, hints, got);
    for (; got > 0 && done < (unsigned)got; done++) {
        fetch_entries(peer, hints + done, got - (int)done);
        bool echo = lr_node_source(node, stripe, cursor->read) == out->link_number;
        enum given given = echo ? GIVEN : give_hint(peer, &hints[done]);
        *full = given == NO_ROOM;
        out->held_back |= given == TOO_LARGE;
        if (given != GIVEN)
            break;
        cursor->read++;
        if (out->batch_len >= LR_BATCH)
            mark_hints(peer, stripe);
        *full = out->sent_count == LR_SENT_ROWS;
        if (*full)
            break;
    }
    if (cursor->read > before && out->sent_count < LR_SENT_ROWS)
        mark_hints(peer, stripe);
    return done;
}

static bool pump_hints(struct lr_peer *peer, bool *full) {
    struct lr_outflow *out = &peer->out;
    unsigned looked = 0, idle = 0;
    if (peer->node->gather && !peer->node->rung && !out->behind)
        return false;
    out->held_back = false;
    while (!*full && looked < SLICE_HINTS && idle < peer->node->stripes) {
        unsigned done = pump_stripe(peer, out->next_hints, full);
        idle = done == 0 ? idle + 1 : 0;
        looked += done;
        if (!*full)
            out->next_hints = (out->next_hints + 1) % peer->node->stripes;
    }
    out->behind = *full || out->held_back || looked >= SLICE_HINTS;
    return looked > 0;
}

/* ---- walks ------------------------------------------------------------------------------------------------------ */

/* The highest version that the stripe has met. UINT64_MAX: the segment is retired. */
static uint64_t clock_of(struct lr_node *node, uint32_t stripe) {
    struct lr_stripe_info info;
    return lr_stripe_info(node->cache, stripe, &info) == 0 ? info.clock : UINT64_MAX;
}

/* What the walk is of: all that has arrived by now, and its hints are below the head. */
static void begin_bounded(struct lr_peer *peer, const struct lr_cursor *cursor) {
    struct lr_node *node = peer->node;
    struct lr_outflow *out = &peer->out;
    out->scan_apart = cursor->apart;
    if (!cursor->apart)
        lr_node_end_epoch(node, out->scan_stripe); /* or more is walked */
    out->scan_epoch = cursor->apart ? cursor->from_epoch : lr_epoch_now(node->cache, out->scan_stripe) - 1;
    out->scan_head = cursor->apart ? cursor->from : lr_feed_head(node->cache, out->scan_stripe);
}

static bool begin_walk(struct lr_peer *peer) {
    struct lr_node *node = peer->node;
    struct lr_outflow *out = &peer->out;
    for (uint32_t i = 0; i < node->stripes; i++) {
        uint32_t stripe = (out->next_scan + i) % node->stripes;
        struct lr_cursor *cursor = &out->cursors[stripe];
        if (cursor->scan == LR_SCAN_NONE || cursor->unacked_scan != LR_SCAN_NONE)
            continue; /* a walk after the last one is acknowledged: two at once could not be told apart */
        out->next_scan = (stripe + 1) % node->stripes;
        out->scanning = true;
        out->scan_full = cursor->scan == LR_SCAN_FULL;
        out->scan_stripe = stripe;
        begin_bounded(peer, cursor);
        out->scan_filter = cursor->acked_epoch;
        out->scan_missed = false;
        out->scan = lr_scan_stripe(stripe);
        out->scan.traces = true;
        if (out->scan_full)
            cursor->joined = clock_of(node, stripe);
        out->scan.newer = !out->scan_full;
        out->scan.epoch = out->scan_filter;
        cursor->scan = LR_SCAN_NONE; /* what is asked for from now on is another walk */
        cursor->unacked_scan = out->scan_full ? LR_SCAN_FULL : LR_SCAN_NEWER;
        return true;
    }
    return false;
}

static void finish_walk(struct lr_peer *peer) {
    struct lr_outflow *out = &peer->out;
    struct lr_cursor *cursor = &out->cursors[out->scan_stripe];
    out->scanning = false;
    out->behind = true; /* hints of this stripe were left alone */
    out->scans_done++;
    if (!cursor->apart)
        cursor->read = out->scan_head;
    lr_outflow_mark(peer, (struct lr_sent){.kind = LR_SENT_WALK,
                                           .stripe = out->scan_stripe,
                                           .position = out->scan_head,
                                           .epoch = out->scan_missed ? out->scan_filter : out->scan_epoch});
}

/* Whether it arrived after what the peer has. Of an item the walk has said it already: it left out the value. */
static bool is_to_go(const struct lr_peer *peer, const struct lr_entry *entry) {
    const struct lr_outflow *out = &peer->out;
    if (out->scan_apart && entry->kind != LR_FILL &&
        lr_epoch_after(peer->node->cache, out->scan_stripe, entry->epoch, out->scan_epoch))
        return false; /* it has a hint; not so a fill, in whose place a change may have stood whose hint is lost */
    return out->scan_full || entry->value != NULL ||
           (entry->tombstone && lr_epoch_after(peer->node->cache, out->scan_stripe, entry->epoch, out->scan_filter));
}

static bool pump_walk(struct lr_peer *peer, bool *full) {
    struct lr_node *node = peer->node;
    struct lr_outflow *out = &peer->out;
    *full = out->sent_count == LR_SENT_ROWS; /* its end needs one, even if nothing is to be sent */
    if (*full || (!out->scanning && !begin_walk(peer)))
        return false;
    for (unsigned i = 0; i < SLICE_WALK && !*full; i++) {
        struct lr_scan before = out->scan;
        struct lr_entry entry;
        int result = lr_scan_next(node->cache, &out->scan, node->entry, node->entry_cap, &entry);
        out->looked_at++;
        if (result == LARDER_EBUSY) { /* it changes just now */
            if (out->scan_busy++ < BUSY_TRIES) {
                out->scan = before;
                break;
            }
            lr_outflow_rescan(peer, out->scan_stripe);
            out->scan_missed = true;
        }
        out->scan_busy = 0;
        if (result == LARDER_EBUSY)
            continue;
        if (result != 0) {
            finish_walk(peer);
            return true;
        }
        if (!is_to_go(peer, &entry))
            continue;
        if (give(peer, &entry, WIRE_SCAN) != GIVEN) {
            out->scan = before;
            *full = true;
        }
        if (out->batch_len >= LR_BATCH || (*full && out->batch_len > 0))
            lr_outflow_mark(peer, (struct lr_sent){.kind = LR_SENT_BYTES, .stripe = out->scan_stripe});
        if (out->sent_count == LR_SENT_ROWS)
            *full = true;
    }
    if (out->batch_len > 0)
        lr_outflow_mark(peer, (struct lr_sent){.kind = LR_SENT_BYTES, .stripe = out->scan_stripe});
    return true;
}

/* ---- goals ------------------------------------------------------------------------------------------------------ */

void lr_goal_set(struct lr_peer *peer, struct lr_goal *goal) {
    for (uint32_t i = 0; i < peer->node->stripes; i++)
        goal->positions[i] = lr_feed_head(peer->node->cache, i);
    goal->reached = 0;
}

bool lr_goal_reached(const struct lr_peer *peer, struct lr_goal *goal) {
    while (goal->reached < peer->node->stripes) {
        const struct lr_cursor *cursor = &peer->out.cursors[goal->reached];
        /* A full walk that is due is part of any goal, even in a stripe without a single hint. */
        if (peer->out.joining == LR_JOIN_DUE || peer->out.joining == LR_JOIN_UNDER_WAY)
            return false;
        const bool walks = peer->out.scanning && peer->out.scan_stripe == goal->reached;
        if (cursor->read < goal->positions[goal->reached] || cursor->scan == LR_SCAN_FULL ||
            (peer->out.scan_full && walks) || (cursor->apart && (cursor->scan != LR_SCAN_NONE || walks)))
            return false;
        goal->reached++;
    }
    return true;
}

bool lr_outflow_is_even(const struct lr_peer *peer) {
    return peer->out.sync_reached || peer->out.joining != LR_JOIN_NONE;
}

struct lr_lacking lr_outflow_lacking(const struct lr_peer *peer) {
    struct lr_lacking lacking = {0};
    for (uint32_t i = 0; i < peer->node->stripes; i++) {
        const struct lr_cursor *cursor = &peer->out.cursors[i];
        const uint64_t head = lr_node_head(peer->node, i);
        /* Of one that is sent everything no position says anything yet. */
        if (cursor->scan != LR_SCAN_FULL && cursor->unacked_scan != LR_SCAN_FULL)
            lacking.changes += head > cursor->acked ? head - cursor->acked : 0;
        lacking.stripes += cursor->scan != LR_SCAN_NONE || cursor->unacked_scan != LR_SCAN_NONE;
    }
    return lacking;
}

uint64_t lr_outflow_left(const struct lr_peer *peer) {
    const struct lr_lacking lacking = lr_outflow_lacking(peer);
    return lacking.changes + lacking.stripes;
}

struct lr_ahead lr_outflow_ahead(const struct lr_peer *peer) {
    const struct lr_outflow *out = &peer->out;
    struct lr_ahead ahead = peer->link != NULL ? lr_compare_sends(peer) : (struct lr_ahead){0};
    for (uint32_t i = 0; i < peer->node->stripes && peer->link != NULL; i++) {
        ahead.left += out->cursors[i].scan != LR_SCAN_NONE ? UINT64_C(1) << 16 : 0;
        ahead.any |= out->cursors[i].scan != LR_SCAN_NONE || out->cursors[i].unacked_scan != LR_SCAN_NONE;
    }
    if (ahead.any && out->scanning)
        ahead.left += lr_scan_left(&out->scan);
    ahead.sends |= ahead.pass == 0; /* only walks */
    ahead.sent = peer->sent_bytes;
    ahead.on_way = out->in_flight;
    return ahead;
}

/* ---- the pump --------------------------------------------------------------------------------------------------- */

static void send_flush(struct lr_peer *peer) {
    uint64_t version = lr_flush_version(peer->node->cache);
    if (version <= peer->out.flush_sent)
        return;
    uint8_t frame[WIRE_HEADER + 8];
    lr_link_send(peer->link, frame, wire_encode_words(frame, sizeof frame, WIRE_FLUSH, 0, &version, 1));
    peer->out.flush_sent = version;
}

static void send_synced(struct lr_peer *peer) {
    uint8_t *at = peer->out.sent_count < LR_SENT_ROWS ? lr_outflow_reserve(peer, WIRE_HEADER) : NULL;
    if (at == NULL)
        return;
    peer->out.batch_len += wire_encode_words(at, WIRE_HEADER, WIRE_SYNCED, 0, NULL, 0);
    lr_outflow_mark(peer, (struct lr_sent){.kind = LR_SENT_SYNCED});
    peer->out.synced_sent = true;
}

static bool pump(struct lr_peer *peer) {
    struct lr_outflow *out = &peer->out;
    send_flush(peer);
    if (out->wanted != 0 && !lr_outflow_room(peer, out->wanted)) { /* what stands still costs nothing */
        out->behind = true;
        return false;
    }
    if (out->joining == LR_JOIN_DUE && lr_compare_tell(peer, true))
        out->joining = LR_JOIN_UNDER_WAY;
    bool full = false, more = false;
    /* By turns: beside a stripe that is walked its hints may go on for as long as there are any. */
    out->walk_first = out->scanning && !out->walk_first;
    if (out->walk_first)
        more |= pump_walk(peer, &full);
    out->behind |= full;
    if (!full && peer->link != NULL)
        more |= pump_hints(peer, &full);
    if (!full && !out->walk_first && peer->link != NULL)
        more |= pump_walk(peer, &full);
    if (full || peer->link == NULL || out->sent_count == LR_SENT_ROWS)
        return false;
    if (lr_compare_due(peer))
        lr_compare_tell(peer, false);
    more |= lr_compare_step(peer);
    if (out->settle != LR_SETTLE_NONE)
        return lr_settle_step(peer) || more;
    if (!out->sync_reached && lr_goal_reached(peer, &out->sync_goal)) {
        out->sync_reached = true;
        if (lr_settle_due(peer))
            lr_settle_begin(peer);
        return true;
    }
    if (out->sync_reached && !out->synced_sent) {
        send_synced(peer);
        return true;
    }
    return more;
}

bool lr_outflow_pump(struct lr_peer *peer) {
    if (peer->link == NULL || !peer->link->timed || peer->out.sent_count == LR_SENT_ROWS) {
        peer->out.behind = true;
        return false;
    }
    bool more = pump(peer);
    lr_outflow_flush(peer);
    return more;
}

/* ---- beginning and end ------------------------------------------------------------------------------------------- */

int lr_outflow_create(struct lr_peer *peer) {
    struct lr_outflow *out = &peer->out;
    uint32_t stripes = peer->node->stripes;
    out->cursors = calloc(stripes, sizeof *out->cursors);
    out->known = calloc(LR_KNOWN_ROWS, sizeof *out->known);
    out->sent = calloc(LR_SENT_ROWS, sizeof *out->sent);
    out->joined = calloc(stripes, sizeof *out->joined);
    out->sync_goal.positions = calloc(stripes, sizeof(uint64_t));
    out->settle_goal.positions = calloc(stripes, sizeof(uint64_t));
    if (out->cursors == NULL || out->known == NULL || out->sent == NULL || out->joined == NULL ||
        out->sync_goal.positions == NULL || out->settle_goal.positions == NULL) {
        lr_outflow_free(peer);
        return -1;
    }
    lr_outflow_forget(peer);
    return 0;
}

void lr_outflow_free(struct lr_peer *peer) {
    struct lr_outflow *out = &peer->out;
    lr_settle_abandon(peer);
    free(out->cursors);
    free(out->known);
    free(out->sent);
    free(out->joined);
    free(out->batch);
    free(out->sync_goal.positions);
    free(out->settle_goal.positions);
    *out = (struct lr_outflow){0};
}

void lr_outflow_forget(struct lr_peer *peer) {
    for (uint32_t i = 0; i < peer->node->stripes; i++)
        peer->out.cursors[i] =
            (struct lr_cursor){.scan = LR_SCAN_FULL, .acked_epoch = lr_epoch_get_acked(peer->node->cache, i)};
    memset(peer->out.settled, 0, sizeof peer->out.settled);
    memset(peer->out.taken, 0, sizeof peer->out.taken);
}

void lr_outflow_join(struct lr_peer *peer) {
    struct lr_node *node = peer->node;
    for (uint32_t i = 0; i < node->stripes; i++) {
        struct lr_cursor *cursor = &peer->out.cursors[i];
        if (cursor->scan != LR_SCAN_FULL)
            continue;
        /* As begin_walk: epoch, head and clock before anything is looked at. */
        lr_node_end_epoch(node, i);
        peer->out.joined[i] =
            (struct lr_joined){.epoch = lr_epoch_now(node->cache, i) - 1, .head = lr_feed_head(node->cache, i)};
        cursor->joined = clock_of(node, i);
        cursor->read = peer->out.joined[i].head;
        cursor->scan = LR_SCAN_NONE;
        cursor->unacked_scan = LR_SCAN_FULL;
        peer->out.joining = LR_JOIN_DUE;
    }
}

/* Before anything has come by the new link. */
static void restart_stripe(struct lr_peer *peer, uint32_t stripe) {
    struct lr_cursor *cursor = &peer->out.cursors[stripe];
    struct lr_boundary boundary;
    if (cursor->unacked_scan > cursor->scan)
        cursor->scan = cursor->unacked_scan;
    cursor->unacked_scan = LR_SCAN_NONE;
    cursor->read = cursor->acked;
    cursor->from = 0;
    cursor->apart = false;
    if (cursor->scan == LR_SCAN_FULL ||
        (cursor->scan == LR_SCAN_NONE && cursor->read == lr_feed_head(peer->node->cache, stripe)) ||
        !lr_node_boundary(peer->node, stripe, &boundary))
        return;
    cursor->from = boundary.head;
    cursor->from_epoch = boundary.epoch;
    if (cursor->scan == LR_SCAN_NEWER)
        begin_apart(cursor);
}

void lr_outflow_restart(struct lr_peer *peer) {
    struct lr_outflow *out = &peer->out;
    for (uint32_t i = 0; i < peer->node->stripes; i++)
        restart_stripe(peer, i);
    out->link_number = lr_node_next_link(peer->node);
    memset(out->known, 0, LR_KNOWN_ROWS * sizeof *out->known);
    out->knows_any = false;
    out->sent_first = out->sent_count = 0;
    out->sequence = 0;
    out->in_flight = out->large_in_flight = 0;
    out->batch_len = out->batch_large = 0;
    out->scanning = false;
    out->behind = true;
    out->wanted = 0;
    out->joining = LR_JOIN_NONE;
    out->sync_reached = out->synced_sent = out->synced = false;
    out->settle_next_ms = 0;
    lr_settle_abandon(peer);
    lr_goal_set(peer, &out->sync_goal);
}
