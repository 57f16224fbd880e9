/* SPDX-License-Identifier: MIT */
/*
 * What does an error number mean, and what should its reader do? All from the one table in larder_errors.h. Also the
 * one place that writes a `why`: a single line that names both sides of a mismatch, for a human.
 */
#include "segment.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *lr_error_name(int error) {
    if (error >= 0)
        return "OK";
    switch (error) {
#define X(name, number, text, remedy)                                                                                  \
    case number:                                                                                                       \
        return #name;
        LARDER_ERRORS(X)
#undef X
    default:
        return "UNKNOWN";
    }
}

const char *lr_error_text(int error) {
    if (error >= 0)
        return "success";
    switch (error) {
#define X(name, number, text, remedy)                                                                                  \
    case number:                                                                                                       \
        return text;
        LARDER_ERRORS(X)
#undef X
    default:
        return "an error that this release does not know";
    }
}

const char *lr_error_remedy(int error) {
    if (error >= 0)
        return "nothing to do";
    switch (error) {
#define X(name, number, text, remedy)                                                                                  \
    case number:                                                                                                       \
        return remedy;
        LARDER_ERRORS(X)
#undef X
    default:
        return "use the same release of Larder everywhere";
    }
}

const char *lr_policy_name(uint32_t policy) {
    switch (policy) {
#define X(name, number, sentence)                                                                                      \
    case number:                                                                                                       \
        return #name;
        LR_POLICIES(X)
#undef X
    default:
        return "unknown";
    }
}

int lr_policy_number(const char *name) {
#define X(row, number, sentence)                                                                                       \
    if (strcmp(name, #row) == 0)                                                                                       \
        return number;
    LR_POLICIES(X)
#undef X
    return -1;
}

const char *lr_favor_name(uint32_t favor) {
    switch (favor) {
#define X(name, number, sentence)                                                                                      \
    case number:                                                                                                       \
        return #name;
        LR_FAVORS(X)
#undef X
    default:
        return "unknown";
    }
}

int lr_favor_number(const char *name) {
#define X(row, number, sentence)                                                                                       \
    if (strcmp(name, #row) == 0)                                                                                       \
        return number;
    LR_FAVORS(X)
#undef X
    return -1;
}

int lr_error_explain(int error, char *why, const char *format, ...) {
    if (why == NULL)
        return error;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why, LR_WHY_BYTES, format, arguments);
    va_end(arguments);
    return error;
}
