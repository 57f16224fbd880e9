/* SPDX-License-Identifier: MIT */
/*
 * What larderd is told: flags, or lines of an INI file with the same names. One table makes both, and the help.
 *
 * The file is read first, flags override it, peers add up. Reloading reads both again, as they are then; nothing is
 * taken over unless all of it is right.
 */
#ifndef LR_CONFIG_H
#define LR_CONFIG_H

#include "node.h"

#include <limits.h>
#include <stdio.h>

#define LR_ADDRESS_BYTES (WIRE_MAX_TEXT + 1)

/* Rows: X(name, unit, default, sentence). */
#define LR_CONFIG_OPTIONS(X)                                                                                           \
    X(name, "NAME", "none", "The segment: /dev/shm/larder.NAME, of 1 to 64 letters, digits, '.', '_' and '-'")         \
    X(path, "FILE", "none", "The segment as a file on a tmpfs, instead of a name")                                     \
    X(memfd, "SOCKET", "none", "Keep the segment in a sealed memfd and hand it over at this Unix socket, instead")     \
    X(size, "BYTES", "64M", "Memory for items, when the segment has to be created; K, M and G are powers of 1024")     \
    X(policy, "POLICY", "s3",                                                                                          \
      "Who goes when memory is full, when the segment has to be created: s3 clock lfu ttl none")                       \
    X(favor, "WHAT", "objects",                                                                                        \
      "Fewest misses or fewest bytes missed, when the segment has to be created: objects bytes")                       \
    X(mode, "OCTAL", "0600", "Permissions of the segment, when it has to be created")                                  \
    X(group, "GROUP", "the user's", "Group of the segment, by name or number, when it has to be created")              \
    X(listen, "ADDRESS:PORT", "127.0.0.1:7411", "Where peers reach this host; without keys a loopback address")        \
    X(advertise, "HOST:PORT", "listen", "How peers know this host, where that is not the address it listens at")       \
    X(peer, "HOST:PORT", "none", "Another host's larderd; repeat it for each. That host needs this one as its peer")   \
    X(discover, "HOST:PORT", "none", "A name whose addresses are peers, all of them but this host itself")             \
    X(discover_s, "SECONDS", "10", "How often that name is looked up")                                                 \
    X(tls_cert, "FILE", "none", "This host's certificate in PEM, and those between it and the peers' tls_ca")          \
    X(tls_key, "FILE", "none", "Its private key in PEM, readable by its owner only")                                   \
    X(tls_ca, "FILE", "none", "The certificates in PEM that a peer's must chain to")                                   \
    X(tls_crl, "FILE", "none",                                                                                         \
      "Lists in PEM of certificates that their authorities have revoked, one of each authority")                       \
    X(tls_name, "NAME", "each peer's host", "What a peer's certificate must bear as subject alternative name")         \
    X(tls_psk_file, "FILE", "none", "Keys instead of certificates: lines of 64 hex digits; the first is used to dial") \
    X(node, "TEXT", "host name", "What this host is called in the peers' logs")                                        \
    X(log, "LEVEL", "info", "Least important lines to write: error, warn, info, debug")                                \
    X(clock_limit_ms, "MS", "2000", "Largest difference to a peer's wall clock; beyond it the link is down")           \
    X(tombstone_s, "SECONDS", "30", "A deleted key is remembered at least this long after every peer has heard of it") \
    X(relay, "YES-OR-NO", "no",                                                                                        \
      "Some peers of this host are not peers of each other: pass on between them what one has forgotten")              \
    X(prefix, "PREFIX=MODE", "none",                                                                                   \
      "What peers see of keys that begin so: values, invalidate or local; repeat it, the longest prefix counts")       \
    X(compress, "BYTES", "off",                                                                                        \
      "Values of at least so many bytes travel compressed (LZ4), where that saves an eighth; off: none")

struct lr_config {
    char name[65];
    char path[PATH_MAX];
    char memfd[PATH_MAX]; /* "unix:" and the socket's path; "" none */
    uint64_t size;
    uint32_t policy, favor;
    mode_t mode;
    gid_t group; /* (gid_t)-1: as it comes */
    char listen[LR_ADDRESS_BYTES];
    char peers[LR_MAX_PEERS][LR_ADDRESS_BYTES];
    unsigned peer_count;
    char discover[LR_ADDRESS_BYTES];
    uint64_t discover_ms;
    char advertise[LR_ADDRESS_BYTES];
    char tls_cert[PATH_MAX], tls_key[PATH_MAX], tls_ca[PATH_MAX], tls_crl[PATH_MAX];
    char tls_psk_file[PATH_MAX];
    char tls_name[256];
    char node[LR_ADDRESS_BYTES];
    int log_level;
    uint64_t clock_limit_ms;
    uint64_t tombstone_ms;
    uint64_t compress; /* 0: off */
    struct lr_mode_row modes[LR_MODE_ROWS];
    unsigned mode_count;
    bool relay;
};

enum lr_config_outcome { LR_CONFIG_RUN, LR_CONFIG_HELP, LR_CONFIG_VERSION, LR_CONFIG_WRONG };

/* WRONG: `why` (LR_WHY_BYTES) says in one line what is wrong, where, and what was expected. */
enum lr_config_outcome lr_config_read(int argc, char *const *argv, struct lr_config *out, char *why);
void lr_config_help(FILE *to);
/* Whether keys are given. */
bool lr_config_has_keys(const struct lr_config *config);
/* The modes as lines of one text, for logs; "none" if there are none. */
const char *lr_config_modes(const struct lr_config *config, char *out, size_t cap);
/*
 * Splits "host:port" or "[address]:port". False with `why` unless the port is 1 to 65535 and the host is not empty.
 */
bool lr_config_split(const char *address, char host[LR_ADDRESS_BYTES], char port[6], char *why);

#endif
