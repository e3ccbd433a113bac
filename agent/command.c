/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/command.h"

#include <stddef.h>

#include "agent/check.h"

const struct agt_command agt_commands[] = {
	{ "check", "look whether SMS can take this host", agt_check_run, false, false },
	{ 0 },
};
