/* SPDX-License-Identifier: MIT */
/*
 * What a simulated process does: a few calls of the core, one after the other, each recorded (history.c). A mix is a
 * string of letters; one that has a digit behind it is about that key, the others are about any.
 *
 *   g get    G get without marks       m get of all keys at once        S scan     e entry by hash
 *   P pin, look, release               H pin, and hold until the end
 *   p put    b large put    A add      R replace    C get, then compare-and-swap
 *   v put that expires                 t touch, longer or shorter       i increment
 *   d delete k delete by who has waited long enough for the lock already
 *   f flush        s sweep    r reap       x leave and join
 *   a remote put            T remote delete         D drop              F feed and epochs
 *   z sleep for a while     w as if so many blocks had been filled that the next one bears the incarnation of the key's
 * first value again
 *
 * The doctor comes last: reaps and repairs, reads every key, lets a peer send the old values again.
 */
#include "sim.h"

#include "stripe.h"

#include <limits.h>
#include <string.h>

#define CALLS_MAX 16u
#define COUNTER "counter"

struct step {
    char letter;
    uint8_t key;
};
struct script {
    struct step steps[CALLS_MAX];
    unsigned count;
    struct lr_pin held;
    unsigned held_key;
    uint32_t held_id;
    uint8_t value[SIM_KEYS][SIM_VALUE_MAX];
};
static struct script scripts[SIM_HANDLES];
static const struct sim_place *place;
static const struct sim_scenario *scenario;
static uint32_t next_id;
static uint64_t acknowledged; /* by peers: everything up to this version */
static unsigned applying;     /* changes of theirs that have come and are not applied yet */

static struct lr_cache *handle(void) {
    return &sim_handles[sim.now->number];
}

static struct script *script(void) {
    return &scripts[sim.now->number];
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static void finish_read(struct sim_op *op, int result, const void *value, const struct lr_item *item, const char *who) {
    if (result == 0) {
        op->id = sim_value_judge(value, item->value_len, op->key, who);
        op->version = item->version;
    } else if (result != LARDER_ENOT_FOUND && result != LARDER_EBUSY) {
        sim_fail("%s of key %u says %s", who, op->key, lr_error_name(result));
    }
    sim_history_return(op, result);
}

static struct sim_op *get(unsigned key, unsigned flags) {
    struct sim_op *op = sim_history_call(flags ? 'G' : 'g', OP_READ, key);
    struct lr_item item;
    uint8_t *value = script()->value[0];
    int result = lr_get(handle(), place->keys[key].text, place->keys[key].len, value, SIM_VALUE_MAX, &item, flags);
    finish_read(op, result, value, &item, "get");
    return op;
}

static void get_many(void) {
    struct lr_read rows[SIM_KEYS];
    struct sim_op *ops[SIM_KEYS];
    for (unsigned i = 0; i < SIM_KEYS; i++) {
        ops[i] = sim_history_call('m', OP_READ, i);
        rows[i] = (struct lr_read){.key = place->keys[i].text, .key_len = place->keys[i].len};
        rows[i].buf = script()->value[i];
        rows[i].cap = SIM_VALUE_MAX;
    }
    lr_get_many(handle(), rows, SIM_KEYS, 0);
    for (unsigned i = 0; i < SIM_KEYS; i++)
        finish_read(ops[i], rows[i].result, rows[i].buf, &rows[i].item, "get_many");
}

static void judge_pinned(const struct lr_pin *pin, unsigned key, uint32_t id) {
    if (sim_value_judge(pin->value, pin->item.value_len, key, "pinned value") != id)
        sim_fail("pinned value %u of key %u has changed", id, key);
}

static bool pin_key(unsigned key, struct lr_pin *pin, uint32_t *id) {
    struct sim_op *op = sim_history_call('P', OP_READ, key);
    int result = lr_pin(handle(), place->keys[key].text, place->keys[key].len, pin);
    finish_read(op, result, pin->value, &pin->item, "pin");
    *id = op->id;
    return result == 0;
}

static void pin(unsigned key) {
    struct lr_pin pinned;
    uint32_t id;
    if (!pin_key(key, &pinned, &id))
        return;
    for (unsigned i = 0; i < 3; i++) {
        sim_step((int64_t)sim_below(20u * (uint64_t)sim.store_weight));
        judge_pinned(&pinned, key, id);
    }
    lr_unpin(handle(), &pinned);
}

static void hold(unsigned key) {
    struct script *own = script();
    if (own->held.value == NULL && pin_key(key, &own->held, &own->held_id))
        own->held_key = key;
}

static void let_go(void) {
    struct script *own = script();
    if (own->held.value == NULL)
        return;
    judge_pinned(&own->held, own->held_key, own->held_id);
    lr_unpin(handle(), &own->held);
}

static void judge_entry(const struct lr_entry *entry, const char *who) {
    for (unsigned i = 0; i < SIM_KEYS; i++)
        if (entry->key_len == place->keys[i].len && memcmp(entry->key, place->keys[i].text, entry->key_len) == 0)
            sim_value_judge(entry->value, entry->value_len, i, who);
}

/* Every key that nobody touches must be seen. */
static void scan(void) {
    struct lr_cache *cache = handle();
    struct lr_scan walk = lr_scan_all(cache);
    struct lr_entry entry;
    unsigned seen = 0;
    const uint64_t began = sim_history.stamp;
    int result;
    while ((result = lr_scan_next(cache, &walk, script()->value[0], SIM_VALUE_MAX, &entry)) == 0 ||
           result == LARDER_EBUSY) {
        if (result != 0 || entry.tombstone)
            continue;
        judge_entry(&entry, "scan");
        for (unsigned i = 0; i < SIM_KEYS; i++)
            seen |= (unsigned)(entry.hash == place->keys[i].hash) << i;
    }
    bool quiet = (scenario->flags & SCENE_LOSSLESS) != 0;
    for (unsigned i = 0; i < sim_history.count; i++) {
        const struct sim_op *op = &sim_history.ops[i];
        if (op->kind == OP_FLUSH || op->kind == OP_DELETE || (op->kind == OP_PUT && op->returned > began))
            seen |= op->kind == OP_FLUSH ? UINT_MAX : 1u << op->key;
    }
    for (unsigned i = 0; i < SIM_KEYS && quiet; i++)
        if (place->keys[i].present && !(seen >> i & 1u))
            sim_fail("scan by process %u: key %u was there all the time and was not seen", sim.now->number, i);
}

static void entry_by_hash(unsigned key) {
    struct lr_entry entry;
    struct sim_op *op = sim_history_call('e', OP_READ, key);
    int result = lr_entry_by_hash(handle(), place->keys[key].hash, script()->value[0], SIM_VALUE_MAX, &entry);
    if (result == 0 && entry.tombstone)
        result = LARDER_EBUSY; /* neither hit nor miss */
    if (result == 0) {
        op->id = sim_value_judge(entry.value, entry.value_len, key, "entry");
        op->version = entry.version;
    }
    sim_history_return(op, result);
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static size_t choose_len(char letter) {
    if (scenario->flags & SCENE_SAME_SIZE)
        return place->keys[0].value_len;
    static const uint16_t lens[] = {40, 40, 40, 40, 8, 13, 64, 88, 300};
    return letter == 'b' ? 400 + sim_below(2000) : lens[sim_below(sizeof lens / sizeof lens[0])];
}

static bool is_refusal(int result) {
    return result == LARDER_EBUSY || result == LARDER_EPINNED || result == LARDER_EEXISTS ||
           result == LARDER_ENOT_FOUND || result == LARDER_ECONFLICT;
}

static void put(unsigned key, char letter, uint64_t expected) {
    struct sim_op *op = sim_history_call(letter, OP_PUT, key);
    const size_t len = choose_len(letter);
    const uint64_t ttl_ms = letter == 'v' ? 1 + sim_below(3) : 0;
    uint8_t *value = script()->value[0];
    op->id = next_id++;
    op->local = true;
    sim_value_fill(value, len, key, op->id);
    struct lr_put request = {.key = place->keys[key].text, .key_len = place->keys[key].len};
    request.value = value;
    request.value_len = len;
    request.ttl_ms = ttl_ms;
    request.flags = sim_one_in(4) && !(scenario->flags & SCENE_SAME_SIZE) ? 77 : 0;
    request.mode = letter == 'A' ? LR_ADD : letter == 'R' ? LR_REPLACE : expected != 0 ? LR_CAS : LR_SET;
    request.expected = expected;
    int result = lr_put(handle(), &request);
    op->version = request.version;
    op->expected = result == 0 ? expected : 0;
    if (result != 0 && !is_refusal(result))
        sim_fail("put of key %u says %s", key, lr_error_name(result));
    sim_history_return(op, result);
    if (ttl_ms != 0)
        op->last_ms = op->ended_ms + ttl_ms;
}

static void compare_and_swap(unsigned key) {
    struct sim_op *read = get(key, LR_PEEK);
    if (read->result == 0)
        put(key, 'C', read->version);
}

static void touch(unsigned key) {
    struct sim_op *op = sim_history_call('t', OP_TOUCH, key);
    uint64_t ttl_ms = sim_below(4); /* 0: for ever */
    int result = lr_touch(handle(), place->keys[key].text, place->keys[key].len, ttl_ms);
    sim_history_return(op, result);
    op->last_ms = result == LARDER_ENOT_FOUND ? 0 : ttl_ms == 0 ? UINT64_MAX : op->ended_ms + ttl_ms;
}

static void increment(void) {
    struct sim_op *op = sim_history_call('i', OP_COUNT, SIM_KEYS);
    int result = lr_increment(handle(), COUNTER, sizeof COUNTER - 1, 1, SIM_FIRST_NUMBER, 0, &op->number);
    if (result != 0 && !is_refusal(result))
        sim_fail("increment says %s", lr_error_name(result));
    sim_history_return(op, result);
}

static void delete (unsigned key) {
    struct sim_op *op = sim_history_call('d', OP_DELETE, key);
    int result = lr_delete(handle(), place->keys[key].text, place->keys[key].len);
    if (result != 0 && result != LARDER_ENOT_FOUND)
        sim_fail("delete of key %u says %s", key, lr_error_name(result));
    sim_history_return(op, result);
}

/* Behind a holder who does not answer, with no time gone by: two switches show what else takes a stall between them. */
static void delete_at_once(unsigned key) {
    struct lr_cache *cache = handle();
    const uint32_t wait_ms = cache->wait_ms;
    cache->wait_ms = 0;
    delete (key);
    cache->wait_ms = wait_ms;
}

static void flush(void) {
    struct sim_op *op = sim_history_call('f', OP_FLUSH, 0);
    int result = lr_flush(handle());
    if (result < 0)
        sim_fail("flush says %s", lr_error_name(result));
    sim_history_return(op, result);
}

/* ---- peers and house-keeping ------------------------------------------------------------------------------------ */

/* A version that another host draws about now: sometimes before, sometimes after what is here. */
static uint64_t remote_version(void) {
    uint64_t now = lr_highest_version(handle()) >> SM_VERSION_ORIGIN_BITS;
    return (now + sim_below(6) - 3) << SM_VERSION_ORIGIN_BITS | 9u;
}

static void apply_put(unsigned key) {
    struct sim_op *op = sim_history_call('a', OP_PUT, key);
    const size_t len = choose_len('p');
    uint8_t *value = script()->value[0];
    op->id = next_id++;
    sim_value_fill(value, len, key, op->id);
    struct lr_change change = {.key = place->keys[key].text, .key_len = (uint32_t)place->keys[key].len};
    change.value = value;
    change.value_len = (uint32_t)len;
    change.deadline_ms = UINT64_MAX;
    applying++;
    change.version = op->version = remote_version();
    const bool walked = sim_one_in(3) || change.version <= acknowledged;
    const int result = lr_apply_put(handle(), &change, walked ? LR_NO_EVICT : 0);
    applying--;
    sim_history_return(op, result);
}

static void apply_delete(unsigned key, bool drop) {
    struct sim_op *op = sim_history_call(drop ? 'D' : 'T', OP_DELETE, key);
    op->version = remote_version();
    const uint64_t hash = place->keys[key].hash;
    if (!drop)
        sim_history_return(op, lr_apply_tombstone(handle(), hash, op->version, 0));
    else if (sim_one_in(2))
        sim_history_return(op, lr_drop_void(handle(), hash, op->version));
    else /* a value of the next version is somewhere else */
        sim_history_return(op, lr_drop(handle(), hash, op->version + 1));
}

/* What peers have acknowledged is newer than what they say: an older change of theirs comes before that, by the same
 * link and to the same daemon, or later by a walk. */
static void read_feed(void) {
    struct lr_hint hints[4];
    uint64_t position = 0, head;
    uint32_t epoch;
    struct sim_op *op = sim_history_call('F', OP_ACTION, 0);
    lr_feed_read(handle(), 0, &position, hints, 4);
    if (lr_epoch_begin(handle(), 0, &epoch, &head) == 0 && sim_one_in(2)) {
        const uint64_t highest = lr_highest_version(handle());
        if (applying == 0) {
            acknowledged = highest;
            lr_feed_acked(handle(), 0, head);
            lr_epoch_acked(handle(), 0, epoch);
        }
    }
    sim_history_return(op, 0);
}

static void sweep(void) {
    struct sim_op *op = sim_history_call('s', OP_ACTION, 0);
    sim_history_return(op, lr_sweep(handle(), 0, 70, UINT64_MAX));
}

/* So long that the others can be done. */
static void sleep_a_while(void) {
    sim_machine_wait(0, sim.now_ns + 100000 + sim_below(3000000));
    if (script()->held.value != NULL)
        judge_pinned(&script()->held, script()->held_key, script()->held_id);
}

/* The slot word has eight bits of it. */
static void come_round(unsigned key) {
    struct lr_view view;
    if (lr_stripe_lock(&view, handle(), 0) != 0)
        return;
    uint64_t now = lr_load(&view.stripe->incarnation);
    lr_store(&view.stripe->incarnation, now + ((place->keys[key].incarnation - now - 1) & 0xff));
    lr_stripe_unlock(&view);
}

static void move_to_another_slot(void) {
    let_go();
    lr_participant_leave(handle());
    int error = lr_participant_join(handle(), NULL);
    if (error != 0)
        sim_fail("join says %s", lr_error_name(error));
}

/* ---- running ---------------------------------------------------------------------------------------------------- */

static void call(char letter, unsigned key) {
    static const char *const names[128] = {
        ['g'] = "get",     ['G'] = "get",    ['m'] = "get_many",  ['S'] = "scan",  ['e'] = "entry_by_hash",
        ['P'] = "pin",     ['H'] = "pin",    ['p'] = "put",       ['b'] = "put",   ['A'] = "add",
        ['R'] = "replace", ['C'] = "cas",    ['v'] = "put",       ['t'] = "touch", ['i'] = "increment",
        ['d'] = "delete",  ['k'] = "delete", ['f'] = "flush",     ['s'] = "sweep", ['r'] = "reap",
        ['x'] = "join",    ['a'] = "apply",  ['T'] = "tombstone", ['D'] = "drop",  ['F'] = "feed_read",
        ['w'] = "lock",    ['z'] = "nothing"};
    sim_machine_begin_call(names[(unsigned char)letter & 127] != NULL ? names[(unsigned char)letter & 127] : "?");
    if (sim.tracing)
        sim_trace_note("calls %s, key %u", sim.now->call, key);
    switch (letter) {
    case 'g':
        get(key, 0);
        break;
    case 'G':
        get(key, LR_PEEK);
        break;
    case 'm':
        get_many();
        break;
    case 'S':
        scan();
        break;
    case 'e':
        entry_by_hash(key);
        break;
    case 'P':
        pin(key);
        break;
    case 'H':
        hold(key);
        break;
    case 'C':
        compare_and_swap(key);
        break;
    case 't':
        touch(key);
        break;
    case 'i':
        increment();
        break;
    case 'd':
        delete (key);
        break;
    case 'k':
        delete_at_once(key);
        break;
    case 'f':
        flush();
        break;
    case 's':
        sweep();
        break;
    case 'r':
        lr_reap(handle());
        break;
    case 'z':
        sleep_a_while();
        break;
    case 'w':
        come_round(key);
        break;
    case 'x':
        move_to_another_slot();
        break;
    case 'a':
        apply_put(key);
        break;
    case 'T':
    case 'D':
        apply_delete(key, letter == 'D');
        break;
    case 'F':
        read_feed();
        break;
    default: /* p b A R v */
        put(key, letter, 0);
    }
}

static uint8_t any_key(void) {
    return scenario->flags & SCENE_FOCUS && !sim_one_in(5) ? 0 : (uint8_t)sim_below(SIM_KEYS);
}

static void fill_script(struct script *own, const char *mix) {
    struct step choices[CALLS_MAX];
    unsigned count = 0;
    for (; *mix != 0; mix++) {
        bool fixed = mix[1] >= '0' && mix[1] <= '9';
        choices[count].letter = *mix;
        choices[count++].key = fixed ? (uint8_t)(*++mix - '0') : SIM_KEYS;
    }
    const bool in_order = (scenario->flags & SCENE_IN_ORDER) != 0;
    own->count = in_order ? count : scenario->least + (unsigned)sim_below(scenario->most - scenario->least + 1);
    for (unsigned n = 0; n < own->count; n++) {
        own->steps[n] = choices[in_order ? n : sim_below(count)];
        if (own->steps[n].key == SIM_KEYS)
            own->steps[n].key = any_key();
    }
}

void sim_script_prepare(const struct sim_scenario *what, const struct sim_place *where) {
    scenario = what;
    place = where;
    next_id = SIM_KEYS + 1;
    acknowledged = applying = 0;
    for (unsigned i = 0; i < SIM_HANDLES; i++) {
        struct script *own = &scripts[i];
        own->count = 0;
        own->held.value = NULL;
        const char *mix = i < SIM_PROCESSES ? what->mixes[i] : NULL;
        if (mix == NULL)
            continue;
        fill_script(own, mix);
    }
}

void sim_script_run(unsigned process) {
    struct script *own = &scripts[process];
    if (process == SIM_DOCTOR) {
        sim_script_doctor();
        return;
    }
    for (unsigned n = 0; n < own->count; n++)
        call(own->steps[n].letter, own->steps[n].key);
    let_go();
}

/* ---- the doctor ------------------------------------------------------------------------------------------------- */

/* A peer that has not heard of the delete sends the first value again. */
static void resend(unsigned key) {
    struct lr_entry entry;
    const struct sim_key *known = &place->keys[key];
    uint8_t *value = script()->value[1];
    if (!known->present ||
        lr_entry_by_hash(handle(), known->hash, script()->value[0], SIM_VALUE_MAX, &entry) != LARDER_ENOT_FOUND)
        return;
    sim_value_fill(value, known->value_len, key, key + 1);
    struct lr_change change = {.key = known->text, .key_len = (uint32_t)known->len, .value = value};
    change.value_len = (uint32_t)known->value_len;
    change.deadline_ms = known->deadline_ms;
    change.version = known->version;
    if (lr_apply_put(handle(), &change, LR_NO_EVICT) == LR_APPLIED)
        sim_fail("key %u is gone, and its first value, sent again by a peer, was taken", key);
}

/* The highest version that was surely stored; 0 if something may have taken it away and left no trace. */
static uint64_t must_be_traced(unsigned key) {
    uint64_t version = place->keys[key].deadline_ms == UINT64_MAX ? place->keys[key].version : 0;
    for (unsigned i = 0; i < sim_history.count; i++) {
        const struct sim_op *op = &sim_history.ops[i];
        bool declined = op->letter == 'a' && (!op->done || op->result == LR_DECLINED);
        if (op->letter == 'F' ||
            (op->key == key && (op->letter == 'D' || op->letter == 'v' || op->letter == 't' || declined)))
            return 0;
        if (op->letter == 'w') /* the world's own: above */
            continue;
        if (op->kind == OP_PUT && op->key == key && op->done && op->result == 0 && op->version > version)
            version = op->version;
    }
    return version;
}

/* What went before the peers had it left a tombstone, or raised its range's void. */
static void judge_trace(unsigned key) {
    struct lr_entry entry;
    const struct lr_view view = lr_view_of(handle(), 0);
    const uint64_t hash = place->keys[key].hash, version = must_be_traced(key);
    if (lr_entry_by_hash(handle(), hash, script()->value[0], SIM_VALUE_MAX, &entry) != LARDER_ENOT_FOUND)
        return;
    const bool told = lr_void_turn(handle(), lr_range_of(hash)) != 0;
    if (version > 1 && (!told || lr_void_of(&view, hash) + 1 < version)) /* what is older than the version */
        sim_fail("key %u is gone, version %llx, and neither a tombstone nor the void says so", key,
                 (unsigned long long)version);
}

/* The version of the entry, or of the expired item that it is the trace of. */
static bool is_version(const struct lr_entry *entry, uint64_t version) {
    return version == entry->version || (entry->tombstone && version == entry->version + 1);
}

/* Whoever reads the feed learns of what is there now. */
static void judge_feed(unsigned key) {
    struct lr_entry entry;
    struct lr_hint hints[16];
    uint64_t position = 0;
    int count;
    if (lr_entry_by_hash(handle(), place->keys[key].hash, script()->value[0], SIM_VALUE_MAX, &entry) != 0 ||
        is_version(&entry, place->keys[key].version))
        return;
    if (atomic_load_explicit(&lr_stripe_at(handle(), 0)->rescan, memory_order_relaxed) != 0)
        return;
    while ((count = lr_feed_read(handle(), 0, &position, hints, 16)) > 0)
        for (int i = 0; i < count; i++)
            if (hints[i].hash == entry.hash && is_version(&entry, hints[i].version))
                return;
    sim_fail("key %u has version %llx, and no hint says so", key, (unsigned long long)entry.version);
}

void sim_script_doctor(void) {
    const bool replicating = (scenario->flags & SCENE_REPLICATING) != 0;
    sim_machine_begin_call("reap");
    lr_reap(handle());
    sim_machine_begin_call("sweep");
    lr_sweep(handle(), 0, 1, UINT64_MAX); /* whoever takes the lock settles the notes */
    for (unsigned i = 0; i < SIM_KEYS; i++) {
        sim_machine_begin_call("get");
        get(i, 0);
        if (replicating) {
            judge_feed(i);
            judge_trace(i);
        }
    }
    sim_machine_begin_call("put");
    put(0, 'p', 0);
    get(0, LR_PEEK);
    if (!replicating)
        return;
    for (unsigned i = 0; i < SIM_KEYS; i++)
        resend(i);
}
