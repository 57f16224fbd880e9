/* SPDX-License-Identifier: MIT */
/*
 * How a schedule is played: users write and read at all hosts, faults come in between, time goes by in uneven steps.
 * Then everything is mended, and the oracle judges.
 */
#include "network.h"

#include "log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#define EPOCH_MS UINT64_C(1760000000000)

bool net_logging;

void net_log(struct net_run *run, const char *format, ...) {
    if (!net_logging)
        return;
    printf("%7" PRIu64 " ", run->sim->now_ms % 10000000);
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

/* ---- hosts ------------------------------------------------------------------------------------------------------ */

static struct sim_host *host_of(struct net_run *run, unsigned host) {
    return &run->sim->hosts[host];
}

static void start(struct net_run *run, unsigned host) {
    struct sim_host *at = host_of(run, host);
    struct lr_node_options options = {.name = at->address,
                                      .listen = at->address,
                                      .clock_limit_ms = NET_CLOCK_LIMIT_MS,
                                      .tombstone_ms = run->plan.tombstone_ms,
                                      .gather = host % 2 != 0, /* both ways */
                                      .relay = run->plan.relays};
    net_log(run, "host %u: its daemon starts", host);
    net_modes_set(run, host);
    sim_start(at, &options, false);
    for (unsigned other = 0; other < run->plan.hosts; other++)
        if (run->plan.peers[host][other] && lr_node_add_peer(at->node, host_of(run, other)->address) != 0)
            abort();
}

static void set_up(struct net_run *run) {
    const struct net_plan *plan = &run->plan;
    run->sim = sim_new((struct fixture_random){fixture_next(&run->random)});
    run->sim->epoch_ms = EPOCH_MS;
    run->sim->delay_ms = plan->delay_ms;
    run->sim->jitter_ms = plan->jitter_ms;
    run->sim->bytes_per_step = plan->bytes_per_step;
    if (net_logging)
        lr_log_level(LR_DEBUG);
    for (unsigned host = 0; host < plan->hosts; host++) {
        sim_add_host(run->sim)->wall_off_ms = plan->skew_ms[host];
        net_segment_make(run, host);
        net_log(run, "host %u: %" PRIu64 " KiB in %u stripes, skew %" PRId64 " ms", host, plan->sizes[host] / 1024,
                plan->stripes[host], plan->skew_ms[host]);
    }
}

static void start_all(struct net_run *run) {
    for (unsigned host = 0; host < run->plan.hosts; host++)
        if (host_of(run, host)->node == NULL)
            start(run, host);
}

static void wait_for(struct net_run *run, uint64_t ms) {
    sim_run(run->sim, ms);
}

/* Takes a host out, or back in: at both ends of all its links. */
static void remove_or_add(struct net_run *run, unsigned host) {
    run->removed[host] = !run->removed[host];
    net_log(run, "host %u is %s", host, run->removed[host] ? "removed" : "added again");
    for (unsigned other = 0; other < run->plan.hosts; other++) {
        if (!run->plan.peers[host][other] || run->removed[other])
            continue;
        struct sim_host *ends[2] = {host_of(run, host), host_of(run, other)};
        for (unsigned i = 0; i < 2; i++) {
            sim_acting = ends[i];
            if (run->removed[host])
                lr_node_remove_peer(ends[i]->node, ends[1 - i]->address);
            else if (lr_node_add_peer(ends[i]->node, ends[1 - i]->address) != 0)
                abort();
        }
    }
}

static void mend(struct net_run *run) {
    net_log(run, "everything is mended");
    memset(run->sim->cut, 0, sizeof run->sim->cut);
    run->sim->bytes_per_step = 0;
    run->sim->delay_ms = 1;
    run->sim->jitter_ms = 5;
    start_all(run);
    for (unsigned host = 0; host < run->plan.hosts; host++)
        if (run->removed[host])
            remove_or_add(run, host);
}

static void settle(struct net_run *run) {
    if (!sim_settle(run->sim, 60000))
        net_fail(run, "the hosts are not in step after 60 s");
}

/* ---- users ------------------------------------------------------------------------------------------------------ */

static uint64_t a_ttl(struct net_run *run) {
    if (!net_percent(run, run->plan.ttl_percent))
        return 0;
    return net_percent(run, 70) ? 50 + net_below(run, 3000) : 600000 + net_below(run, 10000);
}

static size_t a_length(struct net_run *run) {
    const struct net_plan *plan = &run->plan;
    if (net_percent(run, plan->large_percent))
        return net_below(run, NET_VALUE_MOST);
    return plan->value_least + net_below(run, plan->value_most - plan->value_least + 1);
}

static void act_at(struct net_run *run, unsigned host) {
    const struct net_plan *plan = &run->plan;
    unsigned key = (unsigned)net_below(run, plan->keys);
    unsigned dice = (unsigned)net_below(run, 100);
    if (dice < plan->delete_percent)
        net_delete(run, host, key);
    else if (dice < plan->delete_percent + plan->get_percent)
        net_look(run, host, key, 0);
    else if (dice < plan->delete_percent + plan->get_percent + plan->touch_percent)
        net_touch(run, host, key, a_ttl(run));
    else
        net_put(run, host, key, a_length(run), a_ttl(run));
}

static void act(struct net_run *run) {
    const unsigned host = (unsigned)net_below(run, run->plan.hosts);
    if (run->plan.modal_keys > 0 && net_percent(run, 60))
        net_modes_act(run, host);
    else
        act_at(run, host);
}

static void write_often(struct net_run *run, unsigned host) {
    unsigned key = (unsigned)net_below(run, run->plan.keys);
    unsigned times = run->plan.ring + (unsigned)net_below(run, run->plan.ring);
    net_log(run, "host %u: key %u is written %u times", host, key, times);
    for (unsigned i = 0; i < times && i < 600; i++)
        net_put(run, host, key, 20, 0);
}

static void delete_many(struct net_run *run, unsigned host) {
    net_log(run, "host %u: everything is deleted", host);
    for (unsigned key = 0; key < run->plan.keys; key++)
        net_delete(run, host, key);
}

/* ---- faults ----------------------------------------------------------------------------------------------------- */

static void cut(struct net_run *run, unsigned a, unsigned b) {
    bool way = net_percent(run, 40), on = !run->sim->cut[a][b];
    net_log(run, "hosts %u and %u: %s %s", a, b, way ? "one way" : "both ways", on ? "cut" : "mended");
    if (way)
        sim_cut_way(run->sim, a, b, on);
    else
        sim_cut(run->sim, a, b, on);
    if (on && net_percent(run, 40)) /* long enough to be noticed */
        wait_for(run, net_below(run, 6000));
}

static void restart(struct net_run *run, unsigned host) {
    struct sim_host *at = host_of(run, host);
    if (at->node == NULL) {
        start(run, host);
        return;
    }
    unsigned how = (unsigned)net_below(run, 3);
    net_log(run, "host %u: its daemon %s", host, how == 0 ? "stops" : how == 1 ? "is killed" : "vanishes");
    if (how == 0)
        sim_stop(at);
    else if (how == 1)
        sim_kill(at);
    else
        sim_vanish(at);
    if (net_percent(run, 50))
        start(run, host);
}

static void wipe(struct net_run *run, unsigned host) {
    struct sim_host *at = host_of(run, host);
    if (at->node != NULL && net_percent(run, 70))
        sim_kill(at);
    else if (at->node != NULL)
        sim_vanish(at);
    net_forget_host(run, host);
    net_modes_forget(run, host);
    net_log(run, "host %u: its segment is lost", host);
    net_segment_make(run, host);
    start(run, host);
}

static void change_wire(struct net_run *run) {
    struct sim *sim = run->sim;
    sim->delay_ms = net_below(run, 100);
    sim->jitter_ms = net_below(run, 100);
    sim->bytes_per_step = net_percent(run, 50) ? 0 : 300 + net_below(run, 5000);
    net_log(run, "the wire: %" PRIu64 " to %" PRIu64 " ms, %zu bytes in %u ms", sim->delay_ms,
            sim->delay_ms + sim->jitter_ms, sim->bytes_per_step, SIM_STEP_MS);
}

static void send_garbage(struct net_run *run, unsigned host) {
    uint8_t bytes[256];
    if (host_of(run, host)->node == NULL)
        return;
    net_log(run, "host %u: strangers send garbage", host);
    for (unsigned n = 0; n < 80; n++) {
        size_t len = 1 + net_below(run, sizeof bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t)net_below(run, 256);
        uint64_t words[4] = {net_below(run, 8), 3, 0, 0};
        if (n % 2 == 0)
            len = wire_encode_words(bytes, sizeof bytes, (enum wire_type)(1 + net_below(run, 14)), 0, words,
                                    (uint32_t)net_below(run, 5));
        sim_garbage(host_of(run, host), bytes, len);
    }
}

static void trouble(struct net_run *run) {
    unsigned host = (unsigned)net_below(run, run->plan.hosts), other = (unsigned)net_below(run, run->plan.hosts);
    unsigned kind = 1u << net_below(run, 10);
    if ((run->plan.troubles & NET_REMOVE) != 0 && net_percent(run, 50)) {
        remove_or_add(run, host);
        wait_for(run, net_below(run, 5000));
        return;
    }
    if ((run->plan.troubles & kind) == 0)
        kind = run->plan.troubles & (NET_CUT | NET_RESET);
    if (kind & NET_CUT)
        cut(run, host, other);
    if (kind & NET_RESET) {
        net_log(run, "hosts %u and %u: reset", host, other);
        sim_reset(run->sim, host, other);
    }
    if (kind == NET_RESTART)
        restart(run, host);
    if (kind == NET_WIPE)
        wipe(run, host);
    if (kind == NET_WIRE)
        change_wire(run);
    if (kind == NET_GARBAGE)
        send_garbage(run, host);
    if (kind == NET_CLOCK)
        host_of(run, host)->wall_off_ms = (int64_t)net_below(run, 1800) - 900;
    if (kind == NET_HOT)
        write_often(run, host);
    if (kind == NET_OVERFLOW)
        delete_many(run, host);
    if (kind == NET_FLUSH)
        net_flush(run, host);
}

/* ---- scenes ------------------------------------------------------------------------------------------------------ */

static void act_for_a_while(struct net_run *run, unsigned operations) {
    for (unsigned i = 0; i < operations && !run->failed; i++) {
        act(run);
        if (net_below(run, 10) == 0)
            wait_for(run, SIM_STEP_MS * (1 + net_below(run, 20)));
        if (run->plan.troubles != 0 && net_below(run, run->plan.trouble_every) == 0)
            trouble(run);
    }
}

void net_play_storm(struct net_run *run) {
    start_all(run);
    if (run->plan.steady)
        settle(run);
    else if (net_percent(run, 50))
        wait_for(run, net_below(run, 3000));
    act_for_a_while(run, run->plan.operations);
    mend(run);
    net_judge(run);
}

static void fill_all(struct net_run *run, unsigned first, unsigned last) {
    for (unsigned key = 0; key < run->plan.keys; key++) {
        net_put(run, first + (unsigned)net_below(run, last - first + 1), key, a_length(run), 0);
        if (key % 16 == 0)
            wait_for(run, 100);
    }
}

struct snapshot {
    uint64_t versions[SIM_HOSTS][NET_KEYS];
};

static struct snapshot take_snapshot(struct net_run *run) {
    struct snapshot all;
    for (unsigned host = 0; host < run->plan.hosts; host++)
        for (unsigned key = 0; key < run->plan.keys; key++)
            all.versions[host][key] = net_look(run, host, key, LR_PEEK);
    return all;
}

/* Of what a host held then and what is still the newest, it holds `percent` now, but for `less` entries. */
static void expect_kept(struct net_run *run, const struct snapshot *before, unsigned host, unsigned percent,
                        unsigned less) {
    unsigned held = 0, kept = 0;
    for (unsigned key = 0; key < run->plan.keys; key++) {
        uint64_t version = before->versions[host][key];
        const struct net_claim *claim = &run->claims[key];
        if (version == 0 || version != claim->put || version <= claim->deleted)
            continue;
        held++;
        kept += net_look(run, host, key, LR_PEEK) == version;
    }
    net_log(run, "host %u: of %u unchanged entries it holds %u", host, held, kept);
    if (kept + 1 + less < held * percent / 100)
        net_fail(run, "host %u holds %u of %u entries that nobody changed", host, kept, held);
}

void net_play_partition(struct net_run *run) {
    struct net_plan *plan = &run->plan;
    start_all(run);
    wait_for(run, 2000);
    fill_all(run, 0, plan->hosts - 1);
    net_rest(run);
    unsigned away = (unsigned)net_below(run, plan->hosts);
    net_log(run, "host %u is cut off", away);
    for (unsigned other = 0; other < plan->hosts; other++)
        sim_cut(run->sim, away, other, true);
    uint32_t writes = run->write_count;
    for (unsigned i = 0; i < plan->operations; i++) {
        act(run);
        wait_for(run, net_below(run, 60000 / plan->operations));
    }
    writes = run->write_count - writes;
    struct snapshot before = take_snapshot(run);
    mend(run);
    settle(run);
    for (unsigned host = 0; host < plan->hosts; host++)
        expect_kept(run, &before, host, 95, writes);
    net_judge(run);
}

void net_play_join(struct net_run *run) {
    struct net_plan *plan = &run->plan;
    unsigned small = plan->hosts - 1, own = plan->keys / 8, deleted = (unsigned)net_below(run, 6);
    start_all(run);
    for (unsigned other = 0; other < small; other++)
        sim_cut(run->sim, small, other, true);
    wait_for(run, 2000);
    plan->keys -= own;
    fill_all(run, 0, small - 1);
    for (unsigned key = 0; key < plan->keys && deleted > 0; key += deleted)
        net_delete(run, (unsigned)net_below(run, small), key);
    plan->keys += own;
    for (unsigned key = plan->keys - own; key < plan->keys; key++)
        net_put(run, small, key, a_length(run), 0);
    wait_for(run, 1000 + net_below(run, 4000));
    struct snapshot before = take_snapshot(run);
    mend(run);
    settle(run);
    for (unsigned host = 0; host < plan->hosts; host++)
        if (host == small)
            expect_kept(run, &before, host, 95, 0);
        else /* what the small one brings is new to them, and may be larger */
            expect_kept(run, &before, host, 95, 2 * own);
    net_judge(run);
}

void net_play_away(struct net_run *run) {
    struct net_plan *plan = &run->plan;
    start_all(run);
    fill_all(run, 0, plan->hosts - 1);
    settle(run);
    unsigned away = (unsigned)net_below(run, plan->hosts);
    for (unsigned other = 0; other < plan->hosts; other++)
        sim_cut(run->sim, away, other, true);
    for (unsigned i = 0; i < plan->operations / 2; i++) {
        act(run);
        if (net_below(run, 20) == 0)
            wait_for(run, net_below(run, 1000));
        if (net_below(run, 100) == 0)
            delete_many(run, (unsigned)net_below(run, plan->hosts));
    }
    memset(run->sim->cut, 0, sizeof run->sim->cut);
    act_for_a_while(run, plan->operations / 2);
    mend(run);
    net_judge(run);
}

static void expect_outlaw_alone(struct net_run *run) {
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        const struct lr_node *node = host_of(run, host)->node;
        for (unsigned i = 0; node != NULL && i < node->peer_count; i++) {
            bool concerns = host == run->plan.outlaw ||
                            strcmp(node->peers[i]->address, host_of(run, run->plan.outlaw)->address) == 0;
            if (concerns && node->peers[i]->state == LR_PEER_LIVE)
                net_fail(run, "host %u is in step with %s though one's clock is %" PRId64 " ms off", host,
                         node->peers[i]->address, run->plan.skew_ms[run->plan.outlaw]);
        }
    }
}

void net_play_clocks(struct net_run *run) {
    start_all(run);
    for (unsigned i = 0; i < run->plan.operations / 10 && !run->failed; i++) {
        act_for_a_while(run, 5);
        wait_for(run, net_below(run, 500));
        expect_outlaw_alone(run);
    }
    if (net_percent(run, 50))
        host_of(run, run->plan.outlaw)->wall_off_ms = 0;
    else
        for (unsigned host = 0; host < run->plan.hosts; host++) /* time heals, where all come to be wrong alike */
            host_of(run, host)->wall_off_ms = run->plan.skew_ms[run->plan.outlaw];
    net_log(run, "all clocks agree");
    net_admit_outlaw(run);
    act_for_a_while(run, run->plan.operations / 2);
    mend(run);
    net_judge(run);
}

void net_play_modes(struct net_run *run) {
    start_all(run);
    act_for_a_while(run, run->plan.operations);
    mend(run);
    net_modes_end_fills(run);
    net_judge(run);
    if (!run->failed)
        net_modes_judge(run);
}

bool net_play(struct net_run *run, uint64_t seed, uint64_t schedule, unsigned scene) {
    memset(run, 0, sizeof *run);
    run->random.state = seed;
    run->random.state = fixture_next(&run->random) ^ (schedule + 1) * UINT64_C(0xd1b54a32d192ed03);
    net_plan_draw(run, scene);
    set_up(run);
    run->plan.play(run);
    sim_acting = NULL;
    net_note(run, run->sim->digest);
    sim_free(run->sim);
    sim_acting = NULL;
    return !run->failed;
}
