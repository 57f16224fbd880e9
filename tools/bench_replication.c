/* SPDX-License-Identifier: MIT */
/* The measurements of bench_replication.h. */
#include "bench_replication.h"

#include "pair_work.h"
#include "ticks.h"
#include "value.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINK_MS 15000u
#define NEAR_MS 5000u
#define DRAIN_MS 20000u
#define CATCH_UP_MS 60000u
#define POLL_US 2000u
#define MOST_AGAIN 50u
#define SETTLE_NS UINT64_C(300000000) /* after a daemon or a writer has started */
#define ITEM_ROOM 88u                 /* block header, key, rounding, and its share of the index */
#define CATCH_UP_VALUE 1024u
#define LARGE_VALUE 16384u
#define PIPELINE 16u
#define SCENE_RATE 50000u
#define LARGE_RATE 100u /* a second, of 1 MiB */
#define SMALL_RATE 10000u
#define SLOW_RUN_US 5000u
#define SLOW_STOP_US 45000u

const char *const replication_part_names[REPLICATION_PARTS_COUNT] = {
#define X(name) #name,
    REPLICATION_PARTS(X)
#undef X
};
const char *const replication_scenario_names[REPLICATION_SCENARIO_COUNT] = {
#define X(name) #name,
    REPLICATION_SCENARIOS(X)
#undef X
};

static volatile sig_atomic_t caught_signal;

static void remember_signal(int number) {
    caught_signal = number;
}

struct bench {
    const struct replication_options *options;
    struct replication_result *out;
    struct pair pair;
    struct work work;
    uint64_t ns; /* of each measurement */
    char *why;
};

static void tell(const struct bench *bench, const char *what, const char *links, const char *label) {
    if (bench->options->progress)
        fprintf(stderr, "\r\x1b[K%s, %s%s%s", what, links, label[0] != '\0' ? ", " : "", label);
}

/* ---- what a stretch of time has cost ---------------------------------------------------------------------------- */

struct reading {
    uint64_t at_ns, writer, first, second, meter;
    uint64_t busy, stolen, all; /* of /proc/stat, in ticks */
    uint64_t applied;
    struct pair_wire wire;
};

static uint64_t applied_by(const struct pair_host *host) {
    struct lr_stat stat;
    lr_stat(host->cache, &stat);
    return stat.counters[LR_C_applied];
}

static void read_processors(struct reading *out) {
    unsigned long long field[8] = {0};
    FILE *in = fopen("/proc/stat", "re");
    if (in == NULL)
        return;
    if (fscanf(in, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &field[0], &field[1], &field[2], &field[3], &field[4],
               &field[5], &field[6], &field[7]) == 8) {
        for (unsigned i = 0; i < 8; i++)
            out->all += field[i];
        out->stolen = field[7];
        out->busy = out->all - field[3] - field[4] - field[7];
    }
    fclose(in);
}

static struct reading read_now(const struct bench *bench) {
    struct reading out = {.writer = process_cpu_ns(bench->work.writer),
                          .first = process_cpu_ns(bench->pair.host[0].daemon),
                          .second = process_cpu_ns(bench->pair.host[1].daemon),
                          .meter = process_cpu_ns(bench->work.meter),
                          .applied = applied_by(&bench->pair.host[1]),
                          .wire = pair_wire(&bench->pair)};
    read_processors(&out);
    out.at_ns = ticks_clock_ns();
    return out;
}

static void tell_apart(const struct reading *from, const struct reading *to, struct replication_row *row) {
    const double ns = (double)(to->at_ns - from->at_ns), ticks = (double)(to->all - from->all);
    const double changes = (double)(to->applied - from->applied);
    row->cpu = (struct replication_cpu){.writer = (double)(to->writer - from->writer) / ns,
                                        .first = (double)(to->first - from->first) / ns,
                                        .second = (double)(to->second - from->second) / ns,
                                        .meter = (double)(to->meter - from->meter) / ns,
                                        .busy = ticks > 0 ? (double)(to->busy - from->busy) / ticks : 0,
                                        .stolen = ticks > 0 ? (double)(to->stolen - from->stolen) / ticks : 0};
    row->rate = changes * 1e9 / ns;
    row->bytes_rate = row->rate * (double)(row->value_len + VALUE_KEY_BYTES);
    if (changes == 0)
        return;
    row->change_cpu_ns = (row->cpu.writer + row->cpu.first + row->cpu.second) * ns / changes;
    row->wire_bytes = (double)(to->wire.there + to->wire.back - from->wire.there - from->wire.back) / changes;
}

/* ---- the pair --------------------------------------------------------------------------------------------------- */

static bool wait_for(const struct bench *bench, bool (*holds)(const struct pair *), unsigned ms) {
    for (unsigned waited = 0; waited < ms && caught_signal == 0; waited += 2, usleep(POLL_US))
        if (holds(&bench->pair))
            return true;
    return false;
}

static bool is_drained(const struct pair *pair) {
    return pair_unacked(pair) == 0;
}

static int start_pair(struct bench *bench, const struct pair_options *options) {
    int error = pair_create(&bench->pair, options, bench->why);
    for (unsigned i = 0; error == 0 && i < 2; i++)
        error = pair_start(&bench->pair, i, bench->why);
    if (error != 0 || wait_for(bench, pair_is_linked, LINK_MS) || caught_signal != 0)
        return error;
    snprintf(bench->why, LR_WHY_BYTES, "the two larderds have not come in step in %u s", LINK_MS / 1000u);
    return LARDER_ETIMED_OUT;
}

static int drain(struct bench *bench) {
    if (wait_for(bench, is_drained, DRAIN_MS) || caught_signal != 0)
        return 0;
    snprintf(bench->why, LR_WHY_BYTES, "%" PRIu64 " changes have not arrived in %u s", pair_unacked(&bench->pair),
             DRAIN_MS / 1000u);
    return LARDER_ETIMED_OUT;
}

static uint64_t room_for(uint64_t items, uint64_t value_len) {
    return items * (value_len + ITEM_ROOM) * 6u / 5u + (UINT64_C(16) << 20);
}

/* ---- lag and sustained ------------------------------------------------------------------------------------------ */

static void take_lags(const struct work_counts *counts, struct replication_row *row) {
    static const double shares[3] = {0.5, 0.99, 0.999};
    row->samples = counts->lag_ns.count;
    row->overruns = counts->lost;
    for (unsigned i = 0; i < 3; i++)
        row->lag_us[i] = histogram_at(&counts->lag_ns, shares[i]) / 1000.0;
    row->lag_us[3] = (double)counts->lag_ns.highest / 1000.0;
    for (unsigned i = 0; i < 2; i++)
        row->looks_us[i] = histogram_at(&counts->looks_ns, shares[i]) / 1000.0;
}

/* One load for a while, with a meter beside it if `row` is one of lags. */
static int run_load(struct bench *bench, const struct work_load *load, bool metered, struct replication_row *row) {
    memset(bench->work.board, 0, sizeof *bench->work.board);
    int error = work_start_writer(&bench->work, &bench->pair, load, bench->why);
    if (error == 0 && metered)
        error = work_start_meter(&bench->work, &bench->pair, load, bench->why);
    if (error != 0)
        return error;
    work_count(&bench->work, 1, bench->ns < SETTLE_NS ? bench->ns : SETTLE_NS, &caught_signal);
    const struct work_counts *counts = &bench->work.board->cells[0];
    struct reading from = read_now(bench), to = from;
    for (unsigned again = 0; again < MOST_AGAIN && caught_signal == 0; again++) {
        work_count(&bench->work, 0, bench->ns, &caught_signal);
        to = read_now(bench);
        if (to.applied != from.applied && (!metered || counts->lag_ns.count > 0))
            break; /* else nobody had a processor: that is no measurement */
    }
    work_stop(&bench->work);
    tell_apart(&from, &to, row);
    if (metered)
        take_lags(&bench->work.board->cells[0], row);
    return drain(bench);
}

static struct replication_row *new_row(struct bench *bench, enum replication_part part, const char *links,
                                       const char *label, uint64_t value_len) {
    struct replication_row *row = &bench->out->row[part][bench->out->rows[part]++];
    *row = (struct replication_row){.links = links, .label = label, .value_len = value_len};
    tell(bench, replication_part_names[part], links, label);
    return row;
}

static bool wants(const struct bench *bench, enum replication_part part) {
    return (bench->options->parts >> part & 1u) != 0 && caught_signal == 0;
}

static int run_lags(struct bench *bench, const char *links) {
    static const struct {
        uint64_t rate;
        const char *label;
    } steps[] = {{10000, "10,000/s"}, {50000, "50,000/s"}, {100000, "100,000/s"}};
    int error = 0;
    for (unsigned i = 0; i < 3 && error == 0 && wants(bench, REPLICATION_lag); i++) {
        struct work_load load = {
            .items = bench->options->items, .value_bytes = bench->options->value_len, .rate = steps[i].rate};
        error = run_load(bench, &load, true,
                         new_row(bench, REPLICATION_lag, links, steps[i].label, bench->options->value_len));
    }
    return error;
}

static int run_sustained(struct bench *bench, const char *links, const uint64_t *sizes, unsigned count) {
    int error = 0;
    for (unsigned i = 0; i < count && error == 0 && wants(bench, REPLICATION_sustained); i++) {
        uint64_t items = bench->options->items * CATCH_UP_VALUE / (sizes[i] > 1024 ? sizes[i] : 1024u);
        struct work_load load = {.items = items > 64 ? items : 64, .value_bytes = sizes[i]};
        error = run_load(bench, &load, false, new_row(bench, REPLICATION_sustained, links, "", sizes[i]));
    }
    return error;
}

/* All measurements with links of one kind. */
static int run_links(struct bench *bench, const char *links, bool tls, uint64_t compress, const uint64_t *sizes,
                     unsigned count) {
    const struct replication_options *options = bench->options;
    struct pair_options pair = {.size = room_for(options->items, CATCH_UP_VALUE), .tls = tls, .compress = compress};
    if (!wants(bench, REPLICATION_lag) && !wants(bench, REPLICATION_sustained))
        return 0;
    struct work_load load = {.items = options->items, .value_bytes = options->value_len};
    tell(bench, "starting", links, "");
    int error = start_pair(bench, &pair);
    if (error == 0)
        work_fill(bench->pair.host[0].cache, &load, &caught_signal);
    if (error == 0)
        error = drain(bench);
    if (error == 0 && compress == 0)
        error = run_lags(bench, links);
    if (error == 0)
        error = run_sustained(bench, links, sizes, count);
    work_stop(&bench->work);
    pair_destroy(&bench->pair);
    return error;
}

/* ---- catching up ------------------------------------------------------------------------------------------------ */

static uint64_t items_of(const struct pair_host *host) {
    struct lr_stat stat;
    lr_stat(host->cache, &stat);
    return stat.items;
}

/* Starts what is not running and waits until the second host has `items`. */
static int catch_up(struct bench *bench, uint64_t items, struct replication_row *row) {
    struct pair *pair = &bench->pair;
    const uint64_t had = items_of(&pair->host[1]);
    struct reading from = read_now(bench); /* of a larderd that does not run: nothing */
    from.wire = (struct pair_wire){0};     /* of the new link */
    const uint64_t start = from.at_ns;
    uint64_t has = had, first = 0, now = start;
    int error = 0;
    for (unsigned i = 0; i < 2 && error == 0; i++)
        if (pair->host[i].daemon == 0)
            error = pair_start(pair, i, bench->why);
    while (error == 0 && has < items && now - start < CATCH_UP_MS * UINT64_C(1000000) && caught_signal == 0) {
        usleep(POLL_US);
        has = items_of(&pair->host[1]);
        now = ticks_clock_ns();
        if (first == 0 && has > had)
            first = now;
    }
    struct reading to = read_now(bench);
    tell_apart(&from, &to, row);
    row->cpu.writer = row->cpu.meter = 0;
    row->bytes = (items - had) * (row->value_len + VALUE_KEY_BYTES);
    if (to.wire.there < row->bytes) /* both had dialled, one link went, and with it what the kernel knew of it */
        row->wire_bytes = 0;
    row->missing = items - has;
    row->seconds = (double)(now - start) / 1e9;
    row->flowing_seconds = first != 0 ? (double)(now - first + POLL_US * 1000u) / 1e9 : row->seconds;
    return error;
}

/* `items` more on the first host, while the second's larderd is not there; then it comes back. */
static int fall_behind(struct bench *bench, unsigned round, const char *links, const char *label, bool both) {
    const uint64_t items = bench->options->items;
    struct work_load load = {.items = items, .value_bytes = CATCH_UP_VALUE, .first = items * round};
    struct replication_row *row = new_row(bench, REPLICATION_catch_up, links, label, CATCH_UP_VALUE);
    pair_stop(&bench->pair, 1);
    if (both)
        pair_stop(&bench->pair, 0);
    work_fill(bench->pair.host[0].cache, &load, &caught_signal);
    return caught_signal == 0 ? catch_up(bench, items * (round + 1u), row) : 0;
}

static int run_catch_up(struct bench *bench, const char *links, bool tls) {
    struct pair_options options = {.size = room_for(3 * bench->options->items, CATCH_UP_VALUE), .tls = tls};
    if (!wants(bench, REPLICATION_catch_up))
        return 0;
    tell(bench, "starting", links, "");
    int error = pair_create(&bench->pair, &options, bench->why);
    if (error == 0)
        error = pair_start(&bench->pair, 0, bench->why);
    if (error == 0)
        error = fall_behind(bench, 0, links, "it had nothing", false);
    if (error == 0)
        error = fall_behind(bench, 1, links, "it was away", false);
    if (error == 0)
        error = fall_behind(bench, 2, links, "both larderds are new", true);
    pair_destroy(&bench->pair);
    return error;
}

/* ---- beside Redis --------------------------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, unsigned count) {
    qsort(values, count, sizeof *values, compare_doubles);
    return count == 0 ? 0 : count % 2 != 0 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* Redis and Larder in turns, so that whatever else the machine does meets both. */
static int take_turns(struct bench *bench, struct redis_pair *servers, struct replication_redis *out) {
    const struct work_load load = {.items = bench->options->items, .value_bytes = bench->options->value_len};
    int error = 0;
    for (unsigned i = 0; i < REPLICATION_TURNS && error == 0 && caught_signal == 0; i++) {
        struct redis_result theirs = {0};
        struct replication_row ours = {.value_len = load.value_bytes};
        error = redis_pair_measure(servers, bench->ns, &theirs, &caught_signal, out->absent);
        if (error == 0)
            error = run_load(bench, &load, false, &ours);
        if (error != 0 || caught_signal != 0)
            break;
        if (ours.change_cpu_ns <= 0) {
            snprintf(bench->why, LR_WHY_BYTES, "no change arrived at the other host while Larder had its turn");
            return LARDER_ETIMED_OUT;
        }
        out->all.writes += theirs.writes;
        out->all.ns += theirs.ns;
        out->all.master_ns += theirs.master_ns;
        out->all.replica_ns += theirs.replica_ns;
        out->cpu_ns[i] = (double)(theirs.master_ns + theirs.replica_ns) / (double)theirs.writes;
        out->larder_cpu_ns[i] = ours.change_cpu_ns;
        out->times[i] = out->cpu_ns[i] / ours.change_cpu_ns;
        out->turns = i + 1;
    }
    out->median_ns = median(out->cpu_ns, out->turns);
    out->larder_median_ns = median(out->larder_cpu_ns, out->turns);
    out->median_times = median(out->times, out->turns);
    return error;
}

static int run_redis(struct bench *bench) {
    const struct replication_options *options = bench->options;
    const struct redis_options same = {
        .items = options->items, .value_bytes = options->value_len, .pipeline = PIPELINE};
    const struct pair_options pair = {.size = room_for(options->items, options->value_len)};
    const struct work_load load = {.items = options->items, .value_bytes = options->value_len};
    struct replication_redis *out = &bench->out->redis;
    struct redis_pair servers;
    snprintf(out->absent, sizeof out->absent, "it was not asked for");
    if (!wants(bench, REPLICATION_redis))
        return 0;
    tell(bench, "redis", "plain", "");
    out->absent[0] = '\0';
    int error = redis_pair_start(&servers, &same, &caught_signal, out->absent);
    if (error == 0)
        error = start_pair(bench, &pair);
    if (error == 0)
        work_fill(bench->pair.host[0].cache, &load, &caught_signal);
    if (error == 0)
        error = drain(bench);
    bench->ns = options->ns / 2;
    if (error == 0)
        error = take_turns(bench, &servers, out);
    bench->ns = options->ns;
    work_stop(&bench->work);
    pair_destroy(&bench->pair);
    redis_pair_stop(&servers);
    if (error == LARDER_ENOT_FOUND && out->absent[0] != '\0') /* not of Larder's pair */
        return 0;
    if (out->absent[0] != '\0')
        snprintf(bench->why, LR_WHY_BYTES, "redis: %s", out->absent);
    return error;
}

/* ---- the whole -------------------------------------------------------------------------------------------------- */

static struct sigaction old_interrupt, old_terminate;

static int begin(struct bench *bench, const struct replication_options *options, char *why) {
    struct sigaction action = {.sa_handler = remember_signal};
    *bench = (struct bench){.options = options, .ns = options->ns, .why = why};
    why[0] = '\0';
    caught_signal = 0;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, &old_interrupt);
    sigaction(SIGTERM, &action, &old_terminate);
    return work_begin(&bench->work, why);
}

static int end(struct bench *bench) {
    work_end(&bench->work);
    if (bench->options->progress)
        fputs("\r\x1b[K", stderr);
    sigaction(SIGINT, &old_interrupt, NULL);
    sigaction(SIGTERM, &old_terminate, NULL);
    return caught_signal;
}

int replication_run(const struct replication_options *options, struct replication_result *out, char *why) {
    static const uint64_t mebibytes[] = {1024, LARGE_VALUE};
    uint64_t sizes[3] = {options->value_len, mebibytes[0], mebibytes[1]};
    static struct bench bench;
    *out = (struct replication_result){0};
    int error = begin(&bench, options, why);
    bench.out = out;
    if (error == 0)
        error = run_links(&bench, "plain", false, 0, sizes, 3);
    if (error == 0)
        error = run_redis(&bench);
    if (error == 0)
        error = run_links(&bench, "tls", true, 0, sizes, 3);
    if (error == 0)
        error = run_links(&bench, "lz4", false, 512, sizes + 1, 2);
    if (error == 0)
        error = run_catch_up(&bench, "plain", false);
    if (error == 0)
        error = run_catch_up(&bench, "tls", true);
    out->interrupted = end(&bench);
    return error;
}

/* ---- scenarios -------------------------------------------------------------------------------------------------- */

/* Memory of a process that is not shared with others. */
static uint64_t own_memory(pid_t pid) {
    char path[64], line[128];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *in = fopen(path, "re");
    while (in != NULL && fgets(line, sizeof line, in) != NULL)
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1)
            break;
    if (in != NULL)
        fclose(in);
    return kib << 10;
}

static void note_memory(struct bench *bench, struct replication_scene *out) {
    uint64_t bytes = own_memory(bench->pair.host[0].daemon);
    out->memory_bytes = bytes > out->memory_bytes ? bytes : out->memory_bytes;
}

/* An interval with the peer as the scenario has it. */
static void count_bad(struct bench *bench, enum replication_scenario scenario, struct work *flood,
                      const struct work_load *other) {
    const pid_t daemon = bench->pair.host[1].daemon;
    const uint64_t until = ticks_clock_ns() + bench->options->ns;
    if (scenario == REPLICATION_SCENE_flood && work_start_writer(flood, &bench->pair, other, bench->why) != 0)
        return;
    if (scenario == REPLICATION_SCENE_stall)
        kill(daemon, SIGSTOP);
    if (scenario != REPLICATION_SCENE_slow)
        work_count(&bench->work, 1, bench->options->ns, &caught_signal);
    while (scenario == REPLICATION_SCENE_slow && ticks_clock_ns() < until && caught_signal == 0) {
        kill(daemon, SIGSTOP);
        work_count(&bench->work, 1, SLOW_STOP_US * 1000u, &caught_signal);
        kill(daemon, SIGCONT);
        work_count(&bench->work, 1, SLOW_RUN_US * 1000u, &caught_signal);
    }
    kill(daemon, SIGCONT);
    work_stop(flood);
}

/* In step again: linked, and no more behind than it always is. */
static bool is_near(const struct pair *pair) {
    return pair_is_linked(pair) && pair_unacked(pair) < SCENE_RATE / 50u;
}

static void take_pairs(struct bench *bench, enum replication_scenario scenario, struct work *flood,
                       struct replication_scene *out) {
    const struct work_load other = {.items = bench->options->items,
                                    .value_bytes = bench->options->value_len,
                                    .first = bench->options->items,
                                    .host = 1};
    struct work_board *board = bench->work.board;
    for (unsigned i = 0; i < bench->options->pairs && caught_signal == 0; i++) {
        char label[32];
        snprintf(label, sizeof label, "pair %u of %u", i + 1, bench->options->pairs);
        tell(bench, replication_scenario_names[scenario], "plain", label);
        wait_for(bench, is_near, NEAR_MS);
        memset(board->cells, 0, sizeof board->cells);
        for (unsigned turn = 0; turn < 2; turn++)
            if ((turn + i) % 2 == 0) {
                work_count(&bench->work, 0, bench->ns, &caught_signal);
            } else {
                count_bad(bench, scenario, flood, &other);
                note_memory(bench, out);
                wait_for(bench, is_near, NEAR_MS);
            }
        usleep(1000); /* a put that has begun to be counted ends */
        note_memory(bench, out);
        out->pair[i].healthy_ns = histogram_at(&board->cells[0].put_ns, 0.99);
        out->pair[i].bad_ns = histogram_at(&board->cells[1].put_ns, 0.99);
        out->pairs = i + 1;
    }
}

static void take_medians(struct replication_scene *out) {
    double healthy[REPLICATION_PAIRS], bad[REPLICATION_PAIRS], ratio[REPLICATION_PAIRS];
    for (unsigned i = 0; i < out->pairs; i++) {
        healthy[i] = out->pair[i].healthy_ns;
        bad[i] = out->pair[i].bad_ns;
        ratio[i] = healthy[i] > 0 ? bad[i] / healthy[i] : 0;
    }
    out->healthy_ns = median(healthy, out->pairs);
    out->bad_ns = median(bad, out->pairs);
    out->ratio = median(ratio, out->pairs);
}

static int run_pairs(struct bench *bench, enum replication_scenario scenario, struct replication_scene *out) {
    struct work_load load = {
        .items = bench->options->items, .value_bytes = bench->options->value_len, .rate = SCENE_RATE};
    struct work flood;
    int error = work_begin(&flood, bench->why);
    if (error == 0)
        error = work_start_writer(&bench->work, &bench->pair, &load, bench->why);
    if (error == 0) {
        work_count(&bench->work, 1, SETTLE_NS, &caught_signal);
        take_pairs(bench, scenario, &flood, out);
    }
    take_medians(out);
    work_end(&flood);
    return error;
}

static int run_beside_large(struct bench *bench, struct replication_scene *out) {
    struct work_load load = {
        .items = bench->options->items, .value_bytes = bench->options->value_len, .rate = SMALL_RATE};
    int error = 0;
    for (unsigned i = 0; i < 2 && error == 0; i++) {
        out->row[i] = (struct replication_row){
            .links = "plain", .label = i == 0 ? "alone" : "1 MiB values beside", .value_len = load.value_bytes};
        tell(bench, "large", "plain", out->row[i].label);
        load.large_rate = i == 0 ? 0 : LARGE_RATE;
        error = run_load(bench, &load, true, &out->row[i]);
        out->large_rate = (double)bench->work.board->cells[0].large * 1e9 / (double)bench->options->ns;
    }
    return error;
}

int replication_scenario(enum replication_scenario scenario, const struct replication_options *options,
                         struct replication_scene *out, char *why) {
    struct pair_options pair = {.size = room_for(2 * options->items, options->value_len) + (UINT64_C(256) << 20)};
    struct work_load load = {.items = options->items, .value_bytes = options->value_len};
    static struct bench bench;
    *out = (struct replication_scene){0};
    int error = begin(&bench, options, why);
    if (error == 0)
        error = start_pair(&bench, &pair);
    if (error == 0)
        work_fill(bench.pair.host[0].cache, &load, &caught_signal);
    if (error == 0)
        error = drain(&bench);
    if (error == 0 && caught_signal == 0)
        error = scenario == REPLICATION_SCENE_large ? run_beside_large(&bench, out) : run_pairs(&bench, scenario, out);
    work_stop(&bench.work);
    pair_destroy(&bench.pair);
    out->interrupted = end(&bench);
    return error;
}
