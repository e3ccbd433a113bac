/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/command.h"

#include <stddef.h>

const struct agt_command agt_commands[] = {
	{ NULL, NULL, NULL, false },
};
