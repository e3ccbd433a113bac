/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/macro.h"
#include "stager/hook.h"

struct fixture {
	char dir[32];
	struct buf output;
	struct stg_hook_result res;
	struct err e;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	strcpy(f->dir, "/tmp/test_hook.XXXXXX");
	*state = f;
	return mkdtemp(f->dir) ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char path[64];

	snprintf(path, sizeof(path), "%s/pid", f->dir);
	unlink(path);
	rmdir(f->dir);
	buf_fini(&f->output);
	free(f);
	return 0;
}

static void run(struct fixture *f, const char *command, unsigned timeout_s)
{
	buf_clear(&f->output);
	assert_int_equal(stg_hook_run("cutover_stop", command, timeout_s, &f->output, &f->res,
				      &f->e), 0);
	assert_string_equal(f->res.step, "cutover_stop");
}

static void assert_output(struct fixture *f, const char *want)
{
	if (!bytes_eq(f->res.output_tail, bytes_str(want)))
		fail_msg("'%.*s' in place of '%s'", (int)f->res.output_tail.n,
			 (const char *)f->res.output_tail.p, want);
}

static void status_and_output_are_told(void **state)
{
	static const struct {
		const char *command;
		int code;
		const char *output;
	} rows[] = {
		{ "true", 0, "" },
		{ "exit 3", 3, "" },
		{ "echo out; echo err >&2; exit 255", 255, "out\nerr\n" },
		{ "kill -KILL $$", 128 + SIGKILL, "" },
		{ "kill -TERM $$", 128 + SIGTERM, "" },
		{ "test_hook_has_no_such_command 2>/dev/null", 127, "" },
		{ "/dev/null 2>/dev/null", 126, "" },
		{ "printf 'a\\nb'", 0, "a\nb" },
		{ "", 0, "" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		run(f, rows[i].command, i % 2 ? 60 : 0);
		if (f->res.return_code != rows[i].code)
			fail_msg("'%s' gives %d in place of %d", rows[i].command,
				 f->res.return_code, rows[i].code);
		assert_output(f, rows[i].output);
		assert_false(f->res.timed_out);
		assert_false(f->res.skipped);
		assert_true(f->res.duration_sec >= 0);
		assert_true(f->res.started_at > 1700000000);
	}
}

static void standard_input_is_empty(void **state)
{
	struct fixture *f = *state;

	run(f, "cat; readlink /proc/self/fd/0", 60);
	assert_int_equal(f->res.return_code, 0);
	assert_output(f, "/dev/null\n");
}

static void no_other_descriptor_is_handed_down(void **state)
{
	struct fixture *f = *state;

	/* Whoever started this test may have left some of its own open. */
	for (int fd = 3; fd < 1024; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	/* Three, and the one that the shell reads the directory by. */
	run(f, "set -- /proc/self/fd/*; echo $#", 60);
	assert_output(f, "4\n");
}

static void signals_are_not_blocked_in_the_command(void **state)
{
	struct fixture *f = *state;
	sigset_t all, before;

	/* As the threads of the program have it. */
	sigfillset(&all);
	assert_int_equal(pthread_sigmask(SIG_BLOCK, &all, &before), 0);
	/* The C library keeps the signals 32 and 33 for itself. */
	run(f, "grep -E '^Sig(Blk|Ign):[[:space:]]0{7}[01][08]0{7}$' /proc/self/status | wc -l", 60);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
	assert_output(f, "2\n");
}

static void the_end_of_a_long_output_is_kept(void **state)
{
	struct fixture *f = *state;
	struct bytes tail;

	run(f, "i=0; while [ $i -lt 30000 ]; do echo \"line $i\"; i=$((i+1)); done", 60);
	tail = f->res.output_tail;
	assert_int_equal(tail.n, STG_HOOK_TAIL_MAX);
	assert_memory_equal(tail.p + tail.n - 11, "line 29999\n", 11);
}

static pid_t read_pid(struct fixture *f)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	char path[64];

	snprintf(path, sizeof(path), "%s/pid", f->dir);
	assert_int_equal(io_read_file(AT_FDCWD, path, 100, &b, &f->e), 0);
	return (pid_t)strtol(buf_cstr(&b), NULL, 10);
}

/* Gone, or a zombie that nobody has waited for yet. */
static bool is_dead(pid_t pid)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	struct err e;
	char path[64];
	const char *at;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (io_read_file(AT_FDCWD, path, 4096, &b, &e) < 0)
		return true;
	at = strrchr(buf_cstr(&b), ')');
	return at && (at[2] == 'Z' || at[2] == 'X');
}

static bool dies_soon(pid_t pid)
{
	for (int i = 0; i < 200; i++) {
		if (is_dead(pid))
			return true;
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	return false;
}

static void a_timeout_ends_the_whole_group(void **state)
{
	static const char *const commands[] = {
		"sleep 1000 & echo $! >%s/pid; wait",
		/* The shell goes at once, what it started does not care. */
		"(trap '' TERM; echo $$ >/dev/null; exec sleep 1000) & echo $! >%s/pid; wait",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		char command[256];
		pid_t pid;

		snprintf(command, sizeof(command), commands[i], f->dir);
		run(f, command, 1);
		assert_true(f->res.timed_out);
		assert_true(f->res.return_code != 0);
		assert_in_range(f->res.duration_sec * 1000, 1000, 30000);
		pid = read_pid(f);
		if (!dies_soon(pid)) {
			kill(pid, SIGKILL);
			fail_msg("a background process survives: %s", commands[i]);
		}
	}
}

static void a_command_that_ignores_the_request_is_killed(void **state)
{
	struct fixture *f = *state;

	run(f, "trap '' TERM; while :; do sleep 1; done", 1);
	assert_true(f->res.timed_out);
	assert_int_equal(f->res.return_code, 128 + SIGKILL);
}

static void a_command_that_ends_well_when_asked_has_failed_all_the_same(void **state)
{
	struct fixture *f = *state;

	run(f, "trap 'exit 0' TERM; while :; do sleep 0.05; done", 1);
	assert_true(f->res.timed_out);
	assert_int_equal(f->res.return_code, 124);
}

static void a_background_process_does_not_hold_it_up(void **state)
{
	struct fixture *f = *state;
	char command[128];
	pid_t pid;

	snprintf(command, sizeof(command), "sleep 1000 & echo $! >%s/pid; echo begun", f->dir);
	run(f, command, 60);
	pid = read_pid(f);
	assert_int_equal(f->res.return_code, 0);
	assert_output(f, "begun\n");
	assert_true(f->res.duration_sec < 30);
	assert_false(is_dead(pid)); /* a daemon that a hook starts is to live on */
	kill(pid, SIGKILL);
}

static void a_command_that_never_stops_talking_is_ended_in_time(void **state)
{
	struct fixture *f = *state;

	run(f, "exec yes", 1);
	assert_true(f->res.timed_out);
	assert_int_equal(f->res.output_tail.n, STG_HOOK_TAIL_MAX);
	assert_true(f->res.duration_sec < 30);
	/* In the background it keeps the pipe full after the command has ended. */
	run(f, "yes & exit 4", 60);
	assert_false(f->res.timed_out);
	assert_int_equal(f->res.return_code, 4);
	assert_true(f->res.duration_sec < 30);
}

int main(void)
{
#define HOOK_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		HOOK_TEST(status_and_output_are_told),
		HOOK_TEST(standard_input_is_empty),
		HOOK_TEST(no_other_descriptor_is_handed_down),
		HOOK_TEST(signals_are_not_blocked_in_the_command),
		HOOK_TEST(the_end_of_a_long_output_is_kept),
		HOOK_TEST(a_timeout_ends_the_whole_group),
		HOOK_TEST(a_command_that_ignores_the_request_is_killed),
		HOOK_TEST(a_command_that_ends_well_when_asked_has_failed_all_the_same),
		HOOK_TEST(a_background_process_does_not_hold_it_up),
		HOOK_TEST(a_command_that_never_stops_talking_is_ended_in_time),
	};
#undef HOOK_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
