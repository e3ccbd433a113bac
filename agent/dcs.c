/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/dcs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "agent/artifact.h"
#include "agent/command.h"
#include "agent/control.h"
#include "agent/json.h"
#include "agent/options.h"
#include "agent/stop.h"
#include "common/log.h"
#include "common/macro.h"
#include "common/secret.h"

#define AGT_TASK_ID_SIZE 128
#define RESULT "dcs_migration_result.json"
#define POLL_FAILURES_MAX 10 /* as the polls of a server's migration */
#define LOGS "20"

struct dcs {
	const struct agt_options *o;
	const struct agt_stop *stop;
	struct agt_control *control;
	struct agt_artifacts *artifacts;
	char task_id[AGT_TASK_ID_SIZE];
	char status[64]; /* the service's last word */
	char error[ERR_TEXT_MAX];
	double progress; /* percent of the full copy, -1: not told */
	bool busy;       /* the service could not answer the last look */
};

static int call(struct dcs *d, const struct agt_call *c, struct agt_reply *reply, struct err *e)
{
	return agt_cloud_call(agt_control_cloud(d->control), c, reply, e);
}

/* ---- configuring ---- */

static int check_options(const struct agt_dcs_options *o, struct err *e)
{
	if (!o->source_id && !o->source_addrs)
		return err_set(e, -ERR_USAGE,
			       "nothing to migrate from: give --source-instance or "
			       "--source-addrs");
	if (!o->target_id && !o->target_addrs)
		return err_set(e, -ERR_USAGE,
			       "nothing to migrate to: give --target-instance or --target-addrs");
	if (!o->task_id && (!o->vpc_id || !o->subnet_id || !o->group_id))
		return err_set(e, -ERR_USAGE,
			       "a new task needs dcs.vpc_id, dcs.subnet_id and "
			       "dcs.security_group_id in the config file; or give a task that "
			       "exists with --task");
	return 0;
}

static int put_instance(struct cJSON *body, const char *name, const char *id,
			const char *addrs, const char *password_file, struct err *e)
{
	struct cJSON *o = agt_json_set_object(body, name);
	struct secret *password = NULL;
	int r = 0;

	if (id)
		agt_json_set_str(o, "id", id);
	if (addrs)
		agt_json_set_str(o, "addrs", addrs);
	if (!password_file)
		return 0;
	r = secret_from_file(AT_FDCWD, password_file, &password, e);
	if (r == 0)
		agt_json_set_str(o, "password", secret_text(password));
	secret_free(password);
	return r;
}

static int make_task(struct dcs *d, struct err *e)
{
	const struct agt_dcs_options *o = &d->o->dcs;
	_cleanup_(agt_json_freep) struct cJSON *body = agt_json_object();
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	int r;

	agt_json_set_str(body, "name", o->name);
	agt_json_set_str(body, "vpc_id", o->vpc_id);
	agt_json_set_str(body, "subnet_id", o->subnet_id);
	agt_json_set_str(body, "security_group_id", o->group_id);
	r = call(d,
		 &(struct agt_call){ .service = AGT_DCS,
				     .method = "POST",
				     .path = "/v2/{project_id}/migration/instance",
				     .body = body },
		 &reply, e);
	if (r < 0)
		return r;
	if (!*agt_json_text(reply.body, "instance_id", d->task_id, sizeof(d->task_id)))
		return err_set(e, -ERR_PROTOCOL, "DCS made a task and did not tell its id");
	log_info("made the migration task %s", d->task_id);
	return 0;
}

static int configure(struct dcs *d, struct err *e)
{
	const struct agt_dcs_options *o = &d->o->dcs;
	_cleanup_(agt_json_freep) struct cJSON *body = agt_json_object();
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	char limit[16];
	int r;

	agt_json_set_str(body, "migration_method", o->method);
	agt_json_set_str(body, "resume_mode", o->resume_mode);
	/* The service's table calls it a string; only its sample has a number there. */
	snprintf(limit, sizeof(limit), "%u", o->bandwidth_mb);
	if (o->bandwidth_mb)
		agt_json_set_str(body, "bandwidth_limit_mb", limit);
	r = put_instance(body, "source_instance", o->source_id, o->source_addrs,
			 o->source_password_file, e);
	if (r == 0)
		r = put_instance(body, "target_instance", o->target_id, o->target_addrs,
				 o->target_password_file, e);
	if (r == 0)
		r = call(d,
			 &(struct agt_call){ .service = AGT_DCS,
					     .method = "POST",
					     .path = "/v2/{project_id}/migration/{}/task",
					     .args = { d->task_id },
					     .body = body },
			 &reply, e);
	if (r < 0)
		return r;
	agt_json_text(reply.body, "status", d->status, sizeof(d->status));
	agt_json_text(reply.body, "error", d->error, sizeof(d->error));
	log_info("task %s: %s", d->task_id, d->status);
	return 0;
}

/* ---- following ---- */

static int get(struct dcs *d, const char *path, struct agt_reply *reply, struct err *e)
{
	return call(d,
		    &(struct agt_call){ .service = AGT_DCS,
					.method = "GET",
					.path = path,
					.args = { d->task_id } },
		    reply, e);
}

static int write_result(struct dcs *d, bool finished, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *o = agt_json_object();

	agt_json_set_str(o, "task_id", d->task_id);
	agt_json_set_str(o, "status", d->status);
	agt_json_set_str(o, "error", *d->error ? d->error : NULL);
	agt_json_set_str(o, "migration_method", d->o->dcs.method);
	agt_json_set_str(o, "resume_mode", d->o->dcs.resume_mode);
	if (d->progress >= 0)
		agt_json_set_double(o, "full_migration_progress", d->progress);
	else
		agt_json_set_null(o, "full_migration_progress");
	agt_json_set_bool(o, "finished", finished);
	return agt_artifact_write(d->artifacts, RESULT, o, e);
}

/* One look at task and figures. */
static int look(struct dcs *d, struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply task = { 0 }, stats = { 0 };
	char status[sizeof(d->status)];
	struct err ignored = { 0 };
	double p;
	int r = get(d, "/v2/{project_id}/migration-task/{}", &task, e);

	d->busy = agt_reply_busy(&task);
	if (r < 0)
		return r;
	agt_json_text(task.body, "status", status, sizeof(status));
	agt_json_text(task.body, "error_message", d->error, sizeof(d->error));
	if (get(d, "/v2/{project_id}/migration-task/{}/stats", &stats, &ignored) < 0)
		log_debug("%s", ignored.text);
	p = agt_json_double(stats.body, "full_migration_progress", -1);
	d->progress = p >= 0 && p <= 100 ? p : -1;
	if (*status && strcmp(status, d->status) != 0) {
		log_info("task %s: %s", d->task_id, status);
		snprintf(d->status, sizeof(d->status), "%s", status);
	}
	return write_result(d, false, e);
}

/* Why it failed, in the task's own log. */
static void tell_logs(struct dcs *d)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	struct err ignored = { 0 };
	int r = call(d,
		     &(struct agt_call){ .service = AGT_DCS,
					 .method = "GET",
					 .path = "/v2/{project_id}/migration-task/{}/logs",
					 .args = { d->task_id },
					 .query = { { "limit", LOGS }, { "log_level", "ERROR" } } },
		     &reply, &ignored);

	if (r < 0)
		log_debug("%s", ignored.text);
	for (const struct cJSON *i = agt_json_first(reply.body, "migration_logs"); i;
	     i = agt_json_next(i))
		log_error("task %s: %s %s", d->task_id, agt_json_str(i, "created_at", ""),
			  agt_json_str(i, "message", ""));
}

static bool is_word(const char *status, const char *word)
{
	return !strcasecmp(status, word);
}

/* Until the task ends: words that are not known mean that it goes on. */
static int follow(struct dcs *d, struct err *e)
{
	unsigned failures = 0;

	for (;;) {
		int r = look(d, e);

		if (r == 0)
			failures = 0;
		else if (r != -ERR_LOST && r != -ERR_CONNECT && r != -ERR_CONNECT_TIMEOUT && !d->busy)
			return r;
		else if (++failures == POLL_FAILURES_MAX)
			return r;
		else
			log_info("%s: asking again", e->text);
		if (r == 0 && is_word(d->status, "SUCCESS"))
			return write_result(d, true, e);
		if (r == 0 && (is_word(d->status, "FAILED") || is_word(d->status, "TERMINATED"))) {
			tell_logs(d);
			r = write_result(d, true, e);
			return r < 0 ? r
				     : err_set(e, -ERR_CLOUD, "migration task %s ended as %s%s%s",
					       d->task_id, d->status, *d->error ? ": " : "",
					       d->error);
		}
		r = agt_stop_sleep(d->stop, d->o->poll_interval_ms, e);
		if (r < 0)
			return err_ctx(e, r,
				       "no longer following the task %s, which goes on (--task %s "
				       "follows it again)",
				       d->task_id, d->task_id);
	}
}

/* A task that is at work already is not configured again, only followed. */
static int at_work(struct dcs *d, bool *ret, struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	char status[sizeof(d->status)];
	int r;

	*ret = false;
	r = get(d, "/v2/{project_id}/migration-task/{}", &reply, e);
	if (r < 0)
		return r;
	agt_json_text(reply.body, "status", status, sizeof(status));
	*ret = strcasestr(status, "MIGRATING") != NULL;
	if (*ret)
		log_info("task %s is at work already: %s", d->task_id, status);
	return 0;
}

/* Configure it; when that fails the result says why, and how to go on with the same task. */
static int configure_or_tell(struct dcs *d, struct err *e)
{
	struct err lost = { 0 };
	int r = configure(d, e);

	if (r == 0)
		return 0;
	if (e)
		snprintf(d->error, sizeof(d->error), "%s", e->text);
	if (write_result(d, true, &lost) < 0)
		log_error("%s", lost.text);
	return err_ctx(e, r, "configure the migration task %s (--task %s tries again)", d->task_id,
		       d->task_id);
}

static int run(struct dcs *d, struct err *e)
{
	const struct agt_dcs_options *o = &d->o->dcs;
	char run_id[AGT_RUN_ID_SIZE];
	bool working = false;
	int r = check_options(o, e);

	if (r == 0)
		r = agt_control_open(d->o, d->stop, NULL, &d->control, e);
	if (r == 0)
		r = agt_artifacts_open(d->o->out_dir, agt_run_id(run_id), &d->artifacts, e);
	if (r < 0)
		return r;
	if (o->task_id) {
		snprintf(d->task_id, sizeof(d->task_id), "%s", o->task_id);
		r = at_work(d, &working, e);
	} else {
		r = make_task(d, e);
		/* Whatever comes now, its id is on disk. */
		if (r == 0)
			r = write_result(d, false, e);
	}
	if (r == 0 && !working)
		r = configure_or_tell(d, e);
	if (r == 0)
		r = write_result(d, false, e);
	if (r == 0 && !o->no_wait)
		r = follow(d, e);
	if (r == 0)
		printf("task %s: %s\n", d->task_id, d->status);
	return r;
}

int agt_command_dcs(const struct agt_context *ctx, struct err *e)
{
	struct dcs d = { .o = ctx->options, .stop = ctx->stop, .progress = -1 };
	int r = run(&d, e);

	agt_artifacts_close(d.artifacts);
	agt_control_close(d.control);
	return r;
}
