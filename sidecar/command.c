/* SPDX-License-Identifier: MIT */
/* See command.h. */
#include "command.h"

#include "log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

struct answer {
    char *out;
    size_t len, cap;
};

static void say(struct answer *answer, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct answer *answer, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int more = vsnprintf(answer->out + answer->len, answer->cap - answer->len, format, arguments);
    va_end(arguments);
    size_t left = answer->cap - answer->len - 1;
    answer->len += more > 0 && (size_t)more < left ? (size_t)more : left;
}

/* A text that may come from a peer: one field, whatever is in it. */
static void say_field(struct answer *answer, const char *text) {
    size_t from = answer->len;
    say(answer, "\t%s", text != NULL && text[0] != '\0' ? text : "-");
    for (size_t i = from + 1; i < answer->len; i++)
        if ((unsigned char)answer->out[i] < ' ' || answer->out[i] == 0x7f)
            answer->out[i] = '?';
}

static void refuse(struct answer *answer, int error, const char *text) {
    say(answer, "error\t%d", error);
    say_field(answer, text);
    say(answer, "\n");
}

/* Seconds until a proof ends, or that there is no such end. */
static void say_end(struct answer *answer, int64_t seconds) {
    if (seconds == INT64_MAX)
        say_field(answer, "");
    else
        say(answer, "\t%" PRId64, seconds);
}

/* What is done, in thousandths, and the seconds that are left. */
static void say_progress(struct answer *answer, const struct lr_progress *progress) {
    const uint64_t seconds = lr_progress_seconds(progress);
    unsigned thousandths;
    if (lr_progress_share(progress, &thousandths))
        say(answer, "\t%u", thousandths);
    else
        say_field(answer, "");
    say_end(answer, seconds < INT64_MAX ? (int64_t)seconds : INT64_MAX);
}

/* ---- list -------------------------------------------------------------------------------------------------------- */

static void list_peer(struct answer *answer, const struct lr_command *on, const struct lr_peer *peer) {
    const struct lr_roster_row *row = lr_roster_find(on->roster, peer->address);
    char sources[64] = "";
    if (row != NULL)
        snprintf(sources, sizeof sources, "%s%s%s", row->configured ? "configured," : "", row->added ? "added," : "",
                 row->found ? "found," : "");
    if (sources[0] != '\0')
        sources[strlen(sources) - 1] = '\0';
    say(answer, "peer");
    say_field(answer, peer->address);
    say_field(answer, lr_peer_state_name(peer->state));
    say_field(answer, sources);
    say_field(answer, peer->known ? peer->name : "");
    say_field(answer, peer->link != NULL ? peer->link->remote : "");
    say_field(answer, peer->link != NULL ? lr_tcp_secured_by(peer->link) : "");
    const struct lr_lacking lacking = lr_outflow_lacking(peer);
    say(answer, "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64, lacking.changes, peer->out.entries_sent,
        peer->link != NULL ? peer->link->in.applied : 0);
    say(answer, "\t%" PRIu64 "\t%" PRIu64 "\t%u", peer->comparisons, peer->pulled, lr_settle_left(peer));
    say_end(answer, peer->link != NULL ? lr_tcp_proof_seconds_left(peer->link) : INT64_MAX);
    say_field(answer, !peer->known ? "" : peer->modes == lr_modes_hash(peer->node->cache) ? "same" : "differ");
    say(answer, "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64, peer->sent_bytes, peer->received_bytes, peer->clock_refusals);
    say(answer, "\t%" PRIu32, lacking.stripes);
    say_progress(answer, &peer->sending);
    say_progress(answer, &peer->fetching);
    say(answer, "\t%" PRIu64, peer->out.looked_at);
    say(answer, "\n");
}

static void list(struct answer *answer, const struct lr_command *on) {
    const struct lr_tls *keys = on->tcp->keys;
    say(answer, "ok\nhost");
    say_field(answer, on->node->name);
    say_field(answer, on->advertise);
    say_field(answer, keys != NULL ? lr_tls_describe(keys) : "none, loopback only");
    say_end(answer, keys != NULL ? lr_tls_seconds_left(keys) : INT64_MAX);
    say(answer, "\t%" PRIu64 "\t%u", on->tcp->refused + on->node->refused, keys != NULL ? lr_tls_list_count(keys) : 0);
    say_end(answer, keys != NULL ? lr_tls_lists_seconds_left(keys) : INT64_MAX);
    say(answer, "\n");
    for (unsigned i = 0; i < on->node->peer_count; i++)
        list_peer(answer, on, on->node->peers[i]);
}

/* ---- change ------------------------------------------------------------------------------------------------------ */

static void add(struct answer *answer, const struct lr_command *on, const char *address) {
    char host[LR_ADDRESS_BYTES], port[6], why[LR_WHY_BYTES] = "";
    if (strlen(address) >= LR_ADDRESS_BYTES || !lr_config_split(address, host, port, why) ||
        !lr_tcp_admits(on->tcp, address, false, why)) {
        refuse(answer, LARDER_EINVALID, why[0] != '\0' ? why : "that address is too long");
        return;
    }
    if (strcmp(address, on->advertise) == 0 || lr_tcp_is_wildcard(address)) {
        refuse(answer, LARDER_EINVALID, "that address is this host itself");
        return;
    }
    int error = lr_roster_add(on->roster, address);
    if (error == LARDER_EEXISTS) {
        refuse(answer, error, "it is a peer already");
        return;
    }
    if (error != 0 || !lr_roster_apply(on->roster, on->node)) {
        snprintf(why, sizeof why, "there are %u peers already, which is the most, or no memory", LR_MAX_PEERS);
        refuse(answer, LARDER_EFULL, why);
        return;
    }
    lr_log(LR_INFO, "peer %s: added by an operator peers=%u", address, on->node->peer_count);
    say(answer, "ok\n");
}

static void take_away(struct answer *answer, const struct lr_command *on, const char *address) {
    if (lr_roster_remove(on->roster, address) != 0) {
        refuse(answer, LARDER_ENOT_FOUND, "it is no peer of this host");
        return;
    }
    lr_log(LR_INFO, "peer %s: removed by an operator peers=%u", address, on->node->peer_count - 1);
    lr_roster_apply(on->roster, on->node);
    say(answer, "ok\n");
}

void lr_command_run(const struct lr_command *on, char *line, bool may_change, char *out, size_t cap) {
    struct answer answer = {.out = out, .cap = cap};
    char *rest = line;
    const char *noun = strsep(&rest, " "), *verb = strsep(&rest, " "), *address = rest;
    bool change = verb != NULL && (strcmp(verb, "add") == 0 || strcmp(verb, "remove") == 0);
    out[0] = '\0';
    if (on->node == NULL)
        refuse(&answer, LARDER_EBUSY, "this larderd is stopping");
    else if (strcmp(noun, "peers") == 0 && verb != NULL && strcmp(verb, "list") == 0 && address == NULL)
        list(&answer, on);
    else if (strcmp(noun, "peers") != 0 || !change || address == NULL)
        refuse(&answer, LARDER_EINVALID, "this larderd does not know that request: another release?");
    else if (!may_change)
        refuse(&answer, LARDER_EPERMISSION, "only root and the user whose larderd it is may change its peers");
    else if (strcmp(verb, "add") == 0)
        add(&answer, on, address);
    else
        take_away(&answer, on, address);
}
