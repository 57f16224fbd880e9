/* SPDX-License-Identifier: MIT */
/* `larder version`: which release is this, and which segments does it understand? */
#include "cli.h"
#include "layout.h"

static int version_run(struct cli *cli) {
    if (cli->json)
        return cli_print_json(json_pack("{s:s, s:i}", "program", LARDER_VERSION, "layout", (int)SM_LAYOUT_VERSION));
    printf("larder %s, segment layout %u\n", LARDER_VERSION, SM_LAYOUT_VERSION);
    return CLI_YES;
}

const struct verb verb_version = {
    .name = "version",
    .summary = "print the version of this program and of the segment layout it speaks",
    .operands = "",
    .description =
        "Programs that share a segment must speak the same segment layout; one that does not refuses to attach "
        "with exit status 5, naming both. Touches no segment.",
    .output = "program (text), layout (number).",
    .examples = "larder version\n"
                "larder version --json",
    .options = NULL,
    .on_segment = false,
    .run = version_run,
};
