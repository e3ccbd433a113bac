/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/explain.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/io.h"
#include "common/log.h"
#include "common/text.h"
#include "stager/command.h"
#include "stager/filter.h"
#include "stager/lint.h"
#include "stager/migration.h"
#include "stager/mounts.h"
#include "stager/options.h"
#include "stager/peer.h"
#include "transport/protocol.h"

/*
 * Both sides are asked on one way down.  The sender's side ends at the first directory that
 * is hidden.  The target's side is about a path that the target alone has: a directory that
 * the source has and sends stays anyway, so its own protection is not asked; below the first
 * one that it has not everything is being removed, and perishable rules do not count.
 */

const char *const stg_phase_words[STG_PHASE_KINDS] = {
	[STG_PHASE_FULL] = "full",
	[STG_PHASE_INCREMENTAL] = "incremental",
	[STG_PHASE_CUTOVER] = "cutover",
};

static struct bytes head(struct bytes path, size_t n)
{
	return bytes_of(path.p, n);
}

/* Where the component that begins at byte n of path ends. */
static size_t component_end(struct bytes path, size_t n)
{
	const uint8_t *slash = n < path.n ? memchr(path.p + n, '/', path.n - n) : NULL;

	return slash ? (size_t)(slash - path.p) : path.n;
}

/* --- what the source has --- */

/* The mode of the entry at path, which lies in a directory of the source; 0: there is none. */
static int mode_at(const struct stg_migration *m, struct bytes path, mode_t *ret, struct err *e)
{
	const uint8_t *slash = path.n ? memrchr(path.p, '/', path.n) : NULL;
	size_t dir_n = slash ? (size_t)(slash - path.p) : 0, at = slash ? dir_n + 1 : 0;
	_cleanup_close_ int fd = -1;
	char name[NAME_MAX + 1], shown[TEXT_NAME_MAX];
	struct stat st;

	*ret = 0;
	if (path.n - at > NAME_MAX)
		return 0;
	memcpy(name, path.p + at, path.n - at);
	name[path.n - at] = '\0';
	fd = io_open_dir_below(m->source_fd, head(path, dir_n), O_PATH);
	if (fd >= 0 && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0) {
		*ret = st.st_mode;
		return 0;
	}
	if (fd == -ENOENT || (fd >= 0 && errno == ENOENT))
		return 0;
	err_sysn(e, fd < 0 ? fd : -errno, "look at %s", text_name(shown, path));
	if (e)
		e->code = -ERR_SELECT;
	return -ERR_SELECT;
}

static void look_at_scope(const struct stg_migration *m, struct stg_subject *s)
{
	const struct strlist *paths = &m->opt->paths;

	s->scope = paths->n ? STG_SCOPE_OUT : STG_SCOPE_IN;
	for (size_t i = 0; i < paths->n; i++) {
		struct bytes want = bytes_str(paths->v[i]);

		if (!strcmp(paths->v[i], ".") || stg_path_below(s->path, want))
			s->scope = STG_SCOPE_IN;
		else if (s->scope == STG_SCOPE_OUT && stg_path_below(want, s->path))
			s->scope = STG_SCOPE_ABOVE;
	}
}

int stg_subject_look(const struct stg_migration *m, struct bytes path, bool as_dir,
		     struct stg_subject *ret, struct err *e)
{
	struct stg_subject s = { .path = path, .is_dir = as_dir };
	mode_t mode = S_IFDIR;

	for (size_t n = 0; n < path.n && S_ISDIR(mode); n++) {
		int r;

		n = component_end(path, n);
		r = mode_at(m, head(path, n), &mode, e);
		if (r < 0)
			return r;
		if (S_ISDIR(mode))
			s.dirs_n = n;
		s.blocked = mode && !S_ISDIR(mode) && n < path.n;
		if (!s.mount_n && stg_mounts_kind(m->mounts, head(path, n)) == STG_MOUNT_OTHER)
			s.mount_n = n;
		s.mode = n == path.n ? mode : 0;
	}
	if (!path.n)
		s.mode = S_IFDIR;
	if (s.mode)
		s.is_dir = S_ISDIR(s.mode);
	s.own = path.n && stg_path_below(path, bytes_str(TP_OWN_DIR));
	look_at_scope(m, &s);
	*ret = s;
	return 0;
}

/* --- what the rules say --- */

static int enter(const struct stg_migration *m, const struct stg_filter *f, struct bytes path,
		 bool on_source, struct stg_filter_dir **d, struct err *e)
{
	struct stg_filter_dir *child = NULL;
	_cleanup_close_ int fd = -1;
	char shown[TEXT_NAME_MAX];
	int r;

	if (on_source)
		fd = io_open_dir_below(m->source_fd, path, O_RDONLY);
	if (on_source && fd < 0)
		return err_sysn(e, fd, "open directory %s", text_name(shown, path));
	r = stg_filter_enter(f, *d, fd, path, &child, e);
	if (r < 0)
		return r;
	stg_filter_dir_unref(*d);
	*d = child;
	return 0;
}

static struct stg_answer answer_of(const struct stg_rule *rule, size_t path_n)
{
	return (struct stg_answer){
		.rule = rule,
		.path_n = path_n,
		.yes = rule && stg_rule_excludes(rule),
	};
}

int stg_explain(const struct stg_migration *m, enum stg_phase_kind kind,
		const struct stg_subject *s, struct stg_explained *ret, struct err *e)
{
	const struct stg_filter *f = m->filters[kind];
	_cleanup_(stg_filter_dir_unrefp) struct stg_filter_dir *d = NULL;
	struct stg_explained x = { 0 };
	bool removed = false;
	int r = stg_filter_enter(f, NULL, m->source_fd, head(s->path, 0), &d, e);

	for (size_t n = 0; r == 0 && n < s->path.n; n++) {
		struct bytes at;
		bool last, is_dir, stays;

		n = component_end(s->path, n);
		at = head(s->path, n);
		last = n == s->path.n;
		is_dir = !last || s->is_dir;
		if (!x.hidden.yes)
			x.hidden = answer_of(stg_filter_match(d, at, is_dir, STG_SENDER, false), n);
		stays = !last && !x.hidden.yes && n <= s->dirs_n;
		if (!x.kept.yes && !stays)
			x.kept = answer_of(
				stg_filter_match(d, at, is_dir, STG_RECEIVER, removed), n);
		removed |= !stays;
		if (!last)
			r = enter(m, f, at, stays, &d, e);
	}
	if (r < 0)
		return r;
	x.dir = TAKE_PTR(d);
	*ret = x;
	return 0;
}

void stg_explained_fini(struct stg_explained *x)
{
	stg_filter_dir_unref(x->dir);
	*x = (struct stg_explained){ 0 };
}

/* --- in words --- */

static const char *type_word(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "regular file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symbolic link";
	case S_IFBLK:
		return "block device";
	case S_IFCHR:
		return "character device";
	case S_IFIFO:
		return "FIFO";
	default:
		return "socket";
	}
}

static void print_subject(const struct stg_subject *s)
{
	char name[TEXT_NAME_MAX];
	size_t n = s->dirs_n ? s->dirs_n + 1 : 0;

	printf("%s: ", s->path.n ? text_name(name, s->path) : ".");
	if (s->mode)
		printf("%s\n", s->path.n ? type_word(s->mode) : "the source root");
	else if (s->blocked)
		printf("not on the source: %s is no directory, and no link is followed\n",
		       text_name(name, head(s->path, component_end(s->path, n))));
	else
		printf("not on the source; the rules are asked as for a %s\n",
		       s->is_dir ? "directory" : "file (with a '/' at the end: for a directory)");
}

static void print_rule(const struct stg_rule *rule)
{
	char text[TEXT_NAME_MAX], origin[TEXT_NAME_MAX];

	printf("\"%s\" (%s)", text_name(text, bytes_str(stg_rule_text(rule))),
	       text_name(origin, bytes_str(stg_rule_origin(rule))));
}

static void print_source(const struct stg_subject *s, const struct stg_answer *a)
{
	char name[TEXT_NAME_MAX];

	if (s->own) {
		printf("not sent: /" TP_OWN_DIR " is the product's own\n");
	} else if (s->scope == STG_SCOPE_OUT) {
		printf("not sent: it lies below no --path\n");
	} else if (a->yes && (!s->mount_n || a->path_n <= s->mount_n)) {
		printf(a->path_n < s->path.n ? "hidden: the directory %s is not entered, by " :
					       "hidden by ",
		       text_name(name, head(s->path, a->path_n)));
		print_rule(a->rule);
		printf("\n");
	} else if (s->mount_n && s->mount_n < s->path.n) {
		printf("not sent: the mount point %s is not entered\n",
		       text_name(name, head(s->path, s->mount_n)));
	} else if (s->blocked) {
		printf("not sent: it cannot be there\n");
	} else {
		printf(s->mode ? "sent" : "would be sent");
		printf(a->rule ? ", by " : s->path.n ? ", no rule matches" : "");
		if (a->rule)
			print_rule(a->rule);
		if (s->mount_n)
			printf("; what is mounted on it is not");
		else if (s->scope == STG_SCOPE_ABOVE)
			printf("; of what is in it just what leads to a --path");
		printf("\n");
	}
}

static void print_target(const struct stg_migration *m, const struct stg_subject *s,
			 const struct stg_answer *a)
{
	char name[TEXT_NAME_MAX];

	if (!s->path.n)
		printf("never deleted\n");
	else if (s->own || stg_is_receiver(s->path))
		printf("kept: it is the product's own\n");
	else if (m->opt->no_delete)
		printf("kept: --no-delete\n");
	else if (s->scope != STG_SCOPE_IN)
		printf("kept: it lies below no --path\n");
	else if (s->mount_n && s->mount_n < s->path.n && !a->yes)
		printf("kept: nothing is deleted below the mount point %s\n",
		       text_name(name, head(s->path, s->mount_n)));
	else if (a->yes) {
		printf(a->path_n < s->path.n ? "protected: the directory %s stays as it is, by " :
					       "protected by ",
		       text_name(name, head(s->path, a->path_n)));
		print_rule(a->rule);
		printf("\n");
	} else {
		printf("deleted when only the target has it, ");
		printf(a->rule ? "by " : "no rule protects it");
		if (a->rule)
			print_rule(a->rule);
		printf("\n");
	}
}

static int explain_path(const struct stg_migration *m, struct bytes path, bool as_dir,
			struct err *e)
{
	struct stg_subject s;
	int r = stg_subject_look(m, path, as_dir, &s, e);

	if (r < 0)
		return r;
	print_subject(&s);
	for (int k = 0; k < STG_PHASE_KINDS; k++) {
		struct stg_explained x;

		r = stg_explain(m, (enum stg_phase_kind)k, &s, &x, e);
		if (r < 0)
			return r;
		printf("  %-11s  source: ", stg_phase_words[k]);
		print_source(&s, &x.hidden);
		printf("  %-11s  target: ", stg_phase_words[k]);
		print_target(m, &s, &x.kept);
		stg_explained_fini(&x);
	}
	return 0;
}

/* --- the command --- */

/* The argument relative to the source; it may be below what the source's name leads to, too. */
static int normal_path(const struct stg_migration *m, const char *arg, struct strlist *ret,
		       struct err *e)
{
	struct strlist one = { .v = (char **)(uintptr_t)&arg, .n = 1 };
	struct err second;
	int r;

	if (!*arg)
		return err_set(e, -ERR_SELECT, "explain: the path is empty");
	r = stg_paths_normalise(m->opt->source, &one, ret, e);
	if (r == -ERR_USAGE && stg_paths_normalise(m->source, &one, ret, &second) == 0) {
		*e = (struct err){ 0 };
		return 0;
	}
	if (r == -ERR_USAGE) {
		e->code = -ERR_SELECT;
		return err_ctx(e, e->code, "explain");
	}
	return r;
}

static int explain_arg(const struct stg_migration *m, const char *arg, struct err *e)
{
	_cleanup_(strlist_fini) struct strlist normal = { 0 };
	const char *path;
	int r = normal_path(m, arg, &normal, e);

	if (r < 0)
		return r;
	path = strcmp(normal.v[0], ".") ? normal.v[0] : "";
	return explain_path(m, bytes_str(path), arg[strlen(arg) - 1] == '/', e);
}

int stg_command_explain(struct stg_options *o, struct err *e)
{
	struct stg_migration m;
	size_t findings = 0;
	uint64_t errors = 0;
	int r;

	if (!o->args.n && !o->lint) {
		log_error("explain: no path is given, and no --lint");
		return err_exit_status(-ERR_USAGE);
	}
	r = stg_migration_open(&m, o, STG_LEVEL_RULES, e);
	for (size_t i = 0; i < o->args.n && r == 0; i++)
		r = explain_arg(&m, o->args.v[i], e);
	if (r == 0 && o->lint)
		r = stg_lint(&m, &findings, &errors, e);
	if (fflush(stdout) == EOF && r == 0)
		r = err_sys(e, "write to standard output");
	return stg_migration_close(&m, r, e, findings ? 1 : errors ? 23 : 0);
}
