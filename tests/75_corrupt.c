/* SPDX-License-Identifier: MIT */
/*
 * Damaged segments: whatever somebody scribbles into the shared bytes, every call returns, nothing outside the segment
 * is touched, and repair makes the stripe healthy again.
 *
 * A pristine image is restored, a few words of it are flipped, overwritten with random numbers or with copies of other
 * words, and then every call runs. Built with AddressSanitizer the mapping is fenced by unmapped pages anyway; what
 * matters there are the private buffers. After that each stripe is repaired as after a take-over, and check must find
 * nothing.
 */
#include "fixture.h"

#include "stripe.h"

#include <string.h>

#define IMAGES (FIXTURE_SANITIZED ? 2000u : 8000u)

struct victim {
    struct fixture fixture;
    uint8_t *pristine;
    struct fixture_random random;
    uint8_t *buf;
    size_t cap;
};

static void fill_segment(struct victim *v) {
    char value[3000];
    memset(value, 'v', sizeof value);
    for (uint64_t i = 0; i < 400; i++) {
        struct lr_put put = {.key = &i,
                             .key_len = 8,
                             .value = value,
                             .value_len = fixture_below(&v->random, i % 10 ? 300 : sizeof value),
                             .ttl_ms = i % 3 ? 0 : 100000,
                             .flags = i % 2 ? 7 : 0};
        CU_ASSERT_EQUAL(lr_put(v->fixture.one, &put), 0);
        if (i % 7 == 0)
            lr_delete(v->fixture.one, &i, 8);
    }
}

static void begin(struct victim *v, bool replicating) {
    struct lr_options options = lr_options_default();
    memset(v, 0, sizeof *v);
    options.size = 128u << 10;
    options.stripes = 2;
    options.wait_ms = 1;
    v->random = fixture_seed("damage");
    fixture_create_with(&v->fixture, &options);
    lr_set_replicating(v->fixture.one, replicating);
    fill_segment(v);
    v->pristine = malloc(v->fixture.one->geometry.segment_bytes);
    v->cap = lr_entry_bytes(v->fixture.one);
    v->buf = malloc(v->cap);
    memcpy(v->pristine, v->fixture.one->base, v->fixture.one->geometry.segment_bytes);
}

static void restore(struct victim *v) {
    struct lr_cache *cache = v->fixture.one;
    memcpy(cache->controls, v->pristine + cache->geometry.control_off,
           cache->geometry.segment_bytes - cache->geometry.control_off);
}

static void end(struct victim *v) {
    restore(v);
    fixture_destroy(&v->fixture);
    free(v->pristine);
    free(v->buf);
}

/* A word of a stripe's control block (ring and notes included), its index or its arena. */
static uint64_t *somewhere(struct victim *v) {
    struct lr_cache *cache = v->fixture.one;
    uint32_t stripe = (uint32_t)fixture_below(&v->random, 2);
    uint8_t *from;
    uint64_t bytes;
    switch (fixture_below(&v->random, 4)) {
    case 0:
        from = cache->controls + stripe * cache->geometry.control_bytes;
        bytes = 1344;
        break;
    case 1:
        from = cache->controls + stripe * cache->geometry.control_bytes;
        bytes = cache->geometry.control_bytes;
        break;
    case 2:
        from = lr_data_at(cache, stripe);
        bytes = lr_load(&lr_stripe_at(cache, stripe)->border_off) % cache->geometry.stripe_bytes + 8;
        break;
    default:
        from = lr_data_at(cache, stripe);
        bytes = cache->geometry.stripe_bytes;
    }
    return (uint64_t *)(void *)(from + fixture_below(&v->random, bytes / 8) * 8);
}

static void damage(struct victim *v) {
    for (uint64_t n = 1 + fixture_below(&v->random, 4); n > 0; n--) {
        uint64_t *word = somewhere(v);
        switch (fixture_below(&v->random, 5)) {
        case 0:
            *word ^= UINT64_C(1) << fixture_below(&v->random, 64);
            break;
        case 1:
            *word = fixture_next(&v->random);
            break;
        case 2:
            *word = fixture_below(&v->random, 3) - 1;
            break;
        case 3:
            *word = *somewhere(v);
            break;
        default:
            ((uint8_t *)word)[fixture_below(&v->random, 8)] = (uint8_t)fixture_next(&v->random);
        }
    }
}

static void call_everything(struct victim *v) {
    struct lr_cache *cache = v->fixture.one;
    struct lr_entry entry;
    struct lr_digest digest;
    struct lr_stat stat;
    struct lr_stripe_info info;
    struct lr_process process;
    struct lr_scan scan = lr_scan_all(cache);
    struct lr_hint hints[8];
    struct lr_range range;
    int64_t number;
    uint64_t position = 0;
    for (unsigned i = 0; i < 30; i++) {
        uint64_t key = fixture_below(&v->random, 450);
        struct lr_item item;
        struct lr_pin pin;
        struct lr_put put = {.key = &key,
                             .key_len = 8,
                             .value = v->buf,
                             .value_len = fixture_below(&v->random, i % 10 ? 300 : 20000),
                             .mode = (enum lr_put_mode)fixture_below(&v->random, 4)};
        struct lr_change change = {
            .key = &key, .key_len = 8, .value = v->buf, .value_len = 100, .version = fixture_next(&v->random) >> 1};
        struct lr_read row = {.key = &key, .key_len = 8, .buf = v->buf, .cap = v->cap};
        lr_get(cache, &key, 8, v->buf, v->cap, &item, 0);
        lr_get_many(cache, &row, 1, 0);
        if (lr_pin(cache, &key, 8, &pin) == 0) {
            CU_ASSERT((const uint8_t *)pin.value >= cache->base &&
                      (const uint8_t *)pin.value + pin.item.value_len <= cache->base + cache->geometry.segment_bytes);
            lr_unpin(cache, &pin);
        }
        lr_put(cache, &put);
        lr_touch(cache, &key, 8, 1 + fixture_below(&v->random, 1000));
        lr_increment(cache, &key, 8, 1, 1, 0, &number);
        lr_apply_put(cache, &change, i % 2);
        lr_apply_tombstone(cache, lr_cluster_hash(&key, 8), change.version);
        lr_entry_by_hash(cache, lr_cluster_hash(&key, 8), v->buf, v->cap, &entry);
        lr_delete(cache, &key, 8);
    }
    for (unsigned i = 0; i < 5000; i++)
        if (lr_scan_next(cache, &scan, v->buf, v->cap, &entry) == LARDER_ENOT_FOUND)
            break;
    lr_digest(cache, &digest);
    lr_stat(cache, &stat);
    lr_process(cache, 0, &process);
    lr_feed_read(cache, 0, &position, hints, 8);
    lr_range_get(cache, 7, &range);
    for (uint32_t i = 0; i < 2; i++) {
        lr_stripe_info(cache, i, &info);
        lr_sweep(cache, i, 64, 1);
    }
}

static void repair_all(struct lr_cache *cache) {
    for (uint32_t i = 0; i < cache->geometry.stripe_count; i++) {
        struct lr_view view = lr_view_of(cache, i);
        lr_store(&view.stripe->lock, lr_own_word(cache) | SM_LOCK_RECOVER);
        CU_ASSERT_FATAL(lr_repair_claim(cache));
        lr_repair(&view);
        lr_stripe_unlock(&view);
    }
}

static void run_images(bool replicating) {
    struct victim v;
    uint64_t found = 0;
    begin(&v, replicating);
    for (unsigned i = 0; i < IMAGES; i++) {
        struct lr_check check;
        restore(&v);
        damage(&v);
        uint64_t before = v.random.state;
        bool look_first = i % 2;
        if (look_first)
            found += lr_check(v.fixture.one, &check) != 0;
        else
            call_everything(&v);
        repair_all(v.fixture.one);
        int result = lr_check(v.fixture.one, &check);
        if (result != 0) {
            printf("\n    image %u, random state 0x%llx: %s\n", i, (unsigned long long)before, check.first[0]);
            CU_ASSERT_EQUAL(result, 0);
            break;
        }
        call_everything(&v);
    }
    CU_ASSERT(found > IMAGES / 8); /* check sees damage */
    end(&v);
}

static void damaged_segments_harm_nobody_and_are_repaired(void) {
    run_images(false);
}

static void damaged_replicas_harm_nobody_and_are_repaired(void) {
    run_images(true);
}

static void repair_of_a_healthy_stripe_changes_nothing_that_counts(void) {
    struct victim v;
    struct lr_digest before, after;
    struct lr_stat stat;
    begin(&v, true);
    CU_ASSERT_EQUAL(lr_digest(v.fixture.one, &before), 0);
    for (unsigned i = 0; i < 3; i++)
        repair_all(v.fixture.one);
    CU_ASSERT_EQUAL(lr_digest(v.fixture.one, &after), 0);
    lr_stat(v.fixture.one, &stat);
    CU_ASSERT_EQUAL(before.sum, after.sum);
    CU_ASSERT_EQUAL(stat.counters[LR_C_repair_dropped], 0);
    end(&v);
}

void larder_suite_75_corrupt(void) {
    CU_pSuite suite = CU_add_suite("75_corrupt", NULL, NULL);
    CU_ADD_TEST(suite, repair_of_a_healthy_stripe_changes_nothing_that_counts);
    CU_ADD_TEST(suite, damaged_segments_harm_nobody_and_are_repaired);
    CU_ADD_TEST(suite, damaged_replicas_harm_nobody_and_are_repaired);
}
