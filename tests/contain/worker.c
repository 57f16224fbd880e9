/* SPDX-License-Identifier: MIT */
/*
 * One process of a storm: it writes its lane's keys, reads everybody's, and judges what it reads (board.h). It uses
 * larder.h only, so that it can be built against any C library, and is killed at any instruction.
 */
#include "contain/board.h"
#include "larder.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define WORDS 192u               /* of the largest value, behind its head */
#define DEADLINE_SLACK_MS 30000u /* a worker may be off the processor between two readings of the clock */

struct head {
    uint64_t lane, key, sequence, words, deadline_ms; /* 0: none */
};

struct value {
    struct head head;
    uint64_t filler[WORDS];
};

struct worker {
    const struct contain_job *job;
    struct contain_board *board;
    larder *cache;
    uint64_t random;
    struct value out, in;
};

void contain_report(struct contain_board *board, enum contain_violation kind, const char *format, ...) {
    atomic_fetch_add(&board->violations[kind], 1);
    uint32_t index = atomic_fetch_add(&board->texts, 1);
    if (index >= CONTAIN_FIRST)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(board->text[index], CONTAIN_TEXT, format, arguments);
    va_end(arguments);
}

static uint64_t next(struct worker *worker) {
    uint64_t x = worker->random += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t filler_of(const struct head *head, uint64_t i) {
    return (head->lane * 1000003 + head->key) * 1000003 + head->sequence * 31 + i;
}

static size_t key_text(char out[32], uint64_t lane, uint64_t key) {
    return (size_t)snprintf(out, 32, "lane%llu/key%llu", (unsigned long long)lane, (unsigned long long)key);
}

/* Larder's clock is one for all: whatever namespace it is read in, it is not behind what anybody has read before. */
static uint64_t read_clock(struct worker *worker) {
    uint64_t before = atomic_load(&worker->board->clock_ms), now = larder_now_ms(worker->cache);
    if (now < before)
        contain_report(worker->board, CONTAIN_clock, "lane %u reads %llu ms, somebody had read %llu", worker->job->lane,
                       (unsigned long long)now, (unsigned long long)before);
    while (before < now && !atomic_compare_exchange_weak(&worker->board->clock_ms, &before, now))
        ;
    return now;
}

static void count_result(struct worker *worker, int error, const char *call) {
    atomic_fetch_add(&worker->board->calls[worker->job->lane], 1);
    if (error == LARDER_EBUSY)
        atomic_fetch_add(&worker->board->busy[worker->job->lane], 1);
    else if (error != 0 && error != LARDER_ENOT_FOUND)
        contain_report(worker->board, CONTAIN_refused, "lane %u: %s: %s", worker->job->lane, call,
                       larder_error_name(error));
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static void change(struct worker *worker) {
    unsigned lane = worker->job->lane;
    uint64_t key = next(worker) % CONTAIN_KEYS, dice = next(worker) % 16;
    _Atomic uint64_t *started = &worker->board->started[lane][key], *acked = &worker->board->acked[lane][key];
    uint64_t sequence = (atomic_load(started) >> 2) + 1;
    uint64_t kind = dice == 0 ? CONTAIN_DELETE : dice < 4 ? CONTAIN_PUT_TTL : CONTAIN_PUT;
    char name[32];
    size_t name_len = key_text(name, lane, key);
    atomic_store(started, sequence << 2 | kind);
    int error;
    if (kind == CONTAIN_DELETE) {
        error = larder_delete(worker->cache, name, name_len);
        count_result(worker, error, "delete");
        error = error == LARDER_ENOT_FOUND ? 0 : error;
    } else {
        struct value *value = &worker->out;
        uint64_t ttl_ms = kind == CONTAIN_PUT_TTL ? 1 + next(worker) % 60 : 0;
        value->head = (struct head){lane, key, sequence, next(worker) % WORDS, 0};
        if (ttl_ms != 0)
            value->head.deadline_ms = read_clock(worker) + ttl_ms;
        for (uint64_t i = 0; i < value->head.words; i++)
            value->filler[i] = filler_of(&value->head, i);
        error = larder_put(worker->cache, name, name_len, value, sizeof value->head + value->head.words * 8, ttl_ms,
                           (uint32_t)sequence);
        count_result(worker, error, "put");
    }
    if (error == 0)
        atomic_store(acked, sequence << 2 | kind);
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

struct look {
    unsigned lane;
    uint64_t key, acked, now_ms;
};

static struct look begin_look(struct worker *worker) {
    struct look look = {.lane = (unsigned)(next(worker) % CONTAIN_LANES), .key = next(worker) % CONTAIN_KEYS};
    look.acked = atomic_load(&worker->board->acked[look.lane][look.key]);
    look.now_ms = read_clock(worker);
    return look;
}

static void judge_hit(struct worker *worker, const struct look *look, const struct value *value,
                      const larder_item *item) {
    const struct head *head = &value->head;
    struct contain_board *board = worker->board;
    const unsigned long long sequence = head->sequence, acked = look->acked >> 2;
    unsigned reader = worker->job->lane;
    if (item->value_len < sizeof *head || head->lane != look->lane || head->key != look->key) {
        contain_report(board, CONTAIN_foreign, "lane %u got, for lane %u key %llu, %u bytes of lane %llu key %llu",
                       reader, look->lane, (unsigned long long)look->key, item->value_len,
                       (unsigned long long)head->lane, (unsigned long long)head->key);
        return;
    }
    bool whole = head->words < WORDS && item->value_len == sizeof *head + head->words * 8 &&
                 item->flags == (uint32_t)head->sequence;
    for (uint64_t i = 0; whole && i < head->words; i++)
        whole = value->filler[i] == filler_of(head, i);
    if (!whole)
        contain_report(board, CONTAIN_torn, "lane %u: lane %u key %llu sequence %llu", reader, look->lane,
                       (unsigned long long)look->key, sequence);
    if (sequence < acked)
        contain_report(board, CONTAIN_stale, "lane %u: lane %u key %llu is %llu, acknowledged was %llu", reader,
                       look->lane, (unsigned long long)look->key, sequence, acked);
    if (sequence == acked && (look->acked & 3) == CONTAIN_DELETE)
        contain_report(board, CONTAIN_resurrected, "lane %u: lane %u key %llu is %llu, which was a delete", reader,
                       look->lane, (unsigned long long)look->key, sequence);
    if (sequence > atomic_load(&board->started[look->lane][look->key]) >> 2)
        contain_report(board, CONTAIN_future, "lane %u: lane %u key %llu is %llu", reader, look->lane,
                       (unsigned long long)look->key, sequence);
    bool has_deadline = item->deadline_ms != UINT64_MAX;
    if (has_deadline && look->now_ms > item->deadline_ms)
        contain_report(board, CONTAIN_expired, "lane %u: lane %u key %llu, %llu ms after its deadline", reader,
                       look->lane, (unsigned long long)look->key,
                       (unsigned long long)(look->now_ms - item->deadline_ms));
    if (has_deadline != (head->deadline_ms != 0) ||
        (has_deadline &&
         (item->deadline_ms < head->deadline_ms || item->deadline_ms > head->deadline_ms + DEADLINE_SLACK_MS)))
        contain_report(board, CONTAIN_deadline, "lane %u: lane %u key %llu: asked %llu, is %llu", reader, look->lane,
                       (unsigned long long)look->key, (unsigned long long)head->deadline_ms,
                       (unsigned long long)item->deadline_ms);
}

static void judge_miss(struct worker *worker, const struct look *look) {
    struct contain_board *board = worker->board;
    if ((look->acked & 3) != CONTAIN_PUT)
        return;
    if (atomic_load(&board->started[look->lane][look->key]) == look->acked)
        contain_report(board, CONTAIN_lost, "lane %u: lane %u key %llu sequence %llu", worker->job->lane, look->lane,
                       (unsigned long long)look->key, (unsigned long long)(look->acked >> 2));
}

static void judge(struct worker *worker, const struct look *look, int error, const struct value *value,
                  const larder_item *item) {
    if (error == LARDER_ENOT_FOUND) {
        judge_miss(worker, look);
    } else if (error == 0) {
        atomic_fetch_add(&worker->board->hits[worker->job->lane], 1);
        judge_hit(worker, look, value, item);
    }
}

static void look_at_copy(struct worker *worker) {
    struct look look = begin_look(worker);
    char name[32];
    larder_item item;
    int error =
        larder_get(worker->cache, name, key_text(name, look.lane, look.key), &worker->in, sizeof worker->in, &item, 0);
    count_result(worker, error, "get");
    judge(worker, &look, error, &worker->in, &item);
}

/* Judged in place, and again later: it must not have changed. Sometimes we are killed with it. */
static void look_in_place(struct worker *worker) {
    struct look look = begin_look(worker);
    char name[32];
    larder_pin pin;
    int error = larder_get_pinned(worker->cache, name, key_text(name, look.lane, look.key), &pin);
    count_result(worker, error, "get_pinned");
    if (error != 0) {
        judge(worker, &look, error, NULL, NULL);
        return;
    }
    size_t len = pin.item.value_len < sizeof worker->in ? pin.item.value_len : sizeof worker->in;
    memcpy(&worker->in, pin.value, len);
    judge(worker, &look, 0, &worker->in, &pin.item);
    for (unsigned i = 0; i < 4; i++)
        change(worker);
    if (memcmp(&worker->in, pin.value, len) != 0)
        contain_report(worker->board, CONTAIN_torn, "lane %u: a pinned value of lane %u key %llu changed",
                       worker->job->lane, look.lane, (unsigned long long)look.key);
    larder_release(worker->cache, &pin);
}

/* ---- the worker ------------------------------------------------------------------------------------------------- */

int contain_work(const struct contain_job *job) {
    static struct worker worker;
    char why[LARDER_WHY_BYTES] = "", who[32];
    larder_options options = {0};
    worker.job = job;
    worker.board = job->board;
    worker.random = job->seed;
    snprintf(who, sizeof who, "lane %u", job->lane);
    options.path = job->path;
    options.wait_ms = 5000;
    options.who = who;
    int error = larder_attach(NULL, &options, &worker.cache, why);
    if (error != 0) {
        if (atomic_load(&job->board->stop) == 0)
            contain_report(job->board, CONTAIN_refused, "lane %u: attach: %.150s", job->lane, why);
        return 1;
    }
    _Atomic uint32_t *working = &job->board->working[job->lane];
    atomic_fetch_add(&job->board->attached[job->lane], 1);
    if (getpid() != 1)
        atomic_fetch_add(&job->board->not_pid_one[job->lane], 1);
    atomic_store(working, 1);
    for (uint64_t turn = 1; atomic_load(&job->board->stop) == 0; turn++) {
        uint64_t dice = next(&worker) % 8;
        if (turn % 64 == 0) { // half a minute is to show what time and kills do, not how fast all are
            atomic_store(working, 0);
            nanosleep(&(struct timespec){.tv_nsec = 8000000}, NULL);
            atomic_store(working, 1);
        }
        if (dice < 3)
            change(&worker);
        else if (dice < 7)
            look_at_copy(&worker);
        else
            look_in_place(&worker);
    }
    larder_close(worker.cache);
    return 0;
}

int contain_worker_main(char **words) {
    struct contain_job job = {
        .path = words[1], .lane = (unsigned)strtoul(words[2], NULL, 10), .seed = strtoull(words[3], NULL, 0)};
    int fd = (int)strtol(words[0], NULL, 10);
    void *memory = mmap(NULL, sizeof *job.board, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED || job.lane >= CONTAIN_LANES)
        return 2;
    close(fd);
    job.board = memory;
    return contain_work(&job);
}
