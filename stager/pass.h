/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/pass.h - the passes of a phase, and waiting for what its threads do.
 *
 * Only stager/phase.c and stager/verify.c use it, which begin a phase and end it.  All of it
 * belongs to the thread that drives the phase.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "stager/bwlimit.h"
#include "stager/report.h"
#include "stager/run.h"

struct stg_filter;
struct stg_filter_dir;
struct stg_migration;
struct stg_senders;

/* A phase at work.  The other threads see run; the rest is for the one that drives it. */
struct stg_phase {
	struct stg_migration *m;
	struct stg_run run;
	struct stg_senders *senders;   /* NULL: not started yet */
	enum stg_phase_kind kind;
	enum stg_delete_mode delete_mode;
	int64_t began_ns, deadline_ns; /* deadline 0: none */
	int64_t epoch_ns;              /* when the last epoch was asked for */
	int64_t scan_ns;               /* what the last walk of the source took */
	uint32_t asked;                /* that epoch; 0: none is on its way */
	bool broken_before;            /* the phase before this one did not get to its end */
	bool unsettled;                /* what an earlier phase left may not be durable */
	const char *warning;           /* for the report; NULL: none */
	char left_text[128];           /* the warning of --max-delete */
	uint64_t reconnects;           /* whose leftovers have been removed */
	struct stg_filter *leftovers;  /* the filter for that; NULL: not needed yet */
	bool limit_told;               /* limit has been reported */
	struct stg_bwlimit_state limit; /* the bandwidth limit in force, as reported */
	bool woken;                    /* the sessions know that they are admitted */
};

/*
 * Make the pass of this phase; in a cutover, passes until one finds nothing that changed.
 * There is a limit to those: where the last one still found something, 0 is returned and
 * ph->warning says so.  The senders have been started.
 */
int stg_pass_run(struct stg_phase *ph, struct err *e) _must_check_;

/*
 * Wait until the target says that all it acknowledged is on its disk, and record that.
 * Returns at once when nothing was changed there, by this phase or by one before it that
 * may have left something unsettled.
 */
int stg_pass_sync(struct stg_phase *ph, struct err *e) _must_check_;

/*
 * Wait until the first session has told of the target (run.told).  While this and the two
 * above wait, they commit the catalog, ask for epochs and write the report; they return
 * the error of the run when it has one, and -ERR_LOST after the deadline.
 */
int stg_pass_wait_told(struct stg_phase *ph, struct err *e) _must_check_;

/*
 * A filter under which nothing is at risk but the receiver's temporary names, and its
 * node for the root.  Both are the caller's, to free and to unref; *ret even after an
 * error, so it has to be NULL before.
 */
int stg_pass_leftovers_filter(struct stg_filter **ret, struct stg_filter_dir **ret_node,
			      struct err *e) _must_check_;

/*
 * Remove what is at risk by node, a filter's root, from the directories that the catalog
 * has marked as unfinished.  Takes the place of the delete plan, so that is gone.  The
 * caller has set run.delete and cleared run.delete_limited.
 */
int stg_pass_remove_leftovers(struct stg_phase *ph, struct stg_filter_dir *node,
			      struct err *e) _must_check_;

/* Begin and end what the threads of a phase share (phase.c). */
int stg_phase_init(struct stg_run *run, struct stg_migration *m, enum stg_phase_kind kind,
		   struct err *e) _must_check_;
void stg_phase_fini(struct stg_run *run);

/* Wait until all jobs that were queued are finished. */
int stg_pass_wait_idle(struct stg_phase *ph, struct err *e) _must_check_;

/* Walk the source and wait until all that came of it is done. */
int stg_pass_scan(struct stg_phase *ph, struct err *e) _must_check_;

/* Queue job, which is taken in every case; one without items is dropped. */
int stg_pass_push(struct stg_phase *ph, struct stg_job *job, struct err *e) _must_check_;

/* Look for files that are in use; without /proc none is. */
int stg_pass_find_users(struct stg_run *run, struct err *e) _must_check_;

/* The counters as they are now, without those of single sessions' wires. */
void stg_pass_stats(struct stg_phase *ph, struct stg_phase_stats *ret);

/* How many threads are to walk the source. */
unsigned stg_pass_scan_threads(void);
