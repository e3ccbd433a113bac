/* SPDX-License-Identifier: Apache-2.0 */
#include "common/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/io.h"

struct fixture {
	char dir[64];
	int fd;
};

static int fixture_make(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	strcpy(f->dir, "/tmp/test_secret.XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	f->fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return f->fd < 0 ? -1 : 0;
}

static int fixture_drop(void **state)
{
	struct fixture *f = *state;

	unlinkat(f->fd, "pw", 0);
	close(f->fd);
	rmdir(f->dir);
	free(f);
	return 0;
}

static void fixture_write(struct fixture *f, struct bytes content, mode_t mode)
{
	int fd;

	unlinkat(f->fd, "pw", 0);
	fd = openat(f->fd, "pw", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, content.p, content.n), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void contents_are_judged(void **state)
{
	static const struct {
		const char *content;
		size_t n;
		int want;
		const char *text;
	} rows[] = {
		{ "hunter2\n", 8, 0, "hunter2" },
		{ "hunter2", 7, 0, "hunter2" },
		{ "hunter2\r\n", 9, 0, "hunter2" },
		{ "two\nlines\n\n", 11, 0, "two\nlines\n" },
		{ " spaces stay ", 13, 0, " spaces stay " },
		{ "", 0, -EINVAL, NULL },
		{ "\n", 1, -EINVAL, NULL },
		{ "nul\0byte", 8, -EINVAL, NULL },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(secret_freep) struct secret *s = NULL;
		struct err e = { 0 };

		fixture_write(f, bytes_of(rows[i].content, rows[i].n), 0600);
		assert_int_equal(secret_from_file(f->fd, "pw", &s, &e), rows[i].want);
		if (rows[i].want < 0) {
			assert_null(s);
			continue;
		}
		assert_string_equal(secret_text(s), rows[i].text);
		assert_int_equal(secret_view(s).n, strlen(rows[i].text));
	}
}

static void modes_are_judged(void **state)
{
	static const struct {
		mode_t mode;
		int as_file;
		int as_credential;
	} rows[] = {
		{ 0600, 0, 0 },
		{ 0400, 0, 0 },
		{ 0440, -EPERM, 0 },
		{ 0640, -EPERM, 0 },
		{ 0644, -EPERM, -EPERM },
		{ 0602, -EPERM, -EPERM },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(secret_freep) struct secret *a = NULL, *b = NULL;
		struct err e = { 0 };

		fixture_write(f, bytes_str("hunter2\n"), rows[i].mode);
		assert_int_equal(secret_from_file(f->fd, "pw", &a, &e), rows[i].as_file);
		if (rows[i].as_file < 0) {
			assert_non_null(strstr(e.text, "chmod 600"));
			assert_null(strstr(e.text, "hunter2"));
		}
		assert_int_equal(secret_from_credential(f->dir, "pw", &b, &e),
				 rows[i].as_credential);
	}
}

static void another_owner_is_refused(void **state)
{
	_cleanup_(secret_freep) struct secret *s = NULL;
	struct fixture *f = *state;
	struct err e = { 0 };

	if (geteuid() != 0) {
		print_message("needs root to give a file away\n");
		skip();
	}
	fixture_write(f, bytes_str("hunter2\n"), 0600);
	assert_int_equal(fchownat(f->fd, "pw", 12345, -1, 0), 0);
	assert_int_equal(secret_from_file(f->fd, "pw", &s, &e), -EPERM);
	assert_non_null(strstr(e.text, "12345"));
}

static void sizes_are_bounded(void **state)
{
	_cleanup_(secret_freep) struct secret *s = NULL;
	struct fixture *f = *state;
	char big[SECRET_MAX + 10];
	struct err e = { 0 };

	memset(big, 'x', sizeof(big));
	fixture_write(f, bytes_of(big, sizeof(big)), 0600);
	assert_int_equal(secret_from_file(f->fd, "pw", &s, &e), -EFBIG);
	fixture_write(f, bytes_of(big, SECRET_MAX - 1), 0600);
	assert_int_equal(secret_from_file(f->fd, "pw", &s, &e), 0);
	assert_int_equal(secret_view(s).n, SECRET_MAX - 1);
}

static void what_is_missing_is_named(void **state)
{
	_cleanup_(secret_freep) struct secret *s = NULL;
	struct fixture *f = *state;
	struct err e = { 0 };

	assert_int_equal(secret_from_file(f->fd, "none", &s, &e), -ENOENT);
	assert_non_null(strstr(e.text, "none"));
	assert_int_equal(secret_from_credential(f->dir, "none", &s, &e), -ENOENT);
	assert_int_equal(secret_from_credential(f->dir, "../etc/passwd", &s, &e), -EINVAL);
	assert_int_equal(secret_from_credential("/nonexistent", "pw", &s, &e), -ENOENT);
	assert_int_equal(secret_from_file(f->fd, ".", &s, &e), -EINVAL);
	assert_null(s);
}

static void environment_value_is_copied(void **state)
{
	_cleanup_(secret_freep) struct secret *s = NULL;
	char value[] = "hunter2";
	struct err e = { 0 };

	(void)state;
	assert_int_equal(secret_from_env("PW", value, &s, &e), 0);
	memset(value, 0, sizeof(value));
	assert_string_equal(secret_text(s), "hunter2");
	assert_int_equal(secret_from_env("PW", "", &s, &e), -EINVAL);
	assert_non_null(strstr(e.text, "PW"));
	secret_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(contents_are_judged, fixture_make, fixture_drop),
		cmocka_unit_test_setup_teardown(modes_are_judged, fixture_make, fixture_drop),
		cmocka_unit_test_setup_teardown(another_owner_is_refused, fixture_make,
						fixture_drop),
		cmocka_unit_test_setup_teardown(sizes_are_bounded, fixture_make, fixture_drop),
		cmocka_unit_test_setup_teardown(what_is_missing_is_named, fixture_make,
						fixture_drop),
		cmocka_unit_test(environment_value_is_copied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
