/* SPDX-License-Identifier: MIT */
/* See discovery.h. */
#include "discovery.h"

#include "log.h"

#include <string.h>

/* Whether the text is an address of one of this machine's interfaces. */
static bool is_ours(const char *host) {
    uv_interface_address_t *interfaces;
    int count;
    bool ours = false;
    if (uv_interface_addresses(&interfaces, &count) != 0)
        return false;
    for (int i = 0; i < count; i++) {
        char text[64] = "";
        if (interfaces[i].address.address4.sin_family == AF_INET)
            uv_ip4_name(&interfaces[i].address.address4, text, sizeof text);
        else
            uv_ip6_name(&interfaces[i].address.address6, text, sizeof text);
        ours |= strcmp(text, host) == 0;
    }
    uv_free_interface_addresses(interfaces, count);
    return ours;
}

static bool is_self(const struct lr_discovery *discovery, const char *address) {
    char host[LR_ADDRESS_BYTES], port[6], listen_host[LR_ADDRESS_BYTES], listen_port[6], why[LR_WHY_BYTES];
    if (strcmp(address, discovery->advertise) == 0 || strcmp(address, discovery->listen) == 0)
        return true;
    if (!lr_config_split(address, host, port, why) ||
        !lr_config_split(discovery->listen, listen_host, listen_port, why))
        return false;
    return strcmp(port, listen_port) == 0 && lr_tcp_is_wildcard(discovery->listen) && is_ours(host);
}

static unsigned gather(const struct lr_discovery *discovery, const struct addrinfo *answer,
                       char (*out)[LR_ADDRESS_BYTES]) {
    unsigned count = 0;
    for (; answer != NULL && count < LR_MAX_PEERS; answer = answer->ai_next) {
        char why[LR_WHY_BYTES];
        bool known = false;
        lr_tcp_print_address(answer->ai_addr, out[count]);
        for (unsigned i = 0; i < count; i++)
            known |= strcmp(out[i], out[count]) == 0;
        if (known || is_self(discovery, out[count]))
            continue;
        if (lr_tcp_admits(discovery->tcp, out[count], false, why))
            count++;
        else
            lr_log(LR_ERROR, "discover %s: %s", discovery->host, why);
    }
    return count;
}

static void on_answer(uv_getaddrinfo_t *request, int status, struct addrinfo *answer) {
    struct lr_discovery *discovery = request->data;
    static char addresses[LR_MAX_PEERS][LR_ADDRESS_BYTES];
    discovery->asked = false;
    if (!discovery->running) {
        uv_freeaddrinfo(answer);
        return;
    }
    if ((status != 0) != discovery->failing) {
        discovery->failing = status != 0;
        if (status != 0)
            lr_log(LR_WARN, "discover %s: %s; the peers stay as they are", discovery->host, uv_strerror(status));
        else
            lr_log(LR_INFO, "discover %s: it can be looked up again", discovery->host);
    }
    if (status == 0)
        discovery->heard(discovery->context, (const char(*)[LR_ADDRESS_BYTES])addresses,
                         gather(discovery, answer, addresses));
    uv_freeaddrinfo(answer);
}

static void on_due(uv_timer_t *timer) {
    struct lr_discovery *discovery = timer->data;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    if (discovery->asked)
        return;
    discovery->asked =
        uv_getaddrinfo(timer->loop, &discovery->lookup, on_answer, discovery->host, discovery->port, &hints) == 0;
}

void lr_discovery_start(struct lr_discovery *discovery, const char *name, uint64_t every_ms) {
    char why[LR_WHY_BYTES];
    if (!lr_config_split(name, discovery->host, discovery->port, why))
        return; /* the configuration has looked */
    discovery->running = true;
    discovery->timer.data = discovery->lookup.data = discovery;
    uv_timer_init(discovery->tcp->loop, &discovery->timer);
    uv_timer_start(&discovery->timer, on_due, 0, every_ms);
}

void lr_discovery_stop(struct lr_discovery *discovery) {
    if (!discovery->running)
        return;
    discovery->running = false;
    uv_close((uv_handle_t *)&discovery->timer, NULL);
    if (discovery->asked)
        uv_cancel((uv_req_t *)&discovery->lookup);
}
