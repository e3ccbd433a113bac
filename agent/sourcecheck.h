/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/sourcecheck.h - can SMS take the source?  Its own record of the source says so; what
 * that does not say, and all where there is no record, the checks of this host say.
 */
#include <stdbool.h>

#include "agent/migration.h"

/*
 * Decide and write AGT_FILE_CHECKS.  have_record: m->source is SMS's.  When SMS cannot take
 * it, the reasons are in m->run.
 */
int agt_sourcecheck(struct agt_migration *m, bool have_record, bool *ret_usable,
		    struct err *e) _must_check_;

/*
 * Is the source this host?  Where SMS has a record that looks like another's, it is said in
 * the log.  -ERR_FORBIDDEN: there is none, and another host's name or address was given.
 */
int agt_sourcecheck_whose(const struct agt_migration *m, bool have_record, struct err *e)
	_must_check_;

/* SMS has no record: register this host; its id is in m->run then. */
int agt_sourcecheck_missing(struct agt_migration *m, struct err *e) _must_check_;

/* Is it a name or an address of this host? */
bool agt_is_this_host(const char *given);
