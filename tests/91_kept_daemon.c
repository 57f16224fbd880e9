/* SPDX-License-Identifier: MIT */
/* `larderd --memfd`: from its option, by flag and by file, to what its end means. The segment itself: 27_kept. */
#include "fixture.h"
#include "place.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#define START_MS 10000u

struct daemon {
    char socket[200], path[220], config[220], log[220];
    unsigned port, peer; /* 0: none */
    pid_t pid;
    struct lr_options options; /* to attach with */
};

static void new_daemon(struct daemon *daemon) {
    static unsigned count;
    *daemon = (struct daemon){.port = fixture_port(), .options = lr_options_default()};
    snprintf(daemon->socket, sizeof daemon->socket, "%.90s/daemon.%u", fixture_folder(), ++count);
    snprintf(daemon->path, sizeof daemon->path, "unix:%s", daemon->socket);
    snprintf(daemon->config, sizeof daemon->config, "%s.ini", daemon->socket);
    snprintf(daemon->log, sizeof daemon->log, "%s.log", daemon->socket);
    daemon->options.path = daemon->path;
}

/* By the file: the flag is tried where it is refused. */
static struct lr_cache *start(struct daemon *daemon) {
    struct lr_cache *cache = NULL;
    char program[512], why[LR_WHY_BYTES] = "";
    FILE *file = fopen(daemon->config, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fprintf(file, "memfd = %s\nmode = 0640\ngroup = 0\nsize = 1M\nlisten = 127.0.0.1:%u\n", daemon->socket,
            daemon->port);
    if (daemon->peer != 0)
        fprintf(file, "peer = 127.0.0.1:%u\n", daemon->peer);
    fclose(file);
    snprintf(program, sizeof program, "%s", fixture_program("larderd"));
    fflush(NULL);
    daemon->pid = fork();
    if (daemon->pid == 0) {
        int fd = open(daemon->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        dup2(fd, 1);
        dup2(fd, 2);
        alarm(120);
        execl(program, program, "--config", daemon->config, (char *)NULL);
        _exit(127);
    }
    CU_ASSERT_FATAL(daemon->pid > 0);
    for (unsigned ms = 0; cache == NULL && ms < START_MS; ms += 10, fixture_sleep_ms(10))
        lr_cache_attach(&daemon->options, &cache, why);
    if (cache == NULL)
        printf("\n    %s\n", why);
    CU_ASSERT_PTR_NOT_NULL_FATAL(cache);
    return cache;
}

static int stop(struct daemon *daemon, int number) {
    kill(daemon->pid, number);
    return fixture_wait(daemon->pid);
}

static int put_text(struct lr_cache *cache, const char *key, const char *value) {
    struct lr_put put = {.key = key, .key_len = strlen(key), .value = value, .value_len = strlen(value)};
    return lr_put(cache, &put);
}

static bool holds(struct lr_cache *cache, const char *key, const char *value) {
    char buf[64];
    struct lr_item item;
    return lr_get(cache, key, strlen(key), buf, sizeof buf, &item, 0) == 0 && item.value_len == strlen(value) &&
           memcmp(buf, value, item.value_len) == 0;
}

static void what_a_daemon_keeps_ends_with_it_however_it_ends(void) {
    static const int ends[] = {SIGTERM, SIGKILL};
    struct daemon daemon;
    struct stat file;
    new_daemon(&daemon);
    struct lr_cache *old = start(&daemon);
    CU_ASSERT(lstat(daemon.socket, &file) == 0 && (file.st_mode & 07777) == 0660); /* readers must be able to connect */
    for (unsigned i = 0; i < 2; i++) {
        char buf[8];
        struct lr_cache *none;
        CU_ASSERT_EQUAL(put_text(old, "a", "one"), 0);
        CU_ASSERT_EQUAL(stop(&daemon, ends[i]), ends[i] == SIGKILL ? -SIGKILL : 0);
        CU_ASSERT_EQUAL(lr_get(old, "a", 1, buf, sizeof buf, NULL, 0), LARDER_ERETIRED);
        CU_ASSERT_EQUAL(put_text(old, "a", "two"), LARDER_ERETIRED);
        CU_ASSERT_EQUAL(exists(daemon.socket), ends[i] == SIGKILL);
        CU_ASSERT_EQUAL(lr_cache_attach(&daemon.options, &none, NULL), LARDER_ENO_SEGMENT);
        struct lr_cache *now = start(&daemon);
        CU_ASSERT_EQUAL(lr_get(now, "a", 1, buf, sizeof buf, NULL, 0), LARDER_ENOT_FOUND);
        CU_ASSERT_EQUAL(put_text(old, "a", "two"), LARDER_ERETIRED);
        lr_cache_detach(old);
        old = now;
    }
    CU_ASSERT_EQUAL(lr_cache_destroy(&daemon.options, NULL), 0); /* ends the daemon, as with a name */
    CU_ASSERT_EQUAL(fixture_wait(daemon.pid), 3);
    CU_ASSERT(!exists(daemon.socket));
    lr_cache_detach(old);
}

static void a_second_daemon_and_two_segments_are_refused(void) {
    struct daemon daemon;
    char command[700], out[4096];
    new_daemon(&daemon);
    struct lr_cache *cache = start(&daemon);
    snprintf(command, sizeof command, "%s --memfd %s --listen 127.0.0.1:%u", fixture_program("larderd"), daemon.socket,
             fixture_port());
    CU_ASSERT_EQUAL(fixture_run(command, out, sizeof out), 1);
    CU_ASSERT(says(out, "somebody listens"));
    snprintf(command, sizeof command, "%s --path %s --listen 127.0.0.1:%u", fixture_program("larderd"), daemon.path,
             fixture_port()); /* it may attach, but the role is taken */
    CU_ASSERT_EQUAL(fixture_run(command, out, sizeof out), 1);
    CU_ASSERT(says(out, "another larderd"));
    snprintf(command, sizeof command, "%s --memfd %s --name x", fixture_program("larderd"), daemon.socket);
    CU_ASSERT_EQUAL(fixture_run(command, out, sizeof out), 2);
    CU_ASSERT(says(out, "a memfd and a name"));
    snprintf(command, sizeof command, "%s --memfd /nonexistent/socket --listen 127.0.0.1:%u",
             fixture_program("larderd"), fixture_port());
    CU_ASSERT(fixture_run(command, out, sizeof out) == 2 && says(out, "/nonexistent"));
    snprintf(command, sizeof command, "%s --memfd x --group nosuchgroup", fixture_program("larderd"));
    CU_ASSERT(fixture_run(command, out, sizeof out) == 2 && says(out, "nosuchgroup"));
    CU_ASSERT_EQUAL(put_text(cache, "a", "one"), 0); /* none of it disturbed the first */
    CU_ASSERT(holds(cache, "a", "one"));
    fixture_check(cache);
    CU_ASSERT_EQUAL(stop(&daemon, SIGTERM), 0);
    lr_cache_detach(cache);
}

static void kept_segments_replicate_like_others(void) {
    struct daemon daemons[2];
    struct lr_cache *caches[2];
    new_daemon(&daemons[0]);
    new_daemon(&daemons[1]);
    daemons[0].peer = daemons[1].port;
    daemons[1].peer = daemons[0].port;
    for (unsigned i = 0; i < 2; i++)
        caches[i] = start(&daemons[i]);
    CU_ASSERT_EQUAL(put_text(caches[0], "a", "zero"), 0);
    CU_ASSERT_EQUAL(put_text(caches[1], "b", "one"), 0);
    for (unsigned ms = 0; ms < 20000 && !(holds(caches[1], "a", "zero") && holds(caches[0], "b", "one")); ms += 10)
        fixture_sleep_ms(10);
    CU_ASSERT(holds(caches[1], "a", "zero") && holds(caches[0], "b", "one"));
    for (unsigned i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(stop(&daemons[i], SIGTERM), 0);
        lr_cache_detach(caches[i]);
    }
}

void larder_suite_91_kept_daemon(void);
void larder_suite_91_kept_daemon(void) {
    CU_pSuite suite = CU_add_suite("91_kept_daemon", NULL, NULL);
    CU_ADD_TEST(suite, what_a_daemon_keeps_ends_with_it_however_it_ends);
    CU_ADD_TEST(suite, a_second_daemon_and_two_segments_are_refused);
    CU_ADD_TEST(suite, kept_segments_replicate_like_others);
}
