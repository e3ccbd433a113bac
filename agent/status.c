/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/command.h"
#include "agent/json.h"
#include "agent/listener.h"
#include "agent/options.h"
#include "common/io.h"
#include "common/text.h"

/* "label      value", nothing when there is no value. */
static void line(const struct cJSON *v, const char *label, const char *path)
{
	char text[512], shown[TEXT_NAME_MAX];

	agt_json_text(v, path, text, sizeof(text));
	if (*text)
		printf("%-10s %s\n", label, text_name(shown, bytes_str(text)));
}

static void print_run(const struct cJSON *v)
{
	const struct cJSON *run = agt_json_at(v, "run");
	char phase[TEXT_NAME_MAX], step[TEXT_NAME_MAX], done[32], total[32], rate[32];

	if (!run)
		return;
	text_name(phase, bytes_str(agt_json_str(run, "phase", "")));
	text_name(step, bytes_str(agt_json_str(run, "step", "")));
	printf("%-10s %s%s%s, %lld%%, %s of %s", "run", phase,
	       agt_json_bool(run, "running", false) ? ": " : ", not at work",
	       agt_json_bool(run, "running", false) ? step : "",
	       (long long)agt_json_int(run, "percent", 0),
	       text_size(done, (uint64_t)agt_json_int(run, "bytes_done", 0)),
	       text_size(total, (uint64_t)agt_json_int(run, "bytes_total", 0)));
	if (agt_json_bool(run, "running", false))
		printf(", %s/s", text_size(rate, (uint64_t)agt_json_int(run, "bytes_per_s", 0)));
	printf("\n");
}

static void print(const struct cJSON *v)
{
	line(v, "version", "version");
	line(v, "process", "pid");
	line(v, "user", "user");
	line(v, "may", "capabilities");
	line(v, "since", "started");
	line(v, "reloaded", "reloaded");
	line(v, "config", "config_problem");
	line(v, "source", "sms.source_id");
	printf("%-10s %s\n", "SMS",
	       agt_json_bool(v, "sms.reachable", false) ? "reachable" : "not reached");
	line(v, "", "sms.problem");
	line(v, "contact", "sms.last_contact");
	printf("%-10s %lld waiting, %lld sent, %lld set aside\n", "reports",
	       (long long)agt_json_int(v, "spool.reports", 0),
	       (long long)agt_json_int(v, "sms.reports_sent", 0),
	       (long long)agt_json_int(v, "spool.rejected", 0));
	line(v, "checked", "checks.at");
	line(v, "", "checks.verdict");
	line(v, "task", "task_id");
	line(v, "wanted", "wanted");
	print_run(v);
}

int agt_status_run(const struct agt_context *ctx, struct err *e)
{
	const char *path = ctx->options->daemon.socket, *error;
	_cleanup_(agt_json_freep) struct cJSON *v = NULL;
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	int r = agt_listener_ask(path, "status", &text, e);

	if (r == 0)
		r = agt_json_parse(buf_view(&text), &v, e);
	if (r < 0)
		return r;
	if (!agt_json_is_object(v))
		return err_set(e, -ERR_LOST, "the agent at %s ended without an answer", path);
	error = agt_json_str(v, "error", NULL);
	if (error)
		return err_set(e, -EACCES, "%s: %s", path, error);
	if (ctx->options->check.json)
		return io_write_all(STDOUT_FILENO, text.p + text.off, buf_len(&text));
	print(v);
	return 0;
}
