/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/facts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checks/rows.h"

/* In this order: disks ask what is mounted. */
static const struct {
	enum chk_subject subject;
	int (*gather)(const struct chk_gather *g, struct err *e);
} gatherers[] = {
	{ CHK_SUBJECT_OS, chk_gather_os },
	{ CHK_SUBJECT_ARCH, chk_gather_arch },
	{ CHK_SUBJECT_KERNEL, chk_gather_kernel },
	{ CHK_SUBJECT_FIRMWARE, chk_gather_firmware },
	{ CHK_SUBJECT_CPU, chk_gather_cpu },
	{ CHK_SUBJECT_MEMORY, chk_gather_memory },
	{ CHK_SUBJECT_VIRT, chk_gather_virt },
	{ CHK_SUBJECT_MOUNTS, chk_gather_mounts },
	{ CHK_SUBJECT_DISKS, chk_gather_disks },
	{ CHK_SUBJECT_NICS, chk_gather_nics },
};

/* The running name, or the one that the root will have. */
static void gather_hostname(const struct chk_gather *g)
{
	static const char *const paths[] = { "proc/sys/kernel/hostname", "etc/hostname",
					     "etc/HOSTNAME" };
	char line[256];

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		if (chk_read_line(g->root, paths[i], line, sizeof(line)) < 0 || !*line)
			continue;
		g->f->hostname = chk_mem_str(&g->f->mem, line);
		return;
	}
}

int chk_facts_collect(const struct chk_root *root, const struct chk_sys *sys,
		      struct chk_facts **ret, struct err *e)
{
	struct chk_facts *f = calloc(1, sizeof(*f));
	struct chk_gather g = { root, sys ? sys : root->live ? &chk_sys_live : &chk_sys_root, f };

	if (!f)
		return err_set(e, -ENOMEM, "look at the host: out of memory");
	f->hostname = f->arch = f->kernel = f->boot_loader = f->virt = "";
	f->raw_devices = f->encrypted = f->soft_raid = f->multipath = "";
	f->platform = "default";
	gather_hostname(&g);
	for (size_t i = 0; i < ARRAY_SIZE(gatherers); i++) {
		struct err why = { 0 };

		/* An error that was got over is none. */
		if (gatherers[i].gather(&g, &why) < 0)
			f->why[gatherers[i].subject] = why;
	}
	chk_gather_boot_loader(&g);
	chk_gather_programs(&g);
	if (f->mem.bad) {
		chk_facts_free(f);
		return err_set(e, -ENOMEM, "look at the host: out of memory");
	}
	*ret = f;
	return 0;
}

void chk_facts_free(struct chk_facts *f)
{
	if (!f)
		return;
	chk_mem_fini(&f->mem);
	free(f);
}
