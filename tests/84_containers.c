/* SPDX-License-Identifier: MIT */
/*
 * Containers: do processes that see other pids, other clocks, other users and other paths share one segment rightly?
 *
 * The storm (contain/, larder-contain) has all of them at once and judges every value; here it runs for three seconds,
 * and what it does not ask stands below, one question at a time.
 */
#include "fixture.h"
#include "namespaces.h"
#include "place.h"
#include "stripe.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#define NOBODY 65534u
#define GROUP 4242u
#define NOT_HERE 77

static int put_ttl(struct lr_cache *cache, const char *key, const char *value, uint64_t ttl_ms) {
    struct lr_put put = {
        .key = key, .key_len = strlen(key), .value = value, .value_len = strlen(value), .ttl_ms = ttl_ms};
    return lr_put(cache, &put);
}

static bool holds(struct lr_cache *cache, const char *key, const char *value) {
    char buf[64];
    struct lr_item item;
    return lr_get(cache, key, strlen(key), buf, sizeof buf, &item, 0) == 0 && item.value_len == strlen(value) &&
           memcmp(buf, value, item.value_len) == 0;
}

/* Shared by the processes of a scene. */
struct board {
    _Atomic uint64_t words[16];
    _Atomic uint32_t stage;
};

struct scene {
    struct lr_options options;
    struct board *board;
    char path[200], other_path[220];
    unsigned number;
};

static struct board *new_board(void) {
    struct board *board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CU_ASSERT_FATAL(board != MAP_FAILED);
    return board;
}

static bool reaches(struct board *board, uint32_t stage) {
    for (unsigned ms = 0; ms < 15000; ms++) {
        if (atomic_load(&board->stage) >= stage)
            return true;
        fixture_sleep_ms(1);
    }
    return false;
}

static void judge(const char *test, int status, const char *why_not) {
    if (status == NOT_HERE)
        fixture_skip(test, why_not);
    else
        CU_ASSERT_EQUAL(status, 0);
}

/* ---- the storm -------------------------------------------------------------------------------------------------- */

static void storm(const char *test, const char *options) {
    static char out[16384];
    char command[300];
    snprintf(command, sizeof command, "%s --seconds %u %s", fixture_program("larder-contain"),
             FIXTURE_SANITIZED ? 1u : 3u, options);
    int status = fixture_run(command, out, sizeof out);
    if (status != 0 && status != NOT_HERE)
        printf("\n%s", out);
    const char *skipped = strstr(out, "SKIPPED");
    if (skipped != NULL && status == 0)
        fixture_skip(test, "larder-contain-musl was not built (Debian: musl-tools; sanitized builds have none): the "
                           "storm ran without musl");
    judge(test, status, "PID, time or user namespaces are not permitted");
}

static void four_containers_and_two_libcs_share_a_segment(void) {
    storm(__func__, "");
}

static void four_containers_and_two_libcs_share_a_memfd(void) {
    storm(__func__, "--kept");
}

/* ---- PID namespaces --------------------------------------------------------------------------------------------- */

/* Pid 1 of its namespace. The first holds a stripe, the second waits for it, a third one, pid 1 too, is killed. */
static int live_as_pid_one(struct scene *scene) {
    struct lr_cache *cache = NULL;
    struct lr_view view;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(60);
    CHILD_EXPECT(getpid() == 1 && syscall(SYS_gettid) == 1);
    CHILD_EXPECT(lr_cache_attach(&scene->options, &cache, NULL) == 0);
    atomic_store(&scene->board->words[scene->number], lr_own_word(cache));
    switch (scene->number) {
    case 0:
        CHILD_EXPECT(lr_stripe_lock(&view, cache, 0) == 0);
        atomic_fetch_add(&scene->board->stage, 1);
        CHILD_EXPECT(reaches(scene->board, 3)); /* the third is dead */
        fixture_sleep_ms(300);
        CHILD_EXPECT(atomic_load(&scene->board->words[8]) == 0); /* nobody came in */
        CHILD_EXPECT((lr_load(&view.stripe->lock) & SM_LOCK_OWNER_MASK) == lr_own_word(cache));
        atomic_store(&scene->board->words[9], 1);
        lr_stripe_unlock(&view);
        break;
    case 1:
        CHILD_EXPECT(reaches(scene->board, 2));
        CHILD_EXPECT(lr_stripe_lock_for(&view, cache, 0, 10000) == 0);
        atomic_store(&scene->board->words[8], 1);
        CHILD_EXPECT(atomic_load(&scene->board->words[9]) == 1);
        lr_stripe_unlock(&view);
        break;
    default: /* waits for the same lock, and is killed meanwhile */
        atomic_fetch_add(&scene->board->stage, 1);
        (void)lr_stripe_lock_for(&view, cache, 0, 10000);
        return 1;
    }
    lr_cache_detach(cache);
    return 0;
}

static void a_waiter_that_dies_with_the_holders_pid_hands_the_lock_to_nobody(void) {
    struct fixture fixture = {0};
    fixture_create(&fixture, SMALL);
    struct scene scene = {.options = fixture.options, .board = new_board()};
    pid_t ones[3] = {-1, -1, -1};
    for (unsigned i = 0; i < 3; i++) {
        scene.number = i;
        ones[i] = namespaces_fork();
        if (ones[i] == 0)
            _exit(live_as_pid_one(&scene));
        if (ones[i] < 0)
            break;
        if (i == 0)
            CU_ASSERT_FATAL(reaches(scene.board, 1));
    }
    if (ones[0] < 0) {
        fixture_skip(__func__, "making a PID namespace is not permitted");
    } else {
        struct lr_process process;
        CU_ASSERT(reaches(scene.board, 2));
        fixture_sleep_ms(50);
        for (uint32_t slot = 2; slot < 5; slot++) /* three of them, pid 1 each, in three namespaces */
            CU_ASSERT(lr_process(fixture.one, slot, &process) == 0 && process.pid == 1 && process.alive);
        kill(ones[2], SIGKILL);
        CU_ASSERT_EQUAL(fixture_wait(ones[2]), -SIGKILL);
        CU_ASSERT(!lr_owner_alive(fixture.one, scene.board->words[2]));
        CU_ASSERT(lr_owner_alive(fixture.one, scene.board->words[0]) &&
                  lr_owner_alive(fixture.one, scene.board->words[1]));
        atomic_store(&scene.board->stage, 3);
        CU_ASSERT_EQUAL(fixture_wait(ones[0]), 0);
        CU_ASSERT_EQUAL(fixture_wait(ones[1]), 0);
        (void)lr_reap(fixture.one);
    }
    munmap(scene.board, sizeof *scene.board);
    fixture_destroy(&fixture);
}

/* ---- time namespaces -------------------------------------------------------------------------------------------- */

#define TTL_MS 400u

/* Until the key is gone: when, on Larder's clock. Never early, and within a few polls. */
static uint64_t see_it_go(struct lr_cache *cache, const char *key, uint64_t deadline_ms) {
    char buf[64];
    for (;;) {
        uint64_t before_ms = lr_now_ms(cache);
        int error = lr_get(cache, key, strlen(key), buf, sizeof buf, NULL, 0);
        uint64_t after_ms = lr_now_ms(cache);
        if (deadline_ms > before_ms + 10 * TTL_MS) /* another clock's: it would not go while we look */
            return 0;
        if (error == 0)
            CHILD_EXPECT(before_ms <= deadline_ms); /* not a millisecond late */
        else
            CHILD_EXPECT(error == LARDER_ENOT_FOUND && after_ms >= deadline_ms); /* nor early */
        if (error != 0)
            return after_ms;
        usleep(200);
    }
}

static int use_other_time(struct scene *scene) {
    struct lr_cache *cache = NULL;
    char buf[64];
    struct lr_item item;
    CHILD_EXPECT(lr_cache_attach(&scene->options, &cache, NULL) == 0);
    CHILD_EXPECT(lr_get(cache, "out", 3, buf, sizeof buf, &item, 0) == 0);
    CHILD_EXPECT(item.deadline_ms == atomic_load(&scene->board->words[0])); /* the same figure in here */
    CHILD_EXPECT(put_ttl(cache, "in", "inside", TTL_MS + 200) == 0);
    CHILD_EXPECT(lr_get(cache, "in", 2, buf, sizeof buf, &item, 0) == 0);
    atomic_store(&scene->board->words[1], item.deadline_ms);
    CHILD_EXPECT(put_ttl(cache, "long", "inside", 3600000) == 0);
    atomic_store(&scene->board->stage, 1);
    CHILD_EXPECT(see_it_go(cache, "out", atomic_load(&scene->board->words[0])) != 0);
    lr_cache_detach(cache);
    return 0;
}

static int enter_other_time(void *context) {
    struct scene *scene = context;
    static const char *const offsets[] = {"boottime 200000 0\nmonotonic 100000 0\n", "boottime -10 0\n",
                                          "boottime 3600 500000000\n"};
    if (unshare(CLONE_NEWTIME) != 0 || !namespaces_write("/proc/self/timens_offsets", offsets[scene->number]))
        return NOT_HERE;
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        _exit(use_other_time(scene));
    }
    int status = 1;
    CHILD_EXPECT(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void a_deadline_is_the_same_instant_in_all_time_namespaces(void) {
    for (unsigned number = 0; number < 3; number++) {
        struct fixture fixture = {0};
        struct lr_item item;
        char buf[64];
        int status = 0;
        bool ended = false;
        fixture_create(&fixture, SMALL);
        struct scene scene = {.options = fixture.options, .board = new_board(), .number = number};
        CU_ASSERT_EQUAL(put_ttl(fixture.one, "out", "outside", TTL_MS), 0);
        CU_ASSERT_EQUAL(lr_get(fixture.one, "out", 3, buf, sizeof buf, &item, 0), 0);
        atomic_store(&scene.board->words[0], item.deadline_ms);
        pid_t child = fixture_start(enter_other_time, &scene);
        for (unsigned ms = 0; ms < 10000 && !ended && atomic_load(&scene.board->stage) == 0; ms++) {
            ended = waitpid(child, &status, WNOHANG) == child;
            fixture_sleep_ms(1);
        }
        if (!ended) {
            uint64_t deadline_ms = atomic_load(&scene.board->words[1]);
            uint64_t now_ms = lr_now_ms(fixture.two);
            CU_ASSERT(deadline_ms > now_ms && deadline_ms <= now_ms + TTL_MS + 200);
            CU_ASSERT_NOT_EQUAL(see_it_go(fixture.two, "in", deadline_ms), 0);
            CU_ASSERT(holds(fixture.two, "long", "inside"));
            status = fixture_wait(child);
        } else {
            status = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        }
        munmap(scene.board, sizeof *scene.board);
        fixture_destroy(&fixture);
        judge(__func__, status, "making a time namespace is not permitted");
        if (status == NOT_HERE)
            return;
    }
}

/* ---- users ------------------------------------------------------------------------------------------------------ */

static bool become(gid_t group) {
    return setgroups(group != 0, &group) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0;
}

static int lock_as_root_and_die(void *context) {
    struct scene *scene = context;
    struct lr_cache *cache;
    struct lr_view view;
    struct lr_pin pin;
    CHILD_EXPECT(lr_cache_attach(&scene->options, &cache, NULL) == 0);
    CHILD_EXPECT(lr_pin(cache, "a", 1, &pin) == 0 && lr_stripe_lock(&view, cache, 0) == 0);
    raise(SIGKILL);
    return 0;
}

static int work_in_the_group(void *context) {
    struct scene *scene = context;
    struct lr_cache *cache = NULL;
    char why[LR_WHY_BYTES] = "";
    if (!become(GROUP))
        return NOT_HERE;
    CHILD_EXPECT(lr_cache_attach(&scene->options, &cache, why) == 0);
    CHILD_EXPECT(holds(cache, "a", "root") && put_ttl(cache, "a", "group", 0) == 0); /* takes root's lock over */
    (void)lr_reap(cache);
    CHILD_EXPECT(lr_cache_destroy(&scene->options, why) == LARDER_EPERMISSION); /* use, not remove */
    CHILD_EXPECT(put_ttl(cache, "b", "group", 0) == 0);
    kill(getpid(), SIGKILL);
    return 0;
}

static int read_as_a_stranger(void *context) {
    struct scene *scene = context;
    struct lr_cache *cache = NULL;
    char why[LR_WHY_BYTES], live[4200];
    struct lr_pin pin;
    struct lr_process process;
    if (!become(0))
        return NOT_HERE;
    CHILD_EXPECT(lr_cache_attach(&scene->options, &cache, why) == LARDER_EPERMISSION);
    CHILD_EXPECT(says(why, "check its owner, group and mode"));
    scene->options.read_only = true;
    CHILD_EXPECT(lr_cache_attach(&scene->options, &cache, why) == 0);
    CHILD_EXPECT(holds(cache, "a", "group") && lr_pin(cache, "a", 1, &pin) == LARDER_EREAD_ONLY);
    CHILD_EXPECT(put_ttl(cache, "a", "x", 0) == LARDER_EREAD_ONLY && lr_delete(cache, "a", 1) == LARDER_EREAD_ONLY);
    CHILD_EXPECT(mprotect(cache->base, cache->map_bytes, PROT_READ | PROT_WRITE) != 0); /* the mapping stays as it is */
    snprintf(live, sizeof live, "%s.live", cache->path);
    CHILD_EXPECT(open(live, O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES); /* no lock there by which to confuse */
    CHILD_EXPECT(cache->probe_fd < 0 && lr_process(cache, 0, &process) == 0 && process.alive); /* in doubt alive */
    CHILD_EXPECT(lr_cache_destroy(&scene->options, why) == LARDER_EPERMISSION);
    lr_cache_detach(cache);
    return 0;
}

static void another_user_of_the_group_works_and_a_stranger_only_reads(void) {
    if (geteuid() != 0) {
        fixture_skip(__func__, "only root can become another user");
        return;
    }
    struct fixture fixture = {0};
    struct lr_options options = lr_options_default();
    options.size = SMALL;
    options.mode = 0664;
    options.group = GROUP;
    options.wait_ms = 5000;
    fixture_create_with(&fixture, &options);
    struct scene scene = {.options = fixture.options};
    CU_ASSERT_EQUAL(put_ttl(fixture.one, "a", "root", 0), 0);
    CU_ASSERT_EQUAL(fixture_child(lock_as_root_and_die, &scene), -SIGKILL);
    int status = fixture_child(work_in_the_group, &scene);
    if (status == NOT_HERE) {
        fixture_skip(__func__, "changing the user is not permitted");
    } else {
        CU_ASSERT_EQUAL(status, -SIGKILL);
        CU_ASSERT(holds(fixture.one, "a", "group") && holds(fixture.two, "b", "group"));
        CU_ASSERT_EQUAL(fixture_child(read_as_a_stranger, &scene), 0);
        CU_ASSERT_EQUAL(lr_reap(fixture.one), 1); /* the one of the group, reaped by root */
    }
    fixture_destroy(&fixture);
}

/* ---- mount namespaces ------------------------------------------------------------------------------------------- */

/* In namespaces of its own the tmpfs is mounted elsewhere, and /dev/shm is another one. */
static int use_by_another_path(void *context) {
    struct scene *scene = context;
    struct lr_options options = scene->options;
    struct lr_cache *cache = NULL;
    char why[LR_WHY_BYTES] = "", folder[200];
    snprintf(folder, sizeof folder, "%s", scene->path);
    *strrchr(folder, '/') = 0;
    *strrchr(scene->other_path, '/') = 0;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(folder, scene->other_path, NULL, MS_BIND, NULL) != 0 ||
        mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1m") != 0)
        return NOT_HERE;
    strcat(scene->other_path, strrchr(scene->path, '/'));
    options.path = scene->other_path;
    CHILD_EXPECT(lr_cache_attach(&options, &cache, why) == 0);
    CHILD_EXPECT(holds(cache, "a", "out") && put_ttl(cache, "b", "in", 0) == 0);
    CHILD_EXPECT(lr_owner_alive(cache, atomic_load(&scene->board->words[0])));
    atomic_store(&scene->board->words[1], lr_own_word(cache));
    pid_t child = fork(); /* finds the liveness file by the path that it has in here */
    if (child == 0)
        _exit(put_ttl(cache, "c", "child", 0) == 0 ? 0 : 1);
    int status = 1;
    CHILD_EXPECT(waitpid(child, &status, 0) == child && status == 0);
    atomic_store(&scene->board->stage, 1);
    CHILD_EXPECT(reaches(scene->board, 2));
    CHILD_EXPECT(put_ttl(cache, "b", "x", 0) == LARDER_ERETIRED && !exists(scene->other_path)); /* destroyed outside */
    lr_cache_detach(cache);
    return 0;
}

static void a_shared_tmpfs_at_two_paths_is_one_segment(void) {
    struct scene scene = {.options = lr_options_default(), .board = new_board()};
    struct lr_cache *cache = NULL;
    char folder[100], elsewhere[120];
    int status = 0;
    bool ended = false;
    snprintf(folder, sizeof folder, "/dev/shm/larder.tests.%ld", (long)getpid());
    CU_ASSERT_EQUAL_FATAL(mkdir(folder, 0700), 0);
    snprintf(elsewhere, sizeof elsewhere, "%.90s/mnt", fixture_folder());
    (void)mkdir(elsewhere, 0700);
    snprintf(scene.path, sizeof scene.path, "%s/shared", folder);
    snprintf(scene.other_path, sizeof scene.other_path, "%s/shared", elsewhere);
    scene.options.path = scene.path;
    scene.options.size = SMALL;
    CU_ASSERT_EQUAL_FATAL(lr_cache_create(&scene.options, &cache, NULL), 0);
    CU_ASSERT_EQUAL(put_ttl(cache, "a", "out", 0), 0);
    atomic_store(&scene.board->words[0], lr_own_word(cache));
    pid_t child = fixture_start(use_by_another_path, &scene);
    for (unsigned ms = 0; ms < 15000 && !ended && atomic_load(&scene.board->stage) == 0; ms++) {
        ended = waitpid(child, &status, WNOHANG) == child;
        fixture_sleep_ms(1);
    }
    if (!ended) {
        CU_ASSERT(holds(cache, "b", "in") && holds(cache, "c", "child"));
        CU_ASSERT(lr_owner_alive(cache, scene.board->words[1]));
        fixture_check(cache);
    }
    CU_ASSERT_EQUAL(lr_cache_destroy(&scene.options, NULL), 0);
    atomic_store(&scene.board->stage, 2);
    status = !ended ? fixture_wait(child) : WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    lr_cache_detach(cache);
    CU_ASSERT_EQUAL(rmdir(folder), 0);
    munmap(scene.board, sizeof *scene.board);
    judge(__func__, status, "mounting in a namespace of one's own is not permitted");
}

/* ---- user namespaces -------------------------------------------------------------------------------------------- */

/* In here one is root, and so is nobody else: root of the host is a stranger with the overflow id. */
static int be_root_of_a_user_namespace(struct scene *scene) {
    struct lr_options options = scene->options;
    struct lr_cache *cache = NULL;
    char why[LR_WHY_BYTES] = "";
    CHILD_EXPECT(geteuid() == 0 && getpid() == 1);
    CHILD_EXPECT(lr_cache_attach(&options, &cache, why) == 0); /* what the same user created outside */
    CHILD_EXPECT(holds(cache, "a", "out") && put_ttl(cache, "b", "in", 0) == 0);
    CHILD_EXPECT(lr_owner_alive(cache, atomic_load(&scene->board->words[0])));
    pid_t child = fork();
    if (child == 0)
        _exit(put_ttl(cache, "c", "child", 0) == 0 ? 0 : 1);
    int status = 1;
    CHILD_EXPECT(waitpid(child, &status, 0) == child && status == 0);
    lr_cache_detach(cache);
    options.path = scene->other_path; /* the real root's, which others may read */
    CHILD_EXPECT(lr_cache_attach(&options, &cache, why) == LARDER_EPERMISSION);
    options.read_only = true;
    CHILD_EXPECT(lr_cache_attach(&options, &cache, why) == 0 && holds(cache, "r", "root"));
    lr_cache_detach(cache);
    return 0;
}

static int enter_user_namespace(void *context) {
    struct scene *scene = context;
    struct lr_cache *cache = NULL;
    char why[LR_WHY_BYTES] = "", path[220];
    if (geteuid() == 0 && !become(0))
        return NOT_HERE;
    prctl(PR_SET_DUMPABLE, 1); /* or /proc/self belongs to root, after the change of user */
    snprintf(path, sizeof path, "%s.user", scene->path);
    scene->options.path = path;
    CHILD_EXPECT(lr_cache_create(&scene->options, &cache, why) == 0);
    CHILD_EXPECT(put_ttl(cache, "a", "out", 0) == 0);
    atomic_store(&scene->board->words[0], lr_own_word(cache));
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        if (!namespaces_become_root())
            _exit(NOT_HERE);
        pid_t one = namespaces_fork();
        if (one == 0)
            _exit(be_root_of_a_user_namespace(scene));
        int status = NOT_HERE << 8;
        if (one > 0)
            waitpid(one, &status, 0);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    int status = 1;
    CHILD_EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status));
    if (WEXITSTATUS(status) == 0)
        CHILD_EXPECT(holds(cache, "b", "in") && holds(cache, "c", "child"));
    struct lr_check check;
    CHILD_EXPECT(lr_check(cache, &check) == 0);
    lr_cache_detach(cache);
    CHILD_EXPECT(lr_cache_destroy(&scene->options, why) == 0);
    return WEXITSTATUS(status);
}

static void an_unprivileged_user_namespace_shares_what_its_user_has(void) {
    struct scene scene = {.options = lr_options_default(), .board = new_board()};
    struct lr_cache *roots = NULL;
    struct lr_options options = lr_options_default();
    snprintf(scene.path, sizeof scene.path, "/dev/shm/larder.t.%ld.userns", (long)getpid());
    snprintf(scene.other_path, sizeof scene.other_path, "%s.root", scene.path);
    scene.options.size = options.size = SMALL;
    options.path = scene.other_path;
    options.mode = 0644;
    if (geteuid() != 0) {
        fixture_skip(__func__, "without root there is no other user's segment to be refused");
        return;
    }
    CU_ASSERT_EQUAL_FATAL(lr_cache_create(&options, &roots, NULL), 0);
    CU_ASSERT_EQUAL(put_ttl(roots, "r", "root", 0), 0);
    judge(__func__, fixture_child(enter_user_namespace, &scene),
          "user namespaces are not permitted to this user, or a sanitizer has a thread");
    lr_cache_detach(roots);
    CU_ASSERT_EQUAL(lr_cache_destroy(&options, NULL), 0);
    munmap(scene.board, sizeof *scene.board);
}

void larder_suite_84_containers(void);
void larder_suite_84_containers(void) {
    CU_pSuite suite = CU_add_suite("84_containers", NULL, NULL);
    CU_ADD_TEST(suite, a_waiter_that_dies_with_the_holders_pid_hands_the_lock_to_nobody);
    CU_ADD_TEST(suite, a_deadline_is_the_same_instant_in_all_time_namespaces);
    CU_ADD_TEST(suite, another_user_of_the_group_works_and_a_stranger_only_reads);
    CU_ADD_TEST(suite, a_shared_tmpfs_at_two_paths_is_one_segment);
    CU_ADD_TEST(suite, an_unprivileged_user_namespace_shares_what_its_user_has);
    CU_ADD_TEST(suite, four_containers_and_two_libcs_share_a_segment);
    CU_ADD_TEST(suite, four_containers_and_two_libcs_share_a_memfd);
}
