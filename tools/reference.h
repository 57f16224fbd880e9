/* SPDX-License-Identifier: MIT */
/*
 * What would a cache miss that wasted no byte, under the policies of the literature?
 *
 * Exact simulations over a trace. An object takes the bytes that it is charged, and nothing else takes any: no index,
 * no holes, no stripes, no ghosts. So a policy is compared here with another policy, and a real cache with what its
 * memory management costs it.
 *
 *   request --> reference.c: deadlines, charges, counting --> one policy (ref_*.c, by the table of ref_policy.h)
 *
 * Rules, the same for all policies:
 *  1. A get that misses stores the object with the size and TTL of its line. A set of an object that is there is a hit
 * of the policy, and changes its size where it stands. Only gets count as hits and misses.
 *  2. What expires is gone at once, at its second, before that second's first request.
 *  3. An object larger than the whole cache is not stored; a set of it removes the old value.
 */
#ifndef LARDER_REFERENCE_H
#define LARDER_REFERENCE_H

#include "trace.h"

/* X(name, title, source) */
#define REFERENCES(X)                                                                                                  \
    X(lru, "LRU", "least recently used")                                                                               \
    X(clock, "CLOCK", "CLOCK with one bit: F. J. Corbato, A paging experiment with the Multics system, 1969")          \
    X(clock2, "CLOCK 2 bit", "CLOCK with counts up to three, as in generalised CLOCK: A. J. Smith, TODS 1978")         \
    X(sieve, "SIEVE", "Y. Zhang, J. Yang, Y. Yue, Y. Vigfusson, K. V. Rashmi, SIEVE is simpler than LRU, NSDI 2024")   \
    X(arc, "ARC", "N. Megiddo, D. S. Modha, ARC: a self-tuning, low overhead replacement cache, FAST 2003")            \
    X(s3fifo, "S3-FIFO", "J. Yang, Y. Zhang, Z. Qiu, Y. Yue, K. V. Rashmi, FIFO queues are all you need, SOSP 2023")   \
    X(wtinylfu, "W-TinyLFU",                                                                                           \
      "G. Einziger, R. Friedman, B. Manes, TinyLFU: a highly efficient cache admission policy, TOS 2017")

enum reference_kind {
#define X(name, title, source) REFERENCE_##name,
    REFERENCES(X)
#undef X
        REFERENCE_COUNT
};

#define REFERENCE_CHARGE_BLOCK UINT32_MAX

struct reference_options {
    enum reference_kind kind;
    uint64_t capacity; /* bytes */
    /* Bytes that each object is charged beside key and value. REFERENCE_CHARGE_BLOCK: what a block of Larder adds to
     * them, a header of 24, 8 for a TTL, rounded up to 8, and the key at least as long as replay's. */
    uint32_t charge;
};

struct reference_result {
    uint64_t gets, misses;
    uint64_t get_bytes, miss_bytes; /* of key and value */
    uint64_t evictions;
};

/* 0 or ENO_MEMORY. */
int reference_run(const struct trace *trace, const struct reference_options *options, struct reference_result *out);

/* -1 when there is no such policy. */
int reference_kind(const char *name);
const char *reference_name(enum reference_kind kind);
const char *reference_title(enum reference_kind kind);

#endif
