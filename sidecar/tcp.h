/* SPDX-License-Identifier: MIT */
/*
 * The real world (world.h): TCP on libuv, with TLS on top if there are keys (tls.h), the host's clocks.
 *
 *   dial:     resolve -> connect (each address in turn) -> TLS -> lr_link_connected -> read ... -> lr_link_lost, or
 * hang_up dialled:  accept -> TLS -> lr_link_accept -> read ...
 *
 * Who dials us is no link before he has proved himself. Until then he may take LR_HELLO_MS and send LR_TLS_UNPROVED
 * bytes, and of such there are at most LR_MAX_GUESTS: one more, and the oldest has to go, for an honest one needs
 * milliseconds and those who want to fill the table need it full.
 *
 * A connection that the node has hung up is still written out, its input thrown away, and closed when the other side
 * closes or after a second: a BYE is read only if its reader is not reset.
 *
 * Without keys only loopback addresses are used; a name is judged when it is resolved.
 */
#ifndef LR_TCP_H
#define LR_TCP_H

#include "node.h"
#include "roster.h"
#include "tls.h"

#include <uv.h>

struct connection;

struct lr_tcp {
    uv_loop_t *loop;
    struct lr_node *node;
    const struct lr_roster *roster; /* whom a peer's certificate must be for */
    struct lr_world world;
    struct lr_tls *keys;                /* NULL: none */
    struct connection *oldest, *newest; /* those who dialled us and have not yet proved who they are */
    unsigned waiting;
    uint64_t refused; /* connections whose other end proved nothing */
    uint64_t told_ms; /* the second for which `told` counts the log's lines about them */
    unsigned told;
    uv_tcp_t listener;
    bool listening;
    uint64_t random_state;
    char buffer[262144]; /* of every read: it is consumed before the next */
};

/* Fills tcp->world; the node is to be set before the loop runs. */
void lr_tcp_init(struct lr_tcp *tcp, uv_loop_t *loop, const struct lr_roster *roster);
/* From now on connections are opened with these keys, which are then tcp's; the others stay as they are. */
void lr_tcp_take_keys(struct lr_tcp *tcp, struct lr_tls *keys);
/* 0, or -1 with `why`: not a loopback address, or it cannot be bound. */
int lr_tcp_listen(struct lr_tcp *tcp, const char *address, char *why);
/* "0.0.0.0:port" and "[::]:port": a place to listen at, and nothing that a peer could dial. */
bool lr_tcp_is_wildcard(const char *address);
/* No more connections are made; those of links are the node's to end. */
void lr_tcp_stop(struct lr_tcp *tcp);
/* "address:port", IPv6 in brackets. */
void lr_tcp_print_address(const struct sockaddr *address, char out[LR_ADDRESS_BYTES]);
/* How a link is secured, for a human. */
const char *lr_tcp_secured_by(const struct lr_link *link);
/* Until the other side's certificate ends, negative afterwards; INT64_MAX: it has shown none. */
int64_t lr_tcp_proof_seconds_left(const struct lr_link *link);
/* False with `why` if there are no keys and the host of "host:port" is certainly not loopback. A name is resolved here
 * only if `resolve`; one that does not resolve passes: it is tried again at every dial. */
bool lr_tcp_admits(struct lr_tcp *tcp, const char *address, bool resolve, char *why);

#endif
