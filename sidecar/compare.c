/* SPDX-License-Identifier: MIT */
/*
 * Anti-entropy: do two hosts hold the same, and if not, what does one lack?
 *
 * Changes travel by hints; this is for what they cannot tell: a larderd that was started anew and knows nothing of its
 * peers, a host that was away for longer than the rings reach back, an error of ours. Who lacks something pulls it:
 *
 *   asks                                                        answers
 *      <------------------------------------------------ SUMS     one sum for each of 256 ranges of hashes
 *   ranges that differ         ASK ----------------------->       walks its segment, unless bits is 0
 *   walks its own as well    <--------------------------- SUBS    2^bits finer sums for each of those ranges
 *   parts that differ         PICK ----------------------->       walks again, that much
 *   looks each up            <--------------------------- ROWS    {hash, version} of what it holds there
 *   what it lacks             PULL ----------------------->       sends those entries, for free room only
 *                            <----------------------- COMPARED
 *
 * So what is sent is 2 KiB if all is equal, and else half a byte to a byte for each entry held, some 200 bytes for each
 * part that differs, and the entries that are lacking. (The idea of hash trees, R. Merkle, 1987, on sums, which can be
 * kept up to date without a tree; as in G. DeCandia et al., "Dynamo", 2007.)
 *
 * Rules:
 *  1. Lacking is: held in an older version, or absent and above the range's floor. What this host has evicted lies at
 *     or below its floor, so it is not fetched again and again; nor because a tombstone of what is older came since.
 *  2. Hosts under memory pressure differ for ever. A range whose two sums are those of its last comparison is left
 *     alone; so is one that is just changing, for STILL_ROUNDS: the hints will tell.
 *  3. Each side does one comparison at a time in each role. Each frame of ROWS is answered by one PULL. OPEN_ROWS of
 *     them are under way at once: while the one side looks up the rows of one, the other sends what was asked for of
 *     the one before, and gathers the next.
 *  4. Walks take no lock. What changes meanwhile is reported as a difference at worst, and then found to be none.
 *  5. Sums know nothing of tombstones. A host that joins is sent all of them, for through a relay that never held a
 *     deleted value it would come back from behind. They come last, since one without room raises the floor there; the
 *     walk that gathers the rows notes in which stripes there are any. So it is with what has expired and is not swept
 *     yet: no sum has it, and once the comparison is acknowledged nobody would be told.
 *  6. What is not shared (keys of the modes invalidate and local) is in no sum and no row: two hosts that hold
 * different fills of a key are equal. A host that joins is told of each such item that what is older is over, for it
 * may have missed the change that our item came after.
 *  7. Who is being sent everything that was here when the link opened is asked when that is done. By then most of it
 * is the same on both sides; before, each entry on its way would be listed to us, and looked up. But two that both join
 * do not wait for each other.
 *  8. A comparison that the link's end cuts off has done no harm. The next link begins anew.
 *  9. Of two hosts that ask each other and hold very different numbers of items, who holds fewer lists its own when it
 *     has been answered: it is busy until then, and a walk meets stripes again in which words move, as they do where
 *     entries arrive. The other waits for nothing but that.
 *
 * A host joins (a peer of whom nothing is known): if it says that it holds much, everything is not sent to it. The
 * comparison takes the place of the walk, and what the acknowledgement of the walk would mean, that of the
 * comparison's last batch means.
 */
#include "log.h"
#include "node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLICE_ENTRIES 2048u
#define STILL_ROUNDS 6u /* a range that changes all the time is compared in every sixth round nevertheless */
#define MOST_BITS 12u
#define PART_ENTRIES 16u /* entries of a part, about */
#define FRAME_WORDS WIRE_MAX_HASHES
#define OPEN_ROWS 2u
#define FETCH_LINES 24u /* ahead of what is looked up: its index lines, its header, its value */
#define FETCH_BLOCKS 8u
#define FETCH_VALUES 2u

enum asking { ASK_NOTHING, ASK_DUE, ASK_SUMMING, ASK_PICKING, ASK_PULLING };
enum answering {
    ANSWER_NOTHING,
    ANSWER_BORROWING, /* the sums of our own question, which are being made */
    ANSWER_SUMMING,
    ANSWER_SUBS,
    ANSWER_PICK,
    ANSWER_EXCHANGING,
    ANSWER_DELETED
};

/* One frame of rows that was sent, and what the peer asked for of it. */
struct open_rows {
    bool pulled;        /* it has asked */
    uint64_t from;      /* what was to be walked before the rows were gathered */
    uint32_t count, at; /* of the hashes */
    uint64_t hashes[FRAME_WORDS / 2];
};

/* Which ranges, and how finely each is divided. */
struct parts {
    uint64_t ranges[WIRE_RANGES / 64];
    unsigned bits;
    uint32_t count;               /* of all parts */
    uint16_t before[WIRE_RANGES]; /* of these ranges, those below this one */
};

struct lr_compare {
    struct {
        enum asking state;
        struct parts parts;
        uint64_t *mine, *theirs; /* a sum for each part */
        bool walks;              /* our sums are made by a walk of their own */
        bool summed, heard;      /* ours are complete, theirs are */
        bool joins;              /* it stands for the walk of all that the peer has */
        uint32_t sent;           /* words of the bitmap of parts that differ */
        struct lr_scan scan;
        uint64_t rows, pulled, differing; /* parts */
    } ask;
    struct {
        enum answering state;
        struct parts parts;
        uint64_t *sums; /* a sum for each part, then a bit for each */
        uint32_t sent;
        struct lr_scan scan;
        uint64_t words[FRAME_WORDS]; /* rows that are being gathered, or wait to be sent */
        uint32_t count;
        uint64_t from;    /* what was to be walked before these rows were gathered */
        bool ready, last; /* they may go; the walk is at its end */
        bool later;       /* rule 9: the walk waits until we have been answered */
        struct open_rows open[OPEN_ROWS];
        unsigned first_open, opened; /* a ring */
        uint32_t first_told,
            last_told; /* stripes in which, and in those between, rules 5 and 6 have something to tell */
    } answer;
    uint64_t next_ms;
    uint64_t told[WIRE_RANGES], mine[WIRE_RANGES];                 /* of the last round */
    uint64_t settled_told[WIRE_RANGES], settled_mine[WIRE_RANGES]; /* of the last comparison */
    uint8_t changing[WIRE_RANGES];                                 /* rounds */
};

/* ---- parts ------------------------------------------------------------------------------------------------------ */

static unsigned range_of(uint64_t hash) {
    return (unsigned)(hash >> 56);
}

static bool has_range(const struct parts *parts, unsigned range) {
    return (parts->ranges[range / 64] >> (range % 64) & 1) != 0;
}

static void set_parts(struct parts *parts, const uint64_t ranges[WIRE_RANGES / 64], unsigned bits) {
    unsigned count = 0;
    memcpy(parts->ranges, ranges, sizeof parts->ranges);
    for (unsigned i = 0; i < WIRE_RANGES; i++) {
        parts->before[i] = (uint16_t)count;
        count += has_range(parts, i);
    }
    parts->bits = bits;
    parts->count = count << bits;
}

/* The number of the hash's part; its range must be among the parts. */
static uint32_t part_of(const struct parts *parts, uint64_t hash) {
    return ((uint32_t)parts->before[range_of(hash)] << parts->bits) + (uint32_t)(hash << 8 >> 8 >> (56 - parts->bits));
}

static uint32_t bitmap_words(const struct parts *parts) {
    return (parts->count + 63) / 64;
}

/* Whether the sums of `held` are those of `wanted` as well. */
static bool has_sums(const struct parts *held, const struct parts *wanted) {
    uint64_t missing = 0;
    for (unsigned i = 0; i < WIRE_RANGES / 64; i++)
        missing |= wanted->ranges[i] & ~held->ranges[i];
    return missing == 0 && wanted->bits == held->bits;
}

static void copy_sums(const struct parts *held, const uint64_t *sums, const struct parts *wanted, uint64_t *copy) {
    for (unsigned range = 0; range < WIRE_RANGES; range++)
        if (has_range(wanted, range))
            memcpy(copy + ((size_t)wanted->before[range] << wanted->bits),
                   sums + ((size_t)held->before[range] << held->bits), sizeof *sums << held->bits);
}

/* The sums of whole ranges are kept. False: the parts are finer. */
static bool take_kept_sums(struct lr_cache *cache, const struct parts *parts, uint64_t *sums) {
    for (unsigned range = 0; parts->bits == 0 && range < WIRE_RANGES; range++) {
        struct lr_range kept;
        if (!has_range(parts, range))
            continue;
        lr_range_get(cache, range, &kept);
        sums[parts->before[range]] = kept.sum;
    }
    return parts->bits == 0;
}

/* A bounded piece of a walk that adds up what is held. True: done. */
static bool add_up(struct lr_peer *peer, const struct parts *parts, struct lr_scan *scan, uint64_t *sums) {
    struct lr_node *node = peer->node;
    for (unsigned i = 0; i < SLICE_ENTRIES; i++) {
        struct lr_entry entry;
        int result = lr_scan_next(node->cache, scan, node->entry, node->entry_cap, &entry);
        peer->out.looked_at++;
        if (result == LARDER_EBUSY)
            continue;
        if (result != 0)
            return true;
        if (!entry.tombstone && entry.kind == LR_SHARED && has_range(parts, range_of(entry.hash)))
            sums[part_of(parts, entry.hash)] += lr_entry_term(entry.hash, entry.version);
    }
    return false;
}

/* Part of the outflow's window, and not acknowledged but by the marks around it. False: there is no room now. */
static bool send_words(struct lr_peer *peer, enum wire_type type, unsigned flags, const uint64_t *words,
                       uint32_t count) {
    size_t bytes = WIRE_HEADER + (size_t)count * 8;
    uint8_t *at = lr_outflow_room(peer, bytes) ? lr_outflow_reserve(peer, bytes) : NULL;
    if (at == NULL)
        return false;
    peer->out.batch_len += wire_encode_words(at, bytes, type, flags, words, count);
    lr_outflow_mark(peer, (struct lr_sent){.kind = LR_SENT_BYTES});
    return true;
}

/* Sends words[*sent, all) in frames that begin with the number of their first word. False: not all yet. */
static bool send_array(struct lr_peer *peer, enum wire_type type, const uint64_t *words, uint32_t all, uint32_t *sent) {
    uint64_t frame[FRAME_WORDS];
    bool last;
    do {
        uint32_t count = all - *sent < FRAME_WORDS - 1 ? all - *sent : FRAME_WORDS - 1;
        last = *sent + count == all;
        frame[0] = *sent;
        memcpy(frame + 1, words + *sent, count * sizeof *words);
        if (!send_words(peer, type, last ? WIRE_LAST : 0, frame, count + 1))
            return false;
        *sent += count;
    } while (!last);
    return true;
}

/* Takes such a frame into words[0, all), which were filled up to *filled. False: it does not fit there. */
static bool take_array(const struct wire_frame *frame, uint64_t *words, uint32_t all, uint32_t *filled) {
    const uint32_t count = frame->as.rows.count - 1;
    if (wire_word_at(frame, 0) != *filled || count > all - *filled)
        return false;
    for (uint32_t i = 0; i < count; i++)
        words[(*filled)++] = wire_word_at(frame, i + 1);
    return (frame->flags & WIRE_LAST) == 0 || *filled == all;
}

/* ---- asking ----------------------------------------------------------------------------------------------------- */

static void stop_asking(struct lr_compare *compare) {
    free(compare->ask.mine);
    free(compare->ask.theirs);
    memset(&compare->ask, 0, sizeof compare->ask);
}

/* Whether the numbers of items alone say that most parts differ. */
static bool most_differ(uint64_t mine, uint64_t theirs) {
    const uint64_t most = mine > theirs ? mine : theirs, fewest = mine > theirs ? theirs : mine;
    return most - fewest >= most / PART_ENTRIES;
}

/* The same on both sides, more or less: then who asks as well makes the sums for both in one walk. Where most parts
 * differ anyway, finer sums than those of the ranges would tell nothing. */
static unsigned bits_for(uint64_t mine, uint64_t theirs) {
    const uint64_t most = mine > theirs ? mine : theirs;
    unsigned bits = 0;
    while (!most_differ(mine, theirs) && bits < MOST_BITS && (UINT64_C(1) << bits) * WIRE_RANGES * PART_ENTRIES < most)
        bits++;
    return bits;
}

static void begin_asking(struct lr_peer *peer) {
    struct lr_compare *compare = peer->compare;
    uint64_t ranges[WIRE_RANGES / 64];
    struct lr_stat stat;
    memcpy(ranges, compare->ask.parts.ranges, sizeof ranges);
    lr_stat(peer->node->cache, &stat);
    set_parts(&compare->ask.parts, ranges, bits_for(stat.items, peer->items));
    compare->ask.mine = calloc(compare->ask.parts.count + 1, sizeof(uint64_t));
    compare->ask.theirs = calloc(compare->ask.parts.count + 1, sizeof(uint64_t));
    uint8_t frame[WIRE_HEADER + 40];
    uint64_t words[5] = {ranges[0], ranges[1], ranges[2], ranges[3], compare->ask.parts.bits};
    if (compare->ask.mine == NULL || compare->ask.theirs == NULL) {
        stop_asking(compare);
        lr_log(LR_ERROR, "peer %s: cannot be compared with: out of memory", peer->address);
        lr_link_close(peer->link, WIRE_BYE_FAILED, "out of memory"); /* who joins waits for the question */
        return;
    }
    compare->ask.scan = lr_scan_all(peer->node->cache);
    compare->ask.scan.keys = true;
    compare->ask.summed = take_kept_sums(peer->node->cache, &compare->ask.parts, compare->ask.mine);
    compare->ask.state = ASK_SUMMING;
    peer->comparisons++;
    lr_link_send(peer->link, frame, wire_encode_words(frame, sizeof frame, WIRE_ASK, 0, words, 5));
}

/* Rule 2. */
static bool is_worth_it(struct lr_compare *compare, unsigned range, uint64_t told, uint64_t mine) {
    if (told == mine || (told == compare->settled_told[range] && mine == compare->settled_mine[range])) {
        compare->changing[range] = 0;
        return false;
    }
    bool still = told == compare->told[range] && mine == compare->mine[range];
    return still || ++compare->changing[range] % STILL_ROUNDS == 0;
}

static void take_sums(struct lr_peer *peer, const struct wire_frame *frame) {
    struct lr_compare *compare = peer->compare;
    const bool joins = (frame->flags & WIRE_JOIN) != 0;
    uint64_t ranges[WIRE_RANGES / 64] = {0};
    bool any = false;
    if (!joins && (compare->ask.state != ASK_NOTHING || peer->state != LR_PEER_LIVE))
        return;
    for (unsigned i = 0; i < WIRE_RANGES; i++) {
        struct lr_range range;
        lr_range_get(peer->node->cache, i, &range);
        const uint64_t told = wire_word_at(frame, i);
        if (joins ? told != range.sum : is_worth_it(compare, i, told, range.sum)) {
            ranges[i / 64] |= UINT64_C(1) << (i % 64);
            any = true;
        }
        compare->told[i] = told;
        compare->mine[i] = range.sum;
    }
    if (!joins && !any)
        return;
    stop_asking(compare);
    set_parts(&compare->ask.parts, ranges, 0);
    compare->ask.joins = joins;
    compare->ask.state = ASK_DUE;
}

/* The bitmap of the parts that differ, in place of our sums. */
static void mark_differing(struct lr_compare *compare) {
    uint64_t *bitmap = compare->ask.mine; /* word i / 64 is not behind sum i */
    for (uint32_t i = 0; i < compare->ask.parts.count; i++) {
        bool differs = compare->ask.mine[i] != compare->ask.theirs[i];
        if (i % 64 == 0)
            bitmap[i / 64] = 0;
        bitmap[i / 64] |= (uint64_t)differs << (i % 64);
        compare->ask.differing += differs;
    }
}

/* Both sides often ask at the same time. Then one walk adds up for both: this is whose sums are made second. */
static bool sum_for_us(struct lr_peer *peer) {
    struct lr_compare *compare = peer->compare;
    const enum answering state = compare->answer.state;
    const bool made = state == ANSWER_SUBS || (state == ANSWER_PICK && compare->answer.sent == 0);
    if (!compare->ask.walks && (made || state == ANSWER_SUMMING) &&
        has_sums(&compare->answer.parts, &compare->ask.parts)) {
        if (!made)
            return false;
        copy_sums(&compare->answer.parts, compare->answer.sums, &compare->ask.parts, compare->ask.mine);
        compare->ask.summed = true;
        return true;
    }
    compare->ask.walks = true;
    compare->ask.summed = add_up(peer, &compare->ask.parts, &compare->ask.scan, compare->ask.mine);
    return true;
}

static bool ask_step(struct lr_peer *peer) {
    struct lr_compare *compare = peer->compare;
    switch (compare->ask.state) {
    case ASK_DUE:
        if (!lr_outflow_is_even(peer))
            return false;
        begin_asking(peer);
        return true;
    case ASK_SUMMING:
        if (!compare->ask.summed)
            return sum_for_us(peer);
        if (!compare->ask.heard)
            return false;
        mark_differing(compare);
        compare->ask.sent = 0;
        compare->ask.state = ASK_PICKING;
        return true;
    case ASK_PICKING:
        if (send_array(peer, WIRE_PICK, compare->ask.mine, bitmap_words(&compare->ask.parts), &compare->ask.sent))
            compare->ask.state = ASK_PULLING;
        return false;
    default:
        return false;
    }
}

/* Most of looking a row up is waiting for memory. */
static void fetch_rows(const struct lr_cache *cache, const struct wire_frame *frame, uint32_t i) {
    const uint32_t left = frame->as.rows.count - i;
    if (left > 2 * FETCH_LINES)
        lr_entry_prefetch(cache, wire_word_at(frame, i + 2 * FETCH_LINES));
    if (left > 2 * FETCH_BLOCKS)
        lr_entry_prefetch_block(cache, wire_word_at(frame, i + 2 * FETCH_BLOCKS));
}

static void take_rows(struct lr_peer *peer, const struct wire_frame *frame) {
    struct lr_compare *compare = peer->compare;
    struct lr_node *node = peer->node;
    uint64_t words[FRAME_WORDS / 2];
    uint8_t bytes[WIRE_HEADER + sizeof words];
    uint32_t count = 0;
    for (uint32_t i = 0; i + 1 < frame->as.rows.count; i += 2) {
        const uint64_t hash = wire_word_at(frame, i), version = wire_word_at(frame, i + 1);
        compare->ask.rows++;
        fetch_rows(node->cache, frame, i);
        if (lr_lacks(node->cache, hash, version, compare->ask.joins, node->entry, node->entry_cap))
            words[count++] = hash;
    }
    compare->ask.pulled += count;
    lr_link_send(peer->link, bytes, wire_encode_words(bytes, sizeof bytes, WIRE_PULL, 0, words, count));
}

static void take_compared(struct lr_peer *peer) {
    struct lr_compare *compare = peer->compare;
    for (unsigned i = 0; i < WIRE_RANGES; i++) {
        struct lr_range range;
        if (!has_range(&compare->ask.parts, i))
            continue;
        lr_range_get(peer->node->cache, i, &range);
        compare->settled_told[i] = compare->told[i];
        compare->settled_mine[i] = range.sum;
        compare->changing[i] = 0;
    }
    peer->pulled += compare->ask.pulled;
    lr_log(compare->ask.pulled > 0 ? LR_INFO : LR_DEBUG,
           "peer %s: compared parts=%u entries looked at=%llu lacking=%llu", peer->address, compare->ask.parts.count,
           (unsigned long long)compare->ask.rows, (unsigned long long)compare->ask.pulled);
    stop_asking(compare);
}

/* ---- answering -------------------------------------------------------------------------------------------------- */

static void stop_answering(struct lr_compare *compare) {
    free(compare->answer.sums);
    memset(&compare->answer, 0, sizeof compare->answer);
}

static bool take_ask(struct lr_peer *peer, const struct wire_frame *frame) {
    struct lr_compare *compare = peer->compare;
    uint64_t ranges[WIRE_RANGES / 64];
    for (unsigned i = 0; i < WIRE_RANGES / 64; i++)
        ranges[i] = wire_word_at(frame, i);
    const uint64_t bits = wire_word_at(frame, WIRE_RANGES / 64);
    if (bits > MOST_BITS)
        return false;
    stop_answering(compare);
    set_parts(&compare->answer.parts, ranges, (unsigned)bits);
    compare->answer.sums = calloc(compare->answer.parts.count + 1, sizeof(uint64_t));
    if (compare->answer.sums == NULL)
        return false;
    compare->answer.first_told = UINT32_MAX;
    compare->answer.state = take_kept_sums(peer->node->cache, &compare->answer.parts, compare->answer.sums)
                                ? ANSWER_SUBS
                                : ANSWER_BORROWING;
    return true;
}

/* The sums for the peer's question are those of our own, if they are being made; else they are made by a walk. */
static bool sum_for_peer(struct lr_peer *peer) {
    struct lr_compare *compare = peer->compare;
    if (compare->ask.state != ASK_SUMMING || !has_sums(&compare->ask.parts, &compare->answer.parts)) {
        compare->answer.scan = lr_scan_all(peer->node->cache);
        compare->answer.scan.keys = true;
        compare->answer.state = ANSWER_SUMMING;
        return true;
    }
    if (!compare->ask.summed)
        return false;
    copy_sums(&compare->ask.parts, compare->ask.mine, &compare->answer.parts, compare->answer.sums);
    compare->answer.state = ANSWER_SUBS;
    return true;
}

static void begin_rows(struct lr_compare *compare) {
    compare->answer.count = 0;
    compare->answer.ready = false;
    compare->answer.from = lr_scan_left(&compare->answer.scan);
}

/* The i-th of those under way, the oldest first. */
static struct open_rows *open_at(struct lr_compare *compare, unsigned i) {
    return &compare->answer.open[(compare->answer.first_open + i) % OPEN_ROWS];
}

static bool take_pick(struct lr_peer *peer, const struct wire_frame *frame) {
    struct lr_compare *compare = peer->compare;
    if (!take_array(frame, compare->answer.sums, bitmap_words(&compare->answer.parts), &compare->answer.sent))
        return false;
    if ((frame->flags & WIRE_LAST) != 0) {
        compare->answer.scan = lr_scan_all(peer->node->cache);
        compare->answer.scan.traces = compare->answer.scan.keys = true;
        compare->answer.state = ANSWER_EXCHANGING;
        /* By what both said when the link opened, so that not both wait. */
        compare->answer.later =
            peer->link->said_items < peer->items && most_differ(peer->link->said_items, peer->items);
        begin_rows(compare);
    }
    return true;
}

/* It answers the oldest rows that are not answered. */
static bool take_pull(struct lr_compare *compare, const struct wire_frame *frame) {
    unsigned i = 0;
    while (i < compare->answer.opened && open_at(compare, i)->pulled)
        i++;
    if (i == compare->answer.opened || frame->as.rows.count > FRAME_WORDS / 2)
        return false;
    struct open_rows *rows = open_at(compare, i);
    rows->count = frame->as.rows.count;
    for (uint32_t k = 0; k < rows->count; k++)
        rows->hashes[k] = wire_word_at(frame, k);
    rows->pulled = true;
    return true;
}

/* Rules 5 and 6. */
static bool is_told(const struct lr_entry *entry) {
    return entry->tombstone || entry->kind != LR_SHARED;
}

/* A walk that looks for these need not look elsewhere: what comes to be since has its hint. */
static void note_told(struct lr_compare *compare, const struct lr_entry *entry) {
    if (!is_told(entry))
        return;
    if (compare->answer.first_told > entry->stripe)
        compare->answer.first_told = entry->stripe;
    compare->answer.last_told = entry->stripe;
}

/* A bounded piece of the walk that gathers one frame of rows. True: it is ready. */
static bool list(struct lr_peer *peer) {
    struct lr_compare *compare = peer->compare;
    struct lr_node *node = peer->node;
    for (unsigned i = 0; i < SLICE_ENTRIES && compare->answer.count < FRAME_WORDS; i++) {
        struct lr_entry entry;
        int result = lr_scan_next(node->cache, &compare->answer.scan, node->entry, node->entry_cap, &entry);
        peer->out.looked_at++;
        if (result == LARDER_EBUSY)
            continue;
        compare->answer.last = result != 0;
        if (result != 0)
            return true;
        note_told(compare, &entry);
        if (entry.kind != LR_SHARED || !has_range(&compare->answer.parts, range_of(entry.hash)))
            continue;
        uint32_t part = part_of(&compare->answer.parts, entry.hash);
        if ((compare->answer.sums[part / 64] >> (part % 64) & 1) == 0)
            continue;
        compare->answer.words[compare->answer.count++] = entry.hash;
        compare->answer.words[compare->answer.count++] = entry.version;
    }
    return compare->answer.count == FRAME_WORDS;
}

/* And so is most of reading an entry that was asked for. */
static void fetch_answers(const struct lr_cache *cache, const struct open_rows *rows) {
    const uint64_t *next = &rows->hashes[rows->at];
    const uint32_t left = rows->count - rows->at;
    if (left > FETCH_LINES)
        lr_entry_prefetch(cache, next[FETCH_LINES]);
    if (left > FETCH_BLOCKS)
        lr_entry_prefetch_block(cache, next[FETCH_BLOCKS]);
    if (left > FETCH_VALUES)
        lr_entry_prefetch_value(cache, next[FETCH_VALUES]);
}

/* Sends what was asked for of the oldest rows. True: all of it, and they are done with. */
static bool serve(struct lr_peer *peer) {
    struct lr_compare *compare = peer->compare;
    struct open_rows *rows = open_at(compare, 0);
    while (rows->at < rows->count) {
        fetch_answers(peer->node->cache, rows);
        if (!lr_outflow_give_hash(peer, rows->hashes[rows->at]))
            return false;
        rows->at++;
    }
    compare->answer.first_open++;
    compare->answer.opened--;
    return true;
}

static bool send_rows(struct lr_peer *peer) {
    struct lr_compare *compare = peer->compare;
    if (!send_words(peer, WIRE_ROWS, 0, compare->answer.words, compare->answer.count))
        return false;
    struct open_rows *rows = open_at(compare, compare->answer.opened++);
    rows->pulled = false;
    rows->from = compare->answer.from;
    rows->count = rows->at = 0;
    begin_rows(compare);
    return true;
}

/* Rule 3. The peer's next rows come first, or it would wait for them. True: there may be more to do at once. */
static bool exchange(struct lr_peer *peer) {
    struct lr_compare *compare = peer->compare;
    if (compare->answer.ready && compare->answer.opened < OPEN_ROWS && send_rows(peer))
        return true;
    if (compare->answer.opened > 0 && open_at(compare, 0)->pulled && serve(peer))
        return true;
    compare->answer.later &= compare->ask.state >= ASK_SUMMING; /* rule 9 */
    if (!compare->answer.ready && !compare->answer.last && !compare->answer.later) {
        compare->answer.ready = list(peer);
        return true;
    }
    return false;
}

/* Rules 5 and 6: a bounded piece of the walk that sends tombstones. True: all of them; else *more says whether there is
 * room. */
static bool tell_deleted(struct lr_peer *peer, bool *more) {
    struct lr_node *node = peer->node;
    struct lr_scan *scan = &peer->compare->answer.scan;
    for (unsigned i = 0; i < SLICE_ENTRIES; i++) {
        const struct lr_scan before = *scan;
        struct lr_entry entry;
        int result = lr_scan_next(node->cache, scan, node->entry, node->entry_cap, &entry);
        peer->out.looked_at++;
        if (result == LARDER_EBUSY)
            continue;
        if (result != 0)
            return true;
        if (is_told(&entry) && !lr_outflow_give_tombstone(peer, &entry)) {
            *scan = before;
            *more = false;
            return false;
        }
    }
    *more = true;
    return false;
}

static struct lr_scan told_stripes(const struct lr_compare *compare) {
    const bool any = compare->answer.first_told != UINT32_MAX;
    return (struct lr_scan){.traces = true,
                            .keys = true,
                            .stripe = any ? compare->answer.first_told : 1,
                            .last_stripe = any ? compare->answer.last_told : 0};
}

static bool answer_step(struct lr_peer *peer) {
    struct lr_compare *compare = peer->compare;
    bool more = true;
    switch (compare->answer.state) {
    case ANSWER_BORROWING:
        return sum_for_peer(peer);
    case ANSWER_SUMMING:
        if (add_up(peer, &compare->answer.parts, &compare->answer.scan, compare->answer.sums))
            compare->answer.state = ANSWER_SUBS;
        return true;
    case ANSWER_SUBS:
        if (send_array(peer, WIRE_SUBS, compare->answer.sums, compare->answer.parts.count, &compare->answer.sent)) {
            compare->answer.sent = 0;
            compare->answer.state = ANSWER_PICK;
        }
        return false;
    case ANSWER_EXCHANGING:
        if (exchange(peer))
            return true;
        if (!compare->answer.last || compare->answer.ready || compare->answer.opened > 0)
            return false;
        compare->answer.scan = told_stripes(compare);
        compare->answer.state = ANSWER_DELETED;
        return true;
    case ANSWER_DELETED:
        if (peer->out.joining == LR_JOIN_UNDER_WAY && !tell_deleted(peer, &more))
            return more;
        if (!lr_outflow_compared(peer))
            return false;
        stop_answering(compare);
        return true;
    default:
        return false;
    }
}

/* ---- for its siblings ------------------------------------------------------------------------------------------- */

bool lr_compare_due(const struct lr_peer *peer) {
    return peer->state == LR_PEER_LIVE && (peer->features & WIRE_CAN_COMPARE) != 0 &&
           lr_node_now(peer->node) >= peer->compare->next_ms;
}

bool lr_compare_tell(struct lr_peer *peer, bool joins) {
    uint64_t sums[WIRE_RANGES];
    for (unsigned i = 0; i < WIRE_RANGES; i++) {
        struct lr_range range;
        lr_range_get(peer->node->cache, i, &range);
        sums[i] = range.sum;
    }
    peer->compare->next_ms = lr_node_now(peer->node) + LR_COMPARE_EVERY_MS;
    return send_words(peer, WIRE_SUMS, joins ? WIRE_JOIN : 0, sums, WIRE_RANGES);
}

/* What was to be walked when the rows were gathered of which not all was sent yet. A stripe may be walked again. */
static uint64_t exchange_left(const struct lr_compare *compare) {
    const uint64_t at = lr_scan_left(&compare->answer.scan);
    const uint64_t gathering = compare->answer.from > at ? compare->answer.from : at;
    if (compare->answer.opened == 0)
        return gathering;
    const struct open_rows *rows = &compare->answer.open[compare->answer.first_open % OPEN_ROWS];
    const struct open_rows *next = &compare->answer.open[(compare->answer.first_open + 1) % OPEN_ROWS];
    const uint64_t to = compare->answer.opened > 1 ? next->from : compare->answer.from;
    return rows->from <= to ? rows->from : to + (rows->from - to) * (rows->count - rows->at + 1) / (rows->count + 1);
}

/* Two passes: that of the sums, and that in which entries travel. The one that looks for tombstones costs little. */
struct lr_ahead lr_compare_sends(const struct lr_peer *peer) {
    const struct lr_compare *compare = peer->compare;
    const enum lr_joining joining = peer->out.joining;
    const enum answering state = compare->answer.state;
    const uint64_t pass = (uint64_t)peer->node->stripes << 16, at = lr_scan_left(&compare->answer.scan);
    struct lr_ahead ahead = {.any = joining != LR_JOIN_NONE || state != ANSWER_NOTHING};
    ahead.sends = state >= ANSWER_EXCHANGING || joining == LR_JOIN_SENT;
    ahead.pass = !ahead.any ? 0 : ahead.sends ? 2 : 1;
    if (state == ANSWER_NOTHING)
        ahead.left = joining == LR_JOIN_DUE || joining == LR_JOIN_UNDER_WAY ? 2 * pass : 0;
    else if (state <= ANSWER_SUMMING)
        ahead.left = (state == ANSWER_SUMMING ? at : lr_scan_left(&compare->ask.scan)) + pass;
    else if (state < ANSWER_EXCHANGING)
        ahead.left = pass;
    else if (state == ANSWER_EXCHANGING)
        ahead.left = exchange_left(compare);
    return ahead;
}

/* Of the second pass, which is the other side's, we see the rows. How many there will be is known about: of all its
 * entries the share of the parts that differ. */
static uint64_t rows_left(const struct lr_peer *peer, uint64_t pass) {
    const struct lr_compare *compare = peer->compare;
    const uint64_t expected = peer->items * compare->ask.differing / (compare->ask.parts.count + 1);
    return compare->ask.rows >= expected ? 0 : pass / expected * (expected - compare->ask.rows);
}

struct lr_ahead lr_compare_fetches(const struct lr_peer *peer) {
    const struct lr_compare *compare = peer->compare;
    const enum asking state = compare->ask.state;
    const uint64_t pass = (uint64_t)peer->node->stripes << 16;
    struct lr_ahead ahead = {.any = state != ASK_NOTHING, .pass = (unsigned)state, .sends = state == ASK_PULLING};
    if (state == ASK_DUE)
        ahead.left = 2 * pass;
    else if (state == ASK_SUMMING)
        ahead.left = lr_scan_left(&compare->ask.scan) + pass;
    else if (state == ASK_PICKING)
        ahead.left = pass;
    else if (state == ASK_PULLING)
        ahead.left = rows_left(peer, pass);
    return ahead;
}

bool lr_compare_step(struct lr_peer *peer) {
    bool more = answer_step(peer); /* it may want the sums of our question, which that does not keep for long */
    return ask_step(peer) || more;
}

enum lr_taken lr_compare_take(struct lr_link *link, const struct wire_frame *frame) {
    struct lr_peer *peer = link->peer;
    struct lr_compare *compare = peer->compare;
    bool fits = true;
    switch (frame->type) {
    case WIRE_SUMS:
        take_sums(peer, frame);
        break;
    case WIRE_ASK:
        fits = take_ask(peer, frame);
        break;
    case WIRE_SUBS:
        fits = compare->ask.state == ASK_SUMMING && !compare->ask.heard &&
               take_array(frame, compare->ask.theirs, compare->ask.parts.count, &compare->ask.sent);
        compare->ask.heard = fits && (frame->flags & WIRE_LAST) != 0;
        break;
    case WIRE_PICK:
        fits = compare->answer.state == ANSWER_PICK && take_pick(peer, frame);
        break;
    case WIRE_ROWS:
        fits = compare->ask.state == ASK_PULLING && frame->as.rows.count % 2 == 0;
        if (fits)
            take_rows(peer, frame);
        break;
    case WIRE_PULL:
        fits = compare->answer.state == ANSWER_EXCHANGING && take_pull(compare, frame);
        break;
    default: /* COMPARED */
        fits = compare->ask.state == ASK_PULLING;
        if (fits)
            take_compared(peer);
    }
    if (fits)
        return link->closed ? LR_TAKE_REFUSED : LR_TAKEN;
    char text[96];
    snprintf(text, sizeof text, "%s fits no comparison under way", wire_type_name(frame->type));
    lr_log(LR_WARN, "peer %s: link refused: %s", peer->address, text);
    lr_link_close(link, WIRE_BYE_GARBAGE, text);
    return LR_TAKE_REFUSED;
}

int lr_compare_create(struct lr_peer *peer) {
    peer->compare = calloc(1, sizeof *peer->compare);
    return peer->compare != NULL ? 0 : -1;
}

void lr_compare_restart(struct lr_peer *peer) {
    stop_asking(peer->compare);
    stop_answering(peer->compare);
    peer->compare->next_ms = 0;
}

void lr_compare_forget(struct lr_peer *peer) {
    memset(peer->compare->settled_told, 0, sizeof peer->compare->settled_told);
    memset(peer->compare->settled_mine, 0, sizeof peer->compare->settled_mine);
}

void lr_compare_free(struct lr_peer *peer) {
    if (peer->compare != NULL)
        lr_compare_restart(peer);
    free(peer->compare);
    peer->compare = NULL;
}
