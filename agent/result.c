/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/result.h"

#include <stdio.h>
#include <string.h>

#include "agent/errors.h"
#include "agent/json.h"
#include "common/text.h"

/* A text, or null when there is none: readers tell "not made" from "no name". */
static void put(struct cJSON *o, const char *name, const char *text)
{
	agt_json_set_str(o, name, text && *text ? text : NULL);
}

/* NAME, NAME_utc and NAME_local; null for what has not happened. */
static void put_time(struct cJSON *o, const char *name, int64_t at)
{
	char utc[64], local[64], text[32];

	snprintf(utc, sizeof(utc), "%s_utc", name);
	snprintf(local, sizeof(local), "%s_local", name);
	if (at > 0)
		agt_json_set_int(o, name, at);
	else
		agt_json_set_null(o, name);
	agt_json_set_str(o, utc, at > 0 ? text_utc(text, at) : NULL);
	agt_json_set_str(o, local, at > 0 ? text_local(text, at) : NULL);
}

static void put_error(struct agt_migration *m, struct cJSON *o, const struct err *end)
{
	const struct agt_error_row *row = agt_error_find(m->code);
	struct cJSON *error;

	if (!end || !end->code) {
		agt_json_set_null(o, "error");
		return;
	}
	error = agt_json_set_object(o, "error");
	put(error, "code", m->code);
	put(error, "message", end->text);
	put(error, "remedy", row ? row->remedy : NULL);
}

/* How the roads call their end, where readers look for the task's. */
static const char *state_of(const struct agt_run *run)
{
	return !strcmp(run->road, "rsync") ? run->staged_state : run->task_state;
}

static struct cJSON *content(struct agt_migration *m, const struct err *end, int status)
{
	const struct agt_migrate_options *mo = &m->o->migrate;
	const struct agt_run *run = &m->run;
	bool staged = !strcmp(run->road, "rsync");
	bool migrated = run->step >= AGT_STEP_POSTCHECK;
	struct cJSON *o = agt_json_object();
	char used[512];

	put(o, "migproject_id", run->migproject_id);
	put(o, "task_id", run->task_id);
	put(o, "source_sms_server_id", run->source_id);
	put(o, "target_server_id", run->server_id);
	put(o, "task_state", state_of(run));
	put(o, "migration_method", *run->road ? run->road : NULL);
	put(o, "migration_fallback_reason", run->fallback_reason);
	put(o, "sms_incompatible_reason", run->incompatible_reason);
	put(o, "migration_step", agt_step_name(run->step));
	agt_json_set_bool(o, "finished", end != NULL);
	if (end)
		agt_json_set_int(o, "exit_status", status);
	put_error(m, o, end);
	/* Two gates: the data is there, and the server can be used. */
	agt_json_set_bool(o, "migrated", migrated);
	if (m->postcheck)
		agt_json_set_bool(o, "accepted", m->postcheck_passed);
	else
		agt_json_set_null(o, "accepted");
	put_time(o, "started_at", run->started_at);
	put_time(o, "task_started_at", run->task_started_at);
	put_time(o, "task_finished_at", run->task_finished_at);
	put(o, "task_type", staged ? NULL : run->task_type);
	put(o, "source_name", run->source_name);
	put(o, "source_ip", run->source_ip);
	put(o, "source_region", mo->source_region);
	put(o, "target_region", run->region);
	put(o, "target_project_id", run->project_id);
	put(o, "target_server_name", run->server_name);
	put(o, "target_vpc_id", run->vpc_id);
	put(o, "target_vpc_name", run->vpc_name);
	put(o, "target_subnet_id", run->subnet_id);
	put(o, "target_security_group_id", run->group_id);
	put(o, "target_eip", run->eip_address);
	put(o, "target_private_ip", run->private_ip);
	put(o, "target_flavor", run->flavor_id);
	agt_json_set_bool(o, "use_public_ip", !run->private_address);
	agt_used_text(run->used, used, sizeof(used));
	put(o, "remedies_used", used);
	if (run->staged_status >= 0)
		agt_json_set_int(o, "rsync_return_code", run->staged_status);
	/* Which of stager's runs: its report has an id of its own. */
	if (staged)
		put(o, "rsync_run_id", run->staged_run_id);
	return o;
}

/* The name in RESULT_PATH, when that is another JSON file where our files go; else NULL. */
static const char *other_name(const struct agt_migration *m)
{
	static const char variable[] = "RESULT_PATH=";
	const char *path = NULL, *slash, *name;
	size_t n;

	for (char **p = m->ctx->envp; p && *p; p++)
		if (!strncmp(*p, variable, sizeof(variable) - 1))
			path = *p + sizeof(variable) - 1;
	slash = path ? strrchr(path, '/') : NULL;
	name = slash ? slash + 1 : path;
	n = slash ? (size_t)(slash - path) : 0;
	if (!name || strlen(name) < 6 || strcmp(name + strlen(name) - 5, ".json") != 0 || !strcmp(name, AGT_FILE_RESULT) ||
	    (slash && (strncmp(path, m->o->out_dir, n) != 0 || m->o->out_dir[n])) ||
	    (!slash && strcmp(m->o->out_dir, ".") != 0))
		return NULL;
	return name;
}

int agt_result_write(struct agt_migration *m, const struct err *end, int status, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *o = NULL;
	const char *other;
	int r;

	if (m->dry)
		return 0;
	o = content(m, end, status);
	r = agt_migration_write(m, AGT_FILE_RESULT, o, e);
	other = other_name(m);
	return r < 0 || !other ? r : agt_migration_write(m, other, o, e);
}
