/* SPDX-License-Identifier: MIT */
/* The parent and the children of a sweep, as drawn in sweep.h. */
#include "sweep.h"

#include "attachment.h"
#include "replay.h"
#include "ticks.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CURVE UINT32_MAX /* in place of a cell's number */
#define LEAST_SEGMENT 65536u

struct job {
    pid_t pid;               /* 0: the place is free */
    struct sweep_cell *cell; /* NULL: a curve */
};

struct parent {
    const struct sweep_options *options;
    struct sweep_result *result;
    size_t result_bytes;
    struct trace trace; /* the one whose jobs are being started */
    struct sweep_trace *facts;
    struct job jobs[SWEEP_MAX_JOBS];
    unsigned running, done, all;
    uint64_t started_ns, printed_ns;
    char doing[320];
};

static volatile sig_atomic_t caught_signal;
static const int watched_signals[] = {SIGINT, SIGTERM, SIGHUP};
enum { WATCHED = sizeof watched_signals / sizeof watched_signals[0] };

static void remember_signal(int number) {
    caught_signal = number;
}

static void watch_signals(struct sigaction old[WATCHED]) {
    struct sigaction action = {.sa_handler = remember_signal};
    sigemptyset(&action.sa_mask);
    caught_signal = 0;
    for (unsigned i = 0; i < WATCHED; i++)
        sigaction(watched_signals[i], &action, &old[i]);
}

static void unwatch_signals(const struct sigaction old[WATCHED]) {
    for (unsigned i = 0; i < WATCHED; i++)
        sigaction(watched_signals[i], &old[i], NULL);
}

/* ---- the child -------------------------------------------------------------------------------------------------- */

static double ratio(uint64_t part, uint64_t whole) {
    return whole ? (double)part / (double)whole : 0.0;
}

/* The largest size that the engine does not round up above `bytes`. */
static uint64_t size_within(uint64_t bytes, enum lr_policy policy) {
    struct lr_geometry plan;
    uint64_t size = bytes;
    while (size > LEAST_SEGMENT && lr_geometry_plan(size, 0, policy, &plan, NULL) == 0 && plan.cache_bytes > bytes)
        size -= plan.cache_bytes - bytes;
    return size;
}

static void run_policy(const struct parent *parent, uint64_t bytes, unsigned policy, struct sweep_cell *cell) {
    static struct replay_result result;
    struct replay_options replay = {.trace = &parent->trace,
                                    .segment = lr_options_default(),
                                    .interleave = parent->options->interleave,
                                    .processes = parent->options->processes,
                                    .passes = parent->options->passes};
    replay.segment.policy = parent->options->policies[policy];
    replay.segment.favor = parent->options->favor;
    replay.segment.size = size_within(bytes, replay.segment.policy);
    int error = replay_run(&replay, &result, cell->why);
    if (error != 0 && cell->why[0] == '\0')
        snprintf(cell->why, sizeof cell->why, "%s", lr_error_text(error));
    const uint64_t *counters = result.counters;
    cell->miss_ratio = ratio(counters[REPLAY_gets] - counters[REPLAY_hits], counters[REPLAY_gets]);
    cell->byte_miss_ratio = ratio(counters[REPLAY_miss_bytes], counters[REPLAY_get_bytes]);
    cell->ops_per_s = 1e9 * ratio(counters[REPLAY_requests], result.elapsed_ns);
    cell->payload_share = ratio(result.payload_bytes, result.cache_bytes);
    cell->cache_bytes = result.cache_bytes;
    cell->fixed_bytes = result.fixed_bytes;
    cell->wrong_values = result.wrong_values;
    cell->findings = result.findings.findings;
    cell->deaths = result.deaths;
    if (result.interrupted == 0)
        cell->state = error == 0 ? SWEEP_DONE : SWEEP_FAILED;
}

static void run_reference(const struct parent *parent, uint64_t bytes, unsigned number, struct sweep_cell *cell) {
    const struct sweep_options *options = parent->options;
    struct reference_options reference = {.kind = options->references[number % options->reference_count],
                                          .capacity = bytes,
                                          .charge = options->charges[number / options->reference_count]};
    struct reference_result result;
    int error = reference_run(&parent->trace, &reference, &result);
    snprintf(cell->why, sizeof cell->why, "%s", lr_error_text(error));
    cell->miss_ratio = ratio(result.misses, result.gets);
    cell->byte_miss_ratio = ratio(result.miss_bytes, result.get_bytes);
    cell->state = error == 0 ? SWEEP_DONE : SWEEP_FAILED;
}

/* From the smallest to the largest size, and half as far again on both sides; at equal distances of their logarithms.
 */
static void run_curve(const struct parent *parent) {
    struct lru_curve *curve = &parent->facts->curve;
    uint64_t low = UINT64_MAX, high = 0;
    for (unsigned i = 0; i < parent->options->size_count; i++) {
        uint64_t bytes = parent->facts->rows[i].bytes;
        if (bytes > 0 && bytes < low)
            low = bytes;
        if (bytes > high)
            high = bytes;
    }
    if (high == 0)
        return;
    struct lru_curve mine = {.count = LRU_CURVE_POINTS};
    double from = log((double)low / 1.5), to = log((double)high * 1.5);
    for (unsigned i = 0; i < LRU_CURVE_POINTS; i++)
        mine.bytes[i] = (uint64_t)exp(from + (to - from) * i / (LRU_CURVE_POINTS - 1)) + 1;
    if (lru_curve_run(&parent->trace, &mine) == 0)
        *curve = mine;
}

static void live(const struct parent *parent, unsigned row, unsigned number) {
    struct sweep_row *at = &parent->facts->rows[row];
    if (number == CURVE)
        run_curve(parent);
    else if (number < parent->options->policy_count)
        run_policy(parent, at->bytes, number, &at->cells[number]);
    else
        run_reference(parent, at->bytes, number - parent->options->policy_count, &at->cells[number]);
}

/* ---- the parent ------------------------------------------------------------------------------------------------- */

/* Four times a second on a terminal, every five seconds elsewhere; `last` ends the line. */
static void print_progress(struct parent *parent, bool last) {
    bool terminal = isatty(STDERR_FILENO) != 0;
    uint64_t now_ns = ticks_clock_ns();
    if (!parent->options->progress ||
        (!last && now_ns - parent->printed_ns < (terminal ? UINT64_C(250000000) : UINT64_C(5000000000))))
        return;
    fprintf(stderr, "%ssweep %u of %u, %.0f s: %s%s", terminal ? "\r" : "", parent->done, parent->all,
            (double)(now_ns - parent->started_ns) / 1e9, last ? "done" : parent->doing,
            terminal ? (last ? "\033[K\n" : "\033[K") : "\n");
    parent->printed_ns = now_ns;
}

static void note_end(struct parent *parent, struct job *job, int status) {
    struct sweep_cell *cell = job->cell;
    parent->done++;
    if (cell != NULL && cell->state == SWEEP_ABSENT && caught_signal == 0) {
        snprintf(cell->why, sizeof cell->why, "its process ended by %s %d", WIFSIGNALED(status) ? "signal" : "status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        cell->state = SWEEP_FAILED;
    }
    job->pid = 0;
    parent->running--;
}

static void collect(struct parent *parent) {
    for (unsigned i = 0; i < parent->options->jobs; i++) {
        int status;
        if (parent->jobs[i].pid != 0 && waitpid(parent->jobs[i].pid, &status, WNOHANG) == parent->jobs[i].pid)
            note_end(parent, &parent->jobs[i], status);
    }
}

/* Until at most `most` jobs run. */
static void await_places(struct parent *parent, unsigned most) {
    for (;;) {
        collect(parent);
        print_progress(parent, false);
        if (parent->running <= most)
            return;
        if (caught_signal != 0)
            for (unsigned i = 0; i < parent->options->jobs; i++)
                if (parent->jobs[i].pid != 0)
                    kill(parent->jobs[i].pid, SIGTERM);
        usleep(2000);
    }
}

static int start_job(struct parent *parent, const struct sigaction old[WATCHED], unsigned row, unsigned number,
                     char *why) {
    struct job *job = parent->jobs;
    pid_t self = getpid();
    await_places(parent, parent->options->jobs - 1u);
    if (caught_signal != 0)
        return 0;
    while (job->pid != 0)
        job++;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        snprintf(why, LR_WHY_BYTES, "cannot start a process: %s", strerror(errno));
        return LARDER_ESYSTEM;
    }
    if (pid == 0) {
        unwatch_signals(old);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() == self)
            live(parent, row, number);
        _exit(0);
    }
    *job = (struct job){.pid = pid, .cell = number == CURVE ? NULL : &parent->facts->rows[row].cells[number]};
    parent->running++;
    return 0;
}

/* "kv" of "folder/kv.csv.zst". */
static void name_source(const struct sweep_source *source, char *out, size_t cap) {
    static const char *const kinds[] = {
#define X(name, sentence) #name,
        WORKLOADS(X)
#undef X
    };
    const char *file = source->file ? source->file : kinds[source->kind];
    const char *slash = strrchr(file, '/');
    snprintf(out, cap, "%s", slash && slash[1] ? slash + 1 : file);
    for (unsigned i = 0; i < 2; i++) {
        char *dot = strrchr(out, '.');
        if (dot != NULL && dot != out && (strcmp(dot, ".zst") == 0 || strcmp(dot, ".csv") == 0))
            *dot = '\0';
    }
}

static int load_source(struct parent *parent, const struct sweep_source *source, char *why) {
    struct sweep_trace *facts = parent->facts;
    const struct sweep_options *options = parent->options;
    char reason[TRACE_WHY_BYTES] = "";
    name_source(source, facts->name, sizeof facts->name);
    int error = source->file ? trace_load(source->file, &parent->trace, reason)
                             : workload_generate(source->kind, source->seed, source->requests, &parent->trace, reason);
    if (error != 0) {
        snprintf(why, LR_WHY_BYTES, "%.*s", (int)LR_WHY_BYTES - 1, reason);
        return error;
    }
    facts->requests = parent->trace.count;
    facts->keys = parent->trace.keys;
    facts->footprint = parent->trace.footprint;
    for (unsigned i = 0; i < options->size_count; i++) {
        uint64_t bytes = sweep_size_bytes(&options->sizes[i], facts->footprint);
        facts->rows[i].bytes = bytes >= options->least ? bytes : 0;
    }
    return 0;
}

/* Starts all jobs of one source, the policies first: they take longest. */
static int sweep_source(struct parent *parent, const struct sigaction old[WATCHED], const struct sweep_source *source,
                        char *why) {
    const struct sweep_options *options = parent->options;
    unsigned cells = options->policy_count + options->reference_count * options->charge_count;
    int error = load_source(parent, source, why);
    if (error == 0 && options->curves)
        error = start_job(parent, old, 0, CURVE, why);
    for (unsigned row = 0; error == 0 && row < options->size_count; row++) {
        snprintf(parent->doing, sizeof parent->doing, "%s at %s", parent->facts->name, options->sizes[row].text);
        for (unsigned cell = 0; error == 0 && caught_signal == 0 && cell < cells; cell++) {
            if (parent->facts->rows[row].bytes == 0)
                parent->done++;
            else
                error = start_job(parent, old, row, cell, why);
        }
    }
    trace_free(&parent->trace);
    return error;
}

static void count_failures(struct sweep_result *result, const struct sweep_options *options) {
    unsigned cells = options->policy_count + options->reference_count * options->charge_count;
    for (unsigned t = 0; t < options->source_count; t++)
        for (unsigned row = 0; row < options->size_count; row++)
            for (unsigned c = 0; c < cells; c++) {
                const struct sweep_cell *cell = &result->traces[t].rows[row].cells[c];
                if (cell->state == SWEEP_FAILED && result->failed++ == 0)
                    snprintf(result->first_failed, sizeof result->first_failed, "%s at %s: %s", result->traces[t].name,
                             options->sizes[row].text, cell->why);
            }
}

static size_t result_bytes(const struct sweep_options *options) {
    return sizeof(struct sweep_result) + options->source_count * sizeof(struct sweep_trace);
}

int sweep_run(const struct sweep_options *options, struct sweep_result **out, char *why) {
    struct parent parent = {.options = options, .started_ns = ticks_clock_ns()};
    struct sigaction old[WATCHED];
    int error = 0;
    *out = NULL;
    why[0] = '\0';
    /* Pages that no cell needs are never touched. */
    parent.result =
        mmap(NULL, result_bytes(options), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (parent.result == MAP_FAILED) {
        snprintf(why, LR_WHY_BYTES, "cannot map memory for the results: %s", strerror(errno));
        return LARDER_ENO_MEMORY;
    }
    parent.printed_ns = parent.started_ns;
    parent.all = options->source_count *
                 (options->size_count * (options->policy_count + options->reference_count * options->charge_count) +
                  (options->curves ? 1u : 0u));
    watch_signals(old);
    for (unsigned i = 0; error == 0 && caught_signal == 0 && i < options->source_count; i++) {
        parent.facts = &parent.result->traces[i];
        error = sweep_source(&parent, old, &options->sources[i], why);
    }
    await_places(&parent, 0);
    unwatch_signals(old);
    if (error != 0) {
        sweep_free(options, parent.result);
        return error;
    }
    print_progress(&parent, true);
    count_failures(parent.result, options);
    parent.result->interrupted = caught_signal;
    parent.result->seconds = (double)(ticks_clock_ns() - parent.started_ns) / 1e9;
    *out = parent.result;
    return 0;
}

void sweep_free(const struct sweep_options *options, struct sweep_result *result) {
    munmap(result, result_bytes(options));
}

uint64_t sweep_size_bytes(const struct sweep_size *size, uint64_t footprint) {
    return size->share > 0 ? (uint64_t)ceil(size->share * (double)footprint) : size->bytes;
}

/* ---- what it says ----------------------------------------------------------------------------------------------- */

double sweep_best(const struct sweep_options *options, const struct sweep_row *row, unsigned charge) {
    double best = -1;
    for (unsigned i = 0; i < options->reference_count; i++) {
        const struct sweep_cell *cell = &row->cells[sweep_reference_cell(options, charge, i)];
        if (cell->state == SWEEP_DONE && (best < 0 || cell->miss_ratio < best))
            best = cell->miss_ratio;
    }
    return best;
}

const struct sweep_cell *sweep_lru(const struct sweep_options *options, const struct sweep_row *row, unsigned charge) {
    for (unsigned i = 0; i < options->reference_count; i++) {
        const struct sweep_cell *cell = &row->cells[sweep_reference_cell(options, charge, i)];
        if (options->references[i] == REFERENCE_lru && cell->state == SWEEP_DONE)
            return cell;
    }
    return NULL;
}

double sweep_mean(const struct sweep_options *options, const struct sweep_result *result, unsigned cell,
                  unsigned *points) {
    double sum = 0;
    *points = 0;
    for (unsigned t = 0; t < options->source_count; t++)
        for (unsigned row = 0; row < options->size_count; row++) {
            const struct sweep_cell *at = &result->traces[t].rows[row].cells[cell];
            if (at->state != SWEEP_DONE)
                continue;
            sum += at->miss_ratio;
            ++*points;
        }
    return *points ? sum / *points : 0.0;
}
