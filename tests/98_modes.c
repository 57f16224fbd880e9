/* SPDX-License-Identifier: MIT */
/*
 * Modes of keys by their prefix: what travels, what is dropped, what stays where it is; and fills, which nobody is told
 * of. The sequences run on the simulated network, the rest with larderd itself. larder-network looks for more.
 */
#include "config.h"
#include "daemons.h"
#include "simnet.h"

#include "stripe.h"

#include <signal.h>
#include <string.h>

#define SEGMENT (UINT64_C(1) << 20)
#define SMALL (UINT64_C(64) << 10)
#define TICK_MS 10u /* versions are drawn from the machine's clock, in steps of some ms */

static const struct lr_mode_row modes[] = {{.prefix = "i/", .len = 2, .mode = LR_MODE_invalidate},
                                           {.prefix = "l/", .len = 2, .mode = LR_MODE_local},
                                           {.prefix = "l/shared/", .len = 9, .mode = LR_MODE_values}};

static struct sim *start(const char *what, unsigned hosts, uint64_t size) {
    uint64_t sizes[SIM_HOSTS] = {size, size, size, size};
    struct sim *sim = sim_create_idle(what, hosts, sizes);
    for (unsigned i = 0; i < hosts; i++)
        CU_ASSERT_EQUAL(lr_modes_set(sim->hosts[i].cache, modes, 3), 0);
    for (unsigned i = 0; i < hosts; i++)
        sim_start(&sim->hosts[i], NULL, true);
    CU_ASSERT(sim_settle(sim, 5000));
    return sim;
}

static int store(struct sim_host *host, const char *key, const char *value, enum lr_put_mode mode,
                 const struct lr_mark *mark) {
    struct lr_put put = {
        .key = key, .key_len = strlen(key), .value = value, .value_len = strlen(value), .mode = mode, .mark = mark};
    return lr_put(host->cache, &put);
}

static void put(struct sim_host *host, const char *key, const char *value) {
    CU_ASSERT_EQUAL(store(host, key, value, LR_SET, NULL), 0);
}

static struct lr_mark mark(struct sim_host *host, const char *key) {
    struct lr_mark taken = {0};
    CU_ASSERT_EQUAL(lr_mark(host->cache, key, strlen(key), &taken), 0);
    return taken;
}

static void fill(struct sim_host *host, const char *key, const char *value) {
    const struct lr_mark taken = mark(host, key);
    CU_ASSERT_EQUAL(store(host, key, value, LR_FILL_IN, &taken), 0);
}

static bool has(struct sim_host *host, const char *key, const char *value) {
    char found[64];
    struct lr_item item;
    if (lr_get(host->cache, key, strlen(key), found, sizeof found, &item, LR_PEEK) != 0)
        return value == NULL;
    return value != NULL && item.value_len == strlen(value) && memcmp(found, value, item.value_len) == 0;
}

static uint64_t counted(struct sim_host *host, enum lr_counter counter) {
    struct lr_stat stat;
    lr_stat(host->cache, &stat);
    return stat.counters[counter];
}

/* ---- invalidate -------------------------------------------------------------------------------------------------- */

static void a_change_drops_what_others_hold_and_does_not_travel(void) {
    struct sim *sim = start("invalidate", 3, SEGMENT);
    fill(&sim->hosts[0], "i/k", "one");
    fill(&sim->hosts[1], "i/k", "one");
    put(&sim->hosts[2], "v", "travels");
    CU_ASSERT(sim_settle(sim, 5000));
    CU_ASSERT(has(&sim->hosts[0], "i/k", "one") && has(&sim->hosts[1], "i/k", "one") &&
              has(&sim->hosts[0], "v", "travels"));
    fixture_sleep_ms(TICK_MS);
    put(&sim->hosts[0], "i/k", "two");
    CU_ASSERT(sim_settle(sim, 5000));
    CU_ASSERT(has(&sim->hosts[0], "i/k", "two") && has(&sim->hosts[1], "i/k", NULL) &&
              has(&sim->hosts[2], "i/k", NULL));
    CU_ASSERT_EQUAL(counted(&sim->hosts[1], LR_C_invalidated), 1);
    fill(&sim->hosts[1], "i/k", "two");
    fixture_sleep_ms(TICK_MS);
    CU_ASSERT_EQUAL(lr_delete(sim->hosts[1].cache, "i/k", 3), 0);
    CU_ASSERT(sim_settle(sim, 5000));
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT(has(&sim->hosts[i], "i/k", NULL));
    sim_destroy(sim);
}

/* Right behind each change, while its tombstone is news to nobody but not yet acknowledged by all, every host fills. */
static void fills_are_told_to_nobody_and_invalidate_nobody(void) {
    struct sim *sim = start("fills", 3, SEGMENT);
    for (unsigned round = 0; round < 30; round++) {
        char value[16];
        snprintf(value, sizeof value, "%u", round);
        fixture_sleep_ms(TICK_MS);
        CU_ASSERT(lr_delete(sim->hosts[0].cache, "i/k", 3) != LARDER_EBUSY);
        sim_run(sim, 100);
        for (unsigned i = 0; i < 3; i++)
            fill(&sim->hosts[i], "i/k", value);
        sim_run(sim, 20 + round * 20);
        for (unsigned i = 0; i < 3; i++)
            CU_ASSERT(has(&sim->hosts[i], "i/k", value));
    }
    const uint64_t sent = sim_entries_sent(sim);
    CU_ASSERT(sent <= 30 * 4); /* to two others, and perhaps on from one to the other */
    for (unsigned i = 0; i < 3; i++)
        for (unsigned n = 0; n < 50; n++)
            fill(&sim->hosts[i], "i/k", "again");
    sim_run(sim, 3 * LR_COMPARE_EVERY_MS);
    CU_ASSERT_EQUAL(sim_entries_sent(sim), sent);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT(has(&sim->hosts[i], "i/k", "again"));
    sim_destroy(sim);
}

static void a_fill_is_refused_if_its_key_was_changed_since_the_mark(void) {
    struct sim *sim = start("marks", 2, SEGMENT);
    struct sim_host *zero = &sim->hosts[0], *one = &sim->hosts[1];
    static const char *const keys[] = {"i/k", "l/k", "v"};
    for (unsigned i = 0; i < 3; i++) {
        const char *key = keys[i];
        struct lr_mark early = mark(zero, key);
        CU_ASSERT_EQUAL(store(zero, "other", "x", LR_FILL_IN, &early), LARDER_EINVALID);
        put(zero, key, "put");
        CU_ASSERT_EQUAL(store(zero, key, "old", LR_FILL_IN, &early), LARDER_ECONFLICT);
        early = mark(zero, key);
        CU_ASSERT_EQUAL(lr_delete(zero->cache, key, strlen(key)), 0);
        CU_ASSERT_EQUAL(store(zero, key, "old", LR_FILL_IN, &early), LARDER_ECONFLICT);
        early = mark(zero, key);
        CU_ASSERT_EQUAL(lr_delete(zero->cache, key, strlen(key)), LARDER_ENOT_FOUND); /* of what is not there */
        CU_ASSERT_EQUAL(store(zero, key, "old", LR_FILL_IN, &early), LARDER_ECONFLICT);
        early = mark(zero, key);
        fixture_sleep_ms(TICK_MS);
        CU_ASSERT_EQUAL(lr_flush(zero->cache), 0);
        CU_ASSERT_EQUAL(store(zero, key, "old", LR_FILL_IN, &early), LARDER_ECONFLICT);
        fixture_sleep_ms(TICK_MS);
        early = mark(zero, key);
        CU_ASSERT_EQUAL(store(zero, key, "new", LR_FILL_IN, &early), 0);
        CU_ASSERT_EQUAL(store(zero, key, "twice", LR_FILL_IN, &early), LARDER_ECONFLICT);
        CU_ASSERT(has(zero, key, "new"));
    }
    CU_ASSERT(sim_settle(sim, 5000));
    const struct lr_mark early = mark(zero, "i/k");
    fixture_sleep_ms(TICK_MS);
    put(one, "i/k", "elsewhere");
    CU_ASSERT(sim_settle(sim, 5000));
    CU_ASSERT_EQUAL(store(zero, "i/k", "old", LR_FILL_IN, &early), LARDER_ECONFLICT);
    CU_ASSERT_EQUAL(counted(zero, LR_C_fill_refusals), 16);
    sim_destroy(sim);
}

/* The source is read, then changed elsewhere, and the fill is there before the invalidation. */
static void an_invalidation_on_its_way_takes_the_fill_that_was_faster(void) {
    struct sim *sim = start("on its way", 2, SEGMENT);
    lr_set_doubt(sim->hosts[1].cache, 0, false); /* not because it cannot be sure: a fill is as new as its mark */
    const struct lr_mark early = mark(&sim->hosts[1], "i/k");
    sim_cut(sim, 0, 1, true);
    fixture_sleep_ms(TICK_MS);
    put(&sim->hosts[0], "i/k", "new");
    fixture_sleep_ms(TICK_MS);
    CU_ASSERT_EQUAL(store(&sim->hosts[1], "i/k", "old", LR_FILL_IN, &early), 0);
    CU_ASSERT_EQUAL(lr_touch(sim->hosts[1].cache, "i/k", 3, 100000), 0); /* makes it no newer */
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(has(&sim->hosts[1], "i/k", NULL) && has(&sim->hosts[0], "i/k", "new"));
    sim_destroy(sim);
}

/* Host 2 hears of one change, fills, and then the other change is made; where both meet, the second is still told. */
static void of_two_changes_neither_stands_for_the_other(void) {
    struct sim *sim = start("two changes", 3, SEGMENT);
    for (unsigned other = 1; other < 3; other++)
        sim_cut(sim, 0, other, true);
    put(&sim->hosts[1], "i/k", "first");
    sim_run(sim, 500);
    fill(&sim->hosts[2], "i/k", "first");
    fixture_sleep_ms(TICK_MS);
    put(&sim->hosts[0], "i/k", "second");
    sim_cut(sim, 0, 1, false);
    sim_run(sim, 10000);
    CU_ASSERT(has(&sim->hosts[0], "i/k", NULL) && has(&sim->hosts[1], "i/k", NULL) &&
              has(&sim->hosts[2], "i/k", "first"));
    sim_cut(sim, 0, 2, false);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(has(&sim->hosts[2], "i/k", NULL));
    sim_destroy(sim);
}

/* Two read the source, the one that read later fills first, and that is over before the other comes. */
static void a_fill_is_refused_though_the_later_one_has_come_and_gone(void) {
    struct sim *sim = start("came and went", 1, SEGMENT);
    struct sim_host *zero = &sim->hosts[0];
    for (unsigned gone = 0; gone < 2; gone++) {
        const char *key = gone == 0 ? "i/k" : "l/k";
        const struct lr_mark early = mark(zero, key);
        fill(zero, key, "new");
        CU_ASSERT_EQUAL(lr_touch(zero->cache, key, 3, 50), 0);
        sim_run(sim, 2000);
        CU_ASSERT(has(zero, key, NULL));
        CU_ASSERT_EQUAL(store(zero, key, "old", LR_FILL_IN, &early), LARDER_ECONFLICT);
    }
    sim_destroy(sim);
}

/* A host was away while a key changed and was filled again; the change itself is forgotten by then. */
static void who_was_away_hears_of_a_change_that_a_fill_has_covered(void) {
    struct sim *sim = start("covered", 2, SEGMENT);
    fill(&sim->hosts[1], "i/k", "old");
    sim_cut(sim, 0, 1, true);
    sim_run(sim, 5000);
    fixture_sleep_ms(TICK_MS);
    put(&sim->hosts[0], "i/k", "new");
    CU_ASSERT_EQUAL(lr_delete(sim->hosts[0].cache, "i/k", 3), 0);
    fill(&sim->hosts[0], "i/k", "new");
    sim_kill(&sim->hosts[0]); /* with it goes what it knew of the peer, and its place in the feed */
    sim_start(&sim->hosts[0], NULL, true);
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(has(&sim->hosts[1], "i/k", NULL));
    sim_destroy(sim);
}

/* The feed has run over, the stripe is walked, and hints of what is newer go beside the walk: but a fill has none. */
static void who_was_away_hears_of_what_is_covered_while_it_is_told(void) {
    struct sim *sim = start("covered meanwhile", 2, 4 * SEGMENT);
    const struct lr_outflow *out = &sim->hosts[0].node->peers[0]->out;
    static const char *const keys[8] = {"i/a", "i/b", "i/c", "i/d", "i/e", "i/f", "i/g", "i/h"};
    static char large[4000];
    memset(large, 'x', sizeof large - 1);
    CU_ASSERT_EQUAL(lr_stripe_count(sim->hosts[0].cache), 1);
    for (unsigned i = 0; i < 8; i++)
        fill(&sim->hosts[1], keys[i], "old");
    sim_cut(sim, 0, 1, true);
    sim_run(sim, 5000);
    fixture_sleep_ms(TICK_MS);
    for (unsigned i = 0; i < 8; i++)
        CU_ASSERT_EQUAL(lr_delete(sim->hosts[0].cache, keys[i], 3), LARDER_ENOT_FOUND);
    for (unsigned i = 0; i < 20000; i++) { /* more than the ring has room for, and at last more than a window has */
        char key[16];
        snprintf(key, sizeof key, "v%u", i % 500);
        put(&sim->hosts[0], key, i < 19500 ? "travels" : large);
    }
    sim->bytes_per_step = 2000;
    sim_cut(sim, 0, 1, false);
    for (unsigned i = 0; i < 5000 && !out->cursors[0].apart; i++)
        sim_run(sim, SIM_STEP_MS);
    CU_ASSERT(out->cursors[0].apart);
    for (unsigned i = 0; i < 8; i++)
        fill(&sim->hosts[0], keys[i], "new");
    CU_ASSERT(sim_settle(sim, 60000));
    for (unsigned i = 0; i < 8; i++)
        CU_ASSERT(has(&sim->hosts[1], keys[i], NULL));
    sim_destroy(sim);
}

/* ---- local ------------------------------------------------------------------------------------------------------- */

static void local_keys_neither_leave_nor_enter(void) {
    struct sim *sim = start("local", 2, SEGMENT);
    struct sim_host *zero = &sim->hosts[0], *one = &sim->hosts[1];
    const uint64_t sent = sim_entries_sent(sim);
    put(zero, "l/k", "of zero");
    put(one, "l/k", "of one");
    put(zero, "l/gone", "soon");
    CU_ASSERT_EQUAL(lr_delete(zero->cache, "l/gone", 6), 0);
    CU_ASSERT_EQUAL(lr_delete(zero->cache, "l/never", 7), LARDER_ENOT_FOUND);
    sim_run(sim, 2 * LR_COMPARE_EVERY_MS);
    CU_ASSERT_EQUAL(sim_entries_sent(sim), sent);
    CU_ASSERT(has(zero, "l/k", "of zero") && has(one, "l/k", "of one"));
    CU_ASSERT_EQUAL(lr_delete(zero->cache, "l/k", 3), 0);
    put(zero, "l/shared/k", "of all");
    CU_ASSERT(sim_settle(sim, 5000));
    CU_ASSERT(has(one, "l/k", "of one") && has(one, "l/shared/k", "of all"));
    CU_ASSERT(sim_digests_equal(sim));
    struct lr_stat stat;
    lr_stat(zero->cache, &stat);
    CU_ASSERT_EQUAL(stat.tombstones, 0);
    /* What a peer sends all the same, since its modes are others. */
    struct lr_change change = {
        .key = "l/k", .key_len = 3, .value = "foreign", .value_len = 7, .deadline_ms = UINT64_MAX};
    change.version = lr_highest_version(one->cache) + 5000;
    CU_ASSERT_EQUAL(lr_apply_put(one->cache, &change, 0), LR_DECLINED);
    CU_ASSERT_EQUAL(lr_apply_tombstone(one->cache, lr_cluster_hash("l/k", 3), change.version, 0), LR_DECLINED);
    CU_ASSERT(has(one, "l/k", "of one"));
    CU_ASSERT_EQUAL(counted(one, LR_C_applied_local), 2);
    change.key = "i/k";
    fill(one, "i/k", "fill");
    change.version = lr_highest_version(one->cache) + 5000;
    CU_ASSERT_EQUAL(lr_apply_put(one->cache, &change, 0), LR_APPLIED);
    CU_ASSERT(has(one, "i/k", NULL));
    sim_destroy(sim);
}

/* A full segment of local keys and fills, and a peer that is away: nothing that other hosts need was forgotten. */
static void evictions_of_what_is_not_shared_are_of_no_interest(void) {
    static const char ballast[500];
    struct sim *sim = start("local evictions", 2, SMALL);
    sim_cut(sim, 0, 1, true);
    for (unsigned n = 0; n < 2000; n++) {
        char key[24];
        struct lr_put put = {.key = key,
                             .key_len = (size_t)snprintf(key, sizeof key, "%s%u", n % 2 == 0 ? "l/" : "i/", n),
                             .value = ballast,
                             .value_len = sizeof ballast,
                             .mode = n % 2 == 0 ? LR_SET : LR_FILL_IN};
        CU_ASSERT_EQUAL(lr_put(sim->hosts[0].cache, &put), 0);
    }
    CU_ASSERT(sim_evictions(sim) > 1000);
    for (unsigned i = 0; i < WIRE_RANGES; i++) {
        struct lr_range range;
        lr_range_get(sim->hosts[0].cache, i, &range);
        CU_ASSERT(range.floor == 0 && range.void_version == 0 && range.sum == 0);
    }
    struct lr_stat stat;
    lr_stat(sim->hosts[0].cache, &stat);
    CU_ASSERT(stat.tombstones == 0 && stat.stripe_counters[LR_S_unshipped_evictions] == 0);
    sim_cut(sim, 0, 1, false);
    CU_ASSERT(sim_settle(sim, 20000));
    sim_destroy(sim);
}

static void entries_of_another_mode_go_when_modes_change(void) {
    struct sim *sim = start("refit", 2, SEGMENT);
    struct sim_host *zero = &sim->hosts[0];
    put(zero, "i/k", "told");
    put(zero, "l/k", "local");
    put(zero, "v", "shared");
    put(zero, "t", "shared");
    CU_ASSERT(sim_settle(sim, 5000));
    const struct lr_mode_row others[] = {{.prefix = "v", .len = 1, .mode = LR_MODE_local},
                                         {.prefix = "l/", .len = 2, .mode = LR_MODE_local}};
    CU_ASSERT_EQUAL(lr_modes_set(zero->cache, others, 2), 0);
    CU_ASSERT(lr_modes_unfit(zero->cache));
    lr_node_modes_changed(zero->node);
    CU_ASSERT(sim_settle(sim, 5000));
    sim_run(sim, 1000);
    CU_ASSERT(!lr_modes_unfit(zero->cache));
    CU_ASSERT(has(zero, "i/k", NULL) && has(zero, "v", NULL) && has(zero, "l/k", "local") && has(zero, "t", "shared"));
    CU_ASSERT(has(&sim->hosts[1], "v", "shared")); /* it is none of its business any more */
    CU_ASSERT(zero->node->peers[0]->modes != lr_modes_hash(zero->cache));
    CU_ASSERT_EQUAL(lr_mode_of(zero->cache, "vx", 2), LR_MODE_local);
    CU_ASSERT_EQUAL(lr_mode_of(zero->cache, "l", 1), LR_MODE_values);
    CU_ASSERT_EQUAL(lr_modes_set(zero->cache, others, 2), 0); /* the same again: nothing to do */
    CU_ASSERT(!lr_modes_unfit(zero->cache));
    sim_destroy(sim);
}

/* A stripe that cannot be walked: here since the daemon's buffer is too small for its entries. */
static void a_stripe_that_cannot_be_fitted_is_tried_less_and_less_often(void) {
    struct sim *sim = start("unfit", 2, SEGMENT);
    struct lr_node *node = sim->hosts[0].node;
    const size_t cap = node->entry_cap;
    const struct lr_mode_row other = {.prefix = "v", .len = 1, .mode = LR_MODE_local};
    put(&sim->hosts[0], "v", "shared");
    CU_ASSERT(sim_settle(sim, 5000));
    node->entry_cap = 1;
    CU_ASSERT_EQUAL(lr_modes_set(sim->hosts[0].cache, &other, 1), 0);
    lr_node_modes_changed(node);
    sim_run(sim, 10000);
    CU_ASSERT(node->fit_pause_ms == 8000 && lr_modes_unfit(sim->hosts[0].cache)); /* after 1, 2, 4 s */
    node->entry_cap = cap;
    sim_run(sim, 8000);
    CU_ASSERT(node->fit_pause_ms == 0 && !lr_modes_unfit(sim->hosts[0].cache));
    CU_ASSERT(has(&sim->hosts[0], "v", NULL));
    sim_destroy(sim);
}

/* The holder of the stripe's lock is stopped; the key may be absent, so that nothing but a note can tell. */
static void a_delete_behind_a_stopped_holder_ends_the_marks_of_a_local_key(void) {
    struct sim *sim = start("local and stopped", 2, SEGMENT);
    struct sim_host *zero = &sim->hosts[0];
    struct sm_stripe *stripe = lr_stripe_at(zero->cache, 0);
    for (unsigned round = 0; round < 2; round++) {
        if (round == 1)
            put(zero, "l/k", "old");
        const struct lr_mark before = mark(zero, "l/k");
        lr_store(&stripe->lock, lr_own_word(zero->segment.two));
        CU_ASSERT_EQUAL(lr_delete(zero->cache, "l/k", 3), round == 0 ? LARDER_ENOT_FOUND : 0);
        lr_store(&stripe->lock, 0);
        CU_ASSERT_EQUAL(store(zero, "l/k", "read before", LR_FILL_IN, &before), LARDER_ECONFLICT);
        CU_ASSERT(has(zero, "l/k", NULL));
        fill(zero, "l/k", "read after");
        CU_ASSERT_EQUAL(lr_delete(zero->cache, "l/k", 3), 0);
    }
    CU_ASSERT_EQUAL(lr_load(&stripe->tombstones), 0);
    CU_ASSERT(sim_settle(sim, 5000));
    sim_destroy(sim);
}

/* ---- larderd ----------------------------------------------------------------------------------------------------- */

static struct host hosts[2];

static void configure(unsigned which, const char *lines) {
    char text[512];
    snprintf(text, sizeof text, "peer = %s\n%s", hosts[1 - which].address, lines);
    host_configure(&hosts[which], text);
}

static void says(const char *command, unsigned which, const char *text) {
    char line[512], said[16384];
    snprintf(line, sizeof line, "'%s' %s --name %s", fixture_program("larder"), command, hosts[which].name);
    CU_ASSERT_EQUAL(fixture_run(line, said, sizeof said), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, text));
    if (strstr(said, text) == NULL)
        printf("\n    \"%s\" is missing in:\n%s", text, said);
}

static void larderd_takes_modes_from_its_file_and_anew_by_sighup(void) {
    for (unsigned i = 0; i < 2; i++)
        host_make(&hosts[i]);
    for (unsigned i = 0; i < 2; i++) {
        configure(i, "prefix = i/=invalidate\nprefix = l/=local\n");
        host_start(&hosts[i]);
    }
    CU_ASSERT(host_will_link(&hosts[0], 1) && host_will_link(&hosts[1], 1));
    struct lr_put filled = {.key = "i/k", .key_len = 3, .value = "one", .value_len = 3, .mode = LR_FILL_IN};
    CU_ASSERT_EQUAL(lr_put(hosts[1].cache, &filled), 0);
    CU_ASSERT_EQUAL(host_put(&hosts[1], "l/k", "local"), 0);
    fixture_sleep_ms(TICK_MS);
    CU_ASSERT_EQUAL(host_put(&hosts[0], "i/k", "two"), 0);
    CU_ASSERT_EQUAL(host_put(&hosts[0], "v", "behind them"), 0);
    CU_ASSERT(host_will_have(&hosts[1], "v", "behind them"));
    CU_ASSERT(host_will_agree(&hosts[0], &hosts[1]));
    CU_ASSERT(!host_has(&hosts[1], "i/k", "one") && !host_has(&hosts[1], "i/k", "two"));
    CU_ASSERT(host_has(&hosts[0], "i/k", "two") && host_has(&hosts[1], "l/k", "local"));
    CU_ASSERT(!host_has(&hosts[0], "l/k", "local"));
    says("stat", 0, "keys \"i/\"  invalidate");
    says("stat", 1, "modes          1 invalidated, 0 of local keys declined");
    says("stat --json", 1, "\"prefix\": \"l/\"");
    says("peers --json", 0, "\"modes\": \"same\"");

    configure(0, "prefix = i/=invalidate\nprefix = v=local\n");
    host_signal(&hosts[0], SIGHUP);
    CU_ASSERT(host_will_log(&hosts[0], "modes of keys: i/=invalidate v=local"));
    CU_ASSERT(host_will_log(&hosts[0], "its modes of keys are not ours"));
    CU_ASSERT(host_will_log(&hosts[1], "its modes of keys are not ours"));
    CU_ASSERT(host_will_link(&hosts[0], 1) && host_will_link(&hosts[1], 1));
    CU_ASSERT(host_will_log(&hosts[0], "entries of keys whose mode has changed were dropped"));
    says("peers", 0, "not as ours");
    says("stat", 0, "are others at 1 peers");
    says("peers --json", 1, "\"modes\": \"differ\"");
    CU_ASSERT(!host_has(&hosts[0], "v", "behind them") && host_has(&hosts[1], "v", "behind them"));
    CU_ASSERT_EQUAL(host_put(&hosts[1], "v", "not for zero"), 0);
    CU_ASSERT_EQUAL(host_put(&hosts[1], "w", "for zero"), 0);
    CU_ASSERT(host_will_have(&hosts[0], "w", "for zero"));
    CU_ASSERT(!host_has(&hosts[0], "v", "not for zero"));

    configure(0, "prefix = v=nonsense\n");
    host_signal(&hosts[0], SIGHUP);
    CU_ASSERT(host_will_log(&hosts[0], "SIGHUP: the configuration stays as it was"));
    says("stat", 0, "keys \"v\"  local");
    for (unsigned i = 0; i < 2; i++)
        host_remove(&hosts[i]);
}

static void read_config(const char *prefix, enum lr_config_outcome expected, struct lr_config *config, char *why) {
    char flag[256];
    snprintf(flag, sizeof flag, "--prefix=%s", prefix);
    char *argv[] = {"larderd", "--name", "x", "--prefix", "a=local", flag, NULL};
    CU_ASSERT_EQUAL(lr_config_read(6, argv, config, why), expected);
}

static void a_prefix_is_what_stands_before_the_last_equals_sign(void) {
    static struct lr_config config;
    char why[LR_WHY_BYTES], text[LR_WHY_BYTES];
    read_config("k=v=invalidate", LR_CONFIG_RUN, &config, why);
    CU_ASSERT_STRING_EQUAL(lr_config_modes(&config, text, sizeof text), "a=local k=v=invalidate");
    read_config("a=values", LR_CONFIG_RUN, &config, why); /* what comes later counts */
    CU_ASSERT_STRING_EQUAL(lr_config_modes(&config, text, sizeof text), "a=values");
    read_config("=invalidate", LR_CONFIG_RUN, &config, why); /* all keys */
    CU_ASSERT(config.mode_count == 2 && config.modes[1].len == 0);
    read_config("a", LR_CONFIG_WRONG, &config, why);
    read_config("a=remote", LR_CONFIG_WRONG, &config, why);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "values, invalidate or local"));
    char prefix[140];
    memset(prefix, 'x', sizeof prefix);
    strcpy(prefix + 121, "=local");
    read_config(prefix, LR_CONFIG_WRONG, &config, why);
    read_config(prefix + 1, LR_CONFIG_RUN, &config, why);
}

void larder_suite_98_modes(void);
void larder_suite_98_modes(void) {
    CU_pSuite suite = CU_add_suite("98_modes", NULL, NULL);
    CU_ADD_TEST(suite, a_change_drops_what_others_hold_and_does_not_travel);
    CU_ADD_TEST(suite, fills_are_told_to_nobody_and_invalidate_nobody);
    CU_ADD_TEST(suite, a_fill_is_refused_if_its_key_was_changed_since_the_mark);
    CU_ADD_TEST(suite, an_invalidation_on_its_way_takes_the_fill_that_was_faster);
    CU_ADD_TEST(suite, of_two_changes_neither_stands_for_the_other);
    CU_ADD_TEST(suite, a_fill_is_refused_though_the_later_one_has_come_and_gone);
    CU_ADD_TEST(suite, who_was_away_hears_of_a_change_that_a_fill_has_covered);
    CU_ADD_TEST(suite, who_was_away_hears_of_what_is_covered_while_it_is_told);
    CU_ADD_TEST(suite, local_keys_neither_leave_nor_enter);
    CU_ADD_TEST(suite, evictions_of_what_is_not_shared_are_of_no_interest);
    CU_ADD_TEST(suite, entries_of_another_mode_go_when_modes_change);
    CU_ADD_TEST(suite, a_stripe_that_cannot_be_fitted_is_tried_less_and_less_often);
    CU_ADD_TEST(suite, a_delete_behind_a_stopped_holder_ends_the_marks_of_a_local_key);
    CU_ADD_TEST(suite, larderd_takes_modes_from_its_file_and_anew_by_sighup);
    CU_ADD_TEST(suite, a_prefix_is_what_stands_before_the_last_equals_sign);
}
