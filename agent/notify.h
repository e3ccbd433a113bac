/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/notify.h - telling people how a migration went: a topic of SMN, and a command of the
 * operator on this host.
 */
#include "agent/migration.h"

enum agt_event {
	AGT_EVENT_SUCCESS,
	AGT_EVENT_FAILURE,
	AGT_EVENT_WAITING, /* a checkpoint wants to be confirmed */
};

/*
 * Tell of event, with text in a few words.  Where nothing is configured nothing happens; what
 * goes wrong is logged, for it changes nothing about the migration.
 */
void agt_notify(struct agt_migration *m, enum agt_event event, const char *text);
