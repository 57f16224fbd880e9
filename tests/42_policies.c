/* SPDX-License-Identifier: MIT */
/*
 * Policies: what goes, what stays, and how do the two regions of s3 share the memory?
 *
 * What a policy is worth in hits is for `larder replay` to say; here is what it promises in particular cases.
 */
#include "fixture.h"

#include "stripe.h"

#include <string.h>

#define KIB (UINT64_C(1) << 10)

static uint8_t value[64 * KIB];

static void stripe_of(struct fixture *f, uint64_t size, enum lr_policy policy, enum lr_favor favor) {
    struct lr_options options = lr_options_default();
    *f = (struct fixture){0};
    options.size = size;
    options.stripes = 1;
    options.policy = policy;
    options.favor = favor;
    fixture_create_with(f, &options);
    atomic_store(&lr_stripe_at(f->one, 0)->filled, 1); /* s3: by its rules, which need not prove better first (44) */
    lr_drive_clock(f->one, 1000);
    lr_drive_clock(f->two, 1000);
}

static void put(struct fixture *f, uint64_t key, size_t len, uint64_t ttl_ms) {
    struct lr_put p = {.key = &key, .key_len = sizeof key, .value = value, .value_len = len, .ttl_ms = ttl_ms};
    CU_ASSERT_EQUAL(lr_put(f->one, &p), 0);
}

/* Keys from..to - 1, one after the other. */
static void put_keys(struct fixture *f, uint64_t from, uint64_t to, size_t len) {
    for (uint64_t key = from; key < to; key++)
        put(f, key, len, 0);
}

static bool get(struct fixture *f, uint64_t key, unsigned flags) {
    return lr_get(f->two, &key, sizeof key, value, sizeof value, NULL, flags) == 0;
}

static unsigned count_there(struct fixture *f, uint64_t from, uint64_t to) {
    unsigned there = 0;
    for (uint64_t key = from; key < to; key++)
        there += get(f, key, LR_PEEK);
    return there;
}

static void read_keys(struct fixture *f, uint64_t from, uint64_t to, unsigned times) {
    for (unsigned i = 0; i < times; i++)
        for (uint64_t key = from; key < to; key++)
            get(f, key, 0);
}

static struct lr_view view_of(struct fixture *f) {
    return lr_view_of(f->one, 0);
}

static uint64_t counter(struct fixture *f, enum lr_stripe_counter which) {
    return lr_load(&lr_stripe_at(f->one, 0)->counters[which]);
}

static struct lr_found find(struct fixture *f, uint64_t key) {
    struct lr_view view = view_of(f);
    struct lr_key hashed = lr_key_of(f->one, &key, sizeof key);
    return lr_index_find(&view, &hashed);
}

static bool is_in(struct fixture *f, uint64_t key, enum lr_region region) {
    const struct lr_view view = view_of(f);
    const struct lr_found found = find(f, key);
    return found.slot != NULL && lr_region_at(&view, found.head.off) == region;
}

/* Probation's part of the arena, in per cent. */
static double share_of(struct fixture *f) {
    const struct lr_view view = view_of(f);
    const struct lr_span first = lr_region_of(&view, LR_PROBATION), main = lr_region_of(&view, LR_MAIN);
    return 100.0 * (double)(first.end - first.start) / (double)(main.end - first.start);
}

/* ---- s3 ------------------------------------------------------------------------------------------------------- */

/* How many of what was read are left. */
static unsigned left_by_a_scan(unsigned policy) {
    struct fixture f;
    stripe_of(&f, 512 * KIB, policy, LR_FAVOR_objects);
    put_keys(&f, 0, 800, 300);
    for (uint64_t n = 0; n < 4000; n++) {
        put(&f, 10000 + n, 300, 0);
        if (n % 100 == 0)
            read_keys(&f, 0, 400, 1);
    }
    put_keys(&f, 20000, 30000, 300); /* nobody reads anything meanwhile */
    const unsigned left = count_there(&f, 0, 400);
    fixture_check(f.one);
    fixture_destroy(&f);
    return left;
}

static void what_was_read_survives_a_scan(void) {
    const unsigned rounds = FIXTURE_SANITIZED ? 2 : 8;
    unsigned kept = 0; /* where keys lie is chance: of some hundreds of stripes one loses what was read */
    for (unsigned i = 0; i < rounds; i++)
        kept += left_by_a_scan(LR_POLICY_s3) >= 360;
    CU_ASSERT(kept + 1 >= rounds);
    CU_ASSERT(left_by_a_scan(LR_POLICY_clock) <= 40);
}

static void new_items_are_on_probation_until_they_are_read(void) {
    struct fixture f;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, 3000, 300);
    unsigned on_probation = 0, spent = 0;
    for (uint64_t key = 2990; key < 3000; key++)
        on_probation += is_in(&f, key, LR_PROBATION);
    read_keys(&f, 2990, 3000, 2);
    const uint64_t before = counter(&f, LR_S_promotions);
    put_keys(&f, 3000, 4000, 300);
    CU_ASSERT(counter(&f, LR_S_promotions) >= before + on_probation);
    for (uint64_t key = 2990; key < 3000; key++)
        spent += is_in(&f, key, LR_MAIN) && lr_slot_count(f.one, find(&f, key).word) == 0;
    CU_ASSERT(spent >= on_probation && on_probation >= 9); /* but for a ghost that is another's */
    CU_ASSERT(count_there(&f, 3000, 3300) <= 3);           /* ... the same */
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* As if the hand had passed it so often. */
static void leave_count(struct fixture *f, uint64_t key, unsigned count) {
    const struct lr_found found = find(f, key);
    lr_store(found.slot, found.word - (lr_slot_count(f->one, found.word) - count) * SM_SLOT_RECENCY_ONE);
}

/* Reads between passes of the hand: each takes the count to how often there were such reads; a burst is one, beyond
 * three. Other policies add one. */
static void what_is_read_often_stays_as_long_again(void) {
    static const struct {
        uint32_t policy;
        unsigned burst, again[4];
    } cases[] = {{LR_POLICY_s3, 3, {4, 5, 5, 5}}, {LR_POLICY_clock, 3, {2, 2, 2, 2}}};
    for (unsigned i = 0; i < 2; i++) {
        struct fixture f;
        stripe_of(&f, 512 * KIB, cases[i].policy, LR_FAVOR_objects);
        put(&f, 7, 300, 0);
        read_keys(&f, 7, 8, 40);
        CU_ASSERT_EQUAL(lr_slot_count(f.one, find(&f, 7).word), cases[i].burst);
        for (unsigned n = 0; n < 4; n++) {
            leave_count(&f, 7, 1);
            read_keys(&f, 7, 8, 1);
            CU_ASSERT_EQUAL(lr_slot_count(f.one, find(&f, 7).word), cases[i].again[n]);
        }
        put(&f, 7, 300, 0); /* what replaces it has its uses */
        leave_count(&f, 7, 1);
        read_keys(&f, 7, 8, 1);
        CU_ASSERT_EQUAL(lr_slot_count(f.one, find(&f, 7).word), cases[i].again[3]);
        fixture_check(f.one);
        fixture_destroy(&f);
    }
}

/* What is watched for reads must be able to rise. */
static void a_count_that_is_watched_can_rise(void) {
    struct fixture f;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    struct lr_view view = lr_view_of(f.one, 0);
    for (uint32_t turn = 0; turn < 2; turn++) {
        atomic_store(&view.stripe->policy_turn, turn);
        for (unsigned recency = 0; recency < 256; recency++) {
            sm_u64 word = (uint64_t)recency << SM_SLOT_RECENCY_SHIFT;
            const unsigned count = lr_policy_watch(&view, &word, word);
            CU_ASSERT_EQUAL(lr_slot_count(f.one, word), count);
            CU_ASSERT((lr_recency_used(&view, word) & SM_RECENCY_COUNT) > count);
            CU_ASSERT(count <= (recency & SM_RECENCY_COUNT) && count < (turn == 0 ? 5 : LR_COUNT_AGE));
        }
    }
    fixture_destroy(&f);
}

static void what_comes_back_goes_to_main(void) {
    struct fixture f;
    unsigned came_back = 0;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, 3000, 300);
    for (uint64_t key = 2999; key > 2000; key--) { /* the last that went are the first to come back */
        if (get(&f, key, LR_PEEK))
            continue;
        const uint64_t before = counter(&f, LR_S_ghost_hits);
        atomic_store(&f.one->header->policy_score, 0); /* that so many come back would end the rules */
        put(&f, key, 300, 0);
        if (counter(&f, LR_S_ghost_hits) == before)
            continue;
        came_back++;
        CU_ASSERT(is_in(&f, key, LR_MAIN));
    }
    CU_ASSERT(came_back > 200);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* The one key that went last from its bucket. */
static void the_newest_ghost_counts(void) {
    struct fixture f;
    stripe_of(&f, 64 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    struct lr_view view = view_of(&f);
    struct lr_key key = lr_key_of(f.one, &(uint64_t){7}, 8);
    struct lr_key other = lr_key_of(f.one, &(uint64_t){8}, 8);
    put_keys(&f, 100, 120, 300);
    lr_policy_remember(&view, key.place, LR_PROBATION);
    put(&f, 7, 300, 0);
    CU_ASSERT_EQUAL(counter(&f, LR_S_ghost_hits), 1);
    CU_ASSERT(is_in(&f, 7, LR_MAIN));
    CU_ASSERT_EQUAL(lr_slot_count(f.one, find(&f, 7).word), 0);
    lr_delete(f.one, &(uint64_t){7}, 8);
    put(&f, 7, 300, 0); /* it was used up, and a delete leaves none */
    CU_ASSERT_EQUAL(counter(&f, LR_S_ghost_hits), 1);
    for (unsigned i = 0; i < 20; i++)
        lr_policy_remember(&view, other.place, LR_MAIN);
    put(&f, 8, 300, 0);
    CU_ASSERT_EQUAL(counter(&f, LR_S_ghost_hits), 2);
    CU_ASSERT_EQUAL(lr_slot_count(f.one, find(&f, 8).word), 1); /* main let it go too soon */
    fixture_destroy(&f);
}

/* A new key, while something is read now and then, in main too: else bytes would decide, and main would have to turn
 * over. */
static void put_large(struct fixture *f, uint64_t key, size_t len) {
    atomic_store(&lr_stripe_at(f->one, 0)->quiet, 0);
    atomic_store(&lr_stripe_at(f->one, 0)->silence, 0);
    put(f, key, len, 0);
}

/* Large ones have 3 % of the arena together, and one. */
static void large_ones_have_so_much_together(uint64_t size, size_t len, enum lr_region region) {
    struct fixture f;
    stripe_of(&f, size, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, size / 160, 300);
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t bytes = 0;
        put_large(&f, 100000 + i, len);
        CU_ASSERT(is_in(&f, 100000 + i, region));
        for (uint64_t key = 100000; key <= 100000 + i; key++)
            bytes += get(&f, key, LR_PEEK) ? len + 40 : 0;
        CU_ASSERT(bytes <= size * 3 / 100 + len + 40);
    }
    fixture_check(f.one);
    fixture_destroy(&f);
}

static void small_items_need_no_probation_and_large_ones_are_few(void) {
    struct fixture f;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, 3000, 300);
    put(&f, 5000, 40, 0);
    CU_ASSERT(is_in(&f, 5000, LR_MAIN));
    put(&f, 5001, 300, 0);
    CU_ASSERT(is_in(&f, 5001, LR_PROBATION));
    fixture_destroy(&f);
    large_ones_have_so_much_together(2048 * KIB, 4000, LR_MAIN);
    large_ones_have_so_much_together(512 * KIB, 4000, LR_PROBATION);
}

/* Fifty giants, six times the cache, each larger than probation. */
static void what_was_read_outlasts_giants(void) {
    struct fixture f;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, 3000, 300);
    for (uint64_t key = 10000; key < 13000; key++) { /* a third of these are read, and come to main */
        put(&f, key, 300, 0);
        if (key % 3 == 0)
            read_keys(&f, key, key + 1, 2);
    }
    lr_store(&lr_stripe_at(f.one, 0)->share, LR_SHARE_LEAST);
    put_keys(&f, 20000, 23000, 300);
    const double share = share_of(&f);
    CU_ASSERT(share < 11.5);
    unsigned hot = 0, left = 0;
    static bool was_hot[1000];
    for (uint64_t i = 0; i < 1000; i++)
        hot += was_hot[i] = is_in(&f, 10002 + 3 * i, LR_MAIN);
    CU_ASSERT(hot > 200);
    for (uint64_t i = 0; i < 50; i++) {
        put_large(&f, 30000 + i, 60000);
        CU_ASSERT(is_in(&f, 30000 + i, LR_PROBATION));
    }
    CU_ASSERT(share_of(&f) > 12 && share_of(&f) < 16);
    for (uint64_t i = 0; i < 1000; i++)
        left += was_hot[i] && get(&f, 10002 + 3 * i, LR_PEEK);
    CU_ASSERT(left * 10 >= hot * 9); /* what it grew over is probation's */
    put_keys(&f, 50000, 53000, 300); /* main is silent: there its place is best made */
    atomic_store(&lr_stripe_at(f.one, 0)->quiet, 0);
    put(&f, 60000, 60000, 0);
    CU_ASSERT(is_in(&f, 60000, LR_MAIN));
    fixture_check(f.one);
    fixture_destroy(&f);
}

static void what_a_giant_pushes_out_says_nothing_of_probation(void) {
    struct fixture f;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    sm_u64 *share = &lr_stripe_at(f.one, 0)->share;
    put_keys(&f, 0, 3000, 300);
    lr_store(share, LR_SHARE_LEAST);
    put_keys(&f, 10000, 13000, 300);
    CU_ASSERT(count_there(&f, 12900, 13000) >= 99);
    put_large(&f, 20000, 45000);
    lr_store(share, LR_SHARE_LEAST);
    const uint64_t before = counter(&f, LR_S_ghost_hits);
    for (uint64_t key = 12900; key < 13000; key++)
        if (!get(&f, key, LR_PEEK))
            put(&f, key, 300, 0);
    CU_ASSERT(counter(&f, LR_S_ghost_hits) > before + 50);
    CU_ASSERT_EQUAL(lr_load(share), LR_SHARE_LEAST);
    fixture_check(f.one);
    fixture_destroy(&f);
}

static void to_favor_bytes_is_to_ignore_sizes(void) {
    struct fixture f;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_bytes);
    put_keys(&f, 0, 3000, 300);
    put(&f, 5000, 40, 0);
    put(&f, 5002, 4000, 0);
    CU_ASSERT(is_in(&f, 5000, LR_PROBATION) && is_in(&f, 5002, LR_PROBATION));
    read_keys(&f, 5002, 5003, 1); /* one read will do */
    put_keys(&f, 6000, 8000, 300);
    CU_ASSERT(is_in(&f, 5002, LR_MAIN));
    struct lr_stat stat;
    lr_stat(f.two, &stat);
    CU_ASSERT_EQUAL(stat.favor, LR_FAVOR_bytes);
    fixture_check(f.one);
    fixture_destroy(&f);
}

static void nothing_goes_while_there_is_room(void) {
    static const size_t lens[] = {20, 300, 3000};
    for (unsigned i = 0; i < 3; i++) {
        struct fixture f;
        stripe_of(&f, 2048 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
        const uint64_t count = 2048 * KIB * 85 / 100 / (lens[i] + 32 + 16);
        put_keys(&f, 0, count, lens[i]);
        put_keys(&f, 0, count / 20, lens[i]); /* what is replaced neither */
        CU_ASSERT_EQUAL(counter(&f, LR_S_evictions), 0);
        CU_ASSERT_EQUAL(count_there(&f, 0, count), count);
        fixture_check(f.one);
        fixture_destroy(&f);
    }
}

static void probation_follows_its_share(void) {
    struct fixture f;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, 3000, 300);
    CU_ASSERT(share_of(&f) > 27 && share_of(&f) < 32);
    lr_store(&lr_stripe_at(f.one, 0)->share, LR_SHARE_LEAST);
    put_keys(&f, 10000, 13000, 300);
    CU_ASSERT(share_of(&f) > 9 && share_of(&f) < 12);
    fixture_check(f.one);
    lr_store(&lr_stripe_at(f.one, 0)->share, LR_SHARE_MOST);
    put_keys(&f, 20000, 23000, 300);
    CU_ASSERT(share_of(&f) > 27 && share_of(&f) < 32);
    fixture_check(f.one);
    fixture_destroy(&f);
}

static void ghosts_move_the_share_within_its_bounds(void) {
    struct fixture f;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, 3000, 300);
    struct lr_view view = view_of(&f);
    sm_u64 *share = &view.stripe->share;
    CU_ASSERT_EQUAL(lr_load(share), LR_SHARE_MOST);
    for (uint64_t key = 10000; key < 12000; key++) {
        struct lr_key hashed = lr_key_of(f.one, &key, 8);
        lr_policy_remember(&view, hashed.place, LR_MAIN);
        put(&f, key, 300, 0);
    }
    CU_ASSERT_EQUAL(lr_load(share), LR_SHARE_LEAST);
    put_keys(&f, 30000, 33000, 300);
    CU_ASSERT(share_of(&f) < 15);
    for (uint64_t key = 20000; key < 22000; key++) {
        struct lr_key hashed = lr_key_of(f.one, &key, 8);
        lr_policy_remember(&view, hashed.place, LR_PROBATION);
        put(&f, key, 300, 0);
    }
    CU_ASSERT_EQUAL(lr_load(share), LR_SHARE_MOST);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* The index takes its memory from probation, which takes it from main. */
static void an_index_that_grows_leaves_probation_its_share(void) {
    struct fixture f;
    stripe_of(&f, 1024 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, 300, 5000);
    const uint64_t border = lr_load(&lr_stripe_at(f.one, 0)->border_off);
    for (uint64_t n = 0; n < 40000; n += 1000) {
        put_keys(&f, 10000 + n, 11000 + n, 16);
        fixture_check(f.one);
    }
    CU_ASSERT(lr_load(&lr_stripe_at(f.one, 0)->border_off) > 2 * border);
    put_keys(&f, 100000, 103000, 300);
    CU_ASSERT(share_of(&f) > 20 && share_of(&f) < 33);
    fixture_check(f.one);
    fixture_destroy(&f);
}

static void one_put_promotes_so_many_and_no_more(void) {
    struct fixture f;
    struct lr_pin pins[4];
    uint64_t most = 0;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, 3000, 300);
    for (uint64_t n = 0; n < 3000; n++) {
        put(&f, 10000 + n, 300, 0);
        read_keys(&f, 10000 + n, 10001 + n, 3); /* all of probation deserves it */
    }
    for (unsigned i = 0; i < 4; i++) /* at each of these what was cleared is not yet enough */
        CU_ASSERT_EQUAL_FATAL(lr_pin(f.two, &(uint64_t){12999 - 100 * i}, 8, &pins[i]), 0);
    for (uint64_t n = 0; n < 20; n++) { /* large ones, which need many blocks' room */
        const uint64_t before = counter(&f, LR_S_promotions);
        const uint64_t mean = lr_policy_mean(&(struct lr_view){.cache = f.one, .stripe = lr_stripe_at(f.one, 0)});
        struct lr_view view;
        struct lr_room room;
        CU_ASSERT_EQUAL_FATAL(lr_stripe_lock(&view, f.one, 0), 0);
        const struct lr_plan plan = {.region = LR_PROBATION};
        CU_ASSERT_EQUAL(lr_policy_room(&view, &plan, 80 * mean / 8 * 8, 0, LR_ROOM_EVICT, &room), 0);
        lr_stripe_unlock(&view);
        const uint64_t promoted = counter(&f, LR_S_promotions) - before;
        most = promoted > most ? promoted : most;
        for (uint64_t i = 0; i < 200; i++) {
            put(&f, 20000 + 200 * n + i, 300, 0);
            read_keys(&f, 20000 + 200 * n + i, 20001 + 200 * n + i, 3);
        }
    }
    CU_ASSERT(most > 64 && most <= 82); /* as many bytes as it needs */
    for (unsigned i = 0; i < 4; i++)
        lr_unpin(f.two, &pins[i]);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* Old or new, but not neither: what is being replaced does not go for the room that its successor takes. */
static void a_giant_stays_until_it_is_replaced(void) {
    struct fixture f;
    struct lr_view view;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, 3000, 300);
    lr_store(&lr_stripe_at(f.one, 0)->share, LR_SHARE_LEAST);
    put_keys(&f, 10000, 13000, 300);
    put_large(&f, 5000, 40000);
    CU_ASSERT_FATAL(is_in(&f, 5000, LR_PROBATION));
    CU_ASSERT_EQUAL_FATAL(lr_stripe_lock(&view, f.one, 0), 0);
    const uint64_t off = find(&f, 5000).head.off;
    for (unsigned lap = 0; lap < 5; lap++)
        lr_policy_lapped(&view, off);
    lr_stripe_unlock(&view);
    CU_ASSERT(get(&f, 5000, LR_PEEK));
    put(&f, 5000, 40000, 0); /* probation has no room for both */
    CU_ASSERT(is_in(&f, 5000, LR_MAIN));
    CU_ASSERT_EQUAL_FATAL(lr_stripe_lock(&view, f.one, 0), 0);
    for (unsigned lap = 0; lap < 5; lap++)
        lr_policy_lapped(&view, 0);
    lr_stripe_unlock(&view);
    CU_ASSERT(!get(&f, 5000, LR_PEEK)); /* as any other that nobody reads */
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* A border that leaves no arena is damage, and nothing to divide by. */
static void a_border_at_the_end_is_no_fault(void) {
    struct fixture f;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, 3000, 300);
    struct lr_view view = view_of(&f);
    struct lr_key key = lr_key_of(f.one, &(uint64_t){7}, 8);
    const struct lr_making making = {.key = &key, .access = true};
    const struct lr_found none = {0};
    const uint64_t border = lr_load(&view.stripe->border_off);
    lr_policy_remember(&view, key.place, LR_PROBATION);
    lr_store(&view.stripe->border_off, view.cache->geometry.stripe_bytes);
    lr_policy_plan(&view, &none, &making, 60000);
    CU_ASSERT(lr_share(&view) >= LR_SHARE_LEAST && lr_share(&view) <= LR_SHARE_MOST);
    lr_store(&view.stripe->border_off, border);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* Two hundred small keys, side by side on probation, all of them read after each put. */
static void what_is_read_outlasts_a_put_as_large_as_all_of_it(void) {
    struct fixture f;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, 200, 40);
    for (uint64_t key = 10000; key < 11000; key++) {
        put(&f, key, 8000 + key % 5 * 1000, 0);
        read_keys(&f, 0, 200, 3);
    }
    CU_ASSERT_EQUAL(count_there(&f, 0, 200), 200);
    fixture_check(f.one);
    fixture_destroy(&f);
}

static void pins_in_both_regions_leave_the_run_across_the_divide(void) {
    struct fixture f;
    struct lr_pin pins[5];
    stripe_of(&f, 64 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, 1000, 120);
    struct lr_view view = view_of(&f);
    const struct lr_span main = lr_region_of(&view, LR_MAIN), first = lr_region_of(&view, LR_PROBATION);
    for (unsigned i = 0; i < 5; i++) { /* in the middle of probation, and at each fifth of main */
        const uint64_t wanted = i == 0 ? (first.start + first.end) / 2 : main.start + (main.end - main.start) / 5 * i;
        uint64_t nearest = 0, best = UINT64_MAX;
        for (uint64_t key = 0; key < 1000; key++) {
            const struct lr_found found = find(&f, key);
            const uint64_t far = found.slot == NULL        ? UINT64_MAX
                                 : found.head.off > wanted ? found.head.off - wanted
                                                           : wanted - found.head.off;
            nearest = far < best ? key : nearest;
            best = far < best ? far : best;
        }
        CU_ASSERT_EQUAL_FATAL(lr_pin(f.two, &nearest, 8, &pins[i]), 0);
    }
    put_large(&f, 5000, 12000);
    CU_ASSERT(get(&f, 5000, 0));
    fixture_check(f.one);
    for (unsigned i = 0; i < 5; i++)
        lr_unpin(f.two, &pins[i]);
    put_keys(&f, 6000, 8000, 120); /* and probation comes back */
    CU_ASSERT(share_of(&f) > 20 && share_of(&f) < 33);
    fixture_check(f.one);
    fixture_destroy(&f);
}

static void what_has_expired_is_new_when_it_comes_again(void) {
    struct fixture f;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, 3000, 300);
    put(&f, 7000, 300, 500);
    read_keys(&f, 7000, 7001, 3);
    CU_ASSERT_EQUAL(lr_slot_count(f.one, find(&f, 7000).word), 3);
    put(&f, 7000, 300, 500);
    CU_ASSERT_EQUAL(lr_slot_count(f.one, find(&f, 7000).word), 3);
    lr_drive_clock(f.one, 5000);
    put(&f, 7000, 300, 500);
    CU_ASSERT(lr_slot_count(f.one, find(&f, 7000).word) <= 1);
    fixture_destroy(&f);
}

/* As look-aside clients do: what is missed is put. Returns how many were. */
static unsigned ask(struct fixture *f, uint64_t from, uint64_t to, unsigned rounds) {
    unsigned missed = 0;
    for (unsigned i = 0; i < rounds; i++)
        for (uint64_t key = from; key < to; key++)
            if (!get(f, key, 0)) {
                put(f, key, 300, 0);
                missed++;
            }
    return missed;
}

#define LOOP 1200u /* keys, of some 1400 that fit */

/* Nothing of the old is read any more, and all of the new fits: about as few misses as LRU has. Where keys lie, and who
 * is watched, is chance: the best of three. */
static void new_keys_that_are_all_read_again_take_mains_place(void) {
    unsigned least = UINT32_MAX;
    for (unsigned i = 0; i < 3; i++) {
        struct fixture f;
        unsigned missed = 0;
        stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
        ask(&f, 0, LOOP, 5);
        for (uint64_t loop = 1; loop <= 8; loop++)
            missed += ask(&f, loop * LOOP, (loop + 1) * LOOP, 5);
        least = missed < least ? missed : least;
        fixture_check(f.one);
        fixture_destroy(&f);
    }
    CU_ASSERT(least <= 8 * LOOP * 112 / 100);
}

/* What is read in between stays, however well new keys fared before. */
static void a_scan_does_not_turn_over_what_is_read(void) {
    struct fixture f;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    for (uint64_t loop = 0; loop < 5; loop++)
        ask(&f, loop * LOOP, (loop + 1) * LOOP, 5);
    const unsigned there = count_there(&f, 4 * LOOP, 5 * LOOP);
    CU_ASSERT(there > LOOP * 9 / 10);
    for (uint64_t n = 0; n < 4000; n++) {
        put(&f, 10000 + n, 300, 0);
        for (uint64_t i = 0; i < 2; i++)
            get(&f, 4 * LOOP + (2 * n + i) * 7 % LOOP, 0);
    }
    CU_ASSERT(count_there(&f, 4 * LOOP, 5 * LOOP) > there / 2);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* Three times what fits, over and over: a part of it stays and is hit. LRU would hit nothing. */
static void a_loop_that_does_not_fit_does_not_chase_itself(void) {
    struct fixture f;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    for (uint64_t loop = 0; loop < 3; loop++)
        ask(&f, loop * LOOP, (loop + 1) * LOOP, 5);
    ask(&f, 10000, 10000 + 3 * LOOP, 4);
    CU_ASSERT(ask(&f, 10000, 10000 + 3 * LOOP, 4) < 4 * 3 * LOOP * 98 / 100);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* A damaged hint costs hits, no more. */
static void watched_items_may_be_anything(void) {
    struct fixture f;
    struct fixture_random random = fixture_seed("watched items");
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    for (unsigned i = 0; i < 200; i++) {
        struct sm_stripe *stripe = lr_stripe_at(f.one, 0);
        atomic_store(&stripe->trust, i % 2 == 0 ? UINT32_MAX : (uint32_t)fixture_next(&random));
        atomic_store(&stripe->silence, i % 3 == 0 ? UINT32_MAX : (uint32_t)fixture_next(&random));
        for (unsigned n = 0; n < SM_WATCHED; n++)
            atomic_store(&stripe->watched[n], (uint32_t)fixture_next(&random));
        ask(&f, 100 * i, 100 * i + 200, 2);
    }
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* ---- lfu and ttl ------------------------------------------------------------------------------------------------ */

static void lfu_prefers_what_was_read_often_to_what_was_read_lately(void) {
    unsigned left[2];
    for (unsigned i = 0; i < 2; i++) {
        struct fixture f;
        stripe_of(&f, 512 * KIB, i == 0 ? LR_POLICY_lfu : LR_POLICY_clock, LR_FAVOR_objects);
        put_keys(&f, 0, 300, 300);
        read_keys(&f, 0, 300, 40);
        for (uint64_t n = 0; n < 4500; n++) { /* each is read three times, and never again */
            put(&f, 10000 + n, 300, 0);
            read_keys(&f, 10000 + n, 10001 + n, 3);
        }
        left[i] = count_there(&f, 0, 300);
        CU_ASSERT(i != 0 || lr_slot_count(f.one, find(&f, 0).word) < 40); /* counts age */
        for (uint64_t n = 0; i == 0 && n < 200000 && count_there(&f, 0, 300) != 0; n += 1000)
            put_keys(&f, 100000 + n, 101000 + n, 300);
        CU_ASSERT(i != 0 || count_there(&f, 0, 300) == 0);
        fixture_check(f.one);
        fixture_destroy(&f);
    }
    CU_ASSERT(left[0] >= 290);
    CU_ASSERT(left[1] <= 10);
}

static void ttl_lets_go_what_expires_soonest(void) {
    struct fixture f;
    stripe_of(&f, 512 * KIB, LR_POLICY_ttl, LR_FAVOR_objects);
    for (uint64_t key = 0; key < 1380; key++) /* one in three lives long, one short, one for ever */
        put(&f, key, 300, key % 3 == 0 ? 1000000 : key % 3 == 1 ? 10000 : 0);
    for (uint64_t key = 10000; key < 10450; key++)
        put(&f, key, 300, 1000000);
    unsigned left[3] = {0, 0, 0};
    for (uint64_t key = 0; key < 1380; key++)
        left[key % 3] += get(&f, key, LR_PEEK);
    CU_ASSERT(left[0] > 440 && left[2] > 380);
    CU_ASSERT(left[1] < 200);
    /* With nothing that expires it evicts all the same, and at once. */
    put_keys(&f, 20000, 24000, 300);
    CU_ASSERT(count_there(&f, 23000, 24000) > 600);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* Large items that are wanted displace small ones that are not, though they are no more than a few at first. */
static void sizes_that_shift_do_not_keep_the_new_ones_out(void) {
    struct fixture f;
    struct fixture_random random = fixture_seed("small, then large");
    unsigned hits = 0;
    stripe_of(&f, 2048 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, 20000, 200);
    read_keys(&f, 0, 20000, 2);
    for (unsigned n = 0; n < 8000; n++) {
        const uint64_t key = 100000 + fixture_below(&random, 90); /* all of them fit */
        const bool hit = get(&f, key, 0);
        hits += n >= 4000 && hit;
        if (!hit)
            put(&f, key, 20000, 0);
    }
    CU_ASSERT(hits > 3000);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* Puts a key that comes back from a region. */
static void put_again(struct fixture *f, uint64_t key, size_t len, enum lr_region from) {
    struct lr_view view = view_of(f);
    lr_policy_remember(&view, lr_key_of(f->one, &key, 8).place, from);
    put(f, key, len, 0);
}

static void large_ones_that_come_back_are_wanted_until_small_ones_do(void) {
    struct fixture f;
    unsigned in_main = 0;
    stripe_of(&f, 512 * KIB, LR_POLICY_s3, LR_FAVOR_objects);
    put_keys(&f, 0, 3000, 300);
    sm_u32 *wanted = &lr_stripe_at(f.one, 0)->wanted;
    CU_ASSERT_EQUAL(atomic_load(wanted), 0);
    atomic_store(&lr_stripe_at(f.one, 0)->quiet, 0);
    for (uint64_t key = 10000; key < 10170; key++) {
        put_again(&f, key, 900, LR_PROBATION);
        in_main += is_in(&f, key, LR_MAIN);
    }
    CU_ASSERT(in_main < 10); /* where main had a hole */
    for (uint64_t key = 20000; key < 20010; key++) {
        put_again(&f, key, 900, LR_PROBATION);
        CU_ASSERT(is_in(&f, key, LR_MAIN));
    }
    CU_ASSERT_EQUAL(atomic_load(wanted), 540);
    put(&f, 30000, 300, 0);
    put_again(&f, 30001, 300, LR_PROBATION);
    CU_ASSERT_EQUAL(atomic_load(wanted), 538);
    put_again(&f, 30002, 300, LR_MAIN);
    CU_ASSERT_EQUAL(atomic_load(wanted), 474);
    in_main = 0;
    for (uint64_t key = 40000; key < 40010; key++) {
        put_again(&f, key, 900, LR_PROBATION);
        in_main += is_in(&f, key, LR_MAIN);
    }
    CU_ASSERT(in_main < 5);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* ---- all of them ------------------------------------------------------------------------------------------------ */

static void every_policy_takes_any_size_and_stays_healthy(void) {
    static const enum lr_policy policies[] = {LR_POLICY_s3, LR_POLICY_clock, LR_POLICY_lfu, LR_POLICY_ttl};
    static const size_t phases[] = {40, 30000, 40, 300, 5000, 30};
    for (unsigned i = 0; i < 8; i++) {
        struct fixture f;
        struct lr_stat stat;
        struct fixture_random random = fixture_seed("sizes by policy");
        if (FIXTURE_SANITIZED && i % 2 != i / 2 % 2)
            continue; /* each policy once */
        stripe_of(&f, 1024 * KIB, policies[i / 2], i % 2 ? LR_FAVOR_bytes : LR_FAVOR_objects);
        const size_t most = lr_max_value(f.one, 8);
        uint8_t *large = calloc(1, most);
        for (unsigned phase = 0; phase < 6; phase++) {
            for (uint64_t n = 0; n < 2 * 1024 * KIB / (phases[phase] + 40); n++) {
                const uint64_t key = fixture_below(&random, 1u << 14);
                put(&f, key, 1 + fixture_below(&random, 2 * phases[phase]),
                    n % 5 ? 0 : 1 + fixture_below(&random, 900));
                get(&f, fixture_below(&random, 1u << 14), 0);
                if (n % 9 == 0)
                    lr_delete(f.one, &key, 8);
            }
            lr_stat(f.one, &stat);
            CU_ASSERT(stat.payload_bytes > 1024 * KIB * 30 / 100);
            struct lr_put whole = {.key = "whole", .key_len = 5, .value = large, .value_len = most - 32};
            CU_ASSERT_EQUAL(lr_put(f.one, &whole), 0);
            fixture_check(f.one);
            lr_drive_clock(f.one, 2000 + 1000 * phase);
            lr_drive_clock(f.two, 2000 + 1000 * phase);
        }
        free(large);
        fixture_destroy(&f);
    }
}

/* ---- bytes ------------------------------------------------------------------------------------------------------ */

#define PHASE_KEYS 40000u /* of each phase: its first is the phase's number times this */

/* What is there, byte by byte: key and value, block, and that nothing else is anywhere. Returns the payload. */
static uint64_t account_for_every_byte(struct fixture *f, const size_t *lens, unsigned phases) {
    uint64_t items = 0, payload = 0, blocks = 0;
    struct lr_stat stat;
    for (uint64_t key = 0; key < (uint64_t)phases * PHASE_KEYS; key++)
        if (get(f, key, LR_PEEK)) {
            const uint64_t bytes = sizeof key + lens[key / PHASE_KEYS];
            items++;
            payload += bytes;
            blocks += (sizeof(struct sm_block) + bytes + SM_GRANULE - 1) / SM_GRANULE * SM_GRANULE;
        }
    lr_stat(f->one, &stat);
    CU_ASSERT_EQUAL(stat.items, items);
    CU_ASSERT_EQUAL(stat.payload_bytes, payload);
    CU_ASSERT_EQUAL(stat.item_bytes, blocks);
    CU_ASSERT_EQUAL(stat.index_bytes + stat.item_bytes + stat.hole_bytes + stat.gap_bytes, stat.cache_bytes);
    fixture_check(f->one);
    return payload;
}

/* Twice what fits, of one length, some of it read. */
static void put_phase(struct fixture *f, struct fixture_random *random, unsigned phase, size_t len) {
    const uint64_t first = (uint64_t)phase * PHASE_KEYS, count = 2 * f->options.size / (len + 32);
    for (uint64_t n = 0; n < count; n++) {
        put(f, first + n % PHASE_KEYS, len, 0);
        get(f, first + fixture_below(random, n + 1) % PHASE_KEYS, 0);
    }
}

static uint64_t payload_of_fresh(enum lr_policy policy, struct fixture_random *random, size_t len) {
    struct fixture f;
    stripe_of(&f, 4096 * KIB, policy, LR_FAVOR_objects);
    put_phase(&f, random, 0, len);
    const uint64_t payload = account_for_every_byte(&f, &len, 1);
    fixture_destroy(&f);
    return payload;
}

/* After twice the segment's bytes; some 3 % are what the index keeps. */
#define LEAST_OF_FRESH 0.87

/* Small, large and small again, one hot size after the other, and deletes of every other item, of runs, and at random
 * in between. */
static void sizes_that_shift_leave_the_payload_what_it_was(void) {
    static const size_t lens[] = {200, 20000, 200, 3000, 500, 700, 20000, 1000, 200};
    enum { PHASES = sizeof lens / sizeof lens[0] };
    for (unsigned i = 0; i < (FIXTURE_SANITIZED ? 1u : 2u); i++) {
        const enum lr_policy policy = i == 0 ? LR_POLICY_s3 : LR_POLICY_clock;
        struct fixture f;
        struct fixture_random random = fixture_seed("shifting sizes");
        stripe_of(&f, 4096 * KIB, policy, LR_FAVOR_objects);
        bool kept = true;
        for (unsigned phase = 0; phase < (FIXTURE_SANITIZED ? 4 : PHASES) && kept; phase++) {
            put_phase(&f, &random, phase, lens[phase]);
            const double share = (double)account_for_every_byte(&f, lens, phase + 1) /
                                 (double)payload_of_fresh(policy, &random, lens[phase]);
            kept = share >= LEAST_OF_FRESH;
            if (!kept)
                printf("\n    %s, phase %u, values of %zu: %.3f of fresh\n", lr_policy_name(policy), phase, lens[phase],
                       share);
            CU_ASSERT(kept);
            for (uint64_t key = (uint64_t)phase * PHASE_KEYS; key < (phase + 1u) * (uint64_t)PHASE_KEYS; key++)
                if (phase % 3 == 0 ? key % 2 == 0 : phase % 3 == 1 ? key / 64 % 2 == 0 : fixture_below(&random, 3) == 0)
                    lr_delete(f.one, &key, sizeof key);
            account_for_every_byte(&f, lens, phase + 1);
            put(&f, (uint64_t)phase * PHASE_KEYS, lens[phase], 0);
        }
        fixture_destroy(&f);
    }
}

static void a_million_small_items_cost_forty_bytes_each(void) {
    struct fixture f;
    struct lr_stat stat;
    struct lr_options options = lr_options_default();
    f = (struct fixture){0};
    const uint64_t items = FIXTURE_SANITIZED ? 100000 : 1000000;
    options.size = 150 * items;
    fixture_create_with(&f, &options);
    for (uint64_t key = 0; key < items; key++) {
        char name[17];
        snprintf(name, sizeof name, "%016llx", (unsigned long long)(key * 0x9e3779b97f4a7c15u));
        struct lr_put p = {.key = name, .key_len = 16, .value = value, .value_len = 50 + key % 64};
        if (lr_put(f.one, &p) != 0)
            CU_FAIL_FATAL("put");
    }
    lr_stat(f.one, &stat);
    CU_ASSERT_EQUAL(stat.items, items);
    CU_ASSERT(stat.item_bytes - stat.payload_bytes + stat.index_bytes <= 40 * stat.items);
    fixture_destroy(&f);
}

void larder_suite_42_policies(void) {
    CU_pSuite suite = CU_add_suite("42_policies", NULL, NULL);
    CU_ADD_TEST(suite, what_was_read_survives_a_scan);
    CU_ADD_TEST(suite, new_items_are_on_probation_until_they_are_read);
    CU_ADD_TEST(suite, what_is_read_often_stays_as_long_again);
    CU_ADD_TEST(suite, a_count_that_is_watched_can_rise);
    CU_ADD_TEST(suite, what_comes_back_goes_to_main);
    CU_ADD_TEST(suite, the_newest_ghost_counts);
    CU_ADD_TEST(suite, small_items_need_no_probation_and_large_ones_are_few);
    CU_ADD_TEST(suite, what_was_read_outlasts_giants);
    CU_ADD_TEST(suite, a_giant_stays_until_it_is_replaced);
    CU_ADD_TEST(suite, a_border_at_the_end_is_no_fault);
    CU_ADD_TEST(suite, what_a_giant_pushes_out_says_nothing_of_probation);
    CU_ADD_TEST(suite, to_favor_bytes_is_to_ignore_sizes);
    CU_ADD_TEST(suite, nothing_goes_while_there_is_room);
    CU_ADD_TEST(suite, probation_follows_its_share);
    CU_ADD_TEST(suite, ghosts_move_the_share_within_its_bounds);
    CU_ADD_TEST(suite, an_index_that_grows_leaves_probation_its_share);
    CU_ADD_TEST(suite, one_put_promotes_so_many_and_no_more);
    CU_ADD_TEST(suite, what_is_read_outlasts_a_put_as_large_as_all_of_it);
    CU_ADD_TEST(suite, pins_in_both_regions_leave_the_run_across_the_divide);
    CU_ADD_TEST(suite, what_has_expired_is_new_when_it_comes_again);
    CU_ADD_TEST(suite, new_keys_that_are_all_read_again_take_mains_place);
    CU_ADD_TEST(suite, a_scan_does_not_turn_over_what_is_read);
    CU_ADD_TEST(suite, a_loop_that_does_not_fit_does_not_chase_itself);
    CU_ADD_TEST(suite, watched_items_may_be_anything);
    CU_ADD_TEST(suite, lfu_prefers_what_was_read_often_to_what_was_read_lately);
    CU_ADD_TEST(suite, ttl_lets_go_what_expires_soonest);
    CU_ADD_TEST(suite, sizes_that_shift_do_not_keep_the_new_ones_out);
    CU_ADD_TEST(suite, large_ones_that_come_back_are_wanted_until_small_ones_do);
    CU_ADD_TEST(suite, every_policy_takes_any_size_and_stays_healthy);
    CU_ADD_TEST(suite, sizes_that_shift_leave_the_payload_what_it_was);
    CU_ADD_TEST(suite, a_million_small_items_cost_forty_bytes_each);
}
