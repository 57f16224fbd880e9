/* SPDX-License-Identifier: MIT */
/* A sweep's results in words: tables on standard output, or one JSON object. */
#include "cli.h"
#include "sweep.h"

#include <inttypes.h>
#include <string.h>

#define NAME_WIDTH 14

static double relative(double ours, double theirs) {
    return theirs > 0 ? ours / theirs - 1.0 : 0.0;
}

const char *sweep_charge_text(uint32_t charge, char out[32]) {
    if (charge == REFERENCE_CHARGE_BLOCK)
        snprintf(out, 32, "a block's header");
    else if (charge == 0)
        snprintf(out, 32, "no metadata");
    else
        snprintf(out, 32, "%" PRIu32 " bytes each", charge);
    return out;
}

json_t *sweep_charge_to_json(uint32_t charge) {
    return charge == REFERENCE_CHARGE_BLOCK ? json_string("block") : json_integer((json_int_t)charge);
}

/* ---- tables ----------------------------------------------------------------------------------------------------- */

static void print_policy_heading(const struct sweep_options *options) {
    char text[32];
    printf("%s%-*s %6s %10s  %-8s %7s %7s %10s %8s", cli_colour(stdout, CLI_BOLD), NAME_WIDTH, "trace", "size", "bytes",
           "policy", "miss", "bytes", "ops/s", "payload");
    for (unsigned i = 0; options->reference_count > 0 && i < options->charge_count; i++)
        printf("   against %s", sweep_charge_text(options->charges[i], text));
    printf("%s\n", cli_colour(stdout, CLI_PLAIN));
}

/* "best +3.1 %  LRU -2.0 %" */
static void print_against(const struct sweep_options *options, const struct sweep_row *row, double miss_ratio,
                          unsigned charge) {
    double best = sweep_best(options, row, charge);
    const struct sweep_cell *lru = sweep_lru(options, row, charge);
    if (best >= 0)
        printf("   best %+5.1f %%", 100 * relative(miss_ratio, best));
    if (lru != NULL)
        printf("  LRU %+5.1f %%", 100 * relative(miss_ratio, lru->miss_ratio));
}

static void print_policy(const struct sweep_options *options, const struct sweep_trace *trace, unsigned row,
                         unsigned policy) {
    const struct sweep_row *at = &trace->rows[row];
    const struct sweep_cell *cell = &at->cells[policy];
    char bytes[CLI_FORMAT_BYTES], ops[CLI_FORMAT_BYTES];
    printf("%-*s %6s %10s  %-8s ", NAME_WIDTH, trace->name, options->sizes[row].text,
           cli_format_bytes(bytes, at->bytes), lr_policy_name(options->policies[policy]));
    if (cell->state != SWEEP_DONE) {
        printf("%s%s%s\n", cli_colour(stdout, CLI_RED), cell->state == SWEEP_FAILED ? cell->why : "not done",
               cli_colour(stdout, CLI_PLAIN));
        return;
    }
    printf("%7.4f %7.4f %10s %6.1f %%", cell->miss_ratio, cell->byte_miss_ratio,
           cli_format_count(ops, (uint64_t)cell->ops_per_s), 100 * cell->payload_share);
    for (unsigned charge = 0; options->reference_count > 0 && charge < options->charge_count; charge++)
        print_against(options, at, cell->miss_ratio, charge);
    if (cell->wrong_values > 0 || cell->findings > 0 || cell->deaths > 0)
        printf("  %sWRONG: %" PRIu64 " values, %" PRIu64 " findings of check, %" PRIu64 " deaths%s",
               cli_colour(stdout, CLI_RED), cell->wrong_values, cell->findings, cell->deaths,
               cli_colour(stdout, CLI_PLAIN));
    printf("\n");
}

static void print_references(const struct sweep_options *options, const struct sweep_result *result, unsigned charge) {
    char text[32];
    printf("\n%sreferences, an object charged its size and %s: miss ratios; * the lowest%s\n%-*s %6s",
           cli_colour(stdout, CLI_BOLD), sweep_charge_text(options->charges[charge], text),
           cli_colour(stdout, CLI_PLAIN), NAME_WIDTH, "trace", "size");
    for (unsigned i = 0; i < options->reference_count; i++)
        printf(" %11s", reference_title(options->references[i]));
    printf("\n");
    for (unsigned t = 0; t < options->source_count; t++)
        for (unsigned row = 0; row < options->size_count; row++) {
            const struct sweep_row *at = &result->traces[t].rows[row];
            double best = sweep_best(options, at, charge);
            if (at->bytes == 0)
                continue;
            printf("%-*s %6s", NAME_WIDTH, result->traces[t].name, options->sizes[row].text);
            for (unsigned i = 0; i < options->reference_count; i++) {
                const struct sweep_cell *cell = &at->cells[sweep_reference_cell(options, charge, i)];
                if (cell->state == SWEEP_DONE)
                    printf("     %.4f%s", cell->miss_ratio, cell->miss_ratio <= best ? "*" : " ");
                else
                    printf(" %11s", "not done");
            }
            printf("\n");
        }
}

/* The highest relative distance of a policy to the best reference of a charge, or to LRU, and where. */
static double worst_against(const struct sweep_options *options, const struct sweep_result *result, unsigned policy,
                            unsigned charge, bool lru, const char **trace, const char **size) {
    double worst = -1;
    for (unsigned t = 0; t < options->source_count; t++)
        for (unsigned row = 0; row < options->size_count; row++) {
            const struct sweep_row *at = &result->traces[t].rows[row];
            const struct sweep_cell *other = sweep_lru(options, at, charge);
            double theirs = lru ? (other ? other->miss_ratio : -1) : sweep_best(options, at, charge);
            if (at->cells[policy].state != SWEEP_DONE || theirs < 0 ||
                relative(at->cells[policy].miss_ratio, theirs) <= worst)
                continue;
            worst = relative(at->cells[policy].miss_ratio, theirs);
            *trace = result->traces[t].name;
            *size = options->sizes[row].text;
        }
    return worst;
}

static void print_means(const struct sweep_options *options, const struct sweep_result *result) {
    unsigned points;
    char text[32];
    printf("\n%smean miss ratios%s\n", cli_colour(stdout, CLI_BOLD), cli_colour(stdout, CLI_PLAIN));
    for (unsigned i = 0; i < options->policy_count; i++) {
        double mean = sweep_mean(options, result, i, &points);
        printf("  %-12s %.4f   over %u points\n", lr_policy_name(options->policies[i]), mean, points);
    }
    for (unsigned i = 0; i < options->reference_count; i++) {
        printf("  %-12s", reference_title(options->references[i]));
        for (unsigned charge = 0; charge < options->charge_count; charge++)
            printf(" %.4f   %s%s", sweep_mean(options, result, sweep_reference_cell(options, charge, i), &points),
                   sweep_charge_text(options->charges[charge], text), charge + 1 < options->charge_count ? "," : "\n");
    }
    for (unsigned i = 0; options->reference_count > 0 && i < options->policy_count; i++)
        for (unsigned charge = 0; charge < options->charge_count; charge++) {
            const char *trace = "nowhere", *size = "any size";
            double worst = worst_against(options, result, i, charge, false, &trace, &size);
            printf("%s against %s: at worst %+.1f %% of the best (%s at %s)", lr_policy_name(options->policies[i]),
                   sweep_charge_text(options->charges[charge], text), 100 * worst, trace, size);
            worst = worst_against(options, result, i, charge, true, &trace, &size);
            if (worst > -1)
                printf(", %+.1f %% of LRU (%s at %s)", 100 * worst, trace, size);
            printf("\n");
        }
}

void sweep_print(const struct sweep_options *options, const struct sweep_result *result) {
    if (options->policy_count > 0)
        print_policy_heading(options);
    for (unsigned t = 0; t < options->source_count; t++)
        for (unsigned row = 0; row < options->size_count; row++)
            for (unsigned policy = 0; result->traces[t].rows[row].bytes > 0 && policy < options->policy_count; policy++)
                print_policy(options, &result->traces[t], row, policy);
    for (unsigned charge = 0; options->reference_count > 0 && charge < options->charge_count; charge++)
        print_references(options, result, charge);
    print_means(options, result);
    printf("%.0f seconds\n", result->seconds);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

static void set_integer(json_t *object, const char *name, uint64_t value) {
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

static void set_real(json_t *object, const char *name, double value) {
    json_object_set_new(object, name, json_real(value));
}

/* Against the references with each charge. */
static json_t *distances_to_json(const struct sweep_options *options, const struct sweep_row *row, double miss_ratio) {
    json_t *array = json_array();
    for (unsigned charge = 0; options->reference_count > 0 && charge < options->charge_count; charge++) {
        double best = sweep_best(options, row, charge);
        const struct sweep_cell *lru = sweep_lru(options, row, charge);
        json_t *object = json_object();
        json_object_set_new(object, "charge", sweep_charge_to_json(options->charges[charge]));
        if (best >= 0)
            set_real(object, "to_best", relative(miss_ratio, best));
        if (lru != NULL)
            set_real(object, "to_lru", relative(miss_ratio, lru->miss_ratio));
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *policies_to_json(const struct sweep_options *options, const struct sweep_row *row) {
    json_t *array = json_array();
    for (unsigned i = 0; i < options->policy_count; i++) {
        const struct sweep_cell *cell = &row->cells[i];
        json_t *object = json_object();
        json_object_set_new(object, "policy", json_string(lr_policy_name(options->policies[i])));
        if (cell->state != SWEEP_DONE) {
            json_object_set_new(object, "error", cli_json_text(cell->state == SWEEP_FAILED ? cell->why : "not done"));
        } else {
            set_real(object, "miss_ratio", cell->miss_ratio);
            set_real(object, "byte_miss_ratio", cell->byte_miss_ratio);
            set_real(object, "ops_per_s", cell->ops_per_s);
            set_real(object, "payload_share", cell->payload_share);
            set_integer(object, "cache_bytes", cell->cache_bytes);
            set_integer(object, "fixed_bytes", cell->fixed_bytes);
            set_integer(object, "wrong_values", cell->wrong_values);
            set_integer(object, "check_findings", cell->findings);
            set_integer(object, "deaths", cell->deaths);
            json_object_set_new(object, "relative", distances_to_json(options, row, cell->miss_ratio));
        }
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *references_to_json(const struct sweep_options *options, const struct sweep_row *row) {
    json_t *array = json_array();
    for (unsigned charge = 0; charge < options->charge_count; charge++)
        for (unsigned i = 0; i < options->reference_count; i++) {
            const struct sweep_cell *cell = &row->cells[sweep_reference_cell(options, charge, i)];
            json_t *object = json_object();
            json_object_set_new(object, "reference", json_string(reference_name(options->references[i])));
            json_object_set_new(object, "charge", sweep_charge_to_json(options->charges[charge]));
            if (cell->state == SWEEP_DONE) {
                set_real(object, "miss_ratio", cell->miss_ratio);
                set_real(object, "byte_miss_ratio", cell->byte_miss_ratio);
            } else {
                json_object_set_new(object, "error",
                                    cli_json_text(cell->state == SWEEP_FAILED ? cell->why : "not done"));
            }
            json_array_append_new(array, object);
        }
    return array;
}

static json_t *curve_to_json(const struct lru_curve *curve) {
    json_t *array = json_array();
    for (unsigned i = 0; i < curve->count; i++)
        json_array_append_new(
            array, json_pack("{s:I, s:f}", "bytes", (json_int_t)curve->bytes[i], "miss_ratio", curve->miss_ratio[i]));
    return array;
}

static json_t *trace_to_json(const struct sweep_options *options, const struct sweep_trace *trace, unsigned number) {
    const struct sweep_source *source = &options->sources[number];
    json_t *object = json_object();
    json_object_set_new(object, "trace", cli_json_text(trace->name));
    if (source->file != NULL)
        json_object_set_new(object, "source", cli_json_text(source->file));
    else
        set_integer(object, "seed", source->seed);
    set_integer(object, "requests", trace->requests);
    set_integer(object, "keys", trace->keys);
    set_integer(object, "footprint", trace->footprint);
    if (options->curves)
        json_object_set_new(object, "lru_curve", curve_to_json(&trace->curve));
    return object;
}

static json_t *means_to_json(const struct sweep_options *options, const struct sweep_result *result) {
    json_t *array = json_array();
    unsigned points;
    for (unsigned i = 0; i < options->policy_count; i++) {
        double mean = sweep_mean(options, result, i, &points);
        json_array_append_new(array, json_pack("{s:s, s:f, s:i}", "policy", lr_policy_name(options->policies[i]),
                                               "miss_ratio", mean, "points", (int)points));
    }
    for (unsigned charge = 0; charge < options->charge_count; charge++)
        for (unsigned i = 0; i < options->reference_count; i++) {
            double mean = sweep_mean(options, result, sweep_reference_cell(options, charge, i), &points);
            json_array_append_new(array,
                                  json_pack("{s:s, s:o, s:f, s:i}", "reference", reference_name(options->references[i]),
                                            "charge", sweep_charge_to_json(options->charges[charge]), "miss_ratio",
                                            mean, "points", (int)points));
        }
    return array;
}

json_t *sweep_to_json(const struct sweep_options *options, const struct sweep_result *result) {
    json_t *object = json_object(), *traces = json_array(), *points = json_array();
    for (unsigned t = 0; t < options->source_count; t++) {
        const struct sweep_trace *trace = &result->traces[t];
        json_array_append_new(traces, trace_to_json(options, trace, t));
        for (unsigned row = 0; row < options->size_count; row++) {
            if (trace->rows[row].bytes == 0)
                continue;
            json_t *point = json_object();
            json_object_set_new(point, "trace", cli_json_text(trace->name));
            json_object_set_new(point, "size", cli_json_text(options->sizes[row].text));
            set_integer(point, "bytes", trace->rows[row].bytes);
            json_object_set_new(point, "policies", policies_to_json(options, &trace->rows[row]));
            json_object_set_new(point, "references", references_to_json(options, &trace->rows[row]));
            json_array_append_new(points, point);
        }
    }
    json_object_set_new(object, "traces", traces);
    json_object_set_new(object, "points", points);
    json_object_set_new(object, "means", means_to_json(options, result));
    set_real(object, "seconds", result->seconds);
    if (result->interrupted != 0)
        set_integer(object, "interrupted", (uint64_t)result->interrupted);
    return object;
}
