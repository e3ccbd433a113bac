/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What config/option.h asks of a program: values of our own kinds, filter rules of phases in the
 * config file, and what depends on more than one option (resolve()).
 */
#include "stager/options.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/nearest.h"
#include "common/text.h"
#include "config/jsonc.h"
#include "stager/option_parts.h"

#define COMMANDS_MAX 64 /* rows of the table in main.c, the last one too */

static struct stg_option_parse *own_of(const struct cfg_parse *c)
{
	return c->base;
}

/* ---- values ---- */

/* -F once reads .rsync-filter in each directory, twice hides these files; more adds nothing. */
static int per_dir_add(struct stg_option_parse *p, struct stg_filter_args *to, const char *origin,
		       struct err *e)
{
	static const char *const rules[] = { ": /.rsync-filter", "- .rsync-filter" };

	if (p->per_dir >= ARRAY_SIZE(rules))
		return 0;
	return stg_option_filters_add(to, STG_FILTER_RULE, rules[p->per_dir++], origin,
				      e);
}

static int apply_result_dir(struct cfg_parse *c, const char *text, const char **ret,
			    struct err *e)
{
	const char *slash = strrchr(text, '/');
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%.*s" STG_REPORT_NAME, slash ? (int)(slash - text + 1) : 0,
		     text) < 0) {
		path = NULL;
		return cfg_no_memory(e);
	}
	return cfg_own(c, path, strlen(path), ret, e);
}

/* The config file adds only what -F on the command line has not said already. */
static int apply_per_dir(struct stg_option_parse *p, const struct cfg_row *row,
			 enum cfg_level level, const char *text, const char *origin,
			 bool again, struct err *e)
{
	int v = 0, r;

	if (level == CFG_LEVEL_ARGV) {
		if (!again)
			p->per_dir = 0;
		return per_dir_add(p, &p->argv_filters, origin, e);
	}
	r = cfg_number_value(row, text, &v, e);
	while (r == 0 && p->per_dir < (unsigned)v)
		r = per_dir_add(p, &p->config_filters, origin, e);
	return r;
}

static int apply(struct cfg_parse *c, const struct cfg_row *row, enum cfg_level level,
		 const char *text, const char *origin, bool again, struct err *e)
{
	struct stg_option_parse *p = own_of(c);
	void *field = (char *)p + row->off;
	int r = 0;

	switch ((enum type)row->type) {
	case TYPE_CIPHER:
		r = stg_option_cipher_check(text, e);
		break;
	case TYPE_EXCLUDES:
		r = stg_option_excludes_check(row, text, e);
		break;
	case TYPE_COMMAND:
		if (*text)
			break;
		*(const char **)field = NULL;
		return 0;
	case TYPE_RATE:
		return stg_option_rate_value(text, field, e);
	case TYPE_TARGET:
		cfg_target_fini(&p->spec[level]);
		return cfg_target_parse(text, &p->spec[level], e);
	case TYPE_FILTER:
		return stg_option_filters_add(
			level == CFG_LEVEL_ARGV ? &p->argv_filters : &p->config_filters,
			(enum stg_filter_kind)row->value, text, origin, e);
	case TYPE_PER_DIR:
		return apply_per_dir(p, row, level, text, origin, again, e);
	case TYPE_PHASES: /* apply_tree() has done it */
	case TYPE_WINDOWS:
		return 0;
	case TYPE_HOST:
		return cfg_target_host(text, &p->env_host, e);
	case TYPE_USER:
		return cfg_target_user(text, &p->env_user, e);
	case TYPE_RESULT_DIR:
		return apply_result_dir(c, text, field, e);
	case TYPE_PATHS:
		if (!again)
			strlist_fini(field);
		return strlist_add_csv(field, text) < 0 ? cfg_no_memory(e) : 0;
	}
	return r < 0 ? r : cfg_own(c, text, strlen(text), field, e);
}

/* ---- config file ---- */

/* The value of the key row, or an element of it, in the object of a phase. */
static int apply_phase_value(struct cfg_parse *c, const struct cfg_jsonc *d,
			     const struct cfg_row *row, enum stg_phase_kind kind,
			     const cJSON *v, struct err *e)
{
	_cleanup_free_ char *origin = NULL;
	int r;

	if (asprintf(&origin, "%s: line %u", c->config,
		     cfg_jsonc_value_pos(d, v).line) < 0) {
		origin = NULL;
		return cfg_no_memory(e);
	}
	if (!cJSON_IsString(v))
		r = cfg_wrong_shape(row, v, e);
	else if (!*v->valuestring)
		r = err_set(e, -ERR_USAGE, "the value is empty");
	else
		return stg_option_filters_add(&own_of(c)->o.phase_filters[kind],
					      (enum stg_filter_kind)row->value,
					      v->valuestring, origin, e);
	return cfg_jsonc_ctx(d, v, err_ctx(e, r, "%s", row->key), e);
}

static int apply_phase_member(struct cfg_parse *c, const struct cfg_jsonc *d,
			      enum stg_phase_kind kind, const cJSON *v, struct err *e)
{
	struct nearest near = { .word = v->string };
	const struct cfg_row *row = NULL;
	const cJSON *element;
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(stg_option_rows); i++) {
		if (stg_option_rows[i].type != TYPE_FILTER)
			continue;
		nearest_try(&near, stg_option_rows[i].key);
		if (!strcmp(stg_option_rows[i].key, v->string))
			row = &stg_option_rows[i];
	}
	if (!row)
		return cfg_unknown_name(c, d, v, "key of a phase", &near, e);
	if (!cJSON_IsArray(v))
		return apply_phase_value(c, d, row, kind, v, e);
	cJSON_ArrayForEach(element, v)
	{
		r = apply_phase_value(c, d, row, kind, element, e);
		if (r < 0)
			break;
	}
	return r;
}

/* "phases": { "full": { "filter": [...] }, ... } */
static int apply_phases(struct cfg_parse *c, const struct cfg_jsonc *d, const struct cfg_row *row,
			const cJSON *v, struct err *e)
{
	const cJSON *phase, *member;
	int r = cfg_want_object(d, row->key, v, e);

	if (r < 0)
		return r;
	cJSON_ArrayForEach(phase, v)
	{
		struct nearest near = { .word = phase->string };
		const struct cfg_word *w = row->words;

		for (const struct cfg_word *k = row->words; k->name; k++)
			nearest_try(&near, k->name);
		while (w->name && strcmp(w->name, phase->string) != 0)
			w++;
		if (!w->name)
			return cfg_unknown_name(c, d, phase, "phase", &near, e);
		r = cfg_want_object(d, w->name, phase, e);
		if (r < 0)
			return r;
		cJSON_ArrayForEach(member, phase)
		{
			r = apply_phase_member(c, d, (enum stg_phase_kind)w->value,
					       member, e);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int apply_tree(struct cfg_parse *c, const struct cfg_jsonc *d, const struct cfg_row *row,
		      const cJSON *v, struct err *e)
{
	return row->type == TYPE_WINDOWS ? stg_option_windows(c, d, row, v, e) :
					   apply_phases(c, d, row, v, e);
}

static int check_limits(struct cfg_parse *c, const struct cfg_jsonc *d, struct err *e)
{
	const cJSON *root = cfg_jsonc_root(d);
	const cJSON *mb = cJSON_GetObjectItemCaseSensitive(root, "bandwidth_limit_mb");

	(void)c;
	if (!mb || !cJSON_GetObjectItemCaseSensitive(root, "bwlimit"))
		return 0;
	return cfg_jsonc_ctx(
		d, mb,
		err_set(e, -ERR_USAGE,
			"bwlimit and bandwidth_limit_mb are both given: keep one"),
		e);
}

/* ---- what depends on more than one option ---- */

static int copy(const char *s, char **ret, struct err *e)
{
	char *c = strdup(s);

	if (!c)
		return cfg_no_memory(e);
	free(*ret);
	*ret = c;
	return 0;
}

/* The port is said by --port and by a SPEC; who speaks from the higher level wins. */
static int resolve_port(struct cfg_parse *c, enum cfg_level spec_level, struct err *e)
{
	struct stg_option_parse *p = own_of(c);
	enum cfg_level port_level = cfg_level_of(c, "port");
	unsigned *port = &p->o.target.port;
	unsigned spec = p->spec[spec_level].port;

	if (!spec)
		return 0;
	if (port_level == spec_level && spec != *port)
		return err_set(
			e, -ERR_USAGE,
			"%s the target's URL says port %u and %s says %u: keep one",
			spec_level == CFG_LEVEL_ARGV ? "command line:" : "config file:", spec,
			spec_level == CFG_LEVEL_ARGV ? "--port" : "the key port", *port);
	if (spec_level > port_level)
		*port = spec;
	return 0;
}

/*
 * A SPEC of the command line stands as it is, a user it leaves open excepted.  Else the
 * variables replace host and user of the config file's, and without one the root is /, where
 * the variables' earlier users had it.
 */
static int resolve_target(struct cfg_parse *c, struct err *e)
{
	struct stg_option_parse *p = own_of(c);
	enum cfg_level at = p->spec[CFG_LEVEL_ARGV].host ? CFG_LEVEL_ARGV : CFG_LEVEL_CONFIG;
	struct cfg_target *spec = &p->spec[at], *t = &p->o.target;
	int r = resolve_port(c, at, e);

	if (r < 0)
		return r;
	t->user = TAKE_PTR(spec->user);
	t->host = TAKE_PTR(spec->host);
	t->root = TAKE_PTR(spec->root);
	if (p->env_host && at != CFG_LEVEL_ARGV) {
		r = copy(p->env_host, &t->host, e);
		if (r == 0 && !t->root)
			r = copy("/", &t->root, e);
	}
	if (r == 0 && p->env_user && (at != CFG_LEVEL_ARGV || !t->user))
		r = copy(p->env_user, &t->user, e);
	return r;
}

/* Three ways to say which standard list: the highest level that speaks decides. */
static void resolve_excludes(struct cfg_parse *c)
{
	struct stg_option_parse *p = own_of(c);
	struct stg_options *o = &p->o;
	enum cfg_level list = cfg_level_of(c, "excludes");
	enum cfg_level env = cfg_level_of(c, "RSYNC_EXCLUDES");
	enum cfg_level none =
		p->no_excludes ? cfg_level_of(c, "no-default-excludes") : CFG_LEVEL_NONE;

	if (none >= list || env > list)
		o->excludes = NULL;
	if (none >= env || list > env)
		strlist_fini(&o->exclude_patterns);
}

static void resolve_password(struct cfg_parse *c)
{
	struct stg_options *o = &own_of(c)->o;

	if (!o->password_env)
		return;
	if (cfg_level_of(c, "password-file") > CFG_LEVEL_ENV)
		o->password_env = NULL;
	else
		o->password_file = NULL;
}

static int normalise(const struct stg_options *o, struct strlist *l, struct err *e)
{
	struct strlist paths = { 0 };
	int r = stg_paths_normalise(o->source, l, &paths, e);

	if (r < 0)
		return r;
	strlist_fini(l);
	*l = paths;
	return 0;
}

static int resolve_source(struct cfg_parse *c, struct err *e)
{
	struct stg_options *o = &own_of(c)->o;
	_cleanup_free_ char *cwd = NULL, *path = NULL;
	int r;

	if (o->source[0] != '/') {
		cwd = getcwd(NULL, 0);
		if (!cwd)
			return err_sys(e, "find the working directory for --source");
		if (asprintf(&path, "%s/%s", cwd, o->source) < 0) {
			path = NULL;
			return cfg_no_memory(e);
		}
		r = cfg_own(c, path, strlen(path), &o->source, e);
		if (r < 0)
			return r;
	}
	return normalise(o, &o->paths, e);
}

/* Sub-trees of a verification: the source itself stands for no choice. */
static int resolve_verify(struct stg_options *o, struct err *e)
{
	size_t excludes = o->verify_exclude.n;
	int r = normalise(o, &o->verify_include, e);

	if (r < 0)
		return err_ctx(e, r, "--verify-include");
	if (excludes > STG_VERIFY_EXCLUDES_MAX)
		return err_set(e, -ERR_USAGE, "%zu paths in --verify-exclude are too many: allowed "
			       "is up to %d", excludes, STG_VERIFY_EXCLUDES_MAX);
	r = normalise(o, &o->verify_exclude, e);
	if (r < 0)
		return err_ctx(e, r, "--verify-exclude");
	if (o->verify_exclude.n && !strcmp(o->verify_exclude.v[0], "."))
		return err_set(e, -ERR_USAGE, "--verify-exclude of the source itself leaves nothing "
			       "to verify");
	if (o->verify_include.n && !strcmp(o->verify_include.v[0], "."))
		strlist_fini(&o->verify_include);
	return 0;
}

static int resolve_report(struct cfg_parse *c, struct err *e)
{
	struct stg_options *o = &own_of(c)->o;
	_cleanup_free_ char *path = NULL;

	if (o->report)
		return 0;
	if (asprintf(&path, "%s/out/" STG_REPORT_NAME, o->state_dir) < 0) {
		path = NULL;
		return cfg_no_memory(e);
	}
	return cfg_own(c, path, strlen(path), &o->report, e);
}

static int resolve(struct cfg_parse *c, struct err *e)
{
	struct stg_option_parse *p = own_of(c);
	struct stg_options *o = &p->o;
	int r;

	r = resolve_target(c, e);
	if (r < 0)
		return r;
	resolve_excludes(c);
	resolve_password(c);
	if (cfg_level_of(c, "bandwidth_limit_mb") > cfg_level_of(c, "bwlimit"))
		o->bwlimit_bytes = (uint64_t)p->limit_mb * 1000000;
	if (o->list + o->list0 + o->list_deletes > 1)
		return err_set(
			e, -ERR_USAGE,
			"of --list, --list0 and --list-deletes more than one is given: "
			"keep one");
	r = resolve_source(c, e);
	if (r == 0)
		r = resolve_verify(o, e);
	if (r < 0)
		return r;
	r = resolve_report(c, e);
	if (r < 0)
		return r;
	r = stg_option_filters_move(&o->filters, &p->argv_filters, e);
	return r < 0 ? r : stg_option_filters_move(&o->filters, &p->config_filters, e);
}

/* ---- all together ---- */

static int begin(struct cfg_parse *c, struct err *e)
{
	struct stg_option_parse *p = own_of(c);

	(void)e;
	p->o.agent_socket = cfg_env(c, "SSH_AUTH_SOCK");
	p->o.home = cfg_env(c, "HOME");
	p->o.cvsignore = cfg_env(c, "CVSIGNORE");
	p->per_dir = (unsigned)cfg_count_argv(c, TYPE_PER_DIR);
	return 0;
}

static const struct cfg_program program = {
	.name = "stager",
	.config_default = STG_CONFIG_DEFAULT,
	.page = "stager.json(5)",
	.rows = stg_option_rows,
	.n_rows = ARRAY_SIZE(stg_option_rows),
	.groups = stg_option_groups,
	.n_groups = GROUPS,
	.command_group = GROUP_PHASE,
	.begin = begin,
	.apply = apply,
	.apply_tree = apply_tree,
	.check_config = check_limits,
	.resolve = resolve,
};

int stg_options_parse(int argc, char **argv, char **envp,
		      const struct stg_command *commands, struct stg_options *ret,
		      struct err *e)
{
	struct cfg_command names[COMMANDS_MAX] = { 0 };
	struct stg_option_parse p = { 0 };
	struct cfg_parse c = { .program = &program,
			       .commands = names,
			       .base = &p,
			       .owned = &p.o.owned,
			       .args = &p.o.args,
			       .text = &p.o.text };
	int r;

	for (size_t i = 0; commands[i].name; i++) {
		assert(i + 1 < ARRAY_SIZE(names));
		names[i] = (struct cfg_command){ .name = commands[i].name,
						 .summary = commands[i].summary,
						 .takes_args = commands[i].takes_args };
	}
	r = cfg_parse(&c, argc, argv, envp, e);
	p.o.action = c.action;
	p.o.command = c.command ? &commands[c.command - names] : NULL;
	p.o.config = c.config;

	cfg_parse_fini(&c);
	for (size_t i = 0; i < CFG_LEVELS; i++)
		cfg_target_fini(&p.spec[i]);
	stg_option_filters_fini(&p.argv_filters);
	stg_option_filters_fini(&p.config_filters);
	free(p.env_host);
	free(p.env_user);
	if (r < 0) {
		stg_options_fini(&p.o);
		return r;
	}
	*ret = p.o;
	return 0;
}

void stg_options_fini(struct stg_options *o)
{
	if (!o)
		return;
	cfg_target_fini(&o->target);
	strlist_fini(&o->args);
	strlist_fini(&o->paths);
	strlist_fini(&o->exclude_patterns);
	free(o->bandwidth_windows);
	strlist_fini(&o->verify_include);
	strlist_fini(&o->verify_exclude);
	stg_option_filters_fini(&o->filters);
	for (size_t i = 0; i < STG_PHASE_KINDS; i++)
		stg_option_filters_fini(&o->phase_filters[i]);
	buf_fini(&o->text);
	strlist_fini(&o->owned);
	*o = (struct stg_options){ 0 };
}
