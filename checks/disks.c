/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks and what they carry.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "checks/block.h"

#define MIB (UINT64_C(1) << 20)
#define TIB (UINT64_C(1) << 40)

/* SMS: no more disks a server, no system disk larger than this. */
#define DISKS_MAX 23

/* Partitions that hold no file system by design: BIOS boot, PReP, Microsoft reserved. */
#define SMALL_BYTES (128 * MIB)

static bool begins(const char *s, const char *with)
{
	return !strncmp(s, with, strlen(with));
}

static bool is_multipath(const struct chk_block *b)
{
	return begins(b->dm_uuid, "mpath-");
}

/* One of the paths that a multipath device is made of. */
static bool is_path(const struct chk_blocks *all, const struct chk_block *b)
{
	for (size_t i = 0; i < all->n; i++)
		for (size_t k = 0; is_multipath(&all->v[i]) && k < all->v[i].n_slaves; k++)
			if (!strcmp(all->v[i].slaves[k], b->kname))
				return true;
	return false;
}

static bool is_disk(const struct chk_blocks *all, const struct chk_block *b)
{
	if (is_multipath(b))
		return true;
	return !*b->parent && !b->n_slaves && !*b->dm_uuid && !begins(b->kname, "md") &&
	       !is_path(all, b);
}

/* "part1-mpath-..." lies on the map; other partitions have their disk as parent. */
static bool is_part_of(const struct chk_block *b, const struct chk_block *disk)
{
	if (!strcmp(b->parent, disk->kname))
		return true;
	return is_multipath(disk) && begins(b->dm_uuid, "part") && b->n_slaves == 1 &&
	       !strcmp(b->slaves[0], disk->kname);
}

static void fill_part(struct chk_gather const *g, const struct chk_block *b, unsigned index,
		      struct chk_part *ret)
{
	const struct chk_mount *m = chk_block_mount(g->f, b);

	*ret = (struct chk_part){
		.name = b->path,
		.device_use = chk_block_use(b, m),
		.file_system = *b->probe.type ? chk_mem_str(&g->f->mem, b->probe.type) :
			       m ? m->type : "",
		.mount_point = m ? m->point : "",
		.uuid = chk_mem_str(&g->f->mem, b->probe.uuid),
		.index = index,
		.size = b->size,
		.used_size = m ? m->used_size : b->used_size,
		.inode_nums = m ? m->inodes : 0,
		.inode_size = b->probe.inode_size,
		.block_size = b->probe.block_size ? b->probe.block_size : m ? m->block_size : 0,
	};
}

static void fill_style(const struct chk_gather *g, const struct chk_block *b,
		       struct chk_disk *d)
{
	const char *table = b->probe.table;

	d->style_name = "";
	if (b->probe_code < 0) {
		d->style = CHK_STYLE_UNKNOWN;
		d->code = b->probe_code;
	} else if (!strcmp(table, "dos") || !strcmp(table, "gpt")) {
		d->style = *table == 'd' ? CHK_STYLE_MBR : CHK_STYLE_GPT;
		d->style_name = *table == 'd' ? "MBR" : "GPT";
	} else if (*table) {
		d->style = CHK_STYLE_OTHER;
		d->style_name = chk_mem_str(&g->f->mem, table);
	} else {
		d->style = CHK_STYLE_NONE;
	}
}

static bool any_use(const struct chk_disk *d, const char *use)
{
	for (size_t i = 0; i < d->n_parts; i++)
		if (!strcmp(d->parts[i].device_use, use))
			return true;
	return false;
}

static const char *disk_use(const struct chk_disk *d)
{
	static const char *const uses[] = { "BOOT", "VOLUME_GROUP", "BTRFS" };

	for (size_t i = 0; i < ARRAY_SIZE(uses) && !d->os_disk; i++)
		if (any_use(d, uses[i]))
			return uses[i];
	return d->os_disk ? "OS" : "NORMAL";
}

/* The device that "/" is on, or NULL. */
static const struct chk_block *root_block(const struct chk_facts *f, const struct chk_blocks *all)
{
	for (size_t i = 0; i < all->n; i++) {
		const struct chk_mount *m = chk_block_mount(f, &all->v[i]);

		if (m && !strcmp(m->point, "/"))
			return &all->v[i];
	}
	return NULL;
}

static void add_disk(const struct chk_gather *g, const struct chk_blocks *all,
		     const struct chk_block *b)
{
	const struct chk_block *root = root_block(g->f, all);
	struct chk_mem *mem = &g->f->mem;
	struct chk_disk d = { .name = b->path, .size = b->size }, *slot;
	struct chk_part *part;

	fill_style(g, b, &d);
	d.os_disk = root && chk_block_on(all, root, b);
	for (size_t i = 0; i < all->n; i++) {
		const struct chk_block *p = &all->v[i];
		unsigned index = p->part_index;

		/* An extended partition is a frame of two sectors. */
		if (!is_part_of(p, b) || p->size <= 1024)
			continue;
		part = chk_mem_add(mem, &d.parts, &d.n_parts);
		if (!part)
			return;
		if (!index)
			(void)sscanf(p->dm_uuid, "part%u", &index);
		fill_part(g, p, index, part);
		d.used_size += part->used_size;
	}
	if (!d.n_parts && (*b->probe.type || chk_block_mount(g->f, b))) {
		part = chk_mem_add(mem, &d.parts, &d.n_parts);
		if (!part)
			return;
		fill_part(g, b, 0, part);
		d.used_size = part->used_size;
	}
	d.device_use = disk_use(&d);
	slot = chk_mem_add(mem, &g->f->disks, &g->f->n_disks);
	if (slot)
		*slot = d;
}

static void list_special(const struct chk_gather *g, const struct chk_blocks *all)
{
	struct chk_facts *f = g->f;
	struct strlist l = { 0 };

	for (size_t i = 0; i < all->n; i++) {
		const struct chk_block *b = &all->v[i];

		if (begins(b->dm_uuid, "CRYPT-") || !strcmp(b->probe.type, "crypto_LUKS"))
			f->encrypted = chk_mem_join(&f->mem, f->encrypted, ";", b->path);
		if (begins(b->kname, "md") || !strcmp(b->probe.type, "linux_raid_member"))
			f->soft_raid = chk_mem_join(&f->mem, f->soft_raid, ";", b->path);
		if (is_multipath(b))
			f->multipath = chk_mem_join(&f->mem, f->multipath, ";", b->path);
		if (!strcmp(b->probe.type, "oracleasm"))
			f->raw_devices = chk_mem_join(&f->mem, f->raw_devices, ";", b->path);
	}
	/* raw(8): character devices bound to disks. */
	if (chk_list(g->root, "sys/class/raw", &l) == 0)
		for (size_t i = 0; i < l.n; i++)
			if (begins(l.v[i], "raw") && strcmp(l.v[i], "rawctl") != 0)
				f->raw_devices = chk_mem_join(
					&f->mem, f->raw_devices, ";",
					chk_mem_printf(&f->mem, "/dev/raw/%s", l.v[i]));
	strlist_fini(&l);
}

int chk_gather_disks(const struct chk_gather *g, struct err *e)
{
	struct chk_blocks all;
	int r = chk_blocks_read(g, &all, e);

	if (r < 0)
		return r;
	chk_gather_lvm(g, &all);
	chk_gather_btrfs(g);
	for (size_t i = 0; i < all.n; i++)
		if (is_disk(&all, &all.v[i]))
			add_disk(g, &all, &all.v[i]);
	list_special(g, &all);
	return 0;
}

/* --- checks --- */

/* A disk of the same kind whose name comes first: sda before sdb, sdb before sdaa. */
static const struct chk_disk *earlier(const struct chk_facts *f, const struct chk_disk *d)
{
	const size_t kind = strlen("/dev/xx");

	for (size_t i = 0; i < f->n_disks; i++) {
		const char *a = f->disks[i].name, *b = d->name;

		if (&f->disks[i] != d && !strncmp(a, b, kind) &&
		    (strlen(a) != strlen(b) ? strlen(a) < strlen(b) : strcmp(a, b) < 0))
			return &f->disks[i];
	}
	return NULL;
}

static int judge_system_disk(const struct chk_facts *f, const struct chk_disk *d,
			     struct chk_answer *ret)
{
	const struct chk_disk *first = earlier(f, d);

	if (first) {
		chk_code(ret, "SMS.6532", "Put the system disk first, or use the staged sync.");
		return chk_say(ret, CHK_ERROR, "the system is on %s, which is not the first disk (%s)",
			       d->name, first->name);
	}
	if (d->size > TIB) {
		chk_code(ret, "SMS.6537", "Plan a smaller system disk for the target.");
		return chk_say(ret, CHK_WARN, "the system disk %s is larger than 1 TiB", d->name);
	}
	return chk_say(ret, CHK_OK, "the system is on %s, the first of %zu", d->name, f->n_disks);
}

int chk_disk_info(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const struct chk_facts *f = env->facts;

	ret->number = true;
	chk_limit(ret, "%d", DISKS_MAX);
	if (!chk_told(f, CHK_SUBJECT_DISKS))
		return chk_untold(env, CHK_SUBJECT_DISKS, e);
	chk_value(ret, "%zu", f->n_disks);
	if (!f->n_disks)
		return chk_say(ret, CHK_ERROR, "this host has no disk");
	if (f->n_disks > DISKS_MAX)
		return chk_say(ret, CHK_ERROR, "this host has %zu disks", f->n_disks);
	if (!chk_told(f, CHK_SUBJECT_MOUNTS))
		return chk_untold(env, CHK_SUBJECT_MOUNTS, e);
	for (size_t i = 0; i < f->n_disks; i++)
		if (f->disks[i].os_disk)
			return judge_system_disk(f, &f->disks[i], ret);
	return chk_say(ret, CHK_ERROR, "no disk of this host holds /");
}

int chk_partition_style(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const struct chk_facts *f = env->facts;
	const struct chk_disk *whole = NULL, *unread = NULL;

	chk_limit(ret, "MBR or GPT");
	if (!chk_told(f, CHK_SUBJECT_DISKS))
		return chk_untold(env, CHK_SUBJECT_DISKS, e);
	for (size_t i = 0; i < f->n_disks; i++) {
		const struct chk_disk *d = &f->disks[i];

		if (d->os_disk || !*ret->value)
			chk_value(ret, "%s", *d->style_name ? d->style_name : "none");
		if (d->style == CHK_STYLE_OTHER)
			return chk_say(ret, CHK_ERROR, "%s has a partition table of type %s",
				       d->name, d->style_name);
		if (d->style == CHK_STYLE_NONE && d->os_disk)
			return chk_say(ret, CHK_ERROR, "the system disk %s has no partition table",
				       d->name);
		if (d->style == CHK_STYLE_UNKNOWN)
			unread = d;
		/* A whole disk as a physical volume is usual, and SMS takes it. */
		if (d->style == CHK_STYLE_NONE && d->n_parts &&
		    strcmp(d->parts[0].device_use, "VOLUME_GROUP") != 0)
			whole = d;
	}
	if (unread)
		return err_sysn(e, unread->code, "read the partition table of %s", unread->name);
	if (whole)
		return chk_say(ret, CHK_WARN, "%s holds a file system without a partition table",
			       whole->name);
	return chk_say(ret, CHK_OK, "every disk has an MBR or GPT, or is used by LVM");
}

/* A disk or partition of some size on which nothing known is found. */
static const char *unknown_content(const struct chk_facts *f)
{
	for (size_t i = 0; i < f->n_disks; i++) {
		const struct chk_disk *d = &f->disks[i];

		if (d->style == CHK_STYLE_NONE && !d->n_parts)
			return d->name;
		for (size_t k = 0; k < d->n_parts; k++)
			if (d->style > CHK_STYLE_UNKNOWN && d->parts[k].size > SMALL_BYTES &&
			    !*d->parts[k].file_system)
				return d->parts[k].name;
	}
	return NULL;
}

int chk_raw_devices(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const struct chk_facts *f = env->facts;
	const char *name;

	chk_limit(ret, "none");
	if (!chk_told(f, CHK_SUBJECT_DISKS))
		return chk_untold(env, CHK_SUBJECT_DISKS, e);
	name = unknown_content(f);
	chk_value(ret, "%s", *f->raw_devices ? f->raw_devices : "none");
	if (*f->raw_devices)
		return chk_say(ret, CHK_ERROR, "raw devices are in use: %s", f->raw_devices);
	if (name)
		return chk_say(ret, CHK_WARN, "%s holds nothing that is known: it is empty, or used raw",
			       name);
	return chk_say(ret, CHK_OK, "no raw device");
}

int chk_encryption(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const struct chk_facts *f = env->facts;

	chk_limit(ret, "none");
	if (!chk_told(f, CHK_SUBJECT_DISKS))
		return chk_untold(env, CHK_SUBJECT_DISKS, e);
	chk_value(ret, "%s", *f->encrypted ? f->encrypted : "none");
	if (*f->encrypted)
		return chk_say(ret, CHK_ERROR, "encrypted: %s", f->encrypted);
	return chk_say(ret, CHK_OK, "no disk is encrypted");
}

int chk_software_raid(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const struct chk_facts *f = env->facts;

	chk_limit(ret, "none");
	if (!chk_told(f, CHK_SUBJECT_DISKS))
		return chk_untold(env, CHK_SUBJECT_DISKS, e);
	chk_value(ret, "%s", *f->soft_raid ? f->soft_raid : "none");
	if (*f->soft_raid)
		return chk_say(ret, CHK_ERROR, "software RAID is in use: %s", f->soft_raid);
	return chk_say(ret, CHK_OK, "no software RAID");
}
