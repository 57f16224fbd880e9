/* SPDX-License-Identifier: MIT */
/*
 * Driving a trace through a segment by worker processes, and judging every value that comes back.
 *
 *   parent                              worker 1 .. N (forked, each with a handle of its own)
 *   create or attach the segment
 *   fork  --------------------------->  attach, make tables, say ready
 *   all ready: go  ------------------>  for each request of its share:
 *   watch: progress, deaths, signals      get (timed), judge; a miss puts; set puts; del deletes
 *   gather  <-------------------------    count in a shared page, exit
 *   stat, check, destroy
 *
 * Rules:
 *  1. A worker counts in memory shared with the parent as it goes, so that a killed one loses nothing it had counted,
 * and the parent never waits for a word from a worker without also waiting for its death.
 *  2. Shared out by key (the rule), a worker is the only one to touch its keys of a segment of our own. It then
 *     knows the one value that a hit may return: that of its last acknowledged put, unless deleted or expired since.
 *     In all cases versions of a key, as one worker meets them, must not fall.
 *  3. On a segment of our own TTLs run on the trace's clock, which each worker drives by its own place in the trace.
 *     On a segment that others use as well they run in real time.
 *  4. A segment of our own is removed in the end, and on SIGINT, SIGTERM and SIGHUP.
 *  5. What a careful client would do is done: a set that is refused deletes the key, since the old value is
 *     out of date.
 */
#ifndef LARDER_REPLAY_H
#define LARDER_REPLAY_H

#include "cache.h"
#include "histogram.h"
#include "trace.h"

#include <stdatomic.h>

/* X(name, sentence): counted by each worker. */
#define REPLAY_COUNTERS(X)                                                                                             \
    X(requests, "requests done")                                                                                       \
    X(gets, "gets")                                                                                                    \
    X(hits, "gets that returned a value, right or wrong")                                                              \
    X(sets, "sets")                                                                                                    \
    X(deletes, "deletes")                                                                                              \
    X(get_bytes, "bytes of keys and values asked for by gets")                                                         \
    X(miss_bytes, "of these, those that were missed")                                                                  \
    X(puts, "values stored, by sets and after misses")                                                                 \
    X(puts_refused, "puts that the segment refused, for whatever reason")                                              \
    X(puts_too_large, "of these, those above the largest admissible item")                                             \
    X(puts_pinned, "of these, those for which live pins left no room")                                                 \
    X(puts_busy, "of these, those that met a lock holder who did not answer")                                          \
    X(gets_failed, "gets that ended in an error; counted as misses")                                                   \
    X(deletes_failed, "deletes that ended in an error")                                                                \
    X(wrong_foreign, "hits with another key's or writer's value")                                                      \
    X(wrong_torn, "hits with a value whose checksum does not fit")                                                     \
    X(wrong_stale, "hits with a value older than one acknowledged or seen before")                                     \
    X(wrong_resurrected, "hits after an acknowledged delete")                                                          \
    X(wrong_expired, "hits past the value's TTL")

enum replay_counter {
#define X(name, sentence) REPLAY_##name,
    REPLAY_COUNTERS(X)
#undef X
        REPLAY_COUNTER_COUNT
};

#define REPLAY_MAX_PROCESSES 512u

struct replay_options {
    const struct trace *trace;
    struct lr_options segment; /* own: size, policy; shared: name or path. `name` of an own one is made here */
    bool shared;               /* attach a segment that exists, and leave it there */
    bool interleave;           /* share by time, not by key */
    bool progress;             /* a line on standard error, rewritten on a terminal */
    unsigned processes;        /* 1 to REPLAY_MAX_PROCESSES */
    unsigned passes;           /* over the trace, at least 1 */
};

struct replay_death {
    unsigned worker;
    pid_t pid;
    int signal; /* 0: exited with `status` */
    int status;
};

struct replay_result {
    uint64_t counters[REPLAY_COUNTER_COUNT];
    uint64_t wrong_values; /* sum of the wrong_ counters */
    struct histogram get_ns;
    uint64_t elapsed_ns; /* first worker's start to last one's end */
    uint64_t cache_bytes, payload_bytes, items;
    uint64_t fixed_bytes;             /* on top of cache_bytes: what does not grow with the items */
    uint64_t index_bytes, free_bytes; /* free: holes and gaps */
    uint64_t evictions, index_evictions, expirations, repairs, takeovers; /* during this run */
    unsigned deaths;
    struct replay_death died[8]; /* the first eight */
    int interrupted;             /* the signal, or 0 */
    int check;                   /* lr_check's result; 0 on a shared segment, which is not checked */
    struct lr_check findings;
    char first_wrong[256]; /* what the first wrong value was; "" */
};

/* 0, or LARDER_E* with `why` (LR_WHY_BYTES). Workers that died, wrong values and signals are results, not errors. */
int replay_run(const struct replay_options *options, struct replay_result *out, char *why);

#endif
