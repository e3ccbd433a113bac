/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host lets us do, and what surrounds it: SELinux, privileges, the clock, the
 * target of a staged sync.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "checks/os.h"
#include "checks/rows.h"

/* --- SELinux --- */

/* What applies after the next boot: the config file of a system that does not run. */
static int configured_selinux(const struct chk_env *env, char *ret, size_t size, struct err *e)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	struct chk_mem m = { 0 };
	int r = chk_read(env->root, "etc/selinux/config", &b, e);

	snprintf(ret, size, "disabled");
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	snprintf(ret, size, "%s", chk_os_value(buf_cstr(&b), "SELINUX", &m));
	chk_mem_fini(&m);
	return 0;
}

int chk_selinux(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	static const char *const files[] = { "sys/fs/selinux/enforce", "selinux/enforce" };
	uint64_t enforce = 0;
	bool told = false;
	int r = 0;

	chk_limit(ret, "permissive or disabled");
	for (size_t i = 0; i < ARRAY_SIZE(files) && !told; i++)
		told = chk_read_u64(env->root, files[i], &enforce) == 0;
	if (told)
		chk_value(ret, "%s", enforce ? "enforcing" : "permissive");
	else if (env->root->live)
		chk_value(ret, "disabled");
	else
		r = configured_selinux(env, ret->value, sizeof(ret->value), e);
	if (r < 0)
		return r;
	if (!strcmp(ret->value, "enforcing"))
		return chk_say(ret, CHK_WARN, "SELinux is enforcing");
	return chk_say(ret, CHK_OK, "SELinux is %s", ret->value);
}

/* --- privileges --- */

int chk_privileges(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	bool root = false, reads_all = false;
	int r = env->sys->privileges(env->sys->arg, &root, &reads_all, e);

	chk_limit(ret, "root");
	if (r < 0)
		return r;
	chk_value(ret, "%s", root ? "root" : reads_all ? "reads every file" : "ordinary user");
	if (root)
		return chk_say(ret, CHK_OK, "this process has what root has");
	if (reads_all)
		return chk_say(ret, CHK_WARN, "this process can read every file, but is not root");
	return chk_say(ret, CHK_ERROR, "this process can read only what its user can");
}

/* --- clock --- */

int chk_clock(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const struct chk_opts *o = env->opts;
	int64_t off = o->server_time_at - o->server_time_s, away = off < 0 ? -off : off;

	ret->unit = "s";
	ret->number = true;
	chk_limit(ret, "%d", CHK_CLOCK_MAX_S);
	if (!o->server_time_s) {
		*e = *o->server_time_why;
		return e->code;
	}
	chk_value(ret, "%lld", (long long)off);
	if (away > CHK_CLOCK_MAX_S)
		return chk_say(ret, CHK_ERROR, "the clock is %lld s %s: the control plane refuses signatures",
			       (long long)away, off < 0 ? "slow" : "fast");
	/* A third of what is allowed: it drifts, and nobody sets it right. */
	if (away > CHK_CLOCK_MAX_S / 3)
		return chk_say(ret, CHK_WARN, "the clock is %lld s %s", (long long)away,
			       off < 0 ? "slow" : "fast");
	return chk_say(ret, CHK_OK, "the clock is right to %lld s", (long long)away);
}

/* --- target --- */

int chk_target_reachable(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const struct chk_opts *o = env->opts;
	unsigned port = o->target_port ? o->target_port : 22;
	unsigned timeout = o->connect_timeout_ms ? o->connect_timeout_ms : 5000, ms = 0;
	struct err why = { 0 };

	(void)e;
	ret->unit = "ms";
	ret->number = true;
	chk_limit(ret, "%u", timeout);
	if (env->sys->connect(env->sys->arg, o->target_host, port, timeout, &ms, &why) < 0)
		return chk_say(ret, CHK_ERROR, "%s", why.text);
	chk_value(ret, "%u", ms);
	return chk_say(ret, CHK_OK, "%s port %u answers after %u ms", o->target_host, port, ms);
}
