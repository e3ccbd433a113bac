/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/staged.h - the other road: stager run, as a program, with what the agent knows.
 */
#include "agent/migration.h"

/*
 * Run it to the configured target, else to the address of --existing-target.  0: the staged sync has succeeded, its state is in m->run.
 * Positive: the exit status of stager, which has told what was wrong.  -ERR_FORBIDDEN: no
 * target is configured.
 */
int agt_staged_run(struct agt_migration *m, struct err *e) _must_check_;
