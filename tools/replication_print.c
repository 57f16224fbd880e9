/* SPDX-License-Identifier: MIT */
/* See replication_print.h. */
#include "replication_print.h"

#include <inttypes.h>
#include <stdio.h>

/* For each nanosecond of all turns; 0: there was none. */
static double of_all_turns(const struct replication_redis *redis, uint64_t what) {
    return redis->all.ns > 0 ? (double)what / (double)redis->all.ns : 0;
}

static double inverse(double ns) {
    return ns > 0 ? 1e9 / ns : 0;
}

/* Writes that reached both ends for a second of processor time of both. */
static double per_cpu_second(const struct replication_row *row) {
    return inverse(row->change_cpu_ns);
}

static double catch_up_rate(const struct replication_row *row) {
    return row->flowing_seconds > 0 ? (double)row->bytes / row->flowing_seconds : 0;
}

static double per_gib(const struct replication_row *row) {
    return row->bytes > 0 ? row->seconds * (double)(1u << 30) / (double)row->bytes : 0;
}

/* ---- text ------------------------------------------------------------------------------------------------------- */

static void print_cpu(const struct replication_row *row) {
    const struct replication_cpu *cpu = &row->cpu;
    printf(" %5.0f %5.0f %5.0f %5.0f %5.0f", cpu->writer * 100, cpu->first * 100, cpu->second * 100, cpu->meter * 100,
           cpu->busy * 100);
    if (cpu->stolen > 0.005)
        printf("  (%.0f %% stolen)", cpu->stolen * 100);
}

#define CPU_TITLES "writer first second meter  busy"

static void print_lags(const struct replication_row *rows, unsigned count) {
    printf("%-6s %-20s %9s %8s %8s %8s %9s  %s %10s %8s\n", "links", "", "rate", "p50 us", "p99 us", "p99.9", "highest",
           CPU_TITLES, "looks p99", "us CPU");
    for (unsigned i = 0; i < count; i++) {
        const struct replication_row *row = &rows[i];
        printf("%-6s %-20s %9.0f %8.0f %8.0f %8.0f %9.0f ", row->links, row->label, row->rate, row->lag_us[0],
               row->lag_us[1], row->lag_us[2], row->lag_us[3]);
        print_cpu(row);
        printf(" %10.0f %8.2f\n", row->looks_us[1], row->change_cpu_ns / 1000);
        if (row->overruns > 0)
            printf("       the meter was overrun %" PRIu64 " times: longer lags are missing\n", row->overruns);
    }
}

static void print_rate_titles(void) {
    printf("\n%-6s %-11s %11s %9s %9s %11s  %s %8s\n", "links", "value bytes", "changes/s", "MB/s", "us CPU",
           "per CPU-s", CPU_TITLES, "wire B");
}

static void print_sustained(const struct replication_row *rows, unsigned count) {
    print_rate_titles();
    for (unsigned i = 0; i < count; i++) {
        const struct replication_row *row = &rows[i];
        printf("%-6s %-11" PRIu64 " %11.0f %9.1f %9.2f %11.0f ", row->links, row->value_len, row->rate,
               row->bytes_rate / 1e6, row->change_cpu_ns / 1000, per_cpu_second(row));
        print_cpu(row);
        printf(" %8.1f\n", row->wire_bytes);
    }
}

static void print_redis(const struct replication_options *options, const struct replication_result *result) {
    const struct replication_redis *redis = &result->redis;
    if (redis->absent[0] != '\0') {
        printf("\n%sSKIPPED redis: %s. On Debian: apt-get install --no-install-recommends %s%s\n",
               cli_colour(stdout, CLI_YELLOW), redis->absent, peer_packages[PEER_redis], cli_colour(stdout, CLI_PLAIN));
        return;
    }
    if (result->rows[REPLICATION_sustained] == 0)
        print_rate_titles();
    printf("%-6s %-11" PRIu64 " %11.0f %9s %9.2f %11.0f  master %.0f %%, replica %.0f %%\n", "redis",
           options->value_len, of_all_turns(redis, redis->all.writes) * 1e9, "", redis->median_ns / 1000,
           inverse(redis->median_ns), of_all_turns(redis, redis->all.master_ns) * 100,
           of_all_turns(redis, redis->all.replica_ns) * 100);
    if (redis->turns > 0)
        printf("\nReplicated writes for a second of processor time of both ends: %.2f times Redis's (median of %u "
               "turns, %.2f to %.2f;\nLarder's then: %.2f us CPU).\n",
               redis->median_times, redis->turns, redis->times[0], redis->times[redis->turns - 1],
               redis->larder_median_ns / 1000);
}

static void print_catch_up(const struct replication_row *rows, unsigned count) {
    char bytes[CLI_FORMAT_BYTES];
    printf("\n%-6s %-24s %11s %8s %9s %9s %11s  %s %8s\n", "links", "the other host", "lacked", "s", "MB/s", "s/GiB",
           "us CPU", "first second  busy", "wire B");
    for (unsigned i = 0; i < count; i++) {
        const struct replication_row *row = &rows[i];
        printf("%-6s %-24s %11s %8.3f %9.0f %9.2f %11.2f  %5.0f %6.0f %5.0f %8.1f\n", row->links, row->label,
               cli_format_bytes(bytes, row->bytes), row->seconds, catch_up_rate(row) / 1e6, per_gib(row),
               row->change_cpu_ns / 1000, row->cpu.first * 100, row->cpu.second * 100, row->cpu.busy * 100,
               row->wire_bytes);
        if (row->missing > 0)
            printf("       %" PRIu64 " items are still missing\n", row->missing);
    }
}

void replication_print(const struct replication_options *options, const struct replication_result *result) {
    char count[CLI_FORMAT_BYTES];
    printf("%s keys of 16 bytes; two larderds over loopback. Shares of one processor in percent, `busy` of all.\n\n",
           cli_format_count(count, options->items));
    if (result->rows[REPLICATION_lag] > 0)
        print_lags(result->row[REPLICATION_lag], result->rows[REPLICATION_lag]);
    if (result->rows[REPLICATION_sustained] > 0)
        print_sustained(result->row[REPLICATION_sustained], result->rows[REPLICATION_sustained]);
    if ((options->parts >> REPLICATION_redis & 1u) != 0)
        print_redis(options, result);
    if (result->rows[REPLICATION_catch_up] > 0)
        print_catch_up(result->row[REPLICATION_catch_up], result->rows[REPLICATION_catch_up]);
    printf(
        "\nA lag counts from before the put until the entry was seen on the other host, by a process that looks every "
        "0.1 ms (looks:\nhow far apart, 99th percentile). us CPU: of writer and both larderds, for a change. wire B: "
        "TCP's bytes there and back,\nfor a change.\n");
}

void replication_print_scene(const char *name, const struct replication_options *options,
                             const struct replication_scene *scene) {
    char bytes[CLI_FORMAT_BYTES];
    if (scene->row[0].label != NULL) {
        printf("large: the lag of %" PRIu64 "-byte values, and while %.0f values of 1 MiB a second flow beside\n\n",
               options->value_len, scene->large_rate);
        print_lags(scene->row, 2);
        return;
    }
    printf("%s: 99th percentile of a put, ns, in intervals of %.1f s with a healthy and a bad peer\n\n%6s %10s %10s "
           "%7s\n",
           name, (double)options->ns / 1e9, "pair", "healthy", "bad", "ratio");
    for (unsigned i = 0; i < scene->pairs; i++)
        printf("%6u %10.0f %10.0f %7.3f\n", i + 1, scene->pair[i].healthy_ns, scene->pair[i].bad_ns,
               scene->pair[i].bad_ns / scene->pair[i].healthy_ns);
    printf("%6s %10.0f %10.0f %7.3f\n\nThe larderd that had the bad peer used at most %s of memory of its own.\n",
           "median", scene->healthy_ns, scene->bad_ns, scene->ratio, cli_format_bytes(bytes, scene->memory_bytes));
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

static json_t *row_json(const struct replication_row *row) {
    return json_pack("{s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:f, s:{s:f, s:f, s:f, s:f, s:f, s:f}}", "links", row->links,
                     "label", row->label, "value_bytes", (json_int_t)row->value_len, "changes_per_s", row->rate,
                     "bytes_per_s", row->bytes_rate, "cpu_ns_per_change", row->change_cpu_ns, "changes_per_cpu_s",
                     per_cpu_second(row), "wire_bytes_per_change", row->wire_bytes, "cpu", "writer", row->cpu.writer,
                     "first", row->cpu.first, "second", row->cpu.second, "meter", row->cpu.meter, "busy", row->cpu.busy,
                     "stolen", row->cpu.stolen);
}

static json_t *lag_json(const struct replication_row *row) {
    json_t *object = row_json(row);
    json_object_update_new(object,
                           json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "samples", (json_int_t)row->samples,
                                     "overruns", (json_int_t)row->overruns, "lag_p50_us", row->lag_us[0], "lag_p99_us",
                                     row->lag_us[1], "lag_p999_us", row->lag_us[2], "lag_max_us", row->lag_us[3],
                                     "looks_p50_us", row->looks_us[0], "looks_p99_us", row->looks_us[1]));
    return object;
}

static json_t *catch_up_json(const struct replication_row *row) {
    json_t *object = row_json(row);
    json_object_update_new(object, json_pack("{s:I, s:f, s:f, s:f, s:f, s:I}", "bytes", (json_int_t)row->bytes,
                                             "seconds", row->seconds, "flowing_seconds", row->flowing_seconds,
                                             "flowing_bytes_per_s", catch_up_rate(row), "seconds_per_gib", per_gib(row),
                                             "missing", (json_int_t)row->missing));
    return object;
}

static json_t *redis_json(const struct replication_redis *redis) {
    if (redis->absent[0] != '\0')
        return json_pack("{s:s, s:s}", "absent", redis->absent, "packages", peer_packages[PEER_redis]);
    json_t *turns = json_array();
    for (unsigned i = 0; i < redis->turns; i++)
        json_array_append_new(turns, json_real(redis->times[i]));
    return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "writes", (json_int_t)redis->all.writes,
                     "changes_per_s", of_all_turns(redis, redis->all.writes) * 1e9, "changes_per_cpu_s",
                     inverse(redis->median_ns), "master_cpu", of_all_turns(redis, redis->all.master_ns), "replica_cpu",
                     of_all_turns(redis, redis->all.replica_ns), "larder_changes_per_cpu_s",
                     inverse(redis->larder_median_ns), "larder_times", redis->median_times, "turns", turns);
}

json_t *replication_json(const struct replication_options *options, const struct replication_result *result) {
    static json_t *(*const as_json[REPLICATION_PARTS_COUNT])(const struct replication_row *) = {lag_json, row_json,
                                                                                                catch_up_json, NULL};
    json_t *object = json_pack("{s:I, s:f}", "items", (json_int_t)options->items, "seconds", (double)options->ns / 1e9);
    for (unsigned part = 0; part < REPLICATION_PARTS_COUNT; part++) {
        json_t *rows = as_json[part] != NULL ? json_array() : redis_json(&result->redis);
        for (unsigned i = 0; i < result->rows[part]; i++)
            json_array_append_new(rows, as_json[part](&result->row[part][i]));
        json_object_set_new(object, replication_part_names[part], rows);
    }
    return object;
}

json_t *replication_scene_json(const char *name, const struct replication_options *options,
                               const struct replication_scene *scene) {
    json_t *rows = json_array();
    if (scene->row[0].label != NULL) {
        for (unsigned i = 0; i < 2; i++)
            json_array_append_new(rows, lag_json(&scene->row[i]));
        return json_pack("{s:s, s:f, s:o}", "scenario", name, "large_per_s", scene->large_rate, "rows", rows);
    }
    for (unsigned i = 0; i < scene->pairs; i++)
        json_array_append_new(rows, json_pack("{s:f, s:f}", "healthy_p99_ns", scene->pair[i].healthy_ns, "bad_p99_ns",
                                              scene->pair[i].bad_ns));
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:I, s:o}", "scenario", name, "seconds", (double)options->ns / 1e9,
                     "healthy_p99_ns", scene->healthy_ns, "bad_p99_ns", scene->bad_ns, "ratio", scene->ratio,
                     "memory_bytes", (json_int_t)scene->memory_bytes, "pairs", rows);
}
