/* SPDX-License-Identifier: MIT */
/* The work of operations.h: a segment of 4 MiB, keys of 16 bytes, values of 64. */
#include "operations.h"

#include "attachment.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define BYTES 64u
#if defined(__clang__)
#define COUNTED __attribute__((noinline))
#else
#define COUNTED __attribute__((noinline, noclone, no_icf)) /* some are alike */
#endif

struct work {
    struct lr_cache *cache;
    unsigned failed;
    uint8_t value[BYTES], copies[COST_BATCH][BYTES];
    uint8_t keys[COST_TIMES][16];
};

static void make_keys(struct work *work, char kind, unsigned from, unsigned apart) {
    for (unsigned i = 0; i < COST_TIMES; i++) {
        char text[32];
        snprintf(text, sizeof text, "%c%015u", kind, from + i * apart);
        memcpy(work->keys[i], text, 16);
    }
}

static bool put(struct work *work, const void *key, uint64_t ttl_ms) {
    struct lr_put one = {.key = key, .key_len = 16, .value = work->value, .value_len = BYTES, .ttl_ms = ttl_ms};
    return lr_put(work->cache, &one) == 0;
}

static void put_all(struct work *work, uint64_t ttl_ms) {
    for (unsigned i = 0; i < COST_TIMES; i++)
        work->failed += !put(work, work->keys[i], ttl_ms);
}

static inline void get_all(struct work *work, unsigned flags, int expected) {
    struct lr_item item;
    for (unsigned i = 0; i < COST_TIMES; i++)
        work->failed += lr_get(work->cache, work->keys[i], 16, work->copies[0], BYTES, &item, flags) != expected;
}

COUNTED static void counted_get_copy(struct work *work) {
    get_all(work, 0, 0);
}

COUNTED static void counted_get_peek(struct work *work) {
    get_all(work, LR_PEEK, 0);
}

COUNTED static void counted_get_miss(struct work *work) {
    get_all(work, 0, LARDER_ENOT_FOUND);
}

COUNTED static void counted_get_deadline(struct work *work) {
    get_all(work, 0, 0);
}

COUNTED static void counted_get_many(struct work *work) {
    struct lr_read rows[COST_BATCH];
    for (unsigned i = 0; i < COST_TIMES; i += COST_BATCH) {
        for (unsigned j = 0; j < COST_BATCH; j++)
            rows[j] = (struct lr_read){.key = work->keys[i + j], .key_len = 16, .buf = work->copies[j], .cap = BYTES};
        work->failed += (unsigned)(COST_BATCH - lr_get_many(work->cache, rows, COST_BATCH, 0));
    }
}

COUNTED static void counted_get_pinned(struct work *work) {
    struct lr_pin pin;
    for (unsigned i = 0; i < COST_TIMES; i++) {
        work->failed += lr_pin(work->cache, work->keys[i], 16, &pin) != 0;
        lr_unpin(work->cache, &pin);
    }
}

COUNTED static void counted_put_replace(struct work *work) {
    put_all(work, 0);
}

COUNTED static void counted_put_evict(struct work *work) {
    put_all(work, 0);
}

COUNTED static void counted_put_by_age(struct work *work) {
    put_all(work, 0);
}

COUNTED static void counted_delete(struct work *work) {
    for (unsigned i = 0; i < COST_TIMES; i++)
        work->failed += lr_delete(work->cache, work->keys[i], 16) != 0;
}

static inline void increment_all(struct work *work) {
    int64_t result;
    for (unsigned i = 0; i < COST_TIMES; i++)
        work->failed += lr_increment(work->cache, work->keys[i], 16, 1, 1000000, 0, &result) != 0;
}

COUNTED static void counted_increment(struct work *work) {
    increment_all(work);
}

static int open_segment(struct work *work, const char *name, uint64_t size, bool prefault) {
    struct lr_options options = lr_options_default();
    char why[LR_WHY_BYTES];
    options.name = name;
    options.size = size;
    options.stripes = 1;
    options.prefault = prefault;
    int error = lr_cache_create(&options, &work->cache, why);
    if (error != 0)
        fprintf(stderr, "larder-cost: %s\n", why);
    return error;
}

static void close_segment(struct work *work, const char *name) {
    struct lr_options options = lr_options_default();
    options.name = name;
    lr_cache_detach(work->cache);
    lr_cache_destroy(&options, NULL);
}

static void fill(struct work *work, char kind) {
    for (unsigned from = 0; from < 60; from++) {
        make_keys(work, kind, from * COST_TIMES, 1);
        put_all(work, 0);
    }
}

/* Items that are there: none goes but for put_evict and put_by_age, which come last. Recency is at its top for all,
 * flags stand. */
static void work_through(struct work *work) {
    make_keys(work, 'd', 0, 1);
    put_all(work, 3600 * 1000);
    get_all(work, 0, 0);
    get_all(work, 0, 0);
    counted_get_deadline(work);
    make_keys(work, 'm', 0, 1);
    counted_get_miss(work);
    make_keys(work, 'i', 0, 2);
    put_all(work, 0);
    for (unsigned i = 0; i < 4; i++)
        get_all(work, 0, 0);
    counted_get_copy(work);
    counted_get_peek(work);
    counted_get_many(work);
    for (unsigned i = 0; i < COST_TIMES; i++) {
        struct lr_pin pin;
        work->failed += lr_pin(work->cache, work->keys[i], 16, &pin) != 0;
        lr_unpin(work->cache, &pin);
    }
    counted_get_pinned(work);
    put_all(work, 0);
    counted_put_replace(work);
    counted_delete(work);
    make_keys(work, 'c', 0, 1);
    increment_all(work); /* creates them */
    counted_increment(work);
    atomic_store(&lr_stripe_at(work->cache, 0)->filled, 1); /* the rules stay, though nothing speaks for them */
    fill(work, 'n');
    make_keys(work, 'z', 0, 1);
    counted_put_evict(work);
    atomic_store(&work->cache->header->policy_turn, 1);
    fill(work, 'o');
    make_keys(work, 'a', 0, 1);
    counted_put_by_age(work);
}

unsigned cost_work(void) {
    static struct work work;
    char name[64];
    snprintf(name, sizeof name, "cost.%ld", (long)getpid());
    if (open_segment(&work, name, 4u << 20, true) != 0)
        return 1;
    work_through(&work);
    close_segment(&work, name);
    return work.failed;
}

static long faults_now(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt + usage.ru_majflt;
}

long cost_faults(bool prefault) {
    static struct work work;
    char name[64];
    struct lr_pin pin;
    snprintf(name, sizeof name, "cost.%ld.%d", (long)getpid(), prefault);
    int error = open_segment(&work, name, 32u << 20, prefault);
    if (error != 0)
        return error;
    counted_get_miss(&work); /* brings code and stack in */
    make_keys(&work, 'w', 0, 1);
    put_all(&work, 0);
    work.failed += lr_pin(work.cache, work.keys[0], 16, &pin) != 0;
    lr_unpin(work.cache, &pin);
    counted_delete(&work);
    if (!prefault)
        (void)madvise(work.cache->base, work.cache->map_bytes, MADV_DONTNEED);
    const long before = faults_now();
    for (unsigned from = 0; from < 200; from++) {
        make_keys(&work, 'f', from * COST_TIMES, 1);
        put_all(&work, 0);
        unsigned failed = work.failed; /* a few are evicted again at once, which is no failure here */
        get_all(&work, 0, 0);
        for (unsigned i = 0; i < COST_TIMES; i += 8)
            (void)lr_delete(work.cache, work.keys[i], 16);
        work.failed = failed;
    }
    const long faults = faults_now() - before;
    close_segment(&work, name);
    return work.failed == 0 ? faults : LARDER_ECORRUPT;
}
