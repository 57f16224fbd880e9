/* SPDX-License-Identifier: MIT */
/* Is a segment what was asked for, is everything else refused with a reason, and does it go cleanly? */
#include "place.h"
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>

#define STRANGER 65534u

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

static void remove_place(const struct place *place) {
    (void)unlink(place->path);
    (void)unlink(place->live);
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
    options.path = "/dev/shm/.";
    CU_ASSERT_EQUAL(lr_cache_open(&options, &cache, why), LARDER_EINVALID);
    CU_ASSERT(says(why, "does not end in a file name"));
    options.path = "/dev/shm/..";
    CU_ASSERT_EQUAL(lr_cache_open(&options, &cache, NULL), LARDER_EINVALID);
    char longest[LR_PATH_BYTES + 8];
    memset(longest, 'p', sizeof longest);
    longest[0] = '/';
    longest[sizeof longest - 1] = 0; /* no path is as long */
    options.path = longest;
    CU_ASSERT_EQUAL(lr_cache_open(&options, &cache, why), LARDER_EINVALID);
    CU_ASSERT(says(why, "too long"));
    longest[NAME_MAX] = 0; /* nor is a name, with .live behind it */
    CU_ASSERT_EQUAL(lr_cache_open(&options, &cache, why), LARDER_EINVALID);
    CU_ASSERT(says(why, "too long"));
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

static int open_in_a_removed_folder(void *context) {
    struct place *place = context;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    CHILD_EXPECT(mkdir(place->path, 0700) == 0 && chdir(place->path) == 0 && rmdir(place->path) == 0);
    place->options.name = NULL;
    place->options.path = "segment";
    CHILD_EXPECT(lr_cache_open(&place->options, &cache, why) == LARDER_ESYSTEM);
    CHILD_EXPECT(says(why, "the current folder has no path"));
    return 0;
}

static void a_relative_path_needs_a_folder_that_is_there(void) {
    struct place place;
    new_place(&place);
    CU_ASSERT_EQUAL(fixture_child(open_in_a_removed_folder, &place), 0);
}

/* No way to make a file without a name there: root as well as others. */
static void a_file_system_without_nameless_files_is_refused(void) {
    struct lr_options options = lr_options_default();
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    struct statfs fs;
    if (statfs("/sys", &fs) != 0 || (unsigned long)fs.f_type != SYSFS_MAGIC) {
        fixture_skip(__func__, "there is no sysfs at /sys");
        return;
    }
    options.path = "/sys/larder";
    int error = lr_cache_create(&options, &cache, why);
    CU_ASSERT(error == LARDER_EINVALID || error == LARDER_EPERMISSION);
    CU_ASSERT(says(why, error == LARDER_EINVALID ? "O_TMPFILE" : "may not make files in /sys"));
}

static void a_file_system_on_a_disk_is_refused(void) {
    struct lr_options options = lr_options_default();
    struct lr_cache *cache;
    char path[300], why[LR_WHY_BYTES];
    struct statfs fs;
    if (statfs(fixture_folder(), &fs) != 0 || (unsigned long)fs.f_type != EXT4_SUPER_MAGIC) {
        fixture_skip(__func__, "the folder for temporary files is not on ext4");
        return;
    }
    snprintf(path, sizeof path, "%s/on-a-disk", fixture_folder());
    options.path = path;
    options.size = UINT64_C(64) << 10;
    CU_ASSERT_EQUAL(lr_cache_create(&options, &cache, why), LARDER_EINVALID);
    CU_ASSERT(says(why, "a segment must lie on a tmpfs"));
    CU_ASSERT(access(path, F_OK) != 0);
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
    options.size = UINT64_C(16) << 20;
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

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, place.path, strlen(place.path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    expect_attach_refused(&place.options, LARDER_EFOREIGN, "socket or device", "not a segment");
    close(fd);
    unlink(place.path);

    struct lr_options null = lr_options_default();
    null.path = "/dev/null";
    expect_attach_refused(&null, LARDER_EFOREIGN, "is a device", "regular file");

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

static int create_as_stranger(void *context) {
    struct place *place = context;
    struct lr_options elsewhere = place->options;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    CHILD_EXPECT(as_stranger());
    place->options.group = 0;
    CHILD_EXPECT(lr_cache_create(&place->options, &cache, why) == LARDER_EPERMISSION);
    CHILD_EXPECT(says(why, "cannot be given to group 0 by user 65534") && !exists(place->path));
    elsewhere.name = NULL;
    elsewhere.path = "/usr/larder.segment";
    CHILD_EXPECT(lr_cache_create(&elsewhere, &cache, why) == LARDER_EPERMISSION);
    CHILD_EXPECT(says(why, "user 65534 may not make files in /usr"));
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
    CU_ASSERT_EQUAL(fixture_child(create_as_stranger, &place), 0);
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
    CU_ADD_TEST(suite, a_relative_path_needs_a_folder_that_is_there);
    CU_ADD_TEST(suite, a_file_system_without_nameless_files_is_refused);
    CU_ADD_TEST(suite, a_file_system_on_a_disk_is_refused);
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
    CU_ADD_TEST(suite, a_driven_clock_stands_where_it_is_put);
    CU_ADD_TEST(suite, all_time_namespaces_read_one_clock);
}
