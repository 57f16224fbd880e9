/* SPDX-License-Identifier: MIT */
/*
 * Miss-ratio curves as an SVG file that any browser shows: a panel for each trace, the size in bytes from left to right
 * by its logarithm, the miss ratio upwards from 0 to a round number above the highest.
 *
 *   +--------------------+ +----------     The exact LRU curve is a grey line; the engine's policies are thick, the
 *   | trace              | |               references thin, dashed where objects are charged metadata.
 *   |   \__ ...          | |               Below the panels stands what each colour means.
 *   +--------------------+ +----------
 */
#include "cli.h"
#include "sweep.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define COLUMNS 2u
#define PANEL_WIDTH 560.0
#define PANEL_HEIGHT 340.0
#define LEFT 62.0 /* of a panel's frame, as are these */
#define RIGHT 16.0
#define TOP 34.0
#define BOTTOM 44.0
#define LEGEND_LINE 20.0
#define LEGEND_COLUMN 270.0

struct panel {
    double x, y;      /* its upper left corner */
    double low, high; /* logarithms of bytes */
    double most;      /* miss ratio at the top */
};

/* Distinct also for most who are colour-blind: the colours of M. Okabe and K. Ito, 2008, and shades of them. */
static const char *const colours[] = {"#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
                                      "#000000", "#7a5195", "#8c564b", "#6b8e23", "#b22222", "#2f4f4f"};

static const char *colour_of(unsigned series) {
    return colours[series % (sizeof colours / sizeof colours[0])];
}

static void put_escaped(FILE *out, const char *text) {
    for (; *text != '\0'; text++)
        switch (*text) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        default:
            fputc((unsigned char)*text >= ' ' && (unsigned char)*text < 127 ? *text : '?', out);
        }
}

static double x_of(const struct panel *panel, uint64_t bytes) {
    double share = panel->high > panel->low ? (log((double)bytes) - panel->low) / (panel->high - panel->low) : 0.5;
    return panel->x + LEFT + share * (PANEL_WIDTH - LEFT - RIGHT);
}

static double y_of(const struct panel *panel, double miss_ratio) {
    return panel->y + PANEL_HEIGHT - BOTTOM - miss_ratio / panel->most * (PANEL_HEIGHT - TOP - BOTTOM);
}

static unsigned cell_count(const struct sweep_options *options) {
    return options->policy_count + options->reference_count * options->charge_count;
}

/* ---- a panel ---------------------------------------------------------------------------------------------------- */

static void span_panel(const struct sweep_options *options, const struct sweep_trace *trace, struct panel *panel) {
    double most = 0;
    uint64_t low = UINT64_MAX, high = 1;
    for (unsigned row = 0; row < options->size_count; row++) {
        const struct sweep_row *at = &trace->rows[row];
        for (unsigned cell = 0; at->bytes > 0 && cell < cell_count(options); cell++)
            most = at->cells[cell].state == SWEEP_DONE ? fmax(most, at->cells[cell].miss_ratio) : most;
        low = at->bytes > 0 && at->bytes < low ? at->bytes : low;
        high = at->bytes > high ? at->bytes : high;
    }
    for (unsigned i = 0; i < trace->curve.count; i++) {
        most = fmax(most, trace->curve.miss_ratio[i]);
        low = trace->curve.bytes[i] < low ? trace->curve.bytes[i] : low;
        high = trace->curve.bytes[i] > high ? trace->curve.bytes[i] : high;
    }
    panel->low = log((double)(low < high ? low : high));
    panel->high = log((double)high);
    panel->most = most > 0.5 ? 1.0 : most > 0.2 ? 0.5 : 0.2;
}

static void draw_axes(FILE *out, const struct panel *panel, const char *title) {
    double left = panel->x + LEFT, right = panel->x + PANEL_WIDTH - RIGHT;
    double bottom = panel->y + PANEL_HEIGHT - BOTTOM;
    char text[CLI_FORMAT_BYTES];
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"14\" font-weight=\"bold\">", left, panel->y + TOP - 12);
    put_escaped(out, title);
    fputs("</text>\n", out);
    for (unsigned i = 0; i <= 5; i++) {
        double miss_ratio = panel->most * i / 5, y = y_of(panel, miss_ratio);
        fprintf(out, "<path d=\"M%.1f %.1fH%.1f\" stroke=\"#ddd\"/>\n", left, y, right);
        fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.2f</text>\n", left - 6, y + 4, miss_ratio);
    }
    /* Powers of two, at most seven of them. */
    unsigned first = (unsigned)ceil(panel->low / log(2)), last = (unsigned)floor(panel->high / log(2));
    for (unsigned power = first; power <= last; power += last - first > 6 ? (last - first) / 6 : 1) {
        double x = x_of(panel, UINT64_C(1) << power);
        cli_format_bytes(text, UINT64_C(1) << power);
        fprintf(out, "<path d=\"M%.1f %.1fV%.1f\" stroke=\"#ddd\"/>\n", x, panel->y + TOP, bottom);
        fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", x, bottom + 16, text);
    }
    fprintf(out, "<path d=\"M%.1f %.1fV%.1fH%.1f\" fill=\"none\" stroke=\"#333\"/>\n", left, panel->y + TOP, bottom,
            right);
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">cache size</text>\n", (left + right) / 2,
            bottom + 34);
    fprintf(out, "<text transform=\"translate(%.1f %.1f) rotate(-90)\" text-anchor=\"middle\">miss ratio</text>\n",
            panel->x + 16, (panel->y + TOP + bottom) / 2);
}

static void draw_curve(FILE *out, const struct panel *panel, const struct lru_curve *curve) {
    if (curve->count == 0)
        return;
    fputs("<path fill=\"none\" stroke=\"#999\" stroke-width=\"3\" d=\"", out);
    for (unsigned i = 0; i < curve->count; i++)
        fprintf(out, "%s%.1f %.1f", i ? "L" : "M", x_of(panel, curve->bytes[i]), y_of(panel, curve->miss_ratio[i]));
    fputs("\"/>\n", out);
}

/* The next larger size after `after` at which the cell is done; NULL: there is none. */
static const struct sweep_row *next_row(const struct sweep_options *options, const struct sweep_trace *trace,
                                        unsigned cell, uint64_t after) {
    const struct sweep_row *next = NULL;
    for (unsigned row = 0; row < options->size_count; row++) {
        const struct sweep_row *at = &trace->rows[row];
        if (at->bytes > after && at->cells[cell].state == SWEEP_DONE && (next == NULL || at->bytes < next->bytes))
            next = at;
    }
    return next;
}

static const char *stroke_of(const struct sweep_options *options, unsigned cell) {
    static const char *const dashes[] = {"", " stroke-dasharray=\"6 3\"", " stroke-dasharray=\"2 3\""};
    if (cell < options->policy_count)
        return " stroke-width=\"2.5\"";
    return dashes[(cell - options->policy_count) / options->reference_count % 3];
}

/* A policy and its references in all charges have one colour each. */
static unsigned hue_of(const struct sweep_options *options, unsigned cell) {
    if (cell < options->policy_count)
        return cell;
    return options->policy_count + (cell - options->policy_count) % options->reference_count;
}

static void draw_series(FILE *out, const struct panel *panel, const struct sweep_options *options,
                        const struct sweep_trace *trace, unsigned cell) {
    const char *colour = colour_of(hue_of(options, cell));
    const struct sweep_row *row = next_row(options, trace, cell, 0);
    if (row == NULL)
        return;
    fprintf(out, "<path fill=\"none\" stroke=\"%s\"%s d=\"", colour, stroke_of(options, cell));
    for (const char *step = "M"; row != NULL; row = next_row(options, trace, cell, row->bytes), step = "L")
        fprintf(out, "%s%.1f %.1f", step, x_of(panel, row->bytes), y_of(panel, row->cells[cell].miss_ratio));
    fputs("\"/>\n", out);
    for (row = next_row(options, trace, cell, 0); row != NULL; row = next_row(options, trace, cell, row->bytes))
        fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%s\" fill=\"%s\"/>\n", x_of(panel, row->bytes),
                y_of(panel, row->cells[cell].miss_ratio), cell < options->policy_count ? "3.5" : "2", colour);
}

/* ---- the legend ------------------------------------------------------------------------------------------------- */

/* `wide`: keys beside each other. */
static void draw_key(FILE *out, unsigned wide, unsigned place, double y, const char *style, const char *text) {
    double x = LEFT + LEGEND_COLUMN * (place % wide);
    y += LEGEND_LINE * (place / wide);
    fprintf(out, "<path d=\"M%.1f %.1fh32\" fill=\"none\" %s/>\n<text x=\"%.1f\" y=\"%.1f\">", x, y - 4, style, x + 40,
            y);
    put_escaped(out, text);
    fputs("</text>\n", out);
}

static void draw_legend(FILE *out, const struct sweep_options *options, unsigned wide, double y) {
    char style[128], text[96], charge[32];
    draw_key(out, wide, 0, y, "stroke=\"#999\" stroke-width=\"3\"", "exact LRU, no metadata");
    for (unsigned cell = 0; cell < cell_count(options); cell++) {
        unsigned number = cell - options->policy_count; /* of a reference */
        snprintf(style, sizeof style, "stroke=\"%s\"%s", colour_of(hue_of(options, cell)), stroke_of(options, cell));
        if (cell < options->policy_count)
            snprintf(text, sizeof text, "Larder, %s", lr_policy_name(options->policies[cell]));
        else
            snprintf(text, sizeof text, "%s, %s",
                     reference_title(options->references[number % options->reference_count]),
                     sweep_charge_text(options->charges[number / options->reference_count], charge));
        draw_key(out, wide, cell + 1, y, style, text);
    }
}

int sweep_plot(const struct sweep_options *options, const struct sweep_result *result, const char *file) {
    unsigned columns = options->source_count < COLUMNS ? 1 : COLUMNS;
    unsigned lines = (options->source_count + columns - 1) / columns, keys = cell_count(options) + 1,
             wide = 2 * columns;
    double width = columns * PANEL_WIDTH, panels = lines * PANEL_HEIGHT;
    double height = panels + LEGEND_LINE * ((keys + wide - 1) / wide + 1);
    FILE *out = fopen(file, "we");
    if (out == NULL)
        return -1;
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" "
            "font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
            width, height, width, height);
    for (unsigned t = 0; t < options->source_count; t++) {
        const struct sweep_trace *trace = &result->traces[t];
        struct panel panel = {.x = PANEL_WIDTH * (t % columns), .y = PANEL_HEIGHT * (t / columns)};
        span_panel(options, trace, &panel);
        draw_axes(out, &panel, trace->name);
        draw_curve(out, &panel, &trace->curve);
        for (unsigned cell = 0; cell < cell_count(options); cell++)
            draw_series(out, &panel, options, trace, cell);
    }
    draw_legend(out, options, wide, panels + LEGEND_LINE);
    fputs("</svg>\n", out);
    int failed = ferror(out) != 0;
    return fclose(out) != 0 || failed ? -1 : 0;
}
