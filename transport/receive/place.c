/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An O_TMPFILE file is gone when its process is, so a killed receiver leaves nothing behind.
 * Where the file system or our rights do not allow to link one, a temporary name and
 * rename() take its place; which it is, is tried out once for each file system.
 */
#include "transport/receive/place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "transport/receive/lock.h"
#include "transport/receive/metaset.h"

#define TEMP_TRIES 64

void rcv_temp_name(struct rcv_env *v, char ret[RCV_TEMP_MAX])
{
	snprintf(ret, RCV_TEMP_MAX, TP_TEMP_PREFIX "%x.%x", (unsigned)getpid(), v->temp_serial++);
}

/*
 * After EPERM: take off the flags of name, which is about to go, and of its directory.
 * True: try again, and rcv_lock_again() whatever came of it.
 */
static bool unlock_both(const struct rcv_dir *dir, const char *name, struct rcv_unlocked *u)
{
	int a = rcv_unlock_name(dir->fd, name, u);
	int b = rcv_unlock(dir->fd, ".");

	errno = EPERM;
	return a > 0 || b > 0;
}

/* After EPERM: the directory takes no change. */
static bool unlock_dir(const struct rcv_dir *dir)
{
	int r = rcv_unlock(dir->fd, ".");

	errno = EPERM;
	return r > 0;
}

static void lock_again(struct rcv_env *v, struct rcv_unlocked *u, const char *name)
{
	int r = rcv_lock_again(u);

	if (r < 0) {
		errno = -r;
		rcv_warn_sys(v, "set inode flags", name);
	}
}

/*
 * unlinkat(), also of what is locked.  Another session, which has its hands on another name
 * of the same file, may lock it again at any moment.
 */
static int unlink_locked(const struct rcv_dir *dir, const char *name, int flags,
			 struct rcv_unlocked *u)
{
	int r = -1, error = EPERM;

	for (int i = 0; r < 0 && error == EPERM && i < TEMP_TRIES; i++) {
		r = unlinkat(dir->fd, name, flags);
		error = errno;
		if (r < 0 && error == EPERM && !unlock_both(dir, name, u))
			break;
	}
	errno = error;
	return r;
}

/* Also from a directory that only takes more names. */
void rcv_temp_drop(const struct rcv_dir *dir, const char *temp)
{
	struct rcv_unlocked u = RCV_UNLOCKED_INIT;

	unlink_locked(dir, temp, 0, &u);
	rcv_lock_again(&u);
}

static int link_fd(enum rcv_how how, int fd, int dirfd, const char *name)
{
	char proc[40];

	if (how == RCV_HOW_FD)
		return linkat(fd, "", dirfd, name, AT_EMPTY_PATH);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, proc, dirfd, name, AT_SYMLINK_FOLLOW);
}

static int open_tmpfile(const struct rcv_dir *dir, int flags, mode_t mode)
{
	int fd = openat(dir->fd, ".", O_TMPFILE | flags | O_CLOEXEC, mode);

	if (fd < 0 && errno == EPERM && unlock_dir(dir))
		fd = openat(dir->fd, ".", O_TMPFILE | flags | O_CLOEXEC, mode);
	return fd;
}

/* Only what the file system says about itself is remembered, no passing trouble. */
static bool tells_of_device(int errnum)
{
	return errnum == EOPNOTSUPP || errnum == EISDIR || errnum == EINVAL ||
	       errnum == EPERM || errnum == ENOENT;
}

static enum rcv_how try_out(struct rcv_env *v, const struct rcv_dir *dir)
{
	static const enum rcv_how ways[] = { RCV_HOW_FD, RCV_HOW_PROC };
	_cleanup_close_ int fd = -1;
	char temp[RCV_TEMP_MAX];

	fd = open_tmpfile(dir, O_WRONLY, 0600);
	if (fd < 0)
		return errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL ?
			       RCV_HOW_NAMED :
			       RCV_HOW_UNKNOWN;
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		rcv_temp_name(v, temp);
		if (link_fd(ways[i], fd, dir->fd, temp) == 0) {
			rcv_temp_drop(dir, temp);
			return ways[i];
		}
		if (!tells_of_device(errno) || rcv_dir_gone(dir))
			return RCV_HOW_UNKNOWN;
	}
	return RCV_HOW_NAMED;
}

static int open_named(struct rcv_env *v, struct rcv_newfile *f, int flags)
{
	int fd = -1;

	for (int i = 0; i < TEMP_TRIES && fd < 0; i++) {
		rcv_temp_name(v, f->temp);
		fd = openat(f->dir->fd, f->temp,
			    flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd < 0 && errno != EEXIST && (errno != EPERM || !unlock_dir(f->dir)))
			break;
	}
	if (fd < 0)
		f->temp[0] = '\0';
	return fd;
}

/* Once for a directory: what does a new file in it get by itself? */
static void learn_birth(struct rcv_dir *dir, const struct rcv_newfile *f)
{
	struct stat st;

	if (dir->born_known || fstat(f->fd, &st) < 0)
		return;
	dir->born_uid = st.st_uid;
	dir->born_gid = st.st_gid;
	dir->mode_unsure = (st.st_mode & 07777) != f->mode;
	dir->born_known = true;
}

int rcv_newfile_open(struct rcv_env *v, struct rcv_dir *dir, const struct tp_meta *meta,
		     int flags, struct rcv_newfile *ret)
{
	struct rcv_newfile f = RCV_NEWFILE_INIT;

	f.dir = rcv_dir_ref(dir);
	if (dir->dev->how == RCV_HOW_UNKNOWN)
		dir->dev->how = try_out(v, dir);
	if (dir->dev->how == RCV_HOW_FD || dir->dev->how == RCV_HOW_PROC) {
		f.mode = meta->mode & 0777;
		f.fd = open_tmpfile(dir, flags, f.mode);
	} else {
		f.mode = 0600;
		f.fd = open_named(v, &f, flags);
	}
	if (f.fd < 0) {
		rcv_fail_sys(v, "create", dir->path);
		rcv_dir_put(f.dir);
		return v->fault.code;
	}
	learn_birth(dir, &f);
	*ret = f;
	return 0;
}

int rcv_newfile_meta(struct rcv_env *v, struct rcv_newfile *f, const char *name,
		     const struct tp_meta *meta)
{
	struct rcv_obj o = { .fd = f->fd, .name = name };
	struct tp_meta want = *meta;
	struct bytes xattrs = { 0 };
	struct statx have = { 0 };
	unsigned diff;
	int r;

	/* The common case needs no look: it is known how files are born here. */
	if (!f->dir->born_known || f->dir->mode_unsure || f->dir->default_acl) {
		r = rcv_meta_look(v, &o, &have);
		if (r < 0)
			return r;
	} else {
		have.stx_uid = f->dir->born_uid;
		have.stx_gid = f->dir->born_gid;
		have.stx_mode = (uint16_t)(S_IFREG | f->mode);
	}
	if (f->dir->default_acl) {
		r = rcv_meta_xattrs(v, &o, &xattrs);
		if (r < 0)
			return r;
	}
	want.flags = 0;
	diff = rcv_meta_diff(v, &have, xattrs, &want) | RCV_D_TIMES;
	return rcv_meta_fix(v, &o, &have, xattrs, &want, diff);
}

/* The directory name, in the way of something else, goes if it is empty. */
static int clear_directory(struct rcv_env *v, const struct rcv_dir *dir, const char *name)
{
	int r = rcv_unlink(v, dir, name, AT_REMOVEDIR);

	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r == -ENOTEMPTY || r == -EEXIST)
		return rcv_fail(v, -(int)TP_E_BLOCKED, "replace",
				"a directory that is not empty is in the way");
	return r;
}

/* Who owns what we make here?  A server may map our user to another one. */
static bool is_own(struct rcv_env *v, const struct stat *st)
{
	static const struct tp_meta meta = { .mode = S_IFREG | 0600 };
	struct rcv_newfile f = RCV_NEWFILE_INIT;
	struct stat mine;
	bool own;

	if (st->st_uid == geteuid())
		return true;
	if (rcv_newfile_open(v, v->cur, &meta, O_RDWR, &f) < 0)
		return false;
	own = fstat(f.fd, &mine) == 0 && mine.st_uid == st->st_uid;
	rcv_newfile_drop(&f);
	return own;
}

int rcv_temp_open(struct rcv_env *v, const char *temp, bool create)
{
	int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC |
		    (create ? O_CREAT : 0);
	_cleanup_close_ int fd = openat(v->cur->fd, temp, flags, 0600);
	struct stat st;

	if (fd < 0 && errno == EPERM && unlock_dir(v->cur))
		fd = openat(v->cur->fd, temp, flags, 0600);
	if (fd < 0 && errno != ENOENT && errno != ELOOP && errno != EISDIR)
		return rcv_fail_sys(v, "create", temp);
	/* Gone with its directory, as the caller will see. */
	if (fd < 0 && create)
		return rcv_fail_sys(v, "create", temp);
	if (fd < 0)
		return rcv_fail(v, -(int)TP_E_STALE, "open", "the temporary file is gone");
	if (fstat(fd, &st) < 0)
		return rcv_fail_sys(v, "stat", temp);
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || (st.st_mode & 07777 & ~0600u) ||
	    !is_own(v, &st))
		return rcv_fail(v, -(int)TP_E_STALE, "open",
				"what has the temporary name is none of ours");
	/* A default ACL of the directory may have taken some of it. */
	if ((st.st_mode & 07777) != 0600 && fchmod(fd, 0600) < 0)
		return rcv_fail_sys(v, "set mode", temp);
	return TAKE_FD(fd);
}

int rcv_place_free(struct rcv_env *v, const struct rcv_dir *dir, const char *name)
{
	struct stat st;
	int r;

	if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
		return 0;
	r = clear_directory(v, dir, name);
	return r == -(int)TP_E_BLOCKED ? r : 0;
}

int rcv_place_temp(struct rcv_env *v, const struct rcv_dir *dir, const char *temp,
		   const char *name)
{
	struct rcv_unlocked u = RCV_UNLOCKED_INIT;
	uint32_t flags = 0;
	int r = 0;

	for (int i = 0; i < TEMP_TRIES; i++) {
		if (renameat(dir->fd, temp, dir->fd, name) == 0) {
			int again = flags ? rcv_flags_set_at(dir->fd, name, flags) : 0;

			if (again < 0) {
				errno = -again;
				rcv_warn_sys(v, "set inode flags", name);
			}
			lock_again(v, &u, name);
			return 0;
		}
		r = -errno;
		if (r == -EISDIR || r == -ENOTEMPTY || r == -EEXIST) {
			r = clear_directory(v, dir, name);
			if (r == 0)
				continue;
			break;
		}
		if (r == -EPERM && unlock_both(dir, name, &u))
			continue;
		/* Another session, which links to the same inode, has put its flags on again. */
		if (r == -EPERM) {
			int lost = rcv_unlock(dir->fd, temp);

			if (lost > 0) {
				flags |= (uint32_t)lost;
				continue;
			}
		}
		if (r == -EBUSY)
			rcv_fail(v, r, "replace", "something is mounted on it");
		else
			r = rcv_fail_sys(v, "rename", name);
		break;
	}
	lock_again(v, &u, name);
	rcv_temp_drop(dir, temp);
	return r;
}

/* The open file gets a name that is free. */
static int link_temp(struct rcv_env *v, struct rcv_newfile *f)
{
	int r = -1;

	for (int i = 0; i < TEMP_TRIES && r < 0; i++) {
		rcv_temp_name(v, f->temp);
		r = link_fd(f->dir->dev->how, f->fd, f->dir->fd, f->temp);
		if (r < 0 && errno != EEXIST)
			break;
	}
	if (r == 0)
		return 0;
	f->temp[0] = '\0';
	return rcv_fail_sys(v, "link", "a temporary name");
}

static int name_it(struct rcv_env *v, struct rcv_newfile *f, const char *name)
{
	int r;

	if (!f->temp[0]) {
		enum rcv_how how = f->dir->dev->how;

		r = link_fd(how, f->fd, f->dir->fd, name);
		if (r < 0 && errno == EPERM && unlock_dir(f->dir))
			r = link_fd(how, f->fd, f->dir->fd, name);
		if (r == 0)
			return 0;
		if (errno != EEXIST)
			return rcv_fail_sys(v, "link", name);
		r = link_temp(v, f);
		if (r < 0)
			return r;
	}
	r = rcv_place_temp(v, f->dir, f->temp, name);
	f->temp[0] = '\0';
	return r;
}

int rcv_newfile_place(struct rcv_env *v, struct rcv_newfile *f, const char *name,
		      const struct tp_meta *meta)
{
	struct rcv_obj o = { .fd = f->fd, .name = name };
	int r;

	if (rcv_own_name(f->dir, name))
		return rcv_fail(v, -EPERM, "create", TP_OWN_DIR " is not synced");
	/* Some file systems (NFS) tell only at a close that the server has no room. */
	if (f->temp[0]) {
		int copy = fcntl(f->fd, F_DUPFD_CLOEXEC, 3);

		if (copy < 0 || close(copy) < 0)
			return rcv_fail_sys(v, "write", name);
	}
	r = name_it(v, f, name);
	if (!f->temp[0] && rcv_dir_lost(f->dir, r)) {
		/* Another session has replaced the directory. */
		r = rcv_dir_renew(v, &f->dir);
		if (r == 0)
			r = name_it(v, f, name);
	}
	if (r < 0)
		return r;
	if (meta->flags)
		rcv_meta_flags(v, &o, meta->flags);
	rcv_newfile_drop(f);
	return 0;
}

void rcv_newfile_drop(struct rcv_newfile *f)
{
	if (f->fd >= 0) {
		if (f->temp[0])
			rcv_temp_drop(f->dir, f->temp);
		close(f->fd);
	}
	rcv_dir_put(f->dir);
	*f = RCV_NEWFILE_INIT;
}

int rcv_unlink(struct rcv_env *v, const struct rcv_dir *dir, const char *name, int flags)
{
	struct rcv_unlocked u = RCV_UNLOCKED_INIT;
	int r, error;

	if (rcv_own_name(dir, name))
		return rcv_fail(v, -EPERM, "remove", TP_OWN_DIR " is not synced");
	r = unlink_locked(dir, name, flags, &u);
	error = errno;
	lock_again(v, &u, name);
	if (r == 0)
		return 0;
	errno = error;
	if (errno == EBUSY)
		return rcv_fail(v, -EBUSY, "remove", "something is mounted on it");
	return rcv_fail_sys(v, "remove", name);
}
