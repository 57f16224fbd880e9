/* SPDX-License-Identifier: MIT */
/*
 * What a larderd forgets that is started anew while a peer is away, and what comes of it (sidecar/README.md, "What a
 * restart costs"). Sequences on the simulated network, as in 86_sequences.c; all segments here have one stripe.
 *
 * A change that a peer hears of for the first time it takes unless it has declined, or let go of, something newer of
 * its range of hashes (the firm floor); what it evicted or what expired there says nothing about it. That a peer has
 * not heard of a change yet a larderd knows, and the segment does not: so after a restart all is compared, and what
 * the peer does not have lies below its floor or above it. Below it a new key cannot be told from an old one that the
 * peer has deleted since, as the last test shows; so it is not taken.
 */
#include "simnet.h"
#include "stripe.h"

#include <string.h>

#define SEGMENT (UINT64_C(1) << 20)
#define TICK_MS 10u /* versions are drawn from the machine's clock, in steps of some ms */

static bool has(struct sim_host *host, unsigned key, const char *text) {
    char found[64];
    return sim_get(host, key, found) != 0 ? text != NULL && strcmp(found, text) == 0 : text == NULL;
}

static unsigned range_of(unsigned key) {
    char name[24];
    return lr_range_of(lr_cluster_hash(name, (size_t)snprintf(name, sizeof name, "key %u", key)));
}

static unsigned neighbour_of(unsigned key) {
    unsigned other = key + 1;
    while (range_of(other) != range_of(key))
        other++;
    return other;
}

/* A key that lives for two seconds, and then is over where everybody has heard of it. */
static void put_and_wait(struct sim *sim, struct sim_host *host, unsigned key, const char *text) {
    struct lr_range range;
    char found[64];
    fixture_sleep_ms(TICK_MS);
    CU_ASSERT_EQUAL(sim_put(host, key, text, 2000), 0);
    const uint64_t version = sim_get(host, key, found);
    sim_run(sim, 4000);
    lr_range_get(host->cache, range_of(key), &range);
    CU_ASSERT(version != 0 && range.floor >= version);
}

enum restarted { NOBODY, WHO_WROTE, IN_STEP_FIRST };

/* Host 2 is cut off and writes a new key; on the others something of the key's range expires, which is newer. Then
 * its larderd is started anew, or not. */
static struct sim *cut_off(const char *what, enum restarted who) {
    struct sim *sim = sim_create(what, 3, SEGMENT);
    CU_ASSERT(sim_settle(sim, 5000));
    for (unsigned i = 0; i < 2; i++)
        sim_cut(sim, i, 2, true);
    sim_run(sim, 5000);
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[2], 1, "new", 0), 0);
    put_and_wait(sim, &sim->hosts[0], neighbour_of(1), "brief");
    if (who == WHO_WROTE) {
        sim_kill(&sim->hosts[2]);
        sim_start(&sim->hosts[2], NULL, true);
    }
    for (unsigned i = 0; i < 2; i++)
        sim_cut(sim, i, 2, false);
    CU_ASSERT(sim_settle(sim, 20000));
    if (who == IN_STEP_FIRST) {
        sim_kill(&sim->hosts[2]);
        sim_start(&sim->hosts[2], NULL, true);
        CU_ASSERT(sim_settle(sim, 20000));
    }
    return sim;
}

static void a_new_key_is_taken_unless_who_wrote_it_was_started_anew_while_away(void) {
    static const enum restarted harmless[] = {NOBODY, IN_STEP_FIRST};
    for (unsigned k = 0; k < 2; k++) {
        struct sim *sim = cut_off("a new key, and nothing lost", harmless[k]);
        for (unsigned i = 0; i < 3; i++)
            CU_ASSERT(has(&sim->hosts[i], 1, "new"));
        CU_ASSERT(sim_digests_equal(sim));
        sim_destroy(sim);
    }
}

/* The limit, exactly: it is a miss on the others, never something old, and the next change of the key is taken. */
static void what_a_restart_has_declined_is_a_miss_until_it_is_put_again(void) {
    struct sim *sim = cut_off("a new key, and a restart", WHO_WROTE);
    CU_ASSERT(has(&sim->hosts[2], 1, "new"));
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT(has(&sim->hosts[i], 1, NULL));
    sim_run(sim, 3 * LR_COMPARE_EVERY_MS);
    const uint64_t sent = sim_entries_sent(sim);
    sim_run(sim, 3 * LR_COMPARE_EVERY_MS); /* nor is it tried again and again */
    CU_ASSERT_EQUAL(sim_entries_sent(sim), sent);
    fixture_sleep_ms(TICK_MS);
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[2], 1, "again", 0), 0);
    CU_ASSERT(sim_settle(sim, 20000));
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT(has(&sim->hosts[i], 1, "again"));
    CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

/* Keys of ranges where nothing newer was forgotten come by the comparison. */
static void other_new_keys_survive_the_restart(void) {
    struct sim *sim = sim_create("new keys and a restart", 2, SEGMENT);
    CU_ASSERT(sim_settle(sim, 5000));
    sim_cut(sim, 0, 1, true);
    sim_run(sim, 5000);
    for (unsigned key = 0; key < 500; key++)
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[1], key, "new", 0), 0);
    put_and_wait(sim, &sim->hosts[0], neighbour_of(1), "brief");
    sim_kill(&sim->hosts[1]);
    sim_start(&sim->hosts[1], NULL, true);
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    for (unsigned key = 0; key < 500; key++)
        CU_ASSERT(range_of(key) == range_of(1) || has(&sim->hosts[0], key, "new"));
    sim_destroy(sim);
}

/*
 * Why what lies below the floor cannot be believed after a restart, however new it is to who is told: a relay lost its
 * segment, and with it that a key was replaced; a host that was away brings it the old value; the other host had the
 * new one, which is over. The relay's larderd, started anew, does not know where it has the old value from.
 */
static void what_a_restarted_relay_has_of_old_is_not_believed(void) {
    const uint64_t sizes[3] = {SEGMENT, SEGMENT, SEGMENT};
    struct sim *sim = sim_create_idle("a restarted relay", 3, sizes);
    struct sim_host *relay = &sim->hosts[1];
    struct lr_node_options options = sim_options(relay);
    options.relay = true;
    for (unsigned i = 0; i < 3; i++) {
        sim_start(&sim->hosts[i], i == 1 ? &options : NULL, false);
        for (unsigned k = 0; k < 3; k++)
            if (i + 1 == k || k + 1 == i)
                CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[i].node, sim->hosts[k].address), 0);
    }
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[2], 1, "old", 0), 0);
    CU_ASSERT(sim_settle(sim, 20000));
    sim_cut(sim, 1, 2, true);
    put_and_wait(sim, &sim->hosts[0], 1, "newer"); /* the relay has it, host 2 has not */
    CU_ASSERT(has(&sim->hosts[0], 1, NULL));
    sim_kill(relay);
    sim_wipe(relay);
    for (unsigned round = 0; round < 2; round++) {
        sim_start(relay, &options, false);
        for (unsigned k = 0; k < 3; k += 2)
            CU_ASSERT_EQUAL(lr_node_add_peer(relay->node, sim->hosts[k].address), 0);
        if (round == 1)
            break;
        sim_run(sim, 5000);
        sim_cut(sim, 0, 1, true); /* what comes from host 2 now waits in the relay */
        sim_cut(sim, 1, 2, false);
        sim_run(sim, 5000);
        CU_ASSERT(has(relay, 1, "old"));
        sim_kill(relay);
    }
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(has(&sim->hosts[0], 1, NULL));
    sim_destroy(sim);
}

void larder_suite_86_restart(void);
void larder_suite_86_restart(void) {
    CU_pSuite suite = CU_add_suite("86_restart", NULL, NULL);
    CU_ADD_TEST(suite, a_new_key_is_taken_unless_who_wrote_it_was_started_anew_while_away);
    CU_ADD_TEST(suite, what_a_restart_has_declined_is_a_miss_until_it_is_put_again);
    CU_ADD_TEST(suite, other_new_keys_survive_the_restart);
    CU_ADD_TEST(suite, what_a_restarted_relay_has_of_old_is_not_believed);
}
