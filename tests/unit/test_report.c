/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <libgen.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/sha256.h"
#include "stager/report.h"

#define NAME "rsync_execution.json"

struct fixture {
	char dir[64];
	int dirfd;
	int64_t now_ns;
	struct stg_report_opts o;
	struct err e;
};

static int64_t clock_of(void *arg)
{
	return ((struct fixture *)arg)->now_ns;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/test_report.XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY);
	f->now_ns = 1767323045000000000;
	f->o = (struct stg_report_opts){
		.dirfd = f->dirfd, .migration_id = "m1", .source_id = "s1", .target_id = "t1",
		.run_id = "r1", .tool_version = "0.1.0", .command = "full",
		.source_host = "src", .target_host = "db\xff", .target_port = 2222,
		.incremental_rounds = -1, .real_ns = clock_of, .mono_ns = clock_of,
		.clock_arg = f,
	};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	DIR *d = fdopendir(f->dirfd);
	struct dirent *de;

	while ((de = readdir(d)))
		unlinkat(dirfd(d), de->d_name, 0);
	closedir(d);
	rmdir(f->dir);
	free(f);
	return 0;
}

static struct stg_report *open_report(struct fixture *f)
{
	struct stg_report *r = NULL;

	assert_int_equal(stg_report_open(&f->o, &r, &f->e), 0);
	return r;
}

static void save(struct fixture *f, struct stg_report *r)
{
	assert_int_equal(stg_report_save(r, NULL, NULL, &f->e), 0);
}

static char *content(struct fixture *f, const char *name)
{
	struct buf b = BUF_INIT;
	char *s;

	assert_int_equal(io_read_file(f->dirfd, name, 1 << 26, &b, &f->e), 0);
	s = strdup(buf_cstr(&b));
	buf_fini(&b);
	return s;
}

static void assert_holds(struct fixture *f, const char *want)
{
	_cleanup_free_ char *s = content(f, NAME);

	if (!strstr(s, want))
		fail_msg("no %s in %s", want, s);
}

static unsigned count_of(struct fixture *f, const char *what)
{
	_cleanup_free_ char *s = content(f, NAME);
	unsigned n = 0;

	for (const char *at = s; (at = strstr(at, what)); at++)
		n++;
	return n;
}

static bool have_validator(void)
{
	return system("python3 -c 'import jsonschema' 2>/dev/null") == 0;
}

/* The source tree is where this file was compiled from. */
static int validate(struct fixture *f)
{
	char here[] = __FILE__, cmd[4096];

	snprintf(cmd, sizeof(cmd), "%s/../integration/validate-report %s/" NAME, dirname(here),
		 f->dir);
	return system(cmd);
}

static void begin(struct stg_report *r, enum stg_phase_kind kind)
{
	struct stg_phase_path paths[] = {
		{ bytes_str("/"), bytes_str("/root") },
		{ bytes_str("/d\xfe\x01"), bytes_str("/root/d\xfe\x01") },
	};

	stg_report_begin_phase(r, &(struct stg_phase_opts){
					  .kind = kind,
					  .paths = paths,
					  .paths_n = ARRAY_SIZE(paths) });
}

static void finish(struct stg_report *r, enum stg_run_state s, int code)
{
	stg_report_finish_phase(r, &(struct stg_phase_result){ .run_state = s,
							       .exit_code = code });
}

static void add_nasty_names(struct stg_report *r)
{
	char longest[256];
	struct bytes names[] = {
		bytes_str("bad\xff\xfe utf8"), bytes_str("\x1b[31mred\n\t\x7f\x01"),
		bytes_str("quote\"back\\slash"), bytes_str("caf\xc3\xa9"),
		bytes_of(longest, 255),		  bytes_str(""),
		{ 0 },				  bytes_str("cut\xe2\x82"),
	};

	memset(longest, 0x80, sizeof(longest));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct stg_report_item item = { .path = names[i], .operation = "open",
						.code = i % 2 ? -EACCES : ERR_LOST,
						.message = "open \xff: no" };

		stg_report_add_error(r, &item);
		if (names[i].p)
			stg_report_add_live_file(r, &item);
	}
}

static void every_saved_version_obeys_the_schema(void **state)
{
	struct fixture *f = *state;
	struct stg_report *r = open_report(f);
	struct stg_hook_result h = { .step = "stop \x01", .return_code = 3, .duration_sec = 1.5,
				     .output_tail = bytes_str("a\nb\xff"), .started_at = 1767323045,
				     .timed_out = true, .skipped = true };
	struct stg_session_stats s = { 0, 10, 20, 30, 1 };
	bool can = have_validator();

	if (!can)
		print_message("python3-jsonschema is missing: the schema is not looked at\n");
	save(f, r);
	assert_true(!can || validate(f) == 0);
	begin(r, STG_PHASE_FULL);
	add_nasty_names(r);
	stg_report_set_stats(r, &(struct stg_phase_stats){ .entries_scanned = 7,
							   .bytes_literal = 1ull << 52 }, &s, 1);
	save(f, r);
	assert_true(!can || validate(f) == 0);
	stg_report_set_path_result(r, 1, &h, "warn");
	finish(r, STG_RUN_PARTIAL, 23);
	for (int i = STG_STEP_SOURCE_CHECK; i <= STG_STEP_TARGET_FINALIZE; i++)
		stg_report_set_step(r, (enum stg_report_step)i, &h);
	stg_report_add_hook(r, &h);
	assert_int_equal(stg_report_set_section(r, STG_SECTION_CUTOVER, bytes_str("{\"a\":1}"),
						&f->e), 0);
	assert_int_equal(stg_report_set_section(r, STG_SECTION_CHECKPOINTS, bytes_str("[{}]"),
						&f->e), 0);
	assert_int_equal(stg_report_set_section(r, STG_SECTION_CUTOVER, bytes_str("{} x"), &f->e),
			 -EINVAL);
	stg_report_finish(r, STG_RUN_PARTIAL, 23);
	save(f, r);
	assert_true(!can || validate(f) == 0);
	assert_holds(f, "\"path_base64\":\t\"YmFk//4gdXRmOA==\"");
	assert_holds(f, "\"path\":\t\"bad\\\\xff\\\\xfe utf8\"");
	assert_holds(f, "\"state\":\t\"FULL_SYNCED\"");
	assert_holds(f, "\"errno\":\t\"EACCES\"");
	stg_report_close(r);
	if (!can)
		skip();
}

static void the_validator_finds_a_wrong_type(void **state)
{
	struct fixture *f = *state;
	struct stg_report *r = open_report(f);
	_cleanup_free_ char *s = NULL;
	char *at;

	if (!have_validator()) {
		stg_report_close(r);
		print_message("python3-jsonschema is missing\n");
		skip();
	}
	save(f, r);
	stg_report_close(r);
	s = content(f, NAME);
	at = strstr(s, "\"rsync\"");
	assert_non_null(at);
	memcpy(at, "\"rsyns\"", 7);
	assert_int_equal(io_replace_file(f->dirfd, NAME, bytes_str(s), 0600, &f->e), 0);
	assert_int_equal(validate(f) >> 8, 1);
}

static void a_later_run_appends_its_phases(void **state)
{
	struct fixture *f = *state;
	struct stg_report *r = open_report(f);

	begin(r, STG_PHASE_FULL);
	finish(r, STG_RUN_SUCCEEDED, 0);
	save(f, r);
	stg_report_close(r);

	f->o.run_id = "r2";
	r = open_report(f);
	assert_null(stg_report_note(r));
	begin(r, STG_PHASE_INCREMENTAL);
	save(f, r); /* and the run is killed here */
	stg_report_close(r);

	f->o.run_id = "r3";
	r = open_report(f);
	save(f, r);
	assert_holds(f, "\"run_state\":\t\"interrupted\"");
	begin(r, STG_PHASE_INCREMENTAL);
	finish(r, STG_RUN_SUCCEEDED, 0);
	begin(r, STG_PHASE_INCREMENTAL);
	finish(r, STG_RUN_SUCCEEDED, 0);
	begin(r, STG_PHASE_CUTOVER);
	finish(r, STG_RUN_FAILED, 12);
	stg_report_finish(r, STG_RUN_FAILED, 12);
	save(f, r);
	assert_holds(f, "\"state\":\t\"FULL_SYNCED\"");
	assert_holds(f, "\"incremental_rounds\":\t2");
	assert_int_equal(count_of(f, "\"phase\":\t\"full_sync\""), 1);
	assert_int_equal(count_of(f, "\"phase\":\t\"incremental_sync_1\""), 2);
	assert_int_equal(count_of(f, "\"attempt\":\t2"), 1);
	assert_int_equal(count_of(f, "\"phase\":\t\"incremental_sync_2\""), 1);
	assert_true(!have_validator() || validate(f) == 0);
	stg_report_close(r);
}

static void what_cannot_be_continued_is_moved_aside(void **state)
{
	struct fixture *f = *state;
	struct stg_report *r = open_report(f);
	_cleanup_free_ char *good = NULL;

	begin(r, STG_PHASE_FULL);
	finish(r, STG_RUN_SUCCEEDED, 0);
	save(f, r);
	stg_report_close(r);
	good = content(f, NAME);

	for (int i = 0; i < 5; i++) {
		struct bytes v = bytes_str(good);
		_cleanup_free_ char *bad = strdup(good);
		char old[128], nth[8] = "";
		struct stat st;

		v.p = (uint8_t *)bad;
		switch (i) {
		case 0: v.n /= 2; break;
		case 1: v.n = 0; break;
		case 2: strstr(bad, "src")[0] = (char)0xff; break;
		case 3: memcpy(strstr(bad, "\"phases\""), "\"phasez\"", 8); break;
		default: f->o.migration_id = "m2"; break;
		}
		assert_int_equal(io_replace_file(f->dirfd, NAME, v, 0600, &f->e), 0);
		r = open_report(f);
		assert_non_null(stg_report_note(r));
		if (i)
			snprintf(nth, sizeof(nth), "-%d", i + 1);
		snprintf(old, sizeof(old), NAME ".20260102T030405Z%s.old", nth);
		assert_non_null(strstr(stg_report_note(r), old));
		assert_int_equal(fstatat(f->dirfd, old, &st, 0), 0);
		assert_int_equal(st.st_size, v.n);
		save(f, r);
		assert_holds(f, "NOT_SYNCED");
		assert_holds(f, "was moved to");
		stg_report_close(r);
	}
}

static void *add_many(void *arg)
{
	for (int i = 0; i < 600; i++)
		stg_report_add_error(arg, &(struct stg_report_item){
						  .path = bytes_str("f"), .operation = "read",
						  .code = EIO, .message = "m" });
	return NULL;
}

static void errors_of_many_threads_are_counted_and_capped(void **state)
{
	struct fixture *f = *state;
	struct stg_report *r = open_report(f);
	pthread_t t[4];

	begin(r, STG_PHASE_FULL);
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, add_many, r);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	save(f, r);
	assert_int_equal(stg_report_errors_total(r), 2400);
	assert_int_equal(count_of(f, "\"errors_total\":\t2400"), 2);
	assert_int_equal(count_of(f, "\"EIO\""), 2 * STG_REPORT_LIST_MAX);
	stg_report_close(r);
}

static void ticks_write_once_a_second_and_hashes_match(void **state)
{
	struct fixture *f = *state;
	struct stg_report *r = open_report(f);
	char hash[65], want[65], line[65];
	_cleanup_free_ char *s = NULL;

	assert_int_equal(stg_report_tick(r, &f->e), 1);
	f->now_ns += 999999999;
	assert_int_equal(stg_report_tick(r, &f->e), 0);
	f->now_ns += 1;
	assert_int_equal(stg_report_tick(r, &f->e), 1);
	sha256_hex(line, bytes_str("a line of the audit log"));
	assert_int_equal(stg_report_save(r, line, hash, &f->e), 0);
	s = content(f, NAME);
	sha256_hex(want, bytes_str(s));
	assert_string_equal(hash, want);
	assert_holds(f, line);
	stg_report_close(r);
}

static void the_text_shows_all_and_no_control_byte(void **state)
{
	struct fixture *f = *state;
	struct stg_report *r = open_report(f);
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	const char *s;

	begin(r, STG_PHASE_FULL);
	add_nasty_names(r);
	stg_report_add_error(r, &(struct stg_report_item){ .path = bytes_str("c1\xc2\x9b"),
							   .operation = "x", .message = "y" });
	stg_report_add_hook(r, &(struct stg_hook_result){ .step = "stop-db",
							  .output_tail = bytes_str("one\ntwo") });
	finish(r, STG_RUN_PARTIAL, 23);
	save(f, r);
	stg_report_close(r);
	assert_int_equal(stg_report_render_text(f->dirfd, NAME, &out, &f->e), 0);
	s = buf_cstr(&out);
	for (const char *p = s; *p; p++)
		assert_true((unsigned char)*p >= 0x20 || *p == '\n');
	assert_null(strstr(s, "\xc2\x9b"));
	assert_non_null(strstr(s, "full_sync"));
	assert_non_null(strstr(s, "bad\\xff\\xfe utf8: open: "));
	assert_non_null(strstr(s, "stop-db (full_sync): returned 0"));
	assert_non_null(strstr(s, "      two\n"));
	assert_int_equal(io_replace_file(f->dirfd, NAME, bytes_str("[]"), 0600, &f->e), 0);
	assert_int_equal(stg_report_render_text(f->dirfd, NAME, &out, &f->e), -EBADMSG);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(every_saved_version_obeys_the_schema),
		T(the_validator_finds_a_wrong_type),
		T(a_later_run_appends_its_phases),
		T(what_cannot_be_continued_is_moved_aside),
		T(errors_of_many_threads_are_counted_and_capped),
		T(ticks_write_once_a_second_and_hashes_match),
		T(the_text_shows_all_and_no_control_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
