/* SPDX-License-Identifier: MIT */
/* What suites want of a simulated network: hosts whose segments have names and are checked, all of them peers, and keys
 * that are numbers. */
#include "simnet.h"
#include "stripe.h"

#include <string.h>

#define STRIPE (UINT64_C(4) << 20) /* smaller than usual: some have several though they are small */

static void make_segment(struct sim_host *host, uint64_t size, enum lr_policy policy) {
    struct lr_options options = lr_options_default();
    options.size = size;
    options.policy = policy;
    for (options.stripes = 1; 2 * options.stripes * STRIPE <= size;)
        options.stripes *= 2;
    options.wait_ms = 5; /* as larderd does */
    fixture_create_with(&host->segment, &options);
    host->cache = host->segment.one;
    lr_drive_clock(host->cache, host->sim->now_ms);
}

void sim_wipe(struct sim_host *host) {
    const struct lr_options options = host->segment.options;
    fixture_destroy(&host->segment);
    memset(&host->segment, 0, sizeof host->segment);
    make_segment(host, options.size, options.policy);
}

void sim_displace(struct sim_host *host, uint64_t hash) {
    const struct lr_key key = lr_key_of_hash(host->cache, hash);
    struct lr_view view;
    CU_ASSERT_EQUAL_FATAL(lr_stripe_lock(&view, host->cache, lr_place_stripe(host->cache, key.place)), 0);
    const struct lr_found found = lr_index_find(&view, &key);
    CU_ASSERT(found.slot != NULL &&
              lr_entry_forget(&view, found.slot, found.word, &found.head, LR_FORGET_DISPLACE, true));
    lr_stripe_unlock(&view);
}

struct sim *sim_create_idle(const char *what, unsigned hosts, const uint64_t *sizes) {
    struct sim *sim = sim_new(fixture_seed(what));
    for (unsigned i = 0; i < hosts; i++)
        make_segment(sim_add_host(sim), sizes[i], LR_POLICY_s3);
    return sim;
}

struct sim *sim_create(const char *what, unsigned hosts, uint64_t size) {
    uint64_t sizes[SIM_HOSTS] = {0};
    for (unsigned i = 0; i < hosts; i++)
        sizes[i] = size;
    struct sim *sim = sim_create_idle(what, hosts, sizes);
    for (unsigned i = 0; i < hosts; i++)
        sim_start(&sim->hosts[i], NULL, true);
    return sim;
}

void sim_destroy(struct sim *sim) {
    struct fixture segments[SIM_HOSTS];
    unsigned hosts = sim->host_count;
    for (unsigned i = 0; i < hosts; i++)
        segments[i] = sim->hosts[i].segment;
    sim_free(sim);
    for (unsigned i = 0; i < hosts; i++) {
        segments[i].options.name = segments[i].name;
        fixture_destroy(&segments[i]);
    }
}

/* ---- contents ---------------------------------------------------------------------------------------------------- */

int sim_put(struct sim_host *host, unsigned key, const char *text, uint64_t ttl_ms) {
    char name[24];
    struct lr_put put = {.key = name,
                         .key_len = (size_t)snprintf(name, sizeof name, "key %u", key),
                         .value = text,
                         .value_len = strlen(text),
                         .ttl_ms = ttl_ms};
    return lr_put(host->cache, &put);
}

int sim_delete(struct sim_host *host, unsigned key) {
    char name[24];
    return lr_delete(host->cache, name, (size_t)snprintf(name, sizeof name, "key %u", key));
}

uint64_t sim_get(struct sim_host *host, unsigned key, char out[64]) {
    char name[24];
    struct lr_item item;
    size_t len = (size_t)snprintf(name, sizeof name, "key %u", key);
    out[0] = '\0';
    if (lr_get(host->cache, name, len, out, 63, &item, LR_PEEK) != 0)
        return 0;
    out[item.value_len] = '\0';
    return item.version;
}

uint64_t sim_evictions(struct sim *sim) {
    uint64_t evictions = 0;
    for (unsigned i = 0; i < sim->host_count; i++) {
        struct lr_stat stat;
        lr_stat(sim->hosts[i].cache, &stat);
        evictions += stat.stripe_counters[LR_S_evictions] + stat.stripe_counters[LR_S_index_evictions];
    }
    return evictions;
}

uint64_t sim_entries_sent(const struct sim *sim) {
    uint64_t sent = 0;
    for (unsigned i = 0; i < sim->host_count; i++)
        for (unsigned k = 0; sim->hosts[i].node != NULL && k < sim->hosts[i].node->peer_count; k++)
            sent += sim->hosts[i].node->peers[k]->out.entries_sent;
    return sent;
}

bool sim_digests_equal(struct sim *sim) {
    struct lr_digest first, digest;
    bool equal = true;
    lr_digest(sim->hosts[0].cache, &first);
    for (unsigned i = 1; i < sim->host_count; i++) {
        lr_digest(sim->hosts[i].cache, &digest);
        equal = equal && digest.sum == first.sum && digest.items == first.items;
    }
    return equal;
}

void sim_put_ballast(struct sim_host *host, unsigned number) {
    static char ballast[1000];
    char name[24];
    struct lr_put change = {.key = name,
                            .key_len = (size_t)snprintf(name, sizeof name, "ballast %u", number),
                            .value = ballast,
                            .value_len = sizeof ballast};
    CU_ASSERT_EQUAL(lr_put(host->cache, &change), 0);
}

uint64_t sim_ballast_of(struct sim_host *host, unsigned number) {
    char name[24], value[1000];
    struct lr_item item;
    const size_t len = (size_t)snprintf(name, sizeof name, "ballast %u", number);
    return lr_get(host->cache, name, len, value, sizeof value, &item, LR_PEEK) == 0 ? item.version : 0;
}
