/* SPDX-License-Identifier: MIT */
/* Who still uses a segment whose name was removed under him (removed.c)? */
#ifndef REMOVED_H
#define REMOVED_H

#include "cli.h"

#define REMOVED_FIRST 8u

struct removed_users {
    unsigned count;
    uint32_t pids[REMOVED_FIRST]; /* of the first few */
};
/* Looks through those processes whose maps this user may read. */
void removed_look(const struct lr_options *options, struct removed_users *out);
/* One line for a human, with what to do; "" when there are none. */
void removed_describe(const struct removed_users *users, char *out, size_t cap);

#endif
