/* SPDX-License-Identifier: MIT */
/*
 * The index shrinks while somebody reads there: what do readers, pinners and walkers find in the midst of a merge, and
 * what do they do to the bytes that were their bucket when they come back to it, and now look almost like one?
 *
 * Calls are interrupted at each of their instructions (scene.h). In there the index is emptied, merged and given back,
 * and the arena filled with values up to the last byte; afterwards every value must be what it was. Merging puts are
 * looked at after every instruction that changes the stripe.
 */
#include "scene.h"

#if SCENE_POSSIBLE

#define STRIPE (UINT64_C(256) << 10)
#define SMALL_KEYS 2500u
#define LARGE_KEYS 90u
#define LARGE_BYTES 3000u
#define LARGE_FIRST (UINT64_C(1) << 20) /* number of the first large one */
#define EVERY 16u                       /* so many puts, one of which shrinks the index */

static uint8_t large[LARGE_BYTES], got[LARGE_BYTES];
static uint64_t lure; /* what large values are made of */

static uint32_t bucket_of(struct scene *s, uint64_t key) {
    struct lr_view view = lr_view_of(s->two, 0);
    const struct lr_found found = find(s, key);
    for (uint32_t bucket = 0; found.slot != NULL && bucket < lr_buckets(&view); bucket++)
        if (found.slot >= lr_bucket_at(&view, bucket) && found.slot < lr_bucket_at(&view, bucket) + SM_BUCKET_SLOTS)
            return bucket;
    return UINT32_MAX;
}

static void make_large(uint64_t n) {
    for (unsigned i = 0; i < LARGE_BYTES / 8; i++)
        memcpy(large + 8 * i, i == 0 ? &n : &lure, 8);
}

/* All but the key go, the index shrinks, and large values take the room. */
static void empty_and_fill(struct scene *s) {
    for (uint64_t key = 0; key < SMALL_KEYS; key++)
        if (key != s->key)
            lr_delete(s->two, &key, 8);
    for (uint64_t n = 0; n < LARGE_KEYS; n++) {
        const uint64_t key = LARGE_FIRST + n;
        make_large(n);
        struct lr_put p = {.key = &key, .key_len = 8, .value = large, .value_len = sizeof large};
        s->wrong = s->wrong || lr_put(s->two, &p) != 0;
    }
}

static void judge_large(struct scene *s) {
    for (uint64_t n = 0; n < LARGE_KEYS; n++) {
        const uint64_t key = LARGE_FIRST + n;
        make_large(n);
        if (lr_get(s->two, &key, 8, got, sizeof got, NULL, LR_PEEK) == 0)
            s->wrong = s->wrong || memcmp(got, large, sizeof got) != 0;
    }
}

/* An index of which most may be given back, and a key that stands there. */
static void begin_high(struct scene *s) {
    begin(s, STRIPE, false);
    for (uint64_t key = 0; key < SMALL_KEYS; key++)
        put(s->one, key, 1);
    struct lr_view view = lr_view_of(s->two, 0);
    while (bucket_of(s, s->key) < lr_buckets(&view) - 30 || bucket_of(s, s->key) == UINT32_MAX)
        s->key++;
    s->versions[1] = find(s, s->key).head.version;
    /* Almost its slot word: of the next incarnation. */
    lure = find(s, s->key).word ^ (UINT64_C(1) << SM_SLOT_INC_SHIFT);
    keep(s);
    /* Where its word stands now there will be a large value. */
    const uint64_t at = (uint64_t)((uint8_t *)find(s, s->key).slot - view.data);
    empty_and_fill(s);
    CU_ASSERT(at > s->one->geometry.kept_bytes && at > lr_load(&view.stripe->border_off));
    CU_ASSERT(!s->wrong);
    restore(s);
}

static void entry_of_key(struct scene *s) {
    struct lr_entry entry;
    s->result = lr_entry_by_hash(s->one, lr_cluster_hash(&s->key, 8), got, sizeof got, &entry);
    s->wrong = s->wrong || (s->result == 0 && !is_filling((const uint8_t *)entry.key + 8, s->key, 1));
}

static void a_bucket_that_has_become_a_value_is_left_alone(void) {
    static const deed calls[] = {get_key, pin_key_only, entry_of_key};
    for (unsigned c = 0; c < 3; c++) {
        struct scene s;
        unsigned trials = 0;
        begin_high(&s);
        const unsigned length = record_way(&s, calls[c], NULL);
        for (unsigned k = 1; k <= length && !s.wrong; k += STRIDE) {
            if (!interrupt(&s, calls[c], k, empty_and_fill))
                continue;
            trials++;
            judge_large(&s);
            const bool there = find(&s, s.key).slot != NULL;
            s.wrong = s.wrong || (s.result != 0 && (there || s.result != LARDER_ENOT_FOUND));
            s.wrong = s.wrong || (c == 0 && s.result == 0 && !got_filling(&s, 1));
        }
        const uint64_t corrupt = lr_load(&s.one->me->counters[LR_C_corrupt_seen]);
        end(&s);
        CU_ASSERT_FATAL(!s.wrong);
        CU_ASSERT(trials > length / 3 / STRIDE);
        CU_ASSERT_EQUAL(corrupt, 0);
    }
}

/* ---- in the midst of merges ----------------------------------------------------------------------------------------
 */

#define MERGES 3u
#define SEGMENTS 20u

/* The next put may merge some buckets; the first `s->keys` keys stay. Whether it does? A bucket whose words fit neither
 * into its partner nor elsewhere ends it. */
static bool is_merging(struct scene *s) {
    struct lr_view view = lr_view_of(s->two, 0);
    const uint32_t buckets = lr_buckets(&view);
    put(s->one, s->other, 1);
    const bool merged = lr_buckets(&view) + MERGES <= buckets;
    restore(s);
    return merged;
}

static void try_merging(struct scene *s) {
    begin(s, STRIPE, false);
    for (uint64_t key = 0; key < SMALL_KEYS; key++)
        put(s->one, key, 1);
    struct lr_view view = lr_view_of(s->two, 0);
    s->keys = SMALL_KEYS;
    while (lr_load(&view.stripe->items) * 4 > (lr_buckets(&view) - 5) * 21) {
        s->keys--;
        lr_delete(s->one, &s->keys, 8);
    }
    s->other = SMALL_KEYS;
    lr_store(&view.stripe->incarnation, (lr_load(&view.stripe->incarnation) | (EVERY - 1)) + 1);
    keep(s);
}

/* In a segment where the next put merges. */
static void begin_merging(struct scene *s) {
    try_merging(s);
    for (unsigned i = 1; i < SEGMENTS && !is_merging(s); i++) {
        end(s);
        try_merging(s);
    }
}

/* The next key from this on that may stand in `here` and `there` only, or in neither. */
static uint64_t key_beside(struct scene *s, uint64_t key, bool within, uint32_t here, uint32_t there) {
    const struct lr_view view = lr_view_of(s->one, 0);
    for (;; key++) {
        const uint32_t placing = lr_placing(lr_place(s->one, lr_hash_key(&key, 8)));
        const uint32_t a = lr_bucket_of(placing, lr_buckets(&view)),
                       b = lr_bucket_of(lr_second(placing), lr_buckets(&view));
        const bool both = (a == here && b == there) || (a == there && b == here);
        if (within ? both : a != here && a != there && b != here && b != there)
            return key;
    }
}

/* A put of such a key that does not shrink the index. */
static uint64_t put_beside(struct scene *s, uint64_t from, bool within, uint32_t here, uint32_t there, size_t len) {
    struct lr_view view = lr_view_of(s->one, 0);
    const uint64_t key = key_beside(s, from, within, here, there);
    struct lr_put p = {.key = &key, .key_len = 8, .value = large, .value_len = len};
    lr_store(&view.stripe->incarnation, (lr_load(&view.stripe->incarnation) | (EVERY - 1)) + 2);
    s->wrong = s->wrong || lr_put(s->one, &p) != 0;
    return key;
}

static uint64_t free_bytes(const struct lr_view *view) {
    const struct lr_span gap = lr_gap_of(view, LR_MAIN);
    return gap.end - gap.start + lr_load(&view->stripe->hole_bytes);
}

/* An index of many buckets, in which nothing is left. */
static void begin_emptied(struct scene *s) {
    begin(s, STRIPE, false);
    for (uint64_t key = 0; key < SMALL_KEYS; key++)
        put(s->one, key, 1);
    for (uint64_t key = 0; key < SMALL_KEYS; key++)
        lr_delete(s->one, &key, 8);
}

/*
 * The two buckets that the next put would make one are full of keys that have no others, and all of these but `s->key`
 * are still to be told, so that only that one may go for it. Returns the buckets.
 */
static uint32_t begin_crowded(struct scene *s, bool full) {
    uint32_t epoch;
    uint64_t head, next = LARGE_FIRST;
    begin_emptied(s);
    lr_set_replicating(s->one, true);
    struct lr_view view = lr_view_of(s->one, 0);
    const uint32_t buckets = lr_buckets(&view), last = buckets - 1, partner = lr_split_partner(last);
    s->key = next = put_beside(s, next, true, last, partner, 100);
    CU_ASSERT_EQUAL(lr_epoch_begin(s->one, 0, &epoch, &head), 0);
    lr_epoch_acked(s->one, 0, epoch);
    for (unsigned i = 1; i < 2 * SM_BUCKET_SLOTS; i++)
        next = put_beside(s, next + 1, true, last, partner, 100);
    while (full && free_bytes(&view) >= (STRIPE - lr_load(&view.stripe->border_off)) / 17 && !s->wrong)
        next = put_beside(s, next + 1, false, last, partner, 900);
    CU_ASSERT_FATAL(!s->wrong && lr_buckets(&view) == buckets && find(s, s->key).slot != NULL);
    CU_ASSERT_EQUAL(lr_load(&view.stripe->counters[LR_S_index_evictions]), 0);
    lr_store(&view.stripe->incarnation, (lr_load(&view.stripe->incarnation) | (EVERY - 1)) + 1);
    return buckets;
}

/* Full: the merge evicts the key that the put replaces, and waits all the same. Not full: it waits. */
static void a_merge_that_waits_takes_nothing_that_has_room(void) {
    for (unsigned full = 0; full < 2; full++) {
        struct scene s;
        const uint32_t buckets = begin_crowded(&s, full != 0);
        struct lr_view view = lr_view_of(s.one, 0);
        put(s.one, full != 0 ? s.key : LARGE_FIRST - 1, 2);
        CU_ASSERT_EQUAL(lr_load(&view.stripe->counters[LR_S_index_evictions]), full);
        CU_ASSERT_EQUAL(lr_buckets(&view), buckets);
        CU_ASSERT_EQUAL(lr_get(s.two, &s.key, 8, got, sizeof got, NULL, 0), 0);
        CU_ASSERT(full == 0 || is_filling(got, s.key, 2));
        fixture_check(s.one);
        keep(&s);
        end(&s);
    }
}

/* Those whose words may be on their way, and some others. */
static void find_all(struct scene *s) {
    for (uint64_t key = s->moves++ % 8; key < s->keys; key += 8) {
        uint64_t value[VALUE / 8];
        struct lr_entry entry;
        s->wrong =
            s->wrong || lr_get(s->two, &key, 8, value, sizeof value, NULL, LR_PEEK) != 0 || !is_filling(value, key, 1);
        s->wrong = s->wrong || lr_entry_by_hash(s->two, lr_cluster_hash(&key, 8), got, sizeof got, &entry) != 0;
    }
}

/* A walk sees all that stays. At entry `at` of it the other handle merges. False: it had fewer entries. */
static bool walk(struct scene *s, struct lr_cache *cache, uint64_t at, deed act) {
    static bool seen[SMALL_KEYS + 1];
    struct lr_scan scan = lr_scan_all(cache);
    struct lr_entry entry;
    uint64_t entries = 0, count = 0;
    memset(seen, 0, sizeof seen);
    for (int result; (result = lr_scan_next(cache, &scan, got, sizeof got, &entry)) != LARDER_ENOT_FOUND;) {
        uint64_t key;
        memcpy(&key, entry.key, sizeof key);
        s->wrong = s->wrong || result != 0 || !is_filling(entry.value, key, 1);
        count += key < s->keys && !seen[key];
        seen[key < SMALL_KEYS ? key : SMALL_KEYS] = true;
        if (entries++ == at)
            act(s);
    }
    s->wrong = s->wrong || count != s->keys;
    return entries > at;
}

static void find_and_walk(struct scene *s) {
    find_all(s);
    if (s->moves % 4 == 0)
        walk(s, s->two, UINT64_MAX, NULL);
}

static void every_key_is_found_and_seen_whatever_a_merge_is_at(void) {
    struct scene s;
    begin_merging(&s);
    struct lr_view view = lr_view_of(s.two, 0);
    const uint32_t buckets = lr_buckets(&view);
    look_at_each_change(&s, put_other, find_and_walk);
    CU_ASSERT(s.moves > 30 && lr_buckets(&view) + MERGES <= buckets);
    CU_ASSERT(!s.wrong);
    end(&s);
}

/* Merges, and then splits again. */
static void merge_by_two(struct scene *s) {
    put(s->two, s->other, 1);
}

static void merge_and_split_by_two(struct scene *s) {
    struct lr_view view = lr_view_of(s->two, 0);
    const uint32_t buckets = lr_buckets(&view);
    put(s->two, s->other, 1);
    for (uint64_t key = s->keys; key < SMALL_KEYS && lr_buckets(&view) <= buckets; key++)
        put(s->two, key, 1);
}

static void a_walk_misses_nothing_when_buckets_go_behind_and_before_it(void) {
    static const deed acts[] = {merge_by_two, merge_and_split_by_two};
    /* Where keys stand differs from segment to segment: not in each does a merge move one that matters. */
    for (unsigned round = 0; round < (FIXTURE_SANITIZED ? 1 : 2); round++) {
        struct scene s;
        begin_merging(&s);
        for (unsigned a = 0; a < 2; a++) {
            uint64_t at = 0;
            do {
                restore(&s);
                at += (FIXTURE_SANITIZED ? 5 : 1) + a;
            } while (walk(&s, s.one, at, acts[a]) && !s.wrong);
            CU_ASSERT(at >= s.keys || s.wrong);
        }
        end(&s);
        CU_ASSERT_FATAL(!s.wrong);
    }
}

#define CROWD (2 * SM_BUCKET_SLOTS)
static uint64_t crowd[CROWD];

/* The two buckets that the next put would make one are full of keys whose others stand in the bucket that walks visit
 * first. It is empty. */
static void begin_downwards(struct scene *s) {
    uint64_t next = LARGE_FIRST, passed[CROWD];
    unsigned count = 0, others = 0;
    begin_emptied(s);
    struct lr_view view = lr_view_of(s->one, 0);
    const uint32_t last = lr_buckets(&view) - 1, homes[] = {last, lr_split_partner(last)};
    CU_ASSERT_FATAL(homes[1] != 0);
    while (count < CROWD && others < CROWD && !s->wrong) {
        const uint32_t home = homes[count / SM_BUCKET_SLOTS];
        next = put_beside(s, next + 1, true, home, 0, 100);
        if (bucket_of(s, next) == home)
            crowd[count++] = next;
        else
            passed[others++] = next;
    }
    while (others > 0)
        lr_delete(s->one, &passed[--others], 8);
    do
        s->other = next = key_beside(s, next + 1, false, homes[0], homes[1]);
    while (key_beside(s, next, false, 0, 0) != next);
    CU_ASSERT_FATAL(!s->wrong && count == CROWD && lr_buckets(&view) == last + 1);
    lr_store(&view.stripe->incarnation, (lr_load(&view.stripe->incarnation) | (EVERY - 1)) + 1);
    keep(s);
}

static void find_crowd(struct scene *s) {
    for (unsigned i = 0; i < CROWD; i++)
        s->wrong = s->wrong || lr_get(s->two, &crowd[i], 8, got, sizeof got, NULL, LR_PEEK) != 0;
    s->moves++;
}

/* A walk sees all of the crowd. At entry `at` of it the other handle merges. False: it had fewer entries. */
static bool walk_crowd(struct scene *s, uint64_t at) {
    struct lr_scan scan = lr_scan_all(s->one);
    struct lr_entry entry;
    uint64_t entries = 0;
    bool seen[CROWD] = {false};
    for (int result; (result = lr_scan_next(s->one, &scan, got, sizeof got, &entry)) != LARDER_ENOT_FOUND;) {
        s->wrong = s->wrong || result != 0;
        for (unsigned i = 0; i < CROWD; i++)
            seen[i] = seen[i] || memcmp(entry.key, &crowd[i], 8) == 0;
        if (entries++ == at)
            merge_by_two(s);
    }
    for (unsigned i = 0; i < CROWD; i++)
        s->wrong = s->wrong || !seen[i];
    return entries > at;
}

/* Words that have room only where walks have been go there, and nobody misses them. */
static void what_fits_only_where_walks_have_been_goes_there(void) {
    struct scene s;
    uint64_t at = 0;
    begin_downwards(&s);
    struct lr_view view = lr_view_of(s.two, 0);
    const uint32_t buckets = lr_buckets(&view);
    look_at_each_change(&s, put_other, find_crowd);
    CU_ASSERT(s.moves > 30 && lr_buckets(&view) + MERGES <= buckets);
    CU_ASSERT_EQUAL(lr_load(&view.stripe->counters[LR_S_index_evictions]), 0);
    find_crowd(&s);
    fixture_check(s.one);
    do
        restore(&s);
    while (walk_crowd(&s, at++) && !s.wrong);
    CU_ASSERT(at > CROWD || s.wrong);
    CU_ASSERT(!s.wrong);
    end(&s);
}

void larder_suite_69_shrinking(void) {
    CU_pSuite suite = CU_add_suite("69_shrinking", NULL, NULL);
    CU_ADD_TEST(suite, a_bucket_that_has_become_a_value_is_left_alone);
    CU_ADD_TEST(suite, a_merge_that_waits_takes_nothing_that_has_room);
    CU_ADD_TEST(suite, every_key_is_found_and_seen_whatever_a_merge_is_at);
    CU_ADD_TEST(suite, a_walk_misses_nothing_when_buckets_go_behind_and_before_it);
    CU_ADD_TEST(suite, what_fits_only_where_walks_have_been_goes_there);
}

#else

void larder_suite_69_shrinking(void) {
    CU_add_suite("69_shrinking", NULL, NULL); /* ThreadSanitizer has the signals in its own hands */
}
#endif
