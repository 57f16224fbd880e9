/* SPDX-License-Identifier: MIT */
/* From the lists of a command line ("0.1%,64M", "lru,arc", "all") to the axes of a sweep. */
#ifndef LARDER_SWEEP_LISTS_H
#define LARDER_SWEEP_LISTS_H

#include "cli.h"
#include "sweep.h"

/* "64M", or "10%" of the footprint: more than 0, at most 10000 %. `text` is kept. False: neither. */
bool sweep_parse_size(const char *text, struct sweep_size *out);

/*
 * Each reads one option of `larder replay` into its field: names or numbers separated by commas, or "all". A name that
 * is given twice counts once. 0, or the exit code of an error that has been reported, and that names the word.
 */
int sweep_read_sizes(const struct cli *cli, const char *option, struct sweep_options *out);
int sweep_read_policies(const struct cli *cli, struct sweep_options *out);
int sweep_read_references(const struct cli *cli, struct sweep_options *out);
int sweep_read_charges(const struct cli *cli, struct sweep_options *out);
/* The files of --trace; a folder stands for its files that end in .csv or .csv.zst, by name. */
int sweep_read_traces(const struct cli *cli, struct sweep_options *out);

#endif
