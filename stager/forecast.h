/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/forecast.h - how long the cutover will take, from what the passes so far came to.
 *
 * Work is content sent, plus STG_ENTRY_COST_BYTES for each entry changed or deleted, plus a share
 * of what deltas found on the target: read and hashed at some 250 MB a second, which is the less
 * work the slower the link is.  What a
 * pass finds grows with the time since the one before (from sync point to sync point):
 *
 *	work(gap) = constant + rate * gap
 *
 * The constant is what is sent as a whole whenever it is touched, as databases are; it can be
 * told from the rate only when the gaps differ enough.  Both come from medians of pairs, so
 * that a single pass out of line moves neither.  Then
 *
 *	pass(gap)    = base + work(gap) / throughput
 *	cutover(gap) = pass(gap) + scan
 *
 * since a cutover goes on until a pass finds nothing.  Base is what a pass takes that finds
 * nothing, scan the part of it that walks the source; base and throughput come from what passes
 * with more and with less work took.  A pass that follows another at once has
 * its duration as gap.  So passes get shorter, towards (base + constant / throughput) /
 * (1 - rate / throughput), as long as the rate is below the throughput; else they do not.
 *
 * Hooks, verification and whatever else a cutover may have are not in it.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"
#include "stager/history.h"
#include "stager/hot.h"

#define STG_FORECAST_GAPS 5 /* the newest gaps that count */

/* With what the passes differed by as low and high. */
struct stg_range {
	double expected, low, high;
};

/* A path that changes, by the passes that count. */
struct stg_forecast_path {
	const struct stg_change *path; /* its names; borrowed from the history */
	double bytes_per_s, entries_per_s;
	double share; /* of all work of these passes, 0 to 1 */
};

struct stg_forecast_paths {
	struct stg_forecast_path v[STG_HOT_TOP]; /* most work first */
	size_t n;
};

struct stg_forecast {
	bool converges;
	bool growing;   /* each gap had a higher rate than the one before: the last one counts */
	bool odd;       /* the newest pass found far more than the model says */
	bool broken;    /* a gap was left out, because a pass in it was broken off */
	bool guessed;   /* no pass tells the throughput */
	size_t passes;  /* finished ones */
	size_t gaps;    /* that count */
	double since_s; /* from the last sync point to now */
	struct stg_range base; /* seconds of a pass besides sending */
	double scan_s;         /* walking the source, of that */
	double matched_cost; /* of a matched byte, against one that is sent */
	double constant; /* work, see above */
	struct stg_range rate;        /* work a second */
	struct stg_range throughput;  /* the same */
	struct stg_range ratio;       /* of the two */
	double bytes_per_s, entries_per_s; /* that change, medians */
	struct stg_range now;         /* seconds of a cutover that begins now */
	struct stg_range after;       /* of one right after one more incremental sync */
	double floor_s;               /* shortest pass; negative: there is none */
	struct stg_forecast_paths dirs, files;
};

/* Seconds between the sync points of row i and of the pass before it; 0: not to be used. */
double stg_forecast_gap(const struct stg_history *h, size_t i);

/*
 * Reckon with h, which must stay as long as *ret does.  -ERR_FORBIDDEN: there are no two
 * finished passes with nothing between them.
 */
int stg_forecast_make(const struct stg_history *h, int64_t now_ms, struct stg_forecast *ret,
		      struct err *e) _must_check_;

/* Append it for people, and as a JSON object with a newline.  (forecast_text.c) */
int stg_forecast_text(const struct stg_forecast *f, const struct stg_history *h, struct buf *out)
	_must_check_;
int stg_forecast_json(const struct stg_forecast *f, const struct stg_history *h, struct buf *out)
	_must_check_;
