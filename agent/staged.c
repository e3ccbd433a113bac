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
#include "common/io.h"
#include "common/log.h"
#include "common/macro.h"

#define REPORT_MAX (64u << 20)
#define EXIT_PARTIAL 23
#define EXIT_VANISHED 24
#define EXIT_WAITING 42
#define ENV_MAX 8
#define PATH_SIZE 4096

/* The variables that our config file stands in for, where the environment has none. */
static size_t put_env(const struct agt_migration *m, const char *address,
		      char text[ENV_MAX][AGT_LOGIN_TEXT],
		      char *env[ENV_MAX + 1])
{
	const struct agt_staged_options *so = &m->o->migrate.staged;
	size_t n = 0;

	if (so->host)
		snprintf(text[n++], AGT_LOGIN_TEXT, "RSYNC_TARGET_HOST=%s", so->host);
	else if (*address)
		snprintf(text[n++], AGT_LOGIN_TEXT, "RSYNC_TARGET_HOST=%s", address);
	if (so->user)
		snprintf(text[n++], AGT_LOGIN_TEXT, "RSYNC_TARGET_USER=%s", so->user);
	if (so->port)
		snprintf(text[n++], AGT_LOGIN_TEXT, "RSYNC_TARGET_PORT=%u", so->port);
	for (size_t i = 0; i < n; i++)
		env[i] = text[i];
	env[n] = NULL;
	return n;
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

int agt_staged_run(struct agt_migration *m, struct err *e)
{
	char program[PATH_SIZE], report[PATH_SIZE], text[ENV_MAX][AGT_LOGIN_TEXT];
	char *env[ENV_MAX + 1], **argv;
	_cleanup_free_ char **owned = NULL;
	const struct strlist *extra = &m->o->args;
	struct agt_login login;
	const char *said, *address = "";
	int status = 0, r = agt_login_find(m->o, &login, e);
	size_t n = 0;

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
			       "server of the cloud with --existing-target");
	r = agt_child_find("bin/stager", "stager/stager", program, sizeof(program), e);
	if (r < 0)
		return r;
	argv = owned = calloc(extra->n + 8, sizeof(*owned));
	if (!owned)
		return err_set(e, -ENOMEM, "out of memory");
	said = agt_login_option(extra, "report");
	if (said)
		snprintf(report, sizeof(report), "%s", said);
	else
		snprintf(report, sizeof(report), "%s/" AGT_FILE_STAGED, m->o->out_dir);
	argv[n++] = program;
	argv[n++] = (char *)"run";
	argv[n++] = (char *)"--state-dir";
	argv[n++] = (char *)m->o->state_dir;
	argv[n++] = (char *)"--report";
	argv[n++] = report;
	/* What the operator says comes last, and so it wins. */
	for (size_t i = 0; i < extra->n; i++)
		argv[n++] = extra->v[i];
	(void)put_env(m, address, text, env);
	if (m->dry) {
		printf("# then, on this host:");
		for (size_t i = 0; i < n; i++)
			printf(" %s", argv[i]);
		printf("\n");
		return 0;
	}
	log_info("staged sync to %s", login.host);
	r = agt_child_run(&(struct agt_child_opts){ .argv = argv,
						    .envp = m->ctx->envp,
						    .more_env = env,
						    .stop = m->stop },
			  &status, e);
	if (r < 0)
		return r;
	return take_status(m, status, report, e);
}
