/* SPDX-License-Identifier: MIT */
/*
 * A name whose addresses are peers, as a headless service's are: looked up at the start and then every discover_s
 * seconds, in a thread of libuv, so that a slow name server delays nothing else.
 *
 * This host's own address is among the answers as a rule, and is left out: what it advertises, and any address of this
 * machine with the port at which it listens.
 */
#ifndef LR_DISCOVERY_H
#define LR_DISCOVERY_H

#include "tcp.h"

struct lr_discovery {
    struct lr_tcp *tcp;
    const char *listen, *advertise;
    char host[LR_ADDRESS_BYTES], port[6];
    /* An answer that is none (failed, or nobody but us) is not told. */
    void (*heard)(void *context, const char (*addresses)[LR_ADDRESS_BYTES], unsigned count);
    void *context;
    uv_timer_t timer;
    uv_getaddrinfo_t lookup;
    bool running, asked, failing;
};

/* The first four and the callback are set; `name` is "host:port". */
void lr_discovery_start(struct lr_discovery *discovery, const char *name, uint64_t every_ms);
void lr_discovery_stop(struct lr_discovery *discovery);

#endif
