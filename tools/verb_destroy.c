/* SPDX-License-Identifier: MIT */
/*
 * `larder destroy`: retire a segment and take its name away.
 *
 * Who still works on a cache should not lose it to a typing mistake: while live participants are attached the verb
 * refuses and names them, unless --force. Somebody who attaches between the look and the deed is not noticed; he gets
 * the same RETIRED as with --force. A segment that cannot be attached (other layout, damaged) does not tell who uses
 * it, so it too needs --force.
 */
#include "cli.h"
#include "control_address.h"

#include <inttypes.h>

static const struct cli_option options[] = {
    {"force", 'f', CLI_FLAG, NULL, NULL, NULL,
     "Destroy although processes are attached, or nobody can tell whether any are"},
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

/* Appends "pid 12 (worker)" of the first few live participants; returns how many there are in all. */
static unsigned name_users(struct lr_cache *cache, char *out, size_t cap) {
    struct lr_stat stat;
    unsigned users = 0;
    size_t len = 0;
    out[0] = 0;
    lr_stat(cache, &stat);
    for (uint32_t slot = 0; slot < stat.participants; slot++) {
        struct lr_process process;
        if (lr_process(cache, slot, &process) != 0 || !process.alive)
            continue;
        if (users++ < 8 && len < cap)
            len += (size_t)snprintf(out + len, cap - len, "%spid %" PRIu32 " (%s)", users > 1 ? ", " : "", process.pid,
                                    process.name);
    }
    if (users > 8 && len < cap)
        snprintf(out + len, cap - len, " and %u more", users - 8);
    return users;
}

/* 0 when nobody stands in the way, else the exit code of what has been reported. */
static int refuse_used(const struct cli *cli, const struct lr_options *from) {
    struct lr_options look = *from;
    struct lr_cache *cache = NULL;
    char why[LR_WHY_BYTES] = "", users[LR_WHY_BYTES];
    look.read_only = true;
    int error = lr_cache_attach(&look, &cache, why);
    if (error == LARDER_EVERSION || error == LARDER_ECORRUPT)
        return cli_fail_with(cli, error, "stop its processes, then use --force",
                             "cannot tell who uses segment \"%s\": %s", cli_segment(from), why);
    if (error != 0)
        return cli_fail(cli, error, "cannot attach segment \"%s\": %s", cli_segment(from),
                        why[0] != 0 ? why : lr_error_text(error));
    unsigned count = name_users(cache, users, sizeof users);
    lr_cache_detach(cache);
    if (count == 0)
        return 0;
    return cli_fail_with(cli, LARDER_EBUSY, "stop them first, or use --force: they will get RETIRED and must open anew",
                         "segment \"%s\" is in use by %u process%s: %s", cli_segment(from), count,
                         count == 1 ? "" : "es", users);
}

static int destroy_run(struct cli *cli) {
    struct lr_options from;
    char why[LR_WHY_BYTES] = "";
    int exit_code = cli_options(cli, &from);
    if (exit_code == 0 && !cli_given(cli, "force"))
        exit_code = refuse_used(cli, &from);
    if (exit_code != 0)
        return exit_code;
    int error = lr_cache_destroy(&from, why);
    if (error != 0)
        return cli_fail(cli, error, "cannot destroy segment \"%s\": %s", cli_segment(&from),
                        why[0] != 0 ? why : lr_error_text(error));
    struct sockaddr_un control;
    if (lr_control_address(&from, &control, why) == 0)
        lr_control_clear(&control); /* of a larderd that was killed; a living one takes it along */
    if (cli->json)
        return cli_print_json(json_pack("{s:o}", "destroyed", cli_json_text(cli_segment(&from))));
    printf("destroyed segment \"%s\"\n", cli_segment(&from));
    return CLI_YES;
}

const struct verb verb_destroy = {
    .name = "destroy",
    .summary = "remove a segment and all it holds",
    .operands = "",
    .description =
        "Marks the segment as retired and removes its files. A process that is still attached can go on reading what "
        "it "
        "has pinned, gets RETIRED from its next call, and opens the name anew; the memory is free when the last has "
        "detached.\n\n"
        "While live processes are attached the segment is not destroyed, the exit status is 7, and they are named; "
        "--force destroys it all the same. Readers attached read-only have no slot and cannot be seen.",
    .output = "destroyed (the name or path).",
    .examples = "larder destroy --name sessions\n"
                "larder destroy --path /run/larder/sessions --force",
    .options = options,
    .on_segment = true,
    .run = destroy_run,
};
