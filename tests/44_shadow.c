/* SPDX-License-Identifier: MIT */
/*
 * The two ways of s3 to choose what goes: does the one take the other's place where it would miss less, and only there?
 *
 * Which keys are sampled is chance, so the workloads here leave no doubt.
 */
#include "fixture.h"

#include "bucket.h"
#include "stripe.h"

#define KIB (UINT64_C(1) << 10)

#define HERE (UINT64_C(1) << 50) /* of a shadow */
#define BY_AGE (UINT64_C(1) << 51)
#define BY_RULES (UINT64_C(1) << 52)
#define MAIN (UINT64_C(1) << 53)

static uint8_t value[300];

static void stripe_of_s3(struct fixture *f) {
    struct lr_options options = lr_options_default();
    *f = (struct fixture){0};
    options.size = 512 * KIB; /* some 1400 items */
    options.stripes = 1;
    options.policy = LR_POLICY_s3;
    fixture_create_with(f, &options);
}

static void put(struct fixture *f, uint64_t key) {
    struct lr_put p = {.key = &key, .key_len = sizeof key, .value = value, .value_len = sizeof value};
    CU_ASSERT_EQUAL(lr_put(f->one, &p), 0);
}

static void put_keys(struct fixture *f, uint64_t from, uint64_t to) {
    for (uint64_t key = from; key < to; key++)
        put(f, key);
}

static bool get(struct fixture *f, uint64_t key) {
    return lr_get(f->two, &key, sizeof key, value, sizeof value, NULL, 0) == 0;
}

/* One key after the other, over and over; what is missed is put. Returns the misses. */
static unsigned ask(struct fixture *f, uint64_t from, uint64_t to, unsigned rounds) {
    unsigned missed = 0;
    for (unsigned i = 0; i < rounds; i++)
        for (uint64_t key = from; key < to; key++)
            if (!get(f, key)) {
                put(f, key);
                missed++;
            }
    return missed;
}

static int32_t score_of(const struct fixture *f) {
    return (int32_t)atomic_load(&f->one->header->policy_score);
}

static bool is_by_age(struct fixture *f) {
    const struct lr_view view = lr_view_of(f->one, 0);
    return lr_shadow_by_age(&view);
}

/* A key that comes is asked for once more when so many others have come. Half of the requests miss at best. */
static unsigned ask_twice(struct fixture *f, uint64_t from, uint64_t to, uint64_t later) {
    unsigned missed = 0;
    for (uint64_t key = from; key < to + later; key++) {
        missed += key < to ? ask(f, key, key + 1, 1) : 0;
        missed += key >= from + later ? ask(f, key - later, key - later + 1, 1) : 0;
    }
    return missed;
}

/* 400 keys that are read over and over, and four times as many that come once. */
static unsigned ask_hot_and_scan(struct fixture *f, uint64_t from, uint64_t to) {
    unsigned missed = 0;
    for (uint64_t key = from; key < to; key++) {
        ask(f, key, key + 1, 1);
        if (key % 4 == 0)
            missed += ask(f, key / 4 * 7 % 400, key / 4 * 7 % 400 + 1, 1);
    }
    return missed;
}

/* What LRU has and the rules let go of is noticed: then there is no second miss. */
static void what_comes_again_late_is_kept_once_it_was_missed_often(void) {
    struct fixture f;
    stripe_of_s3(&f);
    atomic_store(&lr_stripe_at(f.one, 0)->filled, 1); /* nothing was learnt before */
    CU_ASSERT_FALSE(is_by_age(&f));
    ask_twice(&f, 1000, 13000, 500);
    CU_ASSERT(is_by_age(&f));
    CU_ASSERT(ask_twice(&f, 20000, 26000, 500) < 6000 * 110 / 100);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* And where the rules are the better choice they are taken again. */
static void what_is_hot_between_scans_brings_the_rules_back(void) {
    struct fixture f;
    stripe_of_s3(&f);
    ask_twice(&f, 1000, 13000, 700);
    CU_ASSERT(is_by_age(&f));
    for (uint64_t key = 100000; key < 160000 && is_by_age(&f); key += 4)
        ask_hot_and_scan(&f, key, key + 4);
    CU_ASSERT_FALSE(is_by_age(&f));
    CU_ASSERT(score_of(&f) > -15 && score_of(&f) < -5); /* with credit */
    ask_hot_and_scan(&f, 160000, 200000);
    ask_hot_and_scan(&f, 200000, 260000);                       /* what is hot finds its way into main */
    CU_ASSERT(ask_hot_and_scan(&f, 260000, 280000) < 5000 / 3); /* by age it is missed each time */
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* Nor are they given up. */
static void scans_do_not_end_the_rules(void) {
    struct fixture f;
    stripe_of_s3(&f);
    atomic_store(&lr_stripe_at(f.one, 0)->filled, 1);
    ask_hot_and_scan(&f, 100000, 160000);
    CU_ASSERT_EQUAL(atomic_load(&f.one->header->policy_turn), 0);
    CU_ASSERT(score_of(&f) >= -20 && score_of(&f) < -12); /* it takes twice as much as at first to end them */
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* What is there, is read, and would not be there by the other way, is evidence against that. */
static void what_only_the_way_in_use_hits_speaks_for_it(void) {
    struct fixture f;
    stripe_of_s3(&f);
    struct sm_stripe *stripe = lr_stripe_at(f.one, 0);
    atomic_store(&stripe->filled, 1);
    put_keys(&f, 0, 150);
    CU_ASSERT_EQUAL(ask(&f, 0, 150, 1), 0);
    for (unsigned i = 0; i < SM_SHADOWS; i++) /* as if the other way had nothing */
        lr_store(&stripe->shadows[i].key, lr_load(&stripe->shadows[i].key) & ~BY_AGE);
    put_keys(&f, 1000, 1200);
    CU_ASSERT(score_of(&f) < 0);
    fixture_check(f.one);
    fixture_destroy(&f);
}

static int32_t fill_score_of(const struct fixture *f) {
    return (int32_t)atomic_load(&lr_stripe_at(f->one, 0)->fill_score);
}

static bool is_filled(const struct fixture *f) {
    return atomic_load(&lr_stripe_at(f->one, 0)->filled) != 0;
}

/* One loop after the other while it fills, each of a third of what is there or less: a full cache begins by age. */
static void loops_that_fill_it_are_learnt_from(void) {
    struct fixture f;
    uint64_t key = 0;
    stripe_of_s3(&f);
    for (uint64_t keys = 50; !is_filled(&f); key += keys, keys += keys < 300 ? 25 : 0) {
        CU_ASSERT_FATAL(key < 5000 && !is_by_age(&f));
        ask(&f, key, key + keys, 3);
    }
    CU_ASSERT(fill_score_of(&f) > 0);
    CU_ASSERT(atomic_load(&f.one->header->policy_turn) > 0); /* perhaps it has changed back by now */
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* While it fills, what only one way would have hit speaks for that, and for half as much when half is sampled. */
static void each_way_is_heard_while_it_fills(void) {
    static const uint64_t ways[2] = {BY_AGE, BY_RULES | MAIN};
    for (unsigned way = 0; way < 2; way++) {
        struct fixture f;
        stripe_of_s3(&f);
        struct sm_stripe *stripe = lr_stripe_at(f.one, 0);
        put_keys(&f, 0, 250);
        CU_ASSERT_EQUAL(ask(&f, 0, 250, 1), 0);
        for (unsigned i = 0; i < SM_SHADOWS; i++) {
            const uint64_t key = lr_load(&stripe->shadows[i].key) & ~(BY_AGE | BY_RULES | MAIN);
            lr_store(&stripe->shadows[i].key, key == 0 ? 0 : key | ways[way]);
        }
        put_keys(&f, 1000, 1030); /* each is looked at */
        const int32_t score = fill_score_of(&f);
        CU_ASSERT(way == 0 ? score > 50 : score < -50);
        for (uint64_t key = 2000; atomic_load(&stripe->shadow_shift) == 0 && key < 2200; key++)
            put(&f, key);
        CU_ASSERT_EQUAL(atomic_load(&stripe->shadow_shift), 1);
        CU_ASSERT(abs(fill_score_of(&f)) < abs(score) * 3 / 4);
        CU_ASSERT_EQUAL(score_of(&f), 0);
        fixture_check(f.one);
        fixture_destroy(&f);
    }
}

/* Nothing is read: no reason for the rules. */
static void what_says_nothing_while_it_fills_leaves_it_to_age(void) {
    struct fixture f;
    stripe_of_s3(&f);
    put_keys(&f, 0, 3000);
    CU_ASSERT(is_filled(&f) && is_by_age(&f));
    CU_ASSERT_EQUAL(atomic_load(&f.one->header->policy_turn), 1);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* What is hot, but each time later than LRU would have kept it in two thirds, is the rules' merit: they stay. */
static void what_the_rules_keep_while_it_fills_leaves_it_to_them(void) {
    struct fixture f;
    uint64_t next = 50;
    stripe_of_s3(&f);
    ask(&f, 0, 150, 2);
    for (uint64_t key = 0; !is_filled(&f); key++) {
        CU_ASSERT_FATAL(key < 5000);
        put(&f, 1000 + key);
        if (key != next)
            continue;
        ask(&f, 0, 150, 1);
        next = (key + 150) * 9 / 5 - 150;
    }
    CU_ASSERT(fill_score_of(&f) < -3);
    CU_ASSERT(score_of(&f) >= 0 && score_of(&f) < 12);
    CU_ASSERT_EQUAL(atomic_load(&f.one->header->policy_turn), 0);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* 20 of a stripe that saw no difference; more if age was ahead, less if the rules were: that the more, the more stripes
 * there are; never more than twice as much, nor what takes the score below 0. */
static void what_is_said_when_it_is_full_adds_up(void) {
    static const struct {
        unsigned stripes;
        int32_t fill, before, after;
        uint32_t turn;
    } cases[] = {{1, 0, 0, 0, 1},      {1, -1, 0, 17, 0},       {1, -7, 0, 0, 0},    {1, -7, 5, 4, 0},
                 {1, -7, -3, -3, 0},   {2, -1, 0, 17, 0},       {4, -1, 0, 14, 0},   {16, 0, 0, 20, 0},
                 {16, 0, -50, -30, 0}, {16, 4, 0, 36, 0},       {16, 50, 7, 47, 0},  {16, -1, 30, 38, 0},
                 {16, -4, 100, 72, 0}, {16, -4, 10, 0, 0},      {16, -448, 0, 0, 0}, {16, 449, 9, 9, 0},
                 {16, -449, 9, 9, 0},  {16, INT32_MIN, 9, 9, 0}};
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lr_options options = lr_options_default();
        struct fixture f = {0};
        options.size = cases[i].stripes * 64 * KIB;
        options.stripes = cases[i].stripes;
        options.policy = LR_POLICY_s3;
        fixture_create_with(&f, &options);
        struct lr_view view = lr_view_of(f.one, 0);
        atomic_store(&view.stripe->fill_score, (uint32_t)cases[i].fill);
        atomic_store(&f.one->header->policy_score, (uint32_t)cases[i].before);
        lr_shadow_gone(&view, 0, false);
        CU_ASSERT(is_filled(&f));
        CU_ASSERT_EQUAL(score_of(&f), cases[i].after);
        CU_ASSERT_EQUAL(atomic_load(&f.one->header->policy_turn), cases[i].turn);
        fixture_destroy(&f);
    }
}

/* What came last and was not read yet has no count by the rules, and is not what goes when age takes over: a loop that
 * fits, and was being read when the stripe was full, is missed once. */
static void what_came_first_goes_first_when_it_was_full(void) {
    struct fixture f;
    unsigned missed = 0;
    stripe_of_s3(&f);
    ask(&f, 0, 800, 3);
    for (uint64_t key = 1000; key < 1800; key++)
        missed += ask(&f, key, key + 1, 1);
    CU_ASSERT(is_filled(&f) && is_by_age(&f));
    missed += ask(&f, 1000, 1800, 1);
    CU_ASSERT(missed < 800 * 110 / 100);
    struct lr_view view = lr_view_of(f.one, 0);
    CU_ASSERT(lr_shadow_age_limit(&view) > 0);
    for (unsigned i = 0; i < 8; i++)
        lr_shadow_passed(&view, lr_arena_bytes(&view) / 7, 0);
    CU_ASSERT_EQUAL(lr_shadow_age_limit(&view), 0); /* it falls with the counts */
    atomic_store(&view.stripe->aged_limit, 1000);
    CU_ASSERT_EQUAL(lr_shadow_age_limit(&view), 0); /* damaged */
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* Where the rules have chosen for long, what they keep is not older than what else is there: the hands go on. */
static void what_the_rules_chose_does_not_go_at_once(void) {
    struct fixture f;
    stripe_of_s3(&f);
    put_keys(&f, 0, 4000);
    atomic_store(&f.one->header->policy_turn, 2);
    put_keys(&f, 4000, 6000);
    CU_ASSERT_FALSE(is_by_age(&f));
    atomic_store(&f.one->header->policy_turn, 3);
    put_keys(&f, 6000, 6001);
    CU_ASSERT(is_by_age(&f));
    CU_ASSERT_EQUAL(lr_shadow_age_limit(&(struct lr_view){.stripe = lr_stripe_at(f.one, 0)}), 0);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* How many entries have a count from `from` to `to`; if `set` is one, they have that then. */
static unsigned with_counts(struct fixture *f, unsigned from, unsigned to, unsigned set) {
    const struct lr_view view = lr_view_of(f->one, 0);
    unsigned n = 0;
    for (uint32_t bucket = 0; bucket < lr_buckets(&view); bucket++)
        for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
            sm_u64 *slot = lr_bucket_at(&view, bucket) + i;
            const uint64_t word = lr_load(slot), count = lr_slot_count(f->one, word);
            if (lr_slot_is_empty(word) || count < from || count > to)
                continue;
            n++;
            if (set != 0)
                lr_store(slot, word + (set - count) * SM_SLOT_RECENCY_ONE);
        }
    return n;
}

/* By the rules, a count that age has left is worn as one of theirs: seven becomes two, not six. */
static void what_age_counted_wears_as_by_the_rules(void) {
    struct fixture f;
    stripe_of_s3(&f);
    atomic_store(&lr_stripe_at(f.one, 0)->filled, 1);
    put_keys(&f, 0, 1200);
    CU_ASSERT_EQUAL(with_counts(&f, 0, 15, 7), 1200);
    for (uint64_t key = 0; key < 8000; key++) { /* main takes what comes back: its hand goes round */
        put_keys(&f, 10000 + key % 2000, 10001 + key % 2000);
        atomic_store(&f.one->header->policy_score, 0); /* whatever the sample says of such requests */
        if (key % 100 == 0)
            CU_ASSERT_EQUAL(with_counts(&f, 4, 6, 0), 0);
    }
    CU_ASSERT(with_counts(&f, 7, 7, 0) < 900);
    CU_ASSERT_FALSE(is_by_age(&f));
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* Only what goes for want of room ends the filling. */
static void what_is_deleted_leaves_it_filling(void) {
    struct fixture f;
    stripe_of_s3(&f);
    put_keys(&f, 0, 500);
    for (uint64_t key = 0; key < 400; key++)
        CU_ASSERT_EQUAL(lr_delete(f.one, &key, sizeof key), 0);
    put_keys(&f, 1000, 1500);
    CU_ASSERT_FALSE(is_filled(&f));
    put_keys(&f, 2000, 3500);
    CU_ASSERT(is_filled(&f));
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* A few large items are most of a sample: while it fills they are neither counted nor take room from others there. */
static void large_items_say_nothing_while_it_fills(void) {
    static uint8_t large[6000];
    struct fixture f;
    stripe_of_s3(&f);
    put_keys(&f, 0, 250);
    CU_ASSERT_EQUAL(fill_score_of(&f), 0);
    for (uint64_t key = 1000; key < 1012; key++) {
        struct lr_put p = {.key = &key, .key_len = sizeof key, .value = large, .value_len = sizeof large};
        CU_ASSERT_EQUAL(lr_put(f.one, &p), 0);
        CU_ASSERT_EQUAL(lr_get(f.two, &key, sizeof key, large, sizeof large, NULL, 0), 0);
    }
    put_keys(&f, 2000, 2030);
    struct sm_stripe *stripe = lr_stripe_at(f.one, 0);
    unsigned sampled = 0;
    for (unsigned i = 0; i < SM_SHADOWS; i++) {
        const uint64_t shadow = lr_load(&stripe->shadows[i].key), when = lr_load(&stripe->shadows[i].when);
        if ((shadow & HERE) == 0 || (when & 0xffffff) * SM_GRANULE < sizeof large)
            continue;
        sampled++;
        CU_ASSERT_EQUAL(shadow & (BY_AGE | BY_RULES), 0);
    }
    CU_ASSERT(sampled > 0);
    CU_ASSERT_FALSE(is_filled(&f));
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* By age, a loop that fits beside the one before it is missed once, however hot that was. */
static void counts_end_where_no_hand_comes_by(void) {
    struct fixture f;
    uint64_t first = 0;
    unsigned missed = 0;
    stripe_of_s3(&f);
    atomic_store(&f.one->header->policy_turn, 1);
    for (unsigned loop = 0; loop < 24; loop++) {
        const uint64_t keys = 300 + loop * 170 % 400;
        atomic_store(&f.one->header->policy_score, 0);
        missed += ask(&f, first, first + keys, 3);
        first += keys;
    }
    CU_ASSERT(is_by_age(&f));
    CU_ASSERT(missed < first * 1003 / 1000);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* By age, one read keeps a key as young as many do: these are asked for when two thirds of the others are new. */
static void one_read_counts_as_much_as_many(void) {
    struct fixture f;
    unsigned missed = 0;
    stripe_of_s3(&f);
    atomic_store(&f.one->header->policy_turn, 1);
    put_keys(&f, 1000, 5000);
    for (uint64_t round = 0; round < 24; round++) {
        atomic_store(&f.one->header->policy_score, 0);
        const unsigned now = ask(&f, 0, 200, 1);
        missed += round > 3 ? now : 0;
        put_keys(&f, 10000 + round * 700, 10700 + round * 700);
    }
    CU_ASSERT(is_by_age(&f));
    CU_ASSERT(missed < 20 * 200 / 20);
    CU_ASSERT_EQUAL(lr_load(&lr_stripe_at(f.one, 0)->counters[LR_S_promotions]), 0); /* each stays where it is */
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* By age, a round of the hands takes all of each count, however large the blocks are that they pass, and however high
 * damage left it. */
static void large_blocks_age_counts_as_small_ones_do(void) {
    struct fixture f;
    unsigned young = 0;
    stripe_of_s3(&f);
    atomic_store(&f.one->header->policy_turn, 1);
    put_keys(&f, 0, 3000);
    put_keys(&f, 2000, 3000);
    struct lr_view view = lr_view_of(f.one, 0);
    for (uint32_t bucket = 0; bucket < lr_buckets(&view); bucket++)
        for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
            sm_u64 *slot = lr_bucket_at(&view, bucket) + i;
            if (!lr_slot_is_empty(lr_load(slot)))
                lr_store(slot, lr_load(slot) + (9 - lr_slot_count(f.one, lr_load(slot))) * SM_SLOT_RECENCY_ONE);
        }
    CU_ASSERT(lr_buckets(&view) > 4 * 64 / 7); /* more than four steps of 64 can go over seven times */
    for (unsigned i = 0; i < 4; i++)
        lr_shadow_passed(&view, lr_arena_bytes(&view) / 4, 0);
    for (uint32_t bucket = 0; bucket < lr_buckets(&view); bucket++)
        for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
            const uint64_t word = lr_load(lr_bucket_at(&view, bucket) + i);
            young += !lr_slot_is_empty(word) && lr_slot_count(f.one, word) > 0;
        }
    CU_ASSERT_EQUAL(young, 0);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* By age, counts fall by what goes; by what stays only if few have none left, or much stays at a stretch. */
static void what_stays_wears_no_counts(void) {
    struct fixture f;
    stripe_of_s3(&f);
    atomic_store(&f.one->header->policy_turn, 1);
    put_keys(&f, 0, 1000);
    struct lr_view view = lr_view_of(f.one, 0);
    struct sm_stripe *stripe = view.stripe;
    const uint64_t fall = lr_arena_bytes(&view) / 7;
    const uint32_t before = atomic_load(&stripe->aged_seen);
    lr_shadow_passed(&view, fall / 2, 1);
    lr_shadow_passed(&view, fall / 2, lr_arena_bytes(&view) / 64);
    CU_ASSERT_EQUAL(atomic_load(&stripe->aged_seen), before);
    lr_shadow_passed(&view, fall / 8, lr_arena_bytes(&view) / 64 + 1);
    CU_ASSERT(atomic_load(&stripe->aged_seen) > before + 50);
    lr_shadow_passed(&view, fall, 0);
    CU_ASSERT_EQUAL(atomic_load(&stripe->aged_few), 1); /* all are new */
    const uint32_t after = atomic_load(&stripe->aged_seen);
    lr_shadow_passed(&view, fall / 8, 1);
    CU_ASSERT(atomic_load(&stripe->aged_seen) > after);
    for (unsigned i = 0; i < 7; i++)
        lr_shadow_passed(&view, fall, 1);
    CU_ASSERT_EQUAL(atomic_load(&stripe->aged_few), 0);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* By age, nothing goes for a probation that should be smaller. Where its hand stands is chance, so there are several.
 */
static void no_more_goes_than_comes(void) {
    for (unsigned i = 0; i < 8; i++) {
        struct fixture f;
        stripe_of_s3(&f);
        struct sm_stripe *stripe = lr_stripe_at(f.one, 0);
        atomic_store(&f.one->header->policy_turn, 1);
        put_keys(&f, 0, 3000);
        lr_store(&stripe->share, LR_SHARE_LEAST);
        const uint64_t before = lr_load(&stripe->counters[LR_S_evictions]);
        for (uint64_t n = 0; n < 300; n++) {
            for (uint64_t key = 1000; key < 3000; key++)
                get(&f, key);
            put(&f, 10000 + n);
            CU_ASSERT(lr_load(&stripe->counters[LR_S_evictions]) - before <= n + 10);
        }
        CU_ASSERT(is_by_age(&f));
        fixture_check(f.one);
        fixture_destroy(&f);
    }
}

/* What was deleted is missed by whoever chooses: no sign for anything. */
static void what_is_deleted_says_nothing(void) {
    struct fixture f;
    stripe_of_s3(&f);
    atomic_store(&lr_stripe_at(f.one, 0)->filled, 1);
    ask(&f, 0, 3000, 1);
    const int32_t before = score_of(&f);
    for (uint64_t key = 2900; key < 3000; key++)
        for (unsigned i = 0; i < 20; i++) {
            lr_delete(f.one, &key, sizeof key);
            put(&f, key);
        }
    CU_ASSERT_EQUAL(score_of(&f), before);
    CU_ASSERT_EQUAL(atomic_load(&f.one->header->policy_turn), 0);
    fixture_check(f.one);
    fixture_destroy(&f);
}

/* Requests that suit age and the rules by turns, each just until it has its way, find the rules harder to bring back
 * each time: else the ways would change for ever, and be wrong for most of the time. */
static void rules_that_lost_again_and_again_are_trusted_less(void) {
    struct fixture f;
    uint64_t key = 1000;
    unsigned scanned[6] = {0};
    stripe_of_s3(&f);
    for (unsigned n = 0; n < 6; n++) {
        for (unsigned i = 0; i < 20 && !is_by_age(&f); i++, key += 2000) {
            atomic_store(&lr_stripe_at(f.one, 0)->trust, 0); /* else the rules may come to hold such loops too */
            ask(&f, key, key + 1300, 2);                     /* one that just fits */
        }
        CU_ASSERT(is_by_age(&f));
        for (; scanned[n] < 60000 && is_by_age(&f); scanned[n] += 400, key += 400)
            ask_hot_and_scan(&f, 10000000 + key, 10000000 + key + 400);
        CU_ASSERT_FALSE(is_by_age(&f));
    }
    CU_ASSERT(scanned[3] + scanned[4] + scanned[5] > 2 * (scanned[0] + scanned[1]));
    fixture_check(f.one);
    fixture_destroy(&f);
}

static unsigned others(const struct sm_stripe *stripe) {
    unsigned n = 0;
    for (unsigned i = 0; i < SM_SHADOWS; i++)
        n += (atomic_load(&stripe->shadows[i].key) & BY_AGE) != 0;
    return n;
}

/* However far the other way's books are from what there is, and however many reads are seen at once: one put lets go
 * of no more than six of them, each of which takes a look at all. */
static void one_put_settles_no_more_than_some(void) {
    struct fixture f;
    stripe_of_s3(&f);
    struct sm_stripe *stripe = lr_stripe_at(f.one, 0);
    atomic_store(&stripe->filled, 1);
    ask(&f, 0, 3000, 2);
    for (unsigned round = 0; round < 20; round++) {
        for (uint64_t key = 0; key < 3000; key++)
            get(&f, key);
        /* The other way has none of what is there, and much too much else. */
        for (unsigned i = 0; i < SM_SHADOWS; i++) {
            const uint64_t key = lr_load(&stripe->shadows[i].key), other = (key == 0 ? i + 1 : key) | BY_AGE;
            lr_store(&stripe->shadows[i].key, key & HERE ? key & ~BY_AGE : other);
            lr_store(&stripe->shadows[i].when, (lr_load(&stripe->shadows[i].when) & ~(uint64_t)UINT32_MAX) | 4000);
        }
        atomic_store(&stripe->shadow_due, 512 * KIB / SM_GRANULE / 16);
        const unsigned before = others(stripe);
        put(&f, 100000 + round);
        const unsigned after = others(stripe);
        CU_ASSERT(after + 6 >= before);
    }
    fixture_check(f.one);
    fixture_destroy(&f);
}

static void garble_shadows(struct lr_cache *cache, struct sm_stripe *stripe, struct fixture_random *random) {
    for (unsigned n = 0; n < SM_SHADOWS; n++) {
        lr_store(&stripe->shadows[n].key, fixture_next(random));
        lr_store(&stripe->shadows[n].when, fixture_next(random));
    }
    sm_u32 *words[] = {&cache->header->policy_turn, &cache->header->policy_score,
                       &stripe->policy_turn,        &stripe->shadow_clock,
                       &stripe->shadow_shift,       &stripe->shadow_at,
                       &stripe->shadow_due,         &stripe->aged_at,
                       &stripe->aged_due,           &stripe->filled,
                       &stripe->fill_score};
    for (unsigned n = 0; n < sizeof words / sizeof words[0]; n++)
        atomic_store(words[n], (uint32_t)fixture_next(random));
}

/* A damaged hint costs hits, no more. */
static void shadows_may_be_anything(void) {
    struct fixture f;
    struct fixture_random random = fixture_seed("shadows");
    stripe_of_s3(&f);
    for (unsigned i = 0; i < 200; i++) {
        garble_shadows(f.one, lr_stripe_at(f.one, 0), &random);
        ask(&f, 100 * i, 100 * i + 200, 2);
    }
    fixture_check(f.one);
    fixture_destroy(&f);
}

void larder_suite_44_shadow(void);
void larder_suite_44_shadow(void) {
    CU_pSuite suite = CU_add_suite("44_shadow", NULL, NULL);
    CU_ADD_TEST(suite, what_comes_again_late_is_kept_once_it_was_missed_often);
    CU_ADD_TEST(suite, what_is_hot_between_scans_brings_the_rules_back);
    CU_ADD_TEST(suite, scans_do_not_end_the_rules);
    CU_ADD_TEST(suite, what_only_the_way_in_use_hits_speaks_for_it);
    CU_ADD_TEST(suite, loops_that_fill_it_are_learnt_from);
    CU_ADD_TEST(suite, each_way_is_heard_while_it_fills);
    CU_ADD_TEST(suite, what_says_nothing_while_it_fills_leaves_it_to_age);
    CU_ADD_TEST(suite, what_the_rules_keep_while_it_fills_leaves_it_to_them);
    CU_ADD_TEST(suite, what_is_said_when_it_is_full_adds_up);
    CU_ADD_TEST(suite, what_came_first_goes_first_when_it_was_full);
    CU_ADD_TEST(suite, what_the_rules_chose_does_not_go_at_once);
    CU_ADD_TEST(suite, what_age_counted_wears_as_by_the_rules);
    CU_ADD_TEST(suite, what_is_deleted_leaves_it_filling);
    CU_ADD_TEST(suite, large_items_say_nothing_while_it_fills);
    CU_ADD_TEST(suite, counts_end_where_no_hand_comes_by);
    CU_ADD_TEST(suite, one_read_counts_as_much_as_many);
    CU_ADD_TEST(suite, large_blocks_age_counts_as_small_ones_do);
    CU_ADD_TEST(suite, what_stays_wears_no_counts);
    CU_ADD_TEST(suite, no_more_goes_than_comes);
    CU_ADD_TEST(suite, what_is_deleted_says_nothing);
    CU_ADD_TEST(suite, rules_that_lost_again_and_again_are_trusted_less);
    CU_ADD_TEST(suite, one_put_settles_no_more_than_some);
    CU_ADD_TEST(suite, shadows_may_be_anything);
}
