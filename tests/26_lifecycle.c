/* SPDX-License-Identifier: MIT */
/*
 * Does a segment come, go and come again without anybody mixing two of them up, and what if its memory is taken away?
 *
 * What outsiders can do to the file of a segment that is in use is not prevented (README.md, Trust), but must be what
 * is said there: a removed name is told, a punched page is a miss or an error, a truncated file is SIGBUS and refused.
 */
#include "fixture.h"
#include "place.h"
#include "stripe.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#define ALWAYS UINT64_MAX

static int put_bytes(struct lr_cache *cache, const void *key, size_t key_len, const void *value, size_t value_len) {
    struct lr_put put = {.key = key, .key_len = key_len, .value = value, .value_len = value_len};
    return lr_put(cache, &put);
}

static int put_text(struct lr_cache *cache, const char *key, const char *value) {
    return put_bytes(cache, key, strlen(key), value, strlen(value));
}

static bool holds(struct lr_cache *cache, const char *key, const char *value) {
    char buf[64];
    struct lr_item item;
    return lr_get(cache, key, strlen(key), buf, sizeof buf, &item, 0) == 0 && item.value_len == strlen(value) &&
           memcmp(buf, value, item.value_len) == 0;
}

/* ---- generations ------------------------------------------------------------------------------------------------ */

#define WORKERS 3u
#define GENERATIONS 40u

struct generation_value {
    uint64_t incarnation, key, filler[6];
};

static bool is_of(const struct generation_value *value, uint64_t incarnation, uint64_t key) {
    for (unsigned i = 0; i < 6; i++)
        if (value->filler[i] != (incarnation ^ key))
            return false;
    return value->incarnation == incarnation && value->key == key;
}

/* Until the segment is retired; then every call must say so, always. Returns how many generations it saw. */
static int work_through_generations(void *context) {
    const struct place *place = context;
    struct lr_options options = place->options;
    unsigned seen = 0;
    options.wait_ms = 10000; /* on a busy machine a holder may be without a processor for longer than by default */
    for (uint64_t end_ns = fixture_now_ns() + UINT64_C(20000000000); fixture_now_ns() < end_ns;) {
        struct lr_cache *cache;
        char why[LR_WHY_BYTES];
        int error = lr_cache_open(&options, &cache, why);
        if (error == LARDER_EBUSY)
            continue;
        if (error != 0)
            fprintf(stderr, "%s\n", why);
        CHILD_EXPECT(error == 0);
        uint64_t id = cache->geometry.incarnation[0];
        struct lr_pin pin = {0};
        bool pinned = false;
        for (uint64_t i = 0; error == 0; i++) {
            CHILD_EXPECT(i % 1024 != 0 || fixture_now_ns() < end_ns);
            struct generation_value value = {.incarnation = id, .key = i % 100}, got;
            struct lr_item item;
            for (unsigned j = 0; j < 6; j++)
                value.filler[j] = id ^ value.key;
            error = put_bytes(cache, &value.key, 8, &value, sizeof value);
            CHILD_EXPECT(error == 0 || error == LARDER_ERETIRED);
            uint64_t key = (i * 7) % 101;
            int get = lr_get(cache, &key, 8, &got, sizeof got, &item, 0);
            CHILD_EXPECT(get == 0 || get == LARDER_ENOT_FOUND || get == LARDER_ERETIRED);
            if (get == 0 && key == 100) /* the end mark */
                return (int)seen;
            CHILD_EXPECT(get != 0 || (item.value_len == sizeof got && is_of(&got, id, key)));
            CHILD_EXPECT(error == 0 || get == LARDER_ERETIRED);
            if (!pinned)
                pinned = lr_pin(cache, &key, 8, &pin) == 0;
        }
        seen++;
        CHILD_EXPECT(!pinned || is_of(pin.value, id, ((const struct generation_value *)pin.value)->key));
        CHILD_EXPECT(lr_delete(cache, "x", 1) == LARDER_ERETIRED && lr_touch(cache, "x", 1, 5) == LARDER_ERETIRED);
        CHILD_EXPECT(lr_flush(cache) == LARDER_ERETIRED);
        if (pinned)
            lr_unpin(cache, &pin);
        lr_cache_detach(cache);
    }
    return 98;
}

static void generations_under_one_name_never_mix(void) {
    struct place place;
    pid_t workers[WORKERS];
    unsigned destroyed = 0;
    struct lr_cache *cache;
    new_place(&place);
    for (unsigned i = 0; i < WORKERS; i++)
        workers[i] = fixture_start(work_through_generations, &place);
    /* The next generation is there when somebody has had the processor to make it. */
    for (uint64_t end_ns = fixture_now_ns() + UINT64_C(10000000000);
         destroyed < GENERATIONS && fixture_now_ns() < end_ns;) {
        fixture_sleep_ms(10);
        destroyed += lr_cache_destroy(&place.options, NULL) == 0;
    }
    uint64_t mark = 100;
    CU_ASSERT_EQUAL_FATAL(lr_cache_open(&place.options, &cache, NULL), 0);
    CU_ASSERT_EQUAL(put_bytes(cache, &mark, 8, "end", 3), 0);
    unsigned seen = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        int status = fixture_wait(workers[i]);
        CU_ASSERT(status >= 0 && status < 98);
        seen += (unsigned)status;
    }
    CU_ASSERT(destroyed == GENERATIONS && seen > GENERATIONS / 2);
    fixture_check(cache);
    lr_cache_detach(cache);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
}

static void every_call_on_a_destroyed_segment_says_so(void) {
    struct place place;
    struct lr_pin pin, none;
    struct lr_digest digest;
    int64_t number;
    char buf[64];
    new_place(&place);
    struct lr_cache *cache = create_at(&place);
    CU_ASSERT_EQUAL(put_text(cache, "a", "one"), 0);
    CU_ASSERT_EQUAL_FATAL(lr_pin(cache, "a", 1, &pin), 0);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
    struct lr_read row = {.key = "a", .key_len = 1, .buf = buf, .cap = sizeof buf};
    struct lr_change change = {.key = "a", .value = "b", .key_len = 1, .value_len = 1, .version = ALWAYS >> 1};
    CU_ASSERT_EQUAL(lr_get(cache, "a", 1, buf, sizeof buf, NULL, 0), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(lr_get(cache, "b", 1, buf, sizeof buf, NULL, 0), LARDER_ERETIRED);
    CU_ASSERT(lr_get_many(cache, &row, 1, 0) == 0 && row.result == LARDER_ERETIRED);
    CU_ASSERT_EQUAL(lr_pin(cache, "a", 1, &none), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(put_text(cache, "a", "two"), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(lr_delete(cache, "a", 1), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(lr_touch(cache, "a", 1, 1000), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(lr_increment(cache, "n", 1, 1, 1, 0, &number), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(lr_flush(cache), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(lr_apply_put(cache, &change, 0), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(lr_apply_flush(cache, 5), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(lr_digest(cache, &digest), LARDER_ERETIRED);
    CU_ASSERT(memcmp(pin.value, "one", 3) == 0); /* and a pinned value stays */
    lr_unpin(cache, &pin);
    lr_cache_detach(cache);
}

/* ---- layouts ---------------------------------------------------------------------------------------------------- */

static void set_layout(const struct place *place, uint32_t layout) {
    int fd = open(place->path, O_RDWR | O_CLOEXEC);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(pwrite(fd, &layout, sizeof layout, offsetof(struct sm_constants, layout)), (ssize_t)sizeof layout);
    close(fd);
}

static void an_older_and_a_newer_layout_are_refused_with_both_versions(void) {
    struct place place;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES], theirs[64], ours[64], command[300], out[2048];
    new_place(&place);
    struct lr_cache *one = create_at(&place);
    CU_ASSERT_EQUAL(put_text(one, "a", "one"), 0);
    for (int step = -1; step <= 1; step += 2) {
        uint32_t layout = SM_LAYOUT_VERSION + (uint32_t)step;
        snprintf(theirs, sizeof theirs, "layout %" PRIu32, layout);
        snprintf(ours, sizeof ours, "%u", SM_LAYOUT_VERSION);
        set_layout(&place, layout);
        for (unsigned read_only = 0; read_only < 2; read_only++) {
            place.options.read_only = read_only != 0;
            CU_ASSERT_EQUAL(lr_cache_attach(&place.options, &cache, why), LARDER_EVERSION);
            CU_ASSERT(says(why, theirs) && says(why, ours) && says(why, place.path));
            CU_ASSERT_EQUAL(lr_cache_open(&place.options, &cache, why), LARDER_EVERSION); /* and does not reformat it */
        }
        place.options.read_only = false;
        CU_ASSERT_EQUAL(lr_cache_create(&place.options, &cache, why), LARDER_EEXISTS);
        snprintf(command, sizeof command, "%s stat --name %s", fixture_program("larder"), place.name);
        CU_ASSERT_EQUAL(fixture_run(command, out, sizeof out), 5);
        CU_ASSERT(says(out, theirs) && says(out, "use the same release"));
        CU_ASSERT(holds(one, "a", "one") && put_text(one, "b", "two") == 0); /* who is attached works on */
    }
    lr_cache_detach(one);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, why), 0); /* one gets rid of it */
    CU_ASSERT(!exists(place.path) && !exists(place.live));
}

/* ---- a name that somebody took away ----------------------------------------------------------------------------- */

static void a_name_removed_under_its_users_is_told(void) {
    struct place place;
    struct stat file;
    char command[300], out[4096], pid[32];
    if (FIXTURE_SANITIZED) {
        fixture_skip(__func__, "a sanitizer's map of this process takes too long to read");
        return;
    }
    new_place(&place);
    snprintf(pid, sizeof pid, "pid %ld", (long)getpid());
    struct lr_cache *old = create_at(&place);
    int fd = open(place.path, O_RDONLY | O_CLOEXEC);
    CU_ASSERT_EQUAL(put_text(old, "a", "old"), 0);
    CU_ASSERT(unlink(place.path) == 0 && unlink(place.live) == 0); /* as RemoveIPC does */
    CU_ASSERT(fstat(fd, &file) == 0 && file.st_nlink == 0);
    close(fd);
    for (unsigned i = 0; i < 2; i++) {
        snprintf(command, sizeof command, "%s %s --name %s", fixture_program("larder"), i == 0 ? "procs" : "check",
                 place.name);
        CU_ASSERT_EQUAL(fixture_run(command, out, sizeof out), 3);
        CU_ASSERT(says(out, "that was removed") && says(out, pid));
    }
    struct lr_cache *now = create_at(&place); /* the next one who comes */
    CU_ASSERT(old->geometry.incarnation[0] != now->geometry.incarnation[0]);
    CU_ASSERT(!holds(now, "a", "old") && put_text(now, "a", "new") == 0 && holds(old, "a", "old"));
    CU_ASSERT(lr_owner_alive(now, lr_own_word(now)) && lr_owner_alive(old, lr_own_word(old)));
    for (unsigned i = 0; i < 2; i++) {
        snprintf(command, sizeof command, "%s %s --name %s", fixture_program("larder"), i == 0 ? "procs" : "check",
                 place.name);
        CU_ASSERT_EQUAL(fixture_run(command, out, sizeof out), 0);
        CU_ASSERT(says(out, "that was removed") && says(out, pid));
    }
    /* A slot of the old one cannot be had any more: a child of its user is told. */
    pid_t child = fork();
    if (child == 0)
        _exit(put_text(old, "c", "d") == LARDER_ERETIRED ? 0 : 1);
    CU_ASSERT_EQUAL(fixture_wait(child), 0);
    lr_cache_detach(old);
    CU_ASSERT_EQUAL(fixture_run(command, out, sizeof out), 0);
    CU_ASSERT_PTR_NULL(strstr(out, "removed"));
    fixture_check(now);
    lr_cache_detach(now);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
}

/* ---- memory that is taken away ---------------------------------------------------------------------------------- */

static void repair_all(struct lr_cache *cache) {
    for (uint32_t i = 0; i < cache->geometry.stripe_count; i++) {
        struct lr_view view = lr_view_of(cache, i);
        lr_store(&view.stripe->lock, lr_own_word(cache) | SM_LOCK_RECOVER);
        CU_ASSERT_FATAL(lr_repair_claim(cache));
        lr_repair(&view);
        lr_stripe_unlock(&view);
    }
}

#define HOLED 400u
#define PAGE 4096u

/* No byte of it is zero, and its length follows from the key. */
static size_t fill_value(uint8_t *value, uint64_t key) {
    size_t len = key % 8 == 7 ? 9000 + key * 11 : 20 + key % 300;
    for (size_t i = 0; i < len; i++)
        value[i] = (uint8_t)(1 + (key * 31 + i) % 255);
    return len;
}

/* In place: what is not as it was put must be zero, and lie on another page than the header that names it. */
static bool is_whole_or_holed(const struct lr_pin *pin, uint64_t key) {
    static uint8_t expected[65536];
    const uint8_t *value = pin->value;
    uintptr_t header = (uintptr_t)value - sizeof key - sizeof(struct sm_block);
    if (pin->item.value_len != fill_value(expected, key))
        return false;
    for (size_t i = 0; i < pin->item.value_len; i++)
        if (value[i] != expected[i] && (value[i] != 0 || (uintptr_t)(value + i) / PAGE == header / PAGE))
            return false;
    return true;
}

static void look_at_all(struct lr_cache *cache, unsigned *hits) {
    static uint8_t buf[65536];
    for (uint64_t key = 0; key < HOLED; key++) {
        struct lr_pin pin;
        struct lr_item item;
        int error = lr_get(cache, &key, 8, buf, sizeof buf, &item, 0);
        CU_ASSERT(error == 0 || error == LARDER_ENOT_FOUND || error == LARDER_EBUSY || error == LARDER_ERETIRED ||
                  error == LARDER_ECORRUPT);
        if (lr_pin(cache, &key, 8, &pin) != 0)
            continue;
        CU_ASSERT(is_whole_or_holed(&pin, key));
        lr_unpin(cache, &pin);
        ++*hits;
    }
}

static void a_punched_page_is_a_miss_or_an_error_and_mends(void) {
    static uint8_t value[65536];
    struct fixture fixture = {0};
    struct fixture_random random = fixture_seed("holes");
    unsigned hits = 0;
    fixture_create(&fixture, UINT64_C(2) << 20);
    struct lr_cache *cache = fixture.one;
    int fd = open(cache->path, O_RDWR | O_CLOEXEC);
    CU_ASSERT_FATAL(fd >= 0);
    for (unsigned round = 0; round < (FIXTURE_SANITIZED ? 20 : 60); round++) {
        for (uint64_t key = 0; key < HOLED; key++)
            CU_ASSERT_EQUAL(put_bytes(cache, &key, 8, value, fill_value(value, key)), 0);
        for (unsigned i = 0; i < 1 + round % 8; i++) {
            const struct lr_geometry *geometry = &cache->geometry;
            uint64_t first = geometry->control_off / PAGE, pages = geometry->segment_bytes / PAGE - first;
            if (fixture_below(&random, 3) == 0) /* a control block or the first pages of the index */
                pages = geometry->control_bytes / PAGE + 8;
            off_t at = (off_t)((first + fixture_below(&random, pages)) * PAGE);
            off_t bytes = (off_t)((1 + fixture_below(&random, 3)) * PAGE);
            CU_ASSERT_EQUAL(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, bytes), 0);
        }
        look_at_all(cache, &hits);
        look_at_all(fixture.two, &hits);
        for (uint64_t key = 0; key < HOLED; key += 3) /* refused puts are allowed, wrong ones are not */
            (void)put_bytes(cache, &key, 8, value, fill_value(value, key));
        look_at_all(cache, &hits);
        repair_all(cache);
        fixture_check(cache);
        CU_ASSERT_EQUAL(lr_flush(cache), 0);
    }
    CU_ASSERT(hits > 500);
    /* The header: nothing says any more that the segment is in use. */
    CU_ASSERT_EQUAL(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SM_HEADER_BYTES), 0);
    CU_ASSERT_EQUAL(put_text(cache, "a", "b"), LARDER_ERETIRED);
    struct lr_cache *later;
    char why[LR_WHY_BYTES];
    CU_ASSERT_EQUAL(lr_cache_attach(&fixture.options, &later, why), LARDER_EFOREIGN);
    close(fd);
    lr_cache_detach(fixture.two);
    lr_cache_detach(fixture.one);
    char live[200];
    snprintf(live, sizeof live, "/dev/shm/larder.%s", fixture.name);
    CU_ASSERT_EQUAL(unlink(live), 0);
    snprintf(live, sizeof live, "/dev/shm/larder.%s.live", fixture.name);
    CU_ASSERT_EQUAL(unlink(live), 0);
}

static int read_what_is_gone(void *context) {
    struct lr_cache *cache = context;
    char buf[64];
    for (unsigned i = 0; i < 100; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", i);
        int error = lr_get(cache, key, strlen(key), buf, sizeof buf, NULL, 0);
        CHILD_EXPECT(error != 0);
    }
    return 0;
}

/* What README.md (Trust) says cannot be prevented for files. 27_kept has the remedy. */
static void a_truncated_file_is_sigbus_for_its_users_and_refused_to_newcomers(void) {
    struct place place;
    struct lr_cache *later;
    char why[LR_WHY_BYTES], numbers[64];
    if (FIXTURE_SANITIZED) {
        fixture_skip(__func__, "a sanitizer takes SIGBUS for an error of its own");
        return;
    }
    new_place(&place);
    struct lr_cache *cache = create_at(&place);
    for (unsigned i = 0; i < 100; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", i);
        CU_ASSERT_EQUAL(put_text(cache, key, key), 0);
    }
    uint64_t bytes = cache->geometry.segment_bytes;
    CU_ASSERT_EQUAL(truncate(place.path, (off_t)cache->geometry.control_off), 0);
    CU_ASSERT_EQUAL(fixture_child(read_what_is_gone, cache), -SIGBUS);
    CU_ASSERT_EQUAL(lr_cache_attach(&place.options, &later, why), LARDER_ECORRUPT);
    snprintf(numbers, sizeof numbers, "%" PRIu64, bytes);
    CU_ASSERT(says(why, numbers)); /* as it should be; what it is stands beside it */
    CU_ASSERT_EQUAL(lr_cache_open(&place.options, &later, why), LARDER_ECORRUPT);
    lr_cache_detach(cache); /* touches what is still there */
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, why), 0);
    CU_ASSERT(!exists(place.path) && !exists(place.live));
}

/* ---- no room ---------------------------------------------------------------------------------------------------- */

static bool private_shm(const char *size) {
    char options[64];
    snprintf(options, sizeof options, "size=%s,mode=1777", size);
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", "/dev/shm", "tmpfs", 0, options) == 0;
}

static uint64_t used_bytes(void) {
    struct statfs fs;
    CHILD_EXPECT(statfs("/dev/shm", &fs) == 0);
    return (fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize;
}

/* Status 77: not permitted here. */
static int create_in_small_shm(void *context) {
    (void)context;
    char command[400], out[4096];
    if (!private_shm("3m"))
        return 77;
    snprintf(command, sizeof command, "%s create --name full --size 16M", fixture_program("larder"));
    CHILD_EXPECT(fixture_run(command, out, sizeof out) == 3);
    CHILD_EXPECT(says(out, "has only") && says(out, "--shm-size") && says(out, "enlarge"));
    CHILD_EXPECT(!exists("/dev/shm/larder.full") && !exists("/dev/shm/larder.full.live") && used_bytes() == 0);
    snprintf(command, sizeof command, "%s --name full --size 16M --listen 127.0.0.1:%u", fixture_program("larderd"),
             fixture_port());
    CHILD_EXPECT(fixture_run(command, out, sizeof out) == 3 && says(out, "--shm-size"));
    CHILD_EXPECT(used_bytes() == 0);
    return 0;
}

static int fill_up_afterwards(void *context) {
    (void)context;
    struct lr_options options = lr_options_default();
    struct lr_cache *cache, *other;
    static uint8_t value[3000];
    if (!private_shm("4m"))
        return 77;
    options.name = "roomy";
    options.size = 1 << 20;
    CHILD_EXPECT(lr_cache_create(&options, &cache, NULL) == 0);
    int fd = open("/dev/shm/filler", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, value, sizeof value) > 0)
        continue;
    struct statfs fs;
    CHILD_EXPECT(statfs("/dev/shm", &fs) == 0 && fs.f_bfree == 0);
    /* Every page of the segment, whatever grows in it, and newcomers: no SIGBUS, no error. */
    for (uint64_t i = 0; i < 30000; i++)
        CHILD_EXPECT(put_bytes(cache, &i, 8, value, i % 10 == 0 ? sizeof value : 16) == 0);
    CHILD_EXPECT(lr_cache_attach(&options, &other, NULL) == 0);
    CHILD_EXPECT(put_text(other, "a", "one") == 0 && holds(cache, "a", "one"));
    pid_t child = fork();
    if (child == 0)
        _exit(put_text(cache, "b", "two") == 0 ? 0 : 1);
    int status = 1;
    CHILD_EXPECT(waitpid(child, &status, 0) == child && status == 0 && holds(cache, "b", "two"));
    struct lr_check check;
    CHILD_EXPECT(lr_check(cache, &check) == 0);
    lr_cache_detach(other);
    lr_cache_detach(cache);
    CHILD_EXPECT(lr_cache_destroy(&options, NULL) == 0);
    return 0;
}

static void run_in_namespace(const char *test, int (*body)(void *)) {
    int status = fixture_child(body, NULL);
    if (status == 77)
        fixture_skip(test, "mounting a tmpfs in a namespace of one's own is not permitted");
    else
        CU_ASSERT_EQUAL(status, 0);
}

static void a_small_shm_is_an_error_with_a_remedy_and_nothing_stays(void) {
    run_in_namespace(__func__, create_in_small_shm);
}

static void a_shm_that_fills_up_later_harms_nobody(void) {
    run_in_namespace(__func__, fill_up_afterwards);
}

static int join_under_limits(void *context) {
    struct lr_cache *cache = context;
    struct rlimit none = {0, RLIM_INFINITY}, before;
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    /* No file may be written, ever: what is written here is memory. */
    CHILD_EXPECT(setrlimit(RLIMIT_FSIZE, &(struct rlimit){0, 0}) == 0);
    /* No descriptors: the child cannot have a slot, says so, and can later. */
    CHILD_EXPECT(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none.rlim_max = before.rlim_max;
    CHILD_EXPECT(setrlimit(RLIMIT_NOFILE, &none) == 0);
    int error = put_text(cache, "a", "child");
    CHILD_EXPECT(error == LARDER_ESYSTEM || error == LARDER_ENO_CLOCK);
    CHILD_EXPECT(setrlimit(RLIMIT_NOFILE, &before) == 0);
    if (!FIXTURE_SANITIZED) {
        CHILD_EXPECT(setrlimit(RLIMIT_AS, &(struct rlimit){4096, all.rlim_max}) == 0);
        error = put_text(cache, "a", "child");
        CHILD_EXPECT(error == LARDER_ESYSTEM);
        CHILD_EXPECT(setrlimit(RLIMIT_AS, &all) == 0);
    }
    CHILD_EXPECT(put_text(cache, "a", "child") == 0);
    lr_cache_detach(cache);
    return 0;
}

static void a_child_without_means_says_so_and_joins_later(void) {
    struct fixture fixture = {0};
    fixture_create(&fixture, SMALL);
    CU_ASSERT_EQUAL(fixture_child(join_under_limits, fixture.one), 0);
    CU_ASSERT(holds(fixture.two, "a", "child"));
    CU_ASSERT_EQUAL(atomic_load(&fixture.one->header->participants_high), 3);
    fixture_destroy(&fixture);
}

void larder_suite_26_lifecycle(void);
void larder_suite_26_lifecycle(void) {
    CU_pSuite suite = CU_add_suite("26_lifecycle", NULL, NULL);
    CU_ADD_TEST(suite, every_call_on_a_destroyed_segment_says_so);
    CU_ADD_TEST(suite, generations_under_one_name_never_mix);
    CU_ADD_TEST(suite, an_older_and_a_newer_layout_are_refused_with_both_versions);
    CU_ADD_TEST(suite, a_name_removed_under_its_users_is_told);
    CU_ADD_TEST(suite, a_punched_page_is_a_miss_or_an_error_and_mends);
    CU_ADD_TEST(suite, a_truncated_file_is_sigbus_for_its_users_and_refused_to_newcomers);
    CU_ADD_TEST(suite, a_small_shm_is_an_error_with_a_remedy_and_nothing_stays);
    CU_ADD_TEST(suite, a_shm_that_fills_up_later_harms_nobody);
    CU_ADD_TEST(suite, a_child_without_means_says_so_and_joins_later);
}
