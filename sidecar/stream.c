/* SPDX-License-Identifier: MIT */
/* A buffer that is moved to its front when its tail is full, doubled when that does not help, and let go when empty and
 * large. */
#include "stream.h"

#include <stdlib.h>
#include <string.h>

#define STREAM_LEAST 4096u
#define STREAM_KEEP (256u << 10)

int lr_stream_push(struct lr_stream *stream, const void *bytes, size_t len) {
    if (stream->cap - stream->end < len && stream->start > 0) {
        memmove(stream->bytes, stream->bytes + stream->start, stream->end - stream->start);
        stream->end -= stream->start;
        stream->start = 0;
    }
    if (stream->cap - stream->end < len) {
        size_t cap = stream->cap > 0 ? stream->cap : STREAM_LEAST;
        while (cap - stream->end < len)
            cap *= 2;
        uint8_t *larger = realloc(stream->bytes, cap);
        if (larger == NULL)
            return -1;
        stream->bytes = larger;
        stream->cap = cap;
    }
    if (len > 0)
        memcpy(stream->bytes + stream->end, bytes, len);
    stream->end += len;
    return 0;
}

enum wire_fault lr_stream_peek(const struct lr_stream *stream, uint64_t max_payload, struct wire_frame *out) {
    size_t need;
    if (stream->lent_len > 0)
        return wire_decode(stream->lent, stream->lent_len, max_payload, out, &need);
    if (lr_stream_is_empty(stream))
        return WIRE_FAULT_MORE;
    return wire_decode(stream->bytes + stream->start, stream->end - stream->start, max_payload, out, &need);
}

size_t lr_stream_missing(const struct lr_stream *stream, uint64_t max_payload) {
    struct wire_frame frame;
    size_t need = 0, have = stream->end - stream->start;
    if (wire_decode(stream->bytes + stream->start, have, max_payload, &frame, &need) != WIRE_FAULT_MORE)
        return 0;
    return need - have;
}

void lr_stream_lend(struct lr_stream *stream, const void *bytes, size_t len) {
    stream->lent = bytes;
    stream->lent_len = len;
}

int lr_stream_keep(struct lr_stream *stream) {
    const uint8_t *lent = stream->lent;
    size_t len = stream->lent_len;
    stream->lent = NULL;
    stream->lent_len = 0;
    return len > 0 ? lr_stream_push(stream, lent, len) : 0;
}

const uint8_t *lr_stream_behind(const struct lr_stream *stream, const struct wire_frame *frame, size_t *len) {
    if (stream->lent_len > 0) {
        *len = stream->lent_len - frame->bytes;
        return stream->lent + frame->bytes;
    }
    *len = stream->end - stream->start - frame->bytes;
    return stream->bytes + stream->start + frame->bytes;
}

void lr_stream_take(struct lr_stream *stream, const struct wire_frame *frame) {
    if (stream->lent_len > 0) {
        stream->lent += frame->bytes;
        stream->lent_len -= frame->bytes;
        return;
    }
    stream->start += frame->bytes;
    if (stream->start < stream->end)
        return;
    stream->start = stream->end = 0;
    if (stream->cap > STREAM_KEEP)
        lr_stream_free(stream);
}

void lr_stream_free(struct lr_stream *stream) {
    free(stream->bytes);
    *stream = (struct lr_stream){0};
}
