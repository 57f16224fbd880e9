/* SPDX-License-Identifier: MIT */
/* The parent's and the workers' part of a replay, as drawn in replay.h. */
#include "replay.h"

#include "stripe.h"
#include "ticks.h"
#include "value.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#define DRIVEN_START_MS UINT64_C(1000000) /* the trace's time 0 on a driven clock */
#define REALTIME_EVERY 256u               /* requests between looks at the real clock */

enum worker_state { WORKER_STARTING, WORKER_READY, WORKER_DONE, WORKER_FAILED };

/* One worker's part of the shared mapping. Written by the worker, but for `pid`. */
struct worker_page {
    _Atomic uint32_t state; /* enum worker_state */
    int error;              /* WORKER_FAILED */
    char why[LR_WHY_BYTES];
    char first_wrong[256];
    uint64_t started_ns, ended_ns;
    _Atomic uint64_t counters[REPLAY_COUNTER_COUNT];
    struct histogram get_ns;
};

struct shared_page {
    _Atomic uint32_t go;
    struct worker_page workers[];
};

struct worker {
    const struct replay_options *options;
    const struct trace *trace;
    struct worker_page *page;
    struct lr_cache *cache;
    struct ticks ticks;
    struct value_known *keys;
    struct value_reader reader;
    uint8_t *buffer;    /* of gets: any admissible value fits */
    uint8_t *value;     /* of puts */
    uint64_t max_value; /* bytes */
    uint64_t sequence;
    uint32_t number;
};

/* ---- the worker: judging ---------------------------------------------------------------------------------------- */

static void count_n(struct worker *worker, enum replay_counter counter, uint64_t n) {
    _Atomic uint64_t *word = &worker->page->counters[counter];
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + n, memory_order_relaxed);
}

static void count(struct worker *worker, enum replay_counter counter) {
    count_n(worker, counter, 1);
}

/* Remembers the first wrong value of all in words. */
static void describe_wrong(struct worker *worker, enum replay_counter counter, const struct trace_row *row,
                           const struct value_hit *hit) {
    static const char *const names[REPLAY_COUNTER_COUNT] = {
#define X(name, sentence) #name,
        REPLAY_COUNTERS(X)
#undef X
    };
    const struct value_known *known = &worker->keys[row->key];
    if (worker->page->first_wrong[0] == '\0')
        snprintf(worker->page->first_wrong, sizeof worker->page->first_wrong,
                 "%s: key %" PRIu32 ", time %" PRIu32 " s, %zu bytes of version %" PRIx64 " by writer %" PRIx32
                 " with sequence %" PRIu64 "; known: version %" PRIx64 ", own writer %" PRIx32 ", sequence %" PRIu64,
                 names[counter] + strlen("wrong_"), row->key, row->time_s, hit->len, hit->version, hit->writer,
                 hit->sequence, known->version, worker->reader.writer, known->sequence);
}

static void judge_hit(struct worker *worker, const struct trace_row *row, const struct value_key *name,
                      const struct lr_item *item) {
    static const enum replay_counter counters[] = {
        [VALUE_FOREIGN] = REPLAY_wrong_foreign,
        [VALUE_TORN] = REPLAY_wrong_torn,
        [VALUE_STALE] = REPLAY_wrong_stale,
        [VALUE_EXPIRED] = REPLAY_wrong_expired,
        [VALUE_RESURRECTED] = REPLAY_wrong_resurrected,
    };
    struct value_known *known = &worker->keys[row->key];
    struct value_hit hit = {
        .value = worker->buffer, .len = item->value_len, .version = item->version, .deadline_ms = item->deadline_ms};
    enum value_verdict verdict = value_judge(&hit, name->hash, known, &worker->reader);
    if (verdict != VALUE_RIGHT) {
        count(worker, counters[verdict]);
        describe_wrong(worker, counters[verdict], row, &hit);
    }
    if (item->version > known->version)
        known->version = item->version;
}

/* ---- the worker: requests --------------------------------------------------------------------------------------- */

static void count_refused(struct worker *worker, int error) {
    count(worker, REPLAY_puts_refused);
    if (error == LARDER_ETOO_LARGE)
        count(worker, REPLAY_puts_too_large);
    else if (error == LARDER_EPINNED)
        count(worker, REPLAY_puts_pinned);
    else if (error == LARDER_EBUSY)
        count(worker, REPLAY_puts_busy);
}

static void delete_key(struct worker *worker, const struct trace_row *row, const struct value_key *name) {
    int error = lr_delete(worker->cache, name->bytes, VALUE_KEY_BYTES);
    if (error == 0 || error == LARDER_ENOT_FOUND)
        worker->keys[row->key].sequence = 0;
    else
        count(worker, REPLAY_deletes_failed);
}

/* 0 or the engine's refusal. */
static int put_value(struct worker *worker, const struct trace_row *row, const struct value_key *name) {
    struct value_known *known = &worker->keys[row->key];
    size_t len = row->size > VALUE_KEY_BYTES ? row->size - VALUE_KEY_BYTES : 0;
    int error = LARDER_ETOO_LARGE;
    struct lr_put put = {.key = name->bytes,
                         .key_len = VALUE_KEY_BYTES,
                         .value = worker->value,
                         .value_len = len,
                         .ttl_ms = trace_row_ttl_s(row) * UINT64_C(1000),
                         .mode = LR_SET};
    if (len <= worker->max_value) {
        value_write(worker->value, len, name->hash, worker->reader.writer, ++worker->sequence);
        error = lr_put(worker->cache, &put);
    }
    if (error != 0) {
        count_refused(worker, error);
        return error;
    }
    count(worker, REPLAY_puts);
    known->sequence = worker->sequence;
    known->deadline_ms = put.ttl_ms ? worker->reader.now_ms + put.ttl_ms : UINT64_MAX;
    if (put.version > known->version)
        known->version = put.version;
    return 0;
}

static void get_value(struct worker *worker, const struct trace_row *row, const struct value_key *name) {
    struct lr_item item;
    uint64_t before = ticks_now(&worker->ticks);
    int error = lr_get(worker->cache, name->bytes, VALUE_KEY_BYTES, worker->buffer, worker->max_value, &item, 0);
    histogram_add(&worker->page->get_ns, ticks_to_ns(&worker->ticks, ticks_now(&worker->ticks) - before));
    count(worker, REPLAY_gets);
    count_n(worker, REPLAY_get_bytes, row->size);
    if (error == 0) {
        count(worker, REPLAY_hits);
        judge_hit(worker, row, name, &item);
        return;
    }
    if (error != LARDER_ENOT_FOUND)
        count(worker, REPLAY_gets_failed);
    count_n(worker, REPLAY_miss_bytes, row->size);
    put_value(worker, row, name);
}

static void do_request(struct worker *worker, const struct trace_row *row, const struct value_key *name) {
    switch (trace_row_op(row)) {
    case TRACE_GET:
        get_value(worker, row, name);
        break;
    case TRACE_SET:
        count(worker, REPLAY_sets);
        if (put_value(worker, row, name) != 0)
            delete_key(worker, row, name);
        break;
    case TRACE_DEL:
        count(worker, REPLAY_deletes);
        delete_key(worker, row, name);
        break;
    }
    count(worker, REPLAY_requests);
}

static void do_pass(struct worker *worker, unsigned pass) {
    const struct trace *trace = worker->trace;
    unsigned processes = worker->options->processes;
    uint64_t start_ms = DRIVEN_START_MS + pass * (trace->rows[trace->count - 1].time_s + UINT64_C(1)) * 1000u;
    uint64_t done = 0;
    for (size_t i = 0; i < trace->count; i++) {
        const struct trace_row *row = &trace->rows[i];
        struct value_key name;
        if (worker->options->interleave) {
            if (i % processes != worker->number)
                continue;
            name = value_key(row->key);
        } else {
            name = value_key(row->key);
            if (name.hash % processes != worker->number)
                continue;
        }
        if (!worker->options->shared) {
            uint64_t now_ms = start_ms + row->time_s * UINT64_C(1000);
            if (now_ms != worker->reader.now_ms)
                lr_drive_clock(worker->cache, now_ms);
            worker->reader.now_ms = now_ms;
        } else if (done++ % REALTIME_EVERY == 0) {
            worker->reader.now_ms = lr_now_ms(worker->cache);
        }
        do_request(worker, row, &name);
    }
}

/* ---- the worker: its life --------------------------------------------------------------------------------------- */

static int prepare_worker(struct worker *worker, const struct lr_options *segment) {
    char who[32];
    struct lr_options mine = *segment;
    snprintf(who, sizeof who, "replay worker %" PRIu32, worker->number + 1u);
    mine.who = who;
    int error = lr_cache_attach(&mine, &worker->cache, worker->page->why);
    if (error != 0)
        return error;
    worker->max_value = lr_max_value(worker->cache, VALUE_KEY_BYTES);
    worker->keys = calloc(worker->trace->key_limit, sizeof *worker->keys);
    worker->buffer = malloc(worker->max_value + 1u);
    worker->value = malloc(worker->max_value + 1u);
    if (worker->keys == NULL || worker->buffer == NULL || worker->value == NULL) {
        snprintf(worker->page->why, LR_WHY_BYTES, "no memory for the tables of %" PRIu32 " keys",
                 worker->trace->key_limit);
        return LARDER_ENO_MEMORY;
    }
    /* Unique among all that ever wrote to this segment, but for one chance in 2^32. */
    do
        if (getrandom(&worker->reader.writer, sizeof worker->reader.writer, 0) != (ssize_t)sizeof worker->reader.writer)
            worker->reader.writer = (uint32_t)getpid();
    while (worker->reader.writer == 0);
    return 0;
}

static int live(struct worker *worker, struct shared_page *shared, const struct lr_options *segment) {
    struct worker_page *page = worker->page;
    page->error = prepare_worker(worker, segment);
    atomic_store(&page->state, page->error == 0 ? WORKER_READY : WORKER_FAILED);
    if (page->error != 0)
        return 1;
    while (atomic_load(&shared->go) == 0)
        usleep(100);
    page->started_ns = ticks_clock_ns();
    for (unsigned pass = 0; pass < worker->options->passes; pass++)
        do_pass(worker, pass);
    page->ended_ns = ticks_clock_ns();
    lr_cache_detach(worker->cache);
    free(worker->keys);
    free(worker->buffer);
    free(worker->value);
    atomic_store(&page->state, WORKER_DONE);
    return 0;
}

/* ---- the parent ------------------------------------------------------------------------------------------------- */

struct parent {
    const struct replay_options *options;
    struct replay_result *result;
    struct shared_page *shared;
    struct lr_options segment;
    char name[65];
    struct lr_cache *cache;
    struct ticks ticks;
    uint64_t started_ns, printed_ns;
    pid_t pids[REPLAY_MAX_PROCESSES]; /* 0: gone */
    unsigned alive;
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

static int open_segment(struct parent *parent, char *why) {
    uint64_t random = 0;
    parent->segment = parent->options->segment;
    parent->segment.who = "replay";
    if (parent->options->shared)
        return lr_cache_attach(&parent->segment, &parent->cache, why);
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        random = ticks_clock_ns();
    snprintf(parent->name, sizeof parent->name, "replay.%ld.%08" PRIx32, (long)getpid(), (uint32_t)random);
    parent->segment.name = parent->name;
    return lr_cache_create(&parent->segment, &parent->cache, why);
}

static int start_workers(struct parent *parent, const struct sigaction old[WATCHED], char *why) {
    pid_t self = getpid();
    fflush(NULL);
    for (unsigned i = 0; i < parent->options->processes; i++) {
        pid_t pid = fork();
        if (pid < 0) {
            snprintf(why, LR_WHY_BYTES, "cannot start worker %u of %u: %s", i + 1u, parent->options->processes,
                     strerror(errno));
            return LARDER_ESYSTEM;
        }
        if (pid == 0) {
            unwatch_signals(old);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != self)
                _exit(1);
            struct worker worker = {.options = parent->options,
                                    .trace = parent->options->trace,
                                    .page = &parent->shared->workers[i],
                                    .ticks = parent->ticks,
                                    .number = i,
                                    .reader.owner = !parent->options->shared && !parent->options->interleave};
            _exit(live(&worker, parent->shared, &parent->segment));
        }
        parent->pids[i] = pid;
        parent->alive++;
    }
    return 0;
}

static void note_death(struct parent *parent, unsigned worker, int status) {
    struct replay_result *result = parent->result;
    if (result->deaths < sizeof result->died / sizeof result->died[0])
        result->died[result->deaths] = (struct replay_death){
            .worker = worker + 1u,
            .pid = parent->pids[worker],
            .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
            .status = WIFEXITED(status) ? WEXITSTATUS(status) : 0,
        };
    result->deaths++;
}

/* Collects the workers that have ended. */
static void collect(struct parent *parent) {
    for (unsigned i = 0; i < parent->options->processes; i++) {
        int status;
        if (parent->pids[i] == 0 || waitpid(parent->pids[i], &status, WNOHANG) != parent->pids[i])
            continue;
        uint32_t state = atomic_load(&parent->shared->workers[i].state);
        if (state != WORKER_FAILED && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
            note_death(parent, i, status);
        parent->pids[i] = 0;
        parent->alive--;
    }
}

static void kill_workers(struct parent *parent) {
    for (unsigned i = 0; i < parent->options->processes; i++) {
        if (parent->pids[i] == 0)
            continue;
        kill(parent->pids[i], SIGKILL);
        while (waitpid(parent->pids[i], NULL, 0) < 0 && errno == EINTR)
            continue;
        parent->pids[i] = 0;
        parent->alive--;
    }
}

static uint64_t sum_counter(const struct parent *parent, enum replay_counter counter) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < parent->options->processes; i++)
        sum += atomic_load_explicit(&parent->shared->workers[i].counters[counter], memory_order_relaxed);
    return sum;
}

static uint64_t sum_wrong(const struct parent *parent) {
    uint64_t sum = 0;
    for (unsigned counter = REPLAY_wrong_foreign; counter <= REPLAY_wrong_expired; counter++)
        sum += sum_counter(parent, (enum replay_counter)counter);
    return sum;
}

/* Four times a second on a terminal, once a second elsewhere; `last` ends the line. */
static void print_progress(struct parent *parent, bool last) {
    bool terminal = isatty(STDERR_FILENO) != 0;
    uint64_t now_ns = ticks_clock_ns();
    if (!parent->options->progress ||
        (!last && now_ns - parent->printed_ns < (terminal ? UINT64_C(250000000) : UINT64_C(1000000000))))
        return;
    uint64_t requests = sum_counter(parent, REPLAY_requests), gets = sum_counter(parent, REPLAY_gets);
    double all = (double)parent->options->trace->count * parent->options->passes;
    double seconds = (double)(now_ns - parent->started_ns) / 1e9;
    fprintf(stderr, "%sreplay %3.0f %%  %.0f requests/s  hit ratio %.4f  wrong values %" PRIu64 "  workers %u%s",
            terminal ? "\r" : "", 100.0 * (double)requests / all, (double)requests / (seconds > 0 ? seconds : 1),
            gets ? (double)sum_counter(parent, REPLAY_hits) / (double)gets : 0.0, sum_wrong(parent), parent->alive,
            terminal ? (last ? "\033[K\n" : "\033[K") : "\n");
    parent->printed_ns = now_ns;
}

/* Waits until all that live are ready. 0, or the error of a worker that could not begin. */
static int await_ready(struct parent *parent, char *why) {
    for (;;) {
        unsigned waiting = 0;
        collect(parent);
        for (unsigned i = 0; i < parent->options->processes; i++) {
            struct worker_page *page = &parent->shared->workers[i];
            uint32_t state = atomic_load(&page->state);
            if (state == WORKER_FAILED) {
                snprintf(why, LR_WHY_BYTES, "worker %u: %.*s", i + 1u, (int)(LR_WHY_BYTES - 32u), page->why);
                return page->error;
            }
            waiting += state == WORKER_STARTING && parent->pids[i] != 0;
        }
        if (waiting == 0 || caught_signal != 0)
            return 0;
        usleep(500);
    }
}

static void watch_workers(struct parent *parent) {
    parent->started_ns = parent->printed_ns = ticks_clock_ns();
    atomic_store(&parent->shared->go, 1);
    while (parent->alive > 0 && caught_signal == 0) {
        usleep(ticks_clock_ns() - parent->started_ns < UINT64_C(200000000) ? 1000 : 10000);
        collect(parent);
        print_progress(parent, false);
    }
    print_progress(parent, true);
}

static void gather_workers(struct parent *parent) {
    struct replay_result *result = parent->result;
    uint64_t first_ns = UINT64_MAX, last_ns = 0, now_ns = ticks_clock_ns();
    for (unsigned i = 0; i < parent->options->processes; i++) {
        const struct worker_page *page = &parent->shared->workers[i];
        for (unsigned c = 0; c < REPLAY_COUNTER_COUNT; c++)
            result->counters[c] += atomic_load_explicit(&page->counters[c], memory_order_relaxed);
        histogram_merge(&result->get_ns, &page->get_ns);
        if (page->started_ns != 0 && page->started_ns < first_ns)
            first_ns = page->started_ns;
        uint64_t ended_ns = page->ended_ns ? page->ended_ns : page->started_ns; /* 0: it was killed */
        if (ended_ns > last_ns)
            last_ns = ended_ns;
        if (result->first_wrong[0] == '\0')
            snprintf(result->first_wrong, sizeof result->first_wrong, "%s", page->first_wrong);
    }
    if (result->deaths == parent->options->processes || caught_signal != 0)
        last_ns = now_ns;
    result->elapsed_ns = first_ns < last_ns ? last_ns - first_ns : 0;
    result->wrong_values = sum_wrong(parent);
}

static void gather_segment(struct parent *parent, const struct lr_stat *before) {
    struct replay_result *result = parent->result;
    struct lr_stat after;
    lr_reap(parent->cache);
    lr_stat(parent->cache, &after);
    result->cache_bytes = after.cache_bytes;
    result->fixed_bytes = after.fixed_bytes;
    result->payload_bytes = after.payload_bytes;
    result->items = after.items;
    result->index_bytes = after.index_bytes;
    result->free_bytes = after.hole_bytes + after.gap_bytes;
    result->index_evictions =
        after.stripe_counters[LR_S_index_evictions] - before->stripe_counters[LR_S_index_evictions];
    result->evictions = after.stripe_counters[LR_S_evictions] - before->stripe_counters[LR_S_evictions];
    result->expirations = after.stripe_counters[LR_S_expirations] - before->stripe_counters[LR_S_expirations];
    result->repairs = after.counters[LR_C_repairs] - before->counters[LR_C_repairs];
    result->takeovers = after.counters[LR_C_takeovers] - before->counters[LR_C_takeovers];
    if (!parent->options->shared)
        result->check = lr_check(parent->cache, &result->findings);
}

int replay_run(const struct replay_options *options, struct replay_result *out, char *why) {
    struct parent parent = {.options = options, .result = out, .ticks = ticks_calibrate()};
    struct sigaction old[WATCHED];
    struct lr_stat before;
    size_t bytes = sizeof(struct shared_page) + options->processes * sizeof(struct worker_page);
    *out = (struct replay_result){0};
    why[0] = '\0';
    parent.shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (parent.shared == MAP_FAILED) {
        snprintf(why, LR_WHY_BYTES, "cannot map %zu bytes for the results: %s", bytes, strerror(errno));
        return LARDER_ENO_MEMORY;
    }
    watch_signals(old);
    int error = open_segment(&parent, why);
    if (error == 0) {
        lr_stat(parent.cache, &before);
        error = start_workers(&parent, old, why);
    }
    if (error == 0)
        error = await_ready(&parent, why);
    if (error == 0)
        watch_workers(&parent);
    kill_workers(&parent);
    if (error == 0) {
        gather_workers(&parent);
        gather_segment(&parent, &before);
    }
    out->interrupted = caught_signal;
    if (parent.cache != NULL) {
        lr_cache_detach(parent.cache);
        if (!options->shared)
            lr_cache_destroy(&parent.segment, NULL);
    }
    unwatch_signals(old);
    munmap(parent.shared, bytes);
    return error;
}
