/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stager/main.c - the program: arguments, log, the command, the exit code.
 */
#include <stdio.h>

#include "common/io.h"
#include "common/log.h"
#include "stager/command.h"
#include "stager/migration.h"
#include "stager/options.h"

static const struct stg_command commands[] = {
	{ "plan", "say what a sync would send; change nothing", stg_command_plan, false },
	{ "full", "copy everything", stg_command_full, false },
	{ "incremental", "copy what changed since the last phase", stg_command_incremental, false },
	{ "cutover", "stop, copy until nothing changes, finalize, start", stg_command_cutover,
	  false },
	{ "run", "full sync, incremental rounds, cutover", stg_command_run, false },
	{ "verify", "compare source and target", stg_command_verify, false },
	{ "explain", "say which filter rule decides what becomes of a path", stg_command_explain,
	  true },
	{ "forecast", "say how long the cutover will take, and whether passes get shorter",
	  stg_command_forecast, false },
	{ "status", "show phase and progress", stg_command_status, false },
	{ "report", "show what was done", stg_command_report, false },
	{ "clean", "remove what the sync left on the target", stg_command_clean, false },
	{ 0 },
};

int main(int argc, char **argv, char **envp)
{
	_cleanup_(stg_options_fini) struct stg_options o = { 0 };
	struct err e = { 0 };
	int r = stg_options_parse(argc, argv, envp, commands, &o, &e);

	if (r == 0 && o.action != CFG_RUN) {
		r = io_write_all(STDOUT_FILENO, o.text.p + o.text.off, buf_len(&o.text));
		return r < 0 ? err_exit_status(r) : 0;
	}
	if (r == 0)
		r = log_open(o.log_level, o.log_file, &e);
	if (r < 0) {
		fprintf(stderr, "stager: %s\n", e.text);
		return err_exit_status(r);
	}
	r = o.command->run(&o, &e);
	log_close();
	return r;
}
