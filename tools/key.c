/* SPDX-License-Identifier: MIT */
/* Keys between the command line, messages and JSON: any bytes must survive the way in and out. */
#include "key.h"

#include "layout.h"

#include <string.h>

static int digit_value(char digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

static int decode_hex(const struct cli *cli, char *text, size_t *len) {
    size_t digits = strlen(text);
    if (digits % 2 != 0)
        return cli_usage(cli, "key \"%.64s\" has %zu hexadecimal digits, but must have an even number", text, digits);
    for (size_t i = 0; i < digits; i += 2) {
        int high = digit_value(text[i]), low = digit_value(text[i + 1]);
        if (high < 0 || low < 0)
            return cli_usage(cli, "key has \"%.2s\" at digit %zu, which is not hexadecimal", text + i, i);
        text[i / 2] = (char)(high << 4 | low);
    }
    *len = digits / 2;
    return 0;
}

int key_read(const struct cli *cli, char *text, struct key *out) {
    size_t len = strlen(text);
    if (cli_given(cli, "hex-key")) {
        int exit_code = decode_hex(cli, text, &len);
        if (exit_code != 0)
            return exit_code;
    }
    if (len == 0 || len > SM_MAX_KEY)
        return cli_usage(cli, "the key has %zu bytes, but must have 1 to %u", len, SM_MAX_KEY);
    *out = (struct key){.bytes = text, .len = len};
    return 0;
}

int key_check_peers(const struct cli *cli) {
    if (cli_given(cli, "peers") && (cli_number(cli, "peers") < 1 || cli_number(cli, "peers") > LR_AWAIT_PEERS))
        return cli_usage(cli, "option --peers is %s, but must be 1 to %u", cli_text(cli, "peers"), LR_AWAIT_PEERS);
    if (cli_given(cli, "timeout") && !cli_given(cli, "peers"))
        return cli_usage(cli, "option --timeout is given without --peers, for which it counts");
    if (cli_number(cli, "timeout") > UINT32_MAX)
        return cli_usage(cli, "option --timeout is %s, but must be at most 49 days", cli_text(cli, "timeout"));
    return CLI_YES;
}

int key_await_peers(const struct cli *cli, struct lr_cache *cache, const struct key *key, unsigned timeout_ms) {
    const unsigned peers = (unsigned)cli_number(cli, "peers");
    return peers > 0 ? lr_await(cache, key->bytes, key->len, peers, timeout_ms) : 0;
}

/* What becomes of a change that too few have. */
static const char *prospects(struct lr_cache *cache) {
    struct lr_sidecar_state sidecar;
    lr_sidecar_state(cache, &sidecar);
    if (sidecar.alive && sidecar.peers > 0)
        return "larderd goes on sending (see `larder peers`)";
    return lr_replicating(cache) ? "larderd is not running, or has no peers now: the change waits for it"
                                 : "no larderd with peers works on this segment";
}

int key_tell_too_few(const struct cli *cli, struct lr_cache *cache, const struct key *key, int had, json_t *result) {
    char shown[KEY_SHOWN_BYTES], message[2 * LR_WHY_BYTES];
    const int error = had < 0 ? had : LARDER_ETIMED_OUT;
    key_show(shown, key->bytes, key->len);
    if (had < 0)
        snprintf(message, sizeof message, "key \"%s\": done here, but cannot wait for peers: %s", shown,
                 lr_error_text(error));
    else
        snprintf(message, sizeof message,
                 "key \"%s\": done here, but %d of the %u other hosts asked for had it in time; %s", shown, had,
                 (unsigned)cli_number(cli, "peers"), prospects(cache));
    if (!cli->json)
        return cli_fail(cli, error, "%s", message);
    json_object_set_new(result, "error", cli_json_error(error, message, lr_error_remedy(error)));
    cli_print_json(result);
    return cli_exit_code(error);
}

void key_to_json(json_t *object, const void *bytes, size_t len) {
    json_t *text = cli_json_exact(bytes, len);
    json_object_set_new(object, "key", text != NULL ? text : json_null());
    json_object_set_new(object, "key_hex", cli_json_hex(bytes, len));
}

const char *key_show(char out[KEY_SHOWN_BYTES], const void *bytes, size_t len) {
    size_t shown = cli_escape(bytes, len < 64 ? len : 64, out);
    if (len > 64)
        memcpy(out + shown, "...", 4);
    return out;
}
