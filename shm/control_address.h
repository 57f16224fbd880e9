/* SPDX-License-Identifier: MIT */
/*
 * Where does the larderd of a segment listen to its operator?
 *
 * At a Unix socket beside the segment: /dev/shm/larder.NAME+control, FILE+control, or SOCKET+control for a segment that
 * is kept in a memfd. No segment's name has a '+', so the two never meet.
 */
#ifndef LR_CONTROL_ADDRESS_H
#define LR_CONTROL_ADDRESS_H

#include "names.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LR_CONTROL_SUFFIX "+control"

/* 0; EINVALID with `why`: no such segment can be, or the path is longer than a socket's may be. */
static inline int lr_control_address(const struct lr_options *options, struct sockaddr_un *out, char *why) {
    char path[LR_PATH_BYTES];
    int error = lr_names_resolve(options, path, why);
    if (error != 0)
        return error;
    const char *file = lr_names_kept(path) ? lr_names_socket(path) : path;
    size_t len = strlen(file);
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (len + sizeof LR_CONTROL_SUFFIX <= sizeof out->sun_path) {
        memcpy(out->sun_path, file, len);
        memcpy(out->sun_path + len, LR_CONTROL_SUFFIX, sizeof LR_CONTROL_SUFFIX);
        return 0;
    }
    return lr_error_explain(LARDER_EINVALID, why,
                            "%.200s" LR_CONTROL_SUFFIX " is longer than a socket's name may be (%zu)", file,
                            sizeof out->sun_path - 1);
}

/* Removes what a larderd that was killed left there: a socket at which nobody listens. False: something else is there.
 */
static inline bool lr_control_clear(const struct sockaddr_un *address) {
    struct stat file;
    if (lstat(address->sun_path, &file) != 0)
        return true;
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool stale = S_ISSOCK(file.st_mode) && probe >= 0 &&
                 connect(probe, (const struct sockaddr *)address, sizeof *address) != 0 && errno == ECONNREFUSED;
    if (probe >= 0)
        close(probe);
    return stale && unlink(address->sun_path) == 0;
}

#endif
