/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Btrfs file systems, from sysfs; of their sub-volumes those that are mounted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checks/block.h"

/* The profile is the directory with that name below allocation/data and its like. */
static const char *profile(const struct chk_root *root, const char *dir, const char *what)
{
	static const char *const names[] = {
		"single", "dup", "raid0", "raid1", "raid1c3", "raid1c4", "raid10", "raid5", "raid6",
	};
	char path[300];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/allocation/%s/%s", dir, what, names[i]);
		if (chk_is_dir(root, path))
			return names[i];
	}
	return "";
}

static uint64_t value(const struct chk_root *root, const char *dir, const char *file)
{
	char path[900];
	uint64_t v;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return chk_read_u64(root, path, &v) < 0 ? 0 : v;
}

/* Does one of the file system's devices carry this name ("/dev/sda3")? */
static bool has_device(const struct chk_root *root, const char *dir, const char *source)
{
	char path[600], name[256];

	snprintf(path, sizeof(path), "%s/devices/%s", dir, source + strlen("/dev/"));
	if (chk_exists(root, path))
		return true;
	/* sysfs has the kernel's name of a mapped device. */
	snprintf(path, sizeof(path), "%s", source + 1);
	if (chk_link_name(root, path, name, sizeof(name)) < 0)
		return false;
	snprintf(path, sizeof(path), "%s/devices/%s", dir, name);
	return chk_exists(root, path);
}

static void add_subvolume(const struct chk_gather *g, const struct chk_mount *m,
			  struct chk_btrfs *b)
{
	struct chk_mem *mem = &g->f->mem;
	struct chk_subvolume *s = chk_mem_add(mem, &b->subvolumes, &b->n_subvolumes);
	struct chk_subvolume_info info;
	const char *id = strstr(m->options, "subvolid=");

	if (!s)
		return;
	*s = (struct chk_subvolume){
		.uuid = "", .name = m->fs_root, .mount_point = m->point,
		.id = id ? strtoull(id + strlen("subvolid="), NULL, 10) : 0,
	};
	if (g->sys->subvolume(g->sys->arg, g->root, m->point + 1, &info) < 0)
		return;
	s->id = info.id;
	s->parent_id = info.parent_id;
	s->is_snapshot = info.is_snapshot;
	s->uuid = chk_mem_str(mem, info.uuid);
}

static void add_btrfs(const struct chk_gather *g, const char *uuid)
{
	struct chk_mem *mem = &g->f->mem;
	struct chk_btrfs b = { .device = "", .mount_point = "", .label = "" }, *slot;
	struct strlist devices = { 0 };
	char dir[200], path[600], line[256];

	snprintf(dir, sizeof(dir), "sys/fs/btrfs/%s", uuid);
	snprintf(path, sizeof(path), "%s/devices", dir);
	if (chk_list(g->root, path, &devices) < 0) {
		strlist_fini(&devices); /* "features" and the like */
		return;
	}
	for (size_t i = 0; i < devices.n; i++) {
		snprintf(path, sizeof(path), "devices/%s/size", devices.v[i]);
		b.size += value(g->root, dir, path) * 512;
	}
	strlist_fini(&devices);
	b.uuid = chk_mem_str(mem, uuid);
	snprintf(path, sizeof(path), "%s/label", dir);
	if (chk_read_line(g->root, path, line, sizeof(line)) == 0)
		b.label = chk_mem_str(mem, line);
	b.node_size = (uint32_t)value(g->root, dir, "nodesize");
	b.sector_size = (uint32_t)value(g->root, dir, "sectorsize");
	b.used_size = value(g->root, dir, "allocation/data/bytes_used") +
		      value(g->root, dir, "allocation/metadata/bytes_used") +
		      value(g->root, dir, "allocation/system/bytes_used");
	b.global_reserve = value(g->root, dir, "allocation/global_rsv_size");
	b.data_profile = profile(g->root, dir, "data");
	b.system_profile = profile(g->root, dir, "system");
	b.metadata_profile = profile(g->root, dir, "metadata");
	for (size_t i = 0; i < g->f->n_mounts; i++) {
		const struct chk_mount *m = &g->f->mounts[i];

		if (strcmp(m->type, "btrfs") != 0 || strncmp(m->source, "/dev/", 5) != 0 ||
		    !has_device(g->root, dir, m->source))
			continue;
		if (!*b.device) {
			b.device = m->source;
			b.mount_point = m->point;
		}
		add_subvolume(g, m, &b);
	}
	slot = chk_mem_add(mem, &g->f->btrfs, &g->f->n_btrfs);
	if (slot)
		*slot = b;
}

void chk_gather_btrfs(const struct chk_gather *g)
{
	struct strlist l = { 0 };

	if (chk_list(g->root, "sys/fs/btrfs", &l) == 0)
		for (size_t i = 0; i < l.n; i++)
			add_btrfs(g, l.v[i]);
	strlist_fini(&l);
}
