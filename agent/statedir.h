/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/statedir.h - the agent's state directory and the locks in it.
 */
#include "common/error.h"

/* Make it (mode 0700) and its parents (0755) unless they are there. */
int agt_statedir_make(const char *path, struct err *e) _must_check_;

/*
 * Take the lock dir/name, a file that is made when it is missing, without waiting.  The lock
 * lasts as long as the descriptor, the caller's, that is returned: also in a process that has
 * inherited it.  -ERR_LOCKED: another one has it; the error says whose business "holder" is:
 * "another HOLDER with the state directory DIR: ...".
 */
int agt_statedir_lock(const char *dir, const char *name, const char *holder, struct err *e)
	_must_check_;
