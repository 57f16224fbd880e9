/* SPDX-License-Identifier: MIT */
/*
 * One release talks to another: a recorded session of the first one (97_upgrade.txt) is replayed against the present
 * larderd, and sessions as a later one might send them. The rules are those of wire.h.
 */
#include "daemons.h"
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define FRAMES 64u

struct frame {
    uint8_t bytes[1024];
    size_t len;
};

static struct frame recorded[FRAMES];
static unsigned recorded_count;
static struct host host;
static int link_fd;
static uint8_t heard[1 << 16]; /* all that larderd has sent */
static size_t heard_len;

/* ---- the recording
 * ------------------------------------------------------------------------------------------------------ */

static void read_recording(void) {
    char line[4096], name[16], hex[3000];
    FILE *file = fopen(LARDER_SOURCE_DIR "/tests/97_upgrade.txt", "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    recorded_count = 0;
    while (fgets(line, sizeof line, file) != NULL && recorded_count < FRAMES) {
        struct frame *frame = &recorded[recorded_count];
        if (line[0] == '#' || sscanf(line, "%15s %2999s", name, hex) != 2)
            continue;
        frame->len = strlen(hex) / 2;
        for (size_t i = 0; i < frame->len; i++) {
            unsigned byte;
            CU_ASSERT_EQUAL_FATAL(sscanf(hex + 2 * i, "%2x", &byte), 1);
            frame->bytes[i] = (uint8_t)byte;
        }
        recorded_count++;
    }
    fclose(file);
}

static struct wire_frame decode(const struct frame *frame) {
    struct wire_frame out;
    size_t need;
    CU_ASSERT_EQUAL_FATAL(wire_decode(frame->bytes, frame->len, WIRE_MAX_PAYLOAD, &out, &need), WIRE_FAULT_OK);
    CU_ASSERT_EQUAL(out.bytes, frame->len);
    return out;
}

/* ---- the other end
 * --------------------------------------------------------------------------------------------------------- */

static void set_up(void) {
    char lines[256];
    read_recording();
    struct wire_frame hello = decode(&recorded[0]);
    CU_ASSERT_EQUAL_FATAL(hello.type, WIRE_HELLO);
    host_make(&host);
    snprintf(lines, sizeof lines, "peer = %s\n", hello.as.hello.listen);
    host_configure(&host, lines);
    host_start(&host);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)atoi(strrchr(host.address, ':') + 1));
    link_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(connect(link_fd, (struct sockaddr *)&address, sizeof address), 0);
    heard_len = 0;
}

static void tear_down(void) {
    close(link_fd);
    host_remove(&host);
}

static void say(const struct frame *frame) {
    CU_ASSERT_EQUAL(send(link_fd, frame->bytes, frame->len, MSG_NOSIGNAL), (ssize_t)frame->len);
}

/* Whether larderd has sent a frame of that type, with that first word unless it is 0, or does within 3 s. */
static bool will_hear(enum wire_type type, uint64_t word) {
    for (unsigned ms = 0; ms < 3000; ms += 10) {
        ssize_t got = recv(link_fd, heard + heard_len, sizeof heard - heard_len, MSG_DONTWAIT);
        if (got > 0)
            heard_len += (size_t)got;
        struct wire_frame frame;
        size_t need;
        for (size_t at = 0; at < heard_len; at += frame.bytes) {
            if (wire_decode(heard + at, heard_len - at, WIRE_MAX_PAYLOAD, &frame, &need) != WIRE_FAULT_OK)
                break;
            if (frame.type == type && (word == 0 || frame.as.ack.sequence == word))
                return true;
        }
        if (got == 0)
            return false;
        fixture_sleep_ms(10);
    }
    return false;
}

static bool is_open(void) {
    uint8_t byte;
    ssize_t got = recv(link_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got > 0 || (got < 0 && errno == EAGAIN);
}

/* ---- tests
 * ------------------------------------------------------------------------------------------------------------------ */

static void a_recorded_session_of_the_first_release_is_understood(void) {
    uint64_t last_mark = 0;
    bool removed = false;
    set_up();
    for (unsigned i = 0; i < recorded_count; i++) {
        struct wire_frame frame = decode(&recorded[i]);
        if (frame.type == WIRE_ACK) /* as then: it answers a mark that it has seen */
            CU_ASSERT(will_hear(WIRE_MARK, frame.as.ack.sequence));
        if (frame.type == WIRE_TOMB && last_mark > 0) {
            CU_ASSERT(host_will_have(&host, "flagged", "x")); /* until it is deleted */
            removed = true;
        }
        say(&recorded[i]);
        last_mark = frame.type == WIRE_MARK ? frame.as.ack.sequence : last_mark;
    }
    CU_ASSERT(removed && last_mark == 5);
    CU_ASSERT(will_hear(WIRE_HELLO, 0));
    CU_ASSERT(will_hear(WIRE_PONG, 0));
    CU_ASSERT(will_hear(WIRE_SYNCED, 0));
    CU_ASSERT(will_hear(WIRE_ACK, last_mark)); /* everything is in the segment, or declined */
    CU_ASSERT(host_has(&host, "greeting", "hello again"));
    CU_ASSERT(host_has(&host, "later", "a change under way"));
    CU_ASSERT_FALSE(host_has(&host, "flagged", "x"));
    CU_ASSERT_FALSE(host_has(&host, "gone", "soon"));
    CU_ASSERT(host_will_log(&host, "SYNC to LIVE"));
    /* And it is sent nothing that it does not know. */
    CU_ASSERT_EQUAL(host_put(&host, "answer", "from today"), 0);
    CU_ASSERT(will_hear(WIRE_PUT, 0));
    struct wire_frame frame;
    size_t need;
    for (size_t at = 0; at < heard_len; at += frame.bytes) {
        CU_ASSERT_EQUAL_FATAL(wire_decode(heard + at, heard_len - at, WIRE_MAX_PAYLOAD, &frame, &need), WIRE_FAULT_OK);
        CU_ASSERT(frame.type <= WIRE_SYNCED);
        CU_ASSERT((frame.flags & ~(WIRE_SCAN | WIRE_FREE_ROOM | WIRE_LAST)) == 0);
    }
    CU_ASSERT(is_open());
    tear_down();
}

/* The recorded HELLO with some fields as a later release might have them. */
static struct frame hello_like(uint32_t protocol, uint32_t least, uint64_t features) {
    struct wire_hello hello = decode(&recorded[0]).as.hello;
    struct frame out = {0};
    hello.protocol = protocol;
    hello.least = least;
    hello.features = features;
    out.len = wire_encode_hello(out.bytes, sizeof out.bytes, &hello);
    return out;
}

static void features_and_optional_frames_that_are_unknown_are_ignored(void) {
    struct frame later = {0};
    uint64_t words[3] = {1, 2, 3};
    set_up();
    struct frame hello = hello_like(WIRE_PROTOCOL, WIRE_PROTOCOL_LEAST, UINT64_C(0xffffffff00000000));
    later.len =
        wire_encode_words(later.bytes, sizeof later.bytes, (enum wire_type)(WIRE_OPTIONAL | 77), 0x3f, words, 3);
    say(&hello);
    for (unsigned i = 1; i < recorded_count; i++) {
        if (decode(&recorded[i]).type == WIRE_ACK)
            continue;
        say(&later);
        say(&recorded[i]);
    }
    CU_ASSERT(host_will_have(&host, "later", "a change under way"));
    CU_ASSERT(is_open());
    tear_down();
}

static void the_highest_common_protocol_is_spoken_and_without_one_both_are_told(void) {
    struct wire_frame frame;
    size_t need;
    set_up();
    struct frame next = hello_like(WIRE_PROTOCOL + 1, WIRE_PROTOCOL, 0);
    CU_ASSERT_EQUAL(wire_decode(next.bytes, next.len, WIRE_HELLO_LIMIT, &frame, &need), WIRE_FAULT_OK);
    CU_ASSERT_EQUAL(frame.as.hello.protocol, WIRE_PROTOCOL); /* what the link will speak */
    next = hello_like(WIRE_PROTOCOL + 1, 0, 0);
    CU_ASSERT_EQUAL(wire_decode(next.bytes, next.len, WIRE_HELLO_LIMIT, &frame, &need), WIRE_FAULT_PROTOCOL);
    next = hello_like(WIRE_PROTOCOL_LEAST - 1, WIRE_PROTOCOL_LEAST - 1, 0);
    CU_ASSERT_EQUAL(wire_decode(next.bytes, next.len, WIRE_HELLO_LIMIT, &frame, &need), WIRE_FAULT_PROTOCOL);
    next = hello_like(WIRE_PROTOCOL + 3, WIRE_PROTOCOL, 0);
    say(&next);
    CU_ASSERT(will_hear(WIRE_PING, 0)); /* it was taken */
    CU_ASSERT(is_open());
    close(link_fd);
    tear_down();
    set_up();
    next = hello_like(WIRE_PROTOCOL + 3, WIRE_PROTOCOL + 1, 0);
    say(&next);
    CU_ASSERT(will_hear(WIRE_BYE, 0));
    char text[96];
    snprintf(text, sizeof text, "the other side speaks protocol %u, this larderd %u", WIRE_PROTOCOL + 3, WIRE_PROTOCOL);
    CU_ASSERT(host_will_log(&host, text));
    tear_down();
}

void larder_suite_97_upgrade(void);
void larder_suite_97_upgrade(void) {
    CU_pSuite suite = CU_add_suite("97_upgrade", NULL, NULL);
    CU_ADD_TEST(suite, a_recorded_session_of_the_first_release_is_understood);
    CU_ADD_TEST(suite, features_and_optional_frames_that_are_unknown_are_ignored);
    CU_ADD_TEST(suite, the_highest_common_protocol_is_spoken_and_without_one_both_are_told);
}
