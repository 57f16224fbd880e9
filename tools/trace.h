/* SPDX-License-Identifier: MIT */
/*
 * A trace of cache requests, whole in memory.
 *
 * As text, one request a line, plain or compressed with zstd (told by its first bytes, not by its name):
 *
 *   #time,key,size,op,ttl
 *   0,0,563,get,0
 *   0,1,257,set,3600
 *
 *   time  seconds since the start, never falling
 *   key   number of the key; dense, as tables are made for all numbers up to the highest
 *   size  bytes of key and value together that a put caused by this line stores
 *   op    get (on a miss the client puts `size` bytes with `ttl`), set, del
 *   ttl   seconds, 0 = never
 *
 * In memory a request takes 16 bytes, and nothing changes them once loaded, so forked workers share them. Lines that
 * start with '#' and empty lines are passed over.
 */
#ifndef LARDER_TRACE_H
#define LARDER_TRACE_H

#include <stddef.h>
#include <stdint.h>

#define TRACE_WHY_BYTES 512u
#define TRACE_MAX_KEY ((UINT32_C(1) << 28) - 1u) /* its tables are a few GiB at most */
#define TRACE_MAX_TTL ((UINT32_C(1) << 30) - 1u) /* 34 years */

enum trace_op { TRACE_GET, TRACE_SET, TRACE_DEL };

struct trace_row {
    uint32_t time_s;
    uint32_t key;
    uint32_t size;
    uint32_t ttl_op; /* ttl << 2 | op */
};
_Static_assert(sizeof(struct trace_row) == 16, "millions of these");

static inline enum trace_op trace_row_op(const struct trace_row *row) {
    return (enum trace_op)(row->ttl_op & 3u);
}

static inline uint32_t trace_row_ttl_s(const struct trace_row *row) {
    return row->ttl_op >> 2;
}

struct trace {
    struct trace_row *rows;
    size_t count, capacity;
    /* Set by trace_finish. */
    uint32_t key_limit; /* all keys are below */
    uint32_t keys;      /* distinct ones */
    uint32_t max_size;  /* bytes */
    uint64_t footprint; /* bytes: sum over the keys of the largest size seen */
    uint64_t gets, sets, dels;
};

/*
 * Reads `file` ("-": standard input). 0, or a negative LARDER_E* with `why` (TRACE_WHY_BYTES) naming file, line and
 * column, and what was found and expected there. On error the trace is empty. The caller frees it.
 */
int trace_load(const char *file, struct trace *out, char *why);
/* As trace_load, from an open descriptor that stays open; `name` is for messages. */
int trace_read(int fd, const char *name, struct trace *out, char *why);
/* Adds a request. ENO_MEMORY. */
int trace_push(struct trace *trace, uint32_t time_s, uint32_t key, uint32_t size, enum trace_op op, uint32_t ttl_s);
/* Computes the totals, once all requests are there. ENO_MEMORY. */
int trace_finish(struct trace *trace);
void trace_free(struct trace *trace);

#endif
