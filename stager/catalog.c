/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/catalog.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/io.h"
#include "stager/catalog_parts.h"

/*
 * One row is one blob (stg_row_pack()): reading a directory of thousands of entries is one
 * range scan that decodes nothing it does not need, and a million entries are stepped in
 * about a second.  What SQL selects by has columns of its own.
 */
#define CATALOG_VERSION 2 /* since 2 the hash of a big file is a tree (transport/hash.h) */
#define COMMIT_ROWS     4000

static const char schema[] =
	"CREATE TABLE IF NOT EXISTS fact(key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS phase(id INTEGER PRIMARY KEY, name TEXT, started INTEGER,"
	" finished INTEGER, sync INTEGER, fresh INTEGER);"
	"CREATE TABLE IF NOT EXISTS entry(dir INTEGER, name BLOB, row BLOB,"
	" PRIMARY KEY(dir, name)) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS dirty(depth INTEGER, id INTEGER, parent INTEGER,"
	" path BLOB, name BLOB, row BLOB, phase INTEGER, PRIMARY KEY(depth, id)) WITHOUT ROWID;"
	"CREATE INDEX IF NOT EXISTS dirty_id ON dirty(id);"
	"CREATE TABLE IF NOT EXISTS link(dir INTEGER, name BLOB, dev INTEGER, ino INTEGER,"
	" path BLOB, PRIMARY KEY(dir, name)) WITHOUT ROWID;"
	"CREATE INDEX IF NOT EXISTS link_inode ON link(ino, dev);"
	"CREATE INDEX IF NOT EXISTS link_path ON link(path);"
	"CREATE TABLE IF NOT EXISTS leader(ino INTEGER, dev INTEGER, dir INTEGER, path BLOB,"
	" name BLOB, PRIMARY KEY(ino, dev)) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS follower(seq INTEGER PRIMARY KEY, ino INTEGER, dev INTEGER,"
	" dir INTEGER, path BLOB, name BLOB, row BLOB, old_nlink INTEGER);"
	"CREATE INDEX IF NOT EXISTS follower_name ON follower(dir,name);"
	"CREATE TABLE IF NOT EXISTS place(dir INTEGER, name BLOB, ino INTEGER, dev INTEGER,"
	" child INTEGER, PRIMARY KEY(dir, name)) WITHOUT ROWID;"
	"CREATE INDEX IF NOT EXISTS place_inode ON place(ino, dev);"
	"CREATE INDEX IF NOT EXISTS place_child ON place(child) WHERE child>0;"
	"CREATE TABLE IF NOT EXISTS removal(seq INTEGER PRIMARY KEY, dir INTEGER, path BLOB,"
	" name BLOB, is_dir INTEGER, filter INTEGER);"
	"CREATE TABLE IF NOT EXISTS finding(path BLOB PRIMARY KEY, what INTEGER, cause INTEGER,"
	" detail BLOB, round INTEGER, fixed INTEGER) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS check_link(ino INTEGER, dev INTEGER, path BLOB, name BLOB,"
	" same INTEGER, PRIMARY KEY(ino, dev, path, name)) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS unfinished(dir INTEGER, name BLOB, temp BLOB, path BLOB,"
	" ino INTEGER, dev INTEGER, PRIMARY KEY(dir, name)) WITHOUT ROWID;";

static const char *const queries[Q_COUNT] = {
	[Q_GET_FACT] = "SELECT value FROM fact WHERE key=?1",
	[Q_SET_FACT] = "INSERT OR REPLACE INTO fact VALUES(?1,?2)",
	[Q_LAST_PHASE] = "SELECT id,name,started,finished,sync,fresh FROM phase"
			 " ORDER BY id DESC LIMIT 1",
	[Q_FULL_STANDS] = "SELECT finished FROM phase WHERE name='full_sync'"
			  " ORDER BY id DESC LIMIT 1",
	[Q_COUNT_PHASES] = "SELECT count(*) FROM phase WHERE name LIKE ?1||'%' AND finished>0",
	[Q_PUT_PHASE] = "INSERT OR REPLACE INTO phase VALUES(?1,?2,?3,?4,?5,?6)",
	[Q_HAS_ENTRIES] = "SELECT count(*) FROM (SELECT 1 FROM entry WHERE dir>0 LIMIT 1)",
	[Q_PUT_ENTRY] = "INSERT OR REPLACE INTO entry VALUES(?1,?2,?3)",
	[Q_GET_ENTRY] = SQL_GET_ENTRY,
	[Q_DEL_ENTRY] = "DELETE FROM entry WHERE dir=?1 AND name=?2",
	[Q_DEL_DIR] = "DELETE FROM entry WHERE dir=?1",
	[Q_DEL_DIR_LINKS] = "DELETE FROM link WHERE dir=?1",
	[Q_SUBDIRS] = "SELECT row FROM entry WHERE dir=?1",
	[Q_PUT_DIRTY] = "INSERT OR REPLACE INTO dirty VALUES(?1,?2,?3,?4,?5,?6,?7)",
	[Q_DEL_DIRTY] = "DELETE FROM dirty WHERE id=?1",
	[Q_NEXT_DIRTY] = "SELECT depth,id,parent,path,name,row FROM dirty"
			 " WHERE (depth,id)<(?1,?2) AND (phase=?4 OR ?4=0)"
			 " ORDER BY depth DESC, id DESC LIMIT ?3",
	[Q_PUT_LINK] = "INSERT OR REPLACE INTO link VALUES(?1,?2,?3,?4,?5)",
	[Q_DEL_LINK] = "DELETE FROM link WHERE dir=?1 AND name=?2",
	/* A name that waits to be linked to another inode has the row of the old one still. */
	[Q_LINKS_OF] = "SELECT link.dir,link.name,link.path,entry.row FROM link JOIN entry"
		       " ON entry.dir=link.dir AND entry.name=link.name"
		       " WHERE link.ino=?1 AND link.dev=?2 AND NOT EXISTS(SELECT 1 FROM follower f"
		       " WHERE f.dir=link.dir AND f.name=link.name AND (f.ino<>?1 OR f.dev<>?2))",
	[Q_COUNT_LINKS] = "SELECT count(*) FROM link WHERE ino=?1 AND dev=?2",
	[Q_GET_LEADER] = "SELECT dir,name FROM leader WHERE ino=?1 AND dev=?2",
	[Q_PUT_LEADER] = "INSERT INTO leader VALUES(?1,?2,?3,?4,?5)",
	[Q_DEL_LEADER] = "DELETE FROM leader WHERE ino=?1 AND dev=?2",
	[Q_PUT_FOLLOWER] = "INSERT INTO follower VALUES(NULL,?1,?2,?3,?4,?5,?6,?7)",
	[Q_NEXT_FOLLOWER] = "SELECT f.seq,f.dir,f.path,f.name,f.row,f.old_nlink,l.path,l.name,"
			    "e.row FROM follower f LEFT JOIN leader l ON l.ino=f.ino AND l.dev=f.dev"
			    " LEFT JOIN entry e ON e.dir=l.dir AND e.name=l.name"
			    " AND NOT EXISTS(SELECT 1 FROM follower x WHERE x.dir=l.dir AND"
			    " x.name=l.name AND (x.ino<>l.ino OR x.dev<>l.dev))"
			    " WHERE f.seq>?1 ORDER BY f.seq LIMIT ?2",
	[Q_PUT_PLACE] = "INSERT OR REPLACE INTO place VALUES(?1,?2,?3,?4,?5)",
	[Q_DEL_PLACE] = "DELETE FROM place WHERE dir=?1 AND name=?2",
	[Q_DEL_DIR_PLACES] = "DELETE FROM place WHERE dir=?1",
	[Q_MOVE_LINKS] = "UPDATE link SET path=CAST(?2||substr(path,length(?1)+1) AS BLOB)"
			 " WHERE path=?1 OR (path>CAST(?1||'/' AS BLOB)"
			 " AND path<CAST(?1||'0' AS BLOB))", /* '0' comes after '/' */
	[Q_HAS_DIRTY] = "SELECT EXISTS(SELECT 1 FROM dirty)",
	[Q_PUT_REMOVAL] = "INSERT INTO removal VALUES(NULL,?1,?2,?3,?4,?5)",
	[Q_NEXT_REMOVAL] = "SELECT seq,dir,path,name,is_dir,filter FROM removal"
			   " WHERE seq>?1 ORDER BY seq LIMIT ?2",
	/* What is found twice in one round adds up; a new round knows better. */
	[Q_PUT_FINDING] = "INSERT INTO finding VALUES(?1,?2,?3,?4,?5,0) ON CONFLICT(path) DO"
			  " UPDATE SET what=CASE WHEN round=?5 AND NOT fixed THEN what|?2 ELSE ?2 END,"
			  " cause=CASE WHEN round=?5 AND NOT fixed THEN min(cause,?3) ELSE ?3 END,"
			  " detail=CASE WHEN round=?5 AND NOT fixed AND length(detail)>0 THEN detail ELSE ?4 END,"
			  " round=?5, fixed=0",
	[Q_FIX_FINDING] = "UPDATE finding SET fixed=1, round=?2 WHERE path=?1 AND round<?2",
	[Q_NEXT_FINDING] = "SELECT path,what,cause,detail,round,fixed FROM finding"
			   " WHERE path>?1 OR ?3 ORDER BY path LIMIT ?2",
	[Q_COUNT_FINDINGS] = "SELECT count(*)-total(fixed), total(NOT fixed AND cause=0),"
			     " total(fixed) FROM finding",
	[Q_PUT_CHECK_LINK] = "INSERT OR REPLACE INTO check_link VALUES(?1,?2,?3,?4,?5)",
	[Q_ADD_CHECK_LINKS] = "INSERT OR IGNORE INTO check_link SELECT ino,dev,path,name,0"
			      " FROM link WHERE ino=?1 AND dev=?2",
	[Q_NEXT_CHECK_LINK] = "SELECT ino,dev,path,name,same,(SELECT count(*) FROM check_link b"
			      " WHERE b.ino=a.ino AND b.dev=a.dev),(SELECT count(*) FROM link l"
			      " WHERE l.ino=a.ino AND l.dev=a.dev) FROM check_link a"
			      " WHERE (ino,dev,path,name)>(?1,?2,?3,?4) OR ?6"
			      " ORDER BY ino,dev,path,name LIMIT ?5",
	[Q_PUT_PARTIAL] = "INSERT OR REPLACE INTO unfinished VALUES(?1,?2,?3,?4,?5,?6)",
	[Q_GET_PARTIAL] = "SELECT temp FROM unfinished WHERE dir=?1 AND name=?2",
	[Q_PARTIAL_OF] = "SELECT dir,path,name FROM unfinished WHERE ino=?1 AND dev=?2 LIMIT 1",
	[Q_DEL_PARTIAL] = "DELETE FROM unfinished WHERE dir=?1 AND name=?2 AND temp=?3",
	[Q_COUNT_PARTIALS] = "SELECT count(*) FROM unfinished WHERE temp=?1 OR ?1=x''",
};

int stg_catalog_error(sqlite3 *db, struct err *e, const char *what)
{
	int code = sqlite3_errcode(db);
	const char *path = sqlite3_db_filename(db, "main");
	int r = -EIO;

	/* Files beside the database cannot grow either, which SQLite calls an I/O error. */
	if (code == SQLITE_FULL || ((code & 0xff) == SQLITE_IOERR &&
				    sqlite3_system_errno(db) == ENOSPC))
		return err_set(e, -ENOSPC, "the disk of the state directory is full (%s): make room "
			       "there and start again, what the target has acknowledged is kept",
			       path && *path ? path : "catalog");
	else if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
		r = -EBADMSG;
	else if (code == SQLITE_NOMEM)
		r = -ENOMEM;
	else if (code == SQLITE_READONLY)
		r = -EROFS;
	return err_set(e, r, "catalog: %s: %s", what, sqlite3_errmsg(db));
}

/* Step a statement that returns nothing, and make it ready for the next use. */
int stg_catalog_run(struct stg_catalog *c, enum query q, const char *what, struct err *e)
{
	int r = sqlite3_step(c->q[q]);
	int ret = 0;

	if (r != SQLITE_DONE && r != SQLITE_ROW)
		ret = stg_catalog_error(c->db, e, what);
	sqlite3_reset(c->q[q]);
	return ret;
}

static int exec_sql(sqlite3 *db, const char *sql, struct err *e)
{
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		return stg_catalog_error(db, e, sql);
	return 0;
}

/*
 * A full disk makes SQLite roll the transaction back.  What was marked and recorded in it is
 * lost, so what comes after must not be written alone, each statement for itself.
 */
static int is_broken(struct stg_catalog *c, struct err *e)
{
	if (c->broken.code && e)
		*e = c->broken;
	return c->broken.code;
}

/* r: what a write has come to. */
static int note_rollback(struct stg_catalog *c, int r, struct err *e)
{
	if (r >= 0 || c->broken.code || !c->open || !sqlite3_get_autocommit(c->db))
		return r;
	if (e)
		c->broken = *e;
	else
		err_set(&c->broken, r, "catalog: a write failed");
	return r;
}

/* Called with the lock held, before every write. */
static int begin_write(struct stg_catalog *c, struct err *e)
{
	int r = is_broken(c, e);

	if (r < 0)
		return r;
	if (c->open)
		return 0;
	r = exec_sql(c->db, "BEGIN IMMEDIATE", e);
	if (r < 0)
		return r;
	c->open = true;
	c->rows = 0;
	c->since_ns = clock_mono_ns();
	return 0;
}

static int put_fact(struct stg_catalog *c, const char *key, const char *value, struct err *e)
{
	sqlite3_bind_text(c->q[Q_SET_FACT], 1, key, -1, SQLITE_STATIC);
	sqlite3_bind_text(c->q[Q_SET_FACT], 2, value, -1, SQLITE_STATIC);
	return stg_catalog_run(c, Q_SET_FACT, "write fact", e);
}

static int commit_locked(struct stg_catalog *c, struct err *e)
{
	char text[32];
	int r;

	if (!c->open)
		return 0;
	r = is_broken(c, e);
	if (r < 0)
		return r;
	/* No id that a committed row holds may be given again after a crash. */
	snprintf(text, sizeof(text), "%llu", (unsigned long long)atomic_load(&c->next_dir));
	r = put_fact(c, "next_dir", text, e);
	if (r == 0)
		r = exec_sql(c->db, "COMMIT", e);
	if (r == 0)
		c->open = false;
	return note_rollback(c, r, e);
}

static int tick_locked(struct stg_catalog *c, struct err *e)
{
	if (c->open && (c->rows >= COMMIT_ROWS ||
			clock_mono_ns() - c->since_ns > STG_COMMIT_MS * 1000000LL))
		return commit_locked(c, e);
	return 0;
}

/* The end of every write: r of its statements, one row more, unlock. */
int stg_catalog_unlock(struct stg_catalog *c, int r, struct err *e)
{
	if (r == 0) {
		c->rows++;
		r = tick_locked(c, e);
	}
	note_rollback(c, r, e);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int stg_catalog_lock(struct stg_catalog *c, struct err *e)
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = begin_write(c, e);
	if (r < 0)
		pthread_mutex_unlock(&c->lock);
	return r;
}

int stg_catalog_open_db(const char *path, int flags, const char *pragmas, sqlite3 **ret,
			struct err *e)
{
	sqlite3 *db = NULL;
	int r;

	if (sqlite3_open_v2(path, &db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
		r = db ? stg_catalog_error(db, e, path) : err_set(e, -ENOMEM, "catalog: %s", path);
		sqlite3_close(db);
		return r;
	}
	sqlite3_busy_timeout(db, 10000);
	r = exec_sql(db, pragmas, e);
	if (r < 0) {
		sqlite3_close(db);
		return r;
	}
	*ret = db;
	return 0;
}

/* SQL function: a row whose hash is of the old kind without it; NULL: it stays as it is. */
static void drop_old_hash(sqlite3_context *ctx, int n, sqlite3_value **v)
{
	uint8_t packed[STG_ROW_BYTES];
	const void *p = sqlite3_value_blob(v[0]);
	struct stg_row row;

	(void)n;
	if (stg_row_unpack(p, (size_t)sqlite3_value_bytes(v[0]), &row) < 0 ||
	    row.st.size <= TP_LEAF_BYTES || !(row.state & STG_ROW_HASHED))
		return;
	row.state &= (uint8_t)~STG_ROW_HASHED;
	stg_row_pack(packed, &row);
	sqlite3_result_blob(ctx, packed, sizeof(packed), SQLITE_TRANSIENT);
}

/* Big files have no hash any more, so what may have changed in them is compared by content. */
static int upgrade(struct stg_catalog *c, struct err *e)
{
	if (sqlite3_create_function(c->db, "drop_old_hash", 1,
				    SQLITE_UTF8 | SQLITE_DETERMINISTIC, NULL,
				    drop_old_hash, NULL, NULL) != SQLITE_OK)
		return stg_catalog_error(c->db, e, "upgrade");
	return exec_sql(c->db, "BEGIN IMMEDIATE;"
			       "UPDATE entry SET row=drop_old_hash(row)"
			       " WHERE drop_old_hash(row) IS NOT NULL;"
			       "UPDATE fact SET value='2' WHERE key='catalog_version';COMMIT", e);
}

static int check_version(struct stg_catalog *c, struct err *e)
{
	uint64_t version;
	int r = stg_catalog_get_number(c, "catalog_version", &version, e);

	if (r < 0)
		return r;
	if (!version)
		return stg_catalog_set_number(c, "catalog_version", CATALOG_VERSION, e);
	if (version == 1)
		return upgrade(c, e);
	if (version != CATALOG_VERSION)
		return err_set(e, -EBADMSG,
			       "%s was written by another version of stager (catalog version %llu): "
			       "use that version, or move the file away and run a new full sync",
			       c->path, (unsigned long long)version);
	return 0;
}

static int catalog_prepare(struct stg_catalog *c, struct err *e)
{
	int r = exec_sql(c->db, schema, e);

	for (int i = 0; r == 0 && i < Q_COUNT; i++)
		if (sqlite3_prepare_v3(c->db, queries[i], -1, SQLITE_PREPARE_PERSISTENT,
				       &c->q[i], NULL) != SQLITE_OK)
			r = stg_catalog_error(c->db, e, queries[i]);
	return r;
}

static int catalog_load(struct stg_catalog *c, struct err *e)
{
	uint64_t next = 0;
	int r;

	atomic_init(&c->next_dir, STG_ROOT_ID + 1u);
	r = catalog_prepare(c, e);
	if (r == 0)
		r = check_version(c, e);
	if (r == 0)
		r = stg_catalog_get_number(c, "next_dir", &next, e);
	if (r == 0)
		atomic_store(&c->next_dir, MAX(next, STG_ROOT_ID + 1u));
	return r;
}

int stg_catalog_open(const char *dir, struct stg_catalog **ret, struct err *e)
{
	struct stg_catalog *c = calloc(1, sizeof(*c));
	int r;

	if (!c || asprintf(&c->path, "%s/" STG_CATALOG_FILE, dir) < 0) {
		free(c);
		return err_set(e, -ENOMEM, "catalog: out of memory");
	}
	pthread_mutex_init(&c->lock, NULL);
	r = stg_catalog_open_db(c->path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
				"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
				"PRAGMA wal_autocheckpoint=8000; PRAGMA cache_size=-8192;",
				&c->db, e);
	if (r == 0)
		r = catalog_load(c, e);
	if (r == -EBADMSG)
		err_ctx(e, r, "%s cannot be used (move it away and run a new full sync)",
			c->path);
	if (r < 0) {
		stg_catalog_close(c);
		return r;
	}
	chmod(c->path, 0600);
	*ret = c;
	return 0;
}

void stg_catalog_close(struct stg_catalog *c)
{
	struct err e;

	if (!c)
		return;
	/* What cannot be committed here will be sent again; nothing else is lost. */
	if (c->db)
		(void)!commit_locked(c, &e);
	for (int i = 0; i < Q_COUNT; i++)
		sqlite3_finalize(c->q[i]);
	sqlite3_close(c->db);
	pthread_mutex_destroy(&c->lock);
	free(c->path);
	free(c);
}

int stg_catalog_commit(struct stg_catalog *c, struct err *e)
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = commit_locked(c, e);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int stg_catalog_tick(struct stg_catalog *c, struct err *e)
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = tick_locked(c, e);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int stg_catalog_get(struct stg_catalog *c, const char *key, struct buf *ret, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_GET_FACT];
	int r = 0, step;

	pthread_mutex_lock(&c->lock);
	sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
	step = sqlite3_step(s);
	if (step == SQLITE_ROW) {
		buf_clear(ret);
		r = buf_put_bytes(ret, column_bytes(s, 0));
		r = r < 0 || !buf_cstr(ret) ? err_set(e, -ENOMEM, "catalog: out of memory") : 1;
	} else if (step != SQLITE_DONE) {
		r = stg_catalog_error(c->db, e, "read fact");
	}
	sqlite3_reset(s);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int stg_catalog_set(struct stg_catalog *c, const char *key, const char *value, struct err *e)
{
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	return stg_catalog_unlock(c, put_fact(c, key, value, e), e);
}

int stg_catalog_get_number(struct stg_catalog *c, const char *key, uint64_t *ret, struct err *e)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	int r = stg_catalog_get(c, key, &b, e);

	if (r < 0)
		return r;
	*ret = r ? strtoull(buf_cstr(&b), NULL, 10) : 0;
	return 0;
}

int stg_catalog_set_number(struct stg_catalog *c, const char *key, uint64_t value,
			   struct err *e)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return stg_catalog_set(c, key, text, e);
}

/* --- phases --- */

int stg_catalog_last_phase(struct stg_catalog *c, struct stg_phase_row *ret, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_LAST_PHASE];
	int r = 0, step;

	pthread_mutex_lock(&c->lock);
	step = sqlite3_step(s);
	if (step == SQLITE_ROW) {
		*ret = (struct stg_phase_row){
			.id = (uint32_t)column_int(s, 0),
			.started_ns = column_int(s, 2),
			.finished_ns = column_int(s, 3),
			.sync_ns = column_int(s, 4),
			.fresh = column_int(s, 5) != 0,
		};
		snprintf(ret->name, sizeof(ret->name), "%s",
			 (const char *)sqlite3_column_text(s, 1));
		r = 1;
	} else if (step != SQLITE_DONE) {
		r = stg_catalog_error(c->db, e, "read phase");
	}
	sqlite3_reset(s);
	pthread_mutex_unlock(&c->lock);
	return r;
}

/* A query with one number as its answer; 0 when there is no row. */
int stg_catalog_number(struct stg_catalog *c, enum query q, int64_t *ret, struct err *e)
{
	int step = sqlite3_step(c->q[q]);
	int r = 0;

	*ret = 0;
	if (step == SQLITE_ROW)
		*ret = column_int(c->q[q], 0);
	else if (step != SQLITE_DONE)
		r = stg_catalog_error(c->db, e, "read");
	sqlite3_reset(c->q[q]);
	return r;
}

/* Does a query find a number above 0?  Takes the lock. */
static int is_any(struct stg_catalog *c, enum query q, struct err *e)
{
	int64_t n;
	int r;

	pthread_mutex_lock(&c->lock);
	r = stg_catalog_number(c, q, &n, e);
	pthread_mutex_unlock(&c->lock);
	return r < 0 ? r : n > 0;
}

int stg_catalog_full_stands(struct stg_catalog *c, struct err *e)
{
	return is_any(c, Q_FULL_STANDS, e);
}

int stg_catalog_count_phases(struct stg_catalog *c, const char *prefix, uint32_t *ret,
			     struct err *e)
{
	int64_t n;
	int r;

	pthread_mutex_lock(&c->lock);
	sqlite3_bind_text(c->q[Q_COUNT_PHASES], 1, prefix, -1, SQLITE_STATIC);
	r = stg_catalog_number(c, Q_COUNT_PHASES, &n, e);
	pthread_mutex_unlock(&c->lock);
	if (r == 0)
		*ret = (uint32_t)n;
	return r;
}

/* Lock held, transaction open. */
static int put_phase(struct stg_catalog *c, struct stg_phase_row *p, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_PUT_PHASE];
	int r;

	if (p->id)
		sqlite3_bind_int64(s, 1, p->id);
	else
		sqlite3_bind_null(s, 1);
	sqlite3_bind_text(s, 2, p->name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, 3, p->started_ns);
	sqlite3_bind_int64(s, 4, p->finished_ns);
	sqlite3_bind_int64(s, 5, p->sync_ns);
	sqlite3_bind_int64(s, 6, p->fresh);
	r = stg_catalog_run(c, Q_PUT_PHASE, "write phase", e);
	if (r == 0 && !p->id)
		p->id = (uint32_t)sqlite3_last_insert_rowid(c->db);
	return r;
}

int stg_catalog_put_phase(struct stg_catalog *c, struct stg_phase_row *p, struct err *e)
{
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	r = put_phase(c, p, e);
	if (r == 0)
		r = commit_locked(c, e);
	pthread_mutex_unlock(&c->lock);
	return r;
}

static int exec_locked(struct stg_catalog *c, const char *sql, struct err *e)
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = commit_locked(c, e);
	if (r == 0)
		r = exec_sql(c->db, sql, e);
	if (r < 0)
		sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int stg_catalog_begin_full(struct stg_catalog *c, struct stg_phase_row *p, struct err *e)
{
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	r = exec_sql(c->db,
		     "DELETE FROM entry; DELETE FROM dirty; DELETE FROM link;"
		     " DELETE FROM unfinished; DELETE FROM place",
		     e);
	if (r == 0)
		r = put_phase(c, p, e);
	if (r == 0)
		r = commit_locked(c, e);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int stg_catalog_has_entries(struct stg_catalog *c, struct err *e)
{
	return is_any(c, Q_HAS_ENTRIES, e);
}

int stg_catalog_clear_plan(struct stg_catalog *c, struct err *e)
{
	return exec_locked(c, "BEGIN; DELETE FROM leader; DELETE FROM follower;"
			      "DELETE FROM removal; COMMIT", e);
}

/* --- entries --- */

uint64_t stg_catalog_new_dir_id(struct stg_catalog *c)
{
	return atomic_fetch_add(&c->next_dir, 1);
}

int stg_catalog_row_put(struct stg_catalog *c, uint64_t dir, struct bytes name,
		     const struct stg_row *row, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_PUT_ENTRY];
	uint8_t packed[STG_ROW_BYTES];

	stg_row_pack(packed, row);
	sqlite3_bind_int64(s, 1, (int64_t)dir);
	bind_bytes(s, 2, name);
	sqlite3_bind_blob(s, 3, packed, sizeof(packed), SQLITE_STATIC);
	return stg_catalog_run(c, Q_PUT_ENTRY, "write entry", e);
}

int stg_catalog_put_link(struct stg_catalog *c, uint64_t dir, struct bytes path,
			 struct bytes name, const struct stg_stat *st, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_PUT_LINK];

	sqlite3_bind_int64(s, 1, (int64_t)dir);
	bind_bytes(s, 2, name);
	sqlite3_bind_int64(s, 3, (int64_t)st->dev);
	sqlite3_bind_int64(s, 4, (int64_t)st->ino);
	bind_bytes(s, 5, path);
	return stg_catalog_run(c, Q_PUT_LINK, "write link", e);
}

int stg_catalog_del_named(struct stg_catalog *c, enum query q, uint64_t dir,
			  struct bytes name, struct err *e)
{
	sqlite3_bind_int64(c->q[q], 1, (int64_t)dir);
	bind_bytes(c->q[q], 2, name);
	return stg_catalog_run(c, q, "delete entry", e);
}

int stg_catalog_record(struct stg_catalog *c, uint64_t dir, struct bytes path,
		       struct bytes name, const struct stg_row *row, uint32_t old_nlink,
		       struct err *e)
{
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	r = stg_catalog_row_put(c, dir, name, row, e);
	if (r == 0 && stg_stat_movable(&row->st))
		r = stg_catalog_put_place(c, dir, name, row, e);
	else if (r == 0 && old_nlink)
		r = stg_catalog_del_named(c, Q_DEL_PLACE, dir, name, e);
	if (r == 0 && row->st.nlink > 1 && !stg_is_dir(&row->st))
		r = stg_catalog_put_link(c, dir, path, name, &row->st, e);
	else if (r == 0 && old_nlink > 1)
		r = stg_catalog_del_named(c, Q_DEL_LINK, dir, name, e);
	return stg_catalog_unlock(c, r, e);
}

static int del_by_id(struct stg_catalog *c, enum query q, uint64_t id, struct err *e)
{
	sqlite3_bind_int64(c->q[q], 1, (int64_t)id);
	return stg_catalog_run(c, q, "delete directory", e);
}

/* The ids of the sub-directories of dir, appended to out as le64. */
static int subdirs(struct stg_catalog *c, uint64_t dir, struct buf *out, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_SUBDIRS];
	int r = 0, step;

	sqlite3_bind_int64(s, 1, (int64_t)dir);
	while (r == 0 && (step = sqlite3_step(s)) == SQLITE_ROW) {
		struct bytes b = column_bytes(s, 0);
		struct stg_row row;

		r = stg_row_unpack(b.p, b.n, &row);
		if (r < 0)
			err_set(e, r, "catalog: damaged row");
		else if (row.child && buf_put_le64(out, row.child) < 0)
			r = err_set(e, -ENOMEM, "catalog: out of memory");
	}
	if (r == 0 && step != SQLITE_DONE)
		r = stg_catalog_error(c->db, e, "read directory");
	sqlite3_reset(s);
	return r;
}

/* A directory and all below it, with a list of what is still to do instead of a stack. */
static int forget_tree(struct stg_catalog *c, uint64_t id, struct err *e)
{
	_cleanup_(buf_fini) struct buf todo = BUF_INIT;
	int r = buf_put_le64(&todo, id);

	while (r == 0 && buf_len(&todo)) {
		uint64_t dir = le64_get(todo.p + todo.n - 8);

		todo.n -= 8;
		r = subdirs(c, dir, &todo, e);
		if (r == 0)
			r = del_by_id(c, Q_DEL_DIR, dir, e);
		if (r == 0)
			r = del_by_id(c, Q_DEL_DIR_LINKS, dir, e);
		if (r == 0)
			r = del_by_id(c, Q_DEL_DIR_PLACES, dir, e);
		if (r == 0)
			r = del_by_id(c, Q_DEL_DIRTY, dir, e);
	}
	return r;
}


/* 1 and *ret, or 0. */
int stg_catalog_row_get(struct stg_catalog *c, uint64_t dir, struct bytes name,
		     struct stg_row *ret, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_GET_ENTRY];
	int r = 0, step;

	sqlite3_bind_int64(s, 1, (int64_t)dir);
	bind_bytes(s, 2, name);
	step = sqlite3_step(s);
	if (step == SQLITE_ROW) {
		struct bytes b = column_bytes(s, 0);

		r = stg_row_unpack(b.p, b.n, ret) < 0 ?
			    err_set(e, -EBADMSG, "catalog: damaged row") : 1;
	} else if (step != SQLITE_DONE) {
		r = stg_catalog_error(c->db, e, "read entry");
	}
	sqlite3_reset(s);
	return r;
}

int stg_catalog_forget(struct stg_catalog *c, uint64_t dir, struct bytes name, struct err *e)
{
	struct stg_row row;
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	r = stg_catalog_row_get(c, dir, name, &row, e);
	if (r > 0) {
		r = stg_catalog_del_named(c, Q_DEL_ENTRY, dir, name, e);
		if (r == 0)
			r = stg_catalog_del_named(c, Q_DEL_PLACE, dir, name, e);
		if (r == 0 && row.st.nlink > 1)
			r = stg_catalog_del_named(c, Q_DEL_LINK, dir, name, e);
		if (r == 0 && row.child)
			r = forget_tree(c, row.child, e);
	}
	return stg_catalog_unlock(c, r, e);
}

int stg_catalog_forget_below(struct stg_catalog *c, uint64_t dir, struct bytes name,
			     struct err *e)
{
	struct stg_row row;
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	r = stg_catalog_row_get(c, dir, name, &row, e);
	if (r > 0 && row.child) {
		r = forget_tree(c, row.child, e);
		row.state |= STG_ROW_DIRTY;
		if (r == 0)
			r = stg_catalog_row_put(c, dir, name, &row, e);
	}
	return stg_catalog_unlock(c, MIN(r, 0), e);
}

int stg_catalog_mark_dirty(struct stg_catalog *c, uint64_t parent, struct bytes name,
			   uint64_t id, struct bytes path, uint32_t depth,
			   const struct stg_stat *st, uint32_t phase, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_PUT_DIRTY];
	uint8_t packed[STG_ROW_BYTES];
	struct stg_row row;
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	r = stg_catalog_row_get(c, parent, name, &row, e);
	/* What it takes the place of was perhaps one of several names of an inode. */
	if (r > 0 && !stg_is_dir(&row.st) && row.st.nlink > 1)
		r = stg_catalog_del_named(c, Q_DEL_LINK, parent, name, e);
	if (r == 0 || (r > 0 && !stg_is_dir(&row.st)))
		row = (struct stg_row){ .st = { .mode = S_IFDIR } };
	if (r >= 0) {
		row.child = id;
		row.state = STG_ROW_DIRTY;
		r = stg_catalog_row_put(c, parent, name, &row, e);
	}
	if (r == 0) {
		row.st = *st;
		stg_row_pack(packed, &row);
		sqlite3_bind_int64(s, 1, depth);
		sqlite3_bind_int64(s, 2, (int64_t)id);
		sqlite3_bind_int64(s, 3, (int64_t)parent);
		bind_bytes(s, 4, path);
		bind_bytes(s, 5, name);
		sqlite3_bind_blob(s, 6, packed, sizeof(packed), SQLITE_STATIC);
		sqlite3_bind_int64(s, 7, phase);
		r = stg_catalog_run(c, Q_PUT_DIRTY, "mark directory", e);
	}
	return stg_catalog_unlock(c, r, e);
}

int stg_catalog_clean_dir(struct stg_catalog *c, uint64_t parent, struct bytes name,
			  uint64_t id, const struct stg_row *row, struct err *e)
{
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	r = stg_catalog_row_put(c, parent, name, row, e);
	if (r == 0)
		r = stg_catalog_put_place(c, parent, name, row, e);
	if (r == 0)
		r = del_by_id(c, Q_DEL_DIRTY, id, e);
	return stg_catalog_unlock(c, r, e);
}

int stg_catalog_has_dirty(struct stg_catalog *c, struct err *e)
{
	return is_any(c, Q_HAS_DIRTY, e);
}

int stg_catalog_row_find(struct stg_catalog *c, struct bytes path, uint64_t *ret_dir,
			 struct bytes *ret_name, struct stg_row *ret, struct err *e)
{
	struct bytes name = bytes_of("", 0);
	uint64_t dir = 0;
	int r = stg_catalog_row_get(c, dir, name, ret, e);

	while (r > 0 && path.n) {
		const uint8_t *slash = memchr(path.p, '/', path.n);
		size_t n = slash ? (size_t)(slash - path.p) : path.n;

		name = bytes_of(path.p, n);
		path = bytes_of(path.p + n + !!slash, path.n - n - !!slash);
		dir = ret->child;
		r = stg_catalog_row_get(c, dir, name, ret, e);
	}
	*ret_dir = dir;
	*ret_name = name;
	return r;
}

int stg_catalog_row_change(struct stg_catalog *c, struct bytes path, uint8_t clear, uint8_t set,
			   struct err *e)
{
	struct bytes name;
	struct stg_row row;
	uint64_t dir;
	int r = stg_catalog_lock(c, e);

	if (r < 0)
		return r;
	r = stg_catalog_row_find(c, path, &dir, &name, &row, e);
	if (r > 0) {
		row.state = (uint8_t)((row.state & ~clear) | set);
		/* What is in a directory that is not what it was is not sure, either. */
		if (stg_is_dir(&row.st) && row.state & STG_ROW_DEFECT)
			row.state = (uint8_t)((row.state & ~STG_ROW_DEFECT) | STG_ROW_DIRTY);
		r = stg_catalog_row_put(c, dir, name, &row, e);
	}
	return stg_catalog_unlock(c, r, e);
}

int stg_catalog_mark_unsure(struct stg_catalog *c, struct bytes path, struct err *e)
{
	return stg_catalog_row_change(c, path, 0, STG_ROW_DIRTY, e);
}

int stg_catalog_drop_dirty(struct stg_catalog *c, uint64_t id, struct err *e)
{
	int r = stg_catalog_lock(c, e);

	return r < 0 ? r : stg_catalog_unlock(c, del_by_id(c, Q_DEL_DIRTY, id, e), e);
}

int stg_catalog_page_end(struct stg_catalog *c, enum query q, int step, int r, struct err *e)
{
	if (r == 0 && step != SQLITE_DONE && step != SQLITE_ROW)
		r = stg_catalog_error(c->db, e, "read plan");
	else if (r < 0)
		err_sysn(e, r, "catalog: read plan");
	sqlite3_reset(c->q[q]);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int stg_catalog_next_dirty(struct stg_catalog *c, struct stg_dirty_page *page, struct err *e)
{
	sqlite3_stmt *s = c->q[Q_NEXT_DIRTY];
	int r = 0, step = SQLITE_DONE;

	pthread_mutex_lock(&c->lock);
	buf_clear(&page->bytes);
	page->n = 0;
	sqlite3_bind_int64(s, 1, page->next_depth);
	sqlite3_bind_int64(s, 2, (int64_t)page->next_id);
	sqlite3_bind_int64(s, 3, STG_PAGE_ROWS);
	sqlite3_bind_int64(s, 4, page->phase);
	while (r == 0 && page->n < STG_PAGE_ROWS && (step = sqlite3_step(s)) == SQLITE_ROW) {
		struct stg_dirty *d = &page->rows[page->n];

		d->depth = (uint32_t)column_int(s, 0);
		d->id = (uint64_t)column_int(s, 1);
		d->parent = (uint64_t)column_int(s, 2);
		r = page_bytes(&page->bytes, s, 3, &d->path);
		if (r == 0)
			r = page_bytes(&page->bytes, s, 4, &d->name);
		if (r == 0)
			r = page_stat(s, 5, &d->st);
		page->next_depth = d->depth;
		page->next_id = d->id;
		page->n++;
	}
	for (size_t i = 0; r == 0 && i < page->n; i++) {
		page_fix(&page->bytes, &page->rows[i].path);
		page_fix(&page->bytes, &page->rows[i].name);
	}
	return stg_catalog_page_end(c, Q_NEXT_DIRTY, step, r, e);
}
