/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/macro.h"
#include "stager/filter.h"

/* ---- a temporary tree and a filter ---- */

struct fixture {
	char *dir; /* absolute */
	char *root; /* dir/t, the source root */
	int rootfd;
	struct stg_filter *f;
	struct err e;
};

static int remove_one(const char *path, const struct stat *st _unused_, int kind _unused_,
		      struct FTW *ftw _unused_)
{
	return remove(path);
}

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	x->dir = strdup("/tmp/test_filter.XXXXXX");
	assert_non_null(x->dir);
	assert_non_null(mkdtemp(x->dir));
	assert_true(asprintf(&x->root, "%s/t", x->dir) > 0);
	assert_int_equal(mkdir(x->root, 0700), 0);
	x->rootfd = open(x->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(x->rootfd >= 0);
	assert_int_equal(stg_filter_new(&x->f, &x->e), 0);
	assert_int_equal(stg_filter_set_root(x->f, STG_SENDER, x->root, &x->e), 0);
	assert_int_equal(stg_filter_set_root(x->f, STG_RECEIVER, "/target/t", &x->e), 0);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	stg_filter_free(x->f);
	close(x->rootfd);
	nftw(x->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(x->dir);
	free(x->root);
	free(x);
	return 0;
}

/* A file below the root, with the directories on the way to it. */
static void put(struct fixture *x, const char *path, const char *text)
{
	_cleanup_free_ char *copy = strdup(path);
	_cleanup_close_ int fd = -1;

	assert_non_null(copy);
	for (char *s = strchr(copy, '/'); s; s = strchr(s + 1, '/')) {
		*s = 0;
		mkdirat(x->rootfd, copy, 0700);
		*s = '/';
	}
	if (path[strlen(path) - 1] == '/')
		return;
	fd = openat(x->rootfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
}

/* Rules separated by newlines, each as one --filter option. */
static void add_rules(struct fixture *x, const char *rules)
{
	_cleanup_free_ char *copy = strdup(rules);
	char *save = NULL;

	assert_non_null(copy);
	for (char *s = strtok_r(copy, "\n", &save); s; s = strtok_r(NULL, "\n", &save))
		if (stg_filter_add_rule(x->f, s, "--filter", &x->e) < 0)
			fail_msg("%s", x->e.text);
}

static void restart(struct fixture *x)
{
	stg_filter_free(x->f);
	x->f = NULL;
	assert_int_equal(stg_filter_new(&x->f, &x->e), 0);
	assert_int_equal(stg_filter_set_root(x->f, STG_SENDER, x->root, &x->e), 0);
	assert_int_equal(stg_filter_set_root(x->f, STG_RECEIVER, "/target/t", &x->e), 0);
}

/* Excluded as a scan from the root would find it?  A trailing slash makes it a directory. */
static bool excluded(struct fixture *x, const char *path, enum stg_side side)
{
	struct stg_filter_verdict v = { 0 };
	size_t n = strlen(path);
	bool is_dir = path[n - 1] == '/';
	bool ret;

	if (stg_filter_explain(x->f, x->rootfd, bytes_of(path, n - is_dir), is_dir, side, &v,
			       &x->e) < 0)
		fail_msg("%s", x->e.text);
	ret = v.excluded;
	stg_filter_verdict_fini(&v);
	return ret;
}

struct row {
	const char *rules;
	const char *hidden; /* space-separated paths, "\xa0" in a name stands for a space */
	const char *sent;
};

static void check_paths(struct fixture *x, const char *rules, const char *paths,
			enum stg_side side, bool want)
{
	_cleanup_free_ char *copy = strdup(paths ? paths : "");
	char *save = NULL;

	assert_non_null(copy);
	for (char *s = strtok_r(copy, " ", &save); s; s = strtok_r(NULL, " ", &save)) {
		for (char *c = s; *c; c++)
			if (*c == '\xa0')
				*c = ' ';
		if (excluded(x, s, side) != want)
			fail_msg("rules '%s' path '%s': expected %s", rules, s,
				 want ? "excluded" : "not excluded");
	}
}

static void check_rows(struct fixture *x, const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		restart(x);
		add_rules(x, rows[i].rules);
		check_paths(x, rows[i].rules, rows[i].hidden, STG_SENDER, true);
		check_paths(x, rows[i].rules, rows[i].sent, STG_SENDER, false);
	}
}

/* ---- patterns ---- */

static void the_first_rule_that_matches_decides_on_the_way_down(void **state)
{
	static const struct row rows[] = {
		{ "+ foo\n- *", "bar", "foo" },
		{ "- *\n+ foo", "foo bar", NULL },
		{ "- foo", NULL, "bar a/bar" },
		{ "+ x/y/bar\n- *", "x/ x/y/bar", NULL },
		{ "+ /x/\n+ /x/y/\n+ /x/y/bar\n- *", "z x/z x/y/z", "x/ x/y/ x/y/bar" },
		{ "+ */\n+ bar\n- *", "a/foo foo", "a/ a/b/ a/b/bar bar" },
		{ "- a/", "a/ a/b a/b/c", "a" },
	};

	check_rows(*state, rows, ARRAY_SIZE(rows));
}

static void placement_follows_slashes_and_stars(void **state)
{
	static const struct row rows[] = {
		/* anchored at the root of the transfer */
		{ "- /foo", "foo", "a/foo foo2" },
		{ "- /a/foo", "a/foo", "z/a/foo a" },
		{ "- /", NULL, "a a/b/" },
		/* the last component, at any depth */
		{ "- foo", "foo a/foo a/b/foo foo/x", "afoo foob" },
		{ "- *.o", "x.o a/.o a/b.o", "o x.oo" },
		{ "- f?o*", "foo a/fxoo", "fo xfoo" },
		/* the last N + 1 components */
		{ "- a/foo", "a/foo z/a/foo", "a/b/foo xa/foo foo" },
		{ "- a/*/foo", "a/b/foo z/a/b/foo", "a/foo a/b/c/foo" },
		{ "- *a/f*", "xa/foo z/a/f", "a/xf" },
		/* "**": the whole path, or what follows a slash */
		{ "- dir1/**", "dir1/x dir1/x/y q/dir1/g", "dir1/ xdir1/g" },
		{ "- a**b", "ab a/b x/axb a/x/b", "ba xab" },
		{ "- x/**/bar", "x/y/bar x/y/z/bar q/x/y/bar", "x/bar" },
		{ "- /x/**", "x/a x/a/b", "x/ y/x/a" },
		{ "- **/foo", "foo a/foo a/b/foo", "afoo" },
		{ "- **foo", "foo afoo a/foo a/xfoo", "foob" },
		{ "- /**/foo", "a/foo a/b/foo", "foo" },
		/* "***" at the end takes the directory in */
		{ "- dir/***", "dir/ dir/x q/dir/ q/dir/x/y", "dir adir/" },
		{ "- /dir/***", "dir/ dir/x", "q/dir/ q/dir/x dir" },
		{ "- a/***/b", "a/x/b a/x/y/b", "a/b" },
		{ "- dir***", "dir/ dir dirx/ a/dirx", "adir" },
		/* a trailing slash: directories only, a link is none */
		{ "- foo/", "foo/ a/foo/", "foo a/foo" },
		{ "- foo//", NULL, "foo/ foo" },
		/* contents or the directory too */
		{ "- /proc/*", "proc/1 proc/1/x proc/.x", "proc/ a/proc/1" },
		{ "- /proc/", "proc/ proc/1", "proc a/proc/" },
		{ "- *", ".hid a é", NULL },
	};

	check_rows(*state, rows, ARRAY_SIZE(rows));
}

static void wildcards_and_backslashes_are_rsyncs(void **state)
{
	static const struct row rows[] = {
		{ "- ??", "ab é", "a abc" },
		{ "- [[:upper:]]*", "Ab", "ab" },
		{ "- [!a-c]", "d", "a dd" },
		{ "- [^a-c]", "d", "b" },
		{ "- a[/]b", NULL, "a/b" },
		{ "- [[:nope:]a]", NULL, "a" },
		{ "- br[1]", "br1", "br[1]" },
		{ "- br\\[1]", "br[1]", "br1" },
		{ "- br\\[1\\]", "br[1]", "br1" },
		/* without a wildcard a backslash is itself */
		{ "- bs\\t", "bs\\t", "bst" },
		{ "- bs\\t*", "bst bstx", "bs\\t" },
		{ "- bs\\\\t*", "bs\\t", "bst" },
		{ "- /a/bs\\t", "a/bs\\t", "a/bst" },
		/* blanks belong to the pattern */
		{ "- sp ", "sp\xa0", "sp" },
		{ "-  sp", "\xa0sp", "sp" },
		{ "- a b", "a\xa0" "b", "a b" },
	};

	check_rows(*state, rows, ARRAY_SIZE(rows));
}

static void names_modifiers_and_separators_are_understood(void **state)
{
	static const struct row rows[] = {
		{ "exclude foo", "foo", "_foo" },
		{ "exclude_foo", "foo", NULL },
		{ "-_foo", "foo", "_foo" },
		{ "- _foo", "_foo", "foo" },
		{ "-, foo", "foo", NULL },
		{ "exclude, foo", "foo", NULL },
		{ "include foo\n- *", "x", "foo" },
		{ "hide foo", "foo", NULL },
		{ "H foo", "foo", NULL },
		{ "show foo\nH *", "x", "foo" },
		{ "S,p foo\n- *", "x", "foo" },
		{ "protect foo", NULL, "foo" },
		{ "-r foo", NULL, "foo" },
		{ "-sr foo", "foo", NULL },
		{ "-ssp foo", "foo", NULL },
		{ "-! */", "a x/b", "a/ x/y/" },
		{ "-,! foo", "bar", "foo" },
		{ "exclude,!p foo", "bar", "foo" },
		{ "+! foo\n- *", "foo", "bar" },
		{ "- foo\n!\n- bar", "bar", "foo" },
		{ "- foo\nclear", NULL, "foo" },
		{ "- foo\n!,", NULL, "foo" },
		{ "-x user.foo", NULL, "user.foo" },
	};

	check_rows(*state, rows, ARRAY_SIZE(rows));
}

static void bad_rules_are_refused_with_their_text(void **state)
{
	static const struct {
		const char *rule;
		const char *says;
	} rows[] = {
		{ "- ", "ends too early" },
		{ "-", "ends too early" },
		{ "exclude", "ends too early" },
		{ "P", "ends too early" },
		{ ": ", "ends too early" },
		{ "--", "invalid modifier at byte 2" },
		{ "excludefoo", "unknown filter rule" },
		{ "exclude,foo", "invalid modifier" },
		{ "exclude\tfoo", "invalid modifier" },
		{ "-s,p foo", "invalid modifier" },
		{ "Hs foo", "invalid modifier" },
		{ "Pr foo", "invalid modifier" },
		{ "PC", "invalid modifier" },
		{ "-e foo", "invalid modifier" },
		{ "-n foo", "invalid modifier" },
		{ "-w foo", "invalid modifier" },
		{ ":-+ .f", "invalid modifier" },
		{ ":! .f", "invalid modifier" },
		{ "-C foo", "takes no argument" },
		{ "! foo", "takes no argument" },
		{ "!foo", "takes no argument" },
		{ "clear ", "takes no argument" },
		{ "X foo", "unknown filter rule" },
		{ "_foo", "unknown filter rule" },
		{ " - foo", "unknown filter rule" },
		{ "#x", "unknown filter rule" },
		{ ": dir/", "file name expected" },
	};
	struct fixture *x = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		restart(x);
		assert_int_equal(stg_filter_add_rule(x->f, rows[i].rule, "--filter", &x->e),
				 -ERR_USAGE);
		if (!strstr(x->e.text, rows[i].says) || !strstr(x->e.text, "--filter: "))
			fail_msg("'%s' gave '%s'", rows[i].rule, x->e.text);
	}
	/* Nothing to add is no mistake: rsync takes an empty option too. */
	assert_int_equal(stg_filter_add_rule(x->f, "", "--filter", &x->e), 0);
}

static void old_options_take_patterns_with_optional_signs(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(stg_filter_add_include(x->f, "keep", "--include", &x->e), 0);
	assert_int_equal(stg_filter_add_exclude(x->f, "+ too", "--exclude", &x->e), 0);
	assert_int_equal(stg_filter_add_include(x->f, "- not", "--include", &x->e), 0);
	assert_int_equal(stg_filter_add_exclude(x->f, "!x", "--exclude", &x->e), 0);
	assert_int_equal(stg_filter_add_exclude(x->f, "-x", "--exclude", &x->e), 0);
	assert_int_equal(stg_filter_add_exclude(x->f, "k*", "--exclude", &x->e), 0);
	check_paths(x, "old", "not !x -x kx", STG_SENDER, true);
	check_paths(x, "old", "keep too x +", STG_SENDER, false);
	assert_int_equal(stg_filter_count(x->f), 6);
	assert_int_equal(stg_filter_add_exclude(x->f, "!", "--exclude", &x->e), 0);
	assert_int_equal(stg_filter_count(x->f), 0);
	assert_int_equal(stg_filter_add_exclude(x->f, "- ", "--exclude", &x->e), -ERR_USAGE);
}

/* ---- sides ---- */

static void sides_are_told_apart(void **state)
{
	static const struct {
		const char *rules;
		bool delete_excluded;
		bool hidden;
		bool protected;
	} rows[] = { /* of a file x.log */
		{ "- *.log", false, true, true },
		{ "H *.log", false, true, false },
		{ "-s *.log", false, true, false },
		{ "P *.log", false, false, true },
		{ "-r *.log", false, false, true },
		{ "R *.log\n- *.log", false, true, false },
		{ "- *.log\nR *.log", false, true, true },
		{ "S *.log\n- *.log", false, false, true },
		{ "+ *.log\n- *", false, false, false },
		{ "- *.log", true, true, false },
		{ "P *.log\n- *.log", true, true, true },
		{ "- *.log\nP *.log", true, true, true },
		{ "-sr *.log", true, true, true },
		{ "-p *.log", false, true, true },
	};
	struct fixture *x = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows) * 2; i++) {
		size_t row = i / 2;

		restart(x);
		/* The option counts wherever it stands. */
		if (i % 2)
			stg_filter_set_delete_excluded(x->f, rows[row].delete_excluded);
		add_rules(x, rows[row].rules);
		if (i % 2 == 0)
			stg_filter_set_delete_excluded(x->f, rows[row].delete_excluded);
		if (excluded(x, "x.log", STG_SENDER) != rows[row].hidden ||
		    excluded(x, "x.log", STG_RECEIVER) != rows[row].protected)
			fail_msg("rules '%s'", rows[row].rules);
	}
}

static void perishable_rules_stop_in_removed_directories(void **state)
{
	_cleanup_(stg_filter_dir_unrefp) struct stg_filter_dir *d = NULL;
	struct fixture *x = *state;

	add_rules(x, "-p *.o\n- keep");
	assert_int_equal(stg_filter_enter(x->f, NULL, x->rootfd, bytes_str(""), &d, &x->e), 0);
	assert_true(stg_filter_protects(d, bytes_str("d/x.o"), false, false));
	assert_false(stg_filter_protects(d, bytes_str("d/x.o"), false, true));
	assert_true(stg_filter_protects(d, bytes_str("d/keep"), false, true));
	assert_false(stg_filter_sends(d, bytes_str("d/x.o"), false));
	assert_true(stg_filter_sends(d, bytes_str("d/x.c"), false));
}

static void absolute_rules_see_each_sides_own_path(void **state)
{
	struct fixture *x = *state;
	char rule[256];

	snprintf(rule, sizeof(rule), "-/ %s/a", x->root);
	add_rules(x, rule);
	add_rules(x, "-/ /target/t/b\n-/ t/c\n-/ **/t/d/***");
	check_paths(x, "abs", "a c d/ d/x", STG_SENDER, true);
	check_paths(x, "abs", "b q/a q/c q/d/", STG_SENDER, false);
	check_paths(x, "abs", "b c d/", STG_RECEIVER, true);
	check_paths(x, "abs", "a q/c", STG_RECEIVER, false);
}

/* ---- files ---- */

/* Whether the rules can treat a directory's contents otherwise under another name. */
static void rules_that_know_a_path_are_told(void **state)
{
	static const struct {
		const char *rules;
		const char *path;
		bool want;
	} rows[] = {
		{ "", "a/b", false },
		{ "- *.o", "a/b", false },
		{ "- cache/", "a/b", false },
		{ "- /a/b/c", "a/b", true },
		{ "- /a/b/c", "a/x", false },
		{ "- /a/b/c", "a", true },
		{ "- /a/b", "a/b", false },
		{ "- /a*/c", "a/b", true },
		{ "- /z*/c", "a/b", false },
		{ "- b/c", "a/b", true },
		{ "- **/c", "a/b", true },
		{ "-! *.o", "a/b", true },
		{ "-/ /x", "a/b", true },
		{ ": .rules", "a/b", true },
		{ "-x user.*", "a/b", false },
		{ "- *.o\n- /a/b/c", "a/b", true },
	};
	struct fixture *x = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		restart(x);
		add_rules(x, rows[i].rules);
		if (stg_filter_is_local(x->f, bytes_str(rows[i].path)) != rows[i].want)
			fail_msg("rules '%s', directory '%s'", rows[i].rules, rows[i].path);
	}
}

static void lists_have_comments_and_know_their_lines(void **state)
{
	struct fixture *x = *state;
	_cleanup_free_ char *list = NULL, *rules = NULL, *rule = NULL, *want = NULL;
	const struct stg_rule *r;

	put(x, "list", "# c\n; c\n\n*.o\r\n+ keep\n- k*\nno newline");
	put(x, "rules", "# c\n- foo\nH  x\n");
	assert_true(asprintf(&list, "%s/list", x->root) > 0);
	assert_true(asprintf(&rules, "%s/rules", x->root) > 0);
	assert_true(asprintf(&rule, ". %s", rules) > 0);
	assert_int_equal(stg_filter_add_file(x->f, list, false, "--exclude-from", &x->e), 0);
	add_rules(x, rule);
	add_rules(x, "P p");
	check_paths(x, "list", "a.o kk no\xa0newline foo \xa0x", STG_SENDER, true);
	check_paths(x, "list", "keep # c p", STG_SENDER, false);

	assert_int_equal(stg_filter_count(x->f), 7);
	r = stg_filter_rule(x->f, 1);
	assert_true(asprintf(&want, "%s:5", list) > 0);
	assert_string_equal(stg_rule_origin(r), want);
	assert_string_equal(stg_rule_text(r), "+ keep");
	assert_false(stg_rule_excludes(r));
	r = stg_filter_rule(x->f, 6);
	assert_string_equal(stg_rule_origin(r), "--filter");
	assert_string_equal(stg_rule_text(r), "P p");
	assert_true(stg_rule_on_side(x->f, r, STG_RECEIVER));
	assert_false(stg_rule_on_side(x->f, r, STG_SENDER));
	assert_true(stg_rule_matches(x->f, r, bytes_str("a/p"), false, STG_RECEIVER));
}

static void a_bad_file_is_told_with_its_line(void **state)
{
	struct fixture *x = *state;
	_cleanup_free_ char *path = NULL, *rule = NULL;

	put(x, "rules", "- a\n\n - b\n");
	assert_true(asprintf(&path, "%s/rules", x->root) > 0);
	assert_true(asprintf(&rule, ". %s", path) > 0);
	assert_int_equal(stg_filter_add_rule(x->f, rule, "--filter", &x->e), -ERR_USAGE);
	assert_non_null(strstr(x->e.text, "/rules:3: "));
	assert_non_null(strstr(x->e.text, "' - b'"));

	assert_int_equal(stg_filter_add_rule(x->f, ". /nonexistent/f", "--filter", &x->e),
			 -ERR_SELECT);
	assert_int_equal(x->e.code, -ERR_SELECT);
	assert_non_null(strstr(x->e.text, "/nonexistent/f"));
	assert_int_equal(stg_filter_add_file(x->f, "/nonexistent/f", true, "--include-from",
					     &x->e), -ERR_SELECT);
	assert_non_null(strstr(x->e.text, "--include-from: "));
	/* a directory opens, but does not read */
	assert_int_equal(stg_filter_add_file(x->f, x->root, true, "--include-from", &x->e),
			 -ERR_SELECT);
}

static void a_file_that_merges_itself_is_refused(void **state)
{
	struct fixture *x = *state;
	_cleanup_free_ char *rule = NULL;

	assert_true(asprintf(&rule, ". %s/self", x->root) > 0);
	put(x, "self", rule);
	assert_int_equal(stg_filter_add_rule(x->f, rule, "--filter", &x->e), -ERR_USAGE);
	assert_non_null(strstr(x->e.text, "nested too deeply"));
}

static void modifiers_of_a_merge_rule_shape_its_file(void **state)
{
	static const struct {
		const char *mods;
		const char *text;
		const char *hidden;
		const char *sent;
	} rows[] = {
		{ "-", "a\n+ b\n", "a +\xa0" "b", "b" },
		{ "+", "a\n", NULL, "a" },
		{ "w", "- a\t+_b  -_c\n# -_d", NULL, NULL },
		{ "w", "- a\t+_b  -_c\n", "a c", "b" },
		{ "-w", "a b\n#x", "a b #x", "c" },
		{ "C", "a ! b", "b", "a" },
		{ "s", "- a", "a", NULL },
		{ "r", "- a", NULL, "a" },
		{ "e", "- a", "a f d/f", "b" },
		{ "", "- a\n!\n- b", "b", "a" },
	};
	struct fixture *x = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char rule[256];
		int r;

		restart(x);
		put(x, "f", rows[i].text);
		snprintf(rule, sizeof(rule), ".%s %s/f", rows[i].mods, x->root);
		r = stg_filter_add_rule(x->f, rule, "--filter", &x->e);
		assert_int_equal(r, rows[i].hidden || rows[i].sent ? 0 : -ERR_USAGE);
		check_paths(x, rule, rows[i].hidden, STG_SENDER, true);
		check_paths(x, rule, rows[i].sent, STG_SENDER, false);
	}
	restart(x);
	put(x, "f", "H a");
	{
		char rule[256];

		snprintf(rule, sizeof(rule), ".s %s/f", x->root);
		assert_int_equal(stg_filter_add_rule(x->f, rule, "--filter", &x->e), -ERR_USAGE);
		assert_non_null(strstr(x->e.text, "side"));
	}
}

static void cvs_rules_are_perishable_and_know_the_users_own(void **state)
{
	_cleanup_(stg_filter_dir_unrefp) struct stg_filter_dir *d = NULL;
	struct fixture *x = *state;

	put(x, ".cvsignore", "mine ! other");
	assert_int_equal(stg_filter_set_cvs(x->f, x->root, "env1 env2", &x->e), 0);
	add_rules(x, "- first\n-C");
	check_paths(x, "-C", "first other env1 env2", STG_SENDER, true);
	/* the '!' clears the group, not what came before it */
	check_paths(x, "-C", "mine x.o CVS", STG_SENDER, false);
	restart(x);
	add_rules(x, "-C");
	check_paths(x, "-C", "x.o CVS core a/.git/ z~ #x", STG_SENDER, true);
	check_paths(x, "-C", "x.c .git", STG_SENDER, false);
	assert_int_equal(stg_filter_enter(x->f, NULL, x->rootfd, bytes_str(""), &d, &x->e), 0);
	assert_true(stg_filter_protects(d, bytes_str("d/x.o"), false, false));
	assert_false(stg_filter_protects(d, bytes_str("d/x.o"), false, true));
}

static void per_directory_files_reach_down(void **state)
{
	struct fixture *x = *state;

	put(x, ".f", "- *.o\n- /top\n");
	put(x, "a/.f", "+ keep.o\n- /here\n- b/deep\n");
	put(x, "a/b/.f", "!\n- z\n");
	put(x, "c/.f/", NULL); /* a directory of that name is no file of rules */
	put(x, "br[1]/.f", "- /x\n- /y*\n");
	add_rules(x, "+ early.o\n: .f\n- late");
	check_paths(x, ":", "x.o top a/x.o a/here c/x.o a/b/z late a/b/late br[1]/x br[1]/yy",
		    STG_SENDER, true);
	check_paths(x, ":", "early.o keep c/top a/keep.o a/b/here a/b/x.o a/b/deep here x c/br1/x a/br[1]/x",
		    STG_SENDER, false);
	check_paths(x, ":", "keep.o br[1]/q/x.o", STG_SENDER, true);
	check_paths(x, ":", "br[1]/q/x", STG_SENDER, false);
}

static void rules_say_which_file_and_line_they_are_from(void **state)
{
	struct stg_filter_verdict v = { 0 };
	struct fixture *x = *state;

	put(x, "a/b/.f", "# c\n- foo\n");
	put(x, "a/b/foo/x", "");
	add_rules(x, ": .f");
	assert_int_equal(stg_filter_explain(x->f, x->rootfd, bytes_str("a/b/foo/x"), false,
					    STG_SENDER, &v, &x->e), 0);
	assert_true(v.excluded);
	assert_int_equal(v.path_n, strlen("a/b/foo"));
	assert_string_equal(stg_rule_origin(v.rule), "a/b/.f:2");
	assert_string_equal(stg_rule_text(v.rule), "- foo");
	stg_filter_verdict_fini(&v);
}

static void modifiers_of_a_dir_merge_rule_count(void **state)
{
	struct fixture *x = *state;

	put(x, ".f", "- x\n");
	put(x, "a/q", "");
	add_rules(x, ":n .f");
	check_paths(x, ":n", "x", STG_SENDER, true);
	check_paths(x, ":n", "a/x .f", STG_SENDER, false);
	restart(x);
	add_rules(x, ":es .f");
	check_paths(x, ":es", "x .f a/.f", STG_SENDER, true);
	check_paths(x, ":es", "x", STG_RECEIVER, false);
	check_paths(x, ":es", ".f", STG_RECEIVER, true);
	restart(x);
	put(x, ".cvsignore", "one two\n");
	add_rules(x, ":C");
	check_paths(x, ":C", "one two", STG_SENDER, true);
	check_paths(x, ":C", "a/one three", STG_SENDER, false);
	restart(x);
	put(x, ".f", ": .g\n");
	put(x, "a/.g", "- y\n");
	add_rules(x, ": .f");
	check_paths(x, "nested", "a/y a/b/y", STG_SENDER, true);
	check_paths(x, "nested", "y", STG_SENDER, false);
}

static void parents_of_the_root_are_searched(void **state)
{
	struct fixture *x = *state;

	put(x, "../.rsync-filter", "- /t/anchored\n- up\n- t/tail\n");
	put(x, ".rsync-filter", "- down\n");
	assert_int_equal(stg_filter_add_dash_f(x->f, "-F", &x->e), 0);
	check_paths(x, "-F", "anchored up a/up down", STG_SENDER, true);
	check_paths(x, "-F", "a/anchored .rsync-filter a/t/x", STG_SENDER, false);
	assert_int_equal(stg_filter_add_dash_f(x->f, "-F", &x->e), 0);
	assert_int_equal(stg_filter_add_dash_f(x->f, "-F", &x->e), 0);
	assert_int_equal(stg_filter_count(x->f), 2);
	check_paths(x, "-FF", ".rsync-filter a/.rsync-filter", STG_SENDER, true);
	restart(x);
	add_rules(x, ": .rsync-filter"); /* no path: no search */
	check_paths(x, ":", "up anchored", STG_SENDER, false);
	restart(x);
	add_rules(x, ": ../.rsync-filter");
	check_paths(x, ": ../", "up down anchored", STG_SENDER, true);
}

static void what_cannot_be_read_as_rules_is_told_or_passed_over(void **state)
{
	_cleanup_(stg_filter_dir_unrefp) struct stg_filter_dir *d = NULL;
	struct fixture *x = *state;

	add_rules(x, ": .f");
	assert_int_equal(mkfifoat(x->rootfd, ".f", 0600), 0); /* must not block */
	assert_int_equal(stg_filter_enter(x->f, NULL, x->rootfd, bytes_str(""), &d, &x->e), 0);
	stg_filter_dir_unref(TAKE_PTR(d));
	assert_int_equal(unlinkat(x->rootfd, ".f", 0), 0);
	put(x, ".f", "bogus\n");
	assert_int_equal(stg_filter_enter(x->f, NULL, x->rootfd, bytes_str(""), &d, &x->e),
			 -ERR_USAGE);
	assert_string_equal(x->e.text, ".f:1: unknown filter rule: 'bogus'");
	put(x, ".f", ": .g\n: .h\n- a\nbogus\n"); /* fails after it has declared more files */
	assert_int_equal(stg_filter_enter(x->f, NULL, x->rootfd, bytes_str(""), &d, &x->e),
			 -ERR_USAGE);
	put(x, ".f", ". -\n");
	assert_int_equal(stg_filter_enter(x->f, NULL, x->rootfd, bytes_str(""), &d, &x->e),
			 -ERR_USAGE);
	put(x, ".f", ". nothere\n");
	assert_int_equal(stg_filter_enter(x->f, NULL, x->rootfd, bytes_str(""), &d, &x->e),
			 -ERR_SELECT);
	assert_non_null(strstr(x->e.text, ".f:1: "));
	assert_int_equal(unlinkat(x->rootfd, ".f", 0), 0);
	assert_int_equal(symlinkat(".f", x->rootfd, ".f"), 0);
	assert_int_equal(stg_filter_enter(x->f, NULL, x->rootfd, bytes_str(""), &d, &x->e),
			 -ERR_SELECT);
	assert_null(d);
}

/* ---- nodes ---- */

static void nodes_are_shared_where_nothing_changes(void **state)
{
	_cleanup_(stg_filter_dir_unrefp) struct stg_filter_dir *top = NULL, *a = NULL, *b = NULL;
	struct fixture *x = *state;

	put(x, "a/q", "");
	add_rules(x, "- foo");
	assert_int_equal(stg_filter_enter(x->f, NULL, x->rootfd, bytes_str(""), &top, &x->e), 0);
	/* no such rule: the descriptor is not even looked at */
	assert_int_equal(stg_filter_enter(x->f, top, -2, bytes_str("a"), &a, &x->e), 0);
	assert_ptr_equal(a, top);
	stg_filter_dir_unref(TAKE_PTR(a));
	stg_filter_dir_unref(TAKE_PTR(top));
	restart(x);
	put(x, ".f", "- x\n");
	add_rules(x, ": .f\n:n .g");
	assert_int_equal(stg_filter_enter(x->f, NULL, x->rootfd, bytes_str(""), &top, &x->e), 0);
	assert_int_equal(stg_filter_enter(x->f, top, x->rootfd, bytes_str("a"), &a, &x->e), 0);
	assert_ptr_not_equal(a, top); /* same files read once more: other rules */
	assert_int_equal(stg_filter_enter(x->f, top, -1, bytes_str("b"), &b, &x->e), 0);
	assert_ptr_equal(b, top); /* on the target only */
	stg_filter_dir_unref(TAKE_PTR(top));
	assert_false(stg_filter_sends(a, bytes_str("a/x"), false));
}

struct thread_arg {
	struct stg_filter_dir *d;
	bool ok;
};

static void *use_node(void *p)
{
	struct thread_arg *t = p;

	t->ok = true;
	for (int i = 0; i < 20000; i++) {
		struct stg_filter_dir *d = stg_filter_dir_ref(t->d);

		t->ok &= !stg_filter_sends(d, bytes_str("a/x"), false);
		t->ok &= stg_filter_sends(d, bytes_str("a/y"), false);
		stg_filter_dir_unref(d);
	}
	stg_filter_dir_unref(t->d);
	return NULL;
}

static void threads_share_a_node(void **state)
{
	struct fixture *x = *state;
	struct stg_filter_dir *d = NULL;
	struct thread_arg args[4];
	pthread_t threads[ARRAY_SIZE(args)];

	put(x, ".f", "- x\n");
	add_rules(x, ": .f");
	assert_int_equal(stg_filter_enter(x->f, NULL, x->rootfd, bytes_str(""), &d, &x->e), 0);
	for (size_t i = 0; i < ARRAY_SIZE(args); i++) {
		args[i].d = stg_filter_dir_ref(d);
		assert_int_equal(pthread_create(&threads[i], NULL, use_node, &args[i]), 0);
	}
	stg_filter_dir_unref(d);
	for (size_t i = 0; i < ARRAY_SIZE(args); i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_true(args[i].ok);
	}
}

static void xattr_rules_are_a_world_of_their_own(void **state)
{
	_cleanup_(stg_filter_dir_unrefp) struct stg_filter_dir *d = NULL;
	struct fixture *x = *state;
	const struct stg_rule *r;

	assert_int_equal(stg_filter_enter(x->f, NULL, x->rootfd, bytes_str(""), &d, &x->e), 0);
	assert_false(stg_filter_has_xattr_rules(d));
	stg_filter_dir_unref(TAKE_PTR(d));
	put(x, ".f", "-x user.dir\n");
	add_rules(x, "- user.*\n+x user.keep\n-xr user.r\n-xs user.s\n: .f\n-x trusted.*");
	assert_int_equal(stg_filter_enter(x->f, NULL, x->rootfd, bytes_str(""), &d, &x->e), 0);
	assert_true(stg_filter_has_xattr_rules(d));
	r = stg_filter_xattr(d, bytes_str("user.keep"), STG_SENDER);
	assert_non_null(r);
	assert_false(stg_rule_excludes(r));
	assert_true(stg_rule_is_xattr(r));
	assert_non_null(stg_filter_xattr(d, bytes_str("trusted.x"), STG_RECEIVER));
	assert_null(stg_filter_xattr(d, bytes_str("user.r"), STG_SENDER));
	assert_non_null(stg_filter_xattr(d, bytes_str("user.r"), STG_RECEIVER));
	assert_null(stg_filter_xattr(d, bytes_str("user.s"), STG_RECEIVER));
	assert_non_null(stg_filter_xattr(d, bytes_str("user.dir"), STG_SENDER));
	assert_null(stg_filter_xattr(d, bytes_str("security.x"), STG_SENDER));
	assert_true(stg_filter_sends(d, bytes_str("trusted.x"), false));
}

static void protection_below_is_denied_only_when_certain(void **state)
{
	static const struct {
		const char *rules;
		const char *path;
		bool want;
	} rows[] = {
		{ "", "a", false },
		{ "- /dev/*", "var", false },
		{ "- /dev/*", "dev", true },
		{ "- /dev/*", "dev/pts", false },
		{ "- /dev/*", "de", false },
		{ "- /var/tmp/*", "var", true },
		{ "- /var/tmp/*", "var/lib", false },
		{ "- /swapfile", "swapfile", false },
		{ "- /a/b/c", "a/b", true },
		{ "- /a/b/c", "a/b/c", false },
		{ "- /*/x", "a", true },
		{ "- /*/x", "a/b", false },
		{ "- /a/**", "a/b/c", true },
		{ "- /a/***", "b", false },
		{ "- **/x", "a", true },
		{ "- a**", "b", true },
		{ "- *.o", "a", true },
		{ "-p *.o", "a", false },
		{ "H *.o", "a", false },
		{ "P *.o", "a", true },
		{ "R *.o", "a", false },
		{ "- a/b", "z", true },
		{ "-! /a", "z", true },
		{ "-/ /target/t/a/x", "a", true },
		{ "-/ /target/t/a/x", "b", false },
		{ "-/ /elsewhere/x", "b", false },
		{ ": .f", "a", true },
		{ ": .f", "b", false },
		{ ":n .f", "a", false },
	};
	struct fixture *x = *state;

	put(x, ".f", "- /a/x\n");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(stg_filter_dir_unrefp) struct stg_filter_dir *d = NULL;

		restart(x);
		add_rules(x, rows[i].rules);
		assert_int_equal(stg_filter_enter(x->f, NULL, x->rootfd, bytes_str(""), &d, &x->e),
				 0);
		if (stg_filter_may_protect_below(d, bytes_str(rows[i].path)) != rows[i].want)
			fail_msg("rules '%s' path '%s'", rows[i].rules, rows[i].path);
	}
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(the_first_rule_that_matches_decides_on_the_way_down),
		TEST(placement_follows_slashes_and_stars),
		TEST(wildcards_and_backslashes_are_rsyncs),
		TEST(names_modifiers_and_separators_are_understood),
		TEST(bad_rules_are_refused_with_their_text),
		TEST(old_options_take_patterns_with_optional_signs),
		TEST(sides_are_told_apart),
		TEST(perishable_rules_stop_in_removed_directories),
		TEST(absolute_rules_see_each_sides_own_path),
		TEST(rules_that_know_a_path_are_told),
		TEST(lists_have_comments_and_know_their_lines),
		TEST(a_bad_file_is_told_with_its_line),
		TEST(a_file_that_merges_itself_is_refused),
		TEST(modifiers_of_a_merge_rule_shape_its_file),
		TEST(cvs_rules_are_perishable_and_know_the_users_own),
		TEST(per_directory_files_reach_down),
		TEST(rules_say_which_file_and_line_they_are_from),
		TEST(modifiers_of_a_dir_merge_rule_count),
		TEST(parents_of_the_root_are_searched),
		TEST(what_cannot_be_read_as_rules_is_told_or_passed_over),
		TEST(nodes_are_shared_where_nothing_changes),
		TEST(threads_share_a_node),
		TEST(xattr_rules_are_a_world_of_their_own),
		TEST(protection_below_is_denied_only_when_certain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
