/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/history.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "common/buf.h"
#include "common/macro.h"
#include "common/text.h"
#include "stager/catalog.h"
#include "stager/hot.h"

/* The catalog's fact that holds the rows, as JSON. */
#define FACT "history"
#define COUNT_MAX 9.0e15 /* what a JSON number holds exactly */

#define FIELD(f) { #f, offsetof(struct stg_past, f) }
static const struct {
	const char *name;
	size_t off;
} counts[] = {
	FIELD(entries_scanned), FIELD(bytes_scanned), FIELD(entries_changed),
	FIELD(entries_deleted), FIELD(bytes_literal), FIELD(bytes_matched),
	FIELD(bytes_wire),
};
#undef FIELD

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "history of the passes: out of memory");
}

static void changes_fini(struct stg_changes *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free(c->v[i].path);
		free(c->v[i].path_base64);
	}
	free(c->v);
	*c = (struct stg_changes){ 0 };
}

void stg_past_fini(struct stg_past *p)
{
	changes_fini(&p->dirs);
	changes_fini(&p->files);
}

void stg_history_fini(struct stg_history *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->n; i++)
		stg_past_fini(&h->v[i]);
	h->n = 0;
}

/* ---- to text ---- */

static int put_changes(struct buf *out, const char *key, const struct stg_changes *c)
{
	int r = buf_printf(out, ",\"%s\":[", key);

	for (size_t i = 0; i < c->n && r == 0; i++) {
		const struct stg_change *v = &c->v[i];

		r = buf_printf(out, "%s{\"literal\":%llu,\"matched\":%llu,\"entries\":%llu,"
			       "\"path\":", i ? "," : "", (unsigned long long)v->count.literal,
			       (unsigned long long)v->count.matched,
			       (unsigned long long)v->count.entries);
		if (r == 0)
			r = text_json(out, bytes_str(v->path));
		if (r == 0 && v->path_base64)
			r = buf_printf(out, ",\"path_base64\":\"%s\"", v->path_base64);
		if (r == 0)
			r = buf_put_u8(out, '}');
	}
	return r ? r : buf_put_u8(out, ']');
}

static int put_past(struct buf *out, const struct stg_past *p)
{
	int r = buf_printf(out, "{\"phase\":%u,\"name\":\"%s\",\"kind\":%d,\"finished\":%s,"
			   "\"started_ms\":%lld,\"sync_ms\":%lld,\"duration_s\":%.3f,\"scan_s\":%.3f",
			   p->phase, p->name, (int)p->kind, p->finished ? "true" : "false",
			   (long long)p->started_ms, (long long)p->sync_ms, p->duration_s, p->scan_s);

	for (size_t i = 0; i < ARRAY_SIZE(counts) && r == 0; i++)
		r = buf_printf(out, ",\"%s\":%llu", counts[i].name,
			       (unsigned long long)*(const uint64_t *)(const void *)
				       ((const char *)p + counts[i].off));
	if (r == 0)
		r = put_changes(out, "dirs", &p->dirs);
	if (r == 0)
		r = put_changes(out, "files", &p->files);
	return r ? r : buf_put_u8(out, '}');
}

static int save(struct stg_catalog *c, const struct stg_history *h, struct err *e)
{
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	int r = buf_put_u8(&out, '[');

	for (size_t i = 0; i < h->n && r == 0; i++) {
		r = i ? buf_put_u8(&out, ',') : 0;
		if (r == 0)
			r = put_past(&out, &h->v[i]);
	}
	if (r == 0)
		r = buf_put_u8(&out, ']');
	if (r < 0 || !buf_cstr(&out))
		return no_memory(e);
	return stg_catalog_set(c, FACT, buf_cstr(&out), e);
}

/* ---- from text ---- */

static double number(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static uint64_t count(const cJSON *o, const char *key)
{
	double v = number(o, key);

	return v > 0 && v < COUNT_MAX ? (uint64_t)v : 0;
}

static char *string(const cJSON *o, const char *key)
{
	const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));

	return s ? strdup(s) : NULL;
}

static void get_changes(const cJSON *array, struct stg_changes *ret)
{
	int n = cJSON_GetArraySize(array);
	const cJSON *o;

	if (!cJSON_IsArray(array) || n <= 0)
		return;
	ret->v = calloc((size_t)n, sizeof(*ret->v));
	if (!ret->v)
		return;
	cJSON_ArrayForEach(o, array) {
		struct stg_change *v = &ret->v[ret->n];

		v->path = string(o, "path");
		if (!v->path || ret->n == STG_HOT_TOP) {
			free(v->path);
			break;
		}
		v->path_base64 = string(o, "path_base64");
		v->count = (struct stg_hot_count){
			.literal = count(o, "literal"),
			.matched = count(o, "matched"),
			.entries = count(o, "entries"),
		};
		ret->n++;
	}
}

/* False: it is no row. */
static bool get_past(const cJSON *o, struct stg_past *ret)
{
	const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "name"));
	double kind = number(o, "kind"), sync = number(o, "sync_ms");
	double started = number(o, "started_ms");

	if (!name || kind < 0 || kind >= STG_PHASE_KINDS || count(o, "phase") > UINT32_MAX ||
	    started > COUNT_MAX || started < -COUNT_MAX || sync > COUNT_MAX || sync < -COUNT_MAX)
		return false;
	*ret = (struct stg_past){
		.phase = (uint32_t)count(o, "phase"),
		.kind = (enum stg_phase_kind)kind,
		.finished = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "finished")),
		.started_ms = (int64_t)started,
		.sync_ms = (int64_t)sync,
		.duration_s = MAX(number(o, "duration_s"), 0.0),
		.scan_s = MAX(number(o, "scan_s"), 0.0),
	};
	snprintf(ret->name, sizeof(ret->name), "%s", name);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		*(uint64_t *)(void *)((char *)ret + counts[i].off) = count(o, counts[i].name);
	get_changes(cJSON_GetObjectItemCaseSensitive(o, "dirs"), &ret->dirs);
	get_changes(cJSON_GetObjectItemCaseSensitive(o, "files"), &ret->files);
	return true;
}

int stg_history_load(struct stg_catalog *c, struct stg_history *ret, struct err *e)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	const cJSON *o;
	cJSON *root;
	int r;

	*ret = (struct stg_history){ 0 };
	r = stg_catalog_get(c, FACT, &text, e);
	if (r <= 0)
		return r;
	root = cJSON_Parse(buf_cstr(&text));
	cJSON_ArrayForEach(o, root)
		if (ret->n < STG_HISTORY_MAX && get_past(o, &ret->v[ret->n]))
			ret->n++;
	cJSON_Delete(root);
	return 0;
}

/* ---- changing ---- */

static void remove_at(struct stg_history *h, size_t i)
{
	stg_past_fini(&h->v[i]);
	memmove(&h->v[i], &h->v[i + 1], (h->n - i - 1) * sizeof(h->v[0]));
	h->n--;
}

static void remove_phase(struct stg_history *h, uint32_t phase)
{
	for (size_t i = h->n; i > 0; i--)
		if (h->v[i - 1].phase == phase)
			remove_at(h, i - 1);
}

static int change(struct stg_catalog *c, uint32_t phase, struct stg_past *p, struct err *e)
{
	struct stg_history *h = calloc(1, sizeof(*h));
	int r = h ? stg_history_load(c, h, e) : no_memory(e);

	if (r == 0) {
		remove_phase(h, phase);
		if (p && h->n == STG_HISTORY_MAX)
			remove_at(h, 0);
		if (p) {
			h->v[h->n++] = *p;
			p->dirs = p->files = (struct stg_changes){ 0 };
		}
		r = save(c, h, e);
	}
	stg_history_fini(h);
	free(h);
	if (p)
		stg_past_fini(p);
	return r;
}

int stg_history_put(struct stg_catalog *c, struct stg_past *p, struct err *e)
{
	return change(c, p->phase, p, e);
}

int stg_history_drop(struct stg_catalog *c, uint32_t phase, struct err *e)
{
	return change(c, phase, NULL, e);
}

/* ---- from the counters ---- */

static int take_row(const struct stg_hot_row *row, struct stg_change *ret)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT, base64 = BUF_INIT;
	bool exact = text_is_utf8(row->path);
	int r;

	r = !row->path.n ? buf_put_u8(&text, '.') :
	    exact	 ? buf_put_bytes(&text, row->path) :
			   text_escape(&text, row->path);
	if (r == 0 && !exact)
		r = text_base64(&base64, row->path);
	if (r < 0 || !buf_cstr(&text) || (!exact && !buf_cstr(&base64)))
		return -ENOMEM;
	*ret = (struct stg_change){
		.path = strdup(buf_cstr(&text)),
		.path_base64 = exact ? NULL : strdup(buf_cstr(&base64)),
		.count = row->count,
	};
	return ret->path && (exact || ret->path_base64) ? 0 : -ENOMEM;
}

int stg_past_take_hot(struct stg_past *p, struct stg_hot *h, struct err *e)
{
	struct stg_changes *const lists[STG_HOT_KINDS] = {
		[STG_HOT_DIRS] = &p->dirs,
		[STG_HOT_FILES] = &p->files,
	};

	for (size_t k = 0; k < STG_HOT_KINDS; k++) {
		struct stg_hot_row rows[STG_HOT_TOP];
		size_t n = stg_hot_top(h, (enum stg_hot_kind)k, rows);

		changes_fini(lists[k]);
		if (!n)
			continue;
		lists[k]->v = calloc(n, sizeof(*lists[k]->v));
		if (!lists[k]->v)
			return no_memory(e);
		for (size_t i = 0; i < n; i++) {
			lists[k]->n++;
			if (take_row(&rows[i], &lists[k]->v[i]) < 0)
				return no_memory(e);
		}
	}
	return 0;
}
