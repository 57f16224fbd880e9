/* SPDX-License-Identifier: MIT */
/*
 * Words that move: can a lockless delete get lost, or a reader miss what is there, while a word goes from one index bucket to
 * another, in a split, in a merge or by cuckoo, and the mover dies?
 *
 * One key, whose word stands in cell OLD and moves to cell NEW (index.c: move_word, move_words, finish_move). A deleter
 * (reader.c: lr_reader_kill), a reader (look_up) and a pinner's flag come in between. SPLIT: the bucket of NEW is being made,
 * and readers look there only while `splitting` is set or when it is done. Else both buckets belong to the key, and the
 * move is counted in `split`. The mover's stores wait in a store buffer. It may die at any step; a heir finishes.
 *
 * MERGE: the bucket of OLD goes. While `splitting` is set readers look in NEW first, then in OLD, as they do in a split whose
 * new bucket is OLD; so the move is counted. The heir makes a split of it, back to OLD. UNCOUNTED_MERGE: a reader who looked
 * into NEW too early is not told. MERGE_ENDS_EARLY: OLD is not looked at any more before its word has left it.
 * UNANNOUNCED: the word moves before readers look into both. FLAGS_FORGOTTEN: the heir does not flag what is pinned, and the
 * copy that had the flag is gone.
 *
 * The copy is hidden (dead and moved) until the mover has looked at the old word once more; a deleter kills hidden copies
 * too. COPY_ALIVE is what comes of a copy that counts at once: a delete that killed the old word before has returned, and
 * then the value is there again.
 *
 * RECENCY: readers raise the recency of a word by a plain store of one byte of it, which may become visible at any time
 * later, and so hit a slot that is empty by then, or the next word in it. So a slot is empty when it names no block, not
 * when it is 0, and whoever changes a word by CAS must expect to find another recency in it. (`late` stands for all
 * readers of any word that ever stood in the two slots.) EMPTY_MEANS_ZERO: a slot with a recency in it is not taken, and
 * the word that was to move there is lost. RECENCY_BY_WORD: the whole word is stored.
 *
 *   word: ITEM | PINNED | MOVED | DEAD | RECENT;  split: moves * 4 | splitting * 2 | buckets done
 *
 * runs: SPLIT CUCKOO CUCKOO+DOWN SPLIT+PINS CUCKOO+PINS MERGE+NO_READER MERGE+NO_DELETER MERGE+PINS+NO_DELETER
 * large: MERGE MERGE+PINS
 * runs: SPLIT+RECENCY CUCKOO+RECENCY CUCKOO+DOWN+RECENCY MERGE+RECENCY
 * plants: SPLIT+COPY_ALIVE CUCKOO+COPY_ALIVE CUCKOO+DOWN+COPY_ALIVE SPLIT+REVEAL_BLIND CUCKOO+REVEAL_BLIND
 * plants: SPLIT+HIDDEN_SPARED CUCKOO+HIDDEN_SPARED SPLIT+KILL_ONCE CUCKOO+DOWN+UNCOUNTED
 * plants: SPLIT+NO_FENCE CUCKOO+NO_FENCE CUCKOO+DOWN+NO_FENCE
 * plants: SPLIT+RECENCY+EMPTY_MEANS_ZERO CUCKOO+RECENCY+EMPTY_MEANS_ZERO SPLIT+RECENCY+RECENCY_BY_WORD CUCKOO+RECENCY+RECENCY_BY_WORD
 * plants: MERGE+COPY_ALIVE MERGE+REVEAL_BLIND MERGE+HIDDEN_SPARED MERGE+KILL_ONCE MERGE+NO_FENCE MERGE+CLEAR_FIRST
 * plants: MERGE+UNCOUNTED_MERGE MERGE+MERGE_ENDS_EARLY MERGE+UNANNOUNCED MERGE+UNFINISHED MERGE+PINS+PIN_MOVED MERGE+PINS+FLAGS_FORGOTTEN MERGE+SPLIT_UNSEEN
 * plants: SPLIT+CLEAR_FIRST SPLIT+NEW_FIRST SPLIT+ENDS_EARLY SPLIT+UNFINISHED CUCKOO+UNFINISHED SPLIT+PINS+PIN_MOVED SPLIT+SPLIT_UNSEEN
 */
#define OLD 0
#define NEW 1
#define SPLIT_WORD 2
#define CELLS 3
#define CPUS 2 /* mover, heir */
#define DEPTH 2
#include "tso.inc"

#define ITEM 1
#define PINNED 2
#define MOVED 4
#define DEAD 8
#define RECENT 16
#define SAME(a, b) (((a) & ~(PINNED | RECENT)) == ((b) & ~(PINNED | RECENT)))
#ifdef EMPTY_MEANS_ZERO
#define EMPTY(w) ((w) == 0)
#else
#define EMPTY(w) (!((w) & ITEM))
#endif
#define HIDDEN(w) (((w) & (MOVED | DEAD)) == (MOVED | DEAD))
#define SPLITTING(s) ((s) & 2)
#define DONE(s) ((s) & 1)

#if defined(RECENCY) || defined(NO_READER)
#define ALONE 1 /* the deleter: `late` stands for the readers */
#else
#define ALONE 2
#endif

#ifdef LARGE
#define TRIES 4
#else
#define TRIES 2
#endif

bool kill_mover, mover_died, moved;
bool deleting, deleted; /* a delete has begun, has returned */
bool pinned;            /* somebody holds a pin */
byte quiet;             /* processes without the lock that are done */

/* ---- the holder ---- */

/* reveal. Without the fence the mover sees its own copy while it still waits in the buffer. */
inline reveal() {
    do
#ifdef NO_FENCE
    :: atomic { w = (drained(me) -> mem[NEW] : w | MOVED | DEAD) };
#else
    :: FENCE;
        w = mem[NEW];
#endif
        if
        :: !HIDDEN(w) -> break
        :: else
        fi;
#ifdef REVEAL_BLIND
        o = 0;
#else
        o = mem[OLD];
#endif
        CAS(NEW, w, (o & DEAD -> w & ~MOVED : w & ~(MOVED | DEAD)));
        if
        :: ok -> break
        :: else
        fi
    od
}

/* move_word. The buffer's last entries are drained by the exchange that clears. */
inline move_word() {
    atomic { FENCE; w = mem[OLD]; mem[OLD] = w | MOVED };
#ifdef CLEAR_FIRST
    atomic { FENCE; mem[OLD] = 0 };
#endif
    if
#ifdef COPY_ALIVE
    :: EMPTY(mem[NEW]) -> STORE(NEW, w & ~MOVED)
#else
    :: EMPTY(mem[NEW]) -> STORE(NEW, w | MOVED | DEAD)
#endif
    :: else
    fi;
    reveal();
#if (defined(CUCKOO) && !defined(UNCOUNTED)) || (defined(MERGE) && !defined(UNCOUNTED_MERGE))
    STORE(SPLIT_WORD, mem[SPLIT_WORD] + 4);
#endif
#ifndef CLEAR_FIRST
    atomic { FENCE; mem[OLD] = 0 }
#endif
}

/* add_bucket and move_words; or move_along. */
inline move() {
#ifdef SPLIT
    STORE(SPLIT_WORD, 2);
    FENCE;
#ifdef ENDS_EARLY
    STORE(SPLIT_WORD, 1);
#endif
    if
    :: !EMPTY(mem[OLD]) -> move_word()
    :: else
    fi;
    STORE(SPLIT_WORD, 1);
#elif defined(MERGE)
    /* drop_bucket */
#ifndef UNANNOUNCED
    STORE(SPLIT_WORD, 4 + 2);
    FENCE;
#endif
#ifdef MERGE_ENDS_EARLY
    STORE(SPLIT_WORD, 4 + 1);
#endif
    if
    :: !EMPTY(mem[OLD]) -> move_word()
    :: else
    fi;
    atomic { w = (drained(me) -> mem[SPLIT_WORD] : 8 + 2) };
    STORE(SPLIT_WORD, w / 4 * 4 + 1);
#else
    move_word();
#endif
    FENCE
}

/* move_words, as a repair of a merge does it: what stands in NEW goes back to OLD. */
inline move_back() {
    atomic { FENCE; w = mem[NEW]; mem[NEW] = w | MOVED };
    if
    :: EMPTY(mem[OLD]) -> STORE(OLD, w | MOVED | DEAD)
    :: else
    fi;
    do
    :: FENCE;
        w = mem[OLD];
        if
        :: !HIDDEN(w) -> break
        :: else
        fi;
        o = mem[NEW];
        CAS(OLD, w, (o & DEAD -> w & ~MOVED : w & ~(MOVED | DEAD)));
        if
        :: ok -> break
        :: else
        fi
    od;
    atomic { FENCE; mem[NEW] = 0 }
}

/* finish_move, in the word's old place and in its new one. */
inline finish_old() {
    w = mem[OLD];
    o = mem[NEW];
    if
    :: (w & MOVED) && (o & ITEM) && !(o & DEAD) && !(w & DEAD) -> move_word()
    :: (w & MOVED) && (o & ITEM) && !(o & DEAD) && (w & DEAD) -> STORE(OLD, 0)
    :: (w & MOVED) && (!(o & ITEM) || (o & DEAD)) ->
        if
        :: o & ITEM -> STORE(NEW, 0)
        :: else
        fi;
        atomic { FENCE; mem[OLD] = mem[OLD] & ~MOVED }
    :: else
    fi;
    FENCE
}

inline finish_copy() {
    w = mem[NEW];
    o = mem[OLD];
    if
    :: (w & MOVED) && (o & ITEM) && !(o & DEAD) -> STORE(NEW, 0)
    :: (w & MOVED) && (!(o & ITEM) || (o & DEAD)) ->
        if
        :: o & ITEM -> STORE(OLD, 0)
        :: else
        fi;
        atomic { FENCE; mem[NEW] = mem[NEW] & ~MOVED }
    :: else
    fi;
    FENCE
}

/* lr_index_finish_moves, then mark_slots: dead words go. */
inline repair() {
#ifndef UNFINISHED
#ifdef SPLIT
    if
    :: SPLITTING(mem[SPLIT_WORD]) ->
        if
        :: !EMPTY(mem[OLD]) -> move_word()
        :: else
        fi;
        STORE(SPLIT_WORD, 1)
    :: else
    fi;
#elif defined(MERGE)
    if
    :: SPLITTING(mem[SPLIT_WORD]) ->
        if
        :: !EMPTY(mem[NEW]) -> move_back()
        :: else
        fi;
        w = mem[SPLIT_WORD];
        STORE(SPLIT_WORD, w & ~2)
    :: else
    fi;
    FENCE;
    /* finish_move: it has no twin any more */
    atomic { FENCE; mem[OLD] = mem[OLD] & ~MOVED };
#else
#ifdef DOWN
    finish_copy();
    finish_old();
#else
    finish_old();
    finish_copy();
#endif
#endif
#else
    /* Clears the flag and the split, and leaves the words where they are. */
    atomic { FENCE; mem[OLD] = mem[OLD] & ~MOVED; mem[SPLIT_WORD] = mem[SPLIT_WORD] / 4 * 4 };
#endif
    FENCE;
    if
    :: mem[OLD] & DEAD -> STORE(OLD, 0)
    :: else
    fi;
    if
    :: mem[NEW] & DEAD -> STORE(NEW, 0)
    :: else
    fi;
    FENCE;
#if defined(PINS) && !defined(FLAGS_FORGOTTEN)
    /* flag_pinned: whoever holds a pin named its block before the flag was set. */
    if
    :: pinned && (mem[OLD] & ITEM) -> mem[OLD] = mem[OLD] | PINNED
    :: pinned && (mem[NEW] & ITEM) -> mem[NEW] = mem[NEW] | PINNED
    :: else
    fi
#endif
}

proctype mover(byte me) {
    byte w, o, seen;
    bool ok;
    {
        move()
    } unless { kill_mover };
    atomic { mover_died = kill_mover; moved = !kill_mover; w = 0; o = 0; seen = 0; ok = 0 }
}

proctype heir(byte me) {
    byte w, o, seen;
    bool ok;
end:
    mover_died && drained(0);
    repair();
    moved = 1
}

/* ---- without the lock (reader.c) ---- */

/* look_up: cell and word; cell 255: certainly not there; 254: again. */
#define LOOK(c)                                                                                                        \
    atomic {                                                                                                           \
        word = mem[c];                                                                                                 \
        if                                                                                                             \
        :: (word & ITEM) && !(word & DEAD) -> cell = c; goto looked                                                    \
        :: else                                                                                                        \
        fi                                                                                                             \
    }

inline look_up() {
    cell = 255;
    split = mem[SPLIT_WORD];
#ifdef SPLIT
    if
#ifdef NEW_FIRST
    :: SPLITTING(split) -> LOOK(NEW); LOOK(OLD)
#elif defined(SPLIT_UNSEEN)
    :: SPLITTING(split) -> LOOK(OLD)
#else
    :: SPLITTING(split) -> LOOK(OLD); LOOK(NEW)
#endif
    :: split == 1 -> LOOK(NEW)
    :: split == 0 -> LOOK(OLD)
    fi;
#elif defined(MERGE)
    if
#ifdef SPLIT_UNSEEN
    :: SPLITTING(split) -> LOOK(NEW)
#else
    :: SPLITTING(split) -> LOOK(NEW); LOOK(OLD)
#endif
    :: !SPLITTING(split) && DONE(split) -> LOOK(NEW)
    :: !SPLITTING(split) && !DONE(split) -> LOOK(OLD)
    fi;
#elif defined(DOWN)
    LOOK(NEW);
    LOOK(OLD);
#else
    LOOK(OLD);
    LOOK(NEW);
#endif
    if
    :: mem[SPLIT_WORD] != split -> cell = 254
    :: else
    fi;
looked:
    skip
}

/* kill_hidden, for one place */
#define UNHIDE(c)                                                                                                      \
    atomic {                                                                                                           \
        if                                                                                                             \
        :: HIDDEN(mem[c]) -> mem[c] = mem[c] & ~MOVED                                                                  \
        :: else                                                                                                        \
        fi                                                                                                             \
    }

inline kill_hidden() {
#ifndef HIDDEN_SPARED
#ifdef SPLIT
    split = mem[SPLIT_WORD];
    if
    :: split != 1 -> UNHIDE(OLD)
    :: else
    fi;
    if
    :: split != 0 -> UNHIDE(NEW)
    :: else
    fi;
#elif defined(MERGE)
    split = mem[SPLIT_WORD];
    if
    :: SPLITTING(split) || DONE(split) -> UNHIDE(NEW)
    :: else
    fi;
    if
    :: !DONE(split) -> UNHIDE(OLD)
    :: else
    fi;
#else
    UNHIDE(OLD);
    UNHIDE(NEW);
#endif
#endif
    skip
}

/* lr_reader_kill */
proctype deleter() {
    byte cell, word, now, split;
    if
#ifndef NO_DELETER
    :: deleting = 1
#endif
    :: goto none /* nobody deletes */
    fi;
    do
    :: atomic { deleting -> cell = 255 };
        kill_hidden();
        look_up();
        if
        :: cell == 255 -> break
        :: cell == 254
        :: else ->
            /* settled */
            if
            :: SAME(mem[cell], word) && mem[SPLIT_WORD] == split ->
                now = word;
                do
                :: atomic {
                       if
                       :: mem[cell] == now -> mem[cell] = now | DEAD; break
                       :: else -> now = mem[cell]
                       fi
                   };
                    if
                    :: SAME(now, word)
                    :: else -> break
                    fi
                od;
#ifdef KILL_ONCE
                break
#endif
            :: else
            fi
        fi
    od;
    deleted = 1;
none:
    atomic { quiet++; cell = 0; word = 0; now = 0; split = 0 }
}

proctype reader() {
    byte cell, word, split, tries = TRIES;
    bool after;
    after = deleted;
again:
    look_up();
    if
    :: cell == 255 -> assert(deleting) /* what nobody deletes is found */
    :: cell == 254 || (cell < 2 && (!SAME(mem[cell], word) || mem[SPLIT_WORD] != split)) ->
        if
        :: tries > 0 -> tries--; goto again
        :: else /* the lock */
        fi
    :: else -> assert(!after) /* deleted is deleted */
    fi;
    atomic { quiet++; cell = 0; word = 0; split = 0; tries = 0; after = 0 }
}

/* fasten: the flag goes on, and never on a word that is being moved. */
proctype pinner() {
    byte cell, word, split;
    look_up();
    if
    :: cell >= 254
    :: else ->
        atomic {
            if
#ifdef PIN_MOVED
            :: mem[cell] == word -> mem[cell] = word | PINNED; pinned = 1
#else
            :: mem[cell] == word && !(word & MOVED) -> mem[cell] = word | PINNED; pinned = 1
#endif
            :: else
            fi
        };
        if
        :: mem[SPLIT_WORD] != split -> pinned = 0 /* settled */
        :: else
        fi
    fi;
    atomic { quiet++; cell = 0; word = 0; split = 0 }
}

#ifdef RECENCY
/* raise_recency: the byte arrives, whenever, whatever stands there now. */
proctype late() {
#ifdef RECENCY_BY_WORD
    byte word;
    atomic { mem[OLD] & ITEM -> word = mem[OLD] };
    atomic { mem[OLD] = word | RECENT; word = 0 }
#else
    if
    :: mem[OLD] = mem[OLD] | RECENT
    :: mem[NEW] = mem[NEW] | RECENT
    fi
#endif
}
#endif

proctype killer() {
    if
    :: kill_mover = 1
    :: 1
    fi
}

/* When all is quiet: the item stands once, or nowhere if it was deleted; and a pin has its flag. */
proctype judge() {
end:
    moved && quiet == ALONE && drained(0) && drained(1);
    assert(!(mem[OLD] & MOVED) && !(mem[NEW] & MOVED) && !SPLITTING(mem[SPLIT_WORD]));
    if
    :: deleted ->
        assert(!(mem[OLD] & ITEM) || (mem[OLD] & DEAD));
        assert(!(mem[NEW] & ITEM) || (mem[NEW] & DEAD))
    :: else ->
        assert((mem[OLD] & ITEM) != (mem[NEW] & ITEM));
        assert(!pinned || ((mem[OLD] | mem[NEW]) & PINNED))
    fi
}

init {
    atomic {
        mem[OLD] = ITEM;
        run mover(0);
        run heir(1);
        run deleter();
#if defined(PINS)
        run pinner();
#elif !defined(RECENCY) && !defined(NO_READER)
        run reader();
#endif
#ifdef RECENCY
        run late();
#endif
        run killer();
        run judge()
    }
}
