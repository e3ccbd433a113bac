/* SPDX-License-Identifier: Apache-2.0 */
/* What --help prints. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "config/option_parts.h"

#define HELP_COLUMN 30
#define HELP_WIDTH 80

/* Words of text from HELP_COLUMN on, the cursor being in column at; ends the line. */
static int put_wrapped(struct buf *out, size_t at, const char *text)
{
	int r = 0;

	if (at + 2 > HELP_COLUMN) {
		r = buf_printf(out, "\n");
		at = 0;
	}
	if (r == 0)
		r = buf_printf(out, "%*s", (int)(HELP_COLUMN - at), "");
	at = HELP_COLUMN;
	for (const char *p = text; *p && r == 0;) {
		size_t len = strcspn(p, " ");

		if (at > HELP_COLUMN && at + 1 + len > HELP_WIDTH) {
			r = buf_printf(out, "\n%*s", HELP_COLUMN, "");
			at = HELP_COLUMN;
		} else if (at > HELP_COLUMN) {
			r = buf_put(out, " ", 1);
			at++;
		}
		if (r == 0)
			r = buf_put(out, p, len);
		at += len;
		p += len;
		p += strspn(p, " ");
	}
	return r < 0 ? r : buf_put(out, "\n", 1);
}

static int put_row(struct buf *out, const struct cfg_row *row, const char *left,
		   bool tell_only)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	const char *s;
	int r;

	r = buf_put(&text, row->help, strlen(row->help));
	if (r == 0 && row->def)
		r = buf_printf(&text, " (default %s)", row->def);
	if (r == 0 && tell_only && row->only)
		r = buf_printf(&text, " [%s]", row->only);
	if (r < 0)
		return r;
	s = buf_cstr(&text);
	if (!s)
		return -ENOMEM;
	r = buf_printf(out, "  %s", left);
	return r < 0 ? r : put_wrapped(out, 2 + strlen(left), s);
}

static int put_options(struct buf *out, const struct cfg_parse *p,
		       const struct cfg_command *c, int group)
{
	bool titled = false;

	for (size_t i = 0; i < p->program->n_rows; i++) {
		const struct cfg_row *row = &p->program->rows[i];
		char left[96];
		int r = 0;

		if (row->group != group || (!row->name && !row->letter) ||
		    !cfg_row_exists(row, p->commands) ||
		    (c && row->only && !cfg_has_word(row->only, c->name)))
			continue;
		if (!titled)
			r = buf_printf(out, "\n%s:\n",
				       c && group == p->program->command_group
					       ? "Of this command"
					       : p->program->groups[group]);
		titled = true;
		if (row->name)
			snprintf(left, sizeof(left), "--%s%s%s", row->name,
				 row->arg ? " " : "", row->arg ? row->arg : "");
		else
			snprintf(left, sizeof(left), "-%c", row->letter);
		if (r == 0)
			r = put_row(out, row, left, !c);
		if (r < 0)
			return r;
	}
	return 0;
}

static int put_commands(struct buf *out, const struct cfg_command *commands)
{
	int r = buf_printf(out, "\nCommands:\n");

	for (const struct cfg_command *c = commands; c->name && r == 0; c++)
		r = buf_printf(out, "  %-*s%s\n", HELP_COLUMN - 2, c->name, c->summary);
	return r;
}

static int put_environment(struct buf *out, const struct cfg_parse *p)
{
	int r = buf_printf(out, "\nEnvironment (an empty variable counts as none):\n");

	for (size_t i = 0; i < p->program->n_rows && r == 0; i++) {
		const struct cfg_row *row = &p->program->rows[i];
		char text[128];

		if (!row->env || !cfg_row_exists(row, p->commands))
			continue;
		if (row->name)
			snprintf(text, sizeof(text), "--%s%s", row->name,
				 row->type == CFG_LIST ? ", comma-separated" : "");
		r = buf_printf(out, "  %s", row->env);
		if (r == 0)
			r = put_wrapped(out, 2 + strlen(row->env),
					row->name ? text : row->help);
	}
	return r;
}

int cfg_put_help(const struct cfg_parse *p, const struct cfg_command *c, struct buf *out)
{
	int r;

	r = buf_printf(out, "usage: %s [OPTIONS] %s%s\n", p->program->name,
		       c ? c->name : "COMMAND", c && c->takes_args ? " ARGUMENTS" : "");
	if (r == 0)
		r = c ? buf_printf(out, "\n%s\n", c->summary)
		      : put_commands(out, p->commands);
	for (int g = 0; g < (int)p->program->n_groups && r == 0; g++)
		r = put_options(out, p, c, g);
	if (r == 0)
		r = put_environment(out, p);
	if (r == 0)
		r = buf_printf(
			out,
			"\nThe command line wins over the environment, that over the "
			"config file;\n%s describes its keys.\n",
			p->program->page);
	return r;
}
