/* SPDX-License-Identifier: MIT */
/*
 * APCu lives inside PHP, so a PHP process does the work and times it: what a PHP application pays, the interpreter's
 * loop included. It is told one request at a time over its standard input:
 *
 *   work count batch value_len key_len LF keys        answered by        nanoseconds done LF
 */
#include "peer_kinds.h"

#include "larder_errors.h"

#include <inttypes.h>

static const char script[] =
    "if (!function_exists('apcu_fetch') || !apcu_enabled()) { echo \"none\\n\"; exit; } echo \"ready\\n\";"
    "while (($line = fgets(STDIN)) !== false) {"
    " [$work, $count, $batch, $len, $key] = array_map('intval', explode(' ', $line));"
    " $keys = str_split(stream_get_contents(STDIN, $count * $key), $key); $value = str_repeat('v', $len); $done = 0;"
    " $lists = array_chunk($keys, $batch); $twice = 0;"
    " foreach ($lists as $list) $twice += count($list) - count(array_flip($list));"
    " $start = hrtime(true);"
    " if ($work == 0) { foreach ($keys as $k) if (apcu_fetch($k) !== false) $done++; }"
    " elseif ($work == 1) { foreach ($lists as $list) $done += count(apcu_fetch($list)); $done += $twice; }"
    " elseif ($work == 2) { foreach ($keys as $k) if (apcu_store($k, $value)) $done++; }"
    " else { foreach ($keys as $k) if (apcu_delete($k)) $done++; }"
    " $ns = hrtime(true) - $start; echo \"$ns $done\\n\"; }";

static int start(struct peer *peer, char *why) {
    char size[64], hint[64], line[16] = "";
    char *words[] = {"php", "-d", "apc.enable_cli=1", "-d", size, "-d", hint, "-r", NULL, NULL};
    if (!peer_has_program("php")) {
        snprintf(why, PEER_WHY_BYTES, "there is no program php");
        return LARDER_ENOT_FOUND;
    }
    snprintf(size, sizeof size, "apc.shm_size=%" PRIu64 "M", (peer->bytes * 2u >> 20) + 64u);
    /* Its table does not grow: with the default of 4,096 slots a hundred thousand items are chains of 25. */
    snprintf(hint, sizeof hint, "apc.entries_hint=%" PRIu64, peer->bytes / 128u + 4096u);
    words[8] = (char *)(uintptr_t)script;
    int error = peer_spawn(peer, words, true, why);
    if (error != 0)
        return error;
    if (peer->from == NULL || fgets(line, sizeof line, peer->from) == NULL || line[0] != 'r') {
        snprintf(why, PEER_WHY_BYTES, "php has no APCu, or not for its command line");
        return LARDER_ENOT_FOUND;
    }
    return 0;
}

static int64_t work(struct peer *peer, const struct peer_request *request, uint64_t *ns) {
    int64_t done;
    size_t batch = request->work == PEER_GET_MANY ? request->batch : request->count;
    fprintf(peer->to, "%d %zu %zu %zu %zu\n", (int)request->work, request->count, batch, request->value_len,
            request->key_len);
    fwrite(request->keys, request->key_len, request->count, peer->to);
    fflush(peer->to);
    if (fscanf(peer->from, "%" SCNu64 " %" SCNd64, ns, &done) != 2)
        return LARDER_ESYSTEM;
    return done;
}

const struct peer_ways peer_apcu = {start, work, NULL};
