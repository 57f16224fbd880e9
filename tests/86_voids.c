/* SPDX-License-Identifier: MIT */
/*
 * Voids and their parts (shm/voids.c, sidecar/settle.c): what was forgotten before a peer had heard of it takes the
 * peers' older values away, and next to nothing else.
 */
#include "scene.h"
#include "simnet.h"

#include "stripe.h"

#include <string.h>

#define SEGMENT (UINT64_C(1) << 20)
#define LARGE (UINT64_C(32) << 20)

static uint64_t hash_of(unsigned key) {
    char name[24];
    return lr_cluster_hash(name, (size_t)snprintf(name, sizeof name, "key %u", key));
}

static bool has(struct sim_host *host, unsigned key) {
    char found[64];
    return sim_get(host, key, found) != 0;
}

static struct lr_view view_of(struct lr_cache *cache, uint64_t hash) {
    return lr_view_of(cache, lr_place_stripe(cache, lr_place(cache, hash)));
}

static bool is_set(struct lr_cache *cache, uint64_t hash) {
    const struct lr_view view = view_of(cache, hash);
    return lr_void_of(&view, hash) != 0;
}

/* As if it had been there and had gone, and nobody had heard of it. */
static void forget(struct lr_cache *cache, uint64_t hash, uint64_t version) {
    struct lr_view view = view_of(cache, hash);
    lr_void_raise(&view, hash, version);
}

/* The next key behind `after` in the range of key 1, in the same of so many parts or in another. */
static unsigned neighbour(unsigned after, uint32_t words, bool same) {
    for (unsigned key = after + 1;; key++)
        if (lr_range_of(hash_of(key)) == lr_range_of(hash_of(1)) &&
            (lr_part_of(hash_of(key), words) == lr_part_of(hash_of(1), words)) == same)
            return key;
}

static int apply(struct lr_cache *cache, unsigned key, uint64_t version) {
    char name[24];
    struct lr_change change = {.key = name,
                               .key_len = (uint32_t)snprintf(name, sizeof name, "key %u", key),
                               .value = "value",
                               .value_len = 5,
                               .version = version,
                               .deadline_ms = UINT64_MAX};
    return lr_apply_put(cache, &change, 0);
}

/* ---- one segment ------------------------------------------------------------------------------------------------- */

static void a_void_bars_keys_of_its_parts_only(void) {
    struct fixture f = {0};
    fixture_create(&f, SEGMENT);
    const unsigned other = neighbour(1, lr_parts_words(f.one), false);
    const uint64_t version = lr_highest_version(f.one) + (UINT64_C(1) << 40);
    forget(f.one, hash_of(1), version);
    CU_ASSERT_EQUAL(apply(f.one, 1, version), LR_DECLINED);
    CU_ASSERT_EQUAL(apply(f.one, other, version), LR_APPLIED);
    CU_ASSERT_EQUAL(apply(f.one, 1, version + 1), LR_APPLIED);
    fixture_destroy(&f);
}

static void each_that_is_forgotten_is_to_be_told(void) {
    struct fixture f = {0};
    struct lr_range before, after;
    fixture_create(&f, SEGMENT);
    const unsigned range = lr_range_of(hash_of(1));
    forget(f.one, hash_of(1), 1000);
    lr_range_get(f.one, range, &before);
    forget(f.one, hash_of(1), 999); /* below it, in the same part */
    lr_range_get(f.one, range, &after);
    CU_ASSERT(before.turn != 0 && after.turn != before.turn && after.void_version == 1000);
    fixture_destroy(&f);
}

/* Hosts of other sizes cut their ranges into other numbers of parts. */
static void parts_of_any_number_are_merged(void) {
    static uint64_t words[LR_PART_WORDS];
    for (uint32_t count = 1; count <= LR_PART_WORDS; count *= 32) {
        struct fixture f = {0};
        fixture_create(&f, LARGE);
        const unsigned range = lr_range_of(hash_of(1));
        const uint32_t ours = lr_parts_words(f.one), coarse = ours < count ? ours : count;
        CU_ASSERT(ours > 1 && ours < LR_PART_WORDS);
        const uint64_t part = lr_part_of(hash_of(1), count);
        memset(words, 0, sizeof words);
        words[part / 64] = UINT64_C(1) << (part % 64);
        const struct lr_parts parts = {.words = words, .count = count};
        uint64_t risen = 0;
        CU_ASSERT_EQUAL(lr_raise_void(f.one, range, 1000, &parts, &risen), 0);
        CU_ASSERT(risen == 1 && is_set(f.one, hash_of(1)));
        const uint64_t outside = UINT64_C(1) << 56 >> __builtin_ctz(coarse * 64), inside = outside >> 1;
        CU_ASSERT(is_set(f.one, hash_of(1) ^ inside) && !is_set(f.one, hash_of(1) ^ outside));
        CU_ASSERT_EQUAL(lr_raise_void(f.one, range, 1000, &parts, &risen), 0);
        CU_ASSERT_EQUAL(risen, 1); /* nothing new */
        CU_ASSERT_EQUAL(lr_raise_void(f.one, range, 1000, NULL, &risen), 0);
        CU_ASSERT(risen == 2 && is_set(f.one, hash_of(1) ^ outside));
        fixture_destroy(&f);
    }
}

/* Of key 1's range, one part in four. */
static void forget_many(struct lr_cache *cache, uint64_t version) {
    const uint64_t parts = lr_parts_words(cache) * UINT64_C(64), range = hash_of(1) >> 56 << 56;
    for (uint64_t part = 0; part < parts; part += 4)
        forget(cache, range | ((part << 32) / parts) << 24, version);
}

static void cleared_parts_leave_a_floor(void) {
    struct fixture f = {0};
    struct lr_range range;
    fixture_create(&f, SEGMENT);
    lr_set_replicating(f.one, true);
    const unsigned at = lr_range_of(hash_of(1));
    const uint64_t version = lr_highest_version(f.one) + (UINT64_C(1) << 40);
    forget(f.one, hash_of(1), version);
    lr_range_get(f.one, at, &range);
    CU_ASSERT_EQUAL(lr_parts_clear(f.one, at, &range.turn), 0); /* too few to be worth it */
    forget_many(f.one, version);
    CU_ASSERT_EQUAL(lr_parts_clear(f.one, at, &range.turn), 0); /* of that turn no longer */
    lr_range_get(f.one, at, &range);
    CU_ASSERT_EQUAL(lr_parts_clear(f.one, at, &range.turn), 1);
    CU_ASSERT(lr_turn_is_cleared(range.turn) && lr_void_turn(f.one, at) == range.turn && !is_set(f.one, hash_of(1)));
    CU_ASSERT_EQUAL(apply(f.one, 1, version), LR_DECLINED);
    CU_ASSERT_EQUAL(apply(f.one, 1, version + 1), LR_APPLIED);
    forget(f.one, hash_of(1), version + 2);
    CU_ASSERT(is_set(f.one, hash_of(1)) && lr_turn_is_cleared(lr_void_turn(f.one, at)));
    fixture_destroy(&f);
}

#if SCENE_POSSIBLE

/* All parts of key 1's range are set, and its turn stands. */
static uint64_t set_all(struct lr_cache *cache) {
    const unsigned range = lr_range_of(hash_of(1));
    const size_t words = cache->geometry.part_words;
    memset(cache->base + cache->geometry.voids_off + (SM_RANGES + range * words) * 8, 0xff, words * 8);
    return lr_void_turn(cache, range);
}

static void forget_by_one(struct scene *s) {
    set_all(s->one);
    forget(s->one, hash_of(1), 1000);
}

static void forget_by_two(struct scene *s) {
    forget(s->two, hash_of(1), 1000);
}

static void clear(struct scene *s, struct lr_cache *cache, uint64_t turn) {
    s->result = lr_parts_clear(cache, lr_range_of(hash_of(1)), &turn);
    s->versions[0] = turn << 1 >> 1; /* without its mark */
}

static void clear_by_one(struct scene *s) {
    clear(s, s->one, set_all(s->one));
}

static void clear_by_two(struct scene *s) {
    clear(s, s->two, lr_void_turn(s->two, lr_range_of(hash_of(1))));
}

/* What was forgotten is in the bits, or was so at the turn that was cleared, of which all had heard. */
static void what_is_forgotten_while_bits_are_cleared_is_not_lost(void) {
    static const struct { deed call, act; } rows[] = {{forget_by_one, clear_by_two}, {clear_by_one, forget_by_two}};
    for (unsigned row = 0; row < 2; row++) {
        struct scene s;
        unsigned cleared = 0, kept = 0;
        begin(&s, 128u << 10, true);
        keep(&s);
        const unsigned way = record_way(&s, rows[row].call, NULL);
        for (unsigned k = 1; k <= way; k++) {
            s.result = 0;
            if (!interrupt(&s, rows[row].call, k, rows[row].act))
                continue;
            const uint64_t turn = lr_void_turn(s.one, lr_range_of(hash_of(1))) << 1 >> 1;
            CU_ASSERT(is_set(s.one, hash_of(1)) || (s.result == 1 && s.versions[0] >= turn));
            cleared += s.result == 1;
            kept += s.result == 1 && is_set(s.one, hash_of(1));
        }
        CU_ASSERT(way > 20 && cleared > 0 && kept > 0);
        end(&s);
    }
}
#endif

/* ---- hosts ------------------------------------------------------------------------------------------------------- */

/* Forgets all that it has, of which the others have heard. */
static void let_go_of_all(struct sim_host *host) {
    for (unsigned key = 0; key < 3000; key++)
        if (has(host, key))
            CU_ASSERT_EQUAL(lr_drop_void(host->cache, hash_of(key), lr_highest_version(host->cache)), 0);
}

/* Hosts in a row, each with keys 1, `near` and `far` in one range, of which all but the last then hold none. */
static struct sim *with_keys(const char *what, unsigned hosts, uint64_t size, const unsigned keys[3]) {
    const uint64_t sizes[3] = {size, SEGMENT, SEGMENT};
    struct sim *sim = sim_create_idle(what, hosts, sizes);
    for (unsigned i = 0; i < hosts; i++) {
        struct lr_node_options options = sim_options(&sim->hosts[i]);
        options.relay = i == 1 && hosts == 3;
        sim_start(&sim->hosts[i], &options, false);
        for (unsigned k = 0; k < hosts; k++)
            if (i + 1 == k || k + 1 == i)
                CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[i].node, sim->hosts[k].address), 0);
    }
    CU_ASSERT(sim_settle(sim, 5000));
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], keys[i], "value", 0), 0);
    CU_ASSERT(sim_settle(sim, 20000));
    sim_run(sim, 1000);
    for (unsigned i = 0; i + 1 < hosts; i++)
        let_go_of_all(&sim->hosts[i]);
    sim_run(sim, 1000);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT(!has(&sim->hosts[0], keys[i]) && has(&sim->hosts[hosts - 1], keys[i]));
    return sim;
}

static void what_was_forgotten_of_one_key_spares_others(void) {
    static const struct {
        unsigned hosts;
        uint64_t size; /* of the first */
    } rows[] = {{2, SEGMENT}, {2, LARGE}, {3, SEGMENT}, {3, LARGE}};
    const unsigned far = neighbour(1, 1, false), keys[3] = {1, far, neighbour(far, 1, false)};
    for (unsigned row = 0; row < 4; row++) {
        struct sim *sim = with_keys("voids in parts", rows[row].hosts, rows[row].size, keys);
        forget(sim->hosts[0].cache, hash_of(1), lr_highest_version(sim->hosts[0].cache));
        sim_run(sim, 5 * LR_SETTLE_EVERY_MS);
        struct sim_host *last = &sim->hosts[rows[row].hosts - 1];
        CU_ASSERT(!has(last, 1) && has(last, keys[1]) && has(last, keys[2]));
        sim_destroy(sim);
    }
}

/* A relay holds a tombstone of something older, which it may have laid itself: the key is forgotten all the same. */
static void a_relay_s_tombstone_spares_no_key(void) {
    const unsigned far = neighbour(1, 1, false), keys[3] = {1, far, neighbour(far, 1, false)};
    struct sim *sim = with_keys("a relay's tombstone", 3, SEGMENT, keys);
    struct sim_host *relay = &sim->hosts[1], *last = &sim->hosts[2];
    static uint8_t bytes[SEGMENT];
    struct lr_entry entry;
    CU_ASSERT_EQUAL(lr_entry_by_hash(last->cache, hash_of(1), bytes, sizeof bytes, &entry), 0);
    sim_acting = relay;
    lr_apply_tombstone(relay->cache, hash_of(1), entry.version - (UINT64_C(1) << 30), 0);
    CU_ASSERT(lr_entry_by_hash(relay->cache, hash_of(1), bytes, sizeof bytes, &entry) == 0 && entry.tombstone);
    forget(relay->cache, hash_of(1), lr_highest_version(relay->cache));
    sim_run(sim, 5 * LR_SETTLE_EVERY_MS);
    CU_ASSERT(!has(last, 1) && has(last, keys[1]) && has(last, keys[2]));
    sim_destroy(sim);
}

static void an_older_release_settles_whole_ranges(void) {
    const unsigned far = neighbour(1, 1, false), keys[3] = {1, far, neighbour(far, 1, false)};
    struct sim *sim = with_keys("voids of whole ranges", 2, SEGMENT, keys);
    sim->hosts[0].node->peers[0]->features &= ~(uint64_t)WIRE_HAS_PARTS;
    forget(sim->hosts[0].cache, hash_of(1), lr_highest_version(sim->hosts[0].cache));
    sim_run(sim, 5 * LR_SETTLE_EVERY_MS);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT(!has(&sim->hosts[1], keys[i]));
    sim_destroy(sim);
}

/* A daemon that is started anew knows of no settlement: its bits still say everything, until some were cleared. */
static void after_a_clear_who_is_new_settles_whole_ranges(void) {
    for (unsigned cleared = 0; cleared < 2; cleared++) {
        struct lr_range range;
        unsigned far = 1;
        do /* in none of the parts of forget_many */
            far = neighbour(far, 1, false);
        while (lr_part_of(hash_of(far), 1) % 4 == 0);
        const unsigned keys[3] = {1, far, far};
        struct sim *sim = with_keys("a clear", 2, SEGMENT / 4, keys);
        CU_ASSERT_EQUAL(lr_parts_words(sim->hosts[0].cache), 1);
        const uint64_t version = lr_highest_version(sim->hosts[0].cache);
        if (cleared)
            forget_many(sim->hosts[0].cache, version);
        else
            forget(sim->hosts[0].cache, hash_of(1), version);
        sim_run(sim, 5 * LR_SETTLE_EVERY_MS);
        lr_range_get(sim->hosts[0].cache, lr_range_of(hash_of(1)), &range);
        CU_ASSERT(lr_turn_is_cleared(range.turn) == (cleared != 0) && has(&sim->hosts[1], far));
        sim_kill(&sim->hosts[0]);
        sim_start(&sim->hosts[0], NULL, false);
        CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[0].node, sim->hosts[1].address), 0);
        sim_run(sim, 5 * LR_SETTLE_EVERY_MS);
        CU_ASSERT(has(&sim->hosts[1], far) == (cleared == 0));
        sim_destroy(sim);
    }
}

/* ---- partitions -------------------------------------------------------------------------------------------------- */

/* Two hosts that are full, by 3,000 keys. */
static struct sim *full(bool of_tombstones) {
    const uint64_t sizes[2] = {SEGMENT, SEGMENT};
    struct sim *sim = sim_create_idle("a partition of a minute", 2, sizes);
    for (unsigned i = 0; i < 2; i++) {
        struct lr_node_options options = sim_options(&sim->hosts[i]);
        options.tombstone_ms = of_tombstones ? 600000 : options.tombstone_ms;
        sim_start(&sim->hosts[i], &options, true);
        /* By the rules of s3 new ones go soon, many untold; by age hardly any would. */
        for (uint32_t stripe = 0; stripe < sim->hosts[i].cache->geometry.stripe_count; stripe++)
            atomic_store(&lr_stripe_at(sim->hosts[i].cache, stripe)->filled, 1);
    }
    CU_ASSERT(sim_settle(sim, 5000));
    for (unsigned number = 0; number < 3000; number++) {
        sim_put_ballast(&sim->hosts[number % 2], number);
        if (of_tombstones && number < 2000)
            CU_ASSERT_EQUAL(sim_delete(&sim->hosts[number % 2], 100000 + number), LARDER_ENOT_FOUND);
        if (number % 100 == 0)
            sim_run(sim, 20);
    }
    CU_ASSERT(sim_settle(sim, 20000));
    sim_run(sim, 1000);
    return sim;
}

static uint64_t turns_of(const struct sim_host *host) {
    uint64_t turns = 0;
    for (unsigned range = 0; range < SM_RANGES; range++)
        turns += lr_void_turn(host->cache, range);
    return turns;
}

/* One is cut off for a minute, and both write on: of so many keys one is new, on each side. */
static void expect_what_is_new_to_be_the_price(struct sim *sim, unsigned one_of, bool among_voids) {
    static uint64_t versions[2][3000];
    unsigned held[2] = {0}, kept[2] = {0};
    for (unsigned i = 0; i < 2; i++)
        for (unsigned number = 0; number < 3000; number++)
            held[i] += (versions[i][number] = sim_ballast_of(&sim->hosts[i], number)) != 0;
    sim_cut(sim, 0, 1, true);
    const unsigned fresh = held[0] / one_of;
    for (unsigned n = 0; n < fresh; n++) {
        sim_run(sim, 60000 / fresh);
        sim_put_ballast(&sim->hosts[0], 10000 + n);
        sim_put_ballast(&sim->hosts[1], 20000 + n);
    }
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    sim_run(sim, 3 * LR_SETTLE_EVERY_MS);
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned number = 0; number < 3000; number++)
            kept[i] += versions[i][number] != 0 && sim_ballast_of(&sim->hosts[i], number) == versions[i][number];
        CU_ASSERT(among_voids || turns_of(&sim->hosts[i]) == 0);
        CU_ASSERT(held[i] > 700 && kept[i] + 2 * fresh + (among_voids ? 30 : 4) >= held[i]);
    }
    sim_destroy(sim);
}

/* Nor is anything forgotten untold, though each host fills faster than it tells. Often, for it is chance. */
static void a_partition_costs_no_more_than_what_is_new_takes(void) {
    for (unsigned round = 0; round < (FIXTURE_SANITIZED ? 2 : 12); round++)
        expect_what_is_new_to_be_the_price(full(false), round % 2 == 0 ? 50 : 10, false);
}

/* So many tombstones that what goes can leave no more, and has not been settled when the partition begins. */
static void neither_does_one_among_voids(void) {
    for (unsigned round = 0; round < 2; round++) {
        struct sim *sim = full(true);
        for (unsigned again = 0; lr_settle_left(sim->hosts[0].node->peers[0]) <= 50 && again < 10; again++) {
            sim_destroy(sim); /* it was settled just now */
            sim = full(true);
        }
        CU_ASSERT(lr_settle_left(sim->hosts[0].node->peers[0]) > 50);
        expect_what_is_new_to_be_the_price(sim, round % 2 == 0 ? 50 : 10, true);
    }
}

void larder_suite_86_voids(void);
void larder_suite_86_voids(void) {
    CU_pSuite suite = CU_add_suite("86_voids", NULL, NULL);
    CU_ADD_TEST(suite, a_void_bars_keys_of_its_parts_only);
    CU_ADD_TEST(suite, each_that_is_forgotten_is_to_be_told);
    CU_ADD_TEST(suite, parts_of_any_number_are_merged);
    CU_ADD_TEST(suite, cleared_parts_leave_a_floor);
#if SCENE_POSSIBLE
    CU_ADD_TEST(suite, what_is_forgotten_while_bits_are_cleared_is_not_lost);
#endif
    CU_ADD_TEST(suite, what_was_forgotten_of_one_key_spares_others);
    CU_ADD_TEST(suite, a_relay_s_tombstone_spares_no_key);
    CU_ADD_TEST(suite, an_older_release_settles_whole_ranges);
    CU_ADD_TEST(suite, after_a_clear_who_is_new_settles_whole_ranges);
    CU_ADD_TEST(suite, a_partition_costs_no_more_than_what_is_new_takes);
    CU_ADD_TEST(suite, neither_does_one_among_voids);
}
