/* SPDX-License-Identifier: Apache-2.0 */
/* Where the target has an inode of the source, and what follows when its name changes. */
#include <errno.h>

#include "common/macro.h"
#include "stager/catalog_parts.h"

#define PLACE_PATH_MAX (64u << 10)

/* Where an inode is, kept for those that are worth a move. */
int stg_catalog_put_place(struct stg_catalog *c, uint64_t dir, struct bytes name,
			  const struct stg_row *row, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_PUT_PLACE];

	sqlite3_bind_int64(s, 1, (int64_t)dir);
	bind_bytes(s, 2, name);
	sqlite3_bind_int64(s, 3, (int64_t)row->st.ino);
	sqlite3_bind_int64(s, 4, (int64_t)row->st.dev);
	sqlite3_bind_int64(s, 5, (int64_t)row->child);
	return stg_catalog_run(c, Q_PUT_PLACE, "write place", e);
}

static int move_links(struct stg_catalog *c, struct bytes old, struct bytes now,
		      struct err *e)
{
	sqlite3_stmt *s = c->q[Q_MOVE_LINKS];

	bind_bytes(s, 1, old);
	bind_bytes(s, 2, now);
	return stg_catalog_run(c, Q_MOVE_LINKS, "move links", e);
}

/* One of several names of an inode. */
static int move_link(struct stg_catalog *c, const struct stg_move *m,
		     const struct stg_stat *st, struct err *e)
{
	size_t n = m->to.n - m->name.n;
	int r = stg_catalog_del_named(c, Q_DEL_LINK, m->old_dir, m->old_name, e);

	return r < 0 ? r : stg_catalog_put_link(c, m->dir, bytes_of(m->to.p, n ? n - 1 : 0),
						m->name, st, e);
}

int stg_catalog_move(struct stg_catalog *c, const struct stg_move *m, struct err *e)
{
	struct stg_row row;
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	r = stg_catalog_row_get(c, m->old_dir, m->old_name, &row, e);
	if (r > 0) {
		r = stg_catalog_del_named(c, Q_DEL_ENTRY, m->old_dir, m->old_name, e);
		if (r == 0)
			r = stg_catalog_del_named(c, Q_DEL_PLACE, m->old_dir, m->old_name,
						  e);
		/* It was sure until its move was planned. */
		row.state &= (uint8_t)~STG_ROW_DIRTY;
		if (r == 0)
			r = stg_catalog_row_put(c, m->dir, m->name, &row, e);
		if (r == 0)
			r = stg_catalog_put_place(c, m->dir, m->name, &row, e);
		if (r == 0 && row.child)
			r = move_links(c, m->from, m->to, e);
		else if (r == 0 && row.st.nlink > 1)
			r = move_link(c, m, &row.st, e);
	}
	return stg_catalog_unlock(c, r, e);
}

void stg_place_fini(struct stg_place *p)
{
	buf_fini(&p->path);
	buf_fini(&p->name);
}

/* The directory and the name that a statement finds: 1, or 0.  name is cleared first. */
static int step_place(struct stg_catalog_reader *r, sqlite3_stmt *s, uint64_t *ret_dir,
		      struct buf *name, struct err *e)
{
	int step = sqlite3_step(s), n = 0;

	buf_clear(name);
	if (step == SQLITE_ROW) {
		*ret_dir = (uint64_t)column_int(s, 0);
		n = buf_put_bytes(name, column_bytes(s, 1)) < 0
			    ? err_set(e, -ENOMEM, "catalog: out of memory")
			    : 1;
	} else if (step != SQLITE_DONE) {
		n = stg_catalog_error(r->db, e, "read place");
	}
	sqlite3_reset(s);
	return n;
}

/* The path of directory id, from its end: 1 and *path, or 0: a link of the chain is missing. */
static int path_of(struct stg_catalog_reader *r, uint64_t id, struct buf *path,
		   struct err *e)
{
	_cleanup_(buf_fini) struct buf name = BUF_INIT, longer = BUF_INIT;

	buf_clear(path);
	while (id != STG_ROOT_ID) {
		uint64_t up;
		int n;

		sqlite3_bind_int64(r->child, 1, (int64_t)id);
		n = step_place(r, r->child, &up, &name, e);
		if (n <= 0)
			return n;
		buf_clear(&longer);
		if (buf_put_bytes(&longer, buf_view(&name)) < 0 ||
		    (buf_len(path) && buf_put_u8(&longer, '/') < 0) ||
		    buf_put_bytes(&longer, buf_view(path)) < 0)
			return err_set(e, -ENOMEM, "catalog: out of memory");
		if (buf_len(&longer) > PLACE_PATH_MAX)
			return 0;
		buf_fini(path);
		*path = TAKE_BUF(longer);
		id = up;
	}
	return 1;
}

int stg_catalog_find_inode(struct stg_catalog_reader *r, uint64_t dev, uint64_t ino,
			   unsigned nth, struct stg_place *ret, struct err *e)
{
	int n;

	bind_inode(r->inode, dev, ino);
	sqlite3_bind_int64(r->inode, 3, nth);
	n = step_place(r, r->inode, &ret->dir, &ret->name, e);
	if (n <= 0)
		return n;
	n = stg_catalog_read_one(r, ret->dir, buf_view(&ret->name), &ret->row, e);
	if (n > 0 && ret->row.st.ino == ino && ret->row.st.dev == dev)
		n = path_of(r, ret->dir, &ret->path, e);
	else
		n = MIN(n, 0);
	if (n == 0)
		ret->row = (struct stg_row){ 0 };
	return n < 0 ? n : 1;
}
