/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/place.h - files that have no name until they are finished, and how the
 * finished one takes its name, replacing what is there in one step.
 */
#include <stdbool.h>

#include "transport/meta.h"
#include "transport/receive/dirs.h"
#include "transport/receive/env.h"

#define RCV_TEMP_MAX (TP_TEMP_MAX + 1) /* TP_TEMP_PREFIX "<pid>.<serial>", or of the driver */

struct rcv_newfile {
	int fd;
	mode_t mode;             /* permissions it has now */
	char temp[RCV_TEMP_MAX]; /* its name for now; empty: it has none */
	struct rcv_dir *dir;     /* counted */
};

#define RCV_NEWFILE_INIT ((struct rcv_newfile){ .fd = -1 })

/* A name that nothing has yet, most likely. */
void rcv_temp_name(struct rcv_env *v, char ret[RCV_TEMP_MAX]);

/*
 * Begin a file in dir, open with flags (O_WRONLY or O_RDWR); meta is what it shall have in
 * the end: nobody gets more permission in the meantime.  -errno, and v->fault.
 */
int rcv_newfile_open(struct rcv_env *v, struct rcv_dir *dir, const struct tp_meta *meta,
		     int flags, struct rcv_newfile *ret) _must_check_;

/* Set all metadata but the inode flags on the written file; name is for messages. */
int rcv_newfile_meta(struct rcv_env *v, struct rcv_newfile *f, const char *name,
		     const struct tp_meta *meta) _must_check_;

/*
 * Give it its name, then its inode flags, and close it.  -errno or -TP_E_BLOCKED, and
 * v->fault: rcv_newfile_drop() is still to be called.
 */
int rcv_newfile_place(struct rcv_env *v, struct rcv_newfile *f, const char *name,
		      const struct tp_meta *meta) _must_check_;

/* Forget it; fine after rcv_newfile_place() and on RCV_NEWFILE_INIT. */
void rcv_newfile_drop(struct rcv_newfile *f);

/*
 * Open a temporary file whose name the driver chose, in the current directory, to read and
 * write it.  It must be a regular file of our own without a second name.  -TP_E_STALE: it is
 * not, or it is missing and create is false.  A descriptor, or negative and v->fault.
 */
int rcv_temp_open(struct rcv_env *v, const char *temp, bool create) _must_check_;

/* Remove a temporary name; that it is gone already, or cannot be, does not matter. */
void rcv_temp_drop(const struct rcv_dir *dir, const char *temp);

/* Is a directory that is not empty in the way of name?  0, or -TP_E_BLOCKED and v->fault. */
int rcv_place_free(struct rcv_env *v, const struct rcv_dir *dir, const char *name) _must_check_;

/*
 * Rename temp to name in dir over whatever is there; temp is removed when that fails.
 * -errno or -TP_E_BLOCKED, and v->fault.
 */
int rcv_place_temp(struct rcv_env *v, const struct rcv_dir *dir, const char *temp,
		   const char *name) _must_check_;

/* Remove name from dir, flags as of unlinkat(2); immutable flags do not help it. */
int rcv_unlink(struct rcv_env *v, const struct rcv_dir *dir, const char *name, int flags)
	_must_check_;
