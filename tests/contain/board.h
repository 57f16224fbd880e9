/* SPDX-License-Identifier: MIT */
/*
 * What the workers of a storm know of each other without the cache: a page range that all of them map.
 *
 * Each key has one writer at a time (the worker of its lane). Before a change it says what it is about to do, after the
 * cache has acknowledged it, that it is done. So a reader knows, of whatever it gets, whether it may be:
 *
 *      acked (before the get)  <=  sequence of the value  <=  started (after the get)
 *
 * and, where nothing was going on, that a miss is a loss. A killed writer leaves started above acked: both old and new
 * are right until its successor's first change.
 *
 * Fixed-width types only: workers are built against different C libraries.
 */
#ifndef CONTAIN_BOARD_H
#define CONTAIN_BOARD_H

#include <stdatomic.h>
#include <stdint.h>

#define CONTAIN_LANES 4u
#define CONTAIN_KEYS 48u /* of each lane */
#define CONTAIN_FIRST 8u
#define CONTAIN_TEXT 200u

/* Rows: X(name, sentence). */
#define CONTAIN_VIOLATIONS(X)                                                                                          \
    X(torn, "a value that is not what its own words say")                                                              \
    X(foreign, "another key's value, or one that nobody wrote")                                                        \
    X(stale, "a value older than one that was acknowledged before the get")                                            \
    X(future, "a value that was not yet begun when the get had ended")                                                 \
    X(resurrected, "a value at or below an acknowledged delete")                                                       \
    X(lost, "a miss for what was acknowledged, while nothing was going on")                                            \
    X(expired, "a value after its deadline")                                                                           \
    X(deadline, "a deadline that is not what its put asked for")                                                       \
    X(clock, "a host clock behind what another process has read already")                                              \
    X(refused, "a call that failed with an error that cannot be right here")                                           \
    X(stuck, "a worker that did not come to an end")

enum contain_violation {
#define X(name, sentence) CONTAIN_##name,
    CONTAIN_VIOLATIONS(X)
#undef X
        CONTAIN_VIOLATION_COUNT
};

/* A change: sequence << 2 and what it is. */
enum { CONTAIN_NOTHING, CONTAIN_PUT, CONTAIN_DELETE, CONTAIN_PUT_TTL };

struct contain_board {
    _Atomic uint64_t started[CONTAIN_LANES][CONTAIN_KEYS];
    _Atomic uint64_t acked[CONTAIN_LANES][CONTAIN_KEYS];
    _Atomic uint64_t clock_ms; /* the highest host clock that anybody read */
    _Atomic uint64_t calls[CONTAIN_LANES], hits[CONTAIN_LANES], busy[CONTAIN_LANES];
    _Atomic uint64_t attached[CONTAIN_LANES], killed[CONTAIN_LANES], not_pid_one[CONTAIN_LANES];
    _Atomic uint64_t violations[CONTAIN_VIOLATION_COUNT];
    _Atomic uint32_t working[CONTAIN_LANES]; /* a worker rests most of the time, and is killed at work */
    _Atomic uint32_t texts, stop;
    char text[CONTAIN_FIRST][CONTAIN_TEXT];
};

struct contain_job {
    struct contain_board *board;
    const char *path; /* of the segment */
    unsigned lane;
    uint64_t seed;
};

/* Works until board->stop. Returns an exit status. */
int contain_work(const struct contain_job *job);
/* Counts it, and keeps the first few texts. */
void contain_report(struct contain_board *board, enum contain_violation kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The worker as a program: BOARD_FD PATH LANE SEED. */
int contain_worker_main(char **words);

#endif
