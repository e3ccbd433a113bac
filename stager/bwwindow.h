/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/bwwindow.h - hours of the day with a bandwidth limit of their own.
 *
 * A window is a range of minutes of the local day.  Which one holds is asked of the clock on
 * the wall each time and never reckoned ahead, so a clock that is set, and the two nights of
 * daylight saving, need no care: at 02:30 a window of 02:00 to 03:00 holds, as often as
 * there is a 02:30 that night, be it twice or not at all.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define STG_BWWINDOWS_MAX 64
#define STG_BWWINDOW_MB 1000000u   /* bytes in the unit of the config file's limits */
#define STG_BWWINDOW_TEXT_MAX 12   /* "09:00-18:00" and its NUL */
#define STG_DAY_MIN 1440

struct stg_bwwindow {
	uint16_t start_min; /* of the local day, 0 to 1439 */
	uint16_t end_min;   /* 1 to 1440, not included; below start_min: of the next day */
	uint64_t bytes_per_s;
};

/* "HH:MM" to a minute; the end of a window may be 24:00.  -ERR_USAGE otherwise. */
int stg_bwwindow_time(const char *text, bool is_end, uint16_t *ret, struct err *e)
	_must_check_;

/* Does w hold at this minute of the day? */
bool stg_bwwindow_holds(const struct stg_bwwindow *w, unsigned minute);
/* Is there a minute at which both hold? */
bool stg_bwwindow_overlap(const struct stg_bwwindow *a, const struct stg_bwwindow *b);

/* The one of n windows that holds at this moment (seconds since 1970) here; NULL: none. */
const struct stg_bwwindow *stg_bwwindow_at(const struct stg_bwwindow *v, size_t n,
					   int64_t epoch_s);

/* "09:00-18:00".  Returns out. */
const char *stg_bwwindow_text(char out[STG_BWWINDOW_TEXT_MAX], const struct stg_bwwindow *w);
