/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/command.h"

#include <stddef.h>

#include "agent/check.h"
#include "agent/daemon.h"
#include "agent/dcs.h"
#include "agent/migrate.h"
#include "agent/registration.h"
#include "agent/report.h"
#include "agent/status.h"

const struct agt_command agt_commands[] = {
	{ "check", "look whether SMS can take this host", agt_check_run, true, false },
	{ "register", "make this host known to SMS, or bring what SMS knows up to date",
	  agt_registration_command, false, false },
	{ "report", "tell SMS how the migration of this host stands", agt_report_run,
	  false, false },
	{ "migrate", "migrate this host: SMS, or the staged sync where SMS cannot take it",
	  agt_command_migrate, true, false },
	{ "dcs-migrate", "configure and follow an online data migration task of a cache",
	  agt_command_dcs, false, false },
	{ "run", "be the agent of this host, until SIGTERM", agt_daemon_run, false, true },
	{ "status", "ask the agent that runs how it is", agt_status_run, false, false },
	{ 0 },
};
