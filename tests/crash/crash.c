/* SPDX-License-Identifier: MIT */
#include "crash.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define COPY_PIECE 64u /* bytes that a block copy stores at once */

struct crash *crash;
_Atomic bool *crash_reached;

/* The linker's: the crash points of the program. */
extern struct lr_crash_point __start_larder_points[], __stop_larder_points[];

unsigned crash_point_count(void) {
    return (unsigned)(__stop_larder_points - __start_larder_points);
}

const char *crash_point_label(unsigned point) {
    return __start_larder_points[point].label;
}

void crash_arm(uint64_t die_at, const void *base, uint64_t bytes) {
    crash->low = (uint64_t)(uintptr_t)base;
    crash->high = crash->low + bytes;
    crash->count = 0;
    crash->marks = 0;
    crash->die_at = die_at;
    crash->finished = false;
    crash->armed = true;
}

void crash_disarm(void) {
    crash->armed = false;
}

static void instant(void) {
    if (++crash->count != crash->die_at)
        return;
    syscall(SYS_kill, (pid_t)syscall(SYS_getpid), SIGKILL);
    for (;;)
        pause();
}

void lr_crash_point_hit(struct lr_crash_point *point) {
    if (crash == NULL || !crash->armed)
        return;
    uint32_t number = (uint32_t)(point - __start_larder_points);
    if (crash->marks < CRASH_MARKS) {
        crash->mark[crash->marks].at = crash->count + 1;
        crash->mark[crash->marks++].point = number;
    }
    if (crash->count + 1 == crash->die_at)
        crash_reached[number] = true;
    instant();
}

/* ---- called by the instrumented core ------------------------------------------------------------------------------
 */

void crash_before_store(const void *at);
void crash_before_store(const void *at) {
    uint64_t address = (uint64_t)(uintptr_t)at;
    if (crash != NULL && crash->armed && address >= crash->low && address < crash->high)
        instant();
}

#define STORE_HOOK(name, type)                                                                                         \
    void name(type *at);                                                                                               \
    void name(type *at) {                                                                                              \
        crash_before_store(at);                                                                                        \
    }
STORE_HOOK(__sanitizer_cov_store1, uint8_t)
STORE_HOOK(__sanitizer_cov_store2, uint16_t)
STORE_HOOK(__sanitizer_cov_store4, uint32_t)
STORE_HOOK(__sanitizer_cov_store8, uint64_t)
STORE_HOOK(__sanitizer_cov_store16, void)

/* Comes along with the stores' hooks, and is not wanted. */
void __sanitizer_cov_trace_pc_guard(uint32_t *guard);
void __sanitizer_cov_trace_pc_guard(uint32_t *guard) {
    (void)guard;
}
void __sanitizer_cov_trace_pc_guard_init(uint32_t *start, uint32_t *stop);
void __sanitizer_cov_trace_pc_guard_init(uint32_t *start, uint32_t *stop) {
    (void)start, (void)stop;
}

void *crash_copy(void *to, const void *from, size_t len);
void *crash_copy(void *to, const void *from, size_t len) {
    for (size_t done = 0; done < len; done += COPY_PIECE) {
        crash_before_store((uint8_t *)to + done);
        memcpy((uint8_t *)to + done, (const uint8_t *)from + done, len - done < COPY_PIECE ? len - done : COPY_PIECE);
    }
    return to;
}

void *crash_mmap(void *at, size_t bytes, int protection, int flags, int fd, long offset);
void *crash_mmap(void *at, size_t bytes, int protection, int flags, int fd, long offset) {
    void *memory = mmap(at, bytes, protection, flags, fd, offset);
    if (crash != NULL && crash->follow && memory != MAP_FAILED && (flags & MAP_SHARED) && (protection & PROT_WRITE)) {
        crash->low = (uint64_t)(uintptr_t)memory;
        crash->high = crash->low + bytes;
    }
    return memory;
}

/* SplitMix64. */
long crash_getrandom(void *out, size_t len, unsigned flags);
long crash_getrandom(void *out, size_t len, unsigned flags) {
    if (crash == NULL)
        return getrandom(out, len, flags);
    for (size_t done = 0; done < len; done += 8) {
        uint64_t x = crash->seed += UINT64_C(0x9e3779b97f4a7c15);
        x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
        x ^= x >> 31;
        memcpy((uint8_t *)out + done, &x, len - done < 8 ? len - done : 8);
    }
    return (long)len;
}
