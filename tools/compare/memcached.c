/* SPDX-License-Identifier: MIT */
/* memcached by libmemcached: gets as one multi-get, stores without replies. One thread, all else as it comes. */
#include "side.h"

#include <libmemcached/memcached.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct server server;
static memcached_st *client;

static void stop(void) {
    if (client != NULL)
        memcached_free(client);
    client = NULL;
    server_stop(&server);
}

static bool start(uint64_t limit, char *why) {
    bool large = limit >= UINT64_C(32) << 20; /* an item may have at most half of the memory */
    char megabytes[32], largest[8];
    char *argv[] = {
        (char[]){"memcached"}, (char[]){"-s"}, server.socket, (char[]){"-m"}, megabytes,        (char[]){"-t"},
        (char[]){"1"},         (char[]){"-I"}, largest,       (char[]){"-u"}, (char[]){"root"}, NULL};
    snprintf(megabytes, sizeof megabytes, "%llu", (unsigned long long)((limit + (1u << 19)) >> 20));
    snprintf(largest, sizeof largest, large ? "8m" : "1m");
    if (geteuid() != 0)
        argv[9] = NULL;
    if (!server_make_folder(&server, why) || !server_start(&server, argv, why))
        return false;
    client = memcached_create(NULL);
    memcached_server_add_unix_socket(client, server.socket);
    memcached_return_t error = memcached_version(client);
    if (error != MEMCACHED_SUCCESS) {
        snprintf(why, SIDE_WHY_BYTES, "memcached does not answer: %s", memcached_strerror(client, error));
        stop();
        return false;
    }
    /* Not before: a question is answered. */
    memcached_behavior_set(client, MEMCACHED_BEHAVIOR_NOREPLY, 1);
    memcached_behavior_set(client, MEMCACHED_BEHAVIOR_BUFFER_REQUESTS, 1);
    server_is_empty(&server);
    return true;
}

static bool get(struct side_request *requests, unsigned count) {
    const char *keys[SIDE_BATCH];
    size_t lens[SIDE_BATCH];
    struct side_request *asked[SIDE_BATCH];
    unsigned wanted = 0;
    for (unsigned i = 0; i < count; i++) {
        if (requests[i].op != TRACE_GET)
            continue;
        keys[wanted] = requests[i].key;
        lens[wanted] = SIDE_KEY_BYTES;
        asked[wanted++] = &requests[i];
    }
    if (wanted == 0)
        return true;
    memcached_return_t error = memcached_mget(client, keys, lens, wanted);
    if (error != MEMCACHED_SUCCESS)
        return false;
    memcached_result_st result;
    memcached_result_create(client, &result);
    while (memcached_fetch_result(client, &result, &error) != NULL)
        for (unsigned i = 0; i < wanted && memcached_result_key_length(&result) == SIDE_KEY_BYTES; i++)
            if (memcmp(memcached_result_key_value(&result), asked[i]->key, SIDE_KEY_BYTES) == 0)
                asked[i]->hit = true;
    memcached_result_free(&result);
    return error == MEMCACHED_END || error == MEMCACHED_NOTFOUND || error == MEMCACHED_SUCCESS;
}

static bool store(const struct side_request *requests, unsigned count, const char *value) {
    for (unsigned i = 0; i < count; i++) {
        const struct side_request *at = &requests[i];
        memcached_return_t error = MEMCACHED_SUCCESS;
        if (side_stores(at))
            error = memcached_set(client, at->key, SIDE_KEY_BYTES, value, at->value_len, 0, 0);
        else if (at->op == TRACE_DEL)
            error = memcached_delete(client, at->key, SIDE_KEY_BYTES, 0);
        if (error != MEMCACHED_SUCCESS && error != MEMCACHED_BUFFERED)
            return false;
    }
    return true;
}

static uint64_t memory(void) {
    memcached_flush_buffers(client);
    return server_memory(&server);
}

const struct side side_memcached = {
    .name = "memcached", .start = start, .get = get, .store = store, .memory = memory, .stop = stop};
