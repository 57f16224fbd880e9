/* SPDX-License-Identifier: MIT */
/*
 * LMDB in /dev/shm, in the way that costs it least: one read transaction that is renewed for each get (so that it sees
 * what others committed, as a get must), and for writes a transaction each, without syncing. The library is loaded at
 * run time. Its names and types are as lmdb.h of 0.9 has them; they are its stable ABI.
 */
#include "peer_kinds.h"

#include "larder_errors.h"
#include "ticks.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

struct lmdb_text { /* MDB_val */
    size_t len;
    void *bytes;
};

#define LMDB_NO_SYNC 0x10000u
#define LMDB_WRITE_MAP 0x80000u
#define LMDB_NO_READAHEAD 0x800000u
#define LMDB_READ_ONLY 0x20000u

/* X(name, parameters) */
#define LMDB_CALLS(X)                                                                                                  \
    X(env_create, (void **env))                                                                                        \
    X(env_set_mapsize, (void *env, size_t bytes))                                                                      \
    X(env_open, (void *env, const char *folder, unsigned flags, unsigned mode))                                        \
    X(txn_begin, (void *env, void *parent, unsigned flags, void **txn))                                                \
    X(txn_commit, (void *txn))                                                                                         \
    X(txn_renew, (void *txn))                                                                                          \
    X(dbi_open, (void *txn, const char *name, unsigned flags, unsigned *dbi))                                          \
    X(get, (void *txn, unsigned dbi, struct lmdb_text *key, struct lmdb_text *value))                                  \
    X(put, (void *txn, unsigned dbi, struct lmdb_text *key, struct lmdb_text *value, unsigned flags))                  \
    X(del, (void *txn, unsigned dbi, struct lmdb_text *key, struct lmdb_text *value))

struct lmdb {
    void *library, *env, *reader; /* reader: reset between gets */
    unsigned dbi;
    char *copy;
#define X(name, parameters) int(*name) parameters;
    LMDB_CALLS(X)
#undef X
    void (*txn_reset)(void *txn);
    void (*txn_abort)(void *txn);
    void (*env_close)(void *env);
};

/* ISO C has no cast from an object's pointer to a function's. */
static bool find(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

static bool load(struct lmdb *lmdb) {
    lmdb->library = dlopen("liblmdb.so.0", RTLD_NOW | RTLD_LOCAL);
    if (lmdb->library == NULL)
        return false;
    bool all = find(lmdb->library, "mdb_txn_reset", &lmdb->txn_reset) &&
               find(lmdb->library, "mdb_txn_abort", &lmdb->txn_abort) &&
               find(lmdb->library, "mdb_env_close", &lmdb->env_close);
#define X(name, parameters) all = all && find(lmdb->library, "mdb_" #name, &lmdb->name);
    LMDB_CALLS(X)
#undef X
    return all;
}

static void stop(struct peer *peer) {
    struct lmdb *lmdb = peer->state;
    if (lmdb == NULL)
        return;
    if (lmdb->reader != NULL)
        lmdb->txn_abort(lmdb->reader);
    if (lmdb->env != NULL)
        lmdb->env_close(lmdb->env);
    if (lmdb->library != NULL)
        dlclose(lmdb->library);
    free(lmdb->copy);
    free(lmdb);
}

static int start(struct peer *peer, char *why) {
    struct lmdb *lmdb = calloc(1, sizeof *lmdb);
    void *txn;
    peer->state = lmdb;
    if (lmdb == NULL || !load(lmdb)) {
        snprintf(why, PEER_WHY_BYTES, "there is no liblmdb.so.0");
        return LARDER_ENOT_FOUND;
    }
    lmdb->copy = malloc(1u << 20);
    if (lmdb->copy != NULL && lmdb->env_create(&lmdb->env) == 0 &&
        lmdb->env_set_mapsize(lmdb->env, peer->bytes * 3u + (64u << 20)) == 0 &&
        lmdb->env_open(lmdb->env, peer->folder, LMDB_NO_SYNC | LMDB_WRITE_MAP | LMDB_NO_READAHEAD, 0600) == 0 &&
        lmdb->txn_begin(lmdb->env, NULL, 0, &txn) == 0 && lmdb->dbi_open(txn, NULL, 0, &lmdb->dbi) == 0 &&
        lmdb->txn_commit(txn) == 0 && lmdb->txn_begin(lmdb->env, NULL, LMDB_READ_ONLY, &lmdb->reader) == 0) {
        lmdb->txn_reset(lmdb->reader);
        return 0;
    }
    snprintf(why, PEER_WHY_BYTES, "it cannot open an environment in %s", peer->folder);
    return LARDER_ESYSTEM;
}

/* Keys of one transaction. */
static int64_t read_keys(struct lmdb *lmdb, const struct peer_request *request, const char *key, size_t count) {
    int64_t found = 0;
    if (lmdb->txn_renew(lmdb->reader) != 0)
        return LARDER_ESYSTEM;
    for (size_t i = 0; i < count; i++) {
        struct lmdb_text wanted = {request->key_len, (void *)(uintptr_t)(key + i * request->key_len)}, value;
        if (lmdb->get(lmdb->reader, lmdb->dbi, &wanted, &value) == 0 && value.len == request->value_len) {
            memcpy(lmdb->copy, value.bytes, value.len);
            found++;
        }
    }
    lmdb->txn_reset(lmdb->reader);
    return found;
}

static int64_t write_key(struct lmdb *lmdb, const struct peer_request *request, const char *key) {
    struct lmdb_text name = {request->key_len, (void *)(uintptr_t)key};
    struct lmdb_text value = {request->value_len, (void *)(uintptr_t)request->value};
    void *txn;
    if (lmdb->txn_begin(lmdb->env, NULL, 0, &txn) != 0)
        return LARDER_ESYSTEM;
    int failed = request->work == PEER_PUT ? lmdb->put(txn, lmdb->dbi, &name, &value, 0)
                                           : lmdb->del(txn, lmdb->dbi, &name, NULL);
    return lmdb->txn_commit(txn) == 0 && failed == 0;
}

static int64_t work(struct peer *peer, const struct peer_request *request, uint64_t *ns) {
    struct lmdb *lmdb = peer->state;
    const size_t step = request->work == PEER_GET_MANY ? request->batch : 1;
    int64_t good = 0;
    uint64_t before = ticks_clock_ns();
    for (size_t i = 0; i < request->count; i += step) {
        const char *key = request->keys + i * request->key_len;
        bool reads = request->work == PEER_GET || request->work == PEER_GET_MANY;
        int64_t done = reads ? read_keys(lmdb, request, key, step) : write_key(lmdb, request, key);
        if (done < 0)
            return done;
        good += done;
    }
    *ns = ticks_clock_ns() - before;
    return good;
}

const struct peer_ways peer_lmdb = {start, work, stop};
