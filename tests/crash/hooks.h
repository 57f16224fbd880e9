/* SPDX-License-Identifier: MIT */
/*
 * Included before everything else when the core is compiled for larder-crash: what the compiler's own hooks do not see.
 *
 * clang's trace-stores calls a hook before every plain and atomic store. Read-modify-write instructions and block
 * copies have none, so the names by which the core asks for them are defined anew here. System calls that make or find
 * shared bytes tell where those are, and random numbers come from the run's seed.
 */
#ifndef CRASH_HOOKS_H
#define CRASH_HOOKS_H

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

/* Before something is stored there. */
void crash_before_store(const void *at);
void *crash_copy(void *to, const void *from, size_t len);
void *crash_mmap(void *at, size_t bytes, int protection, int flags, int fd, long offset);
long crash_getrandom(void *out, size_t len, unsigned flags);

#undef atomic_compare_exchange_strong_explicit
#define atomic_compare_exchange_strong_explicit(object, expected, desired, success, failure)                           \
    (crash_before_store(object), __c11_atomic_compare_exchange_strong(object, expected, desired, success, failure))
#undef atomic_compare_exchange_weak_explicit
#define atomic_compare_exchange_weak_explicit(object, expected, desired, success, failure)                             \
    (crash_before_store(object), __c11_atomic_compare_exchange_strong(object, expected, desired, success, failure))
#undef atomic_exchange_explicit
#define atomic_exchange_explicit(object, desired, order)                                                               \
    (crash_before_store(object), __c11_atomic_exchange(object, desired, order))
#undef atomic_fetch_add_explicit
#define atomic_fetch_add_explicit(object, operand, order)                                                              \
    (crash_before_store(object), __c11_atomic_fetch_add(object, operand, order))
#undef atomic_fetch_or_explicit
#define atomic_fetch_or_explicit(object, operand, order)                                                               \
    (crash_before_store(object), __c11_atomic_fetch_or(object, operand, order))
#undef atomic_fetch_and_explicit
#define atomic_fetch_and_explicit(object, operand, order)                                                              \
    (crash_before_store(object), __c11_atomic_fetch_and(object, operand, order))

#define memcpy(to, from, len) crash_copy(to, from, len)
#define mmap(at, bytes, protection, flags, fd, offset) crash_mmap(at, bytes, protection, flags, fd, offset)
#define getrandom(out, len, flags) crash_getrandom(out, len, flags)

#endif
