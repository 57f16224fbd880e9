/* SPDX-License-Identifier: MIT */
/*
 * The bytes between two sidecars: what does a frame look like, and when is it refused?
 *
 *   0          4      5       6        8            16
 *   | length   | type | flags | marker | checksum   | payload ...            (little-endian throughout)
 *   | u32      | u8   | u8    | u16    | u64        | `length` bytes
 *
 * The checksum is XXH3-64 over bytes 0 to 7 and the payload, so a flipped bit anywhere in a frame is seen.
 *
 * Rules:
 *  1. Decoding is a pure function from bytes to a struct whose pointers lead into those bytes. It allocates nothing and
 *     reads nothing behind `len`.
 *  2. Every length is compared with a fixed limit, and with the limit of the link, before it is used. Before HELLO the
 *     link's limit is WIRE_HELLO_LIMIT.
 *  3. A type with the bit WIRE_OPTIONAL that is not known is skipped; any other unknown type ends the link, as does an
 *     unknown flag.
 *  4. The 16 bytes of the header and the first 12 bytes of HELLO (magic, protocol) are the same in every protocol
 *     version, so that two releases can always tell each other why they part. HELLO also has the lowest version that
 *     its sender still speaks; if that is one of ours, the first 92 bytes and the texts are as we know them.
 *  5. What is new comes as a feature first: a bit of HELLO that an older release ignores, and frames that are sent only
 *     to who has said that bit. A protocol version ends only when that cannot be done.
 *
 * What a frame means, and in which order frames come, is the business of peer.h.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stddef.h>
#include <stdint.h>

#define WIRE_MAGIC UINT64_C(0x3152454452414cfe) /* "\xfeLARDER1" */
#define WIRE_PROTOCOL 1u                        /* the highest that is spoken here */
#define WIRE_PROTOCOL_LEAST 1u                  /* and the lowest: a link speaks the highest that both sides can */
#define WIRE_MARKER 0x4c52u
#define WIRE_HEADER 16u
#define WIRE_OPTIONAL 0x80u

#define WIRE_MAX_KEY 65536u
#define WIRE_MAX_ENTRY (UINT64_C(128) << 20) /* key and value together */
#define WIRE_PUT_FIXED 24u
#define WIRE_MAX_PAYLOAD (WIRE_PUT_FIXED + WIRE_MAX_ENTRY)
#define WIRE_SMALL_LIMIT 65536u /* payload of any frame but PUT */
#define WIRE_HELLO_LIMIT 512u
#define WIRE_MAX_TEXT 127u
#define WIRE_MAX_HASHES 4096u /* of one LIST; words of any frame of words */
#define WIRE_RANGES 256u
#define WIRE_NEVER UINT64_MAX /* ttl_left_ms: does not expire */

/* Rows: X(name, number, flags allowed, least payload, sentence). */
#define WIRE_TYPES(X)                                                                                                  \
    X(HELLO, 1, 0, 94, "who I am, what I speak, how far my clock and flush version are")                               \
    X(PING, 2, 0, 16, "heartbeat: my wall clock, highest version seen")                                                \
    X(PONG, 3, 0, 16, "answer: your wall clock, mine")                                                                 \
    X(BYE, 4, 0, 5, "I close the link: reason")                                                                        \
    X(FLUSH, 5, 0, 8, "entries up to this version are gone")                                                           \
    X(PUT, 6, WIRE_SCAN | WIRE_FREE_ROOM | WIRE_PACKED, 25, "an entry as it is now")                                   \
    X(TOMB, 7, WIRE_SCAN | WIRE_MODAL, 16, "a deleted key")                                                            \
    X(DROP, 8, WIRE_SCAN, 16, "an entry too large for you: forget what you have up to this version")                   \
    X(MARK, 9, 0, 8, "acknowledge when all before this is applied: link sequence number")                              \
    X(ACK, 10, 0, 16, "all up to this mark is applied or declined; how many were declined so far")                     \
    X(VOIDS, 11, 0, 16, "begins a settlement: ranges, and up to where I forgot entries that you may not have")         \
    X(LIST, 12, 0, 8, "hashes of the entries that I do hold there, ascending")                                         \
    X(SETTLE, 13, WIRE_LAST, 16, "the list is complete for this interval of hashes: forget what is not on it")         \
    X(SYNCED, 14, 0, 0, "all that I held when the link opened has been sent")                                          \
    X(SUMS, 128, WIRE_JOIN, 2048, "what I hold: a sum for each range")                                                 \
    X(ASK, 129, 0, 40, "these ranges differ: give me finer sums")                                                      \
    X(SUBS, 130, WIRE_LAST, 8, "finer sums: number of the first, sums")                                                \
    X(PICK, 131, WIRE_LAST, 8, "these parts differ: number of the first word of the bitmap, words")                    \
    X(ROWS, 132, 0, 0, "what I hold in those parts: hash, version")                                                    \
    X(PULL, 133, 0, 0, "of those rows I lack these hashes")                                                            \
    X(COMPARED, 134, 0, 0, "you have been sent all that you lacked")                                                   \
    X(PARTS, 135, 0, 16, "of the settlement that begins: a range, a bit for each part of it in which I forgot any")

enum wire_type {
#define X(name, number, flags, least, sentence) WIRE_##name = (number),
    WIRE_TYPES(X)
#undef X
};

/* Flags of a frame. */
#define WIRE_SCAN 1u      /* comes from a scan: old news, says nothing about lag */
#define WIRE_FREE_ROOM 2u /* bootstrap: store it only into free room */
#define WIRE_LAST 4u      /* the last frame of several; of a settlement: the voids now count at the receiver too */
#define WIRE_JOIN 8u      /* nothing is known about you: compare everything now */
#define WIRE_PACKED 16u   /* the value is its length, 4 bytes, and an LZ4 block */
#define WIRE_MODAL 32u    /* the key is of mode invalidate */

/* Features, as HELLO announces them. Frames of one that the other side lacks are not sent. */
#define WIRE_CAN_COMPARE 1u /* SUMS to COMPARED */
#define WIRE_CAN_UNPACK 2u  /* PUT with WIRE_PACKED */
#define WIRE_HAS_MODES 4u   /* TOMB with WIRE_MODAL */
#define WIRE_HAS_PARTS 8u   /* PARTS */

/* Why a frame is refused. Rows: X(name, text). */
#define WIRE_FAULTS(X)                                                                                                 \
    X(OK, "whole")                                                                                                     \
    X(MORE, "incomplete")                                                                                              \
    X(NOT_LARDER, "these are not frames of a larderd")                                                                 \
    X(TOO_LONG, "a frame is longer than the link admits")                                                              \
    X(CHECKSUM, "a frame's checksum does not fit its bytes")                                                           \
    X(UNKNOWN, "a frame of an unknown mandatory type")                                                                 \
    X(MALFORMED, "a frame's fields contradict its length or their ranges")                                             \
    X(PROTOCOL, "the other side speaks another protocol version")

enum wire_fault {
#define X(name, text) WIRE_FAULT_##name,
    WIRE_FAULTS(X)
#undef X
};

/* Why a link ends. Rows: X(name, number, text). */
#define WIRE_REASONS(X)                                                                                                \
    X(SHUTDOWN, 1, "shutting down")                                                                                    \
    X(DUPLICATE, 2, "another link of this pair is kept")                                                               \
    X(PROTOCOL, 3, "other protocol version")                                                                           \
    X(SELF, 4, "this address leads back to the same segment")                                                          \
    X(STRANGER, 5, "not among the configured peers")                                                                   \
    X(CLOCK, 6, "wall clocks differ too much")                                                                         \
    X(GARBAGE, 7, "the bytes received make no sense")                                                                  \
    X(SLOW, 8, "no answer in time")                                                                                    \
    X(REMOVED, 9, "removed from the configuration")                                                                    \
    X(FAILED, 10, "the segment cannot be used")

enum wire_reason {
#define X(name, number, text) WIRE_BYE_##name = (number),
    WIRE_REASONS(X)
#undef X
};

struct wire_hello {
    uint32_t protocol; /* decoded: the version that the link speaks; of a PROTOCOL fault, the other side's highest */
    uint32_t least;    /* lowest version that the sender speaks; 0, of early releases: the same as `protocol` */
    uint64_t features; /* WIRE_CAN_... */
    uint64_t incarnation[2];
    uint64_t highest;   /* highest version seen */
    uint64_t flush;     /* flush version */
    uint64_t wall_ms;   /* Unix */
    uint64_t max_entry; /* bytes of the largest key and value that are of use to me */
    uint64_t items;     /* that I hold; 0 from releases that do not compare */
    uint64_t modes;     /* lr_modes_hash; 0: no modes, as in releases that have none */
    uint32_t origin;
    char node[WIRE_MAX_TEXT + 1];
    char listen[WIRE_MAX_TEXT + 1]; /* address:port at which I can be dialled */
};

struct wire_put {
    uint64_t version;
    uint64_t ttl_left_ms;
    uint32_t user_flags;
    uint32_t key_len;
    uint32_t value_len;
    const void *key;
    const void *value;
};

struct wire_void {
    uint64_t version;
    uint8_t range;
};

struct wire_frame {
    uint8_t type; /* enum wire_type, or an unknown one with WIRE_OPTIONAL */
    uint8_t flags;
    uint32_t bytes; /* of the whole frame */
    union {
        struct wire_hello hello;
        struct wire_put put;
        struct {
            uint64_t wall_ms, highest;
        } ping;
        struct {
            uint64_t echo_ms, wall_ms;
        } pong;
        struct {
            uint32_t reason;
            char text[WIRE_MAX_TEXT + 1];
        } bye;
        struct {
            uint64_t hash, version;
        } entry; /* TOMB, DROP */
        struct {
            uint64_t version;
        } flush;
        struct {
            uint64_t sequence, declined;
        } ack; /* ACK; MARK has no `declined` */
        struct {
            uint64_t low, high;
        } settle;
        struct {
            const uint8_t *rows;
            uint32_t count;
        } rows; /* wire_word_at; VOIDS: wire_void_at */
    } as;
};

/*
 * Looks at the first frame in bytes[0, len). OK: *out is filled, out->bytes says where the next begins. MORE: *need is
 * the number of bytes that must be there before it is worth calling again (the header first, then the whole frame).
 * Anything else: the link is beyond repair. PROTOCOL: out->as.hello.protocol is the other side's.
 */
enum wire_fault wire_decode(const uint8_t *bytes, size_t len, uint64_t max_payload, struct wire_frame *out,
                            size_t *need);
/* The key of the frame at bytes[0, len), if that is a PUT and the key is there; nothing is checked. NULL: it is not.
 * *frame_bytes: where the next frame begins. */
const void *wire_peek_key(const uint8_t *bytes, size_t len, uint32_t *key_len, size_t *frame_bytes);
uint64_t wire_word_at(const struct wire_frame *frame, uint32_t i);
struct wire_void wire_void_at(const struct wire_frame *frame, uint32_t i);

/*
 * Encoders write one frame into out[0, cap) and return its bytes; 0: it does not fit (nothing useful was written).
 * Texts are cut at WIRE_MAX_TEXT.
 */
size_t wire_encode_hello(uint8_t *out, size_t cap, const struct wire_hello *hello);
size_t wire_encode_put(uint8_t *out, size_t cap, const struct wire_put *put, unsigned flags);
size_t wire_encode_words(uint8_t *out, size_t cap, enum wire_type type, unsigned flags, const uint64_t *words,
                         uint32_t count);
size_t wire_encode_bye(uint8_t *out, size_t cap, enum wire_reason reason, const char *text);
size_t wire_encode_parts(uint8_t *out, size_t cap, uint32_t range, const uint64_t *words, uint32_t count);
size_t wire_encode_voids(uint8_t *out, size_t cap, const struct wire_void *voids, uint32_t count);

static inline size_t wire_put_bytes(uint32_t key_len, uint32_t value_len) {
    return (size_t)WIRE_HEADER + WIRE_PUT_FIXED + key_len + value_len;
}

const char *wire_type_name(unsigned type);
const char *wire_fault_text(enum wire_fault fault);
const char *wire_reason_text(unsigned reason);

#endif
