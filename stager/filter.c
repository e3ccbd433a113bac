/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/io.h"
#include "common/text.h"
#include "stager/wildmatch.h"

/*
 * Three kinds of list make up what holds in a directory.  The global list is the filter's.
 * A per-directory merge rule in it is a reference to a slot: each slot has a file name and,
 * directory by directory, a chain of segments, one for every merge file of that name on the
 * way down, the nearest first.  A segment belongs to the node of the directory where its file
 * lies; nodes hold their parent, so what a chain refers to is alive as long as the node is.
 * A merge file may itself declare slots; these are in force below its directory only, so the
 * numbers of slots agree along every path down, which is all that references need.
 */

#define FLAG(n) (1u << (n))
enum {
	F_SENDER = FLAG(STG_SENDER),
	F_RECEIVER = FLAG(STG_RECEIVER),
	F_SIDES = F_SENDER | F_RECEIVER,
	F_INCLUDE = FLAG(2),
	F_NEGATE = FLAG(3),
	F_PERISHABLE = FLAG(4),
	F_ABS = FLAG(5), /* matched against the absolute path */
	F_XATTR = FLAG(6),
	F_DIR_ONLY = FLAG(7),

	/* for parsing */
	F_CLEAR = FLAG(8),
	F_MERGE = FLAG(9),       /* the argument is a file name */
	F_DIR_MERGE = FLAG(10),  /* ... of a file in every directory */
	F_NO_PREFIX = FLAG(11),  /* the file has patterns, no rules */
	F_WORDS = FLAG(12),      /* the file is split at white space */
	F_NO_INHERIT = FLAG(13), /* the file counts in its own directory only */
	F_SELF = FLAG(14),       /* the file itself is excluded */
	F_CVS = FLAG(15),
	F_SIDED = FLAG(16), /* the rule's name says the side */

	/* from the pattern */
	F_WILD = FLAG(17),
	F_WILD2 = FLAG(18),       /* has "**" */
	F_WILD2_START = FLAG(19), /* begins with it */
	F_WILD3_END = FLAG(20),   /* ends in "***" */
	F_SUFFIX = FLAG(21),      /* is one star and a literal end */

	/* what the rules of a file take over from the rule that named the file */
	F_HANDED_DOWN = F_INCLUDE | F_PERISHABLE | F_ABS | F_XATTR,
};

/* Which part of a path a pattern is compared with. */
enum place {
	PLACE_NAME,     /* the last component */
	PLACE_WHOLE,    /* all of it */
	PLACE_TAIL,     /* the last slashes + 1 components */
	PLACE_ANYWHERE, /* all of it, or what follows any slash */
};

struct stg_rule {
	uint32_t flags;
	enum place place;
	struct bytes pattern; /* in store, without the slashes of anchor and directory */
	size_t literal_n;     /* bytes of pattern before the first wildcard or backslash */
	size_t slashes;       /* in pattern */

	/* For an anchored rule of a per-directory file: the segment, which knows where. */
	const struct segment *home;

	/* For a per-directory merge rule; pattern is the name of the file. */
	size_t slot;
	char *search_from; /* the path part that it was given with, NULL: none */

	char *text;
	char *origin;
	char store[];
};

struct rule_list {
	struct stg_rule **v; /* all, in order */
	size_t n;
	size_t cap;         /* of each array */
	size_t n_xattr;
	struct stg_rule **side[2]; /* those that count for entries, by enum stg_side */
	size_t side_n[2];
};

struct segment {
	const struct segment *inherited; /* the next in the chain */
	struct segment *owned_next;      /* the next of the same node */
	struct rule_list rules;
	bool cleared;
	/*
	 * Where the merge file lies: base is its directory relative to the root; for a file in a
	 * parent of the root, base is empty and lead is the way from there to the root ("a/b/").
	 */
	struct bytes base;
	struct bytes lead;
	char store[];
};

struct slot {
	const struct stg_rule *def; /* NULL: cleared */
	const struct segment *rules;
};

struct slots {
	struct slot *v;
	size_t n;
	size_t cap;
};

struct stg_filter {
	struct rule_list rules;
	struct slots slots; /* as declared; rules are all NULL */
	char *root[2];      /* absolute, with a trailing slash */
	char *cvs_home;
	char *cvs_value;
	struct stg_filter_input *input; /* NULL: standard input itself */
	unsigned dash_f;
	bool delete_excluded;
};

struct stg_filter_dir {
	atomic_uint refs;
	const struct stg_filter *f;
	struct stg_filter_dir *parent;
	struct slots slots;
	struct segment *owned;
	bool changed; /* while it is built: differs from the parent */
};

static const char cvs_standard_list[] =
	"RCS SCCS CVS CVS.adm RCSLOG cvslog.* tags TAGS .make.state .nse_depinfo *~ #* .#* ,* "
	"_$* *$ *.old *.bak *.BAK *.orig *.rej .del-* *.a *.olb *.o *.obj *.so *.exe *.Z *.elc "
	"*.ln core .svn/ .git/ .hg/ .bzr/";

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory for filter rules");
}

/* ---- rules and lists ---- */

static void rule_free(struct stg_rule *r)
{
	if (!r)
		return;
	free(r->search_from);
	free(r->text);
	free(r->origin);
	free(r);
}

static void rule_freep(struct stg_rule **r)
{
	rule_free(*r);
}

static void list_clear(struct rule_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		rule_free(l->v[i]);
	l->n = 0;
	l->n_xattr = 0;
	l->side_n[STG_SENDER] = 0;
	l->side_n[STG_RECEIVER] = 0;
}

static void list_fini(struct rule_list *l)
{
	list_clear(l);
	free(l->v);
	free(l->side[STG_SENDER]);
	free(l->side[STG_RECEIVER]);
	*l = (struct rule_list){ 0 };
}

static int list_grow(struct rule_list *l)
{
	struct stg_rule ***arrays[] = { &l->v, &l->side[STG_SENDER], &l->side[STG_RECEIVER] };
	size_t cap = l->cap ? l->cap * 2 : 8;

	if (l->n < l->cap)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(arrays); i++) {
		struct stg_rule **p = reallocarray(*arrays[i], cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		*arrays[i] = p;
	}
	l->cap = cap;
	return 0;
}

static uint32_t rule_sides(const struct stg_rule *r, bool delete_excluded)
{
	if (r->flags & F_SIDES)
		return r->flags & F_SIDES;
	/* A per-directory file may hold rules that name a side, so it stays on both. */
	if (delete_excluded && !(r->flags & F_DIR_MERGE))
		return F_SENDER;
	return F_SIDES;
}

static void list_sort_in(struct rule_list *l, struct stg_rule *r, bool delete_excluded)
{
	uint32_t sides = rule_sides(r, delete_excluded);

	if (r->flags & F_XATTR && !(r->flags & F_DIR_MERGE)) {
		l->n_xattr++;
		return;
	}
	for (int side = STG_SENDER; side <= STG_RECEIVER; side++)
		if (sides & FLAG(side))
			l->side[side][l->side_n[side]++] = r;
}

/* Takes r over; room was made by list_grow(). */
static void list_push(struct rule_list *l, struct stg_rule *r, bool delete_excluded)
{
	l->v[l->n++] = r;
	list_sort_in(l, r, delete_excluded);
}

static int slots_push(struct slots *s, struct slot v)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 4;
		struct slot *p = reallocarray(s->v, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		s->v = p;
		s->cap = cap;
	}
	s->v[s->n++] = v;
	return 0;
}

/* ---- parsing ---- */

/* The directory whose merge files are being read. */
struct place_read {
	struct segment *seg; /* what is being filled */
	const char *abs;     /* absolute path of the file's directory, slash at the end */
	bool above_root;     /* found on the search through the parents */
};

/* Where rules come from and what they take over. */
struct parser {
	const struct stg_filter *f;
	struct rule_list *out;
	struct slots *slots;
	const struct place_read *at; /* NULL: the global list is being built */
	const char *origin;
	size_t line;      /* 0: origin is no file */
	uint32_t inherit; /* flags of the rule that named the file */
	bool old_prefixes;
	bool anchor_here; /* anchored rules start at at's directory, not at the root */
	unsigned depth;
};

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
	_cleanup_(rule_freep) struct stg_rule *r = calloc(1, sizeof(*r) + arg.n + 1);

	if (!r)
		return no_memory(e);
	if (arg.n)
		memcpy(r->store, arg.p, arg.n);
	r->pattern = bytes_of(r->store, arg.n);
	r->text = bytes_dup(text);
	r->origin = parser_origin(p);
	if (!r->text || !r->origin)
		return no_memory(e);
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
	_cleanup_(rule_freep) struct stg_rule *r = NULL;
	int rc = rule_new(p, in->text, in->arg, &r, e);

	if (rc < 0)
		return rc;
	r->flags = in->flags;
	/* What a per-directory file merges is not touched by --delete-excluded. */
	if (p->at && !p->anchor_here && !(r->flags & F_SIDES))
		r->flags |= F_SIDES;
	compile_pattern(p, r);
	if (list_grow(p->out) < 0)
		return no_memory(e);
	list_push(p->out, TAKE_PTR(r), p->f->delete_excluded);
	return 0;
}

static struct bytes base_name(struct bytes path)
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
	_cleanup_(rule_freep) struct stg_rule *r = NULL;
	struct bytes name = base_name(in->arg);
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
		return no_memory(e);
	r->slot = p->slots->n;
	if (list_grow(p->out) < 0 || slots_push(p->slots, (struct slot){ .def = r }) < 0)
		return no_memory(e);
	list_push(p->out, TAKE_PTR(r), p->f->delete_excluded);
	return 0;
}

static int parse_lines(struct parser *p, struct bytes text, struct err *e);
static int parse_words(struct parser *p, struct bytes text, struct err *e);

static int parse_text(struct parser *p, struct bytes text, struct err *e)
{
	const uint8_t *nul = text.n ? memchr(text.p, 0, text.n) : NULL;

	p->line = 1;
	if (nul)
		return err_set(e, -ERR_USAGE, "%s: filter file has a NUL byte at offset %td",
			       p->origin, nul - text.p);
	return p->inherit & F_WORDS ? parse_words(p, text, e) : parse_lines(p, text, e);
}

static int read_all(int fd, const char *name, struct buf *out, struct err *e)
{
	for (;;) {
		ssize_t r;

		if (buf_reserve(out, 4096) < 0)
			return no_memory(e);
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

static int select_err(struct err *e, const char *what, const char *path)
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
	int r = in->read ? 0 : read_all(STDIN_FILENO, "-", &in->text, e);

	if (r < 0)
		return r;
	in->read = true;
	p->origin = "-";
	if (in->taken_by == p->f)
		return 0;
	in->taken_by = p->f;
	return parse_text(p, buf_view(&in->text), e);
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
			return select_err(e, "open", path);
	}
	r = read_all(in ? STDIN_FILENO : fd, path, &text, e);
	if (r < 0)
		return r;
	p->origin = path;
	return parse_text(p, buf_view(&text), e);
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
		return no_memory(e);
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
			r = no_memory(e);
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
		if (list_grow(p->out) < 0) {
			r = no_memory(e);
			break;
		}
		list_push(p->out, TAKE_PTR(group.v[i]), p->f->delete_excluded);
	}
out:
	list_fini(&group);
	return r;
}

/* Forget the list that is being read: all of it, or what this file name has gathered. */
static void clear_rules(const struct parser *p)
{
	for (size_t i = 0; i < p->out->n; i++)
		if (p->out->v[i]->flags & F_DIR_MERGE)
			p->slots->v[p->out->v[i]->slot] = (struct slot){ 0 };
	list_clear(p->out);
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
		struct parsed self = { .arg = base_name(in->arg), .text = in->text };

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

/* ---- the filter ---- */

int stg_filter_new(struct stg_filter **ret, struct err *e)
{
	_cleanup_(stg_filter_freep) struct stg_filter *f = calloc(1, sizeof(*f));

	if (!f)
		return no_memory(e);
	for (int side = STG_SENDER; side <= STG_RECEIVER; side++) {
		f->root[side] = strdup("/");
		if (!f->root[side])
			return no_memory(e);
	}
	*ret = TAKE_PTR(f);
	return 0;
}

void stg_filter_free(struct stg_filter *f)
{
	if (!f)
		return;
	list_fini(&f->rules);
	free(f->slots.v);
	free(f->root[STG_SENDER]);
	free(f->root[STG_RECEIVER]);
	free(f->cvs_home);
	free(f->cvs_value);
	free(f);
}

/* dir and path joined, "." and ".." and double slashes taken out, one slash at the end. */
static char *path_clean(const char *dir, const char *path)
{
	_cleanup_free_ char *in = NULL;
	char *out, *save = NULL;
	size_t n = 1;

	if (asprintf(&in, "%s/%s", path[0] == '/' ? "" : dir, path) < 0) {
		in = NULL;
		return NULL;
	}
	out = malloc(strlen(in) + 2);
	if (!out)
		return NULL;
	out[0] = '/';
	for (char *s = strtok_r(in, "/", &save); s; s = strtok_r(NULL, "/", &save)) {
		if (strcmp(s, ".") == 0)
			continue;
		if (strcmp(s, "..") == 0) {
			while (n > 1 && out[--n - 1] != '/')
				;
			continue;
		}
		n += (size_t)(stpcpy(out + n, s) - (out + n));
		out[n++] = '/';
	}
	out[n] = 0;
	return out;
}

int stg_filter_set_root(struct stg_filter *f, enum stg_side side, const char *path,
			struct err *e)
{
	char *s;

	if (path[0] != '/')
		return err_set(e, -ERR_USAGE, "filter root %s is not absolute", path);
	s = path_clean("", path);
	if (!s)
		return no_memory(e);
	free(f->root[side]);
	f->root[side] = s;
	return 0;
}

int stg_filter_set_cvs(struct stg_filter *f, const char *home, const char *value,
		       struct err *e)
{
	_cleanup_free_ char *h = home ? strdup(home) : NULL;
	_cleanup_free_ char *v = value ? strdup(value) : NULL;

	if ((home && !h) || (value && !v))
		return no_memory(e);
	free(f->cvs_home);
	free(f->cvs_value);
	f->cvs_home = TAKE_PTR(h);
	f->cvs_value = TAKE_PTR(v);
	return 0;
}

void stg_filter_set_input(struct stg_filter *f, struct stg_filter_input *in)
{
	f->input = in;
}

void stg_filter_set_delete_excluded(struct stg_filter *f, bool on)
{
	struct rule_list *l = &f->rules;

	f->delete_excluded = on;
	l->n_xattr = 0;
	l->side_n[STG_SENDER] = 0;
	l->side_n[STG_RECEIVER] = 0;
	for (size_t i = 0; i < l->n; i++)
		list_sort_in(l, l->v[i], on);
}

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

size_t stg_filter_count(const struct stg_filter *f)
{
	return f->rules.n;
}

const struct stg_rule *stg_filter_rule(const struct stg_filter *f, size_t i)
{
	return f->rules.v[i];
}

/* ---- directories ---- */

static void segment_free(struct segment *s)
{
	if (!s)
		return;
	list_fini(&s->rules);
	free(s);
}

static void segment_freep(struct segment **s)
{
	segment_free(*s);
}

static struct segment *segment_new(struct bytes base, struct bytes lead)
{
	struct segment *s = calloc(1, sizeof(*s) + base.n + lead.n + 1);

	if (!s)
		return NULL;
	if (base.n)
		memcpy(s->store, base.p, base.n);
	if (lead.n)
		memcpy(s->store + base.n, lead.p, lead.n);
	s->base = bytes_of(s->store, base.n);
	s->lead = bytes_of(s->store + base.n, lead.n);
	return s;
}

struct stg_filter_dir *stg_filter_dir_ref(struct stg_filter_dir *d)
{
	if (d)
		atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
	return d;
}

void stg_filter_dir_unref(struct stg_filter_dir *d)
{
	/* A loop: the chain of parents may be as long as a tree is deep. */
	while (d && atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) == 1) {
		struct stg_filter_dir *parent = d->parent;

		while (d->owned) {
			struct segment *s = d->owned;

			d->owned = s->owned_next;
			segment_free(s);
		}
		free(d->slots.v);
		free(d);
		d = parent;
	}
}

static int dir_new(const struct stg_filter *f, struct stg_filter_dir *parent,
		   struct stg_filter_dir **ret, struct err *e)
{
	_cleanup_(stg_filter_dir_unrefp) struct stg_filter_dir *d = calloc(1, sizeof(*d));
	const struct slots *from = parent ? &parent->slots : &f->slots;

	if (!d)
		return no_memory(e);
	atomic_init(&d->refs, 1);
	d->f = f;
	d->parent = stg_filter_dir_ref(parent);
	for (size_t i = 0; i < from->n; i++)
		if (slots_push(&d->slots, from->v[i]) < 0)
			return no_memory(e);
	*ret = TAKE_PTR(d);
	return 0;
}

/*
 * The merge file name in dirfd, or -1 with *ret_err 0 when there is none to read.  Whoever
 * owns the directory may have put a FIFO or a device there: they must not hold us up.
 */
static int open_dir_file(int dirfd, const char *path, int *ret_err, struct err *e)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	*ret_err = 0;
	fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) {
		/* ENXIO: a socket, a device without a driver */
		if (errno != ENOENT && errno != ENOTDIR && errno != ENXIO && errno != ENODEV)
			*ret_err = select_err(e, "open", path);
		return -1;
	}
	if (fstat(fd, &st) < 0) {
		*ret_err = select_err(e, "stat", path);
		return -1;
	}
	return S_ISREG(st.st_mode) ? TAKE_FD(fd) : -1;
}

/* Where one per-directory file is looked for. */
struct lookup {
	size_t slot;
	int dirfd;
	const char *path;  /* from dirfd on */
	const char *shown; /* for messages */
	const char *abs;   /* its directory, absolute, slash at the end */
	struct bytes base; /* as in struct segment */
	struct bytes lead;
	bool above_root;
};

/* Put the rules of one file in front of what slot l->slot has inherited. */
static int read_dir_file(struct stg_filter_dir *d, const struct lookup *l, struct err *e)
{
	_cleanup_(segment_freep) struct segment *seg = NULL;
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	_cleanup_close_ int fd = -1;
	struct place_read at;
	struct parser p;
	int r;

	fd = open_dir_file(l->dirfd, l->path, &r, e);
	if (fd < 0)
		return r;
	r = read_all(fd, l->shown, &text, e);
	if (r < 0)
		return r;
	seg = segment_new(l->base, l->lead);
	if (!seg)
		return no_memory(e);
	seg->inherited = d->slots.v[l->slot].rules;
	at = (struct place_read){
		.seg = seg,
		.abs = l->abs,
		.above_root = l->above_root,
	};
	p = (struct parser){
		.f = d->f,
		.out = &seg->rules,
		.slots = &d->slots,
		.at = &at,
		.origin = l->shown,
		.inherit = d->slots.v[l->slot].def->flags,
		.anchor_here = true,
	};
	r = parse_text(&p, buf_view(&text), e);
	if (r == 0 && (seg->rules.n || seg->cleared)) {
		d->changed = true;
		d->slots.v[l->slot].rules = seg;
	}
	/* Also after an error: slots of d may refer to rules of the segment. */
	if (seg->rules.n || seg->cleared) {
		seg->owned_next = d->owned;
		d->owned = TAKE_PTR(seg);
	}
	return r;
}

/* Rules of a parent directory's file that are not inherited: forget them at once. */
static void drop_uninherited(struct stg_filter_dir *d, size_t slot)
{
	const struct segment *s = d->slots.v[slot].rules;

	if (!s)
		return;
	for (size_t i = 0; i < s->rules.n; i++)
		if (s->rules.v[i]->flags & F_DIR_MERGE)
			d->slots.v[s->rules.v[i]->slot] = (struct slot){ 0 };
	d->slots.v[slot].rules = NULL;
}

/*
 * The search through the parents of the directory abs (absolute, slash at the end), from the
 * path on that the rule was given with, when that is a parent at all.
 */
static int search_parents(struct stg_filter_dir *d, size_t slot, const char *abs, struct err *e)
{
	const struct stg_rule *def = d->slots.v[slot].def;
	const char *root = d->f->root[STG_SENDER];
	_cleanup_free_ char *from = path_clean(abs, def->search_from);
	size_t root_n = strlen(root), n;

	if (!from)
		return no_memory(e);
	n = strlen(from);
	if (strncmp(from, abs, n) != 0)
		return 0;
	while (abs[n]) {
		_cleanup_free_ char *dir = strndup(abs, n);
		_cleanup_free_ char *path = NULL;
		struct lookup l = { .slot = slot, .dirfd = AT_FDCWD, .abs = dir };
		int r;

		if (!dir || asprintf(&path, "%s%.*s", dir, (int)def->pattern.n,
				     (const char *)def->pattern.p) < 0)
			return no_memory(e);
		l.path = path;
		l.shown = path;
		l.above_root = true;
		if (n < root_n)
			l.lead = bytes_str(root + n);
		else if (n > root_n)
			l.base = bytes_of(dir + root_n, n - root_n - 1);
		r = read_dir_file(d, &l, e);
		if (r < 0)
			return r;
		if (def->flags & F_NO_INHERIT)
			drop_uninherited(d, slot);
		n += strcspn(abs + n, "/") + 1;
	}
	return 0;
}

static int enter_slot(struct stg_filter_dir *d, size_t slot, bool fresh, int dirfd,
		      struct bytes path, const char *abs, struct err *e)
{
	const struct stg_rule *def = d->slots.v[slot].def;
	_cleanup_free_ char *shown = NULL;
	struct lookup l = { .slot = slot, .dirfd = dirfd, .abs = abs, .base = path };
	int r;

	if (!def)
		return 0;
	if (def->flags & F_NO_INHERIT && d->slots.v[slot].rules) {
		d->slots.v[slot].rules = NULL;
		d->changed = true;
	}
	if (fresh && def->search_from) {
		r = search_parents(d, slot, abs, e);
		if (r < 0)
			return r;
	}
	if (dirfd == -1)
		return 0;
	if (asprintf(&shown, "%.*s%s%s", (int)path.n, (const char *)path.p, path.n ? "/" : "",
		     def->store) < 0) {
		shown = NULL;
		return no_memory(e);
	}
	l.path = def->store;
	l.shown = shown;
	return read_dir_file(d, &l, e);
}

int stg_filter_enter(const struct stg_filter *f, struct stg_filter_dir *parent, int dirfd,
		     struct bytes path, struct stg_filter_dir **ret, struct err *e)
{
	_cleanup_(stg_filter_dir_unrefp) struct stg_filter_dir *d = NULL;
	_cleanup_free_ char *abs = NULL;
	int r;

	if (parent && parent->slots.n == 0) {
		*ret = stg_filter_dir_ref(parent);
		return 0;
	}
	r = dir_new(f, parent, &d, e);
	if (r < 0)
		return r;
	if (asprintf(&abs, "%s%.*s%s", f->root[STG_SENDER], (int)path.n, (const char *)path.p,
		     path.n ? "/" : "") < 0) {
		abs = NULL;
		return no_memory(e);
	}
	/* A file may declare further slots: they are read here as well. */
	for (size_t i = 0; i < d->slots.n; i++) {
		r = enter_slot(d, i, !parent || i >= parent->slots.n, dirfd, path, abs, e);
		if (r < 0)
			return r;
	}
	*ret = parent && !d->changed ? stg_filter_dir_ref(parent) : TAKE_PTR(d);
	return 0;
}

/* ---- matching ---- */

/* What is asked, worked out once for all rules. */
struct query {
	const struct stg_filter *f;
	const struct stg_filter_dir *d; /* NULL: per-directory rules match nothing */
	struct bytes path;
	struct bytes name; /* the last component */
	bool is_dir;
	enum stg_side side;
	bool in_removed_dir;
	bool xattr;
};

static struct query query_of(const struct stg_filter *f, const struct stg_filter_dir *d,
			     struct bytes path, bool is_dir, enum stg_side side)
{
	return (struct query){
		.f = f,
		.d = d,
		.path = path,
		.name = base_name(path),
		.is_dir = is_dir,
		.side = side,
	};
}

static bool wild_hit(const struct stg_rule *r, const struct stg_wild_text *t, size_t off)
{
	/* The literal start decides most cases without the matcher. */
	if (t->lead.n == 0) {
		struct bytes lit = bytes_of(r->pattern.p, r->literal_n);
		struct bytes rest = bytes_of(r->pattern.p + lit.n, r->pattern.n - lit.n);

		if (off + lit.n > t->path.n || memcmp(t->path.p + off, lit.p, lit.n) != 0)
			return off + lit.n == stg_wild_text_n(t) && stg_wildmatch(r->pattern, t, off);
		return stg_wildmatch(rest, t, off + lit.n);
	}
	return stg_wildmatch(r->pattern, t, off);
}

static bool literal_hit(const struct stg_rule *r, const struct stg_wild_text *t, size_t off)
{
	struct bytes lead = t->lead, pat = r->pattern;

	if (off < lead.n) {
		lead = bytes_of(lead.p + off, lead.n - off);
		if (pat.n < lead.n || memcmp(pat.p, lead.p, lead.n) != 0)
			return false;
		return bytes_eq(bytes_of(pat.p + lead.n, pat.n - lead.n), t->path);
	}
	off -= lead.n;
	return bytes_eq(pat, bytes_of(t->path.p + off, t->path.n - off));
}

static bool hit_at(const struct stg_rule *r, const struct stg_wild_text *t, size_t off)
{
	return r->flags & F_WILD ? wild_hit(r, t, off) : literal_hit(r, t, off);
}

static bool hit_tail(const struct stg_rule *r, const struct stg_wild_text *t)
{
	size_t i = stg_wild_text_n(t), left = r->slashes + 1;

	while (i > 0) {
		if (stg_wild_text_at(t, i - 1) == '/' && --left == 0)
			return hit_at(r, t, i);
		i--;
	}
	return left == 1 && hit_at(r, t, 0);
}

static bool hit_anywhere(const struct stg_rule *r, const struct stg_wild_text *t)
{
	size_t n = stg_wild_text_n(t);

	if (hit_at(r, t, 0))
		return true;
	for (size_t i = 0; i < n; i++)
		if (stg_wild_text_at(t, i) == '/' && hit_at(r, t, i + 1))
			return true;
	return false;
}

static bool hit_name(const struct stg_rule *r, struct bytes name)
{
	struct bytes pat = r->pattern;

	if (r->flags & F_SUFFIX) {
		size_t n = pat.n - 1;

		return name.n >= n && memcmp(name.p + name.n - n, pat.p + 1, n) == 0;
	}
	if (r->flags & F_WILD) {
		struct stg_wild_text t = { .path = name };

		return wild_hit(r, &t, 0);
	}
	return bytes_eq(name, pat);
}

static struct bytes root_lead(const struct stg_filter *f, enum stg_side side)
{
	return bytes_str(f->root[side] + 1);
}

static bool hit_path(const struct query *q, const struct stg_rule *r)
{
	struct stg_wild_text t = {
		.path = q->path,
		.slash = q->is_dir && r->flags & F_WILD3_END,
	};

	if (r->home) {
		struct bytes base = r->home->base;

		if (base.n) {
			if (t.path.n <= base.n || t.path.p[base.n] != '/' ||
			    memcmp(t.path.p, base.p, base.n) != 0)
				return false;
			t.path = bytes_of(t.path.p + base.n + 1, t.path.n - base.n - 1);
		}
		t.lead = r->home->lead;
	} else if (r->flags & F_ABS && q->f->root[q->side][1]) {
		t.lead = root_lead(q->f, q->side);
	} else if (r->flags & F_WILD2_START && r->place == PLACE_WHOLE) {
		/* So that the slash of a "**" "/" at the start matches at the root as well. */
		t.lead = bytes_of("/", 1);
	}
	switch (r->place) {
	case PLACE_TAIL:
		return hit_tail(r, &t);
	case PLACE_ANYWHERE:
		return hit_anywhere(r, &t);
	case PLACE_NAME:
	case PLACE_WHOLE:
		break;
	}
	return hit_at(r, &t, 0);
}

static bool rule_hits(const struct query *q, const struct stg_rule *r)
{
	bool hit;

	if (r->flags & F_DIR_ONLY && !q->is_dir)
		hit = false;
	else
		hit = r->place == PLACE_NAME ? hit_name(r, q->name) : hit_path(q, r);
	return hit != !!(r->flags & F_NEGATE);
}

static bool counts(const struct query *q, const struct stg_rule *r)
{
	if (q->in_removed_dir && r->flags & F_PERISHABLE)
		return false;
	if (!q->xattr || r->flags & F_DIR_MERGE)
		return true;
	return r->flags & F_XATTR &&
	       rule_sides(r, q->f->delete_excluded) & FLAG(q->side);
}

static const struct stg_rule *first_hit(const struct query *q, const struct rule_list *l)
{
	struct stg_rule *const *v = q->xattr ? l->v : l->side[q->side];
	size_t n = q->xattr ? l->n : l->side_n[q->side];

	for (size_t i = 0; i < n; i++) {
		const struct stg_rule *hit = NULL;

		if (!counts(q, v[i]))
			continue;
		if (!(v[i]->flags & F_DIR_MERGE)) {
			if (rule_hits(q, v[i]))
				return v[i];
			continue;
		}
		for (const struct segment *s = q->d ? q->d->slots.v[v[i]->slot].rules : NULL;
		     s && !hit; s = s->inherited)
			hit = first_hit(q, &s->rules);
		if (hit)
			return hit;
	}
	return NULL;
}

const struct stg_rule *stg_filter_match(const struct stg_filter_dir *d, struct bytes path,
					bool is_dir, enum stg_side side, bool in_removed_dir)
{
	struct query q = query_of(d->f, d, path, is_dir, side);

	q.in_removed_dir = in_removed_dir;
	return path.n ? first_hit(&q, &d->f->rules) : NULL;
}

bool stg_filter_sends(const struct stg_filter_dir *d, struct bytes path, bool is_dir)
{
	const struct stg_rule *r = stg_filter_match(d, path, is_dir, STG_SENDER, false);

	return !r || !stg_rule_excludes(r);
}

bool stg_filter_protects(const struct stg_filter_dir *d, struct bytes path, bool is_dir,
			 bool in_removed_dir)
{
	const struct stg_rule *r =
		stg_filter_match(d, path, is_dir, STG_RECEIVER, in_removed_dir);

	return r && stg_rule_excludes(r);
}

const struct stg_rule *stg_filter_xattr(const struct stg_filter_dir *d, struct bytes name,
					enum stg_side side)
{
	struct query q = query_of(d->f, d, name, false, side);

	q.xattr = true;
	return name.n ? first_hit(&q, &d->f->rules) : NULL;
}

bool stg_filter_has_xattr_rules(const struct stg_filter_dir *d)
{
	if (d->f->rules.n_xattr)
		return true;
	for (size_t i = 0; i < d->slots.n; i++)
		for (const struct segment *s = d->slots.v[i].rules; s; s = s->inherited)
			if (s->rules.n_xattr)
				return true;
	return false;
}

/* ---- what may be below a directory ---- */

/* The pattern matches whole paths: can one of them begin with below ("dir/")? */
static bool whole_may_reach(const struct stg_rule *r, struct bytes lead, struct bytes below)
{
	struct stg_wild_text t = { .lead = lead, .path = below };
	size_t n = stg_wild_text_n(&t), slashes = 0;

	for (size_t i = 0; i < n; i++) {
		if (i < r->literal_n && r->pattern.p[i] != stg_wild_text_at(&t, i))
			return false;
		slashes += stg_wild_text_at(&t, i) == '/';
	}
	if (!(r->flags & F_WILD))
		return r->pattern.n > n;
	return r->flags & F_WILD2 || r->slashes >= slashes;
}

static bool rule_may_reach(const struct stg_filter *f, const struct stg_rule *r,
			   struct bytes below)
{
	struct bytes lead = { 0 };

	if (r->flags & F_NEGATE || r->place != PLACE_WHOLE || r->flags & F_WILD2_START)
		return true;
	if (r->flags & F_ABS)
		lead = root_lead(f, STG_RECEIVER);
	if (r->home) {
		struct bytes base = r->home->base;

		lead = r->home->lead;
		if (base.n) {
			/* The rule is in force below base only, and path lies in there. */
			if (below.n <= base.n || memcmp(below.p, base.p, base.n) != 0)
				return true;
			below = bytes_of(below.p + base.n + 1, below.n - base.n - 1);
		}
	}
	return whole_may_reach(r, lead, below);
}

static bool list_may_reach(const struct stg_filter_dir *d, const struct rule_list *l,
			   struct bytes below)
{
	for (size_t i = 0; i < l->side_n[STG_RECEIVER]; i++) {
		const struct stg_rule *r = l->side[STG_RECEIVER][i];

		if (r->flags & F_PERISHABLE)
			continue;
		if (r->flags & F_DIR_MERGE) {
			/* What is not inherited counts directly in d's directory only. */
			if (r->flags & F_NO_INHERIT)
				continue;
			for (const struct segment *s = d->slots.v[r->slot].rules; s;
			     s = s->inherited)
				if (list_may_reach(d, &s->rules, below))
					return true;
			continue;
		}
		if (!(r->flags & F_INCLUDE) && rule_may_reach(d->f, r, below))
			return true;
	}
	return false;
}

bool stg_filter_may_protect_below(const struct stg_filter_dir *d, struct bytes path)
{
	_cleanup_free_ uint8_t *big = NULL;
	uint8_t small[PATH_MAX + 1], *p = small;

	if (path.n == 0)
		return d->f->rules.side_n[STG_RECEIVER] > 0;
	if (path.n >= sizeof(small))
		p = big = malloc(path.n + 1);
	if (!p)
		return true;
	memcpy(p, path.p, path.n);
	p[path.n] = '/';
	return list_may_reach(d, &d->f->rules, bytes_of(p, path.n + 1));
}

/* ---- explaining ---- */

void stg_filter_verdict_fini(struct stg_filter_verdict *v)
{
	stg_filter_dir_unref(v->dir);
	v->dir = NULL;
	v->rule = NULL;
}

/* Go down to the directory at path; when the source has none, nothing is read there. */
static int explain_enter(const struct stg_filter *f, int rootfd, struct bytes path,
			 struct stg_filter_dir **d, struct err *e)
{
	struct stg_filter_dir *child = NULL;
	_cleanup_close_ int fd = -1;
	char shown[TEXT_NAME_MAX];
	int r;

	if ((*d)->slots.n == 0)
		return 0;
	r = io_open_dir_below(rootfd, path, O_RDONLY);
	if (r >= 0)
		fd = r;
	else if (r != -ENOENT && r != -ENOTDIR && r != -ELOOP && r != -EXDEV)
		return err_sysn(e, r, "open directory %s", text_name(shown, path));
	r = stg_filter_enter(f, *d, fd, path, &child, e);
	if (r < 0)
		return r;
	stg_filter_dir_unref(*d);
	*d = child;
	return 0;
}

int stg_filter_explain(const struct stg_filter *f, int rootfd, struct bytes path, bool is_dir,
		       enum stg_side side, struct stg_filter_verdict *ret, struct err *e)
{
	_cleanup_(stg_filter_dir_unrefp) struct stg_filter_dir *d = NULL;
	size_t n = 0;
	int r;

	r = stg_filter_enter(f, NULL, rootfd, bytes_of(path.p, 0), &d, e);
	while (r == 0 && n < path.n) {
		const uint8_t *slash = memchr(path.p + n, '/', path.n - n);
		const struct stg_rule *rule;
		struct bytes at;

		n = slash ? (size_t)(slash - path.p) : path.n;
		at = bytes_of(path.p, n);
		rule = stg_filter_match(d, at, slash || is_dir, side, false);
		if (!slash || (rule && stg_rule_excludes(rule))) {
			ret->rule = rule;
			ret->path_n = n;
			ret->excluded = rule && stg_rule_excludes(rule);
			ret->dir = TAKE_PTR(d);
			return 0;
		}
		r = explain_enter(f, rootfd, at, &d, e);
		n++;
	}
	if (r == 0)
		*ret = (struct stg_filter_verdict){ .dir = TAKE_PTR(d), .path_n = path.n };
	return r;
}

/* ---- one rule ---- */

bool stg_rule_excludes(const struct stg_rule *r)
{
	return !(r->flags & F_INCLUDE);
}

const char *stg_rule_text(const struct stg_rule *r)
{
	return r->text;
}

const char *stg_rule_origin(const struct stg_rule *r)
{
	return r->origin;
}

bool stg_rule_on_side(const struct stg_filter *f, const struct stg_rule *r, enum stg_side side)
{
	return rule_sides(r, f->delete_excluded) & FLAG(side);
}

bool stg_rule_dir_only(const struct stg_rule *r)
{
	return r->flags & F_DIR_ONLY;
}

bool stg_rule_negated(const struct stg_rule *r)
{
	return r->flags & F_NEGATE;
}

bool stg_rule_perishable(const struct stg_rule *r)
{
	return r->flags & F_PERISHABLE;
}

bool stg_rule_is_dir_merge(const struct stg_rule *r)
{
	return r->flags & F_DIR_MERGE;
}

bool stg_rule_is_xattr(const struct stg_rule *r)
{
	return r->flags & F_XATTR && !(r->flags & F_DIR_MERGE);
}

struct bytes stg_rule_pattern(const struct stg_rule *r)
{
	return r->pattern;
}

enum stg_rule_place stg_rule_place(const struct stg_rule *r)
{
	if (r->place == PLACE_NAME)
		return STG_PLACE_NAME;
	if (r->home || r->flags & (F_ABS | F_WILD2_START) || r->place == PLACE_ANYWHERE)
		return STG_PLACE_OTHER;
	return r->place == PLACE_WHOLE ? STG_PLACE_ROOT : STG_PLACE_TAIL;
}

bool stg_rule_wild(const struct stg_rule *r)
{
	return r->flags & F_WILD;
}

bool stg_rule_matches(const struct stg_filter *f, const struct stg_rule *r, struct bytes path,
		      bool is_dir, enum stg_side side)
{
	struct query q = query_of(f, NULL, path, is_dir, side);

	return path.n && !(r->flags & F_DIR_MERGE) && rule_hits(&q, r);
}
