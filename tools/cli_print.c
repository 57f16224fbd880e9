/* SPDX-License-Identifier: MIT */
/* Figures, bytes and colours for human eyes, and the one way in which JSON leaves. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int cli_print_json(json_t *object) {
    json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    fputc('\n', stdout);
    json_decref(object);
    return CLI_YES;
}

json_t *cli_json_exact(const void *bytes, size_t len) {
    return memchr(bytes, 0, len) == NULL ? json_stringn(bytes, len) : NULL;
}

json_t *cli_json_bytes(const void *bytes, size_t len) {
    json_t *text = cli_json_exact(bytes, len);
    if (text != NULL)
        return text;
    char *escaped = malloc(4 * len + 1);
    if (escaped == NULL)
        return json_null();
    text = json_stringn(escaped, cli_escape(bytes, len, escaped));
    free(escaped);
    return text;
}

json_t *cli_json_text(const char *text) {
    return cli_json_bytes(text, strlen(text));
}

json_t *cli_json_hex(const void *bytes, size_t len) {
    static const char digits[] = "0123456789abcdef";
    const unsigned char *from = bytes;
    char *hex = malloc(2 * len + 1);
    if (hex == NULL)
        return json_null();
    for (size_t i = 0; i < len; i++) {
        hex[2 * i] = digits[from[i] >> 4];
        hex[2 * i + 1] = digits[from[i] & 15];
    }
    json_t *text = json_stringn(hex, 2 * len);
    free(hex);
    return text;
}

json_t *cli_json_version(uint64_t version) {
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)version);
    return json_string(text);
}

size_t cli_escape(const void *bytes, size_t len, char *out) {
    const unsigned char *from = bytes;
    char *to = out;
    for (size_t i = 0; i < len; i++) {
        if (from[i] < 0x20 || from[i] >= 0x7f || from[i] == '\\')
            to += sprintf(to, "\\x%02x", from[i]);
        else
            *to++ = (char)from[i];
    }
    *to = 0;
    return (size_t)(to - out);
}

const char *cli_format_bytes(char out[CLI_FORMAT_BYTES], uint64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double scaled = (double)bytes;
    unsigned unit = 0;
    while (scaled >= 1024 && unit < 6) {
        scaled /= 1024;
        unit++;
    }
    snprintf(out, CLI_FORMAT_BYTES, unit == 0 ? "%.0f %s" : "%.1f %s", scaled, units[unit]);
    return out;
}

/* 12345678 as 12,345,678. */
const char *cli_format_count(char out[CLI_FORMAT_BYTES], uint64_t count) {
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)count);
    char *to = out;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = 0;
    return out;
}

const char *cli_format_ns(char out[CLI_FORMAT_BYTES], double ns) {
    if (ns < 1e3)
        snprintf(out, CLI_FORMAT_BYTES, "%.0f ns", ns);
    else if (ns < 1e6)
        snprintf(out, CLI_FORMAT_BYTES, "%.1f us", ns / 1e3);
    else if (ns < 1e9)
        snprintf(out, CLI_FORMAT_BYTES, "%.1f ms", ns / 1e6);
    else
        snprintf(out, CLI_FORMAT_BYTES, "%.1f s", ns / 1e9);
    return out;
}

const char *cli_format_age(char out[CLI_FORMAT_BYTES], uint64_t ms) {
    uint64_t s = ms / 1000;
    if (s < 60)
        snprintf(out, CLI_FORMAT_BYTES, "%.1f s", (double)ms / 1000);
    else if (s < 3600)
        snprintf(out, CLI_FORMAT_BYTES, "%u min %u s", (unsigned)(s / 60), (unsigned)(s % 60));
    else if (s < 86400)
        snprintf(out, CLI_FORMAT_BYTES, "%u h %u min", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
    else
        snprintf(out, CLI_FORMAT_BYTES, "%llu d %u h", (unsigned long long)(s / 86400), (unsigned)(s / 3600 % 24));
    return out;
}

const char *cli_format_time(char out[CLI_FORMAT_BYTES], uint64_t unix_ms) {
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm parts;
    if (unix_ms > UINT64_C(253402300799000) || localtime_r(&seconds, &parts) == NULL ||
        strftime(out, CLI_FORMAT_BYTES, "%Y-%m-%d %H:%M:%S", &parts) == 0)
        snprintf(out, CLI_FORMAT_BYTES, "unknown");
    return out;
}

const char *cli_colour(FILE *stream, enum cli_colour colour) {
    static const char *const codes[] = {"\033[0m", "\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[33m"};
    const char *forbidden = getenv("NO_COLOR");
    bool allowed = isatty(fileno(stream)) && (forbidden == NULL || forbidden[0] == 0);
    return allowed ? codes[colour] : "";
}
