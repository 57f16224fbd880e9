/* SPDX-License-Identifier: MIT */
/* `larder del`: delete keys; absent ones are named, not errors. */
#include "key.h"

#include <limits.h>
#include <time.h>

static const struct cli_option options[] = {
    KEY_HEX_OPTION,
    KEY_PEERS_OPTIONS,
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

/* All keys are read before the first is deleted: a mistake in one changes nothing. NULL: reported in *exit_code. */
static struct key *read_keys(const struct cli *cli, int *exit_code) {
    struct key *keys = calloc(cli->operand_count, sizeof *keys);
    if (keys == NULL)
        *exit_code = cli_fail(cli, LARDER_ENO_MEMORY, NULL);
    for (unsigned i = 0; i < cli->operand_count && *exit_code == 0; i++)
        *exit_code = key_read(cli, cli->operands[i], &keys[i]);
    return keys;
}

/* Keys that were absent are named, in `missing` too. */
static int delete_all(const struct cli *cli, struct lr_cache *cache, const struct key *keys, json_t *missing) {
    char shown[KEY_SHOWN_BYTES];
    for (unsigned i = 0; i < cli->operand_count; i++) {
        int error = lr_delete(cache, keys[i].bytes, keys[i].len);
        if (error == LARDER_ENOT_FOUND) {
            json_t *row = json_object();
            key_to_json(row, keys[i].bytes, keys[i].len);
            json_array_append_new(missing, row);
            if (!cli->json)
                printf("no such key: %s\n", key_show(shown, keys[i].bytes, keys[i].len));
        } else if (error != 0) {
            return cli_fail(cli, error, "key \"%s\" (%u deleted before it): %s",
                            key_show(shown, keys[i].bytes, keys[i].len), i - (unsigned)json_array_size(missing),
                            lr_error_text(error));
        }
    }
    return CLI_YES;
}

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/*
 * How many hosts have all deletes, at most LR_AWAIT_PEERS. Fewer than --peers, or an error: *lacking is one that they
 * do not have. Of absent keys too: where a mode says so, others hear of those deletes as well.
 */
static int await_all(const struct cli *cli, struct lr_cache *cache, const struct key *keys,
                     const struct key **lacking) {
    const uint64_t end = now_ms() + cli_number(cli, "timeout");
    int least = LR_AWAIT_PEERS;
    for (unsigned i = 0; i < cli->operand_count && least >= (int)cli_number(cli, "peers"); i++) {
        const uint64_t now = now_ms();
        const int had = key_await_peers(cli, cache, &keys[i], now < end ? (unsigned)(end - now) : 0);
        *lacking = &keys[i];
        least = had < least ? had : least;
    }
    return least;
}

static int delete_and_tell(const struct cli *cli, struct lr_cache *cache, const struct key *keys, json_t *missing) {
    const struct key *lacking = keys;
    int exit_code = delete_all(cli, cache, keys, missing);
    if (exit_code != CLI_YES)
        return exit_code;
    const int deleted = (int)(cli->operand_count - json_array_size(missing));
    const int had = await_all(cli, cache, keys, &lacking);
    json_t *object = cli->json ? json_pack("{s:i, s:O}", "deleted", deleted, "missing", missing) : NULL;
    if (object != NULL && cli_given(cli, "peers"))
        json_object_set_new(object, "peers", had >= 0 ? json_integer(had) : json_null());
    if (had < (int)cli_number(cli, "peers"))
        return key_tell_too_few(cli, cache, lacking, had, object);
    if (cli->json)
        cli_print_json(object);
    else
        printf("deleted %d of %u\n", deleted, cli->operand_count);
    return json_array_size(missing) > 0 ? CLI_NO : CLI_YES;
}

static int del_run(struct cli *cli) {
    struct lr_cache *cache = NULL;
    int exit_code = key_check_peers(cli);
    struct key *keys = exit_code == 0 ? read_keys(cli, &exit_code) : NULL;
    if (exit_code == 0)
        exit_code = cli_attach(cli, false, &cache);
    if (exit_code == 0) {
        json_t *missing = json_array();
        exit_code = delete_and_tell(cli, cache, keys, missing);
        json_decref(missing);
        lr_cache_detach(cache);
    }
    free(keys);
    return exit_code;
}

const struct verb verb_del = {
    .name = "del",
    .summary = "delete keys",
    .operands = "KEY...",
    .description =
        "Deletes the keys, here and, where larderd replicates, on the peers. Exit status 0 if all were present, 1 if "
        "one "
        "was absent; the others are deleted all the same. A delete is not lost behind a process that stopped while it "
        "held a lock.\n\n"
        "With --peers the exit status is 7 if fewer other hosts had all the deletes in time; all are done here all the "
        "same. --timeout is for all of them together.",
    .output =
        "deleted (count), missing (array of {key, key_hex}); with --peers: peers (other "
        "hosts that have all the deletes, or fewer than were asked for; null: it could not be waited for), and if "
        "they are too few also error.",
    .examples = "larder del greeting\n"
                "larder del --hex-key 00ff10 00ff11",
    .options = options,
    .min_operands = 1,
    .max_operands = UINT_MAX,
    .on_segment = true,
    .run = del_run,
};
