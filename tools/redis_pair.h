/* SPDX-License-Identifier: MIT */
/*
 * The same between two Redis servers, a master and its replica: what does a replicated write cost there?
 *
 * Both are started for the run without persistence; the replica follows over loopback, the client asks the master over
 * a Unix socket: SET of distinct keys, so many in flight before the answers are read. At the end of each measurement
 * WAIT makes sure that the replica has them.
 */
#ifndef LARDER_REDIS_PAIR_H
#define LARDER_REDIS_PAIR_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct peer;

struct redis_options {
    uint64_t items, value_bytes;
    unsigned pipeline; /* SETs in flight */
};

struct redis_pair {
    struct redis_options options;
    struct peer *master, *replica;
    uint64_t next; /* item */
};

struct redis_result {
    uint64_t writes, ns;
    uint64_t master_ns, replica_ns; /* of processor time; the client's is not in it */
};

/* Starts the two and stores all keys once. 0; ENOT_FOUND: it is not installed; ESYSTEM: it would not start, or does not
 * answer. `why` (PEER_WHY_BYTES). The pair is to be stopped in either case. */
int redis_pair_start(struct redis_pair *pair, const struct redis_options *options,
                     const volatile sig_atomic_t *interrupted, char *why);
/* Writes for `ns`, and adds to `out` what that has cost. 0 or ESYSTEM, as above. */
int redis_pair_measure(struct redis_pair *pair, uint64_t ns, struct redis_result *out,
                       const volatile sig_atomic_t *interrupted, char *why);
void redis_pair_stop(struct redis_pair *pair);

#endif
