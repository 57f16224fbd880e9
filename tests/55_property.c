/* SPDX-License-Identifier: MIT */
/*
 * Random calls beside a toy model: does the segment hold what a plain array would?
 *
 * The model keeps, for each of a few hundred keys, what was stored last. Where nothing is evicted, every outcome must
 * equal the model's; where things are evicted, a miss is allowed and a wrong value is not. The clock is driven, so
 * expiry is exact to the millisecond. Calls go to either of two mappings at random. After every few thousand calls the
 * segment must be healthy.
 */
#include "fixture.h"

#include <string.h>

#define KEYS 700u
#define START_MS 1000000u

struct model_item {
    bool there;
    uint64_t version, deadline_ms;
    uint32_t flags, len, seed;
};

struct model {
    struct fixture fixture;
    struct fixture_random random;
    struct model_item items[KEYS];
    uint64_t now_ms;
    bool evicts;
    size_t max_len;
    uint8_t *value, *got;
    uint64_t misses_by_eviction;
};

static size_t make_key(unsigned k, char out[80]) {
    /* Lengths from 1 to 70 bytes, NULs inside. */
    int len = snprintf(out, 80, "%u", k);
    for (unsigned i = 0; i < (k * 7) % 64; i++)
        out[len++] = (char)(i % 3 == 0 ? 0 : 'a' + (int)(k % 26));
    return (size_t)len;
}

static void make_value(uint8_t *out, uint32_t len, uint32_t seed) {
    uint32_t state = seed * 2654435761u + len;
    for (uint32_t i = 0; i < len; i++) {
        state = state * 1664525u + 1013904223u;
        out[i] = (uint8_t)(state >> 24);
    }
}

static struct lr_cache *either(struct model *m) {
    return fixture_below(&m->random, 2) ? m->fixture.one : m->fixture.two;
}

static uint32_t random_len(struct model *m) {
    switch (fixture_below(&m->random, 10)) {
    case 0:
        return 0;
    case 1:
        return (uint32_t)fixture_below(&m->random, m->max_len + 1);
    case 2:
    case 3:
        return (uint32_t)fixture_below(&m->random, 4000 < m->max_len ? 4000 : m->max_len);
    default:
        return (uint32_t)fixture_below(&m->random, m->max_len < 200 ? m->max_len : 200);
    }
}

static bool model_live(struct model *m, unsigned k) {
    struct model_item *item = &m->items[k];
    if (item->there && item->deadline_ms <= m->now_ms)
        item->there = false;
    return item->there;
}

/* What the segment says about the key against the model. */
static void expect_key(struct model *m, unsigned k) {
    char key[80];
    size_t key_len = make_key(k, key);
    struct model_item *item = &m->items[k];
    struct lr_item info;
    bool live = model_live(m, k);
    int result = lr_get(either(m), key, key_len, m->got, m->max_len, &info, 0);
    if (result == LARDER_ENOT_FOUND && live && m->evicts) {
        item->there = false;
        m->misses_by_eviction++;
        return;
    }
    CU_ASSERT_EQUAL(result, live ? 0 : LARDER_ENOT_FOUND);
    if (result != 0 || !live)
        return;
    make_value(m->value, item->len, item->seed);
    CU_ASSERT_EQUAL(info.value_len, item->len);
    CU_ASSERT_EQUAL(info.version, item->version);
    CU_ASSERT_EQUAL(info.flags, item->flags);
    CU_ASSERT_EQUAL(info.deadline_ms, item->deadline_ms);
    CU_ASSERT(info.value_len != item->len || memcmp(m->got, m->value, item->len) == 0);
}

static uint64_t random_ttl(struct model *m) {
    return fixture_below(&m->random, 3) ? 0 : 1 + fixture_below(&m->random, 500);
}

static void do_put(struct model *m, unsigned k) {
    char key[80];
    struct model_item *item = &m->items[k];
    struct lr_put put = {.key = key,
                         .key_len = make_key(k, key),
                         .value = m->value,
                         .value_len = random_len(m),
                         .ttl_ms = random_ttl(m),
                         .flags = fixture_below(&m->random, 2) ? 0 : (uint32_t)fixture_next(&m->random),
                         .mode = (enum lr_put_mode)fixture_below(&m->random, 4)};
    uint32_t seed = (uint32_t)fixture_next(&m->random);
    make_value(m->value, (uint32_t)put.value_len, seed);
    bool live = model_live(m, k), stale_token = fixture_below(&m->random, 2);
    put.expected = item->version + stale_token;
    int expected = put.mode == LR_ADD && live                  ? LARDER_EEXISTS
                   : put.mode == LR_REPLACE && !live           ? LARDER_ENOT_FOUND
                   : put.mode == LR_CAS && !live               ? LARDER_ENOT_FOUND
                   : put.mode == LR_CAS && live && stale_token ? LARDER_ECONFLICT
                                                               : 0;
    int result = lr_put(either(m), &put);
    if (m->evicts && result != expected) {
        /* The key had been evicted. */
        item->there = false;
        CU_ASSERT(live && (result == LARDER_ENOT_FOUND || (put.mode == LR_ADD && result == 0)));
    } else {
        CU_ASSERT_EQUAL(result, expected);
    }
    if (result != 0)
        return;
    CU_ASSERT(put.version > item->version);
    *item = (struct model_item){.there = true,
                                .version = put.version,
                                .deadline_ms = put.ttl_ms ? m->now_ms + put.ttl_ms : UINT64_MAX,
                                .flags = put.flags,
                                .len = (uint32_t)put.value_len,
                                .seed = seed};
}

static void do_delete(struct model *m, unsigned k) {
    char key[80];
    size_t key_len = make_key(k, key);
    bool live = model_live(m, k);
    int result = lr_delete(either(m), key, key_len);
    CU_ASSERT(result == (live ? 0 : LARDER_ENOT_FOUND) || (m->evicts && live && result == LARDER_ENOT_FOUND));
    m->items[k].there = false;
}

static void do_touch(struct model *m, unsigned k) {
    char key[80];
    size_t key_len = make_key(k, key);
    struct model_item *item = &m->items[k];
    struct lr_item info;
    uint64_t ttl = random_ttl(m), deadline = ttl ? m->now_ms + ttl : UINT64_MAX;
    bool live = model_live(m, k);
    int result = lr_touch(either(m), key, key_len, ttl);
    if (m->evicts && live && result == LARDER_ENOT_FOUND) {
        item->there = false;
        return;
    }
    CU_ASSERT_EQUAL(result, live ? 0 : LARDER_ENOT_FOUND);
    if (result != 0)
        return;
    if (lr_get(either(m), key, key_len, m->got, m->max_len, &info, LR_PEEK) == 0) {
        /* Extending keeps the version, shortening draws a new one. */
        CU_ASSERT(deadline >= item->deadline_ms ? info.version == item->version : info.version > item->version);
        item->version = info.version;
    }
    item->deadline_ms = deadline;
}

static void do_flush(struct model *m) {
    CU_ASSERT_EQUAL(lr_flush(either(m)), 0);
    for (unsigned k = 0; k < KEYS; k++)
        m->items[k].there = false;
}

static void step(struct model *m) {
    unsigned k = (unsigned)fixture_below(&m->random, KEYS);
    switch (fixture_below(&m->random, 100)) {
    case 0:
        if (fixture_below(&m->random, 20) == 0)
            do_flush(m);
        break;
    case 1:
    case 2:
        m->now_ms += 1 + fixture_below(&m->random, 40);
        lr_drive_clock(m->fixture.one, m->now_ms);
        lr_drive_clock(m->fixture.two, m->now_ms);
        break;
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
        do_delete(m, k);
        break;
    case 9:
    case 10:
    case 11:
    case 12:
        do_touch(m, k);
        break;
    case 13:
        CU_ASSERT(lr_sweep(either(m), 0, 32, 0) >= 0);
        break;
    default:
        if (fixture_below(&m->random, 2))
            do_put(m, k);
        else
            expect_key(m, k);
    }
}

static void run_policy(const char *what, enum lr_policy policy, uint64_t size, unsigned stripes, bool evicts,
                       size_t max_len, bool replicating, unsigned calls) {
    struct model *m = calloc(1, sizeof *m);
    struct lr_options options = lr_options_default();
    options.size = size;
    options.stripes = stripes;
    options.policy = policy;
    CU_ASSERT_PTR_NOT_NULL_FATAL(m);
    fixture_create_with(&m->fixture, &options);
    m->random = fixture_seed(what);
    m->evicts = evicts;
    m->max_len = max_len;
    m->value = malloc(max_len + 1);
    m->got = malloc(max_len + 1);
    m->now_ms = START_MS;
    lr_set_replicating(m->fixture.one, replicating);
    lr_drive_clock(m->fixture.one, m->now_ms);
    lr_drive_clock(m->fixture.two, m->now_ms);
    for (unsigned i = 0; i < calls; i++) {
        step(m);
        if (i % 20000 == 0)
            fixture_check(m->fixture.one);
    }
    for (unsigned k = 0; k < KEYS; k++)
        expect_key(m, k);
    if (evicts)
        CU_ASSERT(m->misses_by_eviction > 0);
    fixture_destroy(&m->fixture);
    free(m->value);
    free(m->got);
    free(m);
}

static void run_model(const char *what, uint64_t size, unsigned stripes, bool evicts, size_t max_len, bool replicating,
                      unsigned calls) {
    run_policy(what, LR_POLICY_s3, size, stripes, evicts, max_len, replicating, calls);
}

static void a_roomy_segment_equals_the_model(void) {
    run_model("roomy", 16u << 20, 1, false, 20000, false, 200000);
}

static void a_full_segment_returns_the_models_values_or_misses(void) {
    run_model("full", 256u << 10, 1, true, 60000, false, 200000);
}

static void a_full_segment_of_small_items_grows_its_index(void) {
    run_model("small items", 64u << 10, 1, true, 400, false, 200000);
}

static void tombstones_do_not_change_what_readers_see(void) {
    run_model("replicating", 512u << 10, 2, true, 20000, true, 200000);
}

static void so_does_a_full_one_of_another_policy(void) {
    run_policy("full, clock", LR_POLICY_clock, 256u << 10, 1, true, 60000, false, 70000);
    run_policy("full, lfu", LR_POLICY_lfu, 256u << 10, 1, true, 60000, true, 70000);
    run_policy("full, ttl", LR_POLICY_ttl, 256u << 10, 1, true, 60000, false, 70000);
}

void larder_suite_55_property(void) {
    CU_pSuite suite = CU_add_suite("55_property", NULL, NULL);
    CU_ADD_TEST(suite, a_roomy_segment_equals_the_model);
    CU_ADD_TEST(suite, a_full_segment_returns_the_models_values_or_misses);
    CU_ADD_TEST(suite, a_full_segment_of_small_items_grows_its_index);
    CU_ADD_TEST(suite, so_does_a_full_one_of_another_policy);
    CU_ADD_TEST(suite, tombstones_do_not_change_what_readers_see);
}
