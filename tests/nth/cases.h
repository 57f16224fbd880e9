/* SPDX-License-Identifier: MIT */
/* What is done while a call fails, and what may come of it. */
#ifndef CASES_H
#define CASES_H

#include "nth.h"
#include "spot.h"

#define CASE_PATIENCE_S 20u
#define FAULT_BYTES 700u

/* One job's: its control, its segment's name, the children's words. In shared memory. */
struct bench {
    struct nth_control control;
    uint64_t libuv_aborts;   /* of programs.c */
    char fault[FAULT_BYTES]; /* of the last case; "": none */
    char file[160];          /* where `control` lies, for programs under test */
    struct spot spot;
    char program_out[200], program_err[200]; /* files */
    /* programs.c: a healthy daemon, peer of the one under test */
    struct spot peer;
    unsigned port, peer_port;
    int peer_pid;
};

__attribute__((format(printf, 2, 3))) bool case_fails(struct bench *bench, const char *format, ...);

/* A scenario: run once with the control set. False: bench->fault says what is wrong. */
struct nth_scenario {
    const char *name;
    bool (*run)(struct bench *bench, unsigned which);
    unsigned which;
    bool (*begin)(struct bench *bench); /* once for each job; NULL none */
    void (*end)(struct bench *bench);
    bool is_program;
};

extern const struct nth_scenario library_scenarios[], program_scenarios[];
extern const unsigned library_scenario_count, program_scenario_count;

#endif
