/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/verify.h - is the target what the source is?  A walk like a phase's, through the
 * same scanner and sessions, in which items are compared instead of sent.  What differs is
 * kept in the catalog (stg_finding); nothing on the target changes.
 *
 * Both ends of the report, verify.c that drives it and verify_report.c that writes it, share
 * what is here with check.c, which does it in the sessions.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"
#include "stager/catalog.h"
#include "stager/options.h"

struct stg_migration;
struct stg_phase;
struct stg_run;

#define STG_VERIFY_LIST_MAX 1000 /* paths of one list in the report */

/* A sub-tree that is to be verified, as it was asked for. */
struct stg_verify_include {
	const char *path;
	bool there; /* on the source, and within what is synced */
	atomic_uint_fast64_t entries;
};

/* What the sessions of a verification share.  list has its own lock: that of the run. */
struct stg_verification {
	enum stg_verify_method method;
	uint32_t round; /* of the findings */
	bool named;     /* only some paths are looked at: what an earlier round found */
	struct stg_verify_include *include;
	size_t include_n;
	atomic_uint_fast64_t checked, hashed, hashed_bytes, unchecked;
	atomic_uint_fast64_t in_use; /* files whose content was not compared */
	size_t in_use_listed;
	struct buf in_use_list;      /* members of a JSON array */
};

/* One file is being written: it is listed, its content is not compared.  0 or -ENOMEM. */
int stg_verify_in_use(struct stg_run *run, struct bytes path, const char *reason)
	_must_check_;

/* An entry was looked at.  0 or -ENOMEM. */
int stg_verify_count(struct stg_verification *v, struct bytes dir, struct bytes name)
	_must_check_;

/* What the whole command has found. */
struct stg_verify_result {
	const struct stg_verification *v;
	const char *state; /* "running", "consistent", "differences", ... */
	int64_t began_ns, finished_ns; /* epoch; finished 0: not yet */
	uint32_t target_flags;         /* TP_R_* */
	bool only_inconsistent, repair;
	int exit_code;
};

/* --- verify_report.c --- */

/* Append the JSON members of both sides' values of what differs: for stg_finding.detail. */
struct tp_difference;
int stg_verify_detail(struct buf *out, uint32_t what, const struct tp_difference *source,
		      const struct tp_difference *target) _must_check_;

/* Write the report's section, and name what differs in the log (log: once, at the end). */
int stg_verify_report(struct stg_migration *m, const struct stg_verify_result *res, bool log,
		      struct err *e) _must_check_;
