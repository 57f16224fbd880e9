/* SPDX-License-Identifier: MIT */
/*
 * What an operator is told of catching up (sidecar/progress.c, `larder peers`) is true: over the simulated network,
 * whose clock is virtual, an estimate can be compared with what then happens.
 */
#include "simnet.h"
#include "stripe.h"

#include <string.h>

#define SEGMENT (UINT64_C(8) << 20)
#define VALUE_BYTES 1000u
#define MOST_MS 120000u

static char value[VALUE_BYTES];

static void put_values(struct sim_host *host, unsigned first, unsigned count) {
    for (unsigned key = first; key < first + count; key++) {
        char name[24];
        struct lr_put put = {.key = name,
                             .key_len = (size_t)snprintf(name, sizeof name, "key %u", key),
                             .value = value,
                             .value_len = sizeof value};
        CU_ASSERT_EQUAL(lr_put(host->cache, &put), 0);
    }
}

/* Never negative, never all before it is all. */
static void expect_sane(const struct lr_progress *progress) {
    unsigned share;
    CU_ASSERT(progress->left <= progress->total);
    CU_ASSERT(lr_progress_share(progress, &share) || lr_progress_seconds(progress) == UINT64_MAX);
    CU_ASSERT(share <= 999);
}

static void expect_all_sane(const struct sim *sim) {
    for (unsigned i = 0; i < sim->host_count; i++)
        for (unsigned k = 0; sim->hosts[i].node != NULL && k < sim->hosts[i].node->peer_count; k++) {
            expect_sane(&sim->hosts[i].node->peers[k]->sending);
            expect_sane(&sim->hosts[i].node->peers[k]->fetching);
        }
}

static bool is_under_way(const struct lr_progress *progress) {
    unsigned share;
    return lr_progress_share(progress, &share);
}

/* What was said while it went on. */
struct told {
    unsigned steps;                    /* in which something was under way */
    unsigned least, most, last, falls; /* without more to do than before, as where a stripe is walked again */
    uint64_t total;
    bool over;                        /* what comes then, a comparison every 10 s, is another one */
    uint64_t half_ms, end_ms, left_s; /* when half was done, when all was, and the estimate at half */
};

static void note(const struct sim *sim, const struct lr_progress *progress, struct told *told) {
    unsigned share;
    told->over |= !is_under_way(progress) && told->steps > 0;
    if (!lr_progress_share(progress, &share) || told->over)
        return;
    told->falls += told->steps > 0 && share < told->last && progress->total == told->total;
    told->last = share;
    told->total = progress->total;
    told->least = told->steps == 0 || share < told->least ? share : told->least;
    told->most = share > told->most ? share : told->most;
    told->steps++;
    told->end_ms = sim->now_ms;
    if (told->half_ms == 0 && share >= 500 && lr_progress_seconds(progress) != UINT64_MAX) {
        told->half_ms = sim->now_ms;
        told->left_s = lr_progress_seconds(progress);
    }
}

/* Runs until nothing is under way, in steps. */
static void watch(struct sim *sim, struct told *sends, struct told *fetches) {
    *sends = *fetches = (struct told){0};
    for (uint64_t begin = sim->now_ms; sim->now_ms - begin < MOST_MS; sim_run(sim, 10 * SIM_STEP_MS)) {
        note(sim, &sim->hosts[0].node->peers[0]->sending, sends);
        note(sim, &sim->hosts[1].node->peers[0]->fetching, fetches);
        expect_all_sane(sim);
        if (sends->steps > 0 && sim->hosts[0].node->peers[0]->state == LR_PEER_LIVE &&
            !is_under_way(&sim->hosts[0].node->peers[0]->sending) &&
            !is_under_way(&sim->hosts[1].node->peers[0]->fetching))
            break;
    }
}

/* Half and one and a half of what it was, and a second for what is rounded. */
static void expect_right(const struct told *told) {
    const uint64_t was_ms = told->end_ms - told->half_ms, said_ms = told->left_s * 1000;
    CU_ASSERT(told->half_ms != 0);
    CU_ASSERT(said_ms + 1000 >= was_ms / 2 && said_ms <= was_ms + was_ms / 2 + 1000);
    if (said_ms + 1000 < was_ms / 2 || said_ms > was_ms + was_ms / 2 + 1000)
        printf("\n    %llu ms were left, and %llu were announced", (unsigned long long)was_ms,
               (unsigned long long)said_ms);
}

static void a_peer_that_has_nothing_is_sent_all_with_a_share_and_an_end(void) {
    struct told sends, fetches;
    const uint64_t sizes[2] = {SEGMENT, SEGMENT};
    struct sim *sim = sim_create_idle("progress of walks", 2, sizes);
    sim->bytes_per_step = 2000;
    lr_set_replicating(sim->hosts[0].cache, true);
    put_values(&sim->hosts[0], 0, 5000);
    sim_start(&sim->hosts[0], NULL, true);
    sim_start(&sim->hosts[1], NULL, true);
    const struct lr_peer *peer = sim->hosts[0].node->peers[0];
    CU_ASSERT_EQUAL(lr_outflow_lacking(peer).stripes, sim->hosts[0].node->stripes); /* before there is a link */
    CU_ASSERT_EQUAL(lr_outflow_lacking(peer).changes, 0);
    CU_ASSERT_FALSE(is_under_way(&peer->sending));
    watch(sim, &sends, &fetches);
    CU_ASSERT(sends.least < 100 && sends.most >= 900);
    CU_ASSERT_EQUAL(sends.falls, 0);
    expect_right(&sends);
    CU_ASSERT_EQUAL(lr_outflow_lacking(peer).stripes, 0);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT_FALSE(is_under_way(&sim->hosts[0].node->peers[0]->sending));
    CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

static uint64_t items_of(const struct sim_host *host) {
    struct lr_stat stat;
    lr_stat(host->cache, &stat);
    return stat.items;
}

static void what_is_on_its_way_is_not_done_and_what_comes_on_top_is_to_be_done(void) {
    const uint64_t sizes[2] = {SEGMENT, SEGMENT};
    const unsigned entries = 5000;
    struct sim *sim = sim_create_idle("progress, and more to do", 2, sizes);
    unsigned share = 0, later;
    sim->bytes_per_step = 2000;
    lr_set_replicating(sim->hosts[0].cache, true);
    put_values(&sim->hosts[0], 0, entries);
    sim_start(&sim->hosts[0], NULL, true);
    sim_start(&sim->hosts[1], NULL, true);
    struct lr_peer *peer = sim->hosts[0].node->peers[0];
    for (unsigned steps = 0; share < 400 && steps < 1000; steps++, sim_run(sim, 10 * SIM_STEP_MS)) {
        share = lr_progress_share(&peer->sending, &share) ? share : 0;
        CU_ASSERT(share <= items_of(&sim->hosts[1]) * 1000 / entries + 50);
        expect_all_sane(sim);
    }
    CU_ASSERT(share >= 400);
    for (uint32_t i = 0; i < sim->hosts[0].node->stripes; i++)
        lr_outflow_rescan(peer, i);
    sim_run(sim, 20 * SIM_STEP_MS);
    expect_all_sane(sim);
    CU_ASSERT(lr_progress_share(&peer->sending, &later) && later < share);
    sim->bytes_per_step = 0;
    CU_ASSERT(sim_settle(sim, 20000));
    sim_run(sim, 20 * SIM_STEP_MS);
    CU_ASSERT_FALSE(is_under_way(&peer->sending));
    sim_destroy(sim);
}

/* Two daemons that know nothing of each other, and one of the hosts lacks half. */
static void a_comparison_has_a_share_and_an_end_on_both_sides(void) {
    struct told sends, fetches;
    struct sim *sim = sim_create("progress of a comparison", 2, SEGMENT);
    put_values(&sim->hosts[0], 0, 2500);
    CU_ASSERT(sim_settle(sim, 20000));
    for (unsigned i = 0; i < 2; i++)
        sim_stop(&sim->hosts[i]);
    put_values(&sim->hosts[0], 10000, 2400);
    sim->bytes_per_step = 500;
    for (unsigned i = 0; i < 2; i++)
        sim_start(&sim->hosts[i], NULL, true);
    watch(sim, &sends, &fetches);
    CU_ASSERT(sends.least < 500 && sends.most >= 900);
    CU_ASSERT(fetches.steps > 0 && fetches.least < 700 && fetches.most >= 800);
    CU_ASSERT_EQUAL(sends.falls + fetches.falls, 0);
    expect_right(&sends);
    CU_ASSERT(sim_settle(sim, 60000));
    sim_run(sim, 20 * SIM_STEP_MS);
    CU_ASSERT_FALSE(is_under_way(&sim->hosts[1].node->peers[0]->fetching));
    CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

/* Whatever happens meanwhile. */
static void no_share_is_below_nothing_or_above_all(void) {
    const uint64_t sizes[2] = {SEGMENT / 2, SEGMENT};
    struct sim *sim = sim_create_idle("progress and faults", 2, sizes);
    struct fixture_random *random = &sim->random;
    sim->bytes_per_step = 20000;
    sim_start(&sim->hosts[0], NULL, true);
    sim_start(&sim->hosts[1], NULL, true);
    for (unsigned turn = 0; turn < 300; turn++) {
        struct sim_host *host = &sim->hosts[fixture_below(random, 2)];
        switch (fixture_below(random, 8)) {
        case 0:
            sim_reset(sim, 0, 1);
            break;
        case 1:
            sim_kill(host);
            sim_start(host, NULL, true);
            break;
        case 2:
            lr_outflow_rescan(host->node->peers[0], 0);
            break;
        case 3:
            lr_flush(host->cache);
            break;
        default:
            put_values(host, (unsigned)fixture_below(random, 20000), 400);
        }
        for (unsigned i = 0; i < 5; i++, sim_run(sim, 10 * SIM_STEP_MS))
            expect_all_sane(sim);
    }
    sim->bytes_per_step = 0;
    CU_ASSERT(sim_settle(sim, 60000));
    sim_run(sim, 20 * SIM_STEP_MS);
    for (unsigned i = 0; i < 2; i++) {
        CU_ASSERT_FALSE(is_under_way(&sim->hosts[i].node->peers[0]->sending));
        CU_ASSERT_EQUAL(lr_outflow_left(sim->hosts[i].node->peers[0]), 0);
    }
    sim_destroy(sim);
}

/* The two figures, which used to be one. */
static void changes_and_stripes_are_counted_apart(void) {
    struct sim *sim = sim_create("unacknowledged", 2, SEGMENT);
    struct lr_sidecar_state state;
    CU_ASSERT(sim_settle(sim, 5000));
    const struct lr_peer *peer = sim->hosts[0].node->peers[0];
    sim_cut(sim, 0, 1, true);
    for (unsigned key = 0; key < 50; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], key, "waits", 0), 0);
    sim_run(sim, 100);
    CU_ASSERT_EQUAL(lr_outflow_lacking(peer).changes, 50);
    CU_ASSERT_EQUAL(lr_outflow_lacking(peer).stripes, 0);
    lr_sidecar_state(sim->hosts[0].cache, &state);
    CU_ASSERT_EQUAL(state.unacked, 50);
    CU_ASSERT_EQUAL(state.resync_stripes, 0);
    lr_outflow_rescan(sim->hosts[0].node->peers[0], 0);
    CU_ASSERT_EQUAL(lr_outflow_lacking(peer).changes, 50);
    CU_ASSERT_EQUAL(lr_outflow_lacking(peer).stripes, 1);
    atomic_store(&lr_stripe_at(sim->hosts[0].cache, 0)->rescan, 1); /* as a repair does */
    lr_sidecar_state(sim->hosts[0].cache, &state);
    CU_ASSERT_EQUAL(state.unacked, 50);
    CU_ASSERT_EQUAL(state.resync_stripes, 1);
    CU_ASSERT_FALSE(lr_sidecar_has_sent(&state));
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT_EQUAL(lr_outflow_left(peer), 0);
    lr_sidecar_state(sim->hosts[0].cache, &state);
    CU_ASSERT(lr_sidecar_has_sent(&state));
    CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

void larder_suite_98_progress(void);
void larder_suite_98_progress(void) {
    CU_pSuite suite = CU_add_suite("98_progress", NULL, NULL);
    CU_ADD_TEST(suite, a_peer_that_has_nothing_is_sent_all_with_a_share_and_an_end);
    CU_ADD_TEST(suite, what_is_on_its_way_is_not_done_and_what_comes_on_top_is_to_be_done);
    CU_ADD_TEST(suite, a_comparison_has_a_share_and_an_end_on_both_sides);
    CU_ADD_TEST(suite, no_share_is_below_nothing_or_above_all);
    CU_ADD_TEST(suite, changes_and_stripes_are_counted_apart);
}
