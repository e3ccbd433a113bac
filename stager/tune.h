/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/tune.h - how many sessions a phase uses, when that is left to the program.
 *
 * It begins with a few.  On a long line a session carries no more than one window of sshd's
 * channel (2 MiB) for each round trip, whatever the line could take: there many are opened at
 * once, and on a very long one as many again when it was the windows that they waited for.  The
 * second lot comes when the first has logged in, for sshd refuses some of more than 10 at a
 * time that have not (MaxStartups).  Else sessions are added while work waits, processors are idle, and the
 * last ones made it faster.
 *
 * It looks at no clock and no file: the caller says what it sees.
 */
#include <stdbool.h>
#include <stdint.h>

#define STG_TUNE_MAX     8u  /* of its own accord: each takes about 10 MB here, and a core there */
#define STG_TUNE_FAR_MAX 16u /* on a long line, where they mostly wait */

/* What is seen at one moment. */
struct stg_tune_now {
	int64_t ns;            /* of a clock that only goes on */
	uint64_t bytes;        /* sent so far, over all sessions */
	uint64_t cpu_busy, cpu_all; /* ticks of this host's processors; both 0: not known */
	unsigned ready;        /* sessions that are connected */
	bool work;             /* more waits than the sessions have */
	uint64_t waits_window, waits_line; /* so far: what writes waited for */
	int64_t trip_ns;       /* the shortest round trip so far; 0: not known yet */
};

struct stg_tune {
	unsigned allowed;      /* sessions that may be opened */
	unsigned max;
	bool far;              /* the line is long */
	bool settled;          /* allowed stays what it is */
	char reason[128];      /* why it is what it is */
	/* Of the window that is being measured; from_ns 0: none is. */
	int64_t from_ns;
	struct stg_tune_now from;
	double rate;           /* bytes a second of the window before; 0: there was none */
};

/* asked: by the operator, 0: nothing; cores: processors here. */
void stg_tune_init(struct stg_tune *t, unsigned asked, unsigned cores);

/* Look again, some times a second.  t->allowed may have grown. */
void stg_tune_step(struct stg_tune *t, const struct stg_tune_now *now);
