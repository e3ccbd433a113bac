/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/registration.h - this host among the sources that SMS knows: the command "register",
 * and what the daemon keeps alive.
 *
 * Two files in the state directory say what SMS has been told: source_id, the id it knows this
 * host by, and source_digest, what this host looked like then.
 */
#include <stdbool.h>

#include "agent/source.h"
#include "common/error.h"
#include "common/sha256.h"

struct agt_cloud;
struct agt_context;
struct agt_options;

/* The command. */
int agt_registration_command(const struct agt_context *ctx, struct err *e);

/*
 * Register this host, agreeing to the privacy statement first where that was not done: again
 * under the id it has, or anew where it has none or SMS has forgotten it.  ret is its id, which
 * is kept in the state directory.  code (of AGT_CODE_MAX, agent/reply.h) is SMS's when it
 * refuses, else "".  Errors as agt_cloud_call().
 */
int agt_registration_send(const struct agt_options *o, struct agt_cloud *cloud,
			  char ret[AGT_SOURCE_ID_SIZE], char *code, struct err *e) _must_check_;

/* SMS was told something else than digest, or nothing yet. */
bool agt_registration_due(const char *state_dir, const char *digest);
