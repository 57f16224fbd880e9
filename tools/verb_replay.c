/* SPDX-License-Identifier: MIT */
/*
 * `larder replay`: traces or a generated workload through a segment, every value judged.
 *
 *   one trace, one size, one policy   replay.h, and all that it told
 *   several of any                    sweep.h: a table, a plot
 */
#include "cli.h"
#include "replay.h"
#include "sweep_lists.h"
#include "trace.h"
#include "workload.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define X(name, number, sentence) "|" #name
static const char policies[] = "all" LR_POLICIES(X);
#undef X

#define X(name, number, sentence) "|" #name
static const char favors[] = LR_FAVORS(X);
#undef X

#define X(name, title, source) "|" #name
static const char references[] = "all" REFERENCES(X);
#undef X

#define X(name, sentence) "|" #name
static const char workloads[] = WORKLOADS(X);
#undef X

static const struct cli_option options[] = {
    {"trace", 't', CLI_TEXTS, "FILE", NULL, NULL,
     "Trace to replay, plain or zstd-compressed; - is standard input, a folder stands for all traces in it. May be "
     "given "
     "several times"},
    {"generate", 'g', CLI_CHOICE, workloads + 1, NULL, NULL,
     "Make a workload in place of a trace: kv small objects, web documents, ttl write-heavy and expiring; and what is "
     "hard for some policy: scan, loop, shift (popularity that moves), resize (one size of object after another), "
     "tiny (small objects that nobody wants again, between larger ones)"},
    {"seed", 0, CLI_NUMBER, "N", NULL, "1", "Of the generated workload: the same seed gives the same requests"},
    {"requests", 0, CLI_NUMBER, "N", NULL, "1000000", "Length of the generated workload"},
    {"size", 's', CLI_TEXT, "BYTES|P%", "bytes, or with K, M, G or T, or per cent of the footprint", "10%",
     "Size of the segment that is made for the run"},
    {"sizes", 0, CLI_TEXT, "LIST", "as --size, separated by commas", NULL, "Several sizes in place of --size: a table"},
    {"least", 0, CLI_SIZE, "BYTES", "bytes, or with K, M, G or T", "64K",
     "Leave sizes below it out of the table, such as shares of a small trace"},
    {"policy", 0, CLI_TEXT, policies, NULL, NULL,
     "How that segment makes room; without it as larder create. Several, separated by commas, or all make a table"},
    {"favor", 0, CLI_CHOICE, favors + 1, NULL, "objects", "What that segment is to hit more often, as larder create"},
    {"processes", 'p', CLI_NUMBER, "N", NULL, "1", "Worker processes; they share the trace by the hash of the key"},
    {"interleave", 0, CLI_FLAG, NULL, NULL, NULL,
     "Share the trace by time in place of the key: every Nth request each"},
    {"passes", 0, CLI_NUMBER, "N", NULL, "1", "Times to go through the trace"},
    {"reference", 'r', CLI_OPTIONAL, references, "a list, separated by commas", "all",
     "Compare with exact simulations of policies of the literature, in as many bytes"},
    {"charge", 0, CLI_TEXT, "LIST", "bytes, or block", "0",
     "What a reference is charged for each object beside key and value: 0 is no metadata at all, block what a block of "
     "Larder has (24, 8 for a TTL, rounded up to 8)"},
    {"plot", 0, CLI_TEXT, "FILE", NULL, NULL,
     "Write miss-ratio curves to this SVG file, with the exact LRU curve of each trace"},
    {"jobs", 'j', CLI_NUMBER, "N", NULL, NULL,
     "Points of the table that are computed at a time; without it as many as there are processors. Use 1 to measure "
     "speed"},
    {"progress", 0, CLI_FLAG, NULL, NULL, NULL,
     "A line of progress once a second on standard error even where it is no terminal"},
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

struct run {
    struct trace trace;
    struct replay_options replay;
    struct replay_result result;
    struct sweep_options axes; /* what the command line lists */
    struct reference_result references[SWEEP_MAX_CHARGES][REFERENCE_COUNT];
    bool generated;
    const char *source;
};

/* ---- the command line ------------------------------------------------------------------------------------------- */

static bool is_shared(const struct cli *cli) {
    return cli_given(cli, "name") || cli_given(cli, "path");
}

/* What makes a table of it. */
static bool is_sweep(const struct cli *cli, const struct sweep_options *axes) {
    return cli_given(cli, "sizes") || cli_given(cli, "plot") || axes->policy_count > 1 || axes->source_count > 1;
}

static int check_combinations(const struct cli *cli) {
    bool shared = is_shared(cli);
    if (cli_given(cli, "trace") == cli_given(cli, "generate"))
        return cli_usage(cli, cli_given(cli, "trace") ? "--trace and --generate exclude each other"
                                                      : "one of --trace FILE and --generate KIND is needed");
    if (cli_given(cli, "trace") && (cli_given(cli, "seed") || cli_given(cli, "requests")))
        return cli_usage(cli, "--seed and --requests belong to --generate; a trace has its own");
    if (shared &&
        (cli_given(cli, "size") || cli_given(cli, "sizes") || cli_given(cli, "policy") || cli_given(cli, "favor")))
        return cli_usage(
            cli, "--size, --sizes, --policy and --favor belong to a segment made for the run; the one of --name or "
                 "--path has its own");
    if (cli_given(cli, "size") && cli_given(cli, "sizes"))
        return cli_usage(cli, "--size and --sizes exclude each other");
    if (cli_given(cli, "charge") && !cli_given(cli, "reference"))
        return cli_usage(cli, "--charge belongs to --reference");
    if (cli_given(cli, "jobs") && (cli_number(cli, "jobs") < 1 || cli_number(cli, "jobs") > SWEEP_MAX_JOBS))
        return cli_usage(cli, "option --jobs is %" PRIu64 ", but must be 1 to %u", cli_number(cli, "jobs"),
                         SWEEP_MAX_JOBS);
    if (cli_given(cli, "reference") && (shared || cli_number(cli, "passes") > 1 || cli_number(cli, "processes") > 1))
        return cli_usage(cli, "--reference is for one process and one pass on a segment made for the run");
    if (cli_number(cli, "processes") < 1 || cli_number(cli, "processes") > REPLAY_MAX_PROCESSES)
        return cli_usage(cli, "option --processes is %" PRIu64 ", but must be 1 to %u", cli_number(cli, "processes"),
                         REPLAY_MAX_PROCESSES);
    if (cli_number(cli, "passes") < 1 || cli_number(cli, "passes") > 1000000)
        return cli_usage(cli, "option --passes is %" PRIu64 ", but must be 1 to 1000000", cli_number(cli, "passes"));
    return 0;
}

static int read_axes(const struct cli *cli, struct sweep_options *out) {
    int exit_code = sweep_read_traces(cli, out);
    if (exit_code == 0 && cli_given(cli, "generate"))
        out->sources[out->source_count++] =
            (struct sweep_source){.kind = (enum workload_kind)workload_kind(cli_text(cli, "generate")),
                                  .seed = cli_number(cli, "seed"),
                                  .requests = cli_number(cli, "requests")};
    if (exit_code == 0)
        exit_code = sweep_read_sizes(cli, cli_given(cli, "sizes") ? "sizes" : "size", out);
    if (exit_code == 0)
        exit_code = sweep_read_policies(cli, out);
    if (exit_code == 0 && cli_given(cli, "reference"))
        exit_code = sweep_read_references(cli, out);
    if (exit_code == 0 && cli_given(cli, "reference"))
        exit_code = sweep_read_charges(cli, out);
    if (exit_code == 0 && is_shared(cli) && is_sweep(cli, out))
        exit_code = cli_usage(cli, "a table is of segments made for it, not of that of --name or --path");
    if (exit_code != 0)
        return exit_code;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    out->jobs = cli_given(cli, "jobs") ? (unsigned)cli_number(cli, "jobs") : processors > 1 ? (unsigned)processors : 1u;
    out->jobs = out->jobs > SWEEP_MAX_JOBS ? SWEEP_MAX_JOBS : out->jobs;
    out->least = cli_number(cli, "least");
    out->processes = (unsigned)cli_number(cli, "processes");
    out->passes = (unsigned)cli_number(cli, "passes");
    out->interleave = cli_given(cli, "interleave");
    out->favor = (enum lr_favor)lr_favor_number(cli_text(cli, "favor"));
    out->curves = cli_given(cli, "plot");
    out->progress = cli_given(cli, "progress") || isatty(STDERR_FILENO);
    return 0;
}

static int load_requests(const struct cli *cli, struct run *run) {
    const struct sweep_source *source = &run->axes.sources[0];
    char why[TRACE_WHY_BYTES] = "";
    run->generated = source->file == NULL;
    run->source = run->generated ? cli_text(cli, "generate") : source->file;
    int error = run->generated ? workload_generate(source->kind, source->seed, source->requests, &run->trace, why)
                               : trace_load(source->file, &run->trace, why);
    if (error == 0)
        return 0;
    return cli_fail_with(cli, error, "a trace has lines time,key,size,op,ttl; `larder replay --help` describes them",
                         "%s", why);
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
    replay->segment.policy = run->axes.policies[0];
    replay->segment.favor = run->axes.favor;
    replay->segment.size = sweep_size_bytes(&run->axes.sizes[0], run->trace.footprint);
    return 0;
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

static double reference_ratio(const struct reference_result *result) {
    return ratio(result->misses, result->gets);
}

/* The lowest of all. */
static double best_reference(const struct run *run) {
    double best = 1.0;
    for (unsigned charge = 0; charge < run->axes.charge_count; charge++)
        for (unsigned i = 0; i < run->axes.reference_count; i++)
            best = fmin(best, reference_ratio(&run->references[charge][i]));
    return best;
}

/* How much higher our miss ratio is: 0.01 is one per cent. */
static double relative(const struct run *run, double reference) {
    return reference > 0 ? miss_ratio(&run->result) / reference - 1.0 : 0.0;
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

static json_t *references_to_json(const struct run *run) {
    json_t *array = json_array();
    for (unsigned charge = 0; charge < run->axes.charge_count; charge++)
        for (unsigned i = 0; i < run->axes.reference_count; i++) {
            const struct reference_result *result = &run->references[charge][i];
            json_array_append_new(array, json_pack("{s:s, s:o, s:f, s:f, s:f}", "reference",
                                                   reference_name(run->axes.references[i]), "charge",
                                                   sweep_charge_to_json(run->axes.charges[charge]), "miss_ratio",
                                                   reference_ratio(result), "byte_miss_ratio",
                                                   ratio(result->miss_bytes, result->get_bytes), "relative",
                                                   relative(run, reference_ratio(result))));
        }
    return array;
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
        json_object_set_new(object, "policy", json_string(lr_policy_name(run->axes.policies[0])));
        json_object_set_new(object, "favor", json_string(lr_favor_name(run->axes.favor)));
    }
    set_integer(object, "cache_bytes", result->cache_bytes);
    set_integer(object, "fixed_bytes", result->fixed_bytes);
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
        json_object_set_new(object, "references", references_to_json(run));
        json_object_set_new(object, "reference_miss_ratio", json_real(best_reference(run)));
        json_object_set_new(object, "relative", json_real(relative(run, best_reference(run))));
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
           run->replay.shared ? cli_segment(&run->replay.segment) : lr_policy_name(run->axes.policies[0]), ", ",
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

static void print_references(const struct run *run) {
    char charge_text[32];
    for (unsigned charge = 0; charge < run->axes.charge_count; charge++)
        for (unsigned i = 0; i < run->axes.reference_count; i++) {
            double reference = reference_ratio(&run->references[charge][i]);
            printf("%-15s %.4f in as many bytes, an object charged its size and %s: ours is %+.2f %%\n",
                   reference_title(run->axes.references[i]), reference,
                   sweep_charge_text(run->axes.charges[charge], charge_text), 100.0 * relative(run, reference));
        }
}

static void print_as_text(const struct cli *cli, const struct run *run) {
    const struct replay_result *result = &run->result;
    char a[CLI_FORMAT_BYTES], b[CLI_FORMAT_BYTES], c[CLI_FORMAT_BYTES], d[CLI_FORMAT_BYTES];
    print_requests(cli, run);
    printf("miss ratio      %.4f (bytes %.4f)\n", miss_ratio(result),
           ratio(result->counters[REPLAY_miss_bytes], result->counters[REPLAY_get_bytes]));
    print_references(run);
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

static int run_references(const struct cli *cli, struct run *run) {
    for (unsigned charge = 0; charge < run->axes.charge_count; charge++)
        for (unsigned i = 0; i < run->axes.reference_count; i++) {
            struct reference_options reference = {.kind = run->axes.references[i],
                                                  .capacity = run->result.cache_bytes,
                                                  .charge = run->axes.charges[charge]};
            int error = reference_run(&run->trace, &reference, &run->references[charge][i]);
            if (error != 0)
                return cli_fail(cli, error, "no memory for the reference's %" PRIu32 " keys", run->trace.key_limit);
        }
    return 0;
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
    exit_code = run_references(cli, run);
    if (exit_code != 0)
        return exit_code;
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

static int judge_sweep(const struct sweep_options *axes, const struct sweep_result *result) {
    bool wrong = false, dead = false;
    for (unsigned t = 0; t < axes->source_count; t++)
        for (unsigned row = 0; row < axes->size_count; row++)
            for (unsigned i = 0; i < axes->policy_count; i++) {
                const struct sweep_cell *cell = &result->traces[t].rows[row].cells[i];
                wrong |= cell->wrong_values > 0 || cell->findings > 0;
                dead |= cell->deaths > 0;
            }
    return wrong ? CLI_CORRUPTION : dead || result->failed > 0 ? CLI_NO : CLI_YES;
}

static int run_sweep(const struct cli *cli, const struct sweep_options *axes) {
    struct sweep_result *result;
    char why[LR_WHY_BYTES] = "";
    int error = sweep_run(axes, &result, why);
    if (error != 0)
        return cli_fail(cli, error, "%s", why[0] != '\0' ? why : lr_error_text(error));
    int exit_code = judge_sweep(axes, result);
    if (cli_given(cli, "plot") && result->interrupted == 0 && sweep_plot(axes, result, cli_text(cli, "plot")) != 0)
        exit_code = cli_fail(cli, errno == EACCES ? LARDER_EPERMISSION : LARDER_EINVALID,
                             "cannot write the plot %s: %s", cli_text(cli, "plot"), strerror(errno));
    else if (cli->json)
        cli_print_json(sweep_to_json(axes, result));
    else
        sweep_print(axes, result);
    if (result->failed > 0 && !cli->json)
        fprintf(stderr, "larder replay: %u points failed; the first: %s\n", result->failed, result->first_failed);
    int interrupted = result->interrupted;
    sweep_free(axes, result);
    if (interrupted != 0)
        die_by(interrupted);
    return exit_code;
}

static int replay_verb(struct cli *cli) {
    static struct run run;
    int exit_code = check_combinations(cli);
    if (exit_code == 0)
        exit_code = read_axes(cli, &run.axes);
    if (exit_code == 0 && is_sweep(cli, &run.axes))
        return run_sweep(cli, &run.axes);
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
        "Several traces, sizes or policies, or a plot, make a table in place of the report: each policy's miss ratio, "
        "by objects and by bytes, and requests per second, at each size of each trace, and the means over all of them. "
        "The bytes of a size pay for the index and for all that goes with the items; fixed tables come on top "
        "(fixed_bytes in --json). Points run side by side, as many as --jobs says, which costs speed and changes no "
        "ratio.\n\n"
        "With --reference the same requests also go through exact simulations of LRU, CLOCK (with one bit, and with "
        "counts up to three: clock2), SIEVE, ARC, S3-FIFO and W-TinyLFU. They waste no byte: no index, no holes, no "
        "ghosts are paid for, and what expires is gone at once. --charge lets each object pay for metadata. `best` is "
        "the lowest of them at that point.\n\n"
        "--plot draws what the table says, over the size by its logarithm. Its grey line is exact LRU without metadata "
        "at all sizes, from the stack distances of Mattson's algorithm, in bytes; where there are TTLs, for which "
        "caches of different sizes do not hold parts of one stack, its points are simulated one by one.\n\n"
        "Each worker process handles its own keys (or with --interleave every Nth request). One that dies is reported "
        "and the others go on. The exit status is 6 if a value was wrong or the segment is damaged, 1 if a worker "
        "died.",
    .output =
        "source, generated, seed (if generated), trace_requests, keys, footprint (bytes); segment, or size, "
        "policy and favor; cache_bytes, fixed_bytes (tables on top), processes, passes, interleave; requests, gets, "
        "hits, sets, "
        "deletes, get_bytes, "
        "miss_bytes, puts, puts_refused (of these puts_too_large, puts_pinned, puts_busy), gets_failed, "
        "deletes_failed; wrong_values (the sum of wrong_foreign, wrong_torn, wrong_stale, wrong_resurrected, "
        "wrong_expired) and first_wrong; miss_ratio, byte_miss_ratio, evictions (of these index_evictions for want of "
        "a free slot), expirations, items, payload_share "
        "(bytes of keys and values in cache_bytes), index_bytes, free_bytes (holes and gaps), repairs, takeovers (of "
        "locks), deaths, died (worker, pid, signal, "
        "status), "
        "check_findings; elapsed_s, ops_per_s, p50_ns, p99_ns, p999_ns, max_ns (of gets, all of them timed); with "
        "--reference also references (of each reference, charge, miss_ratio, byte_miss_ratio, and relative, 0.01: ours "
        "is 1 % higher), reference_miss_ratio (the lowest) and relative (to it). A table is traces (of each trace, "
        "source, requests, keys, footprint, with --plot lru_curve of bytes and miss_ratio), points (of each trace, "
        "size, bytes; policies of policy, miss_ratio, byte_miss_ratio, ops_per_s, payload_share, cache_bytes, "
        "fixed_bytes, wrong_values, check_findings, deaths, and relative of charge, to_best, to_lru; references of "
        "reference, charge, miss_ratio, byte_miss_ratio), means (of policy or of reference and charge, miss_ratio, "
        "points), seconds.",
    .examples = "larder replay --trace kv.csv.zst --size 10% --processes 4\n"
                "larder replay --trace kv.csv.zst --size 64M --reference clock,clock2 --charge block\n"
                "larder replay --trace traces/ --sizes 0.1%,1%,3%,10%,30%,50% --least 1M --reference --charge 0,40\n"
                "larder replay --trace a.csv --trace b.csv --policy all --sizes 1%,10% --plot curves.svg --json\n"
                "zstdcat web.csv.zst | larder replay --trace - --size 1% --json\n"
                "larder replay --generate ttl --seed 7 --requests 500000 --size 8M\n"
                "larder replay --generate kv --name sessions --processes 2 --interleave",
    .options = options,
    .on_segment = true,
    .run = replay_verb,
};
