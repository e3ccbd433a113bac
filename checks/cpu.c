/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many CPUs there are and how much of them is idle, measured over an interval; and no
 * more than the quotas of the control groups around this process leave.
 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checks/cgroup.h"
#include "checks/rows.h"

/*
 * The kernel counts in ticks of 10 ms for each CPU, so half a second tells a fiftieth of a
 * CPU; the whole of the checks has two seconds.
 */
#define INTERVAL_MS 500

/* Lines "cpu0", "cpu1"... of /proc/stat: those that are online. */
static unsigned count_cpus(const char *stat)
{
	unsigned n = 0;

	for (const char *line = stat; line; line = strchr(line, '\n'), line += line != NULL)
		n += !strncmp(line, "cpu", 3) && isdigit((unsigned char)line[3]);
	return n;
}

int chk_gather_cpu(const struct chk_gather *g, struct err *e)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	int r = chk_read(g->root, "proc/stat", &b, e);

	if (r < 0)
		return r;
	g->f->cpu_quantity = count_cpus(buf_cstr(&b));
	if (!g->f->cpu_quantity)
		return err_set(e, -EBADMSG, "/proc/stat names no CPU");
	return 0;
}

struct ticks {
	uint64_t idle, total;
};

/* "cpu  user nice system idle iowait irq softirq steal guest": the last ones came later. */
static int read_ticks(const struct chk_root *root, struct ticks *ret, struct err *e)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	int r = chk_read(root, "proc/stat", &b, e);
	char *at, *end;

	if (r < 0)
		return r;
	at = strncmp((char *)b.p, "cpu ", 4) ? NULL : (char *)b.p + 4;
	*ret = (struct ticks){ 0 };
	for (unsigned i = 0; at && i < 8; i++, at = end) {
		unsigned long long v = strtoull(at, &end, 10);

		if (end == at)
			return i > 3 ? 0 : err_set(e, -EBADMSG, "/proc/stat has no line of all CPUs");
		ret->total += v;
		if (i == 3 || i == 4) /* waiting for a disk leaves the CPU to others */
			ret->idle += v;
	}
	return at ? 0 : err_set(e, -EBADMSG, "/proc/stat has no line of all CPUs");
}

/* CPU time that the i-th group and all below it have used. */
static bool group_used_ns(const struct chk_root *root, const struct chk_cgroup *c,
			  const struct chk_cgroup *acct, size_t i, uint64_t *ret)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	char path[4200];
	struct err e;

	if (!c->v2)
		/* They are usually mounted together, but need not be. */
		return chk_cgroup_same(c, acct) &&
		       chk_cgroup_u64(root, acct, i, "cpuacct.usage", ret);
	snprintf(path, sizeof(path), "%s/cpu.stat", c->dirs.v[i]);
	if (chk_read(root, path, &b, &e) < 0 ||
	    !chk_text_u64(buf_cstr(&b), "usage_usec", ret))
		return false;
	*ret *= 1000;
	return true;
}

/* CPUs that the i-th group may use; false: no quota. */
static bool group_quota(const struct chk_root *root, const struct chk_cgroup *c, size_t i,
			double *ret)
{
	uint64_t quota = 0, period = 0;
	char path[4200], line[128];

	if (c->v2) {
		unsigned long long q, p;

		snprintf(path, sizeof(path), "%s/cpu.max", c->dirs.v[i]);
		if (chk_read_line(root, path, line, sizeof(line)) < 0 ||
		    sscanf(line, "%llu %llu", &q, &p) != 2) /* "max 100000": none */
			return false;
		quota = q;
		period = p;
	} else if (!chk_cgroup_u64(root, c, i, "cpu.cfs_quota_us", &quota) || /* -1: none */
		   !chk_cgroup_u64(root, c, i, "cpu.cfs_period_us", &period)) {
		return false;
	}
	if (!quota || !period)
		return false;
	*ret = (double)quota / (double)period;
	return true;
}

/* How many CPUs a list like "0-3,8" names; 0 when it is none. */
static unsigned count_list(const char *list)
{
	unsigned n = 0;

	for (const char *at = list; isdigit((unsigned char)*at);) {
		char *end;
		unsigned long from = strtoul(at, &end, 10), to = from;

		if (*end == '-')
			to = strtoul(end + 1, &end, 10);
		if (to < from || to > 65535)
			return 0;
		n += (unsigned)(to - from + 1);
		at = *end == ',' ? end + 1 : end;
	}
	return n;
}

/* CPUs that this process may run on at all; 0 unknown. */
static unsigned allowed_cpus(const struct chk_root *root)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	const char *at;
	struct err e;

	if (chk_read(root, "proc/self/status", &b, &e) < 0)
		return 0;
	at = strstr(buf_cstr(&b), "\nCpus_allowed_list:");
	if (!at)
		return 0;
	at += strlen("\nCpus_allowed_list:");
	return count_list(at + strspn(at, " \t"));
}

#define GROUPS_MAX 32

struct measure {
	struct chk_cgroup cpu, acct;
	size_t n;
	struct ticks ticks;
	int64_t at_ns;
	uint64_t used_ns[GROUPS_MAX];
	bool used_told[GROUPS_MAX];
};

static int take(const struct chk_env *env, struct measure *m, struct err *e)
{
	int r = read_ticks(env->root, &m->ticks, e);

	m->at_ns = env->sys->mono_ns(env->sys->arg);
	for (size_t i = 0; i < m->n; i++)
		m->used_told[i] = group_used_ns(env->root, &m->cpu, &m->acct, i, &m->used_ns[i]);
	return r;
}

/* What the tightest group leaves, or have when that is less. */
static double respect_groups(const struct chk_env *env, const struct measure *from,
			     const struct measure *to, double have)
{
	int64_t ns = to->at_ns - from->at_ns;

	for (size_t i = 0; i < from->n; i++) {
		double quota;

		if (!group_quota(env->root, &from->cpu, i, &quota))
			continue;
		if (ns > 0 && from->used_told[i] && to->used_told[i])
			quota -= (double)(to->used_ns[i] - from->used_ns[i]) / (double)ns;
		have = fmin(have, fmax(quota, 0));
	}
	return have;
}

static int measure(const struct chk_env *env, double *ret, struct err *e)
{
	struct measure from = { 0 }, to;
	unsigned cpus = env->facts->cpu_quantity, allowed = allowed_cpus(env->root);
	int r = chk_cgroup_find(env->root, "cpu", &from.cpu);

	if (r == 0)
		r = chk_cgroup_find(env->root, "cpuacct", &from.acct);
	if (r < 0)
		err_sysn(e, r, "read the limits of CPU time");
	from.n = MIN(from.cpu.dirs.n, (size_t)GROUPS_MAX);
	to = from;
	if (r == 0)
		r = take(env, &from, e);
	if (r == 0) {
		env->sys->sleep_ms(env->sys->arg, INTERVAL_MS);
		r = take(env, &to, e);
	}
	if (r == 0 && to.ticks.total <= from.ticks.total)
		r = err_set(e, -EBADMSG, "the counters of /proc/stat stand still");
	if (r == 0) {
		/* iowait is known to go back at times. */
		uint64_t idle = to.ticks.idle > from.ticks.idle ?
					to.ticks.idle - from.ticks.idle : 0;
		double share = fmin((double)idle / (double)(to.ticks.total - from.ticks.total), 1);

		*ret = share * cpus;
		if (allowed)
			*ret = fmin(*ret, allowed);
		*ret = respect_groups(env, &from, &to, *ret);
	}
	chk_cgroup_fini(&from.cpu);
	chk_cgroup_fini(&from.acct);
	return r;
}

int chk_cpu(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	unsigned cpus = env->facts->cpu_quantity;
	double have;
	int r;

	ret->unit = "CPU";
	ret->number = true;
	chk_limit(ret, "%.1f", CHK_CPU_MIN);
	if (!chk_told(env->facts, CHK_SUBJECT_CPU))
		return chk_untold(env, CHK_SUBJECT_CPU, e);
	r = measure(env, &have, e);
	if (r < 0)
		return r;
	chk_value(ret, "%.2f", have);
	if (have < CHK_CPU_MIN) {
		chk_code(ret, "", "Wait for a quieter time, or give the host or its container more CPU.");
		return chk_say(ret, CHK_ERROR, "%.2f of %u CPUs are available", have, cpus);
	}
	return chk_say(ret, CHK_OK, "%.2f of %u CPUs are available", have, cpus);
}
