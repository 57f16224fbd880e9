/* SPDX-License-Identifier: MIT */
/*
 * The rounds of bench.h: who does what, when.
 *
 *   parent    creates the roomy segment --- forks ---- waits --- destroys it, creates the full one --- waits --- sums
 * up workers                                 build floor, load, all ops but put_evict |  attach, fill, put_evict
 *
 * A round in which the scheduler took the processor away from a worker says more about the neighbours than about us;
 * such rounds are left out as long as enough others remain.
 *
 * Workers meet at a barrier in shared memory: the last one to come sets the instant at which the phase begins, a little
 * ahead, and wakes the others, who then spin until that instant. A worker that waits while another measures alone
 * sleeps in the kernel. If a worker dies the parent kills the others, so nobody waits for the dead.
 */
#include "bench.h"

#include "bench_ops.h"
#include "histogram.h"
#include "ticks.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 81u
#define WARM_UP 16u              /* rounds before them that do not count */
#define ENOUGH_ROUNDS 9u         /* undisturbed ones, that the others be left out */
#define AHEAD_NS UINT64_C(60000) /* from the last arrival to the start of a phase */
#define PATIENCE_MS 10000u       /* with a stripe whose holder is kept from its processor */

/* The last two time each operation: only where percentiles are wanted. */
enum phase { ENGINE_ALONE, FLOOR_ALONE, ENGINE_ALL, FLOOR_ALL, ENGINE_EACH, FLOOR_EACH, PHASES };
enum stage { STAGE_ROOMY = 1, STAGE_FULL = 2 };

struct worker_page {
    int error;
    char why[LR_WHY_BYTES];
    uint64_t failed[BENCH_OP_COUNT];
    float ns[BENCH_OP_COUNT][PHASES][ROUNDS];
    bool disturbed[BENCH_OP_COUNT][PHASES][ROUNDS];
    struct histogram each[BENCH_OP_COUNT][2]; /* engine, floor */
};

struct bench_page {
    _Atomic uint32_t arrived;    /* at the barrier */
    _Atomic uint32_t generation; /* of the barrier: a futex */
    _Atomic uint64_t start_ns;   /* of the phase */
    _Atomic uint32_t stage;      /* set by the parent: which segment is there */
    _Atomic uint32_t left;       /* workers done with the roomy segment */
    _Atomic uint32_t done;       /* phases done by worker 1, for progress */
    struct worker_page workers[];
};

struct worker {
    const struct bench_options *options;
    struct bench_page *shared;
    struct worker_page *page;
    struct bench_load load;
    struct ticks ticks;
};

const char *const bench_op_names[BENCH_OP_COUNT] = {
#define X(name, common) #name,
    BENCH_OPS(X)
#undef X
};

/* ---- rounds ----------------------------------------------------------------------------------------------------- */

/* How often this process lost its processor against its will. */
static long preemptions(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_nivcsw : 0;
}

/* Returns when all workers have come here, all at one instant. */
static void meet(struct worker *worker) {
    struct bench_page *shared = worker->shared;
    uint32_t generation = atomic_load(&shared->generation);
    if (atomic_fetch_add(&shared->arrived, 1) + 1 == worker->options->processes) {
        atomic_store(&shared->arrived, 0);
        atomic_store(&shared->start_ns, ticks_clock_ns() + (worker->options->processes > 1 ? AHEAD_NS : 0));
        atomic_store(&shared->generation, generation + 1);
        syscall(SYS_futex, &shared->generation, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    }
    while (atomic_load(&shared->generation) == generation)
        syscall(SYS_futex, &shared->generation, FUTEX_WAIT, generation, NULL, NULL, 0);
    uint64_t start_ns = atomic_load(&shared->start_ns);
    while (ticks_clock_ns() < start_ns)
        continue;
}

static bool is_engine(enum phase phase) {
    return phase == ENGINE_ALONE || phase == ENGINE_ALL || phase == ENGINE_EACH;
}

static bool is_wanted(const struct bench_options *options, enum phase phase) {
    if (phase == ENGINE_ALONE || phase == FLOOR_ALONE)
        return options->processes > 1;
    return options->percentiles || (phase != ENGINE_EACH && phase != FLOOR_EACH);
}

static void make_ready(struct bench_load *load, const struct bench_row_of_ops *op, bool engine) {
    if (!engine && op->floor_keys != NULL)
        op->floor_keys(load);
    else
        op->engine_keys(load);
    if (engine && op->engine_before != NULL)
        op->engine_before(load);
}

/* Times the operations one by one (a batch is one). */
static uint64_t do_each(struct worker *worker, bench_work *work, unsigned batch, struct histogram *out) {
    uint64_t good = 0;
    for (uint64_t i = 0; i < worker->load.ops; i += batch) {
        uint64_t before = ticks_now(&worker->ticks);
        good += work(&worker->load, i, batch);
        histogram_add(out, ticks_to_ns(&worker->ticks, ticks_now(&worker->ticks) - before));
    }
    return good;
}

static void do_phase(struct worker *worker, enum bench_op number, enum phase phase, unsigned round) {
    const struct bench_row_of_ops *op = &bench_ops[number];
    struct bench_load *load = &worker->load;
    const bool engine = is_engine(phase), works = (phase != ENGINE_ALONE && phase != FLOOR_ALONE) || load->number == 0;
    if (works)
        make_ready(load, op, engine);
    meet(worker);
    if (works) {
        bench_work *work = engine ? op->engine : op->floor;
        static struct histogram unused; /* of rounds that do not count */
        struct histogram *each = round < WARM_UP ? &unused : &worker->page->each[number][engine ? 0 : 1];
        long preempted = preemptions();
        uint64_t before = ticks_clock_ns();
        uint64_t good = phase < ENGINE_EACH ? work(load, 0, load->ops) : do_each(worker, work, op->batch, each);
        uint64_t spent = ticks_clock_ns() - before;
        if (round >= WARM_UP) {
            worker->page->ns[number][phase][round - WARM_UP] = (float)((double)spent / (double)load->ops);
            worker->page->disturbed[number][phase][round - WARM_UP] = preemptions() != preempted;
        }
        if (engine)
            worker->page->failed[number] += load->ops - good;
        if (engine && op->engine_after != NULL)
            op->engine_after(load);
        if (!engine && op->floor_after != NULL)
            op->floor_after(load);
    }
    if (load->number == 0)
        atomic_fetch_add_explicit(&worker->shared->done, 1, memory_order_relaxed);
}

/* All phases of a round use the same keys, in whichever order they come. */
static void do_round(struct worker *worker, enum bench_op number, unsigned round) {
    const struct draw draw = worker->load.draw;
    const uint64_t cursor = worker->load.cursor;
    for (unsigned i = 0; i < PHASES; i++) {
        enum phase phase = (enum phase)(round % 2 == 0 ? i : i ^ 1u);
        if (!is_wanted(worker->options, phase))
            continue;
        worker->load.draw = draw;
        worker->load.cursor = cursor;
        do_phase(worker, number, phase, round);
    }
    draw_bits(&worker->load.draw);
}

/* Round by round and not operation by operation: whatever the machine does for some seconds meets them all. */
static void do_ops(struct worker *worker, enum bench_op from, enum bench_op to) {
    for (unsigned round = 0; round < WARM_UP + ROUNDS; round++)
        for (unsigned op = from; op < (unsigned)to; op++)
            if (worker->options->ops >> op & 1u)
                do_round(worker, (enum bench_op)op, round);
}

/* ---- the worker ------------------------------------------------------------------------------------------------- */

static int fail(struct worker *worker, int error, const char *what) {
    worker->page->error = error;
    if (worker->page->why[0] == '\0')
        snprintf(worker->page->why, sizeof worker->page->why, "worker %u: %s: %s", worker->load.number + 1u, what,
                 lr_error_text(error));
    return error;
}

static int attach(struct worker *worker, const char *name) {
    struct lr_options options = lr_options_default();
    options.name = name;
    options.who = "bench worker";
    options.prefault = true;
    options.wait_ms = PATIENCE_MS;
    int error = lr_cache_attach(&options, &worker->load.cache, worker->page->why);
    return error == 0 ? 0 : fail(worker, error, "cannot attach");
}

/* Puts items [from, to) that are this worker's. */
static int load(struct worker *worker, uint64_t from, uint64_t to) {
    for (uint64_t item = from + worker->load.number; item < to; item += worker->options->processes) {
        uint8_t key[BENCH_KEY_BYTES];
        bench_make_key(key, item);
        struct lr_put put = bench_put_of(&worker->load, key);
        int error = lr_put(worker->load.cache, &put);
        if (error != 0)
            return fail(worker, error, "cannot load the items");
    }
    return 0;
}

static void bind_to_core(unsigned number) {
    cpu_set_t allowed, mine;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    unsigned wanted = number % (unsigned)CPU_COUNT(&allowed);
    CPU_ZERO(&mine);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && wanted-- == 0) {
            CPU_SET(cpu, &mine);
            sched_setaffinity(0, sizeof mine, &mine);
            return;
        }
}

static int live(struct worker *worker, const char *roomy, const char *full) {
    struct bench_page *shared = worker->shared;
    struct bench_load *mine = &worker->load;
    bind_to_core(mine->number);
    worker->ticks = ticks_calibrate();
    if (bench_load_prepare(mine) != 0)
        return fail(worker, LARDER_ENO_MEMORY, "cannot build the floor's table");
    if (attach(worker, roomy) != 0 || load(worker, 0, worker->options->items) != 0)
        return 1;
    meet(worker);
    do_ops(worker, 0, BENCH_put_evict);
    lr_cache_detach(mine->cache);
    atomic_fetch_add(&shared->left, 1);
    if ((worker->options->ops >> BENCH_put_evict & 1u) == 0)
        return 0;
    while (atomic_load(&shared->stage) != STAGE_FULL)
        usleep(1000);
    /* Half as many again as fit: full beyond doubt, and the hand is on its way. */
    if (attach(worker, full) != 0 || load(worker, 0, worker->options->items / 2u * 3u) != 0)
        return 1;
    mine->fresh = worker->options->items / worker->options->processes + 1u;
    meet(worker);
    do_ops(worker, BENCH_put_evict, BENCH_OP_COUNT);
    lr_cache_detach(mine->cache);
    return mine->sink == 1; /* it never is */
}

/* ---- the parent ------------------------------------------------------------------------------------------------- */

struct parent {
    const struct bench_options *options;
    struct bench_page *shared;
    struct lr_cache *cache;
    char roomy[65], full[65];
    const char *segment; /* the one that exists now, or NULL */
    pid_t pids[BENCH_MAX_PROCESSES];
    unsigned alive;
};

static volatile sig_atomic_t caught_signal;

static void remember_signal(int number) {
    caught_signal = number;
}

/* Bytes for `items` items: blocks of the engine, and index at `load` of its slots. */
static uint64_t bytes_for(const struct bench_options *options, double items, double index_load) {
    double block = (double)((24u + BENCH_KEY_BYTES + options->value_bytes + 7u) & ~UINT64_C(7));
    return (uint64_t)(items * (block + 8.0 / index_load));
}

/* Few large items need few stripes, or chance would fill one stripe before the others. 0: as many as usual. */
static unsigned stripes_for(const struct bench_options *options, uint64_t size) {
    unsigned stripes = 64;
    while (stripes > 1 && options->items / stripes < 256 && size / (stripes / 2u) <= (UINT64_C(128) << 20))
        stripes /= 2u;
    return stripes == 64 || size / stripes < (UINT64_C(4) << 20) ? 0 : stripes;
}

static int create_segment(struct parent *parent, const char *name, uint64_t size, char *why) {
    struct lr_options options = lr_options_default();
    options.name = name;
    options.size = size;
    options.stripes = stripes_for(parent->options, size);
    options.who = "bench";
    int error = lr_cache_create(&options, &parent->cache, why);
    if (error == 0)
        parent->segment = name;
    return error;
}

static void destroy_segment(struct parent *parent) {
    struct lr_options options = lr_options_default();
    if (parent->segment == NULL)
        return;
    options.name = parent->segment;
    lr_cache_detach(parent->cache);
    lr_cache_destroy(&options, NULL);
    parent->segment = NULL;
}

static int start_workers(struct parent *parent, char *why) {
    pid_t self = getpid();
    fflush(NULL);
    for (unsigned i = 0; i < parent->options->processes; i++) {
        pid_t pid = fork();
        if (pid < 0) {
            snprintf(why, LR_WHY_BYTES, "cannot start worker %u: %s", i + 1u, strerror(errno));
            return LARDER_ESYSTEM;
        }
        if (pid == 0) {
            signal(SIGINT, SIG_DFL);
            signal(SIGTERM, SIG_DFL);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != self)
                _exit(1);
            struct worker worker = {
                .options = parent->options,
                .shared = parent->shared,
                .page = &parent->shared->workers[i],
                .load = {.options = parent->options, .number = i},
            };
            _exit(live(&worker, parent->roomy, parent->full));
        }
        parent->pids[i] = pid;
        parent->alive++;
    }
    return 0;
}

static void kill_workers(struct parent *parent) {
    for (unsigned i = 0; i < parent->options->processes; i++) {
        if (parent->pids[i] == 0)
            continue;
        kill(parent->pids[i], SIGKILL);
        while (waitpid(parent->pids[i], NULL, 0) < 0 && errno == EINTR)
            continue;
        parent->pids[i] = 0;
    }
}

/* 0, or the error of the first worker that ended badly. */
static int collect(struct parent *parent, char *why) {
    for (unsigned i = 0; i < parent->options->processes; i++) {
        const struct worker_page *page = &parent->shared->workers[i];
        int status;
        if (parent->pids[i] == 0 || waitpid(parent->pids[i], &status, WNOHANG) != parent->pids[i])
            continue;
        parent->pids[i] = 0;
        parent->alive--;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            continue;
        if (page->error != 0)
            snprintf(why, LR_WHY_BYTES, "%s", page->why);
        else
            snprintf(why, LR_WHY_BYTES, "worker %u was ended by signal %d (%s)", i + 1u, WTERMSIG(status),
                     strsignal(WTERMSIG(status)));
        return page->error != 0 ? page->error : LARDER_ESYSTEM;
    }
    return 0;
}

static void print_progress(const struct parent *parent) {
    unsigned phases = 0;
    for (unsigned phase = 0; phase < PHASES; phase++)
        phases += is_wanted(parent->options, (enum phase)phase);
    phases *= (WARM_UP + ROUNDS) * (unsigned)__builtin_popcount(parent->options->ops);
    unsigned done = atomic_load(&parent->shared->done);
    if (parent->options->progress && parent->alive > 0)
        fprintf(stderr, "\rbench %3u %%%s\033[K", 100u * done / phases, done == 0 ? ", loading" : "");
    else if (parent->options->progress)
        fprintf(stderr, "\r\033[K");
}

/* Waits until all workers have left the roomy segment, or have ended. */
static int watch(struct parent *parent, bool until_left, char *why) {
    for (;;) {
        int error = collect(parent, why);
        print_progress(parent);
        if (error != 0 || caught_signal != 0 || parent->alive == 0)
            return error;
        if (until_left && atomic_load(&parent->shared->left) == parent->options->processes)
            return 0;
        usleep(20000);
    }
}

static int run_stages(struct parent *parent, struct bench_result *out, char *why) {
    const struct bench_options *options = parent->options;
    struct lr_stat facts;
    /* Stripes do not fill evenly: room for three standard deviations of what one may get. */
    double items = (double)options->items, slack = items < 16384 ? 3.0 / sqrt(items / 64.0) : 0.0;
    uint64_t counters = bench_counters(options) * 64u;
    int error = create_segment(parent, parent->roomy,
                               bytes_for(options, items * (1.15 + slack), 0.5) + counters + (1u << 20), why);
    atomic_store(&parent->shared->stage, STAGE_ROOMY);
    if (error == 0)
        error = start_workers(parent, why);
    if (error == 0)
        error = watch(parent, true, why);
    if (error != 0 || caught_signal != 0)
        return error;
    lr_stat(parent->cache, &facts);
    out->cache_bytes = facts.cache_bytes;
    out->evictions = facts.stripe_counters[LR_S_evictions];
    destroy_segment(parent);
    if ((options->ops >> BENCH_put_evict & 1u) == 0)
        return watch(parent, false, why);
    error = create_segment(parent, parent->full, bytes_for(options, (double)options->items, 0.8), why);
    if (error != 0)
        return error;
    atomic_store(&parent->shared->stage, STAGE_FULL);
    return watch(parent, false, why);
}

/* ---- figures ---------------------------------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, unsigned count) {
    qsort(values, count, sizeof values[0], compare_doubles);
    return values[count / 2];
}

/* Lists the rounds in which no worker was disturbed in either phase; all rounds, if these are too few. */
static unsigned pick_rounds(const struct parent *parent, enum bench_op op, enum phase first, enum phase second,
                            unsigned picked[ROUNDS]) {
    unsigned count = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        bool disturbed = false;
        for (unsigned i = 0; i < parent->options->processes; i++) {
            const struct worker_page *page = &parent->shared->workers[i];
            disturbed = disturbed || page->disturbed[op][first][round] || page->disturbed[op][second][round];
        }
        if (!disturbed)
            picked[count++] = round;
    }
    if (count >= ENOUGH_ROUNDS)
        return count;
    for (unsigned round = 0; round < ROUNDS; round++)
        picked[round] = round;
    return ROUNDS;
}

/* Median over the rounds of what all workers together took for an operation of one. */
static double median_ns(const struct parent *parent, enum bench_op op, enum phase phase) {
    double values[ROUNDS];
    unsigned picked[ROUNDS], count = pick_rounds(parent, op, phase, phase, picked);
    for (unsigned k = 0; k < count; k++) {
        values[k] = 0;
        for (unsigned i = 0; i < parent->options->processes; i++)
            values[k] += (double)parent->shared->workers[i].ns[op][phase][picked[k]] / parent->options->processes;
    }
    return median(values, count);
}

/* Median over the rounds of the throughput of all over that of worker 1 alone, times their number. */
static double median_scaling(const struct parent *parent, enum bench_op op, enum phase alone, enum phase all) {
    double values[ROUNDS];
    unsigned picked[ROUNDS], count = pick_rounds(parent, op, alone, all, picked);
    for (unsigned k = 0; k < count; k++) {
        double throughput = 0;
        for (unsigned i = 0; i < parent->options->processes; i++)
            throughput += 1.0 / (double)parent->shared->workers[i].ns[op][all][picked[k]];
        values[k] =
            throughput * (double)parent->shared->workers[0].ns[op][alone][picked[k]] / parent->options->processes;
    }
    return median(values, count);
}

/* Of what all workers timed one by one. */
static void read_tails(const struct parent *parent, enum bench_op op, unsigned side, double out[BENCH_PERCENTILES]) {
    struct histogram all = {0};
    for (unsigned i = 0; i < parent->options->processes; i++)
        histogram_merge(&all, &parent->shared->workers[i].each[op][side]);
    out[BENCH_P50] = histogram_at(&all, 0.5);
    out[BENCH_P99] = histogram_at(&all, 0.99);
    out[BENCH_P999] = histogram_at(&all, 0.999);
    out[BENCH_MAX] = (double)all.highest;
}

static void sum_up(const struct parent *parent, struct bench_result *out) {
    for (unsigned i = 0; i < BENCH_OP_COUNT; i++) {
        enum bench_op op = (enum bench_op)i;
        struct bench_row *row = &out->rows[op];
        if ((parent->options->ops >> op & 1u) == 0)
            continue;
        row->ns = median_ns(parent, op, ENGINE_ALL);
        row->floor_ns = median_ns(parent, op, FLOOR_ALL);
        row->ratio = row->floor_ns > 0 ? row->ns / row->floor_ns : 0;
        row->scaling = row->floor_scaling = 1.0;
        if (parent->options->processes > 1) {
            row->scaling = median_scaling(parent, op, ENGINE_ALONE, ENGINE_ALL);
            row->floor_scaling = median_scaling(parent, op, FLOOR_ALONE, FLOOR_ALL);
        }
        read_tails(parent, op, 0, row->tail_ns);
        read_tails(parent, op, 1, row->floor_tail_ns);
        for (unsigned worker = 0; worker < parent->options->processes; worker++)
            row->failed += parent->shared->workers[worker].failed[op];
    }
}

int bench_run(const struct bench_options *options, struct bench_result *out, char *why) {
    struct parent parent = {.options = options};
    struct sigaction action = {.sa_handler = remember_signal}, old_interrupt, old_terminate;
    size_t bytes = sizeof(struct bench_page) + options->processes * sizeof(struct worker_page);
    *out = (struct bench_result){0};
    why[0] = '\0';
    parent.shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (parent.shared == MAP_FAILED) {
        snprintf(why, LR_WHY_BYTES, "cannot map %zu bytes for the results: %s", bytes, strerror(errno));
        return LARDER_ENO_MEMORY;
    }
    uint64_t now_ns = ticks_clock_ns();
    snprintf(parent.roomy, sizeof parent.roomy, "bench.%ld.%08" PRIx32 ".roomy", (long)getpid(), (uint32_t)now_ns);
    snprintf(parent.full, sizeof parent.full, "bench.%ld.%08" PRIx32 ".full", (long)getpid(), (uint32_t)now_ns);
    sigemptyset(&action.sa_mask);
    caught_signal = 0;
    sigaction(SIGINT, &action, &old_interrupt);
    sigaction(SIGTERM, &action, &old_terminate);
    int error = run_stages(&parent, out, why);
    kill_workers(&parent);
    destroy_segment(&parent);
    if (error == 0 && caught_signal == 0)
        sum_up(&parent, out);
    out->interrupted = caught_signal;
    sigaction(SIGINT, &old_interrupt, NULL);
    sigaction(SIGTERM, &old_terminate, NULL);
    munmap(parent.shared, bytes);
    return error;
}
