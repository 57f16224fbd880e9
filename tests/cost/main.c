/* SPDX-License-Identifier: MIT */
/*
 * Does an operation take more instructions than it did?
 *
 * Nanoseconds on a shared machine change by half from run to run; instructions do not. This program runs itself under
 * valgrind's callgrind, which counts those of each function counted_NAME() (operations.c) and all that it calls, and
 * compares with the table `instructions`, kept for each compiler version. It also looks whether what must not read a
 * clock reads none, and, without valgrind, whether a segment that is in memory causes page faults.
 *
 *   larder-cost -> valgrind larder-cost --work -> one file for each operation: its name, its sum, the functions called
 */
#include "operations.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAULTS 4 /* that the kernel may cause on its own account */
#define SKIPPED 77

struct count {
    double instructions; /* of one operation; 0: not counted */
    bool clock;          /* a clock was read */
};

static const struct {
    const char *name;
    double tolerance;
    bool clock;
    const char *sentence;
} operations[COST_OPERATION_COUNT] = {
#define X(name, tolerance, clock, sentence) {#name, tolerance, clock, sentence},
    COST_OPERATIONS(X)
#undef X
};

static const char *compiler(void) {
    static char text[32];
#if defined(__clang__)
    snprintf(text, sizeof text, "clang-%d.%d", __clang_major__, __clang_minor__);
#else
    snprintf(text, sizeof text, "gcc-%d.%d", __GNUC__, __GNUC_MINOR__);
#endif
    return text;
}

/* ---- counting --------------------------------------------------------------------------------------------------- */

static int run_valgrind(const char *folder) {
    char self[4096], out[4200];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len <= 0)
        return 1;
    self[len] = '\0';
    snprintf(out, sizeof out, "--callgrind-out-file=%s/out", folder);
    char *words[] = {"valgrind",
                     "-q",
                     "--tool=callgrind",
                     "--toggle-collect=counted_*",
                     "--compress-strings=no",
                     "--compress-pos=no",
#define X(name, tolerance, clock, sentence) "--dump-after=counted_" #name,
                     COST_OPERATIONS(X)
#undef X
                         out,
                     self,
                     "--work",
                     NULL};
    pid_t pid = fork();
    if (pid == 0) {
        execvp("valgrind", words);
        _exit(SKIPPED);
    }
    int status;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* A file of callgrind: which operation, how much, and what was called. */
static void read_dump(const char *file, struct count counts[COST_OPERATION_COUNT]) {
    char line[1024];
    double sum = 0;
    unsigned operation = COST_OPERATION_COUNT;
    bool clock = false;
    FILE *in = fopen(file, "re");
    if (in == NULL)
        return;
    while (fgets(line, sizeof line, in) != NULL) {
        const char *name = strstr(line, "--dump-after=counted_");
        for (unsigned i = 0; name != NULL && i < COST_OPERATION_COUNT; i++)
            if (strcspn(name + 21, "\n") == strlen(operations[i].name) &&
                strncmp(name + 21, operations[i].name, strlen(operations[i].name)) == 0)
                operation = i;
        if (strncmp(line, "summary:", 8) == 0)
            sum = strtod(line + 8, NULL);
        clock = clock || (strncmp(line, "cfn=", 4) == 0 && strstr(line, "clock_gettime") != NULL);
    }
    fclose(in);
    if (operation < COST_OPERATION_COUNT)
        counts[operation] = (struct count){sum / COST_TIMES, clock};
}

/* 0, SKIPPED or 1. */
static int count_all(struct count counts[COST_OPERATION_COUNT]) {
    char folder[] = "/tmp/larder-cost.XXXXXX", file[512];
    if (mkdtemp(folder) == NULL)
        return 1;
    int result = run_valgrind(folder);
    DIR *list = opendir(folder);
    for (struct dirent *entry; list != NULL && (entry = readdir(list)) != NULL;) {
        snprintf(file, sizeof file, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] == '.')
            continue;
        read_dump(file, counts);
        unlink(file);
    }
    if (list != NULL)
        closedir(list);
    rmdir(folder);
    return result;
}

/* ---- judging ---------------------------------------------------------------------------------------------------- */

/* What the table says for this compiler; 0: nothing. */
static double known(const char *operation) {
    char line[256], version[64], name[64];
    double value, found = 0;
    FILE *in = fopen(LARDER_COST_TABLE, "re");
    while (in != NULL && fgets(line, sizeof line, in) != NULL)
        if (sscanf(line, "%63s %63s %lf", version, name, &value) == 3 && strcmp(version, compiler()) == 0 &&
            strcmp(name, operation) == 0)
            found = value;
    if (in != NULL)
        fclose(in);
    return found;
}

static unsigned judge(const struct count counts[COST_OPERATION_COUNT]) {
    unsigned failures = 0;
    bool any = false;
    for (unsigned i = 0; i < COST_OPERATION_COUNT; i++) {
        double expected = known(operations[i].name), actual = counts[i].instructions;
        double change = expected > 0 ? 100.0 * (actual / expected - 1.0) : 0;
        bool wrong = actual <= 0 || (expected > 0 && fabs(change) > operations[i].tolerance);
        bool clock = counts[i].clock && !operations[i].clock;
        any = any || expected > 0;
        printf("%-14s %8.1f", operations[i].name, actual);
        if (expected > 0)
            printf("  %8.1f  %+5.1f %%, at most %g%s", expected, change, operations[i].tolerance,
                   !wrong       ? ""
                   : change < 0 ? "  BETTER: record it"
                                : "  FAILED");
        printf("%s  %s\n", clock ? "  FAILED: reads a clock" : "", operations[i].sentence);
        failures += wrong + clock;
    }
    if (!any)
        printf("%s is not in the table: reported, not judged. larder-cost --record prints its rows.\n", compiler());
    /* A guard that would not see a clock guards nothing. */
    if (!counts[COST_get_deadline].clock) {
        printf("FAILED: the clock of an item that expires was not seen\n");
        failures++;
    }
    return failures;
}

static unsigned judge_faults(void) {
    const long faults = cost_faults(true), otherwise = cost_faults(false);
    printf("page faults of 850,000 operations: %ld in a segment that is in memory, %ld in one that is not mapped yet\n",
           faults, otherwise);
    if (faults >= 0 && faults <= FAULTS && otherwise > FAULTS)
        return 0;
    printf("FAILED: at most %d are expected, and more else, or they would not be seen\n", FAULTS);
    return 1;
}

int main(int argc, char **argv) {
    static struct count counts[COST_OPERATION_COUNT];
    const char *word = argc == 2 ? argv[1] : "";
    if (argc > 2 || (argc == 2 && strcmp(word, "--work") != 0 && strcmp(word, "--record") != 0)) {
        bool help = strcmp(word, "--help") == 0;
        fprintf(help ? stdout : stderr, "usage: larder-cost [--record]\n"
                                        "Counts the instructions of each operation and compares them with the table "
                                        "tests/cost/instructions.\n"
                                        "  --record  prints the rows of this compiler for that table\n"
                                        "Exit status: 0 as expected, 1 not, 2 usage, 77 there is no valgrind here.\n");
        return help ? 0 : 2;
    }
    if (strcmp(word, "--work") == 0)
        return cost_work() == 0 ? 0 : 1;
    int result = count_all(counts);
    if (result == SKIPPED) {
        printf("SKIPPED: valgrind is not installed (Debian: valgrind)\n");
        return SKIPPED;
    }
    if (result != 0) {
        printf("FAILED: the operations did not do what was asked\n");
        return 1;
    }
    if (strcmp(word, "--record") == 0) {
        for (unsigned i = 0; i < COST_OPERATION_COUNT; i++)
            printf("%s %s %.1f\n", compiler(), operations[i].name, counts[i].instructions);
        return 0;
    }
    unsigned failures = judge(counts) + judge_faults();
    return failures == 0 ? 0 : 1;
}
