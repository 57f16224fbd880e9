/* SPDX-License-Identifier: MIT */
/*
 * The stack of lru_curve.h: places are numbered by the time of use, so the top is the highest number. A tree holds the
 * bytes at each place, of its object or of the hole that it left; a heap knows the highest hole.
 */
#include "lru_curve.h"

#include "larder_errors.h"
#include "reference.h"

#include <stdbool.h>
#include <stdlib.h>

struct stack {
    uint64_t *tree;  /* over the places, from 1 */
    uint64_t *hole;  /* bytes of the hole at a place */
    uint32_t *heap;  /* places that may have a hole, the highest first */
    uint32_t *place; /* of each key; 0: not there */
    uint32_t *size;  /* of each key, where it is there */
    size_t places, heap_count;
    uint32_t top;
    uint64_t total;
};

/* ---- the tree --------------------------------------------------------------------------------------------------- */

static void tree_add(struct stack *stack, size_t at, uint64_t bytes) {
    for (; at <= stack->places; at += at & -at)
        stack->tree[at] += bytes;
}

static uint64_t tree_sum(const struct stack *stack, size_t upto) {
    uint64_t sum = 0;
    for (; upto > 0; upto -= upto & -upto)
        sum += stack->tree[upto];
    return sum;
}

/* ---- holes ------------------------------------------------------------------------------------------------------ */

static void heap_push(struct stack *stack, uint32_t place) {
    size_t i = stack->heap_count++;
    for (; i > 0 && stack->heap[(i - 1) / 2] < place; i = (i - 1) / 2)
        stack->heap[i] = stack->heap[(i - 1) / 2];
    stack->heap[i] = place;
}

static void heap_pop(struct stack *stack) {
    uint32_t last = stack->heap[--stack->heap_count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < stack->heap_count; i = child) {
        if (child + 1 < stack->heap_count && stack->heap[child + 1] > stack->heap[child])
            child++;
        if (stack->heap[child] <= last)
            break;
        stack->heap[i] = stack->heap[child];
    }
    stack->heap[i] = last;
}

static void leave(struct stack *stack, uint32_t key) {
    if (stack->place[key] == 0)
        return;
    stack->hole[stack->place[key]] = stack->size[key];
    if (stack->size[key] > 0)
        heap_push(stack, stack->place[key]);
    stack->place[key] = 0;
}

static void enter(struct stack *stack, uint32_t key, uint32_t size) {
    uint64_t missing = size;
    while (missing > 0 && stack->heap_count > 0) {
        uint32_t place = stack->heap[0];
        uint64_t bytes = stack->hole[place] < missing ? stack->hole[place] : missing;
        stack->hole[place] -= bytes;
        if (stack->hole[place] == 0)
            heap_pop(stack);
        tree_add(stack, place, UINT64_C(0) - bytes);
        stack->total -= bytes;
        missing -= bytes;
    }
    stack->place[key] = ++stack->top;
    stack->size[key] = size;
    tree_add(stack, stack->top, size);
    stack->total += size;
}

/* ---- the walk --------------------------------------------------------------------------------------------------- */

static int open_stack(const struct trace *trace, struct stack *stack) {
    *stack = (struct stack){.places = trace->count};
    stack->tree = calloc(trace->count + 1u, sizeof *stack->tree);
    stack->hole = calloc(trace->count + 1u, sizeof *stack->hole);
    stack->heap = calloc(trace->count + 1u, sizeof *stack->heap);
    stack->place = calloc(trace->key_limit, sizeof *stack->place);
    stack->size = calloc(trace->key_limit, sizeof *stack->size);
    return stack->tree && stack->hole && stack->heap && stack->place && stack->size ? 0 : LARDER_ENO_MEMORY;
}

static void close_stack(struct stack *stack) {
    free(stack->tree);
    free(stack->hole);
    free(stack->heap);
    free(stack->place);
    free(stack->size);
}

/* Counts the hit at the smallest of the sizes that it needs. */
static void count_hit(const struct lru_curve *curve, uint64_t *hits, uint64_t distance) {
    unsigned low = 0, high = curve->count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (curve->bytes[middle] < distance)
            low = middle + 1;
        else
            high = middle;
    }
    hits[low]++; /* low == count: in none */
}

static int walk(const struct trace *trace, struct lru_curve *curve) {
    struct stack stack;
    uint64_t hits[LRU_CURVE_POINTS + 1] = {0}, sum = 0;
    int error = open_stack(trace, &stack);
    for (size_t i = 0; error == 0 && i < trace->count; i++) {
        const struct trace_row *row = &trace->rows[i];
        uint32_t place = stack.place[row->key], size = row->size > 0 ? row->size : 1;
        if (trace_row_op(row) == TRACE_GET && place != 0)
            count_hit(curve, hits, stack.total - tree_sum(&stack, place - 1u));
        leave(&stack, row->key);
        if (trace_row_op(row) != TRACE_DEL)
            enter(&stack, row->key, size);
    }
    for (unsigned i = 0; error == 0 && i < curve->count; i++) {
        sum += hits[i];
        curve->miss_ratio[i] = trace->gets ? 1.0 - (double)sum / (double)trace->gets : 0.0;
    }
    close_stack(&stack);
    return error;
}

/* Whether all caches that an object fits into agree about sizes and deadlines. */
static int is_one_stack(const struct trace *trace, bool *out) {
    uint32_t *size = calloc(trace->key_limit, sizeof *size); /* and 1 more; 0: not there */
    *out = true;
    for (size_t i = 0; size != NULL && *out && i < trace->count; i++) {
        const struct trace_row *row = &trace->rows[i];
        uint32_t *known = &size[row->key];
        if (trace_row_op(row) == TRACE_DEL)
            *known = 0;
        else if (trace_row_ttl_s(row) > 0 || (trace_row_op(row) == TRACE_GET && *known > 0 && *known != row->size + 1u))
            *out = false;
        else
            *known = row->size + 1u;
    }
    free(size);
    return size ? 0 : LARDER_ENO_MEMORY;
}

int lru_curve_run(const struct trace *trace, struct lru_curve *curve) {
    bool one_stack;
    int error = is_one_stack(trace, &one_stack);
    if (error == 0 && one_stack)
        error = walk(trace, curve);
    for (unsigned i = 0; error == 0 && i < curve->count; i++) {
        struct reference_options options = {.kind = REFERENCE_lru, .capacity = curve->bytes[i]};
        struct reference_result result;
        if (one_stack && curve->bytes[i] >= trace->max_size)
            continue;
        error = reference_run(trace, &options, &result);
        curve->miss_ratio[i] = result.gets ? (double)result.misses / (double)result.gets : 0.0;
        curve->simulated++;
    }
    return error;
}
