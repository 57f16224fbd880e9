/* SPDX-License-Identifier: MIT */
/* `larder check`: is every byte of the segment where it should be? */
#include "cli.h"

#include <inttypes.h>
#include <string.h>

static const struct cli_option options[] = {
    {"image", 'i', CLI_TEXT, "FILE", NULL, NULL, "Check this copy of a segment file in place of a segment in use"},
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

#define CHECK_FIRST (sizeof((struct lr_check *)0)->first / sizeof((struct lr_check *)0)->first[0])

static int attach_subject(const struct cli *cli, struct lr_cache **out) {
    const char *image = cli_text(cli, "image");
    char why[LR_WHY_BYTES] = "";
    if (image == NULL)
        return cli_attach(cli, true, out);
    if (cli_given(cli, "name") || cli_given(cli, "path"))
        return cli_usage(cli, "--image \"%s\" excludes --name and --path", image);
    int error = lr_cache_attach_image(image, out, why);
    return error == 0
               ? 0
               : cli_fail(cli, error, "cannot read image \"%s\": %s", image, why[0] != 0 ? why : lr_error_text(error));
}

static json_t *check_to_json(const struct lr_check *check, bool healthy) {
    json_t *first = json_array();
    for (uint64_t i = 0; i < check->findings && i < CHECK_FIRST; i++)
        json_array_append_new(first, cli_json_bytes(check->first[i], strnlen(check->first[i], sizeof check->first[i])));
    return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "healthy", (int)healthy, "stripes_checked",
                     (json_int_t)check->stripes_checked, "stripes_busy", (json_int_t)check->stripes_busy, "findings",
                     (json_int_t)check->findings, "items", (json_int_t)check->items, "tombstones",
                     (json_int_t)check->tombstones, "held_blocks", (json_int_t)check->held_blocks, "first", first);
}

static void print_check(const struct lr_check *check, bool healthy) {
    char a[CLI_FORMAT_BYTES], b[CLI_FORMAT_BYTES];
    for (uint64_t i = 0; i < check->findings && i < CHECK_FIRST; i++)
        printf("%s%s%s\n", cli_colour(stdout, CLI_RED), check->first[i], cli_colour(stdout, CLI_PLAIN));
    if (check->findings > CHECK_FIRST)
        printf("... and %" PRIu64 " more\n", check->findings - CHECK_FIRST);
    printf("checked %" PRIu64 " stripes: %s items, %s tombstones, %" PRIu64 " held blocks\n", check->stripes_checked,
           cli_format_count(a, check->items), cli_format_count(b, check->tombstones), check->held_blocks);
    if (check->stripes_busy > 0)
        printf("%" PRIu64 " stripes never stood still long enough to be checked\n", check->stripes_busy);
    if (healthy)
        printf("%shealthy%s\n", cli_colour(stdout, CLI_GREEN), cli_colour(stdout, CLI_PLAIN));
    else if (check->findings > 0)
        printf("%sDAMAGED: %" PRIu64 " findings%s\n", cli_colour(stdout, CLI_RED), check->findings,
               cli_colour(stdout, CLI_PLAIN));
}

static int check_run(struct cli *cli) {
    struct lr_cache *cache = NULL;
    struct lr_check check = {0};
    int exit_code = attach_subject(cli, &cache);
    if (exit_code != 0)
        return exit_code;
    int error = lr_check(cache, &check);
    lr_cache_detach(cache);
    if (error != 0 && error != LARDER_ECORRUPT && error != LARDER_ETIMED_OUT)
        return cli_fail(cli, error, "cannot check: %s", lr_error_text(error));
    if (cli->json)
        cli_print_json(check_to_json(&check, error == 0));
    else
        print_check(&check, error == 0);
    if (cli_text(cli, "image") == NULL)
        cli_warn_of_removed(cli);
    return cli_exit_code(error);
}

const struct verb verb_check = {
    .name = "check",
    .summary = "verify that the segment is healthy",
    .operands = "",
    .description =
        "Walks every stripe and verifies what must hold at any instant: blocks tile the arena, every reference is in "
        "range and owned once, every key is in the bucket its hash says, no lock is held by the dead, and all figures "
        "that are derived from these equal a recount.\n\n"
        "Read-only and without a lock: each stripe is judged by a snapshot of an instant at which nobody changed it. "
        "Exit status 0: healthy; 6: damaged, with the first findings printed; 7: nothing found, but some stripes were "
        "never still long enough.\n\n"
        "A stripe whose lock is held by a dead process is waiting for repair, which the next writer does by itself.",
    .output = "healthy, stripes_checked, stripes_busy, findings (count), items, tombstones, held_blocks, first (array "
              "of the first findings, at most 8).",
    .examples = "larder check\n"
                "larder check --name sessions --json\n"
                "cp /dev/shm/larder.sessions /tmp/image && larder check --image /tmp/image",
    .options = options,
    .on_segment = true,
    .run = check_run,
};
