/* SPDX-License-Identifier: MIT */
/*
 * Modes: what do other hosts see of a key?
 *
 *   header:  modes = | turn | rows |      mode_tables[turn mod 2] = prefix, mode; prefix, mode; ...
 *
 * larderd writes the table that does not count, and then the one word that makes it count; so nobody ever reads a table
 * that is being written, unless he slept for two whole turns, which the word tells him. A larderd that dies in between
 * has changed nothing. The table stays when larderd goes: what is local stays local.
 *
 * Whoever changes a key looks up its mode under its stripe's lock, and the entry bears what came of it in two bits
 * (enum lr_kind), so that the table is not needed to judge an entry later: not by those who evict it, not by the sums
 * of ranges, not by repair.
 *
 * Rules:
 *  1. An entry's kind fits its key's mode, but for the time between lr_modes_set and the passing of lr_modes_fit: what
 *     does not fit any more is dropped, as an eviction would. A cache may always forget; two kinds of one key on two
 *     hosts would have to be reconciled.
 *  2. Who judges an entry in that time by its kind, and by the mode of its key if it is at hand, and follows the
 *     stricter, does no harm.
 *  3. LOCAL entries leave nothing when they go: no tombstone, no void, no floor. FILL ones neither, unless they took
 *     the place of something that not every peer had heard of. All of them end the marks that are older (items.c).
 */
#include "stripe.h"

static const char *const names[] = {
#define X(name, number, sentence) #name,
    LR_MODES(X)
#undef X
};
#define NAME_COUNT (sizeof names / sizeof *names)

#define TURN_ONE (SM_MODE_ROWS_MASK + 1)
#define TRIES 8u

static_assert(sizeof((struct lr_mode_row *)0)->prefix == SM_MODE_PREFIX && LR_MODE_ROWS == SM_MODE_ROWS, "same table");

const char *lr_mode_name(uint32_t mode) {
    return mode < NAME_COUNT ? names[mode] : "unknown";
}

int lr_mode_number(const char *name) {
    for (size_t i = 0; i < NAME_COUNT; i++)
        if (strcmp(names[i], name) == 0)
            return (int)i;
    return -1;
}

static unsigned rows_of(uint64_t modes) {
    const unsigned rows = (unsigned)(modes & SM_MODE_ROWS_MASK);
    return rows < SM_MODE_ROWS ? rows : SM_MODE_ROWS;
}

static struct sm_mode *table_of(const struct lr_cache *cache, uint64_t modes) {
    return cache->header->mode_tables[modes / TURN_ONE & 1];
}

/* ---- looking up ----------------------------------------------------------------------------------------------------
 */

static void load_row(struct sm_mode *from, struct lr_mode_row *out) {
    const uint64_t what = lr_load(&from->what);
    out->len = (unsigned)(what >> 8 & 0xff);
    out->len = out->len < SM_MODE_PREFIX ? out->len : SM_MODE_PREFIX;
    out->mode = (what & 0xff) < NAME_COUNT ? (enum lr_mode)(what & 0xff) : LR_MODE_local;
    for (unsigned i = 0; i * 8 < out->len; i++) {
        const uint64_t word = lr_load(&from->prefix[i]);
        memcpy(out->prefix + (size_t)i * 8, &word, 8);
    }
}

/* Whether the table that `modes` speaks of has been left alone while it was read. */
static bool stood_still(const struct lr_cache *cache, uint64_t modes) {
    /* ORDER(modes) observe: what we read of the table before the word is looked at again. */
    atomic_thread_fence(memory_order_acquire);
    return lr_load(&cache->header->modes) == modes;
}

enum lr_mode lr_mode_of(const struct lr_cache *cache, const void *key, size_t key_len) {
    enum lr_mode mode = LR_MODE_values;
    if (rows_of(lr_load(&cache->header->modes)) == 0)
        return mode;
    for (unsigned tries = 0; tries < TRIES; tries++) {
        /* ORDER(modes) observe: the table's rows. */
        const uint64_t modes = atomic_load_explicit(&cache->header->modes, memory_order_acquire);
        unsigned longest = 0;
        bool any = false;
        mode = LR_MODE_values;
        for (unsigned i = 0; i < rows_of(modes); i++) {
            struct lr_mode_row row;
            load_row(&table_of(cache, modes)[i], &row);
            if (row.len > key_len || (any && row.len <= longest) || memcmp(row.prefix, key, row.len) != 0)
                continue;
            any = true;
            longest = row.len;
            mode = row.mode;
        }
        if (stood_still(cache, modes))
            break;
    }
    return mode;
}

enum lr_kind lr_modes_kind(const struct lr_cache *cache, const struct lr_key *key, bool fills) {
    switch (lr_mode_of(cache, key->bytes, key->len)) {
    case LR_MODE_invalidate:
        return fills ? LR_FILL : LR_TOLD;
    case LR_MODE_local:
        return LR_LOCAL;
    default:
        return LR_SHARED;
    }
}

unsigned lr_modes_get(const struct lr_cache *cache, struct lr_mode_row rows[LR_MODE_ROWS]) {
    unsigned count = 0;
    for (unsigned tries = 0; tries < TRIES; tries++) {
        const uint64_t modes = atomic_load_explicit(&cache->header->modes, memory_order_acquire);
        count = rows_of(modes);
        for (unsigned i = 0; i < count; i++)
            load_row(&table_of(cache, modes)[i], &rows[i]);
        if (stood_still(cache, modes))
            break;
    }
    return count;
}

uint64_t lr_modes_hash(const struct lr_cache *cache) {
    struct lr_mode_row rows[LR_MODE_ROWS];
    const unsigned count = lr_modes_get(cache, rows);
    uint64_t hash = 0;
    for (unsigned i = 0; i < count; i++)
        hash += lr_mix(XXH3_64bits_withSeed(rows[i].prefix, rows[i].len, (uint64_t)rows[i].mode + 1));
    return count > 0 && hash == 0 ? 1 : hash;
}

/* ---- setting -------------------------------------------------------------------------------------------------------
 */

static bool same_prefix(const struct lr_mode_row *a, const struct lr_mode_row *b) {
    return a->len == b->len && memcmp(a->prefix, b->prefix, a->len) == 0;
}

static bool same_rows(const struct lr_mode_row *a, const struct lr_mode_row *b, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (!same_prefix(&a[i], &b[i]) || a[i].mode != b[i].mode)
            return false;
    return true;
}

static void store_row(struct sm_mode *to, const struct lr_mode_row *row) {
    uint8_t bytes[SM_MODE_PREFIX] = {0};
    memcpy(bytes, row->prefix, row->len);
    for (unsigned i = 0; i < SM_MODE_PREFIX / 8; i++) {
        uint64_t word;
        memcpy(&word, bytes + (size_t)i * 8, 8);
        lr_store(&to->prefix[i], word);
    }
    lr_store(&to->what, (uint64_t)row->len << 8 | (uint64_t)row->mode);
}

int lr_modes_set(struct lr_cache *cache, const struct lr_mode_row *rows, unsigned count) {
    struct lr_mode_row before[LR_MODE_ROWS];
    int error = lr_enter(cache);
    if (error != 0)
        return error;
    if (count > SM_MODE_ROWS)
        return LARDER_EINVALID;
    for (unsigned i = 0; i < count; i++) {
        if (rows[i].len > SM_MODE_PREFIX || (unsigned)rows[i].mode >= NAME_COUNT)
            return LARDER_EINVALID;
        for (unsigned k = 0; k < i; k++)
            if (same_prefix(&rows[i], &rows[k]))
                return LARDER_EINVALID;
    }
    if (lr_modes_get(cache, before) == count && same_rows(rows, before, count))
        return 0;
    const uint64_t next = (lr_load(&cache->header->modes) / TURN_ONE + 1) * TURN_ONE;
    for (unsigned i = 0; i < count; i++)
        store_row(&table_of(cache, next)[i], &rows[i]);
    LR_CRASH_POINT("modes, before");
    /* COMMIT POINT: before, the old modes count; after, the new ones. ORDER(modes) publish: the table's rows. */
    atomic_store_explicit(&cache->header->modes, next | count, memory_order_release);
    LR_CRASH_POINT("modes, after");
    /* Who looks up a mode in a table that he began to read two turns ago sees that the word has changed. */
    atomic_thread_fence(memory_order_seq_cst);
    return 0;
}

/* ---- fitting -------------------------------------------------------------------------------------------------------
 */

static bool fits(enum lr_kind kind, enum lr_mode mode) {
    switch (mode) {
    case LR_MODE_values:
        return kind == LR_SHARED;
    case LR_MODE_invalidate:
        return kind == LR_TOLD || kind == LR_FILL;
    case LR_MODE_local:
        return kind == LR_LOCAL;
    }
    return true;
}

bool lr_modes_unfit(const struct lr_cache *cache) {
    return lr_load(&cache->header->modes_fitted) != lr_load(&cache->header->modes) / TURN_ONE;
}

void lr_modes_fitted(struct lr_cache *cache) {
    if (lr_enter(cache) == 0)
        lr_store(&cache->header->modes_fitted, lr_load(&cache->header->modes) / TURN_ONE);
}

static int drop_unfit(struct lr_cache *cache, const struct lr_entry *entry) {
    const struct lr_key key = lr_key_of(cache, entry->key, entry->key_len);
    struct lr_view view;
    int error = lr_stripe_lock(&view, cache, entry->stripe);
    if (error != 0)
        return error;
    struct lr_found found = lr_index_find(&view, &key);
    const bool goes = found.slot != NULL && !found.head.tombstone &&
                      !fits(lr_head_kind(&found.head), lr_mode_of(cache, key.bytes, key.len));
    if (goes)
        lr_entry_forget(&view, found.slot, found.word, &found.head, LR_FORGET_EXPIRE, true);
    lr_marks_end(&view, key.hash);
    lr_stripe_unlock(&view);
    return goes;
}

int lr_modes_fit(struct lr_cache *cache, uint32_t stripe, void *buf, size_t cap) {
    struct lr_scan scan = lr_scan_stripe(stripe);
    struct lr_entry entry;
    struct lr_view view;
    int dropped = 0, result = lr_enter(cache);
    if (result == 0) /* whoever looked up a mode in the old table has stored his entry by now */
        result = lr_stripe_lock(&view, cache, stripe);
    if (result != 0)
        return result;
    lr_stripe_unlock(&view);
    while ((result = lr_scan_next(cache, &scan, buf, cap, &entry)) == 0 || result == LARDER_EBUSY) {
        if (result == LARDER_EBUSY)
            return result; /* it may be one of them */
        if (entry.tombstone || fits(entry.kind, lr_mode_of(cache, entry.key, entry.key_len)))
            continue;
        result = drop_unfit(cache, &entry);
        if (result < 0)
            return result;
        dropped += result;
    }
    return result == LARDER_ENOT_FOUND ? dropped : result;
}
