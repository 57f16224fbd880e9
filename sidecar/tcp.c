/* SPDX-License-Identifier: MIT */
/* See tcp.h. Memory of a connection goes when its handle, its timer and its name look-up have all ended. */
#include "tcp.h"

#include "config.h"
#include "log.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINGER_MS 1000u
#define LOOPBACK_ONLY                                                                                                  \
    "is not a loopback address, and without keys only 127.0.0.0/8 and [::1] are used: see tls_cert and tls_psk_file"
#define SEALED_PIECE (64u << 10) /* sealed at a time: what is sealed is held twice */
#define TOLD_MOST 5u             /* lines a second about strangers */

struct connection {
    uv_tcp_t handle;
    uv_timer_t timer; /* ends a connection that was hung up */
    uv_connect_t connect;
    uv_shutdown_t shutdown;
    uv_getaddrinfo_t lookup;
    struct addrinfo *addresses, *address;
    struct lr_tcp *tcp;
    struct lr_link *link;           /* NULL: hung up */
    char dialled[LR_ADDRESS_BYTES]; /* "": the other side did */
    unsigned users;                 /* handle, timer, lookup: the last one frees */
    bool has_handle;
    bool heard;                       /* a byte of the other side */
    struct lr_tls_session *tls;       /* NULL: no keys */
    bool shaking;                     /* the other side has not yet proved who it is */
    struct connection *older, *newer; /* dialled by the other side, and shaking */
};

struct outgoing {
    uv_write_t request;
    struct connection *connection;
    uint8_t bytes[];
};

/* ---- addresses ------------------------------------------------------------------------------------------------- */

static bool is_loopback(const struct sockaddr *address) {
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >> 24 == 127;
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

static bool admits(const struct lr_tcp *tcp, const struct sockaddr *address) {
    return tcp->keys != NULL || is_loopback(address);
}

void lr_tcp_print_address(const struct sockaddr *address, char out[LR_ADDRESS_BYTES]) {
    char host[64] = "?";
    bool six = address->sa_family == AF_INET6;
    in_port_t port = six ? ((const struct sockaddr_in6 *)(const void *)address)->sin6_port
                         : ((const struct sockaddr_in *)(const void *)address)->sin_port;
    if (six)
        uv_ip6_name((const struct sockaddr_in6 *)(const void *)address, host, sizeof host);
    else
        uv_ip4_name((const struct sockaddr_in *)(const void *)address, host, sizeof host);
    snprintf(out, LR_ADDRESS_BYTES, six ? "[%s]:%u" : "%s:%u", host, (unsigned)ntohs(port));
}

static void remote_of(struct connection *connection, char out[LR_ADDRESS_BYTES]) {
    struct sockaddr_storage address = {0};
    int len = sizeof address;
    uv_tcp_getpeername(&connection->handle, (struct sockaddr *)&address, &len);
    lr_tcp_print_address((struct sockaddr *)&address, out);
}

/* ---- ends ------------------------------------------------------------------------------------------------------ */

static void leave(struct connection *connection) {
    if (--connection->users > 0)
        return;
    uv_freeaddrinfo(connection->addresses);
    lr_tls_end(connection->tls);
    free(connection);
}

static void on_handle_closed(uv_handle_t *handle) {
    leave(handle->data);
}

/* No longer among those who are waited for. */
static void stop_waiting(struct connection *connection) {
    struct lr_tcp *tcp = connection->tcp;
    bool listed = connection->shaking && connection->dialled[0] == '\0';
    connection->shaking = false;
    if (!listed)
        return;
    tcp->waiting--;
    if (connection->older != NULL)
        connection->older->newer = connection->newer;
    else
        tcp->oldest = connection->newer;
    if (connection->newer != NULL)
        connection->newer->older = connection->older;
    else
        tcp->newest = connection->older;
}

static void end(struct connection *connection) {
    stop_waiting(connection);
    if (connection->has_handle && !uv_is_closing((uv_handle_t *)&connection->handle))
        uv_close((uv_handle_t *)&connection->handle, on_handle_closed);
    if (!uv_is_closing((uv_handle_t *)&connection->timer))
        uv_close((uv_handle_t *)&connection->timer, on_handle_closed);
}

/* The network has ended it: the link hears of it, if there still is one. */
static void lose(struct connection *connection, const char *why) {
    struct lr_link *link = connection->link;
    connection->link = NULL;
    end(connection);
    if (link != NULL)
        lr_link_lost(link, why);
}

static void on_linger(uv_timer_t *timer) {
    end(timer->data);
}

static void on_shutdown(uv_shutdown_t *request, int status) {
    if (status != 0)
        end(request->data);
}

/* What was sent still goes out, for a while; what comes is thrown away. */
static void let_go(struct connection *connection) {
    stop_waiting(connection);
    connection->link = NULL;
    if (connection->has_handle && !uv_is_closing((uv_handle_t *)&connection->handle) &&
        uv_is_writable((uv_stream_t *)&connection->handle) &&
        uv_shutdown(&connection->shutdown, (uv_stream_t *)&connection->handle, on_shutdown) == 0)
        uv_timer_start(&connection->timer, on_linger, LINGER_MS, 0);
    else
        end(connection);
}

/* ---- bytes that go ---------------------------------------------------------------------------------------------- */

static void on_written(uv_write_t *request, int status) {
    struct outgoing *outgoing = (struct outgoing *)request->data;
    struct connection *connection = outgoing->connection;
    free(outgoing);
    if (status != 0 && status != UV_ECANCELED)
        lose(connection, uv_strerror(status));
}

/* The stream has a hole now: it ends, and is resumed. */
static void give_up(struct connection *connection) {
    uv_timer_start(&connection->timer, on_linger, 0, 0);
}

static void write_bytes(struct connection *connection, const void *bytes, size_t len) {
    uv_stream_t *stream = (uv_stream_t *)&connection->handle;
    if (uv_stream_get_write_queue_size(stream) == 0) {
        uv_buf_t now = uv_buf_init((char *)(uintptr_t)bytes, (unsigned)len);
        int sent = uv_try_write(stream, &now, 1);
        if (sent > 0) { /* an error shows itself again at the write below, where it may be told */
            bytes = (const uint8_t *)bytes + sent;
            len -= (size_t)sent;
        }
    }
    if (len == 0)
        return;
    struct outgoing *outgoing = malloc(sizeof *outgoing + len);
    if (outgoing == NULL) {
        give_up(connection);
        return;
    }
    outgoing->connection = connection;
    outgoing->request.data = outgoing;
    memcpy(outgoing->bytes, bytes, len);
    uv_buf_t rest = uv_buf_init((char *)outgoing->bytes, (unsigned)len);
    if (uv_write(&outgoing->request, stream, &rest, 1, on_written) != 0)
        free(outgoing); /* the stream is closing: reading says so too */
}

/* What the session wants to say goes out. */
static void flush(struct connection *connection) {
    const uint8_t *bytes;
    size_t len = lr_tls_out(connection->tls, &bytes);
    if (len == 0)
        return;
    write_bytes(connection, bytes, len);
    lr_tls_out_taken(connection->tls);
}

static void send_bytes(void *self, void *of, const void *bytes, size_t len) {
    struct connection *connection = of;
    (void)self;
    if (connection->tls == NULL) {
        write_bytes(connection, bytes, len);
        return;
    }
    for (size_t at = 0; at < len; at += SEALED_PIECE) {
        size_t piece = len - at < SEALED_PIECE ? len - at : SEALED_PIECE;
        if (!lr_tls_write(connection->tls, (const uint8_t *)bytes + at, piece)) {
            give_up(connection);
            return;
        }
        flush(connection);
    }
}

static void hang_up(void *self, void *of) {
    struct connection *connection = of;
    (void)self;
    if (connection->tls != NULL) {
        lr_tls_say_end(connection->tls);
        flush(connection);
    }
    let_go(connection);
}

static size_t unsent(void *self, void *of) {
    struct connection *connection = of;
    (void)self;
    return uv_stream_get_write_queue_size((uv_stream_t *)&connection->handle);
}

/* ---- bytes that come -------------------------------------------------------------------------------------------- */

/* Strangers may come by the thousand: of each second the log has the first few. */
static void tell_refused(struct connection *connection, const char *why) {
    struct lr_tcp *tcp = connection->tcp;
    uint64_t second = tcp->world.now_ms(tcp) / 1000;
    char remote[LR_ADDRESS_BYTES];
    tcp->refused++;
    if (second != tcp->told_ms) {
        if (tcp->told > TOLD_MOST)
            lr_log(LR_WARN, "%u more connections refused in that second local=%s", tcp->told - TOLD_MOST,
                   tcp->node->listen);
        tcp->told_ms = second;
        tcp->told = 0;
    }
    if (tcp->told++ >= TOLD_MOST)
        return;
    remote_of(connection, remote);
    lr_log(LR_WARN, "link refused: %s local=%s remote=%s peer=%s", why, tcp->node->listen, remote,
           connection->dialled[0] != '\0' ? connection->dialled : "-");
}

/* The session has ended, by its own judgement or the other side's. */
static void end_session(struct connection *connection) {
    struct lr_link *link = connection->link;
    const char *why = lr_tls_why(connection->tls);
    /* A peer that stays away is told once. */
    if (connection->shaking && (link == NULL || link->peer->backoff_ms <= LR_BACKOFF_LEAST_MS))
        tell_refused(connection, why);
    let_go(connection); /* an alert is on its way */
    if (link != NULL)
        lr_link_lost(link, why);
}

/* The other side has proved who it is: now it is a link. */
static void admit(struct connection *connection) {
    char remote[LR_ADDRESS_BYTES];
    remote_of(connection, remote);
    lr_log(LR_DEBUG, "connection secured by %s local=%s remote=%s", lr_tls_with(connection->tls),
           connection->tcp->node->listen, remote);
    stop_waiting(connection);
    uv_timer_stop(&connection->timer);
    if (connection->link != NULL) {
        lr_link_connected(connection->link, remote);
        return;
    }
    connection->link = lr_link_accept(connection->tcp->node, connection, remote);
    if (connection->link == NULL)
        end(connection);
}

static void take_sealed(struct connection *connection, const char *bytes, size_t len) {
    char plain[16384]; /* a record */
    while (len > 0 && (connection->link != NULL || connection->shaking)) {
        size_t taken = lr_tls_take(connection->tls, bytes, len);
        bytes += taken;
        len -= taken;
        if (connection->shaking && lr_tls_state(connection->tls) == LR_TLS_OPEN) {
            flush(connection);
            admit(connection);
        }
        size_t got;
        while (connection->link != NULL && (got = lr_tls_read(connection->tls, plain, sizeof plain)) > 0)
            lr_link_received(connection->link, plain, got);
        flush(connection);
        if (lr_tls_state(connection->tls) == LR_TLS_ENDED && (connection->link != NULL || connection->shaking))
            end_session(connection);
    }
}

/* Without keys we hear it in the first bytes if the other side has some. */
static bool speaks_tls(const struct connection *connection, const char *bytes, ssize_t len) {
    return !connection->heard && len >= 3 && (bytes[0] == 0x16 || bytes[0] == 0x15) && bytes[1] == 3;
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buffer) {
    struct connection *connection = stream->data;
    if (got < 0) {
        lose(connection, got == UV_EOF ? "closed by the other side" : uv_strerror((int)got));
    } else if (got > 0 && connection->tls != NULL) {
        take_sealed(connection, buffer->base, (size_t)got);
    } else if (got > 0 && connection->link != NULL) {
        if (speaks_tls(connection, buffer->base, got)) {
            tell_refused(connection, "it speaks TLS, and this larderd has no keys");
            lose(connection, "it speaks TLS, and this larderd has no keys");
            return;
        }
        connection->heard = true;
        lr_link_received(connection->link, buffer->base, (size_t)got);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    struct connection *connection = handle->data;
    (void)suggested;
    *out = uv_buf_init(connection->tcp->buffer, sizeof connection->tcp->buffer);
}

static void reading(void *self, void *of, bool on) {
    struct connection *connection = of;
    (void)self;
    if (on)
        uv_read_start((uv_stream_t *)&connection->handle, on_alloc, on_read);
    else
        uv_read_stop((uv_stream_t *)&connection->handle);
}

/* ---- beginnings ------------------------------------------------------------------------------------------------- */

static struct connection *new_connection(struct lr_tcp *tcp) {
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL)
        return NULL;
    connection->tcp = tcp;
    connection->handle.data = connection;
    connection->timer.data = connection;
    connection->shutdown.data = connection;
    connection->connect.data = connection;
    connection->lookup.data = connection;
    uv_timer_init(tcp->loop, &connection->timer);
    connection->users = 1;
    return connection;
}

static void start_handle(struct connection *connection) {
    uv_tcp_init(connection->tcp->loop, &connection->handle);
    connection->has_handle = true;
    connection->users++;
}

static void try_next(struct connection *connection, const char *why);

static void on_retry_closed(uv_handle_t *handle) {
    struct connection *connection = handle->data;
    connection->has_handle = false;
    connection->users--; /* the timer still counts */
    if (connection->link == NULL) {
        end(connection);
        return;
    }
    try_next(connection, "no address answers");
}

/* Begins TLS. False without memory. */
static bool secure(struct connection *connection) {
    char host[LR_ADDRESS_BYTES];
    lr_roster_host(connection->tcp->roster, connection->dialled, host);
    connection->tls = lr_tls_begin(connection->tcp->keys, connection->dialled[0] != '\0' ? host : NULL);
    connection->shaking = connection->tls != NULL;
    if (connection->shaking)
        flush(connection);
    return connection->shaking;
}

static void on_connect(uv_connect_t *request, int status) {
    struct connection *connection = request->data;
    if (status == UV_ECANCELED || connection->link == NULL)
        return;
    if (status != 0) {
        connection->address = connection->address->ai_next;
        if (connection->address == NULL)
            lose(connection, uv_strerror(status));
        else
            uv_close((uv_handle_t *)&connection->handle, on_retry_closed);
        return;
    }
    uv_tcp_nodelay(&connection->handle, 1);
    if (connection->tcp->keys == NULL) {
        char remote[LR_ADDRESS_BYTES];
        remote_of(connection, remote);
        reading(NULL, connection, true);
        lr_link_connected(connection->link, remote);
    } else if (secure(connection)) {
        reading(NULL, connection, true);
    } else {
        lose(connection, "out of memory");
    }
}

static void try_next(struct connection *connection, const char *why) {
    while (connection->address != NULL && !admits(connection->tcp, connection->address->ai_addr)) {
        char text[LR_ADDRESS_BYTES];
        lr_tcp_print_address(connection->address->ai_addr, text);
        lr_log(LR_ERROR, "peer %s: %s " LOOPBACK_ONLY, connection->dialled, text);
        why = LOOPBACK_ONLY;
        connection->address = connection->address->ai_next;
    }
    if (connection->address == NULL) {
        lose(connection, why);
        return;
    }
    start_handle(connection);
    int result = uv_tcp_connect(&connection->connect, &connection->handle, connection->address->ai_addr, on_connect);
    if (result != 0)
        lose(connection, uv_strerror(result));
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *addresses) {
    struct connection *connection = request->data;
    connection->addresses = connection->address = addresses;
    if (connection->link == NULL) {
        leave(connection);
        return;
    }
    for (const struct addrinfo *at = addresses; at != NULL; at = at->ai_next)
        if (admits(connection->tcp, at->ai_addr)) {
            char text[LR_ADDRESS_BYTES];
            lr_tcp_print_address(at->ai_addr, text);
            lr_peer_resolved(connection->link->peer, text);
        }
    if (status != 0)
        lose(connection, uv_strerror(status));
    else
        try_next(connection, "the name has no address");
    leave(connection);
}

static void *dial(void *self, struct lr_link *link, const char *address) {
    struct lr_tcp *tcp = self;
    char host[LR_ADDRESS_BYTES], port[6], why[LR_WHY_BYTES];
    struct connection *connection = new_connection(tcp);
    if (connection == NULL || !lr_config_split(address, host, port, why)) {
        free(connection); /* the configuration has checked the address: this is for want of memory only */
        return NULL;
    }
    snprintf(connection->dialled, sizeof connection->dialled, "%s", address);
    connection->link = link;
    connection->users++;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    if (uv_getaddrinfo(tcp->loop, &connection->lookup, on_resolved, host, port, &hints) != 0) {
        connection->link = NULL;
        connection->users--;
        end(connection);
        return NULL;
    }
    return connection;
}

static void on_late(uv_timer_t *timer) {
    struct connection *connection = timer->data;
    tell_refused(connection, "it has not proved in time who it is");
    end(connection);
}

/* Behind those who came before; the first of too many goes. */
static void wait_for(struct connection *connection) {
    struct lr_tcp *tcp = connection->tcp;
    if (tcp->waiting == LR_MAX_GUESTS) {
        tell_refused(tcp->oldest, "it has not proved who it is, and many others came since");
        end(tcp->oldest);
    }
    connection->older = tcp->newest;
    if (connection->older != NULL)
        connection->older->newer = connection;
    else
        tcp->oldest = connection;
    tcp->newest = connection;
    tcp->waiting++;
    uv_timer_start(&connection->timer, on_late, LR_HELLO_MS, 0);
}

static void on_incoming(uv_stream_t *listener, int status) {
    struct lr_tcp *tcp = listener->data;
    struct connection *connection = status == 0 ? new_connection(tcp) : NULL;
    if (connection == NULL)
        return;
    start_handle(connection);
    if (uv_accept(listener, (uv_stream_t *)&connection->handle) != 0 || (tcp->keys != NULL && !secure(connection))) {
        end(connection);
        return;
    }
    uv_tcp_nodelay(&connection->handle, 1);
    if (tcp->keys != NULL) {
        wait_for(connection);
    } else {
        char remote[LR_ADDRESS_BYTES];
        remote_of(connection, remote);
        connection->link = lr_link_accept(tcp->node, connection, remote);
    }
    if (connection->link == NULL && tcp->keys == NULL)
        end(connection);
    else
        reading(NULL, connection, true);
}

/* ---- the world --------------------------------------------------------------------------------------------------- */

static uint64_t now_ms(void *self) {
    struct timespec now;
    (void)self;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t wall_ms(void *self) {
    struct timespec now;
    (void)self;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t random_word(void *self) {
    struct lr_tcp *tcp = self;
    uint64_t word;
    if (uv_random(NULL, NULL, &word, sizeof word, 0, NULL) != 0) /* jitter and origins: no secret hangs on it */
        word = (tcp->random_state += UINT64_C(0x9e3779b97f4a7c15)) ^ now_ms(NULL);
    return word;
}

static bool proves(void *self, void *of, const char *address) {
    struct connection *connection = of;
    char host[LR_ADDRESS_BYTES];
    (void)self;
    lr_roster_host(connection->tcp->roster, address, host);
    return connection->tls == NULL || lr_tls_proves(connection->tls, host);
}

void lr_tcp_init(struct lr_tcp *tcp, uv_loop_t *loop, const struct lr_roster *roster) {
    *tcp = (struct lr_tcp){.loop = loop, .roster = roster};
    tcp->world = (struct lr_world){.self = tcp,
                                   .now_ms = now_ms,
                                   .wall_ms = wall_ms,
                                   .random = random_word,
                                   .dial = dial,
                                   .send = send_bytes,
                                   .unsent = unsent,
                                   .reading = reading,
                                   .hang_up = hang_up,
                                   .proves = proves};
}

void lr_tcp_take_keys(struct lr_tcp *tcp, struct lr_tls *keys) {
    lr_tls_free(tcp->keys);
    tcp->keys = keys;
}

/* Resolves at once. NULL with `why`. */
static struct addrinfo *resolve(struct lr_tcp *tcp, const char *address, char *why) {
    char host[LR_ADDRESS_BYTES], port[6];
    if (!lr_config_split(address, host, port, why))
        return NULL;
    uv_getaddrinfo_t request;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int result = uv_getaddrinfo(tcp->loop, &request, NULL, host, port, &hints);
    if (result == 0)
        return request.addrinfo;
    snprintf(why, LR_WHY_BYTES, "%.100s cannot be resolved: %s", address, uv_strerror(result));
    return NULL;
}

bool lr_tcp_admits(struct lr_tcp *tcp, const char *address, bool resolve_names, char *why) {
    char host[LR_ADDRESS_BYTES], port[6];
    struct sockaddr_storage numeric;
    if (!lr_config_split(address, host, port, why))
        return false;
    bool is_numeric = uv_ip4_addr(host, 0, (struct sockaddr_in *)&numeric) == 0 ||
                      uv_ip6_addr(host, 0, (struct sockaddr_in6 *)&numeric) == 0;
    if (!is_numeric && !resolve_names)
        return true;
    struct addrinfo *addresses = resolve(tcp, address, why);
    bool admitted = addresses == NULL;
    for (const struct addrinfo *at = addresses; at != NULL; at = at->ai_next)
        admitted |= admits(tcp, at->ai_addr);
    uv_freeaddrinfo(addresses);
    if (!admitted)
        snprintf(why, LR_WHY_BYTES, "%.100s " LOOPBACK_ONLY, address);
    return admitted;
}

bool lr_tcp_is_wildcard(const char *address) {
    char host[LR_ADDRESS_BYTES], port[6], why[LR_WHY_BYTES];
    if (!lr_config_split(address, host, port, why))
        return false;
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

int lr_tcp_listen(struct lr_tcp *tcp, const char *address, char *why) {
    struct addrinfo *addresses = resolve(tcp, address, why);
    if (addresses == NULL)
        return -1;
    if (!admits(tcp, addresses->ai_addr)) {
        snprintf(why, LR_WHY_BYTES, "%.100s " LOOPBACK_ONLY, address);
        uv_freeaddrinfo(addresses);
        return -1;
    }
    uv_tcp_init(tcp->loop, &tcp->listener);
    tcp->listener.data = tcp;
    tcp->listening = true;
    int result = uv_tcp_bind(&tcp->listener, addresses->ai_addr, 0);
    if (result == 0)
        result = uv_listen((uv_stream_t *)&tcp->listener, 64, on_incoming);
    uv_freeaddrinfo(addresses);
    if (result == 0)
        return 0;
    snprintf(why, LR_WHY_BYTES, "cannot listen at %.100s: %s", address, uv_strerror(result));
    lr_tcp_stop(tcp);
    return -1;
}

void lr_tcp_stop(struct lr_tcp *tcp) {
    if (tcp->listening)
        uv_close((uv_handle_t *)&tcp->listener, NULL);
    tcp->listening = false;
    while (tcp->oldest != NULL)
        end(tcp->oldest);
}

const char *lr_tcp_secured_by(const struct lr_link *link) {
    const struct connection *connection = link->connection;
    return connection != NULL && connection->tls != NULL ? lr_tls_with(connection->tls) : "nothing";
}

int64_t lr_tcp_proof_seconds_left(const struct lr_link *link) {
    const struct connection *connection = link->connection;
    return connection != NULL && connection->tls != NULL ? lr_tls_proof_seconds_left(connection->tls) : INT64_MAX;
}
