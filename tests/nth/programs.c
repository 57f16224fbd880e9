/* SPDX-License-Identifier: MIT */
/*
 * The programs larder and larderd, whose calls of libc fail: they end with a status of their own and a word on standard
 * error, or do what was asked; the segment stays whole. The daemon has a healthy peer, with which it exchanges a change
 * if it can.
 */
#include "cases.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#define LAST_STATUS 7    /* larder's and larderd's exit statuses are 0 to 7 */
#define EXCHANGE_MS 150u /* a change that has not come by then is not waited for */
#define START_MS 300u
#define PATIENT 30u    /* times as long where nothing fails */
#define END_MS 12000u  /* the daemon drains for some seconds at most */
#define PATIENCE_S 30u /* a program that runs longer hangs */

enum { SET, SET_ADD, GET, LS, STAT, STAT_JSON, PROCS, STRIPES, CHECK, DIGEST, DEL, FLUSH, CREATE, DESTROY };

struct line {
    const char *words[8]; /* behind "larder"; NAME is the segment's */
};

static const struct line lines[] = {
    [SET] = {{"set", "--name", "NAME", "key", "value"}},
    [SET_ADD] = {{"set", "--name", "NAME", "--add", "--ttl", "1h", "key", "value"}},
    [GET] = {{"get", "--name", "NAME", "was"}},
    [LS] = {{"ls", "--name", "NAME", "--long"}},
    [STAT] = {{"stat", "--name", "NAME"}},
    [STAT_JSON] = {{"stat", "--name", "NAME", "--json"}},
    [PROCS] = {{"procs", "--name", "NAME"}},
    [STRIPES] = {{"stripes", "--name", "NAME"}},
    [CHECK] = {{"check", "--name", "NAME"}},
    [DIGEST] = {{"digest", "--name", "NAME"}},
    [DEL] = {{"del", "--name", "NAME", "was"}},
    [FLUSH] = {{"flush", "--name", "NAME"}},
    [CREATE] = {{"create", "--name", "NAME", "--size", "64K"}},
    [DESTROY] = {{"destroy", "--name", "NAME"}},
};

/* ---- children ------------------------------------------------------------------------------------------------- */

static void sleep_ms(unsigned ms) {
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

static void redirect(const char *file, int to) {
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd >= 0) {
        dup2(fd, to);
        close(fd);
    }
}

static const char *program_path(const char *name) {
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);
    path[n > 0 ? n : 0] = 0;
    char *last = strrchr(path, '/');
    strcpy(last != NULL ? last + 1 : path, name);
    return path;
}

/* Starts a program of this build; `under_test`: behind the interposer. */
static pid_t start(const struct bench *bench, char *const *words, bool under_test) {
    fflush(NULL);
    pid_t child = fork();
    if (child != 0)
        return child;
    redirect(under_test ? bench->program_out : "/dev/null", 1);
    redirect(under_test ? bench->program_err : "/dev/null", 2);
    if (under_test) {
        setenv("LD_PRELOAD", NTH_LIBRARY, 1);
        setenv(NTH_FILE, bench->file, 1);
        setenv(NTH_ACTIVE, "1", 1);
        alarm(PATIENCE_S);
    }
    execv(words[0], words);
    _exit(127);
}

static size_t read_file(const char *file, char *out, size_t cap) {
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, cap - 1) : 0;
    if (fd >= 0)
        close(fd);
    out[n > 0 ? n : 0] = 0;
    return n > 0 ? (size_t)n : 0;
}

/*
 * libuv aborts, without a word, when calls fail that it cannot do without: epoll_ctl, memory for its tables, its
 * threads. That is counted, and costs the host no more than any death of its daemon; an assertion of ours
 * would say so, with a file that is not libuv's.
 */
static bool is_libuv(const struct bench *bench) {
    char words[4000];
    read_file(bench->program_err, words, sizeof words);
    switch (atomic_load(&bench->control.target[0].call)) {
    case NTH_epoll_ctl:
    case NTH_malloc:
    case NTH_calloc:
    case NTH_realloc:
    case NTH_pthread_create:
        return strstr(words, "ssertion") == NULL || strstr(words, "src/unix/") != NULL;
    default:
        return false;
    }
}

/* An exit status that means something, and a word if it is an error. */
static bool expect_ended(struct bench *bench, int status) {
    char words[400];
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && is_libuv(bench)) {
        bench->libuv_aborts++;
        return false;
    }
    if (WIFSIGNALED(status))
        return case_fails(bench, WTERMSIG(status) == SIGALRM ? "it hangs" : "it dies of signal %d", WTERMSIG(status));
    if (read_file(bench->program_err, words, sizeof words) == 0)
        read_file(bench->program_out, words, sizeof words); /* --json */
    if (WEXITSTATUS(status) > LAST_STATUS)
        return case_fails(bench, "exit status %d: %s", WEXITSTATUS(status), words);
    if (WEXITSTATUS(status) > 1 && words[0] == 0)
        return case_fails(bench, "exit status %d, and not a word", WEXITSTATUS(status));
    return true;
}

/* ---- larder ------------------------------------------------------------------------------------------------------ */

static int read_back(struct bench *bench, const char *key, char value[64]) {
    struct lr_cache *cache;
    int error = lr_cache_attach(&bench->spot.options, &cache, NULL);
    if (error == 0) {
        memset(value, 0, 64);
        error = lr_get(cache, key, strlen(key), value, 63, NULL, LR_PEEK);
        lr_cache_detach(cache);
    }
    return error;
}

/* What a status of 0 promises, and that nobody is told of damage that is not there. */
static void expect_true(struct bench *bench, unsigned which, int status) {
    char text[2000], value[64];
    read_file(bench->program_out, text, sizeof text);
    if (status == 6)
        case_fails(bench, "it says that the segment is damaged: %.300s", text);
    /* A deadline that was made when time stood still is past. */
    bool timeless = which == SET_ADD && atomic_load(&bench->control.target[0].call) == NTH_clock_gettime;
    if (status != 0 || timeless)
        return;
    if ((which == SET || which == SET_ADD) && (read_back(bench, "key", value) != 0 || strcmp(value, "value") != 0))
        case_fails(bench, "status 0, and the value is not stored");
    if (which == GET && strncmp(text, "here", 4) != 0)
        case_fails(bench, "status 0, and it prints \"%.100s\"", text);
    if ((which == DEL || which == FLUSH) && read_back(bench, "was", value) != LARDER_ENOT_FOUND)
        case_fails(bench, "status 0, and the key is still there");
    if (which == CREATE && !spot_exists(bench->spot.path))
        case_fails(bench, "status 0, and there is no segment");
    if (which == DESTROY && (spot_exists(bench->spot.path) || spot_exists(bench->spot.live)))
        case_fails(bench, "status 0, and a file is left");
    if (which >= LS && which <= DIGEST && text[0] == 0)
        case_fails(bench, "status 0, and it prints nothing");
}

static bool begin_case(struct bench *bench, bool segment) {
    struct lr_cache *cache;
    struct lr_put put = {.key = "was", .key_len = 3, .value = "here", .value_len = 4};
    bench->fault[0] = 0;
    if (!segment)
        return true;
    if (lr_cache_create(&bench->spot.options, &cache, NULL) != 0)
        return case_fails(bench, "the case cannot be set up");
    int error = lr_put(cache, &put);
    lr_cache_detach(cache);
    return error == 0 || case_fails(bench, "the case cannot be set up");
}

static bool end_case(struct bench *bench) {
    char why[LR_WHY_BYTES] = "";
    const char *fault = spot_fault(&bench->spot, why);
    if (fault != NULL) {
        case_fails(bench, "afterwards: %s: %.400s", fault, why);
        unlink(bench->spot.path);
        unlink(bench->spot.live);
    }
    return bench->fault[0] == 0;
}

static bool run_larder(struct bench *bench, unsigned which) {
    char program[4096];
    char *words[10] = {program};
    int status = 0;
    if (!begin_case(bench, which != CREATE))
        return false;
    snprintf(program, sizeof program, "%s", program_path("larder"));
    for (unsigned i = 0; i < 8 && lines[which].words[i] != NULL; i++) {
        const char *word = lines[which].words[i];
        words[i + 1] = strcmp(word, "NAME") == 0 ? bench->spot.name : (char *)(uintptr_t)word;
    }
    pid_t child = start(bench, words, true);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (expect_ended(bench, status))
        expect_true(bench, which, WEXITSTATUS(status));
    return end_case(bench);
}

/* ---- larderd ----------------------------------------------------------------------------------------------------- */

static unsigned free_port(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unsigned port = 0;
    if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 &&
        getsockname(fd, (struct sockaddr *)&at, &len) == 0)
        port = ntohs(at.sin_port);
    close(fd);
    return port;
}

static pid_t start_daemon(const struct bench *bench, const struct spot *spot, unsigned port, unsigned peer_port,
                          bool under_test) {
    char program[4096], listen_at[64], peer_at[64];
    snprintf(program, sizeof program, "%s", program_path("larderd"));
    snprintf(listen_at, sizeof listen_at, "127.0.0.1:%u", port);
    snprintf(peer_at, sizeof peer_at, "127.0.0.1:%u", peer_port);
    char *words[] = {program, "--name", (char *)(uintptr_t)spot->name, "--size", "64K", "--listen", listen_at, "--peer",
                     peer_at, NULL};
    return start(bench, words, under_test);
}

enum { DIALS, IS_DIALLED }; /* the daemon under test */

static bool begin_ports(struct bench *bench) {
    spot_choose(&bench->peer, "nthpeer");
    bench->port = free_port();
    bench->peer_port = free_port();
    bench->peer_pid = 0;
    return bench->port != 0 && bench->peer_port != 0;
}

static bool begin_daemon(struct bench *bench) {
    if (!begin_ports(bench))
        return false;
    bench->peer_pid = start_daemon(bench, &bench->peer, bench->peer_port, bench->port, false);
    for (unsigned i = 0; i < 200 && !spot_exists(bench->peer.path); i++)
        sleep_ms(10);
    return spot_exists(bench->peer.path);
}

static void end_ports(struct bench *bench) {
    (void)lr_cache_destroy(&bench->peer.options, NULL);
}

static void end_daemon(struct bench *bench) {
    int status = 0;
    kill(bench->peer_pid, SIGTERM);
    while (waitpid(bench->peer_pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        case_fails(bench, "the healthy peer ended with status %x", (unsigned)status);
    end_ports(bench);
}

/* Whether the daemon has ended; then with what status. */
static bool has_ended(pid_t daemon, int *status) {
    return waitpid(daemon, status, WNOHANG) == daemon;
}

/* A key put on one host, until the other has it. True: arrived. */
static bool exchange(struct lr_cache *from, struct lr_cache *to, const char *key, unsigned patience, pid_t daemon,
                     int *status, bool *ended) {
    static uint64_t number;
    char value[64];
    uint64_t sent = ++number, got = 0;
    struct lr_put put = {.key = key, .key_len = strlen(key), .value = &sent, .value_len = sizeof sent};
    (void)lr_put(from, &put);
    for (unsigned ms = 0; ms < EXCHANGE_MS * patience; ms += 2) {
        if (lr_get(to, key, strlen(key), value, sizeof value, NULL, LR_PEEK) == 0) {
            memcpy(&got, value, sizeof got);
            if (got == sent)
                return true;
        }
        if (has_ended(daemon, status)) {
            *ended = true;
            return false;
        }
        sleep_ms(2);
    }
    return false;
}

/* Its first heartbeat comes out of the loop, when it listens to signals. */
static bool has_started(const struct bench *bench, struct lr_cache **here) {
    struct lr_sidecar_state state = {0};
    if (*here == NULL)
        (void)lr_cache_attach(&bench->spot.options, here, NULL);
    if (*here != NULL)
        lr_sidecar_state(*here, &state);
    return state.alive;
}

/* One that never starts ends by itself; one that starts late is told as soon as it listens, and again when it drains
 * for too long. */
static int stop_daemon(struct bench *bench, pid_t daemon, struct lr_cache **here) {
    char words[16000];
    int status = 0;
    for (unsigned ms = 0, tell_ms = 0; ms < END_MS; ms += 2) {
        if (ms >= tell_ms && has_started(bench, here)) {
            kill(daemon, SIGTERM);
            tell_ms = ms + END_MS / 2;
        }
        if (has_ended(daemon, &status))
            return status;
        sleep_ms(2);
    }
    size_t len = read_file(bench->program_err, words, sizeof words);
    case_fails(bench, "it does not end at SIGTERM; its last words: %s", words + (len > 500 ? len - 500 : 0));
    kill(daemon, SIGKILL);
    waitpid(daemon, &status, 0);
    return 0;
}

static void kill_peer(struct bench *bench) {
    kill(bench->peer_pid, SIGKILL);
    while (waitpid(bench->peer_pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    bench->peer_pid = 0;
}

static bool run_daemon(struct bench *bench, unsigned which) {
    struct lr_cache *here = NULL, *there = NULL;
    int status = 0;
    bool ended = false, exchanged = false;
    bench->fault[0] = 0;
    /* Time that stands still for good is no fault that Linux has; an accept that fails for good libuv repeats at once,
     * for ever. */
    uint32_t call = atomic_load(&bench->control.target[0].call);
    if (atomic_load(&bench->control.target[0].from_then_on) && (call == NTH_clock_gettime || call == NTH_accept4))
        return true;
    unlink(bench->program_err);
    const bool nothing_fails = atomic_load(&bench->control.target[0].k) == UINT64_MAX;
    const unsigned patience = nothing_fails ? PATIENT : 1; /* then all must work, however busy the machine is */
    pid_t daemon = start_daemon(bench, &bench->spot, bench->port, bench->peer_port, true);
    for (unsigned ms = 0; ms < START_MS * patience && !ended && !has_started(bench, &here); ms += 2) {
        ended = has_ended(daemon, &status);
        sleep_ms(2);
    }
    const bool started = has_started(bench, &here);
    if (which == IS_DIALLED && started)
        bench->peer_pid = start_daemon(bench, &bench->peer, bench->peer_port, bench->port, false);
    for (unsigned ms = 0; ms < START_MS * patience && started && there == NULL; ms += 2)
        if (lr_cache_attach(&bench->peer.options, &there, NULL) != 0)
            sleep_ms(2);
    if (here != NULL && there != NULL && !ended)
        exchanged = exchange(there, here, "down", patience, daemon, &status, &ended);
    if (exchanged && !ended)
        exchanged = exchange(here, there, "up", patience, daemon, &status, &ended);
    if (!ended && started) {
        kill(daemon, SIGHUP);
        sleep_ms(10);
    }
    if (!ended)
        status = stop_daemon(bench, daemon, &here);
    if (which == IS_DIALLED && bench->peer_pid != 0)
        kill_peer(bench);
    lr_cache_detach(here);
    lr_cache_detach(there);
    (void)expect_ended(bench, status);
    if (nothing_fails && !exchanged)
        case_fails(bench, "nothing fails, and no change is exchanged");
    return end_case(bench);
}

#define LARDER(line)                                                                                                   \
    { "larder " #line, run_larder, line, NULL, NULL, true }
const struct nth_scenario program_scenarios[] = {
    LARDER(SET),
    LARDER(SET_ADD),
    LARDER(GET),
    LARDER(LS),
    LARDER(STAT),
    LARDER(STAT_JSON),
    LARDER(PROCS),
    LARDER(STRIPES),
    LARDER(CHECK),
    LARDER(DIGEST),
    LARDER(DEL),
    LARDER(FLUSH),
    LARDER(CREATE),
    LARDER(DESTROY),
    {"larderd", run_daemon, DIALS, begin_daemon, end_daemon, true},
    {"larderd, dialled", run_daemon, IS_DIALLED, begin_ports, end_ports, true},
};
const unsigned program_scenario_count = sizeof program_scenarios / sizeof program_scenarios[0];
