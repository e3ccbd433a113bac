/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/targetspace.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/command.h"
#include "agent/login.h"
#include "agent/migration_run.h"
#include "agent/options.h"
#include "common/buf.h"
#include "common/shell.h"
#include "config/target.h"

#define CONNECT_TIMEOUT_MS 5000
#define KIB_MAX (UINT64_C(1) << 43) /* 8 PiB a disk: what a login prints cannot overflow the sum */
#define BEGIN "stager-space\n"      /* a login shell may print before it */

/*
 * "parent PATH" where there is no root yet, "new PATH" or "begun PATH", then "k" and "i" before the lines of df for blocks and inodes:
 * those of the root, and of every disk mounted below it.  On one line, without "!" and
 * backslash, so that any login shell hands it on as it is.
 */
static const char script[] =
	"LC_ALL=C; export LC_ALL; d=$1; "
	"until [ -d \"$d\" ]; do d=$(dirname -- \"$d\"); done; "
	"p=$(cd -- \"$d\" && pwd -P) || exit 1; s=parent; "
	"if [ \"$d\" = \"$1\" ]; then s=new; "
	"[ -z \"$(ls -A -- \"$d\" | grep -vx -e .stager -e lost+found)\" ] || s=begun; fi; "
	"room() { df -Pk -- \"$1\" | tail -n 1 | sed \"s/^/k /\"; "
	"df -Pi -- \"$1\" 2>/dev/null | tail -n 1 | sed \"s/^/i /\"; }; "
	"echo stager-space; echo \"$s $p\"; room \"$p\"; "
	"seen=\" $(df -P -- \"$p\" | tail -n 1 | cut -d\" \" -f1) \"; "
	"case $s in parent) exit 0 ;; esac; "
	"while read -r dev at rest; do "
	"case $at in \"${p%/}\"/?*) ;; *) continue ;; esac; "
	"case $dev in /dev/*) ;; *) continue ;; esac; "
	"case $seen in *\" $dev \"*) continue ;; esac; "
	"seen=\"$seen$dev \"; room \"$at\"; done </proc/mounts; exit 0";

/* ---- the answer ---- */

/* "k /dev/vdb1 1000 400 600 40% /mnt/new": used and free, and where the mount point begins. */
static bool parse_df(const char *line, uint64_t *ret_used, uint64_t *ret_free,
		     const char **ret_point)
{
	long long total, used, left;
	int at = 0;

	if (sscanf(line, "%*c %*s %lld %lld %lld %*s %n", &total, &used, &left, &at) != 3 || !at ||
	    total < 0 || used < 0)
		return false;
	*ret_used = MIN((uint64_t)used, KIB_MAX);
	*ret_free = MIN((uint64_t)MAX(left, 0), KIB_MAX);
	*ret_point = line + at;
	/* Some have no limit of inodes, and say so by zeros. */
	return *line == 'k' || total > 0;
}

struct counting {
	struct agt_target_space space;
	const char *root;
	bool ours;     /* disks mounted below the root are the target's own */
	bool own_disk; /* and so is that of the root */
	size_t k, i;   /* lines that counted */
};

static void count(struct counting *c, const char *line)
{
	uint64_t used, left;
	const char *point;

	if ((*line != 'k' && *line != 'i') || !parse_df(line, &used, &left, &point))
		return;
	if (*line == 'k' && !c->k)
		c->own_disk = c->ours && !strcmp(point, c->root);
	/*
	 * What lies on a disk of the target's own is what a sync replaces; else it belongs to
	 * others, and only what is free counts.
	 */
	if (c->ours && (c->own_disk || (*line == 'k' ? c->k : c->i)))
		left += used;
	if (*line == 'k') {
		c->space.bytes += left * 1024;
		c->k++;
	} else {
		c->space.files += left;
		c->i++;
	}
}

static int nonsense(struct err *e)
{
	return err_set(e, -ERR_PROTOCOL, "the target does not tell its room: df there prints something else");
}

int agt_target_space_parse(const char *text, struct agt_target_space *ret, struct err *e)
{
	const char *begin = strstr(text, BEGIN);
	_cleanup_free_ char *copy = strdup(begin ? begin + strlen(BEGIN) : "");
	struct counting c = { 0 };
	char *save = NULL, *line;
	bool begun;

	if (!copy)
		return err_sysn(e, -ENOMEM, "room of the target");
	line = strtok_r(copy, "\r\n", &save);
	c.root = line ? strchr(line, ' ') : NULL;
	if (!c.root || *++c.root != '/')
		return nonsense(e);
	begun = !strncmp(line, "begun ", 6);
	/* "/" is a system that runs: all its disks are in use. */
	c.ours = strncmp(line, "parent ", 7) != 0 && c.root[1];
	while ((line = strtok_r(NULL, "\r\n", &save)))
		count(&c, line);
	if (!c.k)
		return nonsense(e);
	/* A disk that is missing among them may have no limit. */
	if (c.i != c.k)
		c.space.files = 0;
	c.space.begun = begun && !c.own_disk;
	*ret = c.space;
	return 0;
}

/* ---- asking ---- */

static int make_command(const char *root, struct buf *out, struct err *e)
{
	if (buf_printf(out, "exec sh -c ") < 0 || shell_quote(out, bytes_str(script)) < 0 ||
	    buf_printf(out, " sh ") < 0 || shell_quote(out, bytes_str(root)) < 0 || !buf_cstr(out))
		return err_sysn(e, -ENOMEM, "room of the target");
	return 0;
}

int agt_target_space_ask(const struct agt_context *ctx, const struct cfg_target *t,
			 struct agt_target_space *ret, struct err *e)
{
	_cleanup_(buf_fini) struct buf command = BUF_INIT, said = BUF_INIT;
	char line[TEXT_NAME_MAX];
	struct agt_login login;
	struct err why = { 0 };
	int r = agt_login_find(ctx->options, &login, e);

	if (r == 0)
		r = make_command(t->root, &command, e);
	if (r < 0)
		return r;
	agt_migration_run_set(login.host, sizeof(login.host), t->host);
	if (t->user)
		agt_migration_run_set(login.user, sizeof(login.user), t->user);
	if (t->port)
		login.port = t->port;
	r = agt_login_run(&login, NULL, CONNECT_TIMEOUT_MS, buf_cstr(&command), ctx->envp, ctx->stop,
			  &said, &why);
	if (r < 0)
		return err_set(e, r, "%s%s%s", why.text, buf_len(&said) ? ": " : "",
			       agt_login_last_line(&said, line));
	return buf_cstr(&said) ? agt_target_space_parse(buf_cstr(&said), ret, e) :
				 err_sysn(e, -ENOMEM, "room of the target");
}
