/* SPDX-License-Identifier: MIT */
/* `larder bench`: nanoseconds for each operation, and beside them the floor (bench.h does the work). */
#include "bench.h"
#include "cli.h"

#include <inttypes.h>
#include <signal.h>
#include <unistd.h>

#define MIN_ITEMS 1024u
#define MAX_ITEMS UINT64_C(1000000000)

static const struct cli_option options[] = {
    {"items", 'n', CLI_NUMBER, "N", NULL, "1000000", "Items in the cache"},
    {"value-size", 'v', CLI_SIZE, "BYTES", "bytes, or with K or M", "64", "Length of every value; keys have 16 bytes"},
    {"zipf", 'z', CLI_REAL, "EXPONENT", NULL, "0", "Popularity of the keys: 0 uniform, 0.99 strongly skewed"},
    {"processes", 'p', CLI_NUMBER, "N", NULL, "1", "Processes at work at once, each bound to a core"},
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

static const char *const op_names[BENCH_OP_COUNT] = {
#define X(name) #name,
    BENCH_OPS(X)
#undef X
};

static int read_options(const struct cli *cli, struct bench_options *out) {
    *out = (struct bench_options){.items = cli_number(cli, "items"),
                                  .value_bytes = cli_number(cli, "value-size"),
                                  .zipf = cli_real(cli, "zipf"),
                                  .progress = isatty(STDERR_FILENO) != 0};
    uint64_t processes = cli_number(cli, "processes");
    if (out->items < MIN_ITEMS || out->items > MAX_ITEMS)
        return cli_usage(cli, "option --items is %" PRIu64 ", but must be %u to %" PRIu64, out->items, MIN_ITEMS,
                         MAX_ITEMS);
    if (out->value_bytes < 1 || out->value_bytes > (1u << 20))
        return cli_usage(cli, "option --value-size is %" PRIu64 " bytes, but must be 1 to %u", out->value_bytes,
                         1u << 20);
    if (out->zipf > 10)
        return cli_usage(cli, "option --zipf is \"%s\", but must be 0 to 10", cli_text(cli, "zipf"));
    if (processes < 1 || processes > BENCH_MAX_PROCESSES || processes * 32u > out->items)
        return cli_usage(cli, "option --processes is %" PRIu64 ", but must be 1 to %u", processes, BENCH_MAX_PROCESSES);
    out->processes = (unsigned)processes;
    return 0;
}

static void print_as_json(const struct bench_options *bench, const struct bench_result *result) {
    json_t *rows = json_array();
    for (unsigned i = 0; i < BENCH_OP_COUNT; i++) {
        const struct bench_row *row = &result->rows[i];
        json_t *object =
            json_pack("{s:s, s:I, s:I, s:i, s:f, s:f, s:f, s:I}", "op", op_names[i], "items", (json_int_t)bench->items,
                      "value_bytes", (json_int_t)bench->value_bytes, "processes", (int)bench->processes, "ns", row->ns,
                      "floor_ns", row->floor_ns, "ratio", row->ratio, "failed", (json_int_t)row->failed);
        if (bench->processes > 1) {
            json_object_set_new(object, "scaling", json_real(row->scaling));
            json_object_set_new(object, "floor_scaling", json_real(row->floor_scaling));
        }
        json_array_append_new(rows, object);
    }
    cli_print_json(json_pack("{s:o, s:f, s:I, s:I}", "results", rows, "zipf", bench->zipf, "cache_bytes",
                             (json_int_t)result->cache_bytes, "evictions", (json_int_t)result->evictions));
}

static void print_as_text(const struct bench_options *bench, const struct bench_result *result) {
    char a[CLI_FORMAT_BYTES], b[CLI_FORMAT_BYTES];
    bool several = bench->processes > 1;
    printf("%s items of 16-byte keys and %" PRIu64 "-byte values in %s, ", cli_format_count(a, bench->items),
           bench->value_bytes, cli_format_bytes(b, result->cache_bytes));
    if (bench->zipf > 0)
        printf("Zipf %g, ", bench->zipf);
    printf("%u %s\n\n", bench->processes, several ? "processes" : "process");
    printf("%-12s %10s %10s %7s%s\n", "op", "ns", "floor ns", "ratio", several ? "  scaling  floor's" : "");
    for (unsigned i = 0; i < BENCH_OP_COUNT; i++) {
        const struct bench_row *row = &result->rows[i];
        printf("%-12s %10.1f %10.1f %7.2f", op_names[i], row->ns, row->floor_ns, row->ratio);
        if (several)
            printf("  %7.3f  %7.3f", row->scaling, row->floor_scaling);
        if (row->failed > 0)
            printf("  %s%" PRIu64 " did not do what was asked%s", cli_colour(stdout, CLI_YELLOW), row->failed,
                   cli_colour(stdout, CLI_PLAIN));
        printf("\n");
    }
    if (result->evictions > 0)
        printf("\n%" PRIu64 " items were evicted from a segment in which all should fit\n", result->evictions);
}

static int bench_verb(struct cli *cli) {
    static struct bench_options bench;
    static struct bench_result result;
    char why[LR_WHY_BYTES] = "";
    int exit_code = read_options(cli, &bench);
    if (exit_code != 0)
        return exit_code;
    int error = bench_run(&bench, &result, why);
    if (result.interrupted != 0) {
        signal(result.interrupted, SIG_DFL);
        raise(result.interrupted);
    }
    if (error != 0)
        return cli_fail(cli, error, "%s", why[0] != '\0' ? why : lr_error_text(error));
    if (cli->json)
        print_as_json(&bench, &result);
    else
        print_as_text(&bench, &result);
    return CLI_YES;
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
        "for a key), put_replace overwrites, put_evict puts new keys into a segment that is full, delete deletes keys "
        "that "
        "are there.\n\n"
        "With several processes all work at once on one segment, each with a floor table of its own. Scaling is the "
        "throughput of all, over that of one alone in the same rounds times their number: 1 is perfect.\n\n"
        "Memory: about items x (value + 60) bytes for the segment, and as much for each process. The segment is sized "
        "so "
        "that nothing is evicted, but for put_evict, which has one of its own.",
    .output = "results: an array of op, items, value_bytes, processes, ns, floor_ns, ratio (ns / floor_ns), failed "
              "(operations that missed or were refused), and with several processes scaling and floor_scaling; zipf, "
              "cache_bytes, evictions (from the segment in which all should fit).",
    .examples = "larder bench\n"
                "larder bench --items 8000000 --processes 2\n"
                "larder bench --items 100000 --value-size 1K --zipf 0.99 --json",
    .options = options,
    .run = bench_verb,
};
