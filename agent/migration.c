/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/migration.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/control.h"
#include "agent/json.h"
#include "agent/plan.h"
#include "agent/result.h"
#include "agent/statedir.h"
#include "common/io.h"
#include "common/log.h"
#include "common/macro.h"

#define LOCK_NAME "migrate.lock"
#define MAKE_ATTEMPTS 3 /* of a call whose answer is lost again and again */

/* ---- opening and closing ---- */

/* Another source or target is another migration, and the unfinished one must not be lost. */
static int same_matter(const struct agt_migration *m, const struct agt_run *run,
		       struct err *e)
{
	const struct agt_migrate_options *mo = &m->o->migrate;
	const struct {
		const char *what, *now, *then;
	} rows[] = {
		{ "source", mo->source ? mo->source : "", run->source_given },
		{ "target region", m->o->control.region ? m->o->control.region : "",
		  run->region },
		{ "existing target", mo->existing_target ? mo->existing_target : "",
		  run->existing_target },
	};

	if ((mo->method == AGT_METHOD_SMS && !strcmp(run->road, "rsync")) ||
	    (mo->method == AGT_METHOD_RSYNC && !strcmp(run->road, "sms")))
		return err_set(e, -ERR_FORBIDDEN,
			       "the run %s in %s is not finished, and it goes by %s: finish it "
			       "without --method, give another --state-dir, or drop it with "
			       "--restart",
			       run->run_id, m->o->state_dir,
			       !strcmp(run->road, "sms") ? "SMS" : "the staged sync");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (strcmp(rows[i].now, rows[i].then) != 0)
			return err_set(
				e, -ERR_FORBIDDEN,
				"the run %s in %s is not finished, and its %s is '%s', not "
				"'%s': finish it with its own options, give another "
				"--state-dir, or drop it with --restart",
				run->run_id, m->o->state_dir, rows[i].what, rows[i].then,
				rows[i].now);
	return 0;
}

static int begin_new(struct agt_migration *m, struct err *e)
{
	const struct agt_migrate_options *mo = &m->o->migrate;
	struct agt_run *run = &m->run;
	const struct {
		char *to;
		size_t size;
		const char *from, *what;
	} rows[] = {
		{ run->source_given, sizeof(run->source_given), mo->source, "source" },
		{ run->existing_target, sizeof(run->existing_target), mo->existing_target,
		  "--existing-target" },
		{ run->region, sizeof(run->region), m->o->control.region, "target region" },
	};

	agt_migration_run_init(run);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].from &&
		    !agt_migration_run_set(rows[i].to, rows[i].size, rows[i].from))
			return err_set(e, -ERR_USAGE, "%s: empty or too long", rows[i].what);
	return 0;
}

static int load_run(struct agt_migration *m, struct err *e)
{
	struct agt_run old;
	struct err why = { 0 };
	int r = agt_migration_run_load(m->o->state_dir, &old, &why);

	if (r == -ENOENT)
		return begin_new(m, e);
	if (m->o->migrate.restart) {
		if (r == 0 && old.step != AGT_STEP_DONE)
			log_info("dropping the run %s, which had come to step %s%s%s%s%s",
				 old.run_id, agt_step_name(old.step),
				 *old.server_id ? "; its server stays: " : "", old.server_id,
				 *old.task_id ? "; its task: " : "", old.task_id);
		return begin_new(m, e);
	}
	if (r < 0) {
		if (e)
			*e = why;
		return r;
	}
	if (old.step == AGT_STEP_DONE || old.over)
		return begin_new(m, e);
	r = same_matter(m, &old, e);
	if (r < 0)
		return r;
	m->run = old;
	m->resumed = true;
	log_info("going on with the run %s at step %s", old.run_id, agt_step_name(old.step));
	return 0;
}

/* What this run may never come to write must not look like its own. */
static int retire_files(struct agt_migration *m, struct err *e)
{
	static const char *const names[] = { AGT_FILE_RESULT,    AGT_FILE_CLEANUP,
					     AGT_FILE_CHECKS,    AGT_FILE_POSTCHECK,
					     AGT_FILE_POLL,      AGT_FILE_STAGED };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names) && r == 0; i++)
		r = agt_artifact_retire(m->artifacts, names[i], e);
	return r;
}

int agt_migration_open(struct agt_migration *m, const struct agt_context *ctx, struct err *e)
{
	int r;

	*m = (struct agt_migration){
		.ctx = ctx,
		.o = ctx->options,
		.stop = ctx->stop,
		.dry = ctx->options->migrate.dry_run,
		.lock_fd = -1,
	};
	if (!m->dry) {
		r = agt_statedir_make(m->o->state_dir, e);
		if (r == 0)
			r = agt_statedir_lock(m->o->state_dir, LOCK_NAME, "stager-agent migrates",
					      e);
		if (r < 0)
			return r;
		m->lock_fd = r;
	}
	r = load_run(m, e);
	if (r < 0 || m->dry)
		return r;
	r = agt_artifacts_open(m->o->out_dir, m->run.run_id, &m->artifacts, e);
	if (r == 0 && !m->resumed)
		r = retire_files(m, e);
	if (r == 0)
		r = agt_migration_save(m, e);
	return r;
}

void agt_migration_close(struct agt_migration *m)
{
	agt_json_free(m->source);
	agt_json_free(m->server);
	agt_json_free(m->cleanup);
	agt_json_free(m->postcheck);
	agt_artifacts_close(m->artifacts);
	agt_control_close(m->control);
	if (m->lock_fd >= 0)
		close(m->lock_fd);
}

/* ---- calls ---- */

int agt_migration_cloud(struct agt_migration *m, struct err *e)
{
	return m->control ? 0
			  : agt_control_open(m->o, m->stop, m->dry ? stdout : NULL,
					     &m->control, e);
}

int agt_migration_call(struct agt_migration *m, const struct agt_call *call,
		       struct agt_reply *ret, struct err *e)
{
	int r;

	r = agt_migration_cloud(m, e);
	if (r < 0)
		return r;
	r = agt_cloud_call(agt_control_cloud(m->control), call, ret, e);
	if (r == 0 && ret->dry)
		return agt_plan_fill(call, ret, e);
	snprintf(m->code, sizeof(m->code), "%s", r < 0 ? ret->code : "");
	return r;
}

void agt_migration_tell(const struct agt_migration *m, const char *fmt, ...)
{
	va_list args;

	if (!m->dry)
		return;
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
}

static int call_of(void *arg, const struct agt_call *call, struct agt_reply *ret, struct err *e)
{
	return agt_migration_call(arg, call, ret, e);
}

int agt_migration_list(struct agt_migration *m, const struct agt_list *list,
		       struct cJSON **ret, struct err *e)
{
	return agt_pages_read(call_of, m, list, ret, e);
}

/* ---- the state ---- */

int agt_migration_save(struct agt_migration *m, struct err *e)
{
	int r;

	if (m->dry)
		return 0;
	r = agt_migration_run_save(m->o->state_dir, &m->run, e);
	return r < 0 ? r : agt_result_write(m, NULL, 0, e);
}

int agt_migration_write(struct agt_migration *m, const char *name, struct cJSON *content,
			struct err *e)
{
	return m->dry ? 0 : agt_artifact_write(m->artifacts, name, content, e);
}

int agt_migration_pause(struct agt_migration *m, struct err *e)
{
	return m->dry ? 0 : agt_stop_sleep(m->stop, m->o->poll_interval_ms, e);
}

/* May the call have been done, although it failed? */
static bool maybe_done(int r, const struct agt_reply *reply)
{
	return r == -ERR_LOST || (r == -ERR_PROTOCOL && reply->status != 0) ||
	       reply->status >= 500;
}

int agt_migration_make(struct agt_migration *m, const struct agt_making *making,
		       struct agt_reply *reply, struct err *e)
{
	bool look = !strcmp(m->run.intent, making->what);
	int r = 0;

	for (int attempt = 1;; attempt++) {
		if (look) {
			r = making->find(m, e);
			if (r < 0)
				return r;
			if (r > 0) {
				log_info("found what an earlier call had made: %s",
					 making->what);
				break;
			}
		}
		AGT_SET(m->run.intent, making->what);
		r = agt_migration_save(m, e);
		if (r < 0)
			return r;
		agt_reply_fini(reply);
		r = making->post(m, reply, e);
		if (r == 0)
			break;
		if (!maybe_done(r, reply) || attempt == MAKE_ATTEMPTS) {
			/* The intent stays when nobody knows whether it was done. */
			if (!maybe_done(r, reply) && r != -ERR_CANCELLED)
				m->run.intent[0] = '\0';
			return r;
		}
		log_info("%s: looking whether it was done", e ? e->text : making->what);
		look = true;
		r = agt_migration_pause(m, e);
		if (r < 0)
			return r;
	}
	m->run.intent[0] = '\0';
	return agt_migration_save(m, e);
}
