/* SPDX-License-Identifier: MIT */
#include "damage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))

_Noreturn void damage_fail(const char *what) {
    fprintf(stderr, "damaged segment: %s\n", what);
    abort();
}

/* ---- the segment ------------------------------------------------------------------------------------------------ */

static void fill(struct victim *v) {
    uint8_t value[6000];
    memset(value, 'v', sizeof value);
    for (uint64_t i = 0; i < DAMAGE_KEYS; i++) {
        struct lr_put put = {.key = &i,
                             .key_len = 8,
                             .value = value,
                             .value_len = damage_below(&v->random, i % 10 ? 200 : sizeof value),
                             .ttl_ms = i % 3 ? 0 : 100000,
                             .flags = i % 2 ? 7 : 0};
        (void)lr_put(v->cache, &put);
        if (i % 7 == 0)
            (void)lr_delete(v->cache, &i, 8);
    }
    for (uint64_t i = 1; i < DAMAGE_KEYS; i += 9) /* holes, which the gap has not swallowed yet */
        (void)lr_delete(v->cache, &i, 8);
}

/* The holes at the heads of the bins. */
static void list_holes(struct victim *v) {
    struct sm_stripe *stripe = lr_stripe_at(v->cache, 0);
    sm_u32 *bins = &stripe->bins[0][0][0];
    for (unsigned i = 0; i < SM_REGIONS * SM_BIN_ROWS * SM_BIN_COLUMNS && v->hole_count < DAMAGE_HOLES; i++) {
        uint64_t granules = atomic_load_explicit(&bins[i], memory_order_relaxed);
        if (granules != 0)
            v->holes[v->hole_count++] = granules * SM_GRANULE;
    }
    if (v->hole_count == 0)
        damage_fail("the segment has no holes that could be damaged");
}

int damage_begin(struct victim *v, uint64_t seed, unsigned job, char why[LR_WHY_BYTES]) {
    memset(v, 0, sizeof *v);
    v->random.state = seed;
    v->options = lr_options_default();
    snprintf(v->name, sizeof v->name, "t.%ld.%u", (long)getpid(), job);
    v->options.name = v->name;
    v->options.size = SM_MIN_STRIPE;
    v->options.wait_ms = 1;
    int error = lr_cache_create(&v->options, &v->cache, why);
    if (error != 0)
        return error;
    lr_set_replicating(v->cache, job % 2 == 1);
    fill(v);
    list_holes(v);
    v->pristine = malloc(v->cache->geometry.segment_bytes);
    if (v->pristine == NULL)
        damage_fail("no memory for a copy");
    memcpy(v->pristine, v->cache->base, v->cache->geometry.segment_bytes);
    return 0;
}

void damage_end(struct victim *v) {
    lr_cache_detach(v->cache);
    (void)lr_cache_destroy(&v->options, NULL);
    free(v->pristine);
}

/* Where the same bytes lie in the pristine copy. */
static const uint8_t *pristine_of(const struct victim *v, const void *bytes) {
    return v->pristine + ((const uint8_t *)bytes - v->cache->base);
}

static void restore_bytes(struct victim *v, void *bytes, size_t len) {
    memcpy(bytes, pristine_of(v, bytes), len);
}

static void restore_ring(struct victim *v) {
    struct sm_stripe *stripe = lr_stripe_at(v->cache, 0);
    const uint64_t ring_len = v->cache->geometry.ring_len, written = lr_load(&stripe->ring_head) - v->ring_from;
    for (uint64_t i = 0; i < written && i < ring_len; i++) {
        struct sm_hint *hint = &stripe->ring[(v->ring_from + i) % ring_len];
        restore_bytes(v, hint, sizeof *hint);
    }
    while (v->touched_count > 0) {
        uint64_t *word = v->touched[--v->touched_count];
        restore_bytes(v, word, sizeof *word);
    }
}

void damage_restore(struct victim *v) {
    struct lr_cache *cache = v->cache;
    restore_ring(v);
    restore_bytes(v, cache->base, SM_HEADER_BYTES + DAMAGE_SLOTS * sizeof(struct sm_participant));
    restore_bytes(v, cache->base + cache->geometry.voids_off, cache->geometry.control_off - cache->geometry.voids_off);
    restore_bytes(v, cache->controls, SM_STRIPE_FIXED);
    restore_bytes(v, cache->data, cache->geometry.stripe_bytes);
}

/* ---- damage ----------------------------------------------------------------------------------------------------- */

/* Rows: X(field of sm_stripe): each word of it can be hit by name. */
#define STRIPE_FIELDS(X)                                                                                               \
    X(lock)                                                                                                            \
    X(sequence)                                                                                                        \
    X(notes_pending)                                                                                                   \
    X(stalled_since_ms)                                                                                                \
    X(stalled_owner)                                                                                                   \
    X(split)                                                                                                           \
    X(merges)                                                                                                          \
    X(moves_down)                                                                                                      \
    X(gap)                                                                                                             \
    X(border_off)                                                                                                      \
    X(divide_off)                                                                                                      \
    X(share)                                                                                                           \
    X(probation_laps)                                                                                                  \
    X(patience_ms)                                                                                                     \
    X(wanted)                                                                                                          \
    X(quiet)                                                                                                           \
    X(trust)                                                                                                           \
    X(silence)                                                                                                         \
    X(watched)                                                                                                         \
    X(policy_turn)                                                                                                     \
    X(shadow_clock)                                                                                                    \
    X(shadow_shift)                                                                                                    \
    X(shadow_at)                                                                                                       \
    X(shadow_due)                                                                                                      \
    X(aged_at)                                                                                                         \
    X(aged_due)                                                                                                        \
    X(marked)                                                                                                          \
    X(look_left_bytes)                                                                                                 \
    X(look_again_ms)                                                                                                   \
    X(large)                                                                                                           \
    X(clock)                                                                                                           \
    X(incarnation)                                                                                                     \
    X(epoch)                                                                                                           \
    X(ring_head)                                                                                                       \
    X(ring_acked)                                                                                                      \
    X(sweep_cursor)                                                                                                    \
    X(items)                                                                                                           \
    X(item_bytes)                                                                                                      \
    X(payload_bytes)                                                                                                   \
    X(tombstones)                                                                                                      \
    X(held_blocks)                                                                                                     \
    X(held_bytes)                                                                                                      \
    X(hole_bytes)                                                                                                      \
    X(ttl_items)                                                                                                       \
    X(bin_map)                                                                                                         \
    X(counters)                                                                                                        \
    X(bins)                                                                                                            \
    X(held)                                                                                                            \
    X(notes)                                                                                                           \
    X(range_sum)                                                                                                       \
    X(range_floor)                                                                                                     \
    X(range_void)                                                                                                      \
    X(range_firm)

struct field {
    uint32_t off, bytes;
};
static const struct field stripe_fields[] = {
#define X(name) {offsetof(struct sm_stripe, name), sizeof(((struct sm_stripe *)NULL)->name)},
    STRIPE_FIELDS(X)
#undef X
};
static const struct field header_fields[] = {
    {offsetof(struct sm_header, state), 4},
    {offsetof(struct sm_header, replicating), 4},
    {offsetof(struct sm_header, flush_version), 8},
    {offsetof(struct sm_header, origin), 4},
    {offsetof(struct sm_header, participants_high), 4},
    {offsetof(struct sm_header, bell), 8},
    {offsetof(struct sm_header, sidecar_owner), 16},
    {offsetof(struct sm_header, retired_counters), 384},
};
static const struct field participant_fields[] = {
    {offsetof(struct sm_participant, generation), 8}, {offsetof(struct sm_participant, state), 8},
    {offsetof(struct sm_participant, name), 32},      {offsetof(struct sm_participant, pin_summary), 8},
    {offsetof(struct sm_participant, hazards), 512},  {offsetof(struct sm_participant, counters), 384},
};

static uint64_t *word_in(struct victim *v, uint8_t *base, const struct field *field) {
    uint64_t words = (field->bytes + 7u) / 8u;
    return (uint64_t *)(void *)(base + (field->off + damage_below(&v->random, words) * 8u) / 8u * 8u);
}

/* A word of a slot, of a block's header, or of anything. */
static uint64_t *somewhere(struct victim *v) {
    struct lr_cache *cache = v->cache;
    struct damage_random *random = &v->random;
    uint8_t *data = lr_data_at(cache, 0);
    const uint64_t end = cache->geometry.stripe_bytes, border = 4096; /* of a new stripe of this size */
    switch (damage_below(random, 16)) {
    case 0:
        return word_in(v, cache->base, &header_fields[damage_below(random, COUNT(header_fields))]);
    case 1:
        return word_in(v, (uint8_t *)&cache->participants[damage_below(random, DAMAGE_SLOTS)],
                       &participant_fields[damage_below(random, COUNT(participant_fields))]);
    case 2:
        return v->touched[v->touched_count++] =
                   (uint64_t *)(void *)(cache->controls + damage_below(random, cache->geometry.control_bytes / 8) * 8);
    case 3:
    case 4:
    case 5:
    case 6:
        return word_in(v, cache->controls, &stripe_fields[damage_below(random, COUNT(stripe_fields))]);
    case 7:
    case 8:
    case 9:
        return (uint64_t *)(void *)(data + damage_below(random, border / 8) * 8);
    case 10: /* a hole's size or links */
        return (uint64_t *)(void *)(data + v->holes[damage_below(random, v->hole_count)] + damage_below(random, 2) * 8);
    case 11:
    case 12: { /* a header that a slot names */
        for (unsigned i = 0; i < 16; i++) {
            uint64_t off = lr_slot_off(lr_load((sm_u64 *)(void *)(data + damage_below(random, border / 8) * 8)));
            if (off != 0 && off <= end - 40)
                return (uint64_t *)(void *)(data + off / 8 * 8 + damage_below(random, 5) * 8);
        }
    } /* fall through */
    default:
        return (uint64_t *)(void *)(data + damage_below(random, end / 8) * 8);
    }
}

/* A number that means something to somebody: a bound, or one off. */
static uint64_t telling(struct victim *v) {
    const struct lr_geometry *geometry = &v->cache->geometry;
    const uint64_t numbers[] = {0,
                                1,
                                UINT64_MAX,
                                UINT32_MAX,
                                UINT64_C(1) << 63,
                                geometry->stripe_bytes,
                                geometry->stripe_bytes / SM_GRANULE,
                                geometry->segment_bytes,
                                geometry->max_block,
                                SM_PARTICIPANTS,
                                lr_own_word(v->cache),
                                SM_SPLITTING | 32u};
    return numbers[damage_below(&v->random, COUNT(numbers))] + damage_below(&v->random, 3) - 1;
}

static void damage_once(struct victim *v) {
    struct damage_random *random = &v->random;
    uint64_t *word = somewhere(v);
    switch (damage_below(random, 8)) {
    case 0:
    case 1:
        *word ^= UINT64_C(1) << damage_below(random, 64);
        break;
    case 2:
        *word = damage_next(random);
        break;
    case 3:
        *word = telling(v);
        break;
    case 4:
        *word += damage_below(random, 17) - 8;
        break;
    case 5:
        *word = *somewhere(v);
        break;
    case 6:
        ((uint8_t *)word)[damage_below(random, 8)] = (uint8_t)damage_next(random);
        break;
    default: { /* a splice: bytes of the stripe over others */
        uint8_t *data = lr_data_at(v->cache, 0);
        uint64_t len = 8 + damage_below(random, 64) * 8, last = (v->cache->geometry.stripe_bytes - len) / 8;
        memmove(data + damage_below(random, last) * 8, data + damage_below(random, last) * 8, len);
    }
    }
}

void damage_do(struct victim *v) {
    for (uint64_t n = 1 + damage_below(&v->random, 4); n > 0; n--)
        damage_once(v);
    if (damage_below(&v->random, 64) == 0) { /* a file that was cut and filled up */
        uint64_t from = damage_below(&v->random, v->cache->geometry.stripe_bytes / 8) * 8;
        memset(lr_data_at(v->cache, 0) + from, 0, v->cache->geometry.stripe_bytes - from);
    }
    /* The process's own slot is its alone; with another generation in it, it is dead to itself. */
    if (damage_below(&v->random, 32) != 0)
        restore_bytes(v, v->cache->me, 64);
    v->ring_from = lr_load(&lr_stripe_at(v->cache, 0)->ring_head);
}
