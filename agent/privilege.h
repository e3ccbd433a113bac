/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/privilege.h - what the daemon may do, and no more (libcap, for processes of ours).
 *
 * It runs as a user of its own and keeps CAP_DAC_READ_SEARCH, so that it, and the stager that it
 * starts, can read every file there is; whatever else there was is given up for good: no
 * capability can be had again, not by a program that it starts either (no_new_privs).
 */
#include <stddef.h>

#include "common/buf.h"
#include "common/error.h"
#include "common/strlist.h"

struct agt_privilege_opts {
	const char *user; /* to become, when this is root */
	const struct strlist *more; /* capabilities to keep besides: AGT_PRIVILEGE_MORE; NULL: none */
	/* Directories and files that shall be that user's when this is root; ends with NULL. */
	const char *const *give;
};

/* A stager without these leaves out what it then cannot see; either is as good as root. */
#define AGT_PRIVILEGE_MORE "sys_ptrace or sys_admin"

/*
 * As root: become opts.user, who is given what opts.give names, with what root's own runs left in
 * it.  As anybody else: go on as who this is.  Then keep just the capabilities, in all sets.
 * -ERR_USAGE: no such user, a capability that is none to be kept.  -ERR_FORBIDDEN: one that must
 * be kept is not there; the error names it and says how to get it.
 */
int agt_privilege_settle(const struct agt_privilege_opts *opts, struct err *e) _must_check_;

/* Append the names of the effective capabilities, with blanks between them ("cap_..."). */
int agt_privilege_names(struct buf *out) _must_check_;
