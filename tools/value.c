/* SPDX-License-Identifier: MIT */
/* Making and judging the values that value.h draws. */
#include "value.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct full_head {
    uint64_t checksum;
    uint64_t key_hash;
    uint32_t writer;
    uint32_t len;
    uint64_t sequence;
};
_Static_assert(sizeof(struct full_head) == VALUE_FULL_BYTES, "as drawn in value.h");

struct short_head {
    uint32_t checksum;
    uint32_t sequence;
};
_Static_assert(sizeof(struct short_head) == VALUE_SHORT_BYTES, "as drawn in value.h");

struct value_key value_key(uint64_t id) {
    uint64_t first = value_mix(id);
    uint64_t second = value_mix(first ^ UINT64_C(0x6c61726465722121));
    struct value_key key = {.hash = first};
    memcpy(key.bytes, &first, sizeof first);
    memcpy(key.bytes + sizeof first, &second, sizeof second);
    return key;
}

/* Words that follow from the seed, each different from the next. */
static void fill(uint8_t *to, size_t len, uint64_t seed) {
    uint64_t word = value_mix(seed);
    for (; len >= sizeof word; to += sizeof word, len -= sizeof word) {
        memcpy(to, &word, sizeof word);
        word += UINT64_C(0x9e3779b97f4a7c15);
    }
    memcpy(to, &word, len);
}

static uint64_t checksum_of(const uint8_t *from, size_t len, uint64_t key_hash) {
    return XXH3_64bits_withSeed(from, len, key_hash ^ len);
}

void value_write(void *value, size_t len, uint64_t key_hash, uint32_t writer, uint64_t sequence) {
    uint8_t *bytes = value;
    if (len >= VALUE_FULL_BYTES) {
        struct full_head head = {.key_hash = key_hash, .writer = writer, .len = (uint32_t)len, .sequence = sequence};
        memcpy(bytes, &head, sizeof head);
        fill(bytes + sizeof head, len - sizeof head, key_hash ^ value_mix(sequence ^ ((uint64_t)writer << 32)));
        head.checksum = checksum_of(bytes + 8, len - 8, key_hash);
        memcpy(bytes, &head.checksum, sizeof head.checksum);
    } else if (len >= VALUE_SHORT_BYTES) {
        struct short_head head = {.sequence = (uint32_t)sequence};
        memcpy(bytes, &head, sizeof head);
        fill(bytes + sizeof head, len - sizeof head, key_hash ^ value_mix(sequence ^ ((uint64_t)writer << 32)));
        head.checksum = (uint32_t)checksum_of(bytes + 4, len - 4, key_hash);
        memcpy(bytes, &head.checksum, sizeof head.checksum);
    } else {
        fill(bytes, len, key_hash);
    }
}

static enum value_verdict judge_full(struct value_hit *hit, uint64_t key_hash) {
    const uint8_t *bytes = hit->value;
    struct full_head head;
    memcpy(&head, bytes, sizeof head);
    /* Under its own key the checksum fits: the value is whole, and the only question is whose. */
    if (head.checksum != checksum_of(bytes + 8, hit->len - 8, head.key_hash) || head.len != hit->len)
        return VALUE_TORN;
    if (head.key_hash != key_hash)
        return VALUE_FOREIGN;
    hit->sequence = head.sequence;
    hit->writer = head.writer;
    return VALUE_RIGHT;
}

/* The key is only in the checksum: another key's value and a mixture look the same. */
static enum value_verdict judge_short(struct value_hit *hit, uint64_t key_hash) {
    const uint8_t *bytes = hit->value;
    struct short_head head;
    memcpy(&head, bytes, sizeof head);
    if (head.checksum != (uint32_t)checksum_of(bytes + 4, hit->len - 4, key_hash))
        return VALUE_TORN;
    hit->sequence = head.sequence;
    return VALUE_RIGHT;
}

static enum value_verdict judge_bytes(struct value_hit *hit, uint64_t key_hash) {
    hit->sequence = hit->writer = 0;
    if (hit->len >= VALUE_FULL_BYTES)
        return judge_full(hit, key_hash);
    if (hit->len >= VALUE_SHORT_BYTES)
        return judge_short(hit, key_hash);
    uint8_t expected[VALUE_SHORT_BYTES];
    fill(expected, hit->len, key_hash);
    return memcmp(hit->value, expected, hit->len) == 0 ? VALUE_RIGHT : VALUE_FOREIGN;
}

/* Whether the sole writer of the key put this value last. */
static bool is_last_put(const struct value_hit *hit, const struct value_known *known,
                        const struct value_reader *reader) {
    if (hit->len >= VALUE_FULL_BYTES)
        return hit->sequence == known->sequence && hit->writer == reader->writer;
    return hit->len < VALUE_SHORT_BYTES || hit->sequence == (uint32_t)known->sequence;
}

enum value_verdict value_judge(struct value_hit *hit, uint64_t key_hash, const struct value_known *known,
                               const struct value_reader *reader) {
    enum value_verdict verdict = judge_bytes(hit, key_hash);
    if (verdict != VALUE_RIGHT)
        return verdict;
    if (reader->owner && known->sequence == 0)
        return VALUE_RESURRECTED;
    if (hit->version < known->version || (reader->owner && !is_last_put(hit, known, reader)))
        return VALUE_STALE;
    if (hit->deadline_ms <= reader->now_ms || (reader->owner && known->deadline_ms <= reader->now_ms))
        return VALUE_EXPIRED;
    return VALUE_RIGHT;
}
