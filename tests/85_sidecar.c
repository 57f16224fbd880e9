/* SPDX-License-Identifier: MIT */
/*
 * Replication between real segments over a simulated network (simnet.h): whatever is delayed, cut, reset or killed,
 * hosts converge once they can talk, and no host takes back what it once said.
 *
 * The history check: per host and key, the version of the newest value that was acknowledged or served there. A get
 * that returns something older is a value from the past. After a delete, what was there before must not come back.
 */
#include "simnet.h"

#include <string.h>

#define KEYS 300u
#define SEGMENT (UINT64_C(8) << 20)

/* ---- history ----------------------------------------------------------------------------------------------------- */

struct history {
    struct sim *sim;
    unsigned keys;
    uint64_t least[SIM_HOSTS][4096]; /* versions below this must not be served here any more */
    uint64_t writes, violations;
};

static void look(struct history *history, unsigned host, unsigned key) {
    char text[64];
    unsigned said;
    uint64_t version = sim_get(&history->sim->hosts[host], key, text);
    if (version == 0)
        return;
    if (sscanf(text, "%u by", &said) != 1 || said != key || version < history->least[host][key]) {
        history->violations++;
        printf("\n    host %u key %u: \"%s\" version %llx, not below %llx was allowed", host, key, text,
               (unsigned long long)version, (unsigned long long)history->least[host][key]);
    }
    if (version > history->least[host][key])
        history->least[host][key] = version;
}

static void look_at_all(struct history *history) {
    for (unsigned host = 0; host < history->sim->host_count; host++)
        for (unsigned key = 0; key < history->keys; key++)
            look(history, host, key);
}

static void write_one(struct history *history, unsigned host, unsigned key) {
    char text[64];
    snprintf(text, sizeof text, "%u by %u, %llu", key, host, (unsigned long long)++history->writes);
    if (sim_put(&history->sim->hosts[host], key, text, 0) != 0)
        return;
    look(history, host, key);
}

static void delete_one(struct history *history, unsigned host, unsigned key) {
    look(history, host, key);
    if (sim_delete(&history->sim->hosts[host], key) == 0)
        history->least[host][key]++;
}

/* One random operation on a random host. */
static void act(struct history *history) {
    struct fixture_random *random = &history->sim->random;
    unsigned host = (unsigned)fixture_below(random, history->sim->host_count);
    unsigned key = (unsigned)fixture_below(random, history->keys);
    uint64_t dice = fixture_below(random, 10);
    if (dice < 6)
        write_one(history, host, key);
    else if (dice < 7)
        delete_one(history, host, key);
    else
        look(history, host, key);
}

/* All hosts hold the same version of each key, or, if `may_lack`, nothing. */
static void expect_agreement(struct history *history, bool may_lack) {
    unsigned differing = 0, found = 0;
    for (unsigned key = 0; key < history->keys; key++) {
        char text[64], first_text[64];
        uint64_t first = sim_get(&history->sim->hosts[0], key, first_text);
        for (unsigned host = 1; host < history->sim->host_count; host++) {
            uint64_t version = sim_get(&history->sim->hosts[host], key, text);
            bool lacks = version == 0 || first == 0;
            differing += lacks ? !may_lack && version != first : version != first || strcmp(text, first_text) != 0;
            if (first == 0) {
                first = version;
                strcpy(first_text, text);
            }
        }
        found += first != 0;
    }
    CU_ASSERT_EQUAL(differing, 0);
    CU_ASSERT(found > 0);
}

static void start_history(struct history *history, struct sim *sim, unsigned keys) {
    memset(history, 0, sizeof *history);
    history->sim = sim;
    history->keys = keys;
}

static struct history history; /* large */

/* A value that pushes others out. */
static void put_ballast(struct sim_host *host, unsigned number) {
    static const char ballast[4000] = "ballast";
    char name[24];
    struct lr_put put = {.key = name,
                         .key_len = (size_t)snprintf(name, sizeof name, "ballast %u", number),
                         .value = ballast,
                         .value_len = sizeof ballast};
    CU_ASSERT_EQUAL(lr_put(host->cache, &put), 0);
}

/* Reads it as a user does, so that it is evicted last. */
static void use(struct sim_host *host, unsigned key) {
    char name[24], value[64];
    lr_get(host->cache, name, (size_t)snprintf(name, sizeof name, "key %u", key), value, sizeof value, NULL, 0);
}

/* ---- convergence ------------------------------------------------------------------------------------------------- */

static void two_hosts_converge_under_writes_to_the_same_keys(void) {
    struct sim *sim = sim_create("two hosts", 2, SEGMENT);
    start_history(&history, sim, KEYS);
    for (unsigned i = 0; i < 20000; i++) {
        act(&history);
        if (i % 20 == 0)
            sim_run(sim, SIM_STEP_MS);
    }
    CU_ASSERT(sim_settle(sim, 20000));
    look_at_all(&history);
    expect_agreement(&history, false);
    CU_ASSERT(sim_digests_equal(sim));
    CU_ASSERT_EQUAL(sim_evictions(sim), 0);
    CU_ASSERT_EQUAL(history.violations, 0);
    sim_destroy(sim);
}

static void three_hosts_converge(void) {
    struct sim *sim = sim_create("three hosts", 3, SEGMENT);
    start_history(&history, sim, KEYS);
    for (unsigned i = 0; i < 10000; i++) {
        act(&history);
        if (i % 20 == 0)
            sim_run(sim, SIM_STEP_MS);
    }
    CU_ASSERT(sim_settle(sim, 20000));
    look_at_all(&history);
    expect_agreement(&history, false);
    CU_ASSERT(sim_digests_equal(sim));
    CU_ASSERT_EQUAL(history.violations, 0);
    sim_destroy(sim);
}

/* Cuts, resets, killed daemons, at random moments. */
static void trouble(struct sim *sim) {
    unsigned a = (unsigned)fixture_below(&sim->random, sim->host_count);
    unsigned b = (unsigned)fixture_below(&sim->random, sim->host_count);
    switch (fixture_below(&sim->random, 8)) {
    case 0:
        sim_reset(sim, a, b);
        break;
    case 1:
    case 2:
        sim_cut(sim, a, b, true);
        break;
    case 3:
    case 4:
        sim_cut(sim, a, b, false);
        break;
    case 5:
        if (sim->hosts[a].node != NULL)
            sim_kill(&sim->hosts[a]);
        break;
    default:
        if (sim->hosts[a].node == NULL)
            sim_start(&sim->hosts[a], NULL, true);
    }
}

static void calm(struct sim *sim) {
    for (unsigned a = 0; a < sim->host_count; a++) {
        for (unsigned b = 0; b < sim->host_count; b++)
            sim_cut(sim, a, b, false);
        if (sim->hosts[a].node == NULL)
            sim_start(&sim->hosts[a], NULL, true);
    }
}

static void storm(const char *what, unsigned hosts, unsigned rounds, unsigned acts) {
    for (unsigned round = 0; round < rounds; round++) {
        struct sim *sim = sim_create(what, hosts, SEGMENT);
        start_history(&history, sim, 100);
        sim->jitter_ms = fixture_below(&sim->random, 60);
        for (unsigned i = 0; i < acts; i++) {
            act(&history);
            if (fixture_below(&sim->random, 25) == 0)
                sim_run(sim, SIM_STEP_MS * (1 + fixture_below(&sim->random, 20)));
            if (fixture_below(&sim->random, 150) == 0)
                trouble(sim);
        }
        calm(sim);
        CU_ASSERT(sim_settle(sim, 60000));
        look_at_all(&history);
        expect_agreement(&history, false);
        CU_ASSERT(sim_digests_equal(sim));
        CU_ASSERT_EQUAL(history.violations, 0);
        sim_destroy(sim);
    }
}

static void cuts_resets_and_killed_daemons_lose_nothing(void) {
    storm("a storm between two", 2, 12, 4000);
}

static void three_hosts_in_a_storm_converge(void) {
    storm("a storm between three", 3, 6, 4000);
}

static void a_cut_of_thirty_seconds_heals(void) {
    struct sim *sim = sim_create("a long cut", 2, SEGMENT);
    start_history(&history, sim, KEYS);
    for (unsigned i = 0; i < KEYS; i++)
        write_one(&history, i % 2, i);
    CU_ASSERT(sim_settle(sim, 10000));
    sim_cut(sim, 0, 1, true);
    for (unsigned i = 0; i < 3000; i++) {
        act(&history);
        sim_run(sim, 2 * SIM_STEP_MS);
    }
    CU_ASSERT_NOT_EQUAL(sim->hosts[0].node->peers[0]->state, LR_PEER_LIVE);
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    look_at_all(&history);
    expect_agreement(&history, false);
    CU_ASSERT(sim_digests_equal(sim));
    CU_ASSERT_EQUAL(history.violations, 0);
    sim_destroy(sim);
}

/* ---- deletes, flush, time to live -------------------------------------------------------------------------------- */

static void a_delete_is_not_undone_by_a_host_that_missed_it(void) {
    struct sim *sim = sim_create("missed deletes", 2, SEGMENT);
    char text[64];
    for (unsigned key = 0; key < 100; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, "old", 0), 0);
    CU_ASSERT(sim_settle(sim, 10000));
    CU_ASSERT_NOT_EQUAL(sim_get(&sim->hosts[1], 42, text), 0);
    sim_cut(sim, 0, 1, true);
    for (unsigned key = 0; key < 100; key++)
        CU_ASSERT_EQUAL(sim_delete(&sim->hosts[0], key), 0);
    fixture_sleep_ms(20); /* versions are drawn from the real clock, in steps of some ms */
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[1], 7, "newer than the delete", 0), 0);
    sim_run(sim, 20000); /* longer than a tombstone lives, were it acknowledged */
    sim_kill(&sim->hosts[0]);
    sim_start(&sim->hosts[0], NULL, true);
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    for (unsigned key = 0; key < 100; key++)
        for (unsigned host = 0; host < 2; host++)
            CU_ASSERT_EQUAL(sim_get(&sim->hosts[host], key, text) != 0, key == 7);
    CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

static void a_flush_reaches_a_host_that_was_away(void) {
    struct sim *sim = sim_create("flush", 2, SEGMENT);
    char text[64];
    for (unsigned key = 0; key < 50; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[key % 2], key, "old", 0), 0);
    CU_ASSERT(sim_settle(sim, 10000));
    CU_ASSERT_EQUAL(lr_flush(sim->hosts[0].cache), 0);
    sim_run(sim, 1000);
    CU_ASSERT_EQUAL(sim_get(&sim->hosts[1], 3, text), 0);
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[1], 3, "after", 0), 0);
    CU_ASSERT(sim_settle(sim, 10000));
    CU_ASSERT_NOT_EQUAL(sim_get(&sim->hosts[0], 3, text), 0);
    sim_cut(sim, 0, 1, true);
    sim_run(sim, 8000);
    CU_ASSERT_EQUAL(lr_flush(sim->hosts[0].cache), 0);
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT_EQUAL(sim_get(&sim->hosts[1], 3, text), 0);
    CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

static void time_to_live_and_touch_travel_and_come_to_rest(void) {
    struct sim *sim = sim_create("time to live", 2, SEGMENT);
    char text[64];
    for (unsigned key = 0; key < 40; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, "brief", 5000), 0);
    CU_ASSERT(sim_settle(sim, 3000));
    CU_ASSERT_NOT_EQUAL(sim_get(&sim->hosts[1], 0, text), 0);
    for (unsigned key = 0; key < 20; key++) {
        char name[24];
        size_t len = (size_t)snprintf(name, sizeof name, "key %u", key);
        CU_ASSERT_EQUAL(lr_touch(sim->hosts[1].cache, name, len, 20000), 0);
    }
    sim_run(sim, 8000);
    for (unsigned key = 0; key < 40; key++)
        for (unsigned host = 0; host < 2; host++)
            CU_ASSERT_EQUAL(sim_get(&sim->hosts[host], key, text) != 0, key < 20);
    /* Prolonging each other's copies must end. */
    uint64_t sent = sim->hosts[0].node->peers[0]->out.entries_sent + sim->hosts[1].node->peers[0]->out.entries_sent;
    CU_ASSERT(sent < 300);
    sim_reset(sim, 0, 1);
    CU_ASSERT(sim_settle(sim, 5000));
    sent = sim->hosts[0].node->peers[0]->out.entries_sent + sim->hosts[1].node->peers[0]->out.entries_sent;
    sim_run(sim, 3000);
    CU_ASSERT_EQUAL(sim->hosts[0].node->peers[0]->out.entries_sent + sim->hosts[1].node->peers[0]->out.entries_sent,
                    sent);
    sim_run(sim, 20000);
    for (unsigned host = 0; host < 2; host++)
        CU_ASSERT_EQUAL(sim_get(&sim->hosts[host], 1, text), 0);
    sim_destroy(sim);
}

static void a_change_does_not_echo(void) {
    struct sim *sim = sim_create("echo", 2, SEGMENT);
    CU_ASSERT(sim_settle(sim, 5000));
    for (unsigned key = 0; key < 200; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, "once", 0), 0);
    CU_ASSERT(sim_settle(sim, 5000));
    CU_ASSERT_EQUAL(sim->hosts[0].node->peers[0]->out.entries_sent, 200);
    /* Two hashes in one row of what is known may cost a frame. */
    CU_ASSERT(sim->hosts[1].node->peers[0]->out.entries_sent < 20);
    for (unsigned i = 0; i < 1000; i++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], 5, "often", 0), 0);
    CU_ASSERT(sim_settle(sim, 5000));
    CU_ASSERT(sim->hosts[0].node->peers[0]->out.entries_sent <= 202);
    sim_destroy(sim);
}

/* ---- coming and going -------------------------------------------------------------------------------------------- */

static void an_empty_host_is_filled_and_empties_nobody(void) {
    struct sim *sim = sim_create("an empty host", 2, SEGMENT);
    char text[64];
    for (unsigned key = 0; key < 2000; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, "kept", 0), 0);
    for (unsigned key = 1900; key < 2000; key++)
        sim_delete(&sim->hosts[0], key); /* it may have been evicted */
    CU_ASSERT(sim_settle(sim, 20000));
    sim_kill(&sim->hosts[1]);
    sim_wipe(&sim->hosts[1]);
    sim_start(&sim->hosts[1], NULL, true);
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[1], 5000, "new here", 0), 0);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT_NOT_EQUAL(sim_get(&sim->hosts[0], 5000, text), 0);
    unsigned kept[2] = {0, 0};
    for (unsigned key = 0; key < 1900; key++)
        for (unsigned host = 0; host < 2; host++)
            kept[host] += sim_get(&sim->hosts[host], key, text) != 0;
    CU_ASSERT(kept[0] > 1500 && kept[1] > kept[0] - kept[0] / 10);
    CU_ASSERT_EQUAL(sim_get(&sim->hosts[1], 1950, text), 0);
    if (sim_evictions(sim) == 0)
        CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

static void a_reconnect_resumes_where_it_was(void) {
    struct sim *sim = sim_create("resume", 2, SEGMENT);
    for (unsigned key = 0; key < KEYS; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, "kept", 0), 0);
    CU_ASSERT(sim_settle(sim, 20000));
    uint64_t sent = sim->hosts[0].node->peers[0]->out.entries_sent;
    sim_reset(sim, 0, 1);
    sim_run(sim, 50);
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], 3, "after", 0), 0);
    CU_ASSERT(sim_settle(sim, 10000));
    CU_ASSERT(sim->hosts[0].node->peers[0]->out.entries_sent - sent < 50);
    CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

static void one_link_of_a_pair_survives(void) {
    struct sim *sim = sim_create("two dials", 2, SEGMENT);
    sim->delay_ms = 40;
    CU_ASSERT(sim_settle(sim, 10000));
    sim_run(sim, 2000);
    CU_ASSERT_EQUAL(sim->open_links, 1);
    struct lr_peer *zero = sim->hosts[0].node->peers[0], *one = sim->hosts[1].node->peers[0];
    CU_ASSERT_EQUAL(zero->state, LR_PEER_LIVE);
    CU_ASSERT_EQUAL(one->state, LR_PEER_LIVE);
    CU_ASSERT_NOT_EQUAL(zero->link->dialled, one->link->dialled);
    sim_destroy(sim);
}

static void a_removed_peer_is_let_go_and_may_return(void) {
    struct sim *sim = sim_create("removed peer", 2, SEGMENT);
    CU_ASSERT(sim_settle(sim, 5000));
    lr_node_remove_peer(sim->hosts[0].node, "host1:1");
    CU_ASSERT(lr_replicating(sim->hosts[0].cache)); /* it may return */
    sim_run(sim, 3000);
    CU_ASSERT_EQUAL(sim->open_links, 0);
    CU_ASSERT_NOT_EQUAL(sim->hosts[1].node->peers[0]->state, LR_PEER_LIVE);
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], 1, "while alone", 0), 0);
    CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[0].node, "host1:1"), 0);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(sim_digests_equal(sim));
    CU_ASSERT_EQUAL(sim->hosts[0].node->removed_count, 0);
    lr_node_remove_peer(sim->hosts[0].node, "host1:1");
    CU_ASSERT_EQUAL_FATAL(sim->hosts[0].node->removed_count, 1);
    sim->hosts[0].node->removed[0].removed_ms -= LR_REMOVED_MS; /* much later */
    sim_run(sim, 100);
    CU_ASSERT_FALSE(lr_replicating(sim->hosts[0].cache));
    CU_ASSERT_EQUAL(sim->hosts[0].node->removed_count, 0);
    sim_destroy(sim);
}

/* The cursors live on in both daemons; nothing but walks can carry what was there before. */
static void a_join_that_is_cut_again_and_again_comes_to_an_end(void) {
    for (unsigned round = 0; round < 6; round++) {
        uint64_t sizes[2] = {SEGMENT, SEGMENT};
        struct sim *sim = sim_create_idle("a join with cuts", 2, sizes);
        start_history(&history, sim, 1000);
        for (unsigned key = 0; key < 1000; key++)
            write_one(&history, key % 2, key);
        sim->bytes_per_step = 400 + fixture_below(&sim->random, 3000);
        sim->jitter_ms = 40;
        sim_start(&sim->hosts[0], NULL, true);
        sim_start(&sim->hosts[1], NULL, true);
        for (unsigned i = 0; i < 40; i++) {
            sim_run(sim, 30 + fixture_below(&sim->random, 400));
            for (unsigned k = 0; k < 10; k++)
                act(&history);
            sim_reset(sim, 0, 1);
        }
        sim->bytes_per_step = 0;
        CU_ASSERT(sim_settle(sim, 60000));
        look_at_all(&history);
        if (sim_evictions(sim) == 0) {
            expect_agreement(&history, false);
            CU_ASSERT(sim_digests_equal(sim));
        }
        CU_ASSERT_EQUAL(history.violations, 0);
        sim_destroy(sim);
    }
}

static void writes_during_a_join_arrive(void) {
    uint64_t sizes[2] = {SEGMENT, SEGMENT};
    struct sim *sim = sim_create_idle("writes during a join", 2, sizes);
    start_history(&history, sim, 1000);
    for (unsigned key = 0; key < 1000; key++)
        write_one(&history, 0, key);
    sim->bytes_per_step = 1000;
    sim_start(&sim->hosts[0], NULL, true);
    sim_start(&sim->hosts[1], NULL, true);
    for (unsigned i = 0; i < 400; i++) {
        write_one(&history, 0, (unsigned)fixture_below(&sim->random, 1000));
        sim_run(sim, SIM_STEP_MS);
    }
    CU_ASSERT(sim_settle(sim, 60000));
    if (sim_evictions(sim) == 0)
        expect_agreement(&history, false);
    CU_ASSERT_EQUAL(history.violations, 0);
    sim_destroy(sim);
}

static void a_full_window_that_is_reset_is_sent_again(void) {
    struct sim *sim = sim_create("reset windows", 2, UINT64_C(32) << 20);
    CU_ASSERT(sim_settle(sim, 5000));
    sim->bytes_per_step = 10000;
    for (unsigned round = 0; round < 12; round++) {
        for (unsigned i = 0; i < 500; i++)
            put_ballast(&sim->hosts[0], round * 500 + i);
        for (unsigned i = 0; i < 3; i++) {
            sim_run(sim, 300 + fixture_below(&sim->random, 500));
            sim_reset(sim, 0, 1);
        }
    }
    sim->bytes_per_step = 0;
    CU_ASSERT(sim_settle(sim, 60000));
    if (sim_evictions(sim) == 0)
        CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

/* What only some peers have is not what all have. */
static void one_absent_peer_of_two_keeps_changes_unacknowledged(void) {
    struct sim *sim = sim_create("one absent peer", 3, SEGMENT);
    CU_ASSERT(sim_settle(sim, 5000));
    sim_cut(sim, 0, 2, true);
    for (unsigned key = 0; key < 50; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, "for both", 0), 0);
    sim_run(sim, 5000);
    struct lr_sidecar_state state;
    lr_sidecar_state(sim->hosts[0].cache, &state);
    CU_ASSERT(state.unacked >= 50);
    sim_cut(sim, 0, 2, false);
    CU_ASSERT(sim_settle(sim, 20000));
    lr_sidecar_state(sim->hosts[0].cache, &state);
    CU_ASSERT_EQUAL(state.unacked, 0);
    CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

static void restarts_do_not_prolong_a_life(void) {
    struct sim *sim = sim_create("restarts and lives", 2, SEGMENT);
    char text[64];
    sim->delay_ms = 100;
    for (unsigned key = 0; key < 20; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, "short", 60000), 0);
    uint64_t born = sim->now_ms;
    CU_ASSERT(sim_settle(sim, 10000));
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned host = 0; host < 2; host++) {
            sim_kill(&sim->hosts[host]);
            sim_start(&sim->hosts[host], NULL, true);
        }
        CU_ASSERT(sim_settle(sim, 10000));
    }
    CU_ASSERT_FATAL(sim->now_ms - born < 58000);
    CU_ASSERT_NOT_EQUAL(sim_get(&sim->hosts[1], 3, text), 0);
    sim_run(sim, 61000 - (sim->now_ms - born));
    for (unsigned host = 0; host < 2; host++)
        CU_ASSERT_EQUAL(sim_get(&sim->hosts[host], 3, text), 0);
    sim_destroy(sim);
}

/* ---- limits ------------------------------------------------------------------------------------------------------ */

static void with_eviction_on_both_sides_no_host_goes_back(void) {
    for (unsigned round = 0; round < (FIXTURE_SANITIZED ? 1 : 4); round++) {
        struct sim *sim = sim_create("eviction", 2, UINT64_C(1) << 20);
        start_history(&history, sim, 4096);
        for (unsigned i = 0; i < 60000; i++) {
            act(&history);
            if (i % 40 == 0)
                sim_run(sim, SIM_STEP_MS);
            if (fixture_below(&sim->random, 4000) == 0)
                trouble(sim);
            if (i % 20 == 0)
                put_ballast(&sim->hosts[i / 20 % 2], i);
        }
        calm(sim);
        CU_ASSERT(sim_settle(sim, 60000));
        sim_run(sim, 12000); /* settlements come every 5 s */
        look_at_all(&history);
        expect_agreement(&history, true);
        CU_ASSERT(sim_evictions(sim) > 1000);
        CU_ASSERT_EQUAL(history.violations, 0);
        sim_destroy(sim);
    }
}

/* The large host has voids, and much that a small one has no room for. */
static void a_small_host_neither_empties_a_large_one_nor_makes_room_for_it(void) {
    uint64_t sizes[3] = {UINT64_C(2) << 20, UINT64_C(512) << 10, UINT64_C(4) << 20};
    struct sim *sim = sim_create_idle("a small host", 3, sizes);
    sim_start(&sim->hosts[0], NULL, false);
    CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[0].node, sim->hosts[1].address), 0);
    for (unsigned i = 0; i < 100000; i++) { /* nobody acknowledges: voids */
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], i, "of the large host", 0), 0);
        if (i % 2000 == 0)
            sim_run(sim, 300);
    }
    for (unsigned i = 0; i < 4000; i++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[1], 1000000 + i, "of the small host", 0), 0);
    struct lr_stat before, small, after;
    lr_stat(sim->hosts[0].cache, &before);
    lr_stat(sim->hosts[1].cache, &small);
    CU_ASSERT(before.stripe_counters[LR_S_voids_raised] > 0);
    CU_ASSERT(small.items < before.items / 2);
    uint64_t evicted = small.stripe_counters[LR_S_evictions];
    sim_start(&sim->hosts[1], NULL, true);
    sim_start(&sim->hosts[2], NULL, true);
    CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[0].node, sim->hosts[2].address), 0);
    CU_ASSERT(sim_settle(sim, 60000));
    sim_run(sim, 3 * LR_SETTLE_EVERY_MS);
    lr_stat(sim->hosts[0].cache, &after);
    CU_ASSERT(after.items >= before.items / 2);
    lr_stat(sim->hosts[2].cache, &after);
    CU_ASSERT(after.items >= before.items / 2); /* the third host has not been emptied either */
    lr_stat(sim->hosts[1].cache, &small);
    CU_ASSERT_EQUAL(small.stripe_counters[LR_S_evictions], evicted);
    sim_destroy(sim);
}

/* ---- a small host joins a large one ---------------------------------------------------------------------------- */

#define LARGE_KEYS 30000u
#define OWN_KEYS 12000u

/* A key of the small host's users: the n-th is asked for about 1 / n as often as the first. */
static unsigned a_popular_key(struct sim *sim) {
    const uint64_t most = UINT64_C(1) << fixture_below(&sim->random, 14);
    return (unsigned)((most + fixture_below(&sim->random, most)) % OWN_KEYS);
}

/* Users who read, and put what they miss. Returns how many of their reads were hits. */
static unsigned hits_of(struct sim_host *host, unsigned reads) {
    unsigned hits = 0;
    for (unsigned i = 0; i < reads; i++) {
        const unsigned key = 1000000 + a_popular_key(host->sim);
        char name[24], value[64];
        const size_t len = (size_t)snprintf(name, sizeof name, "key %u", key);
        if (lr_get(host->cache, name, len, value, sizeof value, NULL, 0) == 0)
            hits++;
        else
            CU_ASSERT_EQUAL(sim_put(host, key, "of the small host, some sixty bytes long as values may be", 0), 0);
        if (i % 500 == 0)
            sim_run(host->sim, SIM_STEP_MS);
    }
    return hits;
}

static void add_one_another(struct sim *sim, unsigned a, unsigned b) {
    CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[a].node, sim->hosts[b].address), 0);
    CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[b].node, sim->hosts[a].address), 0);
}

/* A tenth of the size, full and in use, it joins two that are full and have tombstones for more keys than it has
 * room for. */
static void a_small_host_that_joins_keeps_its_entries_and_its_hits(void) {
    const uint64_t sizes[3] = {UINT64_C(4) << 20, UINT64_C(4) << 20, UINT64_C(400) << 10};
    struct sim *sim = sim_create_idle("a small host joins", 3, sizes);
    struct lr_stat large[2], small[2];
    for (unsigned i = 0; i < 3; i++) {
        struct lr_node_options options = sim_options(&sim->hosts[i]);
        options.tombstone_ms = 600000;
        sim_start(&sim->hosts[i], &options, false);
    }
    add_one_another(sim, 0, 1);
    for (unsigned key = 0; key < LARGE_KEYS; key++) {
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, "of the large host, some sixty bytes long as values may be", 0),
                        0);
        if (key % 500 == 0)
            sim_run(sim, SIM_STEP_MS);
    }
    CU_ASSERT(sim_settle(sim, 20000));
    hits_of(&sim->hosts[2], 40000);
    const unsigned before = hits_of(&sim->hosts[2], 40000);
    for (unsigned key = 0; key < LARGE_KEYS; key += 6)
        CU_ASSERT_EQUAL(sim_delete(&sim->hosts[0], key), 0);
    CU_ASSERT(sim_settle(sim, 20000));
    lr_stat(sim->hosts[0].cache, &large[0]);
    lr_stat(sim->hosts[2].cache, &small[0]);
    CU_ASSERT(large[0].tombstones * 32 > sizes[2] / 20 && small[0].stripe_counters[LR_S_evictions] > 0);

    for (unsigned i = 0; i < 2; i++)
        add_one_another(sim, i, 2);
    CU_ASSERT(sim_settle(sim, 20000));
    lr_stat(sim->hosts[2].cache, &small[1]);
    CU_ASSERT_EQUAL(small[1].stripe_counters[LR_S_evictions], small[0].stripe_counters[LR_S_evictions]);
    CU_ASSERT(small[1].items >= small[0].items);
    sim_run(sim, 2 * LR_COMPARE_EVERY_MS + 1000); /* what just changed is compared in the second round */
    const uint64_t sent = sim_entries_sent(sim);
    sim_run(sim, 2 * LR_COMPARE_EVERY_MS);
    CU_ASSERT_EQUAL(sim_entries_sent(sim), sent); /* nothing again and again */
    lr_stat(sim->hosts[0].cache, &large[1]);
    CU_ASSERT(large[1].items >= large[0].items); /* nor does the large one forget anything */
    CU_ASSERT(hits_of(&sim->hosts[2], 40000) >= before - before / 50);
    sim_destroy(sim);
}

/* A chain of three: the ends are no peers of each other, and one forgets unshipped what the other still holds. */
static void a_relay_passes_on_what_was_forgotten(void) {
    uint64_t sizes[3] = {UINT64_C(1) << 20, UINT64_C(8) << 20, UINT64_C(8) << 20};
    struct sim *sim = sim_create_idle("a relay", 3, sizes);
    for (unsigned i = 0; i < 3; i++) {
        struct lr_node_options options = sim_options(&sim->hosts[i]);
        options.relay = i == 1;
        sim_start(&sim->hosts[i], &options, false);
    }
    for (unsigned end = 0; end < 3; end += 2) {
        CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[1].node, sim->hosts[end].address), 0);
        CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[end].node, sim->hosts[1].address), 0);
    }
    char text[64];
    for (unsigned key = 0; key < 1000; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, "old", 0), 0);
    CU_ASSERT(sim_settle(sim, 20000));
    sim_run(sim, 1000);
    for (unsigned key = 0; key < 1000; key++)
        CU_ASSERT_NOT_EQUAL(sim_get(&sim->hosts[2], key, text), 0);
    sim_cut(sim, 0, 1, true);
    sim_run(sim, 5000);
    for (unsigned key = 0; key < 1000; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, "new", 0), 0);
    for (unsigned i = 0; i < 4000; i++) {
        put_ballast(&sim->hosts[0], i);
        if (i % 100 == 0)
            sim_run(sim, 300);
    }
    struct lr_stat stat;
    lr_stat(sim->hosts[0].cache, &stat);
    CU_ASSERT(stat.stripe_counters[LR_S_voids_raised] > 0);
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 60000));
    sim_run(sim, 3 * LR_SETTLE_EVERY_MS);
    unsigned left[3] = {0, 0, 0};
    for (unsigned host = 0; host < 3; host++)
        for (unsigned key = 0; key < 1000; key++)
            left[host] += sim_get(&sim->hosts[host], key, text) != 0 && strcmp(text, "old") == 0;
    CU_ASSERT_EQUAL(left[1], 0);
    CU_ASSERT_EQUAL(left[2], 0);
    sim_destroy(sim);
}

/* Changes that were evicted before they were shipped, more than tombstones can hold: voids. */
static void what_was_forgotten_unshipped_is_forgotten_everywhere(void) {
    uint64_t sizes[2] = {UINT64_C(1) << 20, UINT64_C(8) << 20};
    struct sim *sim = sim_create_idle("voids", 2, sizes);
    sim_start(&sim->hosts[0], NULL, true);
    sim_start(&sim->hosts[1], NULL, true);
    char text[64];
    for (unsigned key = 0; key < 2000; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, key < 1900 ? "old" : "favourite", 0), 0);
    CU_ASSERT(sim_settle(sim, 20000));
    unsigned shared = 0;
    for (unsigned key = 0; key < 2000; key++)
        shared += sim_get(&sim->hosts[1], key, text) != 0;
    CU_ASSERT(shared > 1800);
    sim_cut(sim, 0, 1, true);
    sim_run(sim, 5000);
    for (unsigned key = 0; key < 1900; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, "new", 0), 0);
    sim_run(sim, 1000);
    for (unsigned i = 0; i < 2000; i++) { /* the new values are evicted, and nobody has heard of them */
        put_ballast(&sim->hosts[0], i);
        for (unsigned key = 1900; key < 2000 && i % 4 == 0; key++)
            use(&sim->hosts[0], key);
        if (i % 100 == 0)
            sim_run(sim, 300);
    }
    struct lr_stat stat;
    lr_stat(sim->hosts[0].cache, &stat);
    CU_ASSERT(stat.stripe_counters[LR_S_voids_raised] > 0);
    unsigned favourites = 0;
    for (unsigned key = 1900; key < 2000; key++)
        favourites += sim_get(&sim->hosts[0], key, text) != 0;
    CU_ASSERT(favourites > 50);
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 60000));
    unsigned left = 0, kept = 0;
    for (unsigned key = 0; key < 2000; key++)
        for (unsigned host = 0; host < 2; host++)
            left += sim_get(&sim->hosts[host], key, text) != 0 && strcmp(text, "old") == 0;
    CU_ASSERT_EQUAL(left, 0);
    for (unsigned key = 1900; key < 2000; key++) /* what the other side holds too is not forgotten */
        kept += sim_get(&sim->hosts[0], key, text) != 0 && sim_get(&sim->hosts[1], key, text) != 0;
    CU_ASSERT(kept > favourites - 10);
    for (unsigned i = 0; i < WIRE_RANGES; i++) {
        struct lr_range ours, theirs;
        lr_range_get(sim->hosts[0].cache, i, &ours);
        lr_range_get(sim->hosts[1].cache, i, &theirs);
        CU_ASSERT(theirs.floor >= ours.void_version);
    }
    /* Settled once: nothing is due again, on either side. */
    for (unsigned host = 0; host < 2; host++) {
        sim_run(sim, LR_SETTLE_EVERY_MS + 100);
        sim->hosts[host].node->peers[0]->out.settle_next_ms = 0;
        CU_ASSERT_FALSE(lr_settle_due(sim->hosts[host].node->peers[0]));
    }
    sim_destroy(sim);
}

static void a_slow_peer_costs_no_memory_and_catches_up(void) {
    struct sim *sim = sim_create("a slow peer", 2, UINT64_C(32) << 20);
    CU_ASSERT(sim_settle(sim, 5000));
    sim->bytes_per_step = 20000;
    char value[1000];
    memset(value, 'v', sizeof value);
    for (unsigned i = 0; i < 20000; i++) {
        char name[24];
        struct lr_put put = {.key = name,
                             .key_len = (size_t)snprintf(name, sizeof name, "k%u", i % 10000),
                             .value = value,
                             .value_len = sizeof value};
        CU_ASSERT_EQUAL(lr_put(sim->hosts[0].cache, &put), 0);
        if (i % 100 == 0)
            sim_run(sim, SIM_STEP_MS);
    }
    CU_ASSERT(sim->most_queued < LR_WINDOW + LR_BATCH);
    CU_ASSERT(sim_settle(sim, 60000));
    CU_ASSERT(sim->most_queued < LR_WINDOW + LR_BATCH);
    if (sim_evictions(sim) == 0)
        CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

static void a_record_too_large_for_a_peer_stops_nobody(void) {
    uint64_t sizes[2] = {UINT64_C(64) << 20, UINT64_C(1) << 20};
    struct sim *sim = sim_create_idle("a large record", 2, sizes);
    char text[64];
    sim_start(&sim->hosts[0], NULL, true);
    sim_start(&sim->hosts[1], NULL, true);
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], 1, "small", 0), 0);
    CU_ASSERT(sim_settle(sim, 10000));
    CU_ASSERT_NOT_EQUAL(sim_get(&sim->hosts[1], 1, text), 0);
    size_t len = lr_max_value(sim->hosts[0].cache, 5);
    CU_ASSERT_FATAL(len > lr_max_value(sim->hosts[1].cache, 5));
    char *large = calloc(1, len);
    struct lr_put put = {.key = "key 1", .key_len = 5, .value = large, .value_len = len};
    CU_ASSERT_EQUAL(lr_put(sim->hosts[0].cache, &put), 0);
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], 2, "after", 0), 0);
    CU_ASSERT(sim_settle(sim, 10000));
    CU_ASSERT_EQUAL(sim_get(&sim->hosts[1], 1, text), 0); /* nothing, rather than something old */
    CU_ASSERT_NOT_EQUAL(sim_get(&sim->hosts[1], 2, text), 0);
    free(large);
    sim_destroy(sim);
}

static void a_record_larger_than_the_window_travels(void) {
    struct sim *sim = sim_create("larger than the window", 2, UINT64_C(64) << 20);
    CU_ASSERT(sim_settle(sim, 5000));
    size_t len = lr_max_value(sim->hosts[0].cache, 5);
    char *large = calloc(1, len);
    large[len - 1] = 'z';
    struct lr_put put = {.key = "large", .key_len = 5, .value = large, .value_len = len};
    for (unsigned i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(lr_put(sim->hosts[0].cache, &put), 0);
        CU_ASSERT(sim_settle(sim, 20000));
    }
    CU_ASSERT(len > LR_WINDOW || sim->most_queued < LR_WINDOW + LR_BATCH);
    CU_ASSERT(sim_digests_equal(sim));
    free(large);
    sim_destroy(sim);
}

static void lag_is_told_by_percentiles(void) {
    struct lr_lag lag = {0};
    CU_ASSERT_EQUAL(lr_lag_percentile(&lag, 50), UINT64_MAX);
    for (unsigned i = 0; i < 99; i++)
        lr_lag_add(&lag, 1000);
    lr_lag_add(&lag, 5000000);
    CU_ASSERT(lr_lag_percentile(&lag, 50) >= 1000 && lr_lag_percentile(&lag, 50) <= 1125);
    CU_ASSERT(lr_lag_percentile(&lag, 99) >= 5000000 && lr_lag_percentile(&lag, 99) <= 5700000);
    lr_lag_add(&lag, 0);
    lr_lag_add(&lag, UINT64_MAX);
    for (unsigned i = 0; i < 10; i++)
        lr_lag_age(&lag);
    CU_ASSERT_EQUAL(lr_lag_percentile(&lag, 99), UINT64_MAX);
}

void larder_suite_85_sidecar(void);
void larder_suite_85_sidecar(void) {
    CU_pSuite suite = CU_add_suite("85_sidecar", NULL, NULL);
    CU_ADD_TEST(suite, lag_is_told_by_percentiles);
    CU_ADD_TEST(suite, two_hosts_converge_under_writes_to_the_same_keys);
    CU_ADD_TEST(suite, three_hosts_converge);
    CU_ADD_TEST(suite, cuts_resets_and_killed_daemons_lose_nothing);
    CU_ADD_TEST(suite, three_hosts_in_a_storm_converge);
    CU_ADD_TEST(suite, a_cut_of_thirty_seconds_heals);
    CU_ADD_TEST(suite, a_delete_is_not_undone_by_a_host_that_missed_it);
    CU_ADD_TEST(suite, a_flush_reaches_a_host_that_was_away);
    CU_ADD_TEST(suite, time_to_live_and_touch_travel_and_come_to_rest);
    CU_ADD_TEST(suite, a_change_does_not_echo);
    CU_ADD_TEST(suite, an_empty_host_is_filled_and_empties_nobody);
    CU_ADD_TEST(suite, a_reconnect_resumes_where_it_was);
    CU_ADD_TEST(suite, one_link_of_a_pair_survives);
    CU_ADD_TEST(suite, a_removed_peer_is_let_go_and_may_return);
    CU_ADD_TEST(suite, a_join_that_is_cut_again_and_again_comes_to_an_end);
    CU_ADD_TEST(suite, writes_during_a_join_arrive);
    CU_ADD_TEST(suite, a_full_window_that_is_reset_is_sent_again);
    CU_ADD_TEST(suite, one_absent_peer_of_two_keeps_changes_unacknowledged);
    CU_ADD_TEST(suite, restarts_do_not_prolong_a_life);
    CU_ADD_TEST(suite, a_small_host_neither_empties_a_large_one_nor_makes_room_for_it);
    CU_ADD_TEST(suite, with_eviction_on_both_sides_no_host_goes_back);
    CU_ADD_TEST(suite, a_small_host_that_joins_keeps_its_entries_and_its_hits);
    CU_ADD_TEST(suite, a_relay_passes_on_what_was_forgotten);
    CU_ADD_TEST(suite, what_was_forgotten_unshipped_is_forgotten_everywhere);
    CU_ADD_TEST(suite, a_slow_peer_costs_no_memory_and_catches_up);
    CU_ADD_TEST(suite, a_record_too_large_for_a_peer_stops_nobody);
    CU_ADD_TEST(suite, a_record_larger_than_the_window_travels);
}
