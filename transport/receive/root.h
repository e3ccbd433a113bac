/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/root.h - taking the target root, and locking ourselves into it.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/error.h"

struct rcv_root {
	int fd;             /* O_RDONLY | O_DIRECTORY */
	bool created;
	bool empty;         /* but for TP_OWN_DIR */
	bool super;         /* CAP_DAC_OVERRIDE: permission bits do not bind us */
	uint32_t abilities; /* TP_R_CHOWN to TP_R_FLAGS */
	uint8_t boot_id[16]; /* zeros: not known */
	uint64_t free_bytes, free_inodes, fs_magic;
};

/*
 * Resolve path, which must be absolute and may lead through links this once; flags are
 * TP_H_*.  The text of an error is meant for the operator.
 */
int rcv_root_take(struct bytes path, uint32_t flags, struct rcv_root *ret, struct err *e)
	_must_check_;
void rcv_root_drop(struct rcv_root *root);

/*
 * Lock the root for one run until this process ends: two of them would undo each other's
 * work.  The receiver of a connection that has just broken gets a few seconds to notice.
 * -EBUSY: it is locked.
 */
int rcv_root_lock(const struct rcv_root *root, struct err *e) _must_check_;

/*
 * For good: chroot() where we may, Landlock where the kernel has it, no capability but those
 * that a sync needs, no way to get more.
 */
int rcv_root_confine(const struct rcv_root *root, struct err *e) _must_check_;
