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
