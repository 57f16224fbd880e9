/* SPDX-License-Identifier: MIT */
/*
 * Does a segment appear whole or not at all, is everything else refused with a reason, and does it go cleanly?
 *
 * The strongest tests here run one create or destroy under ptrace and kill it before its first system call, before its
 * second, and so on to the end: every state that the outside can ever see. After each kill the name must be attachable
 * or free, and nobody who is attached may be left alive beside a new generation.
 */
#include "fixture.h"
#include "segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define SMALL (UINT64_C(64) << 10)
#define STRANGER 65534u

/* ---- helpers ---------------------------------------------------------------------------------------------------- */

struct place {
    char name[65];
    char path[128];
    char live[160];
    struct lr_options options;
};

static void new_place(struct place *place) {
    fixture_name(place->name);
    snprintf(place->path, sizeof place->path, "/dev/shm/larder.%s", place->name);
    snprintf(place->live, sizeof place->live, "%s.live", place->path);
    place->options = lr_options_default();
    place->options.name = place->name;
    place->options.size = SMALL;
}

static struct lr_cache *create_at(const struct place *place) {
    struct lr_cache *cache = NULL;
    char why[LR_WHY_BYTES] = "";
    if (lr_cache_create(&place->options, &cache, why) != 0)
        printf("\n    %s\n", why);
    CU_ASSERT_PTR_NOT_NULL_FATAL(cache);
    return cache;
}

static void remove_place(const struct place *place) {
    (void)unlink(place->path);
    (void)unlink(place->live);
}

static bool exists(const char *path) {
    struct stat file;
    return lstat(path, &file) == 0;
}

static bool says(const char *why, const char *part) {
    if (strstr(why, part) != NULL)
        return true;
    printf("\n    \"%s\" does not speak of \"%s\"\n", why, part);
    return false;
}

/* Both parts of the message: what is, and what was expected or what to do. */
static void expect_attach_refused(const struct lr_options *options, int expected, const char *is, const char *other) {
    struct lr_cache *cache = NULL;
    char why[LR_WHY_BYTES] = "";
    int error = lr_cache_attach(options, &cache, why);
    if (error != expected)
        printf("\n    %s instead of %s: %s\n", lr_error_name(error), lr_error_name(expected), why);
    CU_ASSERT_EQUAL(error, expected);
    CU_ASSERT_PTR_NULL(cache);
    CU_ASSERT(says(why, is));
    CU_ASSERT(says(why, other));
    CU_ASSERT_PTR_NULL(strchr(why, '\n'));
}

static int as_stranger(void) {
    return setgid(STRANGER) == 0 && setuid(STRANGER) == 0;
}

static bool is_root(const char *test) {
    if (geteuid() == 0)
        return true;
    fixture_skip(test, "needs root, to be another user");
    return false;
}

/* ---- names and options ------------------------------------------------------------------------------------------ */

static void bad_names_paths_and_options_are_refused(void) {
    static const char *const names[] = {"",
                                        ".",
                                        "..",
                                        "a/b",
                                        "../x",
                                        "with space",
                                        "new\nline",
                                        "stern*",
                                        "x.live",
                                        "\xc3\xa4",
                                        "12345678901234567890123456789012345678901234567890123456789012345"};
    struct lr_options options = lr_options_default();
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        options.name = names[i];
        CU_ASSERT_EQUAL(lr_cache_create(&options, &cache, why), LARDER_EINVALID);
        CU_ASSERT(says(why, "no segment name"));
        CU_ASSERT_EQUAL(lr_cache_attach(&options, &cache, NULL), LARDER_EINVALID);
        CU_ASSERT_EQUAL(lr_cache_open(&options, &cache, NULL), LARDER_EINVALID);
        CU_ASSERT_EQUAL(lr_cache_destroy(&options, NULL), LARDER_EINVALID);
    }
    options.name = NULL;
    CU_ASSERT_EQUAL(lr_cache_open(&options, &cache, why), LARDER_EINVALID);
    CU_ASSERT(says(why, "name or a path"));
    options.name = "x", options.path = "/dev/shm/y";
    CU_ASSERT_EQUAL(lr_cache_open(&options, &cache, why), LARDER_EINVALID);
    options.name = NULL, options.path = "/dev/shm/";
    CU_ASSERT_EQUAL(lr_cache_open(&options, &cache, why), LARDER_EINVALID);
    options.path = "/dev/shm/larder.x.live";
    CU_ASSERT_EQUAL(lr_cache_open(&options, &cache, why), LARDER_EINVALID);
    options.path = "/no/such/folder/segment";
    CU_ASSERT_EQUAL(lr_cache_open(&options, &cache, why), LARDER_EINVALID);
    CU_ASSERT(says(why, "/no/such/folder"));

    struct place place;
    new_place(&place);
    static const mode_t modes[] = {0602, 0666, 0620, 0400, 0700, 04600, 0777};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        place.options.mode = modes[i];
        CU_ASSERT_EQUAL(lr_cache_create(&place.options, &cache, why), LARDER_EINVALID);
        CU_ASSERT(says(why, "0600"));
    }
    place.options.mode = 0;
    place.options.wait_ms = 60001;
    CU_ASSERT_EQUAL(lr_cache_create(&place.options, &cache, why), LARDER_EINVALID);
    CU_ASSERT(says(why, "60001"));
    place.options.wait_ms = 0;
    place.options.read_only = true;
    CU_ASSERT_EQUAL(lr_cache_create(&place.options, &cache, why), LARDER_EINVALID);
    CU_ASSERT_EQUAL(lr_cache_open(&place.options, &cache, why), LARDER_ENO_SEGMENT);
    CU_ASSERT(!exists(place.path) && !exists(place.live));
}

static void a_relative_path_survives_chdir(void) {
    struct place place;
    char here[4096], relative[80];
    new_place(&place);
    CU_ASSERT_PTR_NOT_NULL_FATAL(getcwd(here, sizeof here));
    CU_ASSERT_EQUAL_FATAL(chdir("/dev/shm"), 0);
    snprintf(relative, sizeof relative, "larder.%s", place.name);
    place.options.name = NULL, place.options.path = relative;
    struct lr_cache *cache = create_at(&place);
    CU_ASSERT_EQUAL_FATAL(chdir(here), 0);
    CU_ASSERT_STRING_EQUAL(cache->path, place.path);
    CU_ASSERT_STRING_EQUAL(cache->geometry.name, place.name); /* without the prefix */
    lr_cache_detach(cache);
    place.options.path = NULL, place.options.name = place.name; /* the same segment by name */
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
}

/* ---- what a new segment is -------------------------------------------------------------------------------------- */

static void a_new_segment_is_whole_healthy_and_aligned(void) {
    struct fixture fixture = {0};
    struct lr_options options = lr_options_default();
    options.size = UINT64_C(8) << 20;
    options.prefault = true;
    options.who = "a \033 name that is longer than its field has room for";
    fixture_create_with(&fixture, &options);
    struct stat file;
    CU_ASSERT_EQUAL(stat(fixture.one->path, &file), 0);
    CU_ASSERT_EQUAL((uint64_t)file.st_size, fixture.one->geometry.segment_bytes);
    CU_ASSERT_EQUAL(file.st_nlink, 1);
    CU_ASSERT_EQUAL((uintptr_t)fixture.one->base % (2u << 20), 0);
    CU_ASSERT_EQUAL((uintptr_t)fixture.two->base % (2u << 20), 0);
    CU_ASSERT(fixture.one->base != fixture.two->base);
    CU_ASSERT(lr_origin(fixture.one) < 1024);
    uint64_t one[2], two[2];
    lr_incarnation(fixture.one, one);
    lr_incarnation(fixture.two, two);
    CU_ASSERT(one[0] == two[0] && one[1] == two[1] && (one[0] | one[1]) != 0);
    CU_ASSERT_EQUAL(lr_stripe_count(fixture.two), 2);
    lr_set_origin(fixture.one, 1024 + 77);
    CU_ASSERT_EQUAL(lr_origin(fixture.two), 77);
    struct lr_process process;
    CU_ASSERT_EQUAL(lr_process(fixture.two, fixture.one->slot, &process), 0);
    CU_ASSERT_STRING_EQUAL(process.name, "a ? name that is longer than it");
    fixture_destroy(&fixture);
}

/* Too small for huge pages and not prefaulted, so that only the allocation itself can have brought the pages. */
static void all_memory_is_allocated_before_the_name_appears(void) {
    struct place place;
    struct stat file;
    new_place(&place);
    lr_cache_detach(create_at(&place));
    CU_ASSERT_EQUAL(stat(place.path, &file), 0);
    CU_ASSERT((uint64_t)file.st_blocks * 512 >= (uint64_t)file.st_size);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
}

static void mode_and_group_are_as_asked_whatever_the_umask(void) {
    static const struct {
        mode_t asked, segment, live;
    } rows[] = {{0, 0600, 0600}, {0660, 0660, 0660}, {0640, 0640, 0600}, {0664, 0664, 0660}, {0644, 0644, 0600}};
    mode_t before = umask(0077);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct place place;
        struct stat segment, live;
        new_place(&place);
        place.options.mode = rows[i].asked;
        if (geteuid() == 0)
            place.options.group = 4242;
        lr_cache_detach(create_at(&place));
        CU_ASSERT(stat(place.path, &segment) == 0 && stat(place.live, &live) == 0);
        CU_ASSERT_EQUAL(segment.st_mode & 07777, rows[i].segment);
        CU_ASSERT_EQUAL(live.st_mode & 07777, rows[i].live); /* readers only: no descriptor on the liveness file */
        if (geteuid() == 0)
            CU_ASSERT(segment.st_gid == 4242 && live.st_gid == 4242);
        CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
        CU_ASSERT(!exists(place.path) && !exists(place.live));
    }
    umask(before);
}

/* ---- refusals --------------------------------------------------------------------------------------------------- */

static void what_is_no_regular_file_is_refused_without_waiting(void) {
    struct place place;
    new_place(&place);
    expect_attach_refused(&place.options, LARDER_ENO_SEGMENT, "there is no segment at", place.path);

    CU_ASSERT_EQUAL_FATAL(symlink("/dev/shm/nothing", place.path), 0);
    expect_attach_refused(&place.options, LARDER_EFOREIGN, "symbolic link", place.path);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), LARDER_EFOREIGN);
    CU_ASSERT(exists(place.path));
    unlink(place.path);

    CU_ASSERT_EQUAL_FATAL(mkfifo(place.path, 0600), 0);
    expect_attach_refused(&place.options, LARDER_EFOREIGN, "named pipe", "regular file");
    place.options.read_only = true;
    expect_attach_refused(&place.options, LARDER_EFOREIGN, "named pipe", "regular file");
    place.options.read_only = false;
    struct lr_cache *cache;
    CU_ASSERT_EQUAL(lr_cache_create(&place.options, &cache, NULL), LARDER_EEXISTS);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), LARDER_EFOREIGN);
    CU_ASSERT(exists(place.path) && !exists(place.live));
    unlink(place.path);

    CU_ASSERT_EQUAL_FATAL(mkdir(place.path, 0700), 0);
    expect_attach_refused(&place.options, LARDER_EFOREIGN, "directory", "segment");
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), LARDER_EFOREIGN);
    rmdir(place.path);
}

static void write_file(const char *path, const void *bytes, size_t len) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

static void a_foreign_file_is_refused_and_never_removed(void) {
    struct place place;
    struct lr_cache *cache;
    char text[8192];
    new_place(&place);
    memset(text, 'x', sizeof text);
    write_file(place.path, text, 10);
    expect_attach_refused(&place.options, LARDER_EFOREIGN, "10 bytes", "4096");
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), LARDER_EFOREIGN);
    write_file(place.path, text, 0);
    expect_attach_refused(&place.options, LARDER_EFOREIGN, "0 bytes", "4096");
    write_file(place.path, text, sizeof text);
    expect_attach_refused(&place.options, LARDER_EFOREIGN, "7878787878787878", "0a52454452414cff");
    CU_ASSERT_EQUAL(lr_cache_create(&place.options, &cache, NULL), LARDER_EEXISTS);
    CU_ASSERT_EQUAL(lr_cache_open(&place.options, &cache, NULL), LARDER_EFOREIGN);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), LARDER_EFOREIGN);
    CU_ASSERT(exists(place.path) && !exists(place.live));
    unlink(place.path);

    /* The same for what has the liveness file's name. */
    write_file(place.live, text, sizeof text);
    char why[LR_WHY_BYTES];
    CU_ASSERT_EQUAL(lr_cache_create(&place.options, &cache, why), LARDER_EFOREIGN);
    CU_ASSERT(says(why, place.live));
    CU_ASSERT(exists(place.live) && !exists(place.path));
    unlink(place.live);
    CU_ASSERT_EQUAL_FATAL(symlink("/dev/shm/nothing", place.live), 0);
    CU_ASSERT_EQUAL(lr_cache_create(&place.options, &cache, why), LARDER_EFOREIGN);
    CU_ASSERT(exists(place.live) && !exists(place.path));
    unlink(place.live);
}

static void patch(const char *path, off_t offset, uint8_t with) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t old = 0;
    CU_ASSERT_FATAL(fd >= 0 && pread(fd, &old, 1, offset) == 1);
    old ^= with;
    CU_ASSERT_EQUAL(pwrite(fd, &old, 1, offset), 1);
    close(fd);
}

static void a_truncated_or_damaged_segment_is_refused_but_can_be_destroyed(void) {
    static const struct {
        off_t at; /* -1: truncate */
        int error;
        const char *says;
    } rows[] = {
        {-1, LARDER_ECORRUPT, "truncated"},
        {offsetof(struct sm_constants, layout), LARDER_EVERSION, "speaks layout"},
        {offsetof(struct sm_constants, byte_order), LARDER_EFOREIGN, "byte order"},
        {offsetof(struct sm_constants, stripe_count), LARDER_ECORRUPT, "checksum"},
        {offsetof(struct sm_header, state), LARDER_ECORRUPT, "state is"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct place place;
        struct stat file;
        struct lr_cache *cache;
        new_place(&place);
        lr_cache_detach(create_at(&place));
        CU_ASSERT_EQUAL_FATAL(stat(place.path, &file), 0);
        if (rows[i].at < 0) {
            CU_ASSERT_EQUAL(truncate(place.path, file.st_size - 4096), 0);
        } else {
            patch(place.path, rows[i].at, 0x40);
        }
        expect_attach_refused(&place.options, rows[i].error, rows[i].says, place.path);
        CU_ASSERT_EQUAL(lr_cache_open(&place.options, &cache, NULL), rows[i].error);
        CU_ASSERT_EQUAL(lr_cache_create(&place.options, &cache, NULL), LARDER_EEXISTS);
        CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
        CU_ASSERT(!exists(place.path) && !exists(place.live));
    }
    /* Not under a Larder name: it may be anybody's file that was made to look like one. */
    struct place place;
    char other[200], why[LR_WHY_BYTES];
    new_place(&place);
    snprintf(other, sizeof other, "/dev/shm/not-larder.%s", place.name);
    place.options.name = NULL, place.options.path = other;
    lr_cache_detach(create_at(&place));
    patch(other, offsetof(struct sm_constants, layout), 0x40);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, why), LARDER_EVERSION);
    CU_ASSERT(exists(other));
    patch(other, offsetof(struct sm_constants, layout), 0x40);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, why), 0);
    CU_ASSERT(!exists(other));
}

static void hard_links_and_writers_among_others_are_refused(void) {
    struct place place;
    char second[200];
    new_place(&place);
    lr_cache_detach(create_at(&place));
    snprintf(second, sizeof second, "%s.second", place.path);
    CU_ASSERT_EQUAL_FATAL(link(place.path, second), 0);
    expect_attach_refused(&place.options, LARDER_EFOREIGN, "2 names", "has one");
    unlink(second);
    CU_ASSERT_EQUAL(chmod(place.path, 0606), 0);
    expect_attach_refused(&place.options, LARDER_EPERMISSION, "0606", "writable by others");
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), LARDER_EPERMISSION);
    CU_ASSERT_EQUAL(chmod(place.path, 0600), 0);
    CU_ASSERT_EQUAL(chmod(place.live, 0606), 0);
    expect_attach_refused(&place.options, LARDER_EPERMISSION, "0606", ".live");
    CU_ASSERT_EQUAL(chmod(place.live, 0600), 0);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
}

static int attach_as_stranger(void *context) {
    struct place *place = context;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    CHILD_EXPECT(as_stranger());
    CHILD_EXPECT(lr_cache_attach(&place->options, &cache, why) == LARDER_EPERMISSION);
    CHILD_EXPECT(says(why, "user 65534"));
    place->options.read_only = true;
    CHILD_EXPECT(lr_cache_attach(&place->options, &cache, why) == LARDER_EPERMISSION);
    CHILD_EXPECT(lr_cache_destroy(&place->options, why) == LARDER_EPERMISSION);
    return 0;
}

/* Mode 0644: others may look, and no more. */
static int look_as_stranger(void *context) {
    struct place *place = context;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    CHILD_EXPECT(as_stranger());
    CHILD_EXPECT(lr_cache_attach(&place->options, &cache, why) == LARDER_EPERMISSION);
    place->options.read_only = true;
    CHILD_EXPECT(lr_cache_attach(&place->options, &cache, why) == LARDER_EPERMISSION);
    CHILD_EXPECT(says(why, "user 1234") && says(why, "user 65534"));
    place->options.owner = 1234;
    CHILD_EXPECT(lr_cache_attach(&place->options, &cache, why) == 0);
    CHILD_EXPECT(cache->probe_fd == -1);
    CHILD_EXPECT(lr_enter(cache) == LARDER_EREAD_ONLY && lr_enter_read(cache) == 0);
    CHILD_EXPECT(lr_owner_alive(cache, lr_owner_word(0, 1))); /* long dead, but there is no way to tell: alive */
    CHILD_EXPECT(!lr_participant_reap(cache, 0, 1));
    lr_cache_detach(cache);
    return 0;
}

static int trust_as_stranger(void *context) {
    struct place *place = context;
    struct lr_cache *cache;
    CHILD_EXPECT(as_stranger());
    place->options.read_only = true;
    CHILD_EXPECT(lr_cache_attach(&place->options, &cache, NULL) == 0); /* root's segments are everybody's */
    lr_cache_detach(cache);
    return 0;
}

/* In the sticky /dev/shm a group member may use the segment, but not remove it, and is told before it is retired. */
static int use_as_group_member(void *context) {
    struct place *place = context;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    CHILD_EXPECT(as_stranger());
    CHILD_EXPECT(lr_cache_attach(&place->options, &cache, why) == 0);
    CHILD_EXPECT(lr_enter(cache) == 0);
    CHILD_EXPECT(lr_cache_destroy(&place->options, why) == LARDER_EPERMISSION);
    CHILD_EXPECT(lr_enter(cache) == 0);
    lr_cache_detach(cache);
    return 0;
}

static void owner_and_mode_decide_who_attaches(void) {
    struct place place;
    if (!is_root(__func__))
        return;
    new_place(&place);
    lr_cache_detach(create_at(&place));
    CU_ASSERT_EQUAL(fixture_child(attach_as_stranger, &place), 0);
    CU_ASSERT_EQUAL(chmod(place.path, 0644), 0);
    CU_ASSERT_EQUAL(fixture_child(trust_as_stranger, &place), 0);
    CU_ASSERT(chown(place.path, 1234, 1234) == 0 && chown(place.live, 1234, 1234) == 0);
    CU_ASSERT_EQUAL(fixture_child(look_as_stranger, &place), 0);
    struct lr_cache *cache; /* root may */
    CU_ASSERT_EQUAL(lr_cache_attach(&place.options, &cache, NULL), 0);
    lr_cache_detach(cache);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);

    place.options.mode = 0660;
    place.options.group = STRANGER;
    lr_cache_detach(create_at(&place));
    CU_ASSERT_EQUAL(fixture_child(use_as_group_member, &place), 0);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
}

static int squat(void *context) {
    struct place *place = context;
    CHILD_EXPECT(as_stranger());
    lr_cache_detach(create_at(place));
    return 0;
}

static int find_squatter(void *context) {
    struct place *place = context;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    CHILD_EXPECT(setgid(1234) == 0 && setuid(1234) == 0);
    CHILD_EXPECT(lr_cache_open(&place->options, &cache, why) == LARDER_EPERMISSION);
    CHILD_EXPECT(says(why, "user 1234"));
    return 0;
}

static void a_name_taken_by_another_user_is_refused(void) {
    struct place place;
    if (!is_root(__func__))
        return;
    new_place(&place);
    place.options.mode = 0664;
    CU_ASSERT_EQUAL(fixture_child(squat, &place), 0);
    CU_ASSERT_EQUAL(fixture_child(find_squatter, &place), 0);
    unlink(place.path); /* and only his liveness file */
    CU_ASSERT_EQUAL(fixture_child(find_squatter, &place), 0);
    remove_place(&place);
}

/* ---- pairs ------------------------------------------------------------------------------------------------------ */

static void copy_file(const char *from, const char *to) {
    char command[400];
    snprintf(command, sizeof command, "cp '%s' '%s'", from, to);
    CU_ASSERT_EQUAL_FATAL(fixture_run(command, NULL, 0), 0);
}

static void a_segment_without_its_own_liveness_file_is_refused(void) {
    struct place place, other;
    char spare[200];
    new_place(&place);
    new_place(&other);
    lr_cache_detach(create_at(&place));
    lr_cache_detach(create_at(&other));
    snprintf(spare, sizeof spare, "%s.spare", place.path);

    CU_ASSERT_EQUAL(rename(place.live, spare), 0); /* missing */
    expect_attach_refused(&place.options, LARDER_ECORRUPT, "is missing", place.live);
    copy_file(spare, place.live); /* a copy: no locks on it, so the living would look dead */
    expect_attach_refused(&place.options, LARDER_ECORRUPT, "inodes", "copy");
    copy_file(other.live, place.live); /* another segment's */
    expect_attach_refused(&place.options, LARDER_ECORRUPT, "belongs to the segment", "but this one is");
    patch(place.live, SM_LIVE_RECORD_OFF + 16, 1);
    expect_attach_refused(&place.options, LARDER_EFOREIGN, "no liveness file", place.live);
    CU_ASSERT_EQUAL(rename(spare, place.live), 0); /* its own again */
    struct lr_cache *cache;
    CU_ASSERT_EQUAL(lr_cache_attach(&place.options, &cache, NULL), 0);
    lr_cache_detach(cache);

    copy_file(place.path, spare); /* a copy of the segment, put back under its name */
    CU_ASSERT_EQUAL(rename(spare, place.path), 0);
    expect_attach_refused(&place.options, LARDER_ECORRUPT, "inodes", "copy");
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
    CU_ASSERT(!exists(place.path) && !exists(place.live));

    unlink(other.live); /* can still be destroyed */
    CU_ASSERT_EQUAL(lr_cache_create(&other.options, &cache, NULL), LARDER_EEXISTS);
    CU_ASSERT(!exists(other.live));
    CU_ASSERT_EQUAL(lr_cache_destroy(&other.options, NULL), 0);
    CU_ASSERT(!exists(other.path) && !exists(other.live));
}

static void an_image_is_read_without_liveness_and_a_broken_one_refused(void) {
    struct fixture fixture = {0};
    char image[300], why[LR_WHY_BYTES];
    struct lr_cache *cache;
    fixture_create(&fixture, SMALL);
    snprintf(image, sizeof image, "%s/image", fixture_folder());
    copy_file(fixture.one->path, image);
    CU_ASSERT_EQUAL_FATAL(lr_cache_attach_image(image, &cache, why), 0);
    CU_ASSERT(cache->image && cache->read_only && cache->path[0] == 0);
    CU_ASSERT_EQUAL(lr_enter(cache), LARDER_EREAD_ONLY);
    CU_ASSERT(!lr_owner_alive(cache, lr_own_word(fixture.one)));
    fixture_check(cache);
    lr_cache_detach(cache);
    CU_ASSERT_EQUAL(truncate(image, 100000), 0);
    CU_ASSERT_EQUAL(lr_cache_attach_image(image, &cache, why), LARDER_ECORRUPT);
    CU_ASSERT(says(why, "100000 bytes"));
    CU_ASSERT_EQUAL(truncate(image, 100), 0);
    CU_ASSERT_EQUAL(lr_cache_attach_image(image, &cache, why), LARDER_EFOREIGN);
    unlink(image);
    CU_ASSERT_EQUAL(lr_cache_attach_image(image, &cache, why), LARDER_ENO_SEGMENT);
    CU_ASSERT_EQUAL(lr_cache_attach_image("/dev", &cache, why), LARDER_EFOREIGN);
    CU_ASSERT_PTR_NULL(cache);
    fixture_destroy(&fixture);
}

/* ---- generations ------------------------------------------------------------------------------------------------ */

static void destroy_retires_whoever_is_attached_and_the_name_is_free(void) {
    struct place place;
    struct lr_cache *reader, *later;
    new_place(&place);
    struct lr_cache *old = create_at(&place);
    place.options.read_only = true;
    CU_ASSERT_EQUAL_FATAL(lr_cache_attach(&place.options, &reader, NULL), 0);
    place.options.read_only = false;
    CU_ASSERT(lr_enter(old) == 0 && lr_enter_read(reader) == 0);
    uint32_t bell = atomic_load(&old->header->bell);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
    CU_ASSERT_EQUAL(lr_enter(old), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(lr_enter_read(reader), LARDER_ERETIRED);
    CU_ASSERT(atomic_load(&old->header->bell) != bell);
    CU_ASSERT(!exists(place.path) && !exists(place.live));
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), LARDER_ENO_SEGMENT);

    CU_ASSERT_EQUAL_FATAL(lr_cache_open(&place.options, &later, NULL), 0);
    uint64_t before[2], after[2];
    lr_incarnation(old, before);
    lr_incarnation(later, after);
    CU_ASSERT(before[0] != after[0] && before[1] != after[1]);
    CU_ASSERT(old->geometry.hash_seed != later->geometry.hash_seed);
    CU_ASSERT_EQUAL(lr_enter(old), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(lr_enter(later), 0);
    /* The old one's slot, byte and file are its own: leaving does nothing to the new one. */
    uint64_t word = lr_own_word(later);
    lr_cache_detach(reader);
    lr_cache_detach(old);
    struct lr_cache *witness;
    CU_ASSERT_EQUAL_FATAL(lr_cache_attach(&place.options, &witness, NULL), 0);
    CU_ASSERT(lr_owner_alive(witness, word));
    lr_cache_detach(witness);
    lr_cache_detach(later);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
}

static int rejoin_after_destroy(void *context) {
    struct lr_cache *cache = context;
    CHILD_EXPECT(lr_enter(cache) == LARDER_ERETIRED);
    lr_cache_detach(cache);
    return 0;
}

static void a_child_forked_before_and_calling_after_destroy_is_told(void) {
    struct place place;
    struct lr_cache *later;
    new_place(&place);
    struct lr_cache *old = create_at(&place);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
    CU_ASSERT_EQUAL(fixture_child(rejoin_after_destroy, old), 0);
    CU_ASSERT_EQUAL_FATAL(lr_cache_open(&place.options, &later, NULL), 0);
    CU_ASSERT_EQUAL(fixture_child(rejoin_after_destroy, old), 0); /* the name now leads to another pair */
    CU_ASSERT_EQUAL(atomic_load(&later->header->participants_high), 1);
    lr_cache_detach(old);
    lr_cache_detach(later);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
}

/* ---- races ------------------------------------------------------------------------------------------------------ */

#define RACERS 24u

struct race {
    struct place place;
    int start; /* closed by the runner: all begin */
    int report;
    bool create;
};

struct result {
    int error;
    uint32_t slot;
    uint64_t incarnation;
};

static int run_race(void *context) {
    struct race *race = context;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES], byte;
    CHILD_EXPECT(read(race->start, &byte, 1) == 0);
    struct result result = {0};
    result.error = race->create ? lr_cache_create(&race->place.options, &cache, why)
                                : lr_cache_open(&race->place.options, &cache, why);
    if (result.error == 0) {
        result.slot = cache->slot;
        result.incarnation = cache->geometry.incarnation[0];
    } else if (result.error != LARDER_EEXISTS) {
        fprintf(stderr, "\n    %s\n", why);
    }
    CHILD_EXPECT(write(race->report, &result, sizeof result) == (ssize_t)sizeof result);
    fixture_sleep_ms(20); /* so that all are attached together */
    lr_cache_detach(cache);
    return 0;
}

static void race_once(struct race *race, struct result results[RACERS]) {
    int start[2], report[2];
    pid_t children[RACERS];
    CU_ASSERT_FATAL(pipe2(start, O_CLOEXEC) == 0 && pipe2(report, O_CLOEXEC) == 0);
    race->start = start[0];
    race->report = report[1];
    for (unsigned i = 0; i < RACERS; i++) {
        fflush(NULL);
        children[i] = fork();
        if (children[i] == 0) {
            alarm(120);
            close(start[1]);
            _exit(run_race(race));
        }
    }
    close(start[1]);
    for (unsigned i = 0; i < RACERS; i++)
        CU_ASSERT_EQUAL(read(report[0], &results[i], sizeof results[i]), (ssize_t)sizeof results[i]);
    for (unsigned i = 0; i < RACERS; i++)
        CU_ASSERT_EQUAL(fixture_wait(children[i]), 0);
    close(start[0]);
    close(report[0]);
    close(report[1]);
}

static void of_many_creators_at_once_one_creates_and_all_attach(void) {
    for (unsigned round = 0; round < 20; round++) {
        struct race race = {0};
        struct result results[RACERS];
        new_place(&race.place);
        race_once(&race, results);
        for (unsigned i = 0; i < RACERS; i++) {
            CU_ASSERT_EQUAL(results[i].error, 0);
            CU_ASSERT_EQUAL(results[i].incarnation, results[0].incarnation);
            for (unsigned j = 0; j < i; j++)
                CU_ASSERT_NOT_EQUAL(results[i].slot, results[j].slot);
        }
        struct lr_cache *cache;
        CU_ASSERT_EQUAL_FATAL(lr_cache_attach(&race.place.options, &cache, NULL), 0);
        fixture_check(cache);
        lr_cache_detach(cache);
        CU_ASSERT_EQUAL(lr_cache_destroy(&race.place.options, NULL), 0);
    }
}

static void of_many_strict_creators_exactly_one_succeeds(void) {
    for (unsigned round = 0; round < 10; round++) {
        struct race race = {.create = true};
        struct result results[RACERS];
        unsigned created = 0, refused = 0;
        new_place(&race.place);
        race_once(&race, results);
        for (unsigned i = 0; i < RACERS; i++) {
            created += results[i].error == 0;
            refused += results[i].error == LARDER_EEXISTS;
        }
        CU_ASSERT_EQUAL(created, 1);
        CU_ASSERT_EQUAL(refused, RACERS - 1);
        CU_ASSERT_EQUAL(lr_cache_destroy(&race.place.options, NULL), 0);
    }
}

struct churn {
    struct place place;
    struct fixture_random random;
    uint64_t until_ns;
};

/* Whatever the others do with the name, no generation is ever paired with another's liveness file. */
static int churn(void *context) {
    struct churn *churn = context;
    struct lr_cache *cache = NULL;
    char why[LR_WHY_BYTES];
    while (fixture_now_ns() < churn->until_ns) {
        int error = fixture_below(&churn->random, 3) == 0 ? lr_cache_destroy(&churn->place.options, why)
                                                          : lr_cache_open(&churn->place.options, &cache, why);
        if (error != 0 && error != LARDER_ENO_SEGMENT && error != LARDER_EBUSY)
            fprintf(stderr, "\n    %s: %s\n", lr_error_name(error), why);
        CHILD_EXPECT(error == 0 || error == LARDER_ENO_SEGMENT || error == LARDER_EBUSY);
        if (cache != NULL) {
            CHILD_EXPECT(lr_enter(cache) == 0 || lr_enter(cache) == LARDER_ERETIRED);
            lr_cache_detach(cache);
        }
        cache = NULL;
    }
    return 0;
}

static void opening_and_destroying_at_once_never_mixes_generations(void) {
    struct churn churners[6];
    pid_t children[6];
    struct fixture_random random = fixture_seed("churn");
    struct place place;
    new_place(&place);
    for (unsigned i = 0; i < 6; i++) {
        churners[i] = (struct churn){place, fixture_fork_random(&random, i), fixture_now_ns() + UINT64_C(1500000000)};
        churners[i].place.options.name = churners[i].place.name;
        children[i] = fixture_start(churn, &churners[i]);
    }
    for (unsigned i = 0; i < 6; i++)
        CU_ASSERT_EQUAL(fixture_wait(children[i]), 0);
    int error = lr_cache_destroy(&place.options, NULL);
    CU_ASSERT(error == 0 || error == LARDER_ENO_SEGMENT);
    CU_ASSERT(!exists(place.path) && !exists(place.live));
}

/* ---- kills ------------------------------------------------------------------------------------------------------ */

/* Files under /dev/shm whose name begins like this place's. */
static unsigned count_files(const struct place *place) {
    unsigned count = 0;
    DIR *folder = opendir("/dev/shm");
    CU_ASSERT_PTR_NOT_NULL_FATAL(folder);
    const char *prefix = strrchr(place->path, '/') + 1;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    closedir(folder);
    return count;
}

enum found { FOUND_NOTHING, FOUND_LIVE_ALONE, FOUND_SEGMENT, FOUND_RETIRED };

/* After a kill: nothing half made, and the name works. Leaves the name free. */
static enum found expect_usable(const struct place *place) {
    struct lr_cache *cache;
    char why[LR_WHY_BYTES] = "";
    CU_ASSERT_EQUAL(count_files(place), (unsigned)exists(place->path) + (unsigned)exists(place->live));
    CU_ASSERT(!exists(place->path) || exists(place->live)); /* never a segment without */
    int error = lr_cache_attach(&place->options, &cache, why);
    enum found found = error == 0                 ? FOUND_SEGMENT
                       : error == LARDER_ERETIRED ? FOUND_RETIRED
                       : exists(place->live)      ? FOUND_LIVE_ALONE
                                                  : FOUND_NOTHING;
    CU_ASSERT(error == 0 || error == LARDER_ERETIRED || error == LARDER_ENO_SEGMENT);
    if (error != 0) {
        error = lr_cache_create(&place->options, &cache, why);
        if (error != 0)
            printf("\n    after a kill: %s: %s\n", lr_error_name(error), why);
        CU_ASSERT_EQUAL_FATAL(error, 0);
    }
    fixture_check(cache);
    lr_cache_detach(cache);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place->options, why), 0);
    CU_ASSERT_EQUAL(count_files(place), 0);
    return found;
}

struct victim {
    struct place place;
    uint64_t after_ns;
    bool destroy;
};

static int be_killed(void *context) {
    struct victim *victim = context;
    struct lr_cache *cache;
    timer_t timer;
    struct sigevent kill_me = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec when = {.it_value.tv_nsec = (long)victim->after_ns + 1};
    CHILD_EXPECT(timer_create(CLOCK_MONOTONIC, &kill_me, &timer) == 0 && timer_settime(timer, 0, &when, NULL) == 0);
    (void)lr_cache_create(&victim->place.options, &cache, NULL);
    return 0;
}

static void killed_racing_creators_leave_nothing_half_made(void) {
    struct fixture_random random = fixture_seed("killed creators");
    struct victim victims[2];
    const unsigned enough = FIXTURE_SANITIZED ? 100 : 500;
    unsigned found[4] = {0}, killed = 0;
    new_place(&victims[0].place);
    uint64_t started_ns = fixture_now_ns();
    lr_cache_detach(create_at(&victims[0].place));
    uint64_t usual_ns = fixture_now_ns() - started_ns;
    CU_ASSERT_EQUAL(lr_cache_destroy(&victims[0].place.options, NULL), 0);
    victims[1] = victims[0];
    victims[1].place.options.name = victims[0].place.options.name = victims[0].place.name;
    for (unsigned round = 0; round < 3000 && killed < enough; round++) {
        pid_t children[2];
        for (unsigned i = 0; i < 2; i++) {
            victims[i].after_ns = fixture_below(&random, 3 * usual_ns);
            children[i] = fixture_start(be_killed, &victims[i]);
        }
        for (unsigned i = 0; i < 2; i++)
            killed += fixture_wait(children[i]) == -SIGKILL;
        found[expect_usable(&victims[0].place)]++;
    }
    printf(" %u killed: nothing %u, liveness file alone %u, segment %u;", killed, found[FOUND_NOTHING],
           found[FOUND_LIVE_ALONE], found[FOUND_SEGMENT]);
    CU_ASSERT(killed >= enough && found[FOUND_NOTHING] > 0 && found[FOUND_SEGMENT] > 0);
    CU_ASSERT_EQUAL(found[FOUND_RETIRED], 0);
}

static int run_traced(const struct victim *victim) {
    struct lr_cache *cache;
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(77);
    raise(SIGSTOP);
    int error = victim->destroy ? lr_cache_destroy(&victim->place.options, NULL)
                                : lr_cache_create(&victim->place.options, &cache, NULL);
    _exit(error == 0 ? 0 : 1);
}

/* Runs the victim to its stop number `steps` (each system call stops it twice) and kills it. False: it ended before. */
static bool kill_after(const struct victim *victim, unsigned steps, bool *traced) {
    int status;
    fflush(NULL);
    pid_t child = fork();
    CU_ASSERT_FATAL(child >= 0);
    if (child == 0)
        run_traced(victim);
    *traced = waitpid(child, &status, 0) == child && WIFSTOPPED(status);
    if (!*traced)
        return false;
    for (unsigned step = 0; step < steps; step++) {
        if (ptrace(PTRACE_SYSCALL, child, NULL, NULL) != 0 || waitpid(child, &status, 0) != child)
            break;
        if (WIFEXITED(status)) {
            CU_ASSERT_EQUAL(WEXITSTATUS(status), 0);
            return false;
        }
    }
    kill(child, SIGKILL);
    while (waitpid(child, &status, 0) == child && !WIFSIGNALED(status) && !WIFEXITED(status))
        ;
    return true;
}

static void a_creator_killed_at_any_system_call_leaves_nothing_half_made(void) {
    struct victim victim = {0};
    unsigned found[4] = {0}, kills = 0;
    new_place(&victim.place);
    for (bool traced, more = true; more; kills++) {
        more = kill_after(&victim, kills, &traced);
        if (!traced) {
            fixture_skip(__func__, "ptrace is not permitted");
            return;
        }
        found[expect_usable(&victim.place)]++;
    }
    printf(" %u kills: nothing %u, liveness file alone %u, segment %u;", kills, found[FOUND_NOTHING],
           found[FOUND_LIVE_ALONE], found[FOUND_SEGMENT]);
    CU_ASSERT(found[FOUND_NOTHING] > 10 && found[FOUND_LIVE_ALONE] > 2 && found[FOUND_SEGMENT] > 2);
    CU_ASSERT_EQUAL(found[FOUND_RETIRED], 0);
}

static void a_destroyer_killed_at_any_system_call_leaves_no_two_generations_alive(void) {
    struct victim victim = {.destroy = true};
    unsigned found[4] = {0}, kills = 0;
    new_place(&victim.place);
    for (bool traced, more = true; more; kills++) {
        struct lr_cache *old = create_at(&victim.place), *now;
        more = kill_after(&victim, kills, &traced);
        if (!traced) {
            lr_cache_detach(old);
            CU_ASSERT_EQUAL(lr_cache_destroy(&victim.place.options, NULL), 0);
            fixture_skip(__func__, "ptrace is not permitted");
            return;
        }
        bool named = exists(victim.place.path), live_alone = !named && exists(victim.place.live);
        bool retired = lr_enter(old) == LARDER_ERETIRED;
        found[live_alone ? FOUND_LIVE_ALONE : !named ? FOUND_NOTHING : retired ? FOUND_RETIRED : FOUND_SEGMENT]++;
        CU_ASSERT_EQUAL_FATAL(lr_cache_open(&victim.place.options, &now, NULL), 0);
        bool same = now->geometry.incarnation[0] == old->geometry.incarnation[0];
        CU_ASSERT(same ? lr_enter(old) == 0 : lr_enter(old) == LARDER_ERETIRED);
        CU_ASSERT_EQUAL(lr_enter(now), 0);
        lr_cache_detach(now);
        lr_cache_detach(old);
        CU_ASSERT_EQUAL(lr_cache_destroy(&victim.place.options, NULL), 0);
        CU_ASSERT_EQUAL(count_files(&victim.place), 0);
    }
    printf(" %u kills: live %u, retired %u, liveness file alone %u, nothing %u;", kills, found[FOUND_SEGMENT],
           found[FOUND_RETIRED], found[FOUND_LIVE_ALONE], found[FOUND_NOTHING]);
    CU_ASSERT(found[FOUND_SEGMENT] > 5 && found[FOUND_RETIRED] > 1 && found[FOUND_LIVE_ALONE] > 1 &&
              found[FOUND_NOTHING] > 0);
}

static int hold_guard(void *context) {
    const struct place *place = context;
    int fd = open(place->live, O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = SM_LIVE_RECORD_OFF, .l_len = 1};
    CHILD_EXPECT(fd >= 0 && fcntl(fd, F_OFD_SETLK, &lock) == 0);
    fixture_sleep_ms(500);
    return 0;
}

/* A creator that is slow, or stopped for a while, is waited for and not robbed. */
static void a_creator_at_work_is_waited_for(void) {
    struct place place;
    struct lr_cache *cache;
    new_place(&place);
    lr_cache_detach(create_at(&place));
    unlink(place.path); /* as if the creator had not come to its end */
    pid_t holder = fixture_start(hold_guard, &place);
    fixture_sleep_ms(100);
    uint64_t started_ns = fixture_now_ns();
    CU_ASSERT_EQUAL(lr_cache_open(&place.options, &cache, NULL), 0);
    CU_ASSERT(fixture_now_ns() - started_ns > UINT64_C(200000000));
    CU_ASSERT_EQUAL(fixture_wait(holder), 0);
    lr_cache_detach(cache);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
}

/* ---- limits ----------------------------------------------------------------------------------------------------- */

/* Status 77: not permitted here. */
static int fill_tiny_tmpfs(void *context) {
    (void)context;
    struct lr_options options = lr_options_default();
    struct lr_cache *cache;
    struct stat file;
    char path[300], wanted[64], why[LR_WHY_BYTES];
    struct lr_geometry plan;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", fixture_folder(), "tmpfs", 0, "size=4m") != 0)
        return 77;
    snprintf(path, sizeof path, "%s/larder.tiny", fixture_folder());
    options.path = path;
    options.size = UINT64_C(16) << 20;
    CHILD_EXPECT(lr_geometry_plan(options.size, 0, LR_POLICY_clock, &plan, NULL) == 0);
    snprintf(wanted, sizeof wanted, "needs %" PRIu64 " bytes", plan.segment_bytes);
    CHILD_EXPECT(lr_cache_create(&options, &cache, why) == LARDER_ENO_SPACE);
    CHILD_EXPECT(says(why, wanted) && says(why, "only 41") && says(why, "enlarge"));
    CHILD_EXPECT(lr_cache_open(&options, &cache, why) == LARDER_ENO_SPACE && cache == NULL);
    CHILD_EXPECT(lstat(path, &file) != 0 && errno == ENOENT);
    snprintf(path, sizeof path, "%s/larder.tiny.live", fixture_folder());
    CHILD_EXPECT(lstat(path, &file) != 0 && errno == ENOENT);
    snprintf(path, sizeof path, "%s/larder.tiny", fixture_folder());
    options.size = UINT64_C(1) << 20; /* what fits, fits, and nothing was left behind */
    CHILD_EXPECT(lr_cache_create(&options, &cache, why) == 0);
    memset(cache->data, 1, cache->geometry.cache_bytes);
    lr_cache_detach(cache);
    CHILD_EXPECT(lr_cache_destroy(&options, why) == 0);
    return 0;
}

static void a_full_tmpfs_is_an_error_that_says_how_much_is_missing(void) {
    int status = fixture_child(fill_tiny_tmpfs, NULL);
    if (status == 77)
        fixture_skip(__func__, "mounting a tmpfs in a namespace of one's own is not permitted");
    else
        CU_ASSERT_EQUAL(status, 0);
}

static int create_under_file_limit(void *context) {
    struct place *place = context;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    sigset_t pending;
    struct rlimit limit = {UINT64_C(3) << 20, UINT64_C(3) << 20}; /* reached half-way */
    place->options.size = UINT64_C(8) << 20;
    CHILD_EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHILD_EXPECT(lr_cache_create(&place->options, &cache, why) == LARDER_ENO_SPACE);
    CHILD_EXPECT(says(why, "3145728 bytes") && says(why, "ulimit -f"));
    limit.rlim_cur = 100; /* not even the liveness file */
    CHILD_EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHILD_EXPECT(lr_cache_create(&place->options, &cache, why) == LARDER_ENO_SPACE);
    CHILD_EXPECT(sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ) == 0);
    return 0;
}

static void a_file_size_limit_is_an_error_and_no_signal(void) {
    struct place place;
    new_place(&place);
    CU_ASSERT_EQUAL(fixture_child(create_under_file_limit, &place), 0);
    CU_ASSERT_EQUAL(count_files(&place), 0);
}

static uint64_t address_space_in_use(void) {
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL || fscanf(file, "%llu", &pages) != 1)
        pages = 0;
    if (file != NULL)
        fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int attach_under_address_limit(void *context) {
    struct place *place = context;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    rlim_t bytes = address_space_in_use() + (UINT64_C(9) << 20);
    struct rlimit limit = {bytes, bytes};
    CHILD_EXPECT(setrlimit(RLIMIT_AS, &limit) == 0);
    CHILD_EXPECT(lr_cache_attach(&place->options, &cache, why) == LARDER_ENO_MEMORY && cache == NULL);
    CHILD_EXPECT(says(why, "address space") && says(why, "ulimit -v"));
    struct place other;
    new_place(&other);
    other.options.size = UINT64_C(32) << 20;
    CHILD_EXPECT(lr_cache_create(&other.options, &cache, why) == LARDER_ENO_MEMORY);
    CHILD_EXPECT(!exists(other.path) && !exists(other.live));
    return 0;
}

static void an_address_space_limit_is_an_error_with_both_numbers(void) {
    if (FIXTURE_SANITIZED) {
        fixture_skip(__func__, "sanitizers take all address space");
        return;
    }
    struct place place;
    new_place(&place);
    place.options.size = UINT64_C(32) << 20;
    lr_cache_detach(create_at(&place));
    CU_ASSERT_EQUAL(fixture_child(attach_under_address_limit, &place), 0);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
}

static int create_without_descriptors(void *context) {
    struct place *place = context;
    struct lr_cache *cache;
    /* One more each time, until it works: every open on the way fails once. */
    for (rlim_t files = 3; files < 64; files++) {
        struct rlimit limit = {files, 64};
        CHILD_EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        int error = lr_cache_create(&place->options, &cache, NULL);
        CHILD_EXPECT(error == 0 || error == LARDER_ESYSTEM || error == LARDER_ENO_CLOCK);
        CHILD_EXPECT(error == 0 || (!exists(place->path) && !exists(place->live)));
        if (error == 0) {
            lr_cache_detach(cache);
            return 0;
        }
    }
    return 1;
}

static int attach_without_descriptors(void *context) {
    struct place *place = context;
    struct lr_cache *cache;
    for (rlim_t files = 3; files < 64; files++) {
        struct rlimit limit = {files, 64};
        CHILD_EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        int error = lr_cache_attach(&place->options, &cache, NULL);
        CHILD_EXPECT(error == 0 || error == LARDER_ESYSTEM || error == LARDER_ENO_CLOCK);
        if (error == 0) {
            struct lr_process process;
            CHILD_EXPECT(lr_process(cache, cache->slot, &process) == 0 && process.alive);
            lr_cache_detach(cache);
            return 0;
        }
    }
    return 1;
}

static void running_out_of_descriptors_leaves_nothing_behind(void) {
    struct place place;
    struct lr_cache *cache;
    new_place(&place);
    CU_ASSERT_EQUAL(fixture_child(create_without_descriptors, &place), 0);
    CU_ASSERT_EQUAL(fixture_child(attach_without_descriptors, &place), 0);
    CU_ASSERT_EQUAL_FATAL(lr_cache_attach(&place.options, &cache, NULL), 0);
    CU_ASSERT_EQUAL(cache->slot, 0); /* none of the failed ones holds a slot */
    lr_cache_detach(cache);
    CU_ASSERT_EQUAL(lr_cache_destroy(&place.options, NULL), 0);
}

/* ---- the clock -------------------------------------------------------------------------------------------------- */

static void a_driven_clock_stands_where_it_is_put(void) {
    struct fixture fixture = {0};
    fixture_create(&fixture, SMALL);
    uint64_t host_ms = lr_now_ms(fixture.one);
    CU_ASSERT(host_ms > 0);
    lr_drive_clock(fixture.one, 123456);
    CU_ASSERT_EQUAL(lr_now_ms(fixture.one), 123456);
    CU_ASSERT(lr_now_ms(fixture.two) >= host_ms); /* this handle's only */
    lr_drive_clock(fixture.one, 0);
    CU_ASSERT(lr_now_ms(fixture.one) >= host_ms && lr_now_ms(fixture.one) < host_ms + 60000);
    struct timespec boot;
    clock_gettime(CLOCK_BOOTTIME, &boot);
    uint64_t expected_ms = (uint64_t)boot.tv_sec * 1000 + (uint64_t)boot.tv_nsec / 1000000;
    uint64_t seen_ms = lr_now_ms(fixture.two) + fixture.two->clock_offset_ns / 1000000;
    CU_ASSERT(seen_ms >= expected_ms && seen_ms < expected_ms + 5000);
    CU_ASSERT(lr_wall_2020_ms() + SM_VERSION_EPOCH_MS <= lr_unix_ms());
    CU_ASSERT(lr_wall_2020_ms() + SM_VERSION_EPOCH_MS + 1000 > lr_unix_ms());
    fixture_destroy(&fixture);
}

struct other_time {
    struct fixture *fixture;
    uint64_t host_ms;
    const char *offset;
    uint64_t shift_ms;
};

static bool about(uint64_t a, uint64_t b) {
    return a + 20000 > b && b + 20000 > a;
}

static int inside_other_time(void *context) {
    struct other_time *other = context;
    struct timespec boot;
    clock_gettime(CLOCK_BOOTTIME, &boot);
    CHILD_EXPECT(about((uint64_t)boot.tv_sec * 1000 - other->shift_ms, other->host_ms)); /* the shift is real */
    struct lr_cache *cache;
    CHILD_EXPECT(lr_cache_attach(&other->fixture->options, &cache, NULL) == 0);
    CHILD_EXPECT(about(lr_now_ms(cache), other->host_ms));
    CHILD_EXPECT(lr_enter(other->fixture->one) == 0); /* forked across the border: reads the offset again */
    CHILD_EXPECT(about(lr_now_ms(other->fixture->one), other->host_ms));
    lr_cache_detach(cache);
    return 0;
}

/* Status 77: not permitted here. */
static int shift_time(void *context) {
    struct other_time *other = context;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    if (unshare(0x80 /* CLONE_NEWTIME */) != 0)
        return 77;
    int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
    ssize_t written = fd < 0 ? -1 : write(fd, other->offset, strlen(other->offset));
    close(fd);
    if (written < 0)
        return 77;
    /* We are not in it ourselves, and the file speaks of our children: refuse rather than guess. */
    CHILD_EXPECT(lr_cache_attach(&other->fixture->options, &cache, why) == LARDER_ENO_CLOCK);
    CHILD_EXPECT(says(why, "time namespace"));
    pid_t child = fork();
    if (child == 0)
        _exit(inside_other_time(context));
    int status = 0;
    CHILD_EXPECT(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void all_time_namespaces_read_one_clock(void) {
    struct fixture fixture = {0};
    fixture_create(&fixture, SMALL);
    struct other_time ahead = {&fixture, lr_now_ms(fixture.one), "boottime 200000 0\n", UINT64_C(200000000)};
    struct other_time behind = {&fixture, lr_now_ms(fixture.one), "boottime -60 0\n", (uint64_t)-INT64_C(60000)};
    int status = fixture_child(shift_time, &ahead);
    if (status == 0 && ahead.host_ms > 120000)
        status = fixture_child(shift_time, &behind);
    if (status == 77)
        fixture_skip(__func__, "making a time namespace is not permitted");
    else
        CU_ASSERT_EQUAL(status, 0);
    fixture_destroy(&fixture);
}

void larder_suite_20_segment(void);
void larder_suite_20_segment(void) {
    CU_pSuite suite = CU_add_suite("20_segment", NULL, NULL);
    CU_ADD_TEST(suite, bad_names_paths_and_options_are_refused);
    CU_ADD_TEST(suite, a_relative_path_survives_chdir);
    CU_ADD_TEST(suite, a_new_segment_is_whole_healthy_and_aligned);
    CU_ADD_TEST(suite, all_memory_is_allocated_before_the_name_appears);
    CU_ADD_TEST(suite, mode_and_group_are_as_asked_whatever_the_umask);
    CU_ADD_TEST(suite, what_is_no_regular_file_is_refused_without_waiting);
    CU_ADD_TEST(suite, a_foreign_file_is_refused_and_never_removed);
    CU_ADD_TEST(suite, a_truncated_or_damaged_segment_is_refused_but_can_be_destroyed);
    CU_ADD_TEST(suite, hard_links_and_writers_among_others_are_refused);
    CU_ADD_TEST(suite, owner_and_mode_decide_who_attaches);
    CU_ADD_TEST(suite, a_name_taken_by_another_user_is_refused);
    CU_ADD_TEST(suite, a_segment_without_its_own_liveness_file_is_refused);
    CU_ADD_TEST(suite, an_image_is_read_without_liveness_and_a_broken_one_refused);
    CU_ADD_TEST(suite, destroy_retires_whoever_is_attached_and_the_name_is_free);
    CU_ADD_TEST(suite, a_child_forked_before_and_calling_after_destroy_is_told);
    CU_ADD_TEST(suite, of_many_creators_at_once_one_creates_and_all_attach);
    CU_ADD_TEST(suite, of_many_strict_creators_exactly_one_succeeds);
    CU_ADD_TEST(suite, opening_and_destroying_at_once_never_mixes_generations);
    CU_ADD_TEST(suite, killed_racing_creators_leave_nothing_half_made);
    CU_ADD_TEST(suite, a_creator_killed_at_any_system_call_leaves_nothing_half_made);
    CU_ADD_TEST(suite, a_destroyer_killed_at_any_system_call_leaves_no_two_generations_alive);
    CU_ADD_TEST(suite, a_creator_at_work_is_waited_for);
    CU_ADD_TEST(suite, a_full_tmpfs_is_an_error_that_says_how_much_is_missing);
    CU_ADD_TEST(suite, a_file_size_limit_is_an_error_and_no_signal);
    CU_ADD_TEST(suite, an_address_space_limit_is_an_error_with_both_numbers);
    CU_ADD_TEST(suite, running_out_of_descriptors_leaves_nothing_behind);
    CU_ADD_TEST(suite, a_driven_clock_stands_where_it_is_put);
    CU_ADD_TEST(suite, all_time_namespaces_read_one_clock);
}
