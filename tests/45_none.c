/* SPDX-License-Identifier: MIT */
/*
 * Policy none: a full cache refuses. How soon does it find what has become free, and what does it cost until then?
 */
#include "fixture.h"

#include "stripe.h"

static const uint8_t value[60000];

static uint64_t counter_of(struct fixture *f, enum lr_stripe_counter which) {
    return lr_load(&lr_stripe_at(f->one, 0)->counters[which]);
}

static int try_put(struct fixture *f, uint64_t key, size_t len, uint64_t ttl_ms) {
    struct lr_put p = {.key = &key, .key_len = sizeof key, .value = value, .value_len = len, .ttl_ms = ttl_ms};
    return lr_put(f->one, &p);
}

static void pass_time(struct fixture *f, uint64_t now_ms) {
    lr_drive_clock(f->one, now_ms);
    lr_drive_clock(f->two, now_ms);
}

/* A stripe of 1 MiB, full: every `nth` item expires at 2000. Returns their number; keys from 0 on. */
static uint64_t fill_up(struct fixture *f, uint64_t nth) {
    uint64_t key = 0;
    struct lr_options options = lr_options_default();
    *f = (struct fixture){0};
    options.size = UINT64_C(1) << 20;
    options.stripes = 1;
    options.policy = LR_POLICY_none;
    fixture_create_with(f, &options);
    pass_time(f, 1000);
    while (try_put(f, key, 300, key % nth == nth - 1 ? 1000 : 0) == 0)
        key++;
    return key;
}

static void a_full_cache_refuses_without_going_round(void) {
    struct fixture f;
    const uint64_t count = fill_up(&f, 4);
    const uint64_t laps = counter_of(&f, LR_S_laps), slides = counter_of(&f, LR_S_slides);
    unsigned stored = 0;
    for (uint64_t n = 0; n < 10000; n++)
        stored += try_put(&f, 10000 + n, n % 50 ? 300 : 60000, n % 2 ? 0 : 5000) == 0;
    CU_ASSERT_EQUAL(stored, 0);
    CU_ASSERT(counter_of(&f, LR_S_laps) <= laps + 2);
    CU_ASSERT(counter_of(&f, LR_S_slides) <= slides + 2 * count);
    fixture_check(f.one);
    fixture_destroy(&f);
}

static void what_expires_makes_room_soon(void) {
    struct fixture f;
    unsigned refused = 0;
    const uint64_t count = fill_up(&f, 500);
    pass_time(&f, 1990);
    CU_ASSERT_EQUAL(try_put(&f, 9999, 300, 0), LARDER_EFULL); /* the hand has gone round in vain */
    pass_time(&f, 2000);                                      /* what has expired is few, and somewhere */
    const uint64_t buckets = lr_buckets(&(struct lr_view){.cache = f.one, .stripe = lr_stripe_at(f.one, 0)});
    for (uint64_t key = 10000; try_put(&f, key, 300, 0) != 0 && refused < 10000; key++)
        refused++;
    CU_ASSERT(refused <= buckets / 4 + 1);
    fixture_check(f.one);
    fixture_destroy(&f);
    /* And the very next put finds it when the hand may go round again. */
    CU_ASSERT_EQUAL(fill_up(&f, 500), count);
    pass_time(&f, 1990);
    CU_ASSERT_EQUAL(try_put(&f, 10000, 300, 0), LARDER_EFULL);
    pass_time(&f, 2010);
    CU_ASSERT_EQUAL(try_put(&f, 10001, 300, 0), 0);
    fixture_check(f.one);
    fixture_destroy(&f);
}

static void what_is_deleted_makes_room_at_once(void) {
    struct fixture f;
    const uint64_t count = fill_up(&f, UINT64_MAX);
    CU_ASSERT_EQUAL(try_put(&f, 10000, 300, 0), LARDER_EFULL);
    CU_ASSERT_EQUAL(lr_delete(f.one, &(uint64_t){7}, 8), 0);
    CU_ASSERT_EQUAL(try_put(&f, 10001, 300, 0), 0);
    /* Scattered bytes: at once where they are many, else when the hand goes round again. */
    CU_ASSERT_EQUAL(try_put(&f, 10002, 300, 0), LARDER_EFULL);
    for (uint64_t key = 100; key < 110; key += 2)
        CU_ASSERT_EQUAL(lr_delete(f.one, &key, 8), 0);
    CU_ASSERT_EQUAL(try_put(&f, 10003, 1200, 0), LARDER_EFULL);
    pass_time(&f, 1020);
    CU_ASSERT_EQUAL(try_put(&f, 10003, 1200, 0), 0);
    CU_ASSERT_EQUAL(try_put(&f, 10004, 1200, 0), LARDER_EFULL);
    for (uint64_t key = 200; key < count / 2; key += 2)
        CU_ASSERT_EQUAL(lr_delete(f.one, &key, 8), 0);
    CU_ASSERT_EQUAL(try_put(&f, 10004, 60000, 0), 0);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* Free bytes between pins, of which no run is long enough, are looked for once. */
static void what_pins_scatter_is_not_gathered_for_every_put(void) {
    struct fixture f;
    struct lr_pin pins[40];
    const uint64_t count = fill_up(&f, UINT64_MAX);
    for (uint64_t i = 0; i < 40; i++)
        CU_ASSERT_EQUAL_FATAL(lr_pin(f.two, &(uint64_t){i * count / 40}, 8, &pins[i]), 0);
    for (uint64_t key = 0; key < count; key++)
        if (key % (count / 40) > 10)
            lr_delete(f.one, &key, 8);
    const uint64_t laps = counter_of(&f, LR_S_laps);
    for (uint64_t n = 0; n < 1000; n++)
        CU_ASSERT_EQUAL(try_put(&f, 10000 + n, 60000, 0), LARDER_EFULL);
    CU_ASSERT(counter_of(&f, LR_S_laps) <= laps + 4);
    for (uint64_t i = 0; i < 40; i++)
        lr_unpin(f.two, &pins[i]);
    pass_time(&f, 1020);
    CU_ASSERT_EQUAL(try_put(&f, 20000, 60000, 0), 0);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* A hint that says never is not believed. */
static void a_date_too_far_ahead_counts_as_none(void) {
    struct fixture f;
    fill_up(&f, 500);
    lr_store(&lr_stripe_at(f.one, 0)->look_again_ms, UINT64_MAX / 2);
    pass_time(&f, 2000);
    CU_ASSERT_EQUAL(try_put(&f, 10000, 300, 0), 0);
    fixture_check(f.one);
    fixture_destroy(&f);
}

void larder_suite_45_none(void) {
    CU_pSuite suite = CU_add_suite("45_none", NULL, NULL);
    CU_ADD_TEST(suite, a_full_cache_refuses_without_going_round);
    CU_ADD_TEST(suite, what_expires_makes_room_soon);
    CU_ADD_TEST(suite, what_is_deleted_makes_room_at_once);
    CU_ADD_TEST(suite, what_pins_scatter_is_not_gathered_for_every_put);
    CU_ADD_TEST(suite, a_date_too_far_ahead_counts_as_none);
}
