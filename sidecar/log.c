/* SPDX-License-Identifier: MIT */
/* A line is put together first and written by one call, so that lines of two processes on one terminal do not mix. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static enum lr_log_level highest = LR_INFO;

void lr_log_level(enum lr_log_level level) {
    highest = level;
}

int lr_log_number(const char *name) {
    for (int i = 0; i < 4; i++)
        if (strcmp(name, level_names[i]) == 0)
            return i;
    return -1;
}

void lr_log(enum lr_log_level level, const char *format, ...) {
    if ((int)level > (int)highest)
        return;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char line[1024];
    size_t at = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    at += (size_t)snprintf(line + at, sizeof line - at, ".%03ldZ %s ", now.tv_nsec / 1000000, level_names[level]);
    va_list arguments;
    va_start(arguments, format);
    int more = vsnprintf(line + at, sizeof line - at - 1, format, arguments);
    va_end(arguments);
    if (more > 0)
        at += (size_t)more < sizeof line - at - 1 ? (size_t)more : sizeof line - at - 2;
    for (size_t i = 0; i < at; i++) /* a peer's text must not break the line */
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    line[at++] = '\n';
    /* Nothing sensible can be done when standard error is gone. */
    if (write(STDERR_FILENO, line, at) < 0)
        return;
}
