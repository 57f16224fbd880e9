/* SPDX-License-Identifier: MIT */
/* Whether the time stamp counter can be trusted, and how long a tick is. */
#include "ticks.h"

#if defined(__x86_64__)
#include <cpuid.h>

static bool counter_is_invariant(void) {
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007u, &a, &b, &c, &d) != 0 && (d & (1u << 8)) != 0;
}
#else
static bool counter_is_invariant(void) {
    return false;
}
#endif

struct ticks ticks_calibrate(void) {
    struct ticks ticks = {.counter = counter_is_invariant(), .ns_2_32 = UINT64_C(1) << 32};
    if (!ticks.counter)
        return ticks;
    uint64_t first_ns = ticks_clock_ns(), first = ticks_now(&ticks), last_ns;
    do
        last_ns = ticks_clock_ns();
    while (last_ns - first_ns < UINT64_C(20000000));
    double ns = (double)(last_ns - first_ns), count = (double)(ticks_now(&ticks) - first);
    if (count <= 0)
        return (struct ticks){.counter = false, .ns_2_32 = UINT64_C(1) << 32};
    ticks.ns_2_32 = (uint64_t)(ns / count * 0x1p32);
    return ticks;
}
