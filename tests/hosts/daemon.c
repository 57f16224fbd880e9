/* SPDX-License-Identifier: MIT */
/*
 * larderd of each host, in the host's network namespace, with or without keys.
 *
 * A daemon ends only when the conductor ends it; one that ends by itself fails the run. It is asked at its control
 * socket, as `larder peers` does, how far it is with its peers.
 */
#include "hosts.h"

#include "certs.h"
#include "control_address.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>

#define PORT 7411u
#define PATIENCE_MS 60000u /* much, for a machine that is busy with other things */
#define ANSWER_S 5
#define ARGUMENTS_MOST 64u
#define TELL_BYTES 3000u
#define MEMORY_BASE (UINT64_C(8) << 20) /* what a daemon may have of its own, and for each peer: a window, tables */
#define MEMORY_PEER (UINT64_C(4) << 20)

/* ---- files ------------------------------------------------------------------------------------------------------- */

static const char *file_of(const struct hosts_run *run, const char *what, unsigned host) {
    static char path[4][512];
    static unsigned next;
    char *out = path[next++ % 4];
    snprintf(out, sizeof path[0], "%s/%" PRIu64 ".%u.%s", fixture_folder(), run->number, host, what);
    return out;
}

static void make_keys(const struct hosts_run *run) {
    if (run->plan.security == HOSTS_PSK) {
        char secret[65];
        cert_draw_secret(secret);
        cert_write_text(file_of(run, "psk", 0), secret, 0600);
    }
    if (run->plan.security != HOSTS_CERTIFICATE)
        return;
    struct cert authority = cert_make(&(struct cert_wish){.subject = "all hosts"}, NULL);
    cert_write(&authority, file_of(run, "ca", 0), NULL);
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        char names[64], subject[16];
        snprintf(names, sizeof names, "IP:10.77.0.%u", host + 1);
        snprintf(subject, sizeof subject, "host %u", host);
        struct cert cert = cert_make(&(struct cert_wish){.subject = subject, .names = names}, &authority);
        cert_write(&cert, file_of(run, "cert", host), file_of(run, "key", host));
        cert_free(&cert);
    }
    cert_free(&authority);
}

void hosts_daemons_init(struct hosts_run *run) {
    bool plain = run->plan.security == HOSTS_PLAIN;
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        struct hosts_host *at = &run->hosts[host];
        fixture_name(at->name);
        snprintf(at->log, sizeof at->log, "%s", file_of(run, "log", host));
        snprintf(at->address, sizeof at->address, "%s.77.0.%u:%u", plain ? "127" : "10", host + 1, PORT);
    }
    make_keys(run);
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static char *copy_of(const char *text) {
    char *copy = strdup(text);
    if (copy == NULL)
        abort();
    return copy;
}

static void add_option(char **arguments, unsigned *count, const char *name, const char *value) {
    arguments[(*count)++] = copy_of(name);
    arguments[(*count)++] = copy_of(value);
}

/* In the child, which ends with its larderd. */
static void become_larderd(const struct hosts_run *run, unsigned number) {
    const struct hosts_host *host = &run->hosts[number];
    char *arguments[ARGUMENTS_MOST] = {copy_of("larderd")}, text[32];
    unsigned count = 1;
    add_option(arguments, &count, "--name", host->name);
    snprintf(text, sizeof text, "%" PRIu64, run->plan.sizes[number]);
    add_option(arguments, &count, "--size", text);
    add_option(arguments, &count, "--listen", host->address);
    snprintf(text, sizeof text, "%u", run->plan.tombstone_s);
    add_option(arguments, &count, "--tombstone-s", text);
    add_option(arguments, &count, "--log", hosts_logging ? "debug" : "info");
    add_option(arguments, &count, "--compress", run->plan.compress ? "512" : "off");
    for (unsigned peer = 0; peer < run->plan.hosts; peer++)
        if (peer != number)
            add_option(arguments, &count, "--peer", run->hosts[peer].address);
    if (run->plan.security == HOSTS_PSK)
        add_option(arguments, &count, "--tls-psk-file", file_of(run, "psk", 0));
    if (run->plan.security == HOSTS_CERTIFICATE) {
        add_option(arguments, &count, "--tls-cert", file_of(run, "cert", number));
        add_option(arguments, &count, "--tls-key", file_of(run, "key", number));
        add_option(arguments, &count, "--tls-ca", file_of(run, "ca", 0));
    }
    int log = open(host->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (log < 0 || !hosts_place_enter(host) || dup2(log, 1) < 0 || dup2(log, 2) < 0)
        _exit(126);
    execv(fixture_program("larderd"), arguments);
    _exit(127);
}

/* It has ended, or what does it wait for? */
static void fail_to_start(struct hosts_run *run, unsigned number) {
    char path[64], where[64] = "?";
    int status = 0;
    if (run->hosts[number].daemon > 0 && waitpid(run->hosts[number].daemon, &status, WNOHANG) > 0) {
        run->hosts[number].daemon = 0;
        hosts_fail(run->board, "host %u: its larderd makes no segment, and ended with status %x", number,
                   (unsigned)status);
        return;
    }
    snprintf(path, sizeof path, "/proc/%ld/wchan", (long)run->hosts[number].daemon);
    FILE *file = fopen(path, "re");
    if (file != NULL && fgets(where, sizeof where, file) == NULL)
        where[0] = '\0';
    if (file != NULL)
        fclose(file);
    hosts_fail(run->board, "host %u: its larderd makes no segment within %u ms; process %ld waits in %s", number,
               PATIENCE_MS, (long)run->hosts[number].daemon, where);
}

void hosts_daemon_start(struct hosts_run *run, unsigned number) {
    struct hosts_host *host = &run->hosts[number];
    if (host->down) /* it could not bind to its address */
        hosts_place_link(run, number, true);
    hosts_log(run, "host %u: its larderd starts", number);
    fflush(NULL);
    host->daemon = fork();
    if (host->daemon == 0)
        become_larderd(run, number);
    host->stopped = false;
    host->without = HOSTS_MOST;
    uint64_t began_ns = fixture_now_ns();
    while (host->cache == NULL && fixture_now_ns() - began_ns < PATIENCE_MS * UINT64_C(1000000)) {
        host->cache = hosts_attach(host);
        if (host->cache == NULL)
            fixture_sleep_ms(10);
    }
    if (host->daemon < 0 || host->cache == NULL)
        fail_to_start(run, number);
}

int hosts_daemon_end(struct hosts_run *run, unsigned number, int signal_number) {
    struct hosts_host *host = &run->hosts[number];
    int status = 0;
    if (host->daemon <= 0)
        return 0;
    hosts_log(run, "host %u: its larderd gets signal %d", number, signal_number);
    kill(host->daemon, signal_number);
    if (host->stopped)
        kill(host->daemon, SIGCONT);
    uint64_t end_ns = fixture_now_ns() + PATIENCE_MS * UINT64_C(1000000);
    while (waitpid(host->daemon, &status, WNOHANG) != host->daemon) {
        fixture_sleep_ms(1);
        if (fixture_now_ns() < end_ns)
            continue;
        hosts_fail(run->board, "host %u: its larderd does not end within %u ms", number, PATIENCE_MS);
        kill(host->daemon, SIGKILL);
        end_ns = UINT64_MAX;
    }
    host->daemon = 0;
    host->stopped = false;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void hosts_daemon_stop(struct hosts_run *run, unsigned number, bool stopped) {
    struct hosts_host *host = &run->hosts[number];
    if (host->daemon <= 0 || host->stopped == stopped)
        return;
    hosts_log(run, "host %u: its larderd is %s", number, stopped ? "stopped" : "continued");
    kill(host->daemon, stopped ? SIGSTOP : SIGCONT);
    host->stopped = stopped;
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

static bool exchange_lines(const struct hosts_host *host, const char *line, char *answer, size_t cap) {
    struct lr_options options = lr_options_default();
    struct sockaddr_un address;
    struct timeval patience = {.tv_sec = ANSWER_S};
    size_t len = 0;
    answer[0] = '\0';
    options.name = host->name;
    int fd = lr_control_address(&options, &address, NULL) == 0 ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    ssize_t got = connect(fd, (const struct sockaddr *)&address, sizeof address);
    if (got == 0)
        got = send(fd, line, strlen(line), MSG_NOSIGNAL);
    while (got > 0 && len < cap - 1 && (got = recv(fd, answer + len, cap - 1 - len, 0)) > 0)
        len += (size_t)got;
    answer[len] = '\0';
    close(fd);
    return got == 0 && strncmp(answer, "ok\n", 3) == 0;
}

/* The number behind `tabs` tabs. */
static uint64_t field(const char *line, unsigned tabs) {
    for (; tabs > 0 && (line = strchr(line, '\t')) != NULL; tabs--)
        line++;
    return line != NULL ? strtoull(line, NULL, 10) : 0;
}

bool hosts_daemon_ask(const struct hosts_run *run, unsigned number, struct hosts_answer *out) {
    char answer[16384], *rest = answer;
    *out = (struct hosts_answer){0};
    if (!exchange_lines(&run->hosts[number], "peers list\n", answer, sizeof answer))
        return false;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (strncmp(line, "peer\t", 5) != 0)
            continue;
        out->peers++;
        out->live += strstr(line, "\tLIVE\t") != NULL;
        out->unacked += field(line, 7);
        out->resync += field(line, 18);
        out->sent += field(line, 8);
        out->unsettled += field(line, 12);
    }
    return true;
}

void hosts_daemon_change_peer(struct hosts_run *run, unsigned number, unsigned peer, bool add) {
    struct hosts_host *host = &run->hosts[number];
    char line[64], answer[1024];
    snprintf(line, sizeof line, "peers %s %s\n", add ? "add" : "remove", run->hosts[peer].address);
    hosts_log(run, "host %u: %.*s", number, (int)strcspn(line, "\n"), line);
    bool done = exchange_lines(host, line, answer, sizeof answer);
    for (unsigned ms = 0; !done && ms < PATIENCE_MS; ms += 100) { /* it may be just starting, or have heard us late */
        fixture_sleep_ms(100);
        done = exchange_lines(host, line, answer, sizeof answer) || strncmp(answer, "error\t", 6) == 0;
    }
    if (!done)
        hosts_fail(run->board, "host %u: \"%.*s\" is not answered", number, (int)strcspn(line, "\n"), line);
    host->without = add ? HOSTS_MOST : peer;
}

uint64_t hosts_daemon_memory(const struct hosts_run *run, unsigned number) {
    char path[64], line[256];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)run->hosts[number].daemon);
    FILE *file = run->hosts[number].daemon > 0 ? fopen(path, "re") : NULL;
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kib * 1024;
}

unsigned hosts_daemon_descriptors(const struct hosts_run *run, unsigned number) {
    char path[64];
    unsigned count = 0;
    snprintf(path, sizeof path, "/proc/%ld/fd", (long)run->hosts[number].daemon);
    DIR *folder = run->hosts[number].daemon > 0 ? opendir(path) : NULL;
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
        count += entry->d_name[0] != '.';
    if (folder != NULL)
        closedir(folder);
    return count;
}

void hosts_daemons_look(struct hosts_run *run) {
    for (unsigned number = 0; number < run->plan.hosts; number++) {
        struct hosts_host *host = &run->hosts[number];
        int status;
        if (host->daemon > 0 && waitpid(host->daemon, &status, WNOHANG) == host->daemon) {
            host->daemon = 0;
            hosts_fail(run->board, "host %u: its larderd ended by itself, status %x", number, (unsigned)status);
        }
        uint64_t bytes = hosts_daemon_memory(run, number);
        host->memory_most = bytes > host->memory_most ? bytes : host->memory_most;
        if (!FIXTURE_SANITIZED && bytes > MEMORY_BASE + (run->plan.hosts - 1) * MEMORY_PEER)
            hosts_fail(run->board, "host %u: its larderd has %" PRIu64 " KiB of memory", number, bytes / 1024);
    }
}

void hosts_daemons_tell(const struct hosts_run *run) {
    static char bytes[TELL_BYTES + 1];
    for (unsigned number = 0; number < run->plan.hosts; number++) {
        FILE *file = fopen(run->hosts[number].log, "re");
        if (file == NULL)
            continue;
        if (fseek(file, -(long)TELL_BYTES, SEEK_END) != 0)
            rewind(file);
        size_t len = fread(bytes, 1, TELL_BYTES, file);
        bytes[len] = '\0';
        fclose(file);
        fprintf(stderr, "  host %u's larderd said last:\n%s\n", number, bytes);
    }
}
