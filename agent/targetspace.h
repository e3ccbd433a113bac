/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/targetspace.h - how much room the target of a staged sync has, asked over SSH.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct agt_context;
struct cfg_target;

struct agt_target_space {
	uint64_t bytes; /* that may be written below the target's root, all its disks together */
	uint64_t files; /* inodes, likewise; 0: there is no limit, or it is not known */
	/*
	 * The root is no disk of its own and something lies in it already: an earlier sync,
	 * maybe, whose part of the data needs no more room.
	 */
	bool begun;
};

/*
 * Log in as agt_login_find() says, but to the host, user and port of t, and ask df.  A root
 * that does not exist yet has the room of the directory that it would be made in.
 * -ERR_SSH: nobody could log in; -ERR_PROTOCOL: what came back makes no sense.
 */
int agt_target_space_ask(const struct agt_context *ctx, const struct cfg_target *t,
			 struct agt_target_space *ret, struct err *e) _must_check_;

/* What came back, from the first byte; -ERR_PROTOCOL: it makes no sense. */
int agt_target_space_parse(const char *text, struct agt_target_space *ret, struct err *e)
	_must_check_;
