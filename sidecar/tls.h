/* SPDX-License-Identifier: MIT */
/*
 * Who is at the other end, and who else can read this? TLS 1.3, both sides proving who they are.
 *
 *      network bytes --lr_tls_take-->  session  --lr_tls_read-->   frames
 *      network bytes <--lr_tls_out---           <--lr_tls_write--  frames
 *
 * A session is a pure engine: bytes in, bytes out, no sockets and no clock but the one that certificates are judged by.
 * tcp.c puts it between a stream and a link; the tests drive two of them by hand; the simulated network has none.
 *
 * A host proves itself in one of two ways, and expects the same of the others:
 *
 *  certificate     It must chain to a certificate of the CA file, be within its dates, and bear the name of the peer
 *                  that it claims to be: the host (name or address) under which that peer stands in our configuration,
 *                  among its subject alternative names; or tls_name, if that is set, for all peers alike. The common
 *                  name is not looked at. For a peer that we dial this is judged in the handshake; for one that dials
 *                  us, when its HELLO has said which of our peers it is (lr_tls_proves). With a CRL file, neither it
 *                  nor any above it may be on the list of who signed it, and those lists must be there and in date.
 *  pre-shared key  Whoever has the key is a peer. Ephemeral Diffie-Hellman comes on top, so the key does not open what
 *                  was recorded.
 *
 * Rules that always hold:
 *  1. TLS 1.3 and nothing older. No tickets, no resumption, no early data, no renegotiation: a recorded session is of
 *     no use to anybody, and every link begins with fresh randomness of both sides.
 *  2. Before the other side has proved itself it costs at most LR_TLS_UNPROVED bytes of input.
 *  3. A file with a secret is used only if it belongs to root or us and nobody else may read it; one without, only if
 *     nobody else may write it. All are read and judged before any of them counts (lr_tls_load): half a reload cannot
 *     happen, and sessions that are open keep the keys with which they were opened.
 *  4. Nobody talks to himself: a pre-shared key's identity carries a random number of its host, and a host refuses its
 *     own; with certificates HELLO says so (peer.c). Without it, a host's bytes could be sent back to it.
 *  5. Secrets are compared in constant time and wiped when they go.
 */
#ifndef LR_TLS_H
#define LR_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LR_TLS_UNPROVED 8192u  /* bytes taken from somebody who has not yet proved who he is */
#define LR_TLS_OWN_CHAIN 6144u /* of one's own certificates: the other side has the same limit */
#define LR_TLS_KEYS 4u         /* pre-shared keys of one file */
#define LR_TLS_WHY 256u

struct lr_tls_files { /* "" or NULL: not given. Either psk, or the other three */
    const char *cert, *key, *ca;
    const char *crl; /* with those three, or not */
    const char *psk;
    const char *name; /* that every peer's certificate must bear; else each peer's own host */
};

struct lr_tls;
struct lr_tls_session;

/* NULL with `why` (LR_WHY_BYTES): which file, what is wrong with it, what would be right. */
struct lr_tls *lr_tls_load(const struct lr_tls_files *files, char *why);
/* Sessions that are open keep it alive. NULL is allowed. */
void lr_tls_free(struct lr_tls *keys);
/* For the log: "certificate CN=zero of CN=our CA, until 2027-01-02", "pre-shared key 0123456789abcdef". */
const char *lr_tls_describe(const struct lr_tls *keys);
/* Seconds until our own certificate ends, negative afterwards; INT64_MAX: there is none. */
int64_t lr_tls_seconds_left(const struct lr_tls *keys);

/* ENDING: a fifth of the time for which the first of our revocation lists to end was made is left, or less. */
enum lr_tls_lists { LR_TLS_LISTS_FINE, LR_TLS_LISTS_ENDING, LR_TLS_LISTS_ENDED };
enum lr_tls_lists lr_tls_lists(const struct lr_tls *keys);
/* How many there are; 0: no file of them is configured. */
unsigned lr_tls_list_count(const struct lr_tls *keys);
/* Seconds until the first of them to end needs a successor, negative afterwards; INT64_MAX: none has an end. */
int64_t lr_tls_lists_seconds_left(const struct lr_tls *keys);

enum lr_tls_state { LR_TLS_SHAKING, LR_TLS_OPEN, LR_TLS_ENDED };

/* `host`: of the peer that we dial; NULL: somebody dials us. NULL without memory. */
struct lr_tls_session *lr_tls_begin(struct lr_tls *keys, const char *host);
void lr_tls_end(struct lr_tls_session *session);
/* Bytes from the network: takes some, at most what rule 2 allows, and says how many. Look at the state and lr_tls_out
 * after each call, and read until there is no more. */
size_t lr_tls_take(struct lr_tls_session *session, const void *bytes, size_t len);
enum lr_tls_state lr_tls_state(const struct lr_tls_session *session);
/* What came for us. 0: nothing more for now, or ENDED. */
size_t lr_tls_read(struct lr_tls_session *session, void *out, size_t cap);
/* False: ENDED, or without memory. */
bool lr_tls_write(struct lr_tls_session *session, const void *bytes, size_t len);
/* We shall not write any more. */
void lr_tls_say_end(struct lr_tls_session *session);
/* What is to go to the network. It stays until lr_tls_out_taken. */
size_t lr_tls_out(struct lr_tls_session *session, const uint8_t **bytes);
void lr_tls_out_taken(struct lr_tls_session *session);
/* Whether the other side has proved to be the peer that is configured as `host`. */
bool lr_tls_proves(const struct lr_tls_session *session, const char *host);
/* Of an ENDED session, for a human. */
const char *lr_tls_why(const struct lr_tls_session *session);
/* Of an OPEN one: "TLSv1.3, certificate CN=one, TLS_AES_256_GCM_SHA384". */
const char *lr_tls_with(const struct lr_tls_session *session);
/* Of an OPEN one: seconds until the other side's certificate ends, negative afterwards; INT64_MAX: it has shown none.
 */
int64_t lr_tls_proof_seconds_left(const struct lr_tls_session *session);

#endif
