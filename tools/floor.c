/* SPDX-License-Identifier: MIT */
/* The plain table of floor.h. */
#include "floor.h"

#include "bytes.h"
#include "larder_errors.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define LINE_SLOTS 8u
#define PAIR_SLOTS 16u
#define TAG_SHIFT 50
#define DEAD (UINT64_C(1) << 49)
#define OFF_MASK UINT64_C(0xffffffff)
#define GRANULE 8u
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define HUGE_BYTES (UINT64_C(2) << 20)

struct item_head { /* as long as the engine's */
    uint32_t key_len;
    uint32_t value_len;
    uint64_t unused[2];
};

struct place {
    uint64_t pair, tag;
    unsigned line; /* 0 or 1: where in the pair the key is looked for first */
};

static struct place place_of(const struct floor *floor, const void *key, size_t key_len) {
    uint64_t hash = XXH3_64bits(key, key_len);
    return (struct place){.pair = ((hash >> 32) * floor->pairs) >> 32,
                          .tag = (hash & UINT64_C(0x3fff)) << TAG_SHIFT,
                          .line = (unsigned)(hash >> 14) & 1u};
}

static uint64_t *line_at(const struct floor *floor, uint64_t pair, unsigned line) {
    return floor->lines + pair * PAIR_SLOTS + line * LINE_SLOTS;
}

static struct item_head *item_at(const struct floor *floor, uint64_t word) {
    return (struct item_head *)(void *)(floor->items + (word & OFF_MASK) * GRANULE);
}

/* Bit i: slot i bears the tag, and the dead flag or not as `wanted` says. All eight are looked at, without a branch. */
static unsigned matches(const uint64_t *line, uint64_t wanted) {
    unsigned mask = 0;
    for (unsigned i = 0; i < LINE_SLOTS; i++)
        mask |= (unsigned)((line[i] & ~OFF_MASK) == wanted) << i;
    return mask;
}

static uint64_t *find_in_line(const struct floor *floor, uint64_t *line, uint64_t wanted, const void *key,
                              size_t key_len) {
    for (unsigned mask = matches(line, wanted); mask != 0; mask &= mask - 1u) {
        uint64_t *slot = line + __builtin_ctz(mask);
        const struct item_head *head = item_at(floor, *slot);
        if (*slot != 0 && head->key_len == key_len && lr_bytes_equal(head + 1, key, key_len))
            return slot;
    }
    return NULL;
}

static bool has_empty(const uint64_t *line) {
    for (unsigned i = 0; i < LINE_SLOTS; i++)
        if (line[i] == 0)
            return true;
    return false;
}

/* The word that names the key, or NULL: home line, the other of the pair, then the pairs behind while these are full.
 */
static uint64_t *find_slot(const struct floor *floor, struct place place, uint64_t flag, const void *key,
                           size_t key_len) {
    for (uint64_t i = 0; i < floor->pairs; i++) {
        uint64_t pair = place.pair + i < floor->pairs ? place.pair + i : place.pair + i - floor->pairs;
        for (unsigned other = 0; other < 2; other++) {
            uint64_t *line = line_at(floor, pair, place.line ^ other);
            uint64_t *slot = find_in_line(floor, line, place.tag | flag, key, key_len);
            if (slot != NULL || has_empty(line))
                return slot;
        }
    }
    return NULL;
}

static void *map_plain(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    madvise(at, bytes, MADV_HUGEPAGE);
    return at;
}

void floor_settle(const struct floor *floor) {
    madvise(floor->lines, floor->line_bytes, MADV_COLLAPSE);
    madvise(floor->items, floor->item_bytes, MADV_COLLAPSE);
}

int floor_create(struct floor *floor, uint64_t count, size_t key_len, size_t value_len) {
    *floor = (struct floor){.pairs = count * 5u / (PAIR_SLOTS * 4u) + 1u, .used = GRANULE};
    floor->spacing = (uint32_t)((sizeof(struct item_head) + key_len + value_len + GRANULE - 1u) & ~(GRANULE - 1u));
    floor->line_bytes = (floor->pairs * PAIR_SLOTS * sizeof(uint64_t) + HUGE_BYTES - 1u) & ~(HUGE_BYTES - 1u);
    floor->item_bytes = (count * floor->spacing + GRANULE + HUGE_BYTES - 1u) & ~(HUGE_BYTES - 1u);
    floor->lines = map_plain(floor->line_bytes);
    floor->items = map_plain(floor->item_bytes);
    if (floor->lines != NULL && floor->items != NULL)
        return 0;
    floor_destroy(floor);
    return LARDER_ENO_MEMORY;
}

void floor_destroy(struct floor *floor) {
    if (floor->lines != NULL)
        munmap(floor->lines, floor->line_bytes);
    if (floor->items != NULL)
        munmap(floor->items, floor->item_bytes);
    *floor = (struct floor){0};
}

static void store_item(struct item_head *head, const void *key, size_t key_len, const void *value, size_t value_len) {
    *head = (struct item_head){.key_len = (uint32_t)key_len, .value_len = (uint32_t)value_len};
    lr_bytes_in(head + 1, key, key_len);
    lr_bytes_in((uint8_t *)(head + 1) + key_len, value, value_len);
}

void floor_insert(struct floor *floor, const void *key, size_t key_len, const void *value, size_t value_len) {
    struct place place = place_of(floor, key, key_len);
    uint64_t *line = line_at(floor, place.pair, place.line);
    assert(floor->used + floor->spacing <= floor->item_bytes);
    for (uint64_t i = 0; !has_empty(line); i++) {
        uint64_t pair = (place.pair + (i + 1) / 2) % floor->pairs;
        line = line_at(floor, pair, place.line ^ ((i + 1) % 2 != 0));
    }
    while (*line != 0)
        line++;
    *line = place.tag | (floor->used / GRANULE);
    store_item(item_at(floor, *line), key, key_len, value, value_len);
    floor->used += floor->spacing;
}

const void *floor_find(const struct floor *floor, const void *key, size_t key_len, size_t *value_len) {
    const uint64_t *slot = find_slot(floor, place_of(floor, key, key_len), 0, key, key_len);
    if (slot == NULL)
        return NULL;
    const struct item_head *head = item_at(floor, *slot);
    *value_len = head->value_len;
    return (const uint8_t *)(head + 1) + head->key_len;
}

bool floor_get(const struct floor *floor, const void *key, size_t key_len, void *buf, size_t cap, size_t *value_len) {
    const void *value = floor_find(floor, key, key_len, value_len);
    if (value == NULL || *value_len > cap)
        return false;
    lr_bytes_out(buf, value, *value_len);
    return true;
}

size_t floor_get_many(const struct floor *floor, struct floor_read *rows, size_t count) {
    struct place places[FLOOR_BATCH];
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        places[i] = place_of(floor, rows[i].key, rows[i].key_len);
        __builtin_prefetch(line_at(floor, places[i].pair, places[i].line));
    }
    for (size_t i = 0; i < count; i++) {
        const uint64_t *line = line_at(floor, places[i].pair, places[i].line);
        unsigned mask = matches(line, places[i].tag);
        if (mask != 0) {
            const uint8_t *item = (const uint8_t *)item_at(floor, line[__builtin_ctz(mask)]);
            for (uint32_t at = 0; at < floor->spacing && at < 256; at += 64)
                __builtin_prefetch(item + at);
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct floor_read *row = &rows[i];
        const uint64_t *slot = find_slot(floor, places[i], 0, row->key, row->key_len);
        row->found = false;
        if (slot == NULL)
            continue;
        const struct item_head *head = item_at(floor, *slot);
        row->value_len = head->value_len;
        if (head->value_len > row->cap)
            continue;
        lr_bytes_out(row->buf, (const uint8_t *)(head + 1) + head->key_len, head->value_len);
        row->found = true;
        found++;
    }
    return found;
}

bool floor_put(struct floor *floor, const void *key, size_t key_len, const void *value, size_t value_len) {
    uint64_t *slot = find_slot(floor, place_of(floor, key, key_len), 0, key, key_len);
    if (slot == NULL)
        return false;
    store_item(item_at(floor, *slot), key, key_len, value, value_len);
    return true;
}

static bool flip_dead(struct floor *floor, const void *key, size_t key_len, uint64_t from) {
    uint64_t *slot = find_slot(floor, place_of(floor, key, key_len), from, key, key_len);
    if (slot == NULL)
        return false;
    *slot ^= DEAD;
    return true;
}

bool floor_delete(struct floor *floor, const void *key, size_t key_len) {
    return flip_dead(floor, key, key_len, 0);
}

bool floor_restore(struct floor *floor, const void *key, size_t key_len) {
    return flip_dead(floor, key, key_len, DEAD);
}
