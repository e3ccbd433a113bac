/* SPDX-License-Identifier: Apache-2.0 */
/* Big files that are on their way to the target: where their parts are gathered there. */
#include "common/macro.h"
#include "stager/catalog_parts.h"
#include "transport/protocol.h"

static void bind_name(sqlite3_stmt *s, uint64_t dir, struct bytes name, struct bytes temp)
{
	sqlite3_bind_int64(s, 1, (int64_t)dir);
	bind_bytes(s, 2, name);
	bind_bytes(s, 3, temp);
}

int stg_catalog_put_partial(struct stg_catalog *c, uint64_t dir, struct bytes path,
			    struct bytes name, const struct stg_stat *st, struct bytes temp,
			    struct err *e)
{
	sqlite3_stmt *s = c->q[Q_PUT_PARTIAL];
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	bind_name(s, dir, name, temp);
	bind_bytes(s, 4, path);
	sqlite3_bind_int64(s, 5, (int64_t)st->ino);
	sqlite3_bind_int64(s, 6, (int64_t)st->dev);
	return stg_catalog_unlock(c, stg_catalog_run(c, Q_PUT_PARTIAL, "write partial", e), e);
}

int stg_catalog_drop_partial(struct stg_catalog *c, uint64_t dir, struct bytes name,
			     struct bytes temp, struct err *e)
{
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	bind_name(c->q[Q_DEL_PARTIAL], dir, name, temp);
	return stg_catalog_unlock(c, stg_catalog_run(c, Q_DEL_PARTIAL, "forget partial", e), e);
}

/* Step a query of one row: 1, or 0: there is none.  The lock is held. */
static int step_one(struct stg_catalog *c, enum query q, struct err *e)
{
	int step = sqlite3_step(c->q[q]);

	if (step == SQLITE_ROW)
		return 1;
	return step == SQLITE_DONE ? 0 : stg_catalog_error(c->db, e, "read partial");
}

int stg_catalog_get_partial(struct stg_catalog *c, uint64_t dir, struct bytes name, char *ret,
			    struct err *e)
{
	sqlite3_stmt *s = c->q[Q_GET_PARTIAL];
	int r;

	pthread_mutex_lock(&c->lock);
	sqlite3_bind_int64(s, 1, (int64_t)dir);
	bind_bytes(s, 2, name);
	r = step_one(c, Q_GET_PARTIAL, e);
	if (r > 0) {
		struct bytes temp = column_bytes(s, 0);

		/* What is no such name, somebody else has written. */
		if (temp.n <= TP_TEMP_MAX) {
			memcpy(ret, temp.p, temp.n);
			ret[temp.n] = '\0';
		} else {
			r = 0;
		}
	}
	sqlite3_reset(s);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int stg_catalog_has_partial(struct stg_catalog *c, struct bytes temp, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_COUNT_PARTIALS];
	int r;

	pthread_mutex_lock(&c->lock);
	bind_bytes(s, 1, temp);
	r = step_one(c, Q_COUNT_PARTIALS, e);
	if (r > 0)
		r = column_int(s, 0) > 0;
	sqlite3_reset(s);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int stg_catalog_clear_partials(struct stg_catalog *c, struct err *e)
{
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	if (sqlite3_exec(c->db, "DELETE FROM unfinished", NULL, NULL, NULL) != SQLITE_OK)
		r = stg_catalog_error(c->db, e, "forget partials");
	return stg_catalog_unlock(c, r, e);
}
