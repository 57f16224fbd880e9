/* SPDX-License-Identifier: MIT */
/*
 * How changes flow: what came is not sent back, large values do not hold up small ones, bytes are read where they lie;
 * and `larder bench --replication`, which measures it. No time is judged here.
 */
#include "simnet.h"

#include "bench_replication.h"
#include "stream.h"
#include "stripe.h"

#include <jansson.h>
#include <string.h>

/* ---- a link ----------------------------------------------------------------------------------------------------- */

/* More of them than known versions are kept, and the way back lags. */
static void what_came_is_not_sent_back(void) {
    struct sim *sim = sim_create("no echo", 2, UINT64_C(16) << 20);
    CU_ASSERT(sim_settle(sim, 5000));
    for (unsigned key = 0; key < 3 * LR_KNOWN_ROWS; key++) {
        CU_ASSERT_FATAL(sim_put(&sim->hosts[0], key, "value", 0) == 0);
        if (key % 512 == 0)
            sim_run(sim, SIM_STEP_MS);
    }
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(sim_digests_equal(sim));
    CU_ASSERT(sim->hosts[0].node->peers[0]->out.entries_sent >= 3 * LR_KNOWN_ROWS);
    CU_ASSERT_EQUAL(sim->hosts[1].node->peers[0]->out.entries_sent, 0);
    sim_destroy(sim);
}

/* What is changed here after it came is a change like any other. */
static void what_came_and_was_changed_is_sent_back(void) {
    struct sim *sim = sim_create("no echo, but an answer", 2, UINT64_C(1) << 20);
    char text[64];
    CU_ASSERT(sim_settle(sim, 5000));
    for (unsigned round = 0; round < 20; round++) {
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[round % 2], 1, round % 2 != 0 ? "odd" : "even", 0), 0);
        CU_ASSERT(sim_settle(sim, 5000));
    }
    CU_ASSERT(sim_get(&sim->hosts[0], 1, text) != 0 && strcmp(text, "odd") == 0);
    CU_ASSERT(sim_digests_equal(sim));
    /* A touch keeps the version. */
    struct lr_item item;
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], 2, "touched", 60000), 0);
    CU_ASSERT(sim_settle(sim, 5000));
    sim_acting = &sim->hosts[1];
    CU_ASSERT_EQUAL(lr_touch(sim->hosts[1].cache, "key 2", 5, 3600000), 0);
    CU_ASSERT(sim_settle(sim, 5000));
    CU_ASSERT_EQUAL(lr_get(sim->hosts[0].cache, "key 2", 5, text, sizeof text, &item, 0), 0);
    CU_ASSERT(item.deadline_ms > lr_now_ms(sim->hosts[0].cache) + 3000000);
    sim_destroy(sim);
}

/* Each change may go round both ways; where they meet it ends, for an apply that changes nothing is not passed on. */
static void changes_on_a_ring_of_relays_end(void) {
    const uint64_t sizes[4] = {UINT64_C(4) << 20, UINT64_C(4) << 20, UINT64_C(4) << 20, UINT64_C(4) << 20};
    struct sim *sim = sim_create_idle("a ring", 4, sizes);
    for (unsigned i = 0; i < 4; i++) {
        struct lr_node_options options = sim_options(&sim->hosts[i]);
        options.relay = true;
        sim_start(&sim->hosts[i], &options, false);
    }
    for (unsigned i = 0; i < 4; i++) {
        CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[i].node, sim->hosts[(i + 1) % 4].address), 0);
        CU_ASSERT_EQUAL(lr_node_add_peer(sim->hosts[(i + 1) % 4].node, sim->hosts[i].address), 0);
    }
    CU_ASSERT(sim_settle(sim, 10000));
    const unsigned changes = 1500;
    for (unsigned i = 0; i < changes; i++) { /* the same keys, everywhere */
        if (i % 7 == 6)
            (void)sim_delete(&sim->hosts[i % 4], i % 100);
        else
            CU_ASSERT_EQUAL(sim_put(&sim->hosts[i % 4], i % 100, "text", 0), 0);
        if (i % 5 == 0)
            sim_run(sim, SIM_STEP_MS);
    }
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(sim_digests_equal(sim));
    const uint64_t sent = sim_entries_sent(sim);
    CU_ASSERT(sent >= 100 && sent <= changes * UINT64_C(8)); /* at most once over each link in each direction */
    sim_run(sim, 3 * LR_COMPARE_EVERY_MS);
    CU_ASSERT_EQUAL(sim_entries_sent(sim), sent);
    sim_destroy(sim);
}

static uint32_t stripe_of(const struct sim_host *host, const char *name) {
    return lr_place_stripe(host->cache, lr_place(host->cache, lr_cluster_hash(name, strlen(name))));
}

/* Puts `len` bytes under the next number whose key is, or is not, in this stripe. */
static void put_in(struct sim_host *host, unsigned *number, uint32_t stripe, bool in, size_t len) {
    static char value[1 << 20];
    char name[24];
    struct lr_put put = {.key = name, .value = value, .value_len = len};
    do
        put.key_len = (size_t)snprintf(name, sizeof name, "key %u", (*number)++);
    while ((stripe_of(host, name) == stripe) != in);
    CU_ASSERT_EQUAL(lr_put(host->cache, &put), 0);
}

static void large_values_do_not_hold_up_small_ones(void) {
    struct sim *sim = sim_create("large and small", 2, UINT64_C(16) << 20);
    struct sim_host *host = &sim->hosts[0];
    CU_ASSERT(sim_settle(sim, 5000));
    CU_ASSERT_FATAL(lr_stripe_count(host->cache) > 1);
    struct lr_peer *peer = host->node->peers[0];
    const uint64_t before = peer->out.entries_sent;
    const uint32_t first = peer->out.next_hints; /* whose turn it is */
    unsigned number = 0;
    sim_acting = host;
    for (unsigned i = 0; i < 3; i++)
        put_in(host, &number, first, true, 900000);
    for (unsigned i = 0; i < 50; i++)
        put_in(host, &number, first, false, 100);
    lr_node_rung(host->node);
    lr_outflow_pump(peer);
    CU_ASSERT_EQUAL(peer->out.entries_sent - before, 1 + 50);
    CU_ASSERT(peer->out.in_flight < 2 * LR_WINDOW);
    CU_ASSERT(sim_settle(sim, 20000)); /* and the large ones follow, one by one */
    CU_ASSERT(sim_digests_equal(sim));
    CU_ASSERT_EQUAL(peer->out.entries_sent - before, 3 + 50);
    sim_destroy(sim);
}

/* Two hosts, of which the second acknowledges nothing until one row is left: of stripes 0 and 1, in turns. */
static struct sim *one_row_is_left(unsigned *number) {
    struct sim *sim = sim_create("no row is left", 2, UINT64_C(16) << 20);
    struct sim_host *host = &sim->hosts[0];
    CU_ASSERT(sim_settle(sim, 5000));
    CU_ASSERT_FATAL(lr_stripe_count(host->cache) > 3);
    struct lr_peer *peer = host->node->peers[0];
    sim->hosts[1].reads_per_step = 1;
    sim_acting = host;
    for (unsigned i = 0; i < 2 * LR_SENT_ROWS && peer->out.sent_count < LR_SENT_ROWS - 1; i++) {
        put_in(host, number, i % 2, true, 100);
        lr_node_rung(host->node);
        lr_outflow_pump(peer);
    }
    CU_ASSERT_EQUAL(peer->out.sent_count, LR_SENT_ROWS - 1);
    return sim;
}

/* It acknowledges all, and then it lacks nothing. */
static void acknowledge_all(struct sim *sim) {
    CU_ASSERT_EQUAL(sim->hosts[0].node->peers[0]->out.sent_count, LR_SENT_ROWS);
    sim->hosts[1].reads_per_step = 0;
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(sim_digests_equal(sim));
    CU_ASSERT_EQUAL(sim->hosts[0].node->peers[0]->out.in_flight, 0);
    sim_destroy(sim);
}

/* Two changes come that do not go back. */
static void what_came_when_no_row_was_left_is_acknowledged(void) {
    unsigned number = 0;
    struct sim *sim = one_row_is_left(&number);
    for (uint32_t stripe = 0; stripe < 2; number++) {
        char name[24];
        (void)snprintf(name, sizeof name, "key %u", number);
        if (stripe_of(&sim->hosts[0], name) != stripe)
            continue;
        CU_ASSERT_EQUAL(sim_put(&sim->hosts[1], number, "from there", 0), 0);
        stripe++;
    }
    sim_run(sim, 100);
    acknowledge_all(sim);
}

/* A change takes the row, and a walk that is due has nothing to send. */
static void a_walk_waits_for_a_row_to_end(void) {
    unsigned number = 0;
    struct sim *sim = one_row_is_left(&number);
    struct sim_host *host = &sim->hosts[0];
    put_in(host, &number, 2, true, 100);
    lr_outflow_rescan(host->node->peers[0], 3);
    lr_node_rung(host->node);
    lr_outflow_pump(host->node->peers[0]);
    acknowledge_all(sim);
}

/* However pieces are cut, lent or pushed: the same frames. */
static void frames_are_the_same_wherever_they_are_read(void) {
    struct fixture_random random = fixture_seed("lent bytes");
    static uint8_t bytes[200000];
    size_t len = 0;
    unsigned frames = 0;
    static uint64_t words[WIRE_MAX_HASHES];
    for (; len < sizeof bytes - sizeof words - WIRE_HEADER; frames++) {
        words[0] = frames;
        len += wire_encode_words(bytes + len, sizeof bytes - len, WIRE_LIST, 0, words,
                                 1 + (uint32_t)fixture_below(&random, fixture_below(&random, 8) == 0 ? 4000 : 20));
    }
    for (unsigned round = 0; round < 60; round++) {
        struct lr_stream stream = {0};
        unsigned got = 0;
        for (size_t at = 0, piece; at < len; at += piece) {
            struct wire_frame frame;
            piece = 1 + fixture_below(&random, round % 2 != 0 ? 40 : 40000);
            piece = piece < len - at ? piece : len - at;
            const bool lent = lr_stream_is_empty(&stream);
            if (lent)
                lr_stream_lend(&stream, bytes + at, piece);
            else
                CU_ASSERT_FATAL(lr_stream_push(&stream, bytes + at, piece) == 0);
            while (lr_stream_peek(&stream, WIRE_MAX_PAYLOAD, &frame) == WIRE_FAULT_OK) {
                CU_ASSERT_FATAL(wire_word_at(&frame, 0) == got);
                size_t behind;
                lr_stream_behind(&stream, &frame, &behind);
                CU_ASSERT(behind < len);
                lr_stream_take(&stream, &frame);
                got++;
            }
            CU_ASSERT_FATAL(!lent || lr_stream_keep(&stream) == 0);
        }
        CU_ASSERT_EQUAL(got, frames);
        CU_ASSERT(lr_stream_is_empty(&stream));
        lr_stream_free(&stream);
    }
}

/* ---- bad peers ---------------------------------------------------------------------------------------------------
 *
 * What a bad peer costs the writers of its neighbour is what that one's larderd does for it: processor time, cache
 * lines of the segment, memory. It is counted, for no test may judge by the clock.
 */

static struct sim *set_up_bad_peer(const char *what) {
    struct sim *sim = sim_create(what, 3, UINT64_C(16) << 20);
    CU_ASSERT(sim_settle(sim, 5000));
    return sim;
}

static const struct lr_peer *peer_at(const struct sim *sim, unsigned number) {
    const struct lr_node *node = sim->hosts[0].node;
    unsigned i = 0;
    while (strcmp(node->peers[i]->address, sim->hosts[number].address) != 0)
        i++;
    return node->peers[i];
}

/* Of the first host, at a steady pace. */
static void write_for(struct sim *sim, uint64_t ms, unsigned each_step) {
    static const char value[100] = "a hundred bytes";
    for (uint64_t end = sim->now_ms + ms; sim->now_ms < end; sim_run(sim, SIM_STEP_MS))
        for (unsigned i = 0; i < each_step; i++) {
            char name[24];
            struct lr_put put = {.key = name, .value = value, .value_len = sizeof value};
            put.key_len = (size_t)snprintf(name, sizeof name, "k%u", (unsigned)fixture_below(&sim->random, 5000));
            CU_ASSERT_EQUAL(lr_put(sim->hosts[0].cache, &put), 0);
        }
}

static void for_a_peer_that_stands_still_nothing_is_looked_at(void) {
    struct sim *sim = set_up_bad_peer("a peer stands still");
    const struct lr_peer *good = peer_at(sim, 1), *bad = peer_at(sim, 2);
    sim->hosts[2].reads_per_step = 1; /* and it goes on talking, so nobody takes it for dead */
    write_for(sim, 1000, 100);
    CU_ASSERT(bad->out.in_flight > LR_WINDOW - LR_BATCH);
    const uint64_t looked_at = bad->out.looked_at, good_at = good->out.looked_at, sent = good->out.entries_sent;
    write_for(sim, 1500, 100);
    CU_ASSERT_EQUAL(bad->state, LR_PEER_LIVE);
    CU_ASSERT_EQUAL(bad->out.looked_at, looked_at);
    CU_ASSERT(good->out.entries_sent - sent > 25000); /* of 30,000 changes */
    CU_ASSERT(good->out.looked_at - good_at <= 2 * 30000 + 5000);
    CU_ASSERT(sim->most_queued < LR_WINDOW + LR_BATCH);
    sim->hosts[2].reads_per_step = 0;
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

/* It takes a third of what is written. The feed's rings run over, and the stripes are walked. */
static void a_peer_that_reads_slowly_costs_no_more_than_one_that_reads_all(void) {
    struct sim *sim = set_up_bad_peer("a slow peer");
    const struct lr_peer *good = peer_at(sim, 1), *bad = peer_at(sim, 2);
    sim->hosts[2].reads_per_step = 1000;
    write_for(sim, 500, 500);
    const uint64_t looked_at = bad->out.looked_at, good_at = good->out.looked_at, sent = bad->out.entries_sent;
    unsigned at_start = 0, further = 0;         /* walks stand at the end of a step, held up by the window */
    const unsigned batch = LR_BATCH / 1000 + 1; /* steps: a walk may begin behind one that nobody has read yet */
    for (unsigned i = 0; i < 10000 / SIM_STEP_MS; i++) {
        write_for(sim, SIM_STEP_MS, 20);
        at_start += bad->out.scanning && bad->out.scan.position == 0;
        further += bad->out.scanning && bad->out.scan.position > 0;
    }
    CU_ASSERT(bad->out.scans_done >= 1 && further > 100);
    CU_ASSERT(at_start < further / 10 + (bad->out.scans_done + 1) * batch); /* and go on from there */
    CU_ASSERT(bad->out.entries_sent - sent > 5000 && good->out.looked_at - good_at <= 2 * 40000 + 5000);
    CU_ASSERT(bad->out.looked_at - looked_at <= good->out.looked_at - good_at); /* no more than one that takes all */
    CU_ASSERT(sim->most_queued < LR_WINDOW + LR_BATCH);
    sim->hosts[2].reads_per_step = 0;
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

static void who_asks_and_does_not_read_the_answers_is_hung_up_on(void) {
    struct sim *sim = set_up_bad_peer("a flood of questions");
    const struct lr_peer *bad = peer_at(sim, 2);
    const struct lr_link *link = bad->link;
    struct lr_node *flooder = sim->hosts[2].node;
    const unsigned to = strcmp(flooder->peers[0]->address, sim->hosts[0].address) == 0 ? 0 : 1;
    uint8_t frame[WIRE_HEADER + 16];
    const uint64_t words[2] = {lr_node_wall(flooder), 0}, looked_at = bad->out.looked_at;
    const size_t len = wire_encode_words(frame, sizeof frame, WIRE_PING, 0, words, 2);
    sim->hosts[2].reads_per_step = 1;
    unsigned asked = 0;
    for (; bad->link == link && flooder->peers[to]->link != NULL && asked < 1000000; asked++) {
        sim_acting = &sim->hosts[2];
        lr_link_send(flooder->peers[to]->link, frame, len);
        if (asked % 2000 == 0)
            sim_run(sim, SIM_STEP_MS);
    }
    CU_ASSERT(bad->link != link && asked > LR_UNSENT_LIMIT / len);
    CU_ASSERT(sim->most_queued < LR_UNSENT_LIMIT + 3 * LR_WINDOW);
    CU_ASSERT(bad->out.looked_at - looked_at < 1000);
    sim->hosts[2].reads_per_step = 0;
    CU_ASSERT(sim_settle(sim, 20000));
    sim_destroy(sim);
}

/* ---- the bell --------------------------------------------------------------------------------------------------- */

static void one_put(struct lr_cache *cache, const char *key) {
    struct lr_put put = {.key = key, .key_len = strlen(key), .value = "v", .value_len = 1};
    CU_ASSERT_EQUAL(lr_put(cache, &put), 0);
}

/* The bell's sleeper has woken at once, or slept its time out: told by the futex word, which a ring changes. */
static void a_muted_handle_rings_no_bell(void) {
    struct fixture f;
    fixture_create(&f, 1 << 20);
    lr_set_replicating(f.one, true);
    lr_bell_mute(f.one);
    lr_bell_wait(f.one, 1);
    uint32_t rung = atomic_load(&f.one->header->bell);
    atomic_store(&f.one->header->bell_waiting, 1);
    one_put(f.one, "ours");
    CU_ASSERT_EQUAL(atomic_load(&f.one->header->bell), rung);
    CU_ASSERT_EQUAL(atomic_load(&f.one->header->bell_waiting), 1);
    one_put(f.two, "theirs");
    CU_ASSERT_EQUAL(atomic_load(&f.one->header->bell), rung + 1);
    fixture_destroy(&f);
}

/* ---- larder bench --replication --------------------------------------------------------------------------------- */

static char output[1 << 20];

static json_t *bench(int *status, const char *before, const char *arguments) {
    char command[2000];
    snprintf(command, sizeof command, "%s '%s' bench --replication %s --json", before, fixture_program("larder"),
             arguments);
    *status = fixture_run(command, output, sizeof output);
    json_t *object = json_loads(output, 0, NULL);
    if (object == NULL)
        printf("\n%s\n", output);
    CU_ASSERT_PTR_NOT_NULL_FATAL(object);
    return object;
}

static double real(const json_t *object, const char *field) {
    CU_ASSERT_PTR_NOT_NULL(json_object_get(object, field));
    return json_number_value(json_object_get(object, field));
}

static const char *text(const json_t *object, const char *field) {
    const char *value = json_string_value(json_object_get(object, field));
    return value != NULL ? value : "";
}

static void lags_are_plausible(const json_t *row) {
    CU_ASSERT(real(row, "samples") > 0);
    CU_ASSERT(real(row, "lag_p50_us") > 0 && real(row, "lag_p50_us") <= real(row, "lag_p99_us"));
    CU_ASSERT(real(row, "lag_p99_us") <= real(row, "lag_p999_us") &&
              real(row, "lag_p999_us") <= real(row, "lag_max_us"));
    CU_ASSERT(real(row, "looks_p50_us") >= 90); /* it cannot look more often than it sleeps */
}

static void loads_are_plausible(const json_t *row) {
    const json_t *cpu = json_object_get(row, "cpu");
    CU_ASSERT(real(row, "changes_per_s") > 0 && real(row, "cpu_ns_per_change") > 0);
    CU_ASSERT(real(cpu, "writer") >= 0 && real(cpu, "first") >= 0 && real(cpu, "second") >= 0); // 0: it never ran
    CU_ASSERT(real(cpu, "busy") >= 0 && real(cpu, "busy") <= 1); // in ticks of 10 ms, which may be longer than it was
    CU_ASSERT(real(row, "wire_bytes_per_change") > 0);
}

#if FIXTURE_SANITIZED
#define BRIEFLY "40ms"
#else
#define BRIEFLY "100ms"
#endif

static void the_bench_reports_all_its_parts(void) {
    int status;
    size_t i;
    const json_t *row;
    json_t *object = bench(&status, "", "--items 2000 --duration " BRIEFLY);
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_EQUAL(json_array_size(json_object_get(object, "lag")), 6);
    json_array_foreach(json_object_get(object, "lag"), i, row) {
        lags_are_plausible(row);
        loads_are_plausible(row);
    }
    CU_ASSERT_EQUAL(json_array_size(json_object_get(object, "sustained")), 8);
    json_array_foreach(json_object_get(object, "sustained"), i, row) {
        loads_are_plausible(row);
    }
    CU_ASSERT_EQUAL(json_array_size(json_object_get(object, "catch_up")), 6);
    unsigned known = 0;
    json_array_foreach(json_object_get(object, "catch_up"), i, row) {
        CU_ASSERT_EQUAL(real(row, "missing"), 0);
        CU_ASSERT_EQUAL(real(row, "bytes"), 2000 * 1040);
        /* Each entry has travelled whole, and once; where a link was replaced nobody knows. */
        const double wire = real(row, "wire_bytes_per_change");
        CU_ASSERT(wire == 0 || (wire > 1040 && wire < 1500));
        known += wire > 0;
        CU_ASSERT(real(row, "seconds") > 0 && real(row, "flowing_seconds") <= real(row, "seconds") + 0.01);
    }
    CU_ASSERT(known >= 3);
    const json_t *redis = json_object_get(object, "redis");
    if (json_object_get(redis, "absent") != NULL) {
        CU_ASSERT_STRING_EQUAL(text(redis, "packages"), "redis-server");
        fixture_skip("the_bench_reports_all_its_parts", "redis-server is not installed (tools/setup peers)");
    } else {
        const json_t *turns = json_object_get(redis, "turns");
        CU_ASSERT(real(redis, "writes") > 0 && real(redis, "changes_per_cpu_s") > 0);
        CU_ASSERT_EQUAL_FATAL(json_array_size(turns), 5);
        CU_ASSERT_EQUAL(real(redis, "larder_times"), json_number_value(json_array_get(turns, 2)));
        for (i = 0; i < 5; i++)
            CU_ASSERT(json_number_value(json_array_get(turns, i)) >=
                      (i == 0 ? 0.001 : json_number_value(json_array_get(turns, i - 1))));
    }
    json_decref(object);
}

static void the_bench_says_what_redis_it_lacks(void) {
    int status;
    json_t *object = bench(&status, "PATH=/nonexistent", "--items 2000 --duration 20ms --ops redis");
    const json_t *redis = json_object_get(object, "redis");
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(text(redis, "absent"), "redis-server"));
    CU_ASSERT_STRING_EQUAL(text(redis, "packages"), "redis-server");
    json_decref(object);
}

static void each_bad_peer_is_measured_in_pairs(void) {
    static const char *const names[] = {"stall", "slow", "flood"};
    for (size_t i = 0; i < 3; i += FIXTURE_SANITIZED ? 3 : 1) {
        char arguments[100];
        int status;
        size_t k;
        const json_t *pair;
        snprintf(arguments, sizeof arguments, "--items 2000 --duration " BRIEFLY " --pairs 2 --scenario %s", names[i]);
        json_t *object = bench(&status, "", arguments);
        CU_ASSERT_EQUAL(status, 0);
        CU_ASSERT_STRING_EQUAL(text(object, "scenario"), names[i]);
        CU_ASSERT_EQUAL(json_array_size(json_object_get(object, "pairs")), 2);
        json_array_foreach(json_object_get(object, "pairs"), k, pair) {
            CU_ASSERT(real(pair, "healthy_p99_ns") > 0 && real(pair, "bad_p99_ns") > 0);
        }
        CU_ASSERT(real(object, "ratio") > 0);
        CU_ASSERT(FIXTURE_SANITIZED || real(object, "memory_bytes") < 16e6); /* bounded, whatever the peer does */
        json_decref(object);
    }
}

static void large_values_are_measured_beside_small_ones(void) {
    int status;
    size_t i;
    const json_t *row;
    json_t *object = bench(&status, "", "--items 2000 --duration 200ms --scenario large");
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT(real(object, "large_per_s") > 0);
    CU_ASSERT_EQUAL(json_array_size(json_object_get(object, "rows")), 2);
    json_array_foreach(json_object_get(object, "rows"), i, row) {
        lags_are_plausible(row);
    }
    json_decref(object);
}

static void what_cannot_be_measured_is_refused(void) {
    static const char *const cases[][2] = {{"--ops lag,speed", "speed"},   {"--value-size 4", "8 to 4096"},
                                           {"--duration 2h", "60 s"},      {"--pairs 0 --scenario stall", "--pairs"},
                                           {"--scenario growth", "stall"}, {"--processes 2", "one process"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int status;
        json_t *object = bench(&status, "", cases[i][0]);
        CU_ASSERT_EQUAL(status, 2);
        CU_ASSERT_PTR_NOT_NULL(strstr(output, cases[i][1]));
        json_decref(object);
    }
}

/* Segments, folders and daemons go with the run, also when it is interrupted. */
static void nothing_is_left_of_an_interrupted_bench(void) {
    char command[2000];
    snprintf(command, sizeof command,
             "'%s' bench --replication --items 20000 --ops lag >/dev/null & run=$!; "
             "for i in $(seq 500); do ls /dev/shm/larder.bench.$run.*second+control 2>/dev/null && break; sleep 0.02; "
             "done >/dev/null; kill $run; { wait $run; } 2>/dev/null; ls -d /dev/shm/*bench.$run.* 2>/dev/null; "
             "pgrep -f -- \"--name bench.$run[.]\"; true",
             fixture_program("larder"));
    CU_ASSERT_EQUAL(fixture_run(command, output, sizeof output), 0);
    CU_ASSERT_STRING_EQUAL(output, "");
}

void larder_suite_98_flow(void) {
    CU_pSuite suite = CU_add_suite("98_flow: how changes flow, and the bench that measures it", NULL, NULL);
    CU_ADD_TEST(suite, what_came_is_not_sent_back);
    CU_ADD_TEST(suite, what_came_and_was_changed_is_sent_back);
    CU_ADD_TEST(suite, changes_on_a_ring_of_relays_end);
    CU_ADD_TEST(suite, large_values_do_not_hold_up_small_ones);
    CU_ADD_TEST(suite, what_came_when_no_row_was_left_is_acknowledged);
    CU_ADD_TEST(suite, a_walk_waits_for_a_row_to_end);
    CU_ADD_TEST(suite, frames_are_the_same_wherever_they_are_read);
    CU_ADD_TEST(suite, for_a_peer_that_stands_still_nothing_is_looked_at);
    CU_ADD_TEST(suite, a_peer_that_reads_slowly_costs_no_more_than_one_that_reads_all);
    CU_ADD_TEST(suite, who_asks_and_does_not_read_the_answers_is_hung_up_on);
    CU_ADD_TEST(suite, a_muted_handle_rings_no_bell);
    CU_ADD_TEST(suite, the_bench_reports_all_its_parts);
    CU_ADD_TEST(suite, the_bench_says_what_redis_it_lacks);
    CU_ADD_TEST(suite, each_bad_peer_is_measured_in_pairs);
    CU_ADD_TEST(suite, large_values_are_measured_beside_small_ones);
    CU_ADD_TEST(suite, what_cannot_be_measured_is_refused);
    CU_ADD_TEST(suite, nothing_is_left_of_an_interrupted_bench);
}
