/* SPDX-License-Identifier: MIT */
/*
 * A holder is a child that makes the steps of a put by itself (lock, room, fill, publish), and says on the board when
 * it is inside. Then it is killed or stopped there.
 *
 * The machine that runs this has other work, so every measurement stands beside a control:
 *  - after a kill: counted from the kill, and from when the holder was seen dead, less what the kernel (schedstat) says
 *    the putting process waited for a processor; beside it the same hand-over with a holder who is told to unlock.
 *  - gets among stopped writers: intervals with all writers stopped inside take turns with intervals in which none is.
 */
#include "holders.h"
#include "fixture.h"

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
#include <sys/wait.h>
#include <time.h>

#include "stripe.h"

#define STRIPE (UINT64_C(8) << 20)
#define STRIPES 4u
#define VALUE 64u
#define ITEMS 40000u /* in each stripe, so that it is about half full of them */
#define BUSY_WAIT_MS 20u
#define INTERVAL_NS UINT64_C(30000000)
#define MOST_GETS 400000u
#define REPAIRS 25u
#define P99_NS UINT64_C(10000000)
#define MAX_NS UINT64_C(50000000)

enum order { ORDER_NONE, ORDER_ENTER, ORDER_LEAVE };
enum state { STATE_OUTSIDE, STATE_INSIDE };

struct shared {
    _Atomic uint32_t state[STRIPES];
    _Atomic uint32_t order[STRIPES];
    _Atomic uint64_t killed_ns;
    _Atomic uint64_t died_ns;
    _Atomic uint64_t delay_ns; /* run_delay_ns of the measuring process when the holder was dead */
};

struct scene {
    struct lr_options options;
    char name[65];
    struct lr_cache *cache;
    struct shared *shared;
    uint64_t keys[STRIPES]; /* one of each stripe */
    struct fixture_random random;
    char *broken;
};

static bool say(struct scene *scene, const char *what, uint64_t a, uint64_t b) {
    if (scene->broken[0] == 0)
        snprintf(scene->broken, 400, "%s (%" PRIu64 ", %" PRIu64 ")", what, a, b);
    return false;
}

/* ---- the scene ------------------------------------------------------------------------------------------------------
 */

static uint32_t stripe_of(const struct scene *scene, uint64_t key) {
    return lr_place_stripe(scene->cache, lr_place(scene->cache, lr_hash_key(&key, sizeof key)));
}

static int put_of_length(struct scene *scene, uint64_t key, size_t value_len) {
    uint64_t value[8] = {key};
    struct lr_put put = {.key = &key, .key_len = sizeof key, .value = value, .value_len = value_len};
    return lr_put(scene->cache, &put);
}

static int put_number(struct scene *scene, uint64_t key) {
    return put_of_length(scene, key, VALUE);
}

static bool open_scene(struct scene *scene, uint64_t size, unsigned stripes, uint64_t items, size_t value_len) {
    char why[LR_WHY_BYTES] = "";
    fixture_name(scene->name);
    scene->options = lr_options_default();
    scene->options.name = scene->name;
    scene->options.size = size;
    scene->options.stripes = stripes;
    scene->options.prefault = true;
    scene->shared = mmap(NULL, sizeof *scene->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (scene->shared == MAP_FAILED || lr_cache_create(&scene->options, &scene->cache, why) != 0) {
        snprintf(scene->broken, 400, "no segment: %.300s", why);
        return false;
    }
    lr_set_replicating(scene->cache, true);
    for (uint64_t key = 0; key < items; key++) {
        if (put_of_length(scene, key, value_len) != 0)
            return say(scene, "a put into a new segment is refused", key, 0);
        scene->keys[stripe_of(scene, key)] = key;
    }
    return true;
}

static void close_scene(struct scene *scene) {
    struct lr_check check;
    if (scene->cache == NULL)
        return;
    (void)lr_reap(scene->cache);
    if (lr_check(scene->cache, &check) != 0 && scene->broken[0] == 0)
        snprintf(scene->broken, 400, "check: %" PRIu64 " findings, %.160s", check.findings, check.first[0]);
    lr_cache_detach(scene->cache);
    (void)lr_cache_destroy(&scene->options, NULL);
    munmap(scene->shared, sizeof *scene->shared);
    scene->cache = NULL;
}

/* ---- a holder ---------------------------------------------------------------------------------------------------- */

/* Replaces the stripe's key; inside, `wait` decides how long. */
static int put_and_wait_inside(struct scene *scene, unsigned stripe, unsigned stage,
                               void (*wait)(struct scene *, unsigned)) {
    struct lr_view view;
    struct lr_cache *cache = scene->cache;
    uint64_t key = scene->keys[stripe], value[8] = {~key};
    if (lr_enter(cache) != 0 || lr_stripe_lock(&view, cache, stripe) != 0)
        return LARDER_EBUSY;
    if (stage == 0)
        wait(scene, stripe);
    struct lr_key hashed = lr_key_of(cache, &key, sizeof key);
    struct lr_found found = lr_index_find(&view, &hashed);
    struct lr_making making = {.key = &hashed,
                               .value = value,
                               .value_len = sizeof value,
                               .version = lr_version_draw(&view),
                               .deadline_ms = UINT64_MAX};
    struct lr_room room;
    view.hand_moved = false;
    int error =
        lr_hand_room(&view, LR_MAIN, lr_entry_size(&making), found.slot ? found.head.off : 0, LR_ROOM_EVICT, &room);
    if (error == 0) {
        uint64_t word = lr_entry_fill(&view, &room, &making);
        if (stage == 1)
            wait(scene, stripe);
        error = lr_entry_publish(&view, &found, word, &room, &making, true);
    }
    if (stage == 2)
        wait(scene, stripe);
    lr_stripe_unlock(&view);
    return error;
}

/* Inside until told to leave, or killed. */
static void sleep_inside(struct scene *scene, unsigned stripe) {
    atomic_store(&scene->shared->state[stripe], STATE_INSIDE);
    while (atomic_load(&scene->shared->order[stripe]) != ORDER_LEAVE)
        usleep(20); /* one who spins is not soon given a processor to die on */
    atomic_store(&scene->shared->killed_ns, fixture_now_ns());
}

static void stop_inside(struct scene *scene, unsigned stripe) {
    atomic_store(&scene->shared->state[stripe], STATE_INSIDE);
    raise(SIGSTOP);
}

static pid_t start_holder(struct scene *scene, unsigned stripe, unsigned stage) {
    atomic_store(&scene->shared->state[stripe], STATE_OUTSIDE);
    atomic_store(&scene->shared->order[stripe], ORDER_ENTER);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        _exit(put_and_wait_inside(scene, stripe, stage, sleep_inside) == 0 ? 0 : 1);
    }
    while (child > 0 && atomic_load(&scene->shared->state[stripe]) != STATE_INSIDE)
        sched_yield();
    return child;
}

/* ---- after a kill ------------------------------------------------------------------------------------------------ */

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t percentile(uint64_t *sorted, size_t count, double part) {
    size_t at = (size_t)((double)count * part);
    return count == 0 ? 0 : sorted[at < count ? at : count - 1];
}

/* Nanoseconds for which the process was ready to run and did not. 0 if the kernel does not say. */
static uint64_t run_delay_ns(pid_t pid) {
    uint64_t running = 0, delay = 0;
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/schedstat", (long)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%" SCNu64 " %" SCNu64, &running, &delay) != 2)
        delay = 0;
    fclose(file);
    return delay;
}

static bool is_dead(pid_t pid) {
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return true;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = 'Z';
    fclose(file);
    return state == 'Z' || state == 'X';
}

/*
 * Ends the holder, by a kill or by telling it to unlock, `delay_us` from now. Dying takes until the machine lets the
 * dead run once more: no cache can be faster, so that moment is noted too.
 */
static void end_holder(struct scene *scene, pid_t measuring, pid_t holder, unsigned stripe, bool by_kill,
                       unsigned delay_us) {
    struct shared *shared = scene->shared;
    uint64_t until = fixture_now_ns() + delay_us * UINT64_C(1000);
    while (fixture_now_ns() < until)
        usleep(100);
    if (!by_kill) {
        atomic_store(&shared->delay_ns, run_delay_ns(measuring));
        atomic_store(&shared->order[stripe], ORDER_LEAVE);
        return;
    }
    atomic_store(&shared->killed_ns, fixture_now_ns());
    kill(holder, SIGKILL);
    while (!is_dead(holder))
        usleep(20);
    atomic_store(&shared->delay_ns, run_delay_ns(measuring));
    atomic_store(&shared->died_ns, fixture_now_ns());
}

struct hand_over {
    uint64_t raw_ns; /* from the end of a holder to the end of a put into its stripe */
    uint64_t net_ns; /* from its death, without the time for which the putting process had no processor */
};

/* `waiting`: the put has begun before the holder ends. */
static struct hand_over time_a_hand_over(struct scene *scene, bool by_kill, bool waiting) {
    struct shared *shared = scene->shared;
    unsigned stripe = (unsigned)fixture_below(&scene->random, STRIPES);
    unsigned delay_us = waiting ? 200 + (unsigned)fixture_below(&scene->random, 15000) : 0;
    pid_t holder = start_holder(scene, stripe, (unsigned)fixture_below(&scene->random, 3)), measuring = getpid();
    int status = 0;
    atomic_store(&shared->killed_ns, 0);
    atomic_store(&shared->died_ns, 0);
    pid_t killer = fork();
    if (killer == 0) {
        end_holder(scene, measuring, holder, stripe, by_kill, delay_us);
        _exit(0);
    }
    while (!waiting && atomic_load(&shared->killed_ns) == 0)
        sched_yield();
    int error;
    uint64_t done, since;
    do { /* until the holder has ended, BUSY is right: he who is to end it may be waiting for a processor */
        error = put_number(scene, scene->keys[stripe]);
        done = fixture_now_ns(), since = atomic_load(&shared->killed_ns);
    } while (error == LARDER_EBUSY && (since == 0 || done - since < scene->cache->wait_ms * UINT64_C(1000000)));
    uint64_t delay = run_delay_ns(measuring);
    if (error != 0)
        say(scene, "a put after the end of a holder says an error", (uint64_t)-error, waiting);
    waitpid(killer, &status, 0);
    waitpid(holder, &status, 0);
    struct hand_over took = {.raw_ns = done > since ? done - since : 0};
    uint64_t died = by_kill ? atomic_load(&shared->died_ns) : since, before = atomic_load(&shared->delay_ns);
    took.net_ns = done > died ? done - died : 0;
    delay = delay > before ? delay - before : 0;
    took.net_ns = took.net_ns > delay ? took.net_ns - delay : 0;
    return took;
}

struct times {
    uint64_t *raw, *net;
};

static void print_times(const char *what, const struct times *times, unsigned count) {
    printf("  %s: p50 %.2f, p99 %.2f, max %.2f ms; from its death, without waiting for a processor: p99 %.2f, max %.2f "
           "ms\n",
           what, (double)percentile(times->raw, count, 0.5) / 1e6, (double)percentile(times->raw, count, 0.99) / 1e6,
           (double)percentile(times->raw, count, 1) / 1e6, (double)percentile(times->net, count, 0.99) / 1e6,
           (double)percentile(times->net, count, 1) / 1e6);
}

/* The bounds are the goal's; p99 is allowed as much again, and both what a plain hand-over takes here. */
static bool judge_times(struct scene *scene, const struct times times[2], unsigned count) {
    uint64_t p99 = percentile(times[0].net, count, 0.99), noise99 = percentile(times[1].raw, count, 0.99);
    uint64_t most = percentile(times[0].net, count, 1), noise = percentile(times[1].raw, count, 1);
    if (p99 > 2 * P99_NS + noise99)
        return say(scene, "p99 of a stripe's unusable time is above 20 ms and the control's: ns", p99, noise99);
    if (most > MAX_NS + noise)
        return say(scene, "a stripe was unusable for more than 50 ms and the control's maximum: ns", most, noise);
    return scene->broken[0] == 0;
}

static bool measure_kills(struct scene *scene, unsigned kills) {
    struct times times[2];
    uint64_t *all = calloc(kills, 4 * sizeof *all);
    bool held = all != NULL;
    for (unsigned i = 0; i < 2; i++)
        times[i] = (struct times){all + 2 * i * kills, all + (2 * i + 1) * kills};
    for (unsigned waiting = 0; waiting < 2 && held; waiting++) {
        for (unsigned i = 0; i < kills && scene->broken[0] == 0; i++) {
            for (unsigned control = 0; control < 2; control++) {
                struct hand_over took = time_a_hand_over(scene, control == 0, waiting);
                times[control].raw[i] = took.raw_ns;
                times[control].net[i] = took.net_ns;
            }
        }
        for (unsigned i = 0; i < 4; i++)
            qsort(all + i * kills, kills, sizeof *all, by_size);
        printf("from the end of a holder to the end of %s, %u times, stripes of %u MiB:\n",
               waiting ? "a put that was waiting" : "a put begun then", kills, (unsigned)(STRIPE >> 20));
        print_times("killed", &times[0], kills);
        print_times("control, unlocked", &times[1], kills);
        held = judge_times(scene, times, kills);
    }
    free(all);
    return held;
}

/* ---- repair ------------------------------------------------------------------------------------------------------ */

static uint64_t processor_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* `items` of a key of 8 bytes and a value of that length: as many as there is room for, or fewer. */
static bool measure_repair(const struct holders_plan *plan, uint64_t stripe_bytes, uint64_t items, size_t value_len,
                           char *broken) {
    struct scene scene = {.random = {plan->seed}, .broken = broken};
    const unsigned repairs = stripe_bytes > UINT64_C(16) << 20 ? REPAIRS / 5 : REPAIRS;
    uint64_t times[REPAIRS];
    struct lr_stat before, after;
    if (!open_scene(&scene, stripe_bytes, 1, items, value_len))
        return false;
    for (unsigned i = 0; i < repairs; i++) {
        int status;
        pid_t holder = start_holder(&scene, 0, i % 3);
        kill(holder, SIGKILL);
        waitpid(holder, &status, 0);
        lr_stat(scene.cache, &before);
        uint64_t began = processor_ns();
        int error = put_number(&scene, items);
        times[i] = processor_ns() - began;
        lr_stat(scene.cache, &after);
        if (error != 0 || after.counters[LR_C_repairs] != before.counters[LR_C_repairs] + 1)
            say(&scene, "a put after a kill has not repaired", (uint64_t)-error, i);
    }
    if (after.counters[LR_C_repair_dropped] != 0)
        say(&scene, "repair dropped items", after.counters[LR_C_repair_dropped], 0);
    qsort(times, repairs, sizeof *times, by_size);
    printf("repair of a stripe of %2u MiB with %" PRIu64 " items of %zu bytes: median %" PRIu64 " us, max %" PRIu64
           " us of processor time\n",
           (unsigned)(stripe_bytes >> 20), after.items, 8 + value_len, times[repairs / 2] / 1000,
           times[repairs - 1] / 1000);
    close_scene(&scene);
    return broken[0] == 0;
}

/* ---- gets among stopped writers ---------------------------------------------------------------------------------- */

struct interval {
    uint64_t p50, p999;
};

/* Gets of keys that are there, each timed by the clock of the processor. */
static struct interval time_gets(struct scene *scene, uint32_t *ticks) {
    uint64_t until = fixture_now_ns() + INTERVAL_NS, value[8];
    size_t count = 0, bins[4096] = {0};
    while (fixture_now_ns() < until && count < MOST_GETS) {
        for (unsigned i = 0; i < 64 && count < MOST_GETS; i++) {
            uint64_t key = fixture_below(&scene->random, ITEMS * STRIPES);
            uint64_t from = __builtin_ia32_rdtsc();
            int error = lr_get(scene->cache, &key, sizeof key, value, sizeof value, NULL, 0);
            uint64_t took = __builtin_ia32_rdtsc() - from;
            ticks[count++] = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
            if (error != 0 && error != LARDER_ENOT_FOUND)
                say(scene, "a get among stopped writers says an error", (uint64_t)-error, key);
        }
    }
    for (size_t i = 0; i < count; i++)
        bins[ticks[i] / 16 < 4095 ? ticks[i] / 16 : 4095]++;
    struct interval out = {0};
    size_t seen = 0;
    for (unsigned bin = 0; bin < 4096; bin++) {
        seen += bins[bin];
        if (out.p50 == 0 && seen * 2 >= count)
            out.p50 = bin * 16 + 16;
        if (out.p999 == 0 && seen * 1000 >= count * 999)
            out.p999 = bin * 16 + 16;
    }
    return out;
}

static int write_and_stop(struct scene *scene, unsigned stripe) {
    for (;;) {
        raise(SIGSTOP); /* outside */
        if (atomic_load(&scene->shared->order[stripe]) == ORDER_LEAVE)
            return 0;
        int error = put_and_wait_inside(scene, stripe, 1, stop_inside);
        atomic_store(&scene->shared->state[stripe], STATE_OUTSIDE);
        if (error != 0 && error != LARDER_ESTALE)
            return 1;
    }
}

/* Lets all writers go on to their next stop. */
static void next_stop(struct scene *scene, const pid_t *writers) {
    for (unsigned i = 0; i < STRIPES; i++)
        kill(writers[i], SIGCONT);
    for (unsigned i = 0; i < STRIPES; i++) {
        int status;
        if (waitpid(writers[i], &status, WUNTRACED) != writers[i] || !WIFSTOPPED(status))
            say(scene, "a writer did not stop", i, (uint64_t)status);
    }
}

/* All writers are stopped inside: puts say BUSY in time, deletes take effect. */
static void try_changes(struct scene *scene, uint64_t *longest_ns) {
    scene->cache->wait_ms = BUSY_WAIT_MS;
    for (unsigned i = 0; i < STRIPES; i++) {
        uint64_t began = fixture_now_ns();
        int error = put_number(scene, scene->keys[i]);
        uint64_t took = fixture_now_ns() - began;
        *longest_ns = took > *longest_ns ? took : *longest_ns;
        if (error != LARDER_EBUSY)
            say(scene, "a put behind a stopped holder does not say BUSY", (uint64_t)-error, i);
        if (lr_delete(scene->cache, &scene->keys[i], sizeof scene->keys[i]) != 0 ||
            lr_get(scene->cache, &scene->keys[i], sizeof scene->keys[i], NULL, 0, NULL, 0) != LARDER_ENOT_FOUND)
            say(scene, "a delete behind a stopped holder takes no effect", i, 0);
    }
    scene->cache->wait_ms = 250;
}

/* The writers went on: their puts of the deleted keys were dropped, and the deletes have left tombstones. */
static void look_after(struct scene *scene) {
    static uint8_t buf[STRIPE];
    for (unsigned i = 0; i < STRIPES; i++) {
        struct lr_entry entry;
        uint64_t key = scene->keys[i];
        if (lr_get(scene->cache, &key, sizeof key, NULL, 0, NULL, 0) != LARDER_ENOT_FOUND)
            say(scene, "a resumed writer brought a deleted value back", i, 0);
        (void)lr_delete(scene->cache, "nothing", 7);
        (void)put_number(scene, key + 1 < ITEMS ? key + 1 : 0);
        struct lr_view view;
        if (lr_stripe_lock(&view, scene->cache, i) == 0) /* settles the notes */
            lr_stripe_unlock(&view);
        if (lr_entry_by_hash(scene->cache, lr_cluster_hash(&key, sizeof key), buf, sizeof buf, &entry) != 0 ||
            !entry.tombstone)
            say(scene, "a delete behind a stopped holder left no tombstone", i, 0);
        (void)put_number(scene, key); /* there again for the next time */
    }
}

static uint64_t median(struct interval *intervals, unsigned count, bool p50) {
    uint64_t values[1024];
    for (unsigned i = 0; i < count; i++)
        values[i] = p50 ? intervals[i].p50 : intervals[i].p999;
    qsort(values, count, sizeof *values, by_size);
    return values[count / 2];
}

static bool measure_gets(struct scene *scene, unsigned count) {
    static struct interval intervals[2][1024];
    static uint32_t ticks[MOST_GETS];
    pid_t writers[STRIPES];
    uint64_t longest_ns = 0;
    int status;
    for (unsigned i = 0; i < STRIPES; i++) {
        atomic_store(&scene->shared->order[i], ORDER_ENTER);
        writers[i] = fork();
        if (writers[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            _exit(write_and_stop(scene, i));
        }
        waitpid(writers[i], &status, WUNTRACED);
    }
    (void)time_gets(scene, ticks); /* warms up */
    for (unsigned i = 0; i < count && scene->broken[0] == 0; i++) {
        intervals[0][i] = time_gets(scene, ticks);
        next_stop(scene, writers); /* inside */
        intervals[1][i] = time_gets(scene, ticks);
        if (i % 8 == 0)
            try_changes(scene, &longest_ns);
        next_stop(scene, writers); /* outside again */
        if (i % 8 == 0)
            look_after(scene);
    }
    for (unsigned i = 0; i < STRIPES; i++) {
        atomic_store(&scene->shared->order[i], ORDER_LEAVE);
        kill(writers[i], SIGCONT);
        waitpid(writers[i], &status, 0);
    }
    double free999 = (double)median(intervals[0], count, false),
           stopped999 = (double)median(intervals[1], count, false);
    printf("gets while %u writers are stopped inside %u stripes: p50 %" PRIu64
           ", p99.9 %.0f ticks; while none is: p50 %" PRIu64
           ", p99.9 %.0f ticks; p99.9 ratio %.3f (medians of %u intervals of each kind in turns)\n",
           STRIPES, STRIPES, median(intervals[1], count, true), stopped999, median(intervals[0], count, true), free999,
           stopped999 / free999, count);
    printf("a put behind a stopped holder says BUSY after at most %.1f ms (wait_ms %u)\n", (double)longest_ns / 1e6,
           BUSY_WAIT_MS);
    if (longest_ns > (BUSY_WAIT_MS + 500) * UINT64_C(1000000))
        return say(scene, "BUSY came late: ns", longest_ns, 0);
    if (stopped999 > free999 * 1.5)
        return say(scene, "gets are slower while writers are stopped: p99.9 ticks", (uint64_t)stopped999,
                   (uint64_t)free999);
    return scene->broken[0] == 0;
}

bool holders_measure(const struct holders_plan *plan, char broken[400]) {
    struct scene scene = {.random = {plan->seed}, .broken = broken};
    broken[0] = 0;
    bool held = open_scene(&scene, STRIPE * STRIPES, STRIPES, ITEMS * STRIPES, VALUE) &&
                measure_kills(&scene, plan->kills) && measure_gets(&scene, plan->intervals);
    close_scene(&scene);
    static const unsigned mib[] = {8, 16, 64}; /* about half full, and full of small ones */
    for (unsigned i = 0; i < sizeof mib / sizeof mib[0] && held; i++) {
        const uint64_t bytes = (uint64_t)mib[i] << 20;
        held = measure_repair(plan, bytes, bytes / 160, VALUE, broken) &&
               measure_repair(plan, bytes, bytes / 40, 8, broken);
    }
    return held;
}
