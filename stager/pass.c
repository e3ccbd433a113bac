/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/pass.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/text.h"
#include "stager/filter.h"
#include "stager/inuse.h"
#include "stager/migration.h"
#include "stager/mounts.h"
#include "stager/options.h"
#include "stager/scan.h"
#include "stager/sender.h"

/*
 * The order within a pass, and why:
 *
 *   scan and send    what is new or changed; whatever a directory is in the way of, waits
 *   move             what has another name now, on the target; then scan and send again
 *   remove           the delete plan, which is complete now; never after an unclean scan
 *   again            what waited for the removals
 *   links            further names of inodes, when their first name is there
 *   leftovers        temporary names of receivers that were killed
 *   directories      their metadata, deepest first: nothing in them changes any more
 *   sync             until the target says that all of it is on its disk
 */
#define SCAN_THREADS_MAX  8u
#define CUTOVER_PASSES    5
#define MOVE_ROUNDS       3 /* of walks, for what was renamed inside of what was renamed */
#define LOCK_PASSES       3 /* while connections break and the source has locked entries */
#define EPOCH_NS          (30 * 1000000000LL)
#define TICK_MS           100

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

/* --- time and counters --- */

void stg_pass_stats(struct stg_phase *ph, struct stg_phase_stats *ret)
{
	struct stg_counters *c = &ph->run.count;
	unsigned sessions;

	pthread_mutex_lock(&ph->run.lock);
	sessions = ph->run.most_ready;
	pthread_mutex_unlock(&ph->run.lock);
	*ret = (struct stg_phase_stats){
		.entries_scanned = atomic_load(&c->scanned),
		.entries_changed = atomic_load(&c->changed),
		.entries_deleted = atomic_load(&c->deleted),
		.entries_moved = atomic_load(&c->moved),
		.entries_skipped_by_hash = atomic_load(&c->skipped_by_hash),
		.entries_acked_before = atomic_load(&c->acked_before),
		.bytes_scanned = atomic_load(&c->scanned_bytes),
		.bytes_literal = atomic_load(&c->literal),
		.bytes_matched = atomic_load(&c->matched),
		.reconnects = atomic_load(&c->reconnects),
		.sessions = sessions,
	};
}

static int tick_epoch(struct stg_phase *ph, struct err *e);

/* Tell of the bandwidth limit when it changes, and in the beginning. */
static void tell_limit(struct stg_phase *ph)
{
	char text[STG_BWWINDOW_TEXT_MAX], size[32];
	struct stg_bwlimit_state now;
	const char *window;

	stg_bwlimit_get(ph->run.bwlimit, &now);
	if (ph->limit_told && now.bytes_per_s == ph->limit.bytes_per_s &&
	    now.window == ph->limit.window)
		return;
	window = now.window ? stg_bwwindow_text(text, now.window) : NULL;
	if (ph->limit_told)
		log_info("bandwidth limit: %s%s%s%s",
			 now.bytes_per_s ? text_size(size, now.bytes_per_s) : "none",
			 now.bytes_per_s ? "/s" : "", window ? ", window " : "",
			 window ? window : "");
	stg_report_add_bandwidth(ph->m->report, now.bytes_per_s, window);
	stg_progress_limit(&ph->m->progress, now.bytes_per_s, window);
	ph->limit = now;
	ph->limit_told = true;
}

/* What has to happen now and then while a phase runs. */
static int tick(struct stg_phase *ph, struct err *e)
{
	struct stg_phase_stats stats;
	int r;

	pthread_mutex_lock(&ph->run.lock);
	r = ph->run.error.code;
	if (r)
		*e = ph->run.error;
	pthread_mutex_unlock(&ph->run.lock);
	if (r)
		return r;
	/* Sessions that were connected sooner than the first one may begin now. */
	if (ph->senders && !ph->woken && atomic_load(&ph->run.admitted)) {
		stg_senders_wake(ph->senders);
		ph->woken = true;
	}
	if (ph->senders)
		stg_senders_tune(ph->senders);
	if (ph->deadline_ns && clock_mono_ns() > ph->deadline_ns)
		return err_set(e, -ERR_LOST, "the phase took longer than %u seconds "
			       "(--phase-timeout): start it again to go on",
			       ph->m->opt->phase_timeout_s);
	r = stg_catalog_tick(ph->run.catalog, e);
	if (r == 0)
		r = tick_epoch(ph, e);
	if (r < 0)
		return r;
	tell_limit(ph);
	stg_pass_stats(ph, &stats);
	stg_report_set_stats(ph->m->report, &stats, NULL, 0);
	r = stg_report_tick(ph->m->report, e);
	return r < 0 ? err_ctx(e, r, "%s", ph->m->opt->report) : 0;
}

/* Wait until done(ph), which is asked with the run's lock held. */
static int wait_for(struct stg_phase *ph, bool (*done)(struct stg_phase *), struct err *e)
{
	struct stg_run *run = &ph->run;
	bool is_done = false;
	int r = 0;

	while (r == 0 && !is_done) {
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += TICK_MS * 1000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_mutex_lock(&run->lock);
		is_done = done(ph);
		if (!is_done && !run->error.code)
			pthread_cond_timedwait(&run->changed, &run->lock, &until);
		pthread_mutex_unlock(&run->lock);
		r = tick(ph, e);
	}
	return r;
}

int stg_pass_wait_idle(struct stg_phase *ph, struct err *e)
{
	int r;

	while ((r = tick(ph, e)) == 0 && !stg_queue_wait_idle(ph->run.queue, TICK_MS))
		;
	/* A stopped queue is idle, too. */
	return r < 0 ? r : tick(ph, e);
}

static bool is_told(struct stg_phase *ph)
{
	return ph->run.told;
}

static bool is_scanned(struct stg_phase *ph)
{
	return !atomic_load(&ph->run.scanning);
}

static bool is_durable(struct stg_phase *ph)
{
	return stg_senders_durable(ph->senders, ph->asked);
}

int stg_pass_wait_told(struct stg_phase *ph, struct err *e)
{
	return wait_for(ph, is_told, e);
}

/* --- epochs --- */

static int set_durable(struct stg_phase *ph, uint32_t epoch, struct err *e)
{
	return stg_catalog_set_number(ph->run.catalog, "durable_epoch", epoch, e);
}

static int ask_epoch(struct stg_phase *ph, struct err *e)
{
	uint32_t epoch = (uint32_t)atomic_load(&ph->run.epoch);
	int r;

	/* From here on rows belong to the next epoch; those before are covered by this one. */
	r = stg_catalog_set_number(ph->run.catalog, "epoch", epoch + 1, e);
	if (r < 0)
		return r;
	atomic_store(&ph->run.epoch, epoch + 1);
	atomic_store(&ph->run.sync, epoch);
	stg_senders_wake(ph->senders);
	ph->asked = epoch;
	ph->epoch_ns = clock_mono_ns();
	return 0;
}

static int tick_epoch(struct stg_phase *ph, struct err *e)
{
	int r = 0;

	/* A verification changes nothing that would have to become durable. */
	if (!ph->senders || ph->run.verify)
		return 0;
	if (ph->asked && stg_senders_durable(ph->senders, ph->asked)) {
		/* Rows that are distrusted must not become trusted by the way. */
		if (!ph->run.distrust)
			r = set_durable(ph, ph->asked, e);
		ph->asked = 0;
	}
	if (r == 0 && !ph->asked && clock_mono_ns() - ph->epoch_ns > EPOCH_NS)
		r = ask_epoch(ph, e);
	return r;
}

int stg_pass_sync(struct stg_phase *ph, struct err *e)
{
	uint32_t epoch;
	int r;

	if (!atomic_load(&ph->run.count.acked) && !ph->unsettled)
		return 0; /* nothing was changed there */
	stg_progress_step(&ph->m->progress, "sync");
	r = ask_epoch(ph, e);
	epoch = ph->asked;
	/* tick() forgets an epoch when it is answered. */
	while (r == 0 && ph->asked == epoch)
		r = wait_for(ph, is_durable, e);
	return r < 0 ? r : set_durable(ph, epoch, e);
}

/* --- the stages of a pass --- */

/* Without /proc the times have to do. */
int stg_pass_find_users(struct stg_run *run, struct err *e)
{
	_cleanup_close_ int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return proc < 0 ? 0 : stg_inuse_scan(proc, &run->inuse, e);
}

/*
 * The sync point: what the clock that stamps inodes says now, and then everything that is
 * still only in memory goes to the file system, so that stores through mappings get their
 * ctime.  What changes from here on has a ctime that is not older.
 */
static int set_sync_point(struct stg_phase *ph, struct err *e)
{
	struct stg_run *run = &ph->run;
	struct timespec ts;
	const char *path;

	atomic_fetch_add(&run->pass, 1);
	clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	run->sync_ns = ts.tv_sec * 1000000000LL + ts.tv_nsec;
	if (syncfs(run->source_fd) < 0)
		return err_sys(e, "sync the file system of the source %s", ph->m->source);
	for (size_t i = 0; (path = stg_mounts_data(run->mounts, i)); i++) {
		_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd >= 0 && syncfs(fd) < 0)
			return err_sys(e, "sync the file system of %s", path);
	}
	run->phase.sync_ns = run->sync_ns;
	return stg_pass_find_users(run, e);
}

unsigned stg_pass_scan_threads(void)
{
	return MIN(MAX((unsigned)get_nprocs(), 1u), SCAN_THREADS_MAX);
}

int stg_pass_scan(struct stg_phase *ph, struct err *e)
{
	int64_t began = clock_mono_ns();
	struct stg_scan *scan;
	int r;

	stg_progress_step(&ph->m->progress, "scan");
	atomic_store(&ph->run.count.scanned, 0);
	atomic_store(&ph->run.count.scanned_bytes, 0);
	r = stg_scan_start(&ph->run, stg_pass_scan_threads(), NULL, &scan, e);
	if (r < 0)
		return r;
	r = wait_for(ph, is_scanned, e);
	if (r < 0)
		stg_run_fail(&ph->run, e); /* the threads must not wait for room in the queue */
	stg_scan_join(scan);
	atomic_store(&ph->m->progress.scanning, false);
	ph->scan_ns = clock_mono_ns() - began;
	if (r < 0)
		return r;
	stg_progress_step(&ph->m->progress, ph->run.verify ? "compare" : "send");
	return stg_pass_wait_idle(ph, e);
}

/* What lies deepest leaves its directory before that one moves. */
static int by_depth(const void *a, const void *b)
{
	struct bytes x = ((const struct stg_item *)a)->leader_path;
	struct bytes y = ((const struct stg_item *)b)->leader_path;
	size_t x_depth = 0, y_depth = 0;

	for (size_t i = 0; i < x.n; i++)
		x_depth += x.p[i] == '/';
	for (size_t i = 0; i < y.n; i++)
		y_depth += y.p[i] == '/';
	x_depth += x.n > 0;
	y_depth += y.n > 0;
	return (x_depth < y_depth) - (x_depth > y_depth);
}

static int by_old_name(const void *a, const void *b)
{
	const struct stg_item *x = a, *y = b;
	int c = bytes_cmp(x->leader_path, y->leader_path);

	return c ? c : bytes_cmp(x->leader, y->leader);
}

/* Is the directory at path, or one above it, going to be moved itself?  By by_old_name(). */
static bool moves_along(const struct stg_job *job, struct bytes path)
{
	for (size_t at = 0, end; at < path.n; at = end + 1) {
		const uint8_t *slash = memchr(path.p + at, '/', path.n - at);
		struct stg_item key = { .leader_path = bytes_of(path.p, at ? at - 1 : 0) };

		end = slash ? (size_t)(slash - path.p) : path.n;
		key.leader = bytes_of(path.p + at, end - at);
		if (bsearch(&key, job->items, job->n, sizeof(*job->items), by_old_name))
			return true;
	}
	return false;
}

/*
 * The walk takes a while, so an entry may have been found in a directory that was renamed
 * after that.  What the catalog knows by its directory and the target by its path would part:
 * such moves are left out, and the entries are sent.
 */
static void drop_uprooted(struct stg_job *job)
{
	size_t n = 0;

	qsort(job->items, job->n, sizeof(*job->items), by_old_name);
	for (size_t i = 0; i < job->n; i++)
		job->items[i].done = moves_along(job, job->items[i].path);
	for (size_t i = 0; i < job->n; i++)
		if (!job->items[i].done)
			job->items[n++] = job->items[i];
	job->n = job->pending = n;
}

/* Killed before the answer is on record, a directory may be renamed back on the source. */
static int mark_moves(struct stg_phase *ph, const struct stg_job *job, struct err *e)
{
	_cleanup_(buf_fini) struct buf old = BUF_INIT;
	int r = 0;

	for (size_t i = 0; i < job->n && r == 0; i++) {
		const struct stg_item *m = &job->items[i];

		if (!m->is_dir)
			continue;
		if (stg_path_join(&old, m->leader_path, m->leader) < 0)
			return no_memory(e);
		r = stg_catalog_mark_unsure(ph->run.catalog, buf_view(&old), e);
	}
	return r < 0 ? r : stg_catalog_commit(ph->run.catalog, e);
}

/* One session does them all, in order, while nothing else is under way. */
static int move_stage(struct stg_phase *ph, struct err *e)
{
	struct stg_job *job = TAKE_PTR(ph->run.moves);
	int r;

	stg_progress_step(&ph->m->progress, "moves");
	stg_job_seal(job);
	drop_uprooted(job);
	qsort(job->items, job->n, sizeof(*job->items), by_depth);
	r = mark_moves(ph, job, e);
	if (r < 0 || !job->n) {
		stg_job_free(job);
		return r;
	}
	if (stg_queue_push(ph->run.queue, job) < 0) {
		r = tick(ph, e);
		return r < 0 ? r : err_set(e, -ERR_CANCELLED, "stopped");
	}
	r = stg_pass_wait_idle(ph, e);
	atomic_fetch_add(&ph->run.moved, 1);
	return r;
}

/* Before another walk, which plans all of it again. */
static int drop_plans(struct stg_phase *ph, struct err *e)
{
	int r = stg_catalog_clear_plan(ph->run.catalog, e);

	stg_run_drop_again(&ph->run);
	/* What the sessions hold of the source is as old as the walk. */
	atomic_fetch_add(&ph->run.pass, 1);
	return r < 0 ? r : stg_catalog_commit(ph->run.catalog, e);
}

/*
 * What was moved is found under its new name by another walk, and compared like anything
 * else; so is what the target refused to move, or has lost.
 */
static int look_and_send(struct stg_phase *ph, struct err *e)
{
	struct stg_run *run = &ph->run;
	int rounds = 0, r = stg_catalog_has_dirty(run->catalog, e);

	if (r == 0)
		r = stg_catalog_has_partial(run->catalog, bytes_of("", 0), e);
	if (r < 0)
		return r;
	/* What an earlier run left undone has paths in the catalog that would not follow. */
	run->moving = ph->kind != STG_PHASE_FULL && run->delete && !run->compare && r == 0;
	for (;;) {
		atomic_store(&run->lost, false);
		r = stg_pass_scan(ph, e);
		if (r < 0 || (!run->moves && !atomic_load(&run->lost)))
			return r;
		r = stg_catalog_commit(run->catalog, e);
		if (r == 0 && run->moves)
			r = move_stage(ph, e);
		if (r == 0)
			r = drop_plans(ph, e);
		if (r < 0)
			return r;
		run->moving = run->moving && ++rounds < MOVE_ROUNDS;
	}
}

int stg_pass_push(struct stg_phase *ph, struct stg_job *job, struct err *e)
{
	stg_job_seal(job);
	if (!job->n) {
		stg_job_free(job);
		return 0;
	}
	if (stg_queue_push(ph->run.queue, job) < 0) {
		int r = tick(ph, e);

		return r < 0 ? r : err_set(e, -ERR_CANCELLED, "stopped");
	}
	return 0;
}

static int remove_page(struct stg_phase *ph, const struct stg_removal_page *page,
		       struct err *e)
{
	struct stg_job *job = NULL;
	int r = stg_job_new(STG_JOB_ITEMS, &job, e);

	for (size_t i = 0; r == 0 && i < page->n; i++) {
		const struct stg_removal *m = &page->rows[i];

		/* Killed half-way, a directory may be renamed back on the source, rows and all. */
		if (m->is_dir)
			r = stg_catalog_forget_below(ph->run.catalog, m->dir, m->name, e);
		if (r == 0)
			r = stg_job_add(job, &(struct stg_item){
				.op = STG_OP_REMOVE,
				.dir = m->dir,
				.path = m->path,
				.name = m->name,
				.is_dir = m->is_dir,
				.filter = m->filter,
			}, e);
	}
	if (r == 0)
		r = stg_catalog_commit(ph->run.catalog, e);
	if (r == 0)
		return stg_pass_push(ph, job, e);
	stg_job_free(job);
	return r;
}

static int remove_stage(struct stg_phase *ph, struct err *e)
{
	struct stg_removal_page *page;
	uint64_t errors = atomic_load(&ph->run.count.scan_errors);
	int r = 0;

	if (!ph->run.delete)
		return 0;
	if (errors) {
		log_error("%llu source directories or entries could not be read: nothing is "
			  "deleted on the target", (unsigned long long)errors);
		ph->delete_mode = STG_DELETE_SKIPPED_ERRORS;
		stg_report_set_delete_mode(ph->m->report, ph->delete_mode);
		return 0;
	}
	page = calloc(1, sizeof(*page));
	if (!page)
		return no_memory(e);
	do {
		r = stg_catalog_next_removal(ph->run.catalog, page, e);
		if (r == 0 && page->n) {
			stg_progress_step(&ph->m->progress, "delete");
			r = remove_page(ph, page, e);
		}
	} while (r == 0 && page->n);
	buf_fini(&page->bytes);
	free(page);
	return r < 0 ? r : stg_pass_wait_idle(ph, e);
}

/*
 * Some of the plan was not carried out: the catalog does not know what stayed, so the next
 * phase is to ask the target about these directories.  And after a full sync it knows nothing
 * of a source directory that could not be read.
 */
static int unsure_stage(struct stg_phase *ph, struct err *e)
{
	bool unread = atomic_load(&ph->run.count.scan_errors) != 0;
	struct stg_removal_page *page;
	int r = 0;

	if (unread && ph->kind == STG_PHASE_FULL)
		r = stg_catalog_set(ph->run.catalog, STG_FULL_RULES, "", e);
	if (r < 0 || (!unread && !atomic_load(&ph->run.count.left) &&
		      !atomic_load(&ph->run.count.unremoved)))
		return r;
	page = calloc(1, sizeof(*page));
	if (!page)
		return no_memory(e);
	do {
		r = stg_catalog_next_removal(ph->run.catalog, page, e);
		for (size_t i = 0; r == 0 && i < page->n; i++)
			if (!i || page->rows[i].dir != page->rows[i - 1].dir)
				r = stg_catalog_mark_unsure(ph->run.catalog,
							    page->rows[i].path, e);
	} while (r == 0 && page->n);
	buf_fini(&page->bytes);
	free(page);
	return r;
}

/* What had to wait for the removals, and what that brought up. */
static int again_stage(struct stg_phase *ph, struct err *e)
{
	int r = 0;

	for (;;) {
		struct stg_job *jobs, *job;

		pthread_mutex_lock(&ph->run.lock);
		jobs = TAKE_PTR(ph->run.again);
		pthread_mutex_unlock(&ph->run.lock);
		if (!jobs)
			return r;
		while ((job = jobs)) {
			jobs = job->next;
			for (size_t i = 0; i < job->n; i++)
				job->items[i].after_removal = true;
			if (r == 0)
				r = stg_pass_push(ph, job, e);
			else
				stg_job_free(job);
		}
		if (r == 0)
			r = stg_pass_wait_idle(ph, e);
		if (r < 0)
			return r;
	}
}

/*
 * The name that was to carry the inode does not: it went with a directory that was moved (no
 * change of the inode tells of that), names another file now, or was refused.
 */
static bool leader_is_lost(const struct stg_follower *f)
{
	return !f->acked || f->leader_row.st.ino != f->st.ino || f->leader_row.st.dev != f->st.dev;
}

/* Another name has to carry the inode: this one, if it is the first that is sent again. */
static int follower_again(struct stg_phase *ph, const struct stg_follower *f,
			  struct err *e)
{
	int r = stg_catalog_drop_leader(ph->run.catalog, &f->st, e);

	return r < 0 ? r : stg_run_again(&ph->run, &(struct stg_item){
		.op = STG_OP_SEND,
		.dir = f->dir,
		.path = f->path,
		.name = f->name,
		.st = f->st,
		.has_old = f->old_nlink != 0,
		.old_nlink = f->old_nlink,
	}, e);
}

/* The name had this content already: linking it is no change, as far as can be known. */
static int was_linked(struct stg_catalog_reader *reader, const struct stg_follower *f,
		      bool *ret, struct err *e)
{
	struct stg_row row;
	int r = stg_catalog_read_one(reader, f->dir, f->name, &row, e);

	*ret = r > 0 && stg_stat_same(&row.st, &f->st) && (row.state & STG_ROW_HASHED) &&
	       !memcmp(&row.hash, &f->leader_row.hash, sizeof(row.hash));
	return MIN(r, 0);
}

static int link_item(struct stg_phase *ph, struct stg_catalog_reader *reader,
		     struct stg_job *job, const struct stg_follower *f, bool last,
		     struct err *e)
{
	struct stg_item item = {
		.op = STG_OP_LINK,
		.after_removal = true,
		.dir = f->dir,
		.path = f->path,
		.name = f->name,
		.st = f->st,
		.leader_path = f->leader_path,
		.leader = f->leader,
		.has_old = f->old_nlink != 0,
		.old_nlink = f->old_nlink,
	};
	int r;

	if (leader_is_lost(f)) {
		if (!last)
			return follower_again(ph, f, e);
		stg_run_entry_error(&ph->run, f->path, f->name, "link", -ENOENT,
				    "the first name of its inode could not be sent");
		return 0;
	}
	/* It has the content of the name that was sent, if nothing changed in between. */
	if (stg_stat_same(&f->leader_row.st, &f->st) &&
	    (f->leader_row.state & STG_ROW_HASHED)) {
		item.old_hashed = true;
		item.old_hash = f->leader_row.hash;
		r = was_linked(reader, f, &item.recheck, e);
		if (r < 0)
			return r;
	}
	return stg_job_add(job, &item, e);
}

/* Followers from the page on; last: those whose leader is lost are given up. */
static int link_pages(struct stg_phase *ph, struct stg_catalog_reader *reader,
		      struct stg_follower_page *page, bool last, struct err *e)
{
	int r = 0;

	while (r == 0) {
		struct stg_job *job = NULL;

		r = stg_catalog_next_follower(ph->run.catalog, page, e);
		if (r < 0 || !page->n)
			break;
		stg_progress_step(&ph->m->progress, "link");
		r = stg_job_new(STG_JOB_ITEMS, &job, e);
		for (size_t i = 0; r == 0 && i < page->n; i++)
			r = link_item(ph, reader, job, &page->rows[i], last, e);
		if (r == 0)
			r = stg_pass_push(ph, TAKE_PTR(job), e);
		stg_job_free(job);
	}
	return r < 0 ? r : stg_pass_wait_idle(ph, e);
}

/* Where a leader was lost another one is sent, and what follows that one comes after it. */
static int link_stage(struct stg_phase *ph, struct err *e)
{
	struct stg_follower_page *page = calloc(1, sizeof(*page));
	struct stg_catalog_reader *reader = NULL;
	int r = page ? stg_catalog_reader_open(ph->run.catalog, &reader, e) : no_memory(e);

	if (r == 0)
		r = link_pages(ph, reader, page, false, e);
	if (r == 0)
		r = again_stage(ph, e);
	if (r == 0)
		r = link_pages(ph, reader, page, true, e);
	stg_catalog_reader_close(reader);
	if (page)
		buf_fini(&page->bytes);
	free(page);
	return r;
}

/*
 * Directories, deepest first.  Root needs no permission, so the sessions may overtake each
 * other; anybody else could be locked out of a directory by the mode of one above it.
 */
static int push_directories(struct stg_phase *ph, const struct stg_dirty_page *page,
			    struct err *e)
{
	bool ordered = ph->run.target.uid != 0;
	struct stg_job *job = NULL;
	int r = 0;

	for (size_t i = 0; r == 0 && i < page->n; i++) {
		const struct stg_dirty *d = &page->rows[i];

		if (!job)
			r = stg_job_new(STG_JOB_ITEMS, &job, e);
		if (r == 0)
			r = stg_job_add(job, &(struct stg_item){
				.op = STG_OP_DIRMETA,
				.dir = d->parent,
				.child = d->id,
				.path = d->path,
				.name = d->name,
				.st = d->st,
			}, e);
		if (r == 0 && (i + 1 == page->n || (ordered && page->rows[i + 1].depth != d->depth))) {
			r = stg_pass_push(ph, TAKE_PTR(job), e);
			if (r == 0 && ordered)
				r = stg_pass_wait_idle(ph, e);
		}
	}
	stg_job_free(job);
	return r;
}

static int directory_stage(struct stg_phase *ph, struct err *e)
{
	struct stg_dirty_page *page = calloc(1, sizeof(*page));
	int r = page ? 0 : no_memory(e);

	if (page)
		*page = (struct stg_dirty_page){ .phase = ph->run.phase.id,
						 .next_depth = ~0u, .next_id = ~0ull };
	while (r == 0) {
		r = stg_catalog_next_dirty(ph->run.catalog, page, e);
		if (r < 0 || !page->n)
			break;
		stg_progress_step(&ph->m->progress, "directories");
		r = push_directories(ph, page, e);
	}
	if (page)
		buf_fini(&page->bytes);
	free(page);
	return r < 0 ? r : stg_pass_wait_idle(ph, e);
}

int stg_pass_leftovers_filter(struct stg_filter **ret, struct stg_filter_dir **ret_node,
			      struct err *e)
{
	int r = stg_filter_new(ret, e);

	if (r == 0)
		r = stg_filter_add_rule(*ret, "risk .stager-tmp.*", "clean", e);
	if (r == 0)
		r = stg_filter_add_rule(*ret, "protect *", "clean", e);
	return r < 0 ? r : stg_filter_enter(*ret, NULL, -1, bytes_of("", 0), ret_node, e);
}

static int clean_directory(struct stg_phase *ph, const struct stg_dirty *d,
			   struct stg_filter_dir *node, struct err *e)
{
	struct stg_job *job;
	int r = stg_job_new(STG_JOB_COMPARE, &job, e);

	if (r < 0)
		return r;
	job->only_list = true;
	job->filter = stg_filter_dir_ref(node);
	r = stg_job_set_dir(job, d->id, d->path, e);
	if (r == 0)
		r = job->filter_index = stg_run_keep_filter(&ph->run, node, e);
	if (r < 0) {
		stg_job_free(job);
		return r;
	}
	stg_job_seal(job);
	return stg_queue_push(ph->run.queue, job);
}

int stg_pass_remove_leftovers(struct stg_phase *ph, struct stg_filter_dir *node,
			      struct err *e)
{
	struct stg_dirty_page *page = calloc(1, sizeof(*page));
	int r = page ? stg_catalog_clear_plan(ph->run.catalog, e) : no_memory(e);

	if (page)
		*page = (struct stg_dirty_page){ .next_depth = ~0u, .next_id = ~0ull };
	while (r == 0) {
		r = stg_catalog_next_dirty(ph->run.catalog, page, e);
		if (r < 0 || !page->n)
			break;
		for (size_t i = 0; r == 0 && i < page->n; i++)
			r = clean_directory(ph, &page->rows[i], node, e);
	}
	if (page)
		buf_fini(&page->bytes);
	free(page);
	if (r == 0)
		r = stg_pass_wait_idle(ph, e);
	return r < 0 ? r : remove_stage(ph, e);
}

/*
 * A receiver that was killed may have left temporary names behind, in directories that it
 * was working in: those are still marked.  They go whatever --no-delete and --max-delete say.
 * Where the latter has stopped a removal the plan is still needed, and its directories are
 * compared by the next phase anyway.
 */
static int leftovers_stage(struct stg_phase *ph, struct err *e)
{
	uint64_t reconnects = atomic_load(&ph->run.count.reconnects);
	bool delete = ph->run.delete, limited = ph->run.delete_limited;
	struct stg_filter_dir *node = NULL;
	/* A big file that was begun by an earlier run and does not exist any more. */
	int partials = stg_catalog_has_partial(ph->run.catalog, bytes_of("", 0), e), r = 0;

	if (partials > 0)
		r = stg_catalog_clear_partials(ph->run.catalog, e);
	if (r < 0 || partials < 0)
		return r < 0 ? r : partials;
	if ((!partials && reconnects == ph->reconnects) || atomic_load(&ph->run.count.left))
		return 0;
	ph->reconnects = reconnects;
	if (!ph->leftovers)
		r = stg_pass_leftovers_filter(&ph->leftovers, &node, e);
	else
		r = stg_filter_enter(ph->leftovers, NULL, -1, bytes_of("", 0), &node, e);
	if (r < 0)
		return r;
	ph->run.delete = true;
	ph->run.delete_limited = false;
	r = stg_pass_remove_leftovers(ph, node, e);
	ph->run.delete = delete;
	ph->run.delete_limited = limited;
	stg_filter_dir_unref(node);
	return r;
}

static int pass(struct stg_phase *ph, struct err *e)
{
	static int (*const stages[])(struct stg_phase *, struct err *) = {
		set_sync_point, look_and_send, remove_stage, again_stage, link_stage,
		leftovers_stage, directory_stage, unsure_stage,
	};
	int r = stg_catalog_clear_plan(ph->run.catalog, e);

	for (size_t i = 0; i < ARRAY_SIZE(stages) && r == 0; i++) {
		/* What one stage marked must be on disk before the next one sends. */
		r = stg_catalog_commit(ph->run.catalog, e);
		if (r == 0)
			r = stages[i](ph, e);
	}
	return r;
}

/* What a pass found to do, apart from looking at content once more. */
static uint64_t work_done(struct stg_phase *ph)
{
	struct stg_counters *c = &ph->run.count;

	return atomic_load(&c->changed) - atomic_load(&c->rechecked) +
	       atomic_load(&c->deleted) + atomic_load(&c->vanished);
}

static int passes(struct stg_phase *ph, struct err *e)
{
	bool cutover = ph->kind == STG_PHASE_CUTOVER;
	uint64_t before, after = 0;
	int r;

	for (int i = 0; i < (cutover ? CUTOVER_PASSES : 1); i++) {
		/* What vanished from an earlier pass, or was left by it, is no matter any more. */
		atomic_store(&ph->run.count.vanished, 0);
		atomic_store(&ph->run.count.left, 0);
		before = work_done(ph);
		r = pass(ph, e);
		after = work_done(ph);
		if (r < 0 || after == before)
			return r;
	}
	if (cutover) {
		ph->warning = "the source still changed in the last pass: stop what writes to it "
			      "(cutover_stop_cmd) and run the cutover again";
		log_error("%s", ph->warning);
	}
	return 0;
}

/*
 * A driver or receiver that is killed has no time to lock again what it had unlocked, so the
 * catalog notes that there may be such entries until a phase has ended without a break.
 */
int stg_pass_run(struct stg_phase *ph, struct err *e)
{
	static const char key[] = "locks_unsure";
	struct stg_run *run = &ph->run;
	uint64_t unsure, reconnects;
	int r = stg_catalog_get_number(run->catalog, key, &unsure, e);

	if (r == 0 && !unsure)
		r = stg_catalog_set_number(run->catalog, key, 1, e);
	run->distrust_locked = unsure;
	for (int i = 0; r == 0 && i < LOCK_PASSES; i++) {
		reconnects = atomic_load(&run->count.reconnects);
		r = passes(ph, e);
		if (r == 0 && reconnects == atomic_load(&run->count.reconnects))
			return stg_catalog_set_number(run->catalog, key, 0, e);
		if (!atomic_load(&run->locked))
			break;
		run->distrust_locked = true;
	}
	return r;
}
