/* SPDX-License-Identifier: MIT */
/* What never changes in a segment's life, as text and as JSON: shown by create and by stat. */
#ifndef LARDER_TOOLS_SEGMENT_FACTS_H
#define LARDER_TOOLS_SEGMENT_FACTS_H

#include "cli.h"

/* A new object; the caller releases it. */
json_t *segment_to_json(const struct lr_stat *facts, const struct lr_options *options);
void segment_print(const struct lr_stat *facts, const struct lr_options *options);
/* The segment file of these options, as the engine names it. The buffer is returned. */
#define SEGMENT_FILE_BYTES 4096u
const char *segment_file(char out[SEGMENT_FILE_BYTES], const struct lr_options *options);

#endif
