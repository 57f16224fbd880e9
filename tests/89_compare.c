/* SPDX-License-Identifier: MIT */
/* Anti-entropy (sidecar/compare.c) between real segments over the simulated network: what no hint tells is found, and
 * what is equal is not sent. */
#include "simnet.h"

#include <string.h>

#define SEGMENT (UINT64_C(8) << 20)
#define ROUNDS(n) ((n) * (LR_COMPARE_EVERY_MS + 1000u))

static void put_all(struct sim_host *host, unsigned first, unsigned count, const char *text) {
    for (unsigned key = first; key < first + count; key++)
        CU_ASSERT_EQUAL(sim_put(host, key, text, 0), 0);
}

/* Changes that leave no hint: nothing but a comparison can find them. */
static void put_unhinted(struct sim_host *host, unsigned first, unsigned count, const char *text) {
    lr_set_replicating(host->cache, false);
    put_all(host, first, count, text);
    lr_set_replicating(host->cache, true);
}

static uint64_t comparisons(const struct sim *sim) {
    return sim->hosts[0].node->peers[0]->comparisons + sim->hosts[1].node->peers[0]->comparisons;
}

static unsigned holds(struct sim_host *host, unsigned first, unsigned count, const char *text) {
    unsigned found = 0;
    char got[64];
    for (unsigned key = first; key < first + count; key++)
        found += sim_get(host, key, got) != 0 && strcmp(got, text) == 0;
    return found;
}

static void what_no_hint_tells_is_found_and_sent_once(void) {
    struct sim *sim = sim_create("unhinted", 2, SEGMENT);
    put_all(&sim->hosts[0], 0, 5000, "first");
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT_EQUAL(holds(&sim->hosts[1], 0, 5000, "first"), 5000);
    put_unhinted(&sim->hosts[0], 100, 50, "second");     /* newer here */
    put_unhinted(&sim->hosts[1], 6000, 70, "elsewhere"); /* absent there */
    for (unsigned key = 100; key < 150; key++) { /* the sender's belief that they were sent counts for nothing */
        char name[24], text[64];
        size_t len = (size_t)snprintf(name, sizeof name, "key %u", key);
        uint64_t version = sim_get(&sim->hosts[0], key, text);
        lr_outflow_know(sim->hosts[0].node->peers[0],
                        &(struct lr_known){.hash = lr_cluster_hash(name, len),
                                           .version = version,
                                           .deadline_ms = UINT64_MAX,
                                           .content = lr_outflow_content(text, strlen(text), 0)});
    }
    uint64_t sent = sim_entries_sent(sim);
    sim_run(sim, 1000);
    CU_ASSERT_EQUAL(holds(&sim->hosts[1], 100, 50, "second"), 0); /* or this test would prove nothing */
    CU_ASSERT_EQUAL(holds(&sim->hosts[0], 6000, 70, "elsewhere"), 0);
    sim_run(sim, ROUNDS(3));
    CU_ASSERT_EQUAL(holds(&sim->hosts[1], 100, 50, "second"), 50);
    CU_ASSERT_EQUAL(holds(&sim->hosts[0], 6000, 70, "elsewhere"), 70);
    CU_ASSERT(sim_digests_equal(sim));
    CU_ASSERT_EQUAL(sim->hosts[1].node->peers[0]->pulled, 50);
    CU_ASSERT_EQUAL(sim->hosts[0].node->peers[0]->pulled, 70);
    CU_ASSERT(sim_entries_sent(sim) - sent >= 120 && sim_entries_sent(sim) - sent < 140); /* an echo here and there */
    sent = sim_entries_sent(sim);
    sim_run(sim, ROUNDS(3));
    CU_ASSERT_EQUAL(sim_entries_sent(sim), sent);
    sim_destroy(sim);
}

static void a_missed_delete_is_found(void) {
    struct sim *sim = sim_create("missed delete", 2, SEGMENT);
    put_all(&sim->hosts[0], 0, 1000, "text");
    CU_ASSERT(sim_settle(sim, 20000));
    sim_cut(sim, 0, 1, true);
    for (unsigned key = 0; key < 30; key++)
        CU_ASSERT_EQUAL(sim_delete(&sim->hosts[0], key), 0);
    /* As if the peer had acknowledged them. */
    struct lr_peer *peer = sim->hosts[0].node->peers[0];
    for (uint32_t i = 0; i < sim->hosts[0].node->stripes; i++)
        peer->out.cursors[i].acked = peer->out.cursors[i].read = lr_feed_head(sim->hosts[0].cache, i);
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT_EQUAL(holds(&sim->hosts[1], 0, 30, "text"), 30);
    sim->hosts[0].node->tombstone_ms = UINT64_MAX; /* they are still there when the comparison comes */
    sim_run(sim, ROUNDS(3));
    CU_ASSERT_EQUAL(holds(&sim->hosts[1], 0, 1000, "text"), 970);
    CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

/* Of a chain, the middle loses its segment while the one end deletes and the other cannot hear of it. */
static void what_was_deleted_does_not_come_back_through_an_empty_relay(void) {
    uint64_t sizes[3] = {SEGMENT, SEGMENT, SEGMENT};
    struct sim *sim = sim_create_idle("an empty relay", 3, sizes);
    for (unsigned i = 0; i < 3; i++)
        sim_start(&sim->hosts[i], NULL, false);
    for (unsigned end = 0; end < 3; end += 2) {
        CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[1].node, sim->hosts[end].address), 0);
        CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[end].node, sim->hosts[1].address), 0);
    }
    put_all(&sim->hosts[0], 0, 50, "text");
    CU_ASSERT(sim_settle(sim, 20000));
    sim_run(sim, 1000);
    CU_ASSERT_EQUAL(holds(&sim->hosts[2], 0, 50, "text"), 50);
    sim_kill(&sim->hosts[1]);
    sim_wipe(&sim->hosts[1]);
    for (unsigned key = 0; key < 50; key++)
        CU_ASSERT_EQUAL(sim_delete(&sim->hosts[0], key), 0);
    sim_cut(sim, 1, 2, true);
    sim_start(&sim->hosts[1], NULL, false);
    CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[1].node, sim->hosts[0].address), 0);
    CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[1].node, sim->hosts[2].address), 0);
    sim_run(sim, 5000); /* the ends would forget their tombstones, had the relay taken them for its own only */
    sim_cut(sim, 1, 2, false);
    CU_ASSERT(sim_settle(sim, 60000));
    sim_run(sim, ROUNDS(2));
    for (unsigned host = 0; host < 3; host++)
        CU_ASSERT_EQUAL(holds(&sim->hosts[host], 0, 50, "text"), 0);
    sim_destroy(sim);
}

static void a_daemon_that_knows_nothing_sends_what_is_lacking(void) {
    struct sim *sim = sim_create("started anew", 2, SEGMENT);
    uint64_t looked_at = 0;
    put_all(&sim->hosts[0], 0, 20000, "text");
    CU_ASSERT(sim_settle(sim, 30000));
    sim_kill(&sim->hosts[0]);
    sim_kill(&sim->hosts[1]);
    put_all(&sim->hosts[0], 30000, 100, "while away");
    put_all(&sim->hosts[1], 40000, 100, "while away");
    sim_start(&sim->hosts[0], NULL, true);
    sim_start(&sim->hosts[1], NULL, true);
    CU_ASSERT(sim_settle(sim, 30000));
    CU_ASSERT(sim_digests_equal(sim));
    CU_ASSERT_EQUAL(holds(&sim->hosts[1], 30000, 100, "while away"), 100);
    CU_ASSERT_EQUAL(holds(&sim->hosts[0], 40000, 100, "while away"), 100);
    CU_ASSERT(sim_entries_sent(sim) >= 200 && sim_entries_sent(sim) < 300);
    for (unsigned host = 0; host < 2; host++) { /* all that they hold would be more than 20,000 headers and values */
        const uint64_t bytes = sim->hosts[host].node->peers[0]->sent_bytes;
        CU_ASSERT(bytes > UINT64_C(100) * WIRE_HEADER && bytes < UINT64_C(20000) * WIRE_HEADER / 4);
        const uint64_t received =
            sim->hosts[1 - host].node->peers[0]->received_bytes; /* but for who it was, at first */
        CU_ASSERT(received <= bytes && received + WIRE_HEADER + WIRE_HELLO_LIMIT >= bytes);
        looked_at += sim->hosts[host].node->peers[0]->out.looked_at;
    }
    /* One walk gathers rows, and one adds up for both questions: on both sides, or at least on one. */
    CU_ASSERT(looked_at >= 4 * 20000 && looked_at < 5 * 20000 + 10000);
    sim_destroy(sim);
}

/* Where numbers alone say that most parts differ, nobody walks for finer sums: who has all lists it in its only walk.
 */
static void hosts_of_unequal_number_walk_once(void) {
    struct sim *sim = sim_create("unequal in number", 2, SEGMENT);
    put_all(&sim->hosts[0], 0, 20000, "text");
    CU_ASSERT(sim_settle(sim, 30000));
    sim_kill(&sim->hosts[0]);
    sim_kill(&sim->hosts[1]);
    put_all(&sim->hosts[0], 30000, 10000, "while away");
    sim_start(&sim->hosts[0], NULL, true);
    sim_start(&sim->hosts[1], NULL, true);
    CU_ASSERT(sim_settle(sim, 30000));
    CU_ASSERT(sim_digests_equal(sim));
    CU_ASSERT_EQUAL(holds(&sim->hosts[1], 30000, 10000, "while away"), 10000);
    CU_ASSERT(sim_entries_sent(sim) >= 10000 && sim_entries_sent(sim) < 10100);
    /* A walk over 30,000, each of those that were asked for, and hints. */
    const uint64_t looked_at = sim->hosts[0].node->peers[0]->out.looked_at;
    CU_ASSERT(looked_at >= 40000 && looked_at < 55000);
    /* Who receives lists when all has come, so that nothing moves under its walk; and hints of what came. */
    const uint64_t there = sim->hosts[1].node->peers[0]->out.looked_at;
    CU_ASSERT(there >= 30000 && there < 45000);
    sim_destroy(sim);
}

/* Nobody waits a round trip for each frame of rows: two of the ten are under way at once. */
static void far_hosts_compare_without_waiting_for_each_frame(void) {
    struct sim *sim = sim_create("far", 2, SEGMENT);
    put_all(&sim->hosts[0], 0, 20000, "text");
    CU_ASSERT(sim_settle(sim, 30000));
    for (unsigned host = 0; host < 2; host++)
        sim_kill(&sim->hosts[host]);
    for (unsigned key = 0; key < 20000; key += 5) /* in nearly all parts */
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, "newer", 0), 0);
    sim->delay_ms = 100;
    const uint64_t began = sim->now_ms;
    for (unsigned host = 0; host < 2; host++)
        sim_start(&sim->hosts[host], NULL, true);
    while (!sim_digests_equal(sim) && sim->now_ms - began < 20000)
        sim_run(sim, 10);
    CU_ASSERT_EQUAL(holds(&sim->hosts[1], 19995, 1, "newer"), 1);
    CU_ASSERT(sim->now_ms - began < 2500); /* 2,050; one after the other 2,920 */
    sim_destroy(sim);
}

/* One that lost nearly everything is sent everything, without being asked what it has. */
static void an_empty_host_is_sent_everything(void) {
    struct sim *sim = sim_create("wiped", 2, SEGMENT);
    put_all(&sim->hosts[0], 0, 5000, "text");
    CU_ASSERT(sim_settle(sim, 20000));
    sim_kill(&sim->hosts[1]);
    sim_wipe(&sim->hosts[1]);
    put_all(&sim->hosts[1], 9000, 10, "new");
    sim_start(&sim->hosts[1], NULL, true);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(sim_digests_equal(sim));
    CU_ASSERT_EQUAL(holds(&sim->hosts[1], 0, 5000, "text"), 5000);
    CU_ASSERT(sim->hosts[0].node->peers[0]->out.scans_done >= sim->hosts[0].node->stripes);
    CU_ASSERT_EQUAL(sim->hosts[1].node->peers[0]->out.scans_done, 0); /* what it holds is compared */
    sim_destroy(sim);
}

static uint64_t tombstones_of(const struct sim_host *host) {
    struct lr_stat stat;
    lr_stat(host->cache, &stat);
    return stat.tombstones;
}

/* Also of keys that it never had, and in all stripes: somebody behind it may hold them. */
static void who_joins_by_a_comparison_is_told_of_all_deletes(void) {
    struct sim *sim = sim_create("deletes of all stripes", 2, SEGMENT);
    CU_ASSERT_FATAL(lr_stripe_count(sim->hosts[0].cache) > 1);
    put_all(&sim->hosts[0], 0, 1000, "text");
    CU_ASSERT(sim_settle(sim, 20000));
    for (unsigned i = 0; i < 2; i++)
        sim_kill(&sim->hosts[i]);
    sim_run(sim, 1000);
    put_all(&sim->hosts[0], 5000, 60, "brief");
    for (unsigned key = 5000; key < 5060; key++)
        CU_ASSERT_EQUAL(sim_delete(&sim->hosts[0], key), 0);
    CU_ASSERT(tombstones_of(&sim->hosts[0]) >= 60 && tombstones_of(&sim->hosts[1]) == 0);
    for (unsigned i = 0; i < 2; i++) {
        sim_start(&sim->hosts[i], NULL, true);
        sim->hosts[i].node->tombstone_ms = UINT64_MAX;
    }
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(sim->hosts[1].node->peers[0]->comparisons > 0);
    CU_ASSERT_EQUAL(tombstones_of(&sim->hosts[1]), tombstones_of(&sim->hosts[0]));
    sim_destroy(sim);
}

/* Nothing differs where neither side holds anything. Later a third host tells the value that the expired one replaced.
 */
static void who_joins_by_a_comparison_is_told_of_what_has_expired(void) {
    const uint64_t hash = lr_cluster_hash("key 7000", 8);
    for (unsigned round = 0; round < 40; round++) { /* it expires before that, and between two sweeps */
        uint8_t room[256];
        struct lr_entry entry;
        struct lr_change older = {
            .key = "key 7000", .key_len = 8, .value = "older", .value_len = 5, .deadline_ms = UINT64_MAX};
        struct sim *sim = sim_create("expired before a join", 2, SEGMENT);
        put_all(&sim->hosts[0], 0, 4200, "text"); /* so many that parts are added up, without what has expired */
        CU_ASSERT(sim_settle(sim, 20000));
        for (unsigned i = 0; i < 2; i++)
            sim_kill(&sim->hosts[i]);
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], 7000, "brief", round + 1), 0);
        if (round == 0)
            sim_run(sim, 10);
        CU_ASSERT_EQUAL(lr_entry_by_hash(sim->hosts[0].cache, hash, room, sizeof room, &entry), 0);
        CU_ASSERT(round > 0 || entry.trace); /* who asks for it hears that what is older is over */
        for (unsigned i = 0; i < 2; i++)
            sim_start(&sim->hosts[i], NULL, true);
        CU_ASSERT(sim_settle(sim, 20000));
        CU_ASSERT(sim->hosts[1].node->peers[0]->comparisons > 0);
        older.version = entry.version - 1000;
        CU_ASSERT_NOT_EQUAL(lr_apply_put(sim->hosts[1].cache, &older, 0), LR_APPLIED);
        sim_destroy(sim);
    }
}

static void a_join_that_is_cut_off_begins_anew(void) {
    struct sim *sim = sim_create("cut joins", 2, SEGMENT);
    put_all(&sim->hosts[0], 0, 20000, "text");
    CU_ASSERT(sim_settle(sim, 30000));
    for (unsigned round = 0; round < 30; round++) {
        sim_kill(&sim->hosts[round % 2]);
        put_all(&sim->hosts[0], 100 * round, 50, "changed");
        put_unhinted(&sim->hosts[1], 50000 + 10 * round, 10, "unhinted");
        sim_start(&sim->hosts[round % 2], NULL, true);
        for (unsigned i = 0; i < 3; i++) {
            sim_run(sim, fixture_below(&sim->random, 400));
            sim_reset(sim, 0, 1);
        }
    }
    CU_ASSERT(sim_settle(sim, 30000));
    sim_run(sim, ROUNDS(3));
    CU_ASSERT(sim_digests_equal(sim));
    CU_ASSERT_EQUAL(holds(&sim->hosts[0], 50000, 300, "unhinted"), 300);
    for (unsigned round = 0; round < 30; round++)
        CU_ASSERT_EQUAL(holds(&sim->hosts[1], 100 * round, 50, "changed"), 50);
    sim_destroy(sim);
}

/* What a small host has evicted is not pushed on it in every round. */
static void hosts_of_unequal_size_come_to_rest(void) {
    uint64_t sizes[2] = {UINT64_C(512) << 10, SEGMENT};
    struct sim *sim = sim_create_idle("unequal", 2, sizes);
    sim_start(&sim->hosts[0], NULL, true);
    sim_start(&sim->hosts[1], NULL, true);
    for (unsigned i = 0; i < 40; i++) {
        put_all(&sim->hosts[1], i * 1000, 1000, "of the large host");
        sim_run(sim, 100);
    }
    CU_ASSERT(sim_settle(sim, 60000));
    sim_run(sim, ROUNDS(4));
    CU_ASSERT(!sim_digests_equal(sim));
    uint64_t sent = sim_entries_sent(sim), compared = comparisons(sim);
    CU_ASSERT(compared > 0);
    sim_run(sim, ROUNDS(4));
    CU_ASSERT_EQUAL(sim_entries_sent(sim), sent);
    CU_ASSERT_EQUAL(comparisons(sim), compared);
    sim_destroy(sim);
}

static void writers_do_not_make_it_compare_in_every_round(void) {
    struct sim *sim = sim_create("busy", 2, SEGMENT);
    CU_ASSERT(sim_settle(sim, 20000));
    sim->delay_ms = 100;
    const uint64_t compared = comparisons(sim);
    for (unsigned i = 0; i < 6000; i++) {
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[i % 2], i % 3000, "busy", 0), 0);
        sim_run(sim, SIM_STEP_MS);
    }
    CU_ASSERT_EQUAL(comparisons(sim), compared);
    sim->delay_ms = 1;
    CU_ASSERT(sim_settle(sim, 20000));
    sim_run(sim, ROUNDS(2));
    CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

static void a_release_that_does_not_compare_is_sent_everything(void) {
    struct sim *sim = sim_create("older release", 2, SEGMENT);
    put_all(&sim->hosts[0], 0, 3000, "text");
    put_all(&sim->hosts[1], 0, 3000, "text");
    for (unsigned i = 0; i < 200; i++) { /* before its HELLO counts */
        sim_run(sim, SIM_STEP_MS);
        for (unsigned host = 0; host < 2; host++) {
            struct lr_peer *peer = sim->hosts[host].node->peers[0];
            if (peer->features == 0)
                continue;
            peer->features = 0;
            lr_outflow_forget(peer);
            lr_outflow_restart(peer);
        }
    }
    CU_ASSERT(sim_settle(sim, 20000));
    sim_run(sim, ROUNDS(2));
    CU_ASSERT(sim_digests_equal(sim));
    CU_ASSERT(sim->hosts[0].node->peers[0]->out.scans_done > 0);
    sim_destroy(sim);
}

static void frames_of_no_comparison_end_the_link(void) {
    static const enum wire_type types[] = {WIRE_SUBS, WIRE_PICK, WIRE_ROWS, WIRE_PULL, WIRE_COMPARED};
    struct sim *sim = sim_create("out of turn", 2, SEGMENT);
    for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
        uint8_t frame[64];
        uint64_t words[2] = {0, 0};
        CU_ASSERT(sim_settle(sim, 20000));
        struct lr_link *link = sim->hosts[0].node->peers[0]->link;
        lr_link_send(link, frame,
                     wire_encode_words(frame, sizeof frame, types[i], 0, words, types[i] == WIRE_COMPARED ? 0 : 2));
        sim_run(sim, 50);
        CU_ASSERT_NOT_EQUAL(sim->hosts[1].node->peers[0]->state, LR_PEER_LIVE);
    }
    CU_ASSERT(sim_settle(sim, 20000));
    sim_destroy(sim);
}

void larder_suite_89_compare(void);
void larder_suite_89_compare(void) {
    CU_pSuite suite = CU_add_suite("89_compare", NULL, NULL);
    CU_ADD_TEST(suite, what_no_hint_tells_is_found_and_sent_once);
    CU_ADD_TEST(suite, a_missed_delete_is_found);
    CU_ADD_TEST(suite, what_was_deleted_does_not_come_back_through_an_empty_relay);
    CU_ADD_TEST(suite, a_daemon_that_knows_nothing_sends_what_is_lacking);
    CU_ADD_TEST(suite, hosts_of_unequal_number_walk_once);
    CU_ADD_TEST(suite, far_hosts_compare_without_waiting_for_each_frame);
    CU_ADD_TEST(suite, an_empty_host_is_sent_everything);
    CU_ADD_TEST(suite, who_joins_by_a_comparison_is_told_of_all_deletes);
    CU_ADD_TEST(suite, who_joins_by_a_comparison_is_told_of_what_has_expired);
    CU_ADD_TEST(suite, a_join_that_is_cut_off_begins_anew);
    CU_ADD_TEST(suite, hosts_of_unequal_size_come_to_rest);
    CU_ADD_TEST(suite, writers_do_not_make_it_compare_in_every_round);
    CU_ADD_TEST(suite, a_release_that_does_not_compare_is_sent_everything);
    CU_ADD_TEST(suite, frames_of_no_comparison_end_the_link);
}
