/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LOG_LINE_MAX 4096

/* The only mutable file-scope state of the programs. */
static struct {
	pthread_mutex_t lock;
	enum log_level level;
	int fd; /* -1: stderr */
	void (*before)(void *);
	void (*after)(void *);
	void *arg;
} sink = { .lock = PTHREAD_MUTEX_INITIALIZER, .level = LOG_INFO, .fd = -1 };

int log_open(enum log_level level, const char *path, struct err *e)
{
	int fd = -1;

	if (path) {
		fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0)
			return err_sys(e, "open log file %s", path);
	}
	log_close();
	sink.level = level;
	sink.fd = fd;
	return 0;
}

void log_close(void)
{
	if (sink.fd >= 0)
		close(sink.fd);
	sink.fd = -1;
}

void log_around(void (*before)(void *), void (*after)(void *), void *arg)
{
	pthread_mutex_lock(&sink.lock);
	sink.before = before;
	sink.after = after;
	sink.arg = arg;
	pthread_mutex_unlock(&sink.lock);
}

static size_t log_stamp(char *out, size_t max)
{
	struct timespec ts;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(out, max, "%Y-%m-%dT%H:%M:%S", &tm);
	return n + (size_t)snprintf(out + n, max - n, ".%03ldZ ", ts.tv_nsec / 1000000);
}

/* Control bytes become \xNN; bytes above 127 pass, they are somebody's UTF-8. */
static size_t log_escape(char *out, size_t max, const char *text)
{
	size_t n = 0;

	for (; *text && n + 5 < max; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f)
			n += (size_t)snprintf(out + n, max - n, "\\x%02x", c);
		else
			out[n++] = (char)c;
	}
	return n;
}

static void log_write(enum log_level level, const char *fmt, va_list ap)
{
	static const char *const names[] = { "error", "info", "debug" };
	char text[LOG_LINE_MAX], line[LOG_LINE_MAX + 64];
	size_t n = 0;
	int fd;

	if (level > sink.level)
		return;
	vsnprintf(text, sizeof(text), fmt, ap);
	if (sink.fd >= 0) {
		n = log_stamp(line, sizeof(line));
		n += (size_t)snprintf(line + n, sizeof(line) - n, "%s ", names[level]);
	} else if (level != LOG_INFO) {
		n = (size_t)snprintf(line, sizeof(line), "%s: ", names[level]);
	}
	n += log_escape(line + n, sizeof(line) - n - 1, text);
	line[n++] = '\n';

	pthread_mutex_lock(&sink.lock);
	fd = sink.fd >= 0 ? sink.fd : STDERR_FILENO;
	if (sink.fd < 0 && sink.before)
		sink.before(sink.arg);
	/* A log that cannot be written has nowhere to be reported to. */
	if (write(fd, line, n) < 0)
		n = 0;
	if (sink.fd < 0 && sink.after)
		sink.after(sink.arg);
	pthread_mutex_unlock(&sink.lock);
}

#define LOG_FUNCTION(name, level)                   \
	void name(const char *fmt, ...)             \
	{                                           \
		va_list ap;                         \
                                                    \
		va_start(ap, fmt);                  \
		log_write(level, fmt, ap);          \
		va_end(ap);                         \
	}

LOG_FUNCTION(log_error, LOG_ERROR)
LOG_FUNCTION(log_info, LOG_INFO)
LOG_FUNCTION(log_debug, LOG_DEBUG)
