/* SPDX-License-Identifier: MIT */
/* Encoding and decoding of frames. One function each way for every payload shape; wire.h has the picture. */
#include "wire.h"

#include <stdbool.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static uint64_t load(const uint8_t *at, unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static void store(uint8_t *at, uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t checksum(const uint8_t *frame, uint32_t payload_len) {
    uint64_t seed = XXH3_64bits(frame, 8);
    return XXH3_64bits_withSeed(frame + WIRE_HEADER, payload_len, seed);
}

/* ---- decoding ------------------------------------------------------------------------------------------------ */

struct shape {
    unsigned flags, least;
};

static bool find_shape(unsigned type, struct shape *out) {
    switch (type) {
#define X(name, number, allowed, least_bytes, sentence)                                                                \
    case number:                                                                                                       \
        *out = (struct shape){(allowed), (least_bytes)};                                                               \
        return true;
        WIRE_TYPES(X)
#undef X
    default:
        return false;
    }
}

/* A text with its length byte. Returns the bytes used, 0 if it does not fit or holds a NUL. */
static uint32_t take_text(const uint8_t *at, uint32_t left, char text[WIRE_MAX_TEXT + 1]) {
    if (left < 1 || at[0] > WIRE_MAX_TEXT || left - 1 < at[0])
        return 0;
    memcpy(text, at + 1, at[0]);
    text[at[0]] = '\0';
    return strlen(text) == at[0] ? 1u + at[0] : 0;
}

/* Both sides' versions, of a HELLO of which at least the first 12 bytes are there. False: none is common. */
static bool common_protocol(const uint8_t *at, uint32_t len, struct wire_hello *out) {
    out->protocol = (uint32_t)load(at + 8, 4);
    out->least = len >= 84 ? (uint32_t)load(at + 80, 4) : 0;
    if (out->least == 0)
        out->least = out->protocol;
    if (out->protocol < WIRE_PROTOCOL_LEAST || out->least > WIRE_PROTOCOL)
        return false;
    if (out->protocol > WIRE_PROTOCOL)
        out->protocol = WIRE_PROTOCOL;
    return true;
}

static enum wire_fault take_hello(const uint8_t *at, uint32_t len, struct wire_hello *out) {
    if (load(at, 8) != WIRE_MAGIC)
        return WIRE_FAULT_NOT_LARDER;
    if (!common_protocol(at, len, out))
        return WIRE_FAULT_PROTOCOL;
    out->features = load(at + 12, 8);
    out->incarnation[0] = load(at + 20, 8);
    out->incarnation[1] = load(at + 28, 8);
    out->highest = load(at + 36, 8);
    out->flush = load(at + 44, 8);
    out->wall_ms = load(at + 52, 8);
    out->max_entry = load(at + 60, 8);
    out->origin = (uint32_t)load(at + 68, 4);
    out->items = load(at + 72, 8);
    out->modes = load(at + 84, 8);
    uint32_t used = take_text(at + 92, len - 92, out->node);
    if (used == 0 || take_text(at + 92 + used, len - 92 - used, out->listen) == 0)
        return WIRE_FAULT_MALFORMED;
    return out->origin < 1024 ? WIRE_FAULT_OK : WIRE_FAULT_MALFORMED;
}

static enum wire_fault take_put(const uint8_t *at, uint32_t len, struct wire_put *out) {
    out->version = load(at, 8);
    out->ttl_left_ms = load(at + 8, 8);
    out->user_flags = (uint32_t)load(at + 16, 4);
    out->key_len = (uint32_t)load(at + 20, 4);
    uint32_t rest = len - WIRE_PUT_FIXED;
    if (out->version == 0 || out->key_len == 0 || out->key_len > WIRE_MAX_KEY || out->key_len > rest)
        return WIRE_FAULT_MALFORMED;
    out->value_len = rest - out->key_len;
    out->key = at + WIRE_PUT_FIXED;
    out->value = at + WIRE_PUT_FIXED + out->key_len;
    return WIRE_FAULT_OK;
}

static enum wire_fault take_rows(const uint8_t *at, uint32_t len, uint32_t row_bytes, uint32_t most,
                                 struct wire_frame *out) {
    if (len % row_bytes != 0 || len / row_bytes > most)
        return WIRE_FAULT_MALFORMED;
    out->as.rows.rows = at;
    out->as.rows.count = len / row_bytes;
    if (row_bytes == 16)
        for (uint32_t i = 0; i < out->as.rows.count; i++)
            if (load(at + (size_t)i * 16, 8) >= WIRE_RANGES)
                return WIRE_FAULT_MALFORMED;
    return WIRE_FAULT_OK;
}

static enum wire_fault take_payload(const uint8_t *at, uint32_t len, struct wire_frame *out) {
    switch (out->type) {
    case WIRE_HELLO:
        return take_hello(at, len, &out->as.hello);
    case WIRE_PUT:
        return take_put(at, len, &out->as.put);
    case WIRE_PING:
        out->as.ping.wall_ms = load(at, 8);
        out->as.ping.highest = load(at + 8, 8);
        return WIRE_FAULT_OK;
    case WIRE_PONG:
        out->as.pong.echo_ms = load(at, 8);
        out->as.pong.wall_ms = load(at + 8, 8);
        return WIRE_FAULT_OK;
    case WIRE_BYE:
        out->as.bye.reason = (uint32_t)load(at, 4);
        return take_text(at + 4, len - 4, out->as.bye.text) != 0 ? WIRE_FAULT_OK : WIRE_FAULT_MALFORMED;
    case WIRE_FLUSH:
        out->as.flush.version = load(at, 8);
        return WIRE_FAULT_OK;
    case WIRE_TOMB:
    case WIRE_DROP:
        out->as.entry.hash = load(at, 8);
        out->as.entry.version = load(at + 8, 8);
        return out->as.entry.version != 0 ? WIRE_FAULT_OK : WIRE_FAULT_MALFORMED;
    case WIRE_MARK:
        out->as.ack.sequence = load(at, 8);
        out->as.ack.declined = 0;
        return WIRE_FAULT_OK;
    case WIRE_ACK:
        out->as.ack.sequence = load(at, 8);
        out->as.ack.declined = load(at + 8, 8);
        return WIRE_FAULT_OK;
    case WIRE_VOIDS:
        return take_rows(at, len, 16, WIRE_RANGES, out);
    case WIRE_SUMS:
        return len == WIRE_RANGES * 8 ? take_rows(at, len, 8, WIRE_RANGES, out) : WIRE_FAULT_MALFORMED;
    case WIRE_ASK:
        return len == 40 ? take_rows(at, len, 8, 5, out) : WIRE_FAULT_MALFORMED;
    case WIRE_LIST:
    case WIRE_SUBS:
    case WIRE_PICK:
    case WIRE_ROWS:
    case WIRE_PULL:
    case WIRE_PARTS:
        return take_rows(at, len, 8, WIRE_MAX_HASHES, out);
    case WIRE_SETTLE:
        out->as.settle.low = load(at, 8);
        out->as.settle.high = load(at + 8, 8);
        return out->as.settle.low <= out->as.settle.high ? WIRE_FAULT_OK : WIRE_FAULT_MALFORMED;
    default:
        return WIRE_FAULT_OK;
    }
}

enum wire_fault wire_decode(const uint8_t *bytes, size_t len, uint64_t max_payload, struct wire_frame *out,
                            size_t *need) {
    if (len < WIRE_HEADER) {
        *need = WIRE_HEADER;
        return len >= 8 && load(bytes + 6, 2) != WIRE_MARKER ? WIRE_FAULT_NOT_LARDER : WIRE_FAULT_MORE;
    }
    if (load(bytes + 6, 2) != WIRE_MARKER)
        return WIRE_FAULT_NOT_LARDER;
    uint32_t payload = (uint32_t)load(bytes, 4);
    *out = (struct wire_frame){.type = bytes[4], .flags = bytes[5]};
    uint64_t limit = out->type == WIRE_PUT ? WIRE_MAX_PAYLOAD : WIRE_SMALL_LIMIT;
    if (payload > limit || payload > max_payload)
        return WIRE_FAULT_TOO_LONG;
    out->bytes = WIRE_HEADER + payload;
    if (len < out->bytes) {
        *need = out->bytes;
        return WIRE_FAULT_MORE;
    }
    if (load(bytes + 8, 8) != checksum(bytes, payload))
        return WIRE_FAULT_CHECKSUM;
    struct shape shape;
    if (!find_shape(out->type, &shape))
        return out->type & WIRE_OPTIONAL ? WIRE_FAULT_OK : WIRE_FAULT_UNKNOWN;
    /* The first 12 bytes of HELLO are judged first: another protocol may have less or more behind them. */
    if (out->type == WIRE_HELLO && payload >= 12 && load(bytes + WIRE_HEADER, 8) == WIRE_MAGIC &&
        !common_protocol(bytes + WIRE_HEADER, payload, &out->as.hello))
        return WIRE_FAULT_PROTOCOL;
    if (payload < shape.least || (out->flags & ~shape.flags) != 0)
        return WIRE_FAULT_MALFORMED;
    return take_payload(bytes + WIRE_HEADER, payload, out);
}

const void *wire_peek_key(const uint8_t *bytes, size_t len, uint32_t *key_len, size_t *frame_bytes) {
    if (len < WIRE_HEADER + WIRE_PUT_FIXED || bytes[4] != WIRE_PUT)
        return NULL;
    *frame_bytes = WIRE_HEADER + load(bytes, 4);
    *key_len = (uint32_t)load(bytes + WIRE_HEADER + 20, 4);
    return *key_len <= len - WIRE_HEADER - WIRE_PUT_FIXED ? bytes + WIRE_HEADER + WIRE_PUT_FIXED : NULL;
}

uint64_t wire_word_at(const struct wire_frame *frame, uint32_t i) {
    return load(frame->as.rows.rows + (size_t)i * 8, 8);
}

struct wire_void wire_void_at(const struct wire_frame *frame, uint32_t i) {
    const uint8_t *row = frame->as.rows.rows + (size_t)i * 16;
    return (struct wire_void){.range = (uint8_t)load(row, 8), .version = load(row + 8, 8)};
}

/* ---- encoding ------------------------------------------------------------------------------------------------ */

/* The payload is in place behind the header: writes the header. */
static size_t seal(uint8_t *out, enum wire_type type, unsigned flags, uint32_t payload) {
    store(out, payload, 4);
    out[4] = (uint8_t)type;
    out[5] = (uint8_t)flags;
    store(out + 6, WIRE_MARKER, 2);
    store(out + 8, checksum(out, payload), 8);
    return WIRE_HEADER + payload;
}

static uint32_t give_text(uint8_t *at, const char *text) {
    size_t len = strnlen(text, WIRE_MAX_TEXT);
    at[0] = (uint8_t)len;
    memcpy(at + 1, text, len);
    return (uint32_t)(1 + len);
}

size_t wire_encode_hello(uint8_t *out, size_t cap, const struct wire_hello *hello) {
    if (cap < WIRE_HEADER + WIRE_HELLO_LIMIT)
        return 0;
    uint8_t *at = out + WIRE_HEADER;
    memset(at, 0, 92);
    store(at, WIRE_MAGIC, 8);
    store(at + 8, hello->protocol, 4);
    store(at + 12, hello->features, 8);
    store(at + 20, hello->incarnation[0], 8);
    store(at + 28, hello->incarnation[1], 8);
    store(at + 36, hello->highest, 8);
    store(at + 44, hello->flush, 8);
    store(at + 52, hello->wall_ms, 8);
    store(at + 60, hello->max_entry, 8);
    store(at + 68, hello->origin, 4);
    store(at + 72, hello->items, 8);
    store(at + 80, hello->least, 4);
    store(at + 84, hello->modes, 8);
    uint32_t len = 92;
    len += give_text(at + len, hello->node);
    len += give_text(at + len, hello->listen);
    return seal(out, WIRE_HELLO, 0, len);
}

size_t wire_encode_put(uint8_t *out, size_t cap, const struct wire_put *put, unsigned flags) {
    if ((uint64_t)put->key_len + put->value_len > WIRE_MAX_ENTRY || cap < wire_put_bytes(put->key_len, put->value_len))
        return 0;
    uint8_t *at = out + WIRE_HEADER;
    store(at, put->version, 8);
    store(at + 8, put->ttl_left_ms, 8);
    store(at + 16, put->user_flags, 4);
    store(at + 20, put->key_len, 4);
    memcpy(at + WIRE_PUT_FIXED, put->key, put->key_len);
    if (put->value_len > 0)
        memcpy(at + WIRE_PUT_FIXED + put->key_len, put->value, put->value_len);
    return seal(out, WIRE_PUT, flags, WIRE_PUT_FIXED + put->key_len + put->value_len);
}

size_t wire_encode_words(uint8_t *out, size_t cap, enum wire_type type, unsigned flags, const uint64_t *words,
                         uint32_t count) {
    if (count > WIRE_MAX_HASHES || cap < WIRE_HEADER + (size_t)count * 8)
        return 0;
    for (uint32_t i = 0; i < count; i++)
        store(out + WIRE_HEADER + (size_t)i * 8, words[i], 8);
    return seal(out, type, flags, count * 8);
}

size_t wire_encode_bye(uint8_t *out, size_t cap, enum wire_reason reason, const char *text) {
    if (cap < WIRE_HEADER + 5 + WIRE_MAX_TEXT)
        return 0;
    store(out + WIRE_HEADER, reason, 4);
    return seal(out, WIRE_BYE, 0, 4 + give_text(out + WIRE_HEADER + 4, text));
}

size_t wire_encode_voids(uint8_t *out, size_t cap, const struct wire_void *voids, uint32_t count) {
    if (count > WIRE_RANGES || cap < WIRE_HEADER + (size_t)count * 16)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        store(out + WIRE_HEADER + (size_t)i * 16, voids[i].range, 8);
        store(out + WIRE_HEADER + (size_t)i * 16 + 8, voids[i].version, 8);
    }
    return seal(out, WIRE_VOIDS, 0, count * 16);
}

size_t wire_encode_parts(uint8_t *out, size_t cap, uint32_t range, const uint64_t *words, uint32_t count) {
    if (range >= WIRE_RANGES || count >= WIRE_MAX_HASHES || cap < WIRE_HEADER + 8 + (size_t)count * 8)
        return 0;
    store(out + WIRE_HEADER, range, 8);
    for (uint32_t i = 0; i < count; i++)
        store(out + WIRE_HEADER + 8 + (size_t)i * 8, words[i], 8);
    return seal(out, WIRE_PARTS, 0, 8 + count * 8);
}

/* ---- names --------------------------------------------------------------------------------------------------- */

const char *wire_type_name(unsigned type) {
    switch (type) {
#define X(name, number, flags, least, sentence)                                                                        \
    case number:                                                                                                       \
        return #name;
        WIRE_TYPES(X)
#undef X
    default:
        return "unknown";
    }
}

const char *wire_fault_text(enum wire_fault fault) {
    static const char *const texts[] = {
#define X(name, text) text,
        WIRE_FAULTS(X)
#undef X
    };
    return (unsigned)fault < sizeof texts / sizeof *texts ? texts[fault] : "unknown fault";
}

const char *wire_reason_text(unsigned reason) {
    switch (reason) {
#define X(name, number, text)                                                                                          \
    case number:                                                                                                       \
        return text;
        WIRE_REASONS(X)
#undef X
    default:
        return "unknown reason";
    }
}
