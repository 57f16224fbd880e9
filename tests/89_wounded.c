/* SPDX-License-Identifier: MIT */
/*
 * Every verb of `larder` on damaged segments: does it end, with an exit status that means something and, with --json,
 * one object that can be read?
 *
 * The verbs run inside a worker, as larder's main would call them, on a segment that damage.h wounds anew for each
 * image: in the stripe, in the participants, in the header's constants and in the liveness file. So thousands of images
 * take seconds, and in a build with sanitizers every access is watched. What an image is follows from the seed and its
 * number. Whether what is printed is right cannot be said of a damaged segment; that nothing else breaks can.
 */
#include "cli.h"
#include "corrupt/damage.h"
#include "fixture.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define WORKERS 8u /* more than cores: they also wait, for locks whose words were damaged */
#define IMAGES (FIXTURE_SANITIZED ? 800u : 300u)
#define LONGEST_S 20u /* of one image */
#define HEAD_IN 16u   /* one image in so many has a wound in the constants, and one in the liveness file */
#define WORDS 16u
#define SAID_BYTES (1u << 20)

/* %n the segment's name, %k a key in hexadecimal digits; in turn with and without --json. `often`: as likely as. */
static const struct {
    unsigned often;
    const char *words;
} commands[] = {
    {3, "get --name %n --hex-key %k"},
    {1, "get --name %n --hex-key %k --meta"},
    {3, "set --name %n --hex-key %k value --ttl 5m"},
    {1, "set --name %n --hex-key %k value --flags 7 --add"},
    {1, "set --name %n --hex-key %k value --replace"},
    {1, "set --name %n --hex-key %k value --cas 12345678901234567"},
    {1, "set --name %n --hex-key %k value --fill"},
    {1, "set --name %n --hex-key %k value --peers 1 --timeout 1ms"},
    {3, "del --name %n --hex-key %k"},
    {1, "del --name %n --hex-key %k --peers 2 --timeout 1ms"},
    {1, "flush --name %n"},
    {3, "ls --name %n --long"},
    {1, "ls --name %n --hex --prefix v --limit 9"},
    {3, "procs --name %n --verbose"},
    {3, "stripes --name %n"},
    {1, "stripes --name %n --locked"},
    {3, "stat --name %n --verbose"},
    {4, "check --name %n"},
    {2, "check --image /dev/shm/larder.%n"},
    {3, "digest --name %n"},
    {1, "digest --name %n --wait-drained 1ms"},
    {1, "create --name %n --size 64K"},
    {1, "destroy --name %n"},
    {1, "destroy --name %n --force"},
    {1, "replay --name %n --generate kv --requests 300"},
};
#define COMMANDS (sizeof commands / sizeof *commands)

static const struct verb *const verbs[] = {
    &verb_create, &verb_stat,    &verb_get,   &verb_set,    &verb_del,     &verb_flush,  &verb_ls,
    &verb_procs,  &verb_stripes, &verb_check, &verb_digest, &verb_destroy, &verb_replay, NULL,
};

struct worker {
    uint64_t seed;
    unsigned number;
    int said, complained; /* standard output and errors of the verbs */
    _Atomic uint64_t image;
    _Atomic uint64_t by_exit[8], by_command[COMMANDS];
    char broken[400];
};

/* ---- one command ------------------------------------------------------------------------------------------------ */

static unsigned draw_command(struct damage_random *random) {
    uint64_t all = 0;
    for (unsigned i = 0; i < COMMANDS; i++)
        all += commands[i].often;
    uint64_t at = damage_below(random, all);
    unsigned command = 0;
    while (at >= commands[command].often)
        at -= commands[command++].often;
    return command;
}

/* Makes argv of a row; the words lie in `text`. */
static int make_words(const struct victim *v, unsigned command, uint64_t key, bool json, char text[512],
                      char *argv[WORDS + 1]) {
    size_t len = 0;
    const char *from = commands[command].words;
    for (; *from != '\0' && len < 400; from++) {
        if (strncmp(from, "%n", 2) == 0)
            len += (size_t)snprintf(text + len, 512 - len, "%s", v->name);
        else if (strncmp(from, "%k", 2) == 0)
            len += (size_t)snprintf(text + len, 512 - len, "%016" PRIx64, __builtin_bswap64(key));
        else
            text[len++] = *from;
        from += *from == '%';
    }
    snprintf(text + len, 512 - len, "%s", json ? " --json" : "");
    int count = 0;
    argv[count++] = (char *)(uintptr_t) "larder";
    for (char *rest = text, *word; (word = strtok_r(rest, " ", &rest)) != NULL && count < (int)WORDS;)
        argv[count++] = word;
    argv[count] = NULL;
    return count;
}

/* What went wrong; NULL: nothing. */
static const char *judge(const struct worker *w, unsigned command, bool json, int status, char *said) {
    if (status < 0 || status > CLI_TIMEOUT)
        return "the exit status is none of larder's";
    ssize_t len = pread(w->said, said, SAID_BYTES - 1, 0);
    if (len < 0)
        return "the output cannot be read back";
    said[len] = '\0';
    if (!json)
        return NULL;
    json_t *object = json_loads(said, 0, NULL);
    if (!json_is_object(object))
        return "--json did not print one object";
    const bool died = json_integer_value(json_object_get(object, "deaths")) > 0;
    json_decref(object);
    return died && strncmp(commands[command].words, "replay", 6) == 0 ? "a worker of replay died" : NULL;
}

/* False: it broke something, and said what. */
static bool run_command(struct worker *w, struct victim *v, unsigned command, char *said) {
    char text[512], *argv[WORDS + 1];
    const bool json = damage_below(&v->random, 2) == 0;
    const int argc = make_words(v, command, damage_below(&v->random, DAMAGE_KEYS + 20), json, text, argv);
    if (ftruncate(w->said, 0) != 0 || lseek(w->said, 0, SEEK_SET) != 0 || ftruncate(w->complained, 0) != 0 ||
        lseek(w->complained, 0, SEEK_SET) != 0)
        return false;
    snprintf(w->broken, sizeof w->broken, "died, or did not come to an end: %s%s", commands[command].words,
             json ? " --json" : "");
    int status = cli_main(argc, argv, verbs);
    const char *fault = judge(w, command, json, status, said);
    if (fault != NULL) {
        snprintf(w->broken, sizeof w->broken, "%s (%d): %s%s; it said: %.200s", fault, status, commands[command].words,
                 json ? " --json" : "", said);
        return false;
    }
    atomic_fetch_add(&w->by_exit[status], 1);
    atomic_fetch_add(&w->by_command[command], 1);
    w->broken[0] = '\0';
    return true;
}

/* ---- images ----------------------------------------------------------------------------------------------------- */

static bool exists(const char *format, const char *name) {
    char path[160];
    struct stat file;
    snprintf(path, sizeof path, format, name);
    return lstat(path, &file) == 0;
}

/* A wound where damage.h sets none: what an attacher judges first. The liveness file is made whole again by the caller.
 */
static void wound_head(struct victim *v, int live, uint8_t page[64]) {
    struct damage_random *random = &v->random;
    if (damage_below(random, HEAD_IN) == 0)
        v->cache->base[damage_below(random, sizeof(struct sm_constants))] ^= (uint8_t)(1u << damage_below(random, 8));
    if (damage_below(random, HEAD_IN) != 0 || pread(live, page, 64, 4096) != 64)
        return;
    uint8_t other = page[damage_below(random, 48)] ^ (uint8_t)(1 + damage_below(random, 255));
    (void)!pwrite(live, &other, 1, 4096 + (off_t)damage_below(random, 48));
}

/* The segment and its liveness file as a worker finds them before each image. */
struct bed {
    struct victim victim;
    int live;
    uint8_t page[64]; /* of the liveness file */
};

static void make_bed(struct bed *bed, const struct worker *w) {
    char why[LR_WHY_BYTES], path[160];
    CHILD_EXPECT(damage_begin(&bed->victim, UINT64_C(0x77), w->number, why) == 0);
    snprintf(path, sizeof path, "/dev/shm/larder.%s.live", bed->victim.name);
    bed->live = open(path, O_RDWR | O_CLOEXEC);
    CHILD_EXPECT(bed->live >= 0 && pread(bed->live, bed->page, 64, 4096) == 64);
}

static void clear_bed(struct bed *bed) {
    damage_restore(&bed->victim);
    damage_end(&bed->victim);
    close(bed->live);
}

static int work(void *context) {
    struct worker *w = context;
    static struct bed bed;
    static char said[SAID_BYTES];
    make_bed(&bed, w);
    CHILD_EXPECT(dup2(w->said, STDOUT_FILENO) >= 0 && dup2(w->complained, STDERR_FILENO) >= 0);
    for (unsigned image = 0; image < IMAGES; image++) {
        struct victim *v = &bed.victim;
        uint8_t page[64];
        atomic_store(&w->image, image);
        alarm(LONGEST_S);
        v->random.state = w->seed ^ ((uint64_t)(w->number * IMAGES + image) * UINT64_C(0xd1342543de82ef95));
        damage_restore(v);
        if (pwrite(bed.live, bed.page, 64, 4096) != 64)
            return 2;
        damage_do(v);
        wound_head(v, bed.live, page);
        if (!run_command(w, v, draw_command(&v->random), said))
            return 1;
        if (!exists("/dev/shm/larder.%s", v->name) || !exists("/dev/shm/larder.%s.live", v->name)) {
            clear_bed(&bed);
            make_bed(&bed, w);
        }
    }
    clear_bed(&bed);
    return 0;
}

/* What a worker that died has left: a sanitizer's report, mostly. */
static void tell(const struct worker *w, int status) {
    char words[3000];
    ssize_t len = pread(w->complained, words, sizeof words - 1, 0);
    words[len < 0 ? 0 : len] = '\0';
    printf("\n    worker %u, image %" PRIu64 ", status %d: %s\n%s\n", w->number, atomic_load(&w->image), status,
           w->broken, words);
}

static void every_verb_ends_well_on_any_damage(void) {
    struct fixture_random random = fixture_seed("damage for the verbs");
    struct worker *workers =
        mmap(NULL, WORKERS * sizeof *workers, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CU_ASSERT_NOT_EQUAL_FATAL(workers, MAP_FAILED);
    pid_t children[WORKERS];
    uint64_t exits[8] = {0}, runs[COMMANDS] = {0};
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].seed = random.state;
        workers[i].number = i;
        workers[i].said = memfd_create("said", MFD_CLOEXEC);
        workers[i].complained = memfd_create("complained", MFD_CLOEXEC);
        CU_ASSERT_FATAL(workers[i].said >= 0 && workers[i].complained >= 0);
        children[i] = fixture_start(work, &workers[i]);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        int status = fixture_wait(children[i]);
        CU_ASSERT_EQUAL(status, 0);
        if (status != 0)
            tell(&workers[i], status);
        for (unsigned e = 0; e < 8; e++)
            exits[e] += atomic_load(&workers[i].by_exit[e]);
        for (unsigned c = 0; c < COMMANDS; c++)
            runs[c] += atomic_load(&workers[i].by_command[c]);
        close(workers[i].said);
        close(workers[i].complained);
    }
    printf(" %u images; by exit status:", WORKERS * IMAGES);
    for (unsigned e = 0; e < 8; e++)
        printf(" %" PRIu64, exits[e]);
    /* Damage that nobody sees would prove nothing, and neither would a segment that nobody can attach. */
    CU_ASSERT(exits[CLI_CORRUPTION] > WORKERS * IMAGES / 50);
    CU_ASSERT(exits[CLI_YES] > WORKERS * IMAGES / 4);
    for (unsigned c = 0; c < COMMANDS; c++)
        CU_ASSERT(runs[c] > 0);
    munmap(workers, WORKERS * sizeof *workers);
}

void larder_suite_89_wounded(void) {
    CU_pSuite suite = CU_add_suite("89_wounded", NULL, NULL);
    CU_ADD_TEST(suite, every_verb_ends_well_on_any_damage);
}
