/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/command.h - what the commands of stager(1) do.  Each returns the exit code of the
 * program; what went wrong has been logged.
 */
#include "common/error.h"

struct stg_options;

int stg_command_plan(struct stg_options *o, struct err *e);
int stg_command_full(struct stg_options *o, struct err *e);
int stg_command_incremental(struct stg_options *o, struct err *e);
int stg_command_cutover(struct stg_options *o, struct err *e);
int stg_command_run(struct stg_options *o, struct err *e);
int stg_command_forecast(struct stg_options *o, struct err *e);
int stg_command_verify(struct stg_options *o, struct err *e);
int stg_command_explain(struct stg_options *o, struct err *e);
int stg_command_status(struct stg_options *o, struct err *e);
int stg_command_report(struct stg_options *o, struct err *e);
int stg_command_clean(struct stg_options *o, struct err *e);
