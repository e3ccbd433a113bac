/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct fixture {
	char dir[64];
	struct agt_spool *s;
	struct err e;
};

static int fixture_make(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	strcpy(f->dir, "/tmp/test_spool.XXXXXX");
	*state = f;
	return mkdtemp(f->dir) ? 0 : -1;
}

static int fixture_drop(void **state)
{
	struct fixture *f = *state;
	char command[128];

	agt_spool_close(f->s);
	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	free(f);
	return system(command);
}

static void open_spool(struct fixture *f, const struct agt_spool_opts *o)
{
	agt_spool_close(f->s);
	f->s = NULL;
	if (agt_spool_open(f->dir, o, &f->s, &f->e) < 0)
		fail_msg("%s", f->e.text);
}

static void put(struct fixture *f, const char *text, bool may_go_stale)
{
	if (agt_spool_put(f->s, bytes_str(text), may_go_stale, &f->e) < 0)
		fail_msg("%s", f->e.text);
}

/* All contents in order, with a blank behind each. */
static const char *contents(struct fixture *f, struct buf *out)
{
	_cleanup_free_ struct agt_spool_item *v = NULL;
	size_t n = 0;

	assert_int_equal(agt_spool_list(f->s, &v, &n, &f->e), 0);
	buf_clear(out);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(agt_spool_read(f->s, &v[i], out, &f->e), 0);
		assert_int_equal(buf_put(out, " ", 1), 0);
	}
	return buf_cstr(out);
}

static struct agt_spool_item first(struct fixture *f)
{
	_cleanup_free_ struct agt_spool_item *v = NULL;
	size_t n = 0;

	assert_int_equal(agt_spool_list(f->s, &v, &n, &f->e), 0);
	assert_true(n > 0);
	return v[0];
}

static void reports_come_out_in_the_order_in_which_they_went_in(void **state)
{
	_cleanup_(buf_fini) struct buf all = BUF_INIT;
	struct fixture *f = *state;
	char text[16], want[256] = "";

	open_spool(f, NULL);
	for (int i = 0; i < 12; i++) {
		snprintf(text, sizeof(text), "%d", i);
		put(f, text, i % 3 == 0);
		strcat(strcat(want, text), " ");
	}
	assert_string_equal(contents(f, &all), want);
	/* Another process finds them just so. */
	open_spool(f, NULL);
	assert_string_equal(contents(f, &all), want);
}

static void one_that_has_arrived_is_gone_and_no_other(void **state)
{
	_cleanup_(buf_fini) struct buf all = BUF_INIT;
	struct agt_spool_stats st;
	struct agt_spool_item item;
	struct fixture *f = *state;

	open_spool(f, NULL);
	put(f, "a", false);
	put(f, "b", false);
	item = first(f);
	assert_int_equal(agt_spool_done(f->s, &item, &f->e), 0);
	assert_int_equal(agt_spool_done(f->s, &item, &f->e), 0);
	assert_string_equal(contents(f, &all), "b ");
	assert_int_equal(agt_spool_read(f->s, &item, &all, &f->e), -ENOENT);
	assert_int_equal(agt_spool_stats(f->s, &st, &f->e), 0);
	assert_int_equal(st.count, 1);
	assert_int_equal(st.bytes, 1);
}

static void a_full_spool_drops_old_progress_and_no_result(void **state)
{
	const struct agt_spool_opts o = { .max_count = 4 };
	_cleanup_(buf_fini) struct buf all = BUF_INIT;
	struct fixture *f = *state;

	open_spool(f, &o);
	put(f, "p1", true);
	put(f, "r1", false);
	put(f, "p2", true);
	put(f, "r2", false);
	put(f, "p3", true);
	assert_string_equal(contents(f, &all), "r1 p2 r2 p3 ");
	put(f, "r3", false);
	put(f, "r4", false);
	assert_string_equal(contents(f, &all), "r1 r2 r3 r4 ");
	/* Results go beyond the limit rather than be lost. */
	put(f, "r5", false);
	put(f, "p4", true);
	assert_string_equal(contents(f, &all), "r1 r2 r3 r4 r5 ");
}

static void bytes_are_bounded_too(void **state)
{
	const struct agt_spool_opts o = { .max_bytes = 10 };
	_cleanup_(buf_fini) struct buf all = BUF_INIT;
	struct fixture *f = *state;

	open_spool(f, &o);
	put(f, "aaaa", true);
	put(f, "bbbb", true);
	put(f, "cccc", true);
	assert_string_equal(contents(f, &all), "bbbb cccc ");
	put(f, "dddddddddd", true);
	assert_string_equal(contents(f, &all), "dddddddddd ");
}

static void what_is_refused_is_set_aside_and_the_newest_are_kept(void **state)
{
	const struct agt_spool_opts o = { .max_rejected = 2 };
	_cleanup_(buf_fini) struct buf all = BUF_INIT;
	struct agt_spool_stats st;
	struct fixture *f = *state;
	char path[128];

	open_spool(f, &o);
	for (int i = 0; i < 4; i++) {
		struct agt_spool_item item;

		put(f, "x", false);
		item = first(f);
		assert_int_equal(agt_spool_reject(f->s, &item, &f->e), 0);
	}
	put(f, "y", false);
	assert_string_equal(contents(f, &all), "y ");
	assert_int_equal(agt_spool_stats(f->s, &st, &f->e), 0);
	assert_int_equal(st.rejected, 2);
	snprintf(path, sizeof(path), "%s/spool/rejected/%020d.r", f->dir, 4);
	assert_int_equal(access(path, F_OK), 0);
}

static void foreign_files_are_left_alone(void **state)
{
	static const char *const names[] = { "00000000000000000001.x", "1.r", "00000000000000000001.rr",
					     "readme" };
	_cleanup_(buf_fini) struct buf all = BUF_INIT;
	struct fixture *f = *state;

	open_spool(f, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[128];

		snprintf(path, sizeof(path), "%s/spool/%s", f->dir, names[i]);
		close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	}
	put(f, "a", false);
	assert_string_equal(contents(f, &all), "a ");
}

static void only_one_may_send_at_a_time(void **state)
{
	struct fixture *f = *state;
	struct agt_spool *other = NULL;

	open_spool(f, NULL);
	assert_int_equal(agt_spool_open(f->dir, NULL, &other, &f->e), 0);
	assert_int_equal(agt_spool_lock(f->s, &f->e), 0);
	assert_int_equal(agt_spool_lock(f->s, &f->e), 0);
	assert_int_equal(agt_spool_lock(other, &f->e), -ERR_LOCKED);
	/* But put, any may. */
	assert_int_equal(agt_spool_put(other, bytes_str("a"), false, &f->e), 0);
	agt_spool_close(f->s);
	f->s = NULL;
	assert_int_equal(agt_spool_lock(other, &f->e), 0);
	agt_spool_close(other);
}

/* Writers are killed at any moment: every report is whole, and none that was put is missing. */
static void killed_writers_lose_nothing_and_leave_nothing(void **state)
{
	_cleanup_free_ struct agt_spool_item *v = NULL;
	struct fixture *f = *state;
	char want[1000], command[128];
	size_t n = 0, told = 0;

	open_spool(f, NULL);
	memset(want, 'w', sizeof(want));
	for (int round = 0; round < 20; round++) {
		int fds[2], status;
		char one;
		pid_t pid;

		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		pid = fork();
		if (pid == 0) {
			while (agt_spool_put(f->s, bytes_of(want, sizeof(want)), false, NULL) == 0 &&
			       write(fds[1], "x", 1) == 1)
				;
			_exit(1);
		}
		close(fds[1]);
		/* Some are put for sure; then it dies wherever it is. */
		for (int i = 0; i < 3; i++)
			told += (size_t)read(fds[0], &one, 1);
		usleep((unsigned)(rand() % 2000));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		while (read(fds[0], &one, 1) == 1)
			told++;
		close(fds[0]);
	}
	open_spool(f, NULL);
	assert_int_equal(agt_spool_list(f->s, &v, &n, &f->e), 0);
	assert_true(n >= told && n <= told + 20);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(v[i].bytes, sizeof(want));
	snprintf(command, sizeof(command), "test -z \"$(ls -A %s/spool | grep '^.new')\"", f->dir);
	assert_int_equal(system(command), 0);
}

static void two_writers_take_different_numbers(void **state)
{
	_cleanup_free_ struct agt_spool_item *v = NULL;
	struct fixture *f = *state;
	size_t n = 0;
	int status;

	open_spool(f, NULL);
	for (int i = 0; i < 4; i++)
		if (fork() == 0) {
			for (int k = 0; k < 25; k++)
				if (agt_spool_put(f->s, bytes_str("x"), false, NULL) < 0)
					_exit(1);
			_exit(0);
		}
	for (int i = 0; i < 4; i++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(agt_spool_list(f->s, &v, &n, &f->e), 0);
	assert_int_equal(n, 100);
}

/* Named like reports, but none: neither listed nor waited for, and the order holds. */
static void what_is_no_file_or_has_no_next_number_is_passed_over(void **state)
{
	_cleanup_free_ struct agt_spool_item *v = NULL;
	struct fixture *f = *state;
	char path[128];
	size_t n = 0;
	int fd;

	open_spool(f, NULL);
	snprintf(path, sizeof(path), "%s/spool/00000000000000000001.r", f->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/spool/00000000000000000002.r", f->dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	snprintf(path, sizeof(path), "%s/spool/00000000000000000003.p", f->dir);
	assert_int_equal(symlink("/dev/zero", path), 0);
	snprintf(path, sizeof(path), "%s/spool/99999999999999999999.r", f->dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	put(f, "one", false);
	put(f, "two", false);
	assert_int_equal(agt_spool_list(f->s, &v, &n, &f->e), 0);
	assert_int_equal(n, 2);
	assert_true(v[0].seq < v[1].seq && v[0].bytes == 3);
}

static void one_that_is_too_large_is_refused(void **state)
{
	_cleanup_free_ char *big = calloc(1, AGT_SPOOL_REPORT_MAX + 1);
	struct fixture *f = *state;

	open_spool(f, NULL);
	assert_int_equal(agt_spool_put(f->s, bytes_of(big, AGT_SPOOL_REPORT_MAX + 1), false, &f->e),
			 -EFBIG);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fixture_make, fixture_drop)
	const struct CMUnitTest tests[] = {
		T(reports_come_out_in_the_order_in_which_they_went_in),
		T(one_that_has_arrived_is_gone_and_no_other),
		T(a_full_spool_drops_old_progress_and_no_result),
		T(bytes_are_bounded_too),
		T(what_is_refused_is_set_aside_and_the_newest_are_kept),
		T(foreign_files_are_left_alone),
		T(what_is_no_file_or_has_no_next_number_is_passed_over),
		T(only_one_may_send_at_a_time),
		T(killed_writers_lose_nothing_and_leave_nothing),
		T(two_writers_take_different_numbers),
		T(one_that_is_too_large_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
