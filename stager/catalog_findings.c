/* SPDX-License-Identifier: Apache-2.0 */
/* What a verification found: kept until the next one, so that a later run can go on from it. */
#include <string.h>

#include "common/macro.h"
#include "stager/catalog_parts.h"

static int exec_write(struct stg_catalog *c, const char *sql, struct err *e)
{
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	if (sqlite3_exec(c->db, sql, NULL, NULL, NULL) != SQLITE_OK)
		r = stg_catalog_error(c->db, e, sql);
	return stg_catalog_unlock(c, r, e);
}

int stg_catalog_clear_findings(struct stg_catalog *c, bool only_fixed, struct err *e)
{
	return exec_write(c, only_fixed ? "DELETE FROM finding WHERE fixed" :
					  "DELETE FROM finding", e);
}

int stg_catalog_put_finding(struct stg_catalog *c, const struct stg_finding *f, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_PUT_FINDING];
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	bind_bytes(s, 1, f->path);
	sqlite3_bind_int64(s, 2, f->what);
	sqlite3_bind_int64(s, 3, f->cause);
	bind_bytes(s, 4, f->detail);
	sqlite3_bind_int64(s, 5, f->round);
	return stg_catalog_unlock(c, stg_catalog_run(c, Q_PUT_FINDING, "write finding", e), e);
}

int stg_catalog_fix_finding(struct stg_catalog *c, struct bytes path, uint32_t round,
			    struct err *e)
{
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	bind_bytes(c->q[Q_FIX_FINDING], 1, path);
	sqlite3_bind_int64(c->q[Q_FIX_FINDING], 2, round);
	return stg_catalog_unlock(c, stg_catalog_run(c, Q_FIX_FINDING, "write finding", e), e);
}

static int keep(struct buf *b, struct bytes v)
{
	buf_clear(b);
	return buf_put_bytes(b, v);
}

int stg_catalog_next_finding(struct stg_catalog *c, struct stg_finding_page *page,
			     struct err *e)
{
	sqlite3_stmt *s = c->q[Q_NEXT_FINDING];
	int r = 0, step = SQLITE_DONE;

	pthread_mutex_lock(&c->lock);
	buf_clear(&page->bytes);
	page->n = 0;
	bind_bytes(s, 1, buf_view(&page->next));
	sqlite3_bind_int64(s, 2, STG_PAGE_ROWS);
	sqlite3_bind_int64(s, 3, !page->began);
	page->began = true;
	while (r == 0 && page->n < STG_PAGE_ROWS && (step = sqlite3_step(s)) == SQLITE_ROW) {
		struct stg_finding *f = &page->rows[page->n];

		*f = (struct stg_finding){
			.what = (uint32_t)column_int(s, 1),
			.cause = (enum stg_cause)column_int(s, 2),
			.round = (uint32_t)column_int(s, 4),
			.fixed = column_int(s, 5) != 0,
		};
		r = page_bytes(&page->bytes, s, 0, &f->path);
		if (r == 0)
			r = page_bytes(&page->bytes, s, 3, &f->detail);
		page->n++;
	}
	for (size_t i = 0; r == 0 && i < page->n; i++) {
		page_fix(&page->bytes, &page->rows[i].path);
		page_fix(&page->bytes, &page->rows[i].detail);
	}
	if (r == 0 && page->n)
		r = keep(&page->next, page->rows[page->n - 1].path);
	return stg_catalog_page_end(c, Q_NEXT_FINDING, step, r, e);
}

void stg_finding_page_fini(struct stg_finding_page *page)
{
	buf_fini(&page->bytes);
	buf_fini(&page->next);
}

int stg_catalog_count_findings(struct stg_catalog *c, struct stg_finding_counts *ret,
			       struct err *e)
{
	sqlite3_stmt *s = c->q[Q_COUNT_FINDINGS];
	int r = 0;

	pthread_mutex_lock(&c->lock);
	if (sqlite3_step(s) == SQLITE_ROW)
		*ret = (struct stg_finding_counts){
			.open = (uint64_t)column_int(s, 0),
			.defects = (uint64_t)column_int(s, 1),
			.fixed = (uint64_t)column_int(s, 2),
		};
	else
		r = stg_catalog_error(c->db, e, "count findings");
	sqlite3_reset(s);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int stg_catalog_distrust(struct stg_catalog *c, struct bytes path, enum stg_distrust how,
			 struct err *e)
{
	if (how == STG_DISTRUST_META)
		return stg_catalog_row_change(c, path, STG_ROW_CLEAN, 0, e);
	return stg_catalog_row_change(c, path, STG_ROW_CLEAN | STG_ROW_HASHED, STG_ROW_DEFECT, e);
}

int stg_catalog_find(struct stg_catalog *c, struct bytes path, uint64_t *ret_dir,
		     struct stg_row *ret, struct err *e)
{
	struct bytes name;
	int r;

	pthread_mutex_lock(&c->lock);
	r = stg_catalog_row_find(c, path, ret_dir, &name, ret, e);
	pthread_mutex_unlock(&c->lock);
	return r;
}

/* --- names of inodes that have several --- */

int stg_catalog_clear_check_links(struct stg_catalog *c, struct err *e)
{
	return exec_write(c, "DELETE FROM check_link", e);
}

int stg_catalog_put_check_link(struct stg_catalog *c, const struct stg_stat *st,
			       struct bytes path, struct bytes name, bool same, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_PUT_CHECK_LINK];
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	sqlite3_bind_int64(s, 1, (int64_t)st->ino);
	sqlite3_bind_int64(s, 2, (int64_t)st->dev);
	bind_bytes(s, 3, path);
	bind_bytes(s, 4, name);
	sqlite3_bind_int64(s, 5, same);
	return stg_catalog_unlock(c, stg_catalog_run(c, Q_PUT_CHECK_LINK, "write link", e), e);
}

int stg_catalog_add_check_links(struct stg_catalog *c, uint64_t dev, uint64_t ino, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_ADD_CHECK_LINKS];
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	sqlite3_bind_int64(s, 1, (int64_t)ino);
	sqlite3_bind_int64(s, 2, (int64_t)dev);
	return stg_catalog_unlock(c, stg_catalog_run(c, Q_ADD_CHECK_LINKS, "write links", e), e);
}

static void bind_place(sqlite3_stmt *s, struct stg_check_link_page *page)
{
	sqlite3_bind_int64(s, 1, (int64_t)page->next_ino);
	sqlite3_bind_int64(s, 2, (int64_t)page->next_dev);
	bind_bytes(s, 3, buf_view(&page->next_path));
	bind_bytes(s, 4, buf_view(&page->next_name));
	sqlite3_bind_int64(s, 5, STG_PAGE_ROWS);
	sqlite3_bind_int64(s, 6, !page->began);
	page->began = true;
}

static int keep_place(struct stg_check_link_page *page)
{
	const struct stg_check_link *l;
	int r;

	if (!page->n)
		return 0;
	l = &page->rows[page->n - 1];
	page->next_ino = l->ino;
	page->next_dev = l->dev;
	r = keep(&page->next_path, l->path);
	return r < 0 ? r : keep(&page->next_name, l->name);
}

int stg_catalog_next_check_link(struct stg_catalog *c, struct stg_check_link_page *page,
				struct err *e)
{
	sqlite3_stmt *s = c->q[Q_NEXT_CHECK_LINK];
	int r = 0, step = SQLITE_DONE;

	pthread_mutex_lock(&c->lock);
	buf_clear(&page->bytes);
	page->n = 0;
	bind_place(s, page);
	while (r == 0 && page->n < STG_PAGE_ROWS && (step = sqlite3_step(s)) == SQLITE_ROW) {
		struct stg_check_link *l = &page->rows[page->n];

		*l = (struct stg_check_link){
			.ino = (uint64_t)column_int(s, 0),
			.dev = (uint64_t)column_int(s, 1),
			.same = column_int(s, 4) != 0,
			.names = (uint32_t)MAX(column_int(s, 5), column_int(s, 6)),
		};
		r = page_bytes(&page->bytes, s, 2, &l->path);
		if (r == 0)
			r = page_bytes(&page->bytes, s, 3, &l->name);
		page->n++;
	}
	for (size_t i = 0; r == 0 && i < page->n; i++) {
		page_fix(&page->bytes, &page->rows[i].path);
		page_fix(&page->bytes, &page->rows[i].name);
	}
	if (r == 0)
		r = keep_place(page);
	return stg_catalog_page_end(c, Q_NEXT_CHECK_LINK, step, r, e);
}

void stg_check_link_page_fini(struct stg_check_link_page *page)
{
	buf_fini(&page->bytes);
	buf_fini(&page->next_path);
	buf_fini(&page->next_name);
}
