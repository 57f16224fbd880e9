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
    churn(f.one, size, 100);
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
    struct lr_stat stat;
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
    /* Sixteen values of 14 KiB nearly fill the stripe; every other one is pinned. */
    for (uint64_t i = 0; i < 16; i++) {
        struct lr_put put = {.key = &i, .key_len = 8, .value = value, .value_len = 14u << 10};
        CU_ASSERT_EQUAL(lr_put(f.one, &put), 0);
    }
    for (uint64_t i = 0; i < 16; i += 2)
        pinned += lr_pin(f.two, &i, 8, &pins[pinned]) == 0;
    CU_ASSERT(pinned >= 6);
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
                 lr_arena_room(&view, lr_entry_size(&making), found.head.off, LR_ROOM_EVICT, &room) == 0);
    uint64_t word = lr_entry_fill(&view, &room, &making);
    CHILD_EXPECT(write(stopped->ready[1], "x", 1) == 1);
    raise(SIGSTOP);
    int published = lr_entry_publish(&view, &found, word, &room, &making, true);
    lr_stripe_unlock(&view);
    return published == LARDER_ESTALE ? 0 : 1;
}

static void behind_a_stopped_holder(bool replicating) {
    struct fixture f = {0};
    struct lr_options options = lr_options_default();
    char text[32];
    struct lr_stripe_info info;
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
    CU_ASSERT_EQUAL(lr_stripe_info(f.two, 0, &info), 0);
    CU_ASSERT(info.locked);
    struct lr_process process;
    CU_ASSERT_EQUAL(lr_process(f.two, info.holder_slot, &process), 0);
    CU_ASSERT_EQUAL(process.pid, (uint32_t)pid);
    CU_ASSERT(process.alive);
    /* Deletes take effect. */
    CU_ASSERT_EQUAL(lr_delete(f.two, "key", 3), 0);
    CU_ASSERT_EQUAL(lr_get(f.two, "key", 3, text, sizeof text, NULL, 0), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(lr_delete(f.two, "key", 3), LARDER_ENOT_FOUND);
    /* The holder goes on, and its put of the deleted key is dropped. */
    kill(pid, SIGCONT);
    CU_ASSERT_EQUAL(fixture_wait(pid), 0);
    CU_ASSERT_EQUAL(lr_get(f.two, "key", 3, text, sizeof text, NULL, 0), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(lr_put(f.two, &put), 0);
    CU_ASSERT_EQUAL(lr_get(f.two, "other", 5, text, sizeof text, NULL, 0), 0);
    if (replicating) {
        uint8_t *buf = malloc(lr_entry_bytes(f.two));
        struct lr_entry entry;
        CU_ASSERT_EQUAL(lr_entry_by_hash(f.two, lr_cluster_hash("key", 3), buf, lr_entry_bytes(f.two), &entry), 0);
        CU_ASSERT(entry.tombstone);
        free(buf);
    }
    close(stopped.ready[0]);
    close(stopped.ready[1]);
    fixture_destroy(&f);
}

static void a_delete_is_not_lost_behind_a_stopped_holder(void) {
    behind_a_stopped_holder(false);
}

static void a_delete_behind_a_stopped_holder_leaves_a_tombstone(void) {
    behind_a_stopped_holder(true);
}

void larder_suite_60_pins(void) {
    CU_pSuite suite = CU_add_suite("60_pins", NULL, NULL);
    CU_ADD_TEST(suite, a_pinned_value_outlives_replace_delete_expiry_and_churn);
    CU_ADD_TEST(suite, pins_beyond_the_limit_are_refused_and_come_back);
    CU_ADD_TEST(suite, pins_that_leave_no_room_refuse_only_what_does_not_fit);
    CU_ADD_TEST(suite, a_killed_pinners_pins_are_gone_after_a_reaping);
    CU_ADD_TEST(suite, a_child_cannot_release_its_parents_pin);
    CU_ADD_TEST(suite, a_delete_is_not_lost_behind_a_stopped_holder);
    CU_ADD_TEST(suite, a_delete_behind_a_stopped_holder_leaves_a_tombstone);
}
