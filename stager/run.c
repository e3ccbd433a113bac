/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/run.h"

#include <errno.h>
#include <stdlib.h>

#include "common/log.h"
#include "common/text.h"
#include "stager/filter.h"
#include "stager/progress.h"
#include "stager/verify.h"

#define RECENT_NODES 64
#define MOVES_MAX    10000 /* planned at once: their names are held in memory */

void stg_run_fail(struct stg_run *run, const struct err *e)
{
	pthread_mutex_lock(&run->lock);
	if (!run->error.code)
		run->error = *e;
	pthread_cond_broadcast(&run->changed);
	pthread_mutex_unlock(&run->lock);
	atomic_store(&run->stopping, true);
	stg_queue_stop(run->queue);
}

bool stg_run_failed(struct stg_run *run)
{
	bool failed;

	pthread_mutex_lock(&run->lock);
	failed = run->error.code != 0;
	pthread_mutex_unlock(&run->lock);
	return failed;
}

void stg_run_entry_error(struct stg_run *run, struct bytes dir, struct bytes name,
			 const char *operation, int code, const char *message)
{
	_cleanup_(buf_fini) struct buf path = BUF_INIT;
	struct stg_report_item item = {
		.operation = operation,
		.code = code,
		.message = message,
	};
	char text[TEXT_NAME_MAX];

	if (stg_path_join(&path, dir, name) == 0)
		item.path = buf_view(&path);
	atomic_fetch_add(&run->count.failed, 1);
	log_error("%s: %s: %s", text_name(text, item.path), operation, message);
	if (run->report)
		stg_report_add_error(run->report, &item);
}

int stg_run_again(struct stg_run *run, const struct stg_item *item, struct err *e)
{
	struct stg_job *job;
	int r = 0;

	pthread_mutex_lock(&run->lock);
	if (!run->again || run->again->n >= STG_JOB_ITEMS_MAX) {
		r = stg_job_new(STG_JOB_ITEMS, &job, e);
		if (r == 0) {
			job->next = run->again;
			run->again = job;
		}
	}
	if (r == 0)
		r = stg_job_add(run->again, item, e);
	pthread_mutex_unlock(&run->lock);
	return r;
}

void stg_run_drop_again(struct stg_run *run)
{
	while (run->again) {
		struct stg_job *next = run->again->next;

		stg_job_free(run->again);
		run->again = next;
	}
}

int stg_run_plan_move(struct stg_run *run, const struct stg_item *item,
		      const struct stg_place *place, struct err *e)
{
	struct stg_item move = *item;
	int r = 0;

	move.op = STG_OP_MOVE;
	move.old_dir = place->dir;
	move.leader_path = buf_view(&place->path);
	move.leader = buf_view(&place->name);
	pthread_mutex_lock(&run->lock);
	if (!run->moves)
		r = stg_job_new(STG_JOB_ITEMS, &run->moves, e);
	if (r == 0 && run->moves->n < MOVES_MAX) {
		r = stg_job_add(run->moves, &move, e);
		r = r < 0 ? r : 1;
	}
	pthread_mutex_unlock(&run->lock);
	return r;
}

void stg_run_add_total(struct stg_run *run, const struct stg_stat *st)
{
	/* Of content that is not looked at nothing is to be done. */
	uint64_t bytes = run->verify && run->verify->method == STG_VERIFY_QUICK ? 0 : st->size;

	atomic_fetch_add_explicit(&run->count.planned, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&run->count.planned_bytes, bytes, memory_order_relaxed);
	if (run->progress)
		stg_progress_add_total(run->progress, 1, bytes);
}

int stg_run_plan_removal(struct stg_run *run, uint64_t dir, struct bytes path,
			 struct bytes name, bool is_dir, int filter, struct err *e)
{
	struct stg_removal m = {
		.dir = dir,
		.path = path,
		.name = name,
		.is_dir = is_dir,
		.filter = filter,
	};

	return stg_catalog_plan_removal(run->catalog, &m, e);
}

bool stg_run_may_delete(struct stg_run *run)
{
	if (!run->delete_limited || atomic_fetch_sub(&run->delete_left, 1) > 0)
		return true;
	atomic_fetch_add(&run->delete_left, 1);
	atomic_fetch_add(&run->count.left, 1);
	return false;
}

int stg_run_keep_filter(struct stg_run *run, struct stg_filter_dir *node, struct err *e)
{
	struct stg_filter_dir **v;
	int index = -1;

	pthread_mutex_lock(&run->lock);
	/* Most directories share the node of their parent: it is among the newest. */
	for (size_t i = run->filters_n; i && i + RECENT_NODES > run->filters_n && index < 0; i--)
		if (run->filters[i - 1] == node)
			index = (int)i - 1;
	if (index < 0) {
		v = reallocarray(run->filters, run->filters_n + 1, sizeof(struct stg_filter_dir *));
		if (v) {
			run->filters = v;
			run->filters[run->filters_n] = stg_filter_dir_ref(node);
			index = (int)run->filters_n++;
		}
	}
	pthread_mutex_unlock(&run->lock);
	return index >= 0 ? index : err_set(e, -ENOMEM, "plan removals: out of memory");
}

bool stg_path_below(struct bytes inner, struct bytes outer)
{
	return outer.n == 0 || (inner.n >= outer.n && !memcmp(inner.p, outer.p, outer.n) &&
				(inner.n == outer.n || inner.p[outer.n] == '/'));
}

bool stg_run_skips(const struct stg_run *run, struct bytes path)
{
	for (size_t i = 0; i < run->skip_n; i++)
		if (stg_path_below(path, bytes_str(run->skip[i])))
			return true;
	return false;
}

int stg_path_join(struct buf *out, struct bytes dir, struct bytes name)
{
	int r;

	buf_clear(out);
	r = buf_put_bytes(out, dir);
	if (r == 0 && dir.n && name.n)
		r = buf_put_u8(out, '/');
	if (r == 0)
		r = buf_put_bytes(out, name);
	return r;
}
