/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/lint.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/text.h"
#include "stager/entry.h"
#include "stager/explain.h"
#include "stager/filter.h"
#include "stager/migration.h"
#include "stager/options.h"
#include "stager/phase.h"
#include "stager/scan.h"

/*
 * Each kind of phase has its own list of rules, but most rules are common to all: a finding
 * is kept once, with the phases that it is true of.
 */
#define ALL_PHASES ((1u << STG_PHASE_KINDS) - 1)

struct finding {
	char *about; /* origin and text of the rule, or the path */
	char *why;
	const char *remedy;
	unsigned phases;
};

struct lint {
	struct stg_migration *m;
	struct finding *v;
	size_t n, cap;
	struct strlist used; /* rules that match something in some phase */
};

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "lint: out of memory");
}

static void lint_fini(struct lint *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].about);
		free(l->v[i].why);
	}
	free(l->v);
	strlist_fini(&l->used);
}

/* --- findings --- */

/* Takes about and why over. */
static int add(struct lint *l, enum stg_phase_kind kind, char *about, char *why,
	       const char *remedy, struct err *e)
{
	_cleanup_free_ char *a = about, *w = why;
	struct finding *v;

	if (!a || !w)
		return no_memory(e);
	for (size_t i = 0; i < l->n; i++) {
		if (strcmp(l->v[i].about, a) != 0 || strcmp(l->v[i].why, w) != 0)
			continue;
		l->v[i].phases |= 1u << kind;
		return 0;
	}
	if (l->n == l->cap) {
		l->cap = l->cap ? 2 * l->cap : 16;
		v = reallocarray(l->v, l->cap, sizeof(*v));
		if (!v)
			return no_memory(e);
		l->v = v;
	}
	l->v[l->n++] = (struct finding){
		.about = TAKE_PTR(a),
		.why = TAKE_PTR(w),
		.remedy = remedy,
		.phases = 1u << kind,
	};
	return 0;
}

static _printf_(1, 2) char *format(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

static char *name_rule(const struct stg_rule *r)
{
	char text[TEXT_NAME_MAX], origin[TEXT_NAME_MAX];

	return format("%s: \"%s\"", text_name(origin, bytes_str(stg_rule_origin(r))),
		      text_name(text, bytes_str(stg_rule_text(r))));
}

/* Among the first n findings. */
static bool is_found(const struct lint *l, size_t n, const char *about)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(l->v[i].about, about))
			return true;
	return false;
}

static bool is_used(const struct lint *l, const char *about)
{
	for (size_t i = 0; i < l->used.n; i++)
		if (!strcmp(l->used.v[i], about))
			return true;
	return false;
}

static void print_finding(const struct finding *f)
{
	const char *between = " (";

	printf("%s", f->about);
	for (unsigned k = 0; k < STG_PHASE_KINDS && f->phases != ALL_PHASES; k++) {
		if (!(f->phases & 1u << k))
			continue;
		printf("%s%s", between, stg_phase_words[k]);
		between = ", ";
	}
	printf("%s\n  why: %s\n  remedy: %s\n", f->phases != ALL_PHASES ? ")" : "", f->why,
	       f->remedy);
}

/* --- rules that are never asked --- */

static bool sides_cover(const struct stg_filter *f, const struct stg_rule *a,
			const struct stg_rule *b)
{
	for (int side = STG_SENDER; side <= STG_RECEIVER; side++)
		if (stg_rule_on_side(f, b, (enum stg_side)side) &&
		    !stg_rule_on_side(f, a, (enum stg_side)side))
			return false;
	return true;
}

static bool is_catch_all(const struct stg_rule *r)
{
	struct bytes p = stg_rule_pattern(r);

	for (size_t i = 0; i < p.n; i++)
		if (p.p[i] != '*')
			return false;
	return p.n > 1 || (p.n == 1 && stg_rule_place(r) == STG_PLACE_NAME);
}

/* Does a match all paths that b, a literal pattern, can match? */
static bool covers_literal(const struct stg_filter *f, const struct stg_rule *a,
			   const struct stg_rule *b)
{
	enum stg_rule_place place = stg_rule_place(b);
	struct bytes p = stg_rule_pattern(b);

	/* b may match in any directory: then a must not care for the directory either. */
	if (place == STG_PLACE_OTHER ||
	    (place != STG_PLACE_ROOT && stg_rule_place(a) != STG_PLACE_NAME &&
	     stg_rule_place(a) != STG_PLACE_TAIL))
		return false;
	for (int side = STG_SENDER; side <= STG_RECEIVER; side++) {
		if (!stg_rule_on_side(f, b, (enum stg_side)side))
			continue;
		if (!stg_rule_matches(f, a, p, true, (enum stg_side)side) ||
		    (!stg_rule_dir_only(b) &&
		     !stg_rule_matches(f, a, p, false, (enum stg_side)side)))
			return false;
	}
	return true;
}

/* Does a certainly match whatever b matches? */
static bool covers(const struct stg_filter *f, const struct stg_rule *a, const struct stg_rule *b)
{
	if (stg_rule_is_dir_merge(a) || stg_rule_is_xattr(a) || stg_rule_negated(a) ||
	    stg_rule_negated(b) || (stg_rule_perishable(a) && !stg_rule_perishable(b)) ||
	    (stg_rule_dir_only(a) && !stg_rule_dir_only(b)) || !sides_cover(f, a, b))
		return false;
	if (is_catch_all(a))
		return true;
	if (stg_rule_place(a) != STG_PLACE_OTHER && stg_rule_place(a) == stg_rule_place(b) &&
	    bytes_eq(stg_rule_pattern(a), stg_rule_pattern(b)))
		return true;
	if (!strcmp(stg_rule_text(a), stg_rule_text(b)))
		return true;
	return !stg_rule_wild(b) && covers_literal(f, a, b);
}

static int check_shadowed(struct lint *l, enum stg_phase_kind kind, size_t at, struct err *e)
{
	const struct stg_filter *f = l->m->filters[kind];
	const struct stg_rule *r = stg_filter_rule(f, at);

	for (size_t i = 0; i < at; i++) {
		const struct stg_rule *before = stg_filter_rule(f, i);
		_cleanup_free_ char *name = NULL;
		int n;

		if (!covers(f, before, r))
			continue;
		name = name_rule(before);
		if (!name)
			return no_memory(e);
		n = add(l, kind, name_rule(r),
			format("it never decides: %s stands before it and matches all that it "
			       "matches", name),
			stg_rule_excludes(before) == stg_rule_excludes(r) ?
				"remove it: the other one does the same" :
				"put it before the other one, or remove it", e);
		return n < 0 ? n : 1;
	}
	return 0;
}

/* --- rules in directories that are not entered --- */

static bool is_literal(struct bytes b)
{
	for (size_t i = 0; i < b.n; i++)
		if (strchr("*?[\\", b.p[i]))
			return false;
	return true;
}

static struct bytes last_component(struct bytes p)
{
	const uint8_t *slash = p.n ? memrchr(p.p, '/', p.n) : NULL;
	size_t n = slash ? (size_t)(slash - p.p) + 1 : 0;

	return bytes_of(p.p + n, p.n - n);
}

/* Might a rule that stands before `decides` let in a directory of this name somewhere? */
static bool may_be_let_in(const struct stg_filter *f, struct bytes name,
			  const struct stg_rule *decides)
{
	for (size_t i = 0; i < stg_filter_count(f); i++) {
		const struct stg_rule *r = stg_filter_rule(f, i);
		struct bytes last = last_component(stg_rule_pattern(r));

		if (r == decides)
			return false;
		if (stg_rule_excludes(r) || stg_rule_is_xattr(r) ||
		    !stg_rule_on_side(f, r, STG_SENDER))
			continue;
		if (stg_rule_is_dir_merge(r) || stg_rule_negated(r) || !is_literal(last) ||
		    bytes_eq(last, name))
			return true;
	}
	return true;
}

static bool has_dir_merge(const struct stg_filter *f)
{
	for (size_t i = 0; i < stg_filter_count(f); i++)
		if (stg_rule_is_dir_merge(stg_filter_rule(f, i)))
			return true;
	return false;
}

/* The rule that hides directory `dir`, wherever a match of r may have it; NULL: not certain. */
static const struct stg_rule *hides(const struct stg_filter *f, const struct stg_filter_dir *d,
				    const struct stg_rule *r, struct bytes dir)
{
	const struct stg_rule *h = stg_filter_match(d, dir, true, STG_SENDER, false);

	if (!h || h == r || !stg_rule_excludes(h))
		return NULL;
	/* On the target it may still be what protects, where the directory is at risk. */
	if (stg_rule_on_side(f, r, STG_RECEIVER) && stg_rule_excludes(r) &&
	    !stg_rule_on_side(f, h, STG_RECEIVER))
		return NULL;
	if (stg_rule_place(r) == STG_PLACE_TAIL &&
	    ((stg_rule_place(h) != STG_PLACE_NAME && !is_catch_all(h)) ||
	     may_be_let_in(f, last_component(dir), h)))
		return NULL;
	return h;
}

static int check_unreachable(struct lint *l, enum stg_phase_kind kind,
			     const struct stg_rule *r, const struct stg_filter_dir *d,
			     struct err *e)
{
	const struct stg_filter *f = l->m->filters[kind];
	struct bytes p = stg_rule_pattern(r);
	enum stg_rule_place place = stg_rule_place(r);

	if ((place != STG_PLACE_ROOT && place != STG_PLACE_TAIL) || stg_rule_negated(r) ||
	    !stg_rule_on_side(f, r, STG_SENDER) || has_dir_merge(f))
		return 0;
	for (size_t i = 0; i < p.n; i++) {
		struct bytes dir = bytes_of(p.p, i);
		_cleanup_free_ char *name = NULL;
		const struct stg_rule *h;
		char shown[TEXT_NAME_MAX];

		if (p.p[i] != '/')
			continue;
		if (!is_literal(dir))
			return 0;
		h = hides(f, d, r, dir);
		if (!h)
			continue;
		name = name_rule(h);
		if (!name)
			return no_memory(e);
		return add(l, kind, name_rule(r),
			   format("it cannot be reached: the directory %s is hidden by %s, and "
				  "nothing below a hidden directory is looked at",
				  text_name(shown, dir), name),
			   stg_rule_excludes(r) ?
				   "remove it: the other one does the same" :
				   "include the directories above it, each with a rule of its "
				   "own like \"+ /a/\" and \"+ /a/b/\", before the other one", e);
	}
	return 0;
}

/* --- rules that match nothing --- */

struct used {
	const struct stg_filter *f;
	size_t n;
	atomic_bool *v; /* rule i matches something, or cannot tell */
};

static int look(void *arg, struct bytes path, bool is_dir, struct err *e)
{
	struct used *u = arg;

	(void)e;
	for (size_t i = 0; i < u->n; i++)
		if (!atomic_load_explicit(&u->v[i], memory_order_relaxed) &&
		    stg_rule_matches(u->f, stg_filter_rule(u->f, i), path, is_dir, STG_SENDER))
			atomic_store_explicit(&u->v[i], true, memory_order_relaxed);
	return 0;
}

static int look_visible(void *arg, struct bytes path, const struct stg_stat *st, struct err *e)
{
	return look(arg, path, stg_is_dir(st), e);
}

/* Note the rules that match something in this phase. */
static int walk_used(struct lint *l, enum stg_phase_kind kind, uint64_t *errors, struct err *e)
{
	struct used u = { .f = l->m->filters[kind], .n = l->m->own_rules[kind] };
	struct stg_scan_visitor visitor = { .visit = look_visible, .hidden = look, .arg = &u };
	uint64_t unread = 0;
	int r;

	u.v = calloc(u.n + 1, sizeof(*u.v));
	if (!u.v)
		return no_memory(e);
	/* What is no pattern, or is about the target alone, cannot be seen here. */
	for (size_t i = 0; i < u.n; i++) {
		const struct stg_rule *rule = stg_filter_rule(u.f, i);

		u.v[i] = stg_rule_is_dir_merge(rule) || stg_rule_is_xattr(rule) ||
			 stg_rule_negated(rule) || !stg_rule_on_side(u.f, rule, STG_SENDER);
	}
	r = u.n ? stg_phase_walk(l->m, kind, &visitor, &unread, e) : 0;
	for (size_t i = 0; i < u.n && r == 0; i++) {
		_cleanup_free_ char *name = u.v[i] ? name_rule(stg_filter_rule(u.f, i)) : NULL;

		if (u.v[i] && (!name || strlist_add(&l->used, name, strlen(name)) < 0))
			r = no_memory(e);
	}
	free(u.v);
	*errors = MAX(*errors, unread);
	return r;
}

/* What a rule of all phases matches in one of them is enough. */
static int check_used(struct lint *l, enum stg_phase_kind kind, size_t told, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < l->m->own_rules[kind] && r == 0; i++) {
		_cleanup_free_ char *name = name_rule(stg_filter_rule(l->m->filters[kind], i));

		if (!name)
			return no_memory(e);
		/* What is never asked has been told about. */
		if (is_used(l, name) || is_found(l, told, name))
			continue;
		r = add(l, kind, TAKE_PTR(name),
			format("it matches nothing that the source has now, outside of hidden "
			       "directories"),
			"look at its spelling, its anchor and its slashes; keep it if such names "
			"may come, or are on the target", e);
	}
	return r;
}

/* --- what a running target cannot do without --- */

static const struct need {
	const char *path; /* one that the target has and the source need not have */
	const char *why;
	const char *remedy;
} needs[] = {
	{ "boot/vmlinuz-of-the-target", "kernels and boot loader in /boot",
	  "add a rule \"P /boot/***\", or exclude /boot/***" },
	{ "boot/efi/EFI", "the boot loader of EFI in /boot/efi",
	  "add a rule \"P /boot/efi/***\", or exclude /boot/efi/*" },
	{ "lib/modules/of-the-target", "the modules of its kernel",
	  "add a rule \"P /lib/modules/***\", or exclude /lib/modules/***" },
	{ "usr/lib/modules/of-the-target", "the modules of its kernel",
	  "add a rule \"P /usr/lib/modules/***\", or exclude /usr/lib/modules/***" },
	{ "etc/fstab", "the table of its own disks", "exclude /etc/fstab" },
	{ "etc/machine-id", "the name by which its services know it", "exclude /etc/machine-id" },
	{ "etc/ssh/ssh_host_ed25519_key", "the key by which this migration knows it",
	  "exclude /etc/ssh/ssh_host_*" },
	{ "root/.ssh/authorized_keys", "the key that this migration logs in with",
	  "exclude /root/.ssh/authorized_keys" },
	{ "etc/network/interfaces", "its network", "exclude /etc/network/***" },
	{ "etc/netplan/50-cloud-init.yaml", "its network", "exclude /etc/netplan/***" },
	{ "etc/systemd/network/10-target.network", "its network",
	  "exclude /etc/systemd/network/***" },
	{ "etc/sysconfig/network-scripts/ifcfg-eth0", "its network",
	  "exclude /etc/sysconfig/network-scripts/***" },
	{ "etc/NetworkManager/system-connections/eth0.nmconnection", "its network",
	  "exclude /etc/NetworkManager/system-connections/***" },
};

static int check_need(struct lint *l, enum stg_phase_kind kind, const struct need *need,
		      struct err *e)
{
	struct stg_explained x = { 0 };
	struct stg_subject s;
	bool sent, deleted;
	int r = stg_subject_look(l->m, bytes_str(need->path), false, &s, e);

	/* /lib may be a link into /usr, which has a row of its own. */
	if (r < 0 || s.blocked || s.scope != STG_SCOPE_IN)
		return r;
	r = stg_explain(l->m, kind, &s, &x, e);
	if (r < 0)
		return r;
	sent = s.mode && !x.hidden.yes;
	deleted = !sent && !x.kept.yes && !l->m->opt->no_delete &&
		  (!s.mount_n || s.mount_n == s.path.n);
	if ((sent && !S_ISDIR(s.mode)) || deleted)
		r = add(l, kind, format("/%s", need->path),
			format("the target root is /, and there %s would be %s", need->why,
			       sent ? "replaced by the source's" : "deleted"),
			need->remedy, e);
	stg_explained_fini(&x);
	return r;
}

static int check_needs(struct lint *l, enum stg_phase_kind kind, struct err *e)
{
	const char *root = l->m->opt->target.root;
	int r = 0;

	if (!root || root[strspn(root, "/")])
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(needs) && r == 0; i++)
		r = check_need(l, kind, &needs[i], e);
	return r;
}

/* --- all together --- */

static int check_rules(struct lint *l, enum stg_phase_kind kind, struct err *e)
{
	const struct stg_filter *f = l->m->filters[kind];
	struct stg_filter_dir *d;
	int r = stg_filter_enter(f, NULL, -1, bytes_of("", 0), &d, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < l->m->own_rules[kind] && r >= 0; i++) {
		const struct stg_rule *rule = stg_filter_rule(f, i);

		if (stg_rule_is_dir_merge(rule) || stg_rule_is_xattr(rule))
			continue;
		r = check_shadowed(l, kind, i, e);
		if (r == 0)
			r = check_unreachable(l, kind, rule, d, e);
	}
	stg_filter_dir_unref(d);
	return MIN(r, 0);
}


int stg_lint(struct stg_migration *m, size_t *ret, uint64_t *ret_errors, struct err *e)
{
	struct lint l = { .m = m };
	bool same = m->filters[STG_PHASE_FULL] == m->filters[STG_PHASE_CUTOVER];
	int n = same ? 1 : STG_PHASE_KINDS, r = 0;
	size_t told;

	*ret_errors = 0;
	for (int k = 0; k < n && r == 0; k++)
		r = check_rules(&l, (enum stg_phase_kind)k, e);
	told = l.n;
	for (int k = 0; k < n && r == 0; k++)
		r = walk_used(&l, (enum stg_phase_kind)k, ret_errors, e);
	for (int k = 0; k < n && r == 0 && !*ret_errors; k++)
		r = check_used(&l, (enum stg_phase_kind)k, told, e);
	for (int k = 0; k < n && r == 0; k++)
		r = check_needs(&l, (enum stg_phase_kind)k, e);
	for (size_t i = 0; i < l.n && r == 0; i++) {
		if (same)
			l.v[i].phases = ALL_PHASES;
		print_finding(&l.v[i]);
	}
	if (r == 0 && !l.n)
		printf("no findings\n");
	*ret = l.n;
	lint_fini(&l);
	return r;
}
