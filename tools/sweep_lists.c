/* SPDX-License-Identifier: MIT */
/* The lists of sweep_lists.h. Words live as long as the process, as a command line does. */
#include "sweep_lists.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LIST_WORDS 128u
#define LIST_BYTES 4096u

struct list {
    char text[LIST_BYTES];
    const char *words[LIST_WORDS];
    unsigned count;
};

/* Cuts at commas. Fails where a word is empty, or there are more than `most`. */
static int cut_list(const struct cli *cli, const char *option, const char *text, unsigned most, struct list *out) {
    out->count = 0;
    if (strlen(text) >= sizeof out->text)
        return cli_usage(cli, "option --%s is longer than %u characters", option, LIST_BYTES - 1u);
    strcpy(out->text, text);
    for (char *at = out->text, *comma; at != NULL; at = comma) {
        comma = strchr(at, ',');
        if (comma != NULL)
            *comma++ = '\0';
        if (*at == '\0')
            return cli_usage(cli, "option --%s is \"%s\", in which word %u is empty", option, text, out->count + 1u);
        if (out->count == most)
            return cli_usage(cli, "option --%s is \"%s\", but at most %u words are taken", option, text, most);
        out->words[out->count++] = at;
    }
    return 0;
}

/* ---- sizes and charges ------------------------------------------------------------------------------------------ */

bool sweep_parse_size(const char *text, struct sweep_size *out) {
    size_t len = strlen(text);
    char number[32];
    *out = (struct sweep_size){.text = text};
    if (len > 1 && len < sizeof number && text[len - 1] == '%') {
        memcpy(number, text, len - 1);
        number[len - 1] = '\0';
        bool parsed = cli_parse_real(number, &out->share) && out->share > 0 && out->share <= 10000;
        out->share /= 100.0;
        return parsed;
    }
    return cli_parse_size(text, &out->bytes) && out->bytes > 0;
}

int sweep_read_sizes(const struct cli *cli, const char *option, struct sweep_options *out) {
    static struct list list;
    int exit_code = cut_list(cli, option, cli_text(cli, option), SWEEP_MAX_SIZES, &list);
    for (unsigned i = 0; exit_code == 0 && i < list.count; i++)
        if (!sweep_parse_size(list.words[i], &out->sizes[out->size_count++]))
            exit_code = cli_usage(cli,
                                  "option --%s has \"%s\", but must be bytes, such as 64M, or a share of the trace's "
                                  "footprint, such as 10%%",
                                  option, list.words[i]);
    return exit_code;
}

int sweep_read_charges(const struct cli *cli, struct sweep_options *out) {
    struct list list;
    int exit_code = cut_list(cli, "charge", cli_text(cli, "charge"), SWEEP_MAX_CHARGES, &list);
    for (unsigned i = 0; exit_code == 0 && i < list.count; i++) {
        uint64_t bytes = REFERENCE_CHARGE_BLOCK;
        if (strcmp(list.words[i], "block") != 0 && (!cli_parse_number(list.words[i], &bytes) || bytes > 65536))
            exit_code =
                cli_usage(cli, "option --charge has \"%s\", but must be 0 to 65536 bytes, or block", list.words[i]);
        out->charges[out->charge_count++] = (uint32_t)bytes;
    }
    return exit_code;
}

/* ---- names ------------------------------------------------------------------------------------------------------ */

static int add_policy(const struct cli *cli, struct sweep_options *out, const char *name) {
    int number = lr_policy_number(name);
    if (number < 0)
        return cli_usage(cli, "option --policy has \"%s\", but must be of %s", name,
#define X(name, number, sentence) " " #name
                         "all" LR_POLICIES(X));
#undef X
    for (unsigned i = 0; i < out->policy_count; i++)
        if ((int)out->policies[i] == number)
            return 0;
    if (out->policy_count < SWEEP_MAX_POLICIES)
        out->policies[out->policy_count++] = (enum lr_policy)number;
    return 0;
}

int sweep_read_policies(const struct cli *cli, struct sweep_options *out) {
    static const char *const all[] = {
#define X(name, number, sentence) #name,
        LR_POLICIES(X)
#undef X
    };
    const char *text = cli_text(cli, "policy");
    struct list list = {.count = 0};
    int exit_code = 0;
    if (text == NULL)
        text = lr_policy_name((uint32_t)lr_options_default().policy);
    if (strcmp(text, "all") != 0)
        exit_code = cut_list(cli, "policy", text, LIST_WORDS, &list);
    else
        for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
            list.words[list.count++] = all[i];
    for (unsigned i = 0; exit_code == 0 && i < list.count; i++)
        exit_code = add_policy(cli, out, list.words[i]);
    return exit_code;
}

static int add_reference(const struct cli *cli, struct sweep_options *out, const char *name) {
    int kind = reference_kind(name);
    if (kind < 0)
        return cli_usage(cli, "option --reference has \"%s\", but must be of %s", name,
#define X(name, title, source) " " #name
                         "all" REFERENCES(X));
#undef X
    for (unsigned i = 0; i < out->reference_count; i++)
        if ((int)out->references[i] == kind)
            return 0;
    out->references[out->reference_count++] = (enum reference_kind)kind;
    return 0;
}

int sweep_read_references(const struct cli *cli, struct sweep_options *out) {
    const char *text = cli_text(cli, "reference");
    struct list list = {.count = 0};
    int exit_code = 0;
    if (strcmp(text, "all") == 0)
        for (unsigned i = 0; i < REFERENCE_COUNT; i++)
            list.words[list.count++] = reference_name((enum reference_kind)i);
    else
        exit_code = cut_list(cli, "reference", text, LIST_WORDS, &list);
    for (unsigned i = 0; exit_code == 0 && i < list.count; i++)
        exit_code = add_reference(cli, out, list.words[i]);
    return exit_code;
}

/* ---- traces ----------------------------------------------------------------------------------------------------- */

static int add_trace(const struct cli *cli, struct sweep_options *out, const char *file) {
    if (out->source_count == SWEEP_MAX_TRACES)
        return cli_usage(cli, "--trace stands for more than %u traces", SWEEP_MAX_TRACES);
    out->sources[out->source_count++] = (struct sweep_source){.file = file};
    return 0;
}

static int is_trace(const struct dirent *entry) {
    static const char *const endings[] = {".csv", ".csv.zst"};
    size_t len = strlen(entry->d_name);
    for (unsigned i = 0; i < 2; i++)
        if (len > strlen(endings[i]) && strcmp(entry->d_name + len - strlen(endings[i]), endings[i]) == 0)
            return 1;
    return 0;
}

static int add_folder(const struct cli *cli, struct sweep_options *out, const char *folder) {
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, is_trace, alphasort), exit_code = 0;
    for (int i = 0; i < count; i++) {
        char *file = malloc(strlen(folder) + strlen(entries[i]->d_name) + 2u);
        if (file == NULL)
            exit_code = cli_fail(cli, LARDER_ENO_MEMORY, NULL);
        else if (exit_code == 0)
            sprintf(file, "%s%s%s", folder, folder[strlen(folder) - 1] == '/' ? "" : "/", entries[i]->d_name);
        if (exit_code == 0)
            exit_code = add_trace(cli, out, file);
        free(entries[i]);
    }
    free(entries);
    if (count <= 0)
        return cli_usage(cli, "option --trace is the folder \"%s\", in which no file ends in .csv or .csv.zst", folder);
    return exit_code;
}

int sweep_read_traces(const struct cli *cli, struct sweep_options *out) {
    const char *file;
    int exit_code = 0;
    for (unsigned i = 0; exit_code == 0 && (file = cli_text_at(cli, "trace", i)) != NULL; i++) {
        struct stat facts;
        bool folder = file[0] != '\0' && stat(file, &facts) == 0 && S_ISDIR(facts.st_mode);
        exit_code = folder ? add_folder(cli, out, file) : add_trace(cli, out, file);
    }
    return exit_code;
}
