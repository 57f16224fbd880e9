/* SPDX-License-Identifier: MIT */
/*
 * What do the worst operations cost, and what do neighbours cost each other?
 *
 *   growth    puts of new keys, from an empty segment until it is full, feed on: the index grows all along
 *   large     puts of 1 MiB that evict, feed on; beside it, the same bytes copied in plain memory
 *   tails     gets while another process puts at full speed into the full segment; beside it, the floor's under the
 *             same neighbour
 *   hotkey    gets of one key by two processes, against one process alone; beside it, the floor's
 *   stripe    gets of some keys while another process puts the same keys, others of their stripe, or of another stripe
 *   pins      pins of values of 64 bytes and of 1 MiB that lie side by side, so that both meet as many lines and pages
 *   expiry    puts of new keys, and gets, before and right after all items have expired at the same instant
 *   startup   creating a segment, once, against writing to as much memory of one's own for the first time
 *
 * Every operation is timed by itself (ticks.h; some nanoseconds of each are the clock's). Those of a millisecond or
 * more are counted and attributed. The process looks at its processor time every 50 us, and after each slow
 * one: what it has used since the last look bounds what the slow one has used. Below a millisecond, the operation was
 * `away`: without a processor. Where it slept of its own will, all its time counts. `switched` are those with an
 * involuntary switch (getrusage); what the hypervisor took from all processors meanwhile is in /proc/stat as steal.
 */
#ifndef LARDER_BENCH_SCENARIO_H
#define LARDER_BENCH_SCENARIO_H

#include "cache.h"

#include <stdbool.h>
#include <stdint.h>

/* X(name) */
#define SCENARIOS(X) X(growth) X(large) X(tails) X(hotkey) X(stripe) X(expiry) X(pins) X(startup)

enum scenario {
#define X(name) SCENARIO_##name,
    SCENARIOS(X)
#undef X
        SCENARIO_COUNT
};
extern const char *const scenario_names[SCENARIO_COUNT];

#define SCENARIO_ROWS 4u
#define SCENARIO_SHARES 5u
extern const char *const scenario_share_names[SCENARIO_SHARES]; /* p50_ns ... max_ns */

struct scenario_row {
    char label[48];
    uint64_t count;             /* operations */
    double mean_ns;             /* median of rounds */
    double at[SCENARIO_SHARES]; /* percentiles and the longest, ns */
    uint64_t slow;              /* of a millisecond or more */
    uint64_t switched;          /* of these: with an involuntary switch of context */
    uint64_t away;              /* of these: below a millisecond but for the time without a processor */
    double own_p9999_ns;        /* of all, slow ones without that time */
    double steal_ms;            /* of all processors, meanwhile */
};

struct scenario_result {
    unsigned rows;
    struct scenario_row row[SCENARIO_ROWS];
    int interrupted; /* signal, or 0 */
};

struct scenario_options {
    uint64_t items, value_bytes;
};

/* 0, or LARDER_E* with `why` (LR_WHY_BYTES). Some seconds; the segment goes with it. */
int scenario_run(enum scenario scenario, const struct scenario_options *options, struct scenario_result *out,
                 char *why);

#endif
