/* SPDX-License-Identifier: MIT */
/* The public calls when others are there too: pins, a full segment, counters, threads on one handle, forked children.
 */
#include "client.h"

#include <pthread.h>

/* ---- pins ----------------------------------------------------------------------------------------------------- */

static void pinned_value_stays_whatever_happens_to_the_key(void) {
    struct client client;
    larder_options options = options_of(4 << 20, LARDER_POLICY_CLOCK);
    static char value[60000], big[60000];
    larder_pin replaced, deleted, flushed;
    char key[16];
    begin_with(&client, &options);
    memset(value, 'p', sizeof value);
    memset(big, 'x', sizeof big);
    const char *names[] = {"replaced", "deleted", "flushed"};
    larder_pin *pins[] = {&replaced, &deleted, &flushed};
    for (unsigned i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(larder_put(client.one, names[i], strlen(names[i]), value, sizeof value, 0, i), 0);
        CU_ASSERT_EQUAL_FATAL(larder_get_pinned(client.two, names[i], strlen(names[i]), pins[i]), 0);
    }
    CU_ASSERT_EQUAL(larder_put(client.one, "replaced", 8, big, sizeof big, 0, 0), 0);
    CU_ASSERT_EQUAL(larder_delete(client.one, "deleted", 7), 0);
    CU_ASSERT_EQUAL(larder_flush(client.one), 0);
    for (unsigned i = 0; i < 400; i++) { /* some six times the segment */
        snprintf(key, sizeof key, "churn-%u", i);
        CU_ASSERT_EQUAL(larder_put(client.one, key, strlen(key), big, sizeof big, 0, 0), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        CU_ASSERT(pins[i]->item.value_len == sizeof value && pins[i]->item.flags == i);
        CU_ASSERT_EQUAL(memcmp(pins[i]->value, value, sizeof value), 0);
    }
    fixture_check((struct lr_cache *)client.one);
    for (unsigned i = 0; i < 3; i++) {
        larder_release(client.two, pins[i]);
        larder_release(client.two, pins[i]); /* does nothing */
    }
    for (unsigned i = 0; i < 400; i++) {
        snprintf(key, sizeof key, "churn-%u", i);
        CU_ASSERT_EQUAL(larder_put(client.one, key, strlen(key), big, sizeof big, 0, 0), 0);
    }
    CU_ASSERT_EQUAL(counter_of(client.one, "held_bytes").segment, 0);
    end(&client);
}

static void a_handle_has_64_pins(void) {
    struct client client;
    larder_pin pins[65];
    char key[16];
    begin(&client);
    for (unsigned i = 0; i < 65; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        CU_ASSERT_EQUAL(put_text(client.one, key, key), 0);
        int error = larder_get_pinned(client.two, key, strlen(key), &pins[i]);
        CU_ASSERT_EQUAL(error, i < 64 ? 0 : LARDER_ENO_PINS);
    }
    CU_ASSERT_EQUAL(larder_get_pinned(client.one, "key-64", 6, &pins[64]), 0); /* another handle has its own */
    larder_release(client.one, &pins[64]);
    CU_ASSERT(holds(client.two, "key-64", "key-64"));
    larder_release(client.two, &pins[17]);
    CU_ASSERT_EQUAL(larder_get_pinned(client.two, "key-64", 6, &pins[17]), 0);
    CU_ASSERT_EQUAL(larder_get_pinned(client.two, "key-0", 5, &pins[64]), LARDER_ENO_PINS);
    CU_ASSERT_EQUAL(larder_get_pinned(client.two, "absent", 6, &pins[64]), LARDER_ENOT_FOUND); /* needs no pin */
    CU_ASSERT(counter_of(client.two, "pin_refusals").process >= 2);
    /* Closing releases what is left. */
    end(&client);
}

/* ---- full, counters ------------------------------------------------------------------------------------------- */

static void a_full_cache_makes_its_own_room(void) {
    struct client client;
    larder_options options = options_of(4 << 20, LARDER_POLICY_CLOCK);
    static char value[3000];
    begin_with(&client, &options);
    for (unsigned i = 0; i < 20000; i++) { /* some fourteen times the segment */
        CU_ASSERT_EQUAL_FATAL(larder_put(client.one, &i, sizeof i, value, 100 + i * 7 % 2900, 0, 0), 0);
        CU_ASSERT_EQUAL_FATAL(larder_exists(client.two, &i, sizeof i), 1);
    }
    CU_ASSERT(counter_of(client.two, "evictions").segment > 10000);
    CU_ASSERT(counter_of(client.two, "item_bytes").segment > 3 << 20);
    end(&client);
}

/* The index grows and the hand comes round while this happens: neither may take what was stored a moment ago. */
static void what_was_just_put_is_there(void) {
    static char value[3000];
    for (unsigned round = 0; round < 30; round++) {
        struct client client;
        larder_options options = options_of(4 << 20, LARDER_POLICY_CLOCK);
        begin_with(&client, &options);
        for (unsigned i = 0; i < 3500; i++) { /* the segment is full at some 2,870 */
            CU_ASSERT_EQUAL_FATAL(larder_put(client.one, &i, sizeof i, value, 100 + i * 7 % 2900, 0, 0), 0);
            CU_ASSERT_EQUAL_FATAL(larder_exists(client.two, &i, sizeof i), 1);
        }
        end(&client);
    }
}

static void nothing_goes_while_there_is_room(void) {
    struct client client;
    larder_options options = options_of(4 << 20, LARDER_POLICY_CLOCK);
    static char value[300];
    begin_with(&client, &options);
    for (unsigned i = 0; i < 10000; i++)
        CU_ASSERT_EQUAL_FATAL(larder_put(client.one, &i, sizeof i, value, sizeof value, 0, 0), 0);
    CU_ASSERT(counter_of(client.two, "item_bytes").segment < (4 << 20) / 10 * 9);
    CU_ASSERT_EQUAL(counter_of(client.two, "evictions").segment, 0);
    CU_ASSERT_EQUAL(counter_of(client.two, "items").segment, 10000);
    end(&client);
}

static void policy_none_refuses_when_full(void) {
    static char value[3000];
    const size_t lengths[] = {30, 300, 3000};
    for (unsigned round = 0; round < 3; round++) {
        struct client client;
        larder_options options = options_of(4 << 20, LARDER_POLICY_NONE);
        begin_with(&client, &options);
        unsigned stored = 0;
        int error = 0;
        while (stored < 200000 && error == 0) {
            error = larder_put(client.one, &stored, sizeof stored, value, lengths[round], 0, 0);
            stored += error == 0;
        }
        CU_ASSERT_EQUAL(error, LARDER_EFULL);
        /* Full means that the memory is used, by items and their index. */
        uint64_t used = counter_of(client.two, "item_bytes").segment + counter_of(client.two, "index_bytes").segment;
        CU_ASSERT(used > (4 << 20) / 10 * 9);
        for (unsigned i = 0; i < stored; i++)
            CU_ASSERT_EQUAL(larder_exists(client.two, &i, sizeof i), 1);
        CU_ASSERT_EQUAL(counter_of(client.two, "evictions").segment, 0);
        for (unsigned i = 0; i < stored; i += 2)
            CU_ASSERT_EQUAL(larder_delete(client.two, &i, sizeof i), 0);
        CU_ASSERT_EQUAL(larder_put(client.one, "room", 4, value, lengths[round], 0, 0), 0);
        end(&client);
    }
}

static void counters_tell_what_was_done(void) {
    struct client client;
    larder_counter rows[128];
    begin(&client);
    size_t count = larder_counters(client.one, NULL, 0);
    CU_ASSERT_FATAL(count > 20 && count <= 128);
    CU_ASSERT_EQUAL(larder_counters(client.one, rows, 1), count);
    CU_ASSERT_EQUAL(larder_counters(client.one, rows, 128), count);
    for (size_t i = 0; i < count; i++) {
        CU_ASSERT(rows[i].name[0] != '\0' && rows[i].unit[0] != '\0' && strlen(rows[i].sentence) > 8);
        for (size_t j = 0; j < i; j++)
            CU_ASSERT_NOT_EQUAL(strcmp(rows[i].name, rows[j].name), 0);
    }
    CU_ASSERT_EQUAL(put_text(client.one, "k", "12345"), 0);
    CU_ASSERT(holds(client.one, "k", "12345"));
    CU_ASSERT(holds(client.two, "k", "12345"));
    CU_ASSERT(!holds(client.two, "absent", ""));
    CU_ASSERT_EQUAL(larder_get(client.two, "k", 1, NULL, 0, NULL, LARDER_PEEK), LARDER_ETOO_SMALL);
    CU_ASSERT_EQUAL(larder_get(client.two, "no", 2, NULL, 0, NULL, LARDER_PEEK), LARDER_ENOT_FOUND);
    CU_ASSERT_EQUAL(larder_exists(client.two, "k", 1), 1);
    CU_ASSERT_EQUAL(larder_exists(client.two, "no", 2), 0);
    CU_ASSERT_EQUAL(larder_add(client.two, "k", 1, "v", 1, 0, 0), LARDER_EEXISTS);
    CU_ASSERT_EQUAL(counter_of(client.two, "hits").process, 1);
    CU_ASSERT_EQUAL(counter_of(client.two, "hits").segment, 2);
    CU_ASSERT_EQUAL(counter_of(client.two, "hit_bytes").segment, 10);
    CU_ASSERT_EQUAL(counter_of(client.two, "misses").process, 1);
    CU_ASSERT_EQUAL(counter_of(client.two, "puts").process, 0);
    CU_ASSERT_EQUAL(counter_of(client.two, "puts").segment, 1);
    CU_ASSERT_EQUAL(counter_of(client.two, "put_bytes").segment, 5);
    CU_ASSERT_EQUAL(counter_of(client.two, "put_refusals").process, 1);
    CU_ASSERT_EQUAL(counter_of(client.two, "items").segment, 1);
    CU_ASSERT_EQUAL(counter_of(client.two, "payload_bytes").segment, 6);
    /* What a handle counted stays when it goes. */
    larder_close(client.one);
    CU_ASSERT_EQUAL(counter_of(client.two, "hits").segment, 2);
    CU_ASSERT_EQUAL(counter_of(client.two, "puts").segment, 1);
    CU_ASSERT_EQUAL_FATAL(larder_attach(client.name, NULL, &client.one, NULL), 0);
    CU_ASSERT_EQUAL(counter_of(client.one, "hits").process, 0);
    end(&client);
}

/* ---- threads and forks ---------------------------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 2000 };

struct worker {
    larder *cache;
    unsigned number;
    unsigned wrong;
};

/* Own keys come back as put; a shared number is counted up; a shared key is seen whole. */
static void *work(void *context) {
    struct worker *worker = context;
    struct fixture_random random = {worker->number};
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t key[2] = {worker->number, fixture_below(&random, 100)}, value[8], got[8];
        int64_t number;
        for (unsigned j = 0; j < 8; j++)
            value[j] = key[1] * 1000003 + i;
        worker->wrong += larder_put(worker->cache, key, sizeof key, value, sizeof value, 0, 0) != 0;
        worker->wrong += larder_get(worker->cache, key, sizeof key, got, sizeof got, NULL, 0) != 0 ||
                         memcmp(value, got, sizeof got) != 0;
        worker->wrong += larder_increment(worker->cache, "count", 5, 1, 1, 0, &number) != 0;
        worker->wrong += larder_put(worker->cache, "shared", 6, value, sizeof value, 0, 0) != 0;
        larder_pin pin;
        if (larder_get_pinned(worker->cache, "shared", 6, &pin) == 0) {
            memcpy(got, pin.value, sizeof got);
            for (unsigned j = 1; j < 8; j++)
                worker->wrong += got[j] != got[0];
            larder_release(worker->cache, &pin);
        } else {
            worker->wrong++;
        }
    }
    return NULL;
}

static void threads_share_one_handle(void) {
    struct client client;
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    char expected[32];
    begin(&client);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){client.one, i, 0};
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        CU_ASSERT_EQUAL(workers[i].wrong, 0);
    }
    snprintf(expected, sizeof expected, "%d", THREADS * ROUNDS);
    CU_ASSERT(holds(client.two, "count", expected));
    end(&client);
}

static int work_in_child(void *context) {
    struct worker *worker = context;
    work(worker);
    CHILD_EXPECT(worker->wrong == 0);
    larder_close(worker->cache);
    return 0;
}

static void forked_children_use_the_parents_handle(void) {
    struct client client;
    struct worker workers[THREADS];
    pid_t children[THREADS];
    char expected[32];
    begin(&client);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){client.one, i, 0};
        children[i] = fixture_start(work_in_child, &workers[i]);
    }
    for (unsigned i = 0; i < THREADS; i++)
        CU_ASSERT_EQUAL(fixture_wait(children[i]), 0);
    snprintf(expected, sizeof expected, "%d", THREADS * ROUNDS);
    CU_ASSERT(holds(client.one, "count", expected));
    end(&client);
}

static int release_parents_pin(void *context) {
    void **arguments = context;
    larder *cache = arguments[0];
    larder_pin copy = *(larder_pin *)arguments[1], own;
    larder_release(cache, &copy); /* not this process's: does nothing */
    CHILD_EXPECT(larder_get_pinned(cache, "k", 1, &own) == 0);
    copy = *(larder_pin *)arguments[1];
    larder_release(cache, &copy); /* must not hit the child's own either */
    CHILD_EXPECT(larder_delete(cache, "k", 1) == 0);
    CHILD_EXPECT(memcmp(own.value, "value", 5) == 0);
    larder_release(cache, &own);
    return 0;
}

static void a_child_cannot_release_the_parents_pin(void) {
    struct client client;
    larder_pin pin;
    begin(&client);
    CU_ASSERT_EQUAL(put_text(client.one, "k", "value"), 0);
    CU_ASSERT_EQUAL_FATAL(larder_get_pinned(client.one, "k", 1, &pin), 0);
    void *arguments[] = {client.one, &pin};
    CU_ASSERT_EQUAL(fixture_child(release_parents_pin, arguments), 0);
    for (unsigned i = 0; i < 50000; i++)
        CU_ASSERT_EQUAL_FATAL(
            larder_put(client.two, &i, sizeof i, "0123456789012345678901234567890123456789", 40, 0, 0), 0);
    for (unsigned i = 0; i < 100; i++)
        CU_ASSERT_EQUAL_FATAL(larder_put(client.two, &i, sizeof i, client.name, 1, 0, 0), 0);
    CU_ASSERT_EQUAL(memcmp(pin.value, "value", 5), 0);
    larder_release(client.one, &pin);
    end(&client);
}

void larder_suite_81_sharing(void) {
    CU_pSuite suite = CU_add_suite("81_sharing", NULL, NULL);
    CU_ADD_TEST(suite, pinned_value_stays_whatever_happens_to_the_key);
    CU_ADD_TEST(suite, a_handle_has_64_pins);
    CU_ADD_TEST(suite, a_full_cache_makes_its_own_room);
    CU_ADD_TEST(suite, what_was_just_put_is_there);
    CU_ADD_TEST(suite, nothing_goes_while_there_is_room);
    CU_ADD_TEST(suite, policy_none_refuses_when_full);
    CU_ADD_TEST(suite, counters_tell_what_was_done);
    CU_ADD_TEST(suite, threads_share_one_handle);
    CU_ADD_TEST(suite, forked_children_use_the_parents_handle);
    CU_ADD_TEST(suite, a_child_cannot_release_the_parents_pin);
}
