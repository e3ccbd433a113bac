/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/block.h - the block devices of a host and how they lie on each other, as sysfs tells.
 */
#include "checks/facts.h"
#include "checks/probe.h"
#include "checks/rows.h"

struct chk_block {
	const char *kname;  /* "sda1", "dm-0", "cciss!c0d0" */
	const char *path;   /* "/dev/sda1", "/dev/mapper/vg-root" */
	const char *number; /* "8:1" */
	uint32_t major, minor;
	uint64_t size, used_size;
	unsigned part_index;           /* 0: no partition of a disk */
	const char *parent;            /* kname of the disk, "" none */
	const char *dm_name, *dm_uuid; /* "" none */
	const char **slaves;           /* knames of what it is made of */
	size_t n_slaves;
	struct chk_probe probe;
	int probe_code; /* negative: it could not be read */
};

struct chk_blocks {
	struct chk_block *v; /* by name, partitions behind their disk */
	size_t n;
};

/* All but loop devices, RAM disks, CDs and the like.  Negative: no sysfs. */
int chk_blocks_read(const struct chk_gather *g, struct chk_blocks *ret, struct err *e)
	_must_check_;

struct chk_block *chk_block_find(const struct chk_blocks *b, const char *kname);

/* What is mounted from it, or NULL. */
const struct chk_mount *chk_block_mount(const struct chk_facts *f, const struct chk_block *b);

/* What a file system is for: OS, BOOT, VOLUME_GROUP, BTRFS, NORMAL. */
const char *chk_block_use(const struct chk_block *b, const struct chk_mount *m);

/* Is block made of disk, at any depth? */
bool chk_block_on(const struct chk_blocks *all, const struct chk_block *b,
		  const struct chk_block *disk);

/* Volume groups; sets used_size of physical volumes. */
void chk_gather_lvm(const struct chk_gather *g, struct chk_blocks *b);
void chk_gather_btrfs(const struct chk_gather *g);
