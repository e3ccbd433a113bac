/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/meta.h - the metadata of one entry: how it is read from a file system, and how
 * it goes over the wire.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"

struct tp_meta {
	uint32_t mode; /* as st_mode: type and permissions */
	uint32_t uid;
	uint32_t gid;
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t flags; /* FS_IMMUTABLE_FL, FS_APPEND_FL */
	uint32_t rdev_major;
	uint32_t rdev_minor;
	struct bytes target; /* of a symbolic link; borrowed */
	struct bytes xattrs; /* packed as in protocol.h; borrowed */
};

/* True when mode has a type that an entry can have, and no bits beyond type and permissions. */
bool tp_mode_ok(uint32_t mode);

/* Append the wire form.  0 or -ENOMEM. */
int tp_meta_put(struct buf *out, const struct tp_meta *m) _must_check_;

/* Read the wire form; target and xattrs point into the reader's bytes.  Sets r->bad when it
 * is malformed (lengths, unknown type, xattrs out of order). */
void tp_meta_get(struct reader *r, struct tp_meta *ret);

/* Fill all but target and xattrs. */
void tp_meta_from_statx(const struct statx *stx, struct tp_meta *ret);

/*
 * Read the extended attributes, ACLs among them, of an open file (name NULL) or of name in
 * the current working directory of this thread, no link followed (fd is ignored), packed and
 * sorted, replacing out.  Attributes that cannot be listed on this file system are none.
 */
int tp_xattrs_read(int fd, const char *name, struct buf *out, struct err *e) _must_check_;

/* Iterate over packed xattrs: true and the next pair, or false at the end. */
bool tp_xattrs_next(struct bytes *packed, struct bytes *ret_name, struct bytes *ret_value);
