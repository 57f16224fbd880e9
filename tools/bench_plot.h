/* SPDX-License-Identifier: MIT */
/* Draws the rows of a benchmark as an SVG picture: a pair of bars for each, the engine above the floor. */
#ifndef LARDER_BENCH_PLOT_H
#define LARDER_BENCH_PLOT_H

#include <stddef.h>

struct plot_row {
    char label[48];
    double ns, floor_ns; /* floor_ns 0: there is none */
};

/* 0, or LARDER_ESYSTEM with errno. */
int plot_write(const char *file, const char *title, const struct plot_row *rows, size_t count);

#endif
