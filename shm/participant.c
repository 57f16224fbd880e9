/* SPDX-License-Identifier: MIT */
/*
 * Who is attached, and who is dead?
 *
 * A participant is one handle of one process: a slot in the segment (generation, hazards, counters) and an OFD lock on
 * byte `slot` of the liveness file. The kernel lets the byte go when the process is gone, however it went, in whatever
 * PID namespace; it never does so earlier. Pids identify nobody here; they are for humans.
 *
 *      slot:   FREE g  ── join: take byte, clear, g+1 ──>  ACTIVE g+1  ── leave: clear, FREE, let byte go ──>  FREE g+1
 *                 ^                                            │
 *                 └── reap: take byte, clear, g+2, FREE ───────┘ owner died: byte free, state still ACTIVE
 *
 * What a description of the liveness file is for:
 *
 *      lock_fd ──┐ closed after the join
 *                ├─ description A: holds our byte.  A page mapped through it keeps it open: closing every descriptor of
 *   live_page ───┘                 the process (daemons do) does not drop the lock. The page is MADV_DONTFORK: a child
 *                                  has no part in A, so the byte falls with the parent although the child lives.
 *    probe_fd ──── description B:  asks for other bytes (F_OFD_GETLK) and takes those of the dead. Never A: on the
 *                                  description that holds a lock, that byte reads free.
 *
 * Rules that always hold:
 *  1. A slot is written only by whoever holds its byte. A byte that was taken while the state is ACTIVE belonged to a
 *     dead owner: leave() sets FREE before it lets go.
 *  2. The generation rises at each join and each reaping, and is never 0. So {slot, generation} in a lock word, a note
 *     or a pin names one owner for ever, and a word whose generation has passed belongs to nobody.
 *  3. In doubt an owner is alive. Every failure below (no descriptor, somebody else's descriptor, interrupted call, a
 *     second prober at work) says "alive". The price is a wait, never a robbery.
 *  4. Our own {slot, generation} is alive by definition and never probed.
 *  5. probe_fd is looked at before each use: an application may have closed it and the number may be another file now,
 *     or a sibling handle's descriptor on the same file. So device, inode and a mark are compared; the mark is the file
 *     position, which belongs to the description and which nobody else sets to this handle's address. Two threads on
 *     one description could both "take" a byte; hence the mark, and hence the process-private mutex `reaping`.
 *  6. `joined` and the mutexes lie on a page that fork() wipes. A child finds joined == 0 and joins anew: it closes its
 *     copy of description B, forgets live_page (never mapped there), and gets a slot of its own. The parent's pins are
 *     the parent's.
 *
 * If a process dies here:
 *   in join, before ACTIVE        the slot is FREE, its byte is free, a generation was skipped
 *   in leave, before FREE         the slot is ACTIVE with a free byte: reaped like any dead one
 *   in reap                       the same; the next reaper repeats it (one counter may lose its count, none doubles)
 *
 * Death is not prompt: a process that dumps core keeps its byte for seconds. No call waits for a death.
 *
 * Left open on purpose: a thread that forks while another thread is between open and close of lock_fd leaves a copy of
 * description A in the child; the byte then stays until that child execs or exits too. That errs on the side of rule 3.
 */
#include "handover.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOINING_NS UINT64_C(1000000000) /* a mutex held longer is stuck: its holder was stopped, or is */
#define REAPING_NS UINT64_C(10000000)   /* the thread that this signal handler interrupted */
#define JOIN_ROUNDS 4u                  /* looks at a table in which others join and reap */
#define DEAD_LOOKS 32u                  /* used slots that a join probes before it takes a slot that was never used */

/* ---- descriptors of the liveness file --------------------------------------------------------------------------- */

static bool is_live_file(const struct lr_cache *cache, int fd) {
    struct stat at;
    return fd >= 0 && fstat(fd, &at) == 0 && at.st_dev == cache->live_dev && at.st_ino == cache->live_ino;
}

/* The mark of description B: positive, unique among the handles of a process. */
static off_t probe_mark(const struct lr_cache *cache) {
    return (off_t)((uintptr_t)cache & (uintptr_t)INT64_MAX);
}

/* And that of a kept segment's live_fd. */
static off_t live_mark(const struct lr_cache *cache) {
    return probe_mark(cache) ^ 1;
}

bool lr_participant_owns_probe(const struct lr_cache *cache) {
    return is_live_file(cache, cache->probe_fd) && lseek(cache->probe_fd, 0, SEEK_CUR) == probe_mark(cache);
}

/*
 * A kept segment's liveness file has no name. It is opened anew by way of the descriptor that was handed over; where
 * the application has closed that, the keeper is asked for another.
 */
static int open_kept_live(const struct lr_cache *cache, int *fd, char *why) {
    if (is_live_file(cache, cache->live_fd)) {
        char from[64];
        (void)snprintf(from, sizeof from, "/proc/self/fd/%d", cache->live_fd);
        *fd = open(from, O_RDWR | O_CLOEXEC);
        return *fd >= 0 ? 0
                        : lr_error_explain(LARDER_ESYSTEM, why, "the liveness file cannot be opened by way of %s: %s",
                                           from, strerror(errno));
    }
    struct lr_handed handed;
    int error = lr_handover_take(cache->path, cache->owner, &handed, why);
    if (error != 0)
        return error;
    close(handed.segment_fd);
    *fd = handed.live_fd;
    if (is_live_file(cache, *fd))
        return 0;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return lr_error_explain(LARDER_ERETIRED, why, "%.400s is another segment now", cache->path);
}

int lr_participant_adopt_live(struct lr_cache *cache, int fd, char *why) {
    struct stat file;
    if (fstat(fd, &file) != 0 || lseek(fd, live_mark(cache), SEEK_SET) != live_mark(cache))
        return lr_error_explain(LARDER_ESYSTEM, why, "the liveness file cannot be marked: %s", strerror(errno));
    cache->live_dev = file.st_dev; /* known from here on: leaving closes only what is this file */
    cache->live_ino = file.st_ino;
    cache->live_fd = fd;
    return 0;
}

/* If it still is the one that we were given: the number may be a sibling handle's by now. */
static void close_kept_live(struct lr_cache *cache) {
    if (is_live_file(cache, cache->live_fd) && lseek(cache->live_fd, 0, SEEK_CUR) == live_mark(cache))
        close(cache->live_fd);
    cache->live_fd = -1;
}

int lr_participant_open_live(const struct lr_cache *cache, int *fd, char *why) {
    if (cache->kept)
        return open_kept_live(cache, fd, why);
    char path[LR_PATH_BYTES + sizeof LR_LIVE_SUFFIX];
    size_t len = strlen(cache->path);
    memcpy(path, cache->path, len);
    memcpy(path + len, LR_LIVE_SUFFIX, sizeof LR_LIVE_SUFFIX);
    *fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) {
        int error = errno == EACCES || errno == EPERM   ? LARDER_EPERMISSION
                    : errno == ENOENT || errno == ELOOP ? LARDER_ERETIRED
                                                        : LARDER_ESYSTEM;
        return lr_error_explain(error, why, "the liveness file %.400s cannot be opened: %s", path, strerror(errno));
    }
    if (is_live_file(cache, *fd))
        return 0;
    close(*fd);
    *fd = -1;
    return lr_error_explain(LARDER_ERETIRED, why, "%.400s is no longer the liveness file of the attached segment",
                            path);
}

int lr_participant_open_probe(struct lr_cache *cache, char *why) {
    int fd;
    int error = lr_participant_open_live(cache, &fd, why);
    if (error != 0)
        return error;
    if (lseek(fd, probe_mark(cache), SEEK_SET) != probe_mark(cache)) {
        const int reason = errno; /* EINVAL: those of disks end below it */
        close(fd);
        return lr_error_explain(reason == EINVAL ? LARDER_EINVALID : LARDER_ESYSTEM, why,
                                "the liveness file's position cannot be set: %s%s", strerror(reason),
                                reason == EINVAL ? "; a segment must lie on a tmpfs" : "");
    }
    cache->probe_fd = fd;
    return 0;
}

/* ---- mutexes of this process ------------------------------------------------------------------------------------ */

static bool take_mutex(_Atomic uint32_t *mutex, uint64_t limit_ns) {
    const uint64_t started_ns = lr_monotonic_ns();
    do {
        uint32_t expected = 0;
        /* ORDER(private-mutex) observe: what the last holder did to slot, probe_fd and joined. */
        if (atomic_compare_exchange_weak_explicit(mutex, &expected, 1, memory_order_acquire, memory_order_relaxed))
            return true;
        sched_yield();
    } while (lr_monotonic_ns() - started_ns < limit_ns);
    return false;
}

static void release_mutex(_Atomic uint32_t *mutex) {
    /* ORDER(private-mutex) publish: what we did under it. */
    atomic_store_explicit(mutex, 0, memory_order_release);
}

static bool has_joined(const struct lr_cache *cache) {
    /* ORDER(joined) observe: slot, generation and me, if another thread joined for us. */
    return atomic_load_explicit(&cache->self->joined, memory_order_acquire) == 1;
}

/* ---- the bytes of a slot ---------------------------------------------------------------------------------------- */

static struct flock byte_of(uint32_t slot, short type) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)slot, .l_len = 1};
}

static bool take_byte(int fd, uint32_t slot) {
    struct flock lock = byte_of(slot, F_WRLCK);
    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

static void drop_byte(int fd, uint32_t slot) {
    struct flock lock = byte_of(slot, F_UNLCK);
    (void)fcntl(fd, F_OFD_SETLK, &lock);
}

static uint64_t generation_of(const struct sm_participant *slot) {
    /* ORDER(generation) observe: a generation that has passed shows all that its owner ever stored. */
    return atomic_load_explicit(&slot->generation, memory_order_acquire) & SM_GENERATION_MASK;
}

/* Under the slot's byte. Pins first: what they held may go as soon as nobody is behind them. */
static void clear_slot(struct lr_cache *cache, struct sm_participant *slot) {
    for (unsigned i = 0; i < SM_PINS; i++)
        atomic_store_explicit(&slot->hazards[i], 0, memory_order_relaxed);
    atomic_store_explicit(&slot->pin_summary, 0, memory_order_relaxed);
    for (unsigned i = 0; i < SM_COUNTERS; i++) {
        /* Zero first: dying in between loses a count, where the other order would double it. */
        uint64_t count = atomic_exchange_explicit(&slot->counters[i], 0, memory_order_relaxed);
        if (count != 0)
            atomic_fetch_add_explicit(&cache->header->retired_counters[i], count, memory_order_relaxed);
    }
}

/* Under the slot's byte. */
static uint64_t raise_generation(struct sm_participant *slot) {
    uint64_t next = (atomic_load_explicit(&slot->generation, memory_order_relaxed) + 1) & SM_GENERATION_MASK;
    if (next == 0)
        next = 1;
    LR_CRASH_POINT("generation, before");
    /* COMMIT POINT: before, the old owner's words count; after, they are nobody's.
     * ORDER(generation) publish: the cleared hazards, and (by way of the byte) every store of the owner that died. */
    atomic_store_explicit(&slot->generation, next, memory_order_release);
    LR_CRASH_POINT("generation, after");
    return next;
}

static void reap_under_byte(struct lr_cache *cache, struct sm_participant *slot) {
    clear_slot(cache, slot);
    (void)raise_generation(slot);
    /* ORDER(slot-state) publish: FREE shows a cleared slot to those who look before they take its byte. */
    atomic_store_explicit(&slot->state, SM_SLOT_FREE, memory_order_release);
    LR_CRASH_POINT("reaped");
    lr_count(cache, LR_C_reaped);
}

/* ---- join and leave --------------------------------------------------------------------------------------------- */

/*
 * Tries slots [from, to), `looks` of them at most, whose state is `wanted`; begins at `start` and goes round. Returns
 * the slot whose byte we now hold and which is FREE, or -1.
 */
static int64_t take_among(struct lr_cache *cache, int lock_fd, uint32_t from, uint32_t to, uint32_t start,
                          uint32_t wanted, uint32_t looks) {
    for (uint32_t i = 0; i < to - from && looks > 0; i++) {
        uint32_t index = from + (start + i) % (to - from);
        struct sm_participant *slot = &cache->participants[index];
        /* ORDER(slot-state) observe: only a hint here; it is read again under the byte. */
        if (atomic_load_explicit(&slot->state, memory_order_acquire) != wanted)
            continue;
        looks--;
        if (!take_byte(lock_fd, index))
            continue;
        if (atomic_load_explicit(&slot->state, memory_order_acquire) != SM_SLOT_FREE)
            reap_under_byte(cache, slot); /* rule 1 */
        return index;
    }
    return -1;
}

/*
 * Free slots among those that were ever used; then the dead among them, a few looks from a changing place; then one
 * that was never used; then any dead one. Every hazard scan walks all slots that were ever used, so a storm of kills
 * must not use up the table.
 */
static int64_t take_slot(struct lr_cache *cache, int lock_fd) {
    const uint32_t all = cache->geometry.participants;
    for (unsigned round = 0; round < JOIN_ROUNDS; round++) {
        uint32_t high = atomic_load_explicit(&cache->header->participants_high, memory_order_relaxed);
        if (high > all)
            high = all;
        uint32_t somewhere = (uint32_t)(lr_monotonic_ns() / 1024);
        int64_t slot = take_among(cache, lock_fd, 0, high, 0, SM_SLOT_FREE, all);
        if (slot < 0)
            slot = take_among(cache, lock_fd, 0, high, somewhere, SM_SLOT_ACTIVE, DEAD_LOOKS);
        if (slot < 0)
            slot = take_among(cache, lock_fd, high, all, 0, SM_SLOT_FREE, all);
        if (slot < 0)
            slot = take_among(cache, lock_fd, 0, all, somewhere, SM_SLOT_ACTIVE, all);
        if (slot >= 0)
            return slot;
        sched_yield();
    }
    return -1;
}

static void write_identity(const struct lr_cache *cache, struct sm_participant *slot) {
    struct stat ns = {0};
    (void)stat("/proc/self/ns/pid", &ns);
    uint64_t words[4] = {0};
    static_assert(sizeof words == sizeof slot->name && sizeof words == sizeof cache->who, "a name fits its words");
    memcpy(words, cache->who, sizeof cache->who);
    atomic_store_explicit(&slot->pid, (uint32_t)getpid(), memory_order_relaxed);
    atomic_store_explicit(&slot->pid_ns, (uint64_t)ns.st_ino, memory_order_relaxed);
    atomic_store_explicit(&slot->started_ms, lr_unix_ms(), memory_order_relaxed);
    for (unsigned i = 0; i < 4; i++)
        atomic_store_explicit(&slot->name[i], words[i], memory_order_relaxed);
}

/* Before the first pin: whoever scans hazards looks at all slots below this mark. A CAS, so a full fence on the way. */
static void raise_high(struct lr_cache *cache, uint32_t beyond) {
    uint32_t high = atomic_load_explicit(&cache->header->participants_high, memory_order_relaxed);
    while (high < beyond && !atomic_compare_exchange_weak_explicit(&cache->header->participants_high, &high, beyond,
                                                                   memory_order_seq_cst, memory_order_relaxed))
        ;
}

static void become_owner(struct lr_cache *cache, uint32_t index) {
    struct sm_participant *slot = &cache->participants[index];
    clear_slot(cache, slot);
    uint64_t generation = raise_generation(slot);
    write_identity(cache, slot);
    raise_high(cache, index + 1);
    LR_CRASH_POINT("join, before");
    /* COMMIT POINT: before, the slot is free for the next one; after, its death will be seen and reaped. */
    atomic_store_explicit(&slot->state, SM_SLOT_ACTIVE, memory_order_release);
    LR_CRASH_POINT("join, after");
    cache->slot = index;
    cache->generation = generation;
    cache->me = slot;
    /* ORDER(joined) publish: slot, generation and me to the other threads of this process. */
    atomic_store_explicit(&cache->self->joined, 1, memory_order_release);
}

int lr_participant_join(struct lr_cache *cache, char *why) {
    int lock_fd = -1;
    void *page = MAP_FAILED;
    const size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    cache->me = &cache->dummy; /* takes the counts until there is a slot */
    int error = lr_participant_open_live(cache, &lock_fd, why);
    if (error == 0)
        error = lr_participant_open_probe(cache, why);
    if (error != 0)
        goto out;
    /* Never touched, so no protection is the right one; it is there for the description behind it. */
    page = mmap(NULL, page_bytes, PROT_NONE, MAP_SHARED, lock_fd, 0);
    if (page == MAP_FAILED || madvise(page, page_bytes, MADV_DONTFORK) != 0) {
        error = lr_error_explain(LARDER_ESYSTEM, why, "the liveness file cannot be mapped: %s", strerror(errno));
        goto out;
    }
    int64_t slot = take_slot(cache, lock_fd);
    if (slot < 0) {
        error = lr_error_explain(LARDER_ENO_SLOTS, why,
                                 "all %" PRIu32 " participant slots are taken by living processes: close unused "
                                 "handles; `larder procs` lists them",
                                 cache->geometry.participants);
        goto out;
    }
    cache->live_page = page;
    page = MAP_FAILED;
    become_owner(cache, (uint32_t)slot);
out:
    if (page != MAP_FAILED)
        munmap(page, page_bytes);
    if (lock_fd >= 0)
        close(lock_fd);
    if (error != 0 && cache->probe_fd >= 0) {
        close(cache->probe_fd);
        cache->probe_fd = -1;
    }
    return error;
}

static void close_probe(struct lr_cache *cache) {
    if (lr_participant_owns_probe(cache))
        close(cache->probe_fd);
    cache->probe_fd = -1;
}

void lr_participant_leave(struct lr_cache *cache) {
    /* In a child that never joined, slot and page are the parent's: only the descriptor is ours to close. */
    if (has_joined(cache)) {
        clear_slot(cache, cache->me);
        cache->me = &cache->dummy;
        atomic_store_explicit(&cache->self->joined, 0, memory_order_relaxed);
        LR_CRASH_POINT("leave, before");
        /* ORDER(slot-state) publish: see reap_under_byte. */
        atomic_store_explicit(&cache->participants[cache->slot].state, SM_SLOT_FREE, memory_order_release);
        LR_CRASH_POINT("leave, after");
        munmap(cache->live_page, (size_t)sysconf(_SC_PAGESIZE)); /* lets the byte go */
    }
    cache->live_page = NULL;
    close_probe(cache);
    if (cache->live_fd >= 0)
        close_kept_live(cache);
}

static int join_as_child(struct lr_cache *cache) {
    close_probe(cache);
    cache->live_page = NULL;
    /* The parent's other threads are not here: what they were doing with these is over. */
    /* Another thread of the parent may have been repairing when it forked. */
    madvise(cache->scratch, cache->geometry.stripe_bytes / SM_GRANULE / 8, MADV_DONTNEED);
    int error = lr_clock_init(cache, NULL);
    if (error != 0)
        return error;
    error = lr_participant_join(cache, NULL);
    if (error != 0 && !lr_is_live(cache))
        return LARDER_ERETIRED;
    return error;
}

int lr_participant_rejoin(struct lr_cache *cache) {
    if (!take_mutex(&cache->self->joining, JOINING_NS))
        return LARDER_EBUSY;
    int error = 0;
    if (!has_joined(cache)) {
        int cancel_state;
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
        error = join_as_child(cache);
        pthread_setcancelstate(cancel_state, NULL);
    }
    release_mutex(&cache->self->joining);
    return error;
}

/* ---- probing and reaping ---------------------------------------------------------------------------------------- */

/* Takes `reaping` and makes sure of probe_fd. False: cannot tell. */
static bool begin_probe(struct lr_cache *cache) {
    if (cache->read_only && cache->probe_fd < 0)
        return false;
    if (!take_mutex(&cache->self->reaping, REAPING_NS))
        return false;
    if (lr_participant_owns_probe(cache))
        return true;
    cache->probe_fd = -1; /* closed by the application; the number is not ours any more */
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    int error = lr_participant_open_probe(cache, NULL);
    pthread_setcancelstate(cancel_state, NULL);
    if (error == 0)
        return true;
    release_mutex(&cache->self->reaping);
    return false;
}

static void end_probe(struct lr_cache *cache) {
    release_mutex(&cache->self->reaping);
}

/* In a child that has not joined yet, slot and generation are still those of the parent, who may be dead. */
static bool is_self(const struct lr_cache *cache, uint32_t slot, uint64_t generation) {
    return has_joined(cache) && slot == cache->slot && generation == cache->generation;
}

bool lr_owner_alive(struct lr_cache *cache, uint64_t owner_word) {
    uint32_t slot = lr_owner_slot(owner_word);
    uint64_t generation = lr_owner_generation(owner_word);
    if (cache->image || slot >= cache->geometry.participants)
        return false; /* nobody lives in a copy, and nobody has a slot that does not exist */
    if (is_self(cache, slot, generation))
        return true;
    if (generation_of(&cache->participants[slot]) != generation)
        return false;
    if (!begin_probe(cache))
        return true;
    struct flock probe = byte_of(slot, F_WRLCK);
    bool byte_free = fcntl(cache->probe_fd, F_OFD_GETLK, &probe) == 0 && probe.l_type == F_UNLCK;
    end_probe(cache);
    return !byte_free;
}

bool lr_participant_reap(struct lr_cache *cache, uint32_t slot, uint64_t generation) {
    if (!has_joined(cache) || slot >= cache->geometry.participants)
        return false;
    struct sm_participant *dead = &cache->participants[slot];
    if (generation_of(dead) != generation)
        return true;
    if (is_self(cache, slot, generation) || !begin_probe(cache))
        return false;
    if (take_byte(cache->probe_fd, slot)) {
        /* Others may have reaped and joined between our look and the byte. A slot that was left properly is FREE. */
        if (generation_of(dead) == generation &&
            atomic_load_explicit(&dead->state, memory_order_relaxed) != SM_SLOT_FREE)
            reap_under_byte(cache, dead);
        else if (generation_of(dead) == generation)
            (void)raise_generation(dead);
        drop_byte(cache->probe_fd, slot);
    }
    end_probe(cache);
    return generation_of(dead) != generation;
}

/* ---- for humans ------------------------------------------------------------------------------------------------- */

unsigned lr_participant_pins(const struct lr_cache *cache, uint32_t slot, uint64_t *bytes) {
    unsigned pins = 0;
    *bytes = 0;
    for (unsigned i = 0; i < SM_PINS; i++) {
        uint64_t word = atomic_load_explicit(&cache->participants[slot].hazards[i], memory_order_relaxed);
        pins += word != 0;
        *bytes += lr_hazard_bytes(cache, word);
    }
    return pins;
}

int lr_process(struct lr_cache *cache, uint32_t slot, struct lr_process *out) {
    memset(out, 0, sizeof *out);
    if (slot >= cache->geometry.participants)
        return LARDER_EINVALID;
    const struct sm_participant *from = &cache->participants[slot];
    /* ORDER(slot-state) observe: an ACTIVE slot shows its owner's name. */
    if (atomic_load_explicit(&from->state, memory_order_acquire) != SM_SLOT_ACTIVE)
        return LARDER_ENOT_FOUND;
    out->slot = slot;
    out->generation = generation_of(from);
    out->pid = atomic_load_explicit(&from->pid, memory_order_relaxed);
    out->pid_ns = atomic_load_explicit(&from->pid_ns, memory_order_relaxed);
    out->started_ms = atomic_load_explicit(&from->started_ms, memory_order_relaxed);
    uint64_t words[4];
    for (unsigned i = 0; i < 4; i++)
        words[i] = atomic_load_explicit(&from->name[i], memory_order_relaxed);
    memcpy(out->name, words, sizeof words);
    for (unsigned i = 0; i < sizeof words && out->name[i] != 0; i++)
        if ((unsigned char)out->name[i] < 0x20 || out->name[i] == 0x7f)
            out->name[i] = '?'; /* other people's bytes, on their way to a terminal */
    out->pins = lr_participant_pins(cache, slot, &out->pinned_bytes);
    for (unsigned i = 0; i < LR_COUNTER_COUNT; i++)
        out->counters[i] = atomic_load_explicit(&from->counters[i], memory_order_relaxed);
    out->self = is_self(cache, slot, out->generation);
    out->alive = lr_owner_alive(cache, lr_owner_word(slot, out->generation));
    return generation_of(from) == out->generation ? 0 : LARDER_ENOT_FOUND;
}
