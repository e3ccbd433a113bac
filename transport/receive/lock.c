/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/receive/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define LOCK_FLAGS (FS_IMMUTABLE_FL | FS_APPEND_FL)

int rcv_flags_set(int fd, uint32_t flags)
{
	unsigned int now = 0, want;

	if (ioctl(fd, FS_IOC_GETFLAGS, &now) < 0)
		return -errno;
	want = (now & ~(unsigned)LOCK_FLAGS) | (flags & LOCK_FLAGS);
	if (want == now)
		return 0;
	/* As long as a file is immutable, ext4 lets no other flag of it change. */
	if (now & want & FS_IMMUTABLE_FL) {
		now &= ~(unsigned)FS_IMMUTABLE_FL;
		if (ioctl(fd, FS_IOC_SETFLAGS, &now) < 0)
			return -errno;
	}
	return ioctl(fd, FS_IOC_SETFLAGS, &want) < 0 ? -errno : 0;
}

/* Devices and FIFOs are never opened: that has effects of its own. */
static int open_plain(int dirfd, const char *name, struct statx *ret)
{
	int fd;

	if (statx(dirfd, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE, ret) < 0)
		return -errno;
	if (!S_ISREG(ret->stx_mode) && !S_ISDIR(ret->stx_mode))
		return -EOPNOTSUPP;
	fd = openat(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int rcv_flags_set_at(int dirfd, const char *name, uint32_t flags)
{
	_cleanup_close_ int fd = -1;
	struct statx stx;

	fd = open_plain(dirfd, name, &stx);
	return fd < 0 ? fd : rcv_flags_set(fd, flags);
}

int rcv_unlock(int dirfd, const char *name)
{
	_cleanup_close_ int fd = -1;
	unsigned int now = 0;
	struct statx stx;
	int r;

	fd = open_plain(dirfd, name, &stx);
	if (fd == -EOPNOTSUPP)
		return 0;
	if (fd < 0)
		return fd;
	if (ioctl(fd, FS_IOC_GETFLAGS, &now) < 0)
		return errno == ENOTTY || errno == EOPNOTSUPP ? 0 : -errno;
	if (!(now & LOCK_FLAGS))
		return 0;
	r = rcv_flags_set(fd, 0);
	return r < 0 ? r : (int)(now & LOCK_FLAGS);
}
