/* SPDX-License-Identifier: MIT */
/* Redis by its own protocol, RESP: GET, MGET, SET, DEL. */
#include "peer_kinds.h"

#include "larder_errors.h"
#include "ticks.h"

#include <stdlib.h>
#include <string.h>

static int start(struct peer *peer, char *why) {
    char socket[PEER_PATH_BYTES + 16];
    if (!peer_has_program("redis-server")) {
        snprintf(why, PEER_WHY_BYTES, "there is no program redis-server");
        return LARDER_ENOT_FOUND;
    }
    snprintf(socket, sizeof socket, "%s/s", peer->folder);
    char *words[] = {"redis-server", "--port", "0",     "--unixsocket", socket,        "--save", "",
                     "--appendonly", "no",     "--dir", peer->folder,   "--daemonize", "no",     NULL};
    int error = peer_spawn(peer, words, false, why);
    return error != 0 ? error : peer_connect(peer, socket, why);
}

/* Adds "$length CR LF bytes CR LF". */
static size_t add_text(char *frame, size_t at, const void *bytes, size_t len) {
    at += (size_t)sprintf(frame + at, "$%zu\r\n", len);
    memcpy(frame + at, bytes, len);
    memcpy(frame + at + len, "\r\n", 2);
    return at + len + 2u;
}

static bool ask(struct peer *peer, const struct peer_request *request, const char *key, size_t keys) {
    static char frame[(1u << 20) + PEER_MAX_BATCH * 300u];
    static const char *const words[PEER_WORKS] = {"GET", "MGET", "SET", "DEL"};
    const char *word = words[request->work];
    size_t at = (size_t)sprintf(frame, "*%zu\r\n", 1u + keys + (request->work == PEER_PUT));
    at = add_text(frame, at, word, strlen(word));
    for (size_t i = 0; i < keys; i++)
        at = add_text(frame, at, key + i * request->key_len, request->key_len);
    if (request->work == PEER_PUT)
        at = add_text(frame, at, request->value, request->value_len);
    return peer_send(peer, frame, at);
}

/* How many keys did what was asked; -1: nonsense. */
static int64_t read_answer(struct peer *peer) {
    const char *line = peer_line(peer);
    if (line == NULL)
        return -1;
    switch (line[0]) {
    case '+':
        return 1;
    case ':':
        return strtol(line + 1, NULL, 10);
    case '$': {
        long len = strtol(line + 1, NULL, 10);
        return len < 0 ? 0 : peer_take(peer, NULL, (size_t)len) ? 1 : -1;
    }
    case '*': {
        int64_t found = 0, one = 0;
        for (long rows = strtol(line + 1, NULL, 10); rows > 0 && one >= 0; rows--) {
            one = read_answer(peer);
            found += one;
        }
        return one < 0 ? -1 : found;
    }
    default:
        return -1;
    }
}

static int64_t work(struct peer *peer, const struct peer_request *request, uint64_t *ns) {
    const size_t step = request->work == PEER_GET_MANY ? request->batch : 1;
    int64_t good = 0;
    uint64_t before = ticks_clock_ns();
    for (size_t i = 0; i < request->count; i += step) {
        int64_t done = ask(peer, request, request->keys + i * request->key_len, step) ? read_answer(peer) : -1;
        if (done < 0)
            return LARDER_ESYSTEM;
        good += done;
    }
    *ns = ticks_clock_ns() - before;
    return good;
}

const struct peer_ways peer_redis = {start, work, NULL};
