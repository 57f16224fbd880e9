/* SPDX-License-Identifier: MIT */
/*
 * What repair finds and keeps: states that a death or a scribbler leaves, made by hand. Random damage, by the million,
 * is the business of tests/corrupt/.
 */
#include "fixture.h"

#include "bucket.h"
#include "stripe.h"

#include <string.h>

struct victim {
    struct fixture fixture;
    uint8_t *pristine;
    struct fixture_random random;
    uint8_t *buf;
    size_t cap;
};

static void fill_segment(struct victim *v) {
    char value[3000];
    memset(value, 'v', sizeof value);
    for (uint64_t i = 0; i < 400; i++) {
        struct lr_put put = {.key = &i,
                             .key_len = 8,
                             .value = value,
                             .value_len = fixture_below(&v->random, i % 10 ? 300 : sizeof value),
                             .ttl_ms = i % 3 ? 0 : 100000,
                             .flags = i % 2 ? 7 : 0};
        CU_ASSERT_EQUAL(lr_put(v->fixture.one, &put), 0);
        if (i % 7 == 0)
            lr_delete(v->fixture.one, &i, 8);
    }
}

static void begin(struct victim *v, bool replicating) {
    struct lr_options options = lr_options_default();
    memset(v, 0, sizeof *v);
    options.size = 128u << 10;
    options.stripes = 2;
    options.wait_ms = 1;
    v->random = fixture_seed("damage");
    fixture_create_with(&v->fixture, &options);
    lr_set_replicating(v->fixture.one, replicating);
    fill_segment(v);
    v->pristine = malloc(v->fixture.one->geometry.segment_bytes);
    v->cap = lr_entry_bytes(v->fixture.one);
    v->buf = malloc(v->cap);
    memcpy(v->pristine, v->fixture.one->base, v->fixture.one->geometry.segment_bytes);
}

static void restore(struct victim *v) {
    struct lr_cache *cache = v->fixture.one;
    memcpy(cache->controls, v->pristine + cache->geometry.control_off,
           cache->geometry.segment_bytes - cache->geometry.control_off);
}

static void end(struct victim *v) {
    restore(v);
    fixture_destroy(&v->fixture);
    free(v->pristine);
    free(v->buf);
}

static void repair_all(struct lr_cache *cache) {
    for (uint32_t i = 0; i < cache->geometry.stripe_count; i++) {
        struct lr_view view = lr_view_of(cache, i);
        lr_store(&view.stripe->lock, lr_own_word(cache) | SM_LOCK_RECOVER);
        CU_ASSERT_FATAL(lr_repair_claim(cache));
        lr_repair(&view);
        lr_stripe_unlock(&view);
    }
}

static void repair_of_a_healthy_stripe_changes_nothing_that_counts(void) {
    struct victim v;
    struct lr_digest before, after;
    struct lr_stat stat;
    begin(&v, true);
    CU_ASSERT_EQUAL(lr_digest(v.fixture.one, &before), 0);
    for (unsigned i = 0; i < 3; i++)
        repair_all(v.fixture.one);
    CU_ASSERT_EQUAL(lr_digest(v.fixture.one, &after), 0);
    lr_stat(v.fixture.one, &stat);
    CU_ASSERT_EQUAL(before.sum, after.sum);
    CU_ASSERT_EQUAL(stat.counters[LR_C_repair_dropped], 0);
    end(&v);
}

/* What a death can leave behind, made by hand. */
static void repair_finds_what_a_dead_holder_left(void) {
    struct victim v;
    struct lr_check check;
    begin(&v, true);
    struct lr_cache *cache = v.fixture.one;
    struct lr_pin pin;
    uint64_t pinned = 8, dead = 9, noted = 11;
    struct lr_key keys[3] = {lr_key_of(cache, &pinned, 8), lr_key_of(cache, &dead, 8), lr_key_of(cache, &noted, 8)};
    struct lr_view views[3];
    struct lr_found found[3];
    for (unsigned i = 0; i < 3; i++) {
        struct lr_put put = {.key = i == 0   ? &pinned
                                    : i == 1 ? &dead
                                             : &noted,
                             .key_len = 8,
                             .value = "v",
                             .value_len = 1};
        CU_ASSERT_EQUAL(lr_put(cache, &put), 0);
        if (i == 0)
            CU_ASSERT_EQUAL(lr_pin(v.fixture.two, &pinned, 8, &pin), 0);
        views[i] = lr_view_of(cache, lr_place_stripe(cache, keys[i].place));
    }
    for (unsigned i = 0; i < 3; i++) {
        found[i] = lr_index_find(&views[i], &keys[i]);
        CU_ASSERT_PTR_NOT_NULL_FATAL(found[i].slot);
    }
    /* A flag that the hand took off and had no time to put back. */
    atomic_fetch_and(found[0].slot, ~SM_SLOT_PINNED);
    /* A word that was killed without the lock. */
    atomic_fetch_or(found[1].slot, SM_SLOT_DEAD);
    /* A valid note whose bit is off already. */
    struct sm_note *note = &views[2].stripe->notes[5];
    lr_store(&note->owner, lr_own_word(cache));
    lr_store(&note->hash, keys[2].hash);
    lr_store(&note->version, lr_highest_version(cache) + 1024);
    lr_store(&note->owner, lr_load(&note->owner) | SM_NOTE_VALID);
    /* And a clock that somebody has scribbled over. */
    lr_store(&views[0].stripe->clock, 1);
    for (uint32_t i = 0; i < 2; i++)
        (void)lr_feed_take_rescan(cache, i);
    repair_all(cache);
    for (uint32_t i = 0; i < 2; i++) {
        struct lr_view view;
        CU_ASSERT(lr_feed_take_rescan(cache, i)); /* hints may be missing */
        CU_ASSERT_EQUAL(lr_stripe_lock(&view, cache, i), 0);
        lr_stripe_unlock(&view);
    }
    CU_ASSERT_EQUAL(lr_check(cache, &check), 0);
    CU_ASSERT((lr_load(found[0].slot) & SM_SLOT_PINNED) != 0);
    CU_ASSERT(lr_load(&views[1].stripe->range_floor[lr_range_of(keys[1].hash)]) >= found[1].head.version);
    CU_ASSERT_EQUAL(lr_get(cache, &dead, 8, v.buf, v.cap, NULL, 0), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(lr_load(&note->owner), 0);
    CU_ASSERT_EQUAL(lr_get(cache, &noted, 8, v.buf, v.cap, NULL, 0), LARDER_ENOT_FOUND);
    lr_unpin(v.fixture.two, &pin);
    end(&v);
}

/* ---- what cannot be trusted goes, and nothing else ---------------------------------------------------------- */

struct wound {
    const char *what;
    uint64_t dropped; /* items that go; UINT64_MAX: all of the stripe */
};

static const struct wound wounds[] = {{"the block has no size", 1},
                                      {"the block reaches beyond the stripe", 1},
                                      {"the slot names no block", 1},
                                      {"the slot names another item's block", 1},
                                      {"the slot is of another filling", 1},
                                      {"the key is another", 1},
                                      {"the block says that it is a hole", 1},
                                      {"the gap is upside down", 0},
                                      {"the bins are garbage", 0},
                                      {"the counts are garbage", 0},
                                      {"the border is beyond the stripe", UINT64_MAX},
                                      {"there are no pairs", UINT64_MAX}};

/* `found`: the item that suffers. */
static void inflict(unsigned wound, struct lr_view *view, struct lr_found *found, const struct lr_found *other) {
    struct sm_block *block = lr_block_at(view->data, found->head.off);
    switch (wound) {
    case 0:
        lr_store(&block->word, found->head.word & ~SM_BLOCK_SIZE_MASK);
        break;
    case 1:
        lr_store(&block->word, found->head.word | SM_BLOCK_SIZE_MASK);
        break;
    case 2:
        lr_store(found->slot, found->word | SM_SLOT_OFF_MASK);
        break;
    case 3:
        lr_store(found->slot, (found->word & ~SM_SLOT_OFF_MASK) | (other->word & SM_SLOT_OFF_MASK));
        break;
    case 4:
        lr_store(found->slot, found->word ^ (UINT64_C(1) << SM_SLOT_INC_SHIFT));
        break;
    case 5:
        view->data[found->head.off + found->head.key_at] ^= 0x40;
        break;
    case 6:
        lr_store(&block->word, found->head.word & ~(UINT64_C(3) << SM_BLOCK_STATE_SHIFT));
        break;
    case 7:
        lr_store(&view->stripe->gap[LR_MAIN], lr_gap_word(40960, 32768));
        break;
    case 8:
        memset((void *)view->stripe->bins, 0x5a, sizeof view->stripe->bins);
        break;
    case 9:
        lr_store(&view->stripe->items, 1);
        lr_store(&view->stripe->hole_bytes, 77);
        lr_store(&view->stripe->bin_map[LR_MAIN], 0);
        break;
    case 10:
        lr_store(&view->stripe->border_off, UINT64_MAX);
        break;
    default:
        lr_store(&view->stripe->split, 0);
    }
}

static uint64_t items_of(struct lr_cache *cache, uint32_t stripe) {
    struct lr_stripe_info info;
    CU_ASSERT_EQUAL(lr_stripe_info(cache, stripe, &info), 0);
    return info.items;
}

static void repair_drops_only_what_cannot_be_trusted_and_counts_it(void) {
    for (unsigned wound = 0; wound < sizeof wounds / sizeof *wounds; wound++) {
        struct victim v;
        struct lr_stat stat;
        struct lr_check check;
        struct lr_found found[2] = {{0}, {0}};
        uint64_t keys[2] = {1, 0};
        begin(&v, false);
        struct lr_cache *cache = v.fixture.one;
        uint64_t items[2] = {items_of(cache, 0), items_of(cache, 1)};
        /* Two items of stripe 0. */
        struct lr_view view = lr_view_of(cache, 0);
        for (uint64_t n = 0, number = 1; n < 2 && number < 400; number++) {
            struct lr_key key = lr_key_of(cache, &number, 8);
            if (lr_place_stripe(cache, key.place) != 0)
                continue;
            found[n] = lr_index_find(&view, &key);
            keys[n] = number;
            n += found[n].slot != NULL;
        }
        CU_ASSERT_PTR_NOT_NULL_FATAL(found[1].slot);
        inflict(wound, &view, &found[0], &found[1]);
        for (unsigned round = 0; round < 2; round++) { /* once more changes nothing */
            repair_all(cache);
            lr_stat(cache, &stat);
            uint64_t dropped = wounds[wound].dropped == UINT64_MAX ? items[0] : wounds[wound].dropped;
            if (stat.counters[LR_C_repair_dropped] != dropped)
                printf("\n    %s: %llu dropped\n   ", wounds[wound].what,
                       (unsigned long long)stat.counters[LR_C_repair_dropped]);
            CU_ASSERT_EQUAL(stat.counters[LR_C_repair_dropped], dropped);
            CU_ASSERT_EQUAL(items_of(cache, 0), items[0] - dropped);
            CU_ASSERT_EQUAL(items_of(cache, 1), items[1]);
            CU_ASSERT_EQUAL(lr_check(cache, &check), 0);
        }
        int mine = wounds[wound].dropped == 0 ? 0 : LARDER_ENOT_FOUND;
        int others = wounds[wound].dropped == UINT64_MAX ? LARDER_ENOT_FOUND : 0;
        CU_ASSERT_EQUAL(lr_get(cache, &keys[0], 8, v.buf, v.cap, NULL, 0), mine);
        CU_ASSERT_EQUAL(lr_get(cache, &keys[1], 8, v.buf, v.cap, NULL, 0), others);
        end(&v);
    }
}

/* Probation's gap beyond its region; a hole of main that stands among those of probation. */
static void check_sees_what_lies_in_the_wrong_region(void) {
    for (unsigned kind = 0; kind < 2; kind++) {
        struct victim v;
        struct lr_check check;
        begin(&v, false);
        struct lr_cache *cache = v.fixture.one;
        struct lr_view view = lr_view_of(cache, 0);
        for (uint64_t i = 0; i < 400; i += 3)
            lr_delete(cache, &i, 8);
        CU_ASSERT_EQUAL(lr_check(cache, &check), 0);
        CU_ASSERT_FATAL(lr_has_probation(cache));
        if (kind == 0) {
            const uint64_t divide = lr_load(&view.stripe->divide_off);
            lr_store(&view.stripe->gap[LR_PROBATION], lr_gap_word(divide, divide + SM_GRANULE));
        } else {
            unsigned row = 0, column = 0;
            while (row < SM_BIN_ROWS && atomic_load(&view.stripe->bins[LR_MAIN][row][column]) == 0) {
                column = (column + 1) % SM_BIN_COLUMNS;
                row += column == 0;
            }
            CU_ASSERT_FATAL(row < SM_BIN_ROWS);
            atomic_store(&view.stripe->bins[LR_PROBATION][row][column],
                         atomic_load(&view.stripe->bins[LR_MAIN][row][column]));
            atomic_store(&view.stripe->bins[LR_MAIN][row][column], 0);
        }
        CU_ASSERT(lr_check(cache, &check) != 0 && check.findings > 0);
        repair_all(cache);
        CU_ASSERT_EQUAL(lr_check(cache, &check), 0);
        end(&v);
    }
}

static void of_two_entries_of_one_key_repair_keeps_the_newer(void) {
    struct lr_check check;
    struct lr_stat stat;
    for (unsigned newer_first = 0; newer_first < 2; newer_first++) {
        struct victim v;
        begin(&v, false);
        struct lr_cache *cache = v.fixture.one;
        for (uint64_t i = 0; i < 400;
             i++) /* room that is found without moving the hand, which would look the key up anew */
            lr_delete(cache, &i, 8);
        uint64_t number = 1000000;
        struct lr_key key = lr_key_of(cache, &number, 8);
        struct lr_view view;
        CU_ASSERT_EQUAL_FATAL(lr_stripe_lock(&view, cache, lr_place_stripe(cache, key.place)), 0);
        uint64_t version = lr_version_draw(&view);
        lr_version_draw(&view);
        for (uint64_t n = 0; n < 2; n++) {
            struct lr_found none = {0};
            struct lr_making making = {.key = &key,
                                       .value = n == newer_first ? "older" : "newer",
                                       .value_len = 5,
                                       .version = n == newer_first ? version : version + 1024,
                                       .deadline_ms = UINT64_MAX};
            CU_ASSERT_EQUAL(lr_entry_store(&view, &none, &making, LR_ROOM_EVICT), 0);
        }
        lr_stripe_unlock(&view);
        CU_ASSERT(lr_check(cache, &check) != 0);
        repair_all(cache);
        CU_ASSERT_EQUAL(lr_check(cache, &check), 0);
        CU_ASSERT_EQUAL(lr_get(cache, &number, 8, v.buf, v.cap, NULL, 0), 0);
        CU_ASSERT_EQUAL(memcmp(v.buf, "newer", 5), 0);
        lr_stat(cache, &stat);
        CU_ASSERT_EQUAL(stat.counters[LR_C_repair_dropped], 1);
        end(&v);
    }
}

/* A writer died after it had taken a pinned word out: the block is held until the pin ends. */
static void repair_holds_what_a_pin_names(void) {
    struct victim v;
    struct lr_check check;
    struct lr_stat stat;
    struct lr_pin pin;
    begin(&v, false);
    struct lr_cache *cache = v.fixture.one;
    uint64_t number = 8;
    struct lr_put put = {.key = &number, .key_len = 8, .value = "pinned", .value_len = 6};
    CU_ASSERT_EQUAL(lr_put(cache, &put), 0);
    CU_ASSERT_EQUAL_FATAL(lr_pin(v.fixture.two, &number, 8, &pin), 0);
    struct lr_key key = lr_key_of(cache, &number, 8);
    struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, key.place));
    struct lr_found found = lr_index_find(&view, &key);
    CU_ASSERT_PTR_NOT_NULL_FATAL(found.slot);
    lr_store(found.slot, 0);
    repair_all(cache);
    CU_ASSERT_EQUAL(lr_check(cache, &check), 0);
    CU_ASSERT_EQUAL(check.held_blocks, 1);
    CU_ASSERT_EQUAL(memcmp(pin.value, "pinned", 6), 0);
    repair_all(cache); /* and it stays held */
    CU_ASSERT_EQUAL(memcmp(pin.value, "pinned", 6), 0);
    lr_unpin(v.fixture.two, &pin);
    repair_all(cache);
    lr_stat(cache, &stat);
    CU_ASSERT_EQUAL(stat.held_blocks, 0);
    end(&v);
}

static void repair_waits_for_the_bitmap_and_gives_up(void) {
    struct victim v;
    begin(&v, false);
    CU_ASSERT(lr_repair_claim(v.fixture.one));
    CU_ASSERT(!lr_repair_claim(v.fixture.one));
    lr_repair_release(v.fixture.one);
    CU_ASSERT(lr_repair_claim(v.fixture.one));
    lr_repair_release(v.fixture.one);
    end(&v);
}

/* A live block's state is overwritten under its slot: check names each, repair mends each. */
static void check_sees_a_named_block_that_is_free_or_held(void) {
    const unsigned states[] = {SM_BLOCK_HOLE, SM_BLOCK_HELD, 3};
    for (unsigned i = 0; i < 3; i++) {
        struct victim v;
        struct lr_check check;
        begin(&v, false);
        struct lr_cache *cache = v.fixture.one;
        uint64_t number = 1000000;
        struct lr_put put = {.key = &number, .key_len = 8, .value = "v", .value_len = 1};
        CU_ASSERT_EQUAL(lr_put(cache, &put), 0);
        struct lr_key key = lr_key_of(cache, &number, 8);
        struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, key.place));
        struct lr_found found = lr_index_find(&view, &key);
        CU_ASSERT_PTR_NOT_NULL_FATAL(found.slot);
        sm_u64 *word = &lr_block_at(view.data, found.head.off)->word;
        lr_store(word, (lr_load(word) & ~(UINT64_C(3) << SM_BLOCK_STATE_SHIFT)) | (uint64_t)states[i]
                                                                                      << SM_BLOCK_STATE_SHIFT);
        CU_ASSERT_EQUAL(lr_check(cache, &check), LARDER_ECORRUPT);
        repair_all(cache);
        CU_ASSERT_EQUAL(lr_check(cache, &check), 0);
        end(&v);
    }
}

/* ---- check names what it finds ---------------------------------------------------------------------------------- */

enum ailment {
    BORDER_SMALL,
    BORDER_LARGE,
    BORDER_ODD,
    NO_BUCKETS,
    SPLITTING,
    TOO_MANY_BUCKETS,
    GAP_BELOW,
    GAP_REVERSED,
    GAP_BEYOND,
    SLOT_BELOW,
    OTHER_TAG,
    MOVED,
    TWICE,
    VERSION_AHEAD,
    NO_SIZE,
    UNNAMED,
    INSIDE,
    BIN_EMPTIED,
    BIN_FOREIGN,
    BIN_OTHER,
    NOT_HELD,
    MISCOUNTED,
    AILMENTS
};

static const char *const said[AILMENTS] = {[BORDER_SMALL] = "border 32 is outside",
                                           [BORDER_LARGE] = "is outside 64..",
                                           [BORDER_ODD] = "is outside 64..",
                                           [NO_BUCKETS] = "split word 0 does not fit",
                                           [SPLITTING] = "or a split is under way",
                                           [TOO_MANY_BUCKETS] = "does not fit below border",
                                           [GAP_BELOW] = "gap 64..",
                                           [GAP_REVERSED] = "gap 40960..32768 is outside",
                                           [GAP_BEYOND] = "gap 32768..",
                                           [SLOT_BELOW] = "names 64, which is no such block",
                                           [OTHER_TAG] = "does not belong there by its key's hash",
                                           [MOVED] = "is marked as moved",
                                           [TWICE] = "is named twice",
                                           [VERSION_AHEAD] = "above the stripe's clock 1",
                                           [NO_SIZE] = "has size 0",
                                           [UNNAMED] = "is named by no slot",
                                           [INSIDE] = "where no block begins",
                                           [BIN_EMPTIED] = "stands in no bin",
                                           [BIN_FOREIGN] = "which is no hole or listed before",
                                           [BIN_OTHER] = "instead of",
                                           [NOT_HELD] = "is listed as held and is not",
                                           [MISCOUNTED] = "items is stored as"};

/* The first bin that lists a hole. */
static sm_u32 *used_bin(struct sm_stripe *stripe) {
    sm_u32 *bins = &stripe->bins[0][0][0];
    for (unsigned i = 0; i < SM_REGIONS * SM_BIN_ROWS * SM_BIN_COLUMNS; i++)
        if (atomic_load(&bins[i]) != 0)
            return &bins[i];
    CU_FAIL_FATAL("no hole stands in a bin");
    return NULL;
}

static void ail_words(enum ailment ailment, struct sm_stripe *stripe, uint64_t end) {
    const uint64_t border = lr_load(&stripe->border_off), split = lr_load(&stripe->split);
    switch (ailment) {
    case BORDER_SMALL:
        lr_store(&stripe->border_off, 32);
        break;
    case BORDER_LARGE:
        lr_store(&stripe->border_off, end);
        break;
    case BORDER_ODD:
        lr_store(&stripe->border_off, border + 1);
        break;
    case NO_BUCKETS:
        lr_store(&stripe->split, 0);
        break;
    case SPLITTING:
        lr_store(&stripe->split, split | SM_SPLITTING);
        break;
    case TOO_MANY_BUCKETS:
        lr_store(&stripe->split, border / SM_BUCKET_BYTES + 1);
        break;
    case GAP_BELOW:
        lr_store(&stripe->gap[LR_MAIN], lr_gap_word(64, 32768));
        break;
    case GAP_REVERSED:
        lr_store(&stripe->gap[LR_MAIN], lr_gap_word(40960, 32768));
        break;
    default:
        lr_store(&stripe->gap[LR_MAIN], lr_gap_word(32768, end + SM_GRANULE));
    }
}

/* `large` has room within for a copy of `small`. */
static void ail_entry(enum ailment ailment, struct lr_view *view, const struct lr_found *small,
                      const struct lr_found *large) {
    struct sm_block *block = lr_block_at(view->data, small->head.off);
    const uint64_t inside = large->head.off + 512;
    sm_u64 *empty = small->slot;
    switch (ailment) {
    case SLOT_BELOW:
        lr_store(small->slot, (small->word & ~SM_SLOT_OFF_MASK) | 64 / SM_GRANULE);
        break;
    case OTHER_TAG:
        lr_store(small->slot, small->word ^ (UINT64_C(1) << SM_SLOT_TAG_SHIFT));
        break;
    case MOVED:
        lr_store(small->slot, small->word | SM_SLOT_MOVED);
        break;
    case TWICE:
        while (!lr_slot_is_empty(lr_load(empty)))
            empty++; /* in the first group: no ghosts between */
        lr_store(empty, small->word);
        break;
    case VERSION_AHEAD:
        lr_store(&view->stripe->clock, 1);
        break;
    case NO_SIZE:
        lr_store(&block->word, small->head.word & ~SM_BLOCK_SIZE_MASK);
        break;
    case UNNAMED:
        lr_store(small->slot, 0);
        break;
    default:
        memcpy(view->data + inside, view->data + small->head.off, small->head.size);
        lr_store(small->slot, (small->word & ~SM_SLOT_OFF_MASK) | inside / SM_GRANULE);
    }
}

static void ail_derived(enum ailment ailment, struct sm_stripe *stripe) {
    sm_u32 *bin = used_bin(stripe), *last = &stripe->bins[LR_MAIN][SM_BIN_ROWS - 1][SM_BIN_COLUMNS - 1];
    switch (ailment) {
    case BIN_EMPTIED:
        atomic_store(bin, 0);
        break;
    case BIN_FOREIGN:
        atomic_store(bin, UINT32_MAX);
        break;
    case BIN_OTHER:
        atomic_store(last, atomic_load(bin));
        atomic_store(bin, 0);
        break;
    case NOT_HELD:
        atomic_store(&stripe->held[3], UINT32_MAX);
        break;
    default:
        lr_store(&stripe->items, 1);
    }
}

static bool found_by_check(const struct lr_check *check, const char *what) {
    for (unsigned i = 0; i < check->findings && i < sizeof check->first / sizeof check->first[0]; i++)
        if (strstr(check->first[i], what) != NULL)
            return true;
    printf("\n    not found: %s, but: %s\n   ", what, check->first[0]);
    return false;
}

static void check_names_every_ailment_and_repair_cures_it(void) {
    for (enum ailment ailment = 0; ailment < AILMENTS; ailment++) {
        struct victim v;
        struct lr_check check;
        struct lr_found found[3];
        char value[2000];
        begin(&v, false);
        struct lr_cache *cache = v.fixture.one;
        struct lr_view view = lr_view_of(cache, 0);
        memset(value, 0, sizeof value);
        for (uint64_t i = 0, number = 1000000; i < 3; i++, number++) {
            while (lr_place_stripe(cache, lr_key_of(cache, &number, 8).place) != 0)
                number++;
            struct lr_put put = {.key = &number, .key_len = 8, .value = value, .value_len = i == 2 ? 2000 : 100};
            struct lr_key key = lr_key_of(cache, &number, 8);
            CU_ASSERT_EQUAL(lr_put(cache, &put), 0);
            found[i] = lr_index_find(&view, &key);
            CU_ASSERT_PTR_NOT_NULL_FATAL(found[i].slot);
        }
        atomic_fetch_or(found[1].slot, SM_SLOT_DEAD); /* will be a hole between the others */
        repair_all(cache);
        CU_ASSERT_EQUAL_FATAL(lr_check(cache, &check), 0);
        if (ailment < SLOT_BELOW)
            ail_words(ailment, view.stripe, cache->geometry.stripe_bytes);
        else if (ailment < BIN_EMPTIED)
            ail_entry(ailment, &view, &found[0], &found[2]);
        else
            ail_derived(ailment, view.stripe);
        CU_ASSERT_EQUAL(lr_check(cache, &check), LARDER_ECORRUPT);
        CU_ASSERT(found_by_check(&check, said[ailment]));
        repair_all(cache);
        CU_ASSERT_EQUAL(lr_check(cache, &check), 0);
        end(&v);
    }
}

static void check_tells_a_dead_holder_from_a_busy_one(void) {
    struct victim v;
    struct lr_check check;
    begin(&v, false);
    struct lr_cache *cache = v.fixture.one;
    struct sm_stripe *stripe = lr_stripe_at(cache, 0);
    lr_store(&stripe->lock, lr_own_word(v.fixture.two));
    CU_ASSERT_EQUAL(lr_check(cache, &check), LARDER_ETIMED_OUT);
    CU_ASSERT(check.stripes_busy == 1 && check.findings == 0);
    lr_store(&stripe->lock, lr_owner_word(5, 77)); /* a slot that nobody has */
    CU_ASSERT_EQUAL(lr_check(cache, &check), LARDER_ECORRUPT);
    CU_ASSERT(check.stripes_busy == 0 && found_by_check(&check, "locked by slot 5, generation 77, who is dead"));
    end(&v);
}

/* Nobody lives in a copy. */
static void a_lock_in_an_image_is_a_finding(void) {
    struct victim v;
    struct lr_check check;
    struct lr_cache *image;
    char file[200];
    begin(&v, false);
    snprintf(file, sizeof file, "%.150s/image", fixture_folder());
    lr_store(&lr_stripe_at(v.fixture.one, 1)->lock, lr_own_word(v.fixture.two));
    FILE *copy = fopen(file, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(copy);
    const size_t bytes = v.fixture.one->geometry.segment_bytes;
    CU_ASSERT_EQUAL(fwrite(v.fixture.one->base, 1, bytes, copy), bytes);
    fclose(copy);
    CU_ASSERT_EQUAL_FATAL(lr_cache_attach_image(file, &image, NULL), 0);
    CU_ASSERT_EQUAL(lr_check(image, &check), LARDER_ECORRUPT);
    CU_ASSERT(check.findings == 1 && found_by_check(&check, "when the image was made"));
    lr_cache_detach(image);
    end(&v);
}

/* ---- a word on its way to its other bucket ----------------------------------------------------------------------- */

struct mover {
    struct lr_view view;
    struct lr_found found;
    sm_u64 *twin; /* an empty slot of the key's other bucket */
    uint64_t number;
};

static void begin_move(struct victim *v, struct mover *mover) {
    for (mover->number = 1000000, mover->twin = NULL; mover->twin == NULL; mover->number++) {
        const uint64_t number = mover->number;
        struct lr_key key = lr_key_of(v->fixture.one, &number, 8);
        struct lr_put put = {.key = &number, .key_len = 8, .value = "moved", .value_len = 5};
        CU_ASSERT_EQUAL_FATAL(lr_put(v->fixture.one, &put), 0);
        mover->view = lr_view_of(v->fixture.one, lr_place_stripe(v->fixture.one, key.place));
        mover->found = lr_index_find(&mover->view, &key);
        CU_ASSERT_PTR_NOT_NULL_FATAL(mover->found.slot);
        const uint32_t buckets = lr_buckets(&mover->view), placing = lr_placing(key.place);
        const uint32_t both[2] = {lr_bucket_of(placing, buckets), lr_bucket_of(lr_second(placing), buckets)};
        sm_u64 *first = lr_bucket_at(&mover->view, both[0]);
        bool in_first = mover->found.slot >= first && mover->found.slot < first + SM_BUCKET_SLOTS;
        sm_u64 *other = lr_bucket_at(&mover->view, both[in_first]);
        for (unsigned i = 0; i < SM_BUCKET_SLOTS && both[0] != both[1]; i++)
            if (lr_slot_is_empty(lr_load(&other[i])))
                mover->twin = &other[i];
    }
    mover->number--;
}

static void a_move_that_a_death_cut_short_is_finished_or_has_not_happened(void) {
    static const struct {
        uint64_t old, copy; /* flags; the copy's 1: there is none */
        bool stays;
        bool at_twin;
    } states[] = {{SM_SLOT_MOVED, 1, true, false},
                  {SM_SLOT_MOVED, SM_SLOT_MOVED | SM_SLOT_DEAD, true, false},
                  {SM_SLOT_MOVED, 0, true, true},
                  {SM_SLOT_MOVED | SM_SLOT_DEAD, 0, true, true},
                  {SM_SLOT_MOVED | SM_SLOT_DEAD, SM_SLOT_MOVED | SM_SLOT_DEAD, false, false}};
    for (unsigned i = 0; i < sizeof states / sizeof *states; i++) {
        struct victim v;
        struct mover mover;
        struct lr_check check;
        begin(&v, false);
        begin_move(&v, &mover);
        struct lr_cache *cache = v.fixture.one;
        lr_store(mover.found.slot, mover.found.word | states[i].old);
        lr_store(mover.twin, states[i].copy == 1 ? 0 : mover.found.word | states[i].copy);
        repair_all(cache);
        CU_ASSERT_EQUAL(lr_check(cache, &check), 0);
        CU_ASSERT_EQUAL(lr_get(cache, &mover.number, 8, v.buf, v.cap, NULL, 0),
                        states[i].stays ? 0 : LARDER_ENOT_FOUND);
        CU_ASSERT_EQUAL(lr_slot_is_empty(lr_load(mover.twin)), !states[i].at_twin);
        CU_ASSERT_EQUAL(lr_slot_is_empty(lr_load(mover.found.slot)), states[i].at_twin || !states[i].stays);
        end(&v);
    }
}

/* Its mover stands still with the lock, in the middle: a delete must kill the word and the copy that does not count
 * yet. */
static void a_delete_kills_the_copy_that_does_not_count_yet(void) {
    for (unsigned old_stands = 0; old_stands < 2; old_stands++) {
        struct victim v;
        struct mover mover;
        struct lr_check check;
        begin(&v, false);
        begin_move(&v, &mover);
        struct lr_cache *cache = v.fixture.one;
        lr_store(mover.twin, mover.found.word | SM_SLOT_MOVED | SM_SLOT_DEAD);
        lr_store(mover.found.slot, old_stands ? mover.found.word | SM_SLOT_MOVED : 0);
        lr_store(&mover.view.stripe->lock, lr_own_word(v.fixture.two));
        CU_ASSERT_EQUAL(lr_delete(cache, &mover.number, 8), 0);
        CU_ASSERT_EQUAL(lr_load(mover.twin) & (SM_SLOT_MOVED | SM_SLOT_DEAD), SM_SLOT_DEAD);
        lr_store(&mover.view.stripe->lock, 0);
        CU_ASSERT_EQUAL(lr_get(cache, &mover.number, 8, v.buf, v.cap, NULL, 0), LARDER_ENOT_FOUND);
        repair_all(cache);
        CU_ASSERT_EQUAL(lr_check(cache, &check), 0);
        CU_ASSERT_EQUAL(lr_get(cache, &mover.number, 8, v.buf, v.cap, NULL, 0), LARDER_ENOT_FOUND);
        end(&v);
    }
}

void larder_suite_75_corrupt(void) {
    CU_pSuite suite = CU_add_suite("75_corrupt", NULL, NULL);
    CU_ADD_TEST(suite, repair_of_a_healthy_stripe_changes_nothing_that_counts);
    CU_ADD_TEST(suite, repair_finds_what_a_dead_holder_left);
    CU_ADD_TEST(suite, repair_drops_only_what_cannot_be_trusted_and_counts_it);
    CU_ADD_TEST(suite, check_sees_what_lies_in_the_wrong_region);
    CU_ADD_TEST(suite, of_two_entries_of_one_key_repair_keeps_the_newer);
    CU_ADD_TEST(suite, repair_holds_what_a_pin_names);
    CU_ADD_TEST(suite, repair_waits_for_the_bitmap_and_gives_up);
    CU_ADD_TEST(suite, check_sees_a_named_block_that_is_free_or_held);
    CU_ADD_TEST(suite, a_move_that_a_death_cut_short_is_finished_or_has_not_happened);
    CU_ADD_TEST(suite, a_delete_kills_the_copy_that_does_not_count_yet);
    CU_ADD_TEST(suite, check_names_every_ailment_and_repair_cures_it);
    CU_ADD_TEST(suite, check_tells_a_dead_holder_from_a_busy_one);
    CU_ADD_TEST(suite, a_lock_in_an_image_is_a_finding);
}
