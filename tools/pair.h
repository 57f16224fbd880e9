/* SPDX-License-Identifier: MIT */
/*
 * Two hosts on one machine: a segment each, a larderd each, one link between them over loopback.
 *
 *   first   segment -- larderd ==== 127.0.0.1 ==== larderd -- segment   second
 *
 * Segments, ports and folder are the pair's own and end with it. Both segments are there from the start, and mapped
 * here; a larderd runs from pair_start to pair_stop, and dies with us. What an operator would ask is answered by the
 * kernel, not by the daemons: processor time of a process, bytes that the link's socket has carried.
 */
#ifndef LARDER_PAIR_H
#define LARDER_PAIR_H

#include "cache.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct pair_options {
    uint64_t size;     /* of each segment, for index and items */
    bool tls;          /* with a pre-shared key made for the run */
    uint64_t compress; /* bytes from which on values are compressed; 0: none are */
};

struct pair_host {
    char name[65]; /* of the segment */
    unsigned port;
    pid_t daemon; /* 0: not running */
    struct lr_cache *cache;
};

struct pair {
    struct pair_options options;
    struct pair_host host[2];
    char folder[64], key[96]; /* the key's file is "" without TLS */
};

/* 0, or LARDER_E* with `why` (LR_WHY_BYTES). The pair is to be destroyed in either case. */
int pair_create(struct pair *pair, const struct pair_options *options, char *why);
/* Starts the larderd of one host. The program is the one beside ours, else that in PATH. */
int pair_start(struct pair *pair, unsigned which, char *why);
/* Ends it. Nothing is drained. */
void pair_stop(struct pair *pair, unsigned which);
void pair_destroy(struct pair *pair);

/* Both daemons say that their peer is in step. */
bool pair_is_linked(const struct pair *pair);
/* Hints of the first host that the second has not acknowledged. */
uint64_t pair_unacked(const struct pair *pair);

struct pair_wire {
    uint64_t there, back; /* bytes that TCP carried for the link, from the first host to the second and back */
};
/* Of the link as it is now; all zero if there is none. */
struct pair_wire pair_wire(const struct pair *pair);

/* A loopback port that nobody listens on now; 0: none. */
unsigned pair_free_port(void);
/* Nanoseconds of processor time that a process has had, all of its threads. */
uint64_t process_cpu_ns(pid_t pid);

#endif
