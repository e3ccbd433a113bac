/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/migration.h - what a command needs of one migration: the state directory and its
 * lock, catalog, filter, report, audit log, progress, the way to the target.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "stager/progress.h"
#include "stager/report.h"

struct stg_audit;
struct stg_audit_field;
struct stg_bwlimit;
struct stg_catalog;
struct stg_connector;
struct stg_filter;
struct stg_mounts;
struct stg_options;
struct stg_run;
struct stg_ssh;

/* Which part of what is synced a phase is about; the strings are borrowed. */
struct stg_scope {
	char *const *paths; /* sub-trees, as in stg_options.paths */
	size_t paths_n;
	bool only_paths;    /* the directories that lead to them do not count */
	char *const *skip;  /* left alone, on both sides */
	size_t skip_n;
};

struct stg_migration {
	const struct stg_options *opt;
	char *prefix;  /* where the programs are installed */
	char *source;  /* absolute, without links */
	int source_fd;
	int state_fd;
	int lock_fd;
	int report_fd; /* the report's directory */
	char *report_name;
	char run_id[33];
	uint64_t run_number;
	struct stg_catalog *catalog;
	struct stg_filter *filters[STG_PHASE_KINDS]; /* by kind of phase; may be one and the same */
	size_t own_rules[STG_PHASE_KINDS]; /* how many of them stand before the standard list */
	struct stg_mounts *mounts;
	struct stg_ssh *ssh;
	struct stg_connector *connector; /* another way to the target; NULL: by SSH */
	struct stg_bwlimit *bwlimit;
	struct stg_report *report;
	struct stg_audit *audit;
	struct stg_progress progress;
	bool progressing; /* progress was started */
	const struct stg_scope *scope; /* of the next phase; NULL: all that is synced */

	/* The signal thread stops what is active. */
	pthread_mutex_t lock;
	struct stg_run *active;
	int signal; /* that asked to stop; 0: none */
	pthread_t signal_thread;
	bool signals; /* it runs */
	bool closing; /* it is to end */
};

/* How much of it: each level has all that the ones before have. */
enum stg_migration_level {
	STG_LEVEL_RULES,  /* source, filters, mounts: explain */
	STG_LEVEL_SOURCE, /* and the catalog if there is one: plan */
	STG_LEVEL_SYNC,   /* the lock, a catalog, target, report, audit log, progress, signals */
};

/*
 * Open a migration.  -ERR_LOCKED: another run has the state directory.  -ERR_FORBIDDEN: it
 * belongs to another source or target.  -ERR_SELECT: no such source.  *ret is the caller's
 * to close, also after an error.
 */
int stg_migration_open(struct stg_migration *m, const struct stg_options *opt,
		       enum stg_migration_level level, struct err *e) _must_check_;

/*
 * End the run: r is what it came to, e says why when it is negative.  When r is 0, partial is
 * the exit code (0, 23, 24, 25).  Closes everything; returns the exit code of the program.
 */
int stg_migration_close(struct stg_migration *m, int r, struct err *e, int partial);

/* Write an audit record; a log that cannot be written ends the run. */
int stg_migration_audit(struct stg_migration *m, int event, const struct stg_audit_field *f,
			size_t n, struct err *e) _must_check_;

/* Save the report between two audit records, of which event is the second. */
int stg_migration_save(struct stg_migration *m, int event, const char *phase, int exit_code,
		       struct err *e) _must_check_;

/* Make run the one that a signal stops (NULL: none).  -ERR_CANCELLED: one came already. */
int stg_migration_activate(struct stg_migration *m, struct stg_run *run, struct err *e)
	_must_check_;
