/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/result.h - migration_result.json: what a run has come to, at any moment.
 */
#include "agent/migration.h"

/*
 * Write it as things stand.  end: what ended the run, NULL while it goes on; status is the
 * exit status of the program then.
 */
int agt_result_write(struct agt_migration *m, const struct err *end, int status,
		     struct err *e) _must_check_;
