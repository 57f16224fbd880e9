/* SPDX-License-Identifier: MIT */
/*
 * One cache of those that are compared: how is it started at a limit, asked, and weighed?
 *
 * Requests come in batches. All keys of a batch differ, so it makes no difference that its gets go out together, and
 * then its stores: what a client sees is what it would see one by one.
 *
 *   start(limit) -> get, store, get, store ... -> memory -> stop
 */
#ifndef LARDER_COMPARE_SIDE_H
#define LARDER_COMPARE_SIDE_H

#include "trace.h"

#include <stdbool.h>
#include <stdint.h>

#define SIDE_KEY_BYTES 16u
#define SIDE_BATCH 64u
#define SIDE_WHY_BYTES 512u

struct side_request {
    enum trace_op op;
    uint32_t value_len;
    char key[SIDE_KEY_BYTES + 1];
    bool hit; /* out, of a get */
};

struct side {
    const char *name;
    /* Starts an empty cache with that limit in its own terms. False: it cannot, and `why` says so. */
    bool (*start)(uint64_t limit, char *why);
    /* Sets `hit` of the gets among them. False: the other end is gone. */
    bool (*get)(struct side_request *requests, unsigned count);
    /* Sets, also after a get that missed, and deletes. */
    bool (*store)(const struct side_request *requests, unsigned count, const char *value);
    /* Bytes that it has taken since it was empty. */
    uint64_t (*memory)(void);
    void (*stop)(void);
};

extern const struct side side_larder, side_memcached, side_redis_lru, side_redis_lfu;

/* Whether a request ends in a store: a set, or a get that missed. */
static inline bool side_stores(const struct side_request *request) {
    return request->op == TRACE_SET || (request->op == TRACE_GET && !request->hit);
}

/* server.c: a server of one's own, in a process, on a Unix socket in a folder that is removed when it stops. */
struct server {
    struct peer *peer; /* tools/peer_kinds.h */
    char socket[176];
    uint64_t empty_bytes; /* resident, before the first request */
};

bool server_make_folder(struct server *server, char *why);
/* argv[0] is looked up in PATH. Waits until it listens. */
bool server_start(struct server *server, char *const *argv, char *why);
/* Call it when the server has answered once. */
void server_is_empty(struct server *server);
/* Resident bytes more than when it was empty. */
uint64_t server_memory(const struct server *server);
void server_stop(struct server *server);

#endif
