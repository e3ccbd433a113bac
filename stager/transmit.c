/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/io.h"
#include "common/log.h"
#include "common/text.h"
#include "stager/inuse.h"
#include "stager/hot.h"
#include "stager/peer.h"
#include "stager/progress.h"

/*
 * Items become frames here, a little at a time: the loop in sender.c calls peer_generate()
 * while there is room for output, so that answers are read in between.  A small file is one
 * frame (small.c); a larger one, or one with holes, is opened, streamed in pieces and closed
 * (content.c), or shared with other sessions (segment.c).
 */

int peer_no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "send: out of memory");
}

void peer_count_sent(struct peer *p, const struct stg_item *item, uint64_t literal,
		     uint64_t matched)
{
	atomic_fetch_add_explicit(&p->run->count.literal, literal, memory_order_relaxed);
	if (matched)
		atomic_fetch_add_explicit(&p->run->count.matched, matched, memory_order_relaxed);
	stg_hot_add(p->run->hot, item->path, item->name,
		    (struct stg_hot_count){ .literal = literal, .matched = matched });
}

/* --- slots, flights, directories --- */

int peer_slot_new(struct peer *p, enum slot_kind kind, struct err *e)
{
	for (int i = 0; i < PEER_SLOTS; i++) {
		if (p->slots[i].kind != SLOT_FREE)
			continue;
		p->slots[i].kind = kind;
		return i;
	}
	return err_set(e, -EBUSY, "send: no free slot");
}

void peer_slot_free(struct peer *p, struct slot *s)
{
	p->sig_bytes -= s->expect;
	buf_fini(&s->data);
	stg_removing_free(s->removing);
	*s = (struct slot){ .kind = SLOT_FREE };
}

size_t peer_free_slots(const struct peer *p)
{
	size_t n = 0;

	for (size_t i = 0; i < PEER_SLOTS; i++)
		n += p->slots[i].kind == SLOT_FREE;
	return n;
}

int peer_add_flight(struct peer *p, const struct flight *f, struct err *e)
{
	size_t n = (size_t)(p->sent - p->acked);

	if (n == p->flights_cap) {
		size_t cap = p->flights_cap ? p->flights_cap * 2 : 1024;
		struct flight *v = reallocarray(NULL, cap, sizeof(*v));

		if (!v)
			return peer_no_memory(e);
		for (size_t i = 0; i < n; i++)
			v[i] = p->flights[(p->flights_at + i) % p->flights_cap];
		free(p->flights);
		p->flights = v;
		p->flights_cap = cap;
		p->flights_at = 0;
	}
	p->flights[(p->flights_at + n) % p->flights_cap] = *f;
	p->sent++;
	return 0;
}

/* The completion that was counted last. */
struct flight *peer_last_flight(struct peer *p)
{
	return &p->flights[(p->flights_at + (size_t)(p->sent - p->acked) - 1) % p->flights_cap];
}

int peer_enter(struct peer *p, struct bytes path, bool create, struct err *e)
{
	unsigned moved = atomic_load_explicit(&p->run->moved, memory_order_relaxed);
	unsigned pass = atomic_load_explicit(&p->run->pass, memory_order_relaxed);
	bool afresh = moved != p->moved;

	/* Its metadata, which came at the end of the last pass, tells how files are born in it. */
	if (p->dir_known && (p->dir_made || !create) && !afresh && p->dir_pass == pass &&
	    bytes_eq(buf_view(&p->dir_path), path))
		return 0;
	p->moved = moved;
	p->dir_pass = pass;
	buf_clear(&p->dir_path);
	if (buf_put_bytes(&p->dir_path, path) < 0 ||
	    tp_put_path(&p->out, TP_DIR, (create ? TP_F_CREATE : 0) | (afresh ? TP_F_AFRESH : 0),
			0, path) < 0)
		return peer_no_memory(e);
	/* Without CREATE it may be missing: a frame that needs it must say so again. */
	p->dir_known = true;
	p->dir_made = create;
	return 0;
}

/* The source directory at path, held from item to item.  A descriptor or -errno. */
static int source_dir(struct peer *p, struct bytes path)
{
	int fd;

	unsigned pass = atomic_load_explicit(&p->run->pass, memory_order_relaxed);

	/* What is held from an earlier pass may have been replaced since. */
	if (p->source_fd >= 0 && p->source_pass == pass &&
	    bytes_eq(buf_view(&p->source_path), path))
		return p->source_fd;
	fd = io_open_dir_below(p->run->source_fd, path, O_RDONLY);
	if (fd < 0)
		return fd;
	if (p->source_fd >= 0)
		close(p->source_fd);
	p->source_fd = fd;
	p->source_pass = pass;
	buf_clear(&p->source_path);
	return buf_put_bytes(&p->source_path, path) < 0 ? -ENOMEM : fd;
}

int peer_restat(int dirfd, const char *name, int flags, struct stg_stat *ret)
{
	struct statx stx;

	if (statx(dirfd, name, flags | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		  STATX_BASIC_STATS, &stx) < 0)
		return -errno;
	stg_stat_from_statx(&stx, ret);
	return 0;
}

/* --- rows and flights of items --- */

static void make_row(const struct peer *p, const struct stg_stat *st, bool live,
		     const struct tp_hash_value *hash, struct stg_row *ret)
{
	*ret = (struct stg_row){ .st = *st, .phase = p->run->phase.id };
	if (!live && stg_run_settled(p->run, st) &&
	    !stg_inuse_has(p->run->inuse, st->dev, st->ino))
		ret->state |= STG_ROW_CLEAN;
	if (hash) {
		ret->state |= STG_ROW_HASHED;
		ret->hash = *hash;
	}
}

/* Into the report, as a file that may not be what it will be. */
void peer_note_live(struct peer *p, const struct stg_item *item, const char *operation,
		    const char *text)
{
	struct stg_report_item note = { .operation = operation, .message = text };

	atomic_fetch_add(&p->run->count.live, 1);
	if (stg_path_join(&p->path, item->path, item->name) == 0)
		note.path = buf_view(&p->path);
	if (p->run->report)
		stg_report_add_live_file(p->run->report, &note);
}

static void note_open(struct peer *p, const struct stg_item *item, const struct stg_stat *st)
{
	char text[TEXT_NAME_MAX];

	if (!p->run->tell_open || !stg_inuse_tell(p->run->inuse, st->dev, st->ino))
		return;
	peer_note_live(p, item, "open for writing",
		       "open for writing in some process; sent as it was");
	log_error("%s is still open for writing: what is written to it from now on is not sent",
		  text_name(text, buf_view(&p->path)));
}

int peer_fly_row(struct peer *p, struct stg_job *job, struct stg_item *item,
		 const struct stg_stat *st, bool live, const struct tp_hash_value *hash,
		 struct err *e)
{
	struct flight f = { .kind = FLIGHT_ROW, .job = job, .item = item };

	make_row(p, st, live, hash, &f.row);
	note_open(p, item, st);
	return peer_add_flight(p, &f, e);
}

/* The source does not have it any more.  What the target has is the next phase's business. */
static void vanished(struct peer *p, struct stg_job *job, struct stg_item *item)
{
	char text[TEXT_NAME_MAX];

	atomic_fetch_add(&p->run->count.vanished, 1);
	log_info("%s vanished while it was being sent", text_name(text, item->name));
	peer_item_done(p, job, item);
}

void peer_source_error(struct peer *p, struct stg_job *job, struct stg_item *item,
		       const char *operation, int code)
{
	/* Or what led to it is something else by now. */
	if (code == -ENOENT || code == -ESTALE || code == -ENOTDIR || code == -ELOOP ||
	    code == -EXDEV)
		vanished(p, job, item);
	else
		peer_item_failed(p, job, item, operation, code, strerror(-code));
}

/* An entry frame of type for the item with this metadata; -E2BIG: too large to be sent. */
int peer_put_entry(struct peer *p, uint8_t type, uint8_t flags, uint16_t slot,
		   struct tp_entry *m, const struct stg_stat *st, struct bytes name)
{
	struct bytes target = m->meta.target;

	stg_stat_to_meta(st, &m->meta);
	m->meta.target = target;
	m->meta.xattrs = buf_view(&p->xattrs);
	m->name = name;
	return tp_put_entry(&p->out, type, flags, slot, m);
}

/* After peer_put_entry() failed: only this entry is lost when it was too large. */
int peer_put_failed(struct peer *p, struct stg_job *job, struct stg_item *item, int r,
		    struct err *e)
{
	if (r != -E2BIG)
		return peer_no_memory(e);
	peer_item_failed(p, job, item, "send", -E2BIG,
			 "its extended attributes are too large to be sent");
	return 0;
}

/* --- the source --- */

void peer_note_changed(struct peer *p, const struct stg_item *item)
{
	peer_note_live(p, item, "read",
		       "changed while it was read; sent as it was, due again in the next phase");
}

/* Why a regular file was not opened: -errno, or -ESTALE where there is something else now. */
static int open_failed(int dir, const char *name)
{
	int r = -errno;
	struct stat st;

	/* A link, a socket, a device that nobody drives: each has an error of its own. */
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
		return -ESTALE;
	return r == -ELOOP ? -ESTALE : r;
}

int peer_open_unseen(struct peer *p, struct bytes path, struct bytes name)
{
	char z[NAME_MAX + 1];
	int dir = source_dir(p, path), fd;

	if (dir < 0)
		return dir;
	/* O_NOATIME is for owner and root only; reading matters more than the access time. */
	fd = openat(dir, stg_name_z(z, name),
		    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOATIME);
	if (fd < 0 && errno == EPERM)
		fd = openat(dir, z, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? open_failed(dir, z) : fd;
}

int peer_open_source(struct peer *p, struct bytes path, struct bytes name,
		     struct stg_stat *ret)
{
	int fd = peer_open_unseen(p, path, name), r;

	if (fd < 0)
		return fd;
	r = peer_restat(fd, "", AT_EMPTY_PATH, ret);
	if (r == 0 && !S_ISREG(ret->mode))
		r = -ESTALE; /* it is something else now: the next phase sees what */
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

/* --- items --- */

/* Symbolic links, devices, FIFOs, sockets. */
static int send_special(struct peer *p, struct stg_job *job, struct stg_item *item,
			const struct stg_stat *st, int dir, const char *name, struct err *e)
{
	struct tp_entry m = { 0 };
	int r;

	if (S_ISLNK(st->mode)) {
		ssize_t n = readlinkat(dir, name, (char *)p->scratch, TP_TARGET_MAX);

		if (n < 0) {
			peer_source_error(p, job, item, "read link", errno == EINVAL ? -ESTALE : -errno);
			return 0;
		}
		m.meta.target = bytes_of(p->scratch, (size_t)n);
	}
	/* This thread's working directory is its own (sender.c), so no path is needed. */
	if (fchdir(dir) < 0)
		r = -errno;
	else
		r = tp_xattrs_read(-1, name, &p->xattrs, e);
	if (r < 0) {
		peer_source_error(p, job, item, "read xattrs of", r);
		return 0;
	}
	/* META parts a thing from names that are not its own, even where nothing else differs. */
	m.links = 1;
	r = peer_put_entry(p,
			   item->defect && st->nlink == 1 && !item->tries ? TP_META : TP_ENTRY,
			   0, 0, &m, st, item->name);
	if (r < 0)
		return peer_put_failed(p, job, item, r, e);
	return peer_fly_row(p, job, item, st, false, NULL, e);
}

/* 1: somebody else carries this inode, the item is done; 0: send it. */
static int defer_link(struct peer *p, struct stg_job *job, struct stg_item *item,
		      const struct stg_stat *st, struct err *e)
{
	enum stg_link_role role = STG_LINK_LEADER;
	int r = 0;

	if (st->nlink > 1)
		r = stg_catalog_claim_link(p->run->catalog, item->dir, item->path, item->name, st,
					   item->old_nlink, &role, e);
	if (r < 0)
		return r;
	if (role == STG_LINK_FOLLOWER) {
		if (p->run->progress)
			stg_progress_add_bytes(p->run->progress, st->size);
		peer_item_done(p, job, item);
		return 1;
	}
	/*
	 * It shares its inode on the target with names that it has parted from.  Most of
	 * them go in the removal stage; after it, no copy may be needed.
	 */
	if (st->nlink == 1 && item->old_nlink > 1 && item->op == STG_OP_TOUCH &&
	    !item->after_removal) {
		r = stg_run_again(p->run, item, e);
		if (r == 0)
			peer_item_done(p, job, item);
		return r < 0 ? r : 1;
	}
	return 0;
}

static int send_entry(struct peer *p, struct stg_job *job, struct stg_item *item, struct err *e)
{
	char name[NAME_MAX + 1];
	struct stg_stat st;
	int dir, r = peer_send_settled(p, job, item, e);

	if (r != 0)
		return MIN(r, 0);
	dir = source_dir(p, item->path);
	r = dir < 0 ? dir : peer_restat(dir, stg_name_z(name, item->name), 0, &st);
	if (r < 0) {
		peer_source_error(p, job, item, "stat", r);
		return 0;
	}
	if (item->op == STG_OP_CHECK)
		return peer_check_item(p, job, item, &st, dir, name, e);
	if (stg_is_dir(&st)) {
		/* It became a directory after the scan: the next phase walks it. */
		vanished(p, job, item);
		return 0;
	}
	r = defer_link(p, job, item, &st, e);
	if (r != 0)
		return r < 0 ? r : 0;
	r = peer_enter(p, item->path, true, e);
	if (r < 0)
		return r;
	if (S_ISREG(st.mode))
		return peer_send_regular(p, job, item, e);
	return send_special(p, job, item, &st, dir, name, e);
}

/* Enter the item's directory, and name what the target has already. */
static int put_names(struct peer *p, const struct stg_item *item,
		     int (*put)(struct buf *out, const struct tp_link_msg *m), struct err *e)
{
	const struct tp_link_msg m = {
		.dir = item->leader_path,
		.from = item->leader,
		.name = item->name,
	};
	int r = peer_enter(p, item->path, true, e);

	return r == 0 && put(&p->out, &m) < 0 ? peer_no_memory(e) : r;
}

static int send_link(struct peer *p, struct stg_job *job, struct stg_item *item, struct err *e)
{
	int r = put_names(p, item, tp_put_link, e);

	if (r < 0)
		return r;
	r = peer_fly_row(p, job, item, &item->st, !item->old_hashed && stg_is_reg(&item->st),
			 item->old_hashed ? &item->old_hash : NULL, e);
	if (r == 0)
		peer_last_flight(p)->by_hash = item->recheck;
	return r;
}

static int send_move(struct peer *p, struct stg_job *job, struct stg_item *item, struct err *e)
{
	const struct flight f = { .kind = FLIGHT_MOVED, .job = job, .item = item };
	int r = put_names(p, item, tp_put_move, e);

	return r < 0 ? r : peer_add_flight(p, &f, e);
}

static int send_removal(struct peer *p, struct stg_job *job, struct stg_item *item,
			struct err *e)
{
	struct flight f = { .kind = FLIGHT_REMOVED, .job = job, .item = item };
	int r;

	if (item->is_dir)
		return peer_begin_removal(p, job, item, e);
	if (!stg_run_may_delete(p->run)) {
		peer_item_done(p, job, item);
		return 0;
	}
	r = peer_enter(p, item->path, false, e);
	if (r < 0)
		return r;
	if (tp_put_remove(&p->out, 0, item->name) < 0)
		return peer_no_memory(e);
	return peer_add_flight(p, &f, e);
}

static int send_dirmeta(struct peer *p, struct stg_job *job, struct stg_item *item,
			struct err *e)
{
	struct flight f = { .kind = FLIGHT_DIR, .job = job, .item = item };
	struct tp_entry m = { 0 };
	_cleanup_close_ int fd = io_open_dir_below(p->run->source_fd, item->path, O_RDONLY);
	struct stg_stat now;
	int r = fd < 0 ? fd : peer_restat(fd, "", AT_EMPTY_PATH, &now);

	if (r == 0)
		r = tp_xattrs_read(fd, NULL, &p->xattrs, e);
	if (r == -EACCES && fd < 0) {
		/* What can be stat'ed but not opened still has its mode and times. */
		buf_clear(&p->xattrs);
		now = item->st;
		r = 0;
	}
	if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -EXDEV) {
		/* It is gone or something else by now: the next phase sees to it. */
		r = stg_catalog_drop_dirty(p->run->catalog, item->child, e);
		peer_item_done(p, job, item);
		return r;
	}
	if (r < 0) {
		peer_item_failed(p, job, item, "read xattrs of", r, strerror(-r));
		return 0;
	}
	/* An empty directory whose connection broke may not have been made. */
	r = peer_enter(p, item->path, true, e);
	if (r < 0)
		return r;
	r = peer_put_entry(p, TP_DIRMETA, 0, 0, &m, &item->st, item->path);
	if (r < 0)
		return peer_put_failed(p, job, item, r, e);
	/* Its times are those of the scan; when it changed since, the next phase looks again. */
	make_row(p, &item->st, !stg_stat_same(&now, &item->st), NULL, &f.row);
	f.row.child = item->child;
	return peer_add_flight(p, &f, e);
}

static int send_item(struct peer *p, struct stg_job *job, struct stg_item *item, struct err *e)
{
	switch (item->op) {
	case STG_OP_KEEP:
		peer_item_done(p, job, item);
		return 0;
	case STG_OP_LINK:
		return send_link(p, job, item, e);
	case STG_OP_MOVE:
		return send_move(p, job, item, e);
	case STG_OP_REMOVE:
		return send_removal(p, job, item, e);
	case STG_OP_DIRMETA:
		return send_dirmeta(p, job, item, e);
	case STG_OP_CHECKLINK:
		return peer_check_link(p, job, item, e);
	case STG_OP_ABSENT:
		return peer_check_absent(p, job, item, e);
	case STG_OP_CHECK:
		return item->name.n ? send_entry(p, job, item, e) :
				      peer_check_root(p, job, item, e);
	default:
		return send_entry(p, job, item, e);
	}
}

bool peer_wants_job(const struct peer *p)
{
	/* A comparison needs a slot; some are kept for signatures. */
	return !p->file.active && !p->seg.job && !p->ready_first && p->sent - p->acked < PEER_FLIGHTS_MAX &&
	       p->held_content <= PEER_CONTENT && peer_free_slots(p) >= PEER_SLOTS / 2;
}

/* Take a job from the queue.  1: got one; 0: none. */
static int take_job(struct peer *p, struct err *e)
{
	struct stg_job *job;
	int at;

	if (!peer_wants_job(p))
		return 0;
	job = stg_queue_pop(p->run->queue);
	if (!job)
		return 0;
	if (job->kind == STG_JOB_BIG) {
		int r = peer_take_big(p, job, e);

		return r < 0 ? r : 1;
	}
	peer_hold(p, job);
	if (job->kind == STG_JOB_ITEMS) {
		/* An empty job makes an empty directory. */
		if (!job->n) {
			int r = peer_enter(p, job->path, true, e);

			peer_item_done(p, job, NULL);
			return r < 0 ? r : 1;
		}
		peer_make_ready(p, job);
		return 1;
	}
	at = peer_slot_new(p, SLOT_COMPARE, e);
	if (at < 0)
		return at;
	p->slots[at].job = job;
	/* It is made now, so that what is below it finds it; the listing may well be empty. */
	if (!job->only_list && peer_enter(p, job->path, true, e) < 0)
		return peer_no_memory(e);
	if (tp_put_path(&p->out, TP_LIST, 0, (uint16_t)at, job->path) < 0)
		return peer_no_memory(e);
	return 1;
}

int peer_generate(struct peer *p, struct err *e)
{
	struct stg_job *job;
	int r;

	if (p->file.active || p->seg.job) {
		r = p->seg.job ? peer_step_segment(p, e) : peer_step_file(p, e);
		return r < 0 ? r : 1;
	}
	if (p->sent - p->acked >= PEER_FLIGHTS_MAX)
		return 0;
	for (size_t i = 0; i < PEER_SLOTS; i++) {
		if (p->slots[i].kind != SLOT_SIG_READY)
			continue;
		r = peer_begin_delta(p, &p->slots[i], e);
		return r < 0 ? r : 1;
	}
	job = p->ready_first;
	/* The removal of a tree needs a slot for its listing. */
	if (job && job->items[job->at].op == STG_OP_REMOVE && peer_free_slots(p) < 4)
		return 0;
	if (job) {
		struct stg_item *item = &job->items[job->at++];

		if (job->at == job->n) {
			p->ready_first = job->next;
			if (!p->ready_first)
				p->ready_last = &p->ready_first;
			job->next = NULL;
		}
		if (item->done)
			return 1;
		r = send_item(p, job, item, e);
		return r < 0 ? r : 1;
	}
	return take_job(p, e);
}
