/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/courier.h - a round to the control plane: register this host where that is due, send
 * what is in the spool, in order, and ask for a command.
 */
#include <stdbool.h>
#include <stdint.h>

#include "agent/registration.h"
#include "agent/reply.h"
#include "common/error.h"

struct agt_cloud;
struct agt_options;
struct agt_spool;

#define AGT_COMMAND_SIZE 64
#define AGT_TASK_ID_SIZE 128

struct agt_courier {
	const struct agt_options *o;
	struct agt_cloud *cloud;
	struct agt_spool *spool;
	bool register_due; /* also when this host has an id */
	bool ask;          /* for a command, when all is sent */
	int64_t until_ns;  /* begin no other request after this time of clock_mono_ns(); 0: ever */
};

struct agt_round {
	unsigned sent, rejected;
	bool more;             /* time was over before the spool was empty */
	int64_t retry_after_s; /* the service wants to be left alone for so long; -1: it did not say */
	char code[AGT_CODE_MAX]; /* of the service, when the round failed; "": none */
	char source_id[AGT_SOURCE_ID_SIZE];
	char command[AGT_COMMAND_SIZE]; /* "": none */
	char task_id[AGT_TASK_ID_SIZE]; /* of the command, or of the current task; "": none */
};

/*
 * One round.  A report that the service refuses for good goes to the rejected ones, and the
 * reason into the log; anything else that goes wrong ends the round, so that the order stays,
 * and is returned.  ret is filled as far as it came.  -ERR_LOCKED: another process is sending.
 */
int agt_courier_round(const struct agt_courier *c, struct agt_round *ret, struct err *e)
	_must_check_;
