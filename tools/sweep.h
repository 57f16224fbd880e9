/* SPDX-License-Identifier: MIT */
/*
 * Many replays of many traces: what does each policy miss at each size?
 *
 *   sources x sizes x (policies of the engine | references x charges | the exact LRU curve)  =  jobs
 *
 *   parent   load a trace -> for each of its jobs: wait for a free place, fork -> free it, load the next
 *   child    one replay_run, reference_run or lru_curve_run; the result goes into shared memory, exit
 *
 * Rules:
 *  1. A policy of the engine gets at most the bytes of its size: the segment is made so much smaller that rounding to
 *     pages does not go above them. A reference gets exactly them. Fixed tables come on top and are told.
 *  2. A size below `least` is left out at every trace.
 *  3. A child that dies, or a replay that ends in an error, costs its own point; the others go on.
 *  4. On SIGINT, SIGTERM and SIGHUP the children are asked to end, so that their segments go, and awaited.
 */
#ifndef LARDER_SWEEP_H
#define LARDER_SWEEP_H

#include "cache.h"
#include "lru_curve.h"
#include "reference.h"
#include "workload.h"

#include <jansson.h>
#include <stdbool.h>

#define SWEEP_MAX_TRACES 64u
#define SWEEP_MAX_SIZES 64u
#define SWEEP_MAX_POLICIES 16u
#define SWEEP_MAX_CHARGES 8u
#define SWEEP_MAX_JOBS 64u
#define SWEEP_SERIES (SWEEP_MAX_POLICIES + REFERENCE_COUNT * SWEEP_MAX_CHARGES)

struct sweep_source {
    const char *file;        /* a trace; NULL: generated */
    enum workload_kind kind; /* generated */
    uint64_t seed, requests; /* generated */
};

/* Bytes, or a share of the footprint. */
struct sweep_size {
    const char *text; /* as it was typed, for humans */
    double share;     /* 0: bytes */
    uint64_t bytes;
};

struct sweep_options {
    struct sweep_source sources[SWEEP_MAX_TRACES];
    struct sweep_size sizes[SWEEP_MAX_SIZES];
    enum lr_policy policies[SWEEP_MAX_POLICIES];
    enum lr_favor favor; /* of all policies */
    enum reference_kind references[REFERENCE_COUNT];
    uint32_t charges[SWEEP_MAX_CHARGES];
    unsigned source_count, size_count, policy_count, reference_count, charge_count;
    uint64_t least;             /* bytes */
    unsigned jobs;              /* at a time */
    unsigned processes, passes; /* of a policy's replay */
    bool interleave;
    bool curves; /* the exact LRU curve of each trace as well */
    bool progress;
};

enum sweep_state { SWEEP_ABSENT, SWEEP_DONE, SWEEP_FAILED };

/* One trace at one size under one policy or reference. */
struct sweep_cell {
    _Atomic uint32_t state; /* enum sweep_state */
    double miss_ratio, byte_miss_ratio;
    double ops_per_s, payload_share; /* of a policy, as is what follows */
    uint64_t cache_bytes, fixed_bytes;
    uint64_t wrong_values, findings, deaths;
    char why[LR_WHY_BYTES]; /* SWEEP_FAILED */
};

/* The cells of one trace at one size: the policies, then for each charge the references. */
struct sweep_row {
    uint64_t bytes; /* 0: left out */
    struct sweep_cell cells[SWEEP_SERIES];
};

struct sweep_trace {
    char name[256]; /* the file's without folder and endings, or the workload's */
    uint64_t requests, keys, footprint;
    struct lru_curve curve;
    struct sweep_row rows[SWEEP_MAX_SIZES];
};

/* In memory that is shared with the children. */
struct sweep_result {
    double seconds;
    int interrupted; /* the signal, or 0 */
    unsigned failed; /* cells */
    char first_failed[LR_WHY_BYTES + 300];
    struct sweep_trace traces[];
};

uint64_t sweep_size_bytes(const struct sweep_size *size, uint64_t footprint);

/* 0 and *out, which sweep_free releases; or LARDER_E* with `why` (LR_WHY_BYTES). Failed cells and signals are results.
 */
int sweep_run(const struct sweep_options *options, struct sweep_result **out, char *why);
void sweep_free(const struct sweep_options *options, struct sweep_result *result);

/* Where a series stands in a row's cells. */
static inline unsigned sweep_reference_cell(const struct sweep_options *options, unsigned charge, unsigned reference) {
    return options->policy_count + charge * options->reference_count + reference;
}

/* The lowest miss ratio of the references with that charge in a row; < 0 when none is done. */
double sweep_best(const struct sweep_options *options, const struct sweep_row *row, unsigned charge);
/* The cell of LRU with that charge, or NULL when it is not done. */
const struct sweep_cell *sweep_lru(const struct sweep_options *options, const struct sweep_row *row, unsigned charge);
/* The mean miss ratio of a series over all rows of all traces that have it; *points of them. */
double sweep_mean(const struct sweep_options *options, const struct sweep_result *result, unsigned cell,
                  unsigned *points);

/* Tables for humans on standard output, and everything as one object. */
void sweep_print(const struct sweep_options *options, const struct sweep_result *result);
json_t *sweep_to_json(const struct sweep_options *options, const struct sweep_result *result);
/* Miss-ratio curves, a panel for each trace. 0, or -1 with errno. */
int sweep_plot(const struct sweep_options *options, const struct sweep_result *result, const char *file);

/* "+40 bytes", "no metadata", "+ a block's": how humans call a charge. */
const char *sweep_charge_text(uint32_t charge, char out[32]);
json_t *sweep_charge_to_json(uint32_t charge);

#endif
