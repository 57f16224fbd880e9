/* SPDX-License-Identifier: MIT */
/*
 * What must hold: at every look, and at the end.
 *
 * A value says whose it is and which write it came from, and its bytes follow from both: so every value that is read
 * is known, whole, and of the right key. Per host and key there is a least version, raised by what the host said or
 * acknowledged; per key a claim, the newest put and the newest delete that anybody acknowledged. README.md has the
 * list of what is demanded; here is how each is judged.
 *
 * When a host loses its segment, what nobody else has ever held is lost with it, rightly: the claims fall back to what
 * the others have held (in a mesh), or to what they hold now (with relays, where a host that passed something on does
 * not answer for those behind).
 */
#include "network.h"

#include "stripe.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#define MAGIC 0x5eedf00dU
#define PROLONGED_MS 30000u /* what a copy may outlive its original by, on the way again and again */
#define QUIET_MS 1500u
#define REST_MS 90000u
#define ROUNDS_MS (2 * LR_COMPARE_EVERY_MS + 1000u)
#define SWEPT_MS 400u /* in which every stripe is swept */

struct value_head {
    uint32_t magic, key, write, len;
};

static uint8_t buffer[NET_VALUE_MOST];

static struct lr_cache *cache_of(struct net_run *run, unsigned host) {
    sim_acting = &run->sim->hosts[host];
    lr_drive_clock(sim_acting->cache, run->sim->now_ms);
    return sim_acting->cache;
}

void net_fail(struct net_run *run, const char *format, ...) {
    if (run->failed)
        return;
    run->failed = true;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(run->failure, sizeof run->failure, format, arguments);
    va_end(arguments);
    net_log(run, "FAILED: %s", run->failure);
}

void net_note(struct net_run *run, uint64_t word) {
    run->digest = (run->digest ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    run->digest ^= run->digest >> 31;
}

/* ---- values ----------------------------------------------------------------------------------------------------- */

static uint8_t filler(uint32_t write, size_t i) {
    return (uint8_t)((write + 1) * 2654435761u >> (i % 3 * 8)) ^ (uint8_t)i;
}

static void fill(uint32_t key, uint32_t write, size_t len) {
    struct value_head head = {MAGIC, key, write, (uint32_t)len};
    memcpy(buffer, &head, sizeof head);
    for (size_t i = sizeof head; i < len; i++)
        buffer[i] = filler(write, i);
}

/* The write that a value came from; 0: it is nobody's. */
static uint32_t write_of(const struct net_run *run, unsigned key, size_t len) {
    struct value_head head;
    if (len < sizeof head)
        return 0;
    memcpy(&head, buffer, sizeof head);
    if (head.magic != MAGIC || head.key != key || head.len != len || head.write == 0 || head.write > run->write_count ||
        run->writes[head.write].key != key || run->writes[head.write].len != len)
        return 0;
    for (size_t i = sizeof head; i < len; i++)
        if (buffer[i] != filler(head.write, i))
            return 0;
    return head.write;
}

/* ---- claims ----------------------------------------------------------------------------------------------------- */

static bool is_outlaw(const struct net_run *run, unsigned host) {
    return run->plan.outlaw == host && !run->cured;
}

static void raise(uint64_t *word, uint64_t value) {
    *word = *word > value ? *word : value;
}

static void claim_put(struct net_claim *claim, uint64_t version, uint32_t write, uint64_t ends_ms) {
    if (version < claim->put)
        return;
    claim->ends_ms = version == claim->put && claim->ends_ms > ends_ms ? claim->ends_ms : ends_ms;
    claim->put = version;
    claim->write = write;
}

static void has_put(struct net_run *run, unsigned host, unsigned key, uint64_t version, uint32_t write,
                    uint64_t ends_ms) {
    claim_put(&run->known[host][key], version, write, ends_ms);
    if (!is_outlaw(run, host))
        claim_put(&run->claims[key], version, write, ends_ms);
}

/* The tombstone that a host holds, or a delete that it acknowledged. */
static void has_deleted(struct net_run *run, unsigned host, unsigned key, uint64_t version) {
    raise(&run->least[host][key], version + 1);
    raise(&run->known[host][key].deleted, version);
    if (!is_outlaw(run, host))
        raise(&run->claims[key].deleted, version);
}

static uint32_t stripe_of(const struct lr_cache *cache, uint64_t hash) {
    return lr_place_stripe(cache, lr_place(cache, hash));
}

/* The version that the last change of this key's stripe drew. */
static uint64_t clock_of(struct lr_cache *cache, uint64_t hash) {
    return lr_load(&lr_stripe_at(cache, stripe_of(cache, hash))->clock);
}

/* ---- looking ---------------------------------------------------------------------------------------------------- */

static void judge_value(struct net_run *run, unsigned host, unsigned key, uint64_t version, uint32_t write) {
    const struct net_write *from = &run->writes[write];
    const struct sim_host *at = &run->sim->hosts[host];
    if (write == 0)
        net_fail(run, "host %u key %u: a value that nobody wrote, version %" PRIx64, host, key, version);
    else if (version < from->first || version > from->last)
        net_fail(run, "host %u key %u: write %u has version %" PRIx64 ", it was given %" PRIx64 " to %" PRIx64, host,
                 key, write, version, from->first, from->last);
    else if (version < run->least[host][key])
        net_fail(run,
                 "host %u key %u: write %u, version %" PRIx64 ", is from the past: not below %" PRIx64 " was allowed",
                 host, key, write, version, run->least[host][key]);
    else if (from->ends_ms != NET_NEVER && run->sim->now_ms > from->ends_ms + PROLONGED_MS)
        net_fail(run, "host %u key %u: write %u outlived its deadline by %" PRIu64 " ms", host, key, write,
                 run->sim->now_ms - from->ends_ms);
    else if (from->host != host && !(run->plan.troubles & NET_CLOCK) && !run->cured &&
             lr_version_unix_ms(version) > sim_wall_ms(at) + NET_CLOCK_LIMIT_MS)
        net_fail(run, "host %u key %u: version %" PRIx64 " of host %u lies %" PRIu64 " ms ahead of its wall clock",
                 host, key, version, from->host, lr_version_unix_ms(version) - sim_wall_ms(at));
}

uint64_t net_look(struct net_run *run, unsigned host, unsigned key, unsigned flags) {
    struct lr_cache *cache = cache_of(run, host);
    const struct net_key *name = &run->keys[key];
    struct lr_item item;
    int error = lr_get(cache, name->name, name->len, buffer, sizeof buffer, &item, flags);
    if (error == LARDER_ENOT_FOUND)
        return 0;
    if (error != 0) {
        net_fail(run, "host %u key %u: get: %s", host, key, lr_error_name(error));
        return 0;
    }
    uint32_t write = write_of(run, key, item.value_len);
    judge_value(run, host, key, item.version, write);
    raise(&run->least[host][key], item.version);
    claim_put(&run->known[host][key], item.version, write, run->writes[write].ends_ms);
    net_note(run, item.version ^ host);
    return item.version;
}

/* The version of the tombstone that the host has for the key, or 0. */
static uint64_t tombstone_of(struct net_run *run, unsigned host, unsigned key) {
    static uint8_t room[NET_VALUE_MOST];
    struct lr_entry entry;
    struct lr_cache *cache = cache_of(run, host);
    if (lr_entry_by_hash(cache, run->keys[key].hash, room, sizeof room, &entry) != 0 || !entry.tombstone)
        return 0;
    return entry.version;
}

static void look_at_flush(struct net_run *run, unsigned host) {
    uint64_t version = lr_flush_version(cache_of(run, host));
    if (version <= run->flushes[host])
        return;
    run->flushes[host] = version;
    for (unsigned key = 0; key < run->plan.keys; key++)
        raise(&run->least[host][key], version + 1);
}

void net_look_at_all(struct net_run *run) {
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        look_at_flush(run, host);
        for (unsigned key = 0; key < run->plan.keys; key++) {
            uint64_t version = net_look(run, host, key, LR_PEEK);
            uint64_t tombstone = version == 0 ? tombstone_of(run, host, key) : 0;
            if (tombstone == 0)
                continue;
            raise(&run->least[host][key], tombstone + 1);
            /* Of a delete, or in place of a value that went unshipped: then others may hold just that. */
            raise(&run->known[host][key].deleted, tombstone - (tombstone != run->claims[key].deleted));
        }
    }
}

/* ---- what users do ---------------------------------------------------------------------------------------------- */

/* Of two values with one version the later deadline counts, whichever of them stays. */
static void share_deadline(struct net_run *run, unsigned key, uint64_t version, uint32_t write) {
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        uint32_t other = run->known[host][key].write;
        if (run->known[host][key].put != version || other == write)
            continue;
        raise(&run->writes[other].ends_ms, run->writes[write].ends_ms);
        raise(&run->writes[write].ends_ms, run->writes[other].ends_ms);
    }
}

void net_put(struct net_run *run, unsigned host, unsigned key, size_t len, uint64_t ttl_ms) {
    struct lr_cache *cache = cache_of(run, host);
    const struct net_key *name = &run->keys[key];
    uint64_t most = lr_max_value(cache, name->len);
    len = len < sizeof(struct value_head) ? sizeof(struct value_head) : len > most ? most : len;
    uint32_t write = run->write_count + 1;
    if (write == NET_WRITES)
        return;
    run->write_count = write;
    fill(key, write, len);
    struct lr_put put = {.key = name->name, .key_len = name->len, .value = buffer, .value_len = len, .ttl_ms = ttl_ms};
    int error = lr_put(cache, &put);
    net_note(run, put.version);
    if (error != 0) {
        net_fail(run, "host %u key %u: put of %zu bytes: %s", host, key, len, lr_error_name(error));
        return;
    }
    uint64_t ends_ms = ttl_ms == 0 ? NET_NEVER : run->sim->now_ms + ttl_ms;
    run->writes[write] = (struct net_write){
        .key = key, .host = host, .len = (unsigned)len, .first = put.version, .last = put.version, .ends_ms = ends_ms};
    net_log(run, "host %u puts key %u: write %u, %zu bytes, ttl %" PRIu64 ", version %" PRIx64, host, key, write, len,
            ttl_ms, put.version);
    if (put.version < run->least[host][key])
        net_fail(run, "host %u key %u: a put drew version %" PRIx64 ", below %" PRIx64, host, key, put.version,
                 run->least[host][key]);
    raise(&run->least[host][key], put.version);
    share_deadline(run, key, put.version, write);
    const struct net_claim *claim = &run->claims[key];
    if (run->wiped[host] && (put.version < claim->put || put.version <= claim->deleted))
        raise(&run->claims[key].blind, put.version);
    has_put(run, host, key, put.version, write, ends_ms);
}

void net_delete(struct net_run *run, unsigned host, unsigned key) {
    struct lr_cache *cache = cache_of(run, host);
    const struct net_key *name = &run->keys[key];
    int error = lr_delete(cache, name->name, name->len);
    uint64_t version = clock_of(cache, name->hash);
    net_note(run, version);
    if (error != 0 && error != LARDER_ENOT_FOUND)
        net_fail(run, "host %u key %u: delete: %s", host, key, lr_error_name(error));
    net_log(run, "host %u deletes key %u: version %" PRIx64, host, key, version);
    has_deleted(run, host, key, version);
}

void net_touch(struct net_run *run, unsigned host, unsigned key, uint64_t ttl_ms) {
    struct lr_cache *cache = cache_of(run, host);
    const struct net_key *name = &run->keys[key];
    struct lr_item item;
    int error = lr_touch(cache, name->name, name->len, ttl_ms);
    if (error == LARDER_ENOT_FOUND)
        return;
    uint64_t ends_ms = ttl_ms == 0 ? NET_NEVER : run->sim->now_ms + ttl_ms;
    if (error == 0)
        error = lr_get(cache, name->name, name->len, buffer, sizeof buffer, &item, LR_PEEK);
    uint32_t write = error == 0 ? write_of(run, key, item.value_len) : 0;
    if (write == 0) {
        net_fail(run, "host %u key %u: touch: %s", host, key, error != 0 ? lr_error_name(error) : "a foreign value");
        return;
    }
    net_log(run, "host %u touches key %u: write %u, ttl %" PRIu64 ", version %" PRIx64, host, key, write, ttl_ms,
            item.version);
    raise(&run->writes[write].last, item.version);
    raise(&run->writes[write].ends_ms, ends_ms);
    if (item.version < run->least[host][key])
        net_fail(run, "host %u key %u: a touch found version %" PRIx64 ", below %" PRIx64, host, key, item.version,
                 run->least[host][key]);
    raise(&run->least[host][key], item.version);
    has_put(run, host, key, item.version, write, ends_ms);
}

void net_flush(struct net_run *run, unsigned host) {
    struct lr_cache *cache = cache_of(run, host);
    if (lr_flush(cache) != 0)
        net_fail(run, "host %u: flush failed", host);
    net_log(run, "host %u is flushed: version %" PRIx64, host, lr_flush_version(cache));
    net_note(run, lr_flush_version(cache));
    look_at_flush(run, host);
    if (!is_outlaw(run, host))
        raise(&run->flush, run->flushes[host]);
}

/* ---- losses ----------------------------------------------------------------------------------------------------- */

/* What `host` answers for: all that it has held, or, behind a relay, what it holds. */
static struct net_claim held_by(struct net_run *run, unsigned host, unsigned key) {
    struct net_claim known = run->known[host][key];
    if (!run->plan.relays)
        return known;
    struct net_claim now = {0};
    uint64_t version = net_look(run, host, key, LR_PEEK);
    if (version == 0)
        now.deleted = tombstone_of(run, host, key);
    else if (version == known.put)
        now = (struct net_claim){.put = version, .write = known.write, .ends_ms = known.ends_ms};
    return now;
}

static uint64_t newest_of(const struct net_claim *claim) {
    return claim->put > claim->deleted ? claim->put : claim->deleted;
}

/* Hosts hear of each other by way of it. */
static bool is_relay(const struct net_run *run, unsigned host) {
    unsigned peers = 0;
    for (unsigned other = 0; other < run->plan.hosts; other++)
        peers += run->plan.peers[host][other];
    return run->plan.relays && peers > 1;
}

void net_forget_host(struct net_run *run, unsigned host) {
    net_look_at_all(run);
    run->wiped[host] = true;
    raise(&run->lost_flush, run->flush);
    run->flush = run->flushes[host] = 0;
    for (unsigned other = 0; other < run->plan.hosts; other++)
        if (other != host && !is_outlaw(run, other))
            raise(&run->flush, run->flushes[other]);
    for (unsigned key = 0; key < run->plan.keys; key++) {
        struct net_claim *claim = &run->claims[key], left = {0};
        for (unsigned other = 0; other < run->plan.hosts; other++) {
            if (other == host || is_outlaw(run, other))
                continue;
            struct net_claim held = held_by(run, other, key);
            if (held.put > 0)
                claim_put(&left, held.put, held.write, held.ends_ms);
            raise(&left.deleted, held.deleted);
        }
        left.lost = claim->lost;
        left.blind = claim->blind;
        left.relayed = is_relay(run, host) ? newest_of(claim) : claim->relayed;
        if (left.put < claim->put)
            raise(&left.lost, claim->put);
        if (left.deleted < claim->deleted)
            raise(&left.lost, claim->deleted);
        *claim = left;
        run->known[host][key] = (struct net_claim){0};
        run->least[host][key] = 0;
    }
}

void net_admit_outlaw(struct net_run *run) {
    unsigned host = run->plan.outlaw;
    run->cured = true;
    look_at_flush(run, host);
    raise(&run->flush, run->flushes[host]);
    for (unsigned key = 0; key < run->plan.keys; key++) {
        const struct net_claim *known = &run->known[host][key];
        if (known->put > 0)
            claim_put(&run->claims[key], known->put, known->write, known->ends_ms);
        raise(&run->claims[key].deleted, known->deleted);
    }
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

/* Has the host a reason to lack this version? */
static bool is_excused(struct net_run *run, unsigned host, unsigned key, uint64_t version) {
    struct lr_cache *cache = cache_of(run, host);
    const uint64_t hash = run->keys[key].hash;
    const struct lr_view view = lr_view_of(cache, stripe_of(cache, hash));
    struct sm_stripe *stripe = view.stripe;
    const bool steady = run->plan.steady && lr_load(&stripe->counters[LR_S_evictions]) == 0;
    sm_u64 *floors = steady ? stripe->range_firm : stripe->range_floor;
    return lr_load(&floors[lr_range_of(hash)]) >= version || lr_void_of(&view, hash) >= version ||
           tombstone_of(run, host, key) >= version || lr_flush_version(cache) >= version;
}

static bool is_anybody_excused(struct net_run *run, unsigned key, uint64_t version) {
    bool excused = false;
    for (unsigned host = 0; host < run->plan.hosts; host++)
        excused |= is_excused(run, host, key, version);
    return excused;
}

/* Who lacks the newest value must have forgotten or declined it. Where nobody has it any more one must have forgotten
 * it, and what a relay has declined those behind it do not get. */
static void judge_absence(struct net_run *run, unsigned key, const uint64_t versions[SIM_HOSTS], uint64_t newest) {
    const struct net_claim *claim = &run->claims[key];
    bool lives = claim->put > claim->deleted && claim->put > run->flush &&
                 (claim->ends_ms == NET_NEVER || claim->ends_ms > run->sim->now_ms + PROLONGED_MS);
    for (unsigned host = 0; host < run->plan.hosts && lives; host++) {
        if (versions[host] != 0)
            continue;
        if (run->plan.complete && claim->lost < claim->put)
            net_fail(run, "host %u lacks key %u, version %" PRIx64 ", though nothing was evicted or expired", host, key,
                     claim->put);
        else if (run->plan.relays || newest == 0 ? !is_anybody_excused(run, key, claim->put)
                                                 : !is_excused(run, host, key, claim->put))
            net_fail(run, "host %u lacks key %u, version %" PRIx64 ", and has no reason", host, key, claim->put);
    }
}

static void judge_key(struct net_run *run, unsigned key) {
    const struct net_claim *claim = &run->claims[key];
    uint64_t versions[SIM_HOSTS] = {0}, newest = 0;
    uint32_t writes[SIM_HOSTS] = {0}, write = 0;
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        versions[host] = net_look(run, host, key, LR_PEEK);
        writes[host] = versions[host] != 0 ? run->known[host][key].write : 0;
        write = versions[host] > newest ? writes[host] : write;
        raise(&newest, versions[host]);
    }
    if (newest_of(claim) <= claim->relayed && !run->plan.complete)
        return;
    for (unsigned host = 0; host < run->plan.hosts; host++)
        if (versions[host] != 0 && (versions[host] != newest || writes[host] != write))
            net_fail(run, "key %u: host %u holds version %" PRIx64 " of write %u, another %" PRIx64 " of write %u", key,
                     host, versions[host], writes[host], newest, write);
    if (newest != 0 && newest == claim->blind)
        return;
    if (newest != 0 && newest <= claim->deleted)
        net_fail(run, "key %u is back: version %" PRIx64 ", deleted at %" PRIx64, key, newest, claim->deleted);
    if (newest != 0 && newest < claim->put)
        net_fail(run, "key %u: version %" PRIx64 " is held, but %" PRIx64 " (write %u of host %u) was acknowledged",
                 key, newest, claim->put, claim->write, run->writes[claim->write].host);
    if (newest > claim->put && newest > claim->lost)
        net_fail(run, "key %u: version %" PRIx64 " is above all that was written: %" PRIx64, key, newest, claim->put);
    judge_absence(run, key, versions, newest);
}

static void judge_segment(struct net_run *run, unsigned host) {
    struct lr_cache *cache = cache_of(run, host);
    struct lr_check check;
    if (lr_check(cache, &check) != 0)
        net_fail(run, "host %u: check has %" PRIu64 " findings: %s", host, check.findings, check.first[0]);
    if (run->flushes[host] != run->flush)
        net_fail(run, "host %u was flushed up to %" PRIx64 ", the highest flush is %" PRIx64, host, run->flushes[host],
                 run->flush);
}

static void judge_digests(struct net_run *run) {
    struct lr_digest first = {0}, digest;
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        lr_digest(cache_of(run, host), &digest);
        if (host == 0)
            first = digest;
        else if (digest.sum != first.sum || digest.items != first.items)
            net_fail(run, "host 0 and host %u have different digests, though nothing was evicted or expired", host);
    }
}

static uint64_t entries_sent(const struct net_run *run) {
    uint64_t sent = 0;
    for (unsigned host = 0; host < run->plan.hosts; host++)
        for (unsigned i = 0; i < run->sim->hosts[host].node->peer_count; i++)
            sent += run->sim->hosts[host].node->peers[i]->out.entries_sent;
    return sent;
}

/* Everything shipped, every void settled. */
static bool is_at_rest(struct net_run *run) {
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        struct lr_node *node = run->sim->hosts[host].node;
        if (lr_node_live(node) != node->peer_count || lr_node_left(node, false) > 0)
            return false;
        for (unsigned i = 0; i < node->peer_count; i++) {
            if (node->peers[i]->out.settle != LR_SETTLE_NONE || lr_settle_left(node->peers[i]) > 0)
                return false;
        }
    }
    return true;
}

void net_rest(struct net_run *run) {
    uint64_t until = run->sim->now_ms + REST_MS;
    /* Twice: what expired before the links were in step, and is swept after that, is told yet. */
    for (unsigned rests = 0; rests < 2 && run->sim->now_ms < until; rests = is_at_rest(run) ? rests + 1 : 0)
        sim_run(run->sim, SWEPT_MS);
    if (!is_at_rest(run))
        net_fail(run, "the hosts do not come to rest within %u s", REST_MS / 1000);
}

/* When the last deadline is over whose item is not to live long. */
static void outlive(struct net_run *run) {
    uint64_t now = run->sim->now_ms, last = run->modes.ends_ms > now ? run->modes.ends_ms : now;
    for (uint32_t i = 1; i <= run->write_count; i++)
        if (run->writes[i].ends_ms > last && run->writes[i].ends_ms < now + 10000)
            last = run->writes[i].ends_ms;
    sim_run(run->sim, last - now);
}

/* Of hosts that evict too: what one has evicted it does not ask for again. */
static void judge_rest(struct net_run *run) {
    const uint64_t sent = entries_sent(run);
    sim_run(run->sim, run->plan.rounds ? LR_COMPARE_EVERY_MS + 1000 : QUIET_MS);
    if (entries_sent(run) != sent)
        net_fail(run, "%" PRIu64 " entries were sent though nobody wrote", entries_sent(run) - sent);
    const size_t waiting = 2 * LR_WINDOW + LR_BATCH; /* large records have a window of their own */
    if (run->sim->most_queued > waiting)
        net_fail(run, "%zu bytes waited for one end of a link, no more than %zu may", run->sim->most_queued, waiting);
}

void net_judge(struct net_run *run) {
    outlive(run);
    net_rest(run);
    if (run->plan.relays || run->plan.rounds) {
        sim_run(run->sim, ROUNDS_MS);
        net_rest(run);
    }
    if (run->failed)
        return;
    judge_rest(run);
    net_look_at_all(run);
    if (run->flushes[0] > run->flush && run->flushes[0] <= run->lost_flush)
        run->flush = run->flushes[0];
    for (unsigned key = 0; key < run->plan.keys; key++)
        judge_key(run, key);
    for (unsigned host = 0; host < run->plan.hosts; host++)
        judge_segment(run, host);
    if (run->plan.complete)
        judge_digests(run);
}
