/* SPDX-License-Identifier: Apache-2.0 */
/* What a pass has planned for later: which names of an inode are linked, what is removed. */
#include <errno.h>

#include "common/macro.h"
#include "stager/catalog_parts.h"

/* --- hard links --- */

static int put_leader(struct stg_catalog *c, const struct stg_stat *st, uint64_t dir,
		      struct bytes path, struct bytes name, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_PUT_LEADER];

	bind_inode(s, st->dev, st->ino);
	sqlite3_bind_int64(s, 3, (int64_t)dir);
	bind_bytes(s, 4, path);
	bind_bytes(s, 5, name);
	return stg_catalog_run(c, Q_PUT_LEADER, "write leader", e);
}

static int put_follower(struct stg_catalog *c, const struct stg_stat *st, uint64_t dir,
			struct bytes path, struct bytes name, uint32_t old_nlink, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_PUT_FOLLOWER];
	struct stg_row row = { .st = *st };
	uint8_t packed[STG_ROW_BYTES];

	stg_row_pack(packed, &row);
	bind_inode(s, st->dev, st->ino);
	sqlite3_bind_int64(s, 3, (int64_t)dir);
	bind_bytes(s, 4, path);
	bind_bytes(s, 5, name);
	sqlite3_bind_blob(s, 6, packed, sizeof(packed), SQLITE_STATIC);
	sqlite3_bind_int64(s, 7, old_nlink);
	return stg_catalog_run(c, Q_PUT_FOLLOWER, "write follower", e);
}

/*
 * Does the phase have a leader for this inode?  1: another name; 2: this very name (it is
 * asked again after a retry); 0: none.
 */
static int find_leader(struct stg_catalog *c, uint64_t dir, struct bytes name,
		       const struct stg_stat *st, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_GET_LEADER];
	int r = 0, step;

	bind_inode(s, st->dev, st->ino);
	step = sqlite3_step(s);
	if (step == SQLITE_ROW)
		r = (uint64_t)column_int(s, 0) == dir && bytes_eq(column_bytes(s, 1), name) ?
			    2 : 1;
	else if (step != SQLITE_DONE)
		r = stg_catalog_error(c->db, e, "read leader");
	sqlite3_reset(s);
	return r;
}

/* A name acknowledged at this very state of the inode becomes the leader: 1, or 0: none. */
static int adopt_leader(struct stg_catalog *c, uint64_t dir, struct bytes name,
			const struct stg_stat *st, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_LINKS_OF];
	int r = 0, step = SQLITE_DONE;

	bind_inode(s, st->dev, st->ino);
	while (r == 0 && (step = sqlite3_step(s)) == SQLITE_ROW) {
		uint64_t other = (uint64_t)column_int(s, 0);
		struct bytes other_name = column_bytes(s, 1), packed = column_bytes(s, 3);
		struct stg_row row;

		if ((other == dir && bytes_eq(other_name, name)) ||
		    stg_row_unpack(packed.p, packed.n, &row) < 0 || !stg_unchanged(&row, st))
			continue;
		r = put_leader(c, st, other, column_bytes(s, 2), other_name, e);
		if (r == 0)
			r = 1;
	}
	if (r == 0 && step != SQLITE_DONE)
		r = stg_catalog_error(c->db, e, "read links");
	sqlite3_reset(s);
	return r;
}

/* A name whose content the target has some of becomes the leader: 1, 2 for this one, 0. */
static int adopt_partial(struct stg_catalog *c, uint64_t dir, struct bytes name,
			 const struct stg_stat *st, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_PARTIAL_OF];
	int r = 0, step;

	bind_inode(s, st->dev, st->ino);
	step = sqlite3_step(s);
	if (step == SQLITE_ROW) {
		uint64_t other = (uint64_t)column_int(s, 0);
		struct bytes other_name = column_bytes(s, 2);

		r = put_leader(c, st, other, column_bytes(s, 1), other_name, e);
		if (r == 0)
			r = other == dir && bytes_eq(other_name, name) ? 2 : 1;
	} else if (step != SQLITE_DONE) {
		r = stg_catalog_error(c->db, e, "read unfinished files");
	}
	sqlite3_reset(s);
	return r;
}

int stg_catalog_claim_link(struct stg_catalog *c, uint64_t dir, struct bytes path,
			   struct bytes name, const struct stg_stat *st, uint32_t old_nlink,
			   enum stg_link_role *ret, struct err *e)
{
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	r = find_leader(c, dir, name, st, e);
	if (r == 0) {
		r = adopt_leader(c, dir, name, st, e);
		if (r == 0)
			r = adopt_partial(c, dir, name, st, e);
		if (r == 0)
			r = put_leader(c, st, dir, path, name, e) < 0 ? -EIO : 2;
	}
	if (r == 2)
		*ret = STG_LINK_LEADER;
	if (r == 1) {
		*ret = STG_LINK_FOLLOWER;
		r = put_follower(c, st, dir, path, name, old_nlink, e);
	}
	return stg_catalog_unlock(c, r < 0 ? r : 0, e);
}

int stg_catalog_offer_leader(struct stg_catalog *c, const struct stg_stat *st,
			     const struct stg_place *place, struct err *e)
{
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	r = find_leader(c, place->dir, buf_view(&place->name), st, e);
	if (r == 0)
		r = put_leader(c, st, place->dir, buf_view(&place->path), buf_view(&place->name), e);
	return stg_catalog_unlock(c, MIN(r, 0), e);
}

int stg_catalog_drop_leader(struct stg_catalog *c, const struct stg_stat *st, struct err *e)
{
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	bind_inode(c->q[Q_DEL_LEADER], st->dev, st->ino);
	return stg_catalog_unlock(c, stg_catalog_run(c, Q_DEL_LEADER, "delete leader", e),
				  e);
}

int stg_catalog_count_links(struct stg_catalog *c, uint64_t dev, uint64_t ino, uint32_t *ret,
			    struct err *e)
{
	int64_t n;
	int r;

	pthread_mutex_lock(&c->lock);
	bind_inode(c->q[Q_COUNT_LINKS], dev, ino);
	r = stg_catalog_number(c, Q_COUNT_LINKS, &n, e);
	pthread_mutex_unlock(&c->lock);
	if (r == 0)
		*ret = (uint32_t)n;
	return r;
}

int stg_catalog_next_follower(struct stg_catalog *c, struct stg_follower_page *page,
			      struct err *e)
{
	sqlite3_stmt *s = c->q[Q_NEXT_FOLLOWER];
	int r = 0, step = SQLITE_DONE;

	pthread_mutex_lock(&c->lock);
	buf_clear(&page->bytes);
	page->n = 0;
	sqlite3_bind_int64(s, 1, (int64_t)page->next_seq);
	sqlite3_bind_int64(s, 2, STG_PAGE_ROWS);
	while (r == 0 && page->n < STG_PAGE_ROWS && (step = sqlite3_step(s)) == SQLITE_ROW) {
		struct stg_follower *f = &page->rows[page->n];

		f->seq = (uint64_t)column_int(s, 0);
		f->dir = (uint64_t)column_int(s, 1);
		f->old_nlink = (uint32_t)column_int(s, 5);
		r = page_bytes(&page->bytes, s, 2, &f->path);
		if (r == 0)
			r = page_bytes(&page->bytes, s, 3, &f->name);
		if (r == 0)
			r = page_stat(s, 4, &f->st);
		if (r == 0)
			r = page_bytes(&page->bytes, s, 6, &f->leader_path);
		if (r == 0)
			r = page_bytes(&page->bytes, s, 7, &f->leader);
		f->acked = sqlite3_column_type(s, 8) == SQLITE_BLOB;
		if (r == 0 && f->acked)
			r = page_row(s, 8, &f->leader_row);
		page->next_seq = f->seq;
		page->n++;
	}
	for (size_t i = 0; r == 0 && i < page->n; i++) {
		page_fix(&page->bytes, &page->rows[i].path);
		page_fix(&page->bytes, &page->rows[i].name);
		page_fix(&page->bytes, &page->rows[i].leader_path);
		page_fix(&page->bytes, &page->rows[i].leader);
	}
	return stg_catalog_page_end(c, Q_NEXT_FOLLOWER, step, r, e);
}

/* --- the delete plan --- */

int stg_catalog_plan_removal(struct stg_catalog *c, const struct stg_removal *m, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_PUT_REMOVAL];
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	sqlite3_bind_int64(s, 1, (int64_t)m->dir);
	bind_bytes(s, 2, m->path);
	bind_bytes(s, 3, m->name);
	sqlite3_bind_int64(s, 4, m->is_dir);
	sqlite3_bind_int64(s, 5, m->filter);
	return stg_catalog_unlock(c, stg_catalog_run(c, Q_PUT_REMOVAL, "write plan", e), e);
}

int stg_catalog_next_removal(struct stg_catalog *c, struct stg_removal_page *page,
			     struct err *e)
{
	sqlite3_stmt *s = c->q[Q_NEXT_REMOVAL];
	int r = 0, step = SQLITE_DONE;

	pthread_mutex_lock(&c->lock);
	buf_clear(&page->bytes);
	page->n = 0;
	sqlite3_bind_int64(s, 1, (int64_t)page->next_seq);
	sqlite3_bind_int64(s, 2, STG_PAGE_ROWS);
	while (r == 0 && page->n < STG_PAGE_ROWS && (step = sqlite3_step(s)) == SQLITE_ROW) {
		struct stg_removal *m = &page->rows[page->n];

		*m = (struct stg_removal){
			.seq = (uint64_t)column_int(s, 0),
			.dir = (uint64_t)column_int(s, 1),
			.is_dir = column_int(s, 4) != 0,
			.filter = (int)column_int(s, 5),
		};
		r = page_bytes(&page->bytes, s, 2, &m->path);
		if (r == 0)
			r = page_bytes(&page->bytes, s, 3, &m->name);
		page->next_seq = m->seq;
		page->n++;
	}
	for (size_t i = 0; r == 0 && i < page->n; i++) {
		page_fix(&page->bytes, &page->rows[i].path);
		page_fix(&page->bytes, &page->rows[i].name);
	}
	return stg_catalog_page_end(c, Q_NEXT_REMOVAL, step, r, e);
}
