/* SPDX-License-Identifier: MIT */
/* memcached's text commands: get, set, delete. */
#include "peer_kinds.h"

#include "larder_errors.h"
#include "ticks.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int start(struct peer *peer, char *why) {
    char socket[PEER_PATH_BYTES + 16], megabytes[32];
    if (!peer_has_program("memcached")) {
        snprintf(why, PEER_WHY_BYTES, "there is no program memcached");
        return LARDER_ENOT_FOUND;
    }
    snprintf(socket, sizeof socket, "%s/s", peer->folder);
    snprintf(megabytes, sizeof megabytes, "%" PRIu64, (peer->bytes >> 20) + 64u);
    char *words[] = {"memcached", "-s", socket, "-m", megabytes, "-I", "2m", "-t", "2", "-u", "root", NULL};
    if (geteuid() != 0)
        words[9] = NULL;
    int error = peer_spawn(peer, words, false, why);
    return error != 0 ? error : peer_connect(peer, socket, why);
}

static bool send_get(struct peer *peer, const char *keys, size_t key_len, size_t count) {
    char line[16 + PEER_MAX_BATCH * 256u];
    size_t at = 3;
    memcpy(line, "get", 3);
    for (size_t i = 0; i < count; i++) {
        line[at++] = ' ';
        memcpy(line + at, keys + i * key_len, key_len);
        at += key_len;
    }
    memcpy(line + at, "\r\n", 2);
    return peer_send(peer, line, at + 2);
}

/* How many values came; -1: nonsense. */
static int64_t read_values(struct peer *peer) {
    int64_t found = 0;
    for (const char *line; (line = peer_line(peer)) != NULL;) {
        size_t len;
        if (strcmp(line, "END") == 0)
            return found;
        if (sscanf(line, "VALUE %*s %*u %zu", &len) != 1 || !peer_take(peer, NULL, len))
            break;
        found++;
    }
    return -1;
}

static bool set(struct peer *peer, const struct peer_request *request, const char *key) {
    static char frame[(1u << 20) + 512u];
    int head = snprintf(frame, 512, "set %.*s 0 0 %zu\r\n", (int)request->key_len, key, request->value_len);
    memcpy(frame + head, request->value, request->value_len);
    memcpy(frame + head + request->value_len, "\r\n", 2);
    return peer_send(peer, frame, (size_t)head + request->value_len + 2u);
}

static int64_t work(struct peer *peer, const struct peer_request *request, uint64_t *ns) {
    const size_t step = request->work == PEER_GET_MANY ? request->batch : 1;
    int64_t good = 0;
    uint64_t before = ticks_clock_ns();
    for (size_t i = 0; i < request->count; i += step) {
        const char *key = request->keys + i * request->key_len;
        if (request->work == PEER_GET || request->work == PEER_GET_MANY) {
            int64_t found = send_get(peer, key, request->key_len, step) ? read_values(peer) : -1;
            if (found < 0)
                return LARDER_ESYSTEM;
            good += found;
            continue;
        }
        char line[300];
        int len = snprintf(line, sizeof line, "delete %.*s\r\n", (int)request->key_len, key);
        const char *answer = NULL;
        if (request->work == PEER_PUT ? set(peer, request, key) : peer_send(peer, line, (size_t)len))
            answer = peer_line(peer);
        if (answer == NULL)
            return LARDER_ESYSTEM;
        good += strcmp(answer, request->work == PEER_PUT ? "STORED" : "DELETED") == 0;
    }
    *ns = ticks_clock_ns() - before;
    return good;
}

const struct peer_ways peer_memcached = {start, work, NULL};
