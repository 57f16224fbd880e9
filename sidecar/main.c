/* SPDX-License-Identifier: MIT */
/*
 * larderd: from its flags to its end.
 *
 *   read options, keys -> listen -> attach or create -> claim the segment's one sidecar role -> run
 *        SIGHUP: read options and keys again, add and remove peers
 *        SIGTERM, SIGINT: drain (at most 5 s) -> BYE -> let go of the segment, which stays
 *
 * What is likeliest to fail comes before the segment is touched. A larderd that cannot start leaves nothing behind: the
 * segment that it created goes again, unless somebody has come to it meanwhile; one that was there stays as it was.
 *
 * One thread runs the loop and does all the work. A second one sleeps on the segment's bell and wakes the loop, for a
 * futex cannot be polled.
 *
 * With --memfd the segment is kept here (shm/keeper.c): created at the start, handed to whoever connects, and gone with
 * us.
 */
#include "command.h"
#include "control.h"
#include "discovery.h"
#include "keeper.h"
#include "log.h"
#include "tcp.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICK_MS 50u
#define BELL_MS 100u
#define GATHER_US 250u
#define DRAIN_MS 5000u
#define WARN_S (14 * 86400)
#define HOUR_MS 3600000u
#define LOCK_WAIT_MS 5u /* the loop must not sleep behind a stopped lock holder: the node tries again */

struct daemon {
    int argc;
    char *const *argv;
    struct lr_config config;
    struct lr_cache *cache;
    bool created;             /* the segment, which was not there before us */
    struct lr_keeper *keeper; /* NULL: the segment has a name */
    struct lr_node *node;
    struct lr_roster roster;
    struct lr_tcp tcp;
    struct lr_control control;
    struct lr_discovery discovery;
    uv_loop_t loop;
    uv_timer_t tick;
    uv_prepare_t before_waiting;
    uv_idle_t idle; /* runs while there is work: the loop does not wait then */
    uv_async_t bell;
    uv_thread_t bell_thread;
    uv_poll_t asked; /* somebody wants the kept segment */
    uv_signal_t term, interrupt, hangup;
    atomic_bool stop_bell;
    uint64_t drain_until_ms; /* 0: not draining */
    uint64_t keys_told_ms;
    enum lr_tls_lists lists_told;
    bool stopping;
    int status; /* of the process */
};

static int exit_status(int error) {
    switch (error) {
    case LARDER_EPERMISSION:
        return 4;
    case LARDER_EVERSION:
        return 5;
    case LARDER_ECORRUPT:
        return 6;
    case LARDER_EINVALID:
        return 2;
    default:
        return 3;
    }
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

static void close_handle(uv_handle_t *handle) {
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* Everything is closed; the loop ends when the last BYE is out. */
static void stop(struct daemon *daemon) {
    if (daemon->stopping)
        return;
    daemon->stopping = true;
    uint64_t left = lr_node_left(daemon->node, false);
    if (left > 0)
        lr_log(LR_WARN, "stopping: changes that not every peer has acknowledged left=%llu; the next larderd sends them",
               (unsigned long long)left);
    else
        lr_log(LR_INFO, "stopping: drained");
    lr_control_stop(&daemon->control);
    lr_discovery_stop(&daemon->discovery);
    lr_tcp_stop(&daemon->tcp);
    lr_node_destroy(daemon->node);
    daemon->node = NULL;
    atomic_store(&daemon->stop_bell, true);
    uv_thread_join(&daemon->bell_thread);
    close_handle((uv_handle_t *)&daemon->tick);
    close_handle((uv_handle_t *)&daemon->before_waiting);
    close_handle((uv_handle_t *)&daemon->idle);
    close_handle((uv_handle_t *)&daemon->bell);
    if (daemon->keeper != NULL)
        close_handle((uv_handle_t *)&daemon->asked);
    close_handle((uv_handle_t *)&daemon->term);
    close_handle((uv_handle_t *)&daemon->interrupt);
    close_handle((uv_handle_t *)&daemon->hangup);
}

static void on_end(uv_signal_t *handle, int number) {
    struct daemon *daemon = handle->data;
    if (daemon->drain_until_ms != 0) {
        stop(daemon);
        return;
    }
    lr_log(LR_INFO, "%s: draining left=%llu", number == SIGTERM ? "SIGTERM" : "SIGINT",
           (unsigned long long)lr_node_left(daemon->node, true));
    daemon->drain_until_ms = lr_node_now(daemon->node) + DRAIN_MS;
    lr_node_drain(daemon->node);
}

/* ---- keys ------------------------------------------------------------------------------------------------------- */

/* True, and *out is NULL, if none are configured. */
static bool load_keys(const struct lr_config *config, struct lr_tls **out, char *why) {
    struct lr_tls_files files = {.cert = config->tls_cert,
                                 .key = config->tls_key,
                                 .ca = config->tls_ca,
                                 .crl = config->tls_crl,
                                 .psk = config->tls_psk_file,
                                 .name = config->tls_name};
    *out = lr_config_has_keys(config) ? lr_tls_load(&files, why) : NULL;
    return *out != NULL || !lr_config_has_keys(config);
}

/* Every hour and, for lists may be made for a day or less, as soon as it is so. */
static void tell_lists(struct daemon *daemon, bool again) {
    const struct lr_tls *keys = daemon->tcp.keys;
    const enum lr_tls_lists now = keys != NULL ? lr_tls_lists(keys) : LR_TLS_LISTS_FINE;
    if (now != LR_TLS_LISTS_FINE && (again || now != daemon->lists_told))
        lr_log(now == LR_TLS_LISTS_ENDED ? LR_ERROR : LR_WARN,
               "keys: a list of tls_crl %s: put its successor in place, then SIGHUP",
               now == LR_TLS_LISTS_ENDED ? "is overdue, and no link can be made any more" : "will soon be overdue");
    daemon->lists_told = now;
}

static void tell_keys(struct daemon *daemon) {
    const struct lr_tls *keys = daemon->tcp.keys;
    if (keys == NULL)
        return;
    int64_t left = lr_tls_seconds_left(keys);
    lr_log(LR_INFO, "keys: %s", lr_tls_describe(keys));
    if (left < WARN_S)
        lr_log(left > 0 ? LR_WARN : LR_ERROR, "keys: this host's certificate %s: renew it, then SIGHUP",
               left > 0 ? "ends within two weeks" : "has ended, and no link can be made any more");
    tell_lists(daemon, true);
}

/* True: the keys are as they were, or new ones are in use. */
static bool reload_keys(struct daemon *daemon, const struct lr_config *config, char *why) {
    struct lr_tls *keys;
    if (!load_keys(config, &keys, why))
        return false;
    if ((keys != NULL) != (daemon->tcp.keys != NULL)) {
        snprintf(why, LR_WHY_BYTES, "keys cannot be %s while larderd runs: start it again",
                 keys != NULL ? "introduced" : "given up");
        lr_tls_free(keys);
        return false;
    }
    if (keys != NULL)
        lr_tcp_take_keys(&daemon->tcp, keys);
    return true;
}

/* ---- the loop --------------------------------------------------------------------------------------------------- */

static void on_tick(uv_timer_t *timer) {
    struct daemon *daemon = timer->data;
    lr_node_tick(daemon->node);
    if (daemon->node->retired) {
        lr_log(LR_ERROR,
               "the segment was destroyed or replaced; start larderd again for the one that has its name now");
        daemon->status = exit_status(LARDER_ERETIRED);
        stop(daemon);
        return;
    }
    if (lr_node_now(daemon->node) - daemon->keys_told_ms >= HOUR_MS) {
        daemon->keys_told_ms = lr_node_now(daemon->node);
        tell_keys(daemon);
    }
    tell_lists(daemon, false);
    if (daemon->drain_until_ms == 0)
        return;
    if (lr_node_left(daemon->node, true) == 0 || lr_node_now(daemon->node) >= daemon->drain_until_ms)
        stop(daemon);
}

static void on_idle(uv_idle_t *idle) {
    (void)idle;
}

static void on_before_waiting(uv_prepare_t *prepare) {
    struct daemon *daemon = prepare->data;
    if (daemon->node == NULL)
        return;
    if (lr_node_work(daemon->node))
        uv_idle_start(&daemon->idle, on_idle);
    else
        uv_idle_stop(&daemon->idle);
}

static void on_bell(uv_async_t *bell) {
    struct daemon *daemon = bell->data;
    if (daemon->node != NULL)
        lr_node_rung(daemon->node);
}

static void on_asked(uv_poll_t *asked, int status, int events) {
    struct daemon *daemon = asked->data;
    (void)status, (void)events;
    lr_keeper_answer(daemon->keeper);
}

/* What comes while we gather is sent with the next: waking the loop costs as much as some ten changes. A change after a
 * quiet time wakes it at once. */
static void listen_to_bell(void *context) {
    struct daemon *daemon = context;
    while (!atomic_load(&daemon->stop_bell)) {
        lr_bell_wait(daemon->cache, BELL_MS);
        uv_async_send(&daemon->bell);
        usleep(GATHER_US);
    }
}

/* ---- peers ------------------------------------------------------------------------------------------------------ */

static bool peers_admitted(struct daemon *daemon, const struct lr_config *config, bool resolve, char *why) {
    for (unsigned i = 0; i < config->peer_count; i++) {
        char detail[LR_WHY_BYTES];
        if (!lr_tcp_admits(&daemon->tcp, config->peers[i], resolve, detail)) {
            snprintf(why, LR_WHY_BYTES, "peer: %.480s", detail);
            return false;
        }
    }
    return true;
}

static void apply_peers(struct daemon *daemon, int complaint) {
    if (!lr_roster_apply(&daemon->roster, daemon->node) || complaint != 0)
        lr_log(LR_ERROR, "not all peers can be taken: there are %u, and %u is the most, or there is no memory",
               daemon->node->peer_count, LR_MAX_PEERS);
}

static void on_found(void *context, const char (*addresses)[LR_ADDRESS_BYTES], unsigned count) {
    struct daemon *daemon = context;
    unsigned before = daemon->node->peer_count;
    apply_peers(daemon, lr_roster_answer(&daemon->roster, addresses, count));
    if (daemon->node->peer_count != before)
        lr_log(LR_INFO, "discover %s: found=%u peers before=%u now=%u", daemon->config.discover, count, before,
               daemon->node->peer_count);
}

static void on_command(void *context, char *line, bool may_change, char *out) {
    struct daemon *daemon = context;
    struct lr_command on = {
        .roster = &daemon->roster, .tcp = &daemon->tcp, .node = daemon->node, .advertise = daemon->config.advertise};
    lr_command_run(&on, line, may_change, out, LR_CONTROL_ANSWER);
}

/* True: the segment's modes are other ones now. */
static bool take_modes(struct daemon *daemon, const struct lr_config *config) {
    char text[LR_WHY_BYTES];
    const uint64_t before = lr_modes_hash(daemon->cache);
    if (lr_modes_set(daemon->cache, config->modes, config->mode_count) != 0)
        lr_log(LR_ERROR, "the modes of keys could not be taken over");
    if (lr_modes_hash(daemon->cache) == before)
        return false;
    lr_log(LR_INFO, "modes of keys: %s", lr_config_modes(config, text, sizeof text));
    return true;
}

static void on_reload(uv_signal_t *handle, int number) {
    struct daemon *daemon = handle->data;
    (void)number;
    struct lr_config *config = malloc(sizeof *config);
    char why[LR_WHY_BYTES] = "out of memory";
    if (config == NULL || lr_config_read(daemon->argc, daemon->argv, config, why) != LR_CONFIG_RUN ||
        !peers_admitted(daemon, config, false, why) || !reload_keys(daemon, config, why)) {
        lr_log(LR_ERROR, "SIGHUP: the configuration stays as it was: %s", why);
    } else {
        tell_keys(daemon);
        if (take_modes(daemon, config))
            lr_node_modes_changed(daemon->node);
        unsigned before = daemon->node->peer_count;
        apply_peers(daemon, lr_roster_configure(&daemon->roster, (const char(*)[LR_ADDRESS_BYTES])config->peers,
                                                config->peer_count));
        lr_log(LR_INFO, "SIGHUP: peers reloaded before=%u now=%u", before, daemon->node->peer_count);
    }
    free(config);
}

/* ---- the beginning ---------------------------------------------------------------------------------------------- */

static int refuse(int status, const char *why, const char *remedy) {
    fprintf(stderr, "larderd: %s%s%s\n", why, remedy[0] != '\0' ? "\nlarderd: " : "", remedy);
    return status;
}

static const char *segment_of(const struct lr_config *config) {
    return config->name[0] != '\0' ? config->name : config->path[0] != '\0' ? config->path : config->memfd;
}

static struct lr_options segment_options(const struct lr_config *config) {
    struct lr_options options = lr_options_default();
    options.name = config->name[0] != '\0' ? config->name : NULL;
    options.path = config->name[0] == '\0' ? segment_of(config) : NULL;
    options.size = config->size;
    options.policy = (enum lr_policy)config->policy;
    options.favor = (enum lr_favor)config->favor;
    options.mode = config->mode;
    options.group = config->group;
    /* A delete that comes before us must not be forgotten: a peer may hold what it was to delete. */
    options.replicating = config->peer_count > 0 || config->discover[0] != '\0';
    options.wait_ms = LOCK_WAIT_MS;
    options.who = "larderd";
    return options;
}

static int open_segment(struct daemon *daemon, const struct lr_options *options, char *why) {
    if (daemon->config.memfd[0] != '\0')
        return lr_keeper_create(options, &daemon->keeper, &daemon->cache, why);
    int error = lr_cache_attach(options, &daemon->cache, why);
    if (error != LARDER_ENO_SEGMENT && error != LARDER_ERETIRED)
        return error;
    error = lr_cache_create(options, &daemon->cache, why);
    daemon->created = error == 0;
    return error == LARDER_EEXISTS ? lr_cache_open(options, &daemon->cache, why) : error; /* another was faster */
}

static int attach(struct daemon *daemon) {
    const struct lr_config *config = &daemon->config;
    struct lr_options options = segment_options(config);
    char why[LR_WHY_BYTES] = "";
    int error = open_segment(daemon, &options, why);
    if (error == LARDER_EEXISTS)
        return refuse(1, why, "");
    if (error != 0)
        return refuse(exit_status(error), why,
                      error == LARDER_EINVALID ? "see `larderd --help`" : lr_error_remedy(error));
    error = lr_sidecar_claim(daemon->cache);
    if (error == LARDER_EEXISTS) {
        snprintf(why, sizeof why, "another larderd works on segment %.200s already, and one is all it can have",
                 segment_of(config));
        return refuse(1, why, "`larder procs` shows it; stop that one first");
    }
    if (error != 0)
        return refuse(exit_status(error), lr_error_text(error), lr_error_remedy(error));
    return 0;
}

static int start_node(struct daemon *daemon) {
    lr_bell_mute(daemon->cache); /* the node looks at the feed after each of its own changes */
    struct lr_node_options options = {.name = daemon->config.node,
                                      .listen = daemon->config.advertise,
                                      .clock_limit_ms = daemon->config.clock_limit_ms,
                                      .tombstone_ms = daemon->config.tombstone_ms,
                                      .pack_least = daemon->config.compress,
                                      .gather = true,
                                      .relay = daemon->config.relay};
    take_modes(daemon, &daemon->config);
    daemon->node = lr_node_create(daemon->cache, &daemon->tcp.world, &options);
    if (daemon->node == NULL)
        return refuse(3, "out of memory", "");
    daemon->tcp.node = daemon->node;
    const struct lr_config *config = &daemon->config;
    lr_roster_configure(&daemon->roster, (const char(*)[LR_ADDRESS_BYTES])config->peers, config->peer_count);
    if (!lr_roster_apply(&daemon->roster, daemon->node))
        return refuse(3, "out of memory", "");
    if (config->peer_count == 0 && config->discover[0] == '\0')
        lr_set_replicating(daemon->cache, false);
    return 0;
}

static int start_signal(struct daemon *daemon, uv_signal_t *handle, uv_signal_cb callback, int number) {
    int error = uv_signal_init(&daemon->loop, handle);
    handle->data = daemon;
    return error != 0 ? error : uv_signal_start(handle, callback, number);
}

static int start_handles(struct daemon *daemon) {
    uv_timer_init(&daemon->loop, &daemon->tick);
    uv_prepare_init(&daemon->loop, &daemon->before_waiting);
    uv_idle_init(&daemon->loop, &daemon->idle);
    daemon->tick.data = daemon->before_waiting.data = daemon->bell.data = daemon;
    uv_timer_start(&daemon->tick, on_tick, 0, TICK_MS);
    uv_prepare_start(&daemon->before_waiting, on_before_waiting);
    int error = uv_async_init(&daemon->loop, &daemon->bell, on_bell);
    if (error == 0 && daemon->keeper != NULL) {
        error = uv_poll_init(&daemon->loop, &daemon->asked, lr_keeper_fd(daemon->keeper));
        daemon->asked.data = daemon;
        if (error == 0)
            error = uv_poll_start(&daemon->asked, UV_READABLE, on_asked);
    }
    if (error == 0)
        error = start_signal(daemon, &daemon->term, on_end, SIGTERM);
    if (error == 0)
        error = start_signal(daemon, &daemon->interrupt, on_end, SIGINT);
    if (error == 0)
        error = start_signal(daemon, &daemon->hangup, on_reload, SIGHUP);
    return error;
}

/* What may fail without harm to the rest. */
static void start_helpers(struct daemon *daemon) {
    struct lr_options segment = segment_options(&daemon->config);
    char why[LR_WHY_BYTES];
    daemon->control = (struct lr_control){.loop = &daemon->loop, .answer = on_command, .context = daemon};
    if (!lr_control_start(&daemon->control, &segment, why))
        lr_log(LR_WARN, "`larder peers` will not find this larderd: %s", why);
    daemon->discovery = (struct lr_discovery){.tcp = &daemon->tcp,
                                              .listen = daemon->config.listen,
                                              .advertise = daemon->config.advertise,
                                              .heard = on_found,
                                              .context = daemon};
    if (daemon->config.discover[0] != '\0')
        lr_discovery_start(&daemon->discovery, daemon->config.discover, daemon->config.discover_ms);
}

static int start(struct daemon *daemon) {
    int error = start_handles(daemon);
    if (error != 0)
        return refuse(3, "the event loop cannot be set up", uv_strerror(error));
    if (uv_thread_create(&daemon->bell_thread, listen_to_bell, daemon) != 0)
        return refuse(3, "a thread cannot be started", "");
    return 0;
}

static int run(struct daemon *daemon) {
    start_helpers(daemon);
    lr_log(LR_INFO, "larderd " LARDER_VERSION " started segment=%s node=%s listen=%s peers=%u",
           segment_of(&daemon->config), daemon->config.node, daemon->config.listen, daemon->config.peer_count);
    tell_keys(daemon);
    daemon->keys_told_ms = lr_node_now(daemon->node);
    uv_run(&daemon->loop, UV_RUN_DEFAULT);
    return daemon->status;
}

/* We created it, and nobody has come to it since. */
static bool is_ours_alone(const struct daemon *daemon) {
    struct lr_stat stat;
    lr_stat(daemon->cache, &stat);
    bool alone = daemon->created && !stat.retired;
    for (uint32_t slot = 0; alone && slot < stat.participants; slot++) {
        struct lr_process process;
        alone = lr_process(daemon->cache, slot, &process) != 0 || process.self || !process.alive;
    }
    return alone;
}

static void leave(struct daemon *daemon, bool ran) {
    struct lr_options segment = segment_options(&daemon->config);
    if (daemon->cache == NULL)
        return;
    const bool undo = !ran && is_ours_alone(daemon);
    lr_sidecar_release(daemon->cache);
    lr_keeper_close(daemon->keeper);
    lr_cache_detach(daemon->cache);
    if (undo)
        lr_cache_destroy(&segment, NULL);
}

int main(int argc, char **argv) {
    static struct daemon daemon;
    char why[LR_WHY_BYTES];
    daemon.argc = argc;
    daemon.argv = argv;
    switch (lr_config_read(argc, argv, &daemon.config, why)) {
    case LR_CONFIG_HELP:
        lr_config_help(stdout);
        return 0;
    case LR_CONFIG_VERSION:
        puts("larderd " LARDER_VERSION);
        return 0;
    case LR_CONFIG_WRONG:
        return refuse(2, why, "");
    case LR_CONFIG_RUN:
        break;
    }
    lr_log_level((enum lr_log_level)daemon.config.log_level);
    signal(SIGPIPE, SIG_IGN);
    int loop_error = uv_loop_init(&daemon.loop);
    if (loop_error != 0)
        return refuse(3, "the event loop cannot be made", uv_strerror(loop_error));
    char port[6];
    if (daemon.config.discover[0] != '\0')
        lr_config_split(daemon.config.discover, daemon.roster.found_by, port, why);
    lr_tcp_init(&daemon.tcp, &daemon.loop, &daemon.roster);
    struct lr_tls *keys;
    if (!load_keys(&daemon.config, &keys, why))
        return refuse(2, why, "");
    lr_tcp_take_keys(&daemon.tcp, keys);
    if (!lr_tcp_admits(&daemon.tcp, daemon.config.listen, true, why)) {
        char text[LR_WHY_BYTES];
        snprintf(text, sizeof text, "listen: %.480s", why);
        return refuse(2, text, "");
    }
    if (lr_tcp_is_wildcard(daemon.config.advertise))
        return refuse(
            2, "listen: peers cannot dial a wildcard address: give advertise, the address by which they know us", "");
    if (!peers_admitted(&daemon, &daemon.config, true, why))
        return refuse(2, why, "");
    if (lr_tcp_listen(&daemon.tcp, daemon.config.listen, why) != 0)
        return refuse(1, why, "");
    int status = attach(&daemon);
    if (status == 0)
        status = start_node(&daemon);
    if (status == 0)
        status = start(&daemon);
    const bool runs = status == 0;
    if (runs)
        status = run(&daemon);
    leave(&daemon, runs);
    uv_loop_close(&daemon.loop);
    lr_tcp_take_keys(&daemon.tcp, NULL);
    return status;
}
