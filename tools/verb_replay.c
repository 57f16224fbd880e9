/* SPDX-License-Identifier: MIT */
/* `larder replay`: a trace or a generated workload through a segment, every value judged (replay.h does the work). */
#include "cli.h"
#include "refclock.h"
#include "replay.h"
#include "trace.h"
#include "workload.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define X(name, number, sentence) "|" #name
static const char policies[] = LR_POLICIES(X);
#undef X

#define X(name, sentence) "|" #name
static const char workloads[] = WORKLOADS(X);
#undef X

static const struct cli_option options[] = {
    {"trace", 't', CLI_TEXT, "FILE", NULL, NULL, "Trace to replay, plain or zstd-compressed; - is standard input"},
    {"generate", 'g', CLI_CHOICE, workloads + 1, NULL, NULL,
     "Make a workload in place of a trace: kv small objects, web documents, ttl write-heavy and expiring"},
    {"seed", 0, CLI_NUMBER, "N", NULL, "1", "Of the generated workload: the same seed gives the same requests"},
    {"requests", 0, CLI_NUMBER, "N", NULL, "1000000", "Length of the generated workload"},
    {"size", 's', CLI_TEXT, "BYTES|P%", "bytes, or with K, M, G or T, or per cent of the footprint", "10%",
     "Size of the segment that is made for the run"},
    {"policy", 0, CLI_CHOICE, policies + 1, NULL, "clock", "How that segment makes room"},
    {"processes", 'p', CLI_NUMBER, "N", NULL, "1", "Worker processes; they share the trace by the hash of the key"},
    {"interleave", 0, CLI_FLAG, NULL, NULL, NULL,
     "Share the trace by time in place of the key: every Nth request each"},
    {"passes", 0, CLI_NUMBER, "N", NULL, "1", "Times to go through the trace"},
    {"reference", 'r', CLI_FLAG, NULL, NULL, NULL,
     "Compare with byte-exact CLOCK, each object charged its block, in as many bytes"},
    {"progress", 0, CLI_FLAG, NULL, NULL, NULL,
     "A line of progress once a second on standard error even where it is no terminal"},
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

struct run {
    struct trace trace;
    struct replay_options replay;
    struct replay_result result;
    struct refclock_result reference; /* with counts as high as the engine's */
    struct refclock_result classic;   /* with one bit */
    bool generated;
    const char *source;
};

/* ---- the command line ------------------------------------------------------------------------------------------- */

static int check_combinations(const struct cli *cli) {
    bool shared = cli_given(cli, "name") || cli_given(cli, "path");
    if (cli_given(cli, "trace") == cli_given(cli, "generate"))
        return cli_usage(cli, cli_given(cli, "trace") ? "--trace and --generate exclude each other"
                                                      : "one of --trace FILE and --generate KIND is needed");
    if (cli_given(cli, "trace") && (cli_given(cli, "seed") || cli_given(cli, "requests")))
        return cli_usage(cli, "--seed and --requests belong to --generate; a trace has its own");
    if (shared && (cli_given(cli, "size") || cli_given(cli, "policy")))
        return cli_usage(cli,
                         "--size and --policy belong to a segment made for the run; the one of --name or --path has "
                         "its own");
    if (cli_given(cli, "reference") && (shared || cli_number(cli, "passes") > 1 || cli_number(cli, "processes") > 1))
        return cli_usage(cli, "--reference is for one process and one pass on a segment made for the run");
    if (cli_number(cli, "processes") < 1 || cli_number(cli, "processes") > REPLAY_MAX_PROCESSES)
        return cli_usage(cli, "option --processes is %" PRIu64 ", but must be 1 to %u", cli_number(cli, "processes"),
                         REPLAY_MAX_PROCESSES);
    if (cli_number(cli, "passes") < 1 || cli_number(cli, "passes") > 1000000)
        return cli_usage(cli, "option --passes is %" PRIu64 ", but must be 1 to 1000000", cli_number(cli, "passes"));
    return 0;
}

static int load_requests(const struct cli *cli, struct run *run) {
    char why[TRACE_WHY_BYTES] = "";
    int error;
    run->generated = cli_given(cli, "generate");
    run->source = cli_text(cli, run->generated ? "generate" : "trace");
    if (run->generated)
        error = workload_generate((enum workload_kind)workload_kind(run->source), cli_number(cli, "seed"),
                                  cli_number(cli, "requests"), &run->trace, why);
    else
        error = trace_load(run->source, &run->trace, why);
    if (error == 0)
        return 0;
    return cli_fail_with(cli, error, "a trace has lines time,key,size,op,ttl; `larder replay --help` describes them",
                         "%s", why);
}

/* "64M", or "10%" of the footprint. */
static int read_size(const struct cli *cli, const struct trace *trace, uint64_t *out) {
    const char *text = cli_text(cli, "size");
    size_t len = strlen(text);
    char number[32];
    double share;
    if (len > 1 && len < sizeof number && text[len - 1] == '%') {
        memcpy(number, text, len - 1);
        number[len - 1] = '\0';
        if (cli_parse_real(number, &share) && share > 0 && share <= 10000) {
            *out = (uint64_t)ceil(share / 100.0 * (double)trace->footprint);
            return 0;
        }
    } else if (cli_parse_size(text, out) && *out > 0) {
        return 0;
    }
    return cli_usage(
        cli,
        "option --size is \"%s\", but must be bytes, such as 64M, or a share of the trace's footprint, such "
        "as 10%%",
        text);
}

static int read_replay(const struct cli *cli, struct run *run) {
    struct replay_options *replay = &run->replay;
    replay->trace = &run->trace;
    replay->shared = cli_given(cli, "name") || cli_given(cli, "path");
    replay->interleave = cli_given(cli, "interleave");
    replay->progress = cli_given(cli, "progress") || isatty(STDERR_FILENO);
    replay->processes = (unsigned)cli_number(cli, "processes");
    replay->passes = (unsigned)cli_number(cli, "passes");
    if (replay->shared)
        return cli_options(cli, &replay->segment);
    replay->segment = lr_options_default();
    replay->segment.policy = (enum lr_policy)lr_policy_number(cli_text(cli, "policy"));
    return read_size(cli, &run->trace, &replay->segment.size);
}

/* ---- results ---------------------------------------------------------------------------------------------------- */

static double ratio(uint64_t part, uint64_t whole) {
    return whole ? (double)part / (double)whole : 0.0;
}

static double miss_ratio(const struct replay_result *result) {
    return ratio(result->counters[REPLAY_gets] - result->counters[REPLAY_hits], result->counters[REPLAY_gets]);
}

static double requests_per_s(const struct replay_result *result) {
    return result->elapsed_ns ? (double)result->counters[REPLAY_requests] * 1e9 / (double)result->elapsed_ns : 0.0;
}

static double reference_ratio(const struct run *run) {
    return ratio(run->reference.misses, run->reference.gets);
}

/* How much higher our miss ratio is: 0.01 is one per cent. */
static double relative(const struct run *run) {
    return reference_ratio(run) > 0 ? miss_ratio(&run->result) / reference_ratio(run) - 1.0 : 0.0;
}

static void set_integer(json_t *object, const char *name, uint64_t value) {
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

static json_t *deaths_to_json(const struct replay_result *result) {
    json_t *deaths = json_array();
    for (unsigned i = 0; i < result->deaths && i < sizeof result->died / sizeof result->died[0]; i++) {
        const struct replay_death *death = &result->died[i];
        json_array_append_new(deaths, json_pack("{s:i, s:i, s:i, s:i}", "worker", (int)death->worker, "pid",
                                                (int)death->pid, "signal", death->signal, "status", death->status));
    }
    return deaths;
}

static void print_as_json(const struct cli *cli, const struct run *run) {
    static const char *const counters[REPLAY_COUNTER_COUNT] = {
#define X(name, sentence) #name,
        REPLAY_COUNTERS(X)
#undef X
    };
    const struct replay_result *result = &run->result;
    json_t *object = json_object();
    json_object_set_new(object, "source", cli_json_text(run->source));
    json_object_set_new(object, "generated", json_boolean(run->generated));
    if (run->generated)
        set_integer(object, "seed", cli_number(cli, "seed"));
    set_integer(object, "trace_requests", run->trace.count);
    set_integer(object, "keys", run->trace.keys);
    set_integer(object, "footprint", run->trace.footprint);
    if (run->replay.shared) {
        json_object_set_new(object, "segment", cli_json_text(cli_segment(&run->replay.segment)));
    } else {
        set_integer(object, "size", run->replay.segment.size);
        json_object_set_new(object, "policy", json_string(cli_text(cli, "policy")));
    }
    set_integer(object, "cache_bytes", result->cache_bytes);
    set_integer(object, "processes", run->replay.processes);
    set_integer(object, "passes", run->replay.passes);
    json_object_set_new(object, "interleave", json_boolean(run->replay.interleave));
    for (unsigned i = 0; i < REPLAY_COUNTER_COUNT; i++)
        set_integer(object, counters[i], result->counters[i]);
    set_integer(object, "wrong_values", result->wrong_values);
    if (result->wrong_values > 0)
        json_object_set_new(object, "first_wrong", cli_json_text(result->first_wrong));
    json_object_set_new(object, "miss_ratio", json_real(miss_ratio(result)));
    json_object_set_new(object, "byte_miss_ratio",
                        json_real(ratio(result->counters[REPLAY_miss_bytes], result->counters[REPLAY_get_bytes])));
    set_integer(object, "evictions", result->evictions);
    set_integer(object, "index_evictions", result->index_evictions);
    set_integer(object, "expirations", result->expirations);
    set_integer(object, "items", result->items);
    json_object_set_new(object, "payload_share", json_real(ratio(result->payload_bytes, result->cache_bytes)));
    set_integer(object, "index_bytes", result->index_bytes);
    set_integer(object, "free_bytes", result->free_bytes);
    set_integer(object, "repairs", result->repairs);
    set_integer(object, "takeovers", result->takeovers);
    set_integer(object, "deaths", result->deaths);
    json_object_set_new(object, "died", deaths_to_json(result));
    if (!run->replay.shared)
        set_integer(object, "check_findings", result->findings.findings);
    json_object_set_new(object, "elapsed_s", json_real((double)result->elapsed_ns / 1e9));
    json_object_set_new(object, "ops_per_s", json_real(requests_per_s(result)));
    json_object_set_new(object, "p50_ns", json_real(histogram_at(&result->get_ns, 0.5)));
    json_object_set_new(object, "p99_ns", json_real(histogram_at(&result->get_ns, 0.99)));
    json_object_set_new(object, "p999_ns", json_real(histogram_at(&result->get_ns, 0.999)));
    set_integer(object, "max_ns", result->get_ns.highest);
    if (cli_given(cli, "reference")) {
        json_object_set_new(object, "reference_miss_ratio", json_real(reference_ratio(run)));
        json_object_set_new(object, "relative", json_real(relative(run)));
        json_object_set_new(object, "one_bit_miss_ratio", json_real(ratio(run->classic.misses, run->classic.gets)));
    }
    if (result->interrupted)
        set_integer(object, "interrupted", (uint64_t)result->interrupted);
    cli_print_json(object);
}

static void print_requests(const struct cli *cli, const struct run *run) {
    const struct replay_result *result = &run->result;
    char a[CLI_FORMAT_BYTES], b[CLI_FORMAT_BYTES], c[CLI_FORMAT_BYTES];
    if (run->generated)
        printf("workload        %s, seed %" PRIu64, run->source, cli_number(cli, "seed"));
    else
        printf("trace           %s", run->source);
    printf(": %s requests, %s keys, footprint %s\n", cli_format_count(a, run->trace.count),
           cli_format_count(b, run->trace.keys), cli_format_bytes(c, run->trace.footprint));
    printf("segment         %s%s%s, %.1f %% of the footprint\n",
           run->replay.shared ? cli_segment(&run->replay.segment) : cli_text(cli, "policy"), ", ",
           cli_format_bytes(a, result->cache_bytes), 100.0 * ratio(result->cache_bytes, run->trace.footprint));
    printf("processes       %u, sharing the trace by %s%s\n", run->replay.processes,
           run->replay.interleave ? "time" : "key", run->replay.passes > 1 ? ", several passes" : "");
    printf("requests        %s: %s gets, ", cli_format_count(a, result->counters[REPLAY_requests]),
           cli_format_count(b, result->counters[REPLAY_gets]));
    printf("%s sets, %s deletes\n", cli_format_count(a, result->counters[REPLAY_sets]),
           cli_format_count(b, result->counters[REPLAY_deletes]));
}

static void print_trouble(const struct replay_result *result) {
    const char *red = cli_colour(stdout, CLI_RED), *plain = cli_colour(stdout, CLI_PLAIN);
    if (result->counters[REPLAY_puts_refused] > 0)
        printf("refused         %" PRIu64 " puts: %" PRIu64 " too large, %" PRIu64 " pinned, %" PRIu64 " busy\n",
               result->counters[REPLAY_puts_refused], result->counters[REPLAY_puts_too_large],
               result->counters[REPLAY_puts_pinned], result->counters[REPLAY_puts_busy]);
    for (unsigned i = 0; i < result->deaths && i < sizeof result->died / sizeof result->died[0]; i++) {
        const struct replay_death *death = &result->died[i];
        if (death->signal != 0)
            printf("%sdied            worker %u (pid %ld), by signal %d (%s)%s\n", red, death->worker, (long)death->pid,
                   death->signal, strsignal(death->signal), plain);
        else
            printf("%sdied            worker %u (pid %ld), with exit status %d%s\n", red, death->worker,
                   (long)death->pid, death->status, plain);
    }
    if (result->deaths > 0)
        printf("repairs         %" PRIu64 ", locks taken over %" PRIu64 "\n", result->repairs, result->takeovers);
    if (result->wrong_values > 0)
        printf("%sWRONG           %" PRIu64 " foreign, %" PRIu64 " torn, %" PRIu64 " stale, %" PRIu64
               " resurrected, %" PRIu64 " expired; first: %s%s\n",
               red, result->counters[REPLAY_wrong_foreign], result->counters[REPLAY_wrong_torn],
               result->counters[REPLAY_wrong_stale], result->counters[REPLAY_wrong_resurrected],
               result->counters[REPLAY_wrong_expired], result->first_wrong, plain);
    for (uint64_t i = 0; i < result->findings.findings && i < 8; i++)
        printf("%scheck           %s%s\n", red, result->findings.first[i], plain);
}

static void print_as_text(const struct cli *cli, const struct run *run) {
    const struct replay_result *result = &run->result;
    char a[CLI_FORMAT_BYTES], b[CLI_FORMAT_BYTES], c[CLI_FORMAT_BYTES], d[CLI_FORMAT_BYTES];
    print_requests(cli, run);
    printf("miss ratio      %.4f (bytes %.4f)\n", miss_ratio(result),
           ratio(result->counters[REPLAY_miss_bytes], result->counters[REPLAY_get_bytes]));
    if (cli_given(cli, "reference"))
        printf("byte-exact      %.4f with CLOCK in as many bytes: ours is %+.2f %% (CLOCK with one bit: %.4f)\n",
               reference_ratio(run), 100.0 * relative(run), ratio(run->classic.misses, run->classic.gets));
    printf("wrong values    %" PRIu64 "\n", result->wrong_values);
    printf("evictions       %s (%s for want of an index slot), expired %s\n", cli_format_count(a, result->evictions),
           cli_format_count(b, result->index_evictions), cli_format_count(c, result->expirations));
    printf("payload         %.1f %% of the memory (index %.1f %%, holes and gaps %.1f %%), %s items\n",
           100.0 * ratio(result->payload_bytes, result->cache_bytes),
           100.0 * ratio(result->index_bytes, result->cache_bytes),
           100.0 * ratio(result->free_bytes, result->cache_bytes), cli_format_count(a, result->items));
    printf("speed           %s requests/s in %.2f s, values made and judged included\n",
           cli_format_count(a, (uint64_t)requests_per_s(result)), (double)result->elapsed_ns / 1e9);
    printf("get             p50 %s, p99 %s, p99.9 %s, longest %s (every get timed)\n",
           cli_format_ns(a, histogram_at(&result->get_ns, 0.5)), cli_format_ns(b, histogram_at(&result->get_ns, 0.99)),
           cli_format_ns(c, histogram_at(&result->get_ns, 0.999)), cli_format_ns(d, (double)result->get_ns.highest));
    if (!run->replay.shared)
        printf("check           %s\n", result->check == 0 ? "healthy" : lr_error_text(result->check));
    print_trouble(result);
}

/* ---- the verb --------------------------------------------------------------------------------------------------- */

/* As the shell expects it of a program that a signal ended. */
static void die_by(int number) {
    fflush(NULL);
    signal(number, SIG_DFL);
    raise(number);
}

static int run_loaded(const struct cli *cli, struct run *run) {
    char why[LR_WHY_BYTES] = "";
    int exit_code = read_replay(cli, run);
    if (exit_code != 0)
        return exit_code;
    int error = replay_run(&run->replay, &run->result, why);
    if (error == LARDER_EINVALID && !run->replay.shared)
        return cli_usage(cli, "--size %s cannot be used: %s", cli_text(cli, "size"), why);
    if (error != 0)
        return cli_fail(cli, error, "%s", why[0] != '\0' ? why : lr_error_text(error));
    if (cli_given(cli, "reference")) {
        struct refclock_options reference = {
            .capacity = run->result.cache_bytes, .most = run->result.recency_max, .charge_block = true};
        error = refclock_run(&run->trace, &reference, &run->reference);
        reference.most = 1;
        if (error == 0)
            error = refclock_run(&run->trace, &reference, &run->classic);
        if (error != 0)
            return cli_fail(cli, error, "no memory for the reference's %" PRIu32 " keys", run->trace.key_limit);
    }
    if (cli->json)
        print_as_json(cli, run);
    else
        print_as_text(cli, run);
    if (run->result.interrupted != 0)
        die_by(run->result.interrupted);
    if (run->result.wrong_values > 0 || run->result.findings.findings > 0)
        return CLI_CORRUPTION;
    return run->result.deaths > 0 ? CLI_NO : CLI_YES;
}

static int replay_verb(struct cli *cli) {
    static struct run run;
    int exit_code = check_combinations(cli);
    if (exit_code == 0)
        exit_code = load_requests(cli, &run);
    if (exit_code == 0)
        exit_code = run_loaded(cli, &run);
    trace_free(&run.trace);
    return exit_code;
}

const struct verb verb_replay = {
    .name = "replay",
    .summary = "drive a trace through a cache and judge every value that comes back",
    .operands = "",
    .description =
        "Plays a trace of cache requests as look-aside clients would: a get that misses puts a value of the size and "
        "TTL "
        "on its line, a set writes, a del deletes. Every value says whose it is and carries a checksum, and is judged "
        "at "
        "every hit. It is wrong if it is another key's, torn, older than one that was acknowledged or seen before, or "
        "comes back after a delete or past its TTL. There must be no wrong values.\n\n"
        "A trace is lines of time,key,size,op,ttl, plain or compressed by zstd: seconds since the start, a dense key "
        "number, bytes of key and value together, get, set or del, and seconds to live (0 for ever). Its footprint is "
        "the "
        "sum over its keys of the largest size. Without a trace, --generate makes a workload shaped after published "
        "statistics of real caches.\n\n"
        "A segment is made for the run and removed after it, and checked in between; TTLs then run on the trace's "
        "clock. With --name or --path the workers attach a segment that is in use instead: TTLs run in real time, and "
        "since others may write the same keys, a value counts as stale only if its version is older than one that the "
        "worker has written or seen itself.\n\n"
        "The reference of --reference is CLOCK without any waste in as many bytes as the segment has: it is charged "
        "24 bytes for an object's header, 8 for a TTL, key and value, rounded up to 8, but no index, holes or gaps, "
        "and "
        "what expires is gone at once. Its recency counts go as high as the policy's; with counts of one bit it is "
        "told too.\n\n"
        "Each worker process handles its own keys (or with --interleave every Nth request). One that dies is reported "
        "and the others go on. The exit status is 6 if a value was wrong or the segment is damaged, 1 if a worker "
        "died.",
    .output =
        "source, generated, seed (if generated), trace_requests, keys, footprint (bytes); segment, or size and "
        "policy; cache_bytes, processes, passes, interleave; requests, gets, hits, sets, deletes, get_bytes, "
        "miss_bytes, puts, puts_refused (of these puts_too_large, puts_pinned, puts_busy), gets_failed, "
        "deletes_failed; wrong_values (the sum of wrong_foreign, wrong_torn, wrong_stale, wrong_resurrected, "
        "wrong_expired) and first_wrong; miss_ratio, byte_miss_ratio, evictions (of these index_evictions for want of "
        "a free slot), expirations, items, payload_share "
        "(bytes of keys and values in cache_bytes), index_bytes, free_bytes (holes and gaps), repairs, takeovers (of "
        "locks), deaths, died (worker, pid, signal, "
        "status), "
        "check_findings; elapsed_s, ops_per_s, p50_ns, p99_ns, p999_ns, max_ns (of gets, all of them timed); with "
        "--reference also reference_miss_ratio (recency counts as high as the policy's), relative (0.01: ours is 1 % "
        "higher) and one_bit_miss_ratio.",
    .examples = "larder replay --trace kv.csv.zst --size 10% --processes 4\n"
                "larder replay --trace kv.csv.zst --size 64M --reference\n"
                "zstdcat web.csv.zst | larder replay --trace - --size 1% --json\n"
                "larder replay --generate ttl --seed 7 --requests 500000 --size 8M\n"
                "larder replay --generate kv --name sessions --processes 2 --interleave",
    .options = options,
    .on_segment = true,
    .run = replay_verb,
};
