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

	if (statx(dirfd, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE | STATX_NLINK, ret) < 0)
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

int rcv_unlock_name(int dirfd, const char *name, struct rcv_unlocked *u)
{
	_cleanup_close_ int fd = -1;
	unsigned int now = 0;
	struct statx stx;
	int r = rcv_lock_again(u);

	if (r < 0)
		return r;
	fd = open_plain(dirfd, name, &stx);
	if (fd == -EOPNOTSUPP)
		return 0;
	if (fd < 0)
		return fd;
	if (ioctl(fd, FS_IOC_GETFLAGS, &now) < 0)
		return errno == ENOTTY || errno == EOPNOTSUPP ? 0 : -errno;
	now &= LOCK_FLAGS;
	if (!now)
		return 0;
	r = rcv_flags_set(fd, 0);
	if (r < 0)
		return r;
	if (S_ISREG(stx.stx_mode) && stx.stx_nlink > 1)
		*u = (struct rcv_unlocked){ .fd = TAKE_FD(fd), .flags = now };
	return (int)now;
}

int rcv_lock_again(struct rcv_unlocked *u)
{
	unsigned int now = 0;
	struct stat st;
	int r = 0;

	if (u->fd < 0)
		return 0;
	if (fstat(u->fd, &st) < 0 || ioctl(u->fd, FS_IOC_GETFLAGS, &now) < 0)
		r = -errno;
	else if (st.st_nlink && !(now & LOCK_FLAGS))
		r = rcv_flags_set(u->fd, u->flags);
	close(u->fd);
	*u = (struct rcv_unlocked)RCV_UNLOCKED_INIT;
	return r;
}

int rcv_unlock(int dirfd, const char *name)
{
	struct rcv_unlocked u = RCV_UNLOCKED_INIT;
	int r = rcv_unlock_name(dirfd, name, &u);

	if (u.fd >= 0)
		close(u.fd);
	return r;
}
