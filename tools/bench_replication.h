/* SPDX-License-Identifier: MIT */
/*
 * What does it cost to keep a second host in step, and how late is it?
 *
 *   lag        distinct keys at 10, 50 and 100 thousand changes a second: how late they arrive, what it takes
 *   sustained  as many as the other host takes: the writer waits while some thousand are not acknowledged
 *   catch_up   a host that lacks everything, one that was away, and one about whom nothing is known any more
 *   redis      a Redis master and replica with the same keys, pipelined by 16, and sustained, in turns
 *
 * Two hosts are two segments of this machine (pair.h); who writes and who measures is in pair_work.h. Everything shares
 * the processors that there are, so processor time is told apart: the writer, the two larderds, the meter. What other
 * programs took is in `busy` too, which is the kernel's figure for all processors.
 *
 * Scenarios ask what a bad peer costs those who write here. Intervals of a healthy and a bad peer take turns, and the
 * 99th percentiles of a put are compared pair by pair:
 *
 *   stall      the other larderd is stopped (SIGSTOP)
 *   slow       it runs 5 ms of every 50
 *   flood      somebody puts on the other host as fast as can be
 *   large      no pairs: the lag of small values alone, and while values of 1 MiB flow
 */
#ifndef LARDER_BENCH_REPLICATION_H
#define LARDER_BENCH_REPLICATION_H

#include "peers.h"
#include "redis_pair.h"

#include "cache.h"

/* X(name) */
#define REPLICATION_PARTS(X) X(lag) X(sustained) X(catch_up) X(redis)
#define REPLICATION_SCENARIOS(X) X(stall) X(slow) X(flood) X(large)

enum replication_part {
#define X(name) REPLICATION_##name,
    REPLICATION_PARTS(X)
#undef X
        REPLICATION_PARTS_COUNT
};
enum replication_scenario {
#define X(name) REPLICATION_SCENE_##name,
    REPLICATION_SCENARIOS(X)
#undef X
        REPLICATION_SCENARIO_COUNT
};
extern const char *const replication_part_names[REPLICATION_PARTS_COUNT];
extern const char *const replication_scenario_names[REPLICATION_SCENARIO_COUNT];

#define REPLICATION_ROWS 16u

struct replication_options {
    uint64_t items;     /* keys */
    uint64_t ns;        /* of each measurement */
    unsigned parts;     /* bit REPLICATION_...: wanted */
    unsigned pairs;     /* of a scenario's intervals */
    uint64_t value_len; /* of small values */
    bool progress;
};

/* Shares of a processor, meanwhile. */
struct replication_cpu {
    double writer, first, second, meter;
    double busy, stolen; /* of all processors together, by the kernel: 0 to 1 */
};

struct replication_row {
    const char *links; /* "plain", "tls", "lz4" */
    const char *label;
    uint64_t value_len;
    double rate;          /* changes a second that the other host has applied */
    double bytes_rate;    /* keys and values, a second */
    double change_cpu_ns; /* of writer and both larderds, for a change */
    double wire_bytes;    /* that TCP carried there and back, for a change; 0 not known */
    struct replication_cpu cpu;
    /* lag, scenario large */
    uint64_t samples, overruns;
    double lag_us[4];   /* p50, p99, p99.9, highest */
    double looks_us[2]; /* between two looks of the meter: p50, p99 */
    /* catch_up */
    uint64_t bytes;                  /* of keys and values that were lacking */
    double seconds, flowing_seconds; /* from the daemon's start, and from the first entry, to the last */
    uint64_t missing;                /* that had not come after a minute */
};

#define REPLICATION_TURNS 5u

struct replication_redis {
    char absent[PEER_WHY_BYTES]; /* why it was not measured; "": it was */
    struct redis_result all;     /* of all turns */
    unsigned turns;
    double cpu_ns[REPLICATION_TURNS];        /* of both servers, for a write */
    double larder_cpu_ns[REPLICATION_TURNS]; /* of writer and both larderds, for a change, right after */
    double times[REPLICATION_TURNS];         /* the one by the other, in ascending order */
    double median_ns, larder_median_ns, median_times;
};

struct replication_result {
    unsigned rows[REPLICATION_PARTS_COUNT];
    struct replication_row row[REPLICATION_PARTS_COUNT][REPLICATION_ROWS];
    struct replication_redis redis;
    int interrupted; /* signal, or 0 */
};

#define REPLICATION_PAIRS 32u

struct replication_scene {
    unsigned pairs;
    struct {
        double healthy_ns, bad_ns; /* 99th percentile of a put */
    } pair[REPLICATION_PAIRS];
    double healthy_ns, bad_ns, ratio; /* medians */
    uint64_t memory_bytes;            /* most that the first host's larderd had in memory of its own */
    struct replication_row row[2];    /* large: alone, beside */
    double large_rate;
    int interrupted;
};

/* 0, or LARDER_E* with `why` (LR_WHY_BYTES). What was started and made goes, whatever happens but SIGKILL. */
int replication_run(const struct replication_options *options, struct replication_result *out, char *why);
int replication_scenario(enum replication_scenario scenario, const struct replication_options *options,
                         struct replication_scene *out, char *why);

#endif
