/* SPDX-License-Identifier: MIT */
/* One line for each thing that an operator may want to know, on standard error. */
#ifndef LR_LOG_H
#define LR_LOG_H

enum lr_log_level { LR_ERROR, LR_WARN, LR_INFO, LR_DEBUG, LR_SILENT = -1 };

/* Lines above `level` are not written. LR_SILENT: none is. */
void lr_log_level(enum lr_log_level level);
/* "error", "warn", "info", "debug"; -1: no such level. */
int lr_log_number(const char *name);
/* 2026-01-02T03:04:05.678Z level message key=value */
void lr_log(enum lr_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
