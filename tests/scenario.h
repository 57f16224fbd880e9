/* SPDX-License-Identifier: MIT */
/*
 * Somebody dies in the middle of something: in what state was the stripe, what were they doing, and is the survivors'
 * segment right?
 *
 * The harnesses that kill (larder-steps after every instruction, larder-crash at every crash point and
 * store) share the states, the operations and the judgement here. A scenario has one small segment of one stripe and
 * handles of it in this process: the victim's, which does the operation, and the survivor's, which judges.
 *
 *   prepare  ->  image  ->  [ image back -> victim operates and dies -> look -> survivor takes over -> judge ] ...
 *
 * The judgement: no key has another value than its own; the operation's key has its old value or its new one; what was
 * there is there, unless the operation may evict; what was not there is not; what a reader saw between death and repair
 * is what readers see afterwards; what went while there are peers has left a tombstone or a void; the segment is
 * healthy, nothing was dropped, and it can be written again. Where keys have modes: what is left of a key is of its
 * mode, what peers were still to be told they still are, and what was read from its source before a change that took
 * effect is not filled in after it.
 *
 * Nothing here uses CUnit: on failure functions return false and scenario->what says why.
 */
#ifndef SCENARIO_H
#define SCENARIO_H

#include "stripe.h"

#define SCENARIO_KEYS 1000u
#define SCENARIO_KEPT 120u /* the first keys, put last: every judgement looks at them */
#define SCENARIO_NEW 9u    /* keys that operations make */
#define SCENARIO_PINS 4u

struct scenario_state {
    const char *name;
    uint32_t keys;   /* put before the operation */
    uint32_t value;  /* bytes of each, about */
    uint32_t ttl_ms; /* of every third key */
    unsigned traits;
};
extern const struct scenario_state scenario_states[];
extern const unsigned scenario_state_count;
/* -1: there is none of that name. */
int scenario_state_number(const char *name);

enum scenario_operation {
    PUT_NEW,
    PUT_REPLACE,
    PUT_LARGE,
    PUT_MANY,
    ADD_TTL,
    REPLACE_FLAGS,
    CAS,
    DELETE,
    DELETE_ABSENT,
    TOUCH_LONGER,
    TOUCH_SHORTER,
    INCREMENT,
    GET,
    GET_MANY,
    PIN,
    APPLY_PUT,
    APPLY_NO_EVICT,
    APPLY_EXPIRED,
    APPLY_TOMBSTONE,
    APPLY_FLUSH,
    DROP,
    SWEEP,
    FLUSH,
    EPOCH,
    RAISE_VOID,
    RAISE_CLOCK,
    SIDECAR,
    REAP,
    JOIN,
    LEAVE,
    FILL,
    FILL_NEW,
    MARK,
    INVALIDATE,
    FIT,
    SCENARIO_OPERATIONS
};
extern const char *const scenario_operation_names[SCENARIO_OPERATIONS];
int scenario_operation_number(const char *name);

struct scenario_seen {
    int result;
    uint64_t version;
};

struct scenario {
    const struct scenario_state *state;
    enum scenario_operation operation;
    struct lr_options options; /* of the segment; name or path is the caller's */
    struct lr_cache *victim;
    struct lr_cache *survivor;
    struct lr_cache *earlier; /* somebody who died before; NULL none */
    uint64_t keys[SCENARIO_KEYS];
    uint64_t versions[SCENARIO_KEYS]; /* before the operation; 0: not there */
    bool owed[SCENARIO_KEYS];         /* where keys have modes: before it, some peer was still to be told of the key */
    unsigned count;
    uint64_t other;                  /* the key that operations make */
    uint64_t before_clock;           /* highest version before the operation */
    struct lr_mark mark, other_mark; /* where keys have modes: taken before the operation, of its key and of `other` */
    bool finished;                   /* the victim had come to the operation's end: set by who knows */
    struct lr_pin pin;               /* the survivor's, of the operation's key */
    struct lr_pin pins[SCENARIO_PINS];
    struct lr_view held; /* the survivor holds the stripe with it, in some states */
    bool holds;
    unsigned judgements;
    struct scenario_seen seen[SCENARIO_KEPT + SCENARIO_NEW];
    char what[300]; /* of the last failure */
};

/* Whether the operation makes sense in the state. */
bool scenario_applies(const struct scenario_state *state, enum scenario_operation operation);
/* Whether most of it is the same as what another operation does in this state, and a state like it has the rest. */
bool scenario_is_spared(const struct scenario_state *state, enum scenario_operation operation);
/* Creates the segment and brings it into the state. options->size and so on are set here. */
bool scenario_prepare(struct scenario *s, const struct scenario_state *state);
/* For another operation in the same segment, whose bytes are as they were after prepare. */
void scenario_choose(struct scenario *s, enum scenario_operation operation);
/* Joining and leaving want a process of their own. */
static inline bool scenario_needs_fork(enum scenario_operation operation) {
    return operation == JOIN || operation == LEAVE;
}
/* In the victim. */
void scenario_operate(struct scenario *s);
/* Handles and segment go. */
void scenario_end(struct scenario *s);
/* As if the process behind this handle of ours were dead: its byte is free from here on. */
void scenario_let_byte_fall(struct lr_cache *cache);

/* ---- images --------------------------------------------------------------------------------------------------- */

/* What can change: the header and the few participants in use, the control block and the head of its ring, all of the
 * data. */
#define SCENARIO_SLOTS 12u
#define SCENARIO_HINTS 1024u
#define SCENARIO_HEAD_BYTES (SM_HEADER_BYTES + SCENARIO_SLOTS * sizeof(struct sm_participant))
#define SCENARIO_CONTROL_BYTES (SM_STRIPE_FIXED + SCENARIO_HINTS * sizeof(struct sm_hint))
#define SCENARIO_VOIDS_BYTES 4096u
#define SCENARIO_IMAGE_BYTES (SCENARIO_HEAD_BYTES + SCENARIO_VOIDS_BYTES + SCENARIO_CONTROL_BYTES + SM_MIN_STRIPE)

void scenario_read_image(const struct scenario *s, uint8_t *out);
void scenario_write_image(const struct scenario *s, const uint8_t *image);
bool scenario_is_unchanged(const struct scenario *s, const uint8_t *image);
/* Whether only bytes of the arena differ from the image, and no block's first word among them. */
bool scenario_is_payload_only(const struct scenario *s, const uint8_t *image);

/* ---- survivors ------------------------------------------------------------------------------------------------ */

/* What a reader sees now, between death and repair. */
void scenario_look(struct scenario *s);
/* Lets go of what the survivor holds, reaps and takes over, as whoever needs the stripe next. False: it stays locked.
 */
bool scenario_take_over(struct scenario *s);
/* After the take-over. Writes into the segment: put an image back before anything else. */
bool scenario_judge(struct scenario *s);

#endif
