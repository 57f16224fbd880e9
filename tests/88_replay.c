/* SPDX-License-Identifier: MIT */
/*
 * Does `larder replay` see what it claims to see, and does the engine stand up to it?
 *
 * First the parts that need no segment: traces, workloads, values that judge themselves, latencies, the
 * benchmark's floor. Then whole runs of the program: with traces where there are any (a folder
 * shared/traces beside the tree, or LARDER_TRACES), else with generated workloads, which is said loudly.
 */
#include "fixture.h"

#include "floor.h"
#include "histogram.h"
#include "trace.h"
#include "value.h"
#include "workload.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <zstd.h>

/* ---- files ------------------------------------------------------------------------------------------------------ */

static const char *write_file(const char *name, const void *bytes, size_t len) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", fixture_folder(), name);
    FILE *file = fopen(path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL(fwrite(bytes, 1, len, file), len);
    CU_ASSERT_EQUAL(fclose(file), 0);
    return path;
}

/* The trace as its text; the caller frees it. */
static char *text_of(const struct trace *trace, size_t *len) {
    static const char *const ops[] = {"get", "set", "del"};
    size_t cap = trace->count * 64 + 64;
    char *text = malloc(cap);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    *len = (size_t)snprintf(text, cap, "#time,key,size,op,ttl\n");
    for (size_t i = 0; i < trace->count; i++) {
        const struct trace_row *row = &trace->rows[i];
        *len += (size_t)snprintf(text + *len, cap - *len, "%u,%u,%u,%s,%u\n", row->time_s, row->key, row->size,
                                 ops[trace_row_op(row)], trace_row_ttl_s(row));
    }
    return text;
}

static const char *write_zstd(const char *name, const char *text, size_t len, size_t cut) {
    size_t cap = ZSTD_compressBound(len);
    char *packed = malloc(cap);
    CU_ASSERT_PTR_NOT_NULL_FATAL(packed);
    size_t packed_len = ZSTD_compress(packed, cap, text, len, 3);
    CU_ASSERT_FALSE_FATAL(ZSTD_isError(packed_len));
    const char *path = write_file(name, packed, packed_len - cut);
    free(packed);
    return path;
}

/* ---- traces ----------------------------------------------------------------------------------------------------- */

static void errors_name_file_line_and_column(void) {
    static const struct {
        const char *text, *where, *what;
    } cases[] = {
        {"0,1,2,get,0\n0,2,3,gte,0\n", ":2:7:", "expected get, set or del, found 'gte'"},
        {"#c\n\n0,1,2,get\n", ":3:10:", "found the end of the line"},
        {"0,1,2,get,\n", ":1:11:", "expected a TTL in seconds"},
        {"0,1,,get,0\n", ":1:5:", "found an empty field"},
        {"5,1,2,get,0\n4,1,2,get,0\n", ":2:1:", "not before 5"},
        {"x,1,2,get,0\n", ":1:1:", "found 'x'"},
        {"0,-1,2,get,0\n", ":1:3:", "found '-1'"},
        {"0,268435456,2,get,0\n", ":1:3:", "0 to 268435455"},
        {"0,1,4294967295,get,0\n", ":1:5:", "0 to 4294967294"},
        {"0,1,2,get,1073741824\n", ":1:11:", "0 to 1073741823"},
        {"0,1,2,get,0,7\n", ":1:12:", "expected the end of the line"},
        {"0,1,2x,get,0\n", ":1:5:", "found '2x'"},
        {"# nothing\n", "", "no request in 1 lines"},
        {"", "", "no request in 0 lines"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct trace trace;
        char why[TRACE_WHY_BYTES];
        const char *path = write_file("bad.csv", cases[i].text, strlen(cases[i].text));
        CU_ASSERT_EQUAL(trace_load(path, &trace, why), LARDER_EINVALID);
        CU_ASSERT_PTR_NULL(trace.rows);
        CU_ASSERT_PTR_EQUAL(strstr(why, path), why);
        CU_ASSERT_PTR_NOT_NULL(strstr(why, cases[i].where));
        if (strstr(why, cases[i].what) == NULL)
            printf("\n    case %zu: \"%s\" lacks \"%s\"\n", i, why, cases[i].what);
        CU_ASSERT_PTR_NOT_NULL(strstr(why, cases[i].what));
    }
    char *endless = malloc(3000000), why[TRACE_WHY_BYTES];
    struct trace trace;
    memset(endless, '7', 3000000);
    CU_ASSERT_EQUAL(trace_load(write_file("endless.csv", endless, 3000000), &trace, why), LARDER_EINVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, ":1:1025:"));
    free(endless);
    CU_ASSERT_EQUAL(trace_load("/nonexistent/trace", &trace, why), LARDER_EINVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "No such file"));
}

static void a_trace_without_a_last_newline_or_with_carriage_returns_is_read(void) {
    static const char text[] = "#h\r\n1,0,100,get,0\r\n\r\n2,7,300,set,60\r\n2,0,50,del,0";
    struct trace trace;
    char why[TRACE_WHY_BYTES];
    CU_ASSERT_EQUAL_FATAL(trace_load(write_file("small.csv", text, strlen(text)), &trace, why), 0);
    CU_ASSERT_EQUAL_FATAL(trace.count, 3);
    CU_ASSERT_EQUAL(trace.key_limit, 8);
    CU_ASSERT_EQUAL(trace.keys, 2);
    CU_ASSERT_EQUAL(trace.footprint, 400);
    CU_ASSERT_EQUAL(trace.max_size, 300);
    CU_ASSERT_EQUAL(trace_row_op(&trace.rows[1]), TRACE_SET);
    CU_ASSERT_EQUAL(trace_row_ttl_s(&trace.rows[1]), 60);
    CU_ASSERT_EQUAL(trace_row_op(&trace.rows[2]), TRACE_DEL);
    trace_free(&trace);
}

/* Long enough to cross every buffer's end many times. */
static void plain_and_zstd_give_the_same_requests(void) {
    struct trace made, plain, packed;
    char why[TRACE_WHY_BYTES];
    size_t len;
    CU_ASSERT_EQUAL_FATAL(workload_generate(WORKLOAD_ttl, 3, 250000, &made, why), 0);
    char *text = text_of(&made, &len);
    CU_ASSERT_TRUE(len > (4u << 20));
    CU_ASSERT_EQUAL_FATAL(trace_load(write_file("plain.csv", text, len), &plain, why), 0);
    CU_ASSERT_EQUAL_FATAL(trace_load(write_zstd("packed.csv", text, len, 0), &packed, why), 0);
    CU_ASSERT_EQUAL_FATAL(plain.count, made.count);
    CU_ASSERT_EQUAL_FATAL(packed.count, made.count);
    CU_ASSERT_EQUAL(memcmp(plain.rows, made.rows, made.count * sizeof *made.rows), 0);
    CU_ASSERT_EQUAL(memcmp(packed.rows, made.rows, made.count * sizeof *made.rows), 0);
    CU_ASSERT_EQUAL(packed.footprint, made.footprint);
    trace_free(&plain);
    trace_free(&packed);
    CU_ASSERT_EQUAL(trace_load(write_zstd("cut.csv.zst", text, len, 1000), &packed, why), LARDER_EINVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "middle of a frame"));
    CU_ASSERT_PTR_NULL(packed.rows);
    trace_free(&made);
    free(text);
}

/* ---- workloads -------------------------------------------------------------------------------------------------- */

static void a_workload_follows_from_its_seed(void) {
    char why[TRACE_WHY_BYTES];
    for (int kind = 0; kind < WORKLOAD_COUNT; kind++) {
        struct trace first, again, other;
        CU_ASSERT_EQUAL_FATAL(workload_generate((enum workload_kind)kind, 42, 50000, &first, why), 0);
        CU_ASSERT_EQUAL_FATAL(workload_generate((enum workload_kind)kind, 42, 50000, &again, why), 0);
        CU_ASSERT_EQUAL_FATAL(workload_generate((enum workload_kind)kind, 43, 50000, &other, why), 0);
        CU_ASSERT_EQUAL_FATAL(first.count, 50000);
        CU_ASSERT_EQUAL(memcmp(first.rows, again.rows, first.count * sizeof *first.rows), 0);
        CU_ASSERT_NOT_EQUAL(memcmp(first.rows, other.rows, first.count * sizeof *first.rows), 0);
        trace_free(&first);
        trace_free(&again);
        trace_free(&other);
    }
    CU_ASSERT_EQUAL(workload_kind("web"), WORKLOAD_web);
    CU_ASSERT_EQUAL(workload_kind("wb"), -1);
    struct trace none;
    CU_ASSERT_EQUAL(workload_generate(WORKLOAD_kv, 1, 0, &none, why), LARDER_EINVALID);
}

/* Share of the keys that are asked for once. */
static double once_share(const struct trace *trace) {
    unsigned *seen = calloc(trace->key_limit, sizeof *seen);
    double once = 0;
    for (size_t i = 0; i < trace->count; i++)
        seen[trace->rows[i].key]++;
    for (uint32_t i = 0; i < trace->key_limit; i++)
        once += seen[i] == 1;
    free(seen);
    return once / trace->keys;
}

static int compare_u32(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t median_size(const struct trace *trace) {
    uint32_t *sizes = malloc(trace->count * sizeof *sizes);
    for (size_t i = 0; i < trace->count; i++)
        sizes[i] = trace->rows[i].size;
    qsort(sizes, trace->count, sizeof *sizes, compare_u32);
    uint32_t median = sizes[trace->count / 2];
    free(sizes);
    return median;
}

static void workloads_have_the_published_shapes(void) {
    struct trace kv, web, ttl;
    char why[TRACE_WHY_BYTES];
    CU_ASSERT_EQUAL_FATAL(workload_generate(WORKLOAD_kv, 1, 300000, &kv, why), 0);
    CU_ASSERT_EQUAL_FATAL(workload_generate(WORKLOAD_web, 1, 300000, &web, why), 0);
    CU_ASSERT_EQUAL_FATAL(workload_generate(WORKLOAD_ttl, 1, 300000, &ttl, why), 0);
    double gets_a_set = (double)kv.gets / (double)kv.sets;
    CU_ASSERT_TRUE(gets_a_set > 25 && gets_a_set < 35);
    CU_ASSERT_TRUE(kv.dels > 0 && kv.footprint / kv.keys < 1000);
    CU_ASSERT_TRUE(once_share(&web) > 0.6 && once_share(&web) < 0.8);
    CU_ASSERT_TRUE(median_size(&web) > 1000 && median_size(&web) < 5000);
    CU_ASSERT_TRUE((double)ttl.sets / (double)ttl.count > 0.3);
    CU_ASSERT_TRUE(median_size(&ttl) > 150 && median_size(&ttl) < 350);
    for (size_t i = 0; i < ttl.count; i++)
        if (trace_row_ttl_s(&ttl.rows[i]) == 0) {
            CU_FAIL("a request of ttl without a TTL");
            break;
        }
    trace_free(&kv);
    trace_free(&web);
    trace_free(&ttl);
}

static void what_is_hard_has_its_shape(void) {
    struct trace scan, loop, shift, resize, tiny;
    char why[TRACE_WHY_BYTES];
    CU_ASSERT_EQUAL_FATAL(workload_generate(WORKLOAD_scan, 1, 60000, &scan, why), 0);
    CU_ASSERT_EQUAL_FATAL(workload_generate(WORKLOAD_loop, 1, 60000, &loop, why), 0);
    CU_ASSERT_EQUAL_FATAL(workload_generate(WORKLOAD_shift, 1, 60000, &shift, why), 0);
    CU_ASSERT_EQUAL_FATAL(workload_generate(WORKLOAD_resize, 1, 60000, &resize, why), 0);
    CU_ASSERT_EQUAL_FATAL(workload_generate(WORKLOAD_tiny, 1, 60000, &tiny, why), 0);
    CU_ASSERT_TRUE(once_share(&scan) > 0.7 && median_size(&scan) > 200 && median_size(&scan) < 400);
    CU_ASSERT_TRUE(once_share(&loop) < 0.2 && loop.keys >= 60000 / 6 && loop.keys <= 60000 / 6 + 60000 / 12);
    CU_ASSERT_TRUE(once_share(&tiny) > 0.7 && median_size(&tiny) == 50 && tiny.max_size == 400);
    /* Each phase has keys of its own, all of one size. */
    CU_ASSERT_TRUE(resize.rows[0].size == 200 && resize.rows[14000].size == 200);
    CU_ASSERT_TRUE(resize.rows[16000].size == 20000 && resize.rows[31000].size == 200);
    CU_ASSERT_TRUE(resize.rows[59999].size == 1000 && resize.rows[59999].key > resize.rows[31000].key);
    /* Who is asked for most at first is asked for less in the end. */
    unsigned *asked = calloc(shift.key_limit, sizeof *asked), most = 0;
    for (size_t i = 0; i < 6000; i++)
        most = ++asked[shift.rows[i].key] > asked[most] ? shift.rows[i].key : most;
    const unsigned first = asked[most];
    for (size_t i = 54000; i < 60000; i++)
        asked[shift.rows[i].key]++;
    CU_ASSERT_TRUE(asked[most] - first < first / 4);
    free(asked);
    trace_free(&scan);
    trace_free(&loop);
    trace_free(&shift);
    trace_free(&resize);
    trace_free(&tiny);
}

static void zipf_ranks_have_their_probabilities(void) {
    static const double exponents[] = {0.0, 0.5, 0.99, 1.0, 1.5};
    for (size_t e = 0; e < sizeof exponents / sizeof exponents[0]; e++) {
        struct draw draw = draw_seeded(7);
        struct zipf zipf = zipf_make(100, exponents[e]);
        double harmonic = 0, seen[100] = {0};
        const unsigned draws = 200000;
        for (unsigned i = 0; i < draws; i++) {
            uint64_t rank = zipf_draw(&zipf, &draw);
            CU_ASSERT_TRUE_FATAL(rank < 100);
            seen[rank]++;
        }
        for (unsigned rank = 0; rank < 100; rank++)
            harmonic += pow(rank + 1, -exponents[e]);
        for (unsigned rank = 0; rank < 100; rank++) {
            double expected = draws * pow(rank + 1, -exponents[e]) / harmonic;
            CU_ASSERT_TRUE(fabs(seen[rank] - expected) < 6 * sqrt(expected) + 1);
        }
    }
}

/* ---- values ----------------------------------------------------------------------------------------------------- */

static const struct value_reader stranger = {.now_ms = 1000, .writer = 5};
static const struct value_reader owner = {.now_ms = 1000, .writer = 5, .owner = true};

static enum value_verdict judge(const void *value, size_t len, uint64_t key, const struct value_known *known,
                                const struct value_reader *reader) {
    struct value_hit hit = {.value = value, .len = len, .version = 100, .deadline_ms = UINT64_MAX};
    return value_judge(&hit, key, known, reader);
}

static void a_right_value_of_any_length_is_right(void) {
    uint8_t value[400];
    const struct value_known known = {.sequence = 77, .version = 100, .deadline_ms = UINT64_MAX};
    for (size_t len = 0; len <= sizeof value; len++) {
        value_write(value, len, 12345, 5, 77);
        CU_ASSERT_EQUAL(judge(value, len, 12345, &known, &owner), VALUE_RIGHT);
        CU_ASSERT_EQUAL(judge(value, len, 12345, &(struct value_known){0}, &stranger), VALUE_RIGHT);
    }
}

static void another_keys_value_is_foreign(void) {
    uint8_t value[400];
    unsigned let_through = 0;
    for (size_t len = 1; len <= sizeof value; len++) {
        value_write(value, len, 12345, 5, 77);
        enum value_verdict verdict = judge(value, len, 54321, &(struct value_known){0}, &stranger);
        let_through += verdict == VALUE_RIGHT;
        if (len >= VALUE_FULL_BYTES)
            CU_ASSERT_EQUAL(verdict, VALUE_FOREIGN);
    }
    CU_ASSERT_TRUE(let_through <= 1); /* one byte says little */
}

/* Every mixture of two values of a key, cut at any byte, and any single byte changed. */
static void a_mixture_is_torn(void) {
    uint8_t old[200], new[200], mixed[200];
    static const size_t lengths[] = {8, 12, 31, 32, 40, 64, 100, 200};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        size_t len = lengths[i];
        value_write(old, len, 12345, 5, 77);
        value_write(new, len, 12345, 5, 78);
        for (size_t cut = 1; cut < len; cut++) {
            memcpy(mixed, new, cut);
            memcpy(mixed + cut, old + cut, len - cut);
            if (memcmp(mixed, old, len) != 0 && memcmp(mixed, new, len) != 0)
                CU_ASSERT_EQUAL(judge(mixed, len, 12345, &(struct value_known){0}, &stranger), VALUE_TORN);
        }
        for (size_t at = 0; at < len; at++) {
            memcpy(mixed, new, len);
            mixed[at] ^= 0x10;
            CU_ASSERT_EQUAL(judge(mixed, len, 12345, &(struct value_known){0}, &stranger), VALUE_TORN);
        }
    }
    value_write(new, 200, 12345, 5, 78);
    CU_ASSERT_EQUAL(judge(new, 150, 12345, &(struct value_known){0}, &stranger), VALUE_TORN);
}

static void a_superseded_deleted_or_expired_value_is_wrong(void) {
    uint8_t value[100];
    static const size_t lengths[] = {16, 100};
    for (size_t i = 0; i < 2; i++) {
        size_t len = lengths[i];
        struct value_known newer = {.sequence = 78, .version = 100, .deadline_ms = UINT64_MAX};
        struct value_known deleted = {.version = 100, .deadline_ms = UINT64_MAX};
        struct value_known late = {.sequence = 77, .version = 100, .deadline_ms = 1000};
        struct value_known seen = {.sequence = 77, .version = 101, .deadline_ms = UINT64_MAX};
        value_write(value, len, 1, 5, 77);
        CU_ASSERT_EQUAL(judge(value, len, 1, &newer, &owner), VALUE_STALE);
        CU_ASSERT_EQUAL(judge(value, len, 1, &newer, &stranger), VALUE_RIGHT); /* somebody else may have put it */
        CU_ASSERT_EQUAL(judge(value, len, 1, &seen, &owner), VALUE_STALE);
        CU_ASSERT_EQUAL(judge(value, len, 1, &seen, &stranger), VALUE_STALE);
        CU_ASSERT_EQUAL(judge(value, len, 1, &deleted, &owner), VALUE_RESURRECTED);
        CU_ASSERT_EQUAL(judge(value, len, 1, &late, &owner), VALUE_EXPIRED);
        struct value_hit hit = {.value = value, .len = len, .version = 100, .deadline_ms = 1000};
        CU_ASSERT_EQUAL(value_judge(&hit, 1, &(struct value_known){0}, &stranger), VALUE_EXPIRED);
        hit.deadline_ms = 1001;
        CU_ASSERT_EQUAL(value_judge(&hit, 1, &(struct value_known){0}, &stranger), VALUE_RIGHT);
    }
    struct value_known known = {.sequence = 77, .version = 100, .deadline_ms = UINT64_MAX};
    value_write(value, 100, 1, 6, 77);
    CU_ASSERT_EQUAL(judge(value, 100, 1, &known, &owner), VALUE_STALE); /* by a writer that is not there */
}

/* ---- histogram, floor ------------------------------------------------------------------------------------------- */

static int compare_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void percentiles_agree_with_a_sorted_array(void) {
    enum { COUNT = 50000 };
    static const double shares[] = {0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0};
    struct fixture_random random = fixture_seed("histogram");
    struct histogram *half = calloc(2, sizeof *half);
    uint64_t *values = malloc(COUNT * sizeof *values);
    for (unsigned i = 0; i < COUNT; i++) {
        values[i] = fixture_next(&random) >> fixture_below(&random, 64);
        histogram_add(&half[i % 2], values[i]);
    }
    histogram_merge(&half[0], &half[1]);
    qsort(values, COUNT, sizeof *values, compare_u64);
    CU_ASSERT_EQUAL(half[0].count, COUNT);
    CU_ASSERT_EQUAL(half[0].highest, values[COUNT - 1]);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        double rank = fmax(ceil(shares[i] * COUNT), 1);
        double exact = (double)values[(size_t)rank - 1], told = histogram_at(&half[0], shares[i]);
        CU_ASSERT_TRUE(fabs(told - exact) <= exact / 31 + 0.5);
    }
    CU_ASSERT_EQUAL(histogram_at(&(struct histogram){0}, 0.5), 0.0);
    free(values);
    free(half);
}

static void the_floor_finds_what_was_put(void) {
    enum { ITEMS = 20000 };
    struct floor table;
    char value[64], buffer[64 * FLOOR_BATCH];
    size_t len, wrong = 0;
    CU_ASSERT_EQUAL_FATAL(floor_create(&table, ITEMS, VALUE_KEY_BYTES, sizeof value), 0);
    for (uint64_t i = 0; i < ITEMS; i++) {
        struct value_key key = value_key(i);
        value_write(value, sizeof value, key.hash, 1, i + 1);
        floor_insert(&table, key.bytes, VALUE_KEY_BYTES, value, sizeof value);
    }
    for (uint64_t i = 0; i < ITEMS; i++) {
        struct value_key key = value_key(i), absent = value_key(ITEMS + i);
        value_write(value, sizeof value, key.hash, 1, i + 1);
        wrong += !floor_get(&table, key.bytes, VALUE_KEY_BYTES, buffer, sizeof value, &len) || len != sizeof value ||
                 memcmp(buffer, value, len) != 0;
        wrong += floor_find(&table, absent.bytes, VALUE_KEY_BYTES, &len) != NULL;
    }
    for (uint64_t i = 0; i + FLOOR_BATCH <= ITEMS; i += FLOOR_BATCH) {
        struct value_key keys[FLOOR_BATCH];
        struct floor_read rows[FLOOR_BATCH];
        for (unsigned j = 0; j < FLOOR_BATCH; j++) {
            keys[j] = value_key(i + j);
            rows[j] = (struct floor_read){
                .key = keys[j].bytes, .key_len = VALUE_KEY_BYTES, .buf = buffer + j * 64, .cap = 64};
        }
        wrong += floor_get_many(&table, rows, FLOOR_BATCH) != FLOOR_BATCH;
        for (unsigned j = 0; j < FLOOR_BATCH; j++) {
            value_write(value, sizeof value, keys[j].hash, 1, i + j + 1);
            wrong += memcmp(buffer + j * 64, value, 64) != 0;
        }
    }
    for (uint64_t i = 0; i < ITEMS; i += 7) {
        struct value_key key = value_key(i);
        wrong += !floor_delete(&table, key.bytes, VALUE_KEY_BYTES);
        wrong += floor_get(&table, key.bytes, VALUE_KEY_BYTES, buffer, sizeof value, &len);
        wrong += !floor_restore(&table, key.bytes, VALUE_KEY_BYTES);
        memset(value, 'x', sizeof value);
        wrong += !floor_put(&table, key.bytes, VALUE_KEY_BYTES, value, sizeof value);
        wrong += !floor_get(&table, key.bytes, VALUE_KEY_BYTES, buffer, sizeof value, &len) || buffer[63] != 'x';
    }
    CU_ASSERT_EQUAL(wrong, 0);
    floor_destroy(&table);
}

/* ---- whole runs ------------------------------------------------------------------------------------------------- */

static char output[1u << 20];

/* Runs `larder ARGUMENTS --json` and returns what it printed; NULL if that is no JSON. */
static json_t *run_json(int *status, const char *format, ...) __attribute__((format(printf, 2, 3)));
static json_t *run_json(int *status, const char *format, ...) {
    char arguments[6000], command[12000];
    va_list list;
    va_start(list, format);
    vsnprintf(arguments, sizeof arguments, format, list);
    va_end(list);
    const char *redirect = strchr(arguments, '<');
    snprintf(command, sizeof command, "'%s' %.*s --json %s", fixture_program("larder"),
             (int)(redirect ? redirect - arguments : (ptrdiff_t)strlen(arguments)), arguments,
             redirect ? redirect : "");
    *status = fixture_run(command, output, sizeof output);
    json_t *object = json_loads(output, 0, NULL);
    if (object == NULL)
        printf("\n    %s: exit %d: %s\n", command, *status, output);
    CU_ASSERT_PTR_NOT_NULL(object);
    return object;
}

static int64_t integer_of(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    if (!json_is_integer(value)) {
        printf("\n    no integer \"%s\"\n", name);
        CU_FAIL("a field is missing");
        return -1;
    }
    return json_integer_value(value);
}

static double real_of(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    if (!json_is_number(value)) {
        printf("\n    no number \"%s\"\n", name);
        CU_FAIL("a field is missing");
        return NAN;
    }
    return json_number_value(value);
}

/* No wrong value, check clean; prints what was wrong. */
static void assert_right(const json_t *object) {
    if (integer_of(object, "wrong_values") != 0)
        printf("\n    %s: %s\n", json_string_value(json_object_get(object, "source")),
               json_string_value(json_object_get(object, "first_wrong")));
    CU_ASSERT_EQUAL(integer_of(object, "wrong_values"), 0);
    CU_ASSERT_EQUAL(integer_of(object, "check_findings"), 0);
    CU_ASSERT_EQUAL(integer_of(object, "deletes_failed"), 0);
}

#define FOUR_ONES_REQUESTS (FIXTURE_SANITIZED ? 60000u : 200000u)

static void four_processes_replay_without_a_wrong_value(void) {
    static const char *const kinds[] = {"kv", "web", "ttl"};
    for (size_t i = 0; i < 3; i++)
        for (unsigned interleave = FIXTURE_SANITIZED ? i % 2 : 0; interleave < 2;
             interleave += FIXTURE_SANITIZED ? 2 : 1) {
            int status;
            json_t *object = run_json(&status, "replay --generate %s --seed 5 --requests %u --size 2M --processes 4%s",
                                      kinds[i], FOUR_ONES_REQUESTS, interleave ? " --interleave" : "");
            CU_ASSERT_EQUAL(status, 0);
            assert_right(object);
            CU_ASSERT_EQUAL(integer_of(object, "requests"), FOUR_ONES_REQUESTS);
            CU_ASSERT_EQUAL(integer_of(object, "deaths"), 0);
            CU_ASSERT_TRUE(integer_of(object, "evictions") > 0);
            json_decref(object);
        }
}

static void the_report_has_all_its_fields(void) {
    static const char *const integers[] = {"gets", "hits",    "wrong_values", "evictions",
                                           "sets", "deletes", "requests",     "processes",
                                           "size", "seed",    "puts_refused", "repairs"};
    static const char *const reals[] = {"miss_ratio", "byte_miss_ratio", "payload_share", "ops_per_s",
                                        "p50_ns",     "p99_ns",          "p999_ns"};
    int status;
    json_t *object = run_json(&status, "replay --generate kv --requests 100000 --size 4M");
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++)
        integer_of(object, integers[i]);
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++)
        CU_ASSERT_TRUE(real_of(object, reals[i]) > 0);
    double misses = (double)(integer_of(object, "gets") - integer_of(object, "hits"));
    CU_ASSERT_TRUE(fabs(real_of(object, "miss_ratio") - misses / (double)integer_of(object, "gets")) < 1e-9);
    CU_ASSERT_TRUE(real_of(object, "payload_share") <= 1);
    CU_ASSERT_TRUE(real_of(object, "p50_ns") <= real_of(object, "p99_ns"));
    CU_ASSERT_TRUE(real_of(object, "p99_ns") <= real_of(object, "p999_ns"));
    CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(object, "policy")), "s3");
    json_decref(object);
}

static void file_zstd_and_standard_input_give_the_same_hits(void) {
    static const char *const counts[] = {"gets", "hits", "sets", "deletes", "evictions", "expirations", "footprint"};
    struct trace trace;
    char why[TRACE_WHY_BYTES], plain[4200], packed[4200];
    size_t len;
    int status;
    CU_ASSERT_EQUAL_FATAL(workload_generate(WORKLOAD_ttl, 11, 60000, &trace, why), 0);
    char *text = text_of(&trace, &len);
    snprintf(plain, sizeof plain, "%s", write_file("same.csv", text, len));
    snprintf(packed, sizeof packed, "%s", write_zstd("same.csv.zst", text, len, 0));
    json_t *runs[4] = {
        run_json(&status, "replay --generate ttl --seed 11 --requests 60000 --size 10%%"),
        run_json(&status, "replay --trace '%s' --size 10%%", plain),
        run_json(&status, "replay --trace '%s' --size 10%%", packed),
        run_json(&status, "replay --trace - --size 10%% < '%s'", packed),
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        for (size_t run = 1; run < 4; run++) {
            /* A fresh hash seed for each segment moves evictions a little; what the trace says stays. */
            double first = (double)integer_of(runs[0], counts[i]), now = (double)integer_of(runs[run], counts[i]);
            bool exact = strcmp(counts[i], "hits") != 0 && strcmp(counts[i], "evictions") != 0 &&
                         strcmp(counts[i], "expirations") != 0;
            CU_ASSERT_TRUE(exact ? first == now : fabs(first - now) <= 0.05 * first + 100);
        }
    for (size_t run = 0; run < 4; run++)
        json_decref(runs[run]);
    trace_free(&trace);
    free(text);
}

/* Puts `value` under the key of number `id`. */
static void plant(struct lr_cache *cache, uint64_t id, const void *value, size_t len) {
    struct value_key key = value_key(id);
    struct lr_put put = {
        .key = key.bytes, .key_len = VALUE_KEY_BYTES, .value = value, .value_len = len, .mode = LR_SET};
    CU_ASSERT_EQUAL(lr_put(cache, &put), 0);
}

static void planted_wrong_values_are_found_in_a_segment(void) {
    static const char text[] = "0,0,100,get,0\n0,1,100,get,0\n0,2,100,get,0\n0,3,100,get,0\n";
    struct fixture fixture = {0};
    uint8_t value[84];
    int status;
    fixture_create(&fixture, 4u << 20);
    value_write(value, sizeof value, value_key(0).hash, 9, 1);
    plant(fixture.one, 0, value, sizeof value); /* right */
    plant(fixture.one, 1, value, sizeof value); /* foreign */
    value_write(value, sizeof value, value_key(2).hash, 9, 2);
    value[70] ^= 1;
    plant(fixture.one, 2, value, sizeof value); /* torn */
    json_t *object =
        run_json(&status, "replay --trace '%s' --name %s", write_file("planted.csv", text, strlen(text)), fixture.name);
    CU_ASSERT_EQUAL(status, 6);
    CU_ASSERT_EQUAL(integer_of(object, "hits"), 3);
    CU_ASSERT_EQUAL(integer_of(object, "wrong_values"), 2);
    CU_ASSERT_EQUAL(integer_of(object, "wrong_foreign"), 1);
    CU_ASSERT_EQUAL(integer_of(object, "wrong_torn"), 1);
    json_decref(object);
    fixture_destroy(&fixture);
}

/* Writers of the same keys in the same segment, each a replay of its own with several workers. */
static int run_beside(void *context) {
    char command[5000], text[20000];
    snprintf(command, sizeof command,
             "'%s' replay --generate kv --requests 150000 --processes 2 --interleave --name %s",
             fixture_program("larder"), (const char *)context);
    int status = fixture_run(command, text, sizeof text);
    if (status != 0)
        fprintf(stderr, "%s\n", text);
    return status;
}

static void two_replays_share_a_live_segment(void) {
    struct fixture fixture = {0};
    int status;
    fixture_create(&fixture, 8u << 20);
    pid_t beside = fixture_start(run_beside, fixture.name);
    json_t *object =
        run_json(&status, "replay --generate kv --requests 150000 --processes 2 --passes 2 --name %s", fixture.name);
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_EQUAL(integer_of(object, "wrong_values"), 0);
    CU_ASSERT_EQUAL(integer_of(object, "requests"), 300000);
    CU_ASSERT_EQUAL(fixture_wait(beside), 0);
    json_decref(object);
    fixture_destroy(&fixture);
}

/* ---- deaths ----------------------------------------------------------------------------------------------------- */

/* Starts `larder ARGUMENTS` with its output in a file. */
static pid_t start_larder(const char *const *arguments, const char *file) {
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(fd, STDOUT_FILENO);
        execv(fixture_program("larder"), (char *const *)(uintptr_t)arguments);
        _exit(99);
    }
    return pid;
}

/* Waits until the process has `wanted` children; fills them in. */
static bool await_children(pid_t pid, pid_t *children, unsigned wanted) {
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%ld/task/%ld/children", (long)pid, (long)pid);
    for (unsigned attempt = 0; attempt < 3000; attempt++) {
        unsigned count = 0;
        FILE *file = fopen(path, "r");
        if (file != NULL && fgets(text, sizeof text, file) != NULL)
            for (char *at = strtok(text, " \n"); at != NULL && count < wanted; at = strtok(NULL, " \n"))
                children[count++] = (pid_t)strtol(at, NULL, 10);
        if (file != NULL)
            fclose(file);
        if (count == wanted)
            return true;
        fixture_sleep_ms(10);
    }
    return false;
}

/* Segments that the process `pid` made for its run and that are still there. */
static unsigned segments_of(pid_t pid) {
    char prefix[64];
    unsigned count = 0;
    DIR *folder = opendir("/dev/shm");
    snprintf(prefix, sizeof prefix, "larder.replay.%ld.", (long)pid);
    if (folder == NULL)
        return 0;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    closedir(folder);
    return count;
}

#define KILLED_ONES_REQUESTS (FIXTURE_SANITIZED ? "500000" : "1000000")

static void a_killed_worker_is_reported_and_the_others_go_on(void) {
    const char *const arguments[] = {"larder", "replay", "--generate",  "kv", "--requests", KILLED_ONES_REQUESTS,
                                     "--size", "8M",     "--processes", "3",  "--passes",   "2",
                                     "--json", NULL};
    char file[4200];
    pid_t children[3];
    int status;
    json_error_t error;
    snprintf(file, sizeof file, "%s/killed.json", fixture_folder());
    pid_t pid = start_larder(arguments, file);
    CU_ASSERT_TRUE_FATAL(await_children(pid, children, 3));
    fixture_sleep_ms(FIXTURE_SANITIZED ? 400 : 100);
    CU_ASSERT_EQUAL(kill(children[1], SIGKILL), 0);
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    CU_ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    json_t *object = json_load_file(file, 0, &error);
    CU_ASSERT_PTR_NOT_NULL_FATAL(object);
    assert_right(object);
    CU_ASSERT_EQUAL(integer_of(object, "deaths"), 1);
    const json_t *death = json_array_get(json_object_get(object, "died"), 0);
    CU_ASSERT_EQUAL(integer_of(death, "signal"), SIGKILL);
    CU_ASSERT_EQUAL(integer_of(death, "pid"), children[1]);
    CU_ASSERT_TRUE(integer_of(object, "requests") > 2 * strtoll(KILLED_ONES_REQUESTS, NULL, 10) * 6 / 10);
    CU_ASSERT_EQUAL(segments_of(pid), 0);
    json_decref(object);
}

static void a_signal_ends_the_run_and_removes_the_segment(void) {
    static const int signals[] = {SIGTERM, SIGINT};
    const char *const arguments[] = {"larder",   "replay", "--generate", "kv",          "--requests",
                                     "1000000",  "--size", "8M",         "--processes", "2",
                                     "--passes", "1000",   NULL};
    for (size_t i = 0; i < 2; i++) {
        char file[4200];
        pid_t children[2];
        int status;
        snprintf(file, sizeof file, "%s/ended.txt", fixture_folder());
        pid_t pid = start_larder(arguments, file);
        CU_ASSERT_TRUE_FATAL(await_children(pid, children, 2));
        fixture_sleep_ms(200);
        CU_ASSERT_TRUE(segments_of(pid) > 0);
        kill(pid, signals[i]);
        CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
        CU_ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signals[i]);
        CU_ASSERT_EQUAL(segments_of(pid), 0);
        CU_ASSERT_TRUE(kill(children[0], 0) != 0 && kill(children[1], 0) != 0);
    }
}

/* ---- real traces, the bound, the command line ------------------------------------------------------------------- */

static const char *trace_folder(void) {
    const char *folder = getenv("LARDER_TRACES");
    struct stat status;
    if (folder == NULL || folder[0] == '\0')
        folder = LARDER_SOURCE_DIR "/../shared/traces";
    return stat(folder, &status) == 0 && S_ISDIR(status.st_mode) ? folder : NULL;
}

/* Calls `body` with the source ("--trace FILE" or "--generate KIND") of each trace there is, or of generated ones. */
static void for_each_source(void (*body)(const char *source)) {
    const char *folder = trace_folder();
    struct dirent **names = NULL;
    int count = folder ? scandir(folder, &names, NULL, alphasort) : 0;
    unsigned found = 0;
    for (int i = 0; i < count; i++) {
        char source[4200];
        size_t len = strlen(names[i]->d_name);
        if (len > 8 && strcmp(names[i]->d_name + len - 8, ".csv.zst") == 0 && ++found <= (FIXTURE_SANITIZED ? 1 : 64)) {
            snprintf(source, sizeof source, "--trace '%s/%s'", folder, names[i]->d_name);
            body(source);
        }
        free(names[i]);
    }
    free(names);
    if (found > 0)
        return;
    printf("\n    NO REAL TRACES HERE (%s): generated workloads are used instead\n   ",
           folder ? folder : "neither LARDER_TRACES nor ../shared/traces");
    body("--generate kv --requests 300000");
    body("--generate web --requests 100000");
    body("--generate ttl --requests 300000");
}

static void replay_in_four(const char *source) {
    int status;
    json_t *object = run_json(&status, "replay %s --size 2M --processes 4", source);
    CU_ASSERT_EQUAL(status, 0);
    assert_right(object);
    json_decref(object);
}

static unsigned source_turn;

/* One trace in three, each time others: all of them take long. */
static void begin_turns(void) {
    struct fixture_random random = fixture_seed("which traces");
    source_turn = (unsigned)fixture_below(&random, 3);
}

static void replay_some_in_four(const char *source) {
    if (source_turn++ % 3 == 0)
        replay_in_four(source);
}

static void any_trace_replays_in_four_processes_without_a_wrong_value(void) {
    begin_turns();
    for_each_source(replay_some_in_four);
}

/*
 * Against CLOCK, with counts of one bit and as high as ours, that has all bytes for blocks, index and holes unpaid for.
 * It frees the expired at once, which is larderd's work: `ttl` is not held to it.
 */
static void compare_at(const char *source, const char *size) {
    int status;
    json_t *object = run_json(&status, "replay %s --size %s --reference clock,clock2 --charge block", source, size);
    CU_ASSERT_EQUAL(status, 0);
    assert_right(object);
    double ours = real_of(object, "miss_ratio"), exact = real_of(object, "reference_miss_ratio");
    printf("\n    %s, %s: miss ratio %.4f, byte-exact CLOCK %.4f (%+.2f %%)%s", source, size, ours, exact,
           100 * (ours / exact - 1), ours <= 1.02 * exact ? "" : " ABOVE THE BOUND");
    CU_ASSERT_TRUE(ours <= 1.02 * exact);
    json_decref(object);
}

static void compare_with_reference(const char *source) {
    if (source_turn++ % 3 == 0 && strstr(source, "--generate ttl") == NULL)
        compare_at(source, source_turn % 2 == 0 ? "4M" : "16M");
}

static void clock_is_at_most_two_per_cent_above_byte_exact_clock(void) {
    if (FIXTURE_SANITIZED) { // for the tool's sake: what the policies are worth is seen in the other builds
        compare_at("--generate kv --requests 200000", "4M");
    } else {
        compare_at("--generate kv --requests 500000", "4M");
        begin_turns();
        for_each_source(compare_with_reference);
    }
    printf("\n   ");
}

static void bad_command_lines_are_refused_with_both_sides(void) {
    static const struct {
        const char *arguments;
        int status;
        const char *text;
    } cases[] = {
        {"replay", 2, "--trace"},
        {"replay --generate kv --trace x", 2, "exclude each other"},
        {"replay --generate vk", 2, "kv"},
        {"replay --generate kv --size 10%x", 2, "10%x"},
        {"replay --generate kv --size 0", 2, "\"0\""},
        {"replay --generate kv --requests 1000 --size 5", 2, "65536"},
        {"replay --generate kv --processes 0", 2, "1 to 512"},
        {"replay --generate kv --name nowhere --size 4M", 2, "--name"},
        {"replay --generate kv --name nowhere.at.all", 3, "nowhere.at.all"},
        {"replay --trace x --seed 3", 2, "--seed"},
        {"replay --trace /nonexistent/file", 2, "No such file"},
        {"replay --generate kv --reference --processes 2", 2, "--reference"},
        {"replay --generate kv --policy best", 2, "clock"},
        {"bench --items 3", 2, "1024"},
        {"bench --zipf x", 2, "zipf"},
        {"bench --processes 0", 2, "1 to 64"},
        {"bench --value-size 2M", 2, "1048576"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char command[5000];
        snprintf(command, sizeof command, "'%s' %s", fixture_program("larder"), cases[i].arguments);
        int status = fixture_run(command, output, sizeof output);
        if (status != cases[i].status || strstr(output, cases[i].text) == NULL)
            printf("\n    %s: exit %d, expected %d: %s\n", cases[i].arguments, status, cases[i].status, output);
        CU_ASSERT_EQUAL(status, cases[i].status);
        CU_ASSERT_PTR_NOT_NULL(strstr(output, cases[i].text));
    }
}

void larder_suite_88_replay(void) {
    CU_pSuite suite = CU_add_suite("88_replay: traces, workloads, self-judging values, whole runs", NULL, NULL);
#define ADD(test) CU_add_test(suite, #test, test)
    ADD(errors_name_file_line_and_column);
    ADD(a_trace_without_a_last_newline_or_with_carriage_returns_is_read);
    ADD(plain_and_zstd_give_the_same_requests);
    ADD(a_workload_follows_from_its_seed);
    ADD(workloads_have_the_published_shapes);
    ADD(what_is_hard_has_its_shape);
    ADD(zipf_ranks_have_their_probabilities);
    ADD(a_right_value_of_any_length_is_right);
    ADD(another_keys_value_is_foreign);
    ADD(a_mixture_is_torn);
    ADD(a_superseded_deleted_or_expired_value_is_wrong);
    ADD(percentiles_agree_with_a_sorted_array);
    ADD(the_floor_finds_what_was_put);
    ADD(four_processes_replay_without_a_wrong_value);
    ADD(the_report_has_all_its_fields);
    ADD(file_zstd_and_standard_input_give_the_same_hits);
    ADD(planted_wrong_values_are_found_in_a_segment);
    ADD(two_replays_share_a_live_segment);
    ADD(a_killed_worker_is_reported_and_the_others_go_on);
    ADD(a_signal_ends_the_run_and_removes_the_segment);
    ADD(any_trace_replays_in_four_processes_without_a_wrong_value);
    ADD(clock_is_at_most_two_per_cent_above_byte_exact_clock);
    ADD(bad_command_lines_are_refused_with_both_sides);
#undef ADD
}
