/* SPDX-License-Identifier: MIT */
/*
 * What replication needs of the outside: connections, two clocks, dice.
 *
 * Two implementors: tcp.c (libuv, TCP, the host's clocks) and the simulated network of the tests (virtual time, one
 * seed). Nothing in node.c, peer.c, outflow.c, inflow.c, settle.c or compare.c knows which one it runs on.
 *
 * A connection carries bytes in order, or is lost. The outside calls lr_link_connected, lr_link_received and
 * lr_link_lost (peer.h); it never does so from within one of the calls below.
 */
#ifndef LR_WORLD_H
#define LR_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lr_link;

struct lr_world {
    void *self; /* first argument of all calls */
    /* Milliseconds that only rise. */
    uint64_t (*now_ms)(void *self);
    /* Unix milliseconds, as wrong as the host's clock is. */
    uint64_t (*wall_ms)(void *self);
    uint64_t (*random)(void *self);
    /* Starts a connection to "host:port"; its outcome is lr_link_connected or lr_link_lost. */
    void *(*dial)(void *self, struct lr_link *link, const char *address);
    /* Accepts the bytes, in order. They are copied. */
    void (*send)(void *self, void *connection, const void *bytes, size_t len);
    /* Bytes accepted by send that the network has not yet taken. */
    size_t (*unsent)(void *self, void *connection);
    /* Whether bytes shall be delivered. They wait in the network meanwhile. */
    void (*reading)(void *self, void *connection, bool on);
    /* Ends the connection, after what was sent has gone, or a second. Nothing is heard of it any more. */
    void (*hang_up)(void *self, void *connection);
    /* Whether the other side has proved to be the peer that is configured as "host:port". NULL: nobody has to. */
    bool (*proves)(void *self, void *connection, const char *address);
};

#endif
