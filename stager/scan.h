/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/scan.h - several threads walk the source, compare each directory with its rows in
 * the catalog, and queue what differs.
 */
#include <stdbool.h>

#include "common/bytes.h"
#include "common/error.h"

struct stg_run;
struct stg_scan;
struct stg_stat;

/* What a walk finds, in no order that means anything; called by several threads at once. */
struct stg_scan_visitor {
	/* NULL: not wanted.  path is relative to the root; a directory comes before its content. */
	int (*visit)(void *arg, struct bytes path, const struct stg_stat *st, struct err *e);
	/* An entry that a filter rule hides. */
	int (*hidden)(void *arg, struct bytes path, bool is_dir, struct err *e);
	/* With run->dry: an entry that would be deleted, by the catalog; a directory comes last. */
	int (*removal)(void *arg, struct bytes path, bool is_dir, struct err *e);
	void *arg;
};

/*
 * Start walking run->source_fd with this many threads.  What cannot be read is reported and
 * counted (run->count.scan_errors); an error that ends the phase goes to stg_run_fail().
 * With run->dry nothing is queued or marked.  run->scanning is false, and run->changed told,
 * when the walk has ended.
 */
int stg_scan_start(struct stg_run *run, unsigned threads, const struct stg_scan_visitor *visitor,
		   struct stg_scan **ret, struct err *e) _must_check_;

/* Wait for the end of the walk, free it. */
void stg_scan_join(struct stg_scan *s);
