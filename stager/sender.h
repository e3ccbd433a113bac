/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/sender.h - the sessions of a phase, a thread each.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct stg_run;
struct stg_senders;
struct stg_session_stats;
struct stg_tuning;

/*
 * Start run->sessions threads.  The first connects at once, the others when there is work
 * for them.  They end when the queue is stopped, or after stg_senders_join().
 */
int stg_senders_start(struct stg_run *run, struct stg_senders **ret, struct err *e)
	_must_check_;

/* Let the sessions look at what the run wants of them (run->sync) at once. */
void stg_senders_wake(struct stg_senders *s);

/* Look whether more sessions are of use; some times a second, by the thread that waits. */
void stg_senders_tune(struct stg_senders *s);
/* What was chosen, and why; the texts live as long as s.  s may be NULL: nothing was. */
void stg_senders_tuning(const struct stg_senders *s, struct stg_tuning *ret);

/* True when every session that is connected has answered this epoch, and one is. */
bool stg_senders_durable(struct stg_senders *s, uint32_t epoch);

/* No more work will come: let the sessions say good-bye, and wait for the threads. */
void stg_senders_join(struct stg_senders *s);

void stg_senders_free(struct stg_senders *s); /* after join; NULL is fine */

/* Counters of session i, after join; false: no such session (s NULL: none), or it never connected. */
bool stg_senders_stats(struct stg_senders *s, size_t i, struct stg_session_stats *ret);
