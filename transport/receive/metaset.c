/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order: owner (it clears setuid and capabilities), mode, ACLs, other xattrs,
 * security.capability, times, inode flags.
 */
#include "transport/receive/metaset.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>

#include "transport/receive/lock.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452 /* the same on every architecture that has it in common tables */
#endif

#define XATTR_CLASSES 3

int rcv_meta_look(struct rcv_env *v, const struct rcv_obj *o, struct statx *ret)
{
	unsigned mask = STATX_BASIC_STATS;
	int r;

	if (o->fd >= 0)
		r = statx(o->fd, "", AT_EMPTY_PATH, mask, ret);
	else
		r = statx(AT_FDCWD, o->name, AT_SYMLINK_NOFOLLOW, mask, ret);
	return r < 0 ? rcv_fail_sys(v, "stat", o->name) : 0;
}

int rcv_meta_xattrs(struct rcv_env *v, const struct rcv_obj *o, struct bytes *ret)
{
	struct err e = { 0 };
	int r = tp_xattrs_read(o->fd, o->fd >= 0 ? NULL : o->name, &v->xattrs, &e);

	if (r < 0)
		return rcv_fail(v, r, "getxattr", "%s", e.text);
	*ret = buf_view(&v->xattrs);
	return 0;
}

static uint32_t flags_of(const struct statx *stx)
{
	uint32_t flags = 0;

	if (stx->stx_attributes & STATX_ATTR_IMMUTABLE)
		flags |= FS_IMMUTABLE_FL;
	if (stx->stx_attributes & STATX_ATTR_APPEND)
		flags |= FS_APPEND_FL;
	return flags;
}

static bool has_flags(mode_t mode)
{
	return S_ISREG(mode) || S_ISDIR(mode);
}

/* A setuid bit must not end up with an owner that it was not meant for. */
static mode_t mode_for(const struct tp_meta *want, uid_t uid, gid_t gid)
{
	mode_t mode = want->mode & 07777;

	if (S_ISDIR(want->mode))
		return mode;
	if (uid != want->uid)
		mode &= ~(mode_t)S_ISUID;
	if (gid != want->gid)
		mode &= ~(mode_t)S_ISGID;
	return mode;
}

unsigned rcv_meta_diff(const struct rcv_env *v, const struct statx *have,
		       struct bytes have_xattrs, const struct tp_meta *want)
{
	unsigned diff = 0;

	if ((have->stx_uid != want->uid && (v->abilities & TP_R_CHOWN)) ||
	    have->stx_gid != want->gid)
		diff |= RCV_D_OWNER;
	if (!S_ISLNK(want->mode) &&
	    (have->stx_mode & 07777) != mode_for(want, have->stx_uid, have->stx_gid))
		diff |= RCV_D_MODE;
	if (!bytes_eq(have_xattrs, want->xattrs))
		diff |= RCV_D_XATTR;
	if (have->stx_mtime.tv_sec != want->mtime_s || have->stx_mtime.tv_nsec != want->mtime_ns)
		diff |= RCV_D_TIMES;
	if (has_flags(want->mode) && flags_of(have) != want->flags)
		diff |= RCV_D_FLAGS;
	return diff;
}

static int do_chown(const struct rcv_obj *o, uid_t uid, gid_t gid)
{
	if (o->fd >= 0)
		return fchown(o->fd, uid, gid);
	return fchownat(AT_FDCWD, o->name, uid, gid, AT_SYMLINK_NOFOLLOW);
}

static int do_chmod(const struct rcv_obj *o, mode_t mode)
{
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r;

	if (o->fd >= 0)
		return fchmod(o->fd, mode);
	r = (int)syscall(SYS_fchmodat2, AT_FDCWD, o->name, mode, AT_SYMLINK_NOFOLLOW);
	if (r == 0 || errno != ENOSYS)
		return r;
	/* Kernels before 6.6 cannot: look first, so that no link of ours is followed. */
	if (fstatat(AT_FDCWD, o->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	if (S_ISLNK(st.st_mode)) {
		errno = ELOOP;
		return -1;
	}
	/* Nor may the name become a link meanwhile, in a directory that belongs to a user. */
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
		fd = openat(AT_FDCWD, o->name,
			    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (fd >= 0)
			return fchmod(fd, mode);
		if (errno != EACCES)
			return -1;
		/* Its owner without superpowers may have no permission to read it. */
	}
	return fchmodat(AT_FDCWD, o->name, mode, 0);
}

static int do_times(const struct rcv_obj *o, const struct tp_meta *want)
{
	struct timespec ts[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_sec = want->mtime_s, .tv_nsec = want->mtime_ns },
	};

	if (o->fd >= 0)
		return futimens(o->fd, ts);
	return utimensat(AT_FDCWD, o->name, ts, AT_SYMLINK_NOFOLLOW);
}

/* Sets *uid and *gid to what the object has then. */
static void fix_owner(struct rcv_env *v, const struct rcv_obj *o, const struct tp_meta *want,
		      uid_t *uid, gid_t *gid)
{
	if (do_chown(o, want->uid, want->gid) == 0) {
		*uid = want->uid;
		*gid = want->gid;
		return;
	}
	if (v->abilities & TP_R_CHOWN)
		rcv_warn_sys(v, "chown", o->name);
	else if (*gid != want->gid && do_chown(o, (uid_t)-1, want->gid) == 0)
		*gid = want->gid; /* a group that we are in */
}

/* In which pass an attribute is set: ACLs, others, capabilities. */
static int xattr_class(struct bytes name)
{
	static const char acl[] = "system.posix_acl_";

	if (name.n >= sizeof(acl) - 1 && !memcmp(name.p, acl, sizeof(acl) - 1))
		return 0;
	return bytes_eq(name, bytes_str("security.capability")) ? 2 : 1;
}

static bool xattr_find(struct bytes packed, struct bytes name, struct bytes *ret_value)
{
	struct bytes n, value;

	while (tp_xattrs_next(&packed, &n, &value)) {
		if (!bytes_eq(n, name))
			continue;
		*ret_value = value;
		return true;
	}
	return false;
}

/*
 * XFS shows where it keeps an ACL as an attribute of its own.  Who takes that away takes the
 * ACL away, so it stays while the ACL is wanted.
 */
static bool is_shadow(struct bytes name, struct bytes want)
{
	static const char *const rows[][2] = {
		{ "trusted.SGI_ACL_FILE", "system.posix_acl_access" },
		{ "trusted.SGI_ACL_DEFAULT", "system.posix_acl_default" },
	};
	struct bytes value;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (bytes_eq(name, bytes_str(rows[i][0])))
			return xattr_find(want, bytes_str(rows[i][1]), &value);
	return false;
}

static int xattr_set(const struct rcv_obj *o, const char *name, struct bytes value)
{
	if (o->fd >= 0)
		return fsetxattr(o->fd, name, value.p, value.n, 0);
	return lsetxattr(o->name, name, value.p, value.n, 0);
}

static int xattr_remove(const struct rcv_obj *o, const char *name)
{
	if (o->fd >= 0)
		return fremovexattr(o->fd, name);
	return lremovexattr(o->name, name);
}

static void xattr_warn(struct rcv_env *v, const char *verb, const char *attr, const char *what)
{
	char op[RCV_OP_MAX];
	int saved = errno;

	snprintf(op, sizeof(op), "%s %s", verb, attr);
	errno = saved;
	rcv_warn_sys(v, op, what);
}

/* xattrs need write permission, which the owner of a read-only file has to borrow. */
static bool borrow_write(const struct rcv_env *v, const struct rcv_obj *o, mode_t mode)
{
	return errno == EACCES && !v->super && !(mode & 0200) && do_chmod(o, mode | 0200) == 0;
}

static bool acl_differs(struct bytes have, struct bytes want)
{
	const struct bytes name = bytes_str("system.posix_acl_access");
	struct bytes a = { 0 }, b = { 0 };
	bool in_have = xattr_find(have, name, &a), in_want = xattr_find(want, name, &b);

	return in_have != in_want || !bytes_eq(a, b);
}

static void fix_xattrs(struct rcv_env *v, const struct rcv_obj *o, struct bytes have,
		       const struct tp_meta *want, mode_t mode)
{
	struct bytes name, value, other, at;
	struct rcv_name attr;
	bool borrowed = false;

	for (int class = 0; class < XATTR_CLASSES; class++) {
		for (at = have; tp_xattrs_next(&at, &name, &value);) {
			if (xattr_class(name) != class ||
			    xattr_find(want->xattrs, name, &other) ||
			    is_shadow(name, want->xattrs))
				continue;
			rcv_name_of(name, &attr);
			if (xattr_remove(o, attr.s) == 0 || errno == ENODATA)
				continue;
			if (borrow_write(v, o, mode)) {
				borrowed = true;
				if (xattr_remove(o, attr.s) == 0)
					continue;
			}
			/* The label that the target's own policy gives stays. */
			if (strcmp(attr.s, "security.selinux") != 0)
				xattr_warn(v, "removexattr", attr.s, o->name);
		}
		for (at = want->xattrs; tp_xattrs_next(&at, &name, &value);) {
			if (xattr_class(name) != class ||
			    (xattr_find(have, name, &other) && bytes_eq(value, other)))
				continue;
			rcv_name_of(name, &attr);
			if (xattr_set(o, attr.s, value) == 0)
				continue;
			if (borrow_write(v, o, mode)) {
				borrowed = true;
				if (xattr_set(o, attr.s, value) == 0)
					continue;
			}
			xattr_warn(v, "setxattr", attr.s, o->name);
		}
	}
	if (borrowed && do_chmod(o, mode) < 0)
		rcv_warn_sys(v, "chmod", o->name);
}

/*
 * Where an ACL is wanted and could not be set, the mode's group bits, which are its mask,
 * would give the group what the ACL withholds: it gets its own entry's permissions only.
 */
static mode_t acl_mode(const struct rcv_obj *o, const struct tp_meta *want, mode_t mode)
{
	static const char acl[] = "system.posix_acl_access";
	enum { HEAD = 4, ENTRY = 8, GROUP_OBJ = 4 };
	mode_t group = 0;
	struct bytes v;
	ssize_t n;

	if (!xattr_find(want->xattrs, bytes_str(acl), &v))
		return mode;
	n = o->fd >= 0 ? fgetxattr(o->fd, acl, NULL, 0) : lgetxattr(o->name, acl, NULL, 0);
	if (n > 0 && (size_t)n == v.n)
		return mode;
	for (size_t i = HEAD; i + ENTRY <= v.n; i += ENTRY)
		if (le16_get(v.p + i) == GROUP_OBJ)
			group = le16_get(v.p + i + 2) & 7u;
	return mode & (~(mode_t)070 | group << 3);
}

void rcv_meta_flags(struct rcv_env *v, const struct rcv_obj *o, uint32_t flags)
{
	int r = o->fd >= 0 ? rcv_flags_set(o->fd, flags) :
			     rcv_flags_set_at(AT_FDCWD, o->name, flags);

	if (r < 0) {
		errno = -r;
		rcv_warn_sys(v, "set inode flags", o->name);
	}
}

int rcv_meta_fix(struct rcv_env *v, const struct rcv_obj *o, const struct statx *have,
		 struct bytes have_xattrs, const struct tp_meta *want, unsigned diff)
{
	uint32_t flags = flags_of(have);
	uid_t uid = have->stx_uid;
	gid_t gid = have->stx_gid;
	mode_t now = have->stx_mode & 07777;
	bool chmod_again = false, acl = false;
	mode_t mode;
	int r;

	if (diff & ~RCV_D_FLAGS && flags) {
		rcv_meta_flags(v, o, 0);
		flags = 0;
	}
	/*
	 * A new owner or group must not get the old one's permissions, nor an old ACL a new
	 * mask, nor the group what an ACL is going to withhold: less first, all at the end.
	 */
	if (!S_ISLNK(want->mode)) {
		mode_t less = now & want->mode & 0777;

		acl = acl_differs(have_xattrs, want->xattrs);
		if (acl)
			less &= ~(mode_t)070;
		if ((diff & RCV_D_OWNER || acl) && less != (now & 0777) &&
		    do_chmod(o, less) == 0) {
			now = less;
			diff |= RCV_D_MODE;
		}
	}
	if (diff & RCV_D_OWNER) {
		fix_owner(v, o, want, &uid, &gid);
		chmod_again = (now & 06000) != 0;
	}
	mode = mode_for(want, uid, gid);
	if (!S_ISLNK(want->mode) && !acl && (now != mode || chmod_again) &&
	    do_chmod(o, mode) < 0) {
		if (errno == ENOENT)
			return rcv_fail_sys(v, "chmod", o->name);
		rcv_warn_sys(v, "chmod", o->name);
	}
	/* A new owner has cost the capabilities, a new mode has changed the ACL. */
	if (have_xattrs.n && diff & (RCV_D_OWNER | RCV_D_MODE)) {
		r = rcv_meta_xattrs(v, o, &have_xattrs);
		if (r < 0)
			return r;
	}
	if (!bytes_eq(have_xattrs, want->xattrs))
		fix_xattrs(v, o, have_xattrs, want, acl ? mode & ~(mode_t)070 : mode);
	if (acl && do_chmod(o, acl_mode(o, want, mode)) < 0)
		rcv_warn_sys(v, "chmod", o->name);
	if (diff & RCV_D_TIMES && do_times(o, want) < 0) {
		if (errno == ENOENT)
			return rcv_fail_sys(v, "set times", o->name);
		rcv_warn_sys(v, "set times", o->name);
	}
	if (has_flags(want->mode) && flags != want->flags)
		rcv_meta_flags(v, o, want->flags);
	return 0;
}

int rcv_meta_settle(struct rcv_env *v, const struct rcv_obj *o, const struct tp_meta *want)
{
	struct bytes xattrs;
	struct statx have;
	unsigned diff;
	int r;

	r = rcv_meta_look(v, o, &have);
	if (r < 0)
		return r;
	r = rcv_meta_xattrs(v, o, &xattrs);
	if (r < 0)
		return r;
	diff = rcv_meta_diff(v, &have, xattrs, want);
	return diff ? rcv_meta_fix(v, o, &have, xattrs, want, diff) : 0;
}
