/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/login.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/child.h"
#include "agent/json.h"
#include "agent/migration_run.h"
#include "agent/options.h"
#include "common/macro.h"
#include "common/secret.h"
#include "config/jsonc.h"
#include "config/target.h"

#define STAGER_CONFIG "/etc/stager/stager.json"
#define PORT_DEFAULT 22
#define PROOF "stager-login-ok" /* what the target has to print */
#define LOGIN_TIMEOUT_MS 20000 /* for all that comes after the connection */

#define SET(field, text) agt_migration_run_set(field, sizeof(field), text)

/* ---- where it is said ---- */

const char *agt_login_option(const struct strlist *args, const char *name)
{
	const char *value = NULL;
	size_t n = strlen(name);

	for (size_t i = 0; i < args->n; i++) {
		const char *a = args->v[i];

		if (strncmp(a, "--", 2) != 0 || strncmp(a + 2, name, n) != 0)
			continue;
		if (a[2 + n] == '=')
			value = a + 2 + n + 1;
		else if (!a[2 + n] && i + 1 < args->n)
			value = args->v[i + 1];
	}
	return value;
}

struct source {
	const struct strlist *args;
	const struct cJSON *config; /* stager's; NULL: none */
};

static void look(const struct source *s, const char *option, const char *key, char *field,
		 size_t size)
{
	const char *value = agt_login_option(s->args, option);

	if (!value)
		value = agt_json_str(s->config, key, NULL);
	if (value)
		agt_migration_run_set(field, size, value);
}

static int take_target(const struct source *s, struct agt_login *l, struct err *e)
{
	_cleanup_(cfg_target_fini) struct cfg_target t = { 0 };
	char spec[AGT_LOGIN_TEXT * 2] = "";
	int r;

	look(s, "target", "target", spec, sizeof(spec));
	if (!*spec)
		return 0;
	r = cfg_target_parse(spec, &t, e);
	if (r < 0)
		return err_ctx(e, r, "target of the staged sync");
	SET(l->host, t.host);
	SET(l->user, t.user);
	if (t.port)
		l->port = t.port;
	return 0;
}

static int number(const char *text, unsigned *ret)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (*end || end == text || v == 0 || v > 65535)
		return -EINVAL;
	*ret = (unsigned)v;
	return 0;
}

static int take_rest(const struct source *s, struct agt_login *l, struct err *e)
{
	char word[32] = "", text[16];
	int64_t configured = agt_json_int(s->config, "port", 0);
	const char *port = agt_login_option(s->args, "port");

	if (!port && configured) {
		snprintf(text, sizeof(text), "%d", (int)configured);
		port = text;
	}
	if (port && number(port, &l->port) < 0)
		return err_set(e, -ERR_USAGE, "port of the staged sync: '%s' is none", port);
	look(s, "identity", "identity", l->identity, sizeof(l->identity));
	look(s, "known-hosts", "known_hosts", l->known_hosts, sizeof(l->known_hosts));
	look(s, "password-file", "password_file", l->password_file, sizeof(l->password_file));
	look(s, "host-key", "host_key", word, sizeof(word));
	if (*word)
		l->accept_new = !strcmp(word, "accept-new");
	return 0;
}

int agt_login_find(const struct agt_options *o, struct agt_login *ret, struct err *e)
{
	const struct agt_staged_options *so = &o->migrate.staged;
	_cleanup_(cfg_jsonc_freep) struct cfg_jsonc *d = NULL;
	static const struct strlist none = { 0 };
	const char *given = agt_login_option(&o->args, "config");
	struct source config = { .args = &none }, args = { .args = &o->args };
	struct err missing = { 0 };
	int r;

	*ret = (struct agt_login){ .port = PORT_DEFAULT };
	SET(ret->user, "root");
	r = cfg_jsonc_read(AT_FDCWD, given ? given : STAGER_CONFIG, &d, &missing);
	if (r < 0 && (given || r != -ENOENT))
		return err_set(e, r, "%s", missing.text);
	if (d)
		config.config = cfg_jsonc_root(d);
	/* The lowest level first: what comes later wins. */
	r = take_target(&config, ret, e);
	if (r == 0)
		r = take_rest(&config, ret, e);
	if (r < 0)
		return r;
	if (so->host)
		SET(ret->host, so->host);
	if (so->user)
		SET(ret->user, so->user);
	if (so->port)
		ret->port = so->port;
	if (so->password_env) {
		ret->password_env = so->password_env;
		ret->password_file[0] = '\0';
	}
	r = take_target(&args, ret, e);
	return r < 0 ? r : take_rest(&args, ret, e);
}

/* ---- logging in ---- */

struct line {
	char *v[40];
	size_t n;
	struct buf text; /* what v points to: room is made once */
};

static int put(struct line *l, const char *fmt, ...) _printf_(2, 3);

static int put(struct line *l, const char *fmt, ...)
{
	char text[8192];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof(text) || l->n + 1 >= ARRAY_SIZE(l->v))
		return -E2BIG;
	l->v[l->n] = strdup(text);
	if (!l->v[l->n])
		return -ENOMEM;
	l->n++;
	return 0;
}

static void line_fini(struct line *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
}

static int option(struct line *l, const char *fmt, ...) _printf_(2, 3);

static int option(struct line *l, const char *fmt, ...)
{
	char text[AGT_LOGIN_TEXT * 3];
	va_list args;
	int r;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	r = put(l, "-o");
	return r < 0 ? r : put(l, "%s", text);
}

/* A path as ssh's options want it: they are split at blanks. */
static const char *quoted(const char *path, char *out, size_t size)
{
	snprintf(out, size, "\"%s\"", path);
	return out;
}

static int command_line(const struct agt_login *l, const char *more, bool password,
			unsigned timeout_ms, const char *command, struct line *ret)
{
	char a[AGT_LOGIN_TEXT + 2], b[AGT_LOGIN_TEXT + 2];
	int r = put(ret, "ssh");

	/* The operator's own ssh_config says nothing to stager, so it may not help here. */
	r = r < 0 ? r : put(ret, "-F");
	r = r < 0 ? r : put(ret, "/dev/null");
	r = r < 0 ? r : put(ret, "-T");
	r = r < 0 ? r : option(ret, "BatchMode=%s", password ? "no" : "yes");
	r = r < 0 ? r : option(ret, "ConnectTimeout=%u", MAX(timeout_ms / 1000, 1u));
	r = r < 0 ? r : option(ret, "StrictHostKeyChecking=%s", l->accept_new ? "accept-new" : "yes");
	if (*l->known_hosts || more)
		r = r < 0 ? r
			  : option(ret, "UserKnownHostsFile=%s %s",
				   *l->known_hosts ? quoted(l->known_hosts, a, sizeof(a))
						   : "~/.ssh/known_hosts",
				   more ? quoted(more, b, sizeof(b)) : "");
	if (password)
		r = r < 0 ? r
			  : option(ret, "PreferredAuthentications=password,keyboard-interactive");
	if (password)
		r = r < 0 ? r : option(ret, "NumberOfPasswordPrompts=1");
	if (*l->identity) {
		r = r < 0 ? r : option(ret, "IdentitiesOnly=yes");
		r = r < 0 ? r : put(ret, "-i");
		r = r < 0 ? r : put(ret, "%s", l->identity);
	}
	r = r < 0 ? r : put(ret, "-p");
	r = r < 0 ? r : put(ret, "%u", l->port);
	r = r < 0 ? r : put(ret, "-l");
	r = r < 0 ? r : put(ret, "%s", l->user);
	r = r < 0 ? r : put(ret, "--");
	r = r < 0 ? r : put(ret, "%s", l->host);
	return r < 0 ? r : put(ret, "%s", command);
}

/* ssh asks a program for the password; ours prints a variable that only ssh gets. */
static int password_env(const struct agt_login *l, struct line *env, struct err *e)
{
	_cleanup_(secret_freep) struct secret *s = NULL;
	char helper[4096];
	int r;

	if (l->password_env)
		r = secret_from_env("RSYNC_TARGET_PASSWORD", l->password_env, &s, e);
	else
		r = secret_from_file(AT_FDCWD, l->password_file, &s, e);
	if (r == 0)
		r = agt_child_find("libexec/stager/stager-askpass", NULL, helper, sizeof(helper),
				   e);
	if (r < 0)
		return r;
	r = put(env, "STAGER_ASKPASS=%s", secret_text(s));
	r = r < 0 ? r : put(env, "SSH_ASKPASS=%s", helper);
	r = r < 0 ? r : put(env, "SSH_ASKPASS_REQUIRE=force");
	/* Before OpenSSH 8.4 a display had to be there. */
	r = r < 0 ? r : put(env, "DISPLAY=:0");
	return r < 0 ? err_sysn(e, r, "prepare the login") : 0;
}

static int failed(const struct agt_login *l, int status, struct err *e)
{
	return err_set(e, -ERR_SSH, "ssh %s@%s, port %u, ended with %d", l->user, l->host, l->port,
		       status);
}

int agt_login_run(const struct agt_login *l, const char *more, unsigned timeout_ms,
		  const char *command, char *const *envp, const struct agt_stop *stop,
		  struct buf *said, struct err *e)
{
	_cleanup_(line_fini) struct line argv = { 0 }, env = { 0 };
	bool password = l->password_env || *l->password_file;
	int status = 0, r;

	r = command_line(l, more, password, timeout_ms, command, &argv);
	if (r < 0)
		return err_sysn(e, r, "prepare the login");
	if (password)
		r = password_env(l, &env, e);
	if (r < 0)
		return r;
	r = agt_child_run(
		&(struct agt_child_opts){
			.argv = argv.v,
			.envp = envp,
			.more_env = env.v,
			.stop = stop,
			.timeout_ms = timeout_ms + LOGIN_TIMEOUT_MS,
			.output = said,
			.output_max = AGT_LOGIN_SAID_MAX,
		},
		&status, e);
	for (size_t i = 0; i < env.n; i++)
		explicit_bzero(env.v[i], strlen(env.v[i]));
	if (r < 0)
		return r;
	return status ? failed(l, status, e) : 0;
}

int agt_login_try(const struct agt_login *l, const char *more, unsigned timeout_ms,
		  char *const *envp, const struct agt_stop *stop, struct buf *said, struct err *e)
{
	int r = agt_login_run(l, more, timeout_ms, "echo " PROOF, envp, stop, said, e);
	const char *text = r < 0 ? NULL : buf_cstr(said);

	if (r < 0)
		return r;
	return text && strstr(text, PROOF) ? 0 : failed(l, 0, e);
}

const char *agt_login_last_line(struct buf *said, char out[TEXT_NAME_MAX])
{
	const char *text = buf_cstr(said), *end, *begin;

	if (!text)
		text = "";
	end = text + strlen(text);
	while (end > text && strchr(" \r\n", end[-1]))
		end--;
	for (begin = end; begin > text && begin[-1] != '\n';)
		begin--;
	return text_name(out, bytes_of(begin, (size_t)(end - begin)));
}
