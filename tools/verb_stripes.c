/* SPDX-License-Identifier: MIT */
/* `larder stripes`: how full is each stripe, and who holds its lock? */
#include "cli.h"

#include <inttypes.h>
#include <string.h>

static const struct cli_option options[] = {
    {"locked", 'l', CLI_FLAG, NULL, NULL, NULL, "Show only stripes that are locked, under repair or to be rescanned"},
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

#define X(name, unit, sentence) #name,
static const char *const counter_names[] = {LR_STRIPE_COUNTERS(X)};
#undef X

/* The holder as the participant table knows it; pid 0 when the slot has another owner by now. */
static struct lr_process find_holder(struct lr_cache *cache, const struct lr_stripe_info *stripe) {
    struct lr_process holder = {0};
    if (lr_process(cache, stripe->holder_slot, &holder) != 0 || holder.generation != stripe->holder_generation)
        memset(&holder, 0, sizeof holder);
    return holder;
}

static bool is_shown(const struct cli *cli, const struct lr_stripe_info *stripe) {
    return !cli_given(cli, "locked") || stripe->locked || stripe->recovering || stripe->rescan;
}

static json_t *holder_to_json(struct lr_cache *cache, const struct lr_stripe_info *stripe) {
    if (!stripe->locked)
        return json_null();
    struct lr_process holder = find_holder(cache, stripe);
    return json_pack("{s:i, s:I, s:I, s:o, s:b, s:o}", "slot", (int)stripe->holder_slot, "generation",
                     (json_int_t)stripe->holder_generation, "pid", (json_int_t)holder.pid, "name",
                     cli_json_bytes(holder.name, strnlen(holder.name, sizeof holder.name)), "alive", (int)holder.alive,
                     "stalled_ms", stripe->stalled_ms > 0 ? json_integer((json_int_t)stripe->stalled_ms) : json_null());
}

static json_t *stripe_to_json(struct lr_cache *cache, uint32_t index, const struct lr_stripe_info *stripe) {
    json_t *counters = json_object();
    for (unsigned i = 0; i < LR_STRIPE_COUNTER_COUNT; i++)
        json_object_set_new(counters, counter_names[i], json_integer((json_int_t)stripe->counters[i]));
    return json_pack(
        "{s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:b, s:b, s:b, s:o, s:o}",
        "stripe", (int)index, "items", (json_int_t)stripe->items, "item_bytes", (json_int_t)stripe->item_bytes,
        "payload_bytes", (json_int_t)stripe->payload_bytes, "tombstones", (json_int_t)stripe->tombstones, "held_blocks",
        (json_int_t)stripe->held_blocks, "held_bytes", (json_int_t)stripe->held_bytes, "hole_bytes",
        (json_int_t)stripe->hole_bytes, "gap_bytes", (json_int_t)stripe->gap_bytes, "index_bytes",
        (json_int_t)stripe->index_bytes, "arena_bytes", (json_int_t)stripe->arena_bytes, "probation_bytes",
        (json_int_t)stripe->probation_bytes, "buckets", (json_int_t)stripe->buckets, "clock",
        cli_json_version(stripe->clock), "ring_head", (json_int_t)stripe->ring_head, "ring_acked",
        (json_int_t)stripe->ring_acked, "locked", (int)stripe->locked, "recovering", (int)stripe->recovering, "rescan",
        (int)stripe->rescan, "holder", holder_to_json(cache, stripe), "counters", counters);
}

static void print_lock(struct lr_cache *cache, const struct lr_stripe_info *stripe) {
    char age[CLI_FORMAT_BYTES];
    if (!stripe->locked) {
        fputs(stripe->rescan ? "free, rescan" : "free", stdout);
        return;
    }
    struct lr_process holder = find_holder(cache, stripe);
    char name[4 * sizeof holder.name + 1];
    cli_escape(holder.name, strnlen(holder.name, sizeof holder.name), name);
    printf("%sslot %" PRIu32, cli_colour(stdout, stripe->stalled_ms > 0 ? CLI_RED : CLI_YELLOW), stripe->holder_slot);
    if (holder.pid != 0)
        printf(", pid %" PRIu32 " (%s)%s", holder.pid, name, holder.alive ? "" : ", DEAD");
    if (stripe->stalled_ms > 0)
        printf(", waiters gave up since %s", cli_format_age(age, stripe->stalled_ms));
    printf("%s%s%s", stripe->recovering ? ", repairing" : "", stripe->rescan ? ", rescan" : "",
           cli_colour(stdout, CLI_PLAIN));
}

static void print_stripe(struct lr_cache *cache, uint32_t index, const struct lr_stripe_info *stripe) {
    char payload[CLI_FORMAT_BYTES], holes[CLI_FORMAT_BYTES], gap[CLI_FORMAT_BYTES], held[CLI_FORMAT_BYTES],
        directory[CLI_FORMAT_BYTES];
    printf("%6" PRIu32 "  %10" PRIu64 "  %10s  %10s  %10s  %10s  %10s  %10" PRIu64 "  %6" PRIu64 "  ", index,
           stripe->items, cli_format_bytes(payload, stripe->payload_bytes), cli_format_bytes(holes, stripe->hole_bytes),
           cli_format_bytes(gap, stripe->gap_bytes), cli_format_bytes(held, stripe->held_bytes),
           cli_format_bytes(directory, stripe->index_bytes), stripe->counters[LR_S_evictions],
           stripe->counters[LR_S_laps]);
    print_lock(cache, stripe);
    putchar('\n');
}

static int stripes_run(struct cli *cli) {
    struct lr_cache *cache;
    int exit_code = cli_attach(cli, true, &cache);
    if (exit_code != 0)
        return exit_code;
    json_t *rows = cli->json ? json_array() : NULL;
    unsigned locked = 0;
    if (!cli->json)
        printf("%s%6s  %10s  %10s  %10s  %10s  %10s  %10s  %10s  %6s  %s%s\n", cli_colour(stdout, CLI_BOLD), "stripe",
               "items", "payload", "holes", "gap", "held", "index", "evictions", "laps", "lock",
               cli_colour(stdout, CLI_PLAIN));
    uint32_t count = lr_stripe_count(cache);
    for (uint32_t i = 0; i < count; i++) {
        struct lr_stripe_info stripe;
        if (lr_stripe_info(cache, i, &stripe) != 0)
            continue;
        locked += stripe.locked;
        if (!is_shown(cli, &stripe))
            continue;
        if (cli->json)
            json_array_append_new(rows, stripe_to_json(cache, i, &stripe));
        else
            print_stripe(cache, i, &stripe);
    }
    if (cli->json)
        cli_print_json(json_pack("{s:i, s:i, s:o}", "count", (int)count, "locked", (int)locked, "stripes", rows));
    else
        printf("%" PRIu32 " stripes, %u locked\n", count, locked);
    lr_cache_detach(cache);
    return CLI_YES;
}

const struct verb verb_stripes = {
    .name = "stripes",
    .summary = "show each stripe's memory and who holds its lock",
    .operands = "",
    .description =
        "A segment is cut into stripes, each with its own lock, index, arena and hand. One row a stripe: items, bytes "
        "of "
        "keys and values, free bytes in holes and in the gap before the hand, bytes kept by pins after their item was "
        "replaced, index, evictions, times the hand went round, and the lock.\n\n"
        "A lock is held for microseconds. A row that names a holder again and again is a process that is stopped or "
        "very "
        "slow; \"waiters gave up since\" says for how long. Readers are not slowed by it. A dead holder is replaced by "
        "the next who needs the stripe.",
    .output =
        "count, locked, stripes: array of {stripe, items, item_bytes, payload_bytes, tombstones, held_blocks, "
        "held_bytes, hole_bytes, gap_bytes, index_bytes, arena_bytes, probation_bytes, buckets (hash buckets), clock "
        "(decimal text), "
        "ring_head, ring_acked, locked, recovering, rescan, holder (null, or {slot, generation, pid, name, alive, "
        "stalled_ms (null: nobody gave up)}; pid 0: it has left), counters (by name)}.",
    .examples = "larder stripes\n"
                "larder stripes --locked --json",
    .options = options,
    .on_segment = true,
    .run = stripes_run,
};
