/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "common/io.h"
#include "common/macro.h"

int chk_root_open(const char *path, struct chk_root *ret, struct err *e)
{
	_cleanup_close_ int fd = -1;
	struct stat ours, top;

	path = path ? path : "/";
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &ours) < 0)
		return err_sys(e, "open the root directory %s", path);
	ret->live = stat("/", &top) == 0 && ours.st_dev == top.st_dev &&
		    ours.st_ino == top.st_ino;
	ret->path = path;
	ret->fd = TAKE_FD(fd);
	return 0;
}

void chk_root_close(struct chk_root *root)
{
	if (root->fd >= 0)
		close(root->fd);
	root->fd = -1;
}

int chk_open(const struct chk_root *root, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	int fd, tries = 0;

	/* Below "/" every link stays inside anyway, on kernels without openat2(2), too. */
	if (root->live)
		fd = openat(root->fd, *path ? path : ".", flags | O_CLOEXEC);
	else
		/* EAGAIN: something was renamed while ".." was looked up. */
		do
			fd = (int)syscall(SYS_openat2, root->fd, *path ? path : ".", &how,
					  sizeof(how));
		while (fd < 0 && errno == EAGAIN && ++tries < 100);
	return fd < 0 ? -errno : fd;
}

int chk_sys_error(const struct chk_root *root, const char *path, int code, struct err *e)
{
	if (code == -ENOSYS)
		return err_set(e, code, "read /%s below %s: reading another root needs Linux 5.6 or newer",
			       path, root->path);
	if (root->live)
		return err_sysn(e, code, "read /%s", path);
	if (code == -ENOENT && (!strncmp(path, "proc/", 5) || !strncmp(path, "sys/", 4)))
		return err_set(e, code, "%s is not a running system: there is no /%s in it",
			       root->path, path);
	return err_sysn(e, code, "read /%s below %s", path, root->path);
}

/* Files of proc and sysfs have no size, so they are read until they end. */
static int read_all(int fd, struct buf *out)
{
	for (;;) {
		ssize_t n;
		int r = buf_reserve(out, 4096);

		if (r < 0)
			return r;
		n = io_read_full(fd, out->p + out->n, 4096);
		if (n < 0)
			return (int)n;
		out->n += (size_t)n;
		if (n < 4096)
			return 0;
		if (buf_len(out) > CHK_TEXT_MAX)
			return -EFBIG;
	}
}

int chk_read(const struct chk_root *root, const char *path, struct buf *out, struct err *e)
{
	/* Not blocking: what should be a file may be a FIFO. */
	_cleanup_close_ int fd = chk_open(root, path, O_RDONLY | O_NONBLOCK);
	int r = fd;

	buf_clear(out);
	if (r >= 0)
		r = read_all(fd, out);
	if (r >= 0 && !buf_cstr(out))
		r = -ENOMEM;
	if (r < 0)
		return chk_sys_error(root, path, r, e);
	return 0;
}

int chk_read_line(const struct chk_root *root, const char *path, char *ret, size_t size)
{
	_cleanup_close_ int fd = chk_open(root, path, O_RDONLY | O_NONBLOCK);
	char line[1024];
	size_t from, len;
	ssize_t n;

	if (fd < 0)
		return fd;
	n = io_read_full(fd, line, sizeof(line) - 1);
	if (n < 0)
		return (int)n;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	from = strspn(line, " \t");
	len = strlen(line + from);
	while (len && strchr(" \t\r", line[from + len - 1]))
		len--;
	snprintf(ret, size, "%.*s", (int)len, line + from);
	return 0;
}

int chk_read_u64(const struct chk_root *root, const char *path, uint64_t *ret)
{
	char line[64], *end;
	unsigned long long v;
	int r = chk_read_line(root, path, line, sizeof(line));

	if (r < 0)
		return r;
	errno = 0;
	v = strtoull(line, &end, 10);
	if (line[0] < '0' || line[0] > '9' || *end || errno)
		return -EINVAL;
	*ret = v;
	return 0;
}

bool chk_exists(const struct chk_root *root, const char *path)
{
	_cleanup_close_ int fd = chk_open(root, path, O_PATH);

	return fd >= 0;
}

bool chk_is_dir(const struct chk_root *root, const char *path)
{
	_cleanup_close_ int fd = chk_open(root, path, O_PATH | O_DIRECTORY);

	return fd >= 0;
}

int chk_link_name(const struct chk_root *root, const char *path, char *ret, size_t size)
{
	_cleanup_close_ int fd = chk_open(root, path, O_PATH | O_NOFOLLOW);
	char to[4096], *slash;
	ssize_t n;

	if (fd < 0)
		return fd;
	n = readlinkat(fd, "", to, sizeof(to) - 1);
	if (n < 0)
		return -errno;
	to[n] = '\0';
	slash = strrchr(to, '/');
	snprintf(ret, size, "%s", slash ? slash + 1 : to);
	return 0;
}

static int by_version(const void *a, const void *b)
{
	return strverscmp(*(char *const *)a, *(char *const *)b);
}

int chk_list(const struct chk_root *root, const char *path, struct strlist *ret)
{
	int fd = chk_open(root, path, O_RDONLY | O_DIRECTORY);
	struct dirent *d;
	DIR *dir;
	int r = 0;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	for (errno = 0; r == 0 && (d = readdir(dir)); errno = 0)
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			r = strlist_add(ret, d->d_name, strlen(d->d_name));
	if (r == 0)
		r = -errno;
	closedir(dir);
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_version);
	return r;
}

bool chk_find_program(const struct chk_root *root, const char *name, char *ret, size_t size)
{
	static const char *const dirs[] = {
		"usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin",
	};

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		_cleanup_close_ int fd = -1;
		struct stat st;

		snprintf(ret, size, "%s/%s", dirs[i], name);
		fd = chk_open(root, ret, O_PATH);
		if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111))
			return true;
	}
	ret[0] = '\0';
	return false;
}
