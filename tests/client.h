/* SPDX-License-Identifier: MIT */
/* For the suites of the public calls: one segment, seen through two handles. Put with one, look with the other. */
#ifndef CLIENT_H
#define CLIENT_H

#include "fixture.h"
#include "larder.h"

#include <string.h>

struct client {
    char name[65];
    larder *one, *two;
};

static inline larder_options options_of(uint64_t size, larder_policy policy) {
    larder_options options = {0};
    options.size = size;
    options.policy = policy;
    return options;
}

static inline void begin_with(struct client *client, const larder_options *options) {
    char why[LARDER_WHY_BYTES] = "";
    fixture_name(client->name);
    CU_ASSERT_EQUAL_FATAL(larder_create(client->name, options, &client->one, why), 0);
    CU_ASSERT_EQUAL_FATAL(larder_attach(client->name, NULL, &client->two, why), 0);
}

static inline void begin(struct client *client) {
    larder_options options = options_of(8 << 20, LARDER_POLICY_CLOCK);
    begin_with(client, &options);
}

static inline void end(struct client *client) {
    fixture_check((struct lr_cache *)client->two);
    larder_close(client->two);
    larder_close(client->one);
    CU_ASSERT_EQUAL(larder_destroy(client->name, NULL, NULL), 0);
}

static inline void drive_clock(struct client *client, uint64_t now_ms) {
    lr_drive_clock((struct lr_cache *)client->one, now_ms);
    lr_drive_clock((struct lr_cache *)client->two, now_ms);
}

static inline int put_text(larder *cache, const char *key, const char *value) {
    return larder_put(cache, key, strlen(key), value, strlen(value), 0, 0);
}

/* Whether a get returns just this text. */
static inline bool holds(larder *cache, const char *key, const char *value) {
    char buf[256];
    larder_item item;
    return larder_get(cache, key, strlen(key), buf, sizeof buf, &item, 0) == 0 && item.value_len == strlen(value) &&
           memcmp(buf, value, item.value_len) == 0;
}

static inline larder_item item_of(larder *cache, const char *key) {
    larder_item item = {0, 0, 0, 0};
    int error = larder_get(cache, key, strlen(key), NULL, 0, &item, LARDER_PEEK);
    CU_ASSERT(error == 0 || error == LARDER_ETOO_SMALL);
    return item;
}

static inline larder_counter counter_of(larder *cache, const char *name) {
    larder_counter rows[128];
    size_t count = larder_counters(cache, rows, 128);
    for (size_t i = 0; i < count && i < 128; i++)
        if (strcmp(rows[i].name, name) == 0)
            return rows[i];
    CU_FAIL_FATAL("no such counter");
    return rows[0];
}

#endif
