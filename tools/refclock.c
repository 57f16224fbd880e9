/* SPDX-License-Identifier: MIT */
/*
 * The simulation of refclock.h.
 *
 * The queue is a doubly linked list over the key numbers, the deadlines are a heap of {deadline, key} in which an entry
 * whose deadline is no longer the key's is passed over. An overwrite changes the size where the object stands.
 */
#include "refclock.h"

#include "larder_errors.h"
#include "value.h"

#include <stdlib.h>

#define NONE UINT32_MAX

struct object {
    uint32_t next, previous; /* in the queue */
    uint32_t deadline_s;     /* UINT32_MAX: never */
    uint32_t count;
    uint64_t bytes; /* 0: not there */
};

struct deadline {
    uint32_t at_s, key;
};

struct clock {
    const struct refclock_options *options;
    struct object *objects;
    struct deadline *heap;
    size_t heap_count, heap_capacity;
    uint32_t head, tail;
    uint64_t bytes;
    struct refclock_result *result;
};

/* ---- the queue -------------------------------------------------------------------------------------------------- */

static void unlink_object(struct clock *clock, uint32_t key) {
    struct object *object = &clock->objects[key];
    *(object->previous == NONE ? &clock->head : &clock->objects[object->previous].next) = object->next;
    *(object->next == NONE ? &clock->tail : &clock->objects[object->next].previous) = object->previous;
}

static void append_object(struct clock *clock, uint32_t key) {
    struct object *object = &clock->objects[key];
    object->next = NONE;
    object->previous = clock->tail;
    *(clock->tail == NONE ? &clock->head : &clock->objects[clock->tail].next) = key;
    clock->tail = key;
}

static void drop_object(struct clock *clock, uint32_t key) {
    unlink_object(clock, key);
    clock->bytes -= clock->objects[key].bytes;
    clock->objects[key].bytes = 0;
}

/* ---- deadlines -------------------------------------------------------------------------------------------------- */

static int push_deadline(struct clock *clock, uint32_t at_s, uint32_t key) {
    if (clock->heap_count == clock->heap_capacity) {
        size_t capacity = clock->heap_capacity ? clock->heap_capacity * 2u : 65536u;
        struct deadline *heap = realloc(clock->heap, capacity * sizeof *heap);
        if (heap == NULL)
            return LARDER_ENO_MEMORY;
        clock->heap = heap;
        clock->heap_capacity = capacity;
    }
    size_t i = clock->heap_count++;
    for (; i > 0 && clock->heap[(i - 1) / 2].at_s > at_s; i = (i - 1) / 2)
        clock->heap[i] = clock->heap[(i - 1) / 2];
    clock->heap[i] = (struct deadline){at_s, key};
    return 0;
}

static void pop_deadline(struct clock *clock) {
    struct deadline last = clock->heap[--clock->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= clock->heap_count)
            break;
        if (child + 1 < clock->heap_count && clock->heap[child + 1].at_s < clock->heap[child].at_s)
            child++;
        if (clock->heap[child].at_s >= last.at_s)
            break;
        clock->heap[i] = clock->heap[child];
        i = child;
    }
    clock->heap[i] = last;
}

static void drop_expired(struct clock *clock, uint32_t now_s) {
    while (clock->heap_count > 0 && clock->heap[0].at_s <= now_s) {
        struct deadline first = clock->heap[0];
        pop_deadline(clock);
        const struct object *object = &clock->objects[first.key];
        if (object->bytes != 0 && object->deadline_s == first.at_s)
            drop_object(clock, first.key);
    }
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

/* Evicts until `need` more bytes fit; `keep` (or NONE) is being overwritten and stays. */
static void make_room(struct clock *clock, uint64_t need, uint32_t keep) {
    while (clock->bytes + need > clock->options->capacity && clock->head != NONE) {
        uint32_t key = clock->head;
        struct object *object = &clock->objects[key];
        if (key == keep && clock->head == clock->tail)
            return;
        if (key == keep || object->count > 0) {
            object->count -= object->count > 0;
            unlink_object(clock, key);
            append_object(clock, key);
        } else {
            drop_object(clock, key);
            clock->result->evictions++;
        }
    }
}

static uint64_t cost_of(const struct clock *clock, const struct trace_row *row) {
    uint64_t size = row->size < VALUE_KEY_BYTES ? VALUE_KEY_BYTES : row->size;
    if (!clock->options->charge_block)
        return row->size ? row->size : 1;
    return (24u + (trace_row_ttl_s(row) ? 8u : 0u) + size + 7u) & ~UINT64_C(7);
}

static int store(struct clock *clock, const struct trace_row *row) {
    struct object *object = &clock->objects[row->key];
    uint64_t cost = cost_of(clock, row);
    if (cost > clock->options->capacity) {
        if (object->bytes != 0)
            drop_object(clock, row->key);
        return 0;
    }
    if (object->bytes != 0) {
        clock->bytes -= object->bytes;
        object->bytes = 0;
        make_room(clock, cost, row->key);
        if (object->count < clock->options->most)
            object->count++;
    } else {
        make_room(clock, cost, NONE);
        object->count = 0;
        append_object(clock, row->key);
    }
    object->bytes = cost;
    clock->bytes += cost;
    object->deadline_s = UINT32_MAX;
    if (trace_row_ttl_s(row) == 0 || (uint64_t)row->time_s + trace_row_ttl_s(row) >= UINT32_MAX)
        return 0;
    object->deadline_s = row->time_s + trace_row_ttl_s(row);
    return push_deadline(clock, object->deadline_s, row->key);
}

static int get(struct clock *clock, const struct trace_row *row) {
    struct object *object = &clock->objects[row->key];
    clock->result->gets++;
    clock->result->get_bytes += row->size;
    if (object->bytes != 0) {
        if (object->count < clock->options->most)
            object->count++;
        return 0;
    }
    clock->result->misses++;
    clock->result->miss_bytes += row->size;
    return store(clock, row);
}

int refclock_run(const struct trace *trace, const struct refclock_options *options, struct refclock_result *out) {
    *out = (struct refclock_result){0};
    struct clock clock = {.options = options, .head = NONE, .tail = NONE, .result = out};
    clock.objects = calloc(trace->key_limit, sizeof *clock.objects);
    int error = clock.objects ? 0 : LARDER_ENO_MEMORY;
    for (size_t i = 0; i < trace->count && error == 0; i++) {
        const struct trace_row *row = &trace->rows[i];
        drop_expired(&clock, row->time_s);
        switch (trace_row_op(row)) {
        case TRACE_GET:
            error = get(&clock, row);
            break;
        case TRACE_SET:
            error = store(&clock, row);
            break;
        case TRACE_DEL:
            if (clock.objects[row->key].bytes != 0)
                drop_object(&clock, row->key);
            break;
        }
    }
    free(clock.heap);
    free(clock.objects);
    return error;
}
