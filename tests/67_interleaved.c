/* SPDX-License-Identifier: MIT */
/*
 * Between any two instructions: a call is interrupted at a place of our choice, others do something there, it goes on.
 *
 * Every trial begins with the same bytes (scene.h), so a loop over all instructions tries every place where a reader
 * can be overtaken, and every gap in a writer's work into which a reader or a deleter can come. What threads hit once
 * in millions of rounds (the slot word that comes back with another filling, the word that moves behind a reader's
 * back) is hit each time. Writers are also looked at after every instruction that has changed the stripe, all in one
 * go.
 */
#include "scene.h"

#if SCENE_POSSIBLE

/* ---- readers that are overtaken -----------------------------------------------------------------------------------
 */

/* key 7 between two neighbours, so that its block is taken again by what has its size. */
static void begin_reader(struct scene *s) {
    begin(s, 128u << 10, false);
    s->key = 7;
    s->other = 1000;
    for (uint64_t key = 0; key < 20; key++) {
        uint64_t version = put(s->one, key, 1);
        s->versions[1] = key == s->key ? version : s->versions[1];
    }
    keep(s);
}

/* So that the next block but one gets the eight bits that the key's block has. */
static void turn_incarnations(struct scene *s) {
    sm_u64 *word = &lr_stripe_at(s->two, 0)->incarnation;
    uint64_t wanted = find(s, s->key).head.identity & 0xffu;
    s->versions[2] = put(s->two, s->key, 2);
    lr_store(word, (lr_load(word) | 0xffu) + wanted);
}

static void come_back_with_another_filling(struct scene *s) {
    uint64_t before = find(s, s->key).word;
    turn_incarnations(s);
    s->versions[3] = put(s->two, s->key, 3);
    s->flag = ((find(s, s->key).word ^ before) & ~SM_SLOT_SOFT) == 0;
}

static void give_the_block_to_another(struct scene *s) {
    s->versions[2] = put(s->two, s->key, 2);
    put(s->two, s->other, 1);
}

static void delete_and_give_to_another(struct scene *s) {
    lr_delete(s->two, &s->key, 8);
    put(s->two, s->other, 1);
}

/* Over the block comes one that begins before it, with the old header among its payload. */
static void forge_the_header(struct scene *s) {
    const uint64_t before = s->key - 1, block = sizeof(struct sm_block) + 8 + VALUE;
    uint8_t *at = lr_data_at(s->two, 0) + find(s, s->key).head.off, forged[VALUE + sizeof(struct sm_block) + 8 + VALUE];
    memset(forged, 0xee, sizeof forged);
    memcpy(forged + VALUE, at, sizeof(struct sm_block) + 8);
    lr_delete(s->two, &s->key, 8);
    lr_delete(s->two, &before, 8);
    struct lr_put p = {.key = &s->other, .key_len = 8, .value = forged, .value_len = sizeof forged};
    lr_put(s->two, &p);
    s->flag = find(s, s->other).head.off + block == (uint64_t)(at - lr_data_at(s->two, 0));
}

static void a_get_that_is_overtaken_returns_one_whole_filling(void) {
    struct scene s;
    unsigned trials = 0, came_back = 0, forged = 0, wrong = 0;
    begin_reader(&s);
    const unsigned length = record_way(&s, get_key, NULL);
    for (unsigned k = 1; k <= length; k += STRIDE) {
        if (!interrupt(&s, get_key, k, come_back_with_another_filling))
            continue;
        trials++;
        came_back += s.flag;
        wrong += !got_filling(&s, 1) && !got_filling(&s, 3);
        interrupt(&s, get_key, k, give_the_block_to_another);
        wrong += !got_filling(&s, 1) && !got_filling(&s, 2);
        interrupt(&s, get_key, k, delete_and_give_to_another);
        wrong += s.result != LARDER_ENOT_FOUND && !got_filling(&s, 1);
        interrupt(&s, get_key, k, forge_the_header);
        forged += s.flag;
        wrong += s.result != LARDER_ENOT_FOUND && !got_filling(&s, 1);
    }
    CU_ASSERT(trials > length / 2 / STRIDE);
    CU_ASSERT(came_back == trials && forged == trials);
    CU_ASSERT_EQUAL(wrong, 0);
    end(&s);
}

/* The writer of the filling that comes back is itself in the middle of it when the reader looks. */
static struct half_put {
    struct lr_view view;
    struct lr_found old;
    struct lr_room room;
    struct lr_key key;
    struct lr_making making;
    uint64_t word, garbage[VALUE / 8];
} half;

static void fill_half(struct scene *s) {
    turn_incarnations(s);
    memset(half.garbage, 0xee, sizeof half.garbage);
    s->wrong = s->wrong || lr_stripe_lock(&half.view, s->two, 0) != 0;
    half.key = lr_key_of(s->two, &s->key, 8);
    half.old = lr_index_find(&half.view, &half.key);
    half.making = (struct lr_making){.key = &half.key,
                                     .value = half.garbage,
                                     .value_len = VALUE,
                                     .version = lr_version_draw(&half.view),
                                     .deadline_ms = UINT64_MAX};
    s->versions[3] = half.making.version;
    s->wrong = s->wrong || lr_hand_room(&half.view, LR_MAIN, lr_entry_size(&half.making), half.old.head.off,
                                        LR_ROOM_EVICT, &half.room) != 0;
    half.word = lr_entry_fill(&half.view, &half.room, &half.making);
}

static void publish_other_half(struct scene *s) {
    struct lr_head head;
    if (lr_head_read(s->two, half.view.data, half.room.off, &head))
        fill((uint64_t *)(void *)(half.view.data + half.room.off + head.key_at + head.key_len), s->key, 3);
    s->wrong = s->wrong || lr_entry_publish(&half.view, &half.old, half.word, &half.room, &half.making, true) != 0;
    lr_stripe_unlock(&half.view);
}

static void a_get_never_sees_half_a_filling_under_a_word_that_came_back(void) {
    struct scene s;
    unsigned wrong = 0, trials = 0, first = 0, last = 0;
    begin_reader(&s);
    const unsigned length = record_way(&s, get_key, NULL);
    /* Where the reader depends on what it has seen: from loading the word to the last comparison. */
    for (unsigned k = 1; k <= length; k += STRIDE) {
        uint64_t retries = lr_load(&s.one->me->counters[LR_C_retries]);
        if (!interrupt(&s, get_key, k, give_the_block_to_another) ||
            lr_load(&s.one->me->counters[LR_C_retries]) == retries)
            continue;
        first = first == 0 ? k : first;
        last = k;
    }
    CU_ASSERT(first > 2 && last > first + 20);
    for (unsigned k = first - 2; k < first + 30; k++) {
        for (unsigned again = last > k + 40 ? last - 40 : k + 1; again <= last + 2 && again <= length; again++) {
            restore(&s);
            bool both = interrupt_twice(&s, get_key, k, fill_half, again, publish_other_half);
            if ((lr_load(&lr_stripe_at(s.two, 0)->lock) & SM_LOCK_OWNER_MASK) != 0)
                publish_other_half(&s);
            if (!both)
                continue;
            trials++;
            wrong += !got_filling(&s, 1) && !got_filling(&s, 2) && !got_filling(&s, 3);
        }
    }
    if (FIXTURE_SANITIZED && trials == 0)
        fixture_skip(__func__, "a sanitizer's instructions stand in the window, and no two interruptions met in it");
    CU_ASSERT(!s.wrong && (trials > 200 || FIXTURE_SANITIZED)); /* of a window that is as narrow for either */
    CU_ASSERT_EQUAL(wrong, 0);
    end(&s);
}

static void a_pin_that_is_overtaken_holds_one_whole_filling(void) {
    static const deed deeds[] = {come_back_with_another_filling, give_the_block_to_another, delete_and_give_to_another,
                                 forge_the_header};
    struct scene s;
    unsigned wrong = 0, trials = 0;
    begin_reader(&s);
    const unsigned length = record_way(&s, pin_key_only, NULL);
    for (unsigned flagged = 0; flagged < 2; flagged++) {
        for (unsigned d = 0; d < 4; d++) {
            for (unsigned k = 1; k <= length; k += STRIDE) {
                uint64_t held[VALUE / 8];
                restore(&s);
                if (flagged && lr_pin(s.two, &s.key, 8, &s.other_pin) == 0) /* leaves the flag behind */
                    lr_unpin(s.two, &s.other_pin);
                if (!interrupt_twice(&s, pin_key, k, deeds[d], 0, NULL)) {
                    lr_unpin(s.one, &s.pin);
                    continue;
                }
                trials++;
                if (s.result != 0) {
                    wrong += s.result != LARDER_ENOT_FOUND || d < 2;
                    continue;
                }
                memcpy(held, s.pin.value, VALUE);
                bool right = false;
                for (uint64_t n = 1; n < 4; n++)
                    right = right || (is_filling(held, s.key, n) && s.pin.item.version == s.versions[n]);
                wrong += !right;
                /* Whatever comes now, it stays. */
                for (uint64_t n = 4; n < 8; n++) {
                    put(s.two, s.key, n);
                    put(s.two, s.other, n);
                }
                wrong += memcmp(held, s.pin.value, VALUE) != 0;
                lr_unpin(s.one, &s.pin);
            }
        }
    }
    CU_ASSERT(trials > length / STRIDE);
    CU_ASSERT_EQUAL(wrong, 0);
    end(&s);
}

/* ---- words that move ------------------------------------------------------------------------------------------------
 */

/* The next number from *next on whose key has this first bucket and this second one. */
static uint64_t number_in(struct scene *s, uint64_t *next, uint32_t first, uint32_t second) {
    struct lr_view view = lr_view_of(s->two, 0);
    for (;; (*next)++) {
        struct lr_key key = lr_key_of(s->two, next, 8);
        uint32_t placing = lr_placing(key.place);
        if (lr_bucket_of(placing, lr_buckets(&view)) == first &&
            lr_bucket_of(lr_second(placing), lr_buckets(&view)) == second)
            return (*next)++;
    }
}

/*
 * `key` stands in its second bucket, the last one, though its first has room again; that bucket and the one before
 * it are full of words that can go nowhere. `other` belongs to these two: when it comes, `key` moves down to its first.
 */
static void begin_move(struct scene *s, bool replicating) {
    begin(s, 128u << 10, replicating);
    struct lr_view view = lr_view_of(s->two, 0);
    const uint32_t high = lr_buckets(&view) - 1, full = high - 1, low = 2;
    uint64_t next = 1, filler = 0;
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++)
        put(s->one, filler = number_in(s, &next, low, low), 1);
    s->key = number_in(s, &next, low, high);
    s->versions[1] = put(s->one, s->key, 1);
    lr_set_replicating(s->one, false);
    lr_delete(s->one, &filler, 8);
    lr_set_replicating(s->one, replicating);
    for (unsigned i = 1; i < SM_BUCKET_SLOTS; i++)
        put(s->one, number_in(s, &next, high, high), 1);
    for (unsigned i = 0; i < SM_BUCKET_SLOTS; i++)
        put(s->one, number_in(s, &next, full, full), 1);
    s->other = number_in(s, &next, high, full);
    keep(s);
}

/* When `other` comes, the index gets a bucket, and `key` moves there. */
static void begin_split(struct scene *s, bool replicating) {
    begin(s, 128u << 10, replicating);
    sm_u64 *slots[2000];
    for (uint64_t next = 0; next < 2000; next++) {
        for (uint64_t i = 0; i < next; i++)
            slots[i] = find(s, i).slot;
        uint64_t buckets = lr_load(&lr_stripe_at(s->two, 0)->split) & UINT32_MAX;
        keep(s);
        put(s->one, next, 1);
        for (uint64_t i = 0; i < next; i++) {
            if ((lr_load(&lr_stripe_at(s->two, 0)->split) & UINT32_MAX) == buckets || find(s, i).slot == slots[i])
                continue;
            restore(s);
            s->key = i;
            s->versions[1] = find(s, i).head.version;
            s->other = next;
            return;
        }
    }
    CU_FAIL_FATAL("the index does not grow");
}

static void (*const movers[])(struct scene *, bool) = {begin_move, begin_split};

static void get_by_hash(struct scene *s) {
    uint8_t buf[256];
    struct lr_entry entry;
    s->result = lr_entry_by_hash(s->one, lr_cluster_hash(&s->key, 8), buf, sizeof buf, &entry);
}

static void put_other_by_two(struct scene *s) {
    put(s->two, s->other, 1);
}

static void a_key_that_moves_is_found_wherever_the_reader_is(void) {
    static const deed calls[] = {get_key, get_by_hash, pin_key_only};
    for (unsigned m = 0; m < 2; m++) {
        for (unsigned c = 0; c < 3; c++) {
            struct scene s;
            unsigned lost = 0, moved = 0, trials = 0;
            movers[m](&s, false);
            const sm_u64 *slot = find(&s, s.key).slot;
            const unsigned length = record_way(&s, calls[c], NULL);
            for (unsigned k = 1; k <= length; k += STRIDE) {
                if (!interrupt(&s, calls[c], k, put_other_by_two))
                    continue;
                trials++;
                lost += s.result != 0;
                moved += find(&s, s.key).slot != slot;
            }
            CU_ASSERT(trials > 10);
            CU_ASSERT(moved > trials / 2); /* a pin may stand in the way of the border */
            CU_ASSERT_EQUAL(lost, 0);
            end(&s);
        }
    }
}

static void a_walk_starts_over_when_a_word_moves_behind_it(void) {
    struct scene s;
    struct lr_entry entry;
    bool seen = false, moved = false;
    begin_move(&s, false);
    const struct lr_view view = lr_view_of(s.one, 0);
    struct lr_scan scan = lr_scan_all(s.one);
    while (lr_scan_next(s.one, &scan, s.got, sizeof s.got, &entry) == 0) {
        seen = seen || entry.hash == lr_cluster_hash(&s.key, 8);
        const bool passed = scan.position >= lr_walk_end(2, lr_buckets(&view));
        if (passed && !moved)
            put_other_by_two(&s);
        moved = moved || passed;
    }
    CU_ASSERT(moved && seen);
    end(&s);
}

static bool is_absent(struct scene *s) {
    return lr_get(s->two, &s->key, 8, s->got, sizeof s->got, NULL, LR_PEEK) == LARDER_ENOT_FOUND;
}

static bool is_tombstone(struct scene *s) {
    uint8_t buf[256];
    struct lr_entry entry = {0};
    return lr_entry_by_hash(s->two, lr_cluster_hash(&s->key, 8), buf, sizeof buf, &entry) == 0 && entry.tombstone;
}

static void delete_by_two(struct scene *s) {
    lr_delete(s->two, &s->key, 8);
    s->wrong = s->wrong || !is_absent(s);
}

static void a_delete_finds_its_key_in_the_middle_of_a_move(void) {
    for (unsigned m = 0; m < 4; m += FIXTURE_SANITIZED ? 3 : 1) {
        struct scene s;
        unsigned back = 0, lost = 0, trials = 0;
        const bool replicating = m >= 2;
        movers[m % 2](&s, replicating);
        const unsigned length = record_way(&s, put_other, NULL);
        for (unsigned k = 1; k <= length && back + lost == 0; k += FIXTURE_SANITIZED ? 5 * STRIDE : STRIDE) {
            if (!interrupt(&s, put_other, k, delete_by_two))
                continue;
            trials++;
            put(s.two, s.other, 2); /* settles the note */
            back += !is_absent(&s);
            lost += replicating && !is_tombstone(&s);
        }
        end(&s);
        CU_ASSERT_FATAL(back == 0 && lost == 0);
        CU_ASSERT(trials > (FIXTURE_SANITIZED ? 5 : 50) && !s.wrong);
    }
}

/* What a peer sends is older than what is there, and stays so when that is deleted meanwhile. */
static void apply_the_first(struct scene *s) {
    static const char text[] = "of long ago";
    const struct lr_change change = {.key = &s->key,
                                     .key_len = 8,
                                     .value = text,
                                     .value_len = sizeof text,
                                     .version = s->versions[1],
                                     .deadline_ms = UINT64_MAX};
    s->result = lr_apply_put(s->one, &change, 0);
}

static void a_delete_meanwhile_lets_nothing_older_in(void) {
    struct scene s;
    unsigned trials = 0;
    begin(&s, 64u << 10, true);
    s.key = 5;
    put(s.one, s.key, 1);
    s.versions[1] = find(&s, s.key).head.version;
    put(s.one, s.key, 2);
    keep(&s);
    const unsigned length = record_way(&s, apply_the_first, NULL);
    for (unsigned k = 1; k <= length && !s.wrong; k += STRIDE) {
        if (!interrupt(&s, apply_the_first, k, delete_by_two))
            continue;
        trials++;
        s.wrong = s.wrong || !is_absent(&s);
    }
    end(&s);
    CU_ASSERT_FATAL(!s.wrong);
    CU_ASSERT(trials > (FIXTURE_SANITIZED ? 5 : 50));
}

/* Two holds the stripe while one deletes. */
static void delete_without_the_lock(struct scene *s) {
    s->wrong = s->wrong || lr_stripe_lock(&half.view, s->two, 0) != 0;
    s->flag = true;
    lr_delete(s->one, &s->key, 8);
    s->flag = false;
    lr_stripe_unlock(&half.view);
}

static void move_by_two(struct scene *s) {
    struct lr_key other = lr_key_of(s->two, &s->other, 8);
    if (!s->flag)
        return;
    lr_index_fit(&half.view, 0);
    lr_index_prepare(&half.view, other.place);
    s->moves++;
}

static void a_word_that_moves_does_not_escape_a_delete(void) {
    for (unsigned m = 0; m < 2; m++) {
        struct scene s;
        unsigned back = 0;
        movers[m](&s, false);
        const unsigned length = record_way(&s, delete_without_the_lock, NULL);
        for (unsigned k = 1; k <= length; k += STRIDE)
            back += interrupt(&s, delete_without_the_lock, k, move_by_two) && !is_absent(&s);
        CU_ASSERT(s.moves > 10 && !s.wrong);
        CU_ASSERT_EQUAL(back, 0);
        end(&s);
    }
}

static void look_for_a_note(struct scene *s) {
    struct sm_stripe *stripe = lr_stripe_at(s->two, 0);
    bool noted = false;
    if (!s->flag || !is_absent(s))
        return;
    for (unsigned i = 0; i < SM_NOTES; i++)
        noted = noted || ((lr_load(&stripe->notes[i].owner) & SM_NOTE_VALID) != 0 &&
                          lr_load(&stripe->notes[i].hash) == lr_cluster_hash(&s->key, 8));
    s->wrong = s->wrong || !noted;
    s->moves++;
}

static void a_delete_is_noted_before_anybody_can_miss_its_key(void) {
    struct scene s;
    begin_move(&s, true);
    look_at_each_change(&s, delete_without_the_lock, look_for_a_note);
    CU_ASSERT(s.moves > 0 && !s.wrong);
    put(s.two, s.other, 2);
    CU_ASSERT(is_tombstone(&s));
    end(&s);
}

/* ---- writers that are watched
 * ---------------------------------------------------------------------------------------- */

static void look_at_all_keys(struct scene *s) {
    uint64_t value[VALUE / 8];
    struct lr_item item;
    s->moves++;
    for (uint64_t key = 0; key < s->keys; key++) {
        int result = lr_get(s->two, &key, 8, value, sizeof value, &item, LR_PEEK);
        bool right = result == 0 ? is_filling(value, key, 1) || (key == s->key && is_filling(value, key, 2))
                                 : result == LARDER_ENOT_FOUND && s->may_miss;
        struct lr_entry entry;
        uint8_t buf[256];
        right =
            right && (lr_entry_by_hash(s->two, lr_cluster_hash(&key, 8), buf, sizeof buf, &entry) == 0 || s->may_miss);
        /* A hint never comes before what it speaks of. */
        if (key == s->key && lr_load(&lr_stripe_at(s->two, 0)->ring_head) != s->hints)
            right = right && is_filling(value, key, 2);
        s->wrong = s->wrong || !right;
    }
}

static void begin_full(struct scene *s, bool replicating) {
    begin(s, 64u << 10, replicating);
    s->may_miss = true;
    s->keys = 1200;
    for (uint64_t key = 0; key < s->keys; key++) {
        put(s->one, key, 1);
        for (uint64_t hot = 1; hot < key && key % 50 == 0; hot += 3)
            lr_get(s->two, &hot, 8, s->got, sizeof s->got, NULL, 0);
    }
    s->key = s->keys - 2;
    s->other = s->keys + 1;
    s->hints = lr_load(&lr_stripe_at(s->two, 0)->ring_head);
    keep(s);
}

static void put_some(struct scene *s) {
    for (uint64_t i = 0; i < (FIXTURE_SANITIZED ? 2 : 5); i++)
        put(s->one, s->other + i, 1);
}

static void readers_find_every_key_whatever_a_writer_is_at(void) {
    static const deed calls[] = {put_key, put_some};
    struct scene s;
    for (unsigned c = 0; c < (FIXTURE_SANITIZED ? 1 : 2); c++) {
        begin_full(&s, c == 0);
        s.hints = c == 0 ? s.hints : 0;
        look_at_each_change(&s, calls[c], look_at_all_keys);
        CU_ASSERT(s.moves > 10 && !s.wrong);
        end(&s);
    }
    begin_split(&s, false);
    s.keys = s.other;
    look_at_each_change(&s, put_other, look_at_all_keys);
    CU_ASSERT(s.moves > 10 && !s.wrong);
    end(&s);
}

static void pin_by_two(struct scene *s) {
    if (lr_pin(s->two, &s->key, 8, &s->pin) != 0)
        return;
    s->moves++;
    memcpy(s->got, s->pin.value, VALUE);
    s->wrong = s->wrong || (!is_filling(s->got, s->key, 1) && !is_filling(s->got, s->key, 2));
}

static void delete_key(struct scene *s) {
    lr_delete(s->one, &s->key, 8);
}

static void put_large(struct scene *s) {
    uint8_t value[200] = {0};
    struct lr_put p = {.key = &s->other, .key_len = 8, .value = value, .value_len = sizeof value};
    lr_put(s->one, &p);
}

/* The key of the block that the hand looks at next, if that is a live one and the gap is too small for another. */
static bool is_at_hand(struct scene *s, uint64_t *key) {
    struct lr_view view = lr_view_of(s->two, 0);
    struct lr_span gap = lr_gap_of(&view, LR_MAIN);
    struct lr_head head;
    if (gap.end >= s->two->geometry.stripe_bytes || lr_load(&view.stripe->hole_bytes) >= SM_MIN_BLOCK ||
        !lr_head_read(s->two, view.data, gap.end, &head) || lr_block_state(head.word) != SM_BLOCK_LIVE)
        return false;
    memcpy(key, view.data + head.off + head.key_at, 8);
    return true;
}

/* The hand meets the key's block next, whose word has a flag that nobody stands behind; the gap is too small for it, or
 * it fits and will slide. */
static void begin_at_the_hand(struct scene *s, bool fits) {
    begin_full(s, false);
    for (bool found = false; !found; s->other++) {
        put(s->one, s->other, 1);
        found = is_at_hand(s, &s->key);
        if (found && fits) {
            lr_delete(s->one, &s->key, 8);
            found = is_at_hand(s, &s->key);
        }
    }
    /* Read so often that a pin need not change the word. */
    for (unsigned i = 0; i < 4; i++)
        if (lr_pin(s->two, &s->key, 8, &s->pin) == 0)
            lr_unpin(s->two, &s->pin);
    CU_ASSERT((find(s, s->key).word & SM_SLOT_PINNED) != 0);
    s->other++;
    keep(s);
}

static void a_pin_holds_whatever_a_writer_is_at(void) {
    static const deed calls[] = {put_key, delete_key, put_other, put_large};
    for (unsigned c = 0; c < 4; c++) {
        struct scene s;
        unsigned trials = 0;
        if (c < 2)
            begin_reader(&s);
        else
            begin_at_the_hand(&s, c == 3);
        const unsigned length = record_way(&s, calls[c], NULL);
        for (unsigned k = 1; k <= length && !s.wrong; k += STRIDE) {
            s.pin.value = NULL;
            trials += interrupt(&s, calls[c], k, pin_by_two);
            if (s.pin.value != NULL)
                lr_delete(s.one, &s.key, 8);
            for (uint64_t n = 0; n < 60 && s.pin.value != NULL; n++)
                put(s.one, s.other + 1000 + n, 1);
            s.wrong = s.wrong || (s.pin.value != NULL && memcmp(s.pin.value, s.got, VALUE) != 0);
            lr_unpin(s.two, &s.pin);
        }
        end(&s);
        CU_ASSERT_FATAL(!s.wrong);
        CU_ASSERT(trials > 30 && s.moves > 10);
    }
}

/* ---- the feed
 * ---------------------------------------------------------------------------------------------------------- */

static struct lr_hint hints[8];
static uint64_t position;

static void emit(struct scene *s, uint64_t count) {
    struct lr_view view = lr_view_of(s->two, 0);
    for (uint64_t i = 0; i < count; i++)
        lr_feed_emit(&view, lr_load(&view.stripe->ring_head), 7);
}

static void read_hints(struct scene *s) {
    s->result = lr_feed_read(s->one, 0, &position, hints, 8);
}

static void overrun(struct scene *s) {
    emit(s, s->two->geometry.ring_len - 4);
}

static void a_feed_that_is_overrun_while_it_is_read_says_so(void) {
    struct scene s;
    unsigned trials = 0, wrong = 0, lost = 0;
    begin(&s, 64u << 10, true);
    keep(&s);
    emit(&s, 8);
    keep(&s);
    position = 0;
    const unsigned length = record_way(&s, read_hints, NULL);
    for (unsigned k = 1; k <= length; k += STRIDE) {
        uint64_t from = position = lr_feed_head(s.one, 0);
        emit(&s, 8);
        if (!interrupt_twice(&s, read_hints, k, overrun, 0, NULL))
            continue;
        trials++;
        lost += s.result == LARDER_ELOST;
        wrong += s.result < 0 && s.result != LARDER_ELOST;
        for (int i = 0; i < s.result; i++)
            wrong += hints[i].hash != from + (uint64_t)i;
    }
    CU_ASSERT(trials > 0 && lost > 0);
    CU_ASSERT_EQUAL(wrong, 0);
    /* The row at the head may be half-written: it is nobody's. */
    position = lr_feed_head(s.one, 0);
    emit(&s, s.two->geometry.ring_len);
    read_hints(&s);
    CU_ASSERT_EQUAL(s.result, LARDER_ELOST);
    end(&s);
}

void larder_suite_67_interleaved(void) {
    CU_pSuite suite = CU_add_suite("67_interleaved", NULL, NULL);
    CU_ADD_TEST(suite, a_get_that_is_overtaken_returns_one_whole_filling);
    CU_ADD_TEST(suite, a_get_never_sees_half_a_filling_under_a_word_that_came_back);
    CU_ADD_TEST(suite, a_pin_that_is_overtaken_holds_one_whole_filling);
    CU_ADD_TEST(suite, a_key_that_moves_is_found_wherever_the_reader_is);
    CU_ADD_TEST(suite, a_walk_starts_over_when_a_word_moves_behind_it);
    CU_ADD_TEST(suite, a_delete_finds_its_key_in_the_middle_of_a_move);
    CU_ADD_TEST(suite, a_word_that_moves_does_not_escape_a_delete);
    CU_ADD_TEST(suite, a_delete_meanwhile_lets_nothing_older_in);
    CU_ADD_TEST(suite, a_delete_is_noted_before_anybody_can_miss_its_key);
    CU_ADD_TEST(suite, readers_find_every_key_whatever_a_writer_is_at);
    CU_ADD_TEST(suite, a_pin_holds_whatever_a_writer_is_at);
    CU_ADD_TEST(suite, a_feed_that_is_overrun_while_it_is_read_says_so);
}

#else

void larder_suite_67_interleaved(void) {
    CU_add_suite("67_interleaved", NULL, NULL); /* ThreadSanitizer has the signals in its own hands */
}

#endif
