/* SPDX-License-Identifier: MIT */
/*
 * Reading a trace: bytes -> (zstd) -> lines -> rows.
 *
 *   descriptor --read--> input --(decompress)--> text[kept | new] --lines--> rows
 *                                                   ^ what is left of a cut line moves to the front
 *
 * The text window is a little larger than a line may be, so a line that does not fit is an error, not a case. Numbers
 * are parsed by hand: a trace of millions of lines loads in a fraction of a second.
 */
#include "trace.h"

#include "larder_errors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#define INPUT_BYTES (256u << 10)
#define TEXT_BYTES (1u << 20)
#define LINE_BYTES 1024u /* a line of the format has at most 60 */

struct reading {
    const char *name;
    struct trace *trace;
    char *why;
    uint64_t line;
    uint32_t time_s; /* of the row before */
};

/* ---- rows ------------------------------------------------------------------------------------------------------- */

int trace_push(struct trace *trace, uint32_t time_s, uint32_t key, uint32_t size, enum trace_op op, uint32_t ttl_s) {
    if (trace->count == trace->capacity) {
        size_t capacity = trace->capacity ? trace->capacity * 2u : 65536u;
        struct trace_row *rows = realloc(trace->rows, capacity * sizeof *rows);
        if (rows == NULL)
            return LARDER_ENO_MEMORY;
        trace->rows = rows;
        trace->capacity = capacity;
    }
    trace->rows[trace->count++] =
        (struct trace_row){.time_s = time_s, .key = key, .size = size, .ttl_op = ttl_s << 2 | (uint32_t)op};
    return 0;
}

int trace_finish(struct trace *trace) {
    trace->key_limit = 0;
    for (size_t i = 0; i < trace->count; i++)
        if (trace->rows[i].key >= trace->key_limit)
            trace->key_limit = trace->rows[i].key + 1u;
    uint32_t *largest = calloc((size_t)trace->key_limit + 1u, sizeof *largest); /* size + 1; 0: not seen */
    if (largest == NULL)
        return LARDER_ENO_MEMORY;
    trace->keys = trace->max_size = 0;
    trace->footprint = trace->gets = trace->sets = trace->dels = 0;
    for (size_t i = 0; i < trace->count; i++) {
        const struct trace_row *row = &trace->rows[i];
        uint32_t *seen = &largest[row->key];
        if (*seen == 0) {
            trace->keys++;
            *seen = 1;
        }
        if (row->size >= *seen) {
            trace->footprint += row->size + 1u - *seen;
            *seen = row->size + 1u;
        }
        if (row->size > trace->max_size)
            trace->max_size = row->size;
        enum trace_op op = trace_row_op(row);
        trace->gets += op == TRACE_GET;
        trace->sets += op == TRACE_SET;
        trace->dels += op == TRACE_DEL;
    }
    free(largest);
    return 0;
}

void trace_free(struct trace *trace) {
    free(trace->rows);
    *trace = (struct trace){0};
}

/* ---- lines ------------------------------------------------------------------------------------------------------ */

/* Says where and what; `at` is where in the line the trouble is. */
static int fail_at(const struct reading *reading, const char *start, const char *at, const char *end,
                   const char *expected) {
    char found[24];
    size_t len = 0;
    for (const char *p = at; p < end && *p != ',' && len + 1 < sizeof found; p++)
        found[len++] = *p >= ' ' && *p <= '~' ? *p : '?';
    found[len] = '\0';
    snprintf(reading->why, TRACE_WHY_BYTES, "%s:%llu:%zu: expected %s, found %s%s%s", reading->name,
             (unsigned long long)reading->line, (size_t)(at - start) + 1u, expected, len ? "'" : "",
             len         ? found
             : at == end ? "the end of the line"
                         : "an empty field",
             len ? "'" : "");
    return LARDER_EINVALID;
}

/* Digits up to a comma or the line's end. False when there are none, others, or too many. */
static bool take_number(const char **at, const char *end, uint64_t limit, uint32_t *out) {
    const char *p = *at;
    uint64_t number = 0;
    if (p == end || *p < '0' || *p > '9')
        return false;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        number = number * 10u + (uint64_t)(*p - '0');
        if (number > limit)
            return false;
    }
    if (p < end && *p != ',')
        return false;
    *out = (uint32_t)number;
    *at = p;
    return true;
}

static bool take_comma(const char **at, const char *end) {
    if (*at == end || **at != ',')
        return false;
    ++*at;
    return true;
}

static bool take_op(const char **at, const char *end, enum trace_op *out) {
    const char *p = *at;
    if (end - p < 3 || (end - p > 3 && p[3] != ','))
        return false;
    if (memcmp(p, "get", 3) == 0)
        *out = TRACE_GET;
    else if (memcmp(p, "set", 3) == 0)
        *out = TRACE_SET;
    else if (memcmp(p, "del", 3) == 0)
        *out = TRACE_DEL;
    else
        return false;
    *at = p + 3;
    return true;
}

static int parse_line(struct reading *reading, const char *start, const char *end) {
    const char *at = start;
    uint32_t time_s, key, size, ttl_s;
    enum trace_op op;
    if (end > start && end[-1] == '\r')
        end--;
    if (start == end || *start == '#')
        return 0;
    if (!take_number(&at, end, UINT32_MAX, &time_s))
        return fail_at(reading, start, at, end, "a time in seconds (0 to 4294967295)");
    if (time_s < reading->time_s) {
        char expected[80];
        snprintf(expected, sizeof expected, "a time not before %u, the one before it", reading->time_s);
        return fail_at(reading, start, start, end, expected);
    }
    if (!take_comma(&at, end))
        return fail_at(reading, start, at, end, "a comma and a key (columns are time,key,size,op,ttl)");
    if (!take_number(&at, end, TRACE_MAX_KEY, &key))
        return fail_at(reading, start, at, end, "a dense key number (0 to 268435455)");
    if (!take_comma(&at, end))
        return fail_at(reading, start, at, end, "a comma and a size (columns are time,key,size,op,ttl)");
    if (!take_number(&at, end, UINT32_MAX - 1u, &size))
        return fail_at(reading, start, at, end, "a size in bytes (0 to 4294967294)");
    if (!take_comma(&at, end))
        return fail_at(reading, start, at, end, "a comma and an operation (columns are time,key,size,op,ttl)");
    if (!take_op(&at, end, &op))
        return fail_at(reading, start, at, end, "get, set or del");
    if (!take_comma(&at, end))
        return fail_at(reading, start, at, end, "a comma and a TTL (columns are time,key,size,op,ttl)");
    if (!take_number(&at, end, TRACE_MAX_TTL, &ttl_s))
        return fail_at(reading, start, at, end, "a TTL in seconds (0 to 1073741823)");
    if (at != end)
        return fail_at(reading, start, at, end, "the end of the line after the TTL");
    reading->time_s = time_s;
    int error = trace_push(reading->trace, time_s, key, size, op, ttl_s);
    if (error != 0)
        snprintf(reading->why, TRACE_WHY_BYTES, "%s:%llu: no memory for more than %zu requests", reading->name,
                 (unsigned long long)reading->line, reading->trace->count);
    return error;
}

/* Parses the complete lines of text[0, *len), and the rest too when it is the last; moves what is left to the front. */
static int parse_text(struct reading *reading, char *text, size_t *len, bool last) {
    char *at = text, *end = text + *len;
    while (at < end) {
        char *newline = memchr(at, '\n', (size_t)(end - at));
        if (newline == NULL && !last && end - at <= (ptrdiff_t)LINE_BYTES)
            break;
        reading->line++;
        char *stop = newline ? newline : end;
        if (stop - at > (ptrdiff_t)LINE_BYTES)
            return fail_at(reading, at, at + LINE_BYTES, stop, "the end of the line within 1024 bytes");
        int error = parse_line(reading, at, stop);
        if (error != 0)
            return error;
        at = newline ? newline + 1 : end;
    }
    *len = (size_t)(end - at);
    memmove(text, at, *len);
    return 0;
}

/* ---- bytes ------------------------------------------------------------------------------------------------------ */

/* Fills the buffer as far as the file goes. Bytes, or -1 with errno. */
static ssize_t read_some(int fd, void *buffer, size_t cap) {
    size_t have = 0;
    while (have < cap) {
        ssize_t got = read(fd, (char *)buffer + have, cap - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

static int fail_read(const struct reading *reading) {
    int error = errno == EACCES || errno == EPERM ? LARDER_EPERMISSION : LARDER_EINVALID;
    snprintf(reading->why, TRACE_WHY_BYTES, "%s: cannot read the trace: %s", reading->name, strerror(errno));
    return error;
}

static int read_plain(struct reading *reading, int fd, char *input, size_t got, char *text) {
    size_t len = 0;
    while (got > 0) {
        memcpy(text + len, input, got);
        len += got;
        int error = parse_text(reading, text, &len, false);
        if (error != 0)
            return error;
        ssize_t more = read_some(fd, input, INPUT_BYTES);
        if (more < 0)
            return fail_read(reading);
        got = (size_t)more;
    }
    return parse_text(reading, text, &len, true);
}

static int read_zstd(struct reading *reading, int fd, char *input, size_t got, char *text) {
    ZSTD_DStream *stream = ZSTD_createDStream();
    size_t len = 0, state = 1;
    int error = stream ? 0 : LARDER_ENO_MEMORY;
    while (error == 0 && got > 0) {
        ZSTD_inBuffer in = {.src = input, .size = got, .pos = 0};
        ZSTD_outBuffer out;
        /* A full output buffer may mean that more is waiting inside. */
        do {
            out = (ZSTD_outBuffer){.dst = text + len, .size = TEXT_BYTES - len, .pos = 0};
            state = ZSTD_decompressStream(stream, &out, &in);
            if (ZSTD_isError(state)) {
                snprintf(reading->why, TRACE_WHY_BYTES, "%s: damaged zstd data after line %llu: %s", reading->name,
                         (unsigned long long)reading->line, ZSTD_getErrorName(state));
                error = LARDER_EINVALID;
                break;
            }
            len += out.pos;
            error = parse_text(reading, text, &len, false);
        } while (error == 0 && (in.pos < in.size || out.pos == out.size));
        if (error != 0)
            break;
        ssize_t more = read_some(fd, input, INPUT_BYTES);
        if (more < 0)
            error = fail_read(reading);
        else
            got = (size_t)more;
    }
    ZSTD_freeDStream(stream);
    if (error == 0 && state != 0) {
        snprintf(reading->why, TRACE_WHY_BYTES, "%s: the zstd data ends in the middle of a frame after line %llu",
                 reading->name, (unsigned long long)reading->line);
        error = LARDER_EINVALID;
    }
    return error != 0 ? error : parse_text(reading, text, &len, true);
}

int trace_read(int fd, const char *name, struct trace *out, char *why) {
    static const unsigned char zstd_magic[4] = {0x28, 0xb5, 0x2f, 0xfd};
    struct reading reading = {.name = name, .trace = out, .why = why};
    *out = (struct trace){0};
    why[0] = '\0';
    char *input = malloc(INPUT_BYTES), *text = malloc(TEXT_BYTES);
    int error = input && text ? 0 : LARDER_ENO_MEMORY;
    if (error != 0)
        goto done;
    ssize_t got = read_some(fd, input, INPUT_BYTES);
    if (got < 0)
        error = fail_read(&reading);
    else if (got >= 4 && memcmp(input, zstd_magic, 4) == 0)
        error = read_zstd(&reading, fd, input, (size_t)got, text);
    else
        error = read_plain(&reading, fd, input, (size_t)got, text);
    if (error == 0 && out->count == 0) {
        snprintf(why, TRACE_WHY_BYTES, "%s: no request in %llu lines; expected time,key,size,op,ttl", name,
                 (unsigned long long)reading.line);
        error = LARDER_EINVALID;
    }
    if (error == 0)
        error = trace_finish(out);
done:
    if (error == LARDER_ENO_MEMORY && why[0] == '\0')
        snprintf(why, TRACE_WHY_BYTES, "%s: no memory to load the trace", name);
    if (error != 0)
        trace_free(out);
    free(input);
    free(text);
    return error;
}

int trace_load(const char *file, struct trace *out, char *why) {
    if (strcmp(file, "-") == 0)
        return trace_read(STDIN_FILENO, "standard input", out, why);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        struct reading reading = {.name = file, .why = why};
        *out = (struct trace){0};
        return fail_read(&reading);
    }
    int error = trace_read(fd, file, out, why);
    close(fd);
    return error;
}
