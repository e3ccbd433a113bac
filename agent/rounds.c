/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rounds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/artifact.h"
#include "agent/check.h"
#include "agent/control.h"
#include "agent/json.h"
#include "agent/options.h"
#include "agent/source.h"
#include "agent/spool.h"
#include "checks/checks.h"
#include "common/io.h"

/* ---- looking at this host ---- */

static void report_free_p(struct chk_report **r)
{
	chk_report_free(*r);
}

static void names_free_p(const char ***v)
{
	free(*v);
}

static int run_checks(const struct agt_options *o, struct chk_report **ret, struct err *e)
{
	const struct strlist *l = &o->daemon.checks;
	_cleanup_(names_free_p) const char **only = calloc(l->n + 1, sizeof(*only));

	if (!only)
		return err_sysn(e, -ENOMEM, "run the checks");
	for (size_t i = 0; i < l->n; i++)
		only[i] = l->v[i];
	return agt_source_run_checks(o, l->n ? only : NULL, ret, e);
}

static int save_checks(const struct agt_check_job *job, const struct chk_report *report,
		       struct err *e)
{
	_cleanup_(agt_artifacts_closep) struct agt_artifacts *a = NULL;
	_cleanup_(agt_json_freep) struct cJSON *json = agt_check_json(report);
	int r = agt_artifacts_open(job->o->out_dir, job->run_id, &a, e);

	return r == 0 ? agt_artifact_write(a, AGT_CHECKS_NAME, json, e) : r;
}

static int is_due(const struct agt_options *o, bool *ret, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *body = NULL;
	char digest[SHA256_HEX_SIZE];
	int r = agt_source_body(o, NULL, &body, e);

	if (r == 0)
		r = agt_source_digest(body, digest, e);
	if (r == 0)
		*ret = agt_registration_due(o->state_dir, digest);
	return r;
}

int agt_check_job(void *arg, struct cJSON *answer, struct err *e)
{
	const struct agt_check_job *job = arg;
	_cleanup_(report_free_p) struct chk_report *report = NULL;
	unsigned counts[3] = { 0 };
	bool due = false;
	int r = run_checks(job->o, &report, e);

	if (r == 0)
		r = save_checks(job, report, e);
	if (r == 0)
		r = is_due(job->o, &due, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < report->n; i++)
		counts[report->v[i].result]++;
	agt_json_set_str(answer, "verdict", report->verdict);
	agt_json_set_bool(answer, "sms_usable", report->sms_usable);
	agt_json_set_int(answer, "errors", counts[CHK_ERROR]);
	agt_json_set_int(answer, "warnings", counts[CHK_WARN]);
	agt_json_set_bool(answer, "due", due);
	return 0;
}

void agt_check_result(const struct cJSON *v, struct agt_check_result *ret)
{
	*ret = (struct agt_check_result){
		.sms_usable = agt_json_bool(v, "sms_usable", false),
		.errors = (unsigned)agt_json_int(v, "errors", 0),
		.warnings = (unsigned)agt_json_int(v, "warnings", 0),
		.due = agt_json_bool(v, "due", false),
	};
	agt_json_text(v, "verdict", ret->verdict, sizeof(ret->verdict));
}

/* ---- talking to SMS ---- */

unsigned agt_round_job_ms(const struct agt_options *o)
{
	return AGT_ROUND_SEND_MS + 2 * o->control.timeout_ms + 5000;
}

static void answer_round(const struct agt_round *round, struct cJSON *answer)
{
	agt_json_set_int(answer, "sent", round->sent);
	agt_json_set_int(answer, "rejected", round->rejected);
	agt_json_set_bool(answer, "more", round->more);
	agt_json_set_int(answer, "retry_after_s", round->retry_after_s);
	agt_json_set_str(answer, "cloud_code", round->code);
	agt_json_set_str(answer, "source_id", round->source_id);
	agt_json_set_str(answer, "command", round->command);
	agt_json_set_str(answer, "task_id", round->task_id);
}

int agt_round_job(void *arg, struct cJSON *answer, struct err *e)
{
	const struct agt_round_job *job = arg;
	struct agt_options once = *job->o;
	_cleanup_(agt_control_closep) struct agt_control *control = NULL;
	_cleanup_(agt_spool_closep) struct agt_spool *spool = NULL;
	struct agt_round round = { .retry_after_s = -1 };
	int r;

	once.control.retries = 0;
	r = agt_control_open(&once, job->stop, NULL, &control, e);
	if (r == 0)
		r = agt_spool_open(once.state_dir, NULL, &spool, e);
	if (r < 0)
		return r;
	r = agt_courier_round(&(struct agt_courier){ .o = &once,
						     .cloud = agt_control_cloud(control),
						     .spool = spool,
						     .register_due = job->register_due,
						     .ask = true,
						     .until_ns = clock_mono_ns() +
								 AGT_ROUND_SEND_MS *
									 INT64_C(1000000) },
			      &round, e);
	answer_round(&round, answer);
	return r;
}

void agt_round_result(const struct cJSON *v, struct agt_round *ret)
{
	*ret = (struct agt_round){
		.sent = (unsigned)agt_json_int(v, "sent", 0),
		.rejected = (unsigned)agt_json_int(v, "rejected", 0),
		.more = agt_json_bool(v, "more", false),
		.retry_after_s = agt_json_int(v, "retry_after_s", -1),
	};
	agt_json_text(v, "cloud_code", ret->code, sizeof(ret->code));
	agt_json_text(v, "source_id", ret->source_id, sizeof(ret->source_id));
	agt_json_text(v, "command", ret->command, sizeof(ret->command));
	agt_json_text(v, "task_id", ret->task_id, sizeof(ret->task_id));
}
