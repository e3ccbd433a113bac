/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/control.h - the control plane as the options describe it: keys, HTTP client and the
 * cloud behind them, opened in one go.
 */
#include <stdint.h>
#include <stdio.h>

#include "agent/cloud.h"
#include "common/error.h"

struct agt_options;
struct agt_stop;
struct agt_control; /* lives from agt_control_open() to agt_control_close() */

/*
 * stop may be NULL; with dry_run not NULL nothing is changed but told there (agt_cloud_opts).
 */
int agt_control_open(const struct agt_options *o, const struct agt_stop *stop, FILE *dry_run,
		     struct agt_control **ret, struct err *e) _must_check_;
void agt_control_close(struct agt_control *c); /* NULL is fine */

static inline void agt_control_closep(struct agt_control **c)
{
	agt_control_close(*c);
}

/*
 * What time the SMS endpoint has, and what our clock said then, as epoch seconds.  One request
 * without keys; any answer will do.  -ERR_PROTOCOL: it came without a date; else as
 * agt_http_send().
 */
int agt_control_clock(const struct agt_options *o, const struct agt_stop *stop,
		      int64_t *ret_theirs, int64_t *ret_ours, struct err *e) _must_check_;

struct agt_cloud *agt_control_cloud(struct agt_control *c); /* borrowed */
