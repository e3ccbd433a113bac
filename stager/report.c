/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/report.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/io.h"
#include "common/sha256.h"
#include "common/text.h"
#include "stager/report_parts.h"

/*
 * The report is held as a JSON tree and printed as a whole at each save.  Fields are set by
 * key, so a loaded report and a new one are changed by the same code.
 */

static const char *const run_state_names[] = {
	[STG_RUN_RUNNING] = "running",		[STG_RUN_SUCCEEDED] = "succeeded",
	[STG_RUN_PARTIAL] = "partial",		[STG_RUN_FAILED] = "failed",
	[STG_RUN_INTERRUPTED] = "interrupted",
};

static const char *const delete_mode_names[] = {
	[STG_DELETE] = "delete",
	[STG_DELETE_OFF] = "no-delete",
	[STG_DELETE_SKIPPED_ERRORS] = "skipped-errors",
};

static const char *const step_names[] = {
	[STG_STEP_SOURCE_CHECK] = "source_rsync_check",
	[STG_STEP_TARGET_CHECK] = "target_rsync_check",
	[STG_STEP_CUTOVER_STOP] = "cutover_stop",
	[STG_STEP_CUTOVER_START] = "cutover_start",
	[STG_STEP_TARGET_FINALIZE] = "target_finalize",
};

static const char *const section_names[] = {
	[STG_SECTION_CUTOVER] = "cutover",
	[STG_SECTION_VERIFICATION] = "verification",
	[STG_SECTION_BOOT_REPAIR] = "boot_repair",
	[STG_SECTION_POSTCHECK] = "postcheck",
	[STG_SECTION_CHECKPOINTS] = "checkpoints",
};

static const struct {
	const char *name;
	const char *state; /* what the report reaches with it */
} phase_kinds[] = {
	[STG_PHASE_FULL] = { "full_sync", "FULL_SYNCED" },
	[STG_PHASE_INCREMENTAL] = { "incremental_sync", "FULL_SYNCED" },
	[STG_PHASE_CUTOVER] = { "cutover_sync", "CUTOVER_SYNCED" },
};

static const char *const states[] = { "NOT_SYNCED", "FULL_SYNCED", "CUTOVER_SYNCED" };

#define STAT(f) { #f, offsetof(struct stg_phase_stats, f) }
static const struct {
	const char *name;
	size_t off;
} stat_fields[] = {
	STAT(entries_scanned),	STAT(entries_changed),	    STAT(entries_deleted),
	STAT(entries_skipped_by_hash), STAT(entries_acked_before), STAT(bytes_scanned),
	STAT(bytes_literal),	STAT(bytes_matched),	    STAT(bytes_wire_out),
	STAT(bytes_wire_in),	STAT(sessions),		    STAT(reconnects),
	STAT(entries_moved),
};
#undef STAT

struct list {
	cJSON *run, *phase; /* arrays in the tree; phase is NULL between phases */
	size_t run_n, phase_n;
	uint64_t run_total, phase_total;
};

/* Lock order: save_lock, lock. */
struct stg_report {
	pthread_mutex_t save_lock; /* one writer of the file, which is slow */
	pthread_mutex_t lock;      /* everything below */
	struct stg_report_opts o;
	char *name;
	char *run_id;
	char *tool_version;
	char *note;
	char phase_name[STG_REPORT_NAME_MAX];
	cJSON *root;
	cJSON *phases, *hooks; /* arrays in root */
	cJSON *phase;          /* the open one, NULL between phases */
	enum stg_phase_kind kind;
	struct stg_phase_stats stats;
	struct list lists[STG_LIST_COUNT];
	int64_t phase_mono_ns;
	int64_t saved_mono_ns;
	bool saved;
	bool oom;
};

static int64_t now_real_ns(const struct stg_report *r)
{
	return r->o.real_ns ? r->o.real_ns(r->o.clock_arg) : clock_real_ns();
}

static int64_t now_mono_ns(const struct stg_report *r)
{
	return r->o.mono_ns ? r->o.mono_ns(r->o.clock_arg) : clock_mono_ns();
}

static int64_t now_s(const struct stg_report *r)
{
	return now_real_ns(r) / 1000000000;
}

const char *stg_run_state_name(enum stg_run_state s)
{
	return run_state_names[s];
}

/* ---- building the tree ---- */

/* Set key of o to v, which the tree owns from now on.  NULL v: memory was lacking. */
static void put(struct stg_report *r, cJSON *o, const char *key, cJSON *v)
{
	bool ok;

	if (!v || !o) {
		cJSON_Delete(v);
		r->oom = true;
		return;
	}
	if (cJSON_GetObjectItemCaseSensitive(o, key))
		ok = cJSON_ReplaceItemInObjectCaseSensitive(o, key, v);
	else
		ok = cJSON_AddItemToObject(o, key, v);
	if (!ok) {
		cJSON_Delete(v);
		r->oom = true;
	}
}

static void append(struct stg_report *r, cJSON *array, cJSON *v)
{
	if (!array || !v || !cJSON_AddItemToArray(array, v)) {
		cJSON_Delete(v);
		r->oom = true;
	}
}

static void put_int(struct stg_report *r, cJSON *o, const char *key, int64_t v)
{
	put(r, o, key, cJSON_CreateNumber((double)v));
}

/* Seconds with three decimals: more would be noise. */
static void put_seconds(struct stg_report *r, cJSON *o, const char *key, double v)
{
	int64_t ms = v > 0 && v < 1e12 ? (int64_t)(v * 1000 + 0.5) : 0;

	put(r, o, key, cJSON_CreateNumber((double)ms / 1000));
}

/* A string of bytes; true when they are in it as they are, false when escaped. */
static bool put_bytes(struct stg_report *r, cJSON *o, const char *key, struct bytes b)
{
	_cleanup_(buf_fini) struct buf t = BUF_INIT;
	bool exact = text_is_utf8(b) && !(b.n && memchr(b.p, 0, b.n));
	const char *s = NULL;

	if ((exact ? buf_put_bytes(&t, b) : text_escape(&t, b)) == 0)
		s = buf_cstr(&t);
	put(r, o, key, s ? cJSON_CreateString(s) : NULL);
	return exact;
}

static void put_str(struct stg_report *r, cJSON *o, const char *key, const char *s)
{
	put_bytes(r, o, key, bytes_str(s ? s : ""));
}

/* A path, and its very bytes beside it where the string cannot hold them. */
static void put_path(struct stg_report *r, cJSON *o, const char *key, struct bytes path)
{
	_cleanup_(buf_fini) struct buf t = BUF_INIT;
	char key64[64];

	if (put_bytes(r, o, key, path))
		return;
	snprintf(key64, sizeof(key64), "%s_base64", key);
	if (text_base64(&t, path) < 0 || !buf_cstr(&t))
		r->oom = true;
	else
		put_str(r, o, key64, buf_cstr(&t));
}

/* The last bytes of what a step printed, from the start of a character. */
static void put_tail(struct stg_report *r, cJSON *o, struct bytes tail)
{
	if (tail.n > STG_REPORT_TAIL_MAX) {
		tail = bytes_of(tail.p + tail.n - STG_REPORT_TAIL_MAX, STG_REPORT_TAIL_MAX);
		for (int i = 0; i < 3 && (tail.p[0] & 0xc0) == 0x80; i++)
			tail = bytes_of(tail.p + 1, tail.n - 1);
	}
	put_bytes(r, o, "output_tail", tail);
}

/* key as epoch seconds and key_utc in ISO form. */
static void put_time(struct stg_report *r, cJSON *o, const char *key, int64_t epoch_s)
{
	char key_utc[64], text[32];

	snprintf(key_utc, sizeof(key_utc), "%s_utc", key);
	put_int(r, o, key, epoch_s);
	put_str(r, o, key_utc, text_utc(text, epoch_s));
}

static void put_null_time(struct stg_report *r, cJSON *o, const char *key)
{
	char key_utc[64];

	snprintf(key_utc, sizeof(key_utc), "%s_utc", key);
	put(r, o, key, cJSON_CreateNull());
	put(r, o, key_utc, cJSON_CreateNull());
}

static void put_local_time(struct stg_report *r, cJSON *o, const char *key, int64_t epoch_s)
{
	char text[32];

	put_str(r, o, key, text_local(text, epoch_s));
}

static void put_hook(struct stg_report *r, cJSON *o, const struct stg_hook_result *h)
{
	put_str(r, o, "step", h->step);
	put_int(r, o, "return_code", h->return_code);
	put_seconds(r, o, "duration_sec", h->duration_sec);
	put_tail(r, o, h->output_tail);
	if (h->started_at)
		put_time(r, o, "started_at", h->started_at);
	if (h->timed_out)
		put(r, o, "timed_out", cJSON_CreateTrue());
	if (h->skipped)
		put(r, o, "skipped", cJSON_CreateTrue());
}

/* ---- going on with an earlier report ---- */

static void drop_after(cJSON *array, int keep)
{
	for (int n = cJSON_GetArraySize(array); n > keep; n--)
		cJSON_DeleteItemFromArray(array, n - 1);
}

/* A phase of an earlier run: end it if that run could not, and shorten its lists. */
static void settle_old_phase(struct stg_report *r, cJSON *phase, int64_t last_seen)
{
	int64_t started = (int64_t)json_get(phase, "started_at")->valuedouble;

	for (size_t i = 0; i < STG_LIST_COUNT; i++)
		drop_after(json_get(phase, stg_report_lists[i].items), STG_REPORT_OLD_LIST_MAX);
	if (!json_is(phase, "run_state", run_state_names[STG_RUN_RUNNING]))
		return;
	put_str(r, phase, "run_state", run_state_names[STG_RUN_INTERRUPTED]);
	put_time(r, phase, "finished_at", MAX(last_seen, started));
	put_seconds(r, phase, "duration_sec", (double)(MAX(last_seen, started) - started));
}

/* Where the oldest incremental phase is, -1: there is none. */
static int oldest_incremental(const cJSON *phases)
{
	const char *stem = phase_kinds[STG_PHASE_INCREMENTAL].name;
	const cJSON *p;
	int i = 0;

	cJSON_ArrayForEach(p, phases) {
		if (!strncmp(json_str(p, "phase"), stem, strlen(stem)))
			return i;
		i++;
	}
	return -1;
}

static void limit_phases(cJSON *phases)
{
	for (int n = cJSON_GetArraySize(phases); n >= STG_REPORT_PHASES_MAX; n--) {
		int i = oldest_incremental(phases);

		cJSON_DeleteItemFromArray(phases, i < 0 ? 0 : i);
	}
}

/* Move key from old to the new root, or set it to v, which is freed when not needed. */
static void inherit(struct stg_report *r, cJSON *old, const char *key, cJSON *v)
{
	cJSON *was = old ? cJSON_DetachItemFromObjectCaseSensitive(old, key) : NULL;

	if (was) {
		cJSON_Delete(v);
		v = was;
	}
	put(r, r->root, key, v);
}

static void inherit_sections(struct stg_report *r, cJSON *old)
{
	for (size_t i = 0; i < ARRAY_SIZE(section_names); i++)
		if (json_get(old, section_names[i]))
			inherit(r, old, section_names[i], NULL);
}

static const char *known_state(const cJSON *old)
{
	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		if (old && json_is(old, "state", states[i]))
			return states[i];
	return states[0];
}

/* The finished incremental rounds since the last full sync. */
static unsigned finished_rounds(const struct stg_report *r)
{
	const char *stem = phase_kinds[STG_PHASE_INCREMENTAL].name;
	unsigned rounds = 0;
	const cJSON *p;

	cJSON_ArrayForEach(p, r->phases) {
		if (!json_is(p, "run_state", run_state_names[STG_RUN_SUCCEEDED]) &&
		    !json_is(p, "run_state", run_state_names[STG_RUN_PARTIAL]))
			continue;
		if (json_is(p, "phase", phase_kinds[STG_PHASE_FULL].name))
			rounds = 0;
		else if (!strncmp(json_str(p, "phase"), stem, strlen(stem)))
			rounds++;
	}
	return rounds;
}

static void start_lists(struct stg_report *r)
{
	for (size_t i = 0; i < STG_LIST_COUNT; i++) {
		put_int(r, r->root, stg_report_lists[i].total, 0);
		put(r, r->root, stg_report_lists[i].items, cJSON_CreateArray());
		r->lists[i].run = json_get(r->root, stg_report_lists[i].items);
	}
}

/* The fields in the order in which a person wants to read them. */
static void build(struct stg_report *r, cJSON *old)
{
	const struct stg_report_opts *o = &r->o;
	const char *previous = old ? json_str(old, "previous_sha256") : NULL;
	const cJSON *seen = old ? json_get(old, "generated_at") : NULL;
	cJSON *p, *root = r->root;

	put_int(r, root, "schema_version", STG_REPORT_SCHEMA_VERSION);
	put_str(r, root, "tool_version", o->tool_version);
	put_str(r, root, "run_id", o->run_id);
	put_str(r, root, "command", o->command);
	put_str(r, root, "migration_id", o->migration_id);
	put_str(r, root, "source_id", o->source_id);
	put_str(r, root, "target_id", o->target_id);
	put_str(r, root, "method", "rsync");
	put_str(r, root, "execution_mode", "source_to_target");
	put_str(r, root, "source_host", o->source_host);
	put_int(r, root, "source_port", o->source_port ? o->source_port : 22);
	put_str(r, root, "target_host", o->target_host);
	put_int(r, root, "target_port", o->target_port ? o->target_port : 22);
	put_int(r, root, "incremental_rounds", MAX(o->incremental_rounds, 0));
	put_str(r, root, "state", known_state(old));
	put_str(r, root, "run_state", run_state_names[STG_RUN_RUNNING]);
	put(r, root, "exit_code", cJSON_CreateNull());
	put_time(r, root, "started_at", now_s(r));
	put_null_time(r, root, "finished_at");
	put_time(r, root, "generated_at", now_s(r));
	put_local_time(r, root, "generated_at_local", now_s(r));
	put(r, root, "previous_sha256",
	    previous ? cJSON_CreateString(previous) : cJSON_CreateNull());
	for (size_t i = 0; i < ARRAY_SIZE(step_names); i++)
		inherit(r, old, step_names[i], cJSON_CreateNull());
	inherit(r, old, "phases", cJSON_CreateArray());
	inherit(r, old, "hooks", cJSON_CreateArray());
	start_lists(r);
	inherit(r, old, "notes", cJSON_CreateArray());
	if (old)
		inherit_sections(r, old);

	r->phases = json_get(root, "phases");
	r->hooks = json_get(root, "hooks");
	if (r->note)
		append(r, json_get(root, "notes"), cJSON_CreateString(r->note));
	cJSON_ArrayForEach(p, r->phases)
		settle_old_phase(r, p, (int64_t)seen->valuedouble);
	if (o->incremental_rounds < 0)
		put_int(r, root, "incremental_rounds", finished_rounds(r));
}

int stg_report_open(const struct stg_report_opts *o, struct stg_report **ret, struct err *e)
{
	struct stg_report *r = calloc(1, sizeof(*r));
	cJSON *old = NULL;
	int rc;

	if (!r)
		return err_set(e, -ENOMEM, "open report: out of memory");
	pthread_mutex_init(&r->lock, NULL);
	pthread_mutex_init(&r->save_lock, NULL);
	r->o = *o;
	r->name = strdup(o->name ? o->name : "rsync_execution.json");
	r->run_id = strdup(o->run_id ? o->run_id : "");
	r->tool_version = strdup(o->tool_version ? o->tool_version : "");
	r->root = cJSON_CreateObject();
	rc = -ENOMEM;
	if (!r->name || !r->run_id || !r->tool_version || !r->root) {
		err_set(e, rc, "open report: out of memory");
		goto undo;
	}
	rc = stg_report_load(&r->o, r->name, now_s(r), &old, &r->note, e);
	if (rc < 0)
		goto undo;
	build(r, old);
	cJSON_Delete(old);

	/* These were the caller's, and are not looked at again. */
	r->o.name = r->o.migration_id = r->o.source_id = r->o.target_id = NULL;
	r->o.run_id = r->o.tool_version = r->o.command = NULL;
	r->o.source_host = r->o.target_host = NULL;
	*ret = r;
	return 0;
undo:
	stg_report_close(r);
	return rc;
}

void stg_report_close(struct stg_report *r)
{
	if (!r)
		return;
	cJSON_Delete(r->root);
	pthread_mutex_destroy(&r->lock);
	pthread_mutex_destroy(&r->save_lock);
	free(r->name);
	free(r->run_id);
	free(r->tool_version);
	free(r->note);
	free(r);
}

const char *stg_report_note(const struct stg_report *r)
{
	return r->note;
}

/* ---- phases ---- */

static double phase_seconds(const struct stg_report *r)
{
	return (double)(now_mono_ns(r) - r->phase_mono_ns) / 1e9;
}

static void put_stats(struct stg_report *r)
{
	const struct stg_phase_stats *s = &r->stats;
	double rate = s->throughput_bytes_per_s, sec = phase_seconds(r);
	cJSON *o = cJSON_CreateObject();

	for (size_t i = 0; i < ARRAY_SIZE(stat_fields); i++) {
		uint64_t v;

		memcpy(&v, (const char *)s + stat_fields[i].off, sizeof(v));
		put(r, o, stat_fields[i].name, cJSON_CreateNumber((double)v));
	}
	if (rate <= 0 && sec > 0)
		rate = (double)(s->bytes_literal + s->bytes_matched) / sec;
	put_int(r, o, "throughput_bytes_per_s", rate > 0 && rate < 1e18 ? (int64_t)rate : 0);
	put(r, r->phase, "stats", o);
}

static void put_sessions(struct stg_report *r, const struct stg_session_stats *s, size_t n)
{
	cJSON *array = cJSON_CreateArray();

	for (size_t i = 0; i < n; i++) {
		cJSON *o = cJSON_CreateObject();

		put_int(r, o, "index", s[i].index);
		put(r, o, "entries", cJSON_CreateNumber((double)s[i].entries));
		put(r, o, "bytes_wire_out", cJSON_CreateNumber((double)s[i].bytes_wire_out));
		put(r, o, "bytes_wire_in", cJSON_CreateNumber((double)s[i].bytes_wire_in));
		put(r, o, "reconnects", cJSON_CreateNumber((double)s[i].reconnects));
		append(r, array, o);
	}
	put(r, r->phase, "sessions", array);
}

/* Why zstd was used, or was not, as far as the figures tell. */
static void compression_reason(const struct stg_tuning *t, char *out, size_t max)
{
	char level[64] = "";

	if (t->level_most > 1)
		snprintf(level, sizeof(level), ", at up to level %d as the line was slow",
			 t->level_most);
	if (t->compression >= 0)
		snprintf(out, max, "asked for");
	else if (!t->bytes_raw)
		snprintf(out, max, "nothing was sent");
	else
		snprintf(out, max, "what was sent shrank to %u%%%s; what does not shrink goes plain",
			 (unsigned)(100.0 * (double)t->bytes_packed / (double)t->bytes_raw), level);
}

void stg_report_set_tuning(struct stg_report *r, const struct stg_tuning *t)
{
	cJSON *o, *sub;
	char text[128];

	pthread_mutex_lock(&r->lock);
	if (!r->phase) {
		pthread_mutex_unlock(&r->lock);
		return;
	}
	o = cJSON_CreateObject();
	sub = cJSON_CreateObject();
	put_int(r, sub, "chosen", t->sessions);
	put_str(r, sub, "reason", t->sessions_reason ?: "none was needed");
	put(r, o, "sessions", sub);
	sub = cJSON_CreateObject();
	snprintf(text, sizeof(text), t->compression < 0 ? "auto" : t->compression ? "%d" : "off",
		 t->compression);
	put_str(r, sub, "chosen", text);
	compression_reason(t, text, sizeof(text));
	put_str(r, sub, "reason", text);
	put(r, sub, "bytes_raw", cJSON_CreateNumber((double)t->bytes_raw));
	put(r, sub, "bytes_packed", cJSON_CreateNumber((double)t->bytes_packed));
	put(r, o, "compression", sub);
	sub = cJSON_CreateObject();
	put_int(r, sub, "chosen", (int64_t)t->in_flight_bytes);
	put_str(r, sub, "reason", "bytes a session has ready, for the link to be never idle");
	put(r, o, "in_flight", sub);
	put(r, r->phase, "tuning", o);
	pthread_mutex_unlock(&r->lock);
}

static void name_phase(struct stg_report *r, enum stg_phase_kind kind)
{
	if (kind == STG_PHASE_INCREMENTAL)
		snprintf(r->phase_name, sizeof(r->phase_name), "%s_%u", phase_kinds[kind].name,
			 finished_rounds(r) + 1);
	else
		snprintf(r->phase_name, sizeof(r->phase_name), "%s", phase_kinds[kind].name);
}

/* How often this phase was tried since one last finished, this time included. */
static int count_attempts(const struct stg_report *r)
{
	int n = 1;
	const cJSON *p;

	cJSON_ArrayForEach(p, r->phases) {
		if (json_is(p, "run_state", run_state_names[STG_RUN_SUCCEEDED]) ||
		    json_is(p, "run_state", run_state_names[STG_RUN_PARTIAL]))
			n = 1;
		else if (json_is(p, "phase", r->phase_name))
			n++;
	}
	return n;
}

static void add_phase_path(struct stg_report *r, const struct stg_phase_path *path)
{
	cJSON *o = cJSON_CreateObject(), *sync = cJSON_CreateObject();

	put_path(r, o, "source_path", path->source);
	put_path(r, o, "target_path", path->target);
	put_str(r, sync, "step", r->phase_name);
	put(r, sync, "return_code", cJSON_CreateNull());
	put_seconds(r, sync, "duration_sec", 0);
	put_str(r, sync, "output_tail", "");
	put(r, o, "sync", sync);
	append(r, json_get(r->phase, "paths"), o);
}

static void finish_phase(struct stg_report *r, const struct stg_phase_result *res);

const char *stg_report_begin_phase(struct stg_report *r, const struct stg_phase_opts *o)
{
	cJSON *phase;

	pthread_mutex_lock(&r->lock);
	if (r->phase)
		finish_phase(r, &(struct stg_phase_result){ .run_state = STG_RUN_INTERRUPTED,
							    .exit_code = 20 });
	limit_phases(r->phases);
	name_phase(r, o->kind);
	r->kind = o->kind;
	r->stats = (struct stg_phase_stats){ 0 };
	r->phase_mono_ns = now_mono_ns(r);

	phase = cJSON_CreateObject();
	put_str(r, phase, "phase", r->phase_name);
	put_int(r, phase, "attempt", count_attempts(r));
	put_str(r, phase, "run_id", r->run_id);
	put_str(r, phase, "tool_version", r->tool_version);
	put_str(r, phase, "run_state", run_state_names[STG_RUN_RUNNING]);
	put(r, phase, "exit_code", cJSON_CreateNull());
	put_time(r, phase, "started_at", now_s(r));
	put_null_time(r, phase, "finished_at");
	put_seconds(r, phase, "duration_sec", 0);
	put_str(r, phase, "delete_mode", delete_mode_names[o->delete_mode]);
	put(r, phase, "paths", cJSON_CreateArray());
	r->phase = phase;
	for (size_t i = 0; i < o->paths_n; i++)
		add_phase_path(r, &o->paths[i]);
	put_stats(r);
	put_sessions(r, NULL, 0);
	put(r, phase, "bandwidth", cJSON_CreateArray());
	for (size_t i = 0; i < STG_LIST_COUNT; i++) {
		struct list *l = &r->lists[i];

		l->phase_n = 0;
		l->phase_total = 0;
		put_int(r, phase, stg_report_lists[i].total, 0);
		put(r, phase, stg_report_lists[i].items, cJSON_CreateArray());
		l->phase = json_get(phase, stg_report_lists[i].items);
	}
	if (!phase || !cJSON_AddItemToArray(r->phases, phase)) {
		cJSON_Delete(phase);
		r->phase = NULL;
		r->oom = true;
		for (size_t i = 0; i < STG_LIST_COUNT; i++)
			r->lists[i].phase = NULL;
	}
	pthread_mutex_unlock(&r->lock);
	return r->phase_name;
}

void stg_report_set_stats(struct stg_report *r, const struct stg_phase_stats *s,
			  const struct stg_session_stats *sessions, size_t sessions_n)
{
	pthread_mutex_lock(&r->lock);
	if (r->phase) {
		r->stats = *s;
		put_stats(r);
		put_sessions(r, sessions, sessions_n);
	}
	pthread_mutex_unlock(&r->lock);
}

void stg_report_add_bandwidth(struct stg_report *r, uint64_t bytes_per_s, const char *window)
{
	cJSON *o, *array;

	pthread_mutex_lock(&r->lock);
	array = r->phase ? json_get(r->phase, "bandwidth") : NULL;
	if (array) {
		o = cJSON_CreateObject();
		put_time(r, o, "since", now_s(r));
		put(r, o, "limit_bytes_per_s", bytes_per_s ? cJSON_CreateNumber((double)bytes_per_s) :
							     cJSON_CreateNull());
		put(r, o, "window", window ? cJSON_CreateString(window) : cJSON_CreateNull());
		append(r, array, o);
		if (cJSON_GetArraySize(array) > STG_REPORT_LIMITS_MAX)
			cJSON_DeleteItemFromArray(array, 0);
	}
	pthread_mutex_unlock(&r->lock);
}

void stg_report_set_delete_mode(struct stg_report *r, enum stg_delete_mode mode)
{
	pthread_mutex_lock(&r->lock);
	if (r->phase)
		put_str(r, r->phase, "delete_mode", delete_mode_names[mode]);
	pthread_mutex_unlock(&r->lock);
}

void stg_report_set_path_result(struct stg_report *r, size_t i,
				const struct stg_hook_result *h, const char *warning)
{
	cJSON *path, *sync;

	pthread_mutex_lock(&r->lock);
	path = r->phase ? cJSON_GetArrayItem(json_get(r->phase, "paths"), (int)i) : NULL;
	sync = path ? json_get(path, "sync") : NULL;
	if (sync) {
		put_hook(r, sync, h);
		if (warning)
			put_str(r, sync, "warning", warning);
	}
	pthread_mutex_unlock(&r->lock);
}

/* The last words of a phase that had none: what old readers show to people. */
static void summary(const struct stg_report *r, char *out, size_t max)
{
	char sent[32], matched[32];
	const struct stg_phase_stats *s = &r->stats;

	text_size(sent, s->bytes_literal);
	text_size(matched, s->bytes_matched);
	snprintf(out, max,
		 "%llu entries scanned, %llu changed, %llu deleted, %llu errors; %s sent, %s "
		 "found on the target",
		 (unsigned long long)s->entries_scanned, (unsigned long long)s->entries_changed,
		 (unsigned long long)s->entries_deleted,
		 (unsigned long long)r->lists[STG_LIST_ERRORS].phase_total, sent, matched);
}

static void put_path_results(struct stg_report *r, const struct stg_phase_result *res)
{
	static const char *const warnings[] = {
		[0] = "some entries could not be transferred; they are listed in errors",
		[1] = "some source files vanished while they were being read",
	};
	const char *warning = res->warning;
	char text[256];
	cJSON *p;

	summary(r, text, sizeof(text));
	if (!warning && res->run_state == STG_RUN_PARTIAL)
		warning = warnings[res->exit_code == 24];
	cJSON_ArrayForEach(p, json_get(r->phase, "paths")) {
		cJSON *sync = json_get(p, "sync");

		/* Already given by stg_report_set_path_result(). */
		if (!sync || !cJSON_IsNull(json_get(sync, "return_code")))
			continue;
		put_int(r, sync, "return_code", res->exit_code);
		put_seconds(r, sync, "duration_sec", phase_seconds(r));
		put_tail(r, sync, res->output_tail.n ? res->output_tail : bytes_str(text));
		if (warning)
			put_str(r, sync, "warning", warning);
	}
}

static void finish_phase(struct stg_report *r, const struct stg_phase_result *res)
{
	put_str(r, r->phase, "run_state", run_state_names[res->run_state]);
	put_int(r, r->phase, "exit_code", res->exit_code);
	put_time(r, r->phase, "finished_at", now_s(r));
	put_seconds(r, r->phase, "duration_sec", phase_seconds(r));
	put_stats(r);
	put_path_results(r, res);
	if (res->run_state == STG_RUN_SUCCEEDED || res->run_state == STG_RUN_PARTIAL)
		put_str(r, r->root, "state", phase_kinds[r->kind].state);
	r->phase = NULL;
	for (size_t i = 0; i < STG_LIST_COUNT; i++)
		r->lists[i].phase = NULL;
	if (r->o.incremental_rounds < 0)
		put_int(r, r->root, "incremental_rounds", finished_rounds(r));
}

void stg_report_finish_phase(struct stg_report *r, const struct stg_phase_result *res)
{
	pthread_mutex_lock(&r->lock);
	if (r->phase)
		finish_phase(r, res);
	pthread_mutex_unlock(&r->lock);
}

/* ---- errors, steps, sections ---- */

static void add_to_list(struct stg_report *r, enum stg_list_kind kind, cJSON *array, size_t *n,
			const struct stg_report_item *item)
{
	cJSON *o;

	if (!array || *n >= STG_REPORT_LIST_MAX)
		return;
	o = cJSON_CreateObject();
	if (r->phase)
		put_str(r, o, "phase", r->phase_name);
	if (item->path.p)
		put_path(r, o, "path", item->path.n ? item->path : bytes_str("."));
	if (kind == STG_LIST_ERRORS) {
		put_str(r, o, "operation", item->operation);
		put(r, o, "errno",
		    item->code ? cJSON_CreateString(err_name(abs(item->code))) :
				 cJSON_CreateNull());
	}
	put_str(r, o, "message", item->message);
	append(r, array, o);
	(*n)++;
}

static void add_item(struct stg_report *r, enum stg_list_kind kind,
		     const struct stg_report_item *item)
{
	struct list *l = &r->lists[kind];

	pthread_mutex_lock(&r->lock);
	add_to_list(r, kind, l->run, &l->run_n, item);
	put_int(r, r->root, stg_report_lists[kind].total, (int64_t)++l->run_total);
	if (r->phase) {
		add_to_list(r, kind, l->phase, &l->phase_n, item);
		put_int(r, r->phase, stg_report_lists[kind].total, (int64_t)++l->phase_total);
	}
	pthread_mutex_unlock(&r->lock);
}

void stg_report_add_error(struct stg_report *r, const struct stg_report_item *item)
{
	add_item(r, STG_LIST_ERRORS, item);
}

void stg_report_add_live_file(struct stg_report *r, const struct stg_report_item *item)
{
	add_item(r, STG_LIST_LIVE, item);
}

uint64_t stg_report_errors_total(struct stg_report *r)
{
	uint64_t n;

	pthread_mutex_lock(&r->lock);
	n = r->lists[STG_LIST_ERRORS].run_total;
	pthread_mutex_unlock(&r->lock);
	return n;
}

void stg_report_add_hook(struct stg_report *r, const struct stg_hook_result *h)
{
	cJSON *o = cJSON_CreateObject();

	pthread_mutex_lock(&r->lock);
	put_hook(r, o, h);
	put_str(r, o, "run_id", r->run_id);
	if (r->phase)
		put_str(r, o, "phase", r->phase_name);
	append(r, r->hooks, o);
	if (cJSON_GetArraySize(r->hooks) > STG_REPORT_HOOKS_MAX)
		cJSON_DeleteItemFromArray(r->hooks, 0);
	pthread_mutex_unlock(&r->lock);
}

void stg_report_set_step(struct stg_report *r, enum stg_report_step which,
			 const struct stg_hook_result *h)
{
	cJSON *o = cJSON_CreateObject();

	pthread_mutex_lock(&r->lock);
	put_hook(r, o, h);
	put(r, r->root, step_names[which], o);
	pthread_mutex_unlock(&r->lock);
}

int stg_report_set_section(struct stg_report *r, enum stg_report_section which,
			   struct bytes json, struct err *e)
{
	cJSON *v = stg_report_parse(json);
	bool ok = which == STG_SECTION_CHECKPOINTS ? stg_report_all_objects(v) : cJSON_IsObject(v);

	if (!ok) {
		cJSON_Delete(v);
		return err_set(e, -EINVAL, "report section %s: not the JSON it should be",
			       section_names[which]);
	}
	pthread_mutex_lock(&r->lock);
	put(r, r->root, section_names[which], v);
	pthread_mutex_unlock(&r->lock);
	return 0;
}

void stg_report_finish(struct stg_report *r, enum stg_run_state state, int exit_code)
{
	pthread_mutex_lock(&r->lock);
	if (r->phase)
		finish_phase(r, &(struct stg_phase_result){ .run_state = state,
							    .exit_code = exit_code });
	put_str(r, r->root, "run_state", run_state_names[state]);
	put_int(r, r->root, "exit_code", exit_code);
	put_time(r, r->root, "finished_at", now_s(r));
	pthread_mutex_unlock(&r->lock);
}

/* ---- saving ---- */

/* The report as text, freed by the caller; NULL when it could not be made whole. */
static char *print(struct stg_report *r, const char *previous)
{
	char *text;

	pthread_mutex_lock(&r->lock);
	put_time(r, r->root, "generated_at", now_s(r));
	put_local_time(r, r->root, "generated_at_local", now_s(r));
	if (previous)
		put_str(r, r->root, "previous_sha256", previous);
	if (r->phase)
		put_seconds(r, r->phase, "duration_sec", phase_seconds(r));
	text = r->oom ? NULL : cJSON_Print(r->root);
	pthread_mutex_unlock(&r->lock);
	return text;
}

static int save(struct stg_report *r, const char *previous, char ret_sha256[65], struct err *e)
{
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	char *text = print(r, previous);
	int rc = text ? 0 : -ENOMEM;

	if (rc == 0)
		rc = buf_put_bytes(&out, bytes_str(text));
	if (rc == 0)
		rc = buf_put_u8(&out, '\n');
	cJSON_free(text);
	if (rc < 0)
		return err_set(e, rc, "write report %s: out of memory", r->name);
	rc = io_replace_file(r->o.dirfd, r->name, buf_view(&out), r->o.mode ? r->o.mode : 0640, e);
	if (rc < 0)
		return err_ctx(e, rc, "write report");
	if (ret_sha256)
		sha256_hex(ret_sha256, buf_view(&out));
	r->saved = true;
	r->saved_mono_ns = now_mono_ns(r);
	return 0;
}

int stg_report_save(struct stg_report *r, const char *previous_sha256, char ret_sha256[65],
		    struct err *e)
{
	int rc;

	pthread_mutex_lock(&r->save_lock);
	rc = save(r, previous_sha256, ret_sha256, e);
	pthread_mutex_unlock(&r->save_lock);
	return rc;
}

int stg_report_tick(struct stg_report *r, struct err *e)
{
	int rc = 0;

	/* A save that is under way does for this tick. */
	if (pthread_mutex_trylock(&r->save_lock) != 0)
		return 0;
	if (!r->saved || now_mono_ns(r) - r->saved_mono_ns >= 1000000000) {
		rc = save(r, NULL, NULL, e);
		rc = rc < 0 ? rc : 1;
	}
	pthread_mutex_unlock(&r->save_lock);
	return rc;
}
