/* SPDX-License-Identifier: MIT */
/*
 * Crash points: where could a process die so that it matters?
 *
 * Just before and just after every store that is marked COMMIT POINT stands LR_CRASH_POINT with a label of its own. It
 * compiles to nothing, except for the harness that kills at each of them (tests/crash/), which finds their list in a
 * section of the program. `tools/house points` fails a commit point that has none.
 */
#ifndef LR_POINTS_H
#define LR_POINTS_H

#ifdef LARDER_CRASH_POINTS
struct lr_crash_point {
    const char *label;
    unsigned long hits; /* in this process */
};
/* The harness's. Does not return if this is the armed point. */
void lr_crash_point_hit(struct lr_crash_point *point);
#define LR_CRASH_POINT(text)                                                                                           \
    do {                                                                                                               \
        static struct lr_crash_point point __attribute__((section("larder_points"), used)) = {text, 0};                \
        lr_crash_point_hit(&point);                                                                                    \
    } while (0)
#else
#define LR_CRASH_POINT(text) ((void)0)
#endif

#endif
