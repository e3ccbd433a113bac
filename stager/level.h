/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/level.h - how hard a session packs, when that is left to the program.
 *
 * Where the link is what everything waits for, and the session's thread has time left, more
 * of that time makes less to send; where the link has to wait, less time is better.  Each
 * session decides for itself, since each has its own stream.
 *
 * It looks at no clock: the caller says what it sees.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stg_level {
	unsigned at;          /* which one it is */
	int64_t from_ns;      /* when the window began; 0: none did */
	int64_t from_cpu_ns;
	unsigned blocks;      /* in it... */
	unsigned full, empty; /* ...and those that found the link provided, or dry */
};

/* Of data that does not shrink: what it costs to see whether it does by now. */
#define STG_LEVEL_LEAST 1

/*
 * trip_ns: the shortest round trip, 0: not known.  Where it is long the target
 * is not near, and likely the line is slower than the processor.
 */
struct stg_level stg_level_begin(int64_t trip_ns);

/*
 * The level of zstd for the next block.  ready: whether the link had so much to do at this
 * moment that it could not run dry, or nothing at all; cpu_ns: time that the thread has had on a
 * processor, or has waited for one.
 */
enum stg_level_ready { STG_LEVEL_DRY, STG_LEVEL_SOME, STG_LEVEL_FULL };
int stg_level_step(struct stg_level *l, enum stg_level_ready ready, int64_t now_ns,
		   int64_t cpu_ns);
