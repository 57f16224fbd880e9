/* SPDX-License-Identifier: MIT */
/* Drawing the patterns of pattern.h. */
#include "pattern.h"

#include "value.h"

#include <math.h>

#define LEAST_SIZE (VALUE_KEY_BYTES + 1u)
#define MOST_SIZE 65536.0
#define SCAN_STRETCHES 120u
#define SCAN_EVERY 5u
#define LOOP_TIMES 6u
#define SHIFT_EVERY 10u
#define RESIZE_REQUESTS 4u /* of a phase, for each of its smallest keys */
#define TINY_BYTES 50u
#define TINY_WANTED_BYTES 400u

/* Of a key, whenever it is asked for. */
static uint32_t size_of(uint64_t key, double median, double spread) {
    struct draw own = draw_seeded(key);
    double size = median * exp(spread * draw_normal(&own));
    return size < LEAST_SIZE ? LEAST_SIZE : size > MOST_SIZE ? (uint32_t)MOST_SIZE : (uint32_t)size;
}

/* Neighbours in rank are none in number. */
static uint32_t scatter(uint64_t rank, uint64_t count) {
    return (uint32_t)((rank * UINT64_C(2654435761) + 12345u) % count);
}

static int push(struct trace *out, uint32_t key, uint32_t size) {
    return trace_push(out, 0, key, size, TRACE_GET, 0);
}

static int push_scan(struct draw *draw, uint64_t requests, struct trace *out) {
    const uint64_t wanted = requests / 12 + 1, stretch = requests / SCAN_STRETCHES + 1;
    const struct zipf zipf = zipf_make(wanted, 1.0);
    uint64_t fresh = wanted;
    int error = 0;
    for (uint64_t i = 0; i < requests && error == 0; i++) {
        const bool scans = draw_unit(draw) < (i / stretch % SCAN_EVERY == 1 ? 0.95 : 0.05);
        const uint64_t key = scans ? fresh++ : zipf_draw(&zipf, draw);
        error = push(out, (uint32_t)key, size_of(key, 300, 0.8));
    }
    return error;
}

static int push_loop(struct draw *draw, uint64_t requests, struct trace *out) {
    uint64_t first = 0;
    int error = 0;
    while (out->count < requests && error == 0) {
        const uint64_t keys = (uint64_t)((double)requests / 200 * exp(draw_unit(draw) * log(200.0 / 12))) + 1;
        for (uint64_t i = 0; i < keys * LOOP_TIMES && out->count < requests && error == 0; i++)
            error = push(out, (uint32_t)(first + i % keys), size_of(first + i % keys, 200, 1.2));
        first += keys;
    }
    return error;
}

static int push_shift(struct draw *draw, uint64_t requests, struct trace *out) {
    const uint64_t ranks = requests / 10 + 1, keys = 2 * ranks;
    const struct zipf zipf = zipf_make(ranks, 0.8);
    int error = 0;
    for (uint64_t i = 0; i < requests && error == 0; i++) {
        const uint32_t key = scatter((zipf_draw(&zipf, draw) + i / SHIFT_EVERY) % keys, keys);
        error = push(out, key, size_of(key, 200, 1.2));
    }
    return error;
}

static int push_resize(struct draw *draw, uint64_t requests, struct trace *out) {
    static const uint32_t sizes[] = {200, 20000, 200, 1000};
    const uint64_t phases = sizeof sizes / sizeof sizes[0], each = requests / phases + 1;
    uint64_t first = 0;
    int error = 0;
    for (unsigned phase = 0; phase < phases; phase++) {
        const uint64_t keys = each / RESIZE_REQUESTS * sizes[0] / sizes[phase] + 1;
        const struct zipf zipf = zipf_make(keys, 0.8);
        for (uint64_t i = 0; i < each && out->count < requests && error == 0; i++)
            error = push(out, (uint32_t)(first + zipf_draw(&zipf, draw)), sizes[phase]);
        first += keys;
    }
    return error;
}

static int push_tiny(struct draw *draw, uint64_t requests, struct trace *out) {
    const uint64_t wanted = requests / 12 + 1;
    const struct zipf zipf = zipf_make(wanted, 0.8);
    uint64_t fresh = wanted;
    int error = 0;
    for (uint64_t i = 0; i < requests && error == 0; i++) {
        const bool tiny = draw_unit(draw) < 0.6;
        error = push(out, (uint32_t)(tiny ? fresh++ : zipf_draw(&zipf, draw)), tiny ? TINY_BYTES : TINY_WANTED_BYTES);
    }
    return error;
}

int pattern_push(enum workload_kind kind, struct draw *draw, uint64_t requests, struct trace *out) {
    switch (kind) {
    case WORKLOAD_scan:
        return push_scan(draw, requests, out);
    case WORKLOAD_loop:
        return push_loop(draw, requests, out);
    case WORKLOAD_shift:
        return push_shift(draw, requests, out);
    case WORKLOAD_resize:
        return push_resize(draw, requests, out);
    default:
        return push_tiny(draw, requests, out);
    }
}
