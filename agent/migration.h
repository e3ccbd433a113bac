/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/migration.h - a migration at work: what its steps share.
 *
 * The chain (agent/chain.c) says which step comes after which; a step calls the cloud through
 * here, so that a dry run is told instead of done, and notes what it made through here, so
 * that a run that is killed goes on.
 */
#include <stdbool.h>
#include <stdint.h>

#include "agent/artifact.h"
#include "agent/cloud.h"
#include "agent/command.h"
#include "agent/migration_run.h"
#include "agent/options.h"
#include "agent/pages.h"
#include "agent/stop.h"
#include "common/error.h"

struct cJSON;
struct agt_control;

#define AGT_FILE_RESULT "migration_result.json"
#define AGT_FILE_CLEANUP "precheck_task_cleanup.json"
#define AGT_FILE_CHECKS "precheck_source_checks.json"
#define AGT_FILE_POSTCHECK "postcheck_network.json"
#define AGT_FILE_POLL "task_poll_latest.json"
#define AGT_FILE_STAGED "rsync_execution.json"
#define AGT_FILE_CONSOLE "console_output.txt"

struct agt_migration {
	const struct agt_context *ctx;
	const struct agt_options *o;
	const struct agt_stop *stop;
	bool dry;     /* tell what would be done, change nothing */
	bool resumed; /* the run began in an earlier call */
	bool new_task; /* its task was made in this one, so nobody has started it */

	struct agt_run run;
	struct agt_artifacts *artifacts; /* NULL in a dry run */
	struct agt_control *control;     /* NULL until the first call */
	int lock_fd;

	struct cJSON *source;    /* the source's record, with its disks; NULL: not asked for yet */
	struct cJSON *server;    /* the target's record; NULL: not asked for yet */
	struct cJSON *cleanup;   /* content of AGT_FILE_CLEANUP */
	struct cJSON *postcheck; /* content of AGT_FILE_POSTCHECK; NULL: not done yet */

	char code[AGT_CODE_MAX]; /* of the last answer that was an error, for the result */
	bool postcheck_passed;
	bool waiting; /* the staged sync waits at a checkpoint */
};

/*
 * Open state, lock and result files; the run is the unfinished one of an earlier call or a
 * new one.  -ERR_LOCKED: another call is at work.  -ERR_FORBIDDEN: the unfinished run is
 * about another source or target.  Close is for whatever open has filled, also when it failed.
 */
int agt_migration_open(struct agt_migration *m, const struct agt_context *ctx, struct err *e)
	_must_check_;
void agt_migration_close(struct agt_migration *m);

/* Open keys and HTTP client, unless they are. */
int agt_migration_cloud(struct agt_migration *m, struct err *e) _must_check_;

/*
 * One call, as agt_cloud_call(); keys and HTTP client are opened at the first one.  In a dry
 * run the request is printed.  Then what would change something is answered with what the
 * service would most likely say, ids in angle brackets; so is what asks about such an id.
 */
int agt_migration_call(struct agt_migration *m, const struct agt_call *call,
		       struct agt_reply *ret, struct err *e) _must_check_;

/* As agt_pages_read(), with agt_migration_call(). */
int agt_migration_list(struct agt_migration *m, const struct agt_list *list,
		       struct cJSON **ret, struct err *e) _must_check_;

/* Note where the run stands: state file, and the result file for those who watch. */
int agt_migration_save(struct agt_migration *m, struct err *e) _must_check_;

/*
 * Make something anew, once, whatever happens: find looks whether it is there under its name
 * (1, and noted in m->run; 0), post makes and notes it.  A run that was killed in between, and
 * a call whose answer was lost, are found out by find.
 */
struct agt_making {
	const char *what; /* for the state file: "server" */
	int (*find)(struct agt_migration *m, struct err *e);
	int (*post)(struct agt_migration *m, struct agt_reply *reply, struct err *e);
};
int agt_migration_make(struct agt_migration *m, const struct agt_making *making,
		       struct agt_reply *reply, struct err *e) _must_check_;

/* Sleep for --poll-interval, or -ERR_CANCELLED; nothing in a dry run. */
int agt_migration_pause(struct agt_migration *m, struct err *e) _must_check_;

/* Write content as a result file; nothing in a dry run. */
int agt_migration_write(struct agt_migration *m, const char *name, struct cJSON *content,
			struct err *e) _must_check_;

/* A line that a dry run prints, "# ..." being a remark; nothing else. */
void agt_migration_tell(const struct agt_migration *m, const char *fmt, ...) _printf_(2, 3);
