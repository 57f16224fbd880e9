/* SPDX-License-Identifier: MIT */
/*
 * A segment in a sealed memfd: does who may get it, can nobody truncate it, and does it end with its keeper?
 *
 * The keeper is a child of the runner, so that it can be stopped and killed; larderd's options for it are tested with
 * the daemon (90_cluster.c) and the inspector's below.
 */
#include "fixture.h"
#include "handover.h"
#include "keeper.h"
#include "place.h"
#include "stripe.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define NOBODY 65534u
#define GROUP 4242u
#define CACHE (UINT64_C(256) << 10)

struct kept {
    char socket[200];
    char path[220];
    struct lr_options options;
    pid_t keeper;
    int told; /* the keeper's end of life is this pipe's end of file */
};

/* ---- a keeper --------------------------------------------------------------------------------------------------- */

static int keep(const struct lr_options *options, int tell) {
    struct lr_keeper *keeper;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES] = "";
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int error = lr_keeper_create(options, &keeper, &cache, why);
    if (error != 0)
        fprintf(stderr, "\n    keeper: %s: %s\n", lr_error_name(error), why);
    if (write(tell, &error, sizeof error) != (ssize_t)sizeof error || error != 0)
        return 1;
    while (lr_enter(cache) == 0) {
        struct pollfd ready = {.fd = lr_keeper_fd(keeper), .events = POLLIN};
        if (poll(&ready, 1, 20) > 0)
            lr_keeper_answer(keeper);
    }
    lr_keeper_close(keeper);
    lr_cache_detach(cache);
    return 0;
}

/* Returns what lr_keeper_create returned in the child. */
static int start_keeper(struct kept *kept) {
    int ends[2], error = LARDER_ESYSTEM;
    CU_ASSERT_EQUAL_FATAL(pipe2(ends, O_CLOEXEC), 0);
    fflush(NULL);
    kept->keeper = fork();
    CU_ASSERT_FATAL(kept->keeper >= 0);
    if (kept->keeper == 0) {
        close(ends[0]);
        alarm(120);
        _exit(keep(&kept->options, ends[1]));
    }
    close(ends[1]);
    CU_ASSERT_EQUAL(read(ends[0], &error, sizeof error), (ssize_t)sizeof error);
    kept->told = ends[0];
    return error;
}

static void new_kept(struct kept *kept) {
    static unsigned count;
    *kept = (struct kept){.options = lr_options_default()};
    snprintf(kept->socket, sizeof kept->socket, "%.60s/kept.%u", fixture_folder(), ++count);
    snprintf(kept->path, sizeof kept->path, "unix:%s", kept->socket);
    kept->options.path = kept->path;
    kept->options.size = CACHE;
}

static void begin(struct kept *kept) {
    new_kept(kept);
    CU_ASSERT_EQUAL_FATAL(start_keeper(kept), 0);
}

static void kill_keeper(struct kept *kept) {
    kill(kept->keeper, SIGKILL);
    CU_ASSERT_EQUAL(fixture_wait(kept->keeper), -SIGKILL);
    close(kept->told);
}

/* Destroys: the keeper sees it and goes. */
static void end(struct kept *kept) {
    char why[LR_WHY_BYTES] = "";
    CU_ASSERT_EQUAL(lr_cache_destroy(&kept->options, why), 0);
    CU_ASSERT_EQUAL(fixture_wait(kept->keeper), 0);
    close(kept->told);
    CU_ASSERT(!exists(kept->socket));
}

static struct lr_cache *join(const struct kept *kept) {
    struct lr_cache *cache = NULL;
    char why[LR_WHY_BYTES] = "";
    if (lr_cache_attach(&kept->options, &cache, why) != 0)
        printf("\n    %s\n", why);
    CU_ASSERT_PTR_NOT_NULL_FATAL(cache);
    return cache;
}

static int put_text(struct lr_cache *cache, const char *key, const char *value) {
    struct lr_put put = {.key = key, .key_len = strlen(key), .value = value, .value_len = strlen(value)};
    return lr_put(cache, &put);
}

static bool holds(struct lr_cache *cache, const char *key, const char *value) {
    char buf[64];
    struct lr_item item;
    return lr_get(cache, key, strlen(key), buf, sizeof buf, &item, 0) == 0 && item.value_len == strlen(value) &&
           memcmp(buf, value, item.value_len) == 0;
}

/* ---- attaching -------------------------------------------------------------------------------------------------- */

static int attach_and_put(void *context) {
    struct kept *kept = context;
    struct lr_cache *cache = NULL;
    CHILD_EXPECT(lr_cache_open(&kept->options, &cache, NULL) == 0); /* open finds it, too */
    CHILD_EXPECT(holds(cache, "a", "one") && put_text(cache, "b", "two") == 0);
    lr_cache_detach(cache);
    return 0;
}

static void a_kept_segment_is_attached_by_its_socket(void) {
    struct kept kept;
    struct lr_cache *reader;
    struct lr_process process;
    begin(&kept);
    struct lr_cache *one = join(&kept), *two = join(&kept);
    CU_ASSERT(one->slot != two->slot && one->segment_ino == two->segment_ino);
    CU_ASSERT_EQUAL(put_text(one, "a", "one"), 0);
    CU_ASSERT(holds(two, "a", "one"));
    CU_ASSERT_EQUAL(fixture_child(attach_and_put, &kept), 0);
    CU_ASSERT(holds(one, "b", "two"));
    CU_ASSERT(lr_owner_alive(one, lr_own_word(two)) && lr_owner_alive(two, lr_own_word(one)));
    CU_ASSERT(lr_process(one, 0, &process) == 0 && process.pid == (uint32_t)kept.keeper && process.alive);
    kept.options.read_only = true;
    CU_ASSERT_EQUAL_FATAL(lr_cache_attach(&kept.options, &reader, NULL), 0);
    CU_ASSERT(holds(reader, "a", "one") && put_text(reader, "a", "x") == LARDER_EREAD_ONLY);
    CU_ASSERT(lr_process(reader, one->slot, &process) == 0 && process.alive);
    lr_cache_detach(reader);
    kept.options.read_only = false;
    char here[300], why[LR_WHY_BYTES];
    CU_ASSERT_PTR_NOT_NULL_FATAL(getcwd(here, sizeof here));
    CU_ASSERT_EQUAL_FATAL(chdir(fixture_folder()), 0); /* a relative path, and a later chdir */
    snprintf(kept.path, sizeof kept.path, "unix:%s", strrchr(kept.socket, '/') + 1);
    struct lr_cache *relative = join(&kept);
    CU_ASSERT_EQUAL(chdir(here), 0);
    CU_ASSERT_STRING_EQUAL(relative->path, one->path);
    lr_cache_detach(relative);
    snprintf(kept.path, sizeof kept.path, "unix:%s", kept.socket);
    CU_ASSERT_EQUAL(lr_cache_create(&kept.options, &relative, why), LARDER_EINVALID);
    CU_ASSERT(says(why, "larderd --memfd"));
    fixture_check(two);
    lr_cache_detach(two);
    lr_cache_detach(one);
    end(&kept);
}

static void the_inspector_takes_a_socket_for_a_path(void) {
    struct kept kept;
    char command[700], out[8192];
    static const char *const verbs[] = {"set %s k v", "get %s k", "stat %s",   "ls %s",    "procs %s",
                                        "stripes %s", "check %s", "digest %s", "del %s k", "flush %s"};
    begin(&kept);
    for (unsigned i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        char words[300], option[240];
        snprintf(option, sizeof option, "--path %s", kept.path);
        snprintf(words, sizeof words, verbs[i], option);
        snprintf(command, sizeof command, "%s %s", fixture_program("larder"), words);
        int status = fixture_run(command, out, sizeof out);
        if (status != 0)
            printf("\n    larder %s: %d: %s\n", words, status, out);
        CU_ASSERT_EQUAL(status, 0);
    }
    snprintf(command, sizeof command, "%s destroy --path %s", fixture_program("larder"), kept.path);
    CU_ASSERT(fixture_run(command, out, sizeof out) != 0 && says(out, "--force")); /* the keeper is attached */
    snprintf(command, sizeof command, "%s destroy --force --path %s", fixture_program("larder"), kept.path);
    CU_ASSERT_EQUAL(fixture_run(command, out, sizeof out), 0);
    CU_ASSERT_EQUAL(fixture_wait(kept.keeper), 0);
    close(kept.told);
    snprintf(command, sizeof command, "%s get --path %s k", fixture_program("larder"), kept.path);
    CU_ASSERT_EQUAL(fixture_run(command, out, sizeof out), 3);
    CU_ASSERT(says(out, "larderd --memfd"));
}

/* ---- seals ------------------------------------------------------------------------------------------------------ */

static bool refused(int result) {
    return result < 0 && (errno == EPERM || errno == EINVAL);
}

static void expect_sealed(int fd, off_t bytes) {
    char zero[16] = {0};
    struct stat file;
    CHILD_EXPECT(refused(ftruncate(fd, 0)) && refused(ftruncate(fd, bytes / 2)) &&
                 refused(ftruncate(fd, bytes + 4096)));
    CHILD_EXPECT(refused(fallocate(fd, 0, bytes, 4096)));
    CHILD_EXPECT(pwrite(fd, zero, sizeof zero, bytes) < 0);
    CHILD_EXPECT(refused(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096)) || errno == EOPNOTSUPP);
    CHILD_EXPECT(refused(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE))); /* nor can anybody make it read-only for all */
    CHILD_EXPECT(fstat(fd, &file) == 0 && file.st_size == bytes && file.st_nlink == 0);
}

static int try_to_truncate(void *context) {
    struct kept *kept = context;
    struct lr_handed handed;
    struct stat file, live_file;
    char again[64];
    CHILD_EXPECT(lr_handover_take(kept->path, (uid_t)-1, &handed, NULL) == 0 && handed.live_fd >= 0);
    CHILD_EXPECT(fstat(handed.segment_fd, &file) == 0 && fstat(handed.live_fd, &live_file) == 0);
    CHILD_EXPECT((fcntl(handed.segment_fd, F_GETFD) & FD_CLOEXEC) != 0 &&
                 (fcntl(handed.live_fd, F_GETFD) & FD_CLOEXEC) != 0);
    expect_sealed(handed.segment_fd, file.st_size);
    expect_sealed(handed.live_fd, live_file.st_size);
    snprintf(again, sizeof again, "/proc/self/fd/%d", handed.segment_fd);
    CHILD_EXPECT(refused(truncate(again, 0)));
    CHILD_EXPECT(open(again, O_RDWR | O_TRUNC | O_CLOEXEC) < 0); /* a new description is as sealed */
    return 0;
}

static void nobody_can_truncate_or_extend_it(void) {
    struct kept kept;
    begin(&kept);
    struct lr_cache *one = join(&kept);
    CU_ASSERT_EQUAL(put_text(one, "a", "one"), 0);
    int status = fixture_child(try_to_truncate, &kept);
    CU_ASSERT_EQUAL(status, 0);
    if (status != 0) { /* truncated: whoever touches it now, gets SIGBUS */
        kill(kept.keeper, SIGKILL);
        (void)fixture_wait(kept.keeper);
        return;
    }
    CU_ASSERT(holds(one, "a", "one"));
    for (uint64_t at = 0; at < one->geometry.segment_bytes; at += 4096) /* SIGBUS would end the runner */
        (void)lr_load((sm_u64 *)(void *)(one->base + at));
    fixture_check(one);
    lr_cache_detach(one);
    end(&kept);
}

/* Why F_SEAL_FUTURE_WRITE, which would also forbid holes, is not among the seals. */
static void a_seal_against_holes_would_shut_out_those_who_come_later(void) {
    int fd = memfd_create("larder", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CU_ASSERT_FATAL(fd >= 0 && ftruncate(fd, 8192) == 0);
    CU_ASSERT_EQUAL_FATAL(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    CU_ASSERT_EQUAL(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
    CU_ASSERT_EQUAL_FATAL(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
    CU_ASSERT(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0 && errno == EPERM);
    CU_ASSERT(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
    close(fd);
}

/* A writer may punch a hole, which writes zeros: an end, misses or errors follow, and no signal. */
static int punch_everything(void *context) {
    struct kept *kept = context;
    struct lr_handed handed;
    struct lr_cache *one = NULL;
    char value[64], key[16];
    CHILD_EXPECT(lr_cache_attach(&kept->options, &one, NULL) == 0);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "%u", i);
        CHILD_EXPECT(put_text(one, key, key) == 0);
    }
    CHILD_EXPECT(lr_handover_take(kept->path, (uid_t)-1, &handed, NULL) == 0);
    off_t from = (off_t)one->geometry.control_off, bytes = (off_t)one->geometry.segment_bytes - from;
    CHILD_EXPECT(fallocate(handed.segment_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, bytes) == 0);
    for (unsigned i = 0; i < 1000; i++) {
        struct lr_item item;
        snprintf(key, sizeof key, "%u", i);
        int error = lr_get(one, key, strlen(key), value, sizeof value, &item, 0);
        CHILD_EXPECT(error != 0 || (item.value_len == strlen(key) && memcmp(value, key, item.value_len) == 0));
        (void)put_text(one, key, key);
    }
    CHILD_EXPECT(fallocate(handed.segment_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, from) == 0);
    CHILD_EXPECT(lr_get(one, "1", 1, value, sizeof value, NULL, 0) ==
                 LARDER_ERETIRED); /* nothing says that it is in use */
    return 0;
}

static void a_hole_in_it_is_no_signal(void) {
    struct kept kept;
    begin(&kept);
    int status = fixture_child(punch_everything, &kept);
    CU_ASSERT_EQUAL(status, 0);
    if (status != 0)
        kill(kept.keeper, SIGKILL);
    CU_ASSERT_EQUAL(fixture_wait(kept.keeper), status == 0 ? 0 : -SIGKILL); /* it sees the end of its segment */
    close(kept.told);
}

/* ---- who may ---------------------------------------------------------------------------------------------------- */

struct visitor {
    struct kept *kept;
    bool in_group;
    int expect_write, expect_read; /* results of attaching */
};

/* The group is that of the process itself, not one of its others. */
static int visit_by_primary_group(void *context) {
    struct kept *kept = context;
    struct lr_cache *cache;
    CHILD_EXPECT(setgroups(0, NULL) == 0 && setgid(GROUP) == 0 && setuid(NOBODY) == 0);
    CHILD_EXPECT(lr_cache_attach(&kept->options, &cache, NULL) == 0);
    CHILD_EXPECT(put_text(cache, "v", "w") == 0);
    lr_cache_detach(cache);
    return 0;
}

static int visit(void *context) {
    struct visitor *visitor = context;
    struct lr_options options = visitor->kept->options;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES] = "";
    gid_t groups[] = {GROUP};
    if (setgroups(visitor->in_group, groups) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
        return 77;
    CHILD_EXPECT(lr_cache_attach(&options, &cache, why) == visitor->expect_write);
    CHILD_EXPECT(visitor->expect_write == 0 ? put_text(cache, "v", "w") == 0 : why[0] != 0);
    lr_cache_detach(cache);
    options.read_only = true;
    CHILD_EXPECT(lr_cache_attach(&options, &cache, why) == visitor->expect_read);
    if (visitor->expect_read == 0)
        CHILD_EXPECT(holds(cache, "a", "one"));
    lr_cache_detach(cache);
    if (visitor->expect_write == 0 || visitor->expect_read != 0)
        return 0;
    /* What a reader got admits no writing, by whatever way. */
    struct lr_handed handed;
    char again[64];
    CHILD_EXPECT(lr_handover_take(visitor->kept->path, (uid_t)-1, &handed, NULL) == 0 && handed.live_fd == -1);
    CHILD_EXPECT(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, handed.segment_fd, 0) == MAP_FAILED);
    CHILD_EXPECT(fallocate(handed.segment_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0);
    void *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, handed.segment_fd, 0);
    CHILD_EXPECT(page != MAP_FAILED && mprotect(page, 4096, PROT_READ | PROT_WRITE) < 0);
    CHILD_EXPECT(madvise(page, 4096, MADV_REMOVE) < 0);
    CHILD_EXPECT(ftruncate(handed.segment_fd, 0) < 0 && fchmod(handed.segment_fd, 0666) < 0);
    snprintf(again, sizeof again, "/proc/self/fd/%d", handed.segment_fd);
    CHILD_EXPECT(open(again, O_RDWR | O_CLOEXEC) < 0 && errno == EACCES);
    return 0;
}

static void owner_group_and_mode_decide_who_gets_it(void) {
    static const struct {
        mode_t mode;
        bool in_group;
        int write, read;
    } rows[] = {
        {0600, false, LARDER_EPERMISSION, LARDER_EPERMISSION},
        {0600, true, LARDER_EPERMISSION, LARDER_EPERMISSION},
        {0640, false, LARDER_EPERMISSION, LARDER_EPERMISSION},
        {0640, true, LARDER_EPERMISSION, 0},
        {0644, false, LARDER_EPERMISSION, 0},
        {0660, false, LARDER_EPERMISSION, LARDER_EPERMISSION},
        {0660, true, 0, 0},
        {0664, false, LARDER_EPERMISSION, 0},
    };
    if (geteuid() != 0) {
        fixture_skip(__func__, "only root can become another user");
        return;
    }
    CU_ASSERT_EQUAL_FATAL(chmod(fixture_folder(), 0711), 0); /* the way to the socket is open to all */
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct kept kept;
        new_kept(&kept);
        kept.options.mode = rows[i].mode;
        kept.options.group = GROUP;
        CU_ASSERT_EQUAL_FATAL(start_keeper(&kept), 0);
        struct lr_cache *one = join(&kept);
        CU_ASSERT_EQUAL(put_text(one, "a", "one"), 0);
        struct visitor visitor = {&kept, rows[i].in_group, rows[i].write, rows[i].read};
        int status = fixture_child(visit, &visitor);
        if (status != 0)
            printf("\n    mode %04o, %sin the group\n", (unsigned)rows[i].mode, rows[i].in_group ? "" : "not ");
        CU_ASSERT_EQUAL(status, 0);
        CU_ASSERT(rows[i].write != 0 || holds(one, "v", "w"));
        CU_ASSERT(rows[i].mode != 0660 || fixture_child(visit_by_primary_group, &kept) == 0);
        lr_cache_detach(one);
        end(&kept);
    }
}

static int keep_as_nobody(void *context) {
    struct kept *kept = context;
    CHILD_EXPECT(setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
    return keep(&kept->options, kept->told);
}

static int visit_nobody(void *context) {
    struct kept *kept = context;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    CHILD_EXPECT(setgroups(0, NULL) == 0 && setgid(1) == 0 && setuid(1) == 0);
    kept->options.read_only = true;
    CHILD_EXPECT(lr_cache_attach(&kept->options, &cache, why) == LARDER_EPERMISSION);
    CHILD_EXPECT(says(why, "served by user 65534") && says(why, "name that user as the owner"));
    kept->options.owner = NOBODY;
    CHILD_EXPECT(lr_cache_attach(&kept->options, &cache, why) == 0);
    lr_cache_detach(cache);
    CHILD_EXPECT(lr_cache_destroy(&kept->options, why) == LARDER_EPERMISSION);
    CHILD_EXPECT(says(why, "user 1 may use but not remove it"));
    return 0;
}

/* The keeper's own user, who is not root. */
static int visit_as_keepers_user(void *context) {
    struct kept *kept = context;
    struct lr_cache *cache;
    CHILD_EXPECT(setgroups(0, NULL) == 0 && setgid(1) == 0 && setuid(NOBODY) == 0);
    CHILD_EXPECT(lr_cache_attach(&kept->options, &cache, NULL) == 0 && !cache->read_only);
    CHILD_EXPECT(put_text(cache, "v", "w") == 0);
    lr_cache_detach(cache);
    return 0;
}

/* A group that is nobody's to give, by who is not root. */
static int keep_for_a_foreign_group(void *context) {
    struct kept *kept = context;
    struct lr_keeper *keeper;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    CHILD_EXPECT(setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
    kept->options.group = GROUP;
    CHILD_EXPECT(lr_keeper_create(&kept->options, &keeper, &cache, why) == LARDER_EPERMISSION);
    CHILD_EXPECT(says(why, "cannot be given to group 4242 by user 65534") && keeper == NULL && cache == NULL);
    return 0;
}

static void a_keeper_who_is_a_stranger_must_be_named(void) {
    struct kept kept;
    char folder[120];
    int ends[2], error = -1;
    if (geteuid() != 0) {
        fixture_skip(__func__, "only root can become another user");
        return;
    }
    new_kept(&kept);
    CU_ASSERT_EQUAL_FATAL(chmod(fixture_folder(), 0711), 0);
    snprintf(folder, sizeof folder, "%.60s/nobodys", fixture_folder());
    CU_ASSERT_FATAL(mkdir(folder, 0755) == 0 && chown(folder, NOBODY, NOBODY) == 0);
    snprintf(kept.path, sizeof kept.path, "unix:%s/socket", folder);
    kept.options.mode = 0644;
    CU_ASSERT_EQUAL_FATAL(pipe2(ends, O_CLOEXEC), 0);
    kept.told = ends[1];
    pid_t keeper = fixture_start(keep_as_nobody, &kept);
    close(ends[1]);
    CU_ASSERT_EQUAL(read(ends[0], &error, sizeof error), (ssize_t)sizeof error);
    CU_ASSERT_EQUAL_FATAL(error, 0);
    close(ends[0]);
    CU_ASSERT_EQUAL(fixture_child(visit_nobody, &kept), 0);
    CU_ASSERT_EQUAL(fixture_child(visit_as_keepers_user, &kept), 0);
    CU_ASSERT_EQUAL(fixture_child(keep_for_a_foreign_group, &kept), 0);
    CU_ASSERT_EQUAL(lr_cache_destroy(&kept.options, NULL), 0); /* root trusts all */
    CU_ASSERT_EQUAL(fixture_wait(keeper), 0);
}

/* ---- other listeners -------------------------------------------------------------------------------------------- */

enum lie { NO_MESSAGE, WRONG_MAGIC, OTHER_PROTOCOL, NOTHING_HANDED, UNSEALED, A_PIPE, REFUSAL, LIES };

static int say_and_hand(int connection, enum lie lie, const int fds[2]) {
    struct {
        uint64_t magic;
        uint32_t protocol;
        int32_t result;
        char text[240];
    } message = {
        UINT64_C(0x0a444e4148444cff), lie == OTHER_PROTOCOL ? 7 : 1, lie == REFUSAL ? LARDER_EPERMISSION : 0, {0}};
    memset(message.text, 'x', sizeof message.text); /* no end, and */
    message.text[3] = '\x1b';
    message.magic ^= lie == WRONG_MAGIC;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct iovec part = {&message, lie == NO_MESSAGE ? 5 : sizeof message};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    if (lie == UNSEALED || lie == A_PIPE) {
        header.msg_control = &control;
        header.msg_controllen = sizeof control;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(2 * sizeof(int));
        memcpy(CMSG_DATA(rights), fds, 2 * sizeof(int));
    }
    return sendmsg(connection, &header, MSG_NOSIGNAL) > 0;
}

static int listen_and_lie(void *context) {
    struct kept *kept = context;
    struct sockaddr_un address;
    int fds[2];
    CHILD_EXPECT(lr_handover_address(kept->path, &address, NULL) == 0);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHILD_EXPECT(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 8) == 0);
    for (enum lie lie = 0; lie < LIES; lie++) {
        int connection = accept(listener, NULL, NULL);
        if (lie == A_PIPE) {
            CHILD_EXPECT(pipe2(fds, O_CLOEXEC) == 0);
        } else {
            fds[0] = fds[1] = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
            CHILD_EXPECT(fchmod(fds[0], 0600) == 0 && ftruncate(fds[0], 1 << 20) == 0);
        }
        CHILD_EXPECT(say_and_hand(connection, lie, fds));
        close(connection);
    }
    return 0;
}

static void whoever_else_listens_is_refused(void) {
    static const struct {
        int error;
        const char *text;
    } expected[LIES] = {
        [NO_MESSAGE] = {LARDER_EFOREIGN, "no larderd"},     [WRONG_MAGIC] = {LARDER_EFOREIGN, "no larderd"},
        [OTHER_PROTOCOL] = {LARDER_EVERSION, "protocol 7"}, [NOTHING_HANDED] = {LARDER_ESYSTEM, "no descriptor"},
        [UNSEALED] = {LARDER_EFOREIGN, "not sealed"},       [A_PIPE] = {LARDER_EFOREIGN, "named pipe"},
        [REFUSAL] = {LARDER_EPERMISSION, "xxx?xxx"}};
    struct kept kept;
    struct lr_cache *cache;
    char why[LR_WHY_BYTES];
    new_kept(&kept);
    CU_ASSERT_EQUAL(lr_cache_attach(&kept.options, &cache, why), LARDER_ENO_SEGMENT);
    pid_t liar = fixture_start(listen_and_lie, &kept);
    for (unsigned ms = 0; ms < 5000 && lr_cache_attach(&kept.options, &cache, why) == LARDER_ENO_SEGMENT; ms++)
        fixture_sleep_ms(1);
    for (enum lie lie = NO_MESSAGE; lie < LIES; lie++) {
        int error = lie == NO_MESSAGE ? LARDER_EFOREIGN : lr_cache_attach(&kept.options, &cache, why);
        CU_ASSERT_EQUAL(error, expected[lie].error);
        CU_ASSERT(says(why, expected[lie].text) && cache == NULL);
    }
    CU_ASSERT_EQUAL(fixture_wait(liar), 0);
    unlink(kept.socket);
    CU_ASSERT_EQUAL(lr_cache_destroy(&kept.options, NULL), LARDER_ENO_SEGMENT);
    struct sockaddr_un address;
    CU_ASSERT_EQUAL(lr_handover_address(kept.path, &address, NULL), 0);
    int stream = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_FATAL(bind(stream, (struct sockaddr *)&address, sizeof address) == 0 && listen(stream, 1) == 0);
    CU_ASSERT_EQUAL(lr_cache_attach(&kept.options, &cache, why), LARDER_EFOREIGN);
    CU_ASSERT(says(why, "is not the socket of a larderd"));
    close(stream);
    unlink(kept.socket);
    FILE *file = fopen(kept.socket, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fclose(file);
    CU_ASSERT_EQUAL(lr_cache_attach(&kept.options, &cache, why), LARDER_ENO_SEGMENT); /* refused by the kernel */
    CU_ASSERT_EQUAL(start_keeper(&kept), LARDER_EEXISTS);                             /* and not ours to remove */
    CU_ASSERT_EQUAL(fixture_wait(kept.keeper), 1);
    close(kept.told);
    CU_ASSERT(exists(kept.socket));
    unlink(kept.socket);
    memset(kept.path + 5, 'p', 200);
    kept.path[5] = '/';
    kept.path[205] = 0;
    CU_ASSERT_EQUAL(lr_cache_attach(&kept.options, &cache, why), LARDER_EINVALID);
    CU_ASSERT(says(why, "200 characters"));
}

/* ---- the keeper's end ------------------------------------------------------------------------------------------- */

static int call_as_child(void *context) {
    struct lr_cache *old = context;
    char value[8];
    CHILD_EXPECT(lr_get(old, "a", 1, value, sizeof value, NULL, 0) == LARDER_ERETIRED);
    CHILD_EXPECT(put_text(old, "a", "new") == LARDER_ERETIRED);
    lr_cache_detach(old);
    return 0;
}

static void when_its_keeper_is_killed_everybody_is_told(void) {
    struct kept kept;
    struct lr_cache *reader, *none;
    struct lr_pin pin;
    char value[8], why[LR_WHY_BYTES];
    begin(&kept);
    struct lr_cache *old = join(&kept);
    CU_ASSERT_EQUAL(put_text(old, "a", "one"), 0);
    CU_ASSERT_EQUAL_FATAL(lr_pin(old, "a", 1, &pin), 0);
    kept.options.read_only = true;
    CU_ASSERT_EQUAL_FATAL(lr_cache_attach(&kept.options, &reader, NULL), 0);
    kept.options.read_only = false;
    kill_keeper(&kept);
    CU_ASSERT_EQUAL(put_text(old, "a", "two"), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(lr_get(old, "a", 1, value, sizeof value, NULL, 0), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(lr_get(reader, "a", 1, value, sizeof value, NULL, 0), LARDER_ERETIRED);
    CU_ASSERT(memcmp(pin.value, "one", 3) == 0); /* the memory is there as long as it is mapped */
    CU_ASSERT_EQUAL(lr_cache_attach(&kept.options, &none, why), LARDER_ENO_SEGMENT);
    CU_ASSERT(says(why, "start `larderd --memfd") && exists(kept.socket)); /* the name that it left */

    CU_ASSERT_EQUAL_FATAL(start_keeper(&kept), 0); /* the next generation, empty */
    struct lr_cache *now = join(&kept);
    CU_ASSERT(now->geometry.incarnation[0] != old->geometry.incarnation[0]);
    CU_ASSERT_EQUAL(lr_get(now, "a", 1, value, sizeof value, NULL, 0), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(put_text(now, "a", "two"), 0);
    CU_ASSERT_EQUAL(put_text(old, "a", "three"), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(fixture_child(call_as_child, old), 0);
    CU_ASSERT(holds(now, "a", "two") && memcmp(pin.value, "one", 3) == 0);
    lr_unpin(old, &pin);
    lr_cache_detach(reader);
    lr_cache_detach(old);
    fixture_check(now);
    lr_cache_detach(now);
    end(&kept);
}

static void *keep_for_a_while(void *argument) {
    struct kept *kept = argument;
    struct lr_keeper *keeper;
    struct lr_cache *cache;
    if (lr_keeper_create(&kept->options, &keeper, &cache, NULL) != 0)
        return NULL;
    uint32_t state = atomic_load(&cache->header->state);
    pthread_exit((void *)(uintptr_t)((state & SM_KEPT) != 0 ? cache : NULL)); /* and never closes the keeper */
}

static int end_by_thread(void *context) {
    struct kept *kept = context;
    pthread_t thread;
    void *result;
    CHILD_EXPECT(pthread_create(&thread, NULL, keep_for_a_while, kept) == 0 && pthread_join(thread, &result) == 0);
    CHILD_EXPECT(result != NULL);
    struct lr_cache *cache = result;
    for (unsigned ms = 0; ms < 2000 && lr_enter(cache) == 0; ms++)
        fixture_sleep_ms(1);
    CHILD_EXPECT(lr_enter(cache) == LARDER_ERETIRED);
    return 0;
}

static int keep_and_exec(void *context) {
    struct kept *kept = context;
    struct lr_keeper *keeper;
    struct lr_cache *cache;
    CHILD_EXPECT(lr_keeper_create(&kept->options, &keeper, &cache, NULL) == 0);
    for (unsigned i = 0; i < 500 && atomic_load(&cache->header->participants_high) < 2; i++) {
        lr_keeper_answer(keeper);
        fixture_sleep_ms(10);
    }
    execl("/bin/sleep", "sleep", "30", (char *)NULL);
    return 1;
}

static void a_thread_that_ends_and_an_exec_end_what_they_keep(void) {
    struct kept kept;
    struct lr_cache *cache = NULL;
    if (FIXTURE_SANITIZED) {
        fixture_skip(__func__, "a sanitizer's threads end later than they say");
        return;
    }
    new_kept(&kept);
    CU_ASSERT_EQUAL(fixture_child(end_by_thread, &kept), 0);
    new_kept(&kept);
    pid_t keeper = fixture_start(keep_and_exec, &kept);
    for (unsigned ms = 0; ms < 5000 && cache == NULL; ms++, fixture_sleep_ms(1))
        (void)lr_cache_attach(&kept.options, &cache, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(cache);
    for (unsigned ms = 0; ms < 5000 && lr_enter(cache) == 0; ms++)
        fixture_sleep_ms(1);
    CU_ASSERT_EQUAL(lr_enter(cache), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(kill(keeper, 0), 0);
    kill(keeper, SIGKILL);
    (void)fixture_wait(keeper);
    lr_cache_detach(cache);
    unlink(kept.socket);
}

static void of_many_keepers_at_one_socket_one_keeps(void) {
    struct kept kept[6];
    unsigned keepers = 0;
    struct lr_cache *cache;
    new_kept(&kept[0]);
    CU_ASSERT_EQUAL_FATAL(start_keeper(&kept[0]), 0);
    kill_keeper(&kept[0]); /* the name that it leaves is everybody's to take */
    int results[6][2];
    for (unsigned i = 0; i < 6; i++) {
        kept[i] = kept[0];
        kept[i].options.path = kept[i].path;
        CU_ASSERT_EQUAL_FATAL(pipe2(results[i], O_CLOEXEC), 0);
        fflush(NULL);
        kept[i].keeper = fork();
        if (kept[i].keeper == 0) {
            alarm(60);
            fclose(stderr);
            _exit(keep(&kept[i].options, results[i][1]));
        }
    }
    for (unsigned i = 0; i < 6; i++) {
        int error = 1;
        close(results[i][1]);
        CU_ASSERT_EQUAL(read(results[i][0], &error, sizeof error), (ssize_t)sizeof error);
        CU_ASSERT(error == 0 || error == LARDER_EEXISTS);
        keepers += error == 0;
        close(results[i][0]);
    }
    CU_ASSERT_EQUAL(keepers, 1);
    CU_ASSERT_EQUAL_FATAL(lr_cache_attach(&kept[1].options, &cache, NULL), 0);
    CU_ASSERT_EQUAL(put_text(cache, "a", "one"), 0);
    lr_cache_detach(cache);
    CU_ASSERT_EQUAL(lr_cache_destroy(&kept[1].options, NULL), 0);
    for (unsigned i = 0; i < 6; i++)
        (void)fixture_wait(kept[i].keeper);
    CU_ASSERT(!exists(kept[0].socket));
}

static void a_stopped_keeper_is_said_and_harms_nobody_who_is_attached(void) {
    struct kept kept;
    struct lr_cache *none;
    char why[LR_WHY_BYTES];
    begin(&kept);
    struct lr_cache *one = join(&kept);
    kill(kept.keeper, SIGSTOP);
    CU_ASSERT_EQUAL(put_text(one, "a", "one"), 0);
    CU_ASSERT(holds(one, "a", "one"));
    uint64_t started_ns = fixture_now_ns();
    CU_ASSERT_EQUAL(lr_cache_attach(&kept.options, &none, why), LARDER_EBUSY);
    CU_ASSERT(says(why, "stopped") && fixture_now_ns() - started_ns < UINT64_C(15000000000));
    kill(kept.keeper, SIGCONT);
    struct lr_cache *two = join(&kept);
    CU_ASSERT(holds(two, "a", "one"));
    lr_cache_detach(two);
    lr_cache_detach(one);
    end(&kept);
}

/* ---- participants ----------------------------------------------------------------------------------------------- */

static int use_as_child(void *context) {
    struct lr_cache *cache = context;
    uint32_t slot = cache->slot;
    CHILD_EXPECT(put_text(cache, "c", "child") == 0 && cache->slot != slot);
    CHILD_EXPECT(lr_participant_owns_probe(cache) && lr_owner_alive(cache, lr_own_word(cache)));
    lr_cache_detach(cache);
    return 0;
}

static int use_with_nothing_open(void *context) {
    struct lr_cache *cache = context;
    for (int fd = 3; fd < 256; fd++)
        close(fd);
    int mine = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHILD_EXPECT(put_text(cache, "d", "child") == 0); /* asks the keeper */
    CHILD_EXPECT(lr_participant_owns_probe(cache));
    lr_cache_detach(cache);
    CHILD_EXPECT(fcntl(mine, F_GETFD) >= 0);
    return 0;
}

static int die_with_nothing_open(void *context) {
    struct lr_cache *cache = context;
    for (int fd = 3; fd < 256; fd++)
        close(fd);
    CHILD_EXPECT(put_text(cache, "e", "child") == 0);
    raise(SIGKILL);
    return 0;
}

static void children_join_without_the_keeper_but_after_closing_all(void) {
    struct kept kept;
    begin(&kept);
    struct lr_cache *one = join(&kept);
    kill(kept.keeper, SIGSTOP);
    CU_ASSERT_EQUAL(fixture_child(use_as_child, one), 0);
    kill(kept.keeper, SIGCONT);
    CU_ASSERT_EQUAL(fixture_child(use_with_nothing_open, one), 0);
    CU_ASSERT(holds(one, "c", "child") && holds(one, "d", "child"));
    CU_ASSERT_EQUAL(fixture_child(die_with_nothing_open, one), -SIGKILL);
    CU_ASSERT_EQUAL(lr_reap(one), 1); /* its byte fell with it: what it was handed was its own */
    CU_ASSERT(lr_owner_alive(one, lr_own_word(one)));
    fixture_check(one);
    lr_cache_detach(one);
    end(&kept);
}

static int lock_and_die(void *context) {
    struct lr_cache *cache = context;
    struct lr_view view;
    struct lr_pin pin;
    CHILD_EXPECT(lr_pin(cache, "a", 1, &pin) == 0);
    for (uint32_t i = 0; i < cache->geometry.stripe_count; i++)
        CHILD_EXPECT(lr_stripe_lock(&view, cache, i) == 0);
    kill(getpid(), SIGKILL);
    return 0;
}

static void locks_and_pins_of_the_dead_are_taken_over(void) {
    struct kept kept;
    begin(&kept);
    struct lr_cache *one = join(&kept);
    CU_ASSERT_EQUAL(put_text(one, "a", "one"), 0);
    CU_ASSERT_EQUAL(fixture_child(lock_and_die, one), -SIGKILL);
    CU_ASSERT_EQUAL(put_text(one, "a", "two"), 0);
    CU_ASSERT(holds(one, "a", "two"));
    (void)lr_reap(one);
    fixture_check(one);
    for (uint32_t slot = 0; slot < one->geometry.participants; slot++)
        CU_ASSERT_EQUAL(atomic_load(&one->participants[slot].pin_summary), 0);
    lr_cache_detach(one);
    end(&kept);
}

void larder_suite_27_kept(void);
void larder_suite_27_kept(void) {
    CU_pSuite suite = CU_add_suite("27_kept", NULL, NULL);
    CU_ADD_TEST(suite, a_kept_segment_is_attached_by_its_socket);
    CU_ADD_TEST(suite, the_inspector_takes_a_socket_for_a_path);
    CU_ADD_TEST(suite, nobody_can_truncate_or_extend_it);
    CU_ADD_TEST(suite, a_seal_against_holes_would_shut_out_those_who_come_later);
    CU_ADD_TEST(suite, a_hole_in_it_is_no_signal);
    CU_ADD_TEST(suite, owner_group_and_mode_decide_who_gets_it);
    CU_ADD_TEST(suite, a_keeper_who_is_a_stranger_must_be_named);
    CU_ADD_TEST(suite, whoever_else_listens_is_refused);
    CU_ADD_TEST(suite, when_its_keeper_is_killed_everybody_is_told);
    CU_ADD_TEST(suite, a_thread_that_ends_and_an_exec_end_what_they_keep);
    CU_ADD_TEST(suite, of_many_keepers_at_one_socket_one_keeps);
    CU_ADD_TEST(suite, a_stopped_keeper_is_said_and_harms_nobody_who_is_attached);
    CU_ADD_TEST(suite, children_join_without_the_keeper_but_after_closing_all);
    CU_ADD_TEST(suite, locks_and_pins_of_the_dead_are_taken_over);
}
