/* SPDX-License-Identifier: MIT */
/* A name for a segment that a test creates, damages and removes itself; for the suites below the fixture's level. */
#ifndef PLACE_H
#define PLACE_H

#include "fixture.h"

#include <string.h>
#include <sys/stat.h>

#define SMALL (UINT64_C(64) << 10)

struct place {
    char name[65];
    char path[128];
    char live[160];
    struct lr_options options;
};

static inline void new_place(struct place *place) {
    fixture_name(place->name);
    snprintf(place->path, sizeof place->path, "/dev/shm/larder.%s", place->name);
    snprintf(place->live, sizeof place->live, "%s.live", place->path);
    place->options = lr_options_default();
    place->options.name = place->name;
    place->options.size = SMALL;
}

static inline struct lr_cache *create_at(const struct place *place) {
    struct lr_cache *cache = NULL;
    char why[LR_WHY_BYTES] = "";
    if (lr_cache_create(&place->options, &cache, why) != 0)
        printf("\n    %s\n", why);
    CU_ASSERT_PTR_NOT_NULL_FATAL(cache);
    return cache;
}

static inline bool exists(const char *path) {
    struct stat file;
    return lstat(path, &file) == 0;
}

static inline bool says(const char *why, const char *part) {
    if (strstr(why, part) != NULL)
        return true;
    printf("\n    \"%s\" does not speak of \"%s\"\n", why, part);
    return false;
}

#endif
