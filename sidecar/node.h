/* SPDX-License-Identifier: MIT */
/*
 * One host's half of replication: a segment, its peers, and the links between.
 *
 * Nothing here waits. The outside calls lr_node_tick about every 50 ms and lr_node_work after every event, until it
 * returns false. Both do bounded pieces of work, so that a link's heartbeat is never late.
 *
 * Two things belong to the node and not to one peer:
 *  - what *every* peer has acknowledged, for each stripe: the lowest position of all, given to the segment
 *    (lr_feed_acked);
 *  - arrival epochs: a stripe's epoch is closed (lr_epoch_begin), and when every peer has acknowledged up to the feed
 *    position at which it ended, the segment is told (lr_epoch_acked). When a peer is away, others go on: of the epochs
 *    that not all have acknowledged the first and the last are remembered, so that who was away for a moment is not
 *    sent what came since another one left. But the longer that one is away the fewer are closed: the 12 bits of a
 *    block's stamp tell old from new only while all of these epochs are close.
 *
 * A peer that is removed may be added again, with all that it held. Tombstones that were drawn since it was last in
 * step are kept until it has come back, and is told of them as all who join are, at most LR_REMOVED_MS, and as far as
 * their share goes; everything else goes on as if it had never been.
 *
 * What a peer sends leaves a hint here, which must not lead to its being sent back. So of the newest hints of each
 * stripe the node remembers whence they came: {position: 40 bits, number of the link: 24}. An entry that has been
 * overwritten costs a frame at most.
 */
#ifndef LR_NODE_H
#define LR_NODE_H

#include "lag.h"
#include "pack.h"
#include "peer.h"
#include "world.h"

#define LR_MAX_PEERS 128u                     /* some 400 KiB each */
#define LR_REMOVED_MS (UINT64_C(3600) * 1000) /* in which a removed peer may come back */
#define LR_MAX_GUESTS 64u                     /* incoming links that have not said HELLO */

struct lr_node_options {
    const char *name;        /* of this host, for humans */
    const char *listen;      /* address:port, as the peers know it */
    uint64_t clock_limit_ms; /* largest difference of wall clocks */
    uint64_t tombstone_ms;   /* least life of a tombstone */
    uint64_t pack_least;     /* values of so many bytes are compressed; 0: none */
    bool gather;             /* the outside says when to look for changes (lr_node_rung), not every lr_node_work does */
    bool relay;              /* some peers are no peers of each other: pass on what one of them has forgotten */
};

struct lr_boundary { /* between two epochs */
    uint64_t head;   /* feed position: what arrived before has its hint below */
    uint32_t epoch;  /* the one that ended */
};

struct lr_stripe_epoch {
    struct lr_boundary oldest, newest; /* the first and the last one that not every peer has acknowledged */
    bool closed;                       /* there are such; else `newest` is the last of all */
    uint64_t since_ms;                 /* when `oldest` was closed */
    uint64_t next_ms;                  /* no other one is closed before */
    uint64_t acked;                    /* position last given to the segment */
};

/* A peer that was removed, and may come back: what has been deleted since is kept for it. */
struct lr_removed {
    char address[WIRE_MAX_TEXT + 1];
    uint64_t since_ms;   /* it was told of all deletes up to then; 0: of none */
    uint64_t removed_ms; /* by the node's clock, as above */
};

struct lr_node {
    struct lr_cache *cache;
    const struct lr_world *world;
    char name[WIRE_MAX_TEXT + 1];
    char listen[WIRE_MAX_TEXT + 1];
    uint64_t incarnation[2];
    uint64_t clock_limit_ms, tombstone_ms, pack_least;
    uint32_t stripes;
    struct lr_stripe_epoch *epochs;
    uint64_t *sources; /* source_len for each stripe */
    uint32_t source_len, link_number;
    struct lr_peer *peers[LR_MAX_PEERS];
    unsigned peer_count;
    struct lr_removed removed[LR_MAX_PEERS]; /* the oldest first */
    unsigned removed_count;
    struct lr_link *links;
    uint8_t *entry; /* where scans and reads put one entry */
    size_t entry_cap;
    bool relay, gather;
    bool rung; /* there may be new hints */
    struct lr_pack *pack;
    struct lr_lag lag;
    uint64_t refused; /* incoming connections turned away */
    uint64_t aged_ms, reported_ms, reaped_ms, swept_ms, cleared_ms;
    uint32_t sweep_stripe;
    bool modal;            /* some keys are of another mode than values */
    uint32_t fit_stripe;   /* the next whose entries are to be fitted to their modes */
    uint32_t fit_pause_ms; /* it cannot be walked, and is tried again that much later; 0: it can */
    uint64_t fit_next_ms;
    unsigned reported_live;
    bool retired;          /* the segment was destroyed or replaced: the daemon ends */
    uint64_t *drain_heads; /* NULL, or: hints at and above these positions are left to the next larderd */
};

static inline uint64_t lr_node_now(const struct lr_node *node) {
    return node->world->now_ms(node->world->self);
}

static inline uint64_t lr_node_wall(const struct lr_node *node) {
    return node->world->wall_ms(node->world->self);
}

/* NULL without memory. The segment stays the caller's. */
struct lr_node *lr_node_create(struct lr_cache *cache, const struct lr_world *world,
                               const struct lr_node_options *options);
/* Says BYE to all. The connections are hung up, the outside may still be delivering. */
void lr_node_destroy(struct lr_node *node);
/*
 * 0; -1: there are LR_MAX_PEERS, or no memory. A known address is left alone. From the first peer on, deletes leave
 * tombstones and changes leave hints, until LR_REMOVED_MS after the last one was removed. A node that never gets a peer
 * changes nothing of that: a restart must not have a moment without.
 */
int lr_node_add_peer(struct lr_node *node, const char *address);
void lr_node_remove_peer(struct lr_node *node, const char *address);
/* The modes of keys have been set anew in the segment: links are made anew, so that all peers hear of it. */
void lr_node_modes_changed(struct lr_node *node);
void lr_node_tick(struct lr_node *node);
bool lr_node_work(struct lr_node *node);
/*
 * There may be new changes. A node that gathers looks for them only then, after it has applied some itself, and at
 * every tick: acknowledgements alone would have it send changes one by one, as soon as the one before has arrived.
 */
void lr_node_rung(struct lr_node *node);
/* Peers in state LIVE. */
unsigned lr_node_live(const struct lr_node *node);
/* From now on only what is already in the segment is sent. */
void lr_node_drain(struct lr_node *node);
/* Hints and stripes that peers have not acknowledged: all peers, or those that are linked now. 0: drained. */
uint64_t lr_node_left(const struct lr_node *node, bool linked_only);

/* For its siblings: feed position up to which `stripe` is to be sent now. */
uint64_t lr_node_head(const struct lr_node *node, uint32_t stripe);
/* Numbers of links repeat after 2^24. */
uint32_t lr_node_next_link(struct lr_node *node);

static inline uint64_t *lr_node_source_row(const struct lr_node *node, uint32_t stripe, uint64_t position) {
    return &node->sources[(uint64_t)stripe * node->source_len + (position & (node->source_len - 1u))];
}

/* The hint at `position` stands for what came by that link. */
static inline void lr_node_came_from(struct lr_node *node, uint32_t stripe, uint64_t position, uint32_t link_number) {
    *lr_node_source_row(node, stripe, position) = position << 24 | link_number;
}

/* The number of the link; 0: it did not come by one, or that is forgotten. */
static inline uint32_t lr_node_source(const struct lr_node *node, uint32_t stripe, uint64_t position) {
    const uint64_t row = *lr_node_source_row(node, stripe, position);
    return row >> 24 == (position & UINT64_C(0xffffffffff)) ? (uint32_t)(row & 0xffffffu) : 0;
}

/* Ends the epoch in which things have arrived in `stripe`, if any have. False: it cannot be ended now. */
bool lr_node_end_epoch(struct lr_node *node, uint32_t stripe);
/* What has arrived in `stripe` up to now, and nothing that arrives later. False: that cannot be said. */
bool lr_node_boundary(struct lr_node *node, uint32_t stripe, struct lr_boundary *out);
/* A peer's position in `stripe` has risen. */
void lr_node_acked(struct lr_node *node, uint32_t stripe);
/* A peer is in step: if it was removed once, nothing is kept for it any more. */
void lr_node_back(struct lr_node *node, const char *address);

#endif
