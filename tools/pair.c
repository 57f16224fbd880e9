/* SPDX-License-Identifier: MIT */
/* See pair.h. The socket's bytes are asked of the kernel by netlink (sock_diag), as ss(8) does. */
#include "pair.h"

#include "control_address.h"
#include "ticks.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ESTABLISHED_ONLY (1u << 1)
#define START_MS 5000u

/* ---- what it needs ---------------------------------------------------------------------------------------------- */

unsigned pair_free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unsigned port = 0;
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &len) == 0)
        port = ntohs(address.sin_port);
    if (fd >= 0)
        close(fd);
    return port;
}

static bool write_key(const char *file) {
    uint8_t key[32];
    char line[2 * sizeof key + 2u];
    if (getrandom(key, sizeof key, 0) != (ssize_t)sizeof key)
        return false;
    for (unsigned i = 0; i < sizeof key; i++)
        sprintf(line + 2 * i, "%02x", key[i]);
    line[2 * sizeof key] = '\n';
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool written = fd >= 0 && write(fd, line, 2 * sizeof key + 1u) == (ssize_t)(2 * sizeof key + 1u);
    if (fd >= 0)
        close(fd);
    return written;
}

/* The larderd of this build, or of this installation. */
static void find_program(char *out, size_t cap) {
    ssize_t len = readlink("/proc/self/exe", out, cap - 1);
    out[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(out, '/');
    if (slash != NULL && (size_t)(slash - out) + sizeof "/larderd" <= cap)
        strcpy(slash, "/larderd");
    if (slash == NULL || access(out, X_OK) != 0)
        snprintf(out, cap, "larderd");
}

int pair_create(struct pair *pair, const struct pair_options *options, char *why) {
    *pair = (struct pair){.options = *options};
    for (unsigned i = 0; i < 2; i++) {
        struct pair_host *host = &pair->host[i];
        struct lr_options create = lr_options_default();
        snprintf(host->name, sizeof host->name, "bench.%ld.%08" PRIx32 ".%s", (long)getpid(),
                 (uint32_t)ticks_clock_ns(), i == 0 ? "first" : "second");
        create.name = host->name;
        create.size = options->size;
        create.who = "bench";
        create.prefault = true;
        int error = lr_cache_create(&create, &host->cache, why);
        if (error != 0)
            return error;
        do
            host->port = pair_free_port();
        while (i == 1 && host->port == pair->host[0].port);
    }
    snprintf(pair->folder, sizeof pair->folder, "/dev/shm/larder-pair.XXXXXX");
    if (mkdtemp(pair->folder) == NULL) {
        pair->folder[0] = '\0';
        snprintf(why, LR_WHY_BYTES, "cannot make a folder in /dev/shm: %s", strerror(errno));
        return LARDER_ESYSTEM;
    }
    if (!options->tls)
        return 0;
    snprintf(pair->key, sizeof pair->key, "%s/psk", pair->folder);
    if (write_key(pair->key))
        return 0;
    snprintf(why, LR_WHY_BYTES, "cannot write %s: %s", pair->key, strerror(errno));
    return LARDER_ESYSTEM;
}

void pair_destroy(struct pair *pair) {
    for (unsigned i = 0; i < 2; i++) {
        struct lr_options options = lr_options_default();
        pair_stop(pair, i);
        options.name = pair->host[i].name;
        if (pair->host[i].cache == NULL)
            continue;
        lr_cache_detach(pair->host[i].cache);
        pair->host[i].cache = NULL;
        lr_cache_destroy(&options, NULL);
    }
    if (pair->key[0] != '\0')
        unlink(pair->key);
    if (pair->folder[0] != '\0')
        rmdir(pair->folder);
}

/* ---- daemons ---------------------------------------------------------------------------------------------------- */

static void become(char *const *words, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    setpgid(0, 0); /* an interrupt from the keyboard is for us, who then end it */
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    execvp(words[0], words);
    _exit(127);
}

/* Whether its larderd has taken the segment up. */
static bool is_alive(const struct pair_host *host) {
    struct lr_sidecar_state state;
    lr_sidecar_state(host->cache, &state);
    return state.alive;
}

int pair_start(struct pair *pair, unsigned which, char *why) {
    struct pair_host *host = &pair->host[which];
    char program[4096], listen[32], peer[32], compress[32];
    char *words[20] = {program,  "--name",   host->name, "--listen", listen,       "--peer", peer,
                       "--node", host->name, "--log",    "error",    "--compress", compress, NULL};
    find_program(program, sizeof program);
    snprintf(listen, sizeof listen, "127.0.0.1:%u", host->port);
    snprintf(peer, sizeof peer, "127.0.0.1:%u", pair->host[1 - which].port);
    snprintf(compress, sizeof compress, pair->options.compress > 0 ? "%" PRIu64 : "off", pair->options.compress);
    if (pair->options.tls) {
        words[13] = "--tls-psk-file";
        words[14] = pair->key;
    }
    pid_t self = getpid();
    fflush(NULL);
    host->daemon = fork();
    if (host->daemon == 0)
        become(words, self);
    for (unsigned ms = 0; host->daemon > 0 && ms < START_MS; ms++) {
        if (is_alive(host))
            return 0;
        if (waitpid(host->daemon, NULL, WNOHANG) == host->daemon)
            break;
        usleep(1000);
    }
    host->daemon = host->daemon > 0 && kill(host->daemon, 0) == 0 ? host->daemon : 0;
    snprintf(why, LR_WHY_BYTES, "%.400s does not start", program);
    return LARDER_ESYSTEM;
}

void pair_stop(struct pair *pair, unsigned which) {
    pid_t *daemon = &pair->host[which].daemon;
    if (*daemon <= 0)
        return;
    kill(*daemon, SIGKILL);
    while (waitpid(*daemon, NULL, 0) < 0 && errno == EINTR)
        continue;
    *daemon = 0;
    struct lr_options options = lr_options_default();
    struct sockaddr_un control;
    options.name = pair->host[which].name;
    if (lr_control_address(&options, &control, NULL) == 0)
        unlink(control.sun_path); /* it had no time to */
}

bool pair_is_linked(const struct pair *pair) {
    for (unsigned i = 0; i < 2; i++) {
        struct lr_sidecar_state state;
        lr_sidecar_state(pair->host[i].cache, &state);
        if (!state.alive || state.connected != 1)
            return false;
    }
    return true;
}

uint64_t pair_unacked(const struct pair *pair) {
    struct lr_sidecar_state state;
    lr_sidecar_state(pair->host[0].cache, &state);
    return state.unacked;
}

/* ---- what the kernel says --------------------------------------------------------------------------------------- */

uint64_t process_cpu_ns(pid_t pid) {
    clockid_t clock;
    struct timespec used;
    if (pid <= 0 || clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
        return 0;
    return (uint64_t)used.tv_sec * UINT64_C(1000000000) + (uint64_t)used.tv_nsec;
}

/* One end of a connection: is it the link's, and whose? */
static void add_socket(const struct pair *pair, const struct nlmsghdr *message, struct pair_wire *out) {
    const struct inet_diag_msg *socket = NLMSG_DATA(message);
    const unsigned port = ntohs(socket->id.idiag_sport);
    unsigned left = message->nlmsg_len - (unsigned)NLMSG_LENGTH(sizeof *socket);
    if (port != pair->host[0].port && port != pair->host[1].port)
        return;
    for (const struct rtattr *at = (const void *)(socket + 1); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
        struct tcp_info info = {0};
        if (at->rta_type != INET_DIAG_INFO)
            continue;
        memcpy(&info, RTA_DATA(at), RTA_PAYLOAD(at) < sizeof info ? RTA_PAYLOAD(at) : sizeof info);
        const bool firsts = port == pair->host[0].port;
        out->there += firsts ? info.tcpi_bytes_acked : info.tcpi_bytes_received;
        out->back += firsts ? info.tcpi_bytes_received : info.tcpi_bytes_acked;
    }
}

struct pair_wire pair_wire(const struct pair *pair) {
    struct pair_wire wire = {0};
    struct {
        struct nlmsghdr head;
        struct inet_diag_req_v2 want;
    } ask = {
        .head = {.nlmsg_len = sizeof ask, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .want = {.sdiag_family = AF_INET,
                 .sdiag_protocol = IPPROTO_TCP,
                 .idiag_ext = 1u << (INET_DIAG_INFO - 1),
                 .idiag_states = ESTABLISHED_ONLY}};
    static _Alignas(struct nlmsghdr) char buffer[32768];
    int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    bool more = fd >= 0 && send(fd, &ask, sizeof ask, 0) == (ssize_t)sizeof ask;
    while (more) {
        ssize_t got = recv(fd, buffer, sizeof buffer, 0);
        unsigned left = got > 0 ? (unsigned)got : 0;
        more = left > 0;
        for (const struct nlmsghdr *at = (const void *)buffer; NLMSG_OK(at, left); at = NLMSG_NEXT(at, left)) {
            more = more && at->nlmsg_type == SOCK_DIAG_BY_FAMILY;
            if (at->nlmsg_type == SOCK_DIAG_BY_FAMILY)
                add_socket(pair, at, &wire);
        }
    }
    if (fd >= 0)
        close(fd);
    return wire;
}
