/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much memory a new program can have without anything being swapped out: the kernel's
 * own estimate (MemAvailable, since 3.14), or what it is made of; and no more than the
 * control groups around this process leave.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "checks/cgroup.h"
#include "checks/rows.h"

#define MIB (UINT64_C(1) << 20)

/*
 * What the kernel would call MemAvailable (mm/page_alloc.c, si_mem_available()): free pages
 * above the low watermark, and of the page cache and reclaimable slabs what is not needed.
 * Kernels before 2.6.28 do not tell how much of the cache is of files: half of it counts.
 */
static uint64_t estimate_kib(const struct chk_root *root, const char *meminfo)
{
	uint64_t free_kib = 0, cache = 0, active = 0, inactive = 0, slab = 0, low = 0;
	uint64_t buffers = 0, sum;

	(void)chk_text_u64(meminfo, "MemFree", &free_kib);
	(void)chk_text_u64(meminfo, "SReclaimable", &slab);
	if (chk_text_u64(meminfo, "Active(file)", &active) &&
	    chk_text_u64(meminfo, "Inactive(file)", &inactive)) {
		cache = active + inactive;
	} else {
		(void)chk_text_u64(meminfo, "Cached", &cache);
		(void)chk_text_u64(meminfo, "Buffers", &buffers);
		cache = (cache + buffers) / 2;
	}
	/* The low watermarks of all zones come to five quarters of min_free_kbytes. */
	if (chk_read_u64(root, "proc/sys/vm/min_free_kbytes", &low) < 0)
		low = 0;
	low += low / 4;
	sum = free_kib + cache - MIN(cache / 2, low) + slab - MIN(slab / 2, low);
	return sum > low ? sum - low : 0;
}

/* What the i-th group leaves: its limit less what it uses and could not give back. */
static bool group_leaves(const struct chk_root *root, const struct chk_cgroup *c, size_t i,
			 uint64_t *ret_limit, uint64_t *ret_left)
{
	static const char *const reclaimable[2][3] = {
		{ "total_active_file", "total_inactive_file", NULL },
		{ "active_file", "inactive_file", "slab_reclaimable" },
	};
	_cleanup_(buf_fini) struct buf stat = BUF_INIT;
	uint64_t limit, used = 0, v;
	char path[4200];
	struct err e;

	if (!chk_cgroup_u64(root, c, i, c->v2 ? "memory.max" : "memory.limit_in_bytes", &limit))
		return false;
	(void)chk_cgroup_u64(root, c, i, c->v2 ? "memory.current" : "memory.usage_in_bytes",
			     &used);
	snprintf(path, sizeof(path), "%s/memory.stat", c->dirs.v[i]);
	if (chk_read(root, path, &stat, &e) == 0)
		for (size_t k = 0; k < 3 && reclaimable[c->v2][k]; k++)
			if (chk_text_u64(buf_cstr(&stat), reclaimable[c->v2][k], &v))
				used -= MIN(used, v);
	*ret_limit = limit;
	*ret_left = limit > used ? limit - used : 0;
	return true;
}

static int respect_groups(const struct chk_gather *g)
{
	struct chk_facts *f = g->f;
	struct chk_cgroup c;
	int r = chk_cgroup_find(g->root, "memory", &c);

	for (size_t i = 0; r == 0 && i < c.dirs.n; i++) {
		uint64_t limit, left;

		/* Version 1 writes a huge number for "no limit". */
		if (!group_leaves(g->root, &c, i, &limit, &left))
			continue;
		f->memory_bytes = MIN(f->memory_bytes, limit);
		f->memory_available_bytes = MIN(f->memory_available_bytes, left);
	}
	chk_cgroup_fini(&c);
	return r;
}

int chk_gather_memory(const struct chk_gather *g, struct err *e)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	uint64_t total = 0, available;
	int r = chk_read(g->root, "proc/meminfo", &b, e);

	if (r < 0)
		return r;
	if (!chk_text_u64(buf_cstr(&b), "MemTotal", &total) || !total)
		return err_set(e, -EBADMSG, "/proc/meminfo says no MemTotal");
	if (!chk_text_u64(buf_cstr(&b), "MemAvailable", &available))
		available = estimate_kib(g->root, buf_cstr(&b));
	g->f->memory_bytes = total * 1024;
	g->f->memory_available_bytes = available * 1024;
	r = respect_groups(g);
	return r < 0 ? err_sysn(e, r, "read the limits of memory") : 0;
}

int chk_memory(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	uint64_t have, total;

	ret->unit = "MiB";
	ret->number = true;
	chk_limit(ret, "%d", CHK_MEMORY_MIN_MIB);
	if (!chk_told(env->facts, CHK_SUBJECT_MEMORY))
		return chk_untold(env, CHK_SUBJECT_MEMORY, e);
	have = env->facts->memory_available_bytes / MIB;
	total = env->facts->memory_bytes / MIB;
	chk_value(ret, "%llu", (unsigned long long)have);
	if (have < CHK_MEMORY_MIN_MIB) {
		chk_code(ret, "SMS.1203", "Free memory or give the host more, and check again.");
		return chk_say(ret, CHK_ERROR, "%llu MiB of %llu MiB memory are available",
			       (unsigned long long)have, (unsigned long long)total);
	}
	return chk_say(ret, CHK_OK, "%llu MiB of %llu MiB memory are available",
		       (unsigned long long)have, (unsigned long long)total);
}
