/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/probe.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/io.h"
#include "common/macro.h"

static void probe_free_p(blkid_probe *p)
{
	if (*p)
		blkid_free_probe(*p);
}

static void value(blkid_probe p, const char *name, char *ret, size_t size)
{
	const char *v = NULL;

	if (blkid_probe_lookup_value(p, name, &v, NULL) == 0 && v)
		snprintf(ret, size, "%s", v);
}

/*
 * libblkid does not tell the size of inodes.  ext: u16 at 1024 + 88, and the block size as
 * a shift at 1024 + 24; xfs: big-endian, block size at 4, inode size at 104.
 */
static void read_super(int fd, struct chk_probe *ret)
{
	uint8_t b[2048];

	if (io_pread_full(fd, b, sizeof(b), 0) != sizeof(b))
		return;
	if (!strncmp(ret->type, "ext", 3)) {
		/* The first revision had 128 bytes and no field for it. */
		ret->inode_size = le32_get(b + 1024 + 76) ? le16_get(b + 1024 + 88) : 128;
		ret->block_size = UINT32_C(1024) << (le32_get(b + 1024 + 24) & 7);
	} else if (!strcmp(ret->type, "xfs")) {
		ret->inode_size = (uint32_t)(b[104] << 8 | b[105]);
		ret->block_size = (uint32_t)(b[4] << 24 | b[5] << 16 | b[6] << 8 | b[7]);
	}
}

static int probe_device(int fd, struct chk_probe *ret)
{
	_cleanup_(probe_free_p) blkid_probe p = blkid_new_probe();

	if (!p)
		return -ENOMEM;
	if (blkid_probe_set_device(p, fd, 0, 0) < 0)
		return -EIO;
	blkid_probe_enable_superblocks(p, 1);
	blkid_probe_set_superblocks_flags(p, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_UUID |
						     BLKID_SUBLKS_LABEL);
	blkid_probe_enable_partitions(p, 1);
	/* 1: there is nothing; -2: more than one thing, which is told as nothing. */
	if (blkid_do_safeprobe(p) == -1)
		return -EIO;
	value(p, "PTTYPE", ret->table, sizeof(ret->table));
	value(p, "TYPE", ret->type, sizeof(ret->type));
	value(p, "UUID", ret->uuid, sizeof(ret->uuid));
	value(p, "LABEL", ret->label, sizeof(ret->label));
	read_super(fd, ret);
	return 0;
}

/* Lines "E:ID_FS_TYPE=ext4" of /run/udev/data/b8:1. */
static int ask_udev(const struct chk_root *root, const char *number, struct chk_probe *ret)
{
	const struct {
		const char *key;
		char *to;
		size_t size;
	} keys[] = {
		{ "E:ID_PART_TABLE_TYPE=", ret->table, sizeof(ret->table) },
		{ "E:ID_FS_TYPE=", ret->type, sizeof(ret->type) },
		{ "E:ID_FS_UUID=", ret->uuid, sizeof(ret->uuid) },
		{ "E:ID_FS_LABEL=", ret->label, sizeof(ret->label) },
	};
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	char path[64], *save = NULL;
	struct err e;
	int r;

	snprintf(path, sizeof(path), "run/udev/data/b%s", number);
	r = chk_read(root, path, &b, &e);
	if (r < 0)
		return r;
	for (char *line = strtok_r((char *)b.p, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
			if (!strncmp(line, keys[i].key, strlen(keys[i].key)))
				snprintf(keys[i].to, keys[i].size, "%s",
					 line + strlen(keys[i].key));
	return 0;
}

int chk_probe(const struct chk_root *root, const char *path, const char *number,
	      struct chk_probe *ret)
{
	/* Not blocking: a drive without a medium would wait for one. */
	_cleanup_close_ int fd = chk_open(root, path, O_RDONLY | O_NONBLOCK);
	struct stat st;
	int r = fd;

	*ret = (struct chk_probe){ 0 };
	if (fd >= 0)
		r = fstat(fd, &st) < 0 ? -errno :
		    S_ISBLK(st.st_mode) || S_ISREG(st.st_mode) ? probe_device(fd, ret) : -ENOTBLK;
	if (r < 0 && number && ask_udev(root, number, ret) == 0)
		return 0;
	return r;
}
