/* SPDX-License-Identifier: MIT */
/*
 * Traces (tools/trace.c): lines, plain or compressed.
 *
 * Refused with a reason that names the line, or: the totals add up, memory is in proportion to the requests, and the
 * requests, printed and read again, plain and compressed, are the same. Runs of digits are cut to six, but for one
 * input in sixteen: a key of nine digits is a table of a GiB, by design.
 */
#include "fuzz.h"

#include "trace.h"

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

static int open_copy(const void *bytes, size_t len) {
    int fd = memfd_create("trace", MFD_CLOEXEC);
    MUST(fd >= 0 && write(fd, bytes, len) == (ssize_t)len && lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

static int read_bytes(const void *bytes, size_t len, struct trace *out, char *why) {
    int fd = open_copy(bytes, len);
    int error = trace_read(fd, "input", out, why);
    close(fd);
    return error;
}

static void same(const struct trace *one, const void *bytes, size_t len) {
    struct trace two;
    char why[TRACE_WHY_BYTES];
    MUST(read_bytes(bytes, len, &two, why) == 0);
    MUST(two.count == one->count && memcmp(two.rows, one->rows, one->count * sizeof *one->rows) == 0);
    MUST(two.keys == one->keys && two.footprint == one->footprint && two.key_limit == one->key_limit);
    trace_free(&two);
}

static void print_and_read(const struct trace *trace) {
    static const char *const ops[] = {"get", "set", "del"};
    char text[65536], packed[70000];
    size_t used = 0;
    for (size_t i = 0; i < trace->count && used + 80 < sizeof text; i++) {
        const struct trace_row *row = &trace->rows[i];
        MUST(trace_row_op(row) <= TRACE_DEL);
        used += (size_t)snprintf(text + used, sizeof text - used, "%u,%u,%u,%s,%u\n", row->time_s, row->key, row->size,
                                 ops[trace_row_op(row)], trace_row_ttl_s(row));
        if (i + 1 == trace->count) {
            same(trace, text, used);
            size_t bytes = ZSTD_compress(packed, sizeof packed, text, used, 1);
            MUST(!ZSTD_isError(bytes));
            same(trace, packed, bytes);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    static uint8_t copy[8192];
    struct trace trace;
    char why[TRACE_WHY_BYTES] = "";
    size_t used = 0, run = 0;
    bool long_keys = len > 0 && data[0] % 16 == 0;
    for (size_t i = 0; i < len && used < sizeof copy; i++) {
        run = data[i] >= '0' && data[i] <= '9' ? run + 1 : 0;
        if (run <= 6 || (long_keys && run <= 7))
            copy[used++] = data[i];
    }
    int error = read_bytes(copy, used, &trace, why);
    MUST(memchr(why, 0, sizeof why) != NULL);
    if (error != 0) {
        MUST(error < 0 && why[0] != 0 && trace.rows == NULL && trace.count == 0);
        return 0;
    }
    MUST(trace.count > 0 && trace.gets + trace.sets + trace.dels == trace.count);
    MUST(trace.capacity <= 65536 || trace.capacity <= 2 * trace.count);
    MUST(trace.keys > 0 && trace.keys <= trace.count && trace.keys <= trace.key_limit);
    for (size_t i = 1; i < trace.count; i++)
        MUST(trace.rows[i].time_s >= trace.rows[i - 1].time_s);
    print_and_read(&trace);
    trace_free(&trace);
    return 0;
}
