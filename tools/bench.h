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
 *   op            the engine does                         the floor does
 *   get_copy      lr_get                                  look-up, copy
 *   get_pinned    lr_pin, read 8 bytes, lr_unpin          look-up, read 8 bytes in place
 *   get_many      lr_get_many, 16 keys at a time          the same with prefetching, 16 at a time
 *   put_replace   lr_put of a key that is there           look-up, store of the item's bytes in place
 *   put_evict     lr_put of a new key, segment full       the same as for put_replace
 *   delete        lr_delete of a key that is there        look-up, store of a flag
 *
 * Keys are made outside the timed part, for both alike. What delete removed is put back outside it.
 */
#ifndef LARDER_BENCH_H
#define LARDER_BENCH_H

#include "cache.h"

#include <stdbool.h>
#include <stdint.h>

/* X(name) in the order in which they run and are reported. */
#define BENCH_OPS(X) X(get_copy) X(get_pinned) X(get_many) X(put_replace) X(delete) X(put_evict)

enum bench_op {
#define X(name) BENCH_##name,
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
    bool progress;
};

struct bench_row {
    double ns, floor_ns, ratio;    /* of one operation of one process, all processes at work */
    double scaling, floor_scaling; /* throughput of all over that of one alone times their number; 1 for one process */
    uint64_t failed;               /* operations of the engine that did not do what was asked: missed, refused */
};

struct bench_result {
    struct bench_row rows[BENCH_OP_COUNT];
    uint64_t cache_bytes; /* of the segment for all but put_evict */
    uint64_t evictions;   /* there: should be 0 */
    int interrupted;      /* signal, or 0 */
};

/* 0, or LARDER_E* with `why` (LR_WHY_BYTES). Its segments are removed whatever happens but SIGKILL. */
int bench_run(const struct bench_options *options, struct bench_result *out, char *why);

#endif
