/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/migrate.h - the command migrate (agent/command.h).
 */
#include "common/error.h"

struct agt_context;

int agt_command_migrate(const struct agt_context *ctx, struct err *e);
