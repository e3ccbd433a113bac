/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/sms.h - the calls to SMS that the steps of the chain are made of.  Each notes what it
 * found or made in m->run, which the caller saves.
 */
#include <stdbool.h>

#include "agent/migration.h"
#include "agent/rules.h"

/* Agree to the privacy statement; doing it again changes nothing. */
int agt_sms_agree(struct agt_migration *m, struct err *e) _must_check_;

/*
 * Make the migration project, deleting old ones where the quota wants it: only projects that
 * SMS or a run of ours named mgc*, without a task, the oldest first.  -ERR_FORBIDDEN: none of
 * them may go.
 */
int agt_sms_make_project(struct agt_migration *m, struct err *e) _must_check_;

/*
 * Find the source by what the operator gave: SMS id, VM id, address or name, in this order.
 * 1: found, noted and its record is m->source; 0: there is none.  -ERR_USAGE: several fit,
 * all of which the error lists.
 */
int agt_sms_find_source(struct agt_migration *m, struct err *e) _must_check_;

/* Can it be an id: hexadecimal digits and hyphens?  Names and addresses are not. */
bool agt_sms_like_id(const char *text);

/* Fill m->source with the full record where it has come from a list, which tells less. */
int agt_sms_source_detail(struct agt_migration *m, struct err *e) _must_check_;

/* Which of a source's tasks are to go; each takes those before it, too, and none a live one. */
enum agt_old_tasks {
	AGT_OLD_FAILED,
	AGT_OLD_FINISHED,   /* successful */
	AGT_OLD_HISTORICAL, /* paused: ABORT is an end, though a person may have meant to go on */
};

/*
 * Delete this source's old tasks, never the task of this run.  What was done is added to the
 * file of the cleanup, with why ("precheck", "SMS.7605").  A task that SMS does not want to
 * delete stays and is noted.
 */
int agt_sms_delete_tasks(struct agt_migration *m, const char *source_id,
			 enum agt_old_tasks which, const char *why, struct err *e) _must_check_;

/* Delete one task; one that is gone already is fine. */
int agt_sms_delete_task(struct agt_migration *m, const char *task_id, struct err *e)
	_must_check_;

/*
 * The live task of the run's source that is not except, one at work before one that was never
 * started: 1 and noted in m->run, with the server that it migrates to; or 0.
 */
int agt_sms_current_task(struct agt_migration *m, const char *except, struct err *e)
	_must_check_;

/* The source's task of that name: 1 and its id is noted in m->run, or 0. */
int agt_sms_task_by_name(struct agt_migration *m, const char *name, struct err *e)
	_must_check_;

/*
 * Register this host: again under the run's source id when keep_id says so, else as a new
 * source, whose id is noted.
 */
int agt_sms_register(struct agt_migration *m, bool keep_id, struct err *e) _must_check_;
