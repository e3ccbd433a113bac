/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/artifact.h - the result files of a run, below the directory of --out.
 *
 * A file is whole or not there: written beside its name and renamed.  Every one carries run_id,
 * tool_version, generated_at (epoch seconds), generated_at_utc and generated_at_local.  What an
 * earlier run left under a name is moved aside to NAME.<its run id>.json, or to
 * NAME.<its time, UTC>.json when it tells no run id, before this run writes NAME.json.
 */
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"

#define AGT_RUN_ID_SIZE 40

struct cJSON;
struct agt_artifacts; /* lives from agt_artifacts_open() to agt_artifacts_close() */

/* A new run id: "20260115T083000Z-1f2e3d4c", the time and 32 random bits.  Returns out. */
const char *agt_run_id(char out[AGT_RUN_ID_SIZE]);

/*
 * Open dir, which is made with its parents (mode 0755) when it is missing.  run_id: of this run;
 * one that goes on with an earlier run's work gives that run's.
 */
int agt_artifacts_open(const char *dir, const char *run_id, struct agt_artifacts **ret,
		       struct err *e) _must_check_;
void agt_artifacts_close(struct agt_artifacts *a); /* NULL is fine */

static inline void agt_artifacts_closep(struct agt_artifacts **a)
{
	agt_artifacts_close(*a);
}

const char *agt_artifacts_run_id(const struct agt_artifacts *a);

/*
 * Write content, an object, to dir/name ("migration_result.json") with mode 0644, or 0600 when
 * closed says so.  The stamps are set in content itself.
 */
int agt_artifact_write(struct agt_artifacts *a, const char *name, struct cJSON *content,
		       struct err *e) _must_check_;
int agt_artifact_write_closed(struct agt_artifacts *a, const char *name, struct cJSON *content,
			      struct err *e) _must_check_;

/*
 * Move dir/name aside if an earlier run made it; 0 when there is nothing to move, too.  For
 * files that this run may never come to write: else they would pass for its own.
 */
int agt_artifact_retire(struct agt_artifacts *a, const char *name, struct err *e) _must_check_;

/* The file of this run, parsed; *ret NULL when there is none, or it is another run's. */
int agt_artifact_read(struct agt_artifacts *a, const char *name, struct cJSON **ret,
		      struct err *e) _must_check_;
