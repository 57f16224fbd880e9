/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

/*
 * Names are "t.<pid of the runner>.<pid of the caller>.<number>": the runner removes all with its pid in front when it
 * exits, and at start those of runners that are no more.
 */
#define SHARED_FOLDER "/dev/shm"
#define NAME_START "larder.t."

static pid_t runner;
static char folder[128];
static char skips[64][200];
static unsigned skip_count;

static void remove_names(bool (*is_ours)(pid_t owner)) {
    DIR *dir = opendir(SHARED_FOLDER);
    if (dir == NULL)
        return;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strncmp(entry->d_name, NAME_START, strlen(NAME_START)) != 0)
            continue;
        long owner = strtol(entry->d_name + strlen(NAME_START), NULL, 10);
        if (owner > 0 && is_ours((pid_t)owner))
            unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
}

static bool is_runner(pid_t owner) {
    return owner == runner;
}

static bool is_gone(pid_t owner) {
    return kill(owner, 0) != 0 && errno == ESRCH;
}

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *ftw) {
    (void)stat, (void)type, (void)ftw;
    return remove(path);
}

static void clean_up(void) {
    if (getpid() != runner)
        return;
    remove_names(is_runner);
    if (folder[0] != '\0')
        nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void fixture_init(void) {
    runner = getpid();
    remove_names(is_gone);
    atexit(clean_up);
}

/* ---- segments ------------------------------------------------------------------------------------------------- */

void fixture_name(char out[65]) {
    static unsigned count;
    snprintf(out, 65, "t.%ld.%ld.%u", (long)runner, (long)getpid(), ++count);
}

static struct lr_cache *attach_or_fail(const struct lr_options *options, bool create) {
    struct lr_cache *cache = NULL;
    char why[LR_WHY_BYTES] = "";
    int error = create ? lr_cache_create(options, &cache, why) : lr_cache_attach(options, &cache, why);
    if (error != 0)
        printf("\n    %s: %s\n", lr_error_name(error), why);
    CU_ASSERT_EQUAL_FATAL(error, 0);
    return cache;
}

void fixture_create(struct fixture *fixture, uint64_t size) {
    struct lr_options options = lr_options_default();
    options.size = size;
    fixture_create_with(fixture, &options);
}

void fixture_create_with(struct fixture *fixture, const struct lr_options *options) {
    fixture->options = *options;
    if (options->name == NULL && options->path == NULL) {
        fixture_name(fixture->name);
        fixture->options.name = fixture->name;
    }
    fixture->one = attach_or_fail(&fixture->options, true);
    fixture->two = attach_or_fail(&fixture->options, false);
}

struct lr_cache *fixture_attach(const struct fixture *fixture) {
    return attach_or_fail(&fixture->options, false);
}

void fixture_check(struct lr_cache *cache) {
    struct lr_check check;
    int error = lr_check(cache, &check);
    if (error != 0) {
        printf("\n    check: %s, %" PRIu64 " findings, %" PRIu64 " stripes busy\n", lr_error_name(error),
               check.findings, check.stripes_busy);
        for (unsigned i = 0; i < 8 && i < check.findings; i++)
            printf("    %s\n", check.first[i]);
    }
    CU_ASSERT_EQUAL(error, 0);
}

void fixture_destroy(struct fixture *fixture) {
    char why[LR_WHY_BYTES] = "";
    fixture_check(fixture->two);
    lr_cache_detach(fixture->two);
    lr_cache_detach(fixture->one);
    int error = lr_cache_destroy(&fixture->options, why);
    if (error != 0)
        printf("\n    destroy: %s: %s\n", lr_error_name(error), why);
    CU_ASSERT_EQUAL(error, 0);
}

/* ---- children ------------------------------------------------------------------------------------------------- */

pid_t fixture_start(int (*body)(void *context), void *context) {
    fflush(NULL);
    pid_t child = fork();
    CU_ASSERT_FATAL(child >= 0);
    if (child == 0) {
        alarm(120);
        int status = body(context);
        fflush(NULL);
        _exit(status);
    }
    return child;
}

int fixture_wait(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        CU_ASSERT_EQUAL_FATAL(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int fixture_child(int (*body)(void *context), void *context) {
    return fixture_wait(fixture_start(body, context));
}

int fixture_run(const char *command, char *out, size_t cap) {
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(pipe2(ends, O_CLOEXEC), 0);
    fflush(NULL);
    pid_t child = fork();
    CU_ASSERT_FATAL(child >= 0);
    if (child == 0) {
        int nothing = open("/dev/null", O_RDONLY);
        dup2(nothing, 0);
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        alarm(240); /* survives exec */
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    size_t used = 0;
    char chunk[4096];
    for (;;) {
        ssize_t n = read(ends[0], chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        size_t kept = cap == 0 ? 0 : (size_t)n < cap - 1 - used ? (size_t)n : cap - 1 - used;
        if (kept > 0)
            memcpy(out + used, chunk, kept);
        used += kept;
    }
    if (cap > 0)
        out[used] = '\0';
    close(ends[0]);
    return fixture_wait(child);
}

#define PORT_FIRST 12000u
#define PORT_BLOCK 100u
#define PORT_BLOCKS 200u

/* A block of ports that no other suite takes, nor this one again: who has the socket of its name has the block, until
 * they end. Between looking whether a port is free and listening there another would take it. */
static unsigned claim_ports(void) {
    for (unsigned tries = 0; tries < PORT_BLOCKS; tries++) {
        const unsigned block = ((unsigned)getpid() * 7 + tries) % PORT_BLOCKS;
        struct sockaddr_un name = {.sun_family = AF_UNIX}; /* abstract: it begins with a zero byte */
        int len = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "larder-tests.ports.%u", block);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(fd, (const struct sockaddr *)&name,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) == 0)
            return PORT_FIRST + block * PORT_BLOCK; /* and the socket stays open */
        close(fd);
    }
    CU_FAIL_FATAL("no ports are left");
    return 0;
}

unsigned fixture_port(void) {
    static unsigned next, left;
    unsigned port;
    bool usable;
    do {
        if (left == 0) {
            next = claim_ports();
            left = PORT_BLOCK;
        }
        port = next++;
        left--;
        const struct sockaddr_in address = {
            .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        usable = fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) == 0;
        close(fd);
    } while (!usable);
    return port;
}

const char *fixture_program(const char *name) {
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    CU_ASSERT_FATAL(n > 0);
    path[n] = '\0';
    char *base = strrchr(path, '/') + 1;
    snprintf(base, sizeof path - (size_t)(base - path), "%s", name);
    return path;
}

const char *fixture_folder(void) {
    if (folder[0] == '\0') {
        const char *parent = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%.90s/larder-tests.XXXXXX", parent != NULL && *parent ? parent : "/tmp");
        CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    }
    return folder;
}

/* ---- random numbers and time ---------------------------------------------------------------------------------- */

struct fixture_random fixture_seed(const char *what) {
    uint64_t seed = 0;
    const char *given = getenv("LARDER_TEST_SEED");
    if (given != NULL && *given != '\0')
        seed = strtoull(given, NULL, 0);
    else if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        seed = fixture_now_ns();
    printf("\n    %s: LARDER_TEST_SEED=0x%" PRIx64 "\n   ", what, seed);
    fflush(stdout);
    return (struct fixture_random){seed};
}

/* SplitMix64: any state is as good as any other, so that streams can be made by arithmetic. */
uint64_t fixture_next(struct fixture_random *random) {
    uint64_t x = random->state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

struct fixture_random fixture_fork_random(struct fixture_random *random, unsigned n) {
    struct fixture_random other = {random->state ^ ((uint64_t)(n + 1) << 32)};
    other.state = fixture_next(&other);
    return other;
}

uint64_t fixture_below(struct fixture_random *random, uint64_t n) {
    return fixture_next(random) % n; /* bias: n / 2^64 */
}

uint64_t fixture_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void fixture_sleep_ms(unsigned ms) {
    struct timespec left = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

/* ---- skipping ------------------------------------------------------------------------------------------------- */

void fixture_skip(const char *test, const char *why) {
    printf(" SKIPPED: %s;", why);
    if (skip_count < sizeof skips / sizeof *skips)
        snprintf(skips[skip_count], sizeof *skips, "%s: %s", test, why);
    skip_count++;
}

void fixture_print_skips(void) {
    if (skip_count == 0)
        return;
    printf("\nSKIPPED %u:\n", skip_count);
    for (unsigned i = 0; i < skip_count && i < sizeof skips / sizeof *skips; i++)
        printf("    %s\n", skips[i]);
}
