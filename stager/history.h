/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/history.h - what the passes of a migration came to, for the forecast.
 *
 * One row a phase, kept in the catalog, the newest STG_HISTORY_MAX of them.  A row is put when
 * a phase may send the first byte, and completed when it has ended; so one that was killed
 * stays as a row that is not finished, and nobody takes what the next one found for all the
 * changes since.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/error.h"
#include "stager/hot.h"
#include "stager/report.h"

#define STG_HISTORY_MAX 50

struct stg_catalog;

struct stg_change {
	char *path;    /* as text; the source root is "." */
	char *path_base64; /* its bytes, where they are not UTF-8; else NULL */
	struct stg_hot_count count;
};

struct stg_changes {
	struct stg_change *v; /* most work first */
	size_t n;
};

struct stg_past {
	uint32_t phase; /* id in the catalog */
	char name[STG_REPORT_NAME_MAX];
	enum stg_phase_kind kind;
	bool finished;
	int64_t started_ms, sync_ms; /* epoch; changes are counted from sync point to sync point */
	double duration_s;
	double scan_s; /* walking the source, with what was sent meanwhile */
	uint64_t entries_scanned, bytes_scanned;
	uint64_t entries_changed, entries_deleted;
	uint64_t bytes_literal, bytes_matched;
	uint64_t bytes_wire;
	struct stg_changes dirs, files; /* none for a full sync */
};

struct stg_history {
	struct stg_past v[STG_HISTORY_MAX]; /* the oldest first */
	size_t n;
};

void stg_history_fini(struct stg_history *h); /* NULL is fine */
void stg_past_fini(struct stg_past *p);

/* What the catalog has; nothing is no error, nor is something that cannot be read. */
int stg_history_load(struct stg_catalog *c, struct stg_history *ret, struct err *e) _must_check_;

/*
 * Put a row, in place of the one with the same phase id if there is one; p's lists are taken,
 * also on error.  For a phase that begins: finished is false.
 */
int stg_history_put(struct stg_catalog *c, struct stg_past *p, struct err *e) _must_check_;

/* The phase changed nothing on the target: it is as if it had not been. */
int stg_history_drop(struct stg_catalog *c, uint32_t phase, struct err *e) _must_check_;

/* Take the top rows of h into p's lists. */
int stg_past_take_hot(struct stg_past *p, struct stg_hot *h, struct err *e) _must_check_;
