/* SPDX-License-Identifier: MIT */
/*
 * What applications ask for: put, delete, touch, increment, flush. Each is a story under one stripe's lock; reader.c
 * has the gets.
 *
 * The life of a put: hash the key, lock its stripe -> draw a version -> see what is there and whether the condition
 * holds -> find room, evicting if need be -> fill a block that nobody can reach -> publish it by one CAS of the slot
 * word -> free what it replaced -> leave a hint for the sidecar -> unlock.
 *
 * A fill is a put of what was read from its source (a database) after a miss, and the source may have changed since. So
 * the reader takes a *mark* first: a version, and the number of the stripe's last filling. The fill is refused if the
 * key's entry is a later filling, or one may have been and gone (marks_void), whoever made it: a put here, or a change
 * on another host. Otherwise it is stored with the version of the mark, since that is how new it is: a change that was
 * made elsewhere after the mark, and arrives after the fill, is newer. Only in the place of a change that some peer has
 * yet to hear of it counts as older (store_fill).
 */
#include "stripe.h"

#include <errno.h>
#include <stdlib.h>

/* One put in so many also sweeps a bucket, and looks after held blocks: what is over goes soon, and also where no
 * sidecar sweeps. */
#define SWEEP_EVERY 2u
#define HELD_EVERY 16u

/* A flush is ahead of all clocks by this, in versions: more than draws rise until it counts, if the millisecond in
 * which it was drawn has not gone by. But not where the last one is ahead of the wall clock by more than FLUSH_MOST_MS:
 * flushes in a loop must not run away from it. */
#define FLUSH_AHEAD (UINT64_C(2) << SM_VERSION_MS_SHIFT)
#define FLUSH_MOST_MS 6u
#define FLUSH_TRIES 16u

uint64_t lr_cluster_hash(const void *key, size_t key_len) {
    return lr_hash_key(key, key_len);
}

uint64_t lr_version_unix_ms(uint64_t version) {
    return (version >> SM_VERSION_MS_SHIFT) + SM_VERSION_EPOCH_MS;
}

uint64_t lr_max_value(const struct lr_cache *cache, size_t key_len) {
    /* With both optional parts, so that the answer does not depend on them. */
    uint64_t fixed = sizeof(struct sm_block) + 12u + key_len;
    return cache->geometry.max_block > fixed ? cache->geometry.max_block - fixed : 0;
}

static uint64_t deadline_of(const struct lr_cache *cache, uint64_t ttl_ms) {
    if (ttl_ms == 0)
        return UINT64_MAX;
    uint64_t now = lr_now_ms(cache);
    return ttl_ms < UINT64_MAX - now ? now + ttl_ms : UINT64_MAX - 1;
}

/* What the caller sees: not tombstones, not what has expired or was flushed. */
static bool is_there(struct lr_view *view, const struct lr_found *found) {
    return found->slot != NULL && !found->head.tombstone && !lr_head_gone(view->cache, view->data, &found->head);
}

static int check_condition(struct lr_view *view, const struct lr_put *put, const struct lr_found *found) {
    bool there = is_there(view, found);
    switch (put->mode) {
    case LR_SET:
    case LR_FILL_IN:
        return 0;
    case LR_ADD:
        return there ? LARDER_EEXISTS : 0;
    case LR_REPLACE:
        return there ? 0 : LARDER_ENOT_FOUND;
    case LR_CAS:
        if (!there)
            return LARDER_ENOT_FOUND;
        return found->head.version == put->expected ? 0 : LARDER_ECONFLICT;
    }
    return LARDER_EINVALID;
}

/* After the commit, still under the lock. */
static void after_change(struct lr_view *view, const struct lr_key *key, uint64_t version, enum lr_kind kind) {
    if (kind < LR_FILL)
        lr_feed_emit(view, key->hash, version);
    const uint64_t turn = lr_load(&view->stripe->incarnation);
    if (turn % SWEEP_EVERY == 0 && lr_load(&view->stripe->ttl_items) != 0)
        lr_sweep_buckets(view, 1, UINT64_MAX);
    if (turn % HELD_EVERY == 0 && lr_load(&view->stripe->held_blocks) != 0)
        lr_arena_free_held(view);
}

/* Stores what `making` says. ESTALE cannot come out: a delete that overtook us made our put its past. */
static int store(struct lr_view *view, struct lr_found *found, struct lr_making *making) {
    making->access = true;
    int error = lr_entry_store(view, found, making, LR_ROOM_EVICT);
    if (error == LARDER_ESTALE)
        return 0;
    if (error == 0)
        after_change(view, making->key, making->version, making->kind);
    else if (error == LARDER_EPINNED)
        lr_count(view->cache, LR_C_pinned_full);
    return error;
}

/* A change, with a version that was drawn before anybody looked whether there is something: see lr_flush. */
static inline int store_anew(struct lr_view *view, struct lr_found *found, struct lr_making *making) {
    making->kind = lr_kind_of(view->cache, making->key, false);
    return store(view, found, making);
}

static int enter_hashed(struct lr_cache *cache, const void *key, size_t key_len, struct lr_key *hashed) {
    int error = lr_enter(cache);
    if (error != 0)
        return error;
    if (key_len == 0 || key_len > SM_MAX_KEY)
        return LARDER_EINVALID;
    *hashed = lr_key_of(cache, key, key_len);
    return 0;
}

/* The key, hashed, and its stripe, locked. */
static int enter_locked(struct lr_cache *cache, const void *key, size_t key_len, struct lr_key *hashed,
                        struct lr_view *view) {
    int error = enter_hashed(cache, key, key_len, hashed);
    return error != 0 ? error : lr_stripe_lock(view, cache, lr_place_stripe(cache, hashed->place));
}

/* ---- fills -------------------------------------------------------------------------------------------------- */

int lr_mark(struct lr_cache *cache, const void *key, size_t key_len, struct lr_mark *mark) {
    struct lr_key hashed;
    struct lr_view view;
    int error = enter_locked(cache, key, key_len, &hashed, &view);
    if (error != 0)
        return error;
    lr_store(&view.stripe->marked, 1);
    *mark = (struct lr_mark){
        .hash = hashed.hash, .version = lr_version_draw(&view), .turn = lr_load(&view.stripe->incarnation)};
    lr_stripe_unlock(&view);
    return 0;
}

static int judge_mark(struct lr_view *view, const struct lr_mark *mark, const struct lr_key *key,
                      const struct lr_found *found) {
    if (mark->hash != key->hash)
        return LARDER_EINVALID;
    if (mark->version <= lr_flush_version(view->cache) ||
        mark->turn < lr_load(&view->stripe->marks_void[lr_mark_row(key->hash)]))
        return LARDER_ECONFLICT;
    if (found->slot == NULL)
        return mark->version <= lr_floor_of(view, key->hash) ? LARDER_ECONFLICT : 0;
    return lr_head_turn(view, &found->head) > mark->turn || found->head.version >= mark->version ? LARDER_ECONFLICT : 0;
}

/* Whether what was there before is still to be told to some peer. */
static bool is_owed(struct lr_view *view, const struct lr_found *found) {
    return found->slot != NULL && lr_entry_unshipped(view, &found->head);
}

/*
 * The least version that a fill in this place may have. Two above what is there: should the fill go, what is left says
 * one less, and the next fill has a version of its own, for it is the token of a compare-and-swap. Above a flush, which
 * is the same everywhere, one with our origin.
 */
static uint64_t least_of_fill(const struct lr_view *view, const struct lr_found *found) {
    const uint64_t flushed = lr_flush_version(view->cache);
    if (found->head.version > flushed)
        return found->head.version + 2;
    const uint64_t origin = atomic_load_explicit(&view->cache->header->origin, memory_order_relaxed) & 0x3ffu;
    return ((flushed >> SM_VERSION_ORIGIN_BITS) + 1) << SM_VERSION_ORIGIN_BITS | origin;
}

/*
 * What was there before, and not every peer has heard of, is still to be told: then the fill counts as unshipped, and
 * as no newer than that. For where its hint is lost the fill stands for it, with its version, and a relay that hears of
 * one change takes no older one: this one only some of those behind it would hear of.
 */
static int store_fill(struct lr_view *view, const struct lr_mark *mark, struct lr_found *found,
                      struct lr_making *making) {
    int error = mark != NULL ? judge_mark(view, mark, making->key, found) : 0;
    lr_count_n(view->cache, LR_C_fill_refusals, error == LARDER_ECONFLICT);
    if (error != 0)
        return error;
    if (mark != NULL)
        making->version = mark->version;
    making->kind = lr_kind_of(view->cache, making->key, true);
    making->shipped = making->kind == LR_FILL && !is_owed(view, found);
    if (making->kind == LR_FILL && !making->shipped)
        making->version = least_of_fill(view, found);
    error = store(view, found, making);
    lr_count_n(view->cache, LR_C_fills, error == 0);
    return error;
}

int lr_put(struct lr_cache *cache, struct lr_put *put) {
    struct lr_view view;
    int error = lr_enter(cache);
    if (error != 0)
        return error;
    if (put->key_len == 0 || put->key_len > SM_MAX_KEY || (put->value == NULL && put->value_len != 0))
        return LARDER_EINVALID;
    struct lr_key key = lr_key_of(cache, put->key, put->key_len);
    struct lr_making making = {.key = &key,
                               .value = put->value,
                               .value_len = put->value_len,
                               .deadline_ms = deadline_of(cache, put->ttl_ms),
                               .flags = put->flags};
    if (put->value_len > cache->geometry.max_block || lr_entry_size(&making) > cache->geometry.max_block)
        return LARDER_ETOO_LARGE;
    view = lr_view_of(cache, lr_place_stripe(cache, key.place));
    lr_index_prefetch(&view, key.place);
    error = lr_stripe_lock(&view, cache, view.number);
    if (error != 0)
        return error;
    struct lr_found found = lr_index_find(&view, &key);
    making.version = lr_version_draw(&view);
    error = check_condition(&view, put, &found);
    if (error != 0) {
        lr_count(cache, LR_C_put_refusals);
    } else {
        error = put->mode == LR_FILL_IN ? store_fill(&view, put->mark, &found, &making)
                                        : store_anew(&view, &found, &making);
        put->version = making.version;
    }
    lr_stripe_unlock(&view);
    if (error == 0) {
        lr_count(cache, LR_C_puts);
        lr_count_n(cache, LR_C_put_bytes, put->value_len);
    }
    return error;
}

/* ---- delete ------------------------------------------------------------------------------------------------- */

/* A note tells the next holder to leave a tombstone of this kind, or, of a local key, to end the marks only. Written
 * before the slot word is killed: a delete that took effect is never forgotten. */
static void leave_note(struct lr_view *view, const struct lr_key *key, uint64_t version, enum lr_kind kind) {
    uint64_t own = lr_own_word(view->cache);
    const uint64_t valid = SM_NOTE_VALID | (kind == LR_TOLD ? SM_NOTE_TOLD : 0);
    for (unsigned i = 0; i < SM_NOTES; i++) {
        struct sm_note *note = &view->stripe->notes[i];
        uint64_t nobody = 0;
        if (lr_load(&note->owner) != 0 || !atomic_compare_exchange_strong_explicit(
                                              &note->owner, &nobody, own, memory_order_acq_rel, memory_order_relaxed))
            continue;
        lr_store(&note->hash, key->hash);
        lr_store(&note->version, kind != LR_LOCAL ? version : 0);
        atomic_fetch_or_explicit(&view->stripe->notes_pending, 1u << i, memory_order_acq_rel);
        LR_CRASH_POINT("note, before");
        /* COMMIT POINT: before, the next holder frees the note once our generation is over; after, it makes a tombstone
         * of it. ORDER(note) publish: hash and version. */
        atomic_store_explicit(&note->owner, own | valid, memory_order_release);
        LR_CRASH_POINT("note, after");
        return;
    }
    lr_count(view->cache, LR_C_notes_exhausted);
    lr_void_raise(view, key->hash, version);
}

/* Whether the next holder of the lock has to hear of the delete: to tell others, or to refuse a fill. */
static bool is_noted(const struct lr_view *view, enum lr_kind kind) {
    return (lr_replicating(view->cache) && kind != LR_LOCAL) || lr_load(&view->stripe->marked) != 0;
}

/* The lock's holder does not answer: the delete takes effect all the same. */
static int delete_lockless(struct lr_cache *cache, const struct lr_key *key) {
    struct lr_view view = lr_view_of(cache, lr_place_stripe(cache, key->place));
    uint64_t version = lr_version_peek(&view);
    const enum lr_kind kind = lr_kind_of(cache, key, false);
    if (is_noted(&view, kind))
        leave_note(&view, key, version, kind);
    lr_count(cache, LR_C_lockless_deletes);
    return lr_reader_kill(cache, key, version);
}

int lr_delete(struct lr_cache *cache, const void *key, size_t key_len) {
    struct lr_key hashed;
    struct lr_view view;
    int error = enter_hashed(cache, key, key_len, &hashed);
    if (error != 0) /* BUSY too, while another thread joins after a fork: then there is nothing that could be done */
        return error;
    if (lr_stripe_lock(&view, cache, lr_place_stripe(cache, hashed.place)) == 0) {
        const uint64_t version = lr_version_draw(&view);
        const enum lr_kind kind = lr_kind_of(cache, &hashed, false);
        error = lr_entry_bury(&view, &hashed, version, kind) ? 0 : LARDER_ENOT_FOUND;
        lr_stripe_unlock(&view);
    } else {
        error = delete_lockless(cache, &hashed);
    }
    if (error == 0)
        lr_count(cache, LR_C_deletes);
    return error;
}

/* ---- touch, increment, flush ------------------------------------------------------------------------------------ */

/* Moves a deadline that the item has room for. The arrival epoch moves too where peers must hear of it. */
void lr_entry_extend(struct lr_view *view, const struct lr_found *found, uint64_t deadline_ms) {
    struct sm_block *block = lr_block_at(view->data, found->head.off);
    uint64_t mask = ((UINT64_C(1) << SM_BLOCK_EPOCH_BITS) - 1u) << SM_BLOCK_EPOCH_SHIFT;
    uint64_t epoch = atomic_load_explicit(&view->stripe->epoch, memory_order_relaxed);
    LR_CRASH_POINT("extend, before");
    lr_store((sm_u64 *)(void *)(view->data + found->head.off + sizeof(struct sm_block)), deadline_ms);
    LR_CRASH_POINT("extend, after");
    if (lr_head_kind(&found->head) == LR_SHARED)
        lr_store(&block->word, (lr_load(&block->word) & ~mask) | ((epoch << SM_BLOCK_EPOCH_SHIFT) & mask));
}

static int touch_found(struct lr_view *view, const struct lr_key *key, struct lr_found *found, uint64_t deadline_ms) {
    uint64_t now = lr_head_deadline(view->data, &found->head);
    if (deadline_ms == now)
        return 0;
    const enum lr_kind kind = lr_head_kind(&found->head);
    if (deadline_ms > now || (kind != LR_SHARED && now != UINT64_MAX)) {
        lr_entry_extend(view, found, deadline_ms);
        if (kind == LR_SHARED)
            after_change(view, key, found->head.version, kind);
        return 0;
    }
    struct lr_making making = {.key = key,
                               .value_len = found->head.value_len,
                               .deadline_ms = deadline_ms,
                               .flags = lr_head_flags(view->data, &found->head),
                               .keep_value = true};
    if (lr_entry_size(&making) > view->cache->geometry.max_block)
        return LARDER_ETOO_LARGE;
    if (kind == LR_SHARED) {
        making.version = lr_version_draw(view);
        return is_there(view, found) ? store_anew(view, found, &making) : LARDER_ENOT_FOUND;
    }
    /* Of what no other host has nobody need hear: it stays as new as it is. */
    making.version = found->head.version;
    making.kind = kind;
    making.shipped = !lr_entry_unshipped(view, &found->head);
    int error = lr_entry_store(view, found, &making, LR_ROOM_EVICT);
    return error == LARDER_ESTALE ? 0 : error;
}

int lr_touch(struct lr_cache *cache, const void *key, size_t key_len, uint64_t ttl_ms) {
    struct lr_key hashed;
    struct lr_view view;
    const uint64_t deadline_ms = deadline_of(cache, ttl_ms);
    int error = enter_locked(cache, key, key_len, &hashed, &view);
    if (error != 0)
        return error;
    struct lr_found found = lr_index_find(&view, &hashed);
    error = is_there(&view, &found) ? touch_found(&view, &hashed, &found, deadline_ms) : LARDER_ENOT_FOUND;
    lr_stripe_unlock(&view);
    if (error == 0)
        lr_count(cache, LR_C_touches);
    return error;
}

/* A decimal int64 and nothing else. */
static bool parse_number(const uint8_t *text, size_t len, int64_t *number) {
    char copy[24];
    char *end;
    if (len == 0 || len >= sizeof copy || !(text[0] == '-' || (text[0] >= '0' && text[0] <= '9')))
        return false;
    memcpy(copy, text, len);
    copy[len] = 0;
    errno = 0;
    *number = strtoll(copy, &end, 10);
    return errno == 0 && end == copy + len;
}

static size_t print_number(int64_t number, char out[24]) {
    uint64_t rest = number < 0 ? -(uint64_t)number : (uint64_t)number;
    char digits[24];
    size_t n = 0, len = 0;
    do {
        digits[n++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (number < 0)
        out[len++] = '-';
    while (n > 0)
        out[len++] = digits[--n];
    return len;
}

int lr_increment(struct lr_cache *cache, const void *key, size_t key_len, int64_t delta, int64_t initial,
                 uint64_t ttl_ms, int64_t *result) {
    struct lr_key hashed;
    struct lr_view view;
    char text[24];
    struct lr_making making = {.key = &hashed, .value = text, .deadline_ms = deadline_of(cache, ttl_ms)};
    int error = enter_locked(cache, key, key_len, &hashed, &view);
    if (error != 0)
        return error;
    struct lr_found found = lr_index_find(&view, &hashed);
    int64_t number = initial;
    making.version = lr_version_draw(&view);
    if (is_there(&view, &found)) {
        const struct lr_head *head = &found.head;
        if (!parse_number(view.data + head->off + head->key_at + head->key_len, head->value_len, &number))
            error = LARDER_ENOT_NUMBER;
        else if (__builtin_add_overflow(number, delta, &number))
            error = LARDER_EINVALID;
        making.flags = lr_head_flags(view.data, head);
        making.deadline_ms = lr_head_deadline(view.data, head);
    }
    if (error == 0) {
        making.value_len = print_number(number, text);
        error = store_anew(&view, &found, &making);
    }
    lr_stripe_unlock(&view);
    if (error == 0) {
        *result = number;
        lr_count(cache, LR_C_puts);
        lr_count_n(cache, LR_C_put_bytes, making.value_len);
    }
    return error;
}

/* Above all that any stripe has drawn, and will have drawn within this millisecond. */
static uint64_t version_of_flush(struct lr_cache *cache, uint64_t unix_ms) {
    const uint64_t now_ms = lr_since_2020(unix_ms);
    const bool ahead = lr_flush_version(cache) >> SM_VERSION_MS_SHIFT > now_ms + FLUSH_MOST_MS;
    uint64_t highest = now_ms << SM_VERSION_MS_SHIFT;
    for (uint32_t i = 0; i < cache->geometry.stripe_count; i++) {
        struct lr_view view = lr_view_of(cache, i);
        const uint64_t next = lr_version_peek(&view);
        highest = highest > next ? highest : next;
    }
    return highest + (ahead ? 0 : FLUSH_AHEAD);
}

/*
 * What a touch, an increment or a conditional put makes of what is there must not survive a flush that this does not.
 * So they draw their version before they look whether it is there. Who finds the flush's word unchanged has drawn his
 * version before the flush counts, and so the flush is above it. (What another host touched before it heard of the
 * flush is as new as its version says.)
 */
int lr_flush(struct lr_cache *cache) {
    int error = lr_enter(cache);
    bool late = true;
    for (unsigned tries = 0; error >= 0 && late && tries < FLUSH_TRIES; tries++) {
        const uint64_t unix_ms = lr_unix_ms();
        error = lr_apply_flush(cache, version_of_flush(cache, unix_ms));
        late = lr_unix_ms() != unix_ms;
    }
    return error;
}
