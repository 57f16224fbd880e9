/* SPDX-License-Identifier: MIT */
/*
 * `larder ls`: which keys are there?
 *
 * A cache may hold many millions of keys, so nothing is gathered or sorted: each is printed as the scan meets it, and
 * the JSON object is written piece by piece. The scan takes no lock; where an item kept changing it is left out and
 * counted as skipped.
 */
#include "key.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_option options[] = {
    {"prefix", 'p', CLI_TEXT, "TEXT", NULL, NULL, "List only keys that begin with TEXT"},
    {"limit", 'c', CLI_NUMBER, "COUNT", NULL, NULL, "Stop after COUNT keys"},
    {"long", 'l', CLI_FLAG, NULL, NULL, NULL, "Print value length, time left, version, flags, recency and stripe too"},
    {"hex", 'x', CLI_FLAG, NULL, NULL, NULL, "Print keys as hexadecimal digits, for --hex-key"},
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

struct listing {
    const struct cli *cli;
    const char *prefix;
    size_t prefix_len;
    uint64_t limit;
    uint64_t count, skipped;
    bool complete;
    uint64_t now_ms;
};

static void print_key(const struct cli *cli, const struct lr_entry *entry) {
    const unsigned char *bytes = entry->key;
    if (cli_given(cli, "hex")) {
        for (uint32_t i = 0; i < entry->key_len; i++)
            printf("%02x", bytes[i]);
    } else {
        char text[5];
        for (uint32_t i = 0; i < entry->key_len; i++)
            fwrite(text, 1, cli_escape(bytes + i, 1, text), stdout);
    }
    putchar('\n');
}

static void print_text(const struct listing *listing, const struct lr_entry *entry) {
    if (cli_given(listing->cli, "long")) {
        char left[CLI_FORMAT_BYTES] = "never";
        if (entry->deadline_ms != UINT64_MAX)
            cli_format_age(left, entry->deadline_ms > listing->now_ms ? entry->deadline_ms - listing->now_ms : 0);
        printf("%10" PRIu32 "  %14s  %19" PRIu64 "  %10" PRIu32 "  %3u%c  %4" PRIu32 "  ", entry->value_len, left,
               entry->version, entry->flags, entry->recency, entry->pinned ? 'P' : ' ', entry->stripe);
    }
    print_key(listing->cli, entry);
}

static void print_row_json(const struct listing *listing, const struct lr_entry *entry) {
    json_t *row = json_object();
    key_to_json(row, entry->key, entry->key_len);
    if (cli_given(listing->cli, "long")) {
        json_t *more = json_pack(
            "{s:I, s:I, s:o, s:I, s:o, s:i, s:b, s:i}", "value_bytes", (json_int_t)entry->value_len, "block_bytes",
            (json_int_t)entry->block_bytes, "version", cli_json_version(entry->version), "flags",
            (json_int_t)entry->flags, "ttl_ms",
            entry->deadline_ms == UINT64_MAX
                ? json_null()
                : json_integer(entry->deadline_ms > listing->now_ms ? (json_int_t)(entry->deadline_ms - listing->now_ms)
                                                                    : 0),
            "recency", (int)entry->recency, "pinned", (int)entry->pinned, "stripe", (int)entry->stripe);
        json_object_update(row, more);
        json_decref(more);
    }
    fputs(listing->count > 0 ? ",\n    " : "\n    ", stdout);
    json_dumpf(row, stdout, JSON_COMPACT);
    json_decref(row);
}

static bool is_listed(const struct listing *listing, const struct lr_entry *entry) {
    return !entry->tombstone && entry->key_len >= listing->prefix_len &&
           memcmp(entry->key, listing->prefix, listing->prefix_len) == 0;
}

/* Prints keys until the scan is over or the limit reached. 0 or the error that ended it early. */
static int list_keys(struct listing *listing, struct lr_cache *cache, void *buf, size_t cap) {
    struct lr_scan scan = lr_scan_all(cache);
    struct lr_entry entry;
    for (;;) {
        int error = lr_scan_next(cache, &scan, buf, cap, &entry);
        if (error == LARDER_ENOT_FOUND) {
            listing->complete = true;
            return 0;
        }
        if (error == LARDER_EBUSY) {
            listing->skipped++;
            continue;
        }
        if (error != 0)
            return error;
        if (!is_listed(listing, &entry))
            continue;
        if (listing->count == listing->limit)
            return 0;
        if (listing->cli->json)
            print_row_json(listing, &entry);
        else
            print_text(listing, &entry);
        listing->count++;
    }
}

static void finish_json(const struct listing *listing, int error) {
    printf("%s],\n  \"count\": %" PRIu64 ",\n  \"skipped\": %" PRIu64 ",\n  \"complete\": %s",
           listing->count > 0 ? "\n  " : "", listing->count, listing->skipped, listing->complete ? "true" : "false");
    if (error != 0) {
        json_t *object = cli_json_error(error, lr_error_text(error), lr_error_remedy(error));
        fputs(",\n  \"error\": ", stdout);
        json_dumpf(object, stdout, JSON_COMPACT);
        json_decref(object);
    }
    fputs("\n}\n", stdout);
}

static int print_listing(struct listing *listing, struct lr_cache *cache, void *buf, size_t cap) {
    const struct cli *cli = listing->cli;
    if (cli->json)
        fputs("{\n  \"items\": [", stdout);
    else if (cli_given(cli, "long"))
        printf("%s%10s  %14s  %19s  %10s  %4s  %4s  %s%s\n", cli_colour(stdout, CLI_BOLD), "bytes", "expires in",
               "version", "flags", "used", "str", "key", cli_colour(stdout, CLI_PLAIN));
    int error = list_keys(listing, cache, buf, cap);
    if (cli->json) {
        finish_json(listing, error);
        return cli_exit_code(error);
    }
    if (error != 0)
        return cli_fail(cli, error, "after %" PRIu64 " keys: %s", listing->count, lr_error_text(error));
    if (listing->skipped > 0)
        fprintf(stderr, "larder ls: %" PRIu64 " items kept changing and were left out\n", listing->skipped);
    return CLI_YES;
}

static int ls_run(struct cli *cli) {
    struct lr_cache *cache;
    int exit_code = cli_attach(cli, true, &cache);
    if (exit_code != 0)
        return exit_code;
    const char *prefix = cli_given(cli, "prefix") ? cli_text(cli, "prefix") : "";
    struct listing listing = {
        .cli = cli,
        .prefix = prefix,
        .prefix_len = strlen(prefix),
        .limit = cli_given(cli, "limit") ? cli_number(cli, "limit") : UINT64_MAX,
        .now_ms = lr_now_ms(cache),
    };
    size_t cap = lr_entry_bytes(cache);
    void *buf = malloc(cap);
    if (buf != NULL)
        exit_code = print_listing(&listing, cache, buf, cap);
    else
        exit_code = cli_fail(cli, LARDER_ENO_MEMORY, "no memory for a buffer of %zu bytes", cap);
    free(buf);
    lr_cache_detach(cache);
    return exit_code;
}

const struct verb verb_ls = {
    .name = "ls",
    .summary = "list the keys",
    .operands = "",
    .description =
        "Prints the keys of live items, one a line, in no order. Control bytes, bytes from 0x80 on and the backslash "
        "are "
        "printed as \\xNN, so that every key is one printable line.\n\n"
        "The walk takes no lock and moves no recency mark. Keys that are there throughout are listed; those stored or "
        "deleted meanwhile may be listed or not, and while the index grows a key may be listed twice.\n\n"
        "With --long: bytes of the value, time until it expires, version, the application's flags, recency count (P "
        "behind it: pinned), and stripe.",
    .output = "items: array of {key (null where it is not UTF-8 or has a NUL), key_hex}, with --long also value_bytes, "
              "block_bytes, "
              "version (decimal text), flags, ttl_ms (null: never), recency, pinned, stripe; count, skipped (kept "
              "changing), complete (false when --limit cut the list).",
    .examples = "larder ls --prefix session/ --limit 20\n"
                "larder ls --long\n"
                "larder ls --hex | xargs -n1 larder get --meta --hex-key",
    .options = options,
    .on_segment = true,
    .run = ls_run,
};
