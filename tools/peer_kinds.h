/* SPDX-License-Identifier: MIT */
/* What the peers' own files share (peers.h): a row of functions for each kind, and the keeping of a server. */
#ifndef LARDER_PEER_KINDS_H
#define LARDER_PEER_KINDS_H

#include "peers.h"

#include <stdio.h>
#include <sys/types.h>

#define PEER_PATH_BYTES 160u

struct peer {
    const struct peer_ways *ways; /* NULL: whoever starts it asks it */
    char folder[PEER_PATH_BYTES]; /* of its own, removed with it; "" none */
    uint64_t bytes;               /* of memory that it may use */
    pid_t pid;                    /* of the server; 0 none */
    int fd;                       /* connected to it; -1 none */
    FILE *to, *from;              /* apcu: the process's standard input and output */
    char *buffer;                 /* of a stream: what has been received and not used yet */
    size_t have, used;
    void *state; /* lmdb */
};

struct peer_ways {
    int (*start)(struct peer *peer, char *why);
    int64_t (*work)(struct peer *peer, const struct peer_request *request, uint64_t *ns);
    void (*stop)(struct peer *peer); /* what peer_stop does not know of; may be NULL */
};
extern const struct peer_ways peer_memcached, peer_redis, peer_lmdb, peer_apcu;

/* A peer that has a folder of its own in /dev/shm and no server yet, for peer_stop to free. NULL: `why` says why not.
 */
struct peer *peer_create(const struct peer_ways *ways, char *why);
/* Whether a program of this name is in PATH or /usr/sbin. */
bool peer_has_program(const char *name);
/*
 * Starts a program in the background: it ends with us. With `pipes` its standard input and output are peer->to and
 * peer->from, else both are /dev/null. 0 or ESYSTEM.
 */
int peer_spawn(struct peer *peer, char *const *words, bool pipes, char *why);
/* Waits up to 5 s for the server's socket and connects. 0 or ESYSTEM. */
int peer_connect(struct peer *peer, const char *socket, char *why);

/* A stream of bytes from peer->fd. */
bool peer_send(struct peer *peer, const void *bytes, size_t len);
/* The next line without its CR LF, NUL-terminated, in peer->buffer until the next call; NULL: the peer is gone, or the
 * line is too long. */
char *peer_line(struct peer *peer);
/* Takes `len` bytes and the CR LF behind them, and copies them to `out` unless that is NULL. */
bool peer_take(struct peer *peer, void *out, size_t len);

#endif
