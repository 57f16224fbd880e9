/* SPDX-License-Identifier: MIT */
/* Values compressed on the wire (sidecar/pack.c): they arrive as they were, and what is no such value is refused. */
#include "simnet.h"

#include <string.h>

#define LARGEST 100000u

static uint8_t value[LARGEST], copy[2 * LARGEST];

static uint32_t make_text(struct fixture_random *random, uint32_t len) {
    for (uint32_t i = 0; i < len; i++)
        value[i] = (uint8_t)("abcdefgh"[fixture_below(random, 2)]);
    return len;
}

static void values_come_back_as_they_were(void) {
    struct fixture_random random = fixture_seed("packed values");
    struct lr_pack *pack = lr_pack_create(LARGEST);
    CU_ASSERT_PTR_NOT_NULL_FATAL(pack);
    unsigned packed_count = 0;
    for (unsigned i = 0; i < 300; i++) {
        const void *packed, *out;
        uint32_t len = make_text(&random, (uint32_t)fixture_below(&random, LARGEST + 1));
        uint32_t packed_len = lr_pack(pack, value, len, &packed);
        if (packed_len == 0) {
            CU_ASSERT(len < 64);
            continue;
        }
        packed_count++;
        CU_ASSERT(packed_len <= len - len / 8);
        memcpy(copy, packed, packed_len);
        CU_ASSERT_EQUAL_FATAL(lr_unpack(pack, copy, packed_len, &out), (int64_t)len);
        CU_ASSERT_EQUAL(memcmp(out, value, len), 0);
    }
    CU_ASSERT(packed_count > 250);
    lr_pack_free(pack);
}

static void what_saves_nothing_is_left_alone(void) {
    struct fixture_random random = fixture_seed("noise");
    struct lr_pack *pack = lr_pack_create(LARGEST);
    const void *out;
    for (uint32_t i = 0; i < LARGEST; i++)
        value[i] = (uint8_t)fixture_next(&random);
    CU_ASSERT_EQUAL(lr_pack(pack, value, LARGEST, &out), 0);
    memset(value, 'a', LARGEST);
    CU_ASSERT_EQUAL(lr_pack(pack, value, 4, &out), 0);
    CU_ASSERT_EQUAL(lr_pack(pack, value, 0, &out), 0);
    CU_ASSERT_EQUAL(lr_pack(pack, value, LARGEST + 1, &out), 0); /* nobody could take it */
    lr_pack_free(pack);
}

static void mutated_blocks_are_refused_or_some_value(void) {
    struct fixture_random random = fixture_seed("mutated blocks");
    struct lr_pack *pack = lr_pack_create(LARGEST);
    unsigned refused = 0;
    for (unsigned i = 0; i < 20000; i++) {
        const void *packed, *out;
        uint32_t len = make_text(&random, 200 + (uint32_t)fixture_below(&random, 2000));
        uint32_t packed_len = lr_pack(pack, value, len, &packed);
        CU_ASSERT_FATAL(packed_len != 0);
        uint32_t cut = fixture_below(&random, 4) == 0 ? (uint32_t)fixture_below(&random, packed_len) : packed_len;
        uint8_t *exact = malloc(cut > 0 ? cut : 1); /* the sanitizer sees a byte too many */
        memcpy(exact, packed, cut);
        for (unsigned n = 0; n < 3 && cut > 0; n++)
            exact[fixture_below(&random, cut)] = (uint8_t)fixture_next(&random);
        int64_t got = lr_unpack(pack, exact, cut, &out);
        CU_ASSERT(got <= (int64_t)LARGEST);
        refused += got < 0;
        free(exact);
    }
    CU_ASSERT(refused > 5000);
    const uint8_t bomb[16] = {0xff, 0xff, 0xff, 0xff};
    const uint8_t hollow[16] = {0xa0, 0x86, 1, 0}; /* 100000 bytes in 12 */
    const void *out;
    CU_ASSERT_EQUAL(lr_unpack(pack, bomb, sizeof bomb, &out), -1);
    CU_ASSERT_EQUAL(lr_unpack(pack, hollow, sizeof hollow, &out), -1);
    lr_pack_free(pack);
}

static int put_value(struct sim_host *host, unsigned key, uint32_t len) {
    struct lr_put put = {.key = &key, .key_len = sizeof key, .value = value, .value_len = len};
    return lr_put(host->cache, &put);
}

/* Hosts that pack and that do not, values above and below the limit, over a slow wire. */
static void packed_values_travel(void) {
    uint64_t sizes[3] = {UINT64_C(16) << 20, UINT64_C(16) << 20, UINT64_C(16) << 20};
    struct sim *sim = sim_create_idle("packed", 3, sizes);
    for (unsigned i = 0; i < 3; i++) {
        struct lr_node_options options = sim_options(&sim->hosts[i]);
        options.pack_least = i == 2 ? 0 : 512;
        sim_start(&sim->hosts[i], &options, true);
    }
    CU_ASSERT(sim_settle(sim, 10000));
    for (unsigned key = 0; key < 300; key++) {
        uint32_t len = make_text(&sim->random, (uint32_t)fixture_below(&sim->random, key % 3 ? 3000 : 60000));
        CU_ASSERT_EQUAL(put_value(&sim->hosts[key % 3], key, len), 0);
        sim_run(sim, SIM_STEP_MS);
    }
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(sim_digests_equal(sim));
    sim_destroy(sim);
}

static size_t most_on_the_wire(uint64_t pack_least) {
    uint64_t sizes[2] = {UINT64_C(16) << 20, UINT64_C(16) << 20};
    struct sim *sim = sim_create_idle("bytes on the wire", 2, sizes);
    for (unsigned i = 0; i < 2; i++) {
        struct lr_node_options options = sim_options(&sim->hosts[i]);
        options.pack_least = pack_least;
        sim_start(&sim->hosts[i], &options, true);
    }
    CU_ASSERT(sim_settle(sim, 10000));
    sim->delay_ms = 200; /* all of them are on their way at once */
    for (unsigned key = 0; key < 10; key++)
        CU_ASSERT_EQUAL(put_value(&sim->hosts[0], key, make_text(&sim->random, 50000)), 0);
    CU_ASSERT(sim_settle(sim, 20000));
    CU_ASSERT(sim_digests_equal(sim));
    size_t most = sim->most_queued;
    sim_destroy(sim);
    return most;
}

static void packing_saves_bytes_and_is_off_by_default(void) {
    CU_ASSERT(most_on_the_wire(0) > 500000);
    CU_ASSERT(most_on_the_wire(512) < 400000);
    CU_ASSERT(most_on_the_wire(60000) > 500000); /* above every value */
}

static void a_packed_value_that_is_none_ends_the_link(void) {
    struct sim *sim = sim_create("bad block", 2, UINT64_C(8) << 20);
    CU_ASSERT(sim_settle(sim, 10000));
    struct wire_put put = {.version = lr_highest_version(sim->hosts[0].cache) + 1000,
                           .ttl_left_ms = WIRE_NEVER,
                           .key_len = 3,
                           .value_len = 16,
                           .key = "key",
                           .value = "\x40\0\0\0 and no block"};
    uint8_t frame[256];
    lr_link_send(sim->hosts[0].node->peers[0]->link, frame, wire_encode_put(frame, sizeof frame, &put, WIRE_PACKED));
    sim_run(sim, 50);
    CU_ASSERT_NOT_EQUAL(sim->hosts[1].node->peers[0]->state, LR_PEER_LIVE);
    CU_ASSERT(sim_settle(sim, 20000));
    uint8_t got[64];
    CU_ASSERT_EQUAL(lr_get(sim->hosts[1].cache, "key", 3, got, sizeof got, NULL, LR_PEEK), LARDER_ENOT_FOUND);
    sim_destroy(sim);
}

void larder_suite_93_compression(void);
void larder_suite_93_compression(void) {
    CU_pSuite suite = CU_add_suite("93_compression", NULL, NULL);
    CU_ADD_TEST(suite, values_come_back_as_they_were);
    CU_ADD_TEST(suite, what_saves_nothing_is_left_alone);
    CU_ADD_TEST(suite, mutated_blocks_are_refused_or_some_value);
    CU_ADD_TEST(suite, packed_values_travel);
    CU_ADD_TEST(suite, packing_saves_bytes_and_is_off_by_default);
    CU_ADD_TEST(suite, a_packed_value_that_is_none_ends_the_link);
}
