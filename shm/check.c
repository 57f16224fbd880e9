/* SPDX-License-Identifier: MIT */
/*
 * Check: the definition of healthy.
 *
 * Each stripe is copied while nobody works in it (its sequence number is even and the same before and after), and the
 * copy is judged:
 *
 *   1. border, divide, bucket count and gaps lie in order; no split is under way; probation's share is in bounds
 *   2. blocks and gaps tile the arena from the border to the end, and none crosses the divide
 *   3. every slot names a live block of the tiling, alone, in the right bucket, with the tag of its key's hash; no two
 * slots have the same key
 *   4. every live block is named; held ones are not
 *   5. every hole of SM_MIN_BLOCK bytes or more stands in its bin of its region, once; bins hold nothing else
 *   6. counts and sums equal what they are derived from; no version lies above the stripe's clock
 *   7. no lock is held by somebody who is dead
 *
 * It takes no lock and writes nothing, and works on a copied file as well. A stripe that never stands still is reported
 * as busy.
 */
#include "bucket.h"
#include "stripe.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#define SNAPSHOT_TRIES 200u

struct checking {
    struct lr_view view; /* of the copy */
    struct lr_check *out;
    uint64_t *named; /* bitmap: a slot names this block */
    uint64_t *holes; /* bitmap: a binnable hole that no bin has shown yet */
    uint64_t items, item_bytes, payload, tombstones, held, held_bytes, hole_bytes, ttl_items;
    uint64_t sums[SM_RANGES];
};

__attribute__((format(printf, 2, 3))) static void find(struct checking *c, const char *format, ...) {
    struct lr_check *out = c->out;
    if (out->findings < sizeof out->first / sizeof out->first[0]) {
        char *line = out->first[out->findings];
        int used = snprintf(line, sizeof out->first[0], "stripe %u: ", c->view.number);
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(line + used, sizeof out->first[0] - (size_t)used, format, arguments);
        va_end(arguments);
    }
    out->findings++;
}

static bool take_bit(uint64_t *bits, uint64_t off) {
    uint64_t bit = off / SM_GRANULE, mask = UINT64_C(1) << (bit % 64);
    bool was = (bits[bit / 64] & mask) != 0;
    bits[bit / 64] &= ~mask;
    return was;
}

static bool set_bit(uint64_t *bits, uint64_t off) {
    uint64_t bit = off / SM_GRANULE, mask = UINT64_C(1) << (bit % 64);
    bool was = (bits[bit / 64] & mask) != 0;
    bits[bit / 64] |= mask;
    return was;
}

static bool check_words(struct checking *c) {
    struct sm_stripe *stripe = c->view.stripe;
    const uint64_t end = c->view.cache->geometry.stripe_bytes, border = lr_load(&stripe->border_off);
    const uint64_t split = lr_load(&stripe->split), gap = lr_load(&stripe->gap[LR_MAIN]);
    const uint64_t divide = lr_load(&stripe->divide_off), first = lr_load(&stripe->gap[LR_PROBATION]);
    const bool divided = lr_has_probation(c->view.cache);
    bool sane = true;
    if (border < SM_BUCKET_BYTES || border > end / 2 || border % SM_GRANULE != 0) {
        find(c, "border %llu is outside 64..%llu", (unsigned long long)border, (unsigned long long)end / 2);
        sane = false;
    }
    if ((uint32_t)split == 0 || (split & SM_SPLITTING) ||
        lr_index_bytes(&c->view.cache->geometry, (uint32_t)split) > border) {
        find(c, "split word %llx does not fit below border %llu, or a split is under way", (unsigned long long)split,
             (unsigned long long)border);
        sane = false;
    }
    if (divided ? divide < border || divide > end || divide % SM_GRANULE != 0 : (divide | first) != 0) {
        find(c, "divide %llu is outside %llu..%llu, or there where nothing is divided", (unsigned long long)divide,
             (unsigned long long)border, (unsigned long long)end);
        sane = false;
    } else if (divided && (lr_gap_start(first) < border || lr_gap_start(first) > lr_gap_end(first) ||
                           lr_gap_end(first) > divide)) {
        find(c, "probation's gap %llu..%llu is outside %llu..%llu", (unsigned long long)lr_gap_start(first),
             (unsigned long long)lr_gap_end(first), (unsigned long long)border, (unsigned long long)divide);
        sane = false;
    }
    if (lr_gap_start(gap) < (divided ? divide : border) || lr_gap_start(gap) > lr_gap_end(gap) ||
        lr_gap_end(gap) > end) {
        find(c, "gap %llu..%llu is outside %llu..%llu", (unsigned long long)lr_gap_start(gap),
             (unsigned long long)lr_gap_end(gap), (unsigned long long)(divided ? divide : border),
             (unsigned long long)end);
        sane = false;
    }
    const uint64_t share = lr_load(&stripe->share);
    if (divided ? share < LR_SHARE_LEAST || share > LR_SHARE_MOST : share != 0)
        find(c, "probation's share %llx is outside %llx..%llx", (unsigned long long)share,
             (unsigned long long)LR_SHARE_LEAST, (unsigned long long)LR_SHARE_MOST);
    return sane;
}

static void check_entry(struct checking *c, uint32_t bucket, unsigned slot, uint64_t word) {
    struct lr_cache *cache = c->view.cache;
    struct lr_head head;
    const unsigned long long at = (unsigned long long)lr_slot_off(word);
    if (lr_slot_off(word) < lr_load(&c->view.stripe->border_off) ||
        !lr_head_read(cache, c->view.data, lr_slot_off(word), &head) || !lr_head_matches(&head, word)) {
        find(c, "bucket %u slot %u names %llu, which is no such block", bucket, slot, at);
        return;
    }
    uint64_t hash = lr_head_hash(c->view.data, &head), place = lr_place(cache, hash);
    if (lr_place_stripe(cache, place) != c->view.number || lr_placing(place) != (uint32_t)(head.identity >> 32) ||
        lr_place_tag(place) != (word & SM_SLOT_TAG_MASK) ||
        !lr_belongs(lr_placing(place), bucket, lr_buckets(&c->view)))
        find(c, "bucket %u slot %u: block %llu does not belong there by its key's hash", bucket, slot, at);
    if (word & SM_SLOT_MOVED)
        find(c, "bucket %u slot %u is marked as moved, and no split is under way", bucket, slot);
    if (set_bit(c->named, head.off))
        find(c, "bucket %u slot %u: block %llu is named twice", bucket, slot, at);
    if (head.version > lr_load(&c->view.stripe->clock))
        find(c, "block %llu has version %llx above the stripe's clock %llx", at, (unsigned long long)head.version,
             (unsigned long long)lr_load(&c->view.stripe->clock));
    if (head.tombstone) {
        c->tombstones++;
        return;
    }
    c->items++;
    c->item_bytes += head.size;
    c->payload += (uint64_t)head.key_len + head.value_len;
    c->ttl_items += (head.parts & SM_PART_EXPIRY) != 0;
    c->sums[lr_range_of(hash)] += lr_head_kind(&head) == LR_SHARED ? lr_range_term(hash, head.version) : 0;
}

static bool is_in_other_bucket(struct checking *c, uint32_t bucket, const struct lr_head *head, uint64_t hash) {
    uint32_t placing = (uint32_t)(head->identity >> 32), buckets = lr_buckets(&c->view);
    uint32_t first = lr_bucket_of(placing, buckets),
             other = first == bucket ? lr_bucket_of(lr_second(placing), buckets) : first;
    sm_u64 *slots = lr_bucket_at(&c->view, other);
    for (unsigned i = 0; i < SM_BUCKET_SLOTS && other != bucket; i++) {
        struct lr_head there;
        uint64_t word = lr_load(&slots[i]);
        if (!lr_slot_is_empty(word) && !(word & SM_SLOT_DEAD) &&
            lr_head_read(c->view.cache, c->view.data, lr_slot_off(word), &there) &&
            (uint32_t)(there.identity >> 32) == placing && lr_head_hash(c->view.data, &there) == hash)
            return true;
    }
    return false;
}

static void check_twins(struct checking *c, uint32_t bucket) {
    sm_u64 *slots = lr_bucket_at(&c->view, bucket);
    uint64_t hashes[SM_BUCKET_SLOTS];
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++) {
        struct lr_head head;
        uint64_t word = lr_load(&slots[i]);
        hashes[i] = 0;
        if (lr_slot_is_empty(word) || (word & SM_SLOT_DEAD) ||
            !lr_head_read(c->view.cache, c->view.data, lr_slot_off(word), &head))
            continue;
        hashes[i] = lr_head_hash(c->view.data, &head);
        for (unsigned j = 0; j < i; j++)
            if (hashes[j] == hashes[i] && hashes[i] != 0)
                find(c, "bucket %u: slots %u and %u have the same key", bucket, j, i);
        if (is_in_other_bucket(c, bucket, &head, hashes[i]))
            find(c, "bucket %u slot %u: its key stands in its other bucket too", bucket, i);
    }
}

static void check_index(struct checking *c) {
    for (uint32_t bucket = 0; bucket < lr_buckets(&c->view); bucket++) {
        sm_u64 *slots = lr_bucket_at(&c->view, bucket);
        for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++)
            if (!lr_slot_is_empty(lr_load(&slots[i])))
                check_entry(c, bucket, i, lr_load(&slots[i]));
        check_twins(c, bucket);
    }
}

/* One block of the tiling. Returns its size, 0 if the walk cannot go on. */
static uint64_t check_block(struct checking *c, uint64_t off, uint64_t limit) {
    uint64_t word = lr_load(&lr_block_at(c->view.data, off)->word), size = lr_block_size(word);
    if (size == 0 || size > limit - off) {
        find(c, "block %llu has size %llu, %llu bytes are left", (unsigned long long)off, (unsigned long long)size,
             (unsigned long long)(limit - off));
        return 0;
    }
    /* Only live blocks are ever marked as named: of others check_entry says that they are no such block. */
    bool named = take_bit(c->named, off);
    switch (lr_block_state(word)) {
    case SM_BLOCK_HOLE:
        c->hole_bytes += size;
        if (size >= SM_MIN_BLOCK)
            set_bit(c->holes, off);
        break;
    case SM_BLOCK_LIVE:
        if (!named)
            find(c, "live block %llu is named by no slot", (unsigned long long)off);
        break;
    case SM_BLOCK_HELD:
        c->held++;
        c->held_bytes += size;
        break;
    default:
        find(c, "block %llu has state 3", (unsigned long long)off);
    }
    return size;
}

/* False: the walk cannot go on. */
static bool check_run(struct checking *c, uint64_t off, uint64_t limit) {
    while (off < limit) {
        uint64_t size = check_block(c, off, limit);
        if (size == 0)
            return false;
        off += size;
    }
    return true;
}

static void check_tiling(struct checking *c) {
    const uint64_t end = c->view.cache->geometry.stripe_bytes;
    for (enum lr_region region = LR_MAIN; region <= LR_PROBATION; region++) {
        const struct lr_span whole = lr_region_of(&c->view, region), gap = lr_gap_of(&c->view, region);
        if (region == LR_PROBATION && !lr_has_probation(c->view.cache))
            continue;
        if (!check_run(c, whole.start, gap.start) || !check_run(c, gap.end, whole.end))
            return;
    }
    for (uint64_t i = 0; i < end / SM_GRANULE / 64; i++)
        if (c->named[i] != 0)
            find(c, "a slot names %llu, where no block begins",
                 (unsigned long long)((i * 64 + (uint64_t)__builtin_ctzll(c->named[i])) * SM_GRANULE));
}

/* The holes of one bin, in their order. True: there is one. */
static bool check_bin(struct checking *c, enum lr_region region, unsigned row, unsigned column) {
    const uint64_t end = c->view.cache->geometry.stripe_bytes;
    uint64_t at = atomic_load_explicit(&c->view.stripe->bins[region][row][column], memory_order_relaxed);
    const bool any = at != 0;
    while (at != 0) {
        unsigned its_row = 0, its_column = 0;
        uint64_t off = at * SM_GRANULE;
        if (off > end - SM_MIN_BLOCK || !take_bit(c->holes, off)) {
            find(c, "bin %u.%u lists %llu, which is no hole or listed before", row, column, (unsigned long long)off);
            break;
        }
        lr_bin_of(lr_block_size(lr_load(&lr_block_at(c->view.data, off)->word)), &its_row, &its_column);
        if (its_row != row || its_column != column)
            find(c, "hole %llu stands in bin %u.%u instead of %u.%u", (unsigned long long)off, row, column, its_row,
                 its_column);
        if (lr_region_at(&c->view, off) != region)
            find(c, "hole %llu stands in a bin of the other region", (unsigned long long)off);
        at = lr_load(&lr_block_at(c->view.data, off)->identity) >> 32;
    }
    return any;
}

static void check_bins(struct checking *c) {
    const uint64_t end = c->view.cache->geometry.stripe_bytes;
    for (unsigned i = 0; i < SM_REGIONS * SM_BIN_ROWS; i++) {
        const enum lr_region region = i < SM_BIN_ROWS ? LR_MAIN : LR_PROBATION;
        const unsigned row = i % SM_BIN_ROWS;
        bool any = false;
        for (unsigned column = 0; column < SM_BIN_COLUMNS; column++)
            any |= check_bin(c, region, row, column);
        if (any != ((lr_load(&c->view.stripe->bin_map[region]) >> row & 1u) != 0))
            find(c, "bin map is wrong about row %u", row);
    }
    for (uint64_t i = 0; i < end / SM_GRANULE / 64; i++)
        if (c->holes[i] != 0)
            find(c, "hole %llu stands in no bin",
                 (unsigned long long)((i * 64 + (uint64_t)__builtin_ctzll(c->holes[i])) * SM_GRANULE));
}

static void check_held(struct checking *c) {
    for (unsigned i = 0; i < SM_HELD; i++) {
        uint64_t off = (uint64_t)atomic_load_explicit(&c->view.stripe->held[i], memory_order_relaxed) * SM_GRANULE;
        if (off == 0)
            continue;
        if (off > c->view.cache->geometry.stripe_bytes - SM_MIN_BLOCK ||
            lr_block_state(lr_load(&lr_block_at(c->view.data, off)->word)) != SM_BLOCK_HELD)
            find(c, "%llu is listed as held and is not", (unsigned long long)off);
    }
}

static void check_equal(struct checking *c, const char *what, uint64_t stored, uint64_t counted) {
    if (stored != counted)
        find(c, "%s is stored as %llu, counted %llu", what, (unsigned long long)stored, (unsigned long long)counted);
}

static void check_derived(struct checking *c) {
    struct sm_stripe *stripe = c->view.stripe;
    check_equal(c, "items", lr_load(&stripe->items), c->items);
    check_equal(c, "item_bytes", lr_load(&stripe->item_bytes), c->item_bytes);
    check_equal(c, "payload_bytes", lr_load(&stripe->payload_bytes), c->payload);
    check_equal(c, "tombstones", lr_load(&stripe->tombstones), c->tombstones);
    check_equal(c, "held_blocks", lr_load(&stripe->held_blocks), c->held);
    check_equal(c, "held_bytes", lr_load(&stripe->held_bytes), c->held_bytes);
    check_equal(c, "hole_bytes", lr_load(&stripe->hole_bytes), c->hole_bytes);
    check_equal(c, "ttl_items", lr_load(&stripe->ttl_items), c->ttl_items);
    for (unsigned range = 0; range < SM_RANGES; range++)
        check_equal(c, "a range's sum", lr_load(&stripe->range_sum[range]), c->sums[range]);
}

static void judge(struct checking *c) {
    if (check_words(c)) {
        check_index(c);
        check_tiling(c);
        check_bins(c);
        check_held(c);
        check_derived(c);
    }
    c->out->stripes_checked++;
    c->out->items += c->items;
    c->out->tombstones += c->tombstones;
    c->out->held_blocks += c->held;
}

/* Copies the stripe while nobody works in it. */
static bool snapshot(struct lr_cache *cache, uint32_t number, struct checking *c) {
    struct lr_view live = lr_view_of(cache, number);
    for (unsigned attempt = 0; attempt < SNAPSHOT_TRIES; attempt++) {
        /* ORDER(sequence) observe: even, and the same after the copy: no holder wrote meanwhile. */
        uint64_t before = atomic_load_explicit(&live.stripe->sequence, memory_order_acquire);
        if ((before & 1u) == 0 && (lr_load(&live.stripe->lock) & SM_LOCK_OWNER_MASK) == 0) {
            lr_bytes_out(c->view.stripe, live.stripe, SM_STRIPE_FIXED);
            lr_bytes_out(c->view.data, live.data, cache->geometry.stripe_bytes);
            atomic_thread_fence(memory_order_acquire);
            if (lr_load(&live.stripe->sequence) == before)
                return true;
        }
        struct timespec pause = {.tv_nsec = 1000000};
        nanosleep(&pause, NULL);
    }
    uint64_t owner = lr_load(&live.stripe->lock) & SM_LOCK_OWNER_MASK;
    if (owner != 0 && !lr_owner_alive(cache, owner)) {
        find(c, "locked by slot %u, generation %llu, who is dead: the next writer will repair it", lr_owner_slot(owner),
             (unsigned long long)lr_owner_generation(owner));
        c->out->stripes_checked++;
    } else {
        c->out->stripes_busy++;
    }
    return false;
}

static void check_image_lock(struct lr_cache *cache, uint32_t number, struct checking *c) {
    uint64_t word = lr_load(&lr_stripe_at(cache, number)->lock);
    if ((word & SM_LOCK_OWNER_MASK) != 0)
        find(c, "locked by slot %u, generation %llu, when the image was made", lr_owner_slot(word),
             (unsigned long long)lr_owner_generation(word));
}

static bool read_stripe(struct lr_cache *cache, uint32_t number, struct checking *c) {
    if (!cache->image)
        return snapshot(cache, number, c);
    check_image_lock(cache, number, c);
    memcpy(c->view.stripe, lr_stripe_at(cache, number), SM_STRIPE_FIXED);
    memcpy(c->view.data, lr_data_at(cache, number), cache->geometry.stripe_bytes);
    return true;
}

int lr_check(struct lr_cache *cache, struct lr_check *out) {
    const uint64_t data = cache->geometry.stripe_bytes, bits = data / SM_GRANULE / 8, control = 20480;
    static_assert(SM_STRIPE_FIXED <= 20480, "the copy of a control block");
    *out = (struct lr_check){0};
    uint8_t *memory = mmap(NULL, data + control + 2 * bits, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return LARDER_ENO_MEMORY;
    for (uint32_t i = 0; i < cache->geometry.stripe_count; i++) {
        struct checking c = {.view = {.cache = cache,
                                      .stripe = (struct sm_stripe *)(void *)(memory + data),
                                      .data = memory,
                                      .number = i},
                             .out = out,
                             .named = (uint64_t *)(void *)(memory + data + control),
                             .holes = (uint64_t *)(void *)(memory + data + control + bits)};
        memset(c.named, 0, 2 * bits);
        if (read_stripe(cache, i, &c))
            judge(&c);
    }
    munmap(memory, data + control + 2 * bits);
    return out->findings != 0 ? LARDER_ECORRUPT : out->stripes_busy != 0 ? LARDER_ETIMED_OUT : 0;
}
