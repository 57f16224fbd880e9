/* SPDX-License-Identifier: MIT */
/*
 * What was called, what came back, and is that possible?
 *
 * Every value says who wrote it: {key, id, length} in its first word, and a filler that follows from that word. Calls
 * and returns are stamped; since one process runs at a time, the stamps are the true order. From them, for each read:
 *
 *   torn, foreign    the bytes do not follow from their first word, or belong to another key
 *   from nowhere     no put offered that value, or a refused one did, or one that was called after the read returned
 *   stale            a newer version had been acknowledged, or read, before the read was called
 *   resurrected      a delete or flush that began after the value was there had returned before the read was called
 *                a number goes on as if a flush had not been
 *   expired          its deadline, and every one that a touch can have given it, was over when the read was called
 *   lost             (where nothing needs to be evicted) a miss, and nothing that removes was called since the put
 *
 * A put whose process was killed may have happened or not; once it was seen, the version rule keeps the older one away.
 */
#include "sim.h"

#include <string.h>

#define NEVER UINT64_MAX

struct sim_history sim_history;

/* ---- values ----------------------------------------------------------------------------------------------------- */

static uint64_t first_word(size_t len, unsigned key, uint32_t id) {
    uint64_t word = (uint64_t)len << 48 | (uint64_t)id << 16 | (uint64_t)key << 8;
    return word | (sim_mix(word) & 0xff);
}

static uint64_t word_at(uint64_t first, size_t at) {
    return at == 0 ? first : sim_mix(first + at);
}

void sim_value_fill(uint8_t *value, size_t len, unsigned key, uint32_t id) {
    uint64_t first = first_word(len, key, id);
    for (size_t at = 0; at < len; at += 8) {
        uint64_t word = word_at(first, at);
        if (len - at >= 8)
            memcpy(value + at, &word, 8);
        else
            memcpy(value + at, &word, len - at);
    }
}

uint32_t sim_value_judge(const uint8_t *value, size_t len, unsigned key, const char *who) {
    uint64_t first = 0;
    if (len >= 8)
        memcpy(&first, value, 8);
    const uint32_t id = (uint32_t)(first >> 16);
    if (len < 8 || first != first_word(len, (unsigned)(first >> 8) & 0xff, id)) {
        sim_fail("%s of key %u: torn: %zu bytes, first word %016llx", who, key, len, (unsigned long long)first);
        return 0;
    }
    for (size_t at = 8; at < len; at += 8) {
        uint64_t word = word_at(first, at), there = 0;
        if (len - at >= 8) {
            memcpy(&there, value + at, 8);
        } else {
            memcpy(&there, value + at, len - at);
            word &= (UINT64_C(1) << (8 * (len - at))) - 1;
        }
        if (there != word) {
            sim_fail("%s of key %u: torn: value %u of %zu bytes is another one's from byte %zu on", who, key, id, len,
                     at);
            return 0;
        }
    }
    if (((first >> 8) & 0xff) != key)
        sim_fail("%s of key %u: foreign: value %u of key %u", who, key, id, (unsigned)(first >> 8) & 0xff);
    return id;
}

/* ---- recording -------------------------------------------------------------------------------------------------- */

void sim_history_reset(const struct sim_place *place) {
    sim_history.count = 0;
    sim_history.stamp = 1;
    for (unsigned i = 0; i < SIM_KEYS; i++) {
        const struct sim_key *key = &place->keys[i];
        if (!key->present)
            continue;
        struct sim_op *op = &sim_history.ops[sim_history.count++];
        *op = (struct sim_op){.process = SIM_NOBODY, .kind = OP_PUT, .letter = 'w', .done = true, .local = true};
        op->key = (uint8_t)i;
        op->id = i + 1;
        op->version = key->version;
        op->last_ms = key->deadline_ms;
    }
}

struct sim_op *sim_history_call(char letter, enum sim_kind kind, unsigned key) {
    static struct sim_op spare; /* a schedule that is too long is not judged in full */
    struct sim_op *op = sim_history.count < SIM_OPS ? &sim_history.ops[sim_history.count++] : &spare;
    *op = (struct sim_op){.process = (uint8_t)sim.now->number, .kind = (uint8_t)kind, .key = (uint8_t)key};
    op->letter = letter;
    op->called = sim_history.stamp++;
    op->returned = NEVER;
    op->last_ms = NEVER;
    op->began_ms = sim.now_ns / 1000000;
    return op;
}

void sim_history_return(struct sim_op *op, int result) {
    op->done = true;
    op->result = result;
    op->returned = sim_history.stamp++;
    op->ended_ms = sim.now_ns / 1000000;
    if (sim.tracing)
        sim_trace_note("%c of key %u returns %d (%s), value %u, version %llx", op->letter, op->key, result,
                       lr_error_name(result), op->id, (unsigned long long)op->version);
}

/* ---- rules ------------------------------------------------------------------------------------------------------ */

static struct sim_op *writer_of(unsigned key, uint32_t id) {
    for (unsigned i = 0; i < sim_history.count; i++) {
        struct sim_op *op = &sim_history.ops[i];
        if (op->kind == OP_PUT && op->key == key && op->id == id)
            return op;
    }
    return NULL;
}

static bool is_stored(const struct sim_op *op) {
    return op->kind == OP_PUT && op->done && op->result == 0;
}

static bool is_hit(const struct sim_op *op) {
    return op->kind == OP_READ && op->done && op->result == 0;
}

/* When the value was surely there for the first time. */
static uint64_t there_since(const struct sim_op *put) {
    uint64_t since = is_stored(put) ? put->returned : NEVER;
    for (unsigned i = 0; i < sim_history.count; i++) {
        const struct sim_op *op = &sim_history.ops[i];
        if (is_hit(op) && op->key == put->key && op->id == put->id && op->returned < since)
            since = op->returned;
    }
    return since;
}

/* When a flush had to take it. What a compare-and-swap stores succeeds only if what it was made of is there: then. */
static uint64_t to_be_flushed_since(const struct sim_op *put) {
    uint64_t since = there_since(put);
    for (unsigned i = 0; i < sim_history.count && put->expected != 0; i++) {
        const struct sim_op *op = &sim_history.ops[i];
        if ((is_stored(op) || is_hit(op)) && op->key == put->key && op->version == put->expected &&
            op->returned < since)
            since = op->returned;
    }
    return since;
}

static void judge_order(const struct sim_op *read, const struct sim_op *put) {
    const uint64_t since = there_since(put);
    for (unsigned i = 0; i < sim_history.count && !sim.failed; i++) {
        const struct sim_op *op = &sim_history.ops[i];
        if (op->returned >= read->called || (op->key != read->key && op->kind != OP_FLUSH))
            continue; /* what has not returned has done so NEVER */
        if ((is_stored(op) || is_hit(op)) && op->version > read->version)
            sim_fail("read of key %u by process %u: stale: value %u, version %llx, though version %llx (%s %u) was "
                     "there before",
                     read->key, read->process, read->id, (unsigned long long)read->version,
                     (unsigned long long)op->version, is_hit(op) ? "read by" : "put by", op->process);
        if (op->kind == OP_DELETE && op->letter == 'd' && op->called > since &&
            (op->result == 0 || op->result == LARDER_ENOT_FOUND))
            sim_fail("read of key %u by process %u: resurrected: value %u was deleted by process %u before", read->key,
                     read->process, read->id, op->process);
        if (op->kind == OP_DELETE && op->letter != 'd' && op->result >= 0 && op->version >= read->version)
            sim_fail("read of key %u by process %u: resurrected: version %llx, though process %u had applied a delete "
                     "at %llx",
                     read->key, read->process, (unsigned long long)read->version, op->process,
                     (unsigned long long)op->version);
        if (op->kind == OP_FLUSH && op->result >= 0 && op->called > to_be_flushed_since(put))
            sim_fail("read of key %u by process %u: resurrected: value %u was flushed by process %u before", read->key,
                     read->process, read->id, op->process);
    }
}

static void judge_hit(const struct sim_op *read) {
    struct sim_op *put = writer_of(read->key, read->id);
    if (put == NULL) {
        sim_fail("read of key %u by process %u: from nowhere: value %u", read->key, read->process, read->id);
        return;
    }
    if (put->called > read->returned || (put->done && put->result != 0)) {
        sim_fail("read of key %u by process %u: value %u of a put that %s", read->key, read->process, read->id,
                 put->done ? "was refused" : "had not begun");
        return;
    }
    if (is_stored(put) && read->version < put->version)
        sim_fail("read of key %u by process %u: value %u has version %llx, put with %llx", read->key, read->process,
                 read->id, (unsigned long long)read->version, (unsigned long long)put->version);
    uint64_t last_ms = put->last_ms;
    for (unsigned i = 0; i < sim_history.count; i++) {
        const struct sim_op *op = &sim_history.ops[i];
        if (op->kind == OP_TOUCH && op->key == read->key && op->called < read->returned && op->last_ms > last_ms)
            last_ms = op->last_ms;
    }
    if (read->began_ms >= last_ms)
        sim_fail("read of key %u by process %u: expired: value %u ended at %llu ms, read at %llu", read->key,
                 read->process, read->id, (unsigned long long)last_ms, (unsigned long long)read->began_ms);
    judge_order(read, put);
}

/* Whether the read's miss may come from something that was called since the put. */
static bool is_excused(const struct sim_op *put, const struct sim_op *read) {
    for (unsigned i = 0; i < sim_history.count; i++) {
        const struct sim_op *op = &sim_history.ops[i];
        bool removes = op->kind == OP_FLUSH || (op->key == put->key && (op->kind == OP_DELETE || op->kind == OP_TOUCH ||
                                                                        (op->kind == OP_PUT && op->last_ms != NEVER)));
        if (removes && op->called < read->returned && op->returned > put->called)
            return true;
    }
    return put->last_ms != NEVER;
}

static void judge_miss(const struct sim_op *read) {
    for (unsigned i = 0; i < sim_history.count; i++) {
        const struct sim_op *op = &sim_history.ops[i];
        if (is_stored(op) && op->key == read->key && op->returned < read->called && !is_excused(op, read)) {
            sim_fail("read of key %u by process %u: lost: value %u of process %u was there, nobody took it away",
                     read->key, read->process, op->id, op->process);
            return;
        }
    }
}

static bool is_count(const struct sim_op *op) {
    return op->kind == OP_COUNT && op->done && op->result == 0;
}

/* After a flush the number begins anew: what came before it is no part of it. */
static void judge_number(const struct sim_op *flush, const struct sim_op *count) {
    int64_t most = SIM_FIRST_NUMBER;
    for (unsigned i = 0; i < sim_history.count; i++) {
        const struct sim_op *op = &sim_history.ops[i];
        most += op->kind == OP_COUNT && op != count && op->returned > flush->called && op->called < count->returned;
    }
    if (count->number > most)
        sim_fail("resurrected: an increment gives %lld, though since the flush by process %u there were but %lld",
                 (long long)count->number, flush->process, (long long)(most - SIM_FIRST_NUMBER + 1));
}

/* Whether the history has a flush. */
static bool judge_numbers(void) {
    bool any = false;
    for (unsigned i = 0; i < sim_history.count; i++) {
        const struct sim_op *flush = &sim_history.ops[i];
        if (flush->kind != OP_FLUSH)
            continue;
        any = true;
        for (unsigned j = 0; j < sim_history.count && flush->done; j++)
            if (is_count(&sim_history.ops[j]) && sim_history.ops[j].called > flush->returned)
                judge_number(flush, &sim_history.ops[j]);
    }
    return any;
}

static void judge_pairs(void) {
    const bool flushed = judge_numbers();
    for (unsigned i = 0; i < sim_history.count; i++) {
        const struct sim_op *a = &sim_history.ops[i];
        const bool has_pairs = a->kind == OP_COUNT || a->expected != 0; /* few have */
        for (unsigned j = 0; j < i && has_pairs; j++) {
            const struct sim_op *b = &sim_history.ops[j];
            if (is_stored(a) && is_stored(b) && a->expected != 0 && a->expected == b->expected && a->key == b->key)
                sim_fail("two puts of key %u replaced the same version %llx", a->key, (unsigned long long)a->expected);
            if (!flushed && is_count(a) && is_count(b) &&
                (a->number == b->number || (a->returned < b->called && a->number > b->number) ||
                 (b->returned < a->called && b->number > a->number)))
                sim_fail("two increments gave %lld and %lld", (long long)b->number, (long long)a->number);
        }
    }
}

void sim_history_judge(bool lossless) {
    for (unsigned i = 0; i < sim_history.count && !sim.failed; i++) {
        const struct sim_op *op = &sim_history.ops[i];
        if (op->kind != OP_READ || !op->done)
            continue;
        if (op->result == 0)
            judge_hit(op);
        else if (op->result == LARDER_ENOT_FOUND && lossless)
            judge_miss(op);
    }
    judge_pairs();
}
