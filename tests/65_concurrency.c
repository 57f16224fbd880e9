/* SPDX-License-Identifier: MIT */
/*
 * Many threads on one mapping: everything that runs at the same time in a segment, where ThreadSanitizer can see it.
 *
 * It is blind across two mappings of the same pages, so here threads stand for processes and share one handle. Values
 * describe themselves; each key's sequence only rises under one writer. Small segments, so that eviction, slides, index
 * growth and hole reuse happen all the time.
 */
#include "fixture.h"

#include "stripe.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define THREADS 4u
#define KEYS 300u
#define MAX_VALUE 3000u
#define STEPS (FIXTURE_TSAN ? 60000u : FIXTURE_SANITIZED ? 30000u : 100000u)

struct arena_of_threads {
    struct lr_cache *cache;
    _Atomic uint64_t least[KEYS], started[KEYS], counter;
    _Atomic uint64_t wrong, hits, failures;
};

struct worker {
    struct arena_of_threads *shared;
    struct fixture_random random;
    unsigned number;
    pthread_t thread;
};

struct head {
    uint64_t key, sequence, len, sum;
};

static void fill(uint8_t *out, uint64_t key, uint64_t sequence, size_t len) {
    struct head head = {.key = key, .sequence = sequence, .len = len, .sum = key * 31 + sequence * 17 + len};
    memcpy(out, &head, sizeof head);
    memset(out + sizeof head, (int)(head.sum & 0xff), len - sizeof head);
}

static bool is_right(const uint8_t *value, size_t len, uint64_t key, uint64_t least) {
    struct head head;
    if (len < sizeof head)
        return false;
    memcpy(&head, value, sizeof head);
    if (head.key != key || head.len != len || head.sum != key * 31 + head.sequence * 17 + len || head.sequence < least)
        return false;
    for (size_t i = sizeof head; i < len; i++)
        if (value[i] != (uint8_t)head.sum)
            return false;
    return true;
}

static void count_hit(struct worker *w, bool right) {
    atomic_fetch_add(&w->shared->hits, 1);
    if (!right)
        atomic_fetch_add(&w->shared->wrong, 1);
}

static void write_one(struct worker *w, uint8_t *buf) {
    uint64_t key = fixture_below(&w->random, KEYS / THREADS) * THREADS + w->number;
    uint64_t sequence = atomic_fetch_add(&w->shared->started[key], 1) + 1;
    if (fixture_below(&w->random, 6) == 0) {
        int result = lr_delete(w->shared->cache, &key, sizeof key);
        if (result != 0 && result != LARDER_ENOT_FOUND)
            atomic_fetch_add(&w->shared->failures, 1);
        atomic_store(&w->shared->least[key], sequence + 1);
        return;
    }
    size_t len = sizeof(struct head) + fixture_below(&w->random, MAX_VALUE - sizeof(struct head));
    fill(buf, key, sequence, len);
    struct lr_put put = {.key = &key,
                         .key_len = sizeof key,
                         .value = buf,
                         .value_len = len,
                         .ttl_ms = fixture_below(&w->random, 3) ? 0 : 1 + fixture_below(&w->random, 20),
                         .flags = (uint32_t)fixture_below(&w->random, 2)};
    int result = lr_put(w->shared->cache, &put);
    if (result == 0)
        atomic_store(&w->shared->least[key], sequence);
    else
        atomic_fetch_add(&w->shared->failures, 1);
}

static void read_one(struct worker *w, uint8_t *buf) {
    uint64_t key = fixture_below(&w->random, KEYS), least = atomic_load(&w->shared->least[key]);
    struct lr_item item;
    if (lr_get(w->shared->cache, &key, sizeof key, buf, MAX_VALUE, &item, 0) == 0)
        count_hit(w, is_right(buf, item.value_len, key, least));
}

static void pin_one(struct worker *w) {
    uint64_t key = fixture_below(&w->random, KEYS), least = atomic_load(&w->shared->least[key]);
    struct lr_pin pin;
    int result = lr_pin(w->shared->cache, &key, sizeof key, &pin);
    if (result == 0) {
        count_hit(w, is_right(pin.value, pin.item.value_len, key, least));
        lr_unpin(w->shared->cache, &pin);
    } else if (result != LARDER_ENOT_FOUND) {
        atomic_fetch_add(&w->shared->failures, 1);
    }
}

static void read_many(struct worker *w, uint8_t *buf) {
    uint64_t keys[20], least[20];
    struct lr_read rows[20];
    for (unsigned i = 0; i < 20; i++) {
        keys[i] = fixture_below(&w->random, KEYS);
        least[i] = atomic_load(&w->shared->least[keys[i]]);
        rows[i] =
            (struct lr_read){.key = &keys[i], .key_len = sizeof keys[i], .buf = buf + i * MAX_VALUE, .cap = MAX_VALUE};
    }
    lr_get_many(w->shared->cache, rows, 20, 0);
    for (unsigned i = 0; i < 20; i++)
        if (rows[i].result == 0)
            count_hit(w, is_right(rows[i].buf, rows[i].item.value_len, keys[i], least[i]));
}

static void scan_some(struct worker *w, uint8_t *buf) {
    struct lr_scan scan = lr_scan_all(w->shared->cache);
    struct lr_entry entry;
    int result;
    scan.position = fixture_below(&w->random, UINT64_C(1) << 29);
    for (unsigned i = 0; i < 50; i++) {
        result = lr_scan_next(w->shared->cache, &scan, buf, 20 * MAX_VALUE, &entry);
        if (result == LARDER_ENOT_FOUND)
            return;
        if (result == 0 && !entry.tombstone && entry.key_len == 8) {
            uint64_t key;
            memcpy(&key, entry.key, 8);
            count_hit(w, is_right(entry.value, entry.value_len, key, 0));
        }
    }
}

static void *work(void *context) {
    struct worker *w = context;
    uint8_t *buf = malloc(20 * MAX_VALUE);
    int64_t number;
    for (unsigned i = 0; i < STEPS && buf != NULL; i++) {
        switch (fixture_below(&w->random, 40)) {
        case 0:
            if (lr_increment(w->shared->cache, "counter", 7, 1, 1, 0, &number) == 0)
                atomic_fetch_add(&w->shared->counter, 1);
            break;
        case 1:
            lr_sweep(w->shared->cache, 0, 4, 0);
            break;
        case 2:
            if (i % 16 == 0)
                scan_some(w, buf);
            break;
        case 3:
            read_many(w, buf);
            break;
        case 4:
        case 5:
        case 6:
            pin_one(w);
            break;
        default:
            if (fixture_below(&w->random, 2))
                write_one(w, buf);
            else
                read_one(w, buf);
        }
    }
    free(buf);
    return NULL;
}

static void run_threads(uint64_t size, unsigned stripes, bool replicating) {
    struct fixture fixture = {0};
    struct lr_options options = lr_options_default();
    struct arena_of_threads *shared = calloc(1, sizeof *shared);
    struct worker workers[THREADS];
    struct fixture_random random = fixture_seed("threads");
    options.size = size;
    options.stripes = stripes;
    options.wait_ms = 10000;
    fixture_create_with(&fixture, &options);
    lr_set_replicating(fixture.one, replicating);
    shared->cache = fixture.one;
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.shared = shared, .random = fixture_fork_random(&random, i), .number = i};
        CU_ASSERT_EQUAL_FATAL(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    CU_ASSERT_EQUAL(shared->wrong, 0);
    CU_ASSERT_EQUAL(shared->failures, 0);
    CU_ASSERT(shared->hits > 1000);
    free(shared);
    fixture_destroy(&fixture);
}

static void threads_under_eviction_read_only_what_was_written(void) {
    run_threads(128u << 10, 1, false);
}

static void threads_with_room_read_only_what_was_written(void) {
    run_threads(4u << 20, 4, false);
}

static void threads_with_tombstones_read_only_what_was_written(void) {
    run_threads(256u << 10, 1, true);
}

static void *add_up(void *context) {
    int64_t number;
    for (unsigned i = 0; i < 5000; i++)
        if (lr_increment(context, "sum", 3, 1, 1, 0, &number) != 0)
            return context;
    return NULL;
}

static void increments_of_many_threads_add_up(void) {
    struct fixture fixture = {0};
    pthread_t threads[THREADS];
    char text[24] = {0};
    void *failed;
    fixture_create(&fixture, 1u << 20);
    for (unsigned i = 0; i < THREADS; i++)
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, add_up, fixture.one), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &failed);
        CU_ASSERT_PTR_NULL(failed);
    }
    CU_ASSERT_EQUAL(lr_get(fixture.two, "sum", 3, text, sizeof text, NULL, 0), 0);
    CU_ASSERT_STRING_EQUAL(text, "20000");
    fixture_destroy(&fixture);
}

struct busy_writers {
    struct lr_cache *cache;
    _Atomic bool stop;
};

static void *write_until_stopped(void *context) {
    struct busy_writers *busy = context;
    char value[300] = {0};
    for (uint64_t i = 0; !atomic_load(&busy->stop); i++) {
        uint64_t key = i * 7 % 200;
        struct lr_put put = {.key = &key, .key_len = 8, .value = value, .value_len = i * 13 % sizeof value};
        lr_put(busy->cache, &put);
        if (i % 8 != 0)
            continue;
        /* Now a slow one: for a while a number is not what it should be. */
        struct lr_view view;
        if (lr_stripe_lock(&view, busy->cache, 0) == 0) {
            lr_add(&view.stripe->items, 1);
            for (uint64_t end = fixture_now_ns() + 200000; fixture_now_ns() < end;)
                continue;
            lr_add(&view.stripe->items, UINT64_MAX);
            lr_stripe_unlock(&view);
        }
        fixture_sleep_ms(1);
    }
    return NULL;
}

/* Its snapshot is of one instant. */
static void check_sees_no_damage_where_others_write(void) {
    struct fixture fixture = {0};
    struct busy_writers busy = {0};
    struct lr_options options = lr_options_default();
    pthread_t writer;
    unsigned damaged = 0, checked = 0;
    /* Under ThreadSanitizer a snapshot is copied byte by byte. */
    const unsigned rounds = FIXTURE_SANITIZED ? 4 : 300;
    options.size = FIXTURE_SANITIZED ? 64u << 10 : 1u << 20;
    options.stripes = 1;
    fixture_create_with(&fixture, &options);
    busy.cache = fixture.one;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&writer, NULL, write_until_stopped, &busy), 0);
    for (unsigned i = 0; i < rounds; i++) {
        struct lr_check check;
        int result = lr_check(fixture.one, &check);
        checked += result == 0;
        damaged += result != 0 && result != LARDER_ETIMED_OUT;
    }
    atomic_store(&busy.stop, true);
    pthread_join(writer, NULL);
    CU_ASSERT_EQUAL(damaged, 0);
    CU_ASSERT(FIXTURE_SANITIZED || checked > 10);
    fixture_destroy(&fixture);
}

void larder_suite_65_concurrency(void) {
    CU_pSuite suite = CU_add_suite("65_concurrency", NULL, NULL);
    CU_ADD_TEST(suite, threads_under_eviction_read_only_what_was_written);
    CU_ADD_TEST(suite, threads_with_room_read_only_what_was_written);
    CU_ADD_TEST(suite, threads_with_tombstones_read_only_what_was_written);
    CU_ADD_TEST(suite, increments_of_many_threads_add_up);
    CU_ADD_TEST(suite, check_sees_no_damage_where_others_write);
}
