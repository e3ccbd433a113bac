/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/command.h - the commands of stager-agent, and what each is given.
 *
 * A command is a row of agt_commands in command.c; one that is not built has no row, and then
 * neither the options that name it alone (options.c) exist.
 */
#include <stdbool.h>

#include "common/error.h"

struct agt_options;
struct agt_stop;

struct agt_context {
	const struct agt_options *options;
	const struct agt_stop *stop; /* borrowed; long work looks at it */
	char **envp;                 /* of the program, for those that start another */
	int argc;                    /* as main got them, for the one that reads them anew */
	char **argv;
};

struct agt_command {
	const char *name;
	const char *summary; /* one line for --help */
	/*
	 * The exit status of the program (0 done, 40 forbidden, ...), for what has been told
	 * already; or a negative code with e filled, which main prints and turns into a status.
	 */
	int (*run)(const struct agt_context *ctx, struct err *e);
	bool takes_args; /* what follows the command (after "--", too) goes into options.args */
	bool reloads;    /* SIGHUP asks it to read its configuration anew; else it ends it */
};

/* Ends with a row without a name. */
extern const struct agt_command agt_commands[];
