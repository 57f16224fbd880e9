/* SPDX-License-Identifier: MIT */
/*
 * How a run is played: users write and read at all hosts, the conductor lets the network and the daemons suffer. Then
 * everything is mended, users end, and the oracle judges.
 */
#include "hosts.h"

#include "harness.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>

#define REST_MS 120000u
#define RUN_S 900u /* of one run, before it is given up */

bool hosts_logging;

void hosts_fail(struct hosts_board *board, const char *format, ...) {
    if (atomic_flag_test_and_set(&board->telling))
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(board->failure, sizeof board->failure, format, arguments);
    va_end(arguments);
    atomic_store(&board->failed, 1);
}

bool hosts_failed(const struct hosts_run *run) {
    return atomic_load(&run->board->failed) != 0;
}

void hosts_log(const struct hosts_run *run, const char *format, ...) {
    if (!hosts_logging)
        return;
    printf("%7.3f ", (double)(fixture_now_ns() - run->began_ns) / 1e9);
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

/* ---- faults ------------------------------------------------------------------------------------------------------ */

static uint32_t maybe(struct hosts_run *run, unsigned percent, uint32_t least, uint32_t most) {
    uint32_t drawn = least + (uint32_t)hosts_below(run, most - least + 1);
    return hosts_percent(run, percent) ? drawn : 0;
}

static void change_wire(struct hosts_run *run, unsigned from, unsigned to) {
    struct hosts_way *way = &run->board->ways[from][to];
    bool clean = hosts_percent(run, 20);
    unsigned often = clean ? 0 : 50, seldom = clean ? 0 : 25;
    atomic_store(&way->loss, maybe(run, often, 50, 2000));
    atomic_store(&way->delay_us, maybe(run, often, 1000, 60000));
    atomic_store(&way->jitter_us, maybe(run, often, 1000, 40000));
    atomic_store(&way->twice, maybe(run, seldom, 100, 1000));
    atomic_store(&way->flip, maybe(run, seldom, 50, 500));
    atomic_store(&way->forge, maybe(run, often, 10, 100));
    atomic_store(&way->bytes_per_s, maybe(run, seldom, 20000, 500000));
    hosts_log(run,
              "from host %u to %u: loses %.1f %%, %.1f ms and up to %.1f more, %.1f %% twice, %.1f %% flipped, "
              "%.1f %% forged, %u bytes/s",
              from, to, way->loss / 100.0, way->delay_us / 1e3, way->jitter_us / 1e3, way->twice / 100.0,
              way->flip / 100.0, way->forge / 100.0, way->bytes_per_s);
}

static void cut_way(struct hosts_run *run, unsigned from, unsigned to, bool cut) {
    atomic_store(&run->board->ways[from][to].cut, cut);
}

static void cut_off(struct hosts_run *run, unsigned host, bool cut) {
    hosts_log(run, "host %u is %s", host, cut ? "cut off" : "reached again");
    for (unsigned other = 0; other < run->plan.hosts; other++) {
        cut_way(run, host, other, cut);
        cut_way(run, other, host, cut);
    }
}

static void cut(struct hosts_run *run, unsigned from, unsigned to) {
    bool on = atomic_load(&run->board->ways[from][to].cut) == 0;
    unsigned how = (unsigned)hosts_below(run, 5);
    if (how == 0) {
        cut_off(run, from, on);
        return;
    }
    hosts_log(run, "from host %u to %u%s: %s", from, to, how < 3 ? "" : " and back", on ? "cut" : "mended");
    cut_way(run, from, to, on);
    if (how >= 3)
        cut_way(run, to, from, on);
}

static void kill_daemon(struct hosts_run *run, unsigned host) {
    bool again = hosts_percent(run, 60);
    if (run->hosts[host].daemon > 0)
        hosts_daemon_end(run, host, SIGKILL);
    else
        again = true;
    if (again)
        hosts_daemon_start(run, host);
}

static void end_daemon(struct hosts_run *run, unsigned host) {
    bool again = hosts_percent(run, 60);
    struct hosts_answer answer;
    bool ready = !run->hosts[host].stopped &&
                 hosts_daemon_ask(run, host, &answer); /* else the signal may come before it can be heard */
    int status = hosts_daemon_end(run, host, SIGTERM);
    if (status != 0 && (ready || status != -SIGTERM))
        hosts_fail(run->board, "host %u: its larderd was to end, and did so with status %d", host, status);
    if (again)
        hosts_daemon_start(run, host);
}

/* With the daemon and what it had under way. Some of it may be on the wire. */
static void lose_segment(struct hosts_run *run, unsigned number) {
    struct hosts_host *host = &run->hosts[number];
    struct lr_options options = lr_options_default();
    options.name = host->name;
    hosts_users_rest(run, number);
    hosts_daemon_end(run, number, SIGKILL);
    hosts_forget(run, number);
    hosts_log(run, "host %u: its segment is lost", number);
    lr_cache_detach(host->cache);
    host->cache = NULL;
    if (lr_cache_destroy(&options, NULL) != 0)
        hosts_fail(run->board, "host %u: its segment cannot be destroyed", number);
    hosts_daemon_start(run, number);
    hosts_users_work(run, number);
}

static void flush(struct hosts_run *run, unsigned host) {
    struct hosts_user eye = hosts_eye(run, host);
    hosts_log(run, "host %u is flushed", host);
    hosts_flush(&eye);
}

/* One at a time, and never the last: who has no peers keeps no tombstones for one that may come. */
static void change_peer(struct hosts_run *run, unsigned host, unsigned other) {
    const struct hosts_host *at = &run->hosts[host];
    if (run->plan.hosts < 3 || at->daemon == 0 || at->stopped)
        return;
    if (at->without == HOSTS_MOST)
        hosts_daemon_change_peer(run, host, other, false);
    else
        hosts_daemon_change_peer(run, host, at->without, true);
}

static enum hosts_trouble draw_trouble(struct hosts_run *run) {
    static const unsigned weights[] = {
#define X(name, weight) weight,
        HOSTS_TROUBLES(X)
#undef X
    };
    unsigned all = 0, kind = 0;
    for (unsigned i = 0; i < HOSTS_TROUBLE_COUNT; i++)
        all += run->plan.troubles >> i & 1 ? weights[i] : 0;
    for (unsigned dice = (unsigned)hosts_below(run, all);; kind++) {
        unsigned weight = run->plan.troubles >> kind & 1 ? weights[kind] : 0;
        if (dice < weight)
            return (enum hosts_trouble)kind;
        dice -= weight;
    }
}

static void trouble(struct hosts_run *run) {
    unsigned host = (unsigned)hosts_below(run, run->plan.hosts);
    unsigned other = (host + 1 + (unsigned)hosts_below(run, run->plan.hosts - 1)) % run->plan.hosts;
    enum hosts_trouble kind = draw_trouble(run);
    if (kind == HOSTS_WIRE)
        change_wire(run, host, other);
    if (kind == HOSTS_CUT)
        cut(run, host, other);
    if (kind == HOSTS_LINK) {
        hosts_log(run, "host %u: its device goes %s", host, run->hosts[host].down ? "up" : "down");
        hosts_place_link(run, host, run->hosts[host].down);
    }
    if (kind == HOSTS_KILL)
        kill_daemon(run, host);
    if (kind == HOSTS_END)
        end_daemon(run, host);
    if (kind == HOSTS_STOP)
        hosts_daemon_stop(run, host, !run->hosts[host].stopped);
    if (kind == HOSTS_LOSS)
        lose_segment(run, host);
    if (kind == HOSTS_PEER)
        change_peer(run, host, other);
    if (kind == HOSTS_FLUSH)
        flush(run, host);
}

static void mend(struct hosts_run *run) {
    hosts_log(run, "everything is mended");
    for (unsigned from = 0; from < run->plan.hosts; from++) {
        for (unsigned to = 0; to < run->plan.hosts; to++) {
            struct hosts_way *way = &run->board->ways[from][to];
            _Atomic uint32_t *const settings[] = {&way->cut,   &way->loss,     &way->twice,     &way->flip,
                                                  &way->forge, &way->delay_us, &way->jitter_us, &way->bytes_per_s};
            for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
                atomic_store(settings[i], 0);
        }
        if (run->hosts[from].down)
            hosts_place_link(run, from, true);
        hosts_daemon_stop(run, from, false);
        if (run->hosts[from].daemon == 0)
            hosts_daemon_start(run, from);
        if (run->hosts[from].without != HOSTS_MOST)
            hosts_daemon_change_peer(run, from, run->hosts[from].without, true);
    }
}

/* ---- a run ------------------------------------------------------------------------------------------------------- */

static unsigned storm(struct hosts_run *run) {
    unsigned troubles = 0;
    for (unsigned from = 0; from < run->plan.hosts; from++)
        for (unsigned to = 0; to < run->plan.hosts; to++)
            if (from != to && hosts_percent(run, 40))
                change_wire(run, from, to);
    hosts_users_start(run);
    for (unsigned ms = 0; ms < run->plan.storm_ms && !hosts_failed(run); troubles++) {
        unsigned pause_ms = 100 + (unsigned)hosts_below(run, 600);
        fixture_sleep_ms(pause_ms);
        ms += pause_ms;
        trouble(run);
        hosts_daemons_look(run);
    }
    mend(run);
    fixture_sleep_ms(300);
    hosts_users_end(run);
    return troubles;
}

static void act_somewhere(struct hosts_run *run) {
    struct hosts_user eye = hosts_eye(run, (unsigned)hosts_below(run, run->plan.hosts));
    unsigned key = (unsigned)hosts_below(run, run->plan.keys);
    size_t len = run->plan.value_least + hosts_below(run, run->plan.value_most - run->plan.value_least + 1);
    eye.random.state = fixture_next(&run->random);
    hosts_put(&eye, key, len, 0);
}

/* A link from which nothing comes for 3 s counts as down. */
static void expect_alone(struct hosts_run *run, unsigned away) {
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        struct hosts_answer answer;
        unsigned most = host == away ? 0 : run->plan.hosts - 2;
        if (hosts_daemon_ask(run, host, &answer) && answer.live > most)
            hosts_fail(run->board, "host %u was cut off for %u ms, and host %u is in step with %u peers", away,
                       run->plan.partition_ms, host, answer.live);
    }
}

static unsigned partition(struct hosts_run *run) {
    static struct hosts_snapshot before;
    unsigned changes = 5 + (unsigned)hosts_below(run, 10);
    for (unsigned key = 0; key < 2 * run->plan.keys; key++) {
        act_somewhere(run);
        if (key % 16 == 0)
            fixture_sleep_ms(10);
    }
    hosts_rest(run, REST_MS);
    unsigned away = (unsigned)hosts_below(run, run->plan.hosts);
    cut_off(run, away, true);
    for (unsigned i = 0; i < changes && !hosts_failed(run); i++) {
        act_somewhere(run);
        fixture_sleep_ms(run->plan.partition_ms / changes);
    }
    expect_alone(run, away);
    hosts_snapshot_take(run, &before);
    mend(run);
    if (hosts_rest(run, REST_MS))
        hosts_snapshot_compare(run, &before, changes);
    return 1;
}

static bool set_up(struct hosts_run *run) {
    static const char *const ways[] = {"without keys", "with a pre-shared key", "with certificates"};
    run->board = harness_share(sizeof *run->board);
    run->began_ns = fixture_now_ns();
    hosts_log(run, "%s: %u hosts %s, %u keys", run->plan.scene, run->plan.hosts, ways[run->plan.security],
              run->plan.keys);
    if (!hosts_place_make(run) || !hosts_wire_start(run))
        return false;
    hosts_daemons_init(run);
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        hosts_log(run, "host %u has %" PRIu64 " KiB", host, run->plan.sizes[host] / 1024);
        hosts_daemon_start(run, host);
    }
    if (!hosts_rest(run, REST_MS))
        return false;
    for (unsigned host = 0; host < run->plan.hosts; host++)
        run->hosts[host].descriptors = hosts_daemon_descriptors(run, host);
    return true;
}

static void check_segment(struct hosts_run *run, unsigned host) {
    struct lr_check check;
    if (run->hosts[host].cache != NULL && lr_check(run->hosts[host].cache, &check) != 0)
        hosts_fail(run->board, "host %u: check has %" PRIu64 " findings: %s", host, check.findings, check.first[0]);
}

static void tear_down(struct hosts_run *run) {
    hosts_users_end(run);
    bool failed = hosts_failed(run);
    if (failed && !hosts_logging)
        hosts_daemons_tell(run);
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        struct lr_options options = lr_options_default();
        int status = hosts_daemon_end(run, host, failed ? SIGKILL : SIGTERM);
        if (status != 0 && !failed)
            hosts_fail(run->board, "host %u: at the end its larderd ends with status %d", host, status);
        check_segment(run, host);
        lr_cache_detach(run->hosts[host].cache);
        options.name = run->hosts[host].name;
        if (run->hosts[host].cache != NULL)
            lr_cache_destroy(&options, NULL);
    }
    hosts_wire_end(run);
    hosts_place_free(run);
}

static void add_up(const struct hosts_run *run, struct hosts_totals *totals) {
    const struct hosts_board *board = run->board;
    totals->puts += board->puts, totals->deletes += board->deletes, totals->gets += board->gets;
    totals->hits += board->hits, totals->busy += board->busy, totals->awaited += board->awaited;
    for (unsigned from = 0; from < run->plan.hosts; from++) {
        for (unsigned to = 0; to < run->plan.hosts; to++) {
            const struct hosts_way *way = &board->ways[from][to];
            totals->packets += way->packets, totals->lost += way->lost;
            totals->flipped += way->flipped, totals->forged += way->forged;
        }
        if (run->hosts[from].memory_most > totals->memory_most)
            totals->memory_most = run->hosts[from].memory_most;
    }
}

bool hosts_play(uint64_t seed, uint64_t number, unsigned scene, bool longer, char why[400],
                struct hosts_totals *totals) {
    static struct hosts_run run;
    run = (struct hosts_run){.seed = seed, .number = number, .random = {seed}};
    run.random.state = fixture_next(&run.random) ^ (number + 1) * UINT64_C(0xd1b54a32d192ed03);
    alarm(RUN_S);
    hosts_plan_draw(&run, scene, longer);
    if (set_up(&run)) {
        totals->troubles += run.plan.partition_ms > 0 ? partition(&run) : storm(&run);
        if (hosts_rest(&run, REST_MS))
            hosts_judge(&run);
    }
    tear_down(&run);
    alarm(0);
    add_up(&run, totals);
    bool failed = hosts_failed(&run);
    snprintf(why, 400, "%s: %s", run.plan.scene, run.board->failure);
    munmap(run.board, sizeof *run.board);
    return !failed;
}
