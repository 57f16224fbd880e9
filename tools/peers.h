/* SPDX-License-Identifier: MIT */
/*
 * Other caches, driven with the same keys: what would the same work cost there?
 *
 *   peer        how it is asked                                              from Debian's package
 *   memcached   its binary-safe text commands over a Unix socket             memcached
 *   redis       RESP over a Unix socket                                      redis-server
 *   lmdb        in this process, liblmdb loaded at run time, in /dev/shm     liblmdb0
 *   apcu        inside a PHP process, which times itself                     php-cli, php-apcu
 *
 * None of them is needed to build Larder, or linked to it. Servers are started for the run, each with a folder of its
 * own, no persistence and no TCP port, and end with it, whatever happens to us. The clients here are as small as can
 * be: they send one request and read one answer, so what is measured is the peer and its protocol, and no library's own
 * work.
 */
#ifndef LARDER_PEERS_H
#define LARDER_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEER_WHY_BYTES 256u
#define PEER_MAX_BATCH 64u

/* X(name, packages) */
#define PEERS(X)                                                                                                       \
    X(memcached, "memcached")                                                                                          \
    X(redis, "redis-server")                                                                                           \
    X(lmdb, "liblmdb0")                                                                                                \
    X(apcu, "php-cli php-apcu")

enum peer_kind {
#define X(name, packages) PEER_##name,
    PEERS(X)
#undef X
        PEER_COUNT
};
extern const char *const peer_names[PEER_COUNT];
extern const char *const peer_packages[PEER_COUNT]; /* what apt-get install gets it from */

enum peer_work { PEER_GET, PEER_GET_MANY, PEER_PUT, PEER_DELETE, PEER_WORKS };

struct peer;

/*
 * Starts it with room for `bytes`. 0 and *out, which the caller stops; ENOT_FOUND: it is not installed, `why` says what
 * is missing; ESYSTEM: it would not start.
 */
int peer_start(enum peer_kind kind, uint64_t bytes, struct peer **out, char *why);
/* Ends the server and removes its folder. NULL is allowed. */
void peer_stop(struct peer *peer);

/* Text keys without blanks, of key_len bytes each, one behind the other. */
struct peer_request {
    enum peer_work work;
    const char *keys;
    size_t key_len;
    size_t count; /* of keys; PEER_GET_MANY: a multiple of `batch` */
    size_t batch; /* PEER_GET_MANY: keys of one request, at most PEER_MAX_BATCH */
    const void *value;
    size_t value_len; /* PEER_PUT; for gets the length that is expected */
};
/* Does the request key by key. *ns: for all of it. Returns how many keys did what was asked, or LARDER_ESYSTEM when the
 * peer does not answer as it should. */
int64_t peer_work(struct peer *peer, const struct peer_request *request, uint64_t *ns);

#endif
