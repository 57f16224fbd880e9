/* SPDX-License-Identifier: MIT */
/*
 * Keys of the modes invalidate and local, and what must hold of them.
 *
 * There is a source, as it were a database: a number for each key, which a change raises; whoever made a change puts or
 * deletes the key right after it. Keys under "i/" are filled from it: a mark is taken, the source is read, and some
 * time later, when others may have changed it, the value is filled in. Keys under "l/", and "i/l/", belong to each host
 * alone.
 *
 *  1. What is read under "i/" is not older than the last change that was made on that very host; at the end, when all
 *     is shipped, not older than the last change anywhere.
 *  2. Fills are told to nobody: once all hosts have filled everything, nothing is sent, and nothing goes.
 *  3. What is read under "l/" is the last that was put there on that host. No host has an entry, nor a tombstone, that
 *     came of another's local key.
 */
#include "network.h"

#include "stripe.h"

#include <inttypes.h>
#include <string.h>

#define MAGIC 0x30de5u
#define BALLAST 200u

struct content {
    uint32_t magic, key, host, pad;
    uint64_t number;
    uint8_t ballast[BALLAST];
};

static const struct lr_mode_row rows[] = {
    {.prefix = "i/", .len = 2, .mode = LR_MODE_invalidate},
    {.prefix = "l/", .len = 2, .mode = LR_MODE_local},
    {.prefix = "i/l/", .len = 4, .mode = LR_MODE_local},
};

static struct lr_cache *cache_of(struct net_run *run, unsigned host) {
    sim_acting = &run->sim->hosts[host];
    lr_drive_clock(sim_acting->cache, run->sim->now_ms);
    return sim_acting->cache;
}

static bool is_local(unsigned key) {
    return key % 3 == 0;
}

static unsigned name_of(unsigned key, char name[24]) {
    return (unsigned)snprintf(name, 24, "%s%u", !is_local(key) ? "i/" : key % 2 == 0 ? "l/" : "i/l/", key);
}

void net_modes_set(struct net_run *run, unsigned host) {
    if (lr_modes_set(cache_of(run, host), rows, run->plan.modal_keys > 0 ? 3 : 0) != 0)
        net_fail(run, "host %u: its modes cannot be set", host);
}

static void note_deadline(struct net_run *run, unsigned host, unsigned key, uint64_t ttl_ms) {
    const uint64_t ends_ms = run->sim->now_ms + ttl_ms;
    run->modes.mortal[host][key] = ttl_ms != 0;
    if (ttl_ms != 0 && ends_ms > run->modes.ends_ms)
        run->modes.ends_ms = ends_ms;
}

/* ---- what users do ---------------------------------------------------------------------------------------------- */

static void put(struct net_run *run, unsigned host, unsigned key, uint64_t number, enum lr_put_mode mode,
                const struct lr_mark *mark) {
    struct content content = {.magic = MAGIC, .key = key, .host = host, .number = number};
    char name[24];
    struct lr_put put = {.key = name,
                         .key_len = name_of(key, name),
                         .value = &content,
                         .value_len = sizeof content - net_below(run, BALLAST),
                         .ttl_ms = net_percent(run, run->plan.ttl_percent) ? 50 + net_below(run, 3000) : 0,
                         .mode = mode,
                         .mark = mark};
    struct net_modes *modes = &run->modes;
    int error = lr_put(cache_of(run, host), &put);
    net_note(run, put.version);
    if (error != 0 && error != LARDER_ECONFLICT)
        net_fail(run, "host %u key %s: put: %s", host, name, lr_error_name(error));
    net_log(run, "host %u %s %s: number %" PRIu64 ", version %" PRIx64 "%s", host,
            mode == LR_FILL_IN ? "fills" : "puts", name, number, put.version, error != 0 ? ", refused" : "");
    if (is_local(key))
        modes->local[host][key] = number;
    note_deadline(run, host, key, put.ttl_ms);
}

static void erase(struct net_run *run, unsigned host, unsigned key) {
    char name[24];
    const unsigned len = name_of(key, name);
    int error = lr_delete(cache_of(run, host), name, len);
    if (error != 0 && error != LARDER_ENOT_FOUND)
        net_fail(run, "host %u key %s: delete: %s", host, name, lr_error_name(error));
    net_log(run, "host %u deletes %s", host, name);
    if (is_local(key))
        run->modes.local[host][key] = 0;
}

/* The number that is read there, or 0; judged. */
static uint64_t look(struct net_run *run, unsigned host, unsigned key) {
    struct net_modes *modes = &run->modes;
    struct content content = {0};
    struct lr_item item;
    char name[24];
    const unsigned len = name_of(key, name);
    if (lr_get(cache_of(run, host), name, len, &content, sizeof content, &item, LR_PEEK) != 0)
        return 0;
    if (content.magic != MAGIC || content.key != key || content.number == 0)
        net_fail(run, "host %u key %s: a value that nobody wrote", host, name);
    else if (is_local(key) && (content.host != host || content.number != modes->local[host][key]))
        net_fail(run, "host %u key %s: number %" PRIu64 " of host %u, where %" PRIu64 " was put", host, name,
                 content.number, content.host, modes->local[host][key]);
    else if (!is_local(key) && content.number < modes->changed[host][key])
        net_fail(run, "host %u key %s: number %" PRIu64 ", older than its own change %" PRIu64, host, name,
                 content.number, modes->changed[host][key]);
    return content.number;
}

static void begin_fill(struct net_run *run, unsigned host, unsigned key) {
    struct net_modes *modes = &run->modes;
    char name[24];
    const unsigned len = name_of(key, name);
    if (modes->fill_count == NET_FILLS)
        return;
    struct net_fill *fill = &modes->fills[modes->fill_count];
    if (lr_mark(cache_of(run, host), name, len, &fill->mark) != 0) {
        net_fail(run, "host %u key %s: no mark can be had", host, name);
        return;
    }
    fill->host = host;
    fill->key = key;
    fill->number = modes->source[key];
    net_log(run, "host %u reads the source of %s: number %" PRIu64 ", version %" PRIx64, host, name, fill->number,
            fill->mark.version);
    modes->fill_count += fill->number > 0;
}

static void end_fill(struct net_run *run, unsigned which) {
    struct net_modes *modes = &run->modes;
    const struct net_fill fill = modes->fills[which];
    modes->fills[which] = modes->fills[--modes->fill_count];
    put(run, fill.host, fill.key, fill.number, LR_FILL_IN, &fill.mark);
}

static void change(struct net_run *run, unsigned host, unsigned key) {
    struct net_modes *modes = &run->modes;
    const uint64_t number = ++modes->source[key];
    if (net_percent(run, 50))
        put(run, host, key, number, LR_SET, NULL);
    else
        erase(run, host, key);
    if (!is_local(key))
        modes->changed[host][key] = number;
}

static void touch(struct net_run *run, unsigned host, unsigned key) {
    char name[24];
    const unsigned len = name_of(key, name);
    const uint64_t ttl_ms = net_percent(run, run->plan.ttl_percent) ? 50 + net_below(run, 3000) : 0;
    int error = lr_touch(cache_of(run, host), name, len, ttl_ms);
    if (error != 0 && error != LARDER_ENOT_FOUND)
        net_fail(run, "host %u key %s: touch: %s", host, name, lr_error_name(error));
    if (error == 0)
        note_deadline(run, host, key, ttl_ms);
}

void net_modes_act(struct net_run *run, unsigned host) {
    struct net_modes *modes = &run->modes;
    const unsigned key = (unsigned)net_below(run, run->plan.modal_keys), dice = (unsigned)net_below(run, 100);
    if (dice < 25)
        change(run, host, key);
    else if (dice < 35)
        look(run, host, key);
    else if (dice < 40)
        touch(run, host, key);
    else if (dice < 70 && !is_local(key) && look(run, host, key) == 0)
        begin_fill(run, host, key);
    else if (modes->fill_count > 0)
        end_fill(run, (unsigned)net_below(run, modes->fill_count));
}

void net_modes_forget(struct net_run *run, unsigned host) {
    struct net_modes *modes = &run->modes;
    memset(modes->changed[host], 0, sizeof modes->changed[host]);
    memset(modes->local[host], 0, sizeof modes->local[host]);
    for (unsigned i = modes->fill_count; i-- > 0;)
        if (modes->fills[i].host == host)
            modes->fills[i] = modes->fills[--modes->fill_count];
}

void net_modes_end_fills(struct net_run *run) {
    while (run->modes.fill_count > 0 && !run->failed)
        end_fill(run, (unsigned)net_below(run, run->modes.fill_count));
}

/* ---- what must hold at the end ----------------------------------------------------------------------------------- */

/* The newest change whose host still has what it knew. */
static uint64_t newest(const struct net_run *run, unsigned key) {
    uint64_t number = 0;
    for (unsigned host = 0; host < run->plan.hosts; host++)
        if (run->modes.changed[host][key] > number)
            number = run->modes.changed[host][key];
    return number;
}

static void judge_key(struct net_run *run, unsigned host, unsigned key) {
    static uint8_t room[NET_VALUE_MOST];
    const struct net_modes *modes = &run->modes;
    const uint64_t number = look(run, host, key);
    char name[24];
    struct lr_entry entry;
    const uint64_t hash = lr_cluster_hash(name, name_of(key, name));
    const bool there = lr_entry_by_hash(cache_of(run, host), hash, room, sizeof room, &entry) == 0;
    if (!is_local(key) && number != 0 && number < newest(run, key))
        net_fail(run, "host %u key %s: number %" PRIu64 ", though %" PRIu64 " is the newest", host, name, number,
                 newest(run, key));
    if (is_local(key) && there && (entry.kind != LR_LOCAL || (entry.tombstone && !entry.trace)))
        net_fail(run, "host %u key %s: something came in, version %" PRIx64, host, name, entry.version);
    if (is_local(key) && number == 0 && modes->local[host][key] != 0 && !modes->mortal[host][key] &&
        run->plan.complete && (run->plan.troubles & NET_FLUSH) == 0)
        net_fail(run, "host %u key %s: what was put there is gone", host, name);
}

static uint64_t sum_sent(const struct net_run *run) {
    uint64_t sent = 0;
    for (unsigned host = 0; host < run->plan.hosts; host++)
        for (unsigned i = 0; i < run->sim->hosts[host].node->peer_count; i++)
            sent += run->sim->hosts[host].node->peers[i]->out.entries_sent;
    return sent;
}

/* Every host fills everything: with peers that have all they need, that changes nothing for anybody else. */
static void judge_fills(struct net_run *run) {
    for (unsigned host = 0; host < run->plan.hosts; host++)
        for (unsigned key = 0; key < run->plan.modal_keys; key++)
            if (!is_local(key))
                begin_fill(run, host, key), net_modes_end_fills(run);
    const unsigned ttl_percent = run->plan.ttl_percent;
    const uint64_t sent = sum_sent(run);
    sim_run(run->sim, LR_COMPARE_EVERY_MS + 1500);
    if (run->plan.complete && sum_sent(run) != sent)
        net_fail(run, "%" PRIu64 " entries were sent after nothing but fills", sum_sent(run) - sent);
    for (unsigned host = 0; host < run->plan.hosts && run->plan.complete && ttl_percent == 0; host++)
        for (unsigned key = 0; key < run->plan.modal_keys; key++)
            if (!is_local(key) && run->modes.source[key] != 0 && look(run, host, key) != run->modes.source[key])
                net_fail(run, "host %u: its fill of key i/%u does not stay", host, key);
}

void net_modes_judge(struct net_run *run) {
    for (unsigned host = 0; host < run->plan.hosts; host++)
        for (unsigned key = 0; key < run->plan.modal_keys; key++)
            judge_key(run, host, key);
    if (!run->failed)
        judge_fills(run);
    for (unsigned host = 0; host < run->plan.hosts && !run->failed; host++)
        for (unsigned key = 0; key < run->plan.modal_keys; key++)
            judge_key(run, host, key);
}
