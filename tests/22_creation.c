/* SPDX-License-Identifier: MIT */
/*
 * Does a segment appear whole or not at all, whoever races, dies or runs out of something?
 *
 * The strongest tests here run one create or destroy under ptrace and kill it before its first system call, before its
 * second, and so on to the end: every state that the outside can ever see. After each kill the name must be attachable
 * or free, and nobody who is attached may be left alive beside a new generation.
 */
#include "place.h"
#include "segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

/* ---- races ------------------------------------------------------------------------------------------------------ */

#define RACERS 24u

struct race {
    struct place place;
    int start;  /* closed by the runner: all begin */
    int finish; /* closed by the runner: all leave */
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
    CHILD_EXPECT(read(race->finish, &byte, 1) == 0); /* so that all are attached together */
    lr_cache_detach(cache);
    return 0;
}

static void race_once(struct race *race, struct result results[RACERS]) {
    int start[2], finish[2], report[2];
    pid_t children[RACERS];
    CU_ASSERT_FATAL(pipe2(start, O_CLOEXEC) == 0 && pipe2(finish, O_CLOEXEC) == 0 && pipe2(report, O_CLOEXEC) == 0);
    race->start = start[0];
    race->finish = finish[0];
    race->report = report[1];
    for (unsigned i = 0; i < RACERS; i++) {
        fflush(NULL);
        children[i] = fork();
        if (children[i] == 0) {
            alarm(120);
            close(start[1]);
            close(finish[1]);
            _exit(run_race(race));
        }
    }
    close(start[1]);
    for (unsigned i = 0; i < RACERS; i++)
        CU_ASSERT_EQUAL(read(report[0], &results[i], sizeof results[i]), (ssize_t)sizeof results[i]);
    close(finish[1]);
    for (unsigned i = 0; i < RACERS; i++)
        CU_ASSERT_EQUAL(fixture_wait(children[i]), 0);
    close(start[0]);
    close(finish[0]);
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
    uint64_t usual_ns = UINT64_MAX; /* the least of some: one may have had to wait for a processor */
    for (unsigned i = 0; i < 5; i++) {
        const uint64_t started_ns = fixture_now_ns();
        lr_cache_detach(create_at(&victims[0].place));
        const uint64_t took_ns = fixture_now_ns() - started_ns;
        usual_ns = took_ns < usual_ns ? took_ns : usual_ns;
        CU_ASSERT_EQUAL(lr_cache_destroy(&victims[0].place.options, NULL), 0);
    }
    victims[1] = victims[0];
    victims[1].place.options.name = victims[0].place.options.name = victims[0].place.name;
    /* As many as it takes until the kills have met creators early and late. */
    for (unsigned round = 0;
         round < 3000 && (killed < enough || found[FOUND_NOTHING] == 0 || found[FOUND_SEGMENT] == 0); round++) {
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

void larder_suite_22_creation(void);
void larder_suite_22_creation(void) {
    CU_pSuite suite = CU_add_suite("22_creation", NULL, NULL);
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
}
