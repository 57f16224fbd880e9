/* SPDX-License-Identifier: MIT */
/*
 * Who are our peers, and who says so?
 *
 * Three may name a peer: the configuration (file and flags), an operator (`larder peers add`), and the name that is
 * looked up again and again (discover). An operator may also take one away (`larder peers remove`), whoever named it.
 *
 *   is a peer  =  (in the configuration, or added, or found)  and not removed
 *
 * Rules:
 *  1. Whoever spoke last about an address is heard. SIGHUP speaks only of addresses that the configuration did not name
 *     before or does not name any more: what an operator said of the others stays.
 *  2. `add` undoes `remove`, and `remove` undoes `add`. A removal also ends when an address is named that was not named
 *     by that source before; so it is forgotten when nobody names the address any more.
 *  3. A name server may err. An address that was found is given up when three answers in a row did not have it; a
 *     look-up that fails says nothing.
 *  4. What an operator said is forgotten when larderd ends: the configuration is what it begins with.
 */
#ifndef LR_ROSTER_H
#define LR_ROSTER_H

#include "config.h"

#define LR_ROSTER_ROWS (3 * LR_MAX_PEERS)
#define LR_ROSTER_MISSES 3u

struct lr_roster_row {
    char address[LR_ADDRESS_BYTES]; /* host:port */
    bool configured, added, found, removed;
    unsigned misses; /* answers in a row that did not have it */
};

struct lr_roster {
    struct lr_roster_row rows[LR_ROSTER_ROWS];
    unsigned count;
    char found_by[LR_ADDRESS_BYTES]; /* the host that is looked up: what the certificate of a found peer must bear */
};

/* The row of an address; NULL: nobody names it. */
const struct lr_roster_row *lr_roster_find(const struct lr_roster *roster, const char *address);
bool lr_roster_is_peer(const struct lr_roster_row *row);
unsigned lr_roster_peers(const struct lr_roster *roster);
/* Each returns 0, or LARDER_EFULL: there are LR_MAX_PEERS, and those who came last are left out. */
int lr_roster_configure(struct lr_roster *roster, const char (*addresses)[LR_ADDRESS_BYTES], unsigned count);
int lr_roster_answer(struct lr_roster *roster, const char (*addresses)[LR_ADDRESS_BYTES], unsigned count);
/* EEXISTS: it is a peer already. EFULL. */
int lr_roster_add(struct lr_roster *roster, const char *address);
/* ENOT_FOUND: it is no peer. */
int lr_roster_remove(struct lr_roster *roster, const char *address);
/* The host that the certificate of this peer must bear. */
void lr_roster_host(const struct lr_roster *roster, const char *address, char out[LR_ADDRESS_BYTES]);
/* The node gets the peers that it lacks and loses those that are none any more. False: no memory for some. */
bool lr_roster_apply(const struct lr_roster *roster, struct lr_node *node);

#endif
