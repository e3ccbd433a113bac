/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/io.h"
#include "common/text.h"
#include "stager/filter_parts.h"

static const char cvs_standard_list[] =
	"RCS SCCS CVS CVS.adm RCSLOG cvslog.* tags TAGS .make.state .nse_depinfo *~ #* .#* ,* "
	"_$* *$ *.old *.bak *.BAK *.orig *.rej .del-* *.a *.olb *.o *.obj *.so *.exe *.Z *.elc "
	"*.ln core .svn/ .git/ .hg/ .bzr/";

/* ---- parsing ---- */

/* One rule as it was read. */
struct parsed {
	uint32_t flags;
	struct bytes arg;
	struct bytes text;
};

static size_t line_n(struct bytes s)
{
	const uint8_t *end = s.n ? memchr(s.p, '\n', s.n) : NULL;

	return end ? (size_t)(end - s.p) : s.n;
}

static int syntax_err(const struct parser *p, struct bytes text, const char *what,
		      struct err *e)
{
	char shown[TEXT_NAME_MAX];

	/* Of a file of words, text may be all that is left: show as much as a line. */
	text_name(shown, bytes_of(text.p, line_n(text)));
	if (p->line)
		return err_set(e, -ERR_USAGE, "%s:%zu: %s: '%s'", p->origin, p->line, what,
			       shown);
	return err_set(e, -ERR_USAGE, "%s: %s: '%s'", p->origin, what, shown);
}

static char *parser_origin(const struct parser *p)
{
	char *s = NULL;

	if (!p->line)
		return strdup(p->origin);
	return asprintf(&s, "%s:%zu", p->origin, p->line) < 0 ? NULL : s;
}

static bool is_white(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static const struct rule_name {
	char tag;
	const char *name;
	uint32_t flags;
} rule_names[] = {
	{ '-', "exclude", 0 },
	{ '+', "include", F_INCLUDE },
	{ '.', "merge", F_MERGE },
	{ ':', "dir-merge", F_MERGE | F_DIR_MERGE },
	{ 'H', "hide", F_SENDER | F_SIDED },
	{ 'S', "show", F_INCLUDE | F_SENDER | F_SIDED },
	{ 'P', "protect", F_RECEIVER | F_SIDED },
	{ 'R', "risk", F_INCLUDE | F_RECEIVER | F_SIDED },
	{ '!', "clear", F_CLEAR },
};

static const struct modifier {
	char tag;
	uint32_t needs;
	uint32_t forbids;
	uint32_t sets;
} modifiers[] = {
	{ '-', F_MERGE, F_NO_PREFIX, F_NO_PREFIX },
	{ '+', F_MERGE, F_NO_PREFIX, F_NO_PREFIX | F_INCLUDE },
	{ '/', 0, 0, F_ABS },
	{ '!', 0, F_MERGE, F_NEGATE }, /* it belongs to a pattern, not to a file of them */
	{ 'C', 0, F_NO_PREFIX | F_SIDED, F_NO_PREFIX | F_WORDS | F_NO_INHERIT | F_CVS },
	{ 'e', F_MERGE, 0, F_SELF },
	{ 'n', F_MERGE, 0, F_NO_INHERIT },
	{ 'p', 0, 0, F_PERISHABLE },
	{ 'r', 0, F_SIDED, F_RECEIVER },
	{ 's', 0, F_SIDED, F_SENDER },
	{ 'w', F_MERGE, 0, F_WORDS },
	{ 'x', 0, 0, F_XATTR },
};

/* The rule's name at the front of s; *ret_n is how many bytes it and its comma take. */
static const struct rule_name *find_rule_name(struct bytes s, size_t *ret_n)
{
	for (size_t i = 0; i < ARRAY_SIZE(rule_names); i++) {
		const struct rule_name *r = &rule_names[i];
		size_t n = strlen(r->name);

		if (s.p[0] == (uint8_t)r->tag)
			n = 1;
		else if (s.n < n || memcmp(s.p, r->name, n) != 0)
			continue;
		else if (s.n > n && s.p[n] != ',' && s.p[n] != '_' && !is_white(s.p[n]))
			continue;
		*ret_n = n + (s.n > n && s.p[n] == ',');
		return r;
	}
	return NULL;
}

static const struct modifier *find_modifier(uint8_t tag, uint32_t flags)
{
	for (size_t i = 0; i < ARRAY_SIZE(modifiers); i++) {
		const struct modifier *m = &modifiers[i];

		if ((uint8_t)m->tag != tag)
			continue;
		if ((flags & m->needs) != m->needs || flags & m->forbids)
			return NULL;
		return m;
	}
	return NULL;
}

/* Name and modifiers, up to the one separator behind them. */
static int parse_prefix(const struct parser *p, struct bytes in, struct bytes *rest,
			uint32_t *flags, struct err *e)
{
	size_t i = 0;
	const struct rule_name *name = find_rule_name(in, &i);

	if (!name)
		return syntax_err(p, in, "unknown filter rule", e);
	*flags |= name->flags;
	while (!(*flags & F_CLEAR) && i < in.n && in.p[i] != ' ' && in.p[i] != '_') {
		const struct modifier *m = find_modifier(in.p[i], *flags);

		if (p->inherit & F_WORDS && is_white(in.p[i]))
			break;
		if (!m) {
			char what[64];

			snprintf(what, sizeof(what), "invalid modifier at byte %zu of filter rule",
				 i + 1);
			return syntax_err(p, in, what, e);
		}
		*flags |= m->sets;
		i++;
	}
	if (!(*flags & F_CLEAR) && i < in.n && (in.p[i] == ' ' || in.p[i] == '_'))
		i++;
	*rest = bytes_of(in.p + i, in.n - i);
	return 0;
}

static bool begins(struct bytes s, const char *with)
{
	size_t n = strlen(with);

	return s.n >= n && memcmp(s.p, with, n) == 0;
}

static size_t word_n(struct bytes s)
{
	size_t n = 0;

	while (n < s.n && !is_white(s.p[n]))
		n++;
	return n;
}

/* The first rule of in, which is not empty and moves behind it. */
static int parse_one(const struct parser *p, struct bytes *in, struct parsed *ret,
		     struct err *e)
{
	uint32_t flags = p->inherit & F_HANDED_DOWN;
	struct bytes arg = *in;
	bool lenient_clear = false;
	struct bytes text;
	int r;

	if (p->inherit & F_NO_PREFIX) {
		lenient_clear = p->inherit & F_CVS && in->p[0] == '!';
	} else if (p->old_prefixes) {
		if (begins(*in, "- ") || begins(*in, "+ ")) {
			flags &= ~(uint32_t)F_INCLUDE;
			flags |= in->p[0] == '+' ? F_INCLUDE : 0;
			arg = bytes_of(in->p + 2, in->n - 2);
		} else {
			lenient_clear = in->p[0] == '!';
		}
	} else {
		r = parse_prefix(p, *in, &arg, &flags, e);
		if (r < 0)
			return r;
	}
	if (p->inherit & F_WORDS)
		arg.n = word_n(arg);
	text = bytes_of(in->p, (size_t)(arg.p - in->p) + arg.n);
	*in = bytes_of(arg.p + arg.n, in->n - text.n);

	if (p->inherit & F_SIDES) {
		if (flags & F_SIDES)
			return syntax_err(p, text, "the rule that named this file says the "
					  "side already", e);
		flags |= p->inherit & F_SIDES;
	}
	/* Where patterns need no prefix, a lone '!' clears and "!x" is a pattern. */
	if (lenient_clear && arg.n == 1)
		flags |= F_CLEAR;
	else if (flags & F_CLEAR && arg.n)
		return syntax_err(p, text, "'clear' takes no argument", e);
	else if (flags & F_CVS && !(flags & F_MERGE) && arg.n)
		return syntax_err(p, text, "modifier 'C' takes no argument here", e);
	else if (!(flags & (F_CLEAR | F_CVS)) && !arg.n)
		return syntax_err(p, text, "filter rule ends too early", e);
	*ret = (struct parsed){ .flags = flags, .arg = arg, .text = text };
	return 0;
}

/* ---- compiling ---- */

static char *bytes_dup(struct bytes b)
{
	return strndup(b.n ? (const char *)b.p : "", b.n);
}

/* An empty rule with room for arg, text and origin set. */
static int rule_new(const struct parser *p, struct bytes text, struct bytes arg,
		    struct stg_rule **ret, struct err *e)
{
	_cleanup_(stg_filter_rule_freep) struct stg_rule *r =
		calloc(1, sizeof(*r) + arg.n + 1);

	if (!r)
		return stg_filter_no_memory(e);
	if (arg.n)
		memcpy(r->store, arg.p, arg.n);
	r->pattern = bytes_of(r->store, arg.n);
	r->text = bytes_dup(text);
	r->origin = parser_origin(p);
	if (!r->text || !r->origin)
		return stg_filter_no_memory(e);
	*ret = TAKE_PTR(r);
	return 0;
}

static bool has_any(struct bytes b, const char *set)
{
	for (size_t i = 0; i < b.n; i++)
		if (strchr(set, b.p[i]))
			return true;
	return false;
}

static size_t count_slashes(struct bytes b)
{
	size_t n = 0;

	for (size_t i = 0; i < b.n; i++)
		n += b.p[i] == '/';
	return n;
}

static void compile_wild(struct stg_rule *r)
{
	struct bytes pat = r->pattern;
	const uint8_t *two = memmem(pat.p, pat.n, "**", 2);

	r->flags |= F_WILD;
	if (!two)
		return;
	r->flags |= F_WILD2;
	if (two == pat.p)
		r->flags |= F_WILD2_START;
	if (pat.n >= 3 && memcmp(pat.p + pat.n - 3, "***", 3) == 0)
		r->flags |= F_WILD3_END;
}

/* Work out, once, what r's pattern is compared with and which part of it is literal. */
static void compile_pattern(const struct parser *p, struct stg_rule *r)
{
	bool anchored;

	if (r->pattern.n > 1 && r->pattern.p[r->pattern.n - 1] == '/') {
		r->pattern.n--;
		r->flags |= F_DIR_ONLY;
	}
	if (has_any(r->pattern, "*?["))
		compile_wild(r);
	r->slashes = count_slashes(r->pattern);
	anchored = r->pattern.n && r->pattern.p[0] == '/';
	if (anchored) {
		r->pattern = bytes_of(r->pattern.p + 1, r->pattern.n - 1);
		r->place = PLACE_WHOLE;
		if (p->anchor_here && !(r->flags & F_ABS))
			r->home = p->at->seg;
	} else if (!r->slashes && !(r->flags & F_WILD2)) {
		r->place = PLACE_NAME;
	} else if (r->flags & F_WILD2_START) {
		r->place = PLACE_WHOLE;
	} else if (r->flags & F_WILD2) {
		r->place = PLACE_ANYWHERE;
	} else {
		r->place = PLACE_TAIL;
	}
	if (anchored)
		r->slashes--;
	while (r->literal_n < r->pattern.n &&
	       !(r->flags & F_WILD && strchr("*?[\\", r->pattern.p[r->literal_n])))
		r->literal_n++;
	if (r->place == PLACE_NAME && r->flags & F_WILD && r->pattern.p[0] == '*' &&
	    !has_any(bytes_of(r->pattern.p + 1, r->pattern.n - 1), "*?[\\"))
		r->flags |= F_SUFFIX;
}

static int add_pattern(const struct parser *p, const struct parsed *in, struct err *e)
{
	_cleanup_(stg_filter_rule_freep) struct stg_rule *r = NULL;
	int rc = rule_new(p, in->text, in->arg, &r, e);

	if (rc < 0)
		return rc;
	r->flags = in->flags;
	/* What a per-directory file merges is not touched by --delete-excluded. */
	if (p->at && !p->anchor_here && !(r->flags & F_SIDES))
		r->flags |= F_SIDES;
	compile_pattern(p, r);
	if (stg_filter_list_grow(p->out) < 0)
		return stg_filter_no_memory(e);
	stg_filter_list_push(p->out, TAKE_PTR(r), p->f->delete_excluded);
	return 0;
}

struct bytes stg_filter_base_name(struct bytes path)
{
	const uint8_t *slash = path.n ? memrchr(path.p, '/', path.n) : NULL;
	size_t skip = slash ? (size_t)(slash - path.p) + 1 : 0;

	return bytes_of(path.p + skip, path.n - skip);
}

static bool slots_have(const struct slots *s, struct bytes name)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].def && bytes_eq(s->v[i].def->pattern, name))
			return true;
	return false;
}

/*
 * Only the last component names the per-directory file; a path in front of it tells from
 * where on the parents of the root are searched.
 */
static int add_dir_merge(const struct parser *p, const struct parsed *in, struct err *e)
{
	_cleanup_(stg_filter_rule_freep) struct stg_rule *r = NULL;
	struct bytes name = stg_filter_base_name(in->arg);
	struct bytes path = bytes_of(in->arg.p, in->arg.n - name.n);
	int rc;

	if (!name.n)
		return syntax_err(p, in->text, "file name expected", e);
	/* A name that is in force already is read where it was declared first. */
	if (slots_have(p->slots, name))
		return 0;
	if (p->slots->n >= STG_FILTER_SLOTS_MAX)
		return syntax_err(p, in->text, "too many per-directory files", e);
	rc = rule_new(p, in->text, name, &r, e);
	if (rc < 0)
		return rc;
	r->flags = in->flags;
	/* What a parent of the root declares is searched for from that parent on. */
	if (p->at && p->at->above_root && (!path.n || path.p[0] != '/')) {
		if (asprintf(&r->search_from, "%s%.*s", p->at->abs, (int)path.n,
			     (const char *)path.p) < 0)
			r->search_from = NULL;
	} else if (path.n) {
		r->search_from = bytes_dup(path);
	}
	if (!r->search_from && (path.n || (p->at && p->at->above_root)))
		return stg_filter_no_memory(e);
	r->slot = p->slots->n;
	if (stg_filter_list_grow(p->out) < 0 ||
	    stg_filter_slots_push(p->slots, (struct slot){ .def = r }) < 0)
		return stg_filter_no_memory(e);
	stg_filter_list_push(p->out, TAKE_PTR(r), p->f->delete_excluded);
	return 0;
}

static int parse_lines(struct parser *p, struct bytes text, struct err *e);
static int parse_words(struct parser *p, struct bytes text, struct err *e);

int stg_filter_parse_text(struct parser *p, struct bytes text, struct err *e)
{
	const uint8_t *nul = text.n ? memchr(text.p, 0, text.n) : NULL;

	p->line = 1;
	if (nul)
		return err_set(e, -ERR_USAGE, "%s: filter file has a NUL byte at offset %td",
			       p->origin, nul - text.p);
	return p->inherit & F_WORDS ? parse_words(p, text, e) : parse_lines(p, text, e);
}

int stg_filter_read_all(int fd, const char *name, struct buf *out, struct err *e)
{
	for (;;) {
		ssize_t r;

		if (buf_reserve(out, 4096) < 0)
			return stg_filter_no_memory(e);
		r = io_read_full(fd, out->p + out->n, 4096);
		if (r < 0) {
			err_sysn(e, (int)r, "read filter file %s", name);
			return -ERR_SELECT;
		}
		out->n += (size_t)r;
		if (out->n > STG_FILTER_FILE_MAX)
			return err_set(e, -ERR_SELECT, "filter file %s is larger than %u MiB",
				       name, STG_FILTER_FILE_MAX >> 20);
		if (r < 4096)
			return 0;
	}
}

int stg_filter_select_err(struct err *e, const char *what, const char *path)
{
	char shown[TEXT_NAME_MAX];

	err_sys(e, "%s filter file %s", what, text_name(shown, bytes_str(path)));
	if (e)
		e->code = -ERR_SELECT;
	return -ERR_SELECT;
}

/* Standard input by way of the filter's input: the first who wants it reads it for all. */
static int parse_input(struct parser *p, struct stg_filter_input *in, struct err *e)
{
	int r = in->read ? 0 : stg_filter_read_all(STDIN_FILENO, "-", &in->text, e);

	if (r < 0)
		return r;
	in->read = true;
	p->origin = "-";
	if (in->taken_by == p->f)
		return 0;
	in->taken_by = p->f;
	return stg_filter_parse_text(p, buf_view(&in->text), e);
}

/* A file that a rule or an option names; path "-" is standard input. */
static int parse_named_file(struct parser *p, const char *path, struct err *e)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	_cleanup_close_ int fd = -1;
	bool in = strcmp(path, "-") == 0;
	int r;

	if (in && p->f->input)
		return parse_input(p, p->f->input, e);
	if (!in) {
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (fd < 0)
			return stg_filter_select_err(e, "open", path);
	}
	r = stg_filter_read_all(in ? STDIN_FILENO : fd, path, &text, e);
	if (r < 0)
		return r;
	p->origin = path;
	return stg_filter_parse_text(p, buf_view(&text), e);
}

/* Where "merge NAME" looks; see the header for files named in per-directory files. */
static char *merge_path(const struct parser *p, struct bytes name)
{
	const char *dir = "";
	char *s = NULL;

	if (p->at && name.p[0] != '/') {
		bool here = p->at->above_root || memchr(name.p, '/', name.n);

		dir = here ? p->at->abs : p->f->root[STG_SENDER];
	}
	return asprintf(&s, "%s%.*s", dir, (int)name.n, (const char *)name.p) < 0 ? NULL : s;
}

static int merge_file(const struct parser *p, const struct parsed *in, struct err *e)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ char *from = NULL;
	struct parser sub = *p;
	int r;

	if (p->depth >= STG_FILTER_DEPTH_MAX)
		return syntax_err(p, in->text, "merge files are nested too deeply", e);
	if (p->at && bytes_eq(in->arg, bytes_str("-")))
		return syntax_err(p, in->text, "a per-directory file cannot merge standard input",
				  e);
	path = merge_path(p, in->arg);
	from = parser_origin(p);
	if (!path || !from)
		return stg_filter_no_memory(e);
	sub.depth++;
	sub.inherit = in->flags;
	sub.old_prefixes = false;
	sub.anchor_here = false;
	r = parse_named_file(&sub, path, e);
	return r == -ERR_SELECT ? err_ctx(e, r, "%s", from) : r;
}

/* A "-C" rule: the standard list, the user's own and the environment's, as one group. */
static int add_cvs(const struct parser *p, const struct parsed *in, struct err *e)
{
	struct rule_list group = { 0 };
	struct slots none = { 0 };
	struct parser sub = { .f = p->f, .out = &group, .slots = &none };
	_cleanup_free_ char *home = NULL;
	int r;

	sub.origin = "standard CVS list";
	sub.inherit = in->flags | F_PERISHABLE;
	r = parse_words(&sub, bytes_str(cvs_standard_list), e);
	if (r < 0)
		goto out;
	sub.inherit = in->flags;
	if (p->f->cvs_home) {
		if (asprintf(&home, "%s/.cvsignore", p->f->cvs_home) < 0) {
			home = NULL;
			r = stg_filter_no_memory(e);
			goto out;
		}
		sub.origin = home;
		r = access(home, F_OK) == 0 ? parse_named_file(&sub, home, e) : 0;
		if (r < 0)
			goto out;
	}
	sub.line = 0;
	sub.origin = "CVSIGNORE";
	r = parse_words(&sub, bytes_str(p->f->cvs_value ? p->f->cvs_value : ""), e);
	for (size_t i = 0; r == 0 && i < group.n; i++) {
		if (stg_filter_list_grow(p->out) < 0) {
			r = stg_filter_no_memory(e);
			break;
		}
		stg_filter_list_push(p->out, TAKE_PTR(group.v[i]), p->f->delete_excluded);
	}
out:
	stg_filter_list_fini(&group);
	return r;
}

/* Forget the list that is being read: all of it, or what this file name has gathered. */
static void clear_rules(const struct parser *p)
{
	for (size_t i = 0; i < p->out->n; i++)
		if (p->out->v[i]->flags & F_DIR_MERGE)
			p->slots->v[p->out->v[i]->slot] = (struct slot){ 0 };
	stg_filter_list_clear(p->out);
	if (p->at) {
		p->at->seg->inherited = NULL;
		p->at->seg->cleared = true;
	} else {
		p->slots->n = 0;
	}
}

static int add_merge(const struct parser *p, struct parsed *in, struct err *e)
{
	int r;

	if (!in->arg.n)
		in->arg = bytes_str(".cvsignore");
	if (in->flags & F_SELF) {
		struct parsed self = {
			.arg = stg_filter_base_name(in->arg),
			.text = in->text,
		};

		/* In a per-directory file even --delete-excluded leaves it on both sides. */
		if (p->at)
			self.flags = F_SIDES;

		r = add_pattern(p, &self, e);
		if (r < 0)
			return r;
	}
	return in->flags & F_DIR_MERGE ? add_dir_merge(p, in, e) : merge_file(p, in, e);
}

static int add_parsed(const struct parser *p, struct parsed *in, struct err *e)
{
	if (in->flags & F_CLEAR) {
		clear_rules(p);
		return 0;
	}
	if (in->flags & F_MERGE)
		return add_merge(p, in, e);
	if (in->flags & F_CVS)
		return add_cvs(p, in, e);
	return add_pattern(p, in, e);
}

static int parse_words(struct parser *p, struct bytes text, struct err *e)
{
	struct parsed one;
	int r;

	for (;;) {
		while (text.n && is_white(text.p[0])) {
			p->line += p->line && text.p[0] == '\n';
			text = bytes_of(text.p + 1, text.n - 1);
		}
		if (!text.n)
			return 0;
		r = parse_one(p, &text, &one, e);
		if (r == 0)
			r = add_parsed(p, &one, e);
		if (r < 0)
			return r;
	}
}

static int parse_line(struct parser *p, struct bytes line, struct err *e)
{
	struct parsed one;
	int r = parse_one(p, &line, &one, e);

	return r < 0 ? r : add_parsed(p, &one, e);
}

static int parse_lines(struct parser *p, struct bytes text, struct err *e)
{
	while (text.n) {
		size_t n = 0;
		int r = 0;

		while (n < text.n && text.p[n] != '\n' && text.p[n] != '\r')
			n++;
		if (n && text.p[0] != '#' && text.p[0] != ';')
			r = parse_line(p, bytes_of(text.p, n), e);
		if (r < 0)
			return r;
		if (n == text.n)
			return 0;
		/* A carriage return ends a line too, but editors do not count it as one. */
		p->line += text.p[n] == '\n';
		text = bytes_of(text.p + n + 1, text.n - n - 1);
	}
	return 0;
}

/* ---- adding rules ---- */

static struct parser global_parser(struct stg_filter *f, const char *origin)
{
	return (struct parser){
		.f = f,
		.out = &f->rules,
		.slots = &f->slots,
		.origin = origin,
	};
}

int stg_filter_add_rule(struct stg_filter *f, const char *rule, const char *origin,
			struct err *e)
{
	struct parser p = global_parser(f, origin);

	return *rule ? parse_line(&p, bytes_str(rule), e) : 0;
}

static int add_old(struct stg_filter *f, const char *pattern, uint32_t flags,
		   const char *origin, struct err *e)
{
	struct parser p = global_parser(f, origin);

	p.old_prefixes = true;
	p.inherit = flags;
	return *pattern ? parse_line(&p, bytes_str(pattern), e) : 0;
}

int stg_filter_add_exclude(struct stg_filter *f, const char *pattern, const char *origin,
			   struct err *e)
{
	return add_old(f, pattern, 0, origin, e);
}

int stg_filter_add_include(struct stg_filter *f, const char *pattern, const char *origin,
			   struct err *e)
{
	return add_old(f, pattern, F_INCLUDE, origin, e);
}

int stg_filter_add_file(struct stg_filter *f, const char *path, bool include,
			const char *origin, struct err *e)
{
	struct parser p = global_parser(f, origin);
	int r;

	p.old_prefixes = true;
	p.inherit = include ? F_INCLUDE : 0;
	r = parse_named_file(&p, path, e);
	return r == -ERR_SELECT ? err_ctx(e, r, "%s", origin) : r;
}

int stg_filter_add_dash_f(struct stg_filter *f, const char *origin, struct err *e)
{
	static const char *const rules[] = { ": /.rsync-filter", "- .rsync-filter" };

	if (f->dash_f == ARRAY_SIZE(rules))
		return 0;
	return stg_filter_add_rule(f, rules[f->dash_f++], origin, e);
}
