/* SPDX-License-Identifier: MIT */
/* Larder under its default policy. Its memory is the limit: all that grows with the items, and it is reserved at once.
 */
#include "cache.h"
#include "side.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct lr_cache *cache;
static struct lr_options options;
static char name[65];
static uint8_t *buffer;
static uint64_t cache_bytes, fixed_bytes;

static void stop(void) {
    if (cache != NULL) {
        lr_cache_detach(cache);
        lr_cache_destroy(&options, NULL);
    }
    free(buffer);
    buffer = NULL;
    cache = NULL;
}

static bool start(uint64_t limit, char *why) {
    struct lr_stat stat;
    options = lr_options_default();
    snprintf(name, sizeof name, "compare.%ld", (long)getpid());
    options.name = name;
    options.size = limit;
    if (lr_cache_create(&options, &cache, why) != 0)
        return false;
    buffer = malloc(lr_max_value(cache, SIDE_KEY_BYTES) + 1u);
    if (buffer == NULL) {
        snprintf(why, SIDE_WHY_BYTES, "no memory for a value");
        stop();
        return false;
    }
    lr_stat(cache, &stat);
    cache_bytes = stat.cache_bytes;
    fixed_bytes = stat.fixed_bytes;
    return true;
}

static bool get(struct side_request *requests, unsigned count) {
    struct lr_item item;
    for (unsigned i = 0; i < count; i++)
        if (requests[i].op == TRACE_GET)
            requests[i].hit = lr_get(cache, requests[i].key, SIDE_KEY_BYTES, buffer,
                                     lr_max_value(cache, SIDE_KEY_BYTES), &item, 0) == 0;
    return true;
}

static bool store(const struct side_request *requests, unsigned count, const char *value) {
    for (unsigned i = 0; i < count; i++) {
        const struct side_request *at = &requests[i];
        struct lr_put put = {
            .key = at->key, .key_len = SIDE_KEY_BYTES, .value = value, .value_len = at->value_len, .mode = LR_SET};
        /* As a careful client: what cannot be stored must not stay in its older form. */
        if (side_stores(at) ? lr_put(cache, &put) != 0 : at->op == TRACE_DEL)
            lr_delete(cache, at->key, SIDE_KEY_BYTES);
    }
    return true;
}

static uint64_t memory(void) {
    return cache_bytes;
}

const struct side side_larder = {
    .name = "Larder", .start = start, .get = get, .store = store, .memory = memory, .stop = stop};
