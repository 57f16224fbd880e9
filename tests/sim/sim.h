/* SPDX-License-Identifier: MIT */
/*
 * The simulator's parts and how they call each other.
 *
 *   main.c       options, workers, totals
 *   scenario.c   the table of scenarios; one schedule from its seed to its verdict
 *   script.c     what a simulated process does: calls of the core, one after the other
 *   world.c      the segment and the states that schedules start from
 *   history.c    what was called, what came back, and whether that is possible
 *   machine.c    coroutines, who runs next, deaths, stops
 *   runtime.c    the compiler's hooks: every access to the segment; store buffers; the undo log
 *   kernel.c     the system calls of the core: futex, locks on bytes, descriptors, clocks
 *   trace.c      one schedule in readable form
 *
 * Rules:
 *  1. A schedule follows from {seed, number} alone. Nothing may depend on addresses outside the segment, on real time,
 *     or on schedules that ran before.
 *  2. What a schedule changes is undone: segment by the log, handles and kernel by copies.
 */
#ifndef SIM_H
#define SIM_H

#include "attachment.h"
#include "cache.h"

#define SIM_PROCESSES 4u
#define SIM_DOCTOR SIM_PROCESSES        /* looks after the segment when the others are done */
#define SIM_HANDLES (SIM_PROCESSES + 1) /* all of them have joined when a schedule begins */
#define SIM_NOBODY SIM_HANDLES          /* the simulator itself: worlds are built by it */
#define SIM_FIRST_NUMBER 100            /* of the counter */
#define SIM_STORES 32u                  /* store buffer of one process */
#define SIM_FILTER 1024u                /* hashes of words in a store buffer */
#define SIM_STACK (UINT64_C(128) << 10)
#define SIM_SEGMENT (UINT64_C(2) << 20)
#define SIM_FOREVER (INT64_C(1) << 60)
#define SIM_KEYS 4u

/* ---- random numbers --------------------------------------------------------------------------------------------- */

static inline uint64_t sim_mix(uint64_t x) { /* splitmix64 (S. Vigna, public domain) */
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* ---- machine ---------------------------------------------------------------------------------------------------- */

enum sim_state { SIM_UNUSED, SIM_READY, SIM_WAITING, SIM_STOPPED, SIM_DEAD, SIM_DONE };
enum sim_end { SIM_KILL, SIM_STOP, SIM_STALL };

struct sim_store { /* retired, not visible to others yet */
    uintptr_t at;
    uint64_t value;
    uint32_t size;
};

struct sim_process {
    void *stack_pointer;
    uint8_t *stack;
    enum sim_state state;
    unsigned number;
    unsigned first, pending;    /* of `stores`, a ring */
    uint8_t filter[SIM_FILTER]; /* how many of them have this hash */
    struct sim_store stores[SIM_STORES];
    int64_t until_end; /* weight that it may do before `end`; SIM_FOREVER none */
    enum sim_end end;
    int64_t call_left; /* weight that the present call may still take */
    uint64_t wait_ns;  /* WAITING: until then at most */
    uintptr_t wait_on; /* ... for a wake on this futex */
    bool woken;
    const char *call; /* name of the present call */
};

struct sim_machine {
    int64_t fuse;  /* weight until somebody has to look: the only thing that an access touches */
    int64_t armed; /* what the fuse was set to */
    struct sim_process *now;
    bool buffering; /* stores go through the buffers */
    bool logging;   /* old contents go to the undo log */
    bool tracing;
    bool patient;          /* spinning loops let others run */
    bool backwards;        /* copies run from the end */
    unsigned buffer_limit; /* entries that may wait */
    int64_t store_weight;  /* of a store, a locked operation, a fence; a load weighs 1 */
    int64_t until_switch;  /* of the present slice */
    int64_t total;         /* weight of the schedule so far */
    int64_t gap;           /* uniform: mean weight between switches; 0: few switches, at `points` */
    unsigned point, points;
    int64_t switch_at[4];
    unsigned kills; /* that may still be dealt out at lock acquisitions */
    unsigned stops;
    bool only_first; /* process 0 alone is killed or stopped at its lock, and surely */
    bool jumpy;      /* waits may end early: virtual time leaps */
    uint64_t random;
    uint64_t now_ns; /* virtual time */
    uintptr_t lock_at;
    struct sim_process processes[SIM_HANDLES + 1];
    void *main_stack_pointer;
    bool failed;
    char failure[400];
};

extern struct sim_machine sim __attribute__((visibility("hidden")));
extern uint8_t sim_segment[SIM_SEGMENT] __attribute__((visibility("hidden")));

static inline uint64_t sim_next(void) {
    return sim_mix(sim.random++);
}

static inline uint64_t sim_below(uint64_t n) { /* n below 2^32 */
    return ((sim_next() >> 32) * n) >> 32;
}

static inline bool sim_one_in(unsigned n) {
    return sim_below(n) == 0;
}

/* Allocates stacks; once. */
void sim_machine_init(void);
/* Forgets all processes of the last schedule. The segment's undo log is played back. */
void sim_machine_reset(void);
/* The process will run `body` (script.c) when its turn comes. */
void sim_machine_spawn(unsigned number);
/* Runs all processes that are ready until none can go on. */
void sim_machine_run(void);
/* The fuse is burnt: account, switch, kill. */
void sim_machine_due(void);
/* The running process sleeps until woken or `wait_ns`. */
void sim_machine_wait(uintptr_t on, uint64_t wait_ns);
unsigned sim_machine_wake(uintptr_t on, unsigned count);
/* The running process took the stripe's lock: perhaps its end is near. */
void sim_machine_locked(bool recover);
/* The first call decides: what is wrong with this schedule. */
__attribute__((format(printf, 1, 2))) void sim_fail(const char *format, ...);
/* Weight of one call that is certainly too much. */
void sim_machine_begin_call(const char *name);

static inline void sim_step(int64_t weight) {
    sim.fuse -= weight;
    if (__builtin_expect(sim.fuse < 0, 0))
        sim_machine_due();
}

/* ---- runtime ---------------------------------------------------------------------------------------------------- */

static inline bool sim_is_shared(uintptr_t at) {
    return at - (uintptr_t)sim_segment < SIM_SEGMENT;
}
void sim_runtime_drain(struct sim_process *process, unsigned count);
void sim_runtime_undo(void);
/* Empties the log: what is in the segment now is what the next schedule starts from. */
void sim_runtime_keep(void);

/* ---- kernel ----------------------------------------------------------------------------------------------------- */

void sim_kernel_save(void);
void sim_kernel_restore(void);
void sim_kernel_died(unsigned process, uint64_t lag_ns);

/* ---- world ------------------------------------------------------------------------------------------------------ */

enum sim_world {
    WORLD_ROOMY,
    WORLD_FULL,
    WORLD_COLD,
    WORLD_HOT,
    WORLD_SPLIT,
    WORLD_BORDER,
    WORLD_UP,
    WORLD_DOWN,
    WORLD_CHAIN,
    WORLD_TTL,
    WORLD_PROBATION,
    WORLD_MERGE,
    WORLD_MERGE_GHOSTS,
    WORLD_COUNT
};

struct sim_key {
    char text[24];
    size_t len;
    uint64_t hash;
    bool present; /* in the world, where the next four count */
    uint64_t version;
    uint32_t incarnation;
    size_t value_len;
    uint64_t deadline_ms; /* UINT64_MAX never */
};
struct sim_place {
    struct sim_key keys[SIM_KEYS];
};
extern struct lr_cache sim_handles[SIM_HANDLES + 1];
/* Builds all worlds. Exits with a message if the core cannot even do that. */
void sim_world_init(void);
/* Lays the world out in the segment; the log is empty then. */
const struct sim_place *sim_world_load(enum sim_world world);
/* Handles as they were. */
void sim_world_reset_handles(bool dirty_scratch);

/* ---- values and history ----------------------------------------------------------------------------------------- */

#define SIM_VALUE_MAX 2560u
#define SIM_OPS 96u

enum sim_kind {
    OP_PUT,    /* a value of ours was offered: put, add, replace, cas, apply */
    OP_READ,   /* hit or miss */
    OP_DELETE, /* delete, apply_tombstone, drop */
    OP_FLUSH,
    OP_TOUCH,
    OP_COUNT,  /* increment */
    OP_ACTION, /* anything else: bounds only */
};

struct sim_op {
    uint8_t process, kind, key;
    char letter;
    bool done, seen, local;     /* seen: some read returned this value. local: its version was drawn here */
    int result;                 /* of the call */
    uint32_t id;                /* PUT: value offered; READ: value seen, 0 a miss */
    uint64_t called, returned;  /* stamps; returned UINT64_MAX: never */
    uint64_t version, expected; /* expected: CAS */
    uint64_t last_ms;           /* PUT, TOUCH: it cannot be seen from then on */
    uint64_t began_ms, ended_ms;
    int64_t number; /* COUNT */
};

struct sim_history {
    struct sim_op ops[SIM_OPS];
    unsigned count;
    uint64_t stamp;
};
extern struct sim_history sim_history;

void sim_history_reset(const struct sim_place *place);
struct sim_op *sim_history_call(char letter, enum sim_kind kind, unsigned key);
void sim_history_return(struct sim_op *op, int result);
/* Fills a value. `id` tells who wrote it. */
void sim_value_fill(uint8_t *value, size_t len, unsigned key, uint32_t id);
/* The id of a whole value of this key; fails the schedule if it is torn, foreign or from nowhere. */
uint32_t sim_value_judge(const uint8_t *value, size_t len, unsigned key, const char *who);
/* All rules of history.c. `lossless`: nothing may be missing that was not taken away. */
void sim_history_judge(bool lossless);

/* ---- scripts and scenarios -------------------------------------------------------------------------------------- */

struct sim_scenario {
    const char *name;
    enum sim_world world;
    const char *mixes[SIM_PROCESSES]; /* letters of script.c; NULL: no such process */
    unsigned least, most;             /* calls of one process */
    unsigned kills, stops;
    unsigned flags;
};
enum {
    SCENE_LOSSLESS = 1,    /* no eviction is needed: a miss must be explained */
    SCENE_REPLICATING = 2, /* deletes leave tombstones */
    SCENE_FOCUS = 4,       /* nearly all calls go to one key */
    SCENE_IN_ORDER = 8,    /* the letters are the script, one after the other */
    SCENE_SAME_SIZE = 16,  /* blocks are used again at once */
    SCENE_FIRST = 32,      /* process 0 is who stalls, always */
};
/* Runs in the process's coroutine. */
void sim_script_run(unsigned process);
void sim_script_prepare(const struct sim_scenario *scenario, const struct sim_place *place);
void sim_script_doctor(void);

unsigned sim_scenario_count(void);
const char *sim_scenario_name(unsigned number);
/* `only` as below: others are not prepared. */
void sim_scenario_init(uint64_t seed, unsigned only);
/* One schedule; `only` UINT_MAX: the scenario follows from the number. False: sim.failure says why. */
bool sim_scenario_play(uint64_t schedule, unsigned only, unsigned *played);

/* ---- trace ------------------------------------------------------------------------------------------------------ */

void sim_trace_access(const char *what, uintptr_t at, uint64_t value, const void *caller);
void sim_trace_visible(unsigned process, uintptr_t at, uint64_t value);
__attribute__((format(printf, 1, 2))) void sim_trace_note(const char *format, ...);

#endif
