/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/task.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/errors.h"
#include "agent/json.h"
#include "agent/provision.h"
#include "agent/sms.h"
#include "common/io.h"
#include "common/log.h"
#include "common/macro.h"
#include "common/text.h"

/*
 * Polls that fail one after the other before the run gives up (it can be gone on with): each
 * has its own retries for half a minute, so this is a lost connection of several minutes.
 */
#define POLL_FAILURES_MAX 10
#define LOOK_AT_SERVER_EVERY 5 /* polls without a usable progress figure */

/* ---- what a failure leads to ---- */

/* A failure: its code and what was said of it. */
struct failure {
	const char *code;
	const char *text;
};

static int stop_by_rule(const struct failure *f, struct err *e)
{
	char text[ERR_TEXT_MAX];

	/* It may be the text of e. */
	snprintf(text, sizeof(text), "%s", f->text);

	if (!strcmp(f->code, "SMS.6603"))
		return err_set(e, -ERR_FORBIDDEN,
			       "the source is not connected to SMS (SMS.6603): install the "
			       "SMS-Agent on the source and start it, then run this again");
	return err_set(e, -ERR_FORBIDDEN, "%s", text);
}

static void set_reason(struct agt_migration *m, const struct failure *f)
{
	const struct agt_error_row *row = agt_error_find(f->code);

	snprintf(m->run.incompatible_reason, sizeof(m->run.incompatible_reason), "%s%s%s",
		 f->code, row ? ": " : "", row ? row->meaning : "");
	snprintf(m->run.fallback_reason, sizeof(m->run.fallback_reason), "%.*s",
		 (int)sizeof(m->run.fallback_reason) - 1, f->text);
}

/* The task that failed must go before the next one is made: a source has one task. */
static int delete_stale(struct agt_migration *m, struct err *e)
{
	struct err why = { 0 };
	int r = 0;

	if (*m->run.stale_task)
		r = agt_sms_delete_task(m, m->run.stale_task, &why);
	if (r == -ERR_CLOUD) {
		/* Making the next one tells whether it is in the way. */
		log_info("the failed task stays: %s", why.text);
		r = 0;
	}
	if (r < 0)
		return err_set(e, r, "%s", why.text);
	m->run.stale_task[0] = '\0';
	return 0;
}

static int carry_out(struct agt_migration *m, agt_used_t remedy, const char *code,
		     struct err *e)
{
	if (remedy & 1u << AGT_DELETE_FAILED)
		return agt_sms_delete_tasks(m, m->run.source_id, AGT_OLD_FAILED, code, e);
	if (remedy & 1u << AGT_DELETE_FINISHED)
		return agt_sms_delete_tasks(m, m->run.source_id, AGT_OLD_HISTORICAL, code, e);
	if (remedy & 1u << AGT_REFRESH_SOURCE)
		return agt_sms_register(m, true, e);
	if (remedy & 1u << AGT_REGISTER_SOURCE)
		return agt_sms_register(m, false, e);
	return 0;
}

/*
 * Do what the last failure has left to do.  It is on disk until it is done, and each part of it
 * can be done again: a run that is killed here goes on here.
 */
static int do_pending(struct agt_migration *m, struct err *e)
{
	int r;

	if (!*m->run.pending && !*m->run.stale_task)
		return 0;
	r = delete_stale(m, e);
	if (r == 0)
		r = carry_out(m, agt_used_parse(m->run.pending), m->run.pending_code, e);
	if (r < 0)
		return r;
	m->run.pending[0] = m->run.pending_code[0] = '\0';
	return agt_migration_save(m, e);
}

/* Note what is to be done before the task is made anew. */
static int put_pending(struct agt_migration *m, enum agt_remedy remedy, const char *code,
		       struct err *e)
{
	struct agt_run *run = &m->run;

	run->used |= 1u << remedy;
	AGT_SET(run->pending, agt_remedy_name(remedy));
	AGT_SET(run->pending_code, code);
	AGT_SET(run->stale_task, run->task_id);
	run->task_id[0] = run->task_name[0] = run->task_state[0] = '\0';
	if (remedy == AGT_AS_FILE)
		AGT_SET(run->task_type, "MIGRATE_FILE");
	else if (remedy == AGT_PRIVATE_ADDRESS)
		run->private_address = true;
	else if (remedy == AGT_WITHOUT_DISKS)
		run->without_disks = true;
	run->step = AGT_STEP_TASK;
	return agt_migration_save(m, e);
}

/*
 * Look the failure up and do what the rule says.  failed is what to return when there is no
 * rule: e has its text.
 */
static int apply_rule(struct agt_migration *m, enum agt_place place, const struct failure *f,
		      int failed, enum agt_outcome *ret, struct err *e)
{
	enum agt_remedy remedy = agt_rule_find(f->code, place, m->run.used);

	switch (remedy) {
	case AGT_NO_RULE:
	case AGT_FREE_PROJECTS:
	case AGT_CURRENT_TASK:
	case AGT_REMEDIES:
		return failed;
	case AGT_STOP:
		return stop_by_rule(f, e);
	case AGT_GO_STAGED:
		/* The failed task stays: the precheck of the next run takes it away. */
		log_info("SMS cannot take this host: %s", f->text);
		set_reason(m, f);
		*ret = AGT_OUT_STAGED;
		return agt_migration_save(m, e);
	case AGT_AS_FILE:
	case AGT_PRIVATE_ADDRESS:
	case AGT_DELETE_FAILED:
	case AGT_DELETE_FINISHED:
	case AGT_WITHOUT_DISKS:
	case AGT_REFRESH_SOURCE:
	case AGT_REGISTER_SOURCE:
		break;
	}
	log_info("%s: trying again, remedy %s", f->text, agt_remedy_name(remedy));
	*ret = AGT_OUT_AGAIN;
	return put_pending(m, remedy, f->code, e);
}

/* ---- making it ---- */

static int64_t size_of(const struct cJSON *v, const char *name)
{
	return MAX(agt_json_int(v, name, 0), (int64_t)0);
}

/* Copy those members that are texts or figures. */
static void copy_members(struct cJSON *to, const struct cJSON *from, const char *const *texts,
			 const char *const *figures)
{
	for (; *texts; texts++)
		agt_json_set_str(to, *texts, agt_json_str(from, *texts, ""));
	for (; *figures; figures++)
		agt_json_set_int(to, *figures, size_of(from, *figures));
}

static void put_parts(struct cJSON *disk, const struct cJSON *of)
{
	static const char *const texts[] = { "name", "file_system", "mount_point", NULL };
	static const char *const figures[] = { "index", "size", "used_size", NULL };
	struct cJSON *parts = agt_json_set_array(disk, "physical_volumes");

	for (const struct cJSON *i = agt_json_first(of, "physical_volumes"); i;
	     i = agt_json_next(i)) {
		struct cJSON *p = agt_json_add_object(parts);

		copy_members(p, i, texts, figures);
		agt_json_set_str(p, "device_use", agt_json_str(i, "device_use", "NORMAL"));
	}
}

/* What lies in the disks: without it SMS would not know what a partition of LVM is for. */
static void put_groups(struct cJSON *target, const struct cJSON *from)
{
	static const char *const texts[] = { "name", "components", NULL };
	static const char *const figures[] = { "size", "free_size", NULL };
	static const char *const lv_texts[] = { "name", "mount_point", "file_system", "device_use",
						NULL };
	static const char *const lv_figures[] = { "size",	 "used_size",  "free_size",
						  "block_count", "block_size", "inode_size",
						  "inode_nums",	 NULL };
	struct cJSON *groups = from ? agt_json_set_array(target, "volume_groups") : NULL;

	for (; from; from = agt_json_next(from)) {
		struct cJSON *group = agt_json_add_object(groups);
		struct cJSON *volumes = agt_json_set_array(group, "logical_volumes");

		copy_members(group, from, texts, figures);
		for (const struct cJSON *i = agt_json_first(from, "logical_volumes"); i;
		     i = agt_json_next(i))
			copy_members(agt_json_add_object(volumes), i, lv_texts, lv_figures);
	}
}

/*
 * The target's disks, each the image of one of the source's; sizes are bytes.  Left out where
 * one of them has no counterpart: SMS pairs them itself then.
 */
static void put_disks(struct agt_migration *m, struct cJSON *target)
{
	const struct cJSON *recommended = agt_json_first(m->source, "init_target_server.disks");
	const struct cJSON *from =
		recommended ? recommended : agt_json_first(m->source, "disks");
	const struct cJSON *groups;
	_cleanup_(agt_json_freep) struct cJSON *disks = agt_json_array();
	char volume[AGT_RUN_ID];
	size_t n = 0;

	for (const struct cJSON *i = from; i; i = agt_json_next(i), n++) {
		struct cJSON *d;

		if (!agt_provision_volume(m, n, volume, sizeof(volume)) ||
		    size_of(i, "size") == 0)
			return;
		d = agt_json_add_object(disks);
		agt_json_set_str(d, "name", agt_json_str(i, "name", ""));
		agt_json_set_str(d, "disk_id", volume);
		agt_json_set_str(d, "device_use", agt_json_str(i, "device_use", "NORMAL"));
		agt_json_set_int(d, "size", size_of(i, "size"));
		agt_json_set_int(d, "used_size", size_of(i, "used_size"));
		put_parts(d, i);
	}
	if (n == 0)
		return;
	agt_json_set(target, "disks", TAKE_PTR(disks));
	groups = agt_json_first(m->source, "init_target_server.volume_groups");
	put_groups(target, groups ? groups : agt_json_first(m->source, "volume_groups"));
}

static struct cJSON *task_body(struct agt_migration *m)
{
	const struct agt_migrate_options *mo = &m->o->migrate;
	const struct agt_run *run = &m->run;
	bool public = !run->private_address && *run->eip_address;
	struct cJSON *body = agt_json_object(), *target;

	agt_json_set_str(body, "name", run->task_name);
	agt_json_set_str(body, "type", run->task_type);
	agt_json_set_str(body, "os_type", "LINUX");
	agt_json_set_str(agt_json_set_object(body, "source_server"), "id", run->source_id);
	target = agt_json_set_object(body, "target_server");
	agt_json_set_str(target, "name", run->server_name);
	agt_json_set_str(target, "vm_id", run->server_id);
	if (!run->without_disks)
		put_disks(m, target);
	agt_json_set_str(body, "region_id", run->region);
	agt_json_set_str(body, "region_name", mo->region_name ? mo->region_name : run->region);
	agt_json_set_str(body, "project_id", run->project_id);
	agt_json_set_str(body, "project_name", run->region);
	agt_json_set_bool(body, "use_public_ip", public);
	if (public || *run->private_ip)
		agt_json_set_str(body, "migration_ip",
				 public ? run->eip_address : run->private_ip);
	agt_json_set_bool(body, "start_target_server", true);
	agt_json_set_bool(body, "exist_server", true);
	agt_json_set_bool(body, "syncing", false);
	return body;
}

static int find_task(struct agt_migration *m, struct err *e)
{
	return agt_sms_task_by_name(m, m->run.task_name, e);
}

static int post_task(struct agt_migration *m, struct agt_reply *reply, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *body = task_body(m);
	char id[AGT_RUN_ID];
	int r = agt_migration_call(m,
				   &(struct agt_call){ .service = AGT_SMS,
						       .method = "POST",
						       .path = "/v3/tasks",
						       .body = body },
				   reply, e);

	if (r < 0)
		return r;
	if (AGT_SET(m->run.task_id, agt_json_text(reply->body, "id", id, sizeof(id))))
		return 0;
	/* The answer had no id, but the task may be there. */
	r = find_task(m, e);
	if (r != 0)
		return r < 0 ? r : 0;
	return err_set(e, -ERR_PROTOCOL, "SMS made a task and did not tell its id");
}

int agt_task_make(struct agt_migration *m, enum agt_outcome *ret, struct err *e)
{
	static const struct agt_making making = { "task", find_task, post_task };
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	const char *random = strrchr(m->run.run_id, '-');
	int r;

	if (!*m->run.task_type)
		AGT_SET(m->run.task_type, "MIGRATE_BLOCK");
	r = do_pending(m, e);
	if (r == 0)
		r = agt_sms_source_detail(m, e);
	if (r == 0)
		r = agt_provision_look(m, e);
	if (r == 0) {
		/* A name for each try, so that one of an earlier try is not taken for it. */
		if (strcmp(m->run.intent, making.what) != 0)
			m->run.task_try++;
		snprintf(m->run.task_name, sizeof(m->run.task_name), "stager_%.8s_%d",
			 random ? random + 1 : m->run.run_id, (int)m->run.task_try);
		r = agt_migration_make(m, &making, &reply, e);
	}
	if (r == 0) {
		log_info("task %s (%s) for the source %s and the target %s", m->run.task_id,
			 m->run.task_type, m->run.source_id, m->run.server_id);
		m->new_task = true;
		*ret = AGT_OUT_DONE;
		return 0;
	}
	if (r != -ERR_CLOUD)
		return r;
	return apply_rule(m, AGT_AT_CREATE, &(struct failure){ m->code, e->text }, r, ret, e);
}

/* ---- starting it ---- */

static int get_task(struct agt_migration *m, struct agt_reply *reply, struct err *e)
{
	return agt_migration_call(m,
				  &(struct agt_call){ .service = AGT_SMS,
						      .method = "GET",
						      .path = "/v3/tasks/{}",
						      .args = { m->run.task_id } },
				  reply, e);
}

/* The id is stale: take the source's live task in its place; *ret stays if it is at work. */
static int take_current(struct agt_migration *m, enum agt_outcome *ret, struct err *e)
{
	char stale[AGT_RUN_ID];
	int r;

	snprintf(stale, sizeof(stale), "%s", m->run.task_id);
	r = agt_sms_current_task(m, stale, e);
	if (r < 0)
		return r;
	if (r == 0) {
		AGT_SET(m->code, "SMS.7703");
		return err_set(e, -ERR_FORBIDDEN,
			       "task %s is gone (SMS.7703), and the source %s has no other live "
			       "one: begin anew with --restart",
			       stale, m->run.source_id);
	}
	log_info("task %s is gone (SMS.7703): going on with %s, the source's live task", stale,
		 m->run.task_id);
	if (agt_task_classify(m->run.task_state) == AGT_TASK_READY)
		*ret = AGT_OUT_START;
	return agt_migration_save(m, e);
}

int agt_task_start(struct agt_migration *m, enum agt_outcome *ret, struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	_cleanup_(agt_json_freep) struct cJSON *body = agt_json_object();
	enum agt_task_class class;
	int r;

	*ret = AGT_OUT_DONE;
	if (m->resumed && !m->new_task) {
		/* The call before may have started it, and was killed before it could say so. */
		r = get_task(m, &reply, e);
		if (r == -ERR_CLOUD && agt_reply_is(&reply, "SMS.7703"))
			return take_current(m, ret, e);
		if (r < 0)
			return r;
		class = agt_task_classify(agt_json_str(reply.body, "state", "READY"));
		if (class == AGT_TASK_LIVE || class == AGT_TASK_SUCCESS)
			return 0;
		agt_reply_fini(&reply);
	}
	agt_json_set_str(body, "operation", "start");
	r = agt_migration_call(m,
			       &(struct agt_call){ .service = AGT_SMS,
						   .method = "POST",
						   .path = "/v3/tasks/{}/action",
						   .args = { m->run.task_id },
						   .body = body,
						   .repeatable = true },
			       &reply, e);
	if (r == 0 || agt_reply_is(&reply, "SMS.7713")) {
		/* 7713: it is at work already; the polls will tell. */
		m->run.task_started_at = clock_real_ns() / 1000000000;
		return 0;
	}
	if (r != -ERR_CLOUD)
		return r;
	if (agt_rule_find(reply.code, AGT_AT_START, m->run.used) == AGT_CURRENT_TASK)
		return take_current(m, ret, e);
	return apply_rule(m, AGT_AT_START, &(struct failure){ reply.code, e->text }, r, ret, e);
}

/* ---- following it ---- */

struct poll {
	unsigned count;
	unsigned failures;      /* in a row */
	unsigned without_figure;
	double shown;           /* progress that was logged last */
	char state[32];         /* as logged last */
};

/* Percent of the sub-task that is open, or -1: none, or a figure that cannot be. */
static double progress_of(const struct cJSON *task, char *name, size_t size)
{
	const struct cJSON *open = NULL;
	double p;

	name[0] = '\0';
	for (const struct cJSON *i = agt_json_first(task, "sub_tasks"); i; i = agt_json_next(i))
		if (!agt_json_at(i, "end_date") || agt_json_int(i, "end_date", 0) == 0)
			open = i;
	if (open)
		snprintf(name, size, "%s", agt_json_str(open, "name", ""));
	p = agt_json_double(open, "progress", -1);
	if (!open)
		p = agt_json_double(task, "progress", -1);
	return p >= 0 && p <= 100 ? p : -1;
}

/* While SMS tells no progress, see at least that the target is there. */
static int look_at_target(struct agt_migration *m, struct poll *p, struct cJSON *content,
			  struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	int r;

	if (p->without_figure++ % LOOK_AT_SERVER_EVERY || !*m->run.server_id || m->dry)
		return 0;
	r = agt_provision_server(m, &reply, e);
	if (r == -ERR_FORBIDDEN || r == -ERR_CANCELLED)
		return r;
	if (r < 0) {
		log_debug("look at the target: %s", e->text);
		return 0;
	}
	agt_json_set_str(content, "target_server_status",
			 agt_json_str(reply.body, "server.status", ""));
	return 0;
}

static int note_poll(struct agt_migration *m, struct poll *p, const struct cJSON *task,
		     struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *content = agt_json_object();
	char name[64], shown[TEXT_NAME_MAX];
	double progress = progress_of(task, name, sizeof(name));
	int r = 0;

	agt_json_set_str(content, "task_id", m->run.task_id);
	agt_json_set_str(content, "task_state", m->run.task_state);
	agt_json_set_int(content, "polls", p->count);
	agt_json_set_str(content, "source_sms_server_id", m->run.source_id);
	agt_json_set_str(content, "target_server_id", m->run.server_id);
	agt_json_set_str(content, "sub_task", *name ? name : NULL);
	if (progress >= 0)
		agt_json_set_double(content, "progress", progress);
	else
		agt_json_set_null(content, "progress");
	if (progress < 0 && agt_task_classify(m->run.task_state) == AGT_TASK_LIVE)
		r = look_at_target(m, p, content, e);
	agt_json_set(content, "task", agt_json_copy(task));
	if (r == 0)
		r = agt_migration_write(m, AGT_FILE_POLL, content, e);
	if (strcmp(p->state, m->run.task_state) != 0 || progress >= p->shown + 5) {
		text_name(shown, bytes_str(name));
		if (progress >= 0)
			log_info("task %s: %s, %s %.0f %%", m->run.task_id, m->run.task_state,
				 shown, progress);
		else
			log_info("task %s: %s", m->run.task_id, m->run.task_state);
		snprintf(p->state, sizeof(p->state), "%s", m->run.task_state);
		p->shown = progress >= 0 ? progress : 0;
	}
	return r;
}

/* Code and parameters of a task that failed. */
static int task_failed(struct agt_migration *m, const struct cJSON *task,
		       enum agt_outcome *ret, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *error = NULL;
	const struct agt_error_row *row;
	char code[AGT_CODE_MAX], param[200], shown[TEXT_NAME_MAX];
	int r = agt_json_embedded(task, "error_json", &error, e);

	if (r < 0)
		return r;
	agt_json_text(error, "error_code", code, sizeof(code));
	agt_json_text(error, "error_param", param, sizeof(param));
	text_name(shown, bytes_str(param));
	snprintf(m->code, sizeof(m->code), "%s", code);
	row = agt_error_find(code);
	r = err_set(e, -ERR_CLOUD, "task %s ended as %s%s%s%s%s%s%s%s%s", m->run.task_id,
		    m->run.task_state, *code ? ": " : "", code, row ? " " : "",
		    row ? row->meaning : "", *shown ? " " : "", shown,
		    row && *row->remedy ? ": " : "", row ? row->remedy : "");
	return apply_rule(m, AGT_AT_TASK, &(struct failure){ code, e->text }, r, ret, e);
}

/* One answer that came. */
static int take_answer(struct agt_migration *m, struct poll *p, const struct cJSON *task,
		       enum agt_outcome *ret, struct err *e)
{
	char state[sizeof(m->run.task_state)];
	bool news;
	int r;

	agt_json_text(task, "state", state, sizeof(state));
	/* No state at all: as it was. */
	news = *state && strcmp(state, m->run.task_state) != 0;
	if (news)
		AGT_SET(m->run.task_state, state);
	r = note_poll(m, p, task, e);
	if (r == 0 && news)
		r = agt_migration_save(m, e);
	if (r < 0)
		return r;
	switch (agt_task_classify(state)) {
	case AGT_TASK_SUCCESS:
		m->run.task_finished_at = clock_real_ns() / 1000000000;
		*ret = AGT_OUT_DONE;
		return 0;
	case AGT_TASK_FAILED:
		m->run.task_finished_at = clock_real_ns() / 1000000000;
		return task_failed(m, task, ret, e);
	case AGT_TASK_PAUSED:
		return err_set(e, -ERR_CLOUD,
			       "task %s was paused (%s), not by this program: run this again to "
			       "let it go on",
			       m->run.task_id, state);
	case AGT_TASK_READY:
	case AGT_TASK_LIVE:
		break;
	}
	*ret = AGT_OUT_WAIT;
	return 0;
}

int agt_task_poll(struct agt_migration *m, enum agt_outcome *ret, struct err *e)
{
	struct poll p = { 0 };

	for (;;) {
		_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
		int r = get_task(m, &reply, e);

		p.count++;
		*ret = AGT_OUT_WAIT;
		if (r == 0) {
			p.failures = 0;
			r = take_answer(m, &p, reply.body, ret, e);
		} else if (r == -ERR_CLOUD && agt_rule_find(reply.code, AGT_AT_QUERY,
							    m->run.used) == AGT_CURRENT_TASK) {
			r = take_current(m, ret, e);
		} else if (r == -ERR_CLOUD && *reply.code && !agt_reply_busy(&reply)) {
			return apply_rule(m, AGT_AT_QUERY,
					  &(struct failure){ reply.code, e->text }, r, ret, e);
		} else if (r != -ERR_CANCELLED && r != -ENOMEM &&
			   ++p.failures < POLL_FAILURES_MAX) {
			/* The migration does not stop because nobody can be asked about it. */
			log_info("%s: asking again", e->text);
			r = 0;
		}
		if (r < 0 || *ret != AGT_OUT_WAIT)
			return r;
		r = agt_migration_pause(m, e);
		if (r < 0)
			return r;
	}
}
