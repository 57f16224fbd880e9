/* SPDX-License-Identifier: MIT */
/*
 * The scenarios of bench_scenario.h: one process that is timed, and a neighbour bound to another core, which does what
 * a word in shared memory says. It ends with us.
 */
#include "bench_scenario.h"

#include "floor.h"
#include "histogram.h"
#include "stripe.h"
#include "ticks.h"
#include "value.h"
#include "workload.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEY_BYTES VALUE_KEY_BYTES
#define SLOW_NS 1000000u
#define ROUNDS 41u
#define ROUND_OPS 8192u
#define SETTLE_US 2000u /* for the neighbour to take up what it is told */
#define LARGE_BYTES (1u << 20)
#define LARGE_PUTS 2000u
#define STRIPE_KEYS 64u
#define LIFE_MS 1000u /* of the items of expiry, on a clock that stands but when it is told */
#define MIN_SEGMENT (UINT64_C(16) << 20)
#define LOOK_EVERY_NS 50000u /* between two looks at the processor's clock */
#define PIN_PAIRS 128u       /* a small value beside a large one, in PIN_SEGMENT bytes of PIN_STRIPES stripes */
#define PIN_SMALL 64u
#define PIN_SEGMENT (UINT64_C(256) << 20)
#define PIN_STRIPES 4u

const char *const scenario_names[SCENARIO_COUNT] = {
#define X(name) #name,
    SCENARIOS(X)
#undef X
};
const char *const scenario_share_names[SCENARIO_SHARES] = {"p50_ns", "p99_ns", "p999_ns", "p9999_ns", "max_ns"};
static const double shares[SCENARIO_SHARES] = {0.5, 0.99, 0.999, 0.9999, 1.0};

enum task { TASK_IDLE, TASK_PUT_NEW, TASK_PUT_SAME, TASK_PUT_BESIDE, TASK_PUT_ELSEWHERE, TASK_GET_HOT, TASK_FLOOR_HOT };

struct scene {
    const struct scenario_options *options;
    struct scenario_result *out;
    struct lr_cache *cache;
    struct floor floor;
    struct ticks ticks;
    struct draw draw;
    uint8_t *value, *copy;
    uint8_t keys[3][STRIPE_KEYS][KEY_BYTES]; /* stripe: two sets of one stripe, and one of another */
    uint64_t fresh;                          /* next new key */
    uint64_t sink;                           /* keeps reads from being optimised away */
    _Atomic uint32_t *task;                  /* of the neighbour, shared */
    pid_t neighbour;
    char name[65];
};

/* Of a segment in which half as many items again do not fit. */
static uint64_t bytes_of(const struct scenario_options *options) {
    return options->items * (options->value_bytes + 52u) + (1u << 20);
}

/* ---- one operation ---------------------------------------------------------------------------------------------- */

typedef bool operation(struct scene *scene);

static void random_key(struct scene *scene, uint8_t out[KEY_BYTES]) {
    struct value_key key = value_key(draw_below(&scene->draw, scene->options->items));
    memcpy(out, key.bytes, KEY_BYTES);
}

static bool put(struct scene *scene, const void *key, size_t bytes) {
    struct lr_put one = {.key = key, .key_len = KEY_BYTES, .value = scene->value, .value_len = bytes};
    return lr_put(scene->cache, &one) == 0;
}

static bool put_new(struct scene *scene) {
    struct value_key key = value_key(scene->fresh++);
    return put(scene, key.bytes, scene->options->value_bytes);
}

static bool put_large(struct scene *scene) {
    struct value_key key = value_key(scene->fresh++);
    return put(scene, key.bytes, LARGE_BYTES);
}

static bool copy_large(struct scene *scene) {
    uint64_t slots = scene->floor.item_bytes / LARGE_BYTES;
    memcpy(scene->floor.items + scene->fresh++ % slots * LARGE_BYTES, scene->value, LARGE_BYTES);
    return true;
}

static bool get_from(struct scene *scene, const void *key) {
    return lr_get(scene->cache, key, KEY_BYTES, scene->copy, scene->options->value_bytes, NULL, 0) == 0;
}

static bool get_random(struct scene *scene) {
    uint8_t key[KEY_BYTES];
    random_key(scene, key);
    (void)get_from(scene, key); /* it may have been evicted */
    return true;
}

static bool floor_random(struct scene *scene) {
    uint8_t key[KEY_BYTES];
    size_t len;
    random_key(scene, key);
    return floor_get(&scene->floor, key, KEY_BYTES, scene->copy, scene->options->value_bytes, &len);
}

static bool get_hot(struct scene *scene) {
    return get_from(scene, scene->keys[0][0]);
}

static bool floor_hot(struct scene *scene) {
    size_t len;
    struct value_key key = value_key(0);
    return floor_get(&scene->floor, key.bytes, KEY_BYTES, scene->copy, scene->options->value_bytes, &len);
}

static bool get_first(struct scene *scene) {
    return get_from(scene, scene->keys[0][draw_below(&scene->draw, STRIPE_KEYS)]);
}

static bool pin_one(struct scene *scene, uint64_t item) {
    struct value_key key = value_key(item);
    struct lr_pin pin;
    uint64_t word;
    if (lr_pin(scene->cache, key.bytes, KEY_BYTES, &pin) != 0)
        return false;
    memcpy(&word, pin.value, sizeof word);
    scene->sink += word;
    lr_unpin(scene->cache, &pin);
    return true;
}

static bool pin_small(struct scene *scene) {
    return pin_one(scene, draw_below(&scene->draw, PIN_PAIRS));
}

static bool pin_large(struct scene *scene) {
    return pin_one(scene, PIN_PAIRS + draw_below(&scene->draw, PIN_PAIRS));
}

/* ---- the neighbour ---------------------------------------------------------------------------------------------- */

static void do_task(struct scene *scene, uint32_t task) {
    for (unsigned i = 0; i < 64; i++)
        switch ((enum task)task) {
        case TASK_IDLE:
            __builtin_ia32_pause();
            break;
        case TASK_PUT_NEW:
            put_new(scene);
            break;
        case TASK_PUT_SAME:
        case TASK_PUT_BESIDE:
        case TASK_PUT_ELSEWHERE:
            put(scene, scene->keys[task - TASK_PUT_SAME][i % STRIPE_KEYS], scene->options->value_bytes);
            break;
        case TASK_GET_HOT:
            get_hot(scene);
            break;
        case TASK_FLOOR_HOT:
            floor_hot(scene);
            break;
        }
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

static int start_neighbour(struct scene *scene, char *why) {
    pid_t self = getpid();
    scene->task = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (scene->task == MAP_FAILED || (scene->neighbour = fork()) < 0) {
        snprintf(why, LR_WHY_BYTES, "cannot start another process: %s", strerror(errno));
        scene->neighbour = 0;
        return LARDER_ESYSTEM;
    }
    if (scene->neighbour != 0)
        return 0;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != self)
        _exit(1);
    bind_to_core(1);
    scene->fresh = UINT64_C(1) << 50;
    for (;;)
        do_task(scene, atomic_load_explicit(scene->task, memory_order_relaxed));
}

static void tell(struct scene *scene, enum task task) {
    if (scene->neighbour == 0)
        return;
    atomic_store(scene->task, task);
    usleep(SETTLE_US);
}

/* ---- timing ----------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t caught_signal;

static void remember_signal(int number) {
    caught_signal = number;
}

struct measured {
    struct histogram each, own; /* own: slow ones without the time away */
    double means[ROUNDS];
    unsigned rounds;
    uint64_t slow, switched, away;
    double steal_ms;
};

/* What tells time away from time at work. */
struct look {
    uint64_t processor_ns;
    long forced, willing; /* switches of context */
};

static struct look look_now(void) {
    struct timespec processor = {0};
    struct rusage usage = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &processor);
    getrusage(RUSAGE_SELF, &usage);
    return (struct look){.processor_ns =
                             (uint64_t)processor.tv_sec * UINT64_C(1000000000) + (uint64_t)processor.tv_nsec,
                         .forced = usage.ru_nivcsw,
                         .willing = usage.ru_nvcsw};
}

/* An operation of `ns` that ended now has not used more of its processor than the process has since `before`. */
static uint64_t own_time(uint64_t ns, const struct look *before, const struct look *now) {
    const uint64_t busy = now->processor_ns - before->processor_ns;
    return now->willing == before->willing && busy < ns ? busy : ns;
}

static double steal_ms(void) {
    unsigned long long steal = 0;
    FILE *in = fopen("/proc/stat", "re");
    if (in == NULL)
        return 0;
    if (fscanf(in, "cpu %*u %*u %*u %*u %*u %*u %*u %llu", &steal) != 1)
        steal = 0;
    fclose(in);
    return (double)steal * 1000.0 / (double)sysconf(_SC_CLK_TCK);
}

/* `count` operations, each timed. */
static void measure(struct scene *scene, operation *work, uint64_t count, struct measured *out) {
    const double stolen = steal_ms();
    struct look seen = look_now();
    uint64_t sum = 0, unseen = 0;
    for (uint64_t i = 0; i < count && caught_signal == 0; i++) {
        uint64_t before = ticks_now(&scene->ticks);
        work(scene);
        uint64_t ns = ticks_to_ns(&scene->ticks, ticks_now(&scene->ticks) - before), own = ns;
        histogram_add(&out->each, ns);
        sum += ns;
        unseen += ns;
        if (unseen >= LOOK_EVERY_NS) {
            const struct look now = look_now();
            if (ns >= SLOW_NS) {
                own = own_time(ns, &seen, &now);
                out->slow++;
                out->switched += now.forced != seen.forced;
                out->away += own < SLOW_NS;
            }
            seen = now;
            unseen = 0;
        }
        histogram_add(&out->own, own);
    }
    if (out->rounds < ROUNDS)
        out->means[out->rounds++] = (double)sum / (double)count;
    out->steal_ms += steal_ms() - stolen;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(struct scene *scene, const char *label, struct measured *measured) {
    struct scenario_row *row = &scene->out->row[scene->out->rows++];
    qsort(measured->means, measured->rounds, sizeof(double), compare_doubles);
    *row = (struct scenario_row){.count = measured->each.count,
                                 .mean_ns = measured->means[measured->rounds / 2],
                                 .slow = measured->slow,
                                 .switched = measured->switched,
                                 .away = measured->away,
                                 .own_p9999_ns = histogram_at(&measured->own, 0.9999),
                                 .steal_ms = measured->steal_ms};
    snprintf(row->label, sizeof row->label, "%s", label);
    for (unsigned i = 0; i < SCENARIO_SHARES; i++)
        row->at[i] =
            i + 1 < SCENARIO_SHARES ? histogram_at(&measured->each, shares[i]) : (double)measured->each.highest;
}

/* Rows in turns, a round of each: whatever else the machine does meets all. */
struct turn {
    const char *label;
    operation *work;
    enum task task;
};

static void take_turns(struct scene *scene, const struct turn *turns, unsigned count) {
    static struct measured measured[SCENARIO_ROWS];
    memset(measured, 0, sizeof measured);
    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned i = 0; i < count; i++) {
            tell(scene, turns[i].task);
            measure(scene, turns[i].work, ROUND_OPS, &measured[i]);
        }
    tell(scene, TASK_IDLE);
    for (unsigned i = 0; i < count; i++)
        report(scene, turns[i].label, &measured[i]);
}

/* ---- the scenarios ---------------------------------------------------------------------------------------------- */

static void load(struct scene *scene, bool floor) {
    for (uint64_t item = 0; item < scene->options->items && caught_signal == 0; item++) {
        struct value_key key = value_key(item);
        put(scene, key.bytes, scene->options->value_bytes);
        if (floor)
            floor_insert(&scene->floor, key.bytes, KEY_BYTES, scene->value, scene->options->value_bytes);
    }
    scene->fresh = scene->options->items;
    floor_settle(&scene->floor);
}

static void run_growth(struct scene *scene) {
    static struct measured measured;
    memset(&measured, 0, sizeof measured);
    lr_set_replicating(scene->cache, true);
    for (unsigned part = 0; part < ROUNDS; part++) /* half as many again as fit: the last third evicts */
        measure(scene, put_new, scene->options->items * 3u / 2u / ROUNDS, &measured);
    report(scene, "puts of new keys", &measured);
}

static void run_large(struct scene *scene) {
    static struct measured puts, copies;
    memset(&puts, 0, sizeof puts);
    memset(&copies, 0, sizeof copies);
    lr_set_replicating(scene->cache, true);
    for (unsigned i = 0; i < LARGE_PUTS / 4u; i++)
        put_large(scene);
    for (unsigned round = 0; round < ROUNDS; round++) {
        measure(scene, put_large, LARGE_PUTS / ROUNDS, &puts);
        measure(scene, copy_large, LARGE_PUTS / ROUNDS, &copies);
    }
    report(scene, "puts of 1 MiB", &puts);
    report(scene, "copies of 1 MiB in plain memory", &copies);
}

static void run_tails(struct scene *scene) {
    load(scene, true);
    take_turns(scene,
               (const struct turn[]){{"gets, a writer beside", get_random, TASK_PUT_NEW},
                                     {"floor, the same writer beside", floor_random, TASK_PUT_NEW},
                                     {"gets, alone", get_random, TASK_IDLE},
                                     {"floor, alone", floor_random, TASK_IDLE}},
               4);
}

/* Two sets of keys of the stripe of key 0, and one of another stripe's. */
static void find_stripe_keys(struct scene *scene) {
    unsigned found[3] = {0, 0, 0};
    uint32_t first = UINT32_MAX, other = UINT32_MAX;
    for (uint64_t item = 0; item < 1000000 && found[0] + found[1] + found[2] < 3 * STRIPE_KEYS; item++) {
        const struct value_key key = value_key(item);
        const struct lr_key hashed = lr_key_of(scene->cache, key.bytes, KEY_BYTES);
        const uint32_t its = lr_place_stripe(scene->cache, hashed.place);
        first = first == UINT32_MAX ? its : first;
        other = other == UINT32_MAX && its != first ? its : other;
        const unsigned set = its == first ? (found[0] > found[1]) : 2;
        if ((its == first || its == other) && found[set] < STRIPE_KEYS)
            memcpy(scene->keys[set][found[set]++], key.bytes, KEY_BYTES);
    }
    for (unsigned i = 0; i < 3 * STRIPE_KEYS; i++)
        put(scene, scene->keys[i / STRIPE_KEYS][i % STRIPE_KEYS], scene->options->value_bytes);
}

static void run_hotkey(struct scene *scene) {
    struct value_key key = value_key(0);
    floor_insert(&scene->floor, key.bytes, KEY_BYTES, scene->value, scene->options->value_bytes);
    take_turns(scene,
               (const struct turn[]){{"gets of one key by two", get_hot, TASK_GET_HOT},
                                     {"gets of one key, alone", get_hot, TASK_IDLE},
                                     {"floor by two", floor_hot, TASK_FLOOR_HOT},
                                     {"floor, alone", floor_hot, TASK_IDLE}},
               4);
}

static void run_stripe(struct scene *scene) {
    take_turns(scene,
               (const struct turn[]){{"gets, a writer on the same keys", get_first, TASK_PUT_SAME},
                                     {"gets, a writer on the same stripe", get_first, TASK_PUT_BESIDE},
                                     {"gets, a writer on another stripe", get_first, TASK_PUT_ELSEWHERE},
                                     {"gets, alone", get_first, TASK_IDLE}},
               4);
}

static void run_expiry(struct scene *scene) {
    static const char *const labels[] = {"puts of new keys, before", "gets, before", "puts, all has just expired",
                                         "gets, all has just expired"};
    static struct measured measured[4];
    memset(measured, 0, sizeof measured);
    lr_drive_clock(scene->cache, 1);
    for (uint64_t item = 0; item < scene->options->items && caught_signal == 0; item++) {
        struct value_key key = value_key(item);
        struct lr_put one = {.key = key.bytes,
                             .key_len = KEY_BYTES,
                             .value = scene->value,
                             .value_len = scene->options->value_bytes,
                             .ttl_ms = LIFE_MS};
        lr_put(scene->cache, &one);
    }
    scene->fresh = scene->options->items;
    for (unsigned after = 0; after < 2; after++) {
        lr_drive_clock(scene->cache, after ? 2 * LIFE_MS : LIFE_MS / 2);
        for (unsigned round = 0; round < ROUNDS; round++) {
            measure(scene, put_new, ROUND_OPS, &measured[2 * after]);
            measure(scene, get_random, ROUND_OPS, &measured[2 * after + 1]);
        }
    }
    for (unsigned i = 0; i < 4; i++)
        report(scene, labels[i], &measured[i]);
}

/* Small and large values by turns, so that a small one lies where a large one ends. */
static void run_pins(struct scene *scene) {
    for (uint64_t item = 0; item < PIN_PAIRS; item++) {
        const struct value_key small = value_key(item), large = value_key(PIN_PAIRS + item);
        put(scene, small.bytes, PIN_SMALL);
        put(scene, large.bytes, LARGE_BYTES);
    }
    take_turns(scene,
               (const struct turn[]){{"pins of 64 bytes", pin_small, TASK_IDLE},
                                     {"pins of 1 MiB beside them", pin_large, TASK_IDLE}},
               2);
}

static bool create_and_destroy(struct scene *scene) {
    struct lr_options options = lr_options_default();
    struct lr_cache *cache;
    options.name = scene->name;
    options.size = bytes_of(scene->options);
    if (lr_cache_create(&options, &cache, NULL) != 0)
        return false;
    lr_cache_detach(cache);
    return lr_cache_destroy(&options, NULL) == 0;
}

static bool write_fresh(struct scene *scene) {
    const size_t bytes = (size_t)bytes_of(scene->options);
    uint8_t *fresh = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED)
        return false;
    madvise(fresh, bytes, MADV_HUGEPAGE);
    memset(fresh, 1, bytes);
    return munmap(fresh, bytes) == 0;
}

static void run_startup(struct scene *scene) {
    static struct measured segment, plain;
    memset(&segment, 0, sizeof segment);
    memset(&plain, 0, sizeof plain);
    measure(scene, create_and_destroy, 1, &segment);
    measure(scene, write_fresh, 1, &plain);
    report(scene, "create and destroy a segment", &segment);
    report(scene, "as much fresh plain memory written", &plain);
}

static bool has_neighbour(enum scenario scenario) {
    return scenario == SCENARIO_tails || scenario == SCENARIO_hotkey || scenario == SCENARIO_stripe;
}

static bool has_floor(enum scenario scenario) {
    return scenario == SCENARIO_large || scenario == SCENARIO_tails || scenario == SCENARIO_hotkey;
}

static int create_segment(struct scene *scene, enum scenario scenario, char *why) {
    struct lr_options create = lr_options_default();
    create.name = scene->name;
    create.size = scenario == SCENARIO_large ? 256u << 20 : bytes_of(scene->options);
    if (scenario == SCENARIO_hotkey || scenario == SCENARIO_stripe) /* several stripes */
        create.size = create.size < MIN_SEGMENT ? MIN_SEGMENT : create.size;
    if (scenario == SCENARIO_pins) {
        create.size = PIN_SEGMENT;
        create.stripes = PIN_STRIPES;
        create.policy = LR_POLICY_clock; /* one region: what is put in turns lies side by side */
    }
    create.who = "bench";
    create.prefault = true;
    return scenario == SCENARIO_startup ? 0 : lr_cache_create(&create, &scene->cache, why);
}

static int begin(struct scene *scene, enum scenario scenario, char *why) {
    const struct scenario_options *options = scene->options;
    uint64_t bytes = options->value_bytes > LARGE_BYTES ? options->value_bytes : LARGE_BYTES;
    scene->ticks = ticks_calibrate();
    scene->draw = draw_seeded(1);
    scene->value = malloc(bytes);
    scene->copy = malloc(bytes);
    if (scene->value == NULL || scene->copy == NULL ||
        floor_create(&scene->floor,
                     scenario == SCENARIO_large ? 256
                     : has_floor(scenario)      ? options->items
                                                : 1,
                     KEY_BYTES, scenario == SCENARIO_large ? LARGE_BYTES : options->value_bytes) != 0) {
        snprintf(why, LR_WHY_BYTES, "no memory for the floor's table");
        return LARDER_ENO_MEMORY;
    }
    value_write(scene->value, bytes, 1, 1, 1);
    memset(scene->floor.items, 1, scene->floor.item_bytes);
    int error = create_segment(scene, scenario, why);
    if (error != 0)
        return error;
    if (scenario == SCENARIO_stripe) /* so that keys stand in lines of their own */
        load(scene, false);
    if (scenario == SCENARIO_hotkey || scenario == SCENARIO_stripe)
        find_stripe_keys(scene);
    return has_neighbour(scenario) ? start_neighbour(scene, why) : 0;
}

static void end(struct scene *scene) {
    struct lr_options options = lr_options_default();
    if (scene->neighbour > 0) {
        kill(scene->neighbour, SIGKILL);
        while (waitpid(scene->neighbour, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    options.name = scene->name;
    if (scene->cache != NULL) {
        lr_cache_detach(scene->cache);
        lr_cache_destroy(&options, NULL);
    }
    floor_destroy(&scene->floor);
    free(scene->value);
    free(scene->copy);
}

int scenario_run(enum scenario scenario, const struct scenario_options *options, struct scenario_result *out,
                 char *why) {
    static void (*const runs[SCENARIO_COUNT])(struct scene * scene) = {
#define X(name) run_##name,
        SCENARIOS(X)
#undef X
    };
    static struct scene scene;
    struct sigaction action = {.sa_handler = remember_signal}, old_interrupt, old_terminate;
    *out = (struct scenario_result){0};
    scene = (struct scene){.options = options, .out = out};
    why[0] = '\0';
    snprintf(scene.name, sizeof scene.name, "bench.%ld.%08" PRIx32 ".scene", (long)getpid(),
             (uint32_t)ticks_clock_ns());
    sigemptyset(&action.sa_mask);
    caught_signal = 0;
    sigaction(SIGINT, &action, &old_interrupt);
    sigaction(SIGTERM, &action, &old_terminate);
    int error = begin(&scene, scenario, why);
    if (error == 0) {
        bind_to_core(0);
        runs[scenario](&scene);
    }
    end(&scene);
    out->interrupted = caught_signal;
    sigaction(SIGINT, &old_interrupt, NULL);
    sigaction(SIGTERM, &old_terminate, NULL);
    return error;
}
