/* SPDX-License-Identifier: MIT */
/*
 * Delete notes: is every delete that took effect behind a stopped holder remembered as a tombstone, and does every note
 * come back?
 *
 * Deleters without the lock claim a note, fill it, and kill their key's word (items.c: leave_note, delete_lockless).
 * Holders settle notes when they take the lock (entry.c: lr_notes_settle, is_abandoned); a dead holder's heir recalls
 * them first (repair.c: recall_notes). Fewer notes than deleters, so that they are used again. Everybody may die at any
 * step. The deleters' stores wait in store buffers. A dead deleter's generation is over once somebody has reaped it.
 *
 * What the code does not keep, and STRICT shows: a deleter who dies between its claim and the pending bit leaves the note
 * claimed until the stripe is repaired for another reason; and a holder who dies between the last two stores of a settling
 * leaves it claimed until the deleter's process ends.
 *
 * plants: KILL_FIRST VALID_FIRST OWNER_FREED_FIRST ABANDONED_TOO_SOON NO_RECALL BIT_LATE STRICT
 */
#ifdef LARGE
#define DELETERS 3
#define ROUNDS 3
#else
#define DELETERS 2
#define ROUNDS 2
#endif
#define NOTES 1

#define HASH 0    /* cells: the note's words that are stored plainly */
#define VERSION 1
#define STATE 2
#define CELLS 3
#define CPUS DELETERS
#define DEPTH 3
#include "tso.inc"

#define VALID 1

byte owner;            /* note.owner: deleter + 1 */
bool pending;          /* bit of notes_pending */
bool dead[DELETERS];   /* the word of this deleter's key */
bool tombstone[DELETERS];
bool killed[DELETERS], gone[DELETERS], over[DELETERS];
bool reaped[DELETERS]; /* generation has moved on */
bool kill_holder, holder_died, voided[DELETERS];

proctype deleter(byte me) {
    bool ok;
    {
#ifdef KILL_FIRST
        dead[me] = 1;
#endif
        /* leave_note */
        atomic {
            FENCE;
            if
            :: owner == 0 -> owner = me + 1; ok = 1
            :: else -> ok = 0
            fi
        };
        if
        :: ok ->
#ifdef VALID_FIRST
            STORE(STATE, VALID);
#endif
            STORE(HASH, me + 1);
            STORE(VERSION, me + 1);
#ifndef BIT_LATE
            atomic { FENCE; pending = 1 };
#endif
#ifndef VALID_FIRST
            STORE(STATE, VALID); /* COMMIT POINT */
#endif
#ifdef BIT_LATE
            atomic { FENCE; dead[me] = 1 };
            atomic { FENCE; pending = 1 };
#endif
        :: else -> voided[me] = 1 /* lr_void_raise */
        fi;
        atomic { FENCE; dead[me] = 1 } /* lr_reader_kill */
    } unless { killed[me] };
    if
    :: killed[me] -> drained(me); gone[me] = 1
    :: else
    fi;
    atomic { over[me] = 1; ok = 0 }
}

/* is_abandoned */
#define ABANDONED(o) ((o) == 0 || reaped[(o) - 1])

inline settle() {
    if
    :: pending ->
        if
        :: mem[STATE] == VALID ->
            hash = mem[HASH];
            assert(hash != 0 && mem[VERSION] == hash); /* the words of one delete */
            tombstone[hash - 1] = 1;
            ok = 1
        :: else ->
#ifdef ABANDONED_TOO_SOON
            ok = 1
#else
            ok = ABANDONED(owner)
#endif
        fi;
        if
        :: ok ->
#ifdef OWNER_FREED_FIRST
            mem[STATE] = 0;
            owner = 0;
            pending = 0
#else
            pending = 0;
            mem[STATE] = 0;
            owner = 0
#endif
        :: else
        fi
    :: else
    fi;
    atomic { hash = 0; ok = 0 }
}

inline reap() {
    d = 0;
    do
    :: d == DELETERS -> break
    :: else ->
        if
        :: gone[d] -> reaped[d] = 1
        :: else
        fi;
        d++
    od
}

/* Takes the lock, settles, lets it go. */
inline work() {
    do
    :: rounds == 0 -> break
    :: rounds > 0 ->
        rounds--;
        reap();
        settle()
    od
}

/* With all deleters gone: what is dead has its tombstone (or a void), and the note is free. */
inline judge() {
    over[0] && over[DELETERS - 1] && over[DELETERS / 2] && drained(0) && drained(DELETERS - 1) && drained(DELETERS / 2);
    reap();
    settle();
    d = 0;
    do
    :: d == DELETERS -> break
    :: else -> assert(!dead[d] || tombstone[d] || voided[d]); d++
    od;
    assert(mem[STATE] == 0);
#ifdef STRICT
    assert(owner == 0 && !pending)
#else
    assert(owner != 0 || !pending)
#endif
}

byte rounds = ROUNDS;

proctype holder() {
    byte hash, d;
    bool ok;
    {
        work();
        judge()
    } unless { kill_holder };
    atomic { holder_died = kill_holder; hash = 0; d = 0; ok = 0 }
}

proctype heir() {
    byte hash, d;
    bool ok;
end:
    holder_died;
#ifndef NO_RECALL
    if
    :: owner != 0 -> pending = 1 /* recall_notes */
    :: else
    fi;
#endif
    work();
    judge()
}

proctype killer() {
    do
    :: !kill_holder -> kill_holder = 1
    :: !killed[0] -> killed[0] = 1
    :: break
    od
}

init {
    atomic {
        run deleter(0);
        run deleter(1);
#if DELETERS > 2
        run deleter(2);
#endif
        run holder();
        run heir();
        run killer()
    }
}
