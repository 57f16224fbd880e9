/* SPDX-License-Identifier: MIT */
/*
 * The switch: a process that reads what hosts put on their TUN devices and writes it to the one that it is meant for.
 *
 *     device of i --read--> cut? lost? flipped? forged? twice? --heap, by the moment at which it is due--> device of j
 *
 * Each direction of each pair has dice and settings of its own (struct hosts_way). A packet that finds the heap full,
 * or its direction half a second behind, is lost, as in any queue. Nothing here knows what a connection is: the
 * kernels' TCP does, and has to make do.
 */
#include "hosts.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PACKET_BYTES 2048u
#define PACKETS 4096u
#define BEHIND_US 500000u
#define TURN_MS 20
#define IN_A_TURN 64u
#define PROTOCOL_TCP 6u

struct packet {
    uint64_t due_us, order; /* among those that are due at once: as they came */
    unsigned to;
    size_t len;
    uint8_t bytes[PACKET_BYTES];
};

struct exchange {
    struct hosts_run *run;
    struct fixture_random random;
    struct packet *heap[PACKETS], *spare[PACKETS];
    unsigned count, spares;
    uint64_t order;
    uint64_t free_us[HOSTS_MOST][HOSTS_MOST]; /* when a direction of limited bandwidth can take the next packet */
};

static struct packet packets[PACKETS];

static uint64_t now_us(void) {
    return fixture_now_ns() / 1000;
}

/* ---- the heap ---------------------------------------------------------------------------------------------------- */

static bool is_before(const struct packet *a, const struct packet *b) {
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->order < b->order;
}

static void push(struct exchange *exchange, struct packet *packet) {
    unsigned at = exchange->count++;
    for (; at > 0 && is_before(packet, exchange->heap[(at - 1) / 2]); at = (at - 1) / 2)
        exchange->heap[at] = exchange->heap[(at - 1) / 2];
    exchange->heap[at] = packet;
}

static struct packet *pop(struct exchange *exchange) {
    struct packet *first = exchange->heap[0], *last = exchange->heap[--exchange->count];
    unsigned at = 0;
    for (unsigned child = 1; child < exchange->count; child = 2 * at + 1) {
        child += child + 1 < exchange->count && is_before(exchange->heap[child + 1], exchange->heap[child]);
        if (!is_before(exchange->heap[child], last))
            break;
        exchange->heap[at] = exchange->heap[child];
        at = child;
    }
    exchange->heap[at] = last;
    return first;
}

/* ---- what happens to a packet ------------------------------------------------------------------------------------ */

static bool chance(struct exchange *exchange, uint32_t share) {
    return share > 0 && fixture_below(&exchange->random, 10000) < share;
}

static uint32_t add_words(uint32_t sum, const uint8_t *bytes, size_t len) {
    for (size_t i = 0; i + 1 < len; i += 2)
        sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
    return len % 2 != 0 ? sum + ((uint32_t)bytes[len - 1] << 8) : sum;
}

/* Changes a bit of what TCP carries, and its checksum with it. False: this packet carries nothing. */
static bool forge(struct exchange *exchange, struct packet *packet) {
    uint8_t *ip = packet->bytes;
    size_t head = (size_t)(ip[0] & 15) * 4;
    if (ip[9] != PROTOCOL_TCP || packet->len < head + 20)
        return false;
    uint8_t *tcp = ip + head;
    size_t len = packet->len - head, data = (size_t)(tcp[12] >> 4) * 4;
    if (data < 20 || data >= len)
        return false;
    tcp[data + fixture_below(&exchange->random, len - data)] ^= (uint8_t)(1u << fixture_below(&exchange->random, 8));
    tcp[16] = tcp[17] = 0;
    uint32_t sum = add_words(PROTOCOL_TCP + (uint32_t)len, ip + 12, 8); /* both addresses */
    sum = add_words(sum, tcp, len);
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    tcp[16] = (uint8_t)(~sum >> 8);
    tcp[17] = (uint8_t)~sum;
    return true;
}

/* False: it does not arrive. */
static bool suffer(struct exchange *exchange, struct hosts_way *way, unsigned from, struct packet *packet) {
    uint64_t now = now_us();
    atomic_fetch_add(&way->packets, 1);
    if (atomic_load(&way->cut) != 0 || chance(exchange, atomic_load(&way->loss)))
        return false;
    if (chance(exchange, atomic_load(&way->flip))) {
        packet->bytes[fixture_below(&exchange->random, packet->len)] ^=
            (uint8_t)(1u << fixture_below(&exchange->random, 8));
        atomic_fetch_add(&way->flipped, 1);
    } else if (chance(exchange, atomic_load(&way->forge)) && forge(exchange, packet)) {
        atomic_fetch_add(&way->forged, 1);
    }
    packet->due_us = now + atomic_load(&way->delay_us) +
                     fixture_below(&exchange->random, (uint64_t)atomic_load(&way->jitter_us) + 1);
    uint32_t bytes_per_s = atomic_load(&way->bytes_per_s);
    if (bytes_per_s == 0)
        return true;
    uint64_t *free_us = &exchange->free_us[from][packet->to];
    *free_us = (*free_us > now ? *free_us : now) + packet->len * 1000000 / bytes_per_s;
    packet->due_us += *free_us - now;
    if (*free_us < now + BEHIND_US)
        return true;
    *free_us -= packet->len * 1000000 / bytes_per_s;
    return false;
}

static void enter(struct exchange *exchange, struct packet *packet) {
    packet->order = exchange->order++;
    push(exchange, packet);
}

static void copy(struct exchange *exchange, const struct packet *packet, uint64_t later_us) {
    if (exchange->spares == 0)
        return;
    struct packet *again = exchange->spare[--exchange->spares];
    again->to = packet->to;
    again->len = packet->len;
    again->due_us = packet->due_us + later_us;
    memcpy(again->bytes, packet->bytes, packet->len);
    enter(exchange, again);
}

/* False: nothing more to read. */
static bool take_one(struct exchange *exchange, unsigned from) {
    static uint8_t waste[PACKET_BYTES];
    struct packet *packet = exchange->spares > 0 ? exchange->spare[exchange->spares - 1] : NULL;
    ssize_t len = read(exchange->run->hosts[from].device, packet != NULL ? packet->bytes : waste, PACKET_BYTES);
    if (len <= 0)
        return false;
    if (packet == NULL || len < 20 || packet->bytes[0] >> 4 != 4)
        return true;
    unsigned to = packet->bytes[19] - 1u;
    if (to >= exchange->run->plan.hosts || to == from)
        return true;
    struct hosts_way *way = &exchange->run->board->ways[from][to];
    packet->to = to;
    packet->len = (size_t)len;
    if (!suffer(exchange, way, from, packet)) {
        atomic_fetch_add(&way->lost, 1);
        return true;
    }
    exchange->spares--;
    if (chance(exchange, atomic_load(&way->twice)))
        copy(exchange, packet, fixture_below(&exchange->random, 20000));
    enter(exchange, packet);
    return true;
}

/* A device that is down, or full, loses it. */
static void deliver_due(struct exchange *exchange) {
    for (uint64_t now = now_us(); exchange->count > 0 && exchange->heap[0]->due_us <= now;) {
        struct packet *packet = pop(exchange);
        ssize_t written = write(exchange->run->hosts[packet->to].device, packet->bytes, packet->len);
        (void)written;
        exchange->spare[exchange->spares++] = packet;
    }
}

/* ---- the process ------------------------------------------------------------------------------------------------- */

static void wait_for_packets(const struct exchange *exchange, struct pollfd *devices) {
    uint64_t now = now_us(), wait_us = TURN_MS * 1000;
    if (exchange->count > 0)
        wait_us = exchange->heap[0]->due_us <= now ? 0 : exchange->heap[0]->due_us - now;
    if (wait_us > TURN_MS * 1000)
        wait_us = TURN_MS * 1000;
    struct timespec most = {.tv_nsec = (long)wait_us * 1000};
    ppoll(devices, exchange->run->plan.hosts, &most, NULL);
}

static void carry(struct hosts_run *run) {
    static struct exchange exchange;
    struct pollfd devices[HOSTS_MOST];
    exchange = (struct exchange){.run = run, .random = fixture_fork_random(&run->random, 1000), .spares = PACKETS};
    for (unsigned i = 0; i < PACKETS; i++)
        exchange.spare[i] = &packets[i];
    for (unsigned host = 0; host < run->plan.hosts; host++)
        devices[host] = (struct pollfd){.fd = run->hosts[host].device, .events = POLLIN};
    while (atomic_load(&run->board->switch_ends) == 0) {
        wait_for_packets(&exchange, devices);
        for (unsigned host = 0; host < run->plan.hosts; host++)
            for (unsigned i = 0; i < IN_A_TURN && take_one(&exchange, host); i++)
                ;
        deliver_due(&exchange);
    }
}

bool hosts_wire_start(struct hosts_run *run) {
    fflush(NULL);
    run->switch_pid = fork();
    if (run->switch_pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        carry(run);
        _exit(0);
    }
    if (run->switch_pid < 0)
        hosts_fail(run->board, "no process for the switch: %s", strerror(errno));
    return run->switch_pid > 0;
}

void hosts_wire_end(struct hosts_run *run) {
    atomic_store(&run->board->switch_ends, 1);
    if (run->switch_pid > 0 && fixture_wait(run->switch_pid) != 0)
        hosts_fail(run->board, "the switch died");
    run->switch_pid = 0;
}
