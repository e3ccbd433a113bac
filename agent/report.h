/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/report.h - the command "report": tell SMS how the migration of this host stands.
 */
#include "common/error.h"

struct agt_context;

/*
 * State, progress with its rate, and the result of the last verification, of the runs of stager
 * with this state directory, for the current task of this source.  They go through the spool, so
 * what cannot be sent now is sent later.  -ERR_FORBIDDEN: SMS has no task of this host, or
 * nothing was run yet.
 */
int agt_report_run(const struct agt_context *ctx, struct err *e);
