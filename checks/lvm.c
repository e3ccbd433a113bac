/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volume groups: from the metadata on the physical volumes; where that cannot be read, from
 * what is active, by the names and ids of device mapper.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "checks/block.h"
#include "checks/lvm_text.h"

#define PVS_MAX 1024

/* A physical volume and what its metadata says. */
struct pv {
	struct chk_block *block;
	char id[33];
	struct chk_lvm_vg vg;
	int code; /* negative: no metadata */
};

/* Device mapper joins group and volume by a dash, and doubles those within. */
static const char *mapper_name(struct chk_mem *m, const char *vg, const char *lv)
{
	char name[300];
	size_t n = 0;

	for (unsigned i = 0; i < 2; i++) {
		if (i && n < sizeof(name) - 2)
			name[n++] = '-';
		for (const char *c = i ? lv : vg; *c && n < sizeof(name) - 2; c++) {
			name[n++] = *c;
			if (*c == '-')
				name[n++] = '-';
		}
	}
	return chk_mem_strn(m, name, n);
}

/* The inverse: the group of "my--vg-root"; what follows is the volume, still doubled. */
static const char *group_of(struct chk_mem *m, const char *name, const char **ret_rest)
{
	char vg[300];
	size_t n = 0;

	for (; *name && n < sizeof(vg) - 1; name++) {
		if (name[0] == '-' && name[1] != '-') {
			name++;
			break;
		}
		name += name[0] == '-';
		vg[n++] = *name;
	}
	*ret_rest = name;
	return chk_mem_strn(m, vg, n);
}

static struct chk_block *block_with_uuid(const struct chk_blocks *b, const char *uuid)
{
	/* Layers of a volume have suffixes, as in "-real", "-tpool". */
	for (size_t i = 0; i < b->n; i++)
		if (!strcmp(b->v[i].dm_uuid, uuid))
			return &b->v[i];
	return NULL;
}

static struct chk_block *block_with_name(const struct chk_blocks *b, const char *name)
{
	for (size_t i = 0; i < b->n; i++)
		if (!strcmp(b->v[i].dm_name, name))
			return &b->v[i];
	return NULL;
}

static void fill_lv(const struct chk_gather *g, const struct chk_block *b, struct chk_lv *lv)
{
	const struct chk_mount *m = chk_block_mount(g->f, b);

	lv->file_system = *b->probe.type ? chk_mem_str(&g->f->mem, b->probe.type) :
			  m ? m->type : "";
	lv->device_use = chk_block_use(b, m);
	lv->block_size = b->probe.block_size ? b->probe.block_size : m ? m->block_size : 0;
	lv->inode_size = b->probe.inode_size;
	lv->block_count = lv->block_size ? lv->size / lv->block_size : 0;
	if (!m)
		return;
	lv->mount_point = m->point;
	lv->used_size = m->used_size;
	lv->free_size = m->free_size;
	lv->inode_nums = m->inodes;
}

static void add_lv(const struct chk_gather *g, const struct chk_blocks *b,
		   const struct chk_lvm_vg *from, const struct chk_lvm_lv *v, struct chk_vg *vg)
{
	struct chk_mem *m = &g->f->mem;
	struct chk_lv *lv = chk_mem_add(m, &vg->lvs, &vg->n_lvs);
	const struct chk_block *dev;

	if (!lv)
		return;
	*lv = (struct chk_lv){
		.name = chk_mem_printf(m, "/dev/%s/%s", from->name, v->name),
		.file_system = "", .mount_point = "", .device_use = "NORMAL",
		.size = v->extents * from->extent_bytes,
		.thin = !v->simple,
	};
	dev = block_with_uuid(b, chk_mem_printf(m, "LVM-%s%s", from->id, v->id));
	if (!dev)
		dev = block_with_name(b, mapper_name(m, from->name, v->name));
	if (dev)
		fill_lv(g, dev, lv);
}

static struct pv *pv_with_id(struct pv *pvs, size_t n, const char *id)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(pvs[i].id, id))
			return &pvs[i];
	return NULL;
}

static void add_vg(const struct chk_gather *g, const struct chk_blocks *b, struct pv *pvs,
		   size_t n_pvs, const struct chk_lvm_vg *from)
{
	struct chk_mem *m = &g->f->mem;
	struct chk_vg *vg = chk_mem_add(m, &g->f->vgs, &g->f->n_vgs);

	if (!vg)
		return;
	*vg = (struct chk_vg){ .name = from->name, .uuid = from->id, .components = "",
			       .size_told = true };
	for (size_t i = 0; i < from->n_pvs; i++) {
		const struct chk_lvm_pv *p = &from->pvs[i];
		struct pv *here = pv_with_id(pvs, n_pvs, p->id);

		vg->size += p->extents * from->extent_bytes;
		vg->free_size += (p->extents - MIN(p->extents, p->used_extents)) *
				 from->extent_bytes;
		vg->partial |= p->missing || !here;
		if (!here)
			continue;
		here->block->used_size = p->used_extents * from->extent_bytes;
		vg->components = chk_mem_join(m, vg->components, ";", here->block->path);
	}
	for (size_t i = 0; i < from->n_lvs; i++)
		if (from->lvs[i].visible)
			add_lv(g, b, from, &from->lvs[i], vg);
}

static struct chk_vg *vg_with_uuid(struct chk_facts *f, const char *uuid, size_t n)
{
	for (size_t i = 0; i < f->n_vgs; i++)
		if (!strncmp(f->vgs[i].uuid, uuid, n) && !f->vgs[i].uuid[n])
			return &f->vgs[i];
	return NULL;
}

/* Groups known only by active volumes: "LVM-", 32 of the group, 32 of the volume. */
static void add_active(const struct chk_gather *g, const struct chk_blocks *b,
		       const struct chk_block *dev)
{
	struct chk_mem *m = &g->f->mem;
	const char *uuid = dev->dm_uuid + 4, *rest;
	struct chk_vg *vg;
	struct chk_lv *lv;

	if (strncmp(dev->dm_uuid, "LVM-", 4) != 0 || strlen(uuid) != 64)
		return;
	vg = vg_with_uuid(g->f, uuid, 32);
	if (vg && vg->size_told)
		return;
	if (!vg) {
		vg = chk_mem_add(m, &g->f->vgs, &g->f->n_vgs);
		if (!vg)
			return;
		*vg = (struct chk_vg){ .name = group_of(m, dev->dm_name, &rest),
				       .uuid = chk_mem_strn(m, uuid, 32), .components = "" };
	}
	(void)group_of(m, dev->dm_name, &rest);
	vg->size += dev->size;
	lv = chk_mem_add(m, &vg->lvs, &vg->n_lvs);
	if (!lv)
		return;
	*lv = (struct chk_lv){ .name = chk_mem_printf(m, "/dev/%s/%s", vg->name,
						      group_of(m, rest, &rest)),
			       .mount_point = "", .size = dev->size };
	fill_lv(g, dev, lv);
	for (size_t i = 0; i < dev->n_slaves; i++) {
		const struct chk_block *slave = chk_block_find(b, dev->slaves[i]);

		if (slave && !strstr(vg->components, slave->path))
			vg->components = chk_mem_join(m, vg->components, ";", slave->path);
	}
}

/* Every volume of a group carries the text; the newest one counts. */
static bool is_newest(const struct pv *pvs, size_t n, size_t i)
{
	for (size_t k = 0; k < n; k++) {
		if (pvs[k].code < 0 || strcmp(pvs[k].vg.id, pvs[i].vg.id) != 0)
			continue;
		if (pvs[k].vg.seqno > pvs[i].vg.seqno ||
		    (pvs[k].vg.seqno == pvs[i].vg.seqno && k < i))
			return false;
	}
	return true;
}

void chk_gather_lvm(const struct chk_gather *g, struct chk_blocks *b)
{
	struct chk_mem *m = &g->f->mem;
	struct pv *pvs = NULL, *pv;
	size_t n = 0;

	for (size_t i = 0; i < b->n && n < PVS_MAX; i++) {
		const char *path;

		if (strcmp(b->v[i].probe.type, "LVM2_member") != 0)
			continue;
		pv = chk_mem_add(m, &pvs, &n);
		if (!pv)
			return;
		pv->block = &b->v[i];
		/* A stacked device's node goes by its kernel name when there is no other. */
		path = chk_mem_printf(m, "dev/%s", b->v[i].kname);
		pv->code = chk_lvm_read(g->root, chk_exists(g->root, path) ? path :
					b->v[i].path + 1, m, pv->id, &pv->vg);
	}
	for (size_t i = 0; i < n; i++)
		if (pvs[i].code == 0 && is_newest(pvs, n, i))
			add_vg(g, b, pvs, n, &pvs[i].vg);
	for (size_t i = 0; i < b->n; i++)
		add_active(g, b, &b->v[i]);
}

int chk_volume_groups(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const struct chk_facts *f = env->facts;
	const struct chk_vg *unread = NULL;

	ret->number = true;
	if (!chk_told(f, CHK_SUBJECT_DISKS))
		return chk_untold(env, CHK_SUBJECT_DISKS, e);
	chk_value(ret, "%zu", f->n_vgs);
	for (size_t i = 0; i < f->n_vgs; i++) {
		const struct chk_vg *vg = &f->vgs[i];

		for (size_t k = 0; k < i; k++) {
			if (strcmp(vg->name, f->vgs[k].name) != 0)
				continue;
			chk_code(ret, "SMS.5111", "Rename one of them with vgrename.");
			return chk_say(ret, CHK_ERROR, "two volume groups are called %s", vg->name);
		}
		if (vg->partial)
			return chk_say(ret, CHK_ERROR, "a physical volume of the group %s is missing",
				       vg->name);
		for (size_t k = 0; k < vg->n_lvs; k++) {
			if (!vg->lvs[k].thin)
				continue;
			chk_code(ret, "", "Use the staged sync, which does not care how volumes are made.");
			return chk_say(ret, CHK_ERROR, "%s is thin, mirrored, cached or the like",
				       vg->lvs[k].name);
		}
		if (!vg->size_told)
			unread = vg;
	}
	if (unread)
		return err_set(e, -EACCES, "the metadata of the volume group %s cannot be read: it needs root",
			       unread->name);
	if (!f->n_vgs)
		return chk_say(ret, CHK_OK, "no volume groups");
	return chk_say(ret, CHK_OK, "volume groups: %zu, complete", f->n_vgs);
}
