/* SPDX-License-Identifier: MIT */
#include "states.h"

#include <string.h>

const char *const scenario_operation_names[SCENARIO_OPERATIONS] = {
    [PUT_NEW] = "put new",
    [PUT_REPLACE] = "put replace",
    [PUT_LARGE] = "put large",
    [PUT_MANY] = "put many",
    [ADD_TTL] = "add with ttl",
    [REPLACE_FLAGS] = "replace with flags",
    [CAS] = "compare-and-swap",
    [DELETE] = "delete",
    [DELETE_ABSENT] = "delete absent",
    [TOUCH_LONGER] = "touch longer",
    [TOUCH_SHORTER] = "touch shorter",
    [INCREMENT] = "increment",
    [GET] = "get",
    [GET_MANY] = "get many",
    [PIN] = "pin",
    [APPLY_PUT] = "apply put",
    [APPLY_NO_EVICT] = "apply without evicting",
    [APPLY_EXPIRED] = "apply expired",
    [APPLY_TOMBSTONE] = "apply tombstone",
    [APPLY_FLUSH] = "apply flush",
    [DROP] = "drop",
    [SWEEP] = "sweep",
    [FLUSH] = "flush",
    [EPOCH] = "epoch",
    [RAISE_VOID] = "raise void",
    [RAISE_CLOCK] = "raise clock",
    [SIDECAR] = "sidecar",
    [REAP] = "reap",
    [JOIN] = "join",
    [LEAVE] = "leave",
    [FILL] = "fill",
    [FILL_NEW] = "fill new",
    [MARK] = "mark",
    [INVALIDATE] = "invalidate",
    [FIT] = "fit",
};

int scenario_operation_number(const char *name) {
    for (unsigned i = 0; i < SCENARIO_OPERATIONS; i++)
        if (strcmp(scenario_operation_names[i], name) == 0)
            return (int)i;
    return -1;
}

void scenario_choose(struct scenario *s, enum scenario_operation operation) {
    s->operation = operation;
    s->what[0] = 0;
}

void scenario_end(struct scenario *s) {
    struct lr_cache *const handles[] = {s->earlier, s->victim, s->survivor};
    for (unsigned i = 0; i < 3; i++) {
        if (handles[i] != NULL && handles[i]->live_page == NULL)
            atomic_store(&handles[i]->self->joined, 0); /* dead: the slot is not its any more */
        lr_cache_detach(handles[i]);
    }
    if (s->victim != NULL)
        (void)lr_cache_destroy(&s->options, NULL);
}

/* ---- operating ------------------------------------------------------------------------------------------------ */

static void put_many(struct scenario *s) {
    uint8_t value[512];
    for (unsigned i = 1; i < SCENARIO_NEW; i++) {
        uint64_t key = scenario_new_key(s, i);
        struct lr_put put = {.key = &key, .key_len = 8, .value = value, .value_len = scenario_value(s, key, value)};
        lr_put(s->victim, &put);
    }
}

static void get_many(struct scenario *s) {
    static uint8_t values[4][512];
    struct lr_read rows[4];
    for (unsigned i = 0; i < 4; i++)
        rows[i] = (struct lr_read){
            .key = &s->keys[SCENARIO_TARGET + i], .key_len = 8, .buf = values[i], .cap = sizeof values[i]};
    lr_get_many(s->victim, rows, 4, 0);
}

static void operate_on_items(struct scenario *s) {
    static uint8_t large[9000];
    const uint64_t target = scenario_target(s), other = s->other;
    uint8_t value[512];
    struct lr_put put = {.key = &target, .key_len = 8, .value = "42", .value_len = 2};
    struct lr_put fresh = {.key = &other, .key_len = 8, .value = "42", .value_len = 2};
    struct lr_pin pin;
    struct lr_mark mark;
    int64_t number;
    switch (s->operation) {
    case PUT_LARGE:
        fresh.value = large;
        fresh.value_len = sizeof large;
        lr_put(s->victim, &fresh);
        break;
    case ADD_TTL:
        fresh.mode = LR_ADD;
        fresh.ttl_ms = 50000;
        fresh.flags = 9;
        lr_put(s->victim, &fresh);
        break;
    case PUT_NEW:
        lr_put(s->victim, &fresh);
        break;
    case REPLACE_FLAGS:
        put.mode = LR_REPLACE;
        put.flags = 77;
        lr_put(s->victim, &put);
        break;
    case CAS:
        put.mode = LR_CAS;
        put.expected = s->versions[SCENARIO_TARGET];
        lr_put(s->victim, &put);
        break;
    case PUT_REPLACE:
        lr_put(s->victim, &put);
        break;
    case DELETE:
        lr_delete(s->victim, &target, 8);
        break;
    case DELETE_ABSENT:
        lr_delete(s->victim, &other, 8);
        break;
    case TOUCH_LONGER:
        lr_touch(s->victim, &target, 8, 900000);
        break;
    case TOUCH_SHORTER:
        lr_touch(s->victim, &target, 8, 50000);
        break;
    case INCREMENT:
        lr_increment(s->victim, &target, 8, 1, 42, 0, &number);
        break;
    case FILL:
        put.mode = LR_FILL_IN;
        put.mark = &s->mark;
        lr_put(s->victim, &put);
        break;
    case FILL_NEW:
        fresh.mode = LR_FILL_IN;
        fresh.mark = &s->other_mark;
        lr_put(s->victim, &fresh);
        break;
    case MARK:
        lr_mark(s->victim, &target, 8, &mark);
        break;
    case GET:
        lr_get(s->victim, &target, 8, value, sizeof value, NULL, 0);
        break;
    case PIN:
        if (lr_pin(s->victim, &target, 8, &pin) == 0)
            lr_unpin(s->victim, &pin);
        break;
    default:
        break;
    }
}

static void operate_as_sidecar(struct scenario *s) {
    const uint64_t target = scenario_target(s);
    struct lr_range range;
    const uint64_t version = s->before_clock + (UINT64_C(5) << SM_VERSION_MS_SHIFT);
    struct lr_change change = {
        .key = &target, .key_len = 8, .value = "42", .value_len = 2, .version = version, .deadline_ms = UINT64_MAX};
    static uint8_t entry[65536];
    uint64_t head;
    uint32_t epoch;
    switch (s->operation) {
    case APPLY_NO_EVICT:
        change.key = &s->other;
        lr_apply_put(s->victim, &change, LR_NO_EVICT);
        break;
    case APPLY_EXPIRED:
        change.deadline_ms = 1;
        lr_apply_put(s->victim, &change, 0);
        break;
    case APPLY_PUT:
        lr_apply_put(s->victim, &change, 0);
        break;
    case APPLY_TOMBSTONE:
        lr_apply_tombstone(s->victim, lr_cluster_hash(&target, 8), version, 0);
        break;
    case INVALIDATE:
        lr_apply_invalidation(s->victim, lr_cluster_hash(&target, 8), version);
        break;
    case FIT: /* local keys are of mode values now, and go */
        lr_modes_set(s->victim, scenario_modes, 1);
        lr_modes_fit(s->victim, 0, entry, sizeof entry);
        lr_modes_fitted(s->victim);
        break;
    case APPLY_FLUSH:
        lr_apply_flush(s->victim, version);
        break;
    case DROP:
        lr_drop(s->victim, lr_cluster_hash(&target, 8), version);
        break;
    case EPOCH:
        lr_epoch_begin(s->victim, 0, &epoch, &head);
        break;
    case RAISE_VOID:
        lr_raise_void(s->victim, 3, version, NULL, NULL);
        lr_range_get(s->victim, 3, &range);
        lr_parts_clear(s->victim, 3, &range.turn); /* as if all peers had settled */
        break;
    case RAISE_CLOCK:
        lr_raise_clock(s->victim, version);
        break;
    case SIDECAR:
        if (lr_sidecar_claim(s->victim) == 0) {
            lr_sidecar_report(s->victim, 2, 1, 10, 20);
            lr_modes_set(s->victim, &scenario_new_mode, 1);
            lr_sidecar_release(s->victim);
        }
        break;
    default:
        break;
    }
}

void scenario_operate(struct scenario *s) {
    switch (s->operation) {
    case PUT_MANY: /* the index grows, the border rises */
        put_many(s);
        break;
    case GET_MANY:
        get_many(s);
        break;
    case SWEEP:
        lr_sweep(s->victim, 0, 16, 1);
        break;
    case FLUSH:
        lr_flush(s->victim);
        break;
    case REAP:
        lr_reap(s->victim);
        break;
    case JOIN:
        (void)lr_enter(s->victim);
        break;
    case LEAVE:
        lr_participant_leave(s->victim);
        break;
    default:
        operate_on_items(s);
        operate_as_sidecar(s);
    }
}
/* ---- images --------------------------------------------------------------------------------------------------- */

#define PARTS 4u

struct part {
    uint8_t *at;
    uint64_t bytes;
};

static struct part part_of(const struct scenario *s, unsigned i) {
    const struct lr_cache *cache = s->survivor;
    const struct part parts[PARTS] = {{cache->base, SCENARIO_HEAD_BYTES},
                                      {cache->base + cache->geometry.voids_off, SCENARIO_VOIDS_BYTES},
                                      {cache->controls, SCENARIO_CONTROL_BYTES},
                                      {cache->data, SM_MIN_STRIPE}};
    return parts[i];
}

void scenario_read_image(const struct scenario *s, uint8_t *out) {
    for (unsigned i = 0; i < PARTS; out += part_of(s, i++).bytes)
        memcpy(out, part_of(s, i).at, part_of(s, i).bytes);
}

void scenario_write_image(const struct scenario *s, const uint8_t *image) {
    for (unsigned i = 0; i < PARTS; image += part_of(s, i++).bytes)
        memcpy(part_of(s, i).at, image, part_of(s, i).bytes);
}

bool scenario_is_unchanged(const struct scenario *s, const uint8_t *image) {
    for (unsigned i = 0; i < PARTS; image += part_of(s, i++).bytes)
        if (memcmp(part_of(s, i).at, image, part_of(s, i).bytes) != 0)
            return false;
    return true;
}

/* Of the first words of all blocks, as far as they can be followed. */
static uint64_t tiling_sum(const uint8_t *control, const uint8_t *data) {
    uint64_t gaps[SM_REGIONS], at, sum = 0;
    memcpy(gaps, control + offsetof(struct sm_stripe, gap), sizeof gaps);
    memcpy(&at, control + offsetof(struct sm_stripe, border_off), 8);
    while (at <= SM_MIN_STRIPE - 8) {
        uint64_t word, gap = at == lr_gap_start(gaps[LR_MAIN]) ? gaps[LR_MAIN] : gaps[LR_PROBATION];
        if (at == lr_gap_start(gap) && lr_gap_end(gap) > at) {
            at = lr_gap_end(gap);
            continue;
        }
        memcpy(&word, data + at, 8);
        sum = lr_mix(sum ^ word ^ (at << 32));
        if (lr_block_size(word) == 0)
            break;
        at += lr_block_size(word);
    }
    return sum;
}

bool scenario_is_payload_only(const struct scenario *s, const uint8_t *image) {
    const struct lr_cache *cache = s->survivor;
    const uint8_t *control = image + SCENARIO_HEAD_BYTES, *data = control + SCENARIO_CONTROL_BYTES;
    return memcmp(cache->base, image, SCENARIO_HEAD_BYTES) == 0 &&
           memcmp(cache->controls, control, SCENARIO_CONTROL_BYTES) == 0 &&
           memcmp(cache->data, data, lr_load(&lr_stripe_at(cache, 0)->border_off)) == 0 &&
           tiling_sum(cache->controls, cache->data) == tiling_sum(control, data);
}
