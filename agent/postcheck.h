/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/postcheck.h - can the target be used?  That a task succeeded says only that it was
 * copied.
 */
#include "agent/migration.h"

/*
 * Look at the server, its address and rules, connect, log in; write AGT_FILE_POSTCHECK, and
 * when the login fails fetch the console output and say what it tells.  0: passed;
 * -ERR_POSTCHECK: not, with the first reason.
 */
int agt_postcheck_run(struct agt_migration *m, struct err *e) _must_check_;
