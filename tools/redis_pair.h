/* SPDX-License-Identifier: MIT */
/*
 * The same between two Redis servers, a master and its replica: what does a replicated write cost there?
 *
 * Both are started for the run without persistence; the replica follows over loopback, the client asks the master over
 * a Unix socket: SET of distinct keys, so many in flight before the answers are read. At the end WAIT makes sure that
 * the replica has them.
 */
#ifndef LARDER_REDIS_PAIR_H
#define LARDER_REDIS_PAIR_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct redis_options {
    uint64_t items, value_bytes, ns;
    unsigned pipeline; /* SETs in flight */
};

struct redis_result {
    uint64_t writes, ns;
    uint64_t master_ns, replica_ns; /* of processor time; the client's is not in it */
};

/* 0; ENOT_FOUND: it is not installed; ESYSTEM: it would not start, or does not answer. `why` (PEER_WHY_BYTES). */
int redis_pair_run(const struct redis_options *options, struct redis_result *out,
                   const volatile sig_atomic_t *interrupted, char *why);

#endif
