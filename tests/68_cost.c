/* SPDX-License-Identifier: MIT */
/* What operations cost, in figures that noise cannot change: larder-cost (tests/cost) counts and judges. */
#include "fixture.h"

#include <string.h>
#include <unistd.h>

static void operations_take_the_instructions_that_they_took(void) {
    static const char name[] = "operations_take_the_instructions_that_they_took";
    static char command[4200], output[1 << 16];
    if (access(fixture_program("larder-cost"), X_OK) != 0) {
        fixture_skip(name, "this build has no larder-cost: a sanitizer's instructions are not those that are shipped");
        return;
    }
    snprintf(command, sizeof command, "'%s'", fixture_program("larder-cost"));
    int status = fixture_run(command, output, sizeof output);
    if (status == 77) {
        fixture_skip(name, "valgrind is not installed (Debian: valgrind)");
        return;
    }
    if (status != 0)
        printf("\n%s", output);
    CU_ASSERT_EQUAL(status, 0);
    if (strstr(output, "reported, not judged") != NULL)
        fixture_skip(name, "the table tests/cost/instructions has no rows of this compiler");
}

void larder_suite_68_cost(void) {
    CU_pSuite suite = CU_add_suite("68_cost: instructions, clock reads and page faults", NULL, NULL);
    CU_ADD_TEST(suite, operations_take_the_instructions_that_they_took);
}
