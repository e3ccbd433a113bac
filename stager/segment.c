/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>

#include "common/io.h"
#include "common/macro.h"
#include "stager/bigfile.h"
#include "stager/peer.h"
#include "stager/progress.h"
#include "transport/blocks.h"

/*
 * A session's part in the sending of big files.  It takes a BIG job from the queue, claims a
 * segment and sends that; the job is its own until the segment is acknowledged.  It does not
 * wait for that: the next claim follows at once.
 */

/* --- jobs and claims --- */

static int push_job(struct peer *p, struct stg_bigfile *b, struct err *e)
{
	struct stg_job *job;
	int r = stg_bigfile_job(b, &job, e);

	if (r == 0)
		stg_queue_push_urgent(p->run->queue, job);
	return r;
}

static int drop_partial(struct peer *p, const struct stg_job *job, struct err *e)
{
	const struct stg_item *item = &job->items[0];

	return stg_catalog_drop_partial(p->run->catalog, item->dir, item->name,
					bytes_str(stg_bigfile_temp(job->big)), e);
}

/*
 * Nothing is left to do for the claim of this job.  When the file was given up and nobody
 * else is at it, what the target has of it goes.
 */
static int settle_claim(struct peer *p, struct stg_job *job, struct err *e)
{
	static const struct flight gone = { .kind = FLIGHT_TEMP };
	struct stg_bigfile *b = job->big;
	int r;

	if (!stg_bigfile_release(b))
		return 0;
	r = peer_enter(p, job->items[0].path, false, e);
	if (r < 0)
		return r;
	if (tp_put_remove(&p->out, 0, bytes_str(stg_bigfile_temp(b))) < 0)
		return peer_no_memory(e);
	return peer_add_flight(p, &gone, e);
}

static int end_job(struct peer *p, struct stg_job *job, struct err *e)
{
	int r = settle_claim(p, job, e);

	peer_item_done(p, job, &job->items[0]);
	return r;
}

/* Nobody shall go on with the file.  1: this was the first to say so; 0; or negative. */
static int kill_file(struct peer *p, struct stg_job *job, struct err *e)
{
	bool first = stg_bigfile_kill(job->big);
	int r = first ? drop_partial(p, job, e) : 0;

	if (r == 0)
		r = settle_claim(p, job, e);
	return r < 0 ? r : first;
}

/* The source cannot be read: the file is given up, once. */
static int give_up(struct peer *p, struct stg_job *job, const char *operation, int code,
		   struct err *e)
{
	int r = kill_file(p, job, e);

	if (r > 0)
		peer_source_error(p, job, &job->items[0], operation, code);
	else
		peer_item_done(p, job, &job->items[0]);
	return MIN(r, 0);
}

/* Go on with what an earlier run has left, or begin under a new name. */
int peer_begin_big(struct peer *p, struct stg_job *job, struct stg_item *item, int fd,
		   const struct stg_stat *st, struct err *e)
{
	struct stg_bigfile *b = NULL;
	char temp[TP_TEMP_MAX + 1];
	int resume = stg_catalog_get_partial(p->run->catalog, item->dir, item->name, temp, e);
	int r = MIN(resume, 0);

	if (resume == 0) {
		stg_bigfile_name(p->run->id, atomic_fetch_add(&p->run->big_serial, 1), temp);
		r = stg_catalog_put_partial(p->run->catalog, item->dir, item->path, item->name,
					    st, bytes_str(temp), e);
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	r = stg_bigfile_new(fd, item, st, temp, resume > 0, &b, e);
	if (r == 0)
		r = push_job(p, b, e);
	stg_bigfile_unref(b);
	if (r == 0)
		peer_item_done(p, job, item);
	return r;
}

/* --- segments --- */

/* What the segment is matched against. */
static const struct tp_sums *sums_of(const struct stg_job *job)
{
	return job->claim.whole ? NULL : stg_bigfile_sums(job->big);
}

static int begin_sending(struct peer *p, struct stg_job *job, struct err *e)
{
	const struct stg_big_claim *c = &job->claim;
	struct tp_range m = {
		.size = c->size,
		.off = c->off,
		.bytes = c->bytes,
		.name = bytes_str(stg_bigfile_temp(job->big)),
		.basis = job->items[0].name,
	};
	uint8_t flags = (c->create ? TP_F_CREATE : 0) | (sums_of(job) ? TP_F_COPIES : 0);
	int at, r = peer_enter(p, job->items[0].path, true, e);

	if (r < 0)
		return r;
	at = peer_slot_new(p, SLOT_FILE, e);
	if (at < 0)
		return at;
	if (tp_put_segment(&p->out, flags, (uint16_t)at, &m) < 0)
		return peer_no_memory(e);
	p->seg = (struct peer_segment){
		.job = job,
		.slot = (uint16_t)at,
		.off = c->off,
		.end = c->off + c->bytes,
	};
	tp_hash_reset(p->hash);
	return 0;
}

static void begin_checking(struct peer *p, struct stg_job *job)
{
	p->seg = (struct peer_segment){
		.job = job,
		.check = true,
		.off = job->claim.off,
		.end = job->claim.off + job->claim.bytes,
	};
	tp_hash_reset(p->hash);
}

void peer_segment_close(struct peer *p)
{
	if (p->seg.job && !p->seg.check)
		peer_slot_free(p, &p->slots[p->seg.slot]);
	tp_match_free(p->seg.match);
	p->seg = (struct peer_segment){ 0 };
}

/* A segment is done; after the last one somebody has to finish the file. */
static int segment_done(struct peer *p, struct stg_job *job, const struct tp_hash_value *hash,
			struct err *e)
{
	int r = stg_bigfile_done(job->big, &job->claim, hash) ? push_job(p, job->big, e) : 0;

	return r < 0 ? r : end_job(p, job, e);
}

static int end_segment(struct peer *p, struct err *e)
{
	struct flight f = { .kind = FLIGHT_SEGMENT, .job = p->seg.job,
			    .item = &p->seg.job->items[0] };
	struct stg_job *job = p->seg.job;
	bool check = p->seg.check;
	uint16_t slot = p->seg.slot;

	tp_hash_final(p->hash, job->claim.bytes, &f.row.hash);
	peer_segment_close(p);
	if (check && tp_hash_eq(&f.row.hash, &job->claim.hash)) {
		if (job->claim.resumed) {
			atomic_fetch_add_explicit(&p->run->count.matched, job->claim.bytes,
						  memory_order_relaxed);
			if (p->run->progress)
				stg_progress_add_bytes(p->run->progress, job->claim.bytes);
		}
		return segment_done(p, job, &f.row.hash, e);
	}
	if (check) {
		/* From here on nobody knows any more what the target has there. */
		job->claim.work = STG_BIG_SEND;
		return begin_sending(p, job, e);
	}
	if (tp_put_close(&p->out, slot, job->claim.bytes, &f.row.hash) < 0)
		return peer_no_memory(e);
	return peer_add_flight(p, &f, e);
}

/* Read what comes next right into a DATA frame.  The count, or negative. */
static ssize_t put_data(struct peer *p, int fd, size_t want, struct err *e)
{
	struct peer_segment *s = &p->seg;
	ssize_t n;
	int r;
	size_t at = tp_frame_begin(&p->out, &r);

	r |= buf_put_le64(&p->out, s->off) | buf_reserve(&p->out, want);
	if (r < 0)
		return peer_no_memory(e);
	n = io_pread_full(fd, p->out.p + p->out.n, want, s->off);
	if (n <= 0) {
		p->out.n = p->out.off + at;
		return n;
	}
	tp_hash_update(p->hash, s->off - s->job->claim.off, p->out.p + p->out.n, (size_t)n);
	p->out.n += (size_t)n;
	r = tp_frame_end(&p->out, at, TP_DATA, 0, s->slot);
	if (r < 0)
		return peer_no_memory(e);
	peer_count_sent(p, &s->job->items[0], (uint64_t)n, 0);
	return n;
}

/* --- matching --- */

static int on_copy(void *ctx, uint64_t off, uint64_t basis_off, uint64_t n, struct err *e)
{
	struct peer *p = ctx;

	if (tp_put_copy(&p->out, p->seg.slot, &(struct tp_copy){ off, basis_off, n }) < 0)
		return peer_no_memory(e);
	atomic_fetch_add_explicit(&p->run->count.matched, n, memory_order_relaxed);
	return 0;
}

static int on_literal(void *ctx, uint64_t off, struct bytes data, struct err *e)
{
	struct peer *p = ctx;

	if (tp_put_data(&p->out, p->seg.slot, off, data) < 0)
		return peer_no_memory(e);
	atomic_fetch_add_explicit(&p->run->count.literal, data.n, memory_order_relaxed);
	return 0;
}

/* The part of what was read from off on that is in the segment, into its hash. */
static void hash_within(struct peer *p, uint64_t off, struct bytes read)
{
	uint64_t from = MAX(off, p->seg.off), to = MIN(off + read.n, p->seg.run_end);

	if (from < to)
		tp_hash_update(p->hash, from - p->seg.job->claim.off, read.p + (from - off),
			       (size_t)(to - from));
}

/*
 * A run of data is matched on its own, and read from a block before it to a block after.
 * The count of bytes read, 0 at the end of the run, or negative.
 */
static ssize_t step_match(struct peer *p, int fd, struct err *e)
{
	static const struct tp_match_ops ops = { .copy = on_copy, .literal = on_literal };
	struct peer_segment *s = &p->seg;
	size_t want = (size_t)MIN(s->feed_end - s->feed, (uint64_t)TP_MATCH_BYTES);
	uint8_t *room = tp_match_room(s->match);
	ssize_t n = io_pread_full(fd, room, want, s->feed);
	bool eof;
	int r;

	if (n < 0)
		return n;
	hash_within(p, s->feed, bytes_of(room, (size_t)n));
	s->feed += (uint64_t)n;
	eof = s->feed == s->feed_end || (size_t)n < want;
	r = tp_match_step(s->match, bytes_of(room, (size_t)n), eof, &ops, p, e);
	if (r < 0)
		return peer_no_memory(e);
	if (!eof)
		return n;
	tp_match_free(TAKE_PTR(s->match));
	/* What was cut off by now stays a hole. */
	s->off = s->feed < s->run_end ? s->end : s->run_end;
	return n;
}

static int begin_match(struct peer *p, struct err *e)
{
	struct peer_segment *s = &p->seg;
	const struct tp_sums *sums = s->check ? NULL : sums_of(s->job);
	int r;

	if (!sums || s->off >= s->run_end)
		return 0;
	r = tp_match_new(sums, s->off, s->run_end, s->job->claim.size, &s->match, e);
	if (r == 0)
		tp_match_range(s->match, &s->feed, &s->feed_end);
	return r;
}

/* A step of reading it as it is.  The count, 0 at its end, or negative. */
static ssize_t step_plain(struct peer *p, int fd, struct err *e)
{
	struct peer_segment *s = &p->seg;
	size_t want = (size_t)MIN(s->run_end - s->off, (uint64_t)PEER_SCRATCH);
	ssize_t n;

	if (!want)
		return 0;
	if (!s->check) {
		n = put_data(p, fd, want, e);
	} else {
		n = io_pread_full(fd, p->scratch, want, s->off);
		if (n > 0)
			tp_hash_update(p->hash, s->off - s->job->claim.off, p->scratch, (size_t)n);
	}
	if (n > 0)
		s->off += (uint64_t)n;
	return n;
}

static int fail_segment(struct peer *p, const char *operation, int code, struct err *e)
{
	struct stg_job *job = p->seg.job;
	int r = 0;

	if (!p->seg.check)
		r = tp_frame_put(&p->out, TP_DROP, 0, p->seg.slot, bytes_of(NULL, 0));
	peer_segment_close(p);
	return r < 0 ? peer_no_memory(e) : give_up(p, job, operation, code, e);
}

int peer_step_segment(struct peer *p, struct err *e)
{
	struct peer_segment *s = &p->seg;
	int fd = stg_bigfile_fd(s->job->big), r = 0;
	ssize_t n;

	if (!s->match && s->off >= s->run_end) {
		r = stg_bigfile_data(s->job->big, s->off, s->end, &s->off, &s->run_end);
		if (r < 0)
			return fail_segment(p, "seek", r, e);
		r = begin_match(p, e);
		if (r < 0)
			return r;
	}
	n = s->match ? step_match(p, fd, e) : step_plain(p, fd, e);
	if (n == -ENOMEM)
		return peer_no_memory(e);
	if (n < 0)
		return fail_segment(p, "read", (int)n, e);
	if (!s->check && p->run->progress)
		stg_progress_add_bytes(p->run->progress, (uint64_t)n);
	/* A file that was cut short meanwhile ends with a hole, until it is looked at again. */
	return (n == 0 && !s->match) || s->off >= s->end ? end_segment(p, e) : 0;
}

/* --- the basis --- */

/* A slot for an answer about something in the job's directory. */
static int ask_slot(struct peer *p, struct stg_job *job, enum slot_kind kind, struct err *e)
{
	int at, r = peer_enter(p, job->items[0].path, false, e);

	if (r < 0)
		return r;
	at = peer_slot_new(p, kind, e);
	if (at >= 0)
		p->slots[at].job = job;
	return at;
}

static int ask_sums(struct peer *p, struct stg_job *job, struct err *e)
{
	const struct stg_big_claim *c = &job->claim;
	struct tp_range m = { .size = c->size, .off = c->off, .bytes = c->bytes,
			      .name = job->items[0].name, .block = c->block };
	int at = ask_slot(p, job, SLOT_SUMS, e);

	if (at < 0)
		return at;
	return tp_put_sumreq(&p->out, (uint16_t)at, &m) < 0 ? peer_no_memory(e) : 0;
}

int peer_on_sums(struct peer *p, const struct tp_frame *f, struct err *e)
{
	struct slot *s = f->slot < PEER_SLOTS ? &p->slots[f->slot] : NULL;
	struct stg_job *job;
	struct bytes sums;
	uint32_t error;
	int r;

	if (!s || s->kind != SLOT_SUMS)
		return err_set(e, -ERR_PROTOCOL, "sums that were not asked for");
	r = tp_get_sums(f, &error, &sums, e);
	if (r < 0)
		return r;
	job = s->job;
	peer_slot_free(p, s);
	r = stg_bigfile_summed(job->big, &job->claim, error ? bytes_of(NULL, 0) : sums, e);
	if (r > 0)
		r = push_job(p, job->big, e);
	return r < 0 ? r : end_job(p, job, e);
}

/* --- what an earlier run has left --- */

static int ask_hash(struct peer *p, struct stg_job *job, struct err *e)
{
	const struct stg_big_claim *c = &job->claim;
	struct tp_range m = { .off = c->off, .bytes = c->bytes,
			      .name = bytes_str(stg_bigfile_temp(job->big)) };
	int at = ask_slot(p, job, SLOT_HASHED, e);

	if (at < 0)
		return at;
	return tp_put_hashreq(&p->out, (uint16_t)at, &m) < 0 ? peer_no_memory(e) : 0;
}

int peer_on_hashed(struct peer *p, const struct tp_frame *f, struct err *e)
{
	struct slot *s = f->slot < PEER_SLOTS ? &p->slots[f->slot] : NULL;
	struct tp_hash_value hash, zeros;
	struct stg_job *job;
	uint32_t error;
	bool nothing;
	int r;

	if (!s || s->kind != SLOT_HASHED)
		return err_set(e, -ERR_PROTOCOL, "a hash that was not asked for");
	r = tp_get_hashed(f, &error, &hash, e);
	if (r < 0)
		return r;
	job = s->job;
	peer_slot_free(p, s);
	/* The open segment has the session's hash in use. */
	r = tp_hash_zeros_of(job->claim.bytes, &zeros, e);
	if (r < 0)
		return r;
	nothing = error || tp_hash_eq(&hash, &zeros);
	stg_bigfile_found(job->big, &job->claim, nothing ? NULL : &hash);
	r = push_job(p, job->big, e);
	return r < 0 ? r : end_job(p, job, e);
}

/* --- the end of the file --- */

static int put_finish(struct peer *p, struct stg_job *job, const struct stg_stat *st, bool live,
		      struct err *e)
{
	struct stg_item *item = &job->items[0];
	struct tp_entry m = { .temp = bytes_str(stg_bigfile_temp(job->big)) };
	struct tp_hash_value hash;
	int r = stg_bigfile_hash(job->big, &hash, e);

	if (r == 0)
		r = peer_enter(p, item->path, true, e);
	if (r < 0)
		return r;
	if (live)
		peer_note_changed(p, item);
	r = peer_put_entry(p, TP_FINISH, job->claim.create ? TP_F_CREATE : 0, 0, &m, st,
			   item->name);
	if (r < 0) {
		if (kill_file(p, job, e) < 0)
			return peer_no_memory(e);
		return peer_put_failed(p, job, item, r, e);
	}
	return peer_fly_row(p, job, item, st, live, &hash, e);
}

/* What was sent is not what is there: send it from the start, under another temporary name. */
static int begin_anew(struct peer *p, struct stg_job *job, enum stg_op op, struct err *e)
{
	int r = kill_file(p, job, e);

	if (r > 0)
		return peer_item_again(p, job, &job->items[0], op, e);
	peer_item_done(p, job, &job->items[0]);
	return r;
}

/* All segments are there.  Has the source stayed what it was? */
static int finish_file(struct peer *p, struct stg_job *job, struct err *e)
{
	int fd = stg_bigfile_fd(job->big);
	struct stg_stat st, after;
	bool live;
	int r;

	stg_bigfile_stat(job->big, &st);
	r = tp_xattrs_read(fd, NULL, &p->xattrs, e);
	if (r < 0)
		return give_up(p, job, "read xattrs of", r, e);
	r = peer_restat(fd, "", AT_EMPTY_PATH, &after);
	if (r < 0)
		return give_up(p, job, "stat", r, e);
	/* Another file has the name by now, or none. */
	if (!after.nlink)
		return begin_anew(p, job, STG_OP_SEND, e);
	live = !stg_stat_same(&st, &after);
	if (live && stg_bigfile_restart(job->big, &after)) {
		r = push_job(p, job->big, e);
		return r < 0 ? r : end_job(p, job, e);
	}
	/* The name it is given has the metadata that goes with the content that was sent. */
	return put_finish(p, job, &st, live, e);
}

int peer_take_big(struct peer *p, struct stg_job *job, struct err *e)
{
	bool more = stg_bigfile_claim(job->big, &job->claim);
	int r = more ? push_job(p, job->big, e) : 0;

	job->content = job->claim.bytes;
	peer_hold(p, job);
	if (r < 0)
		return r;
	switch (job->claim.work) {
	case STG_BIG_SUMS:
		return ask_sums(p, job, e);
	case STG_BIG_VERIFY:
		return ask_hash(p, job, e);
	case STG_BIG_SEND:
		return begin_sending(p, job, e);
	case STG_BIG_CHECK:
		begin_checking(p, job);
		return 0;
	case STG_BIG_FINISH:
		return finish_file(p, job, e);
	default:
		peer_item_done(p, job, &job->items[0]);
		return 0;
	}
}

/* --- answers --- */

int peer_big_acked(struct peer *p, struct flight *f, struct err *e)
{
	int r;

	if (f->kind == FLIGHT_SEGMENT)
		return segment_done(p, f->job, &f->row.hash, e);
	r = drop_partial(p, f->job, e);
	return r < 0 ? r : end_job(p, f->job, e);
}

/* What was gathered is kept, for when the removals have made room for its name. */
static int wait_for_removal(struct peer *p, struct stg_job *job, struct err *e)
{
	int r = stg_run_again(p->run, &job->items[0], e);

	return r < 0 ? r : end_job(p, job, e);
}

int peer_big_refused(struct peer *p, struct flight *f, const struct tp_refusal *m,
		     const char *operation, const char *text, struct err *e)
{
	struct stg_job *job = f->job;
	struct stg_item *item = &job->items[0];
	int r;

	if (m->error == TP_E_MISMATCH && f->kind == FLIGHT_SEGMENT &&
	    stg_bigfile_again(job->big, &job->claim)) {
		r = push_job(p, job->big, e);
		return r < 0 ? r : end_job(p, job, e);
	}
	/* Where the connection broke at the very end, the file may have its name already. */
	if (m->error == TP_E_STALE)
		return begin_anew(p, job, stg_bigfile_ended(job->big) ? STG_OP_VERIFY :
									STG_OP_SEND, e);
	if (m->error == TP_E_BLOCKED && !item->after_removal)
		return wait_for_removal(p, job, e);
	r = kill_file(p, job, e);
	if (r <= 0)
		peer_item_done(p, job, item);
	else if (m->error == TP_E_BLOCKED)
		peer_item_failed(p, job, item, operation, -ENOTEMPTY,
				 "a directory that is not empty is in its place on the target");
	else
		peer_item_failed(p, job, item, operation, -(int)m->error, text);
	return MIN(r, 0);
}

int peer_big_lost(struct peer *p, struct stg_job *job, struct err *e)
{
	stg_bigfile_kill(job->big);
	return drop_partial(p, job, e);
}

int peer_give_back_big(struct peer *p, struct stg_job *job, struct err *e)
{
	if (job->claim.work == STG_BIG_NONE)
		return 0;
	stg_bigfile_back(job->big, &job->claim);
	/* No connection is left to remove a name with; the end of the phase looks for it. */
	(void)stg_bigfile_release(job->big);
	return push_job(p, job->big, e);
}
