/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/mounts.h - which file systems below the source root a sync goes into.
 *
 * Data file systems on a local block device do (so do btrfs and zfs, which have none of
 * their own); proc, sysfs, tmpfs, network file systems, overlays and bind mounts of a
 * sub-tree do not: their mount point is sent as a directory, as rsync -x does.
 */
#include <stdbool.h>
#include <stddef.h>

#include "common/bytes.h"
#include "common/error.h"

struct stg_mounts;

/*
 * Read the mounts below root (an absolute path without links) from a mountinfo file (NULL:
 * /proc/self/mountinfo; proc(5)).  A host that has none knows no mount points: all is one.
 */
int stg_mounts_read(const char *root, const char *mountinfo, struct stg_mounts **ret,
		    struct err *e) _must_check_;
void stg_mounts_free(struct stg_mounts *m);

enum stg_mount_kind {
	STG_MOUNT_NONE,  /* path is no mount point */
	STG_MOUNT_DATA,  /* it is, and is entered */
	STG_MOUNT_OTHER, /* it is, and is not */
};

/* path is relative to the root. */
enum stg_mount_kind stg_mounts_kind(const struct stg_mounts *m, struct bytes path);

/* The i-th mount point of kind DATA, absolute; NULL after the last. */
const char *stg_mounts_data(const struct stg_mounts *m, size_t i);
