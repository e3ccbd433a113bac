/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/io.h"
#include "stager/audit.h"

struct fixture {
	char dir[64];
	int fd;
	struct err e;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/test_audit.XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	f->fd = open(f->dir, O_RDONLY | O_DIRECTORY);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unlinkat(f->fd, STG_AUDIT_FILE, 0);
	close(f->fd);
	rmdir(f->dir);
	free(f);
	return 0;
}

static struct stg_audit *open_audit(struct fixture *f)
{
	struct stg_audit *a = NULL;

	assert_int_equal(stg_audit_open(f->fd, &(struct stg_audit_opts){ .run_id = "r\"1" }, &a,
					&f->e), 0);
	return a;
}

static void write_lines(struct fixture *f, struct stg_audit *a, int n)
{
	for (int i = 0; i < n; i++) {
		struct stg_audit_field fields[] = {
			STG_AUDIT_TEXT("message", "x\",\"event\":\"repair\",\"torn_bytes\":1"),
			STG_AUDIT_NUMBER("count", i),
			STG_AUDIT_PATH(bytes_str("n\xff\n")),
		};

		assert_int_equal(stg_audit_write(a, STG_AUDIT_ERROR, fields, 3, &f->e), 0);
	}
}

static void make_log(struct fixture *f, int n)
{
	struct stg_audit *a = open_audit(f);

	write_lines(f, a, n);
	stg_audit_close(a);
}

static struct buf content(struct fixture *f)
{
	struct buf b = BUF_INIT;

	assert_int_equal(io_read_file(f->fd, STG_AUDIT_FILE, 1 << 24, &b, &f->e), 0);
	return b;
}

static void replace(struct fixture *f, struct bytes b)
{
	assert_int_equal(io_replace_file(f->fd, STG_AUDIT_FILE, b, 0600, &f->e), 0);
}

static struct stg_audit_check verify(struct fixture *f)
{
	struct stg_audit_check c;

	assert_int_equal(stg_audit_verify(f->fd, &c, &f->e), 0);
	return c;
}

static void a_chain_goes_on_over_runs(void **state)
{
	struct fixture *f = *state;
	struct stg_audit_check c;
	struct stg_audit *a;
	char last[SHA256_HEX_SIZE];

	assert_int_equal(stg_audit_verify(f->fd, &c, &f->e), -ENOENT);
	make_log(f, 3);
	a = open_audit(f);
	assert_int_equal(stg_audit_write(a, STG_AUDIT_RUN_FINISHED, NULL, 0, &f->e), 0);
	stg_audit_last(a, last);
	stg_audit_close(a);
	c = verify(f);
	assert_int_equal(c.lines, 4);
	assert_int_equal(c.broken_line, 0);
	assert_int_equal(c.repairs, 0);
	assert_string_equal(c.last, last);
}

static void two_handles_write_one_chain(void **state)
{
	struct fixture *f = *state;
	struct stg_audit *a = open_audit(f), *b = open_audit(f);

	for (int i = 0; i < 3; i++) {
		write_lines(f, a, 2);
		write_lines(f, b, 1);
	}
	stg_audit_close(a);
	stg_audit_close(b);
	assert_int_equal(verify(f).lines, 9);
	assert_int_equal(verify(f).broken_line, 0);
}

/* Near the end too few lines follow to tell a line from the one that holds its hash. */
static void any_flipped_byte_names_its_line(void **state)
{
	struct fixture *f = *state;
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	size_t line = 1;

	make_log(f, 5);
	b = content(f);
	for (size_t i = 0; i < b.n && line < 4; i++) {
		struct stg_audit_check c;
		bool newline = b.p[i] == '\n';

		b.p[i] ^= 0x01;
		replace(f, buf_view(&b));
		c = verify(f);
		b.p[i] ^= 0x01;
		if (c.broken_line != line)
			fail_msg("byte %zu of line %zu: line %d named (%s)", i, line,
				 (int)c.broken_line, c.why);
		line += newline;
	}
	assert_int_equal(line, 4);
}

static void a_missing_line_is_named(void **state)
{
	struct fixture *f = *state;
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	uint8_t *second, *third;

	make_log(f, 4);
	b = content(f);
	second = (uint8_t *)memchr(b.p, '\n', b.n) + 1;
	third = (uint8_t *)memchr(second, '\n', (size_t)(b.p + b.n - second)) + 1;
	memmove(second, third, (size_t)(b.p + b.n - third));
	b.n -= (size_t)(third - second);
	replace(f, buf_view(&b));
	assert_int_equal(verify(f).broken_line, 2);
}

static void a_log_cut_anywhere_is_repaired_without_loss(void **state)
{
	struct fixture *f = *state;
	_cleanup_(buf_fini) struct buf b = BUF_INIT;

	make_log(f, 3);
	b = content(f);
	for (size_t n = 1; n < b.n; n++) {
		_cleanup_(buf_fini) struct buf now = BUF_INIT;
		struct stg_audit_check c;
		bool whole = b.p[n - 1] == '\n';

		replace(f, bytes_of(b.p, n));
		make_log(f, 1);
		c = verify(f);
		if (c.broken_line)
			fail_msg("cut at %zu: line %d: %s", n, (int)c.broken_line, c.why);
		assert_int_equal(c.repairs, !whole);
		assert_int_equal(c.torn_bytes, 0);
		now = content(f);
		assert_memory_equal(now.p, b.p, n);
	}
}

static void a_torn_repair_is_repaired_and_its_bytes_are_covered(void **state)
{
	struct fixture *f = *state;
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	struct stg_audit_check c;
	struct stat st;

	make_log(f, 2);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fstatat(f->fd, STG_AUDIT_FILE, &st, 0), 0);
		b = content(f);
		replace(f, bytes_of(b.p, b.n - 20));
		buf_fini(&b);
		stg_audit_close(open_audit(f));
	}
	c = verify(f);
	assert_int_equal(c.broken_line, 0);
	assert_int_equal(c.lines, 4);
	assert_int_equal(c.repairs, 1);

	/* Line 2 is the torn one. */
	b = content(f);
	((uint8_t *)memchr(b.p, '\n', b.n))[30] ^= 1;
	replace(f, buf_view(&b));
	assert_int_equal(verify(f).broken_line, 2);
}

static void a_broken_end_is_not_appended_to(void **state)
{
	struct fixture *f = *state;
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	struct stg_audit *a = NULL;

	make_log(f, 3);
	b = content(f);
	((uint8_t *)memchr(b.p, '\n', b.n))[40] ^= 1;
	replace(f, buf_view(&b));
	assert_int_equal(stg_audit_open(f->fd, &(struct stg_audit_opts){ .run_id = "r" }, &a,
					&f->e), -EBADMSG);
	assert_null(a);
}

static void a_long_log_is_opened_by_its_tail(void **state)
{
	struct fixture *f = *state;
	_cleanup_(buf_fini) struct buf b = BUF_INIT;

	make_log(f, 5000);
	b = content(f);
	assert_true(b.n > 4 * STG_AUDIT_LINE_MAX);
	make_log(f, 1);
	assert_int_equal(verify(f).lines, 5001);
	assert_int_equal(verify(f).broken_line, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_chain_goes_on_over_runs),
		T(two_handles_write_one_chain),
		T(any_flipped_byte_names_its_line),
		T(a_missing_line_is_named),
		T(a_log_cut_anywhere_is_repaired_without_loss),
		T(a_torn_repair_is_repaired_and_its_bytes_are_covered),
		T(a_broken_end_is_not_appended_to),
		T(a_long_log_is_opened_by_its_tail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
