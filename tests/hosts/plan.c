/* SPDX-License-Identifier: MIT */
/*
 * What a run is to be: scene, hosts, keys of TLS, and what may go wrong, all drawn from its seed.
 *
 * Scenes come in turn, and so do the three ways in which hosts trust each other: as many runs as there are scenes play
 * each of them, and three times as many each in all three ways.
 */
#include "hosts.h"

#define KIB UINT64_C(1024)
#define BIT(trouble) (1u << HOSTS_##trouble)
#define USUAL (BIT(WIRE) | BIT(CUT) | BIT(LINK) | BIT(KILL) | BIT(END) | BIT(STOP))
#define COMPARISONS 2u

struct scene {
    const char *name;
    void (*shape)(struct hosts_run *run);
};

static void draw_sizes(struct hosts_run *run, uint64_t least, uint64_t most) {
    for (unsigned host = 0; host < run->plan.hosts; host++)
        run->plan.sizes[host] = (least + hosts_below(run, most - least + 1)) * KIB;
}

static void draw_usual(struct hosts_run *run) {
    static const unsigned counts[] = {2, 3, 3, 3, 4, 5};
    struct hosts_plan *plan = &run->plan;
    plan->hosts = counts[hosts_below(run, sizeof counts / sizeof *counts)];
    plan->keys = 200 + (unsigned)hosts_below(run, 800);
    plan->value_least = 40;
    plan->value_most = 100 + (unsigned)hosts_below(run, 900);
    plan->large_permille = hosts_percent(run, 50) ? 1 : 0;
    plan->delete_percent = 10;
    plan->storm_ms = 6000;
    plan->pause_us = 5000;
    plan->tombstone_s = 600;
    plan->troubles = USUAL;
    plan->compress = hosts_percent(run, 30);
    draw_sizes(run, 8 * KIB, 16 * KIB);
}

/* ---- scenes ------------------------------------------------------------------------------------------------------ */

/* Nothing is evicted, nothing expires, no tombstone is dropped: all must hold all. */
static void shape_roomy(struct hosts_run *run) {
    run->plan.complete = true;
    run->plan.troubles |= BIT(PEER);
    if (hosts_percent(run, 30))
        run->plan.troubles |= BIT(FLUSH);
}

/* ... and now and then a host loses its segment. */
static void shape_losing(struct hosts_run *run) {
    shape_roomy(run);
    run->plan.troubles |= BIT(LOSS);
}

/* Too small for what is put there, and of different sizes. */
static void shape_tight(struct hosts_run *run) {
    run->plan.keys = HOSTS_KEYS;
    run->plan.value_most = 1000 + (unsigned)hosts_below(run, 1000);
    run->plan.ttl_percent = hosts_percent(run, 50) ? 20 : 0;
    run->plan.tombstone_s = 1 + (unsigned)hosts_below(run, 10);
    draw_sizes(run, 128, 1 * KIB);
    if (hosts_percent(run, 30))
        run->plan.troubles |= BIT(LOSS) | BIT(FLUSH);
}

/* Deadlines, and tombstones that are soon dropped. */
static void shape_mortal(struct hosts_run *run) {
    run->plan.ttl_percent = 40;
    run->plan.tombstone_s = 1 + (unsigned)hosts_below(run, 3);
    run->plan.troubles |= BIT(FLUSH);
}

/* Full segments, one host cut off, few changes. */
static void shape_partition(struct hosts_run *run) {
    run->plan.keys = HOSTS_KEYS;
    run->plan.value_most = 1000 + (unsigned)hosts_below(run, 1000);
    run->plan.large_permille = 0;
    run->plan.partition_ms = 4500 + (unsigned)hosts_below(run, 2000);
    draw_sizes(run, 256, 1 * KIB);
}

/* A short storm; then hosts compare what they hold twice, and the second time nobody has anything to send. */
static void shape_rounds(struct hosts_run *run) {
    shape_roomy(run);
    run->plan.storm_ms = 3000;
    run->plan.rounds = COMPARISONS;
}

static const struct scene scenes[] = {
    {"rounds", shape_rounds}, {"roomy", shape_roomy},   {"losing", shape_losing},
    {"tight", shape_tight},   {"mortal", shape_mortal}, {"partition", shape_partition},
};

#define SCENES (sizeof scenes / sizeof *scenes)

unsigned hosts_scene_count(void) {
    return SCENES;
}

const char *hosts_scene_name(unsigned scene) {
    return scenes[scene].name;
}

void hosts_plan_draw(struct hosts_run *run, unsigned scene, bool longer) {
    const struct scene *chosen = &scenes[scene < SCENES ? scene : run->number % SCENES];
    run->plan = (struct hosts_plan){.scene = chosen->name};
    run->plan.security = (enum hosts_keys)((run->number + run->number / SCENES) % 3);
    draw_usual(run);
    chosen->shape(run);
    if (!longer)
        return;
    run->plan.storm_ms *= 5;
    run->plan.rounds = COMPARISONS;
    if (run->plan.partition_ms > 0)
        run->plan.partition_ms = 60000;
}
