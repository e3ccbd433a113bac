/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/phase.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/sha256.h"
#include "stager/audit.h"
#include "stager/filter.h"
#include "stager/history.h"
#include "stager/hot.h"
#include "stager/inuse.h"
#include "stager/migration.h"
#include "stager/options.h"
#include "stager/pass.h"
#include "stager/run.h"
#include "stager/scan.h"
#include "stager/sender.h"
#include "stager/ssh.h"
#include "stager/tune.h"
#include "transport/stream.h"

#define QUEUE_BYTES   (8u << 20)

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
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
static int begin_row(struct stg_phase *ph, const char *name, struct err *e)
{
	struct stg_run *run = &ph->run;
	struct stg_phase_row last;
	int r = stg_catalog_last_phase(run->catalog, &last, e);

	if (r < 0)
		return r;
	ph->broken_before = r > 0 && !last.finished_ns;
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
static int check_boot(struct stg_phase *ph, struct err *e)
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
	if (ph->kind != STG_PHASE_FULL && epoch == durable + 1 && !ph->broken_before)
		return 0;
	ph->unsettled = true;
	r = stg_pass_wait_told(ph, e);
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
		/* With a directory all that is below it may be back where it was. */
		r = stg_catalog_get_number(run->catalog, STG_MOVED_EPOCH, &epoch, e);
		run->compare |= r == 0 && epoch > durable;
	}
	return MIN(r, 0);
}

static int keep_boot(struct stg_phase *ph, struct err *e)
{
	char text[33];

	for (size_t i = 0; i < 16; i++)
		sprintf(text + 2 * i, "%02x", ph->run.target.boot_id[i]);
	return stg_catalog_set(ph->run.catalog, "boot_id", text, e);
}

/* It is capabilities that read: the service is no root, and in a container root may lack them. */
static bool may(unsigned cap)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	return syscall(SYS_capget, &head, data) == 0 &&
	       (data[CAP_TO_INDEX(cap)].effective & CAP_TO_MASK(cap));
}

static void warn_losses(const struct stg_run *run)
{
	if (!may(CAP_DAC_READ_SEARCH) && !may(CAP_DAC_OVERRIDE))
		log_info("not root on the source: what this user cannot read is not sent");
	else if (!may(CAP_SYS_ADMIN))
		log_info("without CAP_SYS_ADMIN on the source: trusted attributes cannot be seen there, nor sent");
	if (!(run->target.flags & TP_R_CHOWN))
		log_info("not root on the target: owners, groups%s cannot be kept there",
			 run->target.flags & TP_R_MKNOD ? "" : ", device files, trusted attributes");
}

static int begin_target(struct stg_phase *ph, struct err *e)
{
	struct stg_run *run = &ph->run;
	int r;

	if (ph->kind == STG_PHASE_FULL) {
		r = stg_pass_wait_told(ph, e);
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
static int check_rules(struct stg_phase *ph, struct err *e)
{
	_cleanup_(buf_fini) struct buf kept = BUF_INIT;
	char now[SHA256_HEX_SIZE];
	int r = rules_digest(ph->run.filter, now, e);

	if (r == 0 && ph->kind == STG_PHASE_FULL)
		return stg_catalog_set(ph->run.catalog, STG_FULL_RULES, now, e);
	if (r == 0)
		r = stg_catalog_get(ph->run.catalog, STG_FULL_RULES, &kept, e);
	if (r > 0)
		ph->run.compare_new = strcmp(buf_cstr(&kept), now) != 0;
	return MIN(r, 0);
}

/*
 * What a full sync without deletes left on the target is in no row.  The first phase that may
 * delete looks for it.
 */
static int check_extras(struct stg_phase *ph, struct err *e)
{
	struct stg_run *run = &ph->run;
	uint64_t kept;
	int r;

	if (ph->kind == STG_PHASE_FULL && (!run->delete || !run->resumed))
		return stg_catalog_set_number(run->catalog, STG_EXTRAS_KEPT,
					      !run->delete && run->compare, e);
	r = stg_catalog_get_number(run->catalog, STG_EXTRAS_KEPT, &kept, e);
	if (r == 0 && kept && run->delete) {
		log_info("the full sync deleted nothing: the target is compared");
		run->compare = true;
	}
	return r;
}

/* It has seen all of both sides. */
static int end_extras(struct stg_phase *ph, struct err *e)
{
	const struct stg_run *run = &ph->run;

	if (!run->delete || run->paths_n || run->skip_n || atomic_load(&run->count.scan_errors))
		return 0;
	return stg_catalog_set_number(run->catalog, STG_EXTRAS_KEPT, 0, e);
}

static int level_of(const struct stg_options *o)
{
	return o->compress == STG_COMPRESS_AUTO ? TP_LEVEL_AUTO : o->compress;
}

int stg_phase_init(struct stg_run *run, struct stg_migration *m, enum stg_phase_kind kind,
		   struct err *e)
{
	pthread_condattr_t attr;

	*run = (struct stg_run){
		.opt = m->opt,
		.source_fd = m->source_fd,
		.paths = m->scope ? m->scope->paths : m->opt->paths.v,
		.paths_n = m->scope ? m->scope->paths_n : m->opt->paths.n,
		.only_paths = m->scope && m->scope->only_paths,
		.skip = m->scope ? m->scope->skip : NULL,
		.skip_n = m->scope ? m->scope->skip_n : 0,
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
		.sessions = m->opt->sessions == STG_SESSIONS_AUTO ? STG_TUNE_FAR_MAX :
								    m->opt->sessions,
		.sessions_asked = m->opt->sessions == STG_SESSIONS_AUTO ? 0 : m->opt->sessions,
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

void stg_phase_fini(struct stg_run *run)
{
	stg_run_drop_again(run);
	for (size_t i = 0; i < run->filters_n; i++)
		stg_filter_dir_unref(run->filters[i]);
	free(run->filters);
	stg_job_free(run->moves);
	stg_queue_free(run->queue);
	stg_inuse_free(run->inuse);
	stg_hot_free(run->hot);
	pthread_mutex_destroy(&run->lock);
	pthread_cond_destroy(&run->changed);
}

/* --- end --- */

static int partial_code(struct stg_phase *ph)
{
	if (atomic_load(&ph->run.count.failed) || atomic_load(&ph->run.count.scan_errors))
		return 23;
	if (atomic_load(&ph->run.count.vanished))
		return 24;
	return atomic_load(&ph->run.count.left) ? 25 : 0;
}

static void warn_left(struct stg_phase *ph)
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

static void report_tuning(struct stg_phase *ph)
{
	struct stg_run *run = &ph->run;
	struct stg_tuning t = {
		.compression = ph->m->opt->compress,
		.level_most = atomic_load(&run->count.level_most),
		.bytes_raw = atomic_load(&run->count.raw),
		.bytes_packed = atomic_load(&run->count.packed),
	};

	stg_senders_tuning(ph->senders, &t);
	stg_report_set_tuning(ph->m->report, &t);
}

static void report_sessions(struct stg_phase *ph)
{
	struct stg_session_stats v[STG_SESSIONS_MAX];
	struct stg_phase_stats stats;
	size_t n = 0;

	stg_pass_stats(ph, &stats);
	for (size_t i = 0; i < STG_SESSIONS_MAX; i++) {
		if (!stg_senders_stats(ph->senders, i, &v[n]))
			continue;
		stats.bytes_wire_out += v[n].bytes_wire_out;
		stats.bytes_wire_in += v[n].bytes_wire_in;
		n++;
	}
	stg_report_set_stats(ph->m->report, &stats, v, n);
	report_tuning(ph);
}

static int finish(struct stg_phase *ph, struct err *e)
{
	struct stg_run *run = &ph->run;
	uint64_t deleted = atomic_load(&run->count.deleted);
	int r = stg_pass_wait_told(ph, e); /* a target that is not there has not been synced */

	if (r == 0)
		r = stg_pass_sync(ph, e);
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

/* --- what the forecast will want to know --- */

static void get_past(const struct stg_phase *ph, struct stg_past *ret)
{
	*ret = (struct stg_past){
		.phase = ph->run.phase.id,
		.kind = ph->kind,
		.started_ms = ph->run.phase.started_ns / 1000000,
	};
	snprintf(ret->name, sizeof(ret->name), "%s", ph->run.phase.name);
}

static int begin_history(struct stg_phase *ph, struct err *e)
{
	struct stg_past past;

	get_past(ph, &past);
	return stg_history_put(ph->run.catalog, &past, e);
}

/* After the sessions have ended; r: what the phase has come to. */
static int end_history(struct stg_phase *ph, int r, struct err *e)
{
	const struct stg_counters *c = &ph->run.count;
	struct stg_session_stats s;
	struct stg_past past;

	/* One that has sent nothing has hidden no change from the next. */
	if (r < 0)
		return atomic_load(&c->acked) || !ph->run.phase.id ? 0 :
			       stg_history_drop(ph->run.catalog, ph->run.phase.id, e);
	get_past(ph, &past);
	past.finished = true;
	past.sync_ms = ph->run.phase.sync_ns / 1000000;
	past.duration_s = (double)(clock_mono_ns() - ph->began_ns) / 1e9;
	past.scan_s = (double)ph->scan_ns / 1e9;
	past.entries_scanned = atomic_load(&c->scanned);
	past.bytes_scanned = atomic_load(&c->scanned_bytes);
	past.entries_changed = atomic_load(&c->changed) - atomic_load(&c->rechecked);
	past.entries_deleted = atomic_load(&c->deleted);
	past.bytes_literal = atomic_load(&c->literal);
	past.bytes_matched = atomic_load(&c->matched);
	for (size_t i = 0; i < STG_SESSIONS_MAX; i++)
		if (stg_senders_stats(ph->senders, i, &s))
			past.bytes_wire += s.bytes_wire_out;
	r = stg_past_take_hot(&past, ph->run.hot, e);
	if (r == 0)
		return stg_history_put(ph->run.catalog, &past, e);
	stg_past_fini(&past);
	return r;
}

/* A source that is empty because its file system is not mounted must not empty the target. */
static int check_source(struct stg_phase *ph, struct err *e)
{
	struct stg_row row;
	struct statx now;
	uint64_t dir;
	int r;

	if (!ph->run.delete || !io_dir_is_empty(ph->run.source_fd, NULL))
		return 0;
	r = stg_catalog_find(ph->run.catalog, bytes_str(""), &dir, &row, e);
	if (r <= 0 || statx(ph->run.source_fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &now) < 0 ||
	    stg_dev_of(&now) == row.st.dev)
		return MIN(r, 0);
	return err_set(e, -ERR_FORBIDDEN,
		       "%s: the source root is empty and on another file system than before: is its "
		       "own mounted?  All would be deleted on the target; if that is what you want, "
		       "run \"stager full\"", ph->m->source);
}

static int run_phase(struct stg_phase *ph, struct err *e)
{
	int r;

	ph->run.eager = ph->kind == STG_PHASE_FULL;
	ph->run.tell_open = ph->kind == STG_PHASE_CUTOVER;
	if (ph->kind != STG_PHASE_FULL) {
		r = stg_catalog_has_entries(ph->run.catalog, e);
		if (r < 0)
			return r;
		ph->run.expect_data = r > 0;
		if (r > 0)
			r = check_source(ph, e);
		if (r < 0)
			return r;
	}
	r = stg_senders_start(&ph->run, &ph->senders, e);
	if (r == 0)
		r = begin_target(ph, e);
	if (r == 0)
		r = check_rules(ph, e);
	if (r == 0)
		r = check_extras(ph, e);
	if (r == 0)
		r = begin_history(ph, e);
	if (r == 0)
		r = stg_pass_run(ph, e);
	if (r == 0)
		r = end_extras(ph, e);
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

static const char *begin_report(struct stg_phase *ph)
{
	const struct cfg_target *t = &ph->m->opt->target;
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
static int end_report(struct stg_phase *ph, int r, struct err *e)
{
	int exit_code = r < 0 ? err_exit_status(r) : partial_code(ph);
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
	struct stg_phase ph = { .m = m, .kind = kind, .began_ns = clock_mono_ns() };
	struct err ignored = { 0 };
	const char *name;
	int s, r = stg_phase_allowed(m, kind, e);

	if (r < 0)
		return r;
	r = stg_phase_init(&ph.run, m, kind, e);
	if (r < 0)
		return r;
	if (kind != STG_PHASE_FULL)
		r = stg_hot_new(&ph.run.hot, e);
	if (r < 0) {
		stg_phase_fini(&ph.run);
		return r;
	}
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
	s = end_history(&ph, r, r < 0 ? &ignored : e);
	r = r < 0 ? r : s;
	if (r == 0)
		r = stg_catalog_commit(m->catalog, e);
	stg_senders_free(ph.senders);
	*ret_partial = partial_code(&ph);
	stg_phase_fini(&ph.run);
	stg_filter_free(ph.leftovers);
	return r;
}

int stg_phase_clean(struct stg_migration *m, struct err *e)
{
	struct stg_phase ph = { .m = m, .epoch_ns = clock_mono_ns() };
	_cleanup_(stg_filter_freep) struct stg_filter *filter = NULL;
	struct stg_filter_dir *node = NULL;
	int r = stg_phase_init(&ph.run, m, STG_PHASE_FULL, e);

	if (r < 0)
		return r;
	ph.run.delete = true;
	ph.run.delete_limited = false;
	ph.run.sessions = ph.run.sessions_asked = 1;
	r = stg_pass_leftovers_filter(&filter, &node, e);
	if (r == 0)
		r = stg_catalog_clear_partials(m->catalog, e);
	if (r == 0)
		r = stg_migration_activate(m, &ph.run, e);
	if (r == 0)
		r = stg_senders_start(&ph.run, &ph.senders, e);
	if (r == 0)
		r = stg_pass_wait_told(&ph, e);
	if (r == 0)
		r = stg_pass_remove_leftovers(&ph, node, e);
	if (r < 0)
		stg_run_fail(&ph.run, e);
	if (ph.senders)
		stg_senders_join(ph.senders);
	(void)!stg_migration_activate(m, NULL, NULL);
	stg_senders_free(ph.senders);
	stg_phase_fini(&ph.run);
	stg_filter_dir_unref(node);
	return r;
}

/* Walk the source with run's filter; no job is made. */
static int walk(struct stg_run *run, const struct stg_scan_visitor *visitor, struct err *e)
{
	struct stg_scan *scan;
	int r;

	run->dry = true;
	r = stg_scan_start(run, stg_pass_scan_threads(), visitor, &scan, e);
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
	int r = stg_phase_init(&run, m, kind, e);

	if (r < 0)
		return r;
	run.catalog = NULL;
	r = walk(&run, visitor, e);
	*ret_errors = atomic_load(&run.count.scan_errors);
	stg_phase_fini(&run);
	return r;
}

int stg_phase_plan(struct stg_migration *m, const struct stg_scan_visitor *visitor,
		   struct stg_plan *ret, struct err *e)
{
	struct stg_phase ph = { .m = m };
	int stands = 0, r;

	if (m->catalog)
		stands = stg_catalog_full_stands(m->catalog, e);
	if (stands < 0)
		return stands;
	r = stg_phase_init(&ph.run, m, stands ? STG_PHASE_INCREMENTAL : STG_PHASE_FULL, e);
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
	stg_phase_fini(&ph.run);
	return r;
}
