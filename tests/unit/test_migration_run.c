/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/migration_run.h"
#include "common/macro.h"

struct fixture {
	char dir[64];
	char file[128];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	snprintf(f->dir, sizeof(f->dir), "/tmp/migration-run-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->file, sizeof(f->file), "%s/" AGT_RUN_FILE, f->dir);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unlink(f->file);
	rmdir(f->dir);
	free(f);
	return 0;
}

static void write_file(const struct fixture *f, const char *text)
{
	FILE *file = fopen(f->file, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void what_is_saved_comes_back_whole(void **state)
{
	struct fixture *f = *state;
	struct agt_run a, b;
	struct err e = { 0 };

	agt_migration_run_init(&a);
	a.step = AGT_STEP_POLL;
	a.used = 1u << AGT_AS_FILE | 1u << AGT_WITHOUT_DISKS;
	a.private_address = true;
	a.task_try = 3;
	a.staged_status = 24;
	a.over = true;
	AGT_SET(a.source_name, "name with \"quotes\" and \\ and \xc3\xa9");
	AGT_SET(a.task_id, "0123");
	AGT_SET(a.intent, "server");
	AGT_SET(a.servers_before, "a b c");
	assert_int_equal(agt_migration_run_save(f->dir, &a, &e), 0);
	assert_int_equal(agt_migration_run_load(f->dir, &b, &e), 0);
	assert_memory_equal(&a, &b, sizeof(a));
}

static void no_state_is_told_from_a_damaged_one(void **state)
{
	static const char *const bad[] = {
		"", "{", "[]", "null", "{}", "{\"run_id\":\"x\"}",
		"{\"run_id\":\"x\",\"step\":\"somewhere\"}", "{\"run_id\":7,\"step\":[]}",
	};
	struct fixture *f = *state;
	struct agt_run r;
	struct err e = { 0 };

	assert_int_equal(agt_migration_run_load(f->dir, &r, &e), -ENOENT);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		write_file(f, bad[i]);
		assert_int_equal(agt_migration_run_load(f->dir, &r, &e), -EBADMSG);
		assert_non_null(strstr(e.text, "--restart"));
	}
}

static void members_of_other_types_are_empty(void **state)
{
	struct fixture *f = *state;
	struct agt_run r;
	struct err e = { 0 };

	write_file(f, "{\"run_id\":\"x\",\"step\":\"task\",\"task_id\":null,\"task_try\":\"2\","
		      "\"vpc_id\":{\"a\":1},\"used\":17,\"private_address\":\"true\"}");
	assert_int_equal(agt_migration_run_load(f->dir, &r, &e), 0);
	assert_int_equal(r.step, AGT_STEP_TASK);
	assert_string_equal(r.task_id, "");
	assert_string_equal(r.vpc_id, "");
	assert_int_equal(r.task_try, 2);
	assert_int_equal(r.staged_status, -1);
	assert_true(r.private_address);
}

static void words_are_whole_words(void **state)
{
	char words[16] = "";

	(void)state;
	agt_words_add(words, sizeof(words), "abc");
	agt_words_add(words, sizeof(words), "de");
	assert_true(agt_words_have(words, "abc"));
	assert_true(agt_words_have(words, "de"));
	assert_false(agt_words_have(words, "ab"));
	assert_false(agt_words_have(words, "d"));
	assert_false(agt_words_have("", "d"));
	/* The oldest go when there is no room; what never fits is left out. */
	agt_words_add(words, sizeof(words), "fghijklmno");
	assert_true(agt_words_have(words, "fghijklmno"));
	assert_false(agt_words_have(words, "abc"));
	agt_words_add(words, sizeof(words), "0123456789abcdef");
	assert_true(strlen(words) < sizeof(words));
	assert_true(agt_words_have(words, "fghijklmno"));
}

static void a_field_takes_what_fits_and_nothing_empty(void **state)
{
	char field[4] = "old";

	(void)state;
	assert_false(AGT_SET(field, ""));
	assert_false(AGT_SET(field, NULL));
	assert_false(AGT_SET(field, "four"));
	assert_string_equal(field, "old");
	assert_true(AGT_SET(field, "new"));
	assert_string_equal(field, "new");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_saved_comes_back_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(no_state_is_told_from_a_damaged_one, setup,
						teardown),
		cmocka_unit_test_setup_teardown(members_of_other_types_are_empty, setup, teardown),
		cmocka_unit_test(words_are_whole_words),
		cmocka_unit_test(a_field_takes_what_fits_and_nothing_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
