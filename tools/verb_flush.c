/* SPDX-License-Identifier: MIT */
/* `larder flush`: everything stored so far is gone, by one word. */
#include "cli.h"

#include <inttypes.h>

static int flush_run(struct cli *cli) {
    struct lr_cache *cache;
    int exit_code = cli_attach(cli, false, &cache);
    if (exit_code != 0)
        return exit_code;
    int error = lr_flush(cache);
    uint64_t version = lr_flush_version(cache);
    lr_cache_detach(cache);
    if (error != 0)
        return cli_fail(cli, error, "cannot flush: %s", lr_error_text(error));
    if (cli->json)
        return cli_print_json(json_pack("{s:o}", "flush_version", cli_json_version(version)));
    printf("flushed everything up to version %" PRIu64 "\n", version);
    return CLI_YES;
}

const struct verb verb_flush = {
    .name = "flush",
    .summary = "make everything stored so far disappear",
    .operands = "",
    .description =
        "Raises the segment's flush version: items stored before it are gone for every reader at once, here and on the "
        "peers to which larderd replicates. Their memory is used again as the hand comes by. Asks nothing, waits for "
        "nobody, and cannot be undone.",
    .output = "flush_version (decimal text).",
    .examples = "larder flush\n"
                "larder flush --name sessions --json",
    .options = NULL,
    .on_segment = true,
    .run = flush_run,
};
