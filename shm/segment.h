/* SPDX-License-Identifier: MIT */
/*
 * What the files behind attachment.h (geometry.c, segment.c, participant.c, clock.c, error.c) share with each other,
 * and with the tests: the bytes of the liveness file, and the few helpers that cross a file.
 *
 *   liveness file, `<segment path>.live`
 *   +---------------------+ 0
 *   | lock bytes          |   byte i: OFD-locked for as long as the owner of participant slot i is attached.
 *   |                     |   Never read or written: only their locks mean anything.
 *   +---------------------+ SM_LIVE_RECORD_OFF: also the guard byte, whose lock lets one process at a time
 *   | sm_liveness         |   change what the two names (segment and liveness file) stand for (segment.c)
 *   +---------------------+ SM_LIVE_BYTES
 */
#ifndef LR_SEGMENT_H
#define LR_SEGMENT_H

#include "attachment.h"

#define SM_LIVE_MAGIC UINT64_C(0x0a4556494c444cff) /* "\xffLDLIVE\n" */
#define SM_LIVE_RECORD_OFF 4096u
#define SM_LIVE_BYTES 8192u
static_assert(SM_PARTICIPANTS <= SM_LIVE_RECORD_OFF, "the guard byte lies behind the slots' bytes");

/*
 * Says which segment this file serves. It carries inode numbers, because a copy of either file, put back under its
 * name, would show the living as dead (no locks on the copy) or serve two sets of bytes.
 */
struct sm_liveness {
    uint64_t magic;
    uint64_t incarnation[2]; /* as in the segment's constants */
    uint64_t segment_ino;
    uint64_t live_ino; /* of this file itself */
    uint64_t sum;      /* XXH3 of the words above */
};
static_assert(sizeof(struct sm_liveness) == 48, "liveness record");

#define LR_PATH_BYTES 4096
#define LR_LIVE_SUFFIX ".live"

static inline uint64_t lr_round_up(uint64_t n, uint64_t unit) {
    return (n + unit - 1) / unit * unit;
}

/* Writes one line into `why` (LR_WHY_BYTES; may be NULL) and returns `error`. errno is not looked at. */
int lr_error_explain(int error, char *why, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Hash buckets that a new stripe starts with: a power of two, at least 64. */
uint64_t lr_geometry_buckets(const struct lr_geometry *geometry);
/* Lays out one new stripe. Its control block and data are all zero before. */
void lr_geometry_lay_stripe(const struct lr_geometry *geometry, struct sm_stripe *stripe);
/* Checksum of a liveness record. */
uint64_t lr_liveness_sum(const struct sm_liveness *record);

/* Whether a state word is that of a segment in use. */
static inline bool lr_state_is_live(uint32_t state) {
    return state == SM_LIVE || ((state & SM_KEPT) != 0 && (state & SM_KEEPER_DIED) == 0);
}

/* For keeper.c (segment.c): creates a segment in two sealed memfds. Both descriptors are the caller's. */
int lr_segment_create_kept(const struct lr_options *options, const char *path, struct lr_cache **out, int *segment_fd,
                           int *live_fd, char *why);
/* destroy.c: tells whoever is attached to a mapped segment; and the whole of lr_cache_destroy. */
void lr_segment_retire(struct sm_header *header);
int lr_segment_destroy(const struct lr_options *options, const char *path, char *why);
/* Takes the liveness file of a kept segment as the handle's own, on success. ESYSTEM. */
int lr_participant_adopt_live(struct lr_cache *cache, int fd, char *why);

/* Whether cache->probe_fd still is the description that this handle opened (applications close what they do not know,
 * and numbers are given out again). */
bool lr_participant_owns_probe(const struct lr_cache *cache);
/* Opens a new description of the liveness file known by live_dev and live_ino, through its path. ERETIRED when another
 * file, or none, has the name now; EPERMISSION, ESYSTEM. */
int lr_participant_open_live(const struct lr_cache *cache, int *fd, char *why);
/* Opens probe_fd anew and marks it as this handle's. Errors as above. */
int lr_participant_open_probe(struct lr_cache *cache, char *why);

#endif
