/* SPDX-License-Identifier: MIT */
/*
 * Requests that are hard for some policy: scans, loops, popularity that moves, sizes that shift, small things that
 * nobody wants again.
 *
 * The counterpart of the published shapes in workload.h: made up, to see where a policy breaks.
 *
 *   scan     one popularity (Zipf, 1.0), and in every fifth stretch of requests / 120, 95 % new keys in between
 *   loop     so many keys, one after the other, six times; then others: lengths from 1/200 to 1/12 of the requests,
 *            evenly over their logarithm
 *   shift    one popularity (Zipf, 0.8), which moves over to other keys: each rank by one key every ten requests
 *   resize   four phases of as many requests, each with keys of its own (Zipf, 0.8), as many bytes of them, and all
 *            of one size: 200 bytes, 20000, 200, 1000
 *   tiny     60 % of the requests for new keys of 50 bytes, the rest (Zipf, 0.8) for keys of 400
 *
 * Other sizes are lognormal: scan has a median of 300 bytes, loop and shift of 200 and a wider spread.
 */
#ifndef LARDER_PATTERN_H
#define LARDER_PATTERN_H

#include "workload.h"

/* Adds the requests of a kind from WORKLOAD_scan on. 0 or ENO_MEMORY. */
int pattern_push(enum workload_kind kind, struct draw *draw, uint64_t requests, struct trace *out);

#endif
