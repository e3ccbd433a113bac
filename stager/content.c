/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "common/macro.h"
#include "stager/bigfile.h"
#include "stager/peer.h"
#include "stager/progress.h"

/*
 * The content of a regular file: whole in pieces, as a delta against what the target has, or
 * hashed only.  One file of a session is at work at a time, a step for each call.
 *
 * It is looked at before and after it was read.  When it changed meanwhile it is read again,
 * and when it will not settle it is sent as it is and recorded as not clean, so that the next
 * phase looks at its content again.
 */
#define REREAD_MAX      (64u << 20)      /* a larger file is not read again at once */
#define DELTA_PROBE_BYTES (4u << 20)     /* after so much, see whether a delta pays */

void peer_file_close(struct peer *p)
{
	struct peer_file *f = &p->file;

	if (!f->active)
		return;
	close(f->fd);
	tp_delta_free(f->delta);
	buf_fini(&f->delta_out);
	if (f->mode != FILE_HASH)
		peer_slot_free(p, &p->slots[f->slot]);
	*f = (struct peer_file){ 0 };
}

/* No holes, as far as can be told: SEEK_HOLE finds the end of the file first. */
static bool is_dense(int fd, const struct stg_stat *st)
{
	uint64_t from, to;

	if (st->bytes_on_disk >= st->size && st->size <= STG_HIDDEN_HOLE_BYTES)
		return true;
	return tp_next_data(fd, 0, st->size, &from, &to) == 0 && from == 0 && to >= st->size;
}

/* Begin to stream the file behind fd (taken over); sig: of its basis, for a delta. */
static int begin_file(struct peer *p, struct stg_job *job, struct stg_item *item, int fd,
		      const struct stg_stat *st, enum file_mode mode, struct bytes sig,
		      unsigned attempt, struct err *e)
{
	struct peer_file *f = &p->file;
	struct tp_entry m = { 0 };
	int r = 0;

	*f = (struct peer_file){
		.active = true,
		.mode = mode,
		.fd = fd,
		.attempt = attempt,
		.job = job,
		.item = item,
		.st = *st,
	};
	tp_hash_reset(p->hash);
	if (mode == FILE_HASH)
		return 0;
	r = peer_slot_new(p, SLOT_FILE, e);
	if (r < 0) {
		f->mode = FILE_HASH; /* it has no slot to give back */
		peer_file_close(p);
		return r;
	}
	f->slot = (uint16_t)r;
	if (mode == FILE_DELTA) {
		r = tp_delta_new(sig, &f->delta, e);
		if (r < 0) {
			peer_file_close(p);
			return r;
		}
	}
	r = peer_put_entry(p, TP_OPEN, mode == FILE_DELTA ? TP_F_BASIS : 0, f->slot, &m, st,
		      item->name);
	if (r < 0) {
		peer_file_close(p);
		return peer_put_failed(p, job, item, r, e);
	}
	return 0;
}

static int start_file(struct peer *p, struct stg_job *job, struct stg_item *item, int fd_in,
		      const struct stg_stat *st_in, enum file_mode mode, struct err *e)
{
	_cleanup_close_ int fd = fd_in;
	struct stg_stat st = *st_in;
	int r;

	if (mode == FILE_DATA && st.size < PEER_SMALL && is_dense(fd, &st)) {
		r = peer_send_small(p, job, item, fd, &st, e);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return begin_file(p, job, item, TAKE_FD(fd), &st, mode, bytes_of(NULL, 0), 0, e);
}

/* The content agrees with what the target is known or believed to have. */
static int send_meta(struct peer *p, struct stg_job *job, struct stg_item *item,
		     const struct stg_stat *st, const struct tp_hash_value *hash,
		     bool ask_hash, struct err *e)
{
	struct tp_entry m = { .links = 1, .hash = *hash };
	int r;

	/* Names of another inode are none of this one's, even if the target has them joined. */
	if (st->nlink > 1 && st->ino == item->old_ino && st->dev == item->old_dev) {
		r = stg_catalog_count_links(p->run->catalog, item->old_dev, item->old_ino,
					    &m.links, e);
		if (r < 0)
			return r;
		m.links = MAX(m.links, 1u);
	}
	r = peer_put_entry(p, TP_META, ask_hash ? TP_F_HASH : 0, 0, &m, st, item->name);
	if (r < 0)
		return peer_put_failed(p, job, item, r, e);
	if (p->run->progress)
		stg_progress_add_bytes(p->run->progress, st->size);
	r = peer_fly_row(p, job, item, st, false, hash, e);
	if (r == 0)
		peer_last_flight(p)->by_hash = true;
	return r;
}

/*
 * The file has been read to its end.  If it changed under our hands: read it again, or send
 * it as it was.  *ret_live says which.  1: go on; 0: it was begun anew, or given up.
 */
static int settle_file(struct peer *p, uint64_t size, bool *ret_live, struct err *e)
{
	struct peer_file *f = &p->file;
	struct stg_stat after;
	unsigned attempt = f->attempt + 1;
	struct stg_job *job = f->job;
	struct stg_item *item = f->item;
	int fd, r;

	r = peer_restat(f->fd, "", AT_EMPTY_PATH, &after);
	if (r < 0 || (stg_stat_same(&f->st, &after) && size == f->st.size)) {
		*ret_live = r < 0;
		return 1;
	}
	if (attempt > PEER_ATTEMPTS || (after.size > REREAD_MAX && item->op != STG_OP_CHECK)) {
		*ret_live = true;
		return 1;
	}
	if (f->mode != FILE_HASH && tp_frame_put(&p->out, TP_DROP, 0, f->slot,
						 bytes_of(NULL, 0)) < 0)
		return peer_no_memory(e);
	fd = dup(f->fd);
	if (fd < 0)
		return err_sys(e, "send: dup");
	/* A delta is given up: what its signature was for may be gone by now. */
	r = f->mode == FILE_HASH ? FILE_HASH : FILE_DATA;
	peer_file_close(p);
	return begin_file(p, job, item, fd, &after, (enum file_mode)r, bytes_of(NULL, 0),
			  attempt, e);
}

/* Read to the end only to know the content: metadata will do, or the content must go. */
static int end_hash(struct peer *p, uint64_t size, struct err *e)
{
	struct peer_file *f = &p->file;
	struct stg_job *job = f->job;
	struct stg_item *item = f->item;
	struct stg_stat st = f->st;
	struct tp_hash_value hash;
	bool live = false;
	int r = settle_file(p, size, &live, e);

	if (r <= 0)
		return r;
	tp_hash_final(p->hash, size, &hash);
	if (item->op == STG_OP_CHECK) {
		_cleanup_close_ int fd = dup(f->fd);

		peer_file_close(p);
		return peer_check_hashed(p, job, item, fd, &st, &hash, live, e);
	}
	peer_file_close(p);
	if (live || (item->op == STG_OP_TOUCH &&
		     memcmp(&hash, &item->old_hash, sizeof(hash)) != 0))
		return peer_item_again(p, job, item, STG_OP_UPDATE, e);
	return send_meta(p, job, item, &st, &hash, item->op == STG_OP_VERIFY, e);
}

/* After a delta the target's file has no holes yet: name them. */
static int put_holes(struct peer *p, uint64_t size, struct err *e)
{
	struct peer_file *f = &p->file;
	uint64_t at = 0, from, to;

	if (f->mode != FILE_DELTA || is_dense(f->fd, &f->st))
		return 0;
	while (at < size) {
		if (tp_next_data(f->fd, at, size, &from, &to) < 0)
			return 0;
		if (from > at && tp_put_hole(&p->out, f->slot, at, from - at) < 0)
			return peer_no_memory(e);
		at = to;
	}
	return 0;
}

static int end_file(struct peer *p, uint64_t size, struct err *e)
{
	struct peer_file *f = &p->file;
	struct stg_job *job = f->job;
	struct stg_item *item = f->item;
	struct stg_stat st = f->st;
	struct tp_hash_value hash;
	bool live = false;
	int r;

	if (f->mode == FILE_HASH)
		return end_hash(p, size, e);
	r = settle_file(p, size, &live, e);
	if (r <= 0)
		return r;
	r = put_holes(p, size, e);
	if (r < 0)
		return r;
	tp_hash_final(p->hash, size, &hash);
	if (tp_put_close(&p->out, f->slot, size, &hash) < 0)
		return peer_no_memory(e);
	if (f->delta) {
		uint64_t literal, matched;

		tp_delta_stats(f->delta, &literal, &matched);
		peer_count_sent(p, item, literal, matched);
	}
	if (live)
		peer_note_changed(p, item);
	peer_file_close(p);
	st.size = size;
	return peer_fly_row(p, job, item, &st, live, &hash, e);
}

/* Move delta bytes into frames. */
static int put_delta(struct peer *p, struct err *e)
{
	struct peer_file *f = &p->file;

	while (buf_len(&f->delta_out)) {
		struct bytes b = buf_view(&f->delta_out);

		b.n = MIN(b.n, (size_t)TP_DATA_MAX);
		if (tp_frame_put(&p->out, TP_DELTA, 0, f->slot, b) < 0)
			return peer_no_memory(e);
		buf_consume(&f->delta_out, b.n);
	}
	return 0;
}

static int give_up_file(struct peer *p, const char *operation, int code, struct err *e)
{
	struct peer_file *f = &p->file;
	struct stg_job *job = f->job;
	struct stg_item *item = f->item;
	int r = 0;

	if (f->mode != FILE_HASH)
		r = tp_frame_put(&p->out, TP_DROP, 0, f->slot, bytes_of(NULL, 0));
	peer_file_close(p);
	peer_source_error(p, job, item, operation, code);
	return r < 0 ? peer_no_memory(e) : 0;
}

/*
 * librsync looks at every offset of content that it cannot match, and is several times slower
 * there than the line: when most of a file turns out to be new, sending it is sooner done.
 */
static bool is_hopeless(const struct peer_file *f)
{
	uint64_t literal, matched;

	tp_delta_stats(f->delta, &literal, &matched);
	return literal + matched >= DELTA_PROBE_BYTES && literal > matched &&
	       f->st.size > 2 * DELTA_PROBE_BYTES;
}

/* Forget what was sent of the open file, and send it whole from its start. */
static int restart_whole(struct peer *p, struct err *e)
{
	struct peer_file *f = &p->file;
	struct stg_job *job = f->job;
	struct stg_item *item = f->item;
	struct stg_stat st = f->st;
	unsigned attempt = f->attempt;
	int fd = dup(f->fd);

	if (fd < 0)
		return err_sys(e, "send: dup");
	if (tp_frame_put(&p->out, TP_DROP, 0, f->slot, bytes_of(NULL, 0)) < 0) {
		close(fd);
		return peer_no_memory(e);
	}
	peer_file_close(p);
	return begin_file(p, job, item, fd, &st, FILE_DATA, bytes_of(NULL, 0), attempt, e);
}

/* The next piece of the open file. */
int peer_step_file(struct peer *p, struct err *e)
{
	struct peer_file *f = &p->file;
	uint64_t off = f->off;
	ssize_t n = 0;
	int r = 0;

	if (f->mode == FILE_DELTA)
		f->run_end = f->st.size; /* the delta is of holes, too */
	else if (off >= f->run_end)
		r = tp_next_data(f->fd, off, f->st.size, &off, &f->run_end);
	if (r < 0)
		return give_up_file(p, "seek", r, e);
	if (off < f->run_end)
		n = io_pread_full(f->fd, p->scratch,
				  MIN(f->run_end - off, (uint64_t)PEER_SCRATCH), off);
	if (n < 0)
		return give_up_file(p, "read", (int)n, e);
	tp_hash_update(p->hash, off, p->scratch, (size_t)n);
	if (f->mode == FILE_DATA && n) {
		if (tp_put_data(&p->out, f->slot, off, bytes_of(p->scratch, (size_t)n)) < 0)
			return peer_no_memory(e);
		peer_count_sent(p, f->item, (uint64_t)n, 0);
	} else if (f->mode == FILE_DELTA) {
		r = tp_delta_step(f->delta, bytes_of(p->scratch, (size_t)n), n == 0,
				  &f->delta_out, e);
		if (r == 0)
			r = put_delta(p, e);
		if (r < 0)
			return r;
	}
	if (f->mode == FILE_DELTA && is_hopeless(f))
		return restart_whole(p, e);
	if (f->mode != FILE_HASH && p->run->progress)
		stg_progress_add_bytes(p->run->progress, (uint64_t)n);
	f->off = off + (uint64_t)n;
	/* A delta ends with a step that has no input; so does a file that was cut short. */
	if (n == 0 || (f->mode != FILE_DELTA && f->off >= f->st.size))
		return end_file(p, f->off, e);
	return 0;
}

/* --- deltas --- */

static bool wants_delta(const struct peer *p, const struct stg_item *item,
			const struct stg_stat *st)
{
	/* Of a file that is mostly holes, the data alone is sent sooner than all is matched. */
	return item->op == STG_OP_UPDATE && !item->whole && st->size >= PEER_DELTA_MIN &&
	       st->bytes_on_disk >= st->size / 2 && p->sig_bytes < PEER_SIG_BYTES &&
	       peer_free_slots(p) > PEER_SLOTS / 2;
}

static int ask_signature(struct peer *p, struct stg_job *job, struct stg_item *item,
			 const struct stg_stat *st, struct err *e)
{
	struct tp_sigreq m = { .name = item->name };
	int at = peer_slot_new(p, SLOT_SIG, e);
	struct slot *s;

	if (at < 0)
		return at;
	s = &p->slots[at];
	s->job = job;
	s->item = item;
	tp_sig_sizes(st->size, &m.block_bytes, &m.strong_bytes);
	s->expect = (size_t)(st->size / m.block_bytes + 1) * (4 + m.strong_bytes);
	p->sig_bytes += s->expect;
	return tp_put_sigreq(&p->out, (uint16_t)at, &m) < 0 ? peer_no_memory(e) : 0;
}

/*
 * Open the item's file and read its attributes into p->xattrs.  A descriptor, or -1: the item
 * is dealt with, it vanished or cannot be read.
 */
static int open_item(struct peer *p, struct stg_job *job, struct stg_item *item,
		     struct stg_stat *ret, struct err *e)
{
	int fd = peer_open_source(p, item->path, item->name, ret);
	int r;

	if (fd < 0) {
		peer_source_error(p, job, item, "open", fd);
		return -1;
	}
	r = tp_xattrs_read(fd, NULL, &p->xattrs, e);
	if (r < 0) {
		close(fd);
		peer_source_error(p, job, item, "read xattrs of", r);
		return -1;
	}
	return fd;
}

int peer_hash_item(struct peer *p, struct stg_job *job, struct stg_item *item, int fd,
		   const struct stg_stat *st, struct err *e)
{
	return begin_file(p, job, item, fd, st, FILE_HASH, bytes_of(NULL, 0), 0, e);
}

int peer_begin_delta(struct peer *p, struct slot *s, struct err *e)
{
	_cleanup_(buf_fini) struct buf sig = TAKE_BUF(s->data);
	struct stg_job *job = s->job;
	struct stg_item *item = s->item;
	struct stg_stat st;
	int fd, r;

	peer_slot_free(p, s);
	r = peer_enter(p, item->path, true, e);
	if (r < 0)
		return r;
	fd = open_item(p, job, item, &st, e);
	if (fd < 0)
		return 0;
	if (!buf_len(&sig))
		return start_file(p, job, item, fd, &st, FILE_DATA, e);
	r = begin_file(p, job, item, fd, &st, FILE_DELTA, buf_view(&sig), 0, e);
	/* A damaged signature: the receiver is not to be trusted with this one. */
	return r == -ERR_PROTOCOL ? peer_item_again(p, job, item, STG_OP_SEND, e) : r;
}

int peer_send_regular(struct peer *p, struct stg_job *job, struct stg_item *item,
		      struct err *e)
{
	struct stg_stat st;
	int fd = open_item(p, job, item, &st, e);

	if (fd < 0)
		return 0;
	if (item->op == STG_OP_TOUCH || item->op == STG_OP_VERIFY)
		return start_file(p, job, item, fd, &st, FILE_HASH, e);
	if (stg_bigfile_fits(&st))
		return peer_begin_big(p, job, item, fd, &st, e);
	if (wants_delta(p, item, &st)) {
		close(fd);
		return ask_signature(p, job, item, &st, e);
	}
	return start_file(p, job, item, fd, &st, FILE_DATA, e);
}
