/* SPDX-License-Identifier: MIT */
/*
 * Slot, pin, reclaim: may a reader who pinned rely on the bytes, and does every block come back?
 *
 * One key, its slot word, and a few blocks. Readers pin (reader.c, pin_key) or copy out (read_key); whoever holds the
 * stripe replaces, deletes, evicts, slides, displaces and frees held blocks (entry.c, arena.c). Everybody may die at any
 * step; an heir repairs (repair.c) and goes on. The pinner's stores wait in a store buffer (tso.inc). The holder's need
 * none: whatever it loads after a store, a CAS or the unlock's exchange stands between.
 *
 * The pinner has one hazard. The summary's bit for it is set before the hazard is first claimed, and stays; a release is a
 * plain store that may reach memory late, but not after the next claim, which is a locked instruction.
 *
 *   slot word: block 1..BLOCKS | one bit of the incarnation << 2 | PINNED
 *
 * runs: PINS COPIES
 * plants: NO_PIN_FENCE NO_PIN_RECHECK NO_SECOND_SCAN FREE_BEFORE_UNPUBLISH RELEASE_UNSCANNED HELD_UNSCANNED
 * plants: EVICT_PINNED SLIDE_PINNED REPAIR_DROPS_HELD REPAIR_NO_FLAG COPIES+NO_INCARNATION PUBLISH_FIRST REAP_THE_LIVING
 * plants: CAS_BEFORE_HAZARD SLIDE_BEFORE_COPY HELD_LEAKS UPDATE_IN_PLACE SUMMARY_AFTER_LOOK
 */
#ifdef LARGE
#define OPS 3
#else
#define OPS 2 /* and one more for an heir */
#endif
#define ROUNDS 1 /* the flag of an earlier pin may stand at the start; two of three operations do not end */
#define BLOCKS 2

/* Cells of memory. */
#define SLOT 0
#define INC(b) (b)
#define LOW(b) (3 + (b))
#define HIGH(b) (6 + (b))
#define HAZARD 10
#define SUMMARY 11
#define CELLS 12

#define CPUS 1 /* the pinner */
#define DEPTH 2
#include "tso.inc"

#define PINNED 8
#define BLOCK(w) ((w) & 3)
#define BITS(w) (((w) >> 2) & 1)
#define SAME(a, b) (((a) & 7) == ((b) & 7))
#define WORD(b, n) ((b) | (((n) & 1) << 2))

mtype = { HOLE, LIVE, HELD };
mtype state[4];
byte incarnation;      /* sm_stripe.incarnation */
byte left = OPS;       /* changes still to be made */
bool kill_holder, holder_died; /* told to die: it does so before its next step; and has */
bool kill_pinner, pinner_died;
bool finished;         /* the reader is done or dead */

/* ---- readers (reader.c) ---- */

proctype pinner(byte me) {
    byte w, again, seen, identity, value, tries, rounds = ROUNDS;
    bool ok, early;
    {
        do
        :: rounds == 0 -> break
        :: else ->
            d_step { rounds--; tries = 2 };
retry:
            /* pin_key: match */
            if
            :: tries == 0 -> goto next /* the code takes the lock now */
            :: else -> tries--
            fi;
            atomic {
                w = mem[SLOT];
                if
                :: BLOCK(w) == 0 -> goto next
                :: else
                fi
            };
            /* pin_key holds the block first and looks at it then; pin_again has looked at it (examine). */
            if
            :: early = 1
            :: early = 0;
                identity = mem[INC(BLOCK(w))];
                atomic {
                    again = mem[SLOT];
                    if
                    :: !SAME(again, w) -> goto retry
                    :: SAME(again, w) && (identity & 1) != BITS(w) -> goto next
                    :: else
                    fi
                }
            fi;
            /* claim_hazard: the handle's own hazard is free once its release has reached memory. */
#ifndef SUMMARY_AFTER_LOOK
            if
            :: mem[SUMMARY] == 0 -> CAS(SUMMARY, 0, 1)
            :: else
            fi;
#endif
#ifndef CAS_BEFORE_HAZARD
#ifdef NO_PIN_FENCE
            STORE(HAZARD, BLOCK(w));
#else
            CAS(HAZARD, 0, BLOCK(w));
            assert(ok);
#endif
#endif
#ifdef NO_PIN_RECHECK
            again = w;
#else
            again = mem[SLOT];
#endif
fasten:
            if
            :: !SAME(again, w) -> goto drop
            :: SAME(again, w) && !(again & PINNED) ->
                CAS(SLOT, again, again | PINNED);
                if
                :: ok -> goto fastened
                :: else -> again = seen; goto fasten
                fi
            :: SAME(again, w) && (again & PINNED) -> goto fastened
            fi;
fastened:
#ifdef CAS_BEFORE_HAZARD
            CAS(HAZARD, 0, BLOCK(w));
#endif
#ifdef SUMMARY_AFTER_LOOK
            mem[SUMMARY] = 1;
#endif
            if
            :: early ->
                identity = mem[INC(BLOCK(w))]; /* pin_block */
                again = mem[SLOT];
                if
                :: !SAME(again, w) -> goto drop
                :: else -> assert((identity & 1) == BITS(w))
                fi
#ifdef NO_PIN_RECHECK
            :: !early
#else
            :: !early -> /* settled */
                again = mem[SLOT];
                if
                :: !SAME(again, w) -> goto drop
                :: else
                fi;
                if
                :: mem[INC(BLOCK(w))] != identity -> goto drop
                :: else
                fi
#endif
            fi;
            /* P3: readable, unmoved, unchanged until released. */
            value = mem[LOW(BLOCK(w))];
            assert(mem[HIGH(BLOCK(w))] == value);
            assert(mem[LOW(BLOCK(w))] == value);
            STORE(HAZARD, 0); /* free_hazard */
            goto next;
drop:
            STORE(HAZARD, 0);
            goto retry;
next:
            atomic { w = 0; again = 0; seen = 0; identity = 0; value = 0; ok = 0; early = 0; tries = 0 }
        od
    } unless { kill_pinner };
    atomic {
        pinner_died = kill_pinner;
        finished = 1;
        w = 0; again = 0; seen = 0; identity = 0; value = 0; ok = 0; early = 0; tries = 0; rounds = 0
    }
}

proctype copier() {
    byte w, again, identity, low, high, tries = 2;
retry:
    if
    :: tries == 0 -> goto over
    :: else -> tries--
    fi;
    atomic {
        w = mem[SLOT];
        if
        :: BLOCK(w) == 0 -> goto over
        :: else
        fi
    };
    identity = mem[INC(BLOCK(w))];
    atomic {
        again = mem[SLOT];
        if
        :: !SAME(again, w) -> goto retry
        :: SAME(again, w) && (identity & 1) != BITS(w) -> goto over
        :: else
        fi
    };
    low = mem[LOW(BLOCK(w))]; /* lr_bytes_out */
    high = mem[HIGH(BLOCK(w))];
    /* settled */
    if
    :: !SAME(mem[SLOT], w) -> goto retry
    :: else
    fi;
#ifndef NO_INCARNATION
    if
    :: mem[INC(BLOCK(w))] != identity -> goto retry
    :: else
    fi;
#endif
    assert(low == high && low != 0); /* P5: one value, whole */
over:
    finished = 1
}

/* ---- the holder (entry.c, arena.c, hazard.c) ---- */

#define SET(cell, value) mem[cell] = value
/* lr_hazard_held; the full fence before it is the CAS that comes before. */
#define SCAN(b)                                                                                                        \
    held = mem[SUMMARY] != 0;                                                                                          \
    if                                                                                                                 \
    :: held -> held = (mem[HAZARD] == (b))                                                                             \
    :: else                                                                                                            \
    fi
/* As CAS, without a buffer to drain. */
#define EXCHANGE(cell, expected, desired)                                                                              \
    atomic {                                                                                                           \
        seen = mem[cell];                                                                                              \
        if                                                                                                             \
        :: seen == (expected) -> mem[cell] = (desired); ok = 1                                                         \
        :: else -> ok = 0                                                                                              \
        fi                                                                                                             \
    }

#define FREE(b) state[b] = HOLE

/* lr_arena_release: frees what no slot names, or holds it. */
inline release(word) {
    if
#ifndef RELEASE_UNSCANNED
    :: (word) & PINNED ->
        SCAN(BLOCK(word));
        if
        :: held -> state[BLOCK(word)] = HELD
        :: else -> FREE(BLOCK(word))
        fi
#endif
    :: else -> FREE(BLOCK(word))
    fi
}

/* A block from a hole; n is its new incarnation. 0: there is none. */
inline room() {
    d_step {
        b = 0;
        if
        :: state[1] == HOLE -> b = 1
        :: state[1] != HOLE && state[2] == HOLE -> b = 2
#if BLOCKS > 2
        :: state[1] != HOLE && state[2] != HOLE && state[3] == HOLE -> b = 3
#endif
        :: else
        fi;
        if
        :: b != 0 -> incarnation++; n = incarnation
        :: else
        fi
    }
}

/* lr_arena_claim, then the bytes. */
inline fill(low, high) {
    SET(INC(b), n);
    state[b] = LIVE;
    SET(LOW(b), low);
    SET(HIGH(b), high)
}

/* still_pinned: `held` says so; else the flag is off in w. */
inline still_pinned() {
    SCAN(BLOCK(w));
    if
    :: held
    :: else ->
        EXCHANGE(SLOT, w, w & 7);
        if
        :: !ok -> w = seen; held = 1
        :: else ->
            w = w & 7;
#ifndef NO_SECOND_SCAN
            SCAN(BLOCK(w));
            if
            :: held -> atomic { mem[SLOT] = mem[SLOT] | PINNED; w = mem[SLOT] }
            :: else
            fi
#endif
        fi
    fi
}

/* lr_entry_forget. held: it was pinned meanwhile, nothing has changed. */
inline forget(yields) {
    held = 0;
    do
    :: EXCHANGE(SLOT, w, 0);
        if
        :: ok -> break
#ifndef EVICT_PINNED
        :: !ok && yields && (seen & PINNED) -> held = 1; break
        :: !ok && !(yields && (seen & PINNED)) -> w = seen
#else
        :: else -> w = seen
#endif
        fi
    od
}

/* lr_entry_store and lr_entry_publish. */
inline put() {
    room();
    w = mem[SLOT];
    if
#ifdef UPDATE_IN_PLACE
    :: w != 0 ->
        incarnation++;
        n = incarnation;
        SET(LOW(BLOCK(w)), n);
        SET(HIGH(BLOCK(w)), n);
#else
    :: b != 0 && w == 0 ->
#ifdef PUBLISH_FIRST
        SET(SLOT, WORD(b, n));
        fill(n, n)
#else
        fill(n, n);
        SET(SLOT, WORD(b, n))
#endif
    :: b != 0 && w != 0 ->
        fill(n, n);
#ifdef FREE_BEFORE_UNPUBLISH
        release(w);
#endif
        do /* replace_word */
        :: EXCHANGE(SLOT, w, WORD(b, n));
            if
            :: ok -> break
            :: else -> w = seen
            fi
        od;
#ifndef FREE_BEFORE_UNPUBLISH
        release(w)
#endif
#endif
    :: else
    fi
}

/* lr_entry_delete without peers. */
inline delete() {
    w = mem[SLOT];
    if
    :: w != 0 ->
        forget(0);
        release(w)
    :: else
    fi
}

/* displace_coldest */
inline displace() {
    w = mem[SLOT];
    if
    :: w != 0 ->
        held = 0;
        if
        :: w & PINNED -> SCAN(BLOCK(w))
        :: else
        fi;
        if
        :: !held ->
            forget(1);
            if
            :: !held -> release(w)
            :: else
            fi
        :: else
        fi
    :: else
    fi
}

/* pass_live: evict. */
inline evict() {
    w = mem[SLOT];
    if
    :: w != 0 ->
        held = 0;
        if
        :: w & PINNED -> still_pinned()
        :: else
        fi;
        if
        :: !held ->
            forget(1);
            if
            :: !held -> FREE(BLOCK(w)) /* the gap swallows it */
            :: else
            fi
        :: else
        fi
    :: else
    fi
}

/* pass_live: slide, move_block. */
inline slide() {
    w = mem[SLOT];
    if
    :: w != 0 ->
        held = 0;
        if
        :: w & PINNED -> still_pinned()
        :: else
        fi;
        if
        :: !held ->
            room();
            if
            :: b != 0 ->
#ifndef SLIDE_BEFORE_COPY
                fill(mem[LOW(BLOCK(w))], mem[HIGH(BLOCK(w))]);
#endif
#ifdef SLIDE_PINNED
                atomic { mem[SLOT] = WORD(b, n) };
                ok = 1;
#else
                EXCHANGE(SLOT, w, WORD(b, n));
#endif
                if
                :: ok ->
#ifdef SLIDE_BEFORE_COPY
                    fill(mem[LOW(BLOCK(w))], mem[HIGH(BLOCK(w))]);
#endif
                    FREE(BLOCK(w))
                :: else -> FREE(b) /* pinned meanwhile: the copy is given back */
                fi
            :: else
            fi
        :: else
        fi
    :: else
    fi
}

/* lr_arena_free_held, end_held */
inline free_held() {
    b = 1;
    do
    :: b > BLOCKS -> break
    :: b <= BLOCKS && state[b] == HELD ->
#ifdef HELD_UNSCANNED
        held = 0;
#else
        SCAN(b);
#endif
#ifndef HELD_LEAKS
        if
        :: !held -> FREE(b)
        :: else
        fi;
#endif
        b++
    :: else -> b++
    od
}

/* reap_blockers: the byte is free when the owner is dead and its stores are done. */
inline reap() {
    if
#ifdef REAP_THE_LIVING
    :: 1 -> mem[HAZARD] = 0
#endif
    :: pinner_died && drained(0) -> mem[HAZARD] = 0; mem[SUMMARY] = 0 /* clear_slot */
    :: else
    fi
}

/* lr_repair: mark_slots, flag_pinned, walk_tiling. */
inline repair() {
    w = mem[SLOT];
#ifndef REPAIR_NO_FLAG
    if
    :: w != 0 ->
        SCAN(BLOCK(w));
        if
        :: held -> atomic { mem[SLOT] = mem[SLOT] | PINNED }
        :: else
        fi
    :: else
    fi;
#endif
    b = 1;
    do
    :: b > BLOCKS -> break
    :: b <= BLOCKS && b == BLOCK(w) -> state[b] = LIVE; b++
    :: b <= BLOCKS && b != BLOCK(w) && state[b] != HOLE ->
#ifdef REPAIR_DROPS_HELD
        held = 0;
#else
        SCAN(b);
#endif
        if
        :: held -> state[b] = HELD
        :: else -> FREE(b)
        fi;
        b++
    :: else -> b++
    od
}

#define FORGET_LOCALS atomic { w = 0; b = 0; n = 0; seen = 0; held = 0; ok = 0 }

inline work() {
    do
    :: left == 0 -> break
    :: atomic { left > 0 -> left-- };
        if
        :: put()
        :: delete()
        :: evict()
        :: slide()
        :: displace()
        :: free_held()
        :: reap()
        fi;
        FORGET_LOCALS
    od
}

/* Nothing leaks: with all readers gone, every block is named or free. */
inline settle_up() {
    finished && drained(0);
    reap();
    free_held();
    atomic {
        w = mem[SLOT];
        b = 1;
        do
        :: b > BLOCKS -> break
        :: else -> assert(state[b] == (BLOCK(w) == b -> LIVE : HOLE)); b++
        od
    }
}

proctype holder() {
    byte w, seen, b, n;
    bool ok, held;
    {
        work();
        settle_up()
    } unless { kill_holder };
    atomic { holder_died = kill_holder; w = 0; b = 0; n = 0; seen = 0; held = 0; ok = 0 }
}

/* Takes the lock over from the dead holder (lock.pml has how), repairs, goes on. */
proctype heir() {
    byte w, seen, b, n;
    bool ok, held;
end:
    holder_died;
    repair();
    FORGET_LOCALS;
#ifndef LARGE
    left++;
#endif
    work();
    settle_up()
}

/* SIGKILL at any time: the holder or the pinner (large: both). */
proctype killer() {
    if
    :: kill_holder = 1
    :: !finished -> kill_pinner = 1
#ifdef LARGE
    :: kill_holder = 1; kill_pinner = 1
#endif
    :: 1
    fi
}

init {
    atomic {
        state[1] = LIVE;
        state[2] = HOLE;
        state[3] = HOLE;
        incarnation = 1;
        if
        :: mem[SLOT] = WORD(1, 1)
        :: mem[SLOT] = WORD(1, 1) | PINNED
        fi;
        mem[INC(1)] = 1;
        mem[LOW(1)] = 1;
        mem[HIGH(1)] = 1;
        run holder();
        run heir();
#ifdef COPIES
        run copier();
#else
        run pinner(0);
#endif
        run killer()
    }
}
