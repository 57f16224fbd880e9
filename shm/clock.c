/* SPDX-License-Identifier: MIT */
/*
 * What time is it, and for whom?
 *
 * Deadlines lie in shared memory, so all processes of the host must read the same clock, also those in containers with
 * a time namespace of their own, and it must neither jump with the wall clock nor stand still in suspend. That is the
 * boot clock of the initial namespace: CLOCK_BOOTTIME less the offset that this namespace adds to it. The kernel tells
 * the offset in /proc/self/timens_offsets (absolute, also for nested namespaces):
 *
 *   monotonic           0         0
 *   boottime       200000         0
 *
 * Nothing is stored in the segment: a shared clock word would be stale at the first attach after an idle hour, and one
 * bad writer could poison it for good.
 *
 * Where we cannot know the offset we refuse rather than guess, for a wrong guess serves expired items:
 *  - the file does not exist though /proc is there: a kernel without time namespaces, offset 0;
 *  - /proc is not there, or the file cannot be read or understood: ENO_CLOCK;
 *  - the process has unshared its time namespace, but only its children will be in it: the file tells the children's
 *    offset, not ours: ENO_CLOCK. A child that forks into such a namespace reads the file again when it joins.
 *
 * CLOCK_BOOTTIME is read precisely: it has no coarse sibling, a coarse monotonic clock plus a remembered difference
 * would be wrong after a resume for as long as it was remembered, and only items with a deadline need the time at all.
 * The wall clock serves for versions (coarse suffices: their counter orders what falls into one tick) and for humans.
 */
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OFFSETS_FILE "/proc/self/timens_offsets"
#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define VERSION_MS_MAX ((UINT64_C(1) << (64 - SM_VERSION_MS_SHIFT)) - 1)

/* Finds "boottime <seconds> <nanoseconds>" among the lines. The offset may be negative; it is kept modulo 2^64. */
static bool parse_offsets(const char *text, uint64_t *offset_ns) {
    for (const char *line = text; line != NULL && *line != 0;) {
        int64_t seconds, nanoseconds;
        if (sscanf(line, "boottime %" SCNd64 " %" SCNd64, &seconds, &nanoseconds) == 2) {
            *offset_ns = (uint64_t)seconds * NS_PER_S + (uint64_t)nanoseconds;
            return true;
        }
        line = strchr(line, '\n');
        if (line != NULL)
            line++;
    }
    return false;
}

/* Whether this process itself is in the namespace that the offsets file speaks of. */
static bool offsets_are_ours(void) {
    struct stat own, of_children;
    if (stat("/proc/self/ns/time", &own) != 0 || stat("/proc/self/ns/time_for_children", &of_children) != 0)
        return false;
    return own.st_dev == of_children.st_dev && own.st_ino == of_children.st_ino;
}

int lr_clock_init(struct lr_cache *cache, char *why) {
    uint64_t offset_ns;
    int fd = open(OFFSETS_FILE, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        struct stat self;
        if (errno == ENOENT && stat("/proc/self/stat", &self) == 0) {
            cache->clock_offset_ns = 0;
            return 0;
        }
        return lr_error_explain(LARDER_ENO_CLOCK, why, "%s cannot be opened (%s): mount /proc and make it readable",
                                OFFSETS_FILE, strerror(errno));
    }
    char text[256];
    ssize_t got;
    do
        got = read(fd, text, sizeof text - 1);
    while (got < 0 && errno == EINTR);
    int read_errno = errno;
    close(fd);
    if (got < 0)
        return lr_error_explain(LARDER_ENO_CLOCK, why, "%s cannot be read (%s)", OFFSETS_FILE, strerror(read_errno));
    text[got] = 0;
    if (!parse_offsets(text, &offset_ns))
        return lr_error_explain(LARDER_ENO_CLOCK, why, "%s has no line \"boottime SECONDS NANOSECONDS\"", OFFSETS_FILE);
    if (!offsets_are_ours())
        return lr_error_explain(LARDER_ENO_CLOCK, why,
                                "this process has left its time namespace for its children only (unshare), so its own "
                                "offset cannot be read: attach in a child, or after exec");
    cache->clock_offset_ns = offset_ns;
    return 0;
}

static uint64_t read_ns(clockid_t clock) {
    struct timespec now;
    /* Fails only for a clock that the kernel lacks; these four are older than the system calls we need. */
    if (clock_gettime(clock, &now) != 0)
        return 0;
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t lr_now_ms(const struct lr_cache *cache) {
    uint64_t driven_ms = atomic_load_explicit(&cache->driven_ms, memory_order_relaxed);
    if (driven_ms != 0)
        return driven_ms;
    return (read_ns(CLOCK_BOOTTIME) - cache->clock_offset_ns) / NS_PER_MS;
}

void lr_drive_clock(struct lr_cache *cache, uint64_t now_ms) {
    atomic_store_explicit(&cache->driven_ms, now_ms, memory_order_relaxed);
}

uint64_t lr_since_2020(uint64_t unix_ms) {
    if (unix_ms < SM_VERSION_EPOCH_MS)
        return 0; /* a host without a set clock: the per-stripe clocks still rise */
    uint64_t ms = unix_ms - SM_VERSION_EPOCH_MS;
    return ms < VERSION_MS_MAX ? ms : VERSION_MS_MAX;
}

uint64_t lr_wall_2020_ms(void) {
    return lr_since_2020(read_ns(CLOCK_REALTIME_COARSE) / NS_PER_MS);
}

uint64_t lr_unix_ms(void) {
    return read_ns(CLOCK_REALTIME) / NS_PER_MS;
}

uint64_t lr_monotonic_ns(void) {
    return read_ns(CLOCK_MONOTONIC);
}
