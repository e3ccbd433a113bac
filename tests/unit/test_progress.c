/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "common/io.h"
#include "stager/progress.h"

struct fixture {
	char dir[64];
	int dirfd, out;
	int64_t now_ns;
	struct stg_progress p;
	struct err e;
	char text[65536];
};

static int64_t clock_of(void *arg)
{
	return ((struct fixture *)arg)->now_ns;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/test_progress.XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY);
	f->out = memfd_create("out", 0);
	f->now_ns = 1000000000000;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	stg_progress_stop(&f->p);
	unlinkat(f->dirfd, STG_PROGRESS_STATUS_FILE, 0);
	close(f->dirfd);
	close(f->out);
	rmdir(f->dir);
	free(f);
	return 0;
}

static void start(struct fixture *f, enum stg_progress_mode mode)
{
	struct stg_progress_opts o = { .mode = mode, .fd = f->out, .statefd = f->dirfd,
				       .width = 100, .run_id = "r1", .manual = true,
				       .mono_ns = clock_of, .real_ns = clock_of, .clock_arg = f };

	assert_int_equal(stg_progress_start(&f->p, &o, &f->e), 0);
	stg_progress_begin(&f->p, "full_sync");
}

static void set(struct fixture *f, uint64_t done, uint64_t total, bool scanning)
{
	f->p.entries_total = total;
	f->p.bytes_total = total * 1000;
	f->p.entries_done = done;
	f->p.bytes_done = done * 1000;
	f->p.scanning = scanning;
}

static void pass(struct fixture *f, int ms)
{
	f->now_ns += ms * 1000000ll;
	stg_progress_poll(&f->p);
}

static const char *output(struct fixture *f)
{
	ssize_t n = io_pread_full(f->out, f->text, sizeof(f->text) - 1, 0);

	assert_true(n >= 0);
	f->text[n] = '\0';
	return f->text;
}

static int count(const char *s, const char *what)
{
	int n = 0;

	for (; (s = strstr(s, what)); s++)
		n++;
	return n;
}

static void json_tells_phase_counts_rate_and_time_left(void **state)
{
	struct fixture *f = *state;
	const char *s;

	start(f, STG_PROGRESS_JSON);
	set(f, 10, 100, true);
	pass(f, 1000);
	set(f, 20, 100, false);
	pass(f, 500);
	pass(f, 500);
	stg_progress_error(&f->p, bytes_str("a\xff\n"), "open", -EACCES, "no");
	stg_progress_end(&f->p, 23);
	s = output(f);
	assert_int_equal(count(s, "\n"), 5);
	assert_non_null(strstr(s, "{\"event\":\"phase_started\",\"phase\":\"full_sync\",\"entries_done\":0"));
	assert_non_null(strstr(s, "\"entries_done\":10,\"entries_total\":100,\"bytes_done\":10000,"
				  "\"bytes_total\":100000,\"bytes_per_s\":10000,\"eta_s\":null"));
	assert_int_equal(count(s, "\"event\":\"progress\""), 2);
	assert_null(strstr(strstr(s, "\"entries_done\":20"), "\"eta_s\":null"));
	assert_non_null(strstr(s, "\"path\":\"a\\\\xff\\\\x0a\",\"path_base64\":\"Yf8K\""));
	assert_non_null(strstr(s, "\"errno\":\"EACCES\""));
	assert_non_null(strstr(s, "\"exit_code\":23,\"duration_sec\":2.000}"));
}

static void the_bar_never_runs_backwards_and_draws_five_times_a_second(void **state)
{
	struct fixture *f = *state;
	int last = 0, draws = 0;
	const char *s;

	start(f, STG_PROGRESS_BAR);
	stg_progress_expect(&f->p, 100, 100000);
	for (int i = 0; i < 100; i++) {
		/* The totals outgrow what was expected, and grow faster than the work. */
		set(f, (uint64_t)i, (uint64_t)(i < 50 ? 100 : 100 + 20 * (i - 50)), i < 90);
		pass(f, 50);
	}
	s = output(f);
	for (; (s = strstr(s, "] ")); s++, draws++) {
		int pct = atoi(s + 2);

		assert_true(pct >= last);
		last = pct;
	}
	assert_int_equal(draws, 25);
	assert_true(last >= 40 && last < 100);
	stg_progress_end(&f->p, 0);
	s = output(f);
	assert_non_null(strstr(s, " \rfull_sync: done after 00:00:05: 99 entries"));
	for (const char *line = s; (line = strchr(line, '\r')); line++)
		assert_true(strcspn(line + 1, "\r") < 100 || strchr(line + 1, '\r') == NULL);
}

static void a_scan_without_expectation_shows_no_share(void **state)
{
	struct fixture *f = *state;

	start(f, STG_PROGRESS_BAR);
	set(f, 99, 100, true);
	pass(f, 300);
	assert_non_null(strstr(output(f), "--% 99/100+"));
	set(f, 100, 1000, false);
	pass(f, 300);
	assert_non_null(strstr(output(f), " 10% 100/1000 "));
}

static void plain_draws_every_ten_seconds_and_at_the_end(void **state)
{
	struct fixture *f = *state;

	start(f, STG_PROGRESS_PLAIN);
	for (int i = 0; i < 25; i++) {
		set(f, (uint64_t)i, 25, false);
		pass(f, 1000);
	}
	assert_int_equal(count(output(f), "\n"), 2);
	stg_progress_end(&f->p, 12);
	assert_non_null(strstr(output(f), "ended with exit code 12 after 00:00:25"));
	assert_null(strchr(f->text, '\r'));
}

static void status_is_written_for_other_processes(void **state)
{
	struct fixture *f = *state;
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	char pid[32];

	start(f, STG_PROGRESS_NONE);
	stg_progress_step(&f->p, "send");
	set(f, 1, 2, false);
	pass(f, 1000);
	assert_int_equal(io_read_file(f->dirfd, STG_PROGRESS_STATUS_FILE, 65536, &b, &f->e), 0);
	snprintf(pid, sizeof(pid), "{\"pid\":%d,", (int)getpid());
	assert_non_null(strstr(buf_cstr(&b), pid));
	assert_non_null(strstr(buf_cstr(&b), "\"running\":true,\"run_id\":\"r1\",\"step\":\"send\""));
	assert_non_null(strstr(buf_cstr(&b), "\"updated_at\":1001"));
	assert_string_equal(output(f), "");
	stg_progress_stop(&f->p);
	buf_clear(&b);
	assert_int_equal(io_read_file(f->dirfd, STG_PROGRESS_STATUS_FILE, 65536, &b, &f->e), 0);
	assert_non_null(strstr(buf_cstr(&b), "\"running\":false"));
}

static void the_thread_starts_and_stops(void **state)
{
	struct fixture *f = *state;
	struct stg_progress_opts o = { .mode = STG_PROGRESS_AUTO, .fd = f->out };

	assert_int_equal(stg_progress_start(&f->p, &o, &f->e), 0);
	stg_progress_begin(&f->p, "cutover_sync");
	stg_progress_end(&f->p, 0);
	stg_progress_stop(&f->p);
	assert_non_null(strstr(output(f), "cutover_sync: done"));
}

static void modes_are_known_by_name(void **state)
{
	struct fixture *f = *state;
	enum stg_progress_mode m = STG_PROGRESS_AUTO;

	assert_int_equal(stg_progress_parse_mode("json", &m, &f->e), 0);
	assert_int_equal(m, STG_PROGRESS_JSON);
	assert_int_equal(stg_progress_parse_mode("bars", &m, &f->e), -ERR_USAGE);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(json_tells_phase_counts_rate_and_time_left),
		T(the_bar_never_runs_backwards_and_draws_five_times_a_second),
		T(a_scan_without_expectation_shows_no_share),
		T(plain_draws_every_ten_seconds_and_at_the_end),
		T(status_is_written_for_other_processes),
		T(the_thread_starts_and_stops),
		T(modes_are_known_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
