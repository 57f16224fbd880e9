/* SPDX-License-Identifier: MIT */
/*
 * How much memory does each cache need for the same hits?
 *
 *   requests --> Larder at M bytes: hit ratio h
 *            --> each other: at a limit of M in its own terms, then at others, until it is known
 *                  what it hits where it takes M bytes            (equal memory)
 *                  how many bytes it takes where it hits h        (equal hits)
 *
 * Memory is what a process grew by since it was empty; for Larder all that grows with the items, which is reserved at
 * once. Deadlines are left out on all sides. Between two runs the answer is interpolated: hits over the logarithm of
 * bytes.
 */
#include "side.h"

#include "trace.h"
#include "value.h"
#include "workload.h"

#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_SIZES 8u
#define MOST_MIB (UINT64_C(1) << 20)
#define KV_REQUESTS 5000000u
#define OTHER_REQUESTS 1000000u
#define MOST_RUNS 8u   /* of a side, for each size */
#define MOST_TIMES 6.0 /* of Larder's memory: beyond it a side is given up */
#define CLOSE 0.002    /* of a hit ratio: near enough */
#define STEP 1.35      /* by which a limit grows while the hits are not matched */

static const struct side *const others[] = {&side_memcached, &side_redis_lru, &side_redis_lfu};
enum { OTHERS = sizeof others / sizeof others[0] };

struct outcome {
    uint64_t limit, memory;
    double hit_ratio;
};

struct runs {
    struct outcome at[MOST_RUNS];
    unsigned count;
};

static volatile sig_atomic_t ended; /* a signal: stop the side, so that nothing of it stays */

static void remember_signal(int number) {
    ended = number;
}

/* ---- one run ---------------------------------------------------------------------------------------------------- */

static void prepare(const struct trace_row *row, struct side_request *request) {
    *request = (struct side_request){.op = trace_row_op(row),
                                     .value_len = row->size > SIDE_KEY_BYTES ? row->size - SIDE_KEY_BYTES : 0};
    snprintf(request->key, sizeof request->key, "%016" PRIx64, value_key(row->key).hash);
}

/* Adds requests to a batch until it is full or a key comes again. Returns the next row. */
static size_t fill_batch(const struct trace *trace, size_t at, struct side_request *batch, uint32_t *last,
                         uint32_t mark, unsigned *count) {
    for (*count = 0; at < trace->count && *count < SIDE_BATCH; at++) {
        if (last[trace->rows[at].key] == mark)
            break;
        last[trace->rows[at].key] = mark;
        prepare(&trace->rows[at], &batch[(*count)++]);
    }
    return at;
}

static bool drive(const struct side *side, const struct trace *trace, const char *value, struct outcome *out) {
    static struct side_request batch[SIDE_BATCH];
    uint32_t *last = calloc(trace->key_limit, sizeof *last), mark = 0;
    uint64_t gets = 0, hits = 0;
    unsigned count;
    bool fine = last != NULL;
    for (size_t at = 0; fine && ended == 0 && at < trace->count;) {
        at = fill_batch(trace, at, batch, last, ++mark, &count);
        fine = side->get(batch, count) && side->store(batch, count, value);
        for (unsigned i = 0; i < count; i++) {
            gets += batch[i].op == TRACE_GET;
            hits += batch[i].hit;
        }
    }
    free(last);
    out->hit_ratio = gets ? (double)hits / (double)gets : 0.0;
    return fine && ended == 0;
}

static struct outcome run_at(const struct side *side, const struct trace *trace, const char *value, uint64_t limit) {
    struct outcome out = {.limit = limit};
    char why[SIDE_WHY_BYTES] = "";
    time_t started = time(NULL);
    if (!side->start(limit, why)) {
        fprintf(stderr, "larder-compare: %s: %s\n", side->name, why);
        exit(1);
    }
    if (!drive(side, trace, value, &out)) {
        fprintf(stderr, "larder-compare: %s %s\n", side->name, ended ? "was stopped" : "went away");
        side->stop();
        exit(1);
    }
    out.memory = side->memory();
    side->stop();
    fprintf(stderr, "  %-10s limit %7.1f MiB: took %7.1f MiB, hit ratio %.4f, %ld s\n", side->name,
            (double)limit / 1048576, (double)out.memory / 1048576, out.hit_ratio, (long)(time(NULL) - started));
    return out;
}

/* ---- the search ------------------------------------------------------------------------------------------------- */

/* The runs next to x on both sides, by memory or by hits; false where there is none on one side. */
static bool find_between(const struct runs *runs, double x, bool by_hits, struct outcome *low, struct outcome *high) {
    bool below = false, above = false;
    for (unsigned i = 0; i < runs->count; i++) {
        const struct outcome *at = &runs->at[i];
        double own = by_hits ? at->hit_ratio : (double)at->memory;
        if (own <= x && (!below || own > (by_hits ? low->hit_ratio : (double)low->memory))) {
            *low = *at;
            below = true;
        }
        if (own >= x && (!above || own < (by_hits ? high->hit_ratio : (double)high->memory))) {
            *high = *at;
            above = true;
        }
    }
    return below && above;
}

static double between(double x, double x0, double x1, double y0, double y1) {
    return x1 > x0 ? y0 + (y1 - y0) * (x - x0) / (x1 - x0) : y0;
}

/* < 0: not known from these runs. */
static double hits_at(const struct runs *runs, double memory) {
    struct outcome low, high;
    if (!find_between(runs, memory, false, &low, &high))
        return -1;
    return between(log(memory), log((double)low.memory), log((double)high.memory), low.hit_ratio, high.hit_ratio);
}

static double memory_at(const struct runs *runs, double hit_ratio) {
    struct outcome low, high;
    if (!find_between(runs, hit_ratio, true, &low, &high))
        return -1;
    return exp(between(hit_ratio, low.hit_ratio, high.hit_ratio, log((double)low.memory), log((double)high.memory)));
}

/* The next limit that is worth a run; 0: all is known, or as well as it will be. */
static uint64_t next_limit(const struct runs *runs, const struct outcome *ours) {
    struct outcome low, high, last = runs->at[runs->count - 1];
    double target = (double)ours->memory;
    if (runs->count == MOST_RUNS)
        return 0;
    if (!find_between(runs, target, false, &low, &high)) {
        double scale = target / (double)last.memory;
        return (uint64_t)((double)last.limit * scale * (scale > 1 ? 1.03 : 0.97));
    }
    struct outcome least = runs->at[0], most = runs->at[0];
    for (unsigned i = 0; i < runs->count; i++) {
        least = runs->at[i].limit < least.limit ? runs->at[i] : least;
        most = runs->at[i].limit > most.limit ? runs->at[i] : most;
    }
    if (most.hit_ratio < ours->hit_ratio)
        return (double)most.memory < MOST_TIMES * target ? (uint64_t)((double)most.limit * STEP) : 0;
    if (least.hit_ratio > ours->hit_ratio)
        return (double)least.memory > target / MOST_TIMES ? (uint64_t)((double)least.limit / STEP) : 0;
    if (!find_between(runs, ours->hit_ratio, true, &low, &high) || high.hit_ratio - low.hit_ratio < CLOSE ||
        (double)high.memory < 1.08 * (double)low.memory)
        return 0;
    return (uint64_t)exp(
        between(ours->hit_ratio, low.hit_ratio, high.hit_ratio, log((double)low.limit), log((double)high.limit)));
}

static void search(const struct side *side, const struct trace *trace, const char *value, const struct outcome *ours,
                   struct runs *runs) {
    runs->count = 0;
    for (uint64_t limit = ours->memory; limit != 0; limit = next_limit(runs, ours))
        runs->at[runs->count++] = run_at(side, trace, value, limit);
}

/* ---- what it says ----------------------------------------------------------------------------------------------- */

static void print_side(const struct side *side, const struct runs *runs, const struct outcome *ours) {
    double hits = hits_at(runs, (double)ours->memory), memory = memory_at(runs, ours->hit_ratio);
    printf("  %-10s", side->name);
    if (hits >= 0)
        printf("  %.4f in as much", hits);
    else
        printf("  ?      in as much");
    if (memory >= 0)
        printf("   %7.1f MiB for as many hits, %.2f times\n", memory / 1048576, memory / (double)ours->memory);
    else
        printf("   not found for as many hits in %u runs\n", runs->count);
    fflush(stdout);
}

static json_t *number_or_null(double number) {
    return number >= 0 ? json_real(number) : json_null();
}

static json_t *side_json(const struct side *side, const struct runs *runs, const struct outcome *ours) {
    double memory = memory_at(runs, ours->hit_ratio);
    json_t *all = json_array();
    for (unsigned i = 0; i < runs->count; i++)
        json_array_append_new(all, json_pack("{s:I, s:I, s:f}", "limit", (json_int_t)runs->at[i].limit, "memory",
                                             (json_int_t)runs->at[i].memory, "hit_ratio", runs->at[i].hit_ratio));
    return json_pack("{s:s, s:o, s:o, s:o, s:o}", "name", side->name, "hit_ratio_in_as_much",
                     number_or_null(hits_at(runs, (double)ours->memory)), "memory_for_as_many_hits",
                     number_or_null(memory), "times", number_or_null(memory / (double)ours->memory), "runs", all);
}

/* Adds a row to `rows`, or prints it where that is NULL. */
static void compare_all(const char *name, const struct trace *trace, uint64_t size, json_t *rows) {
    char *value = malloc((size_t)trace->max_size + 1u);
    json_t *sides = json_array();
    if (value == NULL || sides == NULL)
        exit(1);
    for (uint32_t i = 0; i < trace->max_size; i++)
        value[i] = (char)value_mix(i);
    fprintf(stderr, "%s, Larder at %.1f MiB\n", name, (double)size / 1048576);
    struct outcome ours = run_at(&side_larder, trace, value, size);
    if (rows == NULL) {
        printf("%s, %zu requests, %" PRIu32 " keys, footprint %.1f MiB\n", name, trace->count, trace->keys,
               (double)trace->footprint / 1048576);
        printf("  %-10s  %.4f in %.1f MiB\n", side_larder.name, ours.hit_ratio, (double)ours.memory / 1048576);
        fflush(stdout);
    }
    for (unsigned i = 0; i < OTHERS; i++) {
        struct runs runs;
        search(others[i], trace, value, &ours, &runs);
        if (rows == NULL)
            print_side(others[i], &runs, &ours);
        else
            json_array_append_new(sides, side_json(others[i], &runs, &ours));
    }
    json_array_append_new(rows, json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:O}", "source", name, "requests",
                                          (json_int_t)trace->count, "keys", (json_int_t)trace->keys, "footprint",
                                          (json_int_t)trace->footprint, "memory", (json_int_t)ours.memory, "hit_ratio",
                                          ours.hit_ratio, "others", sides));
    json_decref(sides);
    free(value);
}

/* ---- the command line ------------------------------------------------------------------------------------------- */

static void print_usage(FILE *out) {
    fputs("usage: larder-compare [--json] [--size MIB[,MIB...]] [--requests N] [--seed N] WORKLOAD|TRACE...\n"
          "Drives Larder, memcached and Redis with the same requests, without TTLs, and prints what each hits in as\n"
          "much memory and what memory each needs for as many hits. Workloads and traces as of larder "
          "replay.\n"
          "  --size MIB    memory of Larder (default 64); several, separated by commas\n"
          "  --requests N  length of a workload (default 5000000 for kv, 1000000 for others)\n"
          "  --seed N      of a workload (default 1)\n"
          "  --json        one object on standard output: comparisons, of each source, requests, keys, footprint,\n"
          "                memory (Larder's, bytes), hit_ratio, others: of each name, hit_ratio_in_as_much,\n"
          "                memory_for_as_many_hits, times (as much as Larder; null: not found), runs\n",
          out);
}

struct wanted {
    uint64_t sizes[MOST_SIZES];
    unsigned count;
    uint64_t requests, seed; /* requests 0: as many as the kind needs to be much larger than the sizes */
};

/* "64,128": MiB. */
static bool parse_sizes(const char *text, struct wanted *wanted) {
    for (wanted->count = 0; wanted->count < MOST_SIZES; text++) {
        char *end;
        uint64_t size = strtoull(text, &end, 10);
        if (end == text || size == 0 || size > MOST_MIB)
            return false;
        wanted->sizes[wanted->count++] = size << 20;
        text = end;
        if (*text != ',')
            return *text == '\0';
    }
    return false;
}

static int compare_source(const char *source, const struct wanted *wanted, json_t *rows) {
    struct trace trace;
    char why[TRACE_WHY_BYTES] = "";
    int kind = workload_kind(source);
    uint64_t requests = wanted->requests ? wanted->requests : kind == WORKLOAD_kv ? KV_REQUESTS : OTHER_REQUESTS;
    int error = kind >= 0 ? workload_generate((enum workload_kind)kind, wanted->seed, requests, &trace, why)
                          : trace_load(source, &trace, why);
    if (error != 0) {
        fprintf(stderr, "larder-compare: %s\n", why);
        return 2;
    }
    for (unsigned i = 0; i < wanted->count; i++)
        if (trace.footprint < 2 * wanted->sizes[i])
            fprintf(stderr, "larder-compare: %s has %.1f MiB, too little for a comparison at %.1f MiB: left out\n",
                    source, (double)trace.footprint / 1048576, (double)wanted->sizes[i] / 1048576);
        else
            compare_all(source, &trace, wanted->sizes[i], rows);
    trace_free(&trace);
    return 0;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"size", required_argument, NULL, 's'}, {"requests", required_argument, NULL, 'r'},
        {"seed", required_argument, NULL, 'x'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0}};
    struct wanted wanted = {.sizes = {UINT64_C(64) << 20}, .count = 1, .seed = 1};
    json_t *rows = NULL;
    int option, status = 0;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h')
            return print_usage(stdout), 0;
        if (option == '?' || (option == 's' && !parse_sizes(optarg, &wanted)))
            return print_usage(stderr), 2;
        if (option == 'j' && rows == NULL)
            rows = json_array();
        else if (option == 'r' || option == 'x')
            *(option == 'r' ? &wanted.requests : &wanted.seed) = strtoull(optarg, NULL, 10);
    }
    if (optind == argc)
        return print_usage(stderr), 2;
    signal(SIGINT, remember_signal);
    signal(SIGTERM, remember_signal);
    for (int i = optind; i < argc && status == 0; i++)
        status = compare_source(argv[i], &wanted, rows);
    if (rows == NULL || status != 0)
        return status;
    json_t *all = json_pack("{s:o}", "comparisons", rows);
    json_dumpf(all, stdout, JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(all);
    return 0;
}
