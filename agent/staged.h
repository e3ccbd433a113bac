/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/staged.h - the other road: stager run, as a program, with what the agent knows.
 */
#include <sys/types.h>

#include "agent/migration.h"

/*
 * 1: no target is configured, none is there, but an image to make one from; else 0.  What SMS
 * has begun with is there, though nothing can be sent to it.
 */
int agt_staged_wants_server(const struct agt_migration *m, struct err *e) _must_check_;

/*
 * Run it to the configured target, else to the address of --existing-target or of the server
 * that the run has made.  0: the staged sync has succeeded, its state is in m->run.  Positive: the exit status of stager, which has told what was wrong.  -ERR_FORBIDDEN: no
 * target is configured.
 */
int agt_staged_run(struct agt_migration *m, struct err *e) _must_check_;

/* Start "stager COMMAND" ("full") for the daemon, with its options, and leave it to the caller. */
int agt_staged_start(const struct agt_options *o, char *const *envp, const struct agt_stop *stop,
		     const char *command, pid_t *ret, struct err *e) _must_check_;

/* Does it have a target?  -ERR_FORBIDDEN: no. */
int agt_staged_target(const struct agt_options *o, struct err *e) _must_check_;
