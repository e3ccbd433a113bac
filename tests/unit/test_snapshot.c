/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/snapshot.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "agent/json.h"
#include "common/io.h"
#include "common/macro.h"

#define STATUS(pid, phase, done, total)                                                    \
	"{\"pid\":" #pid ",\"running\":true,\"run_id\":\"r1\",\"step\":\"send\",\"phase\":\"" phase \
	"\",\"entries_done\":1,\"entries_total\":4,\"bytes_done\":" #done ",\"bytes_total\":" #total \
	",\"bytes_per_s\":2500000,\"eta_s\":5,\"errors\":0,\"updated_at\":1000}"
#define REPORT(state) "{\"run_id\":\"r1\",\"run_state\":\"" state "\"}"

struct fixture {
	char dir[64], out[96];
	struct agt_snapshot s;
};

static int fixture_make(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	strcpy(f->dir, "/tmp/test_snapshot.XXXXXX");
	*state = f;
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->out, sizeof(f->out), "%s/out", f->dir);
	return mkdir(f->out, 0755);
}

static int fixture_drop(void **state)
{
	struct fixture *f = *state;
	char command[128];

	agt_snapshot_fini(&f->s);
	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	free(f);
	return system(command);
}

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(io_replace_file(AT_FDCWD, path, bytes_str(text), 0600, NULL), 0);
}

static const struct agt_snapshot *look(struct fixture *f)
{
	agt_snapshot_fini(&f->s);
	agt_snapshot_read(f->dir, f->out, &f->s);
	return &f->s;
}

/* What a run at work does; the lock is another process's, as flock(2) sees it. */
static int hold_lock(struct fixture *f, const char *pid)
{
	char path[160];
	int fd;

	write_file(f->dir, "lock", pid);
	snprintf(path, sizeof(path), "%s/lock", f->dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	return fd;
}

static const char *state_of(const struct agt_snapshot *s)
{
	static char text[64];
	const char *cycle, *state;

	if (!agt_snapshot_state(s, &cycle, &state))
		return "none";
	snprintf(text, sizeof(text), "%s %s", cycle, state);
	return text;
}

static void nothing_is_told_where_there_is_nothing(void **state)
{
	static const char *const rows[] = { "", "{", "[]", "null", "{\"phase\":7}" };
	struct fixture *f = *state;

	assert_string_equal(state_of(look(f)), "none");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		write_file(f->dir, "status.json", rows[i]);
		assert_string_equal(state_of(look(f)), "none");
	}
}

static void a_run_is_at_work_as_long_as_it_holds_its_lock(void **state)
{
	struct fixture *f = *state;
	int lock = hold_lock(f, "77\n");

	write_file(f->dir, "status.json", STATUS(77, "full_sync", 50, 200));
	assert_true(look(f)->running);
	assert_string_equal(state_of(&f->s), "replicating replicate");
	assert_int_equal(agt_snapshot_percent(&f->s), 25);
	close(lock);
	/* Whatever its status says: it was killed. */
	assert_false(look(f)->running);
	assert_string_equal(state_of(&f->s), "replicating stopped");
}

static void the_status_of_the_run_before_is_not_that_of_one_that_begins(void **state)
{
	struct fixture *f = *state;
	int lock = hold_lock(f, "78\n");

	write_file(f->dir, "status.json", STATUS(77, "full_sync", 50, 200));
	assert_true(look(f)->running);
	assert_string_equal(state_of(&f->s), "none");
	close(lock);
}

static void a_phase_ends_as_its_report_says(void **state)
{
	static const struct {
		const char *status, *report, *want;
		int percent;
	} rows[] = {
		{ STATUS(1, "full_sync", 9, 10), REPORT("succeeded"), "syncing syncing", 100 },
		{ STATUS(1, "full_sync", 9, 10), REPORT("partial"), "syncing syncing", 100 },
		{ STATUS(1, "full_sync", 10, 10), REPORT("failed"), "replicating error", 99 },
		{ STATUS(1, "full_sync", 9, 10), REPORT("interrupted"), "replicating stopped", 90 },
		{ STATUS(1, "full_sync", 9, 10), "{\"run_id\":\"other\",\"run_state\":\"succeeded\"}",
		  "replicating stopped", 90 },
		{ STATUS(1, "full_sync", 9, 10), "damaged", "replicating stopped", 90 },
		{ STATUS(1, "incremental_sync_3", 0, 0), REPORT("succeeded"), "syncing syncing", 100 },
		{ STATUS(1, "incremental_sync_3", 0, 0), REPORT("failed"), "syncing error", 25 },
		{ STATUS(1, "cutover_sync", 1, 1), REPORT("succeeded"), "cutovered finished", 100 },
		{ STATUS(1, "cutover_sync", 1, 2), REPORT("failed"), "cutovering error", 50 },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		write_file(f->dir, "status.json", rows[i].status);
		write_file(f->out, "rsync_execution.json", rows[i].report);
		if (strcmp(state_of(look(f)), rows[i].want) != 0)
			fail_msg("row %zu: %s", i, state_of(&f->s));
		assert_int_equal(agt_snapshot_percent(&f->s), rows[i].percent);
	}
}

static void progress_has_the_words_and_units_of_sms(void **state)
{
	struct agt_snapshot s = { .known = true, .running = true, .phase = "incremental_sync_1",
				  .step = "send", .bytes_done = 30, .bytes_total = 20,
				  .bytes_per_s = 2500000, .eta_s = -1 };
	_cleanup_(agt_json_freep) struct cJSON *v = NULL, *fast = NULL;

	(void)state;
	v = agt_snapshot_report_progress("t1", &s);
	assert_string_equal(agt_json_str(v, "id", ""), "t1");
	assert_string_equal(agt_json_str(v, "body.subtask_name", ""), "SYNC_LINUX_FILE");
	assert_int_equal(agt_json_int(v, "body.progress", -1), 99);
	/* Mbit/s of bytes a second; and what is done cannot be more than all of it. */
	assert_true(agt_json_double(v, "body.migrate_speed", 0) == 20.0);
	assert_int_equal(agt_json_int(v, "body.totalsize", 0), 30);
	assert_null(agt_json_at(v, "body.remain_time"));
	s.bytes_per_s = INT64_C(100) << 30;
	fast = agt_snapshot_report_progress("t1", &s);
	assert_true(agt_json_double(fast, "body.migrate_speed", 0) == 10000.0);
	snprintf(s.phase, sizeof(s.phase), "verification");
	assert_null(agt_snapshot_report_progress("t1", &s));
}

static struct cJSON *consistency(const char *verification)
{
	_cleanup_(agt_json_freep) struct cJSON *v = NULL;

	assert_int_equal(agt_json_parse(bytes_str(verification), &v, NULL), 0);
	return agt_snapshot_report_consistency("t1", v);
}

/* The counts of result i: all, different, missing, more. */
static void counts_are(const struct cJSON *report, size_t i, const char *dir, int total,
		       int different, int missing, int more)
{
	const struct cJSON *r = agt_json_first(report, "body.consistency_result");

	while (i-- && r)
		r = agt_json_next(r);
	assert_string_equal(agt_json_str(r, "dir_check", ""), dir);
	assert_int_equal(agt_json_int(r, "num_total_files", -1), total);
	assert_int_equal(agt_json_int(r, "num_different_files", -1), different);
	assert_int_equal(agt_json_int(r, "num_target_miss_files", -1), missing);
	assert_int_equal(agt_json_int(r, "num_target_more_files", -1), more);
}

#define DIFFERENCES                                                                        \
	"\"differences\":[{\"path\":\"a/x\",\"what\":[\"missing\"],\"repaired\":false},"        \
	"{\"path\":\"a\",\"what\":[\"mtime\"],\"repaired\":false},"                            \
	"{\"path\":\"ab\",\"what\":[\"extra\"],\"repaired\":false},"                           \
	"{\"path\":\"a/y\",\"what\":[\"content\",\"mode\"],\"repaired\":true}]"

static void a_verification_is_told_as_a_whole(void **state)
{
	_cleanup_(agt_json_freep) struct cJSON *v = consistency(
		"{\"entries_checked\":50,\"differences_total\":1004,\"repaired_total\":1," DIFFERENCES "}");

	(void)state;
	/* Of those beyond the list only the number is known. */
	counts_are(v, 0, "/", 50, 1001, 1, 1);
	assert_int_equal(agt_json_count(v, "body.consistency_result"), 1);
}

static void a_verification_of_paths_is_told_by_path(void **state)
{
	_cleanup_(agt_json_freep) struct cJSON *v = consistency(
		"{\"include\":[{\"path\":\"a\",\"entries\":3},{\"path\":\"b\",\"entries\":2000000}],"
		"\"differences_total\":4,\"repaired_total\":1," DIFFERENCES "}");

	(void)state;
	counts_are(v, 0, "/a", 3, 1, 1, 0);
	counts_are(v, 1, "/b", 1000000, 0, 0, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fixture_make, fixture_drop)
	const struct CMUnitTest tests[] = {
		T(nothing_is_told_where_there_is_nothing),
		T(a_run_is_at_work_as_long_as_it_holds_its_lock),
		T(the_status_of_the_run_before_is_not_that_of_one_that_begins),
		T(a_phase_ends_as_its_report_says),
		T(progress_has_the_words_and_units_of_sms),
		T(a_verification_is_told_as_a_whole),
		T(a_verification_of_paths_is_told_by_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
