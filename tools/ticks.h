/* SPDX-License-Identifier: MIT */
/*
 * A clock cheap enough to be read around every get.
 *
 * The processor's time stamp counter where the processor says that it runs at one speed whatever the frequency
 * (about 8 ns a reading), else CLOCK_MONOTONIC (20 to 40 ns). Calibrated once against CLOCK_MONOTONIC.
 */
#ifndef LARDER_TICKS_H
#define LARDER_TICKS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

struct ticks {
    bool counter;     /* the processor's counter is used */
    uint64_t ns_2_32; /* nanoseconds of a tick, times 2^32 */
};

/* Takes about 20 ms. */
struct ticks ticks_calibrate(void);

static inline uint64_t ticks_clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static inline uint64_t ticks_now(const struct ticks *ticks) {
#if defined(__x86_64__)
    unsigned processor;
    if (ticks->counter)
        return __rdtscp(&processor);
#endif
    return ticks_clock_ns();
}

/* For spans below four seconds. */
static inline uint64_t ticks_to_ns(const struct ticks *ticks, uint64_t span) {
    return span < UINT32_MAX ? (span * ticks->ns_2_32) >> 32 : (span >> 16) * ticks->ns_2_32 >> 16;
}

#endif
