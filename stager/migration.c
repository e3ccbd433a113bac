/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/migration.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/self.h"
#include "common/text.h"
#include "stager/audit.h"
#include "stager/bwlimit.h"
#include "stager/catalog.h"
#include "stager/filter.h"
#include "stager/mounts.h"
#include "stager/options.h"
#include "stager/run.h"
#include "stager/ssh.h"

#define LOCK_NAME "lock"

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

/* --- source --- */

static int open_source(struct stg_migration *m, struct err *e)
{
	m->source = realpath(m->opt->source, NULL);
	if (m->source)
		m->source_fd = open(m->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!m->source || m->source_fd < 0) {
		err_sys(e, "cannot read the source %s", m->opt->source);
		e->code = -ERR_SELECT;
		return e->code;
	}
	for (size_t i = 0; i < m->opt->paths.n; i++) {
		struct stat st;

		if (fstatat(m->source_fd, m->opt->paths.v[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		err_sys(e, "cannot read --path %s below %s", m->opt->paths.v[i], m->source);
		e->code = -ERR_SELECT;
		return e->code;
	}
	return stg_mounts_read(m->source, NULL, &m->mounts, e);
}

static int add_filter(struct stg_filter *f, const struct stg_filter_arg *a, struct err *e)
{
	switch (a->kind) {
	case STG_FILTER_EXCLUDE:
		return stg_filter_add_exclude(f, a->text, a->origin, e);
	case STG_FILTER_INCLUDE:
		return stg_filter_add_include(f, a->text, a->origin, e);
	case STG_FILTER_EXCLUDE_FROM:
		return stg_filter_add_file(f, a->text, false, a->origin, e);
	case STG_FILTER_INCLUDE_FROM:
		return stg_filter_add_file(f, a->text, true, a->origin, e);
	case STG_FILTER_RULE:
		break;
	}
	return stg_filter_add_rule(f, a->text, a->origin, e);
}

/* The standard list comes after what the operator says, so that an include can win. */
static int add_standard(struct stg_migration *m, struct stg_filter *f, struct err *e)
{
	const struct stg_options *o = m->opt;
	_cleanup_free_ char *path = NULL;
	int r = 0;

	for (size_t i = 0; i < o->exclude_patterns.n && r == 0; i++)
		r = stg_filter_add_exclude(f, o->exclude_patterns.v[i], "RSYNC_EXCLUDES", e);
	if (r < 0 || !o->excludes)
		return r;
	if (strchr(o->excludes, '/'))
		return stg_filter_add_file(f, o->excludes, false, "--excludes", e);
	if (asprintf(&path, "%s/share/stager/excludes/%s.list", m->prefix, o->excludes) < 0) {
		path = NULL;
		return no_memory(e);
	}
	return stg_filter_add_file(f, path, false, "standard excludes", e);
}

static int add_args(struct stg_filter *f, const struct stg_filter_args *a, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < a->n && r == 0; i++)
		r = add_filter(f, &a->v[i], e);
	return r;
}

/* The rules of the one phase come first, so that they win there. */
static int build_filter(struct stg_migration *m, enum stg_phase_kind kind,
			struct stg_filter_input *input, struct err *e)
{
	const struct stg_options *o = m->opt;
	struct stg_filter *f;
	int r = stg_filter_new(&m->filters[kind], e);

	if (r < 0)
		return r;
	f = m->filters[kind];
	stg_filter_set_input(f, input);
	r = stg_filter_set_cvs(f, o->home, o->cvsignore, e);
	if (r == 0)
		r = stg_filter_set_root(f, STG_SENDER, m->source, e);
	if (r == 0 && o->target.root)
		r = stg_filter_set_root(f, STG_RECEIVER, o->target.root, e);
	if (r == 0)
		r = add_args(f, &o->phase_filters[kind], e);
	if (r == 0)
		r = add_args(f, &o->filters, e);
	m->own_rules[kind] = stg_filter_count(f);
	if (r == 0)
		r = add_standard(m, f, e);
	stg_filter_set_input(f, NULL);
	return r;
}

static int build_filters(struct stg_migration *m, struct err *e)
{
	struct stg_filter_input input = { 0 };
	bool same = true;
	int r;

	for (int k = 0; k < STG_PHASE_KINDS; k++)
		same &= !m->opt->phase_filters[k].n;
	r = build_filter(m, STG_PHASE_FULL, &input, e);
	for (int k = STG_PHASE_FULL + 1; k < STG_PHASE_KINDS && r == 0; k++) {
		m->filters[k] = same ? m->filters[STG_PHASE_FULL] : NULL;
		m->own_rules[k] = m->own_rules[STG_PHASE_FULL];
		if (!same)
			r = build_filter(m, (enum stg_phase_kind)k, &input, e);
	}
	buf_fini(&input.text);
	return r;
}

/* --- state --- */

static int make_dirs(const char *path, struct err *e)
{
	_cleanup_free_ char *copy = strdup(path);

	if (!copy)
		return no_memory(e);
	for (char *at = copy + 1;; at++) {
		char c = *at;

		if (c != '/' && c != '\0')
			continue;
		*at = '\0';
		if (mkdir(copy, 0700) < 0 && errno != EEXIST)
			return err_sys(e, "create directory %s", copy);
		if (!c)
			return 0;
		*at = c;
	}
}

static int open_state(struct stg_migration *m, struct err *e)
{
	int r = make_dirs(m->opt->state_dir, e);

	if (r < 0)
		return r;
	m->state_fd = open(m->opt->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->state_fd < 0)
		return err_sys(e, "open state directory %s", m->opt->state_dir);
	m->lock_fd = openat(m->state_fd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (m->lock_fd < 0)
		return err_sys(e, "create %s/%s", m->opt->state_dir, LOCK_NAME);
	if (flock(m->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		char pid[32] = "";

		if (errno != EWOULDBLOCK)
			return err_sys(e, "lock %s/%s", m->opt->state_dir, LOCK_NAME);
		if (io_pread_full(m->lock_fd, pid, sizeof(pid) - 1, 0) < 0)
			pid[0] = '\0';
		return err_set(e, -ERR_LOCKED,
			       "another run (process %.*s) works with the state directory %s: wait "
			       "for it, or give this one a --state-dir of its own",
			       (int)strcspn(pid, "\n"), pid, m->opt->state_dir);
	}
	if (ftruncate(m->lock_fd, 0) < 0 || dprintf(m->lock_fd, "%d\n", getpid()) < 0)
		return err_sys(e, "write %s/%s", m->opt->state_dir, LOCK_NAME);
	return 0;
}

static int random_hex(char *out, size_t bytes, struct err *e)
{
	uint8_t raw[32];

	if (getrandom(raw, bytes, 0) != (ssize_t)bytes)
		return err_sys(e, "getrandom");
	for (size_t i = 0; i < bytes; i++)
		sprintf(out + 2 * i, "%02x", raw[i]);
	return 0;
}

/* This host and this tree, whatever the host is called today. */
static int source_id(struct stg_migration *m, struct buf *out, struct err *e)
{
	struct err ignored;

	if (io_read_file(AT_FDCWD, "/etc/machine-id", 4096, out, &ignored) < 0)
		buf_clear(out);
	while (buf_len(out) && out->p[out->n - 1] == '\n')
		out->n--;
	if (buf_printf(out, ":%s", m->source) < 0 || !buf_cstr(out))
		return no_memory(e);
	return 0;
}

static int target_id(struct stg_migration *m, struct buf *out, struct err *e)
{
	const struct cfg_target *t = &m->opt->target;

	/* Not the port: a tunnel to the same host may have another one every day. */
	if (buf_printf(out, "%s:%s", t->host, t->root) < 0 || !buf_cstr(out))
		return no_memory(e);
	return 0;
}

/*
 * The catalog is about one source and one target; anything else would be nonsense, or worse.
 * Until a target has answered to a full sync there is nothing to be wrong about: who mistyped
 * a name may correct it.  keep: it is to be about this one from now on.
 */
static int check_identity(struct stg_migration *m, const char *key, const char *what,
			  const char *now, bool keep, struct err *e)
{
	_cleanup_(buf_fini) struct buf kept = BUF_INIT;
	struct stg_phase_row last;
	int r = stg_catalog_get(m->catalog, key, &kept, e);

	if (r < 0)
		return r;
	if (r && !strcmp(buf_cstr(&kept), now))
		return 0;
	r = stg_catalog_last_phase(m->catalog, &last, e);
	if (r < 0)
		return r;
	if (!r)
		return keep ? stg_catalog_set(m->catalog, key, now, e) : 0;
	return err_set(e, -ERR_FORBIDDEN,
		       "the state directory %s belongs to another %s (%s, not %s): give this "
		       "migration a --state-dir of its own", m->opt->state_dir, what,
		       buf_cstr(&kept), now);
}

static int open_catalog(struct stg_migration *m, struct buf *source, struct buf *target,
			struct buf *id, struct err *e)
{
	char fresh[33];
	int r = stg_catalog_open(m->opt->state_dir, &m->catalog, e);

	if (r == 0)
		r = source_id(m, source, e);
	if (r == 0)
		r = target_id(m, target, e);
	if (r == 0)
		r = check_identity(m, "source_id", "source", buf_cstr(source), true, e);
	if (r == 0)
		r = check_identity(m, "target_id", "target", buf_cstr(target), true, e);
	if (r == 0)
		r = stg_catalog_get(m->catalog, "migration_id", id, e);
	if (r != 0)
		return MIN(r, 0);
	r = random_hex(fresh, 16, e);
	if (r == 0)
		r = stg_catalog_set(m->catalog, "migration_id", fresh, e);
	if (r == 0 && (buf_printf(id, "%s", fresh) < 0 || !buf_cstr(id)))
		r = no_memory(e);
	return r;
}

static int open_report(struct stg_migration *m, const char *source, const char *target,
		       const char *id, struct err *e)
{
	_cleanup_free_ char *copy = strdup(m->opt->report), *base = strdup(m->opt->report);
	char host[256] = "localhost";
	const char *dir;
	int r;

	if (!copy || !base)
		return no_memory(e);
	dir = dirname(copy);
	m->report_name = strdup(basename(base));
	if (!m->report_name)
		return no_memory(e);
	r = make_dirs(dir, e);
	if (r < 0)
		return r;
	m->report_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->report_fd < 0)
		return err_sys(e, "open the report's directory %s", dir);
	gethostname(host, sizeof(host) - 1);
	r = stg_report_open(&(struct stg_report_opts){
		.dirfd = m->report_fd,
		.name = m->report_name,
		.migration_id = id,
		.source_id = source,
		.target_id = target,
		.run_id = m->run_id,
		.tool_version = STAGER_VERSION,
		.command = m->opt->command->name,
		.source_host = host,
		.target_host = m->opt->target.host,
		.target_port = (uint16_t)m->opt->target.port,
		.incremental_rounds = strcmp(m->opt->command->name, "run") ? -1 : (int)m->opt->rounds,
	}, &m->report, e);
	if (r == 0 && stg_report_note(m->report))
		log_info("%s", stg_report_note(m->report));
	return r;
}

/* --- signals --- */

static void *signal_main(void *arg)
{
	struct stg_migration *m = arg;
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1); /* ours: the end */
	while (sigwait(&set, &sig) == 0) {
		struct err e = { 0 };

		pthread_mutex_lock(&m->lock);
		if (sig == SIGUSR1) {
			bool closing = m->closing;

			pthread_mutex_unlock(&m->lock);
			if (closing)
				break;
			continue;
		}
		m->signal = sig;
		err_set(&e, -ERR_CANCELLED, "stopped by SIG%s: start it again to go on",
			sigabbrev_np(sig));
		if (m->active)
			stg_run_fail(m->active, &e);
		pthread_mutex_unlock(&m->lock);
	}
	return NULL;
}

static int start_signals(struct stg_migration *m, struct err *e)
{
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	r = -pthread_create(&m->signal_thread, NULL, signal_main, m);
	if (r < 0)
		return err_sysn(e, r, "start the signal thread");
	m->signals = true;
	return 0;
}

int stg_migration_activate(struct stg_migration *m, struct stg_run *run, struct err *e)
{
	int r = 0;

	pthread_mutex_lock(&m->lock);
	m->active = run;
	if (run && m->signal)
		r = err_set(e, -ERR_CANCELLED, "stopped by SIG%s: start it again to go on",
			    sigabbrev_np(m->signal));
	pthread_mutex_unlock(&m->lock);
	return r;
}

/* --- open and close --- */

static int open_sync(struct stg_migration *m, struct err *e)
{
	_cleanup_(buf_fini) struct buf source = BUF_INIT, target = BUF_INIT, id = BUF_INIT;
	char number[17];
	int r;

	if (!m->opt->target.host)
		return err_set(e, -ERR_USAGE, "no target is given: --target [user@]host:/root");
	r = open_state(m, e);
	if (r == 0)
		r = random_hex(m->run_id, 16, e);
	if (r == 0)
		r = random_hex(number, 8, e);
	if (r == 0)
		m->run_number = strtoull(number, NULL, 16);
	if (r == 0)
		r = open_catalog(m, &source, &target, &id, e);
	if (r == 0)
		r = stg_bwlimit_new(&(struct stg_bwlimit_opts){
			.bytes_per_s = m->opt->bwlimit_bytes,
			.windows = m->opt->bandwidth_windows,
			.windows_n = m->opt->bandwidth_windows_n,
		}, &m->bwlimit, e);
	if (r == 0)
		r = stg_ssh_new(m->opt, m->prefix, m->bwlimit, &m->ssh, e);
	if (r == 0)
		r = stg_audit_open(m->state_fd, &(struct stg_audit_opts){ .run_id = m->run_id },
				   &m->audit, e);
	if (r == 0)
		r = open_report(m, buf_cstr(&source), buf_cstr(&target), buf_cstr(&id), e);
	if (r == 0)
		r = start_signals(m, e);
	if (r == 0)
		r = stg_progress_start(&m->progress, &(struct stg_progress_opts){
			.mode = m->opt->progress,
			.statefd = m->state_fd,
			.run_id = m->run_id,
		}, e);
	if (r < 0)
		return r;
	m->progressing = true;
	return stg_migration_audit(m, STG_AUDIT_RUN_STARTED, (struct stg_audit_field[]){
		STG_AUDIT_TEXT("command", m->opt->command->name),
		STG_AUDIT_TEXT("tool_version", STAGER_VERSION),
		STG_AUDIT_TEXT("source", m->source),
		STG_AUDIT_TEXT("target", buf_cstr(&target)) }, 4, e);
}

/* plan looks at the catalog if there is one; it makes none. */
static int open_plan(struct stg_migration *m, struct err *e)
{
	_cleanup_(buf_fini) struct buf source = BUF_INIT, target = BUF_INIT;
	_cleanup_free_ char *path = NULL;
	int r;

	if (asprintf(&path, "%s/" STG_CATALOG_FILE, m->opt->state_dir) < 0) {
		path = NULL;
		return no_memory(e);
	}
	if (access(path, R_OK | W_OK) < 0)
		return 0;
	r = stg_catalog_open(m->opt->state_dir, &m->catalog, e);
	if (r == 0)
		r = source_id(m, &source, e);
	if (r == 0)
		r = check_identity(m, "source_id", "source", buf_cstr(&source), false, e);
	if (r == 0 && m->opt->target.host)
		r = target_id(m, &target, e);
	if (r == 0 && m->opt->target.host)
		r = check_identity(m, "target_id", "target", buf_cstr(&target), false, e);
	return r;
}

int stg_migration_open(struct stg_migration *m, const struct stg_options *opt,
		       enum stg_migration_level level, struct err *e)
{
	int r;

	*m = (struct stg_migration){
		.opt = opt,
		.source_fd = -1,
		.state_fd = -1,
		.lock_fd = -1,
		.report_fd = -1,
	};
	pthread_mutex_init(&m->lock, NULL);
	r = self_prefix(&m->prefix, e);
	if (r == 0)
		r = open_source(m, e);
	if (r == 0)
		r = build_filters(m, e);
	if (r < 0 || level == STG_LEVEL_RULES)
		return r;
	return level == STG_LEVEL_SYNC ? open_sync(m, e) : open_plan(m, e);
}

int stg_migration_audit(struct stg_migration *m, int event, const struct stg_audit_field *f,
			size_t n, struct err *e)
{
	return stg_audit_write(m->audit, (enum stg_audit_event)event, f, n, e);
}

int stg_migration_save(struct stg_migration *m, int event, const char *phase, int exit_code,
		       struct err *e)
{
	char last[SHA256_HEX_SIZE], report[SHA256_HEX_SIZE];
	int r;

	stg_audit_last(m->audit, last);
	r = stg_report_save(m->report, last, report, e);
	if (r < 0)
		return err_ctx(e, r, "%s", m->opt->report);
	return stg_migration_audit(m, event, (struct stg_audit_field[]){
		STG_AUDIT_TEXT("report_sha256", report),
		STG_AUDIT_NUMBER("exit_code", exit_code),
		STG_AUDIT_TEXT("phase", phase ? phase : "") }, phase ? 3 : 2, e);
}

static enum stg_run_state run_state(int code, int exit_code)
{
	if (code == -ERR_CANCELLED || code == -ERR_LOST)
		return STG_RUN_INTERRUPTED;
	if (code)
		return STG_RUN_FAILED;
	return exit_code ? STG_RUN_PARTIAL : STG_RUN_SUCCEEDED;
}

/* The last words of a run that had begun. */
static int finish_run(struct stg_migration *m, const struct err *e, int exit_code)
{
	struct err last = { 0 };
	int r = 0;

	if (e->code)
		r = stg_migration_audit(m, STG_AUDIT_ERROR, (struct stg_audit_field[]){
			STG_AUDIT_TEXT("message", e->text),
			STG_AUDIT_NUMBER("exit_code", exit_code) }, 2, &last);
	stg_report_finish(m->report, run_state(e->code, exit_code), exit_code);
	if (r == 0)
		r = stg_migration_save(m, STG_AUDIT_RUN_FINISHED, NULL, exit_code, &last);
	if (r < 0) {
		log_error("%s", last.text);
		return exit_code ? exit_code : err_exit_status(r);
	}
	return exit_code;
}

int stg_migration_close(struct stg_migration *m, int r, struct err *e, int partial)
{
	int exit_code;

	/* A call that failed and was got over may have left its text there. */
	if (r == 0)
		*e = (struct err){ 0 };
	else if (!e->code)
		err_sysn(e, r, "failed");
	exit_code = e->code ? err_exit_status(e->code) : partial;
	if (m->progressing)
		stg_progress_stop(&m->progress);
	if (e->code)
		log_error("%s", e->text);
	if (m->report && m->audit)
		exit_code = finish_run(m, e, exit_code);
	if (m->signals) {
		pthread_mutex_lock(&m->lock);
		m->closing = true;
		pthread_mutex_unlock(&m->lock);
		pthread_kill(m->signal_thread, SIGUSR1);
		pthread_join(m->signal_thread, NULL);
	}
	stg_report_close(m->report);
	stg_audit_close(m->audit);
	stg_bwlimit_free(m->bwlimit);
	stg_ssh_free(m->ssh);
	stg_catalog_close(m->catalog);
	for (int k = 0; k < STG_PHASE_KINDS; k++)
		if (!k || m->filters[k] != m->filters[0])
			stg_filter_free(m->filters[k]);
	stg_mounts_free(m->mounts);
	for (size_t i = 0; i < 4; i++) {
		int fd = (int[]){ m->source_fd, m->state_fd, m->report_fd, m->lock_fd }[i];

		if (fd >= 0)
			close(fd);
	}
	free(m->report_name);
	free(m->source);
	free(m->prefix);
	pthread_mutex_destroy(&m->lock);
	return exit_code;
}
