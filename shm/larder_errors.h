/* SPDX-License-Identifier: MIT */
/*
 * Every error that Larder returns, once: the table below makes the enum, the texts and the remedies.
 *
 * A call returns 0 (or a documented non-negative number) for success and one of these negative numbers otherwise.
 * On error nothing has changed, unless the call's comment says what has.
 */
#ifndef LARDER_ERRORS_H
#define LARDER_ERRORS_H

/* X(name, number, text, remedy) */
#define LARDER_ERRORS(X)                                                                                               \
    X(NOT_FOUND, -1, "no such key", "nothing to do: the key is absent, deleted or expired")                            \
    X(EXISTS, -2, "the key or segment exists already", "use put or replace for a key, open or attach for a segment")   \
    X(CONFLICT, -3, "the item's version is not the expected one", "get the item again and retry with its version")     \
    X(TOO_SMALL, -4, "the buffer is too small for the value", "call again with a buffer of the returned length")       \
    X(TOO_LARGE, -5, "the item is larger than this segment admits",                                                    \
      "store a smaller item or create a larger segment; `larder stat` shows max_item_bytes")                           \
    X(BUSY, -6, "the stripe's lock was held longer than the wait limit",                                               \
      "retry later; `larder stripes` names the holder, who may be stopped")                                            \
    X(PINNED, -7, "live pins leave no room for the item", "release pins; `larder procs` shows who holds them")         \
    X(NO_PINS, -8, "this process or this part of the cache has as many pins as it may",                                \
      "release pins, or get a copy instead")                                                                           \
    X(FULL, -9, "policy none: the segment is full and evicts nothing", "delete items, or use an evicting policy")      \
    X(RETIRED, -10, "the segment was destroyed or replaced", "close the handle and open the name again")               \
    X(READ_ONLY, -11, "the handle is read-only", "attach for writing")                                                 \
    X(INVALID, -12, "an argument is out of range", "see the function's comment for the ranges")                        \
    X(NOT_NUMBER, -13, "the value is not a decimal 64-bit integer", "put a decimal number first")                      \
    X(NO_SEGMENT, -14, "there is no such segment", "create it with `larder create`, or start larderd")                 \
    X(PERMISSION, -15, "permission denied", "check owner, group and mode of the segment file")                         \
    X(FOREIGN, -16, "the file is not a Larder segment of this machine's kind", "check the name or path")               \
    X(VERSION, -17, "the segment has another layout version", "use the same release for all, or destroy and recreate") \
    X(CORRUPT, -18, "the segment is damaged", "run `larder check`; `larder destroy` and recreate if it stays")         \
    X(NO_SPACE, -19, "not enough shared memory", "enlarge the tmpfs (/dev/shm), or create a smaller segment")          \
    X(NO_MEMORY, -20, "the process has no address space or memory left", "raise the limit (ulimit -v)")                \
    X(NO_SLOTS, -21, "all participant slots are taken", "close unused handles; `larder procs` lists them")             \
    X(NO_CLOCK, -22, "the host's boot clock cannot be told in this time namespace",                                    \
      "make /proc/self/timens_offsets readable")                                                                       \
    X(SYSTEM, -23, "a system call failed", "see errno")                                                                \
    X(STALE, -24, "a newer version is already stored, or was", "nothing to do: the newer version wins")                \
    X(TIMED_OUT, -25, "the time limit passed", "retry, or allow more time")                                            \
    X(LOST, -26, "the reader fell behind and changes were overwritten", "rescan the stripe")

enum larder_error {
#define X(name, number, text, remedy) LARDER_E##name = (number),
    LARDER_ERRORS(X)
#undef X
};

#endif
