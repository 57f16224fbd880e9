/* SPDX-License-Identifier: MIT */
/*
 * Workloads for where no trace is at hand: what do real caches see, roughly?
 *
 * Shapes, drawn by a seeded generator: the same kind, seed and length give the same requests. They are made of
 *
 *   popular keys   ranks drawn from a Zipf law; sizes fixed for a key, but for sets, which may draw anew
 *   one-hit keys   a new key each time, never asked for again
 *   sets, deletes  of popular keys; TTLs drawn from a short list, fixed for a key
 *
 * after published figures:
 *
 *   kv   a look-aside store of small objects. Value sizes: the generalised Pareto law fitted to Facebook's ETC pool
 *        (sigma 214.476, k 0.348238), which sees about 30 gets to a set (Atikoglu et al., "Workload analysis of a
 *        large-scale key-value store", SIGMETRICS'12). Zipf exponent 0.99, as in YCSB (Cooper et al., SoCC'10).
 *   web  a proxy for documents. About 70 % of the documents are asked for once (Mahanti, Williamson, Eager, "Traffic
 *        analysis of a web proxy caching hierarchy", IEEE Network 2000); exponent 0.8 (0.64 to 0.83 in Breslau et al.,
 *        "Web caching and Zipf-like distributions", INFOCOM'99). Sizes are lognormal with a Pareto tail, shaped as in
 *        Barford and Crovella ("Generating representative web workloads", SIGMETRICS'98) and scaled down to a median
 *        of 2 KiB, so that a small segment shows the same picture.
 *   ttl  a write-heavy store in which everything expires: more than 30 % writes, as in 35 % of Twitter's clusters,
 *        median object about 230 bytes, most TTLs below 20 minutes, a quarter beyond two days (Yang et al., "A large
 *        scale analysis of hundreds of in-memory cache clusters at Twitter", OSDI'20). Zipf exponent 1.0.
 *
 * and five that are made up to be hard: pattern.h.
 */
#ifndef LARDER_WORKLOAD_H
#define LARDER_WORKLOAD_H

#include "trace.h"

/* X(name, sentence) */
#define WORKLOADS(X)                                                                                                   \
    X(kv, "small objects, 30 gets to a set")                                                                           \
    X(web, "documents, 70 % of them asked for once")                                                                   \
    X(ttl, "write-heavy, everything expires")                                                                          \
    X(scan, "popular keys, and scans through others")                                                                  \
    X(loop, "loops over keys, each six times")                                                                         \
    X(shift, "popularity that moves")                                                                                  \
    X(resize, "keys of one size after another")                                                                        \
    X(tiny, "small objects that nobody wants again, between larger ones")

enum workload_kind {
#define X(name, sentence) WORKLOAD_##name,
    WORKLOADS(X)
#undef X
        WORKLOAD_COUNT
};

/* -1: there is no such kind. */
int workload_kind(const char *name);
/* Generates `requests` requests (at least 1). 0 or ENO_MEMORY, EINVALID with `why` (TRACE_WHY_BYTES). */
int workload_generate(enum workload_kind kind, uint64_t seed, uint64_t requests, struct trace *out, char *why);

/* ---- draws, for the benchmark too ------------------------------------------------------------------------------- */

struct draw {
    uint64_t state;
};

struct draw draw_seeded(uint64_t seed);
uint64_t draw_bits(struct draw *draw);
/* Below `limit` (not 0). */
uint64_t draw_below(struct draw *draw, uint64_t limit);
/* In [0, 1). */
double draw_unit(struct draw *draw);
/* From the normal distribution. */
double draw_normal(struct draw *draw);

struct zipf {
    double count, exponent, low, high, skip;
};

/* Ranks 0 to count - 1 with probability proportional to 1 / (rank + 1)^exponent; exponent 0 is uniform. */
struct zipf zipf_make(uint64_t count, double exponent);
uint64_t zipf_draw(const struct zipf *zipf, struct draw *draw);

#endif
