/* SPDX-License-Identifier: MIT */
/* Every option has one function that takes its text, whether it came from a flag or from the file. */
#include "config.h"

#include "log.h"

#include <errno.h>
#include <grp.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_FLAG "--config"

static const struct {
    const char *name, *unit, *standard, *sentence;
} options[] = {
#define X(name, unit, standard, sentence) {#name, unit, standard, sentence},
    LR_CONFIG_OPTIONS(X)
#undef X
};
#define OPTION_COUNT (sizeof options / sizeof *options)

/* ---- values --------------------------------------------------------------------------------------------------- */

static bool say(char *why, const char *value, const char *expected) {
    snprintf(why, LR_WHY_BYTES, "\"%.200s\" is not %s", value, expected);
    return false;
}

static bool take_number(const char *value, uint64_t least, uint64_t most, uint64_t *out, char *why) {
    char *end;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (errno != 0 || end == value || *end != '\0' || value[0] == '-' || number < least || number > most) {
        char expected[96];
        snprintf(expected, sizeof expected, "a number from %llu to %llu", (unsigned long long)least,
                 (unsigned long long)most);
        return say(why, value, expected);
    }
    *out = number;
    return true;
}

static bool take_size(const char *value, uint64_t *out, char *why) {
    char *end;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    unsigned shift = *end == 'K' || *end == 'k'   ? 10
                     : *end == 'M' || *end == 'm' ? 20
                     : *end == 'G' || *end == 'g' ? 30
                                                  : 0;
    if (end == value || errno != 0 || value[0] == '-' || number == 0 || number > (UINT64_MAX >> shift) ||
        end[shift > 0] != '\0')
        return say(why, value, "a size: a number above 0, then nothing, K, M or G");
    *out = (uint64_t)number << shift;
    return true;
}

static bool take_mode(const char *value, mode_t *out, char *why) {
    char *end;
    unsigned long mode = strtoul(value, &end, 8);
    if (end == value || *end != '\0' || mode == 0 || (mode & ~0777ul) != 0)
        return say(why, value, "a file mode in octal, such as 0600 or 0660");
    *out = (mode_t)mode;
    return true;
}

static bool take_group(const char *value, gid_t *out, char *why) {
    const struct group *entry = getgrnam(value);
    uint64_t number;
    if (entry == NULL && !take_number(value, 0, UINT32_MAX - 1, &number, why))
        return say(why, value, "a group, by name or number");
    *out = entry != NULL ? entry->gr_gid : (gid_t)number;
    return true;
}

static bool take_memfd(const char *value, char out[PATH_MAX], char *why) {
    if (value[0] == '\0' || strlen(value) >= PATH_MAX - sizeof "unix:")
        return say(why, value, "a path for a socket");
    snprintf(out, PATH_MAX, "unix:%s", value);
    return true;
}

static bool take_text(const char *value, char *out, size_t cap, char *why) {
    if (value[0] == '\0' || strlen(value) >= cap)
        return say(why, value, "a text of that length: it is empty or too long");
    strcpy(out, value);
    return true;
}

bool lr_config_split(const char *address, char host[LR_ADDRESS_BYTES], char port[6], char *why) {
    const char *colon = strrchr(address, ':');
    const char *start = address;
    const char *end = colon;
    if (colon != NULL && address[0] == '[') {
        start = address + 1;
        end = colon > address && colon[-1] == ']' ? colon - 1 : NULL;
    } else if (colon != NULL && memchr(address, ':', (size_t)(colon - address)) != NULL) {
        end = NULL; /* an IPv6 address needs brackets */
    }
    uint64_t number;
    if (colon == NULL || end == NULL || end <= start || end - start >= LR_ADDRESS_BYTES || strlen(colon + 1) > 5 ||
        !take_number(colon + 1, 1, 65535, &number, why))
        return say(why, address, "an address: host:port or [IPv6]:port, with a port from 1 to 65535");
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    snprintf(port, 6, "%u", (unsigned)number);
    return true;
}

static bool take_address(const char *value, char out[LR_ADDRESS_BYTES], char *why) {
    char host[LR_ADDRESS_BYTES], port[6];
    if (strlen(value) >= LR_ADDRESS_BYTES)
        return say(why, value, "an address: it is too long");
    if (!lr_config_split(value, host, port, why))
        return false;
    strcpy(out, value);
    return true;
}

static bool take_peer(const char *value, struct lr_config *out, char *why) {
    char address[LR_ADDRESS_BYTES];
    if (!take_address(value, address, why))
        return false;
    for (unsigned i = 0; i < out->peer_count; i++)
        if (strcmp(out->peers[i], address) == 0)
            return true;
    if (out->peer_count == LR_MAX_PEERS)
        return say(why, value, "one of at most 128 peers: there are 128 already");
    strcpy(out->peers[out->peer_count++], address);
    return true;
}

/* A prefix may have any character but those that the file's syntax takes away; what is behind the last '=' is the mode.
 * One that is given again replaces what was said before, so that flags override the file. */
static bool take_prefix(const char *value, struct lr_config *out, char *why) {
    const char *equals = strrchr(value, '=');
    const int mode = equals != NULL ? lr_mode_number(equals + 1) : -1;
    const size_t len = equals != NULL ? (size_t)(equals - value) : 0;
    unsigned row = 0;
    if (mode < 0 || len > sizeof out->modes[0].prefix)
        return say(why, value, "PREFIX=MODE, with a prefix of at most 120 bytes and values, invalidate or local");
    while (row < out->mode_count && (out->modes[row].len != len || memcmp(out->modes[row].prefix, value, len) != 0))
        row++;
    if (row == LR_MODE_ROWS)
        return say(why, value, "one of at most 12 prefixes: there are 12 already");
    out->mode_count += row == out->mode_count;
    out->modes[row].len = (unsigned)len;
    out->modes[row].mode = (enum lr_mode)mode;
    memcpy(out->modes[row].prefix, value, len);
    return true;
}

const char *lr_config_modes(const struct lr_config *config, char *out, size_t cap) {
    size_t len = 0;
    snprintf(out, cap, "none");
    for (unsigned i = 0; i < config->mode_count && len < cap; i++)
        len += (size_t)snprintf(out + len, cap - len, "%s%.*s=%s", i > 0 ? " " : "", (int)config->modes[i].len,
                                (const char *)config->modes[i].prefix, lr_mode_name(config->modes[i].mode));
    return out;
}

static bool take_option(const char *name, const char *value, struct lr_config *out, char *why) {
    uint64_t number;
    if (strcmp(name, "name") == 0)
        return take_text(value, out->name, sizeof out->name, why);
    if (strcmp(name, "path") == 0)
        return take_text(value, out->path, sizeof out->path, why);
    if (strcmp(name, "memfd") == 0)
        return take_memfd(value, out->memfd, why);
    if (strcmp(name, "group") == 0)
        return take_group(value, &out->group, why);
    if (strcmp(name, "size") == 0)
        return take_size(value, &out->size, why);
    if (strcmp(name, "mode") == 0)
        return take_mode(value, &out->mode, why);
    if (strcmp(name, "listen") == 0)
        return take_address(value, out->listen, why);
    if (strcmp(name, "advertise") == 0)
        return take_address(value, out->advertise, why);
    if (strcmp(name, "discover") == 0)
        return take_address(value, out->discover, why);
    if (strcmp(name, "discover_s") == 0) {
        if (!take_number(value, 1, 3600, &number, why))
            return false;
        out->discover_ms = number * 1000;
        return true;
    }
    if (strcmp(name, "tls_cert") == 0)
        return take_text(value, out->tls_cert, sizeof out->tls_cert, why);
    if (strcmp(name, "tls_key") == 0)
        return take_text(value, out->tls_key, sizeof out->tls_key, why);
    if (strcmp(name, "tls_ca") == 0)
        return take_text(value, out->tls_ca, sizeof out->tls_ca, why);
    if (strcmp(name, "tls_crl") == 0)
        return take_text(value, out->tls_crl, sizeof out->tls_crl, why);
    if (strcmp(name, "tls_psk_file") == 0)
        return take_text(value, out->tls_psk_file, sizeof out->tls_psk_file, why);
    if (strcmp(name, "tls_name") == 0)
        return take_text(value, out->tls_name, sizeof out->tls_name, why);
    if (strcmp(name, "prefix") == 0)
        return take_prefix(value, out, why);
    if (strcmp(name, "peer") == 0)
        return take_peer(value, out, why);
    if (strcmp(name, "node") == 0)
        return take_text(value, out->node, sizeof out->node, why);
    if (strcmp(name, "clock_limit_ms") == 0)
        return take_number(value, 10, 3600000, &out->clock_limit_ms, why);
    if (strcmp(name, "tombstone_s") == 0) {
        if (!take_number(value, 1, 86400, &number, why))
            return false;
        out->tombstone_ms = number * 1000;
        return true;
    }
    if (strcmp(name, "relay") == 0) {
        out->relay = strcmp(value, "yes") == 0;
        return out->relay || strcmp(value, "no") == 0 || say(why, value, "yes or no");
    }
    if (strcmp(name, "compress") == 0) {
        out->compress = 0;
        return strcmp(value, "off") == 0 || take_size(value, &out->compress, why);
    }
    if (strcmp(name, "policy") == 0) {
        int policy = lr_policy_number(value);
        out->policy = (uint32_t)policy;
        return policy >= 0 || say(why, value, "a policy: s3, clock, lfu, ttl or none");
    }
    if (strcmp(name, "favor") == 0) {
        int favor = lr_favor_number(value);
        out->favor = (uint32_t)favor;
        return favor >= 0 || say(why, value, "a thing to favor: objects or bytes");
    }
    out->log_level = lr_log_number(value); /* "log": the table has no other row */
    return out->log_level >= 0 || say(why, value, "a log level: error, warn, info or debug");
}

static bool is_option(const char *name) {
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (strcmp(options[i].name, name) == 0)
            return true;
    return false;
}

/* ---- the file ------------------------------------------------------------------------------------------------- */

struct reading {
    struct lr_config *out;
    const char *file;
    FILE *stream;
    int line;
    char *why;
    bool wrong;
};

/* As fgets. Of a line that is too long inih would make two. */
static char *next_line(char *out, int cap, void *context) {
    struct reading *reading = context;
    if (reading->wrong || fgets(out, cap, reading->stream) == NULL)
        return NULL;
    reading->line++;
    if (strchr(out, '\n') != NULL || feof(reading->stream))
        return out;
    reading->wrong = true;
    snprintf(reading->why, LR_WHY_BYTES, "%.120s: line %d has more than %d bytes, or one that is 0", reading->file,
             reading->line, cap - 2);
    return NULL;
}

/* inih calls this for each line "name = value". */
static int take_line(void *context, const char *section, const char *key, const char *value) {
    struct reading *reading = context;
    char detail[LR_WHY_BYTES], name[64];
    snprintf(name, sizeof name, "%s", key);
    for (char *c = name; *c != '\0'; c++) /* as with flags: tls-cert and tls_cert are one */
        if (*c == '-')
            *c = '_';
    if (reading->wrong)
        return 1;
    if (section[0] != '\0')
        snprintf(detail, sizeof detail, "section [%.60s] is unknown: the file has no sections", section);
    else if (!is_option(name))
        snprintf(detail, sizeof detail, "unknown key \"%.60s\": `larderd --help` lists the keys", key);
    else if (take_option(name, value, reading->out, detail))
        return 1;
    reading->wrong = true;
    snprintf(reading->why, LR_WHY_BYTES, "%.120s: line %d: %s%s%.300s", reading->file, reading->line,
             is_option(name) ? name : "", is_option(name) ? ": " : "", detail);
    return 1;
}

static bool read_file(const char *file, struct lr_config *out, char *why) {
    struct reading reading = {.out = out, .file = file, .why = why, .stream = fopen(file, "re")};
    int line = reading.stream != NULL ? ini_parse_stream(next_line, &reading, take_line, &reading) : -1;
    if (line < 0 || ferror(reading.stream)) {
        snprintf(why, LR_WHY_BYTES, "%.200s cannot be read: %s", file, strerror(errno));
        reading.wrong = true;
    } else if (line > 0 && !reading.wrong) {
        snprintf(why, LR_WHY_BYTES, "%.200s: line %d is neither \"key = value\" nor a comment", file, line);
        reading.wrong = true;
    }
    if (reading.stream != NULL)
        fclose(reading.stream);
    return !reading.wrong;
}

/* ---- flags ---------------------------------------------------------------------------------------------------- */

/* "--clock-limit-ms" and "--clock_limit_ms" are the option clock_limit_ms. False: it is none. */
static bool option_name(const char *flag, size_t len, char out[32]) {
    if (len < 3 || len - 2 >= 32 || strncmp(flag, "--", 2) != 0)
        return false;
    for (size_t i = 2; i < len; i++)
        out[i - 2] = flag[i] == '-' ? '_' : flag[i];
    out[len - 2] = '\0';
    return true;
}

/* Walks the flags: with `file` it only looks for --config, without it takes the options. */
static enum lr_config_outcome walk_flags(int argc, char *const *argv, const char **file, struct lr_config *out,
                                         char *why) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return LR_CONFIG_HELP;
        if (strcmp(argv[i], "--version") == 0)
            return LR_CONFIG_VERSION;
        const char *equals = strchr(argv[i], '=');
        size_t len = equals != NULL ? (size_t)(equals - argv[i]) : strlen(argv[i]);
        char name[32];
        bool is_file = len == strlen(FILE_FLAG) && strncmp(argv[i], FILE_FLAG, len) == 0;
        if (!is_file && (!option_name(argv[i], len, name) || !is_option(name))) {
            snprintf(why, LR_WHY_BYTES, "unknown option \"%.100s\": `larderd --help` lists the options", argv[i]);
            return LR_CONFIG_WRONG;
        }
        const char *value = equals != NULL ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (value == NULL) {
            snprintf(why, LR_WHY_BYTES, "option %.100s needs a value", argv[i]);
            return LR_CONFIG_WRONG;
        }
        if (is_file && file != NULL)
            *file = value;
        char detail[LR_WHY_BYTES];
        if (!is_file && file == NULL && !take_option(name, value, out, detail)) {
            snprintf(why, LR_WHY_BYTES, "--%s: %.400s", name, detail);
            return LR_CONFIG_WRONG;
        }
    }
    return LR_CONFIG_RUN;
}

bool lr_config_has_keys(const struct lr_config *config) {
    return config->tls_cert[0] != '\0' || config->tls_psk_file[0] != '\0';
}

/* What goes together, and what does not. */
static bool judge(const struct lr_config *config, char *why) {
    int given = (config->name[0] != '\0') + (config->path[0] != '\0') + (config->memfd[0] != '\0');
    bool cert = config->tls_cert[0] != '\0', key = config->tls_key[0] != '\0', ca = config->tls_ca[0] != '\0';
    bool psk = config->tls_psk_file[0] != '\0', name = config->tls_name[0] != '\0', crl = config->tls_crl[0] != '\0';
    if (given != 1)
        snprintf(why, LR_WHY_BYTES, "%s: give either name, path or memfd",
                 given == 0                 ? "no segment is named"
                 : config->memfd[0] == '\0' ? "both a name and a path are given"
                                            : "a memfd and a name or path are given");
    else if (psk && (cert || key || ca || name || crl))
        snprintf(why, LR_WHY_BYTES, "both tls_psk_file and certificates are given: use one kind of keys");
    else if (cert != key || key != ca || ((name || crl) && !cert))
        snprintf(why, LR_WHY_BYTES, "tls_cert, tls_key and tls_ca go together: %s is missing",
                 !cert  ? "tls_cert"
                 : !key ? "tls_key"
                        : "tls_ca");
    else
        return true;
    return false;
}

enum lr_config_outcome lr_config_read(int argc, char *const *argv, struct lr_config *out, char *why) {
    *out = (struct lr_config){.size = UINT64_C(64) << 20,
                              .mode = 0600,
                              .group = (gid_t)-1,
                              .listen = "127.0.0.1:7411",
                              .discover_ms = 10000,
                              .log_level = LR_INFO,
                              .clock_limit_ms = 2000,
                              .tombstone_ms = 30000};
    if (gethostname(out->node, sizeof out->node - 1) != 0 || out->node[0] == '\0')
        strcpy(out->node, "unnamed");
    const char *file = NULL;
    enum lr_config_outcome outcome = walk_flags(argc, argv, &file, out, why);
    if (outcome != LR_CONFIG_RUN)
        return outcome;
    if (file != NULL && !read_file(file, out, why))
        return LR_CONFIG_WRONG;
    outcome = walk_flags(argc, argv, NULL, out, why);
    if (outcome != LR_CONFIG_RUN)
        return outcome;
    if (out->advertise[0] == '\0')
        strcpy(out->advertise, out->listen);
    if (!judge(out, why))
        return LR_CONFIG_WRONG;
    return LR_CONFIG_RUN;
}

/* ---- help ----------------------------------------------------------------------------------------------------- */

void lr_config_help(FILE *to) {
    fputs(
        "larderd - carries the changes of a Larder segment to other hosts, and theirs here\n"
        "\n"
        "usage: larderd --name NAME [--listen ADDRESS:PORT] [--peer HOST:PORT]... [OPTION]...\n"
        "       larderd --memfd SOCKET [OPTION]...\n"
        "       larderd --config FILE [OPTION]...\n"
        "\n"
        "Attaches to the segment, or creates it if there is none, and leaves it when it ends. Every host takes\n"
        "writes; for each key the newest version wins, everywhere. Also sweeps expired items and frees what dead\n"
        "processes held, so it is of use without a peer. One larderd works on a segment; processes of this host\n"
        "need none to share their data.\n"
        "\n"
        "Between hosts it speaks TLS 1.3, and both sides prove who they are: by certificates (tls_cert, tls_key,\n"
        "tls_ca), or by a key that all of them share (tls_psk_file). Without keys it uses loopback addresses only.\n"
        "A file with a secret must belong to root or the user and be readable by nobody else.\n"
        "\n"
        "With --memfd it also keeps the segment, in memory that nobody can truncate. Processes attach to the path\n"
        "unix:SOCKET (as in: larder stat --path unix:SOCKET); mode and group say who may, as for a file. The segment\n"
        "ends with this larderd, however that ends: attached processes are told RETIRED, and the next larderd begins\n"
        "with an empty one.\n"
        "\n"
        "Options (in the file: the same names, as lines \"name = value\"):\n",
        to);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        char flag[64];
        snprintf(flag, sizeof flag, "--%s %s", options[i].name, options[i].unit);
        for (char *c = flag; *c != ' '; c++)
            if (*c == '_')
                *c = '-';
        fprintf(to, "  %-26s %s (default: %s)\n", flag, options[i].sentence, options[i].standard);
    }
    fputs(
        "  --config FILE              Read an INI file first; flags override it, peers add up\n"
        "  --help                     Show this text\n"
        "  --version                  Show the version\n"
        "\n"
        "Signals:\n"
        "  SIGTERM, SIGINT            Send what is not yet acknowledged, for at most 5 s, say what remained, end.\n"
        "                             A second one ends at once\n"
        "  SIGHUP                     Read the file again: peers that it did not have before are dialled, those that\n"
        "                             it has no more are closed, all others untouched, also those that `larder\n"
        "                             peers` has added or removed. Read the keys again: they are for links\n"
        "                             that are made from now on. Take over prefixes: entries of keys whose mode is\n"
        "                             another one now are dropped. A mistake in any of it changes nothing; other\n"
        "                             options are read at the start only\n"
        "\n"
        "While it runs, `larder peers` lists, adds and removes peers, by a Unix socket beside the segment.\n"
        "\n"
        "Exit status: 0 ended by a signal, 1 another larderd has the segment or the address, 2 wrong options,\n"
        "3 no segment, 4 permission denied, 5 other version, 6 damaged segment.\n"
        "\n"
        "Example: two hosts on one machine, and two machines with one key\n"
        "  larderd --name a --listen 127.0.0.1:7411 --peer 127.0.0.1:7412 &\n"
        "  larderd --name b --listen 127.0.0.1:7412 --peer 127.0.0.1:7411 &\n"
        "\n"
        "  (umask 077 && openssl rand -hex 32 >larder.psk) && scp -p larder.psk 10.0.0.2:\n"
        "  larderd --name a --tls-psk-file larder.psk --listen 10.0.0.1:7411 --peer 10.0.0.2:7411\n"
        "  larderd --name a --tls-psk-file larder.psk --listen 10.0.0.2:7411 --peer 10.0.0.1:7411\n",
        to);
}
