/* SPDX-License-Identifier: MIT */
/* See roster.h. */
#include "roster.h"

#include <string.h>

static struct lr_roster_row *find(struct lr_roster *roster, const char *address) {
    for (unsigned i = 0; i < roster->count; i++)
        if (strcmp(roster->rows[i].address, address) == 0)
            return &roster->rows[i];
    return NULL;
}

const struct lr_roster_row *lr_roster_find(const struct lr_roster *roster, const char *address) {
    return find((struct lr_roster *)(uintptr_t)roster, address);
}

static bool is_named(const struct lr_roster_row *row) {
    return row->configured || row->added || row->found;
}

bool lr_roster_is_peer(const struct lr_roster_row *row) {
    return row != NULL && is_named(row) && !row->removed;
}

unsigned lr_roster_peers(const struct lr_roster *roster) {
    unsigned count = 0;
    for (unsigned i = 0; i < roster->count; i++)
        count += lr_roster_is_peer(&roster->rows[i]);
    return count;
}

/* The row that is about to be named by somebody. NULL: there is no room for one more peer. */
static struct lr_roster_row *name_row(struct lr_roster *roster, const char *address) {
    struct lr_roster_row *row = find(roster, address);
    bool more = !lr_roster_is_peer(row);
    if (more && (lr_roster_peers(roster) == LR_MAX_PEERS || (row == NULL && roster->count == LR_ROSTER_ROWS)))
        return NULL;
    if (row == NULL) {
        row = &roster->rows[roster->count++];
        *row = (struct lr_roster_row){0};
        snprintf(row->address, sizeof row->address, "%s", address);
    }
    return row;
}

static void forget_unnamed(struct lr_roster *roster) {
    unsigned kept = 0;
    for (unsigned i = 0; i < roster->count; i++)
        if (is_named(&roster->rows[i]))
            roster->rows[kept++] = roster->rows[i];
    roster->count = kept;
}

static bool has(const char (*addresses)[LR_ADDRESS_BYTES], unsigned count, const char *address) {
    for (unsigned i = 0; i < count; i++)
        if (strcmp(addresses[i], address) == 0)
            return true;
    return false;
}

int lr_roster_configure(struct lr_roster *roster, const char (*addresses)[LR_ADDRESS_BYTES], unsigned count) {
    int result = 0;
    for (unsigned i = 0; i < roster->count; i++)
        if (!has(addresses, count, roster->rows[i].address))
            roster->rows[i].configured = false;
    forget_unnamed(roster);
    for (unsigned i = 0; i < count; i++) {
        struct lr_roster_row *row = find(roster, addresses[i]);
        if (row != NULL && row->configured)
            continue; /* nothing new: what an operator said of it stays */
        row = name_row(roster, addresses[i]);
        if (row == NULL) {
            result = LARDER_EFULL;
            continue;
        }
        row->configured = true;
        row->removed = false;
    }
    return result;
}

int lr_roster_answer(struct lr_roster *roster, const char (*addresses)[LR_ADDRESS_BYTES], unsigned count) {
    int result = 0;
    for (unsigned i = 0; i < roster->count; i++) {
        struct lr_roster_row *row = &roster->rows[i];
        row->misses = has(addresses, count, row->address) ? 0 : row->misses + 1;
        row->found = row->found && row->misses < LR_ROSTER_MISSES;
    }
    forget_unnamed(roster);
    for (unsigned i = 0; i < count; i++) {
        struct lr_roster_row *row = find(roster, addresses[i]);
        if (row != NULL && row->found)
            continue;
        row = name_row(roster, addresses[i]);
        if (row == NULL) {
            result = LARDER_EFULL;
            continue;
        }
        row->found = true;
        row->removed = false;
    }
    return result;
}

int lr_roster_add(struct lr_roster *roster, const char *address) {
    if (lr_roster_is_peer(find(roster, address)))
        return LARDER_EEXISTS;
    struct lr_roster_row *row = name_row(roster, address);
    if (row == NULL)
        return LARDER_EFULL;
    row->added = true;
    row->removed = false;
    return 0;
}

int lr_roster_remove(struct lr_roster *roster, const char *address) {
    struct lr_roster_row *row = find(roster, address);
    if (!lr_roster_is_peer(row))
        return LARDER_ENOT_FOUND;
    row->added = false;
    row->removed = true;
    forget_unnamed(roster);
    return 0;
}

void lr_roster_host(const struct lr_roster *roster, const char *address, char out[LR_ADDRESS_BYTES]) {
    const struct lr_roster_row *row = lr_roster_find(roster, address);
    char port[6], why[LR_WHY_BYTES];
    if (row != NULL && row->found && !row->configured && !row->added)
        snprintf(out, LR_ADDRESS_BYTES, "%s", roster->found_by);
    else if (!lr_config_split(address, out, port, why))
        out[0] = '\0';
}

bool lr_roster_apply(const struct lr_roster *roster, struct lr_node *node) {
    bool all = true;
    /* New ones first: a list that is exchanged as a whole must not leave a moment without peers (lr_set_replicating).
     */
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < roster->count; i++)
            if (lr_roster_is_peer(&roster->rows[i]))
                all = (lr_node_add_peer(node, roster->rows[i].address) == 0 || pass == 0) && all;
        for (unsigned i = node->peer_count; i > 0 && pass == 0; i--) {
            char address[LR_ADDRESS_BYTES];
            snprintf(address, sizeof address, "%s", node->peers[i - 1]->address);
            if (!lr_roster_is_peer(lr_roster_find(roster, address)))
                lr_node_remove_peer(node, address);
        }
    }
    return all;
}
