/* SPDX-License-Identifier: MIT */
/* Waiting for other hosts (shm/await.c): how many have a change, over the simulated network and across threads. */
#include "attachment.h"
#include "simnet.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define SEGMENT (UINT64_C(4) << 20)

static int await(struct sim_host *host, unsigned key, unsigned peers, unsigned timeout_ms) {
    char name[24];
    return lr_await(host->cache, name, (size_t)snprintf(name, sizeof name, "key %u", key), peers, timeout_ms);
}

static void as_many_as_have_it_are_counted(void) {
    struct sim *sim = sim_create("acknowledged", 4, SEGMENT);
    CU_ASSERT(sim_settle(sim, 10000));
    sim_run(sim, 1000); /* how many peers there are is reported */
    CU_ASSERT_EQUAL(await(&sim->hosts[0], 1, 8, 0), 3);
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], 1, "text", 0), 0);
    CU_ASSERT_EQUAL(await(&sim->hosts[0], 1, 1, 0), 0);
    CU_ASSERT(sim_settle(sim, 10000));
    CU_ASSERT_EQUAL(await(&sim->hosts[0], 1, 1, 0), 3);
    CU_ASSERT_EQUAL(await(&sim->hosts[0], 1, 8, 0), 3);
    sim_cut(sim, 0, 2, true);
    sim_cut(sim, 0, 3, true);
    CU_ASSERT_EQUAL(sim_delete(&sim->hosts[0], 1), 0);
    CU_ASSERT_EQUAL(await(&sim->hosts[0], 1, 1, 0), 0);
    sim_run(sim, 6000);
    char text[64];
    CU_ASSERT_EQUAL(sim_get(&sim->hosts[1], 1, text), 0);
    CU_ASSERT_EQUAL(await(&sim->hosts[0], 1, 2, 0), 1);
    sim_cut(sim, 0, 3, false);
    sim_run(sim, 20000);
    CU_ASSERT_EQUAL(await(&sim->hosts[0], 1, 3, 0), 2);
    sim_destroy(sim);
}

/* What a host says that it has, it has: also when rings overrun, links break and daemons die. */
static void nobody_is_counted_who_has_it_not(void) {
    struct sim *sim = sim_create("believed", 3, SEGMENT);
    unsigned counted = 0;
    char text[64], written[64];
    for (unsigned round = 0; round < 400; round++) {
        struct sim_host *host = &sim->hosts[0];
        unsigned key = (unsigned)fixture_below(&sim->random, 50), have = 0;
        for (unsigned i = 0; i < (round % 40 == 0 ? 30000u : 5u); i++)
            sim_put(host, 100 + (unsigned)fixture_below(&sim->random, 200), "others", 0);
        snprintf(written, sizeof written, "round %u", round);
        CU_ASSERT_EQUAL(sim_put(host, key, written, 0), 0);
        if (fixture_below(&sim->random, 12) == 0)
            sim_reset(sim, 0, 1 + (unsigned)fixture_below(&sim->random, 2));
        if (fixture_below(&sim->random, 30) == 0) {
            sim_kill(host);
            sim_start(host, NULL, true);
        }
        sim_run(sim, fixture_below(&sim->random, 60));
        int had = await(host, key, 2, 0);
        for (unsigned peer = 1; peer < 3; peer++)
            have += sim_get(&sim->hosts[peer], key, text) != 0 && strcmp(text, written) == 0;
        CU_ASSERT(had >= 0 && (unsigned)had <= have);
        counted += (unsigned)had;
    }
    CU_ASSERT(counted > 50 && counted < 750); /* or nothing was tried */
    sim_destroy(sim);
}

struct waiter {
    struct sim_host *host;
    int result;
    uint64_t ms;
    atomic_bool done;
};

static void *wait_for_one(void *context) {
    struct waiter *waiter = context;
    uint64_t began = lr_monotonic_ns();
    waiter->result = await(waiter->host, 7, 1, 20000);
    waiter->ms = (lr_monotonic_ns() - began) / 1000000;
    atomic_store(&waiter->done, true);
    return NULL;
}

static void who_sleeps_is_woken(void) {
    struct sim *sim = sim_create("woken", 2, SEGMENT);
    CU_ASSERT(sim_settle(sim, 10000));
    CU_ASSERT_EQUAL(sim_put(&sim->hosts[0], 7, "text", 0), 0);
    struct waiter waiter = {.host = &sim->hosts[0]};
    pthread_t thread;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, wait_for_one, &waiter), 0);
    fixture_sleep_ms(300);
    CU_ASSERT(!atomic_load(&waiter.done));
    sim_run(sim, 1000);
    uint64_t acknowledged = lr_monotonic_ns();
    pthread_join(thread, NULL);
    CU_ASSERT(lr_monotonic_ns() - acknowledged < UINT64_C(400) * 1000000); /* not by looking again after a while */
    CU_ASSERT_EQUAL(waiter.result, 1);
    CU_ASSERT(waiter.ms >= 250 && waiter.ms < 15000);
    sim_destroy(sim);
}

static void nobody_waits_for_nobody(void) {
    struct fixture segment = {0};
    struct lr_options options = lr_options_default();
    fixture_create_with(&segment, &options);
    CU_ASSERT_EQUAL(lr_await(segment.one, "key", 3, 1, 60000), 0); /* no peers: at once */
    CU_ASSERT_EQUAL(lr_await(segment.one, "key", 3, 0, 0), LARDER_EINVALID);
    CU_ASSERT_EQUAL(lr_await(segment.one, "key", 3, LR_AWAIT_PEERS + 1, 0), LARDER_EINVALID);
    CU_ASSERT_EQUAL(lr_await(segment.one, "", 0, 1, 0), LARDER_EINVALID);
    lr_set_replicating(segment.one, true);
    uint64_t began = lr_monotonic_ns();
    CU_ASSERT_EQUAL(lr_put(segment.one, &(struct lr_put){.key = "key", .key_len = 3, .value = "v", .value_len = 1}), 0);
    CU_ASSERT_EQUAL(lr_await(segment.one, "key", 3, 1, 250), 0);
    CU_ASSERT(lr_monotonic_ns() - began >= UINT64_C(250) * 1000000);
    fixture_destroy(&segment);
}

void larder_suite_94_await(void);
void larder_suite_94_await(void) {
    CU_pSuite suite = CU_add_suite("94_await", NULL, NULL);
    CU_ADD_TEST(suite, as_many_as_have_it_are_counted);
    CU_ADD_TEST(suite, nobody_is_counted_who_has_it_not);
    CU_ADD_TEST(suite, who_sleeps_is_woken);
    CU_ADD_TEST(suite, nobody_waits_for_nobody);
}
