/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/command.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/text.h"
#include "stager/audit.h"
#include "stager/catalog.h"
#include "stager/forecast.h"
#include "stager/history.h"
#include "stager/hook.h"
#include "stager/migration.h"
#include "stager/options.h"
#include "stager/phase.h"
#include "stager/report.h"
#include "stager/scan.h"
#include "stager/ssh.h"

#define STATUS_MAX (1u << 20)

/* Rates that plan reckons with: files and bytes a second (measured on ordinary links). */
#define PLAN_ENTRIES_PER_S 8000.0
#define PLAN_BYTES_PER_S   100e6

/* --- plan --- */

struct listing {
	FILE *out;
	char end;
	pthread_mutex_t lock;
	uint64_t hidden;
	bool list, list_deletes;
};

static int list_entry(void *arg, struct bytes path, const struct stg_stat *st, struct err *e)
{
	struct listing *l = arg;
	int r = 0;

	(void)st;
	if (!l->list)
		return 0;
	pthread_mutex_lock(&l->lock);
	if (fwrite(path.p, 1, path.n, l->out) != path.n || putc(l->end, l->out) == EOF)
		r = err_sys(e, "write the list");
	pthread_mutex_unlock(&l->lock);
	return r;
}

static int count_hidden(void *arg, struct bytes path, bool is_dir, struct err *e)
{
	struct listing *l = arg;

	(void)path;
	(void)is_dir;
	(void)e;
	pthread_mutex_lock(&l->lock);
	l->hidden++;
	pthread_mutex_unlock(&l->lock);
	return 0;
}

static int list_removal(void *arg, struct bytes path, bool is_dir, struct err *e)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct listing *l = arg;
	int r;

	if (!l->list_deletes)
		return 0;
	/* One line is one entry, whatever its name. */
	r = text_escape(&text, path);
	if (r < 0)
		return err_set(e, r, "out of memory");
	pthread_mutex_lock(&l->lock);
	if (fprintf(l->out, "deleting %s%s\n", buf_cstr(&text), is_dir ? "/" : "") < 0)
		r = err_sys(e, "write the list");
	pthread_mutex_unlock(&l->lock);
	return r;
}

static void print_removals(const struct stg_plan *p, const struct stg_options *o)
{
	if (p->full) {
		printf("to be deleted    known when the target has been listed\n");
		return;
	}
	printf("to be deleted    %llu entries", (unsigned long long)p->removals);
	if (o->no_delete)
		printf(" (none: --no-delete)");
	else if (o->max_delete != STG_MAX_DELETE_NONE)
		printf(" (at most %d: --max-delete)", o->max_delete);
	printf("\n");
}

static void print_plan(const struct stg_plan *p, const struct listing *l,
		       const struct stg_options *o)
{
	const struct stg_bwwindow *now = stg_bwwindow_at(o->bandwidth_windows,
							 o->bandwidth_windows_n,
							 clock_real_ns() / 1000000000);
	uint64_t limit = now ? now->bytes_per_s : o->bwlimit_bytes;
	double rate = limit ? MIN((double)limit, PLAN_BYTES_PER_S) : PLAN_BYTES_PER_S;
	double seconds = (double)p->send_entries / PLAN_ENTRIES_PER_S +
			 (double)p->send_bytes / rate;
	char a[32], b[32], c[32];

	printf("next phase       %s\n", p->full ? "full sync" : "incremental sync or cutover");
	printf("selected         %llu entries, %s\n", (unsigned long long)p->entries,
	       text_size(a, p->bytes));
	printf("excluded         %llu entries (what is below an excluded directory is not counted)\n",
	       (unsigned long long)l->hidden);
	printf("to be sent       %llu entries, %s%s\n", (unsigned long long)p->send_entries,
	       text_size(b, p->send_bytes), p->full ? " (less what the target has already)" : "");
	print_removals(p, o);
	printf("estimated time   %s (at %.0f files/s and %s/s)\n", text_duration(c, seconds),
	       PLAN_ENTRIES_PER_S, text_size(a, (uint64_t)rate));
}

int stg_command_plan(struct stg_options *o, struct err *e)
{
	struct listing l = {
		.out = stdout,
		.end = o->list0 ? '\0' : '\n',
		.list = o->list || o->list0,
		.list_deletes = o->list_deletes,
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	struct stg_scan_visitor visitor = {
		.visit = list_entry,
		.hidden = count_hidden,
		.removal = list_removal,
		.arg = &l,
	};
	struct stg_plan plan = { 0 };
	struct stg_migration m;
	int r = stg_migration_open(&m, o, STG_LEVEL_SOURCE, e);

	if (r == 0)
		r = stg_phase_plan(&m, &visitor, &plan, e);
	if (r == 0 && l.list_deletes && plan.full)
		log_info("what would be deleted is known when the target has been listed: by the "
			 "first full sync");
	else if (r == 0 && !l.list && !l.list_deletes)
		print_plan(&plan, &l, o);
	if (r == 0 && fflush(stdout) == EOF)
		r = err_sys(e, "write to standard output");
	return stg_migration_close(&m, r, e, plan.errors ? 23 : 0);
}

/* --- phases and hooks --- */

/* Run one operator's command, log and report it.  -ERR_HOOK: it failed. */
static int run_hook(struct stg_migration *m, enum stg_report_step which, const char *step,
		    const char *command, struct err *e)
{
	_cleanup_(buf_fini) struct buf output = BUF_INIT;
	unsigned timeout_s = m->opt->hook_timeout_s;
	struct stg_hook_result h;
	char tail[TEXT_NAME_MAX];
	struct bytes end;
	int r;

	if (!command || !*command)
		return 0;
	log_info("running %s", step);
	r = which == STG_STEP_TARGET_FINALIZE ?
		    stg_ssh_command(m->ssh, step, command, timeout_s, &output, &h, e) :
		    stg_hook_run(step, command, timeout_s, &output, &h, e);
	if (r < 0)
		return r;
	stg_report_set_step(m->report, which, &h);
	stg_report_add_hook(m->report, &h);
	r = stg_migration_audit(m, STG_AUDIT_HOOK, (struct stg_audit_field[]){
		STG_AUDIT_TEXT("step", step),
		STG_AUDIT_NUMBER("return_code", h.return_code) }, 2, e);
	if (r < 0 || !h.return_code)
		return r;
	end = h.output_tail;
	while (end.n && (end.p[end.n - 1] == '\n' || end.p[end.n - 1] == '\r'))
		end.n--;
	if (end.n > 200)
		end = bytes_of(end.p + end.n - 200, 200);
	return err_set(e, -ERR_HOOK, "%s failed with status %d%s: %s", step, h.return_code,
		       h.timed_out ? " (it took longer than --hook-timeout)" : "",
		       end.n ? text_name(tail, end) : "it printed nothing");
}

/* A phase; of partial results the lowest matters most, as for rsync: 23, 24, 25. */
static int phase(struct stg_migration *m, enum stg_phase_kind kind, int *partial, struct err *e)
{
	int one = 0;
	int r = stg_phase_run(m, kind, &one, e);

	if (one && (!*partial || one < *partial))
		*partial = one;
	return r;
}

/*
 * stop, sync until nothing changes, finalize on the target, start.  Whatever fails after
 * stop was tried, start is run, so that the source serves again.
 */
static int cutover(struct stg_migration *m, int *partial, struct err *e)
{
	const struct stg_options *o = m->opt;
	struct err start = { 0 };
	int r, s;

	r = run_hook(m, STG_STEP_CUTOVER_STOP, "cutover_stop", o->cutover_stop_cmd, e);
	if (r == 0)
		r = phase(m, STG_PHASE_CUTOVER, partial, e);
	if (r == 0)
		r = run_hook(m, STG_STEP_TARGET_FINALIZE, "target_finalize",
			     o->target_finalize_cmd, e);
	s = run_hook(m, STG_STEP_CUTOVER_START, "cutover_start", o->cutover_start_cmd, &start);
	if (s < 0 && r < 0)
		log_error("%s", start.text);
	else if (s < 0)
		*e = start;
	return r < 0 ? r : s;
}

int stg_command_full(struct stg_options *o, struct err *e)
{
	struct stg_migration m;
	int partial = 0, r = stg_migration_open(&m, o, STG_LEVEL_SYNC, e);

	if (r == 0)
		r = phase(&m, STG_PHASE_FULL, &partial, e);
	return stg_migration_close(&m, r, e, partial);
}

int stg_command_incremental(struct stg_options *o, struct err *e)
{
	struct stg_migration m;
	int partial = 0, r = stg_migration_open(&m, o, STG_LEVEL_SYNC, e);

	if (r == 0)
		r = phase(&m, STG_PHASE_INCREMENTAL, &partial, e);
	return stg_migration_close(&m, r, e, partial);
}

int stg_command_cutover(struct stg_options *o, struct err *e)
{
	struct stg_migration m;
	int partial = 0, r = stg_migration_open(&m, o, STG_LEVEL_SYNC, e);

	/* Before anything is stopped. */
	if (r == 0)
		r = stg_phase_allowed(&m, STG_PHASE_CUTOVER, e);
	if (r == 0)
		r = cutover(&m, &partial, e);
	return stg_migration_close(&m, r, e, partial);
}

int stg_command_run(struct stg_options *o, struct err *e)
{
	struct stg_migration m;
	int partial = 0, r = stg_migration_open(&m, o, STG_LEVEL_SYNC, e);

	if (r == 0)
		r = phase(&m, STG_PHASE_FULL, &partial, e);
	for (unsigned i = 0; r == 0 && i < o->rounds; i++)
		r = phase(&m, STG_PHASE_INCREMENTAL, &partial, e);
	/* No rounds: only the full sync (the old flow's RSYNC_INCREMENTAL_ROUNDS=0). */
	if (r == 0 && o->rounds)
		r = cutover(&m, &partial, e);
	return stg_migration_close(&m, r, e, partial);
}

/* --- status and report --- */

/* Is a run at work?  Its lock tells, whatever status.json says. */
static bool is_running(int state_fd)
{
	_cleanup_close_ int fd = openat(state_fd, "lock", O_RDONLY | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

/* The value of a number or text member of the flat JSON object that status.json is. */
static const char *member(const char *json, const char *key, char *out, size_t max)
{
	char pattern[64];
	const char *at;
	size_t n;

	snprintf(pattern, sizeof(pattern), "\"%s\":", key);
	at = strstr(json, pattern);
	out[0] = '\0';
	if (!at)
		return out;
	at += strlen(pattern);
	at += strspn(at, " ");
	if (*at == '"') {
		n = strcspn(++at, "\"");
	} else {
		n = strcspn(at, ",}\n");
		if (!strncmp(at, "null", 4))
			n = 0;
	}
	snprintf(out, max, "%.*s", (int)n, at);
	return out;
}

static void print_status(const char *json, bool running)
{
	char a[64], b[64], size_a[32], size_b[32];

	printf("state      %s\n", running ? "running" : "no run at work");
	printf("phase      %s\n", member(json, "phase", a, sizeof(a)));
	printf("step       %s\n", member(json, "step", a, sizeof(a)));
	printf("entries    %s of %s\n", member(json, "entries_done", a, sizeof(a)),
	       member(json, "entries_total", b, sizeof(b)));
	printf("bytes      %s of %s\n",
	       text_size(size_a, strtoull(member(json, "bytes_done", a, sizeof(a)), NULL, 10)),
	       text_size(size_b, strtoull(member(json, "bytes_total", b, sizeof(b)), NULL, 10)));
	if (running && *member(json, "eta_s", a, sizeof(a)))
		printf("time left  %s\n", text_duration(size_a, strtod(a, NULL)));
	if (running && *member(json, "bandwidth_limit_bytes_per_s", a, sizeof(a)))
		printf("limit      %s/s%s%s\n", text_size(size_a, strtoull(a, NULL, 10)),
		       *member(json, "bandwidth_window", b, sizeof(b)) ? ", window " : "", b);
	printf("updated    %s\n",
	       text_utc(size_b, strtoll(member(json, "updated_at", a, sizeof(a)), NULL, 10)));
}

/* The file as it is; but one whose writer was killed still says that it runs. */
static void print_json(const char *json, bool running)
{
	static const char lie[] = "\"running\":true";
	const char *at = running ? NULL : strstr(json, lie);

	if (at)
		printf("%.*s\"running\":false%s", (int)(at - json), json, at + sizeof(lie) - 1);
	else
		printf("%s", json);
}

static int finish(int r, const struct err *e)
{
	if (r < 0)
		log_error("%s", e->text);
	return err_exit_status(r);
}

int stg_command_status(struct stg_options *o, struct err *e)
{
	_cleanup_close_ int fd = open(o->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(buf_fini) struct buf status = BUF_INIT;
	const char *json;
	int r;

	if (fd < 0)
		return finish(err_sys(e, "open state directory %s", o->state_dir), e);
	r = io_read_file(fd, STG_PROGRESS_STATUS_FILE, STATUS_MAX, &status, e);
	if (r == -ENOENT)
		return finish(err_set(e, -ERR_FORBIDDEN, "no sync was run with the state directory "
				      "%s yet", o->state_dir), e);
	if (r < 0)
		return finish(r, e);
	json = buf_cstr(&status);
	if (!json)
		return finish(err_set(e, -ENOMEM, "out of memory"), e);
	if (o->json)
		print_json(json, is_running(fd));
	else
		print_status(json, is_running(fd));
	return 0;
}

int stg_command_report(struct stg_options *o, struct err *e)
{
	_cleanup_free_ char *dir = strdup(o->report), *base = strdup(o->report);
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	_cleanup_close_ int fd = -1;
	int r;

	if (!dir || !base)
		return finish(err_set(e, -ENOMEM, "out of memory"), e);
	fd = open(dirname(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return finish(err_sys(e, "open the directory of %s", o->report), e);
	r = stg_report_render_text(fd, basename(base), &text, e);
	if (r < 0)
		return finish(r, e);
	return finish(io_write_all(STDOUT_FILENO, text.p + text.off, buf_len(&text)), e);
}

/* --- forecast --- */

static int forecast(const struct stg_options *o, struct stg_catalog *c, struct err *e)
{
	struct stg_history *h = calloc(1, sizeof(*h));
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct stg_forecast f;
	int r = h ? stg_history_load(c, h, e) : err_set(e, -ENOMEM, "out of memory");

	if (r == 0)
		r = stg_forecast_make(h, clock_real_ns() / 1000000, &f, e);
	if (r == 0 && (o->json ? stg_forecast_json(&f, h, &text) :
				 stg_forecast_text(&f, h, &text)) < 0)
		r = err_set(e, -ENOMEM, "out of memory");
	if (r == 0)
		r = io_write_all(STDOUT_FILENO, text.p + text.off, buf_len(&text));
	if (r < 0 && !e->code)
		err_sysn(e, r, "write to standard output");
	stg_history_fini(h);
	free(h);
	return r;
}

int stg_command_forecast(struct stg_options *o, struct err *e)
{
	_cleanup_free_ char *path = NULL;
	struct stg_catalog *c = NULL;
	int r;

	if (asprintf(&path, "%s/" STG_CATALOG_FILE, o->state_dir) < 0) {
		path = NULL;
		return finish(err_set(e, -ENOMEM, "out of memory"), e);
	}
	/* Opening would make one. */
	if (access(path, R_OK | W_OK) < 0)
		return finish(errno == ENOENT ? err_set(e, -ERR_FORBIDDEN, "no sync was run with the "
							"state directory %s yet", o->state_dir) :
						err_sys(e, "open %s", path), e);
	r = stg_catalog_open(o->state_dir, &c, e);
	if (r == 0)
		r = forecast(o, c, e);
	stg_catalog_close(c);
	return finish(r, e);
}

/* --- clean --- */

int stg_command_clean(struct stg_options *o, struct err *e)
{
	struct stg_migration m;
	int partial = 0, r = stg_migration_open(&m, o, STG_LEVEL_SYNC, e);

	if (r == 0)
		r = stg_phase_clean(&m, e);
	if (r == 0)
		r = stg_ssh_clean(m.ssh, e);
	if (r == 0)
		log_info("%s is out of migration mode", o->target.host);
	return stg_migration_close(&m, r, e, partial);
}
