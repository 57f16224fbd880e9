/* SPDX-License-Identifier: MIT */
/*
 * What does `larder bench` time? One row for each operation: what the engine does, and what the floor does beside it.
 *
 *   op            the engine does                                    the floor does
 *   get_copy      lr_get, read 8 bytes of the copy                   look-up, copy, the same
 *   get_pinned    lr_pin, read 8 bytes, lr_unpin                     look-up, read 8 bytes in place
 *   get_many      lr_get_many, 16 keys at a time                     the same with prefetching, 16 at a time
 *   get_many_4, get_many_64                                          the same, 4 and 64 at a time
 *   put_replace   lr_put of a key that is there                      look-up, store of the item's bytes in place
 *   put_new       lr_put of a key that is not there, with room       the same as for put_replace
 *   put_evict     lr_put of a new key, segment full                  the same as for put_replace
 *   delete        lr_delete of a key that is there                   look-up, store of a flag
 *   increment     lr_increment of one of items / 16 counters         look-up in as many items, store in place
 *   mixed_95      19 of 20 lr_get, else lr_put of a key that is there    look-up and copy, or store
 *   mixed_50      half and half
 *
 * Keys are made outside the timed part, for both alike. What delete removed is put back outside it, and what put_new
 * will put is deleted outside it.
 */
#ifndef LARDER_BENCH_OPS_H
#define LARDER_BENCH_OPS_H

#include "bench.h"
#include "floor.h"
#include "value.h"
#include "workload.h"

#define BENCH_BATCH FLOOR_BATCH /* rows of the largest batch */
#define BENCH_KEY_BYTES VALUE_KEY_BYTES

/* One worker's means. */
struct bench_load {
    const struct bench_options *options;
    struct lr_cache *cache;
    struct floor floor;
    struct draw draw;
    struct zipf zipf;
    uint8_t (*keys)[BENCH_KEY_BYTES]; /* of a round */
    uint8_t *dice;                    /* of a round: 0 to 199 */
    uint8_t *value, *buffers;         /* BENCH_BATCH buffers */
    uint64_t ops;                     /* of a round: a multiple of BENCH_BATCH */
    uint64_t cursor;                  /* of deletes: position in this worker's share */
    uint64_t fresh;                   /* of put_evict: next new key */
    uint64_t sink;                    /* keeps reads from being optimised away */
    unsigned number;                  /* of the worker */
};

/* Operations [first, first + count) of the round; returns how many did what was asked. */
typedef uint64_t bench_work(struct bench_load *load, uint64_t first, uint64_t count);

struct bench_row_of_ops {
    void (*engine_keys)(struct bench_load *load); /* before each engine phase, not timed, as are the next two */
    void (*engine_before)(struct bench_load *load);
    bench_work *engine;
    void (*engine_after)(struct bench_load *load);
    void (*floor_keys)(struct bench_load *load); /* NULL: as for the engine's phase */
    bench_work *floor;
    void (*floor_after)(struct bench_load *load);
    unsigned batch; /* operations of one call */
};
extern const struct bench_row_of_ops bench_ops[BENCH_OP_COUNT];

void bench_make_key(uint8_t out[BENCH_KEY_BYTES], uint64_t item);
struct lr_put bench_put_of(const struct bench_load *load, const void *key);
/* Counters that increment works on. */
uint64_t bench_counters(const struct bench_options *options);
/* Builds the floor's table and the buffers. 0 or ENO_MEMORY. */
int bench_load_prepare(struct bench_load *load);

#endif
