/* SPDX-License-Identifier: MIT */
/*
 * How does a segment come to be, who maps it, and how does it go? The names and their guard are in names.c: read its
 * essay first.
 *
 * Create: plan, build a nameless liveness file, claim the names with it, and only then allocate, lay out and join; the
 * segment's name comes last. Attach: open, judge, verify, map, find the partner, join. Destroy: retire, then unlink.
 *
 * Memory is allocated in full (posix_fallocate) before the name appears, because a page that tmpfs cannot supply later
 * is a SIGBUS in some innocent process. 2 MiB at a time: tmpfs gives up and frees when a signal arrives, so signals
 * wait for the end of each piece, and SIGXFSZ becomes an error. A killed creator leaves no memory behind: the file has
 * no name.
 *
 *      reserved (no access)
 *      | guard pages .. | base, 2 MiB aligned: the file ......................... | .. guard pages |
 *
 * The mapping lies in a reserved range, so that it is aligned for huge pages and a stray access on either side faults.
 * It is left out of core dumps. It is never remapped, and the file never changes its size: a new generation is another
 * file, and those who are attached to the old one get RETIRED.
 */
#include "handover.h"
#include "names.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#define HUGE_PAGE (UINT64_C(2) << 20)
#define COLLAPSE_MIN (UINT64_C(4) << 20)    /* bytes of data from which huge pages are asked for */
#define COLLAPSE_CHUNK (UINT64_C(32) << 20) /* a kill waits for no more than this */
#define DEFAULT_SIZE (UINT64_C(64) << 20)
#define DEFAULT_WAIT_MS 250u
#define MAX_WAIT_MS 60000u
#define ATTACH_TRIES 8u

/* Newer than some C libraries' headers; refused by older kernels, which is not an error here. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* ---- options -------------------------------------------------------------------------------------------------- */

struct lr_options lr_options_default(void) {
    return (struct lr_options){.policy = LR_POLICY_s3, .group = (gid_t)-1, .owner = (uid_t)-1};
}

static int check_options(const struct lr_options *options, char *why) {
    if (options->wait_ms > MAX_WAIT_MS)
        return lr_error_explain(LARDER_EINVALID, why, "wait_ms is %u, but must be at most %u", options->wait_ms,
                                MAX_WAIT_MS);
    return 0;
}

static int check_create_options(const struct lr_options *options, char *why) {
    mode_t mode = options->mode;
    if (options->read_only)
        return lr_error_explain(LARDER_EINVALID, why, "a segment cannot be created read-only: attach to it instead");
    if (mode != 0 && ((mode & 0600) != 0600 || (mode & 07113) != 0 || (mode & 0060) == 0020))
        return lr_error_explain(
            LARDER_EINVALID, why,
            "mode %04o: it must let the owner read and write, let no one write who cannot read, and "
            "never let others write: 0600, 0640, 0644, 0660 or 0664",
            (unsigned)mode);
    return 0;
}

/* ---- one process's attachment ----------------------------------------------------------------------------------- */

static void *map_private(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static size_t page_bytes(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t scratch_bytes(const struct lr_cache *cache) {
    return cache->geometry.stripe_bytes / SM_GRANULE / CHAR_BIT;
}

/* Undoes everything that new_attachment, map_segment and join have done so far. */
static void free_attachment(struct lr_cache *cache) {
    if (cache == NULL)
        return;
    if (cache->self != NULL)
        lr_participant_leave(cache);
    if (cache->scratch != NULL)
        munmap(cache->scratch, scratch_bytes(cache));
    if (cache->reserved != NULL)
        munmap(cache->reserved, cache->reserved_bytes);
    if (cache->self != NULL)
        munmap(cache->self, page_bytes());
    free(cache);
}

static void name_user(struct lr_cache *cache, const char *who) {
    if (who == NULL)
        who = program_invocation_short_name;
    for (size_t i = 0; i + 1 < sizeof cache->who && who[i] != 0; i++)
        cache->who[i] = (unsigned char)who[i] < 0x20 || who[i] == 0x7f ? '?' : who[i];
}

static int new_attachment(const struct lr_options *options, const char *path, struct lr_cache **out, char *why) {
    struct lr_cache *cache = calloc(1, sizeof *cache);
    *out = NULL;
    if (cache == NULL)
        return lr_error_explain(LARDER_ENO_MEMORY, why, "no memory for a handle of %zu bytes", sizeof *cache);
    cache->probe_fd = -1;
    cache->live_fd = -1;
    cache->owner = options->owner;
    cache->kept = lr_names_kept(path);
    cache->live_state = SM_LIVE;
    cache->slot = UINT32_MAX;
    cache->me = &cache->dummy;
    cache->read_only = options->read_only;
    cache->wait_ms = options->wait_ms == 0 ? DEFAULT_WAIT_MS : options->wait_ms;
    memcpy(cache->path, path, strlen(path) + 1);
    name_user(cache, options->who);
    cache->self = map_private(page_bytes());
    int error = 0;
    if (cache->self == NULL)
        error = lr_error_explain(LARDER_ENO_MEMORY, why, "no address space for a page: %s", strerror(errno));
    else if (madvise(cache->self, page_bytes(), MADV_WIPEONFORK) != 0)
        error = lr_error_explain(LARDER_ESYSTEM, why, "this kernel cannot wipe a page at fork (MADV_WIPEONFORK): %s",
                                 strerror(errno));
    else
        error = lr_clock_init(cache, why);
    if (error != 0) {
        free_attachment(cache);
        return error;
    }
    *out = cache;
    return 0;
}

static int no_address_space(uint64_t bytes, char *why) {
    int error = errno;
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    (void)getrlimit(RLIMIT_AS, &limit);
    if (limit.rlim_cur != RLIM_INFINITY)
        return lr_error_explain(LARDER_ENO_MEMORY, why,
                                "%" PRIu64 " bytes of address space are needed, but the process may have %ju in all "
                                "(ulimit -v): raise that limit",
                                bytes, (uintmax_t)limit.rlim_cur);
    return lr_error_explain(LARDER_ENO_MEMORY, why, "%" PRIu64 " bytes cannot be mapped: %s", bytes, strerror(error));
}

static int map_segment(struct lr_cache *cache, int fd, char *why) {
    const struct lr_geometry *geometry = &cache->geometry;
    cache->map_bytes = lr_round_up(geometry->segment_bytes, page_bytes());
    cache->reserved_bytes = cache->map_bytes + 2 * HUGE_PAGE;
    void *reserved = mmap(NULL, cache->reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return no_address_space(cache->reserved_bytes, why);
    cache->reserved = reserved;
    cache->base = (uint8_t *)reserved + (lr_round_up((uintptr_t)reserved + 1, HUGE_PAGE) - (uintptr_t)reserved);
    int protection = cache->read_only ? PROT_READ : PROT_READ | PROT_WRITE;
    int sharing = cache->image ? MAP_PRIVATE : MAP_SHARED;
    if (mmap(cache->base, cache->map_bytes, protection, sharing | MAP_FIXED, fd, 0) == MAP_FAILED)
        return no_address_space(cache->map_bytes, why);
    (void)madvise(cache->base, cache->map_bytes, MADV_DONTDUMP);
    (void)madvise(cache->base, cache->map_bytes, MADV_HUGEPAGE);
    cache->scratch = map_private(scratch_bytes(cache));
    if (cache->scratch == NULL)
        return no_address_space(scratch_bytes(cache), why);
    cache->header = (struct sm_header *)(void *)cache->base;
    cache->participants = (struct sm_participant *)(void *)(cache->base + SM_HEADER_BYTES);
    cache->controls = cache->base + geometry->control_off;
    cache->data = cache->base + geometry->data_off;
    return 0;
}

static int prefault(const struct lr_cache *cache, char *why) {
    if (madvise(cache->base, cache->map_bytes, cache->read_only ? MADV_POPULATE_READ : MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno != EINVAL)
        return lr_error_explain(LARDER_ENO_MEMORY, why, "%" PRIu64 " bytes cannot be brought into memory now: %s",
                                cache->map_bytes, strerror(errno));
    /* An older kernel. All pages exist, so a look at each maps it. */
    for (uint64_t offset = 0; offset < cache->geometry.segment_bytes; offset += page_bytes())
        (void)atomic_load_explicit((const sm_u32 *)(const void *)(cache->base + offset), memory_order_relaxed);
    return 0;
}

/* ---- create ----------------------------------------------------------------------------------------------------- */

static int fill_random(void *out, size_t len) {
    return getrandom(out, len, 0) == (ssize_t)len ? 0 : LARDER_ESYSTEM;
}

/*
 * Links our guarded liveness file, having removed what a dead creator or destroyer left. On success we have the guard,
 * and the segment's name is free.
 */
static int claim_names(const char *path, int live_fd, const struct stat *live_file, uid_t owner, uint64_t deadline_ns,
                       char *why) {
    char live[LR_LIVE_PATH_BYTES];
    lr_names_live(path, live);
    int error;
    do {
        int old_fd;
        struct stat old_file;
        error = lr_guard_named(path, owner, deadline_ns, &old_fd, why);
        if (error == 0 && old_fd >= 0) {
            error = lr_names_clear(path, owner, why);
            if (error == 0 && fstat(old_fd, &old_file) == 0)
                error = lr_names_unlink(live, &old_file, why);
            lr_guard_drop(old_fd);
        }
        if (error != 0)
            return error;
        error = lr_names_link(live_fd, live, why);
    } while (error == LARDER_EEXISTS && lr_monotonic_ns() < deadline_ns);
    if (error == LARDER_EEXISTS)
        return lr_error_explain(LARDER_EBUSY, why, "other processes keep creating and destroying %.300s", path);
    if (error != 0)
        return error;
    error = lr_names_clear(path, owner, why); /* one without a liveness file: somebody removed that */
    if (error != 0)
        (void)lr_names_unlink(live, live_file, NULL);
    return error;
}

/* Huge pages, best effort: a get then touches one TLB entry where it would miss on three. */
static void collapse(const struct lr_cache *cache) {
    if (cache->geometry.cache_bytes < COLLAPSE_MIN)
        return;
    for (uint64_t done = 0; done < cache->geometry.cache_bytes; done += COLLAPSE_CHUNK) {
        uint64_t left = cache->geometry.cache_bytes - done;
        if (madvise(cache->data + done, left < COLLAPSE_CHUNK ? left : COLLAPSE_CHUNK, MADV_COLLAPSE) != 0)
            return;
    }
}

static int lay_out(struct lr_cache *cache, bool replicating, char *why) {
    uint32_t origin;
    if (fill_random(&origin, sizeof origin) != 0)
        return lr_error_explain(LARDER_ESYSTEM, why, "no random numbers: %s", strerror(errno));
    struct sm_header *header = cache->header;
    lr_geometry_store(&cache->geometry, &header->constants);
    atomic_store_explicit(&header->state, SM_LIVE, memory_order_relaxed);
    atomic_store_explicit(&header->lag_p50_us, UINT64_MAX, memory_order_relaxed);
    atomic_store_explicit(&header->lag_p99_us, UINT64_MAX, memory_order_relaxed);
    lr_set_origin(cache, origin);
    atomic_store_explicit(&header->replicating, replicating, memory_order_relaxed);
    for (uint32_t stripe = 0; stripe < cache->geometry.stripe_count; stripe++)
        lr_geometry_lay_stripe(&cache->geometry, lr_stripe_at(cache, stripe));
    return 0;
}

/* Behind the claim: memory, content, a slot of our own, and last the name. */
static int build_segment(struct lr_cache *cache, const struct lr_options *options, int fd, char *why) {
    int error = lr_files_allocate(fd, cache->geometry.segment_bytes, cache->path, why);
    if (error == 0)
        error = map_segment(cache, fd, why);
    if (error == 0)
        error = lay_out(cache, options->replicating, why);
    if (error != 0)
        return error;
    collapse(cache);
    if (options->prefault)
        error = prefault(cache, why);
    if (error == 0)
        error = lr_participant_join(cache, why);
    LR_CRASH_POINT("create, before");
    if (error == 0) /* COMMIT POINT: before, there is no segment; after, a whole one. */
        error = lr_names_link(fd, cache->path, why);
    LR_CRASH_POINT("create, after");
    return error;
}

static int plan_segment(struct lr_cache *cache, const struct lr_options *options, char *why) {
    struct lr_geometry *geometry = &cache->geometry;
    uint64_t random[3];
    int error = lr_geometry_plan(options->size == 0 ? DEFAULT_SIZE : options->size, options->stripes,
                                 (uint32_t)options->policy, geometry, why);
    if (error != 0)
        return error;
    if (strcmp(lr_favor_name((uint32_t)options->favor), "unknown") == 0)
        return lr_error_explain(LARDER_EINVALID, why, "favor %u is not one that this release knows",
                                (unsigned)options->favor);
    geometry->favor = (uint32_t)options->favor;
    if (fill_random(random, sizeof random) != 0)
        return lr_error_explain(LARDER_ESYSTEM, why, "no random numbers: %s", strerror(errno));
    geometry->hash_seed = random[0];
    geometry->incarnation[0] = random[1];
    geometry->incarnation[1] = random[2];
    geometry->created_ms = lr_unix_ms();
    lr_names_describe(cache->path, geometry->name);
    return 0;
}

static int open_again(int fd, int flags, int *out, char *why) {
    char from[64];
    (void)snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    *out = open(from, flags | O_CLOEXEC);
    return *out >= 0 ? 0 : lr_error_explain(LARDER_ESYSTEM, why, "%s cannot be opened: %s", from, strerror(errno));
}

/* Behind the plan: two memfds, sealed, and all that create() does but for names. */
static int build_kept(struct lr_cache *cache, const struct lr_options *options, int fd, int live_fd, char *why) {
    const struct lr_geometry *geometry = &cache->geometry;
    struct stat file, live_file;
    int again = -1;
    if (fstat(fd, &file) != 0)
        return lr_error_explain(LARDER_ESYSTEM, why, "the new file cannot be examined: %s", strerror(errno));
    struct sm_liveness partner = {.incarnation = {geometry->incarnation[0], geometry->incarnation[1]},
                                  .segment_ino = file.st_ino};
    int error = lr_files_live(&partner, live_fd, cache->path, &live_file, why);
    if (error == 0)
        error = lr_files_allocate(fd, geometry->segment_bytes, cache->path, why);
    if (error == 0)
        error = lr_files_seal(fd, why);
    if (error == 0)
        error = lr_files_seal(live_fd, why);
    if (error == 0)
        error = map_segment(cache, fd, why);
    if (error == 0)
        error = lay_out(cache, options->replicating, why);
    if (error != 0)
        return error;
    cache->segment_dev = file.st_dev;
    cache->segment_ino = file.st_ino;
    cache->live_dev = live_file.st_dev;
    cache->live_ino = live_file.st_ino;
    collapse(cache);
    if (options->prefault)
        error = prefault(cache, why);
    if (error == 0)
        error = open_again(live_fd, O_RDWR, &again, why);
    if (error == 0 && (error = lr_participant_adopt_live(cache, again, why)) != 0)
        close(again);
    return error != 0 ? error : lr_participant_join(cache, why);
}

int lr_segment_create_kept(const struct lr_options *options, const char *path, struct lr_cache **out, int *segment_fd,
                           int *live_fd, char *why) {
    const mode_t mode = options->mode == 0 ? 0600 : options->mode;
    struct lr_cache *cache = NULL;
    *segment_fd = *live_fd = -1;
    int error = check_create_options(options, why);
    if (error == 0)
        error = new_attachment(options, path, &cache, why);
    if (error == 0)
        error = plan_segment(cache, options, why);
    if (error == 0)
        error = lr_files_memfd("larder", mode, options->group, segment_fd, why);
    if (error == 0)
        error = lr_files_memfd("larder.live", lr_files_live_mode(mode), options->group, live_fd, why);
    if (error == 0)
        error = build_kept(cache, options, *segment_fd, *live_fd, why);
    if (error != 0) {
        free_attachment(cache);
        cache = NULL;
        for (int *fd = segment_fd; fd != NULL; fd = fd == segment_fd ? live_fd : NULL)
            if (*fd >= 0)
                close(*fd);
    }
    *out = cache;
    return error;
}

static int create(const struct lr_options *options, const char *path, struct lr_cache **out, char *why) {
    if (lr_names_kept(path))
        return lr_error_explain(LARDER_EINVALID, why,
                                "\"%.300s\" is a segment in the memory of a larderd, which creates it: start `larderd "
                                "--memfd %.100s`",
                                path, lr_names_socket(path));
    const mode_t mode = options->mode == 0 ? 0600 : options->mode;
    struct lr_cache *cache = NULL;
    int fd = -1, live_fd = -1;
    bool claimed = false;
    struct stat file, live_file;
    int error = check_create_options(options, why);
    if (error == 0)
        error = new_attachment(options, path, &cache, why);
    if (error == 0)
        error = plan_segment(cache, options, why);
    if (error == 0)
        error = lr_files_nameless(path, mode, options->group, &fd, why);
    if (error == 0 && fstat(fd, &file) != 0)
        error = lr_error_explain(LARDER_ESYSTEM, why, "the new file cannot be examined: %s", strerror(errno));
    if (error != 0)
        goto out;
    const struct lr_geometry *geometry = &cache->geometry;
    struct sm_liveness partner = {.incarnation = {geometry->incarnation[0], geometry->incarnation[1]},
                                  .segment_ino = file.st_ino};
    error = lr_files_build_live(&partner, path, mode, options->group, &live_fd, &live_file, why);
    if (error == 0)
        error = claim_names(path, live_fd, &live_file, options->owner, lr_guard_deadline(geometry->cache_bytes), why);
    if (error != 0)
        goto out;
    claimed = true;
    cache->segment_dev = file.st_dev;
    cache->segment_ino = file.st_ino;
    cache->live_dev = live_file.st_dev;
    cache->live_ino = live_file.st_ino;
    error = build_segment(cache, options, fd, why);
out:
    if (error != 0 && claimed) {
        char live[LR_LIVE_PATH_BYTES];
        lr_names_live(path, live);
        (void)lr_names_unlink(live, &live_file, NULL);
    }
    if (error != 0) {
        free_attachment(cache);
        cache = NULL;
    }
    lr_guard_drop(live_fd);
    if (fd >= 0)
        close(fd);
    *out = cache;
    return error;
}

/* ---- attach ----------------------------------------------------------------------------------------------------- */

/*
 * Finds the segment's liveness file and makes sure that the two belong together. Fills live_dev and live_ino. A
 * read-only handle only needs it to tell the living from the dead, and does without if it may not have it.
 */
static int open_pair(const struct lr_cache *cache, const char *live, int *fd, char *why) {
    if (cache->kept && cache->live_fd < 0)
        return lr_error_explain(LARDER_EPERMISSION, why, "user %u may only read %.300s, so it is not shown who lives",
                                (unsigned)geteuid(), cache->path);
    if (cache->kept)
        return open_again(cache->live_fd, O_RDONLY, fd, why);
    return lr_names_open(live, false, fd, why);
}

static int pair_live(struct lr_cache *cache, uid_t owner, char *why) {
    char live[LR_LIVE_PATH_BYTES];
    struct stat file;
    struct sm_liveness record;
    int fd;
    lr_names_live(cache->path, live);
    int error = open_pair(cache, live, &fd, why);
    if (error == LARDER_ENO_SEGMENT)
        return lr_error_explain(
            LARDER_ECORRUPT, why,
            "the liveness file %.300s is missing, so the living cannot be told from the dead: destroy "
            "and recreate the segment",
            live);
    if (error != 0)
        return error;
    if (fstat(fd, &file) != 0)
        error = lr_error_explain(LARDER_ESYSTEM, why, "%.300s cannot be examined: %s", live, strerror(errno));
    if (error == 0)
        error = lr_names_judge(&file, owner, live, why);
    if (error == 0)
        error = lr_names_load_live(fd, live, &record, why);
    close(fd);
    if (error != 0)
        return error;
    const uint64_t *own = cache->geometry.incarnation;
    if (record.incarnation[0] != own[0] || record.incarnation[1] != own[1])
        return lr_error_explain(LARDER_ECORRUPT, why,
                                "%.200s belongs to the segment %016" PRIx64 "%016" PRIx64 ", but this one is "
                                "%016" PRIx64 "%016" PRIx64 ": destroy and recreate it",
                                live, record.incarnation[0], record.incarnation[1], own[0], own[1]);
    if (record.segment_ino != cache->segment_ino || record.live_ino != file.st_ino)
        return lr_error_explain(
            LARDER_ECORRUPT, why,
            "%.200s was made for the files with inodes %" PRIu64 " and %" PRIu64 ", but these are %ju "
            "and %ju: one of them is a copy; destroy and recreate the segment",
            live, record.segment_ino, record.live_ino, (uintmax_t)cache->segment_ino, (uintmax_t)file.st_ino);
    cache->live_dev = file.st_dev;
    cache->live_ino = file.st_ino;
    return 0;
}

static int retired(const char *path, char *why) {
    return lr_error_explain(LARDER_ERETIRED, why, "%.300s was destroyed, but not removed yet: create it anew", path);
}

/* Behind open and judge: verify, map, pair, join. */
static int attach_file(struct lr_cache *cache, const struct lr_options *options, int fd, const struct stat *file,
                       char *why) {
    uint32_t state;
    cache->segment_dev = file->st_dev;
    cache->segment_ino = file->st_ino;
    int error = lr_names_load_segment(fd, file, cache->path, &cache->geometry, &state, why);
    if (error == 0 && !lr_state_is_live(state))
        error = retired(cache->path, why);
    if (error == 0)
        error = map_segment(cache, fd, why);
    if (error != 0)
        return error;
    cache->live_state = state;
    if (cache->read_only) {
        if (pair_live(cache, options->owner, NULL) == 0)
            (void)lr_participant_open_probe(cache, NULL);
    } else {
        error = pair_live(cache, options->owner, why);
        if (error == 0)
            error = lr_participant_join(cache, why);
    }
    if (error == 0 && !lr_is_live(cache))
        error = retired(cache->path, why);
    if (error == 0 && options->prefault)
        error = prefault(cache, why);
    return error;
}

static int attach_once(const struct lr_options *options, const char *path, struct lr_cache **out, bool *replaced,
                       char *why) {
    struct stat file = {0};
    int fd;
    struct lr_cache *cache = NULL;
    *replaced = false;
    int error = lr_names_open(path, options->read_only, &fd, why);
    if (error != 0)
        return error;
    if (fstat(fd, &file) != 0)
        error = lr_error_explain(LARDER_ESYSTEM, why, "%.300s cannot be examined: %s", path, strerror(errno));
    if (error == 0)
        error = lr_names_judge(&file, options->owner, path, why);
    if (error == 0)
        error = new_attachment(options, path, &cache, why);
    if (error == 0)
        error = attach_file(cache, options, fd, &file, why);
    if (error != 0) {
        free_attachment(cache);
        cache = NULL;
        *replaced = !lr_names_has(path, &file);
    }
    close(fd);
    *out = cache;
    return error;
}

/* Behind the handover: what was handed over is judged as a file would be, and must be sealed. */
static int attach_handed(struct lr_cache *cache, const struct lr_options *options, struct lr_handed *handed,
                         char *why) {
    struct stat file;
    if (fstat(handed->segment_fd, &file) != 0)
        return lr_error_explain(LARDER_ESYSTEM, why, "%.300s: the segment cannot be examined: %s", cache->path,
                                strerror(errno));
    int error = lr_names_judge(&file, options->owner, cache->path, why);
    if (error == 0 && !lr_files_sealed(handed->segment_fd))
        error =
            lr_error_explain(LARDER_EFOREIGN, why,
                             "%.300s: what was handed over is not sealed, so somebody could truncate it", cache->path);
    if (error == 0 && handed->live_fd < 0 && !options->read_only)
        error = lr_error_explain(LARDER_EPERMISSION, why,
                                 "user %u may only read %.300s (mode %04o, user %u, group %u): attach read-only",
                                 (unsigned)geteuid(), cache->path, (unsigned)file.st_mode & 07777u,
                                 (unsigned)file.st_uid, (unsigned)file.st_gid);
    if (error == 0 && handed->live_fd >= 0) {
        error = lr_participant_adopt_live(cache, handed->live_fd, why);
        if (error == 0)
            handed->live_fd = -1;
    }
    return error != 0 ? error : attach_file(cache, options, handed->segment_fd, &file, why);
}

static int attach_kept(const struct lr_options *options, const char *path, struct lr_cache **out, char *why) {
    struct lr_handed handed;
    struct lr_cache *cache = NULL;
    int error = lr_handover_take(path, options->owner, &handed, why);
    if (error != 0)
        return error;
    error = new_attachment(options, path, &cache, why);
    if (error == 0)
        error = attach_handed(cache, options, &handed, why);
    if (error != 0) {
        free_attachment(cache);
        cache = NULL;
    }
    close(handed.segment_fd);
    if (handed.live_fd >= 0)
        close(handed.live_fd);
    *out = cache;
    return error;
}

static int attach(const struct lr_options *options, const char *path, struct lr_cache **out, char *why) {
    if (lr_names_kept(path))
        return attach_kept(options, path, out, why);
    int error = LARDER_ENO_SEGMENT;
    bool replaced = true; /* destroyed under our hands: what has the name now? */
    for (unsigned i = 0; replaced && i < ATTACH_TRIES; i++)
        error = attach_once(options, path, out, &replaced, why);
    return error;
}

static int open_or_create(const struct lr_options *options, const char *path, struct lr_cache **out, char *why) {
    int error = 0;
    if (lr_names_kept(path)) /* there is no creating it from here */
        return attach(options, path, out, why);
    for (unsigned i = 0; i < ATTACH_TRIES; i++) {
        error = attach(options, path, out, why);
        if ((error != LARDER_ENO_SEGMENT && error != LARDER_ERETIRED) || options->read_only)
            return error;
        error = create(options, path, out, why);
        if (error != LARDER_EEXISTS)
            return error;
    }
    return lr_error_explain(LARDER_EBUSY, why, "other processes keep creating and destroying %.300s", path);
}

static int attach_image(const char *path, struct lr_cache **out, char *why) {
    struct lr_options options = lr_options_default();
    struct lr_cache *cache = NULL;
    struct stat file;
    uint32_t state;
    int fd;
    options.read_only = true;
    int error = lr_names_open(path, true, &fd, why);
    if (error != 0)
        return error;
    if (fstat(fd, &file) != 0)
        error = lr_error_explain(LARDER_ESYSTEM, why, "%.300s cannot be examined: %s", path, strerror(errno));
    else if (!S_ISREG(file.st_mode))
        error = lr_error_explain(LARDER_EFOREIGN, why, "%.300s is a %s, not a copy of a segment", path,
                                 lr_names_kind(file.st_mode));
    if (error == 0)
        error = new_attachment(&options, "", &cache, why);
    if (error == 0) {
        cache->image = true;
        error = lr_names_load_segment(fd, &file, path, &cache->geometry, &state, why);
    }
    if (error == 0)
        error = map_segment(cache, fd, why);
    if (error != 0) {
        free_attachment(cache);
        cache = NULL;
    }
    close(fd);
    *out = cache;
    return error;
}

/* ---- the front door --------------------------------------------------------------------------------------------- */

/* Some of the calls below are cancellation points; a thread that died in one would leave files and mappings. */
static int begin_call(const struct lr_options *options, char path[LR_PATH_BYTES], int *cancel_state, char *why) {
    if (why != NULL)
        why[0] = 0;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, cancel_state);
    int error = check_options(options, why);
    return error != 0 ? error : lr_names_resolve(options, path, why);
}

static int end_call(int error, int cancel_state, char *why) {
    if (error == 0 && why != NULL)
        why[0] = 0; /* of attempts on the way */
    pthread_setcancelstate(cancel_state, NULL);
    return error;
}

int lr_cache_create(const struct lr_options *options, struct lr_cache **out, char *why) {
    char path[LR_PATH_BYTES];
    int cancel_state;
    *out = NULL;
    int error = begin_call(options, path, &cancel_state, why);
    return end_call(error != 0 ? error : create(options, path, out, why), cancel_state, why);
}

int lr_cache_attach(const struct lr_options *options, struct lr_cache **out, char *why) {
    char path[LR_PATH_BYTES];
    int cancel_state;
    *out = NULL;
    int error = begin_call(options, path, &cancel_state, why);
    return end_call(error != 0 ? error : attach(options, path, out, why), cancel_state, why);
}

int lr_cache_open(const struct lr_options *options, struct lr_cache **out, char *why) {
    char path[LR_PATH_BYTES];
    int cancel_state;
    *out = NULL;
    int error = begin_call(options, path, &cancel_state, why);
    return end_call(error != 0 ? error : open_or_create(options, path, out, why), cancel_state, why);
}

int lr_cache_attach_image(const char *file, struct lr_cache **out, char *why) {
    int cancel_state;
    *out = NULL;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    return end_call(attach_image(file, out, why), cancel_state, why);
}

int lr_cache_destroy(const struct lr_options *options, char *why) {
    char path[LR_PATH_BYTES];
    int cancel_state;
    int error = begin_call(options, path, &cancel_state, why);
    return end_call(error != 0 ? error : lr_segment_destroy(options, path, why), cancel_state, why);
}

void lr_cache_detach(struct lr_cache *cache) {
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    free_attachment(cache);
    pthread_setcancelstate(cancel_state, NULL);
}

/* ---- what a segment is ------------------------------------------------------------------------------------------ */

uint32_t lr_stripe_count(const struct lr_cache *cache) {
    return cache->geometry.stripe_count;
}

void lr_incarnation(const struct lr_cache *cache, uint64_t out[2]) {
    out[0] = cache->geometry.incarnation[0];
    out[1] = cache->geometry.incarnation[1];
}

static const uint32_t origin_mask = (1u << SM_VERSION_ORIGIN_BITS) - 1;

uint32_t lr_origin(const struct lr_cache *cache) {
    return atomic_load_explicit(&cache->header->origin, memory_order_relaxed) & origin_mask;
}

void lr_set_origin(struct lr_cache *cache, uint32_t origin) {
    if (!cache->read_only)
        atomic_store_explicit(&cache->header->origin, origin & origin_mask, memory_order_relaxed);
}
