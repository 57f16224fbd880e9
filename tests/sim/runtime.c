/* SPDX-License-Identifier: MIT */
/*
 * The compiler's hooks: what happens at each access to the segment?
 *
 * The core is compiled with -fsanitize=thread and linked with this file instead of the sanitizer's library. Every
 * atomic access is then a call of __tsan_atomic*, and every plain one is preceded by a call of __tsan_read* or
 * __tsan_write*. Addresses outside the segment are none of our business. For those inside:
 *
 *   load     a step (others may run) -> own store buffer, newest first -> memory
 *   store    a step -> own store buffer (FIFO), the oldest leaves when it is full
 *   locked   a step -> own buffer drained -> memory        exchange, fetch_*, compare_exchange, seq_cst store and fence
 *   plain    a step -> own buffer drained if it matters -> the code itself reads
 *
 * That is x86-TSO (P. Sewell et al., 2010): a store is seen late by others, never out of order, and a load may overtake
 * it. What acquire and release add on other machines is not modelled; neither is reordering by the compiler.
 *
 * Every store to memory leaves the old word in a log, so that a schedule costs what it changes and not the segment's
 * size. All accesses lie within one aligned word of eight bytes; the copies of bytes.h are cut accordingly.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_MAX (UINT64_C(1) << 20)
#define CALLER __builtin_return_address(0)

uint8_t sim_segment[SIM_SEGMENT] __attribute__((aligned(4096)));

struct old_word {
    uint64_t *at;
    uint64_t was;
};
static struct old_word undo_log[LOG_MAX];
static size_t undo_count;

/* ---- memory ----------------------------------------------------------------------------------------------------- */

static inline void log_word(uintptr_t at) {
    uint64_t *word = (uint64_t *)(at & ~(uintptr_t)7);
    if (!sim.logging)
        return;
    if (undo_count == LOG_MAX) {
        fprintf(stderr, "larder-sim: a schedule stores more than %llu times\n", (unsigned long long)LOG_MAX);
        abort();
    }
    undo_log[undo_count++] = (struct old_word){word, *word};
}

void sim_runtime_undo(void) {
    while (undo_count > 0) {
        undo_count--;
        *undo_log[undo_count].at = undo_log[undo_count].was;
    }
}

void sim_runtime_keep(void) {
    undo_count = 0;
}

static inline uint64_t get(uintptr_t at, uint32_t size) {
    uint64_t value = 0;
    memcpy(&value, (const void *)at, size);
    return value;
}

static inline void put(uintptr_t at, uint64_t value, uint32_t size) {
    log_word(at);
    memcpy((void *)at, &value, size);
}

/* ---- store buffers ---------------------------------------------------------------------------------------------- */

static inline unsigned filter_of(uintptr_t at) {
    return (unsigned)(at >> 3) % SIM_FILTER;
}

void sim_runtime_drain(struct sim_process *process, unsigned count) {
    for (; count > 0 && process->pending > 0; count--) {
        struct sim_store *store = &process->stores[process->first];
        put(store->at, store->value, store->size);
        if (__builtin_expect(sim.tracing, 0))
            sim_trace_visible(process->number, store->at, store->value);
        process->filter[filter_of(store->at)]--;
        process->first = (process->first + 1) % SIM_STORES;
        process->pending--;
    }
}

static inline void drain(void) {
    if (sim.now->pending > 0)
        sim_runtime_drain(sim.now, SIM_STORES);
}

static bool is_buffered(uintptr_t at, uint32_t size) {
    const struct sim_process *p = sim.now;
    for (unsigned i = 0; i < p->pending; i++) {
        const struct sim_store *store = &p->stores[(p->first + i) % SIM_STORES];
        if (at < store->at + store->size && store->at < at + size)
            return true;
    }
    return false;
}

static uint64_t forward(uintptr_t at, uint32_t size) {
    const struct sim_process *p = sim.now;
    for (unsigned i = p->pending; i-- > 0;) {
        const struct sim_store *store = &p->stores[(p->first + i) % SIM_STORES];
        if (store->at == at && store->size == size)
            return store->value;
        if (at < store->at + store->size && store->at < at + size)
            break; /* parts of it: the processor waits too */
    }
    if (is_buffered(at, size))
        drain();
    return get(at, size);
}

static __attribute__((noinline)) uint64_t load_rest(uintptr_t at, uint32_t size, const void *caller) {
    sim_step(0);
    uint64_t value = sim.now->filter[filter_of(at)] != 0 ? forward(at, size) : get(at, size);
    if (__builtin_expect(sim.tracing, 0))
        sim_trace_access("load", at, value, caller);
    return value;
}

/* Most loads end here, and what they cost is what a schedule costs: what is rare is in load_rest, out of line. */
static inline uint64_t load(uintptr_t at, uint32_t size, const void *caller) {
    sim.fuse--;
    if (__builtin_expect(sim.fuse < 0 || sim.now->filter[filter_of(at)] != 0, 0))
        return load_rest(at, size, caller);
    return get(at, size); /* traced loads have no fuse to burn */
}

static inline void store(uintptr_t at, uint64_t value, uint32_t size, const void *caller) {
    struct sim_process *p;
    sim_step(sim.store_weight);
    p = sim.now;
    if (__builtin_expect(sim.tracing, 0))
        sim_trace_access(sim.buffering ? "store, buffered" : "store", at, value, caller);
    if (!sim.buffering) {
        put(at, value, size);
        return;
    }
    if (p->pending >= sim.buffer_limit)
        sim_runtime_drain(p, 1);
    p->stores[(p->first + p->pending) % SIM_STORES] = (struct sim_store){at, value, size};
    p->pending++;
    p->filter[filter_of(at)]++;
}

/* Before a locked operation. */
static inline uint64_t locked(uintptr_t at, uint32_t size) {
    sim_step(sim.store_weight);
    drain();
    return get(at, size);
}

static inline void changed(const char *what, uintptr_t at, uint64_t value, uint32_t size, const void *caller) {
    put(at, value, size);
    if (__builtin_expect(sim.tracing, 0))
        sim_trace_access(what, at, value, caller);
}

static inline void note_lock(uintptr_t at, uint64_t was, uint64_t is) {
    if (at == sim.lock_at && (was & SM_LOCK_OWNER_MASK) != (is & SM_LOCK_OWNER_MASK) && (is & SM_LOCK_OWNER_MASK) != 0)
        sim_machine_locked((is & SM_LOCK_RECOVER) != 0);
}

static inline bool compare(uintptr_t at, uint64_t *expected, uint64_t desired, uint32_t size, const void *caller) {
    uint64_t was = locked(at, size);
    bool same = was == *expected;
    if (same)
        changed("compare_exchange", at, desired, size, caller);
    else if (__builtin_expect(sim.tracing, 0))
        sim_trace_access("compare_exchange fails:", at, was, caller);
    if (same && size == 8)
        note_lock(at, was, desired);
    *expected = was;
    return same;
}

/* ---- atomic entry points ---------------------------------------------------------------------------------------- */

#define FETCH(bits, type, name, expression)                                                                            \
    type __tsan_atomic##bits##_fetch_##name(type *at, type operand, int order);                                        \
    type __tsan_atomic##bits##_fetch_##name(type *at, type operand, int order) {                                       \
        (void)order;                                                                                                   \
        if (!sim_is_shared((uintptr_t)at)) {                                                                           \
            type old = *at;                                                                                            \
            *at = (type)(expression);                                                                                  \
            return old;                                                                                                \
        }                                                                                                              \
        type old = (type)locked((uintptr_t)at, bits / 8);                                                              \
        changed("fetch_" #name, (uintptr_t)at, (type)(expression), bits / 8, CALLER);                                  \
        return old;                                                                                                    \
    }

#define ATOMICS(bits, type)                                                                                            \
    type __tsan_atomic##bits##_load(const type *at, int order);                                                        \
    type __tsan_atomic##bits##_load(const type *at, int order) {                                                       \
        (void)order;                                                                                                   \
        return sim_is_shared((uintptr_t)at) ? (type)load((uintptr_t)at, bits / 8, CALLER) : *at;                       \
    }                                                                                                                  \
    void __tsan_atomic##bits##_store(type *at, type value, int order);                                                 \
    void __tsan_atomic##bits##_store(type *at, type value, int order) {                                                \
        if (!sim_is_shared((uintptr_t)at)) {                                                                           \
            *at = value;                                                                                               \
            return;                                                                                                    \
        }                                                                                                              \
        store((uintptr_t)at, value, bits / 8, CALLER);                                                                 \
        if (order == __ATOMIC_SEQ_CST)                                                                                 \
            drain();                                                                                                   \
    }                                                                                                                  \
    type __tsan_atomic##bits##_exchange(type *at, type operand, int order);                                            \
    type __tsan_atomic##bits##_exchange(type *at, type operand, int order) {                                           \
        (void)order;                                                                                                   \
        type old = *at;                                                                                                \
        if (!sim_is_shared((uintptr_t)at)) {                                                                           \
            *at = operand;                                                                                             \
            return old;                                                                                                \
        }                                                                                                              \
        old = (type)locked((uintptr_t)at, bits / 8);                                                                   \
        changed("exchange", (uintptr_t)at, operand, bits / 8, CALLER);                                                 \
        return old;                                                                                                    \
    }                                                                                                                  \
    static inline bool compare##bits(type *at, type *expected, type desired, const void *caller) {                     \
        if (!sim_is_shared((uintptr_t)at)) {                                                                           \
            type old = *at;                                                                                            \
            bool same = old == *expected;                                                                              \
            if (same)                                                                                                  \
                *at = desired;                                                                                         \
            *expected = old;                                                                                           \
            return same;                                                                                               \
        }                                                                                                              \
        uint64_t wide = *expected;                                                                                     \
        bool same = compare((uintptr_t)at, &wide, desired, bits / 8, caller);                                          \
        *expected = (type)wide;                                                                                        \
        return same;                                                                                                   \
    }                                                                                                                  \
    bool __tsan_atomic##bits##_compare_exchange_strong(type *at, type *expected, type desired, int order, int other);  \
    bool __tsan_atomic##bits##_compare_exchange_strong(type *at, type *expected, type desired, int order, int other) { \
        (void)order;                                                                                                   \
        (void)other;                                                                                                   \
        return compare##bits(at, expected, desired, CALLER);                                                           \
    }                                                                                                                  \
    bool __tsan_atomic##bits##_compare_exchange_weak(type *at, type *expected, type desired, int order, int other);    \
    bool __tsan_atomic##bits##_compare_exchange_weak(type *at, type *expected, type desired, int order, int other) {   \
        (void)order;                                                                                                   \
        (void)other;                                                                                                   \
        return compare##bits(at, expected, desired, CALLER);                                                           \
    }                                                                                                                  \
    type __tsan_atomic##bits##_compare_exchange_val(type *at, type expected, type desired, int order, int other);      \
    type __tsan_atomic##bits##_compare_exchange_val(type *at, type expected, type desired, int order, int other) {     \
        (void)order;                                                                                                   \
        (void)other;                                                                                                   \
        compare##bits(at, &expected, desired, CALLER);                                                                 \
        return expected;                                                                                               \
    }                                                                                                                  \
    FETCH(bits, type, add, old + operand)                                                                              \
    FETCH(bits, type, sub, old - operand)                                                                              \
    FETCH(bits, type, and, old &operand)                                                                               \
    FETCH(bits, type, or, old | operand)                                                                               \
    FETCH(bits, type, xor, old ^ operand)

ATOMICS(8, uint8_t)
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)

void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_thread_fence(int order) {
    if (order != __ATOMIC_SEQ_CST)
        return;
    sim_step(sim.store_weight);
    if (__builtin_expect(sim.tracing, 0) && sim.now->number < SIM_DOCTOR)
        sim_trace_note("full fence");
    drain();
}

void __tsan_atomic_signal_fence(int order);
void __tsan_atomic_signal_fence(int order) {
    (void)order;
}

/* ---- plain accesses --------------------------------------------------------------------------------------------- */

static __attribute__((noinline)) void shared_read(uintptr_t at, size_t size, const void *caller) {
    sim_step(1);
    if (sim.now->pending > 0 && is_buffered(at, (uint32_t)size))
        drain();
    if (__builtin_expect(sim.tracing, 0))
        sim_trace_access("plain load", at, get(at, size < 8 ? (uint32_t)size : 8), caller);
}

static __attribute__((noinline)) void shared_write(uintptr_t at, size_t size, const void *caller) {
    sim_step(sim.store_weight);
    drain(); /* the code stores for itself, and in order */
    for (uintptr_t word = at & ~(uintptr_t)7; word < at + size; word += 8)
        log_word(word);
    if (__builtin_expect(sim.tracing, 0))
        sim_trace_access("plain store over", at, get(at, size < 8 ? (uint32_t)size : 8), caller);
}

/* Most plain accesses are to memory of the process's own: for them a hook is a comparison. */
static inline void plain_read(const void *address, size_t size, const void *caller) {
    if (__builtin_expect(sim_is_shared((uintptr_t)address), 0))
        shared_read((uintptr_t)address, size, caller);
}

static inline void plain_write(const void *address, size_t size, const void *caller) {
    if (__builtin_expect(sim_is_shared((uintptr_t)address), 0))
        shared_write((uintptr_t)address, size, caller);
}

#define PLAIN(name, size)                                                                                              \
    void __tsan_##name##read##size(const void *at);                                                                    \
    void __tsan_##name##read##size(const void *at) {                                                                   \
        plain_read(at, size, CALLER);                                                                                  \
    }                                                                                                                  \
    void __tsan_##name##write##size(void *at);                                                                         \
    void __tsan_##name##write##size(void *at) {                                                                        \
        plain_write(at, size, CALLER);                                                                                 \
    }
PLAIN(, 1)
PLAIN(, 2)
PLAIN(, 4)
PLAIN(, 8)
PLAIN(, 16)
PLAIN(unaligned_, 2)
PLAIN(unaligned_, 4)
PLAIN(unaligned_, 8)
PLAIN(unaligned_, 16)

void __tsan_read_range(const void *at, size_t size);
void __tsan_read_range(const void *at, size_t size) {
    plain_read(at, size, CALLER);
}

void __tsan_write_range(void *at, size_t size);
void __tsan_write_range(void *at, size_t size) {
    plain_write(at, size, CALLER);
}

void *__tsan_memcpy(void *to, const void *from, size_t len);
void *__tsan_memcpy(void *to, const void *from, size_t len) {
    plain_read(from, len, CALLER);
    plain_write(to, len, CALLER);
    return memcpy(to, from, len);
}

void *__tsan_memset(void *to, int byte, size_t len);
void *__tsan_memset(void *to, int byte, size_t len) {
    plain_write(to, len, CALLER);
    return memset(to, byte, len);
}

void __tsan_init(void);
void __tsan_init(void) {
}

void __tsan_func_entry(void *caller);
void __tsan_func_entry(void *caller) {
    (void)caller;
}

void __tsan_func_exit(void);
void __tsan_func_exit(void) {
}

/* ---- the copies of bytes.h -------------------------------------------------------------------------------------- */

void lr_bytes_out(void *to, const void *from, size_t len);
void lr_bytes_in(void *to, const void *from, size_t len);
void lr_bytes_move(void *to, const void *from, size_t len);
bool lr_bytes_equal(const void *shared, const void *own, size_t len);

/* The piece of [0, len) that begins at `done` and lies within one word of the shared side. */
static inline uint32_t piece_at(uintptr_t shared, size_t len, size_t done) {
    size_t room = 8 - ((shared + done) & 7), left = len - done;
    return (uint32_t)(room < left ? room : left);
}

static void copy_piece(uint8_t *to, const uint8_t *from, uint32_t size, const void *caller) {
    uint64_t value;
    uintptr_t source = (uintptr_t)from;
    if (!sim_is_shared(source)) {
        value = get(source, size);
    } else if (((source ^ (source + size - 1)) & ~(uintptr_t)7) == 0) {
        value = load(source, size, caller);
    } else { /* across two words of the source */
        uint32_t first = 8 - (uint32_t)(source & 7);
        value = load(source, first, caller);
        value |= load(source + first, size - first, caller) << (8 * first);
    }
    if (sim_is_shared((uintptr_t)to))
        store((uintptr_t)to, value, size, caller);
    else
        memcpy(to, &value, size);
}

/* Word by word, from either end: a vector move may do either. */
static void copy(uint8_t *to, const uint8_t *from, size_t len, uintptr_t shared, const void *caller) {
    if (sim.now->number >= SIM_DOCTOR && sim.now->pending == 0 && !(sim.logging && sim_is_shared((uintptr_t)to))) {
        memmove(to, from, len); /* nobody else runs */
        return;
    }
    if (!sim.backwards) {
        for (size_t done = 0; done < len;) {
            uint32_t size = piece_at(shared, len, done);
            copy_piece(to + done, from + done, size, caller);
            done += size;
        }
        return;
    }
    for (size_t left = len; left > 0;) {
        size_t room = ((shared + left - 1) & 7) + 1, size = room < left ? room : left;
        left -= size;
        copy_piece(to + left, from + left, (uint32_t)size, caller);
    }
}

void lr_bytes_out(void *to, const void *from, size_t len) {
    copy(to, from, len, (uintptr_t)from, CALLER);
}

void lr_bytes_in(void *to, const void *from, size_t len) {
    copy(to, from, len, (uintptr_t)to, CALLER);
}

void lr_bytes_move(void *to, const void *from, size_t len) {
    copy(to, from, len, (uintptr_t)to, CALLER);
}

bool lr_bytes_equal(const void *shared, const void *own, size_t len) {
    const uintptr_t at = (uintptr_t)shared;
    for (size_t done = 0; done < len;) {
        uint32_t size = piece_at(at, len, done);
        uint64_t theirs = sim_is_shared(at + done) ? load(at + done, size, CALLER) : get(at + done, size);
        uint64_t mine = 0;
        memcpy(&mine, (const uint8_t *)own + done, size);
        if (theirs != mine)
            return false;
        done += size;
    }
    return true;
}
