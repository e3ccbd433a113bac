/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/spool.h - reports on their way to the control plane, on disk until they have arrived.
 *
 * One file a report below STATE_DIR/spool, named by a number that grows, so names in order are
 * reports in order.  A file is whole and on disk before put returns, and it goes only when
 * the caller says that it has arrived: whoever is killed, and whenever, loses none.  (One that is
 * killed between an answer and agt_spool_done() sends that report again.)
 *
 * Several processes may put; the one that sends holds agt_spool_lock().
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"

#define AGT_SPOOL_NAME "spool"
#define AGT_SPOOL_REJECTED "rejected" /* below the spool */
#define AGT_SPOOL_REPORT_MAX (1u << 20)

/* Zero means default. */
struct agt_spool_opts {
	size_t max_count; /* reports; 10,000: a day of progress, one every 10 s */
	size_t max_bytes; /* of all of them; 64 MiB */
	size_t max_rejected; /* the newest ones are kept; 100 */
};

struct agt_spool; /* lives from agt_spool_open() to agt_spool_close() */

struct agt_spool_item {
	uint64_t seq;
	bool stale; /* a later one of the kind says all that it does: progress */
	size_t bytes;
};

struct agt_spool_stats {
	size_t count, bytes, rejected;
};

/* Made when it is missing; what a killed writer left unfinished is removed. */
int agt_spool_open(const char *state_dir, const struct agt_spool_opts *opts,
		   struct agt_spool **ret, struct err *e) _must_check_;
void agt_spool_close(struct agt_spool *s); /* NULL is fine; unlocks */

static inline void agt_spool_closep(struct agt_spool **s)
{
	agt_spool_close(*s);
}

/*
 * Append a report.  When the spool is full its oldest reports that may go stale make room; all
 * others stay, whatever there are.  So a report that may go stale can itself be dropped, when
 * nothing but others is there: that returns 0, too.
 */
int agt_spool_put(struct agt_spool *s, struct bytes content, bool may_go_stale, struct err *e)
	_must_check_;

/* All reports, the oldest first; *ret is the caller's to free(), NULL when there are none. */
int agt_spool_list(struct agt_spool *s, struct agt_spool_item **ret, size_t *ret_n,
		   struct err *e) _must_check_;

/* Append its content.  -ENOENT: it is gone, made room. */
int agt_spool_read(struct agt_spool *s, const struct agt_spool_item *item, struct buf *out,
		   struct err *e) _must_check_;

/* It has arrived. */
int agt_spool_done(struct agt_spool *s, const struct agt_spool_item *item, struct err *e)
	_must_check_;

/* It never will: set it aside, for a person to look at. */
int agt_spool_reject(struct agt_spool *s, const struct agt_spool_item *item, struct err *e)
	_must_check_;

int agt_spool_stats(struct agt_spool *s, struct agt_spool_stats *ret, struct err *e)
	_must_check_;

/* Become the one that sends; -ERR_LOCKED: another process is. */
int agt_spool_lock(struct agt_spool *s, struct err *e) _must_check_;
