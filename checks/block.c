/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/block.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 8 /* partition, RAID, LUKS, LVM...: nobody stacks more */

/* Not disks of the host: images, memory, drives of removable media, boot areas of eMMC. */
static bool is_foreign(const struct chk_root *root, const char *kname)
{
	static const char *const begin[] = { "loop", "ram", "zram", "fd", "sr", "nbd", "mtdblock" };
	char path[512];
	uint64_t v;

	for (size_t i = 0; i < ARRAY_SIZE(begin); i++) {
		size_t n = strlen(begin[i]);

		if (!strncmp(kname, begin[i], n) && kname[n] >= '0' && kname[n] <= '9')
			return true;
	}
	if (!strncmp(kname, "mmcblk", 6) && (strstr(kname, "boot") || strstr(kname, "rpmb")))
		return true;
	snprintf(path, sizeof(path), "sys/block/%s/removable", kname);
	if (chk_read_u64(root, path, &v) == 0 && v == 1)
		return true;
	/* The paths of a multipath NVMe device, which is there by itself. */
	snprintf(path, sizeof(path), "sys/block/%s/hidden", kname);
	if (chk_read_u64(root, path, &v) == 0 && v == 1)
		return true;
	snprintf(path, sizeof(path), "sys/block/%s/size", kname);
	return chk_read_u64(root, path, &v) < 0 || v == 0;
}

static const char *attribute(const struct chk_gather *g, const char *dir, const char *name)
{
	char path[512], line[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return chk_read_line(g->root, path, line, sizeof(line)) < 0 ?
		       "" : chk_mem_str(&g->f->mem, line);
}

static void read_slaves(const struct chk_gather *g, const char *dir, struct chk_block *b)
{
	struct strlist l = { 0 };
	char path[512];

	snprintf(path, sizeof(path), "%s/slaves", dir);
	if (chk_list(g->root, path, &l) == 0) {
		for (size_t i = 0; i < l.n; i++) {
			const char **slot = chk_mem_add(&g->f->mem, &b->slaves, &b->n_slaves);

			if (slot)
				*slot = chk_mem_str(&g->f->mem, l.v[i]);
		}
	}
	strlist_fini(&l);
}

/* sysfs writes "!" where the name of the node has "/". */
static const char *node_path(struct chk_mem *m, const char *kname)
{
	char *path = (char *)chk_mem_printf(m, "/dev/%s", kname);

	for (char *c = path; *c; c++)
		if (*c == '!')
			*c = '/';
	return path;
}

static void add_block(const struct chk_gather *g, struct chk_blocks *all, const char *dir,
		      const char *kname, const char *parent, unsigned part_index)
{
	struct chk_mem *m = &g->f->mem;
	struct chk_block b = { .parent = chk_mem_str(m, parent), .part_index = part_index };
	struct chk_block *slot;
	const char *node;

	b.kname = chk_mem_str(m, kname);
	b.number = attribute(g, dir, "dev");
	(void)sscanf(b.number, "%u:%u", &b.major, &b.minor);
	b.size = strtoull(attribute(g, dir, "size"), NULL, 10) * 512;
	b.dm_name = attribute(g, dir, "dm/name");
	b.dm_uuid = attribute(g, dir, "dm/uuid");
	read_slaves(g, dir, &b);
	node = node_path(m, kname);
	b.path = *b.dm_name ? chk_mem_printf(m, "/dev/mapper/%s", b.dm_name) : node;
	b.probe_code = chk_probe(g->root, node + 1, *b.number ? b.number : NULL, &b.probe);
	if (b.probe_code < 0 && b.path != node)
		b.probe_code = chk_probe(g->root, b.path + 1, NULL, &b.probe);
	slot = chk_mem_add(m, &all->v, &all->n);
	if (slot)
		*slot = b;
}

static void add_disk(const struct chk_gather *g, struct chk_blocks *all, const char *kname)
{
	struct strlist l = { 0 };
	char dir[300], path[600];
	uint64_t index;

	snprintf(dir, sizeof(dir), "sys/block/%s", kname);
	add_block(g, all, dir, kname, "", 0);
	if (chk_list(g->root, dir, &l) == 0) {
		for (size_t i = 0; i < l.n; i++) {
			snprintf(path, sizeof(path), "%s/%s/partition", dir, l.v[i]);
			if (chk_read_u64(g->root, path, &index) < 0)
				continue;
			snprintf(path, sizeof(path), "%s/%s", dir, l.v[i]);
			add_block(g, all, path, l.v[i], kname, (unsigned)index);
		}
	}
	strlist_fini(&l);
}

int chk_blocks_read(const struct chk_gather *g, struct chk_blocks *ret, struct err *e)
{
	struct strlist l = { 0 };
	int r = chk_list(g->root, "sys/block", &l);

	*ret = (struct chk_blocks){ 0 };
	for (size_t i = 0; i < l.n && r == 0; i++)
		if (!is_foreign(g->root, l.v[i]))
			add_disk(g, ret, l.v[i]);
	strlist_fini(&l);
	return r < 0 ? chk_sys_error(g->root, "sys/block", r, e) : 0;
}

struct chk_block *chk_block_find(const struct chk_blocks *b, const char *kname)
{
	for (size_t i = 0; i < b->n; i++)
		if (!strcmp(b->v[i].kname, kname))
			return &b->v[i];
	return NULL;
}

const struct chk_mount *chk_block_mount(const struct chk_facts *f, const struct chk_block *b)
{
	for (size_t i = 0; i < f->n_mounts; i++) {
		const struct chk_mount *m = &f->mounts[i];

		if (m->block && !m->repeated &&
		    ((m->major && m->major == b->major && m->minor == b->minor) ||
		     !strcmp(m->source, b->path)))
			return m;
	}
	return NULL;
}

const char *chk_block_use(const struct chk_block *b, const struct chk_mount *m)
{
	if (m && !strcmp(m->point, "/"))
		return "OS";
	if (m && (!strcmp(m->point, "/boot") || !strcmp(m->point, "/boot/efi") ||
		  !strcmp(m->point, "/efi")))
		return "BOOT";
	if (!strcmp(b->probe.type, "LVM2_member"))
		return "VOLUME_GROUP";
	return strcmp(b->probe.type, "btrfs") ? "NORMAL" : "BTRFS";
}

static bool on(const struct chk_blocks *all, const struct chk_block *b,
	       const struct chk_block *disk, unsigned depth)
{
	if (b == disk || !strcmp(b->parent, disk->kname))
		return true;
	for (size_t i = 0; i < b->n_slaves && depth; i++) {
		const struct chk_block *slave = chk_block_find(all, b->slaves[i]);

		if (slave && on(all, slave, disk, depth - 1))
			return true;
	}
	return false;
}

bool chk_block_on(const struct chk_blocks *all, const struct chk_block *b,
		  const struct chk_block *disk)
{
	return on(all, b, disk, DEPTH_MAX);
}
