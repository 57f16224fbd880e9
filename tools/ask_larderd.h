/* SPDX-License-Identifier: MIT */
/*
 * What does the larderd of a segment say? It is asked at the Unix socket beside the segment (control_address.h): one
 * line, whose words sidecar/command.h lists, and an answer of lines whose fields are separated by tabs.
 *
 * The socket's other end must run as root, as us, or as the owner that the options name: a stranger who put a socket
 * there would be believed otherwise.
 */
#ifndef LARDER_ASK_LARDERD_H
#define LARDER_ASK_LARDERD_H

#include "cache.h"

#define ASK_ANSWER_BYTES (128u << 10)

struct ask_failure {
    int error; /* LARDER_E* */
    const char *remedy;
    char text[LR_WHY_BYTES];
};

/* 0, and the answer as a string that begins with "ok" and a line's end; or the error, with *failure filled in. Waits at
 * most `patience_ms` for each part of it. */
int ask_larderd(const struct lr_options *options, const char *line, unsigned patience_ms, char answer[ASK_ANSWER_BYTES],
                struct ask_failure *failure);
/* Cuts a line of the answer into fields; those that are missing are "-". */
void ask_cut(char *line, char **fields, unsigned count);

#endif
