/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/macro.h"
#include "stager/hot.h"

static struct stg_hot *make(void)
{
	struct stg_hot *h = NULL;
	struct err e = { 0 };

	assert_int_equal(stg_hot_new(&h, &e), 0);
	return h;
}

static void add(struct stg_hot *h, const char *dir, const char *name, uint64_t literal,
		uint64_t entries)
{
	stg_hot_add(h, bytes_str(dir), bytes_str(name),
		    (struct stg_hot_count){ .literal = literal, .entries = entries });
}

static const struct stg_hot_row *find(const struct stg_hot_row *rows, size_t n, const char *path)
{
	for (size_t i = 0; i < n; i++)
		if (bytes_eq(rows[i].path, bytes_str(path)))
			return &rows[i];
	return NULL;
}

static void nobody_counts_without_counters(void **state)
{
	struct stg_hot_row rows[STG_HOT_TOP];

	(void)state;
	add(NULL, "a", "b", 1, 1);
	assert_int_equal(stg_hot_top(NULL, STG_HOT_DIRS, rows), 0);
	stg_hot_free(NULL);
}

static void nothing_counted_is_no_row(void **state)
{
	struct stg_hot *h = make();
	struct stg_hot_row rows[STG_HOT_TOP];

	(void)state;
	assert_int_equal(stg_hot_top(h, STG_HOT_DIRS, rows), 0);
	assert_int_equal(stg_hot_top(h, STG_HOT_FILES, rows), 0);
	stg_hot_free(h);
}

static void files_count_for_their_directory(void **state)
{
	struct stg_hot *h = make();
	struct stg_hot_row rows[STG_HOT_TOP];
	size_t n;

	(void)state;
	add(h, "var/log", "a", 1000000, 1);
	add(h, "var/log", "b", 500000, 1);
	add(h, "var/log", "a", 1000000, 0);
	add(h, "", "top", 300000, 1);
	add(h, "srv", "", 0, 100); /* removals have no name */
	add(h, "srv", "none", 0, 0);
	n = stg_hot_top(h, STG_HOT_DIRS, rows);
	assert_int_equal(n, 3);
	assert_true(bytes_eq(rows[0].path, bytes_str("var/log")));
	assert_int_equal(rows[0].count.literal, 2500000);
	assert_int_equal(rows[0].count.entries, 2);
	assert_true(bytes_eq(rows[1].path, bytes_str("srv")));
	assert_int_equal(rows[2].path.n, 0);
	n = stg_hot_top(h, STG_HOT_FILES, rows);
	assert_int_equal(n, 3);
	assert_true(bytes_eq(rows[0].path, bytes_str("var/log/a")));
	assert_int_equal(rows[0].count.literal, 2000000);
	stg_hot_free(h);
}

/* A thousand small mailboxes, and a large one: the large one has a name, the rest its place. */
static void small_directories_count_for_the_one_above(void **state)
{
	struct stg_hot *h = make();
	struct stg_hot_row rows[STG_HOT_TOP];
	const struct stg_hot_row *row;
	size_t n;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		char path[64];

		snprintf(path, sizeof(path), "var/mail/user%d/cur", i);
		add(h, path, "m", 10000, 1);
	}
	add(h, "var/mail/boss/cur", "m", 50000000, 1);
	n = stg_hot_top(h, STG_HOT_DIRS, rows);
	assert_int_equal(n, 2);
	assert_true(bytes_eq(rows[0].path, bytes_str("var/mail/boss/cur")));
	row = find(rows, n, "var/mail");
	assert_non_null(row);
	assert_int_equal(row->count.literal, 10000000);
	assert_int_equal(row->count.entries, 1000);
	stg_hot_free(h);
}

static void memory_is_bounded_and_totals_stay_exact(void **state)
{
	enum { DIRS = 5 * STG_HOT_ROWS };
	struct stg_hot *h = make();
	struct stg_hot_row rows[STG_HOT_TOP];
	uint64_t bytes = 0, entries = 0;
	size_t n;

	(void)state;
	add(h, "big/one", "f", 40000000, 1);
	for (int i = 0; i < DIRS; i++) {
		char path[128];

		snprintf(path, sizeof(path), "t/%d/%d/%d", i % 7, i % 101, i);
		add(h, path, "f", 1000, 1);
		if (i % 100 == 0)
			add(h, "hot/spot", "log", 1000000, 0);
	}
	n = stg_hot_top(h, STG_HOT_DIRS, rows);
	assert_true(n > 2);
	for (size_t i = 0; i < n; i++) {
		bytes += rows[i].count.literal;
		entries += rows[i].count.entries;
	}
	assert_int_equal(bytes, 40000000 + DIRS * 1000ull + (DIRS + 99) / 100 * 1000000ull);
	assert_int_equal(entries, DIRS + 1);
	/* All of the small ones lie below t, and were counted there as far as they had to. */
	assert_non_null(find(rows, n, "hot/spot"));
	assert_int_equal(find(rows, n, "hot/spot")->count.literal, (DIRS + 99) / 100 * 1000000ull);
	assert_non_null(find(rows, n, "big/one"));
	n = stg_hot_top(h, STG_HOT_FILES, rows);
	assert_int_equal(n, STG_HOT_TOP);
	assert_true(bytes_eq(rows[0].path, bytes_str("hot/spot/log")));
	assert_true(bytes_eq(rows[1].path, bytes_str("big/one/f")));
	stg_hot_free(h);
}

static void long_and_odd_names_are_names(void **state)
{
	struct stg_hot *h = make();
	struct stg_hot_row rows[STG_HOT_TOP];
	char deep[4001];
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(deep) - 1; i++)
		deep[i] = i % 2 ? '/' : 'd';
	deep[sizeof(deep) - 2] = '\0';
	add(h, deep, "\xff\xfe", 10, 1);
	add(h, "x", "big", 1000000000, 1);
	n = stg_hot_top(h, STG_HOT_DIRS, rows);
	/* It went all the way up. */
	assert_int_equal(n, 2);
	assert_int_equal(rows[1].path.n, 0);
	assert_int_equal(rows[1].count.literal, 10);
	n = stg_hot_top(h, STG_HOT_FILES, rows);
	assert_int_equal(n, 2);
	assert_int_equal(rows[1].path.n, strlen(deep) + 3);
	stg_hot_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_counts_without_counters),
		cmocka_unit_test(nothing_counted_is_no_row),
		cmocka_unit_test(files_count_for_their_directory),
		cmocka_unit_test(small_directories_count_for_the_one_above),
		cmocka_unit_test(memory_is_bounded_and_totals_stay_exact),
		cmocka_unit_test(long_and_odd_names_are_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
