/* SPDX-License-Identifier: MIT */
/* Workers of the storm: each changes its own keys in every way there is, until its own timer kills it. */
#include "storm.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "attachment.h"

#define LONGEST_TTL_MS 40u
#define WARM 8u /* calls at most before the timer is armed: the first ones mostly wait for pages */

struct worker {
    struct storm *storm;
    struct storm_actor *actor;
    struct fixture_random random;
    unsigned number;
    uint8_t value[STORM_MAX_VALUE];
    struct lr_pin pin; /* held over several calls; value NULL: none */
    uint64_t pin_sum;
};

static uint64_t below(struct worker *worker, uint64_t n) {
    return fixture_below(&worker->random, n);
}

/* A change that the cache refused though nothing forbids it. */
static void refuse(struct worker *worker, uint32_t key, const char *what, int result) {
    storm_add(&worker->actor->refused, 1);
    if (result != LARDER_EPINNED) /* others' pins may leave no room in a segment as small as this */
        storm_fail(worker->storm->board, "%s of key %" PRIu32 " says %s", what, key, lr_error_name(result));
}

static void arm_death(struct worker *worker, unsigned within_us) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec when = {.it_value.tv_nsec = 1 + (long)below(worker, within_us * 1000u)};
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 || timer_settime(timer, 0, &when, NULL) != 0)
        storm_fail(worker->storm->board, "a timer cannot be armed");
}

static uint32_t pick_key(struct worker *worker) {
    const struct storm_plan *plan = worker->storm->plan;
    return (uint32_t)below(worker, plan->keys / plan->writers) * plan->writers + worker->number;
}

/* Mostly small. */
static size_t pick_length(struct worker *worker) {
    unsigned most = worker->storm->plan->value_max;
    if (most > 120 && below(worker, 32) != 0)
        most = 120;
    return VALUE_SHORT_BYTES + below(worker, most - VALUE_SHORT_BYTES + 1);
}

/* ---- changes ----------------------------------------------------------------------------------------------------- */

struct change {
    uint32_t key;
    struct value_key bytes;
    uint64_t sequence;
    bool was_absent; /* known before: nothing that was written is there */
    struct lr_put put;
};

static void begin(struct worker *worker, struct change *change, uint32_t key) {
    struct history *history = worker->storm->history;
    *change = (struct change){.key = key, .bytes = value_key(key), .sequence = history_begin(history, key)};
    change->was_absent = history_is_absent(history, key, change->sequence);
    change->put = (struct lr_put){.key = change->bytes.bytes, .key_len = VALUE_KEY_BYTES, .value = worker->value};
    storm_add(&worker->actor->changes, 1);
}

/* Puts as change->put says, and tells the history. */
static int put(struct worker *worker, struct change *change, enum storm_call call) {
    struct storm *storm = worker->storm;
    change->put.value_len = pick_length(worker);
    value_write(worker->value, change->put.value_len, change->bytes.hash, worker->number + 1, change->sequence);
    if (storm_kind_of(storm->plan, change->key) == STORM_TTL)
        change->put.ttl_ms = 1 + below(worker, LONGEST_TTL_MS);
    storm_enter(worker->actor, call);
    int result = lr_put(storm->cache, &change->put);
    storm_leave(worker->actor);
    uint64_t expires = change->put.ttl_ms ? lr_now_ms(storm->cache) + change->put.ttl_ms : UINT64_MAX;
    if (result == 0)
        history_stored(storm->history, change->key, change->sequence, change->put.version, expires);
    return result;
}

static void set(struct worker *worker, uint32_t key) {
    struct change change;
    begin(worker, &change, key);
    int result = put(worker, &change, CALL_put);
    if (result != 0)
        refuse(worker, key, "put", result);
}

static void add(struct worker *worker, uint32_t key) {
    struct change change;
    begin(worker, &change, key);
    change.put.mode = LR_ADD;
    int result = put(worker, &change, CALL_add);
    if (result == LARDER_EEXISTS && change.was_absent)
        storm_fail(worker->storm->board, "add of key %" PRIu32 " finds what is gone", key);
    else if (result != 0 && result != LARDER_EEXISTS)
        refuse(worker, key, "add", result);
}

static void replace(struct worker *worker, uint32_t key) {
    struct change change;
    begin(worker, &change, key);
    change.put.mode = LR_REPLACE;
    int result = put(worker, &change, CALL_replace);
    if (result == 0 && change.was_absent)
        storm_fail(worker->storm->board, "replace of key %" PRIu32 " finds what is gone", key);
    else if (result == LARDER_ENOT_FOUND)
        history_removed(worker->storm->history, key, change.sequence);
    else if (result != 0)
        refuse(worker, key, "replace", result);
}

/* With the token of the last put: succeeds unless the item is gone. With one that is superseded: never. */
static void compare_and_swap(struct worker *worker, uint32_t key) {
    uint64_t token = history_version(worker->storm->history, key);
    if (token == 0) {
        set(worker, key);
        return;
    }
    for (unsigned superseded = 0; superseded < 2; superseded++) {
        struct change change;
        begin(worker, &change, key);
        change.put.mode = LR_CAS;
        change.put.expected = token;
        int result = put(worker, &change, CALL_cas);
        if (result == LARDER_ENOT_FOUND)
            history_removed(worker->storm->history, key, change.sequence);
        else if (superseded ? result == 0 : result == LARDER_ECONFLICT)
            storm_fail(worker->storm->board, "%s cas of key %" PRIu32 " says %s", superseded ? "a superseded" : "a",
                       key, lr_error_name(result));
        else if (result != 0 && result != LARDER_ECONFLICT)
            refuse(worker, key, "cas", result);
        if (result != 0)
            return;
    }
}

static void remove_key(struct worker *worker, uint32_t key) {
    struct change change;
    begin(worker, &change, key);
    storm_enter(worker->actor, CALL_delete);
    int result = lr_delete(worker->storm->cache, change.bytes.bytes, VALUE_KEY_BYTES);
    storm_leave(worker->actor);
    if (result == 0 && change.was_absent)
        storm_fail(worker->storm->board, "delete of key %" PRIu32 " finds what is gone", key);
    if (result == 0 || result == LARDER_ENOT_FOUND)
        history_removed(worker->storm->history, key, change.sequence);
    else
        refuse(worker, key, "delete", result);
}

static void touch(struct worker *worker, uint32_t key) {
    struct storm *storm = worker->storm;
    struct value_key bytes = value_key(key);
    uint64_t ttl = 1 + below(worker, LONGEST_TTL_MS);
    history_touch_begin(storm->history, key);
    storm_enter(worker->actor, CALL_touch);
    int result = lr_touch(storm->cache, bytes.bytes, VALUE_KEY_BYTES, ttl);
    storm_leave(worker->actor);
    if (result == 0)
        history_touched(storm->history, key, lr_now_ms(storm->cache) + ttl);
    else if (result == LARDER_ENOT_FOUND)
        history_removed(storm->history, key, history_known(storm->history, key));
    else
        refuse(worker, key, "touch", result);
}

/* The number says which increment it stems from; it is raised by the distance to what is there now. */
static void increment(struct worker *worker, uint32_t key) {
    struct storm *storm = worker->storm;
    struct change change;
    char text[24] = "";
    struct lr_item item;
    begin(worker, &change, key);
    int64_t goal = history_number(key, change.sequence), there = 0, result_number = 0;
    storm_enter(worker->actor, CALL_get);
    int result = lr_get(storm->cache, change.bytes.bytes, VALUE_KEY_BYTES, text, sizeof text - 1, &item, LR_PEEK);
    storm_leave(worker->actor);
    if (result == 0) {
        text[item.value_len] = 0;
        there = strtoll(text, NULL, 10);
    }
    storm_enter(worker->actor, CALL_increment);
    int error = lr_increment(storm->cache, change.bytes.bytes, VALUE_KEY_BYTES, goal - there, goal, 0, &result_number);
    storm_leave(worker->actor);
    if (error != 0)
        refuse(worker, key, "increment", error);
    else if (result_number != goal)
        storm_fail(storm->board, "increment of key %" PRIu32 " from %" PRId64 " gives %" PRId64 " instead of %" PRId64,
                   key, there, result_number, goal);
    else
        history_stored(storm->history, key, change.sequence, 0, UINT64_MAX);
}

/* ---- the rest ------------------------------------------------------------------------------------------------------
 */

static uint64_t sum_of(const struct lr_pin *pin) {
    uint64_t sum = pin->item.value_len;
    for (uint32_t i = 0; i < pin->item.value_len; i++)
        sum = sum * 31 + ((const uint8_t *)pin->value)[i];
    return sum;
}

/* Takes a pin, or looks whether the one it has had for a while is as it was, and now and then gives it back. */
static void pin_or_release(struct worker *worker) {
    struct storm *storm = worker->storm;
    if (worker->pin.value != NULL) {
        if (sum_of(&worker->pin) != worker->pin_sum)
            storm_fail(storm->board, "a value changed while worker %u had it pinned", worker->number);
        if (below(worker, 4) != 0)
            return;
        storm_enter(worker->actor, CALL_unpin);
        lr_unpin(storm->cache, &worker->pin);
        storm_leave(worker->actor);
        return;
    }
    struct value_key bytes = value_key(below(worker, storm->plan->keys));
    storm_enter(worker->actor, CALL_pin);
    int result = lr_pin(storm->cache, bytes.bytes, VALUE_KEY_BYTES, &worker->pin);
    storm_leave(worker->actor);
    if (result == 0)
        worker->pin_sum = sum_of(&worker->pin);
}

static void keep_house(struct worker *worker) {
    struct lr_cache *cache = worker->storm->cache;
    unsigned what = (unsigned)below(worker, 64);
    storm_enter(worker->actor, what == 0 ? CALL_reap : what == 1 ? CALL_stat : CALL_sweep);
    struct lr_stat stat;
    if (what == 0)
        (void)lr_reap(cache);
    else if (what == 1)
        lr_stat(cache, &stat);
    else
        (void)lr_sweep(cache, (uint32_t)below(worker, lr_stripe_count(cache)), 32, 10);
    storm_leave(worker->actor);
}

static void change_something(struct worker *worker) {
    uint32_t key = pick_key(worker);
    unsigned what = (unsigned)below(worker, 16);
    enum storm_kind kind = storm_kind_of(worker->storm->plan, key);
    if (kind == STORM_NUMBER)
        (what < 2 ? remove_key : increment)(worker, key);
    else if (kind == STORM_TTL && what < 4)
        touch(worker, key);
    else if (what < 10)
        set(worker, key);
    else if (what == 10)
        add(worker, key);
    else if (what == 11)
        replace(worker, key);
    else if (what == 12)
        compare_and_swap(worker, key);
    else
        remove_key(worker, key);
}

int storm_worker(struct storm *storm, unsigned number, uint64_t seed) {
    struct worker worker = {
        .storm = storm, .actor = &storm->board->writers[number], .random = {seed}, .number = number};
    const bool early = below(&worker, 16) == 0;
    if (early)
        arm_death(&worker, storm->plan->join_us);
    storm_enter(worker.actor, CALL_join);
    int error = lr_enter(storm->cache); /* the handle is the nursery's: we get a slot of our own */
    storm_leave(worker.actor);
    atomic_store(&worker.actor->state, 2);
    if (error != 0)
        storm_fail(storm->board, "worker %u cannot join: %s", number, lr_error_name(error));
    for (unsigned done = 0; !storm_stopped(storm); done++) {
        if (done == (worker.number + seed) % WARM && !early)
            arm_death(&worker, storm->plan->life_us);
        unsigned what = (unsigned)below(&worker, 64);
        if (what < 4)
            storm_read_one(storm, worker.actor, (uint32_t)below(&worker, storm->plan->keys), what == 0);
        else if (what < 8)
            pin_or_release(&worker);
        else if (what < 11)
            keep_house(&worker);
        else
            change_something(&worker);
    }
    return 0;
}
