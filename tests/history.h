/* SPDX-License-Identifier: MIT */
/*
 * The history check: may this value be seen now?
 *
 * A storm of processes that write, read and die leaves no log that could be ordered afterwards. So each key belongs to
 * one writer (one process at a time; when it dies another takes its place), its values are numbered, and everything
 * that is known of a key is one row of memory that all processes share and no death takes along:
 *
 *   started   highest sequence that a change was begun with: nothing above it can be seen
 *   stored    highest sequence whose put was acknowledged: nothing below it can be seen from then on
 *   gone      all up to here were deleted (and that acknowledged), flushed, or seen to be missing: none comes back
 *   seen      highest sequence that any reader saw: a put whose writer was killed may have happened or not, but once
 * its value was seen the old one is gone expires   host clock at which the present value is over at the latest;
 * UINT64_MAX while a change is under way version   of the last acknowledged put, as long as nothing followed: the token
 * of a compare-and-swap; else 0
 *
 * A reader takes a look at the row before it reads (history_look) and judges what it got against that look and against
 * `started` as it is afterwards: linear in the number of reads, whatever they overlapped. Deletes take a sequence too.
 *
 * A miss is always legal, since items are evicted, but it is remembered: what has been evicted does not come back.
 *
 * Values are those of tools/value.h, of VALUE_SHORT_BYTES or more, or decimal numbers (for lr_increment) that hold key
 * and sequence.
 */
#ifndef HISTORY_H
#define HISTORY_H

#include "value.h"

#include <stdatomic.h>

struct history;

#define HISTORY_VERDICTS(X)                                                                                            \
    X(RIGHT)                                                                                                           \
    X(FOREIGN)     /* another key's */                                                                                 \
    X(TORN)        /* a mixture */                                                                                     \
    X(FUTURE)      /* never begun to be written */                                                                     \
    X(STALE)       /* superseded by a put that was acknowledged, or seen, before the read began */                     \
    X(RESURRECTED) /* deleted, flushed or missed before the read began */                                              \
    X(EXPIRED)     /* its deadline had passed before the read began */

enum history_verdict {
#define X(name) HISTORY_##name,
    HISTORY_VERDICTS(X)
#undef X
        HISTORY_VERDICT_COUNT
};

const char *history_verdict_name(enum history_verdict verdict);

/* In memory that forked processes share. NULL: none. */
struct history *history_create(uint32_t keys);
void history_destroy(struct history *history);
/* Maps all of it at once: for a forked child with little time. */
void history_touch_pages(struct history *history);

/* ---- the key's writer -------------------------------------------------------------------------------------------- */

/* Before a put or delete: its sequence, from 1. */
uint64_t history_begin(struct history *history, uint32_t key);
/* The put was acknowledged. `expires_ms`: a moment at which it has expired for certain; UINT64_MAX never. */
void history_stored(struct history *history, uint32_t key, uint64_t sequence, uint64_t version, uint64_t expires_ms);
/* The cache said that nothing is there, or took it away: nothing up to `sequence` comes back. */
void history_removed(struct history *history, uint32_t key, uint64_t sequence);
/* Around a touch: the value stays, its deadline and version do not. */
void history_touch_begin(struct history *history, uint32_t key);
void history_touched(struct history *history, uint32_t key, uint64_t expires_ms);
/* Nothing that was written before `sequence` can be there. */
bool history_is_absent(const struct history *history, uint32_t key, uint64_t sequence);
uint64_t history_version(const struct history *history, uint32_t key);

/* ---- readers ----------------------------------------------------------------------------------------------------- */

struct history_look {
    uint64_t now_ms, started, expires, stored, gone, seen;
};
/* Before a read. `now_ms`: the host clock, read before. */
struct history_look history_look(const struct history *history, uint32_t key, uint64_t now_ms);
/* Judges a hit of value.h's kind; `hit` with value, len and deadline_ms filled in. */
enum history_verdict history_judge(struct history *history, uint32_t key, const struct history_look *look,
                                   struct value_hit *hit);
/* ... and one of a number. */
enum history_verdict history_judge_number(struct history *history, uint32_t key, const struct history_look *look,
                                          const char *text, size_t len);
/* A read that began after the look found nothing. Not for keys that are touched: a touch that has begun may prolong
 * what a reader already finds expired. */
void history_missed(struct history *history, uint32_t key, const struct history_look *look);
/* Highest sequence that a flush which begins now takes away. */
uint64_t history_known(const struct history *history, uint32_t key);
/* All that is known of the key was deleted, flushed or missed. */
bool history_is_gone(const struct history *history, uint32_t key);

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

int64_t history_number(uint32_t key, uint64_t sequence);
uint64_t history_number_sequence(int64_t number);

#endif
