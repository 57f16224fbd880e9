/* SPDX-License-Identifier: MIT */
/* A server of tools/peers.c that is weighed, and asked by its own client library. */
#include "peer_kinds.h"
#include "side.h"

#include <stdio.h>
#include <unistd.h>

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
    server->peer = peer_create(NULL, why);
    if (server->peer != NULL)
        snprintf(server->socket, sizeof server->socket, "%s/s", server->peer->folder);
    return server->peer != NULL;
}

bool server_start(struct server *server, char *const *argv, char *why) {
    if (!peer_has_program(argv[0]))
        snprintf(why, SIDE_WHY_BYTES, "there is no program %s", argv[0]);
    else if (peer_spawn(server->peer, argv, false, why) == 0 && peer_connect(server->peer, server->socket, why) == 0)
        return true;
    server_stop(server);
    return false;
}

void server_is_empty(struct server *server) {
    usleep(200000);
    server->empty_bytes = resident_bytes(server->peer->pid);
}

uint64_t server_memory(const struct server *server) {
    uint64_t bytes = resident_bytes(server->peer->pid);
    return bytes > server->empty_bytes ? bytes - server->empty_bytes : 0;
}

void server_stop(struct server *server) {
    peer_stop(server->peer);
    server->peer = NULL;
}
