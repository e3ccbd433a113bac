/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filter-select [RULE OPTIONS] SOURCE [TARGET] - what the filter module selects.
 *
 * Prints, NUL-separated: the paths below SOURCE that would be sent; or, with TARGET, the paths
 * below TARGET that would be deleted.  Merge files are read in SOURCE.  tests/integration/
 * filter-oracle compares both with rsync's own choice.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "stager/filter.h"

enum option_id {
	OPT_FILTER = 'f',
	OPT_DASH_F = 'F',
	OPT_EXCLUDE = 256,
	OPT_INCLUDE,
	OPT_EXCLUDE_FROM,
	OPT_INCLUDE_FROM,
	OPT_DELETE_EXCLUDED,
};

static const struct option options[] = {
	{ "filter", required_argument, NULL, OPT_FILTER },
	{ "exclude", required_argument, NULL, OPT_EXCLUDE },
	{ "include", required_argument, NULL, OPT_INCLUDE },
	{ "exclude-from", required_argument, NULL, OPT_EXCLUDE_FROM },
	{ "include-from", required_argument, NULL, OPT_INCLUDE_FROM },
	{ "delete-excluded", no_argument, NULL, OPT_DELETE_EXCLUDED },
	{ 0 },
};

static int add_option(struct stg_filter *f, int opt, struct err *e)
{
	switch (opt) {
	case OPT_FILTER:
		return stg_filter_add_rule(f, optarg, "--filter", e);
	case OPT_DASH_F:
		return stg_filter_add_dash_f(f, "-F", e);
	case OPT_EXCLUDE:
		return stg_filter_add_exclude(f, optarg, "--exclude", e);
	case OPT_INCLUDE:
		return stg_filter_add_include(f, optarg, "--include", e);
	case OPT_EXCLUDE_FROM:
		return stg_filter_add_file(f, optarg, false, "--exclude-from", e);
	case OPT_INCLUDE_FROM:
		return stg_filter_add_file(f, optarg, true, "--include-from", e);
	case OPT_DELETE_EXCLUDED:
		stg_filter_set_delete_excluded(f, true);
		return 0;
	default:
		return err_set(e, -ERR_USAGE, "usage: filter-select [OPTIONS] SOURCE [TARGET]");
	}
}

static int print_path(struct bytes path)
{
	return fwrite(path.p, 1, path.n, stdout) != path.n || putchar(0) == EOF ? -EIO : 0;
}

static DIR *open_dir(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (fd >= 0 && !dir)
		close(fd);
	return dir;
}

static void closedir_p(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/* The next entry but "." and ".."; its path is put behind the first n bytes of path. */
static int next_entry(DIR *dir, struct buf *path, size_t n, const char **name, bool *is_dir)
{
	struct dirent *de;
	struct stat st;

	do {
		de = readdir(dir);
		if (!de)
			return 0;
	} while (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0);
	path->n = n;
	if ((n && buf_put(path, "/", 1) < 0) || buf_put(path, de->d_name, strlen(de->d_name)) < 0)
		return -ENOMEM;
	if (fstatat(dirfd(dir), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	*is_dir = S_ISDIR(st.st_mode);
	*name = de->d_name;
	return 1;
}

static int select_below(const struct stg_filter *f, struct stg_filter_dir *parent, DIR *dir,
			struct buf *path, struct err *e)
{
	_cleanup_(stg_filter_dir_unrefp) struct stg_filter_dir *d = NULL;
	const size_t n = path->n;
	const char *name;
	bool is_dir;
	int r;

	r = stg_filter_enter(f, parent, dirfd(dir), buf_view(path), &d, e);
	if (r < 0)
		return r;
	while ((r = next_entry(dir, path, n, &name, &is_dir)) > 0) {
		_cleanup_(closedir_p) DIR *sub = NULL;

		if (!stg_filter_sends(d, buf_view(path), is_dir))
			continue;
		r = print_path(buf_view(path));
		if (r < 0)
			return err_sysn(e, r, "write");
		if (!is_dir)
			continue;
		sub = open_dir(dirfd(dir), name);
		if (!sub)
			return err_sys(e, "open %s", name);
		r = select_below(f, d, sub, path, e);
		if (r < 0)
			return r;
	}
	path->n = n;
	return r < 0 ? err_sysn(e, r, "read directory") : 0;
}

/*
 * Prints what goes below a directory that is being removed; 1 when something stays.  src: the
 * directory of that path in the source, where it is hidden rather than missing, or NULL.
 */
static int remove_below(const struct stg_filter *f, struct stg_filter_dir *parent, DIR *src,
			DIR *dir, struct buf *path, struct err *e)
{
	_cleanup_(stg_filter_dir_unrefp) struct stg_filter_dir *d = NULL;
	const size_t n = path->n;
	const char *name;
	bool is_dir, stays = false;
	int r;

	r = stg_filter_enter(f, parent, src ? dirfd(src) : -1, buf_view(path), &d, e);
	if (r < 0)
		return r;
	while ((r = next_entry(dir, path, n, &name, &is_dir)) > 0) {
		_cleanup_(closedir_p) DIR *sub = NULL, *sub_src = NULL;
		int kept = 0;

		if (stg_filter_protects(d, buf_view(path), is_dir, true)) {
			stays = true;
			continue;
		}
		if (is_dir) {
			sub = open_dir(dirfd(dir), name);
			sub_src = src ? open_dir(dirfd(src), name) : NULL;
			if (!sub)
				return err_sys(e, "open %s", name);
			kept = remove_below(f, d, sub_src, sub, path, e);
			if (kept < 0)
				return kept;
		}
		if (!kept && print_path(buf_view(path)) < 0)
			return err_sys(e, "write");
		stays |= kept > 0;
	}
	path->n = n;
	return r < 0 ? err_sysn(e, r, "read directory") : stays;
}

static int delete_extra(const struct stg_filter *f, struct stg_filter_dir *d, DIR *src,
			DIR *tgt, const char *name, bool is_dir, struct buf *path,
			struct err *e)
{
	_cleanup_(closedir_p) DIR *sub = NULL, *sub_src = NULL;
	int kept = 0;

	if (stg_filter_protects(d, buf_view(path), is_dir, false))
		return 0;
	if (is_dir) {
		bool may_stay = stg_filter_may_protect_below(d, buf_view(path));

		sub = open_dir(dirfd(tgt), name);
		sub_src = open_dir(dirfd(src), name);
		if (!sub)
			return err_sys(e, "open %s", name);
		kept = remove_below(f, d, sub_src, sub, path, e);
		/* Merge files of a hidden directory may protect more than its parent knows. */
		if (kept > 0 && !may_stay && !sub_src)
			return err_set(e, -EINVAL, "may_protect_below was wrong about %s",
				       buf_cstr(path));
	}
	if (kept < 0)
		return kept;
	return kept || print_path(buf_view(path)) == 0 ? 0 : err_sys(e, "write");
}

static int delete_below(const struct stg_filter *f, struct stg_filter_dir *parent, DIR *src,
			DIR *tgt, struct buf *path, struct err *e)
{
	_cleanup_(stg_filter_dir_unrefp) struct stg_filter_dir *d = NULL;
	const size_t n = path->n;
	const char *name;
	bool is_dir;
	int r;

	r = stg_filter_enter(f, parent, dirfd(src), buf_view(path), &d, e);
	if (r < 0)
		return r;
	while ((r = next_entry(tgt, path, n, &name, &is_dir)) > 0) {
		_cleanup_(closedir_p) DIR *sub_src = NULL, *sub_tgt = NULL;
		struct stat st;

		if (fstatat(dirfd(src), name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !stg_filter_sends(d, buf_view(path), S_ISDIR(st.st_mode))) {
			r = delete_extra(f, d, src, tgt, name, is_dir, path, e);
			if (r < 0)
				return r;
			continue;
		}
		if (!is_dir || !S_ISDIR(st.st_mode))
			continue;
		sub_src = open_dir(dirfd(src), name);
		sub_tgt = open_dir(dirfd(tgt), name);
		if (!sub_src || !sub_tgt)
			return err_sys(e, "open %s", name);
		r = delete_below(f, d, sub_src, sub_tgt, path, e);
		if (r < 0)
			return r;
	}
	path->n = n;
	return r < 0 ? err_sysn(e, r, "read directory") : 0;
}

static int run(int argc, char **argv, struct err *e)
{
	_cleanup_(stg_filter_freep) struct stg_filter *f = NULL;
	_cleanup_(closedir_p) DIR *src = NULL, *tgt = NULL;
	_cleanup_(buf_fini) struct buf path = BUF_INIT;
	int opt, r;

	r = stg_filter_new(&f, e);
	while (r == 0 && (opt = getopt_long(argc, argv, "f:F", options, NULL)) != -1)
		r = add_option(f, opt, e);
	if (r == 0 && argc - optind != 1 && argc - optind != 2)
		r = add_option(f, '?', e);
	if (r < 0)
		return r;
	for (int i = optind; i < argc; i++) {
		_cleanup_free_ char *abs = realpath(argv[i], NULL);
		DIR **dir = i == optind ? &src : &tgt;

		*dir = open_dir(AT_FDCWD, argv[i]);
		if (!abs || !*dir)
			return err_sys(e, "open %s", argv[i]);
		r = stg_filter_set_root(f, i == optind ? STG_SENDER : STG_RECEIVER, abs, e);
		if (r < 0)
			return r;
	}
	return tgt ? delete_below(f, NULL, src, tgt, &path, e)
		   : select_below(f, NULL, src, &path, e);
}

int main(int argc, char **argv)
{
	struct err e = { 0 };

	if (run(argc, argv, &e) == 0 && fflush(stdout) == 0)
		return 0;
	fprintf(stderr, "filter-select: %s\n", e.text);
	return e.code == -ERR_SELECT ? 3 : e.code == -ERR_USAGE ? 1 : 11;
}
