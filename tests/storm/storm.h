/* SPDX-License-Identifier: MIT */
/*
 * Kill storm: processes that die at random instants, forever replaced, on one segment, while others read. Is anything
 * lost, foreign, torn, stale or resurrected; is anybody stuck; is the segment healthy?
 *
 *   conductor (storm.c) ── fork ── nursery 0 .. W-1 (storm.c) ── birth, one at a time ─ worker (worker.c): dies
 *        |  pauses the nurseries     attached; its children take the handle over,         puts, deletes, pins, sweeps
 * ... |  now and then, checks     which makes a life cheap: no mapping is made
 *        |
 *        +────── fork ── reader 0 .. R-1 (readers.c): gets, get-many, pins; every hit is judged (history.h)
 *        +────── fork ── keeper (storm.c): sweeps, reaps, flushes, and does what larderd would
 *
 * A worker arms a timer of its own that sends SIGKILL after a random part of `life_us`; one in sixteen arms it before
 * it has joined, so that joining is killed as well. A round is one segment, small, so that everything that is rare in a
 * large one (eviction, slides, splits, a border that rises) happens all the time.
 *
 * All that the processes share besides the segment is the board: the history, a row for each actor that says which call
 * it is in since when, and the first failure.
 */
#ifndef STORM_H
#define STORM_H

#include "fixture.h"
#include "history.h"

#include <stdatomic.h>

/* What a key is used for, by its number: the history's rules differ. */
enum storm_kind { STORM_PLAIN, STORM_TTL, STORM_NUMBER };

#define STORM_WRITERS 8u /* at most */
#define STORM_READERS 8u
#define STORM_MAX_VALUE 4096u
#define STORM_WAIT_MS 1000u  /* of every handle */
#define STORM_STUCK_MS 5000u /* a call that takes longer is stuck */

struct storm_plan {
    uint64_t seed;
    uint64_t kills; /* the round ends when so many have died ... */
    uint64_t reads; /* ... and so many hits were judged */
    uint64_t size;
    unsigned stripes, writers, readers, keys;
    unsigned life_us;    /* a worker lives a random part of this after it is armed */
    unsigned join_us;    /* ... and of this if that is before it has joined */
    unsigned value_max;  /* bytes; most values are small */
    unsigned calm_kills; /* deaths between two checks of the whole segment */
    bool replicating;
};

struct storm_result {
    uint64_t kills, joins_killed; /* deaths, and those of them before the worker had joined */
    uint64_t takeovers, repairs, repair_ns, repair_dropped, corrupt_seen, busy;
    uint64_t judged, pinned, misses, changes, refused, checks;
    uint64_t longest_ns; /* of all calls */
    uint64_t evictions, slides, splits, voids, expirations, index_evictions;
    char broken[400]; /* what did not hold; "" if all did */
};

/* Runs one round. True if all held. */
bool storm_run(const struct storm_plan *plan, struct storm_result *result);

/* ---- the board --------------------------------------------------------------------------------------------------- */

/* Rows: X(name): the calls that are watched. */
#define STORM_CALLS(X)                                                                                                 \
    X(nothing)                                                                                                         \
    X(join)                                                                                                            \
    X(get)                                                                                                             \
    X(get_many)                                                                                                        \
    X(pin)                                                                                                             \
    X(unpin)                                                                                                           \
    X(put) X(add) X(replace) X(cas) X(delete) X(touch) X(increment) X(sweep) X(reap) X(flush) X(stat) X(epoch) X(check)

enum storm_call {
#define X(name) CALL_##name,
    STORM_CALLS(X)
#undef X
        CALL_COUNT
};

struct storm_actor {
    _Atomic uint64_t began_ns; /* 0: in no call */
    _Atomic uint64_t longest_ns;
    _Atomic uint64_t judged, pinned, misses, changes, refused;
    _Atomic uint32_t call;
    _Atomic uint32_t state; /* of a nursery: 1 it rests; of a worker: 2 it has joined */
};
_Static_assert(sizeof(struct storm_actor) == 64, "an actor's row is a cache line");

struct storm_board {
    struct storm_actor writers[STORM_WRITERS], readers[STORM_READERS], keeper;
    _Atomic uint64_t kills, joins_killed;
    _Atomic uint64_t reads_due; /* readers who are ahead of it pause, so that workers can die */
    _Atomic uint32_t stop, calm, failed;
    char broken[400];
};

struct storm {
    const struct storm_plan *plan;
    struct storm_board *board;
    struct history *history;
    struct lr_cache *cache; /* of this process */
    struct lr_options options;
};

/* The first failure counts, and ends the round. */
__attribute__((format(printf, 2, 3))) void storm_fail(struct storm_board *board, const char *format, ...);
const char *storm_call_name(uint32_t call);
enum storm_kind storm_kind_of(const struct storm_plan *plan, uint32_t key);

static inline bool storm_stopped(const struct storm *storm) {
    return atomic_load_explicit(&storm->board->stop, memory_order_relaxed) != 0;
}

static inline void storm_enter(struct storm_actor *actor, enum storm_call call) {
    atomic_store_explicit(&actor->call, call, memory_order_relaxed);
    atomic_store_explicit(&actor->began_ns, fixture_now_ns(), memory_order_relaxed);
}

static inline void storm_leave(struct storm_actor *actor) {
    uint64_t took = fixture_now_ns() - atomic_load_explicit(&actor->began_ns, memory_order_relaxed);
    atomic_store_explicit(&actor->began_ns, 0, memory_order_relaxed);
    if (took > atomic_load_explicit(&actor->longest_ns, memory_order_relaxed))
        atomic_store_explicit(&actor->longest_ns, took, memory_order_relaxed);
}

static inline void storm_add(_Atomic uint64_t *counter, uint64_t n) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/* ---- actors --------------------------------------------------------------------------------------------------------
 */

/* Once, in a nursery, when it has attached. */
void storm_expect(struct storm *storm);
/* In a nursery (clone.c or fork.c): worker `number` is born, lives and dies. Its status as waitpid tells it; -1 and
 * errno. */
int storm_live(struct storm *storm, unsigned number, uint64_t seed);
/* The life of worker `number`; returns only if the round stops first. */
int storm_worker(struct storm *storm, unsigned number, uint64_t seed);
/* Reads until the round stops. */
int storm_reader(struct storm *storm, unsigned number, uint64_t seed);
/* One read of a key, judged: by copy or by pin. */
void storm_read_one(struct storm *storm, struct storm_actor *actor, uint32_t key, bool pinned);

#endif
