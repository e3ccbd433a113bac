/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/rounds.h - the daemon's two kinds of work that take long, each done in a worker: looking
 * at this host, and a round to SMS.  Here is what the worker does, and what its answer means.
 */
#include <stdbool.h>
#include <stdint.h>

#include "agent/courier.h"
#include "common/error.h"

struct agt_options;
struct agt_stop;
struct cJSON;

struct agt_check_job {
	const struct agt_options *o;
	const char *run_id; /* of the daemon: its result files are of one run */
};

struct agt_check_result {
	char verdict[512];
	bool sms_usable;
	unsigned errors, warnings;
	bool due; /* SMS knows this host otherwise, or not at all */
};

/* Run the checks, write their result file, compare this host with what SMS was told. */
int agt_check_job(void *job, struct cJSON *answer, struct err *e);
void agt_check_result(const struct cJSON *answer, struct agt_check_result *ret);

struct agt_round_job {
	const struct agt_options *o;
	const struct agt_stop *stop;
	bool register_due;
};

/* One round of the courier, each call tried once: trying again is up to the daemon. */
int agt_round_job(void *job, struct cJSON *answer, struct err *e);
void agt_round_result(const struct cJSON *answer, struct agt_round *ret);

#define AGT_CHECK_JOB_MS 60000
#define AGT_ROUND_SEND_MS 30000 /* after this a round begins no further request */

/* How long a round may take at most, by the timeouts that are configured. */
unsigned agt_round_job_ms(const struct agt_options *o);
