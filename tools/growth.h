/* SPDX-License-Identifier: MIT */
/*
 * How far has a segment that is being created come?
 *
 * lr_cache_create allocates a nameless file piece by piece and returns when all is done, some seconds for each ten GiB.
 * A child process watches it meanwhile: among our open files it is the nameless one with the most blocks. It ends with
 * us.
 */
#ifndef LARDER_GROWTH_H
#define LARDER_GROWTH_H

#include <stdint.h>
#include <sys/types.h>

/* Says on standard error, ten times a second, which part of `bytes` is there. 0: there is no watcher, which does not
 * matter. */
pid_t growth_watch(uint64_t bytes);
/* Ends it and clears its line. */
void growth_end(pid_t watcher);

#endif
