/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/lock.h - the inode flags that forbid changes: immutable, append-only.
 */
#include <stdint.h>

#include "common/macro.h"

/*
 * Take both flags off name in dirfd ("." is the directory itself; no link is followed).
 * The flags that were there and are gone now, 0: there were none; -errno.
 */
int rcv_unlock(int dirfd, const char *name) _must_check_;

/*
 * A file that goes on under other names when one of them is taken away: what it has lost
 * for that.  RCV_UNLOCKED_INIT: nothing.
 */
struct rcv_unlocked {
	int fd;
	uint32_t flags;
};
#define RCV_UNLOCKED_INIT { .fd = -1 }

/*
 * rcv_unlock(), noting in u what a regular file with several names has lost.  What was noted
 * before is locked again first.
 */
int rcv_unlock_name(int dirfd, const char *name, struct rcv_unlocked *u) _must_check_;

/* Lock it again, if it still has a name and nobody has set such flags meanwhile.  0 or -errno. */
int rcv_lock_again(struct rcv_unlocked *u);

/* Make the two flags of an open file what flags says; the others stay.  0 or -errno. */
int rcv_flags_set(int fd, uint32_t flags) _must_check_;

/* The same by name: regular files and directories only. */
int rcv_flags_set_at(int dirfd, const char *name, uint32_t flags) _must_check_;
