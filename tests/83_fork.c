/* SPDX-License-Identifier: MIT */
/*
 * Servers that open the cache and then fork: is every process one participant of its own, whatever dies first?
 *
 * 25_participants asks this of slots and bytes, one at a time. Here are whole servers: preload and fork, children that
 * end in every way there is, parents that die with locks and pins in their hands, daemons, storms.
 */
#include "fixture.h"
#include "segment.h"
#include "stripe.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CACHE (UINT64_C(1) << 20)
#define KEYS 200u

extern char **environ;

struct board { /* shared by all processes of a test */
    _Atomic uint64_t words[128];
    _Atomic uint32_t stage, ended;
};

struct scene {
    struct fixture fixture;
    struct board *board;
    unsigned number;
    pid_t runner;
};

static void begin(struct scene *scene, unsigned wait_ms) {
    struct lr_options options = lr_options_default();
    memset(scene, 0, sizeof *scene);
    options.size = CACHE;
    options.wait_ms = wait_ms;
    fixture_create_with(&scene->fixture, &options);
    scene->board = mmap(NULL, sizeof *scene->board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CU_ASSERT_FATAL(scene->board != MAP_FAILED);
    scene->runner = getpid();
}

static unsigned active_slots(struct lr_cache *cache) {
    unsigned count = 0;
    for (uint32_t slot = 0; slot < cache->geometry.participants; slot++)
        count += atomic_load(&cache->participants[slot].state) == SM_SLOT_ACTIVE;
    return count;
}

/* Reaps until so many are left: a process that has ended in our eyes may still be on its way out. */
static bool settles_to(struct lr_cache *cache, unsigned wanted) {
    for (unsigned ms = 0; ms < 3000; ms++) {
        (void)lr_reap(cache);
        if (active_slots(cache) == wanted)
            return true;
        fixture_sleep_ms(1);
    }
    return false;
}

/* All others have ended: nothing of them is left but the two handles of the fixture. */
static void end(struct scene *scene) {
    struct lr_cache *one = scene->fixture.one;
    CU_ASSERT(settles_to(one, 2));
    uint64_t bytes;
    for (uint32_t slot = 0; slot < one->geometry.participants; slot++)
        CU_ASSERT_EQUAL(lr_participant_pins(one, slot, &bytes), 0);
    for (uint32_t i = 0; i < one->geometry.stripe_count; i++)
        CU_ASSERT_EQUAL(lr_load(&lr_stripe_at(one, i)->lock) & SM_LOCK_OWNER_MASK, 0);
    munmap(scene->board, sizeof *scene->board);
    fixture_destroy(&scene->fixture);
}

static bool reaches(struct board *board, uint32_t stage) {
    for (unsigned ms = 0; ms < 20000; ms++) {
        if (atomic_load(&board->stage) >= stage)
            return true;
        fixture_sleep_ms(1);
    }
    return false;
}

struct value {
    uint64_t key, seq, filler[20];
};

static int put_value(struct lr_cache *cache, uint64_t key, uint64_t seq) {
    struct value value = {key, seq, {0}};
    for (unsigned i = 0; i < 20; i++)
        value.filler[i] = key * 7919 + seq;
    struct lr_put put = {.key = &key, .key_len = 8, .value = &value, .value_len = sizeof value};
    return lr_put(cache, &put);
}

static bool is_whole(const struct value *value, uint64_t key) {
    for (unsigned i = 0; i < 20; i++)
        if (value->filler[i] != key * 7919 + value->seq)
            return false;
    return value->key == key;
}

/* 0 or what the get returned; 1: a wrong value. */
static int get_value(struct lr_cache *cache, uint64_t key) {
    struct value value;
    struct lr_item item;
    int error = lr_get(cache, &key, 8, &value, sizeof value, &item, 0);
    return error != 0 ? error : item.value_len == sizeof value && is_whole(&value, key) ? 0 : 1;
}

/* Ends at the first refusal: behind a lock that is not taken over each one takes the whole wait. */
static bool put_all(struct lr_cache *cache, uint64_t seq) {
    for (uint64_t key = 0; key < KEYS; key++)
        if (put_value(cache, key, seq) != 0)
            return false;
    return true;
}

static void preload(struct lr_cache *cache) {
    CU_ASSERT_FATAL(put_all(cache, 1));
}

/* A forked server's work with the handle that it was born with. */
static void serve(struct lr_cache *cache, uint64_t rounds, unsigned seed) {
    for (uint64_t i = 0; i < rounds; i++) {
        struct lr_pin pin;
        uint64_t key = (i * 31 + seed) % KEYS;
        CHILD_EXPECT(get_value(cache, key) == 0);
        CHILD_EXPECT(put_value(cache, key, i) == 0);
        CHILD_EXPECT(lr_pin(cache, &key, 8, &pin) == 0 && is_whole(pin.value, key));
        lr_unpin(cache, &pin);
    }
}

/* ---- preload, then fork ----------------------------------------------------------------------------------------- */

#define SERVERS 8u

enum ending { EXIT, UNDERSCORE_EXIT, KILLED, CLOSED, EXECED, ENDINGS };

static int serve_and_end(void *context) {
    struct scene *scene = context;
    struct lr_cache *one = scene->fixture.one;
    serve(one, 300, scene->number);
    atomic_store(&scene->board->words[scene->number], lr_own_word(one));
    atomic_fetch_add(&scene->board->stage, 1);
    CHILD_EXPECT(reaches(scene->board, SERVERS)); /* all are there at once */
    for (unsigned i = 0; i < SERVERS; i++)
        CHILD_EXPECT(lr_owner_alive(one, scene->board->words[i]));
    atomic_fetch_add(&scene->board->stage, 1);
    CHILD_EXPECT(reaches(scene->board, 2 * SERVERS));
    serve(one, 300, scene->number);
    switch ((enum ending)(scene->number % ENDINGS)) {
    case EXIT:
        return 0;
    case UNDERSCORE_EXIT:
        _exit(0);
    case CLOSED:
        lr_cache_detach(one);
        lr_cache_detach(scene->fixture.two);
        return 0;
    case KILLED:
        raise(SIGKILL);
        return 1;
    default:
        execl("/bin/true", "true", (char *)NULL);
        return 1;
    }
}

static void servers_that_are_forked_after_open_have_slots_of_their_own(void) {
    struct scene scene;
    pid_t servers[SERVERS];
    begin(&scene, 5000);
    struct lr_cache *one = scene.fixture.one;
    preload(one);
    uint64_t parents = lr_own_word(one);
    for (scene.number = 0; scene.number < SERVERS; scene.number++)
        servers[scene.number] = fixture_start(serve_and_end, &scene);
    for (unsigned i = 0; i < SERVERS; i++)
        CU_ASSERT_EQUAL(fixture_wait(servers[i]), i % ENDINGS == KILLED ? -SIGKILL : 0);
    for (unsigned i = 0; i < SERVERS; i++) {
        uint64_t word = scene.board->words[i];
        CU_ASSERT(word != parents && !lr_owner_alive(one, word));
        CU_ASSERT(lr_owner_slot(word) != one->slot && lr_owner_slot(word) != scene.fixture.two->slot);
        for (unsigned j = 0; j < i; j++)
            CU_ASSERT(lr_owner_slot(word) != lr_owner_slot(scene.board->words[j]));
    }
    CU_ASSERT(lr_own_word(one) == parents && lr_owner_alive(scene.fixture.two, parents));
    for (uint64_t key = 0; key < KEYS; key++)
        CU_ASSERT_EQUAL(get_value(scene.fixture.two, key), 0);
    end(&scene);
}

/* ---- storms ----------------------------------------------------------------------------------------------------- */

#define STORM (FIXTURE_SANITIZED ? 40u : 400u)

struct caller {
    pthread_t thread;
    struct scene *scene;
    _Atomic bool stop;
    _Atomic uint64_t calls;
    unsigned wrong;
};

static void *call_on(void *argument) {
    struct caller *caller = argument;
    struct lr_cache *one = caller->scene->fixture.one;
    for (uint64_t i = 0; !atomic_load(&caller->stop); i++, atomic_fetch_add(&caller->calls, 1)) {
        uint64_t key = i % KEYS;
        struct lr_process process;
        caller->wrong += put_value(one, key, i) != 0;
        caller->wrong += get_value(one, (i * 13) % KEYS) != 0;
        (void)lr_process(one, caller->scene->fixture.two->slot, &process);
        (void)lr_reap(one);
    }
    return NULL;
}

/* Forked at any instant of other threads' calls: whatever they held in this process is not held in the child. */
static int serve_briefly(void *context) {
    struct scene *scene = context;
    uint32_t slot = scene->fixture.one->slot;
    serve(scene->fixture.one, 5, scene->number);
    CHILD_EXPECT(scene->fixture.one->slot != slot);
    if (scene->number % 3 == 0)
        raise(SIGKILL);
    return 0;
}

/* Another thread is joining, and does not come to an end of it. */
static int call_beside_a_stuck_joiner(void *context) {
    struct scene *scene = context;
    struct lr_cache *one = scene->fixture.one;
    const uint64_t key = 1;
    atomic_store(&one->self->joining, 1);
    CHILD_EXPECT(lr_delete(one, &key, sizeof key) == LARDER_EBUSY);
    CHILD_EXPECT(put_value(one, key, 2) == LARDER_EBUSY);
    atomic_store(&one->self->joining, 0);
    CHILD_EXPECT(get_value(one, key) == 0 && lr_delete(one, &key, sizeof key) == 0);
    return 0;
}

static void who_cannot_join_is_told_busy_and_changes_nothing(void) {
    struct scene scene;
    struct lr_stat stat;
    begin(&scene, 100);
    CU_ASSERT_EQUAL(put_value(scene.fixture.one, 1, 1), 0);
    CU_ASSERT_EQUAL(fixture_child(call_beside_a_stuck_joiner, &scene), 0);
    lr_stat(scene.fixture.one, &stat);
    CU_ASSERT_EQUAL(stat.counters[LR_C_lockless_deletes], 0);
    end(&scene);
}

/* On a busy machine the callers may come to little while it forks: it goes on until they have. */
static bool is_storm_over(const struct caller callers[2], unsigned forks) {
    const bool called = atomic_load(&callers[0].calls) > 100 && atomic_load(&callers[1].calls) > 100;
    return forks >= STORM && (called || forks >= 50 * STORM);
}

static void end_one(pid_t child, unsigned number) {
    if (child != 0)
        CU_ASSERT_EQUAL(fixture_wait(child), number % 3 == 0 ? -SIGKILL : 0);
}

static void a_storm_of_forks_among_threads_in_calls(void) {
    struct scene scene;
    struct caller callers[2] = {{.scene = &scene}, {.scene = &scene}};
    pid_t children[8] = {0};
    begin(&scene, 5000);
    preload(scene.fixture.one);
    uint64_t parents = lr_own_word(scene.fixture.one);
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT_EQUAL_FATAL(pthread_create(&callers[i].thread, NULL, call_on, &callers[i]), 0);
    for (; !is_storm_over(callers, scene.number); scene.number++) {
        pid_t *child = &children[scene.number % 8];
        end_one(*child, scene.number - 8);
        *child = fixture_start(serve_briefly, &scene);
    }
    for (unsigned i = 0; i < 8; i++, scene.number++)
        end_one(children[scene.number % 8], scene.number - 8);
    for (unsigned i = 0; i < 2; i++) {
        atomic_store(&callers[i].stop, true);
        pthread_join(callers[i].thread, NULL);
        CU_ASSERT_EQUAL(callers[i].wrong, 0);
        CU_ASSERT(callers[i].calls > 100);
    }
    CU_ASSERT(lr_own_word(scene.fixture.one) == parents && lr_owner_alive(scene.fixture.two, parents));
    CU_ASSERT(atomic_load(&scene.fixture.one->header->participants_high) < 40);
    end(&scene);
}

/* ---- the parent dies first -------------------------------------------------------------------------------------- */

static void linger(struct scene *scene) {
    atomic_fetch_add(&scene->board->stage, 1);
    while (atomic_load(&scene->board->ended) == 0 && kill(scene->runner, 0) == 0)
        fixture_sleep_ms(1);
}

/* Holds every stripe and pins a value, has children, and dies. Some call in the child, some never do. */
static int die_with_children(void *context) {
    struct scene *scene = context;
    struct lr_cache *cache = NULL;
    struct lr_pin pin;
    uint64_t key = 3;
    CHILD_EXPECT(lr_cache_attach(&scene->fixture.options, &cache, NULL) == 0);
    CHILD_EXPECT(lr_pin(cache, &key, 8, &pin) == 0);
    atomic_store(&scene->board->words[0], lr_own_word(cache));
    if (scene->number == 0) { /* children first: they call, then the parent takes the locks */
        for (unsigned i = 0; i < 2; i++)
            if (fork() == 0) {
                prctl(PR_SET_PDEATHSIG, 0);
                alarm(100);
                if (i == 0)
                    CHILD_EXPECT(get_value(cache, 5) == 0);
                linger(scene);
                _exit(i == 0 ? get_value(cache, 5) != 0 : 0);
            }
        CHILD_EXPECT(reaches(scene->board, 2));
    }
    struct lr_view views[64];
    for (uint32_t i = 0; i < cache->geometry.stripe_count; i++)
        CHILD_EXPECT(lr_stripe_lock(&views[i], cache, i) == 0);
    if (scene->number == 1) /* children of a lock holder, in the middle of his change */
        for (unsigned i = 0; i < 2; i++)
            if (fork() == 0) {
                alarm(100);
                linger(scene);
                _exit(0);
            }
    CHILD_EXPECT(reaches(scene->board, 2));
    raise(SIGKILL);
    return 0;
}

static void locks_and_pins_of_a_dead_parent_are_not_kept_by_its_children(void) {
    for (unsigned when = 0; when < 2; when++) {
        struct scene scene;
        begin(&scene, 1500);
        struct lr_cache *one = scene.fixture.one;
        preload(one);
        scene.number = when;
        CU_ASSERT_EQUAL(fixture_child(die_with_children, &scene), -SIGKILL);
        uint64_t word = scene.board->words[0], started_ns = fixture_now_ns();
        CU_ASSERT(!lr_owner_alive(one, word));
        CU_ASSERT(put_all(one, 9)); /* took every stripe over */
        CU_ASSERT(FIXTURE_SANITIZED || fixture_now_ns() - started_ns < UINT64_C(2000000000));
        CU_ASSERT(lr_participant_reap(one, lr_owner_slot(word), lr_owner_generation(word)));
        CU_ASSERT_EQUAL(atomic_load(&one->participants[lr_owner_slot(word)].pin_summary), 0);
        CU_ASSERT_EQUAL(active_slots(one), when == 0 ? 3 : 2); /* the child that called lives */
        atomic_store(&scene.board->ended, 1);
        end(&scene);
    }
}

/* The other way round: the child ends while it holds what it took with the inherited handle; the parent has its own. */
static int take_and_die(void *context) {
    struct scene *scene = context;
    struct lr_cache *one = scene->fixture.one;
    struct lr_view view;
    struct lr_pin pin;
    uint64_t key = 4;
    CHILD_EXPECT(lr_pin(one, &key, 8, &pin) == 0);
    for (uint32_t i = 0; i < one->geometry.stripe_count; i++)
        CHILD_EXPECT(lr_stripe_lock(&view, one, i) == 0);
    raise(SIGKILL);
    return 0;
}

static void a_childs_death_costs_the_parent_nothing(void) {
    struct scene scene;
    struct lr_pin pin;
    uint64_t key = 6;
    begin(&scene, 3000);
    struct lr_cache *one = scene.fixture.one;
    preload(one);
    CU_ASSERT_EQUAL_FATAL(lr_pin(one, &key, 8, &pin), 0);
    uint64_t parents = lr_own_word(one);
    bool stored = true;
    for (unsigned i = 0; i < 20 && stored; i++) {
        CU_ASSERT_EQUAL(fixture_child(take_and_die, &scene), -SIGKILL);
        stored = put_all(one, i);
    }
    CU_ASSERT(stored);
    CU_ASSERT(lr_own_word(one) == parents && lr_owner_alive(scene.fixture.two, parents));
    uint64_t bytes;
    CU_ASSERT(lr_participant_pins(one, one->slot, &bytes) == 1 && is_whole(pin.value, 6));
    lr_unpin(one, &pin);
    end(&scene);
}

/* ---- exec ------------------------------------------------------------------------------------------------------- */

/* A program that is started by any means inherits no descriptor of ours, and holds no lock for us. */
static void programs_that_are_started_inherit_nothing(void) {
    struct scene scene;
    char out[4096], *const words[] = {"sh", "-c", "exec sleep 30", NULL};
    pid_t sleeper;
    begin(&scene, 1000);
    struct lr_cache *third = fixture_attach(&scene.fixture);
    CU_ASSERT_EQUAL(fixture_run("ls -l /proc/self/fd", out, sizeof out), 0);
    CU_ASSERT_PTR_NULL(strstr(out, "larder."));
    CU_ASSERT_PTR_NULL(strstr(out, "timens"));
    CU_ASSERT_EQUAL_FATAL(posix_spawn(&sleeper, "/bin/sh", NULL, NULL, words, environ), 0); /* a vfork, most often */
    uint64_t word = lr_own_word(third);
    CU_ASSERT(lr_owner_alive(scene.fixture.one, word));
    lr_cache_detach(third);
    CU_ASSERT(!lr_owner_alive(scene.fixture.one, word));
    CU_ASSERT_EQUAL(put_value(scene.fixture.one, 1, 1), 0);
    kill(sleeper, SIGKILL);
    CU_ASSERT_EQUAL(fixture_wait(sleeper), -SIGKILL);
    end(&scene);
}

static int exec_with_everything_held(void *context) {
    struct scene *scene = context;
    struct lr_cache *one = scene->fixture.one;
    struct lr_view view;
    struct lr_pin pin;
    uint64_t key = 2;
    CHILD_EXPECT(lr_pin(one, &key, 8, &pin) == 0);
    for (uint32_t i = 0; i < one->geometry.stripe_count; i++)
        CHILD_EXPECT(lr_stripe_lock(&view, one, i) == 0);
    atomic_store(&scene->board->words[0], lr_own_word(one));
    execl("/bin/sleep", "sleep", "30", (char *)NULL);
    return 1;
}

static void an_exec_in_the_middle_of_a_change_is_a_death(void) {
    struct scene scene;
    begin(&scene, 10000);
    struct lr_cache *one = scene.fixture.one;
    preload(one);
    pid_t child = fixture_start(exec_with_everything_held, &scene);
    for (unsigned ms = 0; ms < 5000; ms++) {
        uint64_t word = atomic_load(&scene.board->words[0]);
        if (word != 0 && !lr_owner_alive(one, word))
            break;
        fixture_sleep_ms(1);
    }
    CU_ASSERT(put_all(one, 2));
    CU_ASSERT_EQUAL(kill(child, 0), 0); /* the process lives, as another program */
    kill(child, SIGKILL);
    CU_ASSERT_EQUAL(fixture_wait(child), -SIGKILL);
    end(&scene);
}

/* ---- daemons ---------------------------------------------------------------------------------------------------- */

static void close_all(void) {
    for (int fd = 0; fd < 256; fd++)
        close(fd);
    for (int fd = 0; fd < 3; fd++)
        CHILD_EXPECT(open("/dev/null", O_RDWR) == fd);
}

/* The classic: open first, then fork, setsid, fork, chdir, close everything. */
static int daemonise(void *context) {
    struct scene *scene = context;
    struct lr_cache *cache = NULL;
    CHILD_EXPECT(lr_cache_attach(&scene->fixture.options, &cache, NULL) == 0);
    serve(cache, 10, 1);
    atomic_store(&scene->board->words[0], lr_own_word(cache));
    if (fork() != 0)
        _exit(0);
    prctl(PR_SET_PDEATHSIG, 0);
    CHILD_EXPECT(setsid() > 0);
    if (scene->number == 1)
        serve(cache, 10, 2); /* the one in the middle calls too */
    if (fork() != 0)
        _exit(0);
    alarm(100);
    CHILD_EXPECT(chdir("/") == 0);
    close_all();
    serve(cache, 50, 3);
    close_all(); /* once more, now that it has a slot */
    serve(cache, 50, 4);
    atomic_store(&scene->board->words[1], lr_own_word(cache));
    linger(scene);
    serve(cache, 50, 5);
    if (scene->number == 1)
        lr_cache_detach(cache);
    _exit(0);
}

static void a_daemon_that_opened_before_it_went_into_the_background(void) {
    for (unsigned number = 0; number < 2; number++) {
        struct scene scene;
        begin(&scene, 3000);
        struct lr_cache *one = scene.fixture.one;
        preload(one);
        scene.number = number;
        CU_ASSERT_EQUAL(fixture_child(daemonise, &scene), 0);
        CU_ASSERT_FATAL(reaches(scene.board, 1));
        uint64_t opener = scene.board->words[0], daemon = scene.board->words[1];
        CU_ASSERT(!lr_owner_alive(one, opener) && lr_owner_alive(one, daemon));
        CU_ASSERT(!lr_participant_reap(one, lr_owner_slot(daemon), lr_owner_generation(daemon)));
        CU_ASSERT(settles_to(one, 3));
        struct lr_process process;
        CU_ASSERT(lr_process(one, lr_owner_slot(daemon), &process) == 0 && process.alive && process.pid != 0);
        atomic_store(&scene.board->ended, 1);
        for (unsigned ms = 0; ms < 5000 && lr_owner_alive(one, daemon); ms++)
            fixture_sleep_ms(1);
        CU_ASSERT(!lr_owner_alive(one, daemon));
        end(&scene);
    }
}

static int beget(void *context) {
    struct scene *scene = context;
    struct lr_cache *one = scene->fixture.one;
    serve(one, 3, scene->number);
    atomic_store(&scene->board->words[scene->number], lr_own_word(one));
    for (unsigned i = 0; i <= scene->number; i++)
        CHILD_EXPECT(lr_owner_alive(one, scene->board->words[i]));
    if (++scene->number == 12)
        return 0;
    pid_t child = fork();
    if (child == 0)
        _exit(beget(scene));
    int status = 1;
    CHILD_EXPECT(waitpid(child, &status, 0) == child && status == 0);
    CHILD_EXPECT(lr_owner_alive(one, lr_own_word(one)));
    serve(one, 3, scene->number);
    return 0;
}

static void twelve_generations_of_forks_are_twelve_participants(void) {
    struct scene scene;
    begin(&scene, 3000);
    preload(scene.fixture.one);
    CU_ASSERT_EQUAL(fixture_child(beget, &scene), 0);
    for (unsigned i = 0; i < 12; i++)
        for (unsigned j = 0; j < i; j++)
            CU_ASSERT(lr_owner_slot(scene.board->words[i]) != lr_owner_slot(scene.board->words[j]));
    end(&scene);
}

void larder_suite_83_fork(void);
void larder_suite_83_fork(void) {
    CU_pSuite suite = CU_add_suite("83_fork", NULL, NULL);
    CU_ADD_TEST(suite, servers_that_are_forked_after_open_have_slots_of_their_own);
    CU_ADD_TEST(suite, who_cannot_join_is_told_busy_and_changes_nothing);
    CU_ADD_TEST(suite, a_storm_of_forks_among_threads_in_calls);
    CU_ADD_TEST(suite, locks_and_pins_of_a_dead_parent_are_not_kept_by_its_children);
    CU_ADD_TEST(suite, a_childs_death_costs_the_parent_nothing);
    CU_ADD_TEST(suite, programs_that_are_started_inherit_nothing);
    CU_ADD_TEST(suite, an_exec_in_the_middle_of_a_change_is_a_death);
    CU_ADD_TEST(suite, a_daemon_that_opened_before_it_went_into_the_background);
    CU_ADD_TEST(suite, twelve_generations_of_forks_are_twelve_participants);
}
