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

#include "common/buf.h"
#include "common/io.h"
#include "common/text.h"
#include "stager/filter_parts.h"
#include "stager/wildmatch.h"

int stg_filter_no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory for filter rules");
}

/* ---- rules and lists ---- */

void stg_filter_rule_free(struct stg_rule *r)
{
	if (!r)
		return;
	free(r->search_from);
	free(r->text);
	free(r->origin);
	free(r);
}

void stg_filter_list_clear(struct rule_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		stg_filter_rule_free(l->v[i]);
	l->n = 0;
	l->n_xattr = 0;
	l->side_n[STG_SENDER] = 0;
	l->side_n[STG_RECEIVER] = 0;
}

void stg_filter_list_fini(struct rule_list *l)
{
	stg_filter_list_clear(l);
	free(l->v);
	free(l->side[STG_SENDER]);
	free(l->side[STG_RECEIVER]);
	*l = (struct rule_list){ 0 };
}

int stg_filter_list_grow(struct rule_list *l)
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

/* Takes r over; room was made by stg_filter_list_grow(). */
void stg_filter_list_push(struct rule_list *l, struct stg_rule *r, bool delete_excluded)
{
	l->v[l->n++] = r;
	list_sort_in(l, r, delete_excluded);
}

int stg_filter_slots_push(struct slots *s, struct slot v)
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

/* ---- the filter ---- */

int stg_filter_new(struct stg_filter **ret, struct err *e)
{
	_cleanup_(stg_filter_freep) struct stg_filter *f = calloc(1, sizeof(*f));

	if (!f)
		return stg_filter_no_memory(e);
	for (int side = STG_SENDER; side <= STG_RECEIVER; side++) {
		f->root[side] = strdup("/");
		if (!f->root[side])
			return stg_filter_no_memory(e);
	}
	*ret = TAKE_PTR(f);
	return 0;
}

void stg_filter_free(struct stg_filter *f)
{
	if (!f)
		return;
	stg_filter_list_fini(&f->rules);
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
		return stg_filter_no_memory(e);
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
		return stg_filter_no_memory(e);
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
	stg_filter_list_fini(&s->rules);
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
		return stg_filter_no_memory(e);
	atomic_init(&d->refs, 1);
	d->f = f;
	d->parent = stg_filter_dir_ref(parent);
	for (size_t i = 0; i < from->n; i++)
		if (stg_filter_slots_push(&d->slots, from->v[i]) < 0)
			return stg_filter_no_memory(e);
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
			*ret_err = stg_filter_select_err(e, "open", path);
		return -1;
	}
	if (fstat(fd, &st) < 0) {
		*ret_err = stg_filter_select_err(e, "stat", path);
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
	r = stg_filter_read_all(fd, l->shown, &text, e);
	if (r < 0)
		return r;
	seg = segment_new(l->base, l->lead);
	if (!seg)
		return stg_filter_no_memory(e);
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
	r = stg_filter_parse_text(&p, buf_view(&text), e);
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
		return stg_filter_no_memory(e);
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
			return stg_filter_no_memory(e);
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
		return stg_filter_no_memory(e);
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
		return stg_filter_no_memory(e);
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
		.name = stg_filter_base_name(path),
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

/* The pattern can match something in the directory, and knows where that is. */
static bool is_local(const struct stg_rule *r, struct bytes path)
{
	size_t n = MIN(r->literal_n, path.n);

	if (r->flags & F_XATTR)
		return false;
	if (r->flags & (F_DIR_MERGE | F_NEGATE | F_ABS))
		return true;
	if (r->place == PLACE_NAME)
		return false;
	if (r->place != PLACE_WHOLE)
		return true;
	if (n && memcmp(r->pattern.p, path.p, n) != 0)
		return false;
	if (r->literal_n > path.n)
		return r->pattern.p[path.n] == '/';
	return r->literal_n < r->pattern.n;
}

bool stg_filter_is_local(const struct stg_filter *f, struct bytes path)
{
	for (size_t i = 0; i < f->rules.n; i++)
		if (is_local(f->rules.v[i], path))
			return true;
	return false;
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
