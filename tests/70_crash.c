/* SPDX-License-Identifier: MIT */
/*
 * Kill storm: writers die by SIGKILL at random instants, forever replaced, while others read. Is anything lost,
 * foreign, torn, stale or stuck?
 *
 * Every writer arms a timer of its own that sends SIGKILL after a random part of two milliseconds, attaches, and then
 * puts, deletes, pins and reads until it dies. A key belongs to one writer number, so its history is a line: `started`
 * before a change, `least` after it was acknowledged (the lowest sequence that may be seen from then on), `seen` the
 * highest that any reader saw. A value says whose it is:
 *
 *   | key | sequence | length | checksum of all three | filler that follows from the checksum |
 *
 * A value below `least` or `seen`, as both stood before the read began, is stale or resurrected; one above `started` is
 * from nowhere. A miss is always legal, since things are evicted.
 */
#include "fixture.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define WRITERS 4u
#define KEYS 512u
#define MAX_VALUE 9000u

struct history {
    _Atomic uint64_t started[KEYS], least[KEYS], seen[KEYS];
    _Atomic uint64_t reads, hits, wrong, refused;
    _Atomic uint32_t stop;
};

struct storm {
    struct fixture fixture;
    struct history *history;
    uint64_t seed;
    unsigned writer;
};

struct value_head {
    uint64_t key, sequence, len, sum;
};

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 31)) * UINT64_C(0x9e3779b97f4a7c15);
    return (x ^ (x >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
}

static uint64_t sum_of(const struct value_head *head) {
    return mix(head->key * 3 + mix(head->sequence * 5 + mix(head->len)));
}

static size_t make_value(uint8_t *out, uint64_t key, uint64_t sequence, size_t len) {
    struct value_head head = {.key = key, .sequence = sequence, .len = len};
    head.sum = sum_of(&head);
    memcpy(out, &head, sizeof head);
    for (size_t i = sizeof head; i < len; i++)
        out[i] = (uint8_t)(head.sum + i * 7);
    return len;
}

/* Whether a value that was read for `key` may be seen now. `least` and `seen` are from before the read. */
static bool is_right(struct history *history, const uint8_t *value, size_t len, uint64_t key, uint64_t least,
                     uint64_t seen) {
    struct value_head head;
    if (len < sizeof head)
        return false;
    memcpy(&head, value, sizeof head);
    if (head.key != key || head.len != len || head.sum != sum_of(&head))
        return false;
    for (size_t i = sizeof head; i < len; i++)
        if (value[i] != (uint8_t)(head.sum + i * 7))
            return false;
    if (head.sequence < least || head.sequence < seen || head.sequence > atomic_load(&history->started[key]))
        return false;
    uint64_t before = atomic_load(&history->seen[key]);
    while (before < head.sequence && !atomic_compare_exchange_weak(&history->seen[key], &before, head.sequence)) {
    }
    return true;
}

static void judge(struct history *history, bool right) {
    atomic_fetch_add(&history->hits, 1);
    if (!right)
        atomic_fetch_add(&history->wrong, 1);
}

static void read_key(struct lr_cache *cache, struct history *history, uint64_t key, uint8_t *buf, bool pinned) {
    uint64_t least = atomic_load(&history->least[key]), seen = atomic_load(&history->seen[key]);
    struct lr_item item;
    struct lr_pin pin;
    atomic_fetch_add(&history->reads, 1);
    if (!pinned) {
        if (lr_get(cache, &key, sizeof key, buf, MAX_VALUE, &item, 0) == 0)
            judge(history, is_right(history, buf, item.value_len, key, least, seen));
    } else if (lr_pin(cache, &key, sizeof key, &pin) == 0) {
        bool right = is_right(history, pin.value, pin.item.value_len, key, least, seen);
        /* It must not change while it is held. */
        uint64_t sum = 0, again = 0;
        for (size_t i = 0; i < pin.item.value_len; i++)
            sum = sum * 31 + ((const uint8_t *)pin.value)[i];
        for (size_t i = 0; i < pin.item.value_len; i++)
            again = again * 31 + ((const uint8_t *)pin.value)[i];
        judge(history, right && sum == again);
        lr_unpin(cache, &pin);
    }
}

static void arm_death(struct fixture_random *random) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec when = {.it_value.tv_nsec = 1 + (long)fixture_below(random, 1000000)};
    timer_t timer;
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &when, NULL);
}

static void change_key(struct lr_cache *cache, struct storm *storm, struct fixture_random *random, uint8_t *buf) {
    struct history *history = storm->history;
    uint64_t key = fixture_below(random, KEYS / WRITERS) * WRITERS + storm->writer;
    uint64_t sequence = atomic_load(&history->started[key]) + 1;
    atomic_store(&history->started[key], sequence);
    if (fixture_below(random, 5) == 0) {
        int result = lr_delete(cache, &key, sizeof key);
        if (result == 0 || result == LARDER_ENOT_FOUND)
            atomic_store(&history->least[key], sequence + 1);
        return;
    }
    size_t len = sizeof(struct value_head) +
                 fixture_below(random, fixture_below(random, 8) ? 300 : MAX_VALUE - sizeof(struct value_head));
    struct lr_put put = {
        .key = &key, .key_len = sizeof key, .value = buf, .value_len = make_value(buf, key, sequence, len)};
    int result = lr_put(cache, &put);
    if (result == 0)
        atomic_store(&history->least[key], sequence);
    else
        atomic_fetch_add(&history->refused, 1);
}

static int write_until_killed(void *context) {
    struct storm *storm = context;
    struct fixture_random random = {.state = mix(storm->seed)};
    uint8_t *buf = malloc(MAX_VALUE);
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    struct lr_options options = storm->fixture.options;
    options.prefault = true; /* or most of the short life goes into page faults */
    CHILD_EXPECT(buf != NULL && lr_cache_attach(&options, &cache, why) == 0);
    arm_death(&random);
    while (!atomic_load(&storm->history->stop)) {
        change_key(cache, storm, &random, buf);
        if (fixture_below(&random, 4) == 0)
            read_key(cache, storm->history, fixture_below(&random, KEYS), buf, fixture_below(&random, 2));
    }
    return 0;
}

static int read_until_stopped(void *context) {
    struct storm *storm = context;
    struct fixture_random random = {.state = mix(storm->seed)};
    uint8_t *buf = malloc(MAX_VALUE);
    struct lr_cache *cache;
    CHILD_EXPECT(buf != NULL && lr_cache_attach(&storm->fixture.options, &cache, NULL) == 0);
    while (!atomic_load(&storm->history->stop))
        read_key(cache, storm->history, fixture_below(&random, KEYS), buf, fixture_below(&random, 4) == 0);
    lr_cache_detach(cache);
    return 0;
}

static void run_storm(unsigned kills, bool replicating) {
    struct storm storm = {0};
    struct fixture_random random = fixture_seed("kill storm");
    struct lr_options options = lr_options_default();
    options.size = 512u << 10;
    options.stripes = 4;
    fixture_create_with(&storm.fixture, &options);
    lr_set_replicating(storm.fixture.one, replicating);
    storm.history = mmap(NULL, sizeof *storm.history, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CU_ASSERT_PTR_NOT_EQUAL_FATAL(storm.history, MAP_FAILED);
    storm.seed = fixture_next(&random);
    pid_t reader = fixture_start(read_until_stopped, &storm), writers[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++) {
        storm.writer = i;
        storm.seed = fixture_next(&random);
        writers[i] = fixture_start(write_until_killed, &storm);
    }
    unsigned deaths = 0;
    while (deaths < kills) {
        int status;
        pid_t dead = wait(&status);
        for (unsigned i = 0; i < WRITERS; i++) {
            if (dead != writers[i])
                continue;
            CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
            deaths++;
            storm.writer = i;
            storm.seed = fixture_next(&random);
            writers[i] = fixture_start(write_until_killed, &storm);
        }
        CU_ASSERT_FATAL(dead > 0 && dead != reader);
    }
    atomic_store(&storm.history->stop, 1);
    for (unsigned i = 0; i < WRITERS; i++) {
        int status = fixture_wait(writers[i]);
        CU_ASSERT(status == 0 || status == -SIGKILL);
    }
    CU_ASSERT_EQUAL(fixture_wait(reader), 0);
    /* The dead go, their locks are taken over, and all is healthy. */
    CU_ASSERT(lr_reap(storm.fixture.one) >= 0);
    struct lr_stat stat;
    lr_stat(storm.fixture.one, &stat);
    printf("\n    %u kills, %llu puts, %llu reads, %llu hits, %llu takeovers, %llu repairs of %llu us\n   ", deaths,
           (unsigned long long)stat.counters[LR_C_puts], (unsigned long long)storm.history->reads,
           (unsigned long long)storm.history->hits, (unsigned long long)stat.counters[LR_C_takeovers],
           (unsigned long long)stat.counters[LR_C_repairs],
           (unsigned long long)(stat.counters[LR_C_repair_ns] / 1000 /
                                (stat.counters[LR_C_repairs] ? stat.counters[LR_C_repairs] : 1)));
    CU_ASSERT(FIXTURE_SANITIZED || stat.counters[LR_C_takeovers] >= kills / 200);
    CU_ASSERT_EQUAL(storm.history->wrong, 0);
    CU_ASSERT_EQUAL(storm.history->refused, 0);
    CU_ASSERT_EQUAL(stat.counters[LR_C_repair_dropped], 0);
    CU_ASSERT_EQUAL(stat.counters[LR_C_corrupt_seen], 0);
    CU_ASSERT(storm.history->hits > kills);
    munmap(storm.history, sizeof *storm.history);
    fixture_destroy(&storm.fixture);
}

static unsigned kills_here(void) {
    return FIXTURE_SANITIZED ? 200 : 5000;
}

static void a_kill_storm_loses_and_resurrects_nothing(void) {
    run_storm(kills_here(), false);
}

static void a_kill_storm_with_tombstones_loses_and_resurrects_nothing(void) {
    run_storm(kills_here(), true);
}

void larder_suite_70_crash(void) {
    CU_pSuite suite = CU_add_suite("70_crash", NULL, NULL);
    CU_ADD_TEST(suite, a_kill_storm_loses_and_resurrects_nothing);
    CU_ADD_TEST(suite, a_kill_storm_with_tombstones_loses_and_resurrects_nothing);
}
