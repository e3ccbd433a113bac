/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/run.h - what the threads of one phase share: the scanner's, the sessions', and the
 * one that drives the phase (stager/phase.c).
 *
 * Lock order: any of the locks here before the catalog's and the queue's own ones; none is
 * held while waiting for the network or the disk.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"
#include "stager/catalog.h"
#include "stager/job.h"
#include "stager/queue.h"
#include "stager/report.h"
#include "transport/protocol.h"

struct stg_bwlimit;
struct stg_filter;
struct stg_filter_dir;
struct stg_hot;
struct stg_inuse;
struct stg_mounts;
struct stg_options;
struct stg_progress;
struct stg_verification;
struct tp_link;

/* How a session gets its connection: SSH in the product, a local process in tests. */
struct stg_connector {
	/*
	 * Connect, start the receiver, and send it hello; *ret is the caller's to close.  again:
	 * the session had a connection that broke.  Blocks; called by several threads at once.
	 */
	int (*connect)(struct stg_connector *self, bool again, struct bytes hello,
		       struct tp_link **ret, struct err *e);
	/* Of the run at work, NULL without one: when it is true, waiting is of no use. */
	const atomic_bool *stop;
	/* The shortest round trip so far, told before a login begins; 0: none yet. */
	atomic_int_fast64_t trip_ns;
};

/* Counters of a phase; everyone adds, the end reads. */
struct stg_counters {
	atomic_uint_fast64_t scanned, scanned_bytes, changed, deleted, skipped_by_hash;
	atomic_uint_fast64_t acked_before, literal, matched;
	atomic_uint_fast64_t raw, packed; /* bytes of frames, before and after compression */
	atomic_uint_fast64_t waits_window; /* writes that waited for the peer's window... */
	atomic_uint_fast64_t waits_line;   /* ...and for the line */
	atomic_int level_most;            /* of zstd, that a session has chosen */
	atomic_uint_fast64_t wire_out;    /* bytes that the links have taken */
	atomic_uint_fast64_t reconnects, vanished, failed, live, kept;
	atomic_uint_fast64_t acked; /* completions of any kind */
	atomic_uint_fast64_t moved; /* on the target, from another name */
	atomic_uint_fast64_t rechecked; /* looked at again, and nothing had changed */
	atomic_uint_fast64_t planned, planned_bytes, planned_removals;
	atomic_uint_fast64_t left;        /* not deleted, because of --max-delete */
	atomic_uint_fast64_t unremoved;   /* not deleted, because that failed */
	atomic_uint_fast64_t scan_errors; /* what could not be read: nothing is deleted then */
};

struct stg_run {
	/* Set before the threads start, not changed after. */
	const struct stg_options *opt;
	int source_fd;
	char *const *paths; /* --path, relative to the source root; none: all of it */
	size_t paths_n;
	struct bytes target_root;
	struct stg_catalog *catalog;
	const struct stg_filter *filter;
	const struct stg_mounts *mounts;
	struct stg_connector *connector;
	struct stg_report *report;
	struct stg_progress *progress;
	struct stg_bwlimit *bwlimit; /* NULL: none */
	struct stg_phase_row phase;
	int64_t sync_ns;   /* entries whose ctime is not older are looked at again */
	bool compare;      /* list every directory on the target */
	struct stg_inuse *inuse; /* as the pass began; NULL: not known.  Changes between passes */
	bool tell_open;    /* files in use that are sent are told of: nothing should write now */
	bool resumed;      /* what the catalog holds was acknowledged by a broken-off run */
	bool compare_new;  /* and those that the catalog lacks: other rules hid them before */
	bool delete;       /* what the source lacks goes */
	bool delete_limited;
	atomic_int_fast64_t delete_left; /* where it is limited: how many entries may go still */
	bool dry;          /* plan only: jobs are counted, no session runs */
	struct stg_verification *verify; /* items are compared, nothing is sent; NULL: they are */
	bool only_paths;   /* what leads to `paths` does not count itself */
	char *const *skip; /* paths that are left alone on both sides, and what is below them */
	size_t skip_n;
	int level;         /* zstd, see transport/stream.h */
	unsigned sessions; /* at most */
	unsigned sessions_asked; /* by the operator; 0: as many as are of use */
	atomic_uint allowed; /* sessions that may be open now */
	bool eager;        /* open them as soon as they may be */
	bool manual;       /* --resume-mode manual */
	uint64_t id;       /* of the run, for HELLO */

	struct stg_queue *queue;
	struct stg_counters count;
	struct stg_hot *hot; /* where the changes are; NULL: nobody wants to know */

	/* Sessions tell what they found here; the phase waits for it. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned ready;          /* sessions that are connected */
	unsigned most_ready;
	unsigned ended;          /* session threads that have returned */
	bool told;               /* target holds what the first READY said */
	struct {
		uint32_t flags; /* TP_R_* */
		uint8_t boot_id[16];
		uint32_t uid;
		uint64_t free_bytes, free_inodes;
	} target;
	struct err error;        /* the first that ends the phase; code 0: none */
	struct stg_job *moves;   /* what the scan found under another name; NULL: nothing */
	bool moving;             /* it looks for such; changes between passes */
	atomic_uint moved;       /* moves made: what a receiver holds open may have another path */
	atomic_bool lost;        /* a comparison missed a directory whose rows were believed */
	struct stg_job *again;   /* items for after the removals: a list of unsealed jobs */
	struct stg_filter_dir **filters; /* nodes that the delete plan needs, by index */
	size_t filters_n;

	/* Epochs, see stager/catalog.h: rows get the current one; sync is the one asked for. */
	atomic_uint_fast32_t epoch;
	atomic_uint_fast32_t sync;
	bool distrust;           /* the target was restarted: rows after `durable` do not count */
	uint32_t durable;

	/*
	 * What is immutable or append-only is unlocked for the moment of a change near it.  A
	 * receiver that was killed in that moment left it so, whatever its row says.
	 */
	bool distrust_locked;
	atomic_bool locked; /* the scan has seen such an entry */

	atomic_uint big_serial; /* for the temporary names of big files */
	atomic_uint pass;     /* counts the passes of the phase */
	atomic_bool scanning;
	bool expect_data;     /* the target has acknowledged entries: it cannot be empty */
	atomic_bool stopping; /* it has failed: the queue is stopped, or is about to be */
	atomic_bool admitted; /* the first session has the target's root for this run */
};

/* End the phase with this error (the first one counts) and wake everybody up. */
void stg_run_fail(struct stg_run *run, const struct err *e);
bool stg_run_failed(struct stg_run *run);

/* An entry could not be sent, or only in part: into the report, and exit 23 in the end. */
void stg_run_entry_error(struct stg_run *run, struct bytes dir, struct bytes name,
			 const char *operation, int code, const char *message);

/* item is to be sent after the removals. */
int stg_run_again(struct stg_run *run, const struct stg_item *item, struct err *e)
	_must_check_;

/*
 * Plan to move place (on the target) to item's name; item's entry has to be left alone until
 * then.  1: planned; 0: there are too many already.
 */
struct stg_place;
int stg_run_plan_move(struct stg_run *run, const struct stg_item *item,
		      const struct stg_place *place, struct err *e) _must_check_;

/* Forget what stg_run_again() was told. */
void stg_run_drop_again(struct stg_run *run);

/* An entry will have to be sent: into the totals of plan and progress. */
void stg_run_add_total(struct stg_run *run, const struct stg_stat *st);

/* Plan the removal of name in directory dir (at path); filter: the index of its node. */
int stg_run_plan_removal(struct stg_run *run, uint64_t dir, struct bytes path,
			 struct bytes name, bool is_dir, int filter, struct err *e)
	_must_check_;

/*
 * May one more entry be deleted?  What is not is counted as left.  One whose removal had to be
 * sent again after a break counts twice, so the limit holds whatever the target had done.
 */
bool stg_run_may_delete(struct stg_run *run);

/* Keep a reference to node for the delete plan; its index, or negative. */
int stg_run_keep_filter(struct stg_run *run, struct stg_filter_dir *node, struct err *e)
	_must_check_;

/* path is one of run->skip, or lies below one. */
bool stg_run_skips(const struct stg_run *run, struct bytes path);

/* inner is outer or lies below it. */
bool stg_path_below(struct bytes inner, struct bytes outer);

/* dir/name, appended to out (cleared first): a path relative to the root. */
int stg_path_join(struct buf *out, struct bytes dir, struct bytes name) _must_check_;

/* A row of this run may be marked clean: its ctime is older than the sync point. */
static inline bool stg_run_settled(const struct stg_run *run, const struct stg_stat *st)
{
	return st->ctime_s * 1000000000LL + st->ctime_ns < run->sync_ns;
}
