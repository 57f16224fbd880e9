/* SPDX-License-Identifier: MIT */
/*
 * One stripe, seen by one thread: the engine's parts and how they call each other.
 *
 *   items.c  apply.c  sweep.c          what callers ask for, each a story under one stripe's lock
 *      |        |        |
 *      +--------+--------+-- entry.c   make, publish and forget an entry; versions, floors, voids, notes
 *                              |
 *            lock.c      index.c      policy.c     hazard.c      feed.c
 *                                       shadow.c
 *                              |
 *                  hand.c   divide.c   arena.c
 *
 *   reader.c  scan.c  digest.c         without the lock
 *   repair.c  check.c                  the definition of healthy, and how to get there
 *
 * `struct lr_view` lives on the caller's stack from lr_stripe_lock to lr_stripe_unlock.
 */
#ifndef LR_STRIPE_H
#define LR_STRIPE_H

#include "attachment.h"
#include "bytes.h"
#include "hash.h"

#define LR_BLOCKERS 4u

struct lr_view {
    struct lr_cache *cache;
    struct sm_stripe *stripe;
    uint8_t *data;
    uint32_t number;
    bool keep_all;     /* the index may grow over free room only: what is stored may not evict */
    bool grow_early;   /* many more entries come */
    bool hand_moved;   /* slots may have changed since the caller looked: find again (hand or index) */
    bool by_age;       /* the hands take what has no count, and nothing of one (shadow.c) */
    bool turns_over;   /* main's hand takes what it meets, whatever its count */
    bool makes_way;    /* what goes, goes for a giant on probation */
    uint32_t promoted; /* blocks that this put has moved to the main region */
    uint64_t promoted_bytes;
    uint64_t forced;   /* bytes that main's hand has passed for them */
    bool damaged;      /* something impossible was met: repair before unlocking */
    bool ring_bell;    /* hints were written */
    uint32_t blockers; /* participants whose pins the hand met: probed after unlock */
    uint32_t blocker_slot[LR_BLOCKERS];
};

/* Number of a stripe to pointers; takes no lock. */
static inline struct lr_view lr_view_of(struct lr_cache *cache, uint32_t stripe) {
    return (struct lr_view){
        .cache = cache, .stripe = lr_stripe_at(cache, stripe), .data = lr_data_at(cache, stripe), .number = stripe};
}

/* A key, hashed once. */
struct lr_key {
    const void *bytes; /* NULL: known by its hash only */
    size_t len;
    uint64_t hash;
    uint64_t place;
};

static inline struct lr_key lr_key_of(const struct lr_cache *cache, const void *bytes, size_t len) {
    uint64_t hash = lr_hash_key(bytes, len);
    return (struct lr_key){.bytes = bytes, .len = len, .hash = hash, .place = lr_place(cache, hash)};
}

static inline struct lr_key lr_key_of_hash(const struct lr_cache *cache, uint64_t hash) {
    return (struct lr_key){.hash = hash, .place = lr_place(cache, hash)};
}

/* ---- lock.c ------------------------------------------------------------------------------------------------- */

/*
 * Takes the stripe's lock, at most cache->wait_ms; takes it over from a dead owner and repairs; turns delete notes into
 * tombstones. 0 or EBUSY. After it the caller may not make a system call, allocate or call out until lr_stripe_unlock.
 */
int lr_stripe_lock(struct lr_view *view, struct lr_cache *cache, uint32_t stripe);
/* As above with a bound of its own; 0: one try. */
int lr_stripe_lock_for(struct lr_view *view, struct lr_cache *cache, uint32_t stripe, uint32_t wait_ms);
/* Also rings the bell and reaps the dead whose pins were met. */
void lr_stripe_unlock(struct lr_view *view);

/* ---- blocks ------------------------------------------------------------------------------------------------- */

/* A block's header, read once and bounded. All lengths fit the stripe, whatever the bytes were. */
struct lr_head {
    uint64_t word;
    uint64_t identity;
    uint64_t version;
    uint64_t off;
    uint32_t size; /* bytes */
    uint32_t key_len;
    uint32_t value_len;
    uint32_t key_at; /* from the block's start; the value follows the key */
    unsigned parts;
    bool tombstone;
};

/* Of a tombstone TOLD where the key is known to be of mode invalidate, else SHARED. */
static inline enum lr_kind lr_head_kind(const struct lr_head *head) {
    return (enum lr_kind)((head->word >> SM_BLOCK_KIND_SHIFT) & 3u);
}

static inline struct sm_block *lr_block_at(uint8_t *data, uint64_t off) {
    return (struct sm_block *)(void *)(data + off);
}

static inline unsigned lr_block_state(uint64_t word) {
    return (unsigned)(word >> SM_BLOCK_STATE_SHIFT) & 3u;
}

static inline uint64_t lr_block_size(uint64_t word) {
    return (word & SM_BLOCK_SIZE_MASK) * SM_GRANULE;
}

static inline uint64_t lr_slot_off(uint64_t word) {
    return (word & SM_SLOT_OFF_MASK) * SM_GRANULE;
}

/* The whole byte: what lr_recency_used makes another of. */
static inline unsigned lr_slot_recency(uint64_t word) {
    return (unsigned)((word & SM_SLOT_RECENCY_MASK) >> SM_SLOT_RECENCY_SHIFT);
}

/* Reads the header at `off`. False: it cannot be an item or tombstone of this stripe (garbage, or a hole). Any thread,
 * any time. */
static inline bool lr_head_read(const struct lr_cache *cache, uint8_t *data, uint64_t off, struct lr_head *head) {
    uint64_t limit = cache->geometry.stripe_bytes;
    if (off > limit - sizeof(struct sm_block) || off < SM_BUCKET_BYTES)
        return false;
    struct sm_block *block = lr_block_at(data, off);
    uint64_t word = atomic_load_explicit(&block->word, memory_order_relaxed);
    head->word = word;
    head->identity = atomic_load_explicit(&block->identity, memory_order_relaxed);
    head->version = atomic_load_explicit(&block->version, memory_order_relaxed);
    head->off = off;
    uint64_t size = lr_block_size(word);
    if (size > limit - off)
        return false;
    head->size = (uint32_t)size;
    head->parts = (unsigned)(word >> SM_BLOCK_PARTS_SHIFT) & 7u;
    head->tombstone = (head->parts & SM_PART_TOMB) != 0;
    head->key_len = head->tombstone ? 0 : (uint32_t)(word >> SM_BLOCK_KEY_SHIFT) + 1u;
    head->key_at = (uint32_t)(sizeof(struct sm_block) + (head->parts & SM_PART_EXPIRY ? 8u : 0u) +
                              (head->parts & SM_PART_FLAGS ? 4u : 0u) + (head->tombstone ? 8u : 0u));
    uint64_t used = head->key_at + (uint64_t)head->key_len + ((word >> SM_BLOCK_PAD_SHIFT) & 7u);
    if (used > size)
        return false;
    head->value_len = (uint32_t)(size - used);
    return true;
}

static inline uint64_t lr_head_deadline(uint8_t *data, const struct lr_head *head) {
    if (!(head->parts & SM_PART_EXPIRY))
        return UINT64_MAX;
    return atomic_load_explicit((sm_u64 *)(void *)(data + head->off + sizeof(struct sm_block)), memory_order_relaxed);
}

static inline uint32_t lr_head_flags(uint8_t *data, const struct lr_head *head) {
    if (!(head->parts & SM_PART_FLAGS))
        return 0;
    uint64_t at = head->off + sizeof(struct sm_block) + (head->parts & SM_PART_EXPIRY ? 8u : 0u);
    return atomic_load_explicit((sm_u32 *)(void *)(data + at), memory_order_relaxed);
}

static inline uint64_t lr_head_tomb_hash(uint8_t *data, const struct lr_head *head) {
    return atomic_load_explicit((sm_u64 *)(void *)(data + head->off + head->key_at - 8u), memory_order_relaxed);
}

static inline uint32_t lr_head_epoch(const struct lr_head *head) {
    return (uint32_t)(head->word >> SM_BLOCK_EPOCH_SHIFT) & ((1u << SM_BLOCK_EPOCH_BITS) - 1u);
}

/* Whether the slot word and the header speak of the same filling of the block. */
static inline bool lr_head_matches(const struct lr_head *head, uint64_t word) {
    return ((word & SM_SLOT_INC_MASK) >> SM_SLOT_INC_SHIFT) == (head->identity & 0xffu) &&
           lr_block_state(head->word) == SM_BLOCK_LIVE;
}

/* The cluster hash of an entry; for items it is computed from the key. Holder only, or on stable bytes. */
static inline uint64_t lr_head_hash(uint8_t *data, const struct lr_head *head) {
    if (head->tombstone)
        return lr_head_tomb_hash(data, head);
    return lr_hash_key(data + head->off + head->key_at, head->key_len);
}

/* By how much versions must differ to say which change of a key of mode invalidate was first. 0: there are none. */
static inline uint64_t lr_doubt(const struct lr_cache *cache) {
    const bool modal = (atomic_load_explicit(&cache->header->modes, memory_order_relaxed) & SM_MODE_ROWS_MASK) != 0;
    return modal ? atomic_load_explicit(&cache->header->doubt, memory_order_relaxed) & ~UINT64_C(1) : 0;
}

/* Whether this host tells its peers what it hears of others. */
static inline bool lr_is_relay(const struct lr_cache *cache) {
    return (atomic_load_explicit(&cache->header->doubt, memory_order_relaxed) & 1) != 0;
}

enum lr_kind lr_modes_kind(const struct lr_cache *cache, const struct lr_key *key, bool fills);
/* Of which kind a change of the key is, or a fill. */
static inline enum lr_kind lr_kind_of(const struct lr_cache *cache, const struct lr_key *key, bool fills) {
    const uint64_t modes = atomic_load_explicit(&cache->header->modes, memory_order_relaxed);
    return (modes & SM_MODE_ROWS_MASK) == 0 ? LR_SHARED : lr_modes_kind(cache, key, fills);
}

/* Everybody who hears of the flush lets go of what is older than this, and needs to hear nothing of this. */
static inline bool lr_is_flushed(const struct lr_cache *cache, uint64_t version) {
    return version + lr_doubt(cache) <= atomic_load_explicit(&cache->header->flush_version, memory_order_relaxed);
}

/* Expired by `now_ms`, or below the flush. */
static inline bool lr_head_gone_by(const struct lr_cache *cache, uint8_t *data, const struct lr_head *head,
                                   uint64_t now_ms) {
    if (head->version <= atomic_load_explicit(&cache->header->flush_version, memory_order_relaxed))
        return true;
    const uint64_t deadline = lr_head_deadline(data, head);
    return deadline != UINT64_MAX && deadline <= now_ms;
}

/* The same, now; the clock is read only where there is a deadline. */
static inline bool lr_head_gone(const struct lr_cache *cache, uint8_t *data, const struct lr_head *head) {
    return lr_head_gone_by(cache, data, head, head->parts & SM_PART_EXPIRY ? lr_now_ms(cache) : 0);
}

static inline uint64_t lr_load(sm_u64 *word) {
    return atomic_load_explicit(word, memory_order_relaxed);
}

static inline void lr_store(sm_u64 *word, uint64_t value) {
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline void lr_add(sm_u64 *word, uint64_t value) {
    lr_store(word, lr_load(word) + value);
}

static inline void lr_raise(sm_u64 *word, uint64_t value) {
    if (lr_load(word) < value)
        lr_store(word, value);
}

static inline void lr_tally(struct lr_view *view, enum lr_stripe_counter counter, uint64_t n) {
    lr_add(&view->stripe->counters[counter], n);
}

/* ---- hazard.c ----------------------------------------------------------------------------------------------- */

/* Where a hazard points that names the block at `off`. */
static inline uint64_t lr_hazard_of(const struct lr_cache *cache, const uint8_t *data, uint64_t off) {
    return ((uint64_t)(data - cache->base) + off) / SM_GRANULE;
}

/*
 * Whether some participant's hazard names the block. The caller took the word out (or saw no pinned flag) first; this
 * makes the full fence. `view` remembers who, for reaping; may be NULL.
 */
bool lr_hazard_held(struct lr_cache *cache, uint64_t hazard, struct lr_view *view);
/* Slots that were ever used: all others have no hazards. */
static inline uint32_t lr_slots_used(const struct lr_cache *cache) {
    uint32_t high = atomic_load_explicit(&cache->header->participants_high, memory_order_relaxed);
    return high < cache->geometry.participants ? high : cache->geometry.participants;
}

/*
 * Live pins must leave room in a stripe (hazard.c, rule 1): pins of one handle that stay within this part of the
 * largest block, divided by the slots in use, ask nobody.
 */
#define LR_PIN_ALLOWANCE 16u

/* The common case, judged after the hazard was claimed: a small block of a handle that never had two pins at once. */
static inline bool lr_hazard_is_small(const struct lr_cache *cache, uint32_t hazard, uint32_t bytes) {
    return lr_load(&cache->me->pin_summary) == UINT64_C(1) << hazard &&
           (uint64_t)bytes * LR_PIN_ALLOWANCE * lr_slots_used(cache) <= cache->geometry.max_block;
}

/* Whether our hazard, published and fenced, may stay. Any thread. */
bool lr_hazard_fits(const struct lr_view *view, uint32_t hazard);

/* ---- index.c ------------------------------------------------------------------------------------------------ */

/* Lines of buckets, with a line of ghost words behind each group of them (layout.h). */
static inline sm_u64 *lr_bucket_at(const struct lr_view *view, uint32_t bucket) {
    const uint64_t line = (uint64_t)bucket + (bucket >> view->cache->geometry.ghost_group);
    return (sm_u64 *)(void *)(view->data + line * SM_BUCKET_BYTES);
}

static inline sm_u64 *lr_ghosts_at(const struct lr_view *view, uint32_t bucket) {
    const uint64_t group = bucket >> SM_GHOST_GROUP, first = group * ((1u << SM_GHOST_GROUP) + 1u);
    sm_u64 *words = (sm_u64 *)(void *)(view->data + (first + (1u << SM_GHOST_GROUP)) * SM_BUCKET_BYTES);
    return &words[bucket & ((1u << SM_GHOST_GROUP) - 1u)];
}

/* Bytes of so many buckets, in whole groups. */
static inline uint64_t lr_index_bytes(const struct lr_geometry *geometry, uint64_t buckets) {
    const uint64_t whole = (buckets + 7u) & ~UINT64_C(7);
    return (whole + (whole >> geometry->ghost_group)) * SM_BUCKET_BYTES;
}

/* The bucket count; in bounds whatever the word says. */
static inline uint32_t lr_buckets(const struct lr_view *view) {
    uint32_t buckets = (uint32_t)lr_load(&view->stripe->split);
    return buckets - 1u < view->cache->geometry.most_buckets - 1u ? buckets : 1u;
}

/*
 * Tries to change a used slot word by CAS. Under the lock a try fails only if others changed the word since it was
 * seen: `pinned` and `dead` each do that once at most (only the holder takes them off), but recency is a byte that
 * readers store, and one store may undo another. Each failure means that a get has ended between our load and our CAS,
 * some nanoseconds apart; that this happens so many times in a row has no bound, and is not to be expected. Each loop
 * says what it does then.
 */
#define LR_WORD_TRIES 64u

struct lr_found {
    sm_u64 *slot; /* NULL: no such entry */
    uint64_t word;
    struct lr_head head;
};
/* Brings the key's buckets into the cache, for a writer who is about to lock the stripe. */
void lr_index_prefetch(const struct lr_view *view, uint64_t place);
/* ... and those that are split by the next new entry. */
void lr_index_prefetch_split(const struct lr_view *view);
/* When all of these are there: the block that is likely the key's, or those that must be looked at to make way and to
 * split. */
void lr_index_prefetch_entry(const struct lr_view *view, uint64_t place);
/* The key's entry, tombstones included. Removes it if it is dead. */
struct lr_found lr_index_find(struct lr_view *view, const struct lr_key *key);
/* The slot that names the block at `off`, whose header says `placing`. */
sm_u64 *lr_index_slot_of(struct lr_view *view, uint32_t placing, uint64_t off, uint64_t *word);
/* An entry whose placing hash and tag are these. */
struct lr_found lr_index_named(struct lr_view *view, uint32_t placing, uint64_t tag);
/* An empty slot for the place; if there is none, the coldest entry of its buckets goes. NULL: all are pinned, or
 * nothing may be evicted. */
sm_u64 *lr_index_room(struct lr_view *view, uint64_t place, bool may_evict);
/* Adds buckets while the index is too full, takes some away while it is too empty; a bounded step before a put of so
 * many bytes. */
void lr_index_fit(struct lr_view *view, uint64_t put_bytes);
/* Before a new entry takes room: if both its buckets are full, the index grows or a word moves on, a bounded step,
 * until they are not. */
void lr_index_prepare(struct lr_view *view, uint64_t place);
/* Finishes what a dead holder began to split or to move. */
void lr_index_finish_moves(struct lr_view *view);

/* ---- regions ------------------------------------------------------------------------------------------------ */

enum lr_region { LR_MAIN = 0, LR_PROBATION = 1 };

#define LR_SHARE_LEAST (UINT64_C(429496730)) /* of the arena for probation, in 2^-32: a tenth ... */
#define LR_SHARE_MOST (UINT64_C(1288490189)) /* ... to three tenths */
#define LR_SPARE_SHARE 5u /* per cent of the arena: what main may keep free of new keys (policy.c, R5) */

/* Of both regions. Whatever the border says, it is half a stripe at least. */
static inline uint64_t lr_arena_bytes(const struct lr_view *view) {
    const uint64_t stripe = view->cache->geometry.stripe_bytes, border = lr_load(&view->stripe->border_off);
    return stripe - (border < stripe / 2 ? border : stripe / 2);
}

static inline bool lr_has_probation(const struct lr_cache *cache) {
    return cache->geometry.policy == LR_POLICY_s3;
}

/* The share that probation should have; in bounds whatever the word says. */
static inline uint64_t lr_share(const struct lr_view *view) {
    const uint64_t share = lr_load(&view->stripe->share);
    return share < LR_SHARE_LEAST ? LR_SHARE_LEAST : share < LR_SHARE_MOST ? share : LR_SHARE_MOST;
}

struct lr_span {
    uint64_t start, end;
};

static inline uint64_t lr_gap_start(uint64_t gap) {
    return (gap >> 32) * SM_GRANULE;
}

static inline uint64_t lr_gap_end(uint64_t gap) {
    return (gap & UINT32_MAX) * SM_GRANULE;
}

static inline uint64_t lr_gap_word(uint64_t start, uint64_t end) {
    return ((start / SM_GRANULE) << 32) | (end / SM_GRANULE);
}

/* Where the region lies; in bounds whatever the words say. */
static inline struct lr_span lr_region_of(const struct lr_view *view, enum lr_region region) {
    const uint64_t end = view->cache->geometry.stripe_bytes;
    uint64_t border = lr_load(&view->stripe->border_off), divide = lr_load(&view->stripe->divide_off);
    border = border < end ? border : end;
    divide = divide < border ? border : divide < end ? divide : end;
    return region == LR_MAIN ? (struct lr_span){divide, end} : (struct lr_span){border, divide};
}

static inline enum lr_region lr_region_at(const struct lr_view *view, uint64_t off) {
    return off < lr_load(&view->stripe->divide_off) ? LR_PROBATION : LR_MAIN;
}

/* The region's gap; in bounds whatever the word says. */
static inline struct lr_span lr_gap_of(const struct lr_view *view, enum lr_region region) {
    const uint64_t word = lr_load(&view->stripe->gap[region]);
    const struct lr_span gap = {lr_gap_start(word), lr_gap_end(word)}, whole = lr_region_of(view, region);
    return gap.start <= gap.end && gap.start >= whole.start && gap.end <= whole.end
               ? gap
               : (struct lr_span){whole.end, whole.end};
}

/* Border, divide, bucket count and gaps are where they can be. */
static inline bool lr_words_sane(const struct lr_view *view) {
    const uint64_t last = view->cache->geometry.stripe_bytes, split = lr_load(&view->stripe->split);
    const uint64_t buckets = (split & UINT32_MAX) + (split & SM_SPLITTING ? 1 : 0);
    const uint64_t border = lr_load(&view->stripe->border_off), main = lr_load(&view->stripe->gap[LR_MAIN]);
    const uint64_t divide = lr_load(&view->stripe->divide_off), first = lr_load(&view->stripe->gap[LR_PROBATION]);
    const bool divided = lr_has_probation(view->cache);
    if (border < SM_BUCKET_BYTES || border > last / 2 || border % SM_GRANULE != 0 || (split & UINT32_MAX) == 0 ||
        lr_index_bytes(&view->cache->geometry, buckets) > border)
        return false;
    if (divided ? divide < border || divide > last || divide % SM_GRANULE != 0 || lr_gap_start(first) < border ||
                      lr_gap_start(first) > lr_gap_end(first) || lr_gap_end(first) > divide
                : divide != 0 || first != 0)
        return false;
    return lr_gap_start(main) >= (divided ? divide : border) && lr_gap_start(main) <= lr_gap_end(main) &&
           lr_gap_end(main) <= last;
}

/* ---- arena.c ------------------------------------------------------------------------------------------------ */

struct lr_room {
    uint64_t off;
    uint64_t size;
    uint64_t rest; /* bytes of the hole behind it, when it came from a hole */
    bool from_gap;
};

/* Commits the room as a block whose header is {word, identity, version}; no slot names it yet. */
void lr_arena_claim(struct lr_view *view, const struct lr_room *room, uint64_t word, uint64_t identity,
                    uint64_t version);
/* Free room, now: a hole of the region that begins at or above `from`, by good fit, else its gap. */
bool lr_arena_find(struct lr_view *view, enum lr_region region, uint64_t size, uint64_t from, struct lr_room *room);
/* Gives back a block that no slot names and no hazard holds. */
void lr_arena_free(struct lr_view *view, uint64_t off, uint64_t size);
/* As above, or makes it a held block if `word` (the slot word that was taken out) was pinned and a hazard names it. */
void lr_arena_release(struct lr_view *view, uint64_t word, const struct lr_head *head);
/* Counts and lists a block that has become held. */
void lr_arena_hold(struct lr_view *view, uint64_t off, uint64_t size);
/* It is none any more; its bytes are the caller's. */
void lr_arena_unhold(struct lr_view *view, uint64_t off, uint64_t size);
/* Frees the listed held blocks that nobody holds any more; those that found no place in the list wait for the hand. */
void lr_arena_free_held(struct lr_view *view);
/* Puts a hole that already stands in the tiling into its region's bin, or takes it out. */
void lr_arena_bin(struct lr_view *view, enum lr_region region, uint64_t off, uint64_t size);
void lr_arena_unbin(struct lr_view *view, enum lr_region region, uint64_t off, uint64_t size);
/* Writes a hole's header into bytes that the tiling does not name as a block yet, or over the block that begins there,
 * and bins it. */
void lr_arena_lay_hole(struct lr_view *view, enum lr_region region, uint64_t off, uint64_t size);
void lr_arena_set_gap(struct lr_view *view, enum lr_region region, uint64_t start, uint64_t end);
/* A number for a new filling of a block; never repeated in this stripe. */
uint32_t lr_arena_incarnation(struct lr_view *view);
void lr_bin_of(uint64_t size, unsigned *row, unsigned *column);
/* Something that no writer leaves behind: the stripe is repaired before it is unlocked. */
void lr_arena_report_damage(struct lr_view *view);

/* ---- hand.c ------------------------------------------------------------------------------------------------- */

enum lr_room_how {
    LR_ROOM_EVICT, /* advance the hand, evict by policy */
    LR_ROOM_FREE,  /* only what is free now */
};

/*
 * Finds room for `size` bytes (a multiple of the granule, SM_MIN_BLOCK to max_block) in the region. `keep_off`: the
 * block of the key being replaced, which counts as pinned on the first lap; 0 none. 0, EPINNED, EFULL (policy none;
 * LR_ROOM_FREE without room). The room is not taken until lr_arena_claim.
 */
int lr_hand_room(struct lr_view *view, enum lr_region region, uint64_t size, uint64_t keep_off, enum lr_room_how how,
                 struct lr_room *room);
/* Up to `steps` steps of probation's hand, not beyond the divide; spares the block at `keep_off`. */
void lr_hand_walk(struct lr_view *view, unsigned steps, uint64_t keep_off);
/* Pinned flag seen in passing: if nobody holds the block, take the flag off. True: it is held. */
bool lr_hand_pinned(struct lr_view *view, sm_u64 *slot, uint64_t *word, uint64_t off);
#define LR_WEAR_ALL 255u
/*
 * Copies a live block into `room` and names it there, its count lowered by `wear`. False: pinned or deleted meanwhile
 * (or its word does not stand still: LR_WORD_TRIES); then the copy is an unnamed block that the caller gives back.
 */
bool lr_hand_move(struct lr_view *view, sm_u64 *slot, uint64_t word, const struct lr_head *head,
                  const struct lr_room *room, unsigned wear);
/* What is left of the region's gap becomes a hole; a new, empty gap stands at `next`. */
void lr_hand_jump(struct lr_view *view, enum lr_region region, uint64_t next);

/* ---- divide.c ----------------------------------------------------------------------------------------------- */

/* Frees [border, border + bytes) and raises the border over it. False: pins, or nothing may be evicted. */
bool lr_border_raise(struct lr_view *view, uint64_t bytes);
/* The last of the index, which no bucket uses, becomes free room. */
void lr_border_lower(struct lr_view *view, uint64_t bytes);
/* Probation's hand stands at the divide: probation grows towards its share by some of main's first blocks. False: it
 * did not. */
bool lr_divide_grow(struct lr_view *view);
/* After a put: a step towards the share. Spares the block at `keep_off`. */
void lr_divide_settle(struct lr_view *view, uint64_t keep_off);
/* All is main. */
void lr_divide_dissolve(struct lr_view *view);

/* ---- policy.c ----------------------------------------------------------------------------------------------- */

/* What the policy says about a put. */
struct lr_plan {
    enum lr_region region;
    unsigned recency; /* of a new entry */
    bool fresh;       /* no count is carried over */
    bool large;       /* to be listed */
    bool turns_over;  /* main makes way for it, whatever the counts there */
};
struct lr_found;
struct lr_making;
struct lr_plan lr_policy_plan(struct lr_view *view, const struct lr_found *old, const struct lr_making *making,
                              uint64_t size);
/* Room as planned, or elsewhere if pins forbid that. */
int lr_policy_room(struct lr_view *view, const struct lr_plan *plan, uint64_t size, uint64_t keep_off,
                   enum lr_room_how how, struct lr_room *room);
/* An entry has been stored as planned, by eviction if need be. */
void lr_policy_stored(struct lr_view *view, const struct lr_plan *plan, uint64_t place, uint64_t off);
/* An entry goes by itself: its key leaves a ghost. */
void lr_policy_remember(struct lr_view *view, uint64_t place, enum lr_region region);
/* The ghosts of a bucket that is split. */
void lr_policy_split(struct lr_view *view, uint32_t partner, uint32_t fresh);
/* ... and of one that is merged into its partner. */
void lr_policy_merge(struct lr_view *view, uint32_t partner, uint32_t last);
/* Mean bytes of an item's block. */
uint64_t lr_policy_mean(const struct lr_view *view);
/* The count that an item on probation needs to be promoted. */
unsigned lr_policy_threshold(const struct lr_view *view, uint64_t size, uint64_t mean);
/* Blocks are judged as if all had the mean size. */
bool lr_policy_ignores_sizes(const struct lr_view *view);
/* An item of so many bytes has been evicted. */
void lr_policy_evicted(struct lr_view *view, uint64_t size);
/* A block leaves probation, for main or for good. */
void lr_policy_left(struct lr_view *view, unsigned count);
/* A block has had to make way in main, whatever its count. */
void lr_policy_turned_over(struct lr_view *view, bool was_read);
/* Makes it show whether the entry is used again: a count that a use would not raise falls so far that it does. Returns
 * the count. */
unsigned lr_policy_watch(struct lr_view *view, sm_u64 *slot, uint64_t word);
/* Probation's hand has gone round; spares the block at `keep_off`. */
void lr_policy_lapped(struct lr_view *view, uint64_t keep_off);

/* ---- shadow.c ----------------------------------------------------------------------------------------------- */

/* Whether the stripe chooses by age now. */
static inline bool lr_shadow_by_age(const struct lr_view *view) {
    return lr_has_probation(view->cache) &&
           atomic_load_explicit(&view->stripe->policy_turn, memory_order_relaxed) % 2 != 0;
}
/* By age: who has no higher count goes. 0 also if damaged. */
static inline unsigned lr_shadow_age_limit(const struct lr_view *view) {
    const unsigned limit = atomic_load_explicit(&view->stripe->aged_limit, memory_order_relaxed);
    return limit < LR_COUNT_PLAIN ? limit : 0;
}
/* By age: a hand has passed a block of so many bytes; of what stayed one after the other it is the last: so many bytes
 * in all, 0 if it goes. */
void lr_shadow_passed(struct lr_view *view, uint64_t size, uint64_t stayed);
/* A new key of so many bytes is put, with this count. `absent`: it was not there, not even expired. */
void lr_shadow_put(struct lr_view *view, uint64_t place, uint64_t size, unsigned count, bool absent);
/* An item goes. `for_good`: it has expired or was deleted. */
void lr_shadow_gone(struct lr_view *view, uint64_t place, bool for_good);

/* ---- entry.c ------------------------------------------------------------------------------------------------ */

/* What an entry is made of. */
struct lr_making {
    const struct lr_key *key;
    const void *value;
    size_t value_len;
    uint64_t version;
    uint64_t deadline_ms; /* UINT64_MAX never */
    uint32_t flags;
    bool tombstone;   /* then only the hash of the key counts */
    unsigned recency; /* of a new entry; one that replaces keeps what was there */
    bool access;      /* replacing counts as a use */
    bool fresh;       /* replacing what is over: its count does not go on */
    bool keep_value;  /* the value is that of the entry being replaced */
    enum lr_kind kind;
    bool shipped; /* it counts as being with every peer from the beginning */
};
/* Bytes of its block. */
uint64_t lr_entry_size(const struct lr_making *making);
/* Fills the room. Returns the slot word that publishes it. */
uint64_t lr_entry_fill(struct lr_view *view, const struct lr_room *room, const struct lr_making *making);
/*
 * Puts `word` where the key's entry stands (old->slot), or into a new slot, and frees the entry that it replaces. Finds
 * anew if the hand has moved. On error the new block has been given back and nothing is published: ESTALE a delete
 * without the lock came between; EPINNED or EFULL no slot can be had.
 */
int lr_entry_publish(struct lr_view *view, struct lr_found *old, uint64_t word, const struct lr_room *room,
                     const struct lr_making *making, bool may_evict);
/* Room, filling and publication in one. `old` is what lr_index_find said. Errors of lr_arena_room and lr_entry_publish.
 */
int lr_entry_store(struct lr_view *view, struct lr_found *old, const struct lr_making *making, enum lr_room_how how);

enum lr_forget_why {
    LR_FORGET_EVICT,    /* by the hand */
    LR_FORGET_LARGE,    /* by the list of large items */
    LR_FORGET_DISPLACE, /* its slot is needed: no tombstone may take its place */
    LR_FORGET_EXPIRE,   /* past its deadline, or flushed */
    LR_FORGET_DELETE,   /* deleted or superseded by a remote change; its version still counts for the floor */
    LR_FORGET_TOMBSTONE /* a tombstone's own end */
};
/*
 * Takes the entry out and frees its block (free_block), or leaves the bytes to the caller (the hand). Raises the
 * range's floor first. An entry that goes by itself before every peer has it leaves a tombstone in its slot, one
 * version below its own, or, where that is impossible, raises the range's void. False, and nothing has changed: it was
 * pinned meanwhile (hand and displacing only).
 */
bool lr_entry_forget(struct lr_view *view, sm_u64 *slot, uint64_t word, const struct lr_head *head,
                     enum lr_forget_why why, bool free_block);
/* Derived numbers: the entry appears (sign 1) or goes (sign -1). */
void lr_entry_account(struct lr_view *view, const struct lr_head *head, uint64_t hash, int sign);
/* Not yet with every peer, and above the flush, which every peer hears of by itself. */
bool lr_entry_unshipped(struct lr_view *view, const struct lr_head *head);
/* The row of marks_void that a key of this hash belongs to. */
static inline unsigned lr_mark_row(uint64_t hash) {
    return (unsigned)(hash >> 32) % SM_MARK_ROWS;
}
/* What the key's range has forgotten at most. */
uint64_t lr_floor_of(const struct lr_view *view, uint64_t hash);
/* Something up to `version` was declined: the firm floor rises. Needs no lock. */
void lr_firm_raise(struct lr_view *view, unsigned range, uint64_t version);
/* The same where that was not below the floor, or was let go of since a peer said so: both rise. */
void lr_floor_firm(struct lr_view *view, unsigned range, uint64_t version);
/* Whatever was read from elsewhere before now, and is to be filled in under a key of this hash, may be old. */
void lr_marks_end(struct lr_view *view, uint64_t hash);
/* As above, for all keys of the stripe. */
void lr_marks_end_all(struct lr_view *view);
/* The number of the entry's filling. */
uint64_t lr_head_turn(const struct lr_view *view, const struct lr_head *head);
/* A new version of this stripe, above all it has drawn, seen or flushed. */
uint64_t lr_version_draw(struct lr_view *view);
/* Turns valid delete notes into tombstones and frees those of the dead. Called by lr_stripe_lock before anything else
 * when notes are pending, and by sweeps. */
void lr_notes_settle(struct lr_view *view);
/* Up to `version` the key is forgotten before every peer has heard of it: its range's void, also without the lock. */
void lr_void_raise(struct lr_view *view, uint64_t hash, uint64_t version);
/* The version up to which the key may have been forgotten so; 0: it was not. */
uint64_t lr_void_of(const struct lr_view *view, uint64_t hash);
/* Ahead of that. */
void lr_void_prefetch(const struct lr_view *view, uint64_t hash);
/* A version above all that the stripe has, made without the lock: for deletes only. */
uint64_t lr_version_peek(struct lr_view *view);
/*
 * The entry yields to something of `version` that is not stored, if it is not newer; the floor rises. One that not
 * every peer has leaves a tombstone, `superseded`, or, where there is no free room for that, raises the range's void.
 */
void lr_entry_yield(struct lr_view *view, const struct lr_key *key, uint64_t version, uint64_t superseded);
/* Makes room in the tombstones' share: those that the sweep's cursor meets next go into floor and void. */
void lr_tombstones_trim(struct lr_view *view);
/* Deletes the key at `version`, whatever is there: a tombstone if replicating and not LOCAL, else nothing stays. True
 * if a live item was there. */
bool lr_entry_bury(struct lr_view *view, const struct lr_key *key, uint64_t version, enum lr_kind kind);
/*
 * The same, evicting nothing: the tombstone gets free room only, within half of the tombstones' share, since what is
 * deleted here needs the other half. False: there was none, and nothing has changed but that the hand may have moved.
 */
bool lr_entry_lay(struct lr_view *view, const struct lr_key *key, struct lr_found *old, uint64_t version);

/* ---- feed.c ------------------------------------------------------------------------------------------------- */

void lr_feed_emit(struct lr_view *view, uint64_t hash, uint64_t version);
void lr_bell_ring(struct lr_cache *cache);

/* ---- items.c ------------------------------------------------------------------------------------------------ */

/* Moves the deadline of an item that has one, in place. */
void lr_entry_extend(struct lr_view *view, const struct lr_found *found, uint64_t deadline_ms);

/* ---- sweep.c ------------------------------------------------------------------------------------------------ */

/* Removes what is gone from `buckets` buckets at the sweep's cursor, and tombstones that every peer has had for
 * tombstone_ms (UINT64_MAX: none). */
unsigned lr_sweep_buckets(struct lr_view *view, unsigned buckets, uint64_t tombstone_ms);

/* ---- repair.c ----------------------------------------------------------------------------------------------- */

/* Makes the stripe healthy: idempotent, one stripe, may be killed and repeated. The caller holds the lock with
 * SM_LOCK_RECOVER. */
void lr_repair(struct lr_view *view);
/*
 * The private bitmap that a repair needs; lr_repair gives it back. False: another thread of this process repairs, or
 * this one, interrupted by the signal handler that we are in.
 */
bool lr_repair_claim(struct lr_cache *cache);
void lr_repair_release(struct lr_cache *cache);

/* ---- reader.c ----------------------------------------------------------------------------------------------- */

/*
 * A header did not fit its word, though the word was the same before and after. Damage, or a header that was read while
 * the block was filled anew, up to the very same word (its eight bits of incarnation came round): that one is whole by
 * now.
 */
bool lr_reader_is_damage(const struct lr_view *view, sm_u64 *slot, uint64_t word);

/* Without the lock: sets `dead` in the key's slot word if its version is below `version`. 0; ENOT_FOUND: no live item
 * was there; EBUSY: the entry kept changing. */
int lr_reader_kill(struct lr_cache *cache, const struct lr_key *key, uint64_t version);

/* Highest count that the policy uses. */
static inline unsigned lr_recency_max(const struct lr_cache *cache) {
    return cache->geometry.recency_max;
}

/* How many passes of the hand the entry has left. Policy s3 keeps beside it how often it was used. */
static inline unsigned lr_slot_count(const struct lr_cache *cache, uint64_t word) {
    const unsigned recency = lr_slot_recency(word);
    return lr_has_probation(cache) ? recency & SM_RECENCY_COUNT : recency;
}

/* The recency of what is used once more (geometry.c). */
static inline unsigned lr_recency_used(const struct lr_view *view, uint64_t word) {
    const uint32_t turn = atomic_load_explicit(&view->stripe->policy_turn, memory_order_relaxed);
    return view->cache->geometry.recency_used[turn % 2][lr_slot_recency(word)];
}

#endif
