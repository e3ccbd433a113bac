/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/daemon.h - the command "run": the service.
 *
 * One thread and one poll() over signals, the socket of "status" and the answers of workers; all
 * that may take long is a worker's (agent/worker.h): looking at this host, and talking to SMS.
 */
#include "common/error.h"

struct agt_context;

/* Until SIGTERM: 0.  -ERR_LOCKED: another one runs; else it could not begin. */
int agt_daemon_run(const struct agt_context *ctx, struct err *e);
