/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent/chain.c - the state machine.
 *
 *   precheck - agree - project - source - target - task - start - poll - postcheck - done
 *                                  |                 |      |      |        |
 *                                  +-----------------+------+------+- staged+
 *
 * The way to staged is by target where nothing is configured that could be sent to.
 *
 * A step does one thing, notes it, and says which step is next.  What the run has come to is
 * on disk before the next step begins, so a run that is killed begins with the step that it
 * was killed in.
 */
#include "agent/chain.h"

#include <errno.h>
#include <string.h>

#include "agent/control.h"
#include "agent/json.h"
#include "agent/postcheck.h"
#include "agent/provision.h"
#include "agent/sms.h"
#include "agent/sourcecheck.h"
#include "agent/staged.h"
#include "agent/task.h"
#include "common/log.h"
#include "common/macro.h"

static int go(struct agt_migration *m, enum agt_step next)
{
	m->run.step = next;
	return 0;
}

/* To the staged sync, by way of a new server where there is nothing to send to. */
static int go_on_staged(struct agt_migration *m, struct err *e)
{
	int r = agt_staged_wants_server(m, e);

	if (r > 0)
		log_info("no target of the staged sync is configured: a server is made for it");
	return r < 0 ? r : go(m, r ? AGT_STEP_TARGET : AGT_STEP_STAGED);
}

/* The staged sync, unless the operator wants SMS or nothing. */
static int go_staged(struct agt_migration *m, struct err *e)
{
	const struct agt_migrate_options *mo = &m->o->migrate;

	if (mo->method == AGT_METHOD_SMS || !mo->fallback)
		return err_set(e, -ERR_FORBIDDEN,
			       "SMS cannot take this host (%s), and %s forbids the staged sync",
			       m->run.fallback_reason,
			       mo->method == AGT_METHOD_SMS ? "--method sms"
							    : "ENABLE_RSYNC_FALLBACK=false");
	log_info("going on with the staged sync: %s", m->run.fallback_reason);
	AGT_SET(m->run.road, "rsync");
	return go_on_staged(m, e);
}

/* ---- the steps ---- */

/*
 * What was given may be the id of the source: then its old tasks go before anything else
 * happens.  Else they go as soon as it is known which source it is.
 */
static int step_precheck(struct agt_migration *m, struct err *e)
{
	const char *given = m->run.source_given;

	if (m->o->migrate.method == AGT_METHOD_RSYNC) {
		AGT_SET(m->run.road, "rsync");
		AGT_SET(m->run.fallback_reason, "the staged sync was asked for");
		return go_on_staged(m, e);
	}
	if (agt_sms_like_id(given)) {
		int r = agt_sms_delete_tasks(m, given, AGT_OLD_FINISHED, "precheck", e);

		/* An id that SMS does not know: it is looked up later on what it stands for. */
		if (r == -ERR_CLOUD)
			log_info("%s: the precheck waits until the source is known", e->text);
		else if (r < 0)
			return r;
		else
			AGT_SET(m->run.prechecked_id, given);
	}
	return go(m, AGT_STEP_AGREE);
}

static int step_agree(struct agt_migration *m, struct err *e)
{
	int r = agt_sms_agree(m, e);

	return r < 0 ? r : go(m, AGT_STEP_PROJECT);
}

static int step_project(struct agt_migration *m, struct err *e)
{
	int r = agt_sms_make_project(m, e);

	return r < 0 ? r : go(m, AGT_STEP_SOURCE);
}

static int not_connected(struct agt_migration *m, struct err *e)
{
	/* As a call would be answered. */
	AGT_SET(m->code, "SMS.6603");
	return err_set(e, -ERR_FORBIDDEN,
		       "the source %s is not connected to SMS (SMS.6603): install the "
		       "SMS-Agent on the source and start it, then run this again",
		       m->run.source_id);
}

static int step_source(struct agt_migration *m, struct err *e)
{
	int r = agt_sms_find_source(m, e);
	bool usable, found = r > 0;

	if (r >= 0)
		r = agt_sourcecheck_whose(m, found, e);
	/* Where SMS has no record, the local checks alone decide. */
	if (r == 0)
		r = agt_sourcecheck(m, found, &usable, e);
	if (r < 0)
		return r;
	if (*m->run.source_id && strcmp(m->run.source_id, m->run.prechecked_id) != 0) {
		r = agt_sms_delete_tasks(m, m->run.source_id, AGT_OLD_FINISHED, "precheck",
					 e);
		if (r < 0)
			return r;
		AGT_SET(m->run.prechecked_id, m->run.source_id);
	}
	if (!usable)
		return go_staged(m, e);
	AGT_SET(m->run.road, "sms");
	if (!*m->run.source_id)
		r = agt_sourcecheck_missing(m, e);
	else if (!agt_json_bool(m->source, "connected", true))
		r = not_connected(m, e);
	return r < 0 ? r : go(m, AGT_STEP_TARGET);
}

static int step_target(struct agt_migration *m, struct err *e)
{
	bool staged = !strcmp(m->run.road, "rsync");
	int r = agt_provision_target(m, e);

	/* The record went between two calls. */
	if (r == -ERR_CLOUD && !staged &&
	    agt_rule_find(m->code, AGT_AT_QUERY, m->run.used) == AGT_REGISTER_SOURCE) {
		log_info("%s: registering the source anew", e->text);
		m->run.used |= 1u << AGT_REGISTER_SOURCE;
		r = agt_sms_register(m, false, e);
		return r < 0 ? r : go(m, AGT_STEP_TARGET);
	}
	return r < 0 ? r : go(m, staged ? AGT_STEP_STAGED : AGT_STEP_TASK);
}

/* What a task's step came to; next is where it goes when all is well. */
static int after(struct agt_migration *m, int r, enum agt_outcome out, enum agt_step next,
		 struct err *e)
{
	if (r < 0)
		return r;
	switch (out) {
	case AGT_OUT_AGAIN:
		return go(m, AGT_STEP_TASK);
	case AGT_OUT_START:
		return go(m, AGT_STEP_START);
	case AGT_OUT_STAGED:
		return go_staged(m, e);
	case AGT_OUT_DONE:
	case AGT_OUT_WAIT:
		break;
	}
	return go(m, next);
}

static int step_task(struct agt_migration *m, struct err *e)
{
	enum agt_outcome out = AGT_OUT_DONE;
	int r = agt_task_make(m, &out, e);

	return after(m, r, out, AGT_STEP_START, e);
}

static int step_start(struct agt_migration *m, struct err *e)
{
	enum agt_outcome out = AGT_OUT_DONE;
	int r = agt_task_start(m, &out, e);

	return after(m, r, out, AGT_STEP_POLL, e);
}

static int step_poll(struct agt_migration *m, struct err *e)
{
	enum agt_outcome out = AGT_OUT_DONE;
	int r = agt_task_poll(m, &out, e);
	enum agt_task_class class = agt_task_classify(m->run.task_state);

	/* The next call lets a task go on that has stopped. */
	if (r == -ERR_CLOUD && (class == AGT_TASK_FAILED || class == AGT_TASK_PAUSED))
		m->run.step = AGT_STEP_START;
	return after(m, r, out, AGT_STEP_POSTCHECK, e);
}

static int step_staged(struct agt_migration *m, struct err *e)
{
	int r = agt_staged_run(m, e);

	return r != 0 ? r : go(m, AGT_STEP_POSTCHECK);
}

static int step_postcheck(struct agt_migration *m, struct err *e)
{
	int r = agt_postcheck_run(m, e);

	return r < 0 ? r : go(m, AGT_STEP_DONE);
}

static int (*const steps[AGT_STEPS])(struct agt_migration *m, struct err *e) = {
	[AGT_STEP_PRECHECK] = step_precheck, [AGT_STEP_AGREE] = step_agree,
	[AGT_STEP_PROJECT] = step_project,   [AGT_STEP_SOURCE] = step_source,
	[AGT_STEP_TARGET] = step_target,     [AGT_STEP_TASK] = step_task,
	[AGT_STEP_START] = step_start,       [AGT_STEP_POLL] = step_poll,
	[AGT_STEP_STAGED] = step_staged,     [AGT_STEP_POSTCHECK] = step_postcheck,
};

/* ---- the run ---- */

/* What an earlier call made must still be there: nothing is made twice in its place. */
static int look_at_target(struct agt_migration *m, struct err *e)
{
	if (!m->resumed || !*m->run.server_id || m->run.step <= AGT_STEP_TARGET)
		return 0;
	return agt_provision_look(m, e);
}

int agt_chain_run(struct agt_migration *m, struct err *e)
{
	int r = look_at_target(m, e), saved;

	while (r == 0 && m->run.step != AGT_STEP_DONE) {
		log_debug("step %s", agt_step_name(m->run.step));
		if (agt_stop_asked(m->stop))
			return err_set(e, -ERR_CANCELLED,
				       "stopped by a signal at step %s: run this again to go on",
				       agt_step_name(m->run.step));
		r = steps[m->run.step](m, e);
		/* What a step has made counts, although it failed later on. */
		if (r == -ENOMEM)
			break;
		saved = agt_migration_save(m, r < 0 ? NULL : e);
		if (r == 0)
			r = saved;
	}
	return r;
}
