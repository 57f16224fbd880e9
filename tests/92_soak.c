/* SPDX-License-Identifier: MIT */
/*
 * tools/soak: does what long runs add up to stand in the ledger, does a failure show, and can it be stopped and gone on
 * with? The rows are harnesses for a moment, and commands that print what harnesses print.
 */
#include "fixture.h"

#include <string.h>

#define OUT_BYTES 65536u
static char out[OUT_BYTES];
static const char *folder;

/* A file of goals with these lines, and no ledger. */
static void begin(const char *rows) {
    char path[256];
    folder = fixture_folder();
    snprintf(path, sizeof path, "%s/goals", folder);
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT(fputs(rows, file) >= 0);
    CU_ASSERT_EQUAL(fclose(file), 0);
    snprintf(path, sizeof path, "%s/ledger.tsv", folder);
    (void)unlink(path);
}

/* Its exit status; `out` has what it said. `before` stands before the command. */
static int soak(const char *before, const char *arguments) {
    char command[2048];
    snprintf(command, sizeof command, "%s %s/tools/soak --build %s --goals %s/goals --ledger %s/ledger.tsv %s", before,
             LARDER_SOURCE_DIR, LARDER_BUILD_DIR, folder, folder, arguments);
    return fixture_run(command, out, sizeof out);
}

static void expect(const char *text) {
    if (strstr(out, text) == NULL)
        printf("\n    \"%s\" is not in: %.2000s\n", text, out);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, text));
}

/* What a command prints for every line of the ledger. */
static void expect_of_ledger(const char *program, const char *wanted) {
    char command[512];
    snprintf(command, sizeof command, "%s %s/ledger.tsv", program, folder);
    CU_ASSERT_EQUAL(fixture_run(command, out, sizeof out), 0);
    if (strcmp(out, wanted) != 0)
        printf("\n    %s: %.500s\n", command, out);
    CU_ASSERT_STRING_EQUAL(out, wanted);
}

static void rounds_are_written_down_and_add_up_over_runs(void) {
    begin("# a comment\n"
          "G91|-|echo GOAL G91 count=40 unit=spoons failures=0 seconds=1.5 seed=SEED|G91=100\n"
          "G92 G93|-|echo GOAL G92 count=7 unit=forks failures=0 seconds=2; echo GOAL G93 count=1 unit=knives "
          "failures=0 seconds=2|G92=10 G93=100\n"
          "G94|-|-|\n");
    /* The first row, for all are equal; the second, which is behind; the second again, at a hundredth of its aim. */
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(soak("", "--minutes 0"), 0);
    expect("1 rounds, 0 failed");
    expect_of_ledger("cut -f3-7", "G91\t40\tspoons\t0\t1.5\nG92\t7\tforks\t0\t2\nG93\t1\tknives\t0\t2\n"
                                  "G92\t7\tforks\t0\t2\nG93\t1\tknives\t0\t2\n");
    expect_of_ledger("awk -F'\\t' 'NF != 8 || $1 !~ /^20..-..-..T..:..:..Z$/ || $2 == \"\"'", "");
    CU_ASSERT_EQUAL(soak("", "--totals"), 0);
    expect("G91           40 spoons                40.0 %         0");
    expect("G92           14 forks                140.0 %         0");
    expect("G93            2 knives                 2.0 %         0");
}

static void a_failure_shows_and_is_kept(void) {
    begin("G91|-|echo GOAL G91 count=1 unit=x failures=1 seconds=1; echo so it broke; exit 1|G91=100\n"
          "G92|-|echo SKIPPED: not here; exit 77|G92=100\n"
          "G93|-|true|G93=100\n");
    CU_ASSERT_EQUAL(soak("", "--minutes 1"), 1); /* all rows have failed or been skipped: no minute is waited */
    expect("FAILED (1)");
    expect("so it broke");
    expect("SKIPPED");
    expect("printed no GOAL line");
    expect("3 rounds, 2 failed");
    char command[300];
    snprintf(command, sizeof command, "grep -l 'so it broke' %s/failed-*.log", folder);
    CU_ASSERT_EQUAL(fixture_run(command, out, sizeof out), 0);
    CU_ASSERT_EQUAL(soak("", "--minutes x"), 2);
    CU_ASSERT_EQUAL(soak("", "--minutes 0 G99"), 2);
    CU_ASSERT_EQUAL(soak("", "--frequently"), 2);
}

/* Half a minute is given to the last command in any case. */
static void a_command_is_told_no_longer_than_is_left(void) {
    begin("G91|-|echo GOAL G91 count=1 unit=x failures=0 seconds=1; echo --seconds 12 and --seconds 600 of 600; "
          "exit 1|G91=100\n");
    CU_ASSERT_EQUAL(soak("", "--minutes 0"), 1);
    expect("--seconds 12 and --seconds 30 of 600");
    CU_ASSERT_EQUAL(soak("", "--minutes 5"), 1);
    CU_ASSERT(strstr(out, "--seconds 300 of 600") != NULL || strstr(out, "--seconds 299 of 600") != NULL);
}

/* timeout's TERM to the script alone; what it had started must end with it. */
static void it_can_be_stopped_and_gone_on_with(void) {
    char row[160], search[80];
    const int own = 1000000 + (int)getpid(); /* told from what others do */
    snprintf(row, sizeof row, "G91|-|echo GOAL G91 count=1 unit=x failures=0 seconds=1; exec sleep 87.%d|G91=100\n",
             own);
    snprintf(search, sizeof search, "pgrep -fx 'sleep 87.%d'", own);
    begin(row);
    CU_ASSERT_EQUAL(soak("exec timeout --preserve-status --foreground --signal=INT 1", "--minutes 1"), 130);
    expect("stopped");
    expect("of the aim");
    expect_of_ledger("cat", "");
    CU_ASSERT_NOT_EQUAL(fixture_run(search, out, sizeof out), 0);
}

static void a_harness_for_a_moment(void) {
    if (access(fixture_program("larder-steps"), X_OK) != 0) {
        fixture_skip(__func__, "this build has no larder-steps");
        return;
    }
    begin("G2|-|larder-steps --count 1 --jobs 1 --seed 0x5|G2=1000\n");
    int status = soak("", "--minutes 0 G2");
    CU_ASSERT_EQUAL(status, 0);
    if (strstr(out, "SKIPPED") == NULL)
        expect_of_ledger("awk -F'\\t' '{ print $3, ($4 > 0), $5, $6, substr($8, 1, 2) }'", "G2 1 images 0 0x\n");
}

void larder_suite_92_soak(void) {
    CU_pSuite suite = CU_add_suite("92_soak", NULL, NULL);
    CU_ADD_TEST(suite, rounds_are_written_down_and_add_up_over_runs);
    CU_ADD_TEST(suite, a_failure_shows_and_is_kept);
    CU_ADD_TEST(suite, a_command_is_told_no_longer_than_is_left);
    CU_ADD_TEST(suite, it_can_be_stopped_and_gone_on_with);
    CU_ADD_TEST(suite, a_harness_for_a_moment);
}
