/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/task.h - the SMS task: made with all the ways out that the rules know, started, and
 * followed to its end.
 */
#include "agent/migration.h"

/* What a step found; a failure that no rule covers is an error instead. */
enum agt_outcome {
	AGT_OUT_DONE,   /* go on with the next step */
	AGT_OUT_AGAIN,  /* a rule changed something: make the task anew */
	AGT_OUT_START,  /* another task has taken its place, and it was never started */
	AGT_OUT_STAGED, /* SMS cannot take the host; the reason is in m->run */
	AGT_OUT_WAIT,   /* nothing has ended yet */
};

/* Make the task.  -ERR_FORBIDDEN: a rule says stop; -ERR_CLOUD: no rule covers it. */
int agt_task_make(struct agt_migration *m, enum agt_outcome *ret, struct err *e) _must_check_;

/* Start it, or resume it where it stopped; one that is at work already is fine. */
int agt_task_start(struct agt_migration *m, enum agt_outcome *ret, struct err *e) _must_check_;

/* Ask for its state until it ends. */
int agt_task_poll(struct agt_migration *m, enum agt_outcome *ret, struct err *e) _must_check_;
