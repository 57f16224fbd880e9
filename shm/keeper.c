/* SPDX-License-Identifier: MIT */
/*
 * Who keeps a segment that has no name, and what if he dies?
 *
 * A memfd lives as long as anybody has it mapped, but only somebody who listens can pass it on. So if the keeper went
 * and the segment stayed in use, the next keeper would make another one under the same socket, and old and new
 * processes would each have a cache of their own that never hears of the other's deletes. Therefore a kept segment ends
 * with its keeper:
 *
 *      header->state:  SM_KEPT | tid  -- the keeper's thread ends, however it ends -->  SM_KEPT | SM_KEEPER_DIED
 *                            '--------- closed, destroyed ------------------------->  SM_RETIRED
 *
 * Every call compares that word with what it was at attach, as it does for any segment: so noticing costs nothing, and
 * everybody gets RETIRED before a second generation can exist. Pinned values stay readable until they are released.
 *
 * The first change is the kernel's doing. The word is on the thread's list of robust futexes: at the end of a thread,
 * by exit, kill or exec, the kernel replaces a word on that list that holds the thread's id by "owner died". Nothing of
 * what makes robust mutexes unfit for shared memory applies: the list and its nodes are private memory, nobody waits
 * for the word, and only the id of the one thread that put it there is ever compared. Its pointer is set for this
 * thread anew; the C library's own list is put back at close, and is of no use meanwhile: a thread that keeps a segment
 * must not hold robust mutexes of pthread.
 *
 * The socket: a name that leads to nobody is what a killed keeper left, and is removed by the next. Two who start at
 * once take turns, by a flock on the folder.
 */
#include "keeper.h"

#include "handover.h"
#include "names.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static_assert(SM_KEPT == FUTEX_WAITERS && SM_KEEPER_DIED == FUTEX_OWNER_DIED, "the kernel's bits");

#define ANSWERS 64u /* at once */
#define BACKLOG 128
#define FOLDER_WAIT_NS UINT64_C(5000000000)

struct lr_keeper {
    struct lr_cache *cache;
    int segment_fd, live_fd, listen_fd;
    bool bound;
    struct stat socket; /* the file that has the socket's name */
    struct sockaddr_un address;
    struct robust_list_head robust, *robust_before;
    size_t robust_before_len;
    struct robust_list node; /* the one entry of the list */
};

/* ---- one's own death -------------------------------------------------------------------------------------------- */

static int register_state(struct lr_keeper *keeper, char *why) {
    sm_u32 *state = &keeper->cache->header->state;
    keeper->robust.list.next = &keeper->node;
    keeper->node.next = &keeper->robust.list;
    keeper->robust.futex_offset = (long)((intptr_t)state - (intptr_t)&keeper->node);
    if (syscall(SYS_get_robust_list, 0, &keeper->robust_before, &keeper->robust_before_len) != 0 ||
        syscall(SYS_set_robust_list, &keeper->robust, sizeof keeper->robust) != 0) {
        keeper->robust_before_len = 0;
        return lr_error_explain(LARDER_ESYSTEM, why, "this kernel has no robust futexes: %s", strerror(errno));
    }
    uint32_t kept = SM_KEPT | (uint32_t)syscall(SYS_gettid);
    LR_CRASH_POINT("keep, before");
    /* COMMIT POINT: before, nobody but us knows the segment; after, its death is ours. */
    atomic_store_explicit(state, kept, memory_order_seq_cst);
    LR_CRASH_POINT("keep, after");
    keeper->cache->live_state = kept;
    return 0;
}

static void unregister_state(struct lr_keeper *keeper) {
    if (keeper->robust_before_len != 0)
        (void)syscall(SYS_set_robust_list, keeper->robust_before, keeper->robust_before_len);
}

/* ---- the socket ------------------------------------------------------------------------------------------------- */

static int lock_folder(const char *path, int *folder_fd, char *why) {
    char folder[LR_PATH_BYTES];
    const char *socket_path = lr_names_socket(path);
    size_t len = (size_t)(strrchr(socket_path, '/') - socket_path);
    memcpy(folder, socket_path, len);
    folder[len] = 0;
    *folder_fd = open(len == 0 ? "/" : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*folder_fd < 0)
        return lr_error_explain(errno == EACCES ? LARDER_EPERMISSION : LARDER_EINVALID, why,
                                "the socket's folder %.300s cannot be opened: %s", folder, strerror(errno));
    uint64_t deadline_ns = lr_monotonic_ns() + FOLDER_WAIT_NS;
    while (flock(*folder_fd, LOCK_EX | LOCK_NB) != 0) {
        if (lr_monotonic_ns() >= deadline_ns)
            return lr_error_explain(LARDER_EBUSY, why, "another process keeps the folder %.300s locked", folder);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return 0;
}

/* Under the folder's lock: makes sure that the name is free. */
static int clear_socket(const struct sockaddr_un *address, char *why) {
    struct stat file;
    if (lstat(address->sun_path, &file) != 0)
        return 0; /* whatever the reason, bind meets it again */
    if (!S_ISSOCK(file.st_mode))
        return lr_error_explain(LARDER_EEXISTS, why, "%.200s is a file, not a socket: it is not ours to remove",
                                address->sun_path);
    int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return lr_error_explain(LARDER_ESYSTEM, why, "no socket can be made: %s", strerror(errno));
    bool refused = connect(probe, (const struct sockaddr *)address, sizeof *address) != 0 && errno == ECONNREFUSED;
    close(probe);
    if (!refused)
        return lr_error_explain(LARDER_EEXISTS, why, "somebody listens at %.200s already: stop that larderd first",
                                address->sun_path);
    if (unlink(address->sun_path) != 0)
        return lr_error_explain(LARDER_EPERMISSION, why, "%.200s was left by another and cannot be removed: %s",
                                address->sun_path, strerror(errno));
    return 0;
}

/* Whoever may read the segment must be able to connect, and connecting is writing. */
static mode_t socket_mode(mode_t mode) {
    mode_t readers = mode & 0444;
    return readers | readers >> 1;
}

static int bind_socket(struct lr_keeper *keeper, mode_t mode, gid_t group, char *why) {
    const char *path = keeper->address.sun_path;
    int error = clear_socket(&keeper->address, why);
    if (error != 0)
        return error;
    keeper->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (keeper->listen_fd < 0)
        return lr_error_explain(LARDER_ESYSTEM, why, "no socket can be made: %s", strerror(errno));
    if (bind(keeper->listen_fd, (const struct sockaddr *)&keeper->address, sizeof keeper->address) != 0)
        return lr_error_explain(errno == EACCES || errno == EPERM || errno == EROFS ? LARDER_EPERMISSION
                                                                                    : LARDER_ESYSTEM,
                                why, "the socket %.200s cannot be made: %s", path, strerror(errno));
    keeper->bound = lstat(path, &keeper->socket) == 0;
    /* Nobody can connect before it listens. */
    if ((group != (gid_t)-1 && chown(path, (uid_t)-1, group) != 0) || chmod(path, socket_mode(mode)) != 0 ||
        listen(keeper->listen_fd, BACKLOG) != 0)
        return lr_error_explain(LARDER_ESYSTEM, why, "the socket %.200s cannot be given its mode: %s", path,
                                strerror(errno));
    return 0;
}

static int start_listening(struct lr_keeper *keeper, const struct lr_options *options, const char *path, char *why) {
    int folder_fd = -1;
    int error = lock_folder(path, &folder_fd, why);
    if (error == 0)
        error = bind_socket(keeper, options->mode == 0 ? 0600 : options->mode, options->group, why);
    if (folder_fd >= 0)
        close(folder_fd); /* and its lock */
    return error;
}

/* ---- the keeper ------------------------------------------------------------------------------------------------- */

int lr_keeper_create(const struct lr_options *options, struct lr_keeper **out, struct lr_cache **cache, char *why) {
    char path[LR_PATH_BYTES];
    *out = NULL;
    *cache = NULL;
    int error = lr_names_resolve(options, path, why);
    if (error != 0)
        return error;
    struct lr_keeper *keeper = calloc(1, sizeof *keeper);
    if (keeper == NULL)
        return lr_error_explain(LARDER_ENO_MEMORY, why, "no memory for a keeper of %zu bytes", sizeof *keeper);
    keeper->segment_fd = keeper->live_fd = keeper->listen_fd = -1;
    error = lr_handover_address(path, &keeper->address, why);
    if (error == 0)
        error = lr_segment_create_kept(options, path, &keeper->cache, &keeper->segment_fd, &keeper->live_fd, why);
    if (error == 0)
        error = register_state(keeper, why);
    if (error == 0)
        error = start_listening(keeper, options, path, why);
    if (error != 0) {
        struct lr_cache *made = keeper->cache;
        lr_keeper_close(keeper);
        lr_cache_detach(made);
        return error;
    }
    *out = keeper;
    *cache = keeper->cache;
    return 0;
}

int lr_keeper_fd(const struct lr_keeper *keeper) {
    return keeper->listen_fd;
}

void lr_keeper_answer(struct lr_keeper *keeper) {
    for (unsigned i = 0; i < ANSWERS; i++) {
        int connection = accept4(keeper->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (connection < 0)
            return;
        lr_handover_give(connection, keeper->segment_fd, keeper->live_fd);
        close(connection);
    }
}

void lr_keeper_close(struct lr_keeper *keeper) {
    if (keeper == NULL)
        return;
    if (keeper->bound && lr_names_has(keeper->address.sun_path, &keeper->socket))
        (void)unlink(keeper->address.sun_path);
    if (keeper->cache != NULL)
        lr_segment_retire(keeper->cache->header);
    unregister_state(keeper);
    const int fds[] = {keeper->listen_fd, keeper->live_fd, keeper->segment_fd};
    for (unsigned i = 0; i < 3; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(keeper);
}
