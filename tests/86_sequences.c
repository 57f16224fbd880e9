/* SPDX-License-Identifier: MIT */
/*
 * The sequences that break simpler rules of replication, one test each, on the simulated network (simnet.h). Whoever
 * simplifies a rule of sidecar/ or of the engine's floors, voids and tombstones shows here that these still hold.
 * larder-network (network/) looks for more of them; each that it found has its test here.
 */
#include "simnet.h"

#include "stripe.h"

#include <string.h>

#define SEGMENT (UINT64_C(1) << 20)
#define SMALL (UINT64_C(64) << 10)
#define TICK_MS 10u /* versions are drawn from the machine's clock, in steps of some ms */

static bool has(struct sim_host *host, unsigned key, const char *text) {
    char found[64];
    return sim_get(host, key, found) != 0 ? text != NULL && strcmp(found, text) == 0 : text == NULL;
}

static void put(struct sim_host *host, unsigned key, const char *text) {
    CU_ASSERT_EQUAL(sim_put(host, key, text, 0), 0);
}

/* What nobody reads goes in the order of the hand, small or not. */
static void evict_in_order(struct sim_host *host) {
    host->segment.options.policy = LR_POLICY_clock;
    sim_wipe(host);
}

/* Values of a KiB, until the key is evicted; the numbers begin at `first`. */
static unsigned push_out(struct sim_host *host, unsigned key, unsigned first) {
    unsigned number = first;
    for (char text[64]; sim_get(host, key, text) != 0 && number < first + 5000; number++)
        sim_put_ballast(host, number);
    return number;
}

static uint64_t version_of(struct sim_host *host, unsigned key) {
    char text[64];
    return sim_get(host, key, text);
}

static int apply(struct sim_host *host, unsigned key, const char *text, uint64_t version, unsigned apply_flags) {
    char name[24];
    struct lr_change change = {.key = name,
                               .key_len = (uint32_t)snprintf(name, sizeof name, "key %u", key),
                               .value = text,
                               .value_len = (uint32_t)strlen(text),
                               .version = version,
                               .deadline_ms = UINT64_MAX};
    return lr_apply_put(host->cache, &change, apply_flags);
}

static uint64_t hash_of(unsigned key) {
    char name[24];
    return lr_cluster_hash(name, (size_t)snprintf(name, sizeof name, "key %u", key));
}

static bool has_tombstone(struct sim_host *host, unsigned key) {
    static uint8_t room[1 << 20];
    struct lr_entry entry;
    return lr_entry_by_hash(host->cache, hash_of(key), room, sizeof room, &entry) == 0 && entry.tombstone;
}

/* As if the host had just forgotten, unshipped, something of the key's range. Returns its version. */
static uint64_t forget_something(struct sim_host *host, unsigned key) {
    uint64_t version = lr_highest_version(host->cache);
    CU_ASSERT_EQUAL(lr_raise_void(host->cache, lr_range_of(hash_of(key)), version, NULL, NULL), 0);
    return version;
}

/* Hosts in a row: 0, 1, 2. */
static struct sim *row(const char *what, const uint64_t sizes[3]) {
    struct sim *sim = sim_create_idle(what, 3, sizes);
    for (unsigned i = 0; i < 3; i++) {
        sim_start(&sim->hosts[i], NULL, false);
        for (unsigned k = 0; k < 3; k++)
            if (i + 1 == k || k + 1 == i)
                CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[i].node, sim->hosts[k].address), 0);
    }
    return sim;
}

/* ---- evictions --------------------------------------------------------------------------------------------------- */

/* Evicted here after everybody had it; an older value then arrives by way of a host that was away. */
static void what_was_evicted_is_not_replaced_by_something_older(void) {
    uint64_t sizes[2] = {SMALL, SEGMENT};
    struct sim *sim = sim_create_idle("evicted, then older", 2, sizes);
    evict_in_order(&sim->hosts[0]);
    for (unsigned i = 0; i < 2; i++)
        sim_start(&sim->hosts[i], NULL, true);
    CU_ASSERT(sim_settle(sim, 5000));
    put(&sim->hosts[0], 1, "old");
    uint64_t old = version_of(&sim->hosts[0], 1);
    put(&sim->hosts[0], 1, "new");
    CU_ASSERT(sim_settle(sim, 5000));
    push_out(&sim->hosts[0], 1, 0);
    CU_ASSERT(sim_settle(sim, 5000));
    int result = apply(&sim->hosts[0], 1, "old", old, LR_NO_EVICT); /* from one who was no peer, and joins */
    CU_ASSERT(result == LR_DECLINED || result == LR_STALE);
    CU_ASSERT(has(&sim->hosts[0], 1, NULL) && has(&sim->hosts[1], 1, "new"));
    sim_destroy(sim);
}

/* Evicted, then an older delete comes that took long: nobody asks for what went. */
static void an_older_delete_does_not_bring_back_what_was_evicted(void) {
    struct sim *sim = sim_create("evicted, then an older delete", 2, UINT64_C(8) << 20);
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], 7, "text", 0), 0);
    CU_ASSERT(sim_settle(sim, 20000));
    sim_run(sim, 1000); /* until it is known everywhere that all have it */
    sim->hosts[1].node->tombstone_ms = UINT64_MAX;
    const uint64_t version = version_of(&sim->hosts[1], 7);
    sim_displace(&sim->hosts[1], hash_of(7));
    CU_ASSERT_EQUAL(lr_apply_tombstone(sim->hosts[1].cache, hash_of(7), version - 1000, 0), LR_APPLIED);
    CU_ASSERT(sim_settle(sim, 20000));
    const uint64_t sent = sim_entries_sent(sim);
    sim_run(sim, 4 * (LR_COMPARE_EVERY_MS + 1000));
    CU_ASSERT(sim->hosts[1].node->peers[0]->comparisons > 0 && has_tombstone(&sim->hosts[1], 7));
    CU_ASSERT_EQUAL(sim_entries_sent(sim), sent);
    sim_destroy(sim);
}

/* The new value is evicted before the peer hears of it; the peer must not keep the old one. */
static void an_eviction_before_shipping_takes_the_peers_older_value_away(void) {
    uint64_t sizes[2] = {SMALL, SEGMENT};
    struct sim *sim = sim_create_idle("evicted unshipped", 2, sizes);
    evict_in_order(&sim->hosts[0]);
    for (unsigned i = 0; i < 2; i++)
        sim_start(&sim->hosts[i], NULL, true);
    for (unsigned number = 0; number < 100; number++)
        sim_put_ballast(&sim->hosts[0], number);
    sim_run(sim, 5000);
    sim_cut(sim, 0, 1, true);
    put(&sim->hosts[1], 1, "old");
    fixture_sleep_ms(TICK_MS);
    put(&sim->hosts[0], 1, "new");
    push_out(&sim->hosts[0], 1, 100);
    CU_ASSERT(has_tombstone(&sim->hosts[0], 1));
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT(has(&sim->hosts[i], 1, NULL));
    sim_destroy(sim);
}

/* One peer is away, so whatever goes here went unshipped; but the other has that very value, and it is the newest. */
static void an_eviction_that_one_peer_missed_spares_the_other_that_has_the_value(void) {
    uint64_t sizes[3] = {SMALL, SEGMENT, SEGMENT};
    struct sim *sim = sim_create_idle("evicted half shipped", 3, sizes);
    evict_in_order(&sim->hosts[0]);
    for (unsigned i = 0; i < 2; i++)
        sim_start(&sim->hosts[i], NULL, true); /* host 2 never comes */
    sim_run(sim, 2000);
    for (unsigned key = 0; key < 20; key++)
        put(&sim->hosts[0], key, "newest");
    sim_run(sim, 1000);
    for (unsigned key = 0; key < 20; key++)
        CU_ASSERT(has(&sim->hosts[1], key, "newest"));
    for (unsigned key = 0, number = 0; key < 20; key++)
        number = push_out(&sim->hosts[0], key, number);
    CU_ASSERT(has_tombstone(&sim->hosts[0], 3));
    sim_reset(sim, 0, 1); /* what each knew of the other is forgotten with the link */
    sim_run(sim, 2000);
    unsigned kept = 0;
    for (unsigned key = 0; key < 20; key++)
        kept += has(&sim->hosts[1], key, "newest");
    CU_ASSERT_EQUAL(kept, 20);
    sim_destroy(sim);
}

/* A void is the business of the host that forgot and each of its peers: merged here, it is not told to a third. */
static void a_void_heard_from_one_is_not_told_to_another(void) {
    uint64_t sizes[3] = {SEGMENT, SEGMENT, SEGMENT};
    struct sim *sim = row("a void in the middle", sizes);
    CU_ASSERT(sim_settle(sim, 5000));
    put(&sim->hosts[2], 1, "only at the end");
    CU_ASSERT(sim_settle(sim, 5000));
    sim_run(sim, 3000);                       /* so that everybody is known to have it */
    sim_displace(&sim->hosts[1], hash_of(1)); /* in the middle it is gone, as the rest of that range may be */
    CU_ASSERT(!has_tombstone(&sim->hosts[1], 1));
    const uint64_t forgotten = forget_something(&sim->hosts[0], 1);
    sim_run(sim, 3 * LR_SETTLE_EVERY_MS);
    struct lr_range range;
    lr_range_get(sim->hosts[1].cache, lr_range_of(hash_of(1)), &range);
    CU_ASSERT(range.floor >= forgotten);
    CU_ASSERT(has(&sim->hosts[2], 1, "only at the end"));
    sim_kill(&sim->hosts[1]); /* nor by a larderd that was started anew */
    sim_start(&sim->hosts[1], NULL, false);
    CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[1].node, sim->hosts[2].address), 0);
    sim_run(sim, 3 * LR_SETTLE_EVERY_MS);
    CU_ASSERT(has(&sim->hosts[2], 1, "only at the end"));
    sim_destroy(sim);
}

/* What a host forgets unshipped after it has heard of a higher void is told nevertheless. */
static void a_void_below_one_that_was_heard_is_told(void) {
    struct sim *sim = sim_create("a void below another", 3, SEGMENT);
    put(&sim->hosts[0], 1, "old");
    CU_ASSERT(sim_settle(sim, 5000));
    sim_cut(sim, 1, 2, true);
    const uint64_t lower = version_of(&sim->hosts[1], 1);
    fixture_sleep_ms(TICK_MS);
    put(&sim->hosts[0], 2, "another");
    sim_run(sim, 1000);
    forget_something(&sim->hosts[0], 1);
    sim_run(sim, 3 * LR_SETTLE_EVERY_MS);
    CU_ASSERT(has(&sim->hosts[1], 1, "old") && has(&sim->hosts[2], 1, "old"));
    /* As if host 1 had had something newer of the key, which now goes. */
    CU_ASSERT_EQUAL(lr_drop(sim->hosts[1].cache, hash_of(1), lower), 0);
    CU_ASSERT_EQUAL(lr_raise_void(sim->hosts[1].cache, lr_range_of(hash_of(1)), lower, NULL, NULL), 0);
    sim_cut(sim, 1, 2, false);
    CU_ASSERT(sim_settle(sim, 20000));
    sim_run(sim, 3 * LR_SETTLE_EVERY_MS);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT(has(&sim->hosts[i], 1, NULL));
    sim_destroy(sim);
}

/*
 * A relay takes voids over, to pass them on, and spares the teller, who knows; but not while the teller lacks changes
 * of the relay, which can go as well, and then below a void that is as high already.
 */
static void a_relay_that_owes_the_teller_changes_leads_its_void_back(void) {
    struct sim *sim = sim_create("a void led back", 2, SEGMENT);
    sim->hosts[1].node->relay = true;
    put(&sim->hosts[0], 1, "old");
    CU_ASSERT(sim_settle(sim, 5000));
    sim->bytes_per_step = 2000;
    for (unsigned number = 0; number < 500; number++)
        sim_put_ballast(&sim->hosts[1], number);
    put(&sim->hosts[1], 1, "new");
    fixture_sleep_ms(TICK_MS);
    put(&sim->hosts[0], 2, "another");
    const uint64_t forgotten = forget_something(&sim->hosts[0], 1);
    struct lr_range range;
    sim->hosts[0].node->peers[0]->out.settle_next_ms = 0;
    do {
        sim_run(sim, SIM_STEP_MS);
        lr_range_get(sim->hosts[1].cache, lr_range_of(hash_of(1)), &range);
    } while (range.void_version < forgotten && has(&sim->hosts[0], 1, "old"));
    CU_ASSERT(range.void_version >= forgotten && has(&sim->hosts[0], 1, "old") && has(&sim->hosts[1], 1, "new"));
    sim_displace(&sim->hosts[1], hash_of(1));
    sim_run(sim, 3 * LR_SETTLE_EVERY_MS);
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT(has(&sim->hosts[i], 1, NULL));
    sim_destroy(sim);
}

/* Each stripe has voids of its own: one of them may rise and the highest stay. */
static void a_void_below_that_of_another_stripe_is_told(void) {
    struct sim *sim = sim_create("a void of another stripe", 2, SEGMENT << 3);
    CU_ASSERT(lr_stripe_count(sim->hosts[0].cache) > 1);
    put(&sim->hosts[0], 1, "old");
    CU_ASSERT(sim_settle(sim, 5000));
    const uint32_t stripe = lr_place_stripe(sim->hosts[0].cache, lr_place(sim->hosts[0].cache, hash_of(1)));
    struct lr_view other = lr_view_of(sim->hosts[0].cache, stripe ^ 1u), own = lr_view_of(other.cache, stripe);
    const uint64_t lower = version_of(&sim->hosts[0], 1);
    lr_void_raise(&other, hash_of(1), lower + (UINT64_C(1) << SM_VERSION_ORIGIN_BITS));
    sim_run(sim, 3 * LR_SETTLE_EVERY_MS);
    CU_ASSERT(has(&sim->hosts[1], 1, "old"));
    CU_ASSERT_EQUAL(lr_drop(own.cache, hash_of(1), lower), 0);
    lr_void_raise(&own, hash_of(1), lower);
    sim_run(sim, 3 * LR_SETTLE_EVERY_MS);
    CU_ASSERT(has(&sim->hosts[1], 1, NULL));
    sim_destroy(sim);
}

/*
 * Host 1 has forgotten something of that range, and spares host 2 the old value, for it knows the key itself. Then it
 * forgets that too. Host 0 comes back with a newer value of which nobody has heard, and, by host 1's void, has to let
 * go of it: host 2 must hear.
 */
static void what_goes_by_a_peers_void_takes_a_third_ones_older_value_away(bool deleted) {
    struct sim *sim = sim_create("gone by another's void", 3, SEGMENT);
    put(&sim->hosts[0], 1, "old");
    CU_ASSERT(sim_settle(sim, 5000));
    sim_run(sim, 2000);
    sim_kill(&sim->hosts[0]);
    fixture_sleep_ms(TICK_MS);
    put(&sim->hosts[0], 1, "new");
    if (deleted) {
        CU_ASSERT_EQUAL(sim_delete(&sim->hosts[0], 1), 0);
    }
    fixture_sleep_ms(TICK_MS);
    put(&sim->hosts[1], 2, "another");
    forget_something(&sim->hosts[1], 1);
    sim_run(sim, 3 * LR_SETTLE_EVERY_MS);
    CU_ASSERT(has(&sim->hosts[2], 1, "old"));
    CU_ASSERT_EQUAL(lr_drop(sim->hosts[1].cache, hash_of(1), version_of(&sim->hosts[1], 1)), 0);
    sim_cut(sim, 0, 2, true);
    sim_start(&sim->hosts[0], NULL, true);
    sim_run(sim, 3 * LR_SETTLE_EVERY_MS);
    CU_ASSERT(has(&sim->hosts[0], 1, NULL) && has_tombstone(&sim->hosts[0], 1));
    sim_cut(sim, 0, 2, false);
    CU_ASSERT(sim_settle(sim, 20000));
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT(has(&sim->hosts[i], 1, NULL));
    sim_destroy(sim);
}

static void a_value_that_goes_by_a_peers_void_takes_a_third_ones_older_value_away(void) {
    what_goes_by_a_peers_void_takes_a_third_ones_older_value_away(false);
}

static void a_delete_that_goes_by_a_peers_void_takes_a_third_ones_older_value_away(void) {
    what_goes_by_a_peers_void_takes_a_third_ones_older_value_away(true);
}

/* ---- floors ------------------------------------------------------------------------------------------------------ */

/* Another key of the range; all segments here have one stripe. */
static unsigned neighbour_of(unsigned key) {
    unsigned other = key + 1;
    while (lr_range_of(hash_of(other)) != lr_range_of(hash_of(key)))
        other++;
    return other;
}

/* The host has had something of the key's range, newer than all, of which everybody knows, and it is over. */
static void let_something_expire(struct sim *sim, struct sim_host *host, unsigned key) {
    struct lr_range range;
    fixture_sleep_ms(TICK_MS);
    CU_ASSERT_EQUAL(sim_put(host, neighbour_of(key), "brief", 2000), 0);
    const uint64_t version = version_of(host, neighbour_of(key));
    sim_run(sim, 4000);
    lr_range_get(host->cache, lr_range_of(hash_of(key)), &range);
    CU_ASSERT(version != 0 && range.floor >= version);
}

/* A new key of a host that was cut off is older than what has expired elsewhere meanwhile, of the same range. */
static void what_expired_meanwhile_keeps_no_new_key_out(void) {
    struct sim *sim = sim_create("a floor of what expired", 3, SEGMENT);
    CU_ASSERT(sim_settle(sim, 5000));
    for (unsigned i = 0; i < 2; i++)
        sim_cut(sim, i, 2, true);
    sim_run(sim, 5000);
    put(&sim->hosts[2], 1, "new");
    let_something_expire(sim, &sim->hosts[0], 1);
    for (unsigned i = 0; i < 2; i++)
        sim_cut(sim, i, 2, false);
    CU_ASSERT(sim_settle(sim, 20000));
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT(has(&sim->hosts[i], 1, "new"));
    CU_ASSERT(sim_evictions(sim) == 0 && sim_digests_equal(sim));
    sim_destroy(sim);
}

/* Three in a row, the middle a relay that has forgotten the old value of the key, which both ends hold. */
static struct sim *relay_that_forgot(const char *what, const uint64_t sizes[3]) {
    struct sim *sim = sim_create_idle(what, 3, sizes);
    for (unsigned i = 0; i < 3; i++) {
        struct lr_node_options options = sim_options(&sim->hosts[i]);
        options.relay = i == 1;
        sim_start(&sim->hosts[i], &options, false);
        for (unsigned k = 0; k < 3; k++)
            if (i + 1 == k || k + 1 == i)
                CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[i].node, sim->hosts[k].address), 0);
    }
    CU_ASSERT(sim_settle(sim, 5000));
    put(&sim->hosts[0], 1, "old");
    CU_ASSERT(sim_settle(sim, 5000));
    sim_run(sim, 1000);
    sim_displace(&sim->hosts[1], hash_of(1));
    CU_ASSERT(has(&sim->hosts[0], 1, "old") && has(&sim->hosts[1], 1, NULL) && has(&sim->hosts[2], 1, "old"));
    return sim;
}

/* Then what changes at one end is older than what the relay has seen expire. The other end must hear of it. */
enum how { HINTS, WALK, COMPARISON };

static void a_relay_passes_on_what_is_older_than_what_it_forgot(bool deleted, enum how how) {
    const uint64_t sizes[3] = {SEGMENT, SEGMENT, SEGMENT};
    struct sim *sim = relay_that_forgot("a relay's floor", sizes);
    sim_cut(sim, 0, 1, true);
    sim_run(sim, 5000);
    fixture_sleep_ms(TICK_MS);
    put(&sim->hosts[0], 1, "new");
    if (deleted) {
        CU_ASSERT_EQUAL(sim_delete(&sim->hosts[0], 1), 0);
    }
    let_something_expire(sim, &sim->hosts[1], 1);
    if (how !=
        HINTS) { /* then nothing is known of the other: everything is walked, as of old, or compared if it has much */
        for (unsigned key = 100000; key < 100010; key++)
            put(&sim->hosts[how == WALK ? 0 : 1], key, "much");
        sim_kill(&sim->hosts[0]);
        sim_start(&sim->hosts[0], NULL, false);
        CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[0].node, sim->hosts[1].address), 0);
    }
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    sim_run(sim, 1000);
    CU_ASSERT(has(&sim->hosts[0], 1, deleted ? NULL : "new"));
    for (unsigned i = 1; i < 3; i++)
        CU_ASSERT(has(&sim->hosts[i], 1, deleted || how != HINTS ? NULL : "new"));
    sim_destroy(sim);
}

static void a_change_older_than_what_a_relay_evicted_takes_the_older_value_away(void) {
    a_relay_passes_on_what_is_older_than_what_it_forgot(false, HINTS);
}

static void a_delete_older_than_what_a_relay_forgot_passes(void) {
    a_relay_passes_on_what_is_older_than_what_it_forgot(true, HINTS);
}

static void what_a_relay_may_not_take_back_it_lets_others_forget(void) {
    a_relay_passes_on_what_is_older_than_what_it_forgot(false, WALK);
    a_relay_passes_on_what_is_older_than_what_it_forgot(false, COMPARISON);
}

static void a_delete_of_old_that_a_relay_does_not_need_passes(void) {
    a_relay_passes_on_what_is_older_than_what_it_forgot(true, WALK);
}

/* The new value is too large for the relay, whether it has the old one or not. */
static void what_a_relay_cannot_store_takes_the_older_value_behind_it_away(void) {
    static char large[60000];
    const uint64_t sizes[3] = {SEGMENT, SMALL, SEGMENT};
    for (unsigned round = 0; round < 2; round++) {
        struct sim *sim = relay_that_forgot("a relay too small", sizes);
        if (round == 1) {
            fixture_sleep_ms(TICK_MS);
            put(&sim->hosts[0], 1, "old again");
            CU_ASSERT(sim_settle(sim, 5000));
            sim_run(sim, 1000);
            CU_ASSERT(has(&sim->hosts[1], 1, "old again") && has(&sim->hosts[2], 1, "old again"));
        }
        fixture_sleep_ms(TICK_MS);
        struct lr_put change = {.key = "key 1", .key_len = 5, .value = large, .value_len = sizeof large};
        CU_ASSERT_EQUAL(lr_put(sim->hosts[0].cache, &change), 0);
        CU_ASSERT(sim_settle(sim, 20000));
        sim_run(sim, 1000);
        for (unsigned i = 1; i < 3; i++)
            CU_ASSERT(has(&sim->hosts[i], 1, NULL));
        CU_ASSERT_EQUAL(lr_get(sim->hosts[0].cache, "key 1", 5, NULL, 0, NULL, LR_PEEK), LARDER_ETOO_SMALL);
        sim_destroy(sim);
    }
}

/* ---- deletes ------------------------------------------------------------------------------------------------------
 */

/* All peers had the tombstone, and it was dropped. One that was no peer at the time comes back with the old value. */
static void a_dropped_tombstone_still_keeps_the_old_value_out(void) {
    struct sim *sim = sim_create("a dropped tombstone", 3, SEGMENT);
    put(&sim->hosts[0], 1, "old");
    CU_ASSERT(sim_settle(sim, 5000));
    sim_kill(&sim->hosts[2]);
    for (unsigned i = 0; i < 2; i++) {
        lr_node_remove_peer(sim->hosts[i].node, sim->hosts[2].address);
        sim->hosts[i].node->removed[0].removed_ms -= LR_REMOVED_MS; /* so long ago that nothing is kept for it */
    }
    CU_ASSERT_EQUAL(sim_delete(&sim->hosts[0], 1), 0);
    for (unsigned i = 0; i < 20 && has_tombstone(&sim->hosts[0], 1); i++) {
        sim_run(sim, 1000);
        fixture_sleep_ms(50); /* its age is told by the machine's clock */
    }
    CU_ASSERT(!has_tombstone(&sim->hosts[0], 1) && !has_tombstone(&sim->hosts[1], 1));
    CU_ASSERT(has(&sim->hosts[2], 1, "old"));
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[i].node, sim->hosts[2].address), 0);
    sim_start(&sim->hosts[2], NULL, true);
    CU_ASSERT(sim_settle(sim, 20000));
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT(has(&sim->hosts[i], 1, NULL));
    sim_destroy(sim);
}

/* Taken away, and given back with all that it held: what has been deleted meanwhile goes there too. */
static void what_was_deleted_while_a_peer_was_removed_goes(unsigned hosts) {
    struct sim *sim = sim_create("a peer that is removed and added", hosts, SEGMENT);
    const unsigned away = hosts - 1;
    put(&sim->hosts[0], 1, "old");
    put(&sim->hosts[0], 2, "stays");
    CU_ASSERT(sim_settle(sim, 5000));
    sim_run(sim, 1000);
    for (unsigned i = 0; i < away; i++) {
        lr_node_remove_peer(sim->hosts[i].node, sim->hosts[away].address);
        lr_node_remove_peer(sim->hosts[away].node, sim->hosts[i].address);
    }
    CU_ASSERT_EQUAL(sim_delete(&sim->hosts[0], 1), 0);
    for (unsigned i = 0; i < 20; i++) { /* far longer than tombstones live, by either clock */
        sim_run(sim, 1000);
        fixture_sleep_ms(50);
    }
    CU_ASSERT(has(&sim->hosts[away], 1, "old"));
    for (unsigned i = 0; i < away; i++) {
        CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[i].node, sim->hosts[away].address), 0);
        CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[away].node, sim->hosts[i].address), 0);
    }
    CU_ASSERT(sim_settle(sim, 20000));
    for (unsigned i = 0; i < hosts; i++)
        CU_ASSERT(has(&sim->hosts[i], 1, NULL) && has(&sim->hosts[i], 2, "stays"));
    for (unsigned i = 0; i < 20 && has_tombstone(&sim->hosts[0], 1); i++) {
        sim_run(sim, 1000);
        fixture_sleep_ms(50);
    }
    CU_ASSERT(!has_tombstone(&sim->hosts[0], 1)); /* all are in step: it is not kept any longer */
    sim_destroy(sim);
}

static void what_was_deleted_while_the_only_peer_was_removed_goes(void) {
    what_was_deleted_while_a_peer_was_removed_goes(2);
}

static void what_was_deleted_while_one_of_two_peers_was_removed_goes(void) {
    what_was_deleted_while_a_peer_was_removed_goes(3);
}

/* An empty host is filled by one that has heard of a delete and by one that has not. */
static void a_bootstrap_does_not_bring_back_what_was_deleted(void) {
    for (unsigned first = 0; first < 2; first++) {
        struct sim *sim = sim_create("a bootstrap from two", 3, SEGMENT);
        put(&sim->hosts[0], 1, "old");
        CU_ASSERT(sim_settle(sim, 5000));
        for (unsigned i = 0; i < 2; i++)
            sim_cut(sim, i, 2, true); /* host 2 keeps the old value */
        sim_kill(&sim->hosts[1]);
        CU_ASSERT_EQUAL(sim_delete(&sim->hosts[0], 1), 0);
        sim_wipe(&sim->hosts[1]);
        sim_start(&sim->hosts[1], NULL, true);
        sim_cut(sim, 0, 1, first == 1);
        sim_cut(sim, 2, 1, first == 0);
        sim_run(sim, 5000);
        CU_ASSERT(has(&sim->hosts[1], 1, first == 0 ? NULL : "old"));
        memset(sim->cut, 0, sizeof sim->cut);
        CU_ASSERT(sim_settle(sim, 20000));
        for (unsigned i = 0; i < 3; i++)
            CU_ASSERT(has(&sim->hosts[i], 1, NULL));
        sim_destroy(sim);
    }
}

/* The put was applied, its acknowledgement lost; it is sent again when the key has been deleted over there. */
static void a_put_that_is_sent_again_does_not_undo_a_delete(void) {
    struct sim *sim = sim_create("sent again", 2, SEGMENT);
    CU_ASSERT(sim_settle(sim, 5000));
    put(&sim->hosts[0], 1, "sent twice");
    sim_cut_way(sim, 1, 0, true); /* no acknowledgement comes */
    sim_run(sim, 500);
    CU_ASSERT(has(&sim->hosts[1], 1, "sent twice"));
    CU_ASSERT(lr_node_left(sim->hosts[0].node, false) > 0);
    CU_ASSERT_EQUAL(sim_delete(&sim->hosts[1], 1), 0);
    sim_reset(sim, 0, 1);
    sim_cut_way(sim, 1, 0, false);
    CU_ASSERT(sim_settle(sim, 20000));
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT(has(&sim->hosts[i], 1, NULL));
    sim_destroy(sim);
}

/* What a relay has is older than what the end of the row has already evicted. */
static void an_old_entry_that_is_passed_on_replaces_nothing_newer(void) {
    uint64_t sizes[3] = {SMALL, SEGMENT, SEGMENT};
    struct sim *sim = row("an old entry passed on", sizes);
    CU_ASSERT(sim_settle(sim, 5000));
    sim_cut(sim, 1, 2, true);
    sim_run(sim, 5000);
    put(&sim->hosts[2], 1, "old");
    fixture_sleep_ms(TICK_MS);
    put(&sim->hosts[0], 1, "new");
    sim_run(sim, 500);
    CU_ASSERT(has(&sim->hosts[1], 1, "new"));
    push_out(&sim->hosts[0], 1, 0);
    sim_cut(sim, 1, 2, false);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(has(&sim->hosts[1], 1, "new") && has(&sim->hosts[2], 1, "new"));
    char text[64];
    CU_ASSERT(sim_get(&sim->hosts[0], 1, text) == 0 || strcmp(text, "new") == 0);
    sim_destroy(sim);
}

/* ---- deadlines and flushes ----------------------------------------------------------------------------------------
 */

/* It expired while the peer was away, and nobody had swept it when its hint was read. */
static void what_expired_unshipped_takes_the_peers_older_value_away(void) {
    struct sim *sim = sim_create("expired unshipped", 2, SEGMENT);
    put(&sim->hosts[0], 1, "old");
    CU_ASSERT(sim_settle(sim, 5000));
    sim_cut(sim, 0, 1, true);
    sim_run(sim, 5000);
    sim_cut(sim, 0, 1, false);
    while (lr_node_live(sim->hosts[0].node) == 0)
        sim_run(sim, SIM_STEP_MS);
    /* Expired at the next step, before any sweep: SIM_STEP_MS. */
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], 1, "brief", 1), 0);
    CU_ASSERT(sim_settle(sim, 20000));
    sim_run(sim, 1000);
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT(has(&sim->hosts[i], 1, NULL));
    sim_destroy(sim);
}

/* As above, but it expires as the two meet: whoever walks or compares finds it neither alive nor swept. */
static void what_expired_as_hosts_met_takes_the_peers_older_value_away(bool walks) {
    for (unsigned round = 0; round < 20; round++) { /* between two sweeps, and as an epoch ends: at various times */
        struct sim *sim = sim_create("expired as hosts met", 2, SEGMENT);
        sim->jitter_ms = 0;
        sim_cut(sim, 0, 1, true);
        sim_run(sim, 15 * round);
        sim_cut(sim, 0, 1, false);
        put(&sim->hosts[1], 1, "old");
        for (unsigned key = 2; key < 10 && walks; key++) /* a peer that has next to nothing is not compared with */
            put(&sim->hosts[0], key, "much");
        fixture_sleep_ms(TICK_MS);
        while (sim->open_links == 0 || sim->hosts[0].node->peers[0]->known)
            sim_run(sim, SIM_STEP_MS);
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], 1, "brief", 1), 0);
        CU_ASSERT(sim_settle(sim, 20000));
        sim_run(sim, 1000);
        for (unsigned i = 0; i < 2; i++)
            CU_ASSERT(has(&sim->hosts[i], 1, NULL));
        sim_destroy(sim);
    }
}

static void what_expired_before_a_walk_takes_the_peers_older_value_away(void) {
    what_expired_as_hosts_met_takes_the_peers_older_value_away(true);
}

static void what_expired_before_a_comparison_takes_the_peers_older_value_away(void) {
    what_expired_as_hosts_met_takes_the_peers_older_value_away(false);
}

/*
 * Who has next to nothing is sent everything, and itself says that it wants to be compared with. What it holds by then
 * is what it has just been sent: so it is asked when all of that is there, and has nothing to list.
 */
static void who_is_sent_everything_is_asked_when_that_is_there(void) {
    uint64_t sizes[2] = {8 * SEGMENT, 8 * SEGMENT};
    struct sim *sim = sim_create_idle("asked afterwards", 2, sizes);
    sim_start(&sim->hosts[0], NULL, true);
    for (unsigned number = 0; number < 3000; number++)
        sim_put_ballast(&sim->hosts[0], number);
    sim->bytes_per_step = 20000;
    sim_start(&sim->hosts[1], NULL, true);
    put(&sim->hosts[1], 1, "its own");
    const struct lr_peer *peer = sim->hosts[0].node->peers[0];
    unsigned steps = 0;
    for (; !peer->out.sync_reached && peer->comparisons == 0 && steps < 2000; steps++)
        sim_run(sim, SIM_STEP_MS);
    CU_ASSERT(steps > 50 && steps < 2000 && peer->out.sync_reached);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(peer->comparisons == 1 && peer->pulled == 1);
    CU_ASSERT(has(&sim->hosts[0], 1, "its own"));
    sim_destroy(sim);
}

/* Two that both lack what the other has, and know nothing of each other, wait for each other's question: both ask. */
static void who_joins_does_not_wait_for_who_joins(void) {
    uint64_t sizes[2] = {SEGMENT, SEGMENT};
    struct sim *sim = sim_create_idle("both join", 2, sizes);
    for (unsigned i = 0; i < 2; i++) {
        sim_start(&sim->hosts[i], NULL, true);
        for (unsigned key = 0; key < 50; key++)
            put(&sim->hosts[i], 100 * i + key, "one of many");
    }
    CU_ASSERT(sim_settle(sim, 20000));
    for (unsigned i = 0; i < 2; i++) {
        CU_ASSERT(has(&sim->hosts[i], 1, "one of many") && has(&sim->hosts[i], 101, "one of many"));
        CU_ASSERT_EQUAL(sim->hosts[i].node->peers[0]->pulled, 50);
    }
    sim_destroy(sim);
}

/* Between our HELLO, which tells how far we were flushed, and the other side's. */
static void a_flush_during_the_greeting_is_told(void) {
    uint64_t sizes[2] = {SEGMENT, SEGMENT};
    struct sim *sim = sim_create_idle("a flush during the greeting", 2, sizes);
    sim->delay_ms = 100;
    sim->jitter_ms = 0;
    for (unsigned i = 0; i < 2; i++)
        sim_start(&sim->hosts[i], NULL, true);
    put(&sim->hosts[1], 1, "old");
    fixture_sleep_ms(TICK_MS);
    sim_run(sim, 155); /* connected, and nothing is heard yet */
    CU_ASSERT(sim->open_links > 0 && !sim->hosts[0].node->peers[0]->known);
    CU_ASSERT_EQUAL(lr_flush(sim->hosts[0].cache), 0);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT_EQUAL(lr_flush_version(sim->hosts[1].cache), lr_flush_version(sim->hosts[0].cache));
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT(has(&sim->hosts[i], 1, NULL));
    sim_destroy(sim);
}

/* A flush reaches everybody by itself: what it took here need not be told one by one. */
static void a_flush_while_a_peer_is_away_costs_no_tombstones(void) {
    struct sim *sim = sim_create("a flush and its traces", 2, SEGMENT);
    CU_ASSERT(sim_settle(sim, 5000));
    sim_cut(sim, 0, 1, true);
    sim_run(sim, 5000);
    for (unsigned key = 0; key < 500; key++)
        put(&sim->hosts[0], key, "flushed");
    CU_ASSERT_EQUAL(lr_flush(sim->hosts[0].cache), 0);
    sim_run(sim, 5000);
    struct lr_stat stat;
    lr_stat(sim->hosts[0].cache, &stat);
    CU_ASSERT_EQUAL(stat.items, 0);
    CU_ASSERT_EQUAL(stat.tombstones, 0);
    CU_ASSERT_EQUAL(stat.stripe_counters[LR_S_voids_raised], 0);
    uint64_t sent = sim_entries_sent(sim);
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT_EQUAL(sim_entries_sent(sim), sent);
    sim_destroy(sim);
}

/* ---- equal versions -----------------------------------------------------------------------------------------------
 */

#define TIE (UINT64_C(200000000000) << 22 | 7)

/* Both sides have one version of two values, and one hears the other's before it has sent its own. */
static void equal_versions_agree_whoever_speaks_first(void) {
    static const char *const texts[2] = {"left", "right"};
    for (unsigned round = 0; round < 4; round++) {
        struct sim *sim = sim_create("equal versions", 2, SEGMENT);
        CU_ASSERT(sim_settle(sim, 5000));
        unsigned first = round % 2;
        CU_ASSERT_EQUAL(apply(&sim->hosts[first], 1, texts[round / 2], TIE, 0), LR_APPLIED);
        sim_acting = NULL;
        for (unsigned i = 0; i < 2; i++) /* the other's hint waits behind this one's frame */
            CU_ASSERT(i == first || apply(&sim->hosts[i], 1, texts[1 - round / 2], TIE, 0) == LR_APPLIED);
        lr_outflow_know(
            sim->hosts[1 - first].node->peers[0],
            &(struct lr_known){.hash = lr_cluster_hash("key 1", 5),
                               .version = TIE,
                               .deadline_ms = UINT64_MAX,
                               .content = lr_outflow_content(texts[round / 2], strlen(texts[round / 2]), 0)});
        CU_ASSERT(sim_settle(sim, 20000));
        CU_ASSERT(sim_digests_equal(sim));
        sim_destroy(sim);
    }
}

/* A deadline that is as good as ours does not make another value ours. */
static void equal_versions_agree_though_both_have_a_deadline(void) {
    for (unsigned round = 0; round < 2; round++) {
        struct sim *sim = sim_create("equal versions that end", 2, SEGMENT);
        sim_cut(sim, 0, 1, true);
        for (unsigned i = 0; i < 2; i++)
            lr_set_origin(sim->hosts[i].cache, 7);
        for (unsigned i = 0; i < 2; i++) {
            const char *text = (i ^ round) == 0 ? "left" : "right";
            struct lr_change change = {.key = "key 1",
                                       .key_len = 5,
                                       .value = text,
                                       .value_len = (uint32_t)strlen(text),
                                       .version = TIE,
                                       .deadline_ms = sim->now_ms + 100000};
            CU_ASSERT_EQUAL(lr_apply_put(sim->hosts[i].cache, &change, 0), LR_APPLIED);
        }
        sim_cut(sim, 0, 1, false);
        CU_ASSERT(sim_settle(sim, 20000));
        CU_ASSERT(sim_digests_equal(sim));
        sim_destroy(sim);
    }
}

/* ---- larder-network -----------------------------------------------------------------------------------------------
 */

/* The digest line of a run; it covers every byte on the wire and every version drawn. */
static void digest_of(const char *options, char out[64]) {
    char command[4200], said[8192];
    snprintf(command, sizeof command, "'%s' --count %u %s 2>&1", fixture_program("larder-network"),
             FIXTURE_SANITIZED ? 16u : 60u, options);
    CU_ASSERT_EQUAL(fixture_run(command, said, sizeof said), 0);
    const char *line = strstr(said, "digest ");
    snprintf(out, 64, "%.25s", line != NULL ? line : "none");
}

static void schedules_repeat_by_their_seed(void) {
    char first[64], alone[64], other[64];
    digest_of("--seed 0x51 --jobs 2", first);
    digest_of("--seed 0x51 --jobs 1", alone);
    digest_of("--seed 0x52 --jobs 2", other);
    CU_ASSERT_NOT_EQUAL(strcmp(first, "none"), 0);
    CU_ASSERT_STRING_EQUAL(first, alone);
    CU_ASSERT_NOT_EQUAL(strcmp(first, other), 0);
}

/* What a relay lays for those behind it, of a key that it has forgotten, says nothing of what it had itself. */
static void what_a_relay_lays_below_its_floor_opens_no_door(void) {
    static const unsigned told[2] = {LR_NO_EVICT, 0};
    for (unsigned k = 0; k < 2; k++) {
        const uint64_t size = SEGMENT;
        struct sim *sim = sim_create_idle("a relay's tombstones", 1, &size);
        struct sim_host *relay = &sim->hosts[0];
        sim_acting = relay;
        lr_set_doubt(relay->cache, 0, true);
        lr_set_replicating(relay->cache, true);
        put(relay, 1, "newest");
        const uint64_t version = version_of(relay, 1);
        uint32_t epoch;
        uint64_t head;
        CU_ASSERT_EQUAL(lr_stripe_count(relay->cache), 1);
        CU_ASSERT_EQUAL(lr_epoch_begin(relay->cache, 0, &epoch, &head), 0); /* it has been passed on */
        lr_epoch_acked(relay->cache, 0, epoch);
        if (told[k] & LR_NO_EVICT)
            sim_displace(relay, hash_of(1));
        else /* both floors are as high */
            CU_ASSERT_EQUAL(lr_drop_void(relay->cache, hash_of(1), version), 0);
        for (uint64_t older = 4; older > 0; older--) /* one less old than the other */
            CU_ASSERT_NOT_EQUAL(apply(relay, 1, "old", version - (older << 22), told[k]), LR_APPLIED);
        CU_ASSERT(has(relay, 1, NULL));
        CU_ASSERT_EQUAL(apply(relay, 1, "newer", version + (1 << 22), told[k]), LR_APPLIED);
        sim_destroy(sim);
    }
}

/* Nor does what has expired and was not swept yet keep it from laying one, for a row of a comparison that it declines.
 */
static void what_expired_hides_nothing_that_a_relay_leaves_out(void) {
    const uint64_t size = SEGMENT;
    struct sim *sim = sim_create_idle("a relay's expired item", 1, &size);
    struct sim_host *relay = &sim->hosts[0];
    struct lr_entry entry;
    static uint8_t bytes[SEGMENT];
    sim_acting = relay;
    lr_set_doubt(relay->cache, 0, true);
    lr_set_replicating(relay->cache, true);
    lr_drive_clock(relay->cache, 1000000);
    CU_ASSERT_EQUAL(sim_put(relay, 1, "brief", 1000), 0);
    const uint64_t newer = version_of(relay, 1) + (1 << 22);
    CU_ASSERT_EQUAL(lr_raise_floor(relay->cache, lr_range_of(hash_of(1)), newer), 0);
    lr_drive_clock(relay->cache, 1002000);
    CU_ASSERT(has(relay, 1, NULL));
    CU_ASSERT(!lr_lacks(relay->cache, hash_of(1), newer, true, bytes, sizeof bytes));
    CU_ASSERT_EQUAL(lr_entry_by_hash(relay->cache, hash_of(1), bytes, sizeof bytes, &entry), 0);
    CU_ASSERT(entry.tombstone && entry.version == newer - 1);
    sim_destroy(sim);
}

void larder_suite_86_sequences(void);
void larder_suite_86_sequences(void) {
    CU_pSuite suite = CU_add_suite("86_sequences", NULL, NULL);
    CU_ADD_TEST(suite, what_was_evicted_is_not_replaced_by_something_older);
    CU_ADD_TEST(suite, an_older_delete_does_not_bring_back_what_was_evicted);
    CU_ADD_TEST(suite, an_eviction_before_shipping_takes_the_peers_older_value_away);
    CU_ADD_TEST(suite, an_eviction_that_one_peer_missed_spares_the_other_that_has_the_value);
    CU_ADD_TEST(suite, a_void_heard_from_one_is_not_told_to_another);
    CU_ADD_TEST(suite, a_void_below_one_that_was_heard_is_told);
    CU_ADD_TEST(suite, a_relay_that_owes_the_teller_changes_leads_its_void_back);
    CU_ADD_TEST(suite, a_void_below_that_of_another_stripe_is_told);
    CU_ADD_TEST(suite, a_value_that_goes_by_a_peers_void_takes_a_third_ones_older_value_away);
    CU_ADD_TEST(suite, a_delete_that_goes_by_a_peers_void_takes_a_third_ones_older_value_away);
    CU_ADD_TEST(suite, what_expired_meanwhile_keeps_no_new_key_out);
    CU_ADD_TEST(suite, a_change_older_than_what_a_relay_evicted_takes_the_older_value_away);
    CU_ADD_TEST(suite, a_delete_older_than_what_a_relay_forgot_passes);
    CU_ADD_TEST(suite, what_a_relay_may_not_take_back_it_lets_others_forget);
    CU_ADD_TEST(suite, a_delete_of_old_that_a_relay_does_not_need_passes);
    CU_ADD_TEST(suite, what_a_relay_cannot_store_takes_the_older_value_behind_it_away);
    CU_ADD_TEST(suite, a_dropped_tombstone_still_keeps_the_old_value_out);
    CU_ADD_TEST(suite, what_was_deleted_while_the_only_peer_was_removed_goes);
    CU_ADD_TEST(suite, what_was_deleted_while_one_of_two_peers_was_removed_goes);
    CU_ADD_TEST(suite, a_bootstrap_does_not_bring_back_what_was_deleted);
    CU_ADD_TEST(suite, a_put_that_is_sent_again_does_not_undo_a_delete);
    CU_ADD_TEST(suite, an_old_entry_that_is_passed_on_replaces_nothing_newer);
    CU_ADD_TEST(suite, what_expired_unshipped_takes_the_peers_older_value_away);
    CU_ADD_TEST(suite, what_expired_before_a_walk_takes_the_peers_older_value_away);
    CU_ADD_TEST(suite, what_expired_before_a_comparison_takes_the_peers_older_value_away);
    CU_ADD_TEST(suite, who_is_sent_everything_is_asked_when_that_is_there);
    CU_ADD_TEST(suite, who_joins_does_not_wait_for_who_joins);
    CU_ADD_TEST(suite, a_flush_during_the_greeting_is_told);
    CU_ADD_TEST(suite, a_flush_while_a_peer_is_away_costs_no_tombstones);
    CU_ADD_TEST(suite, equal_versions_agree_whoever_speaks_first);
    CU_ADD_TEST(suite, equal_versions_agree_though_both_have_a_deadline);
    CU_ADD_TEST(suite, what_a_relay_lays_below_its_floor_opens_no_door);
    CU_ADD_TEST(suite, what_expired_hides_nothing_that_a_relay_leaves_out);
    CU_ADD_TEST(suite, schedules_repeat_by_their_seed);
}
