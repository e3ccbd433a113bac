/* SPDX-License-Identifier: Apache-2.0 */
/* The config file: a tree of objects whose leaves are the table's keys. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/nearest.h"
#include "common/text.h"
#include "config/jsonc.h"
#include "config/option_parts.h"

#define KEY_MAX 256 /* of a key with the names of the objects around it */

const char *cfg_kind_of(const cJSON *v)
{
	return cJSON_IsString(v)   ? "a string"
	       : cJSON_IsNumber(v) ? "a number"
	       : cJSON_IsBool(v)   ? "true or false"
	       : cJSON_IsArray(v)  ? "an array"
	       : cJSON_IsObject(v) ? "an object"
				   : "null";
}

int cfg_wrong_shape(const struct cfg_row *row, const cJSON *v, struct err *e)
{
	switch (cfg_shape_of(row)) {
	case CFG_BOOL:
		return err_set(e, -ERR_USAGE, "expected true or false, found %s",
			       cfg_kind_of(v));
	case CFG_TEXTS:
		return err_set(e, -ERR_USAGE,
			       "expected a string or an array of strings, found %s",
			       cfg_kind_of(v));
	case CFG_WHOLE:
		return err_set(e, -ERR_USAGE,
			       "expected a whole number from %d to %d%s, found %s",
			       row->min, row->max, row->words ? " or a string" : "",
			       cJSON_IsNumber(v) ? "a fraction" : cfg_kind_of(v));
	case CFG_DECIMAL:
		return err_set(e, -ERR_USAGE, "expected a number, found %s", cfg_kind_of(v));
	default:
		return err_set(e, -ERR_USAGE, "expected a string, found %s", cfg_kind_of(v));
	}
}

/* The value as the command line would have it, in text where it is not a string. */
static const char *value_text(const struct cfg_row *row, const cJSON *v, char text[32])
{
	enum cfg_shape shape = cfg_shape_of(row);
	bool number = shape == CFG_WHOLE || shape == CFG_DECIMAL;

	if (shape == CFG_BOOL)
		return cJSON_IsBool(v) ? (cJSON_IsTrue(v) ? "true" : "false") : NULL;
	if (cJSON_IsString(v) && (!number || row->words))
		return v->valuestring;
	if (!number || !cJSON_IsNumber(v) || fabs(v->valuedouble) > 1e15)
		return NULL;
	if (shape == CFG_WHOLE && floor(v->valuedouble) != v->valuedouble)
		return NULL;
	/* Milliseconds are the finest that any option takes. */
	snprintf(text, 32, "%.*f", shape == CFG_WHOLE ? 0 : 3, v->valuedouble);
	return text;
}

static int apply_value(struct cfg_parse *p, const struct cfg_jsonc *d,
		       const struct cfg_row *row, const cJSON *v, struct err *e)
{
	_cleanup_free_ char *origin = NULL;
	char number[32];
	const char *text = value_text(row, v, number);
	int r;

	if (asprintf(&origin, "%s: line %u", p->config, cfg_jsonc_value_pos(d, v).line) < 0) {
		origin = NULL;
		return cfg_no_memory(e);
	}
	if (!text)
		r = cfg_wrong_shape(row, v, e);
	else
		r = cfg_apply(p, row, CFG_LEVEL_CONFIG, text, origin, e);
	if (r < 0)
		return cfg_jsonc_ctx(d, v, err_ctx(e, r, "%s", row->key), e);
	return 0;
}

int cfg_unknown_name(const struct cfg_parse *p, const struct cfg_jsonc *d, const cJSON *v,
		     const char *what, const struct nearest *near, struct err *e)
{
	struct cfg_jsonc_pos pos = cfg_jsonc_key_pos(d, v);
	char name[TEXT_NAME_MAX];
	const char *best = nearest_get(near);

	return err_set(e, -ERR_USAGE, "%s: line %u, column %u: unknown %s '%s'%s%s%s",
		       p->config, pos.line, pos.column, what,
		       text_name(name, bytes_str(v->string)),
		       best ? ", did you mean '" : "", best ? best : "", best ? "'?" : "");
}

int cfg_want_object(const struct cfg_jsonc *d, const char *key, const cJSON *v,
		    struct err *e)
{
	int r;

	if (cJSON_IsObject(v))
		return 0;
	r = err_set(e, -ERR_USAGE, "%s: expected an object, found %s", key, cfg_kind_of(v));
	return cfg_jsonc_ctx(d, v, r, e);
}

/* The part of a row's key below prefix ("outer." or ""), or NULL. */
static const char *below(const struct cfg_parse *p, const struct cfg_row *row,
			 const char *prefix)
{
	size_t n = strlen(prefix);

	if (!row->key || !cfg_row_exists(row, p->commands) || strncmp(row->key, prefix, n) != 0)
		return NULL;
	return row->key + n;
}

/* Suggest the names that could stand in this object, those of inner objects without their tail. */
static int unknown_key(const struct cfg_parse *p, const struct cfg_jsonc *d,
		       const char *prefix, const cJSON *v, struct err *e)
{
	_cleanup_(strlist_fini) struct strlist names = { 0 };
	struct nearest near = { .word = v->string };

	for (size_t i = 0; i < p->program->n_rows; i++) {
		const char *name = below(p, &p->program->rows[i], prefix);

		if (!name)
			continue;
		if (strlist_add(&names, name, strcspn(name, ".")) < 0)
			return cfg_no_memory(e);
		nearest_try(&near, names.v[names.n - 1]);
	}
	return cfg_unknown_name(p, d, v, "key", &near, e);
}

static const struct cfg_row *find_key(const struct cfg_parse *p, const char *key)
{
	for (size_t i = 0; i < p->program->n_rows; i++) {
		const char *known = below(p, &p->program->rows[i], "");

		if (known && !strcmp(known, key))
			return &p->program->rows[i];
	}
	return NULL;
}

static bool is_prefix(const struct cfg_parse *p, const char *prefix)
{
	for (size_t i = 0; i < p->program->n_rows; i++)
		if (below(p, &p->program->rows[i], prefix))
			return true;
	return false;
}

static int apply_row(struct cfg_parse *p, const struct cfg_jsonc *d,
		     const struct cfg_row *row, const cJSON *v, struct err *e)
{
	const cJSON *element;

	if (row->shape == CFG_TREE)
		return p->program->apply_tree(p, d, row, v, e);
	if (!cJSON_IsArray(v) || cfg_shape_of(row) != CFG_TEXTS)
		return apply_value(p, d, row, v, e);
	cJSON_ArrayForEach(element, v)
	{
		int r = apply_value(p, d, row, element, e);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Keys have a few levels, as the table has them; the parser bounds the text's. */
static int apply_members(struct cfg_parse *p, const struct cfg_jsonc *d, const char *prefix,
			 const cJSON *object, struct err *e)
{
	const cJSON *v;

	cJSON_ArrayForEach(v, object)
	{
		char key[KEY_MAX];
		const struct cfg_row *row = NULL;
		int n = snprintf(key, sizeof(key) - 1, "%s%s", prefix, v->string);
		bool inner = false;
		int r;

		/* A dot in the file's own key must not pass for an inner one. */
		if (n > 0 && (size_t)n < sizeof(key) - 1 && !strchr(v->string, '.')) {
			row = find_key(p, key);
			if (!row) {
				key[n] = '.';
				key[n + 1] = '\0';
				inner = is_prefix(p, key);
			}
		}
		if (row) {
			r = apply_row(p, d, row, v, e);
		} else if (inner) {
			r = cfg_want_object(d, v->string, v, e);
			if (r == 0)
				r = apply_members(p, d, key, v, e);
		} else {
			r = unknown_key(p, d, prefix, v, e);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int cfg_apply_file(struct cfg_parse *p, struct err *e)
{
	_cleanup_(cfg_jsonc_freep) struct cfg_jsonc *d = NULL;
	const char *named = NULL;
	const cJSON *root;
	int r;

	/* The last one counts, as with every option. */
	for (size_t i = 0; i < p->n_set; i++)
		if (p->set[i].row->name && !strcmp(p->set[i].row->name, "config"))
			named = p->set[i].value;
	if (named && !*named)
		return err_set(e, -ERR_USAGE, "--config: the value is empty");
	r = cfg_jsonc_read(AT_FDCWD, named ? named : p->program->config_default, &d, e);
	if (r == -ENOENT && !named)
		return 0;
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return err_ctx(e, -ERR_USAGE, "config file");
	if (!named)
		named = p->program->config_default;
	r = cfg_own(p, named, strlen(named), &p->config, e);
	if (r < 0)
		return r;

	root = cfg_jsonc_root(d);
	if (!cJSON_IsObject(root)) {
		r = err_set(e, -ERR_USAGE, "expected an object, found %s", cfg_kind_of(root));
		return err_ctx(e, cfg_jsonc_ctx(d, root, r, e), "config file");
	}
	r = apply_members(p, d, "", root, e);
	if (r == 0 && p->program->check_config)
		r = p->program->check_config(p, d, e);
	return r < 0 ? err_ctx(e, r, "config file") : 0;
}
