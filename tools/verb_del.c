/* SPDX-License-Identifier: MIT */
/* `larder del`: delete keys; absent ones are named, not errors. */
#include "key.h"

#include <limits.h>

static const struct cli_option options[] = {
    KEY_HEX_OPTION,
    KEY_PEERS_OPTIONS,
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

static int del_run(struct cli *cli) {
    struct lr_cache *cache;
    struct key key;
    char shown[KEY_SHOWN_BYTES];
    unsigned deleted = 0;
    int exit_code = key_check_peers(cli);
    if (exit_code == 0)
        exit_code = cli_attach(cli, false, &cache);
    if (exit_code != 0)
        return exit_code;
    json_t *missing = json_array();
    for (unsigned i = 0; i < cli->operand_count && exit_code == 0; i++) {
        exit_code = key_read(cli, cli->operands[i], &key);
        if (exit_code != 0)
            break;
        int error = lr_delete(cache, key.bytes, key.len);
        if (error == 0) {
            unsigned had;
            deleted++;
            exit_code = key_await_peers(cli, cache, &key, &had);
        } else if (error == LARDER_ENOT_FOUND) {
            json_t *row = json_object();
            key_to_json(row, key.bytes, key.len);
            json_array_append_new(missing, row);
            if (!cli->json)
                printf("no such key: %s\n", key_show(shown, key.bytes, key.len));
        } else {
            exit_code = cli_fail(cli, error, "key \"%s\" (%u deleted before it): %s",
                                 key_show(shown, key.bytes, key.len), deleted, lr_error_text(error));
        }
    }
    if (exit_code == 0) {
        exit_code = json_array_size(missing) > 0 ? CLI_NO : CLI_YES;
        if (cli->json)
            cli_print_json(json_pack("{s:i, s:O}", "deleted", (int)deleted, "missing", missing));
        else
            printf("deleted %u of %u\n", deleted, cli->operand_count);
    }
    json_decref(missing);
    lr_cache_detach(cache);
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
        "With --peers the exit status is 7 if fewer other hosts had a delete in time; it is done here all the same.",
    .output = "deleted (count), missing (array of {key, key_hex}).",
    .examples = "larder del greeting\n"
                "larder del --hex-key 00ff10 00ff11",
    .options = options,
    .min_operands = 1,
    .max_operands = UINT_MAX,
    .on_segment = true,
    .run = del_run,
};
