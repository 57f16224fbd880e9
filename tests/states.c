/* SPDX-License-Identifier: MIT */
/* The states that a stripe can be in when somebody dies, each made by calls that any process may make. */
#include "states.h"
#include "bucket.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define NOW_MS UINT64_C(1000000000)
#define PAST_TTL_MS 5000u

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
    {"modes", 120, 60, 0, MODAL | REPLICATING},
    {"modes, local", 120, 60, 0, MODAL | REPLICATING | OURS},
    {"modes, filled", 120, 60, 0, MODAL | REPLICATING | FILLED | HOLES},
    {"modes, deleted", 120, 60, 0, MODAL | REPLICATING | DELETED},
    {"modes, full", 600, 120, 0, MODAL | REPLICATING | FULL},
    {"holder stopped, modes", 120, 60, 0, MODAL | REPLICATING | LOCKED},
    {"holder stopped, local", 120, 60, 0, MODAL | REPLICATING | LOCKED | OURS},
    {"by age, full and warm", 600, 120, 0, FULL | WARM | AGED},
    {"age takes over, full", 600, 120, 0, FULL | WARM | AGES},
};
const unsigned scenario_state_count = sizeof scenario_states / sizeof scenario_states[0];

const struct lr_mode_row scenario_modes[2] = {{.prefix = "i", .len = 1, .mode = LR_MODE_invalidate},
                                              {.prefix = "l", .len = 1, .mode = LR_MODE_local}};
const struct lr_mode_row scenario_new_mode = {.prefix = "~", .len = 1, .mode = LR_MODE_local};

int scenario_state_number(const char *name) {
    for (unsigned i = 0; i < scenario_state_count; i++)
        if (strcmp(scenario_states[i].name, name) == 0)
            return (int)i;
    return -1;
}

/* Where keys have modes: what does not look at them need not be tried again. */
static bool applies_to_modes(enum scenario_operation operation) {
    switch (operation) {
    case PUT_NEW:
    case PUT_REPLACE:
    case PUT_MANY:
    case DELETE:
    case DELETE_ABSENT:
    case TOUCH_LONGER:
    case TOUCH_SHORTER:
    case APPLY_PUT:
    case APPLY_NO_EVICT:
    case APPLY_EXPIRED:
    case APPLY_TOMBSTONE:
    case APPLY_FLUSH:
    case DROP:
    case FLUSH:
    case SIDECAR:
        return true;
    default:
        return operation >= FILL;
    }
}

bool scenario_applies(const struct scenario_state *state, enum scenario_operation operation) {
    if (state->traits & LOCKED) /* others wait, and say BUSY */
        return operation == DELETE || operation == DELETE_ABSENT || operation == GET || operation == GET_MANY ||
               operation == PIN || operation == FLUSH || operation == APPLY_FLUSH;
    if (state->traits & MODAL)
        return applies_to_modes(operation);
    if (operation >= FILL)
        return false;
    if (operation == REAP || scenario_needs_fork(operation)) /* the stripe does not matter to them */
        return (state->traits & ORPHAN) != 0 || strcmp(state->name, "some") == 0;
    return true;
}

/* Whatever comes first repairs the stripe, or makes the border rise: a thousand stores. The two states that are so
 * share the operations. */
bool scenario_is_spared(const struct scenario_state *state, enum scenario_operation operation) {
    const bool odd = operation % 2 != 0;
    if (state->traits & ORPHAN)
        return odd != ((state->traits & REPLICATING) != 0);
    return (state->traits & BORDER) != 0 && state->traits & CLOCK && odd;
}

bool scenario_fails(struct scenario *s, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(s->what, sizeof s->what, format, arguments);
    va_end(arguments);
    return false;
}

size_t scenario_value(const struct scenario *s, uint64_t key, uint8_t out[512]) {
    const uint32_t len = s->state->value;
    uint32_t bytes = len == 0 ? 8 : len / 2 + (uint32_t)(key * 13 % (len / 2 + 1)) + 8;
    for (uint32_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(key * 31 + i * 7);
    if (key == scenario_target(s))
        memcpy(out, "41", 2);
    return key == scenario_target(s) ? 2 : bytes;
}

static bool put_key(struct scenario *s, struct lr_cache *cache, uint64_t key, uint64_t ttl_ms) {
    uint8_t value[512];
    struct lr_put put = {
        .key = &key, .key_len = 8, .value = value, .value_len = scenario_value(s, key, value), .ttl_ms = ttl_ms};
    int error = lr_put(cache, &put);
    return error == 0 || scenario_fails(s, "preparing: put: %s", lr_error_name(error));
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
    return scenario_fails(s, "preparing: no crowd");
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
            return scenario_fails(s, "preparing: the index does not grow");
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
            return scenario_fails(s, "preparing: tombstones");
    }
    return true;
}

static bool hold_blocks(struct scenario *s) {
    for (unsigned i = 0; i < SCENARIO_PINS; i++) {
        uint64_t key = s->keys[20 + 4 * i];
        if (lr_pin(s->survivor, &key, 8, &s->pins[i]) != 0 || lr_delete(s->victim, &key, 8) != 0)
            return scenario_fails(s, "preparing: held blocks");
    }
    lr_unpin(s->survivor, &s->pins[0]);
    lr_unpin(s->survivor, &s->pins[2]);
    return true;
}

/* Deletes that the victim makes while the survivor does not answer. */
static bool leave_notes(struct scenario *s) {
    struct lr_view view;
    if (lr_stripe_lock(&view, s->survivor, 0) != 0)
        return scenario_fails(s, "preparing: lock");
    s->victim->wait_ms = 1;
    for (unsigned i = 30; i < 33; i++)
        (void)lr_delete(s->victim, &s->keys[i], 8);
    lr_stripe_unlock(&view);
    return lr_load(&view.stripe->notes[0].owner) != 0 || scenario_fails(s, "preparing: no notes");
}

/* They pinned something, took a dead one's lock over, and got as far as an unnamed block and wrong sums. */
static bool leave_orphan(struct scenario *s) {
    struct lr_view view;
    struct lr_pin pin;
    struct lr_room room;
    if (lr_cache_attach(&s->options, &s->earlier, NULL) != 0)
        return scenario_fails(s, "preparing: attach");
    lr_drive_clock(s->earlier, NOW_MS);
    if (lr_pin(s->earlier, &s->keys[8], 8, &pin) != 0 || lr_stripe_lock(&view, s->earlier, 0) != 0)
        return scenario_fails(s, "preparing: orphan");
    struct lr_key key = lr_key_of(s->earlier, "unnamed", 7);
    struct lr_making making = {
        .key = &key, .value = "v", .value_len = 1, .version = lr_version_draw(&view), .deadline_ms = UINT64_MAX};
    if (lr_hand_room(&view, LR_MAIN, lr_entry_size(&making), 0, LR_ROOM_EVICT, &room) != 0)
        return scenario_fails(s, "preparing: room");
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
        return scenario_fails(s, "preparing: lock");
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

static uint64_t free_in_main(const struct lr_view *view) {
    const struct lr_span gap = lr_gap_of(view, LR_MAIN);
    return gap.end - gap.start + lr_load(&view->stripe->hole_bytes);
}

/* Small ones go to main, wherever there is room: until next to nothing is free there. */
static bool fill_main(struct scenario *s) {
    const struct lr_view view = view_of(s);
    for (uint64_t key = 5000000; key < 5000200 && free_in_main(&view) > 200; key++) {
        struct lr_put put = {.key = &key, .key_len = 8, .value = "small", .value_len = 5};
        if (lr_put(s->victim, &put) != 0)
            return scenario_fails(s, "preparing: put");
    }
    return free_in_main(&view) <= 200 || scenario_fails(s, "preparing: main is not full");
}

/* The block behind main's gap goes. */
static bool widen_gap(struct scenario *s, struct lr_view *view) {
    struct lr_head head;
    uint64_t word;
    if (!lr_head_read(view->cache, view->data, lr_gap_of(view, LR_MAIN).end, &head))
        return scenario_fails(s, "preparing: no block");
    sm_u64 *slot = lr_index_slot_of(view, (uint32_t)(head.identity >> 32), head.off, &word);
    return (slot != NULL && lr_entry_forget(view, slot, word, &head, LR_FORGET_DELETE, true)) ||
           scenario_fails(s, "preparing: the block stays");
}

/* Probation's hand is at its end, and what probation lacks of its share ends within one of the blocks that went from
 * main's start, which are main's gap now. */
static bool prepare_growing(struct scenario *s) {
    struct lr_view view;
    if (!fill_main(s))
        return false;
    if (lr_stripe_lock(&view, s->victim, 0) != 0)
        return scenario_fails(s, "preparing: lock");
    const struct lr_span probation = lr_region_of(&view, LR_PROBATION), main = lr_region_of(&view, LR_MAIN);
    lr_hand_jump(&view, LR_PROBATION, probation.end);
    lr_hand_jump(&view, LR_MAIN, main.start);
    bool right = true;
    while (right && lr_gap_of(&view, LR_MAIN).end < main.start + 600)
        right = widen_gap(s, &view);
    const uint64_t share = (probation.end - probation.start + 400) / SM_GRANULE << 32;
    lr_store(&view.stripe->share, share / ((main.end - probation.start) / SM_GRANULE) + 1);
    lr_stripe_unlock(&view);
    return right;
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
        return scenario_fails(s, "preparing: no buckets to merge");
    if (!(s->state->traits & FALLS))
        thin_out(s, lr_buckets(&view) - 2);
    /* Numbers may be left out; with this one the next put shrinks the index. */
    lr_store(&view.stripe->incarnation, (lr_load(&view.stripe->incarnation) | 15u) + 1);
    return true;
}

/* Pins that cut main in equal parts, of which none has room for a large value. */
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
            return scenario_fails(s, "preparing: pins");
    }
    /* A large value goes to main where that is not read any more: as if none of those had been watched (policy.c). */
    for (unsigned i = 0; i < SM_WATCHED; i++)
        atomic_store(&view.stripe->watched[i], 0);
    atomic_store(&view.stripe->silence, UINT32_MAX / 2);
    return true;
}

static bool fill_key(struct scenario *s, uint64_t key) {
    uint8_t value[512];
    struct lr_put put = {.key = &key, .key_len = 8, .value = value, .mode = LR_FILL_IN};
    put.value_len = scenario_value(s, key, value);
    return lr_put(s->victim, &put) == 0 || scenario_fails(s, "preparing: fill");
}

/* All that was put so far the peers have; some of it is changed again, and some of either is filled in. */
static bool mix_kinds(struct scenario *s) {
    const uint64_t target = scenario_target(s);
    uint32_t epoch;
    uint64_t head;
    if (lr_epoch_begin(s->victim, 0, &epoch, &head) != 0)
        return scenario_fails(s, "preparing: epoch");
    lr_epoch_acked(s->victim, 0, epoch);
    for (unsigned i = 0; i < 15; i++)
        if (!put_key(s, s->victim, s->keys[i], 0))
            return false;
    for (unsigned i = 0; i < 60; i += 6)
        if (!fill_key(s, s->keys[i]))
            return false;
    if ((s->state->traits & FILLED && !fill_key(s, target)) ||
        (s->state->traits & DELETED && lr_delete(s->victim, &target, 8) != 0))
        return scenario_fails(s, "preparing: the operation's key");
    return (lr_mark(s->survivor, &target, 8, &s->mark) == 0 &&
            lr_mark(s->survivor, &s->other, 8, &s->other_mark) == 0) ||
           scenario_fails(s, "preparing: marks");
}

static bool apply_traits(struct scenario *s) {
    const unsigned traits = s->state->traits;
    uint8_t value[512];
    for (unsigned i = 1; traits & HOLES && i < s->count; i += 4)
        if (i != SCENARIO_TARGET)
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
    if ((traits & MERGES && !prepare_merging(s)) || (traits & MODAL && !mix_kinds(s)))
        return false;
    if ((traits & SHRINKS && !prepare_shrinking(s)) || (traits & GROWS && !prepare_growing(s)) ||
        (traits & SPREAD && !spread_pins(s)))
        return false;
    if (traits & AGES) {
        atomic_store(&s->victim->header->policy_turn, 1);
        atomic_store(&lr_stripe_at(s->victim, 0)->filled, 1); /* just now */
    }
    if (traits & EXPIRED) {
        lr_drive_clock(s->victim, NOW_MS + PAST_TTL_MS);
        lr_drive_clock(s->survivor, NOW_MS + PAST_TTL_MS);
    }
    if (traits & PINNED && lr_pin(s->survivor, &s->keys[SCENARIO_TARGET], 8, &s->pin) != 0)
        return scenario_fails(s, "preparing: pin");
    if (traits & ORPHAN && !leave_orphan(s))
        return false;
    s->victim->wait_ms = 2000;
    if (traits & LOCKED) {
        s->victim->wait_ms = 1;
        s->holds = lr_stripe_lock(&s->held, s->survivor, 0) == 0;
        return s->holds || scenario_fails(s, "preparing: lock");
    }
    return true;
}

/* What there is of it before the operation. */
static void note_key(struct scenario *s, unsigned i) {
    uint8_t value[512];
    struct lr_item item;
    struct lr_entry entry;
    if (lr_get(s->survivor, &s->keys[i], 8, value, sizeof value, &item, LR_PEEK) == 0)
        s->versions[i] = item.version;
    if (s->state->traits & MODAL &&
        lr_entry_by_hash(s->survivor, lr_cluster_hash(&s->keys[i], 8), value, sizeof value, &entry) == 0)
        s->owed[i] = scenario_is_owed(s, &entry);
}

bool scenario_prepare(struct scenario *s, const struct scenario_state *state) {
    struct timespec tick = {.tv_nsec = 8000000};
    char why[LR_WHY_BYTES];
    s->state = state;
    s->options.size = SM_MIN_STRIPE;
    s->options.stripes = 1;
    s->options.policy = state->traits & CLOCK ? LR_POLICY_clock : LR_POLICY_s3;
    s->options.wait_ms = 2000;
    s->other = scenario_key(state, SCENARIO_OTHER);
    for (unsigned i = 0; i < SCENARIO_KEYS; i++)
        s->keys[i] = scenario_key(state, i);
    if (lr_cache_create(&s->options, &s->victim, why) != 0 || lr_cache_attach(&s->options, &s->survivor, why) != 0)
        return scenario_fails(s, "preparing: %.250s", why);
    if (state->traits & AGED)
        atomic_store(&s->victim->header->policy_turn, 1);
    else
        atomic_store(&lr_stripe_at(s->victim, 0)->filled, 1); /* the rules need not prove better first */
    lr_drive_clock(s->victim, NOW_MS);
    lr_drive_clock(s->survivor, NOW_MS);
    lr_set_replicating(s->victim, (state->traits & REPLICATING) != 0);
    if (state->traits & MODAL) {
        if (lr_modes_set(s->victim, scenario_modes, 2) != 0)
            return scenario_fails(s, "preparing: modes");
        lr_modes_fitted(s->victim);
    }
    if (!put_keys(s) || !apply_traits(s))
        return false;
    s->before_clock = lr_highest_version(s->victim);
    for (unsigned i = 0; i < s->count; i++)
        note_key(s, i);
    nanosleep(&tick, NULL); /* what is judged by the coarse clock is past */
    return true;
}
