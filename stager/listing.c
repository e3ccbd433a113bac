/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/text.h"
#include "stager/filter.h"
#include "stager/peer.h"

/*
 * Two uses of a listing of the target.
 *
 * Comparing: the items of a directory and the target's names, both sorted, are merged; what
 * the target has already need not be sent, what only the target has goes into the delete
 * plan unless a rule protects it.
 *
 * Removing a tree: the listing comes depth first, and removals go out as it comes: whatever
 * no rule protects, a directory after what is in it, unless something in it was kept.
 */

/* Of one directory on the target: some millions of names. */
#define LISTING_MAX (512u << 20)

/* --- comparing --- */

static bool same_time(const struct stg_stat *st, const struct tp_item_entry *t)
{
	return st->mtime_s == t->mtime_s && st->mtime_ns == t->mtime_ns;
}

/*
 * The receiver may have been uploaded into the very tree that is synced: a home directory
 * below the target root (transport/install.h says where it lies).
 */
bool stg_is_receiver(struct bytes path)
{
	static const char dir[] = ".cache/stager/stager-receive-";
	const uint8_t *at = path.n ? memmem(path.p, path.n, dir, sizeof(dir) - 1) : NULL;

	return at && (at == path.p || at[-1] == '/') &&
	       !memchr(at + sizeof(dir) - 1, '/', path.n - (size_t)(at - path.p) - sizeof(dir) + 1);
}

static bool protected(const struct stg_filter_dir *filter, struct bytes path, bool is_dir,
		      bool in_removed)
{
	return stg_is_receiver(path) || stg_filter_protects(filter, path, is_dir, in_removed);
}

/*
 * The target lacks a directory that the catalog knows: one was moved or removed, and the run
 * was killed before that was on record.  What the rows tell of it is wrong all the way down.
 * The walk may have gone into it already, so there is to be another.
 */
static int dir_is_lost(struct peer *p, const struct stg_job *job, struct stg_item *item,
		       struct err *e)
{
	if (!item->has_old || p->run->compare)
		return 0;
	item->has_old = false;
	atomic_store(&p->run->lost, true);
	return stg_catalog_forget(p->run->catalog, job->dir, item->name, e);
}

/* The target has an entry of this name: what is left to do for the item? */
static enum stg_op compare_op(const struct stg_item *item, const struct tp_item_entry *t)
{
	const struct stg_stat *st = &item->st;

	if (item->op == STG_OP_CHECK || (item->defect && stg_is_reg(st) && S_ISREG(t->mode)))
		return item->op;
	if ((t->mode & S_IFMT) != (st->mode & S_IFMT))
		return stg_is_dir(st) ? STG_OP_KEEP : STG_OP_SEND;
	if (!stg_is_reg(st))
		return item->op == STG_OP_KEEP && !stg_is_dir(st) && !same_time(st, t) ?
			       STG_OP_SEND : item->op;
	if (item->op == STG_OP_KEEP)
		return t->size == st->size && same_time(st, t) ? STG_OP_KEEP : STG_OP_UPDATE;
	return t->size == st->size && same_time(st, t) ? STG_OP_VERIFY : STG_OP_UPDATE;
}

static int plan_extra(struct peer *p, const struct stg_job *job, const struct tp_item_entry *t,
		      struct err *e)
{
	bool is_dir = S_ISDIR(t->mode);

	if (!p->run->delete || job->only_items)
		return 0;
	if (stg_path_join(&p->path, job->path, t->name) < 0)
		return err_set(e, -ENOMEM, "compare: out of memory");
	if (stg_run_skips(p->run, buf_view(&p->path)) ||
	    protected(job->filter, buf_view(&p->path), is_dir, false))
		return 0;
	if (p->run->verify)
		return t->flags & TP_L_MOUNT ? 0 :
			peer_check_extra(p, buf_view(&p->path), t->mode, STG_CAUSE_TARGET, e);
	if (t->flags & TP_L_MOUNT) {
		char text[TEXT_NAME_MAX];

		log_info("%s is a mount point on the target: kept",
			 text_name(text, buf_view(&p->path)));
		atomic_fetch_add(&p->run->count.kept, 1);
		return 0;
	}
	return stg_run_plan_removal(p->run, job->dir, job->path, t->name, is_dir,
				    job->filter_index, e);
}

static int compare_both(struct peer *p, struct stg_job *job, struct stg_item *item,
			const struct tp_item_entry *t, struct err *e)
{
	enum stg_op op = compare_op(item, t);
	int r = 0;

	if (item->op == STG_OP_ABSENT) {
		item->op = STG_OP_KEEP;
		if (stg_path_join(&p->path, job->path, item->name) < 0)
			return err_set(e, -ENOMEM, "compare: out of memory");
		return peer_check_extra(p, buf_view(&p->path), t->mode, STG_CAUSE_SOURCE, e);
	}
	if (p->run->verify)
		return 0;

	if (stg_is_dir(&item->st) && !S_ISDIR(t->mode))
		return dir_is_lost(p, job, item, e);
	if (op != STG_OP_KEEP && item->op == STG_OP_KEEP)
		stg_run_add_total(p->run, &item->st);
	item->op = op;
	item->old_size = S_ISREG(t->mode) ? t->size : 0;
	/* A directory in the way of something else goes with the removals. */
	if (S_ISDIR(t->mode) && !stg_is_dir(&item->st)) {
		r = plan_extra(p, job, t, e);
		if (r == 0)
			r = stg_run_again(p->run, item, e);
		if (r == 0)
			item->op = STG_OP_KEEP;
	}
	return r;
}

/* The target lacks it: whatever the catalog believed, it must be sent. */
static int compare_missing(struct peer *p, const struct stg_job *job, struct stg_item *item,
			   struct err *e)
{
	if (p->run->verify) {
		int r = item->op == STG_OP_CHECK ? peer_check_missing(p, item, e) : 0;

		item->op = STG_OP_KEEP;
		return r;
	}
	if (stg_is_dir(&item->st))
		return dir_is_lost(p, job, item, e);
	if (item->op == STG_OP_KEEP)
		stg_run_add_total(p->run, &item->st);
	item->op = STG_OP_SEND;
	return 0;
}

static int next_name(struct reader *r, struct tp_item_entry *ret, struct err *e)
{
	int n;

	do
		n = tp_get_item(r, ret, e);
	while (n > 0 && ret->kind != TP_ITEM_ENTRY);
	return n;
}

static int compare(struct peer *p, struct stg_job *job, struct bytes listing, struct err *e)
{
	struct reader rd = reader_of(listing);
	struct tp_item_entry t;
	size_t i = 0;
	int have = next_name(&rd, &t, e), r = 0;

	while (r == 0 && have >= 0 && (have || i < job->n)) {
		int c = !have ? -1 : i == job->n ? 1 : bytes_cmp(job->items[i].name, t.name);

		if (c < 0)
			r = compare_missing(p, job, &job->items[i++], e);
		else if (c > 0)
			r = plan_extra(p, job, &t, e);
		else
			r = compare_both(p, job, &job->items[i++], &t, e);
		if (r == 0 && c >= 0)
			have = next_name(&rd, &t, e);
	}
	return have < 0 ? have : r;
}

/*
 * A directory that was marked before the source replaced it by something else, or one above
 * it, is as absent as one that was removed.
 */
static bool is_absent(uint32_t error)
{
	return error == ENOENT || error == ENOTDIR || error == ELOOP;
}

/* error: why the target could not list it, an errno; 0: it could. */
static int end_compare(struct peer *p, struct slot *s, int error, struct err *e)
{
	_cleanup_(buf_fini) struct buf listing = TAKE_BUF(s->data);
	struct stg_job *job = s->job;
	int r = 0;

	peer_slot_free(p, s);
	if (error)
		/* Nothing is known, so nothing is deleted; all is sent as if it were not there. */
		stg_run_entry_error(p->run, job->path, bytes_of("", 0), "list on the target",
				    -error, strerror(error));
	else
		r = compare(p, job, buf_view(&listing), e);
	if (r < 0)
		return r;
	job->compared = true;
	if (!job->n)
		peer_item_done(p, job, NULL);
	else
		peer_make_ready(p, job);
	return 0;
}

/* --- removing a tree --- */

struct level {
	size_t path_n; /* of the directory, in the path */
	bool kept;     /* something in it stays */
	bool left;     /* something in it would go, but for --max-delete */
	struct stg_filter_dir *filter;
};

struct stg_removing {
	struct buf path;               /* of the directory that the listing is in */
	struct level *levels;
	size_t n, cap;
	struct buf last; /* name of the last entry: an ENTER is about it */
	bool last_kept;
	size_t skip;     /* levels inside of a directory that is kept whole */
};

void stg_removing_free(struct stg_removing *m)
{
	if (!m)
		return;
	buf_fini(&m->path);
	buf_fini(&m->last);
	for (size_t i = 0; i < m->n; i++)
		stg_filter_dir_unref(m->levels[i].filter);
	free(m->levels);
	free(m);
}

/* The listing goes into the directory at m->path, which only the target has. */
static int push_level(struct peer *p, struct stg_removing *m, struct stg_filter_dir *parent,
		      struct err *e)
{
	struct stg_filter_dir *node;
	int r;

	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 16;
		struct level *v = reallocarray(m->levels, cap, sizeof(*v));

		if (!v)
			return err_set(e, -ENOMEM, "remove: out of memory");
		m->levels = v;
		m->cap = cap;
	}
	r = stg_filter_enter(p->run->filter, parent, -1, buf_view(&m->path), &node, e);
	if (r == 0)
		m->levels[m->n++] = (struct level){ .path_n = m->path.n, .filter = node };
	return r;
}

int peer_begin_removal(struct peer *p, struct stg_job *job, struct stg_item *item,
		       struct err *e)
{
	struct stg_removing *m = calloc(1, sizeof(*m));
	struct stg_filter_dir *parent;
	struct slot *s;
	int at, r;

	if (!m)
		return err_set(e, -ENOMEM, "remove: out of memory");
	pthread_mutex_lock(&p->run->lock);
	parent = p->run->filters[item->filter];
	pthread_mutex_unlock(&p->run->lock);
	r = stg_path_join(&m->path, item->path, item->name);
	if (r == 0)
		r = push_level(p, m, parent, e);
	at = r == 0 ? peer_slot_new(p, SLOT_REMOVE, e) : r;
	if (at < 0) {
		stg_removing_free(m);
		return at;
	}
	s = &p->slots[at];
	s->job = job;
	s->item = item;
	s->removing = m;
	if (tp_put_path(&p->out, TP_LIST, TP_F_RECURSE, (uint16_t)at, buf_view(&m->path)) < 0)
		return err_set(e, -ENOMEM, "remove: out of memory");
	return 0;
}

static int put_remove(struct peer *p, struct bytes dir, struct bytes name, bool is_dir,
		      const struct flight *f, struct err *e)
{
	int r = peer_enter(p, dir, false, e);

	if (r < 0)
		return r;
	if (tp_put_remove(&p->out, is_dir ? TP_F_DIRECTORY : 0, name) < 0)
		return err_set(e, -ENOMEM, "remove: out of memory");
	return peer_add_flight(p, f, e);
}

static void keep_level(struct peer *p, struct stg_removing *m)
{
	atomic_fetch_add(&p->run->count.kept, 1);
	m->levels[m->n - 1].kept = true;
}

/* An entry of the directory that the listing is in. */
static int remove_entry(struct peer *p, struct stg_removing *m, const struct tp_item_entry *t,
			struct err *e)
{
	static const struct flight below = { .kind = FLIGHT_BELOW };
	bool is_dir = S_ISDIR(t->mode);
	bool keep = (t->flags & TP_L_MOUNT) != 0;

	buf_clear(&m->last);
	if (buf_put_bytes(&m->last, t->name) < 0 ||
	    stg_path_join(&p->path, buf_view(&m->path), t->name) < 0)
		return err_set(e, -ENOMEM, "remove: out of memory");
	if (!keep)
		keep = stg_run_skips(p->run, buf_view(&p->path)) ||
		       protected(m->levels[m->n - 1].filter, buf_view(&p->path), is_dir, true);
	m->last_kept = keep;
	if (keep) {
		keep_level(p, m);
		return 0;
	}
	/* A directory is dealt with when the listing leaves it. */
	if (is_dir)
		return 0;
	if (!stg_run_may_delete(p->run)) {
		m->levels[m->n - 1].left = true;
		return 0;
	}
	return put_remove(p, buf_view(&m->path), t->name, false, &below, e);
}

/* The next ENTER goes into the directory that was listed last. */
static int enter_dir(struct peer *p, struct stg_removing *m, struct err *e)
{
	if (m->skip || m->last_kept) {
		m->skip++;
		return 0;
	}
	if ((m->path.n && buf_put_u8(&m->path, '/') < 0) ||
	    buf_put_bytes(&m->path, buf_view(&m->last)) < 0)
		return err_set(e, -ENOMEM, "remove: out of memory");
	return push_level(p, m, m->levels[m->n - 1].filter, e);
}

/* path without its last component, and that component. */
static void split(struct bytes path, struct bytes *ret_dir, struct bytes *ret_name)
{
	const uint8_t *slash = path.n ? memrchr(path.p, '/', path.n) : NULL;
	size_t n = slash ? (size_t)(slash - path.p) : 0;

	*ret_dir = bytes_of(path.p, n);
	*ret_name = slash ? bytes_of(slash + 1, path.n - n - 1) : path;
}

/* 1: the directory goes; 0: it stays. */
static int leave_dir(struct peer *p, struct stg_removing *m, const struct flight *f,
		     struct err *e)
{
	struct level level = m->levels[--m->n];
	struct bytes dir, name;
	int r = 0;

	if (!level.kept && level.left)
		atomic_fetch_add(&p->run->count.left, 1);
	else if (!level.kept)
		level.left = !stg_run_may_delete(p->run);

	stg_filter_dir_unref(level.filter);
	split(buf_view(&m->path), &dir, &name);
	if (!level.kept && !level.left)
		r = put_remove(p, dir, name, true, f, e);
	if (m->n) {
		m->levels[m->n - 1].kept |= level.kept;
		m->levels[m->n - 1].left |= level.left;
		m->path.n = m->levels[m->n - 1].path_n;
	}
	return r < 0 ? r : !level.kept && !level.left;
}

static int remove_item(struct peer *p, struct stg_removing *m, const struct tp_item_entry *t,
		       struct err *e)
{
	static const struct flight below = { .kind = FLIGHT_BELOW };

	switch (t->kind) {
	case TP_ITEM_ENTRY:
		return m->skip ? 0 : remove_entry(p, m, t, e);
	case TP_ITEM_ENTER:
		return enter_dir(p, m, e);
	case TP_ITEM_LEAVE:
		if (m->skip) {
			/* What follows is no ENTER of the kept directory: an ENTRY comes first. */
			m->skip--;
			return 0;
		}
		if (m->n < 2)
			return err_set(e, -ERR_PROTOCOL, "a listing leaves more than it entered");
		return MIN(leave_dir(p, m, &below, e), 0);
	default:
		/* TP_ITEM_FAIL: what could not be listed is not removed. */
		m->levels[m->n - 1].kept = true;
		return 0;
	}
}

static int remove_items(struct peer *p, struct slot *s, struct bytes items, struct err *e)
{
	struct reader rd = reader_of(items);
	struct tp_item_entry t;
	int n, r = 0;

	while (r == 0 && (n = tp_get_item(&rd, &t, e)) != 0)
		r = n < 0 ? n : remove_item(p, s->removing, &t, e);
	return r;
}

static int end_removal(struct peer *p, struct slot *s, uint32_t error, struct err *e)
{
	struct flight f = { .kind = FLIGHT_REMOVED, .job = s->job, .item = s->item };
	struct stg_removing *m = s->removing;
	bool kept;
	int r;

	if (m->n != 1)
		return err_set(e, -ERR_PROTOCOL, "a listing ends inside a directory");
	kept = m->levels[0].kept;
	if (error && error != ENOENT) {
		peer_item_failed(p, s->job, s->item, "list on the target", -(int)error,
				 strerror((int)error));
		peer_slot_free(p, s);
		return 0;
	}
	if (kept) {
		char text[TEXT_NAME_MAX];

		log_info("%s is kept on the target: something in it is protected",
			 text_name(text, buf_view(&m->path)));
	}
	/* What is gone already costs nothing of --max-delete. */
	r = error ? 0 : leave_dir(p, m, &f, e);
	if (r == 0) {
		r = stg_catalog_forget(p->run->catalog, s->item->dir, s->item->name, e);
		peer_item_done(p, s->job, s->item);
	}
	peer_slot_free(p, s);
	return MIN(r, 0);
}

int peer_on_listing(struct peer *p, const struct tp_frame *f, struct err *e)
{
	struct slot *s = f->slot < PEER_SLOTS ? &p->slots[f->slot] : NULL;
	bool last = (f->flags & TP_F_LAST) != 0;
	uint32_t error = 0;
	int r = 0;

	if (!s || (s->kind != SLOT_COMPARE && s->kind != SLOT_REMOVE))
		return err_set(e, -ERR_PROTOCOL, "a listing that was not asked for");
	if (last && f->payload.n) {
		struct reader rd = reader_of(f->payload);

		error = reader_le32(&rd);
	} else if (s->kind == SLOT_COMPARE) {
		if (buf_len(&s->data) > LISTING_MAX)
			return err_set(e, -ERR_PROTOCOL, "the listing of one directory is larger "
				       "than %u bytes", LISTING_MAX);
		if (buf_put_bytes(&s->data, f->payload) < 0)
			return err_set(e, -ENOMEM, "compare: out of memory");
	} else {
		r = remove_items(p, s, f->payload, e);
	}
	if (r < 0 || !last)
		return r;
	if (s->kind == SLOT_REMOVE)
		return end_removal(p, s, error, e);
	return end_compare(p, s, is_absent(error) ? 0 : (int)error, e);
}
