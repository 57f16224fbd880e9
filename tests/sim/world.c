/* SPDX-License-Identifier: MIT */
/*
 * The segment, and the states that schedules start from.
 *
 * There is one segment of the smallest size: 64 KiB of cache in one stripe, in ordinary memory, which all simulated
 * processes share at one address. Each state ("world") is built once, by calls of the core itself, and kept as an image
 * of those parts that anything ever touches. In each world four keys matter; what is special about them:
 *
 *   roomy    plenty of room: a miss must be explained
 *   full     the keys are what the hand meets next, hot and cold, with evictable blocks between them
 *   cold     the same, but all of them are cold
 *   hot      the same, but everything is hot: the hand goes round twice
 *   split    the next put makes a bucket, and the keys' words move there
 *   border   the next put raises the border first: the keys' blocks move too
 *   up       key 0 is absent, both its buckets are full, and key 1 or 3 is what must make way, to a later bucket
 *   down     the same, but they can only move to buckets that walks visit earlier
 *   chain    the same, and where key 1 would go is full too: key 3 must make way first
 *   ttl      the keys end after 1 to 4 ms, or never
 *   merge    the next put takes a bucket away, where keys 0 to 2 stand; with ghosts: policy s3
 *   probation  policy s3, and both regions are full: the keys are what probation's hand meets next, some to be promoted
 */
#include "sim.h"

#include "segment.h"
#include "stripe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS 1u
#define TABLES (SM_HEADER_BYTES + (SIM_HANDLES + 2) * sizeof(struct sm_participant))
#define CONTROL (SM_STRIPE_FIXED + 512 * sizeof(struct sm_hint))
#define DATA SM_MIN_STRIPE
#define FILLERS 600u
#define VOIDS 4096u
#define BUCKETS 64u /* of a new stripe of this size */
#define SCRATCH (DATA / SM_GRANULE / 8)

struct image {
    uint32_t policy;
    uint8_t tables[TABLES], voids[VOIDS], control[CONTROL], data[DATA];
    struct sim_place place;
};

struct lr_cache sim_handles[SIM_HANDLES + 1];
static struct lr_private privates[SIM_HANDLES + 1];
static uint64_t scratches[SIM_HANDLES + 1][SCRATCH / 8];
static struct image *images;
static struct lr_geometry geometry;
static struct sim_place place; /* of the world being built */

struct joined {
    uint32_t slot;
    uint64_t generation;
    struct sm_participant *me;
    int probe_fd;
    void *live_page;
};
static struct joined joined[SIM_HANDLES + 1];

static void give_up(const char *what, int error) {
    fprintf(stderr, "larder-sim: a world cannot be built: %s: %s\n", what, lr_error_name(error));
    exit(1);
}

/* ---- handles ---------------------------------------------------------------------------------------------------- */

static void make_handle(unsigned number) {
    struct lr_cache *cache = &sim_handles[number];
    memset(cache, 0, sizeof *cache);
    cache->base = sim_segment;
    cache->geometry = geometry;
    cache->header = (struct sm_header *)(void *)sim_segment;
    cache->participants = (struct sm_participant *)(void *)(sim_segment + SM_HEADER_BYTES);
    cache->controls = sim_segment + geometry.control_off;
    cache->data = sim_segment + geometry.data_off;
    cache->wait_ms = WAIT_MS;
    cache->live_state = SM_LIVE;
    cache->live_fd = -1;
    cache->self = &privates[number];
    cache->scratch = scratches[number];
    cache->probe_fd = -1;
    cache->slot = UINT32_MAX;
    cache->me = &cache->dummy;
    cache->live_dev = cache->live_ino = 1;
    strcpy(cache->path, "/simulated");
    strcpy(cache->who, "simulated");
}

void sim_world_reset_handles(bool dirty_scratch) {
    for (unsigned i = 0; i < SIM_HANDLES; i++) {
        struct lr_cache *cache = &sim_handles[i];
        cache->slot = joined[i].slot;
        cache->generation = joined[i].generation;
        cache->me = joined[i].me;
        cache->probe_fd = joined[i].probe_fd;
        cache->live_page = joined[i].live_page;
        cache->wait_ms = WAIT_MS; /* a script may have died that had changed it */
        privates[i] = (struct lr_private){.joined = 1};
        if (dirty_scratch)
            memset(scratches[i], 0, SCRATCH);
    }
}

/* ---- calls that must succeed ------------------------------------------------------------------------------------ */

static struct lr_cache *self(void) {
    return &sim_handles[SIM_DOCTOR];
}

static uint64_t store(const void *key, size_t key_len, const void *value, size_t len, uint64_t ttl_ms) {
    struct lr_put put = {.key = key, .key_len = key_len, .value = value, .value_len = len, .ttl_ms = ttl_ms};
    int error = lr_put(self(), &put);
    if (error != 0)
        give_up("put", error);
    return put.version;
}

static void store_key(unsigned number, size_t len, uint64_t ttl_ms) {
    struct sim_key *key = &place.keys[number];
    uint8_t value[SIM_VALUE_MAX];
    sim_value_fill(value, len, number, number + 1);
    key->deadline_ms = ttl_ms == 0 ? UINT64_MAX : lr_now_ms(self()) + ttl_ms;
    key->version = store(key->text, key->len, value, len, ttl_ms);
    key->incarnation = (uint32_t)lr_load(&lr_stripe_at(self(), 0)->incarnation);
    key->value_len = len;
    key->present = true;
}

static void heat(unsigned number, unsigned times) {
    uint8_t value[SIM_VALUE_MAX];
    struct sim_key *key = &place.keys[number];
    while (times-- > 0)
        lr_get(self(), key->text, key->len, value, sizeof value, NULL, 0);
}

static void store_filler(unsigned number, size_t len) {
    char key[16];
    uint8_t value[SIM_VALUE_MAX] = {0};
    int key_len = snprintf(key, sizeof key, "f%u", number);
    store(key, (size_t)key_len, value, len, 0);
}

static void name_key(unsigned number, unsigned suffix) {
    struct sim_key *key = &place.keys[number];
    key->len = (size_t)snprintf(key->text, sizeof key->text, "key%u.%u", number, suffix);
    key->hash = lr_cluster_hash(key->text, key->len);
}

/* Buckets of the key when there are `buckets`. */
static void buckets_of_key(const struct sim_key *key, uint32_t buckets, uint32_t out[2]) {
    uint32_t placing = lr_placing(lr_place(self(), key->hash));
    out[0] = lr_bucket_of(placing, buckets);
    out[1] = lr_bucket_of(lr_second(placing), buckets);
}

/* ---- worlds ----------------------------------------------------------------------------------------------------- */

static void build_roomy(void) {
    for (unsigned i = 0; i < 12; i++) {
        if (i % 3 == 0)
            store_key(i / 3, 40 + 24 * (i / 3), 0);
        store_filler(i, 40 + 8 * (i % 5));
    }
    for (unsigned i = 0; i < 12; i += 4) { /* holes */
        char key[16];
        int len = snprintf(key, sizeof key, "f%u", i);
        lr_delete(self(), key, (size_t)len);
    }
}

static void build_cold(void) {
    for (unsigned i = 0; i < SIM_KEYS; i++) {
        store_filler(i, 200);
        store_key(i, 56 + 16 * i, 0);
    }
    struct lr_view view = lr_view_of(self(), 0);
    for (unsigned i = SIM_KEYS; i < FILLERS; i++) {
        struct lr_span gap = lr_gap_of(&view, LR_MAIN);
        if (gap.end - gap.start < 400)
            break;
        store_filler(i, 300);
    }
}

static void build_hot(void) {
    build_cold();
    for (unsigned bucket = 0; bucket < BUCKETS; bucket++) {
        const struct lr_view view = lr_view_of(self(), 0);
        sm_u64 *slots = lr_bucket_at(&view, bucket);
        for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++)
            if ((lr_load(&slots[i]) & SM_SLOT_OFF_MASK) != 0)
                lr_store(&slots[i], (lr_load(&slots[i]) & ~SM_SLOT_RECENCY_MASK) | 3 * SM_SLOT_RECENCY_ONE);
    }
}

static void build_full(void) {
    build_cold();
    heat(0, 2);
    heat(1, 1);
    heat(3, 3);
}

/* Fillers until there are `entries` items. */
static void fill_index(unsigned entries) {
    struct lr_view view = lr_view_of(self(), 0);
    for (unsigned i = 0; i < FILLERS && lr_load(&view.stripe->items) < entries; i++)
        store_filler(i, 0);
}

/* Keys that move from the bucket that is split next, of `buckets`. */
static void find_movers(uint32_t buckets) {
    unsigned suffix = 0;
    for (unsigned i = 0; i < SIM_KEYS; i++) {
        uint32_t before[2], after[2];
        do {
            name_key(i, suffix++);
            buckets_of_key(&place.keys[i], buckets, before);
            buckets_of_key(&place.keys[i], buckets + 1, after);
        } while (i < 3 && (before[0] != lr_split_partner(buckets) || after[0] != buckets));
        store_key(i, 40, 0);
    }
}

static void build_split(void) {
    find_movers(BUCKETS + 2);
    fill_index((BUCKETS + 2) * 7 + 1);
}

static void build_border(void) {
    find_movers(BUCKETS);
    fill_index(BUCKETS * 7 + 1);
}

/* The next name from `suffix` on whose buckets are these two, in either order. */
static unsigned find_name(unsigned number, unsigned suffix, uint32_t one, uint32_t two, struct sim_key *key) {
    for (;; suffix++) {
        uint32_t its[2];
        key->len = (size_t)snprintf(key->text, sizeof key->text, "key%u.%u", number, suffix);
        key->hash = lr_cluster_hash(key->text, key->len);
        buckets_of_key(key, BUCKETS, its);
        if ((its[0] == one && its[1] == two) || (its[0] == two && its[1] == one))
            return suffix;
    }
}

/* Fills `bucket` with words that could also stand in `other`, which is full. The first is key `ours`, if that is one.
 */
static void crowd(uint32_t bucket, uint32_t other, unsigned ours) {
    unsigned suffix = 0;
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++, suffix++) {
        struct sim_key key;
        suffix = find_name(i == 0 ? ours : 9, suffix, bucket, other, &key);
        if (i == 0 && ours < SIM_KEYS) {
            name_key(ours, suffix);
            store_key(ours, 40, 0);
        } else {
            store(key.text, key.len, "", 0, 0);
        }
    }
}

static void empty(uint32_t bucket) {
    unsigned suffix = 0;
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++, suffix++) {
        struct sim_key key;
        suffix = find_name(9, suffix, bucket, bucket, &key);
        lr_delete(self(), key.text, key.len);
    }
}

static void build_crowded(uint32_t one, uint32_t its_other, uint32_t two, uint32_t other) {
    crowd(its_other, its_other, 9);
    crowd(one, its_other, 1);
    empty(its_other);
    crowd(other, other, 9);
    crowd(two, other, 3);
    empty(other);
    name_key(0, find_name(0, 0, one, two, &place.keys[0]));
    name_key(2, 0);
    store_key(2, 40, 0);
}

static void build_up(void) {
    build_crowded(60, 10, 61, 11);
}

static void build_down(void) {
    build_crowded(3, 40, 5, 41);
}

static void build_chain(void) {
    crowd(50, 50, 9);
    crowd(40, 50, 3);
    crowd(3, 40, 1);
    empty(50);
    crowd(51, 51, 9);
    crowd(41, 51, 2);
    crowd(5, 41, 9);
    empty(51);
    name_key(0, find_name(0, 0, 3, 5, &place.keys[0]));
}

/* The bucket where the key stands. */
static uint32_t bucket_of_key(const struct sim_key *key) {
    struct lr_view view = lr_view_of(self(), 0);
    const struct lr_key hashed = lr_key_of(self(), key->text, key->len);
    const struct lr_found found = lr_index_find(&view, &hashed);
    for (uint32_t bucket = 0; found.slot != NULL && bucket < lr_buckets(&view); bucket++)
        if (found.slot >= lr_bucket_at(&view, bucket) && found.slot < lr_bucket_at(&view, bucket) + SM_BUCKET_SLOTS)
            return bucket;
    return UINT32_MAX;
}

/* A name from *suffix on with a bucket `last` of last + 1. */
static void find_name_in(unsigned number, unsigned *suffix, uint32_t last) {
    uint32_t its[2];
    do {
        name_key(number, (*suffix)++);
        buckets_of_key(&place.keys[number], last + 1, its);
    } while (its[0] != last && its[1] != last);
}

/* The last bucket is one too many for what there is, and the keys stand there. */
static void build_merge(void) {
    const uint32_t last = BUCKETS + 3;
    struct lr_view view = lr_view_of(self(), 0);
    unsigned filler = 0, suffix = 0;
    char key[16];
    while (lr_buckets(&view) < last + 1)
        store_filler(filler++, 0);
    for (unsigned i = 0; i < SIM_KEYS; i++) {
        do {
            if (place.keys[i].present)
                lr_delete(self(), place.keys[i].text, place.keys[i].len);
            find_name_in(i, &suffix, last);
            store_key(i, 40, 0);
        } while (i < 3 && bucket_of_key(&place.keys[i]) != last);
    }
    while (lr_load(&view.stripe->items) > last * 21 / 4) {
        int len = snprintf(key, sizeof key, "f%u", --filler);
        lr_delete(self(), key, (size_t)len);
    }
    lr_store(&view.stripe->incarnation, (lr_load(&view.stripe->incarnation) | 15u) + 1);
}

static void build_ttl(void) {
    for (unsigned i = 0; i < SIM_KEYS; i++)
        store_key(i, 40 + 8 * i, i == 3 ? 0 : 1 + i);
    for (unsigned i = 0; i < 8; i++)
        store_filler(i, 64);
}

static uint64_t gap_bytes(enum lr_region region) {
    const struct lr_view view = lr_view_of(self(), 0);
    const struct lr_span gap = lr_gap_of(&view, region);
    return gap.end - gap.start;
}

static void build_probation(void) {
    struct lr_view view = lr_view_of(self(), 0);
    const uint64_t spare = (DATA - lr_load(&view.stripe->border_off)) / 100 * LR_SPARE_SHARE;
    unsigned filler = 0;
    for (; filler < SIM_KEYS; filler++) {
        store_filler(filler, 260);
        store_key(filler, 256 + 8 * filler, 0);
    }
    /* Until the next one would evict; so few that the index need not grow, which would move the keys. */
    while (filler < FILLERS && (gap_bytes(LR_PROBATION) >= 300 || gap_bytes(LR_MAIN) > spare))
        store_filler(filler++, 270);
    while (filler < FILLERS && gap_bytes(LR_MAIN) >= 300) /* small ones go to main: promotions make its hand go on */
        store_filler(filler++, 60);
    for (unsigned i = 0; i < SIM_KEYS; i++) {
        const struct lr_key key = lr_key_of(self(), place.keys[i].text, place.keys[i].len);
        const struct lr_found found = lr_index_find(&view, &key);
        if (found.slot == NULL || lr_region_at(&view, found.head.off) != LR_PROBATION)
            give_up("a key is not on probation", LARDER_EINVALID);
        heat(i, 3 - i);
    }
}

static void (*const builders[WORLD_COUNT])(void) = {
    [WORLD_ROOMY] = build_roomy,
    [WORLD_FULL] = build_full,
    [WORLD_COLD] = build_cold,
    [WORLD_HOT] = build_hot,
    [WORLD_SPLIT] = build_split,
    [WORLD_BORDER] = build_border,
    [WORLD_UP] = build_up,
    [WORLD_DOWN] = build_down,
    [WORLD_CHAIN] = build_chain,
    [WORLD_TTL] = build_ttl,
    [WORLD_PROBATION] = build_probation,
    [WORLD_MERGE] = build_merge,
    [WORLD_MERGE_GHOSTS] = build_merge,
};

/* The numbers of all worlds are the same but for these. */
static void choose_policy(uint32_t policy) {
    struct lr_geometry plan;
    int error = lr_geometry_plan(SM_MIN_STRIPE, 1, policy, &plan, NULL);
    if (error != 0)
        give_up("plan", error);
    geometry.policy = plan.policy;
    geometry.most_buckets = plan.most_buckets;
    geometry.least_buckets = plan.least_buckets;
    geometry.kept_bytes = plan.kept_bytes;
    geometry.ghost_group = plan.ghost_group;
    geometry.recency_max = plan.recency_max;
    memcpy(geometry.recency_used, plan.recency_used, sizeof geometry.recency_used);
    for (unsigned i = 0; i < SIM_HANDLES; i++)
        sim_handles[i].geometry = geometry;
}

/* ---- images ----------------------------------------------------------------------------------------------------- */

static void lay_out_segment(void) {
    memset(sim_segment, 0, sizeof sim_segment);
    lr_geometry_store(&geometry, (struct sm_constants *)(void *)sim_segment);
    lr_geometry_lay_stripe(&geometry, (struct sm_stripe *)(void *)(sim_segment + geometry.control_off));
    struct sm_header *header = (struct sm_header *)(void *)sim_segment;
    atomic_store_explicit(&header->state, SM_LIVE, memory_order_relaxed);
    atomic_store_explicit(&header->origin, 7, memory_order_relaxed);
    memset(privates, 0, sizeof privates);
    for (unsigned i = 0; i < SIM_HANDLES; i++) {
        make_handle(i);
        sim.now = &sim.processes[i]; /* the kernel asks who opens */
        int error = lr_participant_join(&sim_handles[i], NULL);
        sim.now = &sim.processes[SIM_NOBODY];
        if (error != 0)
            give_up("join", error);
    }
}

static void keep_image(struct image *image) {
    memcpy(image->tables, sim_segment, sizeof image->tables);
    memcpy(image->voids, sim_segment + geometry.voids_off, sizeof image->voids);
    memcpy(image->control, sim_segment + geometry.control_off, sizeof image->control);
    memcpy(image->data, sim_segment + geometry.data_off, sizeof image->data);
    image->place = place;
}

const struct sim_place *sim_world_load(enum sim_world world) {
    const struct image *image = &images[world];
    choose_policy(image->policy);
    memcpy(sim_segment, image->tables, sizeof image->tables);
    memcpy(sim_segment + geometry.voids_off, image->voids, sizeof image->voids);
    memcpy(sim_segment + geometry.control_off, image->control, sizeof image->control);
    memcpy(sim_segment + geometry.data_off, image->data, sizeof image->data);
    sim_runtime_keep();
    return &image->place;
}

void sim_world_init(void) {
    int error = lr_geometry_plan(SM_MIN_STRIPE, 1, LR_POLICY_clock, &geometry, NULL);
    images = calloc(WORLD_COUNT, sizeof *images);
    if (error != 0 || images == NULL || geometry.segment_bytes > sizeof sim_segment)
        give_up("plan", error);
    geometry.hash_seed = UINT64_C(0x5eed5eed5eed5eed);
    strcpy(geometry.name, "simulated");
    sim_kernel_save();
    for (unsigned i = 0; i < WORLD_COUNT; i++) {
        sim_kernel_restore();
        images[i].policy = i == WORLD_PROBATION || i == WORLD_MERGE_GHOSTS ? LR_POLICY_s3 : LR_POLICY_clock;
        choose_policy(images[i].policy);
        lay_out_segment();
        memset(&place, 0, sizeof place);
        for (unsigned k = 0; k < SIM_KEYS; k++) {
            name_key(k, 0);
            place.keys[k].deadline_ms = UINT64_MAX;
        }
        sim.now = &sim.processes[SIM_DOCTOR];
        builders[i]();
        sim.now = &sim.processes[SIM_NOBODY];
        keep_image(&images[i]);
    }
    for (unsigned i = 0; i < SIM_HANDLES; i++) {
        struct lr_cache *cache = &sim_handles[i];
        joined[i] = (struct joined){cache->slot, cache->generation, cache->me, cache->probe_fd, cache->live_page};
    }
    sim.lock_at = (uintptr_t)&lr_stripe_at(self(), 0)->lock;
    struct lr_check check;
    for (unsigned i = 0; i < WORLD_COUNT; i++) {
        sim_world_load((enum sim_world)i);
        if ((error = lr_check(self(), &check)) != 0)
            give_up(check.first[0], error);
    }
    sim_kernel_save();
}
