/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sms.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/json.h"
#include "agent/source.h"
#include "common/log.h"
#include "common/macro.h"
#include "common/text.h"

#define PROJECT_QUOTA 50 /* migration projects of an account */
#define PROJECT_PREFIX "mgc"
#define SOURCES_PAGE 200 /* the most that SMS gives */
#define TASKS_PAGE 50
#define PROJECTS_PAGE 100
#define NAMED_MAX 12 /* of several that fit, so many are listed */

int agt_sms_agree(struct agt_migration *m, struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };

	return agt_migration_call(m,
				  &(struct agt_call){ .service = AGT_SMS,
						      .method = "POST",
						      .path = "/v3/privacy-agreements",
						      .repeatable = true },
				  &reply, e);
}

/* ---- the migration project ---- */

static int list_projects(struct agt_migration *m, struct cJSON **ret, struct err *e)
{
	return agt_migration_list(m,
				  &(struct agt_list){
					  .call = { .service = AGT_SMS,
						    .method = "GET",
						    .path = "/v3/migprojects" },
					  .key = "migprojects",
					  .limit = PROJECTS_PAGE,
				  },
				  ret, e);
}

static int find_project(struct agt_migration *m, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	int r = list_projects(m, &all, e);

	if (r < 0)
		return r;
	for (const struct cJSON *i = agt_json_first(all, ""); i; i = agt_json_next(i))
		if (!strcmp(agt_json_str(i, "name", ""), m->run.migproject_name) &&
		    AGT_SET(m->run.migproject_id, agt_json_str(i, "id", "")))
			return 1;
	return 0;
}

static int post_project(struct agt_migration *m, struct agt_reply *reply, struct err *e)
{
	const struct agt_migrate_options *mo = &m->o->migrate;
	_cleanup_(agt_json_freep) struct cJSON *body = agt_json_object();
	char id[AGT_RUN_ID];
	int r;

	agt_json_set_str(body, "name", m->run.migproject_name);
	agt_json_set_str(body, "description", "made by stager-agent");
	agt_json_set_str(body, "region", mo->region_name ? mo->region_name : m->run.region);
	agt_json_set_str(body, "type", "MIGRATE_BLOCK");
	agt_json_set_bool(body, "start_target_server", true);
	agt_json_set_bool(body, "use_public_ip", true);
	agt_json_set_bool(body, "exist_server", true);
	agt_json_set_bool(body, "isdefault", false);
	r = agt_migration_call(m,
			       &(struct agt_call){ .service = AGT_SMS,
						   .method = "POST",
						   .path = "/v3/migprojects",
						   .body = body },
			       reply, e);
	if (r < 0)
		return r;
	/* The id is told to the user, no later call needs it. */
	AGT_SET(m->run.migproject_id, agt_json_text(reply->body, "id", id, sizeof(id)));
	return 0;
}

/* A project is of no use to anybody when no source in it has a task. */
static int project_has_task(struct agt_migration *m, const char *id, bool *ret, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	int r = agt_migration_list(
		m,
		&(struct agt_list){
			.call = { .service = AGT_SMS,
				  .method = "GET",
				  .path = "/v3/sources",
				  .query = { { "migproject", id } } },
			.key = "source_servers",
			.limit = SOURCES_PAGE,
		},
		&all, e);

	*ret = false;
	for (const struct cJSON *i = agt_json_first(all, ""); i && r == 0; i = agt_json_next(i))
		if (agt_json_is_object(agt_json_at(i, "current_task")))
			*ret = true;
	return r;
}

/* Seconds or milliseconds; the documents name no such field, services often have one. */
static int64_t made_at(const struct cJSON *project)
{
	static const char *const names[] = { "create_date", "create_time", "created_at",
					     "add_date" };
	int64_t t = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names) && t == 0; i++)
		t = agt_json_int(project, names[i], 0);
	return t;
}

/* Named by a program: no word with a blank in it is. */
static bool is_automatic(const char *name)
{
	return !strncmp(name, PROJECT_PREFIX, strlen(PROJECT_PREFIX)) && !strpbrk(name, " \t");
}

/*
 * The oldest project that may go and is not among looked_at, or NULL.  Where SMS tells no
 * dates, its list has the older ones first.
 */
static const struct cJSON *oldest_project(const struct cJSON *all, const char *looked_at)
{
	const struct cJSON *best = NULL;

	for (const struct cJSON *i = agt_json_first(all, ""); i; i = agt_json_next(i)) {
		const char *id = agt_json_str(i, "id", "");

		if (!is_automatic(agt_json_str(i, "name", "")) || !*id || strchr(id, ' ') || agt_json_bool(i, "isdefault", false) ||
		    agt_words_have(looked_at, id))
			continue;
		if (!best || made_at(i) < made_at(best))
			best = i;
	}
	return best;
}

/* Delete one project; 1: it is gone, 0: SMS wants to keep it. */
static int delete_project(struct agt_migration *m, const struct cJSON *p, struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	const char *id = agt_json_str(p, "id", ""), *name = agt_json_str(p, "name", "");
	char shown[TEXT_NAME_MAX];
	int r = agt_migration_call(m,
				   &(struct agt_call){ .service = AGT_SMS,
						       .method = "DELETE",
						       .path = "/v3/migprojects/{}",
						       .args = { id } },
				   &reply, e);

	if (r == -ERR_CLOUD && *reply.code) {
		log_info("migration project %s stays: %s", text_name(shown, bytes_str(name)),
			 reply.code);
		return agt_reply_is(&reply, "SMS.7301");
	}
	if (r < 0)
		return r;
	log_info("deleted migration project %s (%s) for the quota",
		 text_name(shown, bytes_str(name)), id);
	return 1;
}

/* Delete as many projects as the quota wants, at least one.  Returns how many went. */
static int free_projects(struct agt_migration *m, char *looked_at, size_t size, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	int64_t wanted;
	int gone = 0;
	int r = list_projects(m, &all, e);

	if (r < 0)
		return r;
	wanted = MAX((int64_t)agt_json_count(all, "") - (PROJECT_QUOTA - 1), (int64_t)1);
	while (gone < wanted) {
		const struct cJSON *p = oldest_project(all, looked_at);
		bool used;

		if (!p)
			break;
		agt_words_add(looked_at, size, agt_json_str(p, "id", ""));
		r = project_has_task(m, agt_json_str(p, "id", ""), &used, e);
		if (r == 0 && !used)
			r = delete_project(m, p, e);
		if (r < 0)
			return r;
		gone += r;
	}
	return gone;
}

int agt_sms_make_project(struct agt_migration *m, struct err *e)
{
	static const struct agt_making making = { "migration project", find_project,
						  post_project };
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	char looked_at[16384] = "";
	const char *random = strrchr(m->run.run_id, '-');

	if (!*m->run.migproject_name)
		snprintf(m->run.migproject_name, sizeof(m->run.migproject_name),
			 PROJECT_PREFIX "-stager-%.8s", random ? random + 1 : m->run.run_id);
	for (;;) {
		int r = agt_migration_make(m, &making, &reply, e);

		/* The name is this run's own: who has it is our project. */
		if (r == -ERR_CLOUD && agt_reply_is(&reply, "SMS.7312")) {
			r = find_project(m, e);
			return r < 0 ? r : 0;
		}
		if (r != -ERR_CLOUD ||
		    agt_rule_find(reply.code, AGT_AT_PROJECT, m->run.used) != AGT_FREE_PROJECTS)
			return r;
		m->run.used |= 1u << AGT_FREE_PROJECTS;
		r = free_projects(m, looked_at, sizeof(looked_at), e);
		if (r < 0)
			return r;
		if (r == 0) {
			AGT_SET(m->code, reply.code);
			return err_set(e, -ERR_FORBIDDEN,
				       "the account has its %d migration projects (SMS.8115), and "
				       "none of them is an automatic one (" PROJECT_PREFIX
				       "*) without a task: delete one with DELETE "
				       "/v3/migprojects/{id}, then run this again",
				       PROJECT_QUOTA);
		}
	}
}

/* ---- the source ---- */

enum match {
	MATCH_ID,
	MATCH_VM,
	MATCH_ADDRESS,
	MATCH_NAME,
	MATCHES,
};

static bool matches(const struct cJSON *s, enum match by, const char *given)
{
	switch (by) {
	case MATCH_ID:
		return !strcmp(agt_json_str(s, "id", ""), given);
	case MATCH_VM:
		return !strcmp(agt_json_str(s, "vm_id", ""), given);
	case MATCH_ADDRESS:
		return !strcmp(agt_json_str(s, "ip", ""), given) ||
		       !strcasecmp(agt_json_str(s, "ipv6", ""), given);
	case MATCH_NAME:
		return !strcmp(agt_json_str(s, "name", ""), given) ||
		       !strcmp(agt_json_str(s, "hostname", ""), given);
	case MATCHES:
		break;
	}
	return false;
}

static void put_source(struct buf *out, const struct cJSON *s)
{
	char name[TEXT_NAME_MAX], ip[TEXT_NAME_MAX], state[TEXT_NAME_MAX], id[TEXT_NAME_MAX];

	/* Too little memory for a list is too little memory for what follows. */
	(void)!buf_printf(out, "%s%s (%s, %s, %s)", buf_len(out) ? "; " : "",
			  text_name(id, bytes_str(agt_json_str(s, "id", "no id"))),
			  text_name(name, bytes_str(agt_json_str(s, "name", "no name"))),
			  text_name(ip, bytes_str(agt_json_str(s, "ip", "no address"))),
			  text_name(state, bytes_str(agt_json_str(s, "state", "no state"))));
}

/* 1 and *ret: exactly one fits; 0: none. */
static int pick(const struct cJSON *all, enum match by, const char *given,
		const struct cJSON **ret, struct err *e)
{
	_cleanup_(buf_fini) struct buf list = BUF_INIT;
	const struct cJSON *found = NULL;
	size_t n = 0;

	for (const struct cJSON *i = agt_json_first(all, ""); i; i = agt_json_next(i)) {
		if (!matches(i, by, given))
			continue;
		/* Pages move while they are read: the same record may come twice. */
		if (found && !strcmp(agt_json_str(found, "id", ""), agt_json_str(i, "id", "")))
			continue;
		if (n++ < NAMED_MAX)
			put_source(&list, i);
		found = i;
	}
	if (n > 1)
		return err_set(e, -ERR_USAGE,
			       "%zu sources of SMS are called '%s': give the id of one of them as "
			       "SOURCE_SERVER_ID: %s%s",
			       n, given, buf_cstr(&list), n > NAMED_MAX ? "; ..." : "");
	*ret = found;
	return (int)n;
}

/* SMS knows VM ids, but its records do not show them: only it can look one up. */
static int find_by_vm(struct agt_migration *m, const char *given, struct cJSON **ret,
		      struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	const struct cJSON *one;
	int r = agt_migration_list(
		m,
		&(struct agt_list){
			.call = { .service = AGT_SMS,
				  .method = "GET",
				  .path = "/v3/sources",
				  .query = { { "vm_id", given } } },
			.key = "source_servers",
			.limit = SOURCES_PAGE,
		},
		&all, e);

	/* More than one: the parameter was not understood. */
	if (r < 0 || agt_json_count(all, "") != 1)
		return r < 0 ? r : 0;
	one = agt_json_first(all, "");
	if (*agt_json_str(one, "vm_id", "") && !matches(one, MATCH_VM, given))
		return 0;
	*ret = agt_json_copy(one);
	return *ret ? 1 : err_set(e, -ENOMEM, "out of memory");
}

bool agt_sms_like_id(const char *text)
{
	return strlen(text) >= 8 && strspn(text, "0123456789abcdefABCDEF-") == strlen(text);
}

/* What to look the source up by: what was given, else the id that this host was bound to. */
static int wanted(struct agt_migration *m, char *ret, size_t size, struct err *e)
{
	char bound[AGT_RUN_ID];
	int r;

	if (*m->run.source_given) {
		snprintf(ret, size, "%s", m->run.source_given);
		return 0;
	}
	r = agt_source_binding(m->o->state_dir, bound, sizeof(bound), e);
	if (r < 0)
		return r;
	if (!*bound && gethostname(bound, sizeof(bound) - 1) < 0)
		return err_sys(e, "ask for the name of this host");
	snprintf(ret, size, "%s", bound);
	return 0;
}

static int take_source(struct agt_migration *m, struct cJSON *s, struct err *e)
{
	char text[AGT_RUN_TEXT];

	agt_json_free(m->source);
	m->source = s;
	if (!AGT_SET(m->run.source_id, agt_json_text(s, "id", text, sizeof(text))))
		return err_set(e, -ERR_PROTOCOL, "SMS tells of a source without an id");
	AGT_SET(m->run.source_name, agt_json_str(s, "name", ""));
	AGT_SET(m->run.source_ip, agt_json_str(s, "ip", ""));
	return 1;
}

int agt_sms_find_source(struct agt_migration *m, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	const struct cJSON *found = NULL;
	struct cJSON *copy = NULL;
	char given[AGT_RUN_TEXT];
	int r = agt_migration_list(m,
				   &(struct agt_list){
					   .call = { .service = AGT_SMS,
						     .method = "GET",
						     .path = "/v3/sources" },
					   .key = "source_servers",
					   .limit = SOURCES_PAGE,
				   },
				   &all, e);

	if (r == 0)
		r = wanted(m, given, sizeof(given), e);
	for (int by = 0; by < MATCHES && r == 0; by++) {
		r = pick(all, (enum match)by, given, &found, e);
		if (r == 0 && by == MATCH_VM && agt_sms_like_id(given))
			r = find_by_vm(m, given, &copy, e);
	}
	if (r <= 0)
		return r;
	if (!copy)
		copy = agt_json_copy(found);
	return copy ? take_source(m, copy, e) : err_set(e, -ENOMEM, "out of memory");
}

int agt_sms_source_detail(struct agt_migration *m, struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	int r;

	/* Disks are in the full record alone. */
	if (m->source && agt_json_count(m->source, "disks") > 0)
		return 0;
	r = agt_migration_call(m,
			       &(struct agt_call){ .service = AGT_SMS,
						   .method = "GET",
						   .path = "/v3/sources/{}",
						   .args = { m->run.source_id } },
			       &reply, e);
	if (r < 0)
		return r;
	if (!agt_json_is_object(reply.body))
		return 0;
	agt_json_free(m->source);
	m->source = TAKE_PTR(reply.body);
	return 0;
}

/* ---- tasks ---- */

static int list_tasks(struct agt_migration *m, const char *source_id, struct cJSON **ret,
		      struct err *e)
{
	return agt_migration_list(m,
				  &(struct agt_list){
					  .call = { .service = AGT_SMS,
						    .method = "GET",
						    .path = "/v3/tasks",
						    .query = { { "source_server_id",
								 source_id } } },
					  .key = "tasks",
					  .limit = TASKS_PAGE,
				  },
				  ret, e);
}

/* The parameter may be ignored: only a task that does not name another source is ours. */
static bool is_of(const struct cJSON *task, const char *source_id)
{
	const char *of = agt_json_str(task, "source_server.id", "");

	return !*of || !strcmp(of, source_id);
}

int agt_sms_delete_task(struct agt_migration *m, const char *task_id, struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	int r = agt_migration_call(m,
				   &(struct agt_call){ .service = AGT_SMS,
						       .method = "DELETE",
						       .path = "/v3/tasks/{}",
						       .args = { task_id } },
				   &reply, e);

	return agt_reply_is(&reply, "SMS.7703") || reply.status == 404 ? 0 : r;
}

static void note_task(struct cJSON *list, const struct cJSON *task, const char *outcome,
		      const char *why)
{
	static const char *const names[] = { "id", "name", "state" };
	struct cJSON *o = agt_json_add_object(list);

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		agt_json_set_str(o, names[i], agt_json_str(task, names[i], ""));
	agt_json_set_str(o, "outcome", outcome);
	agt_json_set_str(o, "reason", why);
}

/* The file's object and one of its lists. */
static struct cJSON *cleanup_list(struct agt_migration *m, const char *source_id,
				  const char *name)
{
	static const char *const lists[] = { "deleted", "kept" };

	if (!m->cleanup) {
		m->cleanup = agt_json_object();
		for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
			agt_json_set_array(m->cleanup, lists[i]);
	}
	agt_json_set_str(m->cleanup, "source_sms_server_id", source_id);
	return (struct cJSON *)agt_json_at(m->cleanup, name);
}

static int delete_one(struct agt_migration *m, const char *source_id, const struct cJSON *task,
		      const char *why, struct err *e)
{
	const char *id = agt_json_str(task, "id", "");
	struct err failed = { 0 };
	int r = agt_sms_delete_task(m, id, &failed);

	if (r == 0) {
		log_info("deleted task %s of this source (%s), which was %s", id, why,
			 agt_json_str(task, "state", ""));
		note_task(cleanup_list(m, source_id, "deleted"), task, "deleted", why);
		return 0;
	}
	if (r != -ERR_CLOUD) {
		if (e)
			*e = failed;
		return r;
	}
	log_info("an old task of this source stays: %s", failed.text);
	note_task(cleanup_list(m, source_id, "kept"), task, "refused", failed.text);
	return 0;
}

/* NULL: it is to go; else why it stays. */
static const char *stays(const struct cJSON *task, enum agt_old_tasks which)
{
	switch (agt_task_classify(agt_json_str(task, "state", ""))) {
	case AGT_TASK_FAILED:
		return NULL;
	case AGT_TASK_SUCCESS:
		return which >= AGT_OLD_FINISHED ? NULL : "successful";
	case AGT_TASK_PAUSED:
		return which >= AGT_OLD_HISTORICAL ? NULL : "paused";
	case AGT_TASK_READY:
	case AGT_TASK_LIVE:
		break;
	}
	return "not finished";
}

int agt_sms_delete_tasks(struct agt_migration *m, const char *source_id,
			 enum agt_old_tasks which, const char *why, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	int r = list_tasks(m, source_id, &all, e);

	for (const struct cJSON *i = agt_json_first(all, ""); i && r == 0; i = agt_json_next(i)) {
		const char *id = agt_json_str(i, "id", "");
		const char *kept = stays(i, which);

		if (!*id || !is_of(i, source_id) || !strcmp(id, m->run.task_id))
			continue;
		if (!kept)
			r = delete_one(m, source_id, i, why, e);
		else
			note_task(cleanup_list(m, source_id, "kept"), i, "kept", kept);
	}
	if (r < 0)
		return r;
	(void)cleanup_list(m, source_id, "deleted");
	agt_json_set_int(m->cleanup, "tasks_listed", (int64_t)agt_json_count(all, ""));
	return agt_migration_write(m, AGT_FILE_CLEANUP, m->cleanup, e);
}

/* The first of the source's tasks of a class that can be gone on with, or NULL. */
static const struct cJSON *task_of_class(const struct cJSON *all, const char *source_id,
					 const char *except, enum agt_task_class class)
{
	for (const struct cJSON *i = agt_json_first(all, ""); i; i = agt_json_next(i)) {
		const char *id = agt_json_str(i, "id", "");

		if (*id && strlen(id) < AGT_RUN_ID && strcmp(id, except) != 0 &&
		    is_of(i, source_id) &&
		    agt_task_classify(agt_json_str(i, "state", "")) == class)
			return i;
	}
	return NULL;
}

int agt_sms_current_task(struct agt_migration *m, const char *except, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	struct agt_run *run = &m->run;
	const struct cJSON *task;
	const char *server;
	int r = list_tasks(m, run->source_id, &all, e);

	if (r < 0)
		return r;
	task = task_of_class(all, run->source_id, except, AGT_TASK_LIVE);
	if (!task)
		task = task_of_class(all, run->source_id, except, AGT_TASK_READY);
	if (!task)
		return 0;
	AGT_SET(run->task_id, agt_json_str(task, "id", ""));
	AGT_SET(run->task_name, agt_json_str(task, "name", ""));
	run->task_state[0] = '\0';
	AGT_SET(run->task_state, agt_json_str(task, "state", ""));
	server = agt_json_str(task, "target_server.vm_id", "");
	/* What is checked in the end is the server that the task migrates to. */
	if (*server && strcmp(server, run->server_id) != 0 && AGT_SET(run->server_id, server)) {
		log_info("task %s migrates to the server %s", run->task_id, server);
		agt_json_free(m->server);
		m->server = NULL;
	}
	return 1;
}

int agt_sms_task_by_name(struct agt_migration *m, const char *name, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	int r = list_tasks(m, m->run.source_id, &all, e);

	if (r < 0)
		return r;
	for (const struct cJSON *i = agt_json_first(all, ""); i; i = agt_json_next(i))
		if (!strcmp(agt_json_str(i, "name", ""), name) &&
		    AGT_SET(m->run.task_id, agt_json_str(i, "id", "")))
			return 1;
	return 0;
}

/* ---- registration ---- */

int agt_sms_register(struct agt_migration *m, bool keep_id, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *body = NULL;
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	char id[AGT_RUN_ID];
	int r = 0;

	/* A binding that is stale must not outlive this, even if what follows fails. */
	if (!keep_id && !m->dry)
		r = agt_source_bind(m->o->state_dir, "", e);
	if (r == 0)
		r = agt_source_body(m->o, keep_id ? m->run.source_id : NULL, &body, e);

	if (r == 0)
		/* By its MAC addresses SMS knows a host that registers twice. */
		r = agt_migration_call(m,
				       &(struct agt_call){ .service = AGT_SMS,
							   .method = "POST",
							   .path = "/v3/sources",
							   .body = body,
							   .repeatable = true },
				       &reply, e);
	/* A quota, above all that of source servers. */
	if (r == -ERR_CLOUD && agt_rule_find(reply.code, AGT_AT_QUERY, m->run.used) == AGT_STOP)
		r = -ERR_FORBIDDEN;
	if (r < 0)
		return err_ctx(e, r, "register this host");
	agt_json_free(m->source);
	m->source = NULL;
	if (!AGT_SET(m->run.source_id, agt_json_text(reply.body, "id", id, sizeof(id))) &&
	    !keep_id)
		return err_set(e, -ERR_PROTOCOL,
			       "SMS registered this host without telling its id");
	return m->dry ? 0 : agt_source_bind(m->o->state_dir, m->run.source_id, e);
}
