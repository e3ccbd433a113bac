/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/level.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MS 1000000LL

struct line {
	int64_t ns, cpu_ns;
	struct stg_level level;
};

/* Blocks 20 ms apart, for each of which the thread worked so long.  The last one's level. */
static int run(struct line *l, enum stg_level_ready ready, int64_t work_ns, int blocks)
{
	int level = 0;

	for (int i = 0; i < blocks; i++) {
		l->ns += 20 * MS;
		l->cpu_ns += work_ns;
		level = stg_level_step(&l->level, ready, l->ns, l->cpu_ns);
	}
	return level;
}

static void a_long_line_is_packed_for_at_once(void **state)
{
	struct line near = { .level = stg_level_begin(7 * MS) };
	struct line far = { .level = stg_level_begin(33 * MS) };

	(void)state;
	assert_int_equal(run(&near, STG_LEVEL_SOME, MS, 1), 1);
	assert_int_equal(run(&far, STG_LEVEL_SOME, MS, 50), 3);
}

static void a_slow_line_is_worth_work(void **state)
{
	struct line l = { 0 };

	(void)state;
	assert_int_equal(run(&l, STG_LEVEL_FULL, MS, 1), 1);
	assert_int_equal(run(&l, STG_LEVEL_FULL, MS, 5), 3);
	assert_int_equal(run(&l, STG_LEVEL_FULL, 2 * MS, 5), 6);
	assert_int_equal(run(&l, STG_LEVEL_FULL, 2 * MS, 50), 6);
}

static void a_thread_that_is_busy_packs_no_harder(void **state)
{
	struct line l = { 0 };

	(void)state;
	assert_int_equal(run(&l, STG_LEVEL_FULL, 20 * MS, 50), 1);
	/* What it has reached it keeps while the line is provided for. */
	assert_int_equal(run(&l, STG_LEVEL_FULL, MS, 5), 3);
	assert_int_equal(run(&l, STG_LEVEL_FULL, 20 * MS, 50), 3);
	assert_int_equal(run(&l, STG_LEVEL_SOME, 20 * MS, 50), 1);
}

static void a_line_that_waits_is_given_more(void **state)
{
	struct line l = { 0 };

	(void)state;
	assert_int_equal(run(&l, STG_LEVEL_FULL, MS, 20), 6);
	assert_int_equal(run(&l, STG_LEVEL_SOME, MS, 50), 6);
	assert_int_equal(run(&l, STG_LEVEL_DRY, MS, 10), 3);
	assert_int_equal(run(&l, STG_LEVEL_DRY, MS, 50), 1);
}

static void a_single_block_tells_nothing(void **state)
{
	struct stg_level l = stg_level_begin(0);

	(void)state;
	assert_int_equal(stg_level_step(&l, STG_LEVEL_FULL, MS, 0), 1);
	assert_int_equal(stg_level_step(&l, STG_LEVEL_FULL, 50 * MS, 0), 1);
	assert_int_equal(stg_level_step(&l, STG_LEVEL_FULL, 500 * MS, 0), 3);
	assert_int_equal(stg_level_step(&l, STG_LEVEL_FULL, 900 * MS, 0), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_long_line_is_packed_for_at_once),
		cmocka_unit_test(a_slow_line_is_worth_work),
		cmocka_unit_test(a_thread_that_is_busy_packs_no_harder),
		cmocka_unit_test(a_line_that_waits_is_given_more),
		cmocka_unit_test(a_single_block_tells_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
