/* SPDX-License-Identifier: Apache-2.0 */
/* Single values from their text. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/nearest.h"
#include "common/text.h"
#include "config/option_parts.h"

enum cfg_shape cfg_shape_of(const struct cfg_row *row)
{
	if (row->shape != CFG_BY_TYPE)
		return row->shape;
	switch (row->type) {
	case CFG_FLAG:
		return CFG_BOOL;
	case CFG_NUMBER:
		return CFG_WHOLE;
	case CFG_SECONDS:
		return CFG_DECIMAL;
	case CFG_LIST:
		return CFG_TEXTS;
	default:
		return CFG_TEXT;
	}
}

int cfg_word_value(const struct cfg_row *row, const char *text, int *ret,
			  struct err *e)
{
	struct nearest near = { .word = text };
	_cleanup_(buf_fini) struct buf list = BUF_INIT;
	char name[TEXT_NAME_MAX];
	const char *all, *best;

	for (const struct cfg_word *w = row->words; w->name; w++) {
		if (!strcmp(w->name, text)) {
			*ret = w->value;
			return 0;
		}
		nearest_try(&near, w->name);
		if (buf_printf(&list, "%s%s", w == row->words ? "" : ", ", w->name) < 0)
			return cfg_no_memory(e);
	}
	if (row->type == CFG_NUMBER &&
	    buf_printf(&list, ", %d to %d", row->min, row->max) < 0)
		return cfg_no_memory(e);
	all = buf_cstr(&list);
	if (!all)
		return cfg_no_memory(e);
	best = nearest_get(&near);
	return err_set(e, -ERR_USAGE, "'%s' is not one of: %s%s%s%s",
		       text_name(name, bytes_str(text)), all,
		       best ? " (did you mean '" : "", best ? best : "",
		       best ? "'?)" : "");
}

int cfg_number_value(const struct cfg_row *row, const char *text, int *ret,
			    struct err *e)
{
	const char *digits = text + (*text == '-');
	char name[TEXT_NAME_MAX];
	long v;

	if (!*digits || strspn(digits, "0123456789") != strlen(digits)) {
		if (row->words)
			return cfg_word_value(row, text, ret, e);
		return err_set(e, -ERR_USAGE,
			       "'%s' is not a whole number: allowed is %d to %d",
			       text_name(name, bytes_str(text)), row->min, row->max);
	}
	errno = 0;
	v = strtol(text, NULL, 10);
	if (errno || v < row->min || v > row->max)
		return err_set(
			e, -ERR_USAGE, "%s is out of range: allowed is %d to %d%s%s",
			text_name(name, bytes_str(text)), row->min, row->max,
			row->words ? ", or " : "", row->words ? row->words->name : "");
	*ret = (int)v;
	return 0;
}

/* Digits with at most three decimals; NULL when it is something else. */
static const char *milliseconds(const char *text, int64_t *ret)
{
	size_t whole = strspn(text, "0123456789"), part = 0;
	int64_t ms = 0;

	if (whole > 9)
		return NULL;
	for (size_t i = 0; i < whole; i++)
		ms = ms * 10 + (text[i] - '0');
	if (text[whole] == '.')
		part = strspn(text + whole + 1, "0123456789");
	for (size_t i = 0; i < 3; i++)
		ms = ms * 10 + (i < part ? text[whole + 1 + i] - '0' : 0);
	*ret = ms;
	text += whole + (part ? part + 1 : 0);
	return whole + part && part <= 3 && !*text ? text : NULL;
}

int cfg_seconds_value(const struct cfg_row *row, const char *text, unsigned *ret_ms,
		      struct err *e)
{
	char name[TEXT_NAME_MAX];
	int64_t ms;

	if (!milliseconds(text, &ms) || ms < row->min || ms > row->max)
		return err_set(e, -ERR_USAGE,
			       "'%s' is no number of seconds that can be used: allowed is %g to %g",
			       text_name(name, bytes_str(text)), row->min / 1000.0,
			       row->max / 1000.0);
	*ret_ms = (unsigned)ms;
	return 0;
}
