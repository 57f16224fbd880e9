/* SPDX-License-Identifier: MIT */
/* `larder procs`: who is attached, who has died without saying so, and who holds pins. */
#include "cli.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static const struct cli_option options[] = {
    {"verbose", 'v', CLI_FLAG, NULL, NULL, NULL, "Print all counters of each process"},
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

#define X(name, unit, sentence) #name,
static const char *const counter_names[] = {LR_COUNTERS(X)};
#undef X

static uint64_t now_unix_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Pids count in a namespace: whether that of `process` is ours. */
static bool is_our_namespace(const struct lr_process *process) {
    struct stat ours;
    return stat("/proc/self/ns/pid", &ours) == 0 && process->pid_ns == (uint64_t)ours.st_ino;
}

static uint64_t age_ms(const struct lr_process *process) {
    uint64_t now = now_unix_ms();
    return now > process->started_ms ? now - process->started_ms : 0;
}

static json_t *process_to_json(const struct lr_process *process) {
    json_t *counters = json_object();
    for (unsigned i = 0; i < LR_COUNTER_COUNT; i++)
        json_object_set_new(counters, counter_names[i], json_integer((json_int_t)process->counters[i]));
    return json_pack("{s:i, s:I, s:b, s:o, s:I, s:b, s:I, s:I, s:i, s:I, s:o}", "slot", (int)process->slot, "pid",
                     (json_int_t)process->pid, "own_pid_namespace", (int)is_our_namespace(process), "name",
                     cli_json_bytes(process->name, strnlen(process->name, sizeof process->name)), "generation",
                     (json_int_t)process->generation, "alive", (int)process->alive, "started_ms",
                     (json_int_t)process->started_ms, "age_ms", (json_int_t)age_ms(process), "pins", (int)process->pins,
                     "pinned_bytes", (json_int_t)process->pinned_bytes, "counters", counters);
}

static void print_process(const struct cli *cli, const struct lr_process *process) {
    char pinned[CLI_FORMAT_BYTES], age[CLI_FORMAT_BYTES], pid[16], name[4 * sizeof process->name + 1];
    const uint64_t *counters = process->counters;
    snprintf(pid, sizeof pid, "%" PRIu32 "%s", process->pid, is_our_namespace(process) ? "" : "*");
    cli_escape(process->name, strnlen(process->name, sizeof process->name), name);
    printf("%4" PRIu32 "  %8s  %s%-5s%s  %4u  %10s  %12s  %10" PRIu64 "  %10" PRIu64 "  %10" PRIu64 "  %8" PRIu64
           "  %6" PRIu64 "  %s\n",
           process->slot, pid, cli_colour(stdout, process->alive ? CLI_GREEN : CLI_RED),
           process->alive ? "alive" : "DEAD", cli_colour(stdout, CLI_PLAIN), process->pins,
           cli_format_bytes(pinned, process->pinned_bytes), cli_format_age(age, age_ms(process)), counters[LR_C_hits],
           counters[LR_C_misses], counters[LR_C_puts], counters[LR_C_deletes], counters[LR_C_busy], name);
    for (unsigned i = 0; cli_given(cli, "verbose") && i < LR_COUNTER_COUNT; i++)
        if (counters[i] != 0)
            printf("        %-20s %20" PRIu64 "\n", counter_names[i], counters[i]);
}

static int print_table(const struct cli *cli, struct lr_cache *cache, const struct lr_stat *stat) {
    unsigned alive = 0, dead = 0;
    bool foreign = false;
    printf("%s%4s  %8s  %-5s  %4s  %10s  %12s  %10s  %10s  %10s  %8s  %6s  %s%s\n", cli_colour(stdout, CLI_BOLD),
           "slot", "pid", "state", "pins", "pinned", "attached for", "hits", "misses", "puts", "deletes", "busy",
           "name", cli_colour(stdout, CLI_PLAIN));
    for (uint32_t slot = 0; slot < stat->participants; slot++) {
        struct lr_process process;
        if (lr_process(cache, slot, &process) != 0)
            continue;
        print_process(cli, &process);
        *(process.alive ? &alive : &dead) += 1;
        foreign |= !is_our_namespace(&process);
    }
    printf("%u alive, %u dead\n", alive, dead);
    if (foreign)
        printf("* the pid counts in another PID namespace\n");
    if (dead > 0)
        printf("the slots of the dead are freed by larderd, or by whoever next needs them\n");
    if (stat->retired)
        printf("the segment is retired: the processes above must open its name anew\n");
    cli_warn_of_removed(cli);
    return CLI_YES;
}

static int print_json(struct lr_cache *cache, const struct lr_stat *stat) {
    json_t *rows = json_array();
    unsigned alive = 0;
    for (uint32_t slot = 0; slot < stat->participants; slot++) {
        struct lr_process process;
        if (lr_process(cache, slot, &process) != 0)
            continue;
        alive += process.alive;
        json_array_append_new(rows, process_to_json(&process));
    }
    unsigned dead = (unsigned)json_array_size(rows) - alive;
    return cli_print_json(json_pack("{s:b, s:i, s:i, s:i, s:o}", "retired", (int)stat->retired, "slots",
                                    (int)stat->participants, "alive", (int)alive, "dead", (int)dead, "processes",
                                    rows));
}

static int procs_run(struct cli *cli) {
    struct lr_cache *cache;
    int exit_code = cli_attach(cli, true, &cache);
    if (exit_code != 0)
        return exit_code;
    struct lr_stat stat;
    lr_stat(cache, &stat);
    exit_code = cli->json ? print_json(cache, &stat) : print_table(cli, cache, &stat);
    lr_cache_detach(cache);
    return exit_code;
}

const struct verb verb_procs = {
    .name = "procs",
    .summary = "list the processes that are attached",
    .operands = "",
    .description =
        "One row for each attached handle: its slot, pid and name, whether it lives, how many values it has pinned and "
        "how many bytes they keep from being reused, how long it has been attached, and what it did.\n\n"
        "Whether a process lives is told by the kernel (a lock on the liveness file), not by its pid: pids are only "
        "for "
        "human eyes, are reused, and mean nothing across PID namespaces. A pid that counts in another namespace is "
        "marked with *.\n\n"
        "A dead process harms nobody: its slot, pins and locks are taken over by whoever needs them. Readers attached "
        "read-only, as this program is, have no slot and are not shown.\n\n"
        "Processes that still have a segment of this name which was removed (rm, systemd's RemoveIPC) are counted in a "
        "line "
        "of their own, as far as this user may see.",
    .output = "retired, slots (how many there are), alive, dead, processes: array of {slot, pid, own_pid_namespace, "
              "name, generation, alive, started_ms (Unix time), age_ms, pins, pinned_bytes, counters (by name)}.",
    .examples = "larder procs\n"
                "larder procs --name sessions --verbose\n"
                "larder procs --json | jq '.processes[] | select(.pins > 0)'",
    .options = options,
    .on_segment = true,
    .run = procs_run,
};
