/* SPDX-License-Identifier: MIT */
/* See redis_pair.h. Servers and streams are those of peers.c. */
#include "redis_pair.h"

#include "larder_errors.h"
#include "pair.h"
#include "peer_kinds.h"
#include "ticks.h"
#include "value.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_PIPELINE 64u
#define MAX_VALUE 4096u
#define SYNC_MS 10000u
#define KEY_DIGITS 16u

/* Port and socket of one server. `of`: the port of its master, or 0. */
static int start(struct peer **out, unsigned port, unsigned of, char *why) {
    char socket[PEER_PATH_BYTES + 16], own[16], master[16];
    struct peer *peer = *out = peer_create(NULL, why);
    if (peer == NULL)
        return LARDER_ESYSTEM;
    snprintf(socket, sizeof socket, "%s/s", peer->folder);
    snprintf(own, sizeof own, "%u", port);
    snprintf(master, sizeof master, "%u", of);
    char *words[] = {"redis-server",
                     "--port",
                     own,
                     "--bind",
                     "127.0.0.1",
                     "--unixsocket",
                     socket,
                     "--save",
                     "",
                     "--appendonly",
                     "no",
                     "--dir",
                     peer->folder,
                     "--daemonize",
                     "no",
                     "--repl-diskless-sync",
                     "yes",
                     "--repl-diskless-sync-delay",
                     "0",
                     of != 0 ? "--replicaof" : NULL,
                     "127.0.0.1",
                     master,
                     NULL};
    int error = peer_spawn(peer, words, false, why);
    return error != 0 ? error : peer_connect(peer, socket, why);
}

/* Whether the replica says that its link to the master is up. */
static bool is_synced(struct peer *replica) {
    static const char ask[] = "*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n";
    static char text[65536];
    const char *line = peer_send(replica, ask, sizeof ask - 1) ? peer_line(replica) : NULL;
    long len = line != NULL && line[0] == '$' ? strtol(line + 1, NULL, 10) : -1;
    if (len < 0 || (size_t)len >= sizeof text || !peer_take(replica, text, (size_t)len))
        return false;
    text[len] = '\0';
    return strstr(text, "master_link_status:up") != NULL;
}

static size_t add_set(char *frame, uint64_t item, const char *value, uint64_t value_len) {
    size_t at = (size_t)sprintf(frame, "*3\r\n$3\r\nSET\r\n$%u\r\n%0*" PRIx64 "\r\n$%" PRIu64 "\r\n", KEY_DIGITS,
                                (int)KEY_DIGITS, value_mix(item), value_len);
    memcpy(frame + at, value, value_len);
    memcpy(frame + at + value_len, "\r\n", 2);
    return at + value_len + 2u;
}

/* Sends `count` SETs, then reads as many answers. */
static bool set_some(struct peer *master, uint64_t first, unsigned count, const struct redis_options *options,
                     const char *value) {
    static char frame[MAX_PIPELINE * (MAX_VALUE + 128u)];
    size_t len = 0;
    for (unsigned i = 0; i < count; i++)
        len += add_set(frame + len, (first + i) % options->items, value, options->value_bytes);
    if (!peer_send(master, frame, len))
        return false;
    for (unsigned i = 0; i < count; i++) {
        const char *line = peer_line(master);
        if (line == NULL || line[0] != '+')
            return false;
    }
    return true;
}

/* The replica has acknowledged all that was written so far. */
static bool await_replica(struct peer *master) {
    static const char ask[] = "*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$5\r\n10000\r\n";
    const char *line = peer_send(master, ask, sizeof ask - 1) ? peer_line(master) : NULL;
    return line != NULL && line[0] == ':' && strtol(line + 1, NULL, 10) == 1;
}

static int measure(struct peer *const peers[2], const struct redis_options *options, struct redis_result *out,
                   const volatile sig_atomic_t *interrupted, char *why) {
    static char value[MAX_VALUE];
    const unsigned step = options->pipeline;
    memset(value, 'x', sizeof value);
    bool good = true;
    for (unsigned ms = 0; ms < SYNC_MS && !is_synced(peers[1]) && *interrupted == 0; ms += 10)
        usleep(10000);
    /* As for Larder, all keys are there before it counts. */
    for (uint64_t i = 0; good && i < options->items && *interrupted == 0; i += step)
        good = set_some(peers[0], i, step, options, value);
    good = good && await_replica(peers[0]);
    const uint64_t before = ticks_clock_ns();
    out->master_ns = process_cpu_ns(peers[0]->pid);
    out->replica_ns = process_cpu_ns(peers[1]->pid);
    while (good && ticks_clock_ns() - before < options->ns && *interrupted == 0) {
        good = set_some(peers[0], out->writes, step, options, value);
        out->writes += step;
    }
    good = good && await_replica(peers[0]);
    out->ns = ticks_clock_ns() - before;
    out->master_ns = process_cpu_ns(peers[0]->pid) - out->master_ns;
    out->replica_ns = process_cpu_ns(peers[1]->pid) - out->replica_ns;
    if (good || *interrupted != 0)
        return 0;
    snprintf(why, PEER_WHY_BYTES, "master or replica does not answer as it should");
    return LARDER_ESYSTEM;
}

int redis_pair_run(const struct redis_options *options, struct redis_result *out,
                   const volatile sig_atomic_t *interrupted, char *why) {
    struct peer *peers[2] = {NULL, NULL};
    *out = (struct redis_result){0};
    if (!peer_has_program("redis-server")) {
        snprintf(why, PEER_WHY_BYTES, "there is no program redis-server");
        return LARDER_ENOT_FOUND;
    }
    unsigned port = pair_free_port(), other = pair_free_port();
    int error = port != other ? start(&peers[0], port, 0, why) : LARDER_ESYSTEM;
    if (error == 0)
        error = start(&peers[1], other, port, why);
    if (error == 0)
        error = measure(peers, options, out, interrupted, why);
    for (unsigned i = 2; i-- > 0;)
        peer_stop(peers[i]);
    return error;
}
