/* SPDX-License-Identifier: MIT */
/*
 * What one host has forgotten, or stands for something else by now: do all hosts let go of what is older? In rows of
 * hosts, where those in the middle are relays: some hear of a change only by way of others.
 */
#include "simnet.h"
#include "stripe.h"

#include <string.h>

#define SEGMENT (UINT64_C(1) << 20)
#define TICK_MS 10u /* versions are drawn from the machine's clock, in steps of some ms */
#define LIMIT_MS 20u
#define MORE_THAN_A_RING 40000u

static const struct lr_mode_row modes[] = {{.prefix = "i/", .len = 2, .mode = LR_MODE_invalidate}};

static struct sim *row(const char *what, unsigned hosts, uint32_t limit_ms) {
    const uint64_t sizes[SIM_HOSTS] = {SEGMENT, SEGMENT, SEGMENT, SEGMENT};
    struct sim *sim = sim_create_idle(what, hosts, sizes);
    for (unsigned i = 0; i < hosts; i++) {
        struct lr_node_options options = sim_options(&sim->hosts[i]);
        options.relay = i > 0 && i + 1 < hosts;
        options.clock_limit_ms = limit_ms;
        CU_ASSERT_EQUAL(lr_modes_set(sim->hosts[i].cache, modes, 1), 0);
        sim_start(&sim->hosts[i], &options, false);
    }
    for (unsigned i = 0; i + 1 < hosts; i++) {
        CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[i].node, sim->hosts[i + 1].address), 0);
        CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[i + 1].node, sim->hosts[i].address), 0);
    }
    CU_ASSERT(sim_settle(sim, 5000));
    return sim;
}

static int store(struct sim_host *host, const char *key, const char *value, const struct lr_mark *mark) {
    struct lr_put put = {.key = key,
                         .key_len = strlen(key),
                         .value = value,
                         .value_len = strlen(value),
                         .mode = mark != NULL ? LR_FILL_IN : LR_SET,
                         .mark = mark};
    return lr_put(host->cache, &put);
}

static void put(struct sim_host *host, const char *key, const char *value) {
    CU_ASSERT_EQUAL(store(host, key, value, NULL), 0);
}

static struct lr_mark fill(struct sim_host *host, const char *key, const char *value) {
    struct lr_mark mark = {0};
    CU_ASSERT_EQUAL(lr_mark(host->cache, key, strlen(key), &mark), 0);
    CU_ASSERT_EQUAL(store(host, key, value, &mark), 0);
    return mark;
}

/* 0: it is not there. */
static uint64_t version_of(struct sim_host *host, const char *key) {
    struct lr_item item;
    char found[64];
    return lr_get(host->cache, key, strlen(key), found, sizeof found, &item, LR_PEEK) == 0 ? item.version : 0;
}

static uint64_t hash_of(const char *key) {
    return lr_cluster_hash(key, strlen(key));
}

/* Something of the key's part, up to that version, is gone, and no peer knows of it. */
static void forget(struct sim_host *host, const char *key, uint64_t version) {
    struct lr_view view = lr_view_of(host->cache, lr_place_stripe(host->cache, lr_place(host->cache, hash_of(key))));
    lr_void_raise(&view, hash_of(key), version);
}

/* As if the host had had something newer of the key than all others, which went untold. */
static void forget_newer(struct sim_host *host, const char *key, uint64_t version) {
    CU_ASSERT_EQUAL(lr_drop(host->cache, hash_of(key), version), 0);
    forget(host, key, version);
}

static bool have(struct sim *sim, const char *key) {
    unsigned count = 0;
    for (unsigned i = 0; i < sim->host_count; i++)
        count += version_of(&sim->hosts[i], key) != 0;
    CU_ASSERT(count == 0 || count == sim->host_count);
    return count == sim->host_count;
}

/* ---- voids, by way of relays --------------------------------------------------------------------------------------
 */

/* Host 2 has told a higher void, and the relay does not tell it to host 2; but it must tell what host 0 has forgotten,
 * though it may hold nothing of the key. */
static void a_lower_void_reaches_who_told_the_higher(void) {
    for (unsigned holds = 0; holds < 2; holds++) {
        struct sim *sim = row("a lower void", 3, LIMIT_MS);
        put(&sim->hosts[0], "key", "old");
        CU_ASSERT(sim_settle(sim, 5000));
        const uint64_t lower = lr_highest_version(sim->hosts[0].cache);
        fixture_sleep_ms(TICK_MS);
        put(&sim->hosts[2], "other", "value");
        CU_ASSERT(sim_settle(sim, 5000));
        CU_ASSERT(lr_highest_version(sim->hosts[2].cache) > lower);
        forget(&sim->hosts[2], "key", lr_highest_version(sim->hosts[2].cache));
        sim_run(sim, 3 * LR_SETTLE_EVERY_MS);
        CU_ASSERT(have(sim, "key")); /* host 2 holds it: it is what everybody knows */
        if (!holds)
            sim_displace(&sim->hosts[1], hash_of("key"));
        forget_newer(&sim->hosts[0], "key", lower);
        sim_run(sim, 4 * LR_SETTLE_EVERY_MS);
        CU_ASSERT(!have(sim, "key"));
        sim_destroy(sim);
    }
}

static void what_is_forgotten_below_a_void_that_was_told_is_led_on(void) {
    struct sim *sim = row("forgotten again", 3, LIMIT_MS);
    put(&sim->hosts[0], "key", "old");
    CU_ASSERT(sim_settle(sim, 5000));
    const uint64_t lower = lr_highest_version(sim->hosts[0].cache);
    fixture_sleep_ms(TICK_MS);
    put(&sim->hosts[0], "other", "value");
    CU_ASSERT(sim_settle(sim, 5000));
    forget(&sim->hosts[0], "key", lr_highest_version(sim->hosts[0].cache));
    sim_run(sim, 3 * LR_SETTLE_EVERY_MS);
    CU_ASSERT(have(sim, "key"));
    forget_newer(&sim->hosts[0], "key", lower);
    sim_run(sim, 4 * LR_SETTLE_EVERY_MS);
    CU_ASSERT(!have(sim, "key"));
    sim_destroy(sim);
}

/* Each tells the others what it has forgotten, by one way or by two, and all come to rest. */
static void voids_that_meet_do_not_go_on_for_ever(void) {
    for (unsigned ring = 0; ring < 2; ring++) {
        struct sim *sim = row("voids that meet", 4, LIMIT_MS);
        for (unsigned end = 0; end < 4 && ring; end += 3) {
            sim->hosts[end].node->relay = true;
            CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[end].node, sim->hosts[3 - end].address), 0);
        }
        for (unsigned i = 0; i < 4; i++) {
            put(&sim->hosts[i], "key", "value");
            CU_ASSERT(sim_settle(sim, 5000));
            fixture_sleep_ms(TICK_MS);
        }
        for (unsigned i = 4; i-- > 0;) {
            forget(&sim->hosts[i], "key", lr_highest_version(sim->hosts[0].cache) - i);
            sim_run(sim, i % 2 * LR_SETTLE_EVERY_MS / 3);
        }
        sim_run(sim, 8 * LR_SETTLE_EVERY_MS);
        struct lr_range before[4], after;
        for (unsigned i = 0; i < 4; i++)
            lr_range_get(sim->hosts[i].cache, lr_range_of(hash_of("key")), &before[i]);
        sim_run(sim, 8 * LR_SETTLE_EVERY_MS);
        for (unsigned i = 0; i < 4; i++) {
            lr_range_get(sim->hosts[i].cache, lr_range_of(hash_of("key")), &after);
            CU_ASSERT_EQUAL(after.turn, before[i].turn);
            for (unsigned k = 0; k < sim->hosts[i].node->peer_count; k++)
                CU_ASSERT_EQUAL(lr_settle_left(sim->hosts[i].node->peers[k]), 0);
        }
        CU_ASSERT(have(sim, "key"));
        sim_destroy(sim);
    }
}

/* ---- fills in the place of a change -------------------------------------------------------------------------------
 */

/*
 * Host 1 has a change of host 0 that host 2 is yet to hear of, and fills. Its ring runs over, so host 2 hears of it by
 * a walk: which must not say that the change was as new as the fill, or host 2 would take the change of host 3, older
 * than the fill, for one that everybody has heard of.
 */
static void a_fill_does_not_hide_a_change_that_is_older_from_a_relay(void) {
    struct sim *sim = row("behind a fill", 4, LIMIT_MS);
    sim_cut(sim, 1, 2, true);
    sim_cut(sim, 2, 3, true);
    sim_run(sim, 5000);
    put(&sim->hosts[0], "i/key", "first");
    sim_run(sim, 500);
    fixture_sleep_ms(TICK_MS);
    put(&sim->hosts[3], "i/key", "second");
    fixture_sleep_ms(3 * LIMIT_MS);
    fill(&sim->hosts[1], "i/key", "second");
    for (unsigned i = 0; i < MORE_THAN_A_RING; i++) {
        put(&sim->hosts[1], "other", "value");
        if (i % 500 == 0)
            sim_run(sim, 20);
    }
    CU_ASSERT(version_of(&sim->hosts[0], "i/key") != 0);
    sim_cut(sim, 1, 2, false);
    sim_run(sim, 10000);
    sim_cut(sim, 2, 3, false);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT_EQUAL(version_of(&sim->hosts[0], "i/key"), 0);
    sim_destroy(sim);
}

/* What it is told as, no other host's fill may have for its version; and a flush that came before does not take it. */
static void a_fill_in_the_place_of_a_change_is_as_new_as_that(void) {
    struct sim *sim = row("as new as that", 2, LIMIT_MS);
    sim_cut(sim, 0, 1, true);
    sim_run(sim, 5000);
    for (unsigned i = 0; i < 2; i++)
        put(&sim->hosts[i], "i/key", "first");
    const uint64_t first = version_of(&sim->hosts[0], "i/key");
    fixture_sleep_ms(TICK_MS);
    const struct lr_mark mark = fill(&sim->hosts[0], "i/key", "first");
    const uint64_t filled = version_of(&sim->hosts[0], "i/key");
    CU_ASSERT(filled > first && filled < mark.version);
    CU_ASSERT_EQUAL(lr_apply_invalidation(sim->hosts[0].cache, hash_of("i/key"), mark.version), LR_APPLIED);
    CU_ASSERT_EQUAL(version_of(&sim->hosts[0], "i/key"), 0);
    fill(&sim->hosts[0], "i/key", "another"); /* its version is a token as well */
    CU_ASSERT(version_of(&sim->hosts[0], "i/key") > filled);
    const uint64_t flushed = lr_highest_version(sim->hosts[0].cache) + (UINT64_C(1) << SM_VERSION_ORIGIN_BITS);
    uint64_t versions[2];
    for (unsigned i = 0; i < 2; i++) {
        CU_ASSERT(lr_apply_flush(sim->hosts[i].cache, flushed) >= 0);
        fixture_sleep_ms(TICK_MS);
        fill(&sim->hosts[i], "i/key", "second");
        versions[i] = version_of(&sim->hosts[i], "i/key");
    }
    CU_ASSERT(versions[0] > flushed && versions[1] > flushed && versions[0] != versions[1]);
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    const struct lr_mark late = fill(&sim->hosts[0], "i/other", "value");
    CU_ASSERT_EQUAL(version_of(&sim->hosts[0], "i/other"), late.version);
    sim_destroy(sim);
}

/* The fill is gone, and what it stood for is still to be told, for the flush is hardly newer. */
static void a_change_is_told_though_its_fill_was_flushed(void) {
    struct sim *sim = row("filled and flushed", 2, 100 * 1000);
    sim_cut(sim, 0, 1, true);
    sim_run(sim, 5000);
    put(&sim->hosts[0], "i/key", "first");
    fill(&sim->hosts[0], "i/key", "first");
    const uint64_t flushed = lr_highest_version(sim->hosts[0].cache) + (UINT64_C(1) << SM_VERSION_ORIGIN_BITS);
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT(lr_apply_flush(sim->hosts[i].cache, flushed) >= 0);
    fill(&sim->hosts[1], "i/key", "perhaps older");
    CU_ASSERT(version_of(&sim->hosts[0], "i/key") == 0 && version_of(&sim->hosts[1], "i/key") > flushed);
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT_EQUAL(version_of(&sim->hosts[1], "i/key"), 0);
    sim_destroy(sim);
}

/* ---- tombstones ---------------------------------------------------------------------------------------------------
 */

/* A tombstone says what was deleted, not what a peer has forgotten since. */
static void nothing_forgotten_comes_in_past_a_tombstone(void) {
    struct sim *sim = row("past a tombstone", 2, LIMIT_MS);
    struct sim_host *host = &sim->hosts[0];
    put(host, "key", "value");
    const uint64_t deleted = version_of(host, "key") + (UINT64_C(4) << SM_VERSION_ORIGIN_BITS);
    CU_ASSERT_EQUAL(lr_apply_tombstone(host->cache, hash_of("key"), deleted, 0), LR_APPLIED);
    const uint64_t forgotten = deleted + (UINT64_C(4) << SM_VERSION_ORIGIN_BITS);
    struct lr_change change = {.key = "key", .key_len = 3, .value = "x", .value_len = 1, .deadline_ms = UINT64_MAX};
    CU_ASSERT_EQUAL(lr_raise_floor(host->cache, lr_range_of(hash_of("key")), forgotten), 0);
    change.version = forgotten - (UINT64_C(1) << SM_VERSION_ORIGIN_BITS);
    CU_ASSERT_EQUAL(lr_apply_put(host->cache, &change, 0), LR_DECLINED);
    CU_ASSERT_EQUAL(lr_apply_put(host->cache, &change, LR_NO_EVICT), LR_DECLINED);
    change.version = forgotten + (UINT64_C(1) << SM_VERSION_ORIGIN_BITS);
    CU_ASSERT_EQUAL(lr_apply_put(host->cache, &change, 0), LR_APPLIED);
    sim_destroy(sim);
}

void larder_suite_98_forgotten(void);
void larder_suite_98_forgotten(void) {
    CU_pSuite suite = CU_add_suite("98_forgotten: what one host has forgotten, all let go of", NULL, NULL);
    CU_ADD_TEST(suite, a_lower_void_reaches_who_told_the_higher);
    CU_ADD_TEST(suite, what_is_forgotten_below_a_void_that_was_told_is_led_on);
    CU_ADD_TEST(suite, voids_that_meet_do_not_go_on_for_ever);
    CU_ADD_TEST(suite, a_fill_does_not_hide_a_change_that_is_older_from_a_relay);
    CU_ADD_TEST(suite, a_fill_in_the_place_of_a_change_is_as_new_as_that);
    CU_ADD_TEST(suite, a_change_is_told_though_its_fill_was_flushed);
    CU_ADD_TEST(suite, nothing_forgotten_comes_in_past_a_tombstone);
}
