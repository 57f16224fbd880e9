/* SPDX-License-Identifier: MIT */
/* Readers of the storm: every hit is judged by the history before it counts. */
#include "storm.h"

#include <inttypes.h>
#include <string.h>

#define BATCH 16u
#define SLACK 20000u       /* reads */
#define BATCHES_A_LOOK 16u /* between two looks at the clock */

static bool judge(struct storm *storm, struct storm_actor *actor, uint32_t key, const struct history_look *look,
                  const void *value, const struct lr_item *item, const char *how) {
    struct value_hit hit = {
        .value = value, .len = item->value_len, .version = item->version, .deadline_ms = item->deadline_ms};
    bool number = storm_kind_of(storm->plan, key) == STORM_NUMBER;
    enum history_verdict verdict = number ? history_judge_number(storm->history, key, look, value, item->value_len)
                                          : history_judge(storm->history, key, look, &hit);
    storm_add(&actor->judged, 1);
    if (verdict == HISTORY_RIGHT)
        return true;
    storm_fail(storm->board,
               "%s of key %" PRIu32 ": %s: sequence %" PRIu64 ", length %" PRIu32 ", version %" PRIx64
               "; before the read started %" PRIu64 ", stored %" PRIu64 ", gone %" PRIu64 ", seen %" PRIu64
               ", expires %" PRIu64 ", now %" PRIu64,
               how, key, history_verdict_name(verdict), number ? 0 : hit.sequence, item->value_len, item->version,
               look->started, look->stored, look->gone, look->seen, look->expires, look->now_ms);
    return false;
}

static void miss(struct storm *storm, struct storm_actor *actor, uint32_t key, const struct history_look *look,
                 int result) {
    storm_add(&actor->misses, 1);
    if (result == LARDER_ENOT_FOUND && storm_kind_of(storm->plan, key) != STORM_TTL)
        history_missed(storm->history, key, look);
    else if (result != LARDER_ENOT_FOUND)
        storm_fail(storm->board, "a get of key %" PRIu32 " says %s", key, lr_error_name(result));
}

static void read_pinned(struct storm *storm, struct storm_actor *actor, uint32_t key) {
    struct value_key bytes = value_key(key);
    struct history_look look = history_look(storm->history, key, lr_now_ms(storm->cache));
    struct lr_pin pin;
    uint8_t copy[STORM_MAX_VALUE];
    storm_enter(actor, CALL_pin);
    int result = lr_pin(storm->cache, bytes.bytes, sizeof bytes.bytes, &pin);
    storm_leave(actor);
    if (result == LARDER_ENO_PINS)
        return;
    if (result != 0) {
        miss(storm, actor, key, &look, result);
        return;
    }
    memcpy(copy, pin.value, pin.item.value_len);
    if (judge(storm, actor, key, &look, copy, &pin.item, "pin")) {
        storm_add(&actor->pinned, 1);
        /* It stays as it is while others go on. */
        if (memcmp(copy, pin.value, pin.item.value_len) != 0)
            storm_fail(storm->board, "the pinned value of key %" PRIu32 " changed", key);
    }
    storm_enter(actor, CALL_unpin);
    lr_unpin(storm->cache, &pin);
    storm_leave(actor);
}

void storm_read_one(struct storm *storm, struct storm_actor *actor, uint32_t key, bool pinned) {
    if (pinned) {
        read_pinned(storm, actor, key);
        return;
    }
    struct value_key bytes = value_key(key);
    uint8_t buf[STORM_MAX_VALUE];
    struct lr_item item;
    struct history_look look = history_look(storm->history, key, lr_now_ms(storm->cache));
    storm_enter(actor, CALL_get);
    int result = lr_get(storm->cache, bytes.bytes, sizeof bytes.bytes, buf, sizeof buf, &item, 0);
    storm_leave(actor);
    if (result == 0)
        judge(storm, actor, key, &look, buf, &item, "get");
    else
        miss(storm, actor, key, &look, result);
}

/* Without a division. */
static uint32_t any_key(const struct storm *storm, struct fixture_random *random) {
    return (uint32_t)((fixture_next(random) >> 32) * storm->plan->keys >> 32);
}

/* What is known to be gone says little, once it was seen to be so: one such key in two is passed over. */
static uint32_t pick(struct storm *storm, struct fixture_random *random) {
    uint32_t key = any_key(storm, random);
    return history_is_gone(storm->history, key) ? any_key(storm, random) : key;
}

struct batch {
    struct lr_read rows[BATCH];
    struct history_look looks[BATCH];
    struct value_key bytes[BATCH];
    uint32_t keys[BATCH];
    uint8_t bufs[BATCH][STORM_MAX_VALUE + 64]; /* not all in the same lines of the processor's cache */
};

static void read_batch(struct storm *storm, struct storm_actor *actor, struct batch *batch,
                       struct fixture_random *random) {
    uint64_t now_ms = lr_now_ms(storm->cache);
    for (unsigned i = 0; i < BATCH; i++) {
        uint32_t key = batch->keys[i] = pick(storm, random);
        batch->bytes[i] = value_key(key);
        batch->looks[i] = history_look(storm->history, key, now_ms);
        batch->rows[i] = (struct lr_read){
            .key = batch->bytes[i].bytes, .key_len = VALUE_KEY_BYTES, .buf = batch->bufs[i], .cap = STORM_MAX_VALUE};
    }
    storm_enter(actor, CALL_get_many);
    lr_get_many(storm->cache, batch->rows, BATCH, 0);
    storm_leave(actor);
    for (unsigned i = 0; i < BATCH; i++) {
        struct lr_read *row = &batch->rows[i];
        if (row->result == 0)
            judge(storm, actor, batch->keys[i], &batch->looks[i], row->buf, &row->item, "get_many");
        else
            miss(storm, actor, batch->keys[i], &batch->looks[i], row->result);
    }
}

int storm_reader(struct storm *storm, unsigned number, uint64_t seed) {
    struct storm_actor *actor = &storm->board->readers[number];
    struct fixture_random random = {seed};
    static struct batch batch;
    while (!storm_stopped(storm)) {
        uint64_t judged = atomic_load(&actor->judged) * storm->plan->readers;
        if (judged > atomic_load(&storm->board->reads_due) + SLACK) {
            fixture_sleep_ms(1);
            continue;
        }
        for (unsigned i = 0; i < BATCHES_A_LOOK; i++)
            read_batch(storm, actor, &batch, &random);
        uint32_t key = (uint32_t)fixture_below(&random, storm->plan->keys);
        storm_read_one(storm, actor, key, fixture_below(&random, 4) != 0);
    }
    return 0;
}
