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

static char value[MAX_VALUE];

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

static size_t add_set(char *frame, uint64_t item, uint64_t value_len) {
    size_t at = (size_t)sprintf(frame, "*3\r\n$3\r\nSET\r\n$%u\r\n%0*" PRIx64 "\r\n$%" PRIu64 "\r\n", KEY_DIGITS,
                                (int)KEY_DIGITS, value_mix(item), value_len);
    memcpy(frame + at, value, value_len);
    memcpy(frame + at + value_len, "\r\n", 2);
    return at + value_len + 2u;
}

/* Sends the next SETs, then reads as many answers. */
static bool set_some(struct redis_pair *pair) {
    static char frame[MAX_PIPELINE * (MAX_VALUE + 128u)];
    size_t len = 0;
    for (unsigned i = 0; i < pair->options.pipeline; i++)
        len += add_set(frame + len, pair->next++ % pair->options.items, pair->options.value_bytes);
    if (!peer_send(pair->master, frame, len))
        return false;
    for (unsigned i = 0; i < pair->options.pipeline; i++) {
        const char *line = peer_line(pair->master);
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

static int not_as_it_should(char *why) {
    snprintf(why, PEER_WHY_BYTES, "master or replica does not answer as it should");
    return LARDER_ESYSTEM;
}

int redis_pair_start(struct redis_pair *pair, const struct redis_options *options,
                     const volatile sig_atomic_t *interrupted, char *why) {
    *pair = (struct redis_pair){.options = *options};
    if (!peer_has_program("redis-server")) {
        snprintf(why, PEER_WHY_BYTES, "there is no program redis-server");
        return LARDER_ENOT_FOUND;
    }
    memset(value, 'x', sizeof value);
    unsigned port = pair_free_port(), other = pair_free_port();
    int error = port != other ? start(&pair->master, port, 0, why) : LARDER_ESYSTEM;
    if (error == 0)
        error = start(&pair->replica, other, port, why);
    if (error != 0)
        return error;
    for (unsigned ms = 0; ms < SYNC_MS && !is_synced(pair->replica) && *interrupted == 0; ms += 10)
        usleep(10000);
    bool good = true;
    for (uint64_t i = 0; good && i < options->items && *interrupted == 0; i += options->pipeline)
        good = set_some(pair);
    return (good && await_replica(pair->master)) || *interrupted != 0 ? 0 : not_as_it_should(why);
}

int redis_pair_measure(struct redis_pair *pair, uint64_t ns, struct redis_result *out,
                       const volatile sig_atomic_t *interrupted, char *why) {
    const uint64_t before = ticks_clock_ns();
    const uint64_t master = process_cpu_ns(pair->master->pid), replica = process_cpu_ns(pair->replica->pid);
    bool good;
    do { /* once at least: we may not have had a processor until now */
        good = set_some(pair);
        out->writes += pair->options.pipeline;
    } while (good && ticks_clock_ns() - before < ns && *interrupted == 0);
    good = good && await_replica(pair->master);
    out->ns += ticks_clock_ns() - before;
    out->master_ns += process_cpu_ns(pair->master->pid) - master;
    out->replica_ns += process_cpu_ns(pair->replica->pid) - replica;
    return good || *interrupted != 0 ? 0 : not_as_it_should(why);
}

void redis_pair_stop(struct redis_pair *pair) {
    peer_stop(pair->replica);
    peer_stop(pair->master);
}
