/* SPDX-License-Identifier: MIT */
/*
 * An operator asks, the running larderd answers: a Unix socket beside the segment (shm/control_address.h).
 *
 *   client: one line "WORD...\n"      larderd: an answer of lines, of which the first says how it went, and the end
 *
 * Who may connect is the file's mode: the user, and the segment's group if one is configured. Who may change something
 * is judged by the credentials that the kernel gives (SO_PEERCRED): the user whose larderd it is, and root. The group
 * may look: it can write the cache already, but whom it goes to is not its business.
 *
 * A few clients at a time, two seconds each; others wait in the kernel's queue.
 */
#ifndef LR_CONTROL_H
#define LR_CONTROL_H

#include "config.h"

#include <uv.h>

#define LR_CONTROL_CLIENTS 8u
#define LR_CONTROL_MS 2000u
#define LR_CONTROL_REQUEST 512u
#define LR_CONTROL_ANSWER (128u << 10)

struct lr_control {
    uv_loop_t *loop;
    /* Writes the answer to `line` into out[0, LR_CONTROL_ANSWER) as a string. */
    void (*answer)(void *context, char *line, bool may_change, char *out);
    void *context;
    uv_pipe_t listener;
    bool listening;
    bool waiting; /* somebody, for a place */
    struct lr_control_client *clients;
    unsigned count;
};

/* The first three are set. False with `why`: there is no socket, and larderd does without. */
bool lr_control_start(struct lr_control *control, const struct lr_options *segment, char *why);
void lr_control_stop(struct lr_control *control);

#endif
