/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "stager/tune.h"

#define MS 1000000LL

/* Steps of 100 ms with a line of so many bytes a second for each number of sessions. */
static void simulate(struct stg_tune *t, const uint64_t rates[9], unsigned busy_pct, int steps)
{
	struct stg_tune_now now = { .work = true, .ns = 1, .trip_ns = 10 * MS };

	for (int i = 0; i < steps; i++) {
		now.ready = t->allowed;
		stg_tune_step(t, &now);
		now.ns += 100 * MS;
		now.bytes += rates[t->allowed] / 10;
		now.cpu_all += 100;
		now.cpu_busy += busy_pct;
	}
}

static void what_was_asked_for_stays(void **state)
{
	static const uint64_t rates[9] = { 0, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000 };
	struct stg_tune t;

	(void)state;
	stg_tune_init(&t, 3, 4);
	simulate(&t, rates, 0, 100);
	assert_int_equal(t.allowed, 3);
	assert_string_equal(t.reason, "asked for");
}

static void sessions_are_added_while_it_gets_faster(void **state)
{
	static const struct {
		uint64_t rates[9];
		unsigned cores, busy_pct, want;
		const char *reason;
	} rows[] = {
		{ { 0, 10, 20, 30, 40, 50, 60, 70, 80 }, 4, 30, 8, "grew up to the most" },
		{ { 0, 10, 20, 30, 40, 40, 40, 40, 40 }, 4, 30, 6, "brought nothing" },
		{ { 0, 10, 20, 30, 40, 50, 60, 60, 61 }, 4, 30, 8, "grew up to the most" },
		{ { 0, 10, 20, 30, 40, 50, 60, 70, 80 }, 4, 90, 4, "10% of the processors" },
		{ { 0, 10, 20, 20, 20, 20, 20, 20, 20 }, 2, 90, 2, "10% of the processors" },
		{ { 0, 10, 20, 30, 40, 50, 60, 70, 80 }, 1, 0, 8, "grew up to the most" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t rates[9];
		struct stg_tune t;

		for (int k = 0; k < 9; k++)
			rates[k] = rows[i].rates[k] << 20;
		stg_tune_init(&t, 0, rows[i].cores);
		simulate(&t, rates, rows[i].busy_pct, 100);
		assert_int_equal(t.allowed, rows[i].want);
		assert_true(t.settled);
		assert_non_null(strstr(t.reason, rows[i].reason));
	}
}

static void a_long_line_gets_all_at_once(void **state)
{
	struct stg_tune_now now = { .ns = 1, .trip_ns = 110 * MS };
	struct stg_tune t;

	(void)state;
	stg_tune_init(&t, 0, 2);
	assert_int_equal(t.allowed, 2);
	stg_tune_step(&t, &now);
	assert_int_equal(t.allowed, STG_TUNE_MAX);
	assert_non_null(strstr(t.reason, "110 ms"));
}

/* More than that when it is the windows that hold them up, and the line has room. */
static void windows_that_are_full_want_more_of_them(void **state)
{
	static const struct {
		uint64_t window, line;
		int64_t trip_ms;
		unsigned want;
	} rows[] = {
		{ 100, 0, 210, STG_TUNE_FAR_MAX },
		{ 100, 10, 210, STG_TUNE_FAR_MAX },
		{ 100, 50, 210, STG_TUNE_MAX },
		{ 0, 100, 210, STG_TUNE_MAX },
		{ 0, 0, 210, STG_TUNE_MAX },
		{ 100, 0, 110, STG_TUNE_MAX },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct stg_tune_now now = { .ns = 1, .work = true,
					    .trip_ns = rows[i].trip_ms * MS };
		struct stg_tune t;

		stg_tune_init(&t, 0, 4);
		/* What was waited for before all were there does not count. */
		now.waits_window = 1000;
		for (int k = 0; k < 20; k++) {
			stg_tune_step(&t, &now);
			assert_int_equal(t.allowed, STG_TUNE_MAX);
			now.ready = (unsigned)k / 3;
			now.ns += 100 * MS;
		}
		now.ready = t.allowed;
		for (int k = 0; k < 20; k++) {
			stg_tune_step(&t, &now);
			now.ns += 100 * MS;
			now.waits_window += rows[i].window;
			now.waits_line += rows[i].line;
			now.bytes += 1 << 20;
		}
		assert_int_equal(t.allowed, rows[i].want);
		assert_true(t.settled);
		assert_non_null(strstr(t.reason, "a long line"));
	}
}

/* While some still connect, or there is nothing to do, throughput means nothing. */
static void idle_moments_do_not_count(void **state)
{
	struct stg_tune_now now = { .ns = 1, .ready = 4 };
	struct stg_tune t;

	(void)state;
	stg_tune_init(&t, 0, 4);
	for (int i = 0; i < 100; i++) {
		now.ns += 100 * MS;
		now.bytes += 1000;
		now.work = i % 3 != 0;
		stg_tune_step(&t, &now);
	}
	assert_int_equal(t.allowed, 4);
	now.work = true;
	now.ready = 3;
	for (int i = 0; i < 100; i++) {
		now.ns += 100 * MS;
		now.bytes += 1000;
		stg_tune_step(&t, &now);
	}
	assert_int_equal(t.allowed, 4);
	assert_false(t.settled);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_asked_for_stays),
		cmocka_unit_test(sessions_are_added_while_it_gets_faster),
		cmocka_unit_test(a_long_line_gets_all_at_once),
		cmocka_unit_test(windows_that_are_full_want_more_of_them),
		cmocka_unit_test(idle_moments_do_not_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
