/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "agent/json.h"
#include "agent/spool.h"
#include "common/io.h"
#include "common/macro.h"
#include "common/text.h"

#define STATUS_NAME "status.json"
#define STATUS_MAX (64u << 10)
#define REPORT_NAME "rsync_execution.json"
#define REPORT_MAX (64u << 20)
#define LOCK_NAME "lock"

/* Limits of SMS. */
#define SPEED_MAX_MBIT 10000.0
#define FILES_MAX 1000000
#define RESULTS_MAX 30
#define DIR_MAX 1024

/* How a phase is called there, while it is at work and when it is over. */
static const struct stage {
	const char *phase; /* what its name begins with */
	const char *subtask;
	const char *cycle, *state;
	const char *done_cycle, *done_state;
} stages[] = {
	{ "full_sync", "MIGRATE_LINUX_FILE", "replicating", "replicate", "syncing", "syncing" },
	{ "incremental_sync", "SYNC_LINUX_FILE", "syncing", "syncing", "syncing", "syncing" },
	{ "cutover_sync", "SYNC_LINUX_FILE", "cutovering", "cutovering", "cutovered",
	  "finished" },
};

static const struct stage *stage_of(const struct agt_snapshot *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(stages); i++)
		if (!strncmp(s->phase, stages[i].phase, strlen(stages[i].phase)))
			return &stages[i];
	return NULL;
}

/* ---- looking ---- */

/* 0 with *ret NULL when it is no JSON: the next look will tell. */
static struct cJSON *read_json(int dir, const char *name, size_t max)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct cJSON *v = NULL;

	if (io_read_file(dir, name, max, &text, NULL) < 0 ||
	    agt_json_parse(buf_view(&text), &v, NULL) < 0)
		return NULL;
	return v;
}

/* Is a run at work?  Then *ret is its process, as it has written it into its lock. */
static bool is_locked(int dir, int64_t *ret_pid)
{
	_cleanup_close_ int fd = openat(dir, LOCK_NAME, O_RDONLY | O_CLOEXEC);
	char text[24] = "";

	*ret_pid = 0;
	if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return false;
	if (io_pread_full(fd, text, sizeof(text) - 1, 0) > 0)
		*ret_pid = strtoll(text, NULL, 10);
	return true;
}

static void take_status(struct agt_snapshot *s, const struct cJSON *v)
{
	s->known = agt_json_is_object(v);
	agt_json_text(v, "run_id", s->run_id, sizeof(s->run_id));
	agt_json_text(v, "phase", s->phase, sizeof(s->phase));
	agt_json_text(v, "step", s->step, sizeof(s->step));
	s->entries_done = MAX(agt_json_int(v, "entries_done", 0), 0);
	s->entries_total = MAX(agt_json_int(v, "entries_total", 0), 0);
	s->bytes_done = MAX(agt_json_int(v, "bytes_done", 0), 0);
	s->bytes_total = MAX(agt_json_int(v, "bytes_total", 0), 0);
	s->bytes_per_s = MAX(agt_json_int(v, "bytes_per_s", 0), 0);
	s->eta_s = agt_json_int(v, "eta_s", -1);
	s->errors = agt_json_int(v, "errors", 0);
	s->updated_at = agt_json_int(v, "updated_at", 0);
}

/* Of a run, or of one of its phases. */
static enum agt_outcome outcome_of(const struct cJSON *v)
{
	static const struct {
		const char *word;
		enum agt_outcome outcome;
	} rows[] = {
		{ "succeeded", AGT_OUTCOME_DONE },
		{ "partial", AGT_OUTCOME_DONE },
		{ "failed", AGT_OUTCOME_FAILED },
	};
	const char *state = agt_json_str(v, "run_state", "");

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (!strcmp(state, rows[i].word))
			return rows[i].outcome;
	return AGT_OUTCOME_STOPPED;
}

/*
 * How it ended.  After a verification the status is of that; then the last phase of a sync is
 * what counts.
 */
static void take_end(struct agt_snapshot *s, const struct cJSON *report)
{
	const struct cJSON *last = NULL;

	if (stage_of(s)) {
		s->outcome = !strcmp(agt_json_str(report, "run_id", ""), s->run_id) ?
				     outcome_of(report) :
				     AGT_OUTCOME_STOPPED;
		return;
	}
	for (const struct cJSON *i = agt_json_first(report, "phases"); i; i = agt_json_next(i))
		last = i;
	if (!last)
		return;
	agt_json_text(last, "run_id", s->run_id, sizeof(s->run_id));
	agt_json_text(last, "phase", s->phase, sizeof(s->phase));
	s->entries_done = s->entries_total = agt_json_int(last, "stats.entries_scanned", 0);
	s->bytes_done = s->bytes_total = agt_json_int(last, "stats.bytes_scanned", 0);
	s->outcome = outcome_of(last);
}

void agt_snapshot_read(const char *state_dir, const char *out_dir, struct agt_snapshot *ret)
{
	_cleanup_close_ int dir = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int out = open(out_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(agt_json_freep) struct cJSON *status = NULL, *report = NULL;
	const struct cJSON *verification;
	int64_t pid;

	*ret = (struct agt_snapshot){ .eta_s = -1 };
	if (dir < 0)
		return;
	/* The lock first: a run that ends in between has then said all. */
	ret->running = is_locked(dir, &pid);
	status = read_json(dir, STATUS_NAME, STATUS_MAX);
	/* One that has just begun has said nothing yet: what is there is of the run before. */
	if (!ret->running || agt_json_int(status, "pid", 0) == pid)
		take_status(ret, status);
	if (ret->running || !ret->known || out < 0)
		return;
	report = read_json(out, REPORT_NAME, REPORT_MAX);
	take_end(ret, report);
	verification = agt_json_at(report, "verification");
	if (agt_json_int(verification, "finished_at", 0) > 0)
		ret->verification = agt_json_copy(verification);
}

void agt_snapshot_fini(struct agt_snapshot *s)
{
	if (!s)
		return;
	agt_json_free(s->verification);
	*s = (struct agt_snapshot){ .eta_s = -1 };
}

int agt_snapshot_percent(const struct agt_snapshot *s)
{
	double part;

	if (s->outcome == AGT_OUTCOME_DONE)
		return 100;
	if (s->bytes_total > 0)
		part = (double)s->bytes_done / (double)s->bytes_total;
	else if (s->entries_total > 0)
		part = (double)s->entries_done / (double)s->entries_total;
	else
		return 0;
	return (int)MIN(99.0, 100 * part);
}

bool agt_snapshot_state(const struct agt_snapshot *s, const char **ret_cycle,
			const char **ret_state)
{
	const struct stage *stage = stage_of(s);

	*ret_cycle = *ret_state = NULL;
	if (!stage || !s->known)
		return false;
	*ret_cycle = stage->cycle;
	*ret_state = stage->state;
	switch (s->outcome) {
	case AGT_OUTCOME_NONE:
		break;
	case AGT_OUTCOME_DONE:
		*ret_cycle = stage->done_cycle;
		*ret_state = stage->done_state;
		break;
	case AGT_OUTCOME_FAILED:
		*ret_state = "error";
		break;
	case AGT_OUTCOME_STOPPED:
		*ret_state = "stopped";
		break;
	}
	return true;
}

/* ---- reports ---- */

static struct cJSON *new_report(const char *kind, const char *method, const char *path,
				const char *task_id, struct cJSON **ret_body)
{
	struct cJSON *o = agt_json_object();

	agt_json_set_str(o, "kind", kind);
	agt_json_set_int(o, "at", clock_real_ns() / 1000000000);
	agt_json_set_str(o, "method", method);
	agt_json_set_str(o, "path", path);
	agt_json_set_str(o, "of", task_id ? "task" : "source");
	if (task_id)
		agt_json_set_str(o, "id", task_id);
	*ret_body = agt_json_set_object(o, "body");
	return o;
}

struct cJSON *agt_snapshot_report_state(const char *cycle, const char *state)
{
	struct cJSON *body, *o = new_report("state", "PUT", "/v3/sources/{}/changestate", NULL,
					    &body);

	agt_json_set_str(body, "copystate", state);
	agt_json_set_str(body, "migrationcycle", cycle);
	return o;
}

struct cJSON *agt_snapshot_report_progress(const char *task_id,
					   const struct agt_snapshot *s)
{
	const struct stage *stage = stage_of(s);
	struct cJSON *body, *o;
	char text[256], when[32];

	if (!stage)
		return NULL;
	o = new_report("progress", "PUT", "/v3/tasks/{}/progress", task_id, &body);
	agt_json_set_str(body, "subtask_name", stage->subtask);
	agt_json_set_int(body, "progress", agt_snapshot_percent(s));
	agt_json_set_int(body, "replicatesize", s->bytes_done);
	agt_json_set_int(body, "totalsize", MAX(s->bytes_total, s->bytes_done));
	snprintf(text, sizeof(text), "%s: %s, %lld of %lld entries, %lld errors", s->phase,
		 s->running ? s->step : "not running", (long long)s->entries_done,
		 (long long)s->entries_total, (long long)s->errors);
	agt_json_set_str(body, "process_trace", text);
	agt_json_set_double(body, "migrate_speed",
			    s->running ? MIN((double)s->bytes_per_s * 8 / 1e6, SPEED_MAX_MBIT) :
					 0);
	if (s->eta_s >= 0)
		agt_json_set_int(body, "remain_time", s->eta_s);
	/* By it the service applies limits that hold at certain hours: local time. */
	agt_json_set_str(body, "agent_time", text_local(when, clock_real_ns() / 1000000000));
	return o;
}

struct cJSON *agt_snapshot_report_command(const char *name, bool success,
					  const char *detail)
{
	struct cJSON *body, *inner,
		*o = new_report("command", "POST", "/v3/sources/{}/command_result", NULL, &body);

	agt_json_set_str(body, "command_name", name);
	agt_json_set_str(body, "result", success ? "success" : "fail");
	inner = agt_json_set_object(body, "result_detail");
	agt_json_set_str(inner, "message", detail);
	return o;
}

/* ---- what a verification found ---- */

struct counts {
	int64_t missing, extra, different;
};

static bool has_what(const struct cJSON *difference, const char *word)
{
	for (const struct cJSON *i = agt_json_first(difference, "what"); i; i = agt_json_next(i))
		if (!strcmp(agt_json_str(i, "", ""), word))
			return true;
	return false;
}

static bool below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strcmp(dir, ".") || !n ||
	       (!strncmp(path, dir, n) && (path[n] == '/' || !path[n]));
}

/* Of the listed ones; one that was repaired is right now. */
static struct counts count_below(const struct cJSON *verification, const char *dir)
{
	struct counts c = { 0 };

	for (const struct cJSON *i = agt_json_first(verification, "differences"); i;
	     i = agt_json_next(i)) {
		if (agt_json_bool(i, "repaired", false) ||
		    !below(agt_json_str(i, "path", ""), dir))
			continue;
		if (has_what(i, "missing"))
			c.missing++;
		else if (has_what(i, "extra"))
			c.extra++;
		else
			c.different++;
	}
	return c;
}

static void put_result(struct cJSON *list, const char *dir, int64_t total, struct counts c)
{
	struct cJSON *o = agt_json_add_object(list);
	char shown[DIR_MAX + 1];

	snprintf(shown, sizeof(shown), "/%s", strcmp(dir, ".") ? dir : "");
	agt_json_set_str(o, "dir_check", shown);
	agt_json_set_int(o, "num_total_files", MIN(total, FILES_MAX));
	agt_json_set_int(o, "num_different_files", MIN(c.different, FILES_MAX));
	agt_json_set_int(o, "num_target_miss_files", MIN(c.missing, FILES_MAX));
	agt_json_set_int(o, "num_target_more_files", MIN(c.extra, FILES_MAX));
}

struct cJSON *agt_snapshot_report_consistency(const char *task_id,
					      const struct cJSON *verification)
{
	struct cJSON *body, *list,
		*o = new_report("consistency", "POST", "/v3/tasks/{}/consistency-result", task_id,
				&body);
	struct counts c;
	int64_t left;
	size_t n = 0;

	list = agt_json_set_array(body, "consistency_result");
	for (const struct cJSON *i = agt_json_first(verification, "include"); i && n < RESULTS_MAX;
	     i = agt_json_next(i), n++) {
		const char *dir = agt_json_str(i, "path", "");

		put_result(list, dir, agt_json_int(i, "entries", 0),
			   count_below(verification, dir));
	}
	if (n)
		return o;
	c = count_below(verification, "");
	/* The list ends at 1000; of the others no more than their number is known. */
	left = agt_json_int(verification, "differences_total", 0) -
	       agt_json_int(verification, "repaired_total", 0) -
	       (c.missing + c.extra + c.different);
	c.different += MAX(left, 0);
	put_result(list, ".", agt_json_int(verification, "entries_checked", 0), c);
	return o;
}

int agt_snapshot_report_put(struct agt_spool *spool, struct cJSON *report, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *v = report;
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	bool progress = !strcmp(agt_json_str(v, "kind", ""), "progress");
	int r;

	if (!v)
		return 0;
	/* That a phase is through is more than progress. */
	if (agt_json_int(v, "body.progress", 0) == 100)
		progress = false;
	r = agt_json_print(v, false, &text, e);
	return r == 0 ? agt_spool_put(spool, buf_view(&text), progress, e) : r;
}
