/* SPDX-License-Identifier: MIT */
/*
 * Death at every instruction: one call of the release build is executed instruction by instruction, and the segment is
 * kept as it is after each.
 *
 * A child does one operation under ptrace. After every single step the parent compares the segment with what it was
 * before the step; each state that differs (of those in which only the arena's bytes do, one in seven) is an image:
 * what others would find if the child had been killed right there. When the child is dead, each image is put back into
 * the segment, and a survivor goes on: the dead participant is reaped, its lock taken over, its stripe repaired. Then
 * the segment must be healthy, nothing may have been dropped, every other key must have its value, and the key of the
 * operation its old or its new one. Nothing is marked in the source, so nothing can be forgotten; what the compiler has
 * reordered is seen as it is.
 *
 * Every few images the survivor dies too, at a random instant of its repair, and the next one must do.
 */
#include "fixture.h"

#include "stripe.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

#define KEYS 120u
#define STEPS_MAX 400000u
#define IMAGES_MAX 6000u
#define ARENA_SHARE 7u

/* ---- what the keys hold ------------------------------------------------------------------------------------------ */

struct state {
    const char *name;
    uint64_t keys;    /* put before the operation */
    uint32_t value;   /* bytes of each, about */
    uint64_t ttl_ms;  /* of every third key */
    bool replicating; /* leaves tombstones, hints */
    bool expired;     /* the clock has passed ttl_ms */
    bool holes;       /* every fourth key was deleted again */
    bool pinned;      /* the parent pins the operation's key */
};

static const struct state states[] = {
    {"empty", 0, 0, 0, false, false, false, false},
    {"some", KEYS, 60, 0, false, false, false, false},
    {"holes", KEYS, 150, 0, false, false, true, false},
    {"full", 600, 120, 0, false, false, false, false},
    {"full of expired", 600, 120, 1000, false, true, false, false},
    {"full replica", 600, 120, 0, true, false, false, false},
    {"pinned", KEYS, 200, 100000, false, false, false, true},
    {"pinned replica", KEYS, 200, 0, true, false, true, true},
};
#define STATES (sizeof states / sizeof states[0])

enum operation {
    PUT_NEW,
    PUT_REPLACE,
    PUT_LARGE,
    PUT_MANY,
    ADD_TTL,
    DELETE,
    DELETE_ABSENT,
    TOUCH_LONGER,
    TOUCH_SHORTER,
    INCREMENT,
    GET,
    PIN,
    APPLY_PUT,
    APPLY_TOMBSTONE,
    DROP,
    SWEEP,
    FLUSH,
    EPOCH,
    OPERATIONS
};

static const char *const operation_names[OPERATIONS] = {
    "put new",       "put replace",     "put large",     "put many",  "add with ttl", "delete",
    "delete absent", "touch longer",    "touch shorter", "increment", "get",          "pin",
    "apply put",     "apply tombstone", "drop",          "sweep",     "flush",        "epoch"};

struct trial {
    struct fixture fixture;
    const struct state *state;
    enum operation operation;
    uint64_t bytes; /* of an image */
    uint64_t before_clock;
};

static const uint64_t target = 7; /* the operation's key */

static size_t value_of(uint64_t key, uint32_t len, uint8_t *out) {
    uint32_t bytes = len == 0 ? 8 : len / 2 + (uint32_t)(key * 13 % (len / 2 + 1)) + 8;
    for (uint32_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(key * 31 + i * 7);
    if (key == target)
        memcpy(out, "41", 2);
    return key == target ? 2 : bytes;
}

static void prepare(struct trial *t) {
    struct lr_cache *cache = t->fixture.one;
    uint8_t value[512];
    lr_set_replicating(cache, t->state->replicating);
    for (uint64_t i = 0; i < t->state->keys; i++) {
        /* The operation's key and its neighbours come last, so that they are there even where things are evicted. */
        uint64_t key = (i + KEYS) % t->state->keys;
        struct lr_put put = {.key = &key,
                             .key_len = 8,
                             .value = value,
                             .value_len = value_of(key, t->state->value, value),
                             .ttl_ms = key % 3 == 1 ? t->state->ttl_ms : 0};
        CU_ASSERT_EQUAL(lr_put(cache, &put), 0);
    }
    for (uint64_t key = 1; t->state->holes && key < t->state->keys; key += 4)
        lr_delete(cache, &key, 8);
    if (t->state->expired)
        lr_drive_clock(cache, lr_now_ms(cache) + 5000);
    t->before_clock = lr_highest_version(cache);
}

static void operate(struct trial *t) {
    struct lr_cache *cache = t->fixture.one;
    static uint8_t large[9000];
    uint8_t value[512];
    struct lr_put put = {.key = &target, .key_len = 8, .value = "42", .value_len = 2};
    struct lr_change change = {.key = &target,
                               .key_len = 8,
                               .value = "42",
                               .value_len = 2,
                               .version = t->before_clock + (UINT64_C(5) << 22),
                               .deadline_ms = UINT64_MAX};
    struct lr_pin pin;
    uint64_t other = 1000003, head;
    int64_t number;
    uint32_t epoch;
    switch (t->operation) {
    case PUT_NEW:
        put.key = &other;
        lr_put(cache, &put);
        break;
    case PUT_REPLACE:
        lr_put(cache, &put);
        break;
    case PUT_LARGE:
        put.key = &other;
        put.value = large;
        put.value_len = sizeof large;
        lr_put(cache, &put);
        break;
    case PUT_MANY: /* the index grows, the border rises */
        for (other = 2000000; other < 2000008; other++) {
            put.key = &other;
            put.value = value;
            put.value_len = value_of(other, 20, value);
            lr_put(cache, &put);
        }
        break;
    case ADD_TTL:
        put.key = &other;
        put.mode = LR_ADD;
        put.ttl_ms = 50000;
        put.flags = 9;
        lr_put(cache, &put);
        break;
    case DELETE:
        lr_delete(cache, &target, 8);
        break;
    case DELETE_ABSENT:
        lr_delete(cache, &other, 8);
        break;
    case TOUCH_LONGER:
        lr_touch(cache, &target, 8, 900000);
        break;
    case TOUCH_SHORTER:
        lr_touch(cache, &target, 8, 50000);
        break;
    case INCREMENT:
        lr_increment(cache, &target, 8, 1, 42, 0, &number);
        break;
    case GET:
        lr_get(cache, &target, 8, value, sizeof value, NULL, 0);
        break;
    case PIN:
        if (lr_pin(cache, &target, 8, &pin) == 0)
            lr_unpin(cache, &pin);
        break;
    case APPLY_PUT:
        lr_apply_put(cache, &change, 0);
        break;
    case APPLY_TOMBSTONE:
        lr_apply_tombstone(cache, lr_cluster_hash(&target, 8), change.version);
        break;
    case DROP:
        lr_drop(cache, lr_cluster_hash(&target, 8), change.version);
        break;
    case SWEEP:
        lr_sweep(cache, 0, 16, 1);
        break;
    case FLUSH:
        lr_flush(cache);
        break;
    case EPOCH:
        lr_epoch_begin(cache, 0, &epoch, &head);
        break;
    case OPERATIONS:
        break;
    }
}

static int operate_stepwise(void *context) {
    struct trial *t = context;
    uint8_t byte;
    /* The child joins first: that is another test's matter (25_participants). */
    lr_get(t->fixture.one, "join", 4, &byte, 1, NULL, LR_PEEK);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(77);
    raise(SIGSTOP);
    operate(t);
    raise(SIGSTOP);
    return 0;
}

/* ---- images --------------------------------------------------------------------------------------------------- */

/* What can change: the header and the few participants in use, the control block and the head of its ring, all of the
 * data. */
#define SLOTS_WATCHED 16u
#define HINTS_WATCHED 2048u
#define HEAD_BYTES (SM_HEADER_BYTES + SLOTS_WATCHED * sizeof(struct sm_participant))
#define CONTROL_BYTES (SM_STRIPE_FIXED + HINTS_WATCHED * sizeof(struct sm_hint))
#define PARTS 3u

struct part {
    uint8_t *at;
    uint64_t bytes;
};

static struct part part_of(const struct trial *t, unsigned i) {
    const struct lr_cache *cache = t->fixture.one;
    const struct part parts[PARTS] = {
        {cache->base, HEAD_BYTES}, {cache->controls, CONTROL_BYTES}, {cache->data, cache->geometry.stripe_bytes}};
    return parts[i];
}

static void read_image(const struct trial *t, uint8_t *out) {
    for (unsigned i = 0; i < PARTS; out += part_of(t, i++).bytes)
        memcpy(out, part_of(t, i).at, part_of(t, i).bytes);
}

static void write_image(struct trial *t, const uint8_t *image) {
    for (unsigned i = 0; i < PARTS; image += part_of(t, i++).bytes)
        memcpy(part_of(t, i).at, image, part_of(t, i).bytes);
}

static bool is_unchanged(const struct trial *t, const uint8_t *image) {
    for (unsigned i = 0; i < PARTS; image += part_of(t, i++).bytes)
        if (memcmp(part_of(t, i).at, image, part_of(t, i).bytes) != 0)
            return false;
    return true;
}

/* Whether a step changed the arena only: of such, as when a value is copied, one in ARENA_SHARE is kept. */
static bool is_arena_only(const struct trial *t, const uint8_t *image) {
    const struct lr_cache *cache = t->fixture.one;
    return memcmp(cache->base, image, HEAD_BYTES) == 0 &&
           memcmp(cache->controls, image + HEAD_BYTES, CONTROL_BYTES) == 0 &&
           memcmp(cache->data, image + HEAD_BYTES + CONTROL_BYTES, lr_load(&lr_stripe_at(cache, 0)->border_off)) == 0;
}

struct images {
    uint8_t **bytes;
    unsigned count;
    uint64_t steps, arena_only;
};

static void keep(struct images *images, const struct trial *t, uint8_t *last) {
    bool passed_over = images->count > 0 && is_arena_only(t, last) && ++images->arena_only % ARENA_SHARE != 0;
    read_image(t, last);
    if (passed_over || images->count == IMAGES_MAX)
        return;
    images->bytes[images->count] = malloc(t->bytes);
    memcpy(images->bytes[images->count++], last, t->bytes);
}

/* 0, or 77: tracing is not allowed here. */
static int collect(struct trial *t, struct images *images) {
    uint8_t *last = malloc(t->bytes);
    int status;
    read_image(t, last);
    pid_t child = fixture_start(operate_stepwise, t);
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) {
        free(last);
        return 77;
    }
    keep(images, t, last);
    while (images->steps < STEPS_MAX) {
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0 || waitpid(child, &status, 0) != child)
            break;
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
            break; /* the second stop: the operation is over */
        images->steps++;
        if (!is_unchanged(t, last))
            keep(images, t, last);
    }
    CU_ASSERT(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    kill(child, SIGKILL);
    while (waitpid(child, &status, 0) != child && errno == EINTR) {
    }
    free(last);
    return 0;
}

/* ---- survivors ------------------------------------------------------------------------------------------------ */

static int survive(void *context) {
    struct trial *t = context;
    struct lr_view view;
    struct lr_cache *cache = t->fixture.one;
    CHILD_EXPECT(lr_enter(cache) == 0 && lr_stripe_lock(&view, cache, 0) == 0);
    lr_stripe_unlock(&view);
    return 0;
}

/* A survivor that dies during its repair. */
static void die_repairing(struct trial *t, struct fixture_random *random) {
    pid_t child = fixture_start(survive, t);
    struct timespec pause = {.tv_nsec = 100000 + (long)fixture_below(random, 300000)};
    int status;
    nanosleep(&pause, NULL);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
}

static bool expect_value(struct trial *t, uint64_t key, const char *what) {
    uint8_t value[512], expected[512];
    struct lr_item item;
    size_t len = value_of(key, t->state->value, expected);
    int result = lr_get(t->fixture.two, &key, 8, value, sizeof value, &item, LR_PEEK);
    bool may_go = t->state->keys > KEYS || t->operation == FLUSH || (t->state->ttl_ms != 0 && key % 3 == 1) ||
                  (t->state->holes && key % 4 == 1);
    bool right = result == 0 ? item.value_len == len && memcmp(value, expected, len) == 0
                             : result == LARDER_ENOT_FOUND && may_go;
    if (!right)
        printf("\n    %s: key %llu: result %d\n", what, (unsigned long long)key, result);
    return right;
}

/* The operation's key has its old value or its new one, or is absent where the operation may remove it. */
static bool expect_target(struct trial *t, const char *what) {
    char value[16];
    struct lr_item item;
    int result = lr_get(t->fixture.two, &target, 8, value, sizeof value, &item, LR_PEEK);
    bool had = t->state->keys > target;
    bool changes = t->operation == PUT_REPLACE || t->operation == INCREMENT || t->operation == APPLY_PUT;
    bool removes = t->operation == DELETE || t->operation == APPLY_TOMBSTONE || t->operation == DROP ||
                   t->operation == FLUSH || t->state->keys > KEYS || (t->state->ttl_ms != 0 && t->state->expired);
    bool right = result == 0 ? item.value_len == 2 &&
                                   ((had && memcmp(value, "41", 2) == 0) || (changes && memcmp(value, "42", 2) == 0))
                             : result == LARDER_ENOT_FOUND && (!had || removes);
    if (!right)
        printf("\n    %s: the operation's key: result %d\n", what, result);
    return right;
}

static bool expect_healthy(struct trial *t, const char *what) {
    struct lr_check check;
    struct lr_stat stat;
    int result = lr_check(t->fixture.two, &check);
    lr_stat(t->fixture.two, &stat);
    if (result != 0)
        printf("\n    %s: %s\n", what, check.first[0]);
    else if (stat.counters[LR_C_repair_dropped] != 0 || stat.counters[LR_C_corrupt_seen] != 0)
        printf("\n    %s: %llu dropped, %llu corrupt\n", what, (unsigned long long)stat.counters[LR_C_repair_dropped],
               (unsigned long long)stat.counters[LR_C_corrupt_seen]);
    return result == 0 && stat.counters[LR_C_repair_dropped] == 0 && stat.counters[LR_C_corrupt_seen] == 0;
}

static bool go_on_after(struct trial *t, const uint8_t *image, struct fixture_random *random, unsigned number,
                        const struct lr_pin *pin) {
    struct lr_view view;
    char what[120];
    snprintf(what, sizeof what, "%s, %s, image %u", t->state->name, operation_names[t->operation], number);
    write_image(t, image);
    if (number % 16 == 5)
        die_repairing(t, random);
    lr_reap(t->fixture.two);
    bool right = lr_stripe_lock(&view, t->fixture.two, 0) == 0;
    if (!right) {
        printf("\n    %s: the stripe stays locked\n", what);
        return false;
    }
    lr_stripe_unlock(&view);
    right = expect_healthy(t, what) && expect_target(t, what);
    for (uint64_t key = 0; right && key < t->state->keys && key < KEYS; key++)
        right = key == target || expect_value(t, key, what);
    if (right && pin->value != NULL && memcmp(pin->value, "41", 2) != 0) {
        printf("\n    %s: the pinned value has changed\n", what);
        right = false;
    }
    /* And it can be written again. */
    struct lr_put put = {.key = "again", .key_len = 5, .value = what, .value_len = 40};
    return right && lr_put(t->fixture.two, &put) == 0 && expect_healthy(t, what);
}

static void run_trial(struct trial *t, struct fixture_random *random, unsigned *images_seen, uint64_t *steps) {
    struct lr_options options = lr_options_default();
    struct images images = {.bytes = calloc(IMAGES_MAX, sizeof(uint8_t *))};
    struct lr_pin pin = {0};
    options.size = SM_MIN_STRIPE;
    options.stripes = 1;
    options.wait_ms = 2000;
    fixture_create_with(&t->fixture, &options);
    prepare(t);
    if (t->state->pinned)
        CU_ASSERT_EQUAL(lr_pin(t->fixture.two, &target, 8, &pin), 0);
    t->bytes = HEAD_BYTES + CONTROL_BYTES + t->fixture.one->geometry.stripe_bytes;
    if (collect(t, &images) != 0)
        fixture_skip("73_steps", "ptrace is not permitted");
    uint8_t *end = malloc(t->bytes);
    read_image(t, end);
    bool right = true;
    for (unsigned i = 0; i < images.count && right; i++)
        right = go_on_after(t, images.bytes[i], random, i, &pin);
    CU_ASSERT(right);
    write_image(t, end);
    free(end);
    lr_unpin(t->fixture.two, &pin);
    lr_reap(t->fixture.two);
    *images_seen += images.count;
    *steps += images.steps;
    for (unsigned i = 0; i < images.count; i++)
        free(images.bytes[i]);
    free(images.bytes);
    fixture_destroy(&t->fixture);
}

static void run_state(const char *name) {
    struct fixture_random random = fixture_seed("steps");
    unsigned images = 0, pairs = 0;
    uint64_t steps = 0;
    for (unsigned s = 0; s < STATES; s++) {
        if (strcmp(states[s].name, name) != 0)
            continue;
        for (unsigned o = 0; o < OPERATIONS; o++) {
            struct trial t = {.state = &states[s], .operation = (enum operation)o};
            run_trial(&t, &random, &images, &steps);
            pairs++;
        }
    }
    CU_ASSERT(pairs == OPERATIONS && images > pairs);
    printf("    %u operations, %llu instructions, %u images;", pairs, (unsigned long long)steps, images);
}

#define STATE_TEST(function, state)                                                                                    \
    static void function(void) {                                                                                       \
        run_state(state);                                                                                              \
    }
STATE_TEST(death_at_every_instruction_in_an_empty_stripe, "empty")
STATE_TEST(death_at_every_instruction_with_some_items, "some")
STATE_TEST(death_at_every_instruction_among_holes, "holes")
STATE_TEST(death_at_every_instruction_in_a_full_stripe, "full")
STATE_TEST(death_at_every_instruction_among_expired_items, "full of expired")
STATE_TEST(death_at_every_instruction_in_a_full_replica, "full replica")
STATE_TEST(death_at_every_instruction_beside_a_pin, "pinned")
STATE_TEST(death_at_every_instruction_in_a_replica_beside_a_pin, "pinned replica")

static void death_at_every_instruction_of_the_release(void) {
    fixture_skip("73_steps", "a sanitizer's instructions are not those that are shipped");
}

void larder_suite_73_steps(void) {
    CU_pSuite suite = CU_add_suite("73_steps", NULL, NULL);
    if (FIXTURE_SANITIZED) {
        CU_ADD_TEST(suite, death_at_every_instruction_of_the_release);
        return;
    }
    CU_ADD_TEST(suite, death_at_every_instruction_in_an_empty_stripe);
    CU_ADD_TEST(suite, death_at_every_instruction_with_some_items);
    CU_ADD_TEST(suite, death_at_every_instruction_among_holes);
    CU_ADD_TEST(suite, death_at_every_instruction_in_a_full_stripe);
    CU_ADD_TEST(suite, death_at_every_instruction_among_expired_items);
    CU_ADD_TEST(suite, death_at_every_instruction_in_a_full_replica);
    CU_ADD_TEST(suite, death_at_every_instruction_beside_a_pin);
    CU_ADD_TEST(suite, death_at_every_instruction_in_a_replica_beside_a_pin);
}
