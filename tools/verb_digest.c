/* SPDX-License-Identifier: MIT */
/*
 * `larder digest`: do two hosts hold the same?
 *
 * The sum over all live items does not depend on their order or place, so equal contents give equal digests on hosts of
 * any size. It means something only when changes have stopped travelling: --wait-drained waits until the sidecar says
 * that it is connected to all its peers and that they have acknowledged everything, and says so again a moment later.
 * The other host must be waited for in the same way, for what it still has to send to us.
 */
#include "cli.h"

#include <inttypes.h>
#include <time.h>

static const struct cli_option options[] = {
    {"wait-drained", 'w', CLI_DURATION, "TIME", "seconds, or with ms, s, m, h or d", NULL,
     "First wait until larderd is connected to all peers and they have acknowledged every change, at most this long"},
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

#define DIGEST_POLL_MS 100u

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool is_drained(const struct lr_sidecar_state *sidecar) {
    return sidecar->alive && sidecar->connected == sidecar->peers && lr_sidecar_has_sent(sidecar);
}

static void name_missing(char *out, size_t cap, const struct lr_sidecar_state *sidecar) {
    if (!sidecar->alive)
        snprintf(out, cap, "no larderd is running on this segment");
    else if (sidecar->connected != sidecar->peers)
        snprintf(out, cap, "larderd is connected to %" PRIu32 " of %" PRIu32 " peers", sidecar->connected,
                 sidecar->peers);
    else if (sidecar->unacked != 0)
        snprintf(out, cap, "%" PRIu64 " changes are not acknowledged by every peer", sidecar->unacked);
    else if (sidecar->resync_stripes != 0)
        snprintf(out, cap, "%" PRIu32 " stripes are to be walked for every peer", sidecar->resync_stripes);
    else
        snprintf(out, cap, "larderd had drained, but not twice in a row");
}

/* 0, or the exit code of a failure that has been reported. */
static int wait_drained(const struct cli *cli, struct lr_cache *cache) {
    uint64_t limit = cli_number(cli, "wait-drained");
    uint64_t end = now_ms() + limit;
    struct lr_sidecar_state sidecar;
    for (unsigned in_a_row = 0;;) {
        lr_sidecar_state(cache, &sidecar);
        in_a_row = is_drained(&sidecar) ? in_a_row + 1 : 0;
        if (in_a_row == 2)
            return 0;
        if (now_ms() >= end)
            break;
        nanosleep(&(struct timespec){.tv_nsec = DIGEST_POLL_MS * 1000000L}, NULL);
    }
    char missing[128];
    name_missing(missing, sizeof missing, &sidecar);
    return cli_fail_with(cli, LARDER_ETIMED_OUT, "see `larder stat` and larderd's log; the peers must be running too",
                         "not drained within %.1f s: %s", (double)limit / 1000, missing);
}

static int digest_run(struct cli *cli) {
    struct lr_cache *cache;
    struct lr_digest digest;
    int exit_code = cli_attach(cli, true, &cache);
    if (exit_code != 0)
        return exit_code;
    if (cli_given(cli, "wait-drained"))
        exit_code = wait_drained(cli, cache);
    int error = exit_code == 0 ? lr_digest(cache, &digest) : 0;
    lr_cache_detach(cache);
    if (exit_code != 0)
        return exit_code;
    if (error != 0)
        return cli_fail(cli, error, "cannot compute the digest: %s", lr_error_text(error));
    char sum[17];
    snprintf(sum, sizeof sum, "%016" PRIx64, digest.sum);
    if (cli->json)
        return cli_print_json(json_pack("{s:s, s:I, s:I}", "sum", sum, "items", (json_int_t)digest.items, "bytes",
                                        (json_int_t)digest.bytes));
    printf("%s  %" PRIu64 " items  %" PRIu64 " bytes\n", sum, digest.items, digest.bytes);
    return CLI_YES;
}

const struct verb verb_digest = {
    .name = "digest",
    .summary = "print one number for all that the segment holds",
    .operands = "",
    .description =
        "Prints a 64-bit sum over keys, values, flags and versions of all live, unexpired items, their number, and the "
        "bytes of their keys and values. Two hosts that hold the same print the same, whatever their sizes.\n\n"
        "The walk takes no lock; changes made during it may or may not count. To compare hosts, stop the writers, then "
        "run it with --wait-drained on each of them: it waits until larderd is alive, connected to all its peers, and "
        "nothing is unacknowledged. If that does not come true in time the exit status is 7 and the message says "
        "what is missing.",
    .output = "sum (16 hexadecimal digits), items, bytes.",
    .examples = "larder digest\n"
                "larder digest --name sessions --wait-drained 30",
    .options = options,
    .on_segment = true,
    .run = digest_run,
};
