/* SPDX-License-Identifier: MIT */
/*
 * Sizes that shift: small items, then large ones, then small again. Is anything wasted for long, lost, or wrong?
 *
 * A model knows what each key was given last, so that every hit is compared byte for byte; where things are evicted a
 * miss is allowed and a wrong value is not. Behind each phase the bytes of keys and values are held against those of a
 * fresh segment that never had anything else. How long a put takes is counted in buckets added and taken away, not in
 * time.
 */
#include "fixture.h"
#include "stripe.h"

#include <pthread.h>
#include <string.h>

#define KIB UINT64_C(1024)
#define STRIPE (UINT64_C(4) << 20)
#define KEYS 400000u
#define POOL (UINT64_C(4) << 20)
#define MOST_MERGES 64u /* of one put */
#define MOST_SPLITS 66u

/* ---- the model -------------------------------------------------------------------------------------------------- */

struct world {
    struct fixture fixture;
    struct fixture_random random;
    uint8_t *pool, *got;
    uint32_t *length; /* of what the key was given last, plus one; 0: nothing, or deleted */
    uint32_t *start;  /* where that begins in the pool */
    size_t largest;
    uint64_t hits, wrong, refused;
    uint64_t most_merges, most_splits;
};

static void begin(struct world *w, enum lr_policy policy, uint64_t size, unsigned stripes) {
    struct lr_options options = lr_options_default();
    const struct fixture_random random = w->random;
    uint8_t *pool = w->pool;
    *w = (struct world){.random = random, .pool = pool};
    options.size = size;
    options.stripes = stripes;
    options.policy = policy;
    fixture_create_with(&w->fixture, &options);
    w->largest = lr_max_value(w->fixture.one, 8);
    w->got = malloc(w->largest);
    w->length = calloc(KEYS, sizeof *w->length);
    w->start = calloc(KEYS, sizeof *w->start);
    CU_ASSERT_FATAL(w->got != NULL && w->length != NULL && w->start != NULL);
}

static void end(struct world *w) {
    CU_ASSERT_EQUAL(w->wrong, 0);
    CU_ASSERT_EQUAL(w->refused, 0);
    CU_ASSERT(w->most_merges <= MOST_MERGES && w->most_splits <= MOST_SPLITS);
    fixture_destroy(&w->fixture);
    free(w->got);
    free(w->length);
    free(w->start);
}

static uint8_t *make_pool(struct fixture_random *random) {
    uint8_t *pool = malloc(POOL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(pool);
    for (size_t i = 0; i < POOL; i += 8) {
        const uint64_t word = fixture_next(random);
        memcpy(pool + i, &word, 8);
    }
    return pool;
}

static uint64_t counter(const struct world *w, enum lr_stripe_counter which) {
    return lr_load(&lr_stripe_at(w->fixture.one, 0)->counters[which]);
}

static void put(struct world *w, uint32_t key, size_t len) {
    const uint32_t start = (uint32_t)fixture_below(&w->random, POOL - len);
    const uint64_t name = key, merges = counter(w, LR_S_merges), splits = counter(w, LR_S_splits);
    struct lr_put p = {.key = &name, .key_len = 8, .value = w->pool + start, .value_len = len};
    w->refused += lr_put(w->fixture.one, &p) != 0;
    const uint64_t merged = counter(w, LR_S_merges) - merges, split = counter(w, LR_S_splits) - splits;
    w->most_merges = merged > w->most_merges ? merged : w->most_merges;
    w->most_splits = split > w->most_splits ? split : w->most_splits;
    w->length[key] = (uint32_t)len + 1;
    w->start[key] = start;
}

static void forget(struct world *w, uint32_t key) {
    const uint64_t name = key;
    lr_delete(w->fixture.two, &name, 8);
    w->length[key] = 0;
}

static void look(struct world *w, uint32_t key, unsigned flags) {
    const uint64_t name = key;
    struct lr_item item;
    if (lr_get(w->fixture.two, &name, 8, w->got, w->largest, &item, flags) != 0)
        return;
    w->hits++;
    w->wrong += w->length[key] != item.value_len + 1 || memcmp(w->got, w->pool + w->start[key], item.value_len) != 0;
}

/* ---- phases -------------------------------------------------------------------------------------------------------
 */

/* Values of `len` bytes, or of one or the other: one in `rare` is `other`. Of 100 puts so many are followed by a
 * delete.
 */
struct phase {
    size_t len, other;
    unsigned rare, deletes;
};

/* The mean share of payload in the last quarter of twice the segment's bytes. */
static double play(struct world *w, const struct phase *phase, uint32_t *next) {
    double sum = 0;
    unsigned samples = 0;
    for (uint64_t done = 0, sampled = 0; done < 2 * STRIPE;) {
        const bool other = phase->rare != 0 && fixture_below(&w->random, phase->rare) == 0;
        const size_t len = other ? phase->other : phase->len;
        const uint32_t key = (*next)++ % KEYS;
        put(w, key, len);
        done += len + 40;
        if (fixture_below(&w->random, 100) < phase->deletes)
            forget(w, (key + KEYS - (uint32_t)fixture_below(&w->random, 200)) % KEYS);
        if (fixture_below(&w->random, 4) == 0)
            look(w, (key + KEYS - (uint32_t)fixture_below(&w->random, 20000)) % KEYS, LR_PEEK);
        if (done < 3 * STRIPE / 2 || done - sampled < STRIPE / 32)
            continue;
        struct lr_stat stat;
        lr_stat(w->fixture.one, &stat);
        sum += (double)stat.payload_bytes / (double)stat.cache_bytes;
        samples++;
        sampled = done;
    }
    return samples == 0 ? 0 : sum / samples;
}

/* Whatever came before: every admissible size finds room. */
static void put_all_sizes(struct world *w) {
    put(w, 1, w->largest);
    look(w, 1, LR_PEEK);
    for (size_t len = w->largest; len > 0; len = len * 2 / 3) {
        put(w, 2, len);
        look(w, 2, LR_PEEK);
    }
}

static const struct phase phases[] = {{64, 0, 0, 0},     {65536, 0, 0, 0},  {64, 0, 0, 0},      {64, 65536, 50, 0},
                                      {1024, 0, 0, 0},   {8, 0, 0, 0},      {64, 0, 0, 30},     {200, 0, 0, 0},
                                      {16384, 0, 0, 50}, {40, 4096, 10, 0}, {65536, 64, 2, 90}, {100, 0, 0, 0}};
#define PHASES (sizeof phases / sizeof phases[0])

/* Of a fresh segment's payload; what is usual is above 0.95. Policy s3 keeps what it has until half of the segment's
 * bytes have gone by, and what deletes leave in main until its hand comes: where nearly all is deleted again, for long.
 */
static double least_share(enum lr_policy policy, const struct phase *phase) {
    if (policy != LR_POLICY_s3)
        return phase->deletes > 80 ? 0.91 : 0.93;
    return phase->deletes > 80 ? 0.5 : phase->deletes != 0 ? 0.78 : 0.91;
}

static void shift_through(enum lr_policy policy, struct fixture_random random, uint8_t *pool) {
    struct world w = {.random = random, .pool = pool};
    double fresh[PHASES] = {0};
    uint32_t next = 0;
    for (unsigned i = 0; i < (FIXTURE_SANITIZED ? 0 : PHASES); i++) { /* how much it is, other builds see */
        begin(&w, policy, STRIPE, 1);
        fresh[i] = play(&w, &phases[i], &next);
        end(&w);
    }
    begin(&w, policy, STRIPE, 1);
    for (unsigned i = 0; i < PHASES; i++) {
        const double share = play(&w, &phases[i], &next);
        const double least = fresh[i] * least_share(policy, &phases[i]);
        if (share < least)
            printf("\n    phase %u, %zu bytes: %.4f of the segment is payload, of a fresh one %.4f\n", i, phases[i].len,
                   share, fresh[i]);
        CU_ASSERT(share >= least);
        fixture_check(w.fixture.one);
        put_all_sizes(&w);
        fixture_check(w.fixture.one);
    }
    CU_ASSERT(w.hits > 10000 && counter(&w, LR_S_merges) > (policy == LR_POLICY_s3 ? 0u : 5000u));
    end(&w);
}

static void a_segment_is_as_full_as_a_fresh_one_whatever_sizes_came_before(void) {
    struct fixture_random random = fixture_seed("shifting sizes");
    uint8_t *pool = make_pool(&random);
    if (!FIXTURE_SANITIZED) /* the same code goes through the same, and it takes long */
        shift_through(LR_POLICY_clock, random, pool);
    shift_through(LR_POLICY_s3, random, pool);
    free(pool);
}

/* Small items go by deletes: all of them, every other one, or those that came first; then come large ones. */
static void what_deletes_leave_of_the_index_is_given_back(void) {
    static const enum lr_policy policies[] = {LR_POLICY_s3, LR_POLICY_none, LR_POLICY_ttl};
    struct fixture_random random = fixture_seed("deletes");
    struct world w = {.random = random, .pool = make_pool(&random)};
    for (unsigned i = 0; i < 9; i++) {
        const unsigned pattern = i % 3;
        const uint32_t count = 32000, left = pattern == 0 ? 0 : count / 8;
        const bool lossless = policies[i / 3] == LR_POLICY_none;
        begin(&w, policies[i / 3], STRIPE, 1);
        const struct lr_geometry *geometry = &w.fixture.one->geometry;
        for (uint32_t key = 0; key < count; key++)
            put(&w, key, 64);
        const uint64_t grown = lr_load(&lr_stripe_at(w.fixture.one, 0)->border_off);
        for (uint32_t key = 0; key < count; key++)
            if (pattern == 0 || (pattern == 1 ? key % 8 != 0 : key < count / 8 * 7))
                forget(&w, key);
        for (uint32_t key = KEYS - 100; key < KEYS; key++)
            put(&w, key, 16 * KIB);
        const uint64_t border = lr_load(&lr_stripe_at(w.fixture.one, 0)->border_off);
        CU_ASSERT(grown > 2 * geometry->kept_bytes && border <= geometry->kept_bytes + geometry->kept_bytes / 4);
        for (uint32_t key = 0; key < count; key++)
            look(&w, key, 0);
        CU_ASSERT(lossless ? w.hits == left : w.hits <= left);
        for (uint32_t key = KEYS - 100; key < KEYS; key++)
            look(&w, key, 0);
        CU_ASSERT(lossless ? w.hits == left + 100 : w.hits > 50);
        end(&w);
    }
    free(w.pool);
}

/* ---- among others ---------------------------------------------------------------------------------------------------
 */

#define STAY 200u
#define SWING 12000u
#define ROUNDS (FIXTURE_SANITIZED ? 4u : 12u)

struct swing {
    struct lr_cache *cache;
    _Atomic bool over;
    _Atomic uint64_t walks, missed, reads, misses, wrong;
};

/* Their index grows and shrinks all the time, and nothing is evicted. */
static void *swing_index(void *context) {
    struct swing *s = context;
    uint8_t value[24] = {0};
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (uint64_t key = STAY; key < SWING; key++) {
            memcpy(value, &key, 8);
            struct lr_put p = {.key = &key, .key_len = 8, .value = value, .value_len = sizeof value};
            (void)lr_put(s->cache, &p);
        }
        for (uint64_t key = STAY; key < SWING; key++) {
            lr_delete(s->cache, &key, 8);
            if (key % 4 != 0)
                continue;
            const uint64_t other = key % 40;
            memcpy(value, &other, 8);
            struct lr_put p = {.key = &other, .key_len = 8, .value = value, .value_len = sizeof value};
            (void)lr_put(s->cache, &p);
        }
    }
    atomic_store(&s->over, true);
    return NULL;
}

static void *walk_all(void *context) {
    struct swing *s = context;
    uint8_t *buf = malloc(lr_entry_bytes(s->cache));
    while (buf != NULL && !atomic_load(&s->over)) {
        struct lr_scan scan = lr_scan_all(s->cache);
        struct lr_entry entry;
        bool seen[STAY] = {false};
        unsigned count = 0;
        for (int result;
             (result = lr_scan_next(s->cache, &scan, buf, lr_entry_bytes(s->cache), &entry)) != LARDER_ENOT_FOUND;) {
            uint64_t key = UINT64_MAX;
            if (result == 0 && entry.key_len == 8)
                memcpy(&key, entry.key, 8);
            if (result == 0)
                atomic_fetch_add(&s->wrong, key >= SWING || memcmp(&key, entry.value, 8) != 0);
            if (key < STAY && !seen[key])
                count++;
            if (key < STAY)
                seen[key] = true;
        }
        atomic_fetch_add(&s->missed, STAY - count);
        atomic_fetch_add(&s->walks, 1);
    }
    free(buf);
    return NULL;
}

static void *read_all(void *context) {
    struct swing *s = context;
    for (uint64_t n = 0; !atomic_load(&s->over); n++) {
        uint8_t value[24];
        struct lr_pin pin;
        const uint64_t key = n % STAY;
        if (n % 3 == 0 && lr_pin(s->cache, &key, 8, &pin) == 0) {
            atomic_fetch_add(&s->wrong, memcmp(pin.value, &key, 8) != 0);
            lr_unpin(s->cache, &pin);
            continue;
        }
        const int result = lr_get(s->cache, &key, 8, value, sizeof value, NULL, 0);
        atomic_fetch_add(&s->reads, 1);
        atomic_fetch_add(&s->misses, result != 0);
        atomic_fetch_add(&s->wrong, result == 0 && memcmp(value, &key, 8) != 0);
    }
    return NULL;
}

static void walkers_and_readers_miss_nothing_while_the_index_swings(void) {
    struct fixture f = {0};
    struct lr_options options = lr_options_default();
    pthread_t threads[3];
    options.size = STRIPE / 2;
    options.stripes = 1;
    options.policy = LR_POLICY_none;
    fixture_create_with(&f, &options);
    struct swing s = {.cache = f.one};
    for (uint64_t key = 0; key < STAY; key++) {
        uint8_t value[24] = {0};
        memcpy(value, &key, 8);
        struct lr_put p = {.key = &key, .key_len = 8, .value = value, .value_len = sizeof value};
        CU_ASSERT_EQUAL(lr_put(f.one, &p), 0);
    }
    void *(*const bodies[3])(void *) = {swing_index, walk_all, read_all};
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, bodies[i], &s), 0);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CU_ASSERT(lr_load(&lr_stripe_at(f.one, 0)->counters[LR_S_merges]) > 1000u);
    CU_ASSERT(s.walks > 3 && s.reads > 1000);
    CU_ASSERT_EQUAL(s.missed, 0);
    CU_ASSERT_EQUAL(s.misses, 0);
    CU_ASSERT_EQUAL(s.wrong, 0);
    fixture_destroy(&f);
}

void larder_suite_43_shifting(void) {
    CU_pSuite suite = CU_add_suite("43_shifting", NULL, NULL);
    CU_ADD_TEST(suite, a_segment_is_as_full_as_a_fresh_one_whatever_sizes_came_before);
    CU_ADD_TEST(suite, what_deletes_leave_of_the_index_is_given_back);
    CU_ADD_TEST(suite, walkers_and_readers_miss_nothing_while_the_index_swings);
}
