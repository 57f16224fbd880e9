/* SPDX-License-Identifier: MIT */
/*
 * The inspector as its users meet it: the real program, its words, its exit codes.
 *
 * Every test runs bin/larder through a shell, with nothing mocked. What can be said in JSON is parsed with jansson, and
 * the exit codes are those that `larder --help` promises. Segments are made here, so that shared bytes can be set by
 * hand: a lock held by a live process, a foreign layout, a damaged constant.
 */
#include "attachment.h"
#include "fixture.h"

#include <fcntl.h>
#include <grp.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define OUT_BYTES 262144u
static char *out; /* shared with children, so that what they ran can be judged here */

static const char *const verbs[] = {
    "create",  "stat",  "get",    "set",     "del",    "flush", "ls",      "procs",
    "stripes", "check", "digest", "destroy", "replay", "bench", "version", "peers",
};
#define VERBS (sizeof verbs / sizeof verbs[0])

/* ---- running ---------------------------------------------------------------------------------------------------- */

/* Both put output and errors into `out` and return the exit status. */
static int shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int larder(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A shell command in which $L is the program. */
static int shell(const char *format, ...) {
    char command[16384];
    int len = snprintf(command, sizeof command, "export L='%s'; ", fixture_program("larder"));
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command + len, sizeof command - (size_t)len, format, arguments);
    va_end(arguments);
    return fixture_run(command, out, OUT_BYTES);
}

static int larder(const char *format, ...) {
    char tail[8192];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(tail, sizeof tail, format, arguments);
    va_end(arguments);
    return shell("exec \"$L\" %s", tail);
}

/* The object that a run with --json has printed, and nothing beside it. The caller releases it. */
static json_t *parse_output(void) {
    json_error_t error;
    json_t *object = json_loads(out, 0, &error);
    if (object == NULL)
        printf("\n    not JSON (%s): %.400s\n", error.text, out);
    CU_ASSERT_FATAL(json_is_object(object));
    return object;
}

static void expect_text(const char *text) {
    if (strstr(out, text) == NULL)
        printf("\n    \"%s\" is not in: %.600s\n", text, out);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, text));
}

static void expect_status(int status, int wanted) {
    if (status != wanted)
        printf("\n    exit status %d in place of %d: %.600s\n", status, wanted, out);
    CU_ASSERT_EQUAL(status, wanted);
    if (status == 127) /* the program is not there: spare the reader the rest */
        CU_FAIL_FATAL("no program");
}

/* Fields separated by blanks. */
static void expect_fields(const json_t *object, const char *fields) {
    char copy[1024];
    snprintf(copy, sizeof copy, "%s", fields);
    for (char *field = strtok(copy, " "); field != NULL; field = strtok(NULL, " ")) {
        if (json_object_get(object, field) == NULL)
            printf("\n    field \"%s\" is missing\n", field);
        CU_ASSERT_PTR_NOT_NULL(json_object_get(object, field));
    }
}

static json_int_t integer_of(const json_t *object, const char *field) {
    const json_t *value = json_object_get(object, field);
    CU_ASSERT_FATAL(json_is_integer(value));
    return json_integer_value(value);
}

static const char *text_of(const json_t *object, const char *field) {
    const json_t *value = json_object_get(object, field);
    CU_ASSERT_FATAL(json_is_string(value));
    return json_string_value(value);
}

/* An error object with this name, and all that an error must say. */
static void expect_error(const char *name) {
    json_t *object = parse_output();
    const json_t *error = json_object_get(object, "error");
    CU_ASSERT_FATAL(json_is_object(error));
    CU_ASSERT_EQUAL(json_object_size(object), 1);
    expect_fields(error, "code name message remedy");
    CU_ASSERT_STRING_EQUAL(text_of(error, "name"), name);
    CU_ASSERT(integer_of(error, "code") < 0);
    CU_ASSERT(strlen(text_of(error, "message")) > 0 && strlen(text_of(error, "remedy")) > 0);
    CU_ASSERT_PTR_NULL(strstr(text_of(error, "remedy"), "function")); /* those who read this have a shell */
    json_decref(object);
}

/* A segment that only the inspector has touched. */
static void create_segment(char name[65], const char *size) {
    fixture_name(name);
    expect_status(larder("create --name %s --size %s", name, size), 0);
}

static void destroy_segment(const char *name) {
    expect_status(larder("check --name %s", name), 0);
    expect_status(larder("destroy --name %s", name), 0);
}

static void write_file(const char *path, const void *bytes, size_t len) {
    FILE *file = fopen(path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL(fwrite(bytes, 1, len, file), len);
    CU_ASSERT_EQUAL(fclose(file), 0);
}

/* Overwrites `len` bytes of a segment file in place and gives back what was there. */
static void swap_bytes(const char *name, uint64_t off, void *bytes, size_t len) {
    char path[128], old[64];
    CU_ASSERT_FATAL(len <= sizeof old);
    snprintf(path, sizeof path, "/dev/shm/larder.%s", name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(pread(fd, old, len, (off_t)off), (ssize_t)len);
    CU_ASSERT_EQUAL(pwrite(fd, bytes, len, (off_t)off), (ssize_t)len);
    memcpy(bytes, old, len);
    close(fd);
}

/* ---- help, words, JSON --------------------------------------------------------------------------------------------
 */

static void help_lists_every_verb_and_every_exit_status(void) {
    char line[64];
    expect_status(larder("--help"), 0);
    for (size_t i = 0; i < VERBS; i++) {
        snprintf(line, sizeof line, "\n       %s ", verbs[i]);
        expect_text(line);
    }
    for (int status = 0; status <= 7; status++) {
        snprintf(line, sizeof line, "\n       %d ", status);
        expect_text(line);
    }
}

static void help_of_every_verb_is_a_manual_page(void) {
    static const char *const sections[] = {
        "NAME\n",        "\nSYNOPSIS\n",    "\nDESCRIPTION\n", "\nOPTIONS\n",
        "\nJSON OUTPUT", "\nEXIT STATUS\n", "\nEXAMPLES\n",    "--json\n",
    };
    for (size_t i = 0; i < VERBS; i++) {
        expect_status(larder("%s --help", verbs[i]), 0);
        for (size_t k = 0; k < sizeof sections / sizeof sections[0]; k++)
            expect_text(sections[k]);
        CU_ASSERT_PTR_NULL(strchr(out, '\033')); /* no colour into a pipe */
    }
}

static void every_verb_of_the_inspector_speaks_json(void) {
    static const char *const runs[][2] = {
        {"create --size 4M --favor bytes",
         "name path policy favor layout incarnation created_ms segment_bytes cache_bytes fixed_bytes "
         "max_item_bytes stripes participants"},
        {"set k v", "key key_hex version value_bytes"},
        {"get k", "key key_hex version flags ttl_ms value_bytes value value_hex"},
        {"get k --meta", "key key_hex version flags ttl_ms value_bytes"},
        {"stat", "name items probation_bytes chooses_by choice_changes metadata_per_item payload_bytes payload_share "
                 "hit_ratio counters stripe_counters sidecar retired"},
        {"ls", "items count skipped complete"},
        {"ls --long", "items count skipped complete"},
        {"procs", "retired slots alive dead processes"},
        {"stripes", "count locked stripes"},
        {"check", "healthy stripes_checked stripes_busy findings items first"},
        {"digest", "sum items bytes"},
        {"del k", "deleted missing"},
        {"flush", "flush_version"},
        {"version", "program layout"},
        {"destroy", "destroyed"},
    };
    char name[65];
    fixture_name(name);
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        bool on_segment = strcmp(runs[i][0], "version") != 0;
        expect_status(larder("%s --json %s %s", runs[i][0], on_segment ? "--name" : "", on_segment ? name : ""), 0);
        json_t *object = parse_output();
        expect_fields(object, runs[i][1]);
        json_decref(object);
    }
}

static void replay_and_bench_print_the_promised_fields(void) {
    expect_status(larder("replay --generate kv --requests 2000 --size 8M --json"), 0);
    json_t *object = parse_output();
    expect_fields(object, "gets hits miss_ratio byte_miss_ratio wrong_values evictions payload_share ops_per_s p50_ns "
                          "p99_ns p999_ns");
    CU_ASSERT_EQUAL(integer_of(object, "wrong_values"), 0);
    json_decref(object);

    if (FIXTURE_SANITIZED) /* there 89_bench goes through the same, and it takes long */
        return;
    expect_status(larder("bench --items 2000 --json"), 0);
    object = parse_output();
    const json_t *results = json_object_get(object, "results");
    CU_ASSERT_EQUAL_FATAL(json_array_size(results), 6);
    static const char *const ops[] = {"get_copy", "get_pinned", "get_many", "put_replace", "delete", "put_evict"};
    for (size_t i = 0; i < 6; i++) {
        const json_t *row = json_array_get(results, i);
        CU_ASSERT_STRING_EQUAL(text_of(row, "op"), ops[i]);
        expect_fields(row, "items value_bytes processes ns floor_ns ratio");
    }
    json_decref(object);
}

static void create_says_how_far_it_is_when_asked(void) {
    char name[65];
    fixture_name(name);
    expect_status(larder("create --name %s --size 8M --progress 2>&1", name), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "allocated   0 %"));
    expect_status(larder("destroy --name %s", name), 0);
    expect_status(larder("create --name %s --size 8M 2>&1", name), 0);
    CU_ASSERT_PTR_NULL(strstr(out, "allocated")); /* no terminal, and small */
    expect_status(larder("destroy --name %s", name), 0);
}

static void unknown_and_surplus_words_are_named_with_exit_2(void) {
    static const char *const runs[][2] = {
        {"", "no verb"},
        {"frobnicate", "\"frobnicate\""},
        {"--frobnicate", "--frobnicate"},
        {"stat --frobnicate", "--frobnicate"},
        {"stat --frobnicate=3", "--frobnicate"},
        {"stat -z", "-z"},
        {"stat surplus", "\"surplus\""},
        {"get", "KEY"},
        {"get a b", "\"b\""},
        {"set a b c", "\"c\""},
        {"set a", "no value"},
        {"set a b --file c", "\"c\""},
        {"set a b --add --replace", "--add"},
        {"set a b --ttl soon", "\"soon\""},
        {"set a b --flags 4294967296", "4294967296"},
        {"get ''", "0 bytes"},
        {"get --hex-key xyz", "xyz"},
        {"create --json --size", "--size"},
        {"create --size 12Q", "\"12Q\""},
        {"create --size 0", "\"0\""},
        {"create --size 1", "65536"},
        {"create --stripes 3", "power of two"},
        {"create --policy lru", "\"lru\""},
        {"create --mode 0999", "\"0999\""},
        {"create --mode 0666", "0666"},
        {"create --group no-such-group", "\"no-such-group\""},
        {"create --owner no-such-user", "\"no-such-user\""},
        {"create --json=yes", "\"yes\""},
        {"ls --limit -1", "\"-1\""},
        {"digest --wait-drained x", "\"x\""},
        {"check --image a --name b", "--image"},
        {"stat --name a --path b", "--path"},
    };
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        expect_status(larder("%s", runs[i][0]), 2);
        expect_text(runs[i][1]);
        if (runs[i][0][0] != 0 && strstr(runs[i][0], "--json") == NULL) {
            expect_status(larder("%s --json", runs[i][0]), 2);
            expect_error("INVALID");
        }
    }
}

static void names_that_leave_their_folder_are_refused(void) {
    static const char *const names[] = {"a/b", "../x", "/dev/shm/larder.x", ".", "..", "''", "a%b", "a\\ b"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        expect_status(larder("create --size 1M --json --name %s", names[i]), 2);
        expect_error("INVALID");
        expect_status(larder("stat --json --name %s", names[i]), 2);
        expect_error("INVALID");
        expect_status(larder("peers --json --name %s", names[i]), 2);
        expect_error("INVALID");
        expect_status(larder("destroy --json --name %s", names[i]), 2);
        expect_error("INVALID");
    }
    expect_status(larder("create --size 1M --name a/b"), 2);
    expect_text("a/b");
}

static void the_environment_names_the_segment(void) {
    char name[65];
    create_segment(name, "1M");
    expect_status(shell("LARDER_NAME=%s $L set k v", name), 0);
    expect_status(larder("get k --name %s", name), 0);
    CU_ASSERT_STRING_EQUAL(out, "v");
    expect_status(larder("get k --path /dev/shm/larder.%s", name), 0);
    expect_status(shell("LARDER_NAME=no-such.%s $L get k --name %s", name, name), 0);
    destroy_segment(name);
}

/* ---- values and keys ----------------------------------------------------------------------------------------------
 */

static void a_value_comes_back_byte_by_byte(void) {
    char name[65], from[256], to[256];
    unsigned char bytes[70000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 256);
    create_segment(name, "4M");
    snprintf(from, sizeof from, "%s/from", fixture_folder());
    snprintf(to, sizeof to, "%s/to", fixture_folder());
    write_file(from, bytes, sizeof bytes);

    expect_status(larder("set k --file %s --name %s", from, name), 0);
    expect_status(larder("get k --output %s --name %s", to, name), 0);
    expect_status(shell("cmp %s %s", from, to), 0);
    expect_status(shell("cat %s | $L set k2 - --name %s", from, name), 0);
    expect_status(shell("$L get k2 --name %s | cmp - %s", name, from), 0);
    expect_status(larder("set empty '' --name %s", name), 0);
    expect_status(larder("get empty --name %s", name), 0);
    CU_ASSERT_STRING_EQUAL(out, "");
    expect_status(larder("set --name %s -- -3 -5", name), 0);
    expect_status(larder("get --name %s -- -3", name), 0);
    CU_ASSERT_STRING_EQUAL(out, "-5");
    expect_status(larder("set k --file /no/such/file --name %s", name), 2);
    expect_text("/no/such/file");
    destroy_segment(name);
}

static void any_key_can_be_set_listed_and_read(void) {
    char name[65];
    create_segment(name, "4M");
    expect_status(larder("set --hex-key 00ff5c0a41 v --name %s", name), 0);
    expect_status(larder("ls --name %s", name), 0);
    CU_ASSERT_STRING_EQUAL(out, "\\x00\\xff\\x5c\\x0aA\n");
    expect_status(larder("ls --hex --name %s", name), 0);
    CU_ASSERT_STRING_EQUAL(out, "00ff5c0a41\n");
    expect_status(larder("get --hex-key 00FF5C0A41 --name %s", name), 0);
    CU_ASSERT_STRING_EQUAL(out, "v");

    expect_status(larder("ls --json --long --name %s", name), 0);
    json_t *object = parse_output();
    const json_t *row = json_array_get(json_object_get(object, "items"), 0);
    CU_ASSERT_EQUAL(integer_of(object, "count"), 1);
    CU_ASSERT(json_is_null(json_object_get(row, "key")));
    CU_ASSERT_STRING_EQUAL(text_of(row, "key_hex"), "00ff5c0a41");
    expect_fields(row, "value_bytes block_bytes version flags ttl_ms recency pinned stripe");
    json_decref(object);

    /* Many readers of JSON refuse NUL in text: such bytes are given as hexadecimal digits only. */
    expect_status(shell("printf 'a\\0b' | $L set --hex-key 000102 - --json --name %s", name), 0);
    object = parse_output();
    CU_ASSERT(json_is_null(json_object_get(object, "key")));
    json_decref(object);
    expect_status(larder("get --hex-key 000102 --json --name %s", name), 0);
    object = parse_output();
    CU_ASSERT(json_is_null(json_object_get(object, "value")));
    CU_ASSERT_STRING_EQUAL(text_of(object, "value_hex"), "610062");
    json_decref(object);
    expect_status(larder("get --hex-key ff00 --json --name %s", name), 1);
    expect_error("NOT_FOUND");
    expect_status(larder("del --hex-key 00ff5c0a41 000102 --name %s", name), 0);
    expect_status(larder("ls --name %s", name), 0);
    CU_ASSERT_STRING_EQUAL(out, "");
    destroy_segment(name);
}

static void ls_obeys_prefix_and_limit(void) {
    char name[65];
    create_segment(name, "4M");
    for (int i = 0; i < 5; i++) {
        expect_status(larder("set a/%d v --name %s", i, name), 0);
        expect_status(larder("set b/%d v --name %s", i, name), 0);
    }
    expect_status(shell("$L ls --prefix a/ --name %s | wc -l", name), 0);
    CU_ASSERT_EQUAL(atoi(out), 5);
    CU_ASSERT_PTR_NULL(strstr(out, "b/"));
    expect_status(shell("$L ls --limit 3 --name %s | wc -l", name), 0);
    CU_ASSERT_EQUAL(atoi(out), 3);
    expect_status(larder("ls --limit 3 --json --name %s", name), 0);
    json_t *object = parse_output();
    CU_ASSERT_EQUAL(integer_of(object, "count"), 3);
    CU_ASSERT(json_is_false(json_object_get(object, "complete")));
    json_decref(object);
    expect_status(larder("ls --prefix c/ --json --name %s", name), 0);
    object = parse_output();
    CU_ASSERT_EQUAL(integer_of(object, "count"), 0);
    CU_ASSERT(json_is_true(json_object_get(object, "complete")));
    json_decref(object);
    destroy_segment(name);
}

static void no_is_exit_1(void) {
    char name[65], version[32];
    create_segment(name, "1M");
    expect_status(larder("get absent --name %s", name), 1);
    expect_text("absent");
    expect_status(larder("set k v --replace --json --name %s", name), 1);
    expect_error("NOT_FOUND");
    expect_status(larder("set k v --add --name %s", name), 0);
    expect_status(larder("set k v --add --json --name %s", name), 1);
    expect_error("EXISTS");
    expect_status(larder("get k --json --name %s", name), 0);
    json_t *object = parse_output();
    snprintf(version, sizeof version, "%s", text_of(object, "version"));
    json_decref(object);
    expect_status(larder("set k w --cas %s --name %s", version, name), 0);
    expect_status(larder("set k x --cas %s --json --name %s", version, name), 1);
    expect_error("CONFLICT");
    expect_status(larder("get k --name %s", name), 0);
    CU_ASSERT_STRING_EQUAL(out, "w");
    expect_status(larder("del k absent --json --name %s", name), 1);
    object = parse_output();
    CU_ASSERT_EQUAL(integer_of(object, "deleted"), 1);
    CU_ASSERT_EQUAL(json_array_size(json_object_get(object, "missing")), 1);
    json_decref(object);
    expect_status(larder("create --size 1M --json --name %s", name), 1);
    expect_error("EXISTS");
    destroy_segment(name);
}

static void items_expire_and_flushed_items_are_gone(void) {
    char name[65];
    create_segment(name, "1M");
    expect_status(larder("set short v --ttl 50ms --name %s", name), 0);
    expect_status(larder("set long v --ttl 1h --flags 7 --name %s", name), 0);
    expect_status(larder("get long --json --name %s", name), 0);
    json_t *object = parse_output();
    CU_ASSERT_EQUAL(integer_of(object, "flags"), 7);
    CU_ASSERT(integer_of(object, "ttl_ms") > 3500000 && integer_of(object, "ttl_ms") <= 3600000);
    json_decref(object);
    fixture_sleep_ms(120);
    expect_status(larder("get short --name %s", name), 1);
    expect_status(larder("get long --name %s", name), 0);
    expect_status(larder("flush --name %s", name), 0);
    expect_status(larder("get long --name %s", name), 1);
    expect_status(larder("ls --name %s", name), 0);
    CU_ASSERT_STRING_EQUAL(out, "");
    expect_status(larder("set after v --name %s", name), 0);
    expect_status(larder("get after --name %s", name), 0);
    destroy_segment(name);
}

static void an_item_too_large_is_refused_with_both_sizes(void) {
    char name[65];
    create_segment(name, "1M");
    expect_status(shell("head -c 1000000 /dev/zero | $L set k - --name %s", name), 2);
    expect_text("at least");
    expect_text("the largest for a key of 1 bytes is");
    expect_status(shell("head -c 1000000 /dev/zero | $L set k - --json --name %s", name), 2);
    expect_error("TOO_LARGE");
    expect_status(larder("get k --name %s", name), 1);
    expect_status(shell("key=$(head -c 70000 /dev/zero | tr '\\0' k); $L set \"$key\" v --name %s", name), 2);
    expect_text("70000 bytes, but must have 1 to 65536");
    destroy_segment(name);
}

/* ---- attaching ----------------------------------------------------------------------------------------------------
 */

static const char *const attaching[] = {"stat",  "get k",   "set k v", "del k",  "flush",  "ls",
                                        "procs", "stripes", "check",   "digest", "destroy"};
#define ATTACHING (sizeof attaching / sizeof attaching[0])

static void an_absent_segment_is_exit_3(void) {
    char name[65];
    fixture_name(name);
    for (size_t i = 0; i < ATTACHING; i++) {
        expect_status(larder("%s --name %s", attaching[i], name), 3);
        expect_text(name);
        expect_status(larder("%s --json --name %s", attaching[i], name), 3);
        expect_error("NO_SEGMENT");
    }
    expect_status(larder("check --image /no/such/file"), 3);
}

static void a_foreign_file_is_refused_and_left_alone(void) {
    char name[65], path[128], garbage[65536];
    fixture_name(name);
    snprintf(path, sizeof path, "/dev/shm/larder.%s", name);
    memset(garbage, 'g', sizeof garbage);
    write_file(path, garbage, sizeof garbage);
    CU_ASSERT_EQUAL(chmod(path, 0600), 0);
    for (size_t i = 0; i < ATTACHING; i++) {
        expect_status(larder("%s --json --name %s", attaching[i], name), 3);
        expect_error("FOREIGN");
    }
    expect_status(larder("destroy --force --json --name %s", name), 3);
    expect_status(larder("check --image %s", path), 3);
    struct stat after;
    CU_ASSERT_EQUAL(stat(path, &after), 0);
    CU_ASSERT_EQUAL(after.st_size, (off_t)sizeof garbage);
    write_file(path, "", 0);
    expect_status(larder("stat --name %s", name), 3);
    unlink(path);
}

struct visit {
    uid_t user;
    const char *words;
};

static int run_as_user(void *context) {
    const struct visit *visit = context;
    CHILD_EXPECT(setgroups(0, NULL) == 0 && setgid(visit->user) == 0 && setuid(visit->user) == 0);
    return larder("%s", visit->words);
}

static int larder_as(uid_t user, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int larder_as(uid_t user, const char *format, ...) {
    char words[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    return fixture_child(run_as_user, &(struct visit){.user = user, .words = words});
}

static bool can_run_as_others(const char *test) {
    if (geteuid() != 0)
        fixture_skip(test, "needs root, to become another user");
    else if (larder_as(65534, "version") != 0)
        fixture_skip(test, "the program cannot be run by user 65534 where it lies");
    else
        return true;
    return false;
}

static void a_user_without_permission_is_refused_with_exit_4(void) {
    char name[65];
    if (!can_run_as_others("a_user_without_permission_is_refused_with_exit_4"))
        return;
    create_segment(name, "1M");
    for (size_t i = 0; i < ATTACHING; i++) {
        expect_status(larder_as(65534, "%s --name %s", attaching[i], name), 4);
        expect_status(larder_as(65534, "%s --json --name %s", attaching[i], name), 4);
        expect_error("PERMISSION");
    }
    expect_status(larder_as(65534, "destroy --force --name %s", name), 4);
    expect_status(larder("stat --name %s", name), 0);
    destroy_segment(name);
}

static void a_strangers_segment_is_trusted_only_when_he_is_named(void) {
    char name[65];
    if (!can_run_as_others("a_strangers_segment_is_trusted_only_when_he_is_named"))
        return;
    fixture_name(name);
    expect_status(larder_as(65534, "create --size 1M --mode 0644 --name %s", name), 0);
    expect_status(larder_as(65533, "stat --json --name %s", name), 4);
    expect_error("PERMISSION");
    expect_status(larder_as(65533, "stat --owner 65534 --name %s", name), 0);
    expect_status(larder_as(65533, "set k v --owner 65534 --name %s", name), 4);
    expect_status(larder_as(65533, "destroy --force --owner 65534 --name %s", name), 4);
    expect_status(larder_as(65534, "destroy --name %s", name), 0);
}

static void another_layout_version_is_exit_5_and_names_both(void) {
    char name[65];
    uint32_t layout = 77;
    create_segment(name, "1M");
    swap_bytes(name, offsetof(struct sm_constants, layout), &layout, sizeof layout);
    for (size_t i = 0; i < ATTACHING; i++) {
        expect_status(larder("%s --name %s", attaching[i], name), 5);
        expect_text("77");
        expect_status(larder("%s --json --name %s", attaching[i], name), 5);
        expect_error("VERSION");
    }
    swap_bytes(name, offsetof(struct sm_constants, layout), &layout, sizeof layout);
    expect_status(larder("stat --name %s", name), 0);
    destroy_segment(name);
}

static void a_damaged_header_is_exit_6(void) {
    char name[65];
    uint64_t seed = 42;
    create_segment(name, "1M");
    swap_bytes(name, offsetof(struct sm_constants, hash_seed), &seed, sizeof seed);
    for (size_t i = 0; i < ATTACHING; i++) {
        expect_status(larder("%s --json --name %s", attaching[i], name), 6);
        expect_error("CORRUPT");
    }
    swap_bytes(name, offsetof(struct sm_constants, hash_seed), &seed, sizeof seed);
    destroy_segment(name);
}

static void check_finds_damage_in_a_segment_and_in_an_image(void) {
    char name[65], image[256];
    struct lr_geometry plan;
    create_segment(name, "1M");
    CU_ASSERT_EQUAL_FATAL(lr_geometry_plan(1 << 20, 0, LR_POLICY_clock, &plan, NULL), 0);
    for (int i = 0; i < 20; i++)
        expect_status(larder("set key%d value --name %s", i, name), 0);
    snprintf(image, sizeof image, "%s/image", fixture_folder());
    expect_status(shell("cp /dev/shm/larder.%s %s", name, image), 0);
    expect_status(larder("check --image %s", image), 0);

    uint64_t items = 12345;
    uint64_t off = plan.control_off + offsetof(struct sm_stripe, items);
    swap_bytes(name, off, &items, sizeof items);
    CU_ASSERT_EQUAL(items, 20);
    expect_status(larder("check --name %s", name), 6);
    expect_text("12345");
    expect_status(larder("check --json --name %s", name), 6);
    json_t *object = parse_output();
    CU_ASSERT(json_is_false(json_object_get(object, "healthy")));
    CU_ASSERT(integer_of(object, "findings") > 0);
    CU_ASSERT(json_array_size(json_object_get(object, "first")) > 0);
    json_decref(object);
    expect_status(shell("cp /dev/shm/larder.%s %s", name, image), 0);
    expect_status(larder("check --image %s", image), 6);
    swap_bytes(name, off, &items, sizeof items);
    destroy_segment(name);
}

static void a_full_tmpfs_is_exit_3_and_nothing_is_left(void) {
    const char *folder = fixture_folder();
    if (geteuid() != 0 || shell("unshare -m true") != 0) {
        fixture_skip("a_full_tmpfs_is_exit_3_and_nothing_is_left", "needs root and unshare(1), for a small tmpfs");
        return;
    }
    expect_status(shell("unshare -m sh -c 'mkdir -p %s/small && mount -t tmpfs -o size=4m none %s/small && "
                        "$L create --path %s/small/segment --size 64M --json; echo \"status $?\"; ls -A %s/small | wc "
                        "-l; umount %s/small'",
                        folder, folder, folder, folder, folder),
                  0);
    expect_text("NO_SPACE");
    expect_text("status 3");
    expect_text("\n0\n");
}

/* ---- people at work -----------------------------------------------------------------------------------------------
 */

static uint64_t sum_file(const char *format, const char *name) {
    char path[256];
    uint64_t sum = 1469598103934665603u;
    snprintf(path, sizeof path, format, name);
    FILE *file = fopen(path, "rb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    for (int byte = getc(file); byte != EOF; byte = getc(file))
        sum = (sum ^ (uint64_t)byte) * 1099511628211u;
    fclose(file);
    return sum;
}

static void put_text(struct lr_cache *cache, const char *key, const char *value) {
    struct lr_put put = {.key = key, .key_len = strlen(key), .value = value, .value_len = strlen(value)};
    CU_ASSERT_EQUAL(lr_put(cache, &put), 0);
}

static void reading_verbs_do_not_change_one_byte(void) {
    static const char *const reading[] = {
        "stat",
        "stat --verbose",
        "get k7",
        "get k7 --meta",
        "get absent",
        "ls",
        "ls --long --json",
        "procs",
        "procs --json",
        "stripes",
        "check",
        "digest",
        "digest --wait-drained 150ms",
    };
    struct fixture fixture = {0};
    fixture_create(&fixture, 4 << 20);
    for (int i = 0; i < 200; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        put_text(fixture.one, key, "some value");
    }
    struct lr_pin pin;
    CU_ASSERT_EQUAL_FATAL(lr_pin(fixture.one, "k3", 2, &pin), 0);
    uint64_t before = sum_file("/dev/shm/larder.%s", fixture.name);
    uint64_t live_before = sum_file("/dev/shm/larder.%s.live", fixture.name);
    for (size_t i = 0; i < sizeof reading / sizeof reading[0]; i++) {
        larder("%s --name %s", reading[i], fixture.name);
        if (sum_file("/dev/shm/larder.%s", fixture.name) != before)
            printf("\n    `larder %s` has changed the segment\n", reading[i]);
        CU_ASSERT_EQUAL(sum_file("/dev/shm/larder.%s", fixture.name), before);
        CU_ASSERT_EQUAL(sum_file("/dev/shm/larder.%s.live", fixture.name), live_before);
    }
    lr_unpin(fixture.one, &pin);
    fixture_destroy(&fixture);
}

static void stat_says_how_s3_chooses(void) {
    struct fixture fixture = {0};
    fixture_create(&fixture, 4 << 20);
    larder("stat --name %s", fixture.name);
    expect_text("by rules; changes so far: 0");
    atomic_store(&fixture.one->header->policy_turn, 3);
    larder("stat --name %s", fixture.name);
    expect_text("by age; changes so far: 3");
    fixture_destroy(&fixture);
}

static int attach_and_die(void *context) {
    struct lr_cache *cache = NULL;
    CHILD_EXPECT(lr_cache_attach(context, &cache, NULL) == 0);
    kill(getpid(), SIGKILL);
    return 0;
}

static const json_t *find_process(const json_t *object, json_int_t pid) {
    const json_t *rows = json_object_get(object, "processes");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        if (integer_of(row, "pid") == pid)
            return row;
    }
    return NULL;
}

static void procs_shows_the_living_their_pins_and_the_dead(void) {
    struct fixture fixture = {0};
    fixture_create(&fixture, 4 << 20);
    put_text(fixture.one, "pinned", "a value of some length");
    struct lr_pin pin;
    CU_ASSERT_EQUAL_FATAL(lr_pin(fixture.one, "pinned", 6, &pin), 0);
    struct lr_options options = fixture.options;
    options.who = "short-lived";
    pid_t child = fixture_start(attach_and_die, &options);
    CU_ASSERT_EQUAL(fixture_wait(child), -SIGKILL);

    expect_status(larder("procs --json --name %s", fixture.name), 0);
    json_t *object = parse_output();
    CU_ASSERT_EQUAL(integer_of(object, "alive"), 2);
    CU_ASSERT_EQUAL(integer_of(object, "dead"), 1);
    const json_t *dead = find_process(object, child), *mine = find_process(object, getpid());
    CU_ASSERT_PTR_NOT_NULL_FATAL(dead);
    CU_ASSERT_PTR_NOT_NULL_FATAL(mine);
    CU_ASSERT(json_is_false(json_object_get(dead, "alive")));
    CU_ASSERT_STRING_EQUAL(text_of(dead, "name"), "short-lived");
    CU_ASSERT(json_is_true(json_object_get(mine, "alive")));
    CU_ASSERT_EQUAL(integer_of(mine, "pins"), 1);
    CU_ASSERT(integer_of(mine, "pinned_bytes") > 0);
    expect_fields(json_object_get(mine, "counters"), "hits misses puts deletes");
    json_decref(object);
    expect_status(larder("procs --name %s", fixture.name), 0);
    expect_text("DEAD");
    expect_text("short-lived");
    lr_unpin(fixture.one, &pin);
    fixture_destroy(&fixture);
}

static void destroy_spares_a_segment_in_use_unless_forced(void) {
    char shown[64], buf[16];
    struct fixture fixture = {0};
    fixture_create(&fixture, 4 << 20);
    put_text(fixture.one, "k", "v");
    expect_status(larder("destroy --name %s", fixture.name), 7);
    snprintf(shown, sizeof shown, "pid %ld", (long)getpid());
    expect_text(shown);
    expect_status(larder("destroy --json --name %s", fixture.name), 7);
    expect_error("BUSY");
    CU_ASSERT_EQUAL(lr_get(fixture.one, "k", 1, buf, sizeof buf, NULL, 0), 0);

    expect_status(larder("destroy --force --name %s", fixture.name), 0);
    CU_ASSERT_EQUAL(lr_get(fixture.one, "k", 1, buf, sizeof buf, NULL, 0), LARDER_ERETIRED);
    expect_status(larder("stat --name %s", fixture.name), 3);
    lr_cache_detach(fixture.two);
    lr_cache_detach(fixture.one);
    expect_status(larder("create --size 1M --name %s", fixture.name), 0);
    destroy_segment(fixture.name);
}

static void a_held_lock_is_shown_and_stops_writers_but_not_readers(void) {
    struct fixture fixture = {0};
    struct lr_options options = lr_options_default();
    options.size = 1 << 20;
    options.stripes = 1;
    fixture_create_with(&fixture, &options);
    put_text(fixture.one, "k", "v");
    struct sm_stripe *stripe = lr_stripe_at(fixture.one, 0);
    atomic_store(&stripe->lock, lr_own_word(fixture.one));

    expect_status(larder("stripes --json --name %s", fixture.name), 0);
    json_t *object = parse_output();
    const json_t *holder = json_object_get(json_array_get(json_object_get(object, "stripes"), 0), "holder");
    CU_ASSERT_EQUAL(integer_of(object, "locked"), 1);
    CU_ASSERT_EQUAL(integer_of(holder, "slot"), (json_int_t)fixture.one->slot);
    CU_ASSERT_EQUAL(integer_of(holder, "pid"), (json_int_t)getpid());
    CU_ASSERT(json_is_true(json_object_get(holder, "alive")));
    json_decref(object);
    expect_status(larder("stripes --locked --name %s", fixture.name), 0);
    expect_text("slot ");

    expect_status(larder("set k w --json --name %s", fixture.name), 7);
    expect_error("BUSY");
    expect_status(larder("get k --name %s", fixture.name), 0);
    CU_ASSERT_STRING_EQUAL(out, "v");
    expect_status(larder("ls --name %s", fixture.name), 0);
    CU_ASSERT_STRING_EQUAL(out, "k\n");
    expect_status(larder("stripes --name %s", fixture.name), 0);
    expect_text("waiters gave up");

    atomic_store(&stripe->lock, 0);
    expect_status(larder("set k w --name %s", fixture.name), 0);
    fixture_destroy(&fixture);
}

static void a_digest_of_an_undrained_segment_times_out_and_says_why(void) {
    char name[65], first[17];
    create_segment(name, "1M");
    expect_status(larder("set a 1 --name %s", name), 0);
    expect_status(larder("digest --json --name %s", name), 0);
    json_t *object = parse_output();
    CU_ASSERT_EQUAL(integer_of(object, "items"), 1);
    CU_ASSERT_EQUAL(integer_of(object, "bytes"), 2);
    snprintf(first, sizeof first, "%s", text_of(object, "sum"));
    json_decref(object);
    expect_status(larder("set b 1 --name %s", name), 0);
    expect_status(larder("digest --json --name %s", name), 0);
    CU_ASSERT_PTR_NULL(strstr(out, first));
    expect_status(larder("del b --name %s", name), 0);
    expect_status(larder("digest --json --name %s", name), 0);
    expect_text(first);
    expect_status(larder("digest --wait-drained 200ms --name %s", name), 7);
    expect_text("no larderd");
    expect_status(larder("digest --wait-drained 200ms --json --name %s", name), 7);
    expect_error("TIMED_OUT");
    destroy_segment(name);
}

static void output_that_cannot_be_written_is_an_error(void) {
    char name[65];
    create_segment(name, "1M");
    expect_status(larder("set k v --name %s", name), 0);
    CU_ASSERT(shell("$L get k --name %s > /dev/full", name) != 0);
    CU_ASSERT(shell("$L stat --json --name %s > /dev/full", name) != 0);
    expect_status(larder("get k --output /no/such/folder/file --name %s", name), 2);
    destroy_segment(name);
}

static int map_output(void) {
    void *mapped = mmap(NULL, OUT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    out = mapped == MAP_FAILED ? NULL : mapped;
    return out == NULL;
}

static int unmap_output(void) {
    return munmap(out, OUT_BYTES);
}

void larder_suite_87_inspector(void) {
    CU_pSuite suite = CU_add_suite("87_inspector", map_output, unmap_output);
#define ADD(test) CU_add_test(suite, #test, test)
    ADD(help_lists_every_verb_and_every_exit_status);
    ADD(help_of_every_verb_is_a_manual_page);
    ADD(every_verb_of_the_inspector_speaks_json);
    ADD(replay_and_bench_print_the_promised_fields);
    ADD(create_says_how_far_it_is_when_asked);
    ADD(unknown_and_surplus_words_are_named_with_exit_2);
    ADD(names_that_leave_their_folder_are_refused);
    ADD(the_environment_names_the_segment);
    ADD(a_value_comes_back_byte_by_byte);
    ADD(any_key_can_be_set_listed_and_read);
    ADD(ls_obeys_prefix_and_limit);
    ADD(no_is_exit_1);
    ADD(items_expire_and_flushed_items_are_gone);
    ADD(an_item_too_large_is_refused_with_both_sizes);
    ADD(an_absent_segment_is_exit_3);
    ADD(a_foreign_file_is_refused_and_left_alone);
    ADD(a_user_without_permission_is_refused_with_exit_4);
    ADD(a_strangers_segment_is_trusted_only_when_he_is_named);
    ADD(another_layout_version_is_exit_5_and_names_both);
    ADD(a_damaged_header_is_exit_6);
    ADD(check_finds_damage_in_a_segment_and_in_an_image);
    ADD(a_full_tmpfs_is_exit_3_and_nothing_is_left);
    ADD(reading_verbs_do_not_change_one_byte);
    ADD(stat_says_how_s3_chooses);
    ADD(procs_shows_the_living_their_pins_and_the_dead);
    ADD(destroy_spares_a_segment_in_use_unless_forced);
    ADD(a_held_lock_is_shown_and_stops_writers_but_not_readers);
    ADD(a_digest_of_an_undrained_segment_times_out_and_says_why);
    ADD(output_that_cannot_be_written_is_an_error);
#undef ADD
}
