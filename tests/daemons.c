/* SPDX-License-Identifier: MIT */
/* See daemons.h. */
#include "daemons.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>

#define PATIENCE_MS 10000u
#define STARTED " started segment="

void host_make(struct host *host) {
    *host = (struct host){0};
    fixture_name(host->name);
    snprintf(host->log, sizeof host->log, "%s/%s.log", fixture_folder(), host->name);
    snprintf(host->config, sizeof host->config, "%s/%s.ini", fixture_folder(), host->name);
    snprintf(host->address, sizeof host->address, "127.0.0.1:%u", fixture_port());
}

void host_configure(const struct host *host, const char *lines) {
    FILE *file = fopen(host->config, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fprintf(file, "name = %s\nsize = 2M\nlisten = %s\nlog = debug\n%s", host->name, host->address, lines);
    fclose(file);
}

void host_start(struct host *host) {
    char command[2048];
    unsigned before = host_log_count(host, STARTED);
    snprintf(command, sizeof command, "exec %s %s --config %s", host->wrapper, fixture_program("larderd"),
             host->config);
    fflush(NULL);
    host->pid = fork();
    if (host->pid == 0) {
        int fd = open(host->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        dup2(fd, 1);
        dup2(fd, 2);
        alarm(120);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    CU_ASSERT_FATAL(host->pid > 0);
    struct lr_options options = lr_options_default();
    options.name = host->name;
    for (unsigned ms = 0; host->cache == NULL && ms < PATIENCE_MS; ms += 10, fixture_sleep_ms(10))
        lr_cache_attach(&options, &host->cache, NULL);
    if (host->cache == NULL)
        host_show_log(host);
    CU_ASSERT_PTR_NOT_NULL_FATAL(host->cache);
    for (unsigned ms = 0; host_log_count(host, STARTED) == before && ms < PATIENCE_MS; ms += 10)
        fixture_sleep_ms(10);
    CU_ASSERT_EQUAL(host_log_count(host, STARTED), before + 1);
}

void host_signal(const struct host *host, int number) {
    kill(host->pid, number);
}

int host_stop(struct host *host, int number) {
    kill(host->pid, number);
    int status = fixture_wait(host->pid);
    host->pid = 0;
    return status;
}

void host_remove(struct host *host) {
    struct lr_options options = lr_options_default();
    options.name = host->name;
    if (host->pid != 0)
        CU_ASSERT_EQUAL(host_stop(host, SIGTERM), 0);
    if (host->cache == NULL)
        return;
    fixture_check(host->cache);
    lr_cache_detach(host->cache);
    host->cache = NULL;
    CU_ASSERT_EQUAL(lr_cache_destroy(&options, NULL), 0);
}

/* ---- the log --------------------------------------------------------------------------------------------------------
 */

static const char *log_of(const struct host *host) {
    static char bytes[1 << 20];
    int fd = open(host->log, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, bytes, sizeof bytes - 1) : 0;
    close(fd);
    bytes[len > 0 ? len : 0] = '\0';
    return bytes;
}

unsigned host_log_count(const struct host *host, const char *text) {
    unsigned count = 0;
    for (const char *at = log_of(host); (at = strstr(at, text)) != NULL; at += strlen(text))
        count++;
    return count;
}

bool host_log_says(const struct host *host, const char *text) {
    return strstr(log_of(host), text) != NULL;
}

void host_show_log(const struct host *host) {
    const char *text = log_of(host);
    size_t len = strlen(text);
    printf("\n    the end of %s:\n%s", host->log, text + (len > 3000 ? len - 3000 : 0));
}

#define WAIT_FOR(condition)                                                                                            \
    for (uint64_t end = fixture_now_ns() + PATIENCE_MS * UINT64_C(1000000); !(condition) && fixture_now_ns() < end;    \
         fixture_sleep_ms(10))                                                                                         \
        ;

bool host_will_log(const struct host *host, const char *text) {
    WAIT_FOR(host_log_says(host, text))
    if (host_log_says(host, text))
        return true;
    printf("\n    \"%s\" is missing:", text);
    host_show_log(host);
    return false;
}

/* ---- replication
 * ----------------------------------------------------------------------------------------------------- */

static bool is_linked(const struct host *host, unsigned peers) {
    struct lr_sidecar_state state;
    lr_sidecar_state(host->cache, &state);
    return state.alive && state.peers == peers && state.connected == peers;
}

bool host_will_link(const struct host *host, unsigned peers) {
    WAIT_FOR(is_linked(host, peers))
    if (is_linked(host, peers))
        return true;
    host_show_log(host);
    return false;
}

static bool agree(const struct host *zero, const struct host *one) {
    struct lr_digest a, b;
    struct lr_sidecar_state zero_state, one_state;
    lr_sidecar_state(zero->cache, &zero_state);
    lr_sidecar_state(one->cache, &one_state);
    return lr_sidecar_has_sent(&zero_state) && lr_sidecar_has_sent(&one_state) && lr_digest(zero->cache, &a) == 0 &&
           lr_digest(one->cache, &b) == 0 && a.sum == b.sum && a.items == b.items;
}

bool host_will_agree(const struct host *zero, const struct host *one) {
    WAIT_FOR(agree(zero, one))
    return agree(zero, one);
}

int host_put(const struct host *host, const char *key, const char *value) {
    struct lr_put put = {.key = key, .key_len = strlen(key), .value = value, .value_len = strlen(value)};
    return lr_put(host->cache, &put);
}

bool host_has(const struct host *host, const char *key, const char *value) {
    char text[64];
    struct lr_item item;
    return lr_get(host->cache, key, strlen(key), text, sizeof text, &item, LR_PEEK) == 0 &&
           item.value_len == strlen(value) && memcmp(text, value, item.value_len) == 0;
}

bool host_will_have(const struct host *host, const char *key, const char *value) {
    WAIT_FOR(host_has(host, key, value))
    return host_has(host, key, value);
}
