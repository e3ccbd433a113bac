/* SPDX-License-Identifier: Apache-2.0 */
/* The config key bandwidth_windows: an array of objects, each with three members. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "common/nearest.h"
#include "config/jsonc.h"
#include "stager/option_parts.h"

enum member {
	MEMBER_START,
	MEMBER_END,
	MEMBER_LIMIT,
	MEMBERS,
};

static const char *const member_names[MEMBERS] = {
	[MEMBER_START] = "start",
	[MEMBER_END] = "end",
	[MEMBER_LIMIT] = "limit_mb",
};

static int take_limit(const struct cfg_row *row, const cJSON *v, struct stg_bwwindow *w,
		      struct err *e)
{
	double mb = v->valuedouble;

	if (!cJSON_IsNumber(v) || floor(mb) != mb || mb < row->min || mb > row->max)
		return err_set(e, -ERR_USAGE, "expected a whole number from %d to %d", row->min,
			       row->max);
	w->bytes_per_s = (uint64_t)mb * STG_BWWINDOW_MB;
	return 0;
}

static int take_member(const struct cfg_row *row, enum member which, const cJSON *v,
		       struct stg_bwwindow *w, struct err *e)
{
	bool end = which == MEMBER_END;
	int r;

	if (which == MEMBER_LIMIT)
		r = take_limit(row, v, w, e);
	else if (!cJSON_IsString(v))
		r = err_set(e, -ERR_USAGE, "expected a string with a time of day, \"HH:MM\"");
	else
		r = stg_bwwindow_time(v->valuestring, end, end ? &w->end_min : &w->start_min, e);
	return r < 0 ? err_ctx(e, r, "%s", member_names[which]) : 0;
}

/* The member v of a window; the error has its place. */
static int take_named(struct cfg_parse *c, const struct cfg_jsonc *d, const struct cfg_row *row,
		      const cJSON *v, struct stg_bwwindow *w, bool seen[MEMBERS], struct err *e)
{
	struct nearest near = { .word = v->string };
	int r;

	for (int i = 0; i < MEMBERS; i++) {
		nearest_try(&near, member_names[i]);
		if (strcmp(v->string, member_names[i]) != 0)
			continue;
		seen[i] = true;
		r = take_member(row, (enum member)i, v, w, e);
		return r < 0 ? cfg_jsonc_ctx(d, v, err_ctx(e, r, "%s", row->key), e) : 0;
	}
	return cfg_unknown_name(c, d, v, "key of a window", &near, e);
}

/* What the members come to together. */
static int check_window(const struct stg_options *o, const struct stg_bwwindow *w,
			const bool seen[MEMBERS], struct err *e)
{
	char a[STG_BWWINDOW_TEXT_MAX], b[STG_BWWINDOW_TEXT_MAX];

	for (size_t i = 0; i < MEMBERS; i++)
		if (!seen[i])
			return err_set(e, -ERR_USAGE, "the window has no %s", member_names[i]);
	if (w->start_min == w->end_min % STG_DAY_MIN && w->start_min)
		return err_set(e, -ERR_USAGE,
			       "start and end are the same: a whole day is 00:00 to 24:00");
	for (size_t i = 0; i < o->bandwidth_windows_n; i++)
		if (stg_bwwindow_overlap(&o->bandwidth_windows[i], w))
			return err_set(e, -ERR_USAGE,
				       "the window %s overlaps with %s: no hour may have two limits",
				       stg_bwwindow_text(a, w),
				       stg_bwwindow_text(b, &o->bandwidth_windows[i]));
	return 0;
}

static int take_window(struct cfg_parse *c, const struct cfg_jsonc *d, const struct cfg_row *row,
		       const cJSON *v, struct err *e)
{
	struct stg_options *o = &((struct stg_option_parse *)c->base)->o;
	struct stg_bwwindow w = { 0 };
	bool seen[MEMBERS] = { false };
	const cJSON *m;
	int r = cfg_want_object(d, row->key, v, e);

	if (r < 0)
		return r;
	cJSON_ArrayForEach(m, v) {
		r = take_named(c, d, row, m, &w, seen, e);
		if (r < 0)
			return r;
	}
	r = check_window(o, &w, seen, e);
	if (r < 0)
		return cfg_jsonc_ctx(d, v, err_ctx(e, r, "%s", row->key), e);
	o->bandwidth_windows[o->bandwidth_windows_n++] = w;
	return 0;
}

int stg_option_windows(struct cfg_parse *c, const struct cfg_jsonc *d, const struct cfg_row *row,
		       const struct cJSON *v, struct err *e)
{
	struct stg_options *o = &((struct stg_option_parse *)c->base)->o;
	int n = cJSON_GetArraySize(v), r = 0;
	const cJSON *window;

	if (!cJSON_IsArray(v))
		r = err_set(e, -ERR_USAGE, "expected an array of objects, found %s", cfg_kind_of(v));
	else if (n > STG_BWWINDOWS_MAX)
		r = err_set(e, -ERR_USAGE, "%d windows are too many: allowed is up to %d", n,
			    STG_BWWINDOWS_MAX);
	if (r < 0)
		return cfg_jsonc_ctx(d, v, err_ctx(e, r, "%s", row->key), e);
	o->bandwidth_windows = calloc((size_t)n + 1, sizeof(*o->bandwidth_windows));
	if (!o->bandwidth_windows)
		return cfg_no_memory(e);
	cJSON_ArrayForEach(window, v) {
		r = take_window(c, d, row, window, e);
		if (r < 0)
			return r;
	}
	return 0;
}
