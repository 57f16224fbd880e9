/* SPDX-License-Identifier: MIT */
/*
 * A network in a box: hosts with real segments and real nodes of the sidecar, joined by simulated connections on a
 * virtual clock. Everything that happens follows from one seed.
 *
 * What TCP promises is kept: bytes come in order, or the connection is lost with some tail of them undelivered, and
 * then both ends hear of it, sooner or later. Everything else may happen: delays, pieces of any size, a cut of both
 * ways or one (bytes stay on the way until it heals), a reset, a slow wire, a host whose daemon is killed and started
 * anew, one that vanishes without a word, a wrong wall clock.
 *
 * Expiry runs on the virtual clock (lr_drive_clock). Versions are drawn by the engine from the machine's wall clock;
 * the nodes' wall clock runs at least as fast, so that no version ever seems to come from the future by itself. A
 * program that serves the engine a virtual clock too (tests/network) sets `epoch_ms`, and answers with sim_wall_ms of
 * the host that acts.
 *
 * simnet.c is the network and the daemons; simhost.c, below, adds what suites want: named segments, keys, contents.
 */
#ifndef SIMNET_H
#define SIMNET_H

#include "fixture.h"
#include "node.h"

#define SIM_HOSTS 4u
#define SIM_STEP_MS 5u

struct sim_host {
    struct sim *sim;
    unsigned number;
    struct fixture segment;
    struct lr_cache *cache; /* segment.one */
    struct lr_world world;
    struct lr_node *node; /* NULL: its daemon is not running */
    char address[32];     /* "host0:1" ... */
    int64_t wall_off_ms;
    size_t reads_per_step; /* bytes of each connection; 0 unlimited */
    uint64_t ticked_ms;
};

struct sim_piece;
struct sim_end {
    struct sim_host *host;
    struct lr_link *link;           /* NULL: hung up, or not accepted yet */
    struct sim_piece *first, *last; /* on the way to this end */
    size_t queued;
    bool paused, hung_up;
};

struct sim_connection {
    struct sim_connection *next;
    struct sim_end ends[2]; /* 0 dialled */
    uint64_t due_ms;        /* of the outcome of the dial */
    bool open, over;
};

struct sim {
    struct fixture_random random;
    uint64_t now_ms;
    uint64_t epoch_ms; /* Unix time at virtual zero, where versions are virtual too; 0: they are the machine's */
    uint64_t digest;   /* of all bytes delivered */
    uint64_t delay_ms, jitter_ms;
    size_t bytes_per_step;          /* of each direction; 0 unlimited */
    bool cut[SIM_HOSTS][SIM_HOSTS]; /* [from][to] */
    struct sim_host hosts[SIM_HOSTS];
    unsigned host_count;
    struct sim_connection *connections;
    size_t most_queued; /* bytes that ever waited for one end */
    unsigned open_links;
    bool busy; /* a node has not done all that it could */
};

/* Whose code is running: every call of the network sets it, who calls the engine directly sets it too. */
extern struct sim_host *sim_acting;
/* The wall clock of a host where `epoch_ms` is set. */
uint64_t sim_wall_ms(const struct sim_host *host);

/* A network without hosts. */
struct sim *sim_new(struct fixture_random random);
/* One more; the caller gives it a cache, and its daemon is not running. */
struct sim_host *sim_add_host(struct sim *sim);
/* Stops the daemons. The segments are the caller's. */
void sim_free(struct sim *sim);

/* What a daemon gets that is told nothing else. */
struct lr_node_options sim_options(const struct sim_host *host);
/* `options` NULL: those. */
void sim_start(struct sim_host *host, const struct lr_node_options *options, bool peers);
/* SIGTERM of the daemon: it says BYE. */
void sim_stop(struct sim_host *host);
/* kill -9 of the daemon: its connections are reset. */
void sim_kill(struct sim_host *host);
/* The daemon is gone, and nobody is told: what its peers send goes nowhere. */
void sim_vanish(struct sim_host *host);
void sim_cut(struct sim *sim, unsigned a, unsigned b, bool cut);
/* In one direction only. */
void sim_cut_way(struct sim *sim, unsigned from, unsigned to, bool cut);
/* Resets every connection between the two. */
void sim_reset(struct sim *sim, unsigned a, unsigned b);
/* Bytes out of nowhere on a new connection to the host. */
void sim_garbage(struct sim_host *host, const void *bytes, size_t len);

void sim_run(struct sim *sim, uint64_t ms);
/* Runs until every node is in step with all its peers and has nothing left to send, at most `ms`. False: it is not. */
bool sim_settle(struct sim *sim, uint64_t ms);

/* ---- simhost.c ----------------------------------------------------------------------------------------------------
 */

/* Hosts with segments of `size` bytes, daemons running, each the peer of every other. */
struct sim *sim_create(const char *what, unsigned hosts, uint64_t size);
/* As above with one size for each host; the daemons are not started. */
struct sim *sim_create_idle(const char *what, unsigned hosts, const uint64_t *sizes);
/* Stops the daemons, checks and destroys the segments. */
void sim_destroy(struct sim *sim);
/* The host's segment is replaced by an empty one of the same size (the daemon must not run). */
void sim_wipe(struct sim_host *host);
/* The entry of that cluster hash goes as for want of a slot: it leaves no tombstone. */
void sim_displace(struct sim_host *host, uint64_t hash);

/* Puts `text` under a number. 0, or the engine's error. */
int sim_put(struct sim_host *host, unsigned key, const char *text, uint64_t ttl_ms);
int sim_delete(struct sim_host *host, unsigned key);
/* A KiB under a name of its own, and its version, or 0. */
void sim_put_ballast(struct sim_host *host, unsigned number);
uint64_t sim_ballast_of(struct sim_host *host, unsigned number);
/* The text under a number in out[64]; "" if there is none. Returns its version, or 0. */
uint64_t sim_get(struct sim_host *host, unsigned key, char out[64]);
/* Items evicted by all hosts so far. */
uint64_t sim_evictions(struct sim *sim);
/* Entries that all daemons have sent so far. */
uint64_t sim_entries_sent(const struct sim *sim);
bool sim_digests_equal(struct sim *sim);

#endif
