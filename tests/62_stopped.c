/* SPDX-License-Identifier: MIT */
/*
 * What goes on around a lock holder who does not answer, and what the rare ways of a read give: shared bytes are set by
 * hand to what a stopped or busy process leaves.
 */
#include "fixture.h"

#include "stripe.h"

#include <linux/seccomp.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static void begin(struct fixture *fixture, bool replicating) {
    struct lr_options options = lr_options_default();
    memset(fixture, 0, sizeof *fixture);
    options.size = 128u << 10;
    options.stripes = 1;
    options.wait_ms = 1;
    fixture_create_with(fixture, &options);
    lr_set_replicating(fixture->one, replicating);
}

static void put(struct lr_cache *cache, const char *key, uint64_t ttl_ms) {
    struct lr_put put = {.key = key, .key_len = strlen(key), .value = "value", .value_len = 5, .ttl_ms = ttl_ms};
    CU_ASSERT_EQUAL(lr_put(cache, &put), 0);
}

static sm_u64 *slot_of(struct lr_cache *cache, const char *key) {
    static char copy[40960]; /* gcc warns of code for long keys that it has inlined for a literal */
    snprintf(copy, sizeof copy, "%s", key);
    struct lr_key hashed = lr_key_of(cache, copy, strlen(copy));
    struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, hashed.place));
    struct lr_found found = lr_index_find(&view, &hashed);
    CU_ASSERT_PTR_NOT_NULL_FATAL(found.slot);
    return found.slot;
}

static void delete_takes_effect_behind_a_holder_and_leaves_a_tombstone(void) {
    for (unsigned replicating = 0; replicating < 2; replicating++) {
        struct fixture f;
        struct lr_view held;
        struct lr_stat stat;
        char buf[16];
        begin(&f, replicating != 0);
        put(f.one, "key", 0);
        put(f.one, "other", 0);
        CU_ASSERT_EQUAL_FATAL(lr_stripe_lock(&held, f.one, 0), 0);
        CU_ASSERT_EQUAL(lr_delete(f.two, "key", 3), 0);
        CU_ASSERT_EQUAL(lr_delete(f.two, "key", 3), LARDER_ENOT_FOUND);
        CU_ASSERT_EQUAL(lr_get(f.two, "key", 3, buf, sizeof buf, NULL, 0), LARDER_ENOT_FOUND);
        CU_ASSERT_EQUAL(lr_get(f.two, "other", 5, buf, sizeof buf, NULL, 0), 0);
        struct lr_put refused = {.key = "other", .key_len = 5, .value = "new", .value_len = 3};
        CU_ASSERT_EQUAL(lr_put(f.two, &refused), LARDER_EBUSY);
        CU_ASSERT_EQUAL(lr_await(f.two, "key", 3, 1, 0), replicating != 0 ? LARDER_EBUSY : 0); /* no peer can know */
        lr_stripe_unlock(&held);
        CU_ASSERT_EQUAL(lr_stripe_lock(&held, f.one, 0), 0); /* settles the notes */
        lr_stripe_unlock(&held);
        lr_stat(f.one, &stat);
        CU_ASSERT_EQUAL(stat.tombstones, replicating);
        CU_ASSERT_EQUAL(stat.counters[LR_C_lockless_deletes], 2);
        fixture_destroy(&f);
    }
}

static void deletes_without_a_free_note_raise_the_void(void) {
    struct fixture f;
    struct lr_view held;
    struct lr_stat stat;
    struct lr_range range;
    begin(&f, true);
    CU_ASSERT_EQUAL_FATAL(lr_stripe_lock(&held, f.one, 0), 0);
    for (uint64_t i = 0; i <= SM_NOTES; i++)
        lr_delete(f.two, &i, 8);
    lr_stat(f.two, &stat);
    CU_ASSERT_EQUAL(stat.counters[LR_C_notes_exhausted], 1);
    uint64_t last = SM_NOTES;
    lr_range_get(f.two, lr_range_of(lr_cluster_hash(&last, 8)), &range);
    CU_ASSERT(range.void_version != 0);
    lr_stripe_unlock(&held);
    fixture_destroy(&f);
}

static void word_that_is_being_moved_is_read_and_not_pinned(void) {
    struct fixture f;
    struct lr_pin pin;
    struct lr_stat stat;
    char buf[16];
    begin(&f, false);
    put(f.one, "key", 0);
    sm_u64 *slot = slot_of(f.one, "key");
    atomic_fetch_or(slot, SM_SLOT_MOVED);
    CU_ASSERT_EQUAL(lr_get(f.two, "key", 3, buf, sizeof buf, NULL, 0), 0);
    CU_ASSERT_EQUAL(lr_pin(f.two, "key", 3, &pin), LARDER_EBUSY);
    lr_stat(f.two, &stat);
    CU_ASSERT_EQUAL(stat.counters[LR_C_locked_reads], 1);
    CU_ASSERT_EQUAL(stat.live_pins, 0);
    atomic_fetch_and(slot, ~SM_SLOT_MOVED);
    CU_ASSERT_EQUAL(lr_pin(f.two, "key", 3, &pin), 0);
    lr_unpin(f.two, &pin);
    fixture_destroy(&f);
}

struct restless {
    sm_u64 *slot;
    _Atomic unsigned pauses; /* after each change: if that takes as long as a look, every look meets one */
    _Atomic bool enough;
};

/* How long a look takes here nobody knows: all lengths in turn. */
static void tune(struct restless *restless) {
    const unsigned pauses = atomic_load(&restless->pauses);
    atomic_store(&restless->pauses, pauses < 4000 ? pauses + 1 + pauses / 8 : 0);
}

static void stay(const struct restless *restless) {
    for (unsigned i = atomic_load(&restless->pauses); i > 0; i--)
        atomic_signal_fence(memory_order_seq_cst);
}

static void *change_all_the_time(void *context) {
    struct restless *restless = context;
    while (!atomic_load(&restless->enough)) {
        atomic_fetch_xor(restless->slot, SM_SLOT_MOVED);
        stay(restless);
    }
    atomic_fetch_and(restless->slot, ~SM_SLOT_MOVED);
    return NULL;
}

/* A word that changes at every look sends gets under the lock; what has expired has expired there too. */
static void read_under_the_lock_judges_like_any_other(void) {
    struct fixture f;
    struct lr_stat stat = {0};
    struct restless restless = {0};
    pthread_t thread;
    unsigned wrong = 0;
    char buf[16];
    static char key[40001]; /* takes a while to compare */
    begin(&f, false);
    memset(key, 'k', sizeof key - 1);
    put(f.one, key, 1000);
    restless.slot = slot_of(f.one, key);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, change_all_the_time, &restless), 0);
    const uint64_t now = lr_now_ms(f.one), until = fixture_now_ns() + UINT64_C(6000000000);
    uint64_t passes = 0;
    for (unsigned i = 0; fixture_now_ns() < until && passes < 6; i++) {
        bool expired = i % 2 == 0;
        if (i % 16 == 0)
            tune(&restless);
        lr_drive_clock(f.one, expired ? now + 5000 : now);
        int result = lr_get(f.one, key, sizeof key - 1, buf, i % 4 == 1 ? 2 : sizeof buf, NULL, 0);
        wrong += result != (expired ? LARDER_ENOT_FOUND : i % 4 == 1 ? LARDER_ETOO_SMALL : 0) && result != LARDER_EBUSY;
        passes = lr_load(&f.one->me->counters[LR_C_locked_reads]);
    }
    atomic_store(&restless.enough, true);
    pthread_join(thread, NULL);
    lr_drive_clock(f.one, 0);
    lr_stat(f.one, &stat);
    CU_ASSERT_EQUAL(wrong, 0);
    if (stat.counters[LR_C_locked_reads] < 6)
        fixture_skip("read_under_the_lock_judges_like_any_other", "the machine is too busy for two threads at once");
    fixture_destroy(&f);
}

static void offset_that_leads_outside_is_not_followed(void) {
    struct fixture f;
    int status = -1;
    begin(&f, false);
    put(f.one, "key", 0);
    sm_u64 *slot = slot_of(f.one, "key");
    const uint64_t word = atomic_fetch_or(slot, SM_SLOT_OFF_MASK);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        char buf[16];
        _exit(lr_get(f.two, "key", 3, buf, sizeof buf, NULL, 0) == LARDER_ENOT_FOUND ? 0 : 1);
    }
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT_EQUAL(status, 0);
    atomic_store(slot, word);
    fixture_destroy(&f);
}

/* A header whose length changes between any two looks. */
static void *resize_all_the_time(void *context) {
    struct restless *restless = context;
    while (!atomic_load(&restless->enough)) {
        atomic_fetch_add(restless->slot, 1);
        stay(restless);
        atomic_fetch_sub(restless->slot, 1);
        stay(restless);
    }
    return NULL;
}

/* What was judged against the caller's room is what is copied there, whatever the header says by then. */
static void length_is_looked_at_once(void) {
    struct fixture f;
    struct restless restless = {0};
    pthread_t thread;
    unsigned overrun = 0;
    static char key[40001]; /* takes a while to compare */
    begin(&f, false);
    memset(key, 'k', sizeof key - 1);
    put(f.one, key, 0);
    const uint64_t until = fixture_now_ns() + UINT64_C(6000000000);
    uint64_t retries = 0;
    restless.slot = &lr_block_at(lr_data_at(f.one, 0), lr_slot_off(lr_load(slot_of(f.one, key))))->word;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, resize_all_the_time, &restless), 0);
    while (fixture_now_ns() < until && retries < 300) { /* as often was the header another one at a later look */
        char buf[64];
        tune(&restless);
        memset(buf, 'b', sizeof buf);
        lr_get(f.two, key, sizeof key - 1, buf, 5, NULL, 0);
        for (unsigned at = 5; at < sizeof buf; at++)
            overrun += buf[at] != 'b';
        lr_get(f.two, key, sizeof key - 1, buf, 21, NULL, 0);
        for (unsigned at = 21; at < sizeof buf; at++)
            overrun += buf[at] != 'b';
        retries = lr_load(&f.two->me->counters[LR_C_retries]);
    }
    atomic_store(&restless.enough, true);
    pthread_join(thread, NULL);
    CU_ASSERT_EQUAL(overrun, 0);
    if (retries < 300)
        fixture_skip("length_is_looked_at_once", "the machine is too busy for two threads at once");
    fixture_destroy(&f);
}

static void deadlines_follow_the_boot_clock(void) {
    struct fixture f;
    struct timespec boot;
    begin(&f, false);
    CU_ASSERT_EQUAL_FATAL(clock_gettime(CLOCK_BOOTTIME, &boot), 0);
    uint64_t ns = (uint64_t)boot.tv_sec * 1000000000u + (uint64_t)boot.tv_nsec - f.one->clock_offset_ns;
    uint64_t now = lr_now_ms(f.one);
    CU_ASSERT(now >= ns / 1000000 && now <= ns / 1000000 + 5000);
    fixture_destroy(&f);
}

/* Fills the stripe with entries of many sizes until the hand has slid a few. */
static uint64_t fill_until_slides(struct lr_cache *cache) {
    uint64_t puts = 0;
    char value[200] = {0}, buf[200];
    for (uint64_t i = 0; i < 100000 && lr_load(&lr_stripe_at(cache, 0)->counters[LR_S_slides]) < 50; i++, puts++) {
        struct lr_put put = {.key = &i, .key_len = 8, .value = value, .value_len = i * 37 % sizeof value};
        CU_ASSERT_EQUAL(lr_put(cache, &put), 0);
        for (uint64_t k = i > 60 ? i - 60 : 0; k < i; k += 3)
            lr_get(cache, &k, 8, buf, sizeof buf, NULL, 0);
    }
    return puts;
}

static void every_filling_of_a_block_has_a_number_of_its_own(void) {
    struct fixture f;
    begin(&f, false);
    uint64_t puts = fill_until_slides(f.one);
    struct sm_stripe *stripe = lr_stripe_at(f.one, 0);
    CU_ASSERT(lr_load(&stripe->counters[LR_S_slides]) >= 50);
    CU_ASSERT(lr_load(&stripe->incarnation) >= puts + lr_load(&stripe->counters[LR_S_slides]));
    fixture_destroy(&f);
}

static void what_is_freed_behind_the_gap_joins_it(void) {
    struct fixture f;
    struct lr_head head;
    begin(&f, false);
    (void)fill_until_slides(f.one);
    struct lr_view view = lr_view_of(f.one, 0);
    struct lr_span before = lr_gap_of(&view, LR_MAIN);
    CU_ASSERT_FATAL(before.end < f.one->geometry.stripe_bytes);
    for (unsigned i = 0; i < 5; i++) { /* holes would be swallowed with it */
        before = lr_gap_of(&view, LR_MAIN);
        if (!lr_head_read(f.one, view.data, before.end, &head) || lr_block_state(head.word) != SM_BLOCK_LIVE)
            break;
        CU_ASSERT_EQUAL(lr_delete(f.one, view.data + head.off + head.key_at, head.key_len), 0);
        CU_ASSERT(lr_gap_of(&view, LR_MAIN).end >= before.end + head.size);
    }
    CU_ASSERT(before.end > before.start);
    fixture_destroy(&f);
}

static void far_older_change_is_stale(void) {
    struct fixture f;
    begin(&f, true);
    const uint64_t newest = lr_highest_version(f.one) + (UINT64_C(100) << 40);
    for (unsigned shift = 10; shift < 46; shift++) {
        struct lr_change change = {.key = "key", .key_len = 3, .value = "v", .value_len = 1, .deadline_ms = UINT64_MAX};
        change.version = newest;
        lr_apply_put(f.one, &change, 0);
        change.version = newest - (UINT64_C(3) << (shift - 1));
        CU_ASSERT_EQUAL(lr_apply_put(f.one, &change, 0), LR_STALE);
    }
    fixture_destroy(&f);
}

#define NOT_HERE 77

/* Under seccomp's strict mode any other system call than read, write and exit is a SIGKILL. */
static int read_in_silence(void *context) {
    const struct fixture *f = context;
    struct lr_pin pin;
    char buf[16];
    uint64_t wrong = lr_get(f->two, "0", 1, buf, sizeof buf, NULL, 0) != 0; /* joins */
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
        return NOT_HERE;
    for (unsigned i = 0; i < 20000; i++) {
        char key[3] = {(char)('0' + i % 10), (char)('0' + i / 10 % 30)};
        struct lr_read rows[2] = {{.key = "0", .key_len = 1, .buf = buf, .cap = sizeof buf},
                                  {.key = "absent", .key_len = 6, .buf = buf, .cap = sizeof buf}};
        wrong += lr_get(f->two, key, 1, buf, sizeof buf, NULL, 0) != 0;
        wrong += lr_get(f->two, key, 2, buf, sizeof buf, NULL, 0) != LARDER_ENOT_FOUND;
        wrong += lr_get_many(f->two, rows, 2, 0) != 1;
        wrong += lr_pin(f->two, key, 1, &pin) != 0;
        lr_unpin(f->two, &pin);
    }
    syscall(SYS_exit, wrong != 0);
    return 1;
}

static void gets_make_no_system_call_and_wait_for_no_lock(void) {
    struct fixture f;
    struct lr_view held;
    begin(&f, false);
    for (unsigned i = 0; i < 10; i++)
        put(f.one, (char[]){(char)('0' + i), 0}, 0);
    pid_t child = 0;
    CU_ASSERT_EQUAL_FATAL(lr_stripe_lock(&held, f.one, 0), 0);
    child = fixture_start(read_in_silence, &f);
    int status = fixture_wait(child);
    if (status == NOT_HERE)
        fixture_skip(__func__, "this kernel has no seccomp");
    else
        CU_ASSERT_EQUAL(status, 0);
    lr_stripe_unlock(&held);
    (void)lr_reap(f.one);
    fixture_destroy(&f);
}

void larder_suite_62_stopped(void);
void larder_suite_62_stopped(void) {
    CU_pSuite suite = CU_add_suite("62_stopped", NULL, NULL);
    CU_ADD_TEST(suite, delete_takes_effect_behind_a_holder_and_leaves_a_tombstone);
    CU_ADD_TEST(suite, deletes_without_a_free_note_raise_the_void);
    CU_ADD_TEST(suite, word_that_is_being_moved_is_read_and_not_pinned);
    CU_ADD_TEST(suite, read_under_the_lock_judges_like_any_other);
    CU_ADD_TEST(suite, offset_that_leads_outside_is_not_followed);
    CU_ADD_TEST(suite, length_is_looked_at_once);
    CU_ADD_TEST(suite, deadlines_follow_the_boot_clock);
    CU_ADD_TEST(suite, every_filling_of_a_block_has_a_number_of_its_own);
    CU_ADD_TEST(suite, what_is_freed_behind_the_gap_joins_it);
    CU_ADD_TEST(suite, far_older_change_is_stale);
    CU_ADD_TEST(suite, gets_make_no_system_call_and_wait_for_no_lock);
}
