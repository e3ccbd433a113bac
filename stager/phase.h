/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/phase.h - the phases of a sync: full_sync, incremental_sync_N, cutover_sync.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "stager/report.h"

struct stg_migration;
struct stg_scan_visitor;

/*
 * Run one phase to its end.  0: done, *ret_partial is 0, or 23 when entries could not be
 * sent, or 24 when entries vanished, or 25 when --max-delete kept some.  Negative: it did not get to its end; what the target
 * acknowledged is kept, and the same phase goes on when it is run again.
 *
 * A full sync compares with the target itself, unless it goes on after a break.  An
 * incremental or cutover phase needs a finished full sync: else -ERR_FORBIDDEN.  A cutover
 * repeats its pass until one finds nothing that changed.
 */
int stg_phase_run(struct stg_migration *m, enum stg_phase_kind kind, int *ret_partial,
		  struct err *e) _must_check_;

/* May this phase run?  0, or -ERR_FORBIDDEN: no finished full sync stands. */
int stg_phase_allowed(struct stg_migration *m, enum stg_phase_kind kind, struct err *e)
	_must_check_;

/*
 * Remove half-made files that a broken-off run left on the target, in the directories that
 * the catalog has as unfinished.
 */
int stg_phase_clean(struct stg_migration *m, struct err *e) _must_check_;

struct stg_plan {
	uint64_t entries, bytes;           /* of the source, as the filter selects it */
	uint64_t send_entries, send_bytes; /* that a phase would send now */
	uint64_t removals;
	uint64_t errors;
	bool full;                         /* there is no full sync yet */
};

/* Walk the source and say what the next phase would do.  Changes nothing. */
int stg_phase_plan(struct stg_migration *m, const struct stg_scan_visitor *visitor,
		   struct stg_plan *ret, struct err *e) _must_check_;

/*
 * Only walk the source, by the rules of this kind of phase.  *ret_errors: what could not be
 * read.
 */
int stg_phase_walk(struct stg_migration *m, enum stg_phase_kind kind,
		   const struct stg_scan_visitor *visitor, uint64_t *ret_errors, struct err *e)
	_must_check_;
