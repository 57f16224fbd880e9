/* SPDX-License-Identifier: MIT */
/*
 * Damaged segments, by the million: does every call return, touch nothing outside, and does repair mend the rest?
 *
 *   pristine copy --restore--> segment --damage--> calls --(one in eight)--> take-over, repair, check: healthy
 *
 * Everything that happens to image n follows from seed and n alone, so an image is replayed alone with --image. Built
 * with AddressSanitizer and UndefinedBehaviorSanitizer whatever the rest of the build has: the mapping lies between
 * pages without access (segment.c), all private buffers are of the exact size. A worker that dies, or is in one image
 * for longer than LONGEST_S, has its image named by the parent.
 *
 * Segments are of the least size, 64 KiB in one stripe, so that restoring costs as little as a few calls do. The ring
 * of hints is four times as large: of it only what was damaged or written since is restored. Most images do not wait
 * for a lock whose word was damaged, nor for `check` to give up on it: sleeping for that would take most of the time.
 */
#include "stripe.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LONGEST_S 20u
#define KEYS UINT64_C(220)
#define SLOTS_USED 3u /* participants that are damaged and restored */
#define MAX_JOBS 64u
#define MAX_TOUCHED 64u /* words of the ring that one image's damage can hit */
#define WAITS_IN 128u   /* one image in so many waits for locks, and lets check wait for them */
#define REPAIRS_IN 8u
#define LOOKS_IN 4u /* ... and of those one in so many is checked before as well */
#define COPIES_IN 512u
#define CHAINS_IN                                                                                                      \
    16u /* one image in so many gets up to CHAIN calls: what one call makes of the damage meets the next */
#define CHAIN 12u
#define MAX_HOLES 64u

struct random {
    uint64_t state;
};

static uint64_t next(struct random *random) {
    uint64_t x = random->state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t below(struct random *random, uint64_t n) {
    return next(random) % n;
}

struct victim {
    struct lr_options options;
    char name[65];
    struct lr_cache *cache;
    uint8_t *pristine;
    struct random random;
    uint8_t *buf;
    size_t cap;
    char file[64];                  /* copies of the segment for lr_cache_attach_image */
    uint64_t ring_from;             /* ring_head as the damage left it: hints from there on are the calls' */
    uint64_t *touched[MAX_TOUCHED]; /* words of the ring that were damaged */
    unsigned touched_count;
    uint64_t holes[MAX_HOLES]; /* offsets, in the pristine segment */
    uint64_t hole_count;
    uint64_t unhealthy; /* images in which check found something before repair */
    uint64_t looked_at; /* before repair */
    uint64_t repaired;
};

/* Shared with the parent: what each worker is at. */
struct progress {
    _Atomic uint64_t image;
    _Atomic uint64_t done, unhealthy, looked_at, repaired, attached;
};

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "larder-corrupt: %s\n", what);
    abort();
}

/* ---- the segment ------------------------------------------------------------------------------------------------ */

static void fill(struct victim *v) {
    uint8_t value[6000];
    memset(value, 'v', sizeof value);
    for (uint64_t i = 0; i < KEYS; i++) {
        struct lr_put put = {.key = &i,
                             .key_len = 8,
                             .value = value,
                             .value_len = below(&v->random, i % 10 ? 200 : sizeof value),
                             .ttl_ms = i % 3 ? 0 : 100000,
                             .flags = i % 2 ? 7 : 0};
        (void)lr_put(v->cache, &put);
        if (i % 7 == 0)
            (void)lr_delete(v->cache, &i, 8);
    }
    for (uint64_t i = 1; i < KEYS; i += 9) /* holes, which the gap has not swallowed yet */
        (void)lr_delete(v->cache, &i, 8);
}

/* The holes at the heads of the bins. */
static void list_holes(struct victim *v) {
    struct sm_stripe *stripe = lr_stripe_at(v->cache, 0);
    for (unsigned i = 0; i < SM_BIN_ROWS * SM_BIN_COLUMNS && v->hole_count < MAX_HOLES; i++) {
        uint64_t granules =
            atomic_load_explicit(&stripe->bins[i / SM_BIN_COLUMNS][i % SM_BIN_COLUMNS], memory_order_relaxed);
        if (granules != 0)
            v->holes[v->hole_count++] = granules * SM_GRANULE;
    }
    if (v->hole_count == 0)
        fail("the segment has no holes that could be damaged");
}

static void begin(struct victim *v, uint64_t seed, unsigned job) {
    char why[LR_WHY_BYTES];
    memset(v, 0, sizeof *v);
    v->random.state = seed;
    v->options = lr_options_default();
    snprintf(v->name, sizeof v->name, "t.%ld.%u", (long)getpid(), job);
    v->options.name = v->name;
    v->options.size = SM_MIN_STRIPE;
    v->options.wait_ms = 1;
    if (lr_cache_create(&v->options, &v->cache, why) != 0) {
        fprintf(stderr, "larder-corrupt: %s\n", why);
        exit(77);
    }
    lr_set_replicating(v->cache, job % 2 == 1);
    fill(v);
    list_holes(v);
    const uint64_t bytes = v->cache->geometry.segment_bytes;
    v->pristine = malloc(bytes);
    v->cap = lr_entry_bytes(v->cache);
    v->buf = calloc(1, v->cap);
    memcpy(v->pristine, v->cache->base, bytes);
    snprintf(v->file, sizeof v->file, "/dev/shm/larder.t.%ld.image", (long)getpid());
}

static void end(struct victim *v) {
    lr_cache_detach(v->cache);
    (void)lr_cache_destroy(&v->options, NULL);
    (void)unlink(v->file);
    free(v->pristine);
    free(v->buf);
}

/* Where the same bytes lie in the pristine copy. */
static const uint8_t *pristine_of(const struct victim *v, const void *bytes) {
    return v->pristine + ((const uint8_t *)bytes - v->cache->base);
}

static void restore_bytes(struct victim *v, void *bytes, size_t len) {
    memcpy(bytes, pristine_of(v, bytes), len);
}

static void restore_ring(struct victim *v) {
    struct sm_stripe *stripe = lr_stripe_at(v->cache, 0);
    const uint64_t ring_len = v->cache->geometry.ring_len, written = lr_load(&stripe->ring_head) - v->ring_from;
    for (uint64_t i = 0; i < written && i < ring_len; i++) {
        struct sm_hint *hint = &stripe->ring[(v->ring_from + i) % ring_len];
        restore_bytes(v, hint, sizeof *hint);
    }
    while (v->touched_count > 0) {
        uint64_t *word = v->touched[--v->touched_count];
        restore_bytes(v, word, sizeof *word);
    }
}

static void restore(struct victim *v) {
    struct lr_cache *cache = v->cache;
    restore_ring(v);
    restore_bytes(v, cache->base, SM_HEADER_BYTES + SLOTS_USED * sizeof(struct sm_participant));
    restore_bytes(v, cache->controls, SM_STRIPE_FIXED);
    restore_bytes(v, cache->data, cache->geometry.stripe_bytes);
}

/* ---- damage ----------------------------------------------------------------------------------------------------- */

/* Rows: X(field of sm_stripe): each word of it can be hit by name. */
#define STRIPE_FIELDS(X)                                                                                               \
    X(lock)                                                                                                            \
    X(sequence)                                                                                                        \
    X(notes_pending)                                                                                                   \
    X(stalled_since_ms)                                                                                                \
    X(stalled_owner)                                                                                                   \
    X(split)                                                                                                           \
    X(moves_down)                                                                                                      \
    X(gap)                                                                                                             \
    X(border_off)                                                                                                      \
    X(clock)                                                                                                           \
    X(incarnation)                                                                                                     \
    X(epoch)                                                                                                           \
    X(ring_head)                                                                                                       \
    X(ring_acked)                                                                                                      \
    X(sweep_cursor)                                                                                                    \
    X(items)                                                                                                           \
    X(item_bytes)                                                                                                      \
    X(payload_bytes)                                                                                                   \
    X(tombstones)                                                                                                      \
    X(held_blocks)                                                                                                     \
    X(held_bytes)                                                                                                      \
    X(hole_bytes)                                                                                                      \
    X(ttl_items)                                                                                                       \
    X(bin_map)                                                                                                         \
    X(counters)                                                                                                        \
    X(bins)                                                                                                            \
    X(held)                                                                                                            \
    X(notes)                                                                                                           \
    X(range_sum)                                                                                                       \
    X(range_floor)                                                                                                     \
    X(range_void)

struct field {
    uint32_t off, bytes;
};
static const struct field stripe_fields[] = {
#define X(name) {offsetof(struct sm_stripe, name), sizeof(((struct sm_stripe *)NULL)->name)},
    STRIPE_FIELDS(X)
#undef X
};
static const struct field header_fields[] = {
    {offsetof(struct sm_header, state), 4},
    {offsetof(struct sm_header, replicating), 4},
    {offsetof(struct sm_header, flush_version), 8},
    {offsetof(struct sm_header, origin), 4},
    {offsetof(struct sm_header, participants_high), 4},
    {offsetof(struct sm_header, bell), 8},
    {offsetof(struct sm_header, sidecar_owner), 16},
    {offsetof(struct sm_header, retired_counters), 384},
};
static const struct field participant_fields[] = {
    {offsetof(struct sm_participant, generation), 8}, {offsetof(struct sm_participant, state), 8},
    {offsetof(struct sm_participant, name), 32},      {offsetof(struct sm_participant, pin_summary), 8},
    {offsetof(struct sm_participant, hazards), 512},  {offsetof(struct sm_participant, counters), 384},
};
#define COUNT(table) (sizeof(table) / sizeof *(table))

static uint64_t *word_in(struct victim *v, uint8_t *base, const struct field *field) {
    uint64_t words = (field->bytes + 7u) / 8u;
    return (uint64_t *)(void *)(base + (field->off + below(&v->random, words) * 8u) / 8u * 8u);
}

/* A word of a slot, of a block's header, or of anything. */
static uint64_t *somewhere(struct victim *v) {
    struct lr_cache *cache = v->cache;
    struct random *random = &v->random;
    uint8_t *data = lr_data_at(cache, 0);
    const uint64_t end = cache->geometry.stripe_bytes, border = 4096; /* of a new stripe of this size */
    switch (below(random, 16)) {
    case 0:
        return word_in(v, cache->base, &header_fields[below(random, COUNT(header_fields))]);
    case 1:
        return word_in(v, (uint8_t *)&cache->participants[below(random, SLOTS_USED)],
                       &participant_fields[below(random, COUNT(participant_fields))]);
    case 2:
        return v->touched[v->touched_count++] =
                   (uint64_t *)(void *)(cache->controls + below(random, cache->geometry.control_bytes / 8) * 8);
    case 3:
    case 4:
    case 5:
    case 6:
        return word_in(v, cache->controls, &stripe_fields[below(random, COUNT(stripe_fields))]);
    case 7:
    case 8:
    case 9:
        return (uint64_t *)(void *)(data + below(random, border / 8) * 8);
    case 10: /* a hole's size or links */
        return (uint64_t *)(void *)(data + v->holes[below(random, v->hole_count)] + below(random, 2) * 8);
    case 11:
    case 12: { /* a header that a slot names */
        for (unsigned i = 0; i < 16; i++) {
            uint64_t off = lr_slot_off(lr_load((sm_u64 *)(void *)(data + below(random, border / 8) * 8)));
            if (off != 0 && off <= end - 40)
                return (uint64_t *)(void *)(data + off / 8 * 8 + below(random, 5) * 8);
        }
    } /* fall through */
    default:
        return (uint64_t *)(void *)(data + below(random, end / 8) * 8);
    }
}

/* A number that means something to somebody: a bound, or one off. */
static uint64_t telling(struct victim *v) {
    const struct lr_geometry *geometry = &v->cache->geometry;
    const uint64_t numbers[] = {0,
                                1,
                                UINT64_MAX,
                                UINT32_MAX,
                                UINT64_C(1) << 63,
                                geometry->stripe_bytes,
                                geometry->stripe_bytes / SM_GRANULE,
                                geometry->segment_bytes,
                                geometry->max_block,
                                SM_PARTICIPANTS,
                                lr_own_word(v->cache),
                                SM_SPLITTING | 32u};
    return numbers[below(&v->random, COUNT(numbers))] + below(&v->random, 3) - 1;
}

static void damage_once(struct victim *v) {
    struct random *random = &v->random;
    uint64_t *word = somewhere(v);
    switch (below(random, 8)) {
    case 0:
    case 1:
        *word ^= UINT64_C(1) << below(random, 64);
        break;
    case 2:
        *word = next(random);
        break;
    case 3:
        *word = telling(v);
        break;
    case 4:
        *word += below(random, 17) - 8;
        break;
    case 5:
        *word = *somewhere(v);
        break;
    case 6:
        ((uint8_t *)word)[below(random, 8)] = (uint8_t)next(random);
        break;
    default: { /* a splice: bytes of the stripe over others */
        uint8_t *data = lr_data_at(v->cache, 0);
        uint64_t len = 8 + below(random, 64) * 8, last = (v->cache->geometry.stripe_bytes - len) / 8;
        memmove(data + below(random, last) * 8, data + below(random, last) * 8, len);
    }
    }
}

static void damage(struct victim *v) {
    for (uint64_t n = 1 + below(&v->random, 4); n > 0; n--)
        damage_once(v);
    if (below(&v->random, 64) == 0) { /* a file that was cut and filled up */
        uint64_t from = below(&v->random, v->cache->geometry.stripe_bytes / 8) * 8;
        memset(lr_data_at(v->cache, 0) + from, 0, v->cache->geometry.stripe_bytes - from);
    }
    /* The process's own slot is its alone; with another generation in it, it is dead to itself. */
    if (below(&v->random, 32) != 0)
        restore_bytes(v, v->cache->me, 64);
    v->ring_from = lr_load(&lr_stripe_at(v->cache, 0)->ring_head);
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

static void inside(const struct victim *v, const struct lr_pin *pin) {
    const uint8_t *from = pin->value, *base = v->cache->base;
    if (from < base || from + pin->item.value_len > base + v->cache->geometry.segment_bytes)
        fail("a pin leads out of the segment");
}

static void look_around(struct victim *v) {
    struct lr_cache *cache = v->cache;
    struct lr_entry entry;
    struct lr_digest digest;
    struct lr_stat stat;
    struct lr_stripe_info info;
    struct lr_process process;
    struct lr_hint hints[8];
    struct lr_range range;
    uint64_t position = below(&v->random, 2000);
    switch (below(&v->random, 6)) {
    case 0: {
        struct lr_scan scan = lr_scan_all(cache);
        for (unsigned i = 0; i < 40; i++)
            if (lr_scan_next(cache, &scan, v->buf, v->cap, &entry) == LARDER_ENOT_FOUND)
                break;
        break;
    }
    case 1:
        lr_digest(cache, &digest);
        break;
    case 2:
        lr_stat(cache, &stat);
        lr_stripe_info(cache, 0, &info);
        break;
    case 3:
        lr_process(cache, (uint32_t)below(&v->random, SLOTS_USED), &process);
        lr_reap(cache);
        break;
    case 4:
        lr_feed_read(cache, 0, &position, hints, 8);
        lr_range_get(cache, (unsigned)below(&v->random, SM_RANGES), &range);
        lr_feed_take_rescan(cache, 0);
        break;
    default:
        lr_sweep(cache, 0, 16, below(&v->random, 2));
    }
}

static void call_once(struct victim *v) {
    struct lr_cache *cache = v->cache;
    struct random *random = &v->random;
    uint64_t key = below(random, KEYS + 20);
    struct lr_item item;
    struct lr_pin pin;
    struct lr_entry entry;
    int64_t number;
    switch (below(random, 14)) {
    case 0:
        lr_get(cache, &key, 8, v->buf, v->cap, &item, 0);
        break;
    case 1:
        if (lr_pin(cache, &key, 8, &pin) == 0) {
            inside(v, &pin);
            lr_unpin(cache, &pin);
        }
        break;
    case 2: {
        struct lr_read rows[3] = {{.key = &key, .key_len = 8, .buf = v->buf, .cap = v->cap},
                                  {.key = &key, .key_len = 7, .buf = v->buf, .cap = 10},
                                  {.key = &key, .key_len = 0}};
        lr_get_many(cache, rows, 3, 0);
        break;
    }
    case 3:
    case 4:
    case 5: {
        struct lr_put put = {.key = &key,
                             .key_len = 8,
                             .value = v->buf,
                             .value_len = below(random, below(random, 8) ? 300 : 20000),
                             .ttl_ms = below(random, 3),
                             .mode = (enum lr_put_mode)below(random, 4)};
        lr_put(cache, &put);
        break;
    }
    case 6:
        lr_delete(cache, &key, 8);
        break;
    case 7:
        lr_touch(cache, &key, 8, 1 + below(random, 200000));
        break;
    case 8:
        lr_increment(cache, &key, 8, 1, 1, 0, &number);
        break;
    case 9:
    case 10: {
        struct lr_change change = {.key = &key,
                                   .key_len = 8,
                                   .value = v->buf,
                                   .value_len = 100,
                                   .version = next(random) >> 1,
                                   .deadline_ms = UINT64_MAX};
        lr_apply_put(cache, &change, (unsigned)below(random, 2));
        break;
    }
    case 11:
        lr_apply_tombstone(cache, lr_cluster_hash(&key, 8), next(random) >> 1);
        lr_entry_by_hash(cache, lr_cluster_hash(&key, 8), v->buf, v->cap, &entry);
        break;
    default:
        look_around(v);
    }
}

/* As after the death of a holder: the lock is taken over and the stripe repaired, then it is healthy. */
static void take_over(struct victim *v, bool waits) {
    struct lr_cache *cache = v->cache;
    struct lr_view view = lr_view_of(cache, 0);
    struct lr_check check;
    if (below(&v->random, LOOKS_IN) == 0) {
        bool busy = (lr_load(&view.stripe->lock) & SM_LOCK_OWNER_MASK) != 0 || lr_load(&view.stripe->sequence) % 2 != 0;
        v->unhealthy += (busy && !waits) || lr_check(cache, &check) != 0;
        v->looked_at++;
    }
    lr_store(&view.stripe->lock, lr_own_word(cache) | SM_LOCK_RECOVER);
    if (!lr_repair_claim(cache))
        fail("the bitmap of repair is taken");
    lr_repair(&view);
    lr_stripe_unlock(&view);
    if (lr_check(cache, &check) != 0) {
        fprintf(stderr, "larder-corrupt: after repair: %s\n", check.first[0]);
        fail("repair has not mended it");
    }
    v->repaired++;
}

/* Writes part of the segment to its place in a file of `size` bytes. */
static bool write_part(const struct victim *v, int fd, uint64_t size, const void *bytes, uint64_t len) {
    uint64_t at = (uint64_t)((const uint8_t *)bytes - v->cache->base);
    if (at >= size)
        return true;
    return pwrite(fd, bytes, len < size - at ? len : size - at, (off_t)at) > 0;
}

/* The same bytes as a file, its head damaged too. */
static bool attach_copy(struct victim *v) {
    const uint64_t bytes = v->cache->geometry.segment_bytes;
    struct lr_options options = lr_options_default();
    struct lr_cache *copy = NULL;
    struct lr_check check;
    char why[LR_WHY_BYTES];
    uint8_t head[SM_HEADER_BYTES];
    int fd = open(v->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    memcpy(head, v->cache->base, sizeof head);
    if (below(&v->random, 2) == 0)
        for (uint64_t n = 1 + below(&v->random, 3); n > 0; n--)
            head[below(&v->random, 264)] = (uint8_t)next(&v->random);
    uint64_t size = below(&v->random, 4) == 0 ? below(&v->random, bytes + 4096) : bytes;
    bool written = ftruncate(fd, 0) == 0 && ftruncate(fd, (off_t)size) == 0 &&
                   pwrite(fd, head, size < sizeof head ? size : sizeof head, 0) >= 0;
    written = written && write_part(v, fd, size, v->cache->participants, SLOTS_USED * sizeof(struct sm_participant)) &&
              write_part(v, fd, size, v->cache->controls, v->cache->geometry.control_bytes) &&
              write_part(v, fd, size, v->cache->data, v->cache->geometry.stripe_bytes);
    close(fd);
    options.path = v->file;
    bool attached = false;
    if (written && lr_cache_attach_image(v->file, &copy, why) == 0) {
        lr_check(copy, &check);
        lr_cache_detach(copy);
        attached = true;
    }
    if (written && lr_cache_attach(&options, &copy, why) == 0) {
        fail("a copy without its liveness file was attached for writing");
    }
    return attached;
}

/* ---- images ----------------------------------------------------------------------------------------------------- */

static void run_image(struct victim *v, uint64_t seed, uint64_t image, struct progress *progress) {
    v->random.state = seed ^ (image * UINT64_C(0xd1342543de82ef95));
    atomic_store_explicit(&progress->image, image, memory_order_relaxed);
    const bool waits = below(&v->random, WAITS_IN) == 0;
    v->cache->wait_ms = waits ? 1 : 0;
    restore(v);
    damage(v);
    const uint64_t most = below(&v->random, CHAINS_IN) == 0 ? CHAIN : 3;
    for (uint64_t n = 1 + below(&v->random, most); n > 0; n--)
        call_once(v);
    if (memcmp(v->cache->base, v->pristine, sizeof(struct sm_constants)) != 0)
        fail("the constants have changed");
    if (below(&v->random, REPAIRS_IN) == 0)
        take_over(v, waits);
    if (below(&v->random, COPIES_IN) == 0 && attach_copy(v))
        progress->attached++;
    atomic_store_explicit(&progress->done, progress->done + 1, memory_order_relaxed);
}

static int work(uint64_t seed, unsigned job, unsigned jobs, uint64_t count, uint64_t seconds,
                struct progress *progress) {
    struct victim v;
    time_t until = time(NULL) + (time_t)seconds;
    begin(&v, UINT64_C(0x6c617264) + job % 2, job);
    for (uint64_t image = job; image < count && (image % 256 >= jobs || seconds == 0 || time(NULL) < until);
         image += jobs) {
        if (image / jobs % 1024 == 0)
            alarm(LONGEST_S);
        run_image(&v, seed, image, progress);
    }
    progress->unhealthy = v.unhealthy;
    progress->looked_at = v.looked_at;
    progress->repaired = v.repaired;
    restore(&v);
    end(&v);
    return 0;
}

static void usage(FILE *to) {
    fputs("usage: larder-corrupt [--count N] [--seconds S] [--seed 0x...] [--jobs N] [--image N]\n"
          "Damages segments and runs every call on them, under AddressSanitizer and UndefinedBehaviorSanitizer.\n"
          "  --count N     images (default 1500000)\n"
          "  --seconds S   stop after S seconds instead\n"
          "  --seed 0x...  repeats a run\n"
          "  --jobs N      processes, an even number: odd ones replicate (default: cores)\n"
          "  --image N     this one image alone, with the seed and the number of jobs of the run that failed\n",
          to);
}

struct request {
    uint64_t count, seconds, seed, image, jobs;
};

static bool parse(int argc, char **argv, struct request *out) {
    const struct {
        const char *name;
        uint64_t *value;
    } rows[] = {{"--count", &out->count},
                {"--seconds", &out->seconds},
                {"--seed", &out->seed},
                {"--jobs", &out->jobs},
                {"--image", &out->image}};
    for (int i = 1; i < argc; i++) {
        size_t row = 0;
        char *stop = NULL;
        while (row < COUNT(rows) && strcmp(rows[row].name, argv[i]) != 0)
            row++;
        if (row == COUNT(rows) || i + 1 == argc)
            return false;
        *rows[row].value = strtoull(argv[++i], &stop, 0);
        if (stop == argv[i] || *stop != 0)
            return false;
    }
    return out->jobs >= 1 && out->jobs <= MAX_JOBS;
}

int main(int argc, char **argv) {
    struct request request = {.count = 1500000, .image = UINT64_MAX, .jobs = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN)};
    if (getrandom(&request.seed, sizeof request.seed, 0) != (ssize_t)sizeof request.seed)
        request.seed = (uint64_t)time(NULL);
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return usage(stdout), 0;
    if (!parse(argc, argv, &request))
        return usage(stderr), 2;
    if (request.seconds != 0)
        request.count = UINT64_MAX;
    struct progress *progress =
        mmap(NULL, sizeof *progress * MAX_JOBS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (progress == MAP_FAILED)
        return 77;
    if (request.image != UINT64_MAX) {
        struct victim v;
        unsigned job = (unsigned)(request.image % request.jobs);
        begin(&v, UINT64_C(0x6c617264) + job % 2, job);
        run_image(&v, request.seed, request.image, progress);
        restore(&v);
        end(&v);
        return 0;
    }
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    fprintf(stderr, "larder-corrupt: seed 0x%" PRIx64 ", %" PRIu64 " jobs\n", request.seed, request.jobs);
    pid_t children[MAX_JOBS];
    for (unsigned job = 0; job < request.jobs; job++) {
        fflush(NULL);
        children[job] = fork();
        if (children[job] == 0)
            exit(work(request.seed, job, (unsigned)request.jobs, request.count, request.seconds, &progress[job]));
    }
    uint64_t done = 0, unhealthy = 0, looked_at = 0, repaired = 0, attached = 0;
    unsigned failures = 0, skipped = 0;
    for (unsigned job = 0; job < request.jobs; job++) {
        int status = 0;
        waitpid(children[job], &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
            skipped++;
        else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            failures++;
            printf("image %" PRIu64 " %s; replay: larder-corrupt --seed 0x%" PRIx64 " --jobs %" PRIu64
                   " --image %" PRIu64 "\n",
                   progress[job].image,
                   WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "does not come to an end" : "broke it",
                   request.seed, request.jobs, progress[job].image);
        }
        done += progress[job].done;
        unhealthy += progress[job].unhealthy;
        looked_at += progress[job].looked_at;
        repaired += progress[job].repaired;
        attached += progress[job].attached;
    }
    if (skipped > 0) {
        puts("SKIPPED: no segment can be made here");
        return 77;
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    double seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    printf("%" PRIu64 " images: %" PRIu64 " repaired and healthy; of %" PRIu64 " checked before, %" PRIu64
           " were found damaged; %" PRIu64 " copies attached\n",
           done, repaired, looked_at, unhealthy, attached);
    if (failures == 0 && looked_at > 1000 && unhealthy < looked_at / 8) {
        puts("check hardly ever saw the damage: this run proves nothing");
        failures++;
    }
    printf("GOAL G6 count=%" PRIu64 " unit=images failures=%u seconds=%.1f seed=0x%" PRIx64 "\n", done, failures,
           seconds, request.seed);
    return failures == 0 ? 0 : 1;
}
