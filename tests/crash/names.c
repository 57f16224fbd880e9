/* SPDX-License-Identifier: MIT */
/*
 * Deaths while a segment is created, opened or destroyed: at every crash point and before every store into bytes that
 * are mapped shared. Then whoever comes next must find a whole segment or none, and can create, use and destroy one.
 */
#include "crash.h"
#include "keeper.h"
#include "spot.h"
#include "sweep.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#define PATIENCE_S 20u

enum verb { CREATE, CREATE_OVER_LEFTOVER, CREATE_OVER_RETIRED, OPEN_ABSENT, ATTACH, CLOSE, DESTROY, KEEP, VERBS };

static const char *const verb_names[VERBS] = {
    "create", "create over a leftover", "create over a retired one", "open absent", "attach", "close", "destroy",
    "keep"};

static bool wants_segment(enum verb verb) {
    return verb == ATTACH || verb == CLOSE || verb == DESTROY || verb == CREATE_OVER_RETIRED ||
           verb == CREATE_OVER_LEFTOVER;
}

static bool set_up(struct spot *spot, enum verb verb) {
    struct lr_cache *cache;
    if (!wants_segment(verb))
        return true;
    if (lr_cache_create(&spot->options, &cache, NULL) != 0)
        return false;
    if (verb == CREATE_OVER_RETIRED)
        atomic_store(&cache->header->state, SM_RETIRED);
    lr_cache_detach(cache);
    return verb != CREATE_OVER_LEFTOVER || unlink(spot->path) == 0;
}

/* A segment without a name, from its creation to the end of its keeper. */
static int keep(const struct spot *spot, char *why) {
    char path[sizeof spot->path + 16];
    struct lr_options options = spot->options;
    struct lr_keeper *keeper;
    struct lr_cache *cache;
    snprintf(path, sizeof path, "unix:%s.sock", spot->path);
    options.name = NULL;
    options.path = path;
    int error = lr_keeper_create(&options, &keeper, &cache, why);
    if (error == 0) {
        lr_keeper_close(keeper);
        lr_cache_detach(cache);
    }
    return error;
}

static void do_verb(struct spot *spot, enum verb verb, uint64_t die_at) {
    struct lr_cache *cache = NULL;
    char why[LR_WHY_BYTES];
    alarm(PATIENCE_S);
    if (verb == CLOSE && lr_cache_attach(&spot->options, &cache, why) != 0)
        _exit(1);
    crash_arm(die_at, verb == CLOSE ? cache->base : NULL, verb == CLOSE ? cache->map_bytes : 0);
    crash->follow = verb != CLOSE;
    int error = 0;
    if (verb == CLOSE)
        lr_cache_detach(cache);
    else if (verb == DESTROY)
        error = lr_cache_destroy(&spot->options, why);
    else if (verb == ATTACH)
        error = lr_cache_attach(&spot->options, &cache, why);
    else if (verb == KEEP)
        error = keep(spot, why);
    else if (verb == OPEN_ABSENT)
        error = lr_cache_open(&spot->options, &cache, why);
    else
        error = lr_cache_create(&spot->options, &cache, why);
    crash_disarm();
    crash->finished = true;
    if (error != 0)
        fprintf(stderr, "%s: %s\n", lr_error_name(error), why);
    _exit(error == 0 ? 0 : 1);
}

/* One death. False: it went wrong, and was said. */
static bool kill_in_verb(const struct sweep_options *options, struct spot *spot, enum verb verb, uint64_t k) {
    char why[LR_WHY_BYTES] = "";
    int status = 0;
    if (!set_up(spot, verb))
        return false;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        do_verb(spot, verb, k);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    crash_disarm();
    crash->follow = false;
    bool died = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    const char *fault = died || (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                            ? spot_fault(spot, why)
                            : "it hangs, crashes or fails by itself";
    if (fault == NULL && verb == KEEP && keep(spot, why) != 0)
        fault = "the next keeper cannot begin";
    atomic_fetch_add(&options->totals->cycles, 1);
    if (fault == NULL)
        return true;
    printf("FAILED %s, death at %llu: %s: %s\n", verb_names[verb], (unsigned long long)k, fault, why);
    atomic_fetch_add(&options->totals->failures, 1);
    unlink(spot->path);
    unlink(spot->live);
    return false;
}

void sweep_names(const struct sweep_options *options) {
    struct spot spot;
    spot_choose(&spot, "names");
    crash->seed = options->seed;
    for (enum verb verb = CREATE; verb < VERBS; verb++) {
        bool right = kill_in_verb(options, &spot, verb, UINT64_MAX);
        const uint64_t instants = crash->count;
        for (uint64_t k = 1; right && k <= instants; k++)
            right = kill_in_verb(options, &spot, verb, k);
        atomic_fetch_add(&options->totals->pairs_done, 1);
    }
}
