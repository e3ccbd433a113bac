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
