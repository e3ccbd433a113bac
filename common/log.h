/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * common/log.h - the one log sink of a program, set up in main before any thread.
 *
 * A line is "2026-01-02T03:04:05.678Z level message"; control bytes of the message are
 * escaped, so that no file name can forge a line.
 */
#include "common/error.h"
#include "common/macro.h"

enum log_level {
	LOG_ERROR,
	LOG_INFO,
	LOG_DEBUG,
};

/*
 * Log lines up to level go to path (appended, created with mode 0600), or to stderr when
 * path is NULL.  On stderr a line has no timestamp: journald and shells have their own.
 */
int log_open(enum log_level level, const char *path, struct err *e) _must_check_;
void log_close(void);

/*
 * Called around every line that goes to stderr, so that a progress bar can be taken off the
 * terminal and put back; NULL takes the hooks away.  They run under the log's lock.
 */
void log_around(void (*before)(void *), void (*after)(void *), void *arg);

void log_error(const char *fmt, ...) _printf_(1, 2);
void log_info(const char *fmt, ...) _printf_(1, 2);
void log_debug(const char *fmt, ...) _printf_(1, 2);
