/* SPDX-License-Identifier: MIT */
/*
 * One process's attachment to a segment: what does it know privately, and how does it stand among the others?
 *
 * The geometry is copied here once, verified (geometry.c), and never read from the segment again: whatever somebody
 * scribbles there, every address that this process computes lies in its own mapping.
 *
 * Files: geometry.c (offsets, verification), segment.c (create, attach, detach), participant.c (slots, liveness, fork
 * detection, reaping), clock.c (the host clock), destroy.c; handover.c and keeper.c for segments without a name.
 */
#ifndef LR_ATTACHMENT_H
#define LR_ATTACHMENT_H

#include "cache.h"
#include "layout.h"
#include "points.h"

/* ---- geometry ----------------------------------------------------------------------------------------------- */

struct lr_geometry {
    uint64_t segment_bytes, cache_bytes, stripe_bytes, control_bytes, control_off, data_off, max_block, hash_seed;
    uint64_t voids_off;
    uint64_t kept_bytes; /* of a stripe, for `least_buckets`: index for good */
    uint64_t incarnation[2];
    uint64_t created_ms;
    uint32_t stripe_count, participants, ring_len, policy, favor;
    uint32_t most_buckets;        /* of a stripe, by its size */
    uint32_t least_buckets;       /* to which its index shrinks */
    uint32_t ghost_group;         /* 2^this many buckets, then a line of ghosts; LR_GHOSTLESS: none */
    uint32_t part_words;          /* of a range: its parts, 64 in each (voids.c) */
    uint32_t recency_max;         /* highest count that the policy uses */
    uint8_t recency_used[2][256]; /* of a slot: what one use more makes of it, by the policy's rules and by age */
    char name[SM_NAME_BYTES + 1];
};

#define LR_GHOSTLESS 31u
#define LR_COUNT_PLAIN 3u /* of a slot, policy s3: what uses alone make of a count */
#define LR_COUNT_AGE 7u   /* policy s3, by age: of what is new or was just used; more than any by the rules */

/*
 * Plans a segment: the one function that computes offsets. `size` in bytes is rounded up to whole stripes; stripes 0
 * chooses (a power of two, aim 64, at least 8 MiB each, at least one). Fills everything but seed, incarnation,
 * created_ms and name. EINVALID with `why`.
 */
int lr_geometry_plan(uint64_t size, unsigned stripes, uint32_t policy, struct lr_geometry *out, char *why);
/* Writes the constants with magic and sum. */
void lr_geometry_store(const struct lr_geometry *geometry, struct sm_constants *out);
/*
 * Verifies constants read from a file of `file_bytes` and copies them: magic, byte order, layout version, sum, and
 * equality with what lr_geometry_plan would have laid out for the same size, stripes and policy. EFOREIGN, EVERSION,
 * ECORRUPT with both values in `why`.
 */
int lr_geometry_load(const struct sm_constants *constants, uint64_t file_bytes, struct lr_geometry *out, char *why);

/* ---- attachment --------------------------------------------------------------------------------------------- */

/* A page that fork() wipes: zero means "not this process". MADV_WIPEONFORK, private, anonymous. */
struct lr_private {
    _Atomic uint32_t joined;    /* 1: the slot below is this process's */
    _Atomic uint32_t joining;   /* a spinning mutex for joining; wiped free in a child */
    _Atomic uint32_t reaping;   /* a spinning mutex for probing and reaping; wiped free in a child */
    _Atomic uint32_t repairing; /* a spinning mutex for `scratch`; wiped free in a child */
};

struct lr_cache {
    /* Constant after attach. */
    uint8_t *base; /* of the mapping; never written through when read_only */
    struct lr_geometry geometry;
    struct sm_header *header;
    struct sm_participant *participants;
    uint8_t *controls;
    uint8_t *data;
    bool read_only;
    bool image; /* a copied file: nobody lives there */
    bool kept;  /* in a memfd, handed over by its keeper (keeper.c) */
    uint32_t wait_ms;
    uint32_t live_state; /* header->state while the segment is in use */
    int live_fd;         /* kept: the liveness file as it was handed over, to be opened anew only; else -1 */
    uint64_t map_bytes;
    void *reserved; /* address range that holds the aligned mapping */
    uint64_t reserved_bytes;
    uint64_t clock_offset_ns; /* CLOCK_BOOTTIME minus this is the host clock */
    struct lr_private *self;
    uint64_t *scratch; /* bitmap for repair, one bit a granule of one stripe; lazily paged in; all zero but
                          under self->repairing */

    /* Changes when a forked child joins. */
    uint32_t slot;
    uint64_t generation;
    struct sm_participant *me; /* = &participants[slot]; a private dummy when read_only */
    int probe_fd;              /* own description of the liveness file, for probing and reaping only; -1 none */
    void *live_page;           /* one page mapped through the description that holds our byte; MADV_DONTFORK */
    uid_t owner;               /* trusted beside oneself and root */
    uint64_t live_dev, live_ino;
    uint64_t segment_dev, segment_ino;

    uint64_t bell_seen;         /* sum of all ring heads, less those of our own, when lr_bell_wait last returned */
    bool bell_mute;             /* our own changes wake nobody: lr_bell_mute */
    _Atomic uint64_t own_hints; /* then: how many we have written */
    _Atomic uint64_t driven_ms; /* 0: host clock */
    char path[4096];            /* of the segment; "unix:" and the socket's when kept; "" for an image */
    char who[32];
    struct sm_participant dummy; /* counters of a read-only handle */
};

static inline struct sm_stripe *lr_stripe_at(const struct lr_cache *cache, uint32_t stripe) {
    return (struct sm_stripe *)(void *)(cache->controls + stripe * cache->geometry.control_bytes);
}

static inline uint8_t *lr_data_at(const struct lr_cache *cache, uint32_t stripe) {
    return cache->data + stripe * cache->geometry.stripe_bytes;
}

/* ---- participants ------------------------------------------------------------------------------------------- */

/* The owner field of a lock word for (slot, generation). Never 0. */
static inline uint64_t lr_owner_word(uint32_t slot, uint64_t generation) {
    return ((generation & SM_GENERATION_MASK) << SM_LOCK_GENERATION_SHIFT) |
           ((uint64_t)(slot + 1) << SM_LOCK_SLOT_SHIFT);
}

static inline uint64_t lr_own_word(const struct lr_cache *cache) {
    return lr_owner_word(cache->slot, cache->generation);
}

/* Slot of an owner word; SM_PARTICIPANTS or more: the word is damaged. */
static inline uint32_t lr_owner_slot(uint64_t word) {
    return (uint32_t)((word >> SM_LOCK_SLOT_SHIFT) & SM_LOCK_SLOT_MASK) - 1u;
}

static inline uint64_t lr_owner_generation(uint64_t word) {
    return word >> SM_LOCK_GENERATION_SHIFT;
}

/*
 * Takes a free slot (or that of a dead participant): lock its byte, re-read state and generation, raise the generation,
 * clear the hazards, publish. Sets slot, generation, me, probe_fd, live_page, self->joined. ENO_SLOTS, EPERMISSION,
 * ESYSTEM, ERETIRED.
 */
int lr_participant_join(struct lr_cache *cache, char *why);
/* Clears the hazards, adds the counters to the header's, frees the slot, lets the byte go. */
void lr_participant_leave(struct lr_cache *cache);
/* The slow half of lr_enter: joins anew in a forked child. */
int lr_participant_rejoin(struct lr_cache *cache);

/* Neither destroyed nor without its keeper. */
static inline bool lr_is_live(const struct lr_cache *cache) {
    return atomic_load_explicit(&cache->header->state, memory_order_relaxed) == cache->live_state;
}

/* Bytes of the block, as its pinner saw it; damage is bounded. */
static inline uint64_t lr_hazard_bytes(const struct lr_cache *cache, uint64_t word) {
    uint64_t bytes = (word >> SM_HAZARD_PLACE_BITS) * SM_GRANULE;
    return bytes < cache->geometry.max_block ? bytes : cache->geometry.max_block;
}

/* Hazards in use of the participant in this slot, and the bytes of their blocks: for humans. */
unsigned lr_participant_pins(const struct lr_cache *cache, uint32_t slot, uint64_t *bytes);

/* Opens every call that may write: fork check and retirement check. 0, ERETIRED, EREAD_ONLY or join's errors. */
static inline int lr_enter(struct lr_cache *cache) {
    if (cache->read_only)
        return LARDER_EREAD_ONLY;
    /* ORDER(joined) observe: slot, generation and `me`, when another thread of a child has joined. */
    if (atomic_load_explicit(&cache->self->joined, memory_order_acquire) == 0) {
        int error = lr_participant_rejoin(cache);
        if (error != 0)
            return error;
    }
    return lr_is_live(cache) ? 0 : LARDER_ERETIRED;
}

/* Opens every call that only reads; as lr_enter, but a read-only handle may. */
static inline int lr_enter_read(struct lr_cache *cache) {
    if (cache->read_only)
        return lr_is_live(cache) ? 0 : LARDER_ERETIRED;
    return lr_enter(cache);
}

/*
 * Whether the owner in this lock word may still store into the segment: true for ourselves, and when in doubt. False is
 * certain: the generation moved on, or the byte reads free on our probe descriptor (whose dev and inode are checked
 * first). About 200 ns.
 */
bool lr_owner_alive(struct lr_cache *cache, uint64_t owner_word);
/*
 * Frees the slot of a dead owner: under self->reaping, takes its byte (F_OFD_SETLK, no wait), re-reads state and
 * generation, clears the hazards, adds the counters to the header's, raises the generation, sets it free, lets the byte
 * go. True when the slot's generation is now past `generation`. No system call in between but the two fcntl. Stripe
 * locks of the dead generation stay for whoever meets them: by then the generation has moved on.
 */
bool lr_participant_reap(struct lr_cache *cache, uint32_t slot, uint64_t generation);

static inline void lr_count_n(struct lr_cache *cache, enum lr_counter counter, uint64_t n) {
    /* Written by this process only; threads that share a handle may lose a count, never a word. */
    sm_u64 *word = &cache->me->counters[counter];
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline void lr_count(struct lr_cache *cache, enum lr_counter counter) {
    lr_count_n(cache, counter, 1);
}

/* ---- clock -------------------------------------------------------------------------------------------------- */

/* Finds the offset of this time namespace. ENO_CLOCK. */
int lr_clock_init(struct lr_cache *cache, char *why);
/* Milliseconds since 2020 by the (coarse) wall clock: versions only. */
uint64_t lr_wall_2020_ms(void);
/* The same of lr_unix_ms. */
uint64_t lr_since_2020(uint64_t unix_ms);
/* Unix milliseconds, for humans. */
uint64_t lr_unix_ms(void);
/* Monotonic nanoseconds, for bounded waits. */
uint64_t lr_monotonic_ns(void);

#endif
