/* SPDX-License-Identifier: MIT */
/*
 * Threads, signals and cancellation: is a call whole whatever happens to the thread that makes it?
 *
 * 65_concurrency has many threads on one mapping for ThreadSanitizer, 67_interleaved an interruption at every
 * instruction. Here are the ends of threads (with handles and pins left open), signals that arrive by the thousand
 * while a call waits, calls from handlers, and pthread_cancel.
 */
#include "fixture.h"
#include "place.h"
#include "stripe.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>

#define THREADS 4u
#define ROUNDS (FIXTURE_SANITIZED ? 400u : 4000u)

struct value {
    uint64_t key, seq, filler[30];
};

static void fill(struct value *value, uint64_t key, uint64_t seq) {
    value->key = key;
    value->seq = seq;
    for (unsigned i = 0; i < 30; i++)
        value->filler[i] = key * 1000003 + seq;
}

static bool is_whole(const struct value *value, uint64_t key) {
    for (unsigned i = 0; i < 30; i++)
        if (value->filler[i] != key * 1000003 + value->seq)
            return false;
    return value->key == key;
}

static int put_value(struct lr_cache *cache, uint64_t key, uint64_t seq) {
    struct value value;
    fill(&value, key, seq);
    struct lr_put put = {.key = &key, .key_len = 8, .value = &value, .value_len = sizeof value};
    return lr_put(cache, &put);
}

/* 0 or what the get returned; 1: a wrong value. */
static int get_value(struct lr_cache *cache, uint64_t key) {
    struct value value;
    struct lr_item item;
    int error = lr_get(cache, &key, 8, &value, sizeof value, &item, 0);
    return error != 0 ? error : item.value_len == sizeof value && is_whole(&value, key) ? 0 : 1;
}

struct worker {
    pthread_t thread;
    struct fixture *fixture;
    struct lr_cache *cache;
    struct lr_pin pin;
    uint32_t slot;
    unsigned number, wrong;
};

static void start(struct worker *worker, void *(*body)(void *)) {
    CU_ASSERT_EQUAL_FATAL(pthread_create(&worker->thread, NULL, body, worker), 0);
}

/* ---- handles and threads ---------------------------------------------------------------------------------------- */

static void *work_with_own_handle(void *argument) {
    struct worker *worker = argument;
    struct lr_cache *cache = NULL;
    worker->wrong += lr_cache_attach(&worker->fixture->options, &cache, NULL) != 0;
    if (cache == NULL)
        return NULL;
    worker->slot = cache->slot;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        struct lr_pin pin;
        uint64_t key = i % 64;
        worker->wrong += put_value(cache, key, i) != 0;
        worker->wrong += get_value(cache, (i * 7) % 64) > 0;
        if (lr_pin(cache, &key, 8, &pin) == 0) {
            worker->wrong += !is_whole(pin.value, key);
            lr_unpin(cache, &pin);
        }
    }
    if (worker->number % 2 == 0)
        lr_cache_detach(cache);
    else
        worker->cache = cache; /* the thread ends and leaves it open */
    return NULL;
}

static void each_thread_may_have_a_handle_of_its_own(void) {
    struct fixture fixture = {0};
    struct worker workers[THREADS] = {0};
    fixture_create(&fixture, UINT64_C(1) << 20);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].fixture = &fixture;
        workers[i].number = i;
        start(&workers[i], work_with_own_handle);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        CU_ASSERT_EQUAL(workers[i].wrong, 0);
    }
    for (unsigned i = 1; i < THREADS; i += 2) { /* a handle is the process's, not its thread's */
        CU_ASSERT(lr_owner_alive(fixture.one, lr_own_word(workers[i].cache)));
        CU_ASSERT_EQUAL(put_value(workers[i].cache, 7, 8), 0);
        CU_ASSERT(workers[i].cache->slot == workers[i].slot);
        lr_cache_detach(workers[i].cache);
    }
    struct lr_process process;
    for (uint32_t slot = 2; slot < 2 + THREADS; slot++)
        CU_ASSERT_EQUAL(lr_process(fixture.one, slot, &process), LARDER_ENOT_FOUND);
    fixture_destroy(&fixture);
}

static void *pin_and_end(void *argument) {
    struct worker *worker = argument;
    uint64_t key = worker->number;
    worker->wrong += lr_pin(worker->cache, &key, 8, &worker->pin) != 0;
    return NULL;
}

static void a_pin_outlives_the_thread_that_made_it(void) {
    struct fixture fixture = {0};
    struct worker workers[THREADS] = {0};
    fixture_create(&fixture, UINT64_C(64) << 10);
    for (unsigned i = 0; i < THREADS; i++) {
        CU_ASSERT_EQUAL(put_value(fixture.two, i, 1), 0);
        workers[i].cache = fixture.one;
        workers[i].number = i;
        start(&workers[i], pin_and_end);
        pthread_join(workers[i].thread, NULL);
        CU_ASSERT_EQUAL_FATAL(workers[i].wrong, 0);
    }
    for (uint64_t i = 0; i < 3000; i++)
        CU_ASSERT_EQUAL(put_value(fixture.two, i, 2), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        const struct value *value = workers[i].pin.value;
        CU_ASSERT(is_whole(value, i) && value->seq == 1);
        lr_unpin(fixture.one, &workers[i].pin);
    }
    uint64_t bytes;
    CU_ASSERT_EQUAL(lr_participant_pins(fixture.one, fixture.one->slot, &bytes), 0);
    fixture_destroy(&fixture);
}

/* ---- signals ---------------------------------------------------------------------------------------------------- */

static _Atomic(struct lr_cache *) handled_cache;
static _Atomic uint64_t handled, handler_hits, handler_busy, handler_wrong, handler_slowest_ns;
static _Atomic bool handler_calls;

/* Every call that a handler might make; 0, or an error, or 1: a wrong value. */
static int call_some(struct lr_cache *cache, uint64_t count) {
    const uint64_t key = count / 8 % 16;
    struct lr_pin pin;
    int64_t number;
    int error;
    switch (count % 8) {
    case 0:
        return put_value(cache, key, count);
    case 1:
        return lr_delete(cache, &key, 8);
    case 2:
        return lr_touch(cache, &key, 8, 60000);
    case 3:
        return lr_increment(cache, "n", 1, 1, 1, 0, &number);
    case 4:
        error = lr_pin(cache, &key, 8, &pin);
        if (error == 0) {
            error = is_whole(pin.value, key) ? 0 : 1;
            lr_unpin(cache, &pin);
        }
        return error;
    case 5:
        return count % 64 == 5 ? lr_flush(cache) : get_value(cache, key);
    default:
        return get_value(cache, key);
    }
}

static void call_in_handler(int number) {
    (void)number;
    int interrupted_errno = errno; /* a handler's duty: calls that wait change it */
    struct lr_cache *cache = atomic_load(&handled_cache);
    uint64_t count = atomic_fetch_add(&handled, 1);
    if (cache == NULL)
        return;
    uint64_t started_ns = fixture_now_ns();
    int result = atomic_load(&handler_calls) ? call_some(cache, count) : get_value(cache, count % 16);
    uint64_t took_ns = fixture_now_ns() - started_ns;
    if (took_ns > atomic_load(&handler_slowest_ns))
        atomic_store(&handler_slowest_ns, took_ns);
    atomic_fetch_add(result == 0                                           ? &handler_hits
                     : result == LARDER_EBUSY || result == LARDER_ENO_PINS ? &handler_busy
                                                                           : &handler_wrong,
                     result != LARDER_ENOT_FOUND);
    errno = interrupted_errno;
}

static struct sigaction before_storm;

/* SIGALRM each `us`, to whichever thread has it unblocked; no SA_RESTART, so that whatever can be interrupted is. */
static void start_storm(struct lr_cache *cache, suseconds_t us) {
    struct sigaction action = {.sa_handler = call_in_handler};
    struct itimerval timer = {{0, us}, {0, us}};
    atomic_store(&handled_cache, cache);
    atomic_store(&handled, 0);
    atomic_store(&handler_hits, 0);
    atomic_store(&handler_busy, 0);
    atomic_store(&handler_wrong, 0);
    atomic_store(&handler_slowest_ns, 0);
    CU_ASSERT_EQUAL_FATAL(sigaction(SIGALRM, &action, &before_storm), 0);
    CU_ASSERT_EQUAL(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

static void end_storm(void) {
    struct itimerval none = {{0, 0}, {0, 0}};
    CU_ASSERT_EQUAL(setitimer(ITIMER_REAL, &none, NULL), 0);
    fixture_sleep_ms(2);
    CU_ASSERT_EQUAL(sigaction(SIGALRM, &before_storm, NULL), 0);
}

struct holder {
    struct lr_cache *cache;
    unsigned hold_ms;
    _Atomic bool holds;
};

static void *hold_all_stripes(void *argument) {
    struct holder *holder = argument;
    struct lr_view views[64];
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL); /* the signals are for those who wait */
    for (uint32_t i = 0; i < holder->cache->geometry.stripe_count; i++)
        if (lr_stripe_lock(&views[i], holder->cache, i) != 0)
            return argument;
    atomic_store(&holder->holds, true);
    fixture_sleep_ms(holder->hold_ms);
    for (uint32_t i = 0; i < holder->cache->geometry.stripe_count; i++)
        lr_stripe_unlock(&views[i]);
    return NULL;
}

/* Waits of a put, while signals arrive each 300 us: neither shorter nor much longer than they should be. */
static void signals_do_not_shorten_or_prolong_a_wait(void) {
    struct fixture fixture = {0};
    struct lr_options options = lr_options_default();
    options.size = UINT64_C(1) << 20;
    fixture_create_with(&fixture, &options);
    for (unsigned longer = 0; longer < 2; longer++) {
        struct holder holder = {.cache = fixture.two, .hold_ms = longer ? 2000 : 150};
        fixture.one->wait_ms = longer ? 400 : 4000;
        pthread_t thread;
        void *failed;
        CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, hold_all_stripes, &holder), 0);
        while (!atomic_load(&holder.holds))
            sched_yield();
        start_storm(NULL, 300);
        uint64_t started_ns = fixture_now_ns();
        int result = put_value(fixture.one, 1, 1);
        uint64_t took_ms = (fixture_now_ns() - started_ns) / 1000000;
        end_storm();
        CU_ASSERT(atomic_load(&handled) > 20); /* it did rain, though others may have had the processor */
        CU_ASSERT_EQUAL(result, longer ? LARDER_EBUSY : 0);
        CU_ASSERT(longer ? took_ms >= 399 && took_ms < 1900 : took_ms < 3900);
        CU_ASSERT_EQUAL(pthread_join(thread, &failed), 0);
        CU_ASSERT_PTR_NULL(failed);
    }
    CU_ASSERT_EQUAL(put_value(fixture.one, 1, 2), 0);
    fixture_destroy(&fixture);
}

/* Enough signals and hits; and if handlers change things, some came in the middle of a change. */
static bool has_rained(unsigned long signals, unsigned long hits, bool calls) {
    return atomic_load(&handled) > signals && atomic_load(&handler_hits) > hits &&
           (!calls || atomic_load(&handler_busy) > 0);
}

static void run_storm_of_handlers(bool calls) {
    struct fixture fixture = {0};
    struct lr_options options = lr_options_default();
    options.size = UINT64_C(128) << 10;
    options.wait_ms = 2;
    fixture_create_with(&fixture, &options);
    atomic_store(&handler_calls, calls);
    const unsigned long signals = calls ? 100 : 300, hits = calls ? 10 : 100;
    uint64_t wrong = 0, busy = 0;
    start_storm(fixture.one, 100);
    /* As long as it takes to have so many: on a busy machine few come, for one stands for all that were due. */
    const uint64_t began_ns = fixture_now_ns();
    for (uint64_t i = 0, ms = 0; ms < 700 || (ms < 20000 && !has_rained(signals, hits, calls));
         i++, ms = (fixture_now_ns() - began_ns) / 1000000) {
        int put = put_value(fixture.one, i % 16, i), got = get_value(fixture.one, (i * 5) % 16);
        int64_t number;
        int counted = lr_increment(fixture.one, "n", 1, 1, 1, 0, &number);
        busy += put == LARDER_EBUSY;
        busy += counted == LARDER_EBUSY;
        wrong += put != 0 && put != LARDER_EBUSY;
        wrong += counted != 0 && counted != LARDER_EBUSY;
        wrong += got > 0;
        struct lr_pin pin;
        const uint64_t key = i % 16;
        if (lr_pin(fixture.one, &key, 8, &pin) == 0) {
            wrong += !is_whole(pin.value, key);
            lr_unpin(fixture.one, &pin);
        }
        if (calls && i % 3 == 0)
            (void)lr_delete(fixture.one, &key, 8);
    }
    end_storm();
    printf(" %lu signals, %lu hits, %lu and %lu busy, slowest %lu us;", (unsigned long)atomic_load(&handled),
           (unsigned long)atomic_load(&handler_hits), (unsigned long)atomic_load(&handler_busy), (unsigned long)busy,
           (unsigned long)atomic_load(&handler_slowest_ns) / 1000);
    CU_ASSERT(has_rained(signals, hits, calls));
    CU_ASSERT_EQUAL(atomic_load(&handler_wrong), 0);
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT(FIXTURE_SANITIZED || atomic_load(&handler_slowest_ns) < UINT64_C(2000000000));
    CU_ASSERT_EQUAL(put_value(fixture.two, 1, 1), 0); /* no lock was left behind */
    fixture_destroy(&fixture);
}

static void a_get_in_a_handler_is_right_and_returns(void) {
    run_storm_of_handlers(false);
}

/* Puts, deletes, touches, increments, pins and flushes that interrupt the same of their own thread. */
static void any_call_in_a_handler_is_done_or_refused(void) {
    run_storm_of_handlers(true);
}

/* ---- cancellation ----------------------------------------------------------------------------------------------- */

static unsigned open_descriptors(void) {
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir != NULL && readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static unsigned mappings_of(const char *name) {
    unsigned count = 0;
    char line[600];
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
        count += strstr(line, name) != NULL;
    fclose(maps);
    return count;
}

/* Calls until it is cancelled, at the only place where that may happen. */
static void *call_until_cancelled(void *argument) {
    struct worker *worker = argument;
    struct fixture *fixture = worker->fixture;
    static _Atomic uint64_t seq;
    for (uint64_t i = 0;; i++) {
        uint64_t key = i % 16;
        struct lr_pin pin;
        struct lr_process process;
        int64_t number;
        int error = put_value(fixture->one, key, atomic_fetch_add(&seq, 1));
        worker->wrong += error != 0 && error != LARDER_EBUSY;
        worker->wrong += get_value(fixture->one, (key * 3) % 16) > 0;
        error = lr_increment(fixture->one, "n", 1, 1, 1, 0, &number);
        worker->wrong += error != 0 && error != LARDER_EBUSY;
        if (lr_pin(fixture->one, &key, 8, &pin) == 0)
            lr_unpin(fixture->one, &pin);
        (void)lr_process(fixture->one, fixture->two->slot, &process);
        (void)lr_reap(fixture->one);
        if (worker->number % 2 == 1) { /* and a handle comes and goes: opens, closes and maps */
            struct lr_cache *cache;
            pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
            error = lr_cache_attach(&fixture->options, &cache, NULL);
            worker->wrong += error != 0;
            worker->cache = cache; /* who is cancelled has it here, or closed already */
            if (error == 0)
                lr_cache_detach(cache);
            worker->cache = NULL;
        }
        pthread_testcancel();
    }
    return NULL;
}

static void a_cancelled_thread_leaves_nothing_behind(void) {
    if (FIXTURE_SANITIZED) {
        fixture_skip(__func__,
                     "a cancelled thread leaves its stack's marks to the sanitizer, which takes them for errors");
        return;
    }
    struct fixture fixture = {0};
    struct fixture_random random = fixture_seed("cancellation");
    fixture_create(&fixture, UINT64_C(128) << 10);
    char line[100];
    snprintf(line, sizeof line, "larder.%s", fixture.name);
    unsigned descriptors = open_descriptors(), mappings = mappings_of(line);
    for (unsigned round = 0; round < 80; round++) {
        struct worker workers[2] = {{.fixture = &fixture, .number = 0}, {.fixture = &fixture, .number = 1}};
        for (unsigned i = 0; i < 2; i++)
            start(&workers[i], call_until_cancelled);
        usleep((useconds_t)fixture_below(&random, 3000));
        for (unsigned i = 0; i < 2; i++) {
            void *result;
            CU_ASSERT_EQUAL(pthread_cancel(workers[i].thread), 0);
            CU_ASSERT_EQUAL(pthread_join(workers[i].thread, &result), 0);
            CU_ASSERT(result == PTHREAD_CANCELED && workers[i].wrong == 0);
            CU_ASSERT_PTR_NULL(workers[i].cache); /* cancelled where it asked to be, not within a call */
        }
        for (uint64_t key = 0; key < 16; key++)
            CU_ASSERT_EQUAL(put_value(fixture.two, key, round), 0); /* no lock stayed */
    }
    CU_ASSERT_EQUAL(open_descriptors(), descriptors);
    CU_ASSERT_EQUAL(mappings_of(line), mappings);
    CU_ASSERT_EQUAL(atomic_load(&fixture.one->self->reaping), 0);
    fixture_destroy(&fixture);
}

static void *wait_and_be_cancelled(void *argument) {
    struct worker *worker = argument;
    worker->wrong = put_value(worker->cache, 1, 77) != 0;
    pthread_testcancel();
    worker->wrong = 99; /* not reached */
    return NULL;
}

/* Cancelled while it waits for a lock: the put is whole, and then the thread ends. */
static void cancellation_waits_for_the_end_of_a_call(void) {
    if (FIXTURE_SANITIZED) {
        fixture_skip(__func__,
                     "a cancelled thread leaves its stack's marks to the sanitizer, which takes them for errors");
        return;
    }
    struct fixture fixture = {0};
    struct lr_options options = lr_options_default();
    struct holder holder = {.hold_ms = 200};
    pthread_t thread;
    void *result;
    options.size = UINT64_C(1) << 20;
    options.wait_ms = 5000;
    fixture_create_with(&fixture, &options);
    holder.cache = fixture.two;
    struct worker worker = {.cache = fixture.one, .wrong = 55};
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, hold_all_stripes, &holder), 0);
    while (!atomic_load(&holder.holds))
        sched_yield();
    start(&worker, wait_and_be_cancelled);
    fixture_sleep_ms(30);
    CU_ASSERT_EQUAL(pthread_cancel(worker.thread), 0);
    CU_ASSERT_EQUAL(pthread_join(worker.thread, &result), 0);
    CU_ASSERT(result == PTHREAD_CANCELED && worker.wrong == 0);
    pthread_join(thread, NULL);
    CU_ASSERT_EQUAL(get_value(fixture.two, 1), 0);
    fixture_destroy(&fixture);
}

void larder_suite_66_threads(void);
void larder_suite_66_threads(void) {
    CU_pSuite suite = CU_add_suite("66_threads", NULL, NULL);
    CU_ADD_TEST(suite, each_thread_may_have_a_handle_of_its_own);
    CU_ADD_TEST(suite, a_pin_outlives_the_thread_that_made_it);
    CU_ADD_TEST(suite, signals_do_not_shorten_or_prolong_a_wait);
    CU_ADD_TEST(suite, a_get_in_a_handler_is_right_and_returns);
    CU_ADD_TEST(suite, any_call_in_a_handler_is_done_or_refused);
    CU_ADD_TEST(suite, a_cancelled_thread_leaves_nothing_behind);
    CU_ADD_TEST(suite, cancellation_waits_for_the_end_of_a_call);
}
