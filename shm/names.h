/* SPDX-License-Identifier: MIT */
/* What stands under a segment's two names, and who may change that (names.c)? Used by segment.c only. */
#ifndef LR_NAMES_H
#define LR_NAMES_H

#include "segment.h"

#include <sys/stat.h>

#define LR_LIVE_PATH_BYTES (LR_PATH_BYTES + sizeof LR_LIVE_SUFFIX)

/* The segment's absolute path, so that a later chdir of the application does no harm. EINVALID. */
int lr_names_resolve(const struct lr_options *options, char path[LR_PATH_BYTES], char *why);
/* Whether a path means a segment in a memfd ("unix:/path/of/its/keeper's/socket"), and the socket in it. */
bool lr_names_kept(const char *path);
const char *lr_names_socket(const char *path);
/* Path of the liveness file. */
void lr_names_live(const char *path, char out[LR_LIVE_PATH_BYTES]);
/* The name, or the file's name in the characters that a name may have. */
void lr_names_describe(const char *path, char name[SM_NAME_BYTES + 1]);

/* ENO_SEGMENT, EPERMISSION, EFOREIGN, ESYSTEM. */
int lr_names_open(const char *path, bool read_only, int *fd, char *why);
/* "directory", "named pipe" and the like. */
const char *lr_names_kind(mode_t mode);
/* Whether an open file may be one of ours at all, before a byte of it is read. EFOREIGN, EPERMISSION. */
int lr_names_judge(const struct stat *file, uid_t owner, const char *path, char *why);
/* Whether this file has this name now. */
bool lr_names_has(const char *path, const struct stat *file);
/* All that must hold before a byte is mapped. Errors as lr_geometry_load; the path is added here, once. */
int lr_names_load_segment(int fd, const struct stat *file, const char *path, struct lr_geometry *geometry,
                          uint32_t *state, char *why);
/* files.c. A file without a name, in the folder of `path`, with this mode whatever the umask. On error too *fd may be
 * open. EINVALID, EPERMISSION, ENO_SPACE, ESYSTEM. */
int lr_files_nameless(const char *path, mode_t mode, gid_t group, int *fd, char *why);
/* Memory for the whole file. ENO_SPACE, ENO_MEMORY, ESYSTEM. */
int lr_files_allocate(int fd, uint64_t bytes, const char *path, char *why);
/* Mode of the liveness file beside a segment of this mode. Readers who may not write get no descriptor of it: a read
 * lock would make the dead look alive. */
mode_t lr_files_live_mode(mode_t mode);
/* Makes an empty file a liveness file, partner of the segment that `partner` names. Fills *file. */
int lr_files_live(const struct sm_liveness *partner, int fd, const char *path, struct stat *file, char *why);
/* Both, and its guard is ours: a liveness file, whole, guarded, and nameless itself. */
int lr_files_build_live(const struct sm_liveness *partner, const char *path, mode_t mode, gid_t group, int *fd,
                        struct stat *file, char *why);
/* As lr_files_nameless, but a memfd that can be sealed. */
int lr_files_memfd(const char *label, mode_t mode, gid_t group, int *fd, char *why);
/* For good: its size never changes. */
int lr_files_seal(int fd, char *why);
bool lr_files_sealed(int fd);

/* EFOREIGN when the file is no liveness file. */
int lr_names_load_live(int fd, const char *live, struct sm_liveness *record, char *why);

/* Takes the guard byte of an open liveness file, without waiting. */
bool lr_guard_take(int live_fd);
/* Lets it go, explicitly (a child forked meanwhile may have a copy of the descriptor), and closes. -1 is allowed. */
void lr_guard_drop(int live_fd);
/* On the clock of lr_monotonic_ns: how long to wait for another process that creates so much, or destroys. */
uint64_t lr_guard_deadline(uint64_t cache_bytes);
/*
 * Guards the pair by the liveness file that has the name now. *fd = -1 with result 0: there is none. EBUSY: somebody
 * else is creating or destroying and has not come to an end by `deadline_ns`.
 */
int lr_guard_named(const char *path, uid_t owner, uint64_t deadline_ns, int *fd, char *why);

/* The next three are for whoever holds the guard. Gives a nameless file its name: EEXISTS, ENO_SPACE, EPERMISSION. */
int lr_names_link(int fd, const char *path, char *why);
/* Removes the name if it is still this file's. EPERMISSION. */
int lr_names_unlink(const char *path, const struct stat *file, char *why);
/* What stands under the segment's name: nothing (0), a RETIRED segment whose destroyer died (removed, 0), or something
 * that keeps the name (EEXISTS). */
int lr_names_clear(const char *path, uid_t owner, char *why);

#endif
