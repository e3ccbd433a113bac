/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/macro.h"
#include "stager/filter.h"
#include "stager/job.h"

static void assert_bytes(struct bytes got, const char *want)
{
	if (!bytes_eq(got, bytes_str(want)))
		fail_msg("'%.*s' in place of '%s'", (int)got.n, (const char *)got.p, want);
}

static void items_keep_copies_of_their_names(void **state)
{
	struct stg_job *j = NULL;
	struct err e = { 0 };
	char name[32], path[32], leader[32];

	(void)state;
	assert_int_equal(stg_job_new(STG_JOB_ITEMS, &j, &e), 0);
	strcpy(path, "a/b");
	assert_int_equal(stg_job_set_dir(j, 7, bytes_str(path), &e), 0);
	memset(path, 'x', sizeof(path));
	/* Enough for both arrays to move several times. */
	for (int i = 0; i < 2000; i++) {
		struct stg_item item = { .op = STG_OP_LINK, .dir = (uint64_t)i };

		snprintf(name, sizeof(name), "name %d", i);
		snprintf(path, sizeof(path), "path/%d", i);
		snprintf(leader, sizeof(leader), "leader %d", i);
		item.name = bytes_str(name);
		item.leader = bytes_str(leader);
		item.leader_path = bytes_str(path);
		if (i % 2)
			item.path = bytes_str(path);
		assert_int_equal(stg_job_add(j, &item, &e), 0);
	}
	memset(name, 'x', sizeof(name));
	stg_job_seal(j);
	assert_int_equal(j->n, 2000);
	assert_int_equal(j->pending, 2000);
	assert_bytes(j->path, "a/b");
	for (int i = 0; i < 2000; i++) {
		const struct stg_item *item = &j->items[i];

		snprintf(name, sizeof(name), "name %d", i);
		snprintf(path, sizeof(path), "path/%d", i);
		snprintf(leader, sizeof(leader), "leader %d", i);
		assert_int_equal(item->dir, i);
		assert_bytes(item->name, name);
		assert_bytes(item->leader, leader);
		assert_bytes(item->leader_path, path);
		assert_bytes(item->path, i % 2 ? path : "a/b");
	}
	stg_job_free(j);
}

static void empty_names_are_no_problem(void **state)
{
	struct stg_job *j = NULL;
	struct err e = { 0 };

	(void)state;
	/* The root: its path has no bytes, and neither has its name. */
	assert_int_equal(stg_job_new(STG_JOB_COMPARE, &j, &e), 0);
	assert_int_equal(stg_job_set_dir(j, 1, bytes_of("", 0), &e), 0);
	assert_int_equal(stg_job_add(j, &(struct stg_item){ .op = STG_OP_DIRMETA }, &e), 0);
	stg_job_seal(j);
	assert_int_equal(j->path.n, 0);
	assert_non_null(j->path.p);
	assert_int_equal(j->items[0].name.n, 0);
	assert_non_null(j->items[0].name.p);
	assert_non_null(j->items[0].path.p);
	stg_job_free(j);
}

static void names_may_hold_any_byte(void **state)
{
	uint8_t all[255];
	struct stg_job *j = NULL;
	struct err e = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (uint8_t)(i + 1);
	assert_int_equal(stg_job_new(STG_JOB_ITEMS, &j, &e), 0);
	assert_int_equal(stg_job_add(j, &(struct stg_item){ .name = bytes_of(all, sizeof(all)),
							    .path = bytes_of(all, 3) }, &e), 0);
	stg_job_seal(j);
	assert_true(bytes_eq(j->items[0].name, bytes_of(all, sizeof(all))));
	assert_true(bytes_eq(j->items[0].path, bytes_of(all, 3)));
	stg_job_free(j);
}

static void cost_covers_what_the_job_holds(void **state)
{
	struct stg_job *small = NULL, *large = NULL;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(stg_job_new(STG_JOB_ITEMS, &small, &e), 0);
	stg_job_seal(small);
	assert_true(small->cost >= sizeof(*small));
	assert_int_equal(stg_job_new(STG_JOB_ITEMS, &large, &e), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(stg_job_add(large, &(struct stg_item){
			.name = bytes_str("0123456789") }, &e), 0);
	stg_job_seal(large);
	assert_true(large->cost >= small->cost + 100 * (sizeof(struct stg_item) + 10));
	stg_job_free(small);
	stg_job_free(large);
	stg_job_free(NULL);
}

/* The sanitizer build tells when the reference is dropped too early or never. */
static void a_job_owns_a_reference_to_its_filter_node(void **state)
{
	_cleanup_(stg_filter_freep) struct stg_filter *filter = NULL;
	struct stg_filter_dir *node = NULL;
	struct stg_job *j = NULL;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(stg_filter_new(&filter, &e), 0);
	assert_int_equal(stg_filter_add_exclude(filter, "*.o", "test", &e), 0);
	assert_int_equal(stg_filter_enter(filter, NULL, -1, bytes_of("", 0), &node, &e), 0);
	assert_int_equal(stg_job_new(STG_JOB_COMPARE, &j, &e), 0);
	j->filter = stg_filter_dir_ref(node);
	stg_filter_dir_unref(node);
	assert_false(stg_filter_sends(j->filter, bytes_str("x.o"), false));
	stg_job_free(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(items_keep_copies_of_their_names),
		cmocka_unit_test(empty_names_are_no_problem),
		cmocka_unit_test(names_may_hold_any_byte),
		cmocka_unit_test(cost_covers_what_the_job_holds),
		cmocka_unit_test(a_job_owns_a_reference_to_its_filter_node),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
