/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent/main.c - the program: arguments, log, signals, the command, the exit status.
 */
#include <stdio.h>

#include "agent/command.h"
#include "agent/options.h"
#include "agent/stop.h"
#include "common/io.h"
#include "common/log.h"

static int fail(const struct err *e, int code)
{
	fprintf(stderr, "stager-agent: %s\n", e->text);
	return err_exit_status(code);
}

static int run(struct agt_context *ctx, struct err *e)
{
	struct agt_stop stop;
	int r = agt_stop_open(ctx->options->command->reloads, &stop, e);

	if (r < 0)
		return r;
	ctx->stop = &stop;
	r = ctx->options->command->run(ctx, e);
	agt_stop_close(&stop);
	return r;
}

int main(int argc, char **argv, char **envp)
{
	_cleanup_(agt_options_fini) struct agt_options o = { 0 };
	struct agt_context ctx = { .options = &o, .envp = envp, .argc = argc, .argv = argv };
	struct err e = { 0 };
	int r = agt_options_parse(argc, argv, envp, agt_commands, &o, &e);

	if (r < 0)
		return fail(&e, r);
	if (o.action != CFG_RUN) {
		r = io_write_all(STDOUT_FILENO, o.text.p + o.text.off, buf_len(&o.text));
		return err_exit_status(r);
	}
	r = log_open(o.log_level, o.log_file, &e);
	if (r < 0)
		return fail(&e, r);
	r = run(&ctx, &e);
	log_close();
	return r < 0 ? fail(&e, r) : r;
}
