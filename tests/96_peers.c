/* SPDX-License-Identifier: MIT */
/*
 * Peers that come and go while larderd runs: named by its file, by an operator (`larder peers`), by a name that is
 * looked up; and what of them counts (sidecar/roster.h).
 */
#include "certs.h"
#include "daemons.h"
#include "roster.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>

static struct host hosts[3];
static char out[65536];

/* ---- who is a peer
 * ---------------------------------------------------------------------------------------------------- */

static struct lr_roster roster;

/* Addresses separated by blanks. */
static unsigned split(const char *text, char (*rows)[LR_ADDRESS_BYTES]) {
    char copy[1024];
    unsigned count = 0;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        snprintf(rows[count++], LR_ADDRESS_BYTES, "%s", word);
    return count;
}

static void configured(const char *text) {
    char rows[8][LR_ADDRESS_BYTES];
    unsigned count = split(text, rows);
    CU_ASSERT_EQUAL(lr_roster_configure(&roster, (const char(*)[LR_ADDRESS_BYTES])rows, count), 0);
}

static void answered(const char *text) {
    char rows[8][LR_ADDRESS_BYTES];
    unsigned count = split(text, rows);
    CU_ASSERT_EQUAL(lr_roster_answer(&roster, (const char(*)[LR_ADDRESS_BYTES])rows, count), 0);
}

static void expect_peers(const char *text) {
    char rows[8][LR_ADDRESS_BYTES];
    unsigned count = split(text, rows);
    CU_ASSERT_EQUAL(lr_roster_peers(&roster), count);
    for (unsigned i = 0; i < count; i++)
        CU_ASSERT(lr_roster_is_peer(lr_roster_find(&roster, rows[i])));
}

static void who_spoke_last_about_an_address_is_heard(void) {
    roster = (struct lr_roster){.found_by = "service"};
    configured("a:1 b:1");
    CU_ASSERT_EQUAL(lr_roster_add(&roster, "c:1"), 0);
    CU_ASSERT_EQUAL(lr_roster_add(&roster, "c:1"), LARDER_EEXISTS);
    CU_ASSERT_EQUAL(lr_roster_add(&roster, "a:1"), LARDER_EEXISTS);
    CU_ASSERT_EQUAL(lr_roster_remove(&roster, "b:1"), 0);
    CU_ASSERT_EQUAL(lr_roster_remove(&roster, "b:1"), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(lr_roster_remove(&roster, "x:1"), LARDER_ENOT_FOUND);
    expect_peers("a:1 c:1");
    configured("a:1 b:1"); /* a reload that says nothing new */
    expect_peers("a:1 c:1");
    configured("a:1 b:1 d:1");
    expect_peers("a:1 c:1 d:1");
    configured("a:1 d:1"); /* it ceases to name b, so the removal has nothing to remove any more ... */
    configured("a:1 b:1 d:1");
    expect_peers("a:1 b:1 c:1 d:1"); /* ... and b is new */
    CU_ASSERT_EQUAL(lr_roster_remove(&roster, "b:1"), 0);
    CU_ASSERT_EQUAL(lr_roster_add(&roster, "b:1"), 0);
    expect_peers("a:1 b:1 c:1 d:1");
    configured("d:1 c:1"); /* what an operator added stays, also when the file names it and ceases to */
    configured("d:1");
    expect_peers("b:1 c:1 d:1");
    CU_ASSERT_EQUAL(lr_roster_remove(&roster, "c:1"), 0);
    CU_ASSERT_PTR_NULL(lr_roster_find(&roster, "c:1"));
}

static void an_address_that_is_found_no_more_goes_at_the_third_answer(void) {
    roster = (struct lr_roster){.found_by = "service"};
    char host[LR_ADDRESS_BYTES];
    configured("a:1");
    answered("a:1 b:1 c:1");
    expect_peers("a:1 b:1 c:1");
    lr_roster_host(&roster, "a:1", host); /* which name its certificate must bear: its own, as the file says */
    CU_ASSERT_STRING_EQUAL(host, "a");
    lr_roster_host(&roster, "b:1", host);
    CU_ASSERT_STRING_EQUAL(host, "service");
    lr_roster_host(&roster, "stranger:1", host);
    CU_ASSERT_STRING_EQUAL(host, "stranger");
    for (unsigned i = 0; i < 5; i++) {
        answered("b:1");
        answered("b:1");
        expect_peers("a:1 b:1 c:1");
        answered("b:1 c:1");
    }
    answered("b:1");
    answered("b:1");
    CU_ASSERT_EQUAL(lr_roster_remove(&roster, "b:1"), 0); /* although it is found */
    answered("b:1");
    expect_peers("a:1"); /* c was missed three times */
    for (unsigned i = 0; i < 3; i++)
        answered("");
    answered("b:1");
    expect_peers("a:1 b:1"); /* a host that comes back is a new one */
    answered("a:1 b:1");
    configured("");
    expect_peers("a:1 b:1");
}

static void too_many_peers_are_refused_and_the_others_stay(void) {
    roster = (struct lr_roster){0};
    char rows[LR_MAX_PEERS + 5][LR_ADDRESS_BYTES];
    for (unsigned i = 0; i < LR_MAX_PEERS + 5; i++)
        snprintf(rows[i], sizeof rows[i], "host%u:1", i);
    CU_ASSERT_EQUAL(lr_roster_answer(&roster, (const char(*)[LR_ADDRESS_BYTES])rows, LR_MAX_PEERS + 5), LARDER_EFULL);
    CU_ASSERT_EQUAL(lr_roster_peers(&roster), LR_MAX_PEERS);
    CU_ASSERT_EQUAL(lr_roster_add(&roster, "one:1"), LARDER_EFULL);
    CU_ASSERT_EQUAL(lr_roster_remove(&roster, "host3:1"), 0);
    CU_ASSERT_EQUAL(lr_roster_add(&roster, "one:1"), 0);
    CU_ASSERT_EQUAL(lr_roster_add(&roster, "host3:1"), LARDER_EFULL);
    CU_ASSERT_EQUAL(lr_roster_peers(&roster), LR_MAX_PEERS);
    struct fixture_random random = fixture_seed("peers by chance");
    for (unsigned i = 0; i < 20000; i++) { /* whatever is said, the tables hold */
        char address[LR_ADDRESS_BYTES];
        unsigned from = (unsigned)fixture_below(&random, LR_MAX_PEERS);
        snprintf(address, sizeof address, "host%u:1", (unsigned)fixture_below(&random, 200));
        switch (fixture_below(&random, 4)) {
        case 0:
            lr_roster_add(&roster, address);
            break;
        case 1:
            lr_roster_remove(&roster, address);
            break;
        case 2:
            lr_roster_configure(&roster, (const char(*)[LR_ADDRESS_BYTES])rows + from, LR_MAX_PEERS + 5 - from);
            break;
        default:
            lr_roster_answer(&roster, (const char(*)[LR_ADDRESS_BYTES])rows, from);
        }
        CU_ASSERT_FATAL(roster.count <= LR_ROSTER_ROWS && lr_roster_peers(&roster) <= LR_MAX_PEERS);
    }
}

/* ---- daemons
 * ---------------------------------------------------------------------------------------------------------- */

static void set_up(unsigned count) {
    for (unsigned i = 0; i < count; i++)
        host_make(&hosts[i]);
}

static void tear_down(unsigned count) {
    for (unsigned i = 0; i < count; i++)
        host_remove(&hosts[i]);
}

/* `larder peers ...` of a host; the output is left in `out`. */
static int peers(const struct host *host, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int peers(const struct host *host, const char *format, ...) {
    char tail[512], command[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(tail, sizeof tail, format, arguments);
    va_end(arguments);
    snprintf(command, sizeof command, "%s peers --name %s %s", fixture_program("larder"), host->name, tail);
    return fixture_run(command, out, sizeof out);
}

static void expect(int status, int wanted, const char *text) {
    if (status != wanted || strstr(out, text) == NULL)
        printf("\n    exit status %d in place of %d, or no \"%s\" in: %.600s\n", status, wanted, text, out);
    CU_ASSERT(status == wanted && strstr(out, text) != NULL);
}

/* Starts a larderd that stands still as soon as it has made its segment, before it has a peer: it wants to tell of its
 * modes, and nobody reads what it says. */
static pid_t start_speechless(const char *name, const char *option, const char *value) {
    const char *program = fixture_program("larderd");
    char address[32];
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    snprintf(address, sizeof address, "127.0.0.1:%u", fixture_port());
    while (write(ends[1], out, sizeof out) > 0 || write(ends[1], out, 1) > 0)
        continue;
    fcntl(ends[1], F_SETFL, 0);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[0], 0); /* so that the pipe has a reader */
        dup2(ends[1], 2);
        alarm(60);
        execl(program, program, "--name", name, "--size", "1M", "--listen", address, "--prefix", "x=local", option,
              value, (char *)NULL);
        _exit(127);
    }
    close(ends[0]);
    close(ends[1]);
    return child;
}

/* Processes may find a new segment before larderd has come to its peers: here it never does. */
static void a_segment_that_larderd_makes_keeps_tombstones_from_its_first_moment(void) {
    static const char *const peers_by[][2] = {
        {"--peer", "127.0.0.1:9"}, {"--discover", "localhost:9"}, {"--tombstone-s", "9"}};
    for (unsigned i = 0; i < 3; i++) {
        char name[65];
        struct lr_cache *cache = NULL;
        struct lr_options options = lr_options_default();
        fixture_name(name);
        options.name = name;
        const pid_t child = start_speechless(name, peers_by[i][0], peers_by[i][1]);
        for (unsigned tries = 0; tries < 1000 && lr_cache_attach(&options, &cache, NULL) != 0; tries++)
            fixture_sleep_ms(10);
        CU_ASSERT_PTR_NOT_NULL_FATAL(cache);
        for (unsigned tries = 0; tries < 1000 && lr_modes_hash(cache) == 0; tries++)
            fixture_sleep_ms(10);
        CU_ASSERT_NOT_EQUAL(lr_modes_hash(cache), 0); /* there it stands */
        CU_ASSERT_EQUAL(lr_replicating(cache), i < 2);
        kill(child, SIGKILL);
        CU_ASSERT_EQUAL(fixture_wait(child), -SIGKILL);
        lr_cache_detach(cache);
        lr_cache_destroy(&options, NULL);
    }
}

static void peers_are_added_and_removed_under_way_and_no_change_is_lost(void) {
    char key[32], lines[128];
    set_up(3);
    for (unsigned i = 0; i < 3; i++) {
        host_configure(&hosts[i], "");
        host_start(&hosts[i]);
        expect(peers(&hosts[i], "list"), 0, "none, loopback only");
    }
    for (unsigned round = 0; round < 60; round++) { /* writers do not stop meanwhile */
        snprintf(key, sizeof key, "key %u", round);
        CU_ASSERT_EQUAL(host_put(&hosts[round % 3], key, "value"), 0);
        if (round == 10) {
            expect(peers(&hosts[0], "add %s %s", hosts[1].address, hosts[2].address), 0, "added");
            expect(peers(&hosts[1], "add %s", hosts[0].address), 0, "until this larderd ends");
            expect(peers(&hosts[2], "add %s", hosts[0].address), 0, "added");
        }
        if (round == 30) {
            CU_ASSERT(host_will_link(&hosts[0], 2));
            expect(peers(&hosts[0], "remove %s", hosts[2].address), 0, "removed");
        }
        if (round == 50)
            expect(peers(&hosts[0], "add %s", hosts[2].address), 0, "added");
        if (round == 40) { /* what was deleted while it was away does not come back with it */
            CU_ASSERT(host_will_have(&hosts[0], "key 0", "value"));
            CU_ASSERT_EQUAL(lr_delete(hosts[0].cache, "key 0", 5), 0);
        }
        fixture_sleep_ms(5);
    }
    CU_ASSERT(host_will_link(&hosts[0], 2));
    for (unsigned i = 1; i < 60; i++) {
        snprintf(key, sizeof key, "key %u", i);
        for (unsigned k = 0; k < 3; k++)
            CU_ASSERT(host_will_have(&hosts[k], key, "value"));
    }
    for (unsigned k = 0; k < 3; k++) {
        CU_ASSERT_FALSE(host_has(&hosts[k], "key 0", "value"));
        CU_ASSERT(host_will_agree(&hosts[0], &hosts[k]));
    }
    CU_ASSERT_EQUAL(host_log_count(&hosts[0], " started segment="), 1);
    /* A reload with a file that never named them leaves them alone. */
    snprintf(lines, sizeof lines, "# nothing\n");
    host_configure(&hosts[0], lines);
    host_signal(&hosts[0], SIGHUP);
    CU_ASSERT(host_will_log(&hosts[0], "SIGHUP: peers reloaded before=2 now=2"));
    CU_ASSERT(host_will_link(&hosts[0], 2));
    snprintf(lines, sizeof lines, "peer = %s\npeer = 127.0.0.1:9\n", hosts[1].address);
    host_configure(&hosts[0], lines);
    host_signal(&hosts[0], SIGHUP);
    CU_ASSERT(host_will_log(&hosts[0], "SIGHUP: peers reloaded before=2 now=3"));
    expect(peers(&hosts[0], "remove 127.0.0.1:9"), 0, "removed");
    host_signal(&hosts[0], SIGHUP);
    CU_ASSERT(host_will_log(&hosts[0], "SIGHUP: peers reloaded before=2 now=2"));
    CU_ASSERT(host_will_link(&hosts[0], 2));
    tear_down(3);
}

/* It hears a little later than the other host. */
static void expect_live(void) {
    for (unsigned tries = 0; tries < 500 && peers(&hosts[0], "list") == 0 && strstr(out, "LIVE") == NULL; tries++)
        fixture_sleep_ms(10);
    expect(peers(&hosts[0], "list"), 0, "LIVE");
}

static void a_list_of_peers_says_how_it_stands_in_words_and_json(void) {
    char lines[256];
    json_error_t error;
    set_up(2);
    snprintf(lines, sizeof lines, "node = zero\npeer = %s\npeer = 127.0.0.1:9\n", hosts[1].address);
    host_configure(&hosts[0], lines);
    snprintf(lines, sizeof lines, "node = on\te\npeer = %s\n", hosts[0].address); /* a name that would break a line */
    host_configure(&hosts[1], lines);
    host_start(&hosts[0]);
    host_start(&hosts[1]);
    CU_ASSERT(host_will_link(&hosts[1], 1));
    expect_live();
    expect(peers(&hosts[0], "%s", ""), 0, "named by   configured");
    expect(peers(&hosts[0], "list --json"), 0, "\"peers\"");
    json_t *object = json_loads(out, 0, &error);
    CU_ASSERT_PTR_NOT_NULL_FATAL(object);
    const json_t *rows = json_object_get(object, "peers"), *row = NULL;
    CU_ASSERT_EQUAL(json_array_size(rows), 2);
    for (size_t i = 0; i < json_array_size(rows); i++)
        if (strcmp(json_string_value(json_object_get(json_array_get(rows, i), "address")), hosts[1].address) == 0)
            row = json_array_get(rows, i);
    CU_ASSERT_PTR_NOT_NULL_FATAL(row);
    CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(row, "state")), "LIVE");
    CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(row, "node")), "on?e");
    CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(row, "secured_by")), "nothing");
    CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(object, "node")), "zero");
    CU_ASSERT(json_is_null(json_object_get(object, "keys_end_s")));
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(row, "unacked")), 0);
    CU_ASSERT(json_is_integer(json_object_get(row, "comparisons")) && json_is_integer(json_object_get(row, "pulled")));
    CU_ASSERT(json_is_integer(json_object_get(row, "unsettled")));
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(row, "unsettled")), 0);
    CU_ASSERT(json_is_null(json_object_get(row, "proof_ends_s")));
    CU_ASSERT(json_integer_value(json_object_get(row, "sent_bytes")) > 0); /* each has said HELLO */
    CU_ASSERT(json_integer_value(json_object_get(row, "received_bytes")) > 0);
    CU_ASSERT(json_is_integer(json_object_get(row, "clock_refusals")));
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(row, "resync_stripes")), 0);
    CU_ASSERT(json_is_integer(json_object_get(row, "looked_at")));
    CU_ASSERT(json_is_null(json_object_get(row, "sending")) && json_is_null(json_object_get(row, "fetching")));
    json_decref(object);
    snprintf(lines, sizeof lines, "%s stat --name %s", fixture_program("larder"), hosts[0].name);
    CU_ASSERT_EQUAL(fixture_run(lines, out, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "links          0 by TLS, 1 plain; keys: none, loopback only"));
    expect(peers(&hosts[0], "add 127.0.0.1:10 --json"), 0, "\"changed\": 1");
    expect(peers(&hosts[0], "add 127.0.0.1:10"), 1, "it is a peer already");
    expect(peers(&hosts[0], "remove 127.0.0.1:11"), 1, "it is no peer of this host");
    expect(peers(&hosts[0], "remove 127.0.0.1:11 --json"), 1, "\"NOT_FOUND\"");
    expect(peers(&hosts[0], "add 192.0.2.1:7411"), 2, "without keys only");
    expect(peers(&hosts[0], "add %s", hosts[0].address), 2, "this host itself");
    expect(peers(&hosts[0], "add nowhere"), 2, "\"nowhere\" is not an address");
    expect(peers(&hosts[0], "add 'a b:1'"), 2, "is not an address");
    expect(peers(&hosts[0], "add"), 2, "needs an address");
    expect(peers(&hosts[0], "list x"), 2, "takes no address");
    expect(peers(&hosts[0], "throw x"), 2, "none of list, add and remove");
    CU_ASSERT_EQUAL(host_stop(&hosts[0], SIGKILL), -SIGKILL); /* leaves its socket behind */
    expect(peers(&hosts[0], "list"), 3, "no larderd listens at");
    host_start(&hosts[0]);
    CU_ASSERT(host_will_link(&hosts[1], 1));
    expect_live();
    CU_ASSERT_EQUAL(host_stop(&hosts[0], SIGTERM), 0);
    expect(peers(&hosts[0], "list"), 3, "No such file");
    /* One that is never started again leaves nothing behind its segment. */
    CU_ASSERT_EQUAL(host_stop(&hosts[1], SIGKILL), -SIGKILL);
    expect(peers(&hosts[1], "list"), 3, "Connection refused");
    snprintf(lines, sizeof lines, "%s destroy --force --name %s", fixture_program("larder"), hosts[1].name);
    CU_ASSERT_EQUAL(fixture_run(lines, out, sizeof out), 0);
    expect(peers(&hosts[1], "list"), 3, "No such file");
    lr_cache_detach(hosts[1].cache);
    hosts[1].cache = NULL;
    tear_down(2);
}

/* ---- who may
 * ---------------------------------------------------------------------------------------------------------- */

static int connect_to(const struct host *host) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = 6};
    snprintf(address.sun_path, sizeof address.sun_path, "/dev/shm/larder.%s+control", host->name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

/* The answer to `line`, up to its end; "" if there was none. */
static const char *ask(const struct host *host, const char *line) {
    static char answer[65536];
    size_t len = 0;
    ssize_t got = 1;
    int fd = connect_to(host);
    (void)!send(fd, line, strlen(line), MSG_NOSIGNAL);
    while (fd >= 0 && (got = recv(fd, answer + len, sizeof answer - 1 - len, 0)) > 0)
        len += (size_t)got;
    answer[len] = '\0';
    close(fd);
    return answer;
}

static int as_another(void *context) {
    const struct host *host = context;
    CHILD_EXPECT(setgid(65534) == 0 && setuid(65534) == 0);
    CHILD_EXPECT(strncmp(ask(host, "peers list\n"), "ok\nhost\t", 8) == 0);
    CHILD_EXPECT(strncmp(ask(host, "peers add 127.0.0.1:9\n"), "error\t-15\t", 10) == 0);
    CHILD_EXPECT(strncmp(ask(host, "peers remove 127.0.0.1:10\n"), "error\t-15\t", 10) == 0);
    return 0;
}

static int as_a_stranger(void *context) {
    CHILD_EXPECT(setgid(65533) == 0 && setuid(65534) == 0);
    CHILD_EXPECT(connect_to(context) < 0 && errno == EACCES);
    return 0;
}

static void only_the_user_and_root_may_change_peers(void) {
    struct stat file;
    char path[128];
    set_up(1);
    host_configure(&hosts[0], "group = 65534\nmode = 0660\npeer = 127.0.0.1:10\n");
    if (geteuid() != 0) {
        fixture_skip(__func__, "becoming another user takes root");
        return;
    }
    host_start(&hosts[0]);
    snprintf(path, sizeof path, "/dev/shm/larder.%s+control", hosts[0].name);
    CU_ASSERT(stat(path, &file) == 0 && (file.st_mode & 07777) == 0660 && file.st_gid == 65534);
    CU_ASSERT_EQUAL(fixture_child(as_another, &hosts[0]), 0);
    CU_ASSERT_EQUAL(fixture_child(as_a_stranger, &hosts[0]), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(ask(&hosts[0], "peers list\n"), "127.0.0.1:10"));
    CU_ASSERT_PTR_NULL(strstr(ask(&hosts[0], "peers list\n"), "127.0.0.1:9"));
    tear_down(1);
}

static void garbage_and_silence_at_the_socket_disturb_nobody(void) {
    int silent[20];
    char line[2000];
    struct fixture_random random = fixture_seed("garbage at the control socket");
    set_up(1);
    host_configure(&hosts[0], "");
    host_start(&hosts[0]);
    CU_ASSERT(strncmp(ask(&hosts[0], "\n"), "error\t-12\t", 10) == 0);
    CU_ASSERT(strncmp(ask(&hosts[0], "peers\n"), "error\t-12\t", 10) == 0);
    CU_ASSERT(strncmp(ask(&hosts[0], "peers list now\n"), "error\t-12\t", 10) == 0);
    CU_ASSERT(strncmp(ask(&hosts[0], "peers add \n"), "error\t-12\t", 10) == 0);
    CU_ASSERT(strncmp(ask(&hosts[0], "peers add a:1 b:1\n"), "error\t-12\t", 10) == 0);
    CU_ASSERT(strncmp(ask(&hosts[0], "peers add [::1:1\n"), "error\t-12\t", 10) == 0);
    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = '\0';
    CU_ASSERT_STRING_EQUAL(ask(&hosts[0], line), "");
    for (unsigned i = 0; i < 200; i++) {
        for (size_t k = 0; k < sizeof line - 2; k++)
            line[k] = (char)(1 + fixture_below(&random, 255));
        line[fixture_below(&random, sizeof line - 2)] = '\n';
        ask(&hosts[0], line);
    }
    for (unsigned i = 0; i < 20; i++)
        silent[i] = connect_to(&hosts[0]);
    CU_ASSERT(strncmp(ask(&hosts[0], "peers list\n"), "ok\n", 3) == 0); /* they have two seconds, eight at a time */
    for (unsigned i = 0; i < 20; i++)
        close(silent[i]);
    CU_ASSERT(strncmp(ask(&hosts[0], "peers list\n"), "ok\n", 3) == 0);
    tear_down(1);
}

/* ---- names
 * ------------------------------------------------------------------------------------------------------------- */

static char names[1024];

static void write_names(const char *text) {
    FILE *file = fopen(names, "w"); /* in place: it is mounted where the resolver looks */
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fprintf(file, "127.0.0.1 localhost\n%s", text);
    fclose(file);
}

/* A host that believes the file of names; its address is 127.0.0.N with the port that all have. */
static void start_named(unsigned i, unsigned port, const char *files) {
    char lines[4096];
    host_make(&hosts[i]);
    snprintf(hosts[i].address, sizeof hosts[i].address, "127.0.0.%u:%u", i + 2, port);
    snprintf(hosts[i].wrapper, sizeof hosts[i].wrapper,
             "unshare %s sh -c 'mount --bind %.150s /etc/hosts && exec \"$@\"' sh", geteuid() == 0 ? "-m" : "-rm",
             names);
    snprintf(lines, sizeof lines, "discover = larder.test:%u\ndiscover-s = 1\n%s", port, files);
    host_configure(&hosts[i], lines);
    host_start(&hosts[i]);
}

static void the_addresses_of_a_name_are_peers_as_long_as_it_has_them(void) {
    char files[3500], cert[1000], key[1000], ca[1000];
    snprintf(names, sizeof names, "%s/names", fixture_folder());
    write_names("");
    if (fixture_run(geteuid() == 0 ? "unshare -m true" : "unshare -rm true", out, sizeof out) != 0) {
        fixture_skip(__func__, "this kernel gives no mount namespaces");
        return;
    }
    snprintf(cert, sizeof cert, "%s/names.cert", fixture_folder());
    snprintf(key, sizeof key, "%s/names.key", fixture_folder());
    snprintf(ca, sizeof ca, "%s/names.ca", fixture_folder());
    snprintf(files, sizeof files, "tls-cert = %s\ntls-key = %s\ntls-ca = %s\n", cert, key, ca);
    struct cert authority = cert_make(&(struct cert_wish){.subject = "authority"}, NULL);
    struct cert service = cert_make(&(struct cert_wish){.subject = "pod", .names = "DNS:larder.test"}, &authority);
    cert_write(&authority, ca, NULL);
    cert_write(&service, cert, key);
    unsigned port = fixture_port();
    write_names("127.0.0.2 larder.test\n127.0.0.3 larder.test\n");
    start_named(0, port, files);
    start_named(1, port, files);
    CU_ASSERT(host_will_link(&hosts[0], 1) && host_will_link(&hosts[1], 1)); /* itself is none */
    CU_ASSERT_EQUAL(host_put(&hosts[0], "a", "one"), 0);
    CU_ASSERT(host_will_have(&hosts[1], "a", "one"));
    /* A third host comes. */
    write_names("127.0.0.2 larder.test\n127.0.0.3 larder.test\n127.0.0.4 larder.test\n");
    start_named(2, port, files);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT(host_will_link(&hosts[i], 2));
    CU_ASSERT(host_will_have(&hosts[2], "a", "one"));
    expect(peers(&hosts[0], "list"), 0, "named by   found");
    expect(peers(&hosts[0], "list"), 0, "certificate CN=pod");
    /* The name server fails: nothing changes. */
    write_names("");
    CU_ASSERT(host_will_log(&hosts[0], "the peers stay as they are"));
    fixture_sleep_ms(3300);
    CU_ASSERT(host_will_link(&hosts[0], 2));
    /* One goes. */
    write_names("127.0.0.2 larder.test\n127.0.0.4 larder.test\n");
    CU_ASSERT(host_will_link(&hosts[0], 1) && host_will_link(&hosts[2], 1));
    CU_ASSERT(host_log_says(&hosts[0], "it can be looked up again"));
    CU_ASSERT_EQUAL(host_put(&hosts[0], "a", "two"), 0);
    CU_ASSERT(host_will_have(&hosts[2], "a", "two"));
    CU_ASSERT(host_has(&hosts[1], "a", "one"));
    tear_down(3);
    cert_free(&authority);
    cert_free(&service);
}

/* ---- many ------------------------------------------------------------------------------------------------------- */

#define SPOKES (FIXTURE_SANITIZED ? 20u : 99u)
#define SPOKE_MIB 2u /* of /dev/shm, with its fixed tables */

static bool all_have(const struct host *all, const char *key, const char *value) {
    for (unsigned i = 0; i <= SPOKES; i++)
        if (!host_will_have(&all[i], key, value))
            return false;
    return true;
}

/* In a mesh they would need 9,900 ends of links. */
static void a_hundred_hosts_with_a_relay_need_a_link_each(void) {
    static struct host all[100]; /* the relay, and those behind it */
    char lines[100 * 64] = "relay = yes\nsize = 64K\n", line[128];
    struct statvfs memory;
    if (statvfs("/dev/shm", &memory) != 0 || memory.f_bavail * memory.f_bsize < (SPOKES + 1) * SPOKE_MIB << 20) {
        fixture_skip(__func__, "/dev/shm is too small for a hundred segments");
        return;
    }
    for (unsigned i = 0; i <= SPOKES; i++)
        host_make(&all[i]);
    snprintf(line, sizeof line, "size = 64K\npeer = %s\n", all[0].address);
    for (unsigned i = 1; i <= SPOKES; i++) {
        size_t len = strlen(lines);
        snprintf(lines + len, sizeof lines - len, "peer = %s\n", all[i].address);
        host_configure(&all[i], line);
        host_start(&all[i]);
    }
    host_configure(&all[0], lines);
    host_start(&all[0]);
    CU_ASSERT(host_will_link(&all[0], SPOKES));
    CU_ASSERT_EQUAL(host_put(&all[1], "near", "a value"), 0);
    CU_ASSERT_EQUAL(host_put(&all[SPOKES], "far", "another"), 0);
    CU_ASSERT(all_have(all, "near", "a value") && all_have(all, "far", "another"));
    CU_ASSERT_EQUAL(host_put(&all[SPOKES / 2], "near", "a newer one"), 0);
    CU_ASSERT_EQUAL(lr_delete(all[2].cache, "far", 3), 0);
    CU_ASSERT(all_have(all, "near", "a newer one"));
    CU_ASSERT(host_will_agree(&all[2], &all[0]));
    for (unsigned i = 1; i <= SPOKES; i++)
        CU_ASSERT(host_will_agree(&all[0], &all[i]) && !host_has(&all[i], "far", "another"));
    for (unsigned i = SPOKES + 1; i-- > 0;)
        host_signal(&all[i], SIGTERM);
    for (unsigned i = SPOKES + 1; i-- > 0;) {
        CU_ASSERT_EQUAL(fixture_wait(all[i].pid), 0);
        all[i].pid = 0;
        host_remove(&all[i]);
    }
}

void larder_suite_96_peers(void);
void larder_suite_96_peers(void) {
    CU_pSuite suite = CU_add_suite("96_peers", NULL, NULL);
    CU_ADD_TEST(suite, who_spoke_last_about_an_address_is_heard);
    CU_ADD_TEST(suite, an_address_that_is_found_no_more_goes_at_the_third_answer);
    CU_ADD_TEST(suite, too_many_peers_are_refused_and_the_others_stay);
    CU_ADD_TEST(suite, a_segment_that_larderd_makes_keeps_tombstones_from_its_first_moment);
    CU_ADD_TEST(suite, peers_are_added_and_removed_under_way_and_no_change_is_lost);
    CU_ADD_TEST(suite, a_list_of_peers_says_how_it_stands_in_words_and_json);
    CU_ADD_TEST(suite, only_the_user_and_root_may_change_peers);
    CU_ADD_TEST(suite, garbage_and_silence_at_the_socket_disturb_nobody);
    CU_ADD_TEST(suite, the_addresses_of_a_name_are_peers_as_long_as_it_has_them);
    CU_ADD_TEST(suite, a_hundred_hosts_with_a_relay_need_a_link_each);
}
