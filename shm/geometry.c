/* SPDX-License-Identifier: MIT */
/*
 * Where does everything lie in a segment of this size, and is that what this file says?
 *
 * Creator, attacher, checker and tools ask one function, lr_geometry_plan. It needs only {size, stripes, policy}:
 *
 *   stripe_bytes   size / stripes, rounded up to 4 KiB
 *   header         4096                                       at 0
 *   participants   SM_PARTICIPANTS * 1024                     behind it
 *   voids_off      4096 + that; SM_RANGES * (1 + part_words) words
 *   control_off    behind it, rounded up to 4 KiB; `stripes` blocks of control_bytes
 *   data_off       behind those, rounded up to 2 MiB when there are 4 MiB of data, else to 4 KiB
 *   segment_bytes  data_off + stripes * stripe_bytes
 *
 * Rules that always hold:
 *  1. The plan is idempotent: planning for the cache_bytes and stripe_count of a plan gives the same plan. So an
 *     attacher verifies a file by planning it anew, and refuses what it would not have laid out itself. No field is
 *     ever plausible on its own.
 *  2. Of every number in the constants, either the sum, the plan or a comparison with the file covers every bit.
 *  3. Constants come in as a private copy (the caller reads the file, not the mapping) and leave as a private struct.
 *
 * The number of stripes, when not given: 64, halved while a stripe would have less than 8 MiB, doubled up to 256 while
 * it would have more than 16 MiB, and up to SM_MAX_STRIPES while it would have more than 64 MiB. Small stripes cost hit
 * ratio and admit smaller items only (3/8 of a stripe), and many of them cost replication (shm/README.md, "Sizes");
 * but the writers of a stripe wait while it is repaired: 22 ms at 16 MiB of the smallest items.
 */
#include "segment.h"
#include "stripe.h"

#include <inttypes.h>
#include <string.h>

#define PAGE UINT64_C(4096)
#define MIB (UINT64_C(1) << 20)
#define HUGE_PAGE (2 * MIB)
#define STRIPES_AIM 64u
#define BUCKET_SHARE UINT64_C(32768) /* bytes of a stripe for each bucket that it starts with */
#define BUCKETS_MIN UINT64_C(64)
#define KEPT_SHARE 32u   /* of a stripe: index that it keeps */
#define PARTS_SHARE 512u /* of the cache: bits for what was forgotten before all peers had it */
#define RING_MIN 1024u
#define RING_TOTAL 16384u
static_assert(SM_MAX_STRIPE / SM_GRANULE <= SM_BLOCK_SIZE_MASK, "a block's size field holds any run of a stripe");
static_assert(SM_MAX_STRIPE / SM_GRANULE <= SM_SLOT_OFF_MASK, "a slot word's offset reaches all of a stripe");
static_assert(BUCKETS_MIN * SM_BUCKET_BYTES % PAGE == 0, "the index of a new stripe ends on a page");
static_assert(sizeof(((struct lr_geometry *)0)->name) == SM_NAME_BYTES + 1, "a full name and its NUL");

static bool is_power_of_two(uint64_t n) {
    return n != 0 && (n & (n - 1)) == 0;
}

static uint32_t choose_stripes(uint64_t size) {
    uint32_t stripes = STRIPES_AIM;
    while (stripes > 1 && size / stripes < 8 * MIB)
        stripes /= 2;
    while ((stripes < 256 && size > stripes * 16 * MIB) || (stripes < SM_MAX_STRIPES && size > stripes * 64 * MIB))
        stripes *= 2;
    return stripes;
}

/* What is index for good: as much as a new stripe has, and as many whole groups as fit into KEPT_SHARE. */
static void keep_index(struct lr_geometry *geometry) {
    uint64_t buckets = lr_geometry_buckets(geometry);
    while (lr_index_bytes(geometry, buckets + 8) <= geometry->stripe_bytes / KEPT_SHARE)
        buckets += 8;
    geometry->least_buckets = (uint32_t)buckets;
    geometry->kept_bytes = lr_index_bytes(geometry, buckets);
}

/*
 * What one use more makes of a slot's recency. By the rules of s3 the count rises by one to LR_COUNT_PLAIN, or to the
 * number of uses if that is more: what was used often stays that long again with each use, as in GDSF (L. Cherkasova,
 * 1998). More than LR_COUNT_PLAIN uses are counted only if the hand came by between them, so that a burst is none. By
 * age the count is LR_COUNT_AGE: how long ago counts, not how often. Other policies have nothing but a count.
 */
static uint8_t used_once_more(const struct lr_geometry *geometry, bool by_age, unsigned recency) {
    const unsigned max = geometry->recency_max;
    if (geometry->policy != LR_POLICY_s3)
        return (uint8_t)(recency < max ? recency + 1 : max);
    const unsigned count = recency & SM_RECENCY_COUNT, plain = count < LR_COUNT_PLAIN ? count + 1 : LR_COUNT_PLAIN;
    unsigned uses = recency >> SM_RECENCY_USES_SHIFT;
    if (uses >= max) /* more only if damaged */
        uses = max;
    else if (uses < LR_COUNT_PLAIN || count < uses)
        uses++;
    return (uint8_t)(uses << SM_RECENCY_USES_SHIFT | (by_age ? LR_COUNT_AGE : uses > plain ? uses : plain));
}

static void plan_recency(struct lr_geometry *geometry) {
    static const uint32_t most[] = {
        [LR_POLICY_none] = 0, [LR_POLICY_clock] = 3, [LR_POLICY_ttl] = 3, [LR_POLICY_s3] = 5, [LR_POLICY_lfu] = 255};
    geometry->recency_max = most[geometry->policy];
    for (unsigned i = 0; i < 256; i++)
        for (unsigned by_age = 0; by_age < 2; by_age++)
            geometry->recency_used[by_age][i] = used_once_more(geometry, by_age != 0, i);
}

static uint32_t part_words(uint64_t cache_bytes) {
    uint32_t words = 1;
    while (words < SM_PART_WORDS && (uint64_t)words * SM_RANGES * 8 < cache_bytes / PARTS_SHARE)
        words *= 2;
    return words;
}

int lr_geometry_plan(uint64_t size, unsigned stripes, uint32_t policy, struct lr_geometry *out, char *why) {
    if (strcmp(lr_policy_name(policy), "unknown") == 0)
        return lr_error_explain(LARDER_EINVALID, why, "policy %" PRIu32 " is not one that this release implements",
                                policy);
    if (size < SM_MIN_STRIPE || size > SM_MAX_STRIPES * SM_MAX_STRIPE)
        return lr_error_explain(LARDER_EINVALID, why,
                                "the size is %" PRIu64 " bytes, but must be %" PRIu64 " to %" PRIu64 " bytes", size,
                                (uint64_t)SM_MIN_STRIPE, SM_MAX_STRIPES * SM_MAX_STRIPE);
    if (stripes != 0 && (!is_power_of_two(stripes) || stripes > SM_MAX_STRIPES))
        return lr_error_explain(LARDER_EINVALID, why, "%u stripes, but the number must be a power of two up to %u",
                                stripes, SM_MAX_STRIPES);
    if (stripes == 0)
        stripes = choose_stripes(size);
    uint64_t share = (size + stripes - 1) / stripes;
    if (share < SM_MIN_STRIPE || share > SM_MAX_STRIPE)
        return lr_error_explain(LARDER_EINVALID, why,
                                "%u stripes of %" PRIu64 " bytes each, but a stripe must have %" PRIu64 " to %" PRIu64
                                " bytes: choose another size or number of stripes",
                                stripes, share, (uint64_t)SM_MIN_STRIPE, (uint64_t)SM_MAX_STRIPE);

    memset(out, 0, sizeof *out);
    out->stripe_count = stripes;
    out->participants = SM_PARTICIPANTS;
    out->policy = policy;
    out->stripe_bytes = lr_round_up(share, PAGE);
    out->cache_bytes = stripes * out->stripe_bytes;
    out->ring_len = RING_TOTAL / stripes > RING_MIN ? RING_TOTAL / stripes : RING_MIN;
    out->control_bytes = lr_round_up(SM_STRIPE_FIXED + out->ring_len * sizeof(struct sm_hint), PAGE);
    out->part_words = part_words(out->cache_bytes);
    out->voids_off = SM_HEADER_BYTES + (uint64_t)SM_PARTICIPANTS * sizeof(struct sm_participant);
    out->control_off = out->voids_off + lr_round_up(SM_RANGES * (UINT64_C(1) + out->part_words) * 8, PAGE);
    out->data_off = lr_round_up(out->control_off + stripes * out->control_bytes,
                                out->cache_bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : PAGE);
    out->segment_bytes = out->data_off + out->cache_bytes;
    out->max_block = out->stripe_bytes / 8 * 3 / SM_GRANULE * SM_GRANULE;
    out->ghost_group = policy == LR_POLICY_s3 ? SM_GHOST_GROUP : LR_GHOSTLESS;
    uint64_t lines = out->stripe_bytes / SM_BUCKET_BYTES;
    out->most_buckets = (uint32_t)(policy == LR_POLICY_s3 ? lines / 9 * 8 : lines);
    plan_recency(out);
    keep_index(out);
    return 0;
}

uint64_t lr_geometry_buckets(const struct lr_geometry *geometry) {
    uint64_t buckets = BUCKETS_MIN;
    while (buckets * 2 <= geometry->stripe_bytes / BUCKET_SHARE)
        buckets *= 2;
    return buckets;
}

void lr_geometry_lay_stripe(const struct lr_geometry *geometry, struct sm_stripe *stripe) {
    const uint64_t buckets = lr_geometry_buckets(geometry), end = geometry->stripe_bytes / SM_GRANULE;
    const uint64_t border = lr_index_bytes(geometry, buckets) / SM_GRANULE;
    uint64_t divide = border;
    /* Before the segment has a name: nobody else looks, no order is needed. */
    if (geometry->policy == LR_POLICY_s3) {
        divide += ((end - border) * LR_SHARE_MOST) >> 32;
        atomic_store_explicit(&stripe->divide_off, divide * SM_GRANULE, memory_order_relaxed);
        atomic_store_explicit(&stripe->share, LR_SHARE_MOST, memory_order_relaxed);
        atomic_store_explicit(&stripe->gap[LR_PROBATION], border << 32 | divide, memory_order_relaxed);
    }
    atomic_store_explicit(&stripe->split, buckets, memory_order_relaxed);
    atomic_store_explicit(&stripe->border_off, border * SM_GRANULE, memory_order_relaxed);
    atomic_store_explicit(&stripe->gap[LR_MAIN], divide << 32 | end, memory_order_relaxed);
    atomic_store_explicit(&stripe->epoch, 1, memory_order_relaxed);
}

static uint64_t constants_sum(const struct sm_constants *constants) {
    const size_t covered = offsetof(struct sm_constants, sum) + sizeof constants->sum;
    return XXH3_64bits((const uint8_t *)constants + covered, sizeof *constants - covered);
}

uint64_t lr_liveness_sum(const struct sm_liveness *record) {
    return XXH3_64bits(record, offsetof(struct sm_liveness, sum));
}

void lr_geometry_store(const struct lr_geometry *geometry, struct sm_constants *out) {
    memset(out, 0, sizeof *out);
    out->magic = SM_MAGIC;
    out->layout = SM_LAYOUT_VERSION;
    out->byte_order = SM_BYTE_ORDER;
    out->segment_bytes = geometry->segment_bytes;
    out->cache_bytes = geometry->cache_bytes;
    out->stripe_bytes = geometry->stripe_bytes;
    out->control_bytes = geometry->control_bytes;
    out->control_off = geometry->control_off;
    out->data_off = geometry->data_off;
    out->max_block = geometry->max_block;
    out->stripe_count = geometry->stripe_count;
    out->participants = geometry->participants;
    out->ring_len = geometry->ring_len;
    out->policy = geometry->policy;
    out->favor = geometry->favor;
    out->hash_seed = geometry->hash_seed;
    out->incarnation[0] = geometry->incarnation[0];
    out->incarnation[1] = geometry->incarnation[1];
    out->created_ms = geometry->created_ms;
    memcpy(out->name, geometry->name, SM_NAME_BYTES);
    out->sum = constants_sum(out);
}

/* Text up to the first NUL, of the characters that a name may have; nothing behind it. Humans get to see it. */
static bool name_is_clean(const char *name) {
    size_t len = 0;
    while (len < SM_NAME_BYTES && name[len] != 0)
        len++;
    for (size_t i = len; i < SM_NAME_BYTES; i++)
        if (name[i] != 0)
            return false;
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    for (size_t i = 0; i < len; i++)
        if (strchr(allowed, name[i]) == NULL)
            return false;
    return len > 0;
}

/* A row for each number of the plan, so that none is forgotten in the comparison below. */
#define PLANNED(X)                                                                                                     \
    X(segment_bytes)                                                                                                   \
    X(cache_bytes)                                                                                                     \
    X(stripe_bytes)                                                                                                    \
    X(control_bytes)                                                                                                   \
    X(control_off)                                                                                                     \
    X(data_off)                                                                                                        \
    X(max_block)                                                                                                       \
    X(stripe_count)                                                                                                    \
    X(participants)                                                                                                    \
    X(ring_len)

int lr_geometry_load(const struct sm_constants *constants, uint64_t file_bytes, struct lr_geometry *out, char *why) {
    const struct sm_constants c = *constants;
    if (c.magic == __builtin_bswap64(SM_MAGIC) ||
        (c.magic == SM_MAGIC && c.byte_order == __builtin_bswap32(SM_BYTE_ORDER)))
        return lr_error_explain(LARDER_EFOREIGN, why,
                                "the segment was made by a machine of the other byte order (its mark reads %08" PRIx32
                                ", ours %08" PRIx32 ")",
                                c.byte_order, SM_BYTE_ORDER);
    if (c.magic != SM_MAGIC)
        return lr_error_explain(LARDER_EFOREIGN, why,
                                "the file begins with %016" PRIx64 ", a Larder segment with %016" PRIx64, c.magic,
                                SM_MAGIC);
    if (c.byte_order != SM_BYTE_ORDER)
        return lr_error_explain(LARDER_EFOREIGN, why, "the segment's byte order mark is %08" PRIx32 ", ours %08" PRIx32,
                                c.byte_order, SM_BYTE_ORDER);
    if (c.layout != SM_LAYOUT_VERSION)
        return lr_error_explain(LARDER_EVERSION, why,
                                "the segment has layout %" PRIu32 ", this program speaks layout %u: use one release of "
                                "Larder for all, or destroy and recreate the segment",
                                c.layout, SM_LAYOUT_VERSION);
    uint64_t sum = constants_sum(&c);
    if (c.sum != sum)
        return lr_error_explain(LARDER_ECORRUPT, why,
                                "the segment's constants have the checksum %016" PRIx64 ", but their bytes give "
                                "%016" PRIx64,
                                c.sum, sum);
    if (strcmp(lr_policy_name(c.policy), "unknown") == 0)
        return lr_error_explain(LARDER_EVERSION, why,
                                "the segment has policy %" PRIu32 ", which this program does not know: use one release "
                                "of Larder for all",
                                c.policy);
    if (strcmp(lr_favor_name(c.favor), "unknown") == 0)
        return lr_error_explain(LARDER_EVERSION, why,
                                "the segment favors %" PRIu32 ", which this program does not know: use one release of "
                                "Larder for all",
                                c.favor);
    static const uint8_t zero[sizeof c.spare];
    if (memcmp(c.spare, zero, sizeof zero) != 0)
        return lr_error_explain(LARDER_EVERSION, why,
                                "the segment's constants use fields that this program's layout %u leaves empty: use "
                                "one release of Larder for all",
                                SM_LAYOUT_VERSION);
    if (!name_is_clean(c.name))
        return lr_error_explain(LARDER_ECORRUPT, why, "the segment's name is not 1 to %u characters of [A-Za-z0-9._-]",
                                SM_NAME_BYTES);

    char plan_why[LR_WHY_BYTES] = "";
    struct lr_geometry plan;
    if (c.stripe_count == 0)
        return lr_error_explain(LARDER_ECORRUPT, why, "the segment has 0 stripes");
    if (lr_geometry_plan(c.cache_bytes, c.stripe_count, c.policy, &plan, plan_why) != 0)
        return lr_error_explain(LARDER_ECORRUPT, why, "the segment's geometry is impossible: %.400s", plan_why);
#define X(field)                                                                                                       \
    if (c.field != plan.field)                                                                                         \
        return lr_error_explain(LARDER_ECORRUPT, why,                                                                  \
                                "the segment says " #field " = %" PRIu64 ", but its size gives %" PRIu64,              \
                                (uint64_t)c.field, (uint64_t)plan.field);
    PLANNED(X)
#undef X
    if (file_bytes != plan.segment_bytes)
        return lr_error_explain(LARDER_ECORRUPT, why,
                                "the file has %" PRIu64 " bytes, but the segment in it %" PRIu64
                                ": it was truncated or extended",
                                file_bytes, plan.segment_bytes);
    plan.favor = c.favor;
    plan.hash_seed = c.hash_seed;
    plan.incarnation[0] = c.incarnation[0];
    plan.incarnation[1] = c.incarnation[1];
    plan.created_ms = c.created_ms;
    memcpy(plan.name, c.name, SM_NAME_BYTES);
    *out = plan;
    return 0;
}
