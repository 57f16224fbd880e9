/* SPDX-License-Identifier: MIT */
/* See simnet.h. Time goes in steps of 5 ms; in each, due bytes are delivered, then every node works as long as it has
 * something to do, then ticks if it is time. Steps in which nothing is due are left out. */
#include "simnet.h"

#include "log.h"

#include <string.h>
#include <time.h>

#define KERNEL_BYTES 65536u /* what the simulated sockets take before `unsent` counts */
#define TICK_MS 50u
#define CLOCK_START_MS 1000000u

struct sim_host *sim_acting;

struct sim_piece {
    struct sim_piece *next;
    uint64_t due_ms;
    size_t len, at;
    bool last; /* the other side has closed */
    uint8_t bytes[];
};

static uint64_t real_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- the world of one node ------------------------------------------------------------------------------------ */

static uint64_t world_now(void *self) {
    return ((struct sim_host *)self)->sim->now_ms;
}

static uint64_t world_wall(void *self) {
    const struct sim_host *host = self;
    return host->sim->epoch_ms != 0 ? sim_wall_ms(host)
                                    : real_ms() + host->sim->now_ms - CLOCK_START_MS + (uint64_t)host->wall_off_ms;
}

uint64_t sim_wall_ms(const struct sim_host *host) {
    return host->sim->epoch_ms + host->sim->now_ms + (uint64_t)host->wall_off_ms;
}

static uint64_t world_random(void *self) {
    return fixture_next(&((struct sim_host *)self)->sim->random);
}

static struct sim_end *other(struct sim_connection *connection, const struct sim_end *end) {
    return end == &connection->ends[0] ? &connection->ends[1] : &connection->ends[0];
}

static struct sim_connection *of(struct sim *sim, const struct sim_end *end) {
    for (struct sim_connection *c = sim->connections; c != NULL; c = c->next)
        if (end == &c->ends[0] || end == &c->ends[1])
            return c;
    abort();
}

/* Whatever cannot be had here is memory. */
static void *get(void *memory) {
    if (memory == NULL) {
        perror("simulated network");
        abort();
    }
    return memory;
}

static void queue_piece(struct sim *sim, struct sim_end *to, const void *bytes, size_t len, bool last) {
    struct sim_piece *piece = get(malloc(sizeof *piece + len));
    piece->next = NULL;
    piece->at = 0;
    piece->due_ms = sim->now_ms + sim->delay_ms + fixture_below(&sim->random, sim->jitter_ms + 1);
    if (to->last != NULL && to->last->due_ms > piece->due_ms)
        piece->due_ms = to->last->due_ms;
    piece->len = len;
    piece->last = last;
    if (len > 0)
        memcpy(piece->bytes, bytes, len);
    if (to->last != NULL)
        to->last->next = piece;
    else
        to->first = piece;
    to->last = piece;
    to->queued += len;
    if (to->queued > sim->most_queued)
        sim->most_queued = to->queued;
}

static void world_send(void *self, void *connection, const void *bytes, size_t len) {
    struct sim *sim = ((struct sim_host *)self)->sim;
    struct sim_end *end = connection;
    queue_piece(sim, other(of(sim, end), end), bytes, len, false);
}

static size_t world_unsent(void *self, void *connection) {
    struct sim *sim = ((struct sim_host *)self)->sim;
    struct sim_end *end = connection;
    size_t queued = other(of(sim, end), end)->queued;
    return queued > KERNEL_BYTES ? queued - KERNEL_BYTES : 0;
}

static void world_reading(void *self, void *connection, bool on) {
    (void)self;
    ((struct sim_end *)connection)->paused = !on;
}

static void world_hang_up(void *self, void *connection) {
    struct sim *sim = ((struct sim_host *)self)->sim;
    struct sim_end *end = connection;
    struct sim_connection *c = of(sim, end);
    end->link = NULL;
    end->hung_up = true;
    if (c->open)
        queue_piece(sim, other(c, end), NULL, 0, true);
    else
        c->over = true;
}

static struct sim_host *host_at(struct sim *sim, const char *address) {
    for (unsigned i = 0; i < sim->host_count; i++)
        if (strcmp(sim->hosts[i].address, address) == 0)
            return &sim->hosts[i];
    return NULL;
}

static void *world_dial(void *self, struct lr_link *link, const char *address) {
    struct sim_host *host = self;
    struct sim *sim = host->sim;
    struct sim_connection *c = get(calloc(1, sizeof *c));
    c->ends[0].host = host;
    c->ends[0].link = link;
    c->ends[1].host = host_at(sim, address);
    c->due_ms = sim->now_ms + sim->delay_ms + fixture_below(&sim->random, sim->jitter_ms + 1);
    c->next = sim->connections;
    sim->connections = c;
    return &c->ends[0];
}

/* ---- hosts ------------------------------------------------------------------------------------------------------ */

struct lr_node_options sim_options(const struct sim_host *host) {
    return (struct lr_node_options){.name = host->address,
                                    .listen = host->address,
                                    .clock_limit_ms = 2000,
                                    .tombstone_ms = 500,
                                    .gather = host->number % 2 != 0}; /* both ways */
}

void sim_start(struct sim_host *host, const struct lr_node_options *options, bool peers) {
    struct sim *sim = host->sim;
    const struct lr_node_options standard = sim_options(host);
    sim_acting = host;
    host->world = (struct lr_world){.self = host,
                                    .now_ms = world_now,
                                    .wall_ms = world_wall,
                                    .random = world_random,
                                    .dial = world_dial,
                                    .send = world_send,
                                    .unsent = world_unsent,
                                    .reading = world_reading,
                                    .hang_up = world_hang_up};
    host->node = get(lr_node_create(host->cache, &host->world, options != NULL ? options : &standard));
    for (unsigned i = 0; peers && i < sim->host_count; i++)
        if (i != host->number && lr_node_add_peer(host->node, sim->hosts[i].address) != 0)
            abort(); /* without memory */
}

static void lose_end(struct sim_end *end, const char *why) {
    struct lr_link *link = end->link;
    end->link = NULL;
    end->hung_up = true;
    sim_acting = end->host;
    if (link != NULL)
        lr_link_lost(link, why);
}

static void reset(struct sim_connection *c) {
    c->over = true;
    lose_end(&c->ends[0], "reset");
    lose_end(&c->ends[1], "reset");
}

void sim_stop(struct sim_host *host) {
    sim_acting = host;
    lr_node_destroy(host->node);
    host->node = NULL;
}

void sim_kill(struct sim_host *host) {
    for (struct sim_connection *c = host->sim->connections; c != NULL; c = c->next)
        if (c->ends[0].host == host || c->ends[1].host == host)
            reset(c);
    sim_stop(host);
}

void sim_vanish(struct sim_host *host) {
    for (struct sim_connection *c = host->sim->connections; c != NULL; c = c->next) {
        if (c->ends[0].host == host)
            c->over |= !c->open;
        for (unsigned i = 0; i < 2; i++)
            if (c->ends[i].host == host && (c->open || i == 0))
                lose_end(&c->ends[i], "gone");
    }
    sim_stop(host);
}

void sim_cut(struct sim *sim, unsigned a, unsigned b, bool cut) {
    sim->cut[a][b] = sim->cut[b][a] = cut;
}

void sim_cut_way(struct sim *sim, unsigned from, unsigned to, bool cut) {
    sim->cut[from][to] = cut;
}

void sim_reset(struct sim *sim, unsigned a, unsigned b) {
    for (struct sim_connection *c = sim->connections; c != NULL; c = c->next)
        if (!c->over && c->ends[1].host != NULL &&
            ((c->ends[0].host->number == a && c->ends[1].host->number == b) ||
             (c->ends[0].host->number == b && c->ends[1].host->number == a)))
            reset(c);
}

void sim_garbage(struct sim_host *host, const void *bytes, size_t len) {
    struct sim *sim = host->sim;
    struct sim_connection *c = get(calloc(1, sizeof *c));
    c->ends[0].host = host;
    c->ends[0].hung_up = true;
    c->ends[1].host = host;
    c->open = true;
    c->next = sim->connections;
    sim->connections = c;
    sim_acting = host;
    c->ends[1].link = lr_link_accept(host->node, &c->ends[1], "nowhere:0");
    if (c->ends[1].link == NULL)
        c->over = true;
    else
        queue_piece(sim, &c->ends[1], bytes, len, false);
}

struct sim *sim_new(struct fixture_random random) {
    struct sim *sim = get(calloc(1, sizeof *sim));
    sim->random = random;
    sim->now_ms = CLOCK_START_MS;
    sim->delay_ms = 1;
    sim->jitter_ms = 10;
    lr_log_level(getenv("LARDER_SIM_LOG") != NULL ? LR_DEBUG : LR_SILENT);
    return sim;
}

struct sim_host *sim_add_host(struct sim *sim) {
    struct sim_host *host = &sim->hosts[sim->host_count];
    host->sim = sim;
    host->number = sim->host_count++;
    snprintf(host->address, sizeof host->address, "host%u:1", host->number);
    return host;
}

static void free_pieces(struct sim_end *end) {
    while (end->first != NULL) {
        struct sim_piece *piece = end->first;
        end->first = piece->next;
        free(piece);
    }
    end->last = NULL;
    end->queued = 0;
}

static void bury(struct sim *sim) {
    for (struct sim_connection **at = &sim->connections; *at != NULL;) {
        struct sim_connection *c = *at;
        bool done = c->over || (c->ends[0].hung_up && c->ends[1].hung_up);
        if (done && c->ends[0].link == NULL && c->ends[1].link == NULL) {
            *at = c->next;
            free_pieces(&c->ends[0]);
            free_pieces(&c->ends[1]);
            free(c);
        } else {
            at = &c->next;
        }
    }
}

void sim_free(struct sim *sim) {
    for (unsigned i = 0; i < sim->host_count; i++)
        if (sim->hosts[i].node != NULL)
            sim_kill(&sim->hosts[i]);
    bury(sim);
    if (sim->connections != NULL)
        abort(); /* a link that nobody closes */
    free(sim);
}

/* ---- time -------------------------------------------------------------------------------------------------------- */

/* Whether bytes to that end wait. */
static bool is_cut(const struct sim *sim, const struct sim_connection *c, unsigned end) {
    return c->ends[1].host != NULL && sim->cut[c->ends[1 - end].host->number][c->ends[end].host->number];
}

static void finish_dial(struct sim *sim, struct sim_connection *c) {
    struct sim_host *to = c->ends[1].host;
    if (is_cut(sim, c, 0) || is_cut(sim, c, 1) || sim->now_ms < c->due_ms)
        return;
    if (to == NULL || to->node == NULL) {
        c->over = true;
        lose_end(&c->ends[0], "refused");
        return;
    }
    c->open = true;
    sim_acting = c->ends[0].host;
    lr_link_connected(c->ends[0].link, to->address);
    sim_acting = to;
    c->ends[1].link = lr_link_accept(to->node, &c->ends[1], c->ends[0].host->address);
    if (c->ends[1].link == NULL)
        reset(c);
}

/* What was delivered, and when: the same for the same seed. */
static void digest(struct sim *sim, const struct sim_end *end, const uint8_t *bytes, size_t len) {
    uint64_t sum = sim->digest ^ (sim->now_ms << 8) ^ end->host->number;
    for (uint64_t word; len > 0;) {
        size_t n = len < 8 ? len : 8;
        word = 0;
        memcpy(&word, bytes, n);
        bytes += n;
        len -= n;
        sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        sum ^= sum >> 29;
    }
    sim->digest = sum;
}

/* Delivers what is due at one end, in pieces of any size. */
static void deliver(struct sim *sim, struct sim_connection *c, struct sim_end *end) {
    size_t budget = sim->bytes_per_step > 0 ? sim->bytes_per_step : SIZE_MAX;
    if (end->host->reads_per_step != 0 && end->host->reads_per_step < budget)
        budget = end->host->reads_per_step;
    sim_acting = end->host;
    while (end->first != NULL && end->first->due_ms <= sim->now_ms && !end->paused && budget > 0 && !c->over) {
        struct sim_piece *piece = end->first;
        size_t len = piece->len - piece->at;
        if (len > 1 && fixture_below(&sim->random, 4) == 0)
            len = 1 + fixture_below(&sim->random, len);
        if (len > budget)
            len = budget;
        budget -= len;
        end->queued -= len;
        piece->at += len;
        if (piece->last) {
            struct lr_link *link = end->link;
            end->link = NULL;
            end->hung_up = true;
            if (link != NULL)
                lr_link_lost(link, "closed by the other side");
        } else if (end->link != NULL && len > 0) {
            digest(sim, end, piece->bytes + piece->at - len, len);
            lr_link_received(end->link, piece->bytes + piece->at - len, len);
        }
        if (piece->at == piece->len) {
            end->first = piece->next;
            if (end->first == NULL)
                end->last = NULL;
            free(piece);
        }
    }
}

static void work(struct sim_host *host) {
    sim_acting = host;
    lr_drive_clock(host->cache, host->sim->now_ms);
    if (host->node == NULL)
        return;
    bool more = true;
    for (unsigned i = 0; i < 200 && more; i++)
        more = lr_node_work(host->node);
    host->sim->busy |= more;
    if (host->sim->now_ms - host->ticked_ms >= TICK_MS) {
        host->ticked_ms = host->sim->now_ms;
        lr_node_tick(host->node);
    }
}

static void step(struct sim *sim) {
    for (struct sim_connection *c = sim->connections; c != NULL; c = c->next) {
        if (!c->over && !c->open)
            finish_dial(sim, c);
        for (unsigned i = 0; i < 2 && c->open && !c->over; i++)
            if (!is_cut(sim, c, i))
                deliver(sim, c, &c->ends[i]);
    }
    sim->busy = false;
    for (unsigned i = 0; i < sim->host_count; i++)
        work(&sim->hosts[i]);
    bury(sim);
    sim->open_links = 0;
    for (struct sim_connection *c = sim->connections; c != NULL; c = c->next)
        sim->open_links += c->open && !c->over && c->ends[0].link != NULL && c->ends[1].link != NULL;
}

/* When something happens next, if nobody writes. */
static uint64_t next_due(const struct sim *sim) {
    uint64_t due = sim->busy ? 0 : UINT64_MAX;
    for (unsigned i = 0; i < sim->host_count; i++)
        if (sim->hosts[i].node != NULL && sim->hosts[i].ticked_ms + TICK_MS < due)
            due = sim->hosts[i].ticked_ms + TICK_MS;
    for (const struct sim_connection *c = sim->connections; c != NULL; c = c->next) {
        if (!c->over && !c->open && c->due_ms < due)
            due = c->due_ms;
        for (unsigned i = 0; i < 2 && c->open; i++)
            if (c->ends[i].first != NULL && !c->ends[i].paused && c->ends[i].first->due_ms < due)
                due = c->ends[i].first->due_ms;
    }
    return due;
}

void sim_run(struct sim *sim, uint64_t ms) {
    const uint64_t end = sim->now_ms + ms;
    if (sim->now_ms < end) { /* what was written meanwhile */
        sim->now_ms += SIM_STEP_MS;
        step(sim);
    }
    while (sim->now_ms < end) {
        uint64_t due = next_due(sim);
        due = due < end ? due : end;
        if (due > sim->now_ms + SIM_STEP_MS)
            sim->now_ms += (due - sim->now_ms - 1) / SIM_STEP_MS * SIM_STEP_MS;
        sim->now_ms += SIM_STEP_MS;
        step(sim);
    }
}

static bool in_step(struct sim *sim) {
    for (unsigned i = 0; i < sim->host_count; i++) {
        struct lr_node *node = sim->hosts[i].node;
        if (node != NULL && (lr_node_live(node) != node->peer_count || lr_node_left(node, false) > 0))
            return false;
    }
    return true;
}

bool sim_settle(struct sim *sim, uint64_t ms) {
    uint64_t end = sim->now_ms + ms;
    do
        sim_run(sim, 50);
    while (!in_step(sim) && sim->now_ms < end);
    return in_step(sim);
}
