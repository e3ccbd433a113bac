/* SPDX-License-Identifier: Apache-2.0 */
/*
 * argv is read first, into a list of settings: it names the config file, and its mistakes come
 * before any file's.  Then the levels are applied from the weakest to the strongest, each
 * over the last; p->level remembers who spoke last, for the few options that depend on
 * each other (resolve()).
 */
#include "stager/options.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "stager/jsonc.h"
#include "stager/option_parts.h"


enum level {
	LEVEL_NONE,
	LEVEL_DEFAULT,
	LEVEL_CONFIG,
	LEVEL_ENV,
	LEVEL_ARGV,
	LEVELS,
};

/* One setting of argv. */
struct setting {
	const struct row *row;
	const char *value; /* NULL: takes none */
};

struct parse {
	const struct stg_command *commands;
	struct stg_options *o;
	struct setting *set;
	size_t n_set;
	enum level level[ARRAY_SIZE(stg_option_rows)];
	struct stg_target spec[LEVELS];
	struct stg_filter_args argv_filters;
	struct stg_filter_args config_filters;
	unsigned per_dir; /* how often -F was given so far */
	bool no_excludes;
	int limit_mb;
	char *env_host;
	char *env_user;
};

/* ---- values ---- */

static const struct stg_command *find_command(const struct stg_command *commands,
					      const char *name)
{
	for (const struct stg_command *c = commands; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

static enum level level_of(const struct parse *p, const char *name)
{
	return p->level[stg_option_row_index(name)];
}

static int own(struct stg_options *o, const char *text, size_t n, const char **ret,
	       struct err *e)
{
	if (stg_strlist_add(&o->owned, text, n) < 0)
		return stg_option_no_memory(e);
	*ret = o->owned.v[o->owned.n - 1];
	return 0;
}

/* -F once reads .rsync-filter in each directory, twice hides these files; more adds nothing. */
static int per_dir_add(struct parse *p, struct stg_filter_args *to, const char *origin,
		       struct err *e)
{
	static const char *const rules[] = { ": /.rsync-filter", "- .rsync-filter" };

	if (p->per_dir >= ARRAY_SIZE(rules))
		return 0;
	return stg_option_filters_add(to, STG_FILTER_RULE, rules[p->per_dir++], origin,
				      e);
}

static void *field_of(struct parse *p, const struct row *row)
{
	if (row->off == SIZE_MAX)
		return &p->limit_mb;
	if (row->type == TYPE_FLAG && !strcmp(row->name, "no-default-excludes"))
		return &p->no_excludes;
	return (char *)p->o + row->off;
}

/* Apply one value; text is NULL for what takes none.  The error does not say who asked. */
static int apply(struct parse *p, const struct row *row, enum level level,
		 const char *text, const char *origin, struct err *e)
{
	enum level *last = &p->level[row - stg_option_rows];
	void *field = field_of(p, row);
	bool again = *last == level;
	int v = 0, r = 0;

	*last = level;
	if (text && !*text && row->type != TYPE_COMMAND)
		return err_set(e, -ERR_USAGE, "the value is empty");
	switch (row->type) {
	case TYPE_ACTION:
		p->o->action = (enum stg_action)row->value;
		return 0;
	case TYPE_FLAG:
		*(bool *)field = !text || !strcmp(text, "true");
		return 0;
	case TYPE_NUMBER:
		r = stg_option_number_value(row, text, &v, e);
		if (r == 0)
			*(int *)field = v;
		return r;
	case TYPE_ENUM:
		r = stg_option_word_value(row, text, &v, e);
		if (r == 0)
			*(unsigned *)field = (unsigned)v;
		return r;
	case TYPE_CIPHER:
		r = stg_option_cipher_check(text, e);
		break;
	case TYPE_EXCLUDES:
		r = stg_option_excludes_check(row, text, e);
		break;
	case TYPE_STRING:
		break;
	case TYPE_COMMAND:
		if (*text)
			break;
		*(const char **)field = NULL;
		return 0;
	case TYPE_RATE:
		return stg_option_rate_value(text, field, e);
	case TYPE_LIST:
		if (!again)
			stg_strlist_fini(field);
		if (level == LEVEL_ENV)
			return stg_option_csv_add(field, text, e);
		return stg_strlist_add(field, text, strlen(text)) < 0
			       ? stg_option_no_memory(e)
			       : 0;
	case TYPE_TARGET:
		stg_target_fini(&p->spec[level]);
		return stg_target_parse(text, &p->spec[level], e);
	case TYPE_FILTER:
		return stg_option_filters_add(
			level == LEVEL_ARGV ? &p->argv_filters : &p->config_filters,
			(enum stg_filter_kind)row->value, text, origin, e);
	case TYPE_PER_DIR:
		if (level == LEVEL_ARGV)
			return per_dir_add(p, &p->argv_filters, origin, e);
		r = stg_option_number_value(row, text, &v, e);
		while (r == 0 && p->per_dir < (unsigned)v)
			r = per_dir_add(p, &p->config_filters, origin, e);
		return r;
	case TYPE_PHASES: /* apply_phases() has done it */
		return 0;
	case TYPE_HOST:
		return stg_target_host(text, &p->env_host, e);
	case TYPE_USER:
		return stg_target_user(text, &p->env_user, e);
	case TYPE_SECRET:
		*(const char **)field = text;
		return 0;
	case TYPE_RESULT_DIR: {
		const char *slash = strrchr(text, '/');
		_cleanup_free_ char *path = NULL;

		if (asprintf(&path, "%.*s" STG_REPORT_NAME,
			     slash ? (int)(slash - text + 1) : 0, text) < 0) {
			path = NULL;
			return stg_option_no_memory(e);
		}
		return own(p->o, path, strlen(path), field, e);
	}
	}
	return r < 0 ? r : own(p->o, text, strlen(text), field, e);
}

/* ---- argv ---- */

static int unknown_option(const struct parse *p, const char *arg, size_t n, struct err *e)
{
	_cleanup_free_ char *word = strndup(arg, n);
	struct nearest near = { .word = word ? word + strspn(word, "-") : "" };
	char name[TEXT_NAME_MAX];
	const char *best;

	if (!word)
		return stg_option_no_memory(e);
	for (size_t i = 0; i < ARRAY_SIZE(stg_option_rows); i++)
		if (stg_option_rows[i].name &&
		    stg_option_row_exists(&stg_option_rows[i], p->commands))
			stg_option_nearest_try(&near, stg_option_rows[i].name);
	best = stg_option_nearest_get(&near);
	return err_set(e, -ERR_USAGE, "unknown option %s%s%s; see --help",
		       text_name(name, bytes_str(word)), best ? ", did you mean --" : "",
		       best ? best : "");
}

static const struct row *find_long(const struct parse *p, const char *name, size_t n)
{
	for (size_t i = 0; i < ARRAY_SIZE(stg_option_rows); i++)
		if (stg_option_rows[i].name && strlen(stg_option_rows[i].name) == n &&
		    !memcmp(stg_option_rows[i].name, name, n) &&
		    stg_option_row_exists(&stg_option_rows[i], p->commands))
			return &stg_option_rows[i];
	return NULL;
}

static const struct row *find_letter(const struct parse *p, char letter)
{
	for (size_t i = 0; i < ARRAY_SIZE(stg_option_rows); i++)
		if (stg_option_rows[i].letter && stg_option_rows[i].letter == letter &&
		    stg_option_row_exists(&stg_option_rows[i], p->commands))
			return &stg_option_rows[i];
	return NULL;
}

static int unknown_command(const struct parse *p, const char *arg, struct err *e)
{
	struct nearest near = { .word = arg };
	char name[TEXT_NAME_MAX];
	const char *best;

	for (const struct stg_command *c = p->commands; c->name; c++)
		stg_option_nearest_try(&near, c->name);
	best = stg_option_nearest_get(&near);
	return err_set(e, -ERR_USAGE, "unknown command '%s'%s%s%s; see --help",
		       text_name(name, bytes_str(arg)), best ? ", did you mean '" : "",
		       best ? best : "", best ? "'" : "");
}

static int take_positional(struct parse *p, const char *arg, struct err *e)
{
	struct stg_options *o = p->o;
	char name[TEXT_NAME_MAX];

	if (!o->command) {
		o->command = find_command(p->commands, arg);
		return o->command ? 0 : unknown_command(p, arg, e);
	}
	if (!o->command->takes_args)
		return err_set(e, -ERR_USAGE, "unexpected argument '%s' after %s",
			       text_name(name, bytes_str(arg)), o->command->name);
	return stg_strlist_add(&o->args, arg, strlen(arg)) < 0 ? stg_option_no_memory(e)
							       : 0;
}

static void add_setting(struct parse *p, const struct row *row, const char *value)
{
	p->set[p->n_set++] = (struct setting){ .row = row, .value = value };
}

/* argv[*i] begins with "--"; a value in the next argument is consumed, too. */
static int take_long(struct parse *p, int argc, char **argv, int *i, struct err *e)
{
	const char *arg = argv[*i], *eq = strchr(arg, '=');
	size_t n = eq ? (size_t)(eq - arg) : strlen(arg);
	const struct row *row = find_long(p, arg + 2, n - 2);

	if (!row)
		return unknown_option(p, arg, n, e);
	if (!row->arg) {
		if (eq)
			return err_set(e, -ERR_USAGE, "--%s takes no value", row->name);
		add_setting(p, row, NULL);
		return 0;
	}
	if (!eq && *i + 1 >= argc)
		return err_set(e, -ERR_USAGE, "--%s needs a value: %s", row->name,
			       row->arg);
	add_setting(p, row, eq ? eq + 1 : argv[++*i]);
	return 0;
}

/* No letter takes a value, so letters may stand together: -FF. */
static int take_letters(struct parse *p, const char *arg, struct err *e)
{
	for (const char *c = arg + 1; *c; c++) {
		const struct row *row = find_letter(p, *c);

		if (!row)
			return unknown_option(p, arg, strlen(arg), e);
		add_setting(p, row, NULL);
	}
	return 0;
}

static int scan_argv(struct parse *p, int argc, char **argv, struct err *e)
{
	size_t room = 0;
	bool only_words = false;
	int r = 0;

	for (int i = 1; i < argc; i++)
		room += strlen(argv[i]) + 1;
	p->set = calloc(room + 1, sizeof(*p->set));
	if (!p->set)
		return stg_option_no_memory(e);
	for (int i = 1; i < argc && r == 0; i++) {
		if (only_words || argv[i][0] != '-' || !argv[i][1])
			r = take_positional(p, argv[i], e);
		else if (!strcmp(argv[i], "--"))
			only_words = true;
		else if (argv[i][1] == '-')
			r = take_long(p, argc, argv, &i, e);
		else
			r = take_letters(p, argv[i], e);
	}
	return r;
}

/* Needs the command, which may stand after its options. */
static int check_applies(const struct parse *p, struct err *e)
{
	const struct stg_command *c = p->o->command;

	if (!c)
		return 0;
	for (size_t i = 0; i < p->n_set; i++) {
		const struct row *row = p->set[i].row;
		_cleanup_(buf_fini) struct buf list = BUF_INIT;
		const char *s;

		if (!row->only || stg_option_has_word(row->only, c->name))
			continue;
		for (const struct stg_command *k = p->commands; k->name; k++)
			if (stg_option_has_word(row->only, k->name) &&
			    buf_printf(&list, "%s%s", buf_len(&list) ? ", " : "",
				       k->name) < 0)
				return stg_option_no_memory(e);
		s = buf_cstr(&list);
		return s ? err_set(e, -ERR_USAGE,
				   "--%s is not an option of %s, only of: %s", row->name,
				   c->name, s)
			 : stg_option_no_memory(e);
	}
	return 0;
}

static int apply_argv(struct parse *p, struct err *e)
{
	p->per_dir = 0;
	for (size_t i = 0; i < p->n_set; i++) {
		const struct setting *s = &p->set[i];
		int r = apply(p, s->row, LEVEL_ARGV, s->value, "command line", e);

		if (r < 0)
			return s->row->name ? err_ctx(e, r, "--%s", s->row->name) : r;
	}
	return 0;
}

/* ---- environment ---- */

static const char *env_get(char **envp, const char *name)
{
	size_t n = strlen(name);

	for (; envp && *envp; envp++)
		if (!strncmp(*envp, name, n) && (*envp)[n] == '=')
			return *envp + n + 1;
	return NULL;
}

static int apply_env(struct parse *p, char **envp, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(stg_option_rows); i++) {
		const char *v = stg_option_rows[i].env
					? env_get(envp, stg_option_rows[i].env)
					: NULL;
		int r;

		/* Scripts export variables that they leave empty: that says nothing. */
		if (!v || !*v || !stg_option_row_exists(&stg_option_rows[i], p->commands))
			continue;
		r = apply(p, &stg_option_rows[i], LEVEL_ENV, v, stg_option_rows[i].env,
			  e);
		if (r < 0)
			return err_ctx(e, r, "environment variable %s",
				       stg_option_rows[i].env);
	}
	return 0;
}

/* ---- config file ---- */

static const char *kind_of(const cJSON *v)
{
	return cJSON_IsString(v)   ? "a string"
	       : cJSON_IsNumber(v) ? "a number"
	       : cJSON_IsBool(v)   ? "true or false"
	       : cJSON_IsArray(v)  ? "an array"
	       : cJSON_IsObject(v) ? "an object"
				   : "null";
}

static int wrong_type(const struct row *row, const cJSON *v, struct err *e)
{
	const char *want = "a string";

	if (row->type == TYPE_FLAG)
		want = "true or false";
	if (row->type == TYPE_LIST || row->type == TYPE_FILTER)
		want = "a string or an array of strings";
	if (row->type == TYPE_NUMBER || row->type == TYPE_PER_DIR)
		return err_set(e, -ERR_USAGE,
			       "expected a whole number from %d to %d%s, found %s",
			       row->min, row->max, row->words ? " or a string" : "",
			       cJSON_IsNumber(v) ? "a fraction" : kind_of(v));
	return err_set(e, -ERR_USAGE, "expected %s, found %s", want, kind_of(v));
}

/* The value as the command line would have it, in text where it is not a string. */
static const char *value_text(const struct row *row, const cJSON *v, char text[32])
{
	bool number = row->type == TYPE_NUMBER || row->type == TYPE_PER_DIR;

	if (row->type == TYPE_FLAG)
		return cJSON_IsBool(v) ? (cJSON_IsTrue(v) ? "true" : "false") : NULL;
	if (cJSON_IsString(v) && (!number || row->words))
		return v->valuestring;
	if (!number || !cJSON_IsNumber(v) || floor(v->valuedouble) != v->valuedouble ||
	    fabs(v->valuedouble) > 1e15)
		return NULL;
	snprintf(text, 32, "%.0f", v->valuedouble);
	return text;
}

static int apply_value(struct parse *p, const struct stg_jsonc *d, const struct row *row,
		       const cJSON *v, struct err *e)
{
	_cleanup_free_ char *origin = NULL;
	char number[32];
	const char *text = value_text(row, v, number);
	int r;

	if (asprintf(&origin, "%s: line %u", p->o->config,
		     stg_jsonc_value_pos(d, v).line) < 0) {
		origin = NULL;
		return stg_option_no_memory(e);
	}
	if (!text)
		r = wrong_type(row, v, e);
	else
		r = apply(p, row, LEVEL_CONFIG, text, origin, e);
	if (r < 0) {
		r = err_ctx(e, r, "%s", row->key);
		return stg_jsonc_ctx(d, v, r, e);
	}
	return 0;
}

/* v has a key that is none of those that were tried. */
static int unknown_name(const struct parse *p, const struct stg_jsonc *d, const cJSON *v,
			const char *what, const struct nearest *near, struct err *e)
{
	struct stg_jsonc_pos pos = stg_jsonc_key_pos(d, v);
	char name[TEXT_NAME_MAX];
	const char *best = stg_option_nearest_get(near);

	return err_set(e, -ERR_USAGE, "%s: line %u, column %u: unknown %s '%s'%s%s%s",
		       p->o->config, pos.line, pos.column, what,
		       text_name(name, bytes_str(v->string)),
		       best ? ", did you mean '" : "", best ? best : "",
		       best ? "'?" : "");
}

static int unknown_key(const struct parse *p, const struct stg_jsonc *d, const cJSON *v,
		       struct err *e)
{
	struct nearest near = { .word = v->string };

	for (size_t i = 0; i < ARRAY_SIZE(stg_option_rows); i++)
		if (stg_option_rows[i].key &&
		    stg_option_row_exists(&stg_option_rows[i], p->commands))
			stg_option_nearest_try(&near, stg_option_rows[i].key);
	return unknown_name(p, d, v, "key", &near, e);
}

/* The value of the key row, or an element of it, in the object of a phase. */
static int apply_phase_value(struct parse *p, const struct stg_jsonc *d,
			     const struct row *row, enum stg_phase_kind kind,
			     const cJSON *v, struct err *e)
{
	_cleanup_free_ char *origin = NULL;
	int r;

	if (asprintf(&origin, "%s: line %u", p->o->config,
		     stg_jsonc_value_pos(d, v).line) < 0) {
		origin = NULL;
		return stg_option_no_memory(e);
	}
	if (!cJSON_IsString(v))
		r = wrong_type(row, v, e);
	else if (!*v->valuestring)
		r = err_set(e, -ERR_USAGE, "the value is empty");
	else
		return stg_option_filters_add(&p->o->phase_filters[kind],
					      (enum stg_filter_kind)row->value,
					      v->valuestring, origin, e);
	return stg_jsonc_ctx(d, v, err_ctx(e, r, "%s", row->key), e);
}

static int apply_phase_member(struct parse *p, const struct stg_jsonc *d,
			      enum stg_phase_kind kind, const cJSON *v, struct err *e)
{
	struct nearest near = { .word = v->string };
	const struct row *row = NULL;
	const cJSON *element;
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(stg_option_rows); i++) {
		if (stg_option_rows[i].type != TYPE_FILTER)
			continue;
		stg_option_nearest_try(&near, stg_option_rows[i].key);
		if (!strcmp(stg_option_rows[i].key, v->string))
			row = &stg_option_rows[i];
	}
	if (!row)
		return unknown_name(p, d, v, "key of a phase", &near, e);
	if (!cJSON_IsArray(v))
		return apply_phase_value(p, d, row, kind, v, e);
	cJSON_ArrayForEach(element, v)
	{
		r = apply_phase_value(p, d, row, kind, element, e);
		if (r < 0)
			break;
	}
	return r;
}

static int want_object(const struct stg_jsonc *d, const char *key, const cJSON *v,
		       struct err *e)
{
	int r;

	if (cJSON_IsObject(v))
		return 0;
	r = err_set(e, -ERR_USAGE, "%s: expected an object, found %s", key, kind_of(v));
	return stg_jsonc_ctx(d, v, r, e);
}

/* "phases": { "full": { "filter": [...] }, ... } */
static int apply_phases(struct parse *p, const struct stg_jsonc *d, const struct row *row,
			const cJSON *v, struct err *e)
{
	const cJSON *phase, *member;
	int r = want_object(d, row->key, v, e);

	if (r < 0)
		return r;
	cJSON_ArrayForEach(phase, v)
	{
		struct nearest near = { .word = phase->string };
		const struct word *w = row->words;

		for (const struct word *k = row->words; k->name; k++)
			stg_option_nearest_try(&near, k->name);
		while (w->name && strcmp(w->name, phase->string) != 0)
			w++;
		if (!w->name)
			return unknown_name(p, d, phase, "phase", &near, e);
		r = want_object(d, w->name, phase, e);
		if (r < 0)
			return r;
		cJSON_ArrayForEach(member, phase)
		{
			r = apply_phase_member(p, d, (enum stg_phase_kind)w->value,
					       member, e);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int apply_member(struct parse *p, const struct stg_jsonc *d, const cJSON *v,
			struct err *e)
{
	const struct row *row = NULL;
	const cJSON *element;

	for (size_t i = 0; i < ARRAY_SIZE(stg_option_rows) && !row; i++)
		if (stg_option_rows[i].key &&
		    !strcmp(stg_option_rows[i].key, v->string) &&
		    stg_option_row_exists(&stg_option_rows[i], p->commands))
			row = &stg_option_rows[i];
	if (!row)
		return unknown_key(p, d, v, e);
	if (row->type == TYPE_PHASES)
		return apply_phases(p, d, row, v, e);
	if (!cJSON_IsArray(v) || (row->type != TYPE_LIST && row->type != TYPE_FILTER))
		return apply_value(p, d, row, v, e);
	cJSON_ArrayForEach(element, v)
	{
		int r = apply_value(p, d, row, element, e);

		if (r < 0)
			return r;
	}
	return 0;
}

static int check_limits(const struct stg_jsonc *d, struct err *e)
{
	const cJSON *root = stg_jsonc_root(d);
	const cJSON *mb = cJSON_GetObjectItemCaseSensitive(root, "bandwidth_limit_mb");

	if (!mb || !cJSON_GetObjectItemCaseSensitive(root, "bwlimit"))
		return 0;
	return stg_jsonc_ctx(
		d, mb,
		err_set(e, -ERR_USAGE,
			"bwlimit and bandwidth_limit_mb are both given: keep one"),
		e);
}

static int apply_config(struct parse *p, struct err *e)
{
	_cleanup_(stg_jsonc_freep) struct stg_jsonc *d = NULL;
	const char *named = NULL;
	const cJSON *root, *v;
	int r;

	/* The last one counts, as with every option. */
	for (size_t i = 0; i < p->n_set; i++)
		if (p->set[i].row->name && !strcmp(p->set[i].row->name, "config"))
			named = p->set[i].value;
	if (named && !*named)
		return err_set(e, -ERR_USAGE, "--config: the value is empty");
	r = stg_jsonc_read(AT_FDCWD, named ? named : STG_CONFIG_DEFAULT, &d, e);
	if (r == -ENOENT && !named)
		return 0;
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return err_ctx(e, -ERR_USAGE, "config file");
	if (!named)
		named = STG_CONFIG_DEFAULT;
	r = own(p->o, named, strlen(named), &p->o->config, e);
	if (r < 0)
		return r;

	root = stg_jsonc_root(d);
	if (!cJSON_IsObject(root)) {
		r = err_set(e, -ERR_USAGE, "expected an object, found %s", kind_of(root));
		return err_ctx(e, stg_jsonc_ctx(d, root, r, e), "config file");
	}
	cJSON_ArrayForEach(v, root)
	{
		r = apply_member(p, d, v, e);
		if (r < 0)
			return err_ctx(e, r, "config file");
	}
	r = check_limits(d, e);
	return r < 0 ? err_ctx(e, r, "config file") : 0;
}

/* ---- what depends on more than one option ---- */

static int copy(const char *s, char **ret, struct err *e)
{
	char *c = strdup(s);

	if (!c)
		return stg_option_no_memory(e);
	free(*ret);
	*ret = c;
	return 0;
}

/* The port is said by --port and by a SPEC; who speaks from the higher level wins. */
static int resolve_port(struct parse *p, enum level spec_level, struct err *e)
{
	enum level port_level = level_of(p, "port");
	unsigned *port = &p->o->target.port;
	unsigned spec = p->spec[spec_level].port;

	if (!spec)
		return 0;
	if (port_level == spec_level && spec != *port)
		return err_set(
			e, -ERR_USAGE,
			"%s the target's URL says port %u and %s says %u: keep one",
			spec_level == LEVEL_ARGV ? "command line:" : "config file:", spec,
			spec_level == LEVEL_ARGV ? "--port" : "the key port", *port);
	if (spec_level > port_level)
		*port = spec;
	return 0;
}

/*
 * A SPEC of the command line stands as it is, a user it leaves open excepted.  Else the
 * variables replace host and user of the config file's, and without one the root is /, where
 * the variables' earlier users had it.
 */
static int resolve_target(struct parse *p, struct err *e)
{
	enum level at = p->spec[LEVEL_ARGV].host ? LEVEL_ARGV : LEVEL_CONFIG;
	struct stg_target *spec = &p->spec[at], *t = &p->o->target;
	int r = resolve_port(p, at, e);

	if (r < 0)
		return r;
	t->user = TAKE_PTR(spec->user);
	t->host = TAKE_PTR(spec->host);
	t->root = TAKE_PTR(spec->root);
	if (p->env_host && at != LEVEL_ARGV) {
		r = copy(p->env_host, &t->host, e);
		if (r == 0 && !t->root)
			r = copy("/", &t->root, e);
	}
	if (r == 0 && p->env_user && (at != LEVEL_ARGV || !t->user))
		r = copy(p->env_user, &t->user, e);
	return r;
}

/* Three ways to say which standard list: the highest level that speaks decides. */
static void resolve_excludes(struct parse *p)
{
	struct stg_options *o = p->o;
	enum level list = level_of(p, "excludes"), env = level_of(p, "RSYNC_EXCLUDES");
	enum level none =
		p->no_excludes ? level_of(p, "no-default-excludes") : LEVEL_NONE;

	if (none >= list || env > list)
		o->excludes = NULL;
	if (none >= env || list > env)
		stg_strlist_fini(&o->exclude_patterns);
}

static void resolve_password(struct parse *p)
{
	struct stg_options *o = p->o;

	if (!o->password_env)
		return;
	if (level_of(p, "password-file") > LEVEL_ENV)
		o->password_env = NULL;
	else
		o->password_file = NULL;
}

static int resolve_source(struct stg_options *o, struct err *e)
{
	_cleanup_free_ char *cwd = NULL, *path = NULL;
	_cleanup_(stg_strlist_fini) struct stg_strlist paths = { 0 };
	int r;

	if (o->source[0] != '/') {
		cwd = getcwd(NULL, 0);
		if (!cwd)
			return err_sys(e, "find the working directory for --source");
		if (asprintf(&path, "%s/%s", cwd, o->source) < 0) {
			path = NULL;
			return stg_option_no_memory(e);
		}
		r = own(o, path, strlen(path), &o->source, e);
		if (r < 0)
			return r;
	}
	r = stg_paths_normalise(o->source, &o->paths, &paths, e);
	if (r < 0)
		return r;
	stg_strlist_fini(&o->paths);
	o->paths = paths;
	paths = (struct stg_strlist){ 0 };
	return 0;
}

static int resolve_report(struct parse *p, struct err *e)
{
	struct stg_options *o = p->o;
	_cleanup_free_ char *path = NULL;

	if (o->report)
		return 0;
	if (asprintf(&path, "%s/out/" STG_REPORT_NAME, o->state_dir) < 0) {
		path = NULL;
		return stg_option_no_memory(e);
	}
	return own(o, path, strlen(path), &o->report, e);
}

static int resolve(struct parse *p, struct err *e)
{
	struct stg_options *o = p->o;
	int r;

	r = resolve_target(p, e);
	if (r < 0)
		return r;
	resolve_excludes(p);
	resolve_password(p);
	if (level_of(p, "bandwidth_limit_mb") > level_of(p, "bwlimit"))
		o->bwlimit_bytes = (uint64_t)p->limit_mb * 1000000;
	if (o->list + o->list0 + o->list_deletes > 1)
		return err_set(
			e, -ERR_USAGE,
			"of --list, --list0 and --list-deletes more than one is given: "
			"keep one");
	r = resolve_source(o, e);
	if (r < 0)
		return r;
	r = resolve_report(p, e);
	if (r < 0)
		return r;
	r = stg_option_filters_move(&o->filters, &p->argv_filters, e);
	return r < 0 ? r : stg_option_filters_move(&o->filters, &p->config_filters, e);
}

/* ---- all together ---- */

static bool wants(const struct parse *p, enum stg_action action)
{
	for (size_t i = 0; i < p->n_set; i++)
		if (p->set[i].row->type == TYPE_ACTION &&
		    p->set[i].row->value == (int)action)
			return true;
	return false;
}

static int apply_levels(struct parse *p, char **envp, struct err *e)
{
	int r;

	/* The config file adds only what -F on the command line has not said already. */
	for (size_t i = 0; i < p->n_set; i++)
		p->per_dir += p->set[i].row->type == TYPE_PER_DIR;
	for (size_t i = 0; i < ARRAY_SIZE(stg_option_rows); i++) {
		r = stg_option_rows[i].def ? apply(p, &stg_option_rows[i], LEVEL_DEFAULT,
						   stg_option_rows[i].def, "default", e)
					   : 0;
		if (r < 0)
			return r;
	}
	r = apply_config(p, e);
	if (r < 0)
		return r;
	r = apply_env(p, envp, e);
	if (r < 0)
		return r;
	r = apply_argv(p, e);
	return r < 0 ? r : resolve(p, e);
}

static int parse_all(struct parse *p, int argc, char **argv, char **envp, struct err *e)
{
	struct stg_options *o = p->o;
	int r = scan_argv(p, argc, argv, e);

	if (r < 0)
		return r;
	/* Help must work where the config file does not. */
	if (wants(p, STG_ACTION_HELP)) {
		o->action = STG_ACTION_HELP;
		return stg_option_put_help(p->commands, o->command, &o->text) < 0
			       ? stg_option_no_memory(e)
			       : 0;
	}
	if (wants(p, STG_ACTION_VERSION)) {
		o->action = STG_ACTION_VERSION;
		return buf_printf(&o->text, "stager %s\n", STAGER_VERSION) < 0
			       ? stg_option_no_memory(e)
			       : 0;
	}
	if (!o->command)
		return err_set(e, -ERR_USAGE, "no command given; see --help");
	o->agent_socket = env_get(envp, "SSH_AUTH_SOCK");
	if (o->agent_socket && !*o->agent_socket)
		o->agent_socket = NULL;
	o->home = env_get(envp, "HOME");
	o->cvsignore = env_get(envp, "CVSIGNORE");
	r = check_applies(p, e);
	return r < 0 ? r : apply_levels(p, envp, e);
}

int stg_options_parse(int argc, char **argv, char **envp,
		      const struct stg_command *commands, struct stg_options *ret,
		      struct err *e)
{
	_cleanup_(stg_options_fini) struct stg_options o = { 0 };
	struct parse p = { .commands = commands, .o = &o };
	int r = parse_all(&p, argc, argv, envp, e);

	for (size_t i = 0; i < LEVELS; i++)
		stg_target_fini(&p.spec[i]);
	stg_option_filters_fini(&p.argv_filters);
	stg_option_filters_fini(&p.config_filters);
	free(p.env_host);
	free(p.env_user);
	free(p.set);
	if (r < 0)
		return r;
	*ret = o;
	o = (struct stg_options){ 0 };
	return 0;
}

void stg_options_fini(struct stg_options *o)
{
	if (!o)
		return;
	stg_target_fini(&o->target);
	stg_strlist_fini(&o->args);
	stg_strlist_fini(&o->paths);
	stg_strlist_fini(&o->exclude_patterns);
	stg_option_filters_fini(&o->filters);
	for (size_t i = 0; i < STG_PHASE_KINDS; i++)
		stg_option_filters_fini(&o->phase_filters[i]);
	buf_fini(&o->text);
	stg_strlist_fini(&o->owned);
	*o = (struct stg_options){ 0 };
}
