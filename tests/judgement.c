/* SPDX-License-Identifier: MIT */
/* What survivors find, and whether it is right. scenario.h says what must hold. */
#include "states.h"

#include <string.h>

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
        s->seen[keys + i] = see(s, scenario_new_key(s, i));
}

bool scenario_take_over(struct scenario *s) {
    struct lr_view view;
    if (s->holds) {
        view = s->held;
        lr_stripe_unlock(&view);
    }
    lr_reap(s->survivor);
    if (lr_stripe_lock(&view, s->survivor, 0) != 0)
        return scenario_fails(s, "the stripe stays locked");
    lr_stripe_unlock(&view);
    return true;
}

/* A delete that was noted, or whose answer was out, may only now take effect. */
static bool may_vanish(const struct scenario *s, uint64_t key) {
    return s->operation == DELETE && s->holds && key == scenario_target(s);
}

static bool expect_as_seen(struct scenario *s) {
    const unsigned keys = looked_at(s);
    for (unsigned i = 0; i < keys + SCENARIO_NEW; i++) {
        uint64_t key = i < keys ? s->keys[i] : scenario_new_key(s, i - keys);
        struct scenario_seen now = see(s, key), before = s->seen[i];
        if (now.result == before.result && now.version == before.version)
            continue;
        if (now.result == LARDER_ENOT_FOUND && may_vanish(s, key))
            continue;
        return scenario_fails(s, "key %llu: a reader saw %s (version %llx), after the repair %s (version %llx)",
                              (unsigned long long)key, before.result == 0 ? "a value" : lr_error_name(before.result),
                              (unsigned long long)before.version,
                              now.result == 0 ? "a value" : lr_error_name(now.result), (unsigned long long)now.version);
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
    case MARK:
    case FIT:
        return false;
    default:
        return true;
    }
}

static bool flushes(const struct scenario *s) {
    return s->operation == FLUSH || s->operation == APPLY_FLUSH;
}

/* The operation tells of a change of its key on another host; of a local key there are none. */
static bool comes_from_elsewhere(const struct scenario *s) {
    const enum scenario_operation o = s->operation;
    return !(s->state->traits & OURS) && (o == APPLY_TOMBSTONE || o == DROP || o == APPLY_EXPIRED || o == INVALIDATE ||
                                          (o == APPLY_PUT && s->state->traits & MODAL));
}

/* Up to where peers will hear that the key was forgotten, or had heard when bits were cleared. */
static uint64_t void_of(const struct scenario *s, uint64_t hash) {
    const struct lr_view view = lr_view_of(s->survivor, 0);
    const unsigned range = lr_range_of(hash);
    const uint64_t turn = lr_void_turn(s->survivor, range), now = turn != 0 ? lr_void_of(&view, hash) : 0;
    return now == 0 && lr_turn_is_cleared(turn) ? lr_load(&view.stripe->range_firm[range]) : now;
}

/* What went while there are peers is remembered: by a tombstone, or by the void of its range. */
static bool expect_remembered(struct scenario *s, unsigned i) {
    static uint8_t entry[65536];
    struct lr_entry found;
    const enum scenario_operation o = s->operation;
    const uint64_t hash = lr_cluster_hash(&s->keys[i], 8);
    if (!(s->state->traits & REPLICATING) || s->state->traits & MODAL || s->versions[i] == 0 || flushes(s))
        return true;
    if (i == SCENARIO_TARGET && (o == DROP || o == APPLY_EXPIRED)) /* the peer has something newer */
        return true;
    if (lr_entry_by_hash(s->survivor, hash, entry, sizeof entry, &found) == 0 &&
        (found.tombstone ? found.version + 1 >= s->versions[i] : found.version > s->versions[i]))
        return true;
    return void_of(s, hash) + 1 >= s->versions[i] ||
           scenario_fails(s, "key %llu went, and no peer will hear of it", (unsigned long long)s->keys[i]);
}

/* ---- modes ---------------------------------------------------------------------------------------------------- */

static enum lr_mode mode_of(const struct scenario *s, unsigned i) {
    const char first = (char)(s->keys[i] & 0xff);
    return !(s->state->traits & MODAL) || first == 'v' ? LR_MODE_values
           : first == 'l'                              ? LR_MODE_local
                                                       : LR_MODE_invalidate;
}

static bool is_told(struct scenario *s, unsigned i, uint64_t hash, const struct lr_entry *found) {
    if (found != NULL)
        return scenario_is_owed(s, found);
    const uint64_t told = void_of(s, hash);
    return mode_of(s, i) == LR_MODE_values ? told + 1 >= s->versions[i] : told > s->before_clock;
}

/* What is left of the key, be it an item or a tombstone, is of its mode; what peers did not know they are still told.
 */
static bool expect_mode(struct scenario *s, unsigned i) {
    static uint8_t entry[512];
    struct lr_entry found;
    const uint64_t hash = lr_cluster_hash(&s->keys[i], 8);
    const enum lr_mode mode = mode_of(s, i);
    const bool there = lr_entry_by_hash(s->survivor, hash, entry, sizeof entry, &found) == 0;
    const bool deleted = i == SCENARIO_TARGET && s->operation == DELETE && (!there || found.tombstone);
    const bool fits = mode == LR_MODE_local    ? !found.tombstone && found.kind == LR_LOCAL
                      : mode == LR_MODE_values ? found.kind == LR_SHARED && !found.modal
                      : found.tombstone        ? found.modal
                                               : found.kind == LR_TOLD || found.kind == LR_FILL;
    if (there && !fits)
        return scenario_fails(s, "key %llx: %s of kind %d, which is not its mode's", (unsigned long long)s->keys[i],
                              found.tombstone ? "a tombstone" : "an item", (int)found.kind);
    if (mode == LR_MODE_local || flushes(s) || !(s->owed[i] || deleted))
        return true;
    return is_told(s, i, hash, there ? &found : NULL) ||
           scenario_fails(s, "key %llx was changed, and not every peer will hear of it",
                          (unsigned long long)s->keys[i]);
}

static bool are_modes(const struct lr_mode_row *rows, unsigned count, const struct lr_mode_row *wanted, unsigned n) {
    bool same = count == n;
    for (unsigned i = 0; same && i < n; i++)
        same = rows[i].len == wanted[i].len && rows[i].mode == wanted[i].mode &&
               memcmp(rows[i].prefix, wanted[i].prefix, rows[i].len) == 0;
    return same;
}

/* The old table or the new one. */
static bool expect_modes(struct scenario *s) {
    struct lr_mode_row rows[LR_MODE_ROWS];
    const unsigned count = lr_modes_get(s->survivor, rows);
    return are_modes(rows, count, scenario_modes, s->state->traits & MODAL ? 2 : 0) ||
           (s->operation == SIDECAR && are_modes(rows, count, &scenario_new_mode, 1)) ||
           (s->operation == FIT && are_modes(rows, count, scenario_modes, 1)) ||
           scenario_fails(s, "the modes are neither the old ones nor the new ones");
}

/* What was read before a change of its key that took effect does not come back. */
static bool expect_mark_over(struct scenario *s, uint64_t key, const struct lr_mark *mark) {
    struct lr_put put = {.key = &key, .key_len = 8, .value = "40", .value_len = 2, .mode = LR_FILL_IN, .mark = mark};
    const int error = lr_put(s->survivor, &put);
    return error == LARDER_ECONFLICT ||
           scenario_fails(s, "key %llx was changed, and then filled in with what was older: %s",
                          (unsigned long long)key, lr_error_name(error));
}

static bool expect_marks(struct scenario *s) {
    const enum scenario_operation o = s->operation;
    const struct scenario_seen target = see(s, scenario_target(s)), other = see(s, s->other);
    const bool had = s->versions[SCENARIO_TARGET] != 0, went = had && target.result == LARDER_ENOT_FOUND;
    const bool removes = o == DELETE || comes_from_elsewhere(s);
    const bool changed = (target.result == 0 && target.version != s->versions[SCENARIO_TARGET]) ||
                         (went && (removes || o == FIT || flushes(s))) || (!had && removes && s->finished);
    if (changed && !expect_mark_over(s, scenario_target(s), &s->mark))
        return false;
    return !(other.result == 0 || (o == DELETE_ABSENT && s->finished)) || expect_mark_over(s, s->other, &s->other_mark);
}

/* ---- values --------------------------------------------------------------------------------------------------- */

static bool expect_value(struct scenario *s, unsigned i) {
    static uint8_t value[16384];
    uint8_t expected[512];
    struct lr_item item;
    size_t len = scenario_value(s, s->keys[i], expected);
    int result = read_key(s, s->keys[i], value, &item);
    if (result == 0 && (item.value_len != len || memcmp(value, expected, len) != 0))
        return scenario_fails(s, "key %llu has a value that is not its own", (unsigned long long)s->keys[i]);
    if (result == 0)
        return s->versions[i] != 0 || scenario_fails(s, "key %llu came back", (unsigned long long)s->keys[i]);
    if (result != LARDER_ENOT_FOUND)
        return scenario_fails(s, "key %llu: %s", (unsigned long long)s->keys[i], lr_error_name(result));
    if (!expect_remembered(s, i))
        return false;
    return s->versions[i] == 0 || evicts(s) || flushes(s) || (s->operation == FIT && mode_of(s, i) == LR_MODE_local) ||
           scenario_fails(s, "key %llu is lost", (unsigned long long)s->keys[i]);
}

/* The operation's key has its old value or its new one, or is absent where the operation may remove it. */
static bool expect_target(struct scenario *s) {
    static uint8_t value[16384];
    struct lr_item item;
    const enum scenario_operation o = s->operation;
    int result = read_key(s, scenario_target(s), value, &item);
    bool had = s->count > SCENARIO_TARGET && s->versions[SCENARIO_TARGET] != 0;
    bool creates = o == PUT_REPLACE || o == INCREMENT || o == FILL || (o == APPLY_PUT && !(s->state->traits & MODAL));
    bool changes = creates || (had && (o == CAS || o == REPLACE_FLAGS));
    bool removes =
        o == DELETE || comes_from_elsewhere(s) || flushes(s) || evicts(s) || (o == FIT && s->state->traits & OURS);
    bool is_old = result == 0 && item.value_len == 2 && memcmp(value, "41", 2) == 0;
    bool is_new = result == 0 && item.value_len == 2 && memcmp(value, "42", 2) == 0;
    if ((is_old && had) || (is_new && changes))
        return true;
    if (result == LARDER_ENOT_FOUND && (!had || removes))
        return !had || expect_remembered(s, SCENARIO_TARGET);
    return scenario_fails(s, "the operation's key: %s",
                          result != 0 ? lr_error_name(result)
                          : is_old    ? "came back"
                                      : "wrong value");
}

static bool makes(const struct scenario *s, unsigned i) {
    const enum scenario_operation o = s->operation;
    return i != 0 ? o == PUT_MANY
                  : o == PUT_NEW || o == PUT_LARGE || o == ADD_TTL || o == FILL_NEW ||
                        (o == APPLY_NO_EVICT && !(s->state->traits & MODAL));
}

static bool expect_new(struct scenario *s, unsigned i) {
    static uint8_t value[16384];
    static const uint8_t zero[9000];
    uint8_t expected[512] = "42";
    struct lr_item item;
    int result = read_key(s, scenario_new_key(s, i), value, &item);
    if (result == LARDER_ENOT_FOUND)
        return true;
    if (result != 0 || !makes(s, i))
        return scenario_fails(s, "a new key: %s", result == 0 ? "from nowhere" : lr_error_name(result));
    size_t len = s->operation == PUT_LARGE ? sizeof zero
                 : i == 0                  ? 2
                                           : scenario_value(s, scenario_new_key(s, i), expected);
    const uint8_t *wanted = s->operation == PUT_LARGE ? zero : expected;
    return (item.value_len == len && memcmp(value, wanted, len) == 0) || scenario_fails(s, "a new key: wrong value");
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
        return scenario_fails(s, "check: %s", check.findings != 0 ? check.first[0] : lr_error_name(result));
    if (counted(s, LR_C_repair_dropped) != 0)
        return scenario_fails(s, "%llu items were dropped", (unsigned long long)counted(s, LR_C_repair_dropped));
    return counted(s, LR_C_corrupt_seen) == 0 || scenario_fails(s, "corrupt references were met");
}

/* Nobody but the living has a slot, and nothing is noted or held for the dead. */
static bool expect_no_traces(struct scenario *s) {
    struct sm_stripe *stripe = lr_stripe_at(s->survivor, 0);
    for (unsigned i = 0; i < SCENARIO_SLOTS; i++) {
        bool alive = i == s->survivor->slot || (i == s->victim->slot && s->victim->live_page != NULL);
        if (!alive && atomic_load(&s->survivor->participants[i].state) != SM_SLOT_FREE)
            return scenario_fails(s, "slot %u of a dead participant is not free", i);
        if (!alive && lr_load(&s->survivor->participants[i].pin_summary) != 0)
            return scenario_fails(s, "slot %u of a dead participant pins", i);
    }
    for (unsigned i = 0; i < SM_NOTES; i++)
        if (lr_load(&stripe->notes[i].owner) != 0)
            return scenario_fails(s, "delete note %u is left", i);
    if (atomic_load(&stripe->notes_pending) != 0)
        return scenario_fails(s, "a delete note's bit is left");
    return true;
}

/* A new item, and again health: what the repair built can be worked with. */
static bool expect_usable(struct scenario *s) {
    struct lr_put put = {.key = "again", .key_len = 5, .value = s->keys, .value_len = 40};
    uint8_t value[64];
    int error = lr_put(s->survivor, &put);
    if (error != 0)
        return scenario_fails(s, "cannot be written again: %s", lr_error_name(error));
    if (lr_get(s->survivor, "again", 5, value, sizeof value, NULL, LR_PEEK) != 0 || memcmp(value, s->keys, 40) != 0)
        return scenario_fails(s, "what is written now is not read");
    return s->judgements % 4 != 0 || expect_healthy(s); /* now and then: it costs as much as all the rest */
}

bool scenario_judge(struct scenario *s) {
    bool right = expect_as_seen(s) && expect_healthy(s);
    if (right && lr_sweep(s->survivor, 0, 1, UINT64_MAX) < 0)
        right = scenario_fails(s, "cannot be swept");
    right = right && expect_no_traces(s) && expect_modes(s) && expect_target(s);
    for (unsigned i = 0; right && i < looked_at(s); i++)
        right = i == SCENARIO_TARGET || expect_value(s, i);
    for (unsigned i = 0; right && i < SCENARIO_NEW; i++)
        right = expect_new(s, i);
    /* The others only now and then: they are many. */
    for (unsigned i = SCENARIO_KEPT + s->judgements % 8; right && i < s->count; i += 8)
        right = expect_value(s, i);
    if (s->state->traits & MODAL) {
        for (unsigned i = 0; right && i < looked_at(s); i++)
            right = expect_mode(s, i);
        right = right && expect_marks(s);
    }
    if (right && s->pin.value != NULL && memcmp(s->pin.value, "41", 2) != 0)
        right = scenario_fails(s, "the pinned value has changed");
    right = right && expect_usable(s);
    s->judgements++;
    return right;
}
