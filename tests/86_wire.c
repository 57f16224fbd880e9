/* SPDX-License-Identifier: MIT */
/*
 * Frames between sidecars (sidecar/wire.h): what goes in comes out, however it was cut; what is damaged, too long or
 * from another world is refused, without a byte read that was not received.
 *
 * Frames under test are copied into blocks of exactly their size, so that AddressSanitizer sees the first byte too
 * many.
 */
#include "fixture.h"
#include "stream.h"
#include "wire.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define MUTATIONS 220000u

/* ---- frames to play with ---------------------------------------------------------------------------------------- */

static void reseal(uint8_t *frame, size_t len) {
    uint64_t sum = XXH3_64bits_withSeed(frame + WIRE_HEADER, len - WIRE_HEADER, XXH3_64bits(frame, 8));
    for (unsigned i = 0; i < 8; i++)
        frame[8 + i] = (uint8_t)(sum >> (8 * i));
}

static const struct wire_hello hello = {.protocol = WIRE_PROTOCOL,
                                        .features = 5,
                                        .incarnation = {UINT64_C(0x1122334455667788), 9},
                                        .highest = 1234567,
                                        .flush = 99,
                                        .wall_ms = UINT64_C(1700000000000),
                                        .max_entry = 1 << 20,
                                        .origin = 1023,
                                        .node = "shop-1",
                                        .listen = "127.0.0.1:7411"};

/* One frame of kind `kind` (0 to 13); returns its bytes. */
static size_t make(unsigned kind, struct fixture_random *random, uint8_t *out, size_t cap) {
    uint64_t words[512];
    struct wire_void voids[WIRE_RANGES];
    uint8_t bytes[600];
    for (unsigned i = 0; i < 512; i++)
        words[i] = fixture_next(random) | 1;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)fixture_next(random);
    uint32_t count = (uint32_t)fixture_below(random, WIRE_RANGES) + 1;
    switch (kind) {
    case 0:
        return wire_encode_hello(out, cap, &hello);
    case 1:
    case 2: {
        struct wire_put put = {.version = words[0],
                               .ttl_left_ms = kind == 1 ? WIRE_NEVER : words[1],
                               .user_flags = (uint32_t)words[2],
                               .key_len = 1 + (uint32_t)fixture_below(random, 99),
                               .value_len = (uint32_t)fixture_below(random, 500),
                               .key = bytes,
                               .value = bytes + 100};
        return wire_encode_put(out, cap, &put, kind == 1 ? 0 : WIRE_SCAN | WIRE_FREE_ROOM);
    }
    case 3:
        for (uint32_t i = 0; i < count; i++)
            voids[i] = (struct wire_void){.range = (uint8_t)words[i], .version = words[i] >> 3};
        return wire_encode_voids(out, cap, voids, count);
    case 4: {
        static const enum wire_type lists[] = {WIRE_LIST, WIRE_SUBS, WIRE_PICK, WIRE_ROWS, WIRE_PULL};
        return wire_encode_words(out, cap, lists[count % 5], 0, words, count);
    }
    case 5:
        return wire_encode_bye(out, cap, WIRE_BYE_CLOCK, "it is late");
    case 6:
        return wire_encode_words(out, cap, WIRE_SYNCED, 0, NULL, 0);
    case 7:
        words[1] = words[0] + 5 > words[0] ? words[0] + 5 : words[0];
        return wire_encode_words(out, cap, WIRE_SETTLE, WIRE_LAST, words, 2);
    case 8:
        return wire_encode_words(out, cap, WIRE_MARK, 0, words, 1);
    case 9:
        return wire_encode_words(out, cap, WIRE_FLUSH, 0, words, 1);
    default: {
        static const enum wire_type pairs[] = {WIRE_PING, WIRE_PONG, WIRE_ACK, WIRE_TOMB, WIRE_DROP};
        return wire_encode_words(out, cap, pairs[(kind - 10) % 5], 0, words, 2);
    }
    }
}
#define KINDS 15u

static enum wire_fault decode_exactly(const uint8_t *frame, size_t len, struct wire_frame *out, size_t *need,
                                      uint8_t **copy) {
    *copy = malloc(len > 0 ? len : 1);
    memcpy(*copy, frame, len);
    return wire_decode(*copy, len, WIRE_MAX_PAYLOAD, out, need);
}

/* ---- tests --------------------------------------------------------------------------------------------------------
 */

static void hello_and_put_come_back_as_they_were_sent(void) {
    uint8_t frame[4096];
    struct wire_frame out;
    size_t need;
    size_t len = wire_encode_hello(frame, sizeof frame, &hello);
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_HELLO_LIMIT, &out, &need), WIRE_FAULT_OK);
    CU_ASSERT_EQUAL(out.type, WIRE_HELLO);
    CU_ASSERT_EQUAL(out.bytes, len);
    CU_ASSERT_EQUAL(out.as.hello.protocol, hello.protocol);
    CU_ASSERT_EQUAL(out.as.hello.features, hello.features);
    CU_ASSERT_EQUAL(out.as.hello.incarnation[0], hello.incarnation[0]);
    CU_ASSERT_EQUAL(out.as.hello.incarnation[1], hello.incarnation[1]);
    CU_ASSERT_EQUAL(out.as.hello.highest, hello.highest);
    CU_ASSERT_EQUAL(out.as.hello.flush, hello.flush);
    CU_ASSERT_EQUAL(out.as.hello.wall_ms, hello.wall_ms);
    CU_ASSERT_EQUAL(out.as.hello.max_entry, hello.max_entry);
    CU_ASSERT_EQUAL(out.as.hello.origin, hello.origin);
    CU_ASSERT_STRING_EQUAL(out.as.hello.node, hello.node);
    CU_ASSERT_STRING_EQUAL(out.as.hello.listen, hello.listen);

    struct wire_put put = {.version = 77,
                           .ttl_left_ms = 5000,
                           .user_flags = 0xdeadbeef,
                           .key_len = 3,
                           .value_len = 5,
                           .key = "k\0y",
                           .value = "value"};
    len = wire_encode_put(frame, sizeof frame, &put, WIRE_SCAN);
    CU_ASSERT_EQUAL(len, wire_put_bytes(3, 5));
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_MAX_PAYLOAD, &out, &need), WIRE_FAULT_OK);
    CU_ASSERT_EQUAL(out.flags, WIRE_SCAN);
    CU_ASSERT_EQUAL(out.as.put.version, 77);
    CU_ASSERT_EQUAL(out.as.put.ttl_left_ms, 5000);
    CU_ASSERT_EQUAL(out.as.put.user_flags, 0xdeadbeef);
    CU_ASSERT_EQUAL(out.as.put.key_len, 3);
    CU_ASSERT_EQUAL(out.as.put.value_len, 5);
    CU_ASSERT_EQUAL(memcmp(out.as.put.key, "k\0y", 3), 0);
    CU_ASSERT_EQUAL(memcmp(out.as.put.value, "value", 5), 0);
    CU_ASSERT_EQUAL(wire_encode_put(frame, len - 1, &put, 0), 0);
}

static void rows_and_words_come_back_as_they_were_sent(void) {
    uint8_t frame[4096];
    struct wire_frame out;
    size_t need;
    struct wire_void voids[2] = {{.range = 255, .version = 8}, {.range = 0, .version = UINT64_MAX}};
    size_t len = wire_encode_voids(frame, sizeof frame, voids, 2);
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_MAX_PAYLOAD, &out, &need), WIRE_FAULT_OK);
    CU_ASSERT_EQUAL(out.as.rows.count, 2);
    CU_ASSERT_EQUAL(wire_void_at(&out, 0).range, 255);
    CU_ASSERT_EQUAL(wire_void_at(&out, 1).version, UINT64_MAX);
    uint64_t hashes[3] = {1, 2, UINT64_MAX};
    len = wire_encode_words(frame, sizeof frame, WIRE_LIST, 0, hashes, 3);
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_MAX_PAYLOAD, &out, &need), WIRE_FAULT_OK);
    CU_ASSERT_EQUAL(out.as.rows.count, 3);
    CU_ASSERT_EQUAL(wire_word_at(&out, 2), UINT64_MAX);
    uint64_t pair[2] = {5, 6};
    len = wire_encode_words(frame, sizeof frame, WIRE_TOMB, 0, pair, 2);
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_MAX_PAYLOAD, &out, &need), WIRE_FAULT_OK);
    CU_ASSERT_EQUAL(out.as.entry.hash, 5);
    CU_ASSERT_EQUAL(out.as.entry.version, 6);
    len = wire_encode_bye(frame, sizeof frame, WIRE_BYE_SELF, "a mirror");
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_MAX_PAYLOAD, &out, &need), WIRE_FAULT_OK);
    CU_ASSERT_EQUAL(out.as.bye.reason, WIRE_BYE_SELF);
    CU_ASSERT_STRING_EQUAL(out.as.bye.text, "a mirror");
}

/* A stream of all kinds of frames, cut into random pieces, gives the same types and lengths each time. */
static void any_chunking_gives_the_same_frames(void) {
    struct fixture_random random = fixture_seed("chunking");
    static uint8_t bytes[400000];
    static uint32_t wanted[1024];
    size_t len = 0, frames = 0;
    while (frames < 300) {
        size_t one = make((unsigned)fixture_below(&random, KINDS), &random, bytes + len, sizeof bytes - len);
        CU_ASSERT_FATAL(one > 0);
        wanted[frames++] = (uint32_t)one;
        len += one;
    }
    for (unsigned round = 0; round < 60; round++) {
        struct lr_stream stream = {0};
        size_t at = 0, got = 0;
        uint64_t most = round == 0 ? 1 : round == 1 ? sizeof bytes : 1 + fixture_below(&random, 3000);
        while (at < len) {
            size_t piece = 1 + fixture_below(&random, most);
            piece = piece < len - at ? piece : len - at;
            CU_ASSERT_FATAL(lr_stream_push(&stream, bytes + at, piece) == 0);
            at += piece;
            struct wire_frame frame;
            enum wire_fault fault;
            while ((fault = lr_stream_peek(&stream, WIRE_MAX_PAYLOAD, &frame)) == WIRE_FAULT_OK) {
                CU_ASSERT_FATAL(got < frames && frame.bytes == wanted[got]);
                got++;
                lr_stream_take(&stream, &frame);
            }
            CU_ASSERT_FATAL(fault == WIRE_FAULT_MORE);
        }
        CU_ASSERT_EQUAL(got, frames);
        lr_stream_free(&stream);
    }
}

static void a_truncated_frame_asks_for_more_and_never_passes(void) {
    struct fixture_random random = fixture_seed("truncation");
    uint8_t frame[8192];
    for (unsigned kind = 0; kind < KINDS; kind++) {
        size_t len = make(kind, &random, frame, sizeof frame);
        for (size_t cut = 0; cut < len; cut++) {
            struct wire_frame out;
            size_t need = 0;
            uint8_t *copy;
            if (decode_exactly(frame, cut, &out, &need, &copy) != WIRE_FAULT_MORE || need <= cut || need > len)
                CU_FAIL("a truncated frame was not asked to be completed");
            free(copy);
        }
    }
}

static void a_flipped_bit_never_passes(void) {
    struct fixture_random random = fixture_seed("bit flips");
    uint8_t frame[8192];
    for (unsigned kind = 0; kind < KINDS; kind++) {
        size_t len = make(kind, &random, frame, sizeof frame);
        for (size_t bit = 0; bit < len * 8; bit++) {
            struct wire_frame out;
            size_t need;
            uint8_t *copy;
            frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (decode_exactly(frame, len, &out, &need, &copy) == WIRE_FAULT_OK)
                CU_FAIL("a frame with a flipped bit passed");
            free(copy);
            frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

static void an_oversized_length_is_refused_at_the_header(void) {
    uint8_t frame[WIRE_HEADER + 64] = {0};
    struct wire_frame out;
    size_t need;
    static const struct {
        uint32_t len;
        uint8_t type;
        uint64_t limit;
        enum wire_fault fault;
    } rows[] = {
        {UINT32_MAX, WIRE_PUT, WIRE_MAX_PAYLOAD, WIRE_FAULT_TOO_LONG},
        {(uint32_t)WIRE_MAX_PAYLOAD + 1, WIRE_PUT, UINT64_MAX, WIRE_FAULT_TOO_LONG},
        {(uint32_t)WIRE_MAX_PAYLOAD, WIRE_PUT, UINT64_MAX, WIRE_FAULT_MORE},
        {WIRE_SMALL_LIMIT + 1, WIRE_LIST, UINT64_MAX, WIRE_FAULT_TOO_LONG},
        {WIRE_HELLO_LIMIT + 1, WIRE_PUT, WIRE_HELLO_LIMIT, WIRE_FAULT_TOO_LONG},
        {1u << 20, 200, UINT64_MAX, WIRE_FAULT_TOO_LONG},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (unsigned k = 0; k < 4; k++)
            frame[k] = (uint8_t)(rows[i].len >> (8 * k));
        frame[4] = rows[i].type;
        frame[6] = WIRE_MARKER & 0xff;
        frame[7] = WIRE_MARKER >> 8;
        CU_ASSERT_EQUAL(wire_decode(frame, WIRE_HEADER, rows[i].limit, &out, &need), rows[i].fault);
    }
}

static void other_protocols_and_types_are_told_apart(void) {
    uint8_t frame[4096];
    struct wire_frame out;
    size_t need;
    struct wire_hello other = hello;
    other.protocol = 7;
    size_t len = wire_encode_hello(frame, sizeof frame, &other);
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_HELLO_LIMIT, &out, &need), WIRE_FAULT_PROTOCOL);
    CU_ASSERT_EQUAL(out.as.hello.protocol, 7);
    /* A much shorter HELLO of a later protocol is still told apart from garbage. */
    frame[0] = 12;
    frame[1] = frame[2] = frame[3] = 0;
    reseal(frame, WIRE_HEADER + 12);
    CU_ASSERT_EQUAL(wire_decode(frame, WIRE_HEADER + 12, WIRE_HELLO_LIMIT, &out, &need), WIRE_FAULT_PROTOCOL);

    uint64_t word = 1;
    len = wire_encode_words(frame, sizeof frame, (enum wire_type)(WIRE_OPTIONAL | 99), 0x55, &word, 1);
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_MAX_PAYLOAD, &out, &need), WIRE_FAULT_OK);
    CU_ASSERT_EQUAL(out.bytes, len);
    len = wire_encode_words(frame, sizeof frame, (enum wire_type)99, 0, &word, 1);
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_MAX_PAYLOAD, &out, &need), WIRE_FAULT_UNKNOWN);
    len = wire_encode_words(frame, sizeof frame, WIRE_MARK, WIRE_SCAN, &word, 1);
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_MAX_PAYLOAD, &out, &need), WIRE_FAULT_MALFORMED);
    static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    CU_ASSERT_EQUAL(wire_decode((const uint8_t *)http, sizeof http, WIRE_HELLO_LIMIT, &out, &need),
                    WIRE_FAULT_NOT_LARDER);
}

static void fields_out_of_range_are_malformed(void) {
    uint8_t frame[4096];
    struct wire_frame out;
    size_t need;
    uint64_t put[4] = {0, WIRE_NEVER, UINT64_C(1) << 32, 0}; /* version 0, key of 1 byte */
    size_t len = wire_encode_words(frame, sizeof frame, WIRE_PUT, 0, put, 4);
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_MAX_PAYLOAD, &out, &need), WIRE_FAULT_MALFORMED);
    put[0] = 1;
    len = wire_encode_words(frame, sizeof frame, WIRE_PUT, 0, put, 4);
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_MAX_PAYLOAD, &out, &need), WIRE_FAULT_OK);
    put[2] = UINT64_C(9) << 32; /* a key longer than the frame */
    len = wire_encode_words(frame, sizeof frame, WIRE_PUT, 0, put, 4);
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_MAX_PAYLOAD, &out, &need), WIRE_FAULT_MALFORMED);
    put[2] = 0; /* no key */
    len = wire_encode_words(frame, sizeof frame, WIRE_PUT, 0, put, 4);
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_MAX_PAYLOAD, &out, &need), WIRE_FAULT_MALFORMED);
    uint64_t range[2] = {256, 1};
    len = wire_encode_words(frame, sizeof frame, WIRE_VOIDS, 0, range, 2);
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_MAX_PAYLOAD, &out, &need), WIRE_FAULT_MALFORMED);
    uint64_t interval[2] = {2, 1};
    len = wire_encode_words(frame, sizeof frame, WIRE_SETTLE, 0, interval, 2);
    CU_ASSERT_EQUAL(wire_decode(frame, len, WIRE_MAX_PAYLOAD, &out, &need), WIRE_FAULT_MALFORMED);
}

/* Touches everything that a decoded frame points at. */
static uint64_t touch(const struct wire_frame *frame) {
    uint64_t sum = frame->bytes;
    if (frame->type == WIRE_PUT)
        sum += XXH3_64bits(frame->as.put.key, frame->as.put.key_len) +
               XXH3_64bits(frame->as.put.value, frame->as.put.value_len);
    for (uint32_t i = 0; frame->type == WIRE_LIST && i < frame->as.rows.count; i++)
        sum += wire_word_at(frame, i);
    for (uint32_t i = 0; frame->type == WIRE_VOIDS && i < frame->as.rows.count; i++)
        sum += wire_void_at(frame, i).version;
    if (frame->type == WIRE_HELLO)
        sum += strlen(frame->as.hello.node) + strlen(frame->as.hello.listen);
    if (frame->type == WIRE_BYE)
        sum += strlen(frame->as.bye.text);
    return sum;
}

/* Damaged in all ways, half of them with a checksum that fits, so that the parsers behind it are met too. */
static void mutated_frames_are_parsed_within_their_bytes(void) {
    struct fixture_random random = fixture_seed("mutated frames");
    uint64_t passed = 0, sum = 0;
    uint8_t frame[16384];
    unsigned rounds = FIXTURE_SANITIZED ? MUTATIONS : MUTATIONS * 2;
    for (unsigned i = 0; i < rounds; i++) {
        size_t len = make((unsigned)fixture_below(&random, KINDS), &random, frame, 8192);
        unsigned damages = (unsigned)fixture_below(&random, 4);
        for (unsigned k = 0; k < damages; k++)
            frame[fixture_below(&random, fixture_below(&random, 2) != 0 && len > 64 ? 64 : len)] =
                (uint8_t)fixture_next(&random);
        if (fixture_below(&random, 4) == 0)
            len = fixture_below(&random, len + 1);
        if (fixture_below(&random, 2) != 0 && len >= WIRE_HEADER) { /* make the rest of the header agree */
            uint32_t payload = (uint32_t)(len - WIRE_HEADER);
            for (unsigned k = 0; k < 4; k++)
                frame[k] = (uint8_t)(payload >> (8 * k));
            frame[6] = WIRE_MARKER & 0xff;
            frame[7] = WIRE_MARKER >> 8;
            if (fixture_below(&random, 2) != 0)
                frame[4] = (uint8_t)(1 + fixture_below(&random, 16));
            reseal(frame, len);
        }
        struct wire_frame out;
        size_t need;
        uint8_t *copy;
        if (decode_exactly(frame, len, &out, &need, &copy) == WIRE_FAULT_OK) {
            passed++;
            if (out.bytes > len)
                CU_FAIL("a frame is longer than what was received");
            sum += touch(&out);
        }
        free(copy);
    }
    printf(" %u frames, %llu well-formed, sum %llx;", rounds, (unsigned long long)passed, (unsigned long long)sum);
    CU_ASSERT(passed > rounds / 20 && passed < rounds);
}

static void an_announced_length_costs_no_memory(void) {
    struct lr_stream stream = {0};
    uint8_t header[WIRE_HEADER] = {0xff, 0xff, 0xff, 0x07, WIRE_PUT, 0, WIRE_MARKER & 0xff, WIRE_MARKER >> 8};
    struct wire_frame frame;
    CU_ASSERT_EQUAL(lr_stream_push(&stream, header, sizeof header), 0);
    CU_ASSERT_EQUAL(lr_stream_peek(&stream, WIRE_MAX_PAYLOAD, &frame), WIRE_FAULT_MORE);
    CU_ASSERT(stream.cap <= 4096);
    static uint8_t bytes[100000];
    CU_ASSERT_EQUAL(lr_stream_push(&stream, bytes, sizeof bytes), 0);
    CU_ASSERT(stream.cap <= 2 * (sizeof bytes + sizeof header));
    lr_stream_free(&stream);
}

static void every_row_of_the_tables_has_a_name(void) {
    CU_ASSERT_STRING_EQUAL(wire_type_name(WIRE_SETTLE), "SETTLE");
    CU_ASSERT_STRING_EQUAL(wire_type_name(77), "unknown");
    CU_ASSERT_STRING_EQUAL(wire_fault_text(WIRE_FAULT_MORE), "incomplete");
    CU_ASSERT_STRING_EQUAL(wire_fault_text((enum wire_fault)99), "unknown fault");
    CU_ASSERT_STRING_EQUAL(wire_reason_text(WIRE_BYE_SHUTDOWN), "shutting down");
    CU_ASSERT_STRING_EQUAL(wire_reason_text(0), "unknown reason");
}

void larder_suite_86_wire(void);
void larder_suite_86_wire(void) {
    CU_pSuite suite = CU_add_suite("86_wire", NULL, NULL);
    CU_ADD_TEST(suite, hello_and_put_come_back_as_they_were_sent);
    CU_ADD_TEST(suite, rows_and_words_come_back_as_they_were_sent);
    CU_ADD_TEST(suite, any_chunking_gives_the_same_frames);
    CU_ADD_TEST(suite, a_truncated_frame_asks_for_more_and_never_passes);
    CU_ADD_TEST(suite, a_flipped_bit_never_passes);
    CU_ADD_TEST(suite, an_oversized_length_is_refused_at_the_header);
    CU_ADD_TEST(suite, other_protocols_and_types_are_told_apart);
    CU_ADD_TEST(suite, fields_out_of_range_are_malformed);
    CU_ADD_TEST(suite, mutated_frames_are_parsed_within_their_bytes);
    CU_ADD_TEST(suite, an_announced_length_costs_no_memory);
    CU_ADD_TEST(suite, every_row_of_the_tables_has_a_name);
}
