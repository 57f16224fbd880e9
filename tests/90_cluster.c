/* SPDX-License-Identifier: MIT */
/*
 * Real larderd processes on loopback: what an operator does to them, and what the network does.
 *
 * Each test has its own segments and ports. Daemons write their logs into the runner's private folder; a failed test
 * prints the end of them.
 */
#include "fixture.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define START_MS 10000u
#define HOSTS 2u

struct host {
    char name[65], log[1024], config[1024];
    unsigned port;
    pid_t pid; /* 0: not running */
    struct lr_cache *cache;
};

static struct host hosts[HOSTS];

/* ---- daemons ------------------------------------------------------------------------------------------------------
 */

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs(text, file);
    fclose(file);
}

static void write_config(const struct host *host, const char *text) {
    write_file(host->config, text);
}

static void peer_line(char out[64], unsigned port) {
    snprintf(out, 64, "peer = 127.0.0.1:%u\n", port);
}

static void start(struct host *host) {
    char listen[64], program[512];
    snprintf(listen, sizeof listen, "127.0.0.1:%u", host->port);
    snprintf(program, sizeof program, "%s", fixture_program("larderd"));
    host->pid = fork();
    if (host->pid == 0) {
        int fd = open(host->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        dup2(fd, 1);
        dup2(fd, 2);
        alarm(120);
        execl(program, program, "--name", host->name, "--listen", listen, "--size", "16M", "--node",
              host == hosts ? "zero" : "one", "--config", host->config, (char *)NULL);
        _exit(127);
    }
    CU_ASSERT_FATAL(host->pid > 0);
    struct lr_options options = lr_options_default();
    options.name = host->name;
    for (unsigned ms = 0; host->cache == NULL && ms < START_MS; ms += 10) {
        lr_cache_attach(&options, &host->cache, NULL);
        fixture_sleep_ms(10);
    }
    CU_ASSERT_PTR_NOT_NULL_FATAL(host->cache);
}

/* Signals the daemon and returns how it ended. */
static int stop(struct host *host, int number) {
    int status;
    kill(host->pid, number);
    CU_ASSERT_EQUAL(waitpid(host->pid, &status, 0), host->pid);
    host->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static bool is_connected(const struct host *host) {
    struct lr_sidecar_state state;
    lr_sidecar_state(host->cache, &state);
    return state.alive && state.peers > 0 && state.connected == state.peers;
}

static bool has_drained(const struct host *host) {
    struct lr_sidecar_state state;
    lr_sidecar_state(host->cache, &state);
    return is_connected(host) && lr_sidecar_has_sent(&state);
}

static bool both_connected(void) {
    return is_connected(&hosts[0]) && is_connected(&hosts[1]);
}

static bool none_connected(void) {
    struct lr_sidecar_state state;
    lr_sidecar_state(hosts[0].cache, &state);
    return state.connected == 0;
}

static bool equal_digests(void) {
    struct lr_digest zero, one;
    lr_digest(hosts[0].cache, &zero);
    lr_digest(hosts[1].cache, &one);
    return zero.sum == one.sum && zero.items == one.items;
}

static bool both_drained(void) {
    return has_drained(&hosts[0]) && has_drained(&hosts[1]) && equal_digests();
}

static bool wait_for(bool (*condition)(void), unsigned ms) {
    for (uint64_t end = fixture_now_ns() + ms * UINT64_C(1000000); fixture_now_ns() < end; fixture_sleep_ms(20))
        if (condition())
            return true;
    return condition();
}

static bool log_says(const struct host *host, const char *text) {
    static char bytes[1 << 18];
    int fd = open(host->log, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, bytes, sizeof bytes - 1) : 0;
    close(fd);
    bytes[len > 0 ? len : 0] = '\0';
    return strstr(bytes, text) != NULL;
}

static void file_name(char out[1024], const char *name, const char *ending) {
    CU_ASSERT_FATAL(snprintf(out, 1024, "%s/%s.%s", fixture_folder(), name, ending) < 1024);
}

/* Two hosts that know each other; the daemons run and are connected. */
static void set_up(void) {
    for (unsigned i = 0; i < HOSTS; i++) {
        hosts[i] = (struct host){.port = fixture_port()};
        fixture_name(hosts[i].name);
        file_name(hosts[i].log, hosts[i].name, "log");
        file_name(hosts[i].config, hosts[i].name, "ini");
    }
    for (unsigned i = 0; i < HOSTS; i++) {
        char line[64];
        peer_line(line, hosts[1 - i].port);
        write_config(&hosts[i], line);
        start(&hosts[i]);
    }
    CU_ASSERT_FATAL(wait_for(both_connected, START_MS));
}

static void tear_down(void) {
    for (unsigned i = 0; i < HOSTS; i++) {
        if (hosts[i].pid != 0)
            CU_ASSERT_EQUAL(stop(&hosts[i], SIGTERM), 0);
        fixture_check(hosts[i].cache);
        lr_cache_detach(hosts[i].cache);
        struct lr_options options = lr_options_default();
        options.name = hosts[i].name;
        CU_ASSERT_EQUAL(lr_cache_destroy(&options, NULL), 0);
    }
}

/* ---- contents ------------------------------------------------------------------------------------------------------
 */

static void put(const struct host *host, const char *prefix, unsigned from, unsigned to) {
    for (unsigned i = from; i < to; i++) {
        char key[40];
        struct lr_put row = {.key = key,
                             .key_len = (size_t)snprintf(key, sizeof key, "%s%u", prefix, i),
                             .value = prefix,
                             .value_len = strlen(prefix)};
        CU_ASSERT_EQUAL(lr_put(host->cache, &row), 0);
    }
}

static unsigned count(const struct host *host, const char *prefix, unsigned to) {
    unsigned found = 0;
    for (unsigned i = 0; i < to; i++) {
        char key[40], value[40];
        found += lr_get(host->cache, key, (size_t)snprintf(key, sizeof key, "%s%u", prefix, i), value, sizeof value,
                        NULL, LR_PEEK) == 0;
    }
    return found;
}

/* ---- tests ----------------------------------------------------------------------------------------------------------
 */

static void changes_travel_both_ways_between_two_daemons(void) {
    set_up();
    put(&hosts[0], "a", 0, 200);
    put(&hosts[1], "b", 0, 200);
    for (unsigned i = 0; i < 200; i++) {
        put(&hosts[i % 2], "same", i % 10, i % 10 + 1);
        if (i < 50) {
            char key[40];
            lr_delete(hosts[1].cache, key, (size_t)snprintf(key, sizeof key, "b%u", i));
        }
    }
    CU_ASSERT(wait_for(both_drained, 10000));
    CU_ASSERT_EQUAL(count(&hosts[1], "a", 200), 200);
    CU_ASSERT_EQUAL(count(&hosts[0], "b", 200), 150);
    CU_ASSERT_EQUAL(lr_await(hosts[0].cache, "same", 4, 1, 5000), 1);
    put(&hosts[0], "awaited", 0, 1);
    CU_ASSERT_EQUAL(lr_await(hosts[0].cache, "awaited0", 8, 1, 5000), 1);
    CU_ASSERT_EQUAL(count(&hosts[1], "awaited", 1), 1); /* at once */
    fixture_sleep_ms(600);                              /* lag is reported twice a second */
    struct lr_sidecar_state state;
    lr_sidecar_state(hosts[1].cache, &state);
    CU_ASSERT(state.lag_p50_us < 2000000 && state.lag_p50_us <= state.lag_p99_us);
    CU_ASSERT_EQUAL(lr_flush(hosts[0].cache), 0);
    CU_ASSERT(wait_for(both_drained, 5000));
    CU_ASSERT_EQUAL(count(&hosts[1], "a", 200), 0);
    tear_down();
}

static char said[8192];

/* `larder WORDS --name ...` on host zero: its exit status, and what it said in `said`. */
static int ask(const char *words) {
    char command[1024];
    snprintf(command, sizeof command, "%s %s --name %s", fixture_program("larder"), words, hosts[0].name);
    return fixture_run(command, said, sizeof said);
}

static long long member(const char *name) {
    json_t *object = json_loads(said, 0, NULL), *value = json_object_get(object, name);
    CU_ASSERT(json_is_object(object));
    const long long number = json_is_integer(value) ? json_integer_value(value) : -1;
    json_decref(object);
    return number;
}

static void who_asks_how_many_hosts_have_a_change_is_told(void) {
    set_up();
    CU_ASSERT_EQUAL(ask("set a b --peers 1 --timeout 5s"), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, ", 1 other hosts have it"));
    CU_ASSERT_EQUAL(ask("set a b --peers 1 --timeout 5s --json"), 0);
    CU_ASSERT_EQUAL(member("peers"), 1);
    CU_ASSERT_EQUAL(ask("set a b --peers 2 --timeout 100ms --json"), 7);
    CU_ASSERT_EQUAL(member("peers"), 1);
    CU_ASSERT_EQUAL(member("value_bytes"), 1); /* it is stored here */
    CU_ASSERT(strstr(said, "\"error\"") != NULL && strstr(said, "1 of the 2") != NULL);
    put(&hosts[0], "k", 0, 4);
    CU_ASSERT_EQUAL(ask("del k0 absent k1 --peers 1 --timeout 5s --json"), 1);
    CU_ASSERT(member("peers") == 1 && member("deleted") == 2);
    CU_ASSERT_EQUAL(count(&hosts[1], "k", 2), 0);
    kill(hosts[1].pid, SIGSTOP);
    CU_ASSERT_EQUAL(ask("del k2 k3 --peers 1 --timeout 100ms --json"), 7);
    CU_ASSERT(member("peers") == 0 && member("deleted") == 2);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "larderd goes on sending"));
    CU_ASSERT_EQUAL(count(&hosts[0], "k", 4), 0); /* both are gone here */
    put(&hosts[0], "k", 0, 1);
    CU_ASSERT_EQUAL(ask("del k0 --hex-key --peers 1 --timeout 0"), 2); /* no such digits: nothing is deleted */
    CU_ASSERT_EQUAL(count(&hosts[0], "k", 1), 1);
    kill(hosts[1].pid, SIGCONT);
    CU_ASSERT_EQUAL(stop(&hosts[0], SIGKILL), -SIGKILL);
    CU_ASSERT_EQUAL(ask("set a c --peers 1 --timeout 0"), 7);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "larderd is not running"));
    tear_down();
}

static void a_killed_daemon_catches_up_when_it_is_started_again(void) {
    set_up();
    put(&hosts[0], "before", 0, 100);
    CU_ASSERT(wait_for(both_drained, 10000));
    for (unsigned round = 0; round < 3; round++) {
        CU_ASSERT_EQUAL(stop(&hosts[0], SIGKILL), -SIGKILL);
        put(&hosts[0], "meanwhile", round * 50, round * 50 + 50);
        put(&hosts[1], "there", round * 50, round * 50 + 50);
        start(&hosts[0]);
        put(&hosts[0], "after", round * 10, round * 10 + 10);
        CU_ASSERT(wait_for(both_drained, 15000));
    }
    CU_ASSERT_EQUAL(count(&hosts[1], "meanwhile", 150), 150);
    CU_ASSERT_EQUAL(count(&hosts[0], "there", 150), 150);
    tear_down();
}

static void a_stopped_daemon_is_given_up_and_found_again(void) {
    set_up();
    kill(hosts[1].pid, SIGSTOP);
    put(&hosts[0], "a", 0, 200);
    CU_ASSERT(wait_for(none_connected, 6000));
    put(&hosts[1], "b", 0, 100);
    kill(hosts[1].pid, SIGCONT);
    CU_ASSERT(wait_for(both_drained, 15000));
    CU_ASSERT_EQUAL(count(&hosts[1], "a", 200), 200);
    CU_ASSERT_EQUAL(count(&hosts[0], "b", 100), 100);
    CU_ASSERT(log_says(&hosts[0], "silent"));
    tear_down();
}

static void sighup_takes_peers_from_the_file_and_nothing_from_a_wrong_one(void) {
    set_up();
    write_config(&hosts[0], "peer = 127.0.0.1\n");
    kill(hosts[0].pid, SIGHUP);
    fixture_sleep_ms(700);
    CU_ASSERT(both_connected());
    CU_ASSERT(log_says(&hosts[0], "the configuration stays as it was"));
    write_config(&hosts[0], "peer = 192.0.2.1:7411\n");
    kill(hosts[0].pid, SIGHUP);
    fixture_sleep_ms(700);
    CU_ASSERT(both_connected());
    CU_ASSERT(log_says(&hosts[0], "not a loopback address"));
    write_config(&hosts[0], "# alone\n");
    kill(hosts[0].pid, SIGHUP);
    CU_ASSERT(wait_for(none_connected, 3000));
    CU_ASSERT(lr_replicating(hosts[0].cache)); /* it may come back */
    put(&hosts[0], "alone", 0, 50);
    char line[64];
    peer_line(line, hosts[1].port);
    write_config(&hosts[0], line);
    kill(hosts[0].pid, SIGHUP);
    CU_ASSERT(wait_for(both_drained, 15000));
    CU_ASSERT_EQUAL(count(&hosts[1], "alone", 50), 50);
    tear_down();
}

static void sigterm_drains_and_leaves_the_segment(void) {
    set_up();
    put(&hosts[0], "last", 0, 500);
    CU_ASSERT_EQUAL(stop(&hosts[0], SIGTERM), 0);
    CU_ASSERT_EQUAL(count(&hosts[1], "last", 500), 500);
    CU_ASSERT_EQUAL(count(&hosts[0], "last", 500), 500);
    CU_ASSERT(log_says(&hosts[0], "drained"));
    start(&hosts[0]);
    CU_ASSERT(wait_for(both_drained, 10000));
    tear_down();
}

static void a_destroyed_segment_ends_its_daemon(void) {
    set_up();
    struct lr_options options = lr_options_default();
    int status = 0;
    options.name = hosts[0].name;
    CU_ASSERT_EQUAL(lr_cache_destroy(&options, NULL), 0);
    for (unsigned ms = 0; ms < 5000 && waitpid(hosts[0].pid, &status, WNOHANG) == 0; ms += 20)
        fixture_sleep_ms(20);
    CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    CU_ASSERT(log_says(&hosts[0], "the segment was destroyed or replaced"));
    hosts[0].pid = 0;
    lr_cache_detach(hosts[0].cache);
    hosts[0].cache = NULL;
    start(&hosts[0]);
    CU_ASSERT(wait_for(both_drained, 10000));
    tear_down();
}

static void send_bytes(unsigned port, const void *bytes, size_t len) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 && send(fd, bytes, len, MSG_NOSIGNAL) > 0) {
        char answer[256];
        struct timeval patience = {.tv_usec = 2000};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        (void)!recv(fd, answer, sizeof answer, 0);
    }
    close(fd);
}

static void garbage_on_the_port_disturbs_nobody(void) {
    struct fixture_random random = fixture_seed("garbage on the port");
    set_up();
    put(&hosts[0], "safe", 0, 100);
    send_bytes(hosts[0].port, "GET / HTTP/1.1\r\n\r\n", 18);
    for (unsigned i = 0; i < 300; i++) {
        uint8_t bytes[2048];
        size_t len = 1 + fixture_below(&random, sizeof bytes);
        for (size_t k = 0; k < len; k++)
            bytes[k] = (uint8_t)fixture_next(&random);
        if (i % 3 == 0)
            memset(bytes, 0, len);
        send_bytes(hosts[i % 2].port, bytes, len);
    }
    CU_ASSERT(wait_for(both_drained, 10000));
    CU_ASSERT(log_says(&hosts[0], "these are not frames of a larderd"));
    CU_ASSERT_EQUAL(count(&hosts[1], "safe", 100), 100);
    tear_down();
}

static void expect_refusal(const char *arguments, int status, const char *text) {
    char command[6000], out[4096];
    snprintf(command, sizeof command, "%s %s", fixture_program("larderd"), arguments);
    int result = fixture_run(command, out, sizeof out);
    if (result != status || strstr(out, text) == NULL)
        printf("\n    larderd %s: status %d: %s", arguments, result, out);
    CU_ASSERT_EQUAL(result, status);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, text));
}

#define LONG "a234567890b234567890c234567890d234567890e234567890f234567890g234567890h234567890i234567890j234567890"

static void wrong_options_are_refused_with_both_sides_named(void) {
    char name[65], text[1024];
    fixture_name(name);
    expect_refusal("", 2, "no segment is named");
    expect_refusal("--name a --path /b", 2, "both a name and a path");
    expect_refusal("--name", 2, "needs a value");
    expect_refusal("--nonsense 1", 2, "unknown option \"--nonsense\"");
    expect_refusal("--name x --listen 192.0.2.7:7411", 2, "192.0.2.7:7411 is not a loopback address");
    expect_refusal("--name x --listen 0.0.0.0:7411", 2, "without keys only");
    expect_refusal("--name x --listen localhost", 2, "\"localhost\" is not an address");
    expect_refusal("--name x --listen ::1:70", 2, "is not an address");
    expect_refusal("--name x --listen 127.0.0.1:70000", 2, "port from 1 to 65535");
    expect_refusal("--name x --peer 10.1.2.3:99", 2, "10.1.2.3:99 is not a loopback address");
    expect_refusal("--name x --size 12Q", 2, "\"12Q\" is not a size");
    expect_refusal("--name x --mode 9", 2, "in octal");
    expect_refusal("--name x --policy lifo", 2, "\"lifo\" is not a policy");
    expect_refusal("--name x --log loud", 2, "\"loud\" is not a log level");
    expect_refusal("--name x --clock-limit-ms 1", 2, "a number from 10 to 3600000");
    char slash[60];
    snprintf(slash, sizeof slash, "--name a/b --listen 127.0.0.1:%u", fixture_port());
    expect_refusal(slash, 2, "a/b");
    expect_refusal("--config /nonexistent/larderd.ini", 2, "/nonexistent/larderd.ini cannot be read");
    expect_refusal("--config /", 2, "/ cannot be read: Is a directory");
    file_name(text, "wrong", "ini");
    static const struct {
        const char *text, *complaint;
    } files[] = {{"colour = red\n", "unknown key \"colour\""},
                 {"[daemon]\nname = x\n", "section [daemon]"},
                 {"size = many\n", "\"many\" is not a size"},
                 {"name x\n", "line 1"},
                 {"name = x\n\ncolour = red\n", "ini: line 3: unknown key"},
                 {"name = x\nnode = " LONG LONG "\n", "line 2 has more than 198 bytes"},
                 {"path = /dev/shm/" LONG "\nlog = loud", "line 2: log: \"loud\""}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char arguments[1100];
        write_file(text, files[i].text);
        snprintf(arguments, sizeof arguments, "--config %s", text);
        expect_refusal(arguments, 2, files[i].complaint);
    }
    expect_refusal("--help", 0, "--clock-limit-ms MS");
    expect_refusal("--version", 0, "larderd ");
}

/* Whether there is a file of a segment of that name: the segment, what lies beside it, a socket. */
static bool leaves_something(const char *name) {
    static const char *const ends[] = {"", ".live", "+control"};
    bool any = false;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char path[160];
        snprintf(path, sizeof path, "/dev/shm/larder.%s%s", name, ends[i]);
        any |= access(path, F_OK) == 0;
    }
    return any;
}

static void a_second_daemon_and_a_taken_port_are_refused(void) {
    char arguments[256], other[65];
    set_up();
    snprintf(arguments, sizeof arguments, "--name %s --listen 127.0.0.1:%u", hosts[0].name, fixture_port());
    expect_refusal(arguments, 1, "another larderd works on segment");
    fixture_name(other);
    snprintf(arguments, sizeof arguments, "--name %s --listen 127.0.0.1:%u", other, hosts[0].port);
    expect_refusal(arguments, 1, "address already in use");
    CU_ASSERT(both_connected());
    tear_down();
}

/* Fails when it has the segment already: no thread gets a stack of two gigabytes. With a sanitizer, which needs more
 * addresses than that, it fails earlier. */
static void expect_no_thread(const char *name) {
    char command[2048], out[4096];
    snprintf(command, sizeof command,
             "ulimit -s 2000000; ulimit -v 1000000; %s --name %s --size 1M --listen 127.0.0.1:%u",
             fixture_program("larderd"), name, fixture_port());
    const int status = fixture_run(command, out, sizeof out);
    CU_ASSERT(status != 0);
    if (FIXTURE_SANITIZED)
        return;
    CU_ASSERT_EQUAL(status, 3);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "a thread cannot be started"));
}

static void a_daemon_that_cannot_start_leaves_no_segment_that_was_not_there(void) {
    char name[65], arguments[1300], wrong[1024];
    set_up();
    fixture_name(name);
    snprintf(arguments, sizeof arguments, "--name %s --listen 127.0.0.1:%u", name, hosts[0].port);
    expect_refusal(arguments, 1, "address already in use");
    CU_ASSERT_FALSE(leaves_something(name));
    snprintf(arguments, sizeof arguments, "--name %s --tls-psk-file /nonexistent/larder.psk", name);
    expect_refusal(arguments, 2, "/nonexistent/larder.psk");
    CU_ASSERT_FALSE(leaves_something(name));
    file_name(wrong, "unknown", "ini");
    write_file(wrong, "colour = red\n");
    snprintf(arguments, sizeof arguments, "--name %s --config %s", name, wrong);
    expect_refusal(arguments, 2, "unknown key");
    CU_ASSERT_FALSE(leaves_something(name));
    expect_no_thread(name);
    CU_ASSERT_FALSE(leaves_something(name));
    tear_down();
}

static void a_segment_that_was_there_stays_when_a_daemon_cannot_start(void) {
    char arguments[1300];
    struct lr_options options = lr_options_default();
    struct lr_cache *cache;
    struct lr_stat stat;
    char name[65], wrong[1024];
    set_up();
    fixture_name(name);
    options.name = name;
    options.size = UINT64_C(1) << 20;
    CU_ASSERT_EQUAL_FATAL(lr_cache_create(&options, &cache, NULL), 0);
    struct lr_put change = {.key = "stays", .key_len = 5, .value = "here", .value_len = 4};
    CU_ASSERT_EQUAL(lr_put(cache, &change), 0);
    lr_cache_detach(cache); /* nobody has it open, which is no reason to remove it */
    file_name(wrong, "modes", "ini");
    write_file(wrong, "prefix = stays=local\npeer = 127.0.0.1:9\n");
    snprintf(arguments, sizeof arguments, "--name %s --config %s --listen 127.0.0.1:%u", name, wrong, hosts[0].port);
    expect_refusal(arguments, 1, "address already in use");
    CU_ASSERT_EQUAL_FATAL(lr_cache_attach(&options, &cache, NULL), 0);
    CU_ASSERT_EQUAL(lr_modes_hash(cache), 0); /* nor was it changed */
    lr_stat(cache, &stat);
    CU_ASSERT_FALSE(stat.replicating);
    lr_cache_detach(cache);
    expect_no_thread(name);
    CU_ASSERT_EQUAL_FATAL(lr_cache_attach(&options, &cache, NULL), 0);
    char value[8];
    struct lr_item item;
    CU_ASSERT_EQUAL(lr_get(cache, "stays", 5, value, sizeof value, &item, 0), 0);
    lr_cache_detach(cache);
    CU_ASSERT_EQUAL(lr_cache_destroy(&options, NULL), 0);
    tear_down();
}

static void a_peer_by_name_is_resolved(void) {
    set_up();
    char line[128];
    snprintf(line, sizeof line, "peer = localhost:%u\n", hosts[1].port);
    write_config(&hosts[0], line);
    kill(hosts[0].pid, SIGHUP);
    fixture_sleep_ms(1000);
    put(&hosts[0], "named", 0, 20);
    CU_ASSERT(wait_for(both_drained, 15000));
    CU_ASSERT_EQUAL(count(&hosts[1], "named", 20), 20);
    tear_down();
}

void larder_suite_90_cluster(void);
void larder_suite_90_cluster(void) {
    CU_pSuite suite = CU_add_suite("90_cluster", NULL, NULL);
    CU_ADD_TEST(suite, wrong_options_are_refused_with_both_sides_named);
    CU_ADD_TEST(suite, changes_travel_both_ways_between_two_daemons);
    CU_ADD_TEST(suite, who_asks_how_many_hosts_have_a_change_is_told);
    CU_ADD_TEST(suite, a_killed_daemon_catches_up_when_it_is_started_again);
    CU_ADD_TEST(suite, a_stopped_daemon_is_given_up_and_found_again);
    CU_ADD_TEST(suite, sighup_takes_peers_from_the_file_and_nothing_from_a_wrong_one);
    CU_ADD_TEST(suite, sigterm_drains_and_leaves_the_segment);
    CU_ADD_TEST(suite, a_destroyed_segment_ends_its_daemon);
    CU_ADD_TEST(suite, garbage_on_the_port_disturbs_nobody);
    CU_ADD_TEST(suite, a_second_daemon_and_a_taken_port_are_refused);
    CU_ADD_TEST(suite, a_daemon_that_cannot_start_leaves_no_segment_that_was_not_there);
    CU_ADD_TEST(suite, a_segment_that_was_there_stays_when_a_daemon_cannot_start);
    CU_ADD_TEST(suite, a_peer_by_name_is_resolved);
}
