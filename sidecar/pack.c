/* SPDX-License-Identifier: MIT */
/* See pack.h. The buffer is made when it is first needed, and grows: most nodes never pack, or only small values. */
#include "pack.h"

#include <lz4.h>
#include <stdbool.h>
#include <stdlib.h>

#define HEAD 4u

struct lr_pack {
    size_t largest, cap;
    uint8_t *bytes;
};

struct lr_pack *lr_pack_create(size_t largest) {
    struct lr_pack *pack = calloc(1, sizeof *pack);
    if (pack != NULL)
        pack->largest = largest < LZ4_MAX_INPUT_SIZE ? largest : LZ4_MAX_INPUT_SIZE;
    return pack;
}

void lr_pack_free(struct lr_pack *pack) {
    if (pack != NULL)
        free(pack->bytes);
    free(pack);
}

static bool reserve(struct lr_pack *pack, size_t bytes) {
    if (bytes <= pack->cap)
        return true;
    uint8_t *larger = realloc(pack->bytes, bytes);
    if (larger == NULL)
        return false;
    pack->bytes = larger;
    pack->cap = bytes;
    return true;
}

uint32_t lr_pack(struct lr_pack *pack, const void *value, uint32_t len, const void **out) {
    const uint32_t most = len - len / 8;
    if (len > pack->largest || most <= HEAD || !reserve(pack, most))
        return 0;
    int packed = LZ4_compress_default(value, (char *)pack->bytes + HEAD, (int)len, (int)(most - HEAD));
    if (packed <= 0)
        return 0;
    for (unsigned i = 0; i < HEAD; i++)
        pack->bytes[i] = (uint8_t)(len >> (8 * i));
    *out = pack->bytes;
    return HEAD + (uint32_t)packed;
}

int64_t lr_unpack(struct lr_pack *pack, const void *packed, uint32_t len, const void **out) {
    const uint8_t *at = packed;
    if (len <= HEAD || len - HEAD > LZ4_MAX_INPUT_SIZE)
        return -1;
    const uint32_t whole = at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    /* A block says at most 255 bytes with one: an announced length costs no memory beyond that. */
    if (whole > pack->largest || whole / 255 > len || !reserve(pack, whole > 0 ? whole : 1))
        return -1;
    *out = pack->bytes;
    int got = LZ4_decompress_safe((const char *)at + HEAD, (char *)pack->bytes, (int)(len - HEAD), (int)whole);
    return got >= 0 && (uint32_t)got == whole ? got : -1;
}
