/* SPDX-License-Identifier: MIT */
/*
 * What would the same work cost elsewhere? Larder, its floor and the peers (peers.h) in one run, on the same keys.
 *
 * One process, 16-byte text keys, each cache filled with the same items. In each round the keys are drawn once, and all
 * do the same with them in turn: get, get 16 at a time, put of a key that is there, delete. The figures are medians of
 * the rounds, so that what else the machine does meets all. Peers that are not installed are reported, with what gets
 * them.
 */
#ifndef LARDER_BENCH_COMPARE_H
#define LARDER_BENCH_COMPARE_H

#include "peers.h"

#include "cache.h"

struct compare_options {
    uint64_t items, value_bytes;
    double zipf;
    bool progress;
};

/* Columns: the floor, Larder, then the peers. */
enum { COMPARE_FLOOR, COMPARE_LARDER, COMPARE_PEERS, COMPARE_COLUMNS = COMPARE_PEERS + PEER_COUNT };

struct compare_result {
    double ns[PEER_WORKS][COMPARE_COLUMNS];  /* of a key; 0: not measured */
    uint64_t failed[COMPARE_COLUMNS];        /* operations that did not do what was asked */
    char absent[PEER_COUNT][PEER_WHY_BYTES]; /* why a peer is not there; "" it is */
    int interrupted;                         /* signal, or 0 */
};

extern const char *const compare_work_names[PEER_WORKS]; /* as bench.h's operations */

/* 0, or LARDER_E* with `why` (LR_WHY_BYTES): Larder itself, or a peer that is there, failed. */
int compare_run(const struct compare_options *options, struct compare_result *out, char *why);

#endif
