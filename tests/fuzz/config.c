/* SPDX-License-Identifier: MIT */
/*
 * What larderd is told (sidecar/config.c): flags and an INI file.
 *
 *   input: arguments, each ended by a NUL, at most 6 | the file
 *
 * Refused with a reason, or every field is in its range; reading twice gives the same.
 */
#include "fuzz.h"

#include "config.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void within(const struct lr_config *config) {
    char host[LR_ADDRESS_BYTES], port[6], why[LR_WHY_BYTES];
    MUST((config->name[0] != 0) + (config->path[0] != 0) + (config->memfd[0] != 0) == 1);
    MUST(memchr(config->name, 0, sizeof config->name) != NULL && memchr(config->path, 0, sizeof config->path) != NULL);
    MUST(config->size > 0 && config->mode != 0 && (config->mode & ~(mode_t)0777) == 0);
    MUST(config->clock_limit_ms >= 10 && config->tombstone_ms >= 1000 && config->tombstone_ms <= 86400000);
    MUST(config->peer_count <= LR_MAX_PEERS && config->log_level >= 0);
    MUST(lr_config_split(config->listen, host, port, why));
    for (unsigned i = 0; i < config->peer_count; i++) {
        MUST(lr_config_split(config->peers[i], host, port, why) && host[0] != 0 && atoi(port) > 0);
        for (unsigned k = 0; k < i; k++)
            MUST(strcmp(config->peers[i], config->peers[k]) != 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    static int fd = -1;
    static char path[64];
    static struct lr_config config, again;
    char why[LR_WHY_BYTES] = "", other[LR_WHY_BYTES] = "", words[6][128];
    char *argv[10] = {(char *)(uintptr_t) "larderd", (char *)(uintptr_t) "--config", path};
    int argc = 3;
    if (fd < 0) {
        fd = memfd_create("config", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    while (argc < 9 && len > 0) {
        const uint8_t *stop = memchr(data, 0, len < 127 ? len : 127);
        if (stop == NULL)
            break;
        size_t used = (size_t)(stop - data) + 1;
        memcpy(words[argc - 3], data, used);
        argv[argc] = words[argc - 3];
        argc++;
        data += used;
        len -= used;
    }
    MUST(ftruncate(fd, 0) == 0 && pwrite(fd, data, len, 0) == (ssize_t)len);
    enum lr_config_outcome outcome = lr_config_read(argc, argv, &config, why);
    MUST(lr_config_read(argc, argv, &again, other) == outcome);
    MUST(memchr(why, 0, sizeof why) != NULL && strcmp(why, other) == 0);
    if (outcome == LR_CONFIG_WRONG)
        MUST(why[0] != 0);
    if (outcome == LR_CONFIG_RUN) {
        MUST(memcmp(&config, &again, sizeof config) == 0);
        within(&config);
    }
    return 0;
}
