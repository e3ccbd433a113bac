/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/probe.h - what a block device holds, by what is written on it (libblkid).
 */
#include <stdint.h>

#include "checks/root.h"

struct chk_probe {
	char table[32]; /* "dos", "gpt", "sun"...; "" none */
	char type[32];  /* "ext4", "swap", "LVM2_member", "crypto_LUKS"...; "" none */
	char uuid[64];
	char label[128];
	uint32_t inode_size; /* of ext2 to ext4 and xfs; else 0 */
	uint32_t block_size; /* of the file system, 0 unknown */
};

/*
 * path is relative to the root ("dev/vda1").  When the device may not be read, what udev
 * has written down about device number "8:1" (NULL: not known) is used.  0 or -errno.
 */
int chk_probe(const struct chk_root *root, const char *path, const char *number,
	      struct chk_probe *ret) _must_check_;
