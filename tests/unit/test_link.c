/* SPDX-License-Identifier: Apache-2.0 */
/* A link to a local program (transport/link_pipe.c): what transport/link.h promises of it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/macro.h"
#include "transport/link_pipe.h"

static struct tp_link *start(const char *script)
{
	char *argv[] = { (char *)(uintptr_t)"sh", (char *)(uintptr_t)"-c",
			 (char *)(uintptr_t)script, NULL };
	struct tp_link *l = NULL;
	struct err e = { 0 };

	if (tp_link_pipe_open(argv, &l, &e) != 0)
		fail_msg("%s", e.text);
	return l;
}

/* Read until the program closes its output. */
static void read_to_end(struct tp_link *l, struct buf *out)
{
	for (;;) {
		ssize_t n;

		assert_int_equal(buf_reserve(out, 4096), 0);
		n = l->ops->read(l, out->p + out->n, 4096);
		if (n == 0)
			return;
		if (n == -EAGAIN) {
			assert_int_equal(l->ops->wait(l, false, -1, 10000), 0);
			continue;
		}
		assert_true(n > 0);
		out->n += (size_t)n;
	}
}

static void bytes_go_both_ways(void **state)
{
	_cleanup_(buf_fini) struct buf out = BUF_INIT, sent = BUF_INIT;
	struct tp_link *l = start("cat");
	struct tp_exit x = { 0 };
	size_t at = 0;
	bool open = true;

	(void)state;
	/* More than both pipes hold: whoever writes without reading would wait for ever. */
	for (uint32_t i = 0; i < 1u << 20; i++)
		assert_int_equal(buf_put_le32(&sent, i * 2654435761u), 0);
	while (at < sent.n || open) {
		ssize_t n;

		if (at < sent.n) {
			n = l->ops->write(l, sent.p + at, sent.n - at);
			assert_true(n > 0 || n == -EAGAIN);
			if (n > 0)
				at += (size_t)n;
			if (at == sent.n)
				assert_int_equal(l->ops->eof(l), 0);
		}
		assert_int_equal(buf_reserve(&out, 65536), 0);
		n = l->ops->read(l, out.p + out.n, 65536);
		assert_true(n >= 0 || n == -EAGAIN);
		if (n > 0)
			out.n += (size_t)n;
		open = n != 0;
		if (n == -EAGAIN)
			assert_int_equal(l->ops->wait(l, at < sent.n, -1, 1000), 0);
	}
	assert_int_equal(out.n, sent.n);
	assert_memory_equal(out.p, sent.p, sent.n);
	assert_true(l->bytes_written == sent.n && l->bytes_read == sent.n);
	assert_int_equal(l->ops->finish(l, 10000, &x), 0);
	assert_true(x.known);
	assert_int_equal(x.status, 0);
	assert_string_equal(x.signal, "");
	tp_link_close(l);
}

static void the_end_of_the_program_is_told(void **state)
{
	static const struct {
		const char *script;
		int status;
		const char *signal;
	} rows[] = {
		{ "exit 0", 0, "" },
		{ "exit 12", 12, "" },
		{ "kill -KILL $$", 0, "KILL" },
		{ "kill -SEGV $$", 0, "SEGV" },
		{ "cat; exit 5", 5, "" },
		{ "head -c 100000 /dev/zero; exit 6", 6, "" }, /* finish() throws it away */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tp_link *l = start(rows[i].script);
		struct tp_exit x = { 0 };

		assert_int_equal(l->ops->finish(l, 20000, &x), 0);
		assert_true(x.known);
		assert_int_equal(x.status, rows[i].status);
		assert_string_equal(x.signal, rows[i].signal);
		/* Asked again it says the same. */
		memset(&x, 0, sizeof(x));
		assert_int_equal(l->ops->finish(l, 0, &x), 0);
		assert_true(x.known);
		assert_int_equal(x.status, rows[i].status);
		tp_link_close(l);
	}
}

static void finish_does_not_wait_for_ever(void **state)
{
	struct tp_link *l = start("exec sleep 1000");
	int64_t began = clock_mono_ns();
	struct tp_exit x = { .known = true };

	(void)state;
	assert_int_equal(l->ops->finish(l, 50, &x), 0);
	assert_false(x.known);
	tp_link_close(l);
	assert_true(clock_mono_ns() - began < 20 * 1000000000LL);
}

static void a_read_of_nothing_does_not_block(void **state)
{
	struct tp_link *l = start("cat");
	char c;

	(void)state;
	assert_int_equal(l->ops->read(l, &c, 1), -EAGAIN);
	assert_int_equal(l->ops->wait(l, false, -1, 1), 0);
	assert_int_equal(l->ops->read(l, &c, 1), -EAGAIN);
	tp_link_close(l);
}

static void wait_ends_when_the_other_descriptor_is_readable(void **state)
{
	struct tp_link *l = start("cat");
	int64_t began = clock_mono_ns();
	int fd = eventfd(1, EFD_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(l->ops->wait(l, false, fd, 60000), 0);
	assert_true(clock_mono_ns() - began < 30 * 1000000000LL);
	close(fd);
	tp_link_close(l);
}

static void a_dead_program_gives_an_error_and_no_signal(void **state)
{
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	struct tp_link *l = start("echo last words; exec 0<&- 1>&-; exit 3");
	ssize_t n = 0;

	(void)state;
	read_to_end(l, &out);
	assert_true(bytes_eq(buf_view(&out), bytes_str("last words\n")));
	for (int i = 0; i < 1000 && n >= 0; i++) {
		n = l->ops->write(l, "x", 1);
		if (n == -EAGAIN)
			n = 0;
	}
	assert_int_equal(n, -ERR_LOST);
	assert_int_equal(l->ops->error(l)->code, -ERR_LOST);
	assert_true(strlen(l->ops->error(l)->text) > 0);
	tp_link_close(l);
}

static void stderr_is_kept_to_its_end(void **state)
{
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	struct tp_link *l = start("i=0; while [ $i -lt 20000 ]; do echo \"complaint $i\" >&2;"
				  "i=$((i+1)); done; echo done");
	struct tp_exit x = { 0 };
	struct bytes said;

	(void)state;
	/* A program that blocked on its stderr would never say it. */
	read_to_end(l, &out);
	assert_true(bytes_eq(buf_view(&out), bytes_str("done\n")));
	assert_int_equal(l->ops->finish(l, 20000, &x), 0);
	said = l->ops->said(l);
	assert_int_equal(said.n, TP_SAID_MAX);
	assert_memory_equal(said.p + said.n - 16, "complaint 19999\n", 16);
	tp_link_close(l);
}

static void a_program_that_is_missing_is_named(void **state)
{
	char *argv[] = { (char *)(uintptr_t)"/nonexistent/receiver", NULL };
	struct tp_link *l = NULL;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(tp_link_pipe_open(argv, &l, &e), -ENOENT);
	assert_null(l);
	assert_non_null(strstr(e.text, "/nonexistent/receiver"));
	tp_link_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_go_both_ways),
		cmocka_unit_test(the_end_of_the_program_is_told),
		cmocka_unit_test(finish_does_not_wait_for_ever),
		cmocka_unit_test(a_read_of_nothing_does_not_block),
		cmocka_unit_test(wait_ends_when_the_other_descriptor_is_readable),
		cmocka_unit_test(a_dead_program_gives_an_error_and_no_signal),
		cmocka_unit_test(stderr_is_kept_to_its_end),
		cmocka_unit_test(a_program_that_is_missing_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
