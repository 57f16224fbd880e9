/* SPDX-License-Identifier: MIT */
/*
 * What the processes of a host do, and what each of them may see.
 *
 * A value says whose it is: its key, the process that wrote it, the how-manieth of that process, until when it lives;
 * and all its other bytes follow from that. So every value that is read is known to be whole, of the right key, and one
 * that somebody began to write.
 *
 * A row of the board is read before a get and judged after it: what the host had served or acknowledged before the get
 * began bounds what it may answer. A put or delete is noted after it has returned. So whatever overlaps is never held
 * against anybody.
 *
 * A delete's version is that of the tombstone, where that can still be seen; else what is certain: it is above the
 * clock that the key's stripe had before.
 */
#include "hosts.h"

#include "stripe.h"

#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define MAGIC 0x686f7374u
#define PROLONGED_MS 10000u /* what a copy may outlive its original by: time on the way, and in a stopped daemon */
#define STEP_OPERATIONS 3u
#define AWAIT_MS 300u

struct value_head {
    uint32_t magic, key, writer, len;
    uint64_t sequence, ends_ms;
};

static uint8_t value[HOSTS_VALUE_MOST], room[HOSTS_VALUE_MOST + 64];

unsigned hosts_key_name(unsigned key, char out[HOSTS_KEY_BYTES]) {
    return (unsigned)snprintf(out, HOSTS_KEY_BYTES, "key %u", key);
}

struct lr_cache *hosts_attach(const struct hosts_host *host) {
    struct lr_options options = lr_options_default();
    struct lr_cache *cache = NULL;
    options.name = host->name;
    options.wait_ms = 50;
    return lr_cache_attach(&options, &cache, NULL) == 0 ? cache : NULL;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

void hosts_lock(struct hosts_row *row) {
    while (atomic_flag_test_and_set(&row->locked))
        sched_yield();
}

void hosts_unlock(struct hosts_row *row) {
    atomic_flag_clear(&row->locked);
}

static void raise_to(uint64_t *word, uint64_t number) {
    *word = *word > number ? *word : number;
}

static void raise_shared(_Atomic uint64_t *word, uint64_t number) {
    uint64_t seen = atomic_load(word);
    while (seen < number && !atomic_compare_exchange_weak(word, &seen, number))
        ;
}

void hosts_claim_put(struct hosts_claim *claim, uint64_t version, uint64_t ends_ms) {
    if (version <= claim->put)
        return;
    claim->put = version;
    claim->ends_ms = ends_ms;
}

void hosts_claim_deleted(struct hosts_claim *claim, uint64_t version) {
    raise_to(&claim->deleted, version);
}

/* Versions below this the host must not serve from now on. */
static uint64_t least_of(struct hosts_user *user, unsigned key) {
    struct hosts_row *row = &user->board->rows[key];
    uint64_t flush = lr_flush_version(user->cache);
    hosts_lock(row);
    uint64_t least = row->least[user->host];
    hosts_unlock(row);
    return flush != 0 && flush + 1 > least ? flush + 1 : least;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static uint8_t filler(const struct value_head *head, size_t i) {
    uint64_t word = (head->sequence << 8 | head->writer) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint8_t)(word >> (i % 7 * 8)) ^ (uint8_t)(i / 7);
}

static void fill(struct hosts_user *user, unsigned key, size_t len, uint64_t ends_ms) {
    uint64_t sequence = atomic_fetch_add(&user->board->begun[user->writer], 1) + 1;
    struct value_head head = {MAGIC, key, user->writer, (uint32_t)len, sequence, ends_ms};
    memcpy(value, &head, sizeof head);
    for (size_t i = sizeof head; i < len; i++)
        value[i] = filler(&head, i);
}

/* NULL, or what is wrong with the value that was read. */
static const char *wrong_with(const struct hosts_user *user, unsigned key, size_t len, struct value_head *head) {
    if (len < sizeof *head)
        return "too short";
    memcpy(head, value, sizeof *head);
    if (head->magic != MAGIC || head->len != len || head->writer >= HOSTS_WRITERS)
        return "torn, or nobody's";
    for (size_t i = sizeof *head; i < len; i++)
        if (value[i] != filler(head, i))
            return "torn";
    if (head->key != key)
        return "another key's";
    if (head->sequence > atomic_load(&user->board->begun[head->writer]))
        return "never written";
    return NULL;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

uint64_t hosts_look(struct hosts_user *user, unsigned key, unsigned flags, uint64_t *content) {
    char name[HOSTS_KEY_BYTES];
    struct lr_item item;
    struct value_head head = {0};
    struct hosts_row *row = &user->board->rows[key];
    uint64_t least = least_of(user, key), now_ms = lr_now_ms(user->cache);
    int error = lr_get(user->cache, name, hosts_key_name(key, name), value, sizeof value, &item, flags);
    *content = 0;
    atomic_fetch_add(&user->board->gets, 1);
    if (error != 0) {
        if (error != LARDER_ENOT_FOUND && error != LARDER_EBUSY)
            hosts_fail(user->board, "host %u key %u: get: %s", user->host, key, lr_error_name(error));
        return 0;
    }
    atomic_fetch_add(&user->board->hits, 1);
    const char *wrong = wrong_with(user, key, item.value_len, &head);
    if (wrong != NULL)
        hosts_fail(user->board, "host %u key %u: a value of %u bytes, version %" PRIx64 ", is %s", user->host, key,
                   item.value_len, item.version, wrong);
    else if (item.version < least)
        hosts_fail(user->board, "host %u key %u: version %" PRIx64 " is from the past: not below %" PRIx64, user->host,
                   key, item.version, least);
    else if (head.ends_ms != HOSTS_NEVER && now_ms > head.ends_ms + PROLONGED_MS)
        hosts_fail(user->board, "host %u key %u: version %" PRIx64 " outlives its deadline by %" PRIu64 " ms",
                   user->host, key, item.version, now_ms - head.ends_ms);
    hosts_lock(row);
    raise_to(&row->least[user->host], item.version);
    hosts_claim_put(&row->known[user->host], item.version, head.ends_ms);
    hosts_unlock(row);
    *content = head.sequence << 8 | head.writer;
    return item.version;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static bool is_refused(struct hosts_user *user, int error) {
    if (error == LARDER_EBUSY)
        atomic_fetch_add(&user->board->busy, 1);
    return error == LARDER_EBUSY;
}

/* All other hosts have it: then it cannot be lost with this one. */
static void await_all(struct hosts_user *user, unsigned key, uint64_t version, uint64_t ends_ms) {
    char name[HOSTS_KEY_BYTES];
    struct hosts_row *row = &user->board->rows[key];
    uint32_t wipes = atomic_load(&user->board->wipes);
    unsigned peers = user->plan->hosts - 1;
    if (lr_await(user->cache, name, hosts_key_name(key, name), peers, AWAIT_MS) < (int)peers)
        return;
    atomic_fetch_add(&user->board->awaited, 1);
    hosts_lock(row);
    for (unsigned host = 0; host < user->plan->hosts && wipes == atomic_load(&user->board->wipes); host++)
        hosts_claim_put(&row->known[host], version, ends_ms);
    hosts_unlock(row);
}

void hosts_put(struct hosts_user *user, unsigned key, size_t len, uint64_t ttl_ms) {
    char name[HOSTS_KEY_BYTES];
    struct hosts_row *row = &user->board->rows[key];
    unsigned name_len = hosts_key_name(key, name);
    uint64_t most = lr_max_value(user->cache, name_len), least = least_of(user, key);
    uint64_t ends_ms = ttl_ms == 0 ? HOSTS_NEVER : lr_now_ms(user->cache) + ttl_ms;
    uint32_t wipes = atomic_load(&user->board->wipes);
    len = len < sizeof(struct value_head) ? sizeof(struct value_head) : len > most ? most : len;
    fill(user, key, len, ends_ms);
    struct lr_put put = {.key = name, .key_len = name_len, .value = value, .value_len = len, .ttl_ms = ttl_ms};
    int error = lr_put(user->cache, &put);
    if (is_refused(user, error))
        return;
    if (error != 0) {
        hosts_fail(user->board, "host %u key %u: put of %zu bytes: %s", user->host, key, len, lr_error_name(error));
        return;
    }
    if (put.version < least)
        hosts_fail(user->board, "host %u key %u: a put drew version %" PRIx64 ", below %" PRIx64, user->host, key,
                   put.version, least);
    atomic_fetch_add(&user->board->puts, 1);
    hosts_lock(row);
    raise_to(&row->least[user->host], put.version);
    if (atomic_load(&user->board->wiped[user->host]) != 0 &&
        (put.version < row->claim.put || put.version <= row->claim.deleted))
        raise_to(&row->blind, put.version);
    hosts_claim_put(&row->known[user->host], put.version, ends_ms);
    hosts_claim_put(&row->claim, put.version, ends_ms);
    hosts_unlock(row);
    if (user->plan->complete && wipes == atomic_load(&user->board->wipes) && fixture_below(&user->random, 50) == 0)
        await_all(user, key, put.version, ends_ms);
}

static void delete (struct hosts_user *user, unsigned key) {
    char name[HOSTS_KEY_BYTES];
    struct hosts_row *row = &user->board->rows[key];
    unsigned len = hosts_key_name(key, name);
    uint64_t hash = lr_cluster_hash(name, len);
    struct sm_stripe *stripe = lr_stripe_at(user->cache, lr_place_stripe(user->cache, lr_place(user->cache, hash)));
    uint64_t version = lr_load(&stripe->clock);
    struct lr_entry entry;
    int error = lr_delete(user->cache, name, len);
    if (is_refused(user, error))
        return;
    if (error != 0 && error != LARDER_ENOT_FOUND)
        hosts_fail(user->board, "host %u key %u: delete: %s", user->host, key, lr_error_name(error));
    if (lr_entry_by_hash(user->cache, hash, room, sizeof room, &entry) == 0 && entry.tombstone)
        raise_to(&version, entry.version);
    atomic_fetch_add(&user->board->deletes, 1);
    hosts_lock(row);
    raise_to(&row->least[user->host], version + 1);
    hosts_claim_deleted(&row->known[user->host], version);
    hosts_claim_deleted(&row->claim, version);
    hosts_unlock(row);
}

void hosts_flush(struct hosts_user *user) {
    if (lr_flush(user->cache) != 0)
        hosts_fail(user->board, "host %u: flush failed", user->host);
    raise_shared(&user->board->flush, lr_flush_version(user->cache));
}

/* ---- a process --------------------------------------------------------------------------------------------------- */

static uint64_t a_ttl(struct hosts_user *user) {
    if (fixture_below(&user->random, 100) >= user->plan->ttl_percent)
        return 0;
    return fixture_below(&user->random, 100) < 70 ? 50 + fixture_below(&user->random, 4000) : 600000;
}

static size_t a_length(struct hosts_user *user) {
    const struct hosts_plan *plan = user->plan;
    if (fixture_below(&user->random, 1000) < plan->large_permille)
        return fixture_below(&user->random, HOSTS_VALUE_MOST);
    return plan->value_least + fixture_below(&user->random, plan->value_most - plan->value_least + 1);
}

static void act(struct hosts_user *user) {
    unsigned key = (unsigned)fixture_below(&user->random, user->plan->keys);
    unsigned dice = (unsigned)fixture_below(&user->random, 100);
    uint64_t content;
    if (dice < user->plan->delete_percent)
        delete (user, key);
    else if (dice < user->plan->delete_percent + 40)
        hosts_look(user, key, 0, &content);
    else
        hosts_put(user, key, a_length(user), a_ttl(user));
}

static void work(struct hosts_run *run, struct hosts_user *user) {
    struct hosts_board *board = run->board;
    struct timespec pause = {.tv_nsec = (long)run->plan.pause_us * 1000};
    for (uint32_t order; (order = atomic_load(&board->order[user->host])) != HOSTS_LEAVE; nanosleep(&pause, NULL)) {
        if (order == HOSTS_REST && user->cache != NULL) {
            lr_cache_detach(user->cache);
            user->cache = NULL;
            atomic_fetch_add(&board->resting[user->host], 1);
        } else if (order == HOSTS_WORK && user->cache == NULL) {
            user->cache = hosts_attach(&run->hosts[user->host]);
            if (user->cache == NULL)
                hosts_fail(board, "host %u: its segment cannot be attached", user->host);
        }
        for (unsigned i = 0; i < STEP_OPERATIONS && order == HOSTS_WORK && user->cache != NULL; i++)
            act(user);
    }
    lr_cache_detach(user->cache);
}

void hosts_users_start(struct hosts_run *run) {
    fflush(NULL);
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        atomic_store(&run->board->order[host], HOSTS_WORK);
        for (unsigned i = 0; i < HOSTS_USERS; i++) {
            struct hosts_user user = {
                .board = run->board, .plan = &run->plan, .host = host, .writer = host * HOSTS_USERS + i};
            user.random = fixture_fork_random(&run->random, user.writer);
            run->users[host][i] = fork();
            if (run->users[host][i] != 0)
                continue;
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            user.cache = hosts_attach(&run->hosts[host]);
            work(run, &user);
            _exit(0);
        }
    }
}

void hosts_users_rest(struct hosts_run *run, unsigned host) {
    atomic_store(&run->board->resting[host], 0);
    atomic_store(&run->board->order[host], HOSTS_REST);
    for (unsigned ms = 0; atomic_load(&run->board->resting[host]) < HOSTS_USERS && ms < 10000; ms++)
        fixture_sleep_ms(1);
    if (atomic_load(&run->board->resting[host]) < HOSTS_USERS)
        hosts_fail(run->board, "host %u: its users do not come to rest", host);
}

void hosts_users_work(struct hosts_run *run, unsigned host) {
    atomic_store(&run->board->order[host], HOSTS_WORK);
}

void hosts_users_end(struct hosts_run *run) {
    for (unsigned host = 0; host < run->plan.hosts; host++)
        atomic_store(&run->board->order[host], HOSTS_LEAVE);
    for (unsigned host = 0; host < run->plan.hosts; host++)
        for (unsigned i = 0; i < HOSTS_USERS; i++) {
            if (run->users[host][i] > 0 && fixture_wait(run->users[host][i]) != 0)
                hosts_fail(run->board, "host %u: a user's process died", host);
            run->users[host][i] = 0;
        }
}
