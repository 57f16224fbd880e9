/* SPDX-License-Identifier: MIT */
/*
 * What a segment does with changes from other hosts: the rules that make replicas converge, one test each, and then
 * hosts that exchange changes in any order, with loss, repetition and local evictions.
 */
#include "fixture.h"

#include "stripe.h"

#include <string.h>

static void host(struct fixture *fixture, uint64_t size, unsigned stripes) {
    struct lr_options options = lr_options_default();
    options.size = size;
    options.stripes = stripes;
    *fixture = (struct fixture){0};
    fixture_create_with(fixture, &options);
    lr_set_replicating(fixture->one, true);
}

static struct lr_change change_of(const char *key, const char *value, uint64_t version) {
    return (struct lr_change){.key = key,
                              .value = value,
                              .key_len = (uint32_t)strlen(key),
                              .value_len = (uint32_t)strlen(value),
                              .version = version,
                              .deadline_ms = UINT64_MAX};
}

static int apply(struct lr_cache *cache, const char *key, const char *value, uint64_t version) {
    struct lr_change change = change_of(key, value, version);
    return lr_apply_put(cache, &change, 0);
}

static bool has(struct lr_cache *cache, const char *key, const char *value) {
    char text[64];
    struct lr_item item;
    if (lr_get(cache, key, strlen(key), text, sizeof text, &item, 0) != 0)
        return value == NULL;
    return value != NULL && item.value_len == strlen(value) && memcmp(text, value, item.value_len) == 0;
}

static uint64_t put(struct lr_cache *cache, const char *key, const char *value, uint64_t ttl_ms) {
    struct lr_put p = {
        .key = key, .key_len = strlen(key), .value = value, .value_len = strlen(value), .ttl_ms = ttl_ms};
    CU_ASSERT_EQUAL(lr_put(cache, &p), 0);
    return p.version;
}

/* Versions of about now. */
#define V(n) ((UINT64_C(200000000000) << 22) + ((uint64_t)(n) << 10))

static void the_newer_version_wins_in_any_order(void) {
    struct fixture f;
    host(&f, 1 << 20, 2);
    CU_ASSERT_EQUAL(apply(f.one, "key", "five", V(5)), LR_APPLIED);
    CU_ASSERT_EQUAL(apply(f.one, "key", "four", V(4)), LR_STALE);
    CU_ASSERT_EQUAL(apply(f.one, "key", "five", V(5)), LR_STALE);
    CU_ASSERT(has(f.one, "key", "five"));
    CU_ASSERT_EQUAL(apply(f.one, "key", "six", V(6)), LR_APPLIED);
    CU_ASSERT(has(f.one, "key", "six"));
    fixture_destroy(&f);
}

static void equal_versions_with_different_values_settle_alike(void) {
    struct fixture a, b;
    host(&a, 1 << 20, 1);
    host(&b, 1 << 20, 1);
    apply(a.one, "key", "left", V(5));
    apply(a.one, "key", "right", V(5));
    apply(b.one, "key", "right", V(5));
    apply(b.one, "key", "left", V(5));
    struct lr_digest x, y;
    CU_ASSERT_EQUAL(lr_digest(a.one, &x), 0);
    CU_ASSERT_EQUAL(lr_digest(b.one, &y), 0);
    CU_ASSERT_EQUAL(x.sum, y.sum);
    CU_ASSERT_EQUAL(x.items, 1);
    /* Who sent the one that lost hears of the other, though their versions are equal; who sent the same does not. */
    CU_ASSERT(lr_feed_head(a.one, 0) == 2 && lr_feed_head(b.one, 0) == 2);
    const char *stays = has(a.one, "key", "left") ? "left" : "right";
    CU_ASSERT(has(b.one, "key", stays));
    CU_ASSERT_EQUAL(apply(a.one, "key", stays, V(5)), LR_STALE);
    CU_ASSERT_EQUAL(lr_feed_head(a.one, 0), 2);
    fixture_destroy(&a);
    fixture_destroy(&b);
}

static void equal_versions_with_different_flags_settle_alike(void) {
    struct lr_item items[2];
    for (unsigned i = 0; i < 2; i++) {
        struct fixture f;
        struct lr_change change = change_of("key", "value", V(5));
        host(&f, 1 << 20, 1);
        for (unsigned n = 0; n < 2; n++) {
            change.flags = i == n ? 1 : 2;
            CU_ASSERT(lr_apply_put(f.one, &change, 0) >= 0);
        }
        CU_ASSERT_EQUAL(lr_get(f.two, "key", 3, NULL, 0, &items[i], 0), LARDER_ETOO_SMALL);
        fixture_destroy(&f);
    }
    CU_ASSERT_EQUAL(items[0].flags, items[1].flags);
}

static void local_writes_are_newer_than_all_that_was_applied(void) {
    struct fixture f;
    host(&f, 1 << 20, 1);
    uint64_t ahead = V(1) + (UINT64_C(100000000000) << 22);
    CU_ASSERT_EQUAL(apply(f.one, "key", "from a clock ahead", ahead), LR_APPLIED);
    CU_ASSERT(put(f.one, "key", "ours", 0) > ahead);
    CU_ASSERT(has(f.one, "key", "ours"));
    fixture_destroy(&f);
}

/* What was drawn before it was set back by three years stands for the time that was. */
static void a_wall_clock_that_was_set_back_reorders_no_write(void) {
    struct fixture f;
    host(&f, 1 << 20, 1);
    uint64_t last = V(1) + (UINT64_C(100000000000) << 22);
    CU_ASSERT_EQUAL(lr_raise_clock(f.one, last), 0);
    for (unsigned i = 0; i < 100; i++) {
        const uint64_t before = last;
        last = put(f.one, "key", i % 2 == 0 ? "even" : "odd", 0);
        CU_ASSERT(last > before && has(f.two, "key", i % 2 == 0 ? "even" : "odd"));
        CU_ASSERT_EQUAL(apply(f.one, "key", "of the time before", before), LR_STALE);
        if (i % 10 != 0)
            continue;
        CU_ASSERT_EQUAL(lr_delete(f.one, "key", 3), 0);
        CU_ASSERT_EQUAL(apply(f.one, "key", "of the time before", last), LR_STALE); /* the delete is above the put */
        CU_ASSERT(has(f.two, "key", NULL));
    }
    fixture_destroy(&f);
}

static void a_tombstone_keeps_older_values_out(void) {
    struct fixture f;
    host(&f, 1 << 20, 1);
    apply(f.one, "key", "value", V(5));
    CU_ASSERT_EQUAL(lr_apply_tombstone(f.one, lr_cluster_hash("key", 3), V(4), 0), LR_STALE);
    CU_ASSERT(has(f.one, "key", "value"));
    CU_ASSERT_EQUAL(lr_apply_tombstone(f.one, lr_cluster_hash("key", 3), V(7), 0), LR_APPLIED);
    CU_ASSERT(has(f.one, "key", NULL));
    CU_ASSERT_EQUAL(apply(f.one, "key", "six", V(6)), LR_STALE);
    CU_ASSERT(has(f.one, "key", NULL));
    CU_ASSERT_EQUAL(apply(f.one, "key", "eight", V(8)), LR_APPLIED);
    CU_ASSERT(has(f.one, "key", "eight"));
    /* A tombstone for a key that was never here protects as well. */
    CU_ASSERT_EQUAL(lr_apply_tombstone(f.one, lr_cluster_hash("new", 3), V(9), 0), LR_APPLIED);
    CU_ASSERT_EQUAL(apply(f.one, "new", "old", V(8)), LR_STALE);
    fixture_destroy(&f);
}

/* As if every peer had acknowledged all that is there. */
static void acknowledge_all(struct lr_cache *cache) {
    for (uint32_t i = 0; i < lr_stripe_count(cache); i++) {
        uint32_t epoch;
        uint64_t head;
        CU_ASSERT_EQUAL(lr_epoch_begin(cache, i, &epoch, &head), 0);
        lr_epoch_acked(cache, i, epoch);
    }
}

/* A host that had the key under this version, of which nothing is left but the floor. */
static uint64_t host_that_forgot(struct fixture *f) {
    host(f, 1 << 20, 1);
    const uint64_t version = put(f->one, "key", "value", 0);
    CU_ASSERT_EQUAL(lr_delete(f->one, "key", 3), 0);
    acknowledge_all(f->one);
    fixture_sleep_ms(20);
    CU_ASSERT(lr_sweep(f->one, 0, 4096, 1) >= 0);
    return version;
}

static void a_dropped_tombstone_raises_the_floor(void) {
    struct fixture f;
    const struct lr_change old = change_of("key", "value", host_that_forgot(&f));
    struct lr_stat stat;
    lr_stat(f.one, &stat);
    CU_ASSERT_EQUAL(stat.tombstones, 0);
    CU_ASSERT_EQUAL(lr_apply_put(f.one, &old, LR_NO_EVICT), LR_DECLINED);
    CU_ASSERT(has(f.one, "key", NULL));
    fixture_destroy(&f);
}

/* What a walk brings is declined for what was forgotten: others take it that it is here. Not so a periodic comparison.
 */
static void what_is_older_than_what_was_declined_does_not_come_in_its_place(void) {
    const uint64_t hash = lr_cluster_hash("key", 3);
    for (unsigned how = 0; how < 5; how++) {
        struct fixture f;
        uint8_t buf[64];
        host_that_forgot(&f);
        const struct lr_change change = change_of("key", "six", V(6));
        if (how == 1)
            CU_ASSERT_EQUAL(lr_apply_put(f.one, &change, LR_NO_EVICT), LR_DECLINED);
        if (how == 2)
            CU_ASSERT_EQUAL(lr_apply_tombstone(f.one, hash, V(6), LR_NO_EVICT), LR_STALE);
        if (how >= 3)
            CU_ASSERT(!lr_lacks(f.one, hash, V(6), how == 3, buf, sizeof buf));
        const bool declined = how >= 1 && how <= 3;
        CU_ASSERT_EQUAL(apply(f.one, "key", "five", V(5)), declined ? LR_DECLINED : LR_APPLIED);
        CU_ASSERT(has(f.one, "key", declined ? NULL : "five"));
        CU_ASSERT_EQUAL(apply(f.one, "key", "seven", V(7)), LR_APPLIED);
        fixture_destroy(&f);
    }
}

static void a_tombstone_lives_for_a_while_though_all_peers_have_it(void) {
    struct fixture f;
    struct lr_stat stat;
    uint32_t epoch;
    uint64_t head;
    host(&f, 1 << 20, 1);
    put(f.one, "key", "value", 0);
    CU_ASSERT_EQUAL(lr_delete(f.one, "key", 3), 0);
    CU_ASSERT_EQUAL(lr_epoch_begin(f.one, 0, &epoch, &head), 0);
    lr_epoch_acked(f.one, 0, epoch);
    CU_ASSERT_EQUAL(lr_sweep(f.one, 0, 4096, 60000), 0);
    lr_stat(f.one, &stat);
    CU_ASSERT_EQUAL(stat.tombstones, 1);
    fixture_destroy(&f);
}

static void a_tombstone_that_peers_lack_is_kept(void) {
    struct fixture f;
    struct lr_stat stat;
    host(&f, 1 << 20, 1);
    put(f.one, "key", "value", 0);
    CU_ASSERT_EQUAL(lr_delete(f.one, "key", 3), 0);
    fixture_sleep_ms(20);
    lr_sweep(f.one, 0, 4096, 1);
    lr_stat(f.one, &stat);
    CU_ASSERT_EQUAL(stat.tombstones, 1);
    fixture_destroy(&f);
}

static void what_was_evicted_does_not_come_back_older(void) {
    struct fixture f;
    char value[1000], newest[1000] = "";
    host(&f, 64 << 10, 1);
    memset(newest, 'n', sizeof newest - 1); /* no smaller than the others: a small one would stay longer */
    uint64_t version = put(f.one, "key", newest, 0);
    memset(value, 'x', sizeof value);
    for (uint64_t i = 0; i < 1000; i++) {
        struct lr_put p = {.key = &i, .key_len = 8, .value = value, .value_len = sizeof value};
        CU_ASSERT_EQUAL(lr_put(f.one, &p), 0);
    }
    CU_ASSERT(has(f.one, "key", NULL));
    int result = apply(f.one, "key", "older", version - (1 << 22));
    CU_ASSERT(result == LR_DECLINED || result == LR_STALE);
    CU_ASSERT(has(f.one, "key", NULL));
    CU_ASSERT_EQUAL(apply(f.one, "key", "newer", lr_highest_version(f.one) + 1024), LR_APPLIED);
    CU_ASSERT(has(f.one, "key", "newer"));
    fixture_destroy(&f);
}

static void an_unshipped_eviction_leaves_a_trace(void) {
    struct fixture f;
    char value[1000];
    host(&f, 64 << 10, 1);
    memset(value, 'x', sizeof value);
    for (uint64_t i = 0; i < 1000; i++) {
        struct lr_put p = {.key = &i, .key_len = 8, .value = value, .value_len = sizeof value};
        CU_ASSERT_EQUAL(lr_put(f.one, &p), 0);
    }
    struct lr_stat stat;
    uint64_t voids = 0;
    lr_stat(f.one, &stat);
    for (unsigned range = 0; range < 256; range++) {
        struct lr_range r;
        lr_range_get(f.one, range, &r);
        CU_ASSERT(r.void_version <= r.floor);
        voids += r.void_version != 0;
    }
    CU_ASSERT(stat.stripe_counters[LR_S_unshipped_evictions] > 900);
    CU_ASSERT(stat.tombstones > 20);
    CU_ASSERT(voids > 20); /* the tombstones' share was too small for all */
    fixture_destroy(&f);
}

/* The version of the key's tombstone; 0: there is none. */
static uint64_t tombstone_of(struct lr_cache *cache, const char *key) {
    static uint8_t room[1 << 20];
    struct lr_entry entry;
    const uint64_t hash = lr_cluster_hash(key, strlen(key));
    return lr_entry_by_hash(cache, hash, room, sizeof room, &entry) == 0 && entry.tombstone ? entry.version : 0;
}

/* What was here had not reached every peer: those who hold something older still must hear that it is over. */
static void what_yields_unshipped_leaves_a_trace(void) {
    struct fixture f;
    host(&f, 64 << 10, 1);
    static const char *const keys[3] = {"value", "trace", "shipped"};
    uint64_t hashes[3];
    for (unsigned i = 0; i < 3; i++)
        hashes[i] = lr_cluster_hash(keys[i], strlen(keys[i]));
    acknowledge_all(f.one);
    apply(f.one, keys[2], "value", V(4));
    acknowledge_all(f.one);
    apply(f.one, keys[0], "value", V(5));
    CU_ASSERT_EQUAL(lr_apply_tombstone(f.one, hashes[1], V(5), 0), LR_APPLIED);
    const uint64_t head = lr_feed_head(f.one, 0);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(lr_drop(f.one, hashes[i], V(6)), 0); /* by a change that is too large for us */
    CU_ASSERT(tombstone_of(f.one, keys[0]) == V(6) - 1 && tombstone_of(f.one, keys[1]) == V(6) - 1);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(lr_drop_void(f.one, hashes[i], V(7)), 0); /* by a peer's void */
    CU_ASSERT(tombstone_of(f.one, keys[0]) == V(7) && tombstone_of(f.one, keys[1]) == V(7));
    CU_ASSERT_EQUAL(lr_feed_head(f.one, 0), head + 4);
    CU_ASSERT(has(f.one, keys[2], NULL) && tombstone_of(f.one, keys[2]) == 0);
    acknowledge_all(f.one);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(lr_drop_void(f.one, hashes[i], V(8)), 0);
    CU_ASSERT(tombstone_of(f.one, keys[0]) == 0 && tombstone_of(f.one, keys[1]) == 0);
    fixture_destroy(&f);
}

/* More of them than tombstones have room for: the ranges say so, up to what was there. */
static void what_yields_unshipped_and_finds_no_room_raises_the_void(void) {
    struct fixture f;
    host(&f, 64 << 10, 1);
    acknowledge_all(f.one);
    char key[16];
    struct lr_range range;
    unsigned traces = 0, voids = 0;
    for (unsigned i = 0; i < 400; i++) {
        snprintf(key, sizeof key, "key %u", i);
        apply(f.one, key, "value", V(5));
    }
    for (unsigned i = 0; i < 400; i++) {
        snprintf(key, sizeof key, "key %u", i);
        CU_ASSERT_EQUAL(lr_drop_void(f.one, lr_cluster_hash(key, strlen(key)), V(7)), 0);
        lr_range_get(f.one, lr_range_of(lr_cluster_hash(key, strlen(key))), &range);
        traces += tombstone_of(f.one, key) == V(7);
        voids += range.void_version == V(5) - 1;
        CU_ASSERT(has(f.one, key, NULL) && range.floor == V(7));
        CU_ASSERT(tombstone_of(f.one, key) == V(7) || range.void_version == V(5) - 1);
    }
    CU_ASSERT(traces > 50 && voids > 50);
    fixture_destroy(&f);
}

/* It tells those behind it, unless it cannot just now. No version is one that no entry has. */
static void a_relay_that_leaves_out_a_row_leaves_a_tombstone(void) {
    const uint64_t hash = lr_cluster_hash("key", 3);
    struct fixture f;
    struct lr_view held;
    uint8_t buf[64];
    host_that_forgot(&f);
    lr_set_doubt(f.one, 1000, true);
    CU_ASSERT(!lr_lacks(f.one, hash, 0, true, buf, sizeof buf) && tombstone_of(f.one, "key") == 0);
    f.one->wait_ms = 3000;
    CU_ASSERT_EQUAL(lr_stripe_lock(&held, f.two, 0), 0);
    const uint64_t began = fixture_now_ns();
    CU_ASSERT(lr_lacks(f.one, hash, V(6), true, buf, sizeof buf));
    CU_ASSERT(fixture_now_ns() - began < UINT64_C(2000000000));
    lr_stripe_unlock(&held);
    CU_ASSERT(!lr_lacks(f.one, hash, V(6), true, buf, sizeof buf));
    CU_ASSERT_EQUAL(tombstone_of(f.one, "key"), V(6) - 1);
    fixture_destroy(&f);
}

static void a_change_that_does_not_fit_takes_the_older_value_away(void) {
    struct fixture f;
    host(&f, 64 << 10, 1);
    apply(f.one, "key", "small", V(5));
    acknowledge_all(f.one);
    char *large = calloc(1, 60000);
    struct lr_change change = {
        .key = "key", .key_len = 3, .value = large, .value_len = 60000, .version = V(6), .deadline_ms = UINT64_MAX};
    CU_ASSERT_EQUAL(lr_apply_put(f.one, &change, 0), LR_DECLINED);
    CU_ASSERT(has(f.one, "key", NULL));
    CU_ASSERT_EQUAL(apply(f.one, "key", "small", V(5)), LR_DECLINED);
    free(large);
    fixture_destroy(&f);
}

static void bootstrap_uses_free_room_only(void) {
    struct fixture f;
    char value[1000];
    host(&f, 64 << 10, 1);
    memset(value, 'x', sizeof value);
    for (uint64_t i = 0; i < 30; i++) {
        struct lr_put p = {.key = &i, .key_len = 8, .value = value, .value_len = sizeof value};
        CU_ASSERT_EQUAL(lr_put(f.one, &p), 0);
    }
    struct lr_stat before, after;
    unsigned applied = 0;
    lr_stat(f.one, &before);
    for (uint64_t i = 100; i < 200; i++) {
        struct lr_change change = {.key = &i,
                                   .key_len = 8,
                                   .value = value,
                                   .value_len = sizeof value,
                                   .version = lr_highest_version(f.one) + 1024,
                                   .deadline_ms = UINT64_MAX};
        applied += lr_apply_put(f.one, &change, LR_NO_EVICT) == LR_APPLIED;
    }
    lr_stat(f.one, &after);
    CU_ASSERT(applied > 0 && applied < 50);
    CU_ASSERT_EQUAL(after.stripe_counters[LR_S_evictions], before.stripe_counters[LR_S_evictions]);
    CU_ASSERT_EQUAL(after.items, before.items + applied);
    fixture_destroy(&f);
}

static void the_later_deadline_of_one_version_wins(void) {
    struct fixture f;
    struct lr_item item;
    host(&f, 1 << 20, 1);
    uint64_t now = lr_now_ms(f.one);
    struct lr_change change = change_of("key", "value", V(5));
    change.deadline_ms = now + 10000;
    CU_ASSERT_EQUAL(lr_apply_put(f.one, &change, 0), LR_APPLIED);
    change.deadline_ms = now + 5000;
    CU_ASSERT_EQUAL(lr_apply_put(f.one, &change, 0), LR_STALE);
    change.deadline_ms = now + 30000;
    CU_ASSERT_EQUAL(lr_apply_put(f.one, &change, 0), LR_APPLIED);
    CU_ASSERT_EQUAL(lr_get(f.one, "key", 3, NULL, 0, &item, 0), LARDER_ETOO_SMALL);
    CU_ASSERT_EQUAL(item.deadline_ms, now + 30000);
    acknowledge_all(f.one);
    change.deadline_ms = now - 1; /* expired on arrival: nothing is stored, and nothing older later */
    change.version = V(6);
    CU_ASSERT_EQUAL(lr_apply_put(f.one, &change, 0), LR_DECLINED);
    CU_ASSERT(has(f.one, "key", NULL));
    CU_ASSERT_EQUAL(apply(f.one, "key", "value", V(5)), LR_DECLINED);
    fixture_destroy(&f);
}

static void a_flush_wins_over_all_that_is_older(void) {
    struct fixture f;
    host(&f, 1 << 20, 2);
    uint64_t version = put(f.one, "key", "value", 0);
    CU_ASSERT_EQUAL(lr_flush(f.two), 0);
    CU_ASSERT(lr_flush_version(f.one) > version);
    CU_ASSERT(has(f.one, "key", NULL));
    CU_ASSERT_EQUAL(apply(f.one, "key", "value", version), LR_STALE);
    CU_ASSERT_EQUAL(apply(f.one, "never here", "value", lr_flush_version(f.one)), LR_STALE);
    CU_ASSERT(put(f.one, "key", "after", 0) > lr_flush_version(f.one));
    CU_ASSERT(has(f.two, "key", "after"));
    CU_ASSERT_EQUAL(lr_apply_flush(f.one, version), LR_STALE);
    fixture_destroy(&f);
}

/* What was flushed, or has expired, may still stand there: it is no reason to take what a void has forgotten. */
static void what_is_gone_but_not_swept_lets_nothing_forgotten_in(void) {
    struct fixture f;
    host(&f, 1 << 20, 1);
    uint64_t now = lr_now_ms(f.one);
    lr_drive_clock(f.one, now);
    CU_ASSERT_EQUAL(apply(f.one, "flushed", "value", V(5)), LR_APPLIED);
    CU_ASSERT_EQUAL(lr_apply_flush(f.one, V(6)), LR_APPLIED);
    struct lr_change brief = change_of("brief", "value", V(7));
    brief.deadline_ms = now + 10;
    CU_ASSERT_EQUAL(lr_apply_put(f.one, &brief, 0), LR_APPLIED);
    lr_drive_clock(f.one, now + 20);
    static const char *const keys[2] = {"flushed", "brief"};
    for (unsigned i = 0; i < 2; i++) {
        unsigned range = lr_range_of(lr_cluster_hash(keys[i], strlen(keys[i])));
        CU_ASSERT_EQUAL(lr_raise_void(f.one, range, V(9), NULL, NULL), 0);
        CU_ASSERT_EQUAL(apply(f.one, keys[i], "forgotten", V(8)), LR_DECLINED);
        CU_ASSERT(has(f.one, keys[i], NULL));
        CU_ASSERT_EQUAL(apply(f.one, keys[i], "newer", V(10)), LR_APPLIED);
    }
    fixture_destroy(&f);
}

static void dropping_by_a_void_spares_what_is_newer(void) {
    struct fixture f;
    host(&f, 1 << 20, 1);
    apply(f.one, "old", "value", V(5));
    apply(f.one, "new", "value", V(9));
    acknowledge_all(f.one);
    CU_ASSERT_EQUAL(lr_drop_void(f.one, lr_cluster_hash("old", 3), V(7)), 0);
    CU_ASSERT_EQUAL(lr_drop_void(f.one, lr_cluster_hash("new", 3), V(7)), 0);
    CU_ASSERT(has(f.one, "old", NULL));
    CU_ASSERT(has(f.one, "new", "value"));
    CU_ASSERT_EQUAL(apply(f.one, "old", "value", V(5)), LR_DECLINED);
    fixture_destroy(&f);
}

/* A touch keeps the version; peers that have the item must hear of it all the same. */
static void an_extended_deadline_counts_as_an_arrival(void) {
    struct fixture f;
    uint32_t epoch;
    uint64_t head;
    uint8_t *buf;
    struct lr_entry entry = {0};
    host(&f, 1 << 20, 1);
    put(f.one, "key", "value", 10000);
    CU_ASSERT_EQUAL(lr_epoch_begin(f.one, 0, &epoch, &head), 0);
    lr_epoch_acked(f.one, 0, epoch);
    buf = malloc(lr_entry_bytes(f.one));
    CU_ASSERT_EQUAL(lr_entry_by_hash(f.two, lr_cluster_hash("key", 3), buf, lr_entry_bytes(f.one), &entry), 0);
    CU_ASSERT(!lr_epoch_after(f.one, 0, entry.epoch, epoch));
    CU_ASSERT_EQUAL(lr_touch(f.one, "key", 3, 20000), 0);
    CU_ASSERT_EQUAL(lr_entry_by_hash(f.two, lr_cluster_hash("key", 3), buf, lr_entry_bytes(f.one), &entry), 0);
    CU_ASSERT(lr_epoch_after(f.one, 0, entry.epoch, epoch));
    free(buf);
    fixture_destroy(&f);
}

/* A deleter that was stopped between drawing its version and leaving its note. */
static void a_note_that_comes_late_spares_what_is_newer(void) {
    struct fixture f;
    host(&f, 1 << 20, 1);
    uint64_t version = put(f.one, "key", "old", 0);
    put(f.one, "key", "newer than the note", 0);
    struct sm_stripe *stripe = lr_stripe_at(f.one, 0);
    struct sm_note *note = &stripe->notes[3];
    lr_store(&note->owner, lr_own_word(f.one));
    lr_store(&note->hash, lr_cluster_hash("key", 3));
    lr_store(&note->version, version + 1);
    lr_store(&note->owner, lr_load(&note->owner) | SM_NOTE_VALID);
    atomic_store(&stripe->notes_pending, 1u << 3);
    put(f.two, "another", "takes the lock", 0);
    CU_ASSERT_EQUAL(lr_load(&note->owner), 0);
    CU_ASSERT(has(f.two, "key", "newer than the note"));
    fixture_destroy(&f);
}

static int sleep_on_the_bell(void *context) {
    struct fixture *f = context;
    lr_bell_wait(f->two, 1); /* learns the heads */
    uint64_t before = fixture_now_ns();
    lr_bell_wait(f->two, 20000);
    return fixture_now_ns() - before < UINT64_C(10000000000) ? 0 : 1;
}

static void a_change_wakes_who_sleeps_on_the_bell(void) {
    struct fixture f;
    host(&f, 1 << 20, 1);
    pid_t child = fixture_start(sleep_on_the_bell, &f);
    for (unsigned i = 0; i < 1000 && atomic_load(&f.one->header->bell_waiting) == 0; i++)
        fixture_sleep_ms(1);
    fixture_sleep_ms(30);
    put(f.one, "key", "value", 0);
    CU_ASSERT_EQUAL(fixture_wait(child), 0);
    fixture_destroy(&f);
}

static void an_overrun_ring_says_so(void) {
    struct fixture f;
    struct lr_hint hints[64];
    uint64_t position = 0;
    host(&f, 1 << 20, 1);
    for (unsigned i = 0; i < 10; i++)
        put(f.one, "key", "value", 0);
    CU_ASSERT_EQUAL(lr_feed_read(f.two, 0, &position, hints, 64), 10);
    CU_ASSERT_EQUAL(hints[9].hash, lr_cluster_hash("key", 3));
    CU_ASSERT_EQUAL(lr_feed_read(f.two, 0, &position, hints, 64), 0);
    for (unsigned i = 0; i < 40000; i++)
        put(f.one, "key", "value", 0);
    CU_ASSERT_EQUAL(lr_feed_read(f.two, 0, &position, hints, 64), LARDER_ELOST);
    CU_ASSERT_EQUAL(position, lr_feed_head(f.two, 0));
    fixture_destroy(&f);
}

/* ---- hosts that exchange changes ------------------------------------------------------------------------------ */

#define HOSTS 3u
#define KEYS 200u

struct cluster {
    struct fixture hosts[HOSTS];
    struct fixture_random random;
    uint64_t served[HOSTS][KEYS]; /* highest version that this host served or acknowledged */
    uint8_t *buf;
    size_t cap;
};

static void ship(struct cluster *c, unsigned from, unsigned to, const struct lr_entry *entry) {
    struct lr_cache *cache = c->hosts[to].one;
    (void)from;
    if (entry->tombstone) {
        CU_ASSERT(lr_apply_tombstone(cache, entry->hash, entry->version, 0) >= 0);
        return;
    }
    struct lr_change change = {.key = entry->key,
                               .value = entry->value,
                               .key_len = entry->key_len,
                               .value_len = entry->value_len,
                               .version = entry->version,
                               .deadline_ms = entry->deadline_ms,
                               .flags = entry->flags};
    CU_ASSERT(lr_apply_put(cache, &change, 0) >= 0);
}

static void ship_all(struct cluster *c, unsigned from, unsigned to, unsigned percent) {
    struct lr_scan scan = lr_scan_all(c->hosts[from].one);
    struct lr_entry entry;
    while (lr_scan_next(c->hosts[from].one, &scan, c->buf, c->cap, &entry) == 0)
        if (fixture_below(&c->random, 100) < percent)
            ship(c, from, to, &entry);
}

static void look(struct cluster *c, unsigned h, unsigned k) {
    char key[16], text[2048];
    struct lr_item item;
    size_t len = (size_t)snprintf(key, sizeof key, "key-%u", k);
    if (lr_get(c->hosts[h].one, key, len, text, sizeof text, &item, 0) != 0)
        return;
    CU_ASSERT(item.version >= c->served[h][k]);
    c->served[h][k] = item.version;
}

static void act(struct cluster *c, size_t value_len) {
    char key[16], value[2048] = {0};
    unsigned h = (unsigned)fixture_below(&c->random, HOSTS), k = (unsigned)fixture_below(&c->random, KEYS);
    size_t len = (size_t)snprintf(key, sizeof key, "key-%u", k);
    switch (fixture_below(&c->random, 20)) {
    case 0:
    case 1: {
        int result = lr_delete(c->hosts[h].one, key, len);
        CU_ASSERT(result == 0 || result == LARDER_ENOT_FOUND);
        break;
    }
    case 2:
        ship_all(c, h, (unsigned)fixture_below(&c->random, HOSTS), 30);
        break;
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
        look(c, h, k);
        break;
    default: {
        snprintf(value, sizeof value, "%llu", (unsigned long long)fixture_next(&c->random));
        struct lr_put p = {.key = key, .key_len = len, .value = value, .value_len = 30 + k * value_len / KEYS};
        CU_ASSERT_EQUAL(lr_put(c->hosts[h].one, &p), 0);
        c->served[h][k] = p.version;
    }
    }
}

static void run_cluster(const char *what, uint64_t size, size_t value_len, bool roomy) {
    struct cluster *c = calloc(1, sizeof *c);
    c->random = fixture_seed(what);
    for (unsigned h = 0; h < HOSTS; h++) {
        host(&c->hosts[h], size << (roomy || h == 2 ? h : 0), h == 2 ? 2 : 1);
        lr_set_origin(c->hosts[h].one, h + 1);
    }
    c->cap = lr_entry_bytes(c->hosts[HOSTS - 1].one);
    c->cap = c->cap > lr_entry_bytes(c->hosts[0].one) ? c->cap : lr_entry_bytes(c->hosts[0].one);
    c->buf = malloc(c->cap);
    for (unsigned i = 0; i < 20000; i++)
        act(c, value_len);
    /* Everything reaches everybody, then all are equal. */
    for (unsigned round = 0; round < 2; round++)
        for (unsigned h = 0; h < HOSTS; h++)
            for (unsigned to = 0; to < HOSTS; to++)
                if (to != h)
                    ship_all(c, h, to, 100);
    for (unsigned h = 0; h < HOSTS; h++)
        for (unsigned k = 0; k < KEYS; k++)
            look(c, h, k);
    struct lr_digest digests[HOSTS];
    for (unsigned h = 0; h < HOSTS; h++)
        CU_ASSERT_EQUAL(lr_digest(c->hosts[h].one, &digests[h]), 0);
    for (unsigned h = 1; h < HOSTS && roomy; h++) {
        CU_ASSERT_EQUAL(digests[h].sum, digests[0].sum);
        CU_ASSERT_EQUAL(digests[h].items, digests[0].items);
    }
    CU_ASSERT(digests[0].items > 20);
    for (unsigned h = 0; h < HOSTS; h++)
        fixture_destroy(&c->hosts[h]);
    free(c->buf);
    free(c);
}

static void hosts_with_room_end_equal_whatever_the_order(void) {
    run_cluster("hosts with room", 1 << 20, 500, true);
}

static void hosts_that_evict_never_serve_an_older_value(void) {
    run_cluster("hosts that evict", 64 << 10, 1900, false);
}

/* Somebody lives and does not let go: every call that needs the stripe says so, in time, and changes nothing. */
static void every_call_on_a_busy_stripe_says_so(void) {
    struct fixture f;
    struct lr_options options = lr_options_default();
    struct lr_digest before, after;
    struct lr_change change = change_of("new", "value", V(9));
    uint32_t epoch;
    uint64_t head;
    int64_t number;
    options.size = 1 << 20;
    options.stripes = 1;
    options.wait_ms = 2;
    f = (struct fixture){0};
    fixture_create_with(&f, &options);
    lr_set_replicating(f.one, true);
    put(f.one, "key", "1", 0);
    CU_ASSERT_EQUAL(lr_digest(f.one, &before), 0);
    struct sm_stripe *stripe = lr_stripe_at(f.one, 0);
    const uint64_t hash = lr_cluster_hash("key", 3), clock = lr_load(&stripe->clock);
    struct lr_put again = {.key = "key", .key_len = 3, .value = "2", .value_len = 1};
    lr_store(&stripe->lock, lr_own_word(f.two));
    CU_ASSERT_EQUAL(lr_put(f.one, &again), LARDER_EBUSY);
    CU_ASSERT_EQUAL(lr_touch(f.one, "key", 3, 1000), LARDER_EBUSY);
    CU_ASSERT_EQUAL(lr_increment(f.one, "key", 3, 1, 0, 0, &number), LARDER_EBUSY);
    CU_ASSERT_EQUAL(lr_apply_put(f.one, &change, 0), LARDER_EBUSY);
    CU_ASSERT_EQUAL(lr_apply_tombstone(f.one, hash, V(9), 0), LARDER_EBUSY);
    CU_ASSERT_EQUAL(lr_drop(f.one, hash, V(9)), LARDER_EBUSY);
    CU_ASSERT_EQUAL(lr_drop_void(f.one, hash, V(9)), LARDER_EBUSY);
    CU_ASSERT_EQUAL(lr_raise_floor(f.one, 1, V(9)), LARDER_EBUSY);
    CU_ASSERT_EQUAL(lr_raise_clock(f.one, UINT64_MAX), LARDER_EBUSY);
    CU_ASSERT_EQUAL(lr_raise_void(f.one, 1, V(9), NULL, NULL), LARDER_EBUSY);
    CU_ASSERT_EQUAL(lr_epoch_begin(f.one, 0, &epoch, &head), LARDER_EBUSY);
    CU_ASSERT_EQUAL(lr_sweep(f.one, 0, 64, 0), LARDER_EBUSY);
    CU_ASSERT(has(f.two, "key", "1")); /* readers do not care */
    lr_store(&stripe->lock, 0);
    CU_ASSERT_EQUAL(lr_load(&stripe->clock), clock);
    CU_ASSERT_EQUAL(lr_digest(f.one, &after), 0);
    CU_ASSERT(before.sum == after.sum && before.items == after.items);
    fixture_destroy(&f);
}

static void what_is_out_of_range_is_refused(void) {
    struct fixture f;
    struct lr_range range;
    struct lr_stripe_info info;
    struct lr_digest before, after;
    int64_t number;
    char key[SM_MAX_KEY + 1] = {0};
    host(&f, 1 << 20, 2);
    put(f.one, "key", "1", 0);
    CU_ASSERT_EQUAL(lr_digest(f.one, &before), 0);
    struct lr_change change = change_of("", "value", V(5));
    CU_ASSERT_EQUAL(lr_apply_put(f.one, &change, 0), LARDER_EINVALID);
    change = change_of("key", "value", 0);
    CU_ASSERT_EQUAL(lr_apply_put(f.one, &change, 0), LARDER_EINVALID);
    change = change_of("key", "value", V(5));
    change.key = key;
    change.key_len = sizeof key;
    CU_ASSERT_EQUAL(lr_apply_put(f.one, &change, 0), LARDER_EINVALID);
    CU_ASSERT_EQUAL(lr_raise_void(f.one, SM_RANGES, V(5), NULL, NULL), LARDER_EINVALID);
    CU_ASSERT_EQUAL(lr_raise_floor(f.one, SM_RANGES, V(5)), LARDER_EINVALID);
    CU_ASSERT_EQUAL(lr_sweep(f.one, 2, 1, 0), LARDER_EINVALID);
    CU_ASSERT_EQUAL(lr_stripe_info(f.one, 2, &info), LARDER_EINVALID);
    memset(&range, 1, sizeof range);
    lr_range_get(f.one, SM_RANGES, &range);
    CU_ASSERT(range.sum == 0 && range.floor == 0 && range.void_version == 0);
    struct lr_put odd = {.key = "key", .key_len = 3, .value = "2", .value_len = 1, .mode = (enum lr_put_mode)99};
    CU_ASSERT_EQUAL(lr_put(f.one, &odd), LARDER_EINVALID);
    CU_ASSERT_EQUAL(lr_increment(f.one, key, sizeof key, 1, 0, 0, &number), LARDER_EINVALID);
    CU_ASSERT_EQUAL(lr_digest(f.one, &after), 0);
    CU_ASSERT(before.sum == after.sum && before.items == after.items);
    fixture_destroy(&f);
}

/* Asked with too little room, a scan says so and stays where it is. */
static void a_scan_with_too_little_room_says_so_and_stays(void) {
    struct fixture f;
    struct lr_entry entry;
    char room[16], one[1];
    host(&f, 1 << 20, 1);
    put(f.one, "key", "value", 0);
    struct lr_scan scan = lr_scan_all(f.one);
    CU_ASSERT_EQUAL(lr_scan_next(f.one, &scan, one, sizeof one, &entry), LARDER_ETOO_SMALL);
    CU_ASSERT(entry.key_len == 3 && entry.value_len == 5);
    CU_ASSERT_EQUAL(lr_entry_by_hash(f.one, lr_cluster_hash("key", 3), one, sizeof one, &entry), LARDER_ETOO_SMALL);
    CU_ASSERT_EQUAL(lr_scan_next(f.one, &scan, room, sizeof room, &entry), 0);
    CU_ASSERT(memcmp(entry.key, "key", 3) == 0 && memcmp(entry.value, "value", 5) == 0);
    CU_ASSERT_EQUAL(lr_scan_next(f.one, &scan, room, sizeof room, &entry), LARDER_ENOT_FOUND);
    fixture_destroy(&f);
}

/* The next of a scan: the key, its value if that was to be copied, else NULL. */
static void next_is(struct fixture *f, struct lr_scan *scan, const char *key, const char *value) {
    char room[16];
    struct lr_entry entry;
    CU_ASSERT_EQUAL_FATAL(lr_scan_next(f->one, scan, room, value != NULL ? sizeof room : strlen(key), &entry), 0);
    CU_ASSERT(entry.key_len == strlen(key) && memcmp(entry.key, key, entry.key_len) == 0);
    CU_ASSERT(entry.value_len == 5 && entry.hash == lr_cluster_hash(key, strlen(key)));
    CU_ASSERT((entry.value != NULL) == (value != NULL));
    CU_ASSERT(value == NULL || memcmp(entry.value, value, entry.value_len) == 0);
}

static void values_that_are_not_asked_for_stay_where_they_are(void) {
    struct fixture f;
    struct lr_entry entry;
    char room[16];
    uint64_t head;
    host(&f, 1 << 20, 1);
    put(f.one, "old", "first", 0);
    struct lr_scan keys = lr_scan_all(f.one), newer = keys;
    keys.keys = newer.newer = true;
    next_is(&f, &keys, "old", NULL);
    CU_ASSERT_EQUAL(lr_entry_without_value(f.one, lr_cluster_hash("old", 3), room, 3, &entry), 0);
    CU_ASSERT(entry.value == NULL && entry.value_len == 5 && memcmp(entry.key, "old", 3) == 0);
    CU_ASSERT_EQUAL(lr_epoch_begin(f.one, 0, &newer.epoch, &head), 0);
    next_is(&f, &newer, "old", NULL);
    put(f.one, "old", "later", 0);
    newer.position = newer.slot = 0;
    next_is(&f, &newer, "old", "later");
    CU_ASSERT_EQUAL(lr_delete(f.one, "old", 3), 0);
    newer.position = newer.slot = 0;
    CU_ASSERT_EQUAL(lr_scan_next(f.one, &newer, room, sizeof room, &entry), 0);
    CU_ASSERT(entry.tombstone && entry.value == NULL && entry.hash == lr_cluster_hash("old", 3));
    fixture_destroy(&f);
}

/* Applies so many new keys, and looks how many entries there are in four buckets at most. */
static uint64_t fill_by(struct fixture *f, unsigned entries, unsigned flags) {
    struct lr_stripe_info info = {0};
    uint64_t most = 0;
    for (unsigned i = 0; i < entries; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", i);
        struct lr_change change = change_of(key, "value", V(i + 1));
        CU_ASSERT(lr_apply_put(f->one, &change, flags) >= 0);
        CU_ASSERT_EQUAL(lr_stripe_info(f->one, 0, &info), 0);
        const uint64_t in_four = info.items * 4 / info.buckets;
        most = in_four > most ? in_four : most;
    }
    return most;
}

/* While many more come a quarter of the slots is free; but not at the price of what could be arena. */
static void the_index_keeps_ahead_of_those_that_come_in_numbers(void) {
    for (unsigned many = 0; many < 2; many++) {
        struct fixture f;
        struct lr_stripe_info info;
        host(&f, 1 << 20, 1);
        const unsigned kept = f.one->geometry.least_buckets;
        const uint64_t most = fill_by(&f, kept * 5, many ? LR_NO_EVICT | LR_MORE : LR_NO_EVICT);
        CU_ASSERT(many ? most <= 24 : most > 24 && most <= 28);
        fill_by(&f, kept * 7, many ? LR_NO_EVICT | LR_MORE : LR_NO_EVICT);
        CU_ASSERT_EQUAL(lr_stripe_info(f.one, 0, &info), 0);
        CU_ASSERT(info.items == kept * 7 && info.buckets <= kept + 2);
        fixture_destroy(&f);
    }
}

static int be_a_sidecar(void *context) {
    struct fixture *f = context;
    struct lr_sidecar_state state;
    CHILD_EXPECT(lr_sidecar_claim(f->one) == 0 && lr_sidecar_claim(f->one) == 0);
    lr_sidecar_report(f->one, 3, 2, 10, 20);
    lr_sidecar_state(f->one, &state);
    CHILD_EXPECT(state.alive && state.peers == 3 && state.connected == 2);
    return 0; /* without a word */
}

static void a_dead_sidecar_is_seen_and_followed(void) {
    struct fixture f;
    struct lr_sidecar_state state;
    host(&f, 1 << 20, 1);
    lr_sidecar_state(f.one, &state);
    CU_ASSERT(!state.alive && state.connected == 0);
    CU_ASSERT_EQUAL(fixture_child(be_a_sidecar, &f), 0);
    lr_sidecar_state(f.one, &state);
    CU_ASSERT(!state.alive && state.peers == 3 && state.connected == 0);
    CU_ASSERT_EQUAL(lr_sidecar_claim(f.one), 0);
    CU_ASSERT_EQUAL(lr_sidecar_claim(f.two), LARDER_EEXISTS);
    lr_sidecar_report(f.one, 1, 1, 10, 20);
    lr_sidecar_state(f.two, &state);
    CU_ASSERT(state.alive && state.connected == 1);
    lr_sidecar_release(f.one);
    CU_ASSERT_EQUAL(lr_sidecar_claim(f.two), 0);
    fixture_destroy(&f);
}

void larder_suite_78_replica(void) {
    CU_pSuite suite = CU_add_suite("78_replica", NULL, NULL);
    CU_ADD_TEST(suite, the_newer_version_wins_in_any_order);
    CU_ADD_TEST(suite, equal_versions_with_different_values_settle_alike);
    CU_ADD_TEST(suite, equal_versions_with_different_flags_settle_alike);
    CU_ADD_TEST(suite, local_writes_are_newer_than_all_that_was_applied);
    CU_ADD_TEST(suite, a_wall_clock_that_was_set_back_reorders_no_write);
    CU_ADD_TEST(suite, a_tombstone_keeps_older_values_out);
    CU_ADD_TEST(suite, a_dropped_tombstone_raises_the_floor);
    CU_ADD_TEST(suite, what_is_older_than_what_was_declined_does_not_come_in_its_place);
    CU_ADD_TEST(suite, a_relay_that_leaves_out_a_row_leaves_a_tombstone);
    CU_ADD_TEST(suite, a_tombstone_lives_for_a_while_though_all_peers_have_it);
    CU_ADD_TEST(suite, a_tombstone_that_peers_lack_is_kept);
    CU_ADD_TEST(suite, what_was_evicted_does_not_come_back_older);
    CU_ADD_TEST(suite, an_unshipped_eviction_leaves_a_trace);
    CU_ADD_TEST(suite, what_yields_unshipped_leaves_a_trace);
    CU_ADD_TEST(suite, what_yields_unshipped_and_finds_no_room_raises_the_void);
    CU_ADD_TEST(suite, a_change_that_does_not_fit_takes_the_older_value_away);
    CU_ADD_TEST(suite, bootstrap_uses_free_room_only);
    CU_ADD_TEST(suite, the_later_deadline_of_one_version_wins);
    CU_ADD_TEST(suite, a_flush_wins_over_all_that_is_older);
    CU_ADD_TEST(suite, what_is_gone_but_not_swept_lets_nothing_forgotten_in);
    CU_ADD_TEST(suite, dropping_by_a_void_spares_what_is_newer);
    CU_ADD_TEST(suite, an_extended_deadline_counts_as_an_arrival);
    CU_ADD_TEST(suite, a_note_that_comes_late_spares_what_is_newer);
    CU_ADD_TEST(suite, a_change_wakes_who_sleeps_on_the_bell);
    CU_ADD_TEST(suite, an_overrun_ring_says_so);
    CU_ADD_TEST(suite, hosts_with_room_end_equal_whatever_the_order);
    CU_ADD_TEST(suite, hosts_that_evict_never_serve_an_older_value);
    CU_ADD_TEST(suite, every_call_on_a_busy_stripe_says_so);
    CU_ADD_TEST(suite, what_is_out_of_range_is_refused);
    CU_ADD_TEST(suite, a_scan_with_too_little_room_says_so_and_stays);
    CU_ADD_TEST(suite, values_that_are_not_asked_for_stay_where_they_are);
    CU_ADD_TEST(suite, the_index_keeps_ahead_of_those_that_come_in_numbers);
    CU_ADD_TEST(suite, a_dead_sidecar_is_seen_and_followed);
}
