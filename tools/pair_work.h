/* SPDX-License-Identifier: MIT */
/*
 * Processes at work on a pair: one that writes on a host, and one that sees on the other when a change arrives.
 *
 *   writer   puts distinct keys in turn. Every value begins with the moment (CLOCK_MONOTONIC, ns) before its put
 *   meter    looks at the other host's feed every METER_US, at so many of its stripes as give it some thousand changes
 *            a second, reads each of those entries, and takes now less that moment for the lag
 *
 * So a lag counts from before the put to after the entry was seen: it is never too small, and too large by at most the
 * time between two looks, which is measured as well (the meter needs a processor too). The meter takes no lock, rings
 * no bell and stores nothing on that host; but the lines that it reads are taken from that host's larderd's cache.
 *
 * Both count only while `counting` says so, into the cells that it names. They end when told, and with us.
 */
#ifndef LARDER_PAIR_WORK_H
#define LARDER_PAIR_WORK_H

#include "histogram.h"
#include "pair.h"

#include <signal.h>
#include <stdatomic.h>

#define METER_US 100u
#define WRITER_US 100u        /* a paced writer wakes so often */
#define WORK_LARGE (1u << 20) /* bytes of a large value */

struct work_counts {
    uint64_t puts, refused, large;
    struct histogram put_ns;   /* of the small ones */
    struct histogram lag_ns;   /* of those that the meter saw */
    struct histogram looks_ns; /* between two looks of the meter */
    uint64_t lost;             /* times that the meter was overrun */
};

/* Shared between us and the two. One writer for each word but `stop` and `counting`. */
struct work_board {
    _Atomic uint32_t stop;
    _Atomic uint32_t counting; /* 0: not now; else 1 + index of the cells */
    struct work_counts cells[2];
};

struct work {
    struct work_board *board;
    pid_t writer, meter; /* 0: none */
};

struct work_load {
    uint64_t items, value_bytes; /* keys 0 to items - 1, in turn */
    uint64_t first;              /* added to the number of the key */
    uint64_t rate;               /* puts a second; 0: as fast as the other host takes them */
    uint64_t large_rate;         /* of large values beside, a second, in keys of their own; 0: none */
    unsigned host;               /* that it is put to */
};

/* 0, or LARDER_ESYSTEM with `why` (LR_WHY_BYTES). */
int work_begin(struct work *work, char *why);
int work_start_writer(struct work *work, const struct pair *pair, const struct work_load *load, char *why);
int work_start_meter(struct work *work, const struct pair *pair, const struct work_load *load, char *why);
/* Ends the two. What they counted stays readable. */
void work_stop(struct work *work);
void work_end(struct work *work);

/* Counts into cells `which` for so long, or until the writer has put anything: it may not have had a processor. Returns
 * early when *interrupted is not 0. Returns the nanoseconds it took. */
uint64_t work_count(struct work *work, unsigned which, uint64_t ns, const volatile sig_atomic_t *interrupted);
/* Puts all keys of the load once, by ourselves, as fast as can be. Returns how many were refused. */
uint64_t work_fill(struct lr_cache *cache, const struct work_load *load, const volatile sig_atomic_t *interrupted);

#endif
