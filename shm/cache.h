/* SPDX-License-Identifier: MIT */
/*
 * The engine's front door: what can one process do with a segment?
 *
 * A `struct lr_cache` is one process's attachment: mapping, copied geometry, participant slot. Calls are thread-safe
 * unless they say otherwise. Functions return 0 or a negative LARDER_E* (larder_errors.h); on error nothing has changed
 * unless stated. Nothing here allocates, prints or blocks without a bound while a stripe is locked.
 *
 * Crash behaviour, for all calls: a process killed inside any of them costs at most the change it was making; the next
 * one to need the stripe repairs it. After fork() the child's first call registers it anew (participant.c).
 */
#ifndef LR_CACHE_H
#define LR_CACHE_H

#include "larder_errors.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LR_WHY_BYTES 512

/* Rows: X(name, unit, sentence). Counters of a participant; the segment's are sums over all, past and present. */
#define LR_COUNTERS(X)                                                                                                 \
    X(hits, "gets", "gets that returned a value")                                                                      \
    X(misses, "gets", "gets that found no live item")                                                                  \
    X(hit_bytes, "bytes", "value bytes returned by gets")                                                              \
    X(retries, "reads", "lock-free reads that started over: the item changed, or a glance did not do")                 \
    X(locked_reads, "reads", "reads that took the stripe's lock after their retries")                                  \
    X(pins, "gets", "gets that pinned a value")                                                                        \
    X(pin_refusals, "gets", "pins refused because the process or the stripe had too many")                             \
    X(puts, "puts", "values stored")                                                                                   \
    X(put_bytes, "bytes", "value bytes stored")                                                                        \
    X(put_refusals, "puts", "puts refused by a condition (add, replace, compare-and-swap)")                            \
    X(deletes, "deletes", "keys deleted")                                                                              \
    X(touches, "touches", "deadlines changed without a new value")                                                     \
    X(busy, "calls", "calls that gave up because a stripe's lock was held too long")                                   \
    X(lockless_deletes, "deletes", "deletes made behind a lock holder who did not answer")                             \
    X(notes_exhausted, "deletes", "lockless deletes that found no free note")                                          \
    X(pinned_full, "puts", "puts refused because live pins left no room")                                              \
    X(lock_waits, "locks", "lock acquisitions that had to sleep")                                                      \
    X(takeovers, "locks", "stripe locks taken over from dead owners")                                                  \
    X(repairs, "repairs", "stripes repaired")                                                                          \
    X(repair_ns, "ns", "time spent repairing")                                                                         \
    X(repair_dropped, "items", "items dropped by repair because they could not be trusted")                            \
    X(reaped, "participants", "dead participants whose slots were freed")                                              \
    X(corrupt_seen, "reads", "references outside their bounds that were met and ignored")                              \
    X(applied, "changes", "remote changes stored")                                                                     \
    X(applied_stale, "changes", "remote changes older than what is stored")                                            \
    X(applied_declined, "changes", "remote changes declined: below the floor, no room or refused")                     \
    X(applied_local, "changes", "remote changes of keys that are local here: declined")                                \
    X(invalidated, "items", "items that went because another host changed their key (mode invalidate)")                \
    X(fills, "fills", "values stored that were read from their source")                                                \
    X(fill_refusals, "fills", "fills refused: the key was changed while its source was read")

enum lr_counter {
#define X(name, unit, sentence) LR_C_##name,
    LR_COUNTERS(X)
#undef X
        LR_COUNTER_COUNT
};

/* Rows: X(name, unit, sentence). Counters of a stripe, written under its lock. */
#define LR_STRIPE_COUNTERS(X)                                                                                          \
    X(evictions, "items", "items evicted to make room")                                                                \
    X(expirations, "items", "expired items removed")                                                                   \
    X(index_evictions, "items", "items evicted because their hash bucket was full")                                    \
    X(slides, "blocks", "blocks moved by the hand")                                                                    \
    X(slide_bytes, "bytes", "bytes moved by the hand")                                                                 \
    X(promotions, "blocks", "blocks moved from probation to the main region")                                          \
    X(ghost_hits, "puts", "puts of keys that had gone not long before")                                                \
    X(laps, "laps", "times the hand went round")                                                                       \
    X(splits, "buckets", "hash buckets added")                                                                         \
    X(merges, "buckets", "hash buckets taken away")                                                                    \
    X(overruns, "times", "rescans because the feed ring was overrun or a holder died")                                 \
    X(unshipped_evictions, "items", "items that went before every peer had them")                                      \
    X(voids_raised, "times", "times something was forgotten untold, for want of a tombstone")

enum lr_stripe_counter {
#define X(name, unit, sentence) LR_S_##name,
    LR_STRIPE_COUNTERS(X)
#undef X
        LR_STRIPE_COUNTER_COUNT
};

/* Rows: X(name, number, sentence). Only those that this release implements. */
#define LR_POLICIES(X)                                                                                                 \
    X(s3, 0, "new items are on probation until they are read again or come back; what proved itself stays")            \
    X(clock, 1, "one region, a small recency count for each item")                                                     \
    X(lfu, 2, "what was read most often stays; counts age")                                                            \
    X(ttl, 3, "what expires soonest goes first")                                                                       \
    X(none, 4, "evicts nothing: a put into a full segment is refused")

enum lr_policy {
#define X(name, number, sentence) LR_POLICY_##name = (number),
    LR_POLICIES(X)
#undef X
};

/* Rows: X(name, number, sentence). Which hit ratio a policy aims at. */
#define LR_FAVORS(X)                                                                                                   \
    X(objects, 0, "many small items rather than one large: fewest misses")                                             \
    X(bytes, 1, "size does not count: fewest bytes missed")

enum lr_favor {
#define X(name, number, sentence) LR_FAVOR_##name = (number),
    LR_FAVORS(X)
#undef X
};

/* Rows: X(name, number, sentence). What other hosts see of a key, by its prefix. */
#define LR_MODES(X)                                                                                                    \
    X(values, 0, "its values travel: every host holds the newest")                                                     \
    X(invalidate, 1, "a change makes the other hosts drop what they hold; no value travels")                           \
    X(local, 2, "nothing of it leaves or enters this host, but for a flush")

enum lr_mode {
#define X(name, number, sentence) LR_MODE_##name = (number),
    LR_MODES(X)
#undef X
};

/* What an entry is to other hosts. SHARED: they may have it. Of mode invalidate, TOLD: a change, of which they are told
 * that what is older is over; FILL: read from its source, so that there is nothing to tell. LOCAL: of mode local. */
enum lr_kind { LR_SHARED = 0, LR_TOLD = 1, LR_FILL = 2, LR_LOCAL = 3 };

struct lr_cache;

struct lr_options {
    const char *name; /* [A-Za-z0-9._-]{1,64}, not "." or "..", not ending in ".live": /dev/shm/larder.<name>. Or: */
    const char *path; /* a file on a tmpfs; the liveness file is `path`.live. Or "unix:" and a keeper's socket */
    uint64_t size;    /* create: bytes for index and items; fixed tables come on top. 0: 64 MiB */
    unsigned stripes; /* create: 0 chooses; else a power of two */
    enum lr_policy policy; /* create */
    enum lr_favor favor;   /* create */
    mode_t mode;           /* create: 0 is 0600. Never writable by others */
    gid_t group;           /* create: (gid_t)-1 leaves the process's */
    bool replicating;      /* create: as lr_set_replicating, before anybody can attach */
    uid_t owner;           /* attach: an owner accepted beside oneself and root; (uid_t)-1 none */
    bool read_only;        /* attach: PROT_READ, no slot, no pins, no marks */
    bool prefault;         /* touch all pages now */
    unsigned wait_ms;      /* longest wait for a stripe's lock: 1 to 60000, 0 is 250 */
    const char *who;       /* for humans, shown by `larder procs`; NULL: the program's name */
};
/* All fields at their defaults, name NULL. */
struct lr_options lr_options_default(void);

/*
 * Create, attach, or attach-else-create. `*out` is owned by the caller, who detaches it. On error `*out` is NULL and
 * `why` (LR_WHY_BYTES, may be NULL) holds one line with both sides of the mismatch. Waits for another creator of the
 * same name at most 5 s, and 4 s more for each GiB, then EBUSY. lr_cache_create: EEXISTS if the name is taken.
 * lr_cache_open: two creators at once: one creates, both attach.
 */
int lr_cache_create(const struct lr_options *options, struct lr_cache **out, char *why);
int lr_cache_attach(const struct lr_options *options, struct lr_cache **out, char *why);
int lr_cache_open(const struct lr_options *options, struct lr_cache **out, char *why);
/* Releases pins, leaves the slot, unmaps. No other thread may be inside a call with `cache`. NULL is allowed. */
void lr_cache_detach(struct lr_cache *cache);
/* Marks the segment retired (attached processes get ERETIRED) and removes both files. The memory goes with the last
 * detach. */
int lr_cache_destroy(const struct lr_options *options, char *why);
/* Attaches a plain copy of a segment file for reading: for `check`, and tests. No liveness is known there. */
int lr_cache_attach_image(const char *file, struct lr_cache **out, char *why);

const char *lr_error_name(int error);   /* "BUSY"; "OK" for 0 and above */
const char *lr_error_text(int error);   /* one clause */
const char *lr_error_remedy(int error); /* one clause */
const char *lr_policy_name(uint32_t policy);
/* -1 when there is no such policy. */
int lr_policy_number(const char *name);
const char *lr_favor_name(uint32_t favor);
/* -1 when there is no such word. */
int lr_favor_number(const char *name);

/* ---- items -------------------------------------------------------------------------------------------------- */

#define LR_PEEK 1u /* get: count no hit or miss and leave recency alone */

struct lr_item {
    uint64_t version;     /* compare-and-swap token; never 0 */
    uint64_t deadline_ms; /* host clock (lr_now_ms); UINT64_MAX: never expires */
    uint32_t value_len;   /* bytes */
    uint32_t flags;       /* the user's */
};

/*
 * Copies the value into buf[0, cap). ETOO_SMALL: item->value_len says how much is needed, buf is undefined.
 * ENOT_FOUND, EBUSY (only when a stopped holder and a changing item coincide), ERETIRED. `item` may be NULL. Lock-free;
 * one more try under the lock.
 */
int lr_get(struct lr_cache *cache, const void *key, size_t key_len, void *buf, size_t cap, struct lr_item *item,
           unsigned flags);

struct lr_read { /* one row of a batch */
    const void *key;
    size_t key_len;
    void *buf;
    size_t cap;
    struct lr_item item; /* out */
    int result;          /* out: as lr_get */
};
/* Like lr_get for each row, with the memory accesses of many rows overlapped. Returns the number of rows with result 0.
 */
size_t lr_get_many(struct lr_cache *cache, struct lr_read *rows, size_t count, unsigned flags);

struct lr_pin {
    const void *value; /* readable, unmoved, unchanged until lr_unpin */
    struct lr_item item;
    uint32_t hazard;     /* private */
    uint64_t generation; /* private */
};
/* ENO_PINS beyond SM_PINS (64) of one handle, or beyond the share of a stripe that pins may hold (hazard.c);
 * EREAD_ONLY. Not valid in a forked child. */
int lr_pin(struct lr_cache *cache, const void *key, size_t key_len, struct lr_pin *pin);
/* A second release, or one in a forked child, does nothing. */
void lr_unpin(struct lr_cache *cache, struct lr_pin *pin);

/* A moment before a key's source is read. Filled in by lr_mark; its fields are private. */
struct lr_mark {
    uint64_t hash, version, turn;
};
/* EBUSY, ERETIRED, EREAD_ONLY, EINVALID: then a fill has no mark, and had better not be made. */
int lr_mark(struct lr_cache *cache, const void *key, size_t key_len, struct lr_mark *mark);

enum lr_put_mode { LR_SET, LR_ADD, LR_REPLACE, LR_CAS, LR_FILL_IN };

struct lr_put {
    const void *key;
    const void *value;
    size_t key_len;    /* 1 to 65536 */
    size_t value_len;  /* see lr_max_value */
    uint64_t ttl_ms;   /* 0: never expires */
    uint64_t expected; /* LR_CAS: the version that must be stored now */
    uint32_t flags;    /* kept with the item; 0 costs no memory */
    enum lr_put_mode mode;
    const struct lr_mark *mark; /* LR_FILL_IN: before its source was read; NULL: it was not marked */
    uint64_t version;           /* out: the new version */
};
/* EEXISTS (add), ENOT_FOUND (replace, cas), ECONFLICT (cas; fill_in: changed since the mark), ETOO_LARGE, EBUSY,
 * EPINNED, EFULL, ERETIRED, EREAD_ONLY, EINVALID. */
int lr_put(struct lr_cache *cache, struct lr_put *put);
/* ENOT_FOUND if there was none. EBUSY only if a stripe's holder gave no answer and the item yet kept changing. */
int lr_delete(struct lr_cache *cache, const void *key, size_t key_len);
/* New deadline, ttl_ms from now (0: never). Extending changes the item in place, shortening stores it anew with a new
 * version. */
int lr_touch(struct lr_cache *cache, const void *key, size_t key_len, uint64_t ttl_ms);
/* The value is a decimal int64. Absent: stores `initial` with ttl_ms. Wraps never: EINVALID on overflow. Keeps flags
 * and deadline. */
int lr_increment(struct lr_cache *cache, const void *key, size_t key_len, int64_t delta, int64_t initial,
                 uint64_t ttl_ms, int64_t *result);
/* Everything stored before the call is gone for every reader, and whatever a touch, an increment or a compare-and-swap
 * that runs meanwhile makes of it; on other hosts, what they store up to 2 ms later by their clocks. One word; takes no
 * lock. */
int lr_flush(struct lr_cache *cache);

/* Largest value that a key of this length admits. */
uint64_t lr_max_value(const struct lr_cache *cache, size_t key_len);
/* Host clock in ms: boot time of the initial namespace. Only differences mean anything. */
uint64_t lr_now_ms(const struct lr_cache *cache);
/* Drives this handle's clock: expiry is judged and deadlines are made by `now_ms` until the next call. 0: back to the
 * host clock. */
void lr_drive_clock(struct lr_cache *cache, uint64_t now_ms);
/* Cluster hash of a key: the same on every host. Its top 8 bits are the key's range. */
uint64_t lr_cluster_hash(const void *key, size_t key_len);
/* Unix milliseconds at which `version` was drawn. */
uint64_t lr_version_unix_ms(uint64_t version);

/* ---- scanning: ls, digest, bootstrap, rescans ------------------------------------------------------------------- */

struct lr_entry {
    uint64_t hash; /* cluster hash */
    uint64_t version;
    uint64_t deadline_ms; /* UINT64_MAX never */
    uint32_t epoch;       /* arrival epoch, 12 bits */
    enum lr_kind kind;
    uint32_t flags;
    bool tombstone; /* then key_len and value_len are 0 */
    bool modal;     /* it is the tombstone of a key of mode invalidate */
    bool trace;     /* it is the tombstone of an item that has expired, and stands still */
    bool pinned;
    unsigned recency; /* passes of the hand that it has left */
    uint32_t stripe;
    uint32_t block_bytes;
    uint32_t key_len;
    uint32_t value_len;
    const void *key;   /* in the caller's buffer */
    const void *value; /* behind the key; NULL: it was not asked for */
};

struct lr_scan {
    bool traces;    /* set by the caller: expired items too, each as a tombstone of what was older */
    bool keys;      /* ... and: values are not copied */
    bool newer;     /* ... nor those of what had arrived up to `epoch` */
    uint32_t epoch; /* of the present stripe */
    uint32_t stripe;
    uint32_t last_stripe; /* inclusive */
    uint32_t restarts;    /* of the present stripe: what was seen of it comes again */
    uint64_t position;    /* cursor: private, as is all that follows */
    uint64_t split, merges, moves;
    uint32_t bucket, slot;
};
/* A scan over all stripes, or one. */
struct lr_scan lr_scan_all(const struct lr_cache *cache);
struct lr_scan lr_scan_stripe(uint32_t stripe);
/*
 * Next entry, copied into buf (lr_entry_bytes() always suffices). Takes no lock, moves no recency mark. Entries that
 * stay throughout are seen at least once; an entry may be seen twice while the index grows or shrinks. Expired, flushed
 * and dead entries are left out. 0: entry filled. ENOT_FOUND: the scan is over. ETOO_SMALL: buffer; the cursor has not
 * moved. EBUSY: this one slot kept changing, it was skipped; or its bucket did, and comes again.
 */
int lr_scan_next(struct lr_cache *cache, struct lr_scan *scan, void *buf, size_t cap, struct lr_entry *entry);
/* What is still to be walked, in 65536ths of a stripe. */
uint64_t lr_scan_left(const struct lr_scan *scan);
/* The entry with this cluster hash: item or tombstone; an expired item as with `traces` above. */
int lr_entry_by_hash(struct lr_cache *cache, uint64_t hash, void *buf, size_t cap, struct lr_entry *entry);
/* The same, and the value is not copied. */
int lr_entry_without_value(struct lr_cache *cache, uint64_t hash, void *buf, size_t cap, struct lr_entry *entry);
/* Fetch, for a call soon, the index lines of a hash; then the beginning of the entry that they lead to; then the rest.
 */
void lr_entry_prefetch(const struct lr_cache *cache, uint64_t hash);
void lr_entry_prefetch_block(const struct lr_cache *cache, uint64_t hash);
void lr_entry_prefetch_value(const struct lr_cache *cache, uint64_t hash);
/* Bytes of the largest key and value together. */
size_t lr_entry_bytes(const struct lr_cache *cache);

struct lr_digest {
    uint64_t sum;   /* order-independent: sum of XXH3 over {key, value, flags, version} */
    uint64_t items; /* live, unexpired */
    uint64_t bytes; /* their keys and values */
};
/* Takes no lock. Equal contents give equal digests on hosts of any size. Changes during the walk may or may not count.
 */
int lr_digest(struct lr_cache *cache, struct lr_digest *digest);

/* ---- replication: what larderd needs --------------------------------------------------------------------------- */

uint32_t lr_stripe_count(const struct lr_cache *cache);
void lr_incarnation(const struct lr_cache *cache, uint64_t out[2]);
uint32_t lr_origin(const struct lr_cache *cache);
/* 10 bits. Redrawn by larderd when two hosts collide. */
void lr_set_origin(struct lr_cache *cache, uint32_t origin);
/* Whether deletes leave tombstones and changes leave hints. Set while peers are configured. */
void lr_set_replicating(struct lr_cache *cache, bool on);
bool lr_replicating(const struct lr_cache *cache);
uint64_t lr_highest_version(const struct lr_cache *cache);
/* Later local versions will be above `version`. */
int lr_raise_clock(struct lr_cache *cache, uint64_t version);
uint64_t lr_flush_version(const struct lr_cache *cache);

enum lr_apply_result {
    LR_APPLIED = 0,
    LR_STALE = 1,    /* the same or a newer version is stored */
    LR_DECLINED = 2, /* below the floor, or not storable here: any older value is gone, the floor is raised */
};
#define LR_NO_EVICT 1u /* apply: only into free room (bootstrap, anti-entropy) */
#define LR_MORE 2u     /* apply: many more come: the index keeps ahead of them */

struct lr_left {
    bool hint; /* it left one */
    uint32_t stripe;
    uint64_t position;
};

struct lr_change {
    const void *key;
    const void *value;
    uint32_t key_len;
    uint32_t value_len;
    uint64_t version;
    uint64_t deadline_ms; /* host clock of this host; UINT64_MAX never */
    uint32_t flags;
    struct lr_left *left; /* NULL, or out: the hint that it left */
};
/* Idempotent and commutative; of one version the later deadline stays. Result: enum lr_apply_result, or EBUSY (nothing
 * done: try again), ERETIRED, EINVALID. */
int lr_apply_put(struct lr_cache *cache, const struct lr_change *change, unsigned apply_flags);
/* Fetch, for a change of this hash that is applied soon, the lines where its key belongs; then what they lead to. */
void lr_apply_prefetch(const struct lr_cache *cache, uint64_t hash, unsigned apply_flags);
void lr_apply_prefetch_entry(const struct lr_cache *cache, uint64_t hash, unsigned apply_flags);
/*
 * A delete by cluster hash. With LR_NO_EVICT the tombstone gets free room or none: then the floor rises instead, and it
 * counts as declined. A relay has to tell others, and keeps it in any case.
 */
int lr_apply_tombstone(struct lr_cache *cache, uint64_t hash, uint64_t version, unsigned apply_flags);
/* The same where the key is known to be of mode invalidate. */
int lr_apply_invalidation(struct lr_cache *cache, uint64_t hash, uint64_t version);
/* Merged by maximum. */
int lr_apply_flush(struct lr_cache *cache, uint64_t version);
/* Whether a peer's entry would be of use here: it is newer than ours, or ours is missing and was not forgotten since.
 * `walked`: from then on the peer takes it that we have it; if we have forgotten it, that declines it. A relay takes
 * the lock for that, but does not wait for it: a busy stripe might have use for the entry. buf[0, cap): room for one.
 */
bool lr_lacks(struct lr_cache *cache, uint64_t hash, uint64_t version, bool walked, void *buf, size_t cap);
/* Forgets the entry with this hash if its version is at most `version`, that of a value which is somewhere else; raises
 * the floor. What not every peer has leaves a trace, a tombstone of what is older than `version`. */
int lr_drop(struct lr_cache *cache, uint64_t hash, uint64_t version);
/* The same for a delete or a peer's void, where nobody has that version: the tombstone is of `version`. */
int lr_drop_void(struct lr_cache *cache, uint64_t hash, uint64_t version);

/* By how many ms the clocks of hosts may differ: an invalidation that is older than an item of mode invalidate by less
 * than that counts as newer. 0 in the beginning. And whether this host tells its peers what it hears of others. */
void lr_set_doubt(struct lr_cache *cache, uint64_t ms, bool relay);
/* Whatever is being read from its source now is not to be filled in. EBUSY: not in all stripes. */
int lr_end_marks(struct lr_cache *cache);

struct lr_mode_row {
    uint8_t prefix[120];
    unsigned len;
    enum lr_mode mode;
};
#define LR_MODE_ROWS 12u
/*
 * The modes of keys by their prefixes, of which the longest counts; all others are of mode values. One caller at a
 * time, who has the sidecar role. EINVALID: too many rows, a prefix too long or twice. Entries that do not fit their
 * mode any more stay until lr_modes_fit has passed them.
 */
int lr_modes_set(struct lr_cache *cache, const struct lr_mode_row *rows, unsigned count);
/* Returns how many there are. */
unsigned lr_modes_get(const struct lr_cache *cache, struct lr_mode_row rows[LR_MODE_ROWS]);
/* The same for the same modes in whatever order; 0 if there are none. */
uint64_t lr_modes_hash(const struct lr_cache *cache);
enum lr_mode lr_mode_of(const struct lr_cache *cache, const void *key, size_t key_len);
/* Whether there are entries that may not fit. */
bool lr_modes_unfit(const struct lr_cache *cache);
/* Drops a stripe's entries that do not fit their mode. buf[0, cap): room for one. Returns how many went, or EBUSY. */
int lr_modes_fit(struct lr_cache *cache, uint32_t stripe, void *buf, size_t cap);
/* All stripes have been passed since the last lr_modes_set. */
void lr_modes_fitted(struct lr_cache *cache);
const char *lr_mode_name(uint32_t mode);
/* -1 when there is no such mode. */
int lr_mode_number(const char *name);

/* Over all stripes: sums, and maxima of floors and voids. `turn` changes whenever something is forgotten untold. */
struct lr_range {
    uint64_t sum, floor, void_version, turn;
};
void lr_range_get(const struct lr_cache *cache, unsigned range, struct lr_range *out);
/* The turn alone: one load, however many stripes there are. */
uint64_t lr_void_turn(const struct lr_cache *cache, unsigned range);
/* A void that was merged from a peer: nothing up to it is taken any more. */
int lr_raise_floor(struct lr_cache *cache, unsigned range, uint64_t version);
/*
 * What was forgotten untold, a void, is known by the range's parts (shm/voids.c): `words` of 64 bits each, a power of
 * two up to LR_PART_WORDS; NULL: all of them are set. Hosts of different size have different numbers.
 */
struct lr_parts {
    uint64_t *words;
    uint32_t count;
};
#define LR_PART_WORDS 1024u
/* Of this segment. */
uint32_t lr_parts_words(const struct lr_cache *cache);
/* As they are now, lr_parts_words of them. After lr_range_get, so that they hold all that its turn and void stand for.
 */
void lr_parts_get(const struct lr_cache *cache, unsigned range, uint64_t *words);
/* The part, of `words` * 64, that the hash lies in: by the bits below those of its range. */
static inline uint64_t lr_part_of(uint64_t hash, uint32_t words) {
    return (hash >> 24 & UINT32_MAX) * (words * UINT64_C(64)) >> 32;
}
/* Whether that is set. */
static inline bool lr_parts_has(const struct lr_parts *parts, uint64_t hash) {
    if (parts->words == NULL)
        return true;
    const uint64_t part = lr_part_of(hash, parts->count);
    return (parts->words[part / 64] >> (part % 64) & 1) != 0;
}
/* Whether bits were cleared there: then a peer that has settled no such turn is to hear of all parts. */
static inline bool lr_turn_is_cleared(uint64_t turn) {
    return turn >> 63 != 0;
}
/* As lr_raise_floor, and it is to be passed on. *risen, if not NULL, grows by what the turn has grown by. */
int lr_raise_void(struct lr_cache *cache, unsigned range, uint64_t version, const struct lr_parts *parts,
                  uint64_t *risen);
/* The range's turn rises, so that its void, as it is, is told once more. */
void lr_void_again(struct lr_cache *cache, unsigned range);
/*
 * Takes the range's parts away if many are set: every peer must have settled `turn`, and larderd alone may call it. 1:
 * done, *turn is the new one. 0: not now. EBUSY. A death on the way leaves bits, or what lr_turn_is_cleared says.
 */
int lr_parts_clear(struct lr_cache *cache, unsigned range, uint64_t *turn);

/* What an entry adds to the sum of its range, the same on every host. */
uint64_t lr_entry_term(uint64_t hash, uint64_t version);

struct lr_hint {
    uint64_t hash, version;
};
/* Hints ever written in this stripe. */
uint64_t lr_feed_head(const struct lr_cache *cache, uint32_t stripe);
/* Reads up to `count` hints from *position on and advances it. Returns how many; ELOST: overrun, *position is at the
 * head. */
int lr_feed_read(struct lr_cache *cache, uint32_t stripe, uint64_t *position, struct lr_hint *hints, unsigned count);
/* True once after hints may be missing (a holder died): scan the stripe. */
bool lr_feed_take_rescan(struct lr_cache *cache, uint32_t stripe);
/* Sleeps until some stripe has a new hint, at most timeout_ms. Spurious returns are normal. One caller at a time. */
void lr_bell_wait(struct lr_cache *cache, unsigned timeout_ms);
/* From now on changes by this handle do not wake lr_bell_wait. Whoever makes them looks at the feed afterwards: while
 * one is under way, another's may be overlooked as well. Before the first change by another thread. */
void lr_bell_mute(struct lr_cache *cache);
/*
 * Arrival epochs: a new epoch begins in the stripe; returns the old one and the feed position at which it ended: every
 * entry of the old epoch or before has its hint below *head. When all peers have acknowledged up to *head,
 * lr_epoch_acked says so. EBUSY.
 */
int lr_epoch_begin(struct lr_cache *cache, uint32_t stripe, uint32_t *old_epoch, uint64_t *head);
void lr_epoch_acked(struct lr_cache *cache, uint32_t stripe, uint32_t epoch);
uint32_t lr_epoch_now(const struct lr_cache *cache, uint32_t stripe);
uint32_t lr_epoch_get_acked(const struct lr_cache *cache, uint32_t stripe);
/* Whether an entry's 12-bit epoch is later than `epoch`, counted modulo 2^12 back from the stripe's present one. */
bool lr_epoch_after(const struct lr_cache *cache, uint32_t stripe, uint32_t entry_epoch, uint32_t epoch);
/* For each i: at least i + 1 peers have applied or declined the hints below positions[i], which do not rise with i.
 * Wakes who waits for that. */
void lr_feed_acked_by(struct lr_cache *cache, uint32_t stripe, const uint64_t *positions, unsigned count);
/*
 * Waits until `peers` peers (1 to LR_AWAIT_PEERS) have applied or declined what was changed in the key's stripe before
 * the call, at most timeout_ms. Returns how many have by then, LR_AWAIT_PEERS at most; EBUSY: a delete made without the
 * lock waits for a stopped holder; EINVALID, ERETIRED, EREAD_ONLY.
 */
int lr_await(struct lr_cache *cache, const void *key, size_t key_len, unsigned peers, unsigned timeout_ms);
#define LR_AWAIT_PEERS 8u
/* All peers have applied or declined the hints below `position`. */
void lr_feed_acked(struct lr_cache *cache, uint32_t stripe, uint64_t position);

struct lr_sidecar_state {
    bool alive; /* its participant lives and its heartbeat is younger than 5 s */
    uint32_t peers, connected;
    uint64_t unacked;                /* changes not yet acknowledged by every peer */
    uint32_t resync_stripes;         /* their feed lacks changes: larderd is to walk them, and has not begun */
    uint64_t lag_p50_us, lag_p99_us; /* UINT64_MAX unknown */
};
/* Claims the segment's sidecar role: EEXISTS while another live larderd has it. */
int lr_sidecar_claim(struct lr_cache *cache);
void lr_sidecar_release(struct lr_cache *cache);
void lr_sidecar_report(struct lr_cache *cache, uint32_t peers, uint32_t connected, uint64_t lag_p50_us,
                       uint64_t lag_p99_us);
void lr_sidecar_state(struct lr_cache *cache, struct lr_sidecar_state *out);
/* As far as the segment knows: every peer of a larderd that is in step with all has acknowledged everything. */
static inline bool lr_sidecar_has_sent(const struct lr_sidecar_state *state) {
    return state->unacked == 0 && state->resync_stripes == 0;
}

/* ---- house-keeping ------------------------------------------------------------------------------------------- */

/*
 * Removes expired items of one stripe, and tombstones that every peer has and that are older than tombstone_ms: looks
 * at up to `buckets` hash buckets from where the last sweep stopped. Returns the number removed, or EBUSY.
 */
int lr_sweep(struct lr_cache *cache, uint32_t stripe, unsigned buckets, uint64_t tombstone_ms);
/* Frees the slots of dead participants and repairs the stripes whose lock they held. Returns how many slots were freed.
 */
int lr_reap(struct lr_cache *cache);

struct lr_stat {
    char name[65];
    uint64_t segment_bytes, cache_bytes, fixed_bytes, max_item_bytes;
    uint64_t incarnation[2];
    uint64_t created_ms; /* Unix */
    uint32_t layout, policy, favor, stripes, participants, origin;
    bool replicating, retired;
    uint64_t items, item_bytes, payload_bytes, tombstones, held_blocks, held_bytes, hole_bytes, gap_bytes;
    uint64_t index_bytes, index_slots, ttl_items, flush_version, probation_bytes;
    uint32_t choice_changes; /* policy s3: how often it changed between its rules and age; odd: it chooses by age now */
    uint64_t live_pins, pinned_bytes;                  /* of all handles; a block that is pinned twice counts twice */
    uint64_t counters[LR_COUNTER_COUNT];               /* segment: all participants, past and present */
    uint64_t own_counters[LR_COUNTER_COUNT];           /* this handle */
    uint64_t stripe_counters[LR_STRIPE_COUNTER_COUNT]; /* sums */
};
void lr_stat(struct lr_cache *cache, struct lr_stat *out);

struct lr_process {
    uint32_t slot, pid;
    uint64_t generation, pid_ns, started_ms;
    char name[33];
    bool alive, self;
    unsigned pins;
    uint64_t pinned_bytes;
    uint64_t counters[LR_COUNTER_COUNT];
};
/* Slot `slot` (0 to participants - 1): 0, or ENOT_FOUND when it is free. */
int lr_process(struct lr_cache *cache, uint32_t slot, struct lr_process *out);

struct lr_stripe_info {
    uint64_t items, item_bytes, payload_bytes, tombstones, held_blocks, held_bytes, hole_bytes, gap_bytes;
    uint64_t index_bytes, arena_bytes, probation_bytes, buckets, clock, ring_head, ring_acked;
    bool locked, recovering, rescan;
    uint32_t holder_slot;       /* when locked */
    uint64_t holder_generation; /* when locked */
    uint64_t stalled_ms;        /* since a waiter first gave up on this holder; 0 none */
    uint64_t counters[LR_STRIPE_COUNTER_COUNT];
};
int lr_stripe_info(struct lr_cache *cache, uint32_t stripe, struct lr_stripe_info *out);

/* One finding of check: text says where and what, with both values. */
struct lr_check {
    uint64_t stripes_checked;
    uint64_t stripes_busy; /* never stood still long enough for a snapshot */
    uint64_t findings;
    uint64_t items, tombstones, held_blocks;
    char first[8][160]; /* the first eight findings */
};
/* The definition of healthy (check.c). Read-only, no lock: works on a snapshot of each stripe. 0, ECORRUPT if there are
 * findings, ETIMED_OUT if only busy. ENO_MEMORY. */
int lr_check(struct lr_cache *cache, struct lr_check *out);

#endif
