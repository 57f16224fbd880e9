/* SPDX-License-Identifier: MIT */
/*
 * The part of a simulation that does not depend on its policy: requests, charges, deadlines.
 *
 * Deadlines are a heap of {deadline, key}, in which an entry whose deadline is no longer the object's is passed over.
 */
#include "reference.h"

#include "larder_errors.h"
#include "ref_policy.h"
#include "value.h"

#include <stdlib.h>
#include <string.h>

struct deadline {
    uint32_t at_s, key;
};

struct run {
    const struct reference_options *options;
    const struct ref_policy *policy;
    struct ref_cache cache;
    struct deadline *heap;
    size_t heap_count, heap_capacity;
    struct reference_result *result;
};

/* ---- the table -------------------------------------------------------------------------------------------------- */

static const struct ref_policy *const policies[REFERENCE_COUNT] = {
#define X(name, title, source) [REFERENCE_##name] = &ref_##name,
    REFERENCES(X)
#undef X
};

const char *reference_name(enum reference_kind kind) {
    static const char *const names[REFERENCE_COUNT] = {
#define X(name, title, source) #name,
        REFERENCES(X)
#undef X
    };
    return names[kind];
}

const char *reference_title(enum reference_kind kind) {
    static const char *const titles[REFERENCE_COUNT] = {
#define X(name, title, source) title,
        REFERENCES(X)
#undef X
    };
    return titles[kind];
}

int reference_kind(const char *name) {
    for (int kind = 0; kind < REFERENCE_COUNT; kind++)
        if (strcmp(name, reference_name((enum reference_kind)kind)) == 0)
            return kind;
    return -1;
}

/* ---- deadlines -------------------------------------------------------------------------------------------------- */

static int push_deadline(struct run *run, uint32_t at_s, uint32_t key) {
    if (run->heap_count == run->heap_capacity) {
        size_t capacity = run->heap_capacity ? run->heap_capacity * 2u : 65536u;
        struct deadline *heap = realloc(run->heap, capacity * sizeof *heap);
        if (heap == NULL)
            return LARDER_ENO_MEMORY;
        run->heap = heap;
        run->heap_capacity = capacity;
    }
    size_t i = run->heap_count++;
    for (; i > 0 && run->heap[(i - 1) / 2].at_s > at_s; i = (i - 1) / 2)
        run->heap[i] = run->heap[(i - 1) / 2];
    run->heap[i] = (struct deadline){at_s, key};
    return 0;
}

static void pop_deadline(struct run *run) {
    struct deadline last = run->heap[--run->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= run->heap_count)
            break;
        if (child + 1 < run->heap_count && run->heap[child + 1].at_s < run->heap[child].at_s)
            child++;
        if (run->heap[child].at_s >= last.at_s)
            break;
        run->heap[i] = run->heap[child];
        i = child;
    }
    run->heap[i] = last;
}

static void drop(struct run *run, uint32_t key, bool expired) {
    if (!ref_resident(&run->cache.objects[key]))
        return;
    if (run->policy->leave != NULL)
        run->policy->leave(&run->cache, key, expired);
    else
        ref_take(&run->cache, key);
}

static void drop_expired(struct run *run, uint32_t now_s) {
    while (run->heap_count > 0 && run->heap[0].at_s <= now_s) {
        struct deadline first = run->heap[0];
        pop_deadline(run);
        if (run->cache.objects[first.key].deadline_s == first.at_s)
            drop(run, first.key, true);
    }
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

static uint64_t cost_of(const struct run *run, const struct trace_row *row) {
    if (run->options->charge != REFERENCE_CHARGE_BLOCK)
        return row->size + (uint64_t)run->options->charge > 0 ? row->size + (uint64_t)run->options->charge : 1;
    uint64_t size = row->size < VALUE_KEY_BYTES ? VALUE_KEY_BYTES : row->size;
    return (24u + (trace_row_ttl_s(row) ? 8u : 0u) + size + 7u) & ~UINT64_C(7);
}

static void overwrite(struct run *run, uint32_t key, uint64_t bytes) {
    struct ref_cache *cache = &run->cache;
    struct ref_object *object = &cache->objects[key];
    run->policy->hit(cache, key);
    cache->queues[object->where].bytes += bytes - object->bytes;
    cache->used += bytes - object->bytes;
    object->bytes = bytes;
    while (cache->used > cache->capacity)
        run->policy->evict(cache);
}

static int store(struct run *run, const struct trace_row *row) {
    struct ref_object *object = &run->cache.objects[row->key];
    uint64_t bytes = cost_of(run, row), deadline_s = (uint64_t)row->time_s + trace_row_ttl_s(row);
    if (bytes > run->cache.capacity) {
        drop(run, row->key, false);
        return 0;
    }
    if (ref_resident(object))
        overwrite(run, row->key, bytes);
    else
        run->policy->admit(&run->cache, row->key, bytes);
    object->deadline_s = UINT32_MAX;
    if (!ref_resident(object) || trace_row_ttl_s(row) == 0 || deadline_s >= UINT32_MAX)
        return 0;
    object->deadline_s = (uint32_t)deadline_s;
    return push_deadline(run, object->deadline_s, row->key);
}

static int get(struct run *run, const struct trace_row *row) {
    run->result->gets++;
    run->result->get_bytes += row->size;
    if (ref_resident(&run->cache.objects[row->key])) {
        run->policy->hit(&run->cache, row->key);
        return 0;
    }
    run->result->misses++;
    run->result->miss_bytes += row->size;
    return store(run, row);
}

static int request(struct run *run, const struct trace_row *row) {
    drop_expired(run, row->time_s);
    if (trace_row_op(row) == TRACE_DEL) {
        drop(run, row->key, false);
        return 0;
    }
    if (run->policy->seen != NULL)
        run->policy->seen(&run->cache, row->key);
    return trace_row_op(row) == TRACE_GET ? get(run, row) : store(run, row);
}

int reference_run(const struct trace *trace, const struct reference_options *options, struct reference_result *out) {
    struct run run = {.options = options, .policy = policies[options->kind], .result = out};
    struct ref_cache *cache = &run.cache;
    *out = (struct reference_result){0};
    cache->capacity = options->capacity;
    cache->trace = trace;
    for (unsigned i = 0; i < REF_QUEUES; i++)
        cache->queues[i] = (struct ref_queue){.head = REF_NONE, .tail = REF_NONE};
    cache->objects = calloc(trace->key_limit, sizeof *cache->objects);
    int error = cache->objects ? 0 : LARDER_ENO_MEMORY;
    if (error == 0 && run.policy->open != NULL)
        error = run.policy->open(cache);
    for (size_t i = 0; i < trace->count && error == 0; i++)
        error = request(&run, &trace->rows[i]);
    out->evictions = cache->evictions;
    if (run.policy->close != NULL)
        run.policy->close(cache);
    free(run.heap);
    free(cache->objects);
    return error;
}
