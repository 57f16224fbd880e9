/* SPDX-License-Identifier: MIT */
/* One order of facts for text and JSON, so that create and stat cannot drift apart. */
#include "segment_facts.h"

#include <inttypes.h>

const char *segment_file(char out[SEGMENT_FILE_BYTES], const struct lr_options *options) {
    if (options->path != NULL)
        snprintf(out, SEGMENT_FILE_BYTES, "%s", options->path);
    else
        snprintf(out, SEGMENT_FILE_BYTES, "/dev/shm/larder.%s", options->name);
    return out;
}

static void print_incarnation(char out[33], const struct lr_stat *facts) {
    snprintf(out, 33, "%016" PRIx64 "%016" PRIx64, facts->incarnation[0], facts->incarnation[1]);
}

json_t *segment_to_json(const struct lr_stat *facts, const struct lr_options *options) {
    char file[SEGMENT_FILE_BYTES], incarnation[33];
    print_incarnation(incarnation, facts);
    return json_pack("{s:s, s:o, s:s, s:s, s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:i}", "name", facts->name,
                     "path", cli_json_text(segment_file(file, options)), "policy", lr_policy_name(facts->policy),
                     "favor", lr_favor_name(facts->favor), "layout", (int)facts->layout, "incarnation", incarnation,
                     "created_ms", (json_int_t)facts->created_ms, "segment_bytes", (json_int_t)facts->segment_bytes,
                     "cache_bytes", (json_int_t)facts->cache_bytes, "fixed_bytes", (json_int_t)facts->fixed_bytes,
                     "max_item_bytes", (json_int_t)facts->max_item_bytes, "stripes", (int)facts->stripes,
                     "participants", (int)facts->participants, "origin", (int)facts->origin);
}

void segment_print(const struct lr_stat *facts, const struct lr_options *options) {
    char file[SEGMENT_FILE_BYTES], incarnation[33], a[CLI_FORMAT_BYTES], b[CLI_FORMAT_BYTES], c[CLI_FORMAT_BYTES];
    print_incarnation(incarnation, facts);
    printf("  file           %s, %s: %s for index and items, %s of fixed tables\n", segment_file(file, options),
           cli_format_bytes(a, facts->segment_bytes), cli_format_bytes(b, facts->cache_bytes),
           cli_format_bytes(c, facts->fixed_bytes));
    printf("  created        %s, incarnation %s\n", cli_format_time(a, facts->created_ms), incarnation);
    printf("  layout         %" PRIu32 ", policy %s in favor of %s, %" PRIu32 " stripe%s of %s\n", facts->layout,
           lr_policy_name(facts->policy), lr_favor_name(facts->favor), facts->stripes, facts->stripes == 1 ? "" : "s",
           cli_format_bytes(a, facts->cache_bytes / facts->stripes));
    printf("  largest item   %s, key and header included\n", cli_format_bytes(a, facts->max_item_bytes));
    printf("  participants   at most %" PRIu32 "\n", facts->participants);
    printf("  origin         %" PRIu32 "\n", facts->origin);
}
