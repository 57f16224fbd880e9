/* SPDX-License-Identifier: MIT */
/*
 * The picture of bench_plot.h. The scale is logarithmic, because a size of 1 MiB and a peer behind a socket stand
 * beside gets of some ten nanoseconds; its lines are powers of ten.
 */
#include "bench_plot.h"

#include "larder_errors.h"

#include <math.h>
#include <stdio.h>

#define LEFT 190.0
#define WIDTH 560.0 /* of the bars */
#define TOP 48.0
#define ROW 30.0

/* Texts are made here or by the command line's own rows: nothing in them needs escaping. */
static double x_of(double ns, double low, double high) {
    double at = (log10(fmax(ns, low)) - log10(low)) / (log10(high) - log10(low));
    return LEFT + WIDTH * at;
}

static void write_bar(FILE *out, double y, double ns, const char *colour, double low, double high) {
    double end = x_of(ns, low, high);
    fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"11\" fill=\"%s\"/>\n", LEFT, y,
            fmax(end - LEFT, 1.0), colour);
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"10\">%.4g</text>\n", end + 4.0, y + 9.5, ns);
}

int plot_write(const char *file, const char *title, const struct plot_row *rows, size_t count) {
    double least = INFINITY, most = 1.0;
    for (size_t i = 0; i < count; i++) {
        least = fmin(least, rows[i].floor_ns > 0 ? fmin(rows[i].ns, rows[i].floor_ns) : rows[i].ns);
        most = fmax(most, fmax(rows[i].ns, rows[i].floor_ns));
    }
    const double low = pow(10.0, floor(log10(fmax(least, 1.0)))), high = pow(10.0, ceil(log10(most * 1.01)));
    const double height = TOP + ROW * (double)count + 28.0;
    FILE *out = fopen(file, "we");
    if (out == NULL)
        return LARDER_ESYSTEM;
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 820 %.0f\" font-family=\"sans-serif\" "
            "font-size=\"12\">\n<rect width=\"820\" height=\"%.0f\" fill=\"white\"/>\n"
            "<text x=\"10\" y=\"18\" font-size=\"14\">%s</text>\n"
            "<text x=\"10\" y=\"34\" font-size=\"11\">nanoseconds for each operation, logarithmic; grey: the "
            "floor</text>\n",
            height, height, title);
    for (double at = low; at <= high * 1.001; at *= 10.0)
        fprintf(out,
                "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n"
                "<text x=\"%.1f\" y=\"%.1f\" font-size=\"10\" text-anchor=\"middle\">%.0f</text>\n",
                x_of(at, low, high), TOP, x_of(at, low, high), height - 20.0, x_of(at, low, high), height - 8.0, at);
    for (size_t i = 0; i < count; i++) {
        double y = TOP + ROW * (double)i;
        fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", LEFT - 6.0, y + 15.0,
                rows[i].label);
        write_bar(out, y + 2.0, rows[i].ns, "#2b6cb0", low, high);
        if (rows[i].floor_ns > 0)
            write_bar(out, y + 14.0, rows[i].floor_ns, "#a0aec0", low, high);
    }
    fprintf(out, "</svg>\n");
    return fclose(out) == 0 ? 0 : LARDER_ESYSTEM;
}
