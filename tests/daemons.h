/* SPDX-License-Identifier: MIT */
/* Hosts for suites about keys and peers: a segment, a larderd that is configured by a file, and its log. */
#ifndef DAEMONS_H
#define DAEMONS_H

#include "fixture.h"

struct host {
    char name[65], log[1024], config[1024];
    char address[64];  /* at which it listens: "127.0.0.1:PORT" unless changed before the start */
    char wrapper[256]; /* shell words before larderd's: "" none */
    pid_t pid;         /* 0: not running */
    struct lr_cache *cache;
};

void host_make(struct host *host);
/* The file has name, size and listen; then `lines`. */
void host_configure(const struct host *host, const char *lines);
/* Waits until the segment is there. */
void host_start(struct host *host);
void host_signal(const struct host *host, int number);
/* Signals the daemon, waits for its end and returns how it ended. */
int host_stop(struct host *host, int number);
/* Stops it if it runs, checks and removes the segment. */
void host_remove(struct host *host);

bool host_log_says(const struct host *host, const char *text);
/* Within 10 s. */
bool host_will_log(const struct host *host, const char *text);
unsigned host_log_count(const struct host *host, const char *text);
void host_show_log(const struct host *host);
/* The daemon is connected to all of its peers, of which there are so many: within 10 s. */
bool host_will_link(const struct host *host, unsigned peers);
/* All changes are acknowledged and the contents are equal: within 10 s. */
bool host_will_agree(const struct host *zero, const struct host *one);
int host_put(const struct host *host, const char *key, const char *value);
bool host_has(const struct host *host, const char *key, const char *value);
/* Within 10 s. */
bool host_will_have(const struct host *host, const char *key, const char *value);

#endif
