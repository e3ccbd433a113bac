/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/catalog_parts.h - what catalog.c and the other catalog_*.c share: the database, its
 * statements, and one write.  Nothing else includes it; callers use stager/catalog.h.
 */
#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"
#include "stager/catalog.h"

enum query {
	Q_GET_FACT,
	Q_SET_FACT,
	Q_LAST_PHASE,
	Q_FULL_STANDS,
	Q_COUNT_PHASES,
	Q_PUT_PHASE,
	Q_HAS_ENTRIES,
	Q_PUT_ENTRY,
	Q_GET_ENTRY,
	Q_DEL_ENTRY,
	Q_DEL_DIR,
	Q_DEL_DIR_LINKS,
	Q_SUBDIRS,
	Q_PUT_DIRTY,
	Q_DEL_DIRTY,
	Q_NEXT_DIRTY,
	Q_PUT_LINK,
	Q_DEL_LINK,
	Q_LINKS_OF,
	Q_COUNT_LINKS,
	Q_GET_LEADER,
	Q_PUT_LEADER,
	Q_DEL_LEADER,
	Q_PUT_FOLLOWER,
	Q_NEXT_FOLLOWER,
	Q_PUT_PLACE,
	Q_DEL_PLACE,
	Q_DEL_DIR_PLACES,
	Q_MOVE_LINKS,
	Q_HAS_DIRTY,
	Q_PUT_REMOVAL,
	Q_NEXT_REMOVAL,
	Q_PUT_FINDING,
	Q_FIX_FINDING,
	Q_NEXT_FINDING,
	Q_COUNT_FINDINGS,
	Q_PUT_CHECK_LINK,
	Q_ADD_CHECK_LINKS,
	Q_NEXT_CHECK_LINK,
	Q_PUT_PARTIAL,
	Q_GET_PARTIAL,
	Q_PARTIAL_OF,
	Q_DEL_PARTIAL,
	Q_COUNT_PARTIALS,
	Q_COUNT,
};

/* A reader asks it on a connection of its own. */
#define SQL_GET_ENTRY "SELECT row FROM entry WHERE dir=?1 AND name=?2"

struct stg_catalog {
	char *path;
	sqlite3 *db;
	sqlite3_stmt *q[Q_COUNT];
	pthread_mutex_t lock; /* db, q, the transaction */
	bool open;            /* a transaction is */
	struct err broken;    /* why SQLite rolled it back by itself: nothing is written after */
	size_t rows;          /* written in it */
	int64_t since_ns;
	atomic_uint_fast64_t next_dir;
};

struct stg_catalog_reader {
	sqlite3 *db;
	sqlite3_stmt *dir, *one, *inode, *child;
};

/* Tell what SQLite says; what: what was tried.  Returns the code. */
int stg_catalog_error(sqlite3 *db, struct err *e, const char *what);

/* Step a statement that returns nothing, and make it ready for the next use. */
int stg_catalog_run(struct stg_catalog *c, enum query q, const char *what, struct err *e)
	_must_check_;

/* A connection to the file, with these pragmas; flags as of sqlite3_open_v2(). */
int stg_catalog_open_db(const char *path, int flags, const char *pragmas, sqlite3 **ret,
			struct err *e) _must_check_;

/*
 * The number that a query finds, what it takes being bound already; 0 where it finds none.
 * The caller has the lock.
 */
int stg_catalog_number(struct stg_catalog *c, enum query q, int64_t *ret, struct err *e)
	_must_check_;

/* Take the lock and begin a write; on failure the lock is given back. */
int stg_catalog_lock(struct stg_catalog *c, struct err *e) _must_check_;
/* The end of every write: r of its statements; commits when it is time.  Returns r or worse. */
int stg_catalog_unlock(struct stg_catalog *c, int r, struct err *e) _must_check_;

/* These have the lock.  get, find: 1 and *ret, or 0. */
int stg_catalog_row_get(struct stg_catalog *c, uint64_t dir, struct bytes name,
			struct stg_row *ret, struct err *e) _must_check_;
int stg_catalog_row_put(struct stg_catalog *c, uint64_t dir, struct bytes name,
			const struct stg_row *row, struct err *e) _must_check_;
int stg_catalog_row_find(struct stg_catalog *c, struct bytes path, uint64_t *ret_dir,
			 struct bytes *ret_name, struct stg_row *ret, struct err *e)
	_must_check_;
/* Run a statement that takes a directory and a name. */
int stg_catalog_del_named(struct stg_catalog *c, enum query q, uint64_t dir, struct bytes name,
			  struct err *e) _must_check_;
/* One of several names of an inode; path is the directory's. */
int stg_catalog_put_link(struct stg_catalog *c, uint64_t dir, struct bytes path,
			 struct bytes name, const struct stg_stat *st, struct err *e) _must_check_;
/* Where an inode is, kept for those that are worth a move. */
int stg_catalog_put_place(struct stg_catalog *c, uint64_t dir, struct bytes name,
			  const struct stg_row *row, struct err *e) _must_check_;
/* Change the state of the row at path, if there is one.  Takes the lock itself. */
int stg_catalog_row_change(struct stg_catalog *c, struct bytes path, uint8_t clear, uint8_t set,
			   struct err *e) _must_check_;

/* The end of a page, read with the lock held, which it gives back. */
int stg_catalog_page_end(struct stg_catalog *c, enum query q, int step, int r, struct err *e)
	_must_check_;

static inline int bind_bytes(sqlite3_stmt *s, int at, struct bytes b)
{
	return sqlite3_bind_blob(s, at, b.n ? (const void *)b.p : "", (int)b.n, SQLITE_STATIC);
}

static inline void bind_inode(sqlite3_stmt *s, uint64_t dev, uint64_t ino)
{
	sqlite3_bind_int64(s, 1, (int64_t)ino);
	sqlite3_bind_int64(s, 2, (int64_t)dev);
}

static inline struct bytes column_bytes(sqlite3_stmt *s, int at)
{
	/* The pointer must be asked for before the size (sqlite3_column_blob(3)). */
	const void *p = sqlite3_column_blob(s, at);

	return bytes_of(p, (size_t)sqlite3_column_bytes(s, at));
}

static inline int64_t column_int(sqlite3_stmt *s, int at)
{
	return sqlite3_column_int64(s, at);
}

/*
 * Copy a column's bytes into the page.  While the page is being filled only the length is
 * kept; page_fix() turns offsets into pointers when the buffer moves no more.
 */
static inline int page_bytes(struct buf *page, sqlite3_stmt *s, int at, struct bytes *ret)
{
	struct bytes b = column_bytes(s, at);
	size_t off = page->n;

	if (buf_put_bytes(page, b) < 0)
		return -ENOMEM;
	*ret = (struct bytes){ .p = (const uint8_t *)(uintptr_t)off, .n = b.n };
	return 0;
}

static inline void page_fix(const struct buf *page, struct bytes *b)
{
	b->p = page->p + (uintptr_t)b->p;
}

/* A column's bytes as a row: 0, or -EBADMSG when it is damaged. */
static inline int page_row(sqlite3_stmt *s, int at, struct stg_row *ret)
{
	struct bytes b = column_bytes(s, at);

	return stg_row_unpack(b.p, b.n, ret);
}

/* Only the stat of it. */
static inline int page_stat(sqlite3_stmt *s, int at, struct stg_stat *ret)
{
	struct stg_row row;
	int r = page_row(s, at, &row);

	if (r == 0)
		*ret = row.st;
	return r;
}
