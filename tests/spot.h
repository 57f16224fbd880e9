/* SPDX-License-Identifier: MIT */
/* A name in shared memory, and what a dead creator or destroyer has left there. */
#ifndef SPOT_H
#define SPOT_H

#include "cache.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct spot {
    char name[65], path[128], live[160];
    struct lr_options options;
};

static inline void spot_choose(struct spot *spot, const char *what) {
    static unsigned count;
    snprintf(spot->name, sizeof spot->name, "t.%ld.%s.%u", (long)getpid(), what, ++count);
    snprintf(spot->path, sizeof spot->path, "/dev/shm/larder.%s", spot->name);
    snprintf(spot->live, sizeof spot->live, "%s.live", spot->path);
    spot->options = lr_options_default();
    spot->options.name = spot->name;
    spot->options.size = UINT64_C(64) << 10;
}

static inline bool spot_exists(const char *path) {
    struct stat file;
    return lstat(path, &file) == 0;
}

/*
 * Attaches, or creates where nothing is; checks, writes and reads, destroys, and looks that no file is left. NULL: all
 * is right; else what is not.
 */
static inline const char *spot_fault(struct spot *spot, char why[LR_WHY_BYTES]) {
    struct lr_cache *cache;
    struct lr_check check;
    struct lr_put put = {.key = "k", .key_len = 1, .value = "v", .value_len = 1};
    const bool named = spot_exists(spot->path);
    char value[8];
    int error = lr_cache_attach(&spot->options, &cache, why);
    if (error != 0 && error != LARDER_ERETIRED && (named || error != LARDER_ENO_SEGMENT))
        return "what was left cannot be attached to";
    if (error != 0 && lr_cache_create(&spot->options, &cache, why) != 0)
        return "nobody can create";
    error = lr_check(cache, &check);
    if (error == 0)
        error = lr_put(cache, &put);
    if (error == 0)
        error = lr_get(cache, "k", 1, value, sizeof value, NULL, 0);
    lr_cache_detach(cache);
    if (error != 0) {
        snprintf(why, LR_WHY_BYTES, "%s %s", lr_error_name(error), check.findings != 0 ? check.first[0] : "");
        return "the segment is not healthy";
    }
    if (lr_cache_destroy(&spot->options, why) != 0)
        return "it cannot be destroyed";
    return spot_exists(spot->path) || spot_exists(spot->live) ? "files are left" : NULL;
}

#endif
