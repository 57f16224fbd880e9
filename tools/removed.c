/* SPDX-License-Identifier: MIT */
/*
 * Who still uses a segment whose name was removed under him?
 *
 * rm, a container that cleans up, or systemd-logind (RemoveIPC=yes, at a user's last logout) can take the name of a
 * segment that is in use. Those who are attached go on, those who start later create another one: two caches that do
 * not know of each other. `larder destroy` does not do that, for it retires the segment first.
 *
 * A segment without a name cannot be opened, but the kernel shows it in the maps of those who have it, with its old
 * path, the device, and "(deleted)"; or its liveness file's, for a segment's creator mapped it before it had a name. A
 * process that was told RETIRED and has not closed its handle yet is shown too.
 */
#include "removed.h"

#include "segment_facts.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* address perms offset major:minor inode path */
static bool is_removed(const char *line, const char *file, dev_t device) {
    unsigned major_number, minor_number;
    int path = 0;
    if (sscanf(line, "%*s %*s %*s %x:%x %*s %n", &major_number, &minor_number, &path) < 2 || path == 0)
        return false;
    size_t len = strlen(file);
    if (strncmp(line + path, file, len) != 0 || makedev(major_number, minor_number) != device)
        return false;
    const char *rest = line + path + len;
    return strcmp(rest, " (deleted)\n") == 0 || strcmp(rest, ".live (deleted)\n") == 0;
}

static bool maps_it(const char *pid, const char *file, dev_t device) {
    char path[300], line[SEGMENT_FILE_BYTES + 200];
    snprintf(path, sizeof path, "/proc/%.255s/maps", pid);
    FILE *maps = fopen(path, "re");
    bool found = false;
    if (maps == NULL)
        return false;
    while (!found && fgets(line, sizeof line, maps) != NULL)
        found = is_removed(line, file, device);
    fclose(maps);
    return found;
}

void removed_look(const struct lr_options *options, struct removed_users *out) {
    char file[SEGMENT_FILE_BYTES], folder[SEGMENT_FILE_BYTES];
    struct stat around;
    *out = (struct removed_users){0};
    segment_file(file, options);
    if (file[0] != '/') /* in a memfd: there is no name; or a relative path, which maps do not have */
        return;
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(file, '/') - file + 1), file);
    DIR *processes = opendir("/proc");
    if (processes == NULL)
        return;
    for (struct dirent *entry = readdir(processes); entry != NULL && stat(folder, &around) == 0;
         entry = readdir(processes)) {
        if (!isdigit((unsigned char)entry->d_name[0]) || !maps_it(entry->d_name, file, around.st_dev))
            continue;
        if (out->count < REMOVED_FIRST)
            out->pids[out->count] = (uint32_t)strtoul(entry->d_name, NULL, 10);
        out->count++;
    }
    closedir(processes);
}

void removed_describe(const struct removed_users *users, char *out, size_t cap) {
    size_t len = 0;
    out[0] = 0;
    if (users->count == 0)
        return;
    len += (size_t)snprintf(out, cap, "%u process%s still ha%s a segment of this name that was removed (pid",
                            users->count, users->count == 1 ? "" : "es", users->count == 1 ? "s" : "ve");
    for (unsigned i = 0; i < users->count && i < REMOVED_FIRST && len < cap; i++)
        len += (size_t)snprintf(out + len, cap - len, "%s %" PRIu32, i > 0 ? "," : "", users->pids[i]);
    if (len < cap)
        snprintf(out + len, cap - len,
                 "%s): unless they are about to close it, restart them, or they and others have two caches",
                 users->count > REMOVED_FIRST ? " and more" : "");
}
