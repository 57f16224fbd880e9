/* SPDX-License-Identifier: MIT */
/* Who keeps a segment that has no name (keeper.c)? For larderd. */
#ifndef LR_KEEPER_H
#define LR_KEEPER_H

#include "cache.h"

struct lr_keeper;

/*
 * Creates a segment in a memfd, whose life is that of the calling thread, and listens for those who want it.
 * options->path is "unix:" and the socket's path. Both are the caller's; close the keeper first. EEXISTS: somebody
 * listens there already, or a file of another kind has that name. Else the errors of lr_cache_create.
 */
int lr_keeper_create(const struct lr_options *options, struct lr_keeper **keeper, struct lr_cache **cache, char *why);
/* Readable when somebody has connected. */
int lr_keeper_fd(const struct lr_keeper *keeper);
/* Answers those who have connected, a bounded number of them. Does not wait. */
void lr_keeper_answer(struct lr_keeper *keeper);
/* By the thread that created it. Retires the segment and removes the socket. NULL is allowed. */
void lr_keeper_close(struct lr_keeper *keeper);

#endif
