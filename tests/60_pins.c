/* SPDX-License-Identifier: MIT */
/* Pinned values stay as they are, whatever happens to their key, and cost nothing but themselves. */
#include "fixture.h"

#include "stripe.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

static void put_text(struct lr_cache *cache, const char *key, const char *value) {
    struct lr_put put = {.key = key, .key_len = strlen(key), .value = value, .value_len = strlen(value)};
    CU_ASSERT_EQUAL(lr_put(cache, &put), 0);
}

static void small_segment(struct fixture *fixture, uint64_t size) {
    struct lr_options options = lr_options_default();
    options.size = size;
    options.stripes = 1;
    *fixture = (struct fixture){0};
    fixture_create_with(fixture, &options);
}

/* Puts `times` the segment's size through it. */
static void churn(struct lr_cache *cache, uint64_t size, unsigned times) {
    char value[700];
    uint64_t written = 0;
    memset(value, 'x', sizeof value);
    for (uint64_t i = 0; written < size * times; i++) {
        struct lr_put put = {.key = &i, .key_len = sizeof i, .value = value, .value_len = 100 + i * 37 % 600};
        CU_ASSERT_EQUAL(lr_put(cache, &put), 0);
        written += put.value_len;
    }
}

static void a_pinned_value_outlives_replace_delete_expiry_and_churn(void) {
    struct fixture f;
    struct lr_pin pins[4];
    const uint64_t size = 256u << 10;
    small_segment(&f, size);
    lr_drive_clock(f.one, 1000);
    lr_drive_clock(f.two, 1000);
    put_text(f.one, "replaced", "first value");
    put_text(f.one, "deleted", "second value");
    put_text(f.one, "evicted", "third value");
    struct lr_put put = {.key = "expired", .key_len = 7, .value = "fourth value", .value_len = 12, .ttl_ms = 10};
    CU_ASSERT_EQUAL(lr_put(f.one, &put), 0);
    CU_ASSERT_EQUAL(lr_pin(f.two, "replaced", 8, &pins[0]), 0);
    CU_ASSERT_EQUAL(lr_pin(f.two, "deleted", 7, &pins[1]), 0);
    CU_ASSERT_EQUAL(lr_pin(f.two, "evicted", 7, &pins[2]), 0);
    CU_ASSERT_EQUAL(lr_pin(f.two, "expired", 7, &pins[3]), 0);
    put_text(f.one, "replaced", "another value");
    CU_ASSERT_EQUAL(lr_delete(f.one, "deleted", 7), 0);
    lr_drive_clock(f.one, 2000);
    lr_drive_clock(f.two, 2000);
    churn(f.one, size, FIXTURE_SANITIZED ? 10 : 100);
    struct lr_stat stat;
    lr_stat(f.one, &stat);
    CU_ASSERT(stat.held_blocks >= 2); /* "replaced" and "deleted" at the least, whatever lies there by now */
    CU_ASSERT_EQUAL(memcmp(pins[0].value, "first value", 11), 0);
    CU_ASSERT_EQUAL(memcmp(pins[1].value, "second value", 12), 0);
    CU_ASSERT_EQUAL(memcmp(pins[2].value, "third value", 11), 0);
    CU_ASSERT_EQUAL(memcmp(pins[3].value, "fourth value", 12), 0);
    CU_ASSERT_EQUAL(lr_get(f.one, "expired", 7, NULL, 0, NULL, 0), LARDER_ENOT_FOUND);
    for (unsigned i = 0; i < 4; i++) {
        lr_unpin(f.two, &pins[i]);
        lr_unpin(f.two, &pins[i]); /* a second release does nothing */
        CU_ASSERT_PTR_NULL(pins[i].value);
    }
    churn(f.one, size, 2);
    lr_stat(f.one, &stat);
    CU_ASSERT_EQUAL(stat.held_blocks, 0); /* given back once nobody holds them */
    fixture_destroy(&f);
}

static void pins_beyond_the_limit_are_refused_and_come_back(void) {
    struct fixture f;
    struct lr_pin pins[SM_PINS + 1];
    small_segment(&f, 256u << 10);
    put_text(f.one, "key", "value");
    for (unsigned i = 0; i < SM_PINS; i++)
        CU_ASSERT_EQUAL(lr_pin(f.one, "key", 3, &pins[i]), 0);
    CU_ASSERT_EQUAL(lr_pin(f.one, "key", 3, &pins[SM_PINS]), LARDER_ENO_PINS);
    CU_ASSERT_EQUAL(lr_pin(f.two, "key", 3, &pins[SM_PINS]), 0); /* another handle has its own */
    lr_unpin(f.two, &pins[SM_PINS]);
    lr_unpin(f.one, &pins[7]);
    CU_ASSERT_EQUAL(lr_pin(f.one, "key", 3, &pins[7]), 0);
    for (unsigned i = 0; i < SM_PINS; i++)
        lr_unpin(f.one, &pins[i]);
    fixture_destroy(&f);
}

static void pins_that_leave_no_room_refuse_only_what_does_not_fit(void) {
    struct fixture f;
    struct lr_pin pins[16];
    uint8_t *value = calloc(1, 64u << 10);
    unsigned pinned = 0;
    small_segment(&f, 256u << 10);
    /* Sixteen values of 14 KiB nearly fill the stripe; every third one is pinned. */
    for (uint64_t i = 0; i < 16; i++) {
        struct lr_put put = {.key = &i, .key_len = 8, .value = value, .value_len = 14u << 10};
        CU_ASSERT_EQUAL(lr_put(f.one, &put), 0);
    }
    for (uint64_t i = 0; i < 16; i += 3)
        pinned += lr_pin(f.two, &i, 8, &pins[pinned]) == 0;
    CU_ASSERT(pinned >= 5);
    struct lr_put large = {.key = "large", .key_len = 5, .value = value, .value_len = 60u << 10};
    struct lr_put small = {.key = "small", .key_len = 5, .value = value, .value_len = 1000};
    CU_ASSERT_EQUAL(lr_put(f.one, &large), LARDER_EPINNED);
    CU_ASSERT_EQUAL(lr_put(f.one, &small), 0);
    for (unsigned i = 0; i < pinned; i++)
        lr_unpin(f.two, &pins[i]);
    CU_ASSERT_EQUAL(lr_put(f.one, &large), 0);
    free(value);
    fixture_destroy(&f);
}

#define HANDLES 12u
#define GREEDY_KEYS 600u

/* Pins whatever it may, from item `first` on. Returns how many; in *bytes the bytes of the blocks. */
static unsigned pin_greedily(struct lr_cache *cache, uint64_t first, struct lr_pin *pins, uint64_t *bytes) {
    unsigned count = 0;
    for (uint64_t i = first; i < first + GREEDY_KEYS && count < SM_PINS; i++) {
        struct lr_process process;
        uint64_t key = i % GREEDY_KEYS;
        if (lr_pin(cache, &key, sizeof key, &pins[count]) == 0)
            count++;
        CU_ASSERT_EQUAL(lr_process(cache, cache->slot, &process), 0);
        CU_ASSERT_EQUAL(process.pins, count);
        *bytes = process.pinned_bytes;
    }
    return count;
}

static void live_pins_leave_half_of_a_stripe_whoever_holds_them(void) {
    struct fixture f;
    static struct lr_pin pins[HANDLES][SM_PINS];
    struct lr_cache *handles[HANDLES];
    unsigned counts[HANDLES], all = 0;
    uint64_t bytes = 0;
    uint8_t value[1400] = {0};
    struct lr_stat stat;
    const uint64_t size = 1u << 20;
    small_segment(&f, size);
    for (uint64_t i = 0; i < GREEDY_KEYS; i++) {
        struct lr_put put = {.key = &i, .key_len = sizeof i, .value = value, .value_len = i % 7 ? sizeof value : 20};
        CU_ASSERT_EQUAL(lr_put(f.one, &put), 0);
    }
    for (unsigned h = 0; h < HANDLES; h++) {
        uint64_t its = 0;
        handles[h] = fixture_attach(&f);
        counts[h] = pin_greedily(handles[h], h * GREEDY_KEYS / HANDLES, pins[h], &its);
        all += counts[h];
        bytes += its;
    }
    lr_stat(f.one, &stat);
    CU_ASSERT(stat.live_pins == all && stat.pinned_bytes == bytes);
    CU_ASSERT(all > 200 && bytes > f.one->geometry.max_block / 2);
    churn(f.one, size, 5);
    lr_stat(f.one, &stat);
    CU_ASSERT(stat.held_bytes < size * 56 / 100); /* evicted or not, this is all that they can keep */
    CU_ASSERT_EQUAL(stat.counters[LR_C_pinned_full], 0);
    CU_ASSERT(stat.counters[LR_C_pin_refusals] > 0);
    for (unsigned h = 0; h < HANDLES; h++) {
        for (unsigned i = 0; i < counts[h]; i++)
            CU_ASSERT_EQUAL(memcmp(pins[h][i].value, value, pins[h][i].item.value_len), 0);
        lr_cache_detach(handles[h]);
    }
    lr_stat(f.one, &stat);
    CU_ASSERT(stat.live_pins == 0 && stat.pinned_bytes == 0);
    fixture_destroy(&f);
}

static void pins_of_different_large_items_are_bounded(void) {
    struct fixture f;
    struct lr_cache *handles[HANDLES];
    struct lr_pin pins[HANDLES], other;
    small_segment(&f, 1u << 20);
    uint64_t largest = lr_max_value(f.one, 8), hot = 1, cold = 2;
    uint8_t *value = calloc(1, largest);
    struct lr_put put = {.key = &hot, .key_len = 8, .value = value, .value_len = largest};
    CU_ASSERT_EQUAL(lr_put(f.one, &put), 0);
    /* All may pin the same one: it is there once. */
    for (unsigned h = 0; h < HANDLES; h++) {
        handles[h] = fixture_attach(&f);
        CU_ASSERT_EQUAL(lr_pin(handles[h], &hot, 8, &pins[h]), 0);
    }
    struct lr_put second = {.key = &cold, .key_len = 8, .value = value, .value_len = 100000};
    CU_ASSERT_EQUAL(lr_put(f.one, &second), 0);
    CU_ASSERT_EQUAL(lr_pin(f.two, &cold, 8, &other), LARDER_ENO_PINS);
    CU_ASSERT_PTR_NULL(other.value);
    CU_ASSERT_EQUAL(lr_get(f.two, &cold, 8, value, largest, NULL, 0), 0); /* a copy is always to be had */
    for (unsigned h = 0; h < HANDLES; h++)
        lr_unpin(handles[h], &pins[h]);
    CU_ASSERT_EQUAL(lr_pin(f.two, &cold, 8, &other), 0);
    lr_unpin(f.two, &other);
    for (unsigned h = 0; h < HANDLES; h++)
        lr_cache_detach(handles[h]);
    free(value);
    fixture_destroy(&f);
}

struct child {
    struct fixture *fixture;
    struct lr_pin *pin;
    int ready[2];
};

static int pin_and_wait(void *context) {
    struct child *child = context;
    struct lr_pin pin;
    CHILD_EXPECT(lr_pin(child->fixture->one, "key", 3, &pin) == 0);
    CHILD_EXPECT(write(child->ready[1], "x", 1) == 1);
    pause();
    return 0;
}

static void a_killed_pinners_pins_are_gone_after_a_reaping(void) {
    struct fixture f;
    struct lr_stat stat;
    char byte;
    small_segment(&f, 256u << 10);
    put_text(f.one, "key", "pinned by a child");
    struct child child = {.fixture = &f};
    CU_ASSERT_EQUAL_FATAL(pipe(child.ready), 0);
    pid_t pid = fixture_start(pin_and_wait, &child);
    CU_ASSERT_EQUAL(read(child.ready[0], &byte, 1), 1);
    CU_ASSERT_EQUAL(lr_delete(f.one, "key", 3), 0);
    churn(f.one, 256u << 10, 2);
    lr_stat(f.one, &stat);
    CU_ASSERT_EQUAL(stat.held_blocks, 1);
    kill(pid, SIGKILL);
    CU_ASSERT_EQUAL(fixture_wait(pid), -SIGKILL);
    CU_ASSERT(lr_reap(f.one) >= 1);
    churn(f.one, 256u << 10, 2);
    lr_stat(f.one, &stat);
    CU_ASSERT_EQUAL(stat.held_blocks, 0);
    close(child.ready[0]);
    close(child.ready[1]);
    fixture_destroy(&f);
}

static int pin_stop_and_look(void *context) {
    struct child *child = context;
    struct lr_pin pin;
    CHILD_EXPECT(lr_pin(child->fixture->one, "key", 3, &pin) == 0);
    raise(SIGSTOP);
    CHILD_EXPECT(memcmp(pin.value, "pinned by a child", 17) == 0);
    lr_unpin(child->fixture->one, &pin);
    return 0;
}

static void a_stopped_pinner_costs_its_item_only(void) {
    struct fixture f;
    struct lr_stat stat;
    char text[32];
    int status;
    const uint64_t size = 256u << 10;
    small_segment(&f, size);
    put_text(f.one, "key", "pinned by a child");
    struct child child = {.fixture = &f};
    pid_t pid = fixture_start(pin_stop_and_look, &child);
    CU_ASSERT_EQUAL(waitpid(pid, &status, WUNTRACED), pid);
    CU_ASSERT(WIFSTOPPED(status));
    CU_ASSERT_EQUAL(lr_reap(f.two), 0); /* it lives */
    churn(f.two, size, 20);
    CU_ASSERT_EQUAL(lr_get(f.two, "key", 3, text, sizeof text, NULL, 0), 0); /* pinned items are not evicted */
    put_text(f.two, "key", "another value");
    churn(f.two, size, 20);
    lr_stat(f.two, &stat);
    CU_ASSERT(stat.live_pins == 1 && stat.held_blocks == 1 && stat.held_bytes == stat.pinned_bytes);
    CU_ASSERT(stat.held_bytes <= 24 + 3 + 17 + 8);
    kill(pid, SIGCONT);
    CU_ASSERT_EQUAL(fixture_wait(pid), 0);
    churn(f.two, size, 1);
    lr_stat(f.two, &stat);
    CU_ASSERT(stat.live_pins == 0 && stat.held_blocks == 0);
    fixture_destroy(&f);
}

static int release_parents_pin(void *context) {
    struct child *child = context;
    struct lr_pin own;
    lr_unpin(child->fixture->one, child->pin); /* before the child has joined */
    CHILD_EXPECT(lr_pin(child->fixture->one, "key", 3, &own) == 0);
    return 0;
}

static void a_child_cannot_release_its_parents_pin(void) {
    struct fixture f;
    struct lr_pin pin;
    small_segment(&f, 256u << 10);
    put_text(f.one, "key", "pinned by the parent");
    CU_ASSERT_EQUAL(lr_pin(f.one, "key", 3, &pin), 0);
    struct child child = {.fixture = &f, .pin = &pin};
    CU_ASSERT_EQUAL(fixture_child(release_parents_pin, &child), 0);
    CU_ASSERT_EQUAL(lr_delete(f.two, "key", 3), 0);
    churn(f.two, 256u << 10, 3);
    CU_ASSERT_EQUAL(memcmp(pin.value, "pinned by the parent", 20), 0);
    lr_unpin(f.one, &pin);
    fixture_destroy(&f);
}

/* ---- stopped lock holders ------------------------------------------------------------------------------------- */

struct stopped {
    struct fixture *fixture;
    int ready[2];
};

/* Stops in the middle of replacing "key": after the new block is filled, before it is published. */
static int stop_inside_a_put(void *context) {
    struct stopped *stopped = context;
    struct lr_view view;
    struct lr_cache *cache = stopped->fixture->one;
    CHILD_EXPECT(lr_enter(cache) == 0 && lr_stripe_lock(&view, cache, 0) == 0);
    struct lr_key key = lr_key_of(cache, "key", 3);
    struct lr_found found = lr_index_find(&view, &key);
    struct lr_making making = {.key = &key,
                               .value = "new value",
                               .value_len = 9,
                               .version = lr_version_draw(&view),
                               .deadline_ms = UINT64_MAX};
    struct lr_room room;
    CHILD_EXPECT(found.slot != NULL &&
                 lr_hand_room(&view, LR_MAIN, lr_entry_size(&making), found.head.off, LR_ROOM_EVICT, &room) == 0);
    uint64_t word = lr_entry_fill(&view, &room, &making);
    CHILD_EXPECT(write(stopped->ready[1], "x", 1) == 1);
    raise(SIGSTOP);
    int published = lr_entry_publish(&view, &found, word, &room, &making, true);
    lr_stripe_unlock(&view);
    return published == LARDER_ESTALE ? 0 : 1;
}

/* The delete's hint, wherever it stands in the feed. */
static bool has_hint(struct lr_cache *cache, uint64_t hash, uint64_t version) {
    struct lr_hint hints[64];
    uint64_t position = 0;
    int count;
    while ((count = lr_feed_read(cache, 0, &position, hints, 64)) > 0)
        for (int i = 0; i < count; i++)
            if (hints[i].hash == hash && hints[i].version == version)
                return true;
    return false;
}

static void expect_tombstone(struct lr_cache *cache, const char *key) {
    uint8_t *buf = malloc(lr_entry_bytes(cache));
    struct lr_entry entry;
    uint64_t hash = lr_cluster_hash(key, strlen(key));
    CU_ASSERT_EQUAL(lr_entry_by_hash(cache, hash, buf, lr_entry_bytes(cache), &entry), 0);
    CU_ASSERT(entry.tombstone);
    CU_ASSERT(has_hint(cache, hash, entry.version));
    free(buf);
}

/* Whoever looks is told who it is, and since when. */
static void expect_named(const struct fixture *f, pid_t pid) {
    struct lr_stripe_info info;
    struct lr_process process;
    char out[4096], wanted[32];
    CU_ASSERT_EQUAL(lr_stripe_info(f->two, 0, &info), 0);
    CU_ASSERT(info.locked && info.stalled_ms > 0);
    CU_ASSERT_EQUAL(lr_process(f->two, info.holder_slot, &process), 0);
    CU_ASSERT_EQUAL(process.pid, (uint32_t)pid);
    CU_ASSERT(process.alive);
    snprintf(out, sizeof out, "%s stripes --locked --name %s", fixture_program("larder"), f->name);
    CU_ASSERT_EQUAL(fixture_run(out, out, sizeof out), 0);
    snprintf(wanted, sizeof wanted, "%ld", (long)pid);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, wanted));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "waiters gave up"));
}

static void behind_a_stopped_holder(bool replicating, bool resumes) {
    struct fixture f = {0};
    struct lr_options options = lr_options_default();
    char text[32];
    options.size = 256u << 10;
    options.stripes = 1;
    options.wait_ms = 20;
    fixture_create_with(&f, &options);
    lr_set_replicating(f.one, replicating);
    put_text(f.two, "key", "old value");
    put_text(f.two, "other", "other value");
    struct stopped stopped = {.fixture = &f};
    char byte;
    CU_ASSERT_EQUAL_FATAL(pipe(stopped.ready), 0);
    pid_t pid = fixture_start(stop_inside_a_put, &stopped);
    CU_ASSERT_EQUAL(read(stopped.ready[0], &byte, 1), 1);
    int status;
    CU_ASSERT_EQUAL(waitpid(pid, &status, WUNTRACED), pid);
    /* Gets work, puts are refused within the bound, nobody robs the holder. */
    CU_ASSERT_EQUAL(lr_get(f.two, "key", 3, text, sizeof text, NULL, 0), 0);
    struct lr_put put = {.key = "x", .key_len = 1, .value = "y", .value_len = 1};
    uint64_t before = fixture_now_ns();
    CU_ASSERT_EQUAL(lr_put(f.two, &put), LARDER_EBUSY);
    CU_ASSERT(fixture_now_ns() - before < UINT64_C(2000000000));
    fixture_sleep_ms(3);
    expect_named(&f, pid);
    /* Deletes take effect. */
    CU_ASSERT_EQUAL(lr_delete(f.two, "key", 3), 0);
    CU_ASSERT_EQUAL(lr_get(f.two, "key", 3, text, sizeof text, NULL, 0), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(lr_delete(f.two, "key", 3), LARDER_ENOT_FOUND);
    /* The holder goes on, and its put of the deleted key is dropped; or it dies. */
    kill(pid, resumes ? SIGCONT : SIGKILL);
    CU_ASSERT_EQUAL(fixture_wait(pid), resumes ? 0 : -SIGKILL);
    CU_ASSERT_EQUAL(lr_get(f.two, "key", 3, text, sizeof text, NULL, 0), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(lr_put(f.two, &put), 0);
    CU_ASSERT_EQUAL(lr_get(f.two, "other", 5, text, sizeof text, NULL, 0), 0);
    if (replicating)
        expect_tombstone(f.two, "key");
    close(stopped.ready[0]);
    close(stopped.ready[1]);
    fixture_destroy(&f);
}

static void a_delete_is_not_lost_behind_a_stopped_holder(void) {
    behind_a_stopped_holder(false, true);
    behind_a_stopped_holder(false, false);
}

static void a_delete_behind_a_stopped_holder_leaves_a_tombstone(void) {
    behind_a_stopped_holder(true, true);
}

static void a_delete_behind_a_stopped_holder_who_dies_leaves_a_tombstone(void) {
    behind_a_stopped_holder(true, false);
}

void larder_suite_60_pins(void) {
    CU_pSuite suite = CU_add_suite("60_pins", NULL, NULL);
    CU_ADD_TEST(suite, a_pinned_value_outlives_replace_delete_expiry_and_churn);
    CU_ADD_TEST(suite, pins_beyond_the_limit_are_refused_and_come_back);
    CU_ADD_TEST(suite, pins_that_leave_no_room_refuse_only_what_does_not_fit);
    CU_ADD_TEST(suite, live_pins_leave_half_of_a_stripe_whoever_holds_them);
    CU_ADD_TEST(suite, pins_of_different_large_items_are_bounded);
    CU_ADD_TEST(suite, a_stopped_pinner_costs_its_item_only);
    CU_ADD_TEST(suite, a_killed_pinners_pins_are_gone_after_a_reaping);
    CU_ADD_TEST(suite, a_child_cannot_release_its_parents_pin);
    CU_ADD_TEST(suite, a_delete_is_not_lost_behind_a_stopped_holder);
    CU_ADD_TEST(suite, a_delete_behind_a_stopped_holder_leaves_a_tombstone);
    CU_ADD_TEST(suite, a_delete_behind_a_stopped_holder_who_dies_leaves_a_tombstone);
}
