/* SPDX-License-Identifier: MIT */
/*
 * larder-contain: containers that share one segment, in a storm of kills.
 *
 *      harness (creates, watches, checks at the end)
 *        lane 0   PID namespace                                     glibc
 *        lane 1   PID namespace, time namespace 200000 s ahead      glibc
 *        lane 2   PID namespace, time namespace 300 s behind        musl
 *        lane 3   PID namespace, another user in the group (0660)   glibc
 *
 * Each lane has one worker at a time, in a PID namespace of its own: so every worker is pid 1, and thread 1, in its own
 * eyes. A lane's process kills its worker after some milliseconds and starts the next one. (It has to come from
 * outside: nobody in a PID namespace can kill its pid 1.)
 */
#include "cache.h"
#include "contain/board.h"
#include "harness.h"
#include "keeper.h"
#include "namespaces.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

#define SEGMENT_BYTES (UINT64_C(16) << 20)
#define GROUP 4242u
#define NOBODY 65534u
#define STUCK_MS 30000u
#define AHEAD_LANE 1u
#define MUSL_LANE 2u
#define USER_LANE 3u

struct storm {
    uint64_t seconds, seed;
    bool kept;
    bool root; /* in the initial user namespace: can be another user, and look behind */
    bool musl;
    struct contain_board *board;
    int board_fd;
    char folder[64];
    char path[128]; /* what workers attach to */
    char self[512], other[520];
    struct lr_options options;
    struct lr_cache *cache;
    struct lr_keeper *keeper;
    pid_t lanes[CONTAIN_LANES];
};

static int skip(const char *why) {
    printf("SKIPPED larder-contain: %s\n", why);
    return 77;
}

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void sleep_us(uint64_t us) {
    nanosleep(&(struct timespec){(time_t)(us / 1000000), (long)(us % 1000000) * 1000}, NULL);
}

static uint64_t next(uint64_t *random) {
    uint64_t x = *random += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ (x >> 31);
}

/* ---- a lane ----------------------------------------------------------------------------------------------------- */

static void become_worker(const struct storm *storm, unsigned lane, uint64_t seed) {
    char fd[16], number[16], random[24];
    snprintf(fd, sizeof fd, "%d", storm->board_fd);
    snprintf(number, sizeof number, "%u", lane);
    snprintf(random, sizeof random, "0x%" PRIx64, seed);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    gid_t group = GROUP;
    if (lane == USER_LANE && storm->root && (setgroups(1, &group) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0))
        _exit(3);
    if (lane == MUSL_LANE && storm->musl)
        execl(storm->other, "larder-contain-musl", fd, storm->path, number, random, (char *)NULL);
    else
        execl(storm->self, "larder-contain", "--worker", fd, storm->path, number, random, (char *)NULL);
    _exit(127);
}

/* Whether it came to an end by itself, within reason. */
static bool wait_for(pid_t worker, int *status) {
    for (uint64_t end = now_ms() + STUCK_MS; now_ms() < end; sleep_us(500))
        if (waitpid(worker, status, WNOHANG) == worker)
            return true;
    return false;
}

/* Far ahead, or behind: by 300 s, or half of what a young machine has been up, for no namespace's clock is negative. */
static bool enter_other_time(unsigned lane) {
    struct timespec up;
    char offset[64];
    clock_gettime(CLOCK_BOOTTIME, &up);
    const long behind = up.tv_sec / 2 < 300 ? up.tv_sec / 2 : 300;
    if (lane != AHEAD_LANE && lane != MUSL_LANE)
        return true;
    snprintf(offset, sizeof offset, "boottime %ld 0\n", lane == AHEAD_LANE ? 200000 : -behind);
    return unshare(CLONE_NEWTIME) == 0 && namespaces_write("/proc/self/timens_offsets", offset);
}

/* Three kills in four wait for the worker to work; the others come while it attaches or rests as well. */
static void await_work(const struct storm *storm, unsigned lane, uint64_t dice) {
    for (unsigned i = 0; i < 200 && dice % 4 != 0 && atomic_load(&storm->board->working[lane]) == 0; i++)
        sleep_us(20);
}

static int run_lane(struct storm *storm, unsigned lane) {
    uint64_t random = storm->seed + lane;
    int status;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!enter_other_time(lane)) {
        atomic_store(&storm->board->stop, 1);
        return 77;
    }
    while (atomic_load(&storm->board->stop) == 0) {
        atomic_store(&storm->board->working[lane], 0);
        pid_t worker = namespaces_fork();
        if (worker < 0)
            return 77;
        if (worker == 0)
            become_worker(storm, lane, next(&random));
        uint64_t life_us = next(&random) % 8 == 0 ? next(&random) % 300000 : 1000 + next(&random) % 20000;
        for (uint64_t end = now_ms() + life_us / 1000 + 1; now_ms() < end && atomic_load(&storm->board->stop) == 0;)
            sleep_us(life_us % 1000 + 100);
        if (atomic_load(&storm->board->stop) != 0) {
            if (!wait_for(worker, &status)) {
                contain_report(storm->board, CONTAIN_stuck, "lane %u: not at its end after %u ms", lane, STUCK_MS);
                kill(worker, SIGKILL);
                waitpid(worker, &status, 0);
            }
            return 0;
        }
        await_work(storm, lane, next(&random));
        kill(worker, SIGKILL);
        waitpid(worker, &status, 0);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
            atomic_fetch_add(&storm->board->killed[lane], 1);
        else if (WIFSIGNALED(status) || WEXITSTATUS(status) == 127 || WEXITSTATUS(status) == 3)
            contain_report(storm->board, CONTAIN_refused, "lane %u: a worker ended with %s %d", lane,
                           WIFSIGNALED(status) ? "signal" : "status",
                           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    return 0;
}

/* ---- the storm -------------------------------------------------------------------------------------------------- */

static bool find_programs(struct storm *storm) {
    ssize_t len = readlink("/proc/self/exe", storm->self, sizeof storm->self - 1);
    if (len <= 0)
        return false;
    storm->self[len] = 0;
    snprintf(storm->other, sizeof storm->other, "%s-musl", storm->self);
    storm->musl = access(storm->other, X_OK) == 0;
    return true;
}

/* Without root: a user namespace, in which one is. */
static bool gain_rights(struct storm *storm) {
    storm->root = geteuid() == 0 && setgroups(0, NULL) == 0;
    return storm->root || namespaces_become_root();
}

static bool make_segment(struct storm *storm) {
    char why[LR_WHY_BYTES] = "";
    snprintf(storm->folder, sizeof storm->folder, "/dev/shm/larder-contain.%ld", (long)getpid());
    if (mkdir(storm->folder, 0700) != 0 || chmod(storm->folder, 0711) != 0) {
        fprintf(stderr, "larder-contain: %s: %s\n", storm->folder, strerror(errno));
        return false;
    }
    snprintf(storm->path, sizeof storm->path, "%s%s/shared", storm->kept ? "unix:" : "", storm->folder);
    storm->options = lr_options_default();
    storm->options.path = storm->path;
    storm->options.size = SEGMENT_BYTES;
    storm->options.mode = 0660;
    storm->options.group = storm->root ? GROUP : (gid_t)-1;
    storm->options.who = "larder-contain";
    int error = storm->kept ? lr_keeper_create(&storm->options, &storm->keeper, &storm->cache, why)
                            : lr_cache_create(&storm->options, &storm->cache, why);
    if (error != 0)
        fprintf(stderr, "larder-contain: %s\n", why);
    return error == 0;
}

static bool make_board(struct storm *storm) {
    storm->board_fd = memfd_create("board", 0); /* inherited by workers */
    if (storm->board_fd < 0 || fchmod(storm->board_fd, 0666) != 0 ||
        ftruncate(storm->board_fd, (off_t)sizeof *storm->board) != 0)
        return false;
    void *memory = mmap(NULL, sizeof *storm->board, PROT_READ | PROT_WRITE, MAP_SHARED, storm->board_fd, 0);
    storm->board = memory;
    return memory != MAP_FAILED;
}

static uint64_t sum(const _Atomic uint64_t *lanes) {
    uint64_t total = 0;
    for (unsigned i = 0; i < CONTAIN_LANES; i++)
        total += atomic_load(&lanes[i]);
    return total;
}

static bool all_have_hit(const struct storm *storm) {
    unsigned lane = 0;
    while (lane < CONTAIN_LANES && atomic_load(&storm->board->hits[lane]) > 0)
        lane++;
    return lane == CONTAIN_LANES;
}

/* Until the time is over (or a lane cannot have its namespaces), and every lane has found something: on a busy machine
 * it may take a while until a worker comes that lives long enough. A keeper's work is done in between. */
static void watch(struct storm *storm) {
    uint64_t end = now_ms() + storm->seconds * 1000, told = now_ms();
    while (atomic_load(&storm->board->stop) == 0 &&
           (now_ms() < end ||
            (now_ms() < end + STUCK_MS && !all_have_hit(storm) && atomic_load(&storm->board->texts) == 0))) {
        struct pollfd ready = {.fd = storm->kept ? lr_keeper_fd(storm->keeper) : -1, .events = POLLIN};
        if (poll(&ready, 1, 10) > 0)
            lr_keeper_answer(storm->keeper);
        if (now_ms() - told >= 5000) {
            told = now_ms();
            fprintf(stderr, "larder-contain: %" PRIu64 " calls, %" PRIu64 " kills, %u violations\n",
                    sum(storm->board->calls), sum(storm->board->killed), atomic_load(&storm->board->texts));
        }
    }
}

/* 0, or 77 when a lane could not have its namespaces. */
static int end_lanes(struct storm *storm) {
    int result = 0;
    atomic_store(&storm->board->stop, 1);
    for (unsigned i = 0; i < CONTAIN_LANES; i++) {
        int status = 0;
        while (waitpid(storm->lanes[i], &status, WNOHANG) == 0) {
            if (storm->kept)
                lr_keeper_answer(storm->keeper);
            sleep_us(1000);
        }
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
            result = 77;
    }
    return result;
}

/* The segment after the storm: reaped, healthy, and nothing was evicted, for a miss counts as a loss. */
static unsigned check_segment(struct storm *storm) {
    struct lr_check check = {0};
    struct lr_stat stat;
    unsigned wrong = 0;
    (void)lr_reap(storm->cache);
    int error = lr_check(storm->cache, &check);
    for (unsigned i = 0; error != 0 && i < check.findings && i < 8; i++)
        printf("check: %s\n", check.first[i]);
    wrong += error != 0;
    lr_stat(storm->cache, &stat);
    if (stat.stripe_counters[LR_S_evictions] + stat.stripe_counters[LR_S_index_evictions] != 0) {
        printf("%" PRIu64 " items were evicted: the harness is wrong, the segment is too small\n",
               stat.stripe_counters[LR_S_evictions] + stat.stripe_counters[LR_S_index_evictions]);
        wrong++;
    }
    for (uint32_t slot = 0; slot < stat.participants; slot++) {
        struct lr_process process;
        if (lr_process(storm->cache, slot, &process) == 0 && !process.self) {
            printf("slot %" PRIu32 " (%s) is still taken, %s\n", slot, process.name, process.alive ? "alive" : "dead");
            wrong++;
        }
    }
    printf("locks taken over %" PRIu64 ", repairs %" PRIu64 ", slots reaped %" PRIu64
           ", items dropped by repair %" PRIu64 "\n",
           stat.counters[LR_C_takeovers], stat.counters[LR_C_repairs], stat.counters[LR_C_reaped],
           stat.counters[LR_C_repair_dropped]);
    return wrong;
}

static uint64_t report(const struct storm *storm, double seconds) {
    static const char *const names[] = {
#define X(name, sentence) #name ": " sentence,
        CONTAIN_VIOLATIONS(X)
#undef X
    };
    const struct contain_board *board = storm->board;
    uint64_t violations = 0;
    for (unsigned i = 0; i < CONTAIN_LANES; i++) {
        printf("lane %u: %" PRIu64 " calls, %" PRIu64 " hits, %" PRIu64 " busy, attached %" PRIu64
               " times, killed %" PRIu64 " times%s\n",
               i, atomic_load(&board->calls[i]), atomic_load(&board->hits[i]), atomic_load(&board->busy[i]),
               atomic_load(&board->attached[i]), atomic_load(&board->killed[i]),
               i == MUSL_LANE && storm->musl ? ", musl" : "");
        if (atomic_load(&board->not_pid_one[i]) > 0) {
            printf("lane %u was not pid 1\n", i);
            violations++;
        }
        if (atomic_load(&board->hits[i]) == 0) {
            printf("lane %u got nothing\n", i);
            violations++;
        }
    }
    for (unsigned i = 0; i < CONTAIN_VIOLATION_COUNT; i++)
        if (atomic_load(&board->violations[i]) > 0) {
            printf("%" PRIu64 " x %s\n", atomic_load(&board->violations[i]), names[i]);
            violations += atomic_load(&board->violations[i]);
        }
    for (unsigned i = 0; i < CONTAIN_FIRST && i < atomic_load(&board->texts); i++)
        printf("    %s\n", board->text[i]);
    if (!storm->musl)
        printf("SKIPPED the musl client: larder-contain-musl was not built (Debian: musl-tools)\n");
    printf("%.0f calls a second\n", (double)sum(board->calls) / seconds);
    return violations;
}

static void clean_up(struct storm *storm) {
    lr_keeper_close(storm->keeper);
    lr_cache_detach(storm->cache);
    if (!storm->kept && storm->cache != NULL)
        (void)lr_cache_destroy(&storm->options, NULL);
    if (storm->folder[0] != 0)
        (void)rmdir(storm->folder);
}

static int run(struct storm *storm) {
    if (!gain_rights(storm))
        return skip("neither root nor user namespaces");
    if (!find_programs(storm) || !make_segment(storm) || !make_board(storm)) {
        clean_up(storm);
        return 1;
    }
    printf("seed=0x%" PRIx64 " segment=%s\n", storm->seed, storm->path);
    fflush(stdout);
    uint64_t started = now_ms();
    for (unsigned i = 0; i < CONTAIN_LANES; i++) {
        storm->lanes[i] = fork();
        if (storm->lanes[i] == 0)
            _exit(run_lane(storm, i));
    }
    watch(storm);
    double seconds = (double)(now_ms() - started) / 1000;
    if (end_lanes(storm) != 0) {
        clean_up(storm);
        return skip("PID or time namespaces are not permitted");
    }
    uint64_t failures = check_segment(storm) + report(storm, seconds);
    clean_up(storm);
    if (failures > 0)
        printf("replay: larder-contain --seconds %" PRIu64 " --seed 0x%" PRIx64
               "%s (who is killed when is up to the scheduler)\n",
               storm->seconds, storm->seed, storm->kept ? " --kept" : "");
    printf("GOAL G10 count=%" PRIu64 " unit=seconds failures=%" PRIu64 " seconds=%.1f seed=0x%" PRIx64 "\n",
           storm->seconds, failures, seconds, storm->seed);
    return failures > 0;
}

static int usage(FILE *to, int status) {
    fputs(
        "usage: larder-contain [--seconds S] [--seed 0x...] [--kept]\n"
        "Four workers, each pid 1 of a PID namespace of its own, two in time namespaces, one built against musl, one\n"
        "another user, share a segment, are killed, and judge every value that they read.\n"
        "  --seconds S    how long (default: 30)\n"
        "  --seed SEED    of keys, values and lives; without it one is drawn\n"
        "  --kept         the segment is a memfd, handed over by a socket\n"
        "Exit status: 0 all held, 1 something broke, 2 usage, 77 cannot run here.\n",
        to);
    return status;
}

int main(int argc, char **argv) {
    static struct storm storm = {.seconds = 30};
    if (argc == 6 && strcmp(argv[1], "--worker") == 0)
        return contain_worker_main(argv + 2);
    storm.seed = harness_seed();
    bool help = false;
    const struct harness_option options[] = {
        {.name = "seconds", .number = &storm.seconds},
        {.name = "seed", .number = &storm.seed},
        {.name = "kept", .flag = &storm.kept},
        {.name = "help", .flag = &help},
        {.name = NULL},
    };
    if (!harness_parse(argv, options) || storm.seconds == 0)
        return usage(stderr, 2);
    if (help)
        return usage(stdout, 0);
    return run(&storm);
}
