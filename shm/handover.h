/* SPDX-License-Identifier: MIT */
/* How does a process get a segment that has no name (handover.c)? */
#ifndef LR_HANDOVER_H
#define LR_HANDOVER_H

#include "segment.h"

struct lr_handed {
    int segment_fd; /* open for writing if live_fd is there, else for reading only */
    int live_fd;    /* an open description of its own; -1: who asked may only read */
};

/*
 * Asks the keeper behind `path` ("unix:/its/socket") for the segment. The descriptors are the caller's, who must judge
 * them as files. ENO_SEGMENT: nobody listens there. EPERMISSION: the keeper refuses us, or is a user whom we do not
 * trust. EFOREIGN: that is no keeper. EVERSION. EBUSY: no answer within 5 s. EINVALID: the path is too long. ESYSTEM.
 */
int lr_handover_take(const char *path, uid_t owner, struct lr_handed *handed, char *why);
/*
 * The other side: one connection that was accepted, by the two files that are kept. Tells who asks what he may have, as
 * the files' owner, group and mode say. Neither waits nor closes `connection`.
 */
void lr_handover_give(int connection, int segment_fd, int live_fd);
/* Fills a socket's address. EINVALID: longer than such an address may be. */
struct sockaddr_un;
int lr_handover_address(const char *path, struct sockaddr_un *out, char *why);

#endif
