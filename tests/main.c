/* SPDX-License-Identifier: MIT */
/*
 * larder-tests [--list] [--first] [SUITE...]
 *
 * Runs the suites in the order of their numbers, or those that were named, in full ("80_client") or by number ("80").
 * A suite is a file NN_name.c that defines `void larder_suite_NN_name(void)`, which adds one CUnit suite with its
 * tests; the build makes the table below from the files it finds. Ends with CUnit's summary, or with --first after the
 * first test that fails (larder-plant wants to know no more). Exit status: 0 all passed, 1 a test failed, 2 the runner
 * could not do its work.
 */
#include "fixture.h"

#include <CUnit/CUnit.h>
#include <CUnit/TestRun.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUITE(name) void larder_suite_##name(void);
#include "suites.inc"
#undef SUITE

static const struct suite {
    const char *name;
    void (*add)(void);
} suites[] = {
#define SUITE(name) {#name, larder_suite_##name},
#include "suites.inc"
#undef SUITE
    {NULL, NULL},
};

static uint64_t test_started_ns;
static bool first_only;

static void print_suite(const CU_pSuite suite) {
    printf("\n%s\n", suite->pName);
}

static void print_test(const CU_pTest test, const CU_pSuite suite) {
    (void)suite;
    printf("  %s ...", test->pName);
    fflush(stdout);
    test_started_ns = fixture_now_ns();
}

static void print_result(const CU_pTest test, const CU_pSuite suite, const CU_pFailureRecord failures) {
    (void)suite;
    unsigned long ms = (unsigned long)((fixture_now_ns() - test_started_ns) / 1000000);
    if (failures == NULL)
        printf(" passed (%lu ms)\n", ms);
    else
        printf(" FAILED %s (%lu ms)\n", test->pName, ms);
    for (CU_pFailureRecord f = failures; f != NULL; f = f->pNext)
        printf("    %s:%u: %s\n", f->strFileName, f->uiLineNumber, f->strCondition);
    fflush(stdout);
    if (failures != NULL && first_only)
        exit(1);
}

static bool is_named(const struct suite *suite, char **names, int count) {
    for (int i = 0; i < count; i++)
        if (strcmp(suite->name, names[i]) == 0 || (strlen(names[i]) == 2 && strncmp(suite->name, names[i], 2) == 0))
            return true;
    return false;
}

static bool all_names_exist(char **names, int count) {
    for (int i = 0; i < count; i++) {
        const struct suite *suite = suites;
        while (suite->name != NULL && !is_named(suite, names + i, 1))
            suite++;
        if (suite->name == NULL) {
            fprintf(stderr, "larder-tests: there is no suite \"%s\"; --list shows them\n", names[i]);
            return false;
        }
    }
    return true;
}

/* Programs under test must not get a log file or a socket as their standard input or output. */
static void open_standard_files(void) {
    int fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2)
        fd = open("/dev/null", O_RDWR);
    if (fd > 2)
        close(fd);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (const struct suite *suite = suites; suite->name != NULL; suite++)
            puts(suite->name);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--first") == 0) {
        first_only = true;
        argv++;
        argc--;
    }
    if (argc > 1 && argv[1][0] == '-') {
        fprintf(stderr, "usage: larder-tests [--list] [--first] [SUITE...]\n");
        return 2;
    }
    open_standard_files();
    if (!all_names_exist(argv + 1, argc - 1) || CU_initialize_registry() != CUE_SUCCESS)
        return 2;
    fixture_init();
    for (const struct suite *suite = suites; suite->name != NULL; suite++)
        if (argc == 1 || is_named(suite, argv + 1, argc - 1))
            suite->add();
    if (CU_get_error() != CUE_SUCCESS || CU_get_registry()->uiNumberOfTests == 0) {
        fprintf(stderr, "larder-tests: no tests, or a suite that cannot be added (a name given twice?): %s\n",
                CU_get_error_msg());
        return 2;
    }
    CU_set_suite_start_handler(print_suite);
    CU_set_test_start_handler(print_test);
    CU_set_test_complete_handler(print_result);
    CU_ErrorCode error = CU_run_all_tests();
    bool failed = error != CUE_SUCCESS || CU_get_number_of_failure_records() > 0 ||
                  CU_get_number_of_tests_run() < CU_get_registry()->uiNumberOfTests;
    fixture_print_skips();
    CU_print_run_results(stdout);
    CU_cleanup_registry();
    return failed ? 1 : 0;
}
