/* SPDX-License-Identifier: MIT */
/*
 * From argv to a verb: what did the user ask for, and is it something we can do?
 *
 *   larder VERB [--option VALUE | --option=VALUE | -o VALUE | operand]... [-- operand...]
 *
 * The rows that a word is looked up in are the verb's own, then the common ones: one array of values runs parallel to
 * the two tables. A value is judged by its row's kind while it is parsed, so a verb sees only what can be used. Of an
 * option given twice the last one counts, unless it is one that takes several values. `-` alone is an operand, and so
 * is everything after `--`.
 *
 * Whether errors are wanted as JSON must be known before the command line is understood; therefore argv is searched for
 * --json first.
 */
#include "cli.h"

#include "cli_help.h"
#include "removed.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- tables ------------------------------------------------------------------------------------------------------ */

const struct cli_option cli_common_options[CLI_COMMON_OPTIONS + 1] = {
    {"help", 'h', CLI_FLAG, NULL, NULL, NULL, "Print this text and exit"},
    {"json", 0, CLI_FLAG, NULL, NULL, NULL, "Print one JSON object on standard output, for errors too"},
    {"name", 'n', CLI_TEXT, "NAME", NULL, NULL,
     "The segment /dev/shm/larder.NAME; without it the one in LARDER_NAME, else \"default\""},
    {"path", 0, CLI_TEXT, "FILE", NULL, NULL,
     "The segment in this file on a tmpfs, in place of --name; or unix:SOCKET, the one that `larderd --memfd SOCKET` "
     "keeps"},
    {"owner", 0, CLI_TEXT, "USER", NULL, NULL,
     "Accept a segment that belongs to USER (name or number); without it, it must be one's own or root's. Root may use "
     "any"},
    {NULL, 0, CLI_FLAG, NULL, NULL, NULL, NULL},
};

unsigned cli_common_count(const struct verb *verb) {
    return verb->on_segment ? CLI_COMMON_OPTIONS : CLI_UNIVERSAL_OPTIONS;
}

static unsigned own_count(const struct verb *verb) {
    unsigned count = 0;
    while (verb->options != NULL && verb->options[count].name != NULL)
        count++;
    assert(count + CLI_COMMON_OPTIONS <= CLI_MAX_OPTIONS);
    return count;
}

/* Row `i` of the two tables laid end to end; NULL behind the last. */
static const struct cli_option *row_at(const struct verb *verb, unsigned i) {
    unsigned own = own_count(verb);
    if (i < own)
        return &verb->options[i];
    return i - own < cli_common_count(verb) ? &cli_common_options[i - own] : NULL;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

bool cli_parse_number(const char *text, uint64_t *out) {
    if (!isdigit((unsigned char)text[0]))
        return false;
    char *end;
    errno = 0;
    int base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
    unsigned long long number = strtoull(text, &end, base);
    if (errno != 0 || *end != 0)
        return false;
    *out = number;
    return true;
}

/* A plain decimal at the start of `text`; *end is left behind it. Hexadecimal floats, "inf" and "nan" are refused. */
static bool parse_decimal(const char *text, double *out, const char **end) {
    size_t digits = strspn(text, "0123456789.");
    if (digits == 0 || digits > 30)
        return false;
    char copy[32];
    memcpy(copy, text, digits);
    copy[digits] = 0;
    char *stop;
    *out = strtod(copy, &stop);
    *end = text + digits;
    return *stop == 0 && isfinite(*out);
}

bool cli_parse_real(const char *text, double *out) {
    double real;
    const char *end;
    if (!parse_decimal(text, &real, &end) || *end != 0)
        return false;
    *out = real;
    return true;
}

/* Scales without losing a digit of integers that fit, and refuses what does not fit 64 bits. */
static bool scale_number(double real, uint64_t factor, uint64_t *out) {
    double product = ceil(real * (double)factor);
    if (product >= 9.2e18)
        return false;
    *out = (uint64_t)product;
    return true;
}

bool cli_parse_size(const char *text, uint64_t *out_bytes) {
    if (cli_parse_number(text, out_bytes))
        return true;
    static const struct {
        const char *suffix;
        unsigned shift;
    } units[] = {{"B", 0}, {"K", 10}, {"M", 20}, {"G", 30}, {"T", 40}};
    double real;
    const char *end;
    if (!parse_decimal(text, &real, &end) || *end == 0)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (toupper((unsigned char)*end) != units[i].suffix[0])
            continue;
        const char *rest = end + 1;
        if (i > 0 && (strcasecmp(rest, "iB") == 0 || strcasecmp(rest, "B") == 0))
            rest = "";
        return *rest == 0 && scale_number(real, UINT64_C(1) << units[i].shift, out_bytes);
    }
    return false;
}

bool cli_parse_duration(const char *text, uint64_t *out_ms) {
    static const struct {
        const char *suffix;
        uint64_t ms;
    } units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    double real;
    const char *end;
    if (!parse_decimal(text, &real, &end))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(end, units[i].suffix) == 0)
            return scale_number(real, units[i].ms, out_ms);
    return false;
}

static bool choice_has(const char *choices, const char *word) {
    size_t len = strlen(word);
    for (const char *at = choices; at != NULL; at = strchr(at, '|')) {
        at += *at == '|';
        if (len > 0 && strncmp(at, word, len) == 0 && (at[len] == '|' || at[len] == 0))
            return true;
    }
    return false;
}

/* NULL when `text` suits the row, else what would have. */
static const char *judge_value(const struct cli_option *row, const char *text, struct cli_value *value) {
    value->text = text;
    switch (row->kind) {
    case CLI_FLAG:
    case CLI_TEXT:
    case CLI_TEXTS:
    case CLI_OPTIONAL:
        return NULL;
    case CLI_CHOICE:
        return choice_has(row->argument, text) ? NULL : row->argument;
    case CLI_NUMBER:
        return cli_parse_number(text, &value->number) ? NULL : "a whole number of at least 0";
    case CLI_REAL:
        return cli_parse_real(text, &value->real) ? NULL : "a decimal number of at least 0";
    case CLI_SIZE:
        return cli_parse_size(text, &value->number) ? NULL : "bytes, such as 4096, 512K, 64M or 2G";
    case CLI_DURATION:
        return cli_parse_duration(text, &value->number) ? NULL : "a time, such as 30, 250ms, 1.5s, 10m, 2h or 7d";
    }
    assert(false && "kind");
    return NULL;
}

static const struct cli_value *value_of(const struct cli *cli, const char *option) {
    const struct cli_option *row;
    for (unsigned i = 0; (row = row_at(cli->verb, i)) != NULL; i++)
        if (strcmp(row->name, option) == 0)
            return &cli->values[i];
    assert(false && "the verb has no such option");
    abort();
}

bool cli_given(const struct cli *cli, const char *option) {
    return value_of(cli, option)->given;
}

const char *cli_text(const struct cli *cli, const char *option) {
    return value_of(cli, option)->text;
}

const char *cli_text_at(const struct cli *cli, const char *option, unsigned i) {
    for (unsigned at = 0; at < cli->repeat_count; at++)
        if (strcmp(cli->repeats[at].option, option) == 0 && i-- == 0)
            return cli->repeats[at].text;
    return NULL;
}

uint64_t cli_number(const struct cli *cli, const char *option) {
    return value_of(cli, option)->number;
}

double cli_real(const struct cli *cli, const char *option) {
    return value_of(cli, option)->real;
}

/* ---- parsing ----------------------------------------------------------------------------------------------------- */

static void set_fallbacks(struct cli *cli) {
    const struct cli_option *row;
    for (unsigned i = 0; (row = row_at(cli->verb, i)) != NULL; i++) {
        if (row->fallback == NULL)
            continue;
        const char *wanted = judge_value(row, row->fallback, &cli->values[i]);
        assert(wanted == NULL);
        (void)wanted;
    }
}

/* The index of the row that the word `--name[=...]` or `-x` means; -1 none. */
static int find_row(const struct verb *verb, const char *word) {
    bool is_long = word[1] == '-';
    size_t len = is_long ? strcspn(word + 2, "=") : 0;
    const struct cli_option *row;
    for (unsigned i = 0; (row = row_at(verb, i)) != NULL; i++) {
        if (is_long ? strlen(row->name) == len && strncmp(row->name, word + 2, len) == 0
                    : row->letter != 0 && row->letter == word[1] && word[2] == 0)
            return (int)i;
    }
    return -1;
}

/* Parses the option at argv[*at] and moves *at to its last word. */
static int parse_option(struct cli *cli, int argc, char **argv, int *at) {
    const char *word = argv[*at];
    int name_len = (int)strcspn(word, "=");
    int found = find_row(cli->verb, word);
    if (found < 0)
        return cli_usage(cli, "unknown option %.*s", name_len, word);
    const struct cli_option *row = row_at(cli->verb, (unsigned)found);
    const char *text = word[1] == '-' && word[name_len] == '=' ? word + name_len + 1 : NULL;
    if (row->kind == CLI_FLAG) {
        if (text != NULL)
            return cli_usage(cli, "option --%s takes no value, but was given \"%s\"", row->name, text);
    } else if (text == NULL && row->kind == CLI_OPTIONAL && (*at + 1 >= argc || argv[*at + 1][0] == '-')) {
        text = row->fallback;
    } else if (text == NULL) {
        if (*at + 1 >= argc)
            return cli_usage(cli, "option --%s needs a value: %s", row->name, row->argument);
        text = argv[++*at];
    }
    struct cli_value *value = &cli->values[found];
    const char *wanted = judge_value(row, text, value);
    if (wanted != NULL)
        return cli_usage(cli, "option --%s is \"%s\", but must be %s%s", row->name, text,
                         row->kind == CLI_CHOICE ? "one of " : "", wanted);
    value->given = true;
    if (row->kind == CLI_TEXTS)
        cli->repeats[cli->repeat_count++] = (struct cli_repeat){row->name, text};
    return 0;
}

/* Operands are gathered at the start of argv, in their order. */
static int parse_words(struct cli *cli, int argc, char **argv) {
    bool only_operands = false;
    cli->operands = argv;
    for (int i = 0; i < argc; i++) {
        if (!only_operands && strcmp(argv[i], "--") == 0) {
            only_operands = true;
        } else if (!only_operands && argv[i][0] == '-' && argv[i][1] != 0) {
            int exit_code = parse_option(cli, argc, argv, &i);
            if (exit_code != 0)
                return exit_code;
        } else {
            cli->operands[cli->operand_count++] = argv[i];
        }
    }
    return 0;
}

static int check_operands(const struct cli *cli) {
    const struct verb *verb = cli->verb;
    if (cli->operand_count < verb->min_operands)
        return cli_usage(cli, "%u argument%s given, at least %u needed: %s", cli->operand_count,
                         cli->operand_count == 1 ? "" : "s", verb->min_operands, verb->operands);
    if (cli->operand_count > verb->max_operands) {
        const char *surplus = cli->operands[verb->max_operands];
        if (verb->max_operands == 0)
            return cli_usage(cli, "unexpected argument \"%s\": none is taken", surplus);
        return cli_usage(cli, "unexpected argument \"%s\": at most %u taken: %s", surplus, verb->max_operands,
                         verb->operands);
    }
    if (verb->on_segment && cli_given(cli, "name") && cli_given(cli, "path"))
        return cli_usage(cli, "--name \"%s\" and --path \"%s\" exclude each other", cli_text(cli, "name"),
                         cli_text(cli, "path"));
    return 0;
}

static bool wants_json(int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0)
            return true;
    return false;
}

static int run_verb(const struct verb *verb, int argc, char **argv) {
    struct cli cli = {.verb = verb, .json = wants_json(argc, argv)};
    cli.repeats = calloc((size_t)argc + 1u, sizeof *cli.repeats);
    if (cli.repeats == NULL)
        return cli_fail(&cli, LARDER_ENO_MEMORY, NULL);
    set_fallbacks(&cli);
    int exit_code = parse_words(&cli, argc, argv);
    if (exit_code == 0) {
        cli.json = cli_given(&cli, "json");
        exit_code = cli_given(&cli, "help") ? CLI_YES : check_operands(&cli);
        if (cli_given(&cli, "help"))
            cli_help_verb(stdout, verb);
        else if (exit_code == 0)
            exit_code = verb->run(&cli);
    }
    free(cli.repeats);
    return exit_code;
}

/* What was printed must also have arrived: a full disk under standard output is an error. */
static int close_output(int exit_code) {
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "larder: cannot write to standard output: %s\n", strerror(errno));
        return exit_code != 0 ? exit_code : CLI_ATTACH;
    }
    return exit_code;
}

static const struct verb *find_verb(const struct verb *const *verbs, const char *name) {
    for (; *verbs != NULL; verbs++)
        if (strcmp((*verbs)->name, name) == 0)
            return *verbs;
    return NULL;
}

int cli_main(int argc, char **argv, const struct verb *const *verbs) {
    const char *word = argc > 1 ? argv[1] : "";
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        cli_help_all(stdout, verbs);
        return close_output(CLI_YES);
    }
    const struct verb *verb = find_verb(verbs, strcmp(word, "--version") == 0 ? "version" : word);
    if (verb != NULL)
        return close_output(run_verb(verb, argc - 2, argv + 2));

    struct cli cli = {.verb = NULL, .json = wants_json(argc, argv)};
    if (argc < 2 || strcmp(word, "--json") == 0)
        return close_output(cli_usage(&cli, "no verb given"));
    return close_output(cli_usage(&cli, "unknown %s \"%s\"", word[0] == '-' ? "option" : "verb", word));
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */

int cli_exit_code(int error) {
    if (error >= 0)
        return CLI_YES;
    switch ((enum larder_error)error) {
    case LARDER_ENOT_FOUND:
    case LARDER_EEXISTS:
    case LARDER_ECONFLICT:
    case LARDER_EFULL:
    case LARDER_ESTALE:
        return CLI_NO;
    case LARDER_EINVALID:
    case LARDER_ENOT_NUMBER:
    case LARDER_ETOO_LARGE:
    case LARDER_ETOO_SMALL:
        return CLI_USAGE;
    case LARDER_ENO_SEGMENT:
    case LARDER_EFOREIGN:
    case LARDER_ERETIRED:
    case LARDER_ENO_SPACE:
    case LARDER_ENO_MEMORY:
    case LARDER_ENO_SLOTS:
    case LARDER_ENO_CLOCK:
    case LARDER_ESYSTEM:
        return CLI_ATTACH;
    case LARDER_EPERMISSION:
    case LARDER_EREAD_ONLY:
        return CLI_PERMISSION;
    case LARDER_EVERSION:
        return CLI_VERSION;
    case LARDER_ECORRUPT:
        return CLI_CORRUPTION;
    case LARDER_EBUSY:
    case LARDER_EPINNED:
    case LARDER_ENO_PINS:
    case LARDER_ETIMED_OUT:
    case LARDER_ELOST:
        return CLI_TIMEOUT;
    }
    return CLI_ATTACH;
}

json_t *cli_json_error(int error, const char *message, const char *remedy) {
    return json_pack("{s:i, s:s, s:o, s:s}", "code", error, "name", lr_error_name(error), "message",
                     cli_json_text(message), "remedy", remedy);
}

static int report_error(const struct cli *cli, int error, const char *remedy, const char *message) {
    if (cli->json) {
        cli_print_json(json_pack("{s:o}", "error", cli_json_error(error, message, remedy)));
    } else {
        fflush(stdout);
        const char *verb = cli->verb != NULL ? cli->verb->name : NULL;
        fprintf(stderr, "%slarder%s%s:%s %s\n", cli_colour(stderr, CLI_RED), verb != NULL ? " " : "",
                verb != NULL ? verb : "", cli_colour(stderr, CLI_PLAIN), message);
        fprintf(stderr, "  %s\n", remedy);
    }
    return cli_exit_code(error);
}

/* Control bytes of names and keys would reach the terminal otherwise. */
static void format_message(char *out, size_t cap, const char *format, va_list arguments) {
    vsnprintf(out, cap, format, arguments);
    for (char *at = out; *at != 0; at++)
        if (iscntrl((unsigned char)*at))
            *at = '?';
}

/* The manual page that says what is allowed. */
static void point_at_help(const struct cli *cli, char out[64]) {
    snprintf(out, 64, "see `larder %s%s--help`", cli->verb != NULL ? cli->verb->name : "",
             cli->verb != NULL ? " " : "");
}

int cli_fail(const struct cli *cli, int error, const char *format, ...) {
    char message[2 * LR_WHY_BYTES] = "";
    if (format != NULL) {
        va_list arguments;
        va_start(arguments, format);
        format_message(message, sizeof message, format, arguments);
        va_end(arguments);
    } else {
        snprintf(message, sizeof message, "%s", lr_error_text(error));
    }
    char help[64];
    point_at_help(cli, help); /* the library's remedy is for those who call it */
    return report_error(cli, error, error == LARDER_EINVALID ? help : lr_error_remedy(error), message);
}

int cli_fail_with(const struct cli *cli, int error, const char *remedy, const char *format, ...) {
    char message[2 * LR_WHY_BYTES];
    va_list arguments;
    va_start(arguments, format);
    format_message(message, sizeof message, format, arguments);
    va_end(arguments);
    return report_error(cli, error, remedy, message);
}

int cli_usage(const struct cli *cli, const char *format, ...) {
    char message[2 * LR_WHY_BYTES];
    char remedy[64];
    va_list arguments;
    va_start(arguments, format);
    format_message(message, sizeof message, format, arguments);
    va_end(arguments);
    point_at_help(cli, remedy);
    return report_error(cli, LARDER_EINVALID, remedy, message);
}

/* ---- segments ---------------------------------------------------------------------------------------------------- */

/* A user by name or number; false: there is none. */
static bool find_user(const char *text, uid_t *out) {
    const struct passwd *entry = getpwnam(text);
    uint64_t number;
    if (entry != NULL) {
        *out = entry->pw_uid;
        return true;
    }
    if (!cli_parse_number(text, &number) || number >= UINT32_MAX)
        return false;
    *out = (uid_t)number;
    return true;
}

int cli_options(const struct cli *cli, struct lr_options *out) {
    static char who[32];
    struct lr_options options = lr_options_default();
    options.path = cli_text(cli, "path");
    if (options.path == NULL) {
        const char *inherited = getenv("LARDER_NAME");
        options.name = cli_text(cli, "name");
        if (options.name == NULL)
            options.name = inherited != NULL && inherited[0] != 0 ? inherited : "default";
    }
    const char *owner = cli_text(cli, "owner");
    if (owner != NULL && !find_user(owner, &options.owner))
        return cli_usage(cli, "option --owner is \"%s\", but there is no such user", owner);
    snprintf(who, sizeof who, "larder %s", cli->verb->name);
    options.who = who;
    *out = options;
    return 0;
}

const char *cli_segment(const struct lr_options *options) {
    return options->path != NULL ? options->path : options->name;
}

int cli_attach(const struct cli *cli, bool read_only, struct lr_cache **out) {
    struct lr_options options;
    char why[LR_WHY_BYTES] = "";
    *out = NULL;
    int exit_code = cli_options(cli, &options);
    if (exit_code != 0)
        return exit_code;
    options.read_only = read_only;
    int error = lr_cache_attach(&options, out, why);
    if (error == 0)
        return 0;
    struct removed_users users = {0};
    char removed[LR_WHY_BYTES];
    if (error == LARDER_ENO_SEGMENT)
        removed_look(&options, &users);
    removed_describe(&users, removed, sizeof removed);
    return cli_fail(cli, error, "cannot attach segment \"%s\": %s%s%s", cli_segment(&options),
                    why[0] != 0 ? why : lr_error_text(error), users.count > 0 ? "; " : "", removed);
}

void cli_warn_of_removed(const struct cli *cli) {
    struct lr_options options;
    struct removed_users users;
    char removed[LR_WHY_BYTES];
    if (cli->json || cli_options(cli, &options) != 0)
        return;
    removed_look(&options, &users);
    removed_describe(&users, removed, sizeof removed);
    if (users.count > 0)
        printf("%s%s%s\n", cli_colour(stdout, CLI_YELLOW), removed, cli_colour(stdout, CLI_PLAIN));
}
