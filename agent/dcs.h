/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/dcs.h - the command dcs-migrate (agent/command.h): an online data migration task of
 * the cache service, configured and followed.
 */
#include "common/error.h"

struct agt_context;

int agt_command_dcs(const struct agt_context *ctx, struct err *e);
