/* SPDX-License-Identifier: MIT */
/*
 * Bytes of one link that have come but are not yet a whole frame.
 *
 * Whatever pieces the network cuts the stream into, the frames that come out are the same. The buffer grows with what
 * was received, never with what was announced: a peer that announces 100 MB and sends 20 bytes costs a few KiB.
 *
 * Most frames come whole. They are read where the network has put them (lr_stream_lend), and only what is left over is
 * copied.
 */
#ifndef LR_STREAM_H
#define LR_STREAM_H

#include "wire.h"

#include <stdbool.h>

struct lr_stream {
    uint8_t *bytes;
    size_t start, end, cap;
    const uint8_t *lent; /* bytes of the caller's that are read in place of ours; NULL: none */
    size_t lent_len;
};

static inline bool lr_stream_is_empty(const struct lr_stream *stream) {
    return stream->start == stream->end;
}

/* 0, or -1 without memory. Nothing is lent. */
int lr_stream_push(struct lr_stream *stream, const void *bytes, size_t len);
/* How many more bytes it takes to know more about the first frame, or to have it whole; 0: it is. Nothing is lent. */
size_t lr_stream_missing(const struct lr_stream *stream, uint64_t max_payload);
/* Frames are taken from bytes[0, len), which stay the caller's, until lr_stream_keep. The stream is empty. */
void lr_stream_lend(struct lr_stream *stream, const void *bytes, size_t len);
/* Copies what was not taken. 0, or -1 without memory. */
int lr_stream_keep(struct lr_stream *stream);
/* As wire_decode; a frame points into the buffer and stays valid until the next push or keep. It is not taken away yet.
 */
enum wire_fault lr_stream_peek(const struct lr_stream *stream, uint64_t max_payload, struct wire_frame *out);
/* The bytes behind the frame that was peeked; *len: how many. */
const uint8_t *lr_stream_behind(const struct lr_stream *stream, const struct wire_frame *frame, size_t *len);
/* Takes away the frame that was peeked. */
void lr_stream_take(struct lr_stream *stream, const struct wire_frame *frame);
void lr_stream_free(struct lr_stream *stream);

#endif
