/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/bwlimit.h - one limit on the rate of all sessions together (a token bucket).
 *
 * The bucket holds STG_BWLIMIT_BURST_MS worth of bytes at most, so that a burst after a pause
 * is short: of a limit over two seconds it is 1.25 %.  What SSH adds is known only when it is
 * sent, so it is paid afterwards, and the bucket may be in debt.
 *
 * The limit may depend on the time of day.  Whoever asks for bytes asks the clock by the way,
 * at most every STG_BWLIMIT_LOOK_MS, so it changes while a phase runs.  Any thread may call;
 * NULL is no limit.
 */
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "stager/bwwindow.h"

#define STG_BWLIMIT_BURST_MS 25
#define STG_BWLIMIT_LOOK_MS 200
/* The longest pause that is advised: a limit that was raised meanwhile is noticed. */
#define STG_BWLIMIT_PAUSE_MS 200

struct stg_bwlimit;

struct stg_bwlimit_opts {
	uint64_t bytes_per_s; /* outside of the windows; 0: no limit */
	const struct stg_bwwindow *windows; /* borrowed until free */
	size_t windows_n;

	/* Nanoseconds; NULL: the clocks of common/io.h. */
	int64_t (*mono_ns)(void *arg);
	int64_t (*real_ns)(void *arg);
	void *clock_arg;
};

/* *ret is NULL when o limits nothing at any hour. */
int stg_bwlimit_new(const struct stg_bwlimit_opts *o, struct stg_bwlimit **ret, struct err *e)
	_must_check_;
void stg_bwlimit_free(struct stg_bwlimit *b);

/* Take up to want bytes: the count that may be written now, 0: none yet. */
size_t stg_bwlimit_take(struct stg_bwlimit *b, size_t want);
/* Of what was taken so much was spent, which may be more or less. */
void stg_bwlimit_settle(struct stg_bwlimit *b, size_t taken, uint64_t spent);
/* Milliseconds until a write of some of want bytes is worth trying; 0: now. */
int stg_bwlimit_pause_ms(struct stg_bwlimit *b, size_t want);

/* What is in force. */
struct stg_bwlimit_state {
	uint64_t bytes_per_s;              /* 0: no limit */
	const struct stg_bwwindow *window; /* that says so; NULL: none */
};

void stg_bwlimit_get(struct stg_bwlimit *b, struct stg_bwlimit_state *ret);
