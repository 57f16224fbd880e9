/* SPDX-License-Identifier: MIT */
/* `larder get`: the value of one key, without leaving a mark that it was looked at. */
#include "key.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_option options[] = {
    KEY_HEX_OPTION,
    {"output", 'o', CLI_TEXT, "FILE", NULL, NULL,
     "Write the value to FILE; it is not touched when there is no such key"},
    {"meta", 'm', CLI_FLAG, NULL, NULL, NULL, "Print version, flags, deadline and length in place of the value"},
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

#define GET_FIRST_BYTES 65536u
#define GET_TRIES 16u /* the value may grow between asking and reading */

/* *value is the caller's to free, also on error. */
static int read_value(struct lr_cache *cache, const struct key *key, char **value, struct lr_item *item) {
    int error = LARDER_ETOO_SMALL;
    size_t cap = GET_FIRST_BYTES;
    *value = NULL;
    for (unsigned i = 0; i < GET_TRIES && error == LARDER_ETOO_SMALL; i++) {
        free(*value);
        *value = malloc(cap);
        if (*value == NULL)
            return LARDER_ENO_MEMORY;
        error = lr_get(cache, key->bytes, key->len, *value, cap, item, LR_PEEK);
        if (error == LARDER_ETOO_SMALL)
            cap = item->value_len;
    }
    return error == LARDER_ETOO_SMALL ? LARDER_EBUSY : error;
}

static int write_file(const struct cli *cli, const char *value, size_t len) {
    const char *file = cli_text(cli, "output");
    FILE *out = fopen(file, "wb");
    bool written = out != NULL && fwrite(value, 1, len, out) == len;
    int saved = errno;
    if (out != NULL && fclose(out) != 0 && written) {
        written = false;
        saved = errno;
    }
    return written ? 0 : cli_usage(cli, "cannot write the value to \"%s\": %s", file, strerror(saved));
}

static json_t *item_to_json(const struct cli *cli, const struct key *key, const char *value, const struct lr_item *item,
                            uint64_t now_ms) {
    json_t *object = json_object();
    key_to_json(object, key->bytes, key->len);
    json_object_set_new(object, "version", cli_json_version(item->version));
    json_object_set_new(object, "stored_ms", json_integer((json_int_t)lr_version_unix_ms(item->version)));
    json_object_set_new(object, "flags", json_integer(item->flags));
    json_object_set_new(object, "ttl_ms",
                        item->deadline_ms == UINT64_MAX
                            ? json_null()
                            : json_integer(item->deadline_ms > now_ms ? (json_int_t)(item->deadline_ms - now_ms) : 0));
    json_object_set_new(object, "value_bytes", json_integer(item->value_len));
    if (cli_given(cli, "meta") || cli_given(cli, "output"))
        return object;
    json_t *text = cli_json_exact(value, item->value_len);
    bool is_text = text != NULL;
    json_object_set_new(object, "value", is_text ? text : json_null());
    json_object_set_new(object, "value_hex", is_text ? json_null() : cli_json_hex(value, item->value_len));
    return object;
}

static void print_meta(const struct lr_item *item, uint64_t now_ms) {
    char text[CLI_FORMAT_BYTES];
    printf("version  %" PRIu64 "\n", item->version);
    printf("stored   %s\n", cli_format_time(text, lr_version_unix_ms(item->version)));
    printf("flags    %" PRIu32 "\n", item->flags);
    if (item->deadline_ms == UINT64_MAX)
        printf("expires  never\n");
    else
        printf("expires  in %s\n", cli_format_age(text, item->deadline_ms > now_ms ? item->deadline_ms - now_ms : 0));
    printf("bytes    %" PRIu32 "\n", item->value_len);
}

static int show_item(const struct cli *cli, const struct key *key, const char *value, const struct lr_item *item,
                     uint64_t now_ms) {
    if (cli_text(cli, "output") != NULL) {
        int exit_code = write_file(cli, value, item->value_len);
        if (exit_code != 0)
            return exit_code;
    }
    if (cli->json)
        return cli_print_json(item_to_json(cli, key, value, item, now_ms));
    if (cli_given(cli, "meta"))
        print_meta(item, now_ms);
    else if (cli_text(cli, "output") == NULL)
        fwrite(value, 1, item->value_len, stdout);
    return CLI_YES;
}

static int get_run(struct cli *cli) {
    struct key key;
    struct lr_cache *cache;
    struct lr_item item = {0};
    char *value, shown[KEY_SHOWN_BYTES];
    int exit_code = key_read(cli, cli->operands[0], &key);
    if (exit_code == 0)
        exit_code = cli_attach(cli, true, &cache);
    if (exit_code != 0)
        return exit_code;
    int error = read_value(cache, &key, &value, &item);
    if (error != 0)
        exit_code = cli_fail(cli, error, "key \"%s\": %s", key_show(shown, key.bytes, key.len), lr_error_text(error));
    else
        exit_code = show_item(cli, &key, value, &item, lr_now_ms(cache));
    free(value);
    lr_cache_detach(cache);
    return exit_code;
}

const struct verb verb_get = {
    .name = "get",
    .summary = "print the value of a key",
    .operands = "KEY",
    .description =
        "Writes the bytes of the key's value to standard output, as they are and with nothing added. Exit status 1 if "
        "there is no such key, or it has expired.\n\n"
        "The segment is mapped read-only: the look counts neither as hit nor as miss and does not make the item "
        "stay longer.",
    .output = "key (null where it is not UTF-8 or has a NUL), key_hex, version (decimal text, for `larder set --cas`), "
              "stored_ms (Unix "
              "time of the version), flags, ttl_ms (left; null: never expires), value_bytes, value (null like key), "
              "value_hex (only then). With --meta or --output without the last two.",
    .examples = "larder get greeting\n"
                "larder get --meta greeting\n"
                "larder get --hex-key 00ff10 --output value.bin",
    .options = options,
    .min_operands = 1,
    .max_operands = 1,
    .on_segment = true,
    .run = get_run,
};
