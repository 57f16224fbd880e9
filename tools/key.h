/* SPDX-License-Identifier: MIT */
/* A key as the command line gives it: text as typed, or hexadecimal digits with --hex-key. */
#ifndef LARDER_TOOLS_KEY_H
#define LARDER_TOOLS_KEY_H

#include "cli.h"

#define KEY_HEX_OPTION                                                                                                 \
    {                                                                                                                  \
        "hex-key", 'x', CLI_FLAG, NULL, NULL, NULL,                                                                    \
            "Keys are given as hexadecimal digits, as `larder ls --hex` prints them"                                   \
    }

#define KEY_PEERS_OPTIONS                                                                                              \
    {"peers", 'P', CLI_NUMBER, "NUMBER", NULL, "0", "Wait until so many other hosts have the change: 1 to 8"}, {       \
        "timeout", 0, CLI_DURATION, "TIME", "seconds, or with ms, s, m, h or d", "1s", "... at most this long"         \
    }

struct key {
    const void *bytes;
    size_t len; /* 1 to 65536 */
};

/*
 * Reads the key from an operand of a verb that has KEY_HEX_OPTION. Hexadecimal digits are decoded in place: `text` is
 * overwritten and must outlive the key. 0, or the exit code of a failure that has been reported.
 */
int key_read(const struct cli *cli, char *text, struct key *out);

/* --peers and --timeout: CLI_YES if they are not given or fit, or the exit code of a failure that has been reported. */
int key_check_peers(const struct cli *cli);
/* Waits for as many hosts as --peers says to have what was changed under the key. How many have it, or an error. */
int key_await_peers(const struct cli *cli, struct lr_cache *cache, const struct key *key, unsigned timeout_ms);
/*
 * Tells that so few have it, or, `had` being an error, that it cannot be waited for. With --json in `result`, which is
 * consumed: the object of what was done here all the same. Returns the exit code.
 */
int key_tell_too_few(const struct cli *cli, struct lr_cache *cache, const struct key *key, int had, json_t *result);

/* The key's members of a JSON object: "key" (null where it is not UTF-8 or has a NUL) and "key_hex". */
void key_to_json(json_t *object, const void *bytes, size_t len);

/* For messages: escaped, and cut at 64 bytes. */
#define KEY_SHOWN_BYTES 272u
const char *key_show(char out[KEY_SHOWN_BYTES], const void *bytes, size_t len);

#endif
