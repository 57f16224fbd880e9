/* SPDX-License-Identifier: MIT */
/* A server of one's own on a Unix socket, that goes when we go. */
#include "side.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 10000u

static uint64_t resident_bytes(pid_t pid) {
    char path[64], line[256];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmRSS: %llu kB", &kib) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kib * 1024u;
}

bool server_make_folder(struct server *server, char *why) {
    snprintf(server->folder, sizeof server->folder, "/tmp/larder-compare.XXXXXX");
    if (mkdtemp(server->folder) == NULL) {
        snprintf(why, SIDE_WHY_BYTES, "cannot make a folder for a socket: %s", strerror(errno));
        return false;
    }
    snprintf(server->socket, sizeof server->socket, "%s/socket", server->folder);
    return true;
}

static void become(char *const *argv, pid_t parent) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (null >= 0)
        for (int fd = 0; fd < 3; fd++)
            dup2(null, fd);
    if (getppid() == parent)
        execvp(argv[0], argv);
    _exit(127);
}

/* The socket has its name before its owner listens. */
static bool listens(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    bool answered = fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0)
        close(fd);
    return answered;
}

bool server_start(struct server *server, char *const *argv, char *why) {
    pid_t self = getpid();
    server->pid = fork();
    if (server->pid == 0)
        become(argv, self);
    for (unsigned waited = 0; server->pid > 0 && waited < WAIT_MS; waited += 10) {
        if (listens(server->socket))
            return true;
        if (waitpid(server->pid, NULL, WNOHANG) == server->pid)
            server->pid = 0;
        usleep(10000);
    }
    snprintf(why, SIDE_WHY_BYTES, "%s does not start: is it installed?", argv[0]);
    server_stop(server);
    return false;
}

void server_is_empty(struct server *server) {
    usleep(200000);
    server->empty_bytes = resident_bytes(server->pid);
}

uint64_t server_memory(const struct server *server) {
    uint64_t bytes = resident_bytes(server->pid);
    return bytes > server->empty_bytes ? bytes - server->empty_bytes : 0;
}

void server_stop(struct server *server) {
    if (server->pid > 0) {
        kill(server->pid, SIGKILL);
        while (waitpid(server->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    server->pid = 0;
    unlink(server->socket);
    rmdir(server->folder);
}
