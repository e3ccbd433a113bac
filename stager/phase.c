/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/phase.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <time.h>

#include "common/io.h"
#include "common/log.h"
#include "common/sha256.h"
#include "common/text.h"
#include "stager/audit.h"
#include "stager/filter.h"
#include "stager/inuse.h"
#include "stager/migration.h"
#include "stager/mounts.h"
#include "stager/options.h"
#include "stager/run.h"
#include "stager/scan.h"
#include "stager/sender.h"
#include "stager/ssh.h"
#include "transport/stream.h"

/*
 * The order within a pass, and why:
 *
 *   scan and send    what is new or changed; whatever a directory is in the way of, waits
 *   remove           the delete plan, which is complete now; never after an unclean scan
 *   again            what waited for the removals
 *   links            further names of inodes, when their first name is there
 *   leftovers        temporary names of receivers that were killed
 *   directories      their metadata, deepest first: nothing in them changes any more
 *   sync             until the target says that all of it is on its disk
 */
#define QUEUE_BYTES       (8u << 20)
#define SCAN_THREADS_MAX  8u
#define SESSIONS_AUTO     4u
#define CUTOVER_PASSES    5
#define EPOCH_NS          (30 * 1000000000LL)
#define TICK_MS           100

struct phase {
	struct stg_migration *m;
	struct stg_run run;
	struct stg_senders *senders;
	enum stg_phase_kind kind;
	enum stg_delete_mode delete_mode;
	int64_t began_ns, deadline_ns; /* deadline 0: none */
	int64_t epoch_ns;              /* when the last epoch was asked for */
	uint32_t asked;                /* that epoch; 0: none is on its way */
	bool unsettled;                /* an earlier phase may have left what is not durable */
	const char *warning;           /* for the report; NULL: none */
	char left_text[128];           /* the warning of --max-delete */
	uint64_t reconnects;           /* whose leftovers have been removed */
	struct stg_filter *leftovers;  /* the filter for that; NULL: not needed yet */
	bool woken;                    /* the sessions know that they are admitted */
};

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

/* --- time and counters --- */

static void fill_stats(struct phase *ph, struct stg_phase_stats *s)
{
	struct stg_counters *c = &ph->run.count;
	unsigned sessions;

	pthread_mutex_lock(&ph->run.lock);
	sessions = ph->run.most_ready;
	pthread_mutex_unlock(&ph->run.lock);
	*s = (struct stg_phase_stats){
		.entries_scanned = atomic_load(&c->scanned),
		.entries_changed = atomic_load(&c->changed),
		.entries_deleted = atomic_load(&c->deleted),
		.entries_skipped_by_hash = atomic_load(&c->skipped_by_hash),
		.entries_acked_before = atomic_load(&c->acked_before),
		.bytes_scanned = atomic_load(&c->scanned_bytes),
		.bytes_literal = atomic_load(&c->literal),
		.bytes_matched = atomic_load(&c->matched),
		.reconnects = atomic_load(&c->reconnects),
		.sessions = sessions,
	};
}

static int tick_epoch(struct phase *ph, struct err *e);

/* What has to happen now and then while a phase runs. */
static int tick(struct phase *ph, struct err *e)
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
	if (ph->deadline_ns && clock_mono_ns() > ph->deadline_ns)
		return err_set(e, -ERR_LOST, "the phase took longer than %u seconds "
			       "(--phase-timeout): start it again to go on",
			       ph->m->opt->phase_timeout_s);
	r = stg_catalog_tick(ph->run.catalog, e);
	if (r == 0)
		r = tick_epoch(ph, e);
	if (r < 0)
		return r;
	fill_stats(ph, &stats);
	stg_report_set_stats(ph->m->report, &stats, NULL, 0);
	r = stg_report_tick(ph->m->report, e);
	return r < 0 ? err_ctx(e, r, "%s", ph->m->opt->report) : 0;
}

/* Wait until done(ph), which is asked with the run's lock held. */
static int wait_for(struct phase *ph, bool (*done)(struct phase *), struct err *e)
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

static int wait_idle(struct phase *ph, struct err *e)
{
	int r;

	while ((r = tick(ph, e)) == 0 && !stg_queue_wait_idle(ph->run.queue, TICK_MS))
		;
	/* A stopped queue is idle, too. */
	return r < 0 ? r : tick(ph, e);
}

static bool is_told(struct phase *ph)
{
	return ph->run.told;
}

static bool is_scanned(struct phase *ph)
{
	return !atomic_load(&ph->run.scanning);
}

static bool is_durable(struct phase *ph)
{
	return stg_senders_durable(ph->senders, ph->asked);
}

/* --- epochs --- */

static int set_durable(struct phase *ph, uint32_t epoch, struct err *e)
{
	return stg_catalog_set_number(ph->run.catalog, "durable_epoch", epoch, e);
}

static int ask_epoch(struct phase *ph, struct err *e)
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

static int tick_epoch(struct phase *ph, struct err *e)
{
	int r = 0;

	if (!ph->senders)
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

static int end_epoch(struct phase *ph, struct err *e)
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
static int look_for_users(struct stg_run *run, struct err *e)
{
	_cleanup_close_ int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return proc < 0 ? 0 : stg_inuse_scan(proc, &run->inuse, e);
}

/*
 * The sync point: what the clock that stamps inodes says now, and then everything that is
 * still only in memory goes to the file system, so that stores through mappings get their
 * ctime.  What changes from here on has a ctime that is not older.
 */
static int set_sync_point(struct phase *ph, struct err *e)
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
	return look_for_users(run, e);
}

static unsigned scan_threads(void)
{
	return MIN(MAX((unsigned)get_nprocs(), 1u), SCAN_THREADS_MAX);
}

static int scan_and_send(struct phase *ph, struct err *e)
{
	struct stg_scan *scan;
	int r;

	stg_progress_step(&ph->m->progress, "scan");
	atomic_store(&ph->run.count.scanned, 0);
	atomic_store(&ph->run.count.scanned_bytes, 0);
	r = stg_scan_start(&ph->run, scan_threads(), NULL, &scan, e);
	if (r < 0)
		return r;
	r = wait_for(ph, is_scanned, e);
	if (r < 0)
		stg_run_fail(&ph->run, e); /* the threads must not wait for room in the queue */
	stg_scan_join(scan);
	atomic_store(&ph->m->progress.scanning, false);
	if (r < 0)
		return r;
	stg_progress_step(&ph->m->progress, "send");
	return wait_idle(ph, e);
}

static int push(struct phase *ph, struct stg_job *job, struct err *e)
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

static int remove_page(struct phase *ph, const struct stg_removal_page *page, struct err *e)
{
	struct stg_job *job;
	int r = stg_job_new(STG_JOB_ITEMS, &job, e);

	for (size_t i = 0; r == 0 && i < page->n; i++) {
		const struct stg_removal *m = &page->rows[i];

		r = stg_job_add(job, &(struct stg_item){
			.op = STG_OP_REMOVE,
			.dir = m->dir,
			.path = m->path,
			.name = m->name,
			.is_dir = m->is_dir,
			.filter = m->filter,
		}, e);
	}
	return r < 0 ? r : push(ph, job, e);
}

static int remove_stage(struct phase *ph, struct err *e)
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
	return r < 0 ? r : wait_idle(ph, e);
}

/*
 * Some of the plan was not carried out: the catalog does not know what stayed, so the next
 * phase is to ask the target about these directories.
 */
static int unsure_stage(struct phase *ph, struct err *e)
{
	struct stg_removal_page *page;
	int r = 0;

	if (!atomic_load(&ph->run.count.left))
		return 0;
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
static int again_stage(struct phase *ph, struct err *e)
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
				r = push(ph, job, e);
			else
				stg_job_free(job);
		}
		if (r == 0)
			r = wait_idle(ph, e);
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
static int follower_again(struct phase *ph, const struct stg_follower *f, struct err *e)
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

static int link_item(struct phase *ph, struct stg_catalog_reader *reader, struct stg_job *job,
		     const struct stg_follower *f, bool last, struct err *e)
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
static int link_pages(struct phase *ph, struct stg_catalog_reader *reader,
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
			r = push(ph, TAKE_PTR(job), e);
		stg_job_free(job);
	}
	return r < 0 ? r : wait_idle(ph, e);
}

/* Where a leader was lost another one is sent, and what follows that one comes after it. */
static int link_stage(struct phase *ph, struct err *e)
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
static int push_directories(struct phase *ph, const struct stg_dirty_page *page, struct err *e)
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
			r = push(ph, TAKE_PTR(job), e);
			if (r == 0 && ordered)
				r = wait_idle(ph, e);
		}
	}
	stg_job_free(job);
	return r;
}

static int directory_stage(struct phase *ph, struct err *e)
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
	return r < 0 ? r : wait_idle(ph, e);
}

/* A filter under which nothing is at risk but the receiver's temporary names. */
static int leftovers_filter(struct stg_filter **ret, struct stg_filter_dir **ret_node,
			    struct err *e)
{
	int r = stg_filter_new(ret, e);

	if (r == 0)
		r = stg_filter_add_rule(*ret, "risk .stager-tmp.*", "clean", e);
	if (r == 0)
		r = stg_filter_add_rule(*ret, "protect *", "clean", e);
	return r < 0 ? r : stg_filter_enter(*ret, NULL, -1, bytes_of("", 0), ret_node, e);
}

static int clean_directory(struct phase *ph, const struct stg_dirty *d,
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

static int clean_pages(struct phase *ph, struct stg_filter_dir *node, struct err *e)
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
		r = wait_idle(ph, e);
	return r < 0 ? r : remove_stage(ph, e);
}

/*
 * A receiver that was killed may have left temporary names behind, in directories that it
 * was working in: those are still marked.  They go whatever --no-delete and --max-delete say.
 * Where the latter has stopped a removal the plan is still needed, and its directories are
 * compared by the next phase anyway.
 */
static int leftovers_stage(struct phase *ph, struct err *e)
{
	uint64_t reconnects = atomic_load(&ph->run.count.reconnects);
	bool delete = ph->run.delete, limited = ph->run.delete_limited;
	struct stg_filter_dir *node = NULL;
	int r = 0;

	if (reconnects == ph->reconnects || atomic_load(&ph->run.count.left))
		return 0;
	ph->reconnects = reconnects;
	if (!ph->leftovers)
		r = leftovers_filter(&ph->leftovers, &node, e);
	else
		r = stg_filter_enter(ph->leftovers, NULL, -1, bytes_of("", 0), &node, e);
	if (r < 0)
		return r;
	ph->run.delete = true;
	ph->run.delete_limited = false;
	r = clean_pages(ph, node, e);
	ph->run.delete = delete;
	ph->run.delete_limited = limited;
	stg_filter_dir_unref(node);
	return r;
}

static int pass(struct phase *ph, struct err *e)
{
	static int (*const stages[])(struct phase *, struct err *) = {
		set_sync_point, scan_and_send, remove_stage, again_stage, link_stage,
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
static uint64_t work_done(struct phase *ph)
{
	struct stg_counters *c = &ph->run.count;

	return atomic_load(&c->changed) - atomic_load(&c->rechecked) +
	       atomic_load(&c->deleted) + atomic_load(&c->vanished);
}

static int passes(struct phase *ph, struct err *e)
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

/* --- beginning --- */

int stg_phase_allowed(struct stg_migration *m, enum stg_phase_kind kind, struct err *e)
{
	int stands;

	if (kind == STG_PHASE_FULL)
		return 0;
	stands = stg_catalog_full_stands(m->catalog, e);
	if (stands < 0)
		return stands;
	if (!stands)
		return err_set(e, -ERR_FORBIDDEN, "no finished full sync stands for this target: run "
			       "\"stager full\" first");
	return 0;
}

/* The row of this phase: of one that was broken off, or a new one. */
static int begin_row(struct phase *ph, const char *name, struct err *e)
{
	struct stg_run *run = &ph->run;
	struct stg_phase_row last;
	int r = stg_catalog_last_phase(run->catalog, &last, e);

	if (r < 0)
		return r;
	if (r > 0 && !last.finished_ns && ph->kind == STG_PHASE_FULL &&
	    !strcmp(last.name, "full_sync")) {
		run->phase = last;
		run->resumed = true;
		log_info("going on with the full sync that was broken off");
		return 0;
	}
	run->phase = (struct stg_phase_row){ .started_ns = clock_real_ns() };
	snprintf(run->phase.name, sizeof(run->phase.name), "%s", name);
	/* A new full sync begins when its target has answered: until then the old one stands. */
	if (ph->kind == STG_PHASE_FULL)
		return 0;
	return stg_catalog_put_phase(run->catalog, &run->phase, e);
}

/*
 * Was the target restarted since it acknowledged what it had not yet on disk?  Then those
 * rows do not count.  Needs to know the target only when there are such rows.
 */
static int check_boot(struct phase *ph, struct err *e)
{
	_cleanup_(buf_fini) struct buf kept = BUF_INIT, now = BUF_INIT;
	struct stg_run *run = &ph->run;
	uint64_t epoch, durable;
	int r = stg_catalog_get_number(run->catalog, "epoch", &epoch, e);

	if (r == 0)
		r = stg_catalog_get_number(run->catalog, "durable_epoch", &durable, e);
	if (r < 0)
		return r;
	atomic_store(&run->epoch, MAX(epoch, 1u));
	run->durable = (uint32_t)durable;
	/* A broken-off phase may have rows in the current epoch, too. */
	if (ph->kind != STG_PHASE_FULL && epoch == durable + 1) {
		struct stg_phase_row last;

		r = stg_catalog_last_phase(run->catalog, &last, e);
		if (r < 0 || (r > 0 && last.id != run->phase.id && last.finished_ns))
			return MIN(r, 0);
	}
	ph->unsettled = true;
	r = wait_for(ph, is_told, e);
	for (size_t i = 0; r == 0 && i < sizeof(run->target.boot_id); i++)
		r = buf_printf(&now, "%02x", run->target.boot_id[i]);
	if (r < 0)
		return r;
	r = stg_catalog_get(run->catalog, "boot_id", &kept, e);
	if (r < 0)
		return r;
	if (r > 0 && strcmp(buf_cstr(&kept), buf_cstr(&now)) != 0) {
		log_info("the target was restarted: what it had not on its disk is compared again");
		run->distrust = true;
	}
	return 0;
}

static int keep_boot(struct phase *ph, struct err *e)
{
	char text[33];

	for (size_t i = 0; i < 16; i++)
		sprintf(text + 2 * i, "%02x", ph->run.target.boot_id[i]);
	return stg_catalog_set(ph->run.catalog, "boot_id", text, e);
}

static void warn_losses(const struct stg_run *run)
{
	if (geteuid() != 0)
		log_info("not root on the source: what this user cannot read is not sent");
	if (!(run->target.flags & TP_R_CHOWN))
		log_info("not root on the target: owners, groups%s cannot be kept there",
			 run->target.flags & TP_R_MKNOD ? "" : ", device files, trusted attributes");
}

static int begin_target(struct phase *ph, struct err *e)
{
	struct stg_run *run = &ph->run;
	int r;

	if (ph->kind == STG_PHASE_FULL) {
		r = wait_for(ph, is_told, e);
		if (r < 0)
			return r;
		if (run->resumed && (run->target.flags & TP_R_EMPTY)) {
			log_info("the target is empty: the full sync begins anew");
			run->resumed = false;
		}
		if (!run->resumed) {
			run->phase.fresh = (run->target.flags & TP_R_EMPTY) != 0;
			r = stg_catalog_begin_full(run->catalog, &run->phase, e);
			if (r < 0)
				return r;
		}
		/* Directories that a broken-off run had begun are marked, and compared anyway. */
		run->compare = !run->phase.fresh;
		warn_losses(run);
		r = stg_catalog_put_phase(run->catalog, &run->phase, e);
		if (r < 0)
			return r;
	}
	r = check_boot(ph, e);
	if (r == 0 && !run->resumed && ph->kind == STG_PHASE_FULL)
		r = keep_boot(ph, e);
	return r;
}

/* A digest of the rules as they were written. */
static int rules_digest(const struct stg_filter *f, char out[SHA256_HEX_SIZE], struct err *e)
{
	_cleanup_(buf_fini) struct buf all = BUF_INIT;

	for (size_t i = 0; i < stg_filter_count(f); i++) {
		const char *text = stg_rule_text(stg_filter_rule(f, i));

		if (buf_put(&all, text, strlen(text) + 1) < 0)
			return no_memory(e);
	}
	sha256_hex(out, buf_view(&all));
	return 0;
}

/*
 * Under other rules than those of the full sync the source may show directories that were
 * hidden then: the target may have something of that name, which nobody has looked at.
 */
static int check_rules(struct phase *ph, struct err *e)
{
	_cleanup_(buf_fini) struct buf kept = BUF_INIT;
	char now[SHA256_HEX_SIZE];
	int r = rules_digest(ph->run.filter, now, e);

	if (r == 0 && ph->kind == STG_PHASE_FULL)
		return stg_catalog_set(ph->run.catalog, "full_rules", now, e);
	if (r == 0)
		r = stg_catalog_get(ph->run.catalog, "full_rules", &kept, e);
	if (r > 0)
		ph->run.compare_new = strcmp(buf_cstr(&kept), now) != 0;
	return MIN(r, 0);
}

static int level_of(const struct stg_options *o)
{
	return o->compress == STG_COMPRESS_AUTO ? TP_LEVEL_AUTO : o->compress;
}

static int init_run(struct stg_run *run, struct stg_migration *m, enum stg_phase_kind kind,
		    struct err *e)
{
	pthread_condattr_t attr;

	*run = (struct stg_run){
		.opt = m->opt,
		.source_fd = m->source_fd,
		.paths = m->opt->paths.v,
		.paths_n = m->opt->paths.n,
		.target_root = bytes_str(m->opt->target.root ? m->opt->target.root : ""),
		.catalog = m->catalog,
		.filter = m->filters[kind],
		.mounts = m->mounts,
		.connector = m->connector || !m->ssh ? m->connector : stg_ssh_connector(m->ssh),
		.report = m->report,
		.progress = m->progressing ? &m->progress : NULL,
		.bwlimit = m->bwlimit,
		.delete = !m->opt->no_delete,
		.delete_limited = m->opt->max_delete != STG_MAX_DELETE_NONE,
		.delete_left = m->opt->max_delete,
		.level = level_of(m->opt),
		.sessions = m->opt->sessions == STG_SESSIONS_AUTO ? SESSIONS_AUTO :
								    m->opt->sessions,
		.manual = m->opt->resume_mode == STG_RESUME_MANUAL,
		.id = m->run_number,
	};
	/* "." stands for the whole source. */
	if (run->paths_n == 1 && !strcmp(run->paths[0], "."))
		run->paths_n = 0;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&run->lock, NULL);
	pthread_cond_init(&run->changed, &attr);
	pthread_condattr_destroy(&attr);
	return stg_queue_new(QUEUE_BYTES, &run->queue, e);
}

static void fini_run(struct stg_run *run)
{
	while (run->again) {
		struct stg_job *next = run->again->next;

		stg_job_free(run->again);
		run->again = next;
	}
	for (size_t i = 0; i < run->filters_n; i++)
		stg_filter_dir_unref(run->filters[i]);
	free(run->filters);
	stg_queue_free(run->queue);
	stg_inuse_free(run->inuse);
	pthread_mutex_destroy(&run->lock);
	pthread_cond_destroy(&run->changed);
}

/* --- end --- */

static int partial_code(struct phase *ph)
{
	if (atomic_load(&ph->run.count.failed) || atomic_load(&ph->run.count.scan_errors))
		return 23;
	if (atomic_load(&ph->run.count.vanished))
		return 24;
	return atomic_load(&ph->run.count.left) ? 25 : 0;
}

static void warn_left(struct phase *ph)
{
	uint64_t left = atomic_load(&ph->run.count.left);

	if (!left)
		return;
	snprintf(ph->left_text, sizeof(ph->left_text),
		 "--max-delete %d: %llu more entries would have been deleted, they were left",
		 ph->m->opt->max_delete, (unsigned long long)left);
	log_error("%s", ph->left_text);
	if (!ph->warning)
		ph->warning = ph->left_text;
}

static void report_sessions(struct phase *ph)
{
	struct stg_session_stats v[STG_SESSIONS_MAX];
	struct stg_phase_stats stats;
	size_t n = 0;

	fill_stats(ph, &stats);
	for (size_t i = 0; i < STG_SESSIONS_MAX; i++) {
		if (!stg_senders_stats(ph->senders, i, &v[n]))
			continue;
		stats.bytes_wire_out += v[n].bytes_wire_out;
		stats.bytes_wire_in += v[n].bytes_wire_in;
		n++;
	}
	stg_report_set_stats(ph->m->report, &stats, v, n);
}

static int finish(struct phase *ph, struct err *e)
{
	struct stg_run *run = &ph->run;
	uint64_t deleted = atomic_load(&run->count.deleted);
	int r = wait_for(ph, is_told, e); /* a target that is not there has not been synced */

	if (r == 0)
		r = end_epoch(ph, e);
	if (r == 0)
		r = keep_boot(ph, e);
	run->phase.finished_ns = clock_real_ns();
	if (r == 0)
		r = stg_catalog_put_phase(run->catalog, &run->phase, e);
	if (r == 0 && deleted)
		r = stg_migration_audit(ph->m, STG_AUDIT_DELETE, (struct stg_audit_field[]){
			STG_AUDIT_NUMBER("count", deleted),
			STG_AUDIT_TEXT("phase", run->phase.name) }, 2, e);
	return r;
}

static int run_phase(struct phase *ph, struct err *e)
{
	int r;

	ph->run.eager = ph->kind == STG_PHASE_FULL;
	ph->run.tell_open = ph->kind == STG_PHASE_CUTOVER;
	if (ph->kind != STG_PHASE_FULL) {
		r = stg_catalog_has_entries(ph->run.catalog, e);
		if (r < 0)
			return r;
		ph->run.expect_data = r > 0;
	}
	r = stg_senders_start(&ph->run, &ph->senders, e);
	if (r == 0)
		r = begin_target(ph, e);
	if (r == 0)
		r = check_rules(ph, e);
	if (r == 0)
		r = passes(ph, e);
	warn_left(ph);
	return r < 0 ? r : finish(ph, e);
}

static void set_checks(struct stg_migration *m)
{
	static const char version[] = "stager " STAGER_VERSION;
	struct stg_hook_result h = { .output_tail = bytes_str(version) };

	h.step = "source_check";
	stg_report_set_step(m->report, STG_STEP_SOURCE_CHECK, &h);
	h.step = "target_check";
	stg_report_set_step(m->report, STG_STEP_TARGET_CHECK, &h);
}

static const char *begin_report(struct phase *ph)
{
	const struct stg_target *t = &ph->m->opt->target;
	struct stg_phase_path path = {
		.source = bytes_str(ph->m->source),
		.target = bytes_str(t->root),
	};

	ph->delete_mode = ph->run.delete ? STG_DELETE : STG_DELETE_OFF;
	return stg_report_begin_phase(ph->m->report, &(struct stg_phase_opts){
		.kind = ph->kind,
		.delete_mode = ph->delete_mode,
		.paths = &path,
		.paths_n = 1,
	});
}

/* Tell the report and the audit log how it ended, whatever else fails. */
static int end_report(struct phase *ph, int r, struct err *e)
{
	int exit_code = r < 0 ? stg_exit_code(r) : partial_code(ph);
	struct stg_phase_result res = {
		.run_state = r == -ERR_CANCELLED || r == -ERR_LOST ? STG_RUN_INTERRUPTED :
			     r < 0		     ? STG_RUN_FAILED :
			     exit_code		     ? STG_RUN_PARTIAL :
						       STG_RUN_SUCCEEDED,
		.exit_code = exit_code,
		.warning = ph->warning,
		.output_tail = r < 0 ? bytes_str(e->text) : bytes_of(NULL, 0),
	};
	struct err save = { 0 };
	int s;

	report_sessions(ph);
	if (ph->run.told)
		set_checks(ph->m);
	stg_report_finish_phase(ph->m->report, &res);
	stg_progress_end(&ph->m->progress, exit_code);
	s = stg_migration_save(ph->m, STG_AUDIT_PHASE_FINISHED, ph->run.phase.name, exit_code,
			       &save);
	if (s < 0 && r == 0) {
		*e = save;
		return s;
	}
	return r;
}

int stg_phase_run(struct stg_migration *m, enum stg_phase_kind kind, int *ret_partial,
		  struct err *e)
{
	struct phase ph = { .m = m, .kind = kind, .began_ns = clock_mono_ns() };
	const char *name;
	int r = stg_phase_allowed(m, kind, e);

	if (r < 0)
		return r;
	r = init_run(&ph.run, m, kind, e);
	if (r < 0)
		return r;
	ph.epoch_ns = ph.began_ns;
	if (m->opt->phase_timeout_s)
		ph.deadline_ns = ph.began_ns + m->opt->phase_timeout_s * 1000000000LL;
	name = begin_report(&ph);
	stg_progress_begin(&m->progress, name ? name : "sync");
	r = begin_row(&ph, name ? name : "sync", e);
	if (r == 0)
		r = stg_migration_audit(m, STG_AUDIT_PHASE_STARTED, (struct stg_audit_field[]){
			STG_AUDIT_TEXT("phase", ph.run.phase.name) }, 1, e);
	if (r == 0)
		r = stg_migration_activate(m, &ph.run, e);
	if (r == 0)
		r = run_phase(&ph, e);
	if (r < 0)
		stg_run_fail(&ph.run, e);
	if (ph.senders)
		stg_senders_join(ph.senders);
	(void)!stg_migration_activate(m, NULL, NULL);
	r = end_report(&ph, r, e);
	if (r == 0)
		r = stg_catalog_commit(m->catalog, e);
	stg_senders_free(ph.senders);
	*ret_partial = partial_code(&ph);
	fini_run(&ph.run);
	stg_filter_free(ph.leftovers);
	return r;
}

int stg_phase_clean(struct stg_migration *m, struct err *e)
{
	struct phase ph = { .m = m, .epoch_ns = clock_mono_ns() };
	_cleanup_(stg_filter_freep) struct stg_filter *filter = NULL;
	struct stg_filter_dir *node = NULL;
	int r = init_run(&ph.run, m, STG_PHASE_FULL, e);

	if (r < 0)
		return r;
	ph.run.delete = true;
	ph.run.delete_limited = false;
	ph.run.sessions = 1;
	r = leftovers_filter(&filter, &node, e);
	if (r == 0)
		r = stg_migration_activate(m, &ph.run, e);
	if (r == 0)
		r = stg_senders_start(&ph.run, &ph.senders, e);
	if (r == 0)
		r = wait_for(&ph, is_told, e);
	if (r == 0)
		r = clean_pages(&ph, node, e);
	if (r < 0)
		stg_run_fail(&ph.run, e);
	if (ph.senders)
		stg_senders_join(ph.senders);
	(void)!stg_migration_activate(m, NULL, NULL);
	stg_senders_free(ph.senders);
	fini_run(&ph.run);
	stg_filter_dir_unref(node);
	return r;
}

/* Walk the source with run's filter; no job is made. */
static int walk(struct stg_run *run, const struct stg_scan_visitor *visitor, struct err *e)
{
	struct stg_scan *scan;
	int r;

	run->dry = true;
	r = stg_scan_start(run, scan_threads(), visitor, &scan, e);
	if (r < 0)
		return r;
	stg_scan_join(scan);
	if (run->error.code)
		*e = run->error;
	return run->error.code;
}

int stg_phase_walk(struct stg_migration *m, enum stg_phase_kind kind,
		   const struct stg_scan_visitor *visitor, uint64_t *ret_errors, struct err *e)
{
	struct stg_run run;
	int r = init_run(&run, m, kind, e);

	if (r < 0)
		return r;
	run.catalog = NULL;
	r = walk(&run, visitor, e);
	*ret_errors = atomic_load(&run.count.scan_errors);
	fini_run(&run);
	return r;
}

int stg_phase_plan(struct stg_migration *m, const struct stg_scan_visitor *visitor,
		   struct stg_plan *ret, struct err *e)
{
	struct phase ph = { .m = m };
	int stands = 0, r;

	if (m->catalog)
		stands = stg_catalog_full_stands(m->catalog, e);
	if (stands < 0)
		return stands;
	r = init_run(&ph.run, m, stands ? STG_PHASE_INCREMENTAL : STG_PHASE_FULL, e);
	if (r < 0)
		return r;
	if (!stands)
		ph.run.catalog = NULL; /* a new full sync asks the target, not the catalog */
	r = walk(&ph.run, visitor, e);
	*ret = (struct stg_plan){
		.entries = atomic_load(&ph.run.count.scanned),
		.bytes = atomic_load(&ph.run.count.scanned_bytes),
		.send_entries = atomic_load(&ph.run.count.planned),
		.send_bytes = atomic_load(&ph.run.count.planned_bytes),
		.removals = atomic_load(&ph.run.count.planned_removals),
		.errors = atomic_load(&ph.run.count.scan_errors),
		.full = stands <= 0,
	};
	fini_run(&ph.run);
	return r;
}
