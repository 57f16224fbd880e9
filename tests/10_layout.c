/* SPDX-License-Identifier: MIT */
/* Is the plan of a segment sound for every size, and is a header that says anything else refused? */
#include "fixture.h"
#include "segment.h"
#include "stripe.h"

#include <inttypes.h>
#include <string.h>

#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static struct lr_geometry planned(uint64_t size, unsigned stripes) {
    struct lr_geometry geometry;
    CU_ASSERT_EQUAL_FATAL(lr_geometry_plan(size, stripes, LR_POLICY_clock, &geometry, NULL), 0);
    snprintf(geometry.name, sizeof geometry.name, "layout-test");
    geometry.hash_seed = 0x1111111111111111;
    geometry.incarnation[0] = 0x2222222222222222;
    geometry.incarnation[1] = 0x3333333333333333;
    geometry.created_ms = 1700000000000;
    return geometry;
}

static void expect_sound(const struct lr_geometry *g, uint64_t size) {
    CU_ASSERT(g->stripe_count > 0 && (g->stripe_count & (g->stripe_count - 1)) == 0);
    CU_ASSERT(g->stripe_bytes >= SM_MIN_STRIPE && g->stripe_bytes <= SM_MAX_STRIPE && g->stripe_bytes % 4096 == 0);
    CU_ASSERT_EQUAL(g->cache_bytes, g->stripe_bytes * g->stripe_count);
    CU_ASSERT(g->cache_bytes >= size);
    CU_ASSERT_EQUAL(g->voids_off, sizeof(struct sm_header) + SM_PARTICIPANTS * sizeof(struct sm_participant));
    CU_ASSERT(g->control_off >= g->voids_off + SM_RANGES * (UINT64_C(1) + g->part_words) * 8);
    CU_ASSERT(g->part_words > 0 && g->part_words <= SM_PART_WORDS && (g->part_words & (g->part_words - 1)) == 0);
    CU_ASSERT(g->part_words == 1 || g->part_words * UINT64_C(2048) < g->cache_bytes / 128);
    CU_ASSERT(g->control_bytes >= sizeof(struct sm_stripe) + g->ring_len * sizeof(struct sm_hint));
    CU_ASSERT(g->control_off % 4096 == 0 && g->control_bytes % 4096 == 0);
    CU_ASSERT(g->data_off >= g->control_off + g->stripe_count * g->control_bytes);
    CU_ASSERT_EQUAL(g->data_off % (g->cache_bytes >= 4 * MIB ? 2 * MIB : 4096), 0);
    CU_ASSERT_EQUAL(g->segment_bytes, g->data_off + g->cache_bytes);
    CU_ASSERT(g->max_block >= g->stripe_bytes / 4 && g->max_block < g->stripe_bytes && g->max_block % SM_GRANULE == 0);
    CU_ASSERT(g->max_block / SM_GRANULE <= SM_BLOCK_SIZE_MASK);
    CU_ASSERT(g->ring_len >= 1024 && (g->ring_len & (g->ring_len - 1)) == 0);
}

static void a_plan_is_sound_and_planning_it_again_gives_the_same(void) {
    struct fixture_random random = fixture_seed("plans");
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t size = SM_MIN_STRIPE + (fixture_next(&random) >> (27 + fixture_below(&random, 20)));
        unsigned stripes = fixture_below(&random, 2) == 0 ? 0 : 1u << fixture_below(&random, 11);
        struct lr_geometry plan, again;
        if (lr_geometry_plan(size, stripes, LR_POLICY_none, &plan, NULL) != 0) {
            CU_ASSERT(stripes != 0 || size > SM_MAX_STRIPES * SM_MAX_STRIPE);
            continue;
        }
        expect_sound(&plan, size);
        CU_ASSERT_EQUAL_FATAL(lr_geometry_plan(plan.cache_bytes, plan.stripe_count, LR_POLICY_none, &again, NULL), 0);
        CU_ASSERT_EQUAL(memcmp(&plan, &again, sizeof plan), 0);
    }
}

static void the_number_of_stripes_follows_the_size(void) {
    static const struct {
        uint64_t size;
        uint32_t stripes;
    } rows[] = {{64 * KIB, 1},   {4 * MIB, 1},    {16 * MIB - 1, 1}, {16 * MIB, 2},    {64 * MIB, 8},
                {256 * MIB, 32}, {512 * MIB, 64}, {1 * GIB, 64},     {GIB + 1, 128},   {4 * GIB, 256},
                {16 * GIB, 256}, {17 * GIB, 512}, {64 * GIB, 1024},  {256 * GIB, 1024}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct lr_geometry plan = planned(rows[i].size, 0);
        CU_ASSERT_EQUAL(plan.stripe_count, rows[i].stripes);
        expect_sound(&plan, rows[i].size);
    }
    CU_ASSERT_EQUAL(planned(64 * MIB, 0).stripe_bytes, 8 * MIB);
    CU_ASSERT(planned(64 * MIB, 0).max_block > MIB); /* a 64 MiB segment admits values of 1 MiB */
    CU_ASSERT_EQUAL(planned(9 * MIB, 2).stripe_bytes, 9 * MIB / 2);
    CU_ASSERT_EQUAL(planned(256 * KIB, 4).stripe_bytes, 64 * KIB);
}

static void expect_no_plan(uint64_t size, unsigned stripes, uint32_t policy, const char *is, const char *should_be) {
    struct lr_geometry plan;
    char why[LR_WHY_BYTES] = "";
    CU_ASSERT_EQUAL(lr_geometry_plan(size, stripes, policy, &plan, why), LARDER_EINVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, is));
    CU_ASSERT_PTR_NOT_NULL(strstr(why, should_be));
}

static void a_plan_out_of_range_is_refused_with_both_numbers(void) {
    expect_no_plan(65535, 0, LR_POLICY_clock, "65535", "65536");
    expect_no_plan(0, 1, LR_POLICY_clock, "is 0 bytes", "65536");
    expect_no_plan(256 * GIB + 1, 0, LR_POLICY_clock, "274877906945", "274877906944");
    expect_no_plan(UINT64_MAX, 0, LR_POLICY_clock, "18446744073709551615", "274877906944");
    expect_no_plan(64 * MIB, 3, LR_POLICY_clock, "3 stripes", "power of two");
    expect_no_plan(64 * GIB, 2048, LR_POLICY_clock, "2048 stripes", "1024");
    expect_no_plan(127 * KIB, 2, LR_POLICY_clock, "65024", "65536");
    expect_no_plan(512 * MIB + 1, 2, LR_POLICY_clock, "268435457", "268435456");
    expect_no_plan(64 * MIB, 0, 99, "policy 99", "this release");
}

static void constants_come_back_as_they_were_stored(void) {
    struct lr_geometry out, geometry = planned(10 * MIB, 0);
    struct sm_constants constants;
    lr_geometry_store(&geometry, &constants);
    CU_ASSERT_EQUAL_FATAL(lr_geometry_load(&constants, geometry.segment_bytes, &out, NULL), 0);
    CU_ASSERT_EQUAL(memcmp(&out, &geometry, sizeof out), 0);
}

static void every_flipped_bit_of_the_constants_is_refused(void) {
    struct lr_geometry geometry = planned(MIB, 0);
    struct sm_constants constants;
    lr_geometry_store(&geometry, &constants);
    for (size_t bit = 0; bit < sizeof constants * 8; bit++) {
        struct sm_constants flipped = constants;
        struct lr_geometry out;
        char why[LR_WHY_BYTES] = "";
        ((uint8_t *)&flipped)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int error = lr_geometry_load(&flipped, geometry.segment_bytes, &out, why);
        int expected = bit < 64    ? LARDER_EFOREIGN
                       : bit < 96  ? LARDER_EVERSION
                       : bit < 128 ? LARDER_EFOREIGN
                                   : LARDER_ECORRUPT;
        if (error != expected)
            printf("\n    bit %zu: %s instead of %s: %s\n", bit, lr_error_name(error), lr_error_name(expected), why);
        CU_ASSERT_EQUAL(error, expected);
        CU_ASSERT(strlen(why) > 20 && strchr(why, '\n') == NULL);
    }
}

/* Stores a geometry that somebody made up, with a sum that is right, and expects it to be refused. */
static void expect_refused(const struct lr_geometry *made_up, int expected, const char *part) {
    struct sm_constants constants;
    struct lr_geometry out;
    char why[LR_WHY_BYTES] = "";
    lr_geometry_store(made_up, &constants);
    CU_ASSERT_EQUAL(lr_geometry_load(&constants, made_up->segment_bytes, &out, why), expected);
    if (strstr(why, part) == NULL)
        printf("\n    \"%s\" does not speak of \"%s\"\n", why, part);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, part));
}

static void made_up_geometry_with_a_right_sum_is_refused(void) {
    const struct lr_geometry good = planned(10 * MIB, 0);
    struct lr_geometry bad;
#define REFUSED(field, value, error, part)                                                                             \
    do {                                                                                                               \
        bad = good;                                                                                                    \
        bad.field = (value);                                                                                           \
        expect_refused(&bad, error, part);                                                                             \
    } while (0)
    REFUSED(segment_bytes, good.segment_bytes + 4096, LARDER_ECORRUPT, "segment_bytes = ");
    REFUSED(cache_bytes, good.cache_bytes - 4096, LARDER_ECORRUPT, "= ");
    REFUSED(cache_bytes, UINT64_MAX, LARDER_ECORRUPT, "impossible");
    REFUSED(cache_bytes, 0, LARDER_ECORRUPT, "impossible");
    REFUSED(stripe_bytes, good.stripe_bytes + SM_GRANULE, LARDER_ECORRUPT, "stripe_bytes = ");
    REFUSED(control_bytes, 0, LARDER_ECORRUPT, "control_bytes = ");
    REFUSED(control_off, UINT64_MAX, LARDER_ECORRUPT, "control_off = ");
    REFUSED(data_off, 0, LARDER_ECORRUPT, "data_off = ");
    REFUSED(max_block, good.max_block + SM_GRANULE, LARDER_ECORRUPT, "max_block = ");
    REFUSED(stripe_count, 0, LARDER_ECORRUPT, "0 stripes");
    REFUSED(stripe_count, 3, LARDER_ECORRUPT, "impossible");
    REFUSED(stripe_count, UINT32_MAX, LARDER_ECORRUPT, "impossible");
    REFUSED(participants, SM_PARTICIPANTS + 1, LARDER_ECORRUPT, "participants = 1025");
    REFUSED(ring_len, good.ring_len * 2, LARDER_ECORRUPT, "ring_len = ");
    REFUSED(policy, 99, LARDER_EVERSION, "policy 99");
    REFUSED(favor, 2, LARDER_EVERSION, "favors 2");
    REFUSED(name[0], '\033', LARDER_ECORRUPT, "name");
    REFUSED(name[0], 0, LARDER_ECORRUPT, "name");
    REFUSED(name[SM_NAME_BYTES - 1], 'x', LARDER_ECORRUPT, "name");
#undef REFUSED
}

static void a_refusal_names_both_sides(void) {
    struct lr_geometry out, geometry = planned(MIB, 0);
    struct sm_constants constants, other;
    char why[LR_WHY_BYTES];
    lr_geometry_store(&geometry, &constants);

    other = constants;
    other.layout = 77;
    CU_ASSERT_EQUAL(lr_geometry_load(&other, geometry.segment_bytes, &out, why), LARDER_EVERSION);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "layout 77"));
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "speaks layout 13"));

    other = constants;
    other.byte_order = UINT32_C(0x04030201);
    CU_ASSERT_EQUAL(lr_geometry_load(&other, geometry.segment_bytes, &out, why), LARDER_EFOREIGN);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "other byte order"));
    other.magic = __builtin_bswap64(SM_MAGIC); /* as a whole foreign file reads here */
    CU_ASSERT_EQUAL(lr_geometry_load(&other, geometry.segment_bytes, &out, why), LARDER_EFOREIGN);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "other byte order"));

    char number[32];
    CU_ASSERT_EQUAL(lr_geometry_load(&constants, geometry.segment_bytes - 1, &out, why), LARDER_ECORRUPT);
    snprintf(number, sizeof number, "%" PRIu64, geometry.segment_bytes - 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, number));
    snprintf(number, sizeof number, "%" PRIu64, geometry.segment_bytes);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, number));
    CU_ASSERT_EQUAL(lr_geometry_load(&constants, geometry.segment_bytes + 1, &out, why), LARDER_ECORRUPT);
}

static void expect_new_stripe(const struct lr_geometry *geometry) {
    struct sm_stripe *stripe = calloc(1, geometry->control_bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL(stripe);
    lr_geometry_lay_stripe(geometry, stripe);
    const bool divided = geometry->policy == LR_POLICY_s3;
    const uint64_t buckets = atomic_load(&stripe->split), border = buckets * SM_BUCKET_BYTES / 8 * (divided ? 9 : 8);
    const uint64_t main = atomic_load(&stripe->gap[LR_MAIN]), first = atomic_load(&stripe->gap[LR_PROBATION]);
    const uint64_t divide = atomic_load(&stripe->divide_off), arena = geometry->stripe_bytes - border;
    CU_ASSERT(buckets >= 64 && (buckets & (buckets - 1)) == 0);
    CU_ASSERT_EQUAL(buckets, lr_geometry_buckets(geometry));
    CU_ASSERT_EQUAL(atomic_load(&stripe->border_off), border);
    CU_ASSERT_EQUAL(lr_gap_start(main), divided ? divide : border);
    CU_ASSERT_EQUAL(lr_gap_end(main), geometry->stripe_bytes);
    if (divided) {
        CU_ASSERT_EQUAL(lr_gap_start(first), border);
        CU_ASSERT_EQUAL(lr_gap_end(first), divide);
        CU_ASSERT(divide - border <= arena / 10 * 3 + 8 && divide - border >= arena / 10 * 3 - 64);
    } else {
        CU_ASSERT_EQUAL(divide | first, 0);
    }
    CU_ASSERT_EQUAL(atomic_load(&stripe->epoch), 1);
    CU_ASSERT_EQUAL(atomic_load(&stripe->acked_epoch), 0);
    CU_ASSERT_EQUAL(atomic_load(&stripe->clock), 0);
    CU_ASSERT_EQUAL(atomic_load(&stripe->lock), 0);
    free(stripe);
}

static void a_new_stripe_is_an_empty_index_and_a_gap_in_each_region(void) {
    for (uint64_t size = SM_MIN_STRIPE; size <= SM_MAX_STRIPE; size *= 2) {
        struct lr_geometry geometry = planned(size, 1);
        expect_new_stripe(&geometry);
        CU_ASSERT_EQUAL_FATAL(lr_geometry_plan(size, 1, LR_POLICY_s3, &geometry, NULL), 0);
        expect_new_stripe(&geometry);
    }
}

static void every_error_and_policy_has_words(void) {
#define X(name, number, text, remedy)                                                                                  \
    CU_ASSERT_STRING_EQUAL(lr_error_name(number), #name);                                                              \
    CU_ASSERT(strlen(lr_error_text(number)) > 3 && strlen(lr_error_remedy(number)) > 3);
    LARDER_ERRORS(X)
#undef X
    CU_ASSERT_STRING_EQUAL(lr_error_name(0), "OK");
    CU_ASSERT_STRING_EQUAL(lr_error_name(7), "OK");
    CU_ASSERT_STRING_EQUAL(lr_error_name(-999), "UNKNOWN");
    CU_ASSERT_PTR_NOT_NULL(lr_error_text(-999));
    CU_ASSERT_PTR_NOT_NULL(lr_error_remedy(-999));
#define X(name, number, sentence)                                                                                      \
    CU_ASSERT_STRING_EQUAL(lr_policy_name(number), #name);                                                             \
    CU_ASSERT_EQUAL(lr_policy_number(#name), number);
    LR_POLICIES(X)
#undef X
    CU_ASSERT_EQUAL(lr_policy_number("lru"), -1);
    CU_ASSERT_EQUAL(lr_policy_number(""), -1);
}

void larder_suite_10_layout(void);
void larder_suite_10_layout(void) {
    CU_pSuite suite = CU_add_suite("10_layout", NULL, NULL);
    CU_ADD_TEST(suite, a_plan_is_sound_and_planning_it_again_gives_the_same);
    CU_ADD_TEST(suite, the_number_of_stripes_follows_the_size);
    CU_ADD_TEST(suite, a_plan_out_of_range_is_refused_with_both_numbers);
    CU_ADD_TEST(suite, constants_come_back_as_they_were_stored);
    CU_ADD_TEST(suite, every_flipped_bit_of_the_constants_is_refused);
    CU_ADD_TEST(suite, made_up_geometry_with_a_right_sum_is_refused);
    CU_ADD_TEST(suite, a_refusal_names_both_sides);
    CU_ADD_TEST(suite, a_new_stripe_is_an_empty_index_and_a_gap_in_each_region);
    CU_ADD_TEST(suite, every_error_and_policy_has_words);
}
