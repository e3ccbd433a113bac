/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/job.h - units of work on their way from the scanner to the sessions.
 *
 * A job is some items of one directory (or, in the later stages of a phase, items that each
 * name their directory).  One session works on a job; what it could not finish goes back as
 * a new job.  Nothing in a job points outside of it but the filter node and the big file, which are
 * counted.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"
#include "stager/bigfile.h"
#include "stager/entry.h"

struct stg_filter_dir;

enum stg_op {
	STG_OP_KEEP,   /* the target has it: known only so that a listing can be compared */
	STG_OP_SEND,   /* send it whole */
	STG_OP_UPDATE, /* a regular file whose older version the target has: a delta may do */
	STG_OP_TOUCH,  /* a regular file of the same size: metadata, if the content is as acknowledged */
	STG_OP_VERIFY, /* the target has a regular file that looks the same: metadata, if its content is */
	STG_OP_LINK,   /* a further name of an inode that the target has */
	STG_OP_MOVE,   /* the target has it under another name */
	STG_OP_REMOVE,
	STG_OP_DIRMETA,
	/* Of a verification: */
	STG_OP_CHECK,     /* compare, change nothing; a directory too */
	STG_OP_ABSENT,    /* the source has it no more: the target should not have it */
	STG_OP_CHECKLINK, /* it should be one inode with the leader, of old_nlink names */
};

struct stg_item {
	enum stg_op op;
	uint8_t tries;      /* how often it was sent already */
	bool after_removal; /* the delete plan has been carried out */
	bool done;          /* nothing is left to do for it */
	bool whole;         /* a delta of it was of no use */
	bool has_old;       /* the catalog has a row; the old_ fields are of it.  KEEP of a
			       directory: what its rows tell is believed without a look */
	bool old_hashed;
	bool recheck;       /* nothing differs from the row, but its content may */
	bool defect;        /* a verification found it wrong on the target */
	bool ahead;         /* CHECK: the receiver has been asked before the file was read here */
	uint8_t halves;     /* if not 0: ends that make it done */
	uint32_t old_nlink;
	uint64_t old_size;  /* UPDATE: of the regular file that the target has, as far as is known */
	uint64_t old_dev, old_ino;
	struct tp_hash_value old_hash;
	uint64_t dir;       /* id of its directory */
	uint64_t child;     /* DIRMETA: the directory's own id */
	bool is_dir;        /* REMOVE */
	int filter;         /* REMOVE: index of the node that holds in its directory */
	struct bytes path;  /* of its directory; DIRMETA: its own */
	struct bytes name;
	struct stg_stat st;
	uint64_t old_dir;   /* MOVE: id of the directory that it leaves */
	struct bytes leader_path, leader; /* LINK, MOVE: the name that the target has */
};

enum stg_job_kind {
	STG_JOB_ITEMS,   /* work through the items */
	STG_JOB_COMPARE, /* first list the directory on the target and compare */
	STG_JOB_BIG,     /* do some of the work for a big file; the one item tells which */
};

struct stg_job {
	enum stg_job_kind kind;
	struct stg_job *next;
	uint64_t dir; /* COMPARE: the directory that is listed */
	struct bytes path;
	bool only_list; /* COMPARE: the directory is not made when it is missing */
	bool only_items; /* COMPARE: what else it has does not matter */
	int filter_index; /* of the node, for the delete plan */
	struct stg_filter_dir *filter;
	struct stg_bigfile *big; /* BIG: counted */
	struct stg_big_claim claim; /* the session's part of it */
	struct stg_item *items;
	size_t n, cap;
	size_t pending; /* items not done yet */
	size_t at;      /* the session's: the next item to send */
	bool compared;  /* COMPARE: the listing has come, the items are ready */
	struct stg_job *held_next, **held_prev; /* the session's list of its jobs */
	size_t cost;    /* bytes of memory, for the queue's bound */
	uint64_t content; /* bytes of the files that its items are about */
	struct buf bytes; /* names and paths; items hold offsets until stg_job_seal() */
};

/* Items that a job may have, but for COMPARE: a directory is compared as a whole. */
#define STG_JOB_ITEMS_MAX 256
/* Content in one job of many files, so that sessions share large directories. */
#define STG_JOB_CONTENT_MAX (8u << 20)

int stg_job_new(enum stg_job_kind kind, struct stg_job **ret, struct err *e) _must_check_;
void stg_job_free(struct stg_job *j); /* NULL is fine */

/* Set the directory that the job's items are in. */
int stg_job_set_dir(struct stg_job *j, uint64_t dir, struct bytes path, struct err *e)
	_must_check_;

/*
 * Append a copy of item, with its names; path NULL (p) takes the job's.  Only op, stats and
 * old fields may be changed through *ret, until the next call.
 */
int stg_job_add(struct stg_job *j, const struct stg_item *item, struct err *e) _must_check_;

/* What the catalog has of the item, whose st is set. */
void stg_item_set_old(struct stg_item *item, const struct stg_row *row);

/* No more items: make the names usable, know the sums. */
void stg_job_seal(struct stg_job *j);
