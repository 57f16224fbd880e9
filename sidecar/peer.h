/* SPDX-License-Identifier: MIT */
/*
 * One configured peer, and the link to it: what state are we in, and what has the other side got?
 *
 *                 dial                 connected              HELLO both ways            both sides have
 *   IDLE --------------> CONNECTING -------------> HELLO -----------------------> SYNC ----------------> LIVE
 *     ^                      |  failed               | refused, no answer           | lost, silent,        |
 *     |                      v                       v                              v garbage, clock       v
 *     '------- due ------ BACKOFF <------------------+------------------------------+----------------------+
 *                            |
 *                            '--> CLOSED (removed from the configuration, or shutting down) from any state
 *
 * A *link* is one TCP connection; a *peer* is a row of the configuration and outlives its links. Both sides dial. An
 * incoming link belongs to nobody until its HELLO tells whose it is; it can then put a peer into SYNC straight from
 * IDLE, BACKOFF, CONNECTING or HELLO.
 *
 * Rules that always hold:
 *  1. Closing comes first: lr_link_close may be called at any place, any number of times; the link's memory goes later,
 *     in lr_node_work, when nobody is inside one of its calls.
 *  2. A peer has at most one link that has said HELLO. If both sides' dials succeed, the one dialled by the smaller
 *     incarnation stays; of two dialled by the same side, the later stays. Both sides come to the same answer.
 *  3. What we know of the peer's contents (cursors, settled voids) belongs to its incarnation, not to the link: the
 * same incarnation resumes, another one starts from zero.
 *  4. Each direction stands alone: outflow.c sends what is new here and hears ACK, inflow.c applies what comes and
 *     answers ACK. Frames of one direction are applied in the order in which they were sent.
 *  5. Nothing is kept for a slow peer but positions: at most LR_WINDOW bytes are on their way, and as many of large
 *     records (or one, if that is larger); the rest stays in the segment. Large ones hold up their stripe, not the
 * others.
 */
#ifndef LR_PEER_H
#define LR_PEER_H

#include "cache.h"
#include "stream.h"

#define LR_WINDOW (1u << 20)       /* unacknowledged bytes on a link */
#define LR_BATCH (64u << 10)       /* a batch is closed beyond this */
#define LR_SENT_ROWS 1024u         /* unacknowledged batches on a link */
#define LR_KNOWN_ROWS 8192u        /* versions that the peer is known to have */
#define LR_LIST_MOST (64u << 10)   /* hashes of one interval of a settlement */
#define LR_UNSENT_LIMIT (8u << 20) /* answers that the other side does not fetch, beyond its window */
#define LR_HEARTBEAT_MS 500u
#define LR_SILENCE_MS 3000u /* without a byte from the other side */
#define LR_HELLO_MS 2000u   /* from the connection to HELLO */
#define LR_BACKOFF_LEAST_MS 100u
#define LR_BACKOFF_MOST_MS 5000u
#define LR_BUSY_MS 1000u           /* an entry that cannot be applied for so long is declined */
#define LR_SETTLE_EVERY_MS 5000u   /* between two settlements of a live link */
#define LR_COMPARE_EVERY_MS 10000u /* between two comparisons of a live link */
#define LR_ADDRESSES 8u

struct lr_node;
struct lr_peer;
struct lr_compare;

/* Rows: X(name, sentence). */
#define LR_PEER_STATES(X)                                                                                              \
    X(IDLE, "not dialled yet")                                                                                         \
    X(CONNECTING, "the connection is being made")                                                                      \
    X(HELLO, "connected, waiting for the other side's HELLO")                                                          \
    X(SYNC, "exchanging what each side lacks")                                                                         \
    X(LIVE, "both sides have what the other had; changes flow")                                                        \
    X(BACKOFF, "waiting before the next attempt")                                                                      \
    X(CLOSED, "removed, or shutting down")

enum lr_peer_state {
#define X(name, sentence) LR_PEER_##name,
    LR_PEER_STATES(X)
#undef X
};

/* ---- what comes in: per link ------------------------------------------------------------------------------------- */

struct lr_inflow {
    uint64_t mark;     /* last mark whose entries are all applied */
    uint64_t acked;    /* last mark for which ACK was sent */
    uint64_t declined; /* entries declined on this link */
    uint64_t applied, stale;
    uint64_t busy_since_ms; /* the next frame cannot be applied since then; 0: it can */
    uint64_t busy_told_ms;
    uint64_t retry_ms;
    uint64_t now_ms, wall_ms; /* when the frames that are being taken came */
    bool paused;              /* the network keeps the bytes */

    /* A settlement that the other side leads (settle.c). */
    uint64_t voids[WIRE_RANGES];
    struct lr_parts parts[WIRE_RANGES]; /* of those; each allocated */
    uint64_t *hashes;                   /* LR_LIST_MOST; allocated by the first LIST */
    uint32_t hash_count;
    bool settling; /* the segment is being walked; no frame is taken meanwhile */
    bool settle_last;
    uint32_t raise_range; /* next range whose floor is to be raised, after the last walk */
    uint64_t settle_low, settle_high, settle_dropped;
    uint64_t let_go[WIRE_RANGES / 64]; /* ranges in which something was dropped */
    struct lr_scan settle_scan;
};

struct lr_link {
    struct lr_link *next;
    struct lr_node *node;
    struct lr_peer *peer; /* NULL: an incoming link that has not said HELLO */
    void *connection;     /* the outside's; NULL once closed */
    bool dialled;         /* by us */
    bool connected, greeted, closed;
    bool timed;      /* a PONG has shown that the clocks agree */
    bool in_synced;  /* the other side has sent all that it held */
    char remote[96]; /* for humans */
    struct lr_stream stream;
    uint64_t max_payload;
    uint64_t since_ms, heard_ms, pinged_ms;
    uint64_t said_flush; /* the flush version in our HELLO */
    uint64_t said_items; /* the number of items in our HELLO */
    struct lr_inflow in;
};

/* ---- what goes out: per peer ------------------------------------------------------------------------------------- */

enum lr_scan_kind { LR_SCAN_NONE, LR_SCAN_NEWER, LR_SCAN_FULL };

struct lr_cursor {        /* one stripe */
    uint64_t read;        /* everything below this feed position has been sent; apart: from `from` on */
    uint64_t acked;       /* ... and acknowledged */
    uint64_t joined;      /* the stripe's clock when the last full walk began: versions up to it are for free room */
    uint64_t from;        /* the feed's head when the link opened; 0: what had arrived by then cannot be told */
    uint64_t passed;      /* apart: acknowledged from `from` on */
    uint32_t from_epoch;  /* in which that ended */
    uint32_t acked_epoch; /* everything that arrived up to this epoch is acknowledged */
    uint8_t scan;         /* the stripe is to be walked: enum lr_scan_kind */
    uint8_t unacked_scan; /* it was walked or compared, but that is not acknowledged yet */
    bool apart;           /* the walk is of what was there when the link opened; hints of the rest go beside it */
};

enum lr_sent_kind { LR_SENT_BYTES, LR_SENT_HINTS, LR_SENT_WALK, LR_SENT_JOINED, LR_SENT_SETTLED, LR_SENT_SYNCED };

struct lr_sent { /* a batch on its way: what its acknowledgement will mean */
    uint64_t sequence;
    uint64_t position;     /* HINTS, WALK: of the stripe */
    uint32_t bytes, large; /* of all, and of large records */
    uint32_t stripe;
    uint32_t epoch; /* WALK: the last of which everything was walked */
    uint8_t kind;
};

struct lr_known { /* the peer has this version of this hash, or it is on its way */
    uint64_t hash, version, deadline_ms;
    uint64_t content; /* two hosts that shared an origin may have drawn one version for two values */
};

struct lr_goal { /* positions that were the heads of all stripes at one moment */
    uint64_t *positions;
    uint32_t reached; /* stripes [0, reached) are past theirs */
};

/* DUE: it is to be begun. UNDER_WAY: not all is sent. SENT: not all is acknowledged. */
enum lr_joining { LR_JOIN_NONE, LR_JOIN_DUE, LR_JOIN_UNDER_WAY, LR_JOIN_SENT };

enum lr_settle_state {
    LR_SETTLE_NONE,
    LR_SETTLE_PARTS,
    LR_SETTLE_COLLECT,
    LR_SETTLE_LIST,
    LR_SETTLE_SHIP,
    LR_SETTLE_WAIT
};

struct lr_outflow {
    uint32_t link_number; /* of the node's links, from 1: what came by this one is not sent back (node.h) */
    struct lr_cursor *cursors;
    struct lr_known *known;
    bool knows_any;       /* some row of it is in use */
    struct lr_sent *sent; /* ring of LR_SENT_ROWS */
    uint32_t sent_first, sent_count;
    uint64_t sequence;                     /* of the last mark */
    uint64_t in_flight;                    /* bytes of marked, unacknowledged batches */
    uint64_t large_in_flight, batch_large; /* of these, and of the open batch: in large records */
    uint8_t *batch;                        /* frames that wait for their mark */
    size_t batch_len, batch_cap;

    uint32_t next_hints, next_scan; /* round robin over stripes */
    bool behind;                    /* there were more hints than could be looked at */
    bool held_back;                 /* some of them, since large records are on their way */
    bool scanning;
    bool scan_full;
    bool scan_apart;    /* it ends with scan_epoch */
    bool scan_missed;   /* it left out something that did not hold still */
    bool walk_first;    /* before hints, this time */
    unsigned scan_busy; /* times that the entry at the cursor was changing */
    struct lr_scan scan;
    uint32_t scan_stripe, scan_filter, scan_epoch;
    uint64_t scan_head;

    /* A comparison that takes the place of the full walks (compare.c). */
    enum lr_joining joining;
    struct lr_joined {
        uint64_t head; /* of the stripe when it began */
        uint32_t epoch;
    } * joined;

    uint64_t flush_sent;
    struct lr_goal sync_goal;
    bool sync_reached, synced_sent, synced;
    uint64_t entries_sent, scans_done;
    uint64_t looked_at; /* hints and entries, for this peer */
    size_t wanted; /* bytes of a record that the window has no room for: nothing is looked at until it has; 0: none */

    /* A settlement that we lead (settle.c). */
    enum lr_settle_state settle;
    uint64_t settled[WIRE_RANGES];      /* lr_range.turn up to which the peer has heard of all */
    uint64_t taken[WIRE_RANGES];        /* the highest that it told us, and we, a relay, tell others */
    uint64_t voids[WIRE_RANGES];        /* of the settlement under way; 0: not part of it */
    uint64_t settling[WIRE_RANGES];     /* lr_range.turn when it began */
    struct lr_parts parts[WIRE_RANGES]; /* of the voids; words are in `part_words` */
    uint64_t *part_words;
    uint32_t part_range; /* the next whose parts are to be sent */
    uint64_t *hashes;
    uint32_t hash_count, hash_sent;
    uint64_t settle_low, settle_high, settle_next_ms;
    struct lr_scan settle_scan;
    struct lr_goal settle_goal;
};

/* ---- how far it is --------------------------------------------------------------------------------------------------
 */

struct lr_ahead {          /* of catching up, in one direction */
    uint64_t left;         /* 65536ths of walks of a stripe */
    unsigned pass;         /* a number for each kind of walk: what one of them costs says nothing of another */
    bool any;              /* something is under way, even if nothing is left but its acknowledgement */
    bool sends;            /* it is the pass in which entries travel */
    uint64_t sent, on_way; /* bytes: so far, and of them not acknowledged */
};

struct lr_progress { /* progress.c */
    uint64_t left, total, now_ms;
    uint64_t walks_left, pass_left, pass_sent; /* but for what is on its way: now, and when the pass began */
    struct lr_progress_at {
        uint64_t left, ms;
    } from, then; /* where the rate is measured from, now and later */
    unsigned pass;
    bool under_way, sends;
};

struct lr_peer {
    struct lr_node *node;
    char address[WIRE_MAX_TEXT + 1];               /* as configured */
    char numeric[LR_ADDRESSES][WIRE_MAX_TEXT + 1]; /* what it resolved to; the first is the address itself */
    unsigned numeric_count;
    enum lr_peer_state state;
    uint64_t retry_ms;
    uint32_t backoff_ms;
    struct lr_link *dial; /* our own attempt, before its HELLO */
    struct lr_link *link; /* after HELLO */

    bool known; /* the rest was learnt from a HELLO */
    uint64_t incarnation[2];
    uint64_t max_entry, features, modes;
    uint32_t origin;
    bool shared_origin; /* this incarnation once had ours */
    char name[WIRE_MAX_TEXT + 1];
    uint64_t lost_ms; /* when the last link ended */
    uint64_t even_ms; /* when it last had all that we have; 0: never */
    struct lr_outflow out;
    struct lr_compare *compare;
    struct lr_progress sending, fetching;
    uint64_t items;                      /* that it had when the link opened */
    uint64_t comparisons, pulled;        /* that we asked for; entries that they found to be lacking here */
    uint64_t sent_bytes, received_bytes; /* of frames, on all links since it became a peer */
    uint64_t clock_refusals; /* links that were refused since its clock or its versions lead or lag too far */
};

/* ---- peer.c: the outside's side -----------------------------------------------------------------------------------
 */

/* A connection that the other side made; `remote` is for humans. NULL: refused, the connection is not ours. */
struct lr_link *lr_link_accept(struct lr_node *node, void *connection, const char *remote);
void lr_link_connected(struct lr_link *link, const char *remote);
void lr_link_received(struct lr_link *link, const void *bytes, size_t len);
/* The connection failed or ended; it is gone already. */
void lr_link_lost(struct lr_link *link, const char *why);
/* What the address of a dialled peer resolved to, as "address:port". */
void lr_peer_resolved(struct lr_peer *peer, const char *numeric);

/* ---- peer.c: for its siblings -------------------------------------------------------------------------------------
 */

struct lr_peer *lr_peer_create(struct lr_node *node, const char *address);
/* Says BYE on all links of the peer and frees it. */
void lr_peer_destroy(struct lr_peer *peer, enum wire_reason reason);
/* Dials when due, times out, heartbeats. */
void lr_peer_tick(struct lr_peer *peer);
void lr_link_tick(struct lr_link *link);
/* Says BYE (when connected) with `text` and hangs up. The peer goes to BACKOFF if this was its link. */
void lr_link_close(struct lr_link *link, enum wire_reason reason, const char *text);
void lr_link_free(struct lr_link *link);
/* Takes frames as far as they can be applied now, then acknowledges. */
void lr_link_work(struct lr_link *link);
void lr_link_send(struct lr_link *link, const uint8_t *bytes, size_t len);
void lr_peer_live(struct lr_peer *peer);
const char *lr_peer_state_name(enum lr_peer_state state);

/* ---- outflow.c ------------------------------------------------------------------------------------------------- */

/* -1 without memory. */
int lr_outflow_create(struct lr_peer *peer);
void lr_outflow_free(struct lr_peer *peer);
/* Nothing is known about the peer's contents: everything is to be sent. */
void lr_outflow_forget(struct lr_peer *peer);
/* A new link: what was not acknowledged is to be sent again. */
void lr_outflow_restart(struct lr_peer *peer);
/* Sends a bounded piece of what the peer lacks. True: more could be done at once. */
bool lr_outflow_pump(struct lr_peer *peer);
/* False: no such mark was sent. */
bool lr_outflow_acked(struct lr_peer *peer, uint64_t sequence);
void lr_outflow_know(struct lr_peer *peer, const struct lr_known *row);
/* Fetches, for a call of the above soon, the row of this hash. */
void lr_outflow_prefetch(struct lr_peer *peer, uint64_t hash);
/* What tells two values of one version apart; 0 for a tombstone. */
uint64_t lr_outflow_content(const void *value, size_t value_len, uint32_t flags);
/* All stripes whose hints may be incomplete are walked again. */
void lr_outflow_rescan(struct lr_peer *peer, uint32_t stripe);
/* The stripes that were to be walked from the beginning are compared instead. */
void lr_outflow_join(struct lr_peer *peer);
/* Whether the peer was sent all that was there when the link opened; or it is to find out itself what it lacks. */
bool lr_outflow_is_even(const struct lr_peer *peer);
/* The entry with this hash, for the peer's free room, whatever it is known to have. False: there is no room now. */
bool lr_outflow_give_hash(struct lr_peer *peer, uint64_t hash);
/* A tombstone, unless the peer is known to have it. False: there is no room now. */
bool lr_outflow_give_tombstone(struct lr_peer *peer, const struct lr_entry *entry);
/* COMPARED, behind all that was given. False: there is no room now. */
bool lr_outflow_compared(struct lr_peer *peer);
/* Whether a frame of `bytes` may go out now, behind what waits for its mark. */
bool lr_outflow_room(const struct lr_peer *peer, size_t bytes);
/* Room for a frame of `bytes` in the batch, or NULL without memory. */
uint8_t *lr_outflow_reserve(struct lr_peer *peer, size_t bytes);
/*
 * What the acknowledgement of all that was given so far will mean. With nothing on its way that is so at once. The
 * batch stays open for other stripes' entries until it is long enough, or the pump ends.
 */
void lr_outflow_mark(struct lr_peer *peer, struct lr_sent sent);
/* Closes the batch with its mark and sends it. */
void lr_outflow_flush(struct lr_peer *peer);
void lr_goal_set(struct lr_peer *peer, struct lr_goal *goal);
/* Whether everything up to the goal has been sent. */
bool lr_goal_reached(const struct lr_peer *peer, struct lr_goal *goal);
/* What this peer has not acknowledged: changes, as hints, of stripes of which it has something; and stripes that are to
 * be walked or compared, or whose walk is on its way. */
struct lr_lacking {
    uint64_t changes;
    uint32_t stripes;
};
struct lr_lacking lr_outflow_lacking(const struct lr_peer *peer);
/* Both together. 0: it has acknowledged everything. */
uint64_t lr_outflow_left(const struct lr_peer *peer);
/* What it is to be sent by walks and by its comparison with us. */
struct lr_ahead lr_outflow_ahead(const struct lr_peer *peer);

/* ---- inflow.c -------------------------------------------------------------------------------------------------- */

enum lr_taken { LR_TAKEN, LR_TAKE_LATER, LR_TAKE_REFUSED };
/* How a PUT is applied: LR_NO_EVICT, LR_MORE. */
unsigned lr_inflow_flags(const struct wire_frame *frame);
/* Applies PUT, TOMB, DROP, FLUSH. REFUSED: the link was closed. */
enum lr_taken lr_inflow_take(struct lr_link *link, const struct wire_frame *frame);
/* False, with the link closed: `version` is further ahead of our wall clock than allowed. */
bool lr_inflow_believes(struct lr_link *link, uint64_t version, const char *what);

/* ---- compare.c ------------------------------------------------------------------------------------------------- */

/* -1 without memory. */
int lr_compare_create(struct lr_peer *peer);
void lr_compare_free(struct lr_peer *peer);
/* Another incarnation: no comparison was ever settled. */
void lr_compare_forget(struct lr_peer *peer);
/* A new link: no comparison is under way. */
void lr_compare_restart(struct lr_peer *peer);
/* Whether the peer is to be told our sums. */
bool lr_compare_due(const struct lr_peer *peer);
/* Tells them; joins: the peer is to compare everything at once. False: there is no room now. */
bool lr_compare_tell(struct lr_peer *peer, bool joins);
/* A bounded piece. True: more could be done at once. */
bool lr_compare_step(struct lr_peer *peer);
/* What is ahead of the comparison that the peer asked for or is to ask for, and of the one that we asked for. */
struct lr_ahead lr_compare_sends(const struct lr_peer *peer);
struct lr_ahead lr_compare_fetches(const struct lr_peer *peer);
/* SUMS to COMPARED. */
enum lr_taken lr_compare_take(struct lr_link *link, const struct wire_frame *frame);

/* ---- progress.c ------------------------------------------------------------------------------------------------ */

void lr_progress_tick(struct lr_peer *peer);
/* False: nothing is under way. *thousandths, 0 to 999: of what there was to do is done. */
bool lr_progress_share(const struct lr_progress *progress, unsigned *thousandths);
/* Until it is done, at the rate of the last seconds; UINT64_MAX: unknown. */
uint64_t lr_progress_seconds(const struct lr_progress *progress);

/* ---- settle.c -------------------------------------------------------------------------------------------------- */

/* Whether a range's turn has risen since the peer heard of all up to it. */
bool lr_settle_due(struct lr_peer *peer);
void lr_settle_begin(struct lr_peer *peer);
/* Ranges of whose voids the peer has not heard yet. */
unsigned lr_settle_left(const struct lr_peer *peer);
/* A bounded piece. True: more could be done at once. */
bool lr_settle_step(struct lr_peer *peer);
void lr_settle_finished(struct lr_peer *peer);
void lr_settle_abandon(struct lr_peer *peer);
/* Forgets what of the other side's settlement was heard on this link. */
void lr_settle_hang_up(struct lr_link *link);
/* Takes away parts of which every peer has heard, where they are many. */
void lr_settle_clear(struct lr_node *node);
/* VOIDS, PARTS, LIST, SETTLE. */
enum lr_taken lr_settle_take(struct lr_link *link, const struct wire_frame *frame);
/* A bounded piece of the walk that SETTLE began. True: more could be done at once. */
bool lr_settle_walk(struct lr_link *link);

#endif
