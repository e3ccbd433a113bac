/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * common/io.h - descriptors: whole reads and writes, and opening below a root.
 */
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"

/* Write all of n bytes, over EINTR and short writes.  0 or -errno. */
int io_write_all(int fd, const void *p, size_t n) _must_check_;
int io_pwrite_all(int fd, const void *p, size_t n, uint64_t off) _must_check_;

/* Read until n bytes or end of file; the count read, or -errno. */
ssize_t io_read_full(int fd, void *p, size_t n) _must_check_;
ssize_t io_pread_full(int fd, void *p, size_t n, uint64_t off) _must_check_;

/* Append a whole file, at most max bytes (-EFBIG beyond).  0 or negative. */
int io_read_file(int dirfd, const char *path, size_t max, struct buf *out, struct err *e)
	_must_check_;

/*
 * Replace path by content: written beside it with the given mode, synced, renamed.  Readers
 * see the old file or the new one, at any moment.
 */
int io_replace_file(int dirfd, const char *path, struct bytes content, mode_t mode, struct err *e)
	_must_check_;

/*
 * Open the directory at path below rootfd, following no link on the way; path is relative,
 * may be longer than PATH_MAX, and empty or "." is the root itself.  A descriptor (O_RDONLY,
 * or O_PATH when flags say so) or -errno; -EXDEV, -ENOTDIR, -ELOOP: something on the way is
 * no directory of this tree, or path has a ".." component.
 */
int io_open_dir_below(int rootfd, struct bytes path, int flags) _must_check_;

/*
 * Has the directory no entry but, perhaps, one of the name but (NULL: none at all)?  False, too,
 * when it cannot be read.  dirfd may be O_PATH and stays where it is.
 */
bool io_dir_is_empty(int dirfd, const char *but);

/* Seconds and nanoseconds as one number; the clocks named. */
int64_t clock_mono_ns(void);
int64_t clock_real_ns(void);
