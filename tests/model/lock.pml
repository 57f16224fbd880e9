/* SPDX-License-Identifier: MIT */
/*
 * The stripe lock among processes that join, die, leave and join again: is a living owner ever robbed, does everybody get
 * the lock, and is a stripe repaired before it is used?
 *
 * LIVES processes have joined, in a slot each. Each locks (lock.c: lock_slowly, take_over), works, unlocks and leaves; the
 * last one then joins again (participant.c: take_among, become_owner), in the slot of a dead one if there is one. SIGKILL comes at any step, also between an unlock and its wake,
 * in a reaping and in a repair. The kernel then frees all bytes of the dead. `dirty` is the stripe in the middle of a
 * change. Time-outs of the futex come only once somebody has died or given up: else wakes alone must suffice.
 * In the beginning life 0 has the lock, or (FROM_OUTSIDE) nobody.
 *
 *   lock word: generation * 16 | slot + 1, * 4 | RECOVER | WAITERS
 *
 * large: FROM_OUTSIDE
 * plants: NO_GENERATION BYTE_IGNORED POSIX_LOCK TAKEOVER_UNREPAIRED TAKEOVER_BLIND ANONYMOUS NO_WAITERS_CARRY NO_SLICES
 * plants: LARGE+RECOVERED_ALREADY WAKE_UNSET NOT_REAPED JOIN_UNLOCKED
 */
#if defined(FROM_OUTSIDE)
#define KILLS 1
#define TRIES 4
#elif defined(LARGE)
#define KILLS 2
#define TRIES 2
#else
#define KILLS 1
#define TRIES 2
#endif
#define LIVES 3
#define SLOTS 3

#define WAITERS 1
#define RECOVER 2
#ifdef NO_GENERATION
#define WORD(s, g) (((s) + 1) * 4)
#define PASSED(s, g) 0
#else
#define WORD(s, g) (((s) + 1) * 4 + (g)*16)
#define PASSED(s, g) (generation[s] != (g))
#endif
#define OWNER(word) ((word) / 4 * 4)
#define SLOT_OF(word) ((((word) / 4) & 3) - 1)
#define GENERATION_OF(word) ((word) / 16)

int lock;
bool dirty;
byte generation[SLOTS];
bool taken[SLOTS];
byte owner_of_byte[SLOTS]; /* life + 1, 0 free: what the kernel knows */
bool asleep[LIVES + 1];
bool killed[LIVES + 1];
bool over[LIVES + 1];
bool loose_wakes; /* somebody died or gave up, perhaps with a wake that was meant for others */

/* The kernel's part of a death. */
inline die() {
    atomic {
        i = 0;
        do
        :: i == SLOTS -> break
        :: else ->
            if
            :: owner_of_byte[i] == me + 1 -> owner_of_byte[i] = 0
            :: else
            fi;
            i++
        od;
        asleep[me] = 0;
        loose_wakes = 1
    }
}

/* take_byte */
#define TAKE_BYTE(s)                                                                                                   \
    atomic {                                                                                                           \
        if                                                                                                             \
        :: owner_of_byte[s] == 0 -> owner_of_byte[s] = me + 1; ok = 1                                                  \
        :: else -> ok = 0                                                                                              \
        fi                                                                                                             \
    }

#define CAS(expected, desired)                                                                                         \
    atomic {                                                                                                           \
        if                                                                                                             \
        :: lock == (expected) -> lock = (desired); ok = 1                                                              \
        :: else -> ok = 0                                                                                              \
        fi                                                                                                             \
    }

/* take_slot, reap_under_byte, become_owner */
inline join() {
    slot = 0; /* preferably where somebody died */
    do
    ::
#ifdef JOIN_UNLOCKED
        if
        :: atomic { !taken[slot] -> owner_of_byte[slot] = me + 1; ok = 1 }
        :: else -> ok = 0
        fi;
#else
        TAKE_BYTE(slot);
#endif
        if
        :: ok -> break
        :: else -> slot = (slot + 1) % SLOTS
        fi
    od;
    if
    :: taken[slot] -> generation[slot]++; taken[slot] = 0
    :: else
    fi;
    generation[slot]++;
    atomic { taken[slot] = 1; own = WORD(slot, generation[slot]) } /* COMMIT POINT */
}

/* lr_participant_leave */
inline leave() {
    taken[slot] = 0;
    owner_of_byte[slot] = 0
}

/* lr_owner_alive, with a look at the generation and one at the byte. */
inline probe() {
    s = SLOT_OF(word);
    if
    :: OWNER(word) == own -> ok = 1
    :: OWNER(word) != own && PASSED(s, GENERATION_OF(word)) -> ok = 0
    :: else ->
#ifdef BYTE_IGNORED
        ok = 0
#else
        ok = owner_of_byte[s] != 0
#endif
    fi
}

/* lr_participant_reap: ok says that the generation is over. */
inline reap() {
    if
    :: PASSED(s, GENERATION_OF(word)) -> ok = 1
    :: else ->
#ifdef BYTE_IGNORED
        ok = 1;
#else
        TAKE_BYTE(s);
#endif
        if
        :: ok ->
            /* Others may have reaped and joined between our look and the byte. */
            if
            :: !PASSED(s, GENERATION_OF(word)) -> generation[s]++; taken[s] = 0
            :: else
            fi;
            owner_of_byte[s] = 0
        :: else
        fi;
#ifndef NO_GENERATION
        ok = PASSED(s, GENERATION_OF(word))
#endif
    fi
}

/* take_over. ok: the lock is ours, the stripe healthy. */
inline take_over() {
#ifndef NOT_REAPED
    reap();
#endif
    if
    :: ok ->
#ifdef TAKEOVER_BLIND
        lock = own + WAITERS + RECOVER;
#else
        CAS(word, own + WAITERS + RECOVER); /* COMMIT POINT */
#endif
        if
        :: ok ->
#ifndef TAKEOVER_UNREPAIRED
            if
#ifdef RECOVERED_ALREADY
            :: word & RECOVER
            :: !(word & RECOVER) -> dirty = 1; dirty = 0
#else
            :: 1 -> dirty = 1; dirty = 0 /* lr_repair */
#endif
            fi;
#endif
            atomic { lock = lock & ~RECOVER; assert(OWNER(lock) == own) }
        :: else
        fi
    :: else
    fi
}

/* lr_stripe_lock_for, lock_slowly. got: 0 is BUSY. */
inline take() {
    got = 0;
    tries = TRIES;
#ifdef ANONYMOUS
    CAS(0, 4000 * 4);
    if
    :: ok -> lock = own
    :: else
    fi;
#else
    CAS(0, own);
#endif
    got = ok;
    do
    :: got -> break
    :: atomic { !got && tries == 0 && OWNER(lock) != 0 -> loose_wakes = 1 }; break /* EBUSY */
    :: !got && (tries > 0 || OWNER(lock) == 0) ->
        atomic { tries = (tries > 0 -> tries - 1 : 0); word = lock };
        if
        :: OWNER(word) == 0 ->
#ifdef NO_WAITERS_CARRY
            CAS(word, own);
#else
            CAS(word, own + WAITERS);
#endif
            got = ok
        :: else ->
#ifdef ANONYMOUS
            if
            :: OWNER(word) == 4000 * 4 -> ok = 1
            :: else -> probe()
            fi;
#else
            probe();
#endif
            if
            :: !ok -> take_over(); got = ok
            :: ok ->
#ifndef WAKE_UNSET
                if
                :: !(word & WAITERS) -> CAS(word, word | WAITERS)
                :: else
                fi;
#endif
                if
                :: ok ->
                    /* futex_wait_slice: asleep only if the word is what we think. */
                    atomic {
                        if
#ifdef WAKE_UNSET
                        :: lock == word -> asleep[me] = 1
#else
                        :: lock == (word | WAITERS) -> asleep[me] = 1
#endif
                        :: else
                        fi
                    };
                    if
                    :: !asleep[me]
#ifndef NO_SLICES
                    :: loose_wakes -> asleep[me] = 0
#endif
                    fi
                :: else
                fi
            fi
        fi
    od;
    atomic { word = 0; s = 0; tries = 0; ok = 0 }
}

/* release */
inline unlock() {
    atomic { assert(OWNER(lock) == own); word = lock; lock = 0 }; /* COMMIT POINT */
    if
    :: word & WAITERS -> /* futex_wake_one */
        atomic {
            if
            :: asleep[0] -> asleep[0] = 0
            :: asleep[1] -> asleep[1] = 0
            :: asleep[2] -> asleep[2] = 0
            :: asleep[LIVES] -> asleep[LIVES] = 0
            :: else
            fi
        }
    :: else
    fi
}

inline work() {
    assert(!dirty); /* whoever died in the middle was repaired */
    atomic { dirty = 1; assert(OWNER(lock) == own) };
#ifdef POSIX_LOCK
    owner_of_byte[slot] = 0; /* some library closed a descriptor of the file */
#endif
    atomic { dirty = 0; assert(OWNER(lock) == own) }
}

proctype life(byte me) {
    int word, own;
    byte slot, s, tries, i;
    bool ok, got, anew;
    {
        atomic { slot = me; own = WORD(me, 1) };
#ifndef FROM_OUTSIDE
        if
        :: me == 0 -> got = 1; goto inside /* has it already */
        :: else
        fi;
#endif
again:
        take();
inside:
        if
        :: got -> work(); unlock()
        :: else
        fi;
        leave();
        atomic { word = 0; own = 0; slot = 0; s = 0; tries = 0; ok = 0; got = 0 };
        if
        :: me == LIVES - 1 && !anew && loose_wakes -> anew = 1; join(); goto again
        :: else
        fi
    } unless { killed[me] };
    if
    :: killed[me] -> die()
    :: else
    fi;
    atomic { word = 0; own = 0; slot = 0; s = 0; tries = 0; ok = 0; got = 0; i = 0; anew = 0; over[me] = 1 }
}

/* When all have gone, the stripe must be there for the next one, at once. */
proctype newcomer(byte me) {
    int word, own;
    byte slot, s, tries, i;
    bool ok, got;
    over[0] && over[1] && over[2];
    join();
    take();
    assert(got);
    work();
    unlock();
    leave();
    over[me] = 1
}

proctype killer() {
    byte left = KILLS;
    do
    :: left == 0 -> break
    :: left > 0 && !killed[0] -> killed[0] = 1; left--
    :: left > 0 && !killed[1] && KILLS > 1 -> killed[1] = 1; left--
    :: left > 0 && !killed[2] && KILLS > 1 -> killed[2] = 1; left--
    :: break
    od
}

init {
    atomic {
        generation[0] = 1; taken[0] = 1; owner_of_byte[0] = 1;
        generation[1] = 1; taken[1] = 1; owner_of_byte[1] = 2;
        generation[2] = 1; taken[2] = 1; owner_of_byte[2] = 3;
#ifndef FROM_OUTSIDE
        lock = WORD(0, 1);
#endif
        run life(0);
        run life(1);
        run life(2);
        run newcomer(LIVES);
        run killer()
    }
}
