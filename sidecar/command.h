/* SPDX-License-Identifier: MIT */
/*
 * What an operator may ask of a running larderd, in lines (control.h); `larder peers` makes JSON or a table of them.
 *
 *   peers list              ok, then   host NODE ADVERTISE KEYS SECONDS-LEFT REFUSED REVOCATION-LISTS SECONDS-LEFT,
 *                           then for each
 *                           peer       ADDRESS STATE SOURCES NODE REMOTE SECURITY UNACKNOWLEDGED SENT RECEIVED
 *                                      COMPARISONS PULLED UNSETTLED SECONDS-LEFT MODES BYTES-SENT BYTES-RECEIVED
 *                                      CLOCK-REFUSALS RESYNC-STRIPES, and of what is sent, then of what is fetched,
 *                                      THOUSANDTHS-DONE SECONDS-LEFT; LOOKED-AT
 *   peers add ADDRESS       ok
 *   peers remove ADDRESS    ok
 *                           or         error NUMBER TEXT, a number of larder_errors.h
 *
 * Fields are separated by tabs; one that is not known is "-". Fields may be added at the end of a line, and lines with
 * another first word: who asks passes over what it does not know.
 */
#ifndef LR_COMMAND_H
#define LR_COMMAND_H

#include "tcp.h"

struct lr_command {
    struct lr_roster *roster;
    struct lr_tcp *tcp;
    struct lr_node *node; /* NULL: stopping */
    const char *advertise;
};

/* `out` has `cap` bytes. `line` is taken apart. */
void lr_command_run(const struct lr_command *on, char *line, bool may_change, char *out, size_t cap);

#endif
