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
 * Most images do not wait for a lock whose word was damaged, nor for `check` to give up on it: sleeping for that would
 * take most of the time.
 */
#include "damage.h"
#include "harness.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))
#define LONGEST_S 20u
#define MAX_JOBS 64u
#define WAITS_IN 128u /* one image in so many waits for locks, and lets check wait for them */
#define REPAIRS_IN 8u
#define LOOKS_IN 4u /* ... and of those one in so many is checked before as well */
#define COPIES_IN 512u
#define CHAINS_IN                                                                                                      \
    16u /* one image in so many gets up to CHAIN calls: what one call makes of the damage meets the next */
#define CHAIN 12u

struct subject {
    struct victim victim;
    uint8_t *buf;
    size_t cap;
    char file[64];      /* copies of the segment for lr_cache_attach_image */
    uint64_t unhealthy; /* images in which check found something before repair */
    uint64_t looked_at; /* before repair */
    uint64_t repaired;
};

/* Shared with the parent: what each worker is at. */
struct progress {
    _Atomic uint64_t image;
    _Atomic uint64_t done, unhealthy, looked_at, repaired, attached;
};

static void begin(struct subject *s, uint64_t seed, unsigned job) {
    char why[LR_WHY_BYTES];
    memset(s, 0, sizeof *s);
    if (damage_begin(&s->victim, seed, job, why) != 0) {
        fprintf(stderr, "larder-corrupt: %s\n", why);
        exit(77);
    }
    s->cap = lr_entry_bytes(s->victim.cache);
    s->buf = calloc(1, s->cap);
    snprintf(s->file, sizeof s->file, "/dev/shm/larder.t.%ld.image", (long)getpid());
}

static void end(struct subject *s) {
    damage_restore(&s->victim);
    damage_end(&s->victim);
    (void)unlink(s->file);
    free(s->buf);
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

static void inside(const struct subject *s, const struct lr_pin *pin) {
    const uint8_t *from = pin->value, *base = s->victim.cache->base;
    if (from < base || from + pin->item.value_len > base + s->victim.cache->geometry.segment_bytes)
        damage_fail("a pin leads out of the segment");
}

static void look_around(struct subject *s) {
    struct lr_cache *cache = s->victim.cache;
    struct lr_entry entry;
    struct lr_digest digest;
    struct lr_stat stat;
    struct lr_stripe_info info;
    struct lr_process process;
    struct lr_hint hints[8];
    struct lr_range range;
    uint64_t position = damage_below(&s->victim.random, 2000);
    switch (damage_below(&s->victim.random, 6)) {
    case 0: {
        struct lr_scan scan = lr_scan_all(cache);
        for (unsigned i = 0; i < 40; i++)
            if (lr_scan_next(cache, &scan, s->buf, s->cap, &entry) == LARDER_ENOT_FOUND)
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
        lr_process(cache, (uint32_t)damage_below(&s->victim.random, DAMAGE_SLOTS), &process);
        lr_reap(cache);
        break;
    case 4:
        lr_feed_read(cache, 0, &position, hints, 8);
        lr_range_get(cache, (unsigned)damage_below(&s->victim.random, SM_RANGES), &range);
        lr_feed_take_rescan(cache, 0);
        break;
    default:
        lr_sweep(cache, 0, 16, damage_below(&s->victim.random, 2));
    }
}

static void call_once(struct subject *s) {
    struct lr_cache *cache = s->victim.cache;
    struct damage_random *random = &s->victim.random;
    uint64_t key = damage_below(random, DAMAGE_KEYS + 20);
    struct lr_item item;
    struct lr_pin pin;
    struct lr_entry entry;
    int64_t number;
    switch (damage_below(random, 14)) {
    case 0:
        lr_get(cache, &key, 8, s->buf, s->cap, &item, 0);
        break;
    case 1:
        if (lr_pin(cache, &key, 8, &pin) == 0) {
            inside(s, &pin);
            lr_unpin(cache, &pin);
        }
        break;
    case 2: {
        struct lr_read rows[3] = {{.key = &key, .key_len = 8, .buf = s->buf, .cap = s->cap},
                                  {.key = &key, .key_len = 7, .buf = s->buf, .cap = 10},
                                  {.key = &key, .key_len = 0}};
        lr_get_many(cache, rows, 3, 0);
        break;
    }
    case 3:
    case 4:
    case 5: {
        struct lr_put put = {.key = &key,
                             .key_len = 8,
                             .value = s->buf,
                             .value_len = damage_below(random, damage_below(random, 8) ? 300 : 20000),
                             .ttl_ms = damage_below(random, 3),
                             .mode = (enum lr_put_mode)damage_below(random, 4)};
        lr_put(cache, &put);
        break;
    }
    case 6:
        lr_delete(cache, &key, 8);
        break;
    case 7:
        lr_touch(cache, &key, 8, 1 + damage_below(random, 200000));
        break;
    case 8:
        lr_increment(cache, &key, 8, 1, 1, 0, &number);
        break;
    case 9:
    case 10: {
        struct lr_change change = {.key = &key,
                                   .key_len = 8,
                                   .value = s->buf,
                                   .value_len = 100,
                                   .version = damage_next(random) >> 1,
                                   .deadline_ms = UINT64_MAX};
        lr_apply_put(cache, &change, (unsigned)damage_below(random, 2));
        break;
    }
    case 11:
        lr_apply_tombstone(cache, lr_cluster_hash(&key, 8), damage_next(random) >> 1, 0);
        lr_entry_by_hash(cache, lr_cluster_hash(&key, 8), s->buf, s->cap, &entry);
        break;
    default:
        look_around(s);
    }
}

/* As after the death of a holder: the lock is taken over and the stripe repaired, then it is healthy. */
static void take_over(struct subject *s, bool waits) {
    struct lr_cache *cache = s->victim.cache;
    struct lr_view view = lr_view_of(cache, 0);
    struct lr_check check;
    if (damage_below(&s->victim.random, LOOKS_IN) == 0) {
        bool busy = (lr_load(&view.stripe->lock) & SM_LOCK_OWNER_MASK) != 0 || lr_load(&view.stripe->sequence) % 2 != 0;
        s->unhealthy += (busy && !waits) || lr_check(cache, &check) != 0;
        s->looked_at++;
    }
    lr_store(&view.stripe->lock, lr_own_word(cache) | SM_LOCK_RECOVER);
    if (!lr_repair_claim(cache))
        damage_fail("the bitmap of repair is taken");
    lr_repair(&view);
    lr_stripe_unlock(&view);
    if (lr_check(cache, &check) != 0) {
        fprintf(stderr, "larder-corrupt: after repair: %s\n", check.first[0]);
        damage_fail("repair has not mended it");
    }
    s->repaired++;
}

/* Writes part of the segment to its place in a file of `size` bytes. */
static bool write_part(const struct subject *s, int fd, uint64_t size, const void *bytes, uint64_t len) {
    uint64_t at = (uint64_t)((const uint8_t *)bytes - s->victim.cache->base);
    if (at >= size)
        return true;
    return pwrite(fd, bytes, len < size - at ? len : size - at, (off_t)at) > 0;
}

/* The same bytes as a file, its head damaged too. */
static bool attach_copy(struct subject *s) {
    const uint64_t bytes = s->victim.cache->geometry.segment_bytes;
    struct lr_options options = lr_options_default();
    struct lr_cache *copy = NULL;
    struct lr_check check;
    char why[LR_WHY_BYTES];
    uint8_t head[SM_HEADER_BYTES];
    int fd = open(s->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    memcpy(head, s->victim.cache->base, sizeof head);
    if (damage_below(&s->victim.random, 2) == 0)
        for (uint64_t n = 1 + damage_below(&s->victim.random, 3); n > 0; n--)
            head[damage_below(&s->victim.random, 264)] = (uint8_t)damage_next(&s->victim.random);
    uint64_t size = damage_below(&s->victim.random, 4) == 0 ? damage_below(&s->victim.random, bytes + 4096) : bytes;
    bool written = ftruncate(fd, 0) == 0 && ftruncate(fd, (off_t)size) == 0 &&
                   pwrite(fd, head, size < sizeof head ? size : sizeof head, 0) >= 0;
    written = written &&
              write_part(s, fd, size, s->victim.cache->participants, DAMAGE_SLOTS * sizeof(struct sm_participant)) &&
              write_part(s, fd, size, s->victim.cache->controls, s->victim.cache->geometry.control_bytes) &&
              write_part(s, fd, size, s->victim.cache->data, s->victim.cache->geometry.stripe_bytes);
    close(fd);
    options.path = s->file;
    bool attached = false;
    if (written && lr_cache_attach_image(s->file, &copy, why) == 0) {
        lr_check(copy, &check);
        lr_cache_detach(copy);
        attached = true;
    }
    if (written && lr_cache_attach(&options, &copy, why) == 0) {
        damage_fail("a copy without its liveness file was attached for writing");
    }
    return attached;
}

/* ---- images ----------------------------------------------------------------------------------------------------- */

static void run_image(struct subject *s, uint64_t seed, uint64_t image, struct progress *progress) {
    s->victim.random.state = seed ^ (image * UINT64_C(0xd1342543de82ef95));
    atomic_store_explicit(&progress->image, image, memory_order_relaxed);
    const bool waits = damage_below(&s->victim.random, WAITS_IN) == 0;
    s->victim.cache->wait_ms = waits ? 1 : 0;
    damage_restore(&s->victim);
    damage_do(&s->victim);
    const uint64_t most = damage_below(&s->victim.random, CHAINS_IN) == 0 ? CHAIN : 3;
    for (uint64_t n = 1 + damage_below(&s->victim.random, most); n > 0; n--)
        call_once(s);
    if (memcmp(s->victim.cache->base, s->victim.pristine, sizeof(struct sm_constants)) != 0)
        damage_fail("the constants have changed");
    if (damage_below(&s->victim.random, REPAIRS_IN) == 0)
        take_over(s, waits);
    if (damage_below(&s->victim.random, COPIES_IN) == 0 && attach_copy(s))
        progress->attached++;
    atomic_store_explicit(&progress->done, progress->done + 1, memory_order_relaxed);
}

static int work(uint64_t seed, unsigned job, unsigned jobs, uint64_t count, uint64_t seconds,
                struct progress *progress) {
    struct subject s;
    time_t until = time(NULL) + (time_t)seconds;
    begin(&s, UINT64_C(0x6c617264) + job % 2, job);
    for (uint64_t image = job; image < count && (image % 256 >= jobs || seconds == 0 || time(NULL) < until);
         image += jobs) {
        if (image / jobs % 1024 == 0)
            alarm(LONGEST_S);
        run_image(&s, seed, image, progress);
    }
    progress->unhealthy = s.unhealthy;
    progress->looked_at = s.looked_at;
    progress->repaired = s.repaired;
    end(&s);
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

int main(int argc, char **argv) {
    (void)argc;
    struct {
        uint64_t count, seconds, seed, image, jobs;
    } request = {.count = 1500000, .seed = harness_seed(), .image = UINT64_MAX, .jobs = harness_cores()};
    bool help = false;
    const struct harness_option options[] = {
        {.name = "count", .number = &request.count},
        {.name = "seconds", .number = &request.seconds},
        {.name = "seed", .number = &request.seed},
        {.name = "jobs", .number = &request.jobs},
        {.name = "image", .number = &request.image},
        {.name = "help", .flag = &help},
        {.name = NULL},
    };
    if (!harness_parse(argv, options) || request.jobs == 0 || request.jobs > MAX_JOBS)
        return usage(stderr), 2;
    if (help)
        return usage(stdout), 0;
    if (request.seconds != 0)
        request.count = UINT64_MAX;
    struct progress *progress =
        mmap(NULL, sizeof *progress * MAX_JOBS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (progress == MAP_FAILED)
        return 77;
    if (request.image != UINT64_MAX) {
        struct subject s;
        unsigned job = (unsigned)(request.image % request.jobs);
        begin(&s, UINT64_C(0x6c617264) + job % 2, job);
        run_image(&s, request.seed, request.image, progress);
        end(&s);
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
