/* SPDX-License-Identifier: MIT */
/*
 * Walks: can a walk without the lock miss a word that is there all the time, while the two buckets where it may stand are
 * merged and split, again and again, and the holder dies in the midst of it?
 *
 * Bucket RIGHT is split from LEFT and merged into it (index.c: add_bucket, drop_bucket, lr_index_finish_moves). The word
 * belongs in RIGHT if there is one, else in LEFT. A walker (scan.c) goes from position 0 to 2: LEFT has the interval 0..2, or
 * 0..1 and RIGHT 1..2. A bucket has one cell: whatever came to a slot that has been read came after the read. The holder's
 * stores become visible in order, and it reads nothing that the walker writes: no store buffers.
 *
 * UNCOUNTED: merges are not counted. COUNTED_LATE: only when the words have moved. SKIPS: behind a bucket that was split
 * meanwhile the walk goes on at the end that it had. TWICE_UNSEEN: while words move, the split word may change.
 *
 * plants: UNCOUNTED COUNTED_LATE SKIPS TWICE_UNSEEN
 */
#ifdef LARGE
#define CHANGES 6
#else
#define CHANGES 4
#endif

#define LEFT 0
#define RIGHT 1

bool cell[2]; /* whether the word stands there */
bool splitting;
bool two;     /* there are two buckets, splitting apart */
byte merges;
byte changes = CHANGES;

/* The split word is one word: what a walker compares is all of it. `moves` makes each merge another one. */
byte moves;
#define SPLIT_WORD (moves * 4 + splitting * 2 + two)

/* A word moves: it counts in both places, then in one. */
inline move(from, to) {
    cell[to] = 1;
    cell[from] = 0
}

/* add_bucket; and lr_index_finish_moves, for whoever died in it or in a merge. */
inline split() {
    splitting = 1;
    if
    :: cell[LEFT] -> move(LEFT, RIGHT)
    :: else
    fi;
    atomic { splitting = 0; two = 1 }
}

/* drop_bucket. Where its holder dies, who comes next makes a split of it. */
inline merge() {
    atomic { two = 0; splitting = 1; moves = (moves + 1) % 32 };
#if !defined(UNCOUNTED) && !defined(COUNTED_LATE)
    merges++;
#endif
    may_die();
    if
    :: !dead && cell[RIGHT] ->
        cell[LEFT] = 1;
        moves = (moves + 1) % 32;
        may_die();
        if
        :: !dead -> cell[RIGHT] = 0
        :: else
        fi
    :: else
    fi;
    may_die();
#ifdef COUNTED_LATE
    merges++;
#endif
    if
    :: dead -> dead = 0; split()
    :: else -> splitting = 0
    fi
}

inline may_die() {
    if
    :: dead = 1
    :: skip
    fi
}

proctype holder() {
    bool dead;
    do
    :: changes == 0 -> break
    :: changes > 0 && !two -> changes--; split()
    :: changes > 0 && two -> changes--; merge()
    od
}

proctype walker() {
    byte position, its_split, its_merges, now, then_two, now_two, count;
    bool bucket, seen, both;
    do
    :: position >= 2 -> break
    :: else ->
        /* come_to_bucket */
        its_merges = merges;
        its_split = SPLIT_WORD;
        both = (its_split / 2) & 1;
        bucket = (position == 1 && (its_split & 1) -> RIGHT : LEFT);
        /* read_bucket */
        seen = seen || cell[bucket];
        if
        :: both ->
            seen = seen || cell[RIGHT]
        :: else
        fi;
        /* is_whole */
        now = SPLIT_WORD;
        count = merges;
        if
#ifndef TWICE_UNSEEN
        :: both && now != its_split
#endif
        :: !both && (count != its_merges || SPLIT_WORD != now)
        :: else ->
            /* leave_bucket */
            then_two = its_split & 1;
            now_two = (now & 1) || ((now / 2) & 1);
#ifdef SKIPS
            now_two = then_two;
#endif
            if
            :: bucket == RIGHT -> position = 2
            :: bucket == LEFT && !both && (then_two || now_two) -> position = (position > 1 -> position : 1)
            :: else -> position = 2
            fi
        fi;
        now = 0
    od;
    assert(seen)
}

init {
    atomic {
        if
        :: two = 1; cell[RIGHT] = 1
        :: two = 0; cell[LEFT] = 1
        fi;
        run holder();
        run walker()
    }
}
