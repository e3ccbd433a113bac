/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "agent/artifact.h"
#include "agent/command.h"
#include "agent/json.h"
#include "agent/listener.h"
#include "agent/options.h"
#include "agent/privilege.h"
#include "agent/rounds.h"
#include "agent/sdnotify.h"
#include "agent/spool.h"
#include "agent/statedir.h"
#include "agent/stop.h"
#include "agent/sync.h"
#include "agent/worker.h"
#include "checks/checks.h"
#include "common/io.h"
#include "common/log.h"
#include "common/macro.h"
#include "common/text.h"

#define LOCK_NAME "agent.lock"
#define SEC_NS INT64_C(1000000000)
#define NEVER INT64_MAX
#define LOOK_NS (SEC_NS / 2)     /* how often clients and late workers are looked at */
#define BACKOFF_MAX_NS (60 * SEC_NS)
#define RETRY_AFTER_MAX_S 300
#define CHECK_AGAIN_NS (60 * SEC_NS) /* after one that could not be done */

struct daemon {
	const struct agt_context *ctx;
	const struct agt_options *o;
	struct agt_options fresh; /* what o is after a reload */
	char run_id[AGT_RUN_ID_SIZE];
	char user[64];
	int64_t started_at;
	int lock_fd, chld_fd;
	sigset_t old;
	bool ending;

	struct agt_sdnotify notify;
	struct agt_listener *listener;
	struct agt_spool *spool;
	struct agt_sync *sync;

	struct agt_worker checker, courier;

	/* Times of clock_mono_ns() at which something is due. */
	int64_t next_check, next_round, next_tick, next_watchdog;

	struct agt_check_result checks;
	int64_t checks_at; /* epoch seconds; 0: not yet, as below */
	unsigned cycles, cycles_failed;

	char source_id[AGT_SOURCE_ID_SIZE];
	bool register_due, registering; /* the latter: in the round that is at work */
	int64_t contact_at;
	unsigned rounds, failures; /* failures: in a row */
	unsigned long long sent, rejected;
	char problem[ERR_TEXT_MAX]; /* why SMS cannot be reached; "": it can */
	int problem_code;
	char problem_sms[AGT_CODE_MAX];
	int64_t reloaded_at;
	char config_problem[ERR_TEXT_MAX]; /* why the last reload was refused */
};

static int64_t now_s(void)
{
	return clock_real_ns() / SEC_NS;
}

/* ---- what people see ---- */

static void put_when(struct cJSON *o, const char *name, int64_t at)
{
	char text[32];

	agt_json_set_str(o, name, at ? text_utc(text, at) : NULL);
}

static void put_problem(struct cJSON *o, const char *name, const char *text)
{
	agt_json_set_str(o, name, *text ? text : NULL);
}

static void tell_sms(struct daemon *d, struct cJSON *o)
{
	struct cJSON *sms = agt_json_set_object(o, "sms");
	int64_t wait = d->next_round - clock_mono_ns();

	agt_json_set_str(sms, "source_id", *d->source_id ? d->source_id : NULL);
	agt_json_set_bool(sms, "reachable", d->contact_at && !*d->problem);
	put_when(sms, "last_contact", d->contact_at);
	put_problem(sms, "problem", d->problem);
	if (d->courier.pid || d->next_round == NEVER)
		agt_json_set_null(sms, "next_round_s");
	else
		agt_json_set_double(sms, "next_round_s",
				    (double)(MAX(wait, 0) / 1000000) / 1000.0);
	agt_json_set_int(sms, "rounds", d->rounds);
	agt_json_set_int(sms, "reports_sent", (int64_t)d->sent);
	agt_json_set_int(sms, "reports_rejected", (int64_t)d->rejected);
}

static void tell_checks(const struct daemon *d, struct cJSON *o)
{
	struct cJSON *checks = agt_json_set_object(o, "checks");

	put_when(checks, "at", d->checks_at);
	put_problem(checks, "verdict", d->checks.verdict);
	agt_json_set_bool(checks, "sms_usable", d->checks.sms_usable);
	agt_json_set_int(checks, "errors", d->checks.errors);
	agt_json_set_int(checks, "warnings", d->checks.warnings);
	agt_json_set_int(checks, "cycles", d->cycles);
	agt_json_set_int(checks, "cycles_failed", d->cycles_failed);
}

static void tell_spool(struct daemon *d, struct cJSON *o)
{
	struct cJSON *spool = agt_json_set_object(o, "spool");
	struct agt_spool_stats st = { 0 };
	struct err e = { 0 };

	put_problem(spool, "problem", agt_spool_stats(d->spool, &st, &e) < 0 ? e.text : "");
	agt_json_set_int(spool, "reports", (int64_t)st.count);
	agt_json_set_int(spool, "bytes", (int64_t)st.bytes);
	agt_json_set_int(spool, "rejected", (int64_t)st.rejected);
}

static struct cJSON *answer(void *arg)
{
	_cleanup_(buf_fini) struct buf caps = BUF_INIT;
	struct daemon *d = arg;
	struct cJSON *o = agt_json_object();

	agt_json_set_str(o, "version", STAGER_VERSION);
	agt_json_set_int(o, "pid", getpid());
	agt_json_set_str(o, "user", d->user);
	if (agt_privilege_names(&caps) == 0 && buf_cstr(&caps))
		agt_json_set_str(o, "capabilities", buf_cstr(&caps));
	agt_json_set_str(o, "state_dir", d->o->state_dir);
	put_when(o, "started", d->started_at);
	agt_json_set_bool(o, "ending", d->ending);
	put_when(o, "reloaded", d->reloaded_at);
	put_problem(o, "config_problem", d->config_problem);
	tell_sms(d, o);
	tell_checks(d, o);
	tell_spool(d, o);
	agt_sync_tell(d->sync, o);
	return o;
}

static void notify_status(struct daemon *d)
{
	char text[ERR_TEXT_MAX + 64];

	if (*d->problem)
		snprintf(text, sizeof(text), "SMS cannot be reached: %s", d->problem);
	else
		snprintf(text, sizeof(text), "source %s; %s",
			 *d->source_id ? d->source_id : "not registered yet",
			 *d->checks.verdict ? d->checks.verdict : "not checked yet");
	agt_sdnotify_status(&d->notify, text);
}

/* ---- workers ---- */

/* In a worker: what is the daemon's is closed, so that who waits for it is not kept waiting. */
static void prepare(void *arg)
{
	struct daemon *d = arg;

	agt_listener_forget(d->listener);
	close_p_(&d->lock_fd);
	close_p_(&d->chld_fd);
}

static int check_work(void *arg, struct cJSON *v, struct err *e)
{
	struct daemon *d = arg;
	struct agt_check_job job = { .o = d->o, .run_id = d->run_id };

	return agt_check_job(&job, v, e);
}

static int round_work(void *arg, struct cJSON *v, struct err *e)
{
	struct daemon *d = arg;
	struct agt_round_job job = { .o = d->o,
				     .stop = d->ctx->stop,
				     .register_due = d->register_due };

	return agt_round_job(&job, v, e);
}

/* Between half of it and all of it, so that many hosts do not come back at once. */
static int64_t jitter(int64_t ns)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		random = 0;
	return ns / 2 + (int64_t)((double)(ns / 2) * random / UINT32_MAX);
}

static int64_t poll_ns(const struct daemon *d)
{
	return (int64_t)d->o->poll_interval_ms * 1000000;
}

/* When to try again: later and later, or when the service says so. */
static int64_t backoff(const struct daemon *d, int64_t retry_after_s)
{
	int64_t wait = poll_ns(d) << MIN(d->failures, 16u);

	wait = jitter(MIN(wait, MAX(BACKOFF_MAX_NS, poll_ns(d))));
	if (retry_after_s >= 0)
		wait = MAX(wait, MIN(retry_after_s, RETRY_AFTER_MAX_S) * SEC_NS);
	return wait;
}

static void begin_check(struct daemon *d)
{
	const struct agt_work work = { .name = "look at this host",
				       .prepare = prepare,
				       .work = check_work,
				       .arg = d,
				       .time_ms = AGT_CHECK_JOB_MS };
	struct err e = { 0 };

	d->next_check = NEVER;
	if (agt_worker_start(&d->checker, &work, &e) == 0)
		return;
	log_error("%s", e.text);
	d->next_check = clock_mono_ns() + CHECK_AGAIN_NS;
}

static void begin_round(struct daemon *d)
{
	const struct agt_work work = { .name = "round to SMS",
				       .prepare = prepare,
				       .work = round_work,
				       .arg = d,
				       .time_ms = agt_round_job_ms(d->o) };
	struct err e = { 0 };

	d->next_round = NEVER;
	d->registering = d->register_due;
	if (agt_worker_start(&d->courier, &work, &e) == 0)
		return;
	log_error("%s", e.text);
	d->next_round = clock_mono_ns() + backoff(d, -1);
	d->failures++;
}

static void end_check(struct daemon *d, const struct cJSON *v, int code, const struct err *e)
{
	int64_t interval = (int64_t)d->o->daemon.check_interval_ms * 1000000;
	struct agt_check_result now;

	d->next_check = clock_mono_ns() + interval;
	d->cycles++;
	if (code < 0) {
		d->cycles_failed++;
		log_error("check this host: %s", e->text);
		d->next_check = clock_mono_ns() + MIN(interval, CHECK_AGAIN_NS);
		return;
	}
	agt_check_result(v, &now);
	if (strcmp(now.verdict, d->checks.verdict) != 0)
		log_info("%s", now.verdict);
	d->checks = now;
	d->checks_at = now_s();
	/* What SMS has to be told does not wait for the next round, unless SMS is away. */
	if (now.due && !d->register_due && !*d->problem && !d->courier.pid)
		d->next_round = clock_mono_ns();
	d->register_due = now.due;
}

/*
 * A fault is told when it begins and when its kind changes: the words differ each time, by the
 * call and the milliseconds in them.  The last one is in the status.
 */
static void note_problem(struct daemon *d, const struct agt_round *round, const struct err *e)
{
	if (!*d->problem || d->problem_code != e->code || strcmp(d->problem_sms, round->code) != 0)
		log_error("%s", e->text);
	else
		log_debug("%s", e->text);
	d->problem_code = e->code;
	snprintf(d->problem_sms, sizeof(d->problem_sms), "%s", round->code);
	snprintf(d->problem, sizeof(d->problem), "%s", e->text);
}

static void end_round(struct daemon *d, const struct cJSON *v, int code, const struct err *e)
{
	struct agt_round round;

	agt_round_result(v, &round);
	d->rounds++;
	d->sent += round.sent;
	d->rejected += round.rejected;
	if (*round.source_id)
		snprintf(d->source_id, sizeof(d->source_id), "%s", round.source_id);
	if (code < 0 && d->ending)
		return;
	if (code == -ERR_LOCKED) { /* the command report is at work */
		d->next_round = clock_mono_ns() + poll_ns(d);
		return;
	}
	if (code < 0) {
		d->next_round = clock_mono_ns() + backoff(d, round.retry_after_s);
		d->failures++;
		note_problem(d, &round, e);
		return;
	}
	if (*d->problem)
		log_info("SMS is reached again");
	d->problem[0] = '\0';
	d->failures = 0;
	d->contact_at = now_s();
	if (d->registering)
		d->register_due = false;
	d->next_round = clock_mono_ns() + (round.more ? 0 : poll_ns(d));
	if (agt_sync_command(d->sync, &round))
		d->next_round = clock_mono_ns();
}

/* ---- what happens ---- */

static void tick(struct daemon *d)
{
	d->next_tick = clock_mono_ns() + poll_ns(d);
	/* In an outage the reports wait with the rest. */
	if (agt_sync_tick(d->sync) && !*d->problem && !d->courier.pid)
		d->next_round = clock_mono_ns();
}

static void reap(struct daemon *d)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(d->chld_fd, &info, sizeof(info)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		_cleanup_(agt_json_freep) struct cJSON *v = NULL;
		struct err e = { 0 };
		int code = 0;

		if (agt_worker_ended(&d->checker, pid, status, &v, &code, &e))
			end_check(d, v, code, &e);
		else if (agt_worker_ended(&d->courier, pid, status, &v, &code, &e))
			end_round(d, v, code, &e);
		else if (agt_sync_ended(d->sync, pid, status) && !d->ending)
			tick(d);
		notify_status(d);
	}
}

/* What a running daemon has opened under its name cannot get another one. */
static int same_place(const struct agt_options *was, const struct agt_options *is, struct err *e)
{
	const struct {
		const char *what, *was, *is;
	} rows[] = {
		{ "state_dir", was->state_dir, is->state_dir },
		{ "daemon.socket", was->daemon.socket, is->daemon.socket },
		{ "daemon.user", was->daemon.user, is->daemon.user },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (strcmp(rows[i].was, rows[i].is) != 0)
			return err_set(e, -ERR_USAGE,
				       "%s cannot be changed while the agent runs: restart it",
				       rows[i].what);
	return 0;
}

/* A mistake in a name is told now, not at every check. */
static int know_checks(const struct strlist *names, struct err *e)
{
	for (size_t i = 0; i < names->n; i++)
		if (!chk_find(names->v[i]))
			return err_set(e, -ERR_USAGE, "daemon.checks: there is no check '%s'%s%s",
				       names->v[i],
				       chk_nearest(names->v[i]) ? ", did you mean " : "",
				       chk_nearest(names->v[i]) ? chk_nearest(names->v[i]) : "");
	return 0;
}

static int read_options(struct daemon *d, struct agt_options *ret, struct err *e)
{
	struct agt_options o;
	int r = agt_options_parse(d->ctx->argc, d->ctx->argv, d->ctx->envp, agt_commands, &o, e);

	if (r < 0)
		return r;
	r = same_place(d->o, &o, e);
	if (r == 0)
		r = know_checks(&o.daemon.checks, e);
	if (r == 0)
		r = log_open(o.log_level, o.log_file, e);
	if (r < 0) {
		agt_options_fini(&o);
		return r;
	}
	*ret = o;
	return 0;
}

static void reload(struct daemon *d)
{
	struct agt_options o;
	struct err e = { 0 };

	agt_sdnotify_reloading(&d->notify);
	if (read_options(d, &o, &e) < 0) {
		log_error("the configuration is not changed: %s", e.text);
		snprintf(d->config_problem, sizeof(d->config_problem), "%s", e.text);
	} else {
		agt_options_fini(&d->fresh);
		d->fresh = o;
		d->o = &d->fresh;
		d->reloaded_at = now_s();
		d->config_problem[0] = '\0';
		agt_sync_configure(d->sync, d->o);
		log_info("read the configuration anew");
	}
	/* Whoever says so may have mended what was wrong: no waiting. */
	d->failures = 0;
	d->next_tick = clock_mono_ns();
	if (!d->courier.pid)
		d->next_round = clock_mono_ns();
	if (!d->checker.pid)
		d->next_check = clock_mono_ns();
	agt_sdnotify_ready(&d->notify);
	notify_status(d);
}

static void begin_to_end(struct daemon *d)
{
	d->ending = true;
	agt_sdnotify_stopping(&d->notify);
	log_info("ending");
	agt_worker_stop(&d->courier);
	agt_worker_fini(&d->checker);
	agt_sync_stop(d->sync);
	if (agt_sync_at_work(d->sync))
		log_info("waiting for stager to end");
	d->next_check = d->next_round = d->next_tick = NEVER;
}

static void do_what_is_due(struct daemon *d)
{
	int64_t now = clock_mono_ns();

	if (now >= d->next_watchdog) {
		d->next_watchdog = now + d->notify.watchdog_ns;
		agt_sdnotify_watchdog(&d->notify);
	}
	agt_worker_hurry(&d->checker, now);
	agt_worker_hurry(&d->courier, now);
	if (d->ending)
		return;
	if (now >= d->next_tick)
		tick(d);
	if (now >= d->next_check && !d->checker.pid)
		begin_check(d);
	if (now >= d->next_round && !d->courier.pid)
		begin_round(d);
}

static int wait_ms(const struct daemon *d, bool clients)
{
	int64_t next = MIN(MIN(d->next_check, d->next_round),
			   MIN(d->next_tick, d->next_watchdog));
	int64_t now = clock_mono_ns();

	if (clients)
		next = MIN(next, now + LOOK_NS);
	if (d->checker.pid)
		next = MIN(next, d->checker.end_ns);
	if (d->courier.pid)
		next = MIN(next, d->courier.end_ns);
	if (next == NEVER)
		return -1;
	/* Rounded up, or the last millisecond would be spent in circles. */
	return (int)MIN(MAX((next - now + 999999) / 1000000, 0), 3600000);
}

enum { FD_STOP, FD_RELOAD, FD_CHLD, FD_CHECKER, FD_COURIER, FD_LISTENER };

static int loop(struct daemon *d, struct err *e)
{
	struct pollfd fds[FD_LISTENER + AGT_LISTENER_FDS];

	while (!d->ending || d->courier.pid || agt_sync_at_work(d->sync)) {
		const struct agt_stop *stop = d->ctx->stop;
		size_t n;

		do_what_is_due(d);
		/* Its descriptor stays readable, once the end is asked for. */
		fds[FD_STOP] = (struct pollfd){ d->ending ? -1 : stop->fd, POLLIN, 0 };
		fds[FD_RELOAD] = (struct pollfd){ stop->reload_fd, POLLIN, 0 };
		fds[FD_CHLD] = (struct pollfd){ d->chld_fd, POLLIN, 0 };
		fds[FD_CHECKER] = (struct pollfd){ d->checker.fd, POLLIN, 0 };
		fds[FD_COURIER] = (struct pollfd){ d->courier.fd, POLLIN, 0 };
		n = agt_listener_fds(d->listener, &fds[FD_LISTENER]);
		if (poll(fds, FD_LISTENER + n, wait_ms(d, n > 1)) < 0) {
			if (errno == EINTR)
				continue;
			return err_sys(e, "wait for something to do");
		}
		if (fds[FD_CHECKER].revents)
			agt_worker_read(&d->checker);
		if (fds[FD_COURIER].revents)
			agt_worker_read(&d->courier);
		agt_listener_serve(d->listener, &fds[FD_LISTENER], n);
		if (fds[FD_CHLD].revents)
			reap(d);
		if (agt_stop_reload_asked(stop) && !d->ending)
			reload(d);
		if (fds[FD_STOP].revents && !d->ending)
			begin_to_end(d);
	}
	return 0;
}

/* ---- beginning ---- */

/* The directory of the socket, when nobody has made it: root can.  True: it is ours. */
static int make_runtime_dir(const char *socket, char *ret, size_t size, bool *ret_ours,
			    struct err *e)
{
	const char *slash = strrchr(socket, '/');

	snprintf(ret, size, "%.*s", slash && slash > socket ? (int)(slash - socket) : 1,
		 slash ? socket : ".");
	*ret_ours = !strcmp(socket, AGT_SOCKET_DEFAULT);
	if (mkdir(ret, 0750) == 0)
		*ret_ours = true;
	else if (errno != EEXIST)
		return err_sys(e, "make the directory %s for the socket", ret);
	return 0;
}

/* Takes the descriptor. */
static int is_empty(int fd, const char *dir, bool *ret, struct err *e)
{
	DIR *d = fdopendir(fd);
	struct dirent *entry;

	if (!d) {
		close(fd);
		return err_sys(e, "read state directory %s", dir);
	}
	*ret = true;
	while (*ret && (entry = readdir(d)))
		*ret = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
	closedir(d);
	return 0;
}

/*
 * All that root has in it is given away: not what somebody named by mistake, as /etc or /root,
 * where none of these ever is.
 */
static int is_for_us(const char *dir, struct err *e)
{
	static const char *const ours[] = { LOCK_NAME, "source_id", "daemon.json", "migrate.json",
					    "status.json", AGT_OUT_NAME };
	_cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool empty = false;
	int r;

	if (fd < 0)
		return err_sys(e, "open state directory %s", dir);
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
		if (faccessat(fd, ours[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return 0;
	r = is_empty(TAKE_FD(fd), dir, &empty, e);
	if (r < 0 || empty)
		return r;
	return err_set(e, -ERR_USAGE,
		       "state directory %s holds other things, which would become the agent's: name "
		       "one of its own with --state-dir",
		       dir);
}

/* A log of root's is the service's from now on, or no reload could open it again. */
static const char *log_to_give(const struct agt_options *o)
{
	struct stat st;

	return o->log_file && lstat(o->log_file, &st) == 0 && S_ISREG(st.st_mode) ? o->log_file :
										    NULL;
}

/* What root has to make; then no more root. */
static int settle(const struct agt_options *o, struct err *e)
{
	const char *give[4] = { o->state_dir };
	const struct agt_privilege_opts opts = { .user = o->daemon.user,
						 .more = &o->daemon.capabilities,
						 .give = give };
	bool root = geteuid() == 0, ours;
	char runtime[512];
	size_t n = 1;
	/* Others give nothing away; and what they may not make is not what is wrong first. */
	int r = root ? 0 : agt_privilege_settle(&opts, e);

	if (r == 0)
		r = make_runtime_dir(o->daemon.socket, runtime, sizeof(runtime), &ours, e);
	if (r == 0)
		r = agt_statedir_make(o->state_dir, e);
	if (r == 0 && root && strcmp(o->state_dir, AGT_STATE_DIR_DEFAULT) != 0)
		r = is_for_us(o->state_dir, e);
	if (r < 0 || !root)
		return r;
	if (ours)
		give[n++] = runtime;
	if (log_to_give(o))
		give[n++] = o->log_file;
	return agt_privilege_settle(&opts, e);
}

static int watch_children(struct daemon *d, struct err *e)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, &d->old) < 0)
		return err_sys(e, "block SIGCHLD");
	d->chld_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return d->chld_fd < 0 ? err_sys(e, "make a descriptor for SIGCHLD") : 0;
}

static void who_we_are(struct daemon *d)
{
	const struct passwd *pw = getpwuid(geteuid());

	snprintf(d->user, sizeof(d->user), "%s", pw ? pw->pw_name : "");
	if (!pw)
		snprintf(d->user, sizeof(d->user), "%u", geteuid());
}

static int begin(struct daemon *d, struct err *e)
{
	int r = know_checks(&d->o->daemon.checks, e);

	if (r == 0)
		r = agt_sdnotify_open(d->ctx->envp, &d->notify, e);
	if (r == 0)
		r = settle(d->o, e);
	if (r < 0)
		return r;
	d->lock_fd = agt_statedir_lock(d->o->state_dir, LOCK_NAME, "stager-agent runs", e);
	if (d->lock_fd < 0)
		return d->lock_fd;
	who_we_are(d);
	r = agt_spool_open(d->o->state_dir, NULL, &d->spool, e);
	if (r == 0)
		r = agt_sync_open(d->o, d->ctx->envp, d->ctx->stop, d->spool, &d->sync, e);
	if (r == 0)
		r = watch_children(d, e);
	if (r == 0)
		r = agt_listener_open(d->o->daemon.socket, 0, answer, d, &d->listener, e);
	return r;
}

static void finish(struct daemon *d)
{
	agt_worker_fini(&d->checker);
	agt_worker_fini(&d->courier);
	agt_listener_close(d->listener);
	agt_sync_close(d->sync);
	agt_spool_close(d->spool);
	agt_sdnotify_close(&d->notify);
	close_p_(&d->lock_fd);
	if (d->chld_fd >= 0) {
		close(d->chld_fd);
		sigprocmask(SIG_SETMASK, &d->old, NULL);
	}
	agt_options_fini(&d->fresh);
}

int agt_daemon_run(const struct agt_context *ctx, struct err *e)
{
	struct daemon d = {
		.ctx = ctx,
		.o = ctx->options,
		.lock_fd = -1,
		.chld_fd = -1,
		.notify.fd = -1,
		.checker = AGT_WORKER_INIT,
		.courier = AGT_WORKER_INIT,
		.next_watchdog = NEVER,
		.started_at = now_s(),
	};
	int r;

	agt_run_id(d.run_id);
	r = begin(&d, e);
	if (r == 0) {
		d.next_watchdog = d.notify.watchdog_ns ? clock_mono_ns() : NEVER;
		agt_sdnotify_ready(&d.notify);
		notify_status(&d);
		log_info("running as the user %s, answering at %s", d.user, d.o->daemon.socket);
		r = loop(&d, e);
	}
	finish(&d);
	return r;
}
