/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/staged.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/child.h"
#include "agent/json.h"
#include "agent/login.h"
#include "agent/provision.h"
#include "common/connect.h"
#include "common/io.h"
#include "common/log.h"
#include "common/macro.h"

#define REPORT_MAX (64u << 20)
#define EXIT_PARTIAL 23
#define EXIT_VANISHED 24
#define EXIT_WAITING 42
#define CONNECT_MS 5000 /* where the operator does not say */
#define ENV_MAX 8
#define PATH_SIZE 4096

/* A call of stager, as far as we have a say in it. */
struct call {
	char program[PATH_SIZE], report[PATH_SIZE];
	char text[ENV_MAX][AGT_LOGIN_TEXT];
	char *env[ENV_MAX + 1];
	char **argv; /* owned; what it points to is not */
	size_t argc;
};

static void call_fini(struct call *c)
{
	free(c->argv);
}

/* The variables that our config file stands in for, where the environment has none. */
static void put_env(const struct agt_staged_options *so, const char *address, struct call *c)
{
	size_t n = 0;

	if (so->host)
		snprintf(c->text[n++], AGT_LOGIN_TEXT, "RSYNC_TARGET_HOST=%s", so->host);
	else if (*address)
		snprintf(c->text[n++], AGT_LOGIN_TEXT, "RSYNC_TARGET_HOST=%s", address);
	if (so->user)
		snprintf(c->text[n++], AGT_LOGIN_TEXT, "RSYNC_TARGET_USER=%s", so->user);
	if (so->port)
		snprintf(c->text[n++], AGT_LOGIN_TEXT, "RSYNC_TARGET_PORT=%u", so->port);
	for (size_t i = 0; i < n; i++)
		c->env[i] = c->text[i];
	c->env[n] = NULL;
}

/* address: of the target, when nobody has configured one; "": it is not needed. */
static int build(const struct agt_options *o, const char *command, bool quiet,
		 const struct strlist *extra, const char *address, struct call *c, struct err *e)
{
	const char *said = agt_login_option(extra, "report");
	const struct {
		const char *option, *value;
	} ours[] = {
		{ "--state-dir", o->state_dir },
		{ "--report", c->report },
		{ "--progress", quiet ? "none" : NULL },
	};
	int r = agt_child_find("bin/stager", "stager/stager", c->program, sizeof(c->program), e);

	if (r < 0)
		return r;
	c->argv = calloc(extra->n + 2 * ARRAY_SIZE(ours) + 3, sizeof(*c->argv));
	if (!c->argv)
		return err_set(e, -ENOMEM, "out of memory");
	snprintf(c->report, sizeof(c->report), "%s%s", said ? said : o->out_dir,
		 said ? "" : "/" AGT_FILE_STAGED);
	c->argv[c->argc++] = c->program;
	c->argv[c->argc++] = (char *)(uintptr_t)command;
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
		if (!ours[i].value)
			continue;
		c->argv[c->argc++] = (char *)(uintptr_t)ours[i].option;
		c->argv[c->argc++] = (char *)(uintptr_t)ours[i].value;
	}
	/* What the operator says comes last, and so it wins. */
	for (size_t i = 0; i < extra->n; i++)
		c->argv[c->argc++] = extra->v[i];
	put_env(&o->migrate.staged, address, c);
	return 0;
}

int agt_staged_target(const struct agt_options *o, struct err *e)
{
	/* How to log in is found in the options behind the command, as in a migration. */
	struct agt_options with = *o;
	struct agt_login login;
	int r;

	with.args = o->daemon.stager_options;
	r = agt_login_find(&with, &login, e);
	if (r < 0 || *login.host)
		return r;
	return err_set(e, -ERR_FORBIDDEN,
		       "no target is configured: set target in stager.json, or --target in "
		       "daemon.stager_options; the server of the task has only a disk that SMS has "
		       "lent it");
}

int agt_staged_start(const struct agt_options *o, char *const *envp, const struct agt_stop *stop,
		     const char *command, pid_t *ret, struct err *e)
{
	_cleanup_(call_fini) struct call c = { .argc = 0 };
	int r = build(o, command, true, &o->daemon.stager_options, "", &c, e);

	if (r < 0)
		return r;
	return agt_child_start(&(struct agt_child_opts){ .argv = c.argv,
							 .envp = envp,
							 .more_env = c.env,
							 .stop = stop },
			       ret, e);
}

/* How the report of the run that has just ended puts it. */
static int read_state(struct agt_migration *m, const char *report, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *j = NULL;
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	int r = io_read_file(AT_FDCWD, report, REPORT_MAX, &text, e);

	if (r == 0)
		r = agt_json_parse(buf_view(&text), &j, e);
	if (r < 0)
		return err_ctx(e, r, "read the report of the staged sync");
	AGT_SET(m->run.staged_state, agt_json_str(j, "state", ""));
	AGT_SET(m->run.staged_run_id, agt_json_str(j, "run_id", ""));
	return 0;
}

static int take_status(struct agt_migration *m, int status, const char *report, struct err *e)
{
	m->run.staged_status = status;
	switch (status) {
	case 0:
	case EXIT_PARTIAL:
		break;
	case EXIT_VANISHED:
		/* On a living system files come and go: the report names them. */
		log_info("some files of the source vanished while they were sent");
		break;
	case EXIT_WAITING:
		m->waiting = true;
		return status;
	default:
		log_error("the staged sync ended with exit status %d", status);
		return status;
	}
	return read_state(m, report, e);
}

int agt_staged_wants_server(const struct agt_migration *m, struct err *e)
{
	struct agt_login login;
	int r = agt_login_find(m->o, &login, e);

	if (r < 0)
		return r;
	return !*login.host && !*m->run.existing_target && !*m->run.server_id &&
	       m->o->migrate.image_id;
}

/* A server that was made a moment ago does not answer at once; stager tells if it never does. */
static int wait_for_ssh(struct agt_migration *m, const struct agt_login *login, struct err *e)
{
	const struct agt_migrate_options *mo = &m->o->migrate;
	int timeout_ms = (int)(mo->connect_timeout_ms ? mo->connect_timeout_ms : CONNECT_MS);

	for (unsigned i = 0; i < mo->postcheck_attempts; i++) {
		_cleanup_close_ int fd = -1;
		struct err why = { 0 };
		int r = connect_tcp(login->host, (uint16_t)login->port, timeout_ms, NULL, &fd,
				    NULL, &why);

		if (r == 0)
			return 0;
		log_debug("%s", why.text);
		r = agt_migration_pause(m, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int agt_staged_run(struct agt_migration *m, struct err *e)
{
	_cleanup_(call_fini) struct call c = { .argc = 0 };
	struct agt_login login;
	const char *address = "";
	int status = 0, r = agt_login_find(m->o, &login, e);

	if (r == 0 && *m->run.existing_target)
		r = agt_provision_target(m, e);
	if (r < 0)
		return r;
	if (!*login.host && m->run.task_started_at)
		return err_set(e, -ERR_FORBIDDEN,
			       "the staged sync has no target: the server %s still has the "
			       "temporary system disk that SMS gave it, and what is sent there would "
			       "be lost; set RSYNC_TARGET_HOST to another one, or begin anew with "
			       "--restart --method rsync",
			       m->run.server_id);
	if (!*login.host) {
		address = *m->run.eip_address ? m->run.eip_address : m->run.private_ip;
		snprintf(login.host, sizeof(login.host), "%s", address);
	}
	if (!*login.host)
		return err_set(e, -ERR_FORBIDDEN,
			       "the staged sync has no target: set RSYNC_TARGET_HOST, or the key "
			       "migrate.staged.target_host, or give --target behind \"--\", or a "
			       "server of the cloud with --existing-target, or TARGET_IMAGE_ID for "
			       "a new one");
	r = build(m->o, "run", false, &m->o->args, address, &c, e);
	if (r < 0)
		return r;
	if (m->dry) {
		printf("# then, on this host:");
		for (size_t i = 0; i < c.argc; i++)
			printf(" %s", c.argv[i]);
		printf("\n");
		return 0;
	}
	if (*address)
		r = wait_for_ssh(m, &login, e);
	if (r < 0)
		return r;
	log_info("staged sync to %s", login.host);
	r = agt_child_run(&(struct agt_child_opts){ .argv = c.argv,
						    .envp = m->ctx->envp,
						    .more_env = c.env,
						    .stop = m->stop },
			  &status, e);
	if (r < 0)
		return r;
	return take_status(m, status, c.report, e);
}
