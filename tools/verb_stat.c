/* SPDX-License-Identifier: MIT */
/* `larder stat`: how is this segment doing? Everything lr_stat knows, in units a human reads. */
#include "ask_larderd.h"
#include "key.h"
#include "segment_facts.h"

#include <inttypes.h>
#include <string.h>

#define PATIENCE_MS 500u
#define DAY_S 86400
#define HOST_FIELDS 5u
#define PEER_FIELDS 15u

static const struct cli_option options[] = {
    {"verbose", 'v', CLI_FLAG, NULL, NULL, NULL, "Print every counter with the sentence that says what it counts"},
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

struct counter_row {
    const char *name, *unit, *sentence;
};

static const struct counter_row counter_rows[] = {
#define X(name, unit, sentence) {#name, unit, sentence},
    LR_COUNTERS(X)
#undef X
};

static const struct counter_row stripe_counter_rows[] = {
#define X(name, unit, sentence) {#name, unit, sentence},
    LR_STRIPE_COUNTERS(X)
#undef X
};

/* What the larderd says of how its links are secured: `larder peers` says it of each. */
struct links {
    bool told;
    unsigned sealed, plain;
    unsigned other_modes; /* peers whose modes of keys are not ours */
    char keys[400];       /* "": none */
    json_int_t end_s;     /* until its own certificate ends; INT64_MAX: never */
};

static void read_links(char *answer, struct links *out) {
    char *fields[PEER_FIELDS];
    *out = (struct links){.told = true, .end_s = INT64_MAX};
    for (char *line; (line = strsep(&answer, "\n")) != NULL;) {
        bool is_host = strncmp(line, "host\t", 5) == 0, is_peer = strncmp(line, "peer\t", 5) == 0;
        if (is_host || is_peer)
            ask_cut(line, fields, is_host ? HOST_FIELDS : PEER_FIELDS);
        if (is_host && strcmp(fields[4], "-") != 0)
            out->end_s = strtoll(fields[4], NULL, 10);
        if (is_host && strncmp(fields[3], "none", 4) != 0)
            snprintf(out->keys, sizeof out->keys, "%s", fields[3]);
        out->other_modes += is_peer && strcmp(fields[14], "differ") == 0;
        if (is_peer && strcmp(fields[6], "-") != 0) {
            out->plain += strcmp(fields[6], "nothing") == 0;
            out->sealed += strcmp(fields[6], "nothing") != 0;
        }
    }
}

/* Who may not ask, or gets no answer soon, is told the rest. */
static struct links ask_for_links(const struct lr_options *from) {
    struct links links = {0};
    struct ask_failure failure;
    char *answer = malloc(ASK_ANSWER_BYTES);
    if (answer != NULL && ask_larderd(from, "peers list\n", PATIENCE_MS, answer, &failure) == 0)
        read_links(answer, &links);
    free(answer);
    return links;
}

/* What items cost beside their keys and values: headers, rounding, index and ghosts. */
static uint64_t metadata_bytes(const struct lr_stat *stat) {
    return stat->item_bytes - stat->payload_bytes + stat->index_bytes;
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

static json_t *counters_to_json(const struct counter_row *rows, const uint64_t *values, unsigned count) {
    json_t *object = json_object();
    for (unsigned i = 0; i < count; i++)
        json_object_set_new(object, rows[i].name, json_integer((json_int_t)values[i]));
    return object;
}

static json_t *ratio_to_json(uint64_t part, uint64_t whole) {
    return whole > 0 ? json_real((double)part / (double)whole) : json_null();
}

static json_t *lag_to_json(uint64_t us) {
    return us == UINT64_MAX ? json_null() : json_integer((json_int_t)us);
}

static json_t *links_to_json(const struct links *links) {
    if (!links->told)
        return json_null();
    return json_pack("{s:i, s:i, s:i, s:o, s:o}", "tls", (int)links->sealed, "plain", (int)links->plain, "other_modes",
                     (int)links->other_modes, "keys", links->keys[0] != '\0' ? cli_json_text(links->keys) : json_null(),
                     "keys_end_s", links->end_s != INT64_MAX ? json_integer(links->end_s) : json_null());
}

static json_t *sidecar_to_json(const struct lr_sidecar_state *sidecar, const struct links *links) {
    return json_pack("{s:b, s:i, s:i, s:I, s:i, s:o, s:o, s:o}", "alive", (int)sidecar->alive, "peers",
                     (int)sidecar->peers, "connected", (int)sidecar->connected, "unacked", (json_int_t)sidecar->unacked,
                     "resync_stripes", (int)sidecar->resync_stripes, "lag_p50_us", lag_to_json(sidecar->lag_p50_us),
                     "lag_p99_us", lag_to_json(sidecar->lag_p99_us), "links", links_to_json(links));
}

/* Policy s3. */
static const char *chooses_by(const struct lr_stat *stat) {
    return stat->choice_changes % 2 != 0 ? "age" : "rules";
}

static json_t *stat_to_json(const struct lr_stat *stat, const struct lr_sidecar_state *sidecar,
                            const struct links *links, const struct lr_options *from) {
    json_t *object = segment_to_json(stat, from);
    json_t *now = json_pack("{s:b, s:b, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
                            "replicating", (int)stat->replicating, "retired", (int)stat->retired, "flush_version",
                            cli_json_version(stat->flush_version), "items", (json_int_t)stat->items, "ttl_items",
                            (json_int_t)stat->ttl_items, "tombstones", (json_int_t)stat->tombstones, "item_bytes",
                            (json_int_t)stat->item_bytes, "payload_bytes", (json_int_t)stat->payload_bytes, "live_pins",
                            (json_int_t)stat->live_pins, "pinned_bytes", (json_int_t)stat->pinned_bytes, "held_blocks",
                            (json_int_t)stat->held_blocks, "held_bytes", (json_int_t)stat->held_bytes, "hole_bytes",
                            (json_int_t)stat->hole_bytes, "gap_bytes", (json_int_t)stat->gap_bytes, "index_bytes",
                            (json_int_t)stat->index_bytes, "index_slots", (json_int_t)stat->index_slots,
                            "probation_bytes", (json_int_t)stat->probation_bytes);
    json_object_update(object, now);
    json_decref(now);
    uint64_t gets = stat->counters[LR_C_hits] + stat->counters[LR_C_misses];
    if (stat->policy == LR_POLICY_s3) {
        json_object_set_new(object, "chooses_by", json_string(chooses_by(stat)));
        json_object_set_new(object, "choice_changes", json_integer(stat->choice_changes));
    }
    json_object_set_new(object, "metadata_per_item", ratio_to_json(metadata_bytes(stat), stat->items));
    json_object_set_new(object, "payload_share", ratio_to_json(stat->payload_bytes, stat->segment_bytes));
    json_object_set_new(object, "hit_ratio", ratio_to_json(stat->counters[LR_C_hits], gets));
    json_object_set_new(object, "counters", counters_to_json(counter_rows, stat->counters, LR_COUNTER_COUNT));
    json_object_set_new(object, "stripe_counters",
                        counters_to_json(stripe_counter_rows, stat->stripe_counters, LR_STRIPE_COUNTER_COUNT));
    json_object_set_new(object, "sidecar", sidecar_to_json(sidecar, links));
    return object;
}

/* ---- text ------------------------------------------------------------------------------------------------------- */

static double percent(uint64_t part, uint64_t whole) {
    return whole > 0 ? 100.0 * (double)part / (double)whole : 0;
}

static void print_memory_row(const char *name, uint64_t bytes, uint64_t whole) {
    char text[CLI_FORMAT_BYTES];
    printf("  %-14s %10s  %5.1f %%\n", name, cli_format_bytes(text, bytes), percent(bytes, whole));
}

static void print_memory(const struct lr_stat *stat) {
    char a[CLI_FORMAT_BYTES], b[CLI_FORMAT_BYTES], c[CLI_FORMAT_BYTES];
    printf("memory\n  items          %s, %s of them with a deadline; %s tombstones\n", cli_format_count(a, stat->items),
           cli_format_count(b, stat->ttl_items), cli_format_count(c, stat->tombstones));
    print_memory_row("payload", stat->payload_bytes, stat->segment_bytes);
    if (stat->items > 0)
        printf("  metadata       %.1f bytes an item: header, rounding, index\n",
               (double)metadata_bytes(stat) / (double)stat->items);
    print_memory_row("item headers", stat->item_bytes - stat->payload_bytes, stat->segment_bytes);
    print_memory_row("index", stat->index_bytes, stat->segment_bytes);
    if (stat->policy == LR_POLICY_s3)
        print_memory_row("probation", stat->probation_bytes, stat->segment_bytes);
    print_memory_row("pinned", stat->pinned_bytes, stat->segment_bytes);
    print_memory_row("held by pins", stat->held_bytes, stat->segment_bytes);
    print_memory_row("free, holes", stat->hole_bytes, stat->segment_bytes);
    print_memory_row("free, gap", stat->gap_bytes, stat->segment_bytes);
    print_memory_row("fixed tables", stat->fixed_bytes, stat->segment_bytes);
    print_memory_row("segment", stat->segment_bytes, stat->segment_bytes);
}

static void print_use(const struct lr_stat *stat) {
    char a[CLI_FORMAT_BYTES], b[CLI_FORMAT_BYTES], c[CLI_FORMAT_BYTES];
    const uint64_t *counters = stat->counters;
    uint64_t gets = counters[LR_C_hits] + counters[LR_C_misses];
    printf("use, all processes since creation\n");
    if (gets > 0)
        printf("  hit ratio      %.2f %% of %s gets\n", percent(counters[LR_C_hits], gets), cli_format_count(a, gets));
    else
        printf("  hit ratio      no gets yet\n");
    printf("  writes         %s puts, %s deletes, %s touches\n", cli_format_count(a, counters[LR_C_puts]),
           cli_format_count(b, counters[LR_C_deletes]), cli_format_count(c, counters[LR_C_touches]));
    if (stat->policy == LR_POLICY_s3) {
        printf("  chooses        by %s; changes so far: %s\n", chooses_by(stat),
               cli_format_count(a, stat->choice_changes));
        printf("  probation      %s promoted, %s came back soon after they went\n",
               cli_format_count(a, stat->stripe_counters[LR_S_promotions]),
               cli_format_count(b, stat->stripe_counters[LR_S_ghost_hits]));
    }
    printf("  removed        %s evicted, %s expired\n", cli_format_count(a, stat->stripe_counters[LR_S_evictions]),
           cli_format_count(b, stat->stripe_counters[LR_S_expirations]));
    printf("  trouble        %s busy, %s locks taken over, %s repairs\n", cli_format_count(a, counters[LR_C_busy]),
           cli_format_count(b, counters[LR_C_takeovers]), cli_format_count(c, counters[LR_C_repairs]));
    if (stat->flush_version != 0)
        printf("  flushed        %s, version %" PRIu64 "\n",
               cli_format_time(a, lr_version_unix_ms(stat->flush_version)), stat->flush_version);
}

static const char *format_lag(char out[CLI_FORMAT_BYTES], uint64_t us) {
    if (us == UINT64_MAX)
        snprintf(out, CLI_FORMAT_BYTES, "unknown");
    else
        cli_format_ns(out, (double)us * 1000);
    return out;
}

static void print_links(const struct links *links) {
    if (!links->told)
        return;
    printf("  links          %u by TLS, %u plain; keys: %s", links->sealed, links->plain,
           links->keys[0] != '\0' ? links->keys : "none, loopback only");
    if (links->end_s != INT64_MAX)
        printf(", %lld days to its end", (long long)(links->end_s / DAY_S));
    putchar('\n');
    if (links->other_modes > 0)
        printf("  %smodes%s          of keys are others at %u peers: make them the same\n", cli_colour(stdout, CLI_RED),
               cli_colour(stdout, CLI_PLAIN), links->other_modes);
}

static void print_sidecar(const struct lr_stat *stat, const struct lr_sidecar_state *sidecar,
                          const struct links *links) {
    char a[CLI_FORMAT_BYTES], b[CLI_FORMAT_BYTES], c[CLI_FORMAT_BYTES];
    printf("replication\n");
    if (!sidecar->alive && !stat->replicating) {
        printf("  none: no larderd has worked here with peers\n");
        return;
    }
    printf("  larderd        %s%s%s\n", cli_colour(stdout, sidecar->alive ? CLI_GREEN : CLI_RED),
           sidecar->alive ? "alive" : "not running; changes wait for it", cli_colour(stdout, CLI_PLAIN));
    printf("  peers          %" PRIu32 " of %" PRIu32 " connected\n", sidecar->connected, sidecar->peers);
    printf("  unacknowledged %s changes", cli_format_count(c, sidecar->unacked));
    if (sidecar->resync_stripes != 0)
        printf("; of %" PRIu32 " stripes more than those: they are to be walked", sidecar->resync_stripes);
    printf("\n");
    printf("  lag            p50 %s, p99 %s\n", format_lag(a, sidecar->lag_p50_us), format_lag(b, sidecar->lag_p99_us));
    print_links(links);
}

static void print_modes(const struct lr_stat *stat, const struct lr_mode_row *modes, unsigned count) {
    char a[CLI_FORMAT_BYTES], b[CLI_FORMAT_BYTES], c[CLI_FORMAT_BYTES], d[CLI_FORMAT_BYTES];
    const uint64_t *counters = stat->counters;
    for (unsigned i = 0; i < count; i++) {
        char shown[KEY_SHOWN_BYTES];
        key_show(shown, modes[i].prefix, modes[i].len);
        printf("  keys \"%s\"  %s\n", shown, lr_mode_name(modes[i].mode));
    }
    if (count > 0)
        printf("  modes          %s invalidated, %s of local keys declined, %s fills, %s of them refused\n",
               cli_format_count(a, counters[LR_C_invalidated]), cli_format_count(b, counters[LR_C_applied_local]),
               cli_format_count(c, counters[LR_C_fills] + counters[LR_C_fill_refusals]),
               cli_format_count(d, counters[LR_C_fill_refusals]));
}

static json_t *modes_to_json(const struct lr_mode_row *modes, unsigned count) {
    json_t *array = json_array();
    for (unsigned i = 0; i < count; i++) {
        char shown[KEY_SHOWN_BYTES];
        key_show(shown, modes[i].prefix, modes[i].len);
        json_array_append_new(
            array, json_pack("{s:o, s:s}", "prefix", cli_json_text(shown), "mode", lr_mode_name(modes[i].mode)));
    }
    return array;
}

static void print_counters(const char *title, const struct counter_row *rows, const uint64_t *values, unsigned count) {
    char text[CLI_FORMAT_BYTES];
    printf("%s\n", title);
    for (unsigned i = 0; i < count; i++)
        printf("  %-20s %15s %-12s %s\n", rows[i].name, cli_format_count(text, values[i]), rows[i].unit,
               rows[i].sentence);
}

static int stat_run(struct cli *cli) {
    struct lr_cache *cache;
    struct lr_options from;
    int exit_code = cli_options(cli, &from);
    if (exit_code == 0)
        exit_code = cli_attach(cli, true, &cache);
    if (exit_code != 0)
        return exit_code;

    struct lr_stat stat;
    struct lr_sidecar_state sidecar;
    struct lr_mode_row modes[LR_MODE_ROWS];
    lr_stat(cache, &stat);
    lr_sidecar_state(cache, &sidecar);
    struct links links = sidecar.alive ? ask_for_links(&from) : (struct links){0};
    const unsigned mode_count = lr_modes_get(cache, modes);
    if (cli->json) {
        json_t *object = stat_to_json(&stat, &sidecar, &links, &from);
        json_object_set_new(object, "modes", modes_to_json(modes, mode_count));
        cli_print_json(object);
    } else {
        printf("%ssegment \"%s\"%s%s\n", cli_colour(stdout, CLI_BOLD), cli_segment(&from),
               cli_colour(stdout, CLI_PLAIN), stat.retired ? ": RETIRED, attached processes must open it anew" : "");
        segment_print(&stat, &from);
        print_memory(&stat);
        print_use(&stat);
        print_sidecar(&stat, &sidecar, &links);
        print_modes(&stat, modes, mode_count);
        if (cli_given(cli, "verbose")) {
            print_counters("counters of processes", counter_rows, stat.counters, LR_COUNTER_COUNT);
            print_counters("counters of stripes", stripe_counter_rows, stat.stripe_counters, LR_STRIPE_COUNTER_COUNT);
        }
    }
    lr_cache_detach(cache);
    return CLI_YES;
}

const struct verb verb_stat = {
    .name = "stat",
    .summary = "show size, contents, hit ratio and replication state",
    .operands = "",
    .description =
        "Shows what the segment is, where its memory goes, how it has been used since it was created, and how "
        "replication stands. Percentages of memory are of the whole segment file; \"payload\" is the bytes of live "
        "keys "
        "and values.\n\n"
        "How many links are secured by TLS, and until when this host's certificate lasts, is asked of the larderd; "
        "`larder peers` shows it for each peer, with the state of its link.\n\n"
        "The figures are read without a lock while others work: each is right for some recent instant, and they need "
        "not fit together to the last byte.",
    .output =
        "All fields of `larder create`, then: replicating, retired, flush_version (text; \"0\" is never), items, "
        "ttl_items, tombstones, item_bytes (blocks of items), payload_bytes (their keys and values), live_pins and "
        "pinned_bytes (of all processes, see `larder procs`), held_blocks and "
        "held_bytes (replaced or deleted, kept by a pin), hole_bytes, gap_bytes, index_bytes, index_slots, "
        "probation_bytes (policy s3: where new items are), chooses_by and choice_changes (policy s3 only: whether it "
        "chooses what goes by its rules or, as LRU does, by age, and how often that changed), metadata_per_item "
        "(headers, rounding and index, for each "
        "item; null without items), payload_share (of segment_bytes), hit_ratio (null before the first get), counters "
        "and stripe_counters "
        "(objects, "
        "by name), sidecar {alive, peers, connected, unacked (changes that not every peer has acknowledged), "
        "resync_stripes (whose feed lacks changes: they are to be walked), lag_p50_us, lag_p99_us (null: unknown), "
        "links {tls, plain (how many), other_modes (peers whose modes of keys are others), keys (its own; null: none), "
        "keys_end_s (seconds until its certificate ends; "
        "null: never)} (null: larderd was not to be asked)}, modes [{prefix, mode}].",
    .examples = "larder stat\n"
                "larder stat --name sessions --verbose\n"
                "larder stat --json | jq .hit_ratio",
    .options = options,
    .on_segment = true,
    .run = stat_run,
};
