/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/provision.h - the target server: found, or made as near to the source as it can be.
 */
#include <stdbool.h>
#include <stddef.h>

#include "agent/migration.h"

/*
 * See to it that there is a target, and note it in m->run: the one of --existing-target, or a
 * new server with network, security group and public address.  A flavor that is sold out is
 * followed by the next one.  At most one server is made in a run, however often it is called.
 *  -ERR_FORBIDDEN  a quota, no flavor left, or the existing target is gone
 *  -ERR_CLOUD      the server could not be made
 */
int agt_provision_target(struct agt_migration *m, struct err *e) _must_check_;

/* Ask for the target's record.  -ERR_FORBIDDEN: there is no such server. */
int agt_provision_server(struct agt_migration *m, struct agt_reply *reply, struct err *e)
	_must_check_;

/* Fill m->server and the addresses in m->run from that record, once. */
int agt_provision_look(struct agt_migration *m, struct err *e) _must_check_;

/* The id of the target's nth disk, the system disk being the first; false: it has fewer. */
bool agt_provision_volume(const struct agt_migration *m, size_t n, char *ret, size_t size);
