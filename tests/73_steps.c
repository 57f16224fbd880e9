/* SPDX-License-Identifier: MIT */
/*
 * Death at every instruction: one call of the release build is executed instruction by instruction, and the segment is
 * kept as it is after each.
 *
 * A child does one operation under ptrace. After every single step the parent compares the segment with what it was
 * before the step; each state that differs (of those in which only what blocks hold does, one in seven) is an image:
 * what others would find if the child had been killed right there. When the child is dead, each image is put back into
 * the segment, and a survivor goes on and judges (scenario.h). Nothing is marked in the source, so nothing can be
 * forgotten; what the compiler has reordered is seen as it is.
 *
 * Every few images the survivor dies too, at a random instant of its repair, and the next one must do. The states and
 * operations that are not here, and the images that are passed over, are those of larder-steps --full.
 */
#include "fixture.h"
#include "stepping.h"

#include <string.h>

#define ARENA_SHARE 7u
#define OPERATIONS_HERE 18u

static const enum scenario_operation operations[OPERATIONS_HERE] = {
    PUT_NEW,   PUT_REPLACE, PUT_LARGE, PUT_MANY,  ADD_TTL,         DELETE, DELETE_ABSENT, TOUCH_LONGER, TOUCH_SHORTER,
    INCREMENT, GET,         PIN,       APPLY_PUT, APPLY_TOMBSTONE, DROP,   SWEEP,         FLUSH,        EPOCH};

static bool judge_images(struct scenario *s, const struct stepping *stepping, struct fixture_random *random) {
    for (unsigned i = 0; i < stepping->count; i++) {
        if (stepping_judge(s, stepping, i, fixture_next(random)))
            continue;
        printf("\n    %s, %s, image %u: %s\n", s->state->name, scenario_operation_names[s->operation], i, s->what);
        return false;
    }
    return true;
}

static void run_state(const char *name) {
    struct fixture_random random = fixture_seed("steps");
    struct stepping stepping = {.share = ARENA_SHARE};
    static struct scenario s;
    char segment[65];
    unsigned images = 0;
    uint64_t steps = 0;
    memset(&s, 0, sizeof s);
    fixture_name(segment);
    s.options = lr_options_default();
    s.options.name = segment;
    bool prepared = scenario_prepare(&s, &scenario_states[scenario_state_number(name)]);
    if (!prepared)
        printf("\n    %s\n", s.what);
    CU_ASSERT_FATAL(prepared);
    uint8_t *before = malloc(SCENARIO_IMAGE_BYTES);
    CU_ASSERT_PTR_NOT_NULL_FATAL(before);
    scenario_read_image(&s, before);
    for (unsigned i = 0; i < OPERATIONS_HERE; i++) {
        scenario_choose(&s, operations[i]);
        int result = stepping_collect(&s, &stepping);
        if (result == 77) {
            fixture_skip("73_steps", "ptrace is not permitted");
            break;
        }
        CU_ASSERT(result == 0 && judge_images(&s, &stepping, &random));
        images += stepping.count;
        steps += stepping.steps;
        stepping_free(&stepping);
        scenario_write_image(&s, before);
    }
    CU_ASSERT(images > OPERATIONS_HERE);
    lr_reap(s.survivor);
    fixture_check(s.survivor);
    free(before);
    scenario_end(&s);
    printf("    %u operations, %llu instructions, %u images;", OPERATIONS_HERE, (unsigned long long)steps, images);
}

#define STATE_TEST(function, state)                                                                                    \
    static void function(void) {                                                                                       \
        run_state(state);                                                                                              \
    }
STATE_TEST(death_at_every_instruction_in_an_empty_stripe, "empty")
STATE_TEST(death_at_every_instruction_with_some_items, "some")
STATE_TEST(death_at_every_instruction_among_holes, "holes")
STATE_TEST(death_at_every_instruction_in_a_full_stripe, "full")
STATE_TEST(death_at_every_instruction_among_expired_items, "full of expired")
STATE_TEST(death_at_every_instruction_in_a_full_replica, "full replica")
STATE_TEST(death_at_every_instruction_beside_a_pin, "pinned")
STATE_TEST(death_at_every_instruction_in_a_replica_beside_a_pin, "pinned replica")

static void death_at_every_instruction_of_the_release(void) {
    fixture_skip("73_steps", "a sanitizer's instructions are not those that are shipped");
}

void larder_suite_73_steps(void);
void larder_suite_73_steps(void) {
    CU_pSuite suite = CU_add_suite("73_steps", NULL, NULL);
    if (FIXTURE_SANITIZED) {
        CU_ADD_TEST(suite, death_at_every_instruction_of_the_release);
        return;
    }
    CU_ADD_TEST(suite, death_at_every_instruction_in_an_empty_stripe);
    CU_ADD_TEST(suite, death_at_every_instruction_with_some_items);
    CU_ADD_TEST(suite, death_at_every_instruction_among_holes);
    CU_ADD_TEST(suite, death_at_every_instruction_in_a_full_stripe);
    CU_ADD_TEST(suite, death_at_every_instruction_among_expired_items);
    CU_ADD_TEST(suite, death_at_every_instruction_in_a_full_replica);
    CU_ADD_TEST(suite, death_at_every_instruction_beside_a_pin);
    CU_ADD_TEST(suite, death_at_every_instruction_in_a_replica_beside_a_pin);
}
