/* SPDX-License-Identifier: MIT */
/*
 * The life of links and of the peers they belong to. peer.h draws the states.
 *
 * HELLO is handled in an order that keeps the segment right: who is it (protocol, ourselves, a stranger), can its clock
 * be believed, which of two links stays, then the clocks and the flush version are merged. A link that is refused has
 * changed nothing. HELLO alone cannot tell a clock that lags from a HELLO that waited somewhere, so a PING follows at
 * once, and entries flow only when its PONG has shown that the clocks agree.
 */
#include "log.h"
#include "node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *lr_peer_state_name(enum lr_peer_state state) {
    static const char *const names[] = {
#define X(name, sentence) #name,
        LR_PEER_STATES(X)
#undef X
    };
    return names[state];
}

static void set_state(struct lr_peer *peer, enum lr_peer_state state, const char *why) {
    if (peer->state == state)
        return;
    /* A peer that stays away is told once, not at every attempt. */
    bool dull = state == LR_PEER_CONNECTING || state == LR_PEER_HELLO ||
                (state == LR_PEER_BACKOFF && peer->state != LR_PEER_SYNC && peer->state != LR_PEER_LIVE &&
                 peer->backoff_ms > LR_BACKOFF_LEAST_MS);
    lr_log(dull ? LR_DEBUG : LR_INFO, "peer %s: %s to %s: %s local=%s remote=%s node=%s", peer->address,
           lr_peer_state_name(peer->state), lr_peer_state_name(state), why, peer->node->listen,
           peer->link != NULL ? peer->link->remote : "-", peer->known ? peer->name : "-");
    peer->state = state;
}

/* ---- closing ------------------------------------------------------------------------------------------------- */

static void back_off(struct lr_peer *peer, const char *why) {
    if (peer->state == LR_PEER_CLOSED || peer->link != NULL)
        return;
    if (peer->dial != NULL) { /* our own attempt goes on */
        set_state(peer, peer->dial->connected ? LR_PEER_HELLO : LR_PEER_CONNECTING, why);
        return;
    }
    uint64_t jitter = peer->node->world->random(peer->node->world->self) % (peer->backoff_ms / 2 + 1);
    peer->retry_ms = lr_node_now(peer->node) + peer->backoff_ms / 2 + jitter;
    set_state(peer, LR_PEER_BACKOFF, why);
    peer->backoff_ms = peer->backoff_ms * 2 < LR_BACKOFF_MOST_MS ? peer->backoff_ms * 2 : LR_BACKOFF_MOST_MS;
}

/* The link no longer belongs to its peer. */
static void part(struct lr_link *link, const char *why) {
    struct lr_peer *peer = link->peer;
    if (peer == NULL)
        return;
    link->peer = NULL;
    if (peer->dial == link)
        peer->dial = NULL;
    if (peer->link == link) {
        const struct lr_lacking lacking = lr_outflow_lacking(peer);
        lr_log(LR_INFO,
               "peer %s: link ended: %s remote=%s received=%llu stale=%llu declined=%llu unacknowledged=%llu "
               "resync_stripes=%u",
               peer->address, why, link->remote, (unsigned long long)link->in.applied,
               (unsigned long long)link->in.stale, (unsigned long long)link->in.declined,
               (unsigned long long)lacking.changes, lacking.stripes);
        peer->link = NULL;
        peer->lost_ms = lr_node_now(peer->node);
        lr_settle_abandon(peer);
    }
    back_off(peer, why);
}

static void hang_up(struct lr_link *link) {
    link->closed = true;
    lr_stream_free(&link->stream);
    lr_settle_hang_up(link);
    if (link->connection != NULL) {
        void *connection = link->connection;
        link->connection = NULL;
        link->node->world->hang_up(link->node->world->self, connection);
    }
}

void lr_link_close(struct lr_link *link, enum wire_reason reason, const char *text) {
    if (link->closed)
        return;
    if (link->connected) {
        uint8_t frame[WIRE_HEADER + 5 + WIRE_MAX_TEXT];
        size_t len = wire_encode_bye(frame, sizeof frame, reason, text);
        lr_link_send(link, frame, len);
    }
    hang_up(link);
    part(link, text);
}

void lr_link_lost(struct lr_link *link, const char *why) {
    if (link->closed)
        return;
    link->connection = NULL;
    hang_up(link);
    part(link, why);
}

void lr_link_free(struct lr_link *link) {
    free(link);
}

void lr_peer_destroy(struct lr_peer *peer, enum wire_reason reason) {
    set_state(peer, LR_PEER_CLOSED, wire_reason_text(reason));
    if (peer->dial != NULL)
        lr_link_close(peer->dial, reason, wire_reason_text(reason));
    if (peer->link != NULL)
        lr_link_close(peer->link, reason, wire_reason_text(reason));
    lr_outflow_free(peer);
    lr_compare_free(peer);
    free(peer);
}

/* ---- opening ------------------------------------------------------------------------------------------------- */

struct lr_peer *lr_peer_create(struct lr_node *node, const char *address) {
    struct lr_peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        return NULL;
    peer->node = node;
    peer->backoff_ms = LR_BACKOFF_LEAST_MS;
    snprintf(peer->address, sizeof peer->address, "%s", address);
    lr_peer_resolved(peer, address);
    if (lr_compare_create(peer) != 0 || lr_outflow_create(peer) != 0) {
        lr_compare_free(peer);
        free(peer);
        return NULL;
    }
    return peer;
}

void lr_peer_resolved(struct lr_peer *peer, const char *numeric) {
    for (unsigned i = 0; i < peer->numeric_count; i++)
        if (strcmp(peer->numeric[i], numeric) == 0)
            return;
    if (peer->numeric_count == LR_ADDRESSES) /* the first is the configured text; the rest gives way to what is new */
        peer->numeric_count = 1;
    snprintf(peer->numeric[peer->numeric_count++], sizeof peer->numeric[0], "%s", numeric);
}

static struct lr_link *new_link(struct lr_node *node, bool dialled, const char *remote) {
    struct lr_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return NULL;
    link->node = node;
    link->dialled = dialled;
    link->max_payload = WIRE_HELLO_LIMIT;
    link->since_ms = link->heard_ms = lr_node_now(node);
    snprintf(link->remote, sizeof link->remote, "%s", remote);
    link->next = node->links;
    node->links = link;
    return link;
}

void lr_link_send(struct lr_link *link, const uint8_t *bytes, size_t len) {
    if (link->closed || link->connection == NULL)
        return;
    if (link->peer != NULL)
        link->peer->sent_bytes += len;
    link->node->world->send(link->node->world->self, link->connection, bytes, len);
}

static uint64_t items_of(const struct lr_node *node) {
    struct lr_stat stat;
    lr_stat(node->cache, &stat);
    return stat.items;
}

static void say_hello(struct lr_link *link) {
    struct lr_node *node = link->node;
    struct wire_hello hello = {.protocol = WIRE_PROTOCOL,
                               .least = WIRE_PROTOCOL_LEAST,
                               .incarnation = {node->incarnation[0], node->incarnation[1]},
                               .origin = lr_origin(node->cache),
                               .highest = lr_highest_version(node->cache),
                               .flush = lr_flush_version(node->cache),
                               .wall_ms = lr_node_wall(node),
                               .max_entry = node->entry_cap,
                               .features = WIRE_CAN_COMPARE | WIRE_CAN_UNPACK | WIRE_HAS_MODES | WIRE_HAS_PARTS,
                               .items = items_of(node),
                               .modes = lr_modes_hash(node->cache)};
    snprintf(hello.node, sizeof hello.node, "%s", node->name);
    snprintf(hello.listen, sizeof hello.listen, "%s", node->listen);
    link->said_flush = hello.flush;
    link->said_items = hello.items;
    uint8_t frame[WIRE_HEADER + WIRE_HELLO_LIMIT];
    lr_link_send(link, frame, wire_encode_hello(frame, sizeof frame, &hello));
}

struct lr_link *lr_link_accept(struct lr_node *node, void *connection, const char *remote) {
    unsigned guests = 0;
    for (const struct lr_link *link = node->links; link != NULL; link = link->next)
        guests += !link->closed && link->peer == NULL;
    struct lr_link *link = guests < LR_MAX_GUESTS ? new_link(node, false, remote) : NULL;
    if (link == NULL) {
        node->refused++;
        lr_log(LR_WARN, "incoming connection refused: %u others have not said HELLO yet local=%s remote=%s", guests,
               node->listen, remote);
        return NULL;
    }
    link->connection = connection;
    link->connected = true;
    say_hello(link);
    return link;
}

void lr_link_connected(struct lr_link *link, const char *remote) {
    if (link->closed)
        return;
    link->connected = true;
    link->since_ms = link->heard_ms = lr_node_now(link->node);
    snprintf(link->remote, sizeof link->remote, "%s", remote);
    if (link->peer->state == LR_PEER_CONNECTING)
        set_state(link->peer, LR_PEER_HELLO, "connected");
    say_hello(link);
}

static void dial(struct lr_peer *peer) {
    struct lr_link *link = new_link(peer->node, true, peer->address);
    if (link == NULL) {
        back_off(peer, "out of memory");
        return;
    }
    link->peer = peer;
    peer->dial = link;
    set_state(peer, LR_PEER_CONNECTING, "dialling");
    link->connection = peer->node->world->dial(peer->node->world->self, link, peer->address);
    if (link->connection == NULL)
        lr_link_lost(link, "out of memory");
}

/* ---- HELLO --------------------------------------------------------------------------------------------------- */

static bool same(const uint64_t a[2], const uint64_t b[2]) {
    return a[0] == b[0] && a[1] == b[1];
}

static bool less(const uint64_t a[2], const uint64_t b[2]) {
    return a[0] != b[0] ? a[0] < b[0] : a[1] < b[1];
}

/* The row of the configuration that an incoming HELLO belongs to: by the address at which it listens, or by what an
 * earlier link taught us. */
static struct lr_peer *find_peer(struct lr_node *node, const struct wire_hello *hello) {
    for (unsigned i = 0; i < node->peer_count; i++)
        for (unsigned k = 0; k < node->peers[i]->numeric_count; k++)
            if (strcmp(node->peers[i]->numeric[k], hello->listen) == 0)
                return node->peers[i];
    for (unsigned i = 0; i < node->peer_count; i++)
        if (node->peers[i]->known && same(node->peers[i]->incarnation, hello->incarnation))
            return node->peers[i];
    return NULL;
}

static bool refuse(struct lr_link *link, enum wire_reason reason, enum lr_log_level level, const char *text) {
    lr_log(level, "link refused: %s local=%s remote=%s peer=%s", text, link->node->listen, link->remote,
           link->peer != NULL ? link->peer->address : "-");
    lr_link_close(link, reason, text);
    return false;
}

/* Keys say more than words: who dials us must be the peer that its HELLO claims to be. */
static bool proves(struct lr_link *link, const struct lr_peer *peer) {
    const struct lr_world *world = link->node->world;
    char text[WIRE_MAX_TEXT + 1];
    if (world->proves == NULL || world->proves(world->self, link->connection, peer->address))
        return true;
    snprintf(text, sizeof text, "its certificate is not one of peer %.80s", peer->address);
    return refuse(link, WIRE_BYE_STRANGER, LR_ERROR, text);
}

/* Who is it, and may it talk to us? */
static bool admit(struct lr_link *link, const struct wire_hello *hello) {
    struct lr_node *node = link->node;
    char text[WIRE_MAX_TEXT + 1];
    if (same(hello->incarnation, node->incarnation))
        return refuse(link, WIRE_BYE_SELF, LR_ERROR, "the peer's address leads back to this very segment");
    struct lr_peer *peer = link->dialled ? link->peer : find_peer(node, hello);
    if (peer == NULL) {
        snprintf(text, sizeof text, "%.40s at %.50s is not among this host's peers", hello->node, hello->listen);
        return refuse(link, WIRE_BYE_STRANGER, LR_WARN, text);
    }
    if (!proves(link, peer))
        return false;
    for (unsigned i = 0; i < node->peer_count; i++)
        if (node->peers[i] != peer && node->peers[i]->link != NULL &&
            same(node->peers[i]->incarnation, hello->incarnation)) {
            snprintf(text, sizeof text, "this host is already linked as peer %.70s", node->peers[i]->address);
            return refuse(link, WIRE_BYE_DUPLICATE, LR_WARN, text);
        }
    uint64_t wall = lr_node_wall(node);
    if (hello->wall_ms > wall + node->clock_limit_ms) {
        snprintf(text, sizeof text, "wall clock of %.30s leads by %llu ms, limit %llu ms", hello->node,
                 (unsigned long long)(hello->wall_ms - wall), (unsigned long long)node->clock_limit_ms);
        peer->clock_refusals++;
        return refuse(link, WIRE_BYE_CLOCK, LR_ERROR, text);
    }
    link->peer = peer;
    if (!lr_inflow_believes(link, hello->highest, "highest version") ||
        !lr_inflow_believes(link, hello->flush, "flush version"))
        return false;
    if (peer->link == NULL || peer->link == link)
        return true;
    /* Two links of one pair: rule 2 of peer.h. */
    bool ours_stays = less(node->incarnation, hello->incarnation);
    bool newer_stays = link->dialled == peer->link->dialled || link->dialled == ours_stays;
    if (newer_stays) {
        lr_link_close(peer->link, WIRE_BYE_DUPLICATE, wire_reason_text(WIRE_BYE_DUPLICATE));
        return true;
    }
    if (!link->dialled)
        link->peer = NULL;
    lr_link_close(link, WIRE_BYE_DUPLICATE, wire_reason_text(WIRE_BYE_DUPLICATE));
    return false;
}

static void redraw_origin(struct lr_node *node) {
    uint32_t origin;
    bool taken;
    do {
        origin = (uint32_t)(node->world->random(node->world->self) % 1024);
        taken = false;
        for (unsigned i = 0; i < node->peer_count; i++)
            taken |= node->peers[i]->known && node->peers[i]->origin == origin;
    } while (taken);
    lr_log(LR_INFO, "origin %u is also a peer's: redrawn as %u", lr_origin(node->cache), origin);
    lr_set_origin(node->cache, origin);
}

static void ping(struct lr_link *link) {
    uint8_t frame[WIRE_HEADER + 16];
    uint64_t words[2] = {lr_node_wall(link->node), lr_highest_version(link->node->cache)};
    link->pinged_ms = lr_node_now(link->node);
    lr_link_send(link, frame, wire_encode_words(frame, sizeof frame, WIRE_PING, 0, words, 2));
}

static void take_hello(struct lr_link *link, const struct wire_hello *hello) {
    struct lr_node *node = link->node;
    if (!admit(link, hello))
        return;
    struct lr_peer *peer = link->peer;
    bool resumed = peer->known && same(peer->incarnation, hello->incarnation);
    peer->known = true;
    peer->incarnation[0] = hello->incarnation[0];
    peer->incarnation[1] = hello->incarnation[1];
    peer->origin = hello->origin;
    peer->max_entry = hello->max_entry;
    peer->features = hello->features;
    peer->modes = hello->modes;
    peer->items = hello->items;
    snprintf(peer->name, sizeof peer->name, "%s", hello->node);
    if (peer->dial == link)
        peer->dial = NULL;
    peer->link = link;
    link->greeted = true;
    link->max_payload = WIRE_PUT_FIXED + node->entry_cap;
    if (link->max_payload < WIRE_SMALL_LIMIT)
        link->max_payload = WIRE_SMALL_LIMIT;

    if (lr_raise_clock(node->cache, hello->highest) < 0 || lr_apply_flush(node->cache, hello->flush) < 0)
        lr_log(LR_WARN, "peer %s: clock or flush version could not be merged at once", peer->address);
    peer->shared_origin = (resumed && peer->shared_origin) || hello->origin == lr_origin(node->cache);
    if (hello->origin == lr_origin(node->cache) && less(node->incarnation, hello->incarnation))
        redraw_origin(node);
    if (!resumed) {
        lr_outflow_forget(peer);
        lr_compare_forget(peer);
    }
    lr_outflow_restart(peer);
    lr_compare_restart(peer);
    /* Comparing costs a row for each entry that differs: not worth it for a peer that has next to nothing. And it sees
     * versions only, of which two hosts with one origin may have drawn one for two values. */
    if ((hello->features & WIRE_CAN_COMPARE) != 0 && hello->items >= items_of(node) / 2 && !peer->shared_origin)
        lr_outflow_join(peer);
    peer->out.flush_sent = link->said_flush; /* there may have been a flush since */
    char why[64];
    snprintf(why, sizeof why, "%s, %s", link->dialled ? "we dialled" : "it dialled",
             resumed ? "resuming" : "from the beginning");
    set_state(peer, LR_PEER_SYNC, why);
    if (peer->modes != lr_modes_hash(node->cache))
        lr_log(LR_WARN, "peer %s: its modes of keys are not ours; of two modes of a key the stricter counts",
               peer->address);
    ping(link);
}

/* ---- frames -------------------------------------------------------------------------------------------------- */

void lr_peer_live(struct lr_peer *peer) {
    if (peer->state != LR_PEER_SYNC || !peer->out.synced || peer->link == NULL || !peer->link->in_synced)
        return;
    peer->backoff_ms = LR_BACKOFF_LEAST_MS;
    char why[96];
    snprintf(why, sizeof why, "in step sent=%llu received=%llu declined=%llu",
             (unsigned long long)peer->out.entries_sent, (unsigned long long)peer->link->in.applied,
             (unsigned long long)peer->link->in.declined);
    set_state(peer, LR_PEER_LIVE, why);
    lr_node_back(peer->node, peer->address);
}

static void answer_ping(struct lr_link *link, uint64_t wall_ms) {
    uint8_t frame[WIRE_HEADER + 16];
    uint64_t words[2] = {wall_ms, lr_node_wall(link->node)};
    lr_link_send(link, frame, wire_encode_words(frame, sizeof frame, WIRE_PONG, 0, words, 2));
}

/* The other side's clock was read at some moment between our sending and now: only what is sure counts. */
static void judge_clock(struct lr_link *link, uint64_t echo_ms, uint64_t wall_ms) {
    uint64_t now = lr_node_wall(link->node);
    uint64_t limit = link->node->clock_limit_ms;
    uint64_t off = wall_ms > now + limit                         ? wall_ms - now
                   : echo_ms <= now && wall_ms + limit < echo_ms ? echo_ms - wall_ms
                                                                 : 0;
    if (off == 0) {
        link->timed = true;
        return;
    }
    char text[WIRE_MAX_TEXT + 1];
    snprintf(text, sizeof text, "wall clocks differ by at least %llu ms, limit %llu ms: set them by NTP",
             (unsigned long long)off, (unsigned long long)limit);
    link->peer->clock_refusals++;
    refuse(link, WIRE_BYE_CLOCK, LR_ERROR, text);
}

static enum lr_taken take_frame(struct lr_link *link, const struct wire_frame *frame) {
    const bool known_optional = frame->type >= WIRE_SUMS && frame->type <= WIRE_PARTS;
    if (!link->greeted && frame->type != WIRE_HELLO && frame->type != WIRE_BYE &&
        ((frame->type & WIRE_OPTIONAL) == 0 || known_optional)) {
        refuse(link, WIRE_BYE_GARBAGE, LR_WARN, "the first frame is not HELLO");
        return LR_TAKE_REFUSED;
    }
    switch (frame->type) {
    case WIRE_HELLO:
        if (link->greeted)
            refuse(link, WIRE_BYE_GARBAGE, LR_WARN, "a second HELLO");
        else
            take_hello(link, &frame->as.hello);
        break;
    case WIRE_PING:
        answer_ping(link, frame->as.ping.wall_ms);
        break;
    case WIRE_PONG:
        judge_clock(link, frame->as.pong.echo_ms, frame->as.pong.wall_ms);
        break;
    case WIRE_BYE: {
        char why[256];
        snprintf(why, sizeof why, "the other side closes: %s (%s)", frame->as.bye.text,
                 wire_reason_text(frame->as.bye.reason));
        bool loud = frame->as.bye.reason != WIRE_BYE_DUPLICATE && frame->as.bye.reason != WIRE_BYE_SHUTDOWN;
        lr_log(loud ? LR_WARN : LR_DEBUG, "%s local=%s remote=%s", why, link->node->listen, link->remote);
        link->connected = false; /* no BYE in return */
        lr_link_close(link, WIRE_BYE_SHUTDOWN, why);
        break;
    }
    case WIRE_PUT:
    case WIRE_TOMB:
    case WIRE_DROP:
    case WIRE_FLUSH:
        return lr_inflow_take(link, frame);
    case WIRE_VOIDS:
    case WIRE_LIST:
    case WIRE_SETTLE:
    case WIRE_PARTS:
        return lr_settle_take(link, frame);
    case WIRE_SUMS:
    case WIRE_ASK:
    case WIRE_SUBS:
    case WIRE_PICK:
    case WIRE_ROWS:
    case WIRE_PULL:
    case WIRE_COMPARED:
        return lr_compare_take(link, frame);
    case WIRE_MARK:
        link->in.mark = frame->as.ack.sequence;
        break;
    case WIRE_ACK:
        if (!lr_outflow_acked(link->peer, frame->as.ack.sequence))
            refuse(link, WIRE_BYE_GARBAGE, LR_WARN, "ACK of a mark that was never sent");
        break;
    case WIRE_SYNCED:
        link->in_synced = true;
        lr_peer_live(link->peer);
        break;
    default:
        break; /* an optional frame of a later release */
    }
    return link->closed ? LR_TAKE_REFUSED : LR_TAKEN;
}

static void refuse_bytes(struct lr_link *link, enum wire_fault fault, const struct wire_frame *frame) {
    char text[WIRE_MAX_TEXT + 1];
    if (fault == WIRE_FAULT_PROTOCOL)
        snprintf(text, sizeof text, "the other side speaks protocol %u, this larderd %u", frame->as.hello.protocol,
                 WIRE_PROTOCOL);
    else
        snprintf(text, sizeof text, "%s", wire_fault_text(fault));
    refuse(link, fault == WIRE_FAULT_PROTOCOL ? WIRE_BYE_PROTOCOL : WIRE_BYE_GARBAGE, LR_WARN, text);
}

static void pause_reading(struct lr_link *link, bool pause) {
    if (link->closed || link->in.paused == pause)
        return;
    link->in.paused = pause;
    link->node->world->reading(link->node->world->self, link->connection, !pause);
}

/* Most of an apply is waiting for memory. Of the two PUTs behind this frame, the first one's entry and the second one's
 * index lines are fetched while this one is applied. */
static void look_ahead(const struct lr_link *link, const struct wire_frame *frame) {
    const struct lr_cache *cache = link->node->cache;
    size_t len, bytes;
    uint32_t key_len;
    const uint8_t *at = lr_stream_behind(&link->stream, frame, &len);
    const void *key = wire_peek_key(at, len, &key_len, &bytes);
    const unsigned apply_flags = lr_inflow_flags(frame);
    if (key == NULL)
        return;
    const uint64_t hash = lr_cluster_hash(key, key_len);
    lr_apply_prefetch_entry(cache, hash, apply_flags);
    lr_outflow_prefetch(link->peer, hash);
    key = bytes < len ? wire_peek_key(at + bytes, len - bytes, &key_len, &bytes) : NULL;
    if (key != NULL)
        lr_apply_prefetch(cache, lr_cluster_hash(key, key_len), apply_flags);
}

/* Takes frames as far as they can be applied now. */
static void take_frames(struct lr_link *link) {
    bool wait = false;
    link->in.now_ms = lr_node_now(link->node);
    link->in.wall_ms = lr_node_wall(link->node);
    while (!link->closed && !link->in.settling && !wait) {
        struct wire_frame frame;
        enum wire_fault fault = lr_stream_peek(&link->stream, link->max_payload, &frame);
        if (fault == WIRE_FAULT_MORE)
            break;
        if (fault != WIRE_FAULT_OK) {
            refuse_bytes(link, fault, &frame);
            return;
        }
        if (frame.type == WIRE_PUT && link->greeted)
            look_ahead(link, &frame);
        switch (take_frame(link, &frame)) {
        case LR_TAKEN:
            lr_stream_take(&link->stream, &frame);
            break;
        case LR_TAKE_LATER:
            wait = true;
            break;
        case LR_TAKE_REFUSED:
            return;
        }
    }
    if (!link->closed)
        pause_reading(link, wait || link->in.settling);
}

static void acknowledge(struct lr_link *link) {
    if (!link->closed && link->in.acked != link->in.mark) {
        link->in.acked = link->in.mark;
        uint8_t frame[WIRE_HEADER + 16];
        uint64_t words[2] = {link->in.mark, link->in.declined};
        lr_link_send(link, frame, wire_encode_words(frame, sizeof frame, WIRE_ACK, 0, words, 2));
        lr_node_rung(link->node);
        lr_outflow_pump(link->peer); /* what came in left hints: pass them over while we still know whence it came */
    }
}

void lr_link_work(struct lr_link *link) {
    take_frames(link);
    acknowledge(link);
}

/* Appends what makes the first frame whole, or all there is. False, with the link closed: without memory. */
static bool complete(struct lr_link *link, const uint8_t **bytes, size_t *len) {
    size_t missing = 1;
    while (*len > 0 && missing > 0) {
        missing = link->in.paused ? *len : lr_stream_missing(&link->stream, link->max_payload);
        size_t piece = missing < *len ? missing : *len;
        if (lr_stream_push(&link->stream, *bytes, piece) != 0) {
            refuse(link, WIRE_BYE_FAILED, LR_ERROR, "out of memory");
            return false;
        }
        *bytes += piece;
        *len -= piece;
    }
    return true;
}

void lr_link_received(struct lr_link *link, const void *bytes, size_t len) {
    const uint8_t *rest = bytes;
    if (link->closed)
        return;
    link->heard_ms = lr_node_now(link->node);
    if (link->peer != NULL)
        link->peer->received_bytes += len;
    if (!lr_stream_is_empty(&link->stream) && !complete(link, &rest, &len))
        return;
    if (!link->in.paused && !lr_stream_is_empty(&link->stream))
        take_frames(link);
    if (link->closed)
        return;
    const bool direct = !link->in.paused && lr_stream_is_empty(&link->stream);
    if (direct) {
        lr_stream_lend(&link->stream, rest, len);
        take_frames(link);
    }
    if (!link->closed && (direct ? lr_stream_keep(&link->stream) : lr_stream_push(&link->stream, rest, len)) != 0)
        refuse(link, WIRE_BYE_FAILED, LR_ERROR, "out of memory");
    acknowledge(link);
}

/* ---- time ---------------------------------------------------------------------------------------------------- */

void lr_peer_tick(struct lr_peer *peer) {
    if ((peer->state == LR_PEER_IDLE || peer->state == LR_PEER_BACKOFF) && lr_node_now(peer->node) >= peer->retry_ms)
        dial(peer);
}

void lr_link_tick(struct lr_link *link) {
    uint64_t now = lr_node_now(link->node);
    if (link->closed)
        return;
    if (link->in.paused) /* it is we who do not listen */
        link->heard_ms = now;
    if (!link->greeted) {
        if (now - link->since_ms > LR_HELLO_MS)
            lr_link_close(link, WIRE_BYE_SLOW, link->connected ? "no HELLO in time" : "no connection in time");
        return;
    }
    if (now - link->heard_ms > LR_SILENCE_MS) {
        lr_link_close(link, WIRE_BYE_SLOW, "silent for 3 s");
        return;
    }
    if (link->node->world->unsent(link->node->world->self, link->connection) >
        LR_UNSENT_LIMIT + link->peer->out.in_flight) {
        lr_link_close(link, WIRE_BYE_SLOW, "it does not read our answers");
        return;
    }
    if (now - link->pinged_ms >= LR_HEARTBEAT_MS)
        ping(link);
}
