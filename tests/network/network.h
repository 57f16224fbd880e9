/* SPDX-License-Identifier: MIT */
/*
 * Fault schedules of replication: what has to happen, and what must hold whatever happens?
 *
 *   plan.c      draws a schedule from its seed: scene, hosts, network, what may go wrong
 *   play.c      plays it: writes and faults on the simulated network (../simnet.h), then calm
 *   oracle.c    the history of every key, and what must hold at each look and at the end
 *   modes.c     the same for keys of the modes invalidate and local
 *   segment.c   segments in ordinary memory, and the clocks that the engine reads
 *   main.c      the command line and the workers
 *
 * Rules:
 *  1. Nothing depends on anything but the seed and the schedule's number: no real clock, no addresses, no leftovers of
 *     the schedule before.
 *  2. The engine and the sidecar are as they are. Only clock_gettime is ours, and segments do not come from a file.
 *  3. Who calls the engine for a host sets sim_acting to it first: its wall clock may be wrong.
 */
#ifndef NETWORK_H
#define NETWORK_H

#include "simnet.h"

#define NET_KEYS 256u
#define NET_WRITES 16384u
#define NET_VALUE_MOST 100000u
#define NET_CLOCK_LIMIT_MS 2000u
#define NET_NEVER UINT64_MAX
#define NET_MODAL 48u /* keys of the modes invalidate and local */
#define NET_FILLS 32u

/* What may go wrong while a scene plays. */
enum net_trouble {
    NET_CUT = 1 << 0,      /* both ways or one */
    NET_RESET = 1 << 1,    /* of a connection */
    NET_RESTART = 1 << 2,  /* a daemon is stopped or killed, or vanishes, and comes back later */
    NET_WIPE = 1 << 3,     /* a host comes back without its segment */
    NET_WIRE = 1 << 4,     /* delays and bandwidth change */
    NET_GARBAGE = 1 << 5,  /* from strangers */
    NET_CLOCK = 1 << 6,    /* a wall clock jumps */
    NET_HOT = 1 << 7,      /* one key is written until the feed ring is full, and more */
    NET_OVERFLOW = 1 << 8, /* more deletes than tombstones have room for */
    NET_FLUSH = 1 << 9,
    NET_REMOVE = 1 << 10, /* operators take a host's peers from it, and it from them, and add them again later */
};

struct net_run;

struct net_plan {
    const char *scene;
    void (*play)(struct net_run *run);
    unsigned hosts, keys, ranges, operations;
    uint64_t sizes[SIM_HOSTS];
    unsigned stripes[SIM_HOSTS];
    unsigned ring; /* hints in a stripe's feed ring */
    bool peers[SIM_HOSTS][SIM_HOSTS];
    bool relays; /* some hosts hear of each other by way of a third only */
    unsigned value_least, value_most, large_percent;
    unsigned delete_percent, ttl_percent, touch_percent, get_percent;
    unsigned troubles;      /* enum net_trouble */
    unsigned trouble_every; /* operations */
    uint64_t tombstone_ms;
    uint64_t delay_ms, jitter_ms;
    size_t bytes_per_step;
    int64_t skew_ms[SIM_HOSTS];
    bool one_origin;     /* all hosts draw versions with the same one */
    bool rounds;         /* hosts compare what they hold twice before all is judged, and once more in silence */
    unsigned outlaw;     /* a host whose clock is beyond the limit, or hosts: none */
    unsigned modal_keys; /* of other modes than values */
    bool complete;       /* nothing raises a floor: every host must hold everything */
    bool steady;         /* nobody starts anew: what is forgotten since it expired excuses nobody */
};

struct net_write { /* one value, by its sequence number */
    unsigned key, host, len;
    uint64_t first, last; /* versions that it was given: several if a touch shortened its life */
    uint64_t ends_ms;     /* when its copies are over; NET_NEVER */
};

/* The newest that is known of a key. */
struct net_claim {
    uint64_t put, deleted; /* versions; 0 none */
    uint32_t write;        /* that `put` came from */
    uint64_t ends_ms;
    uint64_t lost;    /* the newest that went with a lost segment; some of it may have been on its way */
    uint64_t relayed; /* the newest when a relay lost its segment: those behind it may not have heard of it yet */
    uint64_t blind;   /* a put below what others had, on a host that had lost its segment and with it their versions */
};

struct net_key {
    char name[16];
    unsigned len;
    uint64_t hash;
};

struct net_fill { /* under way */
    unsigned host, key;
    uint64_t number;
    struct lr_mark mark;
};

struct net_modes {
    uint64_t source[NET_MODAL];             /* the number that is the newest */
    uint64_t changed[SIM_HOSTS][NET_MODAL]; /* the last that was made on this host */
    uint64_t local[SIM_HOSTS][NET_MODAL];
    bool mortal[SIM_HOSTS][NET_MODAL];
    struct net_fill fills[NET_FILLS];
    unsigned fill_count;
    uint64_t ends_ms; /* the last deadline that was given */
};

struct net_run {
    struct fixture_random random;
    struct net_plan plan;
    struct sim *sim;
    struct net_key keys[NET_KEYS];
    struct net_write writes[NET_WRITES];
    uint32_t write_count;
    struct net_claim claims[NET_KEYS];
    struct net_claim known[SIM_HOSTS][NET_KEYS]; /* what each host has held or said since it was last wiped */
    uint64_t least[SIM_HOSTS][NET_KEYS];         /* versions below this must not be served here any more */
    bool wiped[SIM_HOSTS];
    bool removed[SIM_HOSTS]; /* it has no peers just now, and is nobody's */
    struct net_modes modes;
    uint64_t flush;      /* of the highest flush that survived */
    uint64_t lost_flush; /* of the highest that went with a lost segment, and may have been on its way */
    uint64_t flushes[SIM_HOSTS];
    uint64_t digest; /* of everything that happened */
    bool cured;      /* the outlaw's clock was set */
    bool failed;
    char failure[400];
};

extern bool net_logging;

static inline uint64_t net_below(struct net_run *run, uint64_t n) {
    return fixture_below(&run->random, n);
}

static inline bool net_percent(struct net_run *run, unsigned percent) {
    return fixture_below(&run->random, 100) < percent;
}

/* The first failure of a schedule counts. */
void net_fail(struct net_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
void net_log(struct net_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Part of the digest that two runs of a schedule have in common. */
void net_note(struct net_run *run, uint64_t word);

/* ---- segment.c -------------------------------------------------------------------------------------------------- */

/* Once in a process. */
void net_segments_init(void);
/* An empty segment for the host, in the place of the one before. */
void net_segment_make(struct net_run *run, unsigned host);

/* ---- plan.c ----------------------------------------------------------------------------------------------------- */

void net_plan_init(void); /* once in a process */
/* `scene`: one of them, or net_scene_count(). */
void net_plan_draw(struct net_run *run, unsigned scene);
unsigned net_scene_count(void);
const char *net_scene_name(unsigned scene);

/* ---- oracle.c --------------------------------------------------------------------------------------------------- */

/* Operations of a user at a host, all of them judged. */
void net_put(struct net_run *run, unsigned host, unsigned key, size_t len, uint64_t ttl_ms);
void net_delete(struct net_run *run, unsigned host, unsigned key);
void net_touch(struct net_run *run, unsigned host, unsigned key, uint64_t ttl_ms);
void net_flush(struct net_run *run, unsigned host);
/* What is read. Returns its version, or 0. */
uint64_t net_look(struct net_run *run, unsigned host, unsigned key, unsigned flags);
void net_look_at_all(struct net_run *run);
/* The host's segment is about to be lost, with what nobody else has heard of. */
void net_forget_host(struct net_run *run, unsigned host);
/* The outlaw's clock has been set: what it wrote counts. */
void net_admit_outlaw(struct net_run *run);
/* Until everything is shipped and settled. */
void net_rest(struct net_run *run);
/* After calm: everything that README.md lists. */
void net_judge(struct net_run *run);

/* ---- modes.c ---------------------------------------------------------------------------------------------------- */

/* As the host's daemon does when it starts. */
void net_modes_set(struct net_run *run, unsigned host);
void net_modes_act(struct net_run *run, unsigned host);
/* The host's segment is about to be lost. */
void net_modes_forget(struct net_run *run, unsigned host);
void net_modes_end_fills(struct net_run *run);
/* After net_judge. */
void net_modes_judge(struct net_run *run);

/* ---- play.c ----------------------------------------------------------------------------------------------------- */

void net_play_storm(struct net_run *run);
void net_play_partition(struct net_run *run);
void net_play_join(struct net_run *run);
void net_play_away(struct net_run *run);
void net_play_clocks(struct net_run *run);
void net_play_modes(struct net_run *run);
/* Draws and plays a schedule. False: it failed, run->failure says how. */
bool net_play(struct net_run *run, uint64_t seed, uint64_t schedule, unsigned scene);

#endif
