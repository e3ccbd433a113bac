/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/hook.h - commands of the operator that a phase runs on the source.
 */
#include "common/buf.h"
#include "common/error.h"
#include "stager/report.h"

/* What is kept of a command's output: its end. */
#define STG_HOOK_TAIL_MAX (64u << 10)

/*
 * Run "/bin/sh -c command" in a process group of its own, standard input from /dev/null, and
 * wait for it, at most timeout_s (0: for ever); then the group is killed.  ret describes the
 * outcome under the name step; its output_tail points into output.  0, also when the command
 * failed (ret->return_code), or negative when it could not be started.  A process that it
 * leaves in the background does not hold it up.
 */
int stg_hook_run(const char *step, const char *command, unsigned timeout_s, struct buf *output,
		 struct stg_hook_result *ret, struct err *e) _must_check_;
