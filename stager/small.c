/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/io.h"
#include "stager/peer.h"
#include "stager/progress.h"

/*
 * Files that go in one frame.  Where there are many of them, what each costs in system calls
 * is what the source is busy with, so there are two roads: most files are as the scan has
 * seen them and stay so, and need no more looks than the one after they were read.
 */

/* n bytes in p->scratch are what the file has. */
static int put_small(struct peer *p, struct stg_job *job, struct stg_item *item,
		     struct stg_stat *st, size_t n, bool live, struct err *e)
{
	struct tp_entry m = { .content = bytes_of(p->scratch, n) };
	struct tp_hash_value hash;
	int r;

	st->size = n;
	tp_hash_content(p->hash, p->scratch, n, &hash);
	r = peer_put_entry(p, n || item->defect ? TP_FILE : TP_ENTRY, 0, 0, &m, st, item->name);
	if (r < 0)
		return peer_put_failed(p, job, item, r, e);
	peer_count_sent(p, item, n, 0);
	if (p->run->progress)
		stg_progress_add_bytes(p->run->progress, n);
	return peer_fly_row(p, job, item, st, live, &hash, e);
}

int peer_send_small(struct peer *p, struct stg_job *job, struct stg_item *item, int fd,
		    struct stg_stat *st, struct err *e)
{
	bool live = false;
	ssize_t n;
	int r;

	for (unsigned attempt = 0;; attempt++) {
		struct stg_stat after;

		n = io_pread_full(fd, p->scratch, PEER_SCRATCH, 0);
		if (n < 0) {
			peer_source_error(p, job, item, "read", (int)n);
			return 1;
		}
		r = peer_restat(fd, "", AT_EMPTY_PATH, &after);
		if (r < 0) {
			peer_source_error(p, job, item, "stat", r);
			return 1;
		}
		if (n == PEER_SCRATCH)
			return 0;
		live = !stg_stat_same(st, &after) || (uint64_t)n != after.size;
		*st = after;
		if (!live || attempt == PEER_ATTEMPTS)
			break;
	}
	if (live)
		peer_note_changed(p, item);
	r = put_small(p, job, item, st, (size_t)n, live, e);
	return r < 0 ? r : 1;
}

/* Is it such that nothing but its content and attributes has to be asked for? */
static bool fits(const struct stg_item *item)
{
	const struct stg_stat *st = &item->st;
	uint64_t below = item->op == STG_OP_SEND   ? STG_HIDDEN_HOLE_BYTES :
			 item->op == STG_OP_UPDATE ? PEER_DELTA_MIN :
						     0;

	return stg_is_reg(st) && st->nlink == 1 && st->size < below &&
	       st->bytes_on_disk >= st->size;
}

/*
 * Attributes into p->xattrs, content into p->scratch.  True: it was all the time what the scan
 * has seen: its ctime tells, as far as the sync point allows (entry.h).
 */
static bool read_settled(struct peer *p, const struct stg_item *item, int fd,
			 struct stg_stat *ret)
{
	struct err ignored = { 0 };
	ssize_t n;

	if (tp_xattrs_read(fd, NULL, &p->xattrs, &ignored) < 0)
		return false;
	/* With room for more, so that its end is seen without another call. */
	n = pread(fd, p->scratch, PEER_SMALL, 0);
	return n >= 0 && (uint64_t)n == item->st.size &&
	       peer_restat(fd, "", AT_EMPTY_PATH, ret) == 0 && stg_stat_same(ret, &item->st) &&
	       ret->dev == item->st.dev && ret->nlink == 1;
}

int peer_send_settled(struct peer *p, struct stg_job *job, struct stg_item *item, struct err *e)
{
	_cleanup_close_ int fd = -1;
	struct stg_stat st;
	int r;

	if (!fits(item))
		return 0;
	fd = peer_open_unseen(p, item->path, item->name);
	if (fd < 0 || !read_settled(p, item, fd, &st))
		return 0;
	r = peer_enter(p, item->path, true, e);
	if (r == 0)
		r = put_small(p, job, item, &st, (size_t)st.size, false, e);
	return r < 0 ? r : 1;
}
