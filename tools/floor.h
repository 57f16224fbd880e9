/* SPDX-License-Identifier: MIT */
/*
 * The least that a look-up can cost: hash the key, read one index line, read the item, copy the value.
 *
 * A hash table in private memory that does this and nothing else: no sharing, no lock, no eviction, no expiry, no
 * concurrency of any kind. `larder bench` runs it beside the engine on the same keys and prints the ratio.
 *
 *   lines   [8 words of 64 bits: tag 14 | dead 1 | ... | offset / 8] [...]      pairs of lines, 80 % full
 *   items   [head 24: key length, value length | key | value | pad to 8] [...]  as far apart as the engine's blocks
 *
 * So it touches as much memory as the engine, in as many places, and pays the same cache and TLB misses; huge pages are
 * asked for. It compares the key, as anything must that returns right values, and it learns lengths at run time, as
 * anything must that serves values of any length. What it does not do is the overhead that the ratio shows.
 *
 * Writes are the same look-up and a store of the item's bytes (put) or of the dead flag (delete), in place.
 */
#ifndef LARDER_FLOOR_H
#define LARDER_FLOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct floor {
    uint64_t *lines;
    uint8_t *items;
    uint64_t pairs;
    size_t line_bytes, item_bytes; /* of the two mappings */
    uint64_t used;                 /* bytes of items */
    uint32_t spacing;              /* bytes from one item to the next */
};

struct floor_read { /* a row of a batch */
    const void *key;
    size_t key_len;
    void *buf;
    size_t cap;
    size_t value_len; /* out */
    bool found;       /* out */
};

/* For `count` items. 0 or ENO_MEMORY. */
int floor_create(struct floor *floor, uint64_t count, size_t key_len, size_t value_len);
void floor_destroy(struct floor *floor);
/* A key that is not there yet; asserts that there is room. */
void floor_insert(struct floor *floor, const void *key, size_t key_len, const void *value, size_t value_len);
/* When it is filled: what got no huge pages so far gets them now, where it can, and not by the kernel in the middle of
 * a measurement. */
void floor_settle(const struct floor *floor);
/* Copies the value. False: not there, or larger than cap. */
bool floor_get(const struct floor *floor, const void *key, size_t key_len, void *buf, size_t cap, size_t *value_len);
/* The value in place, or NULL. */
const void *floor_find(const struct floor *floor, const void *key, size_t key_len, size_t *value_len);
/* As floor_get for each row, with the memory accesses of all rows overlapped. At most FLOOR_BATCH rows. */
#define FLOOR_BATCH 64u
size_t floor_get_many(const struct floor *floor, struct floor_read *rows, size_t count);
/* Overwrites the item's head, key and value. False: not there. */
bool floor_put(struct floor *floor, const void *key, size_t key_len, const void *value, size_t value_len);
bool floor_delete(struct floor *floor, const void *key, size_t key_len);
/* Undoes a delete. */
bool floor_restore(struct floor *floor, const void *key, size_t key_len);

#endif
