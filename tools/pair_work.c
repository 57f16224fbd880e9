/* SPDX-License-Identifier: MIT */
/* See pair_work.h. */
#include "pair_work.h"

#include "ticks.h"
#include "value.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STARVED_NS UINT64_C(5000000000) /* so long a writer may have had no processor */
#define BACKLOG_LOOK 256u
#define BACKLOG_STRIPE                                                                                                 \
    256u /* changes that are not acknowledged, for each stripe, beyond which an unpaced writer waits */
#define NAP_US 500u
#define METER_RATE 5000u /* changes a second that the meter wants to see */
#define METER_HINTS 256u
#define LARGE_KEYS 64u
#define LARGE_FIRST (UINT64_C(1) << 40) /* number of the first key of a large value */

/* ---- values ----------------------------------------------------------------------------------------------------- */

/* Half of it compresses well: 16 bytes of noise, 16 of one letter, and so on. The first 8 are the moment. */
static void fill_value(uint8_t *value, uint64_t len) {
    for (uint64_t i = 0; i < len; i++)
        value[i] = i / 16 % 2 == 0 ? (uint8_t)(value_mix(i / 8) >> (8 * (i % 8))) : 'x';
}

static int put_stamped(struct lr_cache *cache, uint64_t number, uint8_t *value, uint64_t len, uint64_t now_ns) {
    struct value_key key = value_key(number);
    struct lr_put put = {.key = key.bytes, .key_len = VALUE_KEY_BYTES, .value = value, .value_len = len};
    memcpy(value, &now_ns, sizeof now_ns);
    return lr_put(cache, &put);
}

uint64_t work_fill(struct lr_cache *cache, const struct work_load *load, const volatile sig_atomic_t *interrupted) {
    uint8_t *value = malloc(load->value_bytes);
    uint64_t refused = 0;
    if (value == NULL)
        return load->items;
    fill_value(value, load->value_bytes);
    for (uint64_t i = 0; i < load->items && *interrupted == 0; i++)
        refused += put_stamped(cache, load->first + i, value, load->value_bytes, ticks_clock_ns()) != 0;
    free(value);
    return refused;
}

/* ---- the writer ------------------------------------------------------------------------------------------------- */

struct writer {
    const struct work_load *load;
    struct work_board *board;
    struct lr_cache *cache;
    uint8_t *small, *large;
    uint64_t next, large_done;
};

static struct work_counts *cells_of(struct work_board *board) {
    uint32_t counting = atomic_load_explicit(&board->counting, memory_order_relaxed);
    return counting != 0 ? &board->cells[counting - 1] : NULL;
}

static void put_small(struct writer *writer) {
    struct work_counts *counts = cells_of(writer->board);
    uint64_t before = ticks_clock_ns();
    int result = put_stamped(writer->cache, writer->load->first + writer->next, writer->small,
                             writer->load->value_bytes, before);
    writer->next = writer->next + 1 == writer->load->items ? 0 : writer->next + 1;
    if (counts == NULL)
        return;
    histogram_add(&counts->put_ns, ticks_clock_ns() - before);
    counts->puts++;
    counts->refused += result != 0;
}

/* Reading the clock twice is a tenth of a put. */
static void put_untimed(struct writer *writer) {
    struct work_counts *counts = cells_of(writer->board);
    int result = put_stamped(writer->cache, writer->load->first + writer->next, writer->small,
                             writer->load->value_bytes, writer->next);
    writer->next = writer->next + 1 == writer->load->items ? 0 : writer->next + 1;
    if (counts == NULL)
        return;
    counts->puts++;
    counts->refused += result != 0;
}

static void put_large(struct writer *writer) {
    struct work_counts *counts = cells_of(writer->board);
    int result = put_stamped(writer->cache, LARGE_FIRST + writer->large_done++ % LARGE_KEYS, writer->large, WORK_LARGE,
                             ticks_clock_ns());
    if (counts == NULL)
        return;
    counts->large++;
    counts->refused += result != 0;
}

static bool stopped(const struct work_board *board) {
    return atomic_load_explicit(&board->stop, memory_order_relaxed) != 0;
}

static void sleep_until(uint64_t ns) {
    struct timespec until = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

/* What is due at each wake-up, and what was missed: the rate holds, whoever took the processor meanwhile. */
static void write_paced(struct writer *writer) {
    const struct work_load *load = writer->load;
    const uint64_t start = ticks_clock_ns();
    uint64_t done = 0, wake = start;
    while (!stopped(writer->board)) {
        double elapsed = (double)(ticks_clock_ns() - start) / 1e9;
        for (uint64_t due = (uint64_t)(elapsed * (double)load->rate); done < due && !stopped(writer->board); done++)
            put_small(writer);
        while (writer->large_done < (uint64_t)(elapsed * (double)load->large_rate) && !stopped(writer->board))
            put_large(writer);
        wake += WRITER_US * 1000u;
        uint64_t now = ticks_clock_ns();
        if (wake < now)
            wake = now;
        sleep_until(wake);
    }
}

static void write_unpaced(struct writer *writer) {
    const uint64_t backlog = (uint64_t)lr_stripe_count(writer->cache) * BACKLOG_STRIPE;
    for (uint64_t done = 0; !stopped(writer->board); done++) {
        struct lr_sidecar_state state;
        put_untimed(writer);
        if (done % BACKLOG_LOOK != 0)
            continue;
        lr_sidecar_state(writer->cache, &state);
        while (state.unacked > backlog && !stopped(writer->board)) {
            usleep(NAP_US);
            lr_sidecar_state(writer->cache, &state);
        }
    }
}

static void write_values(struct work_board *board, const struct pair *pair, const struct work_load *load) {
    struct writer writer = {.load = load,
                            .board = board,
                            .cache = pair->host[load->host].cache,
                            .small = malloc(load->value_bytes),
                            .large = malloc(WORK_LARGE)};
    if (writer.small == NULL || writer.large == NULL)
        _exit(1);
    fill_value(writer.small, load->value_bytes);
    fill_value(writer.large, WORK_LARGE);
    if (load->rate > 0)
        write_paced(&writer);
    else
        write_unpaced(&writer);
    _exit(0);
}

/* ---- the meter -------------------------------------------------------------------------------------------------- */

/* The lags of what came into one stripe since *position. */
static void look_at(struct work_board *board, struct lr_cache *cache, uint32_t stripe, uint64_t *position) {
    struct lr_hint hints[METER_HINTS];
    struct work_counts *counts = cells_of(board);
    if (lr_feed_head(cache, stripe) == *position)
        return;
    int got = lr_feed_read(cache, stripe, position, hints, METER_HINTS);
    const uint64_t now = ticks_clock_ns();
    if (counts == NULL)
        return;
    counts->lost += got < 0;
    for (int i = 0; i < got; i++) {
        uint8_t buffer[4096]; /* larger values are not looked at */
        struct lr_entry entry;
        uint64_t put_ns;
        if (lr_entry_by_hash(cache, hints[i].hash, buffer, sizeof buffer, &entry) != 0 ||
            entry.version != hints[i].version || entry.value_len < sizeof put_ns)
            continue;
        memcpy(&put_ns, entry.value, sizeof put_ns);
        histogram_add(&counts->lag_ns, now > put_ns ? now - put_ns : 0);
    }
}

static void watch(struct work_board *board, const struct pair *pair, const struct work_load *load) {
    struct lr_cache *cache = pair->host[1 - load->host].cache;
    const uint32_t all = lr_stripe_count(cache);
    const uint64_t rate = load->rate > 0 ? load->rate : 1000000;
    uint64_t wanted = (all * UINT64_C(1) * METER_RATE + rate - 1) / rate;
    const uint32_t watched = wanted < all ? (uint32_t)wanted : all;
    uint64_t *positions = calloc(all, sizeof *positions), last = ticks_clock_ns();
    prctl(PR_SET_TIMERSLACK, 1000ul);
    for (uint32_t i = 0; positions != NULL && i < watched; i++)
        positions[i] = lr_feed_head(cache, i);
    while (positions != NULL && !stopped(board)) {
        struct work_counts *counts = cells_of(board);
        sleep_until(last + METER_US * 1000u);
        uint64_t now = ticks_clock_ns();
        if (counts != NULL)
            histogram_add(&counts->looks_ns, now - last);
        last = now;
        for (uint32_t i = 0; i < watched; i++)
            look_at(board, cache, i, &positions[i]);
    }
    _exit(positions != NULL ? 0 : 1);
}

/* ---- processes -------------------------------------------------------------------------------------------------- */

int work_begin(struct work *work, char *why) {
    *work = (struct work){0};
    work->board = mmap(NULL, sizeof *work->board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (work->board != MAP_FAILED)
        return 0;
    work->board = NULL;
    snprintf(why, LR_WHY_BYTES, "no memory to count in: %s", strerror(errno));
    return LARDER_ESYSTEM;
}

static int start(struct work *work, const struct pair *pair, const struct work_load *load, pid_t *out,
                 void (*body)(struct work_board *, const struct pair *, const struct work_load *), char *why) {
    pid_t self = getpid();
    fflush(NULL);
    *out = fork();
    if (*out > 0)
        return 0;
    if (*out < 0) {
        *out = 0;
        snprintf(why, LR_WHY_BYTES, "cannot start another process: %s", strerror(errno));
        return LARDER_ESYSTEM;
    }
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == self)
        body(work->board, pair, load);
    _exit(1);
}

int work_start_writer(struct work *work, const struct pair *pair, const struct work_load *load, char *why) {
    return start(work, pair, load, &work->writer, write_values, why);
}

int work_start_meter(struct work *work, const struct pair *pair, const struct work_load *load, char *why) {
    return start(work, pair, load, &work->meter, watch, why);
}

static void end(pid_t *pid) {
    if (*pid <= 0)
        return;
    for (unsigned ms = 0; ms < 2000; ms++, usleep(1000))
        if (waitpid(*pid, NULL, WNOHANG) != 0) {
            *pid = 0;
            return;
        }
    kill(*pid, SIGKILL);
    waitpid(*pid, NULL, 0);
    *pid = 0;
}

void work_stop(struct work *work) {
    if (work->board == NULL)
        return;
    atomic_store(&work->board->counting, 0);
    atomic_store(&work->board->stop, 1);
    end(&work->writer);
    end(&work->meter);
    atomic_store(&work->board->stop, 0);
}

void work_end(struct work *work) {
    work_stop(work);
    if (work->board != NULL)
        munmap(work->board, sizeof *work->board);
    work->board = NULL;
}

uint64_t work_count(struct work *work, unsigned which, uint64_t ns, const volatile sig_atomic_t *interrupted) {
    const struct work_counts *counts = &work->board->cells[which];
    const uint64_t before = ticks_clock_ns(), puts = counts->puts;
    atomic_store(&work->board->counting, which + 1);
    for (uint64_t now = before; now - before < ns && *interrupted == 0; now = ticks_clock_ns()) {
        uint64_t left = ns - (now - before);
        usleep(left < 20000000u ? (useconds_t)(left / 1000u + 1u) : 20000u);
    }
    while (work->writer != 0 && counts->puts == puts && ticks_clock_ns() - before < ns + STARVED_NS &&
           *interrupted == 0)
        usleep(1000);
    atomic_store(&work->board->counting, 0);
    return ticks_clock_ns() - before;
}
