/* SPDX-License-Identifier: MIT */
/*
 * Is everybody who lives seen alive, everybody who is dead seen dead, and does each have a slot of his own?
 *
 * The two errors are not equal. A dead one who looks alive costs a wait; a living one who looks dead is robbed of his
 * lock and his pins. So most tests here try to make the living look dead: close-all loops, foreign closes, forks.
 */
#include "fixture.h"
#include "segment.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SMALL (UINT64_C(64) << 10)

/* A page that children and the runner share: what a child tells, and when it may go on. */
struct board {
    _Atomic uint64_t words[64];
    _Atomic uint32_t stage; /* raised by both sides */
};

struct scene {
    struct fixture fixture;
    struct board *board;
    unsigned number;
};

static void begin(struct scene *scene) {
    memset(scene, 0, sizeof *scene);
    fixture_create(&scene->fixture, SMALL);
    scene->board = mmap(NULL, sizeof *scene->board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CU_ASSERT_FATAL(scene->board != MAP_FAILED);
}

static void end(struct scene *scene) {
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

/* In a child: attaches anew, tells its word, and reaches `stage`. */
static struct lr_cache *attach_and_tell(struct scene *scene, uint32_t stage) {
    struct lr_cache *cache = NULL;
    CHILD_EXPECT(lr_cache_attach(&scene->fixture.options, &cache, NULL) == 0);
    atomic_store(&scene->board->words[scene->number], lr_own_word(cache));
    atomic_store(&scene->board->stage, stage);
    return cache;
}

static void kill_and_wait(pid_t child) {
    kill(child, SIGKILL);
    CU_ASSERT_EQUAL(fixture_wait(child), -SIGKILL);
}

/* As the kernel does at death. The address stays taken, so that a later munmap hits nobody else's page. */
static void let_byte_go(const struct lr_cache *cache) {
    void *page = mmap(cache->live_page, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CU_ASSERT_FATAL(page == cache->live_page);
}

/* ---- slots ------------------------------------------------------------------------------------------------------ */

static void handles_have_slots_of_their_own_and_see_each_other_alive(void) {
    struct scene scene;
    begin(&scene);
    struct lr_cache *one = scene.fixture.one, *two = scene.fixture.two;
    CU_ASSERT(one->slot != two->slot);
    CU_ASSERT(one->generation > 0 && two->generation > 0);
    CU_ASSERT_EQUAL(fcntl(one->probe_fd, F_GETFD), FD_CLOEXEC);
    CU_ASSERT(lr_owner_alive(one, lr_own_word(one)));
    CU_ASSERT(lr_owner_alive(one, lr_own_word(two)));
    CU_ASSERT(lr_owner_alive(two, lr_own_word(one)));
    CU_ASSERT(lr_owner_alive(two, lr_own_word(one) | SM_LOCK_WAITERS | SM_LOCK_RECOVER)); /* as in a lock word */
    CU_ASSERT(!lr_owner_alive(one, lr_owner_word(two->slot, two->generation + 1)));
    CU_ASSERT(!lr_owner_alive(one, lr_owner_word(SM_PARTICIPANTS, 1))); /* no such slot: nobody */
    CU_ASSERT(!lr_owner_alive(one, SM_LOCK_SLOT_MASK << SM_LOCK_SLOT_SHIFT));
    struct lr_process process;
    CU_ASSERT_EQUAL(lr_process(one, one->slot, &process), 0);
    CU_ASSERT(process.self && process.alive && process.pid == (uint32_t)getpid() && process.pid_ns != 0);
    CU_ASSERT_EQUAL(process.generation, one->generation);
    CU_ASSERT(process.started_ms <= lr_unix_ms() && process.started_ms + 60000 > lr_unix_ms());
    CU_ASSERT_EQUAL(lr_process(one, two->slot, &process), 0);
    CU_ASSERT(!process.self && process.alive);
    CU_ASSERT_EQUAL(lr_process(one, 100, &process), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(lr_process(one, SM_PARTICIPANTS, &process), LARDER_EINVALID);
    end(&scene);
}

static void leaving_frees_the_slot_and_keeps_the_counts(void) {
    struct scene scene;
    begin(&scene);
    struct lr_cache *third = fixture_attach(&scene.fixture), *one = scene.fixture.one;
    uint32_t slot = third->slot;
    uint64_t generation = third->generation, word = lr_own_word(third);
    lr_count_n(third, LR_C_hits, 41);
    atomic_store(&third->me->hazards[7], third->geometry.data_off / SM_GRANULE);
    atomic_store(&third->me->pin_summary, 1u << 7);
    lr_cache_detach(third);
    CU_ASSERT(!lr_owner_alive(one, word));
    CU_ASSERT_EQUAL(atomic_load(&one->participants[slot].state), SM_SLOT_FREE);
    CU_ASSERT_EQUAL(atomic_load(&one->participants[slot].hazards[7]), 0);
    CU_ASSERT_EQUAL(atomic_load(&one->participants[slot].pin_summary), 0);
    CU_ASSERT_EQUAL(atomic_load(&one->participants[slot].counters[LR_C_hits]), 0);
    CU_ASSERT_EQUAL(atomic_load(&one->header->retired_counters[LR_C_hits]), 41);
    third = fixture_attach(&scene.fixture);
    CU_ASSERT_EQUAL(third->slot, slot);
    CU_ASSERT(third->generation > generation);
    CU_ASSERT(!lr_owner_alive(one, word)); /* the slot lives again, its old owner does not */
    lr_cache_detach(third);
    CU_ASSERT_EQUAL(atomic_load(&one->header->participants_high), slot + 1);
    end(&scene);
}

static void a_generation_is_never_zero(void) {
    struct scene scene;
    begin(&scene);
    struct lr_cache *third = fixture_attach(&scene.fixture);
    struct sm_participant *slot = &scene.fixture.one->participants[third->slot];
    lr_cache_detach(third);
    atomic_store(&slot->generation, SM_GENERATION_MASK);
    third = fixture_attach(&scene.fixture);
    CU_ASSERT_EQUAL(third->generation, 1);
    CU_ASSERT(lr_owner_alive(scene.fixture.one, lr_own_word(third)));
    lr_cache_detach(third);
    atomic_store(&slot->generation, UINT64_MAX); /* scribbled */
    third = fixture_attach(&scene.fixture);
    CU_ASSERT(third->generation > 0 && third->generation <= SM_GENERATION_MASK);
    lr_cache_detach(third);
    end(&scene);
}

static int take_all_slots(void *context) {
    struct scene *scene = context;
    static struct lr_cache *all[SM_PARTICIPANTS];
    struct rlimit files;
    char why[LR_WHY_BYTES];
    CHILD_EXPECT(getrlimit(RLIMIT_NOFILE, &files) == 0);
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur < SM_PARTICIPANTS + 100)
        return 77;
    unsigned count = 0;
    int error;
    while ((error = lr_cache_attach(&scene->fixture.options, &all[count], why)) == 0)
        count++;
    CHILD_EXPECT(error == LARDER_ENO_SLOTS);
    CHILD_EXPECT(count == SM_PARTICIPANTS - 2 && all[count] == NULL); /* the fixture has two */
    CHILD_EXPECT(strstr(why, "1024") != NULL && strstr(why, "larder procs") != NULL);
    for (unsigned i = 0; i < count; i++)
        CHILD_EXPECT(lr_owner_alive(all[count - 1 - i], lr_own_word(all[i])));
    uint32_t slot = all[500]->slot;
    lr_cache_detach(all[500]);
    CHILD_EXPECT(lr_cache_attach(&scene->fixture.options, &all[500], why) == 0 && all[500]->slot == slot);
    atomic_store(&scene->board->stage, 1);
    pause();
    return 0;
}

static void when_all_slots_are_taken_that_is_said_and_the_dead_make_room(void) {
    struct scene scene;
    begin(&scene);
    pid_t child = fixture_start(take_all_slots, &scene);
    int status = 0;
    bool full = false;
    for (unsigned i = 0; i < 20000 && !full && waitpid(child, &status, WNOHANG) == 0; i++) {
        full = atomic_load(&scene.board->stage) == 1;
        fixture_sleep_ms(1);
    }
    if (!full && WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        fixture_skip(__func__, "the limit of open files (ulimit -Hn) is below 1124");
        end(&scene);
        return;
    }
    CU_ASSERT_FATAL(full);
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    CU_ASSERT_EQUAL(lr_cache_attach(&scene.fixture.options, &cache, why), LARDER_ENO_SLOTS);
    kill_and_wait(child);
    for (unsigned i = 0; i < 200; i++) { /* all 1022 are dead and not reaped */
        CU_ASSERT_EQUAL_FATAL(lr_cache_attach(&scene.fixture.options, &cache, why), 0);
        CU_ASSERT(cache->slot != scene.fixture.one->slot && cache->slot != scene.fixture.two->slot);
        lr_cache_detach(cache);
    }
    end(&scene);
}

#define CROWD 48u

static int join_crowd(void *context) {
    struct scene *scene = context;
    while (atomic_load(&scene->board->stage) == 0)
        sched_yield();
    struct lr_cache *cache = NULL;
    CHILD_EXPECT(lr_cache_attach(&scene->fixture.options, &cache, NULL) == 0);
    atomic_store(&scene->board->words[scene->number], lr_own_word(cache));
    atomic_fetch_add(&scene->board->stage, 1);
    while (atomic_load(&scene->board->stage) < 1 + CROWD)
        fixture_sleep_ms(1);
    lr_cache_detach(cache);
    return 0;
}

static void a_crowd_that_joins_at_once_shares_no_slot(void) {
    for (unsigned round = 0; round < 5; round++) {
        struct scene scene;
        pid_t children[CROWD];
        begin(&scene);
        for (scene.number = 0; scene.number < CROWD; scene.number++)
            children[scene.number] = fixture_start(join_crowd, &scene);
        atomic_store(&scene.board->stage, 1);
        CU_ASSERT(reaches(scene.board, 1 + CROWD));
        for (unsigned i = 0; i < CROWD; i++) {
            CU_ASSERT_EQUAL(fixture_wait(children[i]), 0);
            for (unsigned j = 0; j < i; j++)
                CU_ASSERT(lr_owner_slot(scene.board->words[i]) != lr_owner_slot(scene.board->words[j]));
        }
        end(&scene);
    }
}

static int attach_and_die(void *context) {
    struct scene *scene = context;
    (void)attach_and_tell(scene, 1);
    raise(SIGKILL);
    return 0;
}

static void a_storm_of_kills_does_not_use_up_the_table(void) {
    struct scene scene;
    begin(&scene);
    for (unsigned i = 0; i < 300; i++)
        CU_ASSERT_EQUAL(fixture_child(attach_and_die, &scene), -SIGKILL);
    CU_ASSERT(atomic_load(&scene.fixture.one->header->participants_high) <= 4);
    end(&scene);
}

/* ---- life and death --------------------------------------------------------------------------------------------- */

static int attach_pin_and_wait(void *context) {
    struct scene *scene = context;
    struct lr_cache *cache = attach_and_tell(scene, 0);
    atomic_store(&cache->me->hazards[3], cache->geometry.data_off / SM_GRANULE + 512);
    atomic_store(&cache->me->pin_summary, 1u << 3);
    lr_count_n(cache, LR_C_misses, 1000);
    atomic_store(&scene->board->stage, 1);
    pause();
    return 0;
}

static void a_killed_participant_is_seen_dead_and_reaped_once(void) {
    struct scene scene;
    struct lr_process process;
    begin(&scene);
    struct lr_cache *one = scene.fixture.one;
    pid_t child = fixture_start(attach_pin_and_wait, &scene);
    CU_ASSERT_FATAL(reaches(scene.board, 1));
    uint64_t word = scene.board->words[0], generation = lr_owner_generation(word);
    uint32_t slot = lr_owner_slot(word);
    struct sm_participant *dead = &one->participants[slot];
    CU_ASSERT(lr_owner_alive(one, word));
    kill(child, SIGSTOP); /* stopped is not dead */
    CU_ASSERT(lr_owner_alive(one, word));
    CU_ASSERT(!lr_participant_reap(one, slot, generation));
    CU_ASSERT_EQUAL(atomic_load(&dead->pin_summary), 1u << 3);
    CU_ASSERT_EQUAL(lr_process(one, slot, &process), 0);
    CU_ASSERT(process.alive && process.pins == 1 && process.pid == (uint32_t)child);
    kill_and_wait(child);
    CU_ASSERT(!lr_owner_alive(one, word));
    CU_ASSERT_EQUAL(lr_process(one, slot, &process), 0);
    CU_ASSERT(!process.alive);
    uint64_t before = atomic_load(&one->header->retired_counters[LR_C_misses]);
    CU_ASSERT(lr_participant_reap(one, slot, generation));
    CU_ASSERT_EQUAL(atomic_load(&dead->state), SM_SLOT_FREE);
    CU_ASSERT(atomic_load(&dead->generation) > generation);
    CU_ASSERT_EQUAL(atomic_load(&dead->hazards[3]), 0);
    CU_ASSERT_EQUAL(atomic_load(&dead->pin_summary), 0);
    CU_ASSERT_EQUAL(atomic_load(&one->header->retired_counters[LR_C_misses]), before + 1000);
    uint64_t after = atomic_load(&dead->generation);
    CU_ASSERT(lr_participant_reap(scene.fixture.two, slot, generation)); /* done already: nothing happens */
    CU_ASSERT_EQUAL(atomic_load(&dead->generation), after);
    CU_ASSERT(!lr_owner_alive(one, word));
    CU_ASSERT_EQUAL(lr_process(one, slot, &process), LARDER_ENOT_FOUND);
    /* The byte was let go: the slot can be had again. */
    struct lr_cache *third = fixture_attach(&scene.fixture);
    CU_ASSERT_EQUAL(third->slot, slot);
    CU_ASSERT(!lr_participant_reap(one, slot, third->generation));
    CU_ASSERT(lr_owner_alive(one, lr_own_word(third)));
    lr_cache_detach(third);
    end(&scene);
}

static void a_pinned_block_counts_whatever_is_scribbled(void) {
    struct scene scene;
    struct lr_process process;
    begin(&scene);
    struct lr_cache *one = scene.fixture.one;
    struct lr_put put = {.key = "k", .key_len = 1, .value = "0123456789abcdef0123456789abcdef", .value_len = 32};
    struct lr_pin pin;
    CU_ASSERT_EQUAL_FATAL(lr_put(one, &put), 0);
    CU_ASSERT_EQUAL_FATAL(lr_pin(one, "k", 1, &pin), 0);
    CU_ASSERT_EQUAL(lr_process(scene.fixture.two, one->slot, &process), 0);
    CU_ASSERT(process.pins == 1 && process.pinned_bytes >= 33 + 24 && process.pinned_bytes <= 128);
    lr_unpin(one, &pin);
    /* Scribbled hazards: no sum runs away. */
    static const uint64_t words[] = {1, UINT64_MAX, UINT64_C(1) << 61};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        atomic_store(&one->me->hazards[0], words[i]);
        CU_ASSERT_EQUAL(lr_process(scene.fixture.two, one->slot, &process), 0);
        CU_ASSERT(process.pins == 1 && process.pinned_bytes <= one->geometry.max_block);
    }
    atomic_store(&one->me->hazards[0], 0);
    end(&scene);
}

static void ones_own_slot_is_never_dead(void) {
    struct scene scene;
    begin(&scene);
    struct lr_cache *one = scene.fixture.one;
    /* Not even when the lock is gone, or when the byte is probed on the very description that holds it. */
    let_byte_go(one);
    CU_ASSERT(!lr_owner_alive(scene.fixture.two, lr_own_word(one)));
    CU_ASSERT(lr_owner_alive(one, lr_own_word(one)));
    CU_ASSERT(!lr_participant_reap(one, one->slot, one->generation));
    CU_ASSERT_EQUAL(atomic_load(&one->me->state), SM_SLOT_ACTIVE);
    struct lr_cache *fresh = fixture_attach(&scene.fixture);
    lr_cache_detach(scene.fixture.one);
    scene.fixture.one = fresh;
    end(&scene);
}

/* ---- descriptors ------------------------------------------------------------------------------------------------ */

/* What daemons do: close everything, then open files of their own, which get the numbers. */
static int close_everything(void *context) {
    struct scene *scene = context;
    struct lr_cache *cache = attach_and_tell(scene, 0);
    int probe = cache->probe_fd;
    for (int fd = 3; fd < 256; fd++)
        close(fd);
    int mine = -1;
    for (int fd = 0; fd >= 0 && fd < probe;) {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        mine = fd == probe ? fd : mine;
    }
    CHILD_EXPECT(mine >= 0); /* now the number is ours, not the library's */
    atomic_store(&scene->board->stage, 1);
    CHILD_EXPECT(reaches(scene->board, 2));
    uint64_t dead = scene->board->words[10], living = scene->board->words[11];
    CHILD_EXPECT(lr_owner_alive(cache, living));
    CHILD_EXPECT(!lr_owner_alive(cache, dead)); /* found its file again */
    CHILD_EXPECT(cache->probe_fd != probe);
    CHILD_EXPECT(lr_participant_reap(cache, lr_owner_slot(dead), lr_owner_generation(dead)));
    lr_cache_detach(cache);
    CHILD_EXPECT(fcntl(mine, F_GETFD) >= 0); /* not closed by us */
    atomic_store(&scene->board->stage, 3);
    pause();
    return 0;
}

static void closing_all_descriptors_keeps_the_participant_alive(void) {
    struct scene scene;
    begin(&scene);
    struct lr_cache *one = scene.fixture.one;
    scene.number = 1;
    CU_ASSERT_EQUAL(fixture_child(attach_and_die, &scene), -SIGKILL);
    atomic_store(&scene.board->words[10], scene.board->words[1]);
    atomic_store(&scene.board->words[11], lr_own_word(one));
    atomic_store(&scene.board->stage, 0);
    /* The dead one's slot must stay dead until it is probed: the next one who joins would take it over. */
    uint32_t slot = lr_owner_slot(scene.board->words[10]);
    atomic_store(&one->participants[slot].state, SM_SLOT_FREE);
    struct lr_cache *placeholder = fixture_attach(&scene.fixture);
    CU_ASSERT_EQUAL(placeholder->slot, slot);
    scene.number = 2;
    pid_t child = fixture_start(close_everything, &scene);
    CU_ASSERT_FATAL(reaches(scene.board, 1));
    uint64_t word = scene.board->words[2];
    CU_ASSERT(lr_owner_alive(one, word));
    CU_ASSERT(!lr_participant_reap(one, lr_owner_slot(word), lr_owner_generation(word)));
    /* A participant that is ACTIVE, of this generation, and whose byte is free. */
    atomic_store(&scene.board->words[10], lr_own_word(placeholder));
    let_byte_go(placeholder);
    atomic_store(&scene.board->stage, 2);
    CU_ASSERT(reaches(scene.board, 3));
    CU_ASSERT(!lr_owner_alive(one, word)); /* it has detached */
    kill_and_wait(child);
    lr_cache_detach(placeholder);
    end(&scene);
}

/* A POSIX lock would fall with the first close of any descriptor of the file. */
static int open_and_close_liveness_file(void *context) {
    struct scene *scene = context;
    struct lr_cache *cache = attach_and_tell(scene, 0);
    char live[4200];
    snprintf(live, sizeof live, "%s.live", cache->path);
    for (int i = 0; i < 3; i++)
        close(open(live, O_RDWR | O_CLOEXEC));
    struct lr_cache *again = NULL;
    CHILD_EXPECT(lr_cache_attach(&scene->fixture.options, &again, NULL) == 0);
    lr_cache_detach(again);
    atomic_store(&scene->board->stage, 1);
    pause();
    return 0;
}

static void closing_another_descriptor_of_the_file_drops_no_lock(void) {
    struct scene scene;
    begin(&scene);
    pid_t child = fixture_start(open_and_close_liveness_file, &scene);
    CU_ASSERT_FATAL(reaches(scene.board, 1));
    CU_ASSERT(lr_owner_alive(scene.fixture.one, scene.board->words[0]));
    kill_and_wait(child);
    CU_ASSERT(!lr_owner_alive(scene.fixture.one, scene.board->words[0]));
    end(&scene);
}

/* Two handles of a process, both of whose descriptors the application closed: the number of one is reopened by the
 * other. If they shared a description, both could take one byte. */
static int mix_up_descriptors(void *context) {
    struct scene *scene = context;
    struct lr_cache *a = attach_and_tell(scene, 0), *b = attach_and_tell(scene, 0);
    int number = b->probe_fd;
    close(a->probe_fd);
    close(b->probe_fd);
    while (!lr_participant_owns_probe(a)) {
        CHILD_EXPECT(lr_owner_alive(a, lr_own_word(scene->fixture.one)));
        if (a->probe_fd != number) {
            a->probe_fd = dup2(a->probe_fd, number);
            lseek(number, (off_t)((uintptr_t)a & INT64_MAX), SEEK_SET);
        }
    }
    CHILD_EXPECT(a->probe_fd == number && b->probe_fd == number);
    CHILD_EXPECT(!lr_participant_owns_probe(b));
    CHILD_EXPECT(lr_owner_alive(b, lr_own_word(scene->fixture.one)));
    CHILD_EXPECT(b->probe_fd != number && lr_participant_owns_probe(b) && lr_participant_owns_probe(a));
    lr_cache_detach(b);
    CHILD_EXPECT(lr_participant_owns_probe(a));
    lr_cache_detach(a);
    return 0;
}

static void two_handles_never_share_a_probe_descriptor(void) {
    struct scene scene;
    begin(&scene);
    CU_ASSERT_EQUAL(fixture_child(mix_up_descriptors, &scene), 0);
    end(&scene);
}

static int exec_sleep(void *context) {
    struct scene *scene = context;
    (void)attach_and_tell(scene, 1);
    execl("/bin/sleep", "sleep", "60", (char *)NULL);
    return 1;
}

static void exec_ends_the_participant_and_leaks_no_lock(void) {
    struct scene scene;
    begin(&scene);
    pid_t child = fixture_start(exec_sleep, &scene);
    CU_ASSERT_FATAL(reaches(scene.board, 1));
    bool alive = true;
    for (unsigned ms = 0; ms < 5000 && alive; ms++) {
        alive = lr_owner_alive(scene.fixture.one, scene.board->words[0]);
        fixture_sleep_ms(1);
    }
    CU_ASSERT(!alive);
    CU_ASSERT_EQUAL(kill(child, 0), 0); /* the process itself goes on */
    kill_and_wait(child);
    end(&scene);
}

static void without_the_liveness_file_everybody_counts_as_alive(void) {
    struct scene scene;
    char live[4200], aside[4300];
    begin(&scene);
    struct lr_cache *one = scene.fixture.one;
    CU_ASSERT_EQUAL(fixture_child(attach_and_die, &scene), -SIGKILL);
    uint64_t word = scene.board->words[0];
    snprintf(live, sizeof live, "%s.live", one->path);
    snprintf(aside, sizeof aside, "%s.aside", live);
    CU_ASSERT(!lr_owner_alive(one, word)); /* its descriptor is open */
    CU_ASSERT_EQUAL(rename(live, aside), 0);
    close(one->probe_fd);
    CU_ASSERT(lr_owner_alive(one, word));
    CU_ASSERT(!lr_participant_reap(one, lr_owner_slot(word), lr_owner_generation(word)));
    int fd = open(live, O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* another file: all its bytes are free */
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT(lr_owner_alive(one, word));
    CU_ASSERT(lr_owner_alive(one, lr_own_word(scene.fixture.two)));
    close(fd);
    CU_ASSERT_EQUAL(rename(aside, live), 0);
    CU_ASSERT(!lr_owner_alive(one, word));
    end(&scene);
}

/* ---- fork ------------------------------------------------------------------------------------------------------- */

static int call_in_child(void *context) {
    struct scene *scene = context;
    struct lr_cache *one = scene->fixture.one, *two = scene->fixture.two;
    uint64_t parents = lr_own_word(one);
    uint32_t slot = one->slot;
    int inherited = one->probe_fd;
    CHILD_EXPECT(lr_enter(one) == 0);
    CHILD_EXPECT(one->slot != slot && one->slot != two->slot && one->me == &one->participants[one->slot]);
    CHILD_EXPECT(lr_own_word(one) != parents && lr_owner_alive(one, parents));
    CHILD_EXPECT(lr_participant_owns_probe(one));
    CHILD_EXPECT(fcntl(inherited, F_GETFD) < 0 || one->probe_fd == inherited); /* the parent's copy was closed */
    uint32_t mine = one->slot;
    CHILD_EXPECT(lr_enter(one) == 0 && one->slot == mine); /* once only */
    struct lr_process process;
    CHILD_EXPECT(lr_process(one, mine, &process) == 0 && process.self && process.pid == (uint32_t)getpid());
    CHILD_EXPECT(atomic_load(&one->me->pin_summary) == 0);
    lr_cache_detach(two); /* never used here: must not leave the parent's slot */
    lr_cache_detach(one);
    return 0;
}

static void a_forked_child_gets_a_slot_of_its_own(void) {
    struct scene scene;
    begin(&scene);
    struct lr_cache *one = scene.fixture.one, *two = scene.fixture.two;
    atomic_store(&one->me->hazards[0], one->geometry.data_off / SM_GRANULE);
    atomic_store(&one->me->pin_summary, 1);
    CU_ASSERT_EQUAL(fixture_child(call_in_child, &scene), 0);
    CU_ASSERT_EQUAL(atomic_load(&one->me->pin_summary), 1); /* the parent's pins are untouched */
    atomic_store(&one->me->hazards[0], 0);
    atomic_store(&one->me->pin_summary, 0);
    CU_ASSERT(lr_owner_alive(one, lr_own_word(two)) && lr_owner_alive(two, lr_own_word(one)));
    CU_ASSERT_EQUAL(atomic_load(&two->me->state), SM_SLOT_ACTIVE);
    CU_ASSERT(lr_participant_owns_probe(one) && lr_participant_owns_probe(two));
    end(&scene);
}

/* A child that forks one of its own, which lives on. */
static int fork_and_wait(void *context) {
    struct scene *scene = context;
    struct lr_cache *cache = attach_and_tell(scene, 0);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, 0);
        alarm(120);
        if (scene->number == 1) {
            CHILD_EXPECT(lr_enter(cache) == 0);
            atomic_store(&scene->board->words[20], lr_own_word(cache));
        }
        atomic_store(&scene->board->words[21], (uint64_t)getpid());
        atomic_store(&scene->board->stage, 1);
        pause();
        _exit(0);
    }
    pause();
    return 0;
}

static void a_parents_death_is_seen_although_its_child_lives(void) {
    for (unsigned joins = 0; joins < 2; joins++) {
        struct scene scene;
        begin(&scene);
        struct lr_cache *one = scene.fixture.one;
        scene.number = joins;
        pid_t parent = fixture_start(fork_and_wait, &scene);
        CU_ASSERT_FATAL(reaches(scene.board, 1));
        uint64_t word = scene.board->words[joins], childs = scene.board->words[20];
        pid_t child = (pid_t)scene.board->words[21];
        CU_ASSERT(lr_owner_alive(one, word));
        CU_ASSERT(joins == 0 || (childs != word && lr_owner_alive(one, childs)));
        kill_and_wait(parent);
        CU_ASSERT_EQUAL(kill(child, 0), 0);
        CU_ASSERT(!lr_owner_alive(one, word));
        CU_ASSERT(lr_participant_reap(one, lr_owner_slot(word), lr_owner_generation(word)));
        CU_ASSERT(joins == 0 || lr_owner_alive(one, childs));
        kill(child, SIGKILL);
        end(&scene);
    }
}

static void *enter_in_thread(void *argument) {
    struct lr_cache *cache = argument;
    return (void *)(intptr_t)lr_enter(cache);
}

static int enter_in_many_threads(void *context) {
    struct scene *scene = context;
    pthread_t threads[8];
    for (unsigned i = 0; i < 8; i++)
        CHILD_EXPECT(pthread_create(&threads[i], NULL, enter_in_thread, scene->fixture.one) == 0);
    for (unsigned i = 0; i < 8; i++) {
        void *result;
        CHILD_EXPECT(pthread_join(threads[i], &result) == 0 && (intptr_t)result == 0);
    }
    CHILD_EXPECT(atomic_load(&scene->fixture.one->header->participants_high) == 3); /* one slot for all of them */
    return 0;
}

static void threads_of_a_child_join_once_together(void) {
    for (unsigned i = 0; i < 20; i++) {
        struct scene scene;
        begin(&scene);
        CU_ASSERT_EQUAL(fixture_child(enter_in_many_threads, &scene), 0);
        end(&scene);
    }
}

/* ---- reapers ---------------------------------------------------------------------------------------------------- */

static int reap_with_others(void *context) {
    struct scene *scene = context;
    struct lr_cache *cache = NULL;
    CHILD_EXPECT(lr_cache_attach(&scene->fixture.options, &cache, NULL) == 0);
    atomic_fetch_add(&scene->board->stage, 1);
    for (uint32_t round = 1; round <= 200; round++) {
        while (atomic_load(&scene->board->words[1]) < round)
            sched_yield();
        uint64_t word = atomic_load(&scene->board->words[0]);
        while (!lr_participant_reap(cache, lr_owner_slot(word), lr_owner_generation(word)))
            sched_yield();
        CHILD_EXPECT(!lr_owner_alive(cache, word));
        atomic_fetch_add(&scene->board->words[2], 1);
    }
    lr_cache_detach(cache);
    return 0;
}

/* Four reapers fall upon each dead one: it is reaped once, and its counts are added once. */
static void many_reapers_reap_once(void) {
    struct scene scene;
    pid_t reapers[4];
    begin(&scene);
    struct lr_cache *one = scene.fixture.one;
    for (unsigned i = 0; i < 4; i++)
        reapers[i] = fixture_start(reap_with_others, &scene);
    CU_ASSERT_FATAL(reaches(scene.board, 4));
    for (uint64_t round = 1; round <= 200; round++) {
        struct lr_cache *victim = fixture_attach(&scene.fixture);
        uint64_t word = lr_own_word(victim), generation = victim->generation;
        uint32_t slot = victim->slot;
        lr_count_n(victim, LR_C_puts, 1);
        let_byte_go(victim); /* as dead as the kernel's word for it */
        atomic_store(&scene.board->words[0], word);
        atomic_store(&scene.board->words[1], round);
        for (unsigned ms = 0; ms < 20000 && atomic_load(&scene.board->words[2]) < 4 * round; ms++)
            usleep(100);
        CU_ASSERT_EQUAL(atomic_load(&one->participants[slot].generation), generation + 1);
        atomic_store(&victim->self->joined, 0); /* the dead do not leave */
        lr_cache_detach(victim);
        if (atomic_load(&scene.board->words[2]) < 4 * round) { /* one is lost: the others would wait for ever */
            for (unsigned i = 0; i < 4; i++)
                kill(reapers[i], SIGKILL);
            break;
        }
    }
    for (unsigned i = 0; i < 4; i++)
        CU_ASSERT_EQUAL(fixture_wait(reapers[i]), 0);
    CU_ASSERT_EQUAL(atomic_load(&one->header->retired_counters[LR_C_puts]), 200);
    end(&scene);
}

void larder_suite_25_participants(void);
void larder_suite_25_participants(void) {
    CU_pSuite suite = CU_add_suite("25_participants", NULL, NULL);
    CU_ADD_TEST(suite, handles_have_slots_of_their_own_and_see_each_other_alive);
    CU_ADD_TEST(suite, leaving_frees_the_slot_and_keeps_the_counts);
    CU_ADD_TEST(suite, a_generation_is_never_zero);
    CU_ADD_TEST(suite, when_all_slots_are_taken_that_is_said_and_the_dead_make_room);
    CU_ADD_TEST(suite, a_crowd_that_joins_at_once_shares_no_slot);
    CU_ADD_TEST(suite, a_storm_of_kills_does_not_use_up_the_table);
    CU_ADD_TEST(suite, a_killed_participant_is_seen_dead_and_reaped_once);
    CU_ADD_TEST(suite, a_pinned_block_counts_whatever_is_scribbled);
    CU_ADD_TEST(suite, ones_own_slot_is_never_dead);
    CU_ADD_TEST(suite, closing_all_descriptors_keeps_the_participant_alive);
    CU_ADD_TEST(suite, closing_another_descriptor_of_the_file_drops_no_lock);
    CU_ADD_TEST(suite, two_handles_never_share_a_probe_descriptor);
    CU_ADD_TEST(suite, exec_ends_the_participant_and_leaks_no_lock);
    CU_ADD_TEST(suite, without_the_liveness_file_everybody_counts_as_alive);
    CU_ADD_TEST(suite, a_forked_child_gets_a_slot_of_its_own);
    CU_ADD_TEST(suite, a_parents_death_is_seen_although_its_child_lives);
    CU_ADD_TEST(suite, threads_of_a_child_join_once_together);
    CU_ADD_TEST(suite, many_reapers_reap_once);
}
