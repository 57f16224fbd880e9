/* SPDX-License-Identifier: MIT */
/*
 * Are the simulations that Larder is held against what the literature says, and do the tables and plots say what they
 * found?
 *
 * Each policy is walked through a trace that is short enough to follow by hand: objects of one byte, named by letters,
 * a capacity in objects, and for each get whether it is a hit (h) or a miss (m). The exact LRU curve, computed from
 * stack distances, must equal a plain simulation at every size, to the last get. Then whole tables of the program.
 */
#include "fixture.h"

#include "lru_curve.h"
#include "reference.h"
#include "workload.h"

#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

/* ---- by hand ---------------------------------------------------------------------------------------------------- */

/* A small letter gets the object of that name, a capital sets it, and one behind '-' is deleted. */
static void spell(struct trace *trace, const char *requests) {
    *trace = (struct trace){0};
    for (const char *at = requests; *at != '\0'; at++) {
        enum trace_op op = *at == '-' ? TRACE_DEL : isupper((unsigned char)*at) ? TRACE_SET : TRACE_GET;
        at += op == TRACE_DEL;
        CU_ASSERT_EQUAL(trace_push(trace, 0, (uint32_t)(tolower((unsigned char)*at) - 'a'), 1, op, 0), 0);
    }
    CU_ASSERT_EQUAL(trace_finish(trace), 0);
}

static void expect(enum reference_kind kind, uint64_t capacity, const char *requests, const char *outcomes) {
    struct reference_options options = {.kind = kind, .capacity = capacity};
    struct trace trace;
    char seen[128] = "";
    uint64_t gets = 0, misses = 0;
    spell(&trace, requests);
    size_t all = trace.count;
    /* What the nth get does is the difference of the first n requests and the first n - 1. */
    for (size_t n = 1; n <= all; n++) {
        struct reference_result result;
        trace.count = n;
        CU_ASSERT_EQUAL(reference_run(&trace, &options, &result), 0);
        if (result.gets > gets)
            seen[gets] = result.misses > misses ? 'm' : 'h';
        gets = result.gets;
        misses = result.misses;
    }
    if (strcmp(seen, outcomes) != 0)
        printf("\n    %s, %" PRIu64 " objects:\n      %s\n      %s expected\n      %s found\n", reference_name(kind),
               capacity, requests, outcomes, seen);
    CU_ASSERT_STRING_EQUAL(seen, outcomes);
    trace_free(&trace);
}

static void lru_evicts_what_was_not_used_for_longest(void) {
    expect(REFERENCE_lru, 3, "abcadabcda", "mmmhmhmmmm");
    expect(REFERENCE_lru, 3, "abcAdab", "mmmmhm"); /* a set is a use */
    expect(REFERENCE_lru, 3, "abc-bdac", "mmmmhh");
}

static void clock_spares_once_what_was_hit(void) {
    expect(REFERENCE_clock, 3, "abcadabcda", "mmmhmhmmmh");
    expect(REFERENCE_clock, 2, "aaaabcdea", "mhhhmmmmm");
    expect(REFERENCE_clock2, 2, "aaaabcdea", "mhhhmmmmh"); /* three hits last for three laps */
    expect(REFERENCE_clock2, 2, "aaaaaabcdefa", "mhhhhhmmmmmm");
}

static void sieve_keeps_its_hand_where_it_evicted(void) {
    expect(REFERENCE_sieve, 3, "abcadbea", "mmmhmmmh");
    expect(REFERENCE_clock, 3, "abcadbea", "mmmhmmmm");
    expect(REFERENCE_sieve, 3, "abcad-cbea", "mmmhmmmh"); /* the hand moves on from what is deleted */
}

static void arc_learns_from_its_ghosts(void) {
    expect(REFERENCE_arc, 2, "aabcbdcacd", "mhmmmmhmhm");
    expect(REFERENCE_lru, 2, "aabcbdcacd", "mhmmhmmmhm");
}

static void s3fifo_promotes_at_two_hits_and_from_ghosts(void) {
    expect(REFERENCE_s3fifo, 10, "abcdefghijaakbab", "mmmmmmmmmmhhmmhh"); /* a by hits, b by its ghost */
    expect(REFERENCE_s3fifo, 10, "abcdefghijkalmnopqrstuva", "mmmmmmmmmmmmmmmmmmmmmmmh"); /* main outlasts probation */
    expect(REFERENCE_s3fifo, 10, "abcdefghijbklb", "mmmmmmmmmmhmmm");                     /* one hit is not enough */
    expect(REFERENCE_clock, 10, "abcdefghijbklb", "mmmmmmmmmmhmmh");
}

static void wtinylfu_lets_in_who_is_asked_for_as_often_as_those_who_would_go(void) {
    /* No window in so small a cache: a newcomer meets a (asked for once) and takes its place; then c meets b, b. */
    expect(REFERENCE_wtinylfu, 2, "abca", "mmmm");
    expect(REFERENCE_wtinylfu, 2, "aabbcab", "mhmhmhh"); /* c was asked for once, a twice: it stays out */
    expect(REFERENCE_wtinylfu, 2, "aabbcca", "mhmhmmm"); /* at its second time it comes in, and a goes */
    expect(REFERENCE_lru, 2, "aabbcab", "mhmhmmm");
}

static void deadlines_and_charges_are_kept_by_all(void) {
    for (int kind = 0; kind < REFERENCE_COUNT; kind++) {
        struct reference_options options = {.kind = (enum reference_kind)kind, .capacity = 100000};
        struct reference_result result;
        struct trace trace = {0};
        trace_push(&trace, 0, 0, 10, TRACE_GET, 5);
        trace_push(&trace, 4, 0, 10, TRACE_GET, 5); /* a hit moves no deadline */
        trace_push(&trace, 5, 0, 10, TRACE_GET, 5); /* gone */
        trace_push(&trace, 5, 1, 10, TRACE_SET, 0);
        trace_push(&trace, 6, 1, 10, TRACE_GET, 0);
        trace_push(&trace, 7, 1, 10, TRACE_DEL, 0);
        trace_push(&trace, 8, 1, 10, TRACE_GET, 0);
        trace_push(&trace, 9, 2, 200000, TRACE_GET, 0); /* larger than all */
        trace_push(&trace, 9, 2, 200000, TRACE_GET, 0);
        trace_push(&trace, 9, 1, 10, TRACE_GET, 0);
        CU_ASSERT_EQUAL_FATAL(trace_finish(&trace), 0);
        CU_ASSERT_EQUAL(reference_run(&trace, &options, &result), 0);
        CU_ASSERT_EQUAL(result.gets, 8);
        CU_ASSERT_EQUAL(result.misses, 5);
        CU_ASSERT_EQUAL(result.get_bytes, 400060);
        CU_ASSERT_EQUAL(result.miss_bytes, 400030);
        trace_free(&trace);
    }
    /* Three of 10 bytes in 100 bytes: with 24 bytes of metadata each only two fit, in blocks of 24 + 16 too. */
    static const struct {
        uint32_t charge;
        uint64_t misses;
    } cases[] = {{0, 3}, {23, 3}, {24, 6}, {REFERENCE_CHARGE_BLOCK, 6}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct reference_options options = {.capacity = 100, .charge = cases[i].charge};
        struct reference_result result;
        struct trace trace = {0};
        for (unsigned n = 0; n < 6; n++)
            trace_push(&trace, 0, n % 3, 10, TRACE_GET, 0);
        CU_ASSERT_EQUAL_FATAL(trace_finish(&trace), 0);
        CU_ASSERT_EQUAL(reference_run(&trace, &options, &result), 0);
        CU_ASSERT_EQUAL(result.misses, cases[i].misses);
        trace_free(&trace);
    }
}

/* Its ghost takes it to main, where twelve that pass through probation do not reach it. */
static void s3fifo_knows_again_what_expired(void) {
    struct reference_options options = {.kind = REFERENCE_s3fifo, .capacity = 10};
    struct reference_result result;
    struct trace trace = {0};
    trace_push(&trace, 0, 0, 1, TRACE_GET, 5);
    trace_push(&trace, 6, 0, 1, TRACE_GET, 0);
    for (unsigned key = 1; key <= 12; key++)
        trace_push(&trace, 6, key, 1, TRACE_GET, 0);
    trace_push(&trace, 6, 0, 1, TRACE_GET, 0);
    CU_ASSERT_EQUAL_FATAL(trace_finish(&trace), 0);
    CU_ASSERT_EQUAL(reference_run(&trace, &options, &result), 0);
    CU_ASSERT_EQUAL(result.misses, 14);
    trace_free(&trace);
}

/* ---- what holds for all ----------------------------------------------------------------------------------------- */

/* Gets, sets that change sizes, and deletes; a get's size is that of what was last set. */
static void draw_trace(struct trace *trace, struct fixture_random *random, size_t requests) {
    enum { KEYS = 300 };
    uint32_t sizes[KEYS];
    for (unsigned i = 0; i < KEYS; i++)
        sizes[i] = 1 + (uint32_t)fixture_below(random, i % 10 ? 50 : 400);
    *trace = (struct trace){0};
    while (trace->count < requests) {
        uint32_t key = (uint32_t)(fixture_below(random, KEYS) * fixture_below(random, KEYS) / KEYS);
        uint64_t dice = fixture_below(random, 100);
        if (dice >= 90 && dice < 97)
            sizes[key] = 1 + (uint32_t)fixture_below(random, 100);
        trace_push(trace, 0, key, sizes[key], dice < 90 ? TRACE_GET : dice < 97 ? TRACE_SET : TRACE_DEL, 0);
    }
    CU_ASSERT_EQUAL_FATAL(trace_finish(trace), 0);
}

static void the_lru_curve_is_lru_at_every_size(void) {
    struct fixture_random random = fixture_seed("lru curve");
    for (unsigned round = 0; round < 20; round++) {
        struct lru_curve curve = {.count = LRU_CURVE_POINTS};
        struct trace trace;
        unsigned wrong = 0;
        draw_trace(&trace, &random, 6000);
        for (unsigned i = 0; i < LRU_CURVE_POINTS; i++)
            curve.bytes[i] = trace.max_size + i * (trace.footprint - trace.max_size) / (LRU_CURVE_POINTS - 2);
        CU_ASSERT_EQUAL(lru_curve_run(&trace, &curve), 0);
        CU_ASSERT_EQUAL(curve.simulated, 0);
        for (unsigned i = 0; i < LRU_CURVE_POINTS; i++) {
            struct reference_options options = {.kind = REFERENCE_lru, .capacity = curve.bytes[i]};
            struct reference_result result;
            CU_ASSERT_EQUAL(reference_run(&trace, &options, &result), 0);
            wrong += fabs(curve.miss_ratio[i] * (double)result.gets - (double)result.misses) > 1e-6;
        }
        CU_ASSERT_EQUAL(wrong, 0);
        trace_free(&trace);
    }
}

static void what_is_no_one_stack_is_simulated(void) {
    struct trace trace;
    char why[TRACE_WHY_BYTES];
    struct lru_curve curve = {.count = 2, .bytes = {100000, 1000000}};
    CU_ASSERT_EQUAL_FATAL(workload_generate(WORKLOAD_ttl, 3, 20000, &trace, why), 0);
    CU_ASSERT_EQUAL(lru_curve_run(&trace, &curve), 0);
    CU_ASSERT_EQUAL(curve.simulated, 2);
    CU_ASSERT_TRUE(curve.miss_ratio[0] > curve.miss_ratio[1] && curve.miss_ratio[1] > 0);
    trace_free(&trace);
    spell(&trace, "abab");
    trace.rows[1].size = 50;
    curve = (struct lru_curve){.count = 2, .bytes = {20, 100}}; /* b does not fit into the first */
    CU_ASSERT_EQUAL(lru_curve_run(&trace, &curve), 0);
    CU_ASSERT_EQUAL(curve.simulated, 2); /* the second get of b has another size than the first */
    trace.rows[3].size = 50;
    CU_ASSERT_EQUAL(trace_finish(&trace), 0);
    curve = (struct lru_curve){.count = 2, .bytes = {20, 100}};
    CU_ASSERT_EQUAL(lru_curve_run(&trace, &curve), 0);
    CU_ASSERT_EQUAL(curve.simulated, 1);
    CU_ASSERT_EQUAL(curve.miss_ratio[0], 0.75);
    CU_ASSERT_EQUAL(curve.miss_ratio[1], 0.5);
    trace_free(&trace);
}

/* With room for all, each key misses once whatever the policy; with room for some, it lies between that and no cache.
 */
static void every_policy_misses_each_key_once_where_all_fit(void) {
    struct fixture_random random = fixture_seed("references");
    struct trace trace;
    draw_trace(&trace, &random, 20000);
    for (size_t i = 0; i < trace.count; i++)
        trace.rows[i].ttl_op = TRACE_GET;
    CU_ASSERT_EQUAL_FATAL(trace_finish(&trace), 0);
    for (int kind = 0; kind < REFERENCE_COUNT; kind++) {
        struct reference_options options = {.kind = (enum reference_kind)kind, .capacity = 1000 * trace.footprint};
        struct reference_result result;
        CU_ASSERT_EQUAL(reference_run(&trace, &options, &result), 0);
        CU_ASSERT_EQUAL(result.misses, trace.keys);
        CU_ASSERT_EQUAL(result.evictions, 0);
        options.capacity = trace.footprint / 5;
        CU_ASSERT_EQUAL(reference_run(&trace, &options, &result), 0);
        CU_ASSERT_TRUE(result.misses > trace.keys && result.misses < trace.count / 4 * 3);
    }
    trace_free(&trace);
}

/* ---- tables and plots ------------------------------------------------------------------------------------------- */

static char output[1u << 20];

__attribute__((format(printf, 1, 2))) static int run(const char *format, ...) {
    char arguments[6000], command[12000];
    va_list list;
    va_start(list, format);
    vsnprintf(arguments, sizeof arguments, format, list);
    va_end(list);
    snprintf(command, sizeof command, "cd '%s' && '%s' %s", fixture_folder(), fixture_program("larder"), arguments);
    return fixture_run(command, output, sizeof output);
}

static void write_trace(const char *name, enum workload_kind kind, size_t requests) {
    static const char *const ops[] = {"get", "set", "del"};
    char path[5000], why[TRACE_WHY_BYTES];
    struct trace trace;
    CU_ASSERT_EQUAL_FATAL(workload_generate(kind, 5, requests, &trace, why), 0);
    snprintf(path, sizeof path, "%s/%s", fixture_folder(), name);
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    for (size_t i = 0; i < trace.count; i++)
        fprintf(file, "%u,%u,%u,%s,%u\n", trace.rows[i].time_s, trace.rows[i].key, trace.rows[i].size,
                ops[trace_row_op(&trace.rows[i])], trace_row_ttl_s(&trace.rows[i]));
    CU_ASSERT_EQUAL(fclose(file), 0);
    trace_free(&trace);
}

static double number_at(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    CU_ASSERT_TRUE(json_is_number(value));
    return json_number_value(value);
}

static const json_t *entry(const json_t *object, const char *array, size_t i) {
    return json_array_get(json_object_get(object, array), i);
}

/* The policies that `larder create --help` offers are those of the table. */
static unsigned policies_offered(void) {
    CU_ASSERT_EQUAL(run("create --help"), 0);
    const char *at = strstr(output, "--policy ");
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    unsigned count = 1;
    for (; *at != '\n'; at++)
        count += *at == '|';
    return count;
}

static void a_table_has_every_policy_at_every_size_of_every_trace(void) {
    unsigned offered = policies_offered();
    CU_ASSERT_TRUE(offered >= 2);
    char folder[5000];
    snprintf(folder, sizeof folder, "%s/table", fixture_folder());
    CU_ASSERT_EQUAL_FATAL(mkdir(folder, 0700), 0);
    write_trace("table/one.csv", WORKLOAD_kv, 10000);
    write_trace("table/two.csv", WORKLOAD_ttl, 10000);
    CU_ASSERT_EQUAL(
        run("replay --trace table/one.csv --trace table/two.csv --policy all --sizes 20%%,40%%,1M --reference arc,lru "
            "--charge 0,40,block --json"),
        0);
    json_t *table = json_loads(output, 0, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(table);
    CU_ASSERT_EQUAL(json_array_size(json_object_get(table, "traces")), 2);
    CU_ASSERT_EQUAL_FATAL(json_array_size(json_object_get(table, "points")), 6);
    CU_ASSERT_EQUAL(json_array_size(json_object_get(table, "means")), offered + 6);
    for (size_t i = 0; i < 6; i++) {
        const json_t *point = entry(table, "points", i);
        CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(point, "trace")), i < 3 ? "one" : "two");
        CU_ASSERT_EQUAL_FATAL(json_array_size(json_object_get(point, "policies")), offered);
        CU_ASSERT_EQUAL_FATAL(json_array_size(json_object_get(point, "references")), 6);
        const json_t *policy = entry(point, "policies", 0), *relative = entry(policy, "relative", 0);
        double lru = number_at(entry(point, "references", 1), "miss_ratio");
        double best = fmin(lru, number_at(entry(point, "references", 0), "miss_ratio"));
        double ours = number_at(policy, "miss_ratio");
        CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(policy, "policy")), "s3");
        CU_ASSERT_TRUE(number_at(policy, "cache_bytes") <= number_at(point, "bytes"));
        CU_ASSERT_TRUE(number_at(policy, "fixed_bytes") > 0 && number_at(policy, "ops_per_s") > 0);
        CU_ASSERT_TRUE(ours > 0 && ours < 1 && number_at(policy, "byte_miss_ratio") > 0);
        CU_ASSERT_TRUE(fabs(number_at(relative, "to_lru") - (ours / lru - 1)) < 1e-4);
        CU_ASSERT_TRUE(fabs(number_at(relative, "to_best") - (ours / best - 1)) < 1e-4);
        /* Metadata costs hits. */
        CU_ASSERT_TRUE(number_at(entry(point, "references", 3), "miss_ratio") >= lru);
    }
    json_decref(table);
    CU_ASSERT_EQUAL(run("replay --trace table --sizes 1M,5%% --least 1M"), 0); /* a folder, as a table of text */
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "over 2 points"));
    CU_ASSERT_EQUAL(run("replay --trace table/one.csv --trace table/two.csv --sizes 20%%,30%% --json | jq -e '.points "
                        "| length == 4'"),
                    0);
}

static void a_references_figure_is_that_of_its_simulation(void) {
    write_trace("same.csv", WORKLOAD_web, 20000);
    CU_ASSERT_EQUAL(run("replay --trace same.csv --sizes 5%%,20%% --reference --charge 0,24 --json"), 0);
    json_t *table = json_loads(output, 0, NULL);
    struct trace trace;
    char why[TRACE_WHY_BYTES];
    CU_ASSERT_PTR_NOT_NULL_FATAL(table);
    CU_ASSERT_EQUAL_FATAL(workload_generate(WORKLOAD_web, 5, 20000, &trace, why), 0);
    for (size_t i = 0; i < 2; i++)
        for (size_t n = 0; n < 2 * REFERENCE_COUNT; n++) {
            const json_t *point = entry(table, "points", i), *cell = entry(point, "references", n);
            struct reference_options options = {.kind = (enum reference_kind)(n % REFERENCE_COUNT),
                                                .capacity = (uint64_t)number_at(point, "bytes"),
                                                .charge = (uint32_t)number_at(cell, "charge")};
            struct reference_result result;
            CU_ASSERT_EQUAL(reference_run(&trace, &options, &result), 0);
            CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(cell, "reference")), reference_name(options.kind));
            CU_ASSERT_TRUE(fabs(number_at(cell, "miss_ratio") - (double)result.misses / (double)result.gets) < 1e-9);
        }
    trace_free(&trace);
    json_decref(table);
}

/* Elements are closed in the order in which they were opened, and text has no bare < or &. NULL, or what is wrong. */
static const char *judge_xml(char *at) {
    char *open[16];
    unsigned depth = 0, elements = 0;
    for (; *at != '\0'; at++) {
        if (*at == '&' && strncmp(at, "&amp;", 5) != 0 && strncmp(at, "&lt;", 4) != 0 && strncmp(at, "&gt;", 4) != 0)
            return "a bare &";
        if (*at == '>')
            return "a bare >";
        if (*at != '<')
            continue;
        char *end = at + strcspn(at, ">"), *name = at + 1 + (at[1] == '/');
        if (*end == '\0')
            return "an element without an end";
        unsigned quotes = 0;
        for (const char *in = at; in < end; in++)
            quotes += *in == '"';
        size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz");
        if (len == 0 || quotes % 2 != 0 || memchr(at + 1, '<', (size_t)(end - at - 1)) != NULL)
            return "no name, or an open quote";
        if (at[1] == '/') {
            if (depth == 0 || strncmp(open[--depth], name, len) != 0 || isalpha((unsigned char)open[depth][len]))
                return "closed in another order";
        } else if (end[-1] != '/') {
            if (depth == 16)
                return "too deep";
            open[depth++] = name;
        }
        elements++;
        at = end;
    }
    return depth != 0 ? "not closed" : elements < 20 ? "empty" : NULL;
}

static void a_plot_is_well_formed_and_has_a_line_for_each_series(void) {
    char path[5000], text[400000];
    write_trace("a&b<c>\".csv", WORKLOAD_kv, 20000);
    write_trace("plain.csv", WORKLOAD_web, 20000);
    CU_ASSERT_EQUAL(
        run("replay --trace 'a&b<c>\".csv' --trace plain.csv --sizes 1M,2M,4M --reference lru,sieve --charge 0,40 "
            "--plot curves.svg --json"),
        0);
    json_t *table = json_loads(output, 0, NULL);
    CU_ASSERT_EQUAL(json_array_size(json_object_get(entry(table, "traces", 0), "lru_curve")), LRU_CURVE_POINTS);
    /* On the curve, LRU at each size lies between the points around it. */
    const json_t *curve = json_object_get(entry(table, "traces", 1), "lru_curve");
    for (size_t i = 3; i < 6; i++) {
        double lru = number_at(entry(entry(table, "points", i), "references", 0), "miss_ratio");
        double bytes = number_at(entry(table, "points", i), "bytes");
        size_t above = 0;
        while (number_at(json_array_get(curve, above), "bytes") < bytes)
            above++;
        CU_ASSERT_TRUE(number_at(json_array_get(curve, above), "miss_ratio") <= lru + 1e-9);
        CU_ASSERT_TRUE(number_at(json_array_get(curve, above - 1), "miss_ratio") >= lru - 1e-9);
    }
    json_decref(table);
    snprintf(path, sizeof path, "%s/curves.svg", fixture_folder());
    FILE *file = fopen(path, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    unsigned lines = 0;
    for (const char *at = text; (at = strstr(at, "<circle")) != NULL; at++)
        lines++;
    CU_ASSERT_EQUAL(lines, 2 * 3 * (1 + 4)); /* traces, sizes, the default policy and the references */
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "a&amp;b&lt;c&gt;"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "exact LRU"));
    const char *wrong = judge_xml(text);
    if (wrong != NULL)
        printf("\n    the plot: %s\n", wrong);
    CU_ASSERT_PTR_NULL(wrong);
    CU_ASSERT_EQUAL(run("replay --generate kv --requests 1000 --size 1M --plot nowhere/x.svg"), 2);
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "nowhere/x.svg"));
}

/* At equal memory, LRU charged for metadata. A loop that just fits is what the default is bad at (shm/README.md). */
static void the_default_is_never_far_from_lru(void) {
    static const struct {
        const char *kind, *sizes;
    } cases[] = {
        {"scan", "10%,50%"}, {"shift", "10%,50%"}, {"tiny", "10%,50%"}, {"loop", "3%,10%"}, {"resize", "3%,10%"}};
    for (size_t i = 0; i < (FIXTURE_SANITIZED ? 1 : sizeof cases / sizeof cases[0]); i++) {
        CU_ASSERT_EQUAL_FATAL(run("replay --generate %s --requests 150000 --sizes %s --policy s3 --reference=lru "
                                  "--charge 40 --json",
                                  cases[i].kind, cases[i].sizes),
                              0);
        json_t *table = json_loads(output, 0, NULL);
        for (size_t k = 0; k < 2; k++) {
            const json_t *policy = entry(entry(table, "points", k), "policies", 0);
            const double to_lru = number_at(entry(policy, "relative", 0), "to_lru");
            if (to_lru > 0.05)
                printf("\n    %s, point %zu of %s: %+.1f %% of LRU\n", cases[i].kind, k, cases[i].sizes, 100 * to_lru);
            CU_ASSERT_TRUE(to_lru <= 0.05);
        }
        json_decref(table);
    }
}

static void bad_lists_are_refused_with_the_word(void) {
    static const struct {
        const char *arguments, *text;
    } cases[] = {
        {"--generate kv --sizes 10%,x", "\"x\""},
        {"--generate kv --sizes 10%,,20%", "word 2 is empty"},
        {"--generate kv --sizes 0%", "\"0%\""},
        {"--generate kv --sizes 10% --size 20%", "exclude each other"},
        {"--generate kv --policy clock,best", "\"best\""},
        {"--generate kv --reference=lru,opt --size 1M", "\"opt\""},
        {"--generate kv --charge 40", "--reference"},
        {"--generate kv --reference --charge 40,x", "\"x\""},
        {"--generate kv --reference --charge 65537", "65536"},
        {"--generate kv --sizes 1M --jobs 0", "1 to 64"},
        {"--generate kv --sizes 1M --name some", "--sizes"},
        {"--generate kv --plot x.svg --name some", "table"},
        {"--trace empty", "empty"},
        {"--trace one.csv --trace /nonexistent/file", "No such file"},
    };
    char folder[5000];
    snprintf(folder, sizeof folder, "%s/empty", fixture_folder());
    mkdir(folder, 0700);
    write_trace("one.csv", WORKLOAD_kv, 1000);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int status = run("replay %s", cases[i].arguments);
        if (status != 2 || strstr(output, cases[i].text) == NULL)
            printf("\n    replay %s: exit %d: %s\n", cases[i].arguments, status, output);
        CU_ASSERT_EQUAL(status, 2);
        CU_ASSERT_PTR_NOT_NULL(strstr(output, cases[i].text));
    }
}

void larder_suite_89_reference(void) {
    CU_pSuite suite = CU_add_suite("89_reference: simulations of other policies, tables and plots", NULL, NULL);
#define ADD(test) CU_add_test(suite, #test, test)
    ADD(lru_evicts_what_was_not_used_for_longest);
    ADD(clock_spares_once_what_was_hit);
    ADD(sieve_keeps_its_hand_where_it_evicted);
    ADD(arc_learns_from_its_ghosts);
    ADD(s3fifo_promotes_at_two_hits_and_from_ghosts);
    ADD(wtinylfu_lets_in_who_is_asked_for_as_often_as_those_who_would_go);
    ADD(deadlines_and_charges_are_kept_by_all);
    ADD(s3fifo_knows_again_what_expired);
    ADD(the_lru_curve_is_lru_at_every_size);
    ADD(what_is_no_one_stack_is_simulated);
    ADD(every_policy_misses_each_key_once_where_all_fit);
    ADD(a_table_has_every_policy_at_every_size_of_every_trace);
    ADD(a_references_figure_is_that_of_its_simulation);
    ADD(a_plot_is_well_formed_and_has_a_line_for_each_series);
    ADD(the_default_is_never_far_from_lru);
    ADD(bad_lists_are_refused_with_the_word);
#undef ADD
}
