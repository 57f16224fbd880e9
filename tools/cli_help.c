/* SPDX-License-Identifier: MIT */
/* The manual page of a verb, made from its row: sections as in man(1), folded to 80 columns. */
#include "cli_help.h"

#include <string.h>

#define HELP_WIDTH 80
#define HELP_INDENT 7
#define HELP_DEEP 14

static void print_heading(FILE *out, const char *text) {
    fprintf(out, "%s%s%s\n", cli_colour(out, CLI_BOLD), text, cli_colour(out, CLI_PLAIN));
}

/* Folds paragraphs (separated by a blank line) at spaces. `start`: the column at which the first line has arrived. */
static void print_folded(FILE *out, const char *text, int start, int indent) {
    int column = 0;
    while (*text != 0) {
        if (*text == '\n') {
            fputs(column > 0 ? "\n\n" : "\n", out);
            text += text[1] == '\n' ? 2 : 1;
            column = 0;
            continue;
        }
        int len = (int)strcspn(text, " \n");
        if (column > 0 && indent + column + 1 + len > HELP_WIDTH) {
            fputc('\n', out);
            column = 0;
        }
        fprintf(out, "%*s%.*s", column > 0 ? 1 : indent - start, "", len, text);
        start = 0;
        column += len + (column > 0);
        text += len;
        text += *text == ' ';
    }
    fputc('\n', out);
}

static void print_option(FILE *out, const struct cli_option *row) {
    const char *bold = cli_colour(out, CLI_BOLD), *plain = cli_colour(out, CLI_PLAIN);
    fprintf(out, "%*s", HELP_INDENT, "");
    if (row->letter != 0)
        fprintf(out, "%s-%c%s, ", bold, row->letter, plain);
    fprintf(out, "%s--%s%s%s%s\n", bold, row->name, plain, row->argument != NULL ? " " : "",
            row->argument != NULL ? row->argument : "");
    char text[1024];
    snprintf(text, sizeof text, "%s%s%s%s%s%s.", row->sentence, row->unit != NULL || row->fallback != NULL ? " (" : "",
             row->unit != NULL ? row->unit : "", row->unit != NULL && row->fallback != NULL ? ", " : "",
             row->fallback != NULL ? "default " : "", row->fallback != NULL ? row->fallback : "");
    if (row->unit != NULL || row->fallback != NULL) {
        size_t len = strlen(text);
        snprintf(text + len - 1, sizeof text - len + 1, ").");
    }
    print_folded(out, text, 0, HELP_DEEP);
}

static void print_exits(FILE *out) {
#define X(name, number, sentence)                                                                                      \
    fprintf(out, "%*s%-3d", HELP_INDENT, "", number);                                                                  \
    print_folded(out, sentence ".", HELP_INDENT + 3, HELP_DEEP);
    CLI_EXITS(X)
#undef X
}

static void print_examples(FILE *out, const char *text) {
    while (*text != 0) {
        int len = (int)strcspn(text, "\n");
        fprintf(out, "%*s%.*s\n", HELP_INDENT, "", len, text);
        text += len;
        text += *text == '\n';
    }
}

static void print_environment(FILE *out) {
    fprintf(out, "%*sLARDER_NAME\n", HELP_INDENT, "");
    print_folded(out, "Name of the segment where neither --name nor --path is given.", 0, HELP_DEEP);
    fprintf(out, "%*sNO_COLOR\n", HELP_INDENT, "");
    print_folded(out, "If set and not empty, no colour on terminals either.", 0, HELP_DEEP);
}

void cli_help_verb(FILE *out, const struct verb *verb) {
    print_heading(out, "NAME");
    fprintf(out, "%*slarder %s - %s\n\n", HELP_INDENT, "", verb->name, verb->summary);
    print_heading(out, "SYNOPSIS");
    fprintf(out, "%*slarder %s [OPTION]...%s%s\n\n", HELP_INDENT, "", verb->name, verb->operands[0] != 0 ? " " : "",
            verb->operands);
    print_heading(out, "DESCRIPTION");
    print_folded(out, verb->description, 0, HELP_INDENT);

    fputc('\n', out);
    print_heading(out, "OPTIONS");
    for (const struct cli_option *row = verb->options; row != NULL && row->name != NULL; row++)
        print_option(out, row);
    for (unsigned i = 0; i < cli_common_count(verb); i++)
        print_option(out, &cli_common_options[i]);

    fputc('\n', out);
    print_heading(out, "JSON OUTPUT");
    print_folded(out, verb->output, 0, HELP_INDENT);
    print_folded(out,
                 "\nAn error is {\"error\": {\"code\", \"name\", \"message\", \"remedy\"}}: the library's error "
                 "number and name, what happened, and what to do.",
                 0, HELP_INDENT);

    fputc('\n', out);
    print_heading(out, "EXIT STATUS");
    print_exits(out);
    fputc('\n', out);
    print_heading(out, "ENVIRONMENT");
    print_environment(out);
    fputc('\n', out);
    print_heading(out, "EXAMPLES");
    print_examples(out, verb->examples);
}

void cli_help_all(FILE *out, const struct verb *const *verbs) {
    print_heading(out, "NAME");
    fprintf(out, "%*slarder - look into and work on a Larder cache\n\n", HELP_INDENT, "");
    print_heading(out, "SYNOPSIS");
    fprintf(out, "%*slarder VERB [OPTION]... [ARGUMENT]...\n", HELP_INDENT, "");
    fprintf(out, "%*slarder VERB --help\n\n", HELP_INDENT, "");
    print_heading(out, "DESCRIPTION");
    print_folded(out,
                 "Larder is a cache that all processes of a host share: a segment of shared memory with a name. This "
                 "program creates segments, shows what is in them and who uses them, and measures them. The verbs "
                 "stat, get, ls, procs, stripes, check and digest only read: they take no lock, take no slot and leave "
                 "no mark in the segment.",
                 0, HELP_INDENT);
    fputc('\n', out);
    print_heading(out, "VERBS");
    for (; *verbs != NULL; verbs++)
        fprintf(out, "%*s%s%-10s%s%s\n", HELP_INDENT, "", cli_colour(out, CLI_BOLD), (*verbs)->name,
                cli_colour(out, CLI_PLAIN), (*verbs)->summary);
    fputc('\n', out);
    print_heading(out, "OPTIONS");
    fprintf(out, "%*sEvery verb has --help and --json. Verbs that work on a segment also have:\n", HELP_INDENT, "");
    for (unsigned i = CLI_UNIVERSAL_OPTIONS; i < CLI_COMMON_OPTIONS; i++)
        print_option(out, &cli_common_options[i]);
    fputc('\n', out);
    print_heading(out, "EXIT STATUS");
    print_exits(out);
    fputc('\n', out);
    print_heading(out, "ENVIRONMENT");
    print_environment(out);
}
