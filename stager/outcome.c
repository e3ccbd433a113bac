/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/text.h"
#include "stager/hot.h"
#include "stager/peer.h"
#include "stager/progress.h"

/*
 * What became of the completions.  An entry is recorded in the catalog here and nowhere
 * else: when the receiver has said that it has it.
 */

struct flight *peer_flight_at(struct peer *p, uint64_t n)
{
	return &p->flights[(p->flights_at + (size_t)(n - p->acked - 1)) % p->flights_cap];
}

void peer_item_done(struct peer *p, struct stg_job *job, struct stg_item *item)
{
	/* Two things go on for it at the same time: the later end counts. */
	if (item && item->halves && --item->halves)
		return;
	if (item) {
		item->done = true;
		job->pending--;
	}
	if (job->pending)
		return;
	p->held_content -= job->content;
	*job->held_prev = job->held_next;
	if (job->held_next)
		job->held_next->held_prev = job->held_prev;
	stg_queue_finish(p->run->queue, job);
}

void peer_item_failed(struct peer *p, struct stg_job *job, struct stg_item *item,
		      const char *operation, int code, const char *text)
{
	if (item->op == STG_OP_REMOVE)
		atomic_fetch_add(&p->run->count.unremoved, 1);
	stg_run_entry_error(p->run, item->path,
			    item->op == STG_OP_DIRMETA ? bytes_of("", 0) : item->name, operation,
			    code, text);
	peer_item_done(p, job, item);
}

int peer_item_again(struct peer *p, struct stg_job *job, struct stg_item *item, enum stg_op op,
		    struct err *e)
{
	struct stg_item copy = *item;
	struct stg_job *again;
	int r;

	if (++copy.tries >= PEER_TRIES_MAX) {
		peer_item_failed(p, job, item, "send", -EIO,
				 "the target could not keep it in several attempts");
		return 0;
	}
	copy.op = op;
	copy.whole |= op == STG_OP_SEND;
	r = stg_job_new(STG_JOB_ITEMS, &again, e);
	if (r < 0)
		return r;
	r = stg_job_add(again, &copy, e);
	if (r < 0) {
		stg_job_free(again);
		return r;
	}
	stg_job_seal(again);
	stg_queue_push_urgent(p->run->queue, again);
	peer_item_done(p, job, item);
	return 0;
}

/* What the target has no room for now it will not have room for later: stop cleanly. */
static bool ends_phase(uint32_t error)
{
	return error == ENOSPC || error == EDQUOT || error == EROFS;
}

/* Let text be a C string that no terminal will stumble over. */
static const char *message(char out[TEXT_NAME_MAX], const struct tp_refusal *m)
{
	if (m->text.n)
		return text_name(out, m->text);
	snprintf(out, TEXT_NAME_MAX, "%s",
		 m->error < TP_E_BASE ? strerror((int)m->error) : "refused by the target");
	return out;
}

static int phase_over(const struct flight *f, const struct tp_refusal *m, struct err *e)
{
	_cleanup_(buf_fini) struct buf path = BUF_INIT;
	char name[TEXT_NAME_MAX], text[TEXT_NAME_MAX];

	if (f->item && stg_path_join(&path, f->item->path, f->item->name) < 0)
		buf_clear(&path);
	return err_set(e, -(int)m->error,
		       "the target cannot take %s: %s (%s there and start again: what was "
		       "acknowledged is kept)",
		       text_name(name, buf_view(&path)), message(text, m),
		       m->error == EROFS ? "let it be written to" : "make room");
}

/* A name that was to be removed is still there, for a reason that is no failure. */
static bool kept(struct peer *p, const struct tp_refusal *m)
{
	if (m->error != ENOTEMPTY && m->error != EBUSY)
		return false;
	atomic_fetch_add(&p->run->count.kept, 1);
	return true;
}

int peer_on_refuse(struct peer *p, const struct tp_refusal *m, struct err *e)
{
	char operation[64], text[TEXT_NAME_MAX];
	struct stg_item *item;
	struct stg_job *job;
	struct flight *f;

	if (m->n <= p->acked || m->n > p->sent)
		return err_set(e, -ERR_PROTOCOL, "the receiver refuses what was not sent");
	f = peer_flight_at(p, m->n);
	if (f->refused)
		return err_set(e, -ERR_PROTOCOL, "the receiver refuses something twice");
	f->refused = true;
	item = f->item;
	job = f->job;
	if (ends_phase(m->error)) {
		int r = job && job->kind == STG_JOB_BIG ? peer_big_lost(p, job, e) : 0;

		return r < 0 ? r : phase_over(f, m, e);
	}
	if (f->kind == FLIGHT_BELOW || f->kind == FLIGHT_REMOVED) {
		if (kept(p, m)) {
			if (item)
				peer_item_done(p, job, item);
			return 0;
		}
	}
	/* Another receiver may have brought it back; such names are looked for in the end. */
	if (f->kind == FLIGHT_TEMP)
		return 0;
	/* That name is missing was told when it was looked at itself. */
	if (f->kind == FLIGHT_CHECK && item->op == STG_OP_CHECKLINK && m->error == ENOENT) {
		peer_item_done(p, job, item);
		return 0;
	}
	snprintf(operation, sizeof(operation), "%.*s", (int)MIN(m->operation.n, (size_t)63),
		 m->operation.n ? (const char *)m->operation.p : "");
	if (job && job->kind == STG_JOB_BIG)
		return peer_big_refused(p, f, m, operation, message(text, m), e);
	if (!item) {
		atomic_fetch_add(&p->run->count.failed, 1);
		if (f->kind == FLIGHT_BELOW)
			atomic_fetch_add(&p->run->count.unremoved, 1);
		if (p->run->report)
			stg_report_add_error(p->run->report, &(struct stg_report_item){
				.operation = operation, .code = (int)m->error,
				.message = message(text, m) });
		return 0;
	}
	/* It is found again by the next look, and sent. */
	if (f->kind == FLIGHT_MOVED) {
		log_debug("a move on the target was refused: %s", message(text, m));
		peer_item_done(p, job, item);
		return 0;
	}
	if (m->error == TP_E_MISMATCH)
		return peer_item_again(p, job, item, STG_OP_SEND, e);
	if (m->error == TP_E_STALE)
		return peer_item_again(p, job, item, STG_OP_UPDATE, e);
	if (m->error == TP_E_BLOCKED && !item->after_removal) {
		int r = stg_run_again(p->run, item, e);

		peer_item_done(p, job, item);
		return r;
	}
	if (m->error == TP_E_BLOCKED)
		peer_item_failed(p, job, item, operation, -ENOTEMPTY,
				 "a directory that is not empty is in its place on the target");
	else
		peer_item_failed(p, job, item, operation, -(int)m->error, message(text, m));
	return 0;
}

int peer_on_warn(struct peer *p, const struct tp_refusal *m, struct err *e)
{
	char operation[64], text[TEXT_NAME_MAX];
	struct flight *f;

	if (m->n <= p->acked || m->n > p->sent)
		return err_set(e, -ERR_PROTOCOL, "the receiver warns of what was not sent");
	f = peer_flight_at(p, m->n);
	/* Not clean: the next phase tries again to give it all that it should have. */
	f->warned = true;
	snprintf(operation, sizeof(operation), "%.*s", (int)MIN(m->operation.n, (size_t)63),
		 m->operation.n ? (const char *)m->operation.p : "");
	if (f->item)
		stg_run_entry_error(p->run, f->item->path,
				    f->kind == FLIGHT_DIR ? bytes_of("", 0) : f->item->name,
				    operation, -(int)m->error, message(text, m));
	return 0;
}

static int record_move(struct peer *p, const struct stg_item *item, struct err *e)
{
	_cleanup_(buf_fini) struct buf from = BUF_INIT, to = BUF_INIT;
	struct stg_run *run = p->run;
	struct stg_move m = {
		.old_dir = item->old_dir, .old_name = item->leader,
		.dir = item->dir, .name = item->name,
	};
	int r;

	if (stg_path_join(&from, item->leader_path, item->leader) < 0 ||
	    stg_path_join(&to, item->path, item->name) < 0)
		return err_set(e, -ENOMEM, "move: out of memory");
	m.from = buf_view(&from);
	m.to = buf_view(&to);
	atomic_fetch_add(&run->count.moved, 1);
	/* A file is looked at again, and counted then. */
	atomic_fetch_add(&run->count.changed, item->is_dir);
	r = stg_catalog_set_number(run->catalog, STG_MOVED_EPOCH, atomic_load(&run->epoch), e);
	return r < 0 ? r : stg_catalog_move(run->catalog, &m, e);
}

static int settle(struct peer *p, struct flight *f, struct err *e)
{
	struct stg_run *run = p->run;
	struct stg_item *item = f->item;
	int r = 0;

	if (f->refused)
		return 0; /* it was dealt with when the refusal came */
	atomic_fetch_add_explicit(&run->count.acked, 1, memory_order_relaxed);
	f->row.epoch = (uint32_t)atomic_load(&run->epoch);
	if (f->warned)
		f->row.state &= (uint8_t)~STG_ROW_CLEAN;
	switch (f->kind) {
	case FLIGHT_ROW:
		r = stg_catalog_record(run->catalog, item->dir, item->path, item->name, &f->row,
				       item->has_old ? item->old_nlink : 0, e);
		atomic_fetch_add_explicit(&run->count.changed, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&run->count.skipped_by_hash, f->by_hash,
					  memory_order_relaxed);
		atomic_fetch_add_explicit(&run->count.rechecked, f->by_hash && item->recheck,
					  memory_order_relaxed);
		if (!f->by_hash || !item->recheck)
			stg_hot_add(run->hot, item->path, item->name,
				    (struct stg_hot_count){ .entries = 1 });
		if (run->progress)
			stg_progress_add_entries(run->progress, 1);
		p->stats.entries++;
		break;
	case FLIGHT_DIR:
		r = stg_catalog_clean_dir(run->catalog, item->dir, item->name, item->child,
					  &f->row, e);
		p->stats.entries++;
		break;
	case FLIGHT_REMOVED:
		r = stg_catalog_forget(run->catalog, item->dir, item->name, e);
		stg_hot_add(run->hot, item->path, bytes_of(NULL, 0),
			    (struct stg_hot_count){ .entries = 1 });
		atomic_fetch_add(&run->count.deleted, 1);
		break;
	case FLIGHT_MOVED:
		r = record_move(p, item, e);
		break;
	case FLIGHT_BELOW:
		atomic_fetch_add(&run->count.deleted, 1);
		return 0;
	case FLIGHT_TEMP:
		return 0;
	case FLIGHT_SEGMENT:
		break;
	case FLIGHT_CHECK:
		r = peer_check_settled(p, f, e);
		break;
	}
	if (r == 0 && f->job->kind == STG_JOB_BIG)
		return peer_big_acked(p, f, e);
	if (r == 0)
		peer_item_done(p, f->job, item);
	return r;
}

int peer_on_ack(struct peer *p, uint64_t n, struct err *e)
{
	int r = 0;

	if (n < p->acked || n > p->sent)
		return err_set(e, -ERR_PROTOCOL, "the receiver acknowledges what was not sent");
	while (r == 0 && p->acked < n) {
		struct flight *f = &p->flights[p->flights_at];

		r = settle(p, f, e);
		p->flights_at = (p->flights_at + 1) % p->flights_cap;
		p->acked++;
	}
	return r;
}

/* The undone items of one job, as a new job; what was listed need not be listed again. */
static int give_back_job(struct peer *p, struct stg_job *job, struct err *e)
{
	bool compare = job->kind == STG_JOB_COMPARE && !job->compared;
	struct stg_job *back;
	int r;

	if (job->kind == STG_JOB_BIG)
		return peer_give_back_big(p, job, e);
	r = stg_job_new(compare ? STG_JOB_COMPARE : STG_JOB_ITEMS, &back, e);

	if (r < 0)
		return r;
	r = stg_job_set_dir(back, job->dir, job->path, e);
	for (size_t i = 0; i < job->n && r == 0; i++)
		if (!job->items[i].done)
			r = stg_job_add(back, &job->items[i], e);
	if (r < 0) {
		stg_job_free(back);
		return r;
	}
	back->only_list = job->only_list;
	back->only_items = job->only_items;
	back->filter_index = job->filter_index;
	back->filter = TAKE_PTR(job->filter);
	stg_job_seal(back);
	stg_queue_push_urgent(p->run->queue, back);
	return 0;
}

int peer_give_back(struct peer *p, struct err *e)
{
	int r = 0;

	peer_file_close(p);
	peer_segment_close(p);
	for (size_t i = 0; i < PEER_SLOTS; i++)
		if (p->slots[i].kind != SLOT_FREE)
			peer_slot_free(p, &p->slots[i]);
	while (p->held) {
		struct stg_job *job = p->held;

		if (r == 0)
			r = give_back_job(p, job, e);
		p->held_content -= job->content;
		p->held = job->held_next;
		if (p->held)
			p->held->held_prev = &p->held;
		stg_queue_finish(p->run->queue, job);
	}
	p->ready_first = NULL;
	p->ready_last = &p->ready_first;
	p->acked = 0;
	p->sent = 0;
	p->flights_at = 0;
	p->dir_known = false;
	return r;
}
