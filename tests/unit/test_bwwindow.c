/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "common/macro.h"
#include "stager/bwwindow.h"

static struct stg_bwwindow window(const char *start, const char *end)
{
	struct stg_bwwindow w = { .bytes_per_s = STG_BWWINDOW_MB };
	struct err e = { 0 };

	assert_int_equal(stg_bwwindow_time(start, false, &w.start_min, &e), 0);
	assert_int_equal(stg_bwwindow_time(end, true, &w.end_min, &e), 0);
	return w;
}

static void times_are_hours_and_minutes(void **state)
{
	static const struct {
		const char *text;
		int start, end; /* minutes, negative: refused */
	} rows[] = {
		{ "00:00", 0, 1440 },  { "00:01", 1, 1 },   { "09:30", 570, 570 },
		{ "23:59", 1439, 1439 }, { "24:00", -1, 1440 }, { "24:01", -1, -1 },
		{ "9:30", -1, -1 },    { "09:60", -1, -1 }, { "", -1, -1 },
		{ "09-30", -1, -1 },   { "0x:30", -1, -1 }, { "09:30 ", -1, -1 },
		{ "-1:30", -1, -1 },   { "99:99", -1, -1 }, { "09:3\xff", -1, -1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		for (int end = 0; end < 2; end++) {
			int want = end ? rows[i].end : rows[i].start, r;
			struct err e = { 0 };
			uint16_t v = 7777;

			r = stg_bwwindow_time(rows[i].text, end, &v, &e);
			assert_int_equal(r, want < 0 ? -ERR_USAGE : 0);
			assert_int_equal(v, want < 0 ? 7777 : want);
		}
}

static void a_window_may_cross_midnight(void **state)
{
	static const struct {
		const char *start, *end;
		unsigned minute;
		bool holds;
	} rows[] = {
		{ "09:00", "18:00", 539, false },  { "09:00", "18:00", 540, true },
		{ "09:00", "18:00", 1079, true },  { "09:00", "18:00", 1080, false },
		{ "22:00", "06:00", 1319, false }, { "22:00", "06:00", 1320, true },
		{ "22:00", "06:00", 0, true },     { "22:00", "06:00", 359, true },
		{ "22:00", "06:00", 360, false },  { "22:00", "00:00", 1439, true },
		{ "22:00", "00:00", 0, false },    { "00:00", "24:00", 0, true },
		{ "00:00", "24:00", 1439, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct stg_bwwindow w = window(rows[i].start, rows[i].end);

		assert_int_equal(stg_bwwindow_holds(&w, rows[i].minute), rows[i].holds);
	}
}

/* Against every minute of the day, in both orders. */
static void an_overlap_is_a_common_minute(void **state)
{
	static const char *const v[][2] = {
		{ "09:00", "18:00" }, { "18:00", "22:00" }, { "22:00", "09:00" },
		{ "08:00", "09:01" }, { "00:00", "24:00" }, { "23:00", "00:00" },
		{ "00:00", "01:00" }, { "12:00", "11:00" }, { "11:00", "12:00" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(v); i++)
		for (size_t k = 0; k < ARRAY_SIZE(v); k++) {
			struct stg_bwwindow a = window(v[i][0], v[i][1]);
			struct stg_bwwindow b = window(v[k][0], v[k][1]);
			bool both = false;

			for (unsigned m = 0; m < STG_DAY_MIN; m++)
				both |= stg_bwwindow_holds(&a, m) && stg_bwwindow_holds(&b, m);
			assert_int_equal(stg_bwwindow_overlap(&a, &b), both);
		}
}

/* Berlin: on 2026-03-29 at 01:00 UTC it becomes 03:00, on 2026-10-25 at 01:00 UTC 02:00 again. */
static void daylight_saving_is_the_wall_clocks_affair(void **state)
{
	const struct stg_bwwindow v[] = { window("02:15", "02:45"), window("03:00", "04:00") };
	static const struct {
		int64_t at;
		int which; /* -1: none */
	} rows[] = {
		{ 1774744200, -1 },      /* spring, 01:30 */
		{ 1774745999, -1 },      /* 01:59:59 */
		{ 1774746000, 1 },       /* 03:00: there was no 02:15 */
		{ 1774746000 + 1800, 1 },
		{ 1774746000 + 3600, -1 },
		{ 1792886400 + 1800, 0 }, /* autumn, 02:30 for the first time */
		{ 1792886400 + 2700, -1 },
		{ 1792890000 + 1800, 0 }, /* 02:30 again */
		{ 1792890000 + 3600, 1 },
	};

	(void)state;
	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	tzset();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct stg_bwwindow *w = stg_bwwindow_at(v, ARRAY_SIZE(v), rows[i].at);

		assert_ptr_equal(w, rows[i].which < 0 ? NULL : &v[rows[i].which]);
	}
	assert_null(stg_bwwindow_at(NULL, 0, 0));
	/* A year that no calendar has. */
	assert_null(stg_bwwindow_at(v, ARRAY_SIZE(v), INT64_MAX));
	setenv("TZ", "UTC", 1);
	tzset();
}

static void a_window_has_a_short_name(void **state)
{
	struct stg_bwwindow w = window("22:05", "06:00"), day = window("00:00", "24:00");
	char text[STG_BWWINDOW_TEXT_MAX];

	(void)state;
	assert_string_equal(stg_bwwindow_text(text, &w), "22:05-06:00");
	assert_string_equal(stg_bwwindow_text(text, &day), "00:00-24:00");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_hours_and_minutes),
		cmocka_unit_test(a_window_may_cross_midnight),
		cmocka_unit_test(an_overlap_is_a_common_minute),
		cmocka_unit_test(daylight_saving_is_the_wall_clocks_affair),
		cmocka_unit_test(a_window_has_a_short_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
