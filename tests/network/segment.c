/* SPDX-License-Identifier: MIT */
/*
 * Segments in ordinary memory, laid out by the engine's own functions, one place for each host. Making one costs what
 * clearing its bytes costs; a segment in a file takes a hundred times as long, and its hash seed and identity are
 * random.
 *
 * What differs from a file's segment: the numbers that are random there come from the schedule, the feed rings may be
 * shorter, so that they overrun soon, and there is one participant. And the clocks: every version and deadline follows
 * from virtual time and the skew of the host that acts.
 */
#include "network.h"

#include "segment.h"
#include "stripe.h"

#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define SIZE_MOST (UINT64_C(2) << 20)
#define PLACE_BYTES (SIZE_MOST + (UINT64_C(4) << 20))
#define TABLES (SM_HEADER_BYTES + sizeof(struct sm_participant))

int __real_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out);

int __wrap_clock_gettime(clockid_t clock, struct timespec *out) {
    if (sim_acting == NULL || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return __real_clock_gettime(clock, out);
    uint64_t ms = sim_wall_ms(sim_acting);
    *out = (struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    return 0;
}

static struct place {
    struct lr_cache cache;
    struct lr_private self;
    uint8_t *bytes;
    uint64_t scratch[SIZE_MOST / SM_GRANULE / 64];
} places[SIM_HOSTS];

void net_segments_init(void) {
    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        void *bytes = mmap(NULL, PLACE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (bytes == MAP_FAILED) {
            perror("larder-network: mmap");
            exit(1);
        }
        places[i].bytes = bytes;
    }
}

static struct lr_geometry plan(struct net_run *run, unsigned host) {
    struct lr_geometry geometry;
    char why[LR_WHY_BYTES];
    if (lr_geometry_plan(run->plan.sizes[host], run->plan.stripes[host], LR_POLICY_clock, &geometry, why) != 0 ||
        geometry.segment_bytes > PLACE_BYTES) {
        fprintf(stderr, "larder-network: %s\n", why);
        exit(1);
    }
    geometry.ring_len = run->plan.ring < geometry.ring_len ? run->plan.ring : geometry.ring_len;
    geometry.hash_seed = fixture_next(&run->random);
    geometry.incarnation[0] = fixture_next(&run->random);
    geometry.incarnation[1] = fixture_next(&run->random);
    snprintf(geometry.name, sizeof geometry.name, "host%u", host);
    return geometry;
}

static void attach(struct place *place, const struct lr_geometry *geometry) {
    struct lr_cache *cache = &place->cache;
    memset(cache, 0, sizeof *cache);
    cache->base = place->bytes;
    cache->geometry = *geometry;
    cache->header = (struct sm_header *)(void *)place->bytes;
    cache->participants = (struct sm_participant *)(void *)(place->bytes + SM_HEADER_BYTES);
    cache->controls = place->bytes + geometry->control_off;
    cache->data = place->bytes + geometry->data_off;
    cache->live_state = SM_LIVE;
    cache->live_fd = cache->probe_fd = -1;
    cache->wait_ms = 5;
    cache->self = &place->self;
    cache->scratch = place->scratch;
    cache->generation = 1;
    cache->me = &cache->participants[0];
    place->self = (struct lr_private){.joined = 1};
}

void net_segment_make(struct net_run *run, unsigned host) {
    struct place *place = &places[host];
    const struct lr_geometry geometry = plan(run, host);
    sim_acting = &run->sim->hosts[host];
    attach(place, &geometry);
    struct lr_cache *cache = &place->cache;
    memset(place->bytes, 0, TABLES);
    memset(place->bytes + geometry.voids_off, 0, geometry.control_off - geometry.voids_off);
    for (uint32_t i = 0; i < geometry.stripe_count; i++) {
        memset(lr_stripe_at(cache, i), 0, SM_STRIPE_FIXED + geometry.ring_len * sizeof(struct sm_hint));
        lr_geometry_lay_stripe(&geometry, lr_stripe_at(cache, i));
    }
    memset(cache->data, 0, geometry.cache_bytes);
    lr_geometry_store(&geometry, &cache->header->constants);
    atomic_store(&cache->header->state, SM_LIVE);
    atomic_store(&cache->header->participants_high, 1);
    lr_store(&cache->me->generation, 1);
    atomic_store(&cache->me->state, SM_SLOT_ACTIVE);
    lr_set_origin(cache, run->plan.one_origin ? 7 : host << 8 | (uint32_t)(fixture_next(&run->random) & 0xff));
    lr_drive_clock(cache, run->sim->now_ms);
    run->sim->hosts[host].cache = cache;
}
