/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

int io_write_all(int fd, const void *p, size_t n)
{
	const uint8_t *at = p;

	while (n) {
		ssize_t r = write(fd, at, n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		at += r;
		n -= (size_t)r;
	}
	return 0;
}

int io_pwrite_all(int fd, const void *p, size_t n, uint64_t off)
{
	const uint8_t *at = p;

	while (n) {
		ssize_t w = pwrite(fd, at, n, (off_t)off);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -errno;
		at += w;
		n -= (size_t)w;
		off += (uint64_t)w;
	}
	return 0;
}

ssize_t io_read_full(int fd, void *p, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = read(fd, (uint8_t *)p + got, n - got);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		got += (size_t)r;
	}
	return (ssize_t)got;
}

ssize_t io_pread_full(int fd, void *p, size_t n, uint64_t off)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = pread(fd, (uint8_t *)p + got, n - got, (off_t)(off + got));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		got += (size_t)r;
	}
	return (ssize_t)got;
}

int io_read_file(int dirfd, const char *path, size_t max, struct buf *out, struct err *e)
{
	_cleanup_close_ int fd = -1;
	size_t got = 0;

	fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_sys(e, "open %s", path);
	for (;;) {
		ssize_t r;

		if (buf_reserve(out, 65536) < 0)
			return err_set(e, -ENOMEM, "read %s: out of memory", path);
		r = io_read_full(fd, out->p + out->n, 65536);
		if (r < 0)
			return err_sysn(e, (int)r, "read %s", path);
		if (r == 0)
			return 0;
		out->n += (size_t)r;
		got += (size_t)r;
		if (got > max)
			return err_set(e, -EFBIG, "%s is larger than %zu bytes", path, max);
	}
}

int io_replace_file(int dirfd, const char *path, struct bytes content, mode_t mode, struct err *e)
{
	_cleanup_close_ int fd = -1;
	char tmp[PATH_MAX];
	int r;

	if (snprintf(tmp, sizeof(tmp), "%s.new", path) >= (int)sizeof(tmp))
		return err_set(e, -ENAMETOOLONG, "write %s: name too long", path);
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return err_sys(e, "create %s", tmp);
	/* A file left over by a killed run keeps the mode it had; ours must not. */
	if (fchmod(fd, mode) < 0) {
		r = err_sys(e, "set mode of %s", tmp);
		goto undo;
	}
	r = io_write_all(fd, content.p, content.n);
	if (r < 0) {
		err_sysn(e, r, "write %s", tmp);
		goto undo;
	}
	if (fsync(fd) < 0) {
		r = err_sys(e, "sync %s", tmp);
		goto undo;
	}
	if (renameat(dirfd, tmp, dirfd, path) < 0) {
		r = err_sys(e, "rename %s to %s", tmp, path);
		goto undo;
	}
	return 0;
undo:
	unlinkat(dirfd, tmp, 0);
	return r;
}

/* One openat2() for a path that fits; -ENOSYS where the kernel (before 5.6) has none. */
static int open_dir_beneath(int fd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (unsigned)(flags | O_DIRECTORY | O_CLOEXEC),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long r;

	do
		r = syscall(SYS_openat2, fd, path, &how, sizeof(how));
	while (r < 0 && (errno == EAGAIN || errno == EINTR));
	return r < 0 ? -errno : (int)r;
}

/* The same with what every kernel has: component by component, never through a link. */
static int open_dir_walk(int rootfd, const char *path, int flags)
{
	char name[NAME_MAX + 1];
	int fd = rootfd;

	for (;;) {
		size_t n = strcspn(path, "/");
		int next;

		if (n > NAME_MAX)
			next = -ENAMETOOLONG;
		else if (n == 2 && path[0] == '.' && path[1] == '.')
			next = -EXDEV;
		else {
			memcpy(name, path, n);
			name[n] = '\0';
			next = openat(fd, n ? name : ".",
				      (path[n] ? O_PATH : flags) | O_DIRECTORY | O_NOFOLLOW |
					      O_CLOEXEC);
			if (next < 0)
				next = -errno;
		}
		if (fd != rootfd)
			close(fd);
		if (next < 0 || !path[n])
			return next;
		fd = next;
		path += n + 1;
	}
}

/* openat2() takes a ".." that stays below the root; no path of a tree has one. */
static bool has_dotdot(struct bytes path)
{
	for (size_t i = 0, n; i < path.n; i += n + 1) {
		for (n = 0; i + n < path.n && path.p[i + n] != '/';)
			n++;
		if (n == 2 && path.p[i] == '.' && path.p[i + 1] == '.')
			return true;
	}
	return false;
}

int io_open_dir_below(int rootfd, struct bytes path, int flags)
{
	_cleanup_close_ int held = -1;
	char piece[PATH_MAX];
	int from = rootfd;

	if (has_dotdot(path))
		return -EXDEV;
	for (;;) {
		size_t n = path.n;
		bool last = n < sizeof(piece);
		int fd;

		/* Cut at a slash: the kernel takes no path of PATH_MAX or more at once. */
		if (!last)
			for (n = sizeof(piece) - 1; n && path.p[n] != '/';)
				n--;
		if (!last && !n)
			return -ENAMETOOLONG;
		memcpy(piece, n ? (const char *)path.p : ".", n ? n : 1);
		piece[n ? n : 1] = '\0';
		fd = open_dir_beneath(from, piece, last ? flags : O_PATH);
		if (fd == -ENOSYS)
			fd = open_dir_walk(from, piece, last ? flags : O_PATH);
		if (fd < 0 || last)
			return fd;
		if (held >= 0)
			close(held);
		held = fd;
		from = fd;
		path = bytes_of(path.p + n + 1, path.n - n - 1);
	}
}

static int64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t clock_mono_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

int64_t clock_real_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

bool io_dir_is_empty(int dirfd, const char *but)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *d;
	bool empty = true;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	errno = 0;
	while (empty && (d = readdir(dir)))
		empty = !strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") ||
			(but && !strcmp(d->d_name, but));
	empty = empty && !errno;
	closedir(dir);
	return empty;
}
