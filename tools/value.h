/* SPDX-License-Identifier: MIT */
/*
 * Values that say themselves whether they are right.
 *
 * A replay must notice when the cache returns another key's value, a mixture of two, or one that was superseded. So
 * every value carries what it is, a checksum over all of it, and a filler that follows from what it is, so that any two
 * values differ nearly everywhere and a mixture cannot go unseen.
 *
 *   32 bytes or more       0          8           16         20         24          32
 *                          | checksum | key hash  | writer   | length   | sequence  | filler ...
 *   8 to 31 bytes          0          4           8
 *                          | checksum | sequence  | filler ...          both of 32 bits
 *   1 to 7 bytes           filler that follows from the key: tells foreign values (but for 1 in 256^length) and no more
 *
 * The checksum is XXH3 over all that follows it, seeded with the key hash and the length, so that a short value of
 * another key fails as well. `writer` is unique among all that may write to the segment, `sequence` counts one writer's
 * values from 1 and is never repeated.
 */
#ifndef LARDER_VALUE_H
#define LARDER_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VALUE_KEY_BYTES 16u
#define VALUE_FULL_BYTES 32u /* from this length on a value knows everything about itself */
#define VALUE_SHORT_BYTES 8u /* from this length on it knows its sequence */

struct value_key {
    uint8_t bytes[VALUE_KEY_BYTES];
    uint64_t hash;
};

/* The key of a trace's key number: the same in every process and on every host. The hash shares keys out. */
struct value_key value_key(uint64_t id);

enum value_verdict {
    VALUE_RIGHT,
    VALUE_FOREIGN,     /* whole, but another key's */
    VALUE_TORN,        /* the checksum does not fit: a mixture, or overwritten */
    VALUE_STALE,       /* older than one that was acknowledged or seen before */
    VALUE_RESURRECTED, /* the key was deleted, and that acknowledged, or never put */
    VALUE_EXPIRED,     /* past its deadline, or that of the put it stems from */
};

/* What a reader knows of a key before it reads. */
struct value_known {
    uint64_t sequence;    /* of its last acknowledged put; 0: none, or deleted since */
    uint64_t version;     /* highest that it was told by a put or a read */
    uint64_t deadline_ms; /* of its last acknowledged put; UINT64_MAX never */
};

struct value_reader {
    uint64_t now_ms; /* a moment not after the present */
    uint32_t writer; /* its id in the values that it writes */
    bool owner;      /* nobody else writes the keys that it reads */
};

struct value_hit {
    const void *value;
    size_t len;
    uint64_t version, deadline_ms; /* as the cache told them */
    /* Out, when the value itself is whole and the key's: */
    uint64_t sequence; /* 0: too short to tell */
    uint32_t writer;   /* 0: too short to tell */
};

/* Fills value[0, len). `writer` and `sequence` are not 0. */
void value_write(void *value, size_t len, uint64_t key_hash, uint32_t writer, uint64_t sequence);
/* Judges what was read under a key. The first of the verdicts above that applies, or VALUE_RIGHT. */
enum value_verdict value_judge(struct value_hit *hit, uint64_t key_hash, const struct value_known *known,
                               const struct value_reader *reader);

/* A bijection of 64 bits that leaves no pattern (the finaliser of splitmix64, public domain, S. Vigna). */
static inline uint64_t value_mix(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

#endif
