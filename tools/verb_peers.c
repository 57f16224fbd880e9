/* SPDX-License-Identifier: MIT */
/*
 * `larder peers`: whom does the larderd of this segment exchange changes with, and shall that be somebody else?
 *
 * It asks the running larderd at the Unix socket beside the segment (control_address.h): one line each way, whose words
 * sidecar/command.h lists. The socket's other end must run as root, as us, or as the --owner: a stranger who put a
 * socket there would be believed otherwise. Several addresses are one request each; the first failure ends it.
 */
#include "cli.h"
#include "control_address.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define ANSWER_BYTES (128u << 10)
#define PATIENCE_S 5
#define HOST_FIELDS 6u
#define PEER_FIELDS 10u

/* ---- asking ------------------------------------------------------------------------------------------------------ */

static int fail_to_connect(const struct cli *cli, const struct sockaddr_un *address, int reason) {
    const char *path = address->sun_path;
    if (reason == EACCES || reason == EPERM)
        return cli_fail_with(cli, LARDER_EPERMISSION, "ask as root, or as the user whose larderd it is",
                             "not admitted to the larderd at %s", path);
    if (reason == EAGAIN || reason == EINPROGRESS)
        return cli_fail_with(cli, LARDER_ETIMED_OUT, "see its log", "the larderd at %s does not answer", path);
    return cli_fail_with(cli, LARDER_ENO_SEGMENT, "start larderd for this segment, or name another one",
                         "no larderd listens at %s: %s", path, strerror(reason));
}

static bool is_trusted(int fd, const struct lr_options *options) {
    struct ucred who;
    socklen_t len = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
           (who.uid == 0 || who.uid == geteuid() || who.uid == options->owner || geteuid() == 0);
}

/* 0 and *out, a connection; else the exit code of a failure that has been reported. */
static int reach(const struct cli *cli, const struct lr_options *options, int *out) {
    struct sockaddr_un address;
    char why[LR_WHY_BYTES] = "";
    if (lr_control_address(options, &address, why) != 0)
        return cli_fail(cli, LARDER_EINVALID, "%s", why);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = PATIENCE_S};
    if (fd < 0)
        return cli_fail(cli, LARDER_ESYSTEM, "no socket can be made: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    int exit_code = 0;
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        exit_code = fail_to_connect(cli, &address, errno);
    else if (!is_trusted(fd, options))
        exit_code = cli_fail_with(cli, LARDER_EPERMISSION, "name its user by --owner if you trust that one",
                                  "%s belongs to a process of another user", address.sun_path);
    if (exit_code == 0)
        *out = fd;
    else
        close(fd);
    return exit_code;
}

/* Sends the line and reads the answer as a string: "ok", or the failure has been reported. */
static int ask(const struct cli *cli, const struct lr_options *options, const char *line, char answer[ANSWER_BYTES]) {
    int fd = -1;
    size_t len = 0;
    int exit_code = reach(cli, options, &fd);
    if (exit_code != 0)
        return exit_code;
    ssize_t got = send(fd, line, strlen(line), MSG_NOSIGNAL);
    while (got > 0 && len < ANSWER_BYTES - 1 && (got = recv(fd, answer + len, ANSWER_BYTES - 1 - len, 0)) > 0)
        len += (size_t)got;
    answer[len] = '\0';
    close(fd);
    if (got < 0 || strchr(answer, '\n') == NULL)
        return cli_fail_with(cli, LARDER_ETIMED_OUT, "see larderd's log", "larderd has not answered");
    if (strncmp(answer, "ok\n", 3) == 0)
        return 0;
    char *text = strncmp(answer, "error\t", 6) == 0 ? strchr(answer + 6, '\t') : NULL;
    int error = text != NULL ? (int)strtol(answer + 6, NULL, 10) : 0;
    if (error >= 0)
        return cli_fail(cli, LARDER_EVERSION, "larderd speaks of peers in another way than this program");
    text[strcspn(text, "\n")] = '\0';
    return cli_fail_with(cli, error, "see `larder peers list` and `larder peers --help`", "%.*s: %s",
                         (int)strcspn(line, "\n"), line, text + 1);
}

/* ---- list -------------------------------------------------------------------------------------------------------- */

/* Cuts a line into fields; those that are missing are "-". */
static void cut(char *line, char **fields, unsigned count) {
    static char none[] = "-";
    for (unsigned i = 0; i < count; i++) {
        char *field = line != NULL ? strsep(&line, "\t") : none;
        fields[i] = field;
    }
}

static json_t *text_or_null(const char *field) {
    return strcmp(field, "-") == 0 ? json_null() : cli_json_text(field);
}

static json_t *number_or_null(const char *field) {
    return strcmp(field, "-") == 0 ? json_null() : json_integer((json_int_t)strtoll(field, NULL, 10));
}

static json_t *host_to_json(char **fields) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "node", text_or_null(fields[1]), "advertise", text_or_null(fields[2]),
                     "keys", text_or_null(fields[3]), "keys_end_s", number_or_null(fields[4]), "refused",
                     number_or_null(fields[5]));
}

static json_t *peer_to_json(char **fields) {
    json_t *sources = json_array();
    char *rest = fields[3];
    for (char *source = strsep(&rest, ","); source != NULL; source = strsep(&rest, ","))
        json_array_append_new(sources, json_string(source));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "address", text_or_null(fields[1]), "state",
                     text_or_null(fields[2]), "sources", sources, "node", text_or_null(fields[4]), "remote",
                     text_or_null(fields[5]), "secured_by", text_or_null(fields[6]), "unacked",
                     number_or_null(fields[7]), "sent", number_or_null(fields[8]), "received",
                     number_or_null(fields[9]));
}

static void print_host(char **fields) {
    printf("%s%s%s at %s\n  keys       %s\n  refused    %s connections since larderd began\n",
           cli_colour(stdout, CLI_BOLD), fields[1], cli_colour(stdout, CLI_PLAIN), fields[2], fields[3], fields[5]);
}

static void print_peer(char **fields) {
    bool live = strcmp(fields[2], "LIVE") == 0;
    printf("peer %s  %s%s%s\n", fields[1], cli_colour(stdout, live ? CLI_GREEN : CLI_YELLOW), fields[2],
           cli_colour(stdout, CLI_PLAIN));
    printf("  named by   %s\n  node       %s\n  link       %s, secured by %s\n", fields[3], fields[4], fields[5],
           fields[6]);
    printf("  changes    %s unacknowledged, %s sent, %s received on this link\n", fields[7], fields[8], fields[9]);
}

static int list(const struct cli *cli, const struct lr_options *options, char *answer) {
    char *fields[PEER_FIELDS], *rest = answer;
    json_t *object = NULL, *peers = json_array();
    int exit_code = ask(cli, options, "peers list\n", answer);
    for (char *line; exit_code == 0 && (line = strsep(&rest, "\n")) != NULL;) {
        bool is_host = strncmp(line, "host\t", 5) == 0, is_peer = strncmp(line, "peer\t", 5) == 0;
        if (is_host || is_peer)
            cut(line, fields, is_host ? HOST_FIELDS : PEER_FIELDS);
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
    char *answer = exit_code == 0 ? malloc(ANSWER_BYTES) : NULL;
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
        "everything, whatever it had before.\n\n"
        "Both hosts must have each other as peers. What was added or removed here stays so when larderd reads its "
        "configuration again (SIGHUP), unless that has begun or ceased to name this very address since; it is "
        "forgotten "
        "when larderd ends.\n\n"
        "Root and the user whose larderd it is may change peers; the segment's group may list them.",
    .output =
        "list: node, advertise, keys, keys_end_s (seconds until the certificate ends; null: it does not), refused "
        "(connections), peers [{address, state, sources, node, remote, secured_by, unacked, sent, received}]. "
        "add, remove: changed (how many).",
    .examples = "larder peers --name sessions\n"
                "larder peers add 10.0.0.7:7411 --name sessions\n"
                "larder peers list --name sessions --json | jq '.peers[] | select(.state != \"LIVE\") .address'",
    .options = NULL,
    .min_operands = 0,
    .max_operands = UINT_MAX,
    .on_segment = true,
    .run = peers_run,
};
