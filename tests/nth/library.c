/* SPDX-License-Identifier: MIT */
/*
 * The library's calls in a forked child, whose calls of libc fail. Afterwards its descriptors and its address space
 * must be what they were, what it was told must be an error that exists, and the segment must be as if nothing had
 * been.
 */
#include "cases.h"

#include "keeper.h"
#include "stripe.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

bool case_fails(struct bench *bench, const char *format, ...) {
    va_list arguments;
    if (bench->fault[0] != 0)
        return false; /* the first one counts */
    va_start(arguments, format);
    vsnprintf(bench->fault, sizeof bench->fault, format, arguments);
    va_end(arguments);
    return false;
}

enum verb {
    CREATE,
    CREATE_OVER_LEFTOVER,
    OPEN_ABSENT,
    ATTACH,
    ATTACH_READ_ONLY,
    ATTACH_IMAGE,
    USE,
    CLOSE,
    DESTROY,
    FORKED,
    TAKE_OVER,
    PROBE_CLOSED,
    KEEP,
    TAKE,
    ANSWER,
    VERBS
};

struct client {
    struct bench *bench;
    enum verb verb;
    struct lr_cache *cache;
    struct lr_options options;
    struct lr_keeper *keeper; /* ours */
    pid_t other;              /* TAKE: who keeps; ANSWER: who asks */
    char socket[160];
};

/* ---- what a process has ------------------------------------------------------------------------------------------ */

struct belongings {
    unsigned descriptors;
    unsigned long pages;
};

static struct belongings count_belongings(void) {
    struct belongings has = {0, 0};
    char text[64] = "";
    DIR *folder = opendir("/proc/self/fd");
    while (folder != NULL && readdir(folder) != NULL)
        has.descriptors++;
    if (folder != NULL)
        closedir(folder);
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, text, sizeof text - 1) > 0)
        has.pages = strtoul(text, NULL, 10);
    close(fd);
    return has;
}

static bool fails_here(const struct bench *bench, enum nth_call call) {
    return atomic_load(&bench->control.target[0].call) == (uint32_t)call ||
           atomic_load(&bench->control.target[1].call) == (uint32_t)call;
}

/* A probe's descriptor that cannot be told from somebody else's is left open rather than closed (participant.c): one
 * for each call that fails. */
static unsigned may_keep(const struct bench *bench) {
    unsigned count = 0;
    for (unsigned i = 0; i < 2; i++) {
        uint32_t call = atomic_load(&bench->control.target[i].call);
        count += call == NTH_fstat || call == NTH_lseek;
    }
    return count;
}

static void expect_same(struct bench *bench, struct belongings before) {
    struct belongings now = count_belongings();
    if (now.descriptors > before.descriptors + may_keep(bench))
        case_fails(bench, "%u descriptors leak", now.descriptors - before.descriptors);
    if (now.pages > before.pages)
        case_fails(bench, "%lu pages of address space leak", now.pages - before.pages);
}

/* ---- what it is told --------------------------------------------------------------------------------------------- */

static bool is_error(int error) {
    switch (error) {
#define X(name, ...) case LARDER_E##name:
        LARDER_ERRORS(X)
#undef X
        return true;
    default:
        return false;
    }
}

static void expect_proper(struct client *client, const char *call, int result) {
    if (result < 0 && !is_error(result))
        case_fails(client->bench, "%s returned %d", call, result);
}

static void expect_opened(struct client *client, int error, const char *why) {
    expect_proper(client, "opening", error);
    if ((error == 0) != (client->cache != NULL))
        case_fails(client->bench, "opening: %s, and a handle %p", lr_error_name(error), (void *)client->cache);
    if (error != 0 && why[0] == 0)
        case_fails(client->bench, "opening: %s, and not why", lr_error_name(error));
}

/* A create that fails leaves no file, unless it is removing one that fails. */
static void expect_nothing_left(struct bench *bench) {
    bool removing = fails_here(bench, NTH_unlink) || fails_here(bench, NTH_lstat);
    if (!removing && (spot_exists(bench->spot.path) || spot_exists(bench->spot.live)))
        case_fails(bench, "creating failed, and a file is left");
}

/* Without failing calls all must work. */
static void expect_usable(struct client *client) {
    struct lr_put put = {.key = "after", .key_len = 5, .value = "all", .value_len = 3};
    char value[8];
    int error = lr_put(client->cache, &put);
    if (error != 0)
        case_fails(client->bench, "afterwards a put says %s", lr_error_name(error));
    else if ((error = lr_get(client->cache, "after", 5, value, sizeof value, NULL, 0)) != 0)
        case_fails(client->bench, "afterwards a get says %s", lr_error_name(error));
}

/* ---- verbs ------------------------------------------------------------------------------------------------------- */

static void use(struct client *client) {
    struct lr_cache *cache = client->cache;
    struct lr_put put = {.key = "key", .key_len = 3, .value = "value", .value_len = 5, .ttl_ms = 60000};
    struct lr_pin pin;
    struct lr_check check;
    struct lr_digest digest;
    struct lr_process process;
    static struct lr_stat stat;
    int64_t number;
    char value[64];
    expect_proper(client, "put", lr_put(cache, &put));
    int error = lr_get(cache, "key", 3, value, sizeof value, NULL, 0);
    expect_proper(client, "get", error);
    if (error == 0 && memcmp(value, "value", 5) != 0)
        case_fails(client->bench, "get: a wrong value");
    error = lr_pin(cache, "key", 3, &pin);
    expect_proper(client, "pin", error);
    if (error == 0)
        lr_unpin(cache, &pin);
    expect_proper(client, "touch", lr_touch(cache, "key", 3, 120000));
    expect_proper(client, "increment", lr_increment(cache, "n", 1, 1, 1, 0, &number));
    expect_proper(client, "delete", lr_delete(cache, "key", 3));
    expect_proper(client, "sweep", lr_sweep(cache, 0, 16, 1));
    expect_proper(client, "reap", lr_reap(cache));
    expect_proper(client, "flush", lr_flush(cache));
    expect_proper(client, "check", lr_check(cache, &check));
    expect_proper(client, "digest", lr_digest(cache, &digest));
    expect_proper(client, "process", lr_process(cache, 0, &process));
    lr_stat(cache, &stat);
}

static void read_only(struct client *client) {
    struct lr_check check;
    struct lr_digest digest;
    struct lr_process process;
    char why[LR_WHY_BYTES] = "", value[64];
    client->options.read_only = true;
    int error = client->verb == ATTACH_IMAGE ? lr_cache_attach_image(client->bench->spot.path, &client->cache, why)
                                             : lr_cache_attach(&client->options, &client->cache, why);
    expect_opened(client, error, why);
    if (client->cache == NULL)
        return;
    error = lr_get(client->cache, "was", 3, value, sizeof value, NULL, 0);
    expect_proper(client, "get", error);
    if (error == 0 ? memcmp(value, "here", 4) != 0 : error == LARDER_ENOT_FOUND)
        case_fails(client->bench, "get: a wrong value, or none");
    error = lr_check(client->cache, &check);
    expect_proper(client, "check", error);
    if (error == LARDER_ECORRUPT)
        case_fails(client->bench, "check: %s", check.first[0]);
    expect_proper(client, "digest", lr_digest(client->cache, &digest));
    expect_proper(client, "process", lr_process(client->cache, 0, &process));
}

/* A child of the child: it must join anew. */
static void use_forked(struct client *client) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        nth_activate(false);
        struct belongings before = count_belongings();
        nth_activate(true);
        struct lr_put put = {.key = "key", .key_len = 3, .value = "value", .value_len = 5};
        expect_proper(client, "a forked child's put", lr_put(client->cache, &put));
        nth_activate(false);
        if (lr_enter(client->cache) != 0)
            case_fails(client->bench, "a forked child cannot join any more");
        struct belongings now = count_belongings();
        if (now.descriptors > before.descriptors + may_keep(client->bench))
            case_fails(client->bench, "a forked child leaks descriptors");
        expect_usable(client);
        _exit(0);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (status != 0)
        case_fails(client->bench, "a forked child ended with status %x", (unsigned)status);
}

/* Somebody dies with the stripe's lock. */
static void leave_locked(struct client *client) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        struct lr_view view;
        if (lr_enter(client->cache) == 0)
            (void)lr_stripe_lock(&view, client->cache, 0);
        kill(getpid(), SIGKILL);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
}

static void take_over(struct client *client) {
    struct lr_put put = {.key = "key", .key_len = 3, .value = "value", .value_len = 5};
    expect_proper(client, "put", lr_put(client->cache, &put));
    int error = lr_delete(client->cache, "was", 3);
    if (error != 0 && error != LARDER_ENOT_FOUND)
        case_fails(client->bench, "a delete behind a dead holder says %s", lr_error_name(error));
}

/* ---- a segment without a name ------------------------------------------------------------------------------------ */

static void answer_once(const struct client *client) {
    struct pollfd ready = {.fd = lr_keeper_fd(client->keeper), .events = POLLIN};
    if (poll(&ready, 1, 5) > 0)
        lr_keeper_answer(client->keeper);
}

/* Whoever is forked here ends with us, and its calls do not fail. */
static pid_t fork_other(void) {
    pid_t other = fork();
    if (other == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return other;
}

static void start_keeper(struct client *client) {
    client->other = fork_other();
    if (client->other == 0) {
        if (lr_keeper_create(&client->options, &client->keeper, &client->cache, NULL) == 0)
            while (lr_enter(client->cache) == 0)
                answer_once(client);
        lr_keeper_close(client->keeper);
        lr_cache_detach(client->cache);
        _exit(0);
    }
    for (unsigned ms = 0; ms < 5000 && lr_cache_attach(&client->options, &client->cache, NULL) != 0; ms++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    if (client->cache == NULL)
        case_fails(client->bench, "the case cannot be set up");
    lr_cache_detach(client->cache);
    client->cache = NULL;
}

static void start_asking(struct client *client) {
    if (lr_keeper_create(&client->options, &client->keeper, &client->cache, NULL) != 0) {
        case_fails(client->bench, "the case cannot be set up");
        return;
    }
    client->other = fork_other();
    if (client->other == 0) {
        struct lr_cache *cache;
        char why[LR_WHY_BYTES] = "";
        int error = lr_cache_attach(&client->options, &cache, why);
        expect_proper(client, "who asks", error);
        if ((error == 0) != (cache != NULL) || (error != 0 && why[0] == 0))
            case_fails(client->bench, "who asks: %s, and %s", lr_error_name(error), why);
        lr_cache_detach(cache);
        _exit(0);
    }
}

/* While calls fail for a tenth of a second at most, then as it should be: who asks gets an answer. */
static void answer(struct client *client) {
    pid_t ended = 0;
    for (unsigned i = 0; i < 4000 && ended == 0; i++) {
        if (i == 20)
            nth_activate(false);
        answer_once(client);
        ended = waitpid(client->other, NULL, WNOHANG);
    }
    nth_activate(false);
    if (ended != client->other)
        case_fails(client->bench, "who asks gets no answer");
}

static void end_keeping(struct client *client) {
    if (client->verb == TAKE) {
        if (lr_cache_destroy(&client->options, NULL) != 0)
            case_fails(client->bench, "what a keeper keeps cannot be destroyed");
        (void)waitpid(client->other, NULL, 0);
    }
    lr_keeper_close(client->keeper);
    /* A name that cannot be looked at is not removed: it may be another's by now. The next keeper removes what is left.
     */
    const bool pair = atomic_load(&client->bench->control.target[1].call) != NTH_CALL_COUNT;
    if (spot_exists(client->socket) && !fails_here(client->bench, NTH_lstat) &&
        !(pair && fails_here(client->bench, NTH_unlink)))
        case_fails(client->bench, "a socket is left");
    unlink(client->socket);
}

static bool is_kept(enum verb verb) {
    return verb == KEEP || verb == TAKE || verb == ANSWER;
}

/* ---- what fails -------------------------------------------------------------------------------------------------- */

static void do_verb(struct client *client) {
    char why[LR_WHY_BYTES] = "";
    int error = 0;
    switch (client->verb) {
    case CREATE:
    case CREATE_OVER_LEFTOVER:
        error = lr_cache_create(&client->options, &client->cache, why);
        break;
    case OPEN_ABSENT:
        error = lr_cache_open(&client->options, &client->cache, why);
        break;
    case ATTACH:
        error = lr_cache_attach(&client->options, &client->cache, why);
        break;
    case ATTACH_READ_ONLY:
    case ATTACH_IMAGE:
        read_only(client);
        return;
    case CLOSE:
        lr_cache_detach(client->cache);
        client->cache = NULL;
        return;
    case DESTROY:
        error = lr_cache_destroy(&client->options, why);
        expect_proper(client, "destroying", error);
        if (error != 0 && why[0] == 0)
            case_fails(client->bench, "destroying: %s, and not why", lr_error_name(error));
        if (error == 0 && (spot_exists(client->bench->spot.path) || spot_exists(client->bench->spot.live)))
            case_fails(client->bench, "destroying succeeded, and a file is left");
        return;
    case USE:
        use(client);
        return;
    case FORKED:
        use_forked(client);
        return;
    case TAKE_OVER:
        take_over(client);
        return;
    case PROBE_CLOSED:
        expect_proper(client, "reap", lr_reap(client->cache));
        return;
    case KEEP:
        error = lr_keeper_create(&client->options, &client->keeper, &client->cache, why);
        break;
    case TAKE:
        error = lr_cache_attach(&client->options, &client->cache, why);
        break;
    case ANSWER:
        answer(client);
        return;
    case VERBS:
        return;
    }
    expect_opened(client, error, why);
    if (client->cache == NULL && (client->verb == CREATE || client->verb == OPEN_ABSENT))
        expect_nothing_left(client->bench);
}

/* ---- a case ------------------------------------------------------------------------------------------------------ */

static bool wants_handle(enum verb verb) {
    return verb == USE || verb == CLOSE || verb == FORKED || verb == TAKE_OVER || verb == PROBE_CLOSED;
}

static void set_up(struct client *client) {
    struct spot *spot = &client->bench->spot;
    struct lr_cache *cache;
    struct lr_put put = {.key = "was", .key_len = 3, .value = "here", .value_len = 4};
    client->options = spot->options;
    client->options.wait_ms = 30;
    if (client->verb == CREATE || client->verb == OPEN_ABSENT)
        return;
    if (is_kept(client->verb)) {
        static char path[sizeof client->socket + 8];
        snprintf(client->socket, sizeof client->socket, "%.140s.socket", spot->path);
        snprintf(path, sizeof path, "unix:%s", client->socket);
        client->options.name = NULL;
        client->options.path = path;
        if (client->verb == TAKE)
            start_keeper(client);
        return;
    }
    if (lr_cache_create(&spot->options, &cache, NULL) != 0 || lr_put(cache, &put) != 0) {
        case_fails(client->bench, "the case cannot be set up");
        _exit(1);
    }
    lr_cache_detach(cache);
    if (client->verb == CREATE_OVER_LEFTOVER)
        unlink(spot->path);
}

/* In a child: the verb with failing calls between what it had before and what it has afterwards. */
static void do_case(struct client *client) {
    alarm(CASE_PATIENCE_S);
    set_up(client);
    (void)count_belongings(); /* what this allocates it keeps */
    struct belongings before = count_belongings();
    if (wants_handle(client->verb) && lr_cache_attach(&client->options, &client->cache, NULL) != 0)
        case_fails(client->bench, "the case cannot be set up");
    if (client->verb == TAKE_OVER)
        leave_locked(client);
    if (client->verb == ANSWER)
        start_asking(client);
    if (client->verb == PROBE_CLOSED)
        close(client->cache->probe_fd);
    if (client->bench->fault[0] != 0)
        _exit(0);
    nth_activate(true);
    do_verb(client);
    nth_activate(false);
    if (client->cache != NULL && client->verb != ATTACH_READ_ONLY && client->verb != ATTACH_IMAGE)
        expect_usable(client);
    if (is_kept(client->verb))
        end_keeping(client);
    lr_cache_detach(client->cache);
    expect_same(client->bench, before);
    _exit(0);
}

static bool run_library(struct bench *bench, unsigned which) {
    struct client client = {.bench = bench, .verb = (enum verb)which};
    char why[LR_WHY_BYTES] = "";
    int status = 0;
    bench->fault[0] = 0;
    pid_t child = fork();
    if (child == 0)
        do_case(&client);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (WIFSIGNALED(status))
        case_fails(bench, WTERMSIG(status) == SIGALRM ? "it hangs" : "it dies of signal %d", WTERMSIG(status));
    const char *fault = spot_fault(&bench->spot, why);
    if (fault != NULL) {
        case_fails(bench, "afterwards: %s: %.400s", fault, why);
        unlink(bench->spot.path);
        unlink(bench->spot.live);
    }
    return bench->fault[0] == 0;
}

const struct nth_scenario library_scenarios[] = {
    {"create", run_library, CREATE, NULL, NULL, false},
    {"create over a leftover", run_library, CREATE_OVER_LEFTOVER, NULL, NULL, false},
    {"open what is absent", run_library, OPEN_ABSENT, NULL, NULL, false},
    {"attach", run_library, ATTACH, NULL, NULL, false},
    {"attach read-only", run_library, ATTACH_READ_ONLY, NULL, NULL, false},
    {"attach an image", run_library, ATTACH_IMAGE, NULL, NULL, false},
    {"use", run_library, USE, NULL, NULL, false},
    {"close", run_library, CLOSE, NULL, NULL, false},
    {"destroy", run_library, DESTROY, NULL, NULL, false},
    {"forked child", run_library, FORKED, NULL, NULL, false},
    {"take-over", run_library, TAKE_OVER, NULL, NULL, false},
    {"probe closed by the application", run_library, PROBE_CLOSED, NULL, NULL, false},
    {"keep", run_library, KEEP, NULL, NULL, false},
    {"take from a keeper", run_library, TAKE, NULL, NULL, false},
    {"answer as a keeper", run_library, ANSWER, NULL, NULL, false},
};
const unsigned library_scenario_count = sizeof library_scenarios / sizeof library_scenarios[0];
