/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/metaset.h - give one object the metadata that it shall have, touching
 * only what differs.
 */
#include <sys/stat.h>

#include "common/bytes.h"
#include "transport/meta.h"
#include "transport/receive/env.h"

/* An open file or directory, or (fd -1) a name in the working directory. */
struct rcv_obj {
	int fd;
	const char *name; /* for messages too */
};

/* What differs. */
#define RCV_D_OWNER 1u
#define RCV_D_MODE  2u
#define RCV_D_XATTR 4u
#define RCV_D_TIMES 8u
#define RCV_D_FLAGS 16u

/* statx() of the object, no link followed.  0, or -errno and v->fault. */
int rcv_meta_look(struct rcv_env *v, const struct rcv_obj *o, struct statx *ret) _must_check_;

/* The extended attributes as they are, borrowed until the next look.  0 or -errno. */
int rcv_meta_xattrs(struct rcv_env *v, const struct rcv_obj *o, struct bytes *ret)
	_must_check_;

/*
 * RCV_D_* of what this process would change.  An owner that it has no right to set, and the
 * setuid bit that must not go with a wrong owner, are no differences.
 */
unsigned rcv_meta_diff(const struct rcv_env *v, const struct statx *have,
		       struct bytes have_xattrs, const struct tp_meta *want);

/*
 * Change what diff names, in the order that survives.  What cannot be set is told by a WARN;
 * -errno and v->fault: the object is gone.  Flags that stand in the way are taken off, and
 * set as wanted at the end.
 */
int rcv_meta_fix(struct rcv_env *v, const struct rcv_obj *o, const struct statx *have,
		 struct bytes have_xattrs, const struct tp_meta *want, unsigned diff)
	_must_check_;

/* look, diff and fix in one. */
int rcv_meta_settle(struct rcv_env *v, const struct rcv_obj *o, const struct tp_meta *want)
	_must_check_;

/* Only the inode flags, for a file that has got its name by now. */
void rcv_meta_flags(struct rcv_env *v, const struct rcv_obj *o, uint32_t flags);
