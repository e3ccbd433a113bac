/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "common/io.h"
#include "common/log.h"
#include "stager/filter.h"
#include "stager/inuse.h"
#include "stager/mounts.h"
#include "stager/rename.h"
#include "stager/run.h"
#include "stager/verify.h"

/*
 * Directories still to be read are a stack that the threads share: depth first, so that it
 * stays short.  For each directory: read its names, stat them, sort, and merge with the rows
 * of the catalog, which come sorted too.  Whatever differs becomes an item of a job.
 *
 * A directory must be marked dirty in the catalog, and the mark committed, before anything
 * in it is sent.  A commit for each directory would cost more than the rest, so a thread
 * holds jobs back until it has so many of them or their items, or has nothing else to do.
 */
#define DENTS_BYTES (256u << 10)
#define HELD_JOBS   512
#define HELD_ITEMS  4096

struct task {
	struct task *next;
	uint64_t id, parent;
	uint32_t depth;
	bool dirty;   /* the row says that its state on the target is unsure */
	bool fresh;   /* the target has no such directory yet */
	bool changed; /* its own metadata differs from the row */
	struct stg_filter_dir *filter; /* of the parent; NULL: this is the root */
	struct stg_stat st;
	size_t name_at, path_n; /* the name is the path's end */
	uint8_t path[];
};

struct found {
	size_t name_at, name_n;
	struct stg_stat st;
};

struct stg_scan {
	struct stg_run *run;
	struct stg_scan_visitor visitor;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct task *stack;
	size_t unfinished; /* tasks on the stack or being worked on */
	unsigned running;  /* threads that have not ended */
	unsigned threads_n;
	pthread_t *threads;
};

/* What one thread keeps from directory to directory. */
struct walker {
	struct stg_scan *scan;
	struct stg_run *run;
	struct stg_catalog_reader *reader;
	struct stg_rows rows;
	uint8_t *dents;
	struct buf names, path;
	struct found *found;
	const struct found **sorted;
	size_t found_n, found_cap;
	struct stg_job *held[HELD_JOBS];
	size_t held_n, held_items;
};

static struct bytes task_path(const struct task *t)
{
	return bytes_of(t->path, t->path_n);
}

static struct bytes task_name(const struct task *t)
{
	return bytes_of(t->path + t->name_at, t->path_n - t->name_at);
}

/* --- the stack --- */

static struct task *task_new(struct bytes dir, struct bytes name)
{
	size_t n = dir.n + (dir.n ? 1 : 0) + name.n;
	struct task *t = calloc(1, sizeof(*t) + n + 1);

	if (!t)
		return NULL;
	t->path_n = n;
	t->name_at = n - name.n;
	if (dir.n) {
		memcpy(t->path, dir.p, dir.n);
		t->path[dir.n] = '/';
	}
	if (name.n)
		memcpy(t->path + t->name_at, name.p, name.n);
	return t;
}

static void task_free(struct task *t)
{
	if (t->filter)
		stg_filter_dir_unref(t->filter);
	free(t);
}

static void push_tasks(struct stg_scan *s, struct task *first, struct task *last, size_t n)
{
	pthread_mutex_lock(&s->lock);
	last->next = s->stack;
	s->stack = first;
	s->unfinished += n;
	pthread_cond_broadcast(&s->more);
	pthread_mutex_unlock(&s->lock);
}

/*
 * The next directory, or NULL: the walk has ended.  *ret_idle: there is none now, but
 * another thread may find some.
 */
static struct task *pop_task(struct stg_scan *s, bool wait, bool *ret_idle)
{
	struct task *t;

	*ret_idle = false;
	pthread_mutex_lock(&s->lock);
	while (wait && !s->stack && s->unfinished && !stg_queue_stopped(s->run->queue))
		pthread_cond_wait(&s->more, &s->lock);
	t = s->stack;
	if (t)
		s->stack = t->next;
	else
		*ret_idle = s->unfinished != 0;
	pthread_mutex_unlock(&s->lock);
	return t;
}

static void finish_task(struct stg_scan *s, struct task *t)
{
	task_free(t);
	pthread_mutex_lock(&s->lock);
	if (--s->unfinished == 0)
		pthread_cond_broadcast(&s->more);
	pthread_mutex_unlock(&s->lock);
}

/* --- reading a directory --- */

static int scan_error(struct walker *w, const struct task *t, struct bytes name,
		      const char *operation, int code)
{
	atomic_fetch_add(&w->run->count.scan_errors, 1);
	stg_run_entry_error(w->run, task_path(t), name, operation, code, strerror(-code));
	return 0;
}

static int add_found(struct walker *w, struct bytes name, const struct statx *stx)
{
	struct found *f;

	if (w->found_n == w->found_cap) {
		size_t cap = w->found_cap ? w->found_cap * 2 : 256;
		struct found *v = reallocarray(w->found, cap, sizeof(*v));
		const struct found **sorted;

		if (!v)
			return -ENOMEM;
		w->found = v;
		sorted = reallocarray(w->sorted, cap, sizeof(*sorted));
		if (!sorted)
			return -ENOMEM;
		w->sorted = sorted;
		w->found_cap = cap;
	}
	f = &w->found[w->found_n];
	f->name_at = w->names.n;
	f->name_n = name.n;
	if (buf_put_bytes(&w->names, name) < 0)
		return -ENOMEM;
	stg_stat_from_statx(stx, &f->st);
	w->found_n++;
	return 0;
}

static struct bytes found_name(const struct walker *w, const struct found *f)
{
	return bytes_of(w->names.p + f->name_at, f->name_n);
}

static bool is_own(const struct task *t, struct bytes name)
{
	return t->path_n == 0 && bytes_eq(name, bytes_str(TP_OWN_DIR));
}

/* Stat one name, ask the filter, keep it.  Only -ENOMEM and visitor errors end the walk. */
static int look_at(struct walker *w, const struct task *t, int fd, const char *name_z,
		   struct stg_filter_dir *filter, struct err *e)
{
	const struct stg_scan_visitor *v = &w->scan->visitor;
	struct bytes name = bytes_str(name_z);
	struct statx stx;
	int r;

	if (statx(fd, name_z, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &stx) < 0)
		/* Gone between two system calls: as if it had gone before. */
		return errno == ENOENT ? 0 : scan_error(w, t, name, "stat", -errno);
	if (is_own(t, name)) {
		log_info("%s at the source root is the product's own name: skipped", TP_OWN_DIR);
		return 0;
	}
	if (stg_path_join(&w->path, task_path(t), name) < 0)
		return err_set(e, -ENOMEM, "scan: out of memory");
	if (stg_run_skips(w->run, buf_view(&w->path)))
		return 0;
	if (!stg_filter_sends(filter, buf_view(&w->path), S_ISDIR(stx.stx_mode))) {
		if (v->hidden)
			return v->hidden(v->arg, buf_view(&w->path), S_ISDIR(stx.stx_mode), e);
		return 0;
	}
	r = add_found(w, name, &stx);
	if (r < 0)
		return err_set(e, r, "scan: out of memory");
	if (v->visit)
		return v->visit(v->arg, buf_view(&w->path), &w->found[w->found_n - 1].st, e);
	return 0;
}

/* 1: all names were read; 0: not all could be, which was reported; negative: the end. */
static int read_names(struct walker *w, const struct task *t, int fd,
		      struct stg_filter_dir *filter, struct err *e)
{
	int r = 0;

	for (;;) {
		long n = syscall(SYS_getdents64, fd, w->dents, DENTS_BYTES);

		if (n < 0)
			return scan_error(w, t, bytes_of("", 0), "read directory", -errno);
		if (n == 0)
			return 1;
		for (long at = 0; at < n && r == 0;) {
			struct dirent64 *d = (struct dirent64 *)(void *)(w->dents + at);

			at += d->d_reclen;
			if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
				r = look_at(w, t, fd, d->d_name, filter, e);
		}
		if (r < 0)
			return r;
	}
}

/*
 * With --path: the names in directory `path` that lead to a selected one.  1: path lies
 * above them and *only these* names count; 0: it is selected, or everything is.
 */
static int read_selected(struct walker *w, const struct task *t, int fd,
			 struct stg_filter_dir *filter, struct err *e)
{
	struct bytes path = task_path(t);
	bool above = false;
	int r = 0;

	for (size_t i = 0; i < w->run->paths_n && r == 0; i++) {
		struct bytes want = bytes_str(w->run->paths[i]);
		char name[NAME_MAX + 1];
		size_t at = path.n ? path.n + 1 : 0, n;

		if (!want.n || (want.n <= path.n && !memcmp(want.p, path.p, want.n) &&
				(want.n == path.n || path.p[want.n] == '/')))
			return 0;
		if (want.n <= path.n || memcmp(want.p, path.p, path.n) != 0 ||
		    (path.n && want.p[path.n] != '/'))
			continue;
		above = true;
		n = strcspn((const char *)want.p + at, "/");
		if (n > NAME_MAX)
			continue;
		memcpy(name, want.p + at, n);
		name[n] = '\0';
		for (size_t k = 0; k < w->found_n; k++)
			if (bytes_eq(found_name(w, &w->found[k]), bytes_str(name)))
				n = 0;
		if (n)
			r = look_at(w, t, fd, name, filter, e);
	}
	return r < 0 ? r : above;
}

static int by_name(const void *a, const void *b, void *arg)
{
	const struct walker *w = arg;

	return bytes_cmp(found_name(w, *(const struct found *const *)a),
			 found_name(w, *(const struct found *const *)b));
}

static void sort_found(struct walker *w)
{
	for (size_t i = 0; i < w->found_n; i++)
		w->sorted[i] = &w->found[i];
	if (w->found_n)
		qsort_r(w->sorted, w->found_n, sizeof(struct found *), by_name, w);
}

/* --- jobs --- */

static int push_held(struct walker *w, struct err *e)
{
	int r;

	if (!w->held_n)
		return 0;
	r = stg_catalog_commit(w->run->catalog, e);
	for (size_t i = 0; i < w->held_n; i++) {
		if (r == 0)
			r = stg_queue_push(w->run->queue, w->held[i]);
		else
			stg_job_free(w->held[i]);
	}
	w->held_n = w->held_items = 0;
	return r;
}

static int hold_job(struct walker *w, struct stg_job *j, struct err *e)
{
	stg_job_seal(j);
	/* What is not read is no reason to leave jobs to other sessions. */
	if (w->run->verify && w->run->verify->method == STG_VERIFY_QUICK)
		j->content = 0;
	w->held[w->held_n++] = j;
	w->held_items += j->n;
	/* While sessions have nothing to do, batching would only make them wait. */
	if (w->held_n == HELD_JOBS || w->held_items >= HELD_ITEMS ||
	    stg_queue_waiting(w->run->queue, NULL) == 0)
		return push_held(w, e);
	return 0;
}

/* The work that one directory makes. */
struct plan {
	struct task *task;
	struct stg_filter_dir *filter;
	struct stg_job *job;
	uint64_t content; /* bytes of the files in job */
	bool compare;     /* the target's own listing decides */
	bool marked;
	bool mount; /* another file system is on it: what it holds is not ours */
	bool above; /* it lies above --path, and its mark of an earlier run must stay */
	bool selected; /* it lies above --path: just some of its names were looked at */
	struct task *first, *last; /* sub-directories */
	size_t tasks_n;
};

/* Something in the directory is going to change: mark it, once. */
static int mark(struct walker *w, struct plan *p, struct err *e)
{
	struct task *t = p->task;

	/* What an earlier run left unsure about it, this one does not look at. */
	if (p->marked || p->above || w->run->dry || w->run->verify)
		return 0;
	p->marked = true;
	return stg_catalog_mark_dirty(w->run->catalog, t->parent, task_name(t), t->id,
				      task_path(t), t->depth, &t->st, w->run->phase.id, e);
}

static int begin_job(struct walker *w, struct plan *p, struct err *e)
{
	int r = mark(w, p, e);

	if (r == 0)
		r = stg_job_new(p->compare ? STG_JOB_COMPARE : STG_JOB_ITEMS, &p->job, e);
	if (r == 0)
		r = stg_job_set_dir(p->job, p->task->id, task_path(p->task), e);
	if (r == 0 && w->run->verify) {
		p->job->filter = stg_filter_dir_ref(p->filter);
		p->job->only_list = true;
		p->job->only_items = p->selected;
	} else if (r == 0 && p->compare) {
		p->job->filter = stg_filter_dir_ref(p->filter);
		p->job->filter_index = stg_run_keep_filter(w->run, p->filter, e);
		r = MIN(p->job->filter_index, 0);
	}
	p->content = 0;
	return r;
}

static int end_job(struct walker *w, struct plan *p, struct err *e)
{
	return p->job ? hold_job(w, TAKE_PTR(p->job), e) : 0;
}

static int add_item(struct walker *w, struct plan *p, const struct stg_item *item, struct err *e)
{
	struct stg_run *run = w->run;
	int r = 0;

	if (item->op != STG_OP_KEEP && item->op != STG_OP_ABSENT)
		stg_run_add_total(run, &item->st);
	if (run->dry)
		return 0;
	if (!p->job)
		r = begin_job(w, p, e);
	if (r == 0)
		r = stg_job_add(p->job, item, e);
	if (r < 0)
		return r;
	p->content += item->st.size;
	if (!p->compare &&
	    (p->job->n >= STG_JOB_ITEMS_MAX || p->content >= STG_JOB_CONTENT_MAX))
		return end_job(w, p, e);
	return 0;
}

static bool same_mtime(const struct stg_stat *a, const struct stg_stat *b)
{
	return a->mtime_s == b->mtime_s && a->mtime_ns == b->mtime_ns;
}

/* What has to happen to an entry of the source, given the row that the catalog has of it. */
static enum stg_op choose_op(const struct stg_run *run, const struct stg_stat *st,
			     const struct stg_row *row)
{
	if (!row)
		return STG_OP_SEND;
	/* What a process stores through a mapping need not show in the times. */
	if (stg_unchanged(row, st) &&
	    (!stg_is_reg(st) || !stg_inuse_has(run->inuse, st->dev, st->ino)))
		return STG_OP_KEEP;
	if (!stg_is_reg(st) || !stg_is_reg(&row->st))
		return STG_OP_SEND;
	if (row->state & STG_ROW_DEFECT)
		return STG_OP_UPDATE;
	/* To read a big file only to learn that it was written to takes too long. */
	if (row->st.size == st->size && (row->state & STG_ROW_HASHED) &&
	    !stg_stat_holes_differ(&row->st, st) &&
	    (!stg_bigfile_fits(st) || same_mtime(&row->st, st)))
		return STG_OP_TOUCH;
	return STG_OP_UPDATE;
}

/* 1: it waits for the target to have it moved; 0: it has to be sent. */
static int plan_move(struct walker *w, struct plan *p, const struct stg_item *item,
		     struct err *e)
{
	_cleanup_(stg_place_fini) struct stg_place place = { 0 };
	int r;

	if (!w->run->moving || p->compare || p->mount || !w->reader)
		return 0;
	r = stg_rename_find(w->run, w->reader, item, &place, e);
	if (r <= 0)
		return r;
	r = mark(w, p, e);
	return r < 0 ? r : stg_run_plan_move(w->run, item, &place, e);
}

/* The target has no such name: perhaps it has the inode.  1: nothing else is to be done now. */
static int plan_new(struct walker *w, struct plan *p, const struct found *f, struct err *e)
{
	const struct stg_item item = {
		.dir = p->task->id,
		.path = task_path(p->task),
		.name = found_name(w, f),
		.st = f->st,
		.is_dir = stg_is_dir(&f->st),
	};
	int r = plan_move(w, p, &item, e);

	if (r == 0 && w->reader && !p->mount)
		r = stg_rename_offer_leader(w->run, w->reader, &f->st, e);
	return r;
}

static int push_subdir(struct walker *w, struct plan *p, const struct found *f,
		       const struct stg_row *row, struct err *e)
{
	struct task *t = task_new(task_path(p->task), found_name(w, f));
	struct stg_run *run = w->run;
	bool known = row && row->child;

	if (!t)
		return err_set(e, -ENOMEM, "scan: out of memory");
	t->id = known ? row->child : run->dry || run->verify ? 0 : stg_catalog_new_dir_id(run->catalog);
	t->parent = p->task->id;
	t->depth = p->task->depth + 1;
	t->st = f->st;
	/* What the catalog lacks the target may have, where the catalog was not sure. */
	t->dirty = known ? (row->state & STG_ROW_DIRTY) : p->compare || run->compare_new;
	t->fresh = !known;
	t->changed = !known || !stg_unchanged(row, &f->st);
	t->filter = stg_filter_dir_ref(p->filter);
	t->next = p->first;
	p->first = t;
	if (!p->last)
		p->last = t;
	p->tasks_n++;
	return 0;
}

/*
 * What the removal of path would come to, as listing.c does it: what no rule protects, a
 * directory after what is in it.  dir: the node of the directory it lies in.  1: it stays.
 */
static int dry_removal(struct walker *w, struct stg_filter_dir *dir, struct bytes path,
		       const struct stg_row *row, struct err *e)
{
	const struct stg_scan_visitor *v = &w->scan->visitor;
	_cleanup_(stg_filter_dir_unrefp) struct stg_filter_dir *node = NULL;
	_cleanup_(stg_rows_fini) struct stg_rows rows = { 0 };
	_cleanup_(buf_fini) struct buf below = BUF_INIT;
	bool is_dir = stg_is_dir(&row->st), stays = false;
	int r = 0;

	if (is_dir && row->child) {
		r = stg_filter_enter(w->run->filter, dir, -1, path, &node, e);
		if (r == 0)
			r = stg_catalog_read_dir(w->reader, row->child, &rows, e);
	}
	for (size_t i = 0; r == 0 && i < rows.n; i++) {
		const struct stg_named_row *n = &rows.v[i];

		if (stg_path_join(&below, path, n->name) < 0)
			return err_set(e, -ENOMEM, "scan: out of memory");
		r = stg_filter_protects(node, buf_view(&below), stg_is_dir(&n->row.st), true);
		if (r == 0)
			r = dry_removal(w, node, buf_view(&below), &n->row, e);
		stays |= r > 0;
		r = MIN(r, 0);
	}
	if (r < 0 || stays)
		return r < 0 ? r : 1;
	atomic_fetch_add_explicit(&w->run->count.planned_removals, 1, memory_order_relaxed);
	return v->removal ? v->removal(v->arg, path, is_dir, e) : 0;
}

/* row: what the catalog has of it. */
static int plan_removal(struct walker *w, struct plan *p, struct bytes name,
			const struct stg_row *row, struct err *e)
{
	bool is_dir = stg_is_dir(&row->st);
	int r;

	if (w->run->dry) {
		_cleanup_(buf_fini) struct buf path = BUF_INIT;

		if (stg_path_join(&path, task_path(p->task), name) < 0)
			return err_set(e, -ENOMEM, "scan: out of memory");
		return MIN(dry_removal(w, p->filter, buf_view(&path), row, e), 0);
	}
	atomic_fetch_add_explicit(&w->run->count.planned_removals, 1, memory_order_relaxed);
	r = mark(w, p, e);
	if (r < 0)
		return r;
	r = stg_run_keep_filter(w->run, p->filter, e);
	if (r >= 0)
		r = stg_run_plan_removal(w->run, p->task->id, task_path(p->task), name, is_dir, r,
					 e);
	return r;
}

/* The target has a directory where the source has something else now. */
static int plan_replaced_dir(struct walker *w, struct plan *p, struct stg_item *item,
			     const struct stg_row *row, struct err *e)
{
	int r = w->run->delete ? plan_removal(w, p, item->name, row, e) : mark(w, p, e);

	stg_run_add_total(w->run, &item->st);
	if (r < 0 || w->run->dry)
		return r;
	item->op = STG_OP_SEND;
	item->has_old = false;
	item->path = task_path(p->task);
	return stg_run_again(w->run, item, e);
}

/* It only leads to what was asked for. */
static bool leads_to_path(const struct walker *w, struct bytes path)
{
	for (size_t i = 0; i < w->run->paths_n; i++)
		if (stg_path_below(path, bytes_str(w->run->paths[i])))
			return false;
	return w->run->only_paths;
}

/* In a verification every entry is looked at, and sub-directories are gone into. */
static int plan_check(struct walker *w, struct plan *p, struct stg_item *item,
		      const struct found *f, const struct stg_row *row, struct err *e)
{
	int r = 0;

	item->op = STG_OP_CHECK;
	if (row)
		stg_item_set_old(item, row);
	if (stg_is_dir(&f->st))
		r = push_subdir(w, p, f, row && stg_is_dir(&row->st) ? row : NULL, e);
	if (r < 0)
		return r;
	if (stg_path_join(&w->path, task_path(p->task), item->name) < 0)
		return err_set(e, -ENOMEM, "scan: out of memory");
	if (p->selected && leads_to_path(w, buf_view(&w->path)))
		return 0;
	return add_item(w, p, item, e);
}

static int plan_entry(struct walker *w, struct plan *p, const struct found *f,
		      const struct stg_row *row, struct err *e)
{
	struct stg_item item = {
		.dir = p->task->id,
		.name = found_name(w, f),
		.st = f->st,
	};
	int r = 0;

	atomic_fetch_add_explicit(&w->run->count.scanned, 1, memory_order_relaxed);
	if (w->run->verify)
		return plan_check(w, p, &item, f, row, e);
	if (f->st.flags)
		atomic_store_explicit(&w->run->locked, true, memory_order_relaxed);
	if (!row) {
		r = plan_new(w, p, f, e);
		if (r != 0)
			return MIN(r, 0);
	}
	if (stg_is_dir(&f->st)) {
		r = push_subdir(w, p, f, row && stg_is_dir(&row->st) ? row : NULL, e);
		item.op = STG_OP_KEEP;
		item.has_old = row && stg_is_dir(&row->st) && !(row->state & STG_ROW_DIRTY);
		if (r == 0 && p->compare)
			r = add_item(w, p, &item, e);
		return r;
	}
	atomic_fetch_add_explicit(&w->run->count.scanned_bytes, f->st.size,
				  memory_order_relaxed);
	item.op = choose_op(w->run, &f->st, row);
	if (item.op == STG_OP_KEEP) {
		if (w->run->resumed)
			atomic_fetch_add_explicit(&w->run->count.acked_before, 1,
						  memory_order_relaxed);
		if (!p->compare)
			return 0;
	}
	if (row)
		stg_item_set_old(&item, row);
	/* A directory that became something else makes room in the removal stage. */
	if (row && stg_is_dir(&row->st) && !p->compare)
		return plan_replaced_dir(w, p, &item, row, e);
	return add_item(w, p, &item, e);
}

/* The catalog has name, the source has it no more, or the filter hides it now. */
static int plan_gone(struct walker *w, struct plan *p, const struct stg_named_row *gone,
		     struct err *e)
{
	bool is_dir = stg_is_dir(&gone->row.st);

	if (!w->run->delete)
		return 0;
	if (stg_path_join(&w->path, task_path(p->task), gone->name) < 0)
		return err_set(e, -ENOMEM, "scan: out of memory");
	if (stg_run_skips(w->run, buf_view(&w->path)))
		return 0;
	if (w->run->verify)
		return stg_filter_protects(p->filter, buf_view(&w->path), is_dir, false) ? 0 :
			add_item(w, p, &(struct stg_item){ .op = STG_OP_ABSENT,
							   .name = gone->name }, e);
	/* A comparison finds it on the target, or it is gone there too. */
	if (p->compare && !w->run->dry) {
		int r = mark(w, p, e);

		return r < 0 ? r : stg_catalog_forget(w->run->catalog, p->task->id, gone->name, e);
	}
	if (stg_filter_protects(p->filter, buf_view(&w->path), is_dir, false))
		return 0;
	return plan_removal(w, p, gone->name, &gone->row, e);
}

/*
 * A row counts as acknowledged unless the target was restarted since and may have lost it:
 * then the entry is compared by content again.
 */
static void distrust_row(const struct stg_run *run, struct stg_row *row)
{
	bool lost = run->distrust && row->epoch > run->durable;

	if (!lost && !(run->distrust_locked && row->st.flags))
		return;
	row->state &= (uint8_t)~STG_ROW_CLEAN;
	if (lost)
		row->state &= (uint8_t)~STG_ROW_HASHED;
	/* What was removed from a directory may be back. */
	if (stg_is_dir(&row->st))
		row->state |= STG_ROW_DIRTY;
}

static void distrust(const struct stg_run *run, struct stg_rows *rows)
{
	if (!run->distrust && !run->distrust_locked)
		return;
	for (size_t i = 0; i < rows->n; i++)
		distrust_row(run, &rows->v[i].row);
}

/* selected: only some names were looked at, so a missing one tells nothing. */
static int merge(struct walker *w, struct plan *p, bool selected, struct err *e)
{
	size_t i = 0, k = 0;
	int r = 0;

	while (r == 0 && (i < w->found_n || k < w->rows.n)) {
		int c = i == w->found_n ? 1 : k == w->rows.n ? -1 :
			bytes_cmp(found_name(w, w->sorted[i]), w->rows.v[k].name);

		if (c < 0) {
			r = plan_entry(w, p, w->sorted[i++], NULL, e);
		} else if (c > 0) {
			r = selected ? 0 : plan_gone(w, p, &w->rows.v[k], e);
			k++;
		} else {
			r = plan_entry(w, p, w->sorted[i++], &w->rows.v[k].row, e);
			k++;
		}
	}
	return r;
}

/* The sub-directories, to whoever is free. */
static int hand_on(struct walker *w, struct plan *p)
{
	if (p->tasks_n)
		push_tasks(w->scan, p->first, p->last, p->tasks_n);
	p->first = NULL;
	return 0;
}

/* An empty job still makes the directory on the target, or compares what is in it. */
static int plan_directory(struct walker *w, struct plan *p, bool selected, struct err *e)
{
	struct task *t = p->task;
	struct stg_run *run = w->run;
	int r;

	w->rows.n = 0;
	if (w->reader && !t->fresh) {
		r = stg_catalog_read_dir(w->reader, t->id, &w->rows, e);
		if (r < 0)
			return r;
		distrust(run, &w->rows);
	}
	/* What lies in the way of a selected path is compared by name only. */
	p->above = selected && !p->mount && t->dirty;
	p->compare = !selected && (run->compare || t->dirty);
	p->selected = selected;
	if (run->verify)
		p->compare = !p->mount;
	r = merge(w, p, selected, e);
	/* What is in a directory that only leads to a path is not looked at. */
	if (run->verify && !p->job && selected)
		return r < 0 ? r : hand_on(w, p);
	if (r == 0 && !p->job && (p->compare || t->fresh || t->dirty || t->changed) && !run->dry)
		r = begin_job(w, p, e);
	if (r == 0)
		r = end_job(w, p, e);
	return r < 0 ? r : hand_on(w, p);
}

static int scan_directory(struct walker *w, struct task *t, struct err *e)
{
	struct plan p = { .task = t };
	_cleanup_close_ int fd = -1;
	int selected = 0, r;

	if (t->path_n && stg_mounts_kind(w->run->mounts, task_path(t)) == STG_MOUNT_OTHER) {
		/* Like rsync -x: the mount point is there, what is mounted on it is not ours. */
		w->found_n = 0;
		p.mount = true;
		p.filter = stg_filter_dir_ref(t->filter);
		r = plan_directory(w, &p, true, e);
		goto done;
	}
	fd = io_open_dir_below(w->run->source_fd, task_path(t), O_RDONLY);
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP || fd == -EXDEV)
		return 0; /* gone, or something else, since its parent was read */
	if (fd < 0)
		return scan_error(w, t, bytes_of("", 0), "open directory", fd);
	r = stg_filter_enter(w->run->filter, t->filter, fd, task_path(t), &p.filter, e);
	if (r < 0)
		return r;
	w->found_n = 0;
	buf_clear(&w->names);
	selected = read_selected(w, t, fd, p.filter, e);
	r = selected ? selected : read_names(w, t, fd, p.filter, e);
	/* Of a directory that was not read to its end nothing is known: leave it alone. */
	if (r > 0) {
		sort_found(w);
		r = plan_directory(w, &p, selected, e);
	}
done:
	stg_job_free(p.job);
	while (p.first) {
		struct task *next = p.first->next;

		task_free(p.first);
		p.first = next;
	}
	if (p.filter)
		stg_filter_dir_unref(p.filter);
	return r;
}

/* --- threads --- */

static void walker_fini(struct walker *w)
{
	for (size_t i = 0; i < w->held_n; i++)
		stg_job_free(w->held[i]);
	stg_catalog_reader_close(w->reader);
	stg_rows_fini(&w->rows);
	free(w->dents);
	buf_fini(&w->names);
	buf_fini(&w->path);
	free(w->found);
	free(w->sorted);
}

static int walk(struct walker *w, struct err *e)
{
	int r = 0;

	w->dents = malloc(DENTS_BYTES);
	if (!w->dents)
		return err_set(e, -ENOMEM, "scan: out of memory");
	if (w->run->catalog)
		r = stg_catalog_reader_open(w->run->catalog, &w->reader, e);
	while (r == 0 && !stg_queue_stopped(w->run->queue)) {
		bool idle;
		struct task *t = pop_task(w->scan, false, &idle);

		if (!t) {
			/* Do not sit on work while waiting for more. */
			r = push_held(w, e);
			if (r < 0 || !idle)
				break;
			t = pop_task(w->scan, true, &idle);
			if (!t)
				break;
		}
		r = scan_directory(w, t, e);
		finish_task(w->scan, t);
	}
	return r < 0 ? r : push_held(w, e);
}

static void *walker_main(void *arg)
{
	struct walker w = { .scan = arg, .run = ((struct stg_scan *)arg)->run };
	struct stg_scan *s = arg;
	struct err e = { 0 };
	int r = walk(&w, &e);

	if (r < 0 && r != -ERR_CANCELLED)
		stg_run_fail(w.run, &e);
	walker_fini(&w);
	pthread_mutex_lock(&s->lock);
	/* After an error the others wait for work that will not come. */
	if (r < 0)
		pthread_cond_broadcast(&s->more);
	r = (int)--s->running;
	pthread_mutex_unlock(&s->lock);
	if (r == 0) {
		atomic_store(&w.run->scanning, false);
		pthread_mutex_lock(&w.run->lock);
		pthread_cond_broadcast(&w.run->changed);
		pthread_mutex_unlock(&w.run->lock);
	}
	return NULL;
}

static int push_root(struct stg_scan *s, struct err *e)
{
	struct stg_run *run = s->run;
	struct task *t = task_new(bytes_of("", 0), bytes_of("", 0));
	struct stg_catalog_reader *reader = NULL;
	struct stg_row row;
	struct statx stx;
	int known = 0;

	if (!t)
		return err_set(e, -ENOMEM, "scan: out of memory");
	if (statx(run->source_fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx) < 0) {
		free(t);
		return err_sys(e, "stat the source root");
	}
	if (run->catalog)
		known = stg_catalog_reader_open(run->catalog, &reader, e);
	if (reader)
		known = stg_catalog_read_one(reader, 0, bytes_of("", 0), &row, e);
	stg_catalog_reader_close(reader);
	if (known < 0) {
		free(t);
		return known;
	}
	stg_stat_from_statx(&stx, &t->st);
	if (t->st.flags)
		atomic_store(&run->locked, true);
	if (known)
		distrust_row(run, &row);
	t->id = STG_ROOT_ID;
	t->fresh = !known;
	t->dirty = known && (row.state & STG_ROW_DIRTY);
	t->changed = !known || !stg_unchanged(&row, &t->st);
	push_tasks(s, t, t, 1);
	return 0;
}

int stg_scan_start(struct stg_run *run, unsigned threads, const struct stg_scan_visitor *visitor,
		   struct stg_scan **ret, struct err *e)
{
	struct stg_scan *s = calloc(1, sizeof(*s));
	int r = 0;

	if (s)
		s->threads = calloc(threads, sizeof(*s->threads));
	if (!s || !s->threads) {
		free(s);
		return err_set(e, -ENOMEM, "scan: out of memory");
	}
	s->run = run;
	if (visitor)
		s->visitor = *visitor;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->more, NULL);
	r = push_root(s, e);
	s->running = threads;
	atomic_store(&run->scanning, true);
	for (unsigned i = 0; i < threads && r == 0; i++) {
		r = -pthread_create(&s->threads[i], NULL, walker_main, s);
		if (r < 0)
			err_sysn(e, r, "start scanner thread");
		else
			s->threads_n++;
	}
	if (r < 0) {
		stg_queue_stop(run->queue);
		stg_scan_join(s);
		return r;
	}
	*ret = s;
	return 0;
}

void stg_scan_join(struct stg_scan *s)
{
	for (unsigned i = 0; i < s->threads_n; i++)
		pthread_join(s->threads[i], NULL);
	while (s->stack) {
		struct task *t = s->stack;

		s->stack = t->next;
		task_free(t);
	}
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->more);
	free(s->threads);
	free(s);
}
