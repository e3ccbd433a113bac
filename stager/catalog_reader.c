/* SPDX-License-Identifier: Apache-2.0 */
/* A connection of its own for each scanner: what was last committed, a directory at a time. */
#include <errno.h>
#include <stdlib.h>

#include "stager/catalog_parts.h"

int stg_catalog_reader_open(struct stg_catalog *c, struct stg_catalog_reader **ret,
			    struct err *e)
{
	struct stg_catalog_reader *rd = calloc(1, sizeof(*rd));
	int r;

	if (!rd)
		return err_set(e, -ENOMEM, "catalog: out of memory");
	r = stg_catalog_open_db(c->path, SQLITE_OPEN_READONLY, "PRAGMA cache_size=-1024;",
				&rd->db, e);
	if (r == 0 &&
	    (sqlite3_prepare_v3(
		     rd->db, "SELECT name,row FROM entry WHERE dir=?1 ORDER BY name", -1,
		     SQLITE_PREPARE_PERSISTENT, &rd->dir, NULL) != SQLITE_OK ||
	     sqlite3_prepare_v3(rd->db, SQL_GET_ENTRY, -1,
				SQLITE_PREPARE_PERSISTENT, &rd->one, NULL) != SQLITE_OK ||
	     sqlite3_prepare_v3(
		     rd->db, "SELECT dir,name FROM place WHERE ino=?1 AND dev=?2"
		     " ORDER BY dir,name LIMIT 1 OFFSET ?3", -1,
		     SQLITE_PREPARE_PERSISTENT, &rd->inode, NULL) != SQLITE_OK ||
	     sqlite3_prepare_v3(rd->db, "SELECT dir,name FROM place WHERE child=?1", -1,
				SQLITE_PREPARE_PERSISTENT, &rd->child,
				NULL) != SQLITE_OK))
		r = stg_catalog_error(rd->db, e, "prepare");
	if (r < 0) {
		stg_catalog_reader_close(rd);
		return r;
	}
	*ret = rd;
	return 0;
}

void stg_catalog_reader_close(struct stg_catalog_reader *r)
{
	if (!r)
		return;
	sqlite3_finalize(r->dir);
	sqlite3_finalize(r->one);
	sqlite3_finalize(r->inode);
	sqlite3_finalize(r->child);
	sqlite3_close(r->db);
	free(r);
}

void stg_rows_fini(struct stg_rows *s)
{
	free(s->v);
	buf_fini(&s->bytes);
	*s = (struct stg_rows){ 0 };
}

static int rows_grow(struct stg_rows *s)
{
	size_t cap = s->cap ? s->cap * 2 : 64;
	struct stg_named_row *v = reallocarray(s->v, cap, sizeof(*v));

	if (!v)
		return -ENOMEM;
	s->v = v;
	s->cap = cap;
	return 0;
}

int stg_catalog_read_dir(struct stg_catalog_reader *r, uint64_t dir, struct stg_rows *s,
			 struct err *e)
{
	int ret = 0, step = SQLITE_DONE;

	s->n = 0;
	buf_clear(&s->bytes);
	sqlite3_bind_int64(r->dir, 1, (int64_t)dir);
	while (ret == 0 && (step = sqlite3_step(r->dir)) == SQLITE_ROW) {
		struct bytes b = column_bytes(r->dir, 1);

		if (s->n == s->cap)
			ret = rows_grow(s);
		if (ret == 0)
			ret = page_bytes(&s->bytes, r->dir, 0, &s->v[s->n].name);
		if (ret == 0)
			ret = stg_row_unpack(b.p, b.n, &s->v[s->n].row);
		if (ret == 0)
			s->n++;
	}
	if (ret < 0)
		err_sysn(e, ret, "catalog: read directory");
	else if (step != SQLITE_DONE)
		ret = stg_catalog_error(r->db, e, "read directory");
	sqlite3_reset(r->dir);
	for (size_t i = 0; i < s->n; i++)
		page_fix(&s->bytes, &s->v[i].name);
	return ret;
}

int stg_catalog_read_one(struct stg_catalog_reader *r, uint64_t dir, struct bytes name,
			 struct stg_row *ret, struct err *e)
{
	int n = 0, step;

	sqlite3_bind_int64(r->one, 1, (int64_t)dir);
	bind_bytes(r->one, 2, name);
	step = sqlite3_step(r->one);
	if (step == SQLITE_ROW) {
		struct bytes b = column_bytes(r->one, 0);

		n = stg_row_unpack(b.p, b.n, ret) < 0 ?
			    err_set(e, -EBADMSG, "catalog: damaged row") : 1;
	} else if (step != SQLITE_DONE) {
		n = stg_catalog_error(r->db, e, "read entry");
	}
	sqlite3_reset(r->one);
	return n;
}

