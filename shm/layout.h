/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a segment: where is everything, and who may write it?
 *
 *   segment file
 *   +--------------------+ 0
 *   | sm_header          |   constants, then a few rarely written words
 *   +--------------------+ SM_HEADER_BYTES
 *   | sm_participant [P] |   one slot for each attached handle: generation, hazards (pins), counters
 *   +--------------------+ voids_off
 *   | turns, parts       |   what was forgotten before all peers had it: SM_RANGES words, then bits of each (voids.c)
 *   +--------------------+ control_off
 *   | sm_stripe [S]      |   one control block a stripe: lock, gap, bins, notes, ranges, feed ring
 *   +--------------------+ data_off (a multiple of 2 MiB where the data is that large)
 *   | data of stripe 0   |   index | border | arena
 *   | data of stripe 1   |
 *   +--------------------+ segment_bytes
 *
 *   data of one stripe, offsets from its own start:
 *   0             border                            divide                                stripe_bytes
 *   | index bucket  | block hole .. gap .. block hole | block hole ..... gap ..... block hole |
 *                   |<--------- probation --------->|<--------------- main --------------->|
 *
 *   index with ghosts: 8 buckets of 64 bytes, then their 8 ghost words, and so on; without: buckets only
 *
 * Rules that always hold:
 *  1. Fixed-width types, no pointer, no libc type. The layout is the same for every compiler and libc.
 *  2. The index slot word is the truth: an item exists when, and only when, a slot word names its block.
 *  3. From `border` to `stripe_bytes` blocks and the gaps tile the arena completely. A block's first word holds its
 * size. No block crosses `divide`; each region's gap lies in it. Only policy s3 has two regions: elsewhere all is main.
 *  4. Bins, sums, counts are derived: repair recomputes them (repair.c), check compares them (check.c).
 *  5. The first of the index, `kept_bytes` by the plan (geometry.c), is never anything else: readers store there
 * without a look. What lies behind it may become arena again, when its buckets are empty (index.c).
 *  6. Constants of the header are copied at attach (geometry.c) and never read from the segment again.
 *
 * Fields are grouped by who writes them; each group has its own cache lines.
 */
#ifndef SM_LAYOUT_H
#define SM_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define SM_MAGIC UINT64_C(0x0a52454452414cff) /* "\xffLARDER\n" */
#define SM_LAYOUT_VERSION 13u
#define SM_BYTE_ORDER UINT32_C(0x01020304)

#define SM_LINE 64u
#define SM_GRANULE 8u         /* blocks are multiples of this; offsets are stored divided by it */
#define SM_HEADER_BYTES 4096u /* one page */
#define SM_PARTICIPANTS 1024u /* slots of handles that are attached for writing */
#define SM_PINS 64u           /* hazards of one participant: one bit each in its summary word */
#define SM_NOTES 32u          /* delete notes of one stripe: one bit each in notes_pending */
#define SM_HELD 16u           /* held blocks of one stripe that are listed for an early end */
#define SM_RANGES 256u        /* ranges of the cluster hash: its top 8 bits */
#define SM_PART_WORDS 1024u   /* of a range, at most: 64 parts each, a bit for each part */
#define SM_ACK_RANKS 8u       /* peers for whose acknowledgement a change can wait */
#define SM_BUCKET_SLOTS 8u    /* a hash bucket is one cache line of slot words */
#define SM_BUCKET_BYTES 64u
#define SM_GHOST_GROUP 3u /* 2^3 buckets, then the line of their ghost words */
#define SM_REGIONS 2u     /* main, probation */
#define SM_LARGE 64u      /* large items of one stripe that are listed */
#define SM_WATCHED 8u     /* items of main that are looked at now and then */
#define SM_SHADOWS 448u   /* sampled keys of one stripe, and whether they would be there if it chose otherwise */
#define SM_BIN_ROWS 28u   /* free bins: power of two of the size in granules ... */
#define SM_BIN_COLUMNS 8u /* ... each cut into eight */
#define SM_MIN_BLOCK 32u  /* smallest block that an allocation returns; smaller holes are crumbs */
#define SM_MAX_STRIPES 1024u
#define SM_MIN_STRIPE (UINT64_C(64) << 10)
#define SM_MAX_STRIPE (UINT64_C(256) << 20) /* a block's size has 26 bits of granules: 512 MiB */
#define SM_MAX_KEY 65536u
#define SM_NAME_BYTES 64u
#define SM_COUNTERS 48u
#define SM_STRIPE_COUNTERS 16u
#define SM_MODE_ROWS 12u                 /* prefixes of keys with a mode of their own */
#define SM_MODE_PREFIX 120u              /* bytes of one, at most */
#define SM_MODE_ROWS_MASK UINT64_C(0xff) /* in the header's word `modes` */
#define SM_MARK_ROWS 64u                 /* rows of a stripe's marks */

typedef _Atomic uint64_t sm_u64;
typedef _Atomic uint32_t sm_u32;
static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "shared words must be lock-free");
static_assert(sizeof(sm_u64) == 8 && sizeof(sm_u32) == 4, "shared words must have no hidden parts");

/* ---- header ------------------------------------------------------------------------------------------------- */

/* Written once before the segment has a name. `sum` is XXH3 of all constants behind it, up to `spare`'s end. */
struct sm_constants {
    uint64_t magic;
    uint32_t layout;
    uint32_t byte_order;
    uint64_t sum;
    uint64_t segment_bytes; /* the file's size */
    uint64_t cache_bytes;   /* stripe_count * stripe_bytes: index and arena, what the user asked for */
    uint64_t stripe_bytes;  /* data of one stripe */
    uint64_t control_bytes; /* control block of one stripe */
    uint64_t control_off;
    uint64_t data_off;
    uint64_t max_block;      /* bytes of the largest admissible block, header and key included */
    uint32_t stripe_count;   /* a power of two */
    uint32_t participants;   /* SM_PARTICIPANTS */
    uint32_t ring_len;       /* hints in a stripe's feed ring, a power of two */
    uint32_t policy;         /* enum lr_policy */
    uint64_t hash_seed;      /* random: places of keys differ from segment to segment */
    uint64_t incarnation[2]; /* random 128-bit identity of this segment */
    uint64_t created_ms;     /* Unix time */
    char name[SM_NAME_BYTES];
    uint32_t favor; /* enum lr_favor */
    uint8_t spare[60];
};
static_assert(sizeof(struct sm_constants) == 256, "constants are four lines");

enum { SM_LIVE = 1, SM_RETIRED = 2 };
/*
 * State of a segment in a memfd while its keeper lives (keeper.c): SM_KEPT and the keeper's thread id. When that thread
 * ends the kernel makes it SM_KEPT | SM_KEEPER_DIED, for the word is on the thread's list of robust futexes.
 */
#define SM_KEPT 0x80000000u
#define SM_KEEPER_DIED 0x40000000u

/* A prefix and its mode. */
struct sm_mode {
    sm_u64 what; /* bytes of the prefix: 8 (high) | enum lr_mode: 8 (low) */
    sm_u64 prefix[SM_MODE_PREFIX / 8];
};

struct sm_header {
    struct sm_constants constants; /* 0 */

    /* Read by every call, written almost never. */
    sm_u32 state;             /* 256: SM_LIVE or SM_KEPT and more, then SM_RETIRED (or the kernel's word) for good */
    sm_u32 replicating;       /* 260: 1 while larderd has peers configured; survives its restart */
    sm_u64 flush_version;     /* 264: items at or below this version are gone; only rises */
    sm_u32 origin;            /* 272: low 10 bits of the versions drawn here */
    sm_u32 participants_high; /* 276: slots at or above were never used; only rises */
    sm_u64 modes;             /* 280: turn of the mode tables 56 | rows of the one that counts 8; written by larderd */
    sm_u64 modes_fitted;      /* 288: the turn up to which all entries have been fitted to their modes */
    sm_u64 doubt;             /* 296: versions of two hosts that differ by less say nothing | 1: this host is a relay */
    sm_u32 policy_turn; /* 304: policy s3: changes of the way to choose what goes; odd: by age (shadow.c): a hint */
    uint8_t pad0[12];

    /* The bell: a sleeping sidecar is woken by a futex. */
    sm_u32 bell;         /* 320: futex word, changed by a ring */
    sm_u32 bell_waiting; /* 324: 1 when somebody sleeps on it */
    sm_u32 acks;         /* 328: futex word, changed when peers have acknowledged something */
    sm_u32 acks_waiting; /* 332: 1 when somebody sleeps on it */
    sm_u32 policy_score; /* 336: policy s3: how much better the other way would be; signed: a hint */
    uint8_t pad1[44];

    /* Written by larderd, read by the inspector. */
    sm_u64 sidecar_owner;        /* 384: {slot, generation} as in the lock word; 0 none */
    sm_u64 sidecar_heartbeat_ms; /* 392: host clock (clock.h) */
    sm_u32 sidecar_peers;        /* 400: configured */
    sm_u32 sidecar_connected;    /* 404: established */
    sm_u64 lag_p50_us;           /* 408: UINT64_MAX unknown */
    sm_u64 lag_p99_us;           /* 416 */
    uint8_t pad2[88];

    sm_u64 retired_counters[SM_COUNTERS]; /* 512: counters of participants that left */

    /* Written by larderd, read by every change where `modes` names any rows: table `turn` mod 2 counts. */
    struct sm_mode mode_tables[2][SM_MODE_ROWS]; /* 896 */
    uint8_t pad3[SM_HEADER_BYTES - 896 - 2 * SM_MODE_ROWS * sizeof(struct sm_mode)];
};
static_assert(sizeof(struct sm_header) == SM_HEADER_BYTES, "header is one page");
static_assert(offsetof(struct sm_header, state) == 256 && offsetof(struct sm_header, bell) == 320, "byte map");
static_assert(offsetof(struct sm_header, retired_counters) == 512, "byte map");

/* ---- participants ------------------------------------------------------------------------------------------- */

enum { SM_SLOT_FREE = 0, SM_SLOT_ACTIVE = 1 };

/* Written by its owner, who holds the OFD lock on byte `slot` of the liveness file, or by the reaper who took that
 * byte. */
struct sm_participant {
    sm_u64 generation; /* 0: rises with every owner and every reaping; at most 50 bits are used */
    sm_u32 state;      /* 8 */
    sm_u32 pid;        /* 12: for humans only, as are the next three */
    sm_u64 started_ms; /* 16: Unix time */
    sm_u64 pid_ns;     /* 24: inode of the PID namespace in which `pid` counts */
    sm_u64 name[4];    /* 32: text, NUL-padded */

    sm_u64 pin_summary; /* 64: bit i: hazard i was used by this owner, and may be in use */
    uint8_t pad0[56];

    /* 128: {size / 8 : 26, segment offset / 8 : 38} of a pinned block, size 0 while it is being pinned; 0 none */
    sm_u64 hazards[SM_PINS];

    sm_u64 counters[SM_COUNTERS]; /* 640: rows of LR_COUNTERS (cache.h) */
};
#define SM_HAZARD_PLACE_BITS 38 /* 2 TiB */
#define SM_HAZARD_PLACE_MASK ((UINT64_C(1) << SM_HAZARD_PLACE_BITS) - 1)
static_assert(sizeof(struct sm_participant) == 1024, "participant is a KiB");
static_assert(offsetof(struct sm_participant, pin_summary) == 64, "byte map");
static_assert(offsetof(struct sm_participant, hazards) == 128, "byte map");

/* ---- stripe control ----------------------------------------------------------------------------------------- */

/*
 * Lock word: who holds the stripe is in the CAS that takes it.
 *
 *   63                    32 31              14 13          2   1        0
 *   | generation, high 32   | generation, 18   | slot + 1    | recover | waiters |
 *
 * 0 in the slot field: free. The futex is the low half. `recover`: taken over from a dead owner, repair not finished.
 */
#define SM_LOCK_WAITERS UINT64_C(1)
#define SM_LOCK_RECOVER UINT64_C(2)
#define SM_LOCK_SLOT_SHIFT 2
#define SM_LOCK_SLOT_MASK UINT64_C(0xfff)
#define SM_LOCK_GENERATION_SHIFT 14
#define SM_GENERATION_MASK ((UINT64_C(1) << 50) - 1)
#define SM_LOCK_OWNER_MASK (~(SM_LOCK_WAITERS | SM_LOCK_RECOVER))

/* Split word: {moves : 31, splitting : 1, buckets : 32}: bucket count of the index, whether the split that makes bucket
 * number `buckets` (or the merge that takes it away) is under way, words moved. */
#define SM_SPLITTING (UINT64_C(1) << 32)
#define SM_MOVES_ONE (UINT64_C(1) << 33)

/* Gap word: {start / 8 : 32 high, end / 8 : 32 low}, offsets from the stripe's data start. */

/* In the owner word of a note. */
#define SM_NOTE_VALID UINT64_C(1)
#define SM_NOTE_TOLD UINT64_C(2) /* it speaks of a key of mode invalidate */

struct sm_note {    /* a delete made without the lock */
    sm_u64 owner;   /* {slot, generation} as in the lock word, and the bits above; 0 free */
    sm_u64 hash;    /* cluster hash */
    sm_u64 version; /* of the delete */
    uint64_t pad;
};
static_assert(sizeof(struct sm_note) == 32, "note");

struct sm_hint { /* a row of the feed ring */
    sm_u64 hash; /* cluster hash */
    sm_u64 version;
};

struct sm_shadow { /* policy s3: a sampled key, under both ways to choose what goes (shadow.c): hints */
    sm_u64 key;    /* tag 13, placing hash 32 | count seen 3 | count 2 | here, by age, by rules, main, ghost; 0 none */
    sm_u64 when;   /* order by age 20 | order by rules 20 | granules 24 */
};

struct sm_stripe {
    /* The lock's line. */
    sm_u64 lock;             /* 0 */
    sm_u64 sequence;         /* 8: odd while the holder works; lets a lockless snapshot see that nothing moved */
    sm_u32 notes_pending;    /* 16: bit i: note i is claimed and perhaps valid; set by deleters without the lock */
    sm_u32 rescan;           /* 20: hints were lost, the sidecar must scan the stripe */
    sm_u64 stalled_since_ms; /* 24: host clock at which a waiter first gave up on the present owner; 0 none */
    sm_u64 stalled_owner;    /* 32: that owner's lock word */
    uint8_t pad0[24];

    /* The readers' line: read by every get, written when the index grows or shrinks. */
    sm_u64 split;       /* 64 */
    sm_u64 moves_down;  /* 72: words moved to a bucket that walks visit earlier: who missed one starts over */
    sm_u64 merges;      /* 80: begun: a walk looks again where words may have come in behind it */
    sm_u32 policy_turn; /* 88: policy s3, as in the header: what this stripe does, and its shadows mean: a hint */
    uint8_t pad1[36];

    /* The holder's lines. */
    sm_u64 gap[SM_REGIONS]; /* 128: of main, of probation */
    sm_u64 border_off;      /* 144: first byte of the arena, last of the index */
    sm_u64 divide_off;      /* 152: first byte of the main region; 0 where there is one region only */
    sm_u64 clock;           /* 160: highest version drawn or seen here, origin bits included */
    sm_u64 incarnation;     /* 168: last number given to a block; low 32 bits go into the block */
    sm_u32 epoch;           /* 176: arrival epoch given to new blocks; low 12 bits go into the block */
    sm_u32 acked_epoch;     /* 180: all that arrived up to this epoch is with every peer; written by larderd */
    sm_u64 ring_head;       /* 184: hints ever written */
    sm_u64 ring_acked;      /* 192: hints that every peer has applied or declined; written by larderd */
    sm_u64 sweep_cursor;    /* 200: bucket the expiry sweep looks at next */
    sm_u64 share;           /* 208: of the arena that probation should have, in 2^-32: a hint within bounds */
    sm_u64 probation_laps;  /* 216: of probation's hand; dates the list of large items: a hint */
    sm_u64 patience_ms;     /* 224: policy ttl: what expires within that goes: a hint */
    sm_u32 wanted;          /* 232: policy s3: how much large items that come back are wanted: a hint */
    sm_u32 quiet;           /* 236: policy s3: granules evicted since something came back: a hint */
    sm_u64 look_left_bytes; /* 240: policy none: free when the hand last went round in vain: a hint */
    sm_u64 look_again_ms;   /* 248: and a put that finds no room does not send it before: a hint */

    /* Derived: recomputed by repair, compared by check. */
    sm_u64 items;               /* 256: slots that name an item */
    sm_u64 item_bytes;          /* 264: bytes of their blocks */
    sm_u64 payload_bytes;       /* 272: bytes of their keys and values */
    sm_u64 tombstones;          /* 280: slots that name a tombstone */
    sm_u64 held_blocks;         /* 288: blocks without a slot that a pin keeps */
    sm_u64 held_bytes;          /* 296 */
    sm_u64 hole_bytes;          /* 304: holes, crumbs included, without the gaps */
    sm_u64 ttl_items;           /* 312: items that expire */
    sm_u64 bin_map[SM_REGIONS]; /* 320: bit r: row r has a hole */
    /* Not derived. */
    sm_u32 trust;               /* 336: policy s3: how new keys fare: a hint */
    sm_u32 silence;             /* 340: policy s3: granules of new keys since main was seen to be read: a hint */
    sm_u32 watched[SM_WATCHED]; /* 344: policy s3: {bucket 21, slot 3, tag 6, count + 1: 2}; 0 none: hints */
    sm_u64 marked;              /* 376: 0: nobody ever took a mark here, and marks_void is not kept */
    sm_u64 counters[SM_STRIPE_COUNTERS];                  /* 384: rows of LR_STRIPE_COUNTERS (cache.h) */
    sm_u32 bins[SM_REGIONS][SM_BIN_ROWS][SM_BIN_COLUMNS]; /* 512: offset / 8 of the first hole; 0 none */
    sm_u32 held[SM_HELD];            /* 2304: offset / 8 of held blocks, as many as fit; 0 none: derived */
    sm_u64 large[SM_LARGE];          /* 2368: large items, oldest first; 0 ends the list: a hint (policy.c) */
    struct sm_note notes[SM_NOTES];  /* 2880 */
    sm_u64 range_sum[SM_RANGES];     /* 3904: sum of mixed {hash, version} of items: derived */
    sm_u64 range_floor[SM_RANGES];   /* 5952: highest version forgotten here, or declined; only rises */
    sm_u64 range_void[SM_RANGES];    /* 8000: highest forgotten before all peers had it, of set parts */
    sm_u64 acked_by[SM_ACK_RANKS];   /* 10048: hints that at least i + 1 peers have; written by larderd */
    sm_u64 marks_void[SM_MARK_ROWS]; /* 10112: marks that are older than this incarnation are void (items.c) */
    sm_u64 range_firm[SM_RANGES];    /* 10624: highest declined, or let go of since a peer said so; only rises */
    sm_u32 shadow_clock;             /* 12672: order last given to one of them: a hint, as are these */
    sm_u32 shadow_shift;             /* 12676: one key in 2^so many is sampled */
    sm_u32 shadow_at;                /* 12680: looked at last */
    sm_u32 shadow_due;               /* 12684: granules put since */
    sm_u32 aged_at;                  /* 12688: bucket whose counts fell last */
    sm_u32 aged_due;                 /* 12692: granules that the hands have passed since */
    sm_u32 filled;     /* 12696: 0: it fills; else 1 and how many items have gone for want of room since */
    sm_u32 fill_score; /* 12700: how much better LRU would have been in less memory until then; signed */
    sm_u32 aged_limit; /* 12704: by age no higher count goes; 0 but after a change */
    sm_u32 aged_few;   /* 12708: 1: few had no count left when all had fallen last */
    sm_u32 aged_seen;  /* 12712: entries whose counts have fallen since */
    sm_u32 aged_worn;  /* 12716: those without a count */
    struct sm_shadow shadows[SM_SHADOWS]; /* 12720 */
    struct sm_hint ring[];                /* 19888 */
};
static_assert(offsetof(struct sm_stripe, split) == 64 && offsetof(struct sm_stripe, gap) == 128, "byte map");
static_assert(offsetof(struct sm_stripe, items) == 256 && offsetof(struct sm_stripe, counters) == 384, "byte map");
static_assert(offsetof(struct sm_stripe, bins) == 512 && offsetof(struct sm_stripe, notes) == 2880, "byte map");
static_assert(offsetof(struct sm_stripe, large) == 2368 && offsetof(struct sm_stripe, range_sum) == 3904, "byte map");
static_assert(offsetof(struct sm_stripe, ring) == 19888, "byte map");
#define SM_STRIPE_FIXED offsetof(struct sm_stripe, ring)

/* In the turn word of a range: parts were cleared, so that bits do not speak of all that was ever forgotten there. */
#define SM_TURN_CLEARED (UINT64_C(1) << 63)

/* ---- index slot word ---------------------------------------------------------------------------------------- */

/*
 *   63      51   50     49      48    47      40 39             32 31                  0
 *   | tag 13  | dead | moved | pinned | recency 8 | incarnation 8   | offset / 8 in stripe |
 *
 * Offset 0: empty. tag and incarnation let most wrong candidates be refused without touching the block. A word that
 * moves to another bucket is `moved` in its old place; its copy is `dead` and `moved` until it counts (index.c).
 *
 * Recency is a byte of its own, because readers raise it by a plain store of that byte: a locked instruction would make
 * the processor wait for everything before it, and cost as much as the rest of a get. Such a store may come late, when
 * the slot is empty again or another entry's: then that entry counts as a little hotter or colder than it is, and an
 * empty slot may hold a recency, no more. Policy s3 has two numbers in it: how often the entry was used, and the count
 * of passes that it has left.
 */
#define SM_SLOT_OFF_MASK UINT64_C(0xffffffff)
#define SM_SLOT_INC_SHIFT 32
#define SM_SLOT_INC_MASK (UINT64_C(0xff) << SM_SLOT_INC_SHIFT)
#define SM_SLOT_RECENCY_BYTE 5u /* little-endian */
#define SM_SLOT_RECENCY_SHIFT 40
#define SM_SLOT_RECENCY_ONE (UINT64_C(1) << SM_SLOT_RECENCY_SHIFT)
#define SM_SLOT_RECENCY_MASK (UINT64_C(0xff) << SM_SLOT_RECENCY_SHIFT)
#define SM_RECENCY_COUNT 0x0fu /* policy s3 */
#define SM_RECENCY_USES_SHIFT 4
#define SM_SLOT_PINNED (UINT64_C(1) << 48)
#define SM_SLOT_MOVED (UINT64_C(1) << 49)
#define SM_SLOT_DEAD (UINT64_C(1) << 50)
#define SM_SLOT_TAG_SHIFT 51
#define SM_SLOT_TAG_MASK (UINT64_C(0x1fff) << SM_SLOT_TAG_SHIFT)
/* What a reader may change at any time, and what therefore does not count as a change. */
#define SM_SLOT_SOFT (SM_SLOT_PINNED | SM_SLOT_RECENCY_MASK)

/*
 * A ghost word remembers the four keys of a bucket that went last, the newest in the low bits:
 *
 *   15          14                  0
 *   | probation | of the key's place |  x 4        0: none
 *
 * A hint, which readers never look at.
 */
#define SM_GHOST_BITS 16u
#define SM_GHOSTS 4u
#define SM_GHOST_PROBATION UINT64_C(0x8000)
#define SM_GHOST_TAG UINT64_C(0x7fff)

/* ---- blocks ------------------------------------------------------------------------------------------------- */

/*
 *   word 0   63      48 47  46 45        34 33   31 30   28 27  26 25                0
 *            | key len-1 | kind | arrival   | pad   | parts | state | size / 8         |
 *            |           |      | epoch 12  | bytes |       |       |                  |
 *   word 1   placing hash 32 (high) | incarnation 32 (low)
 *   word 2   version
 *   [expiry  8 bytes, host clock in ms]   if parts has SM_PART_EXPIRY
 *   [flags   4 bytes]                     if parts has SM_PART_FLAGS
 *   key, value, pad
 *
 * Value length = size - header - parts - key - pad. A tombstone has SM_PART_TOMB, no key, and behind the header its
 * 8-byte cluster hash. A hole has its size and, from 16 bytes on, {next / 8 : 32, previous / 8 : 32} in word 1.
 */
enum { SM_BLOCK_HOLE = 0, SM_BLOCK_LIVE = 1, SM_BLOCK_HELD = 2 };
#define SM_BLOCK_SIZE_MASK UINT64_C(0x3ffffff)
#define SM_BLOCK_STATE_SHIFT 26
#define SM_BLOCK_PARTS_SHIFT 28
#define SM_BLOCK_PAD_SHIFT 31
#define SM_BLOCK_EPOCH_SHIFT 34
#define SM_BLOCK_EPOCH_BITS 12
#define SM_BLOCK_KIND_SHIFT 46 /* enum lr_kind */
#define SM_BLOCK_KEY_SHIFT 48
#define SM_PART_EXPIRY 1u
#define SM_PART_FLAGS 2u
#define SM_PART_TOMB 4u

struct sm_block {
    sm_u64 word;
    sm_u64 identity; /* holes: links */
    sm_u64 version;
};
static_assert(sizeof(struct sm_block) == 24, "item header without parts");

/* ---- versions ----------------------------------------------------------------------------------------------- */

/* 42 bits ms since 2020-01-01 | 12 bits counter | 10 bits origin. */
#define SM_VERSION_ORIGIN_BITS 10
#define SM_VERSION_MS_SHIFT 22
#define SM_VERSION_EPOCH_MS UINT64_C(1577836800000)

#endif
