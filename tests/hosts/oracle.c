/* SPDX-License-Identifier: MIT */
/*
 * What must hold when all is mended: README.md has the list of what is demanded; here is how each is judged.
 *
 * A row has a claim, the newest put and the newest delete of a key that anybody acknowledged. When a host loses its
 * segment, what no other host has ever held is lost with it, rightly: the claim falls back to what the others have held
 * or said. Other hosts work meanwhile, so claims may rise while they are looked at; they never fall by that.
 */
#include "hosts.h"

#include "stripe.h"

#include <inttypes.h>
#include <string.h>

#define LIVES_MS 10000u /* an entry whose deadline is nearer may be gone here and not there */
#define TURN_MS 100u
#define QUIET_MS 1500u
#define AGAIN_MS 120000u
#define ROUND_MS 11000u /* peers compare every 10 s */
#define ROUNDS_MOST 8u
#define DESCRIPTORS_MS 5000u
#define KEPT_PERCENT 95u

struct hosts_user hosts_eye(struct hosts_run *run, unsigned host) {
    return (struct hosts_user){.board = run->board,
                               .plan = &run->plan,
                               .cache = run->hosts[host].cache,
                               .random = fixture_fork_random(&run->random, 2000 + host),
                               .host = host,
                               .writer = HOSTS_CONDUCTOR};
}

static uint64_t hash_of(unsigned key) {
    char name[HOSTS_KEY_BYTES];
    return lr_cluster_hash(name, hosts_key_name(key, name));
}

/* The version of the tombstone that the host has for the key, or 0. */
static uint64_t tombstone_of(const struct hosts_run *run, unsigned host, unsigned key) {
    static uint8_t room[HOSTS_VALUE_MOST + 64];
    struct lr_entry entry;
    if (lr_entry_by_hash(run->hosts[host].cache, hash_of(key), room, sizeof room, &entry) != 0 || !entry.tombstone)
        return 0;
    return entry.version;
}

static void look_at_host(struct hosts_run *run, unsigned host) {
    struct hosts_user eye = hosts_eye(run, host);
    uint64_t content;
    for (unsigned key = 0; key < run->plan.keys; key++) {
        struct hosts_row *row = &run->board->rows[key];
        uint64_t tombstone = hosts_look(&eye, key, LR_PEEK, &content) == 0 ? tombstone_of(run, host, key) : 0;
        if (tombstone == 0)
            continue;
        hosts_lock(row);
        if (row->least[host] < tombstone + 1)
            row->least[host] = tombstone + 1;
        /* Of a delete, or in place of a value that went unshipped: then others may hold just that. */
        hosts_claim_deleted(&row->known[host], tombstone - (tombstone != row->claim.deleted));
        hosts_unlock(row);
    }
}

/* ---- losses ------------------------------------------------------------------------------------------------------ */

static void forget_flush(struct hosts_run *run, unsigned host) {
    uint64_t flush = atomic_load(&run->board->flush), left = 0;
    for (unsigned other = 0; other < run->plan.hosts; other++) {
        uint64_t version = other != host ? lr_flush_version(run->hosts[other].cache) : 0;
        left = version > left ? version : left;
    }
    if (left >= flush)
        return;
    if (flush > atomic_load(&run->board->lost_flush))
        atomic_store(&run->board->lost_flush, flush);
    atomic_compare_exchange_strong(&run->board->flush, &flush, left); /* unless there was another one meanwhile */
}

static void forget_key(struct hosts_run *run, unsigned host, unsigned key) {
    struct hosts_row *row = &run->board->rows[key];
    struct hosts_claim left = {0};
    hosts_lock(row);
    for (unsigned other = 0; other < run->plan.hosts; other++) {
        if (other == host)
            continue;
        hosts_claim_put(&left, row->known[other].put, row->known[other].ends_ms);
        hosts_claim_deleted(&left, row->known[other].deleted);
    }
    if (left.put < row->claim.put && row->lost < row->claim.put)
        row->lost = row->claim.put;
    if (left.deleted < row->claim.deleted && row->lost < row->claim.deleted)
        row->lost = row->claim.deleted;
    row->claim = left;
    row->known[host] = (struct hosts_claim){0};
    row->least[host] = 0;
    hosts_unlock(row);
}

void hosts_forget(struct hosts_run *run, unsigned host) {
    for (unsigned other = 0; other < run->plan.hosts; other++)
        look_at_host(run, other);
    atomic_fetch_add(&run->board->wipes, 1);
    atomic_store(&run->board->wiped[host], 1);
    forget_flush(run, host);
    for (unsigned key = 0; key < run->plan.keys; key++)
        forget_key(run, host, key);
}

/* ---- rest -------------------------------------------------------------------------------------------------------- */

/* Entries sent since these daemons were started. UINT64_MAX: not all are in step, settled and acknowledged. */
static uint64_t sent_at_rest(struct hosts_run *run) {
    uint64_t sent = 0;
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        struct hosts_answer answer;
        struct lr_sidecar_state state;
        if (!hosts_daemon_ask(run, host, &answer) || answer.peers != run->plan.hosts - 1 ||
            answer.live != answer.peers || answer.unacked != 0 || answer.resync != 0 || answer.unsettled != 0)
            return UINT64_MAX;
        lr_sidecar_state(run->hosts[host].cache, &state);
        if (!lr_sidecar_has_sent(&state))
            return UINT64_MAX;
        sent += answer.sent;
    }
    return sent;
}

bool hosts_rest(struct hosts_run *run, unsigned patience_ms) {
    uint64_t before = UINT64_MAX, end_ns = fixture_now_ns() + patience_ms * UINT64_C(1000000);
    unsigned alike = 0;
    while (alike < 3 && fixture_now_ns() < end_ns && !hosts_failed(run)) {
        fixture_sleep_ms(TURN_MS);
        hosts_daemons_look(run);
        uint64_t sent = sent_at_rest(run);
        alike = sent != UINT64_MAX && sent == before ? alike + 1 : 0;
        before = sent;
    }
    if (alike >= 3 || hosts_failed(run))
        return !hosts_failed(run);
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        struct hosts_answer answer;
        if (!hosts_daemon_ask(run, host, &answer))
            hosts_fail(run->board, "host %u: its larderd does not answer", host);
        else if (answer.live != run->plan.hosts - 1 || answer.unacked != 0 || answer.resync != 0 ||
                 answer.unsettled != 0)
            hosts_fail(run->board,
                       "host %u is not at rest after %u s: %u of %u peers in step, %" PRIu64
                       " changes unacknowledged, %" PRIu64 " stripes to be walked, %" PRIu64 " ranges to be settled",
                       host, patience_ms / 1000, answer.live, run->plan.hosts - 1, answer.unacked, answer.resync,
                       answer.unsettled);
    }
    hosts_fail(run->board, "the hosts do not come to rest within %u s", patience_ms / 1000);
    return false;
}

/* On a busy machine a link may have been silent for too long, and is made again. */
static uint64_t sent_again_at_rest(struct hosts_run *run) {
    uint64_t sent = sent_at_rest(run);
    if (sent == UINT64_MAX && hosts_rest(run, AGAIN_MS))
        sent = sent_at_rest(run);
    return sent;
}

/* Nobody has anything to send any more. What hosts that evict compare changes what they compare next. */
static void judge_silence(struct hosts_run *run) {
    const unsigned wait_ms = run->plan.rounds > 0 ? ROUND_MS : QUIET_MS;
    unsigned most = run->plan.rounds + (run->plan.complete ? 1 : ROUNDS_MOST);
    uint64_t before = UINT64_MAX, sent = sent_again_at_rest(run);
    for (unsigned round = 0; round < most && sent != before; round++) {
        before = sent;
        for (unsigned ms = 0; ms < wait_ms; ms += TURN_MS) {
            fixture_sleep_ms(TURN_MS);
            hosts_daemons_look(run);
        }
        sent = sent_again_at_rest(run);
    }
    if (sent != before)
        hosts_fail(run->board, "%" PRIu64 " entries were sent though nobody wrote", sent - before);
}

/* ---- what is held ------------------------------------------------------------------------------------------------ */

/* Has the host a reason to lack this version? */
static bool is_excused(const struct hosts_run *run, unsigned host, unsigned key, uint64_t version) {
    struct lr_cache *cache = run->hosts[host].cache;
    const uint64_t hash = hash_of(key);
    const struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, lr_place(cache, hash)));
    return lr_load(&view.stripe->range_floor[lr_range_of(hash)]) >= version || lr_void_of(&view, hash) >= version ||
           tombstone_of(run, host, key) >= version || lr_flush_version(cache) >= version;
}

/* Who lacks the newest value must have forgotten or declined it; if nobody has it any more, one must. */
static void judge_absence(struct hosts_run *run, unsigned key, const uint64_t versions[HOSTS_MOST], uint64_t newest) {
    const struct hosts_row *row = &run->board->rows[key];
    const struct hosts_claim *claim = &row->claim;
    uint64_t now_ms = lr_now_ms(run->hosts[0].cache);
    bool lives = claim->put > claim->deleted && claim->put > atomic_load(&run->board->flush) &&
                 (claim->ends_ms == HOSTS_NEVER || claim->ends_ms > now_ms + LIVES_MS);
    bool anybody = false;
    for (unsigned host = 0; host < run->plan.hosts; host++)
        anybody |= is_excused(run, host, key, claim->put);
    for (unsigned host = 0; host < run->plan.hosts && lives; host++) {
        if (versions[host] != 0)
            continue;
        if (run->plan.complete && row->lost < claim->put)
            hosts_fail(run->board, "host %u lacks key %u, version %" PRIx64 ", though nothing was evicted or expired",
                       host, key, claim->put);
        else if (newest == 0 ? !anybody : !is_excused(run, host, key, claim->put))
            hosts_fail(run->board, "host %u lacks key %u, version %" PRIx64 ", and has no reason", host, key,
                       claim->put);
    }
}

static void judge_key(struct hosts_run *run, unsigned key) {
    const struct hosts_row *row = &run->board->rows[key];
    uint64_t versions[HOSTS_MOST] = {0}, contents[HOSTS_MOST] = {0}, newest = 0, content = 0;
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        struct hosts_user eye = hosts_eye(run, host);
        versions[host] = hosts_look(&eye, key, LR_PEEK, &contents[host]);
        content = versions[host] > newest ? contents[host] : content;
        newest = versions[host] > newest ? versions[host] : newest;
    }
    for (unsigned host = 0; host < run->plan.hosts; host++)
        if (versions[host] != 0 && (versions[host] != newest || contents[host] != content))
            hosts_fail(run->board,
                       "key %u: host %u holds version %" PRIx64 " of %" PRIx64 ", another %" PRIx64 " of %" PRIx64, key,
                       host, versions[host], contents[host], newest, content);
    if (newest != 0 && newest == row->blind)
        return;
    if (newest != 0 && newest <= row->claim.deleted)
        hosts_fail(run->board, "key %u is back: version %" PRIx64 ", deleted at %" PRIx64, key, newest,
                   row->claim.deleted);
    if (newest != 0 && newest < row->claim.put)
        hosts_fail(run->board, "key %u: version %" PRIx64 " is held, but %" PRIx64 " was acknowledged", key, newest,
                   row->claim.put);
    if (newest > row->claim.put && newest > row->lost)
        hosts_fail(run->board, "key %u: version %" PRIx64 " is above all that was written: %" PRIx64, key, newest,
                   row->claim.put);
    judge_absence(run, key, versions, newest);
}

static void judge_digests(struct hosts_run *run) {
    struct lr_digest first = {0}, digest;
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        lr_digest(run->hosts[host].cache, &digest);
        if (host == 0)
            first = digest;
        else if (digest.sum != first.sum || digest.items != first.items)
            hosts_fail(run->board, "hosts 0 and %u have different digests, though nothing was evicted or expired",
                       host);
    }
    hosts_log(run, "%" PRIu64 " items on host 0", first.items);
}

static void judge_flushes(struct hosts_run *run) {
    uint64_t flush = atomic_load(&run->board->flush), first = lr_flush_version(run->hosts[0].cache);
    if (first > flush && first <= atomic_load(&run->board->lost_flush))
        flush = first; /* it was on its way when its host lost its segment */
    atomic_store(&run->board->flush, flush);
    for (unsigned host = 0; host < run->plan.hosts; host++)
        if (lr_flush_version(run->hosts[host].cache) != flush)
            hosts_fail(run->board, "host %u was flushed up to %" PRIx64 ", the highest flush is %" PRIx64, host,
                       lr_flush_version(run->hosts[host].cache), flush);
}

static void judge_descriptors(struct hosts_run *run) {
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        unsigned now = 0;
        for (unsigned ms = 0; ms < DESCRIPTORS_MS; ms += TURN_MS, fixture_sleep_ms(TURN_MS))
            if ((now = hosts_daemon_descriptors(run, host)) <= run->hosts[host].descriptors)
                break;
        if (now > run->hosts[host].descriptors)
            hosts_fail(run->board, "host %u: its larderd has %u descriptors, and had %u when it first was at rest",
                       host, now, run->hosts[host].descriptors);
    }
}

void hosts_judge(struct hosts_run *run) {
    judge_silence(run);
    if (hosts_failed(run))
        return;
    judge_flushes(run);
    for (unsigned key = 0; key < run->plan.keys; key++)
        judge_key(run, key);
    if (run->plan.complete)
        judge_digests(run);
    judge_descriptors(run);
}

/* ---- what is kept ------------------------------------------------------------------------------------------------ */

void hosts_snapshot_take(struct hosts_run *run, struct hosts_snapshot *out) {
    uint64_t content;
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        struct hosts_user eye = hosts_eye(run, host);
        for (unsigned key = 0; key < run->plan.keys; key++)
            out->versions[host][key] = hosts_look(&eye, key, LR_PEEK, &content);
    }
}

void hosts_snapshot_compare(struct hosts_run *run, const struct hosts_snapshot *before, uint64_t puts) {
    uint64_t content;
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        struct hosts_user eye = hosts_eye(run, host);
        uint64_t held = 0, kept = 0;
        for (unsigned key = 0; key < run->plan.keys; key++) {
            const struct hosts_claim *claim = &run->board->rows[key].claim;
            uint64_t version = before->versions[host][key];
            if (version == 0 || version != claim->put || version <= claim->deleted)
                continue;
            held++;
            kept += hosts_look(&eye, key, LR_PEEK, &content) == version;
        }
        hosts_log(run, "host %u: of %" PRIu64 " unchanged entries it holds %" PRIu64, host, held, kept);
        /* What is new here, of twice the usual size at most, may have taken the place of two. */
        if (kept + 2 * puts < held * KEPT_PERCENT / 100)
            hosts_fail(run->board, "host %u holds %" PRIu64 " of %" PRIu64 " entries that nobody changed", host, kept,
                       held);
    }
}
