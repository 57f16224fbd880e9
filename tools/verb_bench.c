/* SPDX-License-Identifier: MIT */
/* `larder bench`: nanoseconds for each operation, and beside them the floor (bench.h does the work). */
#include "bench.h"
#include "bench_compare.h"
#include "bench_plot.h"
#include "bench_scenario.h"
#include "cli.h"
#include "replication_print.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIN_ITEMS 1024u
#define MAX_ITEMS UINT64_C(1000000000)
#define MAX_SIZES 16u
#define SMALL_MEMORY (UINT64_C(256) << 20) /* of values, where --items does not say how many */

static const struct cli_option option_rows[] = {
    {"items", 'n', CLI_NUMBER, "N", NULL, "1000000",
     "Items in the cache; unless it is given, fewer of large values: 256 MiB of them"},
    {"value-size", 'v', CLI_TEXT, "BYTES,...", "bytes, or with K or M", "64",
     "Length of every value, or a list of lengths, each measured by itself; keys have 16 bytes"},
    {"zipf", 'z', CLI_REAL, "EXPONENT", NULL, "0", "Popularity of the keys: 0 uniform, 0.99 strongly skewed"},
    {"processes", 'p', CLI_NUMBER, "N", NULL, "1", "Processes at work at once, each bound to a core"},
    {"ops", 'o', CLI_TEXT, "NAME,...", NULL, NULL,
     "Operations to be measured, by the names below, or \"all\"; the common six if it is not given"},
    {"percentiles", 'P', CLI_FLAG, NULL, NULL, NULL,
     "Also times each operation by itself: 50th, 99th and 99.9th percentile and the longest"},
    {"compare", 'c', CLI_FLAG, NULL, NULL, NULL,
     "Measures other caches in the same run on the same keys: memcached, Redis, LMDB and APCu, as far as they are "
     "installed; 100,000 items unless --items says otherwise"},
    {"scenario", 's', CLI_CHOICE, "growth|large|tails|hotkey|stripe|expiry|pins|startup|stall|slow|flood", NULL, NULL,
     "Measures the worst operations, or what neighbours cost each other, each operation by itself; with --replication "
     "(stall, slow, flood, large): what a bad peer costs, or large values"},
    {"replication", 'r', CLI_FLAG, NULL, NULL, NULL,
     "Measures two hosts over loopback, and Redis beside them: --ops lag,sustained,catch_up,redis or some of these; "
     "250,000 items unless --items says otherwise"},
    {"duration", 'd', CLI_DURATION, "TIME", "ms, s", "5s", "With --replication: of each measurement"},
    {"pairs", 0, CLI_NUMBER, "N", NULL, "10", "With --replication and a scenario: of intervals that are compared"},
    {"plot", 0, CLI_TEXT, "FILE.svg", NULL, NULL, "Also draws the figures"},
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

struct run {
    struct bench_options options;
    struct bench_result result;
};

struct request {
    struct bench_options common; /* all but items and value_bytes */
    unsigned sizes;
    uint64_t size[MAX_SIZES];
};

/* ---- the command line ------------------------------------------------------------------------------------------- */

/* Takes the next word of a list, "a,b,c", into `word`; NULL at its end. */
static const char *next_word(const char *list, char *word, size_t cap) {
    size_t len = strcspn(list, ",");
    snprintf(word, cap, "%.*s", (int)(len < cap ? len : cap - 1), list);
    return list[len] == ',' ? list + len + 1 : NULL;
}

static int read_sizes(const struct cli *cli, struct request *out) {
    char word[32];
    for (const char *list = cli_text(cli, "value-size"); list != NULL;) {
        uint64_t bytes;
        list = next_word(list, word, sizeof word);
        if (!cli_parse_size(word, &bytes))
            return cli_usage(cli, "option --value-size has \"%s\", which is not a size", word);
        if (bytes < 1 || bytes > (1u << 20))
            return cli_usage(cli, "option --value-size is %" PRIu64 " bytes, but must be 1 to %u", bytes, 1u << 20);
        if (out->sizes == MAX_SIZES)
            return cli_usage(cli, "option --value-size has more than %u sizes", MAX_SIZES);
        out->size[out->sizes++] = bytes;
    }
    return 0;
}

static int read_ops(const struct cli *cli, struct bench_options *out) {
    char word[32];
    const char *list = cli_text(cli, "ops");
#define X(name, common) out->ops |= (uint32_t)((common) && list == NULL) << BENCH_##name;
    BENCH_OPS(X)
#undef X
    if (list != NULL && strcmp(list, "all") == 0) {
        out->ops = (UINT32_C(1) << BENCH_OP_COUNT) - 1u;
        return 0;
    }
    while (list != NULL) {
        unsigned op = 0;
        list = next_word(list, word, sizeof word);
        while (op < BENCH_OP_COUNT && strcmp(word, bench_op_names[op]) != 0)
            op++;
        if (op == BENCH_OP_COUNT)
            return cli_usage(cli, "option --ops has \"%s\", which is not an operation", word);
        out->ops |= UINT32_C(1) << op;
    }
    return 0;
}

static int read_options(const struct cli *cli, struct request *out) {
    struct bench_options *common = &out->common;
    *common = (struct bench_options){.items = cli_number(cli, "items"),
                                     .zipf = cli_real(cli, "zipf"),
                                     .percentiles = cli_given(cli, "percentiles"),
                                     .progress = isatty(STDERR_FILENO) != 0};
    uint64_t processes = cli_number(cli, "processes");
    if (common->items < MIN_ITEMS || common->items > MAX_ITEMS)
        return cli_usage(cli, "option --items is %" PRIu64 ", but must be %u to %" PRIu64, common->items, MIN_ITEMS,
                         MAX_ITEMS);
    if (common->zipf > 10)
        return cli_usage(cli, "option --zipf is \"%s\", but must be 0 to 10", cli_text(cli, "zipf"));
    if (processes < 1 || processes > BENCH_MAX_PROCESSES || processes * 128u > common->items)
        return cli_usage(cli, "option --processes is %" PRIu64 ", but must be 1 to %u", processes, BENCH_MAX_PROCESSES);
    common->processes = (unsigned)processes;
    int exit_code = read_sizes(cli, out);
    return exit_code != 0 || cli_given(cli, "replication") ? exit_code : read_ops(cli, common);
}

static uint64_t items_of(const struct cli *cli, const struct request *request, uint64_t value_bytes) {
    uint64_t items = request->common.items, few = SMALL_MEMORY / (value_bytes + 60u), least = 128;
    if (cli_given(cli, "items") || few >= items)
        return items;
    if (least < request->common.processes * 128u)
        least = request->common.processes * 128u;
    return few > least ? few : least;
}

/* ---- output ----------------------------------------------------------------------------------------------------- */

static const char *const percentile_names[BENCH_PERCENTILES] = {"p50_ns", "p99_ns", "p999_ns", "max_ns"};

static json_t *row_as_json(const struct bench_options *bench, const struct bench_row *row, unsigned op) {
    json_t *object = json_pack("{s:s, s:I, s:I, s:i, s:f, s:f, s:f, s:I}", "op", bench_op_names[op], "items",
                               (json_int_t)bench->items, "value_bytes", (json_int_t)bench->value_bytes, "processes",
                               (int)bench->processes, "ns", row->ns, "floor_ns", row->floor_ns, "ratio", row->ratio,
                               "failed", (json_int_t)row->failed);
    if (bench->processes > 1) {
        json_object_set_new(object, "scaling", json_real(row->scaling));
        json_object_set_new(object, "floor_scaling", json_real(row->floor_scaling));
    }
    for (unsigned i = 0; bench->percentiles && i < BENCH_PERCENTILES; i++) {
        char name[32];
        json_object_set_new(object, percentile_names[i], json_real(row->tail_ns[i]));
        snprintf(name, sizeof name, "floor_%s", percentile_names[i]);
        json_object_set_new(object, name, json_real(row->floor_tail_ns[i]));
    }
    return object;
}

static void print_as_json(const struct run *runs, unsigned count) {
    json_t *rows = json_array();
    uint64_t evictions = 0;
    for (unsigned i = 0; i < count; i++) {
        evictions += runs[i].result.evictions;
        for (unsigned op = 0; op < BENCH_OP_COUNT; op++)
            if (runs[i].options.ops >> op & 1u)
                json_array_append_new(rows, row_as_json(&runs[i].options, &runs[i].result.rows[op], op));
    }
    cli_print_json(json_pack("{s:o, s:f, s:I, s:I}", "results", rows, "zipf", runs[0].options.zipf, "cache_bytes",
                             (json_int_t)runs[0].result.cache_bytes, "evictions", (json_int_t)evictions));
}

static void print_row(const struct bench_options *bench, const struct bench_row *row, unsigned op) {
    printf("%-12s %10.1f %10.1f %7.2f", bench_op_names[op], row->ns, row->floor_ns, row->ratio);
    if (bench->processes > 1)
        printf("  %7.3f  %7.3f", row->scaling, row->floor_scaling);
    if (bench->percentiles) {
        for (unsigned i = 0; i < BENCH_PERCENTILES; i++)
            printf(" %7.0f", row->tail_ns[i]);
        printf("  |");
        for (unsigned i = 0; i < BENCH_PERCENTILES; i++)
            printf(" %7.0f", row->floor_tail_ns[i]);
    }
    if (row->failed > 0)
        printf("  %s%" PRIu64 " did not do what was asked%s", cli_colour(stdout, CLI_YELLOW), row->failed,
               cli_colour(stdout, CLI_PLAIN));
    printf("\n");
}

static void print_as_text(const struct run *run) {
    const struct bench_options *bench = &run->options;
    char a[CLI_FORMAT_BYTES], b[CLI_FORMAT_BYTES];
    bool several = bench->processes > 1;
    printf("%s items of 16-byte keys and %" PRIu64 "-byte values in %s, ", cli_format_count(a, bench->items),
           bench->value_bytes, cli_format_bytes(b, run->result.cache_bytes));
    if (bench->zipf > 0)
        printf("Zipf %g, ", bench->zipf);
    printf("%u %s\n\n", bench->processes, several ? "processes" : "process");
    printf("%-12s %10s %10s %7s%s%s\n", "op", "ns", "floor ns", "ratio", several ? "  scaling  floor's" : "",
           bench->percentiles ? "     p50     p99   p99.9     max  |   floor p50, p99, p99.9, max" : "");
    for (unsigned op = 0; op < BENCH_OP_COUNT; op++)
        if (bench->ops >> op & 1u)
            print_row(bench, &run->result.rows[op], op);
    if (run->result.evictions > 0)
        printf("\n%" PRIu64 " items were evicted from a segment in which all should fit\n", run->result.evictions);
}

static int draw_plot(const struct cli *cli, const struct run *runs, unsigned count) {
    static struct plot_row rows[MAX_SIZES * BENCH_OP_COUNT];
    size_t used = 0;
    for (unsigned i = 0; i < count; i++)
        for (unsigned op = 0; op < BENCH_OP_COUNT; op++) {
            const struct bench_row *row = &runs[i].result.rows[op];
            if ((runs[i].options.ops >> op & 1u) == 0)
                continue;
            rows[used] = (struct plot_row){.ns = row->ns, .floor_ns = row->floor_ns};
            snprintf(rows[used++].label, sizeof rows[0].label, "%s, %" PRIu64 " B", bench_op_names[op],
                     runs[i].options.value_bytes);
        }
    if (plot_write(cli_text(cli, "plot"), "larder bench", rows, used) == 0)
        return 0;
    return cli_fail(cli, LARDER_ESYSTEM, "cannot write %s: %s", cli_text(cli, "plot"), strerror(errno));
}

/* ---- other caches ----------------------------------------------------------------------------------------------- */

static void print_comparison(const struct compare_options *options, const struct compare_result *result) {
    char count[CLI_FORMAT_BYTES];
    printf("%s items of 16-byte keys and %" PRIu64 "-byte values, Zipf %g, one process. Nanoseconds for a key, and "
           "how many times Larder's that is.\n\n%-12s %9s %9s",
           cli_format_count(count, options->items), options->value_bytes, options->zipf, "op", "floor", "larder");
    for (unsigned kind = 0; kind < PEER_COUNT; kind++)
        if (result->absent[kind][0] == '\0')
            printf(" %18s", peer_names[kind]);
    printf("\n");
    for (unsigned work = 0; work < PEER_WORKS; work++) {
        const double larder = result->ns[work][COMPARE_LARDER];
        printf("%-12s %9.1f %9.1f", compare_work_names[work], result->ns[work][COMPARE_FLOOR], larder);
        for (unsigned kind = 0; kind < PEER_COUNT; kind++)
            if (result->absent[kind][0] == '\0')
                printf(" %10.1f %6.1fx", result->ns[work][COMPARE_PEERS + kind],
                       result->ns[work][COMPARE_PEERS + kind] / larder);
        printf("\n");
    }
    printf(
        "\nget_many gets 16 keys in a request. memcached and Redis are asked over a Unix socket, one request after the "
        "other;\nLMDB lies in /dev/shm and does not sync; APCu is asked, and timed, by PHP.\n");
    for (unsigned kind = 0; kind < PEER_COUNT; kind++)
        if (result->absent[kind][0] != '\0')
            printf("%sSKIPPED %s: %s. On Debian: apt-get install --no-install-recommends %s%s\n",
                   cli_colour(stdout, CLI_YELLOW), peer_names[kind], result->absent[kind], peer_packages[kind],
                   cli_colour(stdout, CLI_PLAIN));
        else if (result->failed[COMPARE_PEERS + kind] > 0)
            printf("%s: %" PRIu64 " operations did not do what was asked\n", peer_names[kind],
                   result->failed[COMPARE_PEERS + kind]);
}

static json_t *comparison_as_json(const struct compare_options *options, const struct compare_result *result) {
    json_t *rows = json_array(), *peers = json_array(), *absent = json_array();
    for (unsigned work = 0; work < PEER_WORKS; work++) {
        const double *ns = result->ns[work];
        json_array_append_new(rows,
                              json_pack("{s:s, s:I, s:I, s:i, s:f, s:f, s:f}", "op", compare_work_names[work], "items",
                                        (json_int_t)options->items, "value_bytes", (json_int_t)options->value_bytes,
                                        "processes", 1, "ns", ns[COMPARE_LARDER], "floor_ns", ns[COMPARE_FLOOR],
                                        "ratio", ns[COMPARE_LARDER] / ns[COMPARE_FLOOR]));
        for (unsigned kind = 0; kind < PEER_COUNT; kind++)
            if (result->absent[kind][0] == '\0')
                json_array_append_new(peers, json_pack("{s:s, s:s, s:f, s:f, s:I}", "peer", peer_names[kind], "op",
                                                       compare_work_names[work], "ns", ns[COMPARE_PEERS + kind],
                                                       "times_larder", ns[COMPARE_PEERS + kind] / ns[COMPARE_LARDER],
                                                       "failed", (json_int_t)result->failed[COMPARE_PEERS + kind]));
    }
    for (unsigned kind = 0; kind < PEER_COUNT; kind++)
        if (result->absent[kind][0] != '\0')
            json_array_append_new(absent, json_pack("{s:s, s:s, s:s}", "peer", peer_names[kind], "why",
                                                    result->absent[kind], "packages", peer_packages[kind]));
    return json_pack("{s:o, s:o, s:o, s:f}", "results", rows, "peers", peers, "absent", absent, "zipf", options->zipf);
}

static int compare_verb(struct cli *cli, const struct request *request) {
    static struct compare_result result;
    struct compare_options options = {.items = cli_given(cli, "items") ? request->common.items : 100000,
                                      .value_bytes = request->size[0],
                                      .zipf = request->common.zipf,
                                      .progress = request->common.progress};
    char why[LR_WHY_BYTES] = "";
    if (request->sizes > 1 || request->common.processes > 1 || cli_given(cli, "ops") || cli_given(cli, "percentiles") ||
        cli_given(cli, "plot"))
        return cli_usage(cli, "--compare takes one --value-size and one process, and neither --ops, --percentiles nor "
                              "--plot");
    int error = compare_run(&options, &result, why);
    if (result.interrupted != 0) {
        signal(result.interrupted, SIG_DFL);
        raise(result.interrupted);
    }
    if (error != 0)
        return cli_fail(cli, error, "%s", why[0] != '\0' ? why : lr_error_text(error));
    if (cli->json)
        return cli_print_json(comparison_as_json(&options, &result));
    print_comparison(&options, &result);
    return CLI_YES;
}

/* ---- scenarios -------------------------------------------------------------------------------------------------- */

static void print_scenario(const char *name, const struct scenario_options *scene,
                           const struct scenario_result *result) {
    char count[CLI_FORMAT_BYTES];
    printf("%s: %s items of 16-byte keys and %" PRIu64 "-byte values; nanoseconds of single operations\n\n", name,
           cli_format_count(count, scene->items), scene->value_bytes);
    printf("%-34s %8s %9s %9s %9s %9s %10s %6s %8s %5s %9s %8s\n", "", "mean", "p50", "p99", "p99.9", "p99.99", "max",
           ">=1ms", "switched", "away", "p99.99own", "steal ms");
    for (unsigned i = 0; i < result->rows; i++) {
        const struct scenario_row *row = &result->row[i];
        printf("%-34s %8.1f", row->label, row->mean_ns);
        for (unsigned k = 0; k < SCENARIO_SHARES; k++)
            printf(" %*.0f", k + 1 == SCENARIO_SHARES ? 10 : 9, row->at[k]);
        printf(" %6" PRIu64 " %8" PRIu64 " %5" PRIu64 " %9.0f %8.0f\n", row->slow, row->switched, row->away,
               row->own_p9999_ns, row->steal_ms);
    }
    printf(
        "\nOf those that took a millisecond or more, \"switched\" lost the processor against their will, and \"away\" "
        "took less than\na millisecond of it; p99.99own leaves that time out. Steal is what the hypervisor took from "
        "all processors meanwhile.\n");
}

static json_t *scenario_as_json(const char *name, const struct scenario_options *scene,
                                const struct scenario_result *result) {
    json_t *rows = json_array();
    for (unsigned i = 0; i < result->rows; i++) {
        const struct scenario_row *row = &result->row[i];
        json_t *object =
            json_pack("{s:s, s:I, s:f, s:I, s:I, s:I, s:f, s:f}", "label", row->label, "count", (json_int_t)row->count,
                      "mean_ns", row->mean_ns, "slow", (json_int_t)row->slow, "switched", (json_int_t)row->switched,
                      "away", (json_int_t)row->away, "p9999_own_ns", row->own_p9999_ns, "steal_ms", row->steal_ms);
        for (unsigned k = 0; k < SCENARIO_SHARES; k++)
            json_object_set_new(object, scenario_share_names[k], json_real(row->at[k]));
        json_array_append_new(rows, object);
    }
    return json_pack("{s:s, s:I, s:I, s:o}", "scenario", name, "items", (json_int_t)scene->items, "value_bytes",
                     (json_int_t)scene->value_bytes, "rows", rows);
}

static int scenario_verb(struct cli *cli, const struct request *request) {
    static struct scenario_result result;
    const struct scenario_options scene = {.items = request->common.items, .value_bytes = request->size[0]};
    const char *name = cli_text(cli, "scenario");
    char why[LR_WHY_BYTES] = "";
    unsigned number = 0;
    while (number < SCENARIO_COUNT && strcmp(name, scenario_names[number]) != 0)
        number++;
    if (number == SCENARIO_COUNT)
        return cli_usage(cli, "option --scenario is \"%s\", which needs --replication", name);
    int error = scenario_run((enum scenario)number, &scene, &result, why);
    if (result.interrupted != 0) {
        signal(result.interrupted, SIG_DFL);
        raise(result.interrupted);
    }
    if (error != 0)
        return cli_fail(cli, error, "%s", why[0] != '\0' ? why : lr_error_text(error));
    if (cli->json)
        return cli_print_json(scenario_as_json(name, &scene, &result));
    print_scenario(name, &scene, &result);
    return CLI_YES;
}

/* ---- replication ------------------------------------------------------------------------------------------------ */

static int read_parts(const struct cli *cli, struct replication_options *out) {
    char word[32];
    const char *list = cli_text(cli, "ops");
    if (list == NULL)
        out->parts = (1u << REPLICATION_PARTS_COUNT) - 1u;
    while (list != NULL) {
        unsigned part = 0;
        list = next_word(list, word, sizeof word);
        while (part < REPLICATION_PARTS_COUNT && strcmp(word, replication_part_names[part]) != 0)
            part++;
        if (part == REPLICATION_PARTS_COUNT)
            return cli_usage(cli, "option --ops has \"%s\", which is no part of --replication", word);
        out->parts |= 1u << part;
    }
    return 0;
}

static int read_replication(const struct cli *cli, const struct request *request, struct replication_options *out) {
    *out = (struct replication_options){.items = cli_given(cli, "items") ? request->common.items : 250000,
                                        .ns = cli_number(cli, "duration") * UINT64_C(1000000),
                                        .pairs = (unsigned)cli_number(cli, "pairs"),
                                        .value_len = request->size[0],
                                        .progress = request->common.progress};
    if (request->sizes > 1 || request->common.processes > 1 || request->common.zipf > 0 || cli_given(cli, "compare") ||
        cli_given(cli, "percentiles") || cli_given(cli, "plot"))
        return cli_usage(cli, "--replication takes one --value-size and one process, and neither --zipf, --compare, "
                              "--percentiles nor --plot");
    if (out->value_len < 8 || out->value_len > 4096)
        return cli_usage(cli, "option --value-size is %" PRIu64 " bytes, but with --replication must be 8 to 4096",
                         out->value_len);
    if (out->ns < UINT64_C(10000000) || out->ns > UINT64_C(60000000000))
        return cli_usage(cli, "option --duration is \"%s\", but must be 10 ms to 60 s", cli_text(cli, "duration"));
    if (out->pairs < 1 || cli_number(cli, "pairs") > REPLICATION_PAIRS)
        return cli_usage(cli, "option --pairs is \"%s\", but must be 1 to %u", cli_text(cli, "pairs"),
                         REPLICATION_PAIRS);
    return read_parts(cli, out);
}

static void raise_again(int number) {
    if (number == 0)
        return;
    signal(number, SIG_DFL);
    raise(number);
}

static int replication_scenario_verb(struct cli *cli, const struct replication_options *options) {
    static struct replication_scene scene;
    const char *name = cli_text(cli, "scenario");
    char why[LR_WHY_BYTES] = "";
    unsigned number = 0;
    while (number < REPLICATION_SCENARIO_COUNT && strcmp(name, replication_scenario_names[number]) != 0)
        number++;
    if (number == REPLICATION_SCENARIO_COUNT)
        return cli_usage(cli, "option --scenario is \"%s\", but with --replication must be stall, slow, flood or large",
                         name);
    int error = replication_scenario((enum replication_scenario)number, options, &scene, why);
    raise_again(scene.interrupted);
    if (error != 0)
        return cli_fail(cli, error, "%s", why[0] != '\0' ? why : lr_error_text(error));
    if (cli->json)
        return cli_print_json(replication_scene_json(name, options, &scene));
    replication_print_scene(name, options, &scene);
    return CLI_YES;
}

static int replication_verb(struct cli *cli, const struct request *request) {
    static struct replication_result result;
    struct replication_options options;
    char why[LR_WHY_BYTES] = "";
    int exit_code = read_replication(cli, request, &options);
    if (exit_code != 0)
        return exit_code;
    if (cli_given(cli, "scenario"))
        return replication_scenario_verb(cli, &options);
    int error = replication_run(&options, &result, why);
    raise_again(result.interrupted);
    if (error != 0)
        return cli_fail(cli, error, "%s", why[0] != '\0' ? why : lr_error_text(error));
    if (cli->json)
        return cli_print_json(replication_json(&options, &result));
    replication_print(&options, &result);
    return CLI_YES;
}

static int bench_verb(struct cli *cli) {
    static struct request request;
    static struct run runs[MAX_SIZES];
    char why[LR_WHY_BYTES] = "";
    int exit_code = read_options(cli, &request);
    if (exit_code == 0 && cli_given(cli, "replication"))
        return replication_verb(cli, &request);
    if (exit_code == 0 && cli_given(cli, "scenario"))
        return scenario_verb(cli, &request);
    if (exit_code == 0 && cli_given(cli, "compare"))
        return compare_verb(cli, &request);
    for (unsigned i = 0; exit_code == 0 && i < request.sizes; i++) {
        runs[i].options = request.common;
        runs[i].options.value_bytes = request.size[i];
        runs[i].options.items = items_of(cli, &request, request.size[i]);
        int error = bench_run(&runs[i].options, &runs[i].result, why);
        if (runs[i].result.interrupted != 0) {
            signal(runs[i].result.interrupted, SIG_DFL);
            raise(runs[i].result.interrupted);
        }
        if (error != 0)
            return cli_fail(cli, error, "%s", why[0] != '\0' ? why : lr_error_text(error));
        if (!cli->json) {
            if (i > 0)
                printf("\n");
            print_as_text(&runs[i]);
        }
    }
    if (exit_code == 0 && cli_text(cli, "plot") != NULL)
        exit_code = draw_plot(cli, runs, request.sizes);
    if (exit_code == 0 && cli->json)
        print_as_json(runs, request.sizes);
    return exit_code;
}

const struct verb verb_bench = {
    .name = "bench",
    .summary = "nanoseconds for each operation, and beside them the least that it could cost",
    .operands = "",
    .description =
        "Measures the engine's calls on a segment made for the run, and in turns with them the floor: a plain table in "
        "private memory that hashes the key, reads one index line and one item, and copies the value; as large, laid "
        "out "
        "the same way, with the same keys. Both are measured in short rounds, and the figures are medians of the "
        "rounds, "
        "so that whatever else the machine does meets both. The floor of put and delete is the same look-up "
        "and a store of the item's bytes, or of a flag, in place.\n\n"
        "get_copy copies the value out, get_pinned reads it in place, get_many gets 16 keys in a call (its figures are "
        "for a key), put_replace overwrites, delete deletes keys that are there, put_evict puts new keys into a "
        "segment "
        "that is full. With --ops also get_many_4 and get_many_64, put_new (with room), increment (of one counter in "
        "items / 16), mixed_95 and mixed_50 (so many gets in a hundred operations, else put_replace).\n\n"
        "With several processes all work at once on one segment, each with a floor table of its own. Scaling is the "
        "throughput of all, over that of one alone in the same rounds times their number: 1 is perfect.\n\n"
        "A scenario asks what single operations cost at worst: growth puts new keys into an empty segment until it "
        "evicts; large puts 1 MiB values that evict; tails gets while another process puts at full speed; hotkey gets "
        "one key in two processes; stripe gets keys while another process puts them, or others of their stripe; expiry "
        "puts and gets right after all items have expired at once; pins pins values of 64 "
        "bytes and of 1 MiB that lie side by side; startup creates a segment for so many items.\n\n"
        "With --replication two segments of this machine, with a larderd each, are two hosts; the link is loopback, "
        "plain, "
        "by TLS, or compressed. lag: distinct keys are put at 10, 50 and 100 thousand a second, and a process that "
        "looks at "
        "the other host's feed every 0.1 ms takes how late they are (from before the put; too large by the time "
        "between two "
        "looks at most, which is told). sustained: as many as the other host takes. catch_up: the other host had "
        "nothing, "
        "was away, or both larderds are new, and lacks --items values of 1 KiB. redis: a master and a replica, the "
        "same "
        "keys, 16 SETs in flight, in five turns with as many changes of Larder's as the other host takes, each half of "
        "--duration; the "
        "figures are medians of the turns. Processor time is told apart: the writer, the two larderds, the meter; what "
        "other "
        "programs "
        "took is in the share of all that was busy. Of Redis the client's is left out; of Larder the writer's is in, "
        "for it "
        "is the writer who stores.\n\n"
        "Its scenarios: intervals of --duration with a healthy and a bad peer take turns, and the 99th percentiles of "
        "a put "
        "at 50,000 a second are compared: stall (its larderd is stopped), slow (it runs 5 ms of every 50), flood "
        "(somebody "
        "puts there as fast as can be). large: the lag of small values while 100 of 1 MiB a second flow.\n\n"
        "Memory: about items x (value + 60) bytes for the segment, and as much for each process. The segment is sized "
        "so "
        "that nothing is evicted, but for put_evict, which has one of its own.",
    .output =
        "results: an array of op, items, value_bytes, processes, ns, floor_ns, ratio (ns / floor_ns), failed "
        "(operations that missed or were refused), and with several processes scaling and floor_scaling; zipf, "
        "cache_bytes, evictions (from the segment in which all should fit). With "
        "--percentiles also p50_ns, p99_ns, p999_ns, max_ns and the same of the floor (floor_...): of single "
        "operations, with some nanoseconds for reading the clock; of batches for get_many. With --compare: results; "
        "peers: an array of peer, op, ns, times_larder (its ns / Larder's), failed; absent: an array of peer, why, "
        "packages. With --scenario: scenario and rows, an array of label, count, mean_ns, p50_ns, p99_ns, p999_ns, "
        "p9999_ns, max_ns, slow (operations of a millisecond or more), switched and away (of these), p9999_own_ns, "
        "steal_ms. With "
        "--replication: "
        "items, seconds, and lag, sustained, catch_up: arrays of links (plain, tls, lz4), label, value_bytes, "
        "changes_per_s "
        "(applied there), bytes_per_s, cpu_ns_per_change and changes_per_cpu_s (writer and both larderds), "
        "wire_bytes_per_change (TCP's, both ways; of catch_up 0 if a link was replaced), cpu: writer, first, second, "
        "meter (shares of a processor), busy, "
        "stolen (of "
        "all); of lag also samples, overruns, lag_p50_us, lag_p99_us, lag_p999_us, lag_max_us, looks_p50_us, "
        "looks_p99_us; of "
        "catch_up bytes, seconds (from the start of larderd), flowing_seconds (from the first value), "
        "flowing_bytes_per_s, "
        "seconds_per_gib, missing; redis: writes, changes_per_s, changes_per_cpu_s, master_cpu, replica_cpu, "
        "larder_changes_per_cpu_s, larder_times, turns (larder_times of each, in ascending order); or "
        "absent, packages. With a scenario: healthy_p99_ns, bad_p99_ns, ratio (medians), memory_bytes (of larderd's "
        "own, the "
        "most), pairs; or large_per_s and rows, as of lag.",
    .examples = "larder bench\n"
                "larder bench --items 8000000 --processes 2\n"
                "larder bench --items 100000 --value-size 1K --zipf 0.99 --json\n"
                "larder bench --value-size 16,256,4K,64K,1M --plot sizes.svg\n"
                "larder bench --ops all --percentiles\n"
                "larder bench --compare --items 1000000\n"
                "larder bench --scenario tails\n"
                "larder bench --replication\n"
                "larder bench --replication --ops lag,redis --duration 2s --json\n"
                "larder bench --replication --scenario stall",
    .options = option_rows,
    .run = bench_verb,
};
