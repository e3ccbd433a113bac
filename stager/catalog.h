/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/catalog.h - what the target has acknowledged, entry by entry, in SQLite.
 *
 * It is the only memory between phases: what is not in it will be sent.  Entries are kept by
 * directory: each directory has an id, its entries are rows under that id, and the row of a
 * sub-directory names the sub-directory's id.  The root has the id STG_ROOT_ID; its own row
 * is under id 0 with an empty name.
 *
 * Before anything inside a directory is sent, the directory is marked dirty, and the mark is
 * committed.  The mark goes when the directory's final metadata has been acknowledged.  So
 * after a crash the dirty directories are exactly those whose state on the target is unsure.
 *
 * One process holds a catalog (stager/state.h has the lock).  Functions that take a struct
 * stg_catalog may be called from any thread: writes are gathered in one transaction that is
 * committed on demand or after STG_COMMIT_MS.  A reader belongs to one thread and sees what
 * is committed.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/error.h"
#include "stager/entry.h"

#define STG_CATALOG_FILE "catalog.db"
#define STG_ROOT_ID    1u
#define STG_COMMIT_MS  200
#define STG_PAGE_ROWS  256 /* rows that a paging call returns at most */

struct stg_catalog;

/*
 * Open or create STG_CATALOG_FILE in dir.  -EBADMSG: damaged, or of a newer version: the text says
 * what to do.  Else as open(2).
 */
int stg_catalog_open(const char *dir, struct stg_catalog **ret, struct err *e) _must_check_;
void stg_catalog_close(struct stg_catalog *c); /* commits; NULL is fine */

/* Commit what has been written so far. */
int stg_catalog_commit(struct stg_catalog *c, struct err *e) _must_check_;
/* The same if the open transaction is older than STG_COMMIT_MS. */
int stg_catalog_tick(struct stg_catalog *c, struct err *e) _must_check_;

/* Facts kept by name.  get: 1 and *ret filled (a C string, the caller's buf), or 0. */
int stg_catalog_get(struct stg_catalog *c, const char *key, struct buf *ret, struct err *e)
	_must_check_;
int stg_catalog_set(struct stg_catalog *c, const char *key, const char *value, struct err *e)
	_must_check_;
int stg_catalog_get_number(struct stg_catalog *c, const char *key, uint64_t *ret,
			   struct err *e) _must_check_; /* 0 when absent */
int stg_catalog_set_number(struct stg_catalog *c, const char *key, uint64_t value,
			   struct err *e) _must_check_;

/* --- phases --- */

struct stg_phase_row {
	uint32_t id;
	char name[32]; /* full_sync, incremental_sync_2, cutover_sync */
	int64_t started_ns, finished_ns; /* epoch; finished 0: it has not */
	int64_t sync_ns; /* sync point: clock of the source's inodes before its syncfs() */
	bool fresh;      /* the target was empty when it began */
};

/* The newest phase: 1 and *ret, or 0: there was none yet. */
int stg_catalog_last_phase(struct stg_catalog *c, struct stg_phase_row *ret, struct err *e)
	_must_check_;
/* The newest finished full sync after which no other full was begun: 1, or 0: none stands. */
int stg_catalog_full_stands(struct stg_catalog *c, struct err *e) _must_check_;
/* How many phases of this name prefix have finished. */
int stg_catalog_count_phases(struct stg_catalog *c, const char *prefix, uint32_t *ret,
			     struct err *e) _must_check_;
/* Insert (id 0: one is given) or update. */
int stg_catalog_put_phase(struct stg_catalog *c, struct stg_phase_row *p, struct err *e)
	_must_check_;

/*
 * A new full sync begins: forget all entries, links and marks and put its phase, in one
 * transaction, so that no full stands without its entries.
 */
int stg_catalog_begin_full(struct stg_catalog *c, struct stg_phase_row *p, struct err *e)
	_must_check_;

/* 1: the target has acknowledged anything at all; 0: nothing. */
int stg_catalog_has_entries(struct stg_catalog *c, struct err *e) _must_check_;

/* --- entries --- */

/* A new directory id; never 0, never given twice in a catalog. */
uint64_t stg_catalog_new_dir_id(struct stg_catalog *c);

/*
 * Keep row as what the target has of name in directory dir.  old_nlink: the link count of
 * the row it replaces, 0: there was none.  path is the directory's, for hard links.
 */
int stg_catalog_record(struct stg_catalog *c, uint64_t dir, struct bytes path,
		       struct bytes name, const struct stg_row *row, uint32_t old_nlink,
		       struct err *e) _must_check_;

/* The target has name no longer; with a directory all that was in it goes too. */
int stg_catalog_forget(struct stg_catalog *c, uint64_t dir, struct bytes name, struct err *e)
	_must_check_;

/*
 * Directory id (name in parent, at path) is about to be worked on.  st: what the scan saw of
 * it, which the end of the phase (an id) will put on the target.
 */
int stg_catalog_mark_dirty(struct stg_catalog *c, uint64_t parent, struct bytes name,
			   uint64_t id, struct bytes path, uint32_t depth,
			   const struct stg_stat *st, uint32_t phase, struct err *e)
	_must_check_;

/* Its final metadata is acknowledged: keep the row, take the mark away. */
int stg_catalog_clean_dir(struct stg_catalog *c, uint64_t parent, struct bytes name,
			  uint64_t id, const struct stg_row *row, struct err *e) _must_check_;

/*
 * What is in the directory at path (relative to the root) is not what its rows say, or not
 * only that: mark its row, so that the next phase compares it with the target.  Nothing
 * happens when there is no such row.
 */
int stg_catalog_mark_unsure(struct stg_catalog *c, struct bytes path, struct err *e)
	_must_check_;

/*
 * The directory of that name is about to be removed on the target, piece by piece: nothing is
 * known any more of what is in it, and it is unsure itself.
 */
int stg_catalog_forget_below(struct stg_catalog *c, uint64_t dir, struct bytes name,
			     struct err *e) _must_check_;

/* 1: some directory is marked; 0: none. */
int stg_catalog_has_dirty(struct stg_catalog *c, struct err *e) _must_check_;

/* Something that has the same inode on the source, but another name. */
struct stg_move {
	uint64_t old_dir, dir; /* ids of the directories */
	struct bytes old_name, name;
	struct bytes from, to; /* whole paths */
};

/*
 * The number of the epoch in which the target was last told to move something.  A target that
 * was restarted before that epoch was durable may have all of it under the old name again.
 */
#define STG_MOVED_EPOCH "moved_epoch"

/*
 * A digest of the rules that the full sync went by, or nothing where it could not read all of
 * the source: under other rules a directory without a row may be on the target all the same.
 */
#define STG_FULL_RULES "full_rules"

/* 1: a full sync with --no-delete has left what it found on the target beside its own. */
#define STG_EXTRAS_KEPT "extras_kept"

/* The target has moved it: its row, and all that is below it, is under the new name now. */
int stg_catalog_move(struct stg_catalog *c, const struct stg_move *m, struct err *e)
	_must_check_;

/* The source has directory id no more: take the mark away, its row stays dirty. */
int stg_catalog_drop_dirty(struct stg_catalog *c, uint64_t id, struct err *e) _must_check_;

struct stg_dirty {
	uint64_t id, parent;
	uint32_t depth;
	struct bytes path, name; /* into the page's bytes */
	struct stg_stat st;
};

struct stg_dirty_page {
	struct stg_dirty rows[STG_PAGE_ROWS];
	size_t n;
	struct buf bytes;
	uint32_t phase;      /* only those that it marked; 0: all */
	uint32_t next_depth; /* where the next page begins; set both to ~0 to start */
	uint64_t next_id;
};

/* The dirty directories, deepest first, a page a call; n is 0 at the end. */
int stg_catalog_next_dirty(struct stg_catalog *c, struct stg_dirty_page *page, struct err *e)
	_must_check_;

/* --- reading, by the scanner's threads --- */

struct stg_catalog_reader;

int stg_catalog_reader_open(struct stg_catalog *c, struct stg_catalog_reader **ret,
			    struct err *e) _must_check_;
void stg_catalog_reader_close(struct stg_catalog_reader *r);

struct stg_named_row {
	struct bytes name; /* into the set's bytes */
	struct stg_row row;
};

struct stg_rows {
	struct stg_named_row *v;
	size_t n, cap;
	struct buf bytes;
};

void stg_rows_fini(struct stg_rows *s);

/* All rows of a directory, sorted by name, replacing what s held. */
int stg_catalog_read_dir(struct stg_catalog_reader *r, uint64_t dir, struct stg_rows *s,
			 struct err *e) _must_check_;

/* One row: 1 and *ret, or 0. */
int stg_catalog_read_one(struct stg_catalog_reader *r, uint64_t dir, struct bytes name,
			 struct stg_row *ret, struct err *e) _must_check_;

struct stg_place {
	uint64_t dir;
	struct buf path, name; /* of the directory; in it */
	struct stg_row row;
};

void stg_place_fini(struct stg_place *p);

/*
 * Where the target has this source inode, of those that stg_stat_movable() holds for; it may
 * be in several places, nth counts them from 0.  1 and *ret, which has to be initialised, with
 * a row of all zeroes where something else has taken the place since; or 0: there is none.
 */
int stg_catalog_find_inode(struct stg_catalog_reader *r, uint64_t dev, uint64_t ino,
			   unsigned nth, struct stg_place *ret, struct err *e) _must_check_;

/* --- hard links --- */

enum stg_link_role {
	STG_LINK_LEADER, /* send it; the others of its inode will be linked to it */
	STG_LINK_FOLLOWER, /* kept for the link stage; do not send it */
};

/*
 * name in dir (at path) has to be sent and its inode has more names: who carries the inode?
 * The first that asks in a phase, unless a name that the target has acknowledged at this very
 * state can, or one that it has some of (stg_catalog_put_partial()).
 */
int stg_catalog_claim_link(struct stg_catalog *c, uint64_t dir, struct bytes path,
			   struct bytes name, const struct stg_stat *st, uint32_t old_nlink,
			   enum stg_link_role *ret, struct err *e) _must_check_;

/* The name at place is to be the inode's leader, unless it has one. */
int stg_catalog_offer_leader(struct stg_catalog *c, const struct stg_stat *st,
			     const struct stg_place *place, struct err *e) _must_check_;

/* The leader of this inode is of no use: the next name that asks becomes it. */
int stg_catalog_drop_leader(struct stg_catalog *c, const struct stg_stat *st, struct err *e)
	_must_check_;

/* How many names the target has of this source inode, as far as the catalog knows. */
int stg_catalog_count_links(struct stg_catalog *c, uint64_t dev, uint64_t ino, uint32_t *ret,
			    struct err *e) _must_check_;

struct stg_follower {
	uint64_t seq, dir;
	uint32_t old_nlink;
	struct bytes path, name;           /* the new link */
	struct bytes leader_path, leader;  /* the existing name */
	struct stg_stat st;
	bool acked;                        /* there is a row of the leader: leader_row */
	struct stg_row leader_row;
};

struct stg_follower_page {
	struct stg_follower rows[STG_PAGE_ROWS];
	size_t n;
	struct buf bytes;
	uint64_t next_seq; /* 0 to start */
};

int stg_catalog_next_follower(struct stg_catalog *c, struct stg_follower_page *page,
			      struct err *e) _must_check_;

/* --- big files that are not finished --- */

/*
 * The target gathers the file name in directory dir (at path) under the temporary name temp.
 * That is kept for the next run, which goes on with what it finds there, whatever the source
 * has.  Of an inode with more names (st), this one will carry it again.
 */
int stg_catalog_put_partial(struct stg_catalog *c, uint64_t dir, struct bytes path,
			    struct bytes name, const struct stg_stat *st, struct bytes temp,
			    struct err *e) _must_check_;
/* 1 and *ret (TP_TEMP_MAX + 1 bytes), or 0: there is none. */
int stg_catalog_get_partial(struct stg_catalog *c, uint64_t dir, struct bytes name, char *ret,
			    struct err *e) _must_check_;
/* It is finished, or given up. */
int stg_catalog_drop_partial(struct stg_catalog *c, uint64_t dir, struct bytes name,
			     struct bytes temp, struct err *e) _must_check_;
/* Is temp one of them (empty: is there any)?  1, 0. */
int stg_catalog_has_partial(struct stg_catalog *c, struct bytes temp, struct err *e)
	_must_check_;
/* Forget all of them: their temporary names are as good as any left-over. */
int stg_catalog_clear_partials(struct stg_catalog *c, struct err *e) _must_check_;

/* --- the delete plan --- */

struct stg_removal {
	uint64_t seq, dir;
	bool is_dir;
	int filter; /* index of the filter node that holds in dir (stg_run_keep_filter()) */
	struct bytes path, name;
};

struct stg_removal_page {
	struct stg_removal rows[STG_PAGE_ROWS];
	size_t n;
	struct buf bytes;
	uint64_t next_seq; /* 0 to start */
};

int stg_catalog_plan_removal(struct stg_catalog *c, const struct stg_removal *m, struct err *e)
	_must_check_;
int stg_catalog_next_removal(struct stg_catalog *c, struct stg_removal_page *page,
			     struct err *e) _must_check_;
/* Drop plan, leaders and followers: a phase begins. */
int stg_catalog_clear_plan(struct stg_catalog *c, struct err *e) _must_check_;

/* --- what a verification found (catalog_findings.c) --- */

enum stg_cause {
	STG_CAUSE_TARGET, /* the target is not what was acknowledged: a defect */
	STG_CAUSE_SOURCE, /* the source has changed since: the next phase sends it */
};

/* In struct stg_finding.what, beside TP_D_* of transport/protocol.h. */
#define STG_D_EXTRA (1u << 31) /* the source has no such entry */

struct stg_finding {
	struct bytes path;   /* relative to the root */
	uint32_t what;
	enum stg_cause cause;
	struct bytes detail; /* JSON members: the values of both sides */
	uint32_t round;      /* of which verification, a number that grows */
	bool fixed;          /* found to be right in a later round */
};

/* Forget all findings; only those that are fixed. */
int stg_catalog_clear_findings(struct stg_catalog *c, bool only_fixed, struct err *e)
	_must_check_;

/* Keep f.  What was found of the path in the same round adds up, else it is replaced. */
int stg_catalog_put_finding(struct stg_catalog *c, const struct stg_finding *f, struct err *e)
	_must_check_;

/* path was looked at in this round and is right: a finding of an earlier one is fixed. */
int stg_catalog_fix_finding(struct stg_catalog *c, struct bytes path, uint32_t round,
			    struct err *e) _must_check_;

struct stg_finding_page {
	struct stg_finding rows[STG_PAGE_ROWS];
	size_t n;
	struct buf bytes;
	struct buf next; /* the last path; empty and began false to start */
	bool began;
};

/* The findings by path, a page a call; n is 0 at the end. */
int stg_catalog_next_finding(struct stg_catalog *c, struct stg_finding_page *page,
			     struct err *e) _must_check_;
void stg_finding_page_fini(struct stg_finding_page *page);

struct stg_finding_counts {
	uint64_t open, defects; /* defects: those open ones that are the target's */
	uint64_t fixed;
};
int stg_catalog_count_findings(struct stg_catalog *c, struct stg_finding_counts *ret,
			       struct err *e) _must_check_;

enum stg_distrust {
	STG_DISTRUST_META, /* its metadata */
	STG_DISTRUST_ALL,  /* it is sent again, or as a delta against what is there; a
			      directory is compared with the target, too */
};

/*
 * What the target has at path is not what the row says: the next phase is to look at it.
 * Nothing happens when there is no row.
 */
int stg_catalog_distrust(struct stg_catalog *c, struct bytes path, enum stg_distrust how,
			 struct err *e) _must_check_;

/* The row of the entry at path: 1 and *ret, or 0.  *ret_dir: the id of its directory. */
int stg_catalog_find(struct stg_catalog *c, struct bytes path, uint64_t *ret_dir,
		     struct stg_row *ret, struct err *e) _must_check_;

/* Names of inodes that have several, for the last stage of a verification. */
int stg_catalog_clear_check_links(struct stg_catalog *c, struct err *e) _must_check_;
/* same: nothing of it has changed since the row. */
int stg_catalog_put_check_link(struct stg_catalog *c, const struct stg_stat *st,
			       struct bytes path, struct bytes name, bool same, struct err *e)
	_must_check_;
/* All names of the inode that the target has acknowledged. */
int stg_catalog_add_check_links(struct stg_catalog *c, uint64_t dev, uint64_t ino,
				struct err *e) _must_check_;

struct stg_check_link {
	uint64_t ino, dev;
	struct bytes path, name;
	bool same;
	uint32_t names; /* of this inode: those kept here, or in the rows, whichever are more */
};

struct stg_check_link_page {
	struct stg_check_link rows[STG_PAGE_ROWS];
	size_t n;
	struct buf bytes;
	struct buf next_path, next_name;
	uint64_t next_ino, next_dev;
	bool began;
};

/* The names, those of one inode together, a page a call; n is 0 at the end. */
int stg_catalog_next_check_link(struct stg_catalog *c, struct stg_check_link_page *page,
				struct err *e) _must_check_;
void stg_check_link_page_fini(struct stg_check_link_page *page);
