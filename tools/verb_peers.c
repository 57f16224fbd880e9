/* SPDX-License-Identifier: MIT */
/*
 * `larder peers`: whom does the larderd of this segment exchange changes with, and shall that be somebody else?
 *
 * It asks the running larderd (ask_larderd.h). Several addresses are one request each; the first failure ends it.
 */
#include "ask_larderd.h"
#include "cli.h"

#include <limits.h>
#include <string.h>

#define PATIENCE_MS 5000u
#define DAY_S 86400
#define HOST_FIELDS 8u
#define PEER_FIELDS 24u

/* 0, or the exit code of a failure that has been reported. */
static int ask(const struct cli *cli, const struct lr_options *options, const char *line,
               char answer[ASK_ANSWER_BYTES]) {
    struct ask_failure failure;
    int error = ask_larderd(options, line, PATIENCE_MS, answer, &failure);
    return error == 0 ? 0 : cli_fail_with(cli, error, failure.remedy, "%s", failure.text);
}

/* ---- list -------------------------------------------------------------------------------------------------------- */

static json_t *text_or_null(const char *field) {
    return strcmp(field, "-") == 0 ? json_null() : cli_json_text(field);
}

static json_t *number_or_null(const char *field) {
    return strcmp(field, "-") == 0 ? json_null() : json_integer((json_int_t)strtoll(field, NULL, 10));
}

static json_t *host_to_json(char **fields) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "node", text_or_null(fields[1]), "advertise",
                     text_or_null(fields[2]), "keys", text_or_null(fields[3]), "keys_end_s", number_or_null(fields[4]),
                     "refused", number_or_null(fields[5]), "revocation_lists", number_or_null(fields[6]),
                     "revocation_lists_end_s", number_or_null(fields[7]));
}

/* Of one direction: thousandths that are done, seconds that are left. */
static json_t *progress_to_json(const char *share, const char *left) {
    if (strcmp(share, "-") == 0)
        return json_null();
    return json_pack("{s:f, s:o}", "share", strtod(share, NULL) / 1000, "seconds_left", number_or_null(left));
}

static json_t *peer_to_json(char **fields) {
    json_t *sources = json_array();
    char *rest = fields[3];
    for (char *source = strsep(&rest, ","); source != NULL; source = strsep(&rest, ","))
        json_array_append_new(sources, json_string(source));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
                     "s:o, s:o}",
                     "address", text_or_null(fields[1]), "state", text_or_null(fields[2]), "sources", sources, "node",
                     text_or_null(fields[4]), "remote", text_or_null(fields[5]), "secured_by", text_or_null(fields[6]),
                     "unacked", number_or_null(fields[7]), "sent", number_or_null(fields[8]), "received",
                     number_or_null(fields[9]), "comparisons", number_or_null(fields[10]), "pulled",
                     number_or_null(fields[11]), "unsettled", number_or_null(fields[12]), "proof_ends_s",
                     number_or_null(fields[13]), "modes", text_or_null(fields[14]), "sent_bytes",
                     number_or_null(fields[15]), "received_bytes", number_or_null(fields[16]), "clock_refusals",
                     number_or_null(fields[17]), "resync_stripes", number_or_null(fields[18]), "sending",
                     progress_to_json(fields[19], fields[20]), "fetching", progress_to_json(fields[21], fields[22]),
                     "looked_at", number_or_null(fields[23]));
}

/* Lists that are overdue keep everybody out. */
static void print_lists(char **fields) {
    const long long left = strtoll(fields[7], NULL, 10);
    if (strcmp(fields[6], "0") == 0) {
        printf("  revoked    no list is loaded (tls_crl)\n");
        return;
    }
    printf("  revoked    %s loaded", fields[6]);
    if (strcmp(fields[7], "-") == 0)
        printf(", without an end\n");
    else if (left > 0)
        printf(", %lld days and %lld hours to the first end\n", left / DAY_S, left % DAY_S / 3600);
    else
        printf(", %sone is overdue, and no link can be made any more%s\n", cli_colour(stdout, CLI_RED),
               cli_colour(stdout, CLI_PLAIN));
}

static void print_host(char **fields) {
    printf("%s%s%s at %s\n  keys       %s\n", cli_colour(stdout, CLI_BOLD), fields[1], cli_colour(stdout, CLI_PLAIN),
           fields[2], fields[3]);
    if (strncmp(fields[3], "certificate", 11) == 0 && strcmp(fields[6], "-") != 0)
        print_lists(fields);
    printf("  refused    %s connections since larderd began\n", fields[5]);
}

static const char *bytes_of(char out[CLI_FORMAT_BYTES], const char *field) {
    return cli_format_bytes(out, strtoull(field, NULL, 10));
}

static void print_progress(const char *what, const char *share, const char *left) {
    if (strcmp(share, "-") == 0)
        return;
    printf("  %-10s %.1f %% done, ", what, strtod(share, NULL) / 10);
    if (strcmp(left, "-") == 0)
        printf("it cannot be said yet how long it will take\n");
    else
        printf("about %s s left\n", left);
}

static void print_peer(char **fields) {
    char sent[CLI_FORMAT_BYTES], received[CLI_FORMAT_BYTES];
    bool live = strcmp(fields[2], "LIVE") == 0;
    printf("peer %s  %s%s%s\n", fields[1], cli_colour(stdout, live ? CLI_GREEN : CLI_YELLOW), fields[2],
           cli_colour(stdout, CLI_PLAIN));
    printf("  named by   %s\n  node       %s\n  link       %s, secured by %s", fields[3], fields[4], fields[5],
           fields[6]);
    if (strcmp(fields[13], "-") != 0)
        printf(", %lld days to its end", strtoll(fields[13], NULL, 10) / DAY_S);
    printf("\n  changes    %s unacknowledged, %s sent, %s received on this link\n", fields[7], fields[8], fields[9]);
    if (strcmp(fields[18], "-") != 0 && strcmp(fields[18], "0") != 0)
        printf("  resync     %s stripes are to be walked or compared, and acknowledged\n", fields[18]);
    print_progress("sending", fields[19], fields[20]);
    print_progress("fetching", fields[21], fields[22]);
    printf("  compared   %s times, %s entries were lacking here; %s ranges to be settled\n", fields[10], fields[11],
           fields[12]);
    if (strcmp(fields[15], "-") != 0)
        printf("  bytes      %s sent, %s received, since it became a peer\n", bytes_of(sent, fields[15]),
               bytes_of(received, fields[16]));
    if (strcmp(fields[23], "-") != 0)
        printf("  work       %s hints and entries looked at\n", fields[23]);
    if (strcmp(fields[17], "-") != 0 && strcmp(fields[17], "0") != 0)
        printf("  clock      %srefused %s times%s: its wall clock or its versions are beyond clock_limit_ms\n",
               cli_colour(stdout, CLI_RED), fields[17], cli_colour(stdout, CLI_PLAIN));
    if (strcmp(fields[14], "differ") == 0)
        printf("  modes      %snot as ours%s: of two modes of a key the stricter counts; make them the same\n",
               cli_colour(stdout, CLI_RED), cli_colour(stdout, CLI_PLAIN));
}

static int list(const struct cli *cli, const struct lr_options *options, char *answer) {
    char *fields[PEER_FIELDS], *rest = answer;
    json_t *object = NULL, *peers = json_array();
    int exit_code = ask(cli, options, "peers list\n", answer);
    for (char *line; exit_code == 0 && (line = strsep(&rest, "\n")) != NULL;) {
        bool is_host = strncmp(line, "host\t", 5) == 0, is_peer = strncmp(line, "peer\t", 5) == 0;
        if (is_host || is_peer)
            ask_cut(line, fields, is_host ? HOST_FIELDS : PEER_FIELDS);
        if (is_host && !cli->json)
            print_host(fields);
        else if (is_host && object == NULL)
            object = host_to_json(fields);
        else if (is_peer && !cli->json)
            print_peer(fields);
        else if (is_peer)
            json_array_append_new(peers, peer_to_json(fields));
    }
    if (exit_code == 0 && cli->json && object != NULL) {
        json_object_set(object, "peers", peers);
        cli_print_json(object);
    }
    json_decref(peers);
    return exit_code;
}

/* ---- the verb ---------------------------------------------------------------------------------------------------- */

static int change(const struct cli *cli, const struct lr_options *options, const char *verb, char *answer) {
    for (unsigned i = 1; i < cli->operand_count; i++) {
        char line[256];
        if (strpbrk(cli->operands[i], " \t\n") != NULL ||
            (size_t)snprintf(line, sizeof line, "peers %s %s\n", verb, cli->operands[i]) >= sizeof line)
            return cli_usage(cli, "\"%s\" is not an address: HOST:PORT or [IPv6]:PORT", cli->operands[i]);
        int exit_code = ask(cli, options, line, answer);
        if (exit_code != 0)
            return exit_code;
        if (!cli->json)
            printf("%s %s; until this larderd ends: write it into the configuration to keep it\n",
                   strcmp(verb, "add") == 0 ? "added" : "removed", cli->operands[i]);
    }
    return cli->json ? cli_print_json(json_pack("{s:i}", "changed", (int)cli->operand_count - 1)) : CLI_YES;
}

static int peers_run(struct cli *cli) {
    struct lr_options options;
    const char *verb = cli->operand_count > 0 ? cli->operands[0] : "list";
    bool is_list = strcmp(verb, "list") == 0;
    if (!is_list && strcmp(verb, "add") != 0 && strcmp(verb, "remove") != 0)
        return cli_usage(cli, "\"%s\" is none of list, add and remove", verb);
    if (is_list ? cli->operand_count > 1 : cli->operand_count < 2)
        return cli_usage(cli, is_list ? "list takes no address" : "%s needs an address: HOST:PORT", verb);
    int exit_code = cli_options(cli, &options);
    char *answer = exit_code == 0 ? malloc(ASK_ANSWER_BYTES) : NULL;
    if (exit_code == 0 && answer == NULL)
        exit_code = cli_fail(cli, LARDER_ENO_MEMORY, NULL);
    if (exit_code == 0)
        exit_code = is_list ? list(cli, &options, answer) : change(cli, &options, verb, answer);
    free(answer);
    return exit_code;
}

const struct verb verb_peers = {
    .name = "peers",
    .summary = "list, add and remove the peers of a running larderd",
    .operands = "[list | add ADDRESS... | remove ADDRESS...]",
    .description =
        "Asks the larderd that works on the segment, at the Unix socket that it keeps beside it. `list` shows each "
        "peer "
        "with the state of its link, who named it (configured, added, found by discover), and how the link is secured. "
        "`add` and `remove` take effect at once; no larderd is restarted, and no change is lost: a new peer is sent "
        "everything, whatever it had before. A link is secured by nothing (loopback addresses only), or by TLS with a "
        "pre-shared key or the certificate whose subject is shown.\n\n"
        "Both hosts must have each other as peers. What was added or removed here stays so when larderd reads its "
        "configuration again (SIGHUP), unless that has begun or ceased to name this very address since; it is "
        "forgotten "
        "when larderd ends.\n\n"
        "Root and the user whose larderd it is may change peers; the segment's group may list them.",
    .output =
        "list: node, advertise, keys, keys_end_s (seconds until the certificate ends; null: it does not), refused "
        "(connections), revocation_lists (how many are loaded), revocation_lists_end_s (seconds until the first of "
        "them "
        "to end needs a successor, 0 or less: it is overdue; null: there is none, or it has no end), peers "
        "[{address, state, sources, node, remote, secured_by, unacked (changes here that the peer has not "
        "acknowledged, but for those of stripes that it is sent as a whole), sent, received, comparisons "
        "(of contents, because they differed), pulled (entries that they found to be lacking here), unsettled (ranges "
        "of "
        "keys in which this host forgot changes that the peer had not heard of), proof_ends_s (seconds until its "
        "certificate ends; null: it has none), modes (of keys: \"same\" or \"differ\" from this host's; null: the peer "
        "was not met yet), sent_bytes, received_bytes (of frames, since it became a peer), clock_refusals (links that "
        "were refused since its wall clock or its versions differ by more than clock_limit_ms), resync_stripes (whose "
        "entries are to be walked or compared for this peer, and acknowledged), sending (null: nothing is under way; "
        "{share, seconds_left}: of what it is to be sent by walks or by a comparison, the share that was gone through, "
        "0 to 0.999, and how long the rest will take at the rate of the last seconds, null: unknown), fetching (the "
        "same of what this host looks for at the peer), looked_at (hints and entries of the segment that were read for "
        "this peer)}]. add, remove: changed "
        "(how many).",
    .examples = "larder peers --name sessions\n"
                "larder peers add 10.0.0.7:7411 --name sessions\n"
                "larder peers list --name sessions --json | jq '.peers[] | select(.state != \"LIVE\") .address'",
    .options = NULL,
    .min_operands = 0,
    .max_operands = UINT_MAX,
    .on_segment = true,
    .run = peers_run,
};
