/* SPDX-License-Identifier: MIT */
/*
 * Real network faults: what do real daemons, segments and users make of a network that loses, delays and changes
 * packets, and of hosts that die?
 *
 *   plan.c      draws a run from its seed: scene, hosts, keys of TLS, what may go wrong
 *   place.c     a network namespace for each host, with a TUN device that ends in the switch
 *   wire.c      the switch: a process that carries packets and does to them what the conductor asks for
 *   daemon.c    larderd of one host: started, stopped, killed, asked; its memory and descriptors
 *   user.c      processes of one host that write, read, delete and flush, and judge what they see
 *   play.c      the conductor: faults, then calm
 *   oracle.c    what must hold when all is mended
 *   main.c      the command line and the jobs
 *
 * Rules:
 *  1. What is done follows from the seed and the run's number. When packets and processes come to their turn is the
 *     kernel's affair: a run is repeated in its faults, not to the last bit.
 *  2. Every host's users know of each other, and of nobody else: what one host may answer is judged by what it has
 *     answered and acknowledged itself (struct row). What all must answer in the end is judged by the claims.
 *  3. Whatever is started here dies with the conductor, and the conductor with the harness.
 */
#ifndef HOSTS_H
#define HOSTS_H

#include "fixture.h"

#include <netinet/in.h>
#include <stdatomic.h>

#define HOSTS_MOST 5u
#define HOSTS_KEYS 1024u
#define HOSTS_USERS 2u /* processes of each host */
#define HOSTS_WRITERS (HOSTS_MOST * HOSTS_USERS + 1)
#define HOSTS_VALUE_MOST 60000u
#define HOSTS_NEVER UINT64_MAX
#define HOSTS_NETWORK_BYTES 16u
#define HOSTS_CONDUCTOR (HOSTS_MOST * HOSTS_USERS) /* its number as a writer */

/* What may go wrong. Rows: X(name, weight). */
#define HOSTS_TROUBLES(X)                                                                                              \
    X(WIRE, 5)  /* loss, delay, order, copies, changed bits, bandwidth, of one direction */                            \
    X(CUT, 5)   /* of one direction, both, or a host's all: packets vanish; or mended */                               \
    X(LINK, 2)  /* a host's device goes down, or up */                                                                 \
    X(KILL, 3)  /* SIGKILL of a daemon; it is started anew, now or later */                                            \
    X(END, 1)   /* SIGTERM */                                                                                          \
    X(STOP, 3)  /* SIGSTOP, or SIGCONT */                                                                              \
    X(LOSS, 2)  /* a host loses its segment, with the daemon and all users */                                          \
    X(PEER, 2)  /* an operator removes a peer of one host, or adds it again */                                         \
    X(FLUSH, 1) /* of everything, at one host */

enum hosts_trouble {
#define X(name, weight) HOSTS_##name,
    HOSTS_TROUBLES(X)
#undef X
        HOSTS_TROUBLE_COUNT
};

enum hosts_keys { HOSTS_PLAIN, HOSTS_PSK, HOSTS_CERTIFICATE };

struct hosts_plan {
    const char *scene;
    unsigned hosts, keys;
    enum hosts_keys security;
    uint64_t sizes[HOSTS_MOST];
    unsigned value_least, value_most, large_permille;
    unsigned delete_percent, ttl_percent;
    unsigned storm_ms, pause_us; /* of a user, between two steps */
    unsigned partition_ms;       /* in place of a storm: one host is cut off that long. 0: a storm */
    unsigned rounds;             /* of comparing that are awaited after all is at rest */
    unsigned tombstone_s;
    uint32_t troubles; /* a bit for each enum hosts_trouble */
    bool complete;     /* nothing raises a floor: every host must hold everything */
    bool compress;
};

/* ---- the network ------------------------------------------------------------------------------------------------- */

/* From one host to another: what the switch does to its packets. Shares of 10,000. */
struct hosts_way {
    _Atomic uint32_t cut, loss, twice;
    _Atomic uint32_t flip;  /* a bit of the packet is changed: TCP's checksum notices */
    _Atomic uint32_t forge; /* a bit of what TCP carries, with the checksum made to fit: nobody below larderd notices */
    _Atomic uint32_t delay_us, jitter_us; /* more jitter than distance between packets: they come in another order */
    _Atomic uint32_t bytes_per_s;         /* 0: as fast as it goes */
    _Atomic uint64_t packets, lost, flipped, forged;
};

/* ---- what is known of a key -------------------------------------------------------------------------------------- */

struct hosts_claim { /* the newest: versions, 0 none */
    uint64_t put, ends_ms, deleted;
};

struct hosts_row {
    atomic_flag locked;
    struct hosts_claim claim; /* that anybody acknowledged */
    uint64_t lost;            /* the newest that went with a lost segment; some of it may have been on its way */
    uint64_t blind;           /* a put below what others had, on a host that had lost its segment and their versions */
    struct hosts_claim known[HOSTS_MOST]; /* what each host has held or said since its segment was made */
    uint64_t least[HOSTS_MOST];           /* versions below this must not be served here any more */
};

enum hosts_order { HOSTS_REST, HOSTS_WORK, HOSTS_LEAVE };

struct hosts_board { /* all processes of a run share it */
    struct hosts_way ways[HOSTS_MOST][HOSTS_MOST];
    struct hosts_row rows[HOSTS_KEYS];
    _Atomic uint64_t flush, lost_flush;
    _Atomic uint32_t wiped[HOSTS_MOST], wipes;
    _Atomic uint32_t order[HOSTS_MOST];    /* enum hosts_order, to the users of a host */
    _Atomic uint32_t resting[HOSTS_MOST];  /* users that have let go of the segment */
    _Atomic uint64_t begun[HOSTS_WRITERS]; /* sequence of the last put that each writer has begun */
    _Atomic uint64_t puts, deletes, gets, hits, busy, awaited;
    _Atomic uint32_t switch_ends;
    atomic_flag telling;
    _Atomic uint32_t failed;
    char failure[320];
};

struct hosts_run;

struct hosts_host {
    char name[65], address[32], log[256];
    pid_t daemon;     /* 0: none */
    bool stopped;     /* by SIGSTOP */
    bool down;        /* its device */
    unsigned without; /* a peer that was removed; HOSTS_MOST: none */
    int network;      /* namespace */
    int device;       /* TUN */
    int control;      /* a socket in that namespace, for ioctl */
    struct lr_cache *cache;
    unsigned descriptors; /* of the daemon when it was first at rest */
    uint64_t memory_most; /* bytes of its own, the most that was seen */
};

struct hosts_run {
    struct fixture_random random;
    struct hosts_plan plan;
    uint64_t seed, number;
    uint64_t began_ns;
    struct hosts_host hosts[HOSTS_MOST];
    struct hosts_board *board;
    pid_t switch_pid;
    pid_t users[HOSTS_MOST][HOSTS_USERS];
};

/* Part of a key's name that all share. */
#define HOSTS_KEY_BYTES 16u
unsigned hosts_key_name(unsigned key, char out[HOSTS_KEY_BYTES]);

static inline uint64_t hosts_below(struct hosts_run *run, uint64_t n) {
    return fixture_below(&run->random, n);
}

static inline bool hosts_percent(struct hosts_run *run, unsigned percent) {
    return fixture_below(&run->random, 100) < percent;
}

/* The first failure of a run counts. Any process of the run may say it. */
void hosts_fail(struct hosts_board *board, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool hosts_failed(const struct hosts_run *run);
/* What happens, with milliseconds: in a run that is played alone. */
extern bool hosts_logging;
void hosts_log(const struct hosts_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- plan.c ------------------------------------------------------------------------------------------------------ */

unsigned hosts_scene_count(void);
const char *hosts_scene_name(unsigned scene);
/* `longer`: partitions of a minute, storms of half a minute, rounds of comparing in every scene. */
void hosts_plan_draw(struct hosts_run *run, unsigned scene, bool longer);

/* ---- place.c ----------------------------------------------------------------------------------------------------- */

/* NULL; or why there can be no network namespaces and TUN devices here. Once in a process: it gains the right to make
 * them, if need be in a user namespace. */
const char *hosts_place_init(void);
/* A namespace and a device for every host. False, with a failure. */
bool hosts_place_make(struct hosts_run *run);
void hosts_place_free(struct hosts_run *run);
void hosts_place_link(struct hosts_run *run, unsigned host, bool up);
/* In a child. */
bool hosts_place_enter(const struct hosts_host *host);

/* ---- wire.c ------------------------------------------------------------------------------------------------------ */

bool hosts_wire_start(struct hosts_run *run);
void hosts_wire_end(struct hosts_run *run);

/* ---- daemon.c ---------------------------------------------------------------------------------------------------- */

/* Names, addresses, keys. */
void hosts_daemons_init(struct hosts_run *run);
/* Returns when its segment is there. `run` has failed if that does not come to be. */
void hosts_daemon_start(struct hosts_run *run, unsigned host);
/* Signals it and waits for its end. Its exit status as of fixture_wait. */
int hosts_daemon_end(struct hosts_run *run, unsigned host, int number);
void hosts_daemon_stop(struct hosts_run *run, unsigned host, bool stopped);
/* As `larder peers`, in a daemon that runs. */
void hosts_daemon_change_peer(struct hosts_run *run, unsigned host, unsigned peer, bool add);

struct hosts_answer { /* what it says of its peers */
    unsigned peers, live;
    uint64_t unacked, resync, unsettled, sent;
};
/* False: no answer. */
bool hosts_daemon_ask(const struct hosts_run *run, unsigned host, struct hosts_answer *out);
/* Of the process: bytes that it shares with nobody, open descriptors. 0: none is there. */
uint64_t hosts_daemon_memory(const struct hosts_run *run, unsigned host);
unsigned hosts_daemon_descriptors(const struct hosts_run *run, unsigned host);
/* Fails the run if a daemon has ended by itself, or has more memory than it may. */
void hosts_daemons_look(struct hosts_run *run);
/* The last lines of each log, on standard error. */
void hosts_daemons_tell(const struct hosts_run *run);

/* ---- user.c ------------------------------------------------------------------------------------------------------ */

struct hosts_user {
    struct hosts_board *board;
    const struct hosts_plan *plan;
    struct lr_cache *cache;
    struct fixture_random random;
    unsigned host, writer;
};

void hosts_users_start(struct hosts_run *run);
/* They let go of the host's segment, and go on with the present one. */
void hosts_users_rest(struct hosts_run *run, unsigned host);
void hosts_users_work(struct hosts_run *run, unsigned host);
void hosts_users_end(struct hosts_run *run);
struct lr_cache *hosts_attach(const struct hosts_host *host);

void hosts_put(struct hosts_user *user, unsigned key, size_t len, uint64_t ttl_ms);
void hosts_flush(struct hosts_user *user);
/* Returns the version, or 0, and what tells two values of one version apart. */
uint64_t hosts_look(struct hosts_user *user, unsigned key, unsigned flags, uint64_t *content);
void hosts_lock(struct hosts_row *row);
void hosts_unlock(struct hosts_row *row);
void hosts_claim_put(struct hosts_claim *claim, uint64_t version, uint64_t ends_ms);
void hosts_claim_deleted(struct hosts_claim *claim, uint64_t version);

/* ---- oracle.c ---------------------------------------------------------------------------------------------------- */

/* Looks at one host with the conductor's eyes. */
struct hosts_user hosts_eye(struct hosts_run *run, unsigned host);
/* The host's segment is about to be lost, with what nobody else has heard of. */
void hosts_forget(struct hosts_run *run, unsigned host);
/* All links in step, all acknowledged, all voids settled; at most until `patience_ms`. */
bool hosts_rest(struct hosts_run *run, unsigned patience_ms);
/* After calm: everything that README.md lists. */
void hosts_judge(struct hosts_run *run);
/* For partitions: what each host holds, and whether it still does. */
struct hosts_snapshot {
    uint64_t versions[HOSTS_MOST][HOSTS_KEYS];
};
void hosts_snapshot_take(struct hosts_run *run, struct hosts_snapshot *out);
void hosts_snapshot_compare(struct hosts_run *run, const struct hosts_snapshot *before, uint64_t puts);

/* ---- play.c ------------------------------------------------------------------------------------------------------ */

struct hosts_totals {
    uint64_t puts, deletes, gets, hits, busy, awaited, packets, lost, flipped, forged, troubles, memory_most;
};
/* Draws and plays a run. False: it failed, `why` says how. */
bool hosts_play(uint64_t seed, uint64_t number, unsigned scene, bool longer, char why[400],
                struct hosts_totals *totals);

#endif
