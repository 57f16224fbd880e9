/* SPDX-License-Identifier: MIT */
/*
 * Frames between sidecars (sidecar/wire.c, sidecar/stream.c).
 *
 *   input: | mode | seed of the cuts | bytes ... |      mode odd: the bytes are frames as they are
 *                                                      mode even: | type | flags | length 2 | payload | ..., sealed
 * here, so that what lies behind the checksum is met too
 *
 * Whatever pieces the stream comes in, the same frames and the same end come out; a frame lies within what was
 * received, and the bytes behind those are not even read; the buffer grows with what was received; what was decoded,
 * encoded and decoded again, is the same.
 *
 * Large arrays are static: for one on the stack, AddressSanitizer marks its bytes at each call, which cost half the
 * time.
 */
#include "fuzz.h"

#include "stream.h"
#include "wire.h"

#include <sanitizer/asan_interface.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define MOST 4096u
#define WALL 256u
#define FRESH_IN 16u /* one stream in so many has a buffer of its own; the others use one again, as links do */

static size_t seal_all(const uint8_t *data, size_t len, uint8_t *out) {
    size_t used = 0;
    while (len >= 4 && used + WIRE_HEADER < MOST) {
        size_t payload = data[2] | (size_t)(data[3] & 3u) << 8;
        payload = payload < len - 4 ? payload : len - 4;
        payload = payload < MOST - used - WIRE_HEADER ? payload : MOST - used - WIRE_HEADER;
        uint8_t *frame = out + used;
        memset(frame, 0, WIRE_HEADER);
        frame[0] = (uint8_t)payload;
        frame[1] = (uint8_t)(payload >> 8);
        frame[4] = data[0];
        frame[5] = data[1];
        frame[6] = WIRE_MARKER & 0xff;
        frame[7] = WIRE_MARKER >> 8;
        memcpy(frame + WIRE_HEADER, data + 4, payload);
        if (data[0] == WIRE_HELLO && payload >= 12) { /* or no hello would ever pass */
            for (unsigned i = 0; i < 8; i++)
                frame[WIRE_HEADER + i] = (uint8_t)(WIRE_MAGIC >> (8 * i));
            frame[WIRE_HEADER + 8] = data[3] & 4 ? 7 : WIRE_PROTOCOL;
            memset(frame + WIRE_HEADER + 9, 0, 3);
        }
        uint64_t sum = XXH3_64bits_withSeed(frame + WIRE_HEADER, payload, XXH3_64bits(frame, 8));
        for (unsigned i = 0; i < 8; i++)
            frame[8 + i] = (uint8_t)(sum >> (8 * i));
        used += WIRE_HEADER + payload;
        data += 4 + payload;
        len -= 4 + payload;
    }
    return used;
}

static size_t encode(uint8_t *out, size_t cap, const struct wire_frame *frame) {
    static struct wire_void voids[WIRE_RANGES];
    static uint64_t words[WIRE_SMALL_LIMIT / 8];
    switch (frame->type) {
    case WIRE_HELLO:
        return wire_encode_hello(out, cap, &frame->as.hello);
    case WIRE_PUT:
        return wire_encode_put(out, cap, &frame->as.put, frame->flags);
    case WIRE_BYE:
        return wire_encode_bye(out, cap, (enum wire_reason)frame->as.bye.reason, frame->as.bye.text);
    case WIRE_VOIDS:
        for (uint32_t i = 0; i < frame->as.rows.count; i++)
            voids[i] = wire_void_at(frame, i);
        return wire_encode_voids(out, cap, voids, frame->as.rows.count);
    case WIRE_SUMS:
    case WIRE_ASK:
    case WIRE_LIST:
    case WIRE_SUBS:
    case WIRE_PICK:
    case WIRE_ROWS:
    case WIRE_PULL:
        for (uint32_t i = 0; i < frame->as.rows.count; i++)
            words[i] = wire_word_at(frame, i);
        return wire_encode_words(out, cap, (enum wire_type)frame->type, frame->flags, words, frame->as.rows.count);
    case WIRE_TOMB:
    case WIRE_DROP:
        words[0] = frame->as.entry.hash;
        words[1] = frame->as.entry.version;
        return wire_encode_words(out, cap, (enum wire_type)frame->type, frame->flags, words, 2);
    default:
        return 0;
    }
}

/* Encoding is the inverse of decoding, but for bytes that are ignored: from the first encoding on all is equal. */
static void come_back(const struct wire_frame *frame) {
    static uint8_t first[2 * WIRE_SMALL_LIMIT], second[2 * WIRE_SMALL_LIMIT];
    struct wire_frame again;
    /* Whose lengths were added up in too few bits, or not compared with what is there, would lie outside. */
    if (frame->type == WIRE_PUT)
        MUST((uint64_t)WIRE_HEADER + WIRE_PUT_FIXED + frame->as.put.key_len + frame->as.put.value_len == frame->bytes);
    size_t need, len = encode(first, sizeof first, frame);
    if (len == 0)
        return;
    MUST(wire_decode(first, len, WIRE_MAX_PAYLOAD, &again, &need) == WIRE_FAULT_OK);
    MUST(again.bytes == len && again.type == frame->type && again.flags == frame->flags);
    MUST(encode(second, sizeof second, &again) == len && memcmp(first, second, len) == 0);
    if (frame->type == WIRE_PUT) {
        MUST(again.as.put.version == frame->as.put.version && again.as.put.key_len == frame->as.put.key_len);
        MUST(again.as.put.value_len == frame->as.put.value_len && again.as.put.user_flags == frame->as.put.user_flags);
        MUST(memcmp(again.as.put.key, frame->as.put.key, frame->as.put.key_len) == 0);
    }
}

struct events {
    uint64_t sum;
    unsigned frames;
    enum wire_fault last;
};

/* What lies behind the received bytes must not even be read. */
static enum wire_fault peek(const struct lr_stream *stream, uint64_t limit, struct wire_frame *frame) {
    const size_t behind = stream->cap - stream->end, wall = behind < WALL ? behind : WALL;
    ASAN_POISON_MEMORY_REGION(stream->bytes + stream->end, wall);
    enum wire_fault fault = lr_stream_peek(stream, limit, frame);
    ASAN_UNPOISON_MEMORY_REGION(stream->bytes + stream->end, wall);
    return fault;
}

/* Feeds the bytes in pieces of 1 to `most` (0: whole); stops at a fault, as a link does. */
static struct events feed(const uint8_t *bytes, size_t len, uint64_t seed, size_t most, uint64_t limit) {
    static struct lr_stream stream;
    struct events events = {.last = WIRE_FAULT_MORE};
    for (size_t at = 0; at < len && events.last == WIRE_FAULT_MORE;) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        size_t piece = most == 0 ? len : 1 + (size_t)(seed >> 33) % most;
        piece = piece < len - at ? piece : len - at;
        MUST(lr_stream_push(&stream, bytes + at, piece) == 0);
        at += piece;
        MUST(stream.cap <= 4096 || stream.cap <= 4 * at);
        struct wire_frame frame;
        while ((events.last = peek(&stream, limit, &frame)) == WIRE_FAULT_OK) {
            MUST(frame.bytes <= stream.end - stream.start);
            events.sum = events.sum * 31 + XXH3_64bits(stream.bytes + stream.start, frame.bytes);
            events.frames++;
            come_back(&frame);
            lr_stream_take(&stream, &frame);
        }
    }
    if (seed % FRESH_IN == 0)
        lr_stream_free(&stream);
    stream.start = stream.end = 0;
    return events;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    static uint8_t sealed[MOST];
    if (len < 3)
        return 0;
    const uint8_t *bytes = data + 2;
    size_t count = len - 2;
    if (data[0] % 2 == 0) {
        count = seal_all(bytes, count, sealed);
        bytes = sealed;
    }
    uint64_t limit = data[0] & 2 ? WIRE_HELLO_LIMIT : WIRE_MAX_PAYLOAD;
    struct events whole = feed(bytes, count, 0, 0, limit);
    struct events cut = feed(bytes, count, data[1], 1 + data[1] % 40u, limit);
    /* All that came before a fault came in both; the fault is the same. */
    MUST(whole.frames == cut.frames && whole.sum == cut.sum && whole.last == cut.last);
    return 0;
}
