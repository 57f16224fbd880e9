/* SPDX-License-Identifier: MIT */
/* Rows of the history, and what they say about a value. */
#include "history.h"

#include <stdbool.h>
#include <sys/mman.h>

#define NUMBER_KEY_BITS 20

struct row {
    _Atomic uint64_t started, stored, gone, seen, expires, version;
    uint64_t pad[2];
};
_Static_assert(sizeof(struct row) == 64, "a row is a cache line");

struct history {
    uint64_t bytes;
    uint64_t pad[7];
    struct row rows[];
};

const char *history_verdict_name(enum history_verdict verdict) {
    static const char *const names[] = {
#define X(name) #name,
        HISTORY_VERDICTS(X)
#undef X
    };
    return verdict < HISTORY_VERDICT_COUNT ? names[verdict] : "?";
}

struct history *history_create(uint32_t keys) {
    size_t bytes = sizeof(struct history) + keys * sizeof(struct row);
    struct history *history = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (history == MAP_FAILED)
        return NULL;
    history->bytes = bytes;
    for (uint32_t key = 0; key < keys; key++)
        atomic_store(&history->rows[key].expires, UINT64_MAX);
    return history;
}

void history_destroy(struct history *history) {
    munmap(history, history->bytes);
}

void history_touch_pages(struct history *history) {
    (void)madvise(history, history->bytes, MADV_POPULATE_READ);
}

static void raise(_Atomic uint64_t *word, uint64_t value) {
    uint64_t now = atomic_load(word);
    while (now < value && !atomic_compare_exchange_weak(word, &now, value)) {
    }
}

/* ---- the key's writer -------------------------------------------------------------------------------------------- */

uint64_t history_begin(struct history *history, uint32_t key) {
    struct row *row = &history->rows[key];
    atomic_store(&row->expires, UINT64_MAX);
    atomic_store(&row->version, 0);
    return atomic_fetch_add(&row->started, 1) + 1;
}

void history_stored(struct history *history, uint32_t key, uint64_t sequence, uint64_t version, uint64_t expires_ms) {
    struct row *row = &history->rows[key];
    raise(&row->stored, sequence);
    atomic_store(&row->version, version);
    atomic_store(&row->expires, expires_ms);
}

void history_removed(struct history *history, uint32_t key, uint64_t sequence) {
    raise(&history->rows[key].gone, sequence);
}

void history_touch_begin(struct history *history, uint32_t key) {
    atomic_store(&history->rows[key].expires, UINT64_MAX);
    atomic_store(&history->rows[key].version, 0);
}

void history_touched(struct history *history, uint32_t key, uint64_t expires_ms) {
    atomic_store(&history->rows[key].expires, expires_ms);
}

bool history_is_absent(const struct history *history, uint32_t key, uint64_t sequence) {
    return atomic_load(&history->rows[key].gone) + 1 >= sequence;
}

uint64_t history_version(const struct history *history, uint32_t key) {
    return atomic_load(&history->rows[key].version);
}

/* ---- readers ----------------------------------------------------------------------------------------------------- */

struct history_look history_look(const struct history *history, uint32_t key, uint64_t now_ms) {
    const struct row *row = &history->rows[key];
    struct history_look look = {.now_ms = now_ms};
    /* `started` before `expires`: then a deadline that has passed is that of this sequence, or of a later one. */
    look.started = atomic_load(&row->started);
    look.expires = atomic_load(&row->expires);
    look.stored = atomic_load(&row->stored);
    look.gone = atomic_load(&row->gone);
    look.seen = atomic_load(&row->seen);
    return look;
}

static enum history_verdict judge_sequence(struct history *history, uint32_t key, const struct history_look *look,
                                           uint64_t sequence) {
    struct row *row = &history->rows[key];
    if (sequence > atomic_load(&row->started) || sequence == 0)
        return HISTORY_FUTURE;
    if (sequence <= look->gone)
        return HISTORY_RESURRECTED;
    if (sequence < look->stored || sequence < look->seen)
        return HISTORY_STALE;
    if (sequence <= look->started && look->now_ms > look->expires)
        return HISTORY_EXPIRED;
    raise(&row->seen, sequence);
    return HISTORY_RIGHT;
}

enum history_verdict history_judge(struct history *history, uint32_t key, const struct history_look *look,
                                   struct value_hit *hit) {
    static const struct value_known nothing = {.deadline_ms = UINT64_MAX};
    const struct value_reader reader = {.now_ms = look->now_ms};
    if (hit->len < VALUE_SHORT_BYTES)
        return HISTORY_TORN;
    switch (value_judge(hit, value_key(key).hash, &nothing, &reader)) {
    case VALUE_RIGHT:
        return judge_sequence(history, key, look, hit->sequence);
    case VALUE_FOREIGN:
        return HISTORY_FOREIGN;
    case VALUE_EXPIRED:
        return HISTORY_EXPIRED;
    default:
        return HISTORY_TORN;
    }
}

/* As it is written, and no other way; 18 digits at most. */
static bool read_number(const char *text, size_t len, int64_t *number) {
    if (len == 0 || len > 18 || (text[0] == '0' && len > 1))
        return false;
    *number = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        *number = *number * 10 + (text[i] - '0');
    }
    return true;
}

enum history_verdict history_judge_number(struct history *history, uint32_t key, const struct history_look *look,
                                          const char *text, size_t len) {
    int64_t number;
    if (!read_number(text, len, &number))
        return HISTORY_TORN;
    uint64_t sequence = history_number_sequence(number);
    if (history_number(key, sequence) != number)
        return HISTORY_FOREIGN;
    return judge_sequence(history, key, look, sequence);
}

void history_missed(struct history *history, uint32_t key, const struct history_look *look) {
    uint64_t known = look->stored > look->seen ? look->stored : look->seen;
    if (look->gone < known)
        raise(&history->rows[key].gone, known);
}

uint64_t history_known(const struct history *history, uint32_t key) {
    uint64_t stored = atomic_load(&history->rows[key].stored), seen = atomic_load(&history->rows[key].seen);
    return stored > seen ? stored : seen;
}

bool history_is_gone(const struct history *history, uint32_t key) {
    return atomic_load(&history->rows[key].gone) >= history_known(history, key);
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

int64_t history_number(uint32_t key, uint64_t sequence) {
    return (int64_t)(sequence << NUMBER_KEY_BITS | key);
}

uint64_t history_number_sequence(int64_t number) {
    return (uint64_t)number >> NUMBER_KEY_BITS;
}
