/* SPDX-License-Identifier: MIT */
/*
 * Between the simulation of reference.h and its policies: who holds what?
 *
 * Objects are an array over the key numbers. Each stands in at most one queue; a queue is doubly linked through the
 * array and knows its bytes. What a queue means is the policy's business, but the first ones hold objects that are in
 * the cache, and the last ones ghosts: keys with the size that they had when they left. So the bytes in use are always
 * the sum over the resident queues.
 *
 *   queues    1 2 3 | 4 5
 *             in the cache | ghosts          0: nowhere
 *
 * A policy is a row of functions. What it adds to this state it keeps in `own`, which `open` allocates.
 */
#ifndef LARDER_REF_POLICY_H
#define LARDER_REF_POLICY_H

#include "reference.h"

#include <stdbool.h>

#define REF_NONE UINT32_MAX

enum ref_where { REF_NOWHERE, REF_MAIN, REF_PROBATION, REF_WINDOW, REF_GHOST, REF_SECOND_GHOST, REF_QUEUES };

struct ref_object {
    uint32_t next, previous; /* in its queue */
    uint32_t deadline_s;     /* UINT32_MAX: never */
    uint8_t where;           /* enum ref_where */
    uint8_t count;           /* the policy's */
    uint64_t bytes;          /* charged */
};

struct ref_queue {
    uint32_t head, tail; /* the oldest, and the youngest */
    uint64_t bytes;
};

struct ref_cache {
    uint64_t capacity, used;
    struct ref_object *objects;
    struct ref_queue queues[REF_QUEUES];
    const struct trace *trace;
    uint64_t evictions;
    void *own;
};

struct ref_policy {
    /* Allocates `own` and sets it up. 0 or ENO_MEMORY. NULL: nothing to do. */
    int (*open)(struct ref_cache *cache);
    void (*close)(struct ref_cache *cache);
    /* Every get and set, before anything else. NULL: of no interest. */
    void (*seen)(struct ref_cache *cache, uint32_t key);
    /* The object was asked for and is in the cache. */
    void (*hit)(struct ref_cache *cache, uint32_t key);
    /* It was asked for, is not in the cache, and now has `bytes`, at most the capacity. Room is made, and it enters. */
    void (*admit)(struct ref_cache *cache, uint32_t key, uint64_t bytes);
    /* Evicts one object, when one in the cache has grown. */
    void (*evict)(struct ref_cache *cache);
    /* It is deleted, or has expired, and leaves its queue. NULL: it just does. */
    void (*leave)(struct ref_cache *cache, uint32_t key, bool expired);
};

extern const struct ref_policy ref_lru, ref_clock, ref_clock2, ref_sieve, ref_arc, ref_s3fifo, ref_wtinylfu;

static inline bool ref_resident(const struct ref_object *object) {
    return object->where != REF_NOWHERE && object->where < REF_GHOST;
}

static inline void ref_take(struct ref_cache *cache, uint32_t key) {
    struct ref_object *object = &cache->objects[key];
    struct ref_queue *queue = &cache->queues[object->where];
    *(object->previous == REF_NONE ? &queue->head : &cache->objects[object->previous].next) = object->next;
    *(object->next == REF_NONE ? &queue->tail : &cache->objects[object->next].previous) = object->previous;
    queue->bytes -= object->bytes;
    if (object->where < REF_GHOST)
        cache->used -= object->bytes;
    object->where = REF_NOWHERE;
}

/* At the tail, as the youngest. */
static inline void ref_append(struct ref_cache *cache, uint32_t key, enum ref_where where) {
    struct ref_object *object = &cache->objects[key];
    struct ref_queue *queue = &cache->queues[where];
    object->next = REF_NONE;
    object->previous = queue->tail;
    *(queue->tail == REF_NONE ? &queue->head : &cache->objects[queue->tail].next) = key;
    queue->tail = key;
    queue->bytes += object->bytes;
    if (where < REF_GHOST)
        cache->used += object->bytes;
    object->where = (uint8_t)where;
}

static inline void ref_move(struct ref_cache *cache, uint32_t key, enum ref_where where) {
    ref_take(cache, key);
    ref_append(cache, key, where);
}

#endif
