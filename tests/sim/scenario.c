/* SPDX-License-Identifier: MIT */
/*
 * The table of scenarios, and one schedule from its seed to its verdict.
 *
 *   seed, number -> scenario, world, scripts, manner of switching -> run -> wake or bury the stopped -> the doctor ->
 *   history, counters, check
 */
#include "sim.h"

#include "stripe.h"

#include <limits.h>
#include <string.h>

#define SAME_SCENARIO 64u /* schedules in a row: laying out a world costs more than a schedule */
#define CALIBRATIONS 12u
#define HEAVY_STORE 16
#define SHARE_UNIT UINT64_C(100000000)
#define SHARE_LEAST 1000u /* weight: what every schedule costs beside its accesses */
#define CHECK_EVERY 6u    /* schedules in which nobody died: the segment of one in so many is checked */

#define LOSSLESS SCENE_LOSSLESS
#define PEERS SCENE_REPLICATING
#define FOCUS SCENE_FOCUS

static const struct sim_scenario scenarios[] = {
    {"get-put", WORLD_ROOMY, {"gG", "p", "pg"}, 1, 3, 0, 0, LOSSLESS | FOCUS},
    {"get-put-same-size", WORLD_ROOMY, {"gG", "p", "pd", "P"}, 1, 3, 0, 0, FOCUS | SCENE_SAME_SIZE},
    {"incarnation-wraps", WORLD_ROOMY, {"g0g0", "p0w0p0", "P0", "g0g0"}, 0, 0, 0, 0, SCENE_IN_ORDER | SCENE_SAME_SIZE},
    {"get-put-delete", WORLD_ROOMY, {"gm", "pd", "pdg"}, 1, 3, 0, 0, FOCUS},
    {"conditions", WORLD_ROOMY, {"CAg", "CRp", "CdA", "C"}, 1, 2, 0, 0, FOCUS},
    {"increment", WORLD_ROOMY, {"i", "i", "ip"}, 1, 3, 1, 0, LOSSLESS},
    {"evict", WORLD_FULL, {"gm", "p", "b", "gp"}, 1, 2, 0, 0, 0},
    {"laps", WORLD_HOT, {"b0p0", "p0", "P0g0"}, 1, 2, 0, 0, 0},
    {"slide", WORLD_FULL, {"mgG", "ppb", "e"}, 1, 3, 0, 0, 0},
    {"pin", WORLD_ROOMY, {"P", "pd", "pP"}, 1, 3, 0, 0, FOCUS},
    {"pin-evict", WORLD_FULL, {"P", "b", "Pg", "pd"}, 1, 2, 0, 0, 0},
    {"pin-slide", WORLD_FULL, {"PP", "pb", "PH"}, 1, 3, 0, 0, 0},
    {"pin-cold", WORLD_COLD, {"P", "b", "PP"}, 1, 2, 0, 0, FOCUS},
    {"pin-flag", WORLD_COLD, {"P0H0z0", "b1"}, 0, 0, 0, 0, SCENE_IN_ORDER},
    {"pin-flag-kill", WORLD_COLD, {"P0H0z0", "b1", "z0b1"}, 0, 0, 1, 0, SCENE_IN_ORDER},
    {"pin-hot", WORLD_FULL, {"P", "b", "Pg"}, 1, 2, 0, 0, FOCUS},
    {"held", WORLD_FULL, {"Hp", "pdp", "bps", "P"}, 1, 3, 0, 0, FOCUS},
    {"many-pins", WORLD_ROOMY, {"PH", "PH", "dp", "P"}, 1, 3, 0, 0, FOCUS},
    {"split", WORLD_SPLIT, {"gm", "p", "gG", "e"}, 1, 2, 0, 0, LOSSLESS},
    {"split-pin-delete", WORLD_SPLIT, {"Pg", "p", "d", "PS"}, 1, 2, 0, 0, 0},
    {"split-scan", WORLD_SPLIT, {"S", "p", "g"}, 1, 1, 0, 0, LOSSLESS},
    {"merge", WORLD_MERGE, {"gm", "p", "gG", "e"}, 1, 2, 0, 0, LOSSLESS | FOCUS},
    {"merge-ghosts", WORLD_MERGE_GHOSTS, {"gm", "pd", "gP", "e"}, 1, 2, 0, 0, 0},
    {"merge-pin-delete", WORLD_MERGE, {"Pg", "p", "d", "PS"}, 1, 2, 0, 0, FOCUS},
    {"merge-scan", WORLD_MERGE, {"S", "p", "g"}, 1, 1, 0, 0, LOSSLESS},
    {"kill-merge", WORLD_MERGE, {"p", "pg", "Pm", "p"}, 1, 2, 3, 0, LOSSLESS | FOCUS},
    {"kill-merge-scan", WORLD_MERGE, {"p", "S", "p"}, 1, 1, 2, 0, LOSSLESS},
    {"stop-merge", WORLD_MERGE, {"p", "d", "g", "dp"}, 1, 2, 1, 1, FOCUS},
    {"stall-merge", WORLD_MERGE, {"p3", "d0d1", "d0g1"}, 1, 1, 0, 1, SCENE_FIRST},
    {"delete-merging", WORLD_MERGE, {"p3", "k0"}, 0, 0, 0, 0, SCENE_IN_ORDER},
    {"border", WORLD_BORDER, {"gm", "p", "Pg"}, 1, 2, 0, 0, LOSSLESS},
    {"border-pin", WORLD_BORDER, {"P", "p", "dp", "H"}, 1, 2, 0, 0, 0},
    {"cuckoo-up", WORLD_UP, {"gm", "p", "gGe", "p"}, 1, 2, 0, 0, LOSSLESS | FOCUS},
    {"cuckoo-up-moved", WORLD_UP, {"mPg", "p", "dP"}, 1, 2, 0, 0, 0},
    {"cuckoo-down", WORLD_DOWN, {"gm", "p", "Gg"}, 1, 2, 0, 0, LOSSLESS},
    {"cuckoo-down-scan", WORLD_DOWN, {"S", "p", "g"}, 1, 1, 0, 0, LOSSLESS | FOCUS},
    {"cuckoo-chain", WORLD_CHAIN, {"gm", "p", "gGe", "p"}, 1, 2, 0, 0, LOSSLESS | FOCUS},
    {"cuckoo-chain-scan", WORLD_CHAIN, {"S", "p", "gd"}, 1, 1, 0, 0, FOCUS},
    {"kill-chain", WORLD_CHAIN, {"p", "pg", "m", "p"}, 1, 2, 3, 0, LOSSLESS | FOCUS},
    {"stall-chain", WORLD_CHAIN, {"p0", "d1d3", "d3g1", "P1P3"}, 1, 1, 0, 1, SCENE_FIRST},
    {"cuckoo-delete", WORLD_DOWN, {"p", "d", "dg", "Pm"}, 1, 2, 0, 0, 0},
    {"expire", WORLD_TTL, {"gm", "tv", "sp", "P"}, 1, 3, 0, 0, 0},
    {"promote", WORLD_PROBATION, {"gmG", "bp", "b", "gp"}, 1, 2, 0, 0, 0},
    {"promote-pin", WORLD_PROBATION, {"PH", "b", "PP", "pb"}, 1, 2, 0, 0, 0},
    {"promote-delete", WORLD_PROBATION, {"d", "b", "dg", "p"}, 1, 2, 0, 0, 0},
    {"promote-peers", WORLD_PROBATION, {"b", "pd", "g", "bp"}, 1, 2, 1, 0, PEERS},
    {"kill-promote", WORLD_PROBATION, {"b", "bP", "gp", "b"}, 1, 2, 3, 0, 0},
    {"stall-promote", WORLD_PROBATION, {"b", "d", "dg"}, 1, 1, 0, 1, SCENE_FIRST},
    {"touch", WORLD_ROOMY, {"t", "gp", "tv", "sg"}, 1, 3, 0, 0, FOCUS},
    {"flush", WORLD_ROOMY, {"f", "gpC", "pm", "t"}, 1, 2, 0, 0, 0},
    {"flush-count", WORLD_ROOMY, {"fi", "i", "ip"}, 1, 3, 0, 0, 0},
    {"stall-flush", WORLD_ROOMY, {"f", "ztp", "ztg", "zC"}, 1, 3, 0, 1, SCENE_FIRST},
    {"kill", WORLD_ROOMY, {"pd", "pd", "gm", "pg"}, 1, 3, 2, 0, 0},
    {"kill-lossless", WORLD_ROOMY, {"p", "p", "gG", "p"}, 1, 3, 3, 0, LOSSLESS},
    {"kill-full", WORLD_FULL, {"pb", "pb", "gP", "pd"}, 1, 2, 2, 0, 0},
    {"kill-pin", WORLD_FULL, {"PH", "pbd", "pb", "Hp"}, 1, 2, 3, 0, 0},
    {"kill-held", WORLD_ROOMY, {"H0z0z0", "p0", "p0p0", "p0z0p0"}, 0, 0, 2, 0, SCENE_IN_ORDER | SCENE_SAME_SIZE},
    {"kill-unpin", WORLD_COLD, {"P0z0H0z0", "b0b0", "P0b0", "z0b0"}, 0, 0, 2, 0, SCENE_IN_ORDER},
    {"kill-split", WORLD_SPLIT, {"p", "pg", "Pm", "p"}, 1, 2, 3, 0, LOSSLESS},
    {"kill-border", WORLD_BORDER, {"p", "pg", "m"}, 1, 2, 3, 0, LOSSLESS},
    {"kill-cuckoo", WORLD_UP, {"p", "pg", "m", "p"}, 1, 2, 3, 0, LOSSLESS | FOCUS},
    {"kill-cuckoo-down", WORLD_DOWN, {"p", "pg", "m", "p"}, 1, 2, 3, 0, LOSSLESS | FOCUS},
    {"slot-reuse", WORLD_ROOMY, {"p", "pd", "xp", "xpx"}, 1, 3, 2, 0, 0},
    {"slot-reuse-pin", WORLD_FULL, {"Pp", "b", "xPx", "xp"}, 1, 3, 2, 0, 0},
    {"reap", WORLD_ROOMY, {"r", "pH", "xr", "pg"}, 1, 2, 2, 0, 0},
    {"stop", WORLD_ROOMY, {"p", "dg", "gd", "pd"}, 1, 2, 0, 1, FOCUS},
    {"stop-split", WORLD_SPLIT, {"p", "d", "g", "dp"}, 1, 2, 1, 1, 0},
    {"stop-cuckoo", WORLD_UP, {"p", "d", "g", "d"}, 1, 2, 1, 1, 0},
    {"stall-cuckoo", WORLD_UP, {"p0", "d1d3", "d3g3", "P3"}, 1, 1, 0, 1, SCENE_FIRST},
    {"stall-cuckoo-down", WORLD_DOWN, {"p0", "d1d3", "d3g3"}, 1, 1, 0, 1, SCENE_FIRST},
    {"stall-split", WORLD_SPLIT, {"p3", "d0d1", "d0g1"}, 1, 1, 0, 1, SCENE_FIRST},
    {"delete-moving-up", WORLD_UP, {"p0", "k3"}, 0, 0, 0, 0, SCENE_IN_ORDER},
    {"delete-moving-down", WORLD_DOWN, {"p0", "k3"}, 0, 0, 0, 0, SCENE_IN_ORDER},
    {"delete-splitting", WORLD_SPLIT, {"p3", "k0"}, 0, 0, 0, 0, SCENE_IN_ORDER},
    {"stall-replace", WORLD_ROOMY, {"p", "d", "gp"}, 1, 2, 0, 2, FOCUS},
    {"stall-slide", WORLD_FULL, {"b", "d", "dg"}, 1, 1, 0, 1, FOCUS | SCENE_FIRST},
    {"stop-pin", WORLD_FULL, {"pb", "dP", "Pg", "d"}, 1, 2, 1, 1, 0},
    {"notes", WORLD_ROOMY, {"p", "d", "dg", "pd"}, 1, 2, 1, 1, PEERS | FOCUS},
    {"notes-kill", WORLD_SPLIT, {"p", "d", "d", "pg"}, 1, 2, 2, 1, PEERS | FOCUS},
    {"apply", WORLD_ROOMY, {"a", "pg", "aT", "d"}, 1, 3, 0, 0, PEERS | FOCUS},
    {"apply-full", WORLD_FULL, {"ab", "pg", "TD", "aF"}, 1, 2, 0, 0, PEERS},
    {"apply-kill", WORLD_ROOMY, {"aT", "pd", "aD", "pgF"}, 1, 2, 2, 0, PEERS | FOCUS},
    {"peers-evict", WORLD_FULL, {"b", "p", "sFd", "g"}, 1, 3, 1, 0, PEERS},
    {"peers-forget", WORLD_FULL, {"b", "pd", "P", "bp"}, 1, 3, 2, 1, PEERS},
    {"peers-expire", WORLD_TTL, {"v", "s", "ga", "tF"}, 1, 3, 1, 0, PEERS},
};
#define SCENARIOS (sizeof scenarios / sizeof scenarios[0])

static uint64_t run_seed;
static int64_t lengths[SCENARIOS][2];  /* weight of a whole schedule, stores light and heavy */
static uint64_t shares[SCENARIOS + 1]; /* of the blocks, summed up: long schedules are played less often */
static bool dirty_scratch;

unsigned sim_scenario_count(void) {
    return SCENARIOS;
}

const char *sim_scenario_name(unsigned number) {
    return scenarios[number].name;
}

/* ---- one schedule ----------------------------------------------------------------------------------------------- */

static const struct sim_place *set_scene(const struct sim_scenario *scenario) {
    static const struct sim_place *place;
    static enum sim_world loaded = WORLD_COUNT;
    sim_machine_reset();
    sim_kernel_restore();
    sim_world_reset_handles(dirty_scratch);
    dirty_scratch = false;
    if (loaded != scenario->world) {
        place = sim_world_load(scenario->world);
        loaded = scenario->world;
    }
    sim.logging = true;
    if (scenario->flags & SCENE_REPLICATING)
        lr_set_replicating(&sim_handles[SIM_DOCTOR], true);
    sim_history_reset(place);
    sim_script_prepare(scenario, place);
    for (unsigned i = 0; i < SIM_PROCESSES; i++)
        if (scenario->mixes[i] != NULL)
            sim_machine_spawn(i);
    return place;
}

static void choose_points(int64_t length) {
    sim.points = 1 + (unsigned)sim_below(4);
    for (unsigned i = 0; i < sim.points; i++) {
        int64_t at = (int64_t)sim_below((uint64_t)length);
        unsigned k = i;
        for (; k > 0 && sim.switch_at[k - 1] > at; k--)
            sim.switch_at[k] = sim.switch_at[k - 1];
        sim.switch_at[k] = at;
    }
}

static void choose_manner(const struct sim_scenario *scenario, const int64_t length[2]) {
    static const uint8_t gaps[] = {2, 6, 20, 60, 200}, limits[] = {1, 2, 4, 8, 31};
    const bool heavy = sim_one_in(2);
    sim.store_weight = heavy ? HEAVY_STORE : 1;
    sim.buffering = !sim_one_in(3);
    sim.buffer_limit = limits[sim_below(5)];
    sim.patient = !sim_one_in(4);
    sim.jumpy = sim_one_in(3);
    sim.backwards = sim_one_in(2);
    if (sim_one_in(2))
        choose_points(length[heavy]);
    else
        sim.gap = gaps[sim_below(5)] * (heavy ? HEAVY_STORE / 4 : 1);
    sim.kills = (unsigned)sim_below(scenario->kills + 1);
    sim.only_first = (scenario->flags & SCENE_FIRST) != 0;
    sim.stops = sim.only_first ? scenario->stops : (unsigned)sim_below(scenario->stops + 1);
    if (sim.kills > 0 && sim_one_in(3)) { /* anywhere, not only under the lock */
        struct sim_process *victim = &sim.processes[sim_below(SIM_PROCESSES)];
        victim->end = SIM_KILL;
        victim->until_end = (int64_t)sim_below((uint64_t)length[heavy] / 2);
        sim.kills--;
    }
}

/* The stopped go on, or die. */
static void end_stops(void) {
    bool resumed = false;
    sim.kills = sim.stops = 0;
    for (unsigned i = 0; i < SIM_PROCESSES; i++) {
        struct sim_process *p = &sim.processes[i];
        if (p->state != SIM_STOPPED)
            continue;
        if (sim_one_in(2)) {
            p->state = SIM_DEAD;
            sim_kernel_died(i, 0);
        } else {
            p->state = SIM_READY;
            resumed = true;
        }
    }
    if (resumed)
        sim_machine_run();
}

static void call_doctor(void) {
    for (unsigned i = 0; i < SIM_PROCESSES; i++)
        dirty_scratch = dirty_scratch || sim.processes[i].state == SIM_DEAD;
    sim.now_ns += UINT64_C(6000000); /* whoever died has closed his files */
    sim.gap = 0;
    sim.points = 0;
    sim.jumpy = false;
    sim_machine_spawn(SIM_DOCTOR);
    sim_machine_run();
}

/* What the core itself calls damage: there is no reason for any. */
static void judge_counters(void) {
    static const enum lr_counter bad[] = {LR_C_corrupt_seen, LR_C_repair_dropped};
    struct lr_cache *cache = &sim_handles[SIM_DOCTOR];
    for (unsigned n = 0; n < 2 && !sim.failed; n++) {
        uint64_t count = lr_load(&cache->header->retired_counters[bad[n]]);
        for (unsigned i = 0; i < SIM_HANDLES + 1; i++)
            count += lr_load(&cache->participants[i].counters[bad[n]]);
        if (count != 0)
            sim_fail("the core counts %llu %s", (unsigned long long)count, n == 0 ? "corrupt_seen" : "repair_dropped");
    }
}

static void judge_segment(void) {
    struct lr_check check;
    int error = lr_check(&sim_handles[SIM_DOCTOR], &check);
    if (error == LARDER_ECORRUPT)
        sim_fail("check: %llu findings, first: %s", (unsigned long long)check.findings, check.first[0]);
    else if (error != 0)
        sim_fail("check: %s", lr_error_name(error));
}

static void play(const struct sim_scenario *scenario, const int64_t length[2]) {
    set_scene(scenario);
    if (length != NULL)
        choose_manner(scenario, length);
    sim_machine_run();
    if (scenario->stops > 0 && !sim.failed)
        end_stops();
    if (!sim.failed)
        call_doctor();
    if (!sim.failed)
        sim_history_judge((scenario->flags & SCENE_LOSSLESS) != 0);
    if (!sim.failed)
        judge_counters();
    if (!sim.failed && (dirty_scratch || sim_one_in(CHECK_EVERY))) /* somebody died, or by lot */
        judge_segment();
}

static unsigned scenario_of(uint64_t block) {
    uint64_t share = sim_mix(run_seed ^ sim_mix(block)) % shares[SCENARIOS];
    unsigned number = 0;
    while (share >= shares[number + 1])
        number++;
    return number;
}

bool sim_scenario_play(uint64_t schedule, unsigned only, unsigned *played) {
    unsigned number = only == UINT_MAX ? scenario_of(schedule / SAME_SCENARIO) : only;
    sim.random = sim_mix(run_seed + sim_mix(schedule));
    *played = number;
    play(&scenarios[number], lengths[number]);
    return !sim.failed;
}

/* Weight of a schedule, and how much is done in one, deaths and repairs included. The same for every seed. */
static void calibrate(unsigned number) {
    const struct sim_scenario *scenario = &scenarios[number];
    uint64_t work = 0;
    for (unsigned n = 0; n < CALIBRATIONS; n++) {
        sim.random = sim_mix(number * CALIBRATIONS + n);
        set_scene(scenario);
        sim.store_weight = n % 2 ? HEAVY_STORE : 1;
        sim_machine_run();
        if (sim.total > lengths[number][n % 2])
            lengths[number][n % 2] = sim.total;
    }
    for (unsigned n = 0; n < CALIBRATIONS; n++) {
        sim.random = sim_mix(number * CALIBRATIONS + n);
        set_scene(scenario);
        sim.kills = scenario->kills;
        sim_machine_run();
        end_stops();
        call_doctor();
        work += (uint64_t)sim.total;
    }
    shares[number + 1] = shares[number] + SHARE_UNIT / (work / CALIBRATIONS + SHARE_LEAST);
}

void sim_scenario_init(uint64_t seed, unsigned only) {
    for (unsigned i = 0; i < SCENARIOS; i++)
        if (only == UINT_MAX || only == i)
            calibrate(i);
    run_seed = seed;
}
