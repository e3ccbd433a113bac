/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "agent/courier.h"
#include "agent/json.h"
#include "agent/options.h"
#include "agent/snapshot.h"
#include "agent/spool.h"
#include "agent/staged.h"
#include "common/io.h"
#include "common/log.h"
#include "common/macro.h"
#include "common/text.h"

#define STATE_NAME "daemon.json"
#define STATE_MAX (64u << 10)
#define SCHEMA 1
#define WORD 32
#define AGAIN_FIRST_S 10 /* after a stager that was killed, doubling up to: */
#define AGAIN_MAX_S 300

/* Exit status of stager. */
#define EXIT_SIGNAL 20
#define EXIT_PARTIAL 23
#define EXIT_VANISHED 24
#define EXIT_LOCKED 44

struct agt_sync {
	const struct agt_options *o;
	char *const *envp;
	const struct agt_stop *stop;
	struct agt_spool *spool;

	/* Kept in STATE_NAME. */
	char task_id[AGT_TASK_ID_SIZE]; /* of the reports; "": there is none */
	int64_t task_at;                /* since when; earlier runs are none of its business */
	char wanted[WORD];              /* command of stager that is to be done; "": nothing */
	char before[AGT_SNAPSHOT_TEXT]; /* the last run when that was said: it is not the one */
	bool full_done;
	char told_cycle[WORD], told_state[WORD];
	char told_end[AGT_SNAPSHOT_TEXT]; /* the run whose end was told */
	int64_t told_verification;        /* when the one that was told had ended */

	struct agt_snapshot last; /* what was looked at last, without the verification */
	int64_t told_bytes, told_entries; /* of the progress that was told last; -1: none */
	char unknown[AGT_COMMAND_SIZE];   /* told once */
	pid_t pid;                        /* our stager; 0: none */
	bool ending;                      /* and it was told to end */
	bool put;                         /* something that matters, since it was last cleared */
	unsigned failures;                /* in a row */
	int64_t again_ns;                 /* do not start before this time of clock_mono_ns() */
};

/* ---- what outlives a daemon ---- */

static const struct field {
	const char *name;
	size_t off, size; /* size 0: an int64_t */
} fields[] = {
#define TEXT(f) { #f, offsetof(struct agt_sync, f), sizeof(((struct agt_sync *)0)->f) }
#define INT(f) { #f, offsetof(struct agt_sync, f), 0 }
	TEXT(task_id),	  INT(task_at),	   TEXT(wanted),	 TEXT(before),	  TEXT(told_cycle),
	TEXT(told_state), TEXT(told_end),  INT(told_verification),
};

static void save(struct agt_sync *s)
{
	_cleanup_close_ int dir = open(s->o->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(agt_json_freep) struct cJSON *v = agt_json_object();
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct err e = { 0 };
	int r;

	agt_json_set_int(v, "schema_version", SCHEMA);
	agt_json_set_bool(v, "full_done", s->full_done);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const char *p = (const char *)s + fields[i].off;

		if (fields[i].size)
			agt_json_set_str(v, fields[i].name, p);
		else
			agt_json_set_int(v, fields[i].name, *(const int64_t *)(const void *)p);
	}
	r = dir < 0 ? err_sys(&e, "open state directory %s", s->o->state_dir) :
		      agt_json_print(v, true, &text, &e);
	if (r == 0)
		r = io_replace_file(dir, STATE_NAME, buf_view(&text), 0600, &e);
	if (r < 0)
		log_error("save the state of the agent: %s", e.text);
}

static int load(struct agt_sync *s, struct err *e)
{
	_cleanup_close_ int dir = open(s->o->state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(agt_json_freep) struct cJSON *v = NULL;
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct err why = { 0 };
	int r;

	if (dir < 0)
		return err_sys(e, "open state directory %s", s->o->state_dir);
	r = io_read_file(dir, STATE_NAME, STATE_MAX, &text, &why);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = agt_json_parse(buf_view(&text), &v, &why);
	if (r < 0) {
		/* SMS tells the task again, and a START that was not answered, too. */
		log_error("%s/" STATE_NAME " cannot be used, beginning without it: %s",
			  s->o->state_dir, why.text);
		return 0;
	}
	s->full_done = agt_json_bool(v, "full_done", false);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		char *p = (char *)s + fields[i].off;

		if (fields[i].size)
			agt_json_text(v, fields[i].name, p, fields[i].size);
		else
			*(int64_t *)(void *)p = agt_json_int(v, fields[i].name, 0);
	}
	return 0;
}

int agt_sync_open(const struct agt_options *o, char *const *envp, const struct agt_stop *stop,
		  struct agt_spool *spool, struct agt_sync **ret, struct err *e)
{
	struct agt_sync *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_sysn(e, -ENOMEM, "open the state of the agent");
	s->o = o;
	s->envp = envp;
	s->stop = stop;
	s->spool = spool;
	s->told_bytes = -1;
	r = load(s, e);
	if (r < 0) {
		agt_sync_close(s);
		return r;
	}
	if (*s->wanted)
		log_info("going on with task %s: stager %s", s->task_id, s->wanted);
	*ret = s;
	return 0;
}

void agt_sync_close(struct agt_sync *s)
{
	if (!s)
		return;
	agt_snapshot_fini(&s->last);
	free(s);
}

void agt_sync_configure(struct agt_sync *s, const struct agt_options *o)
{
	s->o = o;
	/* Whoever changed the configuration may have mended what was wrong. */
	s->again_ns = 0;
}

/* ---- reports ---- */

/* True: it is in the spool.  What is not stays to be told, at the next tick. */
static bool put(struct agt_sync *s, struct cJSON *report)
{
	bool matters = report && strcmp(agt_json_str(report, "kind", ""), "progress") != 0;
	struct err e = { 0 };

	if (agt_snapshot_report_put(s->spool, report, &e) < 0) {
		log_error("keep a report: %s", e.text);
		return false;
	}
	s->put |= matters;
	return true;
}

static bool tell_state(struct agt_sync *s, const char *cycle, const char *state)
{
	if (!strcmp(cycle, s->told_cycle) && !strcmp(state, s->told_state))
		return true;
	if (!put(s, agt_snapshot_report_state(cycle, state)))
		return false;
	snprintf(s->told_cycle, sizeof(s->told_cycle), "%s", cycle);
	snprintf(s->told_state, sizeof(s->told_state), "%s", state);
	save(s);
	return true;
}

static void tell_progress(struct agt_sync *s, const struct agt_snapshot *now)
{
	if ((now->bytes_done == s->told_bytes && now->entries_done == s->told_entries) ||
	    !put(s, agt_snapshot_report_progress(s->task_id, now)))
		return;
	s->told_bytes = now->bytes_done;
	s->told_entries = now->entries_done;
}

/* A run that goes through several phases does not stop for us in between. */
static void tell_phase_over(struct agt_sync *s, const struct agt_snapshot *now)
{
	struct agt_snapshot *last = &s->last;

	if (!last->running || strcmp(last->run_id, now->run_id) != 0 || !*last->phase ||
	    !strcmp(last->phase, now->phase))
		return;
	last->running = false;
	last->outcome = AGT_OUTCOME_DONE;
	last->bytes_done = MAX(last->bytes_done, last->bytes_total);
	last->entries_done = MAX(last->entries_done, last->entries_total);
	put(s, agt_snapshot_report_progress(s->task_id, last));
	s->told_bytes = -1;
}

/* Once: what came after, such as a stager that could not even begin, says more. */
static void tell_end(struct agt_sync *s, const struct agt_snapshot *now, const char *cycle,
		     const char *state)
{
	if (!strcmp(s->told_end, now->run_id) ||
	    !put(s, agt_snapshot_report_progress(s->task_id, now)) ||
	    !tell_state(s, cycle, state))
		return;
	snprintf(s->told_end, sizeof(s->told_end), "%s", now->run_id);
	if (now->outcome == AGT_OUTCOME_DONE && !strncmp(now->phase, "full_sync", 9))
		s->full_done = true;
	save(s);
}

static void tell_verification(struct agt_sync *s, const struct agt_snapshot *now)
{
	int64_t at = agt_json_int(now->verification, "finished_at", 0);

	if (!at || at == s->told_verification || at < s->task_at ||
	    !put(s, agt_snapshot_report_consistency(s->task_id, now->verification)))
		return;
	s->told_verification = at;
	save(s);
}

/* A clock that was ahead when the task came, and has been set right, must not hide its runs. */
static void heed_clock(struct agt_sync *s)
{
	int64_t now = clock_real_ns() / 1000000000;

	if (s->task_at <= now)
		return;
	log_info("the clock was set back; the runs of task %s count from now on", s->task_id);
	s->task_at = now;
	save(s);
}

/* SMS wants to know of the runs since the task is there. */
static void mirror(struct agt_sync *s, const struct agt_snapshot *now)
{
	const char *cycle, *state;
	bool told = agt_snapshot_state(now, &cycle, &state) && now->updated_at >= s->task_at;

	if (!*s->task_id)
		return;
	/* What was interrupted and is wanted goes on in a moment. */
	if (told && !(*s->wanted && now->outcome == AGT_OUTCOME_STOPPED)) {
		tell_phase_over(s, now);
		if (now->outcome == AGT_OUTCOME_NONE) {
			tell_state(s, cycle, state);
			tell_progress(s, now);
		} else {
			tell_end(s, now, cycle, state);
		}
	}
	tell_verification(s, now);
}

/* ---- the stager ---- */

static void delay(struct agt_sync *s)
{
	int64_t wait = (int64_t)AGAIN_FIRST_S << MIN(s->failures, 5u);

	s->failures++;
	wait = MIN(wait, AGAIN_MAX_S);
	s->again_ns = clock_mono_ns() + wait * 1000000000;
	log_info("stager %s is started again in %d s", s->wanted, (int)wait);
}

/* It will not be done: SMS may say START again. */
static void give_up(struct agt_sync *s)
{
	const char *cycle = !strcmp(s->wanted, "full") ? "replicating" : "syncing";

	s->wanted[0] = '\0';
	s->failures = 0;
	tell_state(s, *s->told_cycle ? s->told_cycle : cycle, "error");
	save(s);
}

static void is_done(struct agt_sync *s)
{
	s->wanted[0] = '\0';
	s->failures = 0;
	save(s);
}

/* A stager whose daemon was killed goes on by itself: what is wanted may have been done so. */
static void take_orphan(struct agt_sync *s)
{
	const struct agt_snapshot *run = &s->last;

	if (!*s->wanted || s->pid || run->running || !*run->run_id ||
	    !strcmp(run->run_id, s->before) ||
	    strncmp(run->phase, s->wanted, strlen(s->wanted)) != 0)
		return;
	if (run->outcome == AGT_OUTCOME_DONE)
		is_done(s);
	else if (run->outcome == AGT_OUTCOME_FAILED)
		give_up(s);
}

static void start(struct agt_sync *s)
{
	struct err e = { 0 };
	int r;

	if (!*s->wanted || s->pid || s->last.running || clock_mono_ns() < s->again_ns)
		return;
	r = agt_staged_start(s->o, s->envp, s->stop, s->wanted, &s->pid, &e);
	if (r < 0) {
		s->pid = 0;
		log_error("task %s: %s", s->task_id, e.text);
		give_up(s);
		return;
	}
	s->ending = false;
	log_info("task %s: started stager %s, process %d", s->task_id, s->wanted, (int)s->pid);
	/* Its own status may come and go between two looks. */
	if (!strcmp(s->wanted, "full"))
		tell_state(s, "replicating", "replicate");
	else
		tell_state(s, "syncing", "syncing");
}

static void end_stager(struct agt_sync *s)
{
	if (!s->pid || s->ending)
		return;
	kill(-s->pid, SIGTERM);
	s->ending = true;
}

void agt_sync_stop(struct agt_sync *s)
{
	end_stager(s);
}

bool agt_sync_at_work(const struct agt_sync *s)
{
	return s->pid != 0;
}

bool agt_sync_ended(struct agt_sync *s, pid_t pid, int status)
{
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	if (!s->pid || pid != s->pid)
		return false;
	s->pid = 0;
	if (code < 0)
		log_error("stager was ended by signal %d (%s)", WTERMSIG(status),
			  strsignal(WTERMSIG(status)));
	else
		log_info("stager %s ended with exit status %d", s->wanted, code);
	if (!*s->wanted || s->ending)
		return true;
	if (code == 0 || code == EXIT_PARTIAL || code == EXIT_VANISHED) {
		is_done(s);
	} else if (code < 0 || code == EXIT_SIGNAL || code == EXIT_LOCKED) {
		delay(s);
	} else {
		/* It may not even have begun to tell of itself. */
		give_up(s);
	}
	return true;
}

bool agt_sync_tick(struct agt_sync *s)
{
	struct agt_snapshot now;
	bool put_any;

	heed_clock(s);
	agt_snapshot_read(s->o->state_dir, s->o->out_dir, &now);
	mirror(s, &now);
	agt_snapshot_fini(&s->last);
	agt_json_free(TAKE_PTR(now.verification));
	s->last = now;
	take_orphan(s);
	start(s);
	put_any = s->put;
	s->put = false;
	return put_any;
}

/* ---- commands ---- */

static void bind_task(struct agt_sync *s, const char *task_id)
{
	if (!*task_id || !strcmp(s->task_id, task_id))
		return;
	snprintf(s->task_id, sizeof(s->task_id), "%s", task_id);
	s->task_at = clock_real_ns() / 1000000000;
	s->full_done = false;
	s->told_cycle[0] = s->told_state[0] = s->told_end[0] = '\0';
	s->told_bytes = -1;
	log_info("the task of this source is %s", s->task_id);
	save(s);
}

/* Negative: the result is a failure.  e is what goes into it, either way. */
typedef int command_fn(struct agt_sync *s, const struct agt_round *round, struct err *e);

static int want(struct agt_sync *s, const char *command, struct err *e)
{
	int r = agt_staged_target(s->o, e);

	if (r < 0)
		return r;
	if (*s->wanted)
		return err_set(e, 0, "it is at work already");
	snprintf(s->wanted, sizeof(s->wanted), "%s", command);
	snprintf(s->before, sizeof(s->before), "%s", s->last.run_id);
	s->again_ns = 0;
	s->failures = 0;
	save(s);
	return err_set(e, 0, "stager %s is started", command);
}

static int do_start(struct agt_sync *s, const struct agt_round *round, struct err *e)
{
	if (!*round->task_id)
		return err_set(e, -ERR_PROTOCOL, "the command names no task");
	return want(s, s->full_done ? "incremental" : "full", e);
}

static int do_sync(struct agt_sync *s, const struct agt_round *round, struct err *e)
{
	(void)round;
	if (!s->full_done)
		return err_set(e, -ERR_FORBIDDEN, "no full sync of this task stands");
	return want(s, "incremental", e);
}

static int do_stop(struct agt_sync *s, const struct agt_round *round, struct err *e)
{
	(void)round;
	s->wanted[0] = '\0';
	save(s);
	if (!s->pid)
		return err_set(e, 0, "nothing is at work that this agent has started");
	end_stager(s);
	return err_set(e, 0, "stager is told to end; it keeps how far it came");
}

static int cannot(struct agt_sync *s, const struct agt_round *round, struct err *e)
{
	(void)s;
	(void)round;
	return err_set(e, -ERR_FORBIDDEN, "this agent does not do that");
}

/* SMS has other names for them in the command than in the result: both are known here. */
static const struct command {
	const char *name;
	command_fn *run; /* NULL: there is nothing to do, and no result */
} commands[] = {
	{ "START", do_start },	      { "STOP", do_stop },
	{ "SYNC", do_sync },	      { "DELETE", do_stop },
	{ "SKIP", cannot },	      { "PREMIGRATE", cannot },
	{ "UPLOAD_LOG", cannot },     { "RSET_LOG_ACL", cannot },
	{ "TASK_NOT_STARTED", NULL }, { "TASK_HAS_STOPPED", NULL },
	{ "TASK_HAS_FINISHED", NULL },
};

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

bool agt_sync_command(struct agt_sync *s, const struct agt_round *round)
{
	const struct command *c = find(round->command);
	char name[TEXT_NAME_MAX];
	struct err e = { 0 };
	int r;

	bind_task(s, round->task_id);
	if (!c && *round->command && strcmp(s->unknown, round->command) != 0) {
		snprintf(s->unknown, sizeof(s->unknown), "%s", round->command);
		log_error("SMS sends a command that is not known here: %s",
			  text_name(name, bytes_str(round->command)));
	}
	if (!c || !c->run)
		return false;
	r = c->run(s, round, &e);
	log_info("SMS says %s: %s", c->name, e.text);
	put(s, agt_snapshot_report_command(c->name, r == 0, e.text));
	return agt_sync_tick(s);
}

void agt_sync_tell(struct agt_sync *s, struct cJSON *o)
{
	const struct agt_snapshot *now = &s->last;
	struct cJSON *run;

	agt_json_set_str(o, "task_id", *s->task_id ? s->task_id : NULL);
	agt_json_set_str(o, "wanted", *s->wanted ? s->wanted : NULL);
	if (!now->known) {
		agt_json_set_null(o, "run");
		return;
	}
	run = agt_json_set_object(o, "run");
	agt_json_set_bool(run, "running", now->running);
	agt_json_set_bool(run, "started_here", s->pid != 0);
	agt_json_set_str(run, "run_id", now->run_id);
	agt_json_set_str(run, "phase", now->phase);
	agt_json_set_str(run, "step", now->step);
	agt_json_set_int(run, "percent", agt_snapshot_percent(now));
	agt_json_set_int(run, "entries_done", now->entries_done);
	agt_json_set_int(run, "entries_total", now->entries_total);
	agt_json_set_int(run, "bytes_done", now->bytes_done);
	agt_json_set_int(run, "bytes_total", now->bytes_total);
	agt_json_set_int(run, "bytes_per_s", now->bytes_per_s);
	if (now->eta_s >= 0)
		agt_json_set_int(run, "eta_s", now->eta_s);
	else
		agt_json_set_null(run, "eta_s");
	agt_json_set_int(run, "errors", now->errors);
}
