/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/migration_run.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "agent/json.h"
#include "common/io.h"
#include "common/macro.h"

#define FILE_MAX (1u << 20)
#define SCHEMA 1

enum type {
	TYPE_TEXT,
	TYPE_INT,
	TYPE_BOOL,
	TYPE_STEP,
	TYPE_USED,
};

#define TEXT(f) { #f, TYPE_TEXT, offsetof(struct agt_run, f), sizeof(((struct agt_run *)0)->f) }
#define INT(f) { #f, TYPE_INT, offsetof(struct agt_run, f), 0 }
#define BOOL(f) { #f, TYPE_BOOL, offsetof(struct agt_run, f), 0 }

static const struct field {
	const char *name;
	enum type type;
	size_t off;
	size_t size;
} fields[] = {
	TEXT(run_id),
	INT(started_at),
	{ "step", TYPE_STEP, offsetof(struct agt_run, step), 0 },
	BOOL(over),
	TEXT(intent),
	TEXT(source_given),
	TEXT(existing_target),
	TEXT(region),
	TEXT(road),
	TEXT(fallback_reason),
	TEXT(incompatible_reason),
	{ "used", TYPE_USED, offsetof(struct agt_run, used), 0 },
	TEXT(source_id),
	TEXT(source_name),
	TEXT(source_ip),
	TEXT(prechecked_id),
	TEXT(project_id),
	TEXT(migproject_id),
	TEXT(migproject_name),
	TEXT(vpc_id),
	TEXT(vpc_name),
	TEXT(vpc_cidr),
	TEXT(subnet_id),
	TEXT(group_id),
	TEXT(eip_id),
	TEXT(eip_address),
	TEXT(eip_pool),
	TEXT(pools_refused),
	TEXT(flavor_id),
	TEXT(flavors_refused),
	TEXT(zone),
	TEXT(server_name),
	TEXT(servers_before),
	INT(server_try),
	TEXT(job_id),
	TEXT(server_id),
	TEXT(private_ip),
	TEXT(task_type),
	BOOL(private_address),
	BOOL(without_disks),
	INT(task_try),
	TEXT(task_name),
	TEXT(task_id),
	TEXT(stale_task),
	TEXT(pending),
	TEXT(pending_code),
	TEXT(task_state),
	INT(task_started_at),
	INT(task_finished_at),
	INT(staged_status),
	TEXT(staged_state),
	TEXT(staged_run_id),
};

static const char *const step_names[AGT_STEPS] = {
	[AGT_STEP_PRECHECK] = "precheck", [AGT_STEP_AGREE] = "agree",
	[AGT_STEP_PROJECT] = "project",   [AGT_STEP_SOURCE] = "source",
	[AGT_STEP_TARGET] = "target",     [AGT_STEP_TASK] = "task",
	[AGT_STEP_START] = "start",       [AGT_STEP_POLL] = "poll",
	[AGT_STEP_STAGED] = "staged",     [AGT_STEP_POSTCHECK] = "postcheck",
	[AGT_STEP_DONE] = "done",
};

const char *agt_step_name(enum agt_step s)
{
	return step_names[s];
}

void agt_migration_run_init(struct agt_run *r)
{
	*r = (struct agt_run){ .staged_status = -1 };
	agt_run_id(r->run_id);
	r->started_at = clock_real_ns() / 1000000000;
}

/* ---- to JSON and back ---- */

static struct cJSON *to_json(const struct agt_run *r)
{
	struct cJSON *o = agt_json_object();

	agt_json_set_int(o, "schema_version", SCHEMA);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct field *f = &fields[i];
		const char *p = (const char *)r + f->off;
		char words[512];

		switch (f->type) {
		case TYPE_TEXT:
			agt_json_set_str(o, f->name, p);
			break;
		case TYPE_INT:
			agt_json_set_int(o, f->name, *(const int64_t *)p);
			break;
		case TYPE_BOOL:
			agt_json_set_bool(o, f->name, *(const bool *)p);
			break;
		case TYPE_STEP:
			agt_json_set_str(o, f->name, step_names[r->step]);
			break;
		case TYPE_USED:
			agt_used_text(r->used, words, sizeof(words));
			agt_json_set_str(o, f->name, words);
			break;
		}
	}
	return o;
}

static int step_parse(const char *word, enum agt_step *ret)
{
	for (int i = 0; i < AGT_STEPS; i++)
		if (!strcmp(step_names[i], word)) {
			*ret = (enum agt_step)i;
			return 0;
		}
	return -EBADMSG;
}

static int from_json(const struct cJSON *o, struct agt_run *r)
{
	int bad = 0;

	agt_migration_run_init(r);
	r->run_id[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct field *f = &fields[i];
		char *p = (char *)r + f->off;

		switch (f->type) {
		case TYPE_TEXT:
			agt_json_text(o, f->name, p, f->size);
			break;
		case TYPE_INT:
			*(int64_t *)p = agt_json_int(o, f->name, *(int64_t *)p);
			break;
		case TYPE_BOOL:
			*(bool *)p = agt_json_bool(o, f->name, false);
			break;
		case TYPE_STEP:
			bad = step_parse(agt_json_str(o, f->name, ""), &r->step);
			break;
		case TYPE_USED:
			r->used = agt_used_parse(agt_json_str(o, f->name, ""));
			break;
		}
	}
	/* Without these two nothing can be gone on with. */
	return bad < 0 || !r->run_id[0] ? -EBADMSG : 0;
}

int agt_migration_run_load(const char *state_dir, struct agt_run *ret, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *o = NULL;
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	_cleanup_close_ int dir = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (dir < 0)
		return err_sys(e, "open state directory %s", state_dir);
	r = io_read_file(dir, AGT_RUN_FILE, FILE_MAX, &text, e);
	if (r < 0)
		return r;
	r = agt_json_parse(buf_view(&text), &o, e);
	if (r == 0 && from_json(o, ret) == 0)
		return 0;
	if (r == -ENOMEM)
		return r;
	return err_set(e, -EBADMSG,
		       "%s/%s is damaged, so it cannot be told how far the last run came: look "
		       "at what it made, then begin anew with --restart",
		       state_dir, AGT_RUN_FILE);
}

int agt_migration_run_save(const char *state_dir, const struct agt_run *run,
			   struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *o = to_json(run);
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	_cleanup_close_ int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (dir < 0)
		return err_sys(e, "open state directory %s", state_dir);
	r = agt_json_print(o, true, &text, e);
	if (r == 0)
		r = io_replace_file(dir, AGT_RUN_FILE, buf_view(&text), 0600, e);
	return r < 0 ? err_ctx(e, r, "save the state of the migration in %s", state_dir) : 0;
}

/* ---- texts and words ---- */

bool agt_migration_run_set(char *field, size_t size, const char *text)
{
	size_t n = text ? strlen(text) : 0;

	if (n == 0 || n >= size)
		return false;
	memcpy(field, text, n + 1);
	return true;
}

bool agt_words_have(const char *words, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = words; *p;) {
		size_t n = strcspn(p, " ");

		if (n == len && !memcmp(p, word, n))
			return true;
		p += n;
		p += strspn(p, " ");
	}
	return false;
}

void agt_words_add(char *words, size_t size, const char *word)
{
	size_t len = strlen(word), n;

	if (len + 1 > size || !len)
		return;
	while (strlen(words) + 1 + len + 1 > size && words[0]) {
		const char *next = strchr(words, ' ');

		if (next)
			memmove(words, next + 1, strlen(next + 1) + 1);
		else
			words[0] = '\0';
	}
	n = strlen(words);
	snprintf(words + n, size - n, "%s%s", n ? " " : "", word);
}
