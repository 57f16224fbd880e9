/* SPDX-License-Identifier: MIT */
/* One round of the storm: who is started, paused, watched and counted. */
#include "storm.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "attachment.h"

#define LOOK_MS 20u      /* between two looks of the conductor */
#define KEEP_MS 3u       /* between two rounds of the keeper */
#define FLUSH_EVERY 150u /* rounds of the keeper */
#define TOMBSTONE_MS 10u
#define NURSERY_MS 20000u /* a worker that lives longer has not been killed by its timer */
#define FAILED_MS 2000u   /* who does not end when something has failed is what is stuck */
#define AHEAD 200u        /* kills that nobody has yet read for; then they come slowly */
#define BARREN_MS 20000u  /* a segment in which nothing is found for so long has lost what it held */

const char *storm_call_name(uint32_t call) {
    static const char *const names[] = {
#define X(name) #name,
        STORM_CALLS(X)
#undef X
    };
    return call < CALL_COUNT ? names[call] : "?";
}

void storm_fail(struct storm_board *board, const char *format, ...) {
    uint32_t nobody = 0;
    const bool first = atomic_compare_exchange_strong(&board->failed, &nobody, 1);
    atomic_store(&board->stop, 1); /* at once: who fails may be killed before they have said why */
    if (first) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(board->broken, sizeof board->broken, format, arguments);
        va_end(arguments);
    }
}

enum storm_kind storm_kind_of(const struct storm_plan *plan, uint32_t key) {
    uint32_t row = key / plan->writers % 8;
    return row == 0 ? STORM_NUMBER : row < 3 ? STORM_TTL : STORM_PLAIN;
}

/* ---- a nursery: one worker after the other -------------------------------------------------------------------- */

/* The worker is dead: what does that say? */
static void bury(struct storm *storm, unsigned number, int status) {
    struct storm_board *board = storm->board;
    struct storm_actor *actor = &board->writers[number];
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
        uint64_t kills = atomic_fetch_add(&board->kills, 1) + 1;
        double share = (double)kills / (double)storm->plan->kills;
        atomic_store(&board->reads_due, share < 1 ? (uint64_t)(share * (double)storm->plan->reads) : UINT64_MAX / 2);
        if (atomic_load(&actor->state) != 2)
            atomic_fetch_add(&board->joins_killed, 1);
    } else if (WIFSIGNALED(status)) {
        storm_fail(board, "worker %u died of signal %d in %s", number, WTERMSIG(status),
                   storm_call_name(atomic_load(&actor->call)));
    } else if (!storm_stopped(storm)) {
        storm_fail(board, "worker %u exited with %d", number, WEXITSTATUS(status));
    }
    atomic_store(&actor->began_ns, 0);
}

static uint64_t judged(const struct storm_board *board) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < STORM_WRITERS; i++)
        sum += atomic_load(&board->writers[i].judged);
    for (unsigned i = 0; i < STORM_READERS; i++)
        sum += atomic_load(&board->readers[i].judged);
    return sum;
}

/* On a busy machine a reader may get less of it than so many workers. */
static bool is_ahead(const struct storm *storm) {
    const struct storm_plan *plan = storm->plan;
    double due = (double)judged(storm->board) / (double)plan->reads * (double)plan->kills;
    return (double)atomic_load(&storm->board->kills) > due + AHEAD;
}

static int run_nursery(struct storm *storm, unsigned number, uint64_t seed) {
    struct storm_actor *actor = &storm->board->writers[number];
    struct fixture_random random = {seed};
    storm_expect(storm);
    for (uint64_t life = 0; !storm_stopped(storm); life++) {
        if (atomic_load(&storm->board->calm)) {
            atomic_store(&actor->state, 1);
            fixture_sleep_ms(1);
            continue;
        }
        atomic_store(&actor->state, 0);
        if (is_ahead(storm)) /* but go on: after a flush there is nothing to read */
            fixture_sleep_ms(10);
        uint64_t its_seed = fixture_next(&random);
        int status = storm_live(storm, number, its_seed);
        if (status < 0) {
            storm_fail(storm->board, "nursery %u: %s", number, strerror(errno));
            break;
        }
        bury(storm, number, status);
    }
    return 0;
}

/* ---- the keeper ---------------------------------------------------------------------------------------------------
 */

/* What larderd does with hints and epochs when every peer acknowledges at once. */
static void acknowledge(struct storm *storm, struct storm_actor *actor, uint32_t stripe) {
    uint32_t epoch;
    uint64_t head;
    storm_enter(actor, CALL_epoch);
    int error = lr_epoch_begin(storm->cache, stripe, &epoch, &head);
    if (error == 0) {
        lr_feed_acked(storm->cache, stripe, head);
        lr_epoch_acked(storm->cache, stripe, epoch);
    }
    (void)lr_feed_take_rescan(storm->cache, stripe);
    storm_leave(actor);
}

static void flush(struct storm *storm, struct storm_actor *actor, uint64_t *known) {
    for (uint32_t key = 0; key < storm->plan->keys; key++)
        known[key] = history_known(storm->history, key);
    storm_enter(actor, CALL_flush);
    int error = lr_flush(storm->cache);
    storm_leave(actor);
    for (uint32_t key = 0; key < storm->plan->keys && error >= 0; key++)
        history_removed(storm->history, key, known[key]);
}

static int run_keeper(struct storm *storm, uint64_t seed) {
    struct storm_actor *actor = &storm->board->keeper;
    struct fixture_random random = {seed};
    uint64_t *known = calloc(storm->plan->keys, sizeof *known);
    for (uint64_t round = 1; known != NULL && !storm_stopped(storm); round++) {
        uint32_t stripe = (uint32_t)fixture_below(&random, lr_stripe_count(storm->cache));
        storm_enter(actor, CALL_sweep);
        (void)lr_sweep(storm->cache, stripe, 32, TOMBSTONE_MS);
        storm_leave(actor);
        /* Not every time: entries that go unshipped leave tombstones and voids. */
        if (storm->plan->replicating && fixture_below(&random, 4) == 0)
            acknowledge(storm, actor, stripe);
        if (fixture_below(&random, FLUSH_EVERY) == 0)
            flush(storm, actor, known);
        if (round % 16 == 0) {
            storm_enter(actor, CALL_reap);
            (void)lr_reap(storm->cache);
            storm_leave(actor);
        }
        fixture_sleep_ms(KEEP_MS);
    }
    free(known);
    return 0;
}

/* ---- the conductor --------------------------------------------------------------------------------------------------
 */

enum role { ROLE_NURSERY, ROLE_READER, ROLE_KEEPER };

struct cast {
    pid_t pids[STORM_WRITERS + STORM_READERS + 1];
    unsigned count;
};

static int play(struct storm *storm, enum role role, unsigned number, uint64_t seed, pid_t parent) {
    char why[LR_WHY_BYTES];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        return 1;
    int error = lr_cache_attach(&storm->options, &storm->cache, why);
    if (error != 0) {
        storm_fail(storm->board, "attach: %s", why);
        return 1;
    }
    int status = role == ROLE_NURSERY  ? run_nursery(storm, number, seed)
                 : role == ROLE_READER ? storm_reader(storm, number, seed)
                                       : run_keeper(storm, seed);
    lr_cache_detach(storm->cache);
    return status;
}

static void start(struct storm *storm, struct cast *cast, enum role role, unsigned number,
                  struct fixture_random *random) {
    struct storm own = *storm;
    uint64_t seed = fixture_next(random);
    pid_t parent = getpid(), child = fork();
    if (child == 0)
        _exit(play(&own, role, number, seed, parent));
    if (child < 0)
        storm_fail(storm->board, "fork: %s", strerror(errno));
    else
        cast->pids[cast->count++] = child;
}

static void watch_one(struct storm_board *board, struct storm_actor *actor, const char *who, unsigned number,
                      uint64_t limit_ms) {
    uint64_t began = atomic_load(&actor->began_ns), now = fixture_now_ns();
    uint32_t call = atomic_load(&actor->call);
    if (began != 0 && now > began && now - began > limit_ms * 1000000u && atomic_load(&actor->began_ns) == began)
        storm_fail(board, "%s %u is stuck in %s for %" PRIu64 " ms", who, number, storm_call_name(call),
                   (now - began) / 1000000);
}

static void watch_all(const struct storm *storm) {
    for (unsigned i = 0; i < storm->plan->writers; i++)
        watch_one(storm->board, &storm->board->writers[i], "worker", i, STORM_STUCK_MS);
    for (unsigned i = 0; i < storm->plan->readers; i++)
        watch_one(storm->board, &storm->board->readers[i], "reader", i, STORM_STUCK_MS);
    watch_one(storm->board, &storm->board->keeper, "keeper", 0, STORM_STUCK_MS);
}

static void check(const struct storm *storm) {
    struct lr_check check;
    (void)lr_reap(storm->cache);
    int error = lr_check(storm->cache, &check);
    if (error != 0 && check.findings != 0)
        storm_fail(storm->board, "check: %" PRIu64 " findings, the first: %s", check.findings, check.first[0]);
    else if (error != 0)
        storm_fail(storm->board, "check: %s", lr_error_name(error));
}

/* Lets every worker die and no new one be born, then looks at the segment. Readers and the keeper go on. */
static void calm_down_and_check(const struct storm *storm) {
    struct storm_board *board = storm->board;
    uint64_t since = fixture_now_ns();
    unsigned resting = 0;
    atomic_store(&board->calm, 1);
    while (resting < storm->plan->writers && !storm_stopped(storm)) {
        fixture_sleep_ms(1);
        for (resting = 0; resting < storm->plan->writers && atomic_load(&board->writers[resting].state) == 1; resting++)
            continue;
        if (fixture_now_ns() - since > NURSERY_MS * UINT64_C(1000000))
            storm_fail(board, "worker %u does not die", resting);
    }
    if (!storm_stopped(storm))
        check(storm);
    for (unsigned i = 0; i < storm->plan->writers; i++)
        atomic_store(&board->writers[i].state, 0);
    atomic_store(&board->calm, 0);
}

static void conduct(const struct storm *storm, struct storm_result *result) {
    const struct storm_plan *plan = storm->plan;
    struct storm_board *board = storm->board;
    uint64_t checked = 0, reads = 0, read_ns = fixture_now_ns();
    while (!storm_stopped(storm)) {
        fixture_sleep_ms(LOOK_MS);
        watch_all(storm);
        uint64_t kills = atomic_load(&board->kills), now_reads = judged(board);
        if (kills >= plan->kills && now_reads >= plan->reads)
            break;
        if (now_reads != reads)
            reads = now_reads, read_ns = fixture_now_ns();
        else if (fixture_now_ns() - read_ns > BARREN_MS * UINT64_C(1000000))
            storm_fail(board, "nothing was found for %u s", BARREN_MS / 1000);
        if (kills - checked >= plan->calm_kills) {
            calm_down_and_check(storm);
            result->checks++;
            checked = atomic_load(&board->kills);
        }
    }
    atomic_store(&board->stop, 1);
}

static void end(struct storm *storm, struct cast *cast) {
    uint64_t since = fixture_now_ns();
    unsigned left = cast->count;
    while (left > 0) {
        int status;
        pid_t dead = waitpid(-1, &status, WNOHANG);
        for (unsigned i = 0; dead > 0 && i < cast->count; i++) {
            if (cast->pids[i] != dead)
                continue;
            left--;
            cast->pids[i] = 0;
            if (WIFSIGNALED(status))
                storm_fail(storm->board, "an actor died of signal %d", WTERMSIG(status));
        }
        if (dead <= 0)
            fixture_sleep_ms(1);
        const uint64_t patience_ms = atomic_load(&storm->board->failed) != 0 ? FAILED_MS : NURSERY_MS;
        if (fixture_now_ns() - since > patience_ms * UINT64_C(1000000)) {
            storm_fail(storm->board, "%u actors do not end", left);
            for (unsigned i = 0; i < cast->count; i++)
                if (cast->pids[i] != 0)
                    kill(cast->pids[i], SIGKILL);
        }
    }
}

static void add_actor(struct storm_result *result, const struct storm_actor *actor) {
    uint64_t longest = atomic_load(&actor->longest_ns);
    result->judged += atomic_load(&actor->judged);
    result->pinned += atomic_load(&actor->pinned);
    result->misses += atomic_load(&actor->misses);
    result->changes += atomic_load(&actor->changes);
    result->refused += atomic_load(&actor->refused);
    if (longest > result->longest_ns)
        result->longest_ns = longest;
}

/* After the end: the figures, and what may not have happened at all. */
static void sum_up(const struct storm *storm, struct storm_result *result) {
    struct lr_stat stat;
    lr_stat(storm->cache, &stat);
    for (unsigned i = 0; i < STORM_WRITERS; i++)
        add_actor(result, &storm->board->writers[i]);
    for (unsigned i = 0; i < STORM_READERS; i++)
        add_actor(result, &storm->board->readers[i]);
    add_actor(result, &storm->board->keeper);
    result->kills = atomic_load(&storm->board->kills);
    result->joins_killed = atomic_load(&storm->board->joins_killed);
    result->takeovers = stat.counters[LR_C_takeovers];
    result->repairs = stat.counters[LR_C_repairs];
    result->repair_ns = stat.counters[LR_C_repair_ns];
    result->repair_dropped = stat.counters[LR_C_repair_dropped];
    result->corrupt_seen = stat.counters[LR_C_corrupt_seen];
    result->busy = stat.counters[LR_C_busy];
    result->evictions = stat.stripe_counters[LR_S_evictions];
    result->slides = stat.stripe_counters[LR_S_slides];
    result->splits = stat.stripe_counters[LR_S_splits];
    result->voids = stat.stripe_counters[LR_S_voids_raised];
    result->expirations = stat.stripe_counters[LR_S_expirations];
    result->index_evictions = stat.stripe_counters[LR_S_index_evictions];
    if (result->repair_dropped != 0 || result->corrupt_seen != 0)
        storm_fail(storm->board, "repair dropped %" PRIu64 " items, %" PRIu64 " references were impossible",
                   result->repair_dropped, result->corrupt_seen);
    if (result->busy != 0)
        storm_fail(storm->board, "%" PRIu64 " calls gave up waiting for a lock", result->busy);
}

static bool open_round(struct storm *storm, char name[65]) {
    const struct storm_plan *plan = storm->plan;
    char why[LR_WHY_BYTES] = "";
    fixture_name(name);
    storm->options = lr_options_default();
    storm->options.name = name;
    storm->options.size = plan->size;
    storm->options.stripes = plan->stripes;
    storm->options.wait_ms = STORM_WAIT_MS;
    storm->board = mmap(NULL, sizeof *storm->board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    storm->history = history_create(plan->keys);
    int error = lr_cache_create(&storm->options, &storm->cache, why);
    if (storm->board != MAP_FAILED && storm->history != NULL && error == 0)
        return true;
    fprintf(stderr, "storm: a round cannot begin: %s %s\n", strerror(errno), why);
    return false;
}

static void close_round(struct storm *storm) {
    char why[LR_WHY_BYTES] = "";
    lr_cache_detach(storm->cache);
    if (lr_cache_destroy(&storm->options, why) != 0)
        storm_fail(storm->board, "destroy: %s", why);
    history_destroy(storm->history);
}

bool storm_run(const struct storm_plan *plan, struct storm_result *result) {
    struct storm storm = {.plan = plan};
    struct cast cast = {0};
    struct fixture_random random = {plan->seed};
    char name[65];
    *result = (struct storm_result){0};
    if (!open_round(&storm, name)) {
        snprintf(result->broken, sizeof result->broken, "a round cannot begin");
        return false;
    }
    lr_set_replicating(storm.cache, plan->replicating);
    fflush(NULL);
    for (unsigned i = 0; i < plan->writers; i++)
        start(&storm, &cast, ROLE_NURSERY, i, &random);
    for (unsigned i = 0; i < plan->readers; i++)
        start(&storm, &cast, ROLE_READER, i, &random);
    start(&storm, &cast, ROLE_KEEPER, 0, &random);
    conduct(&storm, result);
    end(&storm, &cast);
    check(&storm);
    result->checks++;
    sum_up(&storm, result);
    close_round(&storm);
    memcpy(result->broken, storm.board->broken, sizeof result->broken);
    bool held = atomic_load(&storm.board->failed) == 0;
    munmap(storm.board, sizeof *storm.board);
    return held;
}
