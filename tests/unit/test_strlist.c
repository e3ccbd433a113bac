/* SPDX-License-Identifier: Apache-2.0 */
#include "common/strlist.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/nearest.h"

static void a_comma_separated_list_loses_blanks_and_empty_elements(void **state)
{
	static const struct {
		const char *text;
		const char *want[4];
	} rows[] = {
		{ "", { NULL } },
		{ " , ,,", { NULL } },
		{ "one", { "one" } },
		{ " one ,\ttwo words ,three\n", { "one", "two words", "three" } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(strlist_fini) struct strlist l = { 0 };
		size_t n = 0;

		assert_int_equal(strlist_add_csv(&l, rows[i].text), 0);
		for (; rows[i].want[n]; n++) {
			assert_true(n < l.n);
			assert_string_equal(l.v[n], rows[i].want[n]);
		}
		assert_int_equal(l.n, n);
	}
}

static void a_list_grows_and_keeps_copies(void **state)
{
	_cleanup_(strlist_fini) struct strlist l = { 0 };

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(strlist_add(&l, "abcdef", 3), 0);
	assert_int_equal(l.n, 100);
	assert_string_equal(l.v[99], "abc");
}

static void the_nearest_name_is_found_and_a_far_one_is_not(void **state)
{
	static const struct {
		const char *word, *want;
	} rows[] = {
		{ "regsiter", "register" },
		{ "statu", "status" },
		{ "status", "status" },
		{ "x", NULL },
		{ "somethingelse", NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct nearest n = { .word = rows[i].word };
		const char *got;

		nearest_try(&n, "register");
		nearest_try(&n, "status");
		got = nearest_get(&n);
		if (rows[i].want) {
			assert_non_null(got);
			assert_string_equal(got, rows[i].want);
		} else {
			assert_null(got);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_comma_separated_list_loses_blanks_and_empty_elements),
		cmocka_unit_test(a_list_grows_and_keeps_copies),
		cmocka_unit_test(the_nearest_name_is_found_and_a_far_one_is_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
