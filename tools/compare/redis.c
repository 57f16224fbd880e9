/* SPDX-License-Identifier: MIT */
/* Redis by hiredis, pipelined: without a file on disk, with the eviction policy that suits a cache, all else as it
 * comes. */
#include "side.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

static struct server server;
static redisContext *client;

static void stop(void) {
    if (client != NULL)
        redisFree(client);
    client = NULL;
    server_stop(&server);
}

/* The text stands in argv, as `option` and what belongs to it. */
static bool start(const char *policy, uint64_t limit, char *why) {
    char bytes[32], name[32];
    char *argv[] = {(char[]){"redis-server"},
                    (char[]){"--port"},
                    (char[]){"0"},
                    (char[]){"--unixsocket"},
                    server.socket,
                    (char[]){"--save"},
                    (char[]){""},
                    (char[]){"--appendonly"},
                    (char[]){"no"},
                    (char[]){"--maxmemory"},
                    bytes,
                    (char[]){"--maxmemory-policy"},
                    name,
                    NULL};
    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)limit);
    snprintf(name, sizeof name, "%s", policy);
    if (!server_make_folder(&server, why) || !server_start(&server, argv, why))
        return false;
    client = redisConnectUnix(server.socket);
    redisReply *reply = client != NULL && client->err == 0 ? redisCommand(client, "PING") : NULL;
    if (reply == NULL) {
        snprintf(why, SIDE_WHY_BYTES, "Redis does not answer: %s", client != NULL ? client->errstr : "no memory");
        stop();
        return false;
    }
    freeReplyObject(reply);
    server_is_empty(&server);
    return true;
}

static bool start_lru(uint64_t limit, char *why) {
    return start("allkeys-lru", limit, why);
}

static bool start_lfu(uint64_t limit, char *why) {
    return start("allkeys-lfu", limit, why);
}

/* The reply to the oldest command under way; the caller frees it. NULL: the connection is gone. */
static redisReply *next_reply(void) {
    void *reply = NULL;
    return redisGetReply(client, &reply) == REDIS_OK ? reply : NULL;
}

static bool get(struct side_request *requests, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (requests[i].op == TRACE_GET)
            redisAppendCommand(client, "GET %b", requests[i].key, (size_t)SIDE_KEY_BYTES);
    for (unsigned i = 0; i < count; i++) {
        if (requests[i].op != TRACE_GET)
            continue;
        redisReply *reply = next_reply();
        if (reply == NULL)
            return false;
        requests[i].hit = reply->type == REDIS_REPLY_STRING;
        freeReplyObject(reply);
    }
    return true;
}

static bool store(const struct side_request *requests, unsigned count, const char *value) {
    for (unsigned i = 0; i < count; i++) {
        const struct side_request *at = &requests[i];
        if (side_stores(at))
            redisAppendCommand(client, "SET %b %b", at->key, (size_t)SIDE_KEY_BYTES, value, (size_t)at->value_len);
        else if (at->op == TRACE_DEL)
            redisAppendCommand(client, "DEL %b", at->key, (size_t)SIDE_KEY_BYTES);
    }
    for (unsigned i = 0; i < count; i++) {
        if (!side_stores(&requests[i]) && requests[i].op != TRACE_DEL)
            continue;
        redisReply *reply = next_reply(); /* an error: out of memory, not stored */
        if (reply == NULL)
            return false;
        freeReplyObject(reply);
    }
    return true;
}

static uint64_t memory(void) {
    return server_memory(&server);
}

const struct side side_redis_lru = {
    .name = "Redis LRU", .start = start_lru, .get = get, .store = store, .memory = memory, .stop = stop};
const struct side side_redis_lfu = {
    .name = "Redis LFU", .start = start_lfu, .get = get, .store = store, .memory = memory, .stop = stop};
