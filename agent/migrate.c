/* SPDX-License-Identifier: Apache-2.0 */
/* The command migrate: a run from its opening to its end, and what is told of it. */
#include "agent/migrate.h"

#include <stdio.h>
#include <string.h>

#include "agent/chain.h"
#include "agent/migration.h"
#include "agent/notify.h"
#include "agent/result.h"
#include "common/log.h"
#include "common/macro.h"

#define EXIT_PARTIAL 23

/*
 * Did the run end by itself, with nothing that the next call could go on with?  Then that
 * begins anew, and its chain of calls is whole again.
 */
static bool is_over(const struct agt_migration *m, int r)
{
	const struct agt_run *run = &m->run;
	bool made = *run->server_id || *run->job_id || *run->eip_id || *run->task_id ||
		    *run->intent || run->staged_status >= 0;

	return !made && (r == -ERR_FORBIDDEN || r == -ERR_USAGE || r == -ERR_CLOUD ||
			 r == -ERR_AUTH);
}

static void announce(struct agt_migration *m, int r, const struct err *end)
{
	if (r == 0)
		agt_notify(m, AGT_EVENT_SUCCESS, "The migration has succeeded.");
	else if (m->waiting)
		agt_notify(m, AGT_EVENT_WAITING, "The staged sync waits to be confirmed.");
	else if (r != -ERR_CANCELLED)
		agt_notify(m, AGT_EVENT_FAILURE,
			   *end->text ? end->text : "The staged sync has failed.");
}

static void print_result(const struct agt_migration *m)
{
	const struct agt_run *run = &m->run;
	bool staged = !strcmp(run->road, "rsync");

	if (m->dry)
		return;
	printf("migrated by %s: %s%s%s\n", staged ? "the staged sync" : "SMS",
	       staged ? run->staged_state : run->task_state, *run->server_id ? ", target " : "",
	       run->server_id);
	printf("postcheck: passed\nresult: %s/" AGT_FILE_RESULT "\n", m->o->out_dir);
}

int agt_command_migrate(const struct agt_context *ctx, struct err *e)
{
	_cleanup_(agt_migration_close) struct agt_migration m = { .lock_fd = -1 };
	struct err end = { 0 }, lost = { 0 };
	int status, r;

	/* Whole lines, also when log and requests go to the same pipe. */
	if (ctx->options->migrate.dry_run)
		setvbuf(stdout, NULL, _IOLBF, 0);
	r = agt_migration_open(&m, ctx, e);
	if (r < 0)
		return r;
	r = agt_chain_run(&m, e);
	if (r < 0)
		end = *e;
	else if (r > 0)
		err_set(&end, -ERR_HOOK, "the staged sync ended with exit status %d", r);
	status = r < 0 ? err_exit_status(r) : r;
	/* All is there, but for what the report of the staged sync names. */
	if (r == 0 && m.run.staged_status == EXIT_PARTIAL)
		status = EXIT_PARTIAL;
	m.run.over = is_over(&m, r);
	if (!m.dry && (agt_migration_save(&m, &lost) < 0 ||
		       agt_result_write(&m, &end, status, &lost) < 0))
		log_error("%s", lost.text);
	announce(&m, r, &end);
	if (r == 0)
		print_result(&m);
	return r < 0 ? r : status;
}
