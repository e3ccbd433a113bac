/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that SMS uses on the source, and those that are known to get in its way.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checks/rows.h"

static const char *find(const struct chk_gather *g, const char *name)
{
	char path[256];

	return chk_find_program(g->root, name, path, sizeof(path)) ?
		       chk_mem_printf(&g->f->mem, "/%s", path) : "";
}

void chk_gather_programs(const struct chk_gather *g)
{
	g->f->rsync = find(g, "rsync");
	g->f->tc = find(g, "tc");
	g->f->ssh = find(g, "ssh");
}

/* "rsync  version 3.2.7  protocol version 31": from a running system only. */
static int rsync_version(const struct chk_env *env, char *ret, size_t size, struct err *e)
{
	char text[512];
	const char *at;
	int r;

	r = env->sys->output(env->sys->arg, env->facts->rsync, "--version", text, sizeof(text), e);
	if (r < 0)
		return r;
	at = strstr(text, "version ");
	if (strncmp(text, "rsync", 5) != 0 || !at)
		return err_set(e, -EBADMSG, "%s --version prints no version", env->facts->rsync);
	at += strlen("version ");
	at += *at == 'v'; /* releases from git */
	snprintf(ret, size, "%.*s", (int)strspn(at, "0123456789."), at);
	return 0;
}

int chk_rsync(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	char version[64] = "";
	int r;

	chk_limit(ret, "3.0");
	if (!*env->facts->rsync)
		return chk_say(ret, CHK_ERROR, "rsync is not installed");
	if (!env->root->live) {
		chk_value(ret, "%s", env->facts->rsync);
		return chk_say(ret, CHK_OK, "%s is there; only a running system tells its version",
			       env->facts->rsync);
	}
	r = rsync_version(env, version, sizeof(version), e);
	if (r < 0)
		return r;
	chk_value(ret, "%s", version);
	if (strtoul(version, NULL, 10) < 3) {
		chk_code(ret, "", "Install rsync 3.0 or newer, which keeps ACLs and attributes.");
		return chk_say(ret, CHK_WARN, "%s is of version %s", env->facts->rsync, version);
	}
	return chk_say(ret, CHK_OK, "%s is of version %s", env->facts->rsync, version);
}

static int present(struct chk_answer *ret, const char *path, const char *name,
		   enum chk_result missing)
{
	chk_value(ret, "%s", path);
	if (*path)
		return chk_say(ret, CHK_OK, "%s is there", path);
	return chk_say(ret, missing, "%s is not installed", name);
}

int chk_ssh_client(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	(void)e;
	return present(ret, env->facts->ssh, "ssh", CHK_ERROR);
}

int chk_tc(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	(void)e;
	return present(ret, env->facts->tc, "tc", CHK_WARN);
}

/*
 * Names of processes (15 characters, as the kernel keeps them) of software that scans,
 * quarantines or refuses programs it does not know.
 */
static const struct {
	const char *comm, *product;
} guards[] = {
	{ "falcon-sensor", "CrowdStrike Falcon" }, { "falcon-sensor-b", "CrowdStrike Falcon" },
	{ "wdavdaemon", "Microsoft Defender" },	   { "mdatp", "Microsoft Defender" },
	{ "ds_agent", "Trend Micro Deep Security" }, { "ds_am", "Trend Micro Deep Security" },
	{ "savd", "Sophos" },			   { "savscand", "Sophos" },
	{ "sophos_threat_d", "Sophos" },	   { "sentinelone-age", "SentinelOne" },
	{ "s1-agent", "SentinelOne" },		   { "cbagentd", "Carbon Black" },
	{ "cbdaemon", "Carbon Black" },		   { "pmd", "Cortex XDR" },
	{ "traps_pmd", "Cortex XDR" },		   { "kesl", "Kaspersky" },
	{ "esets_daemon", "ESET" },		   { "oaeventd", "ESET" },
	{ "sisamddaemon", "Symantec" },		   { "rtvscand", "Symantec" },
	{ "mfetpd", "Trellix" },		   { "isectpd", "McAfee" },
	{ "cylancesvc", "Cylance" },		   { "clamonacc", "ClamAV on access" },
	{ "fapolicyd", "fapolicyd" },		   { "titanagent", "Qingteng" },
	{ "sdsvrd", "SafeDog" },		   { "yunsuo_agent", "Yunsuo" },
	{ "qaxsafed", "Qi An Xin" },		   { "edr_monitor", "Sangfor EDR" },
	{ "AliYunDun", "Alibaba Security Center" }, { "YDService", "Tencent Host Security" },
};

static const char *guard(const char *comm)
{
	for (size_t i = 0; i < ARRAY_SIZE(guards); i++)
		if (!strcmp(guards[i].comm, comm))
			return guards[i].product;
	return NULL;
}

int chk_security_software(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	struct strlist l = { 0 };
	char path[300], comm[64];
	int r = chk_list(env->root, "proc", &l);
	unsigned processes = 0;

	for (size_t i = 0; i < l.n && r == 0; i++) {
		const char *product;
		size_t n = strlen(ret->value);

		if (!isdigit((unsigned char)l.v[i][0]))
			continue;
		snprintf(path, sizeof(path), "proc/%s/comm", l.v[i]);
		if (chk_read_line(env->root, path, comm, sizeof(comm)) < 0)
			continue; /* it has ended */
		processes++;
		product = guard(comm);
		if (product && !strstr(ret->value, product))
			snprintf(ret->value + n, sizeof(ret->value) - n, "%s%s", n ? ", " : "",
				 product);
	}
	strlist_fini(&l);
	if (r < 0 || !processes)
		return chk_sys_error(env->root, "proc/1/comm", r < 0 ? r : -ENOENT, e);
	if (*ret->value)
		return chk_say(ret, CHK_WARN, "software that may stop the agents is running: %s",
			       ret->value);
	chk_value(ret, "none");
	return chk_say(ret, CHK_OK, "no security software that is known to stop agents is running");
}
