/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The texts an operator reads: what happened, to what, and who wanted it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/error.h"

static void set_keeps_code_and_text(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_int_equal(err_set(&e, -EBUSY, "catalog %s is held", "a"), -EBUSY);
	assert_int_equal(e.code, -EBUSY);
	assert_string_equal(e.text, "catalog a is held");
	assert_int_equal(err_set(&e, -ERR_USAGE, "second"), -ERR_USAGE);
	assert_string_equal(e.text, "second");
}

static void sys_appends_what_errno_means(void **state)
{
	struct err e;

	(void)state;
	errno = ENOENT;
	assert_int_equal(err_sys(&e, "open %s", "x"), -ENOENT);
	assert_int_equal(e.code, -ENOENT);
	assert_string_equal(e.text, "open x: No such file or directory");
}

static void sysn_takes_the_value_and_not_errno(void **state)
{
	struct err e;

	(void)state;
	errno = ENOENT;
	assert_int_equal(err_sysn(&e, -EACCES, "read %d", 7), -EACCES);
	assert_int_equal(e.code, -EACCES);
	assert_string_equal(e.text, "read 7: Permission denied");
}

static void context_goes_in_front_and_nests(void **state)
{
	struct err e;
	int r;

	(void)state;
	errno = EACCES;
	r = err_sys(&e, "open id.pw");
	r = err_ctx(&e, r, "read secret");
	r = err_ctx(&e, r, "connect to %s", "db1");
	assert_int_equal(r, -EACCES);
	assert_int_equal(e.code, -EACCES);
	assert_string_equal(e.text, "connect to db1: read secret: open id.pw: Permission denied");
}

static void context_may_change_the_code(void **state)
{
	struct err e;

	(void)state;
	err_set(&e, -EPIPE, "write");
	assert_int_equal(err_ctx(&e, -ERR_LOST, "session 2"), -ERR_LOST);
	assert_int_equal(e.code, -ERR_LOST);
	assert_string_equal(e.text, "session 2: write");
}

static void a_null_error_still_returns_the_code(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, -EIO, "x"), -EIO);
	errno = EPERM;
	assert_int_equal(err_sys(NULL, "x"), -EPERM);
	assert_int_equal(err_sysn(NULL, -ENOSPC, "x"), -ENOSPC);
	assert_int_equal(err_ctx(NULL, -EBADMSG, "x"), -EBADMSG);
}

/* The struct with a guard behind it, so that a byte too many shows without a sanitizer. */
struct guarded {
	struct err e;
	uint8_t guard[64];
};

static void guarded_init(struct guarded *g)
{
	memset(g, 0xa5, sizeof(*g));
	g->e.text[0] = '\0';
}

static void guarded_check(const struct guarded *g)
{
	for (size_t i = 0; i < sizeof(g->guard); i++)
		assert_int_equal(g->guard[i], 0xa5);
	assert_non_null(memchr(g->e.text, '\0', sizeof(g->e.text)));
}

static void long_texts_are_cut_within_the_buffer(void **state)
{
	char big[3 * ERR_TEXT_MAX];
	struct guarded g;

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';

	guarded_init(&g);
	err_set(&g.e, -EIO, "%s", big);
	guarded_check(&g);
	assert_int_equal(strlen(g.e.text), ERR_TEXT_MAX - 1);

	/* Full already: what errno and the context add must find no room, and do no harm. */
	errno = EIO;
	assert_int_equal(err_sys(&g.e, "%s", big), -EIO);
	guarded_check(&g);
	assert_int_equal(err_ctx(&g.e, -EIO, "front"), -EIO);
	guarded_check(&g);
	assert_memory_equal(g.e.text, "front: xxx", 10);
	assert_int_equal(strlen(g.e.text), ERR_TEXT_MAX - 1);
	assert_int_equal(err_ctx(&g.e, -EIO, "%s", big), -EIO);
	guarded_check(&g);
}

static void percent_signs_of_arguments_are_text(void **state)
{
	struct err e;

	(void)state;
	err_set(&e, -EIO, "read %s", "100%s%n");
	assert_string_equal(e.text, "read 100%s%n");
	err_ctx(&e, -EIO, "copy");
	assert_string_equal(e.text, "copy: read 100%s%n");
}

static void names_are_symbolic_for_either_sign(void **state)
{
	static const struct {
		int num;
		const char *want;
	} rows[] = {
		{ ENOSPC, "ENOSPC" },
		{ -ENOSPC, "ENOSPC" },
		{ EACCES, "EACCES" },
		{ -ERR_LOST, "ERROR" },
		{ 99999, "ERROR" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(err_name(rows[i].num), rows[i].want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_keeps_code_and_text),
		cmocka_unit_test(sys_appends_what_errno_means),
		cmocka_unit_test(sysn_takes_the_value_and_not_errno),
		cmocka_unit_test(context_goes_in_front_and_nests),
		cmocka_unit_test(context_may_change_the_code),
		cmocka_unit_test(a_null_error_still_returns_the_code),
		cmocka_unit_test(long_texts_are_cut_within_the_buffer),
		cmocka_unit_test(percent_signs_of_arguments_are_text),
		cmocka_unit_test(names_are_symbolic_for_either_sign),
	};

	return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
