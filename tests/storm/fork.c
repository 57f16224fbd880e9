/* SPDX-License-Identifier: MIT */
/* Workers as forked children: where a sanitizer or a runner of suites has threads and memory of its own. clone.c is the
 * other way. */
#include "storm.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "attachment.h"

/* The child's page tables lack the shared memory: filled at once, or most of a short life goes into page faults. By
 * reading: the kernel then maps many pages at each fault, and writable, for nobody needs to hear of writes to them. */
static void touch_pages(const struct storm *storm) {
    const struct lr_cache *cache = storm->cache;
    const struct lr_geometry *geometry = &cache->geometry;
    size_t bytes = geometry->segment_bytes - geometry->control_off;
    (void)madvise(cache->base + geometry->control_off, bytes, MADV_POPULATE_READ);
    history_touch_pages(storm->history);
}

void storm_expect(struct storm *storm) {
    (void)storm; /* a child has copies of all it needs */
}

int storm_live(struct storm *storm, unsigned number, uint64_t seed) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* one that is stuck ends with its nursery */
        touch_pages(storm);
        _exit(storm_worker(storm, number, seed));
    }
    return child > 0 && waitpid(child, &status, 0) == child ? status : -1;
}
