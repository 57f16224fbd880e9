/* SPDX-License-Identifier: MIT */
/* What only the command line's own files share: the common option rows, and the makers of --help. */
#ifndef LARDER_CLI_HELP_H
#define LARDER_CLI_HELP_H

#include "cli.h"

/* The first rows belong to every verb, all of them to those with on_segment. */
#define CLI_UNIVERSAL_OPTIONS 2u
#define CLI_COMMON_OPTIONS 5u
extern const struct cli_option cli_common_options[CLI_COMMON_OPTIONS + 1];
unsigned cli_common_count(const struct verb *verb);

void cli_help_all(FILE *out, const struct verb *const *verbs);
void cli_help_verb(FILE *out, const struct verb *verb);

#endif
