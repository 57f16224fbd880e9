/* SPDX-License-Identifier: MIT */
/* `larder set`: store one value, from the command line, a file or standard input. */
#include "key.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct cli_option options[] = {
    KEY_HEX_OPTION,
    {"file", 'f', CLI_TEXT, "FILE", NULL, NULL, "Take the value from FILE; - is standard input"},
    {"ttl", 't', CLI_DURATION, "TIME", "seconds, or with ms, s, m, h or d", "0",
     "Let the item expire after TIME; 0 is never"},
    {"flags", 0, CLI_NUMBER, "NUMBER", NULL, "0", "Keep this 32-bit number with the item, for the applications"},
    {"add", 0, CLI_FLAG, NULL, NULL, NULL, "Store only if the key is absent"},
    {"replace", 0, CLI_FLAG, NULL, NULL, NULL, "Store only if the key is present"},
    {"fill", 0, CLI_FLAG, NULL, NULL, NULL,
     "The value is no change: it was read from where it comes from. Under a prefix of mode invalidate no host is told"},
    KEY_PEERS_OPTIONS,
    {"cas", 0, CLI_NUMBER, "VERSION", NULL, NULL,
     "Store only if the item's version is this one (see `larder get --meta`)"},
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

struct value {
    const void *bytes;
    size_t len;
    void *owned; /* to free, or NULL */
};

/* Reads all of `file`, refusing more than `limit` bytes before they are all read. */
static int read_stream(const struct cli *cli, const char *file, uint64_t limit, struct value *out) {
    bool is_stdin = strcmp(file, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cli_usage(cli, "cannot read \"%s\": %s", file, strerror(errno));
    char *bytes = malloc(limit + 1);
    size_t len = 0;
    ssize_t got = bytes == NULL ? -1 : 1;
    while (got > 0 && len <= limit) {
        got = read(fd, bytes + len, limit + 1 - len);
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got > 0)
            len += (size_t)got;
    }
    int saved = errno;
    if (!is_stdin)
        close(fd);
    *out = (struct value){.bytes = bytes, .len = len, .owned = bytes};
    if (bytes == NULL)
        return cli_fail(cli, LARDER_ENO_MEMORY, "no memory for a value of up to %" PRIu64 " bytes", limit);
    if (got < 0)
        return cli_usage(cli, "cannot read \"%s\": %s", file, strerror(saved));
    return 0;
}

static int read_value(const struct cli *cli, uint64_t limit, struct value *out) {
    const char *file = cli_text(cli, "file");
    *out = (struct value){0};
    if (file != NULL)
        return read_stream(cli, file, limit, out);
    const char *text = cli->operands[1];
    if (strcmp(text, "-") == 0)
        return read_stream(cli, "-", limit, out);
    *out = (struct value){.bytes = text, .len = strlen(text)};
    return 0;
}

static int read_put(const struct cli *cli, struct lr_put *put) {
    bool add = cli_given(cli, "add"), replace = cli_given(cli, "replace"), cas = cli_given(cli, "cas");
    bool fill = cli_given(cli, "fill");
    if (add + replace + cas + fill > 1)
        return cli_usage(cli, "--add, --replace, --cas and --fill exclude each other");
    if (cli_number(cli, "flags") > UINT32_MAX)
        return cli_usage(cli, "option --flags is %s, but must fit 32 bits", cli_text(cli, "flags"));
    if (cli->operand_count == 2 && cli_given(cli, "file"))
        return cli_usage(cli, "both a VALUE (\"%.64s\") and --file (\"%s\") are given: one is needed", cli->operands[1],
                         cli_text(cli, "file"));
    if (cli->operand_count == 1 && !cli_given(cli, "file"))
        return cli_usage(cli, "no value is given: KEY VALUE, KEY --file FILE, or KEY - for standard input");
    put->ttl_ms = cli_number(cli, "ttl");
    put->flags = (uint32_t)cli_number(cli, "flags");
    put->expected = cli_number(cli, "cas");
    put->mode = add ? LR_ADD : replace ? LR_REPLACE : cas ? LR_CAS : fill ? LR_FILL_IN : LR_SET;
    return 0;
}

static json_t *put_to_json(const struct cli *cli, const struct key *key, const struct lr_put *put, int had) {
    json_t *object = json_object();
    key_to_json(object, key->bytes, key->len);
    json_object_set_new(object, "version", cli_json_version(put->version));
    json_object_set_new(object, "value_bytes", json_integer((json_int_t)put->value_len));
    if (cli_given(cli, "peers"))
        json_object_set_new(object, "peers", had >= 0 ? json_integer(had) : json_null());
    return object;
}

static int report_put(const struct cli *cli, struct lr_cache *cache, const struct key *key, const struct lr_put *put,
                      int error) {
    char shown[KEY_SHOWN_BYTES];
    key_show(shown, key->bytes, key->len);
    if (error == LARDER_ETOO_LARGE)
        return cli_fail(cli, error,
                        "key \"%s\": the value has %s%zu bytes, but the largest for a key of %zu bytes is %" PRIu64,
                        shown, put->value_len > lr_max_value(cache, key->len) ? "at least " : "", put->value_len,
                        key->len, lr_max_value(cache, key->len));
    if (error == LARDER_ECONFLICT)
        return cli_fail(cli, error, "key \"%s\": its version is not %" PRIu64, shown, put->expected);
    if (error == LARDER_EEXISTS)
        return cli_fail_with(cli, error, "without --add it is replaced",
                             "key \"%s\" is present, but --add stores absent keys only", shown);
    if (error == LARDER_ENOT_FOUND)
        return cli_fail(cli, error, "key \"%s\" is absent, but --%s stores present keys only", shown,
                        put->mode == LR_CAS ? "cas" : "replace");
    if (error != 0)
        return cli_fail(cli, error, "key \"%s\": %s", shown, lr_error_text(error));
    const int had = key_await_peers(cli, cache, key, (unsigned)cli_number(cli, "timeout"));
    json_t *object = cli->json ? put_to_json(cli, key, put, had) : NULL;
    if (had < (int)cli_number(cli, "peers"))
        return key_tell_too_few(cli, cache, key, had, object);
    if (cli->json)
        return cli_print_json(object);
    printf("stored %zu bytes, version %" PRIu64, put->value_len, put->version);
    cli_given(cli, "peers") ? printf(", %d other hosts have it\n", had) : printf("\n");
    return CLI_YES;
}

static int set_run(struct cli *cli) {
    struct key key;
    struct lr_put put = {0};
    struct lr_cache *cache;
    struct value value;
    int exit_code = key_read(cli, cli->operands[0], &key);
    if (exit_code == 0)
        exit_code = key_check_peers(cli);
    if (exit_code == 0)
        exit_code = read_put(cli, &put);
    if (exit_code == 0)
        exit_code = cli_attach(cli, false, &cache);
    if (exit_code != 0)
        return exit_code;
    uint64_t limit = lr_max_value(cache, key.len);
    exit_code = read_value(cli, limit, &value);
    if (exit_code == 0) {
        put.key = key.bytes;
        put.key_len = key.len;
        put.value = value.bytes;
        put.value_len = value.len;
        int error = value.len > limit ? LARDER_ETOO_LARGE : lr_put(cache, &put);
        exit_code = report_put(cli, cache, &key, &put, error);
    }
    free(value.owned);
    lr_cache_detach(cache);
    return exit_code;
}

const struct verb verb_set = {
    .name = "set",
    .summary = "store a value under a key",
    .operands = "KEY [VALUE|-]",
    .description =
        "Stores the value, replacing an older one for every reader at once, and prints the new version. The value is "
        "the "
        "second argument, or the bytes of --file, or with - those of standard input; no line end is added or removed. "
        "Arguments that begin with a dash go behind a --.\n\n"
        "With --add, --replace or --cas the exit status is 1 if the condition does not hold. Conditions are judged on "
        "this host's copy only.\n\n"
        "With --peers the exit status is 7 if fewer other hosts had the value in time; it is stored here all the "
        "same.\n\n"
        "A value too large for the segment is refused (exit status 2), and the message says how large it may be.",
    .output = "key (null where it is not UTF-8 or has a NUL), key_hex, version (decimal text), value_bytes; with "
              "--peers: peers (other hosts that have it; null: it could not be waited for), and if they are too few "
              "also error.",
    .examples = "larder set greeting hello\n"
                "larder set page/1 --file page.html --ttl 10m\n"
                "date | larder set now - --add\n"
                "larder set -- -3 -5",
    .options = options,
    .min_operands = 1,
    .max_operands = 2,
    .on_segment = true,
    .run = set_run,
};
