/* SPDX-License-Identifier: MIT */
/* The list of verbs, in the order in which `larder --help` shows them. */
#include "cli.h"

static const struct verb *const verbs[] = {
    &verb_create,  &verb_stat,   &verb_get,   &verb_set,     &verb_del,   &verb_flush,
    &verb_ls,      &verb_procs,  &verb_peers, &verb_stripes, &verb_check, &verb_digest,
    &verb_destroy, &verb_replay, &verb_bench, &verb_version, NULL,
};

int main(int argc, char **argv) {
    return cli_main(argc, argv, verbs);
}
