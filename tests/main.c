/* SPDX-License-Identifier: MIT */
/*
 * larder-tests [--list] [--first] [SUITE[:TEST]...]
 *
 * Runs the suites in the order of their numbers, or those that were named, in full ("80_client") or by number ("80"),
 * or single tests of them ("80:an_empty_key_is_refused").
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

#define MOST_NAMED 1000u

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

/* Whether the argument names this suite, or a test of it: then *test is its name, else NULL. */
static bool is_named_by(const struct suite *suite, const char *argument, const char **test) {
    const size_t len = strcspn(argument, ":");
    *test = argument[len] == ':' ? argument + len + 1 : NULL;
    return (len == 2 || len == strlen(suite->name)) && strncmp(suite->name, argument, len) == 0;
}

static bool is_test_named_by(const CU_pTest test, const struct suite *suite, const char *argument) {
    const char *name;
    return is_named_by(suite, argument, &name) && (name == NULL || strcmp(name, test->pName) == 0);
}

/* Leaves those tests active that are named. */
static void choose_tests(const struct suite *suite, CU_pSuite added, char **arguments) {
    for (CU_pTest test = added->pTest; test != NULL; test = test->pNext) {
        char **argument = arguments;
        while (*argument != NULL && !is_test_named_by(test, suite, *argument))
            argument++;
        CU_set_test_active(test, *argument != NULL ? CU_TRUE : CU_FALSE);
    }
}

static void list_suite(const struct suite *suite, CU_pSuite added) {
    puts(suite->name);
    for (CU_pTest test = added->pTest; test != NULL; test = test->pNext)
        printf("    %s:%s\n", suite->name, test->pName);
}

/* Adds the suite if it is named, or nothing is; marks what named it as `found`. */
static CU_pSuite add_suite(const struct suite *suite, char **arguments, bool *found) {
    const char *name;
    bool named = arguments[0] == NULL;
    for (unsigned i = 0; arguments[i] != NULL; i++)
        named = is_named_by(suite, arguments[i], &name) || named;
    if (!named)
        return NULL;
    suite->add();
    CU_pSuite added = CU_get_registry()->pSuite;
    while (added != NULL && added->pNext != NULL)
        added = added->pNext;
    if (added == NULL || arguments[0] == NULL)
        return added;
    choose_tests(suite, added, arguments);
    for (unsigned i = 0; arguments[i] != NULL; i++)
        for (CU_pTest test = added->pTest; test != NULL; test = test->pNext)
            found[i] = found[i] || is_test_named_by(test, suite, arguments[i]);
    return added;
}

static bool all_were_found(char **arguments, const bool *found) {
    for (unsigned i = 0; arguments[i] != NULL; i++) {
        if (found[i])
            continue;
        fprintf(stderr, "larder-tests: there is no suite or test \"%s\"; --list shows them\n", arguments[i]);
        return false;
    }
    return true;
}

static unsigned count_active(void) {
    unsigned count = 0;
    for (CU_pSuite suite = CU_get_registry()->pSuite; suite != NULL; suite = suite->pNext)
        for (CU_pTest test = suite->pTest; test != NULL; test = test->pNext)
            count += test->fActive != CU_FALSE;
    return count;
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
    static bool found[MOST_NAMED];
    bool listing = false;
    char **arguments = argv + 1;
    for (; *arguments != NULL && arguments[0][0] == '-'; arguments++) {
        if (strcmp(*arguments, "--list") == 0) {
            listing = true;
        } else if (strcmp(*arguments, "--first") == 0) {
            first_only = true;
        } else {
            fprintf(stderr, "usage: larder-tests [--list] [--first] [SUITE[:TEST]...]\n");
            return 2;
        }
    }
    if (argc > (int)MOST_NAMED || CU_initialize_registry() != CUE_SUCCESS)
        return 2;
    open_standard_files();
    for (const struct suite *suite = suites; suite->name != NULL; suite++) {
        CU_pSuite added = add_suite(suite, arguments, found);
        if (listing && added != NULL)
            list_suite(suite, added);
    }
    if (!all_were_found(arguments, found))
        return 2;
    if (CU_get_error() != CUE_SUCCESS || CU_get_registry()->uiNumberOfTests == 0) {
        fprintf(stderr, "larder-tests: no tests, or a suite that cannot be added (a name given twice?): %s\n",
                CU_get_error_msg());
        return 2;
    }
    if (listing)
        return 0;
    fixture_init();
    CU_set_fail_on_inactive(CU_FALSE);
    CU_set_suite_start_handler(print_suite);
    CU_set_test_start_handler(print_test);
    CU_set_test_complete_handler(print_result);
    CU_ErrorCode error = CU_run_all_tests();
    bool failed =
        error != CUE_SUCCESS || CU_get_number_of_failure_records() > 0 || CU_get_number_of_tests_run() < count_active();
    fixture_print_skips();
    CU_print_run_results(stdout);
    CU_cleanup_registry();
    return failed ? 1 : 0;
}
