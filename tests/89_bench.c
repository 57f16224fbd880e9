/* SPDX-License-Identifier: MIT */
/* `larder bench` as a whole: what it promises to print, whatever the figures are. */
#include "fixture.h"

#include "bench.h"
#include "peers.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char output[1 << 20];

static json_t *bench(int *status, const char *before, const char *arguments) {
    char command[2000];
    snprintf(command, sizeof command, "%s '%s' bench %s --json", before, fixture_program("larder"), arguments);
    *status = fixture_run(command, output, sizeof output);
    json_t *object = json_loads(output, 0, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(object);
    return object;
}

static const char *text(const json_t *object, const char *field) {
    const char *value = json_string_value(json_object_get(object, field));
    return value != NULL ? value : "";
}

static double real(const json_t *object, const char *field) {
    return json_number_value(json_object_get(object, field));
}

/* ---- operations and sizes --------------------------------------------------------------------------------------- */

static void every_operation_does_what_it_is_asked(void) {
    int status;
    json_t *object = bench(&status, "", "--ops all --items 1024 --percentiles");
    const json_t *rows = json_object_get(object, "results");
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_EQUAL_FATAL(json_array_size(rows), BENCH_OP_COUNT);
    for (size_t i = 0; i < BENCH_OP_COUNT; i++) {
        const json_t *row = json_array_get(rows, i);
        CU_ASSERT_STRING_EQUAL(text(row, "op"), bench_op_names[i]);
        CU_ASSERT_EQUAL(real(row, "failed"), 0);
        CU_ASSERT(real(row, "ns") > 0 && real(row, "floor_ns") > 0);
        for (unsigned side = 0; side < 2; side++) {
            static const char *const names[2][4] = {{"p50_ns", "p99_ns", "p999_ns", "max_ns"},
                                                    {"floor_p50_ns", "floor_p99_ns", "floor_p999_ns", "floor_max_ns"}};
            double before = 1.0;
            for (unsigned k = 0; k < 4; k++) {
                CU_ASSERT(real(row, names[side][k]) >= before);
                before = real(row, names[side][k]);
            }
        }
    }
    json_decref(object);
}

static void several_processes_have_a_scaling_beside_the_floors(void) {
    int status;
    json_t *object = bench(&status, "", "--ops get_copy,put_replace --items 1024 --zipf 0.9 --processes 2");
    const json_t *rows = json_object_get(object, "results");
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_EQUAL_FATAL(json_array_size(rows), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *row = json_array_get(rows, i);
        CU_ASSERT_EQUAL(real(row, "processes"), 2);
        CU_ASSERT_EQUAL(real(row, "value_bytes"), 64);
        CU_ASSERT_EQUAL(real(row, "items"), 1024);
        CU_ASSERT(fabs(real(row, "ratio") - real(row, "ns") / real(row, "floor_ns")) < 1e-6);
        CU_ASSERT(real(row, "scaling") > 0 && real(row, "floor_scaling") > 0);
    }
    json_decref(object);
}

/* None is evicted by chance, few and large as they may be. */
static void each_size_is_measured_by_itself(void) {
    static const unsigned sizes[] = {16, 1024, 16384};
    int status;
    char line[400];
    snprintf(line, sizeof line, "--items 1024 --value-size 16,1K,16K --ops get_pinned --plot %s/plot.svg",
             fixture_folder());
    json_t *object = bench(&status, "", line);
    const json_t *rows = json_object_get(object, "results");
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_EQUAL_FATAL(json_array_size(rows), 3);
    for (size_t i = 0; i < 3; i++) {
        const json_t *row = json_array_get(rows, i);
        CU_ASSERT_EQUAL(real(row, "value_bytes"), sizes[i]);
        CU_ASSERT_EQUAL(real(row, "failed"), 0);
        CU_ASSERT_EQUAL(real(row, "items"), 1024);
    }
    CU_ASSERT_EQUAL(real(object, "evictions"), 0);
    json_decref(object);
    snprintf(line, sizeof line, "cd %s && head -c 4 plot.svg && tail -c 7 plot.svg && rm plot.svg", fixture_folder());
    CU_ASSERT_EQUAL(fixture_run(line, output, sizeof output), 0);
    CU_ASSERT_STRING_EQUAL(output, "<svg</svg>\n");
}

/* ---- other caches ----------------------------------------------------------------------------------------------- */

static bool is_absent(const json_t *object, const char *peer, const json_t **row) {
    size_t i;
    json_array_foreach(json_object_get(object, "absent"), i, *row) {
        if (strcmp(text(*row, "peer"), peer) == 0)
            return true;
    }
    return false;
}

static void other_caches_do_the_same_or_are_said_to_be_absent(void) {
    int status;
    if (FIXTURE_SANITIZED) {
        fixture_skip("other_caches_do_the_same_or_are_said_to_be_absent", "others' programs have no sanitizer");
        return;
    }
    json_t *object = bench(&status, "", "--compare --items 2000");
    const json_t *row;
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_EQUAL(json_array_size(json_object_get(object, "results")), PEER_WORKS);
    for (unsigned kind = 0; kind < PEER_COUNT; kind++) {
        unsigned found = 0;
        size_t i;
        json_array_foreach(json_object_get(object, "peers"), i, row) {
            if (strcmp(text(row, "peer"), peer_names[kind]) != 0)
                continue;
            found++;
            CU_ASSERT(real(row, "ns") > 0 && real(row, "times_larder") > 0);
            CU_ASSERT_EQUAL(real(row, "failed"), 0);
        }
        bool absent = is_absent(object, peer_names[kind], &row);
        CU_ASSERT_EQUAL(found, absent ? 0 : PEER_WORKS);
        if (absent) {
            char why[PEER_WHY_BYTES + 64];
            snprintf(why, sizeof why, "%s: %s (tools/setup peers)", peer_names[kind], text(row, "why"));
            fixture_skip("other_caches_do_the_same_or_are_said_to_be_absent", why);
        }
    }
    json_decref(object);
}

static void an_absent_cache_is_named_with_its_packages(void) {
    int status;
    json_t *object = bench(&status, "PATH=/nonexistent", "--compare --items 2000");
    const json_t *row;
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT(is_absent(object, "memcached", &row) && strcmp(text(row, "packages"), "memcached") == 0);
    CU_ASSERT(is_absent(object, "redis", &row) && strcmp(text(row, "packages"), "redis-server") == 0);
    CU_ASSERT(is_absent(object, "apcu", &row) && strcmp(text(row, "packages"), "php-cli php-apcu") == 0);
    json_decref(object);
}

/* The names of rows are not promised, their fields are. */
static void each_scenario_counts_its_slow_operations(void) {
    static const struct {
        const char *name;
        size_t rows;
    } scenarios[] = {{"growth", 1}, {"tails", 4}, {"hotkey", 4}, {"stripe", 4},
                     {"expiry", 4}, {"pins", 2},  {"startup", 2}};
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i += FIXTURE_SANITIZED ? 3 : 1) {
        char arguments[64];
        int status;
        size_t k;
        const json_t *row;
        snprintf(arguments, sizeof arguments, "--items 5000 --scenario %s", scenarios[i].name);
        json_t *object = bench(&status, "", arguments);
        CU_ASSERT_EQUAL(status, 0);
        CU_ASSERT_STRING_EQUAL(text(object, "scenario"), scenarios[i].name);
        CU_ASSERT_EQUAL(json_array_size(json_object_get(object, "rows")), scenarios[i].rows);
        json_array_foreach(json_object_get(object, "rows"), k, row) {
            CU_ASSERT(real(row, "count") > 0 && real(row, "mean_ns") > 0);
            CU_ASSERT(real(row, "p50_ns") <= real(row, "p9999_ns") && real(row, "p9999_ns") <= real(row, "max_ns"));
            CU_ASSERT_EQUAL(real(row, "slow") > 0, real(row, "max_ns") >= 1e6);
            CU_ASSERT(real(row, "switched") <= real(row, "slow") && real(row, "away") <= real(row, "slow"));
            CU_ASSERT(real(row, "p9999_own_ns") <= real(row, "p9999_ns"));
        }
        json_decref(object);
    }
}

/* Servers and folders go with the run, also when it is killed. */
static void servers_end_with_the_run(void) {
    char command[2000];
    if (fixture_run("command -v redis-server || command -v memcached", output, sizeof output) != 0) {
        fixture_skip("servers_end_with_the_run", "neither redis-server nor memcached is installed (tools/setup peers)");
        return;
    }
    snprintf(
        command, sizeof command,
        "'%s' bench --compare --items 200000 >/dev/null & run=$!; "
        "for i in $(seq 200); do ls -d /dev/shm/larder-peer.$run.* 2>/dev/null && break; sleep 0.02; done >/dev/null; "
        "sleep 0.2; kill $run; { wait $run; } 2>/dev/null; ls -d /dev/shm/larder-peer.$run.* 2>/dev/null; true",
        fixture_program("larder"));
    CU_ASSERT_EQUAL(fixture_run(command, output, sizeof output), 0);
    CU_ASSERT_STRING_EQUAL(output, "");
}

static void bad_combinations_are_refused(void) {
    static const char *const cases[][2] = {{"--ops get_copy,fly", "fly"},    {"--value-size 16,x", "\\\"x\\\""},
                                           {"--value-size 1,2M", "1048576"}, {"--compare --processes 2", "one process"},
                                           {"--compare --ops all", "--ops"}, {"--scenario rain", "growth"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int status;
        json_t *object = bench(&status, "", cases[i][0]);
        CU_ASSERT_EQUAL(status, 2);
        CU_ASSERT_PTR_NOT_NULL(strstr(output, cases[i][1]));
        json_decref(object);
    }
}

void larder_suite_89_bench(void) {
    CU_pSuite suite = CU_add_suite("89_bench: what larder bench promises to print, peers included", NULL, NULL);
    CU_ADD_TEST(suite, every_operation_does_what_it_is_asked);
    CU_ADD_TEST(suite, several_processes_have_a_scaling_beside_the_floors);
    CU_ADD_TEST(suite, each_size_is_measured_by_itself);
    CU_ADD_TEST(suite, other_caches_do_the_same_or_are_said_to_be_absent);
    CU_ADD_TEST(suite, an_absent_cache_is_named_with_its_packages);
    CU_ADD_TEST(suite, each_scenario_counts_its_slow_operations);
    CU_ADD_TEST(suite, servers_end_with_the_run);
    CU_ADD_TEST(suite, bad_combinations_are_refused);
}
