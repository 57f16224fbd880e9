/* SPDX-License-Identifier: MIT */
/*
 * What would a cache miss that wasted no byte?
 *
 * A simulation of CLOCK over the same requests: one queue in the order of arrival, a small count for each object. Room
 * is made at the queue's head: an object with a count goes to the tail and loses one, one without is evicted. Expired
 * objects go first. Every object is charged what it is said to cost, and nothing else is: no index, no holes, no
 * stripes. So the difference to a real cache is the price of the real cache's memory management.
 */
#ifndef LARDER_REFCLOCK_H
#define LARDER_REFCLOCK_H

#include "trace.h"

#include <stdbool.h>

struct refclock_options {
    uint64_t capacity; /* bytes */
    unsigned most;     /* highest count of an object: 1 is the classic CLOCK bit */
    bool charge_block; /* 24-byte header, 8 for a TTL, all rounded up to 8; else the bare size */
};

struct refclock_result {
    uint64_t gets, misses;
    uint64_t get_bytes, miss_bytes;
    uint64_t evictions;
};

/* 0 or ENO_MEMORY. */
int refclock_run(const struct trace *trace, const struct refclock_options *options, struct refclock_result *out);

#endif
