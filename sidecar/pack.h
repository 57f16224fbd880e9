/* SPDX-License-Identifier: MIT */
/*
 * Values on the wire, compressed: a link between data centres is slower than LZ4, one within a rack is faster.
 *
 * Packed is {length of the value: 4 bytes, little-endian, an LZ4 block}. LZ4 (Y. Collet, 2011) is liblz4's.
 */
#ifndef LR_PACK_H
#define LR_PACK_H

#include <stddef.h>
#include <stdint.h>

struct lr_pack;

/* Room to pack and unpack values of up to `largest` bytes, one at a time. NULL without memory. */
struct lr_pack *lr_pack_create(size_t largest);
void lr_pack_free(struct lr_pack *pack);
/* *out leads into `pack` until the next call. Returns the packed length; 0: it would save less than an eighth. */
uint32_t lr_pack(struct lr_pack *pack, const void *value, uint32_t len, const void **out);
/* The same way back. -1: these bytes are no value of at most `largest` bytes that lr_pack packed, or no memory. */
int64_t lr_unpack(struct lr_pack *pack, const void *packed, uint32_t len, const void **out);

#endif
