/* SPDX-License-Identifier: MIT */
/*
 * One schedule in readable form: a line for each access, with the process, the place in the source, the field, the
 * value. Addresses become "stripe.gap" or "bucket 3 slot 5"; places come from addr2line, asked once for each.
 */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

extern char __executable_start;

struct field {
    const char *name;
    uint32_t at, bytes, each; /* each: of an array's elements; 0 no array */
};

#define FIELD(type, name)                                                                                              \
    { #name, offsetof(struct type, name), sizeof(((struct type *)0)->name), 0 }
#define ARRAY(type, name)                                                                                              \
    { #name, offsetof(struct type, name), sizeof(((struct type *)0)->name), sizeof(((struct type *)0)->name[0]) }

static const struct field header_fields[] = {
    FIELD(sm_header, constants), FIELD(sm_header, state),         FIELD(sm_header, replicating),
    FIELD(sm_header, origin),    FIELD(sm_header, flush_version), FIELD(sm_header, participants_high),
    FIELD(sm_header, bell),      FIELD(sm_header, bell_waiting),  ARRAY(sm_header, retired_counters),
};
static const struct field participant_fields[] = {
    FIELD(sm_participant, generation),  FIELD(sm_participant, state),   FIELD(sm_participant, pid),
    FIELD(sm_participant, pin_summary), ARRAY(sm_participant, hazards), ARRAY(sm_participant, counters),
    FIELD(sm_participant, started_ms),  FIELD(sm_participant, pid_ns),  ARRAY(sm_participant, name),
};
static const struct field stripe_fields[] = {
    FIELD(sm_stripe, lock),          FIELD(sm_stripe, sequence),     FIELD(sm_stripe, notes_pending),
    FIELD(sm_stripe, rescan),        FIELD(sm_stripe, split),        FIELD(sm_stripe, stalled_since_ms),
    FIELD(sm_stripe, stalled_owner), FIELD(sm_stripe, moves_down),   FIELD(sm_stripe, merges),
    ARRAY(sm_stripe, gap),           FIELD(sm_stripe, border_off),   FIELD(sm_stripe, clock),
    FIELD(sm_stripe, incarnation),   FIELD(sm_stripe, epoch),        FIELD(sm_stripe, acked_epoch),
    FIELD(sm_stripe, ring_head),     FIELD(sm_stripe, ring_acked),   FIELD(sm_stripe, sweep_cursor),
    FIELD(sm_stripe, items),         FIELD(sm_stripe, item_bytes),   FIELD(sm_stripe, tombstones),
    FIELD(sm_stripe, payload_bytes), FIELD(sm_stripe, held_blocks),  FIELD(sm_stripe, held_bytes),
    FIELD(sm_stripe, hole_bytes),    FIELD(sm_stripe, ttl_items),    ARRAY(sm_stripe, bin_map),
    FIELD(sm_stripe, divide_off),    FIELD(sm_stripe, share),        FIELD(sm_stripe, probation_laps),
    FIELD(sm_stripe, patience_ms),   ARRAY(sm_stripe, large),        ARRAY(sm_stripe, counters),
    ARRAY(sm_stripe, bins),          ARRAY(sm_stripe, held),         ARRAY(sm_stripe, notes),
    ARRAY(sm_stripe, range_sum),     ARRAY(sm_stripe, range_floor),  ARRAY(sm_stripe, range_void),
    FIELD(sm_stripe, look_again_ms), FIELD(sm_stripe, wanted),       FIELD(sm_stripe, quiet),
    FIELD(sm_stripe, marked),        ARRAY(sm_stripe, marks_void),   ARRAY(sm_stripe, range_firm),
    FIELD(sm_stripe, policy_turn),   FIELD(sm_stripe, shadow_clock), ARRAY(sm_stripe, shadows),
    FIELD(sm_stripe, trust),         FIELD(sm_stripe, silence),      ARRAY(sm_stripe, watched),
};
#define COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))

static void name_field(const char *where, const struct field *fields, size_t count, uint64_t at, char out[64]) {
    for (size_t i = 0; i < count; i++) {
        const struct field *field = &fields[i];
        if (at < field->at || at >= field->at + field->bytes)
            continue;
        if (field->each == 0)
            snprintf(out, 64, "%s.%s", where, field->name);
        else
            snprintf(out, 64, "%s.%s[%llu]", where, field->name, (unsigned long long)((at - field->at) / field->each));
        return;
    }
    snprintf(out, 64, "%s+%llu", where, (unsigned long long)at);
}

static void name_slot(const struct lr_geometry *geometry, uint64_t at, char out[64]) {
    const unsigned line = (unsigned)(at / SM_BUCKET_BYTES), word = (unsigned)(at % SM_BUCKET_BYTES / 8);
    const unsigned group = geometry->ghost_group == LR_GHOSTLESS ? 0 : line / 9, in = line - 9 * group;
    if (geometry->ghost_group != LR_GHOSTLESS && in == 8)
        snprintf(out, 64, "ghosts of bucket %u", 8 * group + word);
    else
        snprintf(out, 64, "bucket %u slot %u", 8 * group + in, word);
}

static void name_of(uintptr_t address, char out[64]) {
    const struct lr_geometry *geometry = &sim_handles[0].geometry;
    uint64_t at = address - (uintptr_t)sim_segment;
    char where[24];
    if (at < SM_HEADER_BYTES) {
        name_field("header", header_fields, COUNT(header_fields), at, out);
    } else if (at >= geometry->voids_off && at < geometry->control_off) {
        at = (at - geometry->voids_off) / 8;
        snprintf(out, 64, at < SM_RANGES ? "turn of range %u" : "parts, word %u",
                 (unsigned)(at < SM_RANGES ? at : at - SM_RANGES));
    } else if (at < geometry->control_off) {
        at -= SM_HEADER_BYTES;
        snprintf(where, sizeof where, "participant %u", (unsigned)(at / sizeof(struct sm_participant)));
        name_field(where, participant_fields, COUNT(participant_fields), at % sizeof(struct sm_participant), out);
    } else if (at < geometry->control_off + SM_STRIPE_FIXED) {
        name_field("stripe", stripe_fields, COUNT(stripe_fields), at - geometry->control_off, out);
    } else if (at < geometry->data_off) {
        at -= geometry->control_off + SM_STRIPE_FIXED;
        snprintf(out, 64, "ring[%u].%s", (unsigned)(at / 16), at % 16 ? "version" : "hash");
    } else {
        uint64_t border = 0;
        memcpy(&border, &lr_stripe_at(&sim_handles[0], 0)->border_off, sizeof border);
        at -= geometry->data_off;
        if (at < border)
            name_slot(geometry, at, out);
        else
            snprintf(out, 64, "arena %llu", (unsigned long long)at);
    }
}

/* "replace_word entry.c:117": the innermost place that is in a source file, not in a header. */
static const char *place_of(const void *caller) {
    static struct {
        const void *caller;
        char text[72];
    } known[1024];
    unsigned i = 0;
    while (i < 1023 && known[i].caller != NULL && known[i].caller != caller)
        i++;
    if (known[i].caller == caller)
        return known[i].text;
    known[i].caller = caller;
    snprintf(known[i].text, sizeof known[i].text, "?");
    char program[256], command[400], line[512];
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    if (len <= 0)
        return known[i].text;
    program[len] = 0;
    snprintf(command, sizeof command, "addr2line -f -i -p -s -e '%s' %#llx", program,
             (unsigned long long)((uintptr_t)caller - 1 - (uintptr_t)&__executable_start));
    FILE *answer = popen(command, "r");
    while (answer != NULL && fgets(line, sizeof line, answer) != NULL) {
        const char *text = strncmp(line, " (inlined by) ", 14) == 0 ? line + 14 : line;
        char function[40], at[32];
        if (sscanf(text, "%39s at %31s", function, at) == 2 && strstr(at, ".c:") != NULL) {
            snprintf(known[i].text, sizeof known[i].text, "%s %s", function, at);
            break;
        }
    }
    if (answer != NULL)
        pclose(answer);
    return known[i].text;
}

static void print_process(void) {
    if (sim.now->number >= SIM_DOCTOR)
        printf("%-*s", 10, sim.now->number == SIM_DOCTOR ? "doctor" : "world");
    else
        printf("%*s%-*u", (int)sim.now->number * 2, "", 10 - (int)sim.now->number * 2, sim.now->number);
}

void sim_trace_access(const char *what, uintptr_t at, uint64_t value, const void *caller) {
    char name[64];
    name_of(at, name);
    print_process();
    printf("%-36s %-26s %-28s %llx\n", place_of(caller), name, what, (unsigned long long)value);
}

void sim_trace_visible(unsigned process, uintptr_t at, uint64_t value) {
    char name[64];
    name_of(at, name);
    printf("%*s%-*u%-36s %-26s becomes visible              %llx\n", (int)process * 2, "", 10 - (int)process * 2,
           process, "(store buffer)", name, (unsigned long long)value);
}

void sim_trace_note(const char *format, ...) {
    va_list arguments;
    print_process();
    printf("--- ");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}
