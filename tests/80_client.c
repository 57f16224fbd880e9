/* SPDX-License-Identifier: MIT */
/*
 * The public calls, by their contracts in larder.h: open and close, gets, puts, conditions, numbers, time. The engine's
 * clock is driven where time matters, so that nothing here waits for it but one test.
 */
#include "client.h"

#include <grp.h>
#include <sys/stat.h>

/* ---- open and close ------------------------------------------------------------------------------------------- */

static void open_creates_then_attaches(void) {
    char name[65];
    larder *first, *second;
    larder_options options = options_of(4 << 20, LARDER_POLICY_CLOCK);
    fixture_name(name);
    CU_ASSERT_EQUAL_FATAL(larder_open(name, &options, &first, NULL), 0);
    CU_ASSERT_EQUAL(put_text(first, "k", "v"), 0);
    CU_ASSERT_EQUAL_FATAL(larder_open(name, NULL, &second, NULL), 0);
    CU_ASSERT(holds(second, "k", "v"));
    larder_close(second);
    larder_close(first);
    CU_ASSERT_EQUAL_FATAL(larder_attach(name, NULL, &first, NULL), 0);
    CU_ASSERT(holds(first, "k", "v"));
    larder_close(first);
    CU_ASSERT_EQUAL(larder_destroy(name, NULL, NULL), 0);
    larder_close(NULL);
}

static void refusals_say_why_and_leave_no_handle(void) {
    struct client client;
    char why[LARDER_WHY_BYTES] = "", missing[65];
    larder *out = (larder *)&client;
    begin(&client);
    CU_ASSERT_EQUAL(larder_create(client.name, NULL, &out, why), LARDER_EEXISTS);
    CU_ASSERT_PTR_NULL(out);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, client.name));
    fixture_name(missing);
    out = (larder *)&client;
    why[0] = '\0';
    CU_ASSERT_EQUAL(larder_attach(missing, NULL, &out, why), LARDER_ENO_SEGMENT);
    CU_ASSERT_PTR_NULL(out);
    CU_ASSERT_PTR_NOT_NULL(strstr(why, missing));
    CU_ASSERT_EQUAL(larder_attach(missing, NULL, &out, NULL), LARDER_ENO_SEGMENT);
    why[0] = '\0';
    CU_ASSERT_EQUAL(larder_destroy(missing, NULL, why), LARDER_ENO_SEGMENT);
    CU_ASSERT_NOT_EQUAL(why[0], '\0');
    end(&client);
}

static void names_out_of_range_are_refused(void) {
    char long_name[66];
    memset(long_name, 'n', 65);
    long_name[65] = '\0';
    const char *names[] = {"", ".", "..", "a/b", "/a", "a b", "\xc3\xa4", long_name, NULL};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char why[LARDER_WHY_BYTES] = "";
        larder *out;
        CU_ASSERT_EQUAL(larder_open(names[i], NULL, &out, why), LARDER_EINVALID);
        CU_ASSERT_PTR_NULL(out);
        CU_ASSERT_NOT_EQUAL(why[0], '\0');
        CU_ASSERT_EQUAL(larder_destroy(names[i], NULL, why), LARDER_EINVALID);
    }
}

static void options_out_of_range_are_refused(void) {
    char name[65], why[LARDER_WHY_BYTES];
    larder *out;
    fixture_name(name);
    for (unsigned i = 0; i < 5; i++) {
        larder_options options = {0};
        why[0] = '\0';
        if (i == 0)
            options.wait_ms = 60001;
        else if (i == 1)
            options.mode = 0666; /* others may not write */
        else if (i == 2)
            options.policy = (larder_policy)77;
        else if (i == 3)
            options.size = UINT64_MAX;
        else
            options.path = "/dev/shm/larder.unused"; /* and a name */
        int error = larder_create(name, &options, &out, why);
        CU_ASSERT(error == LARDER_EINVALID || (i == 3 && error == LARDER_ENO_SPACE));
        CU_ASSERT_PTR_NULL(out);
        CU_ASSERT_NOT_EQUAL(why[0], '\0');
    }
    CU_ASSERT_EQUAL(larder_attach(name, NULL, &out, NULL), LARDER_ENO_SEGMENT);
}

static void path_stands_for_the_name(void) {
    char name[65], path[128];
    larder *out;
    larder_options options = options_of(4 << 20, LARDER_POLICY_CLOCK);
    fixture_name(name);
    snprintf(path, sizeof path, "/dev/shm/larder.%s", name);
    options.path = path;
    CU_ASSERT_EQUAL_FATAL(larder_create(NULL, &options, &out, NULL), 0);
    CU_ASSERT_EQUAL(put_text(out, "k", "v"), 0);
    larder_close(out);
    CU_ASSERT_EQUAL_FATAL(larder_attach(NULL, &options, &out, NULL), 0);
    CU_ASSERT(holds(out, "k", "v"));
    larder_close(out);
    CU_ASSERT_EQUAL(larder_destroy(NULL, &options, NULL), 0);
    CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
}

static void mode_is_as_asked_whatever_the_umask(void) {
    char name[65], path[128];
    larder *out;
    struct stat stat_of;
    larder_options options = options_of(4 << 20, LARDER_POLICY_CLOCK);
    mode_t modes[][2] = {{0, 0600}, {0660, 0660}, {0640, 0640}};
    for (unsigned i = 0; i < 3; i++) {
        fixture_name(name);
        snprintf(path, sizeof path, "/dev/shm/larder.%s", name);
        options.mode = modes[i][0];
        mode_t before = umask(022);
        CU_ASSERT_EQUAL_FATAL(larder_create(name, &options, &out, NULL), 0);
        umask(before);
        CU_ASSERT_EQUAL(stat(path, &stat_of), 0);
        CU_ASSERT_EQUAL(stat_of.st_mode & 0777, modes[i][1]);
        larder_close(out);
        CU_ASSERT_EQUAL(larder_destroy(name, NULL, NULL), 0);
    }
}

enum { STRANGER = 54321, GROUP = 54322, OTHER = 54323 };

/* A user of the group, but neither root nor the owner, must say that he trusts the owner. */
static int attach_as_another_user(void *context) {
    const char *name = context;
    char why[LARDER_WHY_BYTES] = "";
    larder *out;
    larder_options options = {0};
    CHILD_EXPECT(setgroups(0, NULL) == 0 && setgid(GROUP) == 0 && setuid(OTHER) == 0);
    CHILD_EXPECT(larder_attach(name, NULL, &out, why) == LARDER_EPERMISSION);
    CHILD_EXPECT(strstr(why, "54321") != NULL);
    options.owner = STRANGER;
    CHILD_EXPECT(larder_attach(name, &options, &out, why) == 0);
    CHILD_EXPECT(put_text(out, "k", "v") == 0);
    larder_close(out);
    return 0;
}

static void group_owner_and_name_are_as_asked(void) {
    if (geteuid() != 0) {
        fixture_skip("group_owner_and_name_are_as_asked", "only root may give files away");
        return;
    }
    char name[65], path[128];
    larder *cache;
    struct stat stat_of;
    larder_options options = options_of(4 << 20, LARDER_POLICY_CLOCK);
    fixture_name(name);
    snprintf(path, sizeof path, "/dev/shm/larder.%s", name);
    options.mode = 0660;
    options.group = GROUP;
    options.who = "the creator";
    CU_ASSERT_EQUAL_FATAL(larder_create(name, &options, &cache, NULL), 0);
    CU_ASSERT(stat(path, &stat_of) == 0 && stat_of.st_gid == GROUP && (stat_of.st_mode & 0777) == 0660);
    struct lr_process process = {0};
    for (uint32_t slot = 0; slot < 1024 && !process.self; slot++)
        lr_process((struct lr_cache *)cache, slot, &process);
    CU_ASSERT_STRING_EQUAL(process.name, "the creator");
    CU_ASSERT_EQUAL(chown(path, STRANGER, (gid_t)-1), 0);
    strcat(path, ".live");
    CU_ASSERT_EQUAL(chown(path, STRANGER, (gid_t)-1), 0);
    CU_ASSERT_EQUAL(fixture_child(attach_as_another_user, name), 0);
    CU_ASSERT(holds(cache, "k", "v"));
    larder_close(cache);
    CU_ASSERT_EQUAL(larder_destroy(name, NULL, NULL), 0);
}

static void destroy_retires_attached_handles(void) {
    struct client client;
    char buf[8];
    int64_t number;
    larder_pin pin;
    begin(&client);
    CU_ASSERT_EQUAL(put_text(client.one, "k", "v"), 0);
    CU_ASSERT_EQUAL(larder_destroy(client.name, NULL, NULL), 0);
    CU_ASSERT_EQUAL(larder_get(client.two, "k", 1, buf, sizeof buf, NULL, 0), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(larder_get_pinned(client.two, "k", 1, &pin), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(larder_exists(client.two, "k", 1), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(put_text(client.two, "k", "v"), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(larder_delete(client.two, "k", 1), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(larder_touch(client.two, "k", 1, 1), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(larder_increment(client.two, "k", 1, 1, 1, 0, &number), LARDER_ERETIRED);
    CU_ASSERT_EQUAL(larder_flush(client.two), LARDER_ERETIRED);
    larder_read row = {"k", 1, buf, sizeof buf, {0, 0, 0, 0}, 0};
    CU_ASSERT_EQUAL(larder_get_many(client.two, &row, 1, 0), 0);
    CU_ASSERT_EQUAL(row.result, LARDER_ERETIRED);
    /* The name is free for a new segment, of which the old handles know nothing. */
    larder *anew;
    larder_options options = options_of(4 << 20, LARDER_POLICY_CLOCK);
    CU_ASSERT_EQUAL_FATAL(larder_open(client.name, &options, &anew, NULL), 0);
    CU_ASSERT_EQUAL(larder_exists(anew, "k", 1), 0);
    larder_close(anew);
    CU_ASSERT_EQUAL(larder_destroy(client.name, NULL, NULL), 0);
    larder_close(client.one);
    larder_close(client.two);
}

static void read_only_handle_reads_and_changes_nothing(void) {
    struct client client;
    larder *reader;
    larder_options options = {0};
    larder_pin pin;
    int64_t number;
    uint64_t version = 1;
    begin(&client);
    CU_ASSERT_EQUAL(put_text(client.one, "k", "v"), 0);
    options.read_only = true;
    CU_ASSERT_EQUAL_FATAL(larder_attach(client.name, &options, &reader, NULL), 0);
    CU_ASSERT(holds(reader, "k", "v"));
    CU_ASSERT_EQUAL(larder_exists(reader, "k", 1), 1);
    CU_ASSERT_EQUAL(larder_exists(reader, "no", 2), 0);
    CU_ASSERT_EQUAL(larder_get_pinned(reader, "k", 1, &pin), LARDER_EREAD_ONLY);
    CU_ASSERT_EQUAL(put_text(reader, "k", "w"), LARDER_EREAD_ONLY);
    CU_ASSERT_EQUAL(larder_add(reader, "j", 1, "w", 1, 0, 0), LARDER_EREAD_ONLY);
    CU_ASSERT_EQUAL(larder_replace(reader, "k", 1, "w", 1, 0, 0), LARDER_EREAD_ONLY);
    CU_ASSERT_EQUAL(larder_cas(reader, "k", 1, "w", 1, 0, 0, &version), LARDER_EREAD_ONLY);
    CU_ASSERT_EQUAL(larder_delete(reader, "k", 1), LARDER_EREAD_ONLY);
    CU_ASSERT_EQUAL(larder_touch(reader, "k", 1, 5), LARDER_EREAD_ONLY);
    CU_ASSERT_EQUAL(larder_increment(reader, "n", 1, 1, 1, 0, &number), LARDER_EREAD_ONLY);
    CU_ASSERT_EQUAL(larder_flush(reader), LARDER_EREAD_ONLY);
    CU_ASSERT_EQUAL(counter_of(reader, "hits").process, 1);
    CU_ASSERT(holds(client.two, "k", "v"));
    larder_close(reader);
    end(&client);
}

/* ---- get and put ---------------------------------------------------------------------------------------------- */

static void put_is_seen_through_another_handle(void) {
    struct client client;
    begin(&client);
    CU_ASSERT_EQUAL(put_text(client.one, "k", "first"), 0);
    CU_ASSERT(holds(client.two, "k", "first"));
    larder_item old = item_of(client.two, "k");
    CU_ASSERT_EQUAL(put_text(client.two, "k", "the second, longer"), 0);
    CU_ASSERT(holds(client.one, "k", "the second, longer"));
    CU_ASSERT(item_of(client.one, "k").version > old.version);
    CU_ASSERT_EQUAL(item_of(client.one, "k").deadline_ms, UINT64_MAX);
    CU_ASSERT_EQUAL(larder_get(client.one, "j", 1, NULL, 0, NULL, 0), LARDER_ENOT_FOUND);
    end(&client);
}

static void keys_and_values_may_hold_any_byte(void) {
    struct client client;
    unsigned char bytes[256], buf[256];
    larder_item item;
    begin(&client);
    for (unsigned i = 0; i < 256; i++)
        bytes[i] = (unsigned char)i;
    CU_ASSERT_EQUAL(larder_put(client.one, "a\0b", 3, bytes, 256, 0, 0), 0);
    CU_ASSERT_EQUAL(larder_put(client.one, "a\0c", 3, "\0", 1, 0, 0), 0);
    CU_ASSERT_EQUAL(larder_put(client.one, bytes, 256, "key", 3, 0, 0), 0);
    CU_ASSERT_EQUAL(larder_get(client.two, "a\0b", 3, buf, 256, &item, 0), 0);
    CU_ASSERT_EQUAL(item.value_len, 256);
    CU_ASSERT_EQUAL(memcmp(buf, bytes, 256), 0);
    CU_ASSERT_EQUAL(larder_get(client.two, "a\0c", 3, buf, 256, &item, 0), 0);
    CU_ASSERT(item.value_len == 1 && buf[0] == 0);
    CU_ASSERT_EQUAL(larder_get(client.two, bytes, 256, buf, 256, &item, 0), 0);
    CU_ASSERT(item.value_len == 3 && memcmp(buf, "key", 3) == 0);
    CU_ASSERT_EQUAL(larder_exists(client.two, "a", 1), 0);
    CU_ASSERT_EQUAL(larder_exists(client.two, "a\0", 2), 0);
    CU_ASSERT_EQUAL(larder_exists(client.two, bytes, 255), 0);
    end(&client);
}

static void empty_value_is_a_value(void) {
    struct client client;
    larder_item item;
    begin(&client);
    CU_ASSERT_EQUAL(larder_put(client.one, "k", 1, NULL, 0, 0, 7), 0);
    CU_ASSERT_EQUAL(larder_get(client.two, "k", 1, NULL, 0, &item, 0), 0);
    CU_ASSERT(item.value_len == 0 && item.flags == 7);
    CU_ASSERT_EQUAL(larder_exists(client.two, "k", 1), 1);
    larder_pin pin;
    CU_ASSERT_EQUAL_FATAL(larder_get_pinned(client.two, "k", 1, &pin), 0);
    CU_ASSERT_EQUAL(pin.item.value_len, 0);
    larder_release(client.two, &pin);
    CU_ASSERT_EQUAL(larder_put(client.one, "k", 1, NULL, 1, 0, 0), LARDER_EINVALID);
    end(&client);
}

static void keys_have_1_to_65536_bytes(void) {
    struct client client;
    static char key[65537];
    int64_t number;
    uint64_t version = 1;
    larder_pin pin;
    begin(&client);
    memset(key, 'k', sizeof key);
    for (size_t len = 1; len <= 65536; len = len < 60000 ? len * 3 + 1 : len == 65536 ? 65537 : 65536) {
        CU_ASSERT_EQUAL(larder_put(client.one, key, len, &len, sizeof len, 0, 0), 0);
        size_t read = 0;
        CU_ASSERT_EQUAL(larder_get(client.two, key, len, &read, sizeof read, NULL, 0), 0);
        CU_ASSERT_EQUAL(read, len);
    }
    size_t wrong[] = {0, 65537, SIZE_MAX};
    for (unsigned i = 0; i < 3; i++) {
        larder_read row = {key, wrong[i], NULL, 0, {0, 0, 0, 0}, 0};
        CU_ASSERT_EQUAL(larder_put(client.one, key, wrong[i], "v", 1, 0, 0), LARDER_EINVALID);
        CU_ASSERT_EQUAL(larder_add(client.one, key, wrong[i], "v", 1, 0, 0), LARDER_EINVALID);
        CU_ASSERT_EQUAL(larder_replace(client.one, key, wrong[i], "v", 1, 0, 0), LARDER_EINVALID);
        CU_ASSERT_EQUAL(larder_cas(client.one, key, wrong[i], "v", 1, 0, 0, &version), LARDER_EINVALID);
        CU_ASSERT_EQUAL(larder_get(client.one, key, wrong[i], NULL, 0, NULL, 0), LARDER_EINVALID);
        CU_ASSERT_EQUAL(larder_get_pinned(client.one, key, wrong[i], &pin), LARDER_EINVALID);
        CU_ASSERT_EQUAL(larder_exists(client.one, key, wrong[i]), LARDER_EINVALID);
        CU_ASSERT_EQUAL(larder_delete(client.one, key, wrong[i]), LARDER_EINVALID);
        CU_ASSERT_EQUAL(larder_touch(client.one, key, wrong[i], 0), LARDER_EINVALID);
        CU_ASSERT_EQUAL(larder_increment(client.one, key, wrong[i], 1, 1, 0, &number), LARDER_EINVALID);
        CU_ASSERT_EQUAL(larder_get_many(client.one, &row, 1, 0), 0);
        CU_ASSERT_EQUAL(row.result, LARDER_EINVALID);
        CU_ASSERT_EQUAL(version, 1);
    }
    end(&client);
}

static void largest_value_is_stored_and_one_more_byte_is_refused(void) {
    struct client client;
    begin(&client);
    uint64_t most = larder_max_value(client.one, 3);
    CU_ASSERT(most >= (4u << 20) / 4);
    char *value = malloc(most + 1), *buf = malloc(most + 1);
    CU_ASSERT_FATAL(value != NULL && buf != NULL);
    for (uint64_t i = 0; i <= most; i++)
        value[i] = (char)(i * 31 >> 3);
    larder_item item;
    CU_ASSERT_EQUAL(put_text(client.one, "big", "old"), 0);
    CU_ASSERT_EQUAL(larder_put(client.one, "big", 3, value, most + 64, 1000000, 1), LARDER_ETOO_LARGE);
    CU_ASSERT(holds(client.two, "big", "old"));
    CU_ASSERT_EQUAL(larder_put(client.one, "big", 3, value, most, 1000000, 1), 0);
    CU_ASSERT_EQUAL(larder_get(client.two, "big", 3, buf, most, &item, 0), 0);
    CU_ASSERT(item.value_len == most && memcmp(value, buf, most) == 0);
    CU_ASSERT_EQUAL(larder_put(client.one, "big", 3, value, SIZE_MAX, 0, 0), LARDER_ETOO_LARGE);
    CU_ASSERT_EQUAL(larder_max_value(client.one, 65536) + 65536, most + 3);
    free(value);
    free(buf);
    end(&client);
}

static void a_short_buffer_learns_the_length(void) {
    struct client client;
    char buf[8] = "";
    larder_item item;
    begin(&client);
    CU_ASSERT_EQUAL(larder_put(client.one, "k", 1, "12345", 5, 0, 9), 0);
    for (size_t cap = 0; cap < 5; cap++) {
        memset(&item, 0, sizeof item);
        CU_ASSERT_EQUAL(larder_get(client.two, "k", 1, cap == 0 ? NULL : buf, cap, &item, 0), LARDER_ETOO_SMALL);
        CU_ASSERT(item.value_len == 5 && item.flags == 9 && item.version != 0);
    }
    memset(buf, '#', sizeof buf);
    CU_ASSERT_EQUAL(larder_get(client.two, "k", 1, buf, 5, &item, 0), 0);
    CU_ASSERT_EQUAL(memcmp(buf, "12345###", 8), 0); /* nothing behind the value is touched */
    CU_ASSERT_EQUAL(larder_get(client.two, "k", 1, buf, 5, NULL, 0), 0);
    end(&client);
}

static void get_many_answers_each_row_on_its_own(void) {
    struct client client;
    enum { ROWS = 300 };
    static larder_read rows[ROWS];
    static char keys[ROWS][16], bufs[ROWS][16];
    begin(&client);
    for (unsigned i = 0; i < ROWS; i++) {
        snprintf(keys[i], sizeof keys[i], "key-%u", i);
        rows[i] = (larder_read){keys[i], strlen(keys[i]), bufs[i], sizeof bufs[i], {0, 0, 0, 0}, 1};
        if (i % 3 != 0)
            CU_ASSERT_EQUAL(put_text(client.one, keys[i], keys[i]), 0);
    }
    rows[1].cap = 2;
    rows[2].key_len = 0;
    rows[5].key = keys[4]; /* twice in one batch */
    CU_ASSERT_EQUAL(larder_get_many(client.two, rows, ROWS, 0), 200 - 2);
    for (unsigned i = 0; i < ROWS; i++) {
        const char *expected = i == 5 ? keys[4] : keys[i];
        if (i == 1) {
            CU_ASSERT(rows[i].result == LARDER_ETOO_SMALL && rows[i].item.value_len == 5);
        } else if (i == 2) {
            CU_ASSERT_EQUAL(rows[i].result, LARDER_EINVALID);
        } else if (i % 3 == 0) {
            CU_ASSERT_EQUAL(rows[i].result, LARDER_ENOT_FOUND);
        } else {
            CU_ASSERT(rows[i].result == 0 && rows[i].item.value_len == strlen(expected) &&
                      memcmp(bufs[i], expected, strlen(expected)) == 0);
        }
    }
    CU_ASSERT_EQUAL(larder_get_many(client.two, NULL, 0, 0), 0);
    end(&client);
}

/* ---- conditions ----------------------------------------------------------------------------------------------- */

static void add_stores_only_what_is_absent(void) {
    struct client client;
    begin(&client);
    CU_ASSERT_EQUAL(larder_add(client.one, "k", 1, "a", 1, 0, 3), 0);
    CU_ASSERT_EQUAL(larder_add(client.two, "k", 1, "b", 1, 0, 0), LARDER_EEXISTS);
    CU_ASSERT(holds(client.one, "k", "a"));
    CU_ASSERT_EQUAL(item_of(client.one, "k").flags, 3);
    CU_ASSERT_EQUAL(larder_delete(client.one, "k", 1), 0);
    CU_ASSERT_EQUAL(larder_add(client.two, "k", 1, "b", 1, 0, 0), 0);
    CU_ASSERT(holds(client.one, "k", "b"));
    end(&client);
}

static void replace_stores_only_what_is_present(void) {
    struct client client;
    begin(&client);
    CU_ASSERT_EQUAL(larder_replace(client.one, "k", 1, "a", 1, 0, 0), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(larder_exists(client.one, "k", 1), 0);
    CU_ASSERT_EQUAL(put_text(client.one, "k", "a"), 0);
    CU_ASSERT_EQUAL(larder_replace(client.two, "k", 1, "b", 1, 0, 4), 0);
    CU_ASSERT(holds(client.one, "k", "b"));
    CU_ASSERT_EQUAL(item_of(client.one, "k").flags, 4);
    end(&client);
}

static void cas_stores_only_over_the_expected_version(void) {
    struct client client;
    uint64_t version = 42;
    begin(&client);
    CU_ASSERT_EQUAL(larder_cas(client.one, "k", 1, "a", 1, 0, 0, &version), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(version, 42);
    CU_ASSERT_EQUAL(put_text(client.one, "k", "a"), 0);
    version = item_of(client.two, "k").version;
    uint64_t stale = version;
    CU_ASSERT_EQUAL(larder_cas(client.two, "k", 1, "b", 1, 0, 0, &version), 0);
    CU_ASSERT(version > stale);
    CU_ASSERT_EQUAL(version, item_of(client.one, "k").version);
    CU_ASSERT_EQUAL(larder_cas(client.one, "k", 1, "c", 1, 0, 0, &stale), LARDER_ECONFLICT);
    CU_ASSERT(stale != version && holds(client.one, "k", "b"));
    CU_ASSERT_EQUAL(larder_cas(client.one, "k", 1, "c", 1, 0, 0, &version), 0);
    CU_ASSERT(holds(client.two, "k", "c"));
    /* Deleted and stored again is not the same item. */
    CU_ASSERT_EQUAL(larder_delete(client.one, "k", 1), 0);
    CU_ASSERT_EQUAL(put_text(client.one, "k", "c"), 0);
    CU_ASSERT_EQUAL(larder_cas(client.one, "k", 1, "d", 1, 0, 0, &version), LARDER_ECONFLICT);
    end(&client);
}

static void delete_removes_for_everybody(void) {
    struct client client;
    begin(&client);
    CU_ASSERT_EQUAL(larder_delete(client.one, "k", 1), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(put_text(client.one, "k", "a"), 0);
    CU_ASSERT_EQUAL(larder_delete(client.two, "k", 1), 0);
    CU_ASSERT_EQUAL(larder_exists(client.one, "k", 1), 0);
    CU_ASSERT_EQUAL(larder_delete(client.one, "k", 1), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(larder_get(client.one, "k", 1, NULL, 0, NULL, 0), LARDER_ENOT_FOUND);
    end(&client);
}

static void flush_empties_the_segment(void) {
    struct client client;
    char key[16];
    begin(&client);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        CU_ASSERT_EQUAL(put_text(client.one, key, "v"), 0);
    }
    CU_ASSERT_EQUAL(larder_flush(client.two), 0);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        CU_ASSERT_EQUAL(larder_exists(client.one, key, strlen(key)), 0);
        CU_ASSERT_EQUAL(larder_add(client.one, key, strlen(key), "w", 1, 0, 0), 0); /* at once, in the same ms */
        CU_ASSERT(holds(client.two, key, "w"));
    }
    end(&client);
}

/* ---- numbers -------------------------------------------------------------------------------------------------- */

static void increment_adds_to_a_decimal_number(void) {
    struct client client;
    int64_t number = 0;
    begin(&client);
    CU_ASSERT_EQUAL(larder_increment(client.one, "n", 1, 5, 100, 0, &number), 0);
    CU_ASSERT_EQUAL(number, 100); /* absent: the initial number, nothing added */
    CU_ASSERT_EQUAL(larder_increment(client.two, "n", 1, 5, 100, 0, &number), 0);
    CU_ASSERT_EQUAL(number, 105);
    CU_ASSERT_EQUAL(larder_increment(client.two, "n", 1, -205, 0, 0, &number), 0);
    CU_ASSERT_EQUAL(number, -100);
    CU_ASSERT(holds(client.one, "n", "-100"));
    CU_ASSERT_EQUAL(larder_increment(client.two, "n", 1, 0, 0, 0, &number), 0);
    CU_ASSERT_EQUAL(number, -100);
    CU_ASSERT_EQUAL(put_text(client.one, "n", "007"), 0);
    CU_ASSERT_EQUAL(larder_increment(client.two, "n", 1, 1, 0, 0, &number), 0);
    CU_ASSERT_EQUAL(number, 8);
    end(&client);
}

static void increment_never_wraps(void) {
    struct client client;
    int64_t number = 0;
    begin(&client);
    CU_ASSERT_EQUAL(larder_increment(client.one, "n", 1, 1, INT64_MAX - 1, 0, &number), 0);
    CU_ASSERT_EQUAL(larder_increment(client.one, "n", 1, 1, 0, 0, &number), 0);
    CU_ASSERT_EQUAL(number, INT64_MAX);
    CU_ASSERT_EQUAL(larder_increment(client.one, "n", 1, 1, 0, 0, &number), LARDER_EINVALID);
    CU_ASSERT_EQUAL(number, INT64_MAX);
    CU_ASSERT(holds(client.two, "n", "9223372036854775807"));
    CU_ASSERT_EQUAL(larder_increment(client.one, "m", 1, 0, INT64_MIN, 0, &number), 0);
    CU_ASSERT(holds(client.two, "m", "-9223372036854775808"));
    CU_ASSERT_EQUAL(larder_increment(client.one, "m", 1, -1, 0, 0, &number), LARDER_EINVALID);
    CU_ASSERT_EQUAL(larder_increment(client.one, "m", 1, INT64_MAX, 0, 0, &number), 0);
    CU_ASSERT_EQUAL(number, -1);
    end(&client);
}

static void increment_refuses_what_is_no_number(void) {
    struct client client;
    int64_t number = 77;
    static const char *const values[] = {"",
                                         " 1",
                                         "1 ",
                                         "+1",
                                         "1.0",
                                         "0x1",
                                         "a",
                                         "--1",
                                         "-",
                                         "1\n",
                                         "1-",
                                         "9223372036854775808",
                                         "-9223372036854775809"};
    begin(&client);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        CU_ASSERT_EQUAL(put_text(client.one, "n", values[i]), 0);
        CU_ASSERT_EQUAL(larder_increment(client.two, "n", 1, 1, 0, 0, &number), LARDER_ENOT_NUMBER);
        CU_ASSERT(holds(client.one, "n", values[i]));
    }
    CU_ASSERT_EQUAL(larder_put(client.one, "n", 1, "1\0", 2, 0, 0), 0);
    CU_ASSERT_EQUAL(larder_increment(client.two, "n", 1, 1, 0, 0, &number), LARDER_ENOT_NUMBER);
    CU_ASSERT_EQUAL(number, 77);
    end(&client);
}

static void increment_keeps_flags_and_deadline(void) {
    struct client client;
    int64_t number;
    begin(&client);
    drive_clock(&client, 1000000);
    CU_ASSERT_EQUAL(larder_put(client.one, "n", 1, "1", 1, 5000, 11), 0);
    drive_clock(&client, 1001000);
    CU_ASSERT_EQUAL(larder_increment(client.two, "n", 1, 1, 0, 99999, &number), 0);
    larder_item item = item_of(client.one, "n");
    CU_ASSERT(item.flags == 11 && item.deadline_ms == 1005000);
    drive_clock(&client, 1005001);
    CU_ASSERT_EQUAL(larder_increment(client.two, "n", 1, 1, 50, 2000, &number), 0);
    CU_ASSERT_EQUAL(number, 50); /* had expired: begins anew, with the deadline that was given */
    item = item_of(client.one, "n");
    CU_ASSERT(item.flags == 0 && item.deadline_ms == 1007001);
    end(&client);
}

/* ---- time ----------------------------------------------------------------------------------------------------- */

static void item_is_gone_after_its_deadline(void) {
    struct client client;
    larder_pin pin;
    uint64_t version;
    begin(&client);
    drive_clock(&client, 1000000);
    CU_ASSERT_EQUAL(larder_now_ms(client.one), 1000000);
    CU_ASSERT_EQUAL(larder_put(client.one, "k", 1, "v", 1, 100, 0), 0);
    CU_ASSERT_EQUAL(put_text(client.one, "forever", "v"), 0);
    CU_ASSERT_EQUAL(larder_put(client.one, "long", 4, "v", 1, UINT64_MAX, 0), 0);
    CU_ASSERT_EQUAL(item_of(client.two, "k").deadline_ms, 1000100);
    version = item_of(client.two, "k").version;
    drive_clock(&client, 1000099);
    CU_ASSERT(holds(client.two, "k", "v"));
    drive_clock(&client, 1000101);
    CU_ASSERT_EQUAL(larder_get(client.two, "k", 1, NULL, 0, NULL, 0), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(larder_get_pinned(client.two, "k", 1, &pin), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(larder_exists(client.two, "k", 1), 0);
    CU_ASSERT_EQUAL(larder_touch(client.two, "k", 1, 1000), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(larder_replace(client.two, "k", 1, "w", 1, 0, 0), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(larder_cas(client.two, "k", 1, "w", 1, 0, 0, &version), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(larder_delete(client.two, "k", 1), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(larder_add(client.two, "k", 1, "new", 3, 0, 0), 0);
    CU_ASSERT(holds(client.one, "k", "new"));
    drive_clock(&client, UINT64_C(1) << 50);
    CU_ASSERT(holds(client.one, "forever", "v"));
    CU_ASSERT(holds(client.one, "long", "v"));
    end(&client);
}

static void touch_moves_the_deadline(void) {
    struct client client;
    begin(&client);
    drive_clock(&client, 1000000);
    CU_ASSERT_EQUAL(larder_touch(client.one, "k", 1, 50), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(larder_put(client.one, "k", 1, "v", 1, 100, 6), 0);
    larder_item before = item_of(client.two, "k");
    CU_ASSERT_EQUAL(larder_touch(client.two, "k", 1, 5000), 0); /* later: the same version */
    larder_item after = item_of(client.one, "k");
    CU_ASSERT(after.version == before.version && after.deadline_ms == 1005000 && after.flags == 6);
    CU_ASSERT_EQUAL(larder_touch(client.two, "k", 1, 200), 0); /* earlier: a new version */
    after = item_of(client.one, "k");
    CU_ASSERT(after.version > before.version && after.deadline_ms == 1000200 && after.flags == 6);
    CU_ASSERT_EQUAL(larder_touch(client.two, "k", 1, 0), 0);
    CU_ASSERT_EQUAL(item_of(client.one, "k").deadline_ms, UINT64_MAX);
    CU_ASSERT_EQUAL(larder_touch(client.one, "k", 1, 10), 0);
    CU_ASSERT(holds(client.two, "k", "v"));
    drive_clock(&client, 1000011);
    CU_ASSERT_EQUAL(larder_exists(client.two, "k", 1), 0);
    end(&client);
}

static void a_put_without_deadline_outlives_the_old_one(void) {
    struct client client;
    begin(&client);
    drive_clock(&client, 1000000);
    CU_ASSERT_EQUAL(larder_put(client.one, "k", 1, "old", 3, 100, 5), 0);
    CU_ASSERT_EQUAL(put_text(client.one, "k", "new"), 0);
    drive_clock(&client, 2000000);
    CU_ASSERT(holds(client.two, "k", "new"));
    CU_ASSERT_EQUAL(item_of(client.two, "k").flags, 0);
    end(&client);
}

static void the_host_clock_makes_items_expire(void) {
    struct client client;
    begin(&client);
    uint64_t before = larder_now_ms(client.one);
    CU_ASSERT_EQUAL(larder_put(client.one, "k", 1, "v", 1, 300, 0), 0);
    CU_ASSERT_EQUAL(larder_exists(client.two, "k", 1), 1);
    fixture_sleep_ms(400);
    CU_ASSERT_EQUAL(larder_exists(client.two, "k", 1), 0);
    uint64_t passed = larder_now_ms(client.two) - before;
    CU_ASSERT(passed >= 390 && passed < 60000);
    end(&client);
}

/* ---- texts ---------------------------------------------------------------------------------------------------- */

static void every_error_has_name_text_and_remedy(void) {
#define X(name, number, text, remedy)                                                                                  \
    CU_ASSERT_STRING_EQUAL(larder_error_name(number), #name);                                                          \
    CU_ASSERT_STRING_EQUAL(larder_strerror(number), text);                                                             \
    CU_ASSERT_STRING_EQUAL(larder_remedy(number), remedy);
    LARDER_ERRORS(X)
#undef X
    int others[] = {0, 1, -1000, INT32_MAX, INT32_MIN};
    for (unsigned i = 0; i < 5; i++) {
        CU_ASSERT(larder_strerror(others[i]) != NULL && larder_strerror(others[i])[0] != '\0');
        CU_ASSERT(larder_remedy(others[i]) != NULL);
        CU_ASSERT(larder_error_name(others[i]) != NULL && larder_error_name(others[i])[0] != '\0');
    }
    CU_ASSERT_STRING_EQUAL(larder_error_name(0), "OK");
    CU_ASSERT_STRING_EQUAL(larder_version(), LARDER_VERSION);
}

void larder_suite_80_client(void) {
    CU_pSuite suite = CU_add_suite("80_client", NULL, NULL);
    CU_ADD_TEST(suite, open_creates_then_attaches);
    CU_ADD_TEST(suite, refusals_say_why_and_leave_no_handle);
    CU_ADD_TEST(suite, names_out_of_range_are_refused);
    CU_ADD_TEST(suite, options_out_of_range_are_refused);
    CU_ADD_TEST(suite, path_stands_for_the_name);
    CU_ADD_TEST(suite, mode_is_as_asked_whatever_the_umask);
    CU_ADD_TEST(suite, group_owner_and_name_are_as_asked);
    CU_ADD_TEST(suite, destroy_retires_attached_handles);
    CU_ADD_TEST(suite, read_only_handle_reads_and_changes_nothing);
    CU_ADD_TEST(suite, put_is_seen_through_another_handle);
    CU_ADD_TEST(suite, keys_and_values_may_hold_any_byte);
    CU_ADD_TEST(suite, empty_value_is_a_value);
    CU_ADD_TEST(suite, keys_have_1_to_65536_bytes);
    CU_ADD_TEST(suite, largest_value_is_stored_and_one_more_byte_is_refused);
    CU_ADD_TEST(suite, a_short_buffer_learns_the_length);
    CU_ADD_TEST(suite, get_many_answers_each_row_on_its_own);
    CU_ADD_TEST(suite, add_stores_only_what_is_absent);
    CU_ADD_TEST(suite, replace_stores_only_what_is_present);
    CU_ADD_TEST(suite, cas_stores_only_over_the_expected_version);
    CU_ADD_TEST(suite, delete_removes_for_everybody);
    CU_ADD_TEST(suite, flush_empties_the_segment);
    CU_ADD_TEST(suite, increment_adds_to_a_decimal_number);
    CU_ADD_TEST(suite, increment_never_wraps);
    CU_ADD_TEST(suite, increment_refuses_what_is_no_number);
    CU_ADD_TEST(suite, increment_keeps_flags_and_deadline);
    CU_ADD_TEST(suite, item_is_gone_after_its_deadline);
    CU_ADD_TEST(suite, touch_moves_the_deadline);
    CU_ADD_TEST(suite, a_put_without_deadline_outlives_the_old_one);
    CU_ADD_TEST(suite, the_host_clock_makes_items_expire);
    CU_ADD_TEST(suite, every_error_has_name_text_and_remedy);
}
