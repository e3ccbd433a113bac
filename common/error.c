/* SPDX-License-Identifier: Apache-2.0 */
#include "common/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void err_format(struct err *e, int code, const char *fmt, va_list ap)
{
	e->code = code;
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
}

static void err_append(struct err *e, const char *tail)
{
	size_t n = strlen(e->text);

	snprintf(e->text + n, sizeof(e->text) - n, ": %s", tail);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return code;
	va_start(ap, fmt);
	err_format(e, code, fmt, ap);
	va_end(ap);
	return code;
}

int err_sys(struct err *e, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	if (!e)
		return -saved;
	va_start(ap, fmt);
	err_format(e, -saved, fmt, ap);
	va_end(ap);
	err_append(e, strerror(saved));
	return -saved;
}

int err_sysn(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return code;
	va_start(ap, fmt);
	err_format(e, code, fmt, ap);
	va_end(ap);
	err_append(e, strerror(-code));
	return code;
}

int err_ctx(struct err *e, int code, const char *fmt, ...)
{
	char tail[ERR_TEXT_MAX];
	va_list ap;

	if (!e)
		return code;
	memcpy(tail, e->text, sizeof(tail));
	va_start(ap, fmt);
	err_format(e, code, fmt, ap);
	va_end(ap);
	err_append(e, tail);
	return code;
}

const char *err_name(int errnum)
{
	const char *name = strerrorname_np(errnum < 0 ? -errnum : errnum);

	return name ? name : "ERROR";
}

int err_exit_status(int code)
{
	/* rsync's numbers, and ours from 40 on (stager(1), EXIT STATUS). */
	static const struct {
		int code, status;
	} rows[] = {
		{ ERR_USAGE, 1 },      { ERR_VERSION, 2 },          { ERR_SELECT, 3 },
		{ ERR_SSH, 5 },        { ERR_AUTH, 5 },             { ERR_CONNECT, 10 },
		{ ERR_PROTOCOL, 12 },  { ERR_CANCELLED, 20 },       { ERR_LOST, 30 },
		{ ECONNRESET, 30 },    { EPIPE, 30 },               { ETIMEDOUT, 30 },
		{ ERR_FORBIDDEN, 40 }, { ERR_CONNECT_TIMEOUT, 35 }, { ERR_HOOK, 41 },
		{ ERR_LOCKED, 44 },    { ERR_POSTCHECK, 45 },       { ERR_CLOUD, 46 },
		{ ERR_HANGUP, 5 },
	};

	code = code < 0 ? -code : code;
	if (!code)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].code == code)
			return rows[i].status;
	return 11;
}
