/* SPDX-License-Identifier: MIT */
/*
 * The real world (world.h): TCP on libuv, the host's clocks.
 *
 *   dial: resolve -> connect (each address in turn) -> lr_link_connected -> read ... -> lr_link_lost, or hang_up
 *
 * A connection that the node has hung up is still written out, its input thrown away, and closed when the other side
 * closes or after a second: a BYE is read only if its reader is not reset.
 *
 * There are no keys yet, so only loopback addresses are used; a name is judged when it is resolved.
 */
#ifndef LR_TCP_H
#define LR_TCP_H

#include "node.h"

#include <uv.h>

struct lr_tcp {
    uv_loop_t *loop;
    struct lr_node *node;
    struct lr_world world;
    uv_tcp_t listener;
    bool listening;
    uint64_t random_state;
    char buffer[65536]; /* of every read: it is consumed before the next */
};

/* Fills tcp->world; the node is set by lr_tcp_listen. */
void lr_tcp_init(struct lr_tcp *tcp, uv_loop_t *loop);
/* 0, or -1 with `why`: not a loopback address, or it cannot be bound. */
int lr_tcp_listen(struct lr_tcp *tcp, struct lr_node *node, const char *address, char *why);
void lr_tcp_stop(struct lr_tcp *tcp);
/* False with `why` if the host of "host:port" is certainly not loopback. A name is resolved here only if `resolve`;
 * one that does not resolve passes: it is tried again at every dial. */
bool lr_tcp_admits(struct lr_tcp *tcp, const char *address, bool resolve, char *why);

#endif
