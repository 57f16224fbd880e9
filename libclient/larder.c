/* SPDX-License-Identifier: MIT */
/*
 * The public calls on top of the engine (cache.h). Nothing happens here that the engine does not do.
 *
 * A `larder` is the engine's `struct lr_cache` under another name, and the public structs have the layout of the
 * engine's (asserted below), so that the calls which applications make most, the gets, are a jump into the engine. The
 * two spellings of a struct meet in no compilation unit but this one, which only passes pointers on.
 */
#include "larder.h"

#include "cache.h"

#include <assert.h>

#define SAME_FIELD(a, b, field)                                                                                        \
    static_assert(offsetof(a, field) == offsetof(b, field) && sizeof(((a *)0)->field) == sizeof(((b *)0)->field),      \
                  "public and engine layout of " #field)

static_assert(sizeof(larder_item) == sizeof(struct lr_item), "larder_item is lr_item");
SAME_FIELD(larder_item, struct lr_item, version);
SAME_FIELD(larder_item, struct lr_item, deadline_ms);
SAME_FIELD(larder_item, struct lr_item, value_len);
SAME_FIELD(larder_item, struct lr_item, flags);

static_assert(sizeof(larder_read) == sizeof(struct lr_read), "larder_read is lr_read");
SAME_FIELD(larder_read, struct lr_read, key);
SAME_FIELD(larder_read, struct lr_read, key_len);
SAME_FIELD(larder_read, struct lr_read, buf);
SAME_FIELD(larder_read, struct lr_read, cap);
SAME_FIELD(larder_read, struct lr_read, item);
SAME_FIELD(larder_read, struct lr_read, result);

static_assert(sizeof(larder_pin) == sizeof(struct lr_pin), "larder_pin is lr_pin");
SAME_FIELD(larder_pin, struct lr_pin, value);
SAME_FIELD(larder_pin, struct lr_pin, item);
static_assert(offsetof(larder_pin, hazard_) == offsetof(struct lr_pin, hazard), "larder_pin is lr_pin");
static_assert(offsetof(larder_pin, generation_) == offsetof(struct lr_pin, generation), "larder_pin is lr_pin");

static_assert(LARDER_PEEK == LR_PEEK && LARDER_WHY_BYTES == LR_WHY_BYTES, "same numbers");
static_assert((int)LARDER_POLICY_S3 == (int)LR_POLICY_s3, "same numbers");
static_assert((int)LARDER_POLICY_CLOCK == (int)LR_POLICY_clock, "same numbers");
static_assert((int)LARDER_POLICY_LFU == (int)LR_POLICY_lfu, "same numbers");
static_assert((int)LARDER_POLICY_TTL == (int)LR_POLICY_ttl, "same numbers");
static_assert((int)LARDER_POLICY_NONE == (int)LR_POLICY_none, "same numbers");
static_assert((int)LARDER_FAVOR_OBJECTS == (int)LR_FAVOR_objects, "same numbers");
static_assert((int)LARDER_FAVOR_BYTES == (int)LR_FAVOR_bytes, "same numbers");

static struct lr_cache *engine(larder *cache) {
    return (struct lr_cache *)cache;
}

/* ---- open and close ------------------------------------------------------------------------------------------- */

/* Zero means "default" in every public field; the engine marks "no group" and "no owner" by -1. */
static struct lr_options translate(const char *name, const larder_options *options) {
    struct lr_options to = lr_options_default();
    to.name = name;
    if (options == NULL)
        return to;
    to.path = options->path;
    to.size = options->size;
    to.policy = (enum lr_policy)options->policy;
    to.favor = (enum lr_favor)options->favor;
    to.mode = options->mode;
    to.group = options->group != 0 ? options->group : (gid_t)-1;
    to.owner = options->owner != 0 ? options->owner : (uid_t)-1;
    to.read_only = options->read_only;
    to.prefault = options->prefault;
    to.wait_ms = options->wait_ms;
    to.who = options->who;
    return to;
}

int larder_open(const char *name, const larder_options *options, larder **out, char *why) {
    struct lr_options to = translate(name, options);
    return lr_cache_open(&to, (struct lr_cache **)out, why);
}

int larder_create(const char *name, const larder_options *options, larder **out, char *why) {
    struct lr_options to = translate(name, options);
    return lr_cache_create(&to, (struct lr_cache **)out, why);
}

int larder_attach(const char *name, const larder_options *options, larder **out, char *why) {
    struct lr_options to = translate(name, options);
    return lr_cache_attach(&to, (struct lr_cache **)out, why);
}

void larder_close(larder *cache) {
    lr_cache_detach(engine(cache));
}

int larder_destroy(const char *name, const larder_options *options, char *why) {
    struct lr_options to = translate(name, options);
    return lr_cache_destroy(&to, why);
}

/* ---- get ------------------------------------------------------------------------------------------------------ */

int larder_get(larder *cache, const void *key, size_t key_len, void *buf, size_t cap, larder_item *item, unsigned how) {
    return lr_get(engine(cache), key, key_len, buf, cap, (struct lr_item *)item, how);
}

size_t larder_get_many(larder *cache, larder_read *rows, size_t count, unsigned how) {
    return lr_get_many(engine(cache), (struct lr_read *)rows, count, how);
}

int larder_get_pinned(larder *cache, const void *key, size_t key_len, larder_pin *pin) {
    return lr_pin(engine(cache), key, key_len, (struct lr_pin *)pin);
}

void larder_release(larder *cache, larder_pin *pin) {
    lr_unpin(engine(cache), (struct lr_pin *)pin);
}

int larder_exists(larder *cache, const void *key, size_t key_len) {
    int error = lr_get(engine(cache), key, key_len, NULL, 0, NULL, LR_PEEK);
    if (error == 0 || error == LARDER_ETOO_SMALL)
        return 1;
    return error == LARDER_ENOT_FOUND ? 0 : error;
}

/* ---- put and change ------------------------------------------------------------------------------------------- */

static inline int store(larder *cache, enum lr_put_mode mode, const void *key, size_t key_len, const void *value,
                        size_t value_len, uint64_t ttl_ms, uint32_t flags, uint64_t *version) {
    struct lr_put put = {.key = key,
                         .key_len = key_len,
                         .value = value,
                         .value_len = value_len,
                         .ttl_ms = ttl_ms,
                         .expected = *version,
                         .flags = flags,
                         .mode = mode};
    int error = lr_put(engine(cache), &put);
    if (error == 0)
        *version = put.version;
    return error;
}

int larder_put(larder *cache, const void *key, size_t key_len, const void *value, size_t value_len, uint64_t ttl_ms,
               uint32_t flags) {
    uint64_t version = 0;
    return store(cache, LR_SET, key, key_len, value, value_len, ttl_ms, flags, &version);
}

int larder_add(larder *cache, const void *key, size_t key_len, const void *value, size_t value_len, uint64_t ttl_ms,
               uint32_t flags) {
    uint64_t version = 0;
    return store(cache, LR_ADD, key, key_len, value, value_len, ttl_ms, flags, &version);
}

int larder_replace(larder *cache, const void *key, size_t key_len, const void *value, size_t value_len, uint64_t ttl_ms,
                   uint32_t flags) {
    uint64_t version = 0;
    return store(cache, LR_REPLACE, key, key_len, value, value_len, ttl_ms, flags, &version);
}

int larder_cas(larder *cache, const void *key, size_t key_len, const void *value, size_t value_len, uint64_t ttl_ms,
               uint32_t flags, uint64_t *version) {
    return store(cache, LR_CAS, key, key_len, value, value_len, ttl_ms, flags, version);
}

static_assert(sizeof(larder_moment) == sizeof(struct lr_mark), "larder_moment is lr_mark");
static_assert(offsetof(larder_moment, turn_) == offsetof(struct lr_mark, turn), "larder_moment is lr_mark");

int larder_mark(larder *cache, const void *key, size_t key_len, larder_moment *mark) {
    return lr_mark(engine(cache), key, key_len, (struct lr_mark *)mark);
}

int larder_fill(larder *cache, const larder_moment *mark, const void *key, size_t key_len, const void *value,
                size_t value_len, uint64_t ttl_ms, uint32_t flags) {
    struct lr_put put = {.key = key,
                         .key_len = key_len,
                         .value = value,
                         .value_len = value_len,
                         .ttl_ms = ttl_ms,
                         .flags = flags,
                         .mode = LR_FILL_IN,
                         .mark = (const struct lr_mark *)mark};
    return lr_put(engine(cache), &put);
}

int larder_delete(larder *cache, const void *key, size_t key_len) {
    return lr_delete(engine(cache), key, key_len);
}

int larder_touch(larder *cache, const void *key, size_t key_len, uint64_t ttl_ms) {
    return lr_touch(engine(cache), key, key_len, ttl_ms);
}

int larder_await(larder *cache, const void *key, size_t key_len, unsigned peers, unsigned timeout_ms) {
    return lr_await(engine(cache), key, key_len, peers, timeout_ms);
}

int larder_increment(larder *cache, const void *key, size_t key_len, int64_t delta, int64_t initial, uint64_t ttl_ms,
                     int64_t *result) {
    return lr_increment(engine(cache), key, key_len, delta, initial, ttl_ms, result);
}

int larder_flush(larder *cache) {
    return lr_flush(engine(cache));
}

/* ---- about the segment ---------------------------------------------------------------------------------------- */

uint64_t larder_max_value(const larder *cache, size_t key_len) {
    return lr_max_value((const struct lr_cache *)cache, key_len);
}

uint64_t larder_now_ms(const larder *cache) {
    return lr_now_ms((const struct lr_cache *)cache);
}

/* Rows: X(field of lr_stat, unit, sentence). */
#define LEVELS(X)                                                                                                      \
    X(cache_bytes, "bytes", "memory for items and index")                                                              \
    X(segment_bytes, "bytes", "memory of the whole segment, fixed tables included")                                    \
    X(max_item_bytes, "bytes", "largest admissible item, its header and key included")                                 \
    X(items, "items", "items stored")                                                                                  \
    X(item_bytes, "bytes", "memory that they take")                                                                    \
    X(payload_bytes, "bytes", "bytes of their keys and values")                                                        \
    X(ttl_items, "items", "items that will expire")                                                                    \
    X(tombstones, "keys", "deleted keys remembered for peers")                                                         \
    X(live_pins, "pins", "values that are pinned now, by all processes")                                               \
    X(pinned_bytes, "bytes", "memory of those values' items; one that is pinned twice counts twice")                   \
    X(held_bytes, "bytes", "memory of replaced or deleted items that pins still hold")                                 \
    X(hole_bytes, "bytes", "free memory between items")                                                                \
    X(gap_bytes, "bytes", "free memory where the hand stands")                                                         \
    X(index_bytes, "bytes", "memory of the index")

static const larder_counter descriptions[] = {
#define X(name, unit, sentence) {#name, unit, sentence, LARDER_COUNTER_EACH, 0, 0},
    LR_COUNTERS(X)
#undef X
#define X(name, unit, sentence) {#name, unit, sentence, LARDER_COUNTER_SEGMENT, 0, 0},
        LR_STRIPE_COUNTERS(X)
#undef X
#define X(name, unit, sentence) {#name, unit, sentence, LARDER_COUNTER_LEVEL, 0, 0},
            LEVELS(X)
#undef X
};
enum { COUNTER_ROWS = sizeof descriptions / sizeof *descriptions };

size_t larder_counters(larder *cache, larder_counter *rows, size_t count) {
    if (count == 0)
        return COUNTER_ROWS;
    struct lr_stat stat;
    lr_stat(engine(cache), &stat);
    const uint64_t levels[] = {
#define X(name, unit, sentence) stat.name,
        LEVELS(X)
#undef X
    };
    for (size_t i = 0; i < count && i < COUNTER_ROWS; i++) {
        rows[i] = descriptions[i];
        if (i < LR_COUNTER_COUNT) {
            rows[i].process = stat.own_counters[i];
            rows[i].segment = stat.counters[i];
        } else if (i < LR_COUNTER_COUNT + LR_STRIPE_COUNTER_COUNT) {
            rows[i].segment = stat.stripe_counters[i - LR_COUNTER_COUNT];
        } else {
            rows[i].segment = levels[i - LR_COUNTER_COUNT - LR_STRIPE_COUNTER_COUNT];
        }
    }
    return COUNTER_ROWS;
}

/* ---- texts ---------------------------------------------------------------------------------------------------- */

const char *larder_strerror(int error) {
    return lr_error_text(error);
}

const char *larder_remedy(int error) {
    return lr_error_remedy(error);
}

const char *larder_error_name(int error) {
    return lr_error_name(error);
}

const char *larder_version(void) {
    return LARDER_VERSION;
}
