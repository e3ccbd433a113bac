/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/bwwindow.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/text.h"

static bool two_digits(const char *p, unsigned *ret)
{
	if (p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9')
		return false;
	*ret = (unsigned)(p[0] - '0') * 10 + (unsigned)(p[1] - '0');
	return true;
}

int stg_bwwindow_time(const char *text, bool is_end, uint16_t *ret, struct err *e)
{
	unsigned h = 0, m = 0, last = is_end ? STG_DAY_MIN : STG_DAY_MIN - 1;
	char name[TEXT_NAME_MAX];

	if (strlen(text) != 5 || text[2] != ':' || !two_digits(text, &h) ||
	    !two_digits(text + 3, &m) || m > 59 || h * 60 + m > last)
		return err_set(e, -ERR_USAGE, "'%s' is no time of day: expected HH:MM, 00:00 to %s",
			       text_name(name, bytes_str(text)), is_end ? "24:00" : "23:59");
	*ret = (uint16_t)(h * 60 + m);
	/* A window that ends at midnight ends with its own day. */
	if (is_end && !*ret)
		*ret = STG_DAY_MIN;
	return 0;
}

bool stg_bwwindow_holds(const struct stg_bwwindow *w, unsigned minute)
{
	if (w->start_min < w->end_min)
		return minute >= w->start_min && minute < w->end_min;
	return minute >= w->start_min || minute < w->end_min;
}

bool stg_bwwindow_overlap(const struct stg_bwwindow *a, const struct stg_bwwindow *b)
{
	/* Where two ranges of a circle meet, one holds at the beginning of the other. */
	return stg_bwwindow_holds(a, b->start_min) || stg_bwwindow_holds(b, a->start_min);
}

const struct stg_bwwindow *stg_bwwindow_at(const struct stg_bwwindow *v, size_t n,
					   int64_t epoch_s)
{
	time_t t = (time_t)epoch_s;
	struct tm tm;

	if (!n || !localtime_r(&t, &tm))
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (stg_bwwindow_holds(&v[i], (unsigned)(tm.tm_hour * 60 + tm.tm_min)))
			return &v[i];
	return NULL;
}

const char *stg_bwwindow_text(char out[STG_BWWINDOW_TEXT_MAX], const struct stg_bwwindow *w)
{
	snprintf(out, STG_BWWINDOW_TEXT_MAX, "%02u:%02u-%02u:%02u", w->start_min / 60u % 100,
		 w->start_min % 60u, w->end_min / 60u % 100, w->end_min % 60u);
	return out;
}
