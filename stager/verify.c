/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/io.h"
#include "common/log.h"
#include "common/text.h"
#include "stager/audit.h"
#include "stager/command.h"
#include "stager/explain.h"
#include "stager/filter.h"
#include "stager/migration.h"
#include "stager/options.h"
#include "stager/pass.h"
#include "stager/phase.h"
#include "stager/sender.h"

/*
 * A verification has rounds.  The first one walks the source, or goes through what an earlier
 * verification has found (--only-inconsistent).  What it finds loses its standing in the
 * catalog, so that the next phase sends it whatever it looks like.  --repair runs that phase
 * at once, and a second round looks at the findings of the first.
 *
 * A round: all entries, directory by directory, compared with a listing of the target for
 * what is missing and what is extra, and one by one for the rest; then, when it is known
 * which names are there, whether the names of each inode are one inode there, too.
 */
#define ROUND_KEY    "verify_round"
#define FINISHED_KEY "verify_finished" /* "quick" or "hash"; empty: none has finished */

struct verify {
	struct stg_migration *m;
	struct stg_verification v;
	struct stg_verify_result res;
	enum stg_phase_kind kind; /* whose rules hold: of the last phase */
	struct strlist paths;     /* the sub-trees of this verification */
	struct stg_scope scope;
	bool nothing;             /* no path that was asked for is there */
	bool partial;             /* the repair left something out */
};

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

/* --- what the sessions tell --- */

int stg_verify_in_use(struct stg_run *run, struct bytes path, const char *reason)
{
	struct stg_verification *v = run->verify;
	char text[TEXT_NAME_MAX];
	int r = 0;

	atomic_fetch_add(&v->in_use, 1);
	log_info("%s is in use (%s): its content is not compared", text_name(text, path), reason);
	pthread_mutex_lock(&run->lock);
	if (v->in_use_listed < STG_VERIFY_LIST_MAX) {
		v->in_use_listed++;
		r = buf_printf(&v->in_use_list, "{");
		if (r == 0)
			r = text_json_path(&v->in_use_list, path);
		if (r == 0)
			r = buf_printf(&v->in_use_list, ",\"reason\":\"%s\"},", reason);
	}
	pthread_mutex_unlock(&run->lock);
	return r;
}

int stg_verify_count(struct stg_verification *v, struct bytes dir, struct bytes name)
{
	_cleanup_(buf_fini) struct buf path = BUF_INIT;

	atomic_fetch_add_explicit(&v->checked, 1, memory_order_relaxed);
	if (!v->include_n)
		return 0;
	if (stg_path_join(&path, dir, name) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < v->include_n; i++)
		if (stg_path_below(buf_view(&path), bytes_str(v->include[i].path)))
			atomic_fetch_add_explicit(&v->include[i].entries, 1,
						  memory_order_relaxed);
	return 0;
}

/* --- what is to be verified --- */

static bool exists(const struct stg_migration *m, const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	_cleanup_close_ int dir = io_open_dir_below(m->source_fd, bytes_of(path, n), O_PATH);
	struct stat st;

	return dir >= 0 && fstatat(dir, slash ? slash + 1 : path, &st,
				   AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0;
}

/* All that include has in common with --path. */
static int add_paths(struct verify *vf, struct stg_verify_include *include, struct err *e)
{
	const struct strlist *all = &vf->m->opt->paths;
	struct bytes want = bytes_str(include->path);
	bool whole = !all->n || !strcmp(all->v[0], ".");

	for (size_t i = 0; i < (whole ? 1 : all->n); i++) {
		struct bytes part = whole ? bytes_of("", 0) : bytes_str(all->v[i]);
		struct bytes add = stg_path_below(want, part) ? want : part;

		if (!stg_path_below(want, part) && !stg_path_below(part, want))
			continue;
		include->there = true;
		if (strlist_add(&vf->paths, (const char *)add.p, add.n) < 0)
			return no_memory(e);
	}
	return 0;
}

static int set_scope(struct verify *vf, struct err *e)
{
	const struct stg_options *o = vf->m->opt;
	size_t n = o->verify_include.n;
	char text[TEXT_NAME_MAX];
	int r = 0;

	vf->v.include = calloc(n ? n : 1, sizeof(*vf->v.include));
	if (!vf->v.include)
		return no_memory(e);
	vf->v.include_n = n;
	for (size_t i = 0; i < n && r == 0; i++) {
		struct stg_verify_include *in = &vf->v.include[i];

		in->path = o->verify_include.v[i];
		if (exists(vf->m, in->path))
			r = add_paths(vf, in, e);
		if (r == 0 && !in->there)
			log_error("--verify-include %s: the source has no such path, or it is not "
				  "synced: 0 entries", text_name(text, bytes_str(in->path)));
	}
	vf->nothing = n && !vf->paths.n;
	vf->scope = (struct stg_scope){
		.paths = n ? vf->paths.v : o->paths.v,
		.paths_n = n ? vf->paths.n : o->paths.n,
		.only_paths = n != 0,
		.skip = o->verify_exclude.v,
		.skip_n = o->verify_exclude.n,
	};
	return r;
}

static bool in_scope(const struct verify *vf, struct bytes path)
{
	bool in = !vf->v.include_n;

	for (size_t i = 0; i < vf->v.include_n; i++)
		in |= stg_path_below(path, bytes_str(vf->v.include[i].path));
	for (size_t i = 0; i < vf->scope.skip_n; i++)
		in &= !stg_path_below(path, bytes_str(vf->scope.skip[i]));
	return in;
}

/* --- a round --- */

static int push_root(struct verify *vf, struct stg_phase *ph, struct err *e)
{
	struct stg_item item = { .op = STG_OP_CHECK, .path = bytes_of("", 0),
				 .name = bytes_of("", 0) };
	struct stg_job *job = NULL;
	struct stg_row row;
	struct statx stx;
	uint64_t dir;
	int r;

	if (ph->run.only_paths)
		return 0;
	if (statx(vf->m->source_fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx) < 0)
		return err_sys(e, "stat the source root");
	stg_stat_from_statx(&stx, &item.st);
	r = stg_catalog_find(vf->m->catalog, item.path, &dir, &row, e);
	if (r > 0)
		stg_item_set_old(&item, &row);
	stg_run_add_total(&ph->run, &item.st);
	if (r >= 0)
		r = stg_job_new(STG_JOB_ITEMS, &job, e);
	if (r == 0)
		r = stg_job_add(job, &item, e);
	if (r == 0)
		return stg_pass_push(ph, job, e);
	stg_job_free(job);
	return r;
}

/* Path without its last component, and that one. */
static void split(struct bytes path, struct bytes *ret_dir, struct bytes *ret_name)
{
	const uint8_t *slash = path.n ? memrchr(path.p, '/', path.n) : NULL;
	size_t n = slash ? (size_t)(slash - path.p) : 0;

	*ret_dir = bytes_of(path.n ? path.p : (const uint8_t *)"", n);
	*ret_name = slash ? bytes_of(slash + 1, path.n - n - 1) :
			    bytes_of(path.n ? path.p : (const uint8_t *)"", path.n);
}

/* 1: the source has it and sends it; 0: it should not be there; 2: what is there is no matter. */
static int should_be(struct verify *vf, struct bytes path, struct err *e)
{
	const struct stg_options *o = vf->m->opt;
	struct stg_explained x = { 0 };
	struct stg_subject s;
	int r = stg_subject_look(vf->m, path, false, &s, e);

	if (r == 0)
		r = stg_explain(vf->m, vf->kind, &s, &x, e);
	if (r < 0)
		return r;
	if (s.scope == STG_SCOPE_OUT || (s.mount_n && s.mount_n < path.n))
		r = 2;
	else if (s.mode && !s.blocked && !x.hidden.yes)
		r = 1;
	else
		r = x.kept.yes || o->no_delete ? 2 : 0;
	stg_explained_fini(&x);
	return r;
}

static int stat_below(const struct stg_migration *m, const struct stg_item *item,
		      struct stg_stat *ret, struct err *e)
{
	_cleanup_close_ int dir = io_open_dir_below(m->source_fd, item->path, O_PATH);
	char name[NAME_MAX + 1];
	struct statx stx;

	memcpy(name, item->name.p, MIN(item->name.n, (size_t)NAME_MAX));
	name[MIN(item->name.n, (size_t)NAME_MAX)] = '\0';
	if (dir < 0 || statx(dir, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
			     STATX_BASIC_STATS, &stx) < 0) {
		char text[TEXT_NAME_MAX];

		return err_sysn(e, dir < 0 ? dir : -errno, "stat %s", text_name(text, item->name));
	}
	stg_stat_from_statx(&stx, ret);
	return 0;
}

/* Look again at what was found at path. */
static int add_named(struct verify *vf, struct stg_phase *ph, struct stg_job *job,
		     struct bytes path, struct err *e)
{
	struct stg_item item = { .op = STG_OP_CHECK };
	struct stg_row row;
	int known, r = should_be(vf, path, e);

	split(path, &item.path, &item.name);
	if (r == 2)
		return stg_catalog_fix_finding(vf->m->catalog, path, vf->v.round, e);
	if (r == 1 && stat_below(vf->m, &item, &item.st, e) < 0)
		r = 0; /* it has gone since */
	if (r < 0)
		return r;
	*e = (struct err){ 0 };
	known = stg_catalog_find(vf->m->catalog, path, &item.dir, &row, e);
	if (known > 0)
		stg_item_set_old(&item, &row);
	if (r == 0)
		item.op = STG_OP_ABSENT;
	stg_run_add_total(&ph->run, &item.st);
	return known < 0 ? known : stg_job_add(job, &item, e);
}

static int named_stage(struct verify *vf, struct stg_phase *ph, struct err *e)
{
	struct stg_finding_page *page = calloc(1, sizeof(*page));
	struct stg_job *job = NULL;
	int r = page ? 0 : no_memory(e);

	stg_progress_step(&vf->m->progress, "compare");
	while (r == 0) {
		r = stg_catalog_next_finding(vf->m->catalog, page, e);
		if (r < 0 || !page->n)
			break;
		r = stg_job_new(STG_JOB_ITEMS, &job, e);
		for (size_t i = 0; r == 0 && i < page->n; i++)
			if (!page->rows[i].fixed && in_scope(vf, page->rows[i].path))
				r = add_named(vf, ph, job, page->rows[i].path, e);
		if (r == 0)
			r = stg_pass_push(ph, TAKE_PTR(job), e);
		stg_job_free(TAKE_PTR(job));
	}
	if (page)
		stg_finding_page_fini(page);
	free(page);
	atomic_store(&vf->m->progress.scanning, false);
	return r < 0 ? r : stg_pass_wait_idle(ph, e);
}

/* The first name of the inode that the links before were about. */
struct leader {
	uint64_t ino, dev;
	bool known;
	struct buf path, name;
};

static int add_link(struct stg_job *job, struct leader *first, const struct stg_check_link *l,
		    struct err *e)
{
	if (!first->known || first->ino != l->ino || first->dev != l->dev) {
		first->known = true;
		first->ino = l->ino;
		first->dev = l->dev;
		buf_clear(&first->path);
		buf_clear(&first->name);
		if (buf_put_bytes(&first->path, l->path) < 0 ||
		    buf_put_bytes(&first->name, l->name) < 0)
			return no_memory(e);
	}
	return stg_job_add(job, &(struct stg_item){
		.op = STG_OP_CHECKLINK,
		.path = l->path.n ? l->path : bytes_of("", 0),
		.name = l->name,
		.leader_path = buf_view(&first->path),
		.leader = buf_view(&first->name),
		.has_old = l->same,
		.recheck = l->same,
		.old_nlink = l->names,
	}, e);
}

static int link_stage(struct verify *vf, struct stg_phase *ph, struct err *e)
{
	struct stg_check_link_page *page = calloc(1, sizeof(*page));
	struct leader first = { 0 };
	struct stg_job *job = NULL;
	int r = page ? 0 : no_memory(e);

	while (r == 0) {
		r = stg_catalog_next_check_link(vf->m->catalog, page, e);
		if (r < 0 || !page->n)
			break;
		stg_progress_step(&vf->m->progress, "link");
		r = stg_job_new(STG_JOB_ITEMS, &job, e);
		for (size_t i = 0; r == 0 && i < page->n; i++)
			r = add_link(job, &first, &page->rows[i], e);
		if (r == 0)
			r = stg_pass_push(ph, TAKE_PTR(job), e);
		stg_job_free(TAKE_PTR(job));
	}
	if (page)
		stg_check_link_page_fini(page);
	free(page);
	buf_fini(&first.path);
	buf_fini(&first.name);
	return r < 0 ? r : stg_pass_wait_idle(ph, e);
}

static int run_round(struct verify *vf, struct stg_phase *ph, struct err *e)
{
	int r = stg_senders_start(&ph->run, &ph->senders, e);

	if (r == 0)
		r = stg_pass_wait_told(ph, e);
	if (r == 0)
		r = stg_catalog_clear_check_links(vf->m->catalog, e);
	if (r == 0 && vf->v.named) {
		r = named_stage(vf, ph, e);
	} else if (r == 0 && !vf->nothing) {
		r = push_root(vf, ph, e);
		if (r == 0)
			r = stg_pass_scan(ph, e);
	}
	vf->res.target_flags = ph->run.target.flags;
	return r < 0 ? r : link_stage(vf, ph, e);
}

/* One look at the target: everything, or what an earlier one found. */
static int look(struct verify *vf, bool named, struct err *e)
{
	struct stg_phase ph = { .m = vf->m, .kind = vf->kind, .began_ns = clock_mono_ns() };
	struct stg_migration *m = vf->m;
	int r;

	vf->v.named = named;
	vf->v.round++;
	r = stg_catalog_set_number(m->catalog, ROUND_KEY, vf->v.round, e);
	if (r == 0)
		r = stg_phase_init(&ph.run, m, vf->kind, e);
	if (r < 0)
		return r;
	ph.run.verify = &vf->v;
	ph.run.report = m->report;
	if (m->opt->phase_timeout_s)
		ph.deadline_ns = ph.began_ns + m->opt->phase_timeout_s * 1000000000LL;
	stg_progress_begin(&m->progress, "verification");
	if (vf->v.method == STG_VERIFY_HASH)
		r = stg_pass_find_users(&ph.run, e);
	if (r == 0)
		r = stg_migration_activate(m, &ph.run, e);
	if (r == 0)
		r = run_round(vf, &ph, e);
	if (r < 0)
		stg_run_fail(&ph.run, e);
	if (ph.senders)
		stg_senders_join(ph.senders);
	(void)!stg_migration_activate(m, NULL, NULL);
	stg_senders_free(ph.senders);
	atomic_fetch_add(&vf->v.unchecked, atomic_load(&ph.run.count.failed));
	stg_phase_fini(&ph.run);
	return r < 0 ? r : stg_catalog_commit(m->catalog, e);
}

/* --- what follows from the findings --- */

/*
 * The next phase sends what was found to be wrong.  The row stays, as it tells what the target
 * once had.
 */
static int mark(struct verify *vf, const struct stg_finding *f, struct err *e)
{
	const uint32_t all = TP_D_MISSING | TP_D_TYPE | TP_D_CONTENT | TP_D_HOLES | TP_D_SIZE |
			     TP_D_LINKS | TP_D_TARGET | TP_D_RDEV;
	struct stg_catalog *c = vf->m->catalog;
	struct bytes dir, name;
	int r = 0;

	split(f->path, &dir, &name);
	if (f->what & (STG_D_EXTRA | TP_D_TYPE))
		r = stg_catalog_mark_unsure(c, dir, e);
	if (r < 0 || f->what & STG_D_EXTRA)
		return r;
	return stg_catalog_distrust(c, f->path,
				    f->what & all ? STG_DISTRUST_ALL : STG_DISTRUST_META, e);
}

static int mark_all(struct verify *vf, struct err *e)
{
	struct stg_finding_page *page = calloc(1, sizeof(*page));
	int r = page ? 0 : no_memory(e);

	while (r == 0) {
		r = stg_catalog_next_finding(vf->m->catalog, page, e);
		if (r < 0 || !page->n)
			break;
		for (size_t i = 0; r == 0 && i < page->n; i++)
			if (!page->rows[i].fixed && page->rows[i].round == vf->v.round)
				r = mark(vf, &page->rows[i], e);
	}
	if (page)
		stg_finding_page_fini(page);
	free(page);
	return r < 0 ? r : stg_catalog_commit(vf->m->catalog, e);
}

/* The normal road for what changed; then look at the findings once more. */
static int repair(struct verify *vf, struct err *e)
{
	enum stg_phase_kind kind = vf->kind == STG_PHASE_FULL ? STG_PHASE_INCREMENTAL : vf->kind;
	uint64_t checked = atomic_load(&vf->v.checked);
	int partial = 0, r;

	log_info("sending what differs");
	r = stg_phase_run(vf->m, kind, &partial, e);
	vf->partial = partial != 0;
	if (r == 0)
		r = look(vf, true, e);
	/* How much was looked at is told of the first round. */
	atomic_store(&vf->v.checked, checked);
	return r < 0 ? r : mark_all(vf, e);
}

/* --- the command --- */

static int last_kind(struct verify *vf, struct err *e)
{
	struct stg_phase_row last;
	int r = stg_catalog_last_phase(vf->m->catalog, &last, e);

	vf->kind = STG_PHASE_INCREMENTAL;
	if (r > 0 && !strcmp(last.name, "full_sync"))
		vf->kind = STG_PHASE_FULL;
	if (r > 0 && !strcmp(last.name, "cutover_sync"))
		vf->kind = STG_PHASE_CUTOVER;
	return MIN(r, 0);
}

/* Findings by content can only be looked at again by content. */
static int continue_last(struct verify *vf, struct err *e)
{
	_cleanup_(buf_fini) struct buf method = BUF_INIT;
	int r = stg_catalog_get(vf->m->catalog, FINISHED_KEY, &method, e);

	if (r < 0)
		return r;
	if (!r || !buf_len(&method))
		return err_set(e, -ERR_FORBIDDEN, "--only-inconsistent: no verification of this "
			       "migration has finished yet: run \"stager verify\" without it first");
	if (!strcmp(buf_cstr(&method), "hash"))
		vf->v.method = STG_VERIFY_HASH;
	return stg_catalog_clear_findings(vf->m->catalog, true, e);
}

static int prepare(struct verify *vf, struct err *e)
{
	struct stg_migration *m = vf->m;
	uint64_t round;
	int r = stg_phase_allowed(m, STG_PHASE_INCREMENTAL, e);

	vf->v.method = m->opt->method;
	if (r == 0)
		r = last_kind(vf, e);
	if (r == 0)
		r = stg_catalog_get_number(m->catalog, ROUND_KEY, &round, e);
	if (r < 0)
		return r;
	vf->v.round = (uint32_t)round;
	r = set_scope(vf, e);
	if (r < 0)
		return r;
	m->scope = &vf->scope;
	if (m->opt->only_inconsistent)
		return continue_last(vf, e);
	r = stg_catalog_set(m->catalog, FINISHED_KEY, "", e);
	return r < 0 ? r : stg_catalog_clear_findings(m->catalog, false, e);
}

static bool lacks_include(const struct verify *vf)
{
	for (size_t i = 0; i < vf->v.include_n; i++)
		if (!vf->v.include[i].there)
			return true;
	return false;
}

static int judge(struct verify *vf, const struct stg_finding_counts *n)
{
	if (n->open) {
		vf->res.state = "differences";
		return 43;
	}
	if (atomic_load(&vf->v.unchecked) || vf->partial || lacks_include(vf)) {
		vf->res.state = "incomplete";
		return 23;
	}
	vf->res.state = n->fixed ? "repaired" : "consistent";
	return 0;
}

static void tell(const struct verify *vf, const struct stg_finding_counts *n)
{
	log_info("%llu entries verified (%s): %llu differ on the target, %llu have changed on the "
		 "source since the last phase, %llu put right, %llu in use, %llu could not be "
		 "looked at",
		 (unsigned long long)atomic_load(&vf->v.checked),
		 vf->v.method == STG_VERIFY_HASH ? "hash" : "quick",
		 (unsigned long long)n->defects, (unsigned long long)(n->open - n->defects),
		 (unsigned long long)n->fixed, (unsigned long long)atomic_load(&vf->v.in_use),
		 (unsigned long long)atomic_load(&vf->v.unchecked));
}

static int rounds(struct verify *vf, struct err *e)
{
	const struct stg_options *o = vf->m->opt;
	struct stg_finding_counts n = { 0 };
	int r = look(vf, o->only_inconsistent, e);

	if (r == 0)
		r = mark_all(vf, e);
	if (r == 0)
		r = stg_catalog_count_findings(vf->m->catalog, &n, e);
	if (r == 0 && o->repair && n.open)
		r = repair(vf, e);
	if (r == 0)
		r = stg_catalog_set(vf->m->catalog, FINISHED_KEY,
				    vf->v.method == STG_VERIFY_HASH ? "hash" : "quick", e);
	if (r == 0)
		r = stg_catalog_count_findings(vf->m->catalog, &n, e);
	if (r < 0)
		return r;
	tell(vf, &n);
	return judge(vf, &n);
}

/* The exit code, or negative: it did not get to its end. */
static int verify(struct verify *vf, struct err *e)
{
	struct stg_migration *m = vf->m;
	struct err second = { 0 };
	int r, s;

	vf->res.v = &vf->v;
	vf->res.state = "running";
	vf->res.began_ns = clock_real_ns();
	vf->res.only_inconsistent = m->opt->only_inconsistent;
	vf->res.repair = m->opt->repair;
	r = prepare(vf, e);
	if (r < 0)
		return r;
	r = stg_migration_audit(m, STG_AUDIT_VERIFY_STARTED, (struct stg_audit_field[]){
		STG_AUDIT_TEXT("method", vf->v.method == STG_VERIFY_HASH ? "hash" : "quick"),
		STG_AUDIT_NUMBER("repair", m->opt->repair) }, 2, e);
	if (r == 0)
		r = stg_verify_report(m, &vf->res, false, e);
	if (r == 0)
		r = rounds(vf, e);
	if (r < 0)
		vf->res.state = r == -ERR_CANCELLED || r == -ERR_LOST ? "interrupted" : "failed";
	vf->res.finished_ns = clock_real_ns();
	vf->res.exit_code = r < 0 ? err_exit_status(r) : r;
	stg_progress_end(&m->progress, vf->res.exit_code);
	s = stg_verify_report(m, &vf->res, r >= 0, &second);
	if (s == 0)
		s = stg_migration_save(m, STG_AUDIT_VERIFY_FINISHED, "verification",
				       vf->res.exit_code, &second);
	if (s < 0 && r >= 0) {
		*e = second;
		return s;
	}
	return r;
}

int stg_command_verify(struct stg_options *o, struct err *e)
{
	struct stg_migration m;
	struct verify vf = { .m = &m };
	int r = stg_migration_open(&m, o, STG_LEVEL_SYNC, e), code = 0;

	if (r == 0)
		r = verify(&vf, e);
	if (r > 0) {
		code = r;
		r = 0;
	}
	m.scope = NULL;
	code = stg_migration_close(&m, r, e, code);
	strlist_fini(&vf.paths);
	free(vf.v.include);
	buf_fini(&vf.v.in_use_list);
	return code;
}
