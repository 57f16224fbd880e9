/* SPDX-License-Identifier: MIT */
/* The operations of bench_ops.h. */
#include "bench_ops.h"

#include <stdlib.h>
#include <string.h>

#define ROUND_OPS 4096u
#define ROUND_BYTES (UINT64_C(8) << 20)  /* of values: rounds of large ones are shorter */
#define COUNTER_KEYS (UINT64_C(1) << 60) /* key numbers of counters begin here */

/* ---- keys ------------------------------------------------------------------------------------------------------- */

void bench_make_key(uint8_t out[BENCH_KEY_BYTES], uint64_t item) {
    struct value_key key = value_key(item);
    memcpy(out, key.bytes, BENCH_KEY_BYTES);
}

uint64_t bench_counters(const struct bench_options *options) {
    return options->items / 16u + 1u;
}

/* Popular ranks are strewn over the items, so that popular items are no neighbours in memory. */
static uint64_t item_of_rank(uint64_t rank, uint64_t items) {
    return rank * UINT64_C(2654435761) % items;
}

static uint64_t draw_rank(struct bench_load *load) {
    return load->options->zipf > 0 ? zipf_draw(&load->zipf, &load->draw)
                                   : draw_below(&load->draw, load->options->items);
}

static void draw_keys(struct bench_load *load) {
    for (uint64_t i = 0; i < load->ops; i++)
        bench_make_key(load->keys[i], item_of_rank(draw_rank(load), load->options->items));
}

static void draw_keys_and_dice(struct bench_load *load) {
    draw_keys(load);
    for (uint64_t i = 0; i < load->ops; i++)
        load->dice[i] = (uint8_t)draw_below(&load->draw, 200);
}

static void draw_counters(struct bench_load *load) {
    for (uint64_t i = 0; i < load->ops; i++)
        bench_make_key(load->keys[i], COUNTER_KEYS + draw_rank(load) % bench_counters(load->options));
}

static void draw_few(struct bench_load *load) {
    for (uint64_t i = 0; i < load->ops; i++)
        bench_make_key(load->keys[i], draw_rank(load) % bench_counters(load->options) % load->options->items);
}

/* Each key of the worker's share in turn, so none is taken twice in a round. */
static void take_keys(struct bench_load *load) {
    uint64_t share = load->options->items / load->options->processes;
    for (uint64_t i = 0; i < load->ops; i++) {
        bench_make_key(load->keys[i], item_of_rank(load->number * share + load->cursor, load->options->items));
        load->cursor = (load->cursor + 1) % share;
    }
}

static void new_keys(struct bench_load *load) {
    for (uint64_t i = 0; i < load->ops; i++)
        bench_make_key(load->keys[i], load->options->items + load->number + load->fresh++ * load->options->processes);
}

/* ---- the engine ------------------------------------------------------------------------------------------------- */

struct lr_put bench_put_of(const struct bench_load *load, const void *key) {
    return (struct lr_put){.key = key,
                           .key_len = BENCH_KEY_BYTES,
                           .value = load->value,
                           .value_len = load->options->value_bytes,
                           .mode = LR_SET};
}

/* Whoever gets a value looks at it: copied or in place, of engine or floor. (No call of memcpy: some fifty instructions
 * more are enough to keep the processor from beginning the next get while this one waits for memory.) */
static inline uint64_t read_word(const uint8_t *value, size_t len) {
    uint64_t word = 0;
    if (len >= sizeof word)
        memcpy(&word, value, sizeof word);
    else if (len > 0)
        word = value[0];
    return word;
}

static bool get_one(struct bench_load *load, uint64_t i) {
    struct lr_item item;
    if (lr_get(load->cache, load->keys[i], BENCH_KEY_BYTES, load->buffers, load->options->value_bytes, &item, 0) != 0)
        return false;
    load->sink += read_word(load->buffers, item.value_len);
    return true;
}

static bool put_one(struct bench_load *load, uint64_t i) {
    struct lr_put put = bench_put_of(load, load->keys[i]);
    return lr_put(load->cache, &put) == 0;
}

static uint64_t engine_get_copy(struct bench_load *load, uint64_t first, uint64_t count) {
    uint64_t good = 0;
    for (uint64_t i = first; i < first + count; i++)
        good += get_one(load, i);
    return good;
}

static uint64_t engine_get_pinned(struct bench_load *load, uint64_t first, uint64_t count) {
    uint64_t good = 0;
    struct lr_pin pin;
    for (uint64_t i = first; i < first + count; i++) {
        if (lr_pin(load->cache, load->keys[i], BENCH_KEY_BYTES, &pin) != 0)
            continue;
        load->sink += read_word(pin.value, pin.item.value_len);
        lr_unpin(load->cache, &pin);
        good++;
    }
    return good;
}

static inline uint64_t engine_batches(struct bench_load *load, uint64_t first, uint64_t count, unsigned batch) {
    uint64_t good = 0;
    size_t cap = load->options->value_bytes;
    struct lr_read rows[BENCH_BATCH];
    for (uint64_t i = first; i < first + count; i += batch) {
        for (unsigned j = 0; j < batch; j++)
            rows[j] = (struct lr_read){
                .key = load->keys[i + j], .key_len = BENCH_KEY_BYTES, .buf = load->buffers + j * cap, .cap = cap};
        good += lr_get_many(load->cache, rows, batch, 0);
    }
    return good;
}

static uint64_t engine_get_many(struct bench_load *load, uint64_t first, uint64_t count) {
    return engine_batches(load, first, count, 16);
}

static uint64_t engine_get_many_4(struct bench_load *load, uint64_t first, uint64_t count) {
    return engine_batches(load, first, count, 4);
}

static uint64_t engine_get_many_64(struct bench_load *load, uint64_t first, uint64_t count) {
    return engine_batches(load, first, count, 64);
}

static uint64_t engine_put(struct bench_load *load, uint64_t first, uint64_t count) {
    uint64_t good = 0;
    for (uint64_t i = first; i < first + count; i++)
        good += put_one(load, i);
    return good;
}

static uint64_t engine_delete(struct bench_load *load, uint64_t first, uint64_t count) {
    uint64_t good = 0;
    for (uint64_t i = first; i < first + count; i++)
        good += lr_delete(load->cache, load->keys[i], BENCH_KEY_BYTES) == 0;
    return good;
}

static uint64_t engine_increment(struct bench_load *load, uint64_t first, uint64_t count) {
    uint64_t good = 0;
    int64_t result;
    for (uint64_t i = first; i < first + count; i++)
        good += lr_increment(load->cache, load->keys[i], BENCH_KEY_BYTES, 1, 100000, 0, &result) == 0;
    return good;
}

static inline uint64_t engine_mixed(struct bench_load *load, uint64_t first, uint64_t count, unsigned puts) {
    uint64_t good = 0;
    for (uint64_t i = first; i < first + count; i++)
        good += load->dice[i] < puts ? put_one(load, i) : get_one(load, i);
    return good;
}

static uint64_t engine_mixed_95(struct bench_load *load, uint64_t first, uint64_t count) {
    return engine_mixed(load, first, count, 10);
}

static uint64_t engine_mixed_50(struct bench_load *load, uint64_t first, uint64_t count) {
    return engine_mixed(load, first, count, 100);
}

static void put_all(struct bench_load *load) {
    engine_put(load, 0, load->ops);
}

static void delete_all(struct bench_load *load) {
    engine_delete(load, 0, load->ops);
}

/* ---- the floor -------------------------------------------------------------------------------------------------- */

static bool floor_get_one(struct bench_load *load, uint64_t i) {
    size_t len;
    if (!floor_get(&load->floor, load->keys[i], BENCH_KEY_BYTES, load->buffers, load->options->value_bytes, &len))
        return false;
    load->sink += read_word(load->buffers, len);
    return true;
}

static bool floor_put_one(struct bench_load *load, uint64_t i) {
    return floor_put(&load->floor, load->keys[i], BENCH_KEY_BYTES, load->value, load->options->value_bytes);
}

static uint64_t floor_get_copy(struct bench_load *load, uint64_t first, uint64_t count) {
    uint64_t good = 0;
    for (uint64_t i = first; i < first + count; i++)
        good += floor_get_one(load, i);
    return good;
}

static uint64_t floor_get_pinned(struct bench_load *load, uint64_t first, uint64_t count) {
    uint64_t good = 0;
    size_t len;
    for (uint64_t i = first; i < first + count; i++) {
        const void *value = floor_find(&load->floor, load->keys[i], BENCH_KEY_BYTES, &len);
        if (value == NULL)
            continue;
        load->sink += read_word(value, len);
        good++;
    }
    return good;
}

static inline uint64_t floor_batches(struct bench_load *load, uint64_t first, uint64_t count, unsigned batch) {
    uint64_t good = 0;
    size_t cap = load->options->value_bytes;
    struct floor_read rows[BENCH_BATCH];
    for (uint64_t i = first; i < first + count; i += batch) {
        for (unsigned j = 0; j < batch; j++)
            rows[j] = (struct floor_read){
                .key = load->keys[i + j], .key_len = BENCH_KEY_BYTES, .buf = load->buffers + j * cap, .cap = cap};
        good += floor_get_many(&load->floor, rows, batch);
    }
    return good;
}

static uint64_t floor_many(struct bench_load *load, uint64_t first, uint64_t count) {
    return floor_batches(load, first, count, 16);
}

static uint64_t floor_many_4(struct bench_load *load, uint64_t first, uint64_t count) {
    return floor_batches(load, first, count, 4);
}

static uint64_t floor_many_64(struct bench_load *load, uint64_t first, uint64_t count) {
    return floor_batches(load, first, count, 64);
}

static uint64_t floor_put_all(struct bench_load *load, uint64_t first, uint64_t count) {
    uint64_t good = 0;
    for (uint64_t i = first; i < first + count; i++)
        good += floor_put_one(load, i);
    return good;
}

static uint64_t floor_delete_all(struct bench_load *load, uint64_t first, uint64_t count) {
    uint64_t good = 0;
    for (uint64_t i = first; i < first + count; i++)
        good += floor_delete(&load->floor, load->keys[i], BENCH_KEY_BYTES);
    return good;
}

static inline uint64_t floor_mixed(struct bench_load *load, uint64_t first, uint64_t count, unsigned puts) {
    uint64_t good = 0;
    for (uint64_t i = first; i < first + count; i++)
        good += load->dice[i] < puts ? floor_put_one(load, i) : floor_get_one(load, i);
    return good;
}

static uint64_t floor_mixed_95(struct bench_load *load, uint64_t first, uint64_t count) {
    return floor_mixed(load, first, count, 10);
}

static uint64_t floor_mixed_50(struct bench_load *load, uint64_t first, uint64_t count) {
    return floor_mixed(load, first, count, 100);
}

static void restore_floor(struct bench_load *load) {
    for (uint64_t i = 0; i < load->ops; i++)
        floor_restore(&load->floor, load->keys[i], BENCH_KEY_BYTES);
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

const struct bench_row_of_ops bench_ops[BENCH_OP_COUNT] = {
    [BENCH_get_copy] = {draw_keys, NULL, engine_get_copy, NULL, NULL, floor_get_copy, NULL, 1},
    [BENCH_get_pinned] = {draw_keys, NULL, engine_get_pinned, NULL, NULL, floor_get_pinned, NULL, 1},
    [BENCH_get_many] = {draw_keys, NULL, engine_get_many, NULL, NULL, floor_many, NULL, 16},
    [BENCH_get_many_4] = {draw_keys, NULL, engine_get_many_4, NULL, NULL, floor_many_4, NULL, 4},
    [BENCH_get_many_64] = {draw_keys, NULL, engine_get_many_64, NULL, NULL, floor_many_64, NULL, 64},
    [BENCH_put_replace] = {draw_keys, NULL, engine_put, NULL, NULL, floor_put_all, NULL, 1},
    [BENCH_put_new] = {take_keys, delete_all, engine_put, NULL, NULL, floor_put_all, NULL, 1},
    [BENCH_put_evict] = {new_keys, NULL, engine_put, NULL, draw_keys, floor_put_all, NULL, 1},
    [BENCH_delete] = {take_keys, NULL, engine_delete, put_all, NULL, floor_delete_all, restore_floor, 1},
    [BENCH_increment] = {draw_counters, NULL, engine_increment, NULL, draw_few, floor_put_all, NULL, 1},
    [BENCH_mixed_95] = {draw_keys_and_dice, NULL, engine_mixed_95, NULL, NULL, floor_mixed_95, NULL, 1},
    [BENCH_mixed_50] = {draw_keys_and_dice, NULL, engine_mixed_50, NULL, NULL, floor_mixed_50, NULL, 1},
};

/* ---- preparing -------------------------------------------------------------------------------------------------- */

int bench_load_prepare(struct bench_load *load) {
    const struct bench_options *options = load->options;
    uint64_t share = options->items / options->processes, most = ROUND_BYTES / (options->value_bytes + 1u);
    load->ops = share < ROUND_OPS ? share : ROUND_OPS;
    load->ops = (load->ops < most ? load->ops : most) / BENCH_BATCH * BENCH_BATCH;
    load->ops = load->ops < BENCH_BATCH ? BENCH_BATCH : load->ops;
    load->draw = draw_seeded(load->number + 1u);
    if (options->zipf > 0)
        load->zipf = zipf_make(options->items, options->zipf);
    load->keys = malloc(load->ops * sizeof *load->keys);
    load->dice = malloc(load->ops);
    load->value = malloc(options->value_bytes + 1u);
    load->buffers = malloc(options->value_bytes * BENCH_BATCH + 1u);
    int error = floor_create(&load->floor, options->items, BENCH_KEY_BYTES, options->value_bytes);
    if (error != 0 || load->keys == NULL || load->dice == NULL || load->value == NULL || load->buffers == NULL)
        return LARDER_ENO_MEMORY;
    value_write(load->value, options->value_bytes, 1, 1, 1);
    for (uint64_t item = 0; item < options->items; item++) {
        uint8_t key[BENCH_KEY_BYTES];
        bench_make_key(key, item);
        floor_insert(&load->floor, key, BENCH_KEY_BYTES, load->value, options->value_bytes);
    }
    floor_settle(&load->floor);
    return 0;
}
