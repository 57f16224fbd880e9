/* SPDX-License-Identifier: MIT */
/* The rounds of bench_compare.h. */
#include "bench_compare.h"

#include "floor.h"
#include "ticks.h"
#include "value.h"
#include "workload.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEY_BYTES 16u
#define ROUNDS 21u
#define WARM_UP 3u
#define ROUND_KEYS 1024u
#define ROUND_BYTES (UINT64_C(4) << 20) /* of values */
#define BATCH 16u
#define LOAD_KEYS 1024u

const char *const compare_work_names[PEER_WORKS] = {"get_copy", "get_many", "put_replace", "delete"};

struct comparison {
    const struct compare_options *options;
    struct compare_result *out;
    struct peer *peers[PEER_COUNT];
    struct lr_cache *cache;
    struct floor floor;
    struct draw draw;
    struct zipf zipf;
    char *keys; /* of a round, one behind the other */
    uint8_t *value, *buffers;
    uint64_t count; /* keys of a round */
    double ns[PEER_WORKS][COMPARE_COLUMNS][ROUNDS];
    char name[65];
};

static volatile sig_atomic_t caught_signal;

static void remember_signal(int number) {
    caught_signal = number;
}

static void make_key(char *out, uint64_t item) {
    char text[KEY_BYTES + 1u];
    snprintf(text, sizeof text, "%016" PRIx64, value_mix(item));
    memcpy(out, text, KEY_BYTES);
}

/* ---- Larder and the floor as peers ------------------------------------------------------------------------------ */

static bool larder_put(struct comparison *all, const char *key) {
    struct lr_put put = {.key = key, .key_len = KEY_BYTES, .value = all->value, .value_len = all->options->value_bytes};
    return lr_put(all->cache, &put) == 0;
}

static uint64_t larder_many(struct comparison *all, const char *key) {
    struct lr_read rows[BATCH];
    size_t cap = all->options->value_bytes;
    for (size_t i = 0; i < BATCH; i++)
        rows[i] = (struct lr_read){
            .key = key + i * KEY_BYTES, .key_len = KEY_BYTES, .buf = all->buffers + i * cap, .cap = cap};
    return lr_get_many(all->cache, rows, BATCH, 0);
}

static uint64_t floor_many(struct comparison *all, const char *key) {
    struct floor_read rows[BATCH];
    size_t cap = all->options->value_bytes;
    for (size_t i = 0; i < BATCH; i++)
        rows[i] = (struct floor_read){
            .key = key + i * KEY_BYTES, .key_len = KEY_BYTES, .buf = all->buffers + i * cap, .cap = cap};
    return floor_get_many(&all->floor, rows, BATCH);
}

static uint64_t larder_work(struct comparison *all, enum peer_work work) {
    const uint64_t bytes = all->options->value_bytes;
    uint64_t good = 0;
    for (uint64_t i = 0; i < all->count; i += work == PEER_GET_MANY ? BATCH : 1u) {
        const char *key = all->keys + i * KEY_BYTES;
        if (work == PEER_GET)
            good += lr_get(all->cache, key, KEY_BYTES, all->buffers, bytes, NULL, 0) == 0;
        else if (work == PEER_GET_MANY)
            good += larder_many(all, key);
        else if (work == PEER_PUT)
            good += larder_put(all, key);
        else
            good += lr_delete(all->cache, key, KEY_BYTES) == 0;
    }
    return good;
}

static uint64_t floor_work(struct comparison *all, enum peer_work work) {
    const uint64_t bytes = all->options->value_bytes;
    uint64_t good = 0;
    size_t len;
    for (uint64_t i = 0; i < all->count; i += work == PEER_GET_MANY ? BATCH : 1u) {
        const char *key = all->keys + i * KEY_BYTES;
        if (work == PEER_GET)
            good += floor_get(&all->floor, key, KEY_BYTES, all->buffers, bytes, &len);
        else if (work == PEER_GET_MANY)
            good += floor_many(all, key);
        else if (work == PEER_PUT)
            good += floor_put(&all->floor, key, KEY_BYTES, all->value, bytes);
        else
            good += floor_delete(&all->floor, key, KEY_BYTES);
    }
    return good;
}

static struct peer_request request_of(const struct comparison *all, enum peer_work work) {
    return (struct peer_request){.work = work,
                                 .keys = all->keys,
                                 .key_len = KEY_BYTES,
                                 .count = all->count,
                                 .batch = BATCH,
                                 .value = all->value,
                                 .value_len = all->options->value_bytes};
}

/* ---- rounds ----------------------------------------------------------------------------------------------------- */

/* One column's share of a round. What was deleted is put back, not timed. 0, or LARDER_ESYSTEM. */
static int do_column(struct comparison *all, enum peer_work work, unsigned column, unsigned round) {
    uint64_t ns, before = ticks_clock_ns();
    int64_t good;
    if (column == COMPARE_FLOOR)
        good = (int64_t)floor_work(all, work);
    else if (column == COMPARE_LARDER)
        good = (int64_t)larder_work(all, work);
    ns = ticks_clock_ns() - before;
    if (column >= COMPARE_PEERS) {
        struct peer_request request = request_of(all, work);
        good = peer_work(all->peers[column - COMPARE_PEERS], &request, &ns);
        if (good < 0)
            return LARDER_ESYSTEM;
    }
    if (round >= WARM_UP)
        all->ns[work][column][round - WARM_UP] = (double)ns / (double)all->count;
    all->out->failed[column] += all->count - (uint64_t)good;
    if (work != PEER_DELETE)
        return 0;
    struct peer_request again = request_of(all, PEER_PUT);
    if (column == COMPARE_FLOOR)
        for (uint64_t i = 0; i < all->count; i++)
            floor_restore(&all->floor, all->keys + i * KEY_BYTES, KEY_BYTES);
    else if (column == COMPARE_LARDER)
        larder_work(all, PEER_PUT);
    else if (peer_work(all->peers[column - COMPARE_PEERS], &again, &ns) < 0)
        return LARDER_ESYSTEM;
    return 0;
}

static bool is_there(const struct comparison *all, unsigned column) {
    return column < COMPARE_PEERS || all->peers[column - COMPARE_PEERS] != NULL;
}

/* Deletes take each key once. */
static void draw_keys(struct comparison *all, enum peer_work work, unsigned round) {
    const uint64_t items = all->options->items;
    for (uint64_t i = 0; i < all->count; i++) {
        uint64_t item = all->options->zipf > 0 ? zipf_draw(&all->zipf, &all->draw) : draw_below(&all->draw, items);
        if (work == PEER_DELETE)
            item = (round * all->count + i) % items;
        make_key(all->keys + i * KEY_BYTES, item);
    }
}

static int do_rounds(struct comparison *all, char *why) {
    for (unsigned round = 0; round < WARM_UP + ROUNDS; round++)
        for (unsigned work = 0; work < PEER_WORKS; work++) {
            draw_keys(all, (enum peer_work)work, round);
            for (unsigned column = 0; column < COMPARE_COLUMNS; column++) {
                if (!is_there(all, column) || caught_signal != 0)
                    continue;
                if (do_column(all, (enum peer_work)work, column, round) != 0) {
                    snprintf(why, LR_WHY_BYTES, "%s gave an answer that is none", peer_names[column - COMPARE_PEERS]);
                    return LARDER_ESYSTEM;
                }
            }
            if (all->options->progress)
                fprintf(stderr, "\rbench: round %u of %u\033[K", round + 1u, WARM_UP + ROUNDS);
        }
    return 0;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sum_up(struct comparison *all) {
    for (unsigned work = 0; work < PEER_WORKS; work++)
        for (unsigned column = 0; column < COMPARE_COLUMNS; column++) {
            if (!is_there(all, column))
                continue;
            qsort(all->ns[work][column], ROUNDS, sizeof(double), compare_doubles);
            all->out->ns[work][column] = all->ns[work][column][ROUNDS / 2u];
        }
}

/* ---- filling ---------------------------------------------------------------------------------------------------- */

static int load_items(struct comparison *all, char *why) {
    const uint64_t items = all->options->items, per_round = all->count;
    for (uint64_t from = 0; from < items && caught_signal == 0; from += all->count) {
        all->count = items - from < per_round ? items - from : per_round;
        for (uint64_t i = 0; i < all->count; i++) {
            make_key(all->keys + i * KEY_BYTES, from + i);
            floor_insert(&all->floor, all->keys + i * KEY_BYTES, KEY_BYTES, all->value, all->options->value_bytes);
        }
        if (larder_work(all, PEER_PUT) != all->count) {
            snprintf(why, LR_WHY_BYTES, "cannot load the items");
            return LARDER_ESYSTEM;
        }
        for (unsigned kind = 0; kind < PEER_COUNT; kind++) {
            struct peer_request request = request_of(all, PEER_PUT);
            uint64_t ns;
            if (all->peers[kind] != NULL && peer_work(all->peers[kind], &request, &ns) != (int64_t)all->count) {
                snprintf(why, LR_WHY_BYTES, "%s does not take the items", peer_names[kind]);
                return LARDER_ESYSTEM;
            }
        }
        if (all->options->progress)
            fprintf(stderr, "\rbench: loading %3" PRIu64 " %%\033[K", 100u * from / items);
    }
    all->count = per_round;
    floor_settle(&all->floor);
    return 0;
}

static int begin(struct comparison *all, char *why) {
    const struct compare_options *options = all->options;
    const uint64_t item_bytes = options->value_bytes + 24u + KEY_BYTES + 24u;
    uint64_t most = ROUND_BYTES / (options->value_bytes + 1u) / BATCH * BATCH;
    all->count = most < BATCH ? BATCH : most < ROUND_KEYS ? most : ROUND_KEYS;
    all->draw = draw_seeded(1);
    if (options->zipf > 0)
        all->zipf = zipf_make(options->items, options->zipf);
    all->keys = malloc(all->count * KEY_BYTES);
    all->value = malloc(options->value_bytes);
    all->buffers = malloc(options->value_bytes * BATCH);
    if (floor_create(&all->floor, options->items, KEY_BYTES, options->value_bytes) != 0 || all->keys == NULL ||
        all->value == NULL || all->buffers == NULL) {
        snprintf(why, LR_WHY_BYTES, "no memory for the floor's table");
        return LARDER_ENO_MEMORY;
    }
    memset(all->value, 'v', options->value_bytes);
    struct lr_options create = lr_options_default();
    create.name = all->name;
    create.size = options->items * item_bytes / 2u * 3u + (4u << 20);
    create.stripes = options->value_bytes > 16384 ? 4 : 0;
    create.who = "bench";
    create.prefault = true;
    int error = lr_cache_create(&create, &all->cache, why);
    for (unsigned kind = 0; kind < PEER_COUNT && error == 0; kind++) {
        int started = peer_start((enum peer_kind)kind, options->items * item_bytes * 2u, &all->peers[kind],
                                 all->out->absent[kind]);
        if (started != 0 && all->out->absent[kind][0] == '\0')
            snprintf(all->out->absent[kind], PEER_WHY_BYTES, "it would not start");
    }
    return error == 0 ? load_items(all, why) : error;
}

static void end(struct comparison *all) {
    for (unsigned kind = 0; kind < PEER_COUNT; kind++)
        peer_stop(all->peers[kind]);
    if (all->cache != NULL) {
        struct lr_options options = lr_options_default();
        options.name = all->name;
        lr_cache_detach(all->cache);
        lr_cache_destroy(&options, NULL);
    }
    floor_destroy(&all->floor);
    free(all->keys);
    free(all->value);
    free(all->buffers);
    if (all->options->progress)
        fprintf(stderr, "\r\033[K");
}

int compare_run(const struct compare_options *options, struct compare_result *out, char *why) {
    static struct comparison all;
    struct sigaction action = {.sa_handler = remember_signal}, old_interrupt, old_terminate;
    *out = (struct compare_result){0};
    all = (struct comparison){.options = options, .out = out};
    why[0] = '\0';
    snprintf(all.name, sizeof all.name, "bench.%ld.%08" PRIx32 ".peers", (long)getpid(), (uint32_t)ticks_clock_ns());
    sigemptyset(&action.sa_mask);
    caught_signal = 0;
    sigaction(SIGINT, &action, &old_interrupt);
    sigaction(SIGTERM, &action, &old_terminate);
    int error = begin(&all, why);
    if (error == 0)
        error = do_rounds(&all, why);
    if (error == 0)
        sum_up(&all);
    end(&all);
    out->interrupted = caught_signal;
    sigaction(SIGINT, &old_interrupt, NULL);
    sigaction(SIGTERM, &old_terminate, NULL);
    return error;
}
