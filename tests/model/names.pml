/* SPDX-License-Identifier: MIT */
/*
 * Create, attach, retire: can anybody ever attach to half a segment, to two that are mixed, or to one whose name was taken
 * from under it? And does a death ever block the next creator?
 *
 * Files are inodes; two names lead to inodes (0: no such name). Each inode of a liveness file knows the segment that it
 * was made for, and carries the guard byte (names.c). Creators, a destroyer and an attacher step through segment.c: create,
 * claim_names, build_segment, attach_once, destroy_guarded. All but the last creator may die at any step; the kernel then
 * drops their guards. In the end a fresh creator must come to a living segment.
 *
 * plants: NAIVE_CREATE LIVE_LAST DESTROY_LIVE_FIRST UNLINK_BEFORE_RETIRE CLEAR_ANYTHING
 * plants: LINK_UNGUARDED GUARD_NEVER_DROPS
 */
#define CREATORS 2 /* three: more states than memory holds */
#ifdef LARGE
#define PATIENCE 2
#else
#define PATIENCE 1
#endif
#define DESTROYER CREATORS
#define ATTACHER (CREATORS + 1)
#define LAST (CREATORS + 2)
#define ALL (CREATORS + 3)
#define FILES (2 * ALL + 3)

/* The file system: process p makes the segment 2p + 1 and the liveness file 2p + 2. */
byte segment_name, live_name;
bool whole[FILES];   /* segment: laid out */
bool retired[FILES]; /* segment: state */
byte partner[FILES]; /* liveness file: inode of its segment */
byte guard[FILES];   /* liveness file: process + 1 that holds the byte */
bool killed[ALL];
byte finished;

#define MY_SEGMENT (2 * me + 1)
#define MY_LIVE (2 * me + 2)

/* The name and its partner, whenever a living segment is named. */
#define PAIRED (segment_name == 0 || retired[segment_name] || (live_name != 0 && partner[live_name] == segment_name))

inline die() {
    atomic {
#ifndef GUARD_NEVER_DROPS
        i = 0;
        do
        :: i == FILES -> break
        :: else ->
            if
            :: guard[i] == me + 1 -> guard[i] = 0
            :: else
            fi;
            i++
        od;
#endif
        finished++
    }
}

/* lr_guard_named: old is the guarded liveness file that has the name, 0 if there is none. */
inline guard_named() {
    old = 255;
    do
    :: old != 255 -> break
    :: old == 255 ->
        seen = live_name; /* open */
        if
        :: seen == 0 -> old = 0
        :: else ->
            atomic {
                if
                :: guard[seen] == 0 -> guard[seen] = me + 1; ok = 1
                :: else -> ok = 0; patience = (patience > 0 -> patience - 1 : 0)
                fi
            };
            if
            :: ok && live_name == seen -> old = seen
            :: ok && live_name != seen -> guard[seen] = 0
            :: !ok && patience == 0 -> old = 254; break /* EBUSY */
            :: !ok && patience > 0 -> guard[seen] == 0 || live_name != seen
            fi
        fi
    od
}

/* lr_names_unlink: only if the name is still that file's. */
inline unlink_segment(file) {
    ok = segment_name == (file);
    if
    :: ok ->
        atomic {
            assert(segment_name == 0 || retired[segment_name]); /* nobody's living segment loses its name */
            segment_name = 0
        }
    :: else
    fi
}

inline unlink_live(file) {
    ok = live_name == (file);
    if
    :: ok -> atomic { live_name = 0; assert(PAIRED) }
    :: else
    fi
}

/* lr_names_clear: ok: the segment's name is free now. */
inline clear_segment() {
    seen = segment_name;
    if
    :: seen == 0 -> ok = 1
#ifdef CLEAR_ANYTHING
    :: seen != 0 -> unlink_segment(seen); ok = 1
#else
    :: seen != 0 && retired[seen] -> unlink_segment(seen); ok = 1
    :: seen != 0 && !retired[seen] -> ok = 0
#endif
    fi
}

/* create. made: 1 a segment of our own, 0 EEXISTS or EBUSY. */
inline create() {
    made = 0;
    partner[MY_LIVE] = MY_SEGMENT;
#ifndef LINK_UNGUARDED
    guard[MY_LIVE] = me + 1; /* build_live */
#endif
#ifdef NAIVE_CREATE
    atomic {
        if
        :: segment_name == 0 && live_name == 0 -> live_name = MY_LIVE; segment_name = MY_SEGMENT
        :: else -> goto created
        fi
    };
    whole[MY_SEGMENT] = 1;
    made = 1;
    goto created;
#endif
    /* claim_names */
    do
    :: guard_named();
        if
        :: old == 254 -> goto created
        :: old == 0
        :: old != 0 && old != 254 ->
            clear_segment();
            if
            :: ok -> unlink_live(old); guard[old] = 0
            :: else -> guard[old] = 0; goto created
            fi
        fi;
#ifdef LIVE_LAST
        break;
#endif
        atomic {
            if
            :: live_name == 0 -> live_name = MY_LIVE; break
            :: else
            fi
        }
    od;
#ifdef LINK_UNGUARDED
    guard[MY_LIVE] = me + 1;
#endif
    clear_segment();
    if
    :: !ok -> unlink_live(MY_LIVE); goto created
    :: else
    fi;
    /* build_segment */
    whole[MY_SEGMENT] = 1;
    atomic {
        if
        :: segment_name == 0 -> segment_name = MY_SEGMENT; made = 1 /* COMMIT POINT */
        :: else
        fi;
#ifndef LIVE_LAST
        assert(PAIRED)
#endif
    };
#ifdef LIVE_LAST
    atomic {
        if
        :: live_name == 0 -> live_name = MY_LIVE
        :: else
        fi
    };
#endif
    if
    :: !made -> unlink_live(MY_LIVE)
    :: else
    fi;
created:
    guard[MY_LIVE] = 0
}

/* attach_once: result is the segment, 0: refused. */
inline attach() {
    result = 0;
    seen = segment_name;
    if
    :: seen == 0 -> goto attached
    :: else
    fi;
    assert(whole[seen]); /* what has the name is laid out */
    if
    :: retired[seen] -> goto attached
    :: else
    fi;
    /* pair_live */
    old = live_name;
    if
    :: old == 0 -> goto attached
    :: old != 0 && partner[old] != seen -> goto attached
    :: else
    fi;
    /* lr_participant_join opens the liveness file by its name again, and compares. */
    if
    :: live_name != old -> goto attached
    :: else
    fi;
    if
    :: retired[seen] -> goto attached
    :: else
    fi;
    result = seen;
    assert(whole[seen] && partner[old] == seen); /* bytes and liveness of one generation */
attached:
    skip
}

#define FORGET_LOCALS atomic { old = 0; seen = 0; i = 0; ok = 0; patience = 0 }

proctype creator(byte me) {
    byte old, seen, i, patience = PATIENCE;
    bool ok, made;
    {
        create()
    } unless { killed[me] };
    if
    :: killed[me] -> die()
    :: else -> finished++
    fi;
    FORGET_LOCALS
}

proctype destroyer(byte me) {
    byte old, seen, i, patience = PATIENCE;
    bool ok;
    {
        guard_named();
        if
        :: old == 0 || old == 254
        :: else ->
            seen = segment_name; /* open_for_destroy */
            if
            :: seen != 0 ->
#ifdef DESTROY_LIVE_FIRST
                unlink_live(old);
#endif
#ifdef UNLINK_BEFORE_RETIRE
                unlink_segment(seen);
                retired[seen] = 1;
#else
                retired[seen] = 1; /* COMMIT POINT */
                unlink_segment(seen);
#endif
            :: else
            fi;
            if
            :: segment_name == 0 -> unlink_live(old)
            :: else
            fi;
            guard[old] = 0
        fi
    } unless { killed[me] };
    if
    :: killed[me] -> die()
    :: else -> finished++
    fi;
    FORGET_LOCALS
}

proctype attacher() {
    byte old, seen, result;
    attach();
    atomic { finished++; old = 0; seen = 0; result = 0 }
}

/* Whatever the others left behind: a fresh lr_cache_open comes to a segment. */
proctype latecomer(byte me) {
    byte old, seen, result, i, patience = PATIENCE;
    bool ok, made;
    finished == ALL - 1;
    attach();
    if
    :: result == 0 -> create(); assert(made && segment_name == MY_SEGMENT && live_name == MY_LIVE)
    :: else -> assert(segment_name == result && !retired[result])
    fi
}

proctype killer() {
    if
    :: killed[0] = 1
    :: killed[DESTROYER] = 1
#ifdef LARGE
    :: killed[0] = 1; killed[DESTROYER] = 1
    :: killed[0] = 1; killed[1] = 1
#endif
    :: 1
    fi
}

init {
    atomic {
        /* Either nothing, or a segment that some process made long ago (the files of LAST stand in). */
        if
        :: 1
        :: segment_name = FILES - 1; whole[FILES - 1] = 1; live_name = FILES - 2; partner[FILES - 2] = FILES - 1
        fi;
        run creator(0);
        run creator(1);
#if CREATORS > 2
        run creator(2);
#endif
        run destroyer(DESTROYER);
        run attacher();
        run latecomer(LAST);
        run killer()
    }
}
