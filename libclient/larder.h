/* SPDX-License-Identifier: MIT */
/*
 * Larder: a cache that all processes of a host share. A complete program first:
 *
 * ---- example.c ----
 *     #include <larder.h>
 *     #include <stdio.h>
 *     #include <string.h>
 *
 *     int main(void) {
 *         char why[LARDER_WHY_BYTES], buf[64];
 *         larder *cache;
 *         larder_item item;
 *         if (larder_open("example", NULL, &cache, why) != 0) {
 *             fprintf(stderr, "example: %s\n", why);
 *             return 1;
 *         }
 *         int error = larder_put(cache, "greeting", 8, "hello", 5, 60 * 1000, 0);
 *         if (error == 0)
 *             error = larder_get(cache, "greeting", 8, buf, sizeof buf, &item, 0);
 *         if (error == 0)
 *             printf("greeting: %.*s\n", (int)item.value_len, buf);
 *         else
 *             fprintf(stderr, "example: %s; %s\n", larder_strerror(error), larder_remedy(error));
 *         larder_close(cache);
 *         return error != 0;
 *     }
 * ---- end ----
 *
 *     cc example.c $(pkg-config --cflags --libs larder) -o example
 *
 * The segment stays when the program ends: run it in ten processes and they share one cache. `larder_destroy`, or the
 * command `larder destroy example`, removes it.
 *
 * Caveats
 *
 *  kill -9   A process killed at any instruction costs at most the change it was making. A put that replaces a value is
 *            old or new for every reader, never a mixture, never neither. Its lock and its pins go with it; the cache
 *            stays warm.
 *  stopped   A process that is stopped (SIGSTOP, a frozen container, a debugger, a core dump) while it holds a lock is
 *            never robbed of it. Gets go on; deletes are not lost; puts into that one part of the cache return
 *            LARDER_EBUSY after `wait_ms`. A cache may always refuse a put: treat it as "not stored".
 *  fork      A handle may be used in the child: its first call there registers the child anew. Pins belong to the
 *            parent: never use or rely on a pin's value in the child; releasing one there does nothing. A child that
 *            shares memory with the parent (vfork, clone with CLONE_VM) must not call anything here before exec.
 *  threads   Every call may be made by any number of threads on one handle, but for larder_close: no other call with
 *            that handle may be under way or follow. Counters of one handle may lose a count among threads.
 *  pins      A pinned value is memory of the cache itself: read it, do not write to it, release it soon. Live pins are
 *            never broken, so a pin that is kept for ever keeps its item's room for ever. At most 64 for each handle,
 *            and all pins together at most about half of any part of the cache (a stripe).
 *  signals   In a signal handler larder_get is safe, but for the first call of a forked child; where the signal came in
 *            the middle of a put it may return LARDER_EBUSY. Calls that change something, and pins, do no harm there:
 *            they do what they say, or, where the signal came in the middle of another call, return LARDER_EBUSY after
 *            wait_ms. larder_open and larder_close are not safe. As around any call, a handler keeps errno. A signal
 *            neither ends nor prolongs a wait. The library installs no handler, starts no thread, prints nothing, and
 *            never aborts its process.
 *  cancel    No call is ended half-way by pthread_cancel: a cancelled thread finishes the call that it is in.
 *  truncation  Who may write a segment's file may truncate it, and then whoever touches it gets SIGBUS. Nobody can
 *            truncate one that a larderd keeps (options.path).
 *  eviction  It is a cache. Anything stored may be gone a moment later, and a get says so. Under the default policy a
 *            full cache is no error: a put makes its own room.
 *  trust     Who may write to the segment can put anything into it, and can harm the cache, not the process: lengths
 *            and places read from it are bounded before use. Values are as trustworthy as those who may write.
 *  other hosts  With larderd, changes travel to its peers, and the newest version wins. add, replace, cas and increment
 *            decide by what this host holds: they are no lock across hosts. Keys that begin with a prefix may be kept
 *            to this host, or be invalidated on the others instead of travelling (larderd --prefix).
 *
 * Conventions
 *
 *  A call returns 0 for success, or one of the negative numbers of larder_errors.h, whose text and remedy the library
 *  knows. On error nothing has changed. Keys are 1 to 65536 bytes, values 0 to larder_max_value() bytes, of any
 *  content; the library copies both and keeps no pointer to what it was given. Times are in milliseconds. Pointers may
 *  not be NULL unless a contract says so.
 *
 *  Blocks: calls that only read take no lock (one bounded try under the lock is the last resort). Calls that change
 *  something wait at most `wait_ms` for a lock. No call needs another process to be alive.
 *  Crash: what is said of kill -9 above holds for every call; contracts name only what goes beyond it.
 *
 *  Any call on a handle may return LARDER_ERETIRED, when the segment was destroyed or replaced under its name, or the
 *  larderd that kept it has ended: close the handle, open the name again. Any call with a key returns LARDER_EINVALID
 * for a key length out of range. Any call that changes something, and larder_get_pinned, returns LARDER_EREAD_ONLY on a
 * read-only handle.
 */
#ifndef LARDER_H
#define LARDER_H

#include "larder_errors.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LARDER_API __attribute__((visibility("default")))
#else
#define LARDER_API
#endif

#define LARDER_WHY_BYTES 512 /* room for one line about what went wrong, terminating NUL included */

/*
 * One process's view of a segment. From larder_open, larder_create or larder_attach until larder_close. A process may
 * have several, of one segment or of many; each takes one of the segment's 1024 participant slots unless read-only.
 */
typedef struct larder larder;

/* ---- open and close ------------------------------------------------------------------------------------------- */

/* What goes when the segment is full. shm/README.md says when to use which. */
typedef enum larder_policy {
    LARDER_POLICY_S3 = 0,    /* the default: what was read only once goes soon, what is read again stays */
    LARDER_POLICY_CLOCK = 1, /* what was not read lately goes */
    LARDER_POLICY_LFU = 2,   /* what was read least often goes; counts age */
    LARDER_POLICY_TTL = 3,   /* what expires soonest goes; what never expires, last */
    LARDER_POLICY_NONE = 4   /* nothing goes: a put into a full segment returns LARDER_EFULL */
} larder_policy;

/* What a policy favors. */
typedef enum larder_favor {
    LARDER_FAVOR_OBJECTS = 0, /* many small items rather than one large: fewest misses */
    LARDER_FAVOR_BYTES = 1    /* sizes do not count: fewest bytes missed */
} larder_favor;

/* Zero in every field is the default, so `larder_options options = {0};` (C++: `{}`) and then what differs. */
typedef struct larder_options {
    /* For a segment that is created; who attaches takes it as it is. */
    uint64_t size;        /* bytes for items and index, all reserved at once; 0: 64 MiB. Fixed tables come on top */
    larder_policy policy; /* what to do when it is full */
    larder_favor favor;   /* fewest misses, or fewest bytes missed */
    mode_t mode;          /* of the file: 0 is 0600; 0660 admits a group. Never writable by others */
    gid_t group;          /* of the file; 0: the process's */

    /* For this handle. */
    const char *path; /* stands for the name, which is then NULL: a file on a tmpfs; or "unix:/path/of/a/socket", at
                       * which a larderd (--memfd) hands over the segment that it keeps. NULL: /dev/shm/larder.<name> */
    uid_t owner;      /* trust this user's segments too, beside one's own and root's (root trusts all); 0: no other */
    bool read_only;   /* attach only: the memory is mapped for reading, no slot is taken, no pins */
    bool prefault;    /* touch all pages now rather than on first use */
    unsigned wait_ms; /* longest wait for a lock: 1 to 60000 ms; 0: 250 */
    const char *who;  /* up to 31 bytes for `larder procs`; NULL: the program's name */
} larder_options;

/*
 * Attaches to the segment `name` ([A-Za-z0-9._-], 1 to 64 characters, not ending in ".live"), and creates it first if
 * it is not there. Two processes may do so at once: one creates, both attach. Owns     *out is the caller's, until
 * larder_close; NULL on error. The options are copied, and may be NULL. Returns  0, or EINVALID (name, options),
 * EPERMISSION, EFOREIGN, EVERSION, ECORRUPT, ENO_SPACE, ENO_MEMORY, ENO_SLOTS, ENO_CLOCK, ESYSTEM, EBUSY; with a path
 * "unix:" also ENO_SEGMENT, for only larderd creates there, and EBUSY when it does not answer within 5 s. `why`, of
 * LARDER_WHY_BYTES or NULL, then says in one line what was found, what was expected and what to do; it is left alone on
 * success. Visible  a segment has its name only once it is whole. Blocks   for the time it takes to reserve the memory;
 * never on another process. Not in signal handlers. Crash    a creator that dies leaves nothing behind.
 */
LARDER_API int larder_open(const char *name, const larder_options *options, larder **out, char *why);

/* As larder_open, but the segment must not be there yet: EEXISTS. */
LARDER_API int larder_create(const char *name, const larder_options *options, larder **out, char *why);

/* As larder_open, but the segment must be there: ENO_SEGMENT. Its size, policy, mode and group are as they are. */
LARDER_API int larder_attach(const char *name, const larder_options *options, larder **out, char *why);

/*
 * Releases the handle's pins and slot, and unmaps the segment, which stays for others. NULL is allowed.
 *   Threads  no other call with this handle may be under way.
 */
LARDER_API void larder_close(larder *cache);

/*
 * Retires the segment and removes its name. Handles that others have get LARDER_ERETIRED from then on; the memory goes
 * with the last of them. Of the options only path and owner count; they may be NULL.
 *   Returns  0, or EINVALID, ENO_SEGMENT, EPERMISSION, EFOREIGN, ESYSTEM; `why` as in larder_open.
 */
LARDER_API int larder_destroy(const char *name, const larder_options *options, char *why);

/* ---- get ------------------------------------------------------------------------------------------------------ */

typedef struct larder_item {
    uint64_t version;     /* changes with every put; the token of larder_cas; never 0 */
    uint64_t deadline_ms; /* when the item expires, on the clock of larder_now_ms; UINT64_MAX: never */
    uint32_t value_len;   /* bytes */
    uint32_t flags;       /* as given to the put */
} larder_item;

#define LARDER_PEEK 1u /* get: only look; count neither hit nor miss and leave the item's recency alone */

/*
 * Copies the value of a key into buf[0, cap).
 *   Returns  0: the value is there, its length is item->value_len. ETOO_SMALL: it is longer than `cap`, *item is
 *            filled and buf's content undefined; so a NULL buf with cap 0 asks how long a value is. ENOT_FOUND:
 *            absent, deleted or expired. EBUSY: it kept changing, and a stopped process holds its lock too.
 *   Visible  the value is one that some put stored, whole, and not older than the last change that was
 *            acknowledged before the call.
 *   `item` may be NULL. `how` is 0 or LARDER_PEEK.
 */
LARDER_API int larder_get(larder *cache, const void *key, size_t key_len, void *buf, size_t cap, larder_item *item,
                          unsigned how);

/* One row of larder_get_many. */
typedef struct larder_read {
    const void *key;
    size_t key_len;
    void *buf;
    size_t cap;
    larder_item item; /* out */
    int result;       /* out: as of larder_get */
} larder_read;

/*
 * larder_get for each row, about twice as fast for each key as one by one, because the memory accesses overlap. Rows
 * are read independently: together they are no snapshot. Returns the number of rows whose result is 0.
 */
LARDER_API size_t larder_get_many(larder *cache, larder_read *rows, size_t count, unsigned how);

/*
 * A value read in place. Valid from larder_get_pinned until larder_release, larder_close or the end of the process:
 * until then it stays readable, unmoved and unchanged, whatever is put, deleted, evicted or expires meanwhile.
 */
typedef struct larder_pin {
    const void *value; /* at any address: copy out of it what needs alignment */
    larder_item item;
    uint32_t hazard_;     /* the library's */
    uint64_t generation_; /* the library's */
} larder_pin;

/*
 * Pins the value of a key: no copy is made.
 *   Owns     the pin is the caller's until it is released, by this process and on this handle; any thread may do that.
 *            On error the pin needs no release.
 *   Returns  0, ENOT_FOUND, EBUSY, or ENO_PINS: 64 are in use on this handle, or this pin would leave others too
 *            little room. Release one, or larder_get a copy.
 */
LARDER_API int larder_get_pinned(larder *cache, const void *key, size_t key_len, larder_pin *pin);

/* Releases a pin. To release it twice, or in a forked child, does nothing. */
LARDER_API void larder_release(larder *cache, larder_pin *pin);

/*
 * Returns 1 if the key is there, 0 if not, or a negative error. Like a get with LARDER_PEEK: neither counted nor a use.
 */
LARDER_API int larder_exists(larder *cache, const void *key, size_t key_len);

/* ---- put and change ------------------------------------------------------------------------------------------- */

/*
 * Stores a value, whether the key is there or not. `value` may be NULL when value_len is 0. `ttl_ms` from now the item
 * expires; 0: never. `flags` are 32 bits for the caller, returned with each get; 0 takes no memory.
 *   Returns  0, or ETOO_LARGE (see larder_max_value), EBUSY (a stopped process holds the lock), EPINNED (live pins
 *            leave no room), EFULL (policy none).
 *   Visible  to every process of the host when the call returns; the old value stays readable until then.
 */
LARDER_API int larder_put(larder *cache, const void *key, size_t key_len, const void *value, size_t value_len,
                          uint64_t ttl_ms, uint32_t flags);

/* As larder_put, if the key is not there: EEXISTS. Of many who add at once on one host exactly one succeeds. */
LARDER_API int larder_add(larder *cache, const void *key, size_t key_len, const void *value, size_t value_len,
                          uint64_t ttl_ms, uint32_t flags);

/* As larder_put, if the key is there: ENOT_FOUND. */
LARDER_API int larder_replace(larder *cache, const void *key, size_t key_len, const void *value, size_t value_len,
                              uint64_t ttl_ms, uint32_t flags);

/*
 * Compare and swap: as larder_put, if the key is there (ENOT_FOUND) and its version is still *version (ECONFLICT). On
 * success *version is the new one; else it is left alone.
 */
LARDER_API int larder_cas(larder *cache, const void *key, size_t key_len, const void *value, size_t value_len,
                          uint64_t ttl_ms, uint32_t flags, uint64_t *version);

/*
 * A moment before a value is read from its source. From larder_mark. Plain bytes of the caller's: copy it, keep it,
 * forget it; nothing is to be released, and who dies between mark and fill leaves nothing behind.
 */
typedef struct larder_moment {
    uint64_t hash_, version_, turn_; /* the library's */
} larder_moment;

/*
 * Look-aside caching: the value comes from a source, say a database. After a miss take a mark, read the source, fill:
 *
 *     if (larder_get(cache, key, key_len, buf, cap, &item, 0) == LARDER_ENOT_FOUND) {
 *         larder_moment mark;
 *         bool marked = larder_mark(cache, key, key_len, &mark) == 0;
 *         ... read the source ...
 *         if (marked)
 *             larder_fill(cache, &mark, key, key_len, value, value_len, ttl_ms, 0);
 *     }
 *
 * and whoever changes the source deletes (or puts) the key afterwards. Then no value that is older than such a change
 * stays in the cache: a fill that comes after the change is refused, and one that came before goes with it. Under a
 * prefix that larderd has in mode `invalidate` that holds between hosts too, as soon as they have heard of the change.
 *   Returns  0, or EBUSY (a stopped process holds the lock): read the source, and do not fill.
 *   Means    the mark is good for one fill of this key, at any later time, in any process that has this segment open.
 *   Blocks   as a put does.
 */
LARDER_API int larder_mark(larder *cache, const void *key, size_t key_len, larder_moment *mark);

/*
 * As larder_put, with what was read from its source after `mark`. `mark` may be NULL where no change can come between
 * the reading and the fill.
 *   Returns  0, or ECONFLICT: the key was changed, deleted or filled since the mark, here or on another host, or that
 *            cannot be ruled out (a key that shares its row of 64 in a part of the cache was). What was read may be
 * old, and is not stored: use it, or begin anew with a get. EINVALID: the mark is another key's. Or the errors of
 *            larder_put.
 *   Visible  as with larder_put. In mode `invalidate` no other host is told; in mode `values` the value travels as one
 *            of the age of its mark, and loses to all that was put or deleted since.
 */
LARDER_API int larder_fill(larder *cache, const larder_moment *mark, const void *key, size_t key_len, const void *value,
                           size_t value_len, uint64_t ttl_ms, uint32_t flags);

/*
 * Deletes a key.
 *   Returns  0, or ENOT_FOUND. EBUSY only if the stripe's lock could not be had and the item kept changing all the
 * same. Visible  at once, even behind a stopped process: when the call has returned 0, no get returns the value again.
 */
LARDER_API int larder_delete(larder *cache, const void *key, size_t key_len);

/*
 * Waits until `peers` other hosts (1 to 8) have applied what was changed under this key before the call, at most
 * timeout_ms. Call it after a put, a delete or any other change that shall outlive this host.
 *   Returns  how many hosts had it by then, which may be fewer than asked for, or more (8 at most); 0 where larderd has
 *            no peers. Or EBUSY, EINVALID. The change itself stands in any case: nothing is taken back.
 *   Means    the peer holds this version or a newer one, or, if it has no room for it, nothing older.
 *   Blocks   on the network, unlike every other call. Changes of other keys in the same part of the cache that were
 * made before are waited for, too.
 */
LARDER_API int larder_await(larder *cache, const void *key, size_t key_len, unsigned peers, unsigned timeout_ms);

/*
 * Gives an item a new deadline, ttl_ms from now; 0: never. A later one leaves the version as it is; an earlier one is
 * stored like a put of the same value, with a new version. Returns 0, ENOT_FOUND, or the errors of larder_put.
 */
LARDER_API int larder_touch(larder *cache, const void *key, size_t key_len, uint64_t ttl_ms);

/*
 * Adds `delta` to a value that is a decimal 64-bit integer ("-17"), keeping flags and deadline. If the key is absent,
 * stores `initial` with `ttl_ms` (0: never expires) and does not add.
 *   Returns  0, *result is the new number. ENOT_NUMBER: the value is something else. EINVALID: the sum
 *            does not fit into 64 bits. Or the errors of larder_put.
 */
LARDER_API int larder_increment(larder *cache, const void *key, size_t key_len, int64_t delta, int64_t initial,
                                uint64_t ttl_ms, int64_t *result);

/* Deletes everything stored before the call, for every reader at once, and what a touch, an increment or a
 * compare-and-swap that runs meanwhile makes of it. Peers delete what has an older version: by their clocks, up to 2 ms
 * after the call; what they touch before they hear of it is as new as the touch. Takes no lock. */
LARDER_API int larder_flush(larder *cache);

/* ---- about the segment ---------------------------------------------------------------------------------------- */

/* Bytes of the largest value that a key of this length admits; 0 if there is none. */
LARDER_API uint64_t larder_max_value(const larder *cache, size_t key_len);

/*
 * The clock of deadlines: milliseconds that never jump, the same in all processes and containers of the host. Only
 * differences mean anything.
 */
LARDER_API uint64_t larder_now_ms(const larder *cache);

typedef enum larder_counter_kind {
    LARDER_COUNTER_EACH,    /* a count that only rises; `process` is this handle's share of `segment` */
    LARDER_COUNTER_SEGMENT, /* a count that only rises, of the segment; `process` is 0 */
    LARDER_COUNTER_LEVEL    /* the present state of the segment; `process` is 0 */
} larder_counter_kind;

typedef struct larder_counter {
    const char *name; /* these three live as long as the library */
    const char *unit;
    const char *sentence; /* what is counted */
    larder_counter_kind kind;
    uint64_t process; /* counted by this handle since it was opened */
    uint64_t segment; /* by all processes since the segment was created, those that have left included */
} larder_counter;

/*
 * Fills up to `count` rows and returns how many there are in this release (NULL and 0: only asks). Later releases may
 * add rows anywhere: find them by name. The numbers are read one by one while others work: they are no snapshot.
 */
LARDER_API size_t larder_counters(larder *cache, larder_counter *rows, size_t count);

/* ---- texts ---------------------------------------------------------------------------------------------------- */

/* Of any number that a call returned: what happened and what to do, one clause each; the name ("BUSY"; "OK" from 0 up).
 * Static, never NULL. */
LARDER_API const char *larder_strerror(int error);
LARDER_API const char *larder_remedy(int error);
LARDER_API const char *larder_error_name(int error);

/* Release of the library at run time: "0.1.0". */
LARDER_API const char *larder_version(void);

#ifdef __cplusplus
}
#endif

#endif
