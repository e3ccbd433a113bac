/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/notify.h"

#include <stdio.h>

#include "agent/child.h"
#include "agent/json.h"
#include "agent/network.h"
#include "common/log.h"
#include "common/macro.h"

#define COMMAND_TIMEOUT_MS 60000
#define SUBJECT_MAX 256 /* SMN takes 512 bytes */
#define OUTPUT_MAX 2048

static const char *const event_words[] = {
	[AGT_EVENT_SUCCESS] = "success",
	[AGT_EVENT_FAILURE] = "failure",
	[AGT_EVENT_WAITING] = "waiting",
};

/* A topic's name has its region: "urn:smn:REGION:PROJECT:TOPIC".  NULL: it has none. */
static const char *region_of(const char *urn, char out[64])
{
	return sscanf(urn, "urn:smn:%63[a-z0-9-]:", out) == 1 ? out : NULL;
}

static int publish(struct agt_migration *m, enum agt_event event, const char *text,
		   struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	_cleanup_(agt_json_freep) struct cJSON *body = agt_json_object();
	char subject[SUBJECT_MAX], message[2048], region[64];

	snprintf(subject, sizeof(subject), "Migration of %.100s: %s",
		 *m->run.source_name ? m->run.source_name : "this host", event_words[event]);
	snprintf(message, sizeof(message), "%s\n\nrun: %s\nsource: %s\ntarget: %s\ntask: %s %s\n",
		 text, m->run.run_id, m->run.source_id, m->run.server_id, m->run.task_id,
		 m->run.task_state);
	agt_json_set_str(body, "subject", subject);
	agt_json_set_str(body, "message", message);
	return agt_migration_call(
		m,
		&(struct agt_call){ .service = AGT_SMN,
				    .method = "POST",
				    .path = "/v2/{project_id}/notifications/topics/{}/publish",
				    .args = { m->o->migrate.topic_urn },
				    .region = region_of(m->o->migrate.topic_urn, region),
				    .body = body },
		&reply, e);
}

static int run_command(struct agt_migration *m, enum agt_event event, const char *text,
		       struct err *e)
{
	_cleanup_(buf_fini) struct buf output = BUF_INIT;
	char env[4][2304], *more[5];
	char *const argv[] = { (char *)"/bin/sh", (char *)"-c",
			       (char *)m->o->migrate.notify_command, NULL };
	int status = 0, r;

	snprintf(env[0], sizeof(env[0]), "STAGER_EVENT=%s", event_words[event]);
	snprintf(env[1], sizeof(env[1]), "STAGER_MESSAGE=%s", text);
	snprintf(env[2], sizeof(env[2]), "STAGER_RUN_ID=%s", m->run.run_id);
	snprintf(env[3], sizeof(env[3]), "STAGER_RESULT=%.2000s/" AGT_FILE_RESULT, m->o->out_dir);
	for (size_t i = 0; i < ARRAY_SIZE(env); i++)
		more[i] = env[i];
	more[ARRAY_SIZE(env)] = NULL;
	/* It runs although the program is asked to stop: that is a thing to be told of. */
	r = agt_child_run(&(struct agt_child_opts){ .argv = argv,
						    .envp = m->ctx->envp,
						    .more_env = more,
						    .timeout_ms = COMMAND_TIMEOUT_MS,
						    .output = &output,
						    .output_max = OUTPUT_MAX },
			  &status, e);
	if (r == 0 && status != 0)
		r = err_set(e, -ERR_HOOK, "the notification command ended with %d: %s", status,
			    buf_len(&output) ? buf_cstr(&output) : "");
	return r;
}

void agt_notify(struct agt_migration *m, enum agt_event event, const char *text)
{
	struct err e = { 0 };

	if (m->o->migrate.topic_urn && publish(m, event, text, &e) < 0)
		log_error("notify the topic: %s", e.text);
	if (!m->o->migrate.notify_command)
		return;
	agt_migration_tell(m, "# then: %s", m->o->migrate.notify_command);
	if (!m->dry && run_command(m, event, text, &e) < 0)
		log_error("notify: %s", e.text);
}
