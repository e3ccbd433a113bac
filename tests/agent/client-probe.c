/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client-probe [OPTIONS of stager-agent] call SERVICE METHOD PATH [BODY] - make one call as the
 * agent's commands do, for the tests of the client, and print "STATUS BODY" of the answer.
 */
#include <stdio.h>
#include <string.h>

#include "agent/cloud.h"
#include "agent/command.h"
#include "agent/control.h"
#include "agent/json.h"
#include "agent/options.h"
#include "agent/stop.h"
#include "common/log.h"

static int make_call(struct agt_cloud *cloud, const struct strlist *args, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *body = NULL;
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct agt_call call = { .method = args->v[1], .path = args->v[2] };
	int r;

	while (call.service + 1 < AGT_SERVICES &&
	       strcmp(agt_service_name(call.service), args->v[0]) != 0)
		call.service++;
	if (args->n > 3) {
		r = agt_json_parse(bytes_str(args->v[3]), &body, e);
		if (r < 0)
			return r;
	}
	call.body = body;
	r = agt_cloud_call(cloud, &call, &reply, e);
	if (r < 0)
		return r;
	r = reply.body ? agt_json_print(reply.body, false, &text, e) : 0;
	if (r < 0)
		return r;
	printf("%d %s\n", reply.status, buf_cstr(&text));
	return 0;
}

static int call(const struct agt_context *ctx, struct err *e)
{
	_cleanup_(agt_control_closep) struct agt_control *control = NULL;
	int r;

	if (ctx->options->args.n < 3)
		return err_set(e, -ERR_USAGE, "call needs SERVICE METHOD PATH [BODY]");
	r = agt_control_open(ctx->options, ctx->stop, NULL, &control, e);
	if (r < 0)
		return r;
	return make_call(agt_control_cloud(control), &ctx->options->args, e);
}

int main(int argc, char **argv, char **envp)
{
	static const struct agt_command commands[] = {
		{ "call", "make one call", call, true, false },
		{ 0 },
	};
	_cleanup_(agt_options_fini) struct agt_options o = { 0 };
	struct agt_stop stop;
	struct err e = { 0 };
	int r = agt_options_parse(argc, argv, envp, commands, &o, &e);

	if (r == 0)
		r = log_open(o.log_level, o.log_file, &e);
	if (r == 0)
		r = agt_stop_open(false, &stop, &e);
	if (r == 0) {
		struct agt_context ctx = { .options = &o, .stop = &stop, .envp = envp };

		r = o.command->run(&ctx, &e);
		agt_stop_close(&stop);
	}
	if (r < 0)
		fprintf(stderr, "client-probe: %s\n", e.text);
	return err_exit_status(r);
}
