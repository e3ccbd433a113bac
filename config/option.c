/* SPDX-License-Identifier: Apache-2.0 */
/*
 * argv is read first, into a list of settings: it names the config file, and its mistakes come
 * before any file's.  Then the levels are applied from the weakest to the strongest, each
 * over the last; p->level remembers who spoke last, for the few options that depend on
 * each other (the program's resolve()).
 */
#include "config/option.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/nearest.h"
#include "common/text.h"
#include "config/option_parts.h"

int cfg_no_memory(struct err *e)
{
	return err_sysn(e, -ENOMEM, "options");
}

/* ---- rows and commands ---- */

bool cfg_has_word(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = words; *p;) {
		size_t len = strcspn(p, " ");

		if (len == n && !memcmp(p, word, n))
			return true;
		p += len;
		p += strspn(p, " ");
	}
	return false;
}

bool cfg_row_exists(const struct cfg_row *row, const struct cfg_command *commands)
{
	if (!row->only)
		return true;
	for (const struct cfg_command *c = commands; c->name; c++)
		if (cfg_has_word(row->only, c->name))
			return true;
	return false;
}

/* By option name, else by key, else by variable; there must be such a row. */
static size_t row_index(const struct cfg_program *program, const char *name)
{
	for (size_t i = 0; i < program->n_rows; i++) {
		const struct cfg_row *row = &program->rows[i];
		const char *known = row->name ? row->name : row->key ? row->key : row->env;

		if (known && !strcmp(known, name))
			return i;
	}
	assert(false);
	return 0;
}

enum cfg_level cfg_level_of(const struct cfg_parse *p, const char *name)
{
	return p->level[row_index(p->program, name)];
}

size_t cfg_count_argv(const struct cfg_parse *p, int type)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_set; i++)
		n += p->set[i].row->type == type;
	return n;
}

static const struct cfg_command *find_command(const struct cfg_command *commands,
					      const char *name)
{
	for (const struct cfg_command *c = commands; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

/* ---- values ---- */

int cfg_own(struct cfg_parse *p, const char *text, size_t n, const char **ret, struct err *e)
{
	if (strlist_add(p->owned, text, n) < 0)
		return cfg_no_memory(e);
	*ret = p->owned->v[p->owned->n - 1];
	return 0;
}

static int apply_list(struct strlist *l, enum cfg_level level, const char *text, bool again,
		      struct err *e)
{
	int r;

	if (!again)
		strlist_fini(l);
	r = level == CFG_LEVEL_ENV || level == CFG_LEVEL_DEFAULT
		    ? strlist_add_csv(l, text)
		    : strlist_add(l, text, strlen(text));
	return r < 0 ? cfg_no_memory(e) : 0;
}

int cfg_apply(struct cfg_parse *p, const struct cfg_row *row, enum cfg_level level,
	      const char *text, const char *origin, struct err *e)
{
	enum cfg_level *last = &p->level[row - p->program->rows];
	void *field = (char *)p->base + row->off;
	bool again = *last == level;
	int v = 0, r = 0;

	*last = level;
	if (text && !*text && !row->may_be_empty)
		return err_set(e, -ERR_USAGE, "the value is empty");
	switch (row->type) {
	case CFG_ACTION: /* parse_all() has looked */
		return 0;
	case CFG_FLAG:
		*(bool *)field = !text || !strcmp(text, "true");
		return 0;
	case CFG_NUMBER:
		r = cfg_number_value(row, text, &v, e);
		if (r == 0)
			*(int *)field = v;
		return r;
	case CFG_ENUM:
		r = cfg_word_value(row, text, &v, e);
		if (r == 0)
			*(unsigned *)field = (unsigned)v;
		return r;
	case CFG_STRING:
		return cfg_own(p, text, strlen(text), field, e);
	case CFG_LIST:
		return apply_list(field, level, text, again, e);
	case CFG_SECONDS:
		return cfg_seconds_value(row, text, field, e);
	case CFG_SECRET:
		*(const char **)field = text;
		return 0;
	default:
		return p->program->apply(p, row, level, text, origin, again, e);
	}
}

/* ---- argv ---- */

static int unknown_option(const struct cfg_parse *p, const char *arg, size_t n,
			  struct err *e)
{
	_cleanup_free_ char *word = strndup(arg, n);
	struct nearest near = { .word = word ? word + strspn(word, "-") : "" };
	char name[TEXT_NAME_MAX];
	const char *best;

	if (!word)
		return cfg_no_memory(e);
	for (size_t i = 0; i < p->program->n_rows; i++)
		if (p->program->rows[i].name &&
		    cfg_row_exists(&p->program->rows[i], p->commands))
			nearest_try(&near, p->program->rows[i].name);
	best = nearest_get(&near);
	return err_set(e, -ERR_USAGE, "unknown option %s%s%s; see --help",
		       text_name(name, bytes_str(word)), best ? ", did you mean --" : "",
		       best ? best : "");
}

static const struct cfg_row *find_long(const struct cfg_parse *p, const char *name, size_t n)
{
	for (size_t i = 0; i < p->program->n_rows; i++) {
		const struct cfg_row *row = &p->program->rows[i];

		if (row->name && strlen(row->name) == n && !memcmp(row->name, name, n) &&
		    cfg_row_exists(row, p->commands))
			return row;
	}
	return NULL;
}

static const struct cfg_row *find_letter(const struct cfg_parse *p, char letter)
{
	for (size_t i = 0; i < p->program->n_rows; i++) {
		const struct cfg_row *row = &p->program->rows[i];

		if (row->letter && row->letter == letter && cfg_row_exists(row, p->commands))
			return row;
	}
	return NULL;
}

static int unknown_command(const struct cfg_parse *p, const char *arg, struct err *e)
{
	struct nearest near = { .word = arg };
	char name[TEXT_NAME_MAX];
	const char *best;

	for (const struct cfg_command *c = p->commands; c->name; c++)
		nearest_try(&near, c->name);
	best = nearest_get(&near);
	return err_set(e, -ERR_USAGE, "unknown command '%s'%s%s%s; see --help",
		       text_name(name, bytes_str(arg)), best ? ", did you mean '" : "",
		       best ? best : "", best ? "'" : "");
}

static int take_positional(struct cfg_parse *p, const char *arg, struct err *e)
{
	char name[TEXT_NAME_MAX];

	if (!p->command) {
		p->command = find_command(p->commands, arg);
		return p->command ? 0 : unknown_command(p, arg, e);
	}
	if (!p->command->takes_args)
		return err_set(e, -ERR_USAGE, "unexpected argument '%s' after %s",
			       text_name(name, bytes_str(arg)), p->command->name);
	return strlist_add(p->args, arg, strlen(arg)) < 0 ? cfg_no_memory(e) : 0;
}

static void add_setting(struct cfg_parse *p, const struct cfg_row *row, const char *value)
{
	p->set[p->n_set++] = (struct cfg_setting){ .row = row, .value = value };
}

/* argv[*i] begins with "--"; a value in the next argument is consumed, too. */
static int take_long(struct cfg_parse *p, int argc, char **argv, int *i, struct err *e)
{
	const char *arg = argv[*i], *eq = strchr(arg, '=');
	size_t n = eq ? (size_t)(eq - arg) : strlen(arg);
	const struct cfg_row *row = find_long(p, arg + 2, n - 2);

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
static int take_letters(struct cfg_parse *p, const char *arg, struct err *e)
{
	for (const char *c = arg + 1; *c; c++) {
		const struct cfg_row *row = find_letter(p, *c);

		if (!row)
			return unknown_option(p, arg, strlen(arg), e);
		add_setting(p, row, NULL);
	}
	return 0;
}

static int scan_argv(struct cfg_parse *p, int argc, char **argv, struct err *e)
{
	size_t room = 0;
	bool only_words = false;
	int r = 0;

	for (int i = 1; i < argc; i++)
		room += strlen(argv[i]) + 1;
	p->set = calloc(room + 1, sizeof(*p->set));
	p->level = calloc(p->program->n_rows, sizeof(*p->level));
	if (!p->set || !p->level)
		return cfg_no_memory(e);
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
static int check_applies(const struct cfg_parse *p, struct err *e)
{
	const struct cfg_command *c = p->command;

	for (size_t i = 0; i < p->n_set; i++) {
		const struct cfg_row *row = p->set[i].row;
		_cleanup_(buf_fini) struct buf list = BUF_INIT;
		const char *s;

		if (!row->only || cfg_has_word(row->only, c->name))
			continue;
		for (const struct cfg_command *k = p->commands; k->name; k++)
			if (cfg_has_word(row->only, k->name) &&
			    buf_printf(&list, "%s%s", buf_len(&list) ? ", " : "", k->name) < 0)
				return cfg_no_memory(e);
		s = buf_cstr(&list);
		return s ? err_set(e, -ERR_USAGE,
				   "--%s is not an option of %s, only of: %s", row->name,
				   c->name, s)
			 : cfg_no_memory(e);
	}
	return 0;
}

static int apply_argv(struct cfg_parse *p, struct err *e)
{
	for (size_t i = 0; i < p->n_set; i++) {
		const struct cfg_setting *s = &p->set[i];
		int r = cfg_apply(p, s->row, CFG_LEVEL_ARGV, s->value, "command line", e);

		if (r < 0)
			return s->row->name ? err_ctx(e, r, "--%s", s->row->name) : r;
	}
	return 0;
}

/* ---- environment ---- */

/* Scripts export variables that they leave empty: that says nothing. */
const char *cfg_env(const struct cfg_parse *p, const char *name)
{
	size_t n = strlen(name);

	for (char **envp = p->envp; envp && *envp; envp++)
		if (!strncmp(*envp, name, n) && (*envp)[n] == '=')
			return (*envp)[n + 1] ? *envp + n + 1 : NULL;
	return NULL;
}

static int apply_env(struct cfg_parse *p, struct err *e)
{
	for (size_t i = 0; i < p->program->n_rows; i++) {
		const struct cfg_row *row = &p->program->rows[i];
		const char *v = row->env ? cfg_env(p, row->env) : NULL;
		int r;

		if (!v || !cfg_row_exists(row, p->commands))
			continue;
		r = cfg_apply(p, row, CFG_LEVEL_ENV, v, row->env, e);
		if (r < 0)
			return err_ctx(e, r, "environment variable %s", row->env);
	}
	return 0;
}

/* ---- all together ---- */

static bool wants(const struct cfg_parse *p, enum cfg_action action)
{
	for (size_t i = 0; i < p->n_set; i++)
		if (p->set[i].row->type == CFG_ACTION && p->set[i].row->value == (int)action)
			return true;
	return false;
}

static int apply_levels(struct cfg_parse *p, struct err *e)
{
	const struct cfg_program *program = p->program;
	int r = program->begin ? program->begin(p, e) : 0;

	for (size_t i = 0; i < program->n_rows && r == 0; i++)
		if (program->rows[i].def)
			r = cfg_apply(p, &program->rows[i], CFG_LEVEL_DEFAULT,
				      program->rows[i].def, "default", e);
	if (r == 0)
		r = cfg_apply_file(p, e);
	if (r == 0)
		r = apply_env(p, e);
	if (r == 0)
		r = apply_argv(p, e);
	if (r == 0 && program->resolve)
		r = program->resolve(p, e);
	return r;
}

int cfg_parse(struct cfg_parse *p, int argc, char **argv, char **envp, struct err *e)
{
	int r;

	p->envp = envp;
	r = scan_argv(p, argc, argv, e);
	if (r < 0)
		return r;
	/* Help must work where the config file does not. */
	if (wants(p, CFG_HELP)) {
		p->action = CFG_HELP;
		return cfg_put_help(p, p->command, p->text) < 0 ? cfg_no_memory(e) : 0;
	}
	if (wants(p, CFG_VERSION)) {
		p->action = CFG_VERSION;
		return buf_printf(p->text, "%s %s\n", p->program->name, STAGER_VERSION) < 0
			       ? cfg_no_memory(e)
			       : 0;
	}
	if (!p->command)
		return err_set(e, -ERR_USAGE, "no command given; see --help");
	r = check_applies(p, e);
	return r < 0 ? r : apply_levels(p, e);
}

void cfg_parse_fini(struct cfg_parse *p)
{
	free(p->set);
	free(p->level);
	p->set = NULL;
	p->level = NULL;
	p->n_set = 0;
}
