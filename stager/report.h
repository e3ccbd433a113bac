/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/report.h - rsync_execution.json: what was done, phase by phase, and what failed.
 *
 * One report belongs to one migration and grows over its runs: the full sync of today and
 * the incremental one of tomorrow are entries of the same phases[].  The file is valid JSON
 * at every moment: it is written beside and renamed.  rsync_execution.json(5) describes the
 * fields, packaging/schema/rsync_execution.schema.json fixes their types.
 *
 * How it is chained to the audit log (stager/audit.h): the report is saved with the SHA-256
 * of the last audit line as its previous_sha256, and the audit line that follows holds the
 * SHA-256 of the report file.  So line, report, line: neither can be changed alone.
 *
 * Recording functions return nothing: memory that was lacking makes the next save fail with
 * -ENOMEM.  All functions on one report may be called from any thread, except that open,
 * close, begin and finish belong to the thread that drives the phases.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"

#define STG_REPORT_SCHEMA_VERSION 1
#define STG_REPORT_FILE_MAX (64u << 20) /* a larger file is not read as a report */
#define STG_REPORT_LIST_MAX 1000        /* errors, live files: listed by path, of one phase or run */
#define STG_REPORT_OLD_LIST_MAX 100     /* the same, kept of a phase of an earlier run */
#define STG_REPORT_PHASES_MAX 500       /* beyond, the oldest incremental ones go */
#define STG_REPORT_HOOKS_MAX 1000       /* beyond, the oldest go */
#define STG_REPORT_LIMITS_MAX 1000      /* changes of a phase's bandwidth limit; the same */
#define STG_REPORT_TAIL_MAX 4096        /* bytes kept of what a step printed: the last ones */
#define STG_REPORT_NAME_MAX 64          /* a phase name with its NUL */

struct stg_report; /* lives from stg_report_open() to stg_report_close() */

struct stg_report_opts {
	int dirfd;        /* the directory of the report, borrowed until close */
	const char *name; /* file name in it, NULL: rsync_execution.json */
	mode_t mode;      /* of the file, 0: 0640 */

	/* Which migration this is: a file of another one is moved aside. */
	const char *migration_id; /* as the catalog has it */
	const char *source_id;
	const char *target_id;

	const char *run_id;
	const char *tool_version;
	const char *command; /* "full", "run", ... */
	const char *source_host;
	const char *target_host;
	uint16_t source_port; /* 0: 22 */
	uint16_t target_port; /* 0: 22 */
	int incremental_rounds; /* asked for; negative: not asked, the finished ones count */

	/* Nanoseconds; NULL: the clocks of common/io.h. */
	int64_t (*real_ns)(void *arg);
	int64_t (*mono_ns)(void *arg);
	void *clock_arg;
};

enum stg_phase_kind {
	STG_PHASE_FULL,        /* full_sync */
	STG_PHASE_INCREMENTAL, /* incremental_sync_N, N counts from the last full sync */
	STG_PHASE_CUTOVER,     /* cutover_sync */
};

#define STG_PHASE_KINDS 3

enum stg_run_state {
	STG_RUN_RUNNING,
	STG_RUN_SUCCEEDED,
	STG_RUN_PARTIAL, /* done, but some entries could not be sent or vanished */
	STG_RUN_FAILED,
	STG_RUN_INTERRUPTED, /* by a signal, or the run that wrote the report died */
};

enum stg_delete_mode {
	STG_DELETE,                /* what the source lacks was removed */
	STG_DELETE_OFF,            /* --no-delete */
	STG_DELETE_SKIPPED_ERRORS, /* wanted, but the scan had errors: nothing was removed */
};

/* One tree of a phase.  Both paths are borrowed for the call. */
struct stg_phase_path {
	struct bytes source;
	struct bytes target;
};

/* What the engine counts in one phase. */
struct stg_phase_stats {
	uint64_t entries_scanned;
	uint64_t entries_changed; /* sent, whole or in part */
	uint64_t entries_deleted;
	uint64_t entries_moved; /* on the target, from another name; among those that changed */
	uint64_t entries_skipped_by_hash; /* looked changed, content was equal */
	uint64_t entries_acked_before;    /* done by an earlier, broken-off run of this phase */
	uint64_t bytes_scanned;           /* sizes of the regular files scanned */
	uint64_t bytes_literal;           /* file bytes that went over the wire, before compression */
	uint64_t bytes_matched;           /* file bytes that a delta found on the target */
	uint64_t bytes_wire_out;
	uint64_t bytes_wire_in;
	double throughput_bytes_per_s; /* 0: literal and matched bytes over the duration */
	uint64_t sessions;             /* the most that were open at once */
	uint64_t reconnects;
};

/* What the program chose by itself, and why. */
struct stg_tuning {
	unsigned sessions;           /* that it might open */
	const char *sessions_reason; /* NULL: none was needed */
	int compression;             /* as asked for: below 0 auto, 0 off, else a level */
	int level_most;              /* of auto, the highest that a session has chosen; 0: none has */
	uint64_t bytes_raw, bytes_packed; /* before and after it */
	uint64_t in_flight_bytes;    /* that a session prepares before the link takes them */
};

struct stg_session_stats {
	uint32_t index;
	uint64_t entries;
	uint64_t bytes_wire_out;
	uint64_t bytes_wire_in;
	uint64_t reconnects;
};

/* One thing that went wrong; all is borrowed for the call. */
struct stg_report_item {
	struct bytes path;     /* below the source root; empty: the root itself; p NULL: no path */
	const char *operation; /* "open", "read", "setxattr", ... */
	int code;              /* errno or an err_code, of either sign; 0: none */
	const char *message;
};

/* What a hook or another step of the old report did; all is borrowed for the call. */
struct stg_hook_result {
	const char *step;
	int return_code;
	double duration_sec;
	struct bytes output_tail; /* the end of it is kept */
	int64_t started_at;       /* epoch seconds, 0: not known */
	bool timed_out;
	bool skipped; /* by the operator, after a failure */
};

/* Steps that have a field of their own at the top of the report. */
enum stg_report_step {
	STG_STEP_SOURCE_CHECK, /* source_rsync_check: is the sync program there, which version */
	STG_STEP_TARGET_CHECK, /* target_rsync_check */
	STG_STEP_CUTOVER_STOP,
	STG_STEP_CUTOVER_START,
	STG_STEP_TARGET_FINALIZE,
};

/* Parts that other modules write as JSON text. */
enum stg_report_section {
	STG_SECTION_CUTOVER,
	STG_SECTION_VERIFICATION,
	STG_SECTION_BOOT_REPAIR,
	STG_SECTION_POSTCHECK,
	STG_SECTION_CHECKPOINTS, /* an array, the others are objects */
};

struct stg_phase_opts {
	enum stg_phase_kind kind;
	enum stg_delete_mode delete_mode;
	const struct stg_phase_path *paths;
	size_t paths_n;
};

struct stg_phase_result {
	enum stg_run_state run_state;
	int exit_code;
	const char *warning;      /* NULL: one is made up for a partial phase */
	struct bytes output_tail; /* empty: a line made from the stats */
};

/*
 * Start the report of a run.  A file of the same migration is read and continued: a phase
 * that it shows as running was interrupted.  One of another migration, or a damaged one, is
 * renamed to NAME.YYYYMMDDTHHMMSSZ.old, which stg_report_note() tells.  Nothing is written
 * before the first save or tick.  -EINVAL: the name is no regular file's; else as openat(2).
 */
int stg_report_open(const struct stg_report_opts *o, struct stg_report **ret, struct err *e)
	_must_check_;
void stg_report_close(struct stg_report *r); /* saves nothing; NULL is fine */

/* What was moved aside and why, for the log; NULL: nothing was.  Borrowed until close. */
const char *stg_report_note(const struct stg_report *r);

/*
 * Start a phase; one that is still open ends as interrupted.  A round that is tried again
 * after it failed keeps its number.  Returns the phase's name, borrowed until the next begin.
 */
const char *stg_report_begin_phase(struct stg_report *r, const struct stg_phase_opts *o);

/* These are about the open phase, and do nothing when there is none. */
void stg_report_set_tuning(struct stg_report *r, const struct stg_tuning *t);
void stg_report_set_stats(struct stg_report *r, const struct stg_phase_stats *s,
			  const struct stg_session_stats *sessions, size_t sessions_n);
/*
 * From now on this bandwidth limit is in force (bytes a second, 0: none), because of the
 * window "HH:MM-HH:MM" (NULL: of none).
 */
void stg_report_add_bandwidth(struct stg_report *r, uint64_t bytes_per_s, const char *window);
void stg_report_set_delete_mode(struct stg_report *r, enum stg_delete_mode mode);

/*
 * The result of one of the phase's paths, in place of what finish_phase gives to all of
 * them.  i counts from 0 in the order of stg_phase_opts.paths.
 */
void stg_report_set_path_result(struct stg_report *r, size_t i,
				const struct stg_hook_result *h, const char *warning);

/*
 * End the open phase.  A succeeded or partial one moves the report's state forward:
 * FULL_SYNCED after full and incremental, CUTOVER_SYNCED after cutover.
 */
void stg_report_finish_phase(struct stg_report *r, const struct stg_phase_result *res);

/* Note one error, or a file that never settled.  Beyond the cap they are only counted. */
void stg_report_add_error(struct stg_report *r, const struct stg_report_item *item);
void stg_report_add_live_file(struct stg_report *r, const struct stg_report_item *item);

/* Errors noted in this run so far. */
uint64_t stg_report_errors_total(struct stg_report *r);

/* Append to hooks[], with the open phase's name if there is one. */
void stg_report_add_hook(struct stg_report *r, const struct stg_hook_result *h);

void stg_report_set_step(struct stg_report *r, enum stg_report_step which,
			 const struct stg_hook_result *h);

/* Replace a section by json.  -EINVAL: it is no JSON, or not of the section's type. */
int stg_report_set_section(struct stg_report *r, enum stg_report_section which,
			   struct bytes json, struct err *e) _must_check_;

/* The run is over; an open phase ends with the same result. */
void stg_report_finish(struct stg_report *r, enum stg_run_state state, int exit_code);

/*
 * Write the file.  previous_sha256 is stg_audit_last() for the saves at the end of a phase
 * or run, NULL keeps what the report has.  ret_sha256, unless NULL, receives the hash of the
 * written bytes, for the audit line that follows.
 */
int stg_report_save(struct stg_report *r, const char *previous_sha256, char ret_sha256[65],
		    struct err *e) _must_check_;

/* Save if the last save is a second old or more.  1: saved, 0: not yet due. */
int stg_report_tick(struct stg_report *r, struct err *e) _must_check_;

/* The file's spelling of a run state: "running", "succeeded", ... */
const char *stg_run_state_name(enum stg_run_state s);

/*
 * Append a report for people: header, table of phases, steps, hooks, errors.  No control
 * byte of a name gets through.  -EBADMSG: name in dirfd is no report.  (report_text.c)
 */
int stg_report_render_text(int dirfd, const char *name, struct buf *out, struct err *e)
	_must_check_;
