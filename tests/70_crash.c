/* SPDX-License-Identifier: MIT */
/* Kill storm, in small: is anything lost, foreign, torn, stale, resurrected or stuck? `larder-storm` (storm/) runs the
 * same code for as long as one likes. */
#include "storm/storm.h"

static void run_storm(const char *what, bool replicating) {
    struct fixture_random random = fixture_seed(what);
    struct storm_plan plan = {.seed = fixture_next(&random),
                              .kills = FIXTURE_SANITIZED ? 150 : 1500,
                              .reads = FIXTURE_SANITIZED ? 2000 : 150000,
                              .size = 128u << 10,
                              .stripes = 2,
                              .writers = 3,
                              .readers = 1,
                              .keys = 2000,
                              .life_us = FIXTURE_SANITIZED ? 4000 : 200,
                              .join_us = FIXTURE_SANITIZED ? 4000 : 200,
                              .value_max = 600,
                              .calm_kills = FIXTURE_SANITIZED ? 50 : 750,
                              .replicating = replicating};
    struct storm_result result;
    bool held = storm_run(&plan, &result);
    printf("\n    %llu kills, %llu of them in a critical section, %llu reads judged, %llu repairs, longest call %llu "
           "ms\n   ",
           (unsigned long long)result.kills, (unsigned long long)result.takeovers, (unsigned long long)result.judged,
           (unsigned long long)result.repairs, (unsigned long long)(result.longest_ns / 1000000));
    if (!held)
        printf(" %s\n   ", result.broken);
    CU_ASSERT(held);
    CU_ASSERT(result.kills >= plan.kills && result.judged >= plan.reads);
    CU_ASSERT(result.checks >= 2);
    /* It did hit what it aims at. */
    CU_ASSERT(FIXTURE_SANITIZED || result.takeovers > result.kills / 20);
    CU_ASSERT(FIXTURE_SANITIZED || (result.evictions > 0 && result.slides > 0 && result.expirations > 0));
}

static void a_kill_storm_loses_and_resurrects_nothing(void) {
    run_storm("kill storm", false);
}

static void a_kill_storm_with_tombstones_loses_and_resurrects_nothing(void) {
    run_storm("kill storm, replicating", true);
}

void larder_suite_70_crash(void) {
    CU_pSuite suite = CU_add_suite("70_crash", NULL, NULL);
    CU_ADD_TEST(suite, a_kill_storm_loses_and_resurrects_nothing);
    CU_ADD_TEST(suite, a_kill_storm_with_tombstones_loses_and_resurrects_nothing);
}
