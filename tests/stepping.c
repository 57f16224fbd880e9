/* SPDX-License-Identifier: MIT */
#include "stepping.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define STEPS_MAX 4000000u
#define PATIENCE_S 120u
#define TRAP_FLAG 0x100 /* of the processor: an exception after each instruction, which Linux makes a SIGTRAP */
#define ENDED 0
#define ENDLESS 3

/* What a child writes: its parent reads it when it has ended, however. */
struct stepping_log {
    unsigned count, there_were;
    uint64_t steps, passed_over, random;
    unsigned numbers[];
};

/* Of the child, whose handler has no other way to it. */
static struct {
    struct stepping *stepping;
    const struct scenario *s;
    uint8_t *last; /* the segment as it was after the instruction before */
    _Atomic bool on;
} child_self;

static uint8_t *image_at(const struct stepping *stepping, unsigned i) {
    return stepping->images + (size_t)i * SCENARIO_IMAGE_BYTES;
}

/* The place of the next image: a new one, that of an earlier one which it replaces, or NULL. */
static uint8_t *place_of_next(const struct stepping *stepping) {
    struct stepping_log *log = stepping->log;
    const unsigned number = log->there_were++;
    log->random = log->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    unsigned i = log->count < stepping->most ? log->count : (unsigned)((log->random >> 33) % (number + 1));
    if (i >= stepping->most)
        return NULL;
    log->count += i == log->count;
    log->numbers[i] = number;
    return image_at(stepping, i);
}

/* The segment as it is now, if it differs from `last` by more than what is passed over. */
static void keep(void) {
    const struct stepping *stepping = child_self.stepping;
    bool passed_over = stepping->log->there_were > 0 && stepping->share > 1 &&
                       scenario_is_payload_only(child_self.s, child_self.last) &&
                       ++stepping->log->passed_over % stepping->share != 0;
    scenario_read_image(child_self.s, child_self.last);
    uint8_t *image = passed_over ? NULL : place_of_next(stepping);
    if (image != NULL)
        memcpy(image, child_self.last, SCENARIO_IMAGE_BYTES);
}

/* After each instruction of the operation; it runs with the flag cleared, and by returning sets it again. */
static void stepped(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
#ifdef __x86_64__
    if (!child_self.on)
        ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
#else
    (void)context;
#endif
    if (!child_self.on)
        return;
    if (++child_self.stepping->log->steps >= STEPS_MAX)
        _exit(ENDLESS);
    if (!scenario_is_unchanged(child_self.s, child_self.last))
        keep();
}

/* From the instruction after it on. The compiler may keep values in 128 bytes below the stack pointer. */
static inline void set_trap_flag(void) {
#ifdef __x86_64__
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\torq %0, (%%rsp)\n\tpopfq\n\tlea 128(%%rsp), %%rsp"
                     :
                     : "i"(TRAP_FLAG)
                     : "memory", "cc");
#endif
}

static _Noreturn void operate_stepwise(struct scenario *s, struct stepping *stepping) {
    static uint8_t stack[1 << 16];
    const stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = stepped, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    uint8_t byte;
    alarm(PATIENCE_S);
    /* The child joins first, unless that is the operation. */
    if (s->operation != JOIN)
        lr_get(s->victim, "join", 4, &byte, 1, NULL, LR_PEEK);
    child_self.stepping = stepping;
    child_self.s = s;
    child_self.last = malloc(SCENARIO_IMAGE_BYTES);
    if (child_self.last == NULL || sigaltstack(&own, NULL) != 0 || sigaction(SIGTRAP, &action, NULL) != 0)
        _exit(1);
    keep();
    child_self.on = true;
    set_trap_flag();
    scenario_operate(s);
    child_self.on = false;
    _exit(ENDED);
}

static bool make_room(struct stepping *stepping) {
    const size_t log_bytes = sizeof *stepping->log + stepping->most * sizeof(unsigned);
    const int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
    stepping->bytes = (size_t)stepping->most * SCENARIO_IMAGE_BYTES + log_bytes;
    void *room = mmap(NULL, stepping->bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    stepping->images = room == MAP_FAILED ? NULL : room;
    if (room == MAP_FAILED)
        return false;
    stepping->log = (struct stepping_log *)(void *)image_at(stepping, stepping->most);
    stepping->log->random = stepping->random;
    return true;
}

int stepping_collect(struct scenario *s, struct stepping *stepping) {
    int status = 1;
#ifndef __x86_64__
    return 77;
#endif
    if (!make_room(stepping)) {
        snprintf(s->what, sizeof s->what, "there is no memory for %u images", stepping->most);
        return 1;
    }
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        operate_stepwise(s, stepping);
    while (child > 0 && waitpid(child, &status, 0) != child && errno == EINTR)
        continue;
    stepping->count = stepping->log->count;
    stepping->there_were = stepping->log->there_were;
    stepping->steps = stepping->log->steps;
    stepping->numbers = stepping->log->numbers;
    if (status != ENDED)
        snprintf(s->what, sizeof s->what, "the stepped operation did not come to its end (status %x)",
                 (unsigned)status);
    return status == ENDED ? 0 : 1;
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
    scenario_write_image(s, image_at(stepping, i));
    scenario_look(s);
    if (stepping->numbers[i] % 16 == 5 && !s->holds)
        die_repairing(s, random);
    return scenario_take_over(s) && scenario_judge(s);
}

void stepping_free(struct stepping *stepping) {
    if (stepping->images != NULL)
        munmap(stepping->images, stepping->bytes);
    *stepping = (struct stepping){.share = stepping->share, .most = stepping->most};
}
