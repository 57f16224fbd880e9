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
    if (stream->end == stream->start)
        return WIRE_FAULT_MORE;
    return wire_decode(stream->bytes + stream->start, stream->end - stream->start, max_payload, out, &need);
}

void lr_stream_take(struct lr_stream *stream, const struct wire_frame *frame) {
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
