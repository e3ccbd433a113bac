/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/snapshot.h - how a run of stager stands, and that in the words of SMS.
 *
 * A run tells about itself in two files, status.json (every second) and rsync_execution.json,
 * and by the lock it holds; so a run is seen whoever has started it.  A report is a JSON object
 * that the spool keeps and the courier sends: "kind", "at" (epoch seconds), "method", "path"
 * with one {} in it, "of" ("task" or "source": what that stands for), "id" (of the task) and
 * "body".
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

#define AGT_SNAPSHOT_TEXT 80

struct cJSON;
struct agt_spool;

enum agt_outcome {
	AGT_OUTCOME_NONE,    /* it is at work, or there was no run */
	AGT_OUTCOME_DONE,    /* also when some files could not be sent */
	AGT_OUTCOME_FAILED,
	AGT_OUTCOME_STOPPED, /* interrupted, or killed */
};

/* A run of stager, as far as its files tell. */
struct agt_snapshot {
	bool known;   /* there is a status of a run */
	bool running; /* it holds the lock */
	enum agt_outcome outcome;
	char run_id[AGT_SNAPSHOT_TEXT];
	char phase[AGT_SNAPSHOT_TEXT]; /* full_sync, incremental_sync_N, cutover_sync */
	char step[AGT_SNAPSHOT_TEXT];
	int64_t entries_done, entries_total, bytes_done, bytes_total;
	int64_t bytes_per_s;
	int64_t eta_s; /* -1: not known */
	int64_t errors;
	int64_t updated_at;
	struct cJSON *verification; /* of the report, when one has ended; owned */
};

/*
 * Look at the state directory and at rsync_execution.json in out_dir.  What is missing or makes
 * no sense is left at zero.
 */
void agt_snapshot_read(const char *state_dir, const char *out_dir, struct agt_snapshot *ret);
void agt_snapshot_fini(struct agt_snapshot *s); /* NULL is fine */

/* 0-100; 100 only when the phase has ended well. */
int agt_snapshot_percent(const struct agt_snapshot *s);

/* The pair of words that SMS has for it; NULL and false: none, nothing is going on. */
bool agt_snapshot_state(const struct agt_snapshot *s, const char **ret_cycle,
			const char **ret_state);

/* ---- reports; NULL when out of memory, or when there is nothing to say ---- */

struct cJSON *agt_snapshot_report_state(const char *cycle, const char *state);
struct cJSON *agt_snapshot_report_progress(const char *task_id,
					   const struct agt_snapshot *s);
struct cJSON *agt_snapshot_report_consistency(const char *task_id,
					      const struct cJSON *verification);
struct cJSON *agt_snapshot_report_command(const char *name, bool success,
					  const char *detail);

/* Put it into the spool; takes report, NULL is fine. */
int agt_snapshot_report_put(struct agt_spool *spool, struct cJSON *report, struct err *e)
	_must_check_;
