/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/progress.h - what is going on, for the person at the terminal, for programs, and
 * for "stager status" in another process.
 *
 * The engine counts in atomics, which costs nothing when nobody looks; a printer thread
 * draws them.  It also writes status.json in the state directory, once a second.
 *
 * JSON objects, one a line, have: event (phase_started, progress, error, phase_finished),
 * phase, entries_done, entries_total, bytes_done, bytes_total, bytes_per_s, eta_s (null: not
 * known), scanning (totals still grow); error adds path, path_base64 where the path is not
 * UTF-8, operation, errno, message; phase_finished adds exit_code and duration_sec.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"

#define STG_PROGRESS_STATUS_FILE "status.json"
#define STG_PROGRESS_NAME_MAX 64 /* of a phase or step, with its NUL */

struct stg_printer;

/* Zero it, start it, count in it.  Counters only grow within a phase. */
struct stg_progress {
	_Atomic uint64_t entries_total;
	_Atomic uint64_t entries_done;
	_Atomic uint64_t bytes_total;
	_Atomic uint64_t bytes_done;
	_Atomic uint64_t errors;
	atomic_bool scanning; /* the totals still grow */
	struct stg_printer *printer; /* from start to stop */
};

static inline void stg_progress_add_total(struct stg_progress *p, uint64_t entries,
					  uint64_t bytes)
{
	atomic_fetch_add_explicit(&p->entries_total, entries, memory_order_relaxed);
	atomic_fetch_add_explicit(&p->bytes_total, bytes, memory_order_relaxed);
}

static inline void stg_progress_add_entries(struct stg_progress *p, uint64_t n)
{
	atomic_fetch_add_explicit(&p->entries_done, n, memory_order_relaxed);
}

static inline void stg_progress_add_bytes(struct stg_progress *p, uint64_t n)
{
	atomic_fetch_add_explicit(&p->bytes_done, n, memory_order_relaxed);
}

enum stg_progress_mode {
	STG_PROGRESS_AUTO, /* bar when stderr is a terminal, else plain */
	STG_PROGRESS_BAR,
	STG_PROGRESS_PLAIN, /* a line every 10 s and one at the end of a phase */
	STG_PROGRESS_JSON,
	STG_PROGRESS_NONE,
};

struct stg_progress_opts {
	enum stg_progress_mode mode;
	int fd;      /* where to draw; 0: stdout for json, else stderr */
	int statefd; /* for status.json, borrowed until stop; 0: none is written */
	unsigned width; /* of the bar's line; 0: the terminal's */
	const char *run_id;
	bool manual; /* no thread: the caller calls stg_progress_poll() */

	/* Nanoseconds; NULL: the clocks of common/io.h. */
	int64_t (*mono_ns)(void *arg);
	int64_t (*real_ns)(void *arg);
	void *clock_arg;
};

/* "auto", "bar", "plain", "json", "none".  -ERR_USAGE otherwise. */
int stg_progress_parse_mode(const char *s, enum stg_progress_mode *ret, struct err *e)
	_must_check_;

int stg_progress_start(struct stg_progress *p, const struct stg_progress_opts *o,
		       struct err *e) _must_check_;

/* Take the bar off the terminal, write a last status.  Fine when it was never started. */
void stg_progress_stop(struct stg_progress *p);

/* Counters go to zero, scanning is set; name is copied. */
void stg_progress_begin(struct stg_progress *p, const char *phase);

/*
 * What the totals will be at least, when an earlier phase tells: until the scan is over a
 * share done can only be shown with it.
 */
void stg_progress_expect(struct stg_progress *p, uint64_t entries, uint64_t bytes);

/* What the phase is doing: "scan", "send", "delete", ...  Copied; for status and the bar. */
void stg_progress_step(struct stg_progress *p, const char *step);

/* The phase is over: the final line or object. */
void stg_progress_end(struct stg_progress *p, int exit_code);

/*
 * The bandwidth limit in force (bytes a second, 0: none), and the window "HH:MM-HH:MM" that
 * sets it (NULL: none does): for the status.
 */
void stg_progress_limit(struct stg_progress *p, uint64_t bytes_per_s, const char *window);

/* Counts an error, and tells readers of JSON at once.  code as in struct err, either sign. */
void stg_progress_error(struct stg_progress *p, struct bytes path, const char *operation,
			int code, const char *message);

/* Append the state as a JSON object and a newline: what status.json holds. */
int stg_progress_snapshot(struct stg_progress *p, struct buf *out) _must_check_;

/* Draw and write what is due at this time of the clock. */
void stg_progress_poll(struct stg_progress *p);
