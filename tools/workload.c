/* SPDX-License-Identifier: MIT */
/*
 * Drawing the workloads of workload.h.
 *
 * Zipf ranks come from rejection-inversion (W. Hörmann, G. Derflinger, "Rejection-inversion to generate variates from
 * monotone discrete distributions", ACM TOMACS 1996): constant time for any exponent and no table.
 */
#include "workload.h"

#include "larder_errors.h"
#include "pattern.h"
#include "value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What makes a kind. Shares are of the requests. */
struct shape {
    double exponent;
    double once;       /* share of requests for a key that never comes again */
    double sets, dels; /* shares */
    double redrawn;    /* share of the sets that change the key's size */
    unsigned requests_per_s;
    unsigned popular_divisor; /* popular keys = requests / this */
    uint32_t (*size)(struct draw *draw);
    struct {
        double share;
        uint32_t ttl_s;
    } ttls[5]; /* shares add up to 1 */
};

/* ---- draws ------------------------------------------------------------------------------------------------------ */

struct draw draw_seeded(uint64_t seed) {
    return (struct draw){.state = value_mix(seed)};
}

uint64_t draw_bits(struct draw *draw) {
    draw->state += UINT64_C(0x9e3779b97f4a7c15);
    return value_mix(draw->state);
}

uint64_t draw_below(struct draw *draw, uint64_t limit) {
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)(((wide)draw_bits(draw) * limit) >> 64);
}

double draw_unit(struct draw *draw) {
    return (double)(draw_bits(draw) >> 11) * 0x1p-53;
}

double draw_normal(struct draw *draw) {
    double radius = sqrt(-2.0 * log(1.0 - draw_unit(draw)));
    return radius * cos(2.0 * acos(-1.0) * draw_unit(draw));
}

/* The integral of x^-exponent, its inverse, and x^-exponent itself, well-behaved around exponent 1. */
static double zipf_integral(double exponent, double x) {
    double log_x = log(x), y = (1.0 - exponent) * log_x;
    return (fabs(y) > 1e-8 ? expm1(y) / y : 1.0 + y / 2.0) * log_x;
}

static double zipf_inverse(double exponent, double x) {
    double y = fmax(x * (1.0 - exponent), -1.0);
    return exp((fabs(y) > 1e-8 ? log1p(y) / y : 1.0 - y / 2.0) * x);
}

static double zipf_weight(double exponent, double x) {
    return exp(-exponent * log(x));
}

struct zipf zipf_make(uint64_t count, double exponent) {
    return (struct zipf){
        .count = (double)count,
        .exponent = exponent,
        .low = zipf_integral(exponent, 1.5) - 1.0,
        .high = zipf_integral(exponent, (double)count + 0.5),
        .skip = 2.0 - zipf_inverse(exponent, zipf_integral(exponent, 2.5) - zipf_weight(exponent, 2.0)),
    };
}

uint64_t zipf_draw(const struct zipf *zipf, struct draw *draw) {
    for (;;) {
        double u = zipf->high + draw_unit(draw) * (zipf->low - zipf->high);
        double x = zipf_inverse(zipf->exponent, u);
        double rank = fmin(fmax(floor(x + 0.5), 1.0), zipf->count);
        if (rank - x <= zipf->skip ||
            u >= zipf_integral(zipf->exponent, rank + 0.5) - zipf_weight(zipf->exponent, rank))
            return (uint64_t)rank - 1u;
    }
}

/* ---- shapes ----------------------------------------------------------------------------------------------------- */

static uint32_t clamp_size(double bytes, double most) {
    return VALUE_KEY_BYTES + (uint32_t)fmin(fmax(bytes, 1.0), most);
}

static uint32_t size_kv(struct draw *draw) {
    double pareto = 214.476 / 0.348238 * (pow(1.0 - draw_unit(draw), -0.348238) - 1.0);
    return clamp_size(pareto, 256e3);
}

static uint32_t size_web(struct draw *draw) {
    /* 7 % in the tail, as in the paper; sizes divided by 5.7. */
    if (draw_unit(draw) < 0.07)
        return clamp_size(23000.0 * pow(1.0 - draw_unit(draw), -1.0 / 1.1), 512e3);
    return clamp_size(exp(log(2048.0) + 1.318 * draw_normal(draw)), 512e3);
}

static uint32_t size_ttl(struct draw *draw) {
    return clamp_size(exp(log(214.0) + 1.0 * draw_normal(draw)), 64e3);
}

static const struct shape shapes[WORKLOAD_scan] = {
    [WORKLOAD_kv] = {.exponent = 0.99,
                     .once = 0.05,
                     .sets = 0.032,
                     .dels = 0.004,
                     .redrawn = 0.3,
                     .requests_per_s = 500,
                     .popular_divisor = 6,
                     .size = size_kv,
                     .ttls = {{1.0, 0}}},
    [WORKLOAD_web] = {.exponent = 0.8,
                      .once = 0.20,
                      .sets = 0.002,
                      .dels = 0.0,
                      .redrawn = 1.0,
                      .requests_per_s = 50,
                      .popular_divisor = 8,
                      .size = size_web,
                      .ttls = {{0.8, 0}, {0.2, 86400}}},
    [WORKLOAD_ttl] = {.exponent = 1.0,
                      .once = 0.05,
                      .sets = 0.32,
                      .dels = 0.01,
                      .redrawn = 0.5,
                      .requests_per_s = 100,
                      .popular_divisor = 6,
                      .size = size_ttl,
                      .ttls = {{0.30, 60}, {0.25, 600}, {0.10, 3600}, {0.10, 43200}, {0.25, 259200}}},
};

int workload_kind(const char *name) {
#define X(kind, sentence)                                                                                              \
    if (strcmp(name, #kind) == 0)                                                                                      \
        return WORKLOAD_##kind;
    WORKLOADS(X)
#undef X
    return -1;
}

static uint32_t draw_ttl(const struct shape *shape, struct draw *draw) {
    double at = draw_unit(draw);
    unsigned i = 0;
    while (i + 1 < sizeof shape->ttls / sizeof shape->ttls[0] && at >= shape->ttls[i].share)
        at -= shape->ttls[i++].share;
    return shape->ttls[i].ttl_s;
}

struct popular {
    uint32_t id; /* + 1; 0: not asked for yet */
    uint32_t size, ttl_s;
};

static int push_shape(const struct shape *shape, struct draw *draw, uint64_t requests, struct trace *out) {
    uint64_t count = requests / shape->popular_divisor + 1u;
    struct popular *popular = calloc(count, sizeof *popular);
    int error = popular ? 0 : LARDER_ENO_MEMORY;
    struct zipf zipf = zipf_make(count, shape->exponent);
    uint32_t next_id = 0;
    for (uint64_t i = 0; i < requests && error == 0; i++) {
        uint32_t time_s = (uint32_t)(i / shape->requests_per_s);
        double what = draw_unit(draw);
        if (what < shape->once) {
            uint32_t size = shape->size(draw);
            error = trace_push(out, time_s, next_id++, size, TRACE_GET, draw_ttl(shape, draw));
            continue;
        }
        what -= shape->once;
        struct popular *key = &popular[zipf_draw(&zipf, draw)];
        if (key->id == 0)
            *key = (struct popular){++next_id, shape->size(draw), draw_ttl(shape, draw)};
        enum trace_op op = what < shape->sets ? TRACE_SET : what < shape->sets + shape->dels ? TRACE_DEL : TRACE_GET;
        if (op == TRACE_SET && draw_unit(draw) < shape->redrawn)
            key->size = shape->size(draw);
        error = trace_push(out, time_s, key->id - 1u, key->size, op, key->ttl_s);
    }
    free(popular);
    return error;
}

int workload_generate(enum workload_kind kind, uint64_t seed, uint64_t requests, struct trace *out, char *why) {
    struct draw draw = draw_seeded(seed + 1000003u * (uint64_t)kind);
    *out = (struct trace){0};
    if (requests == 0 || requests > TRACE_MAX_KEY) {
        snprintf(why, TRACE_WHY_BYTES, "cannot generate %llu requests: 1 to %u", (unsigned long long)requests,
                 TRACE_MAX_KEY);
        return LARDER_EINVALID;
    }
    int error = kind < WORKLOAD_scan ? push_shape(&shapes[kind], &draw, requests, out)
                                     : pattern_push(kind, &draw, requests, out);
    if (error == 0)
        error = trace_finish(out);
    if (error != 0) {
        snprintf(why, TRACE_WHY_BYTES, "no memory to generate %llu requests", (unsigned long long)requests);
        trace_free(out);
    }
    return error;
}
