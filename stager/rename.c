/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/rename.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "common/io.h"
#include "stager/filter.h"

#define LOOK_ENTRIES 64 /* of a directory that may have been renamed */
#define PLACES_MAX   16 /* names of one inode that are looked at for one that is gone */

/*
 * Does the source directory at path look like the one that had these rows?  File systems give
 * the inode of a removed directory to the next one that is made.
 */
static int looks_like(const struct stg_run *run, struct stg_catalog_reader *reader,
		      struct bytes path, uint64_t id, struct err *e)
{
	_cleanup_(stg_rows_fini) struct stg_rows rows = { 0 };
	_cleanup_close_ int fd = io_open_dir_below(run->source_fd, path, O_RDONLY);
	size_t looked = 0, same = 0;
	int r;

	if (fd < 0)
		return 0;
	r = stg_catalog_read_dir(reader, id, &rows, e);
	for (size_t i = 0; r == 0 && i < rows.n && looked < LOOK_ENTRIES; i++, looked++) {
		char name[NAME_MAX + 1];
		struct stat st;

		same += fstatat(fd, stg_name_z(name, rows.v[i].name), &st,
				AT_SYMLINK_NOFOLLOW) == 0 &&
			st.st_ino == rows.v[i].row.st.ino;
	}
	return r < 0 ? r : same && same * 2 >= looked;
}

/* The inode that has the name on the source; 0: there is nothing of that name; 1: unknown. */
static uint64_t inode_at(const struct stg_run *run, const struct stg_place *place)
{
	_cleanup_close_ int fd =
		io_open_dir_below(run->source_fd, buf_view(&place->path), O_RDONLY);
	char name[NAME_MAX + 1];
	struct stat st;

	if (fd < 0)
		return fd != -ENOENT && fd != -ENOTDIR && fd != -ELOOP;
	if (fstatat(fd, stg_name_z(name, buf_view(&place->name)), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno != ENOENT;
	return st.st_ino;
}

/* A name of the inode that the target has, and the source has at inode at: 1, or 0. */
static int find_name(const struct stg_run *run, struct stg_catalog_reader *reader,
		     const struct stg_stat *st, uint64_t at, struct stg_place *ret,
		     struct err *e)
{
	for (unsigned i = 0; i < PLACES_MAX; i++) {
		int r = stg_catalog_find_inode(reader, st->dev, st->ino, i, ret, e);

		if (r <= 0)
			return r;
		if ((ret->row.st.mode & S_IFMT) == (st->mode & S_IFMT) &&
		    !(ret->row.state & STG_ROW_DIRTY) && inode_at(run, ret) == at)
			return 1;
	}
	return 0;
}

/* What has the path on the target is neither selected out nor protected from deletion. */
static int may_leave(const struct stg_run *run, struct bytes path, bool is_dir, struct err *e)
{
	struct stg_filter_verdict v = { 0 };
	bool selected = !run->paths_n;
	int r;

	for (size_t i = 0; i < run->paths_n && !selected; i++)
		selected = stg_path_below(path, bytes_str(run->paths[i]));
	if (!selected || stg_run_skips(run, path))
		return 0;
	r = stg_filter_explain(run->filter, run->source_fd, path, is_dir, STG_RECEIVER, &v, e);
	if (r == 0)
		r = !v.excluded;
	stg_filter_verdict_fini(&v);
	return r;
}

/*
 * Was what has this inode now made after the row was right?  Then it is something else: file
 * systems give the inode of what was removed to what is made next.
 */
static bool is_reborn(const struct stg_run *run, const struct stg_item *item,
		      const struct stg_stat *old)
{
	_cleanup_close_ int fd = io_open_dir_below(run->source_fd, item->path, O_RDONLY);
	char name[NAME_MAX + 1];
	struct statx stx;

	if (fd < 0 || statx(fd, stg_name_z(name, item->name),
			    AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BTIME, &stx) < 0)
		return true;
	return stx.stx_mask & STATX_BTIME &&
	       (stx.stx_btime.tv_sec > old->ctime_s ||
		(stx.stx_btime.tv_sec == old->ctime_s && stx.stx_btime.tv_nsec > old->ctime_ns));
}

int stg_rename_find(struct stg_run *run, struct stg_catalog_reader *reader,
		    const struct stg_item *item, struct stg_place *ret, struct err *e)
{
	_cleanup_(buf_fini) struct buf old = BUF_INIT, now = BUF_INIT;
	int r;

	if (!stg_stat_movable(&item->st))
		return 0;
	r = find_name(run, reader, &item->st, 0, ret, e);
	if (r <= 0)
		return r;
	if (is_reborn(run, item, &ret->row.st))
		return 0;
	if (stg_path_join(&old, buf_view(&ret->path), buf_view(&ret->name)) < 0 ||
	    stg_path_join(&now, item->path, item->name) < 0)
		return err_set(e, -ENOMEM, "scan: out of memory");
	r = may_leave(run, buf_view(&old), item->is_dir, e);
	if (r <= 0 || !item->is_dir)
		return r;
	if (!ret->row.child || stg_filter_is_local(run->filter, buf_view(&old)) ||
	    stg_filter_is_local(run->filter, buf_view(&now)))
		return 0;
	return looks_like(run, reader, buf_view(&now), ret->row.child, e);
}

int stg_rename_offer_leader(struct stg_run *run, struct stg_catalog_reader *reader,
			    const struct stg_stat *st, struct err *e)
{
	_cleanup_(stg_place_fini) struct stg_place place = { 0 };
	_cleanup_(buf_fini) struct buf path = BUF_INIT;
	struct stg_filter_verdict v = { 0 };
	int r;

	/* With --path nobody may look at the other. */
	if (run->dry || run->compare || run->paths_n || !stg_is_reg(st) || st->nlink < 2 ||
	    !stg_stat_movable(st))
		return 0;
	r = find_name(run, reader, st, st->ino, &place, e);
	if (r <= 0)
		return r;
	if (stg_path_join(&path, buf_view(&place.path), buf_view(&place.name)) < 0)
		return err_set(e, -ENOMEM, "scan: out of memory");
	r = stg_filter_explain(run->filter, run->source_fd, buf_view(&path), false, STG_SENDER, &v,
			       e);
	if (r == 0 && !v.excluded)
		r = stg_catalog_offer_leader(run->catalog, st, &place, e);
	stg_filter_verdict_fini(&v);
	return r;
}
