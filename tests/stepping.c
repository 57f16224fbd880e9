/* SPDX-License-Identifier: MIT */
#include "stepping.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STEPS_MAX 4000000u
#define PATIENCE_S 120u

static void operate_stepwise(struct scenario *s) {
    uint8_t byte;
    alarm(PATIENCE_S);
    /* The child joins first, unless that is the operation. */
    if (s->operation != JOIN)
        lr_get(s->victim, "join", 4, &byte, 1, NULL, LR_PEEK);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(77);
    raise(SIGSTOP);
    scenario_operate(s);
    raise(SIGSTOP);
    _exit(0);
}

/* The place of the next image: a new one, that of an earlier one which it replaces, or NULL. */
static uint8_t *place_of_next(struct stepping *stepping) {
    const unsigned number = stepping->there_were++;
    stepping->random = stepping->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    unsigned i =
        stepping->count < stepping->most ? stepping->count : (unsigned)((stepping->random >> 33) % (number + 1));
    if (i >= stepping->most)
        return NULL;
    if (i == stepping->count && (stepping->images[stepping->count++] = malloc(SCENARIO_IMAGE_BYTES)) == NULL)
        abort();
    stepping->numbers[i] = number;
    return stepping->images[i];
}

/* The segment as it is now, if it differs from `last` by more than what is passed over. */
static void keep(struct stepping *stepping, const struct scenario *s, uint8_t *last) {
    bool passed_over = stepping->there_were > 0 && stepping->share > 1 && scenario_is_payload_only(s, last) &&
                       ++stepping->passed_over % stepping->share != 0;
    scenario_read_image(s, last);
    uint8_t *image = passed_over ? NULL : place_of_next(stepping);
    if (image != NULL)
        memcpy(image, last, SCENARIO_IMAGE_BYTES);
}

static int step_through(struct scenario *s, struct stepping *stepping, pid_t child, uint8_t *last) {
    int status = 0;
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
        return WIFEXITED(status) && WEXITSTATUS(status) == 77 ? 77 : 1;
    scenario_read_image(s, last);
    keep(stepping, s, last);
    while (stepping->steps < STEPS_MAX) {
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0 || waitpid(child, &status, 0) != child)
            break;
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
            break; /* the second stop: the operation is over */
        stepping->steps++;
        if (!scenario_is_unchanged(s, last))
            keep(stepping, s, last);
    }
    return WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP ? 0 : 1;
}

int stepping_collect(struct scenario *s, struct stepping *stepping) {
    uint8_t *last = malloc(SCENARIO_IMAGE_BYTES);
    int status;
    stepping->images = calloc(stepping->most, sizeof *stepping->images);
    stepping->numbers = calloc(stepping->most, sizeof *stepping->numbers);
    stepping->count = stepping->there_were = 0;
    stepping->steps = stepping->passed_over = 0;
    if (last == NULL || stepping->images == NULL || stepping->numbers == NULL) {
        free(last);
        return 1;
    }
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        operate_stepwise(s);
    int result = step_through(s, stepping, child, last);
    free(last);
    if (result == 1)
        snprintf(s->what, sizeof s->what, "the stepped operation did not come to its end");
    if (result != 77)
        kill(child, SIGKILL);
    while (waitpid(child, &status, 0) != child && errno == EINTR)
        continue;
    return result;
}

/* A survivor that dies during its repair. */
static void die_repairing(struct scenario *s, uint64_t random) {
    struct timespec pause = {.tv_nsec = 100000 + (long)(random % 300000)};
    struct lr_view view;
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(PATIENCE_S);
        if (lr_enter(s->victim) == 0 && lr_stripe_lock(&view, s->victim, 0) == 0)
            lr_stripe_unlock(&view);
        _exit(0);
    }
    nanosleep(&pause, NULL);
    kill(child, SIGKILL);
    while (waitpid(child, &status, 0) != child && errno == EINTR)
        continue;
}

bool stepping_judge(struct scenario *s, const struct stepping *stepping, unsigned i, uint64_t random) {
    scenario_write_image(s, stepping->images[i]);
    scenario_look(s);
    if (stepping->numbers[i] % 16 == 5 && !s->holds)
        die_repairing(s, random);
    return scenario_take_over(s) && scenario_judge(s);
}

void stepping_free(struct stepping *stepping) {
    for (unsigned i = 0; i < stepping->count; i++)
        free(stepping->images[i]);
    free(stepping->images);
    free(stepping->numbers);
    *stepping = (struct stepping){.share = stepping->share, .most = stepping->most};
}
