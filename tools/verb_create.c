/* SPDX-License-Identifier: MIT */
/* `larder create`: a new segment, whole before it has a name. */
#include "growth.h"
#include "segment_facts.h"

#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WATCHED_BYTES (UINT64_C(1) << 30)

#define X(name, number, sentence) "|" #name
static const char policies[] = LR_POLICIES(X);
#undef X

#define X(name, number, sentence) "|" #name
static const char favors[] = LR_FAVORS(X);
#undef X

static const struct cli_option options[] = {
    {"size", 's', CLI_SIZE, "BYTES", "bytes, or with K, M, G or T", "64M",
     "Memory for items and their index; fixed tables come on top"},
    {"policy", 0, CLI_CHOICE, policies + 1, NULL, "s3",
     "How to make room: s3 keeps what is read again and lets go what is not, clock what was read lately, lfu what was "
     "read most often, ttl what expires latest; none refuses puts when the segment is full"},
    {"favor", 0, CLI_CHOICE, favors + 1, NULL, "objects",
     "What to hit more often: objects prefers many small items to one large, bytes takes no notice of sizes"},
    {"mode", 0, CLI_TEXT, "OCTAL", NULL, "0600",
     "Permissions of the segment, whatever the umask; it can never be writable by others"},
    {"group", 0, CLI_TEXT, "GROUP", NULL, NULL, "Group of the segment, by name or number; use with --mode 0660"},
    {"progress", 0, CLI_FLAG, NULL, NULL, NULL,
     "Say on standard error how much is allocated; on a terminal from 1 GiB on without being asked"},
    {"stripes", 0, CLI_NUMBER, "COUNT", NULL, NULL,
     "Number of stripes, a power of two; without it as many as suit the size. Fewer stripes admit larger items, more "
     "let "
     "more writers work at once"},
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

static int read_mode(const struct cli *cli, mode_t *out) {
    const char *text = cli_text(cli, "mode");
    char *end;
    unsigned long mode = strtoul(text, &end, 8);
    if (text[0] < '0' || text[0] > '7' || *end != 0 || mode == 0 || mode > 0777)
        return cli_usage(cli, "option --mode is \"%s\", but must be octal permissions from 0001 to 0777", text);
    *out = (mode_t)mode;
    return 0;
}

static int read_group(const struct cli *cli, gid_t *out) {
    const char *text = cli_text(cli, "group");
    if (text == NULL)
        return 0;
    const struct group *entry = getgrnam(text);
    uint64_t number;
    if (entry != NULL)
        *out = entry->gr_gid;
    else if (cli_parse_number(text, &number) && number < UINT32_MAX)
        *out = (gid_t)number;
    else
        return cli_usage(cli, "option --group is \"%s\", but there is no such group", text);
    return 0;
}

static int read_options(const struct cli *cli, struct lr_options *out) {
    int exit_code = cli_options(cli, out);
    if (exit_code == 0)
        exit_code = read_mode(cli, &out->mode);
    if (exit_code == 0)
        exit_code = read_group(cli, &out->group);
    if (exit_code != 0)
        return exit_code;
    out->size = cli_number(cli, "size");
    if (out->size == 0)
        return cli_usage(cli, "option --size is \"%s\", but must be more than 0", cli_text(cli, "size"));
    uint64_t stripes = cli_number(cli, "stripes");
    if (cli_given(cli, "stripes") && (stripes == 0 || stripes > UINT32_MAX))
        return cli_usage(cli, "option --stripes is \"%s\", but must be a power of two", cli_text(cli, "stripes"));
    out->stripes = (unsigned)stripes;
    out->policy = (enum lr_policy)lr_policy_number(cli_text(cli, "policy"));
    out->favor = (enum lr_favor)lr_favor_number(cli_text(cli, "favor"));
    return 0;
}

static int create_run(struct cli *cli) {
    struct lr_options wanted;
    struct lr_cache *cache = NULL;
    char why[LR_WHY_BYTES] = "";
    int exit_code = read_options(cli, &wanted);
    if (exit_code != 0)
        return exit_code;
    const bool watched = cli_given(cli, "progress") || (wanted.size >= WATCHED_BYTES && isatty(STDERR_FILENO));
    pid_t watcher = watched ? growth_watch(wanted.size) : 0;
    int error = lr_cache_create(&wanted, &cache, why);
    growth_end(watcher);
    if (error != 0)
        return cli_fail(cli, error, "cannot create segment \"%s\": %s", cli_segment(&wanted),
                        why[0] != 0 ? why : lr_error_text(error));

    struct lr_stat facts;
    lr_stat(cache, &facts);
    if (cli->json) {
        cli_print_json(segment_to_json(&facts, &wanted));
    } else {
        printf("created segment \"%s\"\n", cli_segment(&wanted));
        segment_print(&facts, &wanted);
    }
    lr_cache_detach(cache);
    return CLI_YES;
}

const struct verb verb_create = {
    .name = "create",
    .summary = "create a segment",
    .operands = "",
    .description =
        "Creates a segment and leaves it, empty, for any process to attach by its name. All of its memory is reserved "
        "at "
        "once: if the tmpfs has too little room, nothing is created and the error says how much is missing. The name "
        "appears when the segment is whole.\n\n"
        "Names consist of letters, digits, '.', '_' and '-', at most 64 of them. If the name is taken, the exit status "
        "is 1 and the existing segment is left alone; `larder destroy` removes it.\n\n"
        "What is printed includes the fixed tables, which come on top of --size: participants, locks, feed rings.",
    .output = "name, path, policy, favor, layout, incarnation (hexadecimal), created_ms (Unix time), segment_bytes "
              "(the whole "
              "file), cache_bytes (index and items), fixed_bytes, max_item_bytes, stripes, participants (slots for "
              "attached handles), origin (of versions drawn here).",
    .examples = "larder create --size 512M\n"
                "larder create --name sessions --size 2G --mode 0660 --group www-data\n"
                "larder create --path /run/larder/sessions --size 64M --json",
    .options = options,
    .on_segment = true,
    .run = create_run,
};
