/* SPDX-License-Identifier: MIT */
/*
 * Copies into and out of shared bytes that others may be reading or writing.
 *
 * A reader copies first and checks afterwards whether what it copied had been left alone (reader.c), so these copies
 * race by design. Small ones are done with plain vector moves, since `rep movs` costs more than a whole get. Under
 * ThreadSanitizer they are done byte by byte with relaxed atomics, so that it sees the order that the fences give. In
 * the simulator (tests/sim) they are its own, a word at a time, and others get their turn between two words.
 */
#ifndef LR_BYTES_H
#define LR_BYTES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SANITIZE_THREAD__)
#define LR_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LR_TSAN 1
#endif
#endif

#if defined(LR_SIMULATED)

void lr_bytes_out(void *to, const void *from, size_t len);
void lr_bytes_in(void *to, const void *from, size_t len);
void lr_bytes_move(void *to, const void *from, size_t len);
bool lr_bytes_equal(const void *shared, const void *own, size_t len);

#elif defined(LR_TSAN)

static inline void lr_bytes_out(void *to, const void *from, size_t len) {
    const _Atomic uint8_t *source = (const _Atomic uint8_t *)from;
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)to)[i] = atomic_load_explicit(&source[i], memory_order_relaxed);
}

static inline void lr_bytes_in(void *to, const void *from, size_t len) {
    _Atomic uint8_t *target = (_Atomic uint8_t *)to;
    for (size_t i = 0; i < len; i++)
        atomic_store_explicit(&target[i], ((const uint8_t *)from)[i], memory_order_relaxed);
}

/* Both sides shared. */
static inline void lr_bytes_move(void *to, const void *from, size_t len) {
    for (size_t i = 0; i < len; i++)
        atomic_store_explicit(&((_Atomic uint8_t *)to)[i],
                              atomic_load_explicit(&((const _Atomic uint8_t *)from)[i], memory_order_relaxed),
                              memory_order_relaxed);
}

static inline bool lr_bytes_equal(const void *shared, const void *own, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (atomic_load_explicit(&((const _Atomic uint8_t *)shared)[i], memory_order_relaxed) !=
            ((const uint8_t *)own)[i])
            return false;
    return true;
}

#else

static inline void lr_bytes_out(void *restrict to, const void *restrict from, size_t len) {
    uint8_t *t = to;
    const uint8_t *f = from;
    /* Moves of a fixed size that overlap in the middle: no loop up to 64 bytes. */
    if (len >= 16 && len <= 64) {
        memcpy(t, f, 16);
        memcpy(t + len - 16, f + len - 16, 16);
        if (len > 32) {
            memcpy(t + 16, f + 16, 16);
            memcpy(t + len - 32, f + len - 32, 16);
        }
        return;
    }
    if (len > 64 && len <= 256) {
        for (size_t i = 0; i + 32 < len; i += 32) {
            memcpy(t + i, f + i, 16);
            memcpy(t + i + 16, f + i + 16, 16);
        }
        memcpy(t + len - 32, f + len - 32, 16);
        memcpy(t + len - 16, f + len - 16, 16);
        return;
    }
    if (len < 16) {
        if (len >= 8) {
            memcpy(t, f, 8);
            memcpy(t + len - 8, f + len - 8, 8);
        } else if (len >= 4) {
            memcpy(t, f, 4);
            memcpy(t + len - 4, f + len - 4, 4);
        } else if (len > 0) {
            t[0] = f[0];
            t[len / 2] = f[len / 2];
            t[len - 1] = f[len - 1];
        }
        return;
    }
    memcpy(t, f, len);
}

static inline void lr_bytes_in(void *restrict to, const void *restrict from, size_t len) {
    lr_bytes_out(to, from, len);
}

/* Both sides shared. They overlap only in a damaged stripe, where a hole and a block claim the same bytes. */
static inline void lr_bytes_move(void *to, const void *from, size_t len) {
    memmove(to, from, len);
}

static inline bool lr_bytes_equal(const void *shared, const void *own, size_t len) {
    const uint8_t *a = shared, *b = own;
    uint64_t x, y, difference = 0;
    if (len >= 8 && len <= 16) {
        uint64_t v, w;
        memcpy(&x, a, 8);
        memcpy(&y, b, 8);
        memcpy(&v, a + len - 8, 8);
        memcpy(&w, b + len - 8, 8);
        return ((x ^ y) | (v ^ w)) == 0;
    }
    if (len > 16 && len <= 64) {
        for (size_t i = 0; i + 8 < len; i += 8) {
            memcpy(&x, a + i, 8);
            memcpy(&y, b + i, 8);
            difference |= x ^ y;
        }
        memcpy(&x, a + len - 8, 8);
        memcpy(&y, b + len - 8, 8);
        return (difference | (x ^ y)) == 0;
    }
    return memcmp(a, b, len) == 0;
}

#endif

#endif
