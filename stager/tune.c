/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/tune.h"

#include <stdio.h>

#include "common/macro.h"

#define START        4u
#define START_SMALL  2u  /* with two processors: encryption alone takes one each */
#define STEP         2u
#define WINDOW_NS    500000000LL
#define FAR_NS       40000000LL
/*
 * From here on more are worth their memory.  Measured with 600 MB over 1 Gbit/s: at 100 ms 8
 * fill the line and 16 are no faster, at 200 ms they are by a tenth.
 */
#define VERY_FAR_NS  150000000LL
#define WINDOW_PCT   75  /* of what writes waited for, for sessions on a long line to double */
#define GAIN_PCT     8   /* what further sessions must bring */
#define IDLE_PCT_MIN 25  /* of the processors, for a session more */

void stg_tune_init(struct stg_tune *t, unsigned asked, unsigned cores)
{
	*t = (struct stg_tune){ .max = asked ?: STG_TUNE_MAX };
	t->settled = asked != 0;
	t->allowed = asked ?: cores <= 2 ? START_SMALL : START;
	if (asked)
		snprintf(t->reason, sizeof(t->reason), "asked for");
	else
		snprintf(t->reason, sizeof(t->reason), "the start on %u processors", cores);
}

/* Percent of the processors' time that was idle since the window began. */
static unsigned idle_pct(const struct stg_tune_now *from, const struct stg_tune_now *now)
{
	uint64_t all = now->cpu_all - from->cpu_all, busy = now->cpu_busy - from->cpu_busy;

	return all && busy <= all ? (unsigned)((all - busy) * 100 / all) : 100;
}

static void settle(struct stg_tune *t, const char *why, unsigned n)
{
	t->settled = true;
	snprintf(t->reason, sizeof(t->reason), why, n);
}

static void begin_window(struct stg_tune *t, const struct stg_tune_now *now)
{
	t->from_ns = now->ns;
	t->from = *now;
}

static void end_window(struct stg_tune *t, const struct stg_tune_now *now)
{
	double rate = (double)(now->bytes - t->from.bytes) * 1e9 / (double)(now->ns - t->from_ns);
	unsigned idle = idle_pct(&t->from, now);

	t->from_ns = 0;
	if (t->rate > 0 && rate < t->rate * (100 + GAIN_PCT) / 100) {
		settle(t, "%u more had brought nothing", STEP);
		return;
	}
	if (idle < IDLE_PCT_MIN) {
		settle(t, "only %u%% of the processors' time was left", idle);
		return;
	}
	t->rate = rate;
	t->allowed = MIN(t->allowed + STEP, t->max);
	snprintf(t->reason, sizeof(t->reason), "throughput grew with them");
	if (t->allowed == t->max)
		settle(t, "throughput grew up to the most that are opened, %u", t->max);
}

/* A window has been measured on a long line. */
static void end_far_window(struct stg_tune *t, const struct stg_tune_now *now)
{
	uint64_t window = now->waits_window - t->from.waits_window;
	uint64_t line = now->waits_line - t->from.waits_line;

	t->settled = true;
	if (now->trip_ns < VERY_FAR_NS || window * 100 <= (window + line) * WINDOW_PCT)
		return;
	t->allowed = STG_TUNE_FAR_MAX;
	settle(t, "a long line: the windows of %u held it up", t->max);
}

static void see_long_line(struct stg_tune *t, const struct stg_tune_now *now)
{
	t->far = true;
	t->allowed = t->max;
	snprintf(t->reason, sizeof(t->reason), "a long line: a round trip takes %u ms",
		 (unsigned)(now->trip_ns / 1000000));
}

void stg_tune_step(struct stg_tune *t, const struct stg_tune_now *now)
{
	if (t->settled)
		return;
	if (now->trip_ns >= FAR_NS && !t->far)
		see_long_line(t, now);
	/* Only what all of them do, with work for more, tells anything. */
	if (!now->work || now->ready < t->allowed)
		t->from_ns = 0;
	else if (!t->from_ns)
		begin_window(t, now);
	else if (now->ns - t->from_ns >= WINDOW_NS)
		t->far ? end_far_window(t, now) : end_window(t, now);
}
