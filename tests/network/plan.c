/* SPDX-License-Identifier: MIT */
/*
 * What a schedule is to be: scene, hosts, keys, network, and what may go wrong, all drawn from its seed.
 *
 * A scene is a row: how often it is played, what plays it, and what it changes of the usual draw. Keys are chosen so
 * that they share few ranges of hashes: floors and voids belong to ranges, and what one key does to another shows only
 * there.
 */
#include "network.h"

#include "stripe.h"

#include <string.h>

#define NAMES_OF_RANGE NET_KEYS
#define KIB UINT64_C(1024)

struct scene {
    const char *name;
    unsigned weight;
    void (*play)(struct net_run *run);
    void (*shape)(struct net_run *run);
};

static uint32_t names[SM_RANGES][NAMES_OF_RANGE];

void net_plan_init(void) {
    unsigned counts[SM_RANGES] = {0}, full = 0;
    for (uint32_t n = 0; full < SM_RANGES; n++) {
        char name[16];
        unsigned range = lr_range_of(lr_cluster_hash(name, (size_t)snprintf(name, sizeof name, "key %u", n)));
        if (counts[range] == NAMES_OF_RANGE)
            continue;
        names[range][counts[range]++] = n;
        full += counts[range] == NAMES_OF_RANGE;
    }
}

/* ---- the usual -------------------------------------------------------------------------------------------------- */

static void draw_size(struct net_run *run, unsigned host, uint64_t stripe_bytes, unsigned stripes_most) {
    unsigned stripes = 1u << net_below(run, stripes_most);
    run->plan.stripes[host] = stripes;
    run->plan.sizes[host] = stripes * stripe_bytes;
}

static void draw_hosts(struct net_run *run) {
    struct net_plan *plan = &run->plan;
    static const unsigned chances[] = {2, 2, 2, 3, 3, 3, 3, 4};
    plan->hosts = chances[net_below(run, sizeof chances / sizeof *chances)];
    plan->outlaw = plan->hosts;
    for (unsigned a = 0; a < plan->hosts; a++) {
        draw_size(run, a, 128 * KIB, 3);
        for (unsigned b = 0; b < plan->hosts; b++)
            plan->peers[a][b] = a != b;
        if (net_percent(run, 50))
            plan->skew_ms[a] = (int64_t)net_below(run, 1800) - 900;
    }
    plan->one_origin = net_percent(run, 20);
    if (plan->one_origin)
        memset(plan->skew_ms, 0, sizeof plan->skew_ms);
}

static void draw_network(struct net_run *run) {
    struct net_plan *plan = &run->plan;
    plan->delay_ms = net_percent(run, 30) ? net_below(run, 100) : 1;
    plan->jitter_ms = net_below(run, net_percent(run, 30) ? 100 : 10);
    plan->bytes_per_step = net_percent(run, 20) ? 500 + net_below(run, 8000) : 0;
}

static void draw_work(struct net_run *run) {
    struct net_plan *plan = &run->plan;
    plan->keys = 20 + (unsigned)net_below(run, 80);
    plan->ranges = 1 + (unsigned)net_below(run, 12);
    plan->operations = 100 + (unsigned)net_below(run, 300);
    plan->value_least = 20;
    plan->value_most = 60 + (unsigned)net_below(run, 300);
    plan->delete_percent = 15;
    plan->get_percent = 20;
    plan->tombstone_ms = 600000;
    plan->ring = 32u << net_below(run, 6);
    plan->troubles = NET_CUT | NET_RESET | NET_RESTART | NET_WIRE;
    plan->trouble_every = 10 + (unsigned)net_below(run, 90);
    plan->rounds = net_percent(run, 15);
}

static void draw_keys(struct net_run *run) {
    const struct net_plan *plan = &run->plan;
    unsigned first = (unsigned)net_below(run, SM_RANGES);
    for (unsigned i = 0; i < plan->keys; i++) {
        struct net_key *key = &run->keys[i];
        unsigned range = (first + i % plan->ranges * 37) % SM_RANGES;
        uint32_t name = names[range][i / plan->ranges % NAMES_OF_RANGE];
        key->len = (unsigned)snprintf(key->name, sizeof key->name, "key %u", name);
        key->hash = lr_cluster_hash(key->name, key->len);
    }
}

static void maybe(struct net_run *run, unsigned percent, unsigned troubles) {
    if (net_percent(run, percent))
        run->plan.troubles |= troubles;
}

/* ---- scenes ------------------------------------------------------------------------------------------------------ */

/* Nothing is evicted, nothing expires, no tombstone is dropped: all must hold all. */
static void shape_roomy(struct net_run *run) {
    run->plan.complete = true;
    maybe(run, 30, NET_WIPE);
    maybe(run, 20, NET_GARBAGE);
    maybe(run, 20, NET_CLOCK);
    maybe(run, 30, NET_HOT);
    maybe(run, 20, NET_FLUSH);
}

/* Deadlines, touches, and tombstones that are soon dropped. */
static void shape_perishable(struct net_run *run) {
    shape_roomy(run);
    run->plan.complete = false;
    run->plan.ttl_percent = 40;
    run->plan.touch_percent = 15;
    run->plan.tombstone_ms = 500 + net_below(run, 3000);
}

static void shape_mortal(struct net_run *run) {
    shape_perishable(run);
    run->plan.steady = net_percent(run, 40);
    if (run->plan.steady)
        run->plan.troubles &= ~(unsigned)(NET_RESTART | NET_WIPE);
}

/* Hosts are removed as peers and added again; tombstones that nobody waits for are soon dropped. */
static void shape_operators(struct net_run *run) {
    shape_roomy(run);
    run->plan.complete = false;
    run->plan.delete_percent = 30;
    run->plan.tombstone_ms = 500 + net_below(run, 3000);
    run->plan.one_origin = false; /* who is added again may not notice */
    run->plan.troubles = (run->plan.troubles & (NET_HOT | NET_FLUSH)) | NET_CUT | NET_RESET | NET_REMOVE;
}

/* Too small for what is put there, and of different sizes. */
static void shape_tight(struct net_run *run) {
    struct net_plan *plan = &run->plan;
    shape_perishable(run);
    for (unsigned host = 0; host < plan->hosts; host++)
        draw_size(run, host, 64 * KIB, 3);
    plan->keys = 100 + (unsigned)net_below(run, 156);
    plan->operations = 300 + (unsigned)net_below(run, 400);
    plan->value_most = 300 + (unsigned)net_below(run, 1500);
    plan->large_percent = net_percent(run, 30) ? 3 : 0;
    plan->ttl_percent = net_percent(run, 50) ? 20 : 0;
    maybe(run, 30, NET_OVERFLOW);
}

/* Hosts in a row or around one: what one has heard it tells the others. */
static void shape_relay(struct net_run *run) {
    struct net_plan *plan = &run->plan;
    if (net_percent(run, 50))
        shape_roomy(run);
    else
        shape_perishable(run);
    plan->relays = true;
    plan->hosts = 3 + (unsigned)net_below(run, 2);
    plan->outlaw = plan->hosts;
    bool star = net_percent(run, 30);
    for (unsigned a = 0; a < plan->hosts; a++) {
        if (plan->sizes[a] == 0)
            draw_size(run, a, 128 * KIB, 3);
        for (unsigned b = 0; b < plan->hosts; b++)
            plan->peers[a][b] = star ? (a == 0) != (b == 0) : a + 1 == b || b + 1 == a;
    }
}

/* Large values, a slow wire, one key again and again. */
static void shape_slow(struct net_run *run) {
    struct net_plan *plan = &run->plan;
    for (unsigned host = 0; host < plan->hosts; host++)
        draw_size(run, host, 256 * KIB, 3);
    plan->operations = 100;
    plan->large_percent = 30;
    plan->bytes_per_step = 2000 + net_below(run, 20000);
    plan->troubles = NET_RESET | NET_HOT | NET_CUT;
}

/* Full segments, a partition, few changes. */
static void shape_partition(struct net_run *run) {
    struct net_plan *plan = &run->plan;
    for (unsigned host = 0; host < plan->hosts; host++)
        draw_size(run, host, 64 * KIB, 3);
    plan->keys = 256;
    plan->ranges = 8 + (unsigned)net_below(run, 56);
    plan->value_most = 300 + (unsigned)net_below(run, 600);
    plan->operations = 5 + (unsigned)net_below(run, 15);
    plan->delete_percent = 10;
    plan->bytes_per_step = 0;
    plan->troubles = 0;
}

/* A small host, with something of its own, joins large ones that are full. */
static void shape_join(struct net_run *run) {
    struct net_plan *plan = &run->plan;
    shape_partition(run);
    for (unsigned host = 0; host + 1 < plan->hosts; host++) {
        plan->stripes[host] = 4u << net_below(run, 2);
        plan->sizes[host] = plan->stripes[host] * 64 * KIB;
    }
    plan->stripes[plan->hosts - 1] = 1;
    plan->sizes[plan->hosts - 1] = 64 * KIB;
    plan->value_most = 1500 + (unsigned)net_below(run, 1500);
}

/* One host is away while the others forget more than they can note. */
static void shape_away(struct net_run *run) {
    shape_tight(run);
    run->plan.troubles = NET_RESET;
    run->plan.ring = 32;
    run->plan.large_percent = 0;
}

/* Keys that do not travel among others that do. Hosts of one origin could draw one version for two changes. */
static void shape_modes(struct net_run *run) {
    struct net_plan *plan = &run->plan;
    const unsigned dice = (unsigned)net_below(run, 100);
    if (dice < 45)
        shape_roomy(run);
    else if (dice < 80)
        shape_tight(run);
    else
        shape_relay(run);
    if (plan->relays) { /* what a relay forgets nobody behind it can know, and it forgets a range for two changes */
        plan->troubles &= ~(unsigned)NET_WIPE;
        plan->complete = false;
    }
    plan->modal_keys = 3 + (unsigned)net_below(run, NET_MODAL - 3);
    plan->operations *= 2;
    plan->one_origin = false;
}

/* The clock of one host is wrong, by up to twice the limit. */
static void shape_clocks(struct net_run *run) {
    struct net_plan *plan = &run->plan;
    memset(plan->skew_ms, 0, sizeof plan->skew_ms);
    plan->complete = true;
    plan->outlaw = (unsigned)net_below(run, plan->hosts);
    int64_t skew = NET_CLOCK_LIMIT_MS + 500 + (int64_t)net_below(run, NET_CLOCK_LIMIT_MS - 500);
    plan->skew_ms[plan->outlaw] = net_percent(run, 70) ? skew : -skew;
    plan->troubles = NET_RESET | NET_RESTART;
    plan->delay_ms = net_below(run, 50);
    plan->bytes_per_step = 0;
    maybe(run, 20, NET_FLUSH);
}

static const struct scene scenes[] = {
    {"roomy", 25, net_play_storm, shape_roomy},   {"mortal", 15, net_play_storm, shape_mortal},
    {"tight", 20, net_play_storm, shape_tight},   {"relay", 12, net_play_storm, shape_relay},
    {"slow", 4, net_play_storm, shape_slow},      {"partition", 7, net_play_partition, shape_partition},
    {"join", 7, net_play_join, shape_join},       {"away", 5, net_play_away, shape_away},
    {"clocks", 5, net_play_clocks, shape_clocks}, {"operators", 5, net_play_storm, shape_operators},
    {"modes", 12, net_play_modes, shape_modes},
};

unsigned net_scene_count(void) {
    return sizeof scenes / sizeof *scenes;
}

const char *net_scene_name(unsigned scene) {
    return scenes[scene].name;
}

void net_plan_draw(struct net_run *run, unsigned scene) {
    unsigned all = 0;
    for (unsigned i = 0; i < net_scene_count(); i++)
        all += scenes[i].weight;
    unsigned dice = (unsigned)net_below(run, all), drawn = 0;
    while (dice >= scenes[drawn].weight)
        dice -= scenes[drawn++].weight;
    const struct scene *chosen = &scenes[scene < net_scene_count() ? scene : drawn];
    run->plan = (struct net_plan){.scene = chosen->name, .play = chosen->play};
    draw_hosts(run);
    draw_network(run);
    draw_work(run);
    chosen->shape(run);
    /* Of three with one origin two may not notice, nor one whose daemon is new; and comparing sees versions only. */
    run->plan.one_origin &= run->plan.hosts == 2;
    if (run->plan.one_origin)
        run->plan.troubles &= ~(unsigned)(NET_RESTART | NET_WIPE);
    draw_keys(run);
}
