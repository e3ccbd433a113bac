/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/artifact.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "agent/json.h"
#include "common/io.h"

#define NAME "migration_result.json"

struct fixture {
	char dir[64];
	char out[96]; /* does not exist yet */
};

static int fixture_make(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	strcpy(f->dir, "/tmp/test_artifact.XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->out, sizeof(f->out), "%s/a/b", f->dir);
	*state = f;
	return 0;
}

static int fixture_drop(void **state)
{
	struct fixture *f = *state;
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	free(f);
	return system(command);
}

static struct agt_artifacts *open_as(struct fixture *f, const char *run_id)
{
	struct agt_artifacts *a = NULL;
	struct err e = { 0 };

	if (agt_artifacts_open(f->out, run_id, &a, &e) < 0)
		fail_msg("%s", e.text);
	return a;
}

static void write_value(struct agt_artifacts *a, int64_t value)
{
	_cleanup_(agt_json_freep) struct cJSON *v = agt_json_object();
	struct err e = { 0 };

	agt_json_set_int(v, "value", value);
	if (agt_artifact_write(a, NAME, v, &e) < 0)
		fail_msg("%s", e.text);
}

/* The value in a file of the directory; -1: there is no such file. */
static int64_t value_of(struct fixture *f, const char *name)
{
	_cleanup_(agt_json_freep) struct cJSON *v = NULL;
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	_cleanup_free_ char *path = NULL;

	assert_true(asprintf(&path, "%s/%s", f->out, name) > 0);
	if (io_read_file(AT_FDCWD, path, 1 << 20, &text, NULL) < 0)
		return -1;
	assert_int_equal(agt_json_parse(buf_view(&text), &v, NULL), 0);
	return agt_json_int(v, "value", -2);
}

static void a_file_carries_run_version_and_times(void **state)
{
	struct fixture *f = *state;
	_cleanup_(agt_artifacts_closep) struct agt_artifacts *a = NULL;
	_cleanup_(agt_json_freep) struct cJSON *v = NULL;
	struct err e = { 0 };
	struct tm tm = { 0 };
	const char *local;
	int64_t at;

	setenv("TZ", "XST-05:30", 1);
	tzset();
	a = open_as(f, "run-1");
	write_value(a, 7);
	assert_int_equal(agt_artifact_read(a, NAME, &v, &e), 0);
	assert_string_equal(agt_json_str(v, "run_id", ""), "run-1");
	assert_string_equal(agt_json_str(v, "tool_version", ""), STAGER_VERSION);
	at = agt_json_int(v, "generated_at", 0);
	assert_true(llabs(at - time(NULL)) < 60);
	assert_non_null(strptime(agt_json_str(v, "generated_at_utc", ""), "%Y-%m-%dT%H:%M:%SZ", &tm));
	assert_int_equal(timegm(&tm), at);
	local = agt_json_str(v, "generated_at_local", "");
	assert_non_null(strptime(local, "%Y-%m-%dT%H:%M:%S", &tm));
	assert_int_equal(timegm(&tm), at + 19800);
	assert_string_equal(local + strlen(local) - 6, "+05:30");
}

static void a_run_overwrites_its_own_file_and_moves_others_aside(void **state)
{
	struct fixture *f = *state;
	struct agt_artifacts *a = open_as(f, "run-1");

	write_value(a, 1);
	write_value(a, 2);
	agt_artifacts_close(a);
	assert_int_equal(value_of(f, NAME), 2);

	a = open_as(f, "run-2");
	write_value(a, 3);
	agt_artifacts_close(a);
	assert_int_equal(value_of(f, NAME), 3);
	assert_int_equal(value_of(f, "migration_result.run-1.json"), 2);

	/* Once more the same id: what was moved before is not overwritten. */
	a = open_as(f, "run-1");
	write_value(a, 4);
	agt_artifacts_close(a);
	a = open_as(f, "run-3");
	write_value(a, 5);
	agt_artifacts_close(a);
	assert_int_equal(value_of(f, NAME), 5);
	assert_int_equal(value_of(f, "migration_result.run-1.json"), 2);
	assert_int_equal(value_of(f, "migration_result.run-1.2.json"), 4);
	assert_int_equal(value_of(f, "migration_result.run-2.json"), 3);
}

static void a_file_without_a_run_is_told_by_its_time(void **state)
{
	static const char *const texts[] = { "", "{\"value\":9}", "no json",
					     "{\"run_id\":\"../../etc/x\"}", "{\"run_id\":12}" };
	struct fixture *f = *state;
	char path[160], aside[160];

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_(agt_artifacts_closep) struct agt_artifacts *a = open_as(f, "run-1");
		struct timespec at[2] = { { .tv_sec = 1768465800 + (time_t)i },
					  { .tv_sec = 1768465800 + (time_t)i } };

		snprintf(path, sizeof(path), "%s/%s", f->out, NAME);
		assert_int_equal(io_replace_file(AT_FDCWD, path, bytes_str(texts[i]), 0600, NULL), 0);
		assert_int_equal(utimensat(AT_FDCWD, path, at, 0), 0);
		write_value(a, 1);
		assert_int_equal(value_of(f, NAME), 1);
		snprintf(aside, sizeof(aside), "%s/migration_result.20260115T08300%zuZ.json", f->out, i);
		assert_int_equal(access(aside, F_OK), 0);
		assert_int_equal(unlink(path), 0);
	}
}

static void what_an_earlier_run_left_does_not_pass_for_ours(void **state)
{
	struct fixture *f = *state;
	struct agt_artifacts *a = open_as(f, "run-1");
	struct cJSON *v = NULL;
	struct err e = { 0 };

	write_value(a, 1);
	agt_artifacts_close(a);
	a = open_as(f, "run-2");
	assert_int_equal(agt_artifact_read(a, NAME, &v, &e), 0);
	assert_null(v);
	assert_int_equal(agt_artifact_retire(a, NAME, &e), 0);
	assert_int_equal(value_of(f, NAME), -1);
	assert_int_equal(value_of(f, "migration_result.run-1.json"), 1);
	assert_int_equal(agt_artifact_retire(a, NAME, &e), 0);
	agt_artifacts_close(a);
}

static void modes_are_as_asked_for(void **state)
{
	struct fixture *f = *state;
	_cleanup_(agt_artifacts_closep) struct agt_artifacts *a = open_as(f, "run-1");
	_cleanup_(agt_json_freep) struct cJSON *v = agt_json_object();
	struct err e = { 0 };
	char path[160];
	struct stat st;

	umask(022);
	write_value(a, 1);
	assert_int_equal(agt_artifact_write_closed(a, "closed.json", v, &e), 0);
	snprintf(path, sizeof(path), "%s/%s", f->out, NAME);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	snprintf(path, sizeof(path), "%s/closed.json", f->out);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void an_id_is_fit_for_a_file_name_and_new_each_time(void **state)
{
	struct fixture *f = *state;
	char one[AGT_RUN_ID_SIZE], two[AGT_RUN_ID_SIZE];
	struct agt_artifacts *a = NULL;
	struct err e = { 0 };

	assert_string_not_equal(agt_run_id(one), agt_run_id(two));
	agt_artifacts_close(open_as(f, one));
	assert_int_equal(agt_artifacts_open(f->out, "../x", &a, &e), -EINVAL);
	assert_int_equal(agt_artifacts_open(f->out, "", &a, &e), -EINVAL);
	assert_true(agt_artifacts_open("/proc/none/x", one, &a, &e) < 0);
	assert_non_null(strstr(e.text, "/proc/none"));
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_make, fixture_drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FIXTURE(a_file_carries_run_version_and_times),
		WITH_FIXTURE(a_run_overwrites_its_own_file_and_moves_others_aside),
		WITH_FIXTURE(a_file_without_a_run_is_told_by_its_time),
		WITH_FIXTURE(what_an_earlier_run_left_does_not_pass_for_ours),
		WITH_FIXTURE(modes_are_as_asked_for),
		WITH_FIXTURE(an_id_is_fit_for_a_file_name_and_new_each_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
