/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/receive/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "common/io.h"
#include "transport/hash.h"
#include "transport/receive/place.h"

/* Without the kernel's help, where it has none to give between these files. */
static int copy_plain(struct rcv_env *v, int from, int to, uint64_t off, uint64_t end)
{
	while (off < end) {
		size_t want = (size_t)MIN(end - off, (uint64_t)RCV_SCRATCH_BYTES);
		ssize_t n = io_pread_full(from, v->scratch, want, off);
		int r;

		if (n < 0)
			return (int)n;
		if (n == 0)
			return 0;
		r = io_pwrite_all(to, v->scratch, (size_t)n, off);
		if (r < 0)
			return r;
		off += (uint64_t)n;
	}
	return 0;
}

static int copy_run(struct rcv_env *v, int from, int to, uint64_t off, uint64_t end)
{
	while (off < end) {
		loff_t in = (loff_t)off, out = (loff_t)off;
		ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - off), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return copy_plain(v, from, to, off, end);
		off += (uint64_t)n;
	}
	return 0;
}

static int copy_content(struct rcv_env *v, int from, int to, uint64_t size)
{
	uint64_t at = 0, data, end;
	int r;

	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (ftruncate(to, (off_t)size) < 0)
		return -errno;
	while (at < size) {
		r = tp_next_data(from, at, size, &data, &end);
		if (r < 0)
			return r;
		if (data >= size)
			return 0;
		r = copy_run(v, from, to, data, end);
		if (r < 0)
			return r;
		at = end;
	}
	return 0;
}

int rcv_copy_private(struct rcv_env *v, const char *name, uint64_t size,
		     const struct tp_meta *meta)
{
	struct rcv_newfile f = RCV_NEWFILE_INIT;
	_cleanup_close_ int from = -1;
	int r;

	from = openat(v->cur->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (from < 0)
		return rcv_fail_sys(v, "open", name);
	rcv_calm(v);
	r = rcv_newfile_open(v, v->cur, meta, O_RDWR, &f);
	if (r < 0)
		return r;
	r = copy_content(v, from, f.fd, size);
	if (r < 0) {
		errno = -r;
		rcv_fail_sys(v, "copy", name);
	} else {
		r = rcv_newfile_meta(v, &f, name, meta);
	}
	if (r == 0)
		r = rcv_newfile_place(v, &f, name, meta);
	rcv_newfile_drop(&f);
	return r;
}
