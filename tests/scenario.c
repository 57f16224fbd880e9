/* SPDX-License-Identifier: MIT */
#include "scenario.h"
#include "bucket.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define TARGET 7u /* the operation's key among keys[] */
#define NOW_MS UINT64_C(1000000000)
#define PAST_TTL_MS 5000u

/* ---- states --------------------------------------------------------------------------------------------------- */

enum trait {
    REPLICATING = 1 << 0, /* leaves tombstones, hints */
    EXPIRED = 1 << 1,     /* the clock has passed ttl_ms */
    HOLES = 1 << 2,       /* every fourth key was deleted again */
    PINNED = 1 << 3,      /* the survivor pins the operation's key */
    FULL = 1 << 4,        /* what is stored evicts */
    WARM = 1 << 5,        /* all was read: the hand slides */
    SPLIT = 1 << 6,       /* keys are added until the next put splits a bucket */
    BORDER = 1 << 7,      /* ... and the border must rise for it */
    CROWDED = 1 << 8,     /* both buckets of the new key are full, and only a move down helps */
    TOMBSTONES = 1 << 9,  /* as many as may be, half of them acknowledged */
    HELD = 1 << 10,       /* held blocks, half of them still pinned */
    NOTES = 1 << 11,      /* delete notes wait for the next holder */
    LOCKED = 1 << 12,     /* the survivor holds the stripe and does not answer */
    ORPHAN = 1 << 13,     /* somebody died before, while they repaired after somebody who died */
    FLUSHED = 1 << 14,    /* a flush has passed over most of the items, which are still there */
    SHRINKS = 1 << 15,    /* the next put makes probation smaller */
    GROWS = 1 << 16,      /* ... or larger, for there is none */
    SPREAD = 1 << 17,     /* pins leave no large run in either region, but one across the divide */
    CLOCK = 1 << 18,      /* policy clock: one region, no ghosts */
    MERGES = 1 << 19,     /* the next put merges two pairs of buckets */
    FALLS = 1 << 20,      /* ... and the border falls */
};

const struct scenario_state scenario_states[] = {
    {"empty", 0, 0, 0, 0},
    {"some", 120, 60, 0, 0},
    {"holes", 120, 150, 0, HOLES},
    {"full", 600, 120, 0, FULL},
    {"full of expired", 600, 120, 1000, FULL | EXPIRED},
    {"full replica", 600, 120, 0, FULL | REPLICATING},
    {"pinned", 120, 200, 100000, PINNED},
    {"pinned replica", 120, 200, 0, PINNED | REPLICATING | HOLES},
    {"full and warm", 600, 120, 0, FULL | WARM},
    {"full, pinned", 600, 120, 0, FULL | PINNED | WARM},
    {"split comes", 300, 8, 0, SPLIT},
    {"border rises", 300, 8, 0, BORDER},
    {"border pinned", 300, 8, 0, BORDER | PINNED | HOLES},
    {"crowded", 420, 20, 0, CROWDED},
    {"tombstones", 120, 60, 0, REPLICATING | TOMBSTONES},
    {"held blocks", 120, 150, 100000, HELD},
    {"held replica", 120, 150, 0, HELD | REPLICATING},
    {"notes pending", 120, 60, 0, REPLICATING | NOTES},
    {"holder stopped", 120, 60, 0, LOCKED},
    {"holder stopped, replica", 120, 60, 0, LOCKED | REPLICATING},
    {"orphan", 120, 60, 0, ORPHAN | HOLES},
    {"orphan replica", 120, 60, 0, ORPHAN | REPLICATING},
    {"flushed", 120, 100, 0, FLUSHED},
    {"probation shrinks", 600, 120, 0, FULL | SHRINKS},
    {"probation grows", 600, 120, 0, FULL | GROWS | WARM},
    {"pins all over", 600, 120, 0, FULL | SPREAD},
    {"clock, full and warm", 600, 120, 0, FULL | WARM | CLOCK},
    {"clock, border rises", 300, 8, 0, BORDER | CLOCK},
    {"merge comes", 600, 0, 0, MERGES},
    {"merge comes, pinned", 600, 0, 100000, MERGES | PINNED},
    {"border falls", 880, 0, 0, MERGES | FALLS},
    {"clock, border falls", 960, 0, 0, MERGES | FALLS | CLOCK},
};
const unsigned scenario_state_count = sizeof scenario_states / sizeof scenario_states[0];

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
};

int scenario_state_number(const char *name) {
    for (unsigned i = 0; i < scenario_state_count; i++)
        if (strcmp(scenario_states[i].name, name) == 0)
            return (int)i;
    return -1;
}

int scenario_operation_number(const char *name) {
    for (unsigned i = 0; i < SCENARIO_OPERATIONS; i++)
        if (strcmp(scenario_operation_names[i], name) == 0)
            return (int)i;
    return -1;
}

bool scenario_applies(const struct scenario_state *state, enum scenario_operation operation) {
    if (state->traits & LOCKED) /* others wait, and say BUSY */
        return operation == DELETE || operation == DELETE_ABSENT || operation == GET || operation == GET_MANY ||
               operation == PIN || operation == FLUSH || operation == APPLY_FLUSH;
    if (operation == REAP || scenario_needs_fork(operation)) /* the stripe does not matter to them */
        return (state->traits & ORPHAN) != 0 || strcmp(state->name, "some") == 0;
    return true;
}

__attribute__((format(printf, 2, 3))) static bool fails(struct scenario *s, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(s->what, sizeof s->what, format, arguments);
    va_end(arguments);
    return false;
}

static uint64_t target_of(const struct scenario *s) {
    return s->keys[TARGET];
}

static size_t value_of(const struct scenario *s, uint64_t key, uint8_t *out) {
    const uint32_t len = s->state->value;
    uint32_t bytes = len == 0 ? 8 : len / 2 + (uint32_t)(key * 13 % (len / 2 + 1)) + 8;
    for (uint32_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(key * 31 + i * 7);
    if (key == target_of(s))
        memcpy(out, "41", 2);
    return key == target_of(s) ? 2 : bytes;
}

static uint64_t new_key(const struct scenario *s, unsigned i) {
    return i == 0 ? s->other : 2000000 + i;
}

static bool put_key(struct scenario *s, struct lr_cache *cache, uint64_t key, uint64_t ttl_ms) {
    uint8_t value[512];
    struct lr_put put = {
        .key = &key, .key_len = 8, .value = value, .value_len = value_of(s, key, value), .ttl_ms = ttl_ms};
    int error = lr_put(cache, &put);
    return error == 0 || fails(s, "preparing: put: %s", lr_error_name(error));
}

/* ---- preparing ------------------------------------------------------------------------------------------------ */

void scenario_let_byte_fall(struct lr_cache *cache) {
    munmap(cache->live_page, (size_t)sysconf(_SC_PAGESIZE));
    cache->live_page = NULL;
}

static struct lr_view view_of(const struct scenario *s) {
    return lr_view_of(s->survivor, 0);
}

static bool next_put_grows(const struct scenario *s, bool border) {
    struct lr_view view = view_of(s);
    uint64_t buckets = lr_buckets(&view), entries = lr_load(&view.stripe->items) + lr_load(&view.stripe->tombstones);
    bool rises = lr_index_bytes(&view.cache->geometry, buckets + 1) > lr_load(&view.stripe->border_off);
    return entries * 4 > buckets * 28 && rises == border;
}

/* Fills the two buckets that walks visit last with keys that have no others; the next such key is the new one. */
static bool crowd(struct scenario *s) {
    struct lr_view view = view_of(s);
    const uint32_t buckets = lr_buckets(&view);
    uint32_t a = 0, b = 0; /* the last of those up to `bucket`, and the last but one */
    for (uint32_t bucket = 1; bucket < buckets; bucket++)
        if (lr_walk_before(a, bucket)) {
            b = a;
            a = bucket;
        } else if (lr_walk_before(b, bucket)) {
            b = bucket;
        }
    for (uint64_t key = 3000000; key < 4000000; key++) {
        uint32_t placing = lr_placing(lr_place(s->survivor, lr_hash_key(&key, 8)));
        uint32_t first = lr_bucket_of(placing, buckets), second = lr_bucket_of(lr_second(placing), buckets);
        if ((first != a && first != b) || (second != a && second != b) || first == second)
            continue;
        s->other = key;
        if (((lr_bucket_empty(lr_bucket_at(&view, a)) | lr_bucket_empty(lr_bucket_at(&view, b))) & LR_BUCKET_ALL) == 0)
            return true;
        s->keys[s->count++] = key;
        if (s->count == SCENARIO_KEYS || !put_key(s, s->victim, key, 0))
            break;
    }
    return fails(s, "preparing: no crowd");
}

static bool put_keys(struct scenario *s) {
    const struct scenario_state *state = s->state;
    s->count = state->keys;
    for (unsigned i = 0; i < s->count; i++) {
        /* The operation's key and its neighbours come last, so that they are there even where things are evicted. */
        unsigned n = (i + SCENARIO_KEPT) % s->count;
        if (!put_key(s, s->victim, s->keys[n], n % 3 == 1 ? state->ttl_ms : 0))
            return false;
    }
    while (state->traits & (SPLIT | BORDER) && !next_put_grows(s, (state->traits & BORDER) != 0)) {
        if (s->count == SCENARIO_KEYS)
            return fails(s, "preparing: the index does not grow");
        if (!put_key(s, s->victim, s->keys[s->count], 0))
            return false;
        s->count++;
    }
    return !(state->traits & CROWDED) || crowd(s);
}

static bool fill_tombstones(struct scenario *s) {
    uint32_t epoch;
    uint64_t head;
    for (unsigned i = 0; i < 102; i++) {
        uint64_t key = 4000000 + i;
        if (i == 50 && lr_epoch_begin(s->victim, 0, &epoch, &head) == 0)
            lr_epoch_acked(s->victim, 0, epoch);
        if (!put_key(s, s->victim, key, 0) || lr_delete(s->victim, &key, 8) != 0)
            return fails(s, "preparing: tombstones");
    }
    return true;
}

static bool hold_blocks(struct scenario *s) {
    for (unsigned i = 0; i < SCENARIO_PINS; i++) {
        uint64_t key = s->keys[20 + 4 * i];
        if (lr_pin(s->survivor, &key, 8, &s->pins[i]) != 0 || lr_delete(s->victim, &key, 8) != 0)
            return fails(s, "preparing: held blocks");
    }
    lr_unpin(s->survivor, &s->pins[0]);
    lr_unpin(s->survivor, &s->pins[2]);
    return true;
}

/* Deletes that the victim makes while the survivor does not answer. */
static bool leave_notes(struct scenario *s) {
    struct lr_view view;
    if (lr_stripe_lock(&view, s->survivor, 0) != 0)
        return fails(s, "preparing: lock");
    s->victim->wait_ms = 1;
    for (unsigned i = 30; i < 33; i++)
        (void)lr_delete(s->victim, &s->keys[i], 8);
    lr_stripe_unlock(&view);
    return lr_load(&view.stripe->notes[0].owner) != 0 || fails(s, "preparing: no notes");
}

/* They pinned something, took a dead one's lock over, and got as far as an unnamed block and wrong sums. */
static bool leave_orphan(struct scenario *s) {
    struct lr_view view;
    struct lr_pin pin;
    struct lr_room room;
    if (lr_cache_attach(&s->options, &s->earlier, NULL) != 0)
        return fails(s, "preparing: attach");
    lr_drive_clock(s->earlier, NOW_MS);
    if (lr_pin(s->earlier, &s->keys[8], 8, &pin) != 0 || lr_stripe_lock(&view, s->earlier, 0) != 0)
        return fails(s, "preparing: orphan");
    struct lr_key key = lr_key_of(s->earlier, "unnamed", 7);
    struct lr_making making = {
        .key = &key, .value = "v", .value_len = 1, .version = lr_version_draw(&view), .deadline_ms = UINT64_MAX};
    if (lr_hand_room(&view, LR_MAIN, lr_entry_size(&making), 0, LR_ROOM_EVICT, &room) != 0)
        return fails(s, "preparing: room");
    (void)lr_entry_fill(&view, &room, &making);
    lr_store(&view.stripe->items, 12345);
    lr_store(&view.stripe->bin_map[LR_MAIN], 0);
    atomic_fetch_or(&view.stripe->lock, SM_LOCK_WAITERS | SM_LOCK_RECOVER);
    scenario_let_byte_fall(s->earlier);
    return true;
}

/* Probation's hand stands some blocks before the divide, and probation has three times its share. */
static bool prepare_shrinking(struct scenario *s) {
    struct lr_view view;
    if (lr_stripe_lock(&view, s->victim, 0) != 0)
        return fails(s, "preparing: lock");
    lr_store(&view.stripe->share, LR_SHARE_LEAST);
    const struct lr_span whole = lr_region_of(&view, LR_PROBATION);
    lr_hand_jump(&view, LR_PROBATION, whole.start);
    for (unsigned i = 0; i < 1000 && lr_gap_of(&view, LR_PROBATION).end + 600 < whole.end; i++) {
        const uint64_t at = lr_gap_of(&view, LR_PROBATION).end;
        lr_hand_jump(&view, LR_PROBATION, at + lr_block_size(lr_load(&lr_block_at(view.data, at)->word)));
    }
    lr_stripe_unlock(&view);
    return true;
}

/* There is no probation, and main's hand stands where it begins. */
static bool prepare_growing(struct scenario *s) {
    struct lr_view view;
    if (lr_stripe_lock(&view, s->victim, 0) != 0)
        return fails(s, "preparing: lock");
    lr_divide_dissolve(&view);
    lr_hand_jump(&view, LR_MAIN, lr_region_of(&view, LR_MAIN).start);
    lr_stripe_unlock(&view);
    return true;
}

/* The last keys go until there are so few entries for `buckets` buckets that fewer are wanted. */
static void thin_out(struct scenario *s, uint64_t buckets) {
    struct lr_view view = view_of(s);
    for (unsigned i = s->count; i > SCENARIO_KEPT && lr_load(&view.stripe->items) * 4 > buckets * 21; i--)
        lr_delete(s->victim, &s->keys[i - 1], 8);
}

/* The index has two buckets too many; FALLS: some more, and without them memory that it need not keep. */
static bool prepare_merging(struct scenario *s) {
    struct lr_view view = view_of(s);
    const uint32_t least = view.cache->geometry.least_buckets;
    if (s->state->traits & FALLS) {
        thin_out(s, least / 3);
        for (unsigned i = 0; i < 200 && lr_buckets(&view) > least + 16; i++)
            if (!put_key(s, s->victim, s->keys[SCENARIO_KEPT - 1 - i % 20], 0))
                return false;
    }
    if (lr_buckets(&view) < least + 2)
        return fails(s, "preparing: no buckets to merge");
    if (!(s->state->traits & FALLS))
        thin_out(s, lr_buckets(&view) - 2);
    /* Numbers may be left out; with this one the next put shrinks the index. */
    lr_store(&view.stripe->incarnation, (lr_load(&view.stripe->incarnation) | 15u) + 1);
    return true;
}

/* Pins that cut main in equal parts. */
static bool spread_pins(struct scenario *s) {
    struct lr_view view = view_of(s);
    const struct lr_span main = lr_region_of(&view, LR_MAIN);
    for (unsigned i = 0; i < SCENARIO_PINS; i++) {
        const uint64_t wanted = main.start + (main.end - main.start) / (SCENARIO_PINS + 1) * (i + 1);
        uint64_t best = UINT64_MAX, nearest = 0;
        for (unsigned k = 0; k < s->count; k++) {
            struct lr_key key = lr_key_of(s->survivor, &s->keys[k], 8);
            struct lr_found found = lr_index_find(&view, &key);
            uint64_t far = found.slot == NULL        ? UINT64_MAX
                           : found.head.off > wanted ? found.head.off - wanted
                                                     : wanted - found.head.off;
            if (far < best) {
                best = far;
                nearest = s->keys[k];
            }
        }
        if (lr_pin(s->survivor, &nearest, 8, &s->pins[i]) != 0)
            return fails(s, "preparing: pins");
    }
    return true;
}

static bool apply_traits(struct scenario *s) {
    const unsigned traits = s->state->traits;
    uint8_t value[512];
    for (unsigned i = 1; traits & HOLES && i < s->count; i += 4)
        if (i != TARGET)
            lr_delete(s->victim, &s->keys[i], 8);
    for (unsigned i = 0; traits & WARM && i < 3 * s->count; i++)
        (void)lr_get(s->survivor, &s->keys[i % s->count], 8, value, sizeof value, NULL, 0);
    if (traits & FLUSHED) {
        lr_flush(s->victim);
        for (unsigned i = 0; i < 12; i++)
            if (!put_key(s, s->victim, s->keys[i], 0))
                return false;
    }
    if ((traits & TOMBSTONES && !fill_tombstones(s)) || (traits & HELD && !hold_blocks(s)) ||
        (traits & NOTES && !leave_notes(s)))
        return false;
    if (traits & MERGES && !prepare_merging(s))
        return false;
    if ((traits & SHRINKS && !prepare_shrinking(s)) || (traits & GROWS && !prepare_growing(s)) ||
        (traits & SPREAD && !spread_pins(s)))
        return false;
    if (traits & EXPIRED) {
        lr_drive_clock(s->victim, NOW_MS + PAST_TTL_MS);
        lr_drive_clock(s->survivor, NOW_MS + PAST_TTL_MS);
    }
    if (traits & PINNED && lr_pin(s->survivor, &s->keys[TARGET], 8, &s->pin) != 0)
        return fails(s, "preparing: pin");
    if (traits & ORPHAN && !leave_orphan(s))
        return false;
    s->victim->wait_ms = 2000;
    if (traits & LOCKED) {
        s->victim->wait_ms = 1;
        s->holds = lr_stripe_lock(&s->held, s->survivor, 0) == 0;
        return s->holds || fails(s, "preparing: lock");
    }
    return true;
}

bool scenario_prepare(struct scenario *s, const struct scenario_state *state) {
    struct timespec tick = {.tv_nsec = 8000000};
    char why[LR_WHY_BYTES];
    s->state = state;
    s->options.size = SM_MIN_STRIPE;
    s->options.stripes = 1;
    s->options.policy = state->traits & CLOCK ? LR_POLICY_clock : LR_POLICY_s3;
    s->options.wait_ms = 2000;
    s->other = 1000003;
    for (unsigned i = 0; i < SCENARIO_KEYS; i++)
        s->keys[i] = i;
    if (lr_cache_create(&s->options, &s->victim, why) != 0 || lr_cache_attach(&s->options, &s->survivor, why) != 0)
        return fails(s, "preparing: %.250s", why);
    lr_drive_clock(s->victim, NOW_MS);
    lr_drive_clock(s->survivor, NOW_MS);
    lr_set_replicating(s->victim, (state->traits & REPLICATING) != 0);
    if (!put_keys(s) || !apply_traits(s))
        return false;
    s->before_clock = lr_highest_version(s->victim);
    for (unsigned i = 0; i < s->count; i++) {
        uint8_t value[512];
        struct lr_item item;
        if (lr_get(s->survivor, &s->keys[i], 8, value, sizeof value, &item, LR_PEEK) == 0)
            s->versions[i] = item.version;
    }
    nanosleep(&tick, NULL); /* what is judged by the coarse clock is past */
    return true;
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
        uint64_t key = new_key(s, i);
        struct lr_put put = {.key = &key, .key_len = 8, .value = value, .value_len = value_of(s, key, value)};
        lr_put(s->victim, &put);
    }
}

static void get_many(struct scenario *s) {
    static uint8_t values[4][512];
    struct lr_read rows[4];
    for (unsigned i = 0; i < 4; i++)
        rows[i] =
            (struct lr_read){.key = &s->keys[TARGET + i], .key_len = 8, .buf = values[i], .cap = sizeof values[i]};
    lr_get_many(s->victim, rows, 4, 0);
}

static void operate_on_items(struct scenario *s) {
    static uint8_t large[9000];
    const uint64_t target = target_of(s), other = s->other;
    uint8_t value[512];
    struct lr_put put = {.key = &target, .key_len = 8, .value = "42", .value_len = 2};
    struct lr_put fresh = {.key = &other, .key_len = 8, .value = "42", .value_len = 2};
    struct lr_pin pin;
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
        put.expected = s->versions[TARGET];
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
    const uint64_t target = target_of(s);
    const uint64_t version = s->before_clock + (UINT64_C(5) << SM_VERSION_MS_SHIFT);
    struct lr_change change = {
        .key = &target, .key_len = 8, .value = "42", .value_len = 2, .version = version, .deadline_ms = UINT64_MAX};
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
        lr_raise_void(s->victim, 3, version, NULL);
        break;
    case RAISE_CLOCK:
        lr_raise_clock(s->victim, version);
        break;
    case SIDECAR:
        if (lr_sidecar_claim(s->victim) == 0) {
            lr_sidecar_report(s->victim, 2, 1, 10, 20);
            lr_modes_set(s->victim, &(struct lr_mode_row){.prefix = "~", .len = 1, .mode = LR_MODE_local}, 1);
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

#define PARTS 3u

struct part {
    uint8_t *at;
    uint64_t bytes;
};

static struct part part_of(const struct scenario *s, unsigned i) {
    const struct lr_cache *cache = s->survivor;
    const struct part parts[PARTS] = {
        {cache->base, SCENARIO_HEAD_BYTES}, {cache->controls, SCENARIO_CONTROL_BYTES}, {cache->data, SM_MIN_STRIPE}};
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

/* ---- survivors ------------------------------------------------------------------------------------------------ */

/* The keys that a judgement looks at: the first ones, and those that operations make. */
static unsigned looked_at(const struct scenario *s) {
    return s->count < SCENARIO_KEPT ? s->count : SCENARIO_KEPT;
}

static int read_key(struct scenario *s, uint64_t key, uint8_t value[16384], struct lr_item *item) {
    return lr_get(s->survivor, &key, 8, value, 16384, item, LR_PEEK);
}

static struct scenario_seen see(struct scenario *s, uint64_t key) {
    static uint8_t value[16384];
    struct lr_item item = {0};
    int result = read_key(s, key, value, &item);
    return (struct scenario_seen){result, result == 0 ? item.version : 0};
}

void scenario_look(struct scenario *s) {
    const unsigned keys = looked_at(s);
    for (unsigned i = 0; i < keys; i++)
        s->seen[i] = see(s, s->keys[i]);
    for (unsigned i = 0; i < SCENARIO_NEW; i++)
        s->seen[keys + i] = see(s, new_key(s, i));
}

bool scenario_take_over(struct scenario *s) {
    struct lr_view view;
    if (s->holds) {
        view = s->held;
        lr_stripe_unlock(&view);
    }
    lr_reap(s->survivor);
    if (lr_stripe_lock(&view, s->survivor, 0) != 0)
        return fails(s, "the stripe stays locked");
    lr_stripe_unlock(&view);
    return true;
}

/* A delete that was noted, or whose answer was out, may only now take effect. */
static bool may_vanish(const struct scenario *s, uint64_t key) {
    return s->operation == DELETE && s->holds && key == target_of(s);
}

static bool expect_as_seen(struct scenario *s) {
    const unsigned keys = looked_at(s);
    for (unsigned i = 0; i < keys + SCENARIO_NEW; i++) {
        uint64_t key = i < keys ? s->keys[i] : new_key(s, i - keys);
        struct scenario_seen now = see(s, key), before = s->seen[i];
        if (now.result == before.result && now.version == before.version)
            continue;
        if (now.result == LARDER_ENOT_FOUND && may_vanish(s, key))
            continue;
        return fails(s, "key %llu: a reader saw %s (version %llx), after the repair %s (version %llx)",
                     (unsigned long long)key, before.result == 0 ? "a value" : lr_error_name(before.result),
                     (unsigned long long)before.version, now.result == 0 ? "a value" : lr_error_name(now.result),
                     (unsigned long long)now.version);
    }
    return true;
}

static bool evicts(const struct scenario *s) {
    if (!(s->state->traits & FULL))
        return false;
    switch (s->operation) {
    case GET:
    case GET_MANY:
    case PIN:
    case EPOCH:
    case RAISE_VOID:
    case RAISE_CLOCK:
    case SIDECAR:
    case SWEEP:
    case REAP:
    case JOIN:
    case LEAVE:
        return false;
    default:
        return true;
    }
}

static bool flushes(const struct scenario *s) {
    return s->operation == FLUSH || s->operation == APPLY_FLUSH;
}

/* What went while there are peers is remembered: by a tombstone, or by the void of its range. */
static bool expect_remembered(struct scenario *s, unsigned i) {
    static uint8_t entry[65536];
    struct lr_entry found;
    const enum scenario_operation o = s->operation;
    const uint64_t hash = lr_cluster_hash(&s->keys[i], 8);
    if (!(s->state->traits & REPLICATING) || s->versions[i] == 0 || flushes(s))
        return true;
    if (i == TARGET && (o == DROP || o == APPLY_EXPIRED)) /* the peer has something newer */
        return true;
    if (lr_entry_by_hash(s->survivor, hash, entry, sizeof entry, &found) == 0 &&
        (found.tombstone ? found.version + 1 >= s->versions[i] : found.version > s->versions[i]))
        return true;
    return lr_load(&lr_stripe_at(s->survivor, 0)->range_void[lr_range_of(hash)]) + 1 >= s->versions[i] ||
           fails(s, "key %llu went, and no peer will hear of it", (unsigned long long)s->keys[i]);
}

static bool expect_value(struct scenario *s, unsigned i) {
    static uint8_t value[16384];
    uint8_t expected[512];
    struct lr_item item;
    size_t len = value_of(s, s->keys[i], expected);
    int result = read_key(s, s->keys[i], value, &item);
    if (result == 0 && (item.value_len != len || memcmp(value, expected, len) != 0))
        return fails(s, "key %llu has a value that is not its own", (unsigned long long)s->keys[i]);
    if (result == 0)
        return s->versions[i] != 0 || fails(s, "key %llu came back", (unsigned long long)s->keys[i]);
    if (result != LARDER_ENOT_FOUND)
        return fails(s, "key %llu: %s", (unsigned long long)s->keys[i], lr_error_name(result));
    if (!expect_remembered(s, i))
        return false;
    return s->versions[i] == 0 || evicts(s) || flushes(s) ||
           fails(s, "key %llu is lost", (unsigned long long)s->keys[i]);
}

/* The operation's key has its old value or its new one, or is absent where the operation may remove it. */
static bool expect_target(struct scenario *s) {
    static uint8_t value[16384];
    struct lr_item item;
    const enum scenario_operation o = s->operation;
    int result = read_key(s, target_of(s), value, &item);
    bool had = s->count > TARGET && s->versions[TARGET] != 0;
    bool creates = o == PUT_REPLACE || o == INCREMENT || o == APPLY_PUT;
    bool changes = creates || (had && (o == CAS || o == REPLACE_FLAGS));
    bool removes = o == DELETE || o == APPLY_TOMBSTONE || o == DROP || o == APPLY_EXPIRED || flushes(s) || evicts(s);
    bool is_old = result == 0 && item.value_len == 2 && memcmp(value, "41", 2) == 0;
    bool is_new = result == 0 && item.value_len == 2 && memcmp(value, "42", 2) == 0;
    if ((is_old && had) || (is_new && changes))
        return true;
    if (result == LARDER_ENOT_FOUND && (!had || removes))
        return !had || expect_remembered(s, TARGET);
    return fails(s, "the operation's key: %s",
                 result != 0 ? lr_error_name(result)
                 : is_old    ? "came back"
                             : "wrong value");
}

static bool makes(const struct scenario *s, unsigned i) {
    const enum scenario_operation o = s->operation;
    return i == 0 ? o == PUT_NEW || o == PUT_LARGE || o == ADD_TTL || o == APPLY_NO_EVICT : o == PUT_MANY;
}

static bool expect_new(struct scenario *s, unsigned i) {
    static uint8_t value[16384];
    static const uint8_t zero[9000];
    uint8_t expected[512] = "42";
    struct lr_item item;
    int result = read_key(s, new_key(s, i), value, &item);
    if (result == LARDER_ENOT_FOUND)
        return true;
    if (result != 0 || !makes(s, i))
        return fails(s, "a new key: %s", result == 0 ? "from nowhere" : lr_error_name(result));
    size_t len = s->operation == PUT_LARGE ? sizeof zero : i == 0 ? 2 : value_of(s, new_key(s, i), expected);
    const uint8_t *wanted = s->operation == PUT_LARGE ? zero : expected;
    return (item.value_len == len && memcmp(value, wanted, len) == 0) || fails(s, "a new key: wrong value");
}

static uint64_t counted(const struct scenario *s, enum lr_counter counter) {
    uint64_t sum = lr_load(&s->survivor->header->retired_counters[counter]);
    for (unsigned i = 0; i < SCENARIO_SLOTS; i++)
        sum += lr_load(&s->survivor->participants[i].counters[counter]);
    return sum;
}

static bool expect_healthy(struct scenario *s) {
    struct lr_check check;
    int result = lr_check(s->survivor, &check);
    if (result != 0)
        return fails(s, "check: %s", check.findings != 0 ? check.first[0] : lr_error_name(result));
    if (counted(s, LR_C_repair_dropped) != 0)
        return fails(s, "%llu items were dropped", (unsigned long long)counted(s, LR_C_repair_dropped));
    return counted(s, LR_C_corrupt_seen) == 0 || fails(s, "corrupt references were met");
}

/* Nobody but the living has a slot, and nothing is noted or held for the dead. */
static bool expect_no_traces(struct scenario *s) {
    struct sm_stripe *stripe = lr_stripe_at(s->survivor, 0);
    for (unsigned i = 0; i < SCENARIO_SLOTS; i++) {
        bool alive = i == s->survivor->slot || (i == s->victim->slot && s->victim->live_page != NULL);
        if (!alive && atomic_load(&s->survivor->participants[i].state) != SM_SLOT_FREE)
            return fails(s, "slot %u of a dead participant is not free", i);
        if (!alive && lr_load(&s->survivor->participants[i].pin_summary) != 0)
            return fails(s, "slot %u of a dead participant pins", i);
    }
    for (unsigned i = 0; i < SM_NOTES; i++)
        if (lr_load(&stripe->notes[i].owner) != 0)
            return fails(s, "delete note %u is left", i);
    if (atomic_load(&stripe->notes_pending) != 0)
        return fails(s, "a delete note's bit is left");
    return true;
}

/* A new item, and again health: what the repair built can be worked with. */
static bool expect_usable(struct scenario *s) {
    struct lr_put put = {.key = "again", .key_len = 5, .value = s->keys, .value_len = 40};
    uint8_t value[64];
    int error = lr_put(s->survivor, &put);
    if (error != 0)
        return fails(s, "cannot be written again: %s", lr_error_name(error));
    if (lr_get(s->survivor, "again", 5, value, sizeof value, NULL, LR_PEEK) != 0 || memcmp(value, s->keys, 40) != 0)
        return fails(s, "what is written now is not read");
    return s->judgements % 4 != 0 || expect_healthy(s); /* now and then: it costs as much as all the rest */
}

bool scenario_judge(struct scenario *s) {
    bool right = expect_as_seen(s) && expect_healthy(s);
    if (right && lr_sweep(s->survivor, 0, 1, UINT64_MAX) < 0)
        right = fails(s, "cannot be swept");
    right = right && expect_no_traces(s) && expect_target(s);
    for (unsigned i = 0; right && i < looked_at(s); i++)
        right = i == TARGET || expect_value(s, i);
    for (unsigned i = 0; right && i < SCENARIO_NEW; i++)
        right = expect_new(s, i);
    /* The others only now and then: they are many. */
    for (unsigned i = SCENARIO_KEPT + s->judgements % 8; right && i < s->count; i += 8)
        right = expect_value(s, i);
    if (right && s->pin.value != NULL && memcmp(s->pin.value, "41", 2) != 0)
        right = fails(s, "the pinned value has changed");
    right = right && expect_usable(s);
    s->judgements++;
    return right;
}
