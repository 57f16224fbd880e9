/* SPDX-License-Identifier: MIT */
/*
 * Readers: how to read what others may be changing, without a lock and without a store?
 *
 *   slot word (acquire) -> header -> slot word again -> key, value -> fence -> slot word, incarnation, split word
 * unchanged?
 *
 * Only then does the outcome count, whatever it is: hit, other key, expired or miss. Otherwise the read is repeated, a
 * few times, and then done once under the lock. Garbage met on the way is harmless: every length is bounded by
 * lr_head_read before use.
 *
 * Why the slot word is read twice before the value: the eight bits of incarnation in it repeat. Should the same block
 * have been filled anew for the same key under the same eight bits, then either the second look finds the word gone, or
 * it finds the new one, and then the filling is complete and ordered before everything we read from there on. The last
 * look compares the whole 32-bit incarnation. A header that was read before the second look may be a mixture: if it
 * does not fit the word, it is read once more before that counts as damage.
 *
 * A pinned get names the block in a hazard of its own first, then makes sure that the word stands there with its
 * `pinned` flag: from there on the block stays as it is (hazard.c). Nothing here stores into the arena: a reader that
 * was preempted after its check would hit another value. That goes for buckets too, since the index shrinks (index.c):
 * only where it never does is recency a plain store. And what was found in a bucket counts only if the split word is
 * the one that led there: every merge has changed it, before the bucket's memory became anything else.
 */
#include "bucket.h"
#include "stripe.h"

/*
 * The path of a get is one piece of code, and nothing that it knows has an address that it tells anybody: so the
 * compiler keeps it in registers, and the processor can begin the next get while this one waits for memory. What is
 * rare starts over from the key in a function of its own.
 */
#define HOT static inline __attribute__((always_inline))
#define COLD __attribute__((noinline, cold))
#define LIKELY(condition) __builtin_expect(!!(condition), 1)

#define TRIES 8u
#define BATCH 16u

enum look { LOOK_HIT, LOOK_MISS, LOOK_AGAIN };

/* Where a key's word may stand: its two buckets, and the slots of both whose tag fits. */
struct aim {
    uint64_t split; /* as it was before the buckets were read */
    const sm_u64 *bucket[2];
    unsigned mask;
};

struct look_up {
    uint64_t split; /* by which its bucket was found */
    sm_u64 *slot;
    uint64_t word;
    struct lr_head head;
};

HOT bool same_word(uint64_t a, uint64_t b) {
    return ((a ^ b) & ~SM_SLOT_SOFT) == 0;
}

/* Whether all that was read since the slot word belongs together. */
HOT bool settled(const struct lr_view *view, const struct look_up *look) {
    /* ORDER(reuse) observe: if a byte that we copied was stored by a later owner of the block, the word or the
     * incarnation differs now. */
    atomic_thread_fence(memory_order_acquire);
    struct sm_block *block = lr_block_at(view->data, look->head.off);
    return same_word(lr_load(look->slot), look->word) && lr_load(&block->identity) == look->head.identity &&
           lr_load(&block->word) == look->head.word && lr_load(&view->stripe->split) == look->split;
}

/* Finds the key's buckets. False: the stripe's split word is damaged. */
HOT bool aim_at(const struct lr_view *view, uint64_t place, struct aim *aim) {
    /* ORDER(split) observe: words that a finished split has moved. */
    aim->split = atomic_load_explicit(&view->stripe->split, memory_order_acquire);
    const uint32_t buckets = (uint32_t)aim->split;
    if (!LIKELY(buckets - 1u < view->cache->geometry.most_buckets - 1u)) {
        lr_count(view->cache, LR_C_corrupt_seen);
        return false;
    }
    aim->bucket[0] = lr_bucket_at(view, lr_bucket_of(lr_placing(place), buckets));
    aim->bucket[1] = lr_bucket_at(view, lr_bucket_of(lr_second(lr_placing(place)), buckets));
    return true;
}

/* Reads both buckets at once. */
HOT void match(uint64_t place, struct aim *aim) {
    const uint64_t tag = lr_place_tag(place);
    aim->mask = lr_bucket_tagged(aim->bucket[0], tag) | lr_bucket_tagged(aim->bucket[1], tag) << SM_BUCKET_SLOTS;
}

/* Chosen by arithmetic: a branch would be guessed wrong every other time, an index would send the addresses through
 * memory. */
HOT sm_u64 *candidate(const struct aim *aim) {
    const unsigned i = (unsigned)__builtin_ctz(aim->mask);
    const uintptr_t first = (uintptr_t)aim->bucket[0], second = (uintptr_t)aim->bucket[1];
    const uintptr_t bucket = first ^ ((first ^ second) & (0 - (uintptr_t)(i / SM_BUCKET_SLOTS)));
    return (sm_u64 *)(void *)(bucket + i % SM_BUCKET_SLOTS * sizeof(sm_u64));
}

/* ---- the straight way, and all others ------------------------------------------------------------------------- */

#define SHAPE_MASK                                                                                                     \
    ((UINT64_C(3) << SM_BLOCK_STATE_SHIFT) | ((uint64_t)SM_PART_TOMB << SM_BLOCK_PARTS_SHIFT) |                        \
     (UINT64_C(0xffff) << SM_BLOCK_KEY_SHIFT))
#define IDENTITY_MASK ((UINT64_C(0xffffffff) << 32) | UINT64_C(0xff))

/* No tag fits: is that certain? */
HOT enum look glance_absent(const struct lr_view *view, const struct aim *aim) {
    /* A word that went from the bucket that was read last to the one that was read first has changed the count. */
    atomic_thread_fence(memory_order_acquire);
    bool whole = lr_load(&view->stripe->split) == aim->split && (aim->split & SM_SPLITTING) == 0;
    return LIKELY(whole) ? LOOK_MISS : LOOK_AGAIN;
}

/* The header of the block at `off`, whatever it may be. False: there is none there. */
HOT bool glance(const struct lr_view *view, uint64_t off, struct lr_head *head) {
    const uint64_t limit = view->cache->geometry.stripe_bytes - SM_BUCKET_BYTES;
    if (!LIKELY(off - SM_BUCKET_BYTES <= limit - sizeof(struct sm_block)))
        return false;
    struct sm_block *block = lr_block_at(view->data, off);
    /* Most items lie across two lines or three: the others come along with the header's. */
    __builtin_prefetch((uint8_t *)block + SM_LINE);
    __builtin_prefetch((uint8_t *)block + 2 * SM_LINE);
    head->off = off;
    head->word = lr_load(&block->word);
    head->identity = lr_load(&block->identity);
    head->version = lr_load(&block->version);
    head->parts = (unsigned)(head->word >> SM_BLOCK_PARTS_SHIFT) & (SM_PART_EXPIRY | SM_PART_FLAGS);
    return true;
}

/*
 * What most gets need, and no more: is the block, whose header was glanced at, a live item with this key? Else
 * look_up() will tell what it is. `held`: a hazard of ours holds the block, so nobody changes what is read here.
 * Otherwise the slot is looked at a second time, and true is to be confirmed by settled() when all is read.
 * `parts` is head->parts: for the compiler, which leaves out what items without any do not have.
 */
HOT bool recognise(const struct lr_view *view, const struct lr_key *key, unsigned parts, bool held,
                   struct look_up *look) {
    struct lr_head *head = &look->head;
    const uint64_t shape =
        ((uint64_t)SM_BLOCK_LIVE << SM_BLOCK_STATE_SHIFT) | ((uint64_t)(key->len - 1) << SM_BLOCK_KEY_SHIFT);
    const uint64_t identity =
        ((uint64_t)lr_placing(key->place) << 32) | ((look->word & SM_SLOT_INC_MASK) >> SM_SLOT_INC_SHIFT);
    uint64_t odd = ((head->word ^ shape) & SHAPE_MASK) | ((head->identity ^ identity) & IDENTITY_MASK);
    atomic_thread_fence(memory_order_acquire);
    if (!held)
        odd |= ((lr_load(look->slot) ^ look->word) & ~SM_SLOT_SOFT) | (look->word & SM_SLOT_DEAD);
    const uint64_t size = lr_block_size(head->word);
    head->size = (uint32_t)size;
    head->parts = parts;
    head->tombstone = false;
    head->key_len = (uint32_t)key->len;
    head->key_at = (uint32_t)sizeof(struct sm_block) + (parts & SM_PART_EXPIRY) * 8u + (parts & SM_PART_FLAGS) * 2u;
    const uint64_t used = head->key_at + key->len + ((head->word >> SM_BLOCK_PAD_SHIFT) & 7u);
    head->value_len = (uint32_t)(size - used);
    return LIKELY(odd == 0 && used <= size && size <= view->cache->geometry.stripe_bytes - head->off) &&
           LIKELY(lr_bytes_equal(view->data + head->off + head->key_at, key->bytes, key->len));
}

bool lr_reader_is_damage(const struct lr_view *view, sm_u64 *slot, uint64_t word) {
    struct lr_head head;
    if (lr_head_read(view->cache, view->data, lr_slot_off(word), &head) && lr_head_matches(&head, word))
        return false;
    atomic_thread_fence(memory_order_acquire);
    return same_word(lr_load(slot), word);
}

/* Whether the entry is this key's. */
static bool is_of(const struct lr_view *view, const struct lr_key *key, const struct lr_head *head) {
    if (head->tombstone)
        return lr_head_tomb_hash(view->data, head) == key->hash;
    return head->key_len == key->len && lr_bytes_equal(view->data + head->off + head->key_at, key->bytes, key->len);
}

/* One candidate slot. LOOK_MISS: not this key, and that is certain. */
static enum look examine(const struct lr_view *view, const struct lr_key *key, sm_u64 *slot, struct look_up *look) {
    /* ORDER(entry) observe: the block's bytes. */
    uint64_t word = atomic_load_explicit(slot, memory_order_acquire);
    if (lr_slot_is_empty(word) || (word & SM_SLOT_DEAD))
        return LOOK_MISS;
    struct lr_head *head = &look->head;
    bool sane = lr_head_read(view->cache, view->data, lr_slot_off(word), head);
    atomic_thread_fence(memory_order_acquire);
    if (!(same_word(atomic_load_explicit(slot, memory_order_acquire), word)))
        return LOOK_AGAIN;
    if (!(sane && lr_head_matches(head, word))) {
        /* Or bytes that were a bucket when the split word was read. */
        if (!lr_reader_is_damage(view, slot, word) || lr_load(&view->stripe->split) != look->split)
            return LOOK_AGAIN;
        lr_count(view->cache, LR_C_corrupt_seen);
        return LOOK_MISS;
    }
    look->slot = slot;
    look->word = word;
    if ((uint32_t)(head->identity >> 32) != lr_placing(key->place))
        return LOOK_MISS;
    if (is_of(view, key, head))
        return LOOK_HIT;
    return settled(view, look) ? LOOK_MISS : LOOK_AGAIN;
}

/* While bucket number `buckets` is being made: each of the key's buckets, and the new one after it where words of it
 * may have gone. */
static enum look search_splitting(const struct lr_view *view, const struct lr_key *key, uint32_t buckets,
                                  struct look_up *look) {
    const uint32_t placing[2] = {lr_placing(key->place), lr_second(lr_placing(key->place))};
    for (unsigned i = 0; i < 4; i++) {
        uint32_t bucket = lr_bucket_of(placing[i / 2], buckets + i % 2);
        sm_u64 *slots = lr_bucket_at(view, bucket);
        for (unsigned mask = lr_bucket_tagged(slots, lr_place_tag(key->place)); mask != 0; mask &= mask - 1) {
            enum look outcome = examine(view, key, &slots[__builtin_ctz(mask)], look);
            if (outcome != LOOK_MISS)
                return outcome;
        }
        atomic_thread_fence(memory_order_acquire);
    }
    return LOOK_MISS;
}

/* Every candidate, and whatever it may be. */
COLD static enum look look_up(const struct lr_view *view, const struct lr_key *key, struct look_up *look) {
    struct aim aim;
    enum look outcome = LOOK_MISS;
    if (!aim_at(view, key->place, &aim))
        return LOOK_MISS;
    look->split = aim.split;
    match(key->place, &aim);
    for (; aim.mask != 0 && outcome == LOOK_MISS; aim.mask &= aim.mask - 1)
        outcome = examine(view, key, candidate(&aim), look);
    if (outcome == LOOK_MISS && (aim.split & SM_SPLITTING))
        outcome = search_splitting(view, key, (uint32_t)aim.split, look);
    atomic_thread_fence(memory_order_acquire);
    return outcome == LOOK_MISS && lr_load(&view->stripe->split) != aim.split ? LOOK_AGAIN : outcome;
}

HOT void fill_item(const struct lr_view *view, const struct lr_head *head, struct lr_item *item) {
    item->version = head->version;
    item->value_len = head->value_len;
    item->deadline_ms = lr_head_deadline(view->data, head);
    item->flags = lr_head_flags(view->data, head);
}

/* A plain store of one byte that nobody waits for (layout.h). Where the index may shrink it would hit whatever is there
 * by then, perhaps much later: there the word must be the one that was seen. */
HOT void use(const struct lr_view *view, const struct look_up *look) {
    const unsigned recency = lr_recency_used(view, look->word);
    if (recency == lr_slot_recency(look->word) || view->cache->read_only)
        return;
    uint64_t word = look->word;
    const uint64_t used = (word & ~SM_SLOT_RECENCY_MASK) | (uint64_t)recency << SM_SLOT_RECENCY_SHIFT;
    if ((uint64_t)((const uint8_t *)look->slot - view->data) >= view->cache->geometry.kept_bytes)
        atomic_compare_exchange_strong_explicit(look->slot, &word, used, memory_order_relaxed, memory_order_relaxed);
    else
        atomic_store_explicit((_Atomic uint8_t *)(void *)look->slot + SM_SLOT_RECENCY_BYTE, (uint8_t)recency,
                              memory_order_relaxed);
}

HOT bool is_absent(const struct lr_view *view, const struct lr_head *head) {
    return head->tombstone || lr_head_gone(view->cache, view->data, head);
}

/* ---- copy-out ----------------------------------------------------------------------------------------------- */

HOT int outcome_of(struct lr_cache *cache, int result, const struct lr_item *item, unsigned flags) {
    if (flags & LR_PEEK)
        return result;
    if (result == LARDER_ENOT_FOUND) {
        lr_count(cache, LR_C_misses);
    } else if (result == 0) {
        lr_count(cache, LR_C_hits);
        lr_count_n(cache, LR_C_hit_bytes, item->value_len);
    }
    return result;
}

/* After all tries: once with the holder kept out. */
static int read_locked(struct lr_cache *cache, const struct lr_key *key, void *buf, size_t cap, struct lr_item *item) {
    struct lr_view view;
    if (cache->read_only)
        return LARDER_EBUSY;
    int result = lr_stripe_lock(&view, cache, lr_place_stripe(cache, key->place));
    if (result != 0)
        return result;
    lr_count(cache, LR_C_locked_reads);
    struct lr_found found = lr_index_find(&view, key);
    if (found.slot == NULL || is_absent(&view, &found.head)) {
        result = LARDER_ENOT_FOUND;
    } else {
        fill_item(&view, &found.head, item);
        if (found.head.value_len > cap)
            result = LARDER_ETOO_SMALL;
        else
            lr_bytes_out(buf, view.data + found.head.off + found.head.key_at + found.head.key_len,
                         found.head.value_len);
    }
    lr_stripe_unlock(&view);
    return result;
}

/* What was found, copied out. False: it changed meanwhile. */
HOT bool take(const struct lr_view *view, const struct look_up *look, void *buf, size_t cap, struct lr_item *item,
              unsigned flags, int *result) {
    fill_item(view, &look->head, item);
    if (!LIKELY(!is_absent(view, &look->head)))
        *result = LARDER_ENOT_FOUND;
    else if (!LIKELY(look->head.value_len <= cap))
        *result = LARDER_ETOO_SMALL;
    else {
        *result = 0;
        lr_bytes_out(buf, view->data + look->head.off + look->head.key_at + look->head.key_len, look->head.value_len);
    }
    if (!LIKELY(settled(view, look)))
        return false;
    if (*result == 0 && !(flags & LR_PEEK))
        use(view, look);
    return true;
}

/* A glance was not enough: some more looks, then one under the lock. */
COLD static int read_again(struct lr_cache *cache, const void *bytes, size_t len, void *buf, size_t cap,
                           struct lr_item *item, unsigned flags) {
    struct lr_key key = lr_key_of(cache, bytes, len);
    struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, key.place));
    lr_count(cache, LR_C_retries);
    for (unsigned attempt = 0; attempt < TRIES; attempt++) {
        struct look_up look;
        int result;
        enum look outcome = look_up(&view, &key, &look);
        if (outcome == LOOK_MISS)
            return LARDER_ENOT_FOUND;
        if (outcome == LOOK_HIT && take(&view, &look, buf, cap, item, flags, &result))
            return result;
        lr_count(cache, LR_C_retries);
        __builtin_ia32_pause();
    }
    return read_locked(cache, &key, buf, cap, item);
}

/* The block that the key's first candidate names. False: that did not suffice. */
HOT bool read_block(const struct lr_view *view, const struct lr_key *key, struct look_up *look, void *buf, size_t cap,
                    struct lr_item *item, unsigned flags, int *result) {
    if (!LIKELY(glance(view, lr_slot_off(look->word), &look->head)))
        return false;
    if (look->head.parts == 0)
        return recognise(view, key, 0, false, look) && take(view, look, buf, cap, item, flags, result);
    return recognise(view, key, look->head.parts, false, look) && take(view, look, buf, cap, item, flags, result);
}

HOT int read_where(const struct lr_view *view, const struct lr_key *key, const struct aim *aim, void *buf, size_t cap,
                   struct lr_item *item, unsigned flags) {
    struct look_up look;
    int result;
    if (aim->mask == 0) {
        if (LIKELY(glance_absent(view, aim) == LOOK_MISS))
            return LARDER_ENOT_FOUND;
    } else {
        look.split = aim->split;
        look.slot = candidate(aim);
        /* ORDER(entry) observe: the block's bytes. */
        look.word = atomic_load_explicit(look.slot, memory_order_acquire);
        if (LIKELY(read_block(view, key, &look, buf, cap, item, flags, &result)))
            return result;
    }
    return read_again(view->cache, key->bytes, key->len, buf, cap, item, flags);
}

int lr_get(struct lr_cache *cache, const void *key, size_t key_len, void *buf, size_t cap, struct lr_item *item,
           unsigned flags) {
    struct lr_item local;
    struct aim aim;
    int error = lr_enter_read(cache);
    if (error != 0)
        return error;
    if (key_len == 0 || key_len > SM_MAX_KEY)
        return LARDER_EINVALID;
    struct lr_key hashed = lr_key_of(cache, key, key_len);
    struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, hashed.place));
    item = item ? item : &local;
    int result = LARDER_ENOT_FOUND;
    if (LIKELY(aim_at(&view, hashed.place, &aim))) {
        match(hashed.place, &aim);
        result = read_where(&view, &hashed, &aim, buf, cap, item, flags);
    }
    return outcome_of(cache, result, item, flags);
}

/* ---- many at once --------------------------------------------------------------------------------------------- */

struct one_of_many {
    struct lr_key key;
    struct lr_view view;
    struct aim aim;
    bool aimed;
};

/*
 * The cache misses of a batch overlap: all buckets are asked for, then all blocks, then each key is read with what was
 * found so far.
 */
static size_t read_batch(struct lr_cache *cache, struct lr_read *rows, size_t count, unsigned flags) {
    struct one_of_many batch[BATCH];
    size_t hits = 0;
    for (size_t i = 0; i < count; i++) {
        struct one_of_many *one = &batch[i];
        one->aimed = false;
        rows[i].result = LARDER_EINVALID;
        if (rows[i].key_len == 0 || rows[i].key_len > SM_MAX_KEY)
            continue;
        rows[i].result = LARDER_ENOT_FOUND;
        one->key = lr_key_of(cache, rows[i].key, rows[i].key_len);
        one->view = lr_view_of(cache, lr_place_stripe(cache, one->key.place));
        one->aimed = aim_at(&one->view, one->key.place, &one->aim);
        if (one->aimed) {
            __builtin_prefetch((const void *)one->aim.bucket[0]);
            __builtin_prefetch((const void *)one->aim.bucket[1]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct one_of_many *one = &batch[i];
        if (!one->aimed)
            continue;
        match(one->key.place, &one->aim);
        if (one->aim.mask != 0) {
            const uint8_t *block = one->view.data + lr_slot_off(lr_load(candidate(&one->aim)));
            __builtin_prefetch(block);
            __builtin_prefetch(block + SM_LINE);
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct lr_read *row = &rows[i];
        struct one_of_many *one = &batch[i];
        if (one->aimed)
            row->result = read_where(&one->view, &one->key, &one->aim, row->buf, row->cap, &row->item, flags);
        if (row->result != LARDER_EINVALID)
            outcome_of(cache, row->result, &row->item, flags);
        hits += row->result == 0;
    }
    return hits;
}

size_t lr_get_many(struct lr_cache *cache, struct lr_read *rows, size_t count, unsigned flags) {
    size_t hits = 0;
    int error = lr_enter_read(cache);
    for (size_t i = 0; error != 0 && i < count; i++)
        rows[i].result = error;
    for (size_t from = 0; error == 0 && from < count; from += BATCH)
        hits += read_batch(cache, rows + from, count - from < BATCH ? count - from : BATCH, flags);
    return hits;
}

/* ---- deleting behind a lock holder who does not answer ---------------------------------------------------------- */

/* Sets `dead` in the word that was looked up. False: it is another word now, or does not stand still. */
static bool kill_word(const struct look_up *look) {
    uint64_t word = look->word;
    for (unsigned tries = 0; tries < LR_WORD_TRIES && same_word(word, look->word); tries++) {
        LR_CRASH_POINT("kill, before");
        /* COMMIT POINT: before, readers find the value; after, the key is deleted, and a put that had begun is
         * dropped. */
        if (atomic_compare_exchange_strong_explicit(look->slot, &word, word | SM_SLOT_DEAD, memory_order_seq_cst,
                                                    memory_order_relaxed)) {
            LR_CRASH_POINT("kill, after");
            return true;
        }
    }
    return false;
}

/* A copy of the key's word that does not count yet is never revealed: whoever moves it finds it killed. */
static bool kill_hidden(const struct lr_view *view, const struct lr_key *key, uint64_t version) {
    const uint64_t split = atomic_load_explicit(&view->stripe->split, memory_order_acquire);
    const uint32_t placing[2] = {lr_placing(key->place), lr_second(lr_placing(key->place))}, buckets = lr_buckets(view);
    bool killed = false;
    for (unsigned i = 0; i < 4; i += split & SM_SPLITTING ? 1 : 2) {
        sm_u64 *slots = lr_bucket_at(view, lr_bucket_of(placing[i / 2], buckets + i % 2));
        for (unsigned mask = lr_bucket_tagged(slots, lr_place_tag(key->place)); mask != 0; mask &= mask - 1) {
            sm_u64 *slot = &slots[__builtin_ctz(mask)];
            uint64_t word = atomic_load_explicit(slot, memory_order_acquire);
            struct lr_head head;
            if (lr_slot_is_hidden(word) && lr_head_read(view->cache, view->data, lr_slot_off(word), &head) &&
                lr_head_matches(&head, word) && is_of(view, key, &head) && head.version < version &&
                atomic_compare_exchange_strong_explicit(slot, &word, word & ~SM_SLOT_MOVED, memory_order_seq_cst,
                                                        memory_order_relaxed))
                killed = true;
        }
    }
    return killed;
}

int lr_reader_kill(struct lr_cache *cache, const struct lr_key *key, uint64_t version) {
    struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, key->place));
    int result = LARDER_ENOT_FOUND;
    /* A word that is being moved stands in two buckets: after each kill we look again, and whoever moves it looks for
     * our flag (index.c). */
    for (unsigned attempt = 0; attempt < 8 * TRIES; attempt++) {
        struct look_up look;
        if (kill_hidden(&view, key, version))
            result = 0;
        enum look outcome = look_up(&view, key, &look);
        if (outcome == LOOK_MISS)
            return result;
        if (outcome == LOOK_AGAIN)
            continue;
        bool absent = is_absent(&view, &look.head);
        if (!settled(&view, &look))
            continue;
        if (absent || look.head.version >= version)
            return result;
        if (kill_word(&look))
            result = 0;
        /* ORDER(moved) observe: the flag stands before we look whether the word has a copy. */
        atomic_thread_fence(memory_order_seq_cst);
    }
    lr_count(cache, LR_C_busy);
    return LARDER_EBUSY;
}

/* ---- pinned ------------------------------------------------------------------------------------------------- */

/*
 * Takes a free hazard of ours and names the block in it, both by one locked instruction, which is also the full fence
 * that must stand between the hazard and the look at the slot word (fasten). False: all are taken.
 */
HOT bool claim_hazard(struct lr_cache *cache, uint64_t named, uint32_t *hazard) {
    struct sm_participant *me = cache->me;
    for (uint32_t i = 0; i < SM_PINS; i++) {
        uint64_t none = 0;
        if (lr_load(&me->hazards[i]) != none)
            continue;
        /* Before the hazard, and never taken back while the handle lives: whoever sees the hazard looks for it. */
        if ((lr_load(&me->pin_summary) >> i & 1u) == 0)
            atomic_fetch_or_explicit(&me->pin_summary, UINT64_C(1) << i, memory_order_seq_cst);
        /* Fails when another thread of this handle was faster. */
        if (atomic_compare_exchange_strong_explicit(&me->hazards[i], &none, named, memory_order_seq_cst,
                                                    memory_order_relaxed)) {
            *hazard = i;
            return true;
        }
    }
    return false;
}

/* The loads of whoever read the value stand before this store: no barrier, no locked instruction. */
static void free_hazard(struct lr_cache *cache, uint32_t hazard) {
    atomic_store_explicit(&cache->me->hazards[hazard], 0, memory_order_release);
}

/* With the block in our hazard: makes sure that whoever takes the word out from now on sees that. `seen` becomes the
 * word as it is now. False: it is another one, does not stand still (LR_WORD_TRIES), or may be no word at all, for its
 * bucket is none any more. */
HOT bool fasten(const struct lr_view *view, uint64_t split, sm_u64 *slot, uint64_t *seen) {
    if (!LIKELY(lr_load(&view->stripe->split) == split))
        return false;
    /* ORDER(hazard) publish: our hazard, claimed by a locked instruction, before we look whether the word still stands
     * there with the flag that makes writers look for hazards. */
    uint64_t word = atomic_load_explicit(slot, memory_order_seq_cst);
    for (unsigned tries = 0; tries < LR_WORD_TRIES; tries++) {
        if (!LIKELY(same_word(word, *seen) && (word & SM_SLOT_MOVED) == 0))
            return false;
        if (LIKELY(word & SM_SLOT_PINNED) ||
            atomic_compare_exchange_strong_explicit(slot, &word, word | SM_SLOT_PINNED, memory_order_seq_cst,
                                                    memory_order_seq_cst)) {
            *seen = word | SM_SLOT_PINNED;
            return true;
        }
    }
    return false;
}

/* By the stripe's number, as the hot path tells nobody where its view is. */
COLD static bool fits(struct lr_cache *cache, uint32_t stripe, uint32_t hazard) {
    const struct lr_view view = lr_view_of(cache, stripe);
    return lr_hazard_fits(&view, hazard);
}

/* The block is held, `named` by the hazard: it may stay so, if it is not too much. */
HOT int keep_pinned(const struct lr_view *view, const struct look_up *look, uint32_t hazard, uint64_t named,
                    struct lr_pin *pin) {
    struct lr_cache *cache = view->cache;
    const uint64_t size = (uint64_t)look->head.size / SM_GRANULE << SM_HAZARD_PLACE_BITS;
    atomic_store_explicit(&cache->me->hazards[hazard], size | named, memory_order_release);
    if (!LIKELY(lr_hazard_is_small(cache, hazard, look->head.size)) && !fits(cache, view->number, hazard)) {
        free_hazard(cache, hazard);
        return LARDER_ENO_PINS;
    }
    fill_item(view, &look->head, &pin->item);
    pin->value = view->data + look->head.off + look->head.key_at + look->head.key_len;
    pin->generation = cache->generation;
    pin->hazard = hazard;
    use(view, look);
    return 0;
}

static int pin_found(const struct lr_view *view, const struct look_up *look, struct lr_pin *pin) {
    struct lr_cache *cache = view->cache;
    const uint64_t named = lr_hazard_of(cache, view->data, look->head.off);
    uint64_t word = look->word;
    uint32_t hazard;
    if (!claim_hazard(cache, named, &hazard))
        return LARDER_ENO_PINS;
    /* The header was read before: it may be that of an earlier filling under the same word. */
    if (fasten(view, look->split, look->slot, &word) && settled(view, look))
        return keep_pinned(view, look, hazard, named, pin);
    free_hazard(cache, hazard);
    return LARDER_EBUSY;
}

static int pin_locked(struct lr_cache *cache, const struct lr_key *key, struct lr_pin *pin) {
    struct lr_view view;
    int result = lr_stripe_lock(&view, cache, lr_place_stripe(cache, key->place));
    if (result != 0)
        return result;
    lr_count(cache, LR_C_locked_reads);
    struct lr_found found = lr_index_find(&view, key);
    struct look_up look = {
        .split = lr_load(&view.stripe->split), .slot = found.slot, .word = found.word, .head = found.head};
    result = found.slot == NULL || is_absent(&view, &found.head) ? LARDER_ENOT_FOUND : pin_found(&view, &look, pin);
    lr_stripe_unlock(&view);
    return result;
}

/* A glance was not enough. */
COLD static int pin_again(struct lr_cache *cache, const void *bytes, size_t len, struct lr_pin *pin) {
    struct lr_key key = lr_key_of(cache, bytes, len);
    struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, key.place));
    for (unsigned attempt = 0; attempt < TRIES; attempt++) {
        struct look_up look;
        enum look outcome = look_up(&view, &key, &look);
        if (outcome == LOOK_MISS)
            return LARDER_ENOT_FOUND;
        if (outcome == LOOK_HIT) {
            if (is_absent(&view, &look.head)) {
                if (settled(&view, &look))
                    return LARDER_ENOT_FOUND;
            } else {
                int result = pin_found(&view, &look, pin);
                if (result != LARDER_EBUSY)
                    return result;
            }
        }
        lr_count(cache, LR_C_retries);
        __builtin_ia32_pause();
    }
    return pin_locked(cache, &key, pin);
}

HOT bool keep_recognised(const struct lr_view *view, const struct lr_key *key, unsigned parts, struct look_up *look,
                         uint32_t hazard, uint64_t named, struct lr_pin *pin, int *result) {
    if (!LIKELY(recognise(view, key, parts, true, look) && lr_load(&view->stripe->split) == look->split &&
                !is_absent(view, &look->head)))
        return false;
    *result = keep_pinned(view, look, hazard, named, pin);
    return true;
}

/* The block that the key's first candidate names is held, so what is read of it needs no further proof. False: that
 * did not suffice. */
HOT bool pin_block(const struct lr_view *view, const struct lr_key *key, struct look_up *look, uint32_t hazard,
                   uint64_t named, struct lr_pin *pin, int *result) {
    if (!LIKELY(glance(view, lr_slot_off(look->word), &look->head)))
        return false;
    if (look->head.parts == 0)
        return keep_recognised(view, key, 0, look, hazard, named, pin, result);
    return keep_recognised(view, key, look->head.parts, look, hazard, named, pin, result);
}

/*
 * The block is held as soon as a slot word with the key's tag is known, and read afterwards. The locked instructions
 * wait for all that came before and keep back all that comes after: done here, they leave the miss of this block and
 * that of the next key's bucket to be on their way together, as they are in copies. A block that turns out to be
 * another key's was held for a moment, which harms nobody.
 */
HOT int pin_key(struct lr_cache *cache, const void *bytes, size_t len, struct lr_pin *pin) {
    const struct lr_key key = lr_key_of(cache, bytes, len);
    const struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, key.place));
    struct aim aim;
    struct look_up look;
    uint32_t hazard;
    int result;
    if (!LIKELY(aim_at(&view, key.place, &aim)))
        return LARDER_ENOT_FOUND;
    match(key.place, &aim);
    if (aim.mask == 0)
        return glance_absent(&view, &aim) == LOOK_MISS ? LARDER_ENOT_FOUND : pin_again(cache, bytes, len, pin);
    look.split = aim.split;
    look.slot = candidate(&aim);
    look.word = lr_load(look.slot);
    const uint64_t off = lr_slot_off(look.word), named = lr_hazard_of(cache, view.data, off);
    __builtin_prefetch(view.data + off);
    if (LIKELY((look.word & SM_SLOT_DEAD) == 0 && off != 0 && claim_hazard(cache, named, &hazard))) {
        if (LIKELY(fasten(&view, aim.split, look.slot, &look.word) &&
                   pin_block(&view, &key, &look, hazard, named, pin, &result)))
            return result;
        free_hazard(cache, hazard);
    }
    return pin_again(cache, bytes, len, pin);
}

int lr_pin(struct lr_cache *cache, const void *key, size_t key_len, struct lr_pin *pin) {
    int result = lr_enter(cache);
    pin->value = NULL;
    if (result != 0)
        return result;
    if (key_len == 0 || key_len > SM_MAX_KEY)
        return LARDER_EINVALID;
    result = pin_key(cache, key, key_len, pin);
    if (result == 0 || result == LARDER_ENO_PINS)
        lr_count(cache, result == 0 ? LR_C_pins : LR_C_pin_refusals);
    return outcome_of(cache, result, &pin->item, 0);
}

void lr_unpin(struct lr_cache *cache, struct lr_pin *pin) {
    if (pin->value == NULL)
        return;
    pin->value = NULL;
    /* A forked child has not joined yet, or has another generation: the pin is its parent's. */
    if (atomic_load_explicit(&cache->self->joined, memory_order_relaxed) == 0 || pin->generation != cache->generation)
        return;
    free_hazard(cache, pin->hazard);
}
