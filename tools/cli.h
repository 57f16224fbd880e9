/* SPDX-License-Identifier: MIT */
/*
 * What does every verb of `larder` share?
 *
 * A verb is one `struct verb`: text and option rows from which --help is made and by which the command line is judged,
 * and a function that does the work. main.c holds the list. A verb never sees argv: cli.c has parsed it, refused what
 * is unknown, surplus or out of range (exit 2, naming it), and the verb asks for values by the option's name.
 *
 *   argv -> cli_main: find the verb -> parse by its rows -> verb->run(cli) -> exit code
 *
 * Rules that always hold:
 *  1. With --json exactly one JSON object goes to standard output, errors included:
 *     {"error": {"code": -14, "name": "NO_SEGMENT", "message": "...", "remedy": "..."}}. `code` and `name` are those
 *     of larder_errors.h; a bad command line is INVALID.
 *  2. Without --json errors go to standard error as `larder VERB: message`, then the remedy.
 *  3. The exit code is one of enum cli_exit; an error number maps to it in one place (cli_exit_code).
 *  4. Colour only where the stream is a terminal and NO_COLOR is not set.
 *  5. Every verb understands --help and --json; those with `on_segment` understand --name, --path and --owner as well.
 */
#ifndef LARDER_CLI_H
#define LARDER_CLI_H

#include "cache.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* X(name, number, sentence) */
#define CLI_EXITS(X)                                                                                                   \
    X(YES, 0, "done, or yes")                                                                                          \
    X(NO, 1, "no: no such key, a condition did not hold, the segment evicts nothing and is full")                      \
    X(USAGE, 2, "the command line or an argument cannot be used, an item too large included")                          \
    X(ATTACH, 3, "cannot attach or create: no such segment, not a segment, retired, no memory or slots left")          \
    X(PERMISSION, 4, "permission denied")                                                                              \
    X(VERSION, 5, "the segment has another layout version than this program")                                          \
    X(CORRUPTION, 6, "the segment is damaged, or a value is wrong")                                                    \
    X(TIMEOUT, 7, "busy or timed out")

enum cli_exit {
#define X(name, number, sentence) CLI_##name = (number),
    CLI_EXITS(X)
#undef X
};

enum cli_kind {
    CLI_FLAG,     /* no argument */
    CLI_TEXT,     /* any text, kept as it is */
    CLI_TEXTS,    /* the same, and may be given several times: cli_text_at */
    CLI_OPTIONAL, /* any text that does not begin with a dash, or none: then the fallback, which alone does not count */
    CLI_CHOICE,   /* one of the words in `argument`, which are separated by '|' */
    CLI_NUMBER,   /* unsigned integer: cli_number */
    CLI_REAL,     /* finite decimal number >= 0: cli_real */
    CLI_SIZE,     /* bytes, with K, M, G or T (powers of 1024): cli_number gives bytes */
    CLI_DURATION, /* with ms, s, m, h or d; bare numbers are seconds: cli_number gives ms */
};

/* A row of a verb's option table. The table ends with a row whose name is NULL. */
struct cli_option {
    const char *name; /* without the dashes */
    char letter;      /* short form, or 0 */
    enum cli_kind kind;
    const char *argument; /* placeholder in --help, "FILE"; NULL for a flag */
    const char *unit;     /* "bytes", "seconds"; NULL where there is none */
    const char *fallback; /* the value when it is not given, as one would type it; NULL: none */
    const char *sentence; /* what it does, without a full stop at the end */
};

struct cli;

struct verb {
    const char *name;
    const char *summary;     /* one line, no full stop */
    const char *operands;    /* "KEY..." for the synopsis; "" where there are none */
    const char *description; /* paragraphs separated by blank lines; --help folds them to the width */
    const char *output;      /* what --json prints: fields and their meaning; folded likewise */
    const char *examples;    /* one command a line, printed as they stand */
    const struct cli_option *options;
    unsigned min_operands, max_operands; /* max: UINT_MAX for any number */
    bool on_segment;                     /* adds --name, --path and --owner */
    int (*run)(struct cli *cli);         /* returns the exit code */
};

/* ---- what a verb asks ----------------------------------------------------------------------------------------- */

#define CLI_MAX_OPTIONS 40u

struct cli_value {
    bool given; /* on the command line; the fallback does not count */
    const char *text;
    uint64_t number;
    double real;
};

/* An option that may be given several times, as it was given. */
struct cli_repeat {
    const char *option, *text;
};

struct cli {
    const struct verb *verb;
    bool json;
    unsigned operand_count;
    char **operands; /* argv's own */
    struct cli_value values[CLI_MAX_OPTIONS];
    struct cli_repeat *repeats; /* of CLI_TEXTS, in their order */
    unsigned repeat_count;
};

/* Whether the option stood on the command line. Asking for an option that the verb does not have is a programmer's
 * mistake and asserted, here and below. */
bool cli_given(const struct cli *cli, const char *option);
/* The option's text or its fallback; NULL without either. */
const char *cli_text(const struct cli *cli, const char *option);
/* CLI_TEXTS: the text given the `i`th time, from 0; NULL behind the last. */
const char *cli_text_at(const struct cli *cli, const char *option, unsigned i);
/* CLI_NUMBER, CLI_SIZE (bytes), CLI_DURATION (ms); 0 without value and fallback. */
uint64_t cli_number(const struct cli *cli, const char *option);
/* CLI_REAL; 0 without value and fallback. */
double cli_real(const struct cli *cli, const char *option);

/*
 * For operands and texts that a verb judges itself ("64M or 10% of the footprint"). True when the whole text was
 * understood; else *out is unchanged.
 */
bool cli_parse_number(const char *text, uint64_t *out);
bool cli_parse_real(const char *text, double *out);
bool cli_parse_size(const char *text, uint64_t *out_bytes);
bool cli_parse_duration(const char *text, uint64_t *out_ms);

/* ---- errors ----------------------------------------------------------------------------------------------------- */

/* The exit code of an error number (0 for 0 and above). */
int cli_exit_code(int error);
/*
 * Reports `error` (LARDER_E*) as rules 1 and 2 say and returns its exit code: `return cli_fail(cli, error, "...")`.
 * The message says what was tried and both sides of the mismatch; NULL stands for the error's own text.
 */
int cli_fail(const struct cli *cli, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* As cli_fail, with a remedy of the caller's in place of the error's own. */
int cli_fail_with(const struct cli *cli, int error, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* A command line that cannot be used: cli_fail with LARDER_EINVALID and a pointer to --help. */
int cli_usage(const struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- segments --------------------------------------------------------------------------------------------------- */

/*
 * lr_options with name or path from --name, --path, LARDER_NAME or "default", the owner from --owner, and `who` set to
 * "larder VERB". Only for verbs with on_segment. 0, or the exit code of a failure that has been reported.
 */
int cli_options(const struct cli *cli, struct lr_options *out);
/* How a human calls the segment of these options: its path if it has one, else its name. */
const char *cli_segment(const struct lr_options *options);
/*
 * Attaches the segment of cli_options. 0 and *out, which the verb detaches; else the failure has been reported, *out is
 * NULL and the exit code is returned.
 */
int cli_attach(const struct cli *cli, bool read_only, struct lr_cache **out);
/* Text output only: says who still has a removed segment of this name mapped (removed.c). */
void cli_warn_of_removed(const struct cli *cli);

/* ---- output ----------------------------------------------------------------------------------------------------- */

/* Prints the object on standard output and releases it. Returns CLI_YES, so that a verb can end with it. */
int cli_print_json(json_t *object);
/* A JSON string if the bytes are UTF-8 without NUL (which many readers of JSON refuse); else NULL. */
json_t *cli_json_exact(const void *bytes, size_t len);
/* A JSON string for human eyes: as above where possible, else escaped as cli_escape does. */
json_t *cli_json_bytes(const void *bytes, size_t len);
json_t *cli_json_text(const char *text);
/* The bytes as hexadecimal digits: never ambiguous. */
json_t *cli_json_hex(const void *bytes, size_t len);
/* A version as decimal text: it has more digits than a double, which is all that many JSON readers have. */
json_t *cli_json_version(uint64_t version);
/* The object behind "error". */
json_t *cli_json_error(int error, const char *message, const char *remedy);
/* Bytes to one printable line: backslash, control bytes and bytes >= 0x80 as \xNN. `out` has 4 * len + 1 bytes.
 * Returns its length. */
size_t cli_escape(const void *bytes, size_t len, char *out);

/* "64.0 MiB", "1,234,567", "12.3 us", "3 h 12 min". The buffer is returned. */
#define CLI_FORMAT_BYTES 32u
const char *cli_format_bytes(char out[CLI_FORMAT_BYTES], uint64_t bytes);
const char *cli_format_count(char out[CLI_FORMAT_BYTES], uint64_t count);
const char *cli_format_ns(char out[CLI_FORMAT_BYTES], double ns);
const char *cli_format_age(char out[CLI_FORMAT_BYTES], uint64_t ms);
/* Local time "2024-05-01 12:00:00" of Unix milliseconds. */
const char *cli_format_time(char out[CLI_FORMAT_BYTES], uint64_t unix_ms);

/* Terminal colours: "" where rule 4 forbids them. */
enum cli_colour { CLI_PLAIN, CLI_BOLD, CLI_DIM, CLI_RED, CLI_GREEN, CLI_YELLOW };
const char *cli_colour(FILE *stream, enum cli_colour colour);

/* ---- the verbs -------------------------------------------------------------------------------------------------- */

extern const struct verb verb_create, verb_stat, verb_get, verb_set, verb_del, verb_flush, verb_ls, verb_procs,
    verb_stripes, verb_check, verb_digest, verb_peers, verb_destroy, verb_version;
extern const struct verb verb_replay, verb_bench;

/* Parses argv against the list (ended by NULL), runs the verb, returns the exit code. */
int cli_main(int argc, char **argv, const struct verb *const *verbs);

#endif
