/* SPDX-License-Identifier: MIT */
/*
 * Bytes of one link that have come but are not yet a whole frame.
 *
 * Whatever pieces the network cuts the stream into, the frames that come out are the same. The buffer grows with what
 * was received, never with what was announced: a peer that announces 100 MB and sends 20 bytes costs a few KiB.
 */
#ifndef LR_STREAM_H
#define LR_STREAM_H

#include "wire.h"

struct lr_stream {
    uint8_t *bytes;
    size_t start, end, cap;
};

/* 0, or -1 without memory. */
int lr_stream_push(struct lr_stream *stream, const void *bytes, size_t len);
/* As wire_decode; a frame points into the buffer and stays valid until the next push. It is not taken away yet. */
enum wire_fault lr_stream_peek(const struct lr_stream *stream, uint64_t max_payload, struct wire_frame *out);
/* Takes away the frame that was peeked. */
void lr_stream_take(struct lr_stream *stream, const struct wire_frame *frame);
void lr_stream_free(struct lr_stream *stream);

#endif
