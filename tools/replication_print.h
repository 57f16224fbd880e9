/* SPDX-License-Identifier: MIT */
/* What `larder bench --replication` prints: tables, or one JSON object. */
#ifndef LARDER_REPLICATION_PRINT_H
#define LARDER_REPLICATION_PRINT_H

#include "bench_replication.h"
#include "cli.h"

void replication_print(const struct replication_options *options, const struct replication_result *result);
json_t *replication_json(const struct replication_options *options, const struct replication_result *result);
void replication_print_scene(const char *name, const struct replication_options *options,
                             const struct replication_scene *scene);
json_t *replication_scene_json(const char *name, const struct replication_options *options,
                               const struct replication_scene *scene);

#endif
