/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/report.h"

#include <stdio.h>

#include "agent/command.h"
#include "agent/control.h"
#include "agent/courier.h"
#include "agent/json.h"
#include "agent/options.h"
#include "agent/snapshot.h"
#include "agent/source.h"
#include "agent/spool.h"
#include "agent/statedir.h"
#include "common/macro.h"

/* The task that SMS has for this source now. */
static int current_task(const struct agt_options *o, struct agt_cloud *cloud,
			char ret[AGT_TASK_ID_SIZE], struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	char id[AGT_SOURCE_ID_SIZE];
	int r = agt_source_binding(o->state_dir, id, sizeof(id), e);

	if (r < 0)
		return r;
	if (!*id)
		return err_set(e, -ERR_FORBIDDEN,
			       "this host is not registered at SMS: run stager-agent register");
	r = agt_cloud_source(cloud, id, &reply, e);
	if (r < 0)
		return r;
	agt_json_text(reply.body, "current_task.id", ret, AGT_TASK_ID_SIZE);
	if (!*ret)
		return err_set(e, -ERR_FORBIDDEN,
			       "SMS has no task of source %s, so there is nothing to report on",
			       id);
	return 0;
}

static int put_all(const struct agt_options *o, struct agt_spool *spool, const char *task_id,
		   struct err *e)
{
	_cleanup_(agt_snapshot_fini) struct agt_snapshot s;
	const char *cycle, *state;
	int r;

	agt_snapshot_read(o->state_dir, o->out_dir, &s);
	if (!agt_snapshot_state(&s, &cycle, &state))
		return err_set(e, -ERR_FORBIDDEN,
			       "no sync was run with the state directory %s yet", o->state_dir);
	printf("%s: %s, %d%%, %lld of %lld bytes\n", s.phase, state, agt_snapshot_percent(&s),
	       (long long)s.bytes_done, (long long)s.bytes_total);
	r = agt_snapshot_report_put(spool, agt_snapshot_report_state(cycle, state), e);
	if (r == 0)
		r = agt_snapshot_report_put(
			spool, agt_snapshot_report_progress(task_id, &s), e);
	if (r == 0 && s.verification)
		r = agt_snapshot_report_put(
			spool,
			agt_snapshot_report_consistency(task_id, s.verification), e);
	return r;
}

int agt_report_run(const struct agt_context *ctx, struct err *e)
{
	const struct agt_options *o = ctx->options;
	_cleanup_(agt_control_closep) struct agt_control *control = NULL;
	_cleanup_(agt_spool_closep) struct agt_spool *spool = NULL;
	char task_id[AGT_TASK_ID_SIZE];
	struct agt_round round;
	int r = agt_statedir_make(o->state_dir, e);

	if (r == 0)
		r = agt_control_open(o, ctx->stop, NULL, &control, e);
	if (r == 0)
		r = current_task(o, agt_control_cloud(control), task_id, e);
	if (r == 0)
		r = agt_spool_open(o->state_dir, NULL, &spool, e);
	if (r == 0)
		r = put_all(o, spool, task_id, e);
	if (r < 0)
		return r;
	r = agt_courier_round(&(struct agt_courier){ .o = o,
						     .cloud = agt_control_cloud(control),
						     .spool = spool },
			      &round, e);
	if (r == -ERR_LOCKED) {
		printf("the agent that is running sends them\n");
		return 0;
	}
	if (r < 0)
		return err_ctx(e, r, "what is not sent stays in %s/" AGT_SPOOL_NAME " and goes "
			       "next time", o->state_dir);
	printf("sent: %u, refused: %u\n", round.sent, round.rejected);
	if (round.rejected)
		return err_set(e, -ERR_CLOUD, "SMS has refused %u reports, see the log",
			       round.rejected);
	return 0;
}
