/* SPDX-License-Identifier: MIT */
/*
 * A host that was away catches up: what travels is what it lacks. Entries are counted, and bytes of frames; no time is
 * judged. In all of these feed rings have run over, so that stripes are walked, and hosts hold much that both have.
 */
#include "simnet.h"
#include "stripe.h"

#include <string.h>

#define SEGMENT (UINT64_C(64) << 20)
#define HELD (FIXTURE_SANITIZED ? 36000u : 60000u) /* more than twice as many as a host's rings have hints */
#define LACKED (HELD / 3)
#define ENTRY_BYTES 90u             /* a frame of these, at most */
#define ON_A_LINK (LR_WINDOW / 80u) /* ... on their way, at most */

static void put_many(struct sim_host *host, unsigned first, unsigned count) {
    unsigned failed = 0;
    for (unsigned i = 0; i < count; i++)
        failed += sim_put(host, first + i, "a value of some length, as they are", 0) != 0;
    CU_ASSERT_EQUAL(failed, 0);
}

static struct lr_peer *peer_of(const struct sim_host *from, unsigned to) {
    for (unsigned i = 0; i < from->node->peer_count; i++)
        if (strcmp(from->node->peers[i]->address, from->sim->hosts[to].address) == 0)
            return from->node->peers[i];
    CU_FAIL_FATAL("that is no peer");
    return NULL;
}

static uint64_t sent_to(const struct sim_host *from, unsigned to) {
    return peer_of(from, to)->out.entries_sent;
}

static void is_at_most(uint64_t sent, uint64_t most) {
    CU_ASSERT(sent <= most);
    if (sent > most)
        printf("\n    %llu instead of %llu at most", (unsigned long long)sent, (unsigned long long)most);
}

static bool has_all(struct sim_host *host, unsigned count) {
    struct lr_stat stat;
    lr_stat(host->cache, &stat);
    return stat.items == count;
}

static bool wait_for_all(struct sim_host *host, unsigned count) {
    for (unsigned i = 0; i < 6000 && !has_all(host, count); i++)
        sim_run(host->sim, SIM_STEP_MS);
    return has_all(host, count);
}

/* It has joined and taken everything, and goes at that very moment, before the epoch has ended in which that arrived.
 */
static void who_was_away_is_sent_what_is_new(void) {
    struct sim *sim = sim_create("it was away", 2, SEGMENT);
    struct sim_host *first = &sim->hosts[0], *second = &sim->hosts[1];
    CU_ASSERT(sim_settle(sim, 5000));
    sim_kill(second);
    put_many(first, 0, 1000);
    sim_run(sim, 1000);
    put_many(first, 1000, HELD - 1000);
    sim_start(second, NULL, true);
    CU_ASSERT(wait_for_all(second, HELD));
    sim_run(sim, 50); /* for the acknowledgements */
    sim_stop(second);
    const uint64_t entries = sent_to(first, 1), bytes = peer_of(first, 1)->sent_bytes;
    put_many(first, HELD, LACKED);
    sim_start(second, NULL, true);
    CU_ASSERT(sim_settle(sim, 60000));
    CU_ASSERT(sim_digests_equal(sim));
    /* Both have dialled, and one link goes, with a window on it. The second one's larderd knows nothing any more and
     * compares: less than a byte for each entry. */
    is_at_most(sent_to(first, 1) - entries, LACKED * 11 / 10 + ON_A_LINK);
    is_at_most(peer_of(first, 1)->sent_bytes - bytes, LACKED * ENTRY_BYTES * 11 / 10 + LR_WINDOW + HELD + LACKED);
    is_at_most(sent_to(second, 0), 0);
    sim_destroy(sim);
}

/* A third one is away for long. */
static void who_was_away_for_a_moment_is_not_sent_what_came_since_another_left(void) {
    struct sim *sim = sim_create("one of three", 3, SEGMENT);
    struct sim_host *first = &sim->hosts[0];
    CU_ASSERT(sim_settle(sim, 5000));
    sim_kill(&sim->hosts[2]);
    for (unsigned i = 0; i < 10; i++) { /* as time goes by */
        put_many(first, i * HELD / 10, HELD / 10);
        sim_run(sim, 2000);
    }
    sim_cut(sim, 0, 1, true);
    sim_run(sim, 5000);
    const uint64_t entries = sent_to(first, 1);
    put_many(first, HELD, LACKED);
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(wait_for_all(&sim->hosts[1], HELD + LACKED));
    is_at_most(sent_to(first, 1) - entries, LACKED * 11 / 10 + ON_A_LINK);
    sim_start(&sim->hosts[2], NULL, true);
    CU_ASSERT(sim_settle(sim, 60000));
    CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

/* Each has something new, and the cut has just ended. */
static struct sim *two_that_were_cut_off(const char *what) {
    struct sim *sim = sim_create(what, 2, SEGMENT);
    CU_ASSERT(sim_settle(sim, 5000));
    sim_cut(sim, 0, 1, true);
    sim_run(sim, 5000);
    for (unsigned i = 0; i < 2; i++)
        put_many(&sim->hosts[i], i * HELD, HELD);
    sim->bytes_per_step = 20000;
    sim_cut(sim, 0, 1, false);
    return sim;
}

/* What came by the new link does not go back by the walks. These begin anew where the index grows (shm/scan.c). */
static void two_that_were_cut_off_do_not_send_back_what_comes(void) {
    struct sim *sim = two_that_were_cut_off("both have something new");
    CU_ASSERT(sim_settle(sim, 60000));
    CU_ASSERT(sim_digests_equal(sim));
    for (unsigned i = 0; i < 2; i++)
        is_at_most(sent_to(&sim->hosts[i], 1 - i), HELD * 5 / 4 + ON_A_LINK);
    sim_destroy(sim);
}

/* A walk that is to come, or is under way, has not been sent, whatever was of the hints that go beside it. */
static void is_not_ahead_of_its_walks(const struct sim_host *host) {
    const struct lr_outflow *out = &host->node->peers[0]->out;
    for (uint32_t i = 0; i < host->node->stripes; i++) {
        const struct lr_cursor *cursor = &out->cursors[i];
        if (!cursor->apart)
            continue;
        CU_ASSERT(cursor->acked <= cursor->from);
        CU_ASSERT(!out->sync_reached || cursor->scan == LR_SCAN_NONE);
    }
}

/* As before, and users go on. */
static void what_is_put_meanwhile_travels_once_as_well(void) {
    struct sim *sim = two_that_were_cut_off("and users go on");
    for (unsigned i = 0; i < 200; i++) {
        put_many(&sim->hosts[0], 2 * HELD + i * 50, 50);
        sim_run(sim, 10);
        is_not_ahead_of_its_walks(&sim->hosts[0]);
    }
    CU_ASSERT(sim_settle(sim, 60000));
    CU_ASSERT(sim_digests_equal(sim));
    is_at_most(sent_to(&sim->hosts[0], 1), (HELD + 200 * 50) * 5 / 4 + ON_A_LINK);
    is_at_most(sent_to(&sim->hosts[1], 0), HELD * 5 / 4 + ON_A_LINK);
    sim_destroy(sim);
}

/* Of what was acknowledged before a link breaks nothing is sent again, but for the stripe that was being walked. */
static void a_link_that_breaks_costs_what_was_on_its_way(void) {
    struct sim *sim = sim_create("broken links", 2, SEGMENT);
    struct sim_host *first = &sim->hosts[0];
    CU_ASSERT(sim_settle(sim, 5000));
    sim_cut(sim, 0, 1, true);
    sim_run(sim, 5000);
    put_many(first, 0, HELD);
    sim->bytes_per_step = 20000;
    sim_cut(sim, 0, 1, false);
    const unsigned breaks = 4, window = ON_A_LINK, stripe = HELD / lr_stripe_count(first->cache);
    for (unsigned i = 1; i <= breaks; i++) {
        for (unsigned k = 0; k < 6000 && sent_to(first, 1) < i * (HELD / 5 + window); k++)
            sim_run(sim, SIM_STEP_MS);
        sim_reset(sim, 0, 1);
    }
    CU_ASSERT(sim_settle(sim, 60000));
    CU_ASSERT(sim_digests_equal(sim));
    is_at_most(sent_to(first, 1), HELD + breaks * (window + 2 * stripe));
    sim_destroy(sim);
}

/* A change without a hint, as of a process that died before it could write one; and another one after it, which the
 * peer has before anybody looks. */
static void what_has_no_hint_is_walked_however_epochs_end(void) {
    for (unsigned wait = 0; wait < 200; wait += 10) {
        struct sim *sim = sim_create("no hint", 2, UINT64_C(1) << 20);
        struct sim_host *first = &sim->hosts[0];
        char text[64];
        CU_ASSERT(sim_settle(sim, 5000));
        CU_ASSERT_EQUAL(sim_put(first, 1, "hinted", 0), 0);
        sim_run(sim, 300 + wait);
        lr_set_replicating(first->cache, false);
        CU_ASSERT_EQUAL(sim_put(first, 2, "not hinted", 0), 0);
        lr_set_replicating(first->cache, true);
        CU_ASSERT_EQUAL(lr_stripe_count(first->cache), 1);
        atomic_store(&lr_stripe_at(first->cache, 0)->rescan, 1); /* as whoever takes the lock next */
        CU_ASSERT_EQUAL(sim_put(first, 3, "hinted", 0), 0);
        sim_run(sim, 1000);
        CU_ASSERT(sim_settle(sim, 5000));
        CU_ASSERT(sim_get(&sim->hosts[1], 2, text) != 0);
        sim_destroy(sim);
    }
}

/* What arrived just before a daemon ended has been acknowledged when the next one is in step: it leaves no tombstone.
 */
static void what_expires_after_a_restart_is_not_told(void) {
    struct sim *sim = sim_create("the open epoch", 2, UINT64_C(1) << 20);
    struct sim_host *first = &sim->hosts[0];
    CU_ASSERT(sim_settle(sim, 5000));
    CU_ASSERT_EQUAL(lr_stripe_count(first->cache), 1);
    sim_cut(sim, 0, 1, true);
    sim_run(sim, 5000);
    CU_ASSERT_EQUAL(sim_put(first, 1, "in an epoch that has ended", 0), 0);
    sim_run(sim, 1000);
    CU_ASSERT_EQUAL(sim_put(first, 2, "in the open one", 4000), 0);
    sim_kill(first);
    sim_start(first, NULL, true);
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 3000));
    char text[64];
    CU_ASSERT(sim_get(&sim->hosts[1], 2, text) != 0);
    const uint64_t entries = sent_to(first, 1);
    sim_run(sim, 6000);
    CU_ASSERT_EQUAL(sim_get(first, 2, text), 0);
    CU_ASSERT_EQUAL(sent_to(first, 1), entries);
    sim_destroy(sim);
}

void larder_suite_98_catch_up(void);
void larder_suite_98_catch_up(void) {
    CU_pSuite suite = CU_add_suite("98_catch_up: what travels is what is lacking", NULL, NULL);
    CU_ADD_TEST(suite, who_was_away_is_sent_what_is_new);
    CU_ADD_TEST(suite, who_was_away_for_a_moment_is_not_sent_what_came_since_another_left);
    CU_ADD_TEST(suite, two_that_were_cut_off_do_not_send_back_what_comes);
    CU_ADD_TEST(suite, what_is_put_meanwhile_travels_once_as_well);
    CU_ADD_TEST(suite, a_link_that_breaks_costs_what_was_on_its_way);
    CU_ADD_TEST(suite, what_has_no_hint_is_walked_however_epochs_end);
    CU_ADD_TEST(suite, what_expires_after_a_restart_is_not_told);
}
