/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/sync.h - the daemon's side of a task: the stager that it starts when SMS wants it to,
 * and the reports that tell how a run stands, whoever has started it.
 *
 * What is wanted is kept in daemon.json in the state directory, and so is what SMS has been told
 * (that is: what is in the spool for it).  So a daemon that was killed starts the stager again,
 * which goes on where it was, and says nothing twice.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"

struct agt_options;
struct agt_round;
struct agt_spool;
struct agt_stop;
struct agt_sync; /* lives from agt_sync_open() to agt_sync_close() */
struct cJSON;

/* All but the options, which agt_sync_configure() replaces, must outlive it. */
int agt_sync_open(const struct agt_options *o, char *const *envp, const struct agt_stop *stop,
		  struct agt_spool *spool, struct agt_sync **ret, struct err *e) _must_check_;
void agt_sync_close(struct agt_sync *s); /* NULL is fine; a stager at work is left alone */
void agt_sync_configure(struct agt_sync *s, const struct agt_options *o);

/* SMS has said so: do it, and put the result into the spool.  True: something was put there. */
bool agt_sync_command(struct agt_sync *s, const struct agt_round *round);

/*
 * Look how the run stands, put what is new into the spool, and start what is wanted.  True:
 * something other than progress was put there.
 */
bool agt_sync_tick(struct agt_sync *s);

/* The process pid has ended with status (of waitpid()): was it the stager? */
bool agt_sync_ended(struct agt_sync *s, pid_t pid, int status);

/* The daemon ends: so does its stager, but it stays wanted. */
void agt_sync_stop(struct agt_sync *s);
bool agt_sync_at_work(const struct agt_sync *s); /* a stager that was started here */

/* Set "task_id", "wanted" and "run" in o, for people: the latter null when there is none. */
void agt_sync_tell(struct agt_sync *s, struct cJSON *o);
