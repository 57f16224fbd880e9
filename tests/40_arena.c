/* SPDX-License-Identifier: MIT */
/*
 * Room: full is not an error, whatever sizes came before, and nothing goes while there is room.
 */
#include "fixture.h"

#include "stripe.h"

#include <string.h>

static void stripe_of(struct fixture *fixture, uint64_t size, unsigned stripes, enum lr_policy policy) {
    struct lr_options options = lr_options_default();
    *fixture = (struct fixture){0};
    options.size = size;
    options.stripes = stripes;
    options.policy = policy;
    fixture_create_with(fixture, &options);
}

static int put_bytes(struct lr_cache *cache, uint64_t key, const void *value, size_t len) {
    struct lr_put put = {.key = &key, .key_len = sizeof key, .value = value, .value_len = len};
    return lr_put(cache, &put);
}

static void a_roomy_segment_evicts_nothing(void) {
    struct fixture f;
    struct lr_stat stat;
    char value[64] = {0};
    const uint64_t size = 8u << 20;
    stripe_of(&f, size, 2, LR_POLICY_clock);
    /* 96-byte blocks and 13 bytes of index each: 80 % of the segment. */
    uint64_t count = size * 8 / 10 / (96 + 13);
    for (uint64_t i = 0; i < count; i++)
        CU_ASSERT_EQUAL(put_bytes(f.one, i, value, sizeof value), 0);
    lr_stat(f.one, &stat);
    CU_ASSERT_EQUAL(stat.items, count);
    CU_ASSERT_EQUAL(stat.stripe_counters[LR_S_evictions], 0);
    CU_ASSERT(stat.stripe_counters[LR_S_splits] > 1000);
    uint64_t found = 0;
    while (found < count && lr_get(f.two, &found, sizeof found, value, sizeof value, NULL, 0) == 0)
        found++;
    CU_ASSERT_EQUAL(found, count);
    fixture_destroy(&f);
}

/* Sizes drift from one to another; in between, values of every admissible size must find room. */
static void run_sizes(const char *what, const size_t *phases, unsigned count, unsigned percent_deleted) {
    struct fixture f;
    struct lr_stat stat;
    struct fixture_random random = fixture_seed(what);
    const uint64_t size = 1u << 20;
    stripe_of(&f, size, 1, LR_POLICY_clock);
    size_t most = lr_max_value(f.one, sizeof(uint64_t));
    uint8_t *value = calloc(1, most + 1);
    for (unsigned phase = 0; phase < count; phase++) {
        uint64_t puts = 3 * size / (phases[phase] + 40);
        for (uint64_t i = 0; i < puts; i++) {
            uint64_t key = fixture_below(&random, 1u << 20);
            CU_ASSERT_EQUAL(put_bytes(f.one, key, value, 1 + fixture_below(&random, 2 * phases[phase])), 0);
            if (fixture_below(&random, 100) < percent_deleted)
                lr_delete(f.one, &key, sizeof key);
        }
        lr_stat(f.one, &stat);
        CU_ASSERT(percent_deleted > 0 || stat.payload_bytes > size * 35 / 100);
        fixture_check(f.one);
        for (unsigned i = 0; i < 10; i++)
            CU_ASSERT_EQUAL(put_bytes(f.one, i, value, most - fixture_below(&random, most)), 0);
        CU_ASSERT_EQUAL(put_bytes(f.one, 99, value, most), 0);
        CU_ASSERT_EQUAL(lr_get(f.two, &(uint64_t){99}, sizeof(uint64_t), value, most, NULL, 0), 0);
        CU_ASSERT_EQUAL(put_bytes(f.one, 100, value, most + 1 + 64), LARDER_ETOO_LARGE);
        fixture_check(f.one);
    }
    free(value);
    fixture_destroy(&f);
}

static void any_admissible_size_finds_room_after_small_large_small(void) {
    run_sizes("small, large, small", (size_t[]){40, 30000, 40, 300}, 4, 0);
}

static void any_admissible_size_finds_room_after_deletes(void) {
    run_sizes("sizes and deletes", (size_t[]){100, 5000, 700, 60000, 30}, 5, 60);
}

static void policy_none_refuses_and_keeps_all(void) {
    struct fixture f;
    struct lr_stat stat;
    char value[500] = {0};
    uint64_t stored = 0;
    stripe_of(&f, 256u << 10, 1, LR_POLICY_none);
    while (put_bytes(f.one, stored, value, sizeof value) == 0)
        stored++;
    CU_ASSERT(stored > 400);
    CU_ASSERT_EQUAL(put_bytes(f.one, stored, value, sizeof value), LARDER_EFULL);
    for (uint64_t i = 0; i < stored; i++)
        CU_ASSERT_EQUAL(lr_get(f.two, &i, sizeof i, value, sizeof value, NULL, 0), 0);
    lr_stat(f.one, &stat);
    CU_ASSERT_EQUAL(stat.stripe_counters[LR_S_evictions], 0);
    /* Every other one goes; the holes are brought together. */
    for (uint64_t i = 0; i < stored; i += 2)
        CU_ASSERT_EQUAL(lr_delete(f.one, &i, sizeof i), 0);
    char *large = calloc(1, 40000);
    CU_ASSERT_EQUAL(put_bytes(f.one, 1u << 20, large, 40000), 0);
    for (uint64_t i = 1; i < stored; i += 2)
        CU_ASSERT_EQUAL(lr_get(f.two, &i, sizeof i, value, sizeof value, NULL, 0), 0);
    free(large);
    fixture_destroy(&f);
}

static void items_that_are_read_outlive_those_that_are_not(void) {
    struct fixture f;
    char value[200] = {0};
    unsigned hot = 0, cold = 0;
    stripe_of(&f, 256u << 10, 1, LR_POLICY_clock);
    for (uint64_t i = 0; i < 600; i++)
        put_bytes(f.one, i, value, sizeof value);
    for (uint64_t n = 0; n < 4000; n++) {
        for (uint64_t i = 0; n % 40 == 0 && i < 100; i++)
            lr_get(f.two, &i, sizeof i, value, sizeof value, NULL, 0);
        put_bytes(f.one, 10000 + n, value, sizeof value);
    }
    for (uint64_t i = 0; i < 100; i++)
        hot += lr_get(f.one, &i, sizeof i, value, sizeof value, NULL, 0) == 0;
    for (uint64_t i = 100; i < 600; i++)
        cold += lr_get(f.one, &i, sizeof i, value, sizeof value, NULL, 0) == 0;
    CU_ASSERT(hot >= 95);
    CU_ASSERT(cold <= 5);
    fixture_destroy(&f);
}

/* Making room for the new block does not begin with the block that is to be replaced. */
static void a_touch_that_makes_room_spares_its_own_item(void) {
    struct fixture f;
    char value[200] = {0};
    unsigned touched = 0, lost = 0;
    stripe_of(&f, 256u << 10, 1, LR_POLICY_clock);
    lr_drive_clock(f.one, 1000);
    for (uint64_t i = 0; i < 5000; i++) {
        struct lr_put put = {.key = &i, .key_len = 8, .value = value, .value_len = sizeof value, .ttl_ms = 1u << 30};
        CU_ASSERT_EQUAL(lr_put(f.one, &put), 0);
    }
    for (uint64_t n = 0; n < 20; n++) {
        for (uint64_t i = 0; i < 5000; i++) {
            if (lr_get(f.one, &i, 8, value, sizeof value, NULL, LR_PEEK) != 0)
                continue;
            touched++;
            lost += lr_touch(f.one, &i, 8, (1u << 29) - n) != 0;
        }
    }
    CU_ASSERT(touched > 5000);
    CU_ASSERT_EQUAL(lost, 0);
    fixture_destroy(&f);
}

static void expired_items_make_room_as_the_hand_passes(void) {
    struct fixture f;
    struct lr_stat stat;
    char value[200] = {0};
    stripe_of(&f, 256u << 10, 1, LR_POLICY_clock);
    lr_drive_clock(f.one, 1000);
    for (uint64_t i = 0; i < 900; i++) {
        struct lr_put put = {
            .key = &i, .key_len = 8, .value = value, .value_len = sizeof value, .ttl_ms = i % 2 ? 10 : 0};
        CU_ASSERT_EQUAL(lr_put(f.one, &put), 0);
    }
    lr_drive_clock(f.one, 2000);
    for (uint64_t i = 1000; i < 1400; i++)
        CU_ASSERT_EQUAL(put_bytes(f.one, i, value, sizeof value), 0);
    lr_stat(f.one, &stat);
    CU_ASSERT(stat.stripe_counters[LR_S_expirations] >= 100);
    CU_ASSERT(stat.stripe_counters[LR_S_evictions] < 250);
    fixture_destroy(&f);
}

void larder_suite_40_arena(void) {
    CU_pSuite suite = CU_add_suite("40_arena", NULL, NULL);
    CU_ADD_TEST(suite, a_roomy_segment_evicts_nothing);
    CU_ADD_TEST(suite, any_admissible_size_finds_room_after_small_large_small);
    CU_ADD_TEST(suite, any_admissible_size_finds_room_after_deletes);
    CU_ADD_TEST(suite, policy_none_refuses_and_keeps_all);
    CU_ADD_TEST(suite, items_that_are_read_outlive_those_that_are_not);
    CU_ADD_TEST(suite, a_touch_that_makes_room_spares_its_own_item);
    CU_ADD_TEST(suite, expired_items_make_room_as_the_hand_passes);
}
