/* SPDX-License-Identifier: MIT */
/*
 * Those who do not play along, on the simulated network (simnet.h): strangers, mirrors, garbage, peers that lie, wrong
 * clocks, stopped lock holders. At most their own link suffers.
 */
#include "simnet.h"
#include "stripe.h"

#include <string.h>

#define SEGMENT (UINT64_C(8) << 20)

static void a_stranger_and_oneself_are_refused(void) {
    uint64_t sizes[3] = {SEGMENT, SEGMENT, SEGMENT};
    struct sim *sim = sim_create_idle("strangers", 3, sizes);
    sim_start(&sim->hosts[0], NULL, false);
    sim_start(&sim->hosts[1], NULL, false);
    CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[0].node, "host2:1"), 0);
    CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[1].node, "host0:1"), 0); /* host 0 does not know host 1 */
    CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[1].node, "host1:1"), 0); /* a mirror */
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[1], 1, "secret", 0), 0);
    sim_run(sim, 10000);
    char text[64];
    CU_ASSERT_EQUAL(sim_get(&sim->hosts[0], 1, text), 0);
    CU_ASSERT_EQUAL(lr_node_live(sim->hosts[1].node), 0);
    CU_ASSERT_EQUAL(sim->open_links, 0);
    sim_destroy(sim);
}

/* The deleting host's stripes are all held by somebody who does not go on. */
static void a_delete_behind_a_stopped_holder_reaches_the_others(void) {
    struct sim *sim = sim_create("a delete behind a stopped holder", 3, SEGMENT);
    struct sim_host *deleting = &sim->hosts[1];
    struct lr_view views[64];
    char text[64];
    for (unsigned key = 0; key < 4; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, "there", 0), 0);
    CU_ASSERT(sim_settle(sim, 5000));
    uint32_t stripes = lr_stripe_count(deleting->cache);
    CU_ASSERT_FATAL(stripes <= 64);
    for (uint32_t i = 0; i < stripes; i++)
        CU_ASSERT_EQUAL_FATAL(lr_stripe_lock(&views[i], deleting->segment.two, i), 0);
    for (unsigned key = 0; key < 4; key++) {
        CU_ASSERT_NOT_EQUAL(sim_get(deleting, key, text), 0);
        CU_ASSERT_EQUAL(sim_delete(deleting, key), 0);
        CU_ASSERT_EQUAL(sim_get(deleting, key, text), 0);
    }
    for (uint32_t i = 0; i < stripes; i++)
        lr_stripe_unlock(&views[i]);
    sim_run(sim, 5000); /* the daemon's sweeps make tombstones of the notes, if nobody else takes the lock */
    CU_ASSERT(sim_settle(sim, 5000));
    for (unsigned host = 0; host < 3; host++)
        for (unsigned key = 0; key < 4; key++)
            CU_ASSERT_EQUAL(sim_get(&sim->hosts[host], key, text), 0);
    sim_destroy(sim);
}

static void equal_origins_are_redrawn(void) {
    uint64_t sizes[2] = {SEGMENT, SEGMENT};
    struct sim *sim = sim_create_idle("origins", 2, sizes);
    for (unsigned i = 0; i < 2; i++) {
        lr_set_origin(sim->hosts[i].cache, 77);
        sim_start(&sim->hosts[i], NULL, true);
    }
    CU_ASSERT(sim_settle(sim, 5000));
    CU_ASSERT_NOT_EQUAL(lr_origin(sim->hosts[0].cache), lr_origin(sim->hosts[1].cache));
    sim_destroy(sim);
}

static void a_stopped_lock_holder_delays_its_host_and_no_other(void) {
    struct sim *sim = sim_create("a stopped lock holder", 3, SEGMENT);
    char text[64];
    CU_ASSERT(sim_settle(sim, 5000));
    struct lr_view views[64];
    uint32_t stripes = lr_stripe_count(sim->hosts[1].cache);
    CU_ASSERT_FATAL(stripes <= 64);
    for (uint32_t i = 0; i < stripes; i++) /* another participant of the same segment */
        CU_ASSERT_EQUAL_FATAL(lr_stripe_lock(&views[i], sim->hosts[1].segment.two, i), 0);
    for (unsigned key = 0; key < 20; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, "patience", 0), 0);
    sim_run(sim, 2000);
    CU_ASSERT_EQUAL(lr_node_live(sim->hosts[0].node), 2);
    CU_ASSERT_NOT_EQUAL(sim_get(&sim->hosts[2], 19, text), 0);
    CU_ASSERT_EQUAL(sim_get(&sim->hosts[1], 19, text), 0);
    for (uint32_t i = 0; i < stripes; i++)
        lr_stripe_unlock(&views[i]);
    CU_ASSERT(sim_settle(sim, 5000));
    CU_ASSERT_NOT_EQUAL(sim_get(&sim->hosts[1], 19, text), 0);
    sim_destroy(sim);
}

static void garbage_from_the_network_harms_nothing(void) {
    struct sim *sim = sim_create("garbage", 2, SEGMENT);
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], 1, "safe", 0), 0);
    CU_ASSERT(sim_settle(sim, 5000));
    for (unsigned i = 0; i < 2000; i++) {
        uint8_t bytes[1024];
        size_t len = 1 + fixture_below(&sim->random, sizeof bytes);
        for (size_t k = 0; k < len; k++)
            bytes[k] = (uint8_t)fixture_next(&sim->random);
        if (i % 2 == 0) { /* well-formed frames in the wrong place or order */
            uint64_t words[4] = {fixture_below(&sim->random, 8), 3, UINT64_C(1) << 32, 0};
            enum wire_type type = (enum wire_type)(1 + fixture_below(&sim->random, 14));
            len = wire_encode_words(bytes, sizeof bytes, type, 0, words, (uint32_t)fixture_below(&sim->random, 5));
        }
        sim_garbage(&sim->hosts[i % 2], bytes, len);
        if (i % 10 == 0)
            sim_run(sim, SIM_STEP_MS);
    }
    CU_ASSERT(sim_settle(sim, 10000));
    sim_run(sim, 4000);
    CU_ASSERT_EQUAL(sim->open_links, 1);
    CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

static size_t say_hello(struct sim *sim, uint8_t *out, size_t cap) {
    struct wire_hello hello = {.protocol = WIRE_PROTOCOL,
                               .incarnation = {1, 2},
                               .wall_ms = sim->hosts[0].world.wall_ms(&sim->hosts[0]),
                               .max_entry = 1 << 20,
                               .origin = 5,
                               .node = "impostor",
                               .listen = "host1:1"};
    return wire_encode_hello(out, cap, &hello);
}

/* A peer that passes HELLO and then sends nonsense: at most its own link suffers. */
static void a_hostile_peer_gets_its_link_closed(void) {
    uint64_t sizes[2] = {SEGMENT, SEGMENT};
    struct sim *sim = sim_create_idle("a hostile peer", 2, sizes);
    sim_start(&sim->hosts[0], NULL, true);
    struct fixture_random *random = &sim->random;
    for (unsigned i = 0; i < 3000; i++) {
        static uint8_t bytes[60000];
        size_t len = say_hello(sim, bytes, sizeof bytes);
        unsigned frames = 1 + (unsigned)fixture_below(random, 12);
        for (unsigned k = 0; k < frames; k++) {
            uint64_t words[64];
            for (unsigned w = 0; w < 64; w++)
                words[w] = fixture_below(random, 3) != 0 ? fixture_below(random, 300) : fixture_next(random);
            enum wire_type type = (enum wire_type)(2 + fixture_below(random, 13));
            unsigned flags = type == WIRE_PUT ? 3u & (unsigned)fixture_next(random) : 0;
            uint32_t count = (uint32_t)fixture_below(random, 64);
            if (type == WIRE_PUT && fixture_below(random, 2) != 0)
                words[2] = (1 + fixture_below(random, 20)) << 32;
            if (type != WIRE_PUT && type != WIRE_LIST && type != WIRE_VOIDS)
                count = 2;
            if (type == WIRE_SETTLE)
                words[1] |= UINT64_C(1) << 63, words[0] >>= 1;
            if (type == WIRE_SETTLE && fixture_below(random, 2) != 0)
                flags = WIRE_LAST;
            len += wire_encode_words(bytes + len, sizeof bytes - len, type, flags, words, count);
        }
        if (fixture_below(random, 4) == 0)
            bytes[fixture_below(random, len)] ^= 0x20;
        sim_garbage(&sim->hosts[0], bytes, len);
        sim_run(sim, SIM_STEP_MS * (1 + fixture_below(random, 3)));
    }
    sim_run(sim, 6000);
    sim_start(&sim->hosts[1], NULL, true);
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], 1, "still here", 0), 0);
    CU_ASSERT(sim_settle(sim, 30000));
    char text[64];
    CU_ASSERT_NOT_EQUAL(sim_get(&sim->hosts[1], 1, text), 0);
    sim_destroy(sim);
}

static uint64_t clock_refusals(const struct sim *sim) {
    return sim->hosts[0].node->peers[0]->clock_refusals + sim->hosts[1].node->peers[0]->clock_refusals;
}

static void a_peer_with_a_wrong_clock_is_kept_out_until_it_is_set(void) {
    uint64_t sizes[2] = {SEGMENT, SEGMENT};
    for (int sign = -1; sign <= 1; sign += 2) {
        struct sim *sim = sim_create_idle("clocks", 2, sizes);
        char text[64];
        sim->hosts[1].wall_off_ms = sign * 10000;
        sim_start(&sim->hosts[0], NULL, true);
        sim_start(&sim->hosts[1], NULL, true);
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[1], 1, "from another time", 0), 0);
        sim_run(sim, 10000);
        CU_ASSERT_EQUAL(lr_node_live(sim->hosts[0].node), 0);
        CU_ASSERT_EQUAL(lr_node_live(sim->hosts[1].node), 0);
        CU_ASSERT_EQUAL(sim_get(&sim->hosts[0], 1, text), 0);
        CU_ASSERT(clock_refusals(sim) >= 2); /* counted on the side that judges: it is tried again and again */
        sim->hosts[1].wall_off_ms = 0;
        CU_ASSERT(sim_settle(sim, 20000));
        CU_ASSERT_NOT_EQUAL(sim_get(&sim->hosts[0], 1, text), 0);
        const uint64_t before = clock_refusals(sim);
        sim_run(sim, 3000);
        CU_ASSERT_EQUAL(clock_refusals(sim), before);
        sim->hosts[1].wall_off_ms = sign * 3000; /* it drifts off on a live link */
        sim_run(sim, 3000);
        CU_ASSERT_EQUAL(lr_node_live(sim->hosts[0].node), 0);
        CU_ASSERT(clock_refusals(sim) > before);
        sim_destroy(sim);
    }
}

static void the_stricter_clock_limit_of_two_counts(void) {
    uint64_t sizes[2] = {SEGMENT, SEGMENT};
    for (int sign = -1; sign <= 1; sign += 2) {
        struct sim *sim = sim_create_idle("clock limits", 2, sizes);
        struct lr_node_options tolerant = sim_options(&sim->hosts[1]);
        tolerant.clock_limit_ms = 3600000;
        sim_start(&sim->hosts[0], NULL, true);
        sim_start(&sim->hosts[1], &tolerant, true);
        CU_ASSERT(sim_settle(sim, 5000));
        sim->hosts[1].wall_off_ms = sign * 10000;
        sim_run(sim, 1500);
        CU_ASSERT_EQUAL(lr_node_live(sim->hosts[0].node), 0);
        sim_destroy(sim);
    }
}

static void a_host_that_answers_nothing_is_given_up_and_found_again(void) {
    struct sim *sim = sim_create("silence", 2, SEGMENT);
    CU_ASSERT(sim_settle(sim, 5000));
    sim_cut(sim, 0, 1, true);
    sim_run(sim, LR_SILENCE_MS + 500);
    CU_ASSERT_EQUAL(lr_node_live(sim->hosts[0].node), 0);
    CU_ASSERT_EQUAL(lr_node_live(sim->hosts[1].node), 0);
    sim_run(sim, 60000);
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, LR_BACKOFF_MOST_MS + LR_HELLO_MS + 3000));
    sim_destroy(sim);
}

void larder_suite_88_hostile(void);
void larder_suite_88_hostile(void) {
    CU_pSuite suite = CU_add_suite("88_hostile", NULL, NULL);
    CU_ADD_TEST(suite, a_stranger_and_oneself_are_refused);
    CU_ADD_TEST(suite, equal_origins_are_redrawn);
    CU_ADD_TEST(suite, a_stopped_lock_holder_delays_its_host_and_no_other);
    CU_ADD_TEST(suite, a_delete_behind_a_stopped_holder_reaches_the_others);
    CU_ADD_TEST(suite, garbage_from_the_network_harms_nothing);
    CU_ADD_TEST(suite, a_hostile_peer_gets_its_link_closed);
    CU_ADD_TEST(suite, a_peer_with_a_wrong_clock_is_kept_out_until_it_is_set);
    CU_ADD_TEST(suite, the_stricter_clock_limit_of_two_counts);
    CU_ADD_TEST(suite, a_host_that_answers_nothing_is_given_up_and_found_again);
}
