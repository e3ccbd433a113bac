/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/status.h - the command "status": what the agent that runs says of itself.
 */
#include "common/error.h"

struct agt_context;

/* As lines for people, or its JSON.  Errors as agt_listener_ask(). */
int agt_status_run(const struct agt_context *ctx, struct err *e);
