/* SPDX-License-Identifier: MIT */
/*
 * How far above the floor is the engine?
 *
 * On a shared machine a single figure says little: what else runs changes it by half. So engine and floor (floor.h) are
 * measured in turns, in rounds of a few milliseconds over the same keys, and the medians of the rounds are compared.
 *
 *   for each op, for each round:   draw keys | engine | floor                             one process
 *                                  draw keys | engine, floor by worker 1 alone
 *                                            | engine, floor by all at once               several: gives the scaling
 *
 * Each worker is a process bound to a core, with a handle of its own on the one segment and a private floor table of
 * the same size. All begin a phase at one agreed instant. The order of engine and floor changes with every round.
 *
 * What they do is in bench_ops.h. Percentiles come from rounds of their own, in which each operation is timed
 * (ticks.h).
 */
#ifndef LARDER_BENCH_H
#define LARDER_BENCH_H

#include "cache.h"

#include <stdbool.h>
#include <stdint.h>

/* X(name, common) in the order in which they run and are reported; those without `common` are run when asked for. The
 * last one has a segment of its own. */
#define BENCH_OPS(X)                                                                                                   \
    X(get_copy, true)                                                                                                  \
    X(get_pinned, true)                                                                                                \
    X(get_many, true)                                                                                                  \
    X(get_many_4, false)                                                                                               \
    X(get_many_64, false)                                                                                              \
    X(put_replace, true)                                                                                               \
    X(put_new, false)                                                                                                  \
    X(delete, true)                                                                                                    \
    X(increment, false)                                                                                                \
    X(mixed_95, false)                                                                                                 \
    X(mixed_50, false)                                                                                                 \
    X(put_evict, true)

enum bench_op {
#define X(name, common) BENCH_##name,
    BENCH_OPS(X)
#undef X
        BENCH_OP_COUNT
};

#define BENCH_MAX_PROCESSES 64u

struct bench_options {
    uint64_t items;
    uint64_t value_bytes;
    double zipf; /* exponent of the keys' popularity; 0: uniform */
    unsigned processes;
    uint32_t ops;     /* bit BENCH_...: wanted */
    bool percentiles; /* rounds in which each operation is timed */
    bool progress;
};

enum bench_percentile { BENCH_P50, BENCH_P99, BENCH_P999, BENCH_MAX, BENCH_PERCENTILES };

struct bench_row {
    double ns, floor_ns, ratio;    /* of one operation of one process, all processes at work */
    double scaling, floor_scaling; /* throughput of all over that of one alone times their number; 1 for one process */
    double tail_ns[BENCH_PERCENTILES], floor_tail_ns[BENCH_PERCENTILES];
    uint64_t failed; /* operations of the engine that did not do what was asked: missed, refused */
};

struct bench_result {
    struct bench_row rows[BENCH_OP_COUNT];
    uint64_t cache_bytes; /* of the segment for all but put_evict */
    uint64_t evictions;   /* there: should be 0 */
    int interrupted;      /* signal, or 0 */
};

extern const char *const bench_op_names[BENCH_OP_COUNT];

/* 0, or LARDER_E* with `why` (LR_WHY_BYTES). Its segments are removed whatever happens but SIGKILL. */
int bench_run(const struct bench_options *options, struct bench_result *out, char *why);

#endif
